//! A node that only delivers: a real SQLite store with incidents of the test's making, and leases in its hand.

use super::provider::LIMIT;
use smallvec::smallvec;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use watchkeeper::channel::Message;
use watchkeeper::clock::Clock;
use watchkeeper::deliver::{DeliverContext, Deliverers, scope};
use watchkeeper::net::Net;
use watchkeeper::store::{
    self, Batch, ChannelObject, Decision, Fence, IncidentView, IncidentWrite, Joined, MonitorObject, NoticeWrite, Store, TenantObjects,
    TenantScope,
};
use watchkeeper::telemetry::{ChannelLabel, Metrics};
use watchkeeper_core::ids::IdBlock;
use watchkeeper_core::verdict::NoticeEvent;
use watchkeeper_core::{ChannelId, IncidentId, MonitorId, RuleKey, Severity, TenantId};

/// A node with two channels `a` and `b`, whose deliverers the test starts and stops.
pub struct Node {
    pub store: Arc<dyn Store>,
    pub file: PathBuf,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub fences: Arc<Mutex<HashMap<String, Fence>>>,
    pub tenant: TenantId,
    monitor: MonitorId,
    pub a: ChannelId,
    pub b: ChannelId,
    joined: Joined,
    ids: IdBlock,
    batch: u64,
    dir: Arc<tempfile::TempDir>,
}

impl Node {
    /// On an empty file.
    pub async fn new() -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::on(dir, "boot-1").await
    }

    /// The next process on the same file.
    pub async fn restarted(self) -> Self {
        self.store.close().await;
        let dir = self.dir.clone();
        drop(self);
        Self::on(dir, "boot-2").await
    }

    async fn on(dir: Arc<tempfile::TempDir>, boot: &str) -> Self {
        let file = dir.path().join("watchkeeper.db");
        let store = store::open(&format!("sqlite://{}", file.display())).await.expect("the store opens");
        let clock = Clock::system();
        let joined = store.join("node", "local", boot, clock.now()).await.unwrap();
        let channel = |name: &str| ChannelObject {
            name: name.to_owned(),
            kind: "webhook".to_owned(),
            config: "{}".to_owned(),
            budget: name.to_owned(),
            origin: "test.yaml:1".to_owned(),
        };
        let monitor = MonitorObject {
            name: "shop".to_owned(),
            uid: None,
            was: None,
            kind: "http".to_owned(),
            target: "https://shop.example.org/".to_owned(),
            config: "{}".to_owned(),
            labels: BTreeMap::new(),
            paused: false,
            origin: "test.yaml:9".to_owned(),
            hash: [1; 32],
            push_token: None,
        };
        let objects = TenantObjects { tenant: "default".to_owned(), channels: vec![channel("a"), channel("b")], monitors: vec![monitor] };
        let applied = store.apply("files", "hash", &[objects], clock.now()).await.unwrap();
        let ids = store.reserve_ids(100).await.unwrap();
        let mut fences = HashMap::new();
        for name in ["verdict/0".to_owned(), scope("a"), scope("b")] {
            let seen = store.leases().await.unwrap().into_iter().find(|row| row.scope == name);
            let epoch = store.take_lease(&name, seen.as_ref(), &format!("node#{boot}"), clock.now()).await.unwrap().expect("free");
            fences.insert(name.clone(), Fence { scope: name.into(), epoch });
        }
        let tenant = &applied.tenants[0];
        Self {
            file,
            clock,
            metrics: Arc::new(Metrics::new()),
            fences: Arc::new(Mutex::new(fences)),
            tenant: tenant.tenant,
            monitor: tenant.monitors[0].id,
            a: tenant.channels[0],
            b: tenant.channels[1],
            batch: joined.last_batch,
            joined,
            ids,
            store,
            dir,
        }
    }

    /// Deliverers with no channel yet.
    pub fn deliverers(&self) -> Deliverers {
        let fences = self.fences.clone();
        Deliverers::new(DeliverContext {
            store: self.store.clone(),
            net: Arc::new(Net::system(self.clock.clone())),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            fence: Arc::new(move |scope| fences.lock().unwrap().get(scope).cloned()),
        })
    }

    /// An incident opens, and with `ended` is resolved too; these channels are told. Its public id.
    pub async fn incident(&mut self, channels: &[ChannelId], severity: Severity, ended: bool) -> String {
        let id = IncidentId(self.ids.draw().unwrap());
        let (uid, at) = (format!("00000000-0000-7000-8000-{:012}", id.0), self.clock.now());
        let rule = RuleKey::new(&format!("rule-{}", id.0));
        let mut incidents = smallvec![IncidentWrite::Open {
            id,
            uid: uid.clone(),
            rule,
            severity,
            at,
            deciding_at: at,
            reason: None,
            value: None,
            summary: "it broke".to_owned(),
            evidence: None,
        }];
        if ended {
            incidents.push(IncidentWrite::Resolve { id, at, why: "recovered", summary: "over".to_owned() });
        }
        let events = [NoticeEvent::Opened, NoticeEvent::Resolved].into_iter().take(1 + usize::from(ended)).enumerate();
        let notices = events
            .flat_map(|(nth, event)| channels.iter().map(move |channel| (nth, event, *channel)))
            .map(|(nth, event, channel)| NoticeWrite {
                cause: format!("incident/{uid}/{}/{nth}", event.as_str()),
                incident: id,
                event,
                nth: nth as u16,
                channel,
                severity,
                message: self.message(&uid, event, severity),
                at,
            })
            .collect();
        let decision = Decision {
            fences: smallvec![self.fences.lock().unwrap()["verdict/0"].clone()],
            monitor: self.monitor,
            tenant: self.tenant,
            sight: None,
            verdict: None,
            interval: None,
            incidents,
            notices,
            live: smallvec![],
        };
        self.batch += 1;
        let batch = Batch { agent: self.joined.agent, number: self.batch, decisions: vec![decision], ..Batch::default() };
        assert_eq!(self.store.commit(&batch).await.unwrap().stale, []);
        uid
    }

    fn message(&self, uid: &str, event: NoticeEvent, severity: Severity) -> Message {
        let ended = event == NoticeEvent::Resolved;
        Message {
            event: Some(event),
            incident: uid.to_owned(),
            tenant: "default".to_owned(),
            monitor_uid: "uid".to_owned(),
            monitor: "shop".to_owned(),
            kind: "http".to_owned(),
            target: "https://shop.example.org/".to_owned(),
            labels: BTreeMap::new(),
            rule: "down".to_owned(),
            severity,
            reason: None,
            summary: "it broke".to_owned(),
            detail: None,
            opened_at: self.clock.now(),
            resolved_at: ended.then(|| self.clock.now()),
            resolved_why: ended.then(|| "recovered".to_owned()),
            seen_by: BTreeMap::new(),
        }
    }

    /// Waits until the notices of an incident are in these states, in the order of the incident's view.
    pub async fn wait_for(&self, uid: &str, states: &[&str]) -> IncidentView {
        let ready = async {
            loop {
                let view = self.store.incident(TenantScope(self.tenant), uid).await.unwrap().expect("the incident is there");
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
        panic!("{:?}", self.store.incident(TenantScope(self.tenant), uid).await.unwrap().unwrap().notices)
    }

    /// How often a delivery of a channel ended so.
    pub fn count(&self, channel: &str, result: &'static str) -> u64 {
        self.metrics.notifications.get_or_create(&ChannelLabel { channel: channel.to_owned(), result }).get()
    }
}
