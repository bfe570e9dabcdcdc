//! What a Redis server can do, learned by asking it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, Ordering},
};

use crate::{BackendError, BackendErrorKind};

/// What is known of a Redis server: which of the native commands it has, and whether it allows scripts.
///
/// Clones share what they learn. Nothing is lost by knowing nothing, and nothing breaks when the server
/// behind an address changes: what was refused before is only asked last.
#[derive(Clone, Debug, Default)]
pub struct Capabilities {
    learned: Arc<Learned>,
    scripts_only: bool,
}

#[derive(Debug, Default)]
struct Learned {
    /// The bits of the ways that the server has refused.
    refused: AtomicU8,
    /// It has said that it is no cluster.
    standalone: AtomicBool,
    /// It has not let a release touch anything beside the keys.
    alone: AtomicBool,
    /// It has refused to release several locks by one command.
    apart: AtomicBool,
}

/// A way to do an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Way {
    AcquireScript,
    ReleaseScript,
    ExtendScript,
    MSetEx,
    DelEx,
    DelIfEq,
    SetIfEq,
    UndoScript,
}

impl Way {
    const fn bit(self) -> u8 {
        1 << self as u8
    }

    const fn name(self) -> &'static str {
        match self {
            Self::AcquireScript | Self::ReleaseScript | Self::ExtendScript | Self::UndoScript => {
                "script"
            }
            Self::MSetEx => "MSETEX",
            Self::DelEx => "DELEX",
            Self::DelIfEq => "DELIFEQ",
            Self::SetIfEq => "SET IFEQ",
        }
    }
}

impl Capabilities {
    /// Uses scripts alone, and never tries a native command: for a proxy that closes the connection
    /// upon a command that it does not know.
    #[must_use]
    pub fn scripts_only() -> Self {
        Self {
            learned: Arc::default(),
            scripts_only: true,
        }
    }

    /// Whether keys of several locks may be in one command: some proxies spread them over servers.
    pub(crate) fn may_join(&self) -> bool {
        !self.scripts_only && !self.learned.apart.load(Ordering::Relaxed) && !self.is_alone()
    }

    pub(crate) fn learn_apart(&self) {
        self.learned.apart.store(true, Ordering::Relaxed);
    }

    /// These ways, those that the server has refused before last.
    pub(crate) fn order(&self, ways: &[Way]) -> impl Iterator<Item = Way> {
        let refused = self.learned.refused.load(Ordering::Relaxed);
        let pass = move |again: bool| {
            let ways = ways.iter().copied();
            ways.filter(move |way| (refused & way.bit() != 0) == again)
        };
        let allowed = |way: &Way| !self.scripts_only || way.name() == "script";
        pass(false).chain(pass(true)).filter(allowed)
    }

    /// This way worked, after those were refused.
    pub(crate) fn learn<'a>(&self, works: Way, refused: impl IntoIterator<Item = &'a Way>) {
        let refused = refused.into_iter().fold(0, |bits, way| bits | way.bit());
        // Mostly there is nothing new.
        let before = self.learned.refused.load(Ordering::Relaxed);
        if (before | refused) & !works.bit() != before {
            self.learned.refused.fetch_or(refused, Ordering::Relaxed);
            self.learned
                .refused
                .fetch_and(!works.bit(), Ordering::Relaxed);
        }
    }

    pub(crate) fn is_standalone(&self) -> bool {
        self.learned.standalone.load(Ordering::Relaxed)
    }

    pub(crate) fn learn_standalone(&self) {
        self.learned.standalone.store(true, Ordering::Relaxed);
    }

    /// Whether a release touches the keys alone.
    pub(crate) fn is_alone(&self) -> bool {
        self.learned.alone.load(Ordering::Relaxed)
    }

    pub(crate) fn learn_alone(&self) {
        self.learned.alone.store(true, Ordering::Relaxed);
    }
}

/// The error when every way was refused, for these reasons.
pub(crate) fn no_way(refusals: &[(Way, BackendError)]) -> BackendError {
    let reasons = refusals.iter().map(|(way, error)| match error.get_ref() {
        Some(cause) => {
            let cause = cause.to_string();
            // The arguments include the value of the lock.
            let cause = cause.split(", with args").next().unwrap_or_default();
            format!("{}: {cause}", way.name())
        }
        None => way.name().to_owned(),
    });
    let reasons: Vec<_> = reasons.collect();
    BackendError::new(BackendErrorKind::Unsupported, reasons.join("; ")).not_executed()
}
