//! What a lock protects has the last word: it refuses whoever comes with an older fencing token than it has seen.
//!
//! The first access *claims*: it stores the token, and from then on whoever has an older one neither reads nor
//! writes. Checking writes alone would let a late holder overwrite what it had read before the next one came.

use redlock::{
    FencingToken,
    redis_rs::redis::{self, RedisResult, aio::ConnectionLike},
};
use rusqlite::{Connection, OptionalExtension, params};

/// An account in a table: its row has a column for the token.
#[derive(Debug)]
pub struct SqlAccount<'a> {
    /// The database.
    pub database: &'a Connection,
    /// Which row.
    pub id: &'a str,
}

impl SqlAccount<'_> {
    /// Makes the table, and the account in it.
    ///
    /// # Errors
    ///
    /// As the database.
    pub fn create(&self, balance: i64) -> rusqlite::Result<()> {
        self.database.execute_batch(
            "CREATE TABLE IF NOT EXISTS account
             (id TEXT PRIMARY KEY, balance INTEGER NOT NULL, fence INTEGER NOT NULL DEFAULT 0)",
        )?;
        let insert = "INSERT INTO account (id, balance) VALUES (?1, ?2)";
        self.database.execute(insert, params![self.id, balance])?;
        Ok(())
    }

    /// The balance, for who holds the lock with this token; `None` if a later one has claimed it.
    ///
    /// # Errors
    ///
    /// As the database.
    pub fn claim(&self, token: FencingToken) -> rusqlite::Result<Option<i64>> {
        let claim = "UPDATE account SET fence = ?1 WHERE id = ?2 AND fence <= ?1 RETURNING balance";
        let mut claim = self.database.prepare(claim)?;
        claim
            .query_row(params![i64::from(token), self.id], |row| row.get(0))
            .optional()
    }

    /// Writes the balance, after a claim; false if a later one has claimed it.
    ///
    /// # Errors
    ///
    /// As the database.
    pub fn write(&self, token: FencingToken, balance: i64) -> rusqlite::Result<bool> {
        let write = "UPDATE account SET balance = ?3 WHERE id = ?2 AND fence = ?1";
        let rows = self
            .database
            .execute(write, params![i64::from(token), self.id, balance])?;
        Ok(rows == 1)
    }
}

/// An account in a hash of a Redis server, which need not be one of the lock's nodes.
#[derive(Debug)]
pub struct RedisAccount<'a> {
    /// The key of the hash.
    pub key: &'a str,
}

const CLAIM: &str = "
    if tonumber(redis.call('HGET', KEYS[1], 'fence') or 0) > tonumber(ARGV[1]) then
      return false
    end
    redis.call('HSET', KEYS[1], 'fence', ARGV[1])
    return redis.call('HGET', KEYS[1], 'balance') or '0'";

const WRITE: &str = "
    if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then
      return 0
    end
    redis.call('HSET', KEYS[1], 'balance', ARGV[2])
    return 1";

impl RedisAccount<'_> {
    /// The balance, for who holds the lock with this token; `None` if a later one has claimed it.
    ///
    /// # Errors
    ///
    /// As the server.
    pub async fn claim(
        &self,
        server: &mut impl ConnectionLike,
        token: FencingToken,
    ) -> RedisResult<Option<i64>> {
        let mut claim = redis::cmd("EVAL");
        claim.arg(CLAIM).arg(1).arg(self.key).arg(token.get());
        claim.query_async(server).await
    }

    /// Writes the balance, after a claim; false if a later one has claimed it.
    ///
    /// # Errors
    ///
    /// As the server.
    pub async fn write(
        &self,
        server: &mut impl ConnectionLike,
        token: FencingToken,
        balance: i64,
    ) -> RedisResult<bool> {
        let mut write = redis::cmd("EVAL");
        write
            .arg(WRITE)
            .arg(1)
            .arg(self.key)
            .arg(token.get())
            .arg(balance);
        write.query_async(server).await
    }
}
