//! The guide says what the tests check.

use std::{fs, path::Path};

#[test]
fn every_test_that_a_chapter_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace");
    let chapters = fs::read_dir(root.join("crates/redlock/src/guide")).expect("the guide");
    let chapters = chapters.map(|chapter| fs::read_to_string(chapter.expect("a file").path()));
    let guide: String = chapters
        .map(|chapter| chapter.expect("a chapter"))
        .collect();
    let mut named = 0;
    for quoted in guide.split('`').skip(1).step_by(2) {
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
