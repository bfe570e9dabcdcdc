//! The restart guard of one node, which may be a master with a replica.
//!
//! All other nodes are left out by supposing the worst: whoever has this node's vote has a quorum. So no two
//! clients may have it at the same time, though the node forgets what it granted: it restarts, or its
//! replica is promoted and lacks the last writes, and then perhaps the old master again, which by then has
//! only what the replica had.
//!
//! **Connections** end with the server's restart and with its demotion. Each is examined once, before
//! anything else is sent over it: the marker key on the server names the server's identity and since when.
//!
//! **Time** counts down in ticks, as in the model of the lock.

use crate::explore::Model;

const CLIENTS: usize = 2;
const SERVERS: usize = 2;

/// How long a key surely stays, and a client believes to hold the lock.
const KEPT: u8 = 2;
/// The guard's delay: the longest ttl.
const GUARD: u8 = 3;

/// How many of what, at most.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub restarts: u8,
    pub promotions: u8,
}

/// What can be wrong with an implementation, or with its surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Every vote counts at once.
    NoDelay,
    /// The marker names the server's `run_id`, but not its `master_replid`.
    RunIdAlone,
    /// A marker of another identity is left as it is, and its age counts.
    MarkerNotRewritten,
    /// A connection outlives the demotion of its server, and is used when that is promoted again.
    ConnectionOutlivesDemotion,
    /// A master still serves its clients after its replica was promoted.
    DeposedMasterServes,
}

/// The guard within these bounds, with a flaw or without.
#[derive(Clone, Debug)]
pub struct Guard {
    pub bounds: Bounds,
    pub flaw: Option<Flaw>,
}

/// What `INFO` says: which process this is, and which history of writes it continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Identity {
    run_id: u8,
    master_replid: u8,
}

/// What is replicated, all at once at any time: commands arrive in order, so a replica has a past state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Data {
    /// Whose the lock's key is.
    holder: Option<u8>,
    /// For how long it surely stays.
    left: u8,
    /// Whom the marker names, and how long ago it was written.
    marker: Option<(Identity, u8)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Server {
    identity: Identity,
    data: Data,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Client {
    connection: Option<Connection>,
    /// For how long it believes to hold the lock.
    valid: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Connection {
    server: u8,
    /// In how many ticks votes over it count.
    counts_in: u8,
}

/// The servers of the node, one of them its master, and the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    servers: [Server; SERVERS],
    master: u8,
    clients: [Client; CLIENTS],
    restarts: u8,
    promotions: u8,
}

/// What happens next.
#[expect(dead_code, reason = "shown in counterexamples")]
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Time passes.
    Tick,
    /// A client opens a connection and examines it.
    Connect { client: usize },
    /// The node grants a client the lock.
    Grant { client: usize, counts: bool },
    /// A client releases its lock; the request may arrive later or never.
    Release { client: usize },
    /// A key is deleted or reaches its end.
    Vanish { server: usize },
    /// The replica catches up.
    Replicate,
    /// The replica becomes the master, and the master its replica.
    Promote,
    /// The master forgets its keys; the marker may survive in a snapshot.
    Restart { marker_survives: bool },
}

impl Guard {
    fn is(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn client_steps(&self, state: &State, client: usize, add: &mut impl FnMut(Step, State)) {
        let it = state.clients[client];
        let mut connected = *state;
        let counts_in = self.examine(&mut connected.servers[usize::from(state.master)]);
        connected.clients[client].connection = Some(Connection {
            server: state.master,
            counts_in,
        });
        add(Step::Connect { client }, connected);

        if let Some(connection) = it.connection {
            let server = usize::from(connection.server);
            let answers = connection.server == state.master || self.is(Flaw::DeposedMasterServes);
            let free = state.servers[server].data.holder.is_none();
            if answers && free && it.valid == 0 {
                let mut next = *state;
                let data = &mut next.servers[server].data;
                data.holder = u8::try_from(client).ok();
                data.left = KEPT;
                let counts = connection.counts_in == 0;
                if counts {
                    next.clients[client].valid = KEPT;
                }
                add(Step::Grant { client, counts }, next);
            }
        }
        if it.valid > 0 {
            let mut next = *state;
            next.clients[client].valid = 0;
            add(Step::Release { client }, next);
        }
    }

    /// The script on the marker key, and what the client makes of its answer.
    fn examine(&self, server: &mut Server) -> u8 {
        let is_ours = |marked: Identity| {
            marked.run_id == server.identity.run_id
                && (marked.master_replid == server.identity.master_replid
                    || self.is(Flaw::RunIdAlone))
                || self.is(Flaw::MarkerNotRewritten)
        };
        let age = match server.data.marker {
            Some((marked, age)) if is_ours(marked) => age,
            _ => {
                server.data.marker = Some((server.identity, 0));
                0
            }
        };
        if self.is(Flaw::NoDelay) {
            0
        } else {
            GUARD - age
        }
    }

    fn promote(&self, state: &State) -> State {
        let mut next = *state;
        next.master = 1 - state.master;
        next.promotions += 1;
        next.servers[usize::from(next.master)]
            .identity
            .master_replid = next.promotions;
        let connections_end =
            !self.is(Flaw::ConnectionOutlivesDemotion) && !self.is(Flaw::DeposedMasterServes);
        if connections_end {
            next.disconnect(state.master);
        }
        next
    }
}

impl State {
    fn disconnect(&mut self, server: u8) {
        for client in &mut self.clients {
            client.connection = client.connection.filter(|it| it.server != server);
        }
    }

    fn restart(&self, marker_survives: bool) -> Self {
        let mut next = *self;
        next.restarts += 1;
        next.disconnect(self.master);
        let server = &mut next.servers[usize::from(self.master)];
        server.identity.run_id = u8::try_from(SERVERS).unwrap_or(u8::MAX) + self.restarts;
        server.data.holder = None;
        server.data.left = 0;
        if !marker_survives {
            server.data.marker = None;
        }
        next
    }

    fn after_a_tick(&self) -> Self {
        let mut next = *self;
        for Server { data, .. } in &mut next.servers {
            data.left = data.left.saturating_sub(1);
            if let Some((_, age)) = &mut data.marker {
                *age = GUARD.min(*age + 1);
            }
        }
        for client in &mut next.clients {
            client.valid = client.valid.saturating_sub(1);
            if let Some(connection) = &mut client.connection {
                connection.counts_in = connection.counts_in.saturating_sub(1);
            }
        }
        next
    }
}

impl Model for Guard {
    type State = State;
    type Step = Step;

    fn landmarks(&self) -> Vec<&'static str> {
        let mut landmarks = vec![GRANTED, IN_VAIN];
        if self.bounds.restarts > 0 {
            landmarks.push(RESTARTED);
        }
        if self.bounds.promotions > 1 {
            landmarks.push(BACK_AGAIN);
        }
        landmarks
    }

    fn starts(&self) -> Vec<State> {
        let server = |run_id| Server {
            identity: Identity {
                run_id,
                master_replid: 0,
            },
            data: Data::default(),
        };
        vec![State {
            servers: [server(0), server(1)],
            master: 0,
            clients: [Client::default(); CLIENTS],
            restarts: 0,
            promotions: 0,
        }]
    }

    fn steps(&self, state: &State, steps: &mut Vec<(Step, State)>) {
        let mut add = |step, next| steps.push((step, next));
        for client in 0..CLIENTS {
            self.client_steps(state, client, &mut add);
        }
        for (server, Server { data, .. }) in state.servers.iter().enumerate() {
            let believed = |it: u8| state.clients[usize::from(it)].valid > 0;
            if let Some(holder) = data.holder
                && (data.left == 0 || !believed(holder))
            {
                let mut next = *state;
                next.servers[server].data.holder = None;
                next.servers[server].data.left = 0;
                add(Step::Vanish { server }, next);
            }
        }
        if self.bounds.promotions > 0 {
            let master = state.servers[usize::from(state.master)];
            let mut next = *state;
            let replica = &mut next.servers[usize::from(1 - state.master)];
            replica.data = master.data;
            replica.identity.master_replid = master.identity.master_replid;
            add(Step::Replicate, next);
        }
        if state.promotions < self.bounds.promotions {
            add(Step::Promote, self.promote(state));
        }
        if state.restarts < self.bounds.restarts {
            for marker_survives in [false, true] {
                add(
                    Step::Restart { marker_survives },
                    state.restart(marker_survives),
                );
            }
        }
        add(Step::Tick, state.after_a_tick());
    }

    fn landmark(&self, before: &State, step: Step) -> Option<&'static str> {
        let held = before.clients.iter().any(|it| it.valid > 0);
        match step {
            Step::Grant { counts: true, .. } if before.restarts + before.promotions > 0 => {
                Some(GRANTED)
            }
            Step::Grant { counts: false, .. } if held => Some(IN_VAIN),
            Step::Restart { .. } if held => Some(RESTARTED),
            Step::Promote if held && before.promotions > 0 => Some(BACK_AGAIN),
            _ => None,
        }
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        let valid = state.clients.iter().filter(|it| it.valid > 0);
        (valid.count() > 1).then_some("exclusion: two clients have the vote of one node")
    }
}

const GRANTED: &str = "granted after a restart or promotion";
const IN_VAIN: &str = "a grant did not count while another held it";
const RESTARTED: &str = "restarted while it is held";
const BACK_AGAIN: &str = "promoted again while it is held";
