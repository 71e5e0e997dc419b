//! Integration tests: one binary, one module per behaviour.

#![expect(clippy::unwrap_used, reason = "a test whose own parts fail has failed")]

mod alerting;
mod alerting_api;
mod alerting_cli;
mod any_bytes;
mod api;
mod channels;
mod channels_discord;
mod channels_email;
mod config_alerting;
mod config_files;
mod config_meaning;
mod confirm;
mod crash_points;
mod cut_off;
mod deliver;
mod deliver_held;
mod deliver_many;
mod docs;
mod flow;
mod flow_alerting;
mod life;
mod metrics;
mod nodes;
mod nodes_faults;
mod phases;
mod probe_icmp;
mod probe_tcp;
mod push;
mod reports;
mod status;
mod store_contract;
mod store_copy;
mod stream;
mod support;
mod telegram_ears;
mod unplug;
mod uptime_o;
mod uptime_o_example;
mod uptime_o_nodes;
mod uptime_o_schema;
mod uptime_o_troubles;
mod zoo_dns;
mod zoo_http;
mod zoo_tls;
