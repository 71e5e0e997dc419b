//! The settings: environment variables, under the names that the deployments of the seed's platform already set.
//!
//! Read once at start; every mistake is named at once, with what would have been accepted. A variable that is empty counts as not
//! set. What the platform also sets (`BOT_TOKEN`, `KAFKA_BROKERS`, …) is not read.

use crate::duration;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use tracing::level_filters::LevelFilter;
use watchkeeper_core::Dur;

/// The longest grace: a worker that takes longer is not being stopped. Longer would let a typing mistake block a node's update for
/// days; shorter would cut jobs that take a night.
const GRACE_MAX: Dur = Dur::secs(86_400);

/// What is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `PORT`: where clients call.
    pub port: u16,
    /// `METRICS_PORT`: where Prometheus reads.
    pub metrics_port: u16,
    /// `LISTEN_ADDRESS`: on which address; all of them if not set.
    pub address: Option<IpAddr>,
    /// `GRACE_PERIOD_SECONDS`: how long a drain waits.
    pub grace: Dur,
    /// `LOST_AFTER_SECONDS`: when a request in flight is taken for lost; never if not set.
    pub lost_after: Option<Dur>,
    /// `STATE_FILE`: where the counts are kept over a restart; nowhere if not set.
    pub state_file: Option<PathBuf>,
    /// `LOG_LEVEL`.
    pub log_level: LevelFilter,
}

/// What `--help` prints.
pub const HELP: &str = "\
Counts what a worker has in flight, and lets it finish before it is stopped.

  watchkeeper-sidecar                run, until SIGTERM or SIGINT
  watchkeeper-sidecar healthcheck    ask the one that runs here whether it lives
  watchkeeper-sidecar --version

Everything is set by variables:

  PORT=8081                  where the worker calls, and where the platform looks
  METRICS_PORT=9091          where Prometheus reads /metrics
  LISTEN_ADDRESS=            on which address; all, if not set
  GRACE_PERIOD_SECONDS=30    how long a drain waits for requests in flight
  LOST_AFTER_SECONDS=        a request in flight for longer is taken for lost; never, if not set
  STATE_FILE=                where the counts are kept over a restart; nowhere, if not set
  LOG_LEVEL=info             error, warn, info or debug
";

impl Settings {
    /// Reads them; or says everything that is wrong, a line each.
    pub fn read(get: impl Fn(&str) -> Option<OsString>) -> Result<Self, Vec<String>> {
        let mut read = Reader { get, problems: Vec::new() };
        let settings = Self {
            port: read.port("PORT", 8081),
            metrics_port: read.port("METRICS_PORT", 9091),
            address: read.value("LISTEN_ADDRESS", "an IP address, such as 127.0.0.1 or ::", |text| text.parse().ok()),
            grace: read
                .value("GRACE_PERIOD_SECONDS", "seconds from 0 to 86400, such as 30 or 2.5", |text| {
                    duration::parse(text).filter(|grace| *grace <= GRACE_MAX)
                })
                .unwrap_or(Dur::secs(30)),
            lost_after: read.value("LOST_AFTER_SECONDS", "seconds, more than 0 and at most 31 days", |text| {
                duration::parse(text).filter(|after| *after > Dur::ZERO)
            }),
            state_file: read.value("STATE_FILE", "the path of a file", |text| Some(PathBuf::from(text))),
            log_level: read
                .value("LOG_LEVEL", "error, warn, info or debug", |text| match text.to_ascii_lowercase().as_str() {
                    "error" => Some(LevelFilter::ERROR),
                    "warn" | "warning" => Some(LevelFilter::WARN),
                    "info" => Some(LevelFilter::INFO),
                    "debug" => Some(LevelFilter::DEBUG),
                    _ => None,
                })
                .unwrap_or(LevelFilter::INFO),
        };
        if settings.port != 0 && settings.port == settings.metrics_port {
            read.problems.push(format!("PORT and METRICS_PORT are both {}: they must differ", settings.port));
        }
        if read.problems.is_empty() { Ok(settings) } else { Err(read.problems) }
    }
}

struct Reader<G> {
    get: G,
    problems: Vec<String>,
}

impl<G: Fn(&str) -> Option<OsString>> Reader<G> {
    fn value<T>(&mut self, name: &str, form: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let raw = (self.get)(name).filter(|raw| !raw.is_empty())?;
        let value = raw.to_str().and_then(|text| parse(text.trim()));
        if value.is_none() {
            self.problems.push(format!("{name} is \"{}\": it must be {form}", raw.to_string_lossy().escape_debug()));
        }
        value
    }

    fn port(&mut self, name: &str, default: u16) -> u16 {
        self.value(name, "a port from 1 to 65535, or 0 for any that is free", |text| text.parse().ok()).unwrap_or(default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        Settings::read(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn nothing_set_is_the_contract_s_default() {
        let settings = read(&[("PORT", ""), ("BOT_TOKEN", "1:x")]).expect("good");
        assert_eq!((settings.port, settings.metrics_port, settings.grace), (8081, 9091, Dur::secs(30)));
        assert_eq!((settings.address, settings.lost_after, settings.state_file), (None, None, None));
        assert_eq!(settings.log_level, LevelFilter::INFO);
    }

    #[test]
    fn everything_can_be_set() {
        let settings = read(&[
            ("PORT", "0"),
            ("METRICS_PORT", "0"),
            ("LISTEN_ADDRESS", "127.0.0.1"),
            ("GRACE_PERIOD_SECONDS", "2.5"),
            ("LOST_AFTER_SECONDS", "10m"),
            ("STATE_FILE", "/state/counts"),
            ("LOG_LEVEL", "DEBUG"),
        ])
        .expect("good");
        assert_eq!((settings.grace, settings.lost_after), (Dur::millis(2_500), Some(Dur::secs(600))));
        assert_eq!(settings.log_level, LevelFilter::DEBUG);
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let problems = read(&[
            ("PORT", "http"),
            ("METRICS_PORT", "70000"),
            ("LISTEN_ADDRESS", "localhost"),
            ("GRACE_PERIOD_SECONDS", "two"),
            ("LOST_AFTER_SECONDS", "0"),
            ("LOG_LEVEL", "loud"),
        ])
        .expect_err("bad");
        assert_eq!(
            problems,
            [
                "PORT is \"http\": it must be a port from 1 to 65535, or 0 for any that is free",
                "METRICS_PORT is \"70000\": it must be a port from 1 to 65535, or 0 for any that is free",
                "LISTEN_ADDRESS is \"localhost\": it must be an IP address, such as 127.0.0.1 or ::",
                "GRACE_PERIOD_SECONDS is \"two\": it must be seconds from 0 to 86400, such as 30 or 2.5",
                "LOST_AFTER_SECONDS is \"0\": it must be seconds, more than 0 and at most 31 days",
                "LOG_LEVEL is \"loud\": it must be error, warn, info or debug",
            ]
        );
        assert_eq!(read(&[("PORT", "9091")]).expect_err("bad"), ["PORT and METRICS_PORT are both 9091: they must differ"]);
    }

    #[test]
    fn the_help_names_every_variable() {
        for name in ["PORT", "METRICS_PORT", "LISTEN_ADDRESS", "GRACE_PERIOD_SECONDS", "LOST_AFTER_SECONDS", "STATE_FILE", "LOG_LEVEL"] {
            assert!(HELP.contains(&format!("\n  {name}=")), "{name}");
        }
    }
}
