//! `watchkeeper-bots demo`: a bot that sleeps while nobody writes, on one machine, in about a minute.
//!
//! Gateway, manager and workers are processes of this program, as anybody would run them; the broker is a process too, Telegram a
//! stand-in that takes nothing that the real one would refuse. Nothing is scripted but who writes when, and whom somebody kills. Every
//! number on the screen was asked of the manager, or counted at Telegram. What was started ends with the demo, however that ends.

mod screen;

use crate::names::BotId;
use crate::stage::broker::{self, Broker};
use crate::stage::build::{BuildError, Place, Progress, TANSU};
use crate::stage::crowd::Crowd;
use crate::stage::ledger::Totals;
use crate::stage::platform::{Platform, Setup, Shown};
use crate::stage::role::{self, Signal};
use anyhow::{Context as _, Result};
use screen::{Ink, Sample, Screen, grouped};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The bot has at most so many workers.
const MAX_WORKERS: u32 = 5;

/// How often lag and workers are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What a scene is about was seen within this; else the demo goes on and says that it was not.
const SCENE_MAX: Duration = Duration::from_secs(60);

/// Removing the bot takes at most so long: its workers end what they have in hand.
const REMOVED_WITHIN: Duration = Duration::from_secs(20);

/// What the command line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// A broker that is there.
    broker: Option<String>,
    /// Fewer messages and shorter pauses.
    quick: bool,
}

impl Options {
    /// Reads them; or says what is wrong.
    pub fn read(arguments: &[&str]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match *argument {
                "--quick" => options.quick = true,
                "--broker" => {
                    let is_address = |text: &&str| {
                        let port =
                            text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
                        port.is_some_and(|port| port > 0) && !text.contains([',', ' '])
                    };
                    let named = rest.next().copied().filter(is_address);
                    options.broker = Some(named.ok_or("demo --broker takes HOST:PORT, such as localhost:9092")?.to_owned());
                }
                other => return Err(format!("demo does not take {}; it takes --broker HOST:PORT and --quick", other.escape_debug())),
            }
        }
        Ok(options)
    }
}

/// How much is played.
struct Size {
    people: i64,
    each: u64,
    /// Between two messages of a person.
    pause: Duration,
    cooldown: Duration,
    /// So long is left to read, when a scene has shown what it is about.
    linger: Duration,
}

const WHOLE: Size = Size {
    people: 60,
    each: 60,
    pause: Duration::from_millis(200),
    cooldown: Duration::from_secs(6),
    linger: Duration::from_millis(2_500),
};
const QUICK: Size =
    Size { people: 20, each: 20, pause: Duration::from_millis(50), cooldown: Duration::from_secs(1), linger: Duration::ZERO };

/// Shown at the end; each is something that exists.
const NEXT: [(&str, &str); 3] = [
    ("watchkeeper-bots --help", "every setting of gateway, manager and workers"),
    ("docs/bots.md", "a bot of your own, on a Kafka of your own"),
    ("examples/echo-bot", "the same on Kubernetes, and with compose"),
];

/// Why the play ended before its end.
enum Cut {
    /// Somebody wanted it.
    Stopped,
    /// Something failed.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Cut {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Runs the demo to its end, or until `stop`; says whether all went well.
pub async fn run(options: Options, stop: CancellationToken) -> Result<ExitCode> {
    let size = if options.quick { QUICK } else { WHOLE };
    let mut screen = Screen::of_stdout(u64::from(MAX_WORKERS));
    screen.text("Watchkeeper's bots: a bot that sleeps while nobody writes to it, shown in about a minute.");
    screen.text("Gateway, manager and workers are processes of this machine, as you would run them. Telegram is a stand-in.");
    screen.text("Nothing leaves this machine; Ctrl-C ends it with everything that it started.");
    let folder = Folder::make()?;
    let Some(started) = stop.run_until_cancelled(start(&mut screen, &options, &size, &folder.0)).await else {
        screen.built();
        screen.text("\nEnded before it began.");
        return Ok(ExitCode::SUCCESS);
    };
    let (broker, platform) = started?;
    screen.begin();
    let mut play = Play {
        screen,
        size,
        stop,
        broker,
        platform,
        crowd: Arc::default(),
        people: JoinSet::new(),
        bot: None,
        seen: Seen::default(),
        wrote: None,
        first: None,
        killed: 0,
        most: Sample::default(),
        missed: Vec::new(),
    };
    let ended = play.all().await;
    let left = play.end(ended.is_ok()).await;
    play.summary(ended, left)
}

/// The broker, unless there is one, and everything else.
async fn start(screen: &mut Screen, options: &Options, size: &Size, folder: &Path) -> Result<(Option<Broker>, Platform)> {
    let (broker, brokers) = if let Some(address) = &options.broker {
        let topics = broker::topics_of(address).await?;
        // The gateways of a Kafka share all bots: this one would send their messages to the stand-in.
        let bots = topics.iter().filter(|topic| BotId::of_outgoing(topic).is_some()).count();
        anyhow::ensure!(bots == 0, "the broker at {address} has {bots} bots already; the demo would take their messages from them");
        screen.text(&format!("The broker is the one at {address}."));
        (None, address.clone())
    } else {
        let program = built(screen).await?;
        let broker = Broker::start(&program, folder).await?;
        screen.text(&format!("The broker is tansu {TANSU}, which speaks Kafka's protocol."));
        let address = broker.address();
        (Some(broker), address)
    };
    let program = std::env::current_exe().context("finding this program")?;
    let setup = Setup { program, folder: folder.to_owned(), brokers, cooldown: size.cooldown };
    Ok((broker, Platform::start(setup).await?))
}

/// Our own broker; built, if this is the first time.
async fn built(screen: &mut Screen) -> Result<PathBuf> {
    let otherwise = |error: BuildError| {
        let error = anyhow::Error::from(error);
        anyhow::anyhow!("{error:#}\nA broker that is there can be used instead: watchkeeper-bots demo --broker HOST:PORT")
    };
    let place = Place::of(|name| std::env::var_os(name)).map_err(otherwise)?;
    if !place.program().is_file() {
        screen.text(&format!(
            "\nFor the first time, a broker is built: tansu {TANSU}, which speaks Kafka's protocol. That takes some minutes, and is kept in {}.\n",
            place.folder().display()
        ));
    }
    screen.begin();
    let program = place
        .build(|progress| match progress {
            Progress::Fetching => screen.building("fetching its crates", 0, 0),
            Progress::Built(built, of) => screen.building(&format!("{built} of {of} crates"), built, of),
        })
        .await;
    screen.built();
    program.map_err(otherwise)
}

/// A folder of the demo's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("watchkeeper-bots-demo-{}", std::process::id()));
        // There will be a token in it.
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
            .create(&path)
            .with_context(|| format!("making the folder {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is in the system's temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What is seen at one moment.
#[derive(Clone, Copy, Default)]
struct Seen {
    now: Sample,
    totals: Totals,
    /// The bot is there, with nothing to do and nobody to do it.
    asleep: bool,
    /// The webhook has taken so many updates.
    taken: u64,
}

impl Seen {
    /// Everybody has got an answer.
    const fn all_answered(&self) -> bool {
        self.taken == self.totals.written && self.totals.owed() == 0
    }
}

/// The play, and what was seen of it.
struct Play {
    screen: Screen,
    size: Size,
    stop: CancellationToken,
    broker: Option<Broker>,
    platform: Platform,
    crowd: Arc<Crowd>,
    people: JoinSet<Result<()>>,
    bot: Option<BotId>,
    seen: Seen,
    /// When the first message was written, and how long its answer took.
    wrote: Option<Instant>,
    first: Option<Duration>,
    killed: u32,
    most: Sample,
    missed: Vec<&'static str>,
}

impl Play {
    /// Every scene.
    async fn all(&mut self) -> Result<(), Cut> {
        let bot = self.platform.add_bot(MAX_WORKERS).await?;
        self.screen
            .scene(&format!("Bot {bot} is made: its topics in Kafka, its webhook at Telegram. While nobody writes, no worker runs."));
        self.bot = Some(bot.clone());
        self.until("the bot was made", |seen| seen.asleep).await?;
        self.linger().await?;

        self.screen.scene("Ann writes a message. It waits in Kafka while the manager starts a worker for it.");
        self.wrote = Some(Instant::now());
        self.write(1, 1)?;
        self.until("the first message was answered", Seen::all_answered).await?;
        if let Some(first) = self.first {
            self.screen.event(Ink::Green, &format!("✔ answered after {:.2} s, from no worker", first.as_secs_f64()));
        }
        self.linger().await?;

        let cooldown = self.size.cooldown.as_secs();
        self.screen.scene(&format!("Nobody writes any more. When nothing was to do for {cooldown} s, the worker is told to go."));
        self.until("the worker went", |seen| seen.asleep).await?;
        self.linger().await?;

        let (people, each) = (self.size.people, self.size.each);
        self.screen.scene(&format!(
            "Now {people} people write {} messages. There is one worker for every 5 that wait, and never more than {MAX_WORKERS}.",
            grouped(people as u64 * each)
        ));
        let before = self.crowd.taken();
        self.write(people, each)?;
        self.until("all workers ran", |seen| seen.now.workers == u64::from(MAX_WORKERS)).await?;
        self.screen.event(Ink::Green, &format!("✔ {MAX_WORKERS} workers run"));
        let middle = before + people as u64 * each / 2;
        self.until("half of the messages were taken", |seen| seen.taken >= middle).await?;

        self.screen.scene(
            "Somebody kills a worker (kill -9). Its share waits until Kafka misses it; others go on with it, and answer again what was not \
             committed. Nothing is lost, and every chat stays in order.",
        );
        if let Some(worker) = role::workers(&bot).first() {
            role::signal(*worker, Signal::KILL);
            self.killed += 1;
            self.screen.event(Ink::Red, &format!("✘ the worker that was process {worker} is no more"));
        }
        self.until("every message was answered", Seen::all_answered).await?;
        self.screen.event(Ink::Green, &format!("✔ all {} messages are answered", grouped(self.seen.totals.written)));

        self.screen.scene("Quiet again: the workers are told to go, and the bot sleeps.");
        self.until("the workers went", |seen| seen.asleep).await?;
        self.linger().await
    }

    /// So many people write so many messages each.
    fn write(&mut self, people: i64, each: u64) -> Result<()> {
        let hook = self.platform.hook()?;
        for chat in 1..=people {
            let (crowd, telegram, hook, pause) = (self.crowd.clone(), self.platform.telegram.clone(), hook.clone(), self.size.pause);
            self.people.spawn(async move {
                // Not all in the same moment.
                tokio::time::sleep(pause.mul_f64(chat as f64 / people as f64)).await;
                for _ in 0..each {
                    crowd.write(&telegram, &hook, chat).await?;
                    tokio::time::sleep(pause).await;
                }
                Ok(())
            });
        }
        Ok(())
    }

    /// Looks until it is so, and shows what is seen meanwhile.
    async fn until(&mut self, what: &'static str, so: impl Fn(&Seen) -> bool) -> Result<(), Cut> {
        let began = Instant::now();
        loop {
            self.look().await?;
            if so(&self.seen) {
                return Ok(());
            }
            if began.elapsed() >= SCENE_MAX {
                self.missed.push(what);
                return Ok(());
            }
        }
    }

    /// Time to read what was seen.
    async fn linger(&mut self) -> Result<(), Cut> {
        let began = Instant::now();
        while began.elapsed() < self.size.linger {
            self.look().await?;
        }
        Ok(())
    }

    /// One look, a while after the one before.
    async fn look(&mut self) -> Result<(), Cut> {
        let looked = async {
            tokio::time::sleep(LOOK_EVERY).await;
            match &self.bot {
                Some(bot) => self.platform.look(bot).await,
                None => Ok(None),
            }
        };
        let shown = self.stop.run_until_cancelled(looked).await.ok_or(Cut::Stopped)??;
        let mut mended = self.platform.mend().await?;
        if let Some(broker) = &mut self.broker {
            mended = broker.mend().await?.or(mended);
        }
        if let Some(ended) = mended {
            self.screen.event(Ink::Red, &format!("✘ {ended}; it is started again"));
        }
        while let Some(wrote) = self.people.try_join_next() {
            wrote.context("somebody who writes panicked")??;
        }
        for (_, answer) in self.crowd.hear(&self.platform.telegram) {
            if let (None, Some(wrote)) = (self.first, self.wrote) {
                self.first = Some(answer.at - wrote);
            }
        }
        let Seen { now, .. } = self.seen;
        let asleep = shown.as_ref().is_some_and(Shown::asleep);
        // What cannot be told at this moment is as it was.
        let lag = shown.as_ref().and_then(|shown| shown.kafka_lag).unwrap_or(now.lag);
        let workers = shown.and_then(|shown| shown.replicas.current).map_or(now.workers, u64::from);
        self.seen = Seen { now: Sample { lag, workers }, totals: self.crowd.totals(), asleep, taken: self.crowd.taken() };
        self.most = Sample { lag: self.most.lag.max(lag), workers: self.most.workers.max(workers) };
        self.screen.show(self.seen.now, self.seen.totals);
        Ok(())
    }

    /// Removes the bot; says what was left behind of it.
    async fn end(&mut self, whole: bool) -> Result<Option<String>> {
        self.screen.keep();
        self.people.shutdown().await;
        let Some(bot) = &self.bot else { return Ok(None) };
        if whole || self.broker.is_none() {
            self.screen.text("\nEnding what was started …");
            return self.platform.remove_bot(bot, REMOVED_WITHIN).await;
        }
        // Somebody waits, and what the workers would still write goes with the broker. The manager would start others.
        self.platform.manager.signal(Signal::KILL);
        for worker in role::workers(bot) {
            role::signal(worker, Signal::KILL);
        }
        Ok(None)
    }

    /// What it came to, and whether that is good.
    fn summary(mut self, ended: Result<(), Cut>, left: Result<Option<String>>) -> Result<ExitCode> {
        self.crowd.hear(&self.platform.telegram);
        let (totals, faults) = (self.crowd.totals(), self.platform.telegram.faults());
        let Totals { written, answered, again, early, stray } = totals;
        let whole = match ended {
            Ok(()) => true,
            Err(Cut::Stopped) => false,
            Err(Cut::Failed(error)) => return Err(error),
        };
        let screen = &mut self.screen;
        screen.text("");
        if !whole {
            screen.text("Ended early.");
        }
        let owed = match (totals.owed(), whole) {
            (0, _) => "none lost".to_owned(),
            (owed, true) => format!("{} LOST", grouped(owed)),
            (owed, false) => format!("{} were still to be answered", grouped(owed)),
        };
        screen.text(&format!("{} updates, {} answered, {owed}.", grouped(written), grouped(answered)));
        let killed = if self.killed > 0 {
            ": a worker was killed, and what was not committed when the others took its place was done again"
        } else {
            ""
        };
        screen.text(&match again {
            0 => "None was answered twice.".to_owned(),
            again => format!("{} were answered twice{killed}.", grouped(again)),
        });
        screen.text(&match early {
            0 => "Every chat was answered in its order.".to_owned(),
            early => format!("{} answers OUT OF ORDER.", grouped(early)),
        });
        if let Some(first) = self.first {
            screen.text(&format!("First answer of a sleeping bot after {:.2} s.", first.as_secs_f64()));
        }
        screen.text(&format!("The lag was {} at most, with {} workers.", grouped(self.most.lag), self.most.workers));
        for fault in &faults {
            screen.text(&format!("Telegram would not have understood: {fault}"));
        }
        for missed in &self.missed {
            screen.text(&format!("It was not seen in time that {missed}; is this machine very busy?"));
        }
        if let Some(left) = left.unwrap_or_else(|error| Some(format!("{error:#}"))).filter(|_| self.broker.is_none()) {
            screen.text(&format!("The bot's topics may still be there: {left}"));
        }
        screen.text("\nWhat to do next:");
        for (command, what) in NEXT {
            screen.text(&format!("  {command:<38}{what}"));
        }
        let good = early == 0 && stray == 0 && faults.is_empty() && (!whole || totals.owed() == 0) && self.missed.is_empty();
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_says_which_broker_and_how_much() {
        assert_eq!(Options::read(&[]), Ok(Options::default()));
        let both = Options { broker: Some("[::1]:9092".to_owned()), quick: true };
        assert_eq!(Options::read(&["--broker", "[::1]:9092", "--quick"]), Ok(both));
        for bad in [&["--broker"][..], &["--broker", "kafka"], &["--broker", ":1"], &["--broker", "a:0"], &["--broker", "a:1,b:2"]] {
            assert_eq!(Options::read(bad), Err("demo --broker takes HOST:PORT, such as localhost:9092".to_owned()), "{bad:?}");
        }
        assert_eq!(Options::read(&["-x\n"]), Err("demo does not take -x\\n; it takes --broker HOST:PORT and --quick".to_owned()));
    }
}
