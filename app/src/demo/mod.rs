//! `watchkeeper demo`: what the program does, on a fleet of its own, in about a minute.
//!
//! No account, no network, no configuration: real servers on loopback, the real application on a SQLite file in a
//! temporary folder, and a receiver in the place of a chat. Nothing is scripted but what happens to the servers; every
//! line on the screen is something the application measured, decided or sent.

mod fleet;
mod receiver;
mod screen;
mod story;

use crate::app::{App, Given};
use crate::cli::serve::made_token;
use crate::cli::term::Term;
use crate::clock::Clock;
use crate::config;
use crate::live::Live;
use crate::reload::Source;
use crate::store::LiveRow;
use anyhow::{Context, Result};
use fleet::{CERT_DAYS_LEFT, Fleet, SLOW_MS};
use receiver::{Receiver, Told};
use screen::Screen;
use secrecy::ExposeSecret as _;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use story::{Act, Facts, Next, Story};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::{Micros, MonitorId, Outcome};

/// How often the newest heartbeats are looked at: more often than the fastest monitor beats.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Quiet heartbeats are shown in full for so long, and after that only those that are not quiet.
const FULL_VIEW: Duration = Duration::from_secs(5);

/// Runs the demo to its end, or until `stop`.
pub async fn run(stop: CancellationToken) -> Result<()> {
    let folder = Folder::make()?;
    let mut fleet = Fleet::start(&folder.0.join("ca.pem"), Clock::system().now().0 / 1_000_000).await?;
    let mut receiver = Receiver::start().await?;
    let text = config(&fleet, &receiver, &folder.0);
    let config = config::load_texts(&[("demo.yaml".to_owned(), text.into_bytes())], &|_| None)
        .map_err(|bad| anyhow::anyhow!("the demo's configuration: {}", bad.pretty()))?;
    let screen = Screen::new(Term::of_stdout());
    intro(&screen);
    let app = App::build(config, Source::Fixed, Given::default()).await?;
    if let Some(token) = made_token(&app, &folder.0.join("demo.db.token")).await? {
        screen.text(&format!("  See it live at http://{}/ with the token {}", app.address, token.expose_secret()));
    }
    let names: HashMap<MonitorId, String> = app.fleet.borrow().0.iter().map(|(id, spec)| (*id, spec.name.clone())).collect();
    let mut events = app.live.subscribe();
    let mut watcher = Watcher::new(&screen, app.live.clone(), names);
    let stop_app = CancellationToken::new();
    let mut running = tokio::spawn(app.run(stop_app.clone()));

    let (mut story, mut next) = Story::begin(Instant::now());
    let mut look = tokio::time::interval(LOOK_EVERY);
    let told_out = loop {
        match next {
            Next::Wait => {}
            Next::Scene(say, act) => {
                screen.scene(say);
                perform(&mut fleet, act).await?;
            }
            Next::End => break true,
        }
        next = Next::Wait;
        tokio::select! {
            _ = look.tick() => {
                watcher.look();
                next = story.look(&watcher.facts, Instant::now());
            }
            event = events.recv() => match event {
                Ok((_, row)) => watcher.event(&row),
                // Some events were not shown; the newest ones are.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => break false,
            },
            Some(told) = receiver.told.recv() => watcher.told(&told),
            ended = &mut running => {
                ended.context("the application panicked")??;
                anyhow::bail!("the application ended by itself");
            }
            () = stop.cancelled() => break false,
        }
    };
    stop_app.cancel();
    running.await.context("the application panicked")??;
    watcher.summary(!told_out, story.missed_something());
    Ok(())
}

async fn perform(fleet: &mut Fleet, act: Act) -> Result<()> {
    match act {
        Act::Watch => {}
        Act::StopCheckout => fleet.checkout.go_down().await,
        Act::StartCheckout => fleet.checkout.come_back().await?,
        Act::SlowSearch => fleet.search.set_delay_ms(SLOW_MS),
        Act::FastSearch => fleet.search.set_delay_ms(0),
    }
    Ok(())
}

/// A folder of the demo's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("watchkeeper-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("making the folder {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is in the system's temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The configuration that is watched: an ordinary file.
fn config(fleet: &Fleet, receiver: &Receiver, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"server: {{ listen: 127.0.0.1:0 }}
store: {{ url: "sqlite://{folder}/demo.db" }}
channels:
  - name: chat
    telegram: {{ bot_token: "1:demo", chat_id: "-100", api_url: "http://{told}" }}
  - name: hook
    webhook: {{ url: "http://{told}/hook" }}
defaults: {{ every: 2s, timeout: 2s, recheck: 1s, down_after: 3, notify: [chat, hook] }}
monitors:
  - name: shop
    probe: {{ http: {{ url: "http://{shop}/", expect: {{ body_contains: ok }} }} }}
  - name: account
    probe: {{ http: {{ url: "https://{account}/", ca_file: "{folder}/ca.pem" }} }}
    alerts: [ {{ down: {{}} }}, {{ ssl_expiry: {{ within: 14d }} }} ]
  - name: queue
    probe: {{ tcp: {{ address: "{queue}", expect: {{ contains: "220" }} }} }}
  - name: zone
    probe: {{ dns: {{ name: shop.demo, type: A, server: "{names}" }} }}
  - name: search
    probe: {{ http: {{ url: "http://{search}/" }} }}
    alerts: [ {{ down: {{}} }}, {{ slow_response: {{ above: 300ms, phase: first_byte, for: 2 of 3 }} }} ]
  - name: checkout
    probe: {{ http: {{ url: "http://{checkout}/" }} }}
"#,
        told = receiver.address,
        shop = fleet.shop,
        account = fleet.account,
        queue = fleet.queue,
        names = fleet.names,
        search = fleet.search.address,
        checkout = fleet.checkout.address,
    )
}

fn intro(screen: &Screen) {
    screen.text("Watchkeeper demo: six real servers on this machine, watched for about a minute.");
    screen.text(&format!("One has a certificate with {CERT_DAYS_LEFT} days left, one will go down, one will turn slow by {SLOW_MS} ms."));
    screen.text("Nothing leaves this machine; Ctrl-C ends it.");
    screen.text("");
    screen.legend();
}

/// What the demo has seen, and how much it has shown.
struct Watcher<'a> {
    screen: &'a Screen,
    live: Live,
    names: HashMap<MonitorId, String>,
    shown: HashMap<MonitorId, Micros>,
    facts: Facts,
    beats: u64,
    failed: u64,
    incidents: u64,
    chats: u64,
    hooks: u64,
    began: Instant,
}

impl<'a> Watcher<'a> {
    fn new(screen: &'a Screen, live: Live, names: HashMap<MonitorId, String>) -> Self {
        let facts = Facts { monitors: names.len(), ..Facts::default() };
        Self {
            screen,
            live,
            names,
            shown: HashMap::new(),
            facts,
            beats: 0,
            failed: 0,
            incidents: 0,
            chats: 0,
            hooks: 0,
            began: Instant::now(),
        }
    }

    /// Shows the heartbeats that are new.
    fn look(&mut self) {
        let mut new: Vec<_> = self.live.with(|table| table.values().map(|latest| latest.beat.clone()).collect());
        new.retain(|beat| self.shown.get(&beat.monitor) != Some(&beat.at));
        new.sort_by_key(|beat| beat.at);
        for beat in new {
            let Some(name) = self.names.get(&beat.monitor) else { continue };
            let first = self.shown.insert(beat.monitor, beat.at).is_none();
            self.beats += 1;
            self.failed += u64::from(beat.outcome != Outcome::Up);
            let quiet = beat.outcome == Outcome::Up && beat.total_us < 100_000;
            if first || !quiet || self.began.elapsed() < FULL_VIEW {
                self.screen.heartbeat(name, &beat);
            }
        }
    }

    /// Shows a live event and takes note of it.
    fn event(&mut self, row: &LiveRow) {
        // The heartbeat behind it comes first.
        self.look();
        let data = &row.event.data;
        let text = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
        let name = text("name");
        match row.event.kind.as_str() {
            "monitor_state" => {
                let known = [Health::Unknown, Health::Up, Health::Degraded, Health::Pending, Health::Down];
                if let Some(health) = known.into_iter().find(|h| h.as_str() == text("health")) {
                    self.screen.state(&name, health, &text("why"));
                    self.facts.health.insert(name, health);
                }
            }
            "incident_opened" => {
                self.screen.incident(true, &name, &text("rule"), &text("summary"));
                self.facts.open.insert((name, text("rule")));
                self.incidents += 1;
            }
            "incident_resolved" => {
                self.screen.incident(false, &name, &text("rule"), &text("summary"));
                self.facts.ended.insert((name, text("rule")));
            }
            _ => {}
        }
    }

    fn told(&mut self, told: &Told) {
        match told {
            Told::Chat(text) => {
                self.chats += 1;
                self.screen.chat(text);
            }
            Told::Hook(bytes) => {
                self.hooks += 1;
                self.screen.hook(*bytes);
            }
        }
    }

    fn summary(&self, ended_early: bool, missed: bool) {
        let screen = self.screen;
        screen.text("");
        if ended_early {
            screen.text("Ended early.");
        }
        if missed {
            screen.text("Something of the story did not happen in time; is this machine very busy?");
        }
        screen.text(&format!(
            "{} heartbeats, {} of them failed; {} incidents; {} messages to the chat, {} to the webhook.",
            self.beats, self.failed, self.incidents, self.chats, self.hooks
        ));
        screen.text("");
        screen.text("What to do next:");
        for (command, what) in NEXT {
            screen.text(&format!("  {command:<50}{what}"));
        }
    }
}

/// Shown at the end; each is a command that exists.
const NEXT: [(&str, &str); 4] = [
    ("watchkeeper probe https://example.org", "one attempt, with its waterfall"),
    ("watchkeeper config default > watchkeeper.yaml", "every option, commented"),
    ("watchkeeper config check watchkeeper.yaml", "all problems at once"),
    ("watchkeeper serve --config watchkeeper.yaml", "watch"),
];
