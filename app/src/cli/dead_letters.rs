//! `watchkeeper dead-letters …`: what could not be delivered, and sending it again.

use super::client::Client;
use super::incident::as_json;
use super::term::{Ink, View, cut, moment, safe_line};
use super::waterfall::wrap;
use crate::web::types::{DeadLetter, Done, Page};
use std::fmt::Write as _;

/// A page of the API, as large as it gives.
const PAGE: &str = "500";

/// Everything that was given up, newest first.
pub async fn list(client: &Client, json: bool, view: &View) -> anyhow::Result<String> {
    let items = all(client).await?;
    if json { as_json(&Page { items, next: None }) } else { Ok(table(&items, view)) }
}

/// Makes one due again.
pub async fn retry(client: &Client, id: i64) -> anyhow::Result<String> {
    let done: Done = client.post(&format!("/api/v1/dead-letters/{id}/retry"), &serde_json::json!({})).await?;
    Ok(format!("notice {id} is {}\n", safe_line(&done.message)))
}

/// Has what waits for another attempt of that channel tried at once.
pub async fn retry_channel(client: &Client, name: &str) -> anyhow::Result<String> {
    let path = client.path(&["api", "v1", "alert-channels", name, "retry"]);
    let done: Done = client.post(&path, &serde_json::json!({})).await?;
    Ok(format!("{}\n", safe_line(&done.message)))
}

/// Makes all of those due again that are there now, the oldest first, so that they are told in their order.
pub async fn retry_all(client: &Client) -> anyhow::Result<String> {
    let letters = all(client).await?;
    for letter in letters.iter().rev() {
        retry(client, letter.id).await?;
    }
    Ok(match letters.len() {
        0 => "Everything was delivered.\n".to_owned(),
        1 => "1 notice is due again\n".to_owned(),
        n => format!("{n} notices are due again\n"),
    })
}

async fn all(client: &Client) -> anyhow::Result<Vec<DeadLetter>> {
    client.all("/api/v1/dead-letters", &[("limit", PAGE)], "before").await
}

fn table(letters: &[DeadLetter], view: &View) -> String {
    if letters.is_empty() {
        return "Everything was delivered.\n".to_owned();
    }
    let term = view.term;
    let mut out = String::new();
    for letter in letters {
        let DeadLetter { id, channel, event, incident: _, summary, attempts, last_error, created_at } = letter;
        let attempts = if *attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") };
        let head = format!("{id:>6}  {}  {}", safe_line(channel), safe_line(event));
        let when = format!("decided {}, given up after {attempts}", moment(created_at.0, &view.zone));
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{}  {when}", term.paint(Ink::Bold, &cut(&head, term.beside(0))));
        let _ = writeln!(out, "        {}", cut(&safe_line(summary), term.beside(8)));
        for part in last_error.iter().flat_map(|error| wrap(&safe_line(error), term.columns - 8)) {
            let _ = writeln!(out, "        {}", term.paint(Ink::Red, &part));
        }
    }
    let again = "To send one again: watchkeeper dead-letters retry ID, or --all";
    let _ = writeln!(out, "{}", term.paint(Ink::Dim, again));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::page::tests::{NOW, plain};
    use crate::web::types::Time;

    #[test]
    fn each_says_what_it_would_have_said_and_why_nobody_took_it() {
        let letter = DeadLetter {
            id: 42,
            channel: "ops".into(),
            event: "opened".into(),
            incident: None,
            summary: "shop · down: the connection was refused".into(),
            attempts: 300,
            last_error: Some("the provider answered 403: the bot was removed from the group".into()),
            created_at: Time(NOW),
        };
        insta::assert_snapshot!(table(&[letter.clone(), DeadLetter { id: 7, attempts: 1, last_error: None, ..letter }], &plain()), @"
            42  ops  opened  decided 2026-11-22 03:20:00 UTC, given up after 300 attempts
                shop · down: the connection was refused
                the provider answered 403: the bot was removed from the group
             7  ops  opened  decided 2026-11-22 03:20:00 UTC, given up after 1 attempt
                shop · down: the connection was refused
        To send one again: watchkeeper dead-letters retry ID, or --all
        ");
        assert_eq!(table(&[], &plain()), "Everything was delivered.\n");
    }
}
