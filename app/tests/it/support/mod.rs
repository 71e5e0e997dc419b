//! What several tests share.

pub mod app;
pub mod crash;
pub mod discord;
pub mod netns;
pub mod nginx;
pub mod outbox;
pub mod outside;
pub mod pki;
pub mod postgres;
pub mod probing;
pub mod process;
pub mod provider;
pub mod recorder;
pub mod scripted;
pub mod servers;
pub mod smtp;
pub mod store;
pub mod switch;
pub mod telegram;
pub mod telegram_bot;
pub mod telling;
pub mod uptime_o;
pub mod web;
pub mod webhook;
pub mod world;
pub mod zoo;
