//! What a lock protects refuses who is late, on the first read and on every write.

use examples::fenced::{RedisAccount, SqlAccount};
use redlock::{FencingToken, redis_rs::redis};
use redlock_test::server::RedisServer;
use rusqlite::Connection;

fn token(number: u64) -> FencingToken {
    FencingToken::new((1 << 52) + number)
}

#[test]
fn a_row_belongs_to_the_latest_that_has_claimed_it() {
    let database = Connection::open_in_memory().unwrap();
    let account = SqlAccount {
        database: &database,
        id: "alice",
    };
    account.create(10).unwrap();
    assert!(!account.write(token(1), 11).unwrap(), "not without a claim");
    assert_eq!(account.claim(token(1)).unwrap(), Some(10));
    assert_eq!(
        account.claim(token(1)).unwrap(),
        Some(10),
        "as often as one likes"
    );
    assert!(account.write(token(1), 11).unwrap());
    assert_eq!(account.claim(token(3)).unwrap(), Some(11));
    assert!(!account.write(token(1), 99).unwrap(), "late");
    assert_eq!(
        account.claim(token(2)).unwrap(),
        None,
        "late already at its first read"
    );
    assert!(!account.write(token(2), 99).unwrap());
    assert!(account.write(token(3), 12).unwrap());
    assert_eq!(account.claim(token(3)).unwrap(), Some(12));
}

#[tokio::test]
async fn a_hash_belongs_to_the_latest_that_has_claimed_it() {
    let server = RedisServer::start();
    let client = redis::Client::open(server.url()).unwrap();
    let mut server = client.get_multiplexed_async_connection().await.unwrap();
    let account = RedisAccount { key: "alice" };
    assert!(!account.write(&mut server, token(1), 11).await.unwrap());
    assert_eq!(account.claim(&mut server, token(1)).await.unwrap(), Some(0));
    assert!(account.write(&mut server, token(1), 11).await.unwrap());
    assert_eq!(
        account.claim(&mut server, token(3)).await.unwrap(),
        Some(11)
    );
    assert!(!account.write(&mut server, token(1), 99).await.unwrap());
    assert_eq!(account.claim(&mut server, token(2)).await.unwrap(), None);
    assert!(!account.write(&mut server, token(2), 99).await.unwrap());
    assert!(account.write(&mut server, token(3), 12).await.unwrap());
    assert_eq!(
        account.claim(&mut server, token(3)).await.unwrap(),
        Some(12)
    );
}
