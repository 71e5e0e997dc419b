//! When every channel of an alert has failed, the tenant's last resort gets it, from its beginning to its end.

use super::world::*;
use crate::support::store::{TestStore, each_store};
use watchkeeper::channel::content::{Content, TestWord};
use watchkeeper::store::*;
use watchkeeper_core::rule::Severity;
use watchkeeper_core::verdict::NoticeEvent;
use watchkeeper_core::{ChannelId, IncidentId};

/// A world whose acme has a channel `last`, and its lease.
async fn with_a_last_resort(t: TestStore) -> (World, ChannelId, Fence) {
    let w = World::new(t).await;
    let mut wanted = objects();
    wanted[0].channels.push(ChannelObject { last_resort: true, ..channel("last") });
    wanted[1].channels.push(ChannelObject { last_resort: true, ..channel("foreign") });
    let applied = w.store().apply("files", "h2", &wanted, Mandate::Alone, Beside::default(), T0).await.unwrap();
    let fence = take(&w.t.store, "channel/last", &w.holder).await;
    let last = applied.tenants[0].channels[2];
    (w, last, fence)
}

/// An incident of which hook and chat are told. Its id and public id.
async fn opens(w: &mut World) -> (IncidentId, String) {
    let (mut decision, id, uid) = w.opens(w.shop, "down", sec(1));
    decision.notices.push(notice(w.chat, id, &uid, NoticeEvent::Opened, Severity::Critical, sec(1)));
    w.commit_decisions(vec![decision]).await;
    (id, uid)
}

async fn resolves(w: &mut World, id: IncidentId, uid: &str) {
    let mut decision = w.resolves(w.shop, id, uid, sec(50));
    decision.notices.push(notice(w.chat, id, uid, NoticeEvent::Resolved, Severity::Critical, sec(50)));
    w.commit_decisions(vec![decision]).await;
}

async fn fails(w: &World, channel: ChannelId, fence: &Fence, at: i64) {
    let notice = due(w, channel, sec(at)).await[0].id;
    end(w, notice, fence, dead(), sec(at)).await;
}

async fn failures(w: &World) -> Vec<serde_json::Value> {
    let (rows, _) = w.store().live_after(w.acme(), 0, 100).await.unwrap();
    rows.into_iter().filter(|row| row.event.kind == "channels_failed").map(|row| row.event.data).collect()
}

#[tokio::test]
async fn the_last_resort_is_told_when_nobody_else_is_left() {
    each_store(|t| async move {
        let (mut w, last, fence) = with_a_last_resort(t).await;
        let (id, uid) = opens(&mut w).await;
        fails(&w, w.hook, &w.hook_lease, 2).await;
        assert_eq!(due(&w, last, sec(3)).await, [], "chat is still trying");
        let chat = due(&w, w.chat, sec(3)).await[0].id;
        end(&w, chat, &w.chat_lease, again(sec(4)), sec(3)).await;
        assert_eq!(due(&w, last, sec(3)).await, []);
        assert_eq!(failures(&w).await, [] as [serde_json::Value; 0]);
        end(&w, chat, &w.chat_lease, dead(), sec(4)).await;
        // Whoever did not hear that it was recorded records it again.
        record(&w, chat, &w.chat_lease, &dead(), sec(5)).await;

        let told = due(&w, last, sec(4)).await;
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].incident, told[0].event, told[0].attempts), (Some(id), Some(NoticeEvent::Opened), 0));
        assert_eq!((told[0].cause.clone(), told[0].created_at), (format!("incident/{uid}/opened/0"), sec(1)));
        let view = w.incident(&uid).await;
        let (kind, text) = *story(&view).last().unwrap();
        assert_eq!((kind, text), ("channels_failed", "every channel has failed (hook, chat): telling last as a last resort"));
        let event = serde_json::json!({ "incident": uid, "event": "opened", "channels": ["hook", "chat"], "last_resort": ["last"] });
        assert_eq!(failures(&w).await, [event]);

        // The end follows, also here; a word in between does not.
        end(&w, told[0].id, &fence, sent(), sec(5)).await;
        let mut lasts = w.decision(w.shop);
        lasts.notices.push(word(w.hook, id, &uid, (NoticeEvent::Reminded, 1), Severity::Critical, sec(9)));
        w.commit_decisions(vec![lasts]).await;
        assert_eq!(due(&w, last, sec(9)).await, []);
        resolves(&mut w, id, &uid).await;
        let ended = due(&w, last, sec(50)).await;
        assert_eq!((ended.len(), ended[0].event, ended[0].unheard), (1, Some(NoticeEvent::Resolved), false));
        assert_eq!(ended[0].told, Some((sec(5), Some("provider-7".into()))));
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn two_channels_that_fail_at_once_do_not_wait_for_each_other() {
    each_store(|t| async move {
        let (mut w, last, _) = with_a_last_resort(t).await;
        let other = w.t.as_another_node().await;
        for n in 0..10 {
            let (mut decision, id, uid) = w.opens(w.shop, &format!("rule-{n}"), sec(1));
            decision.notices.push(notice(w.chat, id, &uid, NoticeEvent::Opened, Severity::Critical, sec(1)));
            w.commit_decisions(vec![decision]).await;
            let said = TestWord { channel: "both".into(), kind: "webhook".into(), at: sec(1) };
            let cause = format!("report/acme/daily/{n}");
            let channels = vec![w.hook, w.chat];
            let content = Content::Test(said);
            let report = WordWrite { cause, tenant: w.acme, channels, severity: Severity::Info, content, at: sec(1) };
            w.store().tell(&[report]).await.unwrap();
            let ids = |due: Vec<DueNotice>| due.iter().map(|notice| notice.id).collect::<Vec<_>>();
            let (hook, chat) = (ids(due(&w, w.hook, sec(1)).await), ids(due(&w, w.chat, sec(1)).await));
            assert_eq!((hook.len(), chat.len()), (2, 2));
            w.store().begin_attempt(&hook, &w.hook_lease, sec(1)).await.unwrap();
            w.store().begin_attempt(&chat, &w.chat_lease, sec(1)).await.unwrap();
            let attempted = dead();
            let one = AttemptEnd { notices: &hook, fence: &w.hook_lease, attempted: &attempted, key: "one", digest: true, at: sec(2) };
            let two = AttemptEnd { notices: &chat, fence: &w.chat_lease, key: "two", ..one.clone() };
            let (one, two) = tokio::join!(w.store().end_attempt(&one), other.end_attempt(&two));
            one.unwrap();
            two.unwrap();
            assert_eq!(due(&w, last, sec(2)).await.len(), 2 * (n + 1), "round {n}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_end_that_another_channel_tells_reaches_the_last_resort_too() {
    each_store(|t| async move {
        let (mut w, last, fence) = with_a_last_resort(t).await;
        let (id, uid) = opens(&mut w).await;
        // It is over while its beginning is still being tried.
        resolves(&mut w, id, &uid).await;
        assert_eq!(due(&w, last, sec(50)).await, []);
        fails(&w, w.hook, &w.hook_lease, 51).await;
        fails(&w, w.chat, &w.chat_lease, 51).await;
        let hook = due(&w, w.hook, sec(52)).await[0].id;
        end(&w, hook, &w.hook_lease, sent(), sec(52)).await;
        let begins = due(&w, last, sec(52)).await;
        assert_eq!(begins.iter().map(|n| n.event).collect::<Vec<_>>(), [Some(NoticeEvent::Opened)], "in order");
        end(&w, begins[0].id, &fence, sent(), sec(53)).await;
        assert_eq!(due(&w, last, sec(53)).await[0].event, Some(NoticeEvent::Resolved));
        assert_eq!(failures(&w).await.len(), 1, "its end was told by hook");
        let _ = id;
    })
    .await;
}

#[tokio::test]
async fn without_a_last_resort_it_is_said_that_nobody_was_told() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (_, uid) = opens(&mut w).await;
        fails(&w, w.hook, &w.hook_lease, 2).await;
        fails(&w, w.chat, &w.chat_lease, 3).await;
        let view = w.incident(&uid).await;
        let (kind, text) = *story(&view).last().unwrap();
        assert_eq!((kind, text), ("channels_failed", "every channel has failed (hook, chat), and there is no other to tell"));
        assert_eq!(failures(&w).await.len(), 1);
        assert_eq!(states(&view), [("chat", "opened", "dead"), ("hook", "opened", "dead")]);
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_last_resort_that_fails_as_well_is_not_told_again() {
    each_store(|t| async move {
        let (mut w, last, fence) = with_a_last_resort(t).await;
        let (id, uid) = opens(&mut w).await;
        fails(&w, w.hook, &w.hook_lease, 2).await;
        fails(&w, w.chat, &w.chat_lease, 3).await;
        fails(&w, last, &fence, 4).await;
        assert_eq!(due(&w, last, LATER).await, []);
        let said = failures(&w).await;
        assert_eq!((said.len(), &said[1]["last_resort"]), (2, &serde_json::json!([])), "all have failed now");
        resolves(&mut w, id, &uid).await;
        assert_eq!(due(&w, last, LATER).await, [], "it knows nothing of the incident");
    })
    .await;
}

#[tokio::test]
async fn what_was_told_by_one_channel_needs_no_last_resort() {
    each_store(|t| async move {
        let (mut w, last, _) = with_a_last_resort(t).await;
        opens(&mut w).await;
        let chat = due(&w, w.chat, sec(2)).await[0].id;
        end(&w, chat, &w.chat_lease, sent(), sec(2)).await;
        fails(&w, w.hook, &w.hook_lease, 3).await;
        assert_eq!(due(&w, last, LATER).await, []);
        assert_eq!(failures(&w).await.len(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_last_resort_that_is_no_more_or_no_longer_one_is_not_told() {
    each_store(|t| async move {
        let (mut w, last, _) = with_a_last_resort(t).await;
        let mut wanted = objects();
        wanted[0].channels.push(channel("last"));
        w.store().apply("files", "h3", &wanted, Mandate::Alone, Beside::default(), sec(1)).await.unwrap();
        assert_eq!(w.t.number("SELECT rev FROM wk_channel WHERE name = 'last'").await, 2, "that is a change");
        let (_, uid) = opens(&mut w).await;
        fails(&w, w.hook, &w.hook_lease, 2).await;
        fails(&w, w.chat, &w.chat_lease, 3).await;
        assert_eq!(due(&w, last, LATER).await, []);
        assert_eq!(w.incident(&uid).await.notices.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn what_no_channel_could_be_told_for_long_is_passed_on() {
    each_store(|t| async move {
        let (mut w, last, fence) = with_a_last_resort(t).await;
        let (id, uid) = opens(&mut w).await;
        let hook = due(&w, w.hook, sec(2)).await[0].id;
        end(&w, hook, &w.hook_lease, again(sec(400)), sec(2)).await;
        let pass_on = async |channel, before, fence: &Fence| w.store().pass_on(channel, before, fence, sec(301)).await.unwrap();
        let stale = Fence { epoch: w.hook_lease.epoch + 1, ..w.hook_lease.clone() };
        assert_eq!(pass_on(w.hook, sec(0), &w.hook_lease).await, 0, "it is not that old");
        assert_eq!(pass_on(w.hook, sec(1), &stale).await, 0, "the channel is another's");
        assert_eq!(due(&w, last, sec(301)).await, []);
        assert_eq!(pass_on(w.hook, sec(1), &w.hook_lease).await, 1);
        assert_eq!(pass_on(w.hook, sec(1), &w.hook_lease).await, 0, "once");
        assert_eq!(pass_on(w.chat, sec(1), &w.chat_lease).await, 0, "the last resort has it");
        let told = due(&w, last, sec(301)).await;
        assert_eq!((told.len(), told[0].event, told[0].created_at), (1, Some(NoticeEvent::Opened), sec(1)));
        let view = w.incident(&uid).await;
        assert_eq!(
            *story(&view).last().unwrap(),
            ("channels_failed", "no channel could be told so far (hook, chat): telling last too, as a last resort")
        );
        assert_eq!(states(&view), [("chat", "opened", "due"), ("hook", "opened", "due"), ("last", "opened", "due")]);
        assert_eq!(failures(&w).await.len(), 1);
        end(&w, told[0].id, &fence, sent(), sec(302)).await;

        // Its own channels are told as well when they work again, or else given up; the last resort is not asked twice.
        end(&w, hook, &w.hook_lease, sent(), sec(400)).await;
        fails(&w, w.chat, &w.chat_lease, 401).await;
        assert_eq!(due(&w, last, sec(401)).await, []);
        assert_eq!(failures(&w).await.len(), 1);
        resolves(&mut w, id, &uid).await;
        assert_eq!(due(&w, last, sec(402)).await[0].event, Some(NoticeEvent::Resolved), "to its end");
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn what_is_muted_or_told_elsewhere_or_no_alert_is_not_passed_on() {
    each_store(|t| async move {
        let (mut w, last, _) = with_a_last_resort(t).await;
        opens(&mut w).await;
        let pass_on = async |w: &World, at| w.store().pass_on(w.hook, sec(1), &w.hook_lease, sec(at)).await.unwrap();
        let (hook, chat) = (due(&w, w.hook, sec(2)).await[0].id, due(&w, w.chat, sec(2)).await[0].id);
        let hold = |mute| Deferred::Held { until: sec(900), why: "silence".into(), mute };
        w.store().defer(&[(hook, hold(true))], &w.hook_lease, sec(2)).await.unwrap();
        assert_eq!(pass_on(&w, 800).await, 0, "somebody asked for quiet");
        w.store().defer(&[(chat, hold(true))], &w.chat_lease, sec(2)).await.unwrap();
        let begun = begin(&w, hook, &w.hook_lease, sec(901)).await;
        assert!(begun, "the silence is over");
        record(&w, hook, &w.hook_lease, &again(sec(902)), sec(901)).await;
        end(&w, chat, &w.chat_lease, sent(), sec(901)).await;
        assert_eq!(pass_on(&w, 1_500).await, 0, "chat has told it");
        let report = WordWrite {
            cause: "report/acme/daily/1".into(),
            tenant: w.acme,
            channels: vec![w.hook],
            severity: Severity::Info,
            content: Content::Test(TestWord { channel: "both".into(), kind: "webhook".into(), at: sec(1) }),
            at: sec(1),
        };
        w.store().tell(&[report]).await.unwrap();
        assert_eq!(pass_on(&w, 1_500).await, 0, "a report is no alert");
        assert_eq!(due(&w, last, LATER).await, []);
        assert_eq!(failures(&w).await.len(), 0);
    })
    .await;
}

#[tokio::test]
async fn without_a_last_resort_nothing_is_passed_on_and_nothing_said() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (_, uid) = opens(&mut w).await;
        let before = w.incident(&uid).await.timeline.len();
        assert_eq!(w.store().pass_on(w.hook, sec(1), &w.hook_lease, sec(301)).await.unwrap(), 0);
        assert_eq!(w.incident(&uid).await.timeline.len(), before);
    })
    .await;
}
