//! Help, completions and man pages say the same and say all.

mod common;

use std::fs;

use common::{assert_code, complained, redlock, said};

const COMMANDS: [&str; 9] = [
    "run",
    "acquire",
    "extend",
    "release",
    "inspect",
    "watch",
    "check",
    "force-release",
    "exit-codes",
];
const OPTIONS: [&str; 15] = [
    "--node",
    "--config",
    "--verbose",
    "--ttl",
    "--wait",
    "--grace",
    "--shell",
    "--value",
    "--json",
    "--quiet",
    "--interval",
    "--yes",
    "--fencing",
    "--probe-prefix",
    "--restart-guard",
];

/// As large as a terminal may be expected to be.
const SCREEN: (usize, usize) = (110, 40);

#[track_caller]
fn text_of(args: &[&str]) -> String {
    let output = redlock(args.iter().copied()).output().unwrap();
    assert_code(&output, 0);
    assert_eq!(complained(&output), "");
    said(&output)
}

#[test]
fn help_fits_a_screen_and_has_an_example() {
    for command in COMMANDS.into_iter().chain([""]) {
        let args: Vec<_> = [command, "--help"]
            .into_iter()
            .filter(|it| !it.is_empty())
            .collect();
        let help = text_of(&args);
        assert!(help.lines().count() <= SCREEN.1, "{command}");
        assert!(help.lines().all(|line| line.len() <= SCREEN.0), "{help}");
        assert!(
            help.contains("redlock ") && !help.contains('\x1b'),
            "{help}"
        );
        if command != "exit-codes" {
            assert!(help.contains("Example:\n"), "{help}");
        }
    }
    let help = text_of(&["--help"]);
    assert!(
        COMMANDS
            .iter()
            .all(|command| help.contains(&format!("\n  {command} "))),
        "{help}"
    );
}

#[test]
fn completions_for_each_shell_know_every_command_and_option() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = text_of(&["completions", shell]);
        for name in COMMANDS.into_iter().chain(OPTIONS) {
            let found = script.contains(name) || script.contains(&format!("-l {}", &name[2..]));
            assert!(found, "{shell}: {name}");
        }
    }
}

#[test]
fn man_pages_know_every_command_and_option() {
    let page = text_of(&["man"]).replace('\\', "");
    assert!(
        COMMANDS.iter().all(|command| page.contains(command)),
        "{page}"
    );
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(text_of(&["man", directory.path().to_str().unwrap()]), "");
    let mut all = String::new();
    for command in COMMANDS {
        let file = directory.path().join(format!("redlock-{command}.1"));
        all += &fs::read_to_string(file).unwrap().replace('\\', "");
    }
    assert!(OPTIONS.iter().all(|option| all.contains(option)), "{all}");
}
