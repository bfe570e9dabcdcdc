//! What a client does next.

use std::time::Duration;

use rand::{RngExt, rngs::StdRng};

use crate::protocol::{RESOURCES, resource};

/// One lock: which, for how long, and how it ends.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What to lock.
    pub resources: Vec<String>,
    /// How to make it last.
    pub style: Style,
    /// For how long to hold it.
    pub time: Duration,
    /// Whether it is dropped instead of released.
    pub dropped: bool,
    /// How long to wait afterwards.
    pub rest: Duration,
}

/// How a lock is made to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Not at all.
    Plain,
    /// By extending it.
    Extended,
    /// By keeping it alive.
    Kept,
}

impl Plan {
    /// The next one.
    pub fn draw(rng: &mut StdRng, ttl: Duration) -> Self {
        let first = rng.random_range(0..RESOURCES);
        let mut resources = vec![resource(first)];
        if rng.random_bool(0.1) {
            resources.push(resource((first + 1) % RESOURCES));
        }
        let (style, most) = match rng.random_range(0..3) {
            0 => (Style::Plain, ttl.mul_f64(1.1)),
            1 => (Style::Extended, ttl.mul_f64(1.5)),
            _ => (Style::Kept, ttl.mul_f64(1.5)),
        };
        let short = rng.random_bool(0.4);
        let most = if short {
            Duration::from_millis(50)
        } else {
            most
        };
        Self {
            resources,
            style,
            time: most.mul_f64(rng.random()),
            dropped: rng.random_bool(0.25),
            rest: Duration::from_millis(rng.random_range(5..50)),
        }
    }
}
