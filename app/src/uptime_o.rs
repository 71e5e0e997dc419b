//! UptimeOAgent as its users run it: two variables, and everything else in tables of the same PostgreSQL database.
//!
//! Where `DB_CONN_STRING` and `DATACENTER_ID` are set, the monitors are rows ([`mapping`] makes a configuration of them, [`source`]
//! reads it again when they change), results are also written where they are looked for (`api_heartbeats`: [`heartbeat`] says with
//! which values, [`mirror`] when), and the log has the lines that are waited for. Everything between is the program as it is.
//!
//! It never changes a row that is not its own, and what is wrong in one row never concerns another: it is told with its table and
//! number, and left out.

pub mod heartbeat;
pub mod mapping;
pub mod mirror;
pub mod source;
pub mod variables;

pub use mapping::{BadRow, UID_PREFIX, table_id_of, uid_of};
pub use mirror::Mirror;
pub use source::{Place, Source};
pub use variables::Variables;

/// The name under which its objects are kept apart from those of other sources.
pub const SOURCE: &str = "uptime-o";
