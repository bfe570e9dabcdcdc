//! The client behind a node, and how it is connected.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fred::{
    clients::Client,
    error::{Error, ErrorKind},
    interfaces::{ClientLike, EventInterface},
    types::ConnectHandle,
};
use redlock_core::{BackendError, BackendErrorKind};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::finish::finish;

/// The pause between two attempts to connect.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);

pub(crate) enum Link {
    Own(Arc<Own>),
    Given(Given),
}

/// A client that is connected when it is needed.
///
/// fred's own reconnecting is not used: it waits before its first attempt, takes commands meanwhile as if
/// it were connected, and goes on when nobody needs it.
pub(crate) struct Own {
    /// What each connection is made from.
    template: Client,
    connect_timeout: Duration,
    present: Mutex<Option<Connected>>,
    /// Whoever holds it connects. Until when nobody else does after a failure, and the failure.
    failed: Arc<tokio::sync::Mutex<Option<(Instant, BackendError)>>>,
}

/// A client with the task that serves it, which would outlive it.
struct Connected {
    client: Client,
    task: ConnectHandle,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client that somebody else connects.
pub(crate) struct Given {
    client: Client,
    /// The task that last replaced its connections. While it runs, fred would only queue commands.
    replacing: Mutex<Option<JoinHandle<()>>>,
}

impl Link {
    pub(crate) fn own(template: Client, connect_timeout: Duration) -> Self {
        Self::Own(Arc::new(Own {
            template,
            connect_timeout,
            present: Mutex::default(),
            failed: Arc::default(),
        }))
    }

    pub(crate) fn given(client: Client) -> Self {
        let replacing = Mutex::default();
        Self::Given(Given { client, replacing })
    }

    /// A client that is connected. Nothing has been sent when it fails.
    pub(crate) async fn client(&self) -> Result<Client, BackendError> {
        match self {
            Self::Own(own) => own.client().await,
            Self::Given(given) => given.client(),
        }
    }

    /// Replaces the connections of this client, unless they have been already.
    pub(crate) fn reconnect(&self, client: &Client) {
        match self {
            Self::Own(own) => {
                let mut present = lock(&own.present);
                present.take_if(|present| present.client.id() == client.id());
            }
            Self::Given(given) => given.replace(),
        }
    }
}

impl Own {
    async fn client(self: &Arc<Self>) -> Result<Client, BackendError> {
        if let Some(client) = self.present() {
            return Ok(client);
        }
        let turn = timeout(self.connect_timeout, Arc::clone(&self.failed).lock_owned()).await;
        let mut failed = turn.map_err(|_| BackendError::timeout())?;
        if let Some(client) = self.present() {
            return Ok(client);
        }
        match &*failed {
            Some((until, error)) if Instant::now() < *until => return Err(error.clone()),
            _ => {}
        }
        let own = Arc::clone(self);
        finish(async move {
            let connected = own.connect().await;
            let result = connected.as_ref().map(|connected| connected.client.clone());
            let result = result.map_err(Clone::clone);
            *failed = result.clone().err().map(|e| (Instant::now() + PAUSE, e));
            *lock(&own.present) = connected.ok();
            result
        })
        .await
    }

    fn present(&self) -> Option<Client> {
        let present = lock(&self.present);
        let alive = present.as_ref().filter(|p| !p.task.is_finished());
        alive.map(|present| present.client.clone())
    }

    async fn connect(&self) -> Result<Connected, BackendError> {
        let client = self.template.clone_new();
        let task = client.connect();
        let mut connected = Connected { client, task };
        let client = connected.client.clone();
        let up = async {
            // What it waits for may have happened just before it began to wait.
            while !client.is_connected() {
                let _ = timeout(PAUSE / 10, client.wait_for_connect()).await;
            }
        };
        tokio::select! {
            () = up => Ok(connected),
            ended = &mut connected.task => {
                let ended = ended.unwrap_or_else(|ended| Err(ended.into()));
                Err(refused(ended.err().unwrap_or_else(Error::new_canceled)))
            }
            () = sleep(self.connect_timeout) => Err(BackendError::timeout()),
        }
    }
}

impl Given {
    fn client(&self) -> Result<Client, BackendError> {
        let replaced = lock(&self.replacing).as_ref().map(JoinHandle::is_finished);
        let connected = self.client.is_connected();
        if connected && replaced != Some(false) {
            return Ok(self.client.clone());
        }
        // After connect() has failed, fred gives a cluster up.
        if !connected && replaced == Some(true) && self.client.is_clustered() {
            self.replace();
        }
        let cause = "the fred client is not connected; has it been, by init() or connect()?";
        Err(BackendError::new(BackendErrorKind::Unreachable, cause))
    }

    /// Starts to replace the connections, unless that is under way.
    fn replace(&self) {
        let mut replacing = lock(&self.replacing);
        if replacing.as_ref().is_none_or(JoinHandle::is_finished) {
            *replacing = Some(tokio::spawn(replace(self.client.clone())));
        }
    }
}

async fn replace(client: Client) {
    if !client.is_clustered() {
        let _ = client.force_reconnection().await;
        return;
    }
    // That would keep the connections to a cluster that look healthy.
    let mut connections = client.reconnect_rx();
    let task = client.connect();
    let up = async {
        let _ = connections.recv().await;
        while !client.is_connected() {
            sleep(PAUSE / 10).await;
        }
    };
    tokio::select! {
        () = up => {}
        _ = task => sleep(PAUSE).await,
    }
}

fn refused(error: Error) -> BackendError {
    let kind = match error.kind() {
        ErrorKind::Auth | ErrorKind::Config => BackendErrorKind::Server,
        ErrorKind::Timeout => BackendErrorKind::Timeout,
        _ => BackendErrorKind::Unreachable,
    };
    BackendError::new(kind, error)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connected = match self {
            Self::Own(own) => own.present().is_some(),
            Self::Given(given) => given.client.is_connected(),
        };
        f.write_str(if connected {
            "connected"
        } else {
            "not connected"
        })
    }
}
