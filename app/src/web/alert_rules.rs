//! The rules of all monitors, side by side, and one at a time in V-Insight's form.
//!
//! They stand with their monitors. To make, change or remove one is to change the document of its monitor ([`super::documents`]), which is
//! therefore what decides whether that can be; the rules of a monitor that is in a file are changed there.

use super::Web;
use super::api::{self, Params, Segment, without_nul};
use super::audit::Detail;
use super::auth::Caller;
use super::body::Body as Sent;
use super::channels::NoQuery;
use super::documents::{answer, ask, bad, from_a_file, refused, removed, seen};
use super::error::ApiError;
use super::types::{AlertRule, Done, NewAlertRule, Page, RuleTested};
use crate::config::documents::{Body, DocumentKind, Fault};
use crate::config::rules::{AskedRule, asked_field, inherited, key, written};
use crate::documents::{NotChanged, Which, Wish, body_of};
use crate::spec::MonitorSpec;
use crate::store::DocumentRow;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::{Extension, Json};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use watchkeeper_core::ChannelId;

/// `GET /api/v1/alert-rules`: of every monitor that this node watches, by the monitor's name and in its order.
pub(super) async fn rules(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Params(NoQuery {}): Params<NoQuery>,
) -> Json<Page<AlertRule>> {
    Json(Page { items: all(&web, &caller), next: None })
}

/// `GET /api/v1/alert-rules/{id}`: one.
pub(super) async fn rule(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
) -> Result<Json<AlertRule>, ApiError> {
    one(&web, &caller, &id).map(Json)
}

/// `POST /api/v1/alert-rules`: makes one.
pub(super) async fn create(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Sent(asked): Sent<NewAlertRule>,
) -> Result<Response, ApiError> {
    let Some(monitor) = &asked.monitor_id else {
        let accepted =
            "the public id or name of a monitor that was made over the API; what holds for all of them stands in the `defaults` of a file";
        return Err(bad(vec![Fault::new("monitor_id", "none", accepted.to_owned())]));
    };
    let mut rules = Rules::of(&web, &caller, monitor).await?;
    let new = rules.items.len();
    rules.items.push(Value::Null);
    rules.write(&web, &caller, StatusCode::CREATED, new, &asked).await
}

/// `PUT /api/v1/alert-rules/{id}`: another in its place; what is not given of it stays.
pub(super) async fn replace(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    headers: HeaderMap,
    Sent(asked): Sent<NewAlertRule>,
) -> Result<Response, ApiError> {
    let (rules, place) = found(&web, &caller, &id, &headers).await?;
    let other = asked.monitor_id.as_ref().filter(|monitor| **monitor != rules.row.uid && **monitor != rules.row.name);
    if let Some(other) = other {
        let accepted = format!("`{}`: a rule stays with its monitor; remove this one, and make another there", rules.row.uid);
        return Err(bad(vec![Fault::new("monitor_id", format!("found `{}`", api::shortened(other)), accepted)]));
    }
    rules.write(&web, &caller, StatusCode::OK, place, &asked).await
}

/// `DELETE /api/v1/alert-rules/{id}`: its monitor goes on without it; an incident of it that lasts ends.
pub(super) async fn remove(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<(Extension<Detail>, Json<Done>), ApiError> {
    let (mut rules, place) = found(&web, &caller, &id, &headers).await?;
    rules.items.remove(place);
    rules.put(&web, &caller, None).await?;
    Ok(removed("removed: nobody is told because of it any more"))
}

/// `POST /api/v1/alert-rules/{id}/test`: whether it would be told to anybody, without telling it.
pub(super) async fn test(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
) -> Result<Json<RuleTested>, ApiError> {
    let rule = one(&web, &caller, &id)?;
    let mut issues = Vec::new();
    if !rule.enabled {
        issues.push(format!("its monitor {} is paused: it is not watched", rule.monitor_name));
    }
    if rule.channel_ids.is_empty() {
        issues.push("nobody is told: neither it nor its monitor names a channel, and no route chooses one".to_owned());
    }
    let message = if issues.is_empty() {
        format!("it is in force, and told over {}", rule.channel_ids.join(", "))
    } else {
        "it is in force, but would not be told".to_owned()
    };
    Ok(Json(RuleTested { valid: issues.is_empty(), issues, message }))
}

/// The rules of a monitor that was made over the API, as its document has them.
struct Rules {
    row: DocumentRow,
    items: Vec<Value>,
}

impl Rules {
    async fn of(web: &Web, caller: &Caller, monitor: &str) -> Result<Self, ApiError> {
        let made = web.made.borrow().clone();
        let Some(row) = made.find(caller.scope.0, DocumentKind::Monitor, without_nul(monitor)?) else {
            let there = api::own_monitor(web, caller, monitor).await?;
            return Err(from_a_file(DocumentKind::Monitor, &there.origin));
        };
        let unreadable =
            || bad(vec![Fault::new("", "a monitor that this version cannot read", "PUT of the monitor, which replaces it".to_owned())]);
        let items = if let Some(Value::Array(items)) = body_of(row).ok_or_else(unreadable)?.remove("alerts") {
            items
        } else {
            let keys = keys_of(web, caller, &row.uid)?;
            inherited(&made.files, &row.tenant_slug, &keys).ok_or_else(|| {
                let why = format!("the monitor {} has the rules of `defaults` in a file; give it `alerts` of its own first", row.name);
                ApiError::conflict("from_a_file", why)
            })?
        };
        Ok(Self { row: row.clone(), items })
    }

    /// Puts what is asked for into a place of the list, and the list into force.
    async fn write(
        mut self,
        web: &Web,
        caller: &Caller,
        status: StatusCode,
        place: usize,
        asked: &NewAlertRule,
    ) -> Result<Response, ApiError> {
        if asked.enabled == Some(false) {
            let accepted = "true, or nothing: a rule that is there is in force; remove it, or pause its monitor";
            return Err(bad(vec![Fault::new("enabled", "false", accepted.to_owned())]));
        }
        let wanted = AskedRule {
            trigger: &asked.trigger_type,
            threshold: asked.threshold_value,
            name: asked.name.as_deref(),
            severity: asked.severity.as_deref(),
            channels: asked.channel_ids.as_deref(),
        };
        let before = self.items[place].take();
        let rule = written(wanted, Some(&before)).map_err(|fault| bad(vec![fault]))?;
        let key = key(&rule.item).ok_or_else(ApiError::internal)?;
        self.items[place] = rule.item;
        let row = self.put(web, caller, rule.down_after).await.map_err(|error| {
            let faults = error.problems.clone().into_iter().map(|fault| asked_field(fault, place)).collect::<Vec<_>>();
            if faults.is_empty() { error } else { bad(faults) }
        })?;
        let rule = one(web, caller, &format!("{}:{key}", row.uid))?;
        Ok(answer(status, &row, rule))
    }

    /// Makes the change, if nobody else has changed the monitor meanwhile.
    async fn put(self, web: &Web, caller: &Caller, down_after: Option<i64>) -> Result<DocumentRow, ApiError> {
        let mut patch = Body::from_iter([("alerts".to_owned(), Value::Array(self.items))]);
        patch.extend(down_after.map(|n| ("down_after".to_owned(), n.into())));
        let which = Which { kind: DocumentKind::Monitor, id: self.row.uid, seen: Some(self.row.version) };
        ask(web, caller, vec![Wish::Patch(which, patch)]).await?.pop().ok_or_else(ApiError::internal)
    }
}

/// The rules among which one is, and its place.
async fn found(web: &Web, caller: &Caller, id: &str, headers: &HeaderMap) -> Result<(Rules, usize), ApiError> {
    let none = || ApiError::not_found("alert rule");
    let (monitor, wanted) = id.split_once(':').ok_or_else(none)?;
    let rules = Rules::of(web, caller, monitor).await?;
    if seen(headers)?.is_some_and(|seen| seen != rules.row.version) {
        return Err(refused(NotChanged::Outdated(rules.row.version)));
    }
    let place = rules.items.iter().position(|item| key(item).as_deref() == Some(wanted)).ok_or_else(none)?;
    Ok((rules, place))
}

/// What the rules are called that a monitor has on this node.
fn keys_of(web: &Web, caller: &Caller, uid: &str) -> Result<BTreeSet<String>, ApiError> {
    let fleet = web.fleet.borrow().clone();
    let own = |spec: &&MonitorSpec| spec.tenant == caller.scope.0 && spec.uid == uid;
    let found = fleet.0.values().map(|spec| &**spec).find(own);
    let spec = found.ok_or_else(|| ApiError::unavailable("stands_by", "this node does not watch it; ask another node"))?;
    Ok(spec.policy.rules.iter().map(|rule| rule.key.to_string()).collect())
}

fn one(web: &Web, caller: &Caller, id: &str) -> Result<AlertRule, ApiError> {
    all(web, caller).into_iter().find(|rule| rule.id == id).ok_or_else(|| ApiError::not_found("alert rule"))
}

fn all(web: &Web, caller: &Caller) -> Vec<AlertRule> {
    let (fleet, channels) = (web.fleet.borrow().clone(), web.channels.borrow().clone());
    let own = channels.0.iter().filter(|channel| channel.tenant == caller.scope.0);
    let names: HashMap<ChannelId, &str> = own.map(|channel| (channel.id, channel.config.name.as_str())).collect();
    let mut monitors: Vec<&MonitorSpec> = fleet.0.values().map(|spec| &**spec).filter(|spec| spec.tenant == caller.scope.0).collect();
    monitors.sort_by(|a, b| a.name.cmp(&b.name));
    let names = &names;
    monitors.into_iter().flat_map(|monitor| monitor.policy.rules.iter().map(move |rule| AlertRule::of(monitor, rule, names))).collect()
}
