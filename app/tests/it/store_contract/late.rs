//! Batches that come late, from the journal of a node that was cut off.

use super::world::*;
use crate::support::store::each_store;
use watchkeeper::store::*;
use watchkeeper_core::rule::Severity;
use watchkeeper_core::verdict::NoticeEvent;
use watchkeeper_core::{ChannelId, Outcome};

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
        let late =
            Late { node: "a".into(), told: vec![told(&cause, w.hook, "k", false), told("incident/unknown/opened/0", w.hook, "x", false)] };
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
        let batch = Batch { decisions: vec![first, second], late: Some(Late { node: "a".into(), told: told.into() }), ..w.batch() };
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
        let late = Late { node: "a".into(), told: vec![told(&cause, w.hook, "k", false)] };
        let batch = Batch { beats: vec![beat], decisions: vec![dropped], late: Some(late), ..w.batch() };
        let committed = w.store().commit(&batch).await.unwrap();
        assert_eq!(committed.stale.len(), 1);
        let view = w.incident(&uid).await;
        let (kind, text) = *story(&view).last().unwrap();
        assert_eq!(kind, "cut_off");
        assert!(text.starts_with("a, which was cut off from the store, found this too (told 1 channel): "), "{text}");
        assert_eq!(w.t.number(&format!("SELECT count(*) FROM wk_incident WHERE id = {}", gone.0)).await, 0);
        assert_eq!(w.store().heartbeats(w.acme(), w.shop, LATER, 10).await.unwrap().len(), 1, "a fact is a fact");
        assert_eq!(due(&w, w.hook, LATER).await.len(), 1, "only the word of whoever decides");
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}
