//! `watchkeeper status`: what a running server holds to be true, as a table a person likes to read; `healthcheck` for
//! containers; `token create`.
//!
//! What is wrong comes first: what the node says of itself, the summary, then open incidents, then monitors from down to up. Every state has a word and a
//! shape of its own, so that it can be read without colour.

use super::client::Client;
use super::incident;
use super::term::{Ink, Term, cut, length, pad, safe_line, time};
use crate::clock::Clock;
use crate::store::{Store, TenantScope};
use crate::web::auth::{Role, issue_token};
use crate::web::types::{HealthBody, Heartbeat, Incident, Monitor, ReadyBody};
use anyhow::{Context as _, bail};
use secrecy::SecretString;
use serde::Serialize;
use std::fmt::Write as _;
use std::net::SocketAddr;
use watchkeeper_core::Micros;

/// A page of the API, as large as it gives.
const PAGE: &str = "500";

/// A monitor's name takes at most this part of the width, so that there is room for why.
const NAME_SHARE: (usize, usize) = (2, 5);

/// What `status` shows, and prints as it is with `--json`.
#[derive(Debug, Serialize)]
pub struct Status {
    /// What `/ready` says: whether the node that answered does its work, and what somebody should look at.
    pub node: ReadyBody,
    /// Monitors by state.
    pub summary: Summary,
    /// Open and acknowledged incidents, newest first.
    pub incidents: Vec<Incident>,
    /// Monitors by name.
    pub monitors: Vec<Monitor>,
}

/// Monitors by what is shown of them; a paused one counts as paused only.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// All.
    pub monitors: usize,
    /// Failing.
    pub down: usize,
    /// Failing, not yet often enough.
    pub pending: usize,
    /// Reachable, but a rule is breached.
    pub degraded: usize,
    /// Nobody could look.
    pub unknown: usize,
    /// Fine.
    pub up: usize,
    /// Not watched for now.
    pub paused: usize,
    /// In any of these states, but nobody is told: silenced, or in maintenance.
    pub muted: usize,
}

/// Asks the server and shows what it says: a table, or one JSON object.
pub async fn status(client: &Client, json: bool, term: Term, clock: &Clock) -> anyhow::Result<String> {
    let node = client.ready().await?;
    let monitors: Vec<Monitor> = client.all("/api/v1/monitors", &[("limit", PAGE)], "after").await?;
    let status = Status { node, summary: summary(&monitors), incidents: incident::lasting(client).await?, monitors };
    if json {
        let text = serde_json::to_string_pretty(&status).context("the status makes no JSON")?;
        return Ok(text + "\n");
    }
    Ok(render(&status, clock.now(), term))
}

/// Asks the server whether it lives, for a container's health check.
pub async fn healthcheck(listen: SocketAddr, clock: &Clock) -> anyhow::Result<String> {
    let body: HealthBody = Client::open(listen, clock.clone())?.get("/health", &[]).await?;
    Ok(format!("{}\n", body.status))
}

/// Makes a token of a tenant (by slug). What is returned is shown once.
pub async fn token_create(store: &dyn Store, tenant: &str, name: &str, role: &str, most: i64, now: Micros) -> anyhow::Result<SecretString> {
    let Some(role) = Role::from_word(role) else {
        bail!("`{role}` is not a role; accepted are {}", Role::ALL.map(Role::as_str).join(", "));
    };
    let tenants = store.tenants().await?;
    let Some((id, _)) = tenants.iter().find(|(_, slug)| slug == tenant) else {
        let known: Vec<&str> = tenants.iter().map(|(_, slug)| slug.as_str()).collect();
        bail!(
            "there is no tenant `{tenant}`; there are {}",
            if known.is_empty() { "none yet: start the server once".to_owned() } else { known.join(", ") }
        );
    };
    Ok(issue_token(store, TenantScope(*id), name, role, None, None, most, now).await?)
}

/// What is shown of a monitor, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shown {
    Down,
    Pending,
    Degraded,
    Unknown,
    Paused,
    Up,
}

impl Shown {
    fn of(monitor: &Monitor) -> Self {
        if monitor.paused {
            return Self::Paused;
        }
        match monitor.health.as_str() {
            "down" => Self::Down,
            "pending" => Self::Pending,
            "degraded" => Self::Degraded,
            "up" => Self::Up,
            // Also a word of a newer server.
            _ => Self::Unknown,
        }
    }

    const fn look(self) -> (&'static str, &'static str, Ink) {
        match self {
            Self::Down => ("✖", "down", Ink::Red),
            Self::Pending => ("◔", "pending", Ink::Yellow),
            Self::Degraded => ("◐", "degraded", Ink::Yellow),
            Self::Unknown => ("?", "unknown", Ink::Magenta),
            Self::Paused => ("‖", "paused", Ink::Dim),
            Self::Up => ("●", "up", Ink::Green),
        }
    }
}

fn summary(monitors: &[Monitor]) -> Summary {
    let mut summary = Summary { monitors: monitors.len(), ..Summary::default() };
    for monitor in monitors {
        *match Shown::of(monitor) {
            Shown::Down => &mut summary.down,
            Shown::Pending => &mut summary.pending,
            Shown::Degraded => &mut summary.degraded,
            Shown::Unknown => &mut summary.unknown,
            Shown::Paused => &mut summary.paused,
            Shown::Up => &mut summary.up,
        } += 1;
        summary.muted += usize::from(!monitor.mutes.is_empty());
    }
    summary
}

fn render(status: &Status, now: Micros, term: Term) -> String {
    let mut out = String::new();
    let told = [(&status.node.problems, "✖ not well", Ink::Red), (&status.node.warnings, "! warning", Ink::Yellow)];
    for (said, mark, ink) in told {
        for text in said {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{}: {}", term.paint(ink, mark), safe_line(text));
        }
    }
    out.push_str(&head(status, term));
    if !status.incidents.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "\n{}", term.paint(Ink::Bold, "Open incidents"));
        for incident in &status.incidents {
            incident_line(incident, now, term, &mut out);
        }
    }
    if !status.monitors.is_empty() {
        monitor_table(&status.monitors, now, term, &mut out);
    }
    out
}

/// `3 monitors: 1 down, 2 up; 1 open incident`.
fn head(status: &Status, term: Term) -> String {
    let Summary { monitors, down, pending, degraded, unknown, up, paused, muted } = status.summary;
    if monitors == 0 {
        return "No monitors yet: name some under `monitors:` in the configuration file.\n".to_owned();
    }
    let counted = [
        (Shown::Down, down),
        (Shown::Pending, pending),
        (Shown::Degraded, degraded),
        (Shown::Unknown, unknown),
        (Shown::Up, up),
        (Shown::Paused, paused),
    ];
    let counts: Vec<String> = counted
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(shown, count)| {
            let (_, word, ink) = shown.look();
            term.paint(ink, &format!("{count} {word}"))
        })
        .collect();
    let mut incidents = match status.incidents.len() {
        0 => "no open incident".to_owned(),
        1 => "1 open incident".to_owned(),
        n => format!("{n} open incidents"),
    };
    match status.incidents.iter().filter(|incident| incident.status == "acknowledged").count() {
        0 => {}
        n => incidents.push_str(&format!(", {n} acknowledged")),
    }
    let muted = if muted > 0 { format!("; {muted} muted") } else { String::new() };
    format!("{monitors} {}: {}; {incidents}{muted}\n", if monitors == 1 { "monitor" } else { "monitors" }, counts.join(", "))
}

fn incident_line(incident: &Incident, now: Micros, term: Term, out: &mut String) {
    let ink = if incident.severity == "critical" { Ink::Red } else { Ink::Yellow };
    let what = format!("{} · {}", safe_line(&incident.monitor.name), safe_line(&incident.rule));
    let for_how_long = length(now - incident.opened_at.0);
    let status = match (&incident.acknowledged_by, incident.status.as_str()) {
        (Some(who), "acknowledged") => format!(", acknowledged by {}", safe_line(who)),
        (Some(_) | None, _) => String::new(),
    };
    // Mark, severity, its age and the blanks between.
    let room = term.beside(2 + 10 + 8 + 2);
    let told = cut(&format!("{what}{status}: {}", safe_line(&incident.summary)), room);
    let severity = term.paint(ink, &format!("! {:<9}", cut(&incident.severity, 9)));
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{severity} {for_how_long:>8}  {told}");
}

fn monitor_table(monitors: &[Monitor], now: Micros, term: Term, out: &mut String) {
    let mut rows: Vec<(Shown, &Monitor)> = monitors.iter().map(|m| (Shown::of(m), m)).collect();
    rows.sort_by(|(a, x), (b, y)| (a, &x.name).cmp(&(b, &y.name)));
    let longest = monitors.iter().map(|m| m.name.chars().count()).max().unwrap_or_default();
    let name = longest.min(term.table.map_or(usize::MAX, |columns| columns * NAME_SHARE.0 / NAME_SHARE.1)).max(7);
    // Mark and state, since, last, and the blanks between.
    let room = term.beside(10 + 1 + name + 2 + 8 + 2 + 8 + 2);
    let titles = format!("{:<10} {:<name$}  {:>8}  {:>8}  {}", "  state", "monitor", "since", "last", "why, or what");
    // Writing to a String cannot fail.
    let _ = writeln!(out, "\n{}", term.paint(Ink::Bold, titles.trim_end()));
    for (shown, monitor) in rows {
        let (shape, word, ink) = shown.look();
        let state = term.paint(ink, &format!("{:<10}", format!("{shape} {word}")));
        let since = monitor.since.map_or_else(|| "–".to_owned(), |since| length(now - since.0));
        let last = monitor.last.as_ref().and_then(took).map_or_else(|| "–".to_owned(), time);
        let shown_name = pad(&cut(&safe_line(&monitor.name), name), name);
        let bad = [monitor.why.clone().filter(|_| shown != Shown::Up), flapping(monitor)].into_iter().flatten().map(|why| safe_line(&why));
        let bad: Vec<String> = bad.collect();
        let last_column = match (bad.is_empty(), muted(monitor, now)) {
            (false, muted) => cut(&bad.into_iter().chain(muted).collect::<Vec<_>>().join("; "), room),
            (true, Some(muted)) => term.paint(Ink::Dim, &cut(&muted, room)),
            (true, None) => term.paint(Ink::Dim, &cut(&safe_line(&monitor.target), room)),
        };
        let _ = writeln!(out, "{state} {shown_name}  {since:>8}  {last:>8}  {last_column}");
    }
}

/// That it flaps, which is why it may be well now and an incident of it goes on.
fn flapping(monitor: &Monitor) -> Option<String> {
    (!monitor.flapping.is_empty()).then(|| format!("flapping: {}", monitor.flapping.join(", ")))
}

/// What keeps it from being told, and for how much longer: of several, what lasts longest.
fn muted(monitor: &Monitor, now: Micros) -> Option<String> {
    let mute = monitor.mutes.iter().max_by_key(|mute| mute.until)?;
    let left = length(mute.until.0 - now);
    Some(match (&mute.author, &mute.comment) {
        (Some(author), Some(comment)) => format!("silenced {left} more by {}: {}", safe_line(author), safe_line(comment)),
        (Some(_) | None, _) => format!("{} {} {left} more", safe_line(&mute.by), safe_line(&mute.id)),
    })
}

/// How long the newest attempt took; a push took no time of ours.
fn took(beat: &Heartbeat) -> Option<u64> {
    u64::try_from(beat.total_us).ok().filter(|us| *us > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::types::{MonitorRef, Mute, Time};
    use std::collections::BTreeMap;
    use watchkeeper_core::Dur;

    const NOW: Micros = Micros(1_770_000_000_000_000);
    const PLAIN: Term = Term::plain(80);

    fn ago(seconds: i64) -> Time {
        Time(NOW - Dur::secs(seconds))
    }

    fn monitor(name: &str, health: &str, why: Option<&str>, total_us: Option<i64>) -> Monitor {
        let beat = |total_us| Heartbeat {
            at: ago(1),
            datacenter_id: 1,
            agent_id: 1,
            outcome: "up".into(),
            why: None,
            lag_us: 0,
            dns_us: 0,
            connect_us: 0,
            tls_us: 0,
            first_byte_us: 0,
            transfer_us: 0,
            total_us,
            code: None,
            size: None,
            value: None,
            pushed: false,
            detail: None,
        };
        Monitor {
            uid: name.into(),
            name: name.into(),
            kind: "http".into(),
            target: format!("https://{name}.example.org/"),
            labels: BTreeMap::new(),
            paused: false,
            health: health.into(),
            since: Some(ago(187)),
            why: why.map(str::to_owned),
            flapping: vec![],
            last: total_us.map(beat),
            mutes: vec![],
            origin: "wk.yaml:1".into(),
            created_at: ago(1_000),
            config: None,
            push_token: None,
            made: None,
        }
    }

    fn incident(name: &str, severity: &str) -> Incident {
        Incident {
            uid: "i".into(),
            monitor: MonitorRef { uid: name.into(), name: name.into() },
            rule: "down".into(),
            status: "open".into(),
            severity: severity.into(),
            summary: "the connection was refused".into(),
            reason: Some("tcp_refused".into()),
            value: None,
            opened_at: ago(190_000),
            resolved_at: None,
            resolved_why: None,
            acknowledged_by: None,
            acknowledged_at: None,
            routed_by: None,
            timeline: None,
            notices: None,
        }
    }

    fn status(monitors: Vec<Monitor>, incidents: Vec<Incident>) -> Status {
        let node = ReadyBody { ready: true, problems: vec![], warnings: vec![], notes: vec![] };
        Status { node, summary: summary(&monitors), incidents, monitors }
    }

    #[test]
    fn what_is_wrong_comes_first() {
        let mut paused = monitor("old", "up", None, None);
        paused.paused = true;
        paused.since = None;
        let mute = |by: &str, author: Option<&str>| Mute {
            by: by.into(),
            id: "nightly".into(),
            until: Time(NOW + Dur::secs(3_600)),
            author: author.map(str::to_owned),
            comment: author.map(|_| "deploy".to_owned()),
        };
        let monitors = vec![
            monitor("a", "up", None, Some(2_134)),
            Monitor { flapping: vec!["down".into()], ..monitor("mail", "degraded", None, Some(2_134)) },
            Monitor { mutes: vec![mute("maintenance", None)], ..monitor("b", "up", None, Some(2_134)) },
            Monitor { mutes: vec![mute("silence", Some("ann"))], ..monitor("db", "down", Some("tcp_refused"), Some(1_000)) },
            paused,
            monitor("shop", "down", Some("tcp_refused"), Some(143_000)),
            monitor("zone", "unknown", Some("no_route"), None),
        ];
        let taken = Incident { status: "acknowledged".into(), acknowledged_by: Some("ann".into()), ..incident("db", "warning") };
        let text = render(&status(monitors, vec![incident("shop", "critical"), taken]), NOW, PLAIN);
        insta::assert_snapshot!(text, @"
        7 monitors: 2 down, 1 degraded, 1 unknown, 2 up, 1 paused; 2 open incidents, 1 acknowledged; 2 muted

        Open incidents
        ! critical     2d 4h  shop · down: the connection was refused
        ! warning      2d 4h  db · down, acknowledged by ann: the connection was refused

          state    monitor     since      last  why, or what
        ✖ down     db          3m 7s   1.00 ms  tcp_refused; silenced 1h more by ann: d…
        ✖ down     shop        3m 7s    143 ms  tcp_refused
        ◐ degraded mail        3m 7s   2.13 ms  flapping: down
        ? unknown  zone        3m 7s         –  no_route
        ‖ paused   old             –         –  https://old.example.org/
        ● up       a           3m 7s   2.13 ms  https://a.example.org/
        ● up       b           3m 7s   2.13 ms  maintenance nightly 1h more
        ");
    }

    #[test]
    fn what_the_node_says_of_itself_comes_before_everything() {
        let node = ReadyBody {
            ready: false,
            problems: vec!["leases: no beat for 5 s".into()],
            warnings: vec!["2 notices could not be delivered; see watchkeeper dead-letters".into()],
            notes: vec![],
        };
        let text = render(&Status { node, ..status(vec![monitor("a", "up", None, None)], vec![]) }, NOW, PLAIN);
        let begins = "✖ not well: leases: no beat for 5 s\n\
                      ! warning: 2 notices could not be delivered; see watchkeeper dead-letters\n\
                      1 monitor: 1 up; no open incident\n";
        assert!(text.starts_with(begins), "{text}");
    }

    #[test]
    fn nothing_is_cut_in_a_pipe_and_a_wide_terminal_is_used() {
        let why = format!("{}!", "y".repeat(300));
        let of = |term| {
            let over = status(vec![monitor(&"x".repeat(120), "down", Some(&why), None)], vec![incident(&"x".repeat(120), "warning")]);
            render(&over, NOW, term)
        };
        let piped = of(Term { table: None, ..PLAIN });
        assert!(!piped.contains('…') && piped.contains(&format!("{why}\n")) && piped.contains(&"x".repeat(120)), "{piped}");
        let widest = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap();
        assert_eq!((widest(&of(PLAIN)), widest(&of(Term { table: Some(200), ..PLAIN }))), (80, 200));
    }

    #[test]
    fn a_long_name_leaves_room_and_control_characters_do_nothing() {
        let name = format!("{}\x1b[2J\nb", "x".repeat(200));
        let text =
            render(&status(vec![monitor(&name, "down", Some(&"y".repeat(300)), Some(1))], vec![incident(&name, "warning")]), NOW, PLAIN);
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
        }
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn nothing_to_watch_says_what_to_do() {
        assert_eq!(
            render(&status(vec![], vec![]), NOW, PLAIN),
            "No monitors yet: name some under `monitors:` in the configuration file.\n"
        );
    }
}
