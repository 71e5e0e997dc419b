//! What the demo, the tests and the proofs play on: a stand-in for Telegram (`telegram`), who is owed which answer (`ledger`), a broker
//! that speaks Kafka's protocol (`broker`), and the program's roles as processes (`role`).
//!
//! None of the roles uses it. Whatever a play shows, it was done by the roles as they are shipped, over sockets.

pub mod broker;
pub mod build;
pub mod crowd;
pub mod ledger;
pub mod platform;
pub mod role;
pub mod telegram;
