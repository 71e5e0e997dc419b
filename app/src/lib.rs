//! Watchkeeper's effects: everything that touches the outside. Read `app.rs` first.

pub mod channel;
pub mod clock;
pub mod config;
pub mod live;
pub mod net;
pub mod probe;
pub mod schedule;
pub mod sketch;
pub mod spec;
pub mod store;
pub mod telemetry;
