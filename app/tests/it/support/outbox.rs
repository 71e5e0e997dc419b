//! A node that only delivers: a real store with incidents of the test's making, and leases in its hand.

use super::provider::LIMIT;
use super::store::TestStore;
use smallvec::smallvec;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use watchkeeper::calendar::Window;
use watchkeeper::channel::Message;
use watchkeeper::channel::content::Content;
use watchkeeper::clock::Clock;
use watchkeeper::deliver::{DeliverContext, Deliverers, Stored, scope};
use watchkeeper::net::Net;
use watchkeeper::store::{
    Batch, Beside, ChannelObject, Decision, Fence, IncidentView, IncidentWrite, Joined, MaintenanceObject, Mandate, MonitorObject,
    NoticeView, NoticeWrite, Silence, Store, TenantObjects, TenantScope, VerdictRow,
};
use watchkeeper::telemetry::{ChannelLabel, Metrics};
use watchkeeper_core::ids::IdBlock;
use watchkeeper_core::matcher::Matcher;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::retry::LAST_RESORT_AFTER;
use watchkeeper_core::verdict::{NoticeEvent, Verdict};
use watchkeeper_core::{ChannelId, Dur, IncidentId, Micros, MonitorId, RuleKey, Severity, TenantId};

/// What the installation has beside two channels and two monitors.
#[derive(Clone, Default)]
struct Setup {
    maintenance: Vec<MaintenanceObject>,
    /// A third channel, `last`, which is the last resort.
    last_resort: bool,
}

/// A node with two channels `a` and `b`, whose deliverers the test starts and stops. It watches `router`, and `shop` behind it.
pub struct Node {
    pub t: TestStore,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub fences: Arc<Mutex<HashMap<String, Fence>>>,
    pub tenant: TenantId,
    router: MonitorId,
    shop: MonitorId,
    pub a: ChannelId,
    pub b: ChannelId,
    pub last: Option<ChannelId>,
    setup: Setup,
    joined: Joined,
    ids: IdBlock,
    batch: u64,
}

/// An incident of `shop` that the test has opened.
#[derive(Clone)]
pub struct Open {
    pub id: IncidentId,
    pub uid: String,
    pub severity: Severity,
    pub channels: Vec<ChannelId>,
    pub cooldown: Dur,
    /// So many words were said about it.
    words: u32,
}

impl Node {
    /// On an empty store.
    pub async fn new(t: TestStore) -> Self {
        Self::start(t, Setup::default(), "boot-1").await
    }

    /// On an empty store, with a last resort.
    pub async fn with_last_resort(t: TestStore) -> Self {
        Self::start(t, Setup { last_resort: true, ..Setup::default() }, "boot-1").await
    }

    /// The next process on the same store.
    pub async fn restarted(self) -> Self {
        let Self { mut t, setup, .. } = self;
        t.reopen().await;
        Self::start(t, setup, "boot-2").await
    }

    async fn start(t: TestStore, setup: Setup, boot: &str) -> Self {
        let store = t.store.clone();
        let clock = Clock::system();
        let joined = store.join("node", "local", boot, clock.now()).await.unwrap();
        let objects = objects(&setup);
        let applied = store.apply("files", "hash", &[objects], Mandate::Alone, Beside::default(), clock.now()).await.unwrap();
        let ids = store.reserve_ids(2_000).await.unwrap();
        let mut fences = HashMap::new();
        for name in ["verdict/0".to_owned(), scope("a"), scope("b"), scope("last")] {
            let seen = store.leases().await.unwrap().into_iter().find(|row| row.scope == name);
            let epoch = store.take_lease(&name, seen.as_ref(), &format!("node#{boot}"), clock.now()).await.unwrap().expect("free");
            fences.insert(name.clone(), Fence { scope: name.into(), epoch });
        }
        let tenant = &applied.tenants[0];
        Self {
            clock,
            metrics: Arc::new(Metrics::new()),
            fences: Arc::new(Mutex::new(fences)),
            tenant: tenant.tenant,
            router: tenant.monitors[0].id,
            shop: tenant.monitors[1].id,
            a: tenant.channels[0],
            b: tenant.channels[1],
            last: tenant.channels.get(2).copied(),
            setup,
            batch: joined.last_batch,
            joined,
            ids,
            t,
        }
    }

    /// The installation has these maintenance windows from now on.
    pub async fn maintain(&mut self, windows: Vec<MaintenanceObject>) {
        self.setup.maintenance = windows;
        self.t.store.apply("files", "hash-2", &[objects(&self.setup)], Mandate::Alone, Beside::default(), self.clock.now()).await.unwrap();
    }

    pub fn store(&self) -> &dyn Store {
        &*self.t.store
    }

    /// Deliverers with no channel yet.
    pub fn deliverers(&self) -> Deliverers {
        self.deliverers_with(LAST_RESORT_AFTER)
    }

    /// The same, which wait for so long before the last resort is told too.
    pub fn deliverers_with(&self, patience: Dur) -> Deliverers {
        let fences = self.fences.clone();
        Deliverers::new(DeliverContext {
            outbox: Arc::new(Stored(self.t.store.clone())),
            net: Arc::new(Net::system(self.clock.clone())),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            fence: Arc::new(move |scope| fences.lock().unwrap().get(scope).cloned()),
            patience,
        })
    }

    /// An incident opens, and with `ended` is resolved too; these channels are told. Its public id.
    pub async fn incident(&mut self, channels: &[ChannelId], severity: Severity, ended: bool) -> String {
        let mut open = self.fresh(channels, severity);
        let mut decisions = vec![self.opening(&mut open)];
        decisions.extend(ended.then(|| self.word(&mut open, NoticeEvent::Resolved)));
        self.commit(decisions).await;
        open.uid
    }

    /// So many incidents open in one batch; these channels are told.
    pub async fn open(&mut self, channels: &[ChannelId], count: usize) -> Vec<Open> {
        let mut all: Vec<Open> = (0..count).map(|_| self.fresh(channels, Severity::Critical)).collect();
        let decisions = all.iter_mut().map(|open| self.opening(open)).collect();
        self.commit(decisions).await;
        all
    }

    /// That incident opens.
    pub async fn begin(&mut self, open: &mut Open) {
        let decision = self.opening(open);
        self.commit(vec![decision]).await;
    }

    /// Another word about an incident, to the same channels.
    pub async fn say(&mut self, open: &mut Open, event: NoticeEvent) {
        let decision = self.word(open, event);
        self.commit(vec![decision]).await;
    }

    /// What is true of `router`, on which `shop` depends.
    pub async fn router_is(&mut self, health: Health) {
        let now = self.clock.now();
        let mut decision = self.decision(self.router);
        decision.verdict = Some(VerdictRow { verdict: Verdict { health, since: now, ..Verdict::default() }, wake: None });
        self.commit(vec![decision]).await;
    }

    /// Everything that waits is due now; while no deliverer runs.
    pub async fn due_now(&mut self) {
        self.t.behind_its_back("UPDATE wk_notice SET next_at = 0 WHERE state IN ('due', 'held')").await;
    }

    /// Silences `shop` for an hour. The silence's id.
    pub async fn silence(&self) -> String {
        let uid = "00000000-0000-7000-8000-00000000beef".to_owned();
        let silence = Silence {
            uid: uid.clone(),
            matcher: Matcher { monitors: vec!["sh*".to_owned()], ..Matcher::default() },
            starts_at: self.clock.now(),
            ends_at: self.clock.now() + Dur::secs(3_600),
            author: "ann".to_owned(),
            comment: "rebuilding".to_owned(),
        };
        self.store().create_silence(TenantScope(self.tenant), &silence).await.unwrap();
        uid
    }

    /// An incident that is yet to open.
    pub fn fresh(&mut self, channels: &[ChannelId], severity: Severity) -> Open {
        let id = IncidentId(self.ids.draw().expect("ids enough for a test"));
        let uid = format!("00000000-0000-7000-8000-{:012}", id.0);
        Open { id, uid, severity, channels: channels.to_vec(), cooldown: Dur::ZERO, words: 0 }
    }

    fn opening(&self, open: &mut Open) -> Decision {
        let at = self.clock.now();
        let mut decision = self.word(open, NoticeEvent::Opened);
        decision.incidents.push(IncidentWrite::Open {
            id: open.id,
            uid: open.uid.clone(),
            rule: rule(open.id),
            severity: open.severity,
            at,
            deciding_at: at,
            reason: None,
            value: None,
            summary: "it broke".to_owned(),
            routed_by: None,
            evidence: None,
        });
        decision
    }

    /// The decision behind one word, with what it does to the incident.
    fn word(&self, open: &mut Open, event: NoticeEvent) -> Decision {
        let (id, at) = (open.id, self.clock.now());
        let mut decision = self.decision(self.shop);
        match event {
            NoticeEvent::Opened => {}
            NoticeEvent::Reminded | NoticeEvent::Escalated => {
                decision.incidents.push(IncidentWrite::Note { id, at, kind: event.as_str(), summary: "it lasts".to_owned() });
            }
            NoticeEvent::Acknowledged | NoticeEvent::Unacknowledged => decision.incidents.push(IncidentWrite::Acknowledge {
                id,
                at,
                on: event == NoticeEvent::Acknowledged,
                actor: Some("ann".to_owned()),
                summary: "acknowledged by ann, or no longer".to_owned(),
            }),
            NoticeEvent::Resolved => {
                decision.incidents.push(IncidentWrite::Resolve { id, at, why: "recovered", actor: None, summary: "over".to_owned() });
            }
        }
        let nth = open.words;
        open.words += 1;
        decision.notices = open
            .channels
            .iter()
            .map(|channel| NoticeWrite {
                cause: format!("incident/{}/{}/{nth}", open.uid, event.as_str()),
                incident: id,
                event,
                nth,
                channel: *channel,
                severity: open.severity,
                content: Content::Incident(self.message(open, event)),
                at,
                rule: rule(id),
                cooldown: open.cooldown,
                not_before: None,
            })
            .collect();
        decision
    }

    fn decision(&self, monitor: MonitorId) -> Decision {
        Decision {
            fences: smallvec![self.fences.lock().unwrap()["verdict/0"].clone()],
            monitor,
            tenant: self.tenant,
            sight: None,
            verdict: None,
            interval: None,
            incidents: smallvec![],
            notices: smallvec![],
            live: smallvec![],
            action: None,
        }
    }

    async fn commit(&mut self, decisions: Vec<Decision>) {
        self.batch += 1;
        let batch = Batch { agent: self.joined.agent, boot: self.joined.boot.clone(), number: self.batch, decisions, ..Batch::default() };
        assert_eq!(self.t.store.commit(&batch).await.unwrap().stale, []);
    }

    fn message(&self, open: &Open, event: NoticeEvent) -> Message {
        let ended = event == NoticeEvent::Resolved;
        Message {
            event,
            incident: open.uid.clone(),
            tenant: "default".to_owned(),
            monitor_uid: "uid".to_owned(),
            monitor: "shop".to_owned(),
            kind: "http".to_owned(),
            target: "https://shop.example.org/".to_owned(),
            labels: labels(),
            rule: "down".to_owned(),
            severity: open.severity,
            reason: None,
            summary: "it broke".to_owned(),
            detail: None,
            opened_at: self.clock.now(),
            resolved_at: ended.then(|| self.clock.now()),
            resolved_why: ended.then(|| "recovered".to_owned()),
            flapping: false,
            cut_off: None,
            actor: None,
            comment: None,
            seen_by: BTreeMap::new(),
        }
    }

    pub async fn view(&self, uid: &str) -> IncidentView {
        self.store().incident(TenantScope(self.tenant), uid).await.unwrap().expect("the incident is there")
    }

    /// Waits until the notices of an incident are in these states, whatever their order.
    pub async fn wait_for(&self, uid: &str, states: &[&str]) -> IncidentView {
        let ready = async {
            loop {
                let view = self.view(uid).await;
                let mut now: Vec<&str> = view.notices.iter().map(|n| n.state.as_str()).collect();
                let mut wanted = states.to_vec();
                now.sort_unstable();
                wanted.sort_unstable();
                if now == wanted {
                    return view;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if let Ok(view) = tokio::time::timeout(LIMIT, ready).await {
            return view;
        }
        panic!("not {states:?}: {:?}", self.view(uid).await.notices)
    }

    /// How often a delivery of a channel ended so.
    pub fn count(&self, channel: &str, result: &'static str) -> u64 {
        self.metrics.notifications.get_or_create(&ChannelLabel { channel: channel.to_owned(), result }).get()
    }
}

/// Of a rule of its own each, so that many incidents of one monitor may be open.
fn rule(id: IncidentId) -> RuleKey {
    RuleKey::new(&format!("rule-{}", id.0))
}

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("team".to_owned(), "web".to_owned())])
}

fn objects(setup: &Setup) -> TenantObjects {
    let names = ["a", "b", "last"].into_iter().take(2 + usize::from(setup.last_resort));
    TenantObjects {
        tenant: "default".to_owned(),
        channels: names.map(channel).collect(),
        monitors: vec![monitor("router", &[]), monitor("shop", &["router"])],
        maintenance: setup.maintenance.clone(),
    }
}

fn channel(name: &str) -> ChannelObject {
    ChannelObject {
        name: name.to_owned(),
        kind: "webhook".to_owned(),
        config: "{}".to_owned(),
        budget: name.to_owned(),
        last_resort: name == "last",
        origin: "test.yaml:1".to_owned(),
    }
}

fn monitor(name: &str, depends_on: &[&str]) -> MonitorObject {
    MonitorObject {
        name: name.to_owned(),
        uid: None,
        was: None,
        kind: "http".to_owned(),
        target: "https://shop.example.org/".to_owned(),
        config: "{}".to_owned(),
        labels: labels(),
        paused: false,
        origin: "test.yaml:9".to_owned(),
        hash: [1; 32],
        push_token: None,
        depends_on: depends_on.iter().map(|&parent| parent.to_owned()).collect(),
    }
}

/// The notice of that word.
pub fn notice<'v>(view: &'v IncidentView, event: &str) -> &'v NoticeView {
    view.notices.iter().find(|n| n.event == event).unwrap_or_else(|| panic!("no {event}: {:?}", view.notices))
}

/// One-off maintenance of everything, between two times.
pub fn maintenance(name: &str, from: Micros, to: Micros) -> MaintenanceObject {
    let window = serde_json::to_string(&Window::Once { from, to }).expect("a window is JSON");
    MaintenanceObject { name: name.to_owned(), matcher: "{}".to_owned(), window, origin: "test.yaml:5".to_owned() }
}
