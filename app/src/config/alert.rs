//! Alert rules: the trigger is the kind, severity and route stand beside it.

use super::decode::{self, Fields, Key, Node, Pos, Problems};
use super::routes::Chosen;
use super::tagged::{Family, Kind};
use super::telling::{BESIDE, Telling};
use crate::calendar::Hours;
use crate::probe::ProbeConfig;
use std::collections::BTreeMap;
use std::sync::Arc;
use watchkeeper_core::{Dur, Measure, Severity, Trigger};

/// The kinds of alerts as the file names them.
pub const FAMILY: Family<AlertKind> =
    Family { what: "alert", common: COMMON, kinds: KINDS, later_kinds: &["unhealthy", "restart_loop", "stuck"], later_keys: &[] };

const COMMON: &[Key] = &[
    Key { name: "name", form: "a name", default: "", doc: "The rule's identity, needed when a monitor has two of one kind." },
    Key {
        name: "severity",
        form: "info, warning or critical",
        default: "",
        doc: "How bad: critical for down and missed_push, else warning, if not given.",
    },
    Key {
        name: "notify",
        form: "a list of channels",
        default: "",
        doc: "Who is told; the monitor's `notify` if not given, and without that whom `routes` say.",
    },
    Key { name: "for", form: "a duration from 0s to 7d", default: "0s", doc: "How long it must stay breached before anybody is told." },
    BESIDE[0],
    BESIDE[1],
    BESIDE[2],
    BESIDE[3],
];

const KINDS: &[Kind<AlertKind>] = &[
    Kind {
        name: "down",
        doc: "The monitor is down.",
        keys: &[],
        sections: &[],
        examples: &[],
        address: &[],
        decode: |node, problems| Fields::open(node, &[], problems).map(|_| AlertKind::Down),
    },
    Kind {
        name: "missed_push",
        doc: "The expected push did not come; for push monitors.",
        keys: &[],
        sections: &[],
        examples: &[],
        address: &[],
        decode: |node, problems| Fields::open(node, &[], problems).map(|_| AlertKind::MissedPush),
    },
    Kind {
        name: "slow_response",
        doc: "Attempts take too long, as a whole or in one phase.",
        keys: SLOW,
        sections: &[],
        examples: &[("above", "800ms")],
        address: &[],
        decode: slow_response,
    },
    Kind {
        name: "ssl_expiry",
        doc: "A certificate of the chain expires soon or has expired; for http and tls.",
        keys: EXPIRY,
        sections: &[],
        examples: &[],
        address: &[],
        decode: ssl_expiry,
    },
    Kind {
        name: "blind",
        doc: "We have not been able to look for too long.",
        keys: BLIND,
        sections: &[],
        examples: &[],
        address: &[],
        decode: blind,
    },
];

const SLOW: &[Key] = &[
    Key { name: "above", form: "a duration from 1ms to 10m", default: "", doc: "Longer than this is slow." },
    Key {
        name: "phase",
        form: "total, dns, connect, tls, first_byte or transfer",
        default: "total",
        doc: "Which part of the attempt is compared.",
    },
    Key { name: "for", form: "`n of m` with m up to 64", default: "3 of 5", doc: "So many of the last attempts must have been slow." },
];

const EXPIRY: &[Key] =
    &[Key { name: "within", form: "whole days from 1d to 825d", default: "14d", doc: "So long before the first certificate expires." }];

const BLIND: &[Key] = &[Key { name: "for", form: "a duration from 1s to 30d", default: "10m", doc: "How long we must have been blind." }];

/// When a rule is breached, as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertKind {
    /// The monitor is down, for any reason but a missed push.
    Down,
    /// The expected push did not come.
    MissedPush,
    /// `phase` took longer than `above` in at least `n` of the last `of` attempts.
    SlowResponse {
        /// The longest time that is still fine.
        above: Dur,
        /// What is compared.
        phase: Measure,
        /// So many slow attempts …
        n: u8,
        /// … among so many.
        of: u8,
    },
    /// A certificate has at most so many days left.
    SslExpiry {
        /// Whole days.
        within_days: u16,
    },
    /// We could not look for so long.
    Blind {
        /// How long.
        hold: Dur,
    },
}

impl AlertKind {
    /// The kind's word; for `slow_response` with its phase: the rule's identity when it has no name.
    pub fn key(self) -> String {
        match self {
            Self::Down => "down".to_owned(),
            Self::MissedPush => "missed_push".to_owned(),
            Self::SlowResponse { phase, .. } => format!("slow_response/{}", phase.as_str()),
            Self::SslExpiry { .. } => "ssl_expiry".to_owned(),
            Self::Blind { .. } => "blind".to_owned(),
        }
    }

    /// The compiled trigger.
    pub const fn trigger(self) -> Trigger {
        match self {
            Self::Down => Trigger::Down,
            Self::MissedPush => Trigger::MissedPush,
            Self::SlowResponse { above, phase, n, of } => Trigger::Above { what: phase, limit: above.0, n, of },
            Self::SslExpiry { within_days } => Trigger::AtMost { what: Measure::CertDaysLeft, limit: within_days as i64 },
            Self::Blind { hold } => Trigger::Blind { hold },
        }
    }

    const fn usual_severity(self) -> Severity {
        match self {
            Self::Down | Self::MissedPush => Severity::Critical,
            Self::SlowResponse { .. } | Self::SslExpiry { .. } | Self::Blind { .. } => Severity::Warning,
        }
    }

    /// Why a monitor with this probe cannot have the rule: what is wrong and what is accepted; `None` if it can.
    pub fn misfit(self, probe: &ProbeConfig) -> Option<(String, String)> {
        let is_push = matches!(probe, ProbeConfig::Push(_));
        let measures = probe.measures();
        match self {
            Self::Down | Self::Blind { .. } => None,
            Self::MissedPush => (!is_push).then(|| ("`missed_push` on a monitor that is not pushed to".to_owned(), "`down`".to_owned())),
            Self::SlowResponse { phase, .. } => (!measures.contains(&phase)).then(|| {
                let timed: Vec<_> = measures.iter().filter(|m| PHASES.iter().any(|(_, p)| p == *m)).map(|m| m.as_str()).collect();
                let accepted = if timed.is_empty() { "another kind of alert".to_owned() } else { timed.join(", ") };
                (format!("phase `{}`, which a monitor of kind `{}` does not measure", phase.as_str(), probe.kind()), accepted)
            }),
            Self::SslExpiry { .. } => (!measures.contains(&Measure::CertDaysLeft)).then(|| {
                (
                    format!("`ssl_expiry` on a monitor of kind `{}`, which sees no certificate", probe.kind()),
                    "monitors of kind http or tls".to_owned(),
                )
            }),
        }
    }
}

/// One rule as configured. In a loaded configuration it is complete with what it inherits: whom it tells, and how it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertConfig {
    /// Where its kind stands.
    pub at: Pos,
    /// When it is breached.
    pub kind: AlertKind,
    /// Its identity, if it was given a name.
    pub name: Option<String>,
    /// How bad.
    pub severity: Severity,
    /// How long it must stay breached.
    pub hold: Dur,
    /// Who is told, each with its place.
    pub notify: Option<Vec<(String, Pos)>>,
    /// What chose them.
    pub chosen: Chosen,
    /// At which hours a channel is told of it; at any of these. A channel that is not here is told at any time.
    pub hours: BTreeMap<String, Vec<Arc<Hours>>>,
    /// Reminders, escalation, cooldown, flapping.
    pub telling: Telling,
}

impl AlertConfig {
    /// A rule without anything beside its kind.
    pub(super) fn plain(kind: AlertKind, at: &Pos) -> Self {
        Self {
            at: at.clone(),
            kind,
            name: None,
            severity: kind.usual_severity(),
            hold: Dur::ZERO,
            notify: None,
            chosen: Chosen::default(),
            hours: BTreeMap::new(),
            telling: Telling::default(),
        }
    }

    /// The rule's identity within its monitor.
    pub fn key(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.kind.key())
    }

    pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let tagged = FAMILY.open(node, problems)?;
        let common = &tagged.common;
        let name = common.get("name").map_or(Some(None), |n| super::monitor::name(n, problems).map(Some));
        let words = [("info", Severity::Info), ("warning", Severity::Warning), ("critical", Severity::Critical)];
        let severity = common.get("severity").map_or(Some(None), |n| decode::one_of(n, &words, problems).map(Some));
        let notify = common.get("notify").map_or(Some(None), |n| channel_names(n, problems).map(Some));
        let hold = common.get("for").map_or(Some(Dur::ZERO), |n| decode::duration(n, Dur::ZERO..=Dur::secs(7 * 86_400), problems));
        let telling = Telling::decode(common, problems);
        let kind = tagged.kind?;
        let severity = severity?.unwrap_or_else(|| kind.usual_severity());
        Some(Self {
            at: tagged.at.clone(),
            kind,
            name: name?,
            severity,
            hold: hold?,
            notify: notify?,
            chosen: Chosen::default(),
            hours: BTreeMap::new(),
            telling,
        })
    }
}

/// Names of channels with their places; whether they exist is checked when all are known.
pub(super) fn channel_names(node: &Node, problems: &mut Problems) -> Option<Vec<(String, Pos)>> {
    decode::list(node, problems, |n, problems| decode::text(n, problems).map(|name| (name, n.at.clone())))
}

/// The words of `phase`.
const PHASES: &[(&str, Measure)] = &[
    ("total", Measure::Total),
    ("dns", Measure::Dns),
    ("connect", Measure::Connect),
    ("tls", Measure::Tls),
    ("first_byte", Measure::FirstByte),
    ("transfer", Measure::Transfer),
];

/// The identities of rules that were given no name.
pub(super) fn usual_keys() -> impl Iterator<Item = String> {
    let slow = PHASES.iter().map(|(phase, _)| format!("slow_response/{phase}"));
    KINDS.iter().map(|k| k.name.to_owned()).filter(|name| name != "slow_response").chain(slow)
}

fn slow_response(node: &Node, problems: &mut Problems) -> Option<AlertKind> {
    let fields = Fields::open(node, SLOW, problems)?;
    let above = fields.require("above", problems).and_then(|n| decode::duration(n, Dur::millis(1)..=Dur::secs(600), problems));
    let phase = fields.get("phase").map_or(Some(Measure::Total), |n| decode::one_of(n, PHASES, problems));
    let window = fields
        .get("for")
        .map_or(Some((3, 5)), |n| decode::parsed(n, "`n of m`, such as 5 of 10, with n from 1 to m and m up to 64", problems, n_of_m));
    let (n, of) = window?;
    Some(AlertKind::SlowResponse { above: above?, phase: phase?, n, of })
}

/// `5 of 10`: the ring of the fold holds 64 attempts.
fn n_of_m(text: &str) -> Option<(u8, u8)> {
    let (n, of) = text.split_once(" of ")?;
    let (n, of) = (n.trim().parse().ok()?, of.trim().parse().ok()?);
    (1 <= n && n <= of && of <= 64).then_some((n, of))
}

fn ssl_expiry(node: &Node, problems: &mut Problems) -> Option<AlertKind> {
    const DAY: i64 = 86_400_000_000;
    let fields = Fields::open(node, EXPIRY, problems)?;
    let within = fields.get("within").map_or(Some(14), |n| {
        decode::parsed(n, "whole days from 1d to 825d, such as 14d", problems, |t| {
            decode::parse_duration(t).filter(|d| d.0 % DAY == 0 && (1..=825).contains(&(d.0 / DAY))).map(|d| (d.0 / DAY) as u16)
        })
    });
    Some(AlertKind::SslExpiry { within_days: within? })
}

fn blind(node: &Node, problems: &mut Problems) -> Option<AlertKind> {
    let fields = Fields::open(node, BLIND, problems)?;
    let hold = fields.get("for").map_or(Some(Dur::secs(600)), |n| decode::duration(n, Dur::secs(1)..=Dur::secs(30 * 86_400), problems));
    Some(AlertKind::Blind { hold: hold? })
}
