//! The course of an incident: taken on, given back, ended; and its story.

use super::world::*;
use crate::support::store::each_store;
use watchkeeper::store::*;
use watchkeeper_core::rule::RuleKey;

#[tokio::test]
async fn an_incident_is_taken_on_and_its_story_goes_on() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (opened, id, uid) = w.opens(w.shop, "down", sec(1));
        w.commit_decisions(vec![opened]).await;
        let write = |w: &World, incident| Decision { incidents: smallvec::smallvec![incident], ..w.decision(w.shop) };
        let acknowledge = |on, at, who: &str| {
            let summary = format!("{who} says {on}");
            IncidentWrite::Acknowledge { id, at, on, actor: Some(who.to_owned()), summary }
        };
        let note = IncidentWrite::Note { id, at: sec(2), kind: "reminded", summary: "it lasts".into() };
        w.commit_decisions(vec![write(&w, note), write(&w, acknowledge(true, sec(3), "ann"))]).await;
        w.t.reopen().await;
        let view = w.incident(&uid).await;
        assert_eq!(
            (view.status.as_str(), view.acknowledged_by.as_deref(), view.acknowledged_at),
            ("acknowledged", Some("ann"), Some(sec(3)))
        );
        assert_eq!(story(&view)[1..], [("reminded", "it lasts"), ("acknowledged", "ann says true")]);
        assert_eq!(view.timeline[2].actor.as_deref(), Some("ann"));
        let state = w.store().load(&[w.shop]).await.unwrap().remove(0);
        assert_eq!(state.open[0].acknowledged_by.as_deref(), Some("ann"), "it is still open");
        let taken = IncidentFilter { status: Some("acknowledged".into()), limit: 10, ..IncidentFilter::default() };
        assert_eq!(w.store().incidents(w.acme(), &taken).await.unwrap().len(), 1);

        w.commit_decisions(vec![write(&w, acknowledge(false, sec(4), "bob"))]).await;
        let view = w.incident(&uid).await;
        assert_eq!((view.status.as_str(), view.acknowledged_by), ("open", None));
        w.commit_decisions(vec![write(&w, acknowledge(true, sec(5), "bob"))]).await;
        let summary = "bob ended it".to_owned();
        let resolve = IncidentWrite::Resolve { id, at: sec(6), why: "operator", actor: Some("bob".into()), summary };
        let late = IncidentWrite::Note { id, at: sec(7), kind: "reminded", summary: "it lasts".into() };
        w.commit_decisions(vec![write(&w, resolve), write(&w, late), write(&w, acknowledge(false, sec(8), "ann"))]).await;
        let view = w.incident(&uid).await;
        assert_eq!((view.status.as_str(), view.resolved_why.as_deref()), ("resolved", Some("operator")));
        assert_eq!(view.acknowledged_by.as_deref(), Some("bob"), "who had it stays known");
        let last = view.timeline.last().unwrap();
        assert_eq!((last.kind.as_str(), last.actor.as_deref(), last.text.as_str()), ("resolved", Some("bob"), "bob ended it"));
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_story_that_begins_and_ends_in_one_batch_is_whole() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (mut decision, id, uid) = w.opens(w.shop, "down", sec(1));
        let actor = Some("ann".to_owned());
        decision.incidents.push(IncidentWrite::Acknowledge { id, at: sec(2), on: true, actor, summary: "ann is on it".into() });
        decision.incidents.push(IncidentWrite::Note { id, at: sec(3), kind: "escalated", summary: "others are told".into() });
        decision.incidents.push(IncidentWrite::Resolve { id, at: sec(4), why: "recovered", actor: None, summary: "over".into() });
        w.commit_decisions(vec![decision]).await;
        let view = w.incident(&uid).await;
        let kinds: Vec<_> = view.timeline.iter().map(|entry| (entry.nth, entry.kind.as_str())).collect();
        assert_eq!(kinds, [(0, "opened"), (1, "acknowledged"), (2, "escalated"), (3, "resolved")]);
        assert_eq!((view.status.as_str(), view.acknowledged_by.as_deref()), ("resolved", Some("ann")));
        assert_eq!(RuleKey::new(&view.rule), RuleKey::new("down"));
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}
