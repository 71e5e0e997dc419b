//! Text from outside: names, error texts, bodies and comments that somebody else wrote, shown to people.
//!
//! What is shown must be what is there. So characters that are no text, but do something to the text around them, are
//! shown as something else: control characters, and those that turn the direction of writing, with which `cod.exe` can be made to
//! look like `exe.doc`. Joiners within words and emoji stay.

/// Whether a character acts upon the text around it and has no look of its own.
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Marks, embeddings, overrides and isolates of direction (Unicode Standard Annex 9, section 2).
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Lines and paragraphs, which some readers begin anew at them.
            | '\u{2028}' | '\u{2029}'
            // Nothing at all: two names that differ in these look the same.
            | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// The text on one line, with a blank for each such character.
pub fn on_one_line(text: &str) -> String {
    text.chars().map(|c| if steers(c) { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_turns_hides_or_breaks_the_text_around_it() {
        assert_eq!(on_one_line("a\nb\u{7}c\u{202e}d\u{2066}e\u{2028}f\u{feff}g\u{200f}h"), "a b c d e f g h");
        for kept in ["Анна", "日本", "👩\u{200d}🚒", "می\u{200c}خواهم", "שלום", "❤\u{fe0f}", "a\u{301}"] {
            assert_eq!(on_one_line(kept), kept);
        }
    }
}
