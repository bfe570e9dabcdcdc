//! Fencing tokens, and the guard of servers that have restarted.

mod common;

use std::fs;

use redlock_test::server::{RedisCluster, RedisServer};
use serde_json::Value;

use common::{
    assert_clean, assert_code, assert_complains, complained, eventually, on, order, redlock, said,
};

const REDLOCK: &str = env!("CARGO_BIN_EXE_redlock");

/// The value and the fencing token of a lock, which is released at once.
fn acquired(servers: &[RedisServer]) -> (String, u64) {
    let output = on(servers, ["acquire", "--fencing", "a"]).output().unwrap();
    assert_code(&output, 0);
    let text = said(&output);
    let [value, token] = text.lines().collect::<Vec<_>>()[..] else {
        panic!("{text}");
    };
    let release = on(servers, ["release", "a", "--value", value]).output();
    assert_code(&release.unwrap(), 0);
    (value.to_owned(), token.parse().unwrap())
}

/// The fencing token that a command finds.
fn token_of_run(servers: &[RedisServer]) -> u64 {
    let script = "echo $REDLOCK_FENCING_TOKEN";
    let output = on(servers, ["run", "--fencing", "--shell", "a", "--", script]).output();
    let output = output.unwrap();
    assert_code(&output, 0);
    said(&output).trim_end().parse().unwrap()
}

#[test]
fn the_token_grows_with_every_lock_of_a_resource() {
    let servers = RedisServer::start_many(3);
    let mut last = 0;
    for _ in 0..5 {
        for token in [acquired(&servers).1, token_of_run(&servers)] {
            assert!(token > last, "{token} after {last}");
            last = token;
        }
    }
}

#[test]
fn the_inner_of_two_runs_has_its_own_or_none() {
    let servers = RedisServer::start_many(3);
    let token = "echo \"<$REDLOCK_FENCING_TOKEN>\"";
    let inner = |options: &str| format!("{REDLOCK} run {options} --shell inner -- '{token}'");
    let script = [token, &inner("--fencing"), &inner(""), token].join("; ");
    let args = ["run", "--fencing", "--shell", "outer", "--", &script];
    let output = on(&servers, args).output().unwrap();
    assert_code(&output, 0);
    let text = said(&output);
    let [outer, inner, none, again] = text.lines().collect::<Vec<_>>()[..] else {
        panic!("{text}");
    };
    assert_eq!((outer, none), (again, "<>"));
    assert!(inner.len() == outer.len() && inner > outer, "{text}");
}

#[test]
fn as_json() {
    let servers = RedisServer::start_many(3);
    for fencing in [false, true] {
        let args = ["acquire", "--ttl", "1m", "--json", "b", "a"];
        let mut command = on(
            &servers,
            args.into_iter().chain(fencing.then_some("--fencing")),
        );
        let output = command.output().unwrap();
        assert_code(&output, 0);
        let report: Value = serde_json::from_str(&said(&output)).unwrap();
        let fields: Vec<_> = report.as_object().unwrap().keys().collect();
        assert_eq!(
            fields,
            ["fencing_token", "resources", "validity_ms", "value"]
        );
        assert_eq!(report["resources"], serde_json::json!(["a", "b"]));
        assert_eq!(report["fencing_token"].is_u64(), fencing);
        assert!((50_000..60_000).contains(&report["validity_ms"].as_u64().unwrap()));
        let value = report["value"].as_str().unwrap();
        let release = on(&servers, ["release", "a", "b", "--value", value]).output();
        assert_code(&release.unwrap(), 0);
    }
}

#[test]
fn it_is_configured_where_the_nodes_are() {
    let servers = RedisServer::start_many(1);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config");
    let nodes = format!("nodes = [\"{}\"]\nfencing = true", servers[0].url());
    fs::write(&file, nodes).unwrap();
    let lines = |variable: Option<&str>, configured: bool| {
        let mut command = redlock(["run", "--shell", "a", "--"]);
        command.arg("echo ${REDLOCK_FENCING_TOKEN:+fenced}");
        if configured {
            command.env("REDLOCK_CONFIG", &file);
        } else {
            command.env("REDLOCK_NODES", servers[0].url());
        }
        if let Some(variable) = variable {
            command.env("REDLOCK_FENCING", variable);
        }
        said(&command.output().unwrap())
    };
    assert_eq!(lines(None, true), "fenced\n");
    assert_eq!(lines(Some("1"), false), "fenced\n");
    assert_eq!(lines(Some(""), false), "\n");
    assert_eq!(lines(Some("0"), true), "\n");
    let mut odd = on(&servers, ["acquire", "a"]);
    assert_complains(odd.env("REDLOCK_FENCING", "perhaps"), 78, "REDLOCK_FENCING");
}

#[test]
fn nodes_that_have_none() {
    let servers = RedisServer::start_many(3);
    for server in &servers[1..] {
        order(server, &["ACL", "SETUSER", "default", "-eval", "-evalsha"]);
    }
    for args in [
        &["acquire", "-n", "--fencing", "a"][..],
        &["run", "--fencing", "a", "--", "true"],
    ] {
        let output = on(&servers, args.iter().copied()).output().unwrap();
        assert_code(&output, 70);
        assert!(complained(&output).contains("permissions"), "{output:?}");
        assert_eq!(said(&output), "");
    }
    assert_clean(&servers[1..]);
}

#[test]
fn a_server_that_has_restarted_has_no_vote_for_the_longest_ttl() {
    let servers = RedisServer::start_many(1);
    let try_it = |guard: &str| {
        let args = [
            "--restart-guard",
            guard,
            "acquire",
            "-n",
            "--ttl",
            "4s",
            "a",
        ];
        on(&servers, args).output().unwrap()
    };
    // Nobody has seen it before.
    eventually("it is told to wait", || {
        let output = try_it("4s");
        assert_code(&output, 69);
        complained(&output).contains("restart").then_some(())
    });
    let check = ["check", "--restart-guard", "1h", "--quiet"];
    let output = on(&servers, check).output().unwrap();
    assert_code(&output, 1);
    assert!(
        said(&output).contains("wait for the time of the restart guard"),
        "{output:?}"
    );
    eventually("its vote counts", || {
        (try_it("4s").status.code() == Some(0)).then_some(())
    });
    assert_complains(
        &mut on(&servers, ["acquire", "--restart-guard", "10s", "a"]),
        65,
        "10s",
    );
}

#[test]
fn the_guard_is_configured_where_the_nodes_are() {
    let servers = RedisServer::start_many(1);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config");
    let url = servers[0].url();
    let config = |guard: &str| {
        fs::write(
            &file,
            format!("nodes = [\"{url}\"]\nrestart_guard = \"{guard}\""),
        )
        .unwrap();
        let mut command = redlock(["acquire", "--ttl", "1m", "a", "--config"]);
        command.arg(&file);
        command
    };
    assert_complains(&mut config("50s"), 65, "50s");
    assert_complains(&mut config("soon"), 78, "restart_guard");
    // The environment is nearer.
    assert_complains(config("1h").env("REDLOCK_RESTART_GUARD", "40s"), 65, "40s");
    let mut odd = on(&servers, ["acquire", "a"]);
    assert_complains(
        odd.env("REDLOCK_RESTART_GUARD", "soon"),
        78,
        "REDLOCK_RESTART_GUARD",
    );
    let cluster = RedisCluster::start();
    let url = format!("redis-cluster://{}", cluster.members()[0].address());
    let args = ["--node", &url, "--restart-guard", "1m", "acquire", "a"];
    assert_complains(&mut redlock(args), 78, "restart guard");
}
