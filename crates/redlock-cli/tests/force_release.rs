//! `force-release` takes a lock away by its value, after having asked.

mod common;

use std::process::{Child, Command, Output};

use redlock_test::server::RedisServer;

use common::{
    assert_clean, assert_code, complained, hold, on, order, said,
    terminal::{Terminal, plain},
};

#[track_caller]
fn forced(servers: &[RedisServer], code: i32) -> Output {
    let output = on(servers, ["force-release", "--yes", "a"]).output();
    let output = output.unwrap();
    assert_code(&output, code);
    output
}

/// Starts it where a person can be asked.
fn asking(terminal: &Terminal, servers: &[RedisServer]) -> Child {
    let mut command = on(servers, ["force-release", "a"]);
    let child = terminal.start(plain(&mut command));
    terminal.shows(". Release it? [y/N] ");
    child
}

#[test]
fn with_yes_it_says_whose_lock_it_was() {
    let servers = RedisServer::start_many(3);
    let value = hold(&servers, "a");
    let text = said(&forced(&servers, 0));
    let shown = format!("{}…", &value[..4]);
    let held = format!("\"a\": held by {shown} for another ");
    assert!(text.starts_with(&held), "{text}");
    let freed = format!("\"a\": freed {shown} on 3 of 3 nodes\n\"a\": now free\n");
    assert!(text.ends_with(&freed), "{text}");
    assert!(!text.contains(&value), "{text}");
    assert_clean(&servers);
    let text = said(&forced(&servers, 0));
    assert!(!text.contains("freed"), "nothing to free: {text}");
}

#[test]
fn without_a_terminal_it_has_to_be_told_yes() {
    let servers = RedisServer::start_many(3);
    let value = hold(&servers, "a");
    let output = on(&servers, ["force-release", "a"]).output().unwrap();
    assert_code(&output, 77);
    let line = complained(&output);
    assert!(line.contains("without a terminal; --yes"), "{line}");
    assert!(servers.iter().all(|it| it.cli(&["GET", "a"]) == value));
}

#[test]
fn a_person_says_no() {
    let servers = RedisServer::start_many(1);
    let value = hold(&servers, "a");
    for answer in ["n\n", "\n", "yesterday\n", "\x04"] {
        let mut terminal = Terminal::open();
        let mut child = asking(&terminal, &servers);
        terminal.types(answer);
        assert_eq!(child.wait().unwrap().code(), Some(77), "{answer:?}");
        terminal.shows("not confirmed; nothing was changed");
        assert_eq!(servers[0].cli(&["GET", "a"]), value);
    }
}

#[test]
fn a_person_says_yes() {
    let servers = RedisServer::start_many(3);
    for answer in ["y\n", "YES\n"] {
        let value = hold(&servers, "a");
        let mut terminal = Terminal::open();
        let mut child = asking(&terminal, &servers);
        let asked = terminal.text();
        let (_, question) = asked.rsplit_once('\n').unwrap();
        let held = format!("\"a\": held by {}… for another ", &value[..4]);
        assert!(question.starts_with(&held), "{question:?}");
        terminal.types(answer);
        assert_eq!(child.wait().unwrap().code(), Some(0));
        terminal.shows(&format!("freed {}… on 3 of 3 nodes", &value[..4]));
        assert_clean(&servers);
    }
}

#[test]
fn what_another_takes_while_it_asks_stays() {
    let servers = RedisServer::start_many(1);
    let first = hold(&servers, "a");
    let mut terminal = Terminal::open();
    let mut child = asking(&terminal, &servers);
    let released = on(&servers, ["release", "a", "--value", &first]).output();
    assert_code(&released.unwrap(), 0);
    let second = hold(&servers, "a");
    terminal.types("y\n");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    terminal.shows("on 0 of 1 nodes");
    terminal.shows(&format!("now held by {}…", &second[..4]));
    assert_eq!(servers[0].cli(&["GET", "a"]), second);
}

#[test]
fn every_value_of_a_split_is_freed() {
    let servers = RedisServer::start_many(3);
    for (server, value) in servers
        .iter()
        .zip(["one-holder", "two-holder", "one-holder"])
    {
        order(server, &["SET", "a", value]);
    }
    let text = said(&forced(&servers, 0));
    assert!(text.contains("freed one-… on 2 of 3"), "{text}");
    assert!(text.contains("freed two-… on 1 of 3"), "{text}");
    assert_clean(&servers);
}

#[test]
fn what_is_no_lock_is_left_alone_and_the_command_is_named() {
    let servers = RedisServer::start_many(3);
    order(&servers[0], &["SET", "a", "not a lock"]);
    order(&servers[1], &["LPUSH", "a", "element"]);
    order(&servers[2], &["SET", "a", "a-lock"]);
    let output = forced(&servers, 65);
    assert!(said(&output).contains("on 1 of 3 nodes"), "{output:?}");
    let complaint = complained(&output);
    for server in &servers[..2] {
        let about = format!("\"a\" on {}: what is there is no ", server.address());
        assert!(complaint.contains(&about), "{complaint}");
    }
    assert_eq!(complaint.matches("redis-cli DEL a\n").count(), 2);
    let types = [0, 1, 2].map(|index: usize| servers[index].cli(&["TYPE", "a"]));
    assert_eq!(types, ["string", "list", "none"]);
}

#[test]
fn too_few_nodes() {
    let mut servers = RedisServer::start_many(3);
    hold(&servers, "a");
    servers[0].kill();
    forced(&servers, 0);
    assert_clean(&servers[1..]);
    servers[1].kill();
    let output = forced(&servers, 69);
    assert!(complained(&output).contains("too few nodes answered"));
}

#[test]
fn nodes_that_would_not_free_it() {
    let servers = RedisServer::start_many(3);
    let value = hold(&servers, "a");
    for server in &servers {
        let user = ["ACL", "SETUSER", "default", "-@write", "-eval", "-evalsha"];
        order(server, &user);
    }
    let output = forced(&servers, 69);
    let complaint = complained(&output);
    for server in &servers {
        let about = format!("\"a\" on {}: ", server.address());
        assert!(complaint.contains(&about), "{complaint}");
    }
    assert!(complaint.contains("permissions"), "{complaint}");
    assert!(!complaint.contains(&value), "{complaint}");
    assert!(servers.iter().all(|it| it.cli(&["GET", "a"]) == value));
    // One of them alone is a minority that its ttl frees.
    for server in &servers[1..] {
        order(server, &["ACL", "SETUSER", "default", "+@all"]);
    }
    let output = forced(&servers, 0);
    assert!(complained(&output).contains("permissions"), "{output:?}");
}

#[test]
fn the_command_that_is_named_can_be_pasted_into_a_shell() {
    let servers = RedisServer::start_many(1);
    let name = "a  $(touch x)'\"\\ !b";
    order(&servers[0], &["SET", name, "not a lock"]);
    let output = on(&servers, ["force-release", "--yes", name]).output();
    let complaint = complained(&output.unwrap());
    let (_, named) = complaint.split_once("redis-cli ").unwrap();
    let named = named.lines().next().unwrap();
    let port = servers[0].address().port();
    let directory = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    let pasted = shell.args(["-c", &format!("redis-cli -p {port} {named}")]);
    let output = pasted.current_dir(&directory).output().unwrap();
    assert_eq!(said(&output), "1\n", "{complaint}");
    assert_clean(&servers);
}
