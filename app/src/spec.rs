//! The compiled monitor: configuration joined with the ids that the store gave it.
//!
//! Built once per (re)load, immutable, shared. A reload keeps the very same `Arc` for a monitor that did not change.

use crate::calendar::Hours;
use crate::channel::{ChannelKind, email};
use crate::config::{AlertConfig, ChannelConfig, Config, MonitorConfig, Pos, StatusPageConfig, TenantConfig};
use crate::net::Guard;
use crate::probe::{Probe, ProbeConfig};
use crate::schedule::Cadence;
use crate::store::{Applied, AppliedMonitor, AppliedTenant, ChannelObject, MaintenanceObject, MonitorObject, TenantObjects};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::rule::Step;
use watchkeeper_core::sight::SightPolicy;
use watchkeeper_core::verdict::Policy;
use watchkeeper_core::{ChannelId, Dur, Micros, MonitorId, Rule, RuleKey, TenantId};

/// How facts about this monitor come to be.
pub enum Source {
    /// An attempt is made when it is due.
    Probe(Box<dyn Probe>),
    /// Facts are pushed to us; silence for longer than `expect_every + grace` is a miss.
    Push {
        /// A push is expected at least so often.
        expect_every: Dur,
        /// It may be late by so much.
        grace: Dur,
    },
}

/// The hours of each (rule, channel) that has any; one that has several is told at any of them.
pub type RouteHours = HashMap<(RuleKey, ChannelId), Vec<Arc<Hours>>>;

/// One monitor, ready to be watched.
pub struct MonitorSpec {
    /// Row id.
    pub id: MonitorId,
    /// Public id (UUID text).
    pub uid: String,
    /// Owner.
    pub tenant: TenantId,
    /// The owner's slug.
    pub tenant_slug: String,
    /// Name, unique in the tenant.
    pub name: String,
    /// `http`, `tcp`, …
    pub kind: &'static str,
    /// What is watched, without credentials.
    pub target: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// When attempts are due.
    pub cadence: Cadence,
    /// An attempt is ended after so long.
    pub timeout: Dur,
    /// What makes the facts.
    pub source: Source,
    /// Thresholds of fold 1.
    pub sight: SightPolicy,
    /// Quorum and rules of fold 2.
    pub policy: Policy,
    /// What chose the channels of each rule, in words.
    pub chosen: HashMap<RuleKey, String>,
    /// At which hours a channel is told of a rule. What is not here is told at any time.
    pub hours: RouteHours,
    /// Which lease shard decides for it.
    pub shard: u16,
    /// Codes of the datacenters that see it; all if empty.
    pub datacenters: Vec<String>,
    /// The one node that sees it, if only one can.
    pub agent: Option<String>,
    /// Whether a failure is confirmed before it counts: by a second path, and by a look at this node's own network.
    pub confirm: bool,
    /// Whether the evidence of every attempt is kept.
    pub keep_every_detail: bool,
    /// Which addresses its attempts may reach: what was made over the API is not the word of whoever runs this node.
    pub guard: Guard,
    /// Not watched for now; its state stays.
    pub paused: bool,
    /// When the store first saw it.
    pub created_at: Micros,
    /// SHA-256 of its canonical configuration: equal means unchanged.
    pub hash: [u8; 32],
}

impl MonitorSpec {
    /// Whether a datacenter sees it.
    pub fn seen_from(&self, datacenter: &str) -> bool {
        self.datacenters.is_empty() || self.datacenters.iter().any(|code| code == datacenter)
    }

    /// Whether facts about it are pushed to us.
    pub const fn is_push(&self) -> bool {
        matches!(self.source, Source::Push { .. })
    }

    /// Until when, and why, a word about a rule is not told to a channel; `None` if it may be told now.
    pub fn not_before(&self, rule: &RuleKey, channel: ChannelId, now: Micros) -> Option<(Micros, String)> {
        let hours = self.hours.get(&(rule.clone(), channel))?;
        let mut first: Option<Micros> = None;
        for hours in hours {
            let opens = hours.opens_at(now)?;
            first = Some(first.map_or(opens, |soonest| soonest.min(opens)));
        }
        // When that is, whoever shows it says in the zone of whoever reads it.
        first.map(|at| (at, "outside the hours of its route".to_owned()))
    }
}

/// Everything that is watched, by id.
#[derive(Clone, Default)]
pub struct Fleet(pub Arc<HashMap<MonitorId, Arc<MonitorSpec>>>);

/// Every channel of the configuration in force, with its owner and its secrets.
#[derive(Clone, Default)]
pub struct Channels(pub Arc<Vec<OwnedChannel>>);

/// One channel of a tenant.
#[derive(Clone)]
pub struct OwnedChannel {
    /// Row id.
    pub id: ChannelId,
    /// Owner.
    pub tenant: TenantId,
    /// What the file says.
    pub config: ChannelConfig,
}

impl Channels {
    /// Joins the configuration with the ids that the store gave it.
    pub fn of(config: &Config, applied: &Applied) -> Self {
        let tenants = config.tenants.iter().zip(&applied.tenants);
        let owned = tenants.flat_map(|(tenant, ids)| {
            let channels = ids.channels.iter().zip(&tenant.channels);
            channels.map(|(id, config)| OwnedChannel { id: *id, tenant: ids.tenant, config: config.clone() })
        });
        Self(Arc::new(owned.collect()))
    }
}

/// Every public status page of the configuration in force, with its owner; `None` while another one is in force than this node's.
#[derive(Clone, Default)]
pub struct Pages(pub Option<Arc<Vec<Arc<OwnedPage>>>>);

/// One status page of a tenant.
pub struct OwnedPage {
    /// Owner.
    pub tenant: TenantId,
    /// What the file says.
    pub config: StatusPageConfig,
    /// What takes mail for its subscribers, if it may have any; and what may be reached for that.
    pub mail: Option<(email::Config, Guard)>,
    /// What strangers' webhooks may reach.
    pub hooks: Guard,
}

impl OwnedPage {
    fn of(page: StatusPageConfig, id: TenantId, tenant: &TenantConfig, config: &Config) -> Self {
        let named = page.subscribers.as_ref().and_then(|named| tenant.channels.iter().find(|channel| channel.name == named.channel.0));
        let mail = named.and_then(|channel| match &channel.kind {
            ChannelKind::Email(email) => Some((email.clone(), guard_of(config, &channel.at))),
            ChannelKind::Telegram(_) | ChannelKind::Webhook(_) | ChannelKind::Discord(_) => None,
        });
        Self { tenant: id, config: page, mail, hooks: config.server.api_targets }
    }
}

impl Pages {
    /// Joins the configuration with the ids that the store gave it.
    pub fn of(config: &Config, applied: &Applied) -> Self {
        let tenants = config.tenants.iter().zip(&applied.tenants);
        let owned = tenants.flat_map(|(tenant, ids)| {
            tenant.status_pages.iter().map(|page| Arc::new(OwnedPage::of(page.clone(), ids.tenant, tenant, config)))
        });
        Self(Some(Arc::new(owned.collect())))
    }
}

/// The configuration's objects as the store takes them. Every push monitor gets a fresh token, which the store only keeps
/// for one that has none. Fails only if the system has no randomness to give.
pub fn objects(config: &Config) -> Result<Vec<TenantObjects>, getrandom::Error> {
    config.tenants.iter().map(tenant_objects).collect()
}

fn tenant_objects(tenant: &TenantConfig) -> Result<TenantObjects, getrandom::Error> {
    let channels = tenant.channels.iter().map(|channel| ChannelObject {
        name: channel.name.clone(),
        kind: channel.kind.kind().to_owned(),
        config: channel.kind.canonical(&channel.common).to_string(),
        budget: channel.kind.budget_key(),
        last_resort: channel.common.last_resort,
        origin: origin(&channel.at),
    });
    let monitors = tenant.monitors.iter().map(|monitor| {
        Ok(MonitorObject {
            name: monitor.name.clone(),
            uid: monitor.uid.clone(),
            was: monitor.was.clone(),
            kind: monitor.probe.kind().to_owned(),
            target: monitor.probe.target(),
            config: monitor.canonical.clone(),
            labels: monitor.labels.clone(),
            paused: monitor.paused,
            origin: origin(&monitor.at),
            hash: monitor.hash,
            push_token: if matches!(monitor.probe, ProbeConfig::Push(_)) { Some(crate::web::new_push_token()?) } else { None },
            depends_on: monitor.depends_on.clone(),
        })
    });
    let maintenance = tenant.maintenance.iter().map(|announced| {
        let (matcher, window) = announced.stored();
        MaintenanceObject { name: announced.name.clone(), matcher, window, origin: origin(&announced.at) }
    });
    Ok(TenantObjects {
        tenant: tenant.slug.clone(),
        channels: channels.collect(),
        monitors: monitors.collect::<Result<_, _>>()?,
        maintenance: maintenance.collect(),
    })
}

/// The origin of what was made over the API.
pub const MADE_OVER_THE_API: &str = "api";

/// `file:line`, or where else something is from.
pub fn origin(at: &Pos) -> String {
    if at.in_document() { MADE_OVER_THE_API.to_owned() } else { format!("{}:{}", at.file, at.line) }
}

/// The configured channels with the ids that the store gave them.
pub fn channels<'c>(config: &'c Config, applied: &'c Applied) -> impl Iterator<Item = (ChannelId, &'c ChannelConfig)> {
    let tenants = config.tenants.iter().zip(&applied.tenants);
    tenants.flat_map(|(tenant, ids)| ids.channels.iter().copied().zip(&tenant.channels))
}

/// Joins the configuration with the ids that the store gave it, in the same order. A monitor whose configuration, identity
/// and route are as before keeps its very same `Arc`, so that a reload touches only what changed.
pub fn build(config: &Config, applied: &Applied, previous: &Fleet, shards: u16, now: Micros) -> Fleet {
    let mut fleet = HashMap::new();
    for (tenant, ids) in config.tenants.iter().zip(&applied.tenants) {
        let channels: HashMap<&str, ChannelId> =
            tenant.channels.iter().map(|c| c.name.as_str()).zip(ids.channels.iter().copied()).collect();
        for (monitor, identity) in tenant.monitors.iter().zip(&ids.monitors) {
            let (policy, hours, chosen) = (policy(monitor, &channels), hours(monitor, &channels), chosen(monitor));
            let guard = guard_of(config, &monitor.at);
            let kept = previous.0.get(&identity.id).filter(|spec| {
                spec.hash == monitor.hash
                    && spec.guard == guard
                    && spec.keep_every_detail == monitor.keep_every_detail
                    && spec.policy == policy
                    && spec.hours == hours
                    && spec.chosen == chosen
                    && spec.tenant == ids.tenant
                    && spec.uid == identity.uid
            });
            let spec = kept
                .cloned()
                .unwrap_or_else(|| Arc::new(monitor_spec(tenant, ids, monitor, identity, (policy, hours, chosen, guard), shards, now)));
            fleet.insert(identity.id, spec);
        }
    }
    Fleet(Arc::new(fleet))
}

/// What may be reached by something that is said at this place.
pub fn guard_of(config: &Config, at: &Pos) -> Guard {
    if at.in_document() { config.server.api_targets } else { Guard::Open }
}

fn policy(monitor: &MonitorConfig, channels: &HashMap<&str, ChannelId>) -> Policy {
    let ids = |named: &[(String, Pos)]| named.iter().filter_map(|(name, _)| channels.get(name.as_str()).copied()).collect();
    let rules = monitor.alerts.iter().map(|alert| Rule {
        key: RuleKey::new(&alert.key()),
        trigger: alert.kind.trigger(),
        severity: alert.severity,
        hold: alert.hold,
        channels: ids(alert.notify.as_deref().unwrap_or_default()),
        remind: alert.telling.remind(),
        escalate: alert.telling.escalate().iter().map(|step| Step { after: step.after, channels: ids(&step.notify) }).collect(),
        flap_window: alert.telling.flap_window(),
        cooldown: alert.telling.cooldown(),
    });
    Policy { quorum: monitor.quorum, rules: rules.collect() }
}

fn hours(monitor: &MonitorConfig, channels: &HashMap<&str, ChannelId>) -> RouteHours {
    let of_rule = |alert: &AlertConfig| {
        let key = RuleKey::new(&alert.key());
        let found = alert.hours.iter().filter_map(|(name, hours)| Some(((key.clone(), *channels.get(name.as_str())?), hours.clone())));
        found.collect::<Vec<_>>()
    };
    monitor.alerts.iter().flat_map(of_rule).collect()
}

fn chosen(monitor: &MonitorConfig) -> HashMap<RuleKey, String> {
    monitor.alerts.iter().map(|alert| (RuleKey::new(&alert.key()), alert.chosen.words())).collect()
}

fn monitor_spec(
    tenant: &TenantConfig,
    ids: &AppliedTenant,
    monitor: &MonitorConfig,
    identity: &AppliedMonitor,
    (policy, hours, chosen, guard): (Policy, RouteHours, HashMap<RuleKey, String>, Guard),
    shards: u16,
    now: Micros,
) -> MonitorSpec {
    MonitorSpec {
        id: identity.id,
        uid: identity.uid.clone(),
        tenant: ids.tenant,
        tenant_slug: tenant.slug.clone(),
        name: monitor.name.clone(),
        kind: monitor.probe.kind(),
        target: monitor.probe.target(),
        labels: monitor.labels.clone(),
        cadence: monitor.cadence.clone(),
        timeout: monitor.timeout,
        source: monitor.probe.build(),
        sight: SightPolicy { down_after: monitor.down_after, up_after: monitor.up_after, vote_lasts: interval(monitor, now).times(3) },
        policy,
        hours,
        chosen,
        shard: identity.id.0.rem_euclid(i64::from(shards.max(1))) as u16,
        datacenters: monitor.datacenters.clone(),
        agent: monitor.agent.clone(),
        confirm: monitor.confirm,
        keep_every_detail: monitor.keep_every_detail,
        guard,
        paused: monitor.paused,
        created_at: identity.created_at,
        hash: monitor.hash,
    }
}

/// The longest time between two facts when all is well; a vote lasts three of them.
fn interval(monitor: &MonitorConfig, now: Micros) -> Dur {
    if let ProbeConfig::Push(push) = &monitor.probe {
        return Dur(push.expect_every.0.saturating_add(push.grace.0));
    }
    let longest = |a: Dur, health| a.max(monitor.cadence.interval(health, now));
    [Health::Up, Health::Degraded, Health::Down, Health::Unknown].into_iter().fold(Dur::ZERO, longest)
}
