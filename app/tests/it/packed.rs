//! Answers in gzip's form: who gets them, that they say the same, and what is never packed.

use crate::store_contract::world;
use crate::support::web::{LONG, TestWeb, open};
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use std::collections::BTreeMap;
use std::io::Read as _;
use watchkeeper::store::{Beside, Mandate, MonitorObject, TenantObjects};
use watchkeeper::web::new_push_token;

const GZIP: (&str, &str) = ("accept-encoding", "gzip, deflate, br");

/// An answer as it came over the wire.
struct Sent {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Sent {
    fn is_packed(&self) -> bool {
        self.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding == "gzip")
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if self.is_packed() {
            GzDecoder::new(&*self.body).read_to_string(&mut text).unwrap();
        } else {
            (&*self.body).read_to_string(&mut text).unwrap();
        }
        text
    }
}

async fn sent(web: &TestWeb, method: Method, path: &str, token: &str, headers: &[(&str, &str)], body: &str) -> Sent {
    let (parts, read) = open(web.address, method, path, Some(token), headers, Bytes::from(body.to_owned())).await.into_parts();
    let body = tokio::time::timeout(LONG, read.collect()).await.expect("a whole answer in time").unwrap().to_bytes();
    Sent { status: parts.status, headers: parts.headers, body }
}

async fn got(web: &TestWeb, path: &str, headers: &[(&str, &str)]) -> Sent {
    sent(web, Method::GET, path, &web.viewer, headers, "").await
}

/// Adds monitors to acme, as a source of their own.
async fn add(web: &TestWeb, source: &str, monitors: Vec<MonitorObject>) {
    let objects = TenantObjects { tenant: "acme".into(), monitors, ..TenantObjects::default() };
    web.world.store().apply(source, source, &[objects], Mandate::Alone, Beside::default(), web.clock.now()).await.unwrap();
}

#[tokio::test]
async fn a_large_answer_is_packed_for_whoever_asks_and_says_the_same() {
    let web = TestWeb::start().await;
    add(&web, "many", (0..200).map(|nth| world::monitor(&format!("many-{nth}"))).collect()).await;
    // One that is packed where it is, one on another thread, and one that somebody else packed long before.
    for path in ["/api/v1/monitors?limit=10", "/api/v1/monitors?limit=500", "/api/v1/openapi.json"] {
        let plain = got(&web, path, &[]).await;
        assert!(!plain.is_packed() && plain.status == StatusCode::OK, "{path}: who says nothing may not be able to unpack it");
        let packed = got(&web, path, &[GZIP]).await;
        assert!(packed.is_packed(), "{path}: {:?}", packed.headers);
        assert_eq!(packed.text(), plain.text(), "{path}");
        assert!(packed.body.len() * 3 < plain.body.len(), "{path}: {} of {} bytes", packed.body.len(), plain.body.len());
        for answer in [&plain, &packed] {
            assert_eq!(answer.headers[header::VARY], "accept-encoding", "{path}: a cache must not mix the two up");
            assert_eq!(answer.headers[header::CONTENT_LENGTH], answer.body.len().to_string(), "{path}");
            assert_eq!(answer.headers[header::CONTENT_TYPE], "application/json", "{path}");
        }
        assert!(!got(&web, path, &[("accept-encoding", "gzip;q=0, br")]).await.is_packed(), "{path}");
        let head = sent(&web, Method::HEAD, path, &web.viewer, &[GZIP], "").await;
        assert!(head.is_packed() && head.body.is_empty(), "{path}: {:?}", head.headers);
    }
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    let document: serde_json::Value = serde_json::from_str(&got(&web, "/api/v1/openapi.json", &[]).await.text()).unwrap();
    assert_eq!(document, serde_json::from_str::<serde_json::Value>(&std::fs::read_to_string(committed).unwrap()).unwrap());
    let small = got(&web, "/api/v1/me", &[GZIP]).await;
    assert!(!small.is_packed(), "{:?}", small.headers);
    let error = got(&web, "/api/v1/monitors/none", &[GZIP]).await;
    assert_eq!((error.status, error.is_packed()), (StatusCode::NOT_FOUND, false));
    web.stop().await;
}

#[tokio::test]
async fn streams_go_out_as_they_come() {
    let web = TestWeb::start().await;
    for path in ["/api/v1/stream/events", "/metrics"] {
        let answer = open(web.address, Method::GET, path, Some(&web.viewer), &[GZIP], Bytes::new()).await;
        assert_eq!((answer.status(), answer.headers().get(header::CONTENT_ENCODING)), (StatusCode::OK, None), "{path}");
    }
    web.stop().await;
}

#[tokio::test]
async fn what_shows_a_secret_is_not_packed() {
    let web = TestWeb::start().await;
    let token = new_push_token().unwrap();
    let labels: BTreeMap<String, String> = (0..40).map(|nth| (format!("label-{nth}"), "the same for all of them".to_owned())).collect();
    let backup = MonitorObject { kind: "push".into(), labels, push_token: Some(token.clone()), ..world::monitor("backup") };
    add(&web, "secret", vec![backup]).await;
    let path = "/api/v1/monitors/backup";
    let told = got(&web, path, &[GZIP]).await;
    assert!(told.is_packed() && !told.text().contains(&token), "a viewer is shown no token");
    let shown = sent(&web, Method::GET, path, &web.operator, &[GZIP], "").await;
    assert!(!shown.is_packed() && shown.text().contains(&token), "{:?}", shown.headers);

    // An answer to a change that is long enough, and says again what was sent.
    let names: Vec<String> = (0..60).map(|nth| format!("a monitor with a long name, {nth}")).collect();
    let silence = serde_json::json!({ "match": { "monitors": names }, "for": "1h", "comment": "all of them" }).to_string();
    let made = sent(&web, Method::POST, "/api/v1/silences", &web.operator, &[GZIP], &silence).await;
    assert!(made.status == StatusCode::CREATED && made.body.len() > 1_024, "{}: {}", made.status, made.text());
    assert!(!made.is_packed());
    assert!(got(&web, "/api/v1/silences", &[GZIP]).await.is_packed(), "the same as a list");
    web.stop().await;
}
