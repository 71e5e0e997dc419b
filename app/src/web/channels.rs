//! Channels: which there are, and a test message to one.
//!
//! They are those of the configuration in force, with their secrets, which never leave this module but towards the provider.

use super::Web;
use super::api::{Params, Segment, limited};
use super::auth::Caller;
use super::documents::made_object;
use super::error::ApiError;
use super::types::{AlertChannel, ChannelFailing, ChannelNotice, ChannelTested, Done, Page, Time};
use crate::channel::{self, RefusedClass};
use crate::config::documents::DocumentKind;
use crate::deliver::Failing;
use crate::net::Guard;
use crate::spec::OwnedChannel;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use serde::Deserialize;
use std::num::NonZeroU32;
use std::sync::Arc;
use watchkeeper_core::ChannelId;

/// Test messages to one channel per minute. They leave beside its budget: more could make the provider refuse the real ones.
const TESTS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(3).expect("3 is not zero");

/// The limit over tests, by channel.
pub(super) struct TestLimits(DefaultKeyedRateLimiter<ChannelId>);

impl Default for TestLimits {
    fn default() -> Self {
        Self(RateLimiter::keyed(Quota::per_minute(TESTS_PER_MINUTE)))
    }
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct NoQuery {}

/// `GET /api/v1/alert-channels`: every one of the tenant, by name.
pub(super) async fn channels(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Params(NoQuery {}): Params<NoQuery>,
) -> Json<Page<AlertChannel>> {
    let channels = web.channels.borrow().clone();
    let own = channels.0.iter().filter(|channel| channel.tenant == caller.scope.0);
    let made = web.made.borrow().clone();
    let failing = web.control.ready.borrow().failing_channels.clone();
    let whole = |channel: &OwnedChannel| {
        let row = made.find(caller.scope.0, DocumentKind::Channel, &channel.config.name);
        AlertChannel {
            made: row.filter(|_| channel.config.at.in_document()).map(made_object),
            failing: failing.iter().find(|failing| failing.channel == channel.id).map(told),
            ..AlertChannel::of(&channel.config)
        }
    };
    let mut items: Vec<AlertChannel> = own.map(whole).collect();
    items.sort_by(|a, b| a.name.cmp(&b.name));
    Json(Page { items, next: None })
}

fn told(failing: &Failing) -> ChannelFailing {
    ChannelFailing { since: Time(failing.since), class: failing.class.as_str().to_owned() }
}

/// The caller's channel of that name.
fn own(web: &Web, caller: &Caller, name: &str) -> Result<OwnedChannel, ApiError> {
    let channels = web.channels.borrow();
    let found = channels.0.iter().find(|channel| channel.tenant == caller.scope.0 && channel.config.name == name);
    found.cloned().ok_or_else(|| ApiError::not_found("alert channel"))
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct NoticesQuery {
    /// How many, 1 to 500; 100 if not given.
    limit: Option<i64>,
}

/// `GET /api/v1/alert-channels/{name}/notices`: what it got lately, what waits for it and what it did not take, newest first.
pub(super) async fn notices(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(name): Segment,
    Params(query): Params<NoticesQuery>,
) -> Result<Json<Page<ChannelNotice>>, ApiError> {
    let limit = limited(query.limit)?;
    let found = web.store.channel_notices(caller.scope, own(&web, &caller, &name)?.id, limit).await?;
    Ok(Json(Page { items: found.into_iter().map(ChannelNotice::of).collect(), next: None }))
}

/// `POST /api/v1/alert-channels/{name}/retry`: what waits for another attempt is tried at once, for whoever has mended the channel.
pub(super) async fn retry(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(name): Segment,
) -> Result<(StatusCode, Json<Done>), ApiError> {
    (web.control.mended)(own(&web, &caller, &name)?.id);
    Ok((StatusCode::ACCEPTED, Json(Done { message: "what waits for it is tried at once".to_owned() })))
}

/// `POST /api/v1/alert-channels/{name}/test`: one message now, without retry and without the outbox; if it is taken, what
/// waits for the channel is tried at once. 502 says what the provider did not like.
pub(super) async fn test(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(name): Segment,
) -> Result<Json<ChannelTested>, ApiError> {
    let found = own(&web, &caller, &name)?;
    if web.0.test_limits.0.check_key(&found.id).is_err() {
        return Err(ApiError::too_many(format!("a channel is tested {TESTS_PER_MINUTE} times a minute at most")));
    }
    let guard = if found.config.at.in_document() { web.made.borrow().reach } else { Guard::Open };
    let net = Arc::new(web.net.under(guard));
    match channel::send_test(&net, &web.clock, &found.config.name, &found.config.kind, found.config.common.style).await {
        Ok(accepted) => {
            (web.control.mended)(found.id);
            Ok(Json(ChannelTested { channel: name, provider_id: accepted.provider_id }))
        }
        Err(refused) => Err(ApiError::new(
            StatusCode::BAD_GATEWAY,
            match refused.class {
                RefusedClass::Client | RefusedClass::Auth | RefusedClass::RateLimited | RefusedClass::Server => "channel_refused",
                RefusedClass::Network | RefusedClass::Timeout => "channel_not_reached",
            },
            format!("{name} did not take the test message: {}", refused.text),
        )),
    }
}
