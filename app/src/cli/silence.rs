//! `watchkeeper silence …`: nobody is told of what it matches, until it ends.

use super::client::Client;
use super::ids::pick;
use super::incident::as_json;
use super::term::{Ink, View, cut, length, moment, moment_near, pad, safe_line};
use crate::config::decode::nearest;
use crate::short_id::short;
use crate::web::types::{Done, Match, Monitor, NewSilence, Page, Silence};
use std::fmt::Write as _;

/// A page of the API, as large as it gives.
const PAGE: &str = "500";

/// Asks for a silence.
pub async fn add(client: &Client, asked: &NewSilence, json: bool, view: &View) -> anyhow::Result<String> {
    let made: Silence = client.post("/api/v1/silences", asked).await?;
    if json {
        return as_json(&made);
    }
    let monitors = match made.monitors {
        None => String::new(),
        Some(0) => format!(", about no monitor that is watched now{}", meant(client, &made.about).await?),
        Some(n) => format!(", about {}", crate::counted(n, "monitor")),
    };
    let (id, end) = (short(&made.uid), moment(made.ends_at.0, &view.zone));
    Ok(format!("silence {id} until {end}: {}{monitors}\n", about(&made.about)))
}

/// What may have been meant by a silence that is about nothing: the nearest name to the first that no monitor has.
async fn meant(client: &Client, about: &Match) -> anyhow::Result<String> {
    let monitors: Vec<Monitor> = client.all("/api/v1/monitors", &[("limit", PAGE)], "after").await?;
    let mut named = about.monitors.iter().filter(|name| !name.contains('*'));
    let near = named.find_map(|name| nearest(name, monitors.iter().map(|monitor| monitor.name.as_str())));
    Ok(near.map_or_else(|| ": check the spelling".to_owned(), |name| format!("; did you mean {}?", safe_line(&name))))
}

/// Those that last.
pub async fn list(client: &Client, json: bool, view: &View) -> anyhow::Result<String> {
    let items = lasting(client).await?;
    if json { as_json(&Page { items, next: None }) } else { Ok(table(&items, view)) }
}

/// Ends one, by its id or a part of it.
pub async fn end(client: &Client, part: &str) -> anyhow::Result<String> {
    let silences = lasting(client).await?;
    let silence = pick(&silences, part, "silence that lasts", |silence| (&silence.uid, about(&silence.about)))?;
    let done: Done = client.delete(&format!("/api/v1/silences/{}", silence.uid)).await?;
    Ok(format!("silence {} ({}) {}\n", short(&silence.uid), about(&silence.about), safe_line(&done.message)))
}

async fn lasting(client: &Client) -> anyhow::Result<Vec<Silence>> {
    // A tenant has no more than one page of them.
    let page: Page<Silence> = client.page("/api/v1/silences", &[]).await?;
    Ok(page.items)
}

/// What it is about, on one line.
fn about(matcher: &Match) -> String {
    let Match { monitors, labels, kinds, rules, severities } = matcher;
    let mut parts = Vec::new();
    if !monitors.is_empty() {
        parts.push(monitors.join(", "));
    }
    parts.extend(labels.iter().map(|(name, value)| format!("{name}={value}")));
    for (word, values) in [("kind", kinds), ("rule", rules), ("severity", severities)] {
        if !values.is_empty() {
            parts.push(format!("{word} {}", values.join(", ")));
        }
    }
    if parts.is_empty() { "everything".to_owned() } else { safe_line(&parts.join("; ")) }
}

fn table(silences: &[Silence], view: &View) -> String {
    if silences.is_empty() {
        return "Nothing is silenced.\n".to_owned();
    }
    let term = view.term;
    let titles = format!("{:<8}  {:<14}  {:>8}  {}", "id", "until", "left", "what, by whom, why");
    let mut out = format!("{}\n", term.paint(Ink::Bold, &titles));
    for silence in silences {
        let until = moment_near(silence.ends_at.0, view.now, &view.zone);
        let left = length(silence.ends_at.0 - view.now);
        let room = term.beside(8 + 2 + 14 + 2 + 8 + 2);
        let words = format!("{}, by {}: {}", about(&silence.about), silence.author, silence.comment);
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{}  {}  {left:>8}  {}", pad(short(&silence.uid), 8), pad(&until, 14), cut(&safe_line(&words), room));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::page::tests::{NOW, plain};
    use crate::web::types::Time;
    use watchkeeper_core::Dur;

    #[test]
    fn the_list_says_what_until_when_by_whom_and_why() {
        let silence = |uid: &str, about: Match, left: i64, comment: &str| Silence {
            uid: uid.into(),
            about,
            starts_at: Time(NOW - Dur::secs(60)),
            ends_at: Time(NOW + Dur::secs(left)),
            author: "ann".into(),
            comment: comment.into(),
            monitors: None,
        };
        let some = Match {
            monitors: vec!["shop*".into(), "api".into()],
            labels: [("team".to_owned(), "web".to_owned())].into(),
            rules: vec!["down".into()],
            ..Match::default()
        };
        let silences = [
            silence("77777777-7777-4777-8777-0000deadbeef", some, 2_400, "deploy\x1b[2J"),
            silence("77777777-7777-4777-8777-0000deadbee0", Match::default(), 90_000, "moving house"),
        ];
        insta::assert_snapshot!(table(&silences, &plain()), @"
        id        until               left  what, by whom, why
        deadbeef  04:00:00             40m  shop*, api; team=web; rule down, by ann: deploy·[2J
        deadbee0  11-23 04:20:00     1d 1h  everything, by ann: moving house
        ");
        assert_eq!(table(&[], &plain()), "Nothing is silenced.\n");
    }
}
