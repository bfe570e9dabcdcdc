//! What a server answers.

use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::*;
use redlock_core::{
    BackendError, BackendErrorKind, FencingToken, LockBackend, LockValue, NextToken, Proposal,
    Resources, Vote,
    redis::{Capabilities, RedisBackend, Reply, same_slot},
};

use crate::{
    parsers::text,
    server::{Answer, Anything, answer, reply},
};

#[derive(Clone, Copy, Debug)]
enum Operation {
    Acquire,
    AcquireFenced,
    Release,
    Extend,
    Inspect,
    Examine,
}

const OPERATIONS: [Operation; 6] = [
    Operation::Acquire,
    Operation::AcquireFenced,
    Operation::Release,
    Operation::Extend,
    Operation::Inspect,
    Operation::Examine,
];

/// More than it ever takes: each way for each key, and a script in two forms.
const MOST_COMMANDS: usize = 2 * NAMES.len() + 4;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Who is asked is never waited for.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("it is answered at once")
}

/// The operation's vote; an inspection's is whether it found somebody, an examination's that it succeeded.
fn ask(
    backend: &RedisBackend<Anything>,
    operation: Operation,
    resources: &Resources,
    value: &LockValue,
) -> Result<Vote, BackendError> {
    let ttl = Duration::from_secs(1);
    match operation {
        Operation::Acquire => now(backend.acquire(resources, value, ttl)),
        Operation::AcquireFenced => {
            let proposal = Proposal::new(FencingToken::new(7), None);
            now(backend.acquire_fenced(resources, value, ttl, proposal))
        }
        Operation::Release => now(backend.release(resources, value)),
        Operation::Extend => now(backend.extend(resources, value, ttl)),
        Operation::Inspect => {
            let holder = now(backend.inspect(&resources[0]));
            holder.map(|holder| Vote::granted_if(holder.is_some()))
        }
        Operation::Examine => now(backend.examine()).map(|_| Vote::Granted),
    }
}

/// Whether this command can change nothing but what the operation is meant to change.
#[expect(
    clippy::match_same_arms,
    reason = "each operation has its own commands"
)]
fn is_harmless(words: &[String], operation: Operation, value: &LockValue) -> bool {
    let value = value.as_str();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match (operation, &words[..]) {
        (Operation::Acquire, ["SET", _, it, "NX", "PX", "1000"]) => *it == value,
        (Operation::Acquire, ["CLUSTER", "INFO"]) => true,
        (Operation::Acquire, ["MSETEX", count, pairs @ .., "NX", "PX", "1000"]) => {
            *count == (pairs.len() / 2).to_string() && pairs.chunks(2).all(|pair| pair[1] == value)
        }
        (Operation::AcquireFenced, ["EVAL" | "EVALSHA", .., it, "1000", "7", "0", _, _]) => {
            *it == value
        }
        (
            Operation::Release,
            ["DELEX", _, "IFEQ", it]
            | ["DELIFEQ", _, it]
            | ["EVAL" | "EVALSHA", .., it, "alone"]
            | ["EVAL" | "EVALSHA", .., it],
        )
        | (Operation::Acquire | Operation::Extend, ["EVAL" | "EVALSHA", .., it, "1000"]) => {
            *it == value
        }
        (
            Operation::Extend,
            ["SET", _, it, "IFEQ", same, "KEEPTTL"] | ["SET", _, it, "IFEQ", same, "PX", "1000"],
        ) => *it == value && *same == value,
        (Operation::Extend | Operation::Inspect, ["PTTL", _]) => true,
        (Operation::Inspect, ["GET", _]) => true,
        (Operation::Examine, ["INFO", "server" | "replication"]) => true,
        (Operation::Examine, ["EVAL" | "EVALSHA", _, "1", "redlock:guard", identity]) => {
            // Without a run the server could not be told from another.
            identity
                .split_once(' ')
                .is_some_and(|(run, _)| !run.is_empty())
        }
        _ => false,
    }
}

/// Whether these commands were answered with exactly what grants the operation.
fn is_granted(asked: &[(Vec<String>, Answer)], operation: Operation, keys: usize) -> bool {
    let Some(((words, last), before)) = asked.split_last() else {
        return false;
    };
    let count = i64::try_from(keys).expect("a few keys");
    match (operation, words[0].as_str()) {
        (Operation::Acquire | Operation::Extend, "SET") => last.is(&Reply::Ok),
        (Operation::Acquire, "MSETEX") => last.is(&Reply::Integer(1)),
        (Operation::Acquire | Operation::AcquireFenced | Operation::Extend, "EVAL" | "EVALSHA") => {
            last.is(&Reply::Integer(1))
        }
        (Operation::Examine, "EVAL" | "EVALSHA") => {
            matches!(last, Answer::Reply(Reply::Integer(0..)))
        }
        // What is more says that somebody waits, or that nothing beside the keys may be touched.
        (Operation::Release, "EVAL" | "EVALSHA") => {
            matches!(last, Answer::Reply(Reply::Integer(reply)) if reply.div_euclid(4) == count)
        }
        (Operation::Release, way) => {
            let deleted = asked.iter().rev().take(keys);
            let mut deleted = deleted.filter(|(words, _)| words[0] == way);
            deleted.clone().count() == keys && deleted.all(|(_, it)| it.is(&Reply::Integer(1)))
        }
        (Operation::Inspect, "GET") => {
            let is_value = matches!(last, Answer::Reply(Reply::Bulk(_)));
            let (_, left) = before.last().expect("PTTL comes first");
            is_value && matches!(left, Answer::Reply(Reply::Integer(_)))
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn no_reply_is_taken_for_another(reply in reply()) {
        let granted = reply.clone().granted();
        prop_assert_eq!(granted.as_ref().ok(), match reply {
            Reply::Ok => Some(&true),
            Reply::Nil => Some(&false),
            _ => None,
        });
        let integer = reply.clone().integer();
        match &reply {
            Reply::Integer(number) => prop_assert_eq!(integer.as_ref().ok(), Some(number)),
            _ => prop_assert!(integer.is_err()),
        }
        let value = reply.clone().value();
        match &reply {
            Reply::Bulk(bytes) => prop_assert_eq!(value.as_ref().unwrap().as_ref(), Some(bytes)),
            Reply::Nil => prop_assert_eq!(value.as_ref().ok(), Some(&None)),
            _ => prop_assert!(value.is_err()),
        }
        for error in [granted.err(), integer.err(), value.err()].into_iter().flatten() {
            let shown = error.to_string();
            prop_assert!(shown.chars().count() < 150 && !shown.contains('\n'), "{:?}", shown);
            prop_assert!(error.may_have_happened(), "it is not known what it did");
        }
    }

    #[test]
    fn a_key_is_the_prefix_and_the_name(prefix in text(), names in prop::collection::btree_set(text(), 1..5)) {
        let Ok(resources) = Resources::new(names.clone()) else {
            prop_assert!(names.contains(""));
            return Ok(());
        };
        let backend = RedisBackend::new(Anything::new(Vec::new())).key_prefix(&prefix);
        let expected: Vec<_> = names.iter().map(|name| prefix.clone() + name).collect();
        prop_assert_eq!(backend.keys(&resources).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_fence_is_in_the_slot_of_its_resource(
        prefix in "([ab]{1,3}|\\{[ab]{1,2}\\})?:?",
        name in prop_oneof!["[a-c:]{1,6}", "[a-c]{0,2}\\{[a-c]{1,2}\\}[{}a-c]{0,3}", "[^{}]{1,8}"],
    ) {
        let resources = Resources::new([name]).expect("a name");
        let backend = RedisBackend::new(Anything::new(Vec::new())).key_prefix(&prefix);
        let value = LockValue::random();
        let _ = ask(&backend, Operation::AcquireFenced, &resources, &value);
        let asked = backend.client().take_asked();
        let (words, _) = asked.first().expect("it asks");
        let keys = &words[3..5];
        prop_assert_ne!(&keys[0], &keys[1]);
        prop_assert!(keys.iter().all(|key| key.starts_with(&prefix)), "{:?}", keys);
        let together = Resources::new(keys.to_vec()).expect("two keys");
        prop_assert!(same_slot("", &together).is_ok(), "{:?}", keys);
    }

    /// Several operations, as what one learns of the server guides the next.
    #[test]
    fn whatever_a_server_answers_a_vote_is_what_it_said(
        answers in prop::collection::vec(answer(), 0..24),
        operations in prop::collection::vec(
            (prop::sample::select(&OPERATIONS[..]), 1..=NAMES.len()), 1..6
        ),
        scripts_only in prop::bool::weighted(0.2),
    ) {
        let capabilities = if scripts_only {
            Capabilities::scripts_only()
        } else {
            Capabilities::default()
        };
        let backend = RedisBackend::new(Anything::new(answers)).capabilities(capabilities);
        let value = LockValue::random();
        for (operation, keys) in operations {
            let resources = Resources::new(NAMES[..keys].to_vec()).expect("names");
            let vote = ask(&backend, operation, &resources, &value);
            let asked = backend.client().take_asked();
            prop_assert!(asked.len() <= MOST_COMMANDS, "{:?}", asked);
            for (words, _) in &asked {
                prop_assert!(is_harmless(words, operation, &value), "{:?}: {:?}", operation, words);
            }
            let granted = is_granted(&asked, operation, keys);
            prop_assert_eq!(matches!(vote, Ok(Vote::Granted)), granted, "{:?}: {:?}", vote, asked);
            let last = asked.last().map(|(_, answer)| answer);
            let refused_token = match (operation, last) {
                (Operation::AcquireFenced, Some(Answer::Reply(Reply::Integer(next)))) => {
                    let token = FencingToken::new(next.unsigned_abs());
                    match next {
                        0 | 1 => None,
                        2.. => Some(NextToken::Clock(token)),
                        _ => Some(NextToken::Fence(token)),
                    }
                }
                _ => None,
            };
            let next_token = vote.as_ref().err().and_then(BackendError::next_token);
            prop_assert_eq!(next_token, refused_token, "{:?}: {:?}", vote, asked);
            if let Err(error) = vote
                && !error.may_have_happened()
                && error.kind() != BackendErrorKind::TokenRefused
            {
                let reads = ["PTTL", "GET", "CLUSTER", "INFO"];
                let mut writes = asked.iter().filter(|(words, _)| !reads.contains(&words[0].as_str()));
                prop_assert!(writes.all(|(_, answer)| answer.refuses()), "{}: {:?}", error, asked);
            }
        }
    }
}

#[test]
fn a_release_of_which_a_part_is_unknown_is_unknown() {
    let forbidden = || Answer::Error("NOPERM not yours".to_owned());
    let (loading, unknown) = (Answer::Error("LOADING".into()), Answer::Reply(Reply::Nil));
    // The script in both forms, and then one key after the other.
    let answers = vec![forbidden(), forbidden(), loading, unknown];
    let backend = RedisBackend::new(Anything::new(answers));
    let resources = Resources::new(["a", "b"]).expect("names");
    let error = now(backend.release(&resources, &LockValue::random())).expect_err("no vote");
    assert!(error.may_have_happened(), "{error}");
}

#[test]
fn a_server_that_does_not_name_its_run_cannot_be_known() {
    let info = || Answer::Reply(Reply::Bulk("# Server\r\nrun_id:\r\n".into()));
    let answers = vec![info(), info(), Answer::Reply(Reply::Integer(1_000_000))];
    let backend = RedisBackend::new(Anything::new(answers));
    let error = now(backend.examine()).expect_err("it may be any");
    assert_eq!(error.kind(), BackendErrorKind::Unsupported);
}
