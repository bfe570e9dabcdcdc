//! A server that answers whatever a test wants, well formed or not, or nothing.

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

/// A server on a loopback port that speaks Redis' protocol as badly as a test wants, as long as it lives.
///
/// ```
/// use redlock_test::hostile::{Act, Hostile};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let server = Hostile::start(|words| match &words[..] {
///     [] => vec![], // a connection was opened
///     [name, ..] if name == "SET" => vec![Act::Send(b"*1000000\r\n".to_vec()), Act::Close],
///     _ => vec![Act::Send(b"+OK\r\n".to_vec())],
/// })
/// .await?;
/// # let _ = server.url();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Hostile {
    address: SocketAddr,
    leads_to: watch::Sender<Option<SocketAddr>>,
    accepting: JoinHandle<()>,
}

/// What a hostile server does, one after the other, when it was sent a command.
#[derive(Clone, PartialEq, Eq)]
pub enum Act {
    /// Writes these bytes.
    Send(Vec<u8>),
    /// Does nothing for a while.
    Pause(Duration),
    /// Closes the connection.
    Close,
}

impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(bytes) => write!(f, "Send(b\"{}\")", bytes.escape_ascii()),
            Self::Pause(pause) => write!(f, "Pause({pause:?})"),
            Self::Close => f.write_str("Close"),
        }
    }
}

type Answer = dyn Fn(Vec<String>) -> Vec<Act> + Send + Sync;

impl Hostile {
    /// Listens on a free loopback port, and does what `answer` says to each command, whose words it is
    /// given; there are none when a connection was just opened.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub async fn start(
        answer: impl Fn(Vec<String>) -> Vec<Act> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (leads_to, changes) = watch::channel(None);
        let answer: Arc<Answer> = Arc::new(answer);
        let accepting = tokio::spawn(async move {
            // They end with the task that accepts them.
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(serve(client, Arc::clone(&answer), changes.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            address,
            leads_to,
            accepting,
        })
    }

    /// Closes all connections; new ones lead to this server, so that everything is as it should be.
    pub fn lead_to(&self, server: SocketAddr) {
        self.leads_to.send_replace(Some(server));
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its `redis://` URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(
    mut client: TcpStream,
    answer: Arc<Answer>,
    mut changes: watch::Receiver<Option<SocketAddr>>,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let leads_to = *changes.borrow_and_update();
    let served = async {
        match leads_to {
            None => annoy(client, &*answer).await,
            Some(server) => {
                let mut server = TcpStream::connect(server).await?;
                server.set_nodelay(true)?;
                copy_bidirectional(&mut client, &mut server).await?;
                Ok(())
            }
        }
    };
    tokio::select! {
        served = served => served,
        _ = changes.changed() => Ok(()),
    }
}

async fn annoy(client: TcpStream, answer: &Answer) -> io::Result<()> {
    let (from_client, mut to_client) = client.into_split();
    let mut from_client = BufReader::new(from_client);
    let mut words = Vec::new();
    loop {
        for act in answer(words) {
            match act {
                Act::Send(bytes) => to_client.write_all(&bytes).await?,
                Act::Pause(pause) => sleep(pause).await,
                Act::Close => return Ok(()),
            }
        }
        words = command(&mut from_client).await?;
    }
}

/// The words of the next command, an array of bulk strings as every client sends it.
async fn command(from: &mut BufReader<OwnedReadHalf>) -> io::Result<Vec<String>> {
    let mut words = Vec::new();
    for _ in 0..number(from, '*').await? {
        let mut word = vec![0; number(from, '$').await?];
        from.read_exact(&mut word).await?;
        from.read_exact(&mut [0; 2]).await?;
        words.push(String::from_utf8_lossy(&word).into_owned());
    }
    Ok(words)
}

async fn number(from: &mut BufReader<OwnedReadHalf>, kind: char) -> io::Result<usize> {
    let mut line = String::new();
    from.read_line(&mut line).await?;
    let digits = line.trim_end().strip_prefix(kind).unwrap_or_default();
    digits.parse().map_err(io::Error::other)
}
