//! A TCP proxy between a client and a server, for faults that only a network has.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
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
    /// Requests arrive, replies do not.
    LoseReplies,
    Cut,
}

impl Proxy {
    /// Listens on a free loopback port and forwards to `server`.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
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
                tokio::spawn(forward(client, server, mode));
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

    /// From now on requests arrive on all connections, new ones too, and replies are lost.
    pub fn lose_replies(&self) {
        lock(&self.connections).first = Mode::LoseReplies;
        self.set(Mode::LoseReplies);
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
            connection.send_replace(mode);
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

async fn forward(client: TcpStream, server: SocketAddr, mut mode: watch::Receiver<Mode>) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (requests, replies) = (mode.clone(), mode.clone());
    tokio::select! {
        _ = carry(from_client, to_server, requests, false) => {}
        _ = carry(from_server, to_client, replies, true) => {}
        _ = mode.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

/// Carries bytes one way until that way ends.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    replies: bool,
) -> io::Result<()> {
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
        if !(replies && now == Mode::LoseReplies) {
            to.write_all(&buffer[..length]).await?;
        }
    }
}
