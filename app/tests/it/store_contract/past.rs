//! A small past that an installation of any schema can have: what an upgrade and a move to another store must keep.

use super::world::*;
use crate::support::store::TestStore;
use smallvec::smallvec;
use watchkeeper::store::*;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::rule::Severity;
use watchkeeper_core::sight::{Sight, Vote};
use watchkeeper_core::verdict::{NoticeEvent, Verdict};
use watchkeeper_core::{Micros, MonitorId, Outcome};

/// The token that opens the API of that installation, by the hash that is stored.
pub const TOKEN: [u8; 32] = [7; 32];

/// Writes it: two hours of heartbeats with evidence, rolled up and not; a resolved incident that was told, an open one of which one
/// channel knows and another does not, one that is just being told, and one that could not be told; a push, a token.
pub async fn write(w: &mut World) {
    let (shop, api, other) = (w.shop, w.api, w.other_shop);
    let outcome = |minute: i64| if minute == 7 { Outcome::Down(watchkeeper_core::Reason::TcpRefused) } else { Outcome::Up };
    let beats = (0..30).map(|n| w.beat(shop, sec(n * 60), outcome(n))).chain((0..3).map(|n| w.beat(other, sec(n * 60), Outcome::Up)));
    let detail = DetailRow {
        monitor: shop,
        datacenter: w.me.datacenter,
        at: sec(7 * 60),
        json: r#"{"total_us":1,"error":"it's „refused“"}"#.into(),
    };
    let batch = Batch { beats: beats.collect(), details: vec![detail], ..w.batch() };
    w.store().commit(&batch).await.unwrap();
    w.housekeep(sec(2 * 3_600)).await;
    w.commit_beats((0..4).map(|n| w.beat(api, sec(7_200 + n * 60), Outcome::Up)).collect()).await;

    let (opened, first, uid) = w.opens(shop, "down", sec(420));
    let decision = Decision { sight: Some(sight(w, Health::Down)), verdict: Some(verdict(w, Health::Down)), ..opened };
    w.commit_decisions(vec![w.interval(shop, sec(60), Health::Up), decision, w.interval(shop, sec(420), Health::Down)]).await;
    tell_all(w, sec(430)).await;
    w.commit_decisions(vec![w.resolves(shop, first, &uid, sec(480)), w.interval(shop, sec(480), Health::Up)]).await;
    tell_all(w, sec(490)).await;

    let (mut opened, id, uid) = w.opens(api, "down", sec(7_300));
    opened.notices.push(notice(w.chat, id, &uid, NoticeEvent::Opened, Severity::Critical, sec(7_300)));
    w.commit_decisions(vec![opened, w.interval(api, sec(7_300), Health::Down)]).await;
    tell_all(w, sec(7_310)).await;

    let (opened, ..) = w.opens(shop, "slow", sec(7_400));
    w.commit_decisions(vec![opened]).await;
    let given_up = due(w, w.hook, sec(7_400)).await.remove(0).id;
    end(w, given_up, &w.hook_lease, dead(), sec(7_401)).await;
    let (opened, ..) = w.opens(shop, "blind", sec(7_500));
    w.commit_decisions(vec![opened]).await;
    let in_hand = due(w, w.hook, sec(7_500)).await.remove(0).id;
    assert!(begin(w, in_hand, &w.hook_lease, sec(7_501)).await);

    let push =
        PushRow {
            id: 0, monitor: api, kind: PushKind::Ok, exit: Some(0), ping_us: None, body: "done — готово".into(), at: sec(7_200)
        };
    w.store().insert_push(&push).await.unwrap();
    w.store().accounts().create_token(w.acme(), &token("ops", "admin", &TOKEN, "wk_abc", None), T0).await.unwrap();
}

/// Everything that is due on `hook` is taken by its provider.
async fn tell_all(w: &World, now: Micros) {
    for notice in due(w, w.hook, now).await {
        end(w, notice.id, &w.hook_lease, sent(), now).await;
    }
}

fn vote(health: Health) -> Vote {
    Vote { health, reason: None, blind: None, breached: smallvec![], at: sec(420), good_until: sec(600) }
}

fn sight(w: &World, health: Health) -> SightRow {
    SightRow { datacenter: w.me.datacenter, sight: Sight::default(), vote: vote(health) }
}

fn verdict(w: &World, health: Health) -> VerdictRow {
    VerdictRow {
        verdict: Verdict { health, since: sec(420), votes: smallvec![(w.me.datacenter, vote(health))], ..Verdict::default() },
        wake: Some(sec(900)),
    }
}

/// Asserts that the store holds it, whatever has happened to its schema meanwhile.
pub async fn check(store: &dyn Store) {
    assert_eq!(store.verify().await.unwrap(), [""; 0]);
    let tenants = store.tenants().await.unwrap();
    let tenant = |slug: &str| TenantScope(tenants.iter().find(|(_, known)| known == slug).expect("the tenant is there").0);
    let (acme, zenith) = (tenant("acme"), tenant("zenith"));
    let names = |views: Vec<MonitorView>| views.into_iter().map(|view| (view.name, view.target)).collect::<Vec<_>>();
    let named = |name: &str| (name.to_owned(), format!("https://{name}.example.org/"));
    assert_eq!(names(store.monitors(acme, None, 10).await.unwrap()), [named("api"), named("shop")]);
    assert_eq!(names(store.monitors(zenith, None, 10).await.unwrap()), [named("shop")]);

    let of = async |scope, name: &str| store.monitor(scope, name).await.unwrap().expect("the monitor is there");
    let (shop, api, other) = (of(acme, "shop").await, of(acme, "api").await, of(zenith, "shop").await);
    assert_eq!((shop.health, shop.since), (Health::Down, Some(sec(420))));
    for (scope, monitor, beats, newest) in [(acme, &shop, 30, sec(29 * 60)), (acme, &api, 4, sec(7_380)), (zenith, &other, 3, sec(120))] {
        let rows = store.heartbeats(scope, monitor.id, LATER, 100).await.unwrap();
        assert_eq!((rows.len(), rows[0].0.at), (beats, newest), "{}", monitor.name);
        assert!(rows.iter().all(|(beat, _)| (beat.total_us, beat.code, beat.size, beat.value) == (46_500, 200, 1_234, -1)));
    }
    let rows = store.heartbeats(acme, shop.id, sec(7 * 60 + 1), 1).await.unwrap();
    assert_eq!(rows[0].0.outcome, Outcome::Down(watchkeeper_core::Reason::TcpRefused));
    assert_eq!(rows[0].1.as_deref(), Some(r#"{"total_us":1,"error":"it's „refused“"}"#));
    let hour = watchkeeper_core::Dur::secs(3_600);
    let buckets = store.metrics(acme, shop.id, None, T0, sec(3_600), hour).await.unwrap();
    assert_eq!(buckets.iter().map(|bucket| (bucket.up, bucket.down)).collect::<Vec<_>>(), [(29, 1)]);
    let times = store.state_times(acme, shop.id, T0, sec(3_600)).await.unwrap();
    assert_eq!(times.down, watchkeeper_core::Dur::secs(60));

    incidents(store, acme).await;
    let loaded = store.load(&[shop.id, api.id]).await.unwrap();
    assert_eq!(loaded[0].verdict.as_ref().map(|verdict| (verdict.health, verdict.since)), Some((Health::Down, sec(420))));
    assert_eq!(loaded[0].sights.iter().map(|(_, _, vote)| vote.clone()).collect::<Vec<_>>(), [vote(Health::Down)]);
    assert_eq!(loaded[0].open.iter().map(|open| open.rule.as_str().to_owned()).collect::<Vec<_>>(), ["slow", "blind"]);
    assert_eq!(
        loaded[1].open.iter().map(|open| (open.rule.as_str().to_owned(), open.opened_at)).collect::<Vec<_>>(),
        [("down".to_owned(), sec(7_300))]
    );
    let local = store.datacenters().await.unwrap().remove(0).0;
    assert_eq!((&loaded[1].last_beats[..], loaded[1].last_push), (&[(local, sec(7_380))][..], Some(sec(7_200))));
    let pushes = store.unfolded_pushes(10).await.unwrap();
    assert_eq!(
        pushes.iter().map(|push| (push.monitor, push.exit, push.body.as_str())).collect::<Vec<_>>(),
        [(api.id, Some(0), "done — готово")]
    );
    let token = store.accounts().token(&TOKEN).await.unwrap().expect("the token is there");
    assert_eq!((token.tenant, token.name.as_str(), token.role.as_str()), (acme.0, "ops", "admin"));
}

async fn incidents(store: &dyn Store, acme: TenantScope) {
    let views = store.incidents(acme, &IncidentFilter { limit: 10, ..IncidentFilter::default() }).await.unwrap();
    let told: Vec<_> = views.iter().map(|view| (view.rule.as_str(), view.status.as_str(), view.opened_at)).collect();
    assert_eq!(
        told,
        [("blind", "open", sec(7_500)), ("slow", "open", sec(7_400)), ("down", "open", sec(7_300)), ("down", "resolved", sec(420))]
    );
    let mut notices = Vec::new();
    for view in &views {
        let view = store.incident(acme, &view.uid).await.unwrap().unwrap();
        assert_eq!(view.summary, "shop is down: the connection was refused");
        assert_eq!(view.timeline[0].kind, "opened");
        notices.push(states(&view).into_iter().map(|(channel, event, state)| format!("{channel} {event} {state}")).collect::<Vec<_>>());
    }
    assert_eq!(notices[0], ["hook opened sending"]);
    assert_eq!(notices[1], ["hook opened dead"]);
    assert_eq!(notices[2], ["chat opened due", "hook opened sent"]);
    assert_eq!(notices[3], ["hook opened sent", "hook resolved sent"]);
    assert_eq!(store.dead_letters(acme, None, 10).await.unwrap().len(), 1);
}

/// What the second schema adds: a silence, an acknowledgement that nobody has folded yet, a mark, a notice that is held back.
pub async fn write_alerting(w: &World) {
    let silence = Silence {
        uid: "silence-1".into(),
        matcher: watchkeeper_core::matcher::Matcher::default(),
        starts_at: sec(7_000),
        ends_at: LATER,
        author: "ann".into(),
        comment: "deploy".into(),
    };
    w.store().create_silence(w.acme(), &silence).await.unwrap();
    w.store().set_mark("report/weekly", "2026-44").await.unwrap();
    let view = w.store().incidents(w.acme(), &IncidentFilter { limit: 10, ..IncidentFilter::default() }).await.unwrap().remove(2);
    assert!(
        w.store()
            .insert_action(w.acme(), &view.uid, watchkeeper_core::verdict::Action::Acknowledge, "ann", None, sec(7_600))
            .await
            .unwrap()
    );
}

/// Asserts that the store holds it.
pub async fn check_alerting(store: &dyn Store) {
    let acme = TenantScope(store.tenants().await.unwrap()[0].0);
    let silences = store.silences(acme, T0, 10).await.unwrap();
    assert_eq!(silences.iter().map(|silence| (silence.uid.as_str(), silence.author.as_str())).collect::<Vec<_>>(), [("silence-1", "ann")]);
    assert_eq!(store.mark("report/weekly").await.unwrap().as_deref(), Some("2026-44"));
    let actions = store.unfolded_actions(10).await.unwrap();
    assert_eq!(actions.iter().map(|action| (action.actor.as_str(), action.at)).collect::<Vec<_>>(), [("ann", sec(7_600))]);
}

/// What the sixth schema adds: a user with a second factor, a session, an entry of the audit log.
pub async fn write_accounts(w: &World) {
    let accounts = w.store().accounts();
    let ann = NewUser {
        uid: "user-1".into(),
        name: "Ann".into(),
        login: "ann".into(),
        password: Some("$argon2id$stored".into()),
        role: "operator".into(),
    };
    assert!(accounts.create_user(w.acme(), &ann, T0).await.unwrap());
    let id = accounts.account("ann").await.unwrap().expect("she was made").id;
    let session = NewSession { hash: [9; 32], user: id, tenant: w.acme, address: "192.0.2.1", password: ann.password.as_deref() };
    assert!(accounts.open_session(&session, T0).await.unwrap());
    let deed = Deed {
        actor: "Ann".into(),
        via: "session".into(),
        address: "192.0.2.1".into(),
        action: "POST /api/v1/silences".into(),
        detail: String::new(),
        status: None,
    };
    let noted = accounts.audit(w.acme(), &deed, sec(60)).await.unwrap();
    accounts.audited(w.acme(), noted, 201, "silence-1").await.unwrap();
}

/// Asserts that the store holds it.
pub async fn check_accounts(store: &dyn Store) {
    let acme = TenantScope(store.tenants().await.unwrap()[0].0);
    let users = store.accounts().users(acme).await.unwrap();
    assert_eq!(users.iter().map(|user| (user.name.as_str(), user.role.as_str())).collect::<Vec<_>>(), [("Ann", "operator")]);
    let account = store.accounts().account("ann").await.unwrap().expect("the account is there");
    assert_eq!(account.password.as_deref(), Some("$argon2id$stored"));
    let log = store.accounts().audit_log(acme, None, 10).await.unwrap();
    assert_eq!(
        log.iter().map(|row| (row.at, row.deed.detail.as_str(), row.deed.status)).collect::<Vec<_>>(),
        [(sec(60), "silence-1", Some(201))]
    );
}

/// Writes what an installation can have since the schema with subscribers: one who has confirmed and is to be told a word, and one who is still asked.
pub async fn write_subscribers(w: &World) {
    let subscribers = w.store().subscribers();
    for (nth, name) in (1..).zip(["ann", "bob"]) {
        let (uid, address) = (format!("subscriber-{name}"), format!("{name}@example.org"));
        let new = NewSubscriber { uid, kind: SubscriberKind::Email, address };
        subscribers.subscribe(w.acme(), "public", &new, T0).await.unwrap();
        let asked = subscribers.take_parcels(w.acme(), "public", SubscriberKind::Email, &[[nth; 32]], T0).await.unwrap();
        subscribers.end_parcel(w.acme(), asked[0].id, ParcelEnd::Taken).await.unwrap();
    }
    subscribers.follow(w.acme(), "public", &[1; 32], sec(1)).await.unwrap();
    let word = PageWord { key: "message/1/0".into(), body: "{}".into() };
    assert!(subscribers.tell_page(w.acme(), "public", &word, false, sec(2)).await.unwrap());
}

/// Asserts that the store holds it.
pub async fn check_subscribers(store: &dyn Store) {
    let acme = TenantScope(store.tenants().await.unwrap()[0].0);
    let all = store.subscribers().subscribers(acme, "public", None, 10).await.unwrap();
    let known: Vec<_> = all.iter().map(|one| (one.address.as_str(), one.confirmed_at)).collect();
    assert_eq!(known, [("ann@example.org", Some(sec(1))), ("bob@example.org", None)]);
    assert_eq!(store.subscribers().link(acme, "public", &[2; 32], sec(2)).await.unwrap(), Some(LinkPurpose::Confirm));
    assert_eq!(store.subscribers().page_words(acme, "public").await.unwrap().len(), 1);
    assert_eq!(store.subscribers().pages_due(sec(2), 10).await.unwrap(), [(acme.0, "public".to_owned(), SubscriberKind::Email)]);
}

/// Asserts that work goes on where it stopped: nothing told is due, what was in hand when its node ended is due again under a higher
/// epoch, old epochs decide nothing, and new rows get ids of their own.
pub async fn goes_on(t: &TestStore) {
    let old = t.store.leases().await.unwrap();
    assert_eq!(old.iter().map(|row| row.scope.as_str()).collect::<Vec<_>>(), ["channel/chat", "channel/hook", "verdict/0"]);
    let mut w = World::again(t.shared()).await;
    assert!(old.iter().all(|row| [&w.verdict, &w.hook_lease, &w.chat_lease].iter().any(|f| *f.scope == row.scope && f.epoch > row.epoch)));
    let now = sec(8_000);
    assert_eq!(due(&w, w.hook, now).await.len(), 1, "only what was in hand");
    assert_eq!(due(&w, w.chat, now).await.len(), 1, "only what was not told yet");
    let stale = Fence { scope: "verdict/0".into(), epoch: w.verdict.epoch - 1 };
    let (decision, ..) = w.opens(w.api, "slow", now);
    let committed = w.commit_decisions(vec![Decision { fences: smallvec![stale], ..decision }]).await;
    assert_eq!(committed.stale, ["verdict/0".into()]);
    let (decision, _, uid) = w.opens(w.api, "slow", now);
    assert_eq!(w.commit_decisions(vec![decision]).await.stale, []);
    for notice in due(&w, w.hook, now).await {
        end(&w, notice.id, &w.hook_lease, sent(), now).await;
    }
    assert_eq!(states(&w.incident(&uid).await), [("hook", "opened", "sent")]);
    w.store().accounts().create_token(w.acme(), &token("new", "viewer", &[8; 32], "wk_new", None), now).await.unwrap();
    let push = PushRow { id: 0, monitor: MonitorId(w.api.0), kind: PushKind::Ok, exit: None, ping_us: None, body: String::new(), at: now };
    w.store().insert_push(&push).await.unwrap();
    w.commit_beats(vec![w.beat(w.shop, now, Outcome::Up)]).await;
    w.housekeep(now).await;
    assert_eq!(w.store().heartbeats(w.acme(), w.shop, LATER, 100).await.unwrap().len(), 31);
    assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
}
