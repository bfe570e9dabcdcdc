//! What a hostile or broken server sends, invented, and whether a vote can have come of it.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use proptest::{prelude::*, test_runner::Config};
use redlock_test::hostile::{Act, Hostile};

/// What grants a `SET`, any other command but a release by script, and such a release of one resource and of two.
const GRANTS: [&[u8]; 4] = [b"+OK\r\n", b":1\r\n", b":4\r\n", b":8\r\n"];

/// Invents some servers, as each takes some network and some waiting; `PROPTEST_CASES` of them if that is set.
#[must_use]
pub fn config() -> Config {
    Config {
        cases: 64,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..Config::default()
    }
}

/// What comes of a command.
#[derive(Clone, Debug)]
pub struct Answer {
    acts: Vec<Act>,
    reply: Replies,
}

/// How many replies an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replies {
    /// None that is complete.
    None,
    One,
    /// Perhaps more than one, so that all that follow are taken for replies to something else.
    Several,
}

impl Answer {
    fn plain(reply: Vec<u8>) -> Self {
        Self {
            acts: vec![Act::Send(reply)],
            reply: Replies::One,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let sent = self.acts.iter().map(|act| match act {
            Act::Send(bytes) => &bytes[..],
            _ => &[],
        });
        sent.collect::<Vec<_>>().concat()
    }

    /// Whether it is this reply and nothing else.
    #[must_use]
    pub fn is(&self, reply: &str) -> bool {
        self.reply == Replies::One && self.bytes() == reply.as_bytes()
    }
}

/// A server that is made up: what it says when it is greeted, and then to one command after the other.
#[derive(Clone, Debug)]
pub struct Script {
    /// Whether it knows RESP3.
    pub resp3: bool,
    /// What it sends before it is asked anything.
    pub unasked: Vec<Act>,
    /// Instead of honest replies to the commands with which a connection begins.
    pub handshake: Vec<Answer>,
    /// To all the others; at last, errors.
    pub answers: Vec<Answer>,
}

/// What is said before a script is looked at.
pub type First = Box<dyn Fn(&[String]) -> Option<Vec<u8>> + Send + Sync>;

/// What a [script](Script) has done so far.
#[derive(Debug)]
pub struct Played {
    script: Script,
    handshake: VecDeque<Answer>,
    answers: VecDeque<Answer>,
    /// The commands that were answered by the script, with their answers.
    pub log: Vec<(Vec<String>, Answer)>,
}

impl Script {
    /// A server that plays it.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub async fn start(self) -> io::Result<(Hostile, Arc<Mutex<Played>>)> {
        self.start_behind(Box::new(|_| None)).await
    }

    /// A server that plays it to those commands to which `first` has no reply.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub async fn start_behind(self, first: First) -> io::Result<(Hostile, Arc<Mutex<Played>>)> {
        let played = Arc::new(Mutex::new(Played {
            handshake: self.handshake.clone().into(),
            answers: self.answers.clone().into(),
            script: self,
            log: Vec::new(),
        }));
        let shared = Arc::clone(&played);
        let server = Hostile::start(move |words| match first(&words) {
            Some(reply) => vec![Act::Send(reply)],
            None => lock(&shared).answer(words),
        });
        let server = server.await?;
        Ok((server, played))
    }
}

impl Played {
    /// Whether more was sent than was asked for, so that a reply may have been taken for that to another
    /// command, which no client can notice.
    #[must_use]
    pub fn is_out_of_step(&self) -> bool {
        let sent = self.log.iter().map(|(_, answer)| answer);
        let mut sent = sent.chain(&self.script.handshake);
        !self.script.unasked.is_empty() || sent.any(|answer| answer.reply == Replies::Several)
    }

    fn answer(&mut self, words: Vec<String>) -> Vec<Act> {
        let Some(name) = words.first() else {
            return self.script.unasked.clone();
        };
        if let Some(honest) = greeting(name, words.get(1).map(String::as_str), self.script.resp3) {
            let answer = self.handshake.pop_front();
            return answer.map_or_else(|| vec![Act::Send(honest)], |answer| answer.acts);
        }
        let exhausted = || Answer::plain(b"-BUSY that is all\r\n".to_vec());
        let answer = self.answers.pop_front().unwrap_or_else(exhausted);
        self.log.push((words, answer.clone()));
        answer.acts
    }
}

/// What an honest server says to a command with which a connection begins.
#[must_use]
pub fn greeting(name: &str, what: Option<&str>, resp3: bool) -> Option<Vec<u8>> {
    let reply: &[u8] = match (name, what) {
        ("HELLO", _) if resp3 => b"%1\r\n$5\r\nproto\r\n:3\r\n",
        ("HELLO", _) => b"-ERR unknown command 'HELLO'\r\n",
        ("PING", _) => b"+PONG\r\n",
        ("CLIENT", Some("ID")) => b":7\r\n",
        ("CLIENT" | "SELECT" | "AUTH", _) => b"+OK\r\n",
        ("INFO", Some("server")) if resp3 => {
            b"=40\r\ntxt:redis_version:7.0.15\r\nrun_id:0123abc\r\n"
        }
        ("INFO", _) => b"$36\r\nredis_version:7.0.15\r\nrun_id:0123abc\r\n",
        ("ROLE", _) => b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n",
        _ => return None,
    };
    Some(reply.to_vec())
}

/// Locks what a test shares with a server.
pub fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many panics there were so far where a test does not see them: on the threads of a runtime.
#[must_use]
pub fn panics() -> usize {
    static INSTALLED: Once = Once::new();
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let of_runtime = thread::current().name() == Some("tokio-rt-worker");
            PANICS.fetch_add(of_runtime.into(), SeqCst);
            before(panic);
        }));
    });
    PANICS.load(SeqCst)
}

/// A server.
pub fn script() -> impl Strategy<Value = Script> {
    let handshake = prop_oneof![
        6 => Just(Vec::new()),
        1 => prop::collection::vec(answer(), 1..6),
    ];
    let unasked = prop_oneof![
        6 => Just(Vec::new()),
        1 => answer().prop_map(|answer| answer.acts),
    ];
    let answers = prop::collection::vec(answer(), 0..16);
    (any::<bool>(), unasked, handshake, answers).prop_map(|(resp3, unasked, handshake, answers)| {
        Script {
            resp3,
            unasked,
            handshake,
            answers,
        }
    })
}

/// Anything at all.
pub fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        6 => prop::sample::select(&GRANTS[..]).prop_map(|grant| Answer::plain(grant.to_vec())),
        2 => prop::sample::select(&REFUSALS[..]).prop_map(|nil| Answer::plain(nil.into())),
        2 => prop::sample::select(&LOOKALIKES[..]).prop_map(|it| Answer::plain(it.into())),
        4 => reply().prop_map(Answer::plain),
        3 => error().prop_map(Answer::plain),
        4 => wild().prop_map(|(reply, acts)| Answer { acts, reply }),
    ]
}

const REFUSALS: [&str; 5] = ["$-1\r\n", "*-1\r\n", "_\r\n", ":0\r\n", ":-1\r\n"];

/// What looks like a grant and is none, or is nothing that there is.
const LOOKALIKES: [&str; 17] = [
    "+ok\r\n",
    "+OKAY\r\n",
    "+O\r\n",
    "+\r\n",
    "$2\r\nOK\r\n",
    "$1\r\n1\r\n",
    "=6\r\ntxt:OK\r\n",
    "+1\r\n",
    ":2\r\n",
    ":3\r\n",
    ":12\r\n",
    ":9223372036854775807\r\n",
    "#t\r\n",
    ",1\r\n",
    "(1\r\n",
    "*1\r\n+OK\r\n",
    "~1\r\n:1\r\n",
];

/// Servers each of which answers everything by one and the same reply that looks like a grant and is none.
pub fn lookalikes() -> impl Iterator<Item = Script> {
    LOOKALIKES.iter().map(|reply| Script {
        resp3: true,
        unasked: Vec::new(),
        handshake: Vec::new(),
        answers: vec![Answer::plain(reply.as_bytes().to_vec()); 20],
    })
}

/// Frames that promise more than there is, or make no sense.
const BROKEN: [&str; 30] = [
    "$2147483647\r\nOK",
    "$9223372036854775807\r\n1",
    "$18446744073709551616\r\n",
    "$-2\r\n",
    "$3\r\nOK\r\n",
    "$1\r\nOK\r\n",
    "$\r\n",
    "*1000000\r\n+OK\r\n",
    "*9223372036854775807\r\n:1\r\n",
    "*4611686018427387904\r\n",
    "*-2\r\n",
    "*x\r\n",
    "%1000000\r\n+OK\r\n:1\r\n",
    "%-1\r\n",
    "%4611686018427387903\r\n",
    "%9223372036854775807\r\n",
    "~-1\r\n",
    "~9223372036854775807\r\n",
    "|1\r\n+a\r\n+b\r\n",
    "|9223372036854775807\r\n",
    "|0\r\n",
    ">-1\r\n",
    ">9223372036854775807\r\n",
    ">1\r\n:1\r\n",
    "!2147483647\r\n",
    "=2\r\nOK\r\n",
    ":99999999999999999999\r\n",
    "*?\r\n",
    "$?\r\n",
    "+OK\n",
];

/// What nobody has asked for.
const PUSHES: [&str; 6] = [
    ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nOK\r\n",
    ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n",
    ">0\r\n",
    ">1\r\n+x\r\n",
    ">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n",
    "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nOK\r\n",
];

/// One whole reply, of any type.
fn reply() -> impl Strategy<Value = Vec<u8>> {
    let line = "[ -~]{0,12}";
    let simple = prop_oneof![
        prop::sample::select(&LOOKALIKES[..]).prop_map(str::to_owned),
        line.prop_map(|it| format!("+{it}\r\n")),
        any::<i64>().prop_map(|it| format!(":{it}\r\n")),
        any::<f64>().prop_map(|it| format!(",{it}\r\n")),
        any::<bool>().prop_map(|it| format!("#{}\r\n", if it { 't' } else { 'f' })),
        any::<i128>().prop_map(|it| format!("({it}\r\n")),
        line.prop_map(|it| format!("={}\r\ntxt:{it}\r\n", it.len() + 4)),
        line.prop_map(|it| format!("!{}\r\n{it}\r\n", it.len())),
    ];
    let leaf = prop_oneof![
        simple.prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| {
            [format!("${}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat()
        }),
    ];
    leaf.prop_recursive(60, 60, 4, |inner| {
        let several = |kind: char, each: usize, values: Vec<Vec<u8>>| {
            let head = format!("{kind}{}\r\n", values.len() / each);
            let even = values.len() / each * each;
            [head.into_bytes(), values[..even].concat()].concat()
        };
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(move |it| several('*', 1, it)),
            prop::collection::vec(inner.clone(), 0..4).prop_map(move |it| several('~', 1, it)),
            prop::collection::vec(inner, 0..6).prop_map(move |it| several('%', 2, it)),
        ]
    })
}

/// An error reply, with the codes that mean something to somebody.
fn error() -> impl Strategy<Value = Vec<u8>> {
    let code = prop::sample::select(vec![
        "ERR",
        "ERR unknown command",
        "ERR syntax error",
        "ERR This instance has cluster support disabled",
        "NOPERM",
        "NOSCRIPT",
        "NOAUTH",
        "WRONGPASS",
        "READONLY",
        "NOREPLICAS",
        "MASTERDOWN",
        "LOADING",
        "MOVED 1 127.0.0.1:1",
        "MOVED",
        "ASK 1 127.0.0.1:1",
        "ASK x y",
        "TRYAGAIN",
        "CLUSTERDOWN",
        "CROSSSLOT",
        "EXECABORT",
        "OOM",
        "WRONGTYPE",
        "upstream failure",
        "",
    ]);
    (code, "( [ -~]{0,40})?").prop_map(|(code, rest)| format!("-{code}{rest}\r\n").into_bytes())
}

/// What is not one reply, or does not come as one.
fn wild() -> impl Strategy<Value = (Replies, Vec<Act>)> {
    let moment = Duration::from_millis(5);
    let none = prop_oneof![
        1 => Just(vec![]),
        2 => Just(vec![Act::Close]),
        // Truncated, and then nothing or the end.
        3 => (reply(), any::<prop::sample::Index>(), any::<bool>()).prop_map(|(reply, at, ends)| {
            let part = reply[..at.index(reply.len())].to_vec();
            let mut acts = vec![Act::Send(part)];
            acts.extend(ends.then_some(Act::Close));
            acts
        }),
        4 => prop::sample::select(&BROKEN[..]).prop_map(|it| vec![Act::Send(it.into())]),
    ];
    let one_slowly = prop_oneof![
        // A byte now and then.
        2 => one().prop_map(move |reply| {
            let bytes = reply.into_iter().take(30);
            bytes.flat_map(|byte| [Act::Send(vec![byte]), Act::Pause(moment)]).collect()
        }),
        1 => (1..60_usize, one()).prop_map(|(depth, reply)| {
            vec![Act::Send([b"*1\r\n".repeat(depth), reply].concat())]
        }),
    ];
    let several = prop_oneof![
        // At once or later.
        2 => (one(), one(), any::<bool>()).prop_map(move |(first, second, later)| {
            let mut acts = vec![Act::Send(first)];
            acts.extend(later.then_some(Act::Pause(moment)));
            acts.push(Act::Send(second));
            acts
        }),
        2 => (prop::sample::select(&PUSHES[..]), one()).prop_map(|(push, reply)| {
            vec![Act::Send([push.as_bytes(), &reply].concat())]
        }),
        // Attributes belong to what follows them.
        1 => one().prop_map(|reply| vec![Act::Send([b"|1\r\n+a\r\n:1\r\n", &reply[..]].concat())]),
        2 => prop::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| vec![Act::Send(bytes)]),
    ];
    prop_oneof![
        4 => none.prop_map(|acts| (Replies::None, acts)),
        2 => one_slowly.prop_map(|acts| (Replies::One, acts)),
        2 => several.prop_map(|acts| (Replies::Several, acts)),
    ]
}

fn one() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(&GRANTS[..]).prop_map(<[u8]>::to_vec),
        reply(),
        error(),
    ]
}

/// What a sentinel says that names a master at this port, of this epoch; nothing to what else it is asked.
#[must_use]
pub fn sentinel(words: &[String], port: u16, epoch: u64) -> Option<Vec<u8>> {
    let words: Vec<_> = words.iter().map(|word| word.to_ascii_uppercase()).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    let reply = match &words[..] {
        ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", _] => {
            format!("*2\r\n{}{}", bulk("127.0.0.1"), bulk(&port.to_string()))
        }
        ["SENTINEL", "MASTER", _] => {
            format!("*2\r\n{}{}", bulk("config-epoch"), bulk(&epoch.to_string()))
        }
        ["SUBSCRIBE", channels @ ..] => {
            let one = |(index, channel): (usize, &&str)| {
                format!(
                    "*3\r\n$9\r\nsubscribe\r\n{}:{}\r\n",
                    bulk(&channel.to_lowercase()),
                    index + 1
                )
            };
            channels.iter().enumerate().map(one).collect()
        }
        _ => return None,
    };
    Some(reply.into_bytes())
}

impl Script {
    /// Those of its answers that are one whole reply each.
    #[must_use]
    pub fn whole_answers(&self) -> Vec<Vec<u8>> {
        let whole = self.answers.iter().filter(|it| it.reply == Replies::One);
        whole.map(Answer::bytes).collect()
    }
}
