//! The letters to subscribers, and what their webhooks get: what they say, and the addresses in them. Pure.

use super::super::types::Time;
use super::news::{News, NewsKind};
use super::words::Words;
use crate::channel::email::Post;
use crate::channel::words::fill;
use crate::config::{PageSubscribers, StatusPageConfig};
use crate::foreign::on_one_line;
use crate::store::PageParcel;
use lettre::Address;
use serde_json::{Value, json};
use watchkeeper_core::Micros;

/// Where people find a page, and where a link of its subscribers leads.
fn page_address(page: &StatusPageConfig, subscribers: &PageSubscribers) -> String {
    match &page.domain {
        Some(domain) => format!("https://{domain}/"),
        None => format!("{}/status/{}", subscribers.url, page.slug),
    }
}

fn link_address(page: &StatusPageConfig, subscribers: &PageSubscribers, link: &str) -> String {
    format!("{}/status/{}/subscription/{link}", subscribers.url, page.slug)
}

/// The same for every attempt to tell a subscriber one thing.
fn key_of(parcel: &PageParcel) -> String {
    match &parcel.word {
        None => format!("subscriber/{}/{}", parcel.subscriber, parcel.created_at.0),
        Some(word) => format!("subscriber/{}/{}", parcel.subscriber, word.key),
    }
}

/// What goes to a subscriber by mail; `link` is the secret of what it can do.
pub(crate) fn letter(
    page: &StatusPageConfig,
    subscribers: &PageSubscribers,
    parcel: &PageParcel,
    news: Option<&News>,
    (to, link): (Address, &str),
    now: Micros,
) -> Post {
    let words = Words::of(page.language);
    let (title, address) = (on_one_line(&page.title), page_address(page, subscribers));
    let link = link_address(page, subscribers, link);
    let named = [("title", title.as_str()), ("page", &address), ("link", &link)];
    let (subject, text, leave) = match news {
        None => (fill(words.letter_confirm, &named), fill(words.letter_confirm_text, &named), None),
        Some(news) => {
            let when = words.time_utc(Micros(news.at));
            let end = fill(words.letter_end, &named);
            let text = format!("{}\n\n{}\n\n{when}\n\n-- \n{end}", news.title, news.text);
            (format!("[{title}] {}", news.title), text, Some(link.clone()))
        }
    };
    Post { to, subject, text, key: key_of(parcel), leave, at: now }
}

/// What goes to a subscriber's webhook, in Statuspage's form as far as that has words for it; and its key.
pub(crate) fn document(
    page: &StatusPageConfig,
    subscribers: &PageSubscribers,
    parcel: &PageParcel,
    news: Option<&News>,
    link: &str,
) -> (String, Value) {
    let link = link_address(page, subscribers, link);
    let about = json!({ "id": page.slug, "name": on_one_line(&page.title), "url": page_address(page, subscribers) });
    let document = match (news, &parcel.word) {
        (Some(news), Some(word)) => {
            // An update and an end belong to what was posted first.
            let id = word.key.split_once("/update/").map_or(word.key.as_str(), |(of, _)| of).trim_end_matches("/over");
            let at = Time(Micros(news.at));
            let update = json!({ "id": word.key, "status": status(news.kind), "body": news.text, "created_at": at });
            json!({
                "meta": { "unsubscribe": link },
                "page": about,
                "incident": { "id": id, "name": news.title, "status": status(news.kind), "updated_at": at, "incident_updates": [update] },
            })
        }
        (None, _) | (_, None) => json!({ "meta": { "confirm": link }, "page": about }),
    };
    (key_of(parcel), document)
}

/// Statuspage's word.
const fn status(kind: NewsKind) -> &'static str {
    match kind {
        NewsKind::Posted => "investigating",
        NewsKind::Updated => "monitoring",
        NewsKind::Over => "resolved",
        NewsKind::Planned => "scheduled",
        NewsKind::Begun => "in_progress",
        NewsKind::Ended => "completed",
    }
}
