//! A holder that is paused for longer than its lock lasts, right before it writes, is refused by what it writes to.
//!
//! ```sh
//! cargo run --example paused_holder -- redis://127.0.0.1:6379
//! ```
//!
//! The account is kept twice, in `SQLite` and on the first of the servers, to show both.

use std::{
    env,
    error::Error,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use examples::fenced::{RedisAccount, SqlAccount};
use redlock::{Fencing, FencingToken, RedisNode, Redlock, redis_rs::redis};
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};

const TTL: Duration = Duration::from_secs(1);

/// The marker that tells the process that is to be paused from the one that pauses it.
const HOLDER: &str = "--holder";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args: Vec<String> = env::args().skip(1).collect();
    if args.first().is_some_and(|first| first == HOLDER) {
        let file = args[1].clone();
        return hold(Path::new(&file), &args.split_off(2)).await;
    }
    if args.is_empty() {
        return Err("give the URLs of the servers".into());
    }
    let file = env::temp_dir().join(format!("paused_holder_{}.sqlite", std::process::id()));
    let outcome = pause_the_holder(&file, &args).await;
    let _ = std::fs::remove_file(&file);
    outcome
}

fn redlock(urls: &[String]) -> Result<Redlock, Box<dyn Error>> {
    let nodes = urls.iter().map(|url| RedisNode::new(url.as_str()));
    let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
    let redlock = Redlock::builder(nodes).fencing(Fencing::new());
    Ok(redlock.retry_count(100).build()?)
}

/// The process that is paused: reads, tells so, and writes when a line comes.
async fn hold(file: &Path, urls: &[String]) -> Result<(), Box<dyn Error>> {
    let lock = redlock(urls)?.acquire("account", TTL).await?;
    let token = lock.fencing_token().expect("fencing is on");
    let accounts = Accounts::open(file, &urls[0], token).await?;
    let balance = accounts
        .claim()
        .await?
        .ok_or("the first claim was refused")?;
    lock.check()?;
    println!("holder: claimed with token {token}, balance {balance}");
    // The pause comes here, after the check, where no lease helps.
    std::io::stdin().read_line(&mut String::new())?;
    let written = accounts.write(balance + 100).await?;
    println!("holder: its write was {written}");
    Ok(())
}

async fn pause_the_holder(file: &Path, urls: &[String]) -> Result<(), Box<dyn Error>> {
    let account = Connection::open(file)?;
    SqlAccount {
        database: &account,
        id: "alice",
    }
    .create(0)?;
    let mut holder = Command::new(env::current_exe()?)
        .arg(HOLDER)
        .arg(file)
        .args(urls)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = BufReader::new(holder.stdout.take().expect("piped")).lines();
    println!("{}", said.next().ok_or("the holder ended")??);
    let pid = Pid::from_child(&holder);
    kill_process(pid, Signal::STOP)?;

    // Its lock ends while it stands still.
    let lock = redlock(urls)?.acquire("account", TTL).await?;
    let token = lock.fencing_token().expect("fencing is on");
    let accounts = Accounts::open(file, &urls[0], token).await?;
    let balance = accounts
        .claim()
        .await?
        .ok_or("the later claim was refused")?;
    println!(
        "next: claimed with token {token}, its write was {}",
        accounts.write(balance + 1).await?
    );

    kill_process(pid, Signal::CONT)?;
    drop(holder.stdin.take());
    println!("{}", said.next().ok_or("the holder ended")??);
    holder.wait()?;
    println!(
        "balance: {}",
        accounts.claim().await?.ok_or("nobody came later")?
    );
    lock.release().await?;
    Ok(())
}

/// The account in both places, for who holds this token.
struct Accounts {
    database: Connection,
    server: redis::aio::MultiplexedConnection,
    token: FencingToken,
}

impl Accounts {
    const SQL: &'static str = "alice";
    const REDIS: RedisAccount<'static> = RedisAccount {
        key: "{account}:alice",
    };

    async fn open(file: &Path, url: &str, token: FencingToken) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            database: Connection::open(file)?,
            server: redis::Client::open(url)?
                .get_multiplexed_async_connection()
                .await?,
            token,
        })
    }

    fn row(&self) -> SqlAccount<'_> {
        SqlAccount {
            database: &self.database,
            id: Self::SQL,
        }
    }

    async fn claim(&self) -> Result<Option<i64>, Box<dyn Error>> {
        let in_redis = Self::REDIS
            .claim(&mut self.server.clone(), self.token)
            .await?;
        let in_sql = self.row().claim(self.token)?;
        assert_eq!(in_redis, in_sql, "both refuse, or none");
        Ok(in_sql)
    }

    async fn write(&self, balance: i64) -> Result<&'static str, Box<dyn Error>> {
        let mut server = self.server.clone();
        let in_redis = Self::REDIS.write(&mut server, self.token, balance).await?;
        let in_sql = self.row().write(self.token, balance)?;
        assert_eq!(in_redis, in_sql, "both refuse, or none");
        Ok(if in_sql { "accepted" } else { "refused" })
    }
}
