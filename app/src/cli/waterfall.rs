//! One attempt as a picture: the verdict first, then where the time went, then the certificate and what the server said.
//!
//! Pure: an [`Attempt`] and a [`Term`] in, text out. It shows facts; whether a monitor is down takes more than one attempt.

use super::term::{Ink, Term, bar, cut, safe, time};
use crate::net::tls::{Certificate, CertificateFacts};
use crate::probe::{Attempt, Hop};
use std::fmt::Write;
use watchkeeper_core::Outcome;

/// Columns before the bars: indent, the phase's name, its time.
const LABEL_COLUMNS: usize = 25;
/// Fewer days than this are shown as a warning: most authorities renew 30 days before the end.
const DAYS_WARN: i64 = 21;
/// Lines of a body that are shown. More pushes the picture off the screen; fewer hides most error texts.
const SAID_LINES_MAX: usize = 8;
/// DNS answers that are shown; the rest is counted.
const ANSWERS_MAX: usize = 8;

/// The whole picture, ending with a newline.
pub fn draw(attempt: &Attempt, what: &str, term: Term) -> String {
    let mut out = String::new();
    verdict(&mut out, attempt, what, term);
    // The scale is the longer of both: a phase cut short may end a little after the total was taken.
    let total = attempt.total_us.max(attempt.hops.iter().map(Hop::sum_us).sum()).max(1);
    let mut began = 0;
    for (nth, hop) in attempt.hops.iter().enumerate() {
        out.push('\n');
        headline(&mut out, hop, (attempt.hops.len() > 1).then_some(nth + 1), term);
        began = phases(&mut out, hop, began, total, term);
    }
    facts(&mut out, attempt, term);
    if let Some(certificate) = &attempt.certificate {
        chain(&mut out, certificate, term);
    }
    said(&mut out, attempt, term);
    out
}

/// `✔ up`, `✘ down` or `? unknown`, and why, in words.
fn verdict(out: &mut String, attempt: &Attempt, what: &str, term: Term) {
    let (mark, ink, why) = match attempt.outcome {
        Outcome::Up => ("✔ up", Ink::Green, None),
        Outcome::Down(reason) => ("✘ down", Ink::Red, Some((reason.sentence(), reason.as_str()))),
        Outcome::Unknown(blind) => ("? unknown", Ink::Yellow, Some((blind.sentence(), blind.as_str()))),
    };
    let what = cut(&safe(what), term.beside(26));
    line(out, &format!("{}  {what}  {}", term.paint(ink, mark), term.paint(Ink::Bold, &time(attempt.total_us))));
    if let Some((sentence, word)) = why {
        line(out, &format!("  {sentence} {}", term.paint(Ink::Dim, &format!("({word})"))));
    }
    if let Some(error) = &attempt.error {
        for part in wrap(&safe(error), term.columns - 2) {
            line(out, &format!("  {part}"));
        }
    }
}

/// What was asked, where it went, what came back.
fn headline(out: &mut String, hop: &Hop, nth: Option<usize>, term: Term) {
    let status = hop.status.map(|code| status_text(&hop.url, code)).unwrap_or_default();
    let address = hop.address.clone().unwrap_or_default();
    let number = nth.map(|n| format!("{n} ")).unwrap_or_default();
    let rest = number.len() + status.chars().count() + address.len() + 6;
    let url = cut(&safe(&hop.url), term.beside(rest).max(8));
    let mut parts = vec![term.paint(Ink::Bold, &format!("{number}{url}"))];
    parts.extend([term.paint(Ink::Dim, &safe(&address)), status].into_iter().filter(|part| !part.is_empty()));
    line(out, &format!("  {}", parts.join("  ")));
}

/// `200 OK` for HTTP, the plain number for others.
fn status_text(url: &str, code: u16) -> String {
    let reason = http::StatusCode::from_u16(code).ok().filter(|_| url.starts_with("http")).and_then(|s| s.canonical_reason());
    reason.map_or_else(|| code.to_string(), |reason| format!("{code} {reason}"))
}

/// One line per phase that happened, each where it lies in the whole attempt. Returns where the next hop begins.
fn phases(out: &mut String, hop: &Hop, began_us: u64, total_us: u64, term: Term) -> u64 {
    let all = [
        ("dns", hop.dns_us, Ink::Dim),
        ("connect", hop.connect_us, Ink::Cyan),
        ("tls", hop.tls_us, Ink::Magenta),
        ("first byte", hop.first_byte_us, Ink::Blue),
        ("transfer", hop.transfer_us, Ink::Green),
    ];
    let eighths = (term.columns - LABEL_COLUMNS) * 8;
    let scale = |us: u64| (us as f64 / total_us as f64 * eighths as f64) as usize;
    let mut at = began_us;
    for (name, us, ink) in all.into_iter().filter(|(_, us, _)| *us > 0) {
        let start = scale(at).min(eighths - 8);
        let (blank, blocks) = bar(start, scale(us).min(eighths - start));
        line(out, &format!("    {name:<10} {:>8}  {}{}", time(us), " ".repeat(blank), term.paint(ink, &blocks)));
        at += us;
    }
    at
}

/// What only one kind knows, a line each.
fn facts(out: &mut String, attempt: &Attempt, term: Term) {
    if let Some(http) = &attempt.http {
        let mut parts = vec![http.version.clone(), format!("{} bytes", http.body_bytes)];
        parts.extend(http.content_type.iter().chain(&http.server).map(|text| safe(text)));
        line(out, "");
        labelled(out, "response", &parts.join(", "), term);
    }
    if let Some(dns) = &attempt.dns {
        line(out, "");
        labelled(out, "answer", &format!("{} over {}", dns.rcode, dns.transport), term);
        for answer in dns.answers.iter().take(ANSWERS_MAX) {
            labelled(out, "", &safe(answer), term);
        }
        if dns.answers.len() > ANSWERS_MAX {
            labelled(out, "", &format!("and {} more", dns.answers.len() - ANSWERS_MAX), term);
        }
    }
    if let Some(icmp) = &attempt.icmp {
        line(out, "");
        let text = format!(
            "{} of {} echoes back, {} mean, {} jitter, {} socket",
            icmp.received,
            icmp.sent,
            time(icmp.rtt_us),
            time(icmp.jitter_us),
            icmp.socket
        );
        labelled(out, "echo", &text, term);
    }
    if let Some(worker) = &attempt.worker {
        line(out, "");
        let mut parts = vec![worker.state.as_str().to_owned(), format!("{} in flight", worker.active), format!("{} so far", worker.total)];
        parts.extend(worker.oldest_us.map(|us| format!("the longest for {}", time(us))));
        parts.extend(worker.draining_us.map(|us| format!("draining for {}", time(us))));
        parts.extend(worker.kafka_lag.map(|lag| format!("{lag} updates wait")));
        labelled(out, "worker", &parts.join(", "), term);
        for stuck in &worker.stuck {
            let what = stuck.id.as_deref().map_or_else(|| format!("{} without an id", stuck.count), safe);
            labelled(out, "", &format!("{what} for {}", time(stuck.for_us)), term);
        }
    }
}

/// The certificates, leaf first, with the days each has left.
fn chain(out: &mut String, facts: &CertificateFacts, term: Term) {
    line(out, "");
    let session: Vec<&str> = facts.protocol.iter().chain(&facts.cipher).map(String::as_str).collect();
    if !session.is_empty() {
        labelled(out, "session", &session.join(", "), term);
    }
    for (nth, certificate) in facts.chain.iter().enumerate() {
        let label = if nth == 0 { "certificate" } else { "issued by" };
        labelled(out, label, &format!("{}  {}", cut(&safe(&certificate.subject), term.beside(50)), days(certificate, term)), term);
    }
    if let Some(leaf) = facts.chain.first() {
        labelled(out, "for", &safe(&leaf.names.join(", ")), term);
    }
}

/// `87 days left, until 2027-02-17`.
fn days(certificate: &Certificate, term: Term) -> String {
    let until = jiff::Timestamp::from_second(certificate.not_after).map(|t| t.strftime("%Y-%m-%d").to_string()).unwrap_or_default();
    match certificate.days_left {
        left if left < 0 => term.paint(Ink::Red, &format!("expired on {until}")),
        1 => term.paint(Ink::Red, &format!("1 day left, until {until}")),
        left if left < DAYS_WARN => term.paint(Ink::Yellow, &format!("{left} days left, until {until}")),
        left => term.paint(Ink::Green, &format!("{left} days left, until {until}")),
    }
}

/// The head of the body, of a failure only.
fn said(out: &mut String, attempt: &Attempt, term: Term) {
    let Some(body) = attempt.http.as_ref().and_then(|http| http.body_head.as_ref()) else { return };
    if attempt.outcome == Outcome::Up || body.trim().is_empty() {
        return;
    }
    line(out, "");
    line(out, &term.paint(Ink::Dim, "  the server said"));
    for text in safe(body).lines().filter(|l| !l.trim().is_empty()).take(SAID_LINES_MAX) {
        line(out, &format!("    {}", cut(text.trim_end(), term.beside(4))));
    }
}

fn labelled(out: &mut String, label: &str, text: &str, term: Term) {
    for (nth, part) in wrap(text, term.columns.saturating_sub(15)).into_iter().enumerate() {
        let label = if nth == 0 { label } else { "" };
        line(out, &format!("  {}{part}", term.paint(Ink::Dim, &format!("{label:<13}"))));
    }
}

fn line(out: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{}", text.trim_end());
}

/// Breaks text between words; a longer word stands alone on its line.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("there is always one line");
        if last.is_empty() {
            last.push_str(word);
        } else if last.chars().count() + 1 + word.chars().count() <= columns {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::HttpFacts;
    use watchkeeper_core::Reason;

    const PLAIN: Term = Term::plain(80);

    fn hop(url: &str, phases: [u64; 5], status: Option<u16>) -> Hop {
        let [dns_us, connect_us, tls_us, first_byte_us, transfer_us] = phases;
        Hop {
            url: url.into(),
            address: Some("127.0.0.1:443".into()),
            resolved: None,
            dns_us,
            connect_us,
            tls_us,
            first_byte_us,
            transfer_us,
            status,
        }
    }

    fn redirected() -> Attempt {
        let mut attempt = Attempt::ended(Outcome::Up, None);
        attempt.hops = vec![
            hop("https://shop.example.org/", [2_000, 8_000, 20_000, 10_000, 0], Some(301)),
            hop("https://www.example.org/", [1_000, 9_000, 20_000, 90_000, 40_000], Some(200)),
        ];
        attempt.total_us = 200_000;
        attempt
    }

    #[test]
    fn phases_stand_where_they_lie_in_the_attempt() {
        insta::assert_snapshot!(draw(&redirected(), "https://shop.example.org/", PLAIN), @r#"
        ✔ up  https://shop.example.org/  200 ms

          1 https://shop.example.org/  127.0.0.1:443  301 Moved Permanently
            dns         2.00 ms  ▌
            connect     8.00 ms  ██▋
            tls         20.0 ms    ██████▎
            first byte  10.0 ms          ███

          2 https://www.example.org/  127.0.0.1:443  200 OK
            dns         1.00 ms             ▎
            connect     9.00 ms             ██▋
            tls         20.0 ms               ██████▎
            first byte  90.0 ms                     █████████████████████████
            transfer    40.0 ms                                              ███████████
        "#);
    }

    #[test]
    fn a_failure_says_why_and_what_the_server_said() {
        let mut attempt = Attempt::ended(Outcome::Down(Reason::HttpStatus), Some("status 503, expected 200-299".into()));
        attempt.hops = vec![hop("http://shop.example.org/", [0, 300, 0, 1_200, 90], Some(503))];
        attempt.total_us = 1_590;
        attempt.http = Some(HttpFacts {
            version: "HTTP/1.1".into(),
            status: 503,
            body_head: Some("<h1>out\x1b[2J</h1>\n".into()),
            ..HttpFacts::default()
        });
        insta::assert_snapshot!(draw(&attempt, "http://shop.example.org/", PLAIN), @r#"
        ✘ down  http://shop.example.org/  1.59 ms
          the status is not an expected one (http_status)
          status 503, expected 200-299

          http://shop.example.org/  127.0.0.1:443  503 Service Unavailable
            connect      300 µs  ██████████▍
            first byte  1.20 ms            █████████████████████████████████████████▉
            transfer      90 µs                                                     ███▉

          response     HTTP/1.1, 0 bytes

          the server said
            <h1>out·[2J</h1>
        "#);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for columns in [60, 80, 132] {
            let picture = draw(&redirected(), &"x".repeat(300), Term::plain(columns));
            for line in picture.lines() {
                assert!(line.chars().count() <= columns, "{columns}: {line}");
            }
        }
    }
}
