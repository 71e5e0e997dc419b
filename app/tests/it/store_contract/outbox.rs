//! The outbox: each notice once, the urgent first, and a story never out of order.

use super::world::*;
use crate::support::store::each_store;
use watchkeeper::store::*;
use watchkeeper_core::Dur;
use watchkeeper_core::rule::Severity;
use watchkeeper_core::verdict::NoticeEvent;

#[tokio::test]
async fn a_notice_is_due_with_everything_that_it_says() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (decision, id, uid) = w.opens(w.shop, "down", sec(1));
        let want = decision.notices[0].clone();
        w.commit_decisions(vec![decision]).await;
        w.t.reopen().await;
        let got = due(&w, w.hook, sec(1)).await;
        let one = DueNotice {
            id: got[0].id,
            cause: format!("incident/{uid}/opened/0"),
            channel: w.hook,
            tenant: w.acme,
            incident: Some(id),
            event: Some(NoticeEvent::Opened),
            severity: Severity::Critical,
            content: want.content,
            attempts: 0,
            with: None,
            created_at: sec(1),
            held: false,
            cooldown: Dur::ZERO,
            told: None,
            unheard: false,
            over: None,
            last_about_rule: None,
            parents: vec![],
        };
        assert_eq!(got, [one]);
        assert_eq!(due(&w, w.chat, sec(1)).await, [], "another channel's");
        assert_eq!(w.store().next_due(w.hook).await.unwrap(), Some(sec(1)));
        assert_eq!(w.store().next_due(w.chat).await.unwrap(), None);
        assert_eq!(w.store().outbox_depth().await.unwrap(), OutboxDepth { waiting: 1, dead: 0, oldest: Some(sec(1)) });
    })
    .await;
}

#[tokio::test]
async fn the_most_urgent_leaves_first_then_the_oldest() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let mut decisions = Vec::new();
        let order = [(Severity::Info, 1), (Severity::Critical, 4), (Severity::Warning, 2), (Severity::Critical, 3), (Severity::Warning, 1)];
        for (n, (severity, at)) in order.into_iter().enumerate() {
            let (mut decision, id, uid) = w.opens(w.shop, &format!("rule-{n}"), sec(at));
            decision.notices[0] = notice(w.hook, id, &uid, NoticeEvent::Opened, severity, sec(at));
            decisions.push(decision);
        }
        w.commit_decisions(decisions).await;
        let got = due(&w, w.hook, sec(10)).await;
        let order: Vec<_> = got.iter().map(|n| (n.severity, n.created_at)).collect();
        let want = [
            (Severity::Critical, sec(3)),
            (Severity::Critical, sec(4)),
            (Severity::Warning, sec(1)),
            (Severity::Warning, sec(2)),
            (Severity::Info, sec(1)),
        ];
        assert_eq!(order, want);
        let first: Vec<_> = w.store().due_notices(w.hook, sec(10), 2).await.unwrap().into_iter().map(|n| n.id).collect();
        assert_eq!(first, [got[0].id, got[1].id], "a limit cuts the less urgent");
    })
    .await;
}

#[tokio::test]
async fn an_end_is_never_told_before_its_beginning() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (mut opened, id, uid) = w.opens(w.shop, "down", sec(1));
        opened.notices.push(notice(w.chat, id, &uid, NoticeEvent::Opened, Severity::Critical, sec(1)));
        let mut resolved = w.resolves(w.shop, id, &uid, sec(2));
        resolved.notices.push(notice(w.chat, id, &uid, NoticeEvent::Resolved, Severity::Critical, sec(2)));
        w.commit_decisions(vec![opened, resolved]).await;
        let (unrelated, _, _) = w.opens(w.api, "down", sec(3));
        w.commit_decisions(vec![unrelated]).await;

        let got = due(&w, w.hook, sec(5)).await;
        assert_eq!(got.len(), 2, "the beginnings of both incidents");
        assert_eq!((got[0].incident, got[0].event), (Some(id), Some(NoticeEvent::Opened)));
        // Its beginning waits for another attempt: the end waits too, and nobody is woken in vain.
        end(&w, got[0].id, &w.hook_lease, again(sec(60)), sec(5)).await;
        end(&w, got[1].id, &w.hook_lease, sent(), sec(5)).await;
        assert_eq!(due(&w, w.hook, sec(59)).await, []);
        assert_eq!(w.store().next_due(w.hook).await.unwrap(), Some(sec(60)), "not the time of what has to wait");
        // Under way is not yet told.
        assert!(begin(&w, got[0].id, &w.hook_lease, sec(60)).await);
        assert_eq!(due(&w, w.hook, sec(60)).await, []);
        // The other channel has its own order.
        let chat = due(&w, w.chat, sec(5)).await;
        assert_eq!(chat.len(), 1);
        end(&w, chat[0].id, &w.chat_lease, Attempted::Dead { error: "the chat is gone".into() }, sec(5)).await;
        let end_of_it = due(&w, w.chat, sec(5)).await;
        assert_eq!(end_of_it.len(), 1, "what was given up holds nothing back");
        assert_eq!(event_of(&end_of_it[0].content), Some(NoticeEvent::Resolved));
        // Once the beginning was told, the end is due.
        record(&w, got[0].id, &w.hook_lease, &sent(), sec(61)).await;
        let last = due(&w, w.hook, sec(61)).await;
        assert_eq!(last.iter().map(|n| n.cause.clone()).collect::<Vec<_>>(), [format!("incident/{uid}/resolved/1")]);
    })
    .await;
}

#[tokio::test]
async fn a_notice_is_told_once_whatever_is_decided_again() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (decision, _, _) = w.opens(w.shop, "down", sec(1));
        let mut repeated = w.decision(w.shop);
        repeated.notices = decision.notices.clone();
        w.commit_decisions(vec![decision]).await;
        let first = due(&w, w.hook, sec(1)).await;
        end(&w, first[0].id, &w.hook_lease, sent(), sec(2)).await;
        w.commit_decisions(vec![repeated]).await;
        assert_eq!(due(&w, w.hook, sec(9)).await, []);
        assert!(!begin(&w, first[0].id, &w.hook_lease, sec(9)).await, "it no longer waits");
        assert_eq!(w.store().next_due(w.hook).await.unwrap(), None);
        assert_eq!(w.store().outbox_depth().await.unwrap(), OutboxDepth::default());
    })
    .await;
}

#[tokio::test]
async fn what_became_of_a_notice_stands_with_its_incident() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (mut decision, id, uid) = w.opens(w.shop, "down", sec(1));
        decision.notices.push(notice(w.chat, id, &uid, NoticeEvent::Opened, Severity::Critical, sec(1)));
        w.commit_decisions(vec![decision]).await;
        let (hook, chat) = (due(&w, w.hook, sec(1)).await[0].id, due(&w, w.chat, sec(1)).await[0].id);
        end(&w, hook, &w.hook_lease, again(sec(5)), sec(2)).await;
        assert_eq!(due(&w, w.hook, sec(4)).await, [], "not before its time");
        let second = due(&w, w.hook, sec(5)).await;
        assert_eq!(second[0].attempts, 1, "attempts begun before this one");
        end(&w, hook, &w.hook_lease, sent(), sec(6)).await;
        end(&w, chat, &w.chat_lease, Attempted::Dead { error: "401 from the provider".into() }, sec(7)).await;

        let incident = w.incident(&uid).await;
        let view = |channel: &str| incident.notices.iter().find(|n| n.channel == channel).unwrap().clone();
        let told = view("hook");
        assert_eq!((told.event.as_str(), told.state.as_str(), told.attempts), ("opened", "sent", 2));
        assert_eq!((told.created_at, told.sent_at), (sec(1), Some(sec(6))));
        let dead = view("chat");
        assert_eq!((dead.state.as_str(), dead.attempts, dead.sent_at), ("dead", 1, None));
        assert_eq!(dead.last_error.as_deref(), Some("401 from the provider"));
        let kinds: Vec<_> = incident.timeline.iter().map(|entry| (entry.nth, entry.kind.as_str())).collect();
        assert_eq!(kinds.first(), Some(&(0, "opened")));
        assert!(incident.timeline.iter().any(|e| e.kind == "told" && e.text.contains("hook") && e.at == sec(6)), "{kinds:?}");
        assert!(incident.timeline.iter().any(|e| e.kind == "not_told" && e.text.contains("chat") && e.at == sec(7)), "{kinds:?}");
        assert!(kinds.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order: {kinds:?}");
        assert_eq!(w.store().outbox_depth().await.unwrap(), OutboxDepth { waiting: 0, dead: 1, oldest: None });
        assert_eq!(due(&w, w.chat, sec(1_000)).await, [], "a dead letter is not tried again");
    })
    .await;
}

#[tokio::test]
async fn only_the_holder_begins_and_only_once() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (decision, _, _) = w.opens(w.shop, "down", sec(1));
        w.commit_decisions(vec![decision]).await;
        let id = due(&w, w.hook, sec(1)).await[0].id;
        let stale = Fence { epoch: w.hook_lease.epoch - 1, ..w.hook_lease.clone() };
        assert!(!begin(&w, id, &stale, sec(1)).await);
        let nobodys = Fence { scope: "channel/nobody".into(), epoch: 1 };
        assert!(!begin(&w, id, &nobodys, sec(1)).await);
        assert!(!begin(&w, id + 1_000_000, &w.hook_lease, sec(1)).await, "there is no such notice");
        assert!(begin(&w, id, &w.hook_lease, sec(1)).await);
        assert!(!begin(&w, id, &w.hook_lease, sec(1)).await, "it is under way");
        assert_eq!(due(&w, w.hook, sec(1_000)).await, [], "it is under way");
        assert_eq!(w.store().outbox_depth().await.unwrap().waiting, 1, "but not yet told");
    })
    .await;
}

#[tokio::test]
async fn what_a_dead_process_was_sending_is_due_again() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (opened, id, uid) = w.opens(w.shop, "down", sec(1));
        let resolved = w.resolves(w.shop, id, &uid, sec(2));
        w.commit_decisions(vec![opened, resolved]).await;
        let first = due(&w, w.hook, sec(2)).await[0].clone();
        assert!(begin(&w, first.id, &w.hook_lease, sec(2)).await);
        // The process dies; the next one takes the channel.
        w.t.reopen().await;
        let dead = std::mem::replace(&mut w.hook_lease, take(&w.t.store, "channel/hook", "node-b#1").await);
        assert!(w.store().next_due(w.hook).await.unwrap().is_some_and(|at| at <= sec(3)), "its deliverer must wake up for it");
        let again = due(&w, w.hook, sec(3)).await;
        assert_eq!(again, [DueNotice { attempts: 1, with: Some(first.id), ..first.clone() }], "the same key, and still before its end");
        assert!(begin(&w, first.id, &w.hook_lease, sec(3)).await);
        // A frozen process that wakes up does not disturb.
        record(&w, first.id, &dead, &self::again(LATER), sec(4)).await;
        record(&w, first.id, &w.hook_lease, &sent(), sec(5)).await;
        let incident = w.incident(&uid).await;
        let told: Vec<_> = incident.notices.iter().map(|n| (n.event.as_str(), n.state.as_str())).collect();
        assert!(told.contains(&("opened", "sent")), "{told:?}");
        assert_eq!(due(&w, w.hook, sec(5)).await.len(), 1, "now its end");
    })
    .await;
}

#[tokio::test]
async fn that_it_was_told_is_a_fact_also_from_one_who_lost_the_lease() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (opened, _, uid) = w.opens(w.shop, "down", sec(1));
        w.commit_decisions(vec![opened]).await;
        let notice = due(&w, w.hook, sec(1)).await[0].id;
        assert!(begin(&w, notice, &w.hook_lease, sec(1)).await);
        take(&w.t.store, "channel/hook", "node-b#1").await;
        record(&w, notice, &w.hook_lease, &sent(), sec(2)).await;
        assert_eq!(due(&w, w.hook, sec(3)).await, [], "telling it again would be telling it twice");
        assert_eq!(w.incident(&uid).await.notices[0].state, "sent");
    })
    .await;
}
