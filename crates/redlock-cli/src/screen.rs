//! What is drawn again and again in its place on a terminal.

use std::{
    env,
    io::{self, IsTerminal},
};

use rustix::termios::tcgetwinsize;

use crate::{commands::print, exit::Failure};

/// A screen of its own without a cursor, and no wrapping at the margin.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
/// What was there before.
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// Taken away when it is dropped.
pub(crate) struct Screen(());

impl Screen {
    /// `None` where nothing can be drawn in its place.
    pub(crate) fn open() -> Result<Option<Self>, Failure> {
        if !io::stdout().is_terminal() || env::var_os("TERM").is_some_and(|name| name == "dumb") {
            return Ok(None);
        }
        let screen = Self(());
        print(ENTER.as_bytes())?;
        Ok(Some(screen))
    }

    /// Shows as much of this text as there is room for.
    pub(crate) fn draw(&self, text: &str) -> Result<(), Failure> {
        let Self(()) = self;
        let rows = tcgetwinsize(io::stdout()).map_or(0, |size| size.ws_row);
        // Of a terminal that does not know its own size all rows are taken.
        let rows = if rows == 0 { usize::MAX } else { rows.into() };
        let lines: Vec<_> = text.lines().take(rows).collect();
        print(format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n")).as_bytes())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = print(LEAVE.as_bytes());
    }
}
