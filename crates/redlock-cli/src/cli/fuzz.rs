//! Any command line at all is taken or refused.

use proptest::prelude::*;

use super::*;

fn word() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "run",
        "acquire",
        "extend",
        "release",
        "inspect",
        "watch",
        "check",
        "force-release",
        "exit-codes",
        "--node",
        "--config",
        "--wait",
        "--no-wait",
        "--ttl",
        "--conflict-exit-code",
        "--",
        "-v",
        "-h",
        "help",
        "a",
        "redis://h",
        "10s",
        "0",
        "75",
    ]);
    let duration = "-?[0-9]{0,20}(\\.[0-9]{1,3})? ?(ns|us|ms|s|m|min|h|d|w|M|y|years|x)?";
    prop_oneof![
        6 => known.prop_map(Into::into),
        3 => prop::collection::vec(duration, 1..4).prop_map(|parts| parts.concat()),
        1 => any::<String>(),
    ]
}

proptest! {
    #[test]
    fn words_are_options_values_or_a_mistake(words in prop::collection::vec(word(), 0..8)) {
        let words = std::iter::once("redlock".to_owned()).chain(words);
        if let Err(error) = Cli::try_parse_from(words) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
