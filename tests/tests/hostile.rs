//! Nodes whose server is hostile or broken: every operation ends in time, nothing panics, a vote is granted
//! only by the reply that means it, and once the server is honest the node works again.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use proptest::{prelude::*, test_runner::TestCaseError};
use redlock::{
    FencingToken, FredNode, LockBackend, LockValue, Proposal, RedisNode, RedisNodeBuilder,
    Resources, SentinelNode, Vote,
    fred::fred::types::{RespVersion, config::Config as FredConfig},
    redis_rs::deadpool_redis::{Config, PoolConfig, Runtime},
};
use redlock_test::{
    hostile::{Act, Hostile},
    server::RedisServer,
};
use tests::hostile::{
    Answer, Played, Script, config, greeting, lock, lookalikes, panics, script, sentinel,
};
use tokio::time::{Instant, sleep, timeout};

const CONNECT: Duration = Duration::from_millis(200);
const RESPONSE: Duration = Duration::from_millis(100);

/// For as many commands as an operation has, each answered at the last moment.
const BOUND: Duration = Duration::from_secs(30);

/// Until the node has noticed that its server is honest again.
const RECOVERY: Duration = Duration::from_secs(60);

const TTL: Duration = Duration::from_secs(20);

/// Has every connection examined, and lets a server vote as soon as it has been.
const GUARD: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug)]
enum Operation {
    Acquire,
    AcquireFenced,
    Extend,
    Release,
    Inspect,
}

fn operations() -> impl Strategy<Value = Vec<(Operation, usize)>> {
    use Operation::{Acquire, AcquireFenced, Extend, Inspect, Release};
    let operation = prop::sample::select(vec![
        Acquire,
        Acquire,
        AcquireFenced,
        Extend,
        Release,
        Inspect,
    ]);
    prop::collection::vec((operation, 1..3_usize), 1..6)
}

async fn ask(
    node: &dyn LockBackend,
    operation: Operation,
    resources: &Resources,
    value: &LockValue,
) -> Option<Vote> {
    match operation {
        Operation::Acquire => node.acquire(resources, value, TTL).await.ok(),
        Operation::AcquireFenced => {
            let proposal = Proposal::new(FencingToken::new(7), None);
            let asked = node.acquire_fenced(resources, value, TTL, proposal);
            asked.await.ok()
        }
        Operation::Extend => node.extend(resources, value, TTL).await.ok(),
        Operation::Release => node.release(resources, value).await.ok(),
        Operation::Inspect => {
            let _ = node.inspect(&resources[0]).await;
            None
        }
    }
}

/// Whether this vote can have come of what the server has said since `from`.
fn is_justified(played: &Played, from: usize, operation: Operation, keys: usize) -> bool {
    let asked = played.log[from..].iter();
    let granted = if let Operation::Release = operation {
        // Four times as many as there are, and up to three more, which say who waits and what is permitted.
        let all = |(words, answer): &&(Vec<String>, Answer)| {
            let mut granted = (4 * keys..4 * keys + 4).map(|it| format!(":{it}\r\n"));
            words[0].starts_with("EVAL") && granted.any(|it| answer.is(&it))
        };
        let one = |(words, answer): &&(Vec<String>, Answer)| {
            words[0].starts_with("DEL") && answer.is(":1\r\n")
        };
        asked.clone().any(|it| all(&it)) || asked.filter(one).count() >= keys
    } else {
        // An acquire that is in doubt is released meanwhile.
        let ours = |words: &[String]| {
            let last = words.last().map(String::as_str);
            matches!(last, Some("20000" | "KEEPTTL" | "1000000"))
        };
        let last = asked.rev().find(|(words, _)| ours(words));
        last.is_some_and(|(words, answer)| {
            let is_set = words[0] == "SET";
            answer.is(if is_set { "+OK\r\n" } else { ":1\r\n" })
        })
    };
    granted || played.is_out_of_step()
}

/// The system's server, honest.
fn honest() -> &'static RedisServer {
    static SERVER: OnceLock<RedisServer> = OnceLock::new();
    SERVER.get_or_init(RedisServer::start)
}

/// Has it do everything, again and again until everything is granted.
async fn works_again(node: &dyn LockBackend) -> Result<(), TestCaseError> {
    let names = [LockValue::random(), LockValue::random()];
    let resources = Resources::new(names.each_ref().map(LockValue::as_str)).expect("names");
    let deadline = Instant::now() + RECOVERY;
    loop {
        let value = LockValue::random();
        let acquired = node.acquire(&resources, &value, TTL).await;
        let extended = node.extend(&resources, &value, TTL).await;
        let released = node.release(&resources, &value).await;
        let votes = [acquired, extended, released];
        if votes.iter().all(|vote| matches!(vote, Ok(Vote::Granted))) {
            return Ok(());
        }
        prop_assert!(Instant::now() < deadline, "useless for ever: {:?}", votes);
        sleep(Duration::from_millis(20)).await;
    }
}

async fn outlives<N: LockBackend>(
    script: Script,
    operations: Vec<(Operation, usize)>,
    node: impl FnOnce(&Hostile) -> N,
) -> Result<(), TestCaseError> {
    let panicked = panics();
    let (server, played) = script.start().await.expect("it listens");
    let node = node(&server);
    votes_are_what_was_said(&node, &played, operations).await?;
    server.lead_to(honest().address());
    works_again(&node).await?;
    prop_assert_eq!(panics(), panicked, "something panicked");
    Ok(())
}

async fn votes_are_what_was_said(
    node: &dyn LockBackend,
    played: &Arc<Mutex<Played>>,
    operations: Vec<(Operation, usize)>,
) -> Result<(), TestCaseError> {
    let value = LockValue::random();
    for (operation, keys) in operations {
        let resources = Resources::new(["a", "b"].into_iter().take(keys)).expect("names");
        let from = lock(played).log.len();
        let vote = timeout(BOUND, ask(node, operation, &resources, &value)).await;
        let played = lock(played);
        prop_assert!(vote.is_ok(), "{:?} never ends: {:?}", operation, played.log);
        if vote == Ok(Some(Vote::Granted)) {
            let justified = is_justified(&played, from, operation, keys);
            prop_assert!(
                justified,
                "{:?} was granted by {:?}",
                operation,
                &played.log[from..]
            );
        }
    }
    Ok(())
}

fn run(test: impl Future<Output = Result<(), TestCaseError>>) -> Result<(), TestCaseError> {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = || tokio::runtime::Runtime::new().expect("a runtime");
    RUNTIME.get_or_init(runtime).block_on(test)
}

#[tokio::test]
async fn what_only_looks_like_a_grant_grants_nothing() {
    use Operation::{Acquire, AcquireFenced, Extend, Release};
    for script in lookalikes() {
        let (server, played) = script.start().await.expect("it listens");
        let fred = FredConfig::from_url(&server.url()).expect("a URL");
        let nodes: [&dyn LockBackend; 2] = [
            &settings(false).open(server.url()).expect("a URL"),
            &FredNode::builder().config(fred).expect("an address"),
        ];
        let single = Resources::new(["a"]).expect("a name");
        for node in nodes {
            for operation in [Acquire, AcquireFenced, Extend, Release] {
                let from = lock(&played).log.len();
                let vote = ask(node, operation, &single, &LockValue::random()).await;
                let played = lock(&played);
                assert!(
                    vote != Some(Vote::Granted) || is_justified(&played, from, operation, 1),
                    "{node:?}: {operation:?} by {:?}",
                    &played.log[from..]
                );
            }
        }
        assert!(!lock(&played).log.is_empty(), "nobody asked");
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn over_a_connection_of_redis_rs(
        script in script(), operations in operations(), guarded: bool,
    ) {
        run(outlives(script, operations, |server| {
            settings(guarded).open(server.url()).expect("a URL")
        }))?;
    }

    #[test]
    fn over_a_pool_of_redis_rs(
        script in script(), operations in operations(), guarded: bool,
    ) {
        run(outlives(script, operations, |server| {
            let mut config = Config::from_url(server.url());
            config.pool = Some(PoolConfig::new(2));
            let pool = config.create_pool(Some(Runtime::Tokio1)).expect("a URL");
            settings(guarded).pool(pool)
        }))?;
    }

    #[test]
    fn over_fred(
        script in script(), operations in operations(), guarded: bool,
    ) {
        run(outlives(script.clone(), operations, |server| {
            let mut config = FredConfig::from_url(&server.url()).expect("a URL");
            if script.resp3 {
                config.version = RespVersion::RESP3;
            }
            let settings = FredNode::builder().connect_timeout(CONNECT).response_timeout(RESPONSE);
            let settings = if guarded { settings.restart_guard(GUARD) } else { settings };
            settings.config(config).expect("an address")
        }))?;
    }

    #[test]
    fn of_a_master_that_an_honest_sentinel_names(script in script(), operations in operations()) {
        run(async {
            let panicked = panics();
            let (master, played) = script.start().await.expect("it listens");
            let port = master.address().port();
            let names = Hostile::start(move |words| honest_sentinel(&words, port)).await;
            let sentinel = names.expect("it listens");
            let node = sentinel_node(&sentinel);
            votes_are_what_was_said(&node, &played, operations).await?;
            master.lead_to(honest().address());
            works_again(&node).await?;
            prop_assert_eq!(panics(), panicked, "something panicked");
            Ok(())
        })?;
    }

    #[test]
    fn whose_sentinel_is_hostile(script in script(), operations in operations()) {
        run(async {
            let panicked = panics();
            let port = honest().address().port();
            let is_honest = Arc::new(AtomicBool::new(false));
            let switch = Arc::clone(&is_honest);
            let first = move |words: &[String]| {
                let honest = switch.load(SeqCst).then(|| sentinel(words, port, 1_000_000));
                honest.flatten()
            };
            // It could not become honest with it.
            let unasked = Vec::new();
            let script = Script { unasked, ..script };
            let (server, _) = script.start_behind(Box::new(first)).await.expect("it listens");
            let node = sentinel_node(&server);
            let resources = Resources::new(["a"]).expect("a name");
            for (operation, _) in operations {
                let value = LockValue::random();
                let vote = timeout(BOUND, ask(&node, operation, &resources, &value)).await;
                prop_assert_eq!(vote, Ok(None), "no master was named");
            }
            is_honest.store(true, SeqCst);
            works_again(&node).await?;
            prop_assert_eq!(panics(), panicked, "something panicked");
            Ok(())
        })?;
    }
}

fn settings(guarded: bool) -> RedisNodeBuilder {
    let settings = RedisNode::builder()
        .connect_timeout(CONNECT)
        .response_timeout(RESPONSE);
    if guarded {
        settings.restart_guard(GUARD)
    } else {
        settings
    }
}

fn sentinel_node(sentinel: &Hostile) -> SentinelNode {
    let builder = SentinelNode::builder().settings(settings(false));
    builder.open([sentinel.url()], "locks").expect("a URL")
}

fn honest_sentinel(words: &[String], port: u16) -> Vec<Act> {
    let what = words.get(1).map(String::as_str);
    let named = sentinel(words, port, 1);
    let reply = named.or_else(|| greeting(words.first()?, what, false));
    reply.map(Act::Send).into_iter().collect()
}
