//! How it ended is told by the exit code, and in one line.

mod common;

use std::{
    fs,
    process::{Command, Stdio},
    time::Instant,
};

use redlock_test::server::RedisServer;

use common::{
    PATIENCE, adopt_environment, assert_clean, assert_code, assert_complains, complained, hold, on,
    redlock, said,
};

#[test]
fn those_of_the_command_are_passed_through() {
    let servers = RedisServer::start_many(1);
    // Signals 9, 15 and 40, of which the last has no name.
    for (script, code) in [
        ("exit 0", 0),
        ("exit 1", 1),
        ("exit 76", 76),
        ("exit 255", 255),
        ("kill -9 $$", 137),
        ("kill -15 $$", 143),
        ("kill -40 $$", 168),
    ] {
        let output = on(&servers, ["run", "--shell", "a", "--", script])
            .output()
            .unwrap();
        assert_code(&output, code);
        assert_eq!(output.stderr, b"");
        assert_clean(&servers);
    }
}

#[test]
fn a_command_that_cannot_be_run_leaves_no_lock() {
    let servers = RedisServer::start_many(1);
    assert_complains(
        &mut on(&servers, ["run", "a", "--", "no-such-command"]),
        127,
        "no-such-command",
    );
    assert_complains(
        &mut on(&servers, ["run", "a", "--", "/dev/null"]),
        126,
        "/dev/null",
    );
    assert_clean(&servers);
}

#[test]
fn bad_options() {
    for (args, about) in [
        (&[][..], "no command was given"),
        (&["fly"], "'fly'"),
        (
            &["run", "--frobnicate", "a", "--", "true"],
            "'--frobnicate'",
        ),
        (&["run", "a"], "<COMMAND>"),
        (&["run", "--", "true"], "<RESOURCE>"),
        (&["run", "-n", "--wait", "1s", "a", "--", "true"], "--wait"),
        (&["run", "--ttl", "soon", "a", "--", "true"], "'--ttl"),
        (
            &["run", "--conflict-exit-code", "256", "a", "--", "true"],
            "256",
        ),
        (
            &[
                "--node",
                "redis://h",
                "--config",
                "f",
                "run",
                "a",
                "--",
                "true",
            ],
            "--config",
        ),
        (&["release", "a"], "--value"),
    ] {
        assert_complains(&mut redlock(args.iter().copied()), 64, about);
    }
}

#[test]
fn what_makes_no_sense() {
    let node = ["--node", "redis://127.0.0.1:1"];
    for (args, about) in [
        (
            &["run", "--ttl", "2ms", "a", "--", "true"][..],
            "ttl 2ms is too short",
        ),
        (&["run", "", "--", "true"], "name is empty"),
        (&["run", "a", "a", "--", "true"], "\"a\" was named twice"),
        (&["release", "a", "--value", "two words"], "lock value"),
    ] {
        assert_complains(
            &mut redlock(node.into_iter().chain(args.iter().copied())),
            65,
            about,
        );
    }
}

#[test]
fn no_nodes() {
    assert_complains(&mut redlock(["run", "a", "--", "true"]), 66, "no nodes");
    let mut empty = redlock(["run", "a", "--", "true"]);
    assert_complains(empty.env("REDLOCK_NODES", " , "), 66, "no nodes");
}

#[test]
fn an_outage() {
    let mut servers = RedisServer::start_many(3);
    servers[0].kill();
    assert_code(
        &on(&servers, ["run", "a", "--", "true"]).output().unwrap(),
        0,
    );
    servers[1].kill();
    let address = servers[1].address().to_string();
    for args in [
        &["run", "a", "--", "true"][..],
        &["run", "-n", "a", "--", "true"],
        &["run", "--wait", "300ms", "a", "--", "true"],
        &["acquire", "a"],
        &["extend", "a", "--value", "v"],
        &["release", "a", "--value", "v"],
    ] {
        assert_complains(&mut on(&servers, args.iter().copied()), 69, &address);
    }
    assert_clean(&servers[2..]);
}

#[test]
fn locked_by_another() {
    let servers = RedisServer::start_many(3);
    let value = hold(&servers, "a");
    let start = Instant::now();
    let line = "\"a\": locked by another";
    assert_complains(
        &mut on(&servers, ["run", "-n", "a", "--", "true"]),
        75,
        line,
    );
    assert_complains(&mut on(&servers, ["acquire", "-n", "a"]), 75, line);
    let args = ["run", "-n", "--conflict-exit-code", "9", "a", "--", "true"];
    assert_complains(&mut on(&servers, args), 9, line);
    let args = ["acquire", "-n", "--conflict-exit-code", "0", "a"];
    let output = on(&servers, args).output().unwrap();
    assert_code(&output, 0);
    assert_eq!((output.stdout, output.stderr), (vec![], vec![]));
    let args = ["run", "--wait", "500ms", "a", "--", "true"];
    assert_complains(&mut on(&servers, args), 75, line);
    assert!(start.elapsed() < PATIENCE);
    let released = on(&servers, ["release", "a", "--value", &value]).output();
    assert_code(&released.unwrap(), 0);
    assert_clean(&servers);
}

#[test]
fn standard_output_that_cannot_be_written_keeps_no_lock() {
    let servers = RedisServer::start_many(3);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    assert_complains(
        on(&servers, ["acquire", "a"]).stdout(full),
        74,
        "standard output",
    );
    assert_clean(&servers);
}

#[test]
fn the_table_is_shown() {
    let table = said(&redlock(["exit-codes"]).output().unwrap());
    let help = said(&redlock(["help", "exit-codes"]).output().unwrap());
    for code in [
        "0", "1 ", "2 ", "64", "65", "66", "69", "70", "71", "74", "75", "76", "77", "78", "126",
        "127", "128+n",
    ] {
        let line = table
            .lines()
            .find(|line| line.trim_start().starts_with(code));
        assert!(help.contains(line.unwrap()), "{code}");
    }
}

#[test]
fn a_standard_output_that_is_closed_keeps_no_lock() {
    let servers = RedisServer::start_many(3);
    let mut acquire = on(&servers, []);
    let run = |command: &mut Command, redirection: &str| {
        let mut shell = Command::new("sh");
        let script = format!("\"$1\" acquire --ttl 1m a {redirection}");
        adopt_environment(&mut shell, command);
        shell.args(["-c", &script, "sh"]).arg(command.get_program());
        shell.stdin(Stdio::null()).output().unwrap()
    };
    let output = run(&mut acquire, ">&-");
    assert_code(&output, 74);
    assert!(complained(&output).contains("standard output is closed"));
    assert_clean(&servers);
    // Who does not want to know the value has the ttl free the lock.
    assert_code(&run(&mut acquire, ">/dev/null"), 0);
    assert_eq!(servers[0].keys(), ["a"]);
}

#[test]
fn times_of_any_length() {
    let servers = RedisServer::start_many(1);
    for time in [
        "0s",
        "18446744073709551615s",
        "9223372036854775807s",
        "500000000000y",
    ] {
        for option in ["--grace", "--wait"] {
            let script = "sleep 60 & exit 5";
            let grace = if option == "--grace" {
                &["--wait", "1s"]
            } else {
                &["--grace", "0s"]
            };
            let args = ["run", option, time]
                .into_iter()
                .chain(grace.iter().copied());
            let args = args.chain(["--shell", "a", "--", script]);
            assert_code(&on(&servers, args).output().unwrap(), 5);
        }
        for args in [
            &["run", "--ttl", time, "a", "--", "true"][..],
            &["acquire", "--ttl", time, "b"],
        ] {
            let output = on(&servers, args.iter().copied()).output().unwrap();
            assert!(!complained(&output).contains("panicked"), "{output:?}");
            assert!(
                [Some(0), Some(65)].contains(&output.status.code()),
                "{output:?}"
            );
            let _ = servers[0].cli(&["DEL", "b"]);
        }
        assert_clean(&servers);
    }
}
