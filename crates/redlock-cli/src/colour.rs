//! Colours, on terminals only and unless `NO_COLOR` is set.

use std::{env, io::IsTerminal};

/// How urgent a text is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
}

/// The text in bold and in this colour, if the stream shows colours.
pub(crate) fn bold(text: &str, colour: Colour, stream: &impl IsTerminal) -> String {
    if wanted(stream) {
        format!("\x1b[1;{}m{text}\x1b[0m", colour as u8)
    } else {
        text.to_owned()
    }
}

/// Whether the stream shows colours, and they are wanted.
pub(crate) fn wanted(stream: &impl IsTerminal) -> bool {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    stream.is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_none_or(|it| it != "dumb")
}
