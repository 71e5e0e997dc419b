//! Who is disturbed, and when: what the plan is told of a notice, digests, and what is put off.

use super::world::*;
use crate::support::store::each_store;
use watchkeeper::channel::content::{Content, NodeEvent, NodeWord};
use watchkeeper::store::*;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::rule::{RuleKey, Severity};
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
        let applied = w.store().apply("files", "h2", &wanted, sec(1)).await.unwrap();
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
        w.store().apply("files", "h3", &wanted, sec(3)).await.unwrap();
        assert_eq!(parents(due(&w, w.hook, sec(3)).await), both[..1]);
        wanted[0].monitors[2].paused = false;
        wanted[0].monitors.remove(1);
        w.store().apply("files", "h4", &wanted, sec(4)).await.unwrap();
        assert_eq!(parents(due(&w, w.hook, sec(4)).await), both[1..]);
        wanted[0].monitors[0].depends_on.clear();
        w.store().apply("files", "h5", &wanted, sec(5)).await.unwrap();
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
        assert!(w.store().end_silence(w.acme(), "s-1", sec(10)).await.unwrap());
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
        defer(&w, got[0].id, suppressed("never"), sec(12)).await;
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
        w.store().apply("files", "h2", &wanted, sec(60)).await.unwrap();
        assert_eq!(w.store().retry_dead(w.acme(), letters[1].id, sec(61)).await.unwrap(), None);
    })
    .await;
}

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
