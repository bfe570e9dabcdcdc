//! What the exit codes mean, and the failures that end in one.

use std::{
    fmt::Display,
    io::{self, Write},
    process::{ExitCode, exit},
};

use redlock::{
    BackendErrorKind, Error, InvalidRequest, NodeVote, Resources, Votes, quorum::quorum,
};

use crate::{
    colour::{Colour, bold},
    table::visible,
};

/// The codes of the command itself, as in `sysexits.h` where that has one, and as of a shell for what it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    Warnings = 1,
    Problems = 2,
    Usage = 64,
    Data = 65,
    NoNodes = 66,
    Unavailable = 69,
    Unsupported = 70,
    System = 71,
    Output = 74,
    Locked = 75,
    Lost = 76,
    NotConfirmed = 77,
    Config = 78,
    NotExecutable = 126,
    NotFound = 127,
}

/// One line each, in the order of the codes.
const TABLE: &[(&str, &str)] = &[
    (
        "0",
        "done; for `run`: the command's own code is passed through",
    ),
    ("1", "`check` found what may go wrong"),
    ("2", "`check` found what is wrong"),
    ("64", "usage: an unknown, missing or malformed option"),
    (
        "65",
        "a ttl, resource name or lock value that makes no sense",
    ),
    ("66", "no nodes were given"),
    (
        "69",
        "an outage: no quorum of nodes answered, or not in time",
    ),
    (
        "70",
        "too many nodes cannot do it, or forbid it: fencing tokens, or commands",
    ),
    (
        "71",
        "the operating system refused, for example to start or end a process",
    ),
    (
        "74",
        "standard output could not be written; `acquire` has locked nothing",
    ),
    (
        "75",
        "locked by another, for as long as was waited (--conflict-exit-code)",
    ),
    ("76", "the lock was lost; `run` has ended the command"),
    (
        "77",
        "`force-release` was not confirmed, and has changed nothing",
    ),
    (
        "78",
        "configuration: a file, a URL or a password that makes no sense",
    ),
    ("126", "the command was found, but cannot be executed"),
    ("127", "the command was not found"),
    (
        "128+n",
        "signal n ended the command, the wait for the lock, or `watch`",
    ),
];

/// The table of the exit codes, as text.
pub(crate) fn table() -> String {
    let line = |(code, meaning): &(&str, &str)| format!("  {code:<7}{meaning}\n");
    TABLE.iter().map(line).collect()
}

/// Why the command ends without having done what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Display) -> Self {
        Self {
            code: code as u8,
            message: message.to_string(),
        }
    }

    /// A signal ended it.
    pub(crate) fn signalled(signal: i32, message: impl Display) -> Self {
        Self {
            code: signal_code(signal),
            message: message.to_string(),
        }
    }

    /// What a lock operation on these resources has failed with.
    pub(crate) fn lock(resources: &Resources, error: &Error) -> Self {
        let names = quoted(resources);
        match error {
            Error::Locked(_) => Self::new(Code::Locked, format_args!("{names}: locked by another")),
            Error::Lost(_) => Self::new(Code::Lost, format_args!("{names}: {error}")),
            Error::Invalid(invalid) => invalid.clone().into(),
            Error::NoQuorum(votes) if is_forbidden(votes) => {
                Self::new(Code::Unsupported, format_args!("{names}: {error}"))
            }
            _ => Self::new(Code::Unavailable, format_args!("{names}: {error}")),
        }
    }

    /// With another code, if it says that somebody else holds the lock.
    pub(crate) fn on_conflict(mut self, code: Option<u8>) -> Self {
        if let Some(code) = code.filter(|_| self.code == Code::Locked as u8) {
            self.code = code;
        }
        self
    }

    /// With another message and the same code.
    pub(crate) fn because(mut self, message: impl Display) -> Self {
        self.message = message.to_string();
        self
    }

    /// Ends the process without another look at anything that goes on.
    pub(crate) fn exit(&self) -> ! {
        let _ = self.report();
        exit(i32::from(self.code))
    }

    /// Says it in one line, and gives the code to exit with. What is to count as success needs no words.
    pub(crate) fn report(&self) -> ExitCode {
        if self.code != 0 {
            say(&self.message);
        }
        ExitCode::from(self.code)
    }
}

/// Whether the votes are missing of nodes that cannot do it, however often they are asked.
fn is_forbidden(votes: &Votes) -> bool {
    let cannot = |vote: &NodeVote<'_>| {
        let error = vote.answer().and_then(|answer| answer.as_ref().err());
        error.is_some_and(|error| error.kind() == BackendErrorKind::Unsupported)
    };
    votes.iter().filter(cannot).count() > votes.nodes() - quorum(votes.nodes())
}

impl From<InvalidRequest> for Failure {
    fn from(invalid: InvalidRequest) -> Self {
        let code = match invalid {
            InvalidRequest::NoNodes => Code::NoNodes,
            InvalidRequest::DuplicateNode(_) => Code::Config,
            InvalidRequest::FencingUnsupported(_) => Code::Unsupported,
            _ => Code::Data,
        };
        Self::new(code, invalid)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(Code::System, error)
    }
}

/// One line on standard error.
pub(crate) fn say(message: &str) {
    let message = message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    // What a server says must not command a terminal.
    let message = visible(&message);
    let name = bold("redlock:", Colour::Red, &io::stderr());
    // Nobody is left to be told when this fails.
    let _ = writeln!(io::stderr(), "{name} {message}");
}

/// What a shell makes of a signal.
pub(crate) fn signal_code(signal: i32) -> u8 {
    u8::try_from(signal.saturating_add(128)).unwrap_or(u8::MAX)
}

/// The names so that they can be told apart, whatever characters they have.
pub(crate) fn quoted(resources: &Resources) -> String {
    let names: Vec<_> = resources.iter().map(|name| format!("{name:?}")).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_code() {
        use Code::{
            Config, Data, Locked, Lost, NoNodes, NotConfirmed, NotExecutable, NotFound, Output,
            Problems, System, Unavailable, Unsupported, Usage, Warnings,
        };
        let codes = [
            Warnings,
            Problems,
            Usage,
            Data,
            NoNodes,
            Unavailable,
            Unsupported,
            System,
            Output,
            Locked,
            Lost,
            NotConfirmed,
            Config,
            NotExecutable,
            NotFound,
        ];
        let listed: Vec<_> = TABLE
            .iter()
            .filter_map(|(code, _)| code.parse::<u8>().ok())
            .collect();
        let expected: Vec<_> = [0]
            .into_iter()
            .chain(codes.map(|code| code as u8))
            .collect();
        assert_eq!(listed, expected);
    }

    #[test]
    fn the_readme_has_the_same_table() {
        let readme = include_str!("../README.md");
        for (code, meaning) in TABLE {
            let row = format!("| {code} | {meaning} |");
            assert!(readme.contains(&row), "{row}");
        }
    }
}
