//! HTML, SVG and XML, put together by hand: what stands in the program goes in as it is, everything else only escaped.
//!
//! The pages are a few dozen lines and known in advance; a template language would be one more thing to learn and larger than they are. What it
//! would give is here: [`Markup::raw`] takes only what was written into the program, so that nothing from outside can be markup.

use std::fmt::{Display, Write as _};

/// Markup that grows.
#[derive(Default)]
pub(super) struct Markup(String);

impl Markup {
    /// Adds markup.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Adds text: between tags, or between the double quotes of an attribute.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(c),
                // XML has no way to write these.
                c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => self.0.push(' '),
                c => self.0.push(c),
            }
        }
        self
    }

    /// Adds a number.
    pub(super) fn number(&mut self, number: impl Number) -> &mut Self {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{number}");
        self
    }

    /// The whole.
    pub(super) fn into_string(self) -> String {
        self.0
    }
}

/// What can hold no markup.
pub(super) trait Number: Display + Copy {}
impl Number for i64 {}
impl Number for usize {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_is_markup() {
        let mut out = Markup::default();
        out.raw("<b title=\"").text("\" onload='x' & <script>\u{0}\u{1b}\u{ffff}\n").raw("\">").number(-1_i64).raw("</b>");
        assert_eq!(out.into_string(), "<b title=\"&quot; onload=&#39;x&#39; &amp; &lt;script&gt;   \n\">-1</b>");
    }
}
