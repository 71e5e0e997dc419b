//! The live stream: no gap and no repetition, whatever breaks; nothing of other tenants.

use crate::support::web::{LONG, TestWeb, open};
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use watchkeeper::live::STREAM_BUFFER;
use watchkeeper::web::STREAMS_MAX;
use watchkeeper_core::Dur;

/// One event as it came.
#[derive(Clone, Debug, PartialEq)]
struct Event {
    kind: String,
    id: i64,
    data: serde_json::Value,
}

impl Event {
    fn number(&self) -> i64 {
        self.data["data"]["n"].as_i64().unwrap_or_else(|| panic!("no number: {self:?}"))
    }
}

/// A client that reads events.
struct Reader {
    body: Incoming,
    text: String,
}

impl Reader {
    async fn open(web: &TestWeb, token: &str, last: Option<i64>, in_query: bool) -> Self {
        let text = last.map(|id| id.to_string());
        let path = match &text {
            Some(id) if in_query => format!("/api/v1/stream/events?last_event_id={id}"),
            Some(_) | None => "/api/v1/stream/events".to_owned(),
        };
        let headers: Vec<(&str, &str)> = text.iter().filter(|_| !in_query).map(|id| ("last-event-id", id.as_str())).collect();
        let response = open(web.address, Method::GET, &path, Some(token), &headers, Bytes::new()).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                let Some(kind) = field("event:") else { continue };
                return Some(Event {
                    kind: kind.to_owned(),
                    id: field("id:").unwrap().parse().unwrap(),
                    data: serde_json::from_str(field("data:").unwrap()).unwrap(),
                });
            }
            let frame = tokio::time::timeout(LONG, self.body.frame()).await.expect("something comes in time")?;
            self.text.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
        }
    }

    /// The numbers of the next events, which are all states of monitors.
    async fn numbers(&mut self, count: usize) -> Vec<i64> {
        let mut numbers = vec![];
        for _ in 0..count {
            let event = self.next().await.expect("the stream goes on");
            assert_eq!(event.kind, "monitor_state");
            numbers.push(event.number());
        }
        numbers
    }
}

#[tokio::test]
async fn a_silence_is_told_when_it_is_asked_for_and_when_it_is_ended() {
    let web = TestWeb::start().await;
    let (mut reader, mut foreign) =
        (Reader::open(&web, &web.viewer, None, false).await, Reader::open(&web, &web.foreign, None, false).await);
    assert_eq!(reader.next().await.unwrap().kind, "connected");
    assert_eq!(foreign.next().await.unwrap().kind, "connected");
    let asked = r#"{"match":{"monitors":["shop"]},"for":"1h","comment":"deploy"}"#;
    let made = web.post_as("/api/v1/silences", &web.operator, asked).await.json();
    let created = reader.next().await.unwrap();
    assert_eq!(created.kind, "silence_created");
    let data = &created.data["data"];
    assert_eq!((&data["silence"], &data["ends_at"], &data["actor"]), (&made["uid"], &made["ends_at"], &"operator".into()));
    let path = format!("/api/v1/silences/{}", made["uid"].as_str().unwrap());
    assert_eq!(web.call(Method::DELETE, &path, Some(&web.admin), &[], Bytes::new()).await.status, StatusCode::OK);
    let ended = reader.next().await.unwrap();
    assert_eq!((ended.kind.as_str(), &ended.data["data"]["actor"]), ("silence_ended", &"admin".into()));
    assert!(ended.id > created.id);
    // The other tenant's first event is its own.
    let asked = r#"{"all":true,"for":"1h","comment":"move"}"#;
    let own = web.post_as("/api/v1/silences", &web.foreign, asked).await.json();
    assert_eq!(foreign.next().await.unwrap().data["data"]["silence"], own["uid"]);
    web.stop().await;
}

#[tokio::test]
async fn events_come_as_they_happen_and_only_the_tenants() {
    let mut web = TestWeb::start().await;
    let (shop, other) = (web.world.shop, web.world.other_shop);
    web.happens(shop, 0..3).await;
    let mut reader = Reader::open(&web, &web.viewer, None, false).await;
    let connected = reader.next().await.unwrap();
    assert_eq!(connected.kind, "connected");
    let foreign = web.happens(other, 100..110).await;
    let ids = web.happens(shop, 3..6).await;
    for (n, id) in (3..6).zip(ids) {
        let event = reader.next().await.unwrap();
        assert_eq!((event.kind.as_str(), event.id, event.number()), ("monitor_state", id, n));
        assert!(event.id > connected.id);
        assert!(event.data["at"].as_str().unwrap().ends_with('Z'));
    }
    let mut theirs = Reader::open(&web, &web.foreign, Some(0), false).await;
    assert_eq!(theirs.next().await.unwrap().kind, "resync", "whether the first event is still there cannot be told");
    assert_eq!(theirs.next().await.unwrap().kind, "connected");
    assert_eq!(theirs.numbers(10).await, (100..110).collect::<Vec<_>>());
    assert_eq!(foreign.len(), 10);
    web.stop().await;
}

#[tokio::test]
async fn a_reader_that_comes_back_misses_nothing_and_hears_nothing_twice() {
    let mut web = TestWeb::start().await;
    let shop = web.world.shop;
    let mut reader = Reader::open(&web, &web.viewer, None, false).await;
    let mut last = reader.next().await.unwrap().id;
    let mut heard = vec![];
    for round in 0..6 {
        web.happens(shop, round * 10..round * 10 + 4).await;
        for _ in 0..2 {
            let event = reader.next().await.unwrap();
            last = event.id;
            heard.push(event.number());
        }
        // The connection breaks in the middle of what was sent, and more happens before it is back.
        drop(reader);
        web.happens(shop, round * 10 + 4..round * 10 + 10).await;
        reader = Reader::open(&web, &web.viewer, Some(last), round % 2 == 0).await;
        let connected = reader.next().await.unwrap();
        assert_eq!((connected.kind.as_str(), connected.id), ("connected", last));
        for _ in 0..8 {
            let event = reader.next().await.unwrap();
            last = event.id;
            heard.push(event.number());
        }
    }
    assert_eq!(heard, (0..60).collect::<Vec<_>>());
    web.stop().await;
}

#[tokio::test]
async fn a_place_taken_before_anything_happened_misses_nothing_and_asks_for_the_lists() {
    let mut web = TestWeb::start().await;
    let mut reader = Reader::open(&web, &web.viewer, None, false).await;
    let place = reader.next().await.unwrap().id;
    drop(reader);
    let shop = web.world.shop;
    web.happens(shop, 0..2).await;
    let mut reader = Reader::open(&web, &web.viewer, Some(place), false).await;
    // It is 0 for everybody who came before anything happened, however long ago that was: what was deleted since left no trace.
    assert_eq!(reader.next().await.unwrap().kind, "resync");
    assert_eq!(reader.next().await.unwrap().kind, "connected");
    assert_eq!(reader.numbers(2).await, [0, 1]);
    web.stop().await;
}

#[tokio::test]
async fn events_of_another_node_come_without_a_word_from_it() {
    let mut web = TestWeb::start().await;
    let mut reader = Reader::open(&web, &web.viewer, None, false).await;
    reader.next().await.unwrap();
    let shop = web.world.shop;
    web.commit_events(shop, 0..3).await;
    assert_eq!(reader.numbers(3).await, [0, 1, 2]);
    web.stop().await;
}

#[tokio::test]
async fn a_slow_reader_loses_nothing() {
    let mut web = TestWeb::start().await;
    let shop = web.world.shop;
    let mut reader = Reader::open(&web, &web.viewer, None, false).await;
    reader.next().await.unwrap();
    // More than the memory of what was published holds, while the reader does not read.
    let many = STREAM_BUFFER as i64 + 500;
    for from in (0..many).step_by(500) {
        web.happens(shop, from..(from + 500).min(many)).await;
    }
    assert_eq!(reader.numbers(many as usize).await, (0..many).collect::<Vec<_>>());
    web.stop().await;
}

#[tokio::test]
async fn a_place_that_the_log_does_not_have_is_said() {
    let mut web = TestWeb::start().await;
    let shop = web.world.shop;
    let ids = web.happens(shop, 0..3).await;
    let mut reader = Reader::open(&web, &web.viewer, Some(ids[2] + 1_000), false).await;
    let resync = reader.next().await.unwrap();
    assert_eq!((resync.kind.as_str(), resync.id), ("resync", ids[2]));
    assert_eq!(reader.next().await.unwrap().kind, "connected");
    web.happens(shop, 3..4).await;
    assert_eq!(reader.numbers(1).await, [3]);
    web.stop().await;
}

#[tokio::test]
async fn a_place_before_what_the_log_still_has_is_said() {
    let mut web = TestWeb::start().await;
    let shop = web.world.shop;
    let ids = web.happens(shop, 0..3).await;
    web.world.housekeep(web.clock.now() + Dur::secs(7_200)).await;
    web.happens(shop, 3..4).await;
    let mut reader = Reader::open(&web, &web.viewer, Some(ids[0]), false).await;
    assert_eq!(reader.next().await.unwrap().kind, "resync", "events 1 and 2 are gone");
    assert_eq!(reader.next().await.unwrap().kind, "connected");
    assert_eq!(reader.numbers(1).await, [3]);
    web.stop().await;
}

#[tokio::test]
async fn there_are_only_so_many_streams_and_a_place_is_given_back() {
    let web = TestWeb::start().await;
    let mut readers = vec![];
    for _ in 0..STREAMS_MAX {
        readers.push(Reader::open(&web, &web.viewer, None, false).await);
    }
    let refused = web.get("/api/v1/stream/events").await;
    assert_eq!((refused.status, refused.error_code().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "too_many_streams"));
    assert_eq!(web.get("/api/v1/monitors").await.status, StatusCode::OK, "others are served");
    drop(readers.pop());
    let again = async {
        while open(web.address, Method::GET, "/api/v1/stream/events", Some(&web.viewer), &[], Bytes::new()).await.status() != StatusCode::OK
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, again).await.expect("the place of a reader that went away is given back");
    web.stop().await;
}

#[tokio::test]
async fn a_stream_ends_with_the_server() {
    let web = TestWeb::start().await;
    let mut reader = Reader::open(&web, &web.viewer, None, false).await;
    reader.next().await.unwrap();
    let ends = tokio::spawn(async move { reader.next().await });
    web.stop().await;
    assert_eq!(ends.await.unwrap(), None);
}
