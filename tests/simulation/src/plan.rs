//! What a seed stands for: how many nodes and clients, how bad the network, which faults.

use std::time::Duration;

use crate::{node::Node, rng::Rng};

/// What a node that crashes remembers when it is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Everything.
    Kept,
    /// Nothing.
    Lost,
    /// What it held at some moment before, as a replica that was behind or a snapshot.
    Stale,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) clients: usize,
    pub(crate) resources: usize,
    /// How fast the clock of each node runs.
    pub(crate) rates: Vec<f64>,
    pub(crate) drift_factor: f64,
    pub(crate) ttls: &'static [u64],
    pub(crate) network: Network,
    pub(crate) memory: Memory,
    /// How many crashes there may be.
    pub(crate) crashes: usize,
    /// Whether nodes stay out after a restart.
    pub(crate) guarded: bool,
    pub(crate) fencing: Option<Clocks>,
    pub(crate) node_timeout: Option<Duration>,
    pub(crate) cleanup_timeout: Option<Duration>,
    /// How often, of a hundred times, a client stands still during an operation.
    pub(crate) stalls: u64,
    /// How many locks each client wants.
    pub(crate) locks: usize,
    /// Whether they all compete once more when the faults are over.
    pub(crate) crowd: bool,
}

/// Wall clocks, by how many seconds they are ahead.
#[derive(Clone, Debug)]
pub(crate) struct Clocks {
    pub(crate) nodes: Vec<i64>,
    /// Of each client.
    pub(crate) clients: Vec<i64>,
    /// For how long nodes remember a fencing token.
    pub(crate) keep_for: Duration,
    /// How long a client may be away: then nodes count again that were restarted, and fences expire.
    pub(crate) nap: Duration,
}

/// In times of a hundred, and milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) delay: u64,
    /// How many messages are slow, and how slow they may be.
    pub(crate) slow: (u64, u64),
    /// How many are timed to arrive when a quorum of keys expires.
    pub(crate) aimed: u64,
    pub(crate) lost: u64,
    pub(crate) twice: u64,
}

impl Plan {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let nodes = rng.weighted(&[(1, 1), (2, 2), (18, 3), (1, 4), (3, 5)]);
        let drift_factor = rng.pick(&[0.01, 0.01, 0.05, 0.1]);
        // Up to this the drift factor allows for; a slow clock only holds longer.
        let fastest = 1.0 / (1.0 - drift_factor);
        let slowest = 1.0 - drift_factor;
        let rates = (0..nodes)
            .map(|_| rng.pick(&[1.0, fastest, fastest, slowest, f64::midpoint(1.0, fastest)]))
            .collect();
        let memory = rng.weighted(&[(5, Memory::Kept), (4, Memory::Lost), (2, Memory::Stale)]);
        Self {
            clients: rng.weighted(&[(8, 2), (3, 3), (1, 4)]),
            resources: rng.weighted(&[(6, 1), (2, 2), (1, 3)]),
            rates,
            drift_factor,
            ttls: rng.pick(&[&[1000, 2000], &[2000], &[1000, 5000], &[3000]]),
            network: Network::draw(rng),
            memory,
            crashes: rng.weighted(&[(4, 0), (3, 1), (2, 2), (1, 4)]),
            guarded: rng.percent(if memory == Memory::Kept { 20 } else { 85 }),
            fencing: rng.percent(50).then(|| Clocks::draw(rng, nodes)),
            node_timeout: rng.weighted(&[(3, None), (1, Some(Duration::from_millis(200)))]),
            cleanup_timeout: rng.weighted(&[(1, None), (2, Some(Duration::from_millis(500)))]),
            stalls: rng.weighted(&[(2, 0), (2, 10), (1, 30)]),
            locks: rng.weighted(&[(8, 1), (3, 2), (1, 3)]),
            crowd: rng.percent(12),
        }
    }

    pub(crate) const fn nodes(&self) -> usize {
        self.rates.len()
    }

    pub(crate) fn nodes_at_first(&self) -> Vec<Node> {
        let ahead = |node| self.fencing.as_ref().map_or(0, |clocks| clocks.nodes[node]);
        let rates = self.rates.iter().enumerate();
        rates
            .map(|(node, rate)| Node::new(*rate, ahead(node)))
            .collect()
    }

    pub(crate) const fn quorum(&self) -> usize {
        self.nodes() / 2 + 1
    }

    pub(crate) fn longest_ttl(&self) -> Duration {
        Duration::from_millis(self.ttls.iter().copied().max().unwrap_or(0))
    }

    /// Whether nodes vote again at once when they are back, also if they have forgotten what they granted.
    pub(crate) const fn guarded_against_nothing(&self) -> bool {
        !self.guarded
    }
}

impl Clocks {
    fn draw(rng: &mut Rng, nodes: usize) -> Self {
        const YEAR: i64 = 365 * 24 * 3600;
        // Of a minority the clock may be anything.
        let wrong = nodes - (nodes / 2 + 1);
        let mut near: Vec<_> = (0..nodes)
            .map(|_| rng.pick(&[0, 0, 1, -1, 60, -60, 140]))
            .collect();
        for clock in &mut near[..wrong] {
            *clock = rng.pick(&[*clock, *clock, 3600, -3600, YEAR]);
        }
        Self {
            nodes: near,
            clients: (0..8)
                .map(|_| rng.pick(&[0, 0, 0, 1, -1, 290, -290, 900, -900, -YEAR, YEAR]))
                .collect(),
            keep_for: Duration::from_secs(rng.pick(&[3600, 24 * 3600])),
            nap: Duration::from_secs(rng.pick(&[1000, 3700, 25 * 3600])),
        }
    }
}

impl Network {
    fn draw(rng: &mut Rng) -> Self {
        Self {
            delay: rng.pick(&[0, 1, 3, 10, 40]),
            slow: rng.pick(&[(0, 0), (0, 0), (10, 100), (8, 1000), (10, 3000), (30, 90)]),
            aimed: rng.pick(&[0, 0, 5, 15]),
            lost: rng.pick(&[0, 0, 0, 0, 2, 2, 8, 20]),
            twice: rng.pick(&[0, 0, 0, 5, 10]),
        }
    }

    /// The network of the end, when all is well.
    pub(crate) const fn calm() -> Self {
        Self {
            delay: 1,
            slow: (0, 0),
            aimed: 0,
            lost: 0,
            twice: 0,
        }
    }

    /// No message takes longer, except one that is aimed.
    pub(crate) fn slowest(&self) -> Duration {
        Duration::from_millis(self.delay.max(self.slow.1))
    }
}
