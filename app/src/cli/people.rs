//! Arguments of the commands with which people act on a running server, and what they come to.

use super::client::Client;
use super::commands::{ConfigArgs, env};
use super::term::View;
use super::{Ended, dead_letters, incident, say, silence};
use crate::clock::Clock;
use crate::config::decode::parse_duration;
use crate::web::types::{Match, NewSilence, Time};
use anyhow::anyhow;
use std::collections::BTreeMap;
use watchkeeper_core::verdict::Action;

#[derive(Debug, clap::Subcommand)]
pub enum IncidentCommand {
    /// Show what is wrong now
    List {
        /// Also what is over
        #[arg(long)]
        all: bool,
        /// Print what the API says
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        at: ConfigArgs,
    },
    /// Show everything about one: what was seen, what happened, who was told and who was not, and why
    Show {
        /// Its id, or a part of it from the beginning or the end
        id: String,
        /// Print what the API says
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        at: ConfigArgs,
    },
    /// Take it on: reminders and escalation stop
    Ack(ActArgs),
    /// Give it back: reminders and escalation go on
    Unack(ActArgs),
    /// End it; it does not open again before it has been well once
    Resolve(ActArgs),
}

#[derive(Debug, clap::Args)]
pub struct ActArgs {
    /// Its id, or a part of it from the beginning or the end
    id: String,
    /// What others should know; goes to its timeline
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    #[command(flatten)]
    person: Person,
    #[command(flatten)]
    at: ConfigArgs,
}

/// Who acts, for what others are shown.
#[derive(Debug, clap::Args)]
pub struct Person {
    /// Your name, as others are told it beside the token's; the user of this system if not given
    #[arg(long = "as", value_name = "NAME", env = "WATCHKEEPER_AS")]
    name: Option<String>,
}

impl Person {
    /// The name that was given, else that of the system's user: whoever became another one is who they were before.
    fn name(self) -> Option<String> {
        let user = || ["SUDO_USER", "USER", "LOGNAME"].into_iter().filter_map(env).find(|name| !name.trim().is_empty());
        self.name.or_else(user)
    }
}

#[derive(Debug, clap::Subcommand)]
pub enum SilenceCommand {
    /// Begin one now
    Add(SilenceArgs),
    /// Show those that last
    List {
        /// Print what the API says
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        at: ConfigArgs,
    },
    /// End one now: what it held back is told, if it is still true
    End {
        /// Its id, or a part of it from the beginning or the end
        id: String,
        #[command(flatten)]
        person: Person,
        #[command(flatten)]
        at: ConfigArgs,
    },
}

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("end").required(true).args(["lasts", "until"])))]
#[command(group(clap::ArgGroup::new("about").required(true).multiple(true).args(["monitor", "label", "kind", "rule", "severity", "all"])))]
pub struct SilenceArgs {
    /// How long from now: 1h, 30m
    #[arg(long = "for", value_name = "DURATION")]
    lasts: Option<String>,
    /// Until when: 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// A monitor, `*` for any text; may be given more than once
    #[arg(long, value_name = "NAME")]
    monitor: Vec<String>,
    /// A label that monitors must have, such as team=web
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// A kind of monitors, such as http
    #[arg(long)]
    kind: Vec<String>,
    /// A rule, such as down
    #[arg(long)]
    rule: Vec<String>,
    /// info, warning or critical
    #[arg(long)]
    severity: Vec<String>,
    /// Everything
    #[arg(long, conflicts_with_all = ["monitor", "label", "kind", "rule", "severity"])]
    all: bool,
    /// Why
    #[arg(long, value_name = "TEXT")]
    comment: String,
    #[command(flatten)]
    person: Person,
    /// Print what the API says
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: ConfigArgs,
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DeadLettersArgs {
    #[command(subcommand)]
    command: Option<DeadLettersCommand>,
    #[command(flatten)]
    list: DeadLettersListArgs,
}

#[derive(Debug, clap::Subcommand)]
enum DeadLettersCommand {
    /// Show them, newest first
    List(DeadLettersListArgs),
    /// Send them again
    Retry(RetryArgs),
}

#[derive(Debug, clap::Args)]
struct DeadLettersListArgs {
    /// Print what the API says
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: ConfigArgs,
}

#[derive(Debug, clap::Args)]
struct RetryArgs {
    /// Its number
    #[arg(required_unless_present = "all")]
    id: Option<i64>,
    /// All that are there now
    #[arg(long, conflicts_with = "id")]
    all: bool,
    #[command(flatten)]
    at: ConfigArgs,
}

/// The server of that configuration, and who reads.
fn server(at: &ConfigArgs) -> Result<(Client, View), Ended> {
    let clock = Clock::system();
    Ok((at.client(&clock)?, View::of_stdout(clock.now())))
}

/// `watchkeeper incident …`.
pub async fn incident(command: IncidentCommand) -> Result<(), Ended> {
    let text = match command {
        IncidentCommand::List { all, json, at } => {
            let (client, view) = server(&at)?;
            incident::list(&client, all, json, &view).await?
        }
        IncidentCommand::Show { id, json, at } => {
            let (client, view) = server(&at)?;
            incident::show(&client, &id, json, &view).await?
        }
        IncidentCommand::Ack(args) => act(args, Action::Acknowledge).await?,
        IncidentCommand::Unack(args) => act(args, Action::Unacknowledge).await?,
        IncidentCommand::Resolve(args) => act(args, Action::Resolve).await?,
    };
    say(&text)
}

async fn act(args: ActArgs, action: Action) -> Result<String, Ended> {
    let (client, _) = server(&args.at)?;
    let client = client.acting_as(args.person.name());
    Ok(incident::act(&client, &args.id, action, args.comment).await?)
}

/// `watchkeeper silence …`.
pub async fn silence(command: SilenceCommand) -> Result<(), Ended> {
    let text = match command {
        SilenceCommand::Add(args) => {
            let asked = asked(&args)?;
            let (client, view) = server(&args.at)?;
            silence::add(&client.acting_as(args.person.name()), &asked, args.json, &view).await?
        }
        SilenceCommand::List { json, at } => {
            let (client, view) = server(&at)?;
            silence::list(&client, json, &view).await?
        }
        SilenceCommand::End { id, person, at } => {
            let (client, _) = server(&at)?;
            silence::end(&client.acting_as(person.name()), &id).await?
        }
    };
    say(&text)
}

/// The silence that the arguments ask for.
fn asked(args: &SilenceArgs) -> Result<NewSilence, Ended> {
    let mut labels = BTreeMap::new();
    for label in &args.label {
        let Some((name, value)) = label.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(Ended::Usage(anyhow!("--label {label}: NAME=VALUE is accepted")));
        };
        if labels.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(Ended::Usage(anyhow!("--label {name} is given twice: a monitor must have every label that is given")));
        }
    }
    if let Some(text) = args.lasts.as_deref().filter(|text| parse_duration(text).is_none_or(|lasts| lasts.0 <= 0)) {
        return Err(Ended::Usage(anyhow!("--for {text}: a duration such as 1h or 30m is accepted")));
    }
    let until = args.until.as_deref().map(str::parse::<Time>).transpose();
    let until = until.map_err(|_| Ended::Usage(anyhow!("--until: a time such as 2026-01-31T12:00:00Z is accepted")))?;
    Ok(NewSilence {
        about: Match {
            monitors: args.monitor.clone(),
            labels,
            kinds: args.kind.clone(),
            rules: args.rule.clone(),
            severities: args.severity.clone(),
        },
        all: args.all,
        lasts: args.lasts.clone(),
        until,
        comment: args.comment.clone(),
    })
}

/// `watchkeeper dead-letters …`.
pub async fn dead_letters(args: DeadLettersArgs) -> Result<(), Ended> {
    let text = match args.command.unwrap_or(DeadLettersCommand::List(args.list)) {
        DeadLettersCommand::List(DeadLettersListArgs { json, at }) => {
            let (client, view) = server(&at)?;
            dead_letters::list(&client, json, &view).await?
        }
        DeadLettersCommand::Retry(RetryArgs { id, all: _, at }) => {
            let (client, _) = server(&at)?;
            match id {
                Some(id) => dead_letters::retry(&client, id).await?,
                // Without a number, clap asks for `--all`.
                None => dead_letters::retry_all(&client).await?,
            }
        }
    };
    say(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: SilenceCommand,
    }

    fn add(words: &[&str]) -> Result<NewSilence, String> {
        let line = Line::try_parse_from([&["silence", "add"], words].concat()).map_err(|error| error.to_string())?;
        let SilenceCommand::Add(args) = line.command else { panic!("this was `add`") };
        asked(&args).map_err(|ended| format!("{ended:?}"))
    }

    #[test]
    fn a_silence_is_asked_for_with_a_subject_an_end_and_a_reason() {
        let words =
            ["--for", "1h", "--monitor", "shop*", "--monitor", "api", "--label", "team=web", "--rule", "down", "--comment", "deploy"];
        let silence = add(&words).unwrap();
        assert_eq!(silence.about.monitors, ["shop*", "api"]);
        assert_eq!(silence.about.labels["team"], "web");
        assert_eq!((silence.lasts.as_deref(), silence.until, silence.all), (Some("1h"), None, false));
        assert!(add(&["--until", "2026-01-31T12:00:00Z", "--all", "--comment", "c"]).unwrap().all);
        for (bad, named) in [
            (&["--for", "1h", "--monitor", "shop"][..], "--comment"),
            (&["--monitor", "shop", "--comment", "c"], "--for"),
            (&["--for", "1h", "--comment", "c"], "--monitor"),
            (&["--for", "1h", "--all", "--monitor", "shop", "--comment", "c"], "--all"),
            (&["--for", "1h", "--until", "2026-01-31T12:00:00Z", "--all", "--comment", "c"], "--until"),
            (&["--for", "soon", "--all", "--comment", "c"], "--for soon"),
            (&["--until", "soon", "--all", "--comment", "c"], "--until"),
            (&["--for", "1h", "--label", "team", "--comment", "c"], "NAME=VALUE"),
            (&["--for", "1h", "--label", "a=1", "--label", "a=2", "--comment", "c"], "twice"),
        ] {
            let error = add(bad).unwrap_err();
            assert!(error.contains(named), "{bad:?}: {error}");
        }
    }
}
