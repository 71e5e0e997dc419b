//! What the demo shows: one line for each thing that happened, and below them, on a terminal, lag and workers as they move. Readable on
//! 80 columns and without colour; in a pipe or a file a line now and then takes the picture's place.

use crate::stage::ledger::Totals;
use rustix::termios::tcgetwinsize;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Without a terminal: what every mail and bug report can hold.
const COLUMNS_DEFAULT: usize = 80;
/// Longer lines are harder to read.
const COLUMNS_MAX: usize = 100;
/// Narrower than this the picture would be nonsense.
const COLUMNS_MIN: usize = 60;

/// Columns left of the picture, and before every text.
const GUTTER: usize = 13;

/// Rows of the pictures.
const LAG_ROWS: usize = 4;
const WORKERS_ROWS: usize = 2;

/// Where there is no picture a line is written at most so often.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// While something is built, where there is no terminal, a line is written so often.
const BUILDING_EVERY: Duration = Duration::from_secs(20);

/// Columns of the bar that shows how much is built.
const BAR: usize = 24;

/// The colours, by what they stand for.
#[derive(Clone, Copy)]
pub enum Ink {
    /// Good, and workers.
    Green,
    /// Bad.
    Red,
    /// What waits.
    Yellow,
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
            Self::Dim => "2",
            Self::Bold => "1",
        }
    }
}

/// What is seen at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Updates that are not done.
    pub lag: u64,
    /// Workers that run.
    pub workers: u64,
}

/// The screen, and what was drawn on it.
pub struct Screen {
    columns: usize,
    /// Whether something can be drawn over.
    moves: bool,
    colour: bool,
    began: Instant,
    max_workers: u64,
    samples: Vec<Sample>,
    totals: Totals,
    /// So many lines at the end of the screen are the picture.
    drawn: usize,
    said: Option<Instant>,
    last: String,
}

impl Screen {
    /// Of standard output, as it and the environment allow: <https://no-color.org>.
    pub fn of_stdout(max_workers: u64) -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_some_and(|term| term == "dumb");
        let moves = std::io::stdout().is_terminal() && !dumb;
        let known = || tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
        let columns = if moves { known().unwrap_or(COLUMNS_DEFAULT) } else { COLUMNS_DEFAULT };
        Self {
            columns: columns.clamp(COLUMNS_MIN, COLUMNS_MAX),
            moves,
            colour: moves && set("NO_COLOR").is_none(),
            began: Instant::now(),
            max_workers,
            samples: Vec::new(),
            totals: Totals::default(),
            drawn: 0,
            said: None,
            last: String::new(),
        }
    }

    /// The play begins now.
    pub fn begin(&mut self) {
        self.began = Instant::now();
    }

    fn paint(&self, ink: Ink, text: &str) -> String {
        if self.colour && !text.is_empty() { format!("\x1b[{}m{text}\x1b[0m", ink.code()) } else { text.to_owned() }
    }

    /// Lines that stay, above the picture.
    fn print(&mut self, lines: &[String]) {
        let mut text = self.erased();
        for line in lines {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text.push_str(&self.picture());
        put(&text);
    }

    /// What takes the picture off the screen.
    fn erased(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => format!("\r\x1b[{lines}A\x1b[J"),
        }
    }

    /// A text from the first column on, or an empty line.
    pub fn text(&mut self, text: &str) {
        let lines = wrap(text, self.columns);
        self.print(&lines);
    }

    /// What happens next.
    pub fn scene(&mut self, text: &str) {
        let mut lines = vec![String::new()];
        for (nth, line) in wrap(text, self.columns - GUTTER).into_iter().enumerate() {
            let head = if nth == 0 { format!("{}  ── ", clock(self.began.elapsed())) } else { " ".repeat(GUTTER - 1) };
            lines.push(self.paint(Ink::Bold, &format!("{head}{line}")));
        }
        self.print(&lines);
    }

    /// What was seen of it.
    pub fn event(&mut self, ink: Ink, text: &str) {
        let lines: Vec<String> = wrap(text, self.columns - GUTTER)
            .into_iter()
            .enumerate()
            .map(|(nth, line)| {
                let head = if nth == 0 { format!("{}  ", clock(self.began.elapsed())) } else { " ".repeat(GUTTER - 4) };
                format!("{head}{}", self.paint(ink, &line))
            })
            .collect();
        self.print(&lines);
    }

    /// How far something is that is built before the play.
    pub fn building(&mut self, words: &str, built: usize, of: usize) {
        let since = self.began.elapsed();
        if self.moves {
            let filled = (built * BAR).checked_div(of).unwrap_or(0).min(BAR);
            let bar = format!("{}{}", self.paint(Ink::Green, &"━".repeat(filled)), self.paint(Ink::Dim, &"╌".repeat(BAR - filled)));
            let text = format!("{}  {}  {bar}  {words}\n", self.erased(), clock(since));
            self.drawn = 1;
            put(&text);
        } else if self.said.is_none_or(|said| said.elapsed() >= BUILDING_EVERY) {
            self.said = Some(Instant::now());
            put(&format!("{}  {words}\n", clock(since)));
        }
    }

    /// Nothing is built any more: what was said of it goes.
    pub fn built(&mut self) {
        let text = self.erased();
        put(&text);
        self.said = None;
    }

    /// What is seen now.
    pub fn show(&mut self, sample: Sample, totals: Totals) {
        self.samples.push(sample);
        self.totals = totals;
        if self.moves {
            self.print(&[]);
            return;
        }
        let Sample { lag, workers } = sample;
        let line = format!("lag {lag} · workers {workers} · {}", self.counts());
        if line != self.last && self.said.is_none_or(|said| said.elapsed() >= LINE_EVERY) {
            self.said = Some(Instant::now());
            put(&format!("{}  {line}\n", clock(self.began.elapsed())));
            self.last = line;
        }
    }

    /// The picture stays as it is, and what follows is written below.
    pub fn keep(&mut self) {
        if !self.moves && !self.samples.is_empty() {
            // Once, whole.
            self.moves = true;
            let picture = self.picture();
            self.moves = false;
            put(&picture);
        }
        self.drawn = 0;
        self.samples.clear();
    }

    fn counts(&self) -> String {
        let Totals { written, answered, again, early, stray } = self.totals;
        let mut text = format!("written {} · answered {}", grouped(written), grouped(answered));
        for (count, what) in [(again, "again"), (early, "out of order"), (stray, "to nobody")] {
            if count > 0 {
                text.push_str(&format!(" · {} {what}", grouped(count)));
            }
        }
        text
    }

    /// Lag and workers since the beginning, each column the most of its time.
    fn picture(&mut self) -> String {
        let Some(now) = self.samples.last().copied() else { return String::new() };
        if !self.moves {
            return String::new();
        }
        let width = self.columns - GUTTER - 1;
        let each = self.samples.len().div_ceil(width);
        let most =
            |of: fn(&Sample) -> u64| self.samples.chunks(each).map(|some| some.iter().map(of).max().unwrap_or(0)).collect::<Vec<_>>();
        let (lags, workers) = (most(|sample| sample.lag), most(|sample| sample.workers));
        let top = lags.iter().copied().max().unwrap_or(0);
        let labels = [
            ("lag".to_owned(), Ink::Dim),
            (grouped(now.lag), Ink::Bold),
            (format!("most {}", grouped(top)), Ink::Dim),
            (String::new(), Ink::Dim),
            ("workers".to_owned(), Ink::Dim),
            (format!("{} of {}", now.workers, self.max_workers), Ink::Bold),
        ];
        let lags = rows(&lags, top, LAG_ROWS).into_iter().map(|row| (row, Ink::Yellow));
        let workers = rows(&workers, self.max_workers, WORKERS_ROWS).into_iter().map(|row| (row, Ink::Green));
        let bar = self.paint(Ink::Dim, "│");
        let mut lines = vec![String::new()];
        for ((label, label_ink), (row, ink)) in labels.into_iter().zip(lags.chain(workers)) {
            let label = self.paint(label_ink, &format!("{label:>width$}", width = GUTTER - 1));
            lines.push(format!("{label}{bar}{}", self.paint(ink, &row)));
        }
        lines.push(self.paint(Ink::Dim, &format!("{}└{}", " ".repeat(GUTTER - 1), "─".repeat(width))));
        lines.push(format!("{}  {}", clock(self.began.elapsed()), self.counts()));
        self.drawn = lines.len();
        lines.iter().fold(String::new(), |text, line| text + line.trim_end() + "\n")
    }
}

fn put(text: &str) {
    let mut out = std::io::stdout().lock();
    // A reader that has gone away ends the demo no sooner than Ctrl-C would.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Minutes and seconds.
fn clock(since: Duration) -> String {
    let seconds = since.as_secs();
    format!("{:>4}:{:02}", seconds / 60, seconds % 60)
}

/// A number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A bar for each value, as rows from the top; what is more than nothing is seen.
fn rows(values: &[u64], top: u64, height: usize) -> Vec<String> {
    const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let eighths = |value: u64| (value * 8 * height as u64).div_ceil(top.max(1)) as usize;
    let row = |from_below: usize| values.iter().map(|value| BLOCKS[eighths(*value).saturating_sub(from_below * 8).min(8)]).collect();
    (0..height).rev().map(row).collect()
}

/// Lines of at most so many columns, broken between words.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > columns {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_grow_with_their_values_and_the_smallest_is_seen() {
        assert_eq!(rows(&[0, 1, 50, 100], 100, 2), ["   █", " ▁██"]);
        assert_eq!(rows(&[0, 0], 0, 1), ["  "]);
        assert_eq!(rows(&[1, 5], 5, 2), [" █", "▄█"]);
    }

    #[test]
    fn the_picture_holds_the_whole_time_whatever_its_length() {
        let mut screen = Screen { moves: true, colour: false, columns: 60, ..Screen::of_stdout(5) };
        for lag in 0..1_000 {
            screen.samples.push(Sample { lag, workers: 5 });
        }
        let picture = screen.picture();
        let lines: Vec<&str> = picture.lines().collect();
        assert_eq!(lines.len(), screen.drawn);
        assert!(lines.iter().all(|line| line.chars().count() <= 60), "{picture}");
        assert!(lines[1].ends_with('█') && lines[2].contains("999│") && lines[6].contains("5 of 5│███"), "{picture}");
    }

    #[test]
    fn numbers_and_texts_are_for_reading() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1 000", "1 234 567"]);
        assert_eq!(wrap("one two three\n\nfour", 8), ["one two", "three", "", "four"]);
        assert_eq!(clock(Duration::from_secs(754)), "  12:34");
    }
}
