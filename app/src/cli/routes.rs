//! `watchkeeper config routes MONITOR`: who would be told of what, when, and what says so.
//!
//! It reads the configuration and nothing else: no server is asked, nobody is told. Silences are not in a file, so it knows none.

use super::commands::ConfigArgs;
use super::term::moment;
use super::{Ended, say};
use crate::clock::Clock;
use crate::config::decode::{nearest, show_duration};
use crate::config::{AlertConfig, Config, MonitorConfig, TenantConfig};
use crate::web::types::Time;
use anyhow::anyhow;
use jiff::tz::TimeZone;
use std::fmt::Write as _;
use watchkeeper_core::matcher::Subject;
use watchkeeper_core::{Micros, Severity};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The monitor's name
    monitor: String,
    /// As if its rules were of that severity: info, warning or critical
    #[arg(long)]
    severity: Option<String>,
    /// As if a rule were breached then: 2026-01-31T12:00:00Z; now if not given
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Whose, when several tenants have a monitor of that name
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Says it.
pub fn run(args: &Args) -> Result<(), Ended> {
    let severity = match args.severity.as_deref() {
        None => None,
        Some("info") => Some(Severity::Info),
        Some("warning") => Some(Severity::Warning),
        Some("critical") => Some(Severity::Critical),
        Some(other) => return Err(Ended::Usage(anyhow!("--severity {other}: info, warning and critical are accepted"))),
    };
    let at = match args.at.as_deref().map(str::parse::<Time>).transpose() {
        Ok(at) => at.map_or_else(|| Clock::system().now(), |at| at.0),
        Err(_) => return Err(Ended::Usage(anyhow!("--at: a time such as 2026-01-31T12:00:00Z is accepted"))),
    };
    let (config, _) = args.config.load()?;
    let (tenant, monitor) = find(&config, &args.monitor, args.tenant.as_deref())?;
    say(&told(tenant, monitor, severity, at, &TimeZone::system()))
}

fn find<'c>(config: &'c Config, name: &str, slug: Option<&str>) -> Result<(&'c TenantConfig, &'c MonitorConfig), Ended> {
    let tenants = || config.tenants.iter().filter(|tenant| slug.is_none_or(|slug| tenant.slug == slug));
    let found: Vec<_> = tenants().flat_map(|t| t.monitors.iter().map(move |m| (t, m))).filter(|(_, m)| m.name == name).collect();
    match found[..] {
        [one] => Ok(one),
        [] => {
            let near = nearest(name, tenants().flat_map(|t| &t.monitors).map(|m| m.name.as_str()));
            let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            Err(Ended::Usage(anyhow!("there is no monitor named {name}{near}")))
        }
        [..] => {
            let owners: Vec<&str> = found.iter().map(|(tenant, _)| tenant.slug.as_str()).collect();
            Err(Ended::Usage(anyhow!("several tenants have a monitor named {name}: add --tenant with one of {}", owners.join(", "))))
        }
    }
}

/// Every rule with its channels.
fn told(tenant: &TenantConfig, monitor: &MonitorConfig, severity: Option<Severity>, at: Micros, zone: &TimeZone) -> String {
    let mut out = String::new();
    for rule in &monitor.alerts {
        let rule = severity.map_or_else(|| rule.clone(), |severity| tenant.told_at(monitor, rule, severity));
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{} · {}  {}, at {}", monitor.name, rule.key(), rule.severity.as_str(), moment(at, zone));
        let _ = writeln!(out, "  whom to tell: {}", rule.chosen.with_places());
        for window in windows(tenant, monitor, &rule, at) {
            let _ = writeln!(out, "  held until {}: maintenance {}", moment(window.1, zone), window.0);
        }
        let notify = rule.notify.as_deref().unwrap_or_default();
        if notify.is_empty() {
            out.push_str("    nobody\n");
        }
        for (channel, _) in notify {
            let _ = writeln!(out, "    {channel}  {}", when(&rule, channel, at, zone));
        }
        for step in rule.telling.escalate() {
            for (channel, _) in &step.notify {
                let after = show_duration(step.after);
                let _ = writeln!(
                    out,
                    "    {channel}  after {after}, if nobody has taken it on by then ({})",
                    when(&rule, channel, at + step.after, zone)
                );
            }
        }
    }
    if monitor.alerts.is_empty() {
        let _ = writeln!(out, "{}: nobody, as it has no rules", monitor.name);
    }
    out
}

/// When a channel would get a word of that time.
fn when(rule: &AlertConfig, channel: &str, at: Micros, zone: &TimeZone) -> String {
    let opens = |hours: &std::sync::Arc<crate::calendar::Hours>| hours.opens_at(at);
    match rule.hours.get(channel).filter(|hours| !hours.is_empty()) {
        None => "at once".to_owned(),
        // Without a time at which they begin they are open.
        Some(hours) => match hours.iter().map(opens).collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().min()) {
            None => "at once, within the hours of its route".to_owned(),
            Some(opens) => format!("from {}, when the hours of its route begin", moment(opens, zone)),
        },
    }
}

/// Announced work that holds the word, and until when.
fn windows<'c>(tenant: &'c TenantConfig, monitor: &MonitorConfig, rule: &AlertConfig, at: Micros) -> Vec<(&'c str, Micros)> {
    let key = rule.key();
    let subject = Subject {
        monitor: &monitor.name,
        labels: &monitor.labels,
        kind: monitor.probe.kind(),
        rule: Some(&key),
        severity: Some(rule.severity),
    };
    let about = tenant.maintenance.iter().filter(|window| window.matcher.matches(&subject));
    about.filter_map(|window| window.window.open_until(at).map(|until| (window.name.as_str(), until))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_texts;

    const FILE: &str = r#"
channels:
  - { name: ops, webhook: { url: "http://127.0.0.1:1/" } }
  - { name: pager, webhook: { url: "http://127.0.0.1:2/" } }
defaults: { notify: [ops] }
monitors:
  - name: shop
    labels: { team: web }
    probe: { http: { url: "https://shop.example.org/" } }
    escalate: [ { after: 15m, notify: pager } ]
    alerts: [ { down: {} }, { blind: {}, notify: [] } ]
routes:
  - match: { labels: { team: web } }
    severity: [critical]
    hours: { days: mon-fri, from: "09:00", to: "18:00" }
    notify: [pager]
maintenance:
  - { name: weekly, match: { monitors: [shop] }, every: { cron: "0 3 * * SUN", for: 2h } }
"#;

    fn of(severity: Option<Severity>, at: &str) -> String {
        let config = load_texts(&[("wk.yaml".to_owned(), FILE.as_bytes().to_vec())], &|_| None).unwrap_or_else(|bad| panic!("{bad}"));
        let (tenant, monitor) = find(&config, "shop", None).unwrap_or_else(|ended| panic!("{ended:?}"));
        told(tenant, monitor, severity, at.parse::<Time>().unwrap().0, &TimeZone::UTC)
    }

    #[test]
    fn each_channel_is_shown_with_what_chose_it_and_when_it_hears() {
        // A Saturday.
        insta::assert_snapshot!(of(None, "2026-11-21T12:00:00Z"), @"
        shop · down  critical, at 2026-11-21 12:00:00 UTC
          whom to tell: the route at wk.yaml:13:5 about label team=web; severity critical
            pager  from 2026-11-23 09:00:00 UTC, when the hours of its route begin
            pager  after 15m, if nobody has taken it on by then (from 2026-11-23 09:00:00 UTC, when the hours of its route begin)
        shop · blind  warning, at 2026-11-21 12:00:00 UTC
          whom to tell: `notify` of the rule
            nobody
            pager  after 15m, if nobody has taken it on by then (at once)
        ");
        // The Sunday's window, and a severity that no route is about.
        insta::assert_snapshot!(of(Some(Severity::Warning), "2026-11-22T03:30:00Z"), @"
        shop · down  warning, at 2026-11-22 03:30:00 UTC
          whom to tell: `notify` of `defaults`
          held until 2026-11-22 05:00:00 UTC: maintenance weekly
            ops  at once
            pager  after 15m, if nobody has taken it on by then (at once)
        shop · blind  warning, at 2026-11-22 03:30:00 UTC
          whom to tell: `notify` of the rule
          held until 2026-11-22 05:00:00 UTC: maintenance weekly
            nobody
            pager  after 15m, if nobody has taken it on by then (at once)
        ");
    }

    #[test]
    fn a_monitor_that_is_not_there_is_answered_with_the_nearest() {
        let config = load_texts(&[("wk.yaml".to_owned(), FILE.as_bytes().to_vec())], &|_| None).unwrap_or_else(|bad| panic!("{bad}"));
        let error = format!("{:?}", find(&config, "shpo", None).err().unwrap());
        assert!(error.contains("there is no monitor named shpo; did you mean shop?"), "{error}");
    }
}
