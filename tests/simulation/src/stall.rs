//! A client that stands still for a while.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use redlock_core::Instant;
use tokio::time::{Sleep, sleep_until};

/// A future that is not polled between two moments, whatever wakes it.
pub(crate) struct Stalled<F> {
    future: Pin<Box<F>>,
    from: Instant,
    until: Pin<Box<Sleep>>,
}

impl<F: Future> Stalled<F> {
    pub(crate) fn new(future: F, from: Instant, until: Instant) -> Self {
        Self {
            future: Box::pin(future),
            from,
            until: Box::pin(sleep_until(until)),
        }
    }
}

impl<F: Future> Future for Stalled<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if Instant::now() >= self.from && self.until.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.future.as_mut().poll(context)
    }
}
