//! A small installation in a fresh store: two tenants, a few monitors, one node that holds the leases.

use crate::support::store::TestStore;
use smallvec::smallvec;
use std::collections::BTreeMap;
use std::sync::Arc;
use watchkeeper::channel::Message;
use watchkeeper::channel::content::Content;
use watchkeeper::store::*;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::rule::{RuleKey, Severity};
use watchkeeper_core::verdict::NoticeEvent;
use watchkeeper_core::{AgentId, ChannelId, DatacenterId, Dur, IncidentId, Micros, MonitorId, Outcome, TenantId};

/// Midnight UTC, 1 November 2026: the beginning of an hour and of a day.
pub const T0: Micros = Micros(1_793_491_200_000_000);

/// So many seconds after the beginning.
pub const fn sec(seconds: i64) -> Micros {
    Micros(T0.0 + seconds * 1_000_000)
}

/// A time that no test reaches.
pub const LATER: Micros = sec(1_000_000_000);

/// The node under test and what it watches.
pub struct World {
    pub t: TestStore,
    pub me: Joined,
    pub holder: String,
    pub acme: TenantId,
    pub zenith: TenantId,
    /// Of acme.
    pub shop: MonitorId,
    /// Of acme.
    pub api: MonitorId,
    /// Of zenith, with the same name as acme's.
    pub other_shop: MonitorId,
    /// Of acme.
    pub hook: ChannelId,
    /// Of acme, with a budget of its own.
    pub chat: ChannelId,
    pub verdict: Fence,
    pub hook_lease: Fence,
    pub chat_lease: Fence,
    batch: u64,
    ids: watchkeeper_core::ids::IdBlock,
}

impl World {
    pub async fn new(t: TestStore) -> Self {
        Self::begun(t, "boot-1").await
    }

    /// The same node after a restart.
    pub async fn again(t: TestStore) -> Self {
        Self::begun(t, "boot-2").await
    }

    async fn begun(t: TestStore, boot: &str) -> Self {
        let store = t.store.clone();
        let me = store.join("node-a", "local", boot, T0).await.unwrap();
        let applied = store.apply("files", "hash-1", &objects(), Mandate::Alone, Beside::default(), T0).await.unwrap();
        let holder = format!("node-a#{boot}");
        let ids = store.reserve_ids(1_000).await.unwrap();
        let verdict = take(&store, "verdict/0", &holder).await;
        let hook_lease = take(&store, "channel/hook", &holder).await;
        let chat_lease = take(&store, "channel/chat", &holder).await;
        let [acme, zenith] = &applied.tenants[..] else { panic!("two tenants were applied") };
        Self {
            batch: me.last_batch,
            me,
            holder,
            acme: acme.tenant,
            zenith: zenith.tenant,
            shop: acme.monitors[0].id,
            api: acme.monitors[1].id,
            other_shop: zenith.monitors[0].id,
            hook: acme.channels[0],
            chat: acme.channels[1],
            verdict,
            hook_lease,
            chat_lease,
            ids,
            t,
        }
    }

    pub fn store(&self) -> &dyn Store {
        &*self.t.store
    }

    pub const fn acme(&self) -> TenantScope {
        TenantScope(self.acme)
    }

    pub const fn zenith(&self) -> TenantScope {
        TenantScope(self.zenith)
    }

    pub fn id(&mut self) -> IncidentId {
        IncidentId(self.ids.draw().expect("a thousand ids are enough for a test"))
    }

    /// The next batch of this node, empty.
    pub fn batch(&mut self) -> Batch {
        self.batch += 1;
        Batch { agent: self.me.agent, boot: self.me.boot.clone(), number: self.batch, ..Batch::default() }
    }

    pub async fn commit_beats(&mut self, beats: Vec<BeatRow>) {
        let batch = Batch { beats, ..self.batch() };
        self.store().commit(&batch).await.unwrap();
    }

    pub async fn commit_decisions(&mut self, decisions: Vec<Decision>) -> Committed {
        let batch = Batch { decisions, ..self.batch() };
        self.store().commit(&batch).await.unwrap()
    }

    pub fn beat(&self, monitor: MonitorId, at: Micros, outcome: Outcome) -> BeatRow {
        beat(monitor, self.me.datacenter, self.me.agent, at, outcome)
    }

    /// A decision about a monitor that decides nothing yet.
    pub fn decision(&self, monitor: MonitorId) -> Decision {
        let tenant = if monitor == self.other_shop { self.zenith } else { self.acme };
        Decision {
            fences: smallvec![self.verdict.clone()],
            monitor,
            tenant,
            sight: None,
            verdict: None,
            interval: None,
            incidents: smallvec![],
            notices: smallvec![],
            live: smallvec![],
            action: None,
        }
    }

    /// An incident begins, and hook is told. The decision and the incident's (id, uid).
    pub fn opens(&mut self, monitor: MonitorId, rule: &str, at: Micros) -> (Decision, IncidentId, String) {
        let id = self.id();
        let uid = format!("00000000-0000-7000-8000-{:012}", id.0);
        let mut decision = self.decision(monitor);
        decision.incidents.push(begins(id, &uid, rule, at));
        decision.notices.push(notice(self.hook, id, &uid, NoticeEvent::Opened, Severity::Critical, at));
        decision.live.push(live("incident_opened", at, &uid));
        (decision, id, uid)
    }

    /// An incident ends, and hook is told.
    pub fn resolves(&self, monitor: MonitorId, id: IncidentId, uid: &str, at: Micros) -> Decision {
        let mut decision = self.decision(monitor);
        decision.incidents.push(IncidentWrite::Resolve { id, at, why: "recovered", actor: None, summary: "shop is up again".into() });
        decision.notices.push(notice(self.hook, id, uid, NoticeEvent::Resolved, Severity::Critical, at));
        decision.live.push(live("incident_resolved", at, uid));
        decision
    }

    pub fn interval(&self, monitor: MonitorId, start: Micros, health: Health) -> Decision {
        Decision { interval: Some(IntervalRow { start, health }), ..self.decision(monitor) }
    }

    /// Housekeeping until nothing is left to do; what it did in all.
    pub async fn housekeep(&self, now: Micros) -> Housekept {
        let day = |days: i64| Dur::secs(days * 86_400);
        let retention = Retention { raw: day(7), hours: day(90), incidents: day(400) };
        let mut sum = Housekept::default();
        for _ in 0..1_000 {
            let did = self.store().housekeep(retention, now).await.unwrap();
            sum.moved += did.moved;
            sum.hours += did.hours;
            sum.days += did.days;
            sum.deleted += did.deleted;
            if !did.more {
                return sum;
            }
        }
        panic!("housekeeping never ends");
    }

    pub async fn incident(&self, uid: &str) -> IncidentView {
        self.store().incident(self.acme(), uid).await.unwrap().expect("the incident is there")
    }
}

pub async fn take(store: &Arc<dyn Store>, scope: &str, holder: &str) -> Fence {
    let seen = store.leases().await.unwrap().into_iter().find(|row| row.scope == scope);
    let epoch = store.take_lease(scope, seen.as_ref(), holder, T0).await.unwrap().expect("nobody else wants it");
    Fence { scope: scope.into(), epoch }
}

/// A token that is to be made.
pub fn token<'a>(name: &'a str, role: &'a str, hash: &'a [u8; 32], prefix: &'a str, expires: Option<Micros>) -> NewToken<'a> {
    NewToken { name, role, hash, prefix, made_by: None, expires, most: TOKENS_MAX }
}

/// Two tenants; both have a monitor `shop`.
pub fn objects() -> Vec<TenantObjects> {
    vec![
        TenantObjects {
            tenant: "acme".into(),
            channels: vec![channel("hook"), channel("chat")],
            monitors: vec![monitor("shop"), monitor("api")],
            maintenance: vec![],
        },
        TenantObjects { tenant: "zenith".into(), channels: vec![channel("hook")], monitors: vec![monitor("shop")], maintenance: vec![] },
    ]
}

pub fn channel(name: &str) -> ChannelObject {
    ChannelObject {
        name: name.into(),
        kind: "webhook".into(),
        config: "{}".into(),
        budget: name.into(),
        last_resort: false,
        origin: "wk.yaml:3".into(),
    }
}

pub fn monitor(name: &str) -> MonitorObject {
    MonitorObject {
        name: name.into(),
        uid: None,
        was: None,
        kind: "http".into(),
        target: format!("https://{name}.example.org/"),
        config: format!(r#"{{"url":"https://{name}.example.org/","headers":{{"Authorization":"***"}}}}"#),
        labels: BTreeMap::from([("team".to_owned(), "web".to_owned())]),
        paused: false,
        origin: "wk.yaml:9".into(),
        hash: [1; 32],
        push_token: None,
        depends_on: vec![],
    }
}

pub fn beat(monitor: MonitorId, datacenter: DatacenterId, agent: AgentId, at: Micros, outcome: Outcome) -> BeatRow {
    BeatRow {
        monitor,
        datacenter,
        at,
        agent,
        outcome,
        lag_us: 120,
        dns_us: 1_000,
        connect_us: 2_000,
        tls_us: 3_000,
        first_byte_us: 40_000,
        transfer_us: 500,
        total_us: 46_500,
        code: 200,
        size: 1_234,
        value: -1,
        flags: 0,
    }
}

pub fn begins(id: IncidentId, uid: &str, rule: &str, at: Micros) -> IncidentWrite {
    IncidentWrite::Open {
        id,
        uid: uid.into(),
        rule: RuleKey::new(rule),
        severity: Severity::Critical,
        at,
        deciding_at: at,
        reason: Some("tcp_refused".into()),
        value: Some(-7),
        summary: "shop is down: the connection was refused".into(),
        routed_by: Some("`notify` of the rule".into()),
        evidence: Some(r#"{"attempt":{"total_us":1}}"#.into()),
    }
}

pub fn notice(channel: ChannelId, incident: IncidentId, uid: &str, event: NoticeEvent, severity: Severity, at: Micros) -> NoticeWrite {
    let nth = u32::from(event != NoticeEvent::Opened);
    word(channel, incident, uid, (event, nth), severity, at)
}

/// A word about an incident with its place in the story.
pub fn word(
    channel: ChannelId,
    incident: IncidentId,
    uid: &str,
    (event, nth): (NoticeEvent, u32),
    severity: Severity,
    at: Micros,
) -> NoticeWrite {
    NoticeWrite {
        cause: format!("incident/{uid}/{}/{nth}", event.as_str()),
        incident,
        event,
        nth,
        channel,
        severity,
        content: Content::Incident(message(uid, event, severity, at)),
        at,
        rule: RuleKey::new("down"),
        cooldown: Dur::ZERO,
        not_before: None,
    }
}

pub fn message(uid: &str, event: NoticeEvent, severity: Severity, at: Micros) -> Message {
    Message {
        event,
        incident: uid.into(),
        tenant: "acme".into(),
        monitor_uid: "monitor-uid".into(),
        monitor: "shop".into(),
        kind: "http".into(),
        target: "https://shop.example.org/".into(),
        labels: BTreeMap::from([("team".to_owned(), "web".to_owned())]),
        rule: "down".into(),
        severity,
        reason: Some("tcp_refused".into()),
        summary: "shop is down: the connection was refused — „ütf-8“".into(),
        detail: None,
        opened_at: at,
        resolved_at: (event == NoticeEvent::Resolved).then_some(at),
        resolved_why: (event == NoticeEvent::Resolved).then(|| "recovered".to_owned()),
        flapping: false,
        cut_off: None,
        actor: None,
        comment: None,
        seen_by: BTreeMap::from([("local".to_owned(), "down".to_owned())]),
    }
}

pub fn live(kind: &str, at: Micros, uid: &str) -> LiveWrite {
    LiveWrite { at, kind: kind.into(), data: serde_json::json!({ "incident": uid, "n": 1 }) }
}

/// The word that a content carries about an incident.
pub fn event_of(content: &Content) -> Option<NoticeEvent> {
    content.incident().map(|message| message.event)
}

pub async fn due(w: &World, channel: ChannelId, now: Micros) -> Vec<DueNotice> {
    w.store().due_notices(channel, now, 100).await.unwrap()
}

pub async fn begin(w: &World, notice: i64, fence: &Fence, now: Micros) -> bool {
    let begun = w.store().begin_attempt(&[notice], fence, now).await.unwrap();
    assert!(begun.is_empty() || begun == [notice]);
    !begun.is_empty()
}

pub async fn record(w: &World, notice: i64, fence: &Fence, attempted: &Attempted, at: Micros) {
    let key = format!("key-of-{notice}");
    let end = AttemptEnd { notices: &[notice], fence, attempted, key: &key, digest: false, at };
    w.store().end_attempt(&end).await.unwrap();
}

pub async fn end(w: &World, notice: i64, fence: &Fence, attempted: Attempted, now: Micros) {
    assert!(begin(w, notice, fence, now).await, "the notice waits and the lease is ours");
    record(w, notice, fence, &attempted, now).await;
}

pub fn sent() -> Attempted {
    Attempted::Sent { provider_id: Some("provider-7".into()) }
}

pub fn again(next_at: Micros) -> Attempted {
    Attempted::Again { next_at, error: "the provider answered 503".into() }
}

pub fn dead() -> Attempted {
    Attempted::Dead { error: "the provider answered 401".into() }
}

/// What the timeline says, in order: (kind, text).
pub fn story(incident: &IncidentView) -> Vec<(&str, &str)> {
    incident.timeline.iter().map(|entry| (entry.kind.as_str(), entry.text.as_str())).collect()
}

/// The state of each notice: (channel, event, state).
pub fn states(incident: &IncidentView) -> Vec<(&str, &str, &str)> {
    let mut states: Vec<_> = incident.notices.iter().map(|n| (n.channel.as_str(), n.event.as_str(), n.state.as_str())).collect();
    states.sort_unstable();
    states
}
