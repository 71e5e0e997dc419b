//! What every store promises: written from the words of the contract, run over SQLite and PostgreSQL alike.

mod accounts;
mod aging;
mod alerting;
mod commit;
mod course;
mod documents;
mod history;
mod keeping;
mod last_resort;
mod late;
mod leases;
mod letters;
mod marks;
mod nodes;
mod objects;
mod outbox;
pub mod past;
mod people;
mod races;
mod reading;
mod speed;
mod subscribers;
mod upgrade;
pub mod world;
