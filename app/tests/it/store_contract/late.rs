//! Batches that come late, from the journal of a node that was cut off.

use super::world::*;
use crate::support::store::each_store;
use watchkeeper::store::*;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::rule::Severity;
use watchkeeper_core::verdict::{NoticeEvent, Verdict};
use watchkeeper_core::{ChannelId, Outcome, Reason};

fn told(cause: &str, channel: ChannelId, key: &str, digest: bool) -> Told {
    Told { cause: cause.into(), channel, key: key.into(), digest, provider_id: Some("provider-7".into()), at: sec(3) }
}

#[tokio::test]
async fn what_was_told_meanwhile_is_not_told_again_and_the_rest_is_due() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (mut decision, id, uid) = w.opens(w.shop, "down", sec(1));
        decision.notices.push(notice(w.chat, id, &uid, NoticeEvent::Opened, Severity::Critical, sec(1)));
        let cause = format!("incident/{uid}/opened/0");
        let late = Late {
            node: "a".into(),
            told: vec![told(&cause, w.hook, "k", false), told("incident/unknown/opened/0", w.hook, "x", false)],
            ..Late::default()
        };
        let batch = Batch { decisions: vec![decision], late: Some(late), ..w.batch() };
        w.store().commit(&batch).await.unwrap();
        // It is committed again, as after a crash.
        w.store().commit(&batch).await.unwrap();
        assert_eq!(due(&w, w.hook, LATER).await, []);
        assert_eq!(due(&w, w.chat, LATER).await.len(), 1);
        let view = w.incident(&uid).await;
        assert_eq!(states(&view), [("chat", "opened", "due"), ("hook", "opened", "sent")]);
        assert_eq!(*story(&view).last().unwrap(), ("told", "told hook"));
        assert_eq!(w.store().recent_messages(w.hook, sec(0)).await.unwrap(), [SentMessage { at: sec(3), digest: false }]);
        // What follows knows of it.
        let resolved = w.resolves(w.shop, id, &uid, sec(50));
        w.commit_decisions(vec![resolved]).await;
        assert_eq!(due(&w, w.hook, LATER).await[0].told, Some((sec(3), Some("provider-7".into()))));
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_digest_that_was_told_covers_all_its_words() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (first, _, one) = w.opens(w.shop, "down", sec(1));
        let (second, _, two) = w.opens(w.shop, "slow_response", sec(1));
        let told = [&one, &two].map(|uid| told(&format!("incident/{uid}/opened/0"), w.hook, "d", true));
        let batch = Batch {
            decisions: vec![first, second],
            late: Some(Late { node: "a".into(), told: told.into(), ..Late::default() }),
            ..w.batch()
        };
        w.store().commit(&batch).await.unwrap();
        assert_eq!(due(&w, w.hook, LATER).await, []);
        assert_eq!(w.store().recent_messages(w.hook, sec(0)).await.unwrap(), [SentMessage { at: sec(3), digest: true }]);
    })
    .await;
}

#[tokio::test]
async fn what_another_node_has_overtaken_is_an_entry_of_what_that_node_decided() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        // Decided by whoever holds the scope now.
        let (decision, _, uid) = w.opens(w.shop, "down", sec(5));
        w.commit_decisions(vec![decision]).await;
        let (mut dropped, gone, other) = w.opens(w.shop, "down", sec(4));
        dropped.fences[0].epoch -= 1;
        let cause = format!("incident/{other}/opened/0");
        let beat = w.beat(w.shop, sec(4), Outcome::Up);
        let late = Late { node: "a".into(), told: vec![told(&cause, w.hook, "k", false)], ..Late::default() };
        let batch = Batch { beats: vec![beat], decisions: vec![dropped], late: Some(late), ..w.batch() };
        let committed = w.store().commit(&batch).await.unwrap();
        assert_eq!(committed.stale.len(), 1);
        let view = w.incident(&uid).await;
        let (kind, text) = *story(&view).last().unwrap();
        assert_eq!(kind, "cut_off");
        assert!(text.starts_with("found this too, cut off from the store (told 1 channel): "), "{text}");
        assert_eq!(w.t.number(&format!("SELECT count(*) FROM wk_incident WHERE id = {}", gone.0)).await, 0);
        assert_eq!(w.store().heartbeats(w.acme(), w.shop, LATER, 10).await.unwrap().len(), 1, "a fact is a fact");
        assert_eq!(due(&w, w.hook, LATER).await.len(), 1, "only the word of whoever decides");
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

/// How an incident ended later in the journal.
fn end(of: &Decision) -> LateEnd {
    LateEnd { write: of.incidents[0].clone(), notices: None }
}

fn overtaken(mut decision: Decision) -> Decision {
    decision.fences[0].epoch -= 1;
    decision
}

fn late(told: Vec<Told>, ends: Vec<LateEnd>) -> Late {
    Late { node: "a".into(), told, ends, wait: true }
}

#[tokio::test]
async fn an_outage_that_only_the_cut_off_node_saw_is_an_incident_of_the_past() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (mut opened, id, uid) = w.opens(w.shop, "down", sec(4));
        opened.notices.push(notice(w.chat, id, &uid, NoticeEvent::Opened, Severity::Critical, sec(4)));
        let mut resolved = w.resolves(w.shop, id, &uid, sec(6));
        resolved.notices.push(notice(w.chat, id, &uid, NoticeEvent::Resolved, Severity::Critical, sec(6)));
        let (began, over) = (format!("incident/{uid}/opened/0"), format!("incident/{uid}/resolved/1"));
        let ends = vec![end(&resolved)];
        // The holder has seen another one since: that is another outage.
        let (other, _, of_holder) = w.opens(w.shop, "down", sec(8));
        w.commit_decisions(vec![other]).await;
        let first =
            Batch { decisions: vec![overtaken(opened)], late: Some(late(vec![told(&began, w.hook, "k", false)], ends)), ..w.batch() };
        w.store().commit(&first).await.unwrap();
        let second =
            Batch { decisions: vec![overtaken(resolved)], late: Some(late(vec![told(&over, w.hook, "l", false)], vec![])), ..w.batch() };
        w.store().commit(&second).await.unwrap();

        let view = w.incident(&uid).await;
        assert_eq!((view.status.as_str(), view.opened_at, view.resolved_at), ("resolved", sec(4), Some(sec(6))));
        let kinds: Vec<&str> = story(&view).iter().map(|entry| entry.0).collect();
        assert_eq!(kinds, ["opened", "cut_off", "resolved", "told", "told"]);
        let text = story(&view)[1].1;
        assert!(text.starts_with("alone found this, cut off from the store (told 1 channel): "), "{text}");
        // Whoever was not told is told now.
        assert_eq!(
            states(&view),
            [("chat", "opened", "due"), ("chat", "resolved", "due"), ("hook", "opened", "sent"), ("hook", "resolved", "sent")]
        );
        assert_eq!(w.incident(&of_holder).await.status, "open");
        assert_eq!(story(&w.incident(&of_holder).await).len(), 1);
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

/// The holder took over after the end of one outage and before that of the next: to it they are one.
#[tokio::test]
async fn what_began_after_an_end_that_only_the_cut_off_node_saw_is_another_outage() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        for (monitor, in_one_batch) in [(w.shop, false), (w.api, true)] {
            let (opened, known, of_holder) = w.opens(monitor, "down", sec(1));
            w.commit_decisions(vec![opened]).await;
            let over = w.resolves(monitor, known, &of_holder, sec(4));
            let (again, id, uid) = w.opens(monitor, "down", sec(5));
            let over_again = w.resolves(monitor, id, &uid, sec(7));
            let ends = vec![end(&over_again)];
            let word = told(&format!("incident/{of_holder}/resolved/1"), w.hook, "k", false);
            let parts = [vec![overtaken(over)], vec![overtaken(again)], vec![overtaken(over_again)]];
            let parts = if in_one_batch { vec![parts.into_iter().flatten().collect()] } else { parts.into() };
            for decisions in parts {
                let batch = Batch { decisions, late: Some(late(vec![word.clone()], ends.clone())), ..w.batch() };
                w.store().commit(&batch).await.unwrap();
            }
            let view = w.incident(&uid).await;
            assert_eq!((view.opened_at, view.resolved_at), (sec(5), Some(sec(7))), "in one batch: {in_one_batch}");
            let holders = w.incident(&of_holder).await;
            assert_eq!(holders.status, "open", "whoever decides ends it");
            let entries: Vec<_> = holders.timeline.iter().filter(|entry| entry.kind == "cut_off").map(|entry| entry.at).collect();
            assert_eq!(entries, [sec(4)]);
        }
        let acts = w.store().unfolded_actions(10).await.unwrap();
        assert_eq!(acts.iter().map(|row| row.act).collect::<Vec<_>>(), [Act::SeenOver; 2]);
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn both_ends_of_an_outage_may_be_in_one_batch() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (opened, id, uid) = w.opens(w.shop, "down", sec(4));
        let resolved = w.resolves(w.shop, id, &uid, sec(6));
        let ends = vec![end(&resolved)];
        let batch = Batch { decisions: vec![overtaken(opened), overtaken(resolved)], late: Some(late(vec![], ends)), ..w.batch() };
        w.store().commit(&batch).await.unwrap();
        let view = w.incident(&uid).await;
        assert_eq!((view.opened_at, view.resolved_at), (sec(4), Some(sec(6))));
        assert_eq!(states(&view), [("hook", "opened", "due"), ("hook", "resolved", "due")]);
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn what_a_cut_off_node_left_open_waits_for_the_look_of_whoever_decides() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (opened, id, uid) = w.opens(w.shop, "down", sec(4));
        let mut over = w.resolves(w.shop, id, &uid, sec(9));
        let made_up = LateEnd { write: over.incidents[0].clone(), notices: Some(over.notices.drain(..).collect()) };
        let began = format!("incident/{uid}/opened/0");
        let batch = Batch {
            decisions: vec![overtaken(opened)],
            late: Some(late(vec![told(&began, w.hook, "k", false)], vec![made_up])),
            ..w.batch()
        };
        assert!(matches!(w.store().commit(&batch).await, Err(StoreError::NotYet)));
        // A look that finds it bad says nothing yet: an incident may follow.
        let other = w.store().join("node-b", "local", "boot-b", T0).await.unwrap();
        let look = async |number: u64, at, health, outcome| {
            let decision = Decision {
                verdict: Some(VerdictRow { verdict: Verdict { health, since: at, ..Verdict::default() }, wake: None }),
                ..w.decision(w.shop)
            };
            let beats = vec![beat(w.shop, other.datacenter, other.agent, at, outcome)];
            let batch =
                Batch { agent: other.agent, boot: other.boot.clone(), number, beats, decisions: vec![decision], ..Batch::default() };
            w.store().commit(&batch).await.unwrap();
        };
        look(other.last_batch + 1, sec(6), Health::Pending, Outcome::Down(Reason::TcpRefused)).await;
        assert!(matches!(w.store().commit(&batch).await, Err(StoreError::NotYet)));
        look(other.last_batch + 2, sec(7), Health::Up, Outcome::Up).await;
        w.store().commit(&batch).await.unwrap();
        let view = w.incident(&uid).await;
        assert_eq!((view.status.as_str(), view.resolved_at), ("resolved", Some(sec(9))));
        assert_eq!(states(&view), [("hook", "opened", "sent"), ("hook", "resolved", "due")], "whoever was told hears that it is over");
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn an_end_that_was_told_of_what_is_open_is_passed_on_to_whoever_decides() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (mut opened, id, uid) = w.opens(w.shop, "down", sec(1));
        opened.notices.push(notice(w.chat, id, &uid, NoticeEvent::Opened, Severity::Critical, sec(1)));
        w.commit_decisions(vec![opened]).await;
        let mut resolved = w.resolves(w.shop, id, &uid, sec(6));
        resolved.notices.push(notice(w.chat, id, &uid, NoticeEvent::Resolved, Severity::Critical, sec(6)));
        let over = format!("incident/{uid}/resolved/1");
        let batch = Batch {
            decisions: vec![overtaken(resolved.clone())],
            late: Some(late(vec![told(&over, w.hook, "k", false)], vec![])),
            ..w.batch()
        };
        w.store().commit(&batch).await.unwrap();
        let deeds = w.store().unfolded_actions(10).await.unwrap();
        assert_eq!(
            deeds.iter().map(|row| (row.incident, row.act, row.actor.as_str(), row.at)).collect::<Vec<_>>(),
            [(id, Act::SeenOver, "a", sec(6))]
        );
        let view = w.incident(&uid).await;
        assert_eq!((view.status.as_str(), story(&view).last().unwrap().0), ("open", "cut_off"));
        // The holder ends it, and begins another one with the same commit: of the end only those are told who have not heard of it.
        let (anew, _, next) = w.opens(w.shop, "down", sec(7));
        w.commit_decisions(vec![Decision { action: Some(deeds[0].id), ..resolved }, anew]).await;
        assert_eq!(w.incident(&next).await.status, "open");
        let view = w.incident(&uid).await;
        assert_eq!(
            states(&view),
            [("chat", "opened", "due"), ("chat", "resolved", "due"), ("hook", "opened", "due"), ("hook", "resolved", "sent")]
        );
        assert_eq!(w.store().unfolded_actions(10).await.unwrap(), []);
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}
