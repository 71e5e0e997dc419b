//! Who is disturbed, and when: what the plan is told of a notice, and what is put off.

use super::world::*;
use crate::support::store::each_store;
use watchkeeper::store::*;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::rule::Severity;
use watchkeeper_core::verdict::{NoticeEvent, Verdict};
use watchkeeper_core::{Dur, IncidentId, Micros};

fn held(until: Micros, why: &str, mute: bool) -> Deferred {
    Deferred::Held { until, why: why.into(), mute }
}

fn suppressed(why: &str) -> Deferred {
    Deferred::Suppressed { why: why.into() }
}

async fn defer(w: &World, notice: i64, deferred: Deferred, now: Micros) {
    w.store().defer(&[(notice, deferred)], &w.hook_lease, now).await.unwrap();
}

/// A word about an incident for hook, on top of what opened it.
async fn say(w: &mut World, id: IncidentId, uid: &str, (event, nth): (NoticeEvent, u32), at: Micros) {
    let mut decision = w.decision(w.shop);
    decision.notices.push(word(w.hook, id, uid, (event, nth), Severity::Critical, at));
    w.commit_decisions(vec![decision]).await;
}

/// A word with a cooldown opens an incident and is told.
async fn told_with_cooldown(w: &mut World, at: Micros) -> (IncidentId, String) {
    let (mut decision, id, uid) = w.opens(w.shop, "down", at);
    decision.notices[0].cooldown = Dur::secs(600);
    w.commit_decisions(vec![decision]).await;
    let notice = due(w, w.hook, at).await[0].id;
    end(w, notice, &w.hook_lease, sent(), at).await;
    (id, uid)
}

#[tokio::test]
async fn a_later_word_knows_what_was_told() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (id, uid) = told_with_cooldown(&mut w, sec(1)).await;
        say(&mut w, id, &uid, (NoticeEvent::Reminded, 1), sec(300)).await;
        w.t.reopen().await;
        let reminded = due(&w, w.hook, sec(300)).await.remove(0);
        assert_eq!((reminded.event, reminded.told.clone()), (Some(NoticeEvent::Reminded), Some((sec(1), Some("provider-7".into())))));
        assert_eq!((reminded.unheard, reminded.over, reminded.held), (false, None, false));
        end(&w, reminded.id, &w.hook_lease, Attempted::Sent { provider_id: Some("provider-8".into()) }, sec(301)).await;
        w.commit_decisions(vec![w.resolves(w.shop, id, &uid, sec(400))]).await;
        let resolved = due(&w, w.hook, sec(400)).await.remove(0);
        assert_eq!(resolved.told, Some((sec(301), Some("provider-7".into()))), "the newest word, and the first message");
        assert_eq!(resolved.over, Some(sec(400)));
    })
    .await;
}

#[tokio::test]
async fn a_rules_last_word_is_known_within_its_cooldown() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (id, uid) = told_with_cooldown(&mut w, sec(1)).await;
        w.commit_decisions(vec![w.resolves(w.shop, id, &uid, sec(2))]).await;
        let resolved = due(&w, w.hook, sec(2)).await[0].id;
        end(&w, resolved, &w.hook_lease, sent(), sec(3)).await;
        // The same rule again, another rule, another monitor.
        let mut decisions = Vec::new();
        for (monitor, rule) in [(w.shop, "down"), (w.shop, "slow_response"), (w.api, "down")] {
            let (mut decision, _, _) = w.opens(monitor, rule, sec(10));
            decision.notices[0].cooldown = Dur::secs(600);
            decisions.push(decision);
        }
        w.commit_decisions(decisions).await;
        let last = |due: Vec<DueNotice>| due.iter().map(|notice| notice.last_about_rule).collect::<Vec<_>>();
        let soon = due(&w, w.hook, sec(10)).await;
        assert_eq!((soon.len(), soon[0].told.clone(), soon[0].cooldown), (3, None, Dur::secs(600)));
        assert_eq!(last(soon), [Some(sec(3)), None, None]);
        assert_eq!(last(due(&w, w.hook, sec(604)).await), [None; 3], "its cooldown is over");
    })
    .await;
}

#[tokio::test]
async fn what_a_monitor_depends_on_is_known_as_it_stands() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let mut wanted = objects();
        wanted[0].monitors[0].depends_on = vec!["router".into(), "api".into(), "nobody".into(), "shop".into()];
        wanted[0].monitors.extend([monitor("router"), MonitorObject { paused: true, ..monitor("resting") }]);
        wanted[1].monitors.push(monitor("router"));
        let applied = w.store().apply("files", "h2", &wanted, Mandate::Alone, Beside::default(), sec(1)).await.unwrap();
        let (router, foreign) = (applied.tenants[0].monitors[2].id, applied.tenants[1].monitors[1].id);
        let down = |health| Some(VerdictRow { verdict: Verdict { health, ..Verdict::default() }, wake: None });
        let (opened, _, _) = w.opens(w.shop, "down", sec(2));
        let mut decisions = vec![opened];
        for (monitor, health) in [(router, Health::Down), (foreign, Health::Up)] {
            decisions.push(Decision { verdict: down(health), ..w.decision(monitor) });
        }
        w.commit_decisions(decisions).await;
        let parents = |due: Vec<DueNotice>| due[0].parents.clone();
        let both = vec![("api".to_owned(), Health::Unknown), ("router".to_owned(), Health::Down)];
        assert_eq!(parents(due(&w, w.hook, sec(2)).await), both, "of the same tenant, not itself, and nobody is nobody");

        // Paused parents and retired ones do not count; what no longer depends has none.
        wanted[0].monitors[2].paused = true;
        w.store().apply("files", "h3", &wanted, Mandate::Alone, Beside::default(), sec(3)).await.unwrap();
        assert_eq!(parents(due(&w, w.hook, sec(3)).await), both[..1]);
        wanted[0].monitors[2].paused = false;
        wanted[0].monitors.remove(1);
        w.store().apply("files", "h4", &wanted, Mandate::Alone, Beside::default(), sec(4)).await.unwrap();
        assert_eq!(parents(due(&w, w.hook, sec(4)).await), both[1..]);
        wanted[0].monitors[0].depends_on.clear();
        w.store().apply("files", "h5", &wanted, Mandate::Alone, Beside::default(), sec(5)).await.unwrap();
        assert_eq!(parents(due(&w, w.hook, sec(5)).await), []);
    })
    .await;
}

#[tokio::test]
async fn a_held_notice_waits_with_its_reason_and_is_told_afterwards() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (opened, _, uid) = w.opens(w.shop, "down", sec(1));
        w.commit_decisions(vec![opened]).await;
        let id = due(&w, w.hook, sec(1)).await[0].id;
        for at in [2, 17, 32] {
            defer(&w, id, held(sec(at + 15), "silence 7", true), sec(at)).await;
        }
        assert_eq!(due(&w, w.hook, sec(46)).await, []);
        assert_eq!(w.store().next_due(w.hook).await.unwrap(), Some(sec(47)));
        let view = w.incident(&uid).await;
        let notice = &view.notices[0];
        assert_eq!((notice.state.as_str(), notice.why.as_deref(), notice.next_at), ("held", Some("silence 7"), Some(sec(47))));
        let on_the_timeline = |view: &IncidentView| view.timeline.iter().filter(|entry| entry.kind == "held").count();
        assert_eq!(on_the_timeline(&view), 1, "one entry for one reason: {:?}", story(&view));
        defer(&w, id, held(sec(60), "maintenance move", true), sec(47)).await;
        defer(&w, id, held(sec(60), "silence 7", true), sec(48)).await;
        defer(&w, id, held(sec(60), "the channel has sent as much as it may for now", false), sec(49)).await;
        let view = w.incident(&uid).await;
        assert_eq!(on_the_timeline(&view), 2, "{:?}", story(&view));
        assert_eq!(view.notices[0].why.as_deref(), Some("the channel has sent as much as it may for now"));

        let again = due(&w, w.hook, sec(60)).await;
        assert_eq!((again.len(), again[0].held, again[0].attempts), (1, true, 0), "a mute has held it, whatever held it last");
        end(&w, id, &w.hook_lease, sent(), sec(61)).await;
        defer(&w, id, suppressed("too late"), sec(62)).await;
        let view = w.incident(&uid).await;
        assert_eq!((view.notices[0].state.as_str(), view.notices[0].next_at), ("sent", None), "what no longer waits is left alone");
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_budget_holds_without_leaving_a_mark_on_the_story() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (opened, _, uid) = w.opens(w.shop, "down", sec(1));
        w.commit_decisions(vec![opened]).await;
        let id = due(&w, w.hook, sec(1)).await[0].id;
        defer(&w, id, held(sec(9), "many at once", false), sec(2)).await;
        let view = w.incident(&uid).await;
        assert_eq!((view.timeline.len(), view.notices[0].why.as_deref()), (1, Some("many at once")));
        assert!(!due(&w, w.hook, sec(9)).await[0].held);
        // Nor is it void when its incident ends meanwhile: it was merely late.
        let incident = due(&w, w.hook, sec(9)).await[0].incident.unwrap();
        defer(&w, id, held(sec(90), "many at once", false), sec(9)).await;
        w.commit_decisions(vec![w.resolves(w.shop, incident, &uid, sec(10))]).await;
        assert_eq!(due(&w, w.hook, sec(89)).await, []);
        assert_eq!(w.store().next_due(w.hook).await.unwrap(), Some(sec(90)));
    })
    .await;
}

#[tokio::test]
async fn what_is_over_before_it_could_be_told_is_looked_at_at_once() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (opened, incident, uid) = w.opens(w.shop, "down", sec(1));
        let (other, _, _) = w.opens(w.api, "down", sec(1));
        w.commit_decisions(vec![opened, other]).await;
        for notice in due(&w, w.hook, sec(1)).await {
            defer(&w, notice.id, held(LATER, "silence 7", true), sec(2)).await;
        }
        say(&mut w, incident, &uid, (NoticeEvent::Reminded, 1), sec(3)).await;
        assert_eq!(due(&w, w.hook, sec(3)).await, [], "the reminder waits for what is held");
        let mut resolved = w.resolves(w.shop, incident, &uid, sec(4));
        resolved.notices[0] = word(w.hook, incident, &uid, (NoticeEvent::Resolved, 2), Severity::Critical, sec(4));
        w.commit_decisions(vec![resolved]).await;

        let void = due(&w, w.hook, sec(4)).await;
        assert_eq!(void.iter().map(|n| (n.event, n.over, n.held)).collect::<Vec<_>>(), [(Some(NoticeEvent::Opened), Some(sec(4)), true)]);
        assert!(w.store().next_due(w.hook).await.unwrap().is_some_and(|at| at <= sec(4)), "its deliverer wakes up for it");
        defer(&w, void[0].id, suppressed("over before it could be told"), sec(5)).await;
        let next = due(&w, w.hook, sec(5)).await;
        assert_eq!((next.len(), next[0].event, next[0].unheard), (1, Some(NoticeEvent::Reminded), true));
        defer(&w, next[0].id, held(LATER, "silence 7", true), sec(5)).await;
        let next = due(&w, w.hook, sec(6)).await;
        assert_eq!((next.len(), next[0].event), (1, Some(NoticeEvent::Reminded)), "held again, and void again");
        defer(&w, next[0].id, suppressed("over before it could be told"), sec(6)).await;
        let end_of_it = due(&w, w.hook, sec(6)).await;
        assert_eq!((end_of_it.len(), end_of_it[0].event, end_of_it[0].unheard), (1, Some(NoticeEvent::Resolved), true));
        // An end that a mute holds is not void: it is told when the mute ends.
        defer(&w, end_of_it[0].id, held(sec(90), "silence 7", true), sec(7)).await;
        assert_eq!(due(&w, w.hook, sec(89)).await, []);
        assert_eq!(w.store().next_due(w.hook).await.unwrap(), Some(sec(90)), "not at once, over and over");
        assert_eq!(due(&w, w.hook, sec(90)).await.len(), 1);
        let view = w.incident(&uid).await;
        assert_eq!(view.notices[0].why.as_deref(), Some("over before it could be told"));
        let entry = ("not_told", "not told hook: over before it could be told");
        assert_eq!(story(&view).into_iter().filter(|line| *line == entry).count(), 2, "{:?}", story(&view));
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_held_word_that_was_attempted_is_not_void() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (opened, incident, uid) = w.opens(w.shop, "down", sec(1));
        w.commit_decisions(vec![opened]).await;
        let id = due(&w, w.hook, sec(1)).await[0].id;
        defer(&w, id, held(sec(2), "silence 7", true), sec(1)).await;
        end(&w, id, &w.hook_lease, again(sec(3)), sec(2)).await;
        defer(&w, id, held(sec(90), "the channel has sent as much as it may for now", false), sec(3)).await;
        w.commit_decisions(vec![w.resolves(w.shop, incident, &uid, sec(4))]).await;
        assert_eq!(due(&w, w.hook, sec(89)).await, [], "the provider may have it: it waits for its turn and is repeated");
        assert_eq!(due(&w, w.hook, sec(90)).await[0].attempts, 1);
    })
    .await;
}

#[tokio::test]
async fn a_reader_who_has_heard_of_it_is_told_the_end() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (opened, incident, uid) = w.opens(w.shop, "down", sec(1));
        w.commit_decisions(vec![opened]).await;
        let id = due(&w, w.hook, sec(1)).await[0].id;
        defer(&w, id, suppressed("told before"), sec(1)).await;
        say(&mut w, incident, &uid, (NoticeEvent::Reminded, 1), sec(2)).await;
        let reminded = due(&w, w.hook, sec(2)).await.remove(0);
        assert!(reminded.unheard);
        end(&w, reminded.id, &w.hook_lease, sent(), sec(2)).await;
        let mut resolved = w.resolves(w.shop, incident, &uid, sec(3));
        resolved.notices[0] = word(w.hook, incident, &uid, (NoticeEvent::Resolved, 2), Severity::Critical, sec(3));
        w.commit_decisions(vec![resolved]).await;
        assert!(!due(&w, w.hook, sec(3)).await[0].unheard, "a reminder was told");
    })
    .await;
}

#[tokio::test]
async fn a_route_that_sleeps_holds_a_word_until_its_hours() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (mut opened, _, uid) = w.opens(w.shop, "down", sec(1));
        opened.notices[0].not_before = Some((sec(100), "office hours".into()));
        w.commit_decisions(vec![opened]).await;
        assert_eq!(due(&w, w.hook, sec(99)).await, []);
        assert_eq!(w.store().next_due(w.hook).await.unwrap(), Some(sec(100)));
        let notice = &w.incident(&uid).await.notices[0];
        assert_eq!((notice.state.as_str(), notice.why.as_deref()), ("held", Some("office hours")));
        // A silence that ends does not open the office.
        let silence = Silence {
            uid: "s-1".into(),
            matcher: watchkeeper_core::matcher::Matcher::default(),
            starts_at: sec(1),
            ends_at: sec(50),
            author: "ann".into(),
            comment: String::new(),
        };
        w.store().create_silence(w.acme(), &silence).await.unwrap();
        assert!(w.store().end_silence(w.acme(), "s-1", "bob", sec(10)).await.unwrap().is_some());
        assert_eq!(due(&w, w.hook, sec(99)).await, []);
        assert!(due(&w, w.hook, sec(100)).await[0].held);
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn only_the_holder_puts_off() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (opened, _, _) = w.opens(w.shop, "down", sec(1));
        w.commit_decisions(vec![opened]).await;
        let before = due(&w, w.hook, sec(1)).await;
        let stale = Fence { epoch: w.hook_lease.epoch - 1, ..w.hook_lease.clone() };
        for deferred in [held(LATER, "silence 7", true), suppressed("told before")] {
            w.store().defer(&[(before[0].id, deferred)], &stale, sec(1)).await.unwrap();
        }
        assert_eq!(due(&w, w.hook, sec(1)).await, before);
        w.store().defer(&[(before[0].id + 1_000, suppressed("nothing"))], &w.hook_lease, sec(1)).await.unwrap();
        w.store().defer(&[], &w.hook_lease, sec(1)).await.unwrap();
        assert_eq!(w.store().begin_attempt(&[], &w.hook_lease, sec(1)).await.unwrap(), [0; 0]);
        assert_eq!(due(&w, w.hook, sec(1)).await, before);
    })
    .await;
}
