//! What all clients said.

use redlock::{FencingToken, Instant, Resources};
use redlock_test::{Ending, Hold};

use crate::{Clock, protocol::Line};

/// A hold of a client.
#[derive(Clone, Debug)]
pub struct Claim {
    pub hold: Hold,
    /// Before its request was sent.
    pub asked: Instant,
    pub token: Option<FencingToken>,
}

#[derive(Debug)]
pub struct Record {
    clock: Clock,
    /// Of each client, in the order of being granted.
    claims: Vec<Vec<Claim>>,
    pub contended: usize,
    pub failed: usize,
    pub extended: usize,
    pub lost: usize,
}

impl Record {
    pub(crate) fn new(clients: usize) -> Self {
        Self {
            clock: Clock::new(),
            claims: vec![Vec::new(); clients],
            contended: 0,
            failed: 0,
            extended: 0,
            lost: 0,
        }
    }

    /// A client has said this.
    pub(crate) fn add(&mut self, client: usize, line: &str) -> Result<(), String> {
        let clock = self.clock;
        let at = |nanos| clock.instant(nanos);
        let claims = &mut self.claims[client];
        let nothing = || format!("client {client} says {line:?} and holds nothing");
        match line.parse()? {
            Line::Granted(grant) => claims.push(Claim {
                hold: Hold {
                    who: format!("client {client}"),
                    resources: Resources::new(grant.resources).map_err(|it| it.to_string())?,
                    value: grant.value,
                    granted: at(grant.granted),
                    valid_until: at(grant.until),
                    ending: Ending::Deadline,
                },
                asked: at(grant.asked),
                token: grant.token,
            }),
            Line::Extended { until } => {
                let hold = &mut claims.last_mut().ok_or_else(nothing)?.hold;
                hold.valid_until = hold.valid_until.max(at(until));
                self.extended += 1;
            }
            Line::Released { at: nanos } => {
                claims.last_mut().ok_or_else(nothing)?.hold.ending = Ending::Released(at(nanos));
            }
            Line::Lost { at: nanos } => {
                claims.last_mut().ok_or_else(nothing)?.hold.ending = Ending::Lost(at(nanos));
                self.lost += 1;
            }
            Line::Contended => self.contended += 1,
            Line::Failed => self.failed += 1,
        }
        Ok(())
    }

    pub(crate) fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.claims.iter().flatten()
    }

    pub(crate) fn grants_of(&self, client: usize) -> usize {
        self.claims[client].len()
    }

    /// A lock that was asked for after the one instant, granted before the other, and is held still.
    pub(crate) fn held(&self, asked_after: Instant, granted_before: Instant) -> Option<&Claim> {
        let last = self.claims.iter().filter_map(|claims| claims.last());
        last.into_iter().find(|claim| {
            claim.asked > asked_after
                && claim.hold.granted < granted_before
                && claim.hold.ending == Ending::Deadline
                && claim.hold.valid_until > Instant::now()
        })
    }
}
