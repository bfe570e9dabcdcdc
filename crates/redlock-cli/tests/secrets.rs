//! Passwords come from where they are kept, and are shown nowhere.

mod common;

use std::{fs, process::Command};

use redlock_test::server::RedisServer;

use common::{assert_code, assert_complains, complained, numbers, redlock, said};

const SECRET: &str = "correct-horse";

fn server() -> RedisServer {
    RedisServer::start_with(&["--requirepass", SECRET])
}

fn with_password(server: &RedisServer, password: &str) -> String {
    server
        .url()
        .replace("redis://", &format!("redis://:{password}@"))
}

#[track_caller]
fn assert_locks(command: &mut Command) {
    assert_code(
        &command.args(["run", "a", "--", "true"]).output().unwrap(),
        0,
    );
}

#[test]
fn a_password_from_each_place() {
    let server = server();
    let url = server.url();
    assert_complains(
        &mut redlock(["--node", &url, "run", "a", "--", "true"]),
        69,
        "uthentication",
    );

    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let secret = file("secret", &format!("{SECRET}\n"));
    assert_locks(redlock(["--node", &url]).env("REDLOCK_PASSWORD", SECRET));
    assert_locks(redlock(["--node", &url]).env("REDLOCK_PASSWORD_FILE", &secret));
    assert_locks(redlock([]).env("REDLOCK_NODES", with_password(&server, SECRET)));
    for text in [
        format!("nodes = [\"{url}\"]\npassword = \"{SECRET}\""),
        format!("nodes = [\"{url}\"]\npassword_file = \"secret\""),
        format!("[[nodes]]\nurl = \"{url}\"\nusername = \"default\"\npassword_file = {secret:?}"),
        format!(
            "nodes = [\"{}\"]\npassword = \"wrong\"",
            with_password(&server, SECRET)
        ),
    ] {
        let config = file("config", &text);
        assert_locks(redlock(["--config"]).arg(config));
    }
    // What stands beside the node is nearer to it than the environment.
    let own = file(
        "config",
        &format!("[[nodes]]\nurl = \"{url}\"\npassword = \"{SECRET}\""),
    );
    assert_locks(
        redlock(["--config"])
            .arg(own)
            .env("REDLOCK_PASSWORD", "wrong"),
    );
}

#[test]
fn a_user_of_ones_own() {
    let server = server();
    let user = ["ACL", "SETUSER", "app", "on", ">app-secret", "~*", "+@all"];
    assert_eq!(server.cli(&user), "OK");
    let mut command = redlock(["--node", &server.url()]);
    assert_locks(
        command
            .env("REDLOCK_USERNAME", "app")
            .env("REDLOCK_PASSWORD", "app-secret"),
    );
    let url = server.url().replace("redis://", "redis://app@");
    assert_locks(redlock(["--node", &url]).env("REDLOCK_PASSWORD", "app-secret"));
}

#[test]
fn a_password_among_the_arguments_is_refused() {
    for url in [
        "redis://:correct-horse@127.0.0.1:1",
        "rediss://user:correct-horse@127.0.0.1:1",
        "unix:/socket?pass=correct-horse",
        "redis-cluster://:correct-horse@127.0.0.1:1,127.0.0.1:2",
        "sentinel://:correct-horse@127.0.0.1:1/name",
    ] {
        let mut command = redlock(["--node", url, "run", "a", "--", "true"]);
        assert_complains(&mut command, 78, "--node: a password");
        assert!(!complained(&command.output().unwrap()).contains(SECRET));
    }
}

#[test]
fn no_message_shows_a_password() {
    let server = server();
    let wrong = with_password(&server, "wrong-horse");
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config");
    for text in [
        "nodes = \"redis://:wrong-horse@h\"",
        "nodes = [\"redis://:wrong-horse@h:port\"]",
        "nodes = [\"http://:wrong-horse@h\"]",
        "nodes = [\"redis://:wrong-horse\"]",
        "nodes = [\"redis://h\"]\npassword = [\"wrong-horse\"]",
        "nodes = [\"redis://h\"]\npassword = wrong-horse",
        "nodes = [\"redis://h\"]\npassword = \"wrong-horse",
        "nodes = [{ url = \"redis://h\", password = [\"wrong-horse\"] }]",
        "nodes = [{ url = \"redis://h\", \"wrong-horse\" }]",
    ] {
        fs::write(&config, text).unwrap();
        let output = redlock(["acquire", "a", "--config"])
            .arg(&config)
            .output()
            .unwrap();
        assert_code(&output, 78);
        assert!(!complained(&output).contains("wrong-horse"), "{output:?}");
    }
    for args in [
        &["-v", "run", "a", "--", "true"][..],
        &["-v", "acquire", "a"],
        &["-v", "inspect", "a"],
        &["check", "--json"],
        &["force-release", "--yes", "a"],
        &["run", "--help"],
        &["extend", "--help"],
        &["help", "release"],
        &["--help"],
        &["extend", "--frobnicate"],
    ] {
        let mut command = redlock(args.iter().copied());
        command
            .env("REDLOCK_NODES", &wrong)
            .env("REDLOCK_PASSWORD", "wrong-horse")
            .env("REDLOCK_VALUE", "wrong-horse");
        let output = command.output().unwrap();
        assert!(!format!("{output:?}").contains("wrong-horse"), "{output:?}");
    }
}

#[test]
fn the_list_of_processes_shows_neither_a_password_nor_the_value() {
    let server = server();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let script = "ps -A -ww -o args= >$1; echo $REDLOCK_VALUE; echo 1 >$2";
    let mut command = redlock(["run", "--shell", "a", "--", script]);
    command.arg(&file).arg(directory.path().join("done"));
    let output = command
        .env("REDLOCK_NODES", with_password(&server, SECRET))
        .output()
        .unwrap();
    assert_code(&output, 0);
    numbers(&directory.path().join("done"), 1);
    let processes = fs::read_to_string(file).unwrap();
    assert!(processes.contains("redlock-watchdog"), "{processes}");
    assert!(!processes.contains(&format!(":{SECRET}@")), "{processes}");
    assert!(!processes.contains(said(&output).trim()), "{processes}");
}

#[test]
fn an_argument_that_is_out_of_place_is_not_repeated_with_its_password() {
    for url in [
        "redis://:wrong-horse@h:1",
        "redis://user:wrong-horse's@h:1",
        "sentinels://:wrong-horse@h:1,i:2/name",
        "unix:/socket?pass=wrong-horse",
    ] {
        let option = format!("--frobnicate={url}");
        let wait = format!("--wait={url}");
        for args in [
            &[url][..],
            &["check", url],
            &["extend", "--value", "v", "--ttl", url, "a"],
            &["run", &option, "a", "--", "true"],
            &["run", &wait, "a", "--", "true"],
            &["watch", "--interval", url],
            &["completions", url],
        ] {
            let mut command = redlock(args.iter().copied());
            assert_complains(&mut command, 64, "see `redlock --help`");
            let said = complained(&command.output().unwrap());
            assert!(!said.contains("wrong-horse"), "{said}");
        }
    }
}
