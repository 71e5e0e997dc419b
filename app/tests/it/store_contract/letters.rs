//! What leaves: digests, words about no incident, what a channel took lately, and dead letters.

use super::world::*;
use crate::support::store::each_store;
use watchkeeper::channel::content::{Content, NodeEvent, NodeWord};
use watchkeeper::store::*;
use watchkeeper_core::rule::Severity;
use watchkeeper_core::verdict::NoticeEvent;

#[tokio::test]
async fn a_digest_is_one_message_for_many() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (mut decisions, mut uids) = (Vec::new(), Vec::new());
        for n in 0..3 {
            let (decision, _, uid) = w.opens(w.shop, &format!("rule-{n}"), sec(1));
            decisions.push(decision);
            uids.push(uid);
        }
        w.commit_decisions(decisions).await;
        let ids: Vec<i64> = due(&w, w.hook, sec(1)).await.iter().map(|notice| notice.id).collect();
        let asked = [ids[2], ids[0], 999_999_999, ids[1]];
        assert_eq!(w.store().begin_attempt(&asked, &w.hook_lease, sec(2)).await.unwrap(), [ids[2], ids[0], ids[1]]);
        let stale = Fence { epoch: w.hook_lease.epoch - 1, ..w.hook_lease.clone() };
        let gives_up = AttemptEnd { notices: &ids, fence: &stale, attempted: &dead(), key: "digest/1", digest: true, at: sec(2) };
        w.store().end_attempt(&gives_up).await.unwrap();
        assert_eq!(w.store().outbox_depth().await.unwrap().waiting, 3, "a frozen process gives nothing up");
        let attempted = sent();
        let digest = AttemptEnd { fence: &w.hook_lease, attempted: &attempted, at: sec(3), ..gives_up };
        for _ in 0..2 {
            w.store().end_attempt(&digest).await.unwrap();
        }
        for uid in &uids {
            let view = w.incident(uid).await;
            assert_eq!(story(&view)[1..], [("told", "told hook (with 2 others)")], "once, however often it is recorded");
            assert_eq!((view.notices[0].state.as_str(), view.notices[0].sent_at), ("sent", Some(sec(3))));
        }
        let told = w.store().recent_messages(w.hook, T0).await.unwrap();
        assert_eq!(told, [SentMessage { at: sec(3), digest: true }]);
        // A digest is nothing to answer to: it is about the others too.
        let view = w.incident(&uids[0]).await;
        w.commit_decisions(vec![w.resolves(w.shop, view.id, &uids[0], sec(4))]).await;
        assert_eq!(due(&w, w.hook, sec(4)).await[0].told, Some((sec(3), None)));
        assert_eq!(w.t.number("SELECT count(*) FROM wk_message").await, 1);
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_digest_that_failed_is_due_again_as_a_whole() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let decisions = (0..3).map(|n| w.opens(w.shop, &format!("rule-{n}"), sec(1)).0).collect();
        w.commit_decisions(decisions).await;
        let ids: Vec<i64> = due(&w, w.hook, sec(1)).await.iter().map(|notice| notice.id).collect();
        assert_eq!(w.store().begin_attempt(&ids, &w.hook_lease, sec(1)).await.unwrap(), ids);
        let attempted = again(sec(30));
        let end = AttemptEnd { notices: &ids, fence: &w.hook_lease, attempted: &attempted, key: "digest/1", digest: true, at: sec(2) };
        w.store().end_attempt(&end).await.unwrap();
        assert_eq!(due(&w, w.hook, sec(29)).await, []);
        let waiting = due(&w, w.hook, sec(30)).await;
        assert_eq!(waiting.iter().map(|n| (n.id, n.attempts)).collect::<Vec<_>>(), ids.iter().map(|id| (*id, 1)).collect::<Vec<_>>());
        assert!(waiting.iter().all(|n| n.with == ids.iter().min().copied()), "and says what it was begun together with: {waiting:?}");
        assert_eq!(w.store().begin_attempt(&ids[1..2], &w.hook_lease, sec(30)).await.unwrap(), ids[1..2]);
        let alone = AttemptEnd { notices: &ids[1..2], at: sec(30), ..end };
        w.store().end_attempt(&alone).await.unwrap();
        let with: Vec<_> = due(&w, w.hook, sec(31)).await.iter().map(|n| n.with).collect();
        assert_eq!(with, [Some(ids[0]), Some(ids[1]), Some(ids[0])], "until it is begun apart from them");
        assert_eq!(w.store().recent_messages(w.hook, T0).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn what_a_channel_took_lately_is_known_oldest_first() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        for n in 0..4 {
            let (decision, _, _) = w.opens(w.shop, &format!("rule-{n}"), sec(n));
            w.commit_decisions(vec![decision]).await;
            let notice = due(&w, w.hook, sec(n)).await[0].id;
            end(&w, notice, &w.hook_lease, sent(), sec(10 + n)).await;
        }
        w.t.reopen().await;
        let at = |messages: Vec<SentMessage>| messages.iter().map(|m| m.at).collect::<Vec<_>>();
        assert_eq!(at(w.store().recent_messages(w.hook, sec(11)).await.unwrap()), [sec(11), sec(12), sec(13)]);
        assert_eq!(w.store().recent_messages(w.chat, T0).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn a_word_about_no_incident_is_told_like_others_and_once() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let node = NodeWord {
            event: NodeEvent::CutOff,
            node: "node-a".into(),
            datacenter: "local".into(),
            severity: Severity::Warning,
            at: sec(1),
            until: Some(sec(9)),
            summary: "the network was gone — „ütf-8“ \0".into(),
        };
        let said = WordWrite {
            cause: "node/node-a/cut_off/1".into(),
            tenant: w.acme,
            channels: vec![w.hook, w.chat],
            severity: Severity::Warning,
            content: Content::Node(node),
            at: sec(10),
        };
        w.store().tell(std::slice::from_ref(&said)).await.unwrap();
        w.store().tell(std::slice::from_ref(&said)).await.unwrap();
        // Another tenant's channel is out of reach.
        w.store().tell(&[WordWrite { cause: "node/other".into(), tenant: w.zenith, ..said.clone() }]).await.unwrap();
        w.t.reopen().await;
        let got = due(&w, w.hook, sec(10)).await;
        assert_eq!(got.len(), 1);
        assert_eq!((got[0].incident, got[0].event, got[0].tenant, &got[0].content), (None, None, w.acme, &said.content));
        assert_eq!((got[0].severity, got[0].cause.as_str(), got[0].created_at), (Severity::Warning, "node/node-a/cut_off/1", sec(10)));
        end(&w, got[0].id, &w.hook_lease, sent(), sec(11)).await;
        let chat = due(&w, w.chat, sec(11)).await;
        assert_eq!(chat.len(), 1, "each channel for itself");
        let never = Deferred::Suppressed { why: "never".into() };
        w.store().defer(&[(got[0].id, never)], &w.hook_lease, sec(12)).await.unwrap();
        end(&w, chat[0].id, &w.chat_lease, dead(), sec(12)).await;
        let letters = w.store().dead_letters(w.acme(), None, 10).await.unwrap();
        assert_eq!((letters.len(), letters[0].event.as_str(), letters[0].incident_uid.as_deref()), (1, "node", None));
        w.store().tell(std::slice::from_ref(&said)).await.unwrap();
        assert_eq!(due(&w, w.hook, sec(20)).await, [], "told is told");
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn dead_letters_are_listed_and_sent_again_on_request() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let mut uids = Vec::new();
        for n in 0..3 {
            let (decision, _, uid) = w.opens(w.shop, &format!("rule-{n}"), sec(n));
            w.commit_decisions(vec![decision]).await;
            let notice = due(&w, w.hook, sec(n)).await[0].id;
            end(&w, notice, &w.hook_lease, again(sec(n)), sec(n)).await;
            end(&w, notice, &w.hook_lease, dead(), sec(n)).await;
            uids.push(uid);
        }
        let letters = w.store().dead_letters(w.acme(), None, 10).await.unwrap();
        let listed: Vec<_> = letters.iter().map(|letter| letter.incident_uid.clone().unwrap()).collect();
        assert_eq!(listed, [uids[2].clone(), uids[1].clone(), uids[0].clone()], "newest first");
        let newest = &letters[0];
        assert_eq!((newest.channel.as_str(), newest.event.as_str(), newest.attempts), ("hook", "opened", 2));
        assert_eq!((newest.last_error.as_deref(), newest.created_at), (Some("the provider answered 401"), sec(2)));
        assert_eq!(event_of(&newest.content), Some(NoticeEvent::Opened));
        assert_eq!(w.store().dead_letters(w.acme(), Some(newest.id), 1).await.unwrap(), letters[1..2]);
        assert_eq!(w.store().dead_letters(w.zenith(), None, 10).await.unwrap(), []);

        assert_eq!(w.store().retry_dead(w.zenith(), newest.id, sec(50)).await.unwrap(), None, "another tenant's");
        assert_eq!(w.store().retry_dead(w.acme(), newest.id + 1_000, sec(50)).await.unwrap(), None);
        assert_eq!(w.store().retry_dead(w.acme(), newest.id, sec(50)).await.unwrap(), Some(w.hook));
        assert_eq!(w.store().retry_dead(w.acme(), newest.id, sec(50)).await.unwrap(), None, "it is no longer dead");
        let back = due(&w, w.hook, sec(50)).await;
        assert_eq!((back.len(), back[0].id, back[0].attempts), (1, newest.id, 0), "counted anew");
        end(&w, newest.id, &w.hook_lease, sent(), sec(51)).await;
        assert_eq!(w.store().outbox_depth().await.unwrap(), OutboxDepth { waiting: 0, dead: 2, oldest: None });
        // A channel that is no more delivers nothing.
        let mut wanted = objects();
        wanted[0].channels.remove(0);
        w.store().apply("files", "h2", &wanted, Mandate::Alone, Beside::default(), sec(60)).await.unwrap();
        assert_eq!(w.store().retry_dead(w.acme(), letters[1].id, sec(61)).await.unwrap(), None);
    })
    .await;
}
