//! Status pages for their owners: which there are, making and changing them, what they say, and what one would look like.
//!
//! A page is a document as others are ([`super::super::documents`]): what is in a file is changed there. Who makes a page decides what strangers may see, and is an
//! administrator; what it says to them when something is wrong is an operator's to write, so that nobody must be woken for it. Strangers are
//! shown nothing by this module: what a page would look like is drawn for whoever asks, from the one view, and kept nowhere.

use super::super::Web;
use super::super::api::{Params, Segment, cut, limited, without_nul};
use super::super::audit::Detail;
use super::super::auth::Caller;
use super::super::channels::NoQuery;
use super::super::documents::{Described, answer, ask_for, bad, change_of, etag, made_object, one, removed, which};
use super::super::error::ApiError;
use super::super::types::{Done, Page, PublicMonitor, PublicPage, Subscriber};
use super::view::Members;
use super::{POLICY, Shown};
use crate::config::documents::{Body, DocumentKind, Fault};
use crate::documents::{Asked, Which, Wish, dated};
use crate::net::Guard;
use crate::spec::OwnedPage;
use crate::store::DocumentRow;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

const KIND: DocumentKind = DocumentKind::StatusPage;

/// The pages in force of whoever asks, by name.
fn own(web: &Web, caller: &Caller) -> Result<Vec<Arc<OwnedPage>>, ApiError> {
    let pages = web.pages.borrow().clone();
    let all = pages
        .0
        .ok_or_else(|| ApiError::unavailable("stands_by", "this node has another configuration than the one in force; ask another node"))?;
    let mut own: Vec<Arc<OwnedPage>> = all.iter().filter(|page| page.tenant == caller.scope.0).cloned().collect();
    own.sort_by(|a, b| a.config.slug.cmp(&b.config.slug));
    Ok(own)
}

fn found(web: &Web, caller: &Caller, name: &str) -> Result<Arc<OwnedPage>, ApiError> {
    own(web, caller)?.into_iter().find(|page| page.config.slug == name).ok_or_else(|| ApiError::not_found(KIND.what()))
}

/// A page with what it shows now, and its document if it has one.
fn told(web: &Web, page: &OwnedPage) -> (PublicPage, Option<DocumentRow>) {
    let members = Members::of(page, &web.fleet.borrow());
    let monitors = members.each().map(|(spec, title)| PublicMonitor { uid: spec.uid.clone(), title: title.clone() }).collect();
    let row = web.made.borrow().find(page.tenant, KIND, &page.config.slug).filter(|_| page.config.at.in_document()).cloned();
    (PublicPage::of(&page.config, monitors, row.as_ref().map(made_object)), row)
}

/// `GET /api/v1/status-pages`: every one of the tenant, by name.
pub(in super::super) async fn pages(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Params(NoQuery {}): Params<NoQuery>,
) -> Result<Json<Page<PublicPage>>, ApiError> {
    let items = own(&web, &caller)?.iter().map(|page| told(&web, page).0).collect();
    Ok(Json(Page { items, next: None }))
}

/// `GET /api/v1/status-pages/{name}`: one, with its version as `ETag` if it was made over the API.
pub(in super::super) async fn public_page(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(name): Segment,
) -> Result<Response, ApiError> {
    let (page, row) = told(&web, &*found(&web, &caller, &name)?);
    let mut response = Json(page).into_response();
    if let Some(row) = row {
        response.headers_mut().insert(header::ETAG, etag(row.version));
    }
    Ok(response)
}

/// Makes a change, and answers the page that it left.
async fn changed(web: &Web, caller: &Caller, status: StatusCode, wish: Wish) -> Result<Response, ApiError> {
    let row = one(web, caller, wish).await?.ok_or_else(ApiError::internal)?;
    let (page, _) = told(web, &*found(web, caller, &row.name)?);
    Ok(answer(status, &row, PublicPage { made: Some(made_object(&row)), ..page }))
}

/// `POST /api/v1/status-pages`: makes one.
pub(in super::super) async fn create(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Described(body): Described,
) -> Result<Response, ApiError> {
    changed(&web, &caller, StatusCode::CREATED, Wish::Make(KIND, body)).await
}

/// `PUT /api/v1/status-pages/{name}`: another in its place.
pub(in super::super) async fn replace(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(name): Segment,
    headers: HeaderMap,
    Described(body): Described,
) -> Result<Response, ApiError> {
    changed(&web, &caller, StatusCode::OK, Wish::Replace(which(KIND, &name, &headers)?, body)).await
}

/// `DELETE /api/v1/status-pages/{name}`: there is nothing at its place any more.
pub(in super::super) async fn remove(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(name): Segment,
    headers: HeaderMap,
) -> Result<(Extension<Detail>, Json<Done>), ApiError> {
    let which = which(KIND, &name, &headers)?;
    let slug = web.made.borrow().find(caller.scope.0, KIND, &name).map(|row| row.name.clone());
    one(&web, &caller, Wish::Remove(which)).await?;
    if let Some(slug) = slug {
        web.store.subscribers().forget_page(caller.scope, &slug).await?;
    }
    Ok(removed("removed: there is nothing at its place any more"))
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(in super::super) struct SubscribersQuery {
    /// Those after this, which an earlier answer gave as `next`.
    after: Option<i64>,
    /// How many, 1 to 500; 100 if not given.
    limit: Option<i64>,
}

/// `GET /api/v1/status-pages/{name}/subscribers`: who is told what it says, by when they asked.
pub(in super::super) async fn subscribers(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(name): Segment,
    Params(query): Params<SubscribersQuery>,
) -> Result<Json<Page<Subscriber>>, ApiError> {
    let limit = limited(query.limit)?;
    let page = found(&web, &caller, &name)?;
    let mut all = web.store.subscribers().subscribers(caller.scope, &page.config.slug, query.after, limit + 1).await?;
    let more = cut(&mut all, limit);
    let next = all.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(Json(Page { items: all.iter().map(Subscriber::of).collect(), next }))
}

/// `DELETE /api/v1/status-pages/{name}/subscribers/{id}`: one is told no more, and forgotten.
pub(in super::super) async fn remove_subscriber(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<Done>, ApiError> {
    let Path((name, id)) = path.map_err(|_| ApiError::bad_request("the path is not valid UTF-8"))?;
    let page = found(&web, &caller, &name)?;
    if !web.store.subscribers().remove_subscriber(caller.scope, &page.config.slug, without_nul(&id)?).await? {
        return Err(ApiError::not_found("subscriber"));
    }
    Ok(Json(Done { message: "removed: nothing is told to it any more, and its address is gone".to_owned() }))
}

/// `POST /api/v1/status-pages/{name}/messages`: says one thing more; now, if no time is given.
pub(in super::super) async fn say(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(name): Segment,
    headers: HeaderMap,
    Described(message): Described,
) -> Result<Response, ApiError> {
    changed(&web, &caller, StatusCode::CREATED, Wish::Say(which(KIND, &name, &headers)?, message)).await
}

/// `PUT /api/v1/status-pages/{name}/messages`: all that it says from now on, `{ "messages": [ … ] }`; what has no time is of now.
pub(in super::super) async fn say_all(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(name): Segment,
    headers: HeaderMap,
    Described(body): Described,
) -> Result<Response, ApiError> {
    let accepted = || "`messages`, a list of all that the page is to say".to_owned();
    let mut faults: Vec<Fault> = body
        .keys()
        .filter(|key| *key != "messages")
        .map(|key| Fault::new(key.clone(), format!("unknown key `{}`", crate::config::decode::shown(key)), accepted()))
        .collect();
    let Some(Value::Array(messages)) = body.get("messages") else {
        faults.push(Fault::new("messages", "what is not a list", accepted()));
        return Err(bad(faults));
    };
    if !faults.is_empty() {
        return Err(bad(faults));
    }
    let now = web.clock.now();
    let all = messages.iter().map(|one| one.as_object().map_or_else(|| one.clone(), |message| Value::Object(dated(message, now))));
    let patch = Body::from_iter([("messages".to_owned(), all.collect())]);
    changed(&web, &caller, StatusCode::OK, Wish::Patch(which(KIND, &name, &headers)?, patch)).await
}

/// `POST /api/v1/status-pages/{name}/preview`: what the page would look like, to strangers who may see it. Nothing is stored. If there is none of that name,
/// it is a new one.
pub(in super::super) async fn preview(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(name): Segment,
    Described(body): Described,
) -> Result<Response, ApiError> {
    let known = web.made.borrow().find(caller.scope.0, KIND, without_nul(&name)?).is_some();
    let wish = if known { Wish::Replace(Which { kind: KIND, id: name, seen: None }, body) } else { Wish::Make(KIND, body) };
    let change = change_of(&web, &caller, vec![wish]).await?;
    let config = ask_for(&web, |answer| Asked::Preview(change, answer)).await?;
    let page = Arc::new(OwnedPage { tenant: caller.scope.0, config: *config, mail: None, hooks: Guard::PublicOnly });
    let shown: Arc<Shown> = super::read(&web, &page, web.clock.now()).await?;
    let mut response = shown.html.clone().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    Ok(response)
}
