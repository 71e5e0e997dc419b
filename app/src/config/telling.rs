//! How a rule goes on telling: less often, again, to others, and what counts as flapping.
//!
//! The same four keys stand beside a rule, in a monitor and in `defaults`; each is taken from the nearest place that has it.

use super::alert::channel_names;
use super::decode::{self, Fields, Key, Node, Pos, Problems};
use watchkeeper_core::Dur;

/// The keys as monitors and `defaults` have them.
pub(super) const KEYS: [Key; 4] = [
    Key {
        name: "cooldown",
        form: "a duration from 0s to 7d",
        default: "0s",
        doc: "A reminder is left out so long after another word about the same rule; beginnings, escalations and ends are always told.",
    },
    Key {
        name: "remind",
        form: "a duration from 1m to 30d, or none",
        default: "none",
        doc: "An incident that lasts and that nobody has acknowledged is told again after so long, and so on.",
    },
    Key {
        name: "escalate",
        form: "a list of steps, soonest first",
        default: "[]",
        doc: "Who else is told of an incident that nobody has acknowledged, and how long after its beginning.",
    },
    Key {
        name: "flap_window",
        form: "a duration from 0s to 1d",
        default: "10m",
        doc: "A rule that is breached again so soon after its end flaps: its incident then ends only when it has been clear for so long. 0s: never.",
    },
];

/// The same beside a rule, which has no default of its own.
pub(super) const BESIDE: [Key; 4] = [inherited(KEYS[0]), inherited(KEYS[1]), inherited(KEYS[2]), inherited(KEYS[3])];

const fn inherited(key: Key) -> Key {
    Key { default: "", ..key }
}

/// Keys of one step of an escalation.
pub(super) const STEP: &[Key] = &[
    Key { name: "after", form: "a duration from 1s to 30d", default: "", doc: "How long after the incident's beginning." },
    Key { name: "notify", form: "a list of channels", default: "", doc: "Who is told then, and of everything that follows." },
];

/// More steps are refused: nobody is left to tell.
const STEPS_MAX: usize = 16;

/// How long flapping is looked for when nobody says anything.
const FLAP_WINDOW: Dur = Dur::secs(600);

/// One step of an escalation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepConfig {
    /// How long after the beginning.
    pub after: Dur,
    /// Who is told then, each with its place.
    pub notify: Vec<(String, Pos)>,
}

/// Whether and when an incident is told again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remind {
    Never,
    After(Dur),
}

/// What one place says; what it does not say is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Telling {
    cooldown: Option<Dur>,
    remind: Option<Remind>,
    escalate: Option<Vec<StepConfig>>,
    flap_window: Option<Dur>,
}

impl Telling {
    /// Reads the four keys of an opened mapping; what has a problem is absent, and the problem is noted.
    pub(super) fn decode(fields: &Fields<'_>, problems: &mut Problems) -> Self {
        let day = 86_400;
        Self {
            cooldown: fields.get("cooldown").and_then(|n| decode::duration(n, Dur::ZERO..=Dur::secs(7 * day), problems)),
            remind: fields.get("remind").and_then(|n| remind(n, problems)),
            escalate: fields.get("escalate").and_then(|n| escalate(n, problems)),
            flap_window: fields.get("flap_window").and_then(|n| decode::duration(n, Dur::ZERO..=Dur::secs(day), problems)),
        }
    }

    /// This, and where it says nothing, what another place says.
    #[must_use]
    pub(super) fn or(self, further: &Self) -> Self {
        Self {
            cooldown: self.cooldown.or(further.cooldown),
            remind: self.remind.or(further.remind),
            escalate: self.escalate.or_else(|| further.escalate.clone()),
            flap_window: self.flap_window.or(further.flap_window),
        }
    }

    /// So long after a word about the rule, the same word is not repeated.
    pub fn cooldown(&self) -> Dur {
        self.cooldown.unwrap_or(Dur::ZERO)
    }

    /// After how long an incident is told again, if ever.
    pub fn remind(&self) -> Option<Dur> {
        match self.remind {
            Some(Remind::After(pause)) => Some(pause),
            Some(Remind::Never) | None => None,
        }
    }

    /// Who else is told, soonest first.
    pub fn escalate(&self) -> &[StepConfig] {
        self.escalate.as_deref().unwrap_or_default()
    }

    /// How long after its end a new breach counts as flapping; zero for never.
    pub fn flap_window(&self) -> Dur {
        self.flap_window.unwrap_or(FLAP_WINDOW)
    }
}

fn remind(node: &Node, problems: &mut Problems) -> Option<Remind> {
    decode::parsed(node, "a duration from 1m to 30d, such as 1h, or none", problems, |t| {
        if t == "none" {
            return Some(Remind::Never);
        }
        decode::parse_duration(t).filter(|d| (Dur::secs(60)..=Dur::secs(30 * 86_400)).contains(d)).map(Remind::After)
    })
}

fn escalate(node: &Node, problems: &mut Problems) -> Option<Vec<StepConfig>> {
    let mut last: Option<Dur> = None;
    let steps = decode::list(node, problems, |node, problems| {
        let fields = Fields::open(node, STEP, problems)?;
        let after = fields.require("after", problems).and_then(|n| decode::duration(n, Dur::secs(1)..=Dur::secs(30 * 86_400), problems));
        if let (Some(after), Some(before)) = (after, last)
            && after <= before
        {
            let accepted = format!("longer than the step before, which is {}", decode::show_duration(before));
            problems.add(fields.place("after"), format!("`after` of {}", decode::show_duration(after)), accepted);
        }
        last = after.or(last);
        let notify = fields.require("notify", problems).and_then(|n| channel_names(n, problems))?;
        if notify.is_empty() {
            problems.add(fields.place("notify"), "a step that tells nobody", "at least one channel".to_owned());
        }
        Some(StepConfig { after: after?, notify })
    })?;
    if steps.len() > STEPS_MAX {
        problems.add(&node.at, format!("{} steps", steps.len()), format!("at most {STEPS_MAX}"));
    }
    Some(steps)
}
