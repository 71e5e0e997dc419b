//! Deliverers over a real store of each kind, to the strict stand-ins: order, independence, crash, dead letter, reload, end.

use crate::support::outbox::Node;
use crate::support::provider::{Act, LIMIT, Provider};
use crate::support::store::each_store;
use crate::support::{telegram, webhook};
use async_trait::async_trait;
use axum::http::StatusCode;
use smallvec::smallvec;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use watchkeeper::channel::{Accepted, Channel, ChannelKind, Common, Delivery, Refused};
use watchkeeper::config;
use watchkeeper::deliver::{ChannelSpec, scope};
use watchkeeper::net::{Guard, Net};
use watchkeeper::store::Fence;
use watchkeeper_core::{ChannelId, Severity};

fn kind(yaml: &str) -> ChannelKind {
    let yaml = format!("channels:\n  - {yaml}\n");
    let config = config::load_texts(&[("test.yaml".to_owned(), yaml.into_bytes())], &|_| None).unwrap_or_else(|bad| panic!("{bad}"));
    config.tenants[0].channels[0].kind.clone()
}

/// Under the lease of its name, whatever its real budget.
fn spec(id: ChannelId, name: &str, kind: &ChannelKind) -> ChannelSpec {
    ChannelSpec { budget_key: name.to_owned(), ..ChannelSpec::new(id, name, kind, &Common::default()) }
}

fn hook(id: ChannelId, name: &str, provider: &Provider) -> ChannelSpec {
    let yaml = format!(r#"{{ name: hook, webhook: {{ url: "{}/hook", secret: "{}" }} }}"#, provider.url, webhook::SECRET);
    spec(id, name, &kind(&yaml))
}

fn chat(id: ChannelId, name: &str, provider: &Provider) -> ChannelSpec {
    let yaml =
        format!(r#"{{ name: chat, telegram: {{ bot_token: "{}", chat_id: -100123, api_url: "{}" }} }}"#, telegram::TOKEN, provider.url);
    spec(id, name, &kind(&yaml))
}

fn answer(status: u16) -> Act {
    Act::Answer(StatusCode::from_u16(status).unwrap(), vec![], String::new())
}

/// What a webhook was told, in order: (event, incident).
fn events(provider: &Provider) -> Vec<(String, String)> {
    let told = |call: &serde_json::Value| (call["event"].as_str().unwrap().to_owned(), call["incident"]["id"].as_str().unwrap().to_owned());
    provider.finish().iter().map(|call| told(&call.json())).collect()
}

/// A channel that the test holds in its hand: an attempt waits for a permit.
struct Held {
    begun: AtomicUsize,
    may_end: Semaphore,
}

#[async_trait]
impl Channel for Held {
    async fn deliver(&self, _net: &Arc<Net>, _delivery: &Delivery) -> Result<Accepted, Refused> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.may_end.acquire().await.expect("the test keeps it open").forget();
        Ok(Accepted { provider_id: Some("held".to_owned()) })
    }
}

fn held(id: ChannelId, name: &str) -> (Arc<Held>, ChannelSpec) {
    let channel = Arc::new(Held { begun: AtomicUsize::new(0), may_end: Semaphore::new(0) });
    let spec = ChannelSpec {
        id,
        name: name.to_owned(),
        kind: "held",
        budget_key: name.to_owned(),
        hash: [9; 32],
        budgets: smallvec![],
        channel: channel.clone(),
        guard: Guard::Open,
    };
    (channel, spec)
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < LIMIT, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn both_channels_are_told_once_in_order_and_urgent_first() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let (a, b) = (webhook::start(true).await, telegram::start().await);
        let both = [node.a, node.b];
        let mild = node.incident(&both, Severity::Warning, false).await;
        let bad = node.incident(&both, Severity::Critical, true).await;
        let deliverers = node.deliverers();
        deliverers.apply(vec![hook(node.a, "a", &a), chat(node.b, "b", &b)]);
        node.wait_for(&mild, &["sent", "sent"]).await;
        let view = node.wait_for(&bad, &["sent", "sent", "sent", "sent"]).await;
        assert!(view.notices.iter().all(|n| n.attempts == 1 && n.sent_at.is_some()));
        assert!(view.timeline.iter().any(|e| e.kind == "told"), "{:?}", view.timeline);
        assert_eq!(deliverers.shutdown(LIMIT).await, Vec::<String>::new());
        let told = events(&a);
        let place = |event: &str, uid: &str| told.iter().position(|t| t.0 == event && t.1 == uid).unwrap();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(place("opened", &bad) < place("opened", &mild), "the urgent first: {told:?}");
        assert!(place("opened", &bad) < place("resolved", &bad), "the beginning first: {told:?}");
        let messages = b.finish().into_iter().filter(|call| call.path.ends_with("/sendMessage"));
        assert_eq!(messages.count(), 3, "changes of earlier messages are none");
        assert_eq!((node.count("a", "sent"), node.count("b", "sent")), (3, 3));
    })
    .await;
}

#[tokio::test]
async fn an_end_waits_until_its_beginning_was_told() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let a = webhook::start(true).await;
        a.then(answer(503)).then(answer(500));
        let uid = node.incident(&[node.a], Severity::Critical, true).await;
        let deliverers = node.deliverers();
        deliverers.apply(vec![hook(node.a, "a", &a)]);
        let view = node.wait_for(&uid, &["sent", "sent"]).await;
        deliverers.shutdown(LIMIT).await;
        let order: Vec<String> = events(&a).into_iter().map(|(event, _)| event).collect();
        assert_eq!(order, ["opened", "opened", "opened", "resolved"]);
        assert_eq!(view.notices.iter().map(|n| n.attempts).sum::<u32>(), 4);
        let keys: Vec<String> = a.calls().iter().map(|c| c.json()["key"].as_str().unwrap().to_owned()).collect();
        assert!(keys[0] == keys[1] && keys[1] == keys[2] && keys[2] != keys[3], "{keys:?}");
        assert_eq!((node.count("a", "retried"), node.count("a", "sent"), node.count("a", "dead")), (2, 2, 0));
    })
    .await;
}

#[tokio::test]
async fn a_hanging_provider_delays_no_other_channel() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let (a, b) = (telegram::start().await, webhook::start(true).await);
        a.otherwise(Act::Hang);
        let deliverers = node.deliverers();
        deliverers.apply(vec![chat(node.a, "a", &a), hook(node.b, "b", &b)]);
        let mut incidents = Vec::new();
        for _ in 0..5 {
            incidents.push(node.incident(&[node.a, node.b], Severity::Critical, false).await);
            deliverers.wake([node.a, node.b]);
        }
        a.wait_for(1).await;
        b.wait_for(5).await;
        // The attempt that hangs is given up after ten seconds at the earliest; b had its five before a had a second one.
        assert_eq!(a.calls().len(), 1);
        for uid in &incidents {
            let view = node.view(uid).await;
            assert!(view.notices.iter().any(|n| n.channel == "a" && n.state != "sent"), "{:?}", view.notices);
        }
        assert_eq!(deliverers.shutdown(Duration::from_millis(100)).await, ["a"], "it is said which one did not end");
    })
    .await;
}

#[tokio::test]
async fn a_crash_in_the_middle_repeats_the_call_with_the_same_key() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let a = webhook::start(true).await;
        a.then(Act::Hang);
        let uid = node.incident(&[node.a], Severity::Critical, false).await;
        let deliverers = node.deliverers();
        deliverers.apply(vec![hook(node.a, "a", &a)]);
        a.wait_for(1).await;
        // The process dies: nothing of it runs on.
        deliverers.shutdown(Duration::ZERO).await;
        node.wait_for(&uid, &["sending"]).await;
        let node = node.restarted().await;
        let deliverers = node.deliverers();
        deliverers.apply(vec![hook(node.a, "a", &a)]);
        let view = node.wait_for(&uid, &["sent"]).await;
        deliverers.shutdown(LIMIT).await;
        assert_eq!(view.notices[0].attempts, 2);
        let calls = a.finish();
        assert_eq!(calls.len(), 2);
        assert_eq!(calls[0].headers["idempotency-key"], calls[1].headers["idempotency-key"]);
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_told_is_a_dead_letter_in_sight() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let a = webhook::start(true).await;
        a.then(answer(400));
        let uid = node.incident(&[node.a], Severity::Critical, true).await;
        let deliverers = node.deliverers();
        deliverers.apply(vec![hook(node.a, "a", &a)]);
        // A beginning that nobody could be told does not hold back the end.
        let view = node.wait_for(&uid, &["dead", "sent"]).await;
        deliverers.shutdown(LIMIT).await;
        let dead = view.notices.iter().find(|n| n.state == "dead").unwrap();
        assert_eq!(dead.attempts, 1, "at once");
        assert!(dead.last_error.as_ref().is_some_and(|e| e.contains("answered 400")), "{dead:?}");
        assert!(view.timeline.iter().any(|e| e.kind == "not_told"), "{:?}", view.timeline);
        assert_eq!(node.store().outbox_depth().await.unwrap().dead, 1);
        assert_eq!(node.count("a", "dead"), 1);
    })
    .await;
}

#[tokio::test]
async fn after_the_last_attempt_it_is_given_up() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let a = webhook::start(true).await;
        a.otherwise(answer(503));
        let uid = node.incident(&[node.a], Severity::Critical, false).await;
        let attempts = watchkeeper_core::retry::ATTEMPTS_MAX - 1;
        node.t.behind_its_back(&format!("UPDATE wk_notice SET attempts = {attempts}")).await;
        let node = node.restarted().await;
        let deliverers = node.deliverers();
        deliverers.apply(vec![hook(node.a, "a", &a)]);
        node.wait_for(&uid, &["dead"]).await;
        deliverers.shutdown(LIMIT).await;
        assert_eq!(a.finish().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_provider_that_asks_for_a_pause_gets_it_for_all_messages() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let a = telegram::start().await;
        a.then(telegram::too_many(1));
        let first = node.incident(&[node.a], Severity::Critical, false).await;
        let second = node.incident(&[node.a], Severity::Warning, false).await;
        let deliverers = node.deliverers();
        let begun = Instant::now();
        deliverers.apply(vec![chat(node.a, "a", &a)]);
        a.wait_for(1).await;
        // Being woken does not shorten the pause.
        deliverers.wake_all();
        a.wait_for(2).await;
        assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
        node.wait_for(&first, &["sent"]).await;
        node.wait_for(&second, &["sent"]).await;
        deliverers.shutdown(LIMIT).await;
        // The refused attempt, its repetition, and the second message: a cap that only spaces messages gathers none.
        assert_eq!(a.finish().len(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_channel_that_is_changed_does_not_wait_for_what_the_former_provider_asked() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let (old, new) = (webhook::start(true).await, webhook::start(true).await);
        let hour = vec![("retry-after", "3600".to_owned())];
        old.then(Act::Answer(StatusCode::TOO_MANY_REQUESTS, hour, String::new()));
        let first = node.incident(&[node.a], Severity::Critical, false).await;
        let deliverers = node.deliverers();
        deliverers.apply(vec![hook(node.a, "a", &old)]);
        old.wait_for(1).await;
        let second = node.incident(&[node.a], Severity::Warning, false).await;
        deliverers.apply(vec![hook(node.a, "a", &new)]);
        node.wait_for(&first, &["sent"]).await;
        node.wait_for(&second, &["sent"]).await;
        deliverers.shutdown(LIMIT).await;
        assert_eq!((old.finish().len(), new.finish().len()), (1, 2));
    })
    .await;
}

#[tokio::test]
async fn a_channel_that_was_seen_to_work_does_not_wait_for_what_it_had_asked_before() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let hour = vec![("retry-after", "3600".to_owned())];
        let provider = webhook::start(true).await;
        provider.then(Act::Answer(StatusCode::TOO_MANY_REQUESTS, hour, String::new()));
        let first = node.incident(&[node.a], Severity::Critical, false).await;
        let deliverers = node.deliverers();
        deliverers.apply(vec![hook(node.a, "a", &provider)]);
        provider.wait_for(1).await;
        let second = node.incident(&[node.a], Severity::Warning, false).await;
        deliverers.mended(node.a);
        node.wait_for(&first, &["sent"]).await;
        node.wait_for(&second, &["sent"]).await;
        deliverers.shutdown(LIMIT).await;
        assert_eq!(provider.finish().len(), 3);
    })
    .await;
}

#[tokio::test]
async fn without_the_lease_nothing_leaves() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let a = webhook::start(true).await;
        let kept = node.fences.lock().unwrap().remove(&scope("a")).unwrap();
        let uid = node.incident(&[node.a, node.b], Severity::Critical, false).await;
        let deliverers = node.deliverers();
        let (b, b_spec) = held(node.b, "b");
        b.may_end.add_permits(1);
        deliverers.apply(vec![hook(node.a, "a", &a), b_spec]);
        // b was told meanwhile, so a had its chance.
        node.wait_for(&uid, &["due", "sent"]).await;
        assert_eq!(a.calls().len(), 0);
        // A stale epoch is refused by the store.
        node.fences.lock().unwrap().insert(scope("a"), Fence { epoch: kept.epoch - 1, ..kept.clone() });
        deliverers.wake_all();
        let again = node.incident(&[node.b], Severity::Critical, false).await;
        b.may_end.add_permits(1);
        deliverers.wake_all();
        node.wait_for(&again, &["sent"]).await;
        assert_eq!(a.calls().len(), 0);
        node.fences.lock().unwrap().insert(scope("a"), kept);
        deliverers.wake_all();
        node.wait_for(&uid, &["sent", "sent"]).await;
        deliverers.shutdown(LIMIT).await;
        assert_eq!(a.finish().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_reload_interrupts_no_attempt_in_hand() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let (old, new) = (webhook::start(true).await, webhook::start(true).await);
        let (first, second) = held(node.a, "a");
        let uid = node.incident(&[node.a], Severity::Critical, true).await;
        let deliverers = node.deliverers();
        deliverers.apply(vec![second]);
        until("an attempt", || first.begun.load(Ordering::SeqCst) == 1).await;
        // Removed, added anew with another URL, and changed once more, all during one attempt.
        deliverers.apply(vec![]);
        deliverers.apply(vec![hook(node.a, "a", &old)]);
        deliverers.apply(vec![hook(node.a, "a", &new)]);
        first.may_end.add_permits(1);
        node.wait_for(&uid, &["sent", "sent"]).await;
        deliverers.shutdown(LIMIT).await;
        assert_eq!(first.begun.load(Ordering::SeqCst), 1);
        assert_eq!(old.calls().len(), 0);
        assert_eq!(events(&new), [("resolved".to_owned(), uid)]);
    })
    .await;
}

#[tokio::test]
async fn the_end_waits_for_the_attempt_in_hand() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let (channel, spec) = held(node.a, "a");
        let uid = node.incident(&[node.a], Severity::Critical, true).await;
        let deliverers = node.deliverers();
        deliverers.apply(vec![spec]);
        until("an attempt", || channel.begun.load(Ordering::SeqCst) == 1).await;
        let mut ending = Box::pin(deliverers.shutdown(LIMIT));
        tokio::select! {
            biased;
            late = &mut ending => panic!("it ended before its attempt: {late:?}"),
            () = std::future::ready(()) => {}
        }
        channel.may_end.add_permits(2);
        assert_eq!(ending.await, Vec::<String>::new());
        // What was in hand is recorded, and nothing new was begun.
        node.wait_for(&uid, &["sent", "due"]).await;
        assert_eq!(channel.begun.load(Ordering::SeqCst), 1);
    })
    .await;
}

/// Fails inside the node at first, then works.
struct Panics(AtomicUsize);

#[async_trait]
impl Channel for Panics {
    async fn deliver(&self, _net: &Arc<Net>, _delivery: &Delivery) -> Result<Accepted, Refused> {
        assert!(self.0.fetch_add(1, Ordering::SeqCst) > 0, "this panic belongs to the test");
        Ok(Accepted::default())
    }
}

#[tokio::test]
async fn a_panic_in_a_channel_is_a_failed_attempt() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let uid = node.incident(&[node.a], Severity::Critical, false).await;
        let channel = Arc::new(Panics(AtomicUsize::new(0)));
        let deliverers = node.deliverers();
        deliverers.apply(vec![ChannelSpec {
            id: node.a,
            name: "a".to_owned(),
            kind: "panics",
            budget_key: "a".to_owned(),
            hash: [7; 32],
            budgets: smallvec![],
            channel,
            guard: Guard::Open,
        }]);
        let view = node.wait_for(&uid, &["sent"]).await;
        deliverers.shutdown(LIMIT).await;
        assert_eq!(view.notices[0].attempts, 2);
        assert_eq!((node.count("a", "retried"), node.count("a", "sent")), (1, 1));
    })
    .await;
}
