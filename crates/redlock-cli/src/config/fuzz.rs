//! Any file at all: no panic, and no password in a message.

use proptest::prelude::*;

use super::*;

const SECRET: &str = "geheim8675309";

/// Something like a line of the file.
fn line() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "nodes",
        "username",
        "password",
        "restart_guard",
        "fencing",
        "url",
        "other",
        "[nodes]",
        "[[nodes]]",
        "password.a",
        "",
    ]);
    let value = prop::sample::select(vec![
        "\"SECRET\"",
        "'SECRET'",
        "SECRET",
        "\"SECRET",
        "\"SECRET\\q\"",
        "'''SECRET",
        "\"\"\"\nSECRET\n\"\"\"",
        "[\"SECRET\"]",
        "[\"redis://app:SECRET@h\"]",
        "[\"redis://app:SECRET@h:x\", \"sentinel://:SECRET@h\"]",
        "[{ url = \"redis://h\", password = \"SECRET\" }]",
        "[{ url = \"redis://h\", password = \"SECRET\", other = 1 }]",
        "[{ url = \"redis://:SECRET@h:1:2\", username = 1 }]",
        "{ url = \"SECRET\" }",
        "8675309",
        "1979-05-27",
        "true",
        "",
    ]);
    let separator = prop_oneof![8 => Just(" = "), 1 => Just(" "), 1 => Just("=="), 1 => Just(":")];
    prop_oneof![
        8 => (name, separator, value).prop_map(|(name, separator, value)| {
            format!("{name}{separator}{value}").replace("SECRET", SECRET)
        }),
        1 => "[\\PC\\t]{0,20}",
    ]
}

proptest! {
    #[test]
    fn a_message_never_tells_a_password(lines in prop::collection::vec(line(), 0..6)) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config.toml");
        fs::write(&path, lines.join("\n")).expect("it is writable");
        if let Err(failure) = from_file(&path, Environment::default()) {
            let shown = format!("{failure:?}");
            prop_assert!(!shown.contains(SECRET), "{}", shown);
            prop_assert!(!shown.contains("8675309"), "{}", shown);
        }
    }

    #[test]
    fn urls_are_parted_without_a_loss(urls in "[a-z:/,@ \\n]{0,40}|\\PC{0,20}") {
        let kept = |text: &str| -> Vec<char> {
            text.chars().filter(|it| !it.is_whitespace() && *it != ',').collect()
        };
        let parts = split(&urls);
        prop_assert_eq!(kept(&parts.concat()), kept(&urls));
        prop_assert!(parts.iter().all(|url| !url.is_empty() && !url.ends_with(',')));
        prop_assert!(!parts.iter().any(|url| url.contains(char::is_whitespace)));
    }

    #[test]
    fn what_is_shown_of_a_message_is_a_part_of_it(message in "(invalid )?[a-z\"`\\PC]{0,30}") {
        let shown = without_values(&message);
        prop_assert!(shown.len() <= message.len() + '…'.len_utf8());
        if let Some((start, end)) = shown.split_once('…').filter(|_| shown != message) {
            prop_assert!(message.starts_with(start) && message.ends_with(end));
        }
    }
}
