//! What a message says to a person, pure: the same words go to a chat, into a webhook's `text` and onto the terminal.
//!
//! It is read at 3 in the morning on a telephone. The first line alone must tell what is wrong with what; then why,
//! where, since when, and who saw it. Nothing is told as well again that merely stopped being watched.
//! The words themselves are in [`super::words`], how they are arranged in [`super::template`].

use super::common::{Style, Template};
use super::content::Content;
use super::template::{native, stardust, v_insight, watchdog};
use super::words::{Words, fill, walk};
use crate::foreign::steers;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use watchkeeper_core::{Dur, Micros};

/// No line is longer, in characters. Longer ones push the other lines off a telephone's screen; shorter ones cut
/// error texts before the part that matters.
const LINE_MAX: usize = 500;

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its characters, none of which acts upon the others.
    pub text: String,
    /// Whether it is shown in bold where that exists.
    pub bold: bool,
}

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(pub Vec<Span>);

impl Line {
    /// A line without markup.
    pub(crate) fn plain_of(text: impl Into<String>) -> Self {
        Self(vec![Span { text: text.into(), bold: false }])
    }

    /// A line in bold.
    pub(crate) fn bold_of(text: impl Into<String>) -> Self {
        Self(vec![Span { text: text.into(), bold: true }])
    }

    /// A filled pattern, what stands in the place `name` in bold.
    pub(super) fn naming(pattern: &str, values: &[(&str, &str)]) -> Self {
        let mut spans = Vec::new();
        walk(pattern, values, |piece, place| {
            if !piece.is_empty() {
                spans.push(Span { text: piece.to_owned(), bold: place == Some("name") });
            }
        });
        Self(spans)
    }

    /// Its characters alone.
    pub fn plain(&self) -> String {
        self.0.iter().map(|span| span.text.as_str()).collect()
    }

    /// Names and error texts come from outside: what acts upon the text around it becomes a space, and what is too long is cut.
    fn tidy(mut self) -> Self {
        let mut left = LINE_MAX;
        for span in &mut self.0 {
            span.text = one_line(&span.text, left);
            left -= span.text.chars().count().min(left);
        }
        self.0.retain(|span| !span.text.is_empty());
        self
    }
}

/// A first line, which must do alone, and lines below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// What is wrong with what.
    pub head: Line,
    /// Why, where, since when, who saw it, which incident; an empty one parts what belongs together.
    pub lines: Vec<Line>,
}

impl Text {
    /// Every line on its line and within its length.
    pub(crate) fn new(head: Line, lines: Vec<Line>) -> Self {
        Self { head: head.tidy(), lines: lines.into_iter().map(Line::tidy).collect() }
    }

    /// The first line alone.
    pub fn title(&self) -> String {
        self.head.plain()
    }

    /// The lines below it, as plain text, without a newline at the end.
    pub fn rest(&self) -> String {
        self.lines.iter().map(Line::plain).collect::<Vec<_>>().join("\n")
    }

    /// As plain text, without a newline at the end.
    pub fn plain(&self) -> String {
        let rest = self.rest();
        if rest.is_empty() { self.title() } else { format!("{}\n{rest}", self.title()) }
    }
}

/// The words of one delivery. `now` is when it is told: some messages say how long something has lasted.
pub fn text(content: &Content, style: Style, now: Micros) -> Text {
    let words = style.language.words();
    let templated = match style.template {
        Template::Native => None,
        Template::Watchdog => watchdog::text(content, words, now),
        Template::Stardust => stardust::text(content, words, now),
        Template::VInsight => v_insight::text(content, words),
    };
    let mut text = templated.unwrap_or_else(|| native::text(content, words, now));
    if let Some(node) = content.cut_off() {
        text.lines.push(Line::plain_of(fill(words.native.cut_off, &[("node", node)])).tidy());
    }
    text
}

/// The first `max` characters on one line.
pub(crate) fn one_line(line: &str, max: usize) -> String {
    let mut out: String = line.chars().take(max).map(|c| if steers(c) { ' ' } else { c }).collect();
    if line.chars().nth(max).is_some() {
        out.pop();
        out.push('…');
    }
    out
}

/// `03:12:07 UTC, 22 Nov 2026`.
pub(crate) fn moment(at: Micros, words: &Words) -> String {
    strftime(at, words.moment)
}

/// `2026-11-22T03:12:07.123456Z`, as documents for machines have it.
pub fn iso(at: Micros) -> String {
    strftime(at, "%Y-%m-%dT%H:%M:%S%.6fZ")
}

/// An instant in UTC by a pattern of `strftime`; empty outside of the years that a calendar has.
pub(super) fn strftime(at: Micros, pattern: &str) -> String {
    let zoned = Timestamp::from_microsecond(at.0).ok().map(|t| t.to_zoned(TimeZone::UTC));
    zoned.map_or_else(String::new, |t| t.strftime(pattern).to_string())
}

/// A length of time in its two largest units: `3m12s`, `2d4h`, `850ms`.
pub(crate) fn rough(length: Dur, words: &Words) -> String {
    const UNITS: [i64; 5] = [86_400_000_000, 3_600_000_000, 60_000_000, 1_000_000, 1_000];
    let exact = length.0.max(0);
    // Below a second there are only milliseconds; above, none.
    let first = UNITS.iter().position(|unit| exact >= *unit).unwrap_or(3);
    let last = if first == 4 { 4 } else { (first + 1).min(3) };
    let mut parts = Vec::new();
    let mut rest = exact;
    for (index, unit) in UNITS.iter().enumerate().take(last + 1).skip(first) {
        let count = rest / unit;
        rest %= unit;
        if count > 0 || (index == last && parts.is_empty()) {
            parts.push(format!("{count}{}", words.units[index]));
        }
    }
    parts.join(words.units_gap)
}

/// Cuts a text to `max` UTF-16 units, the way chat services count, with `…` in place of the rest.
pub(super) fn cut_utf16(line: &str, max: usize) -> String {
    if line.encode_utf16().count() <= max {
        return line.to_owned();
    }
    let mut out = String::new();
    let mut used = 1;
    for c in line.chars() {
        used += c.len_utf16();
        if used > max {
            break;
        }
        out.push(c);
    }
    if max > 0 {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{Language, Message, sample};

    fn told(style: Style) -> String {
        let mut all = String::new();
        for (what, content) in sample::all() {
            all.push_str(&format!("── {what}\n{}\n", text(&content, style, sample::NOW).plain()));
        }
        all
    }

    #[test]
    fn every_word_in_every_form_and_language() {
        for (template, form) in [
            (Template::Native, "native"),
            (Template::Watchdog, "watchdog"),
            (Template::Stardust, "stardust"),
            (Template::VInsight, "v_insight"),
        ] {
            for (language, code) in [(Language::En, "en"), (Language::Ru, "ru")] {
                insta::assert_snapshot!(format!("{form}_{code}"), told(Style { language, template }));
            }
        }
    }

    #[test]
    fn every_rule_has_its_words() {
        let mut all = String::new();
        for language in [Language::En, Language::Ru] {
            for rule in ["down", "slow_response", "slow_response/first_byte", "ssl_expiry", "missed_push", "blind", "checkout-slow"] {
                for message in [sample::opened(), sample::reminded(), sample::resolved()] {
                    let message = Message { rule: rule.to_owned(), ..message };
                    let style = Style { language, template: Template::Native };
                    all.push_str(&text(&Content::Incident(message), style, sample::NOW).title());
                    all.push('\n');
                }
            }
        }
        insta::assert_snapshot!("titles", all);
    }

    #[test]
    fn what_is_no_longer_watched_is_never_called_well() {
        for (why, title) in [
            ("retired", "⚪ shop is no longer watched"),
            ("rule_removed", "⚪ shop is no longer watched for down"),
            ("operator", "⚪ somebody ended the incident of shop (down)"),
        ] {
            for template in [Template::Native, Template::Watchdog, Template::Stardust] {
                let content = Content::Incident(Message { resolved_why: Some(why.to_owned()), ..sample::resolved() });
                let told = text(&content, Style { template, ..Style::default() }, sample::NOW);
                assert_eq!(told.title(), title, "{template:?}");
                assert!(!told.plain().contains("🟢"), "{why}");
            }
        }
    }

    #[test]
    fn foreign_text_stays_on_its_line_and_within_its_length() {
        let message = Message { summary: format!("a\n\u{202e}b\u{7}\u{2066}c{}", "x".repeat(9_000)), ..sample::opened() };
        for template in [Template::Native, Template::Watchdog, Template::Stardust, Template::VInsight] {
            let told = text(&Content::Incident(message.clone()), Style { template, ..Style::default() }, sample::NOW);
            assert!(told.plain().contains("a  b  c"), "{}", told.plain());
            assert!(told.lines.iter().all(|l| l.plain().chars().count() <= LINE_MAX), "{template:?}");
            assert!(told.lines.iter().any(|l| l.plain().ends_with('…')), "{template:?}");
        }
    }

    #[test]
    fn cuts_count_utf16_and_never_split_a_character() {
        assert_eq!(cut_utf16("🔴🔴", 4), "🔴🔴");
        assert_eq!(cut_utf16("🔴🔴", 3), "🔴…");
        assert_eq!(cut_utf16("🔴🔴", 2), "…");
        assert_eq!(cut_utf16("abc", 2), "a…");
        assert_eq!(cut_utf16("abc", 0), "");
    }

    #[test]
    fn lengths_are_told_in_what_matters() {
        let of = |us| rough(Dur(us), Language::En.words());
        assert_eq!(of(192_400_000), "3m12s");
        assert_eq!(of(850_500), "850ms");
        assert_eq!(of(5_400_000_000), "1h30m");
        assert_eq!(of(7_200_000_000), "2h");
        assert_eq!(of(190_000_000_000), "2d4h");
        assert_eq!(of(12_000_000), "12s");
        assert_eq!(of(-5), "0s");
        assert_eq!(of(900), "0s");
        assert_eq!(rough(Dur(192_400_000), Language::Ru.words()), "3 мин 12 с");
    }
}
