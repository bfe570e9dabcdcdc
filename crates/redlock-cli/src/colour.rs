//! Colours, on terminals only and unless `NO_COLOR` is set.

use std::{env, io::IsTerminal};

/// The text in bold red, if the stream shows colours.
pub(crate) fn bold_red(text: &str, stream: &impl IsTerminal) -> String {
    if wanted(stream) {
        format!("\x1b[1;31m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// Whether the stream shows colours, and they are wanted.
pub(crate) fn wanted(stream: &impl IsTerminal) -> bool {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    stream.is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_none_or(|it| it != "dumb")
}
