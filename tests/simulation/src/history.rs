//! What happened, as text, if anybody wants to read it.

use std::fmt::{self, Write};

use crate::node::{Set, Time, Value};

/// One line for each event. Silent, it costs next to nothing.
#[derive(Debug)]
pub(crate) struct History(Option<String>);

impl History {
    pub(crate) const fn new(told: bool) -> Self {
        Self(if told { Some(String::new()) } else { None })
    }

    pub(crate) fn tell(&mut self, now: Time, what: fmt::Arguments<'_>) {
        if let Some(text) = &mut self.0 {
            let _ = writeln!(text, "{:>12} {what}", Millis(now).to_string());
        }
    }

    pub(crate) fn take(&mut self) -> String {
        self.0.take().unwrap_or_default()
    }
}

/// A time in milliseconds.
pub(crate) struct Millis(pub(crate) Time);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == Time::MAX {
            return f.write_str("for ever");
        }
        let micros = self.0.as_micros();
        write!(f, "{}.{:03}", micros / 1000, micros % 1000)
    }
}

/// The names of resources.
pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|it| f.write_str(NAMES[it]))
    }
}

/// A lock value.
pub(crate) struct Named(pub(crate) Value);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}
