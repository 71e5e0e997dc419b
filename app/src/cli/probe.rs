//! `watchkeeper probe URL|NAME`: one attempt, shown as a waterfall or printed as JSON.
//!
//! A URL is turned into the very configuration that stands in a file and is read by the same code, so that there is one
//! set of rules and defaults. Nothing is stored and nobody is told. Exit code 0 means up, 1 down or unknown.

use super::commands::env;
use super::term::Term;
use super::{Ended, say, waterfall};
use crate::clock::Clock;
use crate::config::decode::{Node, Pos, Problems, Value, nearest, parse_duration, show_duration};
use crate::config::{self, MonitorConfig};
use crate::net::{Guard, Net, Path};
use crate::probe::{FAMILY, Probe, ProbeConfig, ProbeContext};
use crate::spec::Source;
use anyhow::anyhow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use url::Url;
use watchkeeper_core::{Dur, Outcome};

/// The time-out of a URL; a monitor has its own. As in the file: longer keeps a person waiting, shorter cuts slow targets.
const TIMEOUT: Dur = Dur::secs(10);

/// What URLs are understood.
const SCHEMES: &str = "https://host/path, http://host/path, tcp://host:port, tls://host:port, dns://server/name?type=A, icmp://host";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A URL (https, http, tcp, tls, dns, icmp), a host for https, or the name of a configured monitor
    #[arg(value_name = "URL|NAME")]
    target: String,
    /// The configuration that holds the monitor: a file, or a folder of files
    #[arg(long, value_name = "FILE|DIR")]
    config: Option<PathBuf>,
    /// End the attempt after so long, such as 3s; else the monitor's own, or 10s
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What is to be probed.
struct Target {
    probe: Box<dyn Probe>,
    shown: String,
    timeout: Dur,
}

/// Makes the attempt and shows it.
pub async fn run(args: Args) -> Result<(), Ended> {
    let target = find(&args)?;
    let timeout = match &args.timeout {
        None => target.timeout,
        Some(text) => parse_duration(text)
            .filter(|d| d.0 > 0)
            .ok_or_else(|| Ended::Usage(anyhow!("--timeout {text}: a duration such as 3s or 850ms is accepted")))?,
    };
    let net = Arc::new(Net::system(Clock::system()));
    // Who runs this command may reach what this machine may reach.
    let cx = ProbeContext { net, deadline: Instant::now() + timeout.to_std(), want_detail: true, guard: Guard::Open, path: Path::First };
    let attempt = target.probe.attempt(&cx).await;
    if args.json {
        say(&format!("{}\n", attempt.to_json()))?;
    } else {
        say(&waterfall::draw(&attempt, &target.shown, Term::of_stdout()))?;
    }
    if attempt.outcome == Outcome::Up { Ok(()) } else { Err(Ended::No) }
}

/// A URL, else a monitor of the configuration, else a host.
fn find(args: &Args) -> Result<Target, Ended> {
    if args.target.contains("://") {
        return of_url(&args.target);
    }
    let Some(path) = config::find(args.config.as_deref(), &env) else {
        return of_url(&format!("https://{}", args.target));
    };
    let config = config::load(Some(&path), &env).map_err(|bad| Ended::Usage(anyhow!("{}", super::commands::shown(&bad))))?;
    let monitors: Vec<&MonitorConfig> = config.tenants.iter().flat_map(|t| &t.monitors).collect();
    match monitors.iter().find(|m| m.name == args.target) {
        Some(monitor) => of_monitor(monitor),
        None if args.config.is_none() && args.target.contains(['.', ':']) => of_url(&format!("https://{}", args.target)),
        None => {
            let near = nearest(&args.target, monitors.iter().map(|m| m.name.as_str()));
            let near = near.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
            Err(Ended::Usage(anyhow!("{} has no monitor named {}{near}", path.display(), args.target)))
        }
    }
}

fn of_monitor(monitor: &MonitorConfig) -> Result<Target, Ended> {
    target(&monitor.probe, format!("{} {}", monitor.name, monitor.probe.target()), monitor.timeout)
}

fn target(config: &ProbeConfig, shown: String, timeout: Dur) -> Result<Target, Ended> {
    match config.build() {
        Source::Probe(probe) => Ok(Target { probe, shown, timeout }),
        Source::Push { expect_every, .. } => {
            Err(Ended::Usage(anyhow!("{shown} is not probed: it is expected to report every {}", show_duration(expect_every))))
        }
    }
}

fn of_url(text: &str) -> Result<Target, Ended> {
    let node = node_of(text).map_err(Ended::Usage)?;
    let mut problems = Problems::default();
    let config = FAMILY.open(&node, &mut problems).and_then(|tagged| tagged.kind);
    match config {
        Some(config) if problems.is_empty() => {
            let shown = config.target();
            target(&config, shown, TIMEOUT)
        }
        Some(_) | None => {
            let all: Vec<String> = problems
                .kept()
                .iter()
                .map(|p| match &p.accepted {
                    Some(accepted) => format!("{}; accepted: {accepted}", p.found),
                    None => p.found.clone(),
                })
                .collect();
            Err(Ended::Usage(anyhow!("{text}: {}", all.join("; "))))
        }
    }
}

/// The URL as it would stand under `probe:` in a file.
fn node_of(text: &str) -> anyhow::Result<Node> {
    let url = Url::parse(text).map_err(|error| anyhow!("{text}: {error}; accepted: {SCHEMES}"))?;
    let host = url.host_str().filter(|h| !h.is_empty()).ok_or_else(|| anyhow!("{text} names no host; accepted: {SCHEMES}"))?;
    let with_port = |port: Option<u16>| match url.port().or(port) {
        Some(port) => Ok(format!("{host}:{port}")),
        None => Err(anyhow!("{text} names no port; accepted: {}://{host}:PORT", url.scheme())),
    };
    let (kind, fields) = match url.scheme() {
        "http" | "https" => ("http", vec![("url", text.to_owned())]),
        "tcp" => ("tcp", vec![("address", with_port(None)?)]),
        "tls" => ("tls", vec![("address", with_port(Some(443))?)]),
        "icmp" => ("icmp", vec![("host", host.trim_matches(['[', ']']).to_owned())]),
        "dns" => {
            let name = url.path().trim_matches('/');
            anyhow::ensure!(!name.is_empty(), "{text} asks for no name; accepted: dns://{host}/example.org?type=A");
            let record = url.query_pairs().find(|(key, _)| key == "type").map_or_else(|| "A".to_owned(), |(_, v)| v.into_owned());
            ("dns", vec![("name", name.to_owned()), ("type", record.to_uppercase()), ("server", with_port(Some(53))?)])
        }
        other => anyhow::bail!("{other}:// is not a known kind of URL; accepted: {SCHEMES}"),
    };
    let at = Pos { file: "the command line".into(), line: 1, column: 1 };
    let scalar = |text: String| Node { at: at.clone(), value: Value::Scalar { text, quoted: true, written: None } };
    let map = |fields: Vec<(String, Node)>| Node {
        at: at.clone(),
        value: Value::Map(fields.into_iter().map(|(key, node)| (key, at.clone(), node)).collect()),
    };
    let inner = map(fields.into_iter().map(|(key, text)| (key.to_owned(), scalar(text))).collect());
    Ok(map(vec![(kind.to_owned(), inner)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `kind key=value …` of a URL, or the error.
    fn read(url: &str) -> String {
        let node = match node_of(url) {
            Ok(node) => node,
            Err(error) => return error.to_string(),
        };
        let Value::Map(entries) = node.value else { panic!("a mapping") };
        let (kind, _, inner) = &entries[0];
        let Value::Map(fields) = &inner.value else { panic!("a mapping") };
        let fields = fields.iter().map(|(key, _, node)| match &node.value {
            Value::Scalar { text, .. } => format!(" {key}={text}"),
            other @ (Value::Null | Value::Broken | Value::Seq(_) | Value::Map(_)) => panic!("{other:?}"),
        });
        format!("{kind}{}", fields.collect::<String>())
    }

    #[test]
    fn urls_become_the_configuration_of_their_kind() {
        assert_eq!(read("https://example.org/a?b=c"), "http url=https://example.org/a?b=c");
        assert_eq!(read("tcp://127.0.0.1:5432"), "tcp address=127.0.0.1:5432");
        assert_eq!(read("tls://mail.example.org:465"), "tls address=mail.example.org:465");
        assert_eq!(read("tls://example.org"), "tls address=example.org:443");
        assert_eq!(read("tcp://[::1]:80"), "tcp address=[::1]:80");
        assert_eq!(read("icmp://[::1]"), "icmp host=::1");
        assert_eq!(read("dns://127.0.0.1/example.org?type=mx"), "dns name=example.org type=MX server=127.0.0.1:53");
        assert_eq!(read("dns://127.0.0.1:5353/example.org"), "dns name=example.org type=A server=127.0.0.1:5353");
    }

    #[test]
    fn what_is_not_understood_names_what_is() {
        assert!(read("ftp://example.org").contains("accepted: https://"));
        assert!(read("tcp://example.org").contains("names no port"));
        assert!(read("dns://127.0.0.1").contains("asks for no name"));
        assert!(read("http://").contains("accepted"));
    }
}
