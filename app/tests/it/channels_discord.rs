//! Discord against a stand-in that checks the form of every call.

use crate::support::discord::{self, NUMBER, TOKEN};
use crate::support::provider::Act;
use crate::support::telling::{MATRIX, NOW, attempt, built, delivery, no_secret, one, problems, tell, tell_of, tell_within, word};
use axum::http::StatusCode;
use std::sync::Arc;
use std::time::Duration;
use watchkeeper::channel::content::Content;
use watchkeeper::channel::{self, Accepted, Common, Message, RefusedClass, Retry, Style};
use watchkeeper::clock::Clock;
use watchkeeper::net::Net;
use watchkeeper_core::Dur;
use watchkeeper_core::verdict::NoticeEvent;

fn yaml(url: &str, keys: &str) -> String {
    format!(r#"{{ name: ops{keys}, discord: {{ url: "{url}/api/webhooks/{NUMBER}/{TOKEN}" }} }}"#)
}

#[tokio::test]
async fn every_status_of_discord_means_what_it_should() {
    let provider = discord::start().await;
    let channel = built(&yaml(&provider.url, ""));
    for (status, asked, class, retry) in MATRIX {
        let (class, retry) = if *status == 404 { (RefusedClass::Auth, Retry::Never) } else { (*class, *retry) };
        let headers = asked.map(|a| ("retry-after", a.to_owned())).into_iter().collect();
        let body = format!(r#"{{"message":"Something about {TOKEN}","code":0}}"#);
        provider.then(Act::Answer(StatusCode::from_u16(*status).unwrap(), headers, body));
        let refused = tell(&*channel).await.expect_err("not 2xx");
        assert_eq!((refused.class, refused.retry), (class, retry), "{status} {asked:?}");
        assert!(refused.text.contains(&status.to_string()) && refused.text.contains("Something about"), "{}", refused.text);
    }
    for (answer, pause) in [
        (discord::too_many(Some(0.75), &[("retry-after", "1")]), Dur::millis(750)),
        (discord::too_many(None, &[("x-ratelimit-reset-after", "2.5"), ("retry-after", "3")]), Dur::millis(2_500)),
        (discord::too_many(Some(1e9), &[]), Dur::secs(3_600)),
    ] {
        provider.then(answer);
        let refused = tell(&*channel).await.expect_err("too many");
        assert_eq!((refused.class, refused.retry), (RefusedClass::RateLimited, Retry::After(pause)));
    }
    provider.then(Act::Answer(StatusCode::NO_CONTENT, vec![], String::new()));
    assert_eq!(tell(&*channel).await, Ok(Accepted::default()), "204 is a yes without an id");
    provider.then(Act::CutOff(StatusCode::OK, r#"{"id":"17","ty"#));
    assert_eq!(tell(&*channel).await, Ok(Accepted::default()), "what breaks off behind its yes is a yes");
    assert!(tell(&*channel).await.expect("a good message").provider_id.is_some_and(|id| id.parse::<u64>().is_ok()));
    assert_eq!(provider.finish().len(), MATRIX.len() + 6, "one call for one attempt");
}

#[tokio::test]
async fn every_message_is_within_discords_limits() {
    let provider = discord::start().await;
    for keys in ["", ", template: v-insight", ", template: stardust", ", language: ru"] {
        let channel = built(&yaml(&provider.url, keys));
        for event in NoticeEvent::ALL {
            tell_of(&*channel, event, Some("1")).await.expect("taken");
        }
        let long = "*_<@everyone>🔴\n".repeat(3_000);
        let message =
            Message { monitor: long.clone(), summary: long.clone(), target: long.clone(), rule: long, ..word(NoticeEvent::Opened) };
        attempt(&*channel, delivery(Content::Incident(message), None, Duration::from_secs(10))).await.expect("taken");
        let empty = Message { target: String::new(), summary: String::new(), ..word(NoticeEvent::Opened) };
        attempt(&*channel, delivery(Content::Incident(empty), None, Duration::from_secs(10))).await.expect("taken");
    }
    let calls = provider.finish();
    // After every event, a long message and an empty one with the first keys.
    let seed = calls[NoticeEvent::ALL.len() + 2].json();
    assert_eq!(seed["embeds"][0]["title"], "🔴 Monitor Down Alert");
    assert_eq!(seed["embeds"][0]["color"], 0xff_00_00);
    assert_eq!(seed["embeds"][0]["fields"][2]["value"], "open");
}

#[tokio::test]
async fn silence_and_closed_doors_are_tried_again() {
    let provider = discord::start().await;
    provider.otherwise(Act::Hang);
    let refused = tell_within(&*built(&yaml(&provider.url, "")), Duration::from_millis(300)).await.expect_err("silence");
    assert_eq!((refused.class, refused.retry), (RefusedClass::Timeout, Retry::Soon), "{}", refused.text);
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let refused = tell(&*built(&yaml(&closed, ""))).await.expect_err("nobody listens");
    assert_eq!((refused.class, refused.retry), (RefusedClass::Network, Retry::Soon), "{}", refused.text);
}

#[tokio::test]
async fn a_wrong_token_is_refused_by_the_stand_in() {
    let provider = discord::start().await;
    let stranger = built(&format!(r#"{{ name: a, discord: {{ url: "{}/api/webhooks/{NUMBER}/wrong" }} }}"#, provider.url));
    assert_eq!(tell(&*stranger).await.expect_err("401").class, RefusedClass::Auth);
    assert!(provider.calls()[0].fault.is_some());
}

#[tokio::test]
async fn a_test_message_is_taken() {
    let provider = discord::start().await;
    let clock = Clock::system();
    let net = Arc::new(Net::system(clock.clone()));
    let accepted = channel::send_test(&net, &clock, "ops", &one(&yaml(&provider.url, "")), Style::default()).await.expect("it works");
    assert_eq!(accepted.provider_id.as_deref(), Some("9000"));
    assert!(provider.finish()[0].json()["embeds"][0]["description"].as_str().unwrap().contains("The channel ops works"));
}

#[test]
fn nothing_shown_or_stored_holds_the_token_but_the_hash_sees_it() {
    let kind = one(&yaml("https://discord.example.org", ""));
    let common = Common::default();
    no_secret(&format!("{kind:?} {} {} {NOW:?}", kind.canonical(&common), kind.budget_key()));
    let other = one(&format!(r#"{{ name: ops, discord: {{ url: "https://discord.example.org/api/webhooks/{NUMBER}/other" }} }}"#));
    assert_ne!(kind.hash(&common), other.hash(&common));
    assert_eq!(kind.budget_key(), format!("discord/{NUMBER}"));
    let caps = kind.build("ops", Style::default()).caps();
    assert_eq!(caps.own.as_slice(), [(5, Dur::secs(2)), (30, Dur::secs(60))]);
    for (url, told) in
        [("", "`url` is empty"), ("https://discord.com/channels/1/2", "not the URL of a Discord webhook"), (TOKEN, "not the URL")]
    {
        let found = problems(&format!(r#"{{ name: a, discord: {{ url: "{url}" }} }}"#));
        assert!(found.contains(told), "{found}");
        no_secret(&found);
    }
}
