//! What a client is told and what it says.
//!
//! A client is a program that is started with the [`Options`] as arguments, contends for the
//! [resources](resource) until its standard input ends, and then exits. It holds one lock at a time and prints a
//! [`Line`] for each of these as it happens:
//!
//! ```text
//! granted RESOURCE[,RESOURCE] VALUE ASKED GRANTED UNTIL TOKEN
//! extended UNTIL
//! released AT
//! lost AT
//! contended
//! failed
//! ```
//!
//! Times are nanoseconds of `CLOCK_MONOTONIC`. `ASKED` is before the first request was sent, `GRANTED` after the call
//! returned, `UNTIL` is the client's own deadline, `TOKEN` its fencing token, or `-`. `released` is said right
//! *before* the release is sent, with the time when it is said, and `lost` when the client learns it. Who says neither counts
//! as holding until its deadline. An attempt that got nothing is `contended` if somebody held the lock and `failed`
//! otherwise.

use std::{fmt, str::FromStr, time::Duration};

use redlock::{FencingToken, Instant, LockValue};

use crate::Clock;

/// How many resources the clients contend for.
pub const RESOURCES: usize = 3;

/// The name of a resource, of which there are [`RESOURCES`].
#[must_use]
pub fn resource(number: usize) -> String {
    format!("chaos:{number}")
}

/// What a client is started with.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Which of the clients it is, from 0 on.
    #[arg(long)]
    pub number: u64,
    /// What its choices depend on.
    #[arg(long)]
    pub seed: u64,
    /// The ttl of its locks.
    #[arg(long)]
    pub ttl_ms: u64,
    /// Nodes that have restarted have no vote until the locks have ended that they may have forgotten.
    #[arg(long)]
    pub guard: bool,
    /// Locks have fencing tokens.
    #[arg(long)]
    pub fencing: bool,
    /// The nodes.
    #[arg(required = true)]
    pub urls: Vec<String>,
}

impl Options {
    /// The ttl of its locks.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms)
    }

    /// These options as arguments.
    #[must_use]
    pub fn args(&self) -> Vec<String> {
        let numbers = [
            ("--number", self.number),
            ("--seed", self.seed),
            ("--ttl-ms", self.ttl_ms),
        ];
        let flags = [("--guard", self.guard), ("--fencing", self.fencing)];
        let numbers = numbers.map(|(name, number)| format!("{name}={number}"));
        let flags = flags.into_iter().filter(|(_, set)| *set);
        let flags = flags.map(|(name, _)| name.to_owned());
        let urls = self.urls.iter().cloned();
        numbers.into_iter().chain(flags).chain(urls).collect()
    }
}

/// A line that a client prints. Times are nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the module tells")]
pub enum Line {
    Granted(Grant),
    Extended { until: u64 },
    Released { at: u64 },
    Lost { at: u64 },
    Contended,
    Failed,
}

/// A lock that was granted. Times are nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the module tells")]
pub struct Grant {
    pub resources: Vec<String>,
    pub value: LockValue,
    pub asked: u64,
    pub granted: u64,
    pub until: u64,
    pub token: Option<FencingToken>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granted(grant) => {
                let (resources, value) = (grant.resources.join(","), grant.value.as_str());
                let token = grant
                    .token
                    .map_or("-".to_owned(), |token| token.to_string());
                let (asked, granted, until) = (grant.asked, grant.granted, grant.until);
                write!(
                    f,
                    "granted {resources} {value} {asked} {granted} {until} {token}"
                )
            }
            Self::Extended { until } => write!(f, "extended {until}"),
            Self::Released { at } => write!(f, "released {at}"),
            Self::Lost { at } => write!(f, "lost {at}"),
            Self::Contended => f.write_str("contended"),
            Self::Failed => f.write_str("failed"),
        }
    }
}

impl FromStr for Line {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        parse(line).ok_or_else(|| format!("a client may not say {line:?}"))
    }
}

fn parse(line: &str) -> Option<Line> {
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    Some(match words[..] {
        ["granted", resources, value, asked, granted, until, token] => Line::Granted(Grant {
            resources: resources.split(',').map(Into::into).collect(),
            value: value.parse().ok()?,
            asked: asked.parse().ok()?,
            granted: granted.parse().ok()?,
            until: until.parse().ok()?,
            token: match token {
                "-" => None,
                token => Some(FencingToken::new(token.parse().ok()?)),
            },
        }),
        ["extended", until] => Line::Extended {
            until: until.parse().ok()?,
        },
        ["released", at] => Line::Released {
            at: at.parse().ok()?,
        },
        ["lost", at] => Line::Lost {
            at: at.parse().ok()?,
        },
        ["contended"] => Line::Contended,
        ["failed"] => Line::Failed,
        _ => return None,
    })
}

/// Says the lines of a client.
#[derive(Debug)]
pub struct Report(Clock);

impl Report {
    /// From the beginning of the client on, which ends with its standard input.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it ends the process")]
    pub fn new() -> Self {
        std::thread::spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            std::process::exit(0);
        });
        Self(Clock::new())
    }

    /// A lock was granted, with this deadline. To be said as soon as the call has returned.
    pub fn granted(
        &self,
        resources: &[String],
        value: &LockValue,
        asked: Instant,
        until: Instant,
        token: Option<FencingToken>,
    ) {
        let granted = Instant::now();
        let [asked, granted, until] = [asked, granted, until].map(|at| self.0.nanos(at));
        let (resources, value) = (resources.to_vec(), value.clone());
        say(&Line::Granted(Grant {
            resources,
            value,
            asked,
            granted,
            until,
            token,
        }));
    }

    /// The deadline is later now.
    pub fn extended(&self, until: Instant) {
        let until = self.0.nanos(until);
        say(&Line::Extended { until });
    }

    /// The release will be sent next.
    pub fn released(&self) {
        let at = self.0.nanos(Instant::now());
        say(&Line::Released { at });
    }

    /// The lock turned out to be lost.
    pub fn lost(&self) {
        let at = self.0.nanos(Instant::now());
        say(&Line::Lost { at });
    }

    /// Somebody else has it.
    pub fn contended(&self) {
        say(&Line::Contended);
    }

    /// There was no quorum.
    pub fn failed(&self) {
        say(&Line::Failed);
    }
}

fn say(line: &Line) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_is_understood() {
        let grant = |token| {
            Line::Granted(Grant {
                resources: vec![resource(0), resource(1)],
                value: LockValue::random(),
                asked: 1,
                granted: 2,
                until: 3,
                token,
            })
        };
        let lines = [
            grant(None),
            grant(Some(FencingToken::new(4))),
            Line::Extended { until: 5 },
            Line::Released { at: 6 },
            Line::Lost { at: 7 },
            Line::Contended,
            Line::Failed,
        ];
        for line in lines {
            assert_eq!(line.to_string().parse(), Ok(line));
        }
        for line in ["", "granted", "released", "released soon", "lost 1 2"] {
            assert!(line.parse::<Line>().is_err(), "{line:?}");
        }
    }
}
