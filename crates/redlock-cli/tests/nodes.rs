//! Where the nodes are listed, and the kinds there are.

mod common;

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Command,
};

use redlock_test::server::{Program, RedisCluster, RedisServer, SentinelConfig};
use tempfile::TempDir;

use common::{adopt_environment, assert_clean, assert_code, assert_complains, on, redlock};

fn file(directory: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

/// Locks as it is told, and finds the key on these servers and no others.
#[track_caller]
fn assert_locks_on(command: &mut Command, servers: &[RedisServer], others: &[RedisServer]) {
    let output = command.args(["acquire", "a"]).output().unwrap();
    assert_code(&output, 0);
    for server in servers {
        assert_eq!(server.keys(), ["a"]);
        assert_eq!(server.cli(&["DEL", "a"]), "1");
    }
    assert_clean(others);
}

fn urls(servers: &[RedisServer]) -> Vec<String> {
    servers.iter().map(RedisServer::url).collect()
}

fn nodes(servers: &[RedisServer]) -> String {
    format!("nodes = {:?}\n", urls(servers))
}

#[test]
fn the_first_place_that_lists_nodes_is_taken_and_no_other() {
    let servers = RedisServer::start_many(5);
    let [flag, config, variable, named, default] = [0, 1, 2, 3, 4].map(|it| &servers[it..=it]);
    let home = tempfile::tempdir().unwrap();
    let config_file = file(&home, "config", &nodes(config));
    let named_file = file(&home, "named", &nodes(named));
    file(&home, ".config/redlock/config.toml", &nodes(default));

    // Each on top of those before it.
    let mut command = redlock([]);
    let again = |command: &mut Command, expected: &[RedisServer]| {
        let mut acquire = Command::new(command.get_program());
        acquire.args(command.get_args());
        adopt_environment(&mut acquire, command);
        assert_locks_on(&mut acquire, expected, &[]);
        assert_clean(&servers);
    };
    again(command.env("HOME", home.path()), default);
    let directory = home.path().join(".config");
    again(
        command.env("HOME", "/").env("XDG_CONFIG_HOME", directory),
        default,
    );
    again(command.env("REDLOCK_CONFIG", &named_file), named);
    again(command.env("REDLOCK_NODES", variable[0].url()), variable);
    let mut copy = redlock(["--node", &flag[0].url()]);
    adopt_environment(&mut copy, &command);
    again(&mut copy, flag);
    again(command.arg("--config").arg(&config_file), config);
}

#[test]
fn several_are_listed_anywhere() {
    let servers = RedisServer::start_many(3);
    let [a, b, c] = [0, 1, 2].map(|it| servers[it].url());
    assert_locks_on(
        &mut redlock(["--node", &a, "--node", &b, "--node", &c]),
        &servers,
        &[],
    );
    let mut command = redlock([]);
    assert_locks_on(
        command.env("REDLOCK_NODES", format!("{a},{b}\n{c} ")),
        &servers,
        &[],
    );
    let home = tempfile::tempdir().unwrap();
    let text = format!("nodes = [\"{a}\", {{ url = \"{b}\" }}]\n[[nodes]]\nurl = \"{c}\"");
    let mixed = file(&home, "mixed", &text);
    assert_complains(
        redlock(["acquire", "a", "--config"]).arg(mixed),
        78,
        "line 2",
    );
    let text =
        format!("[[nodes]]\nurl = \"{a}\"\n[[nodes]]\nurl = \"{b}\"\n[[nodes]]\nurl = \"{c}\"");
    let tables = file(&home, "tables", &text);
    assert_locks_on(redlock(["--config"]).arg(tables), &servers, &[]);
}

#[test]
fn a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let server = RedisServer::start_with(&["--unixsocket", socket.to_str().unwrap()]);
    for scheme in ["unix:", "unix://"] {
        let url = format!("{scheme}{}", socket.display());
        assert_locks_on(
            &mut redlock(["--node", &url]),
            std::slice::from_ref(&server),
            &[],
        );
    }
}

#[test]
fn a_sentinel_group_with_a_login_for_its_sentinels_and_one_for_its_servers() {
    let group = Program::system().start_sentinel(&SentinelConfig {
        args: &["--requirepass", "of-servers", "--masterauth", "of-servers"],
        sentinel_args: &["--requirepass", "of-sentinels"],
        ..SentinelConfig::default()
    });
    let sentinels: Vec<_> = group.sentinels().iter().map(ToString::to_string).collect();
    let (sentinels, name) = (sentinels.join(","), group.master_name());
    let mut command = redlock(["acquire", "a"]);
    command.env(
        "REDLOCK_NODES",
        format!("sentinel://:of-sentinels@{sentinels}/{name}"),
    );
    assert_complains(&mut command, 69, &format!("{name} of sentinel"));
    command.env("REDLOCK_PASSWORD", "of-servers");
    assert_code(&command.output().unwrap(), 0);
    let address = group.master();
    let master = group.servers().iter().find(|it| it.address() == address);
    assert_eq!(master.unwrap().keys(), ["a"]);
}

#[test]
fn a_cluster() {
    let cluster = RedisCluster::start();
    let hosts: Vec<_> = cluster
        .members()
        .iter()
        .map(|it| it.address().to_string())
        .collect();
    let url = format!("redis-cluster://{}", hosts.join(","));
    assert_code(
        &redlock(["--node", &url, "acquire", "{x}a", "{x}b"])
            .output()
            .unwrap(),
        0,
    );
    assert_complains(
        &mut redlock(["--node", &url, "acquire", "-n", "{x}a"]),
        75,
        "{x}a",
    );
    assert_complains(
        &mut redlock(["--node", &url, "acquire", "a", "b"]),
        65,
        "slot",
    );
}

#[test]
fn tls_with_a_certificate_that_the_system_is_told_to_trust() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let certificate = file(&directory, "cert.pem", &made.cert.pem());
    let key = file(&directory, "key.pem", &made.signing_key.serialize_pem());
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let server = RedisServer::start_tls(&text(&certificate), &text(&key));
    let url = format!("rediss://localhost:{}", server.address().port());
    let mut command = redlock(["--node", &url, "run", "a", "--", "true"]);
    assert_complains(&mut command, 69, "ertificate");
    command.env("SSL_CERT_FILE", &certificate);
    assert_code(&command.output().unwrap(), 0);
}

#[test]
fn configurations_that_make_no_sense() {
    let home = tempfile::tempdir().unwrap();
    for (text, about) in [
        ("nodes = [", "line 1"),
        ("nodes = []\nnode = 1", "unknown field `node`"),
        ("\nnodes = \"redis://h\"", "line 2"),
        (
            "nodes = [\"redis://h\", \"http://h\"]",
            "node 2: the URL has to begin with",
        ),
        ("nodes = [\"redis://h:port\"]", "node 1"),
        (
            "nodes = [\"redis://h:1\", \"redis://H:1\"]",
            "h:1 was given twice",
        ),
        (
            "nodes = [\"sentinel://h:1\"]",
            "the name of the master is missing",
        ),
        (
            "nodes = [\"redis://h\"]\npassword_file = \"gone\"",
            "gone: No such file",
        ),
    ] {
        let path = file(&home, "config", text);
        assert_complains(redlock(["acquire", "a", "--config"]).arg(path), 78, about);
    }
    let mut command = redlock(["acquire", "a", "--config", "/nonexistent"]);
    assert_complains(&mut command, 78, "/nonexistent: No such file");
    let path = file(&home, "config", "nodes = []");
    assert_complains(
        redlock(["acquire", "a", "--config"]).arg(path),
        66,
        "no nodes",
    );
}

#[test]
fn a_variable_that_is_no_text_is_an_error() {
    let servers = RedisServer::start_many(1);
    let odd = OsStr::from_bytes(b"\xff\xfe");
    for name in ["REDLOCK_NODES", "REDLOCK_USERNAME", "REDLOCK_PASSWORD"] {
        let mut command = on(&servers, ["acquire", "a"]);
        assert_complains(command.env(name, odd), 78, &format!("{name}: "));
    }
    let mut command = on(&servers, ["release", "a"]);
    assert_complains(command.env("REDLOCK_VALUE", odd), 64, "UTF-8");
    assert_clean(&servers);
    // The name of a file may be anything.
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(odd);
    fs::write(&path, nodes(&servers)).unwrap();
    let mut command = redlock([]);
    assert_locks_on(command.env("REDLOCK_CONFIG", &path), &servers, &[]);
    let mut command = on(&servers, ["acquire", "a"]);
    fs::write(&path, b"\xff").unwrap();
    assert_complains(command.env("REDLOCK_PASSWORD_FILE", &path), 78, "UTF-8");
}
