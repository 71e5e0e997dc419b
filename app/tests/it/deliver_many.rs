//! Many notices at once, and channels that fail: digests, caps, the last resort, dead letters that are sent again.

use crate::support::outbox::Node;
use crate::support::provider::LIMIT;
use crate::support::recorder::{Answer, FAILS, NEVER, Recorder};
use crate::support::store::each_store;
use smallvec::smallvec;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use watchkeeper::channel::content::{Content, DIGEST_SHOWN, Digest, TestWord};
use watchkeeper::channel::{Caps, Delivery};
use watchkeeper::deliver::ChannelSpec;
use watchkeeper::store::{TenantScope, WordWrite};
use watchkeeper::telemetry::ChannelOnly;
use watchkeeper_core::plan::STORM_AT;
use watchkeeper_core::verdict::NoticeEvent;
use watchkeeper_core::{ChannelId, Dur, Micros, Severity};

fn digest(content: &Content) -> &Digest {
    let Content::Digest(digest) = content else { panic!("no digest: {content:?}") };
    digest
}

#[tokio::test]
async fn a_storm_is_told_in_one_message_and_what_comes_after_it_gathers() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let (a, channels) = (Recorder::new(), [node.a]);
        let storm = node.open(&channels, 300).await;
        let deliverers = node.deliverers();
        deliverers.apply(vec![a.spec(node.a, "a")]);
        let heard = a.wait_for(1).await;
        let told = digest(&heard[0].content);
        assert_eq!((told.open, told.resolved, told.words.len(), told.more), (300, 0, DIGEST_SHOWN, 300 - DIGEST_SHOWN as u32));
        assert!(heard[0].key.starts_with("digest/"), "{}", heard[0].key);
        for open in [&storm[0], &storm[299]] {
            let view = node.wait_for(&open.uid, &["sent"]).await;
            assert!(view.timeline.iter().any(|entry| entry.kind == "told"), "{:?}", view.timeline);
        }
        // What comes now waits for the next digest, also the word that something of it is over.
        let late = node.open(&channels, 1).await.remove(0);
        let mut over = storm[7].clone();
        node.say(&mut over, NoticeEvent::Resolved).await;
        deliverers.wake_all();
        let view = node.wait_for(&late.uid, &["held"]).await;
        assert_eq!(view.notices[0].why.as_deref(), Some("many at once: gathered for one message"));
        node.wait_for(&over.uid, &["sent", "held"]).await;
        // A message that fits no digest is not held up by it.
        let word = WordWrite {
            cause: "node/test/started/1".to_owned(),
            tenant: node.tenant,
            channels: vec![node.a],
            severity: Severity::Info,
            content: Content::Test(TestWord { channel: "a".to_owned(), kind: "recorder".to_owned(), at: node.clock.now() }),
            at: node.clock.now(),
        };
        node.store().tell(&[word]).await.unwrap();
        deliverers.wake_all();
        let heard = a.wait_for(2).await;
        assert!(matches!(heard[1].content, Content::Test(_)), "{:?}", heard[1].content);
        deliverers.shutdown(LIMIT).await;
        assert_eq!(a.heard().len(), 2);
        assert_eq!(node.metrics.digests.get_or_create(&ChannelOnly { channel: "a".to_owned() }).get(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_digest_that_a_crash_cut_off_is_repeated_as_it_was() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let (a, channels) = (Recorder::answering(|_, nth| if nth == 0 { Answer::Hang } else { Answer::Take }), [node.a]);
        let storm = node.open(&channels, 50).await;
        let deliverers = node.deliverers();
        deliverers.apply(vec![a.spec(node.a, "a")]);
        a.wait_for(1).await;
        deliverers.shutdown(Duration::ZERO).await;
        let mut node = node.restarted().await;
        // More has come meanwhile; it does not change what was in hand.
        let late = node.open(&channels, 3).await;
        let deliverers = node.deliverers();
        deliverers.apply(vec![a.spec(node.a, "a")]);
        let heard = a.wait_for(2).await;
        for open in &storm {
            node.wait_for(&open.uid, &["sent"]).await;
        }
        node.wait_for(&late[0].uid, &["held"]).await;
        deliverers.shutdown(LIMIT).await;
        assert_eq!(heard[0].key, heard[1].key);
        assert_eq!((digest(&heard[0].content).open, digest(&heard[1].content).open), (50, 50));
    })
    .await;
}

#[tokio::test]
async fn a_digest_fails_as_a_whole_and_is_repeated_as_a_whole() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let (a, channels) = (Recorder::answering(|_, nth| if nth == 0 { FAILS } else { Answer::Take }), [node.a]);
        let storm = node.open(&channels, 20).await;
        let deliverers = node.deliverers();
        deliverers.apply(vec![a.spec(node.a, "a")]);
        for open in &storm {
            let view = node.wait_for(&open.uid, &["sent"]).await;
            assert_eq!(view.notices[0].attempts, 2);
        }
        deliverers.shutdown(LIMIT).await;
        let keys: BTreeSet<String> = a.heard().into_iter().map(|delivery| delivery.key).collect();
        assert_eq!((keys.len(), a.heard().len()), (1, 2));
        assert_eq!((node.count("a", "retried"), node.count("a", "sent")), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn what_the_provider_fails_at_together_again_and_again_is_tried_alone_and_holds_nothing_up() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let channels = [node.a];
        let storm = node.open(&channels, 12).await;
        let poison = storm[0].uid.clone();
        let a = Recorder::answering(move |delivery, _| match &delivery.content {
            Content::Incident(message) if message.incident != poison => Answer::Take,
            Content::Incident(_) | Content::Digest(_) | Content::Report(_) | Content::Node(_) | Content::Test(_) => FAILS,
        });
        let deliverers = node.deliverers();
        deliverers.apply(vec![a.spec(node.a, "a")]);
        for open in &storm[1..] {
            node.wait_for(&open.uid, &["sent"]).await;
        }
        // The one that the provider cannot take is neither given up nor in the way.
        node.wait_for(&storm[0].uid, &["due"]).await;
        deliverers.shutdown(LIMIT).await;
    })
    .await;
}

#[tokio::test]
async fn a_digest_that_a_crash_cut_off_is_repeated_as_it_was_also_when_the_storm_is_over() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let caps = Caps { own: smallvec![(3, Dur::secs(60))], ..Caps::default() };
        let hangs = |delivery: &Delivery| matches!(delivery.content, Content::Digest(_));
        let a = Recorder::capped(caps, move |delivery, nth| if nth < 3 && hangs(delivery) { Answer::Hang } else { Answer::Take });
        let channels = [node.a];
        let deliverers = node.deliverers();
        deliverers.apply(vec![a.spec(node.a, "a")]);
        // Two messages of three: what comes now leaves together.
        for _ in 0..2 {
            let first = node.open(&channels, 1).await.remove(0);
            deliverers.wake_all();
            node.wait_for(&first.uid, &["sent"]).await;
        }
        let both = node.open(&channels, 2).await;
        deliverers.wake_all();
        a.wait_for(3).await;
        deliverers.shutdown(Duration::ZERO).await;
        let mut node = node.restarted().await;
        // The next process finds room for each of them.
        node.t.behind_its_back("UPDATE wk_message SET sent_at = sent_at - 90000000").await;
        let deliverers = node.deliverers();
        deliverers.apply(vec![a.spec(node.a, "a")]);
        for open in &both {
            node.wait_for(&open.uid, &["sent"]).await;
        }
        deliverers.shutdown(LIMIT).await;
        let heard = a.heard();
        assert_eq!(heard.len(), 4, "{heard:?}");
        assert_eq!(heard[2].key, heard[3].key, "a receiver knows it again");
    })
    .await;
}

#[tokio::test]
async fn what_is_refused_for_good_together_is_tried_alone() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let channels = [node.a];
        let storm = node.open(&channels, 12).await;
        let bad = storm[5].uid.clone();
        let a = Recorder::answering(move |delivery, _| match &delivery.content {
            Content::Incident(message) if message.incident != bad => Answer::Take,
            Content::Incident(_) | Content::Digest(_) | Content::Report(_) | Content::Node(_) | Content::Test(_) => NEVER,
        });
        let deliverers = node.deliverers();
        deliverers.apply(vec![a.spec(node.a, "a")]);
        for (nth, open) in storm.iter().enumerate() {
            let view = node.wait_for(&open.uid, &[if nth == 5 { "dead" } else { "sent" }]).await;
            assert_eq!(view.notices[0].attempts, 2, "once together, once alone");
        }
        deliverers.shutdown(LIMIT).await;
        let words: Vec<String> = a.words().into_iter().map(|(word, _)| word).collect();
        assert_eq!(words.iter().filter(|word| *word == "digest").count(), 1);
        assert_eq!(words.len(), 13);
    })
    .await;
}

#[tokio::test]
async fn a_channel_gets_no_more_than_its_caps_let_through() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let caps = Caps { own: smallvec![(2, Dur::secs(600))], ..Caps::default() };
        let (a, b, channels) = (Recorder::capped(caps, |_, _| Answer::Take), Recorder::new(), [node.a, node.b]);
        let deliverers = node.deliverers();
        // What its owner has set holds too.
        let of_owner = ChannelSpec { budgets: smallvec![(1, Dur::secs(600))], ..b.spec(node.b, "b") };
        deliverers.apply(vec![a.spec(node.a, "a"), of_owner]);
        let first = node.open(&channels, 1).await.remove(0);
        deliverers.wake_all();
        node.wait_for(&first.uid, &["sent", "sent"]).await;
        let second = node.open(&channels, 1).await.remove(0);
        deliverers.wake_all();
        let view = node.wait_for(&second.uid, &["sent", "held"]).await;
        let held = view.notices.iter().find(|n| n.state == "held").unwrap();
        assert_eq!((held.channel.as_str(), held.why.as_deref()), ("b", Some("the channel has sent as much as it may for now")));
        let third = node.open(&channels, 1).await.remove(0);
        deliverers.wake_all();
        node.wait_for(&third.uid, &["held", "held"]).await;
        deliverers.shutdown(LIMIT).await;
        // The next process knows what was sent before.
        let mut node = node.restarted().await;
        let deliverers = node.deliverers();
        deliverers.apply(vec![a.spec(node.a, "a")]);
        let fourth = node.open(&[node.a], 1).await.remove(0);
        deliverers.wake_all();
        node.wait_for(&fourth.uid, &["held"]).await;
        deliverers.shutdown(LIMIT).await;
        assert_eq!((a.heard().len(), b.heard().len()), (2, 1));
    })
    .await;
}

#[tokio::test]
async fn channels_of_one_budget_share_its_cap() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let caps = Caps { shared: smallvec![(2, Dur::secs(1))], ..Caps::default() };
        let (a, b) = (Recorder::capped(caps.clone(), |_, _| Answer::Take), Recorder::capped(caps, |_, _| Answer::Take));
        let channels = [node.a, node.b];
        let all = node.open(&channels, 3).await;
        let deliverers = node.deliverers();
        let begun = Instant::now();
        deliverers.apply(vec![a.spec(node.a, "a"), ChannelSpec { budget_key: "a".to_owned(), ..b.spec(node.b, "b") }]);
        for open in &all {
            node.wait_for(&open.uid, &["sent", "sent"]).await;
        }
        // Six messages, two a second.
        assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
        deliverers.shutdown(LIMIT).await;
        assert_eq!((a.heard().len(), b.heard().len()), (3, 3));
    })
    .await;
}

#[tokio::test]
async fn when_every_channel_of_an_alert_has_failed_the_last_resort_is_told() {
    each_store(|t| async move {
        let mut node = Node::with_last_resort(t).await;
        let (a, b, last) =
            (Recorder::answering(|_, _| NEVER), Recorder::answering(|_, nth| if nth < 2 { FAILS } else { NEVER }), Recorder::new());
        let channels = [node.a, node.b];
        let open = node.open(&channels, 1).await.remove(0);
        let deliverers = node.deliverers();
        let specs = vec![a.spec(node.a, "a"), b.spec(node.b, "b"), last.spec(node.last.unwrap(), "last")];
        deliverers.apply(specs);
        let heard = last.wait_for(1).await;
        assert_eq!(b.heard().len(), 3, "not before the last of them was given up");
        let view = node.wait_for(&open.uid, &["dead", "dead", "sent"]).await;
        assert!(view.notices.iter().any(|n| n.channel == "last" && n.state == "sent"), "{:?}", view.notices);
        assert!(heard[0].content.incident().is_some_and(|message| message.incident == open.uid), "{:?}", heard[0].content);
        deliverers.shutdown(LIMIT).await;
    })
    .await;
}

#[tokio::test]
async fn when_no_channel_of_an_alert_takes_anything_for_long_the_last_resort_is_told_too() {
    each_store(|t| async move {
        let mut node = Node::with_last_resort(t).await;
        let (a, b, last) = (Recorder::answering(|_, _| FAILS), Recorder::answering(|_, _| FAILS), Recorder::new());
        let channels = [node.a, node.b];
        let open = node.open(&channels, 2).await;
        let deliverers = node.deliverers_with(Dur::ZERO);
        deliverers.apply(vec![a.spec(node.a, "a"), b.spec(node.b, "b"), last.spec(node.last.unwrap(), "last")]);
        let heard = last.wait_for(2).await;
        for one in &open {
            let view = node.wait_for(&one.uid, &["due", "due", "sent"]).await;
            assert!(view.notices.iter().any(|n| n.channel == "last" && n.state == "sent"), "{:?}", view.notices);
            assert!(heard.iter().any(|word| word.content.incident().is_some_and(|message| message.incident == one.uid)));
        }
        let failing: Vec<ChannelId> = deliverers.failing(node.clock.now()).into_iter().map(|failing| failing.channel).collect();
        assert_eq!(failing, channels);
        assert_eq!(deliverers.failing(Micros(0)), [], "not for as long as that");
        deliverers.shutdown(LIMIT).await;
        assert_eq!(last.heard().len(), 2, "once each");
        assert_eq!(deliverers.failing(node.clock.now()), [], "what is not tried does not fail");
    })
    .await;
}

#[tokio::test]
async fn a_channel_that_works_again_needs_no_last_resort() {
    each_store(|t| async move {
        let mut node = Node::with_last_resort(t).await;
        let (a, last) = (Recorder::answering(|_, nth| if nth < 2 { FAILS } else { Answer::Take }), Recorder::new());
        let open = node.open(&[node.a], 1).await.remove(0);
        let deliverers = node.deliverers();
        deliverers.apply(vec![a.spec(node.a, "a"), last.spec(node.last.unwrap(), "last")]);
        node.wait_for(&open.uid, &["sent"]).await;
        assert_eq!(deliverers.failing(node.clock.now()), []);
        deliverers.shutdown(LIMIT).await;
        assert_eq!((a.heard().len(), last.heard().len()), (3, 0));
    })
    .await;
}

#[tokio::test]
async fn a_storm_to_a_provider_that_answers_at_once_is_gathered_too() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let a = Recorder::new();
        let deliverers = node.deliverers();
        deliverers.apply(vec![a.spec(node.a, "a")]);
        // Each is told before the next one happens: never do two wait at the same moment.
        let mut all = Vec::new();
        for _ in 0..STORM_AT {
            let open = node.open(&[node.a], 1).await.remove(0);
            deliverers.wake([node.a]);
            node.wait_for(&open.uid, &["sent"]).await;
            all.push(open);
        }
        for _ in 0..30 {
            all.extend(node.open(&[node.a], 1).await);
            deliverers.wake([node.a]);
        }
        for open in &all {
            node.wait_for(&open.uid, &["sent"]).await;
        }
        deliverers.shutdown(LIMIT).await;
        let digests = a.heard().iter().filter(|word| matches!(word.content, Content::Digest(_))).count();
        assert!(a.heard().len() <= STORM_AT + 3 && digests > 0, "{} messages, {digests} of them digests", a.heard().len());
    })
    .await;
}

#[tokio::test]
async fn a_dead_letter_is_sent_again_when_somebody_asks() {
    each_store(|t| async move {
        let mut node = Node::new(t).await;
        let (a, channels) = (Recorder::answering(|_, nth| if nth == 0 { NEVER } else { Answer::Take }), [node.a]);
        let open = node.open(&channels, 1).await.remove(0);
        let deliverers = node.deliverers();
        deliverers.apply(vec![a.spec(node.a, "a")]);
        node.wait_for(&open.uid, &["dead"]).await;
        let scope = TenantScope(node.tenant);
        let dead = node.store().dead_letters(scope, None, 10).await.unwrap();
        assert_eq!(dead.len(), 1);
        assert_eq!((dead[0].channel.as_str(), dead[0].attempts, dead[0].last_error.as_deref()), ("a", 1, Some("not to my taste")));
        assert_eq!(node.store().retry_dead(scope, dead[0].id, node.clock.now()).await.unwrap(), Some(node.a));
        deliverers.wake([node.a]);
        node.wait_for(&open.uid, &["sent"]).await;
        deliverers.shutdown(LIMIT).await;
        assert_eq!(node.store().dead_letters(scope, None, 10).await.unwrap(), []);
        assert_eq!(a.heard()[0].key, a.heard()[1].key);
    })
    .await;
}
