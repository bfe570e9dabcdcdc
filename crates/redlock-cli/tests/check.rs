//! `check` finds what is wrong with a deployment, and says what to do.

mod common;

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
};

use redlock_test::server::{Program, RedisCluster, RedisServer, SentinelConfig};
use serde_json::Value;

use common::{
    adopt_environment, assert_clean, assert_code, assert_complains, complained, eventually, on,
    order, redlock, said,
    terminal::{Terminal, plain},
};

const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// Servers with which nothing is wrong.
fn healthy(count: usize) -> Vec<RedisServer> {
    let servers = (0..count).map(|_| RedisServer::start_with(&DURABLE));
    servers.collect()
}

/// What it found, as pairs of severity and check, with what it said of each.
struct Found(Vec<Value>);

impl Found {
    #[track_caller]
    fn by(command: &mut Command, code: i32) -> Self {
        let output = command.args(["check", "--json"]).output().unwrap();
        assert_code(&output, code);
        assert_eq!(complained(&output), "");
        let mut report: Value = serde_json::from_str(&said(&output)).unwrap();
        let status = ["ok", "warning", "problem"][usize::try_from(code).unwrap()];
        assert_eq!(report["status"], status);
        let Value::Array(findings) = report["findings"].take() else {
            panic!("{report}");
        };
        Self(findings)
    }

    #[track_caller]
    fn on(servers: &[RedisServer], code: i32) -> Self {
        Self::by(&mut on(servers, []), code)
    }

    #[track_caller]
    fn at(url: &str, code: i32) -> Self {
        Self::by(&mut redlock(["--node", url]), code)
    }

    /// What is not fine.
    fn faults(&self) -> Vec<(&str, &str)> {
        let faults = self.0.iter().filter(|it| it["severity"] != "ok");
        faults
            .map(|it| {
                (
                    it["severity"].as_str().unwrap(),
                    it["check"].as_str().unwrap(),
                )
            })
            .collect()
    }

    /// The one finding of this check that contains this text.
    #[track_caller]
    fn one(&self, check: &str, text: &str) -> &Value {
        let matches =
            |it: &&Value| it["check"] == check && it["found"].as_str().unwrap().contains(text);
        let matching: Vec<_> = self.0.iter().filter(matches).collect();
        let [one] = matching[..] else {
            panic!("{check}, {text}: {:#?}", self.0);
        };
        assert!(
            one["severity"] == "ok" || one["advice"].is_string(),
            "{one}"
        );
        one
    }
}

#[test]
fn all_is_fine() {
    let servers = healthy(3);
    let found = Found::on(&servers, 0);
    assert_eq!(found.faults(), []);
    found.one("count", "3 nodes outlive 1 failures");
    found.one("clock", "no clock is known to be off");
    for (server, finding) in servers
        .iter()
        .zip(found.0.iter().filter(|it| it["check"] == "role"))
    {
        assert_eq!(finding["node"], server.address().to_string());
        assert_eq!(finding["found"], "master");
    }
    for finding in &found.0 {
        let fields: Vec<_> = finding.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["advice", "check", "found", "node", "severity"]);
    }
    for check in [
        "version",
        "latency",
        "persistence",
        "eviction",
        "commands",
        "scripts",
        "locking",
    ] {
        let told = found.0.iter().filter(|it| it["check"] == check);
        assert_eq!(told.count(), 3, "{check}");
    }
    let output = on(&servers, ["check", "--quiet"]).output().unwrap();
    assert_code(&output, 0);
    assert_eq!(said(&output), "");
    assert_clean(&servers);
}

#[test]
fn a_server_on_which_no_lock_can_be_taken() {
    type Orders<'a> = &'a [&'a [&'a str]];
    let cases: [(Orders, &str, &str); 4] = [
        (
            &[&["ACL", "SETUSER", "default", "-set"]],
            "cannot take a lock: ",
            "ACL SETUSER",
        ),
        (
            &[&["CONFIG", "SET", "maxmemory", "1"]],
            "OOM",
            "raise maxmemory",
        ),
        (
            &[&["CONFIG", "SET", "min-replicas-to-write", "1"]],
            "NOREPLICAS",
            "start its replicas",
        ),
        (
            &[
                &["SCRIPT", "FLUSH"],
                &["ACL", "SETUSER", "default", "-eval", "-evalsha"],
            ],
            "cannot extend a lock: ",
            "+eval +evalsha",
        ),
    ];
    for (orders, text, advice) in cases {
        let servers = healthy(3);
        for words in orders {
            order(&servers[1], words);
        }
        let found = Found::on(&servers, 2);
        let locking = found.one("locking", text);
        assert_eq!(locking["node"], servers[1].address().to_string());
        let advised = locking["advice"].as_str().unwrap();
        assert!(advised.contains(advice), "{advised}");
        let fine = found
            .0
            .iter()
            .filter(|it| it["check"] == "locking" && it["severity"] == "ok");
        assert_eq!(fine.count(), 2);
    }
}

#[test]
fn keys_that_the_user_may_not_lock() {
    let servers = healthy(1);
    let user = [
        "ACL",
        "SETUSER",
        "app",
        "on",
        ">app-secret",
        "~jobs:*",
        "+@all",
    ];
    order(&servers[0], &user);
    let mut command = on(&servers, []);
    command
        .env("REDLOCK_USERNAME", "app")
        .env("REDLOCK_PASSWORD", "app-secret");
    let found = Found::by(&mut command, 2);
    let advice = found.one("locking", "permission")["advice"]
        .as_str()
        .unwrap();
    assert!(advice.contains("--probe-prefix"), "{advice}");
    let mut prefixed = on(&servers, ["--node", &servers[0].url()]);
    adopt_environment(&mut prefixed, &command);
    let output = prefixed
        .args(["check", "--probe-prefix", "jobs:"])
        .output()
        .unwrap();
    assert_code(&output, 0);
}

#[test]
fn a_server_that_is_busy_is_not_told_to_have_a_wrong_login() {
    let servers = healthy(1);
    order(&servers[0], &["CONFIG", "SET", "lua-time-limit", "50"]);
    let port = servers[0].address().port().to_string();
    let mut endless = Command::new("redis-cli");
    let endless = endless.args(["-p", &port, "EVAL", "while true do end", "0"]);
    let mut endless = endless.stdout(Stdio::null()).spawn().unwrap();
    eventually("it is busy", || {
        servers[0].cli(&["PING"]).contains("BUSY").then_some(())
    });
    let found = Found::on(&servers, 2);
    order(&servers[0], &["SCRIPT", "KILL"]);
    endless.wait().unwrap();
    let advice = found.one("reachable", "usy")["advice"].as_str().unwrap();
    assert!(advice.contains("SCRIPT KILL"), "{advice}");

    let loading = |_: &str| Some("-LOADING Redis is loading the dataset in memory\r\n".to_owned());
    let found = Found::at(&pretender(loading), 2);
    let advice = found.one("reachable", "oading")["advice"].as_str().unwrap();
    assert!(advice.contains("wait"), "{advice}");
}

#[test]
fn the_same_server_twice() {
    let servers = healthy(2);
    let port = servers[0].address().port();
    let mut command = on(&servers, []);
    let urls = [
        &servers[0].url(),
        &servers[1].url(),
        &format!("redis://localhost:{port}"),
    ];
    command.env("REDLOCK_NODES", urls.map(String::as_str).join(" "));
    let found = Found::by(&mut command, 2);
    assert_eq!(found.faults(), [("problem", "identity")]);
    let same = format!("the same server as 127.0.0.1:{port}");
    assert_eq!(
        found.one("identity", &same)["node"],
        format!("localhost:{port}")
    );
}

#[test]
fn an_even_number_of_nodes() {
    let found = Found::on(&healthy(2), 1);
    assert_eq!(found.faults(), [("warning", "count")]);
}

#[test]
fn keys_that_may_be_dropped() {
    let servers = healthy(1);
    order(
        &servers[0],
        &["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"],
    );
    let found = Found::on(&servers, 1);
    assert_eq!(found.faults(), [("warning", "eviction")]);
    order(
        &servers[0],
        &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"],
    );
    order(&servers[0], &["CONFIG", "SET", "maxmemory", "100mb"]);
    let found = Found::on(&servers, 2);
    assert_eq!(found.faults(), [("problem", "eviction")]);
    found.one("eviction", "allkeys-lru");
}

#[test]
fn a_replica() {
    let servers = healthy(3);
    let port = servers[0].address().port().to_string();
    order(&servers[1], &["REPLICAOF", "127.0.0.1", &port]);
    let found = Found::on(&servers, 2);
    let replica = found.one("role", "is a replica");
    assert_eq!(replica["node"], servers[1].address().to_string());
}

#[test]
fn locks_that_do_not_outlive_a_restart() {
    let servers = healthy(1);
    for (setting, value, code, text) in [
        ("appendfsync", "everysec", 0, "a second of locks"),
        ("appendfsync", "no", 1, "many seconds of locks"),
        ("appendonly", "no", 1, "restarts without the locks"),
    ] {
        order(&servers[0], &["CONFIG", "SET", setting, value]);
        Found::on(&servers, code).one("persistence", text);
    }
}

#[test]
fn who_may_not_look_is_told_so() {
    let servers = healthy(1);
    let user = ["ACL", "SETUSER", "app", "on", ">app-secret", "~*"];
    let allowed = [
        "+set", "+get", "+del", "+pexpire", "+pttl", "+eval", "+evalsha",
    ];
    order(&servers[0], &[&user[..], &allowed].concat());
    let check = |code| {
        let mut command = on(&servers, []);
        command
            .env("REDLOCK_USERNAME", "app")
            .env("REDLOCK_PASSWORD", "app-secret");
        Found::by(&mut command, code)
    };
    let found = check(0);
    for (check, asked) in [
        ("version", "INFO"),
        ("settings", "CONFIG GET"),
        ("role", "ROLE"),
        ("clock", "TIME"),
        ("commands", "COMMAND INFO"),
    ] {
        found.one(check, &format!("not allowed to look: {asked}"));
    }
    found.one("scripts", "allowed");

    order(&servers[0], &["ACL", "SETUSER", "app", "-eval"]);
    check(1).one("scripts", "not allowed");
    order(&servers[0], &["ACL", "SETUSER", "app", "+command"]);
    check(2).one("scripts", "no other way to release");
}

#[test]
fn a_command_that_was_renamed_away() {
    let args = [&DURABLE[..], &["--rename-command", "CONFIG", ""]].concat();
    let servers = [RedisServer::start_with(&args)];
    let found = Found::on(&servers, 0);
    found.one("settings", "not allowed to look");
    // Which INFO tells, too.
    found.one("persistence", "appendonly yes, appendfsync unknown");
    found.one("eviction", "noeviction");
}

#[test]
fn nodes_that_do_not_answer_and_no_secret_of_them() {
    let mut servers = healthy(3);
    servers[0].kill();
    servers[1].pause();
    order(
        &servers[2],
        &["CONFIG", "SET", "requirepass", "correct-horse"],
    );
    let mut command = on(&servers, []);
    command.env("REDLOCK_PASSWORD", "wrong-horse");
    let found = Found::by(&mut command, 2);
    let silent = found.0.iter().filter(|it| it["check"] == "reachable");
    let silent: Vec<_> = silent.map(|it| it["advice"].as_str().unwrap()).collect();
    let start = "start the server, or correct its address";
    let login = "correct the user, the password or the address";
    assert_eq!(silent, [start, start, login]);
    let shown = format!("{:?}", found.0);
    assert!(!shown.contains("horse"), "{shown}");
    servers[1].resume();
}

#[test]
fn native_commands() {
    let servers = [Program::named("valkey-9.1").start_with(&DURABLE)];
    let found = Found::on(&servers, 0);
    found.one("commands", "native: DELIFEQ, MSETEX");
    found.one("version", "Valkey 9.1");
    order(
        &servers[0],
        &["ACL", "SETUSER", "default", "-eval", "-evalsha"],
    );
    let found = Found::on(&servers, 1);
    found.one("scripts", "only if the server has SET IFEQ");
}

#[test]
fn an_old_server() {
    let servers = [Program::named("redis-6.2").start_with(&DURABLE)];
    let found = Found::on(&servers, 0);
    found.one("version", "Redis 6.2");
    found.one("commands", "no native commands");
    found.one("persistence", "appendfsync always");
}

#[test]
fn a_cluster_and_one_member_alone() {
    let cluster = RedisCluster::start();
    let found = Found::at(&cluster.urls()[0], 2);
    found.one("kind", "a member of a cluster");
    let hosts: Vec<_> = cluster
        .members()
        .iter()
        .map(|it| it.address().to_string())
        .collect();
    let found = Found::at(&format!("redis-cluster://{}", hosts.join(",")), 1);
    assert!(
        found
            .faults()
            .iter()
            .all(|it| *it == ("warning", "persistence"))
    );
    let serving = found.0.iter().filter(|it| it["check"] == "cluster");
    assert_eq!(serving.count(), hosts.len());
    let server = RedisServer::start_with(&DURABLE);
    let found = Found::at(&format!("redis-cluster://{}", server.address()), 2);
    found.one("kind", "is no member of a cluster");
}

#[test]
fn a_group_under_sentinels() {
    let mut group = Program::system().start_sentinel(&SentinelConfig {
        args: &["--requirepass", "of-servers", "--masterauth", "of-servers"],
        ..SentinelConfig::default()
    });
    let sentinels: Vec<_> = group.sentinels().iter().map(ToString::to_string).collect();
    let master = group.master().to_string();
    let check = |sentinels: &[String], name: &str, code| {
        let url = format!("sentinel://{}/{name}", sentinels.join(","));
        let mut command = redlock(["--node", &url]);
        Found::by(command.env("REDLOCK_PASSWORD", "of-servers"), code)
    };
    let name = group.master_name().to_owned();
    let found = check(&sentinels, &name, 1);
    assert_eq!(
        found.faults(),
        [("warning", "persistence"), ("warning", "replicas")]
    );
    found.one("sentinels", "3 of 3 sentinels answer");
    found.one("master", &master);
    found.one("replicas", "min-replicas-to-write 0");

    check(&sentinels[..1], &name, 1)
        .one("sentinels", "1 sentinels are listed, but the group has 3");
    check(&sentinels, "other", 2).one("master", "no sentinel knows a master \"other\"");
    let found = Found::at(&format!("redis://{}", sentinels[0]), 2);
    found.one("kind", "is a sentinel");

    for sentinel in &mut group.sentinel_servers_mut()[..2] {
        sentinel.kill();
    }
    let found = check(&sentinels, &name, 2);
    found.one("sentinels", "1 of 3 sentinels answer");
    found.one("master", &master);
}

/// A server that answers this to each command; otherwise it can be locked, and nobody is allowed to ask it anything.
fn pretender(answer: impl Fn(&str) -> Option<String> + Clone + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let answer = answer.clone();
            thread::spawn(move || serve(&connection.unwrap(), &answer));
        }
    });
    format!("redis://{address}")
}

fn serve(connection: &TcpStream, answer: &dyn Fn(&str) -> Option<String>) {
    let mut lines = BufReader::new(connection).lines().map_while(Result::ok);
    while let Some(head) = lines.next() {
        let words: usize = head.trim_start_matches('*').parse().unwrap();
        let words: Vec<_> = lines.by_ref().take(2 * words).collect();
        let reply = answer(&words[1]).unwrap_or_else(|| {
            match words[1].as_str() {
                // It can be locked.
                "SET" => "+OK\r\n",
                // A release has a value and no ttl, and says four times how many it has freed.
                "EVAL" | "EVALSHA" if words.len() == 2 * 5 => ":4\r\n",
                "EVAL" | "EVALSHA" => ":1\r\n",
                _ => "-NOPERM this user may not\r\n",
            }
            .to_owned()
        });
        let _ = (&mut &*connection).write_all(reply.as_bytes());
    }
}

#[test]
fn nothing_a_server_says_commands_the_terminal() {
    let evil = |command: &str| match command {
        "INFO" => Some("$18\r\nredis_version:\x1b[2J\r\n".to_owned()),
        "TIME" | "PTTL" => Some("-ERR \x1b[2J\r\n".to_owned()),
        _ => None,
    };
    let node = pretender(evil);
    for command in ["check", "inspect"] {
        let resource = (command == "inspect").then_some("a");
        let args = ["--node", &node, command].into_iter().chain(resource);
        let output = redlock(args).output().unwrap();
        let text = said(&output);
        assert!(!text.contains('\x1b'), "{text}");
        assert!(text.contains("\\u{1b}[2J"), "{text}");
    }
}

#[test]
fn clocks_that_are_apart() {
    let servers = healthy(2);
    let now = servers[0].cli(&["TIME"]);
    let now: i64 = now.lines().next().unwrap().parse().unwrap();
    for (off, direction, result) in [
        (
            -60,
            "behind the others",
            "end the locks there that much too early",
        ),
        (
            60,
            "ahead of the others",
            "keep the locks there that much too long",
        ),
    ] {
        let time = format!("*2\r\n:{}\r\n:0\r\n", now + off);
        let skewed = pretender(move |command| (command == "TIME").then(|| time.clone()));
        let mut command = on(&servers, []);
        let urls = [servers[0].url(), servers[1].url(), skewed.clone()];
        let found = Found::by(command.env("REDLOCK_NODES", urls.join(" ")), 1);
        let clock = found.one("clock", direction);
        assert!(clock["found"].as_str().unwrap().contains(result), "{clock}");
        assert!(skewed.ends_with(clock["node"].as_str().unwrap()), "{clock}");
    }
}

#[test]
fn nodes_that_no_command_works_with() {
    let node = ["--node", "redis://h:1", "--node", "redis://H:1"];
    let mut command = redlock(node.into_iter().chain(["check"]));
    assert_complains(&mut command, 78, "h:1 was given twice");
    assert_complains(&mut redlock(["check"]), 66, "no nodes");
}

#[test]
fn a_table_with_advice_and_colours_at_a_terminal() {
    let servers = healthy(2);
    let output = on(&servers, ["check"]).output().unwrap();
    assert_code(&output, 1);
    let text = said(&output);
    assert!(text.starts_with("warning  all "), "{text}");
    assert!(
        text.contains("\n         -> add a node or take one away\n"),
        "{text}"
    );
    let terminal = Terminal::open();
    let mut command = on(&servers, ["check", "-q"]);
    let status = plain(&mut command).stdout(terminal.handle()).status();
    assert_eq!(status.unwrap().code(), Some(1));
    terminal.shows("\x1b[1;33mwarning\x1b[0m  all");
}
