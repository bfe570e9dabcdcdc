//! Names of resources, of nodes, and values.

use redlock_core::{LockValue, Vote};

use super::{LONG, Subject, names, set};

/// Clauses 1, 2: a name is nothing but a name, however strange, and none is taken for another.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn names_are_just_names(subject: Subject) {
    let [unique] = names();
    let long = "x".repeat(10_000);
    let endings = [
        "",
        " ",
        "a",
        "A",
        "a ",
        "ab",
        "*",
        "a*",
        "?",
        "[a-z]",
        "%",
        "_",
        "\\",
        "'; DROP TABLE locks; --",
        "\"",
        "\r\n$5\r\nhello\r\n",
        "\0",
        "a\0",
        "ä",
        "a\u{308}",
        "🔑",
        "{}",
        "/../",
        ":",
        long.as_str(),
    ];
    let mut held = Vec::new();
    for ending in endings {
        let resource = set([format!("{unique}{ending}")]);
        let value = subject.us().hold(&resource, LONG).await;
        held.push((resource, value));
    }
    for (resource, value) in held {
        let free = subject.them().finds_free(&resource).await;
        assert!(!free, "clause 2: {resource:?} is held");
        let vote = subject.us().extend(&resource, &value, LONG).await;
        assert_eq!(vote, Vote::Granted, "clause 5: {resource:?} is ours");
        let vote = subject.us().release(&resource, &value).await;
        assert_eq!(vote, Vote::Granted, "clause 4: {resource:?} is ours");
    }
}

/// Clauses 4, 5: a value that is only like the holder's is another value.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn values_are_compared_whole(subject: Subject) {
    let resource = set(names::<1>());
    let value = |text: &str| -> LockValue { text.parse().expect("a value") };
    let ours = value("7e-Value%");
    let vote = subject.us().acquire(&resource, &ours, LONG).await;
    assert_eq!(vote, Vote::Granted, "clause 1: {resource} is free");
    for other in ["7", "7e-Value", "7e-Value%%", "7e-value%", "%", "70"] {
        let other = value(other);
        let vote = subject.us().extend(&resource, &other, LONG).await;
        assert_eq!(vote, Vote::Refused, "clause 5: {}", other.as_str());
        let vote = subject.us().release(&resource, &other).await;
        assert_eq!(vote, Vote::Refused, "clause 4: {}", other.as_str());
    }
    let vote = subject.us().release(&resource, &ours).await;
    assert_eq!(vote, Vote::Granted, "clause 4: {resource} is ours");
}

/// Clauses 4, 5: the same resources in another order, or one by one, are the same resources.
///
/// # Panics
///
/// When the node breaks the clause.
pub async fn the_order_of_the_resources_does_not_matter(subject: Subject) {
    let [a, b, c]: [String; 3] = names();
    let ours = subject.us().hold(&set([&a, &b, &c]), LONG).await;
    let vote = subject.us().extend(&set([&c, &a, &b]), &ours, LONG).await;
    assert_eq!(vote, Vote::Granted, "clause 5: all of them are ours");
    let vote = subject.us().extend(&set([&b]), &ours, LONG).await;
    assert_eq!(vote, Vote::Granted, "clause 5: one of them is ours");
    for part in [set([&b]), set([&c, &a])] {
        let vote = subject.us().release(&part, &ours).await;
        assert_eq!(vote, Vote::Granted, "clause 4: {part} is ours");
    }
}

/// The name is the same whenever it is asked for, and one resource can always be locked.
///
/// # Panics
///
/// When the name changes, or [`check`](redlock_core::LockBackend::check) refuses.
pub async fn a_node_is_named_always_the_same(subject: Subject) {
    let node = subject.us().0;
    let name = || node.name().map(std::borrow::Cow::into_owned);
    let before = name();
    let resource = set(names::<1>());
    assert_eq!(node.check(&resource), Ok(()), "a resource cannot be locked");
    subject.us().hold(&resource, LONG).await;
    assert_eq!(name(), before, "the name tells votes apart");
}
