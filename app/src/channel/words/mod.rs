//! Every word that a person is told, once per language: tables of patterns, without any logic.
//!
//! A `{place}` in a pattern is filled by [`fill`]. A new language is one table; the compiler names what it lacks, and a test
//! compares the places of all tables.

mod en;
mod ru;

use super::common::Language;

/// All words of one language.
pub(crate) struct Words {
    /// What is shown of an instant: the pattern of `strftime`.
    pub(super) moment: &'static str,
    /// Days, hours, minutes, seconds, milliseconds, each with what stands before it.
    pub(super) units: [&'static str; 5],
    /// Between two units of one length.
    pub(super) units_gap: &'static str,
    /// A person whose name is not known.
    pub(super) somebody: &'static str,
    /// unknown, up, degraded, pending, down, paused.
    pub(crate) health: [&'static str; 6],
    /// What the rules mean.
    pub(super) down: States,
    pub(super) slow: States,
    pub(super) slow_phase: States,
    pub(super) ssl_expiry: States,
    pub(super) missed_push: States,
    pub(super) blind: States,
    pub(super) named: States,
    /// Words of our own form.
    pub(super) native: Native,
    /// Buttons below a message.
    pub(super) buttons: Buttons,
    /// The template `watchdog`.
    pub(super) watchdog: Watchdog,
    /// The template `stardust`.
    pub(super) stardust: Stardust,
    /// The template `v-insight`.
    pub(super) v_insight: VInsight,
}

/// One rule's words: `{name}`, and `{phase}` or `{rule}` where it has one; in `lasted` `{length}` and `{since}`.
pub(super) struct States {
    pub(super) is: &'static str,
    pub(super) still: &'static str,
    pub(super) well: &'static str,
    pub(super) lasted: &'static str,
}

/// Words of our own form.
pub(super) struct Native {
    pub(super) again: &'static str,
    /// `{node}`.
    pub(super) cut_off: &'static str,
    pub(super) flaps: &'static str,
    pub(super) flapped: &'static str,
    pub(super) escalated: &'static str,
    pub(super) acknowledged: &'static str,
    pub(super) unacknowledged: &'static str,
    pub(super) given_back: &'static str,
    pub(super) ended_by: &'static str,
    pub(super) retired: &'static str,
    pub(super) rule_removed: &'static str,
    pub(super) since: &'static str,
    pub(super) so_far: &'static str,
    pub(super) it_was: &'static str,
    pub(super) seen_from: &'static str,
    pub(super) more_labels: &'static str,
    pub(super) incident: &'static str,
    pub(super) digest: &'static str,
    pub(super) more: &'static str,
    pub(super) report_well: &'static str,
    pub(super) report_bad: &'static str,
    pub(super) period: &'static str,
    pub(super) uptime: &'static str,
    pub(super) report_incidents: &'static str,
    pub(super) node_started: &'static str,
    pub(super) node_stopped: &'static str,
    pub(super) node_failed: &'static str,
    pub(super) node_cut_off: &'static str,
    pub(super) channels_failed: &'static str,
    pub(super) at: &'static str,
    pub(super) from_to: &'static str,
    pub(super) test: &'static str,
    pub(super) test_works: &'static str,
    pub(super) sent_at: &'static str,
}

/// Buttons below a message.
pub(super) struct Buttons {
    pub(super) acknowledge: &'static str,
    pub(super) silence: &'static str,
}

/// The template `watchdog`; `{name}` is shown in bold.
pub(super) struct Watchdog {
    /// What is watched, in the grammatical form of the patterns: a machine, anything else.
    pub(super) machine: &'static str,
    pub(super) service: &'static str,
    pub(super) down: &'static str,
    pub(super) status: &'static str,
    pub(super) recovered: &'static str,
    pub(super) check: &'static str,
    pub(super) api_status: &'static str,
    pub(super) stuck: &'static str,
}

/// The template `stardust`.
pub(super) struct Stardust {
    pub(super) stopped: &'static str,
    pub(super) restored: &'static str,
    pub(super) malfunction: &'static str,
    pub(super) malfunction_note: &'static str,
    pub(super) unhealthy: &'static str,
    pub(super) report: &'static str,
    pub(super) node_started: &'static str,
    pub(super) node_started_line: &'static str,
    pub(super) node_stopped: &'static str,
    pub(super) node_stopped_line: &'static str,
    pub(super) node_failed: &'static str,
    pub(super) node_failed_line: &'static str,
    pub(super) service: &'static str,
    pub(super) status: &'static str,
    pub(super) previous: &'static str,
    pub(super) current: &'static str,
    pub(super) health: &'static str,
    pub(super) details: &'static str,
    pub(super) time: &'static str,
    pub(super) generated: &'static str,
    pub(super) uptime: &'static str,
    pub(super) summary: &'static str,
    /// Of a service: running, stopped, restarting, unknown, unhealthy.
    pub(super) running: &'static str,
    pub(super) is_stopped: &'static str,
    pub(super) restarting: &'static str,
    pub(super) unknown: &'static str,
    pub(super) is_unhealthy: &'static str,
}

/// The template `v-insight`.
pub(super) struct VInsight {
    pub(super) down: &'static str,
    pub(super) slow: &'static str,
    pub(super) ssl_expiry: &'static str,
    pub(super) other: &'static str,
    pub(super) down_over: &'static str,
    pub(super) slow_over: &'static str,
    pub(super) ssl_expiry_over: &'static str,
    pub(super) other_over: &'static str,
    pub(super) is_down: &'static str,
    pub(super) test: &'static str,
    pub(super) test_message: &'static str,
    pub(super) monitor: &'static str,
    pub(super) url: &'static str,
    pub(super) status: &'static str,
    pub(super) message: &'static str,
    pub(super) alert_rule: &'static str,
    pub(super) incident: &'static str,
}

impl Language {
    /// Its words.
    pub(crate) const fn words(self) -> &'static Words {
        match self {
            Self::En => &en::WORDS,
            Self::Ru => &ru::WORDS,
        }
    }
}

/// Fills the places of a pattern. What is filled in is never looked at again: a monitor named `{rule}` stays that.
pub(crate) fn fill(pattern: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(pattern.len() + 32);
    walk(pattern, values, |piece, _| out.push_str(piece));
    out
}

/// Hands on the pieces of a filled pattern, each with the place that it fills.
pub(super) fn walk(pattern: &str, values: &[(&str, &str)], mut piece: impl FnMut(&str, Option<&str>)) {
    let mut rest = pattern;
    while let Some((before, (place, after))) = rest.split_once('{').and_then(|(b, r)| r.split_once('}').map(|p| (b, p))) {
        piece(before, None);
        let value = values.iter().find(|(known, _)| *known == place).map(|(_, value)| *value);
        debug_assert!(value.is_some(), "{pattern} has a place that nothing fills: {place}");
        piece(value.unwrap_or_default(), Some(place));
        rest = after;
    }
    piece(rest, None);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table's source, pattern by pattern in the order of the struct's fields.
    fn places(source: &str) -> Vec<(String, Vec<String>)> {
        let mut all = Vec::new();
        for line in source.lines().filter(|l| l.contains(": \"")) {
            for part in line.split(": \"").collect::<Vec<_>>().windows(2) {
                let key = part[0].rsplit([' ', '{']).next().unwrap_or_default().to_owned();
                let text = part[1].split('"').next().unwrap_or_default();
                let mut found: Vec<String> = text.split('{').skip(1).filter_map(|p| p.split('}').next()).map(str::to_owned).collect();
                found.sort();
                all.push((key, found));
            }
        }
        all.sort();
        all
    }

    #[test]
    fn every_language_fills_the_same_places() {
        let (en, ru) = (places(include_str!("en.rs")), places(include_str!("ru.rs")));
        assert!(en.len() > 60, "{}", en.len());
        assert_eq!(en, ru);
    }

    #[test]
    fn what_is_filled_in_is_not_a_pattern() {
        assert_eq!(fill("{name} breaks {rule}", &[("name", "{rule}"), ("rule", "x")]), "{rule} breaks x");
        assert_eq!(fill("nothing", &[]), "nothing");
    }
}
