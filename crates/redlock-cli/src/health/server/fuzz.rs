//! Whatever a server says of itself is told, or told to be missing.

use std::sync::Mutex;

use proptest::prelude::*;
use redlock::redis_rs::redis::IntoConnectionInfo;
use redlock_test::hostile::{Act, Hostile};
use tests::hostile::{config, greeting, script};

use super::*;
use crate::health::clocks;

/// Lines of INFO: those that are looked at, with anything behind the colon, and others.
fn info() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "redis_version",
        "valkey_version",
        "redis_mode",
        "server_mode",
        "role",
        "run_id",
        "loading",
        "aof_enabled",
        "rdb_last_bgsave_status",
        "maxmemory",
        "maxmemory_policy",
        "min_slaves_to_write",
        "connected_slaves",
        "",
    ]);
    let fact = prop_oneof![
        "[ -~]{0,12}",
        prop::sample::select(vec![
            "1",
            "0",
            "slave",
            "master",
            "sentinel",
            "cluster",
            "standalone",
            "err"
        ])
        .prop_map(Into::into),
        any::<i64>().prop_map(|it| it.to_string()),
    ];
    let line = (name, ":?", fact, "\r?\n?")
        .prop_map(|(name, colon, fact, end)| name.to_owned() + &colon + &fact + &end);
    prop::collection::vec(line, 0..20).prop_map(|lines| lines.concat())
}

fn bulk(text: &str) -> Vec<u8> {
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn it_is_looked_at_to_the_end(
        script in script(),
        info in info(),
        time in (any::<i64>(), any::<i64>()),
        place in 0..3_usize,
    ) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let answers = Mutex::new(script.whole_answers());
            let server = Hostile::start(move |words| {
                let what = words.get(1).map(String::as_str);
                let reply = match words.first().map(String::as_str) {
                    None => return Vec::new(),
                    Some("INFO") => bulk(&info),
                    Some("TIME") => format!("*2\r\n:{}\r\n:{}\r\n", time.0, time.1).into_bytes(),
                    Some(name) => greeting(name, what, script.resp3)
                        .or_else(|| answers.lock().expect("nobody panics").pop())
                        .unwrap_or_else(|| b"-ERR that is all\r\n".to_vec()),
                };
                vec![Act::Send(reply)]
            });
            let server = server.await.expect("it listens");
            let url = server.url().into_connection_info().expect("a URL");
            let place = [Place::Alone, Place::Member, Place::Master][place];
            let looked = look("it".to_owned(), url, place, Instant::now());
            let looked = tokio::time::timeout(10 * PATIENCE, looked);
            let seen = looked.await.map_err(|_| TestCaseError::fail("it never ends"))?;
            prop_assert!(!seen.notes.is_empty());
            let clocks: Vec<_> = seen.clock.map(|clock| (seen.name, clock)).into_iter().collect();
            prop_assert!(clocks::compare(&clocks).is_empty(), "one clock cannot differ");
            Ok(())
        })?;
    }
}
