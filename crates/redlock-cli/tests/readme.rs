//! What the READMEs offer to be pasted works.

mod common;

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use redlock_test::server::RedisServer;
use tempfile::TempDir;

use common::{assert_clean, assert_code, hold, said};

const READMES: [&str; 2] = [
    include_str!("../README.md"),
    include_str!("../../../README.md"),
];

/// The text of the only block of this kind that contains this.
fn block<'a>(readme: &'a str, kind: &str, with: &str) -> &'a str {
    let fence = format!("```{kind}\n");
    let blocks = readme.split(&fence).skip(1);
    let blocks = blocks.filter_map(|rest| Some(rest.split_once("```")?.0));
    let blocks: Vec<_> = blocks.filter(|block| block.contains(with)).collect();
    let [block] = blocks[..] else {
        panic!("{kind} with {with}: {blocks:?}");
    };
    block
}

/// A place where the command and others are installed, each of which says its name.
fn installed(servers: &[RedisServer], scripts: &[&str]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    symlink(env!("CARGO_BIN_EXE_redlock"), at("redlock")).unwrap();
    for name in scripts {
        // Not written here: while this process writes a file, what it starts meanwhile keeps that busy.
        symlink(
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/says.sh"),
            at(name),
        )
        .unwrap();
    }
    let nodes: Vec<_> = servers.iter().map(RedisServer::url).collect();
    fs::write(at("redlock.toml"), format!("nodes = {nodes:?}")).unwrap();
    directory
}

/// The text, for this place.
fn moved(text: &str, to: &Path) -> String {
    let to = to.display();
    text.replace("/usr/local/bin", &to.to_string())
        .replace("/etc/", &format!("{to}/"))
}

#[test]
fn the_crontab() {
    for readme in READMES {
        let servers = RedisServer::start_many(3);
        let place = installed(&servers, &["report"]);
        let table = moved(block(readme, "cron", "redlock run"), place.path());
        let mut job = Command::new("/bin/sh");
        // As cron does it.
        job.env_clear()
            .env("PATH", "/usr/bin:/bin")
            .current_dir("/");
        let mut jobs = 0;
        for line in table.lines() {
            match line.split_once('=') {
                Some((name, value)) if !name.contains(' ') => {
                    job.env(name, value);
                }
                _ => {
                    let command: Vec<_> = line.splitn(6, ' ').collect();
                    job.args(["-c", command[5]]);
                    jobs += 1;
                }
            }
        }
        assert_eq!(jobs, 1, "{table}");
        let output = job.output().unwrap();
        assert_code(&output, 0);
        assert_eq!(said(&output), "report\n");
        hold(&servers, "nightly-report");
        let output = job.output().unwrap();
        assert_code(&output, 0);
        assert_eq!((said(&output).as_str(), &output.stderr[..]), ("", &b""[..]));
    }
}

#[test]
fn the_service() {
    for readme in READMES {
        let servers = RedisServer::start_many(3);
        let place = installed(&servers, &["report"]);
        let unit = moved(block(readme, "ini", "[Service]"), place.path());
        let setting = |name: &str| {
            let mut lines = unit.lines().filter_map(|line| line.split_once('='));
            lines.find(|(key, _)| *key == name).unwrap().1
        };
        let mut words = setting("ExecStart").split(' ');
        let mut service = Command::new(words.next().unwrap());
        let (name, value) = setting("Environment").split_once('=').unwrap();
        service.env_clear().args(words).env(name, value);
        let output = service.output().unwrap();
        assert_code(&output, 0);
        assert_eq!(said(&output), "report\n");
        hold(&servers, "nightly-report");
        let code = service.output().unwrap().status.code().unwrap();
        assert_eq!(setting("SuccessExitStatus"), code.to_string());
    }
}

#[test]
fn the_steps_of_a_pipeline_and_of_a_fenced_deployment() {
    let servers = RedisServer::start_many(3);
    let place = installed(&servers, &["build.sh", "deploy.sh"]);
    let run = |script: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).current_dir(&place);
        shell.env("REDLOCK_CONFIG", place.path().join("redlock.toml"));
        let path = format!("{}:/usr/bin:/bin", place.path().display());
        let output = shell.env("PATH", path).output().unwrap();
        assert_code(&output, 0);
        assert_eq!(output.stderr, b"");
        said(&output)
    };
    assert_eq!(
        run(block(READMES[0], "sh", "trap 'redlock")),
        "build.sh\ndeploy.sh\n"
    );
    assert_clean(&servers);
    let said = run(block(READMES[0], "sh", "acquire --fencing"));
    let token = said
        .trim_end()
        .strip_prefix("deploy.sh --fencing-token ")
        .unwrap();
    assert!(token.parse::<u64>().unwrap() > 0);
    assert!(
        servers
            .iter()
            .all(|it| it.cli(&["EXISTS", "deploy"]) == "0")
    );
}
