//! What every store promises: written from the words of the contract, run over SQLite and PostgreSQL alike.

mod commit;
mod history;
mod keeping;
mod leases;
mod objects;
mod outbox;
mod races;
mod reading;
mod speed;
pub mod world;
