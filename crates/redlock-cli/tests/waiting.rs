//! Who waits at a terminal is told who holds the lock.

mod common;

use redlock_test::server::RedisServer;
use rustix::process::Signal;

use common::{
    assert_code, hold, on, send,
    terminal::{Terminal, plain},
};

#[test]
fn the_line_says_who_holds_it_and_for_how_long() {
    let mut servers = RedisServer::start_many(3);
    let value = hold(&servers, "b");
    // Those that tell nothing do not keep the others from it.
    servers[0].pause();
    let terminal = Terminal::open();
    let mut acquire = on(&servers, ["acquire", "b"]);
    let mut waiting = plain(&mut acquire)
        .stderr(terminal.handle())
        .spawn()
        .unwrap();
    let shown = format!("{}…", &value[..4]);
    terminal.shows_in_time(|second| {
        format!("\x1b[?7lwaiting for \"b\" for {second}s, without a limit; held by {shown} for another 2")
    });
    assert!(!terminal.text().contains(&value));
    send(&waiting, Signal::TERM);
    assert_eq!(waiting.wait().unwrap().code(), Some(143));
    servers[0].resume();
    servers[0].kill();

    let terminal = Terminal::open();
    let mut acquire = on(&servers, ["acquire", "--wait", "1h", "a", "b"]);
    let waiting = plain(&mut acquire)
        .stderr(terminal.handle())
        .spawn()
        .unwrap();
    terminal.shows(&format!("; \"b\" is held by {shown} for another "));
    let released = on(&servers, ["release", "b", "--value", &value]).output();
    assert_code(&released.unwrap(), 0);
    assert_code(&waiting.wait_with_output().unwrap(), 0);
    assert!(terminal.text().ends_with("\r\x1b[K"));
}
