//! Subscribers of public status pages: asked before they are told, told once, and forgotten.

use super::world::*;
use crate::support::store::each_store;
use watchkeeper::store::subscribers::{
    ASKED_MAX, ASKED_WITHIN, CONFIRM_WITHIN, GIVEN_UP_AFTER, IN_HAND, KEPT_WITHOUT_PAGE, LEAVE_WITHIN, PENDING_MAX, REFUSALS_MAX,
    WEBHOOKS_MAX,
};
use watchkeeper::store::*;
use watchkeeper_core::{Dur, Micros};

const PAGE: &str = "public";

fn new(name: &str) -> NewSubscriber {
    NewSubscriber { uid: format!("uid-{name}"), kind: SubscriberKind::Email, address: format!("{name}@example.org") }
}

fn word(key: &str) -> PageWord {
    PageWord { key: key.into(), body: format!("{{\"of\":\"{key} – ✓\"}}") }
}

async fn asks(w: &World, name: &str, now: Micros) -> Subscribed {
    w.store().subscribers().subscribe(w.acme(), PAGE, &new(name), now).await.unwrap()
}

/// What is due on acme's page, taken with links of these numbers.
async fn taken(w: &World, links: &[u8], now: Micros) -> Vec<PageParcel> {
    let links: Vec<[u8; 32]> = links.iter().map(|link| [*link; 32]).collect();
    w.store().subscribers().take_parcels(w.acme(), PAGE, SubscriberKind::Email, &links, now).await.unwrap()
}

async fn follows(w: &World, link: u8, now: Micros) -> Option<LinkPurpose> {
    w.store().subscribers().follow(w.acme(), PAGE, &[link; 32], now).await.unwrap()
}

async fn ends(w: &World, parcel: &PageParcel, end: ParcelEnd) {
    w.store().subscribers().end_parcel(w.acme(), parcel.id, end).await.unwrap();
}

/// One who has asked, was asked, and has confirmed, with the link of that number.
async fn confirmed(w: &World, name: &str, link: u8, now: Micros) {
    asks(w, name, now).await;
    let parcels = taken(w, &[link], now).await;
    assert_eq!(
        parcels.iter().map(|one| (one.subscriber.as_str(), &one.word)).collect::<Vec<_>>(),
        [(format!("uid-{name}").as_str(), &None)]
    );
    ends(w, &parcels[0], ParcelEnd::Taken).await;
    assert_eq!(follows(w, link, now).await, Some(LinkPurpose::Confirm));
}

async fn tells(w: &World, key: &str, now: Micros) -> bool {
    w.store().subscribers().tell_page(w.acme(), PAGE, &word(key), false, now).await.unwrap()
}

/// Who is on acme's page, and whether it is confirmed.
async fn listed(w: &World) -> Vec<(String, bool)> {
    let all = w.store().subscribers().subscribers(w.acme(), PAGE, None, 100).await.unwrap();
    all.into_iter().map(|one| (one.address, one.confirmed_at.is_some())).collect()
}

#[tokio::test]
async fn nobody_is_told_who_has_not_confirmed_and_everybody_else_is_told_once() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        confirmed(&w, "ann", 1, T0).await;
        assert_eq!(asks(&w, "bob", T0).await, Subscribed::Noted);
        assert_eq!(listed(&w).await, [("ann@example.org".to_owned(), true), ("bob@example.org".to_owned(), false)]);
        assert!(tells(&w, "message/1", sec(1)).await);
        assert!(!tells(&w, "message/1", sec(2)).await, "it is the same word");
        w.t.reopen().await;
        assert_eq!(w.store().subscribers().page_words(w.acme(), PAGE).await.unwrap(), [word("message/1")]);
        assert_eq!(w.store().subscribers().pages_due(sec(2), 10).await.unwrap(), [(w.acme, PAGE.to_owned(), SubscriberKind::Email)]);
        let parcels = taken(&w, &[2, 3, 4], sec(2)).await;
        let told: Vec<_> = parcels.iter().map(|one| (one.address.as_str(), one.word.clone(), one.attempts)).collect();
        assert_eq!(told, [("bob@example.org", None, 1), ("ann@example.org", Some(word("message/1")), 1)]);
        // What is in hand is nobody else's; what a crash left in hand is due again, with another link, and the first one is good too.
        assert_eq!(taken(&w, &[5], sec(3)).await, []);
        assert_eq!(w.store().subscribers().pages_due(sec(3), 10).await.unwrap(), []);
        let again = taken(&w, &[6, 7], sec(2) + IN_HAND).await;
        assert_eq!(again.iter().map(|one| (one.id, one.attempts)).collect::<Vec<_>>(), [(parcels[0].id, 2), (parcels[1].id, 2)]);
        ends(&w, &again[1], ParcelEnd::Taken).await;
        ends(&w, &again[0], ParcelEnd::Again(sec(500))).await;
        assert_eq!(taken(&w, &[8], sec(499)).await, []);
        assert_eq!(taken(&w, &[9], sec(500)).await.len(), 1, "it is due when it was said to be");
        for link in [3, 7] {
            let found = w.store().subscribers().link(w.acme(), PAGE, &[link; 32], sec(600)).await.unwrap();
            assert_eq!(found, Some(LinkPurpose::Leave), "to look at a link does nothing");
        }
        assert_eq!(follows(&w, 3, sec(600)).await, Some(LinkPurpose::Leave));
        assert_eq!(follows(&w, 7, sec(600)).await, None, "whoever has left is gone with every link");
        assert_eq!(listed(&w).await, [("bob@example.org".to_owned(), false)]);
        assert!(tells(&w, "message/2", sec(601)).await);
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_link_is_good_once_for_its_page_its_tenant_and_its_time() {
    each_store(|t| async move {
        let w = World::new(t).await;
        let s = w.store().subscribers();
        asks(&w, "ann", T0).await;
        taken(&w, &[1], T0).await;
        assert_eq!(s.follow(w.zenith(), PAGE, &[1; 32], T0).await.unwrap(), None, "of another tenant");
        assert_eq!(s.follow(w.acme(), "other", &[1; 32], T0).await.unwrap(), None, "of another page");
        assert_eq!(follows(&w, 9, T0).await, None, "there is none");
        assert_eq!(follows(&w, 1, T0 + CONFIRM_WITHIN).await, None, "it is too old");
        assert_eq!(listed(&w).await, [("ann@example.org".to_owned(), false)]);
        assert_eq!(follows(&w, 1, sec(1)).await, Some(LinkPurpose::Confirm));
        assert_eq!(follows(&w, 1, sec(2)).await, None, "it was used");
        assert_eq!(listed(&w).await, [("ann@example.org".to_owned(), true)]);
        // Whoever is confirmed is not asked again, and stays so.
        assert_eq!(asks(&w, "ann", sec(3)).await, Subscribed::Noted);
        assert_eq!(taken(&w, &[2], sec(3)).await, []);
        tells(&w, "x", sec(4)).await;
        taken(&w, &[3], sec(4)).await;
        assert_eq!(s.link(w.acme(), PAGE, &[3; 32], sec(4) + LEAVE_WITHIN).await.unwrap(), None);
        // Another tenant's page of that name is another page, and its administrators see nothing of this one.
        assert_eq!(s.subscribers(w.zenith(), PAGE, None, 10).await.unwrap(), []);
        assert!(!s.remove_subscriber(w.zenith(), PAGE, "uid-ann").await.unwrap());
        assert!(!s.remove_subscriber(w.acme(), "other", "uid-ann").await.unwrap());
        assert!(s.tell_page(w.zenith(), PAGE, &word("x"), false, sec(5)).await.unwrap(), "it has words of its own");
        assert_eq!(s.take_parcels(w.zenith(), PAGE, SubscriberKind::Email, &[[4; 32]], sec(1_000)).await.unwrap(), []);
        assert!(s.remove_subscriber(w.acme(), PAGE, "uid-ann").await.unwrap());
        assert_eq!((listed(&w).await, taken(&w, &[5], sec(1_000)).await), (vec![], vec![]), "with what was to be sent");
    })
    .await;
}

#[tokio::test]
async fn a_stranger_is_asked_a_few_times_an_hour_and_a_page_takes_so_many() {
    each_store(|t| async move {
        let w = World::new(t).await;
        for nth in 0..ASKED_MAX + 2 {
            assert_eq!(asks(&w, "ann", sec(nth)).await, Subscribed::Noted);
            assert_eq!(asks(&w, "ann", sec(nth)).await, Subscribed::Noted, "one that waits is enough");
            let parcels = taken(&w, &[nth as u8 + 1, 100 + nth as u8], sec(nth)).await;
            assert_eq!(parcels.len(), usize::from(nth < ASKED_MAX));
            for parcel in &parcels {
                ends(&w, parcel, ParcelEnd::Taken).await;
            }
        }
        let later = sec(ASKED_MAX + 2) + ASKED_WITHIN;
        asks(&w, "ann", later).await;
        assert_eq!(taken(&w, &[50], later).await.len(), 1);
        for nth in 1..PENDING_MAX {
            assert_eq!(asks(&w, &format!("n{nth}"), later).await, Subscribed::Noted);
        }
        assert_eq!(asks(&w, "late", later).await, Subscribed::Full);
        assert_eq!(asks(&w, "ann", later).await, Subscribed::Full, "it does not tell who is known");
        let s = w.store().subscribers();
        assert_eq!(s.subscribe(w.zenith(), PAGE, &new("late"), later).await.unwrap(), Subscribed::Noted);
        // Nobody confirmed: all of it goes by itself.
        assert!(s.expire_subscribers(later + CONFIRM_WITHIN).await.unwrap() > 0);
        assert_eq!(listed(&w).await, []);
        assert_eq!(asks(&w, "late", later + CONFIRM_WITHIN).await, Subscribed::Noted);
    })
    .await;
}

#[tokio::test]
async fn webhooks_are_told_apart_from_mail_and_a_page_takes_fewer_of_them() {
    each_store(|t| async move {
        let w = World::new(t).await;
        let s = w.store().subscribers();
        let hook = |nth: i64| NewSubscriber {
            uid: format!("hook-{nth}"),
            kind: SubscriberKind::Webhook,
            address: format!("https://hooks.example.org/{nth}"),
        };
        for nth in 0..WEBHOOKS_MAX {
            assert_eq!(s.subscribe(w.acme(), PAGE, &hook(nth), T0).await.unwrap(), Subscribed::Noted);
        }
        assert_eq!(s.subscribe(w.acme(), PAGE, &hook(WEBHOOKS_MAX), T0).await.unwrap(), Subscribed::Full);
        assert_eq!(asks(&w, "ann", T0).await, Subscribed::Noted, "there is room for mail");
        let mut due = s.pages_due(T0, 10).await.unwrap();
        due.sort_by_key(|(_, _, kind)| kind.as_str());
        assert_eq!(due.iter().map(|(_, _, kind)| *kind).collect::<Vec<_>>(), SubscriberKind::ALL);
        assert_eq!(taken(&w, &[1, 2], T0).await.iter().map(|one| one.address.as_str()).collect::<Vec<_>>(), ["ann@example.org"]);
        let hooks = s.take_parcels(w.acme(), PAGE, SubscriberKind::Webhook, &[[3; 32], [4; 32]], T0).await.unwrap();
        assert_eq!(hooks.iter().map(|one| one.kind).collect::<Vec<_>>(), [SubscriberKind::Webhook; 2]);
    })
    .await;
}

#[tokio::test]
async fn who_cannot_be_told_is_given_up_and_who_has_no_page_is_forgotten() {
    each_store(|t| async move {
        let w = World::new(t).await;
        let s = w.store().subscribers();
        for (nth, name) in ["ann", "bob", "eve"].iter().enumerate() {
            confirmed(&w, name, nth as u8 + 1, T0).await;
        }
        asks(&w, "nobody", T0).await;
        let asked = taken(&w, &[9], T0).await;
        ends(&w, &asked[0], ParcelEnd::NoSuchAddress).await;
        assert_eq!(listed(&w).await.len(), 3, "whom nobody confirmed, nobody misses");
        let mut link = 10;
        for nth in 0..REFUSALS_MAX {
            let now = sec(10 + nth);
            assert_eq!(listed(&w).await.len(), 3, "{nth} refusals");
            tells(&w, &format!("word {nth}"), now).await;
            for parcel in taken(&w, &[link, link + 1, link + 2], now).await {
                // Eve's server is well again before it is too late.
                let refuses = parcel.address.starts_with("ann") || parcel.address.starts_with("eve") && nth + 1 < REFUSALS_MAX;
                ends(&w, &parcel, if refuses { ParcelEnd::NoSuchAddress } else { ParcelEnd::Taken }).await;
            }
            link += 3;
        }
        assert_eq!(listed(&w).await.into_iter().map(|(address, _)| address).collect::<Vec<_>>(), ["bob@example.org", "eve@example.org"]);
        // What was not taken within a day is no news.
        tells(&w, "late", sec(100)).await;
        assert_eq!(taken(&w, &[60, 61], sec(100) + GIVEN_UP_AFTER).await, []);
        assert!(!tells(&w, "late", sec(200)).await);
        // A word for nobody is written down, and told nobody.
        assert!(s.tell_page(w.acme(), PAGE, &word("untold"), true, sec(300)).await.unwrap());
        assert_eq!(taken(&w, &[62], sec(300)).await, []);
        // A page that is in force keeps its own; one that is gone for a month does not.
        let month = T0 + KEPT_WITHOUT_PAGE;
        s.keep_page(w.acme(), PAGE, sec(60)).await.unwrap();
        s.expire_subscribers(month + Dur::secs(1)).await.unwrap();
        assert_eq!(listed(&w).await.len(), 2);
        s.expire_subscribers(month + Dur::secs(61)).await.unwrap();
        assert_eq!(listed(&w).await, []);
        confirmed(&w, "ann", 70, month).await;
        s.forget_page(w.acme(), PAGE).await.unwrap();
        assert_eq!((listed(&w).await, s.page_words(w.acme(), PAGE).await.unwrap()), (vec![], vec![]));
    })
    .await;
}
