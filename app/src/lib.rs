//! Watchkeeper's effects: everything that touches the outside. Read `app.rs` first.

pub use watchkeeper_net::{self as net, clock, hex};

pub mod app;
pub mod calendar;
pub mod channel;
pub mod cli;
pub mod config;
pub mod cut_off;
pub mod dead_man;
pub mod deliver;
pub mod demo;
pub mod documents;
pub mod ears;
pub mod engine;
pub mod executor;
pub mod foreign;
pub mod journal;
mod lateness;
pub mod lease;
pub mod life;
pub mod live;
pub mod mutes;
pub mod probe;
pub mod pulse;
pub mod reload;
pub mod report;
pub mod schedule;
pub mod seal;
mod sealed;
pub mod short_id;
pub mod sketch;
pub mod spec;
pub mod store;
pub mod subscribers;
pub mod talk;
pub mod telemetry;
pub mod timeline;
pub mod uptime_o;
pub mod vantage;

/// An error with all its causes, for the one place that logs it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
pub mod web;

/// A number with its noun: "1 problem", "2 problems".
pub fn counted(n: impl TryInto<u64>, noun: &str) -> String {
    // What does not fit is certainly not one.
    let n = n.try_into().unwrap_or(u64::MAX);
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}
