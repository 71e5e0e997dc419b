//! Subscribing to a page, by whoever reads it: the form, and the links in the letters.
//!
//! Whoever asks learns nothing about an address: the answer is the same whether it is known or not. A link only shows a button, because mail
//! scanners follow every link that they see; the button, or a mail program's own (RFC 8058), does what the link is for. Asking needs the
//! page's password, if it has one; a link needs none: it came by mail to somebody who knew it, and mail programs send no passwords.

use super::super::Web;
use super::super::api::Segment;
use super::super::auth::limits::Buckets;
use super::super::body::whole;
use super::words::Words;
use super::{FORM_POLICY, POLICY, Refusal, Visitor, as_page, html, named, style};
use crate::channel::Language;
use crate::channel::email::post_address;
use crate::channel::webhook::call_url;
use crate::channel::words::fill;
use crate::foreign::on_one_line;
use crate::spec::OwnedPage;
use crate::store::{LinkPurpose, NewSubscriber, Subscribed, SubscriberKind, TenantScope, new_uid};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use sha2::{Digest as _, Sha256};
use std::num::NonZeroU32;
use std::time::Duration;

/// Requests from one client at once, and one more after each pause: ten an hour. More would let one client fill a page with strangers' addresses;
/// fewer would keep an office out.
const CLIENT_BURST: NonZeroU32 = NonZeroU32::new(10).expect("10 is not zero");
const CLIENT_PAUSE: Duration = Duration::from_mins(6);

/// Requests for one e-mail address, on all pages: three an hour, so that nobody is flooded with letters that ask whether it was they.
const MAILBOX_BURST: NonZeroU32 = NonZeroU32::new(3).expect("3 is not zero");
const MAILBOX_PAUSE: Duration = Duration::from_mins(20);

/// Links followed from one client at once, and one more after each pause. A mail provider ends subscriptions for all of its users from a few
/// addresses; more would let strangers have the store asked without end.
const LINK_BURST: NonZeroU32 = NonZeroU32::new(300).expect("300 is not zero");
const LINK_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of a form. It has one short field; a URL may be three times as long as it is written.
const FORM_MAX: u64 = 4 * 1_024;

/// Characters of a link's secret: 32 bytes in base64url.
const LINK_CHARS: usize = 43;

/// How often strangers may ask.
pub(super) struct Limits {
    clients: Buckets,
    mailboxes: Buckets,
    links: Buckets,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: Buckets::new(CLIENT_BURST, CLIENT_PAUSE),
            mailboxes: Buckets::new(MAILBOX_BURST, MAILBOX_PAUSE),
            links: Buckets::new(LINK_BURST, LINK_PAUSE),
        }
    }
}

/// What a stranger is told instead of a page.
fn told(language: Language, status: StatusCode, title: &str, text: &str, deeper: bool) -> Response {
    let up = if deeper { "../../../" } else { "../../" };
    as_page(status, html::instead(language, title, text, style().tag.trim_matches('"'), up), POLICY)
}

/// `POST /status/{page}/subscribers`: `address=…`, or `webhook=…`, asks to be told, as the page's forms send it.
pub(in super::super) async fn ask(State(web): State<Web>, Segment(slug): Segment, visitor: Visitor, request: Request) -> Response {
    match asked(&web, &slug, &visitor, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.as_page("../../"),
    }
}

async fn asked(web: &Web, slug: &str, visitor: &Visitor, request: Request) -> Result<Response, Refusal> {
    let page = named(web, slug)?;
    if page.mail.is_none() {
        return Err(Refusal::Absent);
    }
    web.0.status_pages.guesses.admit(&page.config, visitor)?;
    let language = page.config.language;
    let words = Words::of(language);
    let limits = &web.0.status_pages.subscribing;
    let often = || Ok(told(language, StatusCode::TOO_MANY_REQUESTS, words.asked_often, words.asked_often_text, false));
    if !limits.clients.admit_address(visitor.address) {
        return often();
    }
    let body = whole(request, FORM_MAX).await.unwrap_or_default();
    let field = |wanted: &str| url::form_urlencoded::parse(&body).find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned());
    let (kind, address) = match field("webhook").filter(|_| page.config.subscribers.as_ref().is_some_and(|known| known.webhooks)) {
        Some(given) => (SubscriberKind::Webhook, call_url(&given).map(String::from)),
        None => (SubscriberKind::Email, field("address").and_then(|given| post_address(&given)).map(|address| address.to_string())),
    };
    let (bad, bad_text, done, done_text) = match kind {
        SubscriberKind::Email => (words.no_address, words.no_address_text, words.asked, words.asked_text),
        SubscriberKind::Webhook => (words.no_hook, words.no_hook_text, words.asked_hook, words.asked_hook_text),
    };
    let Some(address) = address else { return Ok(told(language, StatusCode::BAD_REQUEST, bad, bad_text, false)) };
    if !limits.mailboxes.admit(address.to_ascii_lowercase()) {
        return often();
    }
    let now = web.clock.now();
    let new = NewSubscriber { uid: new_uid(now), kind, address };
    let noted = web.store.subscribers().subscribe(TenantScope(page.tenant), &page.config.slug, &new, now).await;
    match noted.map_err(|error| unreached(&error, &page))? {
        Subscribed::Noted => Ok(told(language, StatusCode::ACCEPTED, done, done_text, false)),
        Subscribed::Full => Ok(told(language, StatusCode::SERVICE_UNAVAILABLE, words.full, words.full_text, false)),
    }
}

fn unreached(error: &crate::store::StoreError, page: &OwnedPage) -> Refusal {
    let chain = crate::chain(error);
    tracing::warn!(page = %page.config.slug, error = %chain, "a subscription to the status page {} could not be looked at", page.config.slug);
    Refusal::NotNow(page.config.language)
}

/// What is done with a link.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Show,
    Do,
}

/// `GET /status/{page}/subscription/{link}`: what the link would do, and a button that does it.
pub(in super::super) async fn show_link(State(web): State<Web>, path: LinkPath, visitor: Visitor) -> Response {
    linked(&web, path, &visitor, Deed::Show).await.unwrap_or_else(|refusal| refusal.as_page("../../../"))
}

/// `POST /status/{page}/subscription/{link}`: does it.
pub(in super::super) async fn follow_link(State(web): State<Web>, path: LinkPath, visitor: Visitor) -> Response {
    linked(&web, path, &visitor, Deed::Do).await.unwrap_or_else(|refusal| refusal.as_page("../../../"))
}

/// The page's name and the link.
type LinkPath = Result<Path<(String, String)>, PathRejection>;

async fn linked(web: &Web, path: LinkPath, visitor: &Visitor, deed: Deed) -> Result<Response, Refusal> {
    let Path((slug, link)) = path.map_err(|_| Refusal::Absent)?;
    let page = named(web, &slug)?;
    let language = page.config.language;
    let words = Words::of(language);
    if !web.0.status_pages.subscribing.links.admit_address(visitor.address) {
        return Ok(told(language, StatusCode::TOO_MANY_REQUESTS, words.asked_often, words.asked_often_text, true));
    }
    let (scope, slug, hash, now) = (TenantScope(page.tenant), page.config.slug.as_str(), hash_of(&link), web.clock.now());
    let subscribers = web.store.subscribers();
    let purpose = match (link.len() == LINK_CHARS, deed) {
        (false, _) => Ok(None),
        (true, Deed::Show) => subscribers.link(scope, slug, &hash, now).await,
        (true, Deed::Do) => subscribers.follow(scope, slug, &hash, now).await,
    };
    let purpose = purpose.map_err(|error| unreached(&error, &page))?;
    let Some(purpose) = purpose else {
        return Ok(told(language, StatusCode::NOT_FOUND, words.stale, words.stale_text, true));
    };
    let title = on_one_line(&page.config.title);
    let (heading, text, button) = match (purpose, deed) {
        (LinkPurpose::Confirm, Deed::Show) => (words.confirm, fill(words.confirm_text, &[("title", &title)]), Some(words.confirm_now)),
        (LinkPurpose::Leave, Deed::Show) => (words.leave, fill(words.leave_text, &[("title", &title)]), Some(words.leave_now)),
        (LinkPurpose::Confirm, Deed::Do) => (words.confirmed, words.confirmed_text.to_owned(), None),
        (LinkPurpose::Leave, Deed::Do) => (words.left, words.left_text.to_owned(), None),
    };
    let Some(button) = button else { return Ok(told(language, StatusCode::OK, heading, &text, true)) };
    let html = html::with_button(language, heading, &text, button, style().tag.trim_matches('"'), "../../../");
    Ok(as_page(StatusCode::OK, html, FORM_POLICY))
}

/// What the store knows a link by.
pub(crate) fn hash_of(link: &str) -> [u8; 32] {
    Sha256::digest(link.as_bytes()).into()
}
