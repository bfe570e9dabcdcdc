//! A TCP proxy between a client and a server, for faults that only a network has.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// Forwards connections to a server, as long as it lives.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    connections: Arc<Mutex<Connections>>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Connections {
    /// What new connections start with.
    first: Mode,
    open: Vec<watch::Sender<Mode>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Flow,
    /// Nothing is carried in either direction, and nothing is lost.
    Stalled,
    /// Requests arrive; from the first that contains this text on, replies do not.
    LoseReplies(&'static str),
    Cut,
}

impl Proxy {
    /// Listens on a free loopback port and forwards to `server`.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        Self::start_distant(server, Duration::ZERO).await
    }

    /// As [`start`](Self::start), with whatever is carried so long on its way, in each direction.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub async fn start_distant(server: SocketAddr, each_way: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let connections = Arc::new(Mutex::new(Connections {
            first: Mode::Flow,
            open: Vec::new(),
        }));
        let shared = Arc::clone(&connections);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mode = {
                    let mut connections = lock(&shared);
                    let (sender, mode) = watch::channel(connections.first);
                    connections.open.retain(|open| !open.is_closed());
                    connections.open.push(sender);
                    mode
                };
                tokio::spawn(forward(client, server, each_way, mode));
            }
        });
        Ok(Self {
            address,
            connections,
            accepting,
        })
    }

    /// Where clients connect to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The `redis://` URL where clients connect to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// The connections open now carry nothing any more, as if their route were gone; new ones do.
    pub fn stall(&self) {
        self.set(Mode::Stalled);
    }

    /// All connections carry everything again, also what waited.
    pub fn resume(&self) {
        let mut connections = lock(&self.connections);
        connections.first = Mode::Flow;
        drop(connections);
        self.set(Mode::Flow);
    }

    /// From now on requests arrive on all connections, new ones too, and replies are lost. A connection that
    /// has lost one is of no use any more: [`cut`](Self::cut) it before anything is carried again.
    pub fn lose_replies(&self) {
        self.lose_replies_to("");
    }

    /// As [`lose_replies`](Self::lose_replies), on each connection from the first request on that contains
    /// this text.
    pub fn lose_replies_to(&self, text: &'static str) {
        lock(&self.connections).first = Mode::LoseReplies(text);
        self.set(Mode::LoseReplies(text));
    }

    /// Closes the connections that are open now.
    pub fn cut(&self) {
        self.set(Mode::Cut);
    }

    /// How many connections are open.
    #[must_use]
    pub fn open(&self) -> usize {
        let connections = lock(&self.connections);
        connections
            .open
            .iter()
            .filter(|open| !open.is_closed())
            .count()
    }

    fn set(&self, mode: Mode) {
        for connection in &lock(&self.connections).open {
            connection.send_if_modified(|now| {
                // A connection that is cut stays so, also if it has not noticed yet.
                let changes = *now != Mode::Cut;
                if changes {
                    *now = mode;
                }
                changes
            });
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

fn lock(connections: &Mutex<Connections>) -> MutexGuard<'_, Connections> {
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn forward(
    client: TcpStream,
    server: SocketAddr,
    each_way: Duration,
    mut mode: watch::Receiver<Mode>,
) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (requests, replies) = (mode.clone(), mode.clone());
    let lossy = AtomicBool::new(false);
    tokio::select! {
        _ = carry(from_client, to_server, each_way, requests, |mode, request| {
            if let Mode::LoseReplies(text) = mode {
                let found = request.windows(text.len().max(1)).any(|part| part == text.as_bytes());
                lossy.fetch_or(found || text.is_empty(), SeqCst);
            }
            true
        }) => {}
        _ = carry(from_server, to_client, each_way, replies, |mode, _| {
            let lossy = lossy.load(SeqCst) || mode == Mode::LoseReplies("");
            !(lossy && matches!(mode, Mode::LoseReplies(_)))
        }) => {}
        _ = mode.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

/// Carries bytes one way until that way ends, but those that are not let through.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    takes: Duration,
    mut mode: watch::Receiver<Mode>,
    lets_through: impl Fn(Mode, &[u8]) -> bool,
) -> io::Result<()> {
    let (sender, mut on_their_way) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let depart = async move {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = from.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            let now = mode.wait_for(|mode| *mode != Mode::Stalled).await;
            let now = *now.map_err(io::Error::other)?;
            if now == Mode::Cut {
                return Ok(());
            }
            let bytes = &buffer[..length];
            if lets_through(now, bytes) {
                let sent = sender.send((Instant::now() + takes, bytes.to_vec()));
                sent.map_err(io::Error::other)?;
            }
        }
    };
    let arrive = async {
        while let Some((due, bytes)) = on_their_way.recv().await {
            // A timer would round no time up to a millisecond.
            if !takes.is_zero() {
                sleep_until(due).await;
            }
            to.write_all(&bytes).await?;
        }
        Ok(())
    };
    tokio::try_join!(depart, arrive).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_from_afar_takes_its_time_both_ways_and_stays_in_order() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut echo, _) = listener.accept().await.unwrap();
            let (mut from, mut to) = echo.split();
            tokio::io::copy(&mut from, &mut to).await
        });
        let each_way = Duration::from_millis(20);
        let proxy = Proxy::start_distant(address, each_way).await.unwrap();
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        let asked = Instant::now();
        client.write_all(b"first").await.unwrap();
        client.write_all(b"second").await.unwrap();
        let mut reply = [0; 11];
        client.read_exact(&mut reply).await.unwrap();
        assert_eq!(&reply, b"firstsecond");
        assert!(asked.elapsed() >= 2 * each_way);
    }
}
