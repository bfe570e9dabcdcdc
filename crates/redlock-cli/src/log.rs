//! What `-v` shows: the library's own events, one line for each node's vote.

use std::io;

use tracing_subscriber::{
    Layer, filter::LevelFilter, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::colour;

/// Writes them to standard error, if that is wanted.
pub(crate) fn start(verbose: bool) {
    if !verbose {
        return;
    }
    let lines = fmt::layer()
        .without_time()
        .with_level(false)
        .with_target(false)
        .with_ansi(colour::wanted(&io::stderr()))
        .with_writer(io::stderr);
    let ours = Targets::new().with_target("redlock", LevelFilter::TRACE);
    tracing_subscriber::registry()
        .with(lines.with_filter(ours))
        .init();
}
