//! Lock libraries of other languages exclude ours, and ours theirs, on the same servers by the same names.

use std::{env, fs, path::Path, time::Duration};

use redlock_test::server::RedisServer;
use tests::{TTL, eventually_clean, nodes};
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

const CYCLES: usize = 40;

/// A process that takes and frees the lock, by a script of this directory, and logs when it holds it.
fn peer(interpreter: &str, script: &str, log: &Path, servers: &[RedisServer]) -> Child {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let peers = env::var_os("REDLOCK_TEST_PEERS").expect("cargo sets it");
    assert!(
        Path::new(&peers).is_dir(),
        "`make setup` installs the peers"
    );
    Command::new(interpreter)
        .arg(directory.join(script))
        .args([
            log.as_os_str(),
            CYCLES.to_string().as_ref(),
            "shared".as_ref(),
        ])
        .args(servers.iter().map(RedisServer::url))
        .kill_on_drop(true)
        .spawn()
        .expect("it is installed")
}

async fn ours(log: &Path, servers: &[RedisServer]) {
    let redlock = redlock::Redlock::builder(nodes(servers.iter().map(RedisServer::url)))
        .retry_count(u32::MAX)
        .retry_delay(Duration::from_millis(20))
        .build()
        .unwrap();
    for _ in 0..CYCLES {
        let lock = redlock.acquire("shared", TTL).await.unwrap();
        say(log, "enter");
        sleep(Duration::from_millis(3)).await;
        say(log, "leave");
        lock.release().await.unwrap();
        // Or nobody else would get a turn.
        sleep(Duration::from_millis(20)).await;
    }
}

fn say(log: &Path, what: &str) {
    use std::io::Write;
    let mut log = fs::File::options()
        .append(true)
        .create(true)
        .open(log)
        .unwrap();
    log.write_all(format!("{what} ours 0\n").as_bytes())
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_in_three_languages_never_overlap() {
    let servers = RedisServer::start_many(3);
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("holds");
    let mut peers = [
        peer("node", "hold.mjs", &log, &servers),
        peer("node", "hold.mjs", &log, &servers),
        peer("python3", "hold.py", &log, &servers),
        peer("python3", "hold.py", &log, &servers),
    ];
    let all = async {
        ours(&log, &servers).await;
        for peer in &mut peers {
            assert!(peer.wait().await.unwrap().success());
        }
    };
    timeout(Duration::from_secs(120), all)
        .await
        .expect("everybody gets their turns");

    let log = fs::read_to_string(&log).unwrap();
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 5 * 2 * CYCLES);
    let mut turns = 0;
    let mut before = "";
    for pair in lines.chunks(2) {
        let (enter, leave) = (pair[0].split_once(' '), pair[1].split_once(' '));
        let (("enter", who), ("leave", left)) = (enter.unwrap(), leave.unwrap()) else {
            panic!("two held it: {pair:?}");
        };
        assert_eq!(who, left, "two held it");
        turns += usize::from(who != before);
        before = who;
    }
    assert!(turns > 10, "they had {turns} turns: they did not contend");
    eventually_clean(&servers).await;
}
