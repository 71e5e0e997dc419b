//! Silences: nobody is told of what they match until they end. They are asked for with an end, an author and a reason; one
//! that matches everything is only taken when it says so, because an empty matcher is a forgotten one far more often than a
//! wish. What is silenced is decided at delivery; nothing is decided here.

use super::Web;
use super::api::{Params, Segment, shortened, without_nul};
use super::audit::Detail;
use super::auth::Caller;
use super::body::Body;
use super::error::ApiError;
use super::incidents::written;
use super::types::{Done, Match, NewSilence, Page, Silence, Time};
use crate::config::decode::{parse_duration, show_duration};
use crate::store::{self, LiveRow, SILENCES_MAX, StoreError};
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use uuid::Uuid;
use watchkeeper_core::matcher::{Matcher, Subject};
use watchkeeper_core::{Dur, Micros, Severity};

/// A silence may last so long. One that nobody remembers hides the next fault; a longer quiet is a paused monitor or a
/// maintenance window in the configuration, where it can be seen.
pub const SILENCE_MAX: Dur = Dur::secs(90 * 86_400);

/// A matcher may name so many things. More is a label that is missing on the monitors.
pub const MATCH_MAX: usize = 100;

/// A name or pattern in it may have so many characters. More would make matching slow; no name is that long.
pub const PATTERN_MAX: usize = 200;

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct SilencesQuery {
    /// Also those that ended after this time.
    since: Option<Time>,
}

/// `GET /api/v1/silences`: all that last, newest first; with `since` also those that ended after it, [`SILENCES_MAX`] at most.
pub(super) async fn silences(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Params(query): Params<SilencesQuery>,
) -> Result<Json<Page<Silence>>, ApiError> {
    let since = query.since.map_or_else(|| web.clock.now(), |time| time.0);
    let found = web.store.silences(caller.scope, since, SILENCES_MAX).await?;
    Ok(Json(Page { items: found.into_iter().map(Silence::of).collect(), next: None }))
}

/// `POST /api/v1/silences`: begins now. Answers what was made, and how many monitors it is about.
pub(super) async fn create(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Body(asked): Body<NewSilence>,
) -> Result<(StatusCode, Extension<Detail>, Json<Silence>), ApiError> {
    let now = web.clock.now();
    let silence = accepted(asked, &caller.name, now)?;
    let event = web.store.create_silence(caller.scope, &silence).await.map_err(|error| match error {
        // The one thing that it refuses: more of them than can be looked at for each notice.
        StoreError::Refused(why) => ApiError::conflict("too_many_silences", why),
        StoreError::Unavailable { .. } | StoreError::Broken { .. } | StoreError::NotYet | StoreError::NotInForce | StoreError::Outdated => {
            error.into()
        }
    })?;
    publish(&web, &caller, event);
    (web.control.wake_channels)();
    tracing::info!(
        silence.id = %silence.uid, actor = %caller.name,
        "{} asks for silence {} until {}", caller.name, silence.uid, Time(silence.ends_at)
    );
    let monitors = Some(watched(&web, &caller, &silence.matcher));
    let detail = Detail(silence.uid.clone());
    Ok((StatusCode::CREATED, Extension(detail), Json(Silence { monitors, ..Silence::of(silence) })))
}

/// `DELETE /api/v1/silences/{id}`: ends it now; what it held is told if it is still true.
pub(super) async fn end(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
) -> Result<Json<Done>, ApiError> {
    let event = web.store.end_silence(caller.scope, without_nul(&id)?, &caller.name, web.clock.now()).await?;
    if event.is_none() {
        return Err(ApiError::not_found("silence that lasts"));
    }
    publish(&web, &caller, event);
    (web.control.wake_channels)();
    tracing::info!(silence.id = %id, actor = %caller.name, "{} ends silence {id}", caller.name);
    Ok(Json(Done { message: "ended: what it held back is told now, if it is still true".to_owned() }))
}

/// Wakes whoever reads the live stream.
fn publish(web: &Web, caller: &Caller, event: Option<LiveRow>) {
    if let Some(event) = event {
        web.live.publish(caller.scope.0, event);
    }
}

/// How many of the tenant's monitors a silence is about, whatever the rule.
fn watched(web: &Web, caller: &Caller, matcher: &Matcher) -> u64 {
    let whole = Matcher { rules: vec![], severities: vec![], ..matcher.clone() };
    let fleet = web.fleet.borrow().clone();
    let about = |spec: &&std::sync::Arc<crate::spec::MonitorSpec>| {
        let subject = Subject { monitor: &spec.name, labels: &spec.labels, kind: spec.kind, rule: None, severity: None };
        spec.tenant == caller.scope.0 && whole.matches(&subject)
    };
    fleet.0.values().filter(about).count() as u64
}

/// The silence that was asked for, or what is wrong with it.
fn accepted(asked: NewSilence, author: &str, now: Micros) -> Result<store::Silence, ApiError> {
    let NewSilence { about, all, lasts, until, comment } = asked;
    let matcher = matcher(about)?;
    if matcher.is_empty() != all {
        return Err(ApiError::bad_request(if all {
            "`all` is true, but `match` is not empty: give one or the other"
        } else {
            "`match` is empty: name monitors, labels, kinds, rules or severities, or say `\"all\": true` to silence everything"
        }));
    }
    let ends_at = match (lasts, until) {
        (Some(text), None) => parse_duration(&text)
            .and_then(|lasts| now.0.checked_add(lasts.0))
            .map(Micros)
            .ok_or_else(|| ApiError::bad_request(format!("`for` is `{}`; accepted is a duration such as 1h or 30m", shortened(&text))))?,
        (None, Some(until)) => until.0,
        (Some(_), Some(_)) => return Err(ApiError::bad_request("`for` and `until` are both given: give one of them")),
        (None, None) => return Err(ApiError::bad_request("`for` or `until` is missing: a silence has an end")),
    };
    if ends_at <= now || ends_at > now + SILENCE_MAX {
        let (most, end) = (show_duration(SILENCE_MAX), Time(ends_at));
        return Err(ApiError::bad_request(format!("the silence would end at {end}; accepted is an end within the next {most}")));
    }
    let comment = written(&comment, "comment")?.to_owned();
    let uid = Uuid::new_v4().to_string();
    Ok(store::Silence { uid, matcher, starts_at: now, ends_at, author: author.to_owned(), comment })
}

/// The matcher that was asked for: bounded, and of words that can match.
fn matcher(about: Match) -> Result<Matcher, ApiError> {
    let Match { monitors, labels, kinds, rules, severities } = about;
    let named = monitors.len() + labels.len() + kinds.len() + rules.len() + severities.len();
    if named > MATCH_MAX {
        return Err(ApiError::bad_request(format!("`match` names {named} things; accepted are {MATCH_MAX}")));
    }
    let lists = [("monitors", &monitors), ("kinds", &kinds), ("rules", &rules)];
    let listed = lists.into_iter().flat_map(|(key, texts)| texts.iter().map(move |text| (key, text)));
    let labelled = labels.iter().flat_map(|(name, value)| [("labels", name), ("labels", value)]);
    for (key, text) in listed.chain(labelled) {
        // A label may have an empty value; an empty name matches nothing.
        let empty = text.is_empty() && key != "labels";
        if empty || text.chars().count() > PATTERN_MAX || text.contains('\0') {
            return Err(ApiError::bad_request(format!(
                "`match.{key}` holds `{}`; accepted are names of 1 to {PATTERN_MAX} characters, `*` for any text",
                shortened(text)
            )));
        }
    }
    let severities = severities.iter().map(|word| severity(word)).collect::<Result<_, _>>()?;
    Ok(Matcher { monitors, labels, kinds, rules, severities })
}

fn severity(word: &str) -> Result<Severity, ApiError> {
    const ALL: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];
    ALL.into_iter().find(|severity| severity.as_str() == word).ok_or_else(|| {
        let known = ALL.map(Severity::as_str).join(", ");
        ApiError::bad_request(format!("`match.severities` holds `{}`; accepted are {known}", shortened(word)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = Micros(1_770_000_000_000_000);

    fn asked(json: &str) -> Result<store::Silence, ApiError> {
        accepted(serde_json::from_str(json).unwrap(), "ann", NOW)
    }

    #[test]
    fn a_silence_has_a_subject_an_end_and_a_reason() {
        let silence = asked(r#"{"match":{"monitors":["shop*"],"severities":["info"]},"for":"1h30m","comment":" deploy "}"#).unwrap();
        assert_eq!((silence.starts_at, silence.ends_at), (NOW, NOW + Dur::secs(5_400)));
        assert_eq!((silence.author.as_str(), silence.comment.as_str()), ("ann", "deploy"));
        assert_eq!(silence.matcher.severities, [Severity::Info]);
        let everything = asked(r#"{"all":true,"until":"2026-02-02T03:00:00Z","comment":"move"}"#).unwrap();
        assert!(everything.matcher.is_empty());
        assert_ne!(silence.uid, everything.uid);
    }

    #[test]
    fn what_a_silence_lacks_is_named() {
        let long = "x".repeat(PATTERN_MAX + 1);
        let many = vec!["\"a\""; MATCH_MAX + 1].join(",");
        for (bad, named) in [
            (r#"{"for":"1h","comment":"c"}"#.to_owned(), "`match` is empty"),
            (r#"{"match":{},"for":"1h","comment":"c"}"#.to_owned(), "\"all\": true"),
            (r#"{"match":{"kinds":["tcp"]},"all":true,"for":"1h","comment":"c"}"#.to_owned(), "one or the other"),
            (r#"{"all":true,"comment":"c"}"#.to_owned(), "has an end"),
            (r#"{"all":true,"for":"1h","until":"2026-02-02T03:00:00Z","comment":"c"}"#.to_owned(), "both"),
            (r#"{"all":true,"for":"soon","comment":"c"}"#.to_owned(), "`soon`"),
            (r#"{"all":true,"for":"0s","comment":"c"}"#.to_owned(), "within the next 90d"),
            (r#"{"all":true,"for":"91d","comment":"c"}"#.to_owned(), "within the next 90d"),
            (r#"{"all":true,"until":"2025-01-01T00:00:00Z","comment":"c"}"#.to_owned(), "within the next 90d"),
            (r#"{"all":true,"for":"1h","comment":" "}"#.to_owned(), "`comment` is empty"),
            (r#"{"match":{"severities":["fatal"]},"for":"1h","comment":"c"}"#.to_owned(), "info, warning, critical"),
            (r#"{"match":{"monitors":[""]},"for":"1h","comment":"c"}"#.to_owned(), "match.monitors"),
            (format!(r#"{{"match":{{"labels":{{"team":"{long}"}}}},"for":"1h","comment":"c"}}"#), "match.labels"),
            (format!(r#"{{"match":{{"rules":[{many}]}},"for":"1h","comment":"c"}}"#), "names 101 things"),
        ] {
            let error = asked(&bad).unwrap_err();
            assert!(error.message.contains(named), "{bad}: {}", error.message);
        }
    }
}
