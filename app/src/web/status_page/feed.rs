//! What happened, as a feed: RSS 2.0 and Atom, each entry with an id that never changes.
//!
//! Readers show an entry once. So an end is an entry of its own, and so is work that was announced.

use super::markup::Markup;
use super::view::{AHEAD, View};
use super::words::Words;
use crate::channel::words::fill;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use watchkeeper_core::Micros;

/// Entries of a feed. Readers ask every few minutes or hours; more would only be sent again and again.
const ENTRIES_MAX: usize = 50;

/// One entry.
struct Entry {
    id: Uuid,
    at: Micros,
    title: String,
    text: String,
}

/// An id that is the same whenever the same things are named.
fn id_of(things: &[&str]) -> Uuid {
    let mut hash = Sha256::new();
    for thing in things {
        hash.update((thing.len() as u64).to_be_bytes());
        hash.update(thing.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Everything that is or was on the page, newest first.
fn entries(view: &View) -> Vec<Entry> {
    let words = Words::of(view.language);
    let mut all = Vec::new();
    for trouble in view.open.iter().chain(&view.past) {
        let title = format!("{}: {}", trouble.title, words.impact(trouble.impact));
        let text = fill(words.began, &[("time", &words.time_utc(trouble.began))]);
        all.push(Entry { id: id_of(&[&trouble.uid]), at: trouble.began, title: title.clone(), text });
        if let Some(ended) = trouble.ended {
            let (from, to) = words.between(trouble.began, ended);
            let text = fill(words.lasted, &[("from", &from), ("to", &to), ("length", &words.length(ended - trouble.began))]);
            all.push(Entry { id: id_of(&[&trouble.uid, "over"]), at: ended, title: fill(words.over, &[("title", &title)]), text });
        }
    }
    for message in view.messages.iter().chain(&view.past_messages) {
        let id = id_of(&[&view.slug, &message.title, &message.at.0.to_string()]);
        all.push(Entry { id, at: message.at, title: message.title.clone(), text: message.text.clone() });
        for update in &message.updates {
            let id = id_of(&[&view.slug, &message.title, &message.at.0.to_string(), &update.at.0.to_string(), &update.text]);
            all.push(Entry { id, at: update.at, title: message.title.clone(), text: update.text.clone() });
        }
    }
    for work in &view.work {
        // When it was announced is not on record: this is when it can have been at the earliest, and the same each time.
        let at = (work.until - AHEAD).min(view.now);
        let text = match work.from {
            Some(from) => {
                let (from, to) = words.between(from, work.until);
                fill(words.work_later, &[("from", &from), ("to", &to)])
            }
            None => fill(words.work_now, &[("time", &words.time_utc(work.until))]),
        };
        // The end is the same before and while it goes on.
        let id = id_of(&[&view.slug, "work", &work.until.0.to_string(), &work.monitors.join(" ")]);
        all.push(Entry { id, at, title: format!("{}: {}", words.work, work.titles.join(", ")), text });
    }
    all.sort_by_key(|entry| (std::cmp::Reverse(entry.at), entry.id));
    all.truncate(ENTRIES_MAX);
    all
}

/// When the newest entry is from; when the page was begun to be shown, if there is none.
fn newest(view: &View, entries: &[Entry]) -> Micros {
    entries.first().map_or(view.from, |entry| entry.at)
}

/// RSS 2.0. `base` is where the server is reached, without a slash at its end.
pub(super) fn rss(view: &View, base: &str, page: &str) -> String {
    let entries = entries(view);
    let mut out = Markup::default();
    out.raw("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<rss version=\"2.0\" xmlns:atom=\"http://www.w3.org/2005/Atom\"><channel><title>");
    out.text(&view.title).raw("</title><link>").text(page).raw("</link><description>");
    out.text(view.description.as_deref().unwrap_or(&view.title)).raw("</description><language>").text(view.language.as_str());
    out.raw("</language><ttl>5</ttl><atom:link rel=\"self\" type=\"application/rss+xml\" href=\"").text(base).raw("/status/");
    out.text(&view.slug).raw("/rss\"/><lastBuildDate>").text(&rfc_2822(newest(view, &entries))).raw("</lastBuildDate>");
    for entry in &entries {
        out.raw("<item><title>").text(&entry.title).raw("</title><link>").text(page).raw("</link><guid isPermaLink=\"false\">urn:uuid:");
        out.text(&entry.id.to_string()).raw("</guid><pubDate>").text(&rfc_2822(entry.at)).raw("</pubDate><description>");
        out.text(&entry.text).raw("</description></item>");
    }
    out.raw("</channel></rss>\n");
    out.into_string()
}

/// Atom (RFC 4287).
pub(super) fn atom(view: &View, base: &str, page: &str) -> String {
    let entries = entries(view);
    let mut out = Markup::default();
    out.raw("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<feed xmlns=\"http://www.w3.org/2005/Atom\" xml:lang=\"")
        .text(view.language.as_str());
    out.raw("\"><id>urn:uuid:").text(&id_of(&["status page", &view.slug]).to_string()).raw("</id><title>").text(&view.title);
    out.raw("</title><updated>").text(&rfc_3339(newest(view, &entries))).raw("</updated><author><name>").text(&view.title);
    out.raw("</name></author><link rel=\"alternate\" type=\"text/html\" href=\"").text(page);
    out.raw("\"/><link rel=\"self\" type=\"application/atom+xml\" href=\"").text(base).raw("/status/").text(&view.slug).raw("/atom\"/>");
    for entry in &entries {
        out.raw("<entry><id>urn:uuid:").text(&entry.id.to_string()).raw("</id><title>").text(&entry.title).raw("</title><updated>");
        out.text(&rfc_3339(entry.at)).raw("</updated><link rel=\"alternate\" type=\"text/html\" href=\"").text(page);
        out.raw("\"/><content type=\"text\">").text(&entry.text).raw("</content></entry>");
    }
    out.raw("</feed>\n");
    out.into_string()
}

fn seconds(at: Micros) -> Timestamp {
    Timestamp::from_second(at.0.div_euclid(1_000_000)).unwrap_or_default()
}

fn rfc_3339(at: Micros) -> String {
    seconds(at).to_string()
}

fn rfc_2822(at: Micros) -> String {
    seconds(at).strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_feeds_have_them() {
        let at = Micros(1_796_053_508_999_999);
        assert_eq!((rfc_3339(at).as_str(), rfc_2822(at).as_str()), ("2026-11-30T15:45:08Z", "Mon, 30 Nov 2026 15:45:08 +0000"));
    }

    #[test]
    fn ids_are_the_same_for_the_same_things_alone() {
        assert_eq!(id_of(&["a", "b"]), id_of(&["a", "b"]));
        assert_ne!(id_of(&["a", "b"]), id_of(&["ab"]));
        assert_eq!(id_of(&["a"]).get_version_num(), 8);
    }
}
