//! Which bots there are, and how far each is.
//!
//! A bot is written down before anything else of it is made, and goes when everything else is gone. So whatever a crash leaves behind
//! has somebody who says what to do with it.

pub mod sqlite;

use super::bot::{Bot, Bounds, Phase};
use crate::names::BotId;

/// So many bots at most: each is looked at again and again.
pub const BOTS_MAX: usize = 500;

/// Why the bots could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is a bot with this token, or one of the same number.
    #[error("this bot is registered already")]
    Taken,
    /// There are as many as there may be.
    #[error("there are as many bots as this manager takes")]
    Full,
    /// The database.
    #[error("the state could not be read or written")]
    Database(#[from] sqlx::Error),
    /// The API server.
    #[error("the bots could not be read from the cluster, or written there")]
    Cluster(#[from] kube::Error),
    /// Something else has written there.
    #[error("the state holds something that is no bot: {0}")]
    Broken(String),
}

/// Where the bots are kept.
#[async_trait::async_trait]
pub trait Registry: Send + Sync + 'static {
    /// All bots, the oldest first.
    async fn all(&self) -> Result<Vec<Bot>, RegistryError>;
    /// One bot.
    async fn get(&self, id: &BotId) -> Result<Option<Bot>, RegistryError>;
    /// Writes a new one.
    async fn add(&self, bot: &Bot) -> Result<(), RegistryError>;
    /// Writes how far it is. What is being removed stays so.
    async fn set_phase(&self, id: &BotId, phase: Phase, problem: Option<&str>) -> Result<(), RegistryError>;
    /// Writes other bounds.
    async fn set_bounds(&self, id: &BotId, bounds: Bounds) -> Result<(), RegistryError>;
    /// Everything of it is gone.
    async fn remove(&self, id: &BotId) -> Result<(), RegistryError>;
    /// Nothing more will be asked.
    async fn close(&self);
}
