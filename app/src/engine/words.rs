//! What a decision says to people: summaries, messages and live events, fixed when it is decided.
//!
//! Pure: everything comes in as an argument. It never formats for one provider; channels do that.

use super::watched::Codes;
use crate::channel::Message;
use crate::config::decode::show_duration;
use crate::foreign::on_one_line;
use crate::spec::MonitorSpec;
use crate::store::{LiveWrite, OpenIncident, RetiredMonitor};
use crate::timeline::Form;
use crate::web::types::Time;
use serde_json::json;
use std::collections::BTreeMap;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::rule::{Severity, Trigger};
use watchkeeper_core::verdict::{NoticeEvent, Policy, ResolvedWhy, Verdict};
use watchkeeper_core::{Blind, Dur, Measure, Micros, Reason, RuleKey};

/// What messages need to know of a monitor, whether it is still watched or not.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Public id.
    pub uid: String,
    /// Name.
    pub name: String,
    /// `http`, …
    pub kind: String,
    /// What is watched.
    pub target: String,
    /// The owner's slug.
    pub tenant: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

impl From<&MonitorSpec> for Subject {
    fn from(spec: &MonitorSpec) -> Self {
        Self {
            uid: spec.uid.clone(),
            name: spec.name.clone(),
            kind: spec.kind.to_owned(),
            target: spec.target.clone(),
            tenant: spec.tenant_slug.clone(),
            labels: spec.labels.clone(),
        }
    }
}

impl From<&RetiredMonitor> for Subject {
    fn from(gone: &RetiredMonitor) -> Self {
        Self {
            uid: gone.uid.clone(),
            name: gone.name.clone(),
            kind: gone.kind.clone(),
            target: gone.target.clone(),
            tenant: gone.tenant_slug.clone(),
            labels: BTreeMap::new(),
        }
    }
}

/// Why an incident opened, in one sentence without a full stop. `detail` is the probe's own account of the deciding attempt.
pub fn opened(
    policy: &Policy,
    rule: &RuleKey,
    reason: Option<Reason>,
    blind: Option<Blind>,
    value: Option<i64>,
    detail: Option<&str>,
) -> String {
    let Some(rule) = policy.rules.iter().find(|r| r.key == *rule) else { return rule.to_string() };
    match rule.trigger {
        Trigger::Down | Trigger::MissedPush => match (detail, reason) {
            (Some(detail), _) => detail.to_owned(),
            (None, Some(reason)) => reason.sentence().to_owned(),
            (None, None) => "it does not answer as expected".to_owned(),
        },
        Trigger::Above { what, limit, n, of } => {
            let (limit, n, of) = (measured(what, limit), n.to_string(), of.to_string());
            match value {
                Some(took) => Form::Slow.say(&[what.as_str(), &measured(what, took), &limit, &n, &of]),
                None => Form::SlowAtLeast.say(&[&limit, &n, &of]),
            }
        }
        Trigger::AtMost { what: Measure::CertDaysLeft, .. } => match value {
            Some(days) if days < 0 => Form::Expired.say(&[&days_of(-days)]),
            Some(0) => Form::ExpiresToday.say(&[]),
            Some(days) => Form::Expires.say(&[&days_of(days)]),
            None => "the certificate expires soon".to_owned(),
        },
        Trigger::AtMost { what, limit } => {
            format!(
                "{} is {}, at or below {}",
                what.as_str(),
                value.map_or_else(|| "low".to_owned(), |v| measured(what, v)),
                measured(what, limit)
            )
        }
        Trigger::Blind { hold } => {
            let why = blind.map_or("nobody could look", Blind::sentence);
            Form::Blind.say(&[&show_duration(hold), why])
        }
    }
}

/// That somebody has taken an incident on, or given it back, as its timeline says it beside the name.
pub fn acknowledged(on: bool) -> String {
    if on { Form::TakenOn } else { Form::GivenBack }.say(&[])
}

/// That an incident lasts. `was` is why it opened.
pub fn lasts(lasted: Dur, settled: bool, was: &str) -> String {
    if settled { Form::Settled } else { Form::Lasts }.say(&[&seconds(lasted), was])
}

/// A length of time without fractions of seconds.
fn seconds(length: Dur) -> String {
    show_duration(Dur(length.0.max(0) / 1_000_000 * 1_000_000))
}

/// Why and after how long an incident ended.
pub fn resolved(why: ResolvedWhy, lasted: Dur, actor: Option<&str>) -> String {
    let lasted = &*seconds(lasted);
    match why {
        ResolvedWhy::Recovered => Form::Over.say(&[lasted]),
        ResolvedWhy::RuleRemoved => Form::RuleRemoved.say(&[lasted]),
        ResolvedWhy::Retired => Form::Retired.say(&[lasted]),
        ResolvedWhy::Operator => Form::Ended.say(&[actor.unwrap_or("somebody"), lasted]),
    }
}

fn measured(what: Measure, value: i64) -> String {
    match what {
        Measure::Total | Measure::Dns | Measure::Connect | Measure::Tls | Measure::FirstByte | Measure::Transfer | Measure::Jitter => {
            format!("{}.{} ms", value / 1_000, value % 1_000 / 100)
        }
        Measure::CertDaysLeft => days_of(value),
        Measure::LossPermille => format!("{}.{} %", value / 10, value % 10),
    }
}

fn days_of(days: i64) -> String {
    if days == 1 { "1 day".to_owned() } else { format!("{days} days") }
}

/// What is told about one incident.
#[derive(Clone, Debug)]
pub struct Told<'a> {
    /// Which word.
    pub event: NoticeEvent,
    /// The incident's public id.
    pub incident: &'a str,
    /// Which rule.
    pub rule: &'a RuleKey,
    /// How bad.
    pub severity: Severity,
    /// Why, for rules on health.
    pub reason: Option<String>,
    /// One sentence.
    pub summary: String,
    /// The probe's own account.
    pub detail: Option<String>,
    /// When it began.
    pub opened_at: Micros,
    /// When it ended.
    pub resolved_at: Option<Micros>,
    /// Why it ended.
    pub resolved_why: Option<ResolvedWhy>,
    /// It began soon after its last end.
    pub flapping: bool,
    /// Who acknowledged it, gave it back or ended it.
    pub actor: Option<String>,
    /// What that person said with it.
    pub comment: Option<String>,
}

impl<'a> Told<'a> {
    /// A word about an incident that is open.
    pub fn about(known: &'a OpenIncident, event: NoticeEvent, severity: Severity, summary: String) -> Self {
        Self {
            event,
            incident: &known.uid,
            rule: &known.rule,
            severity,
            reason: known.reason.clone(),
            summary,
            detail: None,
            opened_at: known.opened_at,
            resolved_at: None,
            resolved_why: None,
            flapping: false,
            actor: None,
            comment: None,
        }
    }
}

/// The message of a notice. Here what a target, a job or a person said becomes a part of what others are told, on one line.
pub fn message(subject: &Subject, verdict: &Verdict, codes: &Codes, told: Told<'_>) -> Message {
    let code = |datacenter| codes.get(datacenter).cloned().unwrap_or_else(|| format!("#{}", datacenter.0));
    let seen_by = verdict.votes.iter().map(|(datacenter, vote)| (code(datacenter), vote.health.as_str().to_owned())).collect();
    Message {
        event: told.event,
        incident: told.incident.to_owned(),
        tenant: subject.tenant.clone(),
        monitor_uid: subject.uid.clone(),
        monitor: subject.name.clone(),
        kind: subject.kind.clone(),
        target: subject.target.clone(),
        labels: subject.labels.clone(),
        rule: told.rule.to_string(),
        severity: told.severity,
        reason: told.reason,
        summary: on_one_line(&told.summary),
        detail: told.detail.as_deref().map(on_one_line),
        opened_at: told.opened_at,
        resolved_at: told.resolved_at,
        resolved_why: told.resolved_why.map(|why| why.as_str().to_owned()),
        cut_off: None,
        flapping: told.flapping,
        actor: told.actor.as_deref().map(on_one_line),
        comment: told.comment.as_deref().map(on_one_line),
        seen_by,
    }
}

/// The live event of a new health.
pub fn live_state(subject: &Subject, health: Health, at: Micros, why: Option<&str>) -> LiveWrite {
    LiveWrite {
        at,
        kind: "monitor_state".to_owned(),
        data: json!({ "monitor": subject.uid, "name": subject.name, "health": health.as_str(), "since": Time(at), "why": why }),
    }
}

/// The live event of a word about an incident.
pub fn live_incident(subject: &Subject, told: &Told<'_>, at: Micros) -> LiveWrite {
    LiveWrite {
        at,
        kind: format!("incident_{}", told.event.as_str()),
        data: json!({
            "incident": told.incident, "monitor": subject.uid, "name": subject.name, "rule": told.rule.as_str(),
            "severity": told.severity.as_str(), "summary": told.summary, "opened_at": Time(told.opened_at),
            "resolved_at": told.resolved_at.map(Time), "actor": told.actor, "comment": told.comment,
        }),
    }
}
