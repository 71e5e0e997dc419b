//! Public status pages: what strangers may see, as a page, for programs, as feeds and as badges.
//!
//! Everything here is made from a [`view::View`], which is kept for a few seconds: a storm of visitors, which comes when something is down,
//! costs the store one read per page and a few seconds, and the visitors a copy of what is there. Nothing else is looked at, so that nothing can be
//! shown that is not on the page. A page that is not there is not told from one that never was.

mod badge;
mod feed;
mod guard;
mod html;
mod json;
mod kuma;
mod letter;
pub(super) mod manage;
mod markup;
mod news;
mod statuspage;
pub(super) mod subscribe;
mod view;
mod words;

#[cfg(test)]
pub(super) use badge::Shields;
pub(super) use badge::{gatus_health, gatus_response_time, gatus_shields, gatus_uptime, kuma_badge, kuma_badge_over};
pub(super) use json::StatusPage;
pub(super) use kuma::{KumaBeats, KumaPage};
pub(crate) use letter::{document, letter};
pub(crate) use news::{News, Told, news};
pub(super) use statuspage::{PageStatus, PageSummary};
pub(crate) use subscribe::hash_of;

use super::Web;
use super::api::Segment;
use super::embedded::{File, always, has};
use super::error::ApiError;
use super::page;
use super::serve::Peer;
use crate::channel::Language;
use crate::spec::OwnedPage;
use crate::store::TenantScope;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use view::{Members, View};
use watchkeeper_core::{Dur, Micros};
use words::Words;

/// What was read is good for so long. Longer shows an outage late; shorter reads more for the same.
const FRESH: Dur = Dur::secs(5);

/// What was read is still shown for so long while the store cannot be reached. Longer would say that all is well when nobody knows.
const STALE: Dur = Dur::secs(60);

/// After a failed read the next one is tried no sooner: visitors must not storm a store that is ill.
const PAUSE: Dur = Dur::secs(2);

/// How long browsers and proxies may show a page without asking, and a feed or a badge.
const CACHED: &str = "public, max-age=10";
const CACHED_LONGER: &str = "public, max-age=60";
/// What only those may see who know a password is kept by nobody but them, and asked for anew.
const CACHED_BY_NOBODY: &str = "private, no-cache";

/// Nothing but our one style, and nobody's frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The same of a page with a form.
const FORM_POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";

/// What pages look like. The digits of its `ETag` are part of its address, so that what was once loaded is never asked for again.
fn style() -> &'static File {
    always("status.css")
}

/// What is kept between requests.
#[derive(Default)]
pub(super) struct Kept {
    /// By the page's name; only of pages that there are.
    pages: Mutex<HashMap<String, Arc<Slot>>>,
    guesses: guard::Guesses,
    badges: badge::Kept,
    subscribing: subscribe::Limits,
}

/// One page's place: whoever finds nothing fresh in it reads, and everybody else waits for that.
#[derive(Default)]
struct Slot(tokio::sync::Mutex<Held>);

#[derive(Default)]
struct Held {
    shown: Option<Arc<Shown>>,
    failed_at: Option<Micros>,
}

/// What is done for somebody who asks.
enum Next {
    /// What is there is shown, if it is anything.
    Show(Option<Arc<Shown>>),
    /// The store is asked; if that fails, this is shown.
    Read(Option<Arc<Shown>>),
}

impl Held {
    fn next(&self, page: &Arc<OwnedPage>, now: Micros) -> Next {
        let younger = |most: Dur| self.shown.clone().filter(|shown| Arc::ptr_eq(&shown.of, page) && now - shown.view.now < most);
        if let Some(fresh) = younger(FRESH) {
            return Next::Show(Some(fresh));
        }
        let paused = self.failed_at.is_some_and(|at| now - at < PAUSE);
        if paused { Next::Show(younger(STALE)) } else { Next::Read(younger(STALE)) }
    }
}

/// What a page shows, and the page.
struct Shown {
    /// Of which configuration.
    of: Arc<OwnedPage>,
    view: View,
    html: Bytes,
    tag: String,
}

/// Why somebody does not see a page.
enum Refusal {
    /// There is none.
    Absent,
    /// It needs a password.
    Closed(Language),
    /// After so many seconds another password may be tried.
    Guessing(Language, u64),
    /// It cannot be said how things are.
    NotNow(Language),
}

/// Whoever asks.
pub(super) struct Visitor {
    address: IpAddr,
    headers: HeaderMap,
}

impl FromRequestParts<Web> for Visitor {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Infallible> {
        // Connections without a peer are made in tests alone, and are one stranger.
        let peer = parts.extensions.get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |Peer(peer)| *peer);
        Ok(Self { address: web.trust.client(peer, &parts.headers), headers: parts.headers.clone() })
    }
}

impl Visitor {
    /// The host name that was asked for, in lower case and without port.
    fn host(&self) -> Option<String> {
        let authority = self.headers.get(header::HOST)?.to_str().ok()?.parse::<axum::http::uri::Authority>().ok()?;
        Some(authority.host().trim_end_matches('.').to_ascii_lowercase())
    }

    /// Where the server is reached, as far as the request tells: for links in what is read elsewhere.
    fn base(&self, domain: Option<&str>) -> String {
        if let Some(domain) = domain {
            return format!("https://{domain}");
        }
        let tls = self.headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes().starts_with(b"https"));
        let authority = self.headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse::<axum::http::uri::Authority>().ok());
        let host = authority.map_or_else(|| "localhost".to_owned(), |authority| authority.to_string());
        format!("{}://{host}", if tls { "https" } else { "http" })
    }
}

/// The page of that name.
fn named(web: &Web, slug: &str) -> Result<Arc<OwnedPage>, Refusal> {
    let pages = web.pages.borrow().clone();
    // Another configuration is in force, and this node does not know it.
    let pages = pages.0.ok_or(Refusal::NotNow(Language::default()))?;
    pages.iter().find(|page| page.config.slug == slug).cloned().ok_or(Refusal::Absent)
}

/// The page whose own domain was asked for.
fn of_host(web: &Web, visitor: &Visitor) -> Option<Arc<OwnedPage>> {
    let host = visitor.host()?;
    let pages = web.pages.borrow().clone();
    pages.0?.iter().find(|page| page.config.domain.as_ref() == Some(&host)).cloned()
}

/// What a page shows now, to somebody who may see it.
async fn opened(web: &Web, page: Arc<OwnedPage>, visitor: &Visitor) -> Result<Arc<Shown>, Refusal> {
    web.0.status_pages.guesses.admit(&page.config, visitor)?;
    shown(web, page).await
}

/// What a page shows now.
async fn shown(web: &Web, page: Arc<OwnedPage>) -> Result<Arc<Shown>, Refusal> {
    let slot = slot(web, &page);
    let mut held = slot.0.lock().await;
    let now = web.clock.now();
    let found = match held.next(&page, now) {
        Next::Show(found) => found,
        Next::Read(known) => match read(web, &page, now).await {
            Ok(shown) => {
                *held = Held { shown: Some(shown.clone()), failed_at: None };
                Some(shown)
            }
            Err(error) => {
                let chain = crate::chain(&error);
                tracing::warn!(page = %page.config.slug, error = %chain, "the status page {} could not be read", page.config.slug);
                held.failed_at = Some(now);
                known
            }
        },
    };
    found.ok_or(Refusal::NotNow(page.config.language))
}

fn slot(web: &Web, page: &OwnedPage) -> Arc<Slot> {
    let mut slots = lock(&web.0.status_pages.pages);
    if let Some(slot) = slots.get(&page.config.slug) {
        return slot.clone();
    }
    // Those of pages that are gone go when a new one comes.
    let pages = web.pages.borrow().clone();
    slots.retain(|slug, _| pages.0.iter().flat_map(|pages| pages.iter()).any(|page| page.config.slug == *slug));
    slots.entry(page.config.slug.clone()).or_default().clone()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}

async fn read(web: &Web, page: &Arc<OwnedPage>, now: Micros) -> Result<Arc<Shown>, crate::store::StoreError> {
    let fleet = web.fleet.borrow().clone();
    let members = Members::of(page, &fleet);
    let ids: Vec<_> = members.each().map(|(spec, _)| spec.id).collect();
    let glance = web.store.glance(TenantScope(page.tenant), &ids, view::span(&page.config, now)).await?;
    let mutes = web.store.mutes(page.tenant, now).await?;
    let view = View::of(&page.config, &members, &glance, &mutes, now);
    let html = Bytes::from(html::page(&view, style().tag.trim_matches('"')));
    Ok(Arc::new(Shown { of: page.clone(), tag: tag_of(&html), view, html }))
}

// --- routes

/// `GET /`: the page of the domain that was asked for, or ours.
pub(super) async fn root(State(web): State<Web>, visitor: Visitor) -> Response {
    match of_host(&web, &visitor) {
        Some(page) => as_html(opened(&web, page, &visitor).await, &visitor),
        None => page::index(&visitor.headers),
    }
}

/// `GET /status.css`: what pages look like.
pub(super) async fn stylesheet(visitor: Visitor) -> Response {
    style().send(&visitor.headers, "public, max-age=31536000, immutable")
}

/// `GET /status/{page}`: the page; with `.json` behind its name, the same for programs.
pub(super) async fn page(State(web): State<Web>, Segment(name): Segment, visitor: Visitor) -> Response {
    let (slug, program) = name.strip_suffix(".json").map_or((name.as_str(), false), |slug| (slug, true));
    let found = find(&web, slug, &visitor).await;
    if program { as_json(found, CACHED, &visitor, |shown| StatusPage::of(&shown.view)) } else { as_html(found, &visitor) }
}

/// `GET /status/{page}/rss`.
pub(super) async fn rss(State(web): State<Web>, Segment(slug): Segment, visitor: Visitor) -> Response {
    as_feed(find(&web, &slug, &visitor).await, "application/rss+xml; charset=utf-8", &visitor, feed::rss)
}

/// `GET /status/{page}/atom`.
pub(super) async fn atom(State(web): State<Web>, Segment(slug): Segment, visitor: Visitor) -> Response {
    as_feed(find(&web, &slug, &visitor).await, "application/atom+xml; charset=utf-8", &visitor, feed::atom)
}

/// `GET /status/{page}/api/v2/summary.json`: in Statuspage's form.
pub(super) async fn summary(State(web): State<Web>, Segment(slug): Segment, visitor: Visitor) -> Response {
    let found = find(&web, &slug, &visitor).await;
    as_json(found, CACHED, &visitor, |shown| PageSummary::of(&shown.view, &address(&shown.view, &visitor)))
}

/// `GET /status/{page}/api/v2/status.json`: likewise.
pub(super) async fn status(State(web): State<Web>, Segment(slug): Segment, visitor: Visitor) -> Response {
    let found = find(&web, &slug, &visitor).await;
    as_json(found, CACHED, &visitor, |shown| PageStatus::of(&shown.view, &address(&shown.view, &visitor)))
}

/// `GET /api/v2/summary.json`: of the page whose domain was asked for.
pub(super) async fn root_summary(State(web): State<Web>, visitor: Visitor) -> Response {
    let found = find_by_host(&web, &visitor).await;
    as_json(found, CACHED, &visitor, |shown| PageSummary::of(&shown.view, &address(&shown.view, &visitor)))
}

/// `GET /api/v2/status.json`: likewise.
pub(super) async fn root_status(State(web): State<Web>, visitor: Visitor) -> Response {
    let found = find_by_host(&web, &visitor).await;
    as_json(found, CACHED, &visitor, |shown| PageStatus::of(&shown.view, &address(&shown.view, &visitor)))
}

/// `GET /api/status-page/{page}`: in Uptime Kuma's form.
pub(super) async fn kuma_page(State(web): State<Web>, Segment(slug): Segment, visitor: Visitor) -> Response {
    as_json(find(&web, &slug.to_ascii_lowercase(), &visitor).await, CACHED, &visitor, |shown| KumaPage::of(&shown.view))
}

/// `GET /api/status-page/heartbeat/{page}`: likewise.
pub(super) async fn kuma_heartbeats(State(web): State<Web>, Segment(slug): Segment, visitor: Visitor) -> Response {
    as_json(find(&web, &slug.to_ascii_lowercase(), &visitor).await, CACHED, &visitor, |shown| KumaBeats::of(&shown.view))
}

async fn find(web: &Web, slug: &str, visitor: &Visitor) -> Result<Arc<Shown>, Refusal> {
    opened(web, named(web, slug)?, visitor).await
}

async fn find_by_host(web: &Web, visitor: &Visitor) -> Result<Arc<Shown>, Refusal> {
    opened(web, of_host(web, visitor).ok_or(Refusal::Absent)?, visitor).await
}

/// Where people find the page.
fn address(view: &View, visitor: &Visitor) -> String {
    let base = visitor.base(view.domain.as_deref());
    if view.domain.is_some() { format!("{base}/") } else { format!("{base}/status/{}", view.slug) }
}

// --- answers

fn as_html(found: Result<Arc<Shown>, Refusal>, visitor: &Visitor) -> Response {
    match found {
        Ok(shown) => {
            let policy = if shown.view.subscribers { FORM_POLICY } else { POLICY };
            for_people(answer(shown.html.clone(), &shown.tag, HTML, cached(&shown.view, CACHED), visitor), policy)
        }
        Err(refusal) => refusal.as_page("../"),
    }
}

/// A page of its own, for whoever asked.
fn as_page(status: StatusCode, html: String, policy: &'static str) -> Response {
    let mut response = status.into_response();
    *response.body_mut() = Body::from(html);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(HTML));
    for_people(response, policy)
}

fn for_people(mut response: Response, policy: &'static str) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn as_json<T: Serialize>(
    found: Result<Arc<Shown>, Refusal>,
    cache: &'static str,
    visitor: &Visitor,
    make: impl FnOnce(&Shown) -> T,
) -> Response {
    let shown = match found {
        Ok(shown) => shown,
        Err(refusal) => return refusal.told(),
    };
    let body = serde_json::to_vec(&make(&shown)).expect("texts, numbers and times are JSON");
    let tag = tag_of(&body);
    shared(answer(body.into(), &tag, "application/json", cached(&shown.view, cache), visitor), &shown.view)
}

fn as_feed(
    found: Result<Arc<Shown>, Refusal>,
    kind: &'static str,
    visitor: &Visitor,
    make: impl FnOnce(&View, &str, &str) -> String,
) -> Response {
    let shown = match found {
        Ok(shown) => shown,
        Err(refusal) => return refusal.told(),
    };
    let view = &shown.view;
    let body = make(view, &visitor.base(view.domain.as_deref()), &address(view, visitor));
    let tag = tag_of(body.as_bytes());
    shared(answer(body.into(), &tag, kind, cached(view, CACHED_LONGER), visitor), view)
}

/// How long it may be kept.
fn cached(view: &View, open: &'static str) -> &'static str {
    if view.closed { CACHED_BY_NOBODY } else { open }
}

/// Pages of other origins may read what everybody may see.
fn shared(mut response: Response, view: &View) -> Response {
    if !view.closed {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    response
}

/// An answer, or that it has not changed.
fn answer(body: Bytes, tag: &str, kind: &'static str, cache: &'static str, visitor: &Visitor) -> Response {
    let mut response = if has(&visitor.headers, tag) { StatusCode::NOT_MODIFIED.into_response() } else { Body::from(body).into_response() };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, HeaderValue::from_str(tag).expect("digits in quotes are a value"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if cache == CACHED_BY_NOBODY {
        headers.insert(header::VARY, HeaderValue::from_static("authorization"));
    }
    response
}

/// The `ETag` of a content.
fn tag_of(body: &[u8]) -> String {
    format!("\"{}\"", &crate::hex(&Sha256::digest(body))[..16])
}

impl Refusal {
    const fn status(&self) -> StatusCode {
        match self {
            Self::Absent => StatusCode::NOT_FOUND,
            Self::Closed(_) => StatusCode::UNAUTHORIZED,
            Self::Guessing(..) => StatusCode::TOO_MANY_REQUESTS,
            Self::NotNow(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// For people; `up` leads from where they are to where pages lie beside each other.
    fn as_page(&self, up: &'static str) -> Response {
        let (language, title, text) = match self {
            Self::Absent => (Language::En, "Not found", "There is nothing here."),
            Self::Closed(language) => (*language, Words::of(*language).password, Words::of(*language).password_text),
            Self::Guessing(language, _) => (*language, Words::of(*language).too_many, Words::of(*language).too_many_text),
            Self::NotNow(language) => (*language, Words::of(*language).not_now, Words::of(*language).not_now_text),
        };
        let mut response = as_page(self.status(), html::instead(language, title, text, style().tag.trim_matches('"'), up), POLICY);
        self.mark(&mut response);
        response
    }

    /// For programs.
    fn told(self) -> Response {
        let error = match &self {
            Self::Absent => ApiError::not_found("status page"),
            Self::Closed(_) => {
                ApiError::new(self.status(), "password_needed", "this status page needs its password (HTTP Basic, any user name)")
            }
            Self::Guessing(..) => ApiError::too_many("too many passwords from this address; wait before another is tried"),
            Self::NotNow(_) => ApiError::unavailable("store_unavailable", "how things are cannot be said now; try again"),
        };
        let mut response = error.into_response();
        self.mark(&mut response);
        response
    }

    fn mark(&self, response: &mut Response) {
        let headers = response.headers_mut();
        match self {
            Self::Absent => {}
            Self::Closed(_) => {
                let asked = HeaderValue::from_static("Basic realm=\"Status page\", charset=\"UTF-8\"");
                headers.insert(header::WWW_AUTHENTICATE, asked);
            }
            Self::Guessing(_, seconds) => _ = headers.insert(header::RETRY_AFTER, HeaderValue::from(*seconds)),
            Self::NotNow(_) => _ = headers.insert(header::RETRY_AFTER, HeaderValue::from(PAUSE.0 / 1_000_000)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Fleet, Pages};
    use crate::store::{Applied, AppliedTenant, Glance, Mutes};
    use watchkeeper_core::TenantId;

    const T0: Micros = Micros(1_796_040_030_000_000);

    /// What is done so many seconds after the page was read.
    fn after(seconds: i64, held: &Held, page: &Arc<OwnedPage>) -> &'static str {
        match held.next(page, T0 + Dur::secs(seconds)) {
            Next::Show(Some(_)) => "show",
            Next::Show(None) => "say that it is not known",
            Next::Read(Some(_)) => "read, or show",
            Next::Read(None) => "read",
        }
    }

    #[test]
    fn what_was_read_is_shown_for_a_moment_and_for_a_minute_if_nothing_newer_can_be_had() {
        let texts = [("wk.yaml".to_owned(), b"status_pages: [ { name: a }, { name: b } ]".to_vec())];
        let config = crate::config::load_texts(&texts, &|_| None).unwrap_or_else(|bad| panic!("{bad}"));
        let applied =
            Applied { tenants: vec![AppliedTenant { tenant: TenantId(1), channels: vec![], monitors: vec![] }], ..Applied::default() };
        let pages = Pages::of(&config, &applied).0.expect("they are in force");
        let (page, other) = (&pages[0], &pages[1]);
        let view = View::of(&page.config, &Members::of(page, &Fleet::default()), &Glance::default(), &Mutes::default(), T0);
        let shown = Arc::new(Shown { of: page.clone(), view, html: Bytes::new(), tag: String::new() });

        assert_eq!(after(0, &Held::default(), page), "read");
        let held = Held { shown: Some(shown.clone()), failed_at: None };
        assert_eq!(after(4, &held, page), "show");
        assert_eq!(after(5, &held, page), "read, or show");
        assert_eq!(after(60, &held, page), "read");
        assert_eq!(after(1, &held, other), "read", "it is of another configuration");
        // The store is not asked again at once.
        let failed = |seconds| Held { shown: Some(shown.clone()), failed_at: Some(T0 + Dur::secs(seconds)) };
        assert_eq!(after(31, &failed(30), page), "show");
        assert_eq!(after(32, &failed(30), page), "read, or show");
        assert_eq!(after(61, &failed(60), page), "say that it is not known");
        assert_eq!(after(62, &failed(60), page), "read");
    }
}
