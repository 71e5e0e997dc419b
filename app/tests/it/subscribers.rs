//! Subscribers of public status pages: asked, told, and forgotten, over the whole program and with a real mail server.

use crate::support::app::{TestApp, until};
use crate::support::caller::Caller;
use crate::support::pki::{Authority, GOOD};
use crate::support::provider::{Act, Provider};
use crate::support::smtp::MailServer;
use crate::support::store::{TestStore, each_store};
use crate::support::web::{Answer, call};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Method, StatusCode, header};
use serde_json::{Value, json};
use watchkeeper::clock::Clock;
use watchkeeper::store::{LinkPurpose, NewSubscriber, PageWord, SubscriberKind, TenantScope};
use watchkeeper::web::auth::Role;
use watchkeeper_core::Dur;

const LINK: &str = "https://status.example.org/status/public/subscription/";

fn config(port: u16, more: &str) -> String {
    format!(
        "server: {{ listen: 127.0.0.1:0 }}\nagent: {{ name: test }}\n\
         channels: [ {{ name: mail, email: {{ host: 127.0.0.1, port: {port}, tls: none, from: \"Example <status@example.org>\", to: ops@example.org }} }} ]\n{more}"
    )
}

const OPEN: &str =
    "status_pages: [ { name: public, title: \"Example & Co\", domain: status.example.org, subscribers: { channel: mail } } ]\n";

async fn get(app: &TestApp, path: &str) -> Answer {
    call(app.address, Method::GET, path, None, &[], Bytes::new()).await
}

async fn post(app: &TestApp, path: &str, body: &str) -> Answer {
    post_with(app, path, body, &[]).await
}

async fn post_with(app: &TestApp, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
    let form = [("content-type", "application/x-www-form-urlencoded")];
    call(app.address, Method::POST, path, None, &[headers, &form].concat(), Bytes::from(body.to_owned())).await
}

/// A letter: to whom, its head with folded lines joined, and its text.
struct Letter {
    to: Value,
    head: String,
    text: String,
}

impl Letter {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// What it says, whatever way it was packed.
    fn decoded(&self) -> String {
        let bytes = match self.header("Content-Transfer-Encoding") {
            Some("base64") => BASE64_STANDARD.decode(self.text.replace('\n', "")).unwrap(),
            Some("quoted-printable") => {
                let joined = self.text.replace("=\n", "");
                let (mut bytes, mut rest) = (Vec::new(), joined.as_bytes());
                while let Some((first, after)) = rest.split_first() {
                    let hex = (*first == b'=').then(|| std::str::from_utf8(&after[..2]).unwrap());
                    bytes.push(hex.map_or(*first, |hex| u8::from_str_radix(hex, 16).unwrap()));
                    rest = if hex.is_some() { &after[2..] } else { after };
                }
                bytes
            }
            Some(_) | None => self.text.clone().into_bytes(),
        };
        String::from_utf8(bytes).unwrap().replace("\r\n", "\n")
    }

    /// The path of its one link.
    fn link(&self) -> String {
        let text = self.decoded();
        let (_, link) = text.split_once(LINK).unwrap_or_else(|| panic!("no link in {text}"));
        let link: String = link.chars().take_while(|c| !c.is_whitespace()).collect();
        assert_eq!(link.len(), 43, "256 bits");
        format!("/status/public/subscription/{link}")
    }
}

async fn letter(server: &mut MailServer) -> Letter {
    let taken = server.taken().await;
    let message = taken["message"].as_str().unwrap();
    let (head, text) = message.split_once("\r\n\r\n").unwrap();
    Letter { to: taken["to"].clone(), head: head.replace("\r\n ", " ").replace("\r\n\t", " "), text: text.replace("\r\n", "\n") }
}

async fn plain_server() -> Option<MailServer> {
    MailServer::start("none", &Authority::root("mail").issue(&["127.0.0.1"], GOOD)).await
}

/// Who is subscribed, as the page's administrators see it.
async fn listed(ann: &Caller) -> Vec<(String, bool)> {
    let answer = ann.get("/api/v1/status-pages/public/subscribers").await.json();
    let one = |item: &Value| (item["address"].as_str().unwrap().to_owned(), !item["confirmed_at"].is_null());
    answer["items"].as_array().unwrap().iter().map(one).collect()
}

#[tokio::test]
async fn a_reader_asks_confirms_is_told_and_leaves() {
    let Some(server) = plain_server().await else { return };
    let port = server.port;
    let server = tokio::sync::Mutex::new(server);
    each_store(|t| async { reader(t, &mut *server.lock().await, port).await }).await;
}

/// The whole way of one reader.
async fn reader(mut t: TestStore, server: &mut MailServer, port: u16) {
    let app = TestApp::start_whole(&config(port, OPEN), t.store.clone()).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;
    let page = get(&app, "/status/public").await;
    assert!(page.body.contains("<form method=\"post\" action=\"../status/public/subscribers\">"), "{}", page.body);
    assert!(page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().contains("form-action 'self'"));

    let asked = post(&app, "/status/public/subscribers", "address=Reader%40Example.org").await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{}", asked.body);
    assert!(!asked.body.to_lowercase().contains("reader@"), "{}", asked.body);
    let confirm = letter(server).await;
    assert_eq!(confirm.to, json!(["Reader@example.org"]));
    assert_eq!((confirm.header("Subject"), confirm.header("List-Unsubscribe")), (Some("Confirm your subscription: Example & Co"), None));
    assert!(confirm.decoded().contains("https://status.example.org/\n"), "the page's own address: {}", confirm.decoded());
    let link = confirm.link();

    // Before it is confirmed nothing is told; to look at the link, as mail scanners do, confirms nothing.
    let seen = get(&app, &link).await;
    assert!(seen.status == StatusCode::OK && seen.body.contains("<form method=\"post\"><button>Confirm</button></form>"), "{}", seen.body);
    assert_eq!(seen.headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(listed(&ann).await, [("Reader@example.org".to_owned(), false)]);
    assert_eq!(post(&app, &link, "").await.status, StatusCode::OK);
    assert_eq!(listed(&ann).await, [("Reader@example.org".to_owned(), true)]);
    for again in [get(&app, &link).await, post(&app, &link, "").await, get(&app, &format!("{link}x")).await] {
        assert_eq!(again.status, StatusCode::NOT_FOUND, "it was used: {}", again.body);
    }
    // Asked again, the answer is the same, and no letter follows.
    let again = post(&app, "/status/public/subscribers", "address=Reader%40example.org").await;
    assert_eq!((again.status, &again.body), (asked.status, &asked.body));

    // A word that was committed before a crash is told by the next life.
    app.stop().await;
    t.reopen().await;
    let scope = TenantScope(t.store.tenants().await.unwrap().into_iter().find(|(_, slug)| slug == "default").unwrap().0);
    let now = Clock::system().now();
    let body = json!({ "kind": "posted", "title": "Orders are late", "text": "We are looking into it.\nSorry.", "at": now.0 });
    let word = PageWord { key: "message/1".into(), body: body.to_string() };
    assert!(t.store.subscribers().tell_page(scope, "public", &word, false, now).await.unwrap());
    let app = TestApp::start_whole(&config(port, OPEN), t.store.clone()).await;
    let told = letter(server).await;
    assert_eq!(told.header("Subject"), Some("[Example & Co] Orders are late"));
    assert!(told.decoded().starts_with("Orders are late\n\nWe are looking into it.\nSorry.\n\n"), "{}", told.decoded());
    assert_eq!(told.header("Auto-Submitted"), Some("auto-generated"));
    let leave = told.link();
    assert_eq!(told.header("List-Unsubscribe"), Some(format!("<https://status.example.org{leave}>").as_str()));
    assert_eq!(told.header("List-Unsubscribe-Post"), Some("List-Unsubscribe=One-Click"));

    let seen = get(&app, &leave).await;
    assert!(seen.status == StatusCode::OK && seen.body.contains("Unsubscribe"), "{}", seen.body);
    let ann = Caller { address: app.address, ..ann };
    assert_eq!(listed(&ann).await.len(), 1, "to look at it ends nothing");
    assert_eq!(post(&app, &leave, "List-Unsubscribe=One-Click").await.status, StatusCode::OK);
    assert_eq!(listed(&ann).await, []);
    assert_eq!(get(&app, &leave).await.status, StatusCode::NOT_FOUND);
    app.stop().await;
}

/// Somebody is subscribed, without a letter: what the program would ask becomes due in a few minutes only, and here is taken before.
async fn subscribed(app: &TestApp, scope: TenantScope, name: &str) {
    let later = Clock::system().now() + Dur::secs(300);
    let (uid, address, hash) = (format!("uid-{name}"), format!("{name}@example.org"), hash_of(name));
    let (store, new) = (app.store.subscribers(), NewSubscriber { uid, kind: SubscriberKind::Email, address });
    store.subscribe(scope, "public", &new, later).await.unwrap();
    store.take_parcels(scope, "public", SubscriberKind::Email, &[hash], later).await.unwrap();
    assert_eq!(store.follow(scope, "public", &hash, later).await.unwrap(), Some(LinkPurpose::Confirm));
}

fn hash_of(link: &str) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(link.as_bytes()).into()
}

#[tokio::test]
async fn what_operators_say_goes_to_subscribers_in_their_language_and_who_is_gone_is_forgotten() {
    let Some(mut server) = plain_server().await else { return };
    let more = "monitors: [ { name: shop, probe: { push: { expect_every: 1h } } } ]\n";
    let store = TestStore::sqlite().await;
    let app = TestApp::start_whole(&config(server.port, more), store.store.clone()).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;
    let bob = Caller::of(&app, "default", Role::Operator).await;
    let page = json!({ "name": "public", "title": "Магазин", "language": "ru", "groups": [{ "monitors": ["shop"], "titles": { "shop": "Касса" } }],
                       "subscribers": { "channel": "mail", "url": "https://status.example.org/" } });
    let made = ann.post("/api/v1/status-pages", page).await;
    assert_eq!((made.status, &made.json()["subscribers"]), (StatusCode::CREATED, &json!(true)), "{}", made.body);
    let scope = app.scope().await;
    for name in ["ann", "refuse-550"] {
        subscribed(&app, scope, name).await;
    }
    let said = bob.post("/api/v1/status-pages/public/messages", json!({ "title": "Заказы задерживаются", "text": "Разбираемся." })).await;
    assert_eq!(said.status, StatusCode::CREATED, "{}", said.body);
    let told = word_for(&mut server, "ann@example.org").await;
    assert!(told.decoded().starts_with("Заказы задерживаются\n\nРазбираемся.\n"), "{}", told.decoded());
    // So is maintenance, by what the page calls the monitor and not by its name.
    let now = Clock::system().now();
    let hour =
        |hours: i64| jiff::Timestamp::from_microsecond((now + Dur::secs(hours * 3_600)).0).unwrap().strftime("%Y-%m-%d %H:%M").to_string();
    let window = json!({ "name": "hidden", "match": { "monitors": ["shop"] }, "once": { "from": hour(-1), "to": hour(2) } });
    let made = bob.post("/api/v1/maintenance", window).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    let told = word_for(&mut server, "ann@example.org").await;
    assert!(told.decoded().starts_with("Плановые работы: Касса\n\nИдут, до "), "{}", told.decoded());
    assert!(!told.decoded().contains("hidden") && !told.decoded().contains("shop"), "{}", told.decoded());
    // It ends early; and the address that is refused for good, once for each word, is gone.
    assert_eq!(bob.delete("/api/v1/maintenance/hidden").await.status, StatusCode::OK);
    let told = word_for(&mut server, "ann@example.org").await;
    assert!(told.decoded().starts_with("Плановые работы: Касса\n\nПлановые работы завершены."), "{}", told.decoded());
    until("the address that is refused is gone", async || (listed(&ann).await == [("ann@example.org".to_owned(), true)]).then_some(()))
        .await;

    // An administrator removes one, and that is noted without the address; nobody else may look.
    let path = "/api/v1/status-pages/public/subscribers";
    let id = ann.get(path).await.json()["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(bob.get(path).await.status, StatusCode::FORBIDDEN);
    assert_eq!(ann.delete(&format!("{path}/{id}")).await.status, StatusCode::OK);
    assert_eq!((listed(&ann).await, ann.delete(&format!("{path}/{id}")).await.status), (vec![], StatusCode::NOT_FOUND));
    let log = ann.get("/api/v1/audit").await.body;
    assert!(log.contains(&format!("DELETE {path}/{id}")) && !log.contains("ann@example.org"), "{log}");
    // A page that is removed takes its subscribers along: one of that name begins anew.
    subscribed(&app, scope, "eve").await;
    let page = json!({ "name": "public", "domain": "status.example.org", "subscribers": { "channel": "mail" } });
    assert_eq!(ann.delete("/api/v1/status-pages/public").await.status, StatusCode::OK);
    assert_eq!(ann.post("/api/v1/status-pages", page).await.status, StatusCode::CREATED);
    assert_eq!(listed(&ann).await, []);
    app.stop().await;
}

/// The next letter to that address that is no question.
async fn word_for(server: &mut MailServer, address: &str) -> Letter {
    loop {
        let next = letter(server).await;
        if next.to == json!([address]) && next.header("List-Unsubscribe").is_some() {
            return next;
        }
    }
}

#[tokio::test]
async fn strangers_learn_nothing_and_may_ask_a_few_times() {
    // Nobody takes letters here; what waits for one is seen in the store.
    let more = "status_pages:\n  - { name: public, domain: status.example.org, password: correct horse, subscribers: { channel: mail } }\n  - { name: other, domain: other.example.org, subscribers: { channel: mail } }\n  - { name: quiet }\n";
    let store = TestStore::sqlite().await;
    let app = TestApp::start_whole(&config(1, more), store.store.clone()).await;
    let scope = app.scope().await;
    let path = "/status/public/subscribers";
    assert_eq!(post(&app, path, "address=a@example.org").await.status, StatusCode::UNAUTHORIZED, "it is behind the page's password");
    assert_eq!(post(&app, "/status/quiet/subscribers", "address=a@example.org").await.status, StatusCode::NOT_FOUND);
    assert_eq!(post(&app, "/status/nowhere/subscribers", "address=a@example.org").await.status, StatusCode::NOT_FOUND);
    assert!(!get(&app, "/status/quiet").await.body.contains("<form"));
    let basic = [("authorization", "Basic eDpjb3JyZWN0IGhvcnNl")];
    for bad in ["", "address=", "address=nobody", "address=a%40example.org%0d%0aBcc%3A+b%40example.org", "address=a%40localhost"] {
        let answer = post_with(&app, path, bad, &basic).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad}: {}", answer.body);
    }
    let first = post_with(&app, path, "address=a%40example.org", &basic).await;
    assert_eq!(first.status, StatusCode::ACCEPTED);
    let more = app.store.subscribers().subscribers(scope, "public", None, 10).await.unwrap();
    assert_eq!(more.iter().map(|one| one.address.as_str()).collect::<Vec<_>>(), ["a@example.org"]);
    // A link of one page opens nothing on another; whoever follows one needs no password.
    let link = "z".repeat(43);
    let later = Clock::system().now() + Dur::secs(300);
    assert_eq!(
        app.store.subscribers().take_parcels(scope, "public", SubscriberKind::Email, &[hash_of(&link)], later).await.unwrap().len(),
        1
    );
    for page in ["other", "quiet", "nowhere"] {
        assert_eq!(post(&app, &format!("/status/{page}/subscription/{link}"), "").await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(get(&app, &format!("/status/public/subscription/{}", "w".repeat(43))).await.status, StatusCode::NOT_FOUND);
    assert_eq!(post(&app, &format!("/status/public/subscription/{link}"), "").await.status, StatusCode::OK);
    // One mailbox is asked three times an hour, on all pages and however it is written, whether it is known or not.
    let mut answers = Vec::new();
    for address in ["B@example.org", "b@Example.org", "b@example.org", "b@example.org"] {
        answers.push(post(&app, "/status/other/subscribers", &format!("address={address}")).await.status);
    }
    assert_eq!(answers, [[StatusCode::ACCEPTED; 3].as_slice(), &[StatusCode::TOO_MANY_REQUESTS]].concat());
    // And one client ten times.
    let again = post(&app, "/status/other/subscribers", "address=c%40example.org").await;
    assert_eq!(again.status, StatusCode::TOO_MANY_REQUESTS, "{}", again.body);
    app.stop().await;
}

#[tokio::test]
async fn a_webhook_is_asked_told_in_statuspages_form_and_gone_when_it_says_so() {
    let hook = Provider::start(|_| Ok(()), |_, _| (StatusCode::NO_CONTENT, String::new())).await;
    let page =
        "status_pages: [ { name: public, title: Example, domain: status.example.org, subscribers: { channel: mail, webhooks: true } } ]\n";
    let private = config(1, page).replace("listen: 127.0.0.1:0", "listen: 127.0.0.1:0, api_targets: private");
    let store = TestStore::sqlite().await;
    let app = TestApp::start_whole(&private, store.store.clone()).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;
    let scope = app.scope().await;
    assert!(get(&app, "/status/public").await.body.contains("name=\"webhook\""));
    let path = "/status/public/subscribers";
    for bad in ["webhook=", "webhook=file%3A%2F%2F%2Fetc%2Fpasswd", "webhook=http%3A%2F%2Fu%3Ap%40example.org%2F"] {
        assert_eq!(post(&app, path, bad).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
    let url = format!("{}/status?key=hunter2", hook.url);
    assert_eq!(post(&app, path, &form_urlencoded(&url)).await.status, StatusCode::ACCEPTED);
    let asked = hook.wait_for(1).await.remove(0);
    assert_eq!(
        (asked.method.as_str(), asked.path.as_str(), &asked.headers["content-type"]),
        ("POST", "/status?key=hunter2", &header::HeaderValue::from_static("application/json"))
    );
    let confirm = asked.json()["meta"]["confirm"].as_str().unwrap().to_owned();
    assert_eq!(asked.json()["page"], json!({ "id": "public", "name": "Example", "url": "https://status.example.org/" }));
    let tells = async |key: &str, kind: &str, text: &str| {
        let now = Clock::system().now();
        let body = json!({ "kind": kind, "title": "Orders are late", "text": text, "at": now.0 }).to_string();
        let word = PageWord { key: key.into(), body };
        assert!(app.store.subscribers().tell_page(scope, "public", &word, false, now).await.unwrap());
    };
    tells("message/1/0", "posted", "Nobody hears this.").await;
    let at = confirm.strip_prefix("https://status.example.org").unwrap().to_owned();
    assert_eq!(post(&app, &at, "").await.status, StatusCode::OK);
    assert_eq!(listed(&ann).await, [(url.clone(), true)]);
    tells("message/1/0/update/2/0", "updated", "We found it.").await;
    let told = hook.wait_for(2).await.remove(1);
    let (json, key) = (told.json(), told.headers["idempotency-key"].to_str().unwrap().to_owned());
    assert_eq!(
        (&json["incident"]["id"], &json["incident"]["name"], &json["incident"]["status"], &json["incident"]["incident_updates"][0]["body"]),
        (&json!("message/1/0"), &json!("Orders are late"), &json!("monitoring"), &json!("We found it."))
    );
    assert!(key.ends_with("/message/1/0/update/2/0"), "{key}");
    let leave = json["meta"]["unsubscribe"].as_str().unwrap().strip_prefix("https://status.example.org").unwrap().to_owned();
    // One that says that it is gone, is, after a few words.
    hook.otherwise(Act::Answer(StatusCode::GONE, vec![], String::new()));
    for nth in 0..3 {
        assert_eq!(listed(&ann).await.len(), 1, "{nth}");
        tells(&format!("message/{}/0", nth + 5), "posted", "x").await;
        hook.wait_for(3 + nth).await;
    }
    until("it is forgotten", async || listed(&ann).await.is_empty().then_some(())).await;
    assert_eq!(get(&app, &leave).await.status, StatusCode::NOT_FOUND);
    app.stop().await;

    // Without leave, nobody's webhook reaches into the node's own network.
    let store = TestStore::sqlite().await;
    let app = TestApp::start_whole(&config(1, page), store.store.clone()).await;
    let before = hook.calls().len();
    assert_eq!(post(&app, path, &form_urlencoded(&url)).await.status, StatusCode::ACCEPTED, "the answer tells nothing");
    let scope = app.scope().await;
    until("it was tried and refused", async || {
        let all = app.store.subscribers().subscribers(scope, "public", None, 10).await.unwrap();
        all.is_empty().then_some(())
    })
    .await;
    assert_eq!(hook.calls().len(), before);
    app.stop().await;
}

fn form_urlencoded(url: &str) -> String {
    url::form_urlencoded::Serializer::new(String::new()).append_pair("webhook", url).finish()
}
