//! What time does to a store: an older schema is brought up to date with its rows, old incidents go, and a long past slows nothing.

use super::world::*;
use crate::support::store::each_store;
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};
use watchkeeper::store::{self, *};
use watchkeeper_core::verdict::Action;
use watchkeeper_core::{ChannelId, TenantId};

const FIRST_SQLITE: &str = include_str!("../../../src/store/migrations/sqlite/0001_first.sql");
const FIRST_POSTGRES: &str = include_str!("../../../src/store/migrations/postgres/0001_first.sql");

/// What the first schema may hold when the second comes: an incident that was told to one channel and not yet to the other.
const ROWS: &str = "
    INSERT INTO wk_tenant (id, slug, name, created_at) VALUES (1, 'acme', 'acme', 1);
    INSERT INTO wk_source (id, name, kind, hash, applied_at) VALUES (2, 'files', 'files', 'h', 1);
    INSERT INTO wk_channel (id, tenant_id, name, kind, config, budget_key, source_id, origin, created_at)
        VALUES (3, 1, 'hook', 'webhook', '{}', 'hook', 2, 'wk.yaml:3', 1), (4, 1, 'chat', 'webhook', '{}', 'chat', 2, 'wk.yaml:4', 1);
    INSERT INTO wk_incident (id, uid, tenant_id, monitor_id, rule_key, status, severity, opened_at, deciding_at, summary)
        VALUES (5, 'i-5', 1, 9, 'down', 'open', 2, 1000, 1000, 'it broke');
    INSERT INTO wk_incident_event (incident_id, nth, at, kind, text) VALUES (5, 0, 1000, 'opened', 'it broke');
    INSERT INTO wk_message (id, channel_id, incident_id, provider_id, key, sent_at) VALUES (6, 3, 5, 'm-6', 'k-6', 2000);
    INSERT INTO wk_notice (id, cause, channel_id, tenant_id, incident_id, event, nth, severity, payload, state, next_at, message_id,
        created_at, sent_at) VALUES
        (7, 'incident/i-5/opened/0', 3, 1, 5, 'opened', 0, 2, 'MESSAGE', 'sent', 1000, 6, 1000, 2000),
        (8, 'incident/i-5/opened/0', 4, 1, 5, 'opened', 0, 2, 'MESSAGE', 'due', 1000, NULL, 1000, NULL);
    UPDATE wk_id_block SET next = 100;
";

#[tokio::test]
async fn a_store_of_the_first_schema_is_brought_up_to_date_with_its_rows() {
    each_store(|mut t| async move {
        t.store.close().await;
        let first = if let Some(file) = &t.file {
            for end in ["", "-wal", "-shm"] {
                let _ = std::fs::remove_file(format!("{}{end}", file.display()));
            }
            std::fs::write(file, "").unwrap();
            FIRST_SQLITE
        } else {
            t.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await;
            FIRST_POSTGRES
        };
        let checksum = Sha256::digest(first).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        let table = "CREATE TABLE wk_migration (version BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL)";
        let opened = message("i-5", watchkeeper_core::verdict::NoticeEvent::Opened, watchkeeper_core::Severity::Critical, sec(0));
        let rows = ROWS.replace("MESSAGE", &serde_json::to_string(&opened).unwrap());
        t.execute(&format!("{first}; {table}; INSERT INTO wk_migration VALUES (1, 'first', '{checksum}'); {rows}")).await;

        t.store = store::open(&t.url).await.unwrap();
        assert_eq!(t.store.verify().await.unwrap(), [""; 0]);
        let (chat, now) = (ChannelId(4), sec(1));
        let notice = t.store.due_notices(chat, now, 10).await.unwrap().remove(0);
        assert_eq!((notice.id, notice.content.incident(), notice.told.clone()), (8, Some(&opened), None));
        assert_eq!(t.store.recent_messages(ChannelId(3), T0 - watchkeeper_core::Dur::secs(1)).await.unwrap(), []);
        let messages = t.store.recent_messages(ChannelId(3), watchkeeper_core::Micros(0)).await.unwrap();
        assert_eq!(messages, [SentMessage { at: watchkeeper_core::Micros(2_000), digest: false }]);
        // What the store numbers itself goes on after what was there.
        let epoch = t.store.take_lease("channel/chat", None, "me", now).await.unwrap().unwrap();
        let fence = Fence { scope: "channel/chat".into(), epoch };
        assert_eq!(t.store.begin_attempt(&[8], &fence, now).await.unwrap(), [8]);
        let attempted = sent();
        let end = AttemptEnd { notices: &[8], fence: &fence, attempted: &attempted, key: "k-8", digest: false, at: now };
        t.store.end_attempt(&end).await.unwrap();
        let tenant = TenantScope(TenantId(1));
        assert!(t.store.insert_action(tenant, "i-5", Action::Acknowledge, "ann", None, now).await.unwrap());
        let view = t.store.incident(tenant, "i-5").await.unwrap().unwrap();
        assert_eq!(states(&view), [("chat", "opened", "sent"), ("hook", "opened", "sent")]);
        assert_eq!(t.store.verify().await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn incidents_that_ended_long_ago_go_with_all_that_hangs_on_them() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (mut kept, mut decisions) = (Vec::new(), Vec::new());
        for n in 0..700 {
            let (decision, id, uid) = w.opens(w.shop, &format!("rule-{n}"), sec(n));
            decisions.push(decision);
            kept.push((id, uid));
        }
        w.commit_decisions(decisions).await;
        w.commit_decisions(vec![w.interval(w.shop, sec(1), watchkeeper_core::quorum::Health::Down)]).await;
        assert!(w.store().insert_action(w.acme(), &kept[1].1, Action::Acknowledge, "ann", None, sec(2)).await.unwrap());
        let silence = |uid: &str, ends_at| Silence {
            uid: uid.into(),
            matcher: watchkeeper_core::matcher::Matcher::default(),
            starts_at: sec(0),
            ends_at,
            author: "ann".into(),
            comment: String::new(),
        };
        w.store().create_silence(w.acme(), &silence("old", sec(9))).await.unwrap();
        w.store().create_silence(w.acme(), &silence("new", LATER)).await.unwrap();
        let attempted = sent();
        loop {
            let ids: Vec<i64> = due(&w, w.hook, sec(700)).await.iter().map(|notice| notice.id).collect();
            let Some(first) = ids.first() else { break };
            let key = format!("digest/{first}");
            let end = AttemptEnd { notices: &ids, fence: &w.hook_lease, attempted: &attempted, key: &key, digest: true, at: sec(700) };
            w.store().end_attempt(&end).await.unwrap();
        }
        // The last stays open; of the first, the end is still to be told.
        let quiet = |mut decision: Decision| {
            decision.notices.clear();
            decision
        };
        let mut ends: Vec<Decision> = kept[1..699].iter().map(|(id, uid)| quiet(w.resolves(w.shop, *id, uid, sec(800)))).collect();
        ends.push(w.resolves(w.shop, kept[0].0, &kept[0].1, sec(800)));
        w.commit_decisions(ends).await;

        let day = 86_400;
        w.housekeep(sec(800 + 399 * day)).await;
        let all = IncidentFilter { limit: PAGE_MAX, ..IncidentFilter::default() };
        assert_eq!(w.store().incidents(w.acme(), &all).await.unwrap().len(), 700, "not yet");
        w.housekeep(sec(801 + 400 * day)).await;
        let left: Vec<_> = w.store().incidents(w.acme(), &all).await.unwrap().into_iter().map(|incident| incident.uid).collect();
        assert_eq!(left, [kept[699].1.clone(), kept[0].1.clone()], "what is open, and what is still to be told");
        for (sql, rows) in [
            ("SELECT count(*) FROM wk_notice", 3),
            ("SELECT count(*) FROM wk_action", 0),
            ("SELECT count(DISTINCT incident_id) FROM wk_incident_event", 2),
            ("SELECT count(*) FROM wk_silence", 1),
            ("SELECT count(*) FROM wk_interval", 1),
            // Two are in the messages of digests that told others as well.
            ("SELECT count(*) FROM wk_message", 2),
        ] {
            assert_eq!(w.t.number(sql).await, rows, "{sql}");
        }
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
        let notice = due(&w, w.hook, LATER).await[0].id;
        end(&w, notice, &w.hook_lease, sent(), sec(801 + 400 * day)).await;
        w.housekeep(sec(4_000 + 401 * day)).await;
        assert_eq!(w.store().incidents(w.acme(), &all).await.unwrap().len(), 1, "told now");
    })
    .await;
}

/// Adds so many incidents that are over and told, from this number on; the ends of the last of them are due.
async fn a_past(w: &mut World, first: i64, count: i64, due: i64) {
    let (hook, tenant, shop, end) = (w.hook.0, w.acme.0, w.shop.0, first + count);
    let opened = message("i", watchkeeper_core::verdict::NoticeEvent::Opened, watchkeeper_core::Severity::Critical, sec(0));
    let payload = serde_json::to_string(&opened).unwrap();
    let many = format!(
        "WITH RECURSIVE n (n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM n WHERE n < {end} - 1)
         INSERT INTO wk_incident (id, uid, tenant_id, monitor_id, rule_key, status, severity, opened_at, deciding_at, resolved_at,
             resolved_why, summary)
         SELECT n, 'i-' || n, {tenant}, {shop} + n % 500, 'down', 'resolved', 2, {t0} + (n - {first}) * CAST(10000000 AS BIGINT),
             {t0} + (n - {first}) * CAST(10000000 AS BIGINT), {t0} + (n - {first}) * CAST(10000000 AS BIGINT) + 1, 'recovered', 'x' FROM n;
         INSERT INTO wk_incident_event (incident_id, nth, at, kind, text)
         SELECT id, 0, opened_at, 'opened', 'x' FROM wk_incident WHERE id >= {first};
         INSERT INTO wk_message (id, channel_id, incident_id, key, sent_at)
         SELECT id, {hook}, id, 'k-' || id, opened_at FROM wk_incident WHERE id >= {first};
         INSERT INTO wk_notice (cause, channel_id, tenant_id, incident_id, event, nth, severity, payload, cooldown, state, next_at,
             message_id, created_at, sent_at)
         SELECT 'incident/' || uid || '/opened/0', {hook}, {tenant}, id, 'opened', 0, 2, '{payload}', 0, 'sent', opened_at, id, opened_at,
             opened_at FROM wk_incident WHERE id >= {first};
         INSERT INTO wk_notice (cause, channel_id, tenant_id, incident_id, event, nth, severity, payload, cooldown, state, held, why,
             next_at, created_at)
         SELECT 'incident/' || uid || '/resolved/1', {hook}, {tenant}, id, 'resolved', 1, 2, '{payload}', 600000000, 'due', {no}, NULL,
             opened_at, opened_at FROM wk_incident WHERE id >= {end} - {due};",
        t0 = T0.0,
        no = if w.t.file.is_some() { "0" } else { "FALSE" },
    );
    w.t.behind_its_back(&many).await;
}

/// How long a thousand that are due take to be read, and to be told in one message; and another look after that.
async fn a_digest(w: &World) -> [Duration; 3] {
    let begun = Instant::now();
    let got = w.store().due_notices(w.hook, sec(2_000_000), PAGE_MAX).await.unwrap();
    let read = begun.elapsed();
    assert_eq!(got.len() as i64, PAGE_MAX);
    assert!(got.iter().all(|notice| notice.told.is_some() && notice.over.is_some()));
    let ids: Vec<i64> = got.iter().map(|notice| notice.id).collect();
    let begun = Instant::now();
    assert_eq!(w.store().begin_attempt(&ids, &w.hook_lease, sec(2_000_000)).await.unwrap().len() as i64, PAGE_MAX);
    let attempted = sent();
    let end = AttemptEnd { notices: &ids, fence: &w.hook_lease, attempted: &attempted, key: "digest", digest: true, at: sec(2_000_001) };
    w.store().end_attempt(&end).await.unwrap();
    let told = begun.elapsed();
    let begun = Instant::now();
    let one = w.store().due_notices(w.hook, sec(2_000_002), 1).await.unwrap();
    assert_eq!(one.len(), 1);
    w.store().next_due(w.hook).await.unwrap();
    [read, told, begun.elapsed()]
}

#[tokio::test]
async fn a_long_past_does_not_slow_the_outbox() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        a_past(&mut w, 1_000_000, 4_000, 2 * PAGE_MAX).await;
        let short = a_digest(&w).await;
        a_past(&mut w, 2_000_000, 96_000, PAGE_MAX).await;
        let long = a_digest(&w).await;
        println!("a thousand due, read, told in one message, and one more look: {short:?} among 4 000 sent, {long:?} among 100 000");
        // What looks at all that were sent for each of a thousand that are due takes 25 times as long.
        for (long, short) in long.into_iter().zip(short) {
            assert!(long < short * 10 + Duration::from_secs(2), "{long:?}, where {short:?} was enough");
        }
    })
    .await;
}

#[tokio::test]
async fn old_pushes_go_but_the_newest_that_says_something_stays() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let push =
            |monitor, kind, seconds| PushRow { id: 0, monitor, kind, exit: None, ping_us: None, body: String::new(), at: sec(seconds) };
        let day = 86_400;
        for push in [
            push(w.shop, PushKind::Ok, 0),
            push(w.shop, PushKind::Log, 1),
            push(w.shop, PushKind::Ok, 2),
            push(w.shop, PushKind::Log, 3),
            push(w.api, PushKind::Ok, 0),
            push(w.other_shop, PushKind::Ok, 0),
            push(w.other_shop, PushKind::Fail, 7 * day + 100),
        ] {
            w.store().insert_push(&push).await.unwrap();
        }
        w.housekeep(sec(7 * day)).await;
        assert_eq!(w.t.number("SELECT count(*) FROM wk_push").await, 7, "none is old yet");
        w.housekeep(sec(7 * day + 700)).await;
        let left = "SELECT count(*) FROM wk_push WHERE at IN";
        assert_eq!(w.t.number(&format!("{left} ({}, {})", sec(2).0, sec(3).0)).await, 2, "the newest word, and what was said after it");
        assert_eq!(w.t.number(&format!("{left} ({})", T0.0)).await, 1, "of a monitor that has no other");
        assert_eq!(w.t.number("SELECT count(*) FROM wk_push").await, 4);
    })
    .await;
}
