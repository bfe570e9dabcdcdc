//! Any URL at all: no panic, and nothing of a login in a reason.

use proptest::prelude::*;

use super::*;

const SECRET: &str = "geheim";

/// URLs, mostly with a login whose password is the secret.
fn url() -> impl Strategy<Value = String> {
    let scheme = prop::sample::select(vec![
        "redis://",
        "rediss://",
        "unix:",
        "redis+unix://",
        "valkey://",
        "redis-cluster://",
        "rediss-cluster://",
        "sentinel://",
        "sentinels://",
        "http://",
        "redis:",
        "",
    ]);
    let login = prop_oneof![
        Just(String::new()),
        "[a-z%@:/?#\\[\\] ]{0,4}".prop_map(|user| format!("{user}:{SECRET}@")),
        "[%/?#:@ ]{0,2}".prop_map(|odd| format!("app:{odd}{SECRET}{odd}@")),
        "[a-z]{0,3}".prop_map(|user| format!("{user}:{SECRET}%40%zz@")),
    ];
    let host = "([a-z0-9.%]{0,6}|\\[[0-9a-f:]{0,6}\\]?)(:[0-9x-]{0,6})?";
    let hosts = prop::collection::vec(host, 0..4).prop_map(|hosts| hosts.join(","));
    let rest = "(/[0-9a-z-]{0,4}){0,3}(\\?[a-z]{0,4}(=[a-z0-9]{0,4})?)?(#[a-z]{0,3})?";
    prop_oneof![
        8 => (scheme, login, hosts, rest).prop_map(|(scheme, login, hosts, rest)| {
            format!("{scheme}{login}{hosts}{rest}")
        }),
        1 => any::<String>(),
    ]
}

proptest! {
    #[test]
    fn a_reason_never_tells_the_password(url in url()) {
        let _ = has_password(&url);
        if let Err(reason) = open(&url, &Credentials::default(), None) {
            prop_assert!(!reason.contains(SECRET), "{:?}: {}", url, reason);
        }
    }

    #[test]
    fn a_password_in_a_url_that_can_be_used_is_noticed(url in url()) {
        let Ok(node) = open(&url, &Credentials::default(), None) else {
            return Ok(());
        };
        let infos = match node.servers {
            Servers::One(info) => vec![info],
            Servers::Members(infos) => infos,
            Servers::Group { sentinels, .. } => sentinels,
        };
        let used = infos.iter().any(|info| info.redis_settings().password().is_some());
        prop_assert_eq!(has_password(&url), used);
        let name = node.backend.name().unwrap_or_default();
        prop_assert!(!used || !name.contains(SECRET), "{}", name);
        let shown = format!("{:?}", node.backend);
        prop_assert!(!used || !shown.contains(SECRET), "{}", shown);
    }
}
