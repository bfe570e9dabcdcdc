//! At a terminal: the line while it waits, colours, and commands that use the terminal themselves.

mod common;

use std::process::{Child, Command};

use redlock_test::server::RedisServer;
use rustix::process::Signal;

use common::{
    adopt_environment, assert_code, complained, eventually, hold, on, send,
    terminal::{Terminal, plain},
};

const REDLOCK: &str = env!("CARGO_BIN_EXE_redlock");

#[test]
fn one_line_is_redrawn_while_it_waits_and_taken_away() {
    let servers = RedisServer::start_many(3);
    let value = hold(&servers, "a");
    let terminal = Terminal::open();
    let mut run = on(&servers, ["run", "--wait", "1h", "a", "--", "echo", "done"]);
    let waiting = plain(&mut run).stderr(terminal.handle()).spawn().unwrap();
    terminal.shows_in_time(|second| format!("waiting for \"a\" for {second}s, giving up in 59m "));
    assert_code(
        &on(&servers, ["release", "a", "--value", &value])
            .output()
            .unwrap(),
        0,
    );
    let output = waiting.wait_with_output().unwrap();
    assert_code(&output, 0);
    assert_eq!(output.stdout, b"done\n");
    let text = terminal.text();
    assert!(!text.contains('\n'), "always the same line: {text:?}");
    assert!(text.ends_with("\r\x1b[K"), "{text:?}");
}

#[test]
fn the_line_is_taken_away_when_the_wait_is_interrupted_and_says_that_there_is_no_limit() {
    let servers = RedisServer::start_many(1);
    hold(&servers, "a");
    let terminal = Terminal::open();
    let mut acquire = on(&servers, ["acquire", "a"]);
    let mut waiting = plain(&mut acquire)
        .stderr(terminal.handle())
        .spawn()
        .unwrap();
    terminal.shows("without a limit");
    send(&waiting, Signal::INT);
    assert_eq!(waiting.wait().unwrap().code(), Some(130));
    terminal.shows("\r\x1b[K\x1b[1;31mredlock:\x1b[0m \"a\": the wait was interrupted\r\n");
}

#[test]
fn nothing_is_drawn_where_there_is_no_terminal() {
    let servers = RedisServer::start_many(1);
    hold(&servers, "a");
    let mut acquire = on(&servers, ["acquire", "--wait", "1500ms", "a"]);
    let output = plain(&mut acquire).output().unwrap();
    assert_code(&output, 75);
    assert_eq!(complained(&output), "redlock: \"a\": locked by another\n");
}

#[test]
fn no_color_is_respected() {
    let servers = RedisServer::start_many(1);
    hold(&servers, "a");
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let terminal = Terminal::open();
        let mut acquire = on(&servers, ["-v", "acquire", "-n", "a"]);
        let acquire = plain(&mut acquire)
            .env(name, value)
            .stderr(terminal.handle());
        assert_eq!(acquire.status().unwrap().code(), Some(75));
        terminal.shows("redlock: \"a\": locked by another\r\n");
        assert!(!terminal.text().contains('\x1b'), "{:?}", terminal.text());
    }
}

#[test]
fn a_command_may_read_from_the_terminal_and_is_sent_its_signals() {
    let servers = RedisServer::start_many(1);
    let mut terminal = Terminal::open();
    // The second reader shows that the terminal was taken back.
    let script = format!(
        "{REDLOCK} run a -- sh -c 'read line; echo \"<$line>\"; trap \"echo trapped; exit 3\" INT; \
         echo ready; while :; do sleep 0.05; done'; echo \"code $?\"; read line; echo \"[$line]\"",
    );
    let mut shell = on(&servers, []);
    let mut command = Command::new("sh");
    adopt_environment(&mut command, shell.env("TERM", "dumb"));
    let mut session = terminal.start(command.args(["-c", &script]));
    terminal.types("first\n");
    terminal.shows("<first>");
    terminal.shows("ready");
    terminal.types("\x03");
    terminal.shows("trapped");
    terminal.shows("code 3");
    terminal.types("second\n");
    terminal.shows("[second]");
    assert!(session.wait().unwrap().success());
}

/// An interactive shell on these servers.
fn bash(terminal: &Terminal, servers: &[RedisServer]) -> Child {
    let mut bash = Command::new("bash");
    adopt_environment(
        &mut bash,
        on(servers, []).env("TERM", "dumb").env("PS1", "> "),
    );
    terminal.start(bash.args(["--norc", "--noprofile", "--noediting", "-i"]))
}

#[test]
fn a_job_is_stopped_and_goes_on_in_the_foreground() {
    let servers = RedisServer::start_many(1);
    let mut terminal = Terminal::open();
    let mut session = bash(&terminal, &servers);
    terminal.types(REDLOCK);
    terminal.types(" run a -- sh -c 'echo re\"\"ady; read line; echo \"<$line>\"'\n");
    terminal.shows("ready");
    terminal.types("\x1a");
    terminal.shows("Stopped");
    terminal.types("fg; echo \"code $?\"\n");
    terminal.types("again\n");
    terminal.shows("<again>");
    terminal.shows("code 0");
    terminal.types("exit\n");
    assert!(session.wait().unwrap().success());
}

#[test]
fn ctrl_z_stops_nobody_where_nobody_could_have_it_continue() {
    let servers = RedisServer::start_many(1);
    let mut terminal = Terminal::open();
    // It leads the session of this terminal: there is no shell.
    let script = "echo re\"\"ady; read line; echo \"<$line>\"; read line; echo \"[$line]\"";
    let mut run = on(&servers, ["run", "a", "--", "sh", "-c", script]);
    let mut session = terminal.start(plain(&mut run));
    terminal.shows("ready");
    terminal.types("first\n");
    terminal.shows("<first>");
    terminal.types("\x1a");
    terminal.shows("^Z");
    terminal.types("second\n");
    terminal.shows("[second]");
    let ended = eventually("it ends", || session.try_wait().unwrap());
    assert!(ended.success());
}

#[test]
fn a_job_whose_lock_ended_while_it_was_stopped_does_not_go_on() {
    let servers = RedisServer::start_many(1);
    let mut terminal = Terminal::open();
    let mut session = bash(&terminal, &servers);
    terminal.types(REDLOCK);
    terminal.types(
        " run --ttl 6s --grace 100ms a -- sh -c 'echo re\"\"ady; read line; echo we\"\"nt on'\n",
    );
    terminal.shows("ready");
    terminal.types("\x1a");
    terminal.shows("Stopped");
    eventually("the ttl frees it", || {
        servers[0].keys().is_empty().then_some(())
    });
    terminal.types("fg; echo \"code $?\"\n");
    terminal.shows("code 76");
    terminal.types("exit\n");
    assert!(session.wait().unwrap().success());
    assert!(
        !terminal.text().contains("went on"),
        "{:?}",
        terminal.text()
    );
}

#[test]
fn a_lock_that_ended_before_the_command_was_started_starts_nothing() {
    let servers = RedisServer::start_many(1);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let taken = hold(&servers, "a");
    let mut terminal = Terminal::open();
    let mut run = on(
        &servers,
        ["run", "--ttl", "6s", "--grace", "100ms", "a", "--", "touch"],
    );
    let run = plain(run.arg(&file)).stderr(terminal.handle());
    let mut session = terminal.start(run);
    terminal.shows_in_time(|second| format!("waiting for \"a\" for {second}s"));
    // Ctrl-S: it takes the lock, and is held up where it takes the line away.
    terminal.types("\x13");
    assert_eq!(servers[0].cli(&["DEL", "a"]), "1");
    eventually("it has the lock", || {
        let value = servers[0].cli(&["GET", "a"]);
        (!value.is_empty() && value != taken).then_some(())
    });
    eventually("the ttl ends it", || {
        (servers[0].cli(&["EXISTS", "a"]) == "0").then_some(())
    });
    terminal.types("\x11");
    let ended = eventually("it ends", || session.try_wait().unwrap());
    assert_eq!(ended.code(), Some(76));
    terminal.shows("the lock was lost before the command was started");
    assert!(!file.exists());
}
