//! The naive fan-out over as little as a client can be: one task per connection, which joins whatever waits into one
//! write, and one wake-up per round, at the quorum.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire},
    },
    task::Poll,
};

use futures_util::task::AtomicWaker;
use redlock::LockValue;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};

use super::{Contender, NO_QUORUM, RELEASE, TTL, quorum};

pub(super) struct Floor {
    nodes: Vec<Arc<Node>>,
    release: String,
}

#[derive(Default)]
struct Node {
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Default)]
struct Queue {
    requests: Vec<u8>,
    waiting: VecDeque<Arc<Round>>,
}

struct Round {
    granted: AtomicUsize,
    answered: AtomicUsize,
    nodes: usize,
    waker: AtomicWaker,
}

impl Floor {
    pub(super) async fn connect(urls: &[String]) -> Self {
        let (mut nodes, mut release) = (Vec::new(), String::new());
        for url in urls {
            let address = url.trim_start_matches("redis://");
            let mut stream = TcpStream::connect(address).await.expect("the server is up");
            stream.set_nodelay(true).expect("a socket");
            release = load(&mut stream).await.expect("it compiles");
            let node = Arc::<Node>::default();
            tokio::spawn(Arc::clone(&node).run(stream));
            nodes.push(node);
        }
        Self { nodes, release }
    }

    /// Asks all at once, until a quorum has granted or all have answered.
    async fn ask(&self, words: &[&str]) -> Result<(), String> {
        let request = packed(words);
        let round = Arc::new(Round {
            granted: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            nodes: self.nodes.len(),
            waker: AtomicWaker::new(),
        });
        self.nodes
            .iter()
            .for_each(|node| node.send(&request, &round));
        poll_fn(|context| {
            round.waker.register(context.waker());
            if round.granted.load(Acquire) >= quorum(round.nodes) {
                Poll::Ready(Ok(()))
            } else if round.answered.load(Acquire) == round.nodes {
                Poll::Ready(Err(NO_QUORUM.to_owned()))
            } else {
                Poll::Pending
            }
        })
        .await
    }
}

impl Round {
    fn answer(&self, granted: bool) {
        let grants = self.granted.fetch_add(usize::from(granted), AcqRel) + usize::from(granted);
        let answers = self.answered.fetch_add(1, AcqRel) + 1;
        if (granted && grants == quorum(self.nodes)) || answers == self.nodes {
            self.waker.wake();
        }
    }
}

impl Node {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, request: &[u8], round: &Arc<Round>) {
        let mut queue = self.queue();
        let first = queue.requests.is_empty();
        queue.requests.extend_from_slice(request);
        queue.waiting.push_back(Arc::clone(round));
        drop(queue);
        if first {
            self.filled.notify_one();
        }
    }

    async fn run(self: Arc<Self>, mut stream: TcpStream) {
        let (mut reader, mut writer) = stream.split();
        let (mut requests, mut replies) = (Vec::new(), Vec::with_capacity(1 << 16));
        loop {
            tokio::select! {
                () = self.filled.notified() => {
                    std::mem::swap(&mut requests, &mut self.queue().requests);
                    if writer.write_all(&requests).await.is_err() {
                        return;
                    }
                    requests.clear();
                }
                read = reader.read_buf(&mut replies) => {
                    if !matches!(read, Ok(1..)) {
                        return;
                    }
                    self.answer(&mut replies);
                }
            }
        }
    }

    /// Every reply that is expected is one line.
    fn answer(&self, replies: &mut Vec<u8>) {
        let mut queue = self.queue();
        let mut done = 0;
        while let Some(end) = replies[done..].iter().position(|byte| *byte == b'\n') {
            let granted = matches!(&replies[done..done + end], b"+OK\r" | b":1\r");
            let round = queue.waiting.pop_front().expect("a reply to a request");
            round.answer(granted);
            done += end + 1;
        }
        replies.drain(..done);
    }
}

/// Sends the script; how it is called from then on.
async fn load(stream: &mut TcpStream) -> std::io::Result<String> {
    stream
        .write_all(&packed(&["SCRIPT", "LOAD", RELEASE]))
        .await?;
    let mut reply = [0; "$40\r\n".len() + 40 + "\r\n".len()];
    stream.read_exact(&mut reply).await?;
    Ok(String::from_utf8_lossy(&reply[5..45]).into_owned())
}

fn packed(words: &[&str]) -> Vec<u8> {
    use std::io::Write;

    let mut bytes = Vec::with_capacity(256);
    let written = write!(bytes, "*{}\r\n", words.len()).and_then(|()| {
        words
            .iter()
            .try_for_each(|word| write!(bytes, "${}\r\n{word}\r\n", word.len()))
    });
    written.expect("a vector takes everything");
    bytes
}

impl Contender for Floor {
    type Held = (String, LockValue);

    async fn acquire(&self, resource: &str) -> Result<Self::Held, String> {
        let value = LockValue::random();
        let ttl = TTL.as_millis().to_string();
        let words = ["SET", resource, value.as_str(), "NX", "PX", &ttl];
        self.ask(&words).await?;
        Ok((resource.to_owned(), value))
    }

    async fn release(&self, (resource, value): Self::Held) -> Result<(), String> {
        let words = ["EVALSHA", &self.release, "1", &resource, value.as_str()];
        self.ask(&words).await
    }
}
