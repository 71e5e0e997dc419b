//! What every channel has beside its kind: in which words it speaks, how often it may, and whether it is the last resort.

use crate::config::decode::{self, Fields, Key, Node, Problems};
use serde_json::{Value, json};
use smallvec::SmallVec;
use watchkeeper_core::Dur;

/// A channel has at most so many caps of its own. More says nothing new: a window, a burst and a day are three.
const BUDGETS_MAX: usize = 4;
/// The largest count in a cap. More is no cap; it also bounds how many past messages must be remembered.
const BUDGET_COUNT_MAX: u32 = 10_000;

/// Keys beside the kind.
pub(super) const COMMON: &[Key] = &[
    Key { name: "name", form: "a text", default: "", doc: "What `notify` calls it; unique in the tenant." },
    Key {
        name: "language",
        form: "en or ru",
        default: "en",
        doc: "The language of its messages; with `template: watchdog` it is ru if not given.",
    },
    Key {
        name: "template",
        form: "native, watchdog, stardust or v-insight",
        default: "native",
        doc: "How its messages are worded; what a template has no words for is told in native ones.",
    },
    Key {
        name: "budget",
        form: "a count per s, min or h such as 20/min, or a list of such",
        default: "",
        doc: "It gets no more messages than this, beside its provider's own limits; what is over them is gathered into one.",
    },
    Key {
        name: "last_resort",
        form: "true or false",
        default: "false",
        doc: "Whether it is told when no channel of an alert could be for 5 minutes.",
    },
];

/// In which language a channel speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Russian.
    Ru,
}

impl Language {
    /// The words of the file.
    pub(crate) const WORDS: &'static [(&'static str, Self)] = &[("en", Self::En), ("ru", Self::Ru)];

    /// The word of the file, which is also the tag of HTML.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Ru => "ru",
        }
    }
}

/// How a channel's messages are worded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Template {
    /// Our own words.
    #[default]
    Native,
    /// Short words about machines.
    Watchdog,
    /// Titles and labelled lines about services.
    Stardust,
    /// Titles, fields and documents about monitors and alert rules.
    VInsight,
}

/// The words a channel uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Style {
    /// In which language.
    pub language: Language,
    /// In which form.
    pub template: Template,
}

/// The words of the file.
const TEMPLATES: &[(&str, Template)] =
    &[("native", Template::Native), ("watchdog", Template::Watchdog), ("stardust", Template::Stardust), ("v-insight", Template::VInsight)];

/// The common keys as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Common {
    /// Its words.
    pub style: Style,
    /// Caps beside the provider's own: at most so many messages within so long.
    pub budget: SmallVec<[(u32, Dur); 3]>,
    /// Whether it is told when no channel of an alert could be.
    pub last_resort: bool,
}

impl Common {
    /// Reads them; what is wrong is noted and the default stands in its place.
    pub fn decode(fields: &Fields<'_>, problems: &mut Problems) -> Self {
        let template = fields.get("template").and_then(|n| decode::one_of(n, TEMPLATES, problems)).unwrap_or_default();
        let language = fields.get("language").and_then(|n| decode::one_of(n, Language::WORDS, problems));
        let budget = fields.get("budget").and_then(|n| decode_budget(n, problems)).unwrap_or_default();
        let last_resort = fields.get("last_resort").and_then(|n| decode::boolean(n, problems)).unwrap_or(false);
        Self { style: Style { language: language.unwrap_or(template.spoken()), template }, budget, last_resort }
    }

    /// In one fixed order, as it is stored and shown.
    pub fn canonical(&self) -> Value {
        let word = |found: Option<&'static str>| Value::from(found.unwrap_or_default());
        let template = TEMPLATES.iter().find(|(_, t)| *t == self.style.template).map(|(w, _)| *w);
        let budget: Vec<String> = self.budget.iter().map(|(count, window)| format!("{count}/{}", decode::show_duration(*window))).collect();
        json!({ "language": self.style.language.as_str(), "template": word(template), "budget": budget, "last_resort": self.last_resort })
    }
}

impl Template {
    /// The language that it was made in.
    const fn spoken(self) -> Language {
        match self {
            Self::Watchdog => Language::Ru,
            Self::Native | Self::Stardust | Self::VInsight => Language::En,
        }
    }
}

fn decode_budget(node: &Node, problems: &mut Problems) -> Option<SmallVec<[(u32, Dur); 3]>> {
    const FORM: &str = "a count from 1 to 10000 per s, min or h, such as 20/min";
    let caps = decode::list(node, problems, |item, problems| decode::parsed(item, FORM, problems, parse_cap))?;
    if caps.len() > BUDGETS_MAX {
        problems.add(&node.at, format!("{} budgets", caps.len()), format!("at most {BUDGETS_MAX}"));
        return None;
    }
    Some(caps.into_iter().collect())
}

/// `20/min`.
fn parse_cap(text: &str) -> Option<(u32, Dur)> {
    let (count, unit) = text.split_once('/')?;
    let window = match unit.trim() {
        "s" => Dur::secs(1),
        "min" => Dur::secs(60),
        "h" => Dur::secs(3_600),
        _ => return None,
    };
    count.trim().parse().ok().filter(|count| (1..=BUDGET_COUNT_MAX).contains(count)).map(|count| (count, window))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_counts_per_time() {
        assert_eq!(parse_cap("20/min"), Some((20, Dur::secs(60))));
        assert_eq!(parse_cap("1 / s"), Some((1, Dur::secs(1))));
        assert_eq!(parse_cap("300/h"), Some((300, Dur::secs(3_600))));
        for bad in ["", "20", "0/s", "-1/s", "20/day", "10001/h", "x/min", "/s"] {
            assert_eq!(parse_cap(bad), None, "{bad:?}");
        }
    }
}
