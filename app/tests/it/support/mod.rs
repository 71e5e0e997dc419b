//! What several tests share.

pub mod pki;
pub mod postgres;
pub mod probing;
