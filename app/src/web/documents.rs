//! Making, changing and removing monitors, channels and maintenance windows; and one attempt with a monitor that is not made yet. Status pages
//! are made in the same way, beside what they show ([`super::status_page`]).
//!
//! A body is one item of the configuration file, as JSON or YAML. Nothing is decided here: a wish goes to whoever says what is in force on
//! this node, which answers with what is there now or with why not ([`crate::documents`]). What is in a file is changed there, and the
//! answer says where. Secrets go in and never come out: `***` stands for them, and sent back it stands for the stored one.

use super::api::{Params, Segment, shortened, without_nul};
use super::audit::Detail;
use super::auth::Caller;
use super::body;
use super::channels::NoQuery;
use super::error::ApiError;
use super::transfer::IMPORT_MAX;
use super::types::{AlertChannel, Document, Done, MadeObject, Maintenance, Monitor, Page, Time};
use super::{BODY_MAX, Web, api};
use crate::config::documents::{Body, DocumentKind, Fault, of_yaml};
use crate::documents::{Asked, Change, NotChanged, Which, Wish, shown_body};
use crate::net::{Guard, Path};
use crate::probe::{Attempt, Probe, ProbeContext};
use crate::spec::{MADE_OVER_THE_API, MonitorSpec, Source, origin};
use crate::store::DocumentRow;
use axum::Extension;
use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use serde::Deserialize;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot};
use watchkeeper_core::{Dur, Micros, TenantId};

/// Attempts "now" of one tenant per minute. More would make a scanner of this node; fewer would interrupt whoever fills in a form.
const TESTS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(20).expect("20 is not zero");

/// And at once, of all tenants. More would take sockets from the schedule.
const TESTS_AT_ONCE: usize = 8;

/// An attempt "now" is ended after so long at the latest: its answer must begin within what a request may take.
const TEST_LIMIT: Duration = Duration::from_secs(10);

/// The limits over attempts "now".
pub(super) struct AttemptLimits {
    of_tenant: DefaultKeyedRateLimiter<TenantId>,
    at_once: Semaphore,
}

impl Default for AttemptLimits {
    fn default() -> Self {
        Self { of_tenant: RateLimiter::keyed(Quota::per_minute(TESTS_PER_MINUTE)), at_once: Semaphore::new(TESTS_AT_ONCE) }
    }
}

/// An object in the form of the configuration file; in YAML if its `Content-Type` says so, else in JSON.
pub(super) struct Described(pub Body);

impl<S: Send + Sync> FromRequest<S> for Described {
    type Rejection = ApiError;
    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let yaml = is_yaml(request.headers());
        let bytes = body::whole(request, BODY_MAX).await?;
        if yaml { of_yaml(&bytes).map(Self).map_err(bad) } else { body::read(&bytes).map(Self) }
    }
}

/// A whole file, in the same forms.
pub(super) struct Whole(pub Body);

impl<S: Send + Sync> FromRequest<S> for Whole {
    type Rejection = ApiError;
    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let yaml = is_yaml(request.headers());
        let bytes = body::whole(request, IMPORT_MAX).await?;
        if yaml { of_yaml(&bytes).map(Self).map_err(bad) } else { body::read(&bytes).map(Self) }
    }
}

fn is_yaml(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().ends_with("yaml")
}

/// `If-Match`: the version that a change is made on. None means whichever there is.
pub(super) fn seen(headers: &HeaderMap) -> Result<Option<i64>, ApiError> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let version = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).and_then(|digits| digits.parse().ok());
    let accepted = || ApiError::bad_request(format!("`If-Match` is `{}`; accepted is one ETag, as it was answered", shortened(text)));
    version.map(Some).ok_or_else(accepted)
}

pub(super) fn bad(faults: Vec<Fault>) -> ApiError {
    let message = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    ApiError { problems: faults, ..ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_object", message) }
}

/// Why not, for whoever asked.
pub(super) fn refused(why: NotChanged) -> ApiError {
    match why {
        NotChanged::NotFound(kind) => ApiError::not_found(kind.what()),
        NotChanged::FromAFile(kind, at) => from_a_file(kind, &origin(&at)),
        NotChanged::NameTaken(why) => ApiError::conflict("name_taken", why),
        NotChanged::Outdated(version) => ApiError::new(
            StatusCode::PRECONDITION_FAILED,
            "changed_meanwhile",
            format!("somebody else has changed it; it has the version {version} now: read it again"),
        ),
        NotChanged::Bad(faults) => bad(faults),
        NotChanged::InUse(whom) => ApiError::conflict("in_use", format!("others would no longer work:\n{}", whom.join("\n"))),
        NotChanged::TooMuch(why) => ApiError::conflict("too_many", why),
        NotChanged::StandsBy => {
            ApiError::unavailable("stands_by", "this node has another configuration than the one in force; ask another node")
        }
        NotChanged::Busy => ApiError::unavailable("busy", "others change things at the same time; try again"),
        NotChanged::Files(problems) => {
            tracing::error!(
                "a change over the API failed, because the configuration files cannot be read any more: {}",
                problems.join("; ")
            );
            ApiError::conflict("bad_configuration", "the configuration files cannot be read any more; the server's log says why")
        }
        NotChanged::Store(error) => error.into(),
    }
}

pub(super) fn from_a_file(kind: DocumentKind, place: &str) -> ApiError {
    ApiError::conflict("from_a_file", format!("the {} is in the configuration file, at {place}: change it there", kind.what()))
}

/// Makes changes; the documents that they left.
pub(super) async fn ask(web: &Web, caller: &Caller, wishes: Vec<Wish>) -> Result<Vec<DocumentRow>, ApiError> {
    let change = change_of(web, caller, wishes).await?;
    ask_for(web, |answer| Asked::Change(change, answer)).await
}

/// Whether changes could be made.
pub(super) async fn judged(web: &Web, caller: &Caller, wishes: Vec<Wish>) -> Result<(), ApiError> {
    let change = change_of(web, caller, wishes).await?;
    ask_for(web, |answer| Asked::Judge(change, answer)).await
}

/// Asks whoever says what is in force.
pub(super) async fn ask_for<T>(web: &Web, asked: impl FnOnce(oneshot::Sender<Result<T, NotChanged>>) -> Asked) -> Result<T, ApiError> {
    let (answer, answered) = oneshot::channel();
    let gone = || ApiError::unavailable("stopping", "the node is stopping");
    web.control.documents.send(asked(answer)).await.map_err(|_| gone())?;
    answered.await.map_err(|_| gone())?.map_err(refused)
}

pub(super) async fn change_of(web: &Web, caller: &Caller, wishes: Vec<Wish>) -> Result<Change, ApiError> {
    Ok(Change { tenant: caller.scope.0, slug: slug_of(web, caller).await?, by: caller.name.clone(), wishes })
}

/// The caller's tenant.
pub(super) async fn slug_of(web: &Web, caller: &Caller) -> Result<String, ApiError> {
    let tenants = web.store.tenants().await?;
    Ok(tenants.into_iter().find(|(id, _)| *id == caller.scope.0).map(|(_, slug)| slug).unwrap_or_default())
}

/// Makes one change; the document that it left.
pub(super) async fn one(web: &Web, caller: &Caller, wish: Wish) -> Result<Option<DocumentRow>, ApiError> {
    Ok(ask(web, caller, vec![wish]).await?.pop())
}

pub(super) fn which(kind: DocumentKind, id: &str, headers: &HeaderMap) -> Result<Which, ApiError> {
    Ok(Which { kind, id: without_nul(id)?.to_owned(), seen: seen(headers)? })
}

/// An answer with the version of what it is about, and the words of the audit log.
pub(super) fn answer(status: StatusCode, row: &DocumentRow, object: impl serde::Serialize) -> Response {
    let detail = Detail(format!("{} {}, version {}", row.kind, row.name, row.version));
    let mut response = (status, Extension(detail), Json(object)).into_response();
    response.headers_mut().insert(header::ETAG, etag(row.version));
    response
}

/// A version as an ETag.
pub(super) fn etag(version: i64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).expect("a number in quotes is a header")
}

/// What is known of a document beside what it makes.
pub(super) fn made_object(row: &DocumentRow) -> MadeObject {
    MadeObject {
        version: row.version,
        made_by: row.made_by.clone(),
        made_at: Time(row.made_at),
        changed_by: row.changed_by.clone(),
        changed_at: Time(row.changed_at),
        body: shown_body(row).map(serde_json::Value::Object).unwrap_or_default(),
    }
}

async fn monitor_answer(web: &Web, caller: &Caller, status: StatusCode, row: Option<DocumentRow>) -> Result<Response, ApiError> {
    let row = row.ok_or_else(ApiError::internal)?;
    let monitor: Monitor = api::whole_monitor(web, caller, &row.uid).await?;
    Ok(answer(status, &row, Monitor { made: Some(made_object(&row)), ..monitor }))
}

/// Refuses what is in a file; the documents know nothing of monitors of tables.
async fn own_or_from_elsewhere(web: &Web, caller: &Caller, error: ApiError, id: &str) -> ApiError {
    if error.status != StatusCode::NOT_FOUND {
        return error;
    }
    match api::own_monitor(web, caller, id).await {
        Ok(found) => from_a_file(DocumentKind::Monitor, &found.origin),
        Err(error) => error,
    }
}

/// `GET /api/v1/documents`: everything of the tenant that was made over the API, in force or not.
pub(super) async fn documents(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Params(NoQuery {}): Params<NoQuery>,
) -> Json<Page<Document>> {
    let all = web.made.borrow().clone();
    let own = all.documents.rows.iter().filter(|row| row.tenant == caller.scope.0);
    let mut items: Vec<Document> = own
        .map(|row| Document {
            uid: row.uid.clone(),
            kind: row.kind.clone(),
            name: row.name.clone(),
            made: made_object(row),
            problems: all.left_out.get(&row.uid).cloned().unwrap_or_default(),
        })
        .collect();
    items.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
    Json(Page { items, next: None })
}

/// `POST /api/v1/monitors`: makes one.
pub(super) async fn create_monitor(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Described(body): Described,
) -> Result<Response, ApiError> {
    let row = one(&web, &caller, Wish::Make(DocumentKind::Monitor, body)).await?;
    monitor_answer(&web, &caller, StatusCode::CREATED, row).await
}

async fn change_monitor(web: &Web, caller: &Caller, id: &str, wish: Wish) -> Result<Response, ApiError> {
    match one(web, caller, wish).await {
        Ok(row) => monitor_answer(web, caller, StatusCode::OK, row).await,
        Err(error) => Err(own_or_from_elsewhere(web, caller, error, id).await),
    }
}

/// `PUT /api/v1/monitors/{id}`: another in its place.
pub(super) async fn replace_monitor(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    headers: HeaderMap,
    Described(body): Described,
) -> Result<Response, ApiError> {
    let wish = Wish::Replace(which(DocumentKind::Monitor, &id, &headers)?, body);
    change_monitor(&web, &caller, &id, wish).await
}

/// `PATCH /api/v1/monitors/{id}`: some of it different, as RFC 7396 has it.
pub(super) async fn patch_monitor(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    headers: HeaderMap,
    Described(patch): Described,
) -> Result<Response, ApiError> {
    let wish = Wish::Patch(which(DocumentKind::Monitor, &id, &headers)?, patch);
    change_monitor(&web, &caller, &id, wish).await
}

/// `DELETE /api/v1/monitors/{id}`: it is watched no more; its history stays.
pub(super) async fn remove_monitor(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<(Extension<Detail>, Json<Done>), ApiError> {
    let wish = Wish::Remove(which(DocumentKind::Monitor, &id, &headers)?);
    match one(&web, &caller, wish).await {
        Ok(_) => Ok(removed("removed: it is watched no more, and its history stays")),
        Err(error) => Err(own_or_from_elsewhere(&web, &caller, error, &id).await),
    }
}

pub(super) fn removed(message: &str) -> (Extension<Detail>, Json<Done>) {
    (Extension(Detail::default()), Json(Done { message: message.to_owned() }))
}

/// `POST /api/v1/monitors/{id}/pause`: it is not watched for now.
pub(super) async fn pause_monitor(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let patch = Body::from_iter([("paused".to_owned(), true.into())]);
    let wish = Wish::Patch(which(DocumentKind::Monitor, &id, &headers)?, patch);
    change_monitor(&web, &caller, &id, wish).await
}

/// `POST /api/v1/monitors/{id}/resume`: it is watched again.
pub(super) async fn resume_monitor(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let patch = Body::from_iter([("paused".to_owned(), serde_json::Value::Null)]);
    let wish = Wish::Patch(which(DocumentKind::Monitor, &id, &headers)?, patch);
    change_monitor(&web, &caller, &id, wish).await
}

/// `POST /api/v1/monitors/test`: one attempt with a monitor that is not made yet, and nothing stored. It is routed by the method, so that
/// a monitor that is called `test` is none the worse for it.
pub(super) async fn test_new(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    Described(body): Described,
) -> Result<Json<serde_json::Value>, ApiError> {
    if id != "test" {
        return Err(ApiError::not_found("route: POST takes /api/v1/monitors and /api/v1/monitors/test"));
    }
    try_described(&web, &caller, None, body).await
}

/// `POST /api/v1/monitors/{id}/test`: one attempt with a monitor as it is, or as the body says it would be.
pub(super) async fn test(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    Described(body): Described,
) -> Result<Json<serde_json::Value>, ApiError> {
    if !body.is_empty() {
        return try_described(&web, &caller, Some(id), body).await;
    }
    let view = api::own_monitor(&web, &caller, &id).await?;
    let found = web.fleet.borrow().0.get(&view.id).cloned();
    let spec: Arc<MonitorSpec> =
        found.ok_or_else(|| ApiError::unavailable("stands_by", "this node does not watch it; ask another node"))?;
    let Source::Probe(probe) = &spec.source else { return Err(not_probed()) };
    attempted(&web, &caller, &**probe, spec.timeout.to_std(), spec.guard).await
}

fn not_probed() -> ApiError {
    ApiError::conflict("not_probed", "a push monitor is not probed: it is expected to report")
}

async fn try_described(web: &Web, caller: &Caller, id: Option<String>, mut body: Body) -> Result<Json<serde_json::Value>, ApiError> {
    let kind = DocumentKind::Monitor;
    let wish = if let Some(id) = id {
        Wish::Replace(Which { kind, id: without_nul(&id)?.to_owned(), seen: None }, body)
    } else {
        // It need not have one yet, and the one that it has need not be free.
        body.insert("name".to_owned(), uuid::Uuid::new_v4().to_string().into());
        Wish::Make(kind, body)
    };
    let change = change_of(web, caller, vec![wish]).await?;
    let monitor = ask_for(web, |answer| Asked::Describe(change, answer)).await?;
    let Source::Probe(probe) = monitor.probe.build() else { return Err(not_probed()) };
    let reach = web.made.borrow().reach;
    attempted(web, caller, &*probe, monitor.timeout.to_std(), reach).await
}

/// Makes one attempt, within the limits.
async fn attempted(
    web: &Web,
    caller: &Caller,
    probe: &dyn Probe,
    timeout: Duration,
    guard: Guard,
) -> Result<Json<serde_json::Value>, ApiError> {
    let limits = &web.0.attempt_limits;
    if limits.of_tenant.check_key(&caller.scope.0).is_err() {
        return Err(ApiError::too_many(format!("{TESTS_PER_MINUTE} attempts a minute are made at most")));
    }
    let Ok(_permit) = limits.at_once.try_acquire() else {
        return Err(ApiError::too_many("others try things at the same time; try again"));
    };
    let deadline = Instant::now() + timeout.min(TEST_LIMIT);
    let cx = ProbeContext { net: web.net.clone(), deadline, want_detail: false, guard, path: Path::First };
    let attempt: Attempt = probe.attempt(&cx).await;
    Ok(Json(attempt.to_json()))
}

/// `POST /api/v1/alert-channels`: makes one.
pub(super) async fn create_channel(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Described(body): Described,
) -> Result<Response, ApiError> {
    let row = one(&web, &caller, Wish::Make(DocumentKind::Channel, body)).await?;
    channel_answer(&web, &caller, StatusCode::CREATED, row)
}

/// `PUT /api/v1/alert-channels/{name}`: another in its place.
pub(super) async fn replace_channel(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(name): Segment,
    headers: HeaderMap,
    Described(body): Described,
) -> Result<Response, ApiError> {
    let row = one(&web, &caller, Wish::Replace(which(DocumentKind::Channel, &name, &headers)?, body)).await?;
    channel_answer(&web, &caller, StatusCode::OK, row)
}

/// `DELETE /api/v1/alert-channels/{name}`: nobody is told over it any more.
pub(super) async fn remove_channel(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(name): Segment,
    headers: HeaderMap,
) -> Result<(Extension<Detail>, Json<Done>), ApiError> {
    one(&web, &caller, Wish::Remove(which(DocumentKind::Channel, &name, &headers)?)).await?;
    Ok(removed("removed: nobody is told over it any more"))
}

fn channel_answer(web: &Web, caller: &Caller, status: StatusCode, row: Option<DocumentRow>) -> Result<Response, ApiError> {
    let row = row.ok_or_else(ApiError::internal)?;
    let channels = web.channels.borrow().clone();
    let found = channels.0.iter().find(|channel| channel.tenant == caller.scope.0 && channel.config.name == row.name);
    let channel = AlertChannel::of(&found.ok_or_else(ApiError::internal)?.config);
    Ok(answer(status, &row, AlertChannel { made: Some(made_object(&row)), ..channel }))
}

/// A calendar shows so many days at most. More would be a long search for windows that recur often.
const CALENDAR_MAX: Dur = Dur::secs(100 * 86_400);

/// So many starts of all recurring windows are looked at for one answer: some milliseconds.
const STARTS_MAX: usize = 5_000;

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct MaintenanceQuery {
    /// With `to`: say when each window is between these times, at most 100 days.
    from: Option<Time>,
    /// With `from`.
    to: Option<Time>,
}

impl MaintenanceQuery {
    /// The times of the calendar, if one is asked for.
    fn calendar(&self) -> Result<Option<(Micros, Micros)>, ApiError> {
        match (self.from, self.to) {
            (None, None) => Ok(None),
            (Some(Time(from)), Some(Time(to))) if from < to && to - from <= CALENDAR_MAX => Ok(Some((from, to))),
            (Some(_) | None, Some(_) | None) => {
                Err(ApiError::bad_request("`from` and `to` are given together, `to` after `from`, and at most 100 days apart"))
            }
        }
    }
}

/// `GET /api/v1/maintenance`: every window of the tenant, by name; with `from` and `to` also as it will fall between them.
pub(super) async fn maintenance(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Params(query): Params<MaintenanceQuery>,
) -> Result<Json<Page<Maintenance>>, ApiError> {
    let calendar = query.calendar()?;
    let mut starts = STARTS_MAX;
    let now = web.clock.now();
    let windows = web.store.mutes(caller.scope.0, now).await?.maintenance;
    let made = web.made.borrow().clone();
    let items = windows.into_iter().map(|window| {
        let row = made.find(caller.scope.0, DocumentKind::Maintenance, &window.name);
        let made = row.filter(|_| window.origin == MADE_OVER_THE_API).map(made_object);
        Maintenance::of(window, now, made, |window| calendar.map(|(from, to)| window.within(from, to, &mut starts)))
    });
    Ok(Json(Page { items: items.collect(), next: None }))
}

/// `POST /api/v1/maintenance`: announces work.
pub(super) async fn create_maintenance(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Described(body): Described,
) -> Result<Response, ApiError> {
    let row = one(&web, &caller, Wish::Make(DocumentKind::Maintenance, body)).await?;
    maintenance_answer(&web, &caller, StatusCode::CREATED, row).await
}

/// `PUT /api/v1/maintenance/{name}`: another in its place.
pub(super) async fn replace_maintenance(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(name): Segment,
    headers: HeaderMap,
    Described(body): Described,
) -> Result<Response, ApiError> {
    let row = one(&web, &caller, Wish::Replace(which(DocumentKind::Maintenance, &name, &headers)?, body)).await?;
    maintenance_answer(&web, &caller, StatusCode::OK, row).await
}

/// `DELETE /api/v1/maintenance/{name}`: it is over, or will not be; what it held back is told, if it is still true.
pub(super) async fn remove_maintenance(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(name): Segment,
    headers: HeaderMap,
) -> Result<(Extension<Detail>, Json<Done>), ApiError> {
    one(&web, &caller, Wish::Remove(which(DocumentKind::Maintenance, &name, &headers)?)).await?;
    (web.control.wake_channels)();
    Ok(removed("removed: what it held back is told now, if it is still true"))
}

async fn maintenance_answer(web: &Web, caller: &Caller, status: StatusCode, row: Option<DocumentRow>) -> Result<Response, ApiError> {
    let row = row.ok_or_else(ApiError::internal)?;
    (web.control.wake_channels)();
    let now = web.clock.now();
    let windows = web.store.mutes(caller.scope.0, now).await?.maintenance;
    let window = windows.into_iter().find(|window| window.name == row.name).ok_or_else(ApiError::internal)?;
    Ok(answer(status, &row, Maintenance::of(window, now, Some(made_object(&row)), |_| None)))
}
