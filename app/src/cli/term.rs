//! What the terminal can show: its width, and colour only where a person sees it; and how times and texts are written on it.

use crate::foreign::steers;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt::Write as _;
use std::io::IsTerminal;
use watchkeeper_core::{Dur, Micros};

/// Pictures and running text without a terminal: what every terminal, mail and bug report can hold.
const COLUMNS_DEFAULT: usize = 80;
/// Wider bars are harder to compare, and longer lines harder to read.
const COLUMNS_MAX: usize = 132;
/// Narrower than this the texts no longer fit and would be cut into nonsense.
const COLUMNS_MIN: usize = 60;

/// How to paint.
#[derive(Clone, Copy, Debug)]
pub struct Term {
    /// Columns for pictures and running text.
    pub columns: usize,
    /// Columns for tables: all that the terminal has. None in a pipe or a file, where nothing is cut: whatever reads it may look for
    /// what would be missing.
    pub table: Option<usize>,
    /// Whether colours are shown.
    pub colour: bool,
}

/// Who reads: on which terminal, in which time zone, when.
#[derive(Clone, Debug)]
pub struct View {
    /// How to paint.
    pub term: Term,
    /// Whose wall clock times are shown by.
    pub zone: TimeZone,
    /// UTC now.
    pub now: Micros,
}

impl View {
    /// Of standard output, in the system's zone.
    pub fn of_stdout(now: Micros) -> Self {
        Self { term: Term::of_stdout(), zone: TimeZone::system(), now }
    }
}

/// The colours in use, by what they stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// Good.
    Green,
    /// Bad.
    Red,
    /// Between.
    Yellow,
    /// First byte.
    Blue,
    /// Connect.
    Cyan,
    /// TLS.
    Magenta,
    /// Less important.
    Dim,
    /// More important.
    Bold,
}

impl Ink {
    const fn code(self) -> &'static str {
        match self {
            Self::Green => "32",
            Self::Red => "31",
            Self::Yellow => "33",
            Self::Blue => "34",
            Self::Cyan => "36",
            Self::Magenta => "35",
            Self::Dim => "2",
            Self::Bold => "1",
        }
    }
}

impl Term {
    /// As standard output and the environment allow: <https://no-color.org>.
    pub fn of_stdout() -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let terminal = std::io::stdout().is_terminal();
        let known = || terminal_size::terminal_size().map_or(COLUMNS_DEFAULT, |(width, _)| usize::from(width.0));
        let table = terminal.then(|| known().max(COLUMNS_MIN));
        Self { columns: table.unwrap_or(COLUMNS_DEFAULT).min(COLUMNS_MAX), table, colour: terminal && !dumb && !refused }
    }

    /// Without colour, of so many columns.
    pub const fn plain(columns: usize) -> Self {
        Self { columns, table: Some(columns), colour: false }
    }

    /// What is left of a table's row beside so many columns; all that is needed where nothing is cut.
    pub fn beside(self, taken: usize) -> usize {
        self.table.map_or(usize::MAX, |columns| columns.saturating_sub(taken))
    }

    /// Text in a colour, or as it is.
    pub fn paint(self, ink: Ink, text: &str) -> String {
        if self.colour && !text.is_empty() { format!("\x1b[{}m{text}\x1b[0m", ink.code()) } else { text.to_owned() }
    }
}

/// A time as a person reads it, with three digits that count: `850 µs`, `2.13 ms`, `143 ms`, `1.43 s`.
pub fn time(us: u64) -> String {
    let value = us as f64;
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{:.2} ms", value / 1e3),
        10_000..100_000 => format!("{:.1} ms", value / 1e3),
        100_000..1_000_000 => format!("{:.0} ms", value / 1e3),
        1_000_000..100_000_000 => format!("{:.2} s", value / 1e6),
        _ => format!("{:.0} s", value / 1e6),
    }
}

/// A bar of `len` eighths of a cell that begins at `start` eighths: blanks, then blocks. Never empty.
pub fn bar(start_eighths: usize, len_eighths: usize) -> (usize, String) {
    const PART: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let cell = start_eighths / 8;
    // A block can only begin at the left of its cell: what the beginning lacks, the end gets.
    let end = start_eighths + len_eighths;
    let eighths = (end - cell * 8).max(1);
    (cell, format!("{}{}", "█".repeat(eighths / 8), PART[eighths % 8]))
}

/// Makes text from outside safe to print: nothing that acts upon the terminal, or upon the text around it, reaches it.
pub fn safe(text: &str) -> String {
    text.chars().map(|c| if steers(c) && c != '\n' { '·' } else { c }).collect()
}

/// Cuts to a width, with a mark that it was cut.
pub fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(columns.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Text from outside, on one line.
pub fn safe_line(text: &str) -> String {
    safe(text).replace('\n', " ")
}

/// Fills up to a width.
pub fn pad(text: &str, columns: usize) -> String {
    let missing = columns.saturating_sub(text.chars().count());
    format!("{text}{}", " ".repeat(missing))
}

/// A length of time with its two largest units: `42s`, `3m 7s`, `2d 4h`.
pub fn length(length: Dur) -> String {
    const UNITS: [(&str, i64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let seconds = length.0.max(0) / 1_000_000;
    let Some(first) = UNITS.iter().position(|(_, unit)| seconds >= *unit) else { return "0s".to_owned() };
    let (word, unit) = UNITS[first];
    let mut text = format!("{}{word}", seconds / unit);
    if let Some((word, smaller)) = UNITS.get(first + 1)
        && seconds % unit / smaller > 0
    {
        // Writing to a String cannot fail.
        let _ = write!(text, " {}{word}", seconds % unit / smaller);
    }
    text
}

/// A moment as a person reads it, in their zone: `2026-11-22 03:12:07 UTC`.
pub fn moment(at: Micros, zone: &TimeZone) -> String {
    zoned(at, zone, "%Y-%m-%d %H:%M:%S %Z")
}

/// A moment near another one: only the time of day if it is on the same day.
pub fn moment_near(at: Micros, other: Micros, zone: &TimeZone) -> String {
    let day = |at| zoned(at, zone, "%Y-%m-%d");
    zoned(at, zone, if day(at) == day(other) { "%H:%M:%S" } else { "%m-%d %H:%M:%S" })
}

fn zoned(at: Micros, zone: &TimeZone, format: &str) -> String {
    // Beyond the year 9999 the number says more than an error.
    Timestamp::from_microsecond(at.0).map_or_else(|_| at.0.to_string(), |at| at.to_zoned(zone.clone()).strftime(format).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_show_two_units() {
        let shown: Vec<String> = [-5, 0, 42, 60, 187, 3_600, 190_000].map(|s| length(Dur::secs(s))).into();
        assert_eq!(shown, ["0s", "0s", "42s", "1m", "3m 7s", "1h", "2d 4h"]);
    }

    #[test]
    fn moments_are_those_of_the_reader() {
        let at = Micros(1_770_000_000_123_456);
        let moscow = TimeZone::get("Europe/Moscow").unwrap();
        assert_eq!(moment(at, &TimeZone::UTC), "2026-02-02 02:40:00 UTC");
        assert_eq!(moment(at, &moscow), "2026-02-02 05:40:00 MSK");
        assert_eq!(moment_near(at, at + Dur::secs(60), &TimeZone::UTC), "02:40:00");
        assert_eq!(moment_near(at, at + Dur::secs(86_400), &TimeZone::UTC), "02-02 02:40:00");
    }

    #[test]
    fn times_keep_three_digits() {
        let shown: Vec<String> = [0, 999, 2_134, 23_456, 143_210, 1_432_100, 123_000_000].into_iter().map(time).collect();
        assert_eq!(shown, ["0 µs", "999 µs", "2.13 ms", "23.5 ms", "143 ms", "1.43 s", "123 s"]);
    }

    #[test]
    fn bars_fill_to_their_end_and_are_never_empty() {
        assert_eq!(bar(0, 0), (0, "▏".to_owned()));
        assert_eq!(bar(0, 12), (0, "█▌".to_owned()));
        assert_eq!(bar(20, 4), (2, "█".to_owned()));
    }

    #[test]
    fn nothing_from_outside_moves_the_cursor() {
        assert_eq!(safe("a\x1b[2Jb\r\nc\u{202e}d\u{2028}é"), "a·[2Jb·\nc·d·é");
    }
}
