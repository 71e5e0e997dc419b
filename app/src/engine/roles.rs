//! What of one monitor is this node's: seeing it for its datacenter, saying what is true of it, or both.

use super::{agent_scope, site_scope, verdict_scope};
use crate::lease::Leases;
use crate::spec::MonitorSpec;
use crate::store::Fence;
use smallvec::SmallVec;

/// The leases under which something is decided.
pub type Fences = SmallVec<[Fence; 2]>;

/// What is ours of one monitor. Where both are, they are decided together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Under which we see it; none for what is pushed to us, which is seen by whoever says what is true.
    site: Option<Fence>,
    /// Under which we say what is true.
    verdict: Option<Fence>,
    pushed: bool,
}

impl Roles {
    /// Whether attempts, or pushes, are folded here.
    pub const fn sees(&self) -> bool {
        self.site.is_some() || (self.pushed && self.verdict.is_some())
    }

    /// Whether what is true is decided here.
    pub const fn judges(&self) -> bool {
        self.verdict.is_some()
    }

    /// Whether attempts are made here.
    pub const fn probes(&self) -> bool {
        self.site.is_some()
    }

    /// Everything that must still be ours when a decision is written.
    pub fn fences(&self) -> Fences {
        self.site.iter().chain(&self.verdict).cloned().collect()
    }
}

/// All roles that this node can have now, by shard.
pub(super) struct Standing {
    sites: Vec<Option<Fence>>,
    verdicts: Vec<Option<Fence>>,
    agent: Option<Fence>,
}

impl Standing {
    /// As the leases say.
    pub(super) fn of(leases: &Leases, datacenter: &str, agent: &str, shards: u16) -> Self {
        let shards = 0..shards.max(1);
        Self {
            sites: shards.clone().map(|shard| leases.listed(&site_scope(datacenter, shard))).collect(),
            verdicts: shards.map(|shard| leases.listed(&verdict_scope(shard))).collect(),
            agent: leases.listed(&agent_scope(agent)),
        }
    }

    /// The roles for one monitor, if there is any.
    pub(super) fn roles(&self, spec: &MonitorSpec, datacenter: &str, agent: &str) -> Option<Roles> {
        let place = usize::from(spec.shard);
        let pushed = spec.is_push();
        let site = match &spec.agent {
            _ if pushed => None,
            Some(only) => self.agent.clone().filter(|_| only == agent),
            None => self.sites.get(place).cloned().flatten().filter(|_| spec.seen_from(datacenter)),
        };
        let verdict = self.verdicts.get(place).cloned().flatten();
        (site.is_some() || verdict.is_some()).then_some(Roles { site, verdict, pushed })
    }

    /// The lease under which what is true of a shard is decided.
    pub(super) fn verdict(&self, shard: u16) -> Option<Fence> {
        self.verdicts.get(usize::from(shard)).cloned().flatten()
    }
}
