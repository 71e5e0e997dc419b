//! What the entries of an incident's timeline say.
//!
//! An entry is stored as a sentence, which every client can show. All sentences that are not a person's or a probe's own are made here, each of a
//! form with values; so they can be read back as that, and whoever speaks another language says them in it. A sentence of an earlier version,
//! or of nobody's form, is shown as it is.

/// The form of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A phase was too slow, and how slow it was.
    Slow,
    /// A phase was too slow.
    SlowAtLeast,
    /// The certificate has expired.
    Expired,
    /// The certificate is about to.
    ExpiresToday,
    /// The certificate will.
    Expires,
    /// Nobody could look.
    Blind,
    /// It lasts.
    Lasts,
    /// It lasts, and does not flap any more.
    Settled,
    /// Somebody has taken it on.
    TakenOn,
    /// Whoever had taken it on gave it back.
    GivenBack,
    /// It ended by itself.
    Over,
    /// Its rule is gone.
    RuleRemoved,
    /// Its monitor is gone.
    Retired,
    /// Somebody ended it.
    Ended,
    /// A channel was told of it, with one other.
    ToldWithOne,
    /// A channel was told of it, with others.
    ToldWith,
    /// A channel was told of it.
    Told,
    /// A silence holds it back.
    HeldBySilence,
    /// Maintenance holds it back.
    HeldByMaintenance,
    /// What it depends on is down.
    HeldByDown,
    /// What it depends on is failing.
    HeldByFailing,
    /// Something holds it back.
    Held,
    /// A channel did not take it.
    GaveUp,
    /// A channel is gone.
    Gone,
    /// A channel was not told of it.
    NotTold,
    /// Nobody could be told.
    AllFailed,
    /// The last resort is told.
    LastResort,
    /// The last resort is told too.
    LastResortToo,
    /// A node that was cut off found it alone, and told nobody.
    AloneUntold,
    /// … and told one.
    AloneToldOne,
    /// … and told some.
    AloneTold,
    /// A node that was cut off found it too, and told nobody.
    TooUntold,
    /// … and told one.
    TooToldOne,
    /// … and told some.
    TooTold,
}

/// The kinds of entries that say that an incident lasts.
const LASTS: &[&str] = &["reminded", "escalated"];

impl Form {
    /// Every form; of two that fit a sentence the one that says more is first.
    pub const ALL: [Self; 34] = [
        Self::Slow,
        Self::SlowAtLeast,
        Self::Expired,
        Self::ExpiresToday,
        Self::Expires,
        Self::Blind,
        Self::Lasts,
        Self::Settled,
        Self::TakenOn,
        Self::GivenBack,
        Self::Over,
        Self::RuleRemoved,
        Self::Retired,
        Self::Ended,
        Self::ToldWithOne,
        Self::ToldWith,
        Self::Told,
        Self::HeldByDown,
        Self::HeldByFailing,
        Self::HeldBySilence,
        Self::HeldByMaintenance,
        Self::Held,
        Self::GaveUp,
        Self::Gone,
        Self::NotTold,
        Self::AllFailed,
        Self::LastResort,
        Self::LastResortToo,
        Self::AloneUntold,
        Self::AloneToldOne,
        Self::AloneTold,
        Self::TooUntold,
        Self::TooToldOne,
        Self::TooTold,
    ];

    /// The word in the API, the kinds of entries that have the form, and the sentence with `{}` for each value.
    const fn parts(self) -> (&'static str, &'static [&'static str], &'static str) {
        match self {
            Self::Slow => ("slow", &["opened"], "{} {}, limit {}; {} of the last {} attempts were above it"),
            Self::SlowAtLeast => ("slow_at_least", &["opened"], "limit {}; {} of the last {} attempts were above it"),
            Self::Expired => ("expired", &["opened"], "the certificate expired {} ago"),
            Self::ExpiresToday => ("expires_today", &["opened"], "the certificate expires within a day"),
            Self::Expires => ("expires", &["opened"], "the certificate expires in {}"),
            Self::Blind => ("blind", &["opened"], "nothing is known of it for {}: {}"),
            Self::Lasts => ("lasts", LASTS, "for {} now: {}"),
            Self::Settled => ("settled", LASTS, "no longer flapping: it stays, {} after it began: {}"),
            Self::TakenOn => ("taken_on", &["acknowledged"], "taken on"),
            Self::GivenBack => ("given_back", &["unacknowledged"], "given back"),
            Self::Over => ("over", &["resolved"], "over after {}"),
            Self::RuleRemoved => ("rule_removed", &["resolved"], "ended after {} because its rule was taken out of the configuration"),
            Self::Retired => ("retired", &["resolved"], "ended after {} because the monitor is no longer watched"),
            Self::Ended => ("ended", &["resolved"], "ended by {} after {}"),
            Self::ToldWithOne => ("told_with_one", &["told"], "told {} (with 1 other)"),
            Self::ToldWith => ("told_with", &["told"], "told {} (with {} others)"),
            Self::Told => ("told", &["told"], "told {}"),
            Self::HeldBySilence => ("held_by_silence", &["held"], "held back from {}: silence {}"),
            Self::HeldByMaintenance => ("held_by_maintenance", &["held"], "held back from {}: maintenance {}"),
            Self::HeldByDown => ("held_by_down", &["held"], "held back from {}: {}, which it depends on, is down"),
            Self::HeldByFailing => ("held_by_failing", &["held"], "held back from {}: {}, which it depends on, is failing"),
            Self::Held => ("held", &["held"], "held back from {}: {}"),
            Self::GaveUp => ("gave_up", &["not_told"], "gave up telling {}: {}"),
            Self::Gone => ("gone", &["not_told"], "not told {}: the channel is gone from the configuration ({})"),
            Self::NotTold => ("not_told", &["not_told"], "not told {}: {}"),
            Self::AllFailed => ("all_failed", &["channels_failed"], "every channel has failed ({}), and there is no other to tell"),
            Self::LastResort => ("last_resort", &["channels_failed"], "every channel has failed ({}): telling {} as a last resort"),
            Self::LastResortToo => {
                ("last_resort_too", &["channels_failed"], "no channel could be told so far ({}): telling {} too, as a last resort")
            }
            Self::AloneUntold => ("alone_untold", &["cut_off"], "alone found this, cut off from the store (told nobody): {}"),
            Self::AloneToldOne => ("alone_told_one", &["cut_off"], "alone found this, cut off from the store (told 1 channel): {}"),
            Self::AloneTold => ("alone_told", &["cut_off"], "alone found this, cut off from the store (told {} channels): {}"),
            Self::TooUntold => ("too_untold", &["cut_off"], "found this too, cut off from the store (told nobody): {}"),
            Self::TooToldOne => ("too_told_one", &["cut_off"], "found this too, cut off from the store (told 1 channel): {}"),
            Self::TooTold => ("too_told", &["cut_off"], "found this too, cut off from the store (told {} channels): {}"),
        }
    }

    /// The word in the API.
    pub const fn code(self) -> &'static str {
        self.parts().0
    }

    /// The sentence.
    pub fn say(self, values: &[&str]) -> String {
        let mut values = values.iter();
        let mut texts = self.parts().2.split("{}");
        let mut said = texts.next().unwrap_or_default().to_owned();
        for text in texts {
            said.push_str(values.next().copied().unwrap_or_default());
            said.push_str(text);
        }
        said
    }

    /// The values of a sentence of this form.
    fn values(self, said: &str) -> Option<Vec<String>> {
        let mut texts = self.parts().2.split("{}");
        let mut rest = said.strip_prefix(texts.next()?)?;
        let mut values = Vec::new();
        let mut texts = texts.peekable();
        while let Some(text) = texts.next() {
            // The last text is the end, the others are where they are met first.
            let at = if texts.peek().is_none() { rest.strip_suffix(text)?.len() } else { rest.find(text)? };
            values.push(rest[..at].to_owned());
            rest = &rest[at + text.len()..];
        }
        rest.is_empty().then_some(values)
    }
}

/// The form and the values of what an entry of some kind says; nothing for people's words, a probe's account, and what is not known.
pub fn read(kind: &str, said: &str) -> Option<(Form, Vec<String>)> {
    Form::ALL.into_iter().filter(|form| form.parts().1.contains(&kind)).find_map(|form| Some((form, form.values(said)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use watchkeeper_core::Micros;
    use watchkeeper_core::plan::{HeldBy, Mute};

    #[test]
    fn every_form_has_a_word_of_its_own() {
        assert_eq!(Form::ALL.map(Form::code).into_iter().collect::<BTreeSet<_>>().len(), Form::ALL.len());
    }

    proptest! {
        /// Names may be anything that does not look like a sentence itself.
        #[test]
        fn what_is_said_is_read_back(nth in 0..Form::ALL.len(), values in prop::collection::vec("[a-z0-9.]{1,8}", 5)) {
            let form = Form::ALL[nth];
            let count = form.parts().2.matches("{}").count();
            let given: Vec<&str> = values.iter().map(String::as_str).take(count).collect();
            for kind in form.parts().1 {
                let found = read(kind, &form.say(&given)).expect("it is of a form");
                prop_assert_eq!((found.0, found.1.iter().map(String::as_str).collect::<Vec<_>>()), (form, given.clone()));
            }
        }

        #[test]
        fn any_text_is_read_or_left(kind in "(told|held|opened|cut_off|resolved)", text in ".{0,60}") {
            if let Some((form, values)) = read(&kind, &text) {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                prop_assert_eq!(form.say(&values), text);
            }
        }
    }

    #[test]
    fn what_holds_a_word_back_is_known() {
        let held =
            |mute| read("held", &Form::Held.say(&["ops", &HeldBy::Mute(mute).sentence()])).map(|(form, values)| (form, values.join(" ")));
        let until = Micros(1);
        for (mute, form, values) in [
            (Mute::Silence { id: "s1".into(), until }, Form::HeldBySilence, "ops s1"),
            (Mute::Maintenance { name: "deploy".into(), until }, Form::HeldByMaintenance, "ops deploy"),
            (Mute::Parent { name: "router".into(), suspect: false }, Form::HeldByDown, "ops router"),
            (Mute::Parent { name: "silence".into(), suspect: true }, Form::HeldByFailing, "ops silence"),
        ] {
            assert_eq!(held(mute), Some((form, values.to_owned())));
        }
    }

    #[test]
    fn peoples_words_and_what_is_not_known_are_left() {
        assert_eq!(read("comment", "told ops"), None);
        assert_eq!(read("opened", "127.0.0.1:80 refused the connection"), None);
        assert_eq!(read("told", "ops was told that it opened"), None);
        assert_eq!(read("of a later version", "told ops"), None);
    }

    #[test]
    fn sentences_of_earlier_versions_are_read() {
        let values = |kind, text| read(kind, text).map(|(form, values)| (form.code(), values.join(" | "))).unwrap();
        assert_eq!(values("told", "told ops"), ("told", "ops".to_owned()));
        assert_eq!(values("told", "told ops (with 12 others)"), ("told_with", "ops | 12".to_owned()));
        assert_eq!(
            values("held", "held back from ops: maintenance deploy: the shop"),
            ("held_by_maintenance", "ops | deploy: the shop".to_owned())
        );
        assert_eq!(
            values("not_told", "not told ops: over before it could be told"),
            ("not_told", "ops | over before it could be told".to_owned())
        );
        assert_eq!(values("resolved", "ended by ann after 5m"), ("ended", "ann | 5m".to_owned()));
        assert_eq!(values("resolved", "over after 1h30m"), ("over", "1h30m".to_owned()));
        assert_eq!(values("reminded", "for 10m now: a: b"), ("lasts", "10m | a: b".to_owned()));
    }
}
