//! The command, node-redlock and redlock-py exclude each other.

use std::time::Duration;

use redlock_test::server::RedisServer;
use tests::{
    eventually_clean,
    peers::{self, CYCLES},
};
use tokio::{process::Command, time::timeout};

/// Takes the lock so many times, each time by a process of its own.
const HOLD: &str = r#"
for _ in $(seq "$CYCLES"); do
  "$REDLOCK" run shared --shell -- \
    'echo "enter cli $$" >>"$LOG"; sleep 0.003; echo "leave cli $$" >>"$LOG"' || exit
  sleep 0.02 # or nobody else would get a turn
done"#;

#[tokio::test(flavor = "multi_thread")]
async fn holders_in_a_shell_and_in_two_languages_never_overlap() {
    let servers = RedisServer::start_many(3);
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("holds");
    let mut holders = peers::start(&log, &servers);
    let urls: Vec<_> = servers.iter().map(RedisServer::url).collect();
    for _ in 0..2 {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", HOLD])
            .env("CYCLES", CYCLES.to_string())
            .env("REDLOCK", env!("CARGO_BIN_EXE_redlock"))
            .env("REDLOCK_NODES", urls.join(" "))
            .env("LOG", &log)
            .kill_on_drop(true);
        holders.push(shell.spawn().unwrap());
    }
    let all = async {
        for holder in &mut holders {
            assert!(holder.wait().await.unwrap().success());
        }
    };
    let outcome = timeout(Duration::from_secs(240), all).await;
    outcome.expect("everybody gets their turns");
    peers::assert_turns(&log, 6);
    eventually_clean(&servers).await;
}
