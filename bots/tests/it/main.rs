//! The real program as processes of its own, on the mock broker of librdkafka and a stand-in for Telegram.
//!
//! Order, counts and one-sided bounds; times and the real broker belong to `./prove bots`.

mod demo;
mod docker;
mod examples;
mod front;
mod kubernetes;
mod lossless;
mod manager;
mod real_kafka;
mod sender;
mod support;
mod topics;
mod webhook;
