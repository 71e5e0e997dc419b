//! Who is not told now, who is not told at all, and why: silences, maintenance, parents, cooldowns.

use crate::support::outbox::{Node, maintenance, notice};
use crate::support::provider::LIMIT;
use crate::support::recorder::Recorder;
use crate::support::store::each_store;
use watchkeeper::store::TenantScope;
use watchkeeper::telemetry::ReasonLabel;
use watchkeeper_core::Dur;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::verdict::NoticeEvent;

#[tokio::test]
async fn after_a_silence_what_is_still_true_is_told_and_what_is_over_is_not() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let silence = node.silence().await;
        let (a, channels) = (Recorder::new(), [node.a]);
        let mut both = node.open(&channels, 2).await;
        let deliverers = node.deliverers();
        deliverers.apply(vec![a.spec(node.a, "a")]);
        for open in &both {
            let view = node.wait_for(&open.uid, &["held"]).await;
            assert_eq!(view.notices[0].why.as_deref(), Some(&*format!("silence {silence}")));
            assert!(view.notices[0].next_at.is_some_and(|at| at > node.clock.now()), "{:?}", view.notices);
        }
        node.say(&mut both[0], NoticeEvent::Resolved).await;
        deliverers.wake_all();
        assert!(node.store().end_silence(TenantScope(node.tenant), &silence, "ann", node.clock.now()).await.unwrap().is_some());
        deliverers.wake_all();
        let over = node.wait_for(&both[0].uid, &["suppressed", "suppressed"]).await;
        assert_eq!(notice(&over, "opened").why.as_deref(), Some("over before it could be told"));
        assert_eq!(notice(&over, "resolved").why.as_deref(), Some("its beginning was not told here"));
        node.wait_for(&both[1].uid, &["sent"]).await;
        node.say(&mut both[1], NoticeEvent::Resolved).await;
        deliverers.wake_all();
        node.wait_for(&both[1].uid, &["sent", "sent"]).await;
        deliverers.shutdown(LIMIT).await;
        let uid = both[1].uid.clone();
        assert_eq!(a.words(), [("opened".to_owned(), uid.clone()), ("resolved".to_owned(), uid)]);
        let counted = |reason| node.metrics.notices_suppressed.get_or_create(&ReasonLabel { reason }).get();
        assert_eq!((counted("over_while_held"), counted("unheard")), (1, 1));
        assert!(node.metrics.notices_held.get_or_create(&ReasonLabel { reason: "silence" }).get() >= 2);
    })
    .await;
}

#[tokio::test]
async fn what_was_told_before_a_silence_is_told_to_be_over_after_it() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let (a, channels) = (Recorder::new(), [node.a]);
        let mut open = node.open(&channels, 1).await.remove(0);
        let deliverers = node.deliverers();
        deliverers.apply(vec![a.spec(node.a, "a")]);
        node.wait_for(&open.uid, &["sent"]).await;
        let silence = node.silence().await;
        node.say(&mut open, NoticeEvent::Resolved).await;
        deliverers.wake_all();
        node.wait_for(&open.uid, &["sent", "held"]).await;
        assert_eq!(a.heard().len(), 1, "nothing in silence");
        node.store().end_silence(TenantScope(node.tenant), &silence, "ann", node.clock.now()).await.unwrap();
        deliverers.wake_all();
        node.wait_for(&open.uid, &["sent", "sent"]).await;
        deliverers.shutdown(LIMIT).await;
    })
    .await;
}

#[tokio::test]
async fn after_maintenance_what_is_still_true_is_told_by_itself() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let (a, channels) = (Recorder::new(), [node.a]);
        let mut both = node.open(&channels, 2).await;
        node.say(&mut both[1], NoticeEvent::Resolved).await;
        // Long enough for the first look, also on a busy machine.
        let (now, end) = (node.clock.now(), node.clock.now() + Dur::secs(6));
        node.maintain(vec![
            maintenance("moving", now - Dur::secs(60), end),
            maintenance("next", end + Dur::secs(600), end + Dur::secs(700)),
        ])
        .await;
        let deliverers = node.deliverers();
        deliverers.apply(vec![a.spec(node.a, "a")]);
        let view = node.wait_for(&both[0].uid, &["held"]).await;
        assert_eq!(view.notices[0].why.as_deref(), Some("maintenance moving"));
        node.wait_for(&both[1].uid, &["suppressed", "suppressed"]).await;
        let view = node.wait_for(&both[0].uid, &["sent"]).await;
        assert!(view.notices[0].sent_at.is_some_and(|at| at >= end), "{:?}", view.notices);
        deliverers.shutdown(LIMIT).await;
        assert_eq!(a.words(), [("opened".to_owned(), both[0].uid.clone())]);
    })
    .await;
}

#[tokio::test]
async fn a_dead_parent_mutes_its_childrens_beginnings_but_not_their_ends() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let (a, channels) = (Recorder::new(), [node.a]);
        node.router_is(Health::Up).await;
        let mut before = node.open(&channels, 1).await.remove(0);
        let deliverers = node.deliverers();
        deliverers.apply(vec![a.spec(node.a, "a")]);
        node.wait_for(&before.uid, &["sent"]).await;
        node.router_is(Health::Pending).await;
        let suspected = node.open(&channels, 1).await.remove(0);
        deliverers.wake_all();
        let view = node.wait_for(&suspected.uid, &["held"]).await;
        assert_eq!(view.notices[0].why.as_deref(), Some("router, which it depends on, is failing"));
        node.router_is(Health::Down).await;
        let mut passing = node.open(&channels, 1).await.remove(0);
        deliverers.wake_all();
        let view = node.wait_for(&passing.uid, &["held"]).await;
        assert_eq!(view.notices[0].why.as_deref(), Some("router, which it depends on, is down"));
        // Its recovery is told while the parent is still down.
        node.say(&mut before, NoticeEvent::Resolved).await;
        deliverers.wake_all();
        node.wait_for(&before.uid, &["sent", "sent"]).await;
        node.say(&mut passing, NoticeEvent::Resolved).await;
        node.router_is(Health::Up).await;
        deliverers.shutdown(LIMIT).await;
        node.due_now().await;
        let deliverers = node.deliverers();
        deliverers.apply(vec![a.spec(node.a, "a")]);
        node.wait_for(&suspected.uid, &["sent"]).await;
        node.wait_for(&passing.uid, &["suppressed", "suppressed"]).await;
        deliverers.shutdown(LIMIT).await;
        let told = |word: &str, uid: &str| (word.to_owned(), uid.to_owned());
        assert_eq!(a.words(), [told("opened", &before.uid), told("resolved", &before.uid), told("opened", &suspected.uid)]);
        assert_eq!(a.heard()[1].thread.as_deref(), Some("message-0"), "the first message is named, to answer or to change it");
    })
    .await;
}

#[tokio::test]
async fn a_reminder_within_the_cooldown_is_not_told_and_a_change_always_is() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let (a, channels) = (Recorder::new(), [node.a]);
        let mut open = node.fresh(&channels, watchkeeper_core::Severity::Critical);
        open.cooldown = Dur::secs(3_600);
        node.begin(&mut open).await;
        let deliverers = node.deliverers();
        deliverers.apply(vec![a.spec(node.a, "a")]);
        node.wait_for(&open.uid, &["sent"]).await;
        for event in [NoticeEvent::Reminded, NoticeEvent::Escalated, NoticeEvent::Acknowledged, NoticeEvent::Resolved] {
            node.say(&mut open, event).await;
        }
        deliverers.wake_all();
        let view = node.wait_for(&open.uid, &["sent", "suppressed", "suppressed", "sent", "sent"]).await;
        deliverers.shutdown(LIMIT).await;
        assert_eq!(notice(&view, "reminded").why.as_deref(), Some("told before, within the rule's cooldown"));
        assert_eq!(notice(&view, "escalated").why.as_deref(), Some("another word about the incident had just been told"));
        let words: Vec<String> = a.words().into_iter().map(|(word, _)| word).collect();
        assert_eq!(words, ["opened", "acknowledged", "resolved"]);
    })
    .await;
}
