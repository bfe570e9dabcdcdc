//! The guide says what the tests check.

use std::{fs, path::Path};

#[test]
fn every_test_that_the_chapter_on_guarantees_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace");
    let chapter = root.join("crates/redlock/src/guide/guarantees.md");
    let chapter = fs::read_to_string(chapter).expect("the chapter");
    let mut named = 0;
    for quoted in chapter.split('`').skip(1).step_by(2) {
        let Some((file, test)) = quoted.split_once(".rs: ") else {
            continue;
        };
        let file = root.join(format!("{file}.rs"));
        let tests = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        assert!(
            tests.contains(&format!("fn {test}(")),
            "{test} is not in {file:?}"
        );
        named += 1;
    }
    assert!(named > 20, "only {named} tests are named");
}
