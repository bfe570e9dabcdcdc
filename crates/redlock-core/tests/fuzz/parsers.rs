//! Texts of the user and of servers.

use std::collections::BTreeSet;

use proptest::prelude::*;
use redlock_core::{
    BackendErrorKind, FencingToken, InvalidRequest, LockValue, Proposal, RawValue, Resources,
    redis::{error_reply, same_slot},
};

/// Any text, with those characters often that mean something somewhere.
pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-c{}:*\\[\\] ]{0,8}",
        "[\\x00-\\x7f]{0,12}",
        "[!-~]{1,60}",
    ]
}

/// The slot of a key as the specification tells it, a bit at a time.
fn slot(key: &[u8]) -> u16 {
    let mut hashed = key;
    if let Some(open) = key.iter().position(|byte| *byte == b'{') {
        let rest = &key[open + 1..];
        if let Some(close @ 1..) = rest.iter().position(|byte| *byte == b'}') {
            hashed = &rest[..close];
        }
    }
    let mut crc = 0_u16;
    for byte in hashed {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            let carry = crc & 0x8000 != 0;
            crc <<= 1;
            if carry {
                crc ^= 0x1021;
            }
        }
    }
    crc & 0x3fff
}

#[test]
fn the_reference_counts_as_the_specification() {
    assert_eq!(slot(b"123456789"), 0x31c3);
    assert_eq!(slot(b"foo{bar}zap"), slot(b"bar"));
}

proptest! {
    #[test]
    fn a_lock_value_is_any_visible_ascii_and_shows_at_most_half_of_itself(text in text()) {
        let visible = |character| ('!'..='~').contains(&character);
        let expected = !text.is_empty() && text.chars().all(visible);
        match text.parse::<LockValue>() {
            Ok(value) => {
                prop_assert!(expected, "{text:?} was taken");
                prop_assert_eq!(value.as_str(), &text);
                let shown = format!("{value:?}");
                prop_assert!(text.len() < 16 || !shown.contains(&text), "{}", shown);
                prop_assert!(shown.len() <= "LockValue(…)".len() + 4 * 6, "{}", shown);
            }
            Err(error) => {
                prop_assert!(!expected, "{text:?} was refused");
                prop_assert_eq!(error, InvalidRequest::Value);
            }
        }
    }

    #[test]
    fn any_bytes_are_carried_whole_and_shown_in_part_without_controls(bytes: Vec<u8>) {
        let value = RawValue::from(bytes.clone());
        prop_assert_eq!(value.as_bytes(), &bytes[..]);
        prop_assert_eq!(value.text(), String::from_utf8_lossy(&bytes));
        let shown = value.to_string();
        prop_assert_eq!(&format!("{value:?}"), &format!("RawValue({shown})"));
        prop_assert!(!shown.chars().any(char::is_control), "{:?}", shown);
        let told = shown.strip_suffix('…').expect("it is cut off");
        let start: String = value.text().chars().take(4).collect();
        prop_assert!(start.escape_debug().to_string().starts_with(told));
        if let Ok(same) = value.text().parse::<LockValue>() {
            prop_assert_eq!(value, same);
        }
    }

    #[test]
    fn resources_are_some_distinct_names_in_order(
        names in prop::collection::vec(prop_oneof!["[ab]{0,2}", text()], 0..6)
    ) {
        let distinct: BTreeSet<_> = names.iter().cloned().collect();
        let expected = if names.is_empty() {
            Err(InvalidRequest::NoResources)
        } else if distinct.contains("") {
            Err(InvalidRequest::EmptyResource)
        } else if distinct.len() < names.len() {
            let twice = |name: &&String| names.iter().filter(|other| other == name).count() > 1;
            let first = distinct.iter().find(twice).expect("one stands twice");
            Err(InvalidRequest::DuplicateResource(first.clone()))
        } else {
            Ok(distinct.into_iter().collect::<Vec<_>>())
        };
        let resources = Resources::new(names);
        prop_assert_eq!(resources.clone().map(|it| it.to_vec()), expected);
        if let Ok(resources) = resources {
            prop_assert_eq!(Resources::new(resources.to_vec()), Ok(resources));
        }
    }

    #[test]
    fn keys_share_a_slot_where_the_specification_says_so(
        prefix in "[a{}]{0,4}",
        names in prop::collection::btree_set(prop_oneof!["[ab{}]{1,6}", "\\PC{1,8}"], 1..4),
    ) {
        let slots: BTreeSet<_> = names
            .iter()
            .map(|name| slot(format!("{prefix}{name}").as_bytes()))
            .collect();
        let told = same_slot(&prefix, &Resources::new(names).expect("names"));
        prop_assert_eq!(told.is_ok(), slots.len() == 1, "{:?}", told);
    }

    #[test]
    fn an_admitted_token_is_above_all_fences_and_what_is_told_instead_would_be_admitted(
        token: u64,
        fences in prop::collection::vec(any::<u64>(), 0..4),
        now in prop_oneof![any::<u64>(), 0..=FencingToken::MAX.get()],
    ) {
        let token = FencingToken::new(token);
        prop_assert!(token <= FencingToken::MAX);
        let fences = fences.into_iter().map(FencingToken::new);
        match Proposal::new(token, None).admit(fences.clone(), now) {
            Ok(()) => prop_assert!(fences.clone().all(|fence| fence < token)),
            Err(next) => {
                let again = Proposal::new(next.token(), None).admit(fences.clone(), now);
                let exhausted = now > FencingToken::MAX.get()
                    || fences.clone().any(|fence| fence == FencingToken::MAX);
                prop_assert!(again.is_ok() || exhausted, "{:?} and not {:?}", again, next);
            }
        }
    }

    #[test]
    fn of_an_error_reply_only_a_code_in_capitals_says_that_nothing_happened(
        code in prop_oneof![
            "[A-Z]{1,12}",
            text(),
            prop::sample::select(&CODES[..]).prop_map(Into::into),
        ],
        rest in prop_oneof![
            text(),
            "(unknown|unsupported) command.*",
            "syntax error.*",
            "ACL failure in script.*",
        ],
        separator in "[ \t\r\n]?",
    ) {
        let text = format!("{code}{separator}{rest}");
        let error = error_reply(&text, text.clone());
        let first: Vec<char> = text.chars().take_while(|it| *it != ' ').collect();
        let is_code = !first.is_empty() && first.iter().all(char::is_ascii_uppercase);
        prop_assert_eq!(error.may_have_happened(), !is_code);
        if error.kind() == BackendErrorKind::Unsupported {
            prop_assert!(text.starts_with("NOPERM") || text.starts_with("ERR "));
        } else {
            prop_assert_eq!(error.kind(), BackendErrorKind::Server);
        }
        prop_assert_eq!(error.to_string(), format!("{}: {text}", error.kind()));
    }
}

/// Codes that servers are known to use.
pub const CODES: [&str; 22] = [
    "ERR",
    "NOPERM",
    "NOAUTH",
    "WRONGPASS",
    "NOSCRIPT",
    "READONLY",
    "NOREPLICAS",
    "MASTERDOWN",
    "LOADING",
    "BUSY",
    "BUSYKEY",
    "OOM",
    "MISCONF",
    "WRONGTYPE",
    "EXECABORT",
    "MOVED",
    "ASK",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "CROSSSLOT",
    "UNKILLABLE",
    "DENIED",
];
