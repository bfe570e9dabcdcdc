//! `watch` keeps a table on a terminal up to date, and elsewhere tells of changes.

mod common;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command},
    sync::mpsc::{Receiver, channel},
    thread,
};

use redlock_test::server::RedisServer;
use rustix::process::Signal;

use common::{
    PATIENCE, adopt_environment, assert_code, assert_complains, hold, on, redlock, send,
    terminal::{Terminal, plain},
};

const LEFT: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// The lines of a process that writes to no terminal, as they come.
fn lines(child: &mut Child) -> Receiver<String> {
    let output = BufReader::new(child.stdout.take().unwrap());
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    lines
}

#[track_caller]
fn release(servers: &[RedisServer], value: &str) {
    let output = on(servers, ["release", "a", "--value", value]).output();
    assert_code(&output.unwrap(), 0);
}

#[test]
fn the_table_is_drawn_in_its_place_and_taken_away() {
    let servers = RedisServer::start_many(3);
    for signal in [Signal::INT, Signal::TERM] {
        let terminal = Terminal::open();
        let mut watch = on(&servers, ["watch", "--interval", "100ms", "a"]);
        let mut watch = plain(&mut watch).stdout(terminal.handle()).spawn().unwrap();
        terminal.shows("\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[Hevery 100ms");
        terminal.shows("\"a\": \x1b[1;32mfree\x1b[0m");
        let value = hold(&servers, "a");
        terminal.shows(&format!("\"a\": \x1b[1;33mheld by {}…", &value[..4]));
        release(&servers, &value);
        let (drawn, held) = (terminal.text(), "\x1b[1;33mheld");
        let after = drawn.rfind(held).unwrap();
        common::eventually("it is free again", || {
            let text = terminal.text();
            text[after..].contains("\x1b[1;32mfree").then_some(())
        });
        send(&watch, signal);
        assert_eq!(watch.wait().unwrap().code(), Some(128 + signal.as_raw()));
        terminal.shows(LEFT);
        let text = terminal.text();
        assert!(text.ends_with(LEFT) && !text.contains(&value), "{text:?}");
    }
}

#[test]
fn stopped_it_leaves_the_screen_and_comes_back() {
    let servers = RedisServer::start_many(1);
    let mut terminal = Terminal::open();
    let mut bash = Command::new("bash");
    adopt_environment(
        &mut bash,
        on(&servers, []).env("TERM", "xterm").env("PS1", "> "),
    );
    let mut session = terminal.start(bash.args(["--norc", "--noprofile", "--noediting", "-i"]));
    terminal.types(env!("CARGO_BIN_EXE_redlock"));
    terminal.types(" watch a\n");
    terminal.shows("\x1b[?1049h");
    terminal.types("\x1a");
    terminal.shows(LEFT);
    terminal.shows("Stopped");
    terminal.types("fg\n");
    common::eventually("it is drawn again", || {
        (terminal.text().matches("\x1b[?1049h").count() == 2).then_some(())
    });
    terminal.types("\x03");
    terminal.types("echo \"code $?\"\n");
    terminal.shows("code 130");
    terminal.types("exit\n");
    assert!(session.wait().unwrap().success());
}

#[test]
fn elsewhere_one_line_tells_of_each_change() {
    let mut servers = RedisServer::start_many(3);
    let mut watch = on(&servers, ["watch", "--interval", "100ms", "a"]);
    let mut watch = watch.spawn().unwrap();
    let lines = lines(&mut watch);
    let next = || lines.recv_timeout(PATIENCE).unwrap();
    let [first, ..] = &servers[..] else {
        unreachable!()
    };
    let first = first.address().to_string();
    let line = next();
    assert!(
        line.starts_with(&format!("\"a\": free; {first} free; ")),
        "{line}"
    );
    let value = hold(&servers, "a");
    // Seen in the middle of it, it is split for a moment.
    let held = format!("\"a\": held by {}… for another ", &value[..4]);
    let everywhere = |line: &str| line.matches("held by").count() == 4;
    let line = (0..10).map(|_| next()).find(|line| everywhere(line));
    assert!(line.as_deref().unwrap().starts_with(&held), "{line:?}");
    // The time that passes is no news; the next line is about what comes next.
    thread::sleep(std::time::Duration::from_millis(500));
    servers[2].kill();
    let line = next();
    assert!(
        line.starts_with(&held) && line.contains("unreachable"),
        "{line}"
    );
    assert!(!line.contains('\x1b') && !line.contains(&value), "{line}");
    send(&watch, Signal::INT);
    assert_eq!(watch.wait().unwrap().code(), Some(130));
}

#[test]
fn an_interval_is_not_too_short() {
    for (interval, about) in [("1ms", "at least 100ms"), ("soon", "'--interval")] {
        let mut watch = redlock(["watch", "--interval", interval, "a"]);
        assert_complains(&mut watch, 64, about);
    }
}
