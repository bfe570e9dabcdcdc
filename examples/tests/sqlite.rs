//! The node in an `SQLite` database keeps the contract.

use std::{thread, time::Duration};

use examples::sqlite::SqliteNode;
use redlock_core::{BackendErrorKind, LockBackend, LockValue, Redlock, Resources, Vote};
use redlock_test::conformance::Subject;
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// Two connections to one file, as two processes would have.
fn subject() -> Subject {
    let directory = TempDir::new().unwrap();
    let open = || SqliteNode::open(directory.path().join("node.db")).unwrap();
    Subject::new(open()).peer(open()).keeping(directory)
}

redlock_test::conformance!(subject());

const TTL: Duration = Duration::from_secs(100);

/// A node, and a connection that keeps everybody else from writing until `ROLLBACK`.
fn busy_node(directory: &TempDir) -> (SqliteNode, Connection) {
    let file = directory.path().join("node.db");
    let node = SqliteNode::open(&file).unwrap();
    let other = Connection::open(&file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    (node, other)
}

fn lock() -> (Resources, LockValue) {
    (Resources::new(["a", "b"]).unwrap(), LockValue::random())
}

#[tokio::test]
async fn a_node_that_stays_busy_says_that_it_did_nothing() {
    let directory = TempDir::new().unwrap();
    let (node, other) = busy_node(&directory);
    let (resources, value) = lock();
    let error = node.acquire(&resources, &value, TTL).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Timeout);
    assert!(!error.may_have_happened());

    other.execute_batch("ROLLBACK").unwrap();
    let vote = node.acquire(&resources, &value, TTL).await.unwrap();
    assert_eq!(vote, Vote::Granted);
}

#[tokio::test]
async fn a_release_waits_for_an_acquire_that_was_dropped_while_the_node_was_busy() {
    let directory = TempDir::new().unwrap();
    let (node, other) = busy_node(&directory);
    let (resources, value) = lock();
    let acquire = node.acquire(&resources, &value, TTL);
    timeout(Duration::from_millis(50), acquire)
        .await
        .unwrap_err();
    let (released, ()) = tokio::join!(node.release(&resources, &value), async {
        sleep(Duration::from_millis(50)).await;
        other.execute_batch("ROLLBACK").unwrap();
    });
    assert_eq!(released.unwrap(), Vote::Granted, "the acquire came first");
}

#[tokio::test]
async fn a_lease_outlives_the_connection_and_is_as_long_as_one_likes() {
    let directory = TempDir::new().unwrap();
    let open = || SqliteNode::open(directory.path().join("node.db")).unwrap();
    let (resources, value) = lock();
    let vote = open().acquire(&resources, &value, Duration::MAX).await;
    assert_eq!(vote.unwrap(), Vote::Granted);
    let vote = open().extend(&resources, &value, Duration::MAX).await;
    assert_eq!(vote.unwrap(), Vote::Granted);
}

#[test]
fn one_database_is_not_counted_as_two_nodes() {
    let directory = TempDir::new().unwrap();
    let roundabout = directory.path().join("..");
    let roundabout = roundabout.join(directory.path().file_name().unwrap());
    let nodes =
        [directory.path(), &roundabout].map(|path| SqliteNode::open(path.join("node.db")).unwrap());
    let error = Redlock::new(nodes).unwrap_err();
    assert!(error.to_string().contains("node.db"), "{error}");
}

#[test]
fn many_may_open_a_new_database_at_once() {
    for _ in 0..10 {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("node.db");
        thread::scope(|scope| {
            let open = || SqliteNode::open(&file).unwrap();
            (0..8).for_each(|_| drop(scope.spawn(open)));
        });
    }
}

#[test]
fn the_readme_quotes_the_code_as_it_is() {
    let code = [include_str!("../src/sqlite.rs"), include_str!("sqlite.rs")].concat();
    let readme = include_str!("../../README.md");
    let mut quotes = 0;
    for block in readme.split("```rs\n").skip(1) {
        let quote = block.split("```").next().unwrap();
        assert!(code.contains(quote), "this is not in the code:\n{quote}");
        quotes += 1;
    }
    assert!(quotes > 0);
}
