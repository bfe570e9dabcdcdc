//! Settings of a [`Redlock`].

use std::{collections::HashSet, sync::Arc, time::Duration};

use crate::{
    Fencing, InvalidRequest, LockBackend, Redlock,
    redlock::{Node, Settings},
    validity,
};

/// Sets up a [`Redlock`] whose settings differ from the defaults.
///
/// ```
/// use std::time::Duration;
/// use redlock_core::{MemoryBackend, Redlock};
///
/// let redlock = Redlock::builder([MemoryBackend::new(), MemoryBackend::new(), MemoryBackend::new()])
///     .retry_count(10)
///     .retry_delay(Duration::from_millis(50))
///     .max_wait(Duration::from_secs(2))
///     .build()?;
/// # Ok::<(), redlock_core::InvalidRequest>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct RedlockBuilder {
    backends: Vec<Arc<dyn LockBackend>>,
    settings: Settings,
    fencing: Option<Fencing>,
}

impl RedlockBuilder {
    pub(crate) fn new<B: LockBackend>(nodes: impl IntoIterator<Item = B>) -> Self {
        Self {
            backends: nodes.into_iter().map(|node| Arc::new(node) as _).collect(),
            settings: Settings {
                retry_count: 3,
                retry_delay: Duration::from_millis(200),
                retry_jitter: None,
                drift_factor: 0.01,
                node_timeout: None,
                cleanup_timeout: None,
                max_wait: None,
                max_hold: None,
            },
            fencing: None,
        }
    }

    /// Adds a node; for nodes of different types.
    pub fn node(mut self, node: impl LockBackend) -> Self {
        self.backends.push(Arc::new(node));
        self
    }

    /// How often `acquire` tries again after its first attempt. Default 3.
    ///
    /// Delays times their number is the bound of its patience. Attempts for which there is reason, because the
    /// lock was released or has expired, are made earlier and do not count.
    pub const fn retry_count(mut self, count: u32) -> Self {
        self.settings.retry_count = count;
        self
    }

    /// How long `acquire` waits between two attempts. Default 200 ms.
    pub const fn retry_delay(mut self, delay: Duration) -> Self {
        self.settings.retry_delay = delay;
        self
    }

    /// By how much each delay is moved at random, either way, so that rivals part. Default: half of the
    /// delay.
    pub const fn retry_jitter(mut self, jitter: Duration) -> Self {
        self.settings.retry_jitter = Some(jitter);
        self
    }

    /// How much of the ttl is given up because clocks run at different speeds, in `[0, 1)`. Default 0.01.
    pub const fn drift_factor(mut self, factor: f64) -> Self {
        self.settings.drift_factor = factor;
        self
    }

    /// After what time a node's vote is given up. Default `ttl / 20`, but 50 ms to 5 s.
    pub const fn node_timeout(mut self, timeout: Duration) -> Self {
        self.settings.node_timeout = Some(timeout);
        self
    }

    /// For how long an operation whose vote was given up goes on in the background before it is
    /// dropped, and for how long a release that fails is repeated, once that is certain. Default: the
    /// ttl, but 1 s to 30 s.
    pub const fn cleanup_timeout(mut self, timeout: Duration) -> Self {
        self.settings.cleanup_timeout = Some(timeout);
        self
    }

    /// No attempt of one call starts later than this after the call began, whatever the retries say.
    /// Default: no limit beyond the retries.
    pub const fn max_wait(mut self, limit: Duration) -> Self {
        self.settings.max_wait = Some(limit);
        self
    }

    /// A lock that is kept alive counts as lost so long after it was acquired, and is not extended any
    /// more, so that work which never ends does not hold it for ever. Default: no limit.
    pub const fn max_hold(mut self, limit: Duration) -> Self {
        self.settings.max_hold = Some(limit);
        self
    }

    /// Gives every lock a [fencing token](crate::Lock::fencing_token), greater than that of every lock of the
    /// same resource before it. Default: none.
    ///
    /// It costs no round trip more, except once, when this client's clock is a second ahead of those of the
    /// nodes or five minutes behind, and while another's tokens are ahead of ours. All who lock these
    /// resources must do it, or their acquisitions have no place in the order. On Redis it takes a script, and a
    /// key more for every resource, named `redlock:fence:…` behind the key prefix.
    ///
    /// The order survives whatever happens to clients and clocks of clients, and nodes that fail. A node that
    /// comes back without its memory has to stay out for a while, which is what a restart guard of its driver
    /// does.
    pub fn fencing(mut self, fencing: Fencing) -> Self {
        self.fencing = Some(fencing);
        self
    }

    /// The lock manager. Nothing is sent.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest`] when there is no node, a node was given twice, a setting makes no sense, or fencing
    /// tokens are asked for and a node has none.
    pub fn build(self) -> Result<Redlock, InvalidRequest> {
        let Self {
            backends,
            settings,
            fencing,
        } = self;
        if backends.is_empty() {
            return Err(InvalidRequest::NoNodes);
        }
        if !(0.0..1.0).contains(&settings.drift_factor) {
            return Err(InvalidRequest::DriftFactor(settings.drift_factor));
        }
        for (what, timeout) in [
            ("node timeout", settings.node_timeout),
            ("cleanup timeout", settings.cleanup_timeout),
            ("limit for holding a lock", settings.max_hold),
        ] {
            if timeout.is_some_and(|timeout| timeout.is_zero()) {
                return Err(InvalidRequest::ZeroTimeout(what));
            }
        }
        if let Some(fencing) = &fencing {
            fencing.check()?;
        }
        let mut names = HashSet::new();
        let mut nodes = Vec::with_capacity(backends.len());
        for (index, backend) in backends.into_iter().enumerate() {
            let name = backend
                .name()
                .map_or_else(|| format!("node {}", index + 1), Into::into);
            if !names.insert(name.clone()) {
                return Err(InvalidRequest::DuplicateNode(name));
            }
            if fencing.is_some() && !backend.supports_fencing() {
                return Err(InvalidRequest::FencingUnsupported(name));
            }
            nodes.push(Node {
                name: name.into(),
                backend,
            });
        }
        Ok(Redlock::from_parts(nodes, settings, fencing))
    }
}

impl Settings {
    pub(crate) fn node_timeout(&self, ttl: Duration) -> Duration {
        self.node_timeout
            .unwrap_or_else(|| validity::node_timeout(ttl))
    }

    pub(crate) fn cleanup_timeout(&self, ttl: Duration) -> Duration {
        self.cleanup_timeout
            .unwrap_or_else(|| validity::cleanup_timeout(ttl))
    }
}
