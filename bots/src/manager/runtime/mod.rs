//! Where workers run. A runtime makes what there is like what is wanted, as often as it is asked, and knows what there is by looking at
//! it. It decides nothing: how many workers there should be is told, or left to what scales them.

pub mod docker;
mod failures;
pub mod kubernetes;
pub mod process;

use super::bot::Bot;
use crate::names::BotId;

/// The runtime did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// It may the next time.
    #[error("{0}")]
    Again(String),
    /// It never will.
    #[error("{0}")]
    Never(String),
}

/// How removing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// Nothing of it is left.
    Gone,
    /// Workers still end what they have in hand.
    Going,
}

/// Who says how many workers there should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaling {
    /// The manager, by the lag.
    Here,
    /// Something else, which was told of the bounds and the topic.
    Elsewhere,
}

/// A place where workers run.
#[async_trait::async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Who scales.
    fn scaling(&self) -> Scaling;
    /// Whether it could run that; or why not.
    fn check_image(&self, image: &str) -> Result<(), String>;
    /// Makes everything as it should be, with so many workers if it is scaled from here.
    async fn apply(&self, bot: &Bot, wanted: u32) -> Result<(), RuntimeError>;
    /// How many workers are there and work.
    async fn ready(&self, bot: &BotId) -> Result<u32, RuntimeError>;
    /// Removes everything of a bot; workers may end what they have in hand. Asked again until it is gone.
    async fn remove(&self, bot: &BotId) -> Result<Removed, RuntimeError>;
}
