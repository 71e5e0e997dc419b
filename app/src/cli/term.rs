//! What the terminal can show: its width, and colour only where a person sees it.

use std::io::IsTerminal;

/// Without a terminal, and as the least on one: what every terminal, mail and bug report can hold.
const COLUMNS_DEFAULT: usize = 80;
/// Wider bars are harder to compare, not easier.
const COLUMNS_MAX: usize = 132;
/// Narrower than this the texts no longer fit and would be cut into nonsense.
const COLUMNS_MIN: usize = 60;

/// How to paint.
#[derive(Clone, Copy, Debug)]
pub struct Term {
    /// Columns to use.
    pub columns: usize,
    /// Whether colours are shown.
    pub colour: bool,
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
        let columns = if terminal { terminal_size::terminal_size().map(|(w, _)| usize::from(w.0)) } else { None };
        Self { columns: columns.unwrap_or(COLUMNS_DEFAULT).clamp(COLUMNS_MIN, COLUMNS_MAX), colour: terminal && !dumb && !refused }
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

/// Makes text from outside safe to print: no control character reaches the terminal.
pub fn safe(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '·' } else { c }).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(safe("a\x1b[2Jb\r\nc"), "a·[2Jb·\nc");
    }
}
