//! How series are shown: `/metrics` in the text form of OpenMetrics.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse as _;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use std::sync::Arc;

/// `/metrics` of what is registered each time that somebody asks.
pub fn router(registered: impl Fn() -> Registry + Send + Sync + 'static) -> Router {
    let registered = Arc::new(registered);
    let answer = move || {
        let mut text = String::new();
        // A string takes everything.
        let _ = encode(&mut text, &registered());
        async move { ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response() }
    };
    Router::new().route("/metrics", get(answer))
}
