//! `watchkeeper-sidecar`: runs beside a worker, counts what it has in flight, and lets it finish before it is stopped.
//!
//! A worker says when it begins a request and when it has ended it; whoever stops the worker asks the sidecar, or waits for its end.
//! What is counted and when a drain is over is decided by two folds without a clock (`counts`, `drain`); everything else hears,
//! writes down and answers. It must never cost a worker anything: every call is answered at once and with 200, no memory grows with
//! what a client sends, and a full disk or a wrong query changes no count.

pub mod app;
pub mod cli;
pub mod clock;
pub mod counts;
pub mod drain;
pub mod duration;
pub mod journal;
pub mod serve;
pub mod settings;
pub mod show;
pub mod sidecar;
