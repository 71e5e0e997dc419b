//! What the demo shows: one line per thing that happened, readable on 80 columns and without colour.

use crate::cli::term::{Ink, Term, safe, time};
use crate::cli::waterfall::wrap;
use crate::store::BeatRow;
use std::io::Write;
use std::time::Instant;
use watchkeeper_core::Outcome;
use watchkeeper_core::quorum::Health;

/// Columns of the longest bar.
const BAR_MAX: usize = 26;
/// Columns of a chat's box, without its frame.
const CHAT_COLUMNS: usize = 64;

/// A phase on the screen: how it is drawn differs also without colour.
const PHASES: [(&str, char, Ink); 5] = [
    ("dns", '·', Ink::Dim),
    ("connect", '░', Ink::Cyan),
    ("tls", '▒', Ink::Magenta),
    ("first byte", '▓', Ink::Blue),
    ("transfer", '█', Ink::Green),
];

/// The screen and when the demo began.
pub struct Screen {
    term: Term,
    began: Instant,
}

impl Screen {
    /// Begins now.
    pub fn new(term: Term) -> Self {
        Self { term, began: Instant::now() }
    }

    /// Text as it is, or an empty line.
    pub fn text(&self, text: &str) {
        self.print(text);
    }

    /// What the marks in the bars mean.
    pub fn legend(&self) {
        let marks: Vec<String> =
            PHASES.iter().map(|(name, mark, ink)| format!("{} {name}", self.term.paint(*ink, &mark.to_string().repeat(2)))).collect();
        self.print(&format!("  {}   (longer is slower, logarithmic)", marks.join("  ")));
    }

    /// What the demo does to its fleet.
    pub fn scene(&self, text: &str) {
        self.print("");
        for (nth, line) in wrap(text, self.term.columns - 12).into_iter().enumerate() {
            let head = if nth == 0 { format!("{}  ── ", self.clock()) } else { " ".repeat(11) };
            self.print(&self.term.paint(Ink::Bold, &format!("{head}{line}")));
        }
    }

    /// One attempt.
    pub fn heartbeat(&self, name: &str, beat: &BeatRow) {
        let (mark, ink) = match beat.outcome {
            Outcome::Up => ("✔", Ink::Green),
            Outcome::Down(_) => ("✘", Ink::Red),
            Outcome::Unknown(_) => ("?", Ink::Yellow),
        };
        let end = match beat.outcome {
            Outcome::Up if beat.code > 0 => beat.code.to_string(),
            Outcome::Up => String::new(),
            Outcome::Down(_) | Outcome::Unknown(_) => beat.outcome.why().unwrap_or_default().to_owned(),
        };
        let total = u64::try_from(beat.total_us).unwrap_or(0);
        let bar = self.bar(beat);
        self.print(&format!("{}  {} {name:<9} {:>8}  {bar}  {end}", self.clock(), self.term.paint(ink, mark), time(total)));
    }

    /// The phases of one attempt, side by side; its length grows with the logarithm of the total.
    fn bar(&self, beat: &BeatRow) -> String {
        let us = [beat.dns_us, beat.connect_us, beat.tls_us, beat.first_byte_us, beat.transfer_us].map(|us| us.max(0) as f64);
        let total: f64 = us.iter().sum();
        if total <= 0.0 {
            return String::new();
        }
        let cells = ((total / 20.0).log10().max(0.2) * 5.5).min(BAR_MAX as f64);
        let mut out = String::new();
        let (mut done, mut drawn) = (0.0, 0);
        for ((_, mark, ink), us) in PHASES.into_iter().zip(us) {
            done += us;
            let until = ((done / total * cells).round() as usize).max(drawn);
            out.push_str(&self.term.paint(ink, &mark.to_string().repeat(until - drawn)));
            drawn = until;
        }
        out
    }

    /// What is true of a monitor now.
    pub fn state(&self, name: &str, health: Health, why: &str) {
        let ink = match health {
            Health::Up => Ink::Green,
            Health::Down => Ink::Red,
            Health::Pending | Health::Degraded | Health::Unknown => Ink::Yellow,
        };
        let why = if why.is_empty() { String::new() } else { format!(": {}", safe(why)) };
        self.event(&format!("● {name} is {}{why}", health.as_str()), ink);
    }

    /// An incident began or ended.
    pub fn incident(&self, opened: bool, name: &str, rule: &str, summary: &str) {
        let (word, ink) = if opened { ("opened", Ink::Red) } else { ("resolved", Ink::Green) };
        self.event(&format!("◆ incident {word} on {name} ({rule}): {}", safe(summary)), ink);
    }

    /// A message as the chat shows it.
    pub fn chat(&self, text: &str) {
        let edge = |left: &str, title: &str| format!("         {left}─{title}{}", "─".repeat(CHAT_COLUMNS - title.chars().count()));
        self.print(&edge("┌", " chat "));
        for line in safe(text).lines() {
            for part in wrap(line, CHAT_COLUMNS) {
                self.print(&format!("         │ {part}"));
            }
        }
        self.print(&edge("└", ""));
    }

    /// A call of the webhook.
    pub fn hook(&self, bytes: usize) {
        self.event(&format!("→ webhook called with {bytes} bytes of JSON"), Ink::Dim);
    }

    fn event(&self, text: &str, ink: Ink) {
        for (nth, line) in wrap(text, self.term.columns - 10).into_iter().enumerate() {
            let head = if nth == 0 { format!("{}  ", self.clock()) } else { " ".repeat(10) };
            self.print(&format!("{head}{}", self.term.paint(ink, &line)));
        }
    }

    /// Minutes and seconds since the demo began.
    fn clock(&self) -> String {
        let seconds = self.began.elapsed().as_secs();
        format!("{:>4}:{:02}", seconds / 60, seconds % 60)
    }

    #[expect(clippy::unused_self, reason = "the screen is what prints; that it holds nothing for that is nobody's business")]
    fn print(&self, line: &str) {
        // A reader that has gone away ends the demo no sooner than Ctrl-C would.
        let _ = writeln!(std::io::stdout().lock(), "{}", line.trim_end());
    }
}
