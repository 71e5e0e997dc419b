//! Public status pages: what strangers see of a tenant's monitors, in every form; and that they see nothing else.

use crate::support::app::{TestApp, until};
use crate::support::scripted::{Script, ScriptedStore};
use crate::support::servers::Server;
use crate::support::store::TestStore;
use crate::support::web::{Answer, TestWeb, call, get_at, open};
use base64::Engine as _;
use bytes::Bytes;
use http::{Method, StatusCode, header};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use watchkeeper::clock::Clock;
use watchkeeper::config::{self, Config};
use watchkeeper::spec::{self, Fleet, Pages};
use watchkeeper::store::{Applied, AppliedTenant, Beside, IncidentWrite, IntervalRow, Mandate, VerdictRow};
use watchkeeper_core::quorum::Health;
use watchkeeper_core::verdict::Verdict;
use watchkeeper_core::{IncidentId, Micros, MonitorId, Outcome};

/// A second after noon (UTC) on 30 November 2026: each server's clock begins here.
const NOW: Micros = Micros(1_796_040_001_000_000);

const fn ago(seconds: i64) -> Micros {
    Micros(NOW.0 - seconds * 1_000_000)
}

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// A server whose tenants are those of a configuration, and whose day is always the same.
struct Site {
    web: TestWeb,
    monitors: HashMap<(String, String), (MonitorId, String)>,
    script: Script,
}

fn load(yaml: &str) -> Config {
    config::load_texts(&[("wk.yaml".to_owned(), yaml.as_bytes().to_vec())], &|_| None).unwrap_or_else(|bad| panic!("{bad}"))
}

impl Site {
    /// The tenants `acme` and `zenith` are the test world's, so that decisions about their monitors can be committed.
    async fn start(yaml: &str) -> Self {
        let script = Script::new(None);
        let counted = script.clone();
        let web = TestWeb::start_with(move |state| {
            state.clock = Clock::reading(|| NOW);
            state.store = Arc::new(ScriptedStore { inner: state.store.clone(), script: counted });
        })
        .await;
        let mut site = Self { web, monitors: HashMap::new(), script };
        site.apply(yaml).await;
        site
    }

    /// Puts a configuration into force.
    async fn apply(&mut self, yaml: &str) {
        let config = load(yaml);
        let objects = spec::objects(&config).unwrap();
        let hash = watchkeeper::hex(&config.content);
        let applied =
            self.web.world.store().apply("files", &hash, &objects, Mandate::Alone, Beside::default(), ago(100 * DAY)).await.unwrap();
        self.monitors.clear();
        for (tenant, ids) in config.tenants.iter().zip(&applied.tenants) {
            for (monitor, identity) in tenant.monitors.iter().zip(&ids.monitors) {
                self.monitors.insert((tenant.slug.clone(), monitor.name.clone()), (identity.id, identity.uid.clone()));
            }
        }
        self.web.fleet.send_replace(spec::build(&config, &applied, &Fleet::default(), 16, NOW));
        self.web.pages.send_replace(Pages::of(&config, &applied));
    }

    fn monitor(&self, tenant: &str, name: &str) -> (MonitorId, String) {
        self.monitors[&(tenant.to_owned(), name.to_owned())].clone()
    }

    /// Acme's monitor is in a state since then.
    async fn is(&mut self, name: &str, health: Health, since: Micros) {
        let (id, _) = self.monitor("acme", name);
        let mut decision = self.web.world.decision(id);
        decision.verdict = Some(VerdictRow { verdict: Verdict { health, since, ..Verdict::default() }, wake: None });
        decision.interval = Some(IntervalRow { start: since, health });
        self.web.world.commit_decisions(vec![decision]).await;
    }

    /// An incident of acme's monitor.
    async fn incident(&mut self, name: &str, rule: &str, began: Micros, ended: Option<Micros>) -> (IncidentId, String) {
        let (monitor, _) = self.monitor("acme", name);
        let (mut decision, id, uid) = self.web.world.opens(monitor, rule, began);
        decision.notices.clear();
        self.web.world.commit_decisions(vec![decision]).await;
        if let Some(at) = ended {
            let mut decision = self.web.world.decision(monitor);
            decision.incidents.push(IncidentWrite::Resolve { id, at, why: "recovered", actor: None, summary: "shop is up again".into() });
            self.web.world.commit_decisions(vec![decision]).await;
        }
        (id, uid)
    }

    async fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[]).await
    }

    async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.web.call(Method::GET, path, None, headers, Bytes::new()).await
    }

    /// The page of that name, which is there.
    async fn page(&self, slug: &str) -> String {
        let answer = self.get(&format!("/status/{slug}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.body
    }

    async fn stop(self) {
        self.web.stop().await;
    }
}

/// The text of a page without its markup.
fn text(html: &str) -> String {
    let mut out = String::new();
    let mut rest = html;
    while let Some((before, after)) = rest.split_once('<') {
        out.push_str(before);
        out.push(' ');
        rest = after.split_once('>').map_or("", |(_, rest)| rest);
    }
    out.push_str(rest);
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Everything that a page is told as, by its path.
fn forms(slug: &str) -> Vec<String> {
    let page = ["", ".json", "/rss", "/atom", "/api/v2/summary.json", "/api/v2/status.json"].map(|tail| format!("/status/{slug}{tail}"));
    let kuma = [format!("/api/status-page/{slug}"), format!("/api/status-page/heartbeat/{slug}")];
    page.into_iter().chain(kuma).collect()
}

/// A monitor with things in it that no stranger may see.
fn secretive(name: &str, more: &str) -> String {
    format!(
        "{{ name: '{name}', probe: {{ http: {{ url: 'https://internal-host.example.org:8443/secret-path?api_key=s3cr3t', \
         headers: {{ Authorization: 'Bearer hidden-token' }} }} }}, \
         alerts: [ {{ down: {{}} }}, {{ slow_response: {{ above: 1s }} }}, {{ ssl_expiry: {{}} }}, {{ down: {{}}, name: internal-rule-name }} ]{more} }}"
    )
}

/// What of it, and of everything around it, must never be on a page.
const HIDDEN: &[&str] = &[
    "internal-host",
    "secret-path",
    "api_key",
    "s3cr3t",
    "hidden-token",
    "internal-rule-name",
    "tcp_refused",
    "refused",
    "ssl_expiry",
    "cleanup-by-ann",
    "root password",
    "ann",
    "acme",
    "zenith",
    "billing",
    "node-a",
    "wk.yaml",
    "example.org",
];

fn site_of_two() -> String {
    let (shop, api, hidden) =
        (secretive("shop", ", labels: { show: 'yes' }"), secretive("api", ""), secretive("billing", ", labels: { show: 'no' }"));
    format!(
        "tenants:\n  - name: acme\n    monitors: [ {shop}, {api}, {hidden} ]\n    \
         maintenance: [ {{ name: cleanup-by-ann, match: {{ monitors: [api] }}, once: {{ from: '2026-11-30 11:00', to: '2026-11-30 13:00' }} }}, \
         {{ name: billing-only, match: {{ monitors: [billing] }}, once: {{ from: '2026-12-01 11:00', to: '2026-12-01 13:00' }} }}, \
         {{ name: root password change, every: {{ cron: '0 3 * * *', for: 1h }} }} ]\n    \
         status_pages: [ {{ name: public, title: Our services, groups: [ {{ name: Web, labels: {{ show: 'y*' }}, titles: {{ shop: The Shop }} }}, \
         {{ monitors: [api], titles: {{ api: Interface }} }} ] }} ]\n  \
         - name: zenith\n    monitors: [ {} ]\n    status_pages: [ {{ name: other, title: Elsewhere, groups: [ {{ monitors: [shop] }} ] }} ]\n",
        secretive("shop", "")
    )
}

#[tokio::test]
async fn a_page_says_first_what_is_wrong_and_shows_what_it_names_alone() {
    let mut site = Site::start(&site_of_two()).await;
    for name in ["shop", "api", "billing"] {
        site.is(name, Health::Up, ago(40 * DAY)).await;
    }
    // Down for an hour three days ago, and since ten minutes.
    site.is("shop", Health::Down, ago(3 * DAY)).await;
    site.is("shop", Health::Up, ago(3 * DAY - HOUR)).await;
    site.is("shop", Health::Down, ago(600)).await;
    site.is("billing", Health::Down, ago(600)).await;
    site.incident("shop", "down", ago(3 * DAY), Some(ago(3 * DAY - HOUR))).await;
    let (_, uid) = site.incident("shop", "down", ago(540), None).await;
    site.incident("shop", "internal-rule-name", ago(500), None).await;
    site.incident("shop", "ssl_expiry", ago(5 * DAY), None).await;
    site.incident("billing", "down", ago(540), None).await;
    site.incident("api", "slow_response/total", ago(10 * DAY), Some(ago(10 * DAY - 120))).await;
    site.web.world.store().comment(site.web.world.acme(), &uid, "ann", "the root password is hunter2", NOW).await.unwrap();

    let html = site.page("public").await;
    let said = text(&html);
    assert!(html.starts_with("<!doctype html><html lang=\"en\">"), "{html}");
    assert!(said.starts_with("Partial outage · Our services Our services Partial outage The Shop As of 30 Nov 2026, 12:00 UTC"), "{said}");
    assert!(said.contains("What is wrong now The Shop : Outage Since 30 Nov 2026, 11:51 UTC"), "{said}");
    assert_eq!(said.matches("Outage Since").count(), 1, "two rules that see the same are one incident: {said}");
    assert!(said.contains("Maintenance Interface In progress, until 30 Nov 2026, 13:00 UTC"), "{said}");
    assert!(said.contains("The Shop , Interface Planned: 1 Dec 2026, 03:00 – 04:00 UTC"), "{said}");
    assert!(said.contains("Web The Shop Outage"), "{said}");
    assert!(said.contains("Services Interface Maintenance 90 days ago 100% uptime today"), "{said}");
    assert!(said.contains("Days with outages: 2 30 Nov 2026: 10 min 27 Nov 2026: 1 h"), "{said}");
    assert!(said.contains("The last 14 days The Shop : Outage 27 Nov 2026, 12:00 – 13:00 UTC (1 h)"), "{said}");
    assert!(said.contains("Interface : Slow responses 20 Nov 2026, 12:00 – 12:02 UTC (2 min)"), "{said}");
    assert!(!html.contains("style=") && !html.contains("<script") && !html.contains("<style"), "nothing stands inline");

    // Nothing of what is behind it, and nothing of anybody else, in any form.
    for path in forms("public") {
        let answer = site.get(&path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        let shared = answer.headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).is_some_and(|origins| origins == "*");
        assert_eq!(shared, path != "/status/public", "programs of other origins may read it: {path}");
        let whole = format!("{:?} {}", answer.headers, answer.body).to_lowercase();
        for hidden in HIDDEN {
            // "ann" is a part of ordinary words.
            let found = whole.contains(hidden) && (*hidden != "ann" || whole.contains("\"ann\"") || whole.contains("by ann"));
            assert!(!found, "{path} holds {hidden}: {whole}");
        }
    }
    let other = text(&site.page("other").await);
    assert!(other.contains("Not everything can be checked right now shop") && other.contains("no data yet"), "{other}");
    assert!(!other.contains("Interface") && !other.contains("The Shop"), "{other}");
    site.stop().await;
}

#[tokio::test]
async fn the_same_is_told_to_programs_in_three_forms() {
    let mut site = Site::start(&site_of_two()).await;
    site.is("shop", Health::Up, ago(4 * DAY)).await;
    site.is("api", Health::Up, ago(4 * DAY)).await;
    site.is("shop", Health::Down, ago(12 * HOUR)).await;
    let (_, incident) = site.incident("shop", "down", ago(12 * HOUR), None).await;
    let ((shop, shop_uid), (api, api_uid)) = (site.monitor("acme", "shop"), site.monitor("acme", "api"));
    let beats = vec![site.web.world.beat(api, ago(5), Outcome::Up)];
    site.web.world.commit_beats(beats).await;

    let own = site.get("/status/public.json").await.json();
    assert_eq!((&own["name"], &own["status"], &own["sentence"]), (&"public".into(), &"partial_outage".into(), &"Partial outage".into()));
    let line = &own["groups"][0]["monitors"][0];
    assert_eq!((&line["uid"], &line["status"], &line["title"]), (&shop_uid.clone().into(), &"outage".into(), &"The Shop".into()));
    let half = |found: &Value, whole: f64| (found.as_f64().unwrap() - whole / 2.0).abs() < whole / 1_000.0;
    assert!(half(&line["uptime_24h_percent"], 100.0), "{line}");
    let days = line["days"].as_array().unwrap();
    assert_eq!(
        (days.len(), &days[89]["status"], &days[88]["status"], &days[0]["status"]),
        (90, &"outage".into(), &"up".into(), &"none".into())
    );
    assert_eq!(own["incidents"][0]["uid"], incident);
    assert_eq!(own["maintenance"][0], serde_json::json!({"monitors": [api_uid], "from": null, "until": "2026-11-30T13:00:00.000000Z"}));

    let kuma = site.get("/api/status-page/PUBLIC").await.json();
    assert_eq!((&kuma["config"]["slug"], &kuma["config"]["title"]), (&"public".into(), &"Our services".into()));
    assert_eq!(
        kuma["publicGroupList"][0]["monitorList"][0],
        serde_json::json!({"id": shop.0, "name": "The Shop", "sendUrl": 0, "type": "http"})
    );
    assert_eq!((&kuma["incident"]["title"], &kuma["incident"]["style"]), (&"The Shop: Outage".into(), &"danger".into()));
    assert_eq!(
        (&kuma["maintenanceList"][0]["status"], &kuma["maintenanceList"][1]["status"]),
        (&"under-maintenance".into(), &"scheduled".into())
    );
    let beats = site.get("/api/status-page/heartbeat/public").await.json();
    let last = |id: MonitorId| {
        let beat = beats["heartbeatList"][id.0.to_string()].as_array().unwrap().last().unwrap().clone();
        let time = beat["time"].as_str().unwrap();
        assert!(time.len() == 23 && time.starts_with("2026-11-30 12:0"), "{time}");
        (beat["status"].clone(), beat["ping"].clone())
    };
    assert_eq!(last(shop), (0.into(), Value::Null));
    assert_eq!(last(api), (3.into(), 47.into()));
    assert!(half(&beats["uptimeList"][format!("{}_24", shop.0)], 1.0), "{beats}");

    let summary = site.get("/status/public/api/v2/summary.json").await.json();
    assert_eq!(summary["status"], serde_json::json!({"indicator": "major", "description": "Partial outage"}));
    assert_eq!((&summary["page"]["id"], &summary["page"]["url"]), (&"public".into(), &"http://watchkeeper.test/status/public".into()));
    let by_name = |name: &str| summary["components"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone();
    assert_eq!((&by_name("Web")["status"], &by_name("Web")["components"]), (&"major_outage".into(), &serde_json::json!([shop_uid])));
    assert_eq!((&by_name("The Shop")["status"], &by_name("Interface")["status"]), (&"major_outage".into(), &"under_maintenance".into()));
    let told = &summary["incidents"][0];
    assert_eq!((&told["id"], &told["status"], &told["impact"]), (&incident.into(), &"investigating".into(), &"major".into()));
    assert_eq!(told["components"][0]["id"], shop_uid);
    assert_eq!(summary["scheduled_maintenances"][0]["status"], "in_progress");
    let status = site.get("/status/public/api/v2/status.json").await.json();
    assert_eq!((&status["page"], &status["status"]), (&summary["page"], &summary["status"]));
    site.stop().await;
}

#[tokio::test]
async fn feeds_are_well_formed_and_their_entries_stay_the_same() {
    // JSON's texts are YAML's.
    let hostile = serde_json::to_string("<script>alert(\"x\")</script> & 'y' ]]> \u{202e}gnp.exe").unwrap();
    let yaml = format!(
        "tenants:\n  - name: acme\n    monitors: [ {} ]\n    \
         maintenance: [ {{ name: w, once: {{ from: '2026-12-01 11:00', to: '2026-12-01 13:00' }} }} ]\n    status_pages:\n      - name: public\n        \
         title: {hostile}\n        description: {hostile}\n        groups: [ {{ name: {hostile}, monitors: [shop], titles: {{ shop: {hostile} }} }} ]\n        \
         messages:\n          - {{ title: {hostile}, text: {hostile}, at: '2026-11-29 10:00' }}\n          \
         - {{ title: Over, text: 'It was.', at: '2026-11-20 10:00', until: '2026-11-21 10:00' }}\n          \
         - {{ title: Long ago, text: 'x', at: '2026-11-01 10:00', until: '2026-11-02 10:00' }}\n          \
         - {{ title: Not yet, text: 'x', at: '2026-12-24 18:00' }}\n",
        secretive("shop", "")
    );
    let mut site = Site::start(&yaml).await;
    site.is("shop", Health::Up, ago(4 * DAY)).await;
    site.incident("shop", "down", ago(2 * HOUR), Some(ago(HOUR))).await;

    let mut seen = Vec::new();
    for (form, item, id) in [("rss", "item", "guid"), ("atom", "entry", "id")] {
        let answer = site.get(&format!("/status/public/{form}")).await;
        let kind = answer.headers[header::CONTENT_TYPE].to_str().unwrap();
        assert_eq!(kind, format!("application/{form}+xml; charset=utf-8"));
        let document = roxmltree::Document::parse(&answer.body).unwrap_or_else(|error| panic!("{form}: {error}: {}", answer.body));
        let entries: Vec<_> = document.descendants().filter(|node| node.has_tag_name_any(item)).collect();
        let child = |node: &roxmltree::Node<'_, '_>, name: &str| {
            node.children()
                .find(|child| child.tag_name().name() == name)
                .and_then(|child| child.text().map(str::to_owned))
                .unwrap_or_default()
        };
        let titles: Vec<String> = entries.iter().map(|entry| child(entry, "title")).collect();
        let shown = "<script>alert(\"x\")</script> & 'y' ]]>  gnp.exe";
        let want = [
            format!("Over: {shown}: Outage"),
            format!("{shown}: Outage"),
            shown.to_owned(),
            "Over".to_owned(),
            format!("Maintenance: {shown}"),
        ];
        assert_eq!(titles, want, "{form}");
        assert!(!answer.body.contains("<script") && !answer.body.contains('\u{202e}'));
        seen.push(entries.iter().map(|entry| child(entry, id)).collect::<Vec<_>>());
    }
    assert_eq!(seen[0], seen[1], "the same entries have the same ids in both");
    let ids: std::collections::BTreeSet<&String> = seen[0].iter().collect();
    assert_eq!(ids.len(), seen[0].len());
    // Nothing new, nothing changed: whoever asks again is told so.
    let first = site.get("/status/public/atom").await;
    let again = site.get_with("/status/public/atom", &[("if-none-match", first.headers[header::ETAG].to_str().unwrap())]).await;
    assert_eq!((again.status, again.body.as_str()), (StatusCode::NOT_MODIFIED, ""));

    // A hostile name is text on the page too.
    let html = site.page("public").await;
    assert!(!html.contains("<script") && !html.contains('\u{202e}') && html.contains("&lt;script&gt;alert(&quot;x&quot;)"), "{html}");
    let said = text(&html);
    assert!(said.contains("Over It was.") && !said.contains("Long ago") && !said.contains("Not yet"), "{said}");
    site.stop().await;
}

/// Whether it is an element of that name, in whatever namespace.
trait Named {
    fn has_tag_name_any(&self, name: &str) -> bool;
}

impl Named for roxmltree::Node<'_, '_> {
    fn has_tag_name_any(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}

const ONE: &str = "tenants:\n  - name: acme\n    monitors: [ { name: shop, probe: { http: { url: 'http://127.0.0.1:1/' } } } ]\n";

#[tokio::test]
async fn a_storm_of_visitors_costs_the_store_one_read() {
    let mut site = Site::start(&format!("{ONE}    status_pages: [ {{ name: public, groups: [ {{ monitors: [shop] }} ] }} ]\n")).await;
    site.is("shop", Health::Up, ago(DAY)).await;
    let reads = |site: &Site| site.script.counts().get("glance").copied().unwrap_or_default();
    let began = Instant::now();
    let visitors = (0..200).map(|_| call(site.web.address, Method::GET, "/status/public", None, &[], Bytes::new()));
    for answer in futures_util::future::join_all(visitors).await {
        assert_eq!(answer.status, StatusCode::OK);
    }
    for path in forms("public") {
        assert_eq!(site.get(&path).await.status, StatusCode::OK);
    }
    let most = 1 + began.elapsed().as_secs() / 5;
    assert!(u64::from(reads(&site)) <= most, "{} reads", reads(&site));

    // Caches may keep it for a moment, and need not load it again while nothing has changed.
    let first = site.get("/status/public").await;
    assert_eq!(first.headers[header::CACHE_CONTROL], "public, max-age=10");
    let tag = first.headers[header::ETAG].to_str().unwrap();
    let again = site.get_with("/status/public", &[("if-none-match", tag)]).await;
    assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
    // Something has changed.
    site.is("shop", Health::Down, NOW).await;
    until("the page says that it is down", async || {
        let answer = site.get_with("/status/public", &[("if-none-match", tag)]).await;
        text(&answer.body).contains("Major outage shop").then_some(())
    })
    .await;
    site.stop().await;
}

#[tokio::test]
async fn what_cannot_be_known_is_not_said() {
    let mut site = Site::start(&format!("{ONE}    status_pages: [ {{ name: public, groups: [ {{ monitors: [shop] }} ] }} ]\n")).await;
    site.is("shop", Health::Up, ago(DAY)).await;
    site.script.set_away(true);
    let lost = site.get("/status/public").await;
    assert_eq!((lost.status, &lost.headers[header::RETRY_AFTER]), (StatusCode::SERVICE_UNAVAILABLE, &"2".parse().unwrap()));
    assert!(text(&lost.body).contains("The state is not known right now"), "{}", lost.body);
    assert_eq!(site.get("/status/public.json").await.error_code(), "store_unavailable");
    let (id, _) = site.monitor("acme", "shop");
    assert_eq!(site.get(&format!("/api/badge/{}/status", id.0)).await.error_code(), "store_unavailable");
    site.script.set_away(false);
    until("the store is asked again", async || (site.get("/status/public").await.status == StatusCode::OK).then_some(())).await;
    // What was read a moment ago is shown.
    site.script.set_away(true);
    assert!(text(&site.page("public").await).contains("All systems operational"));
    site.stop().await;
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

#[tokio::test]
async fn a_page_with_a_password_is_closed_in_every_form_and_guesses_are_few() {
    let pages = "status_pages: [ { name: staff, language: ru, password: 'пароль: x', groups: [ { name: G, monitors: [shop] } ] } ]";
    let mut site = Site::start(&format!("{ONE}    {pages}\n")).await;
    site.is("shop", Health::Up, ago(DAY)).await;
    let right = basic("anybody", "пароль: x");
    for path in forms("staff") {
        let closed = site.get(&path).await;
        assert_eq!(closed.status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(closed.headers["www-authenticate"].to_str().unwrap().starts_with("Basic realm="), "{path}");
        assert!(!closed.body.contains("shop"), "{path}: {}", closed.body);
        let open = site.get_with(&path, &[("authorization", &right)]).await;
        assert_eq!((open.status, &open.headers[header::CACHE_CONTROL]), (StatusCode::OK, &"private, no-cache".parse().unwrap()), "{path}");
        assert_eq!(open.headers.get("access-control-allow-origin"), None, "{path}");
    }
    assert!(text(&site.get("/status/staff").await.body).contains("Для этой страницы нужен пароль"));
    for wrong in [basic("a", "wrong"), basic("a", ""), "Basic ???".to_owned(), "Bearer x".to_owned(), basic("пароль: x", "")] {
        assert_eq!(site.get_with("/status/staff", &[("authorization", &wrong)]).await.status, StatusCode::UNAUTHORIZED, "{wrong}");
    }
    // Its monitors have no badges.
    let (id, uid) = site.monitor("acme", "shop");
    for path in
        [format!("/api/badge/{}/status", id.0), format!("/api/badge/{uid}/status"), "/api/v1/endpoints/g_shop/health/badge.svg".to_owned()]
    {
        assert_eq!(site.get(&path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    // Guesses come to an end, even right ones; whoever has been let in stays in.
    let mut refused = None;
    for nth in 0..40 {
        let answer = site.get_with("/status/staff", &[("authorization", &basic("a", &format!("guess {nth}")))]).await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            refused = Some((nth, answer));
            break;
        }
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    let (nth, answer) = refused.expect("guesses are limited");
    assert!((10..20).contains(&nth) && answer.headers.contains_key("retry-after"), "{nth}");
    assert_eq!(site.get_with("/status/staff", &[("authorization", &right)]).await.status, StatusCode::OK);
    site.stop().await;
}

#[tokio::test]
async fn a_domain_of_its_own_shows_the_page_alone() {
    let pages =
        "status_pages: [ { name: public, title: Ours, domain: status.example.org, groups: [ { monitors: [shop] } ] }, { name: second } ]";
    let mut site = Site::start(&format!("{ONE}    {pages}\n")).await;
    site.is("shop", Health::Up, ago(DAY)).await;
    for host in ["status.example.org", "STATUS.example.org:8470", "status.example.org."] {
        let answer = get_at(site.web.address, host, "/").await;
        assert!(answer.status == StatusCode::OK && answer.body.contains("All systems operational"), "{host}: {}", answer.body);
        assert_eq!(get_at(site.web.address, host, "/api/v2/status.json").await.json()["page"]["url"], "https://status.example.org/");
        assert_eq!(get_at(site.web.address, host, "/api/v2/summary.json").await.json()["page"]["id"], "public");
    }
    for host in ["example.org", "evil.status.example.org", "watchkeeper.test", "", "a b", "status.example.org@evil"] {
        let answer = get_at(site.web.address, host, "/").await;
        assert!(!answer.body.contains("All systems operational"), "{host}: {}", answer.body);
        let status = get_at(site.web.address, host, "/api/v2/status.json").await.status;
        assert!(status.is_client_error(), "{host}: {status}");
    }
    // What a client writes into its request does not get into what others see.
    let feed = get_at(site.web.address, "evil.example", "/status/public/atom").await;
    assert!(!feed.body.contains("evil.example") && feed.body.contains("https://status.example.org/status/public/atom"), "{}", feed.body);
    assert!(text(&get_at(site.web.address, "status.example.org", "/status/second").await.body).contains("Nothing is shown here yet"));
    site.stop().await;
}

#[tokio::test]
async fn what_is_not_there_says_nothing_and_errors_have_their_forms() {
    let site = Site::start(&format!("{ONE}    status_pages: [ {{ name: public }} ]\n")).await;
    for path in forms("nothing") {
        let answer = site.get(&path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(!answer.body.contains("public") && !answer.body.contains("acme"), "{path}: {}", answer.body);
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store", "{path}");
    }
    for path in ["/status/", "/status/public/", "/status/PUBLIC", "/status/..%2fpublic", "/status/public%00", "/status/%ff"] {
        let answer = site.get(path).await;
        assert!(answer.status.is_client_error(), "{path}: {}", answer.status);
    }
    let page = site.get("/status/public").await;
    let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'self'") && !policy.contains("unsafe"), "{policy}");
    let href = page.body.split("href=\"..").nth(1).unwrap().split('"').next().unwrap();
    let style = site.get(href).await;
    assert_eq!((style.status, &style.headers[header::CONTENT_TYPE]), (StatusCode::OK, &"text/css; charset=utf-8".parse().unwrap()));
    assert!(style.headers[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
    assert!(style.body.contains("prefers-color-scheme: dark") && page.body.len() + style.body.len() < 20_000);
    // Another configuration has come into force: this node does not know what its pages show.
    site.web.pages.send_replace(Pages::default());
    assert_eq!(site.get("/status/public").await.status, StatusCode::SERVICE_UNAVAILABLE);
    site.stop().await;
}

#[tokio::test]
async fn a_full_page_is_small_and_what_is_beyond_is_counted() {
    let monitors: Vec<String> = (0..54)
        .map(|nth| format!("{{ name: 'Payment service {nth:02}', labels: {{ n: 'x{nth:02}' }}, probe: {{ http: {{ url: 'http://127.0.0.1:1/{nth}' }} }} }}"))
        .collect();
    let head = format!("tenants:\n  - name: acme\n    monitors: [ {} ]\n    status_pages: ", monitors.join(", "));
    // The file names no more than a page takes.
    let too_many = format!("{head}[ {{ name: public, groups: [ {{ labels: {{ n: 'x*' }} }} ] }} ]\n");
    let bad = config::load_texts(&[("wk.yaml".to_owned(), too_many.into_bytes())], &|_| None).unwrap_err().to_string();
    assert!(bad.contains("a status page with 54 monitors; accepted: at most 50; make several pages"), "{bad}");

    let mut site = Site::start(&format!(
        "{head}[ {{ name: public, title: Payments, groups: [ {{ name: B, labels: {{ n: 'x0*' }} }}, \
         {{ name: C, labels: {{ n: 'x1*' }} }}, {{ name: D, labels: {{ n: 'x2*' }} }}, {{ name: E, labels: {{ n: 'x3*' }} }}, {{ name: F, labels: {{ n: 'x4*' }} }} ] }} ]\n"
    ))
    .await;
    for nth in 0..50 {
        let name = format!("Payment service {nth:02}");
        site.is(&name, Health::Up, ago(100 * DAY)).await;
        // Each has had three outages.
        for day in [2, 17, 50] {
            site.is(&name, Health::Down, ago((day + nth % 7) * DAY)).await;
            site.is(&name, Health::Up, ago((day + nth % 7) * DAY - 40 * 60)).await;
        }
        site.incident(&name, "down", ago((2 + nth % 7) * DAY), Some(ago((2 + nth % 7) * DAY - 2_400))).await;
    }
    let html = site.page("public").await;
    assert_eq!(html.matches("class=\"b\"").count(), 50);
    assert!(html.len() < 50_000, "{} bytes", html.len());
    assert!(text(&html).contains("and 30 more"), "incidents that are over are counted beyond 20");

    // Labels may find more than the file had: they are counted.
    let label = "tenants:\n  - name: acme\n    status_pages: [ { name: public, groups: [ { labels: { n: 'x*' } } ] } ]\n";
    let ids = site.web.world.store().tenants().await.unwrap();
    let of =
        |slug: &str| AppliedTenant { tenant: ids.iter().find(|(_, known)| known == slug).unwrap().0, channels: vec![], monitors: vec![] };
    let applied = Applied { tenants: vec![of("default"), of("acme")], ..Applied::default() };
    site.web.pages.send_replace(Pages::of(&load(label), &applied));
    let html = site.page("public").await;
    assert_eq!(html.matches("class=\"b\"").count(), 50);
    assert!(text(&html).contains("Not shown here: 4 more services"));
    site.stop().await;
}

#[tokio::test]
async fn badges_are_of_public_monitors_alone() {
    let mut site = Site::start(&site_of_two()).await;
    for name in ["shop", "api", "billing"] {
        site.is(name, Health::Up, ago(40 * DAY)).await;
    }
    site.is("shop", Health::Down, ago(10 * DAY)).await;
    site.is("shop", Health::Up, ago(9 * DAY)).await;
    let ((shop, uid), (api, _), (billing, billing_uid)) =
        (site.monitor("acme", "shop"), site.monitor("acme", "api"), site.monitor("acme", "billing"));
    let mut beat = site.web.world.beat(shop, ago(5), Outcome::Up);
    beat.value = 5;
    site.web.world.commit_beats(vec![beat]).await;

    let said = |svg: &str| svg.split("<title>").nth(1).unwrap().split("</title>").next().unwrap().to_owned();
    let cases = [
        (format!("/api/badge/{}/status", shop.0), "Status: Up"),
        (format!("/api/badge/{uid}/status?label=Shop&upLabel=fine"), "Shop: fine"),
        (format!("/api/badge/{}/status", api.0), "Status: Maintenance"),
        (format!("/api/badge/{}/uptime", shop.0), "Uptime (24h): 100%"),
        (format!("/api/badge/{}/uptime/720", shop.0), "Uptime (720h): 96.66%"),
        (format!("/api/badge/{}/uptime/30d?suffix=+percent&labelPrefix=My+", shop.0), "My Uptime (720h): 96.66 percent"),
        (format!("/api/badge/{}/ping/24", shop.0), "Avg. Ping (24h): 47ms"),
        (format!("/api/badge/{}/avg-response/1h", shop.0), "Avg. Response (1h): 47ms"),
        (format!("/api/badge/{}/response", shop.0), "Response: 47ms"),
        (format!("/api/badge/{}/cert-exp", shop.0), "Cert Exp.: 5 days"),
        (format!("/api/badge/{}/cert-exp", api.0), "No/Bad Cert"),
        (format!("/api/badge/{}/response", api.0), "N/A"),
        ("/api/v1/endpoints/web_the-shop/health/badge.svg".to_owned(), "health: up"),
        ("/api/v1/endpoints/_interface/health/badge.svg".to_owned(), "health: ?"),
        (format!("/api/v1/endpoints/{uid}/uptimes/30d/badge.svg"), "uptime 30d: 96.66%"),
        ("/api/v1/endpoints/web_the-shop/uptimes/1h/badge.svg".to_owned(), "uptime 1h: 100%"),
        ("/api/v1/endpoints/web_the-shop/response-times/7d/badge.svg".to_owned(), "response time 7d: 47ms"),
        ("/api/v1/endpoints/_interface/response-times/24h/badge.svg".to_owned(), "response time 24h: ?"),
    ];
    for (path, want) in cases {
        let answer = site.get(&path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        assert_eq!(answer.headers[header::CONTENT_TYPE], "image/svg+xml", "{path}");
        assert_eq!(answer.headers[header::CACHE_CONTROL], "public, max-age=60", "{path}");
        let near = |text: &str| text.replace("46ms", "47ms").replace("48ms", "47ms");
        assert_eq!(near(&said(&answer.body)), want, "{path}");
        roxmltree::Document::parse(&answer.body).unwrap_or_else(|error| panic!("{path}: {error}: {}", answer.body));
        let tag = answer.headers[header::ETAG].to_str().unwrap();
        assert_eq!(site.get_with(&path, &[("if-none-match", tag)]).await.status, StatusCode::NOT_MODIFIED, "{path}");
    }
    let shields = site.get("/api/v1/endpoints/web_the-shop/health/badge.shields").await.json();
    assert_eq!(shields, serde_json::json!({"schemaVersion": 1, "label": "The Shop", "message": "up", "color": "brightgreen"}));

    // What is on no open page has none, and is not told from what is nowhere.
    let absent = site.get("/api/badge/999999/status").await;
    let hidden = [
        format!("/api/badge/{}/status", billing.0),
        format!("/api/badge/{billing_uid}/uptime/24"),
        format!("/api/v1/endpoints/{billing_uid}/health/badge.svg"),
        "/api/v1/endpoints/_billing/uptimes/24h/badge.svg".to_owned(),
        format!("/api/badge/{}/job", shop.0),
        "/api/badge/shop/status".to_owned(),
    ];
    for path in hidden {
        let answer = site.get(&path).await;
        assert_eq!((answer.status, &answer.body), (StatusCode::NOT_FOUND, &absent.body), "{path}");
    }
    for bad in ["uptime/0", "uptime/91d", "uptime/x", "ping/%3Cb%3E"] {
        assert_eq!(site.get(&format!("/api/badge/{}/{bad}", shop.0)).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
    assert_eq!(site.get("/api/v1/endpoints/web_the-shop/uptimes/2h/badge.svg").await.status, StatusCode::BAD_REQUEST);

    // What stands in the address is text and colour, whatever it is.
    let hostile = "%3C%2Ftext%3E%3Cscript%3Ex%3C%2Fscript%3E%22";
    let path = format!(
        "/api/badge/{}/uptime/24?label={hostile}&color=url(%23a){hostile}&labelColor=red%22%3E&suffix={hostile}&style={hostile}",
        shop.0
    );
    let answer = site.get(&path).await;
    roxmltree::Document::parse(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.body));
    assert!(!answer.body.contains("<script") && !answer.body.contains("url(#a)"), "{}", answer.body);
    let long = site.get(&format!("/api/badge/{}/status?label={}", shop.0, "x".repeat(5_000))).await;
    assert!(long.body.len() < 1_500, "{}", long.body.len());

    // A value is read once a minute, and only so many are.
    let reads = |site: &Site| site.script.counts().get("state_times").copied().unwrap_or_default();
    let before = reads(&site);
    for _ in 0..10 {
        site.get(&format!("/api/badge/{}/uptime/77", shop.0)).await;
    }
    assert_eq!(reads(&site), before + 1);
    let paths: Vec<String> = (100..300).map(|hours| format!("/api/badge/{}/uptime/{hours}", shop.0)).collect();
    let answers = futures_util::future::join_all(paths.iter().map(|path| site.get(path))).await;
    let refused = answers.iter().filter(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS).count();
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK || answer.status == StatusCode::TOO_MANY_REQUESTS));
    assert!(refused > 0 && reads(&site) - before < 200, "{refused} refused, {} read", reads(&site) - before);
    site.stop().await;
}

#[tokio::test]
async fn a_reload_changes_pages_without_a_restart() {
    let target = Server::http("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wk.yaml");
    let head = format!(
        "server: {{ listen: 127.0.0.1:0 }}\nagent: {{ name: test }}\nmonitors:\n  - {{ name: shop, every: 1s, timeout: 1s, probe: {{ http: {{ url: '{}' }} }} }}\n",
        target.url("/")
    );
    std::fs::write(&path, format!("{head}status_pages: [ {{ name: one, groups: [ {{ monitors: [shop] }} ] }} ]\n")).unwrap();
    let store = TestStore::sqlite().await;
    let app = TestApp::start_on(&path, store.store.clone()).await;
    let get = async |path: &str| call(app.address, Method::GET, path, None, &[], Bytes::new()).await;
    until("the page says that all is well", async || {
        let answer = get("/status/one").await;
        answer.body.contains("All systems operational").then_some(())
    })
    .await;
    std::fs::write(&path, format!("{head}status_pages: [ {{ name: two, title: Second, groups: [ {{ monitors: [shop] }} ] }} ]\n")).unwrap();
    until("the second page is there and the first is gone", async || {
        let (one, two) = (get("/status/one").await, get("/status/two").await);
        (one.status == StatusCode::NOT_FOUND && two.body.contains("Second")).then_some(())
    })
    .await;
    // A bad one changes nothing.
    std::fs::write(&path, format!("{head}status_pages: [ {{ name: three, groups: [ {{ monitors: [shpo] }} ] }} ]\n")).unwrap();
    until("the bad configuration was refused", async || get("/ready").await.body.contains("refused").then_some(())).await;
    assert_eq!((get("/status/two").await.status, get("/status/three").await.status), (StatusCode::OK, StatusCode::NOT_FOUND));
    app.stop().await;
}

#[tokio::test]
async fn a_page_answers_heads_and_no_other_methods() {
    let site = Site::start(&format!("{ONE}    status_pages: [ {{ name: public }} ]\n")).await;
    let head = open(site.web.address, Method::HEAD, "/status/public", None, &[], Bytes::new()).await;
    assert_eq!((head.status(), head.headers().contains_key(header::ETAG)), (StatusCode::OK, true));
    // Packed it is another representation with another tag; each is known again by its own.
    let plain = head.headers()[header::ETAG].to_str().unwrap().to_owned();
    let packed = open(site.web.address, Method::GET, "/status/public", None, &[("accept-encoding", "gzip")], Bytes::new()).await;
    let tag = packed.headers()[header::ETAG].to_str().unwrap().to_owned();
    assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip");
    assert_eq!(tag, format!("\"{}-gzip\"", plain.trim_matches('"')));
    for known in [&tag, &plain] {
        let again = site.get_with("/status/public", &[("accept-encoding", "gzip"), ("if-none-match", known)]).await;
        assert_eq!((again.status, again.headers[header::ETAG].to_str().unwrap()), (StatusCode::NOT_MODIFIED, known.as_str()));
        assert!(again.headers.get_all(header::VARY).iter().any(|vary| vary == "accept-encoding"));
    }
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        let answer = site.web.call(method.clone(), "/status/public", None, &[], Bytes::new()).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
    }
    site.stop().await;
}
