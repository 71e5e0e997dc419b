//! `watchkeeper-bots`: Telegram bots that run only while somebody writes to them, on Kafka.
//!
//! Telegram's updates go through the `gateway` into a topic of the bot's, its workers (`echo` is one) read them and write their answers
//! into another, and the gateway makes the calls. No update and no answer is lost: each step takes a message out of one place only when
//! the next has it. So a step that dies repeats a few; nothing is left out, and each chat stays in order. The `manager` makes what a bot
//! needs, and starts and stops workers as the updates come.

pub mod bot_api;
pub mod cli;
pub mod client;
pub mod clock;
pub mod command;
pub mod demo;
pub mod echo;
pub mod gateway;
pub mod intake;
pub mod kafka;
pub mod lanes;
pub mod manager;
pub mod metrics;
pub mod names;
pub mod secret;
pub mod serve;
pub mod settings;
pub mod stage;
pub mod update;
