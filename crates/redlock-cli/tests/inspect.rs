//! `inspect` tells who holds a resource, to people and to programs, and changes nothing.

mod common;

use redlock_test::server::RedisServer;
use serde_json::{Value, json};

use common::{
    assert_code, assert_complains, complained, hold, on, order, said,
    terminal::{Terminal, plain},
};

/// What it says, of which the value of the lock is no part.
#[track_caller]
fn inspected(servers: &[RedisServer], args: &[&str], code: i32) -> String {
    let args = ["inspect"].into_iter().chain(args.iter().copied());
    let output = on(servers, args).output().unwrap();
    assert_code(&output, code);
    assert_eq!(complained(&output).is_empty(), code == 0, "{output:?}");
    said(&output)
}

/// The object for one resource.
#[track_caller]
fn json_of(servers: &[RedisServer], resource: &str, code: i32) -> Value {
    let text = inspected(servers, &["--json", resource], code);
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn states(report: &Value) -> Vec<&str> {
    let nodes = report["nodes"].as_array().unwrap().iter();
    nodes.map(|node| node["state"].as_str().unwrap()).collect()
}

#[test]
fn free() {
    let servers = RedisServer::start_many(3);
    let text = inspected(&servers, &["a"], 0);
    assert!(text.starts_with("\"a\": free\n"), "{text}");
    let report = json_of(&servers, "a", 0);
    assert_eq!(report["verdict"], "free");
    assert_eq!(states(&report), ["free"; 3]);
}

#[test]
fn held_with_the_documented_shape() {
    let servers = RedisServer::start_many(3);
    let value = hold(&servers, "a");
    let shown = format!("{}…", &value[..4]);
    let mut report = json_of(&servers, "a", 0);
    let is_left = |remaining: &Value| (1..=30_000).contains(&remaining.as_u64().unwrap());
    assert!(is_left(&report["remaining_ms"].take()));
    for node in report["nodes"].as_array_mut().unwrap() {
        assert!(is_left(&node["remaining_ms"].take()));
        assert!(node["latency_ms"].take().as_f64().unwrap() > 0.0);
    }
    let node = |server: &RedisServer| {
        json!({
            "node": server.address().to_string(), "state": "held", "value": shown,
            "remaining_ms": null, "error": null, "latency_ms": null,
        })
    };
    let nodes: Vec<_> = servers.iter().map(node).collect();
    let expected = json!({
        "resource": "a", "verdict": "held", "value": shown, "remaining_ms": null, "nodes": nodes,
    });
    assert_eq!(report, expected);

    let text = inspected(&servers, &["a"], 0);
    assert!(
        text.starts_with(&format!("\"a\": held by {shown} for another ")),
        "{text}"
    );
    assert!(!text.contains(&value), "{text}");
    let lines: Vec<_> = text.lines().skip(1).collect();
    let column = lines[0].find("STATE").unwrap();
    assert_eq!(lines.len(), 4);
    for (line, server) in lines[1..].iter().zip(&servers) {
        assert!(line.contains(&server.address().to_string()), "{text}");
        assert_eq!(&line[column..], format!("held by {shown}"), "{text}");
    }
    assert!(servers.iter().all(|it| it.cli(&["GET", "a"]) == value));
}

#[test]
fn split_between_two_and_a_key_that_is_no_lock() {
    let servers = RedisServer::start_many(3);
    order(&servers[0], &["SET", "a", "one-holder", "PX", "60000"]);
    order(&servers[1], &["SET", "a", "not a lock at all"]);
    let report = json_of(&servers, "a", 0);
    assert_eq!(report["verdict"], "split");
    assert_eq!(report["value"], Value::Null);
    assert_eq!(report["nodes"][0]["value"], "one-…");
    assert_eq!(report["nodes"][1]["value"], "not …");
    assert_eq!(report["nodes"][1]["remaining_ms"], Value::Null);
    assert_eq!(states(&report), ["held", "held", "free"]);

    order(&servers[2], &["LPUSH", "a", "element"]);
    let report = json_of(&servers, "a", 69);
    assert_eq!(states(&report), ["held", "held", "error"]);
    let error = report["nodes"][2]["error"].as_str().unwrap();
    assert!(error.contains("WRONGTYPE"), "{error}");
}

#[test]
fn unreachable_nodes() {
    let mut servers = RedisServer::start_many(3);
    servers[2].kill();
    let report = json_of(&servers, "a", 0);
    assert_eq!(report["verdict"], "free");
    assert_eq!(states(&report), ["free", "free", "error"]);
    servers[1].kill();
    let report = json_of(&servers, "a", 69);
    assert_eq!(report["verdict"], "unknown");
    let text = inspected(&servers, &["a"], 69);
    assert!(text.contains("unreachable: "), "{text}");
}

#[test]
fn several_resources_are_told_one_by_one() {
    let servers = RedisServer::start_many(1);
    hold(&servers, "b");
    let text = inspected(&servers, &["--json", "b", "a"], 0);
    let verdicts = text.lines().map(|line| {
        let report: Value = serde_json::from_str(line).unwrap();
        [&report["resource"], &report["verdict"]].map(|it| it.as_str().unwrap().to_owned())
    });
    let verdicts: Vec<_> = verdicts.collect();
    assert_eq!(verdicts, [["a", "free"], ["b", "held"]]);
    assert_complains(&mut on(&servers, ["inspect", ""]), 65, "empty");
}

#[test]
fn nothing_it_shows_commands_the_terminal() {
    let servers = RedisServer::start_many(1);
    order(&servers[0], &["SET", "\x1b[2J", "\x1b[2J\x1b[2J"]);
    let text = inspected(&servers, &["\x1b[2J"], 0);
    assert!(!text.contains('\x1b'), "{text:?}");
}

#[test]
fn colours_only_at_a_terminal_that_wants_them() {
    let servers = RedisServer::start_many(1);
    for (no_color, shown) in [("", "\x1b[1;32mfree\x1b[0m\r\n"), ("1", "\"a\": free\r\n")] {
        let terminal = Terminal::open();
        let mut command = on(&servers, ["inspect", "a"]);
        let command = plain(&mut command)
            .env("NO_COLOR", no_color)
            .stdout(terminal.handle());
        assert!(command.status().unwrap().success());
        terminal.shows(shown);
    }
}
