//! `./prove bots`: the whole way of an update (webhook, Kafka, worker, Kafka, Bot API) while workers, the gateway and the broker are
//! killed and ended at random moments, and the manager scales from none to five and back. Every update is answered, each chat in its
//! order, and every answer that came twice is accounted for. Then, how long the first update of a sleeping bot waits.
//!
//! The broker is the demo's: a real process with a file of its own. Gateway, manager and workers are the release `watchkeeper-bots`.

use crate::Setup;
use crate::report::Section;
use crate::stats::{Random, percentile};
use crate::topics;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use watchkeeper_bots::kafka::Brokers;
use watchkeeper_bots::names::BotId;
use watchkeeper_bots::stage::broker::{self, Broker, SESSION};
use watchkeeper_bots::stage::build::{Place, Progress, TANSU};
use watchkeeper_bots::stage::crowd::Crowd;
use watchkeeper_bots::stage::ledger::{Heard, Totals};
use watchkeeper_bots::stage::platform::{self, Platform};
use watchkeeper_bots::stage::role::{Signal, signal, workers};

/// Updates.
const UPDATES: u32 = 50_000;
/// They come in so many waves, between which the bot falls asleep.
const WAVES: u64 = 10;
const CHATS: u64 = 100;
const MAX_WORKERS: u32 = 5;
/// Short, so that a wave ends soon.
const COOLDOWN: Duration = Duration::from_secs(2);

/// Workers that are killed or ended in each wave.
const WORKERS_HIT: u64 = 3;
/// How long the broker is away, at most.
const AWAY_MAX_MS: u64 = 3_000;

/// How often somebody who sleeps is woken, and how soon there must be an answer.
const WAKINGS: u64 = 20;
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// So much of what a process said last is shown.
const WORDS_SHOWN: usize = 300;

/// Nothing takes so long, or it has failed.
const LONG: Duration = Duration::from_secs(300);
/// How often something is looked at that is waited for; also what the times of answers are not measured by.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What happened to whom.
#[derive(Default)]
struct Hits {
    workers_killed: u32,
    workers_ended: u32,
    broker_killed: u32,
    gateway_killed: u32,
    gateway_ended: u32,
    /// Processes that ended otherwise than they were made to, with their last words.
    by_themselves: Vec<String>,
}

/// Goes through it all.
pub fn prove(setup: &Setup) -> Result<Section> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let proved = runtime.block_on(run(setup, folder.path()));
    if !matches!(&proved, Ok(section) if section.good) {
        // For whoever looks for the reason.
        println!("bots: the logs are in {}", folder.keep().display());
    }
    proved
}

async fn run(setup: &Setup, folder: &Path) -> Result<Section> {
    let each = (u64::from(setup.rounds.unwrap_or(UPDATES)) / WAVES / CHATS).max(1);
    let updates = each * WAVES * CHATS;
    let what = format!(
        "An echo bot with 0 to {MAX_WORKERS} workers as processes, on the broker tansu {TANSU} with a SQLite file, a process of its own. {CHATS} people write \
         {updates} updates in {WAVES} waves, each person one after the other; between the waves the bot falls asleep (cooldown {} s). At random moments of each \
         wave {WORKERS_HIT} workers get SIGKILL or SIGTERM, in every second wave the broker gets SIGKILL and is away for up to {} s, in every third the \
         gateway. Then {} times one update for a sleeping bot.",
        COOLDOWN.as_secs(),
        AWAY_MAX_MS / 1_000,
        WAKINGS,
    );
    let mut section = Section::new("bots", what, updates as u32, &["what", "measured"]);
    let program = setup.binary.with_file_name("watchkeeper-bots").canonicalize().context("finding watchkeeper-bots beside watchkeeper")?;
    let mut broker = Broker::start(&build().await?, folder).await?;
    let brokers = broker.address();
    let topics = tokio::spawn(topics::check(Brokers { list: brokers.clone(), session: SESSION })).await;
    section.aim(topics.is_ok(), "topics made once, measured and removed over the wire");

    let at = platform::Setup { program, folder: folder.to_owned(), brokers: brokers.clone(), cooldown: COOLDOWN };
    let mut platform = Platform::start(at).await?;
    let bot = platform.add_bot(MAX_WORKERS).await?;
    platform.wait(&bot, "asleep", LONG, platform::Shown::asleep).await?;
    let (crowd, mut dice, mut hits) = (Arc::new(Crowd::default()), Random::new(setup.seed), Hits::default());
    let (began, mut grown, mut told) = (Instant::now(), 0, 0);
    for wave in 1..=WAVES {
        let most = play(wave, each, &mut broker, &mut platform, &bot, &crowd, &mut dice, &mut hits).await?;
        grown += u64::from(most >= MAX_WORKERS as usize);
        let Totals { written, answered, again, early, stray } = crowd.totals();
        for ended in hits.by_themselves.iter().skip(told) {
            println!("bots: {ended}");
        }
        told = hits.by_themselves.len();
        println!(
            "bots: wave {wave} of {WAVES}: {written} written, {answered} answered, {again} again, {early} early, {stray} stray, {most} workers, {:.0} s",
            began.elapsed().as_secs_f64()
        );
    }
    let took = began.elapsed();
    judge(&mut section, &brokers, &platform, &bot, &crowd, &hits, took).await?;
    section.aim(grown == WAVES, &format!("from 0 to {MAX_WORKERS} workers and back to 0 in {grown} of {WAVES} waves"));
    wake(&mut section, &platform, &bot, &crowd, WAKINGS).await?;
    let left = platform.remove_bot(&bot, LONG).await?;
    section.aim(left.is_none() && workers(&bot).is_empty(), "the bot removed at last, with its topics and workers");
    section.none(&platform.telegram.faults(), "calls that Telegram would not have understood");
    Ok(section)
}

/// The demo's broker, built if it is not there.
async fn build() -> Result<std::path::PathBuf> {
    let place = Place::of(|name| std::env::var_os(name))?;
    let mut told = Instant::now();
    let built = place.build(|progress| match progress {
        Progress::Fetching => println!("bots: building the broker in {}, once", place.folder().display()),
        Progress::Built(built, of) if told.elapsed() >= Duration::from_secs(20) || built == of => {
            told = Instant::now();
            println!("bots: {built} of {of} crates of the broker");
        }
        Progress::Built(..) => {}
    });
    Ok(built.await?)
}

/// One wave, until all is answered and the bot is asleep. The most workers that there were.
async fn play(
    wave: u64,
    each: u64,
    broker: &mut Broker,
    platform: &mut Platform,
    bot: &BotId,
    crowd: &Arc<Crowd>,
    dice: &mut Random,
    hits: &mut Hits,
) -> Result<usize> {
    let hook = platform.hook()?;
    let mut people = JoinSet::new();
    for chat in 1..=CHATS {
        let (crowd, telegram, hook) = (crowd.clone(), platform.telegram.clone(), hook.clone());
        people.spawn(async move {
            for _ in 0..each {
                crowd.write(&telegram, &hook, chat as i64).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    // Who is hit, and after how many updates of the wave.
    let size = each * CHATS;
    let mut blows: Vec<(u64, Blow)> = (0..WORKERS_HIT).map(|_| (dice.below(size), Blow::Worker)).collect();
    if wave.is_multiple_of(2) {
        blows.push((dice.below(size), Blow::Broker));
    }
    if wave.is_multiple_of(3) {
        blows.push((dice.below(size), Blow::Gateway));
    }
    blows.sort_by_key(|(when, _)| *when);
    let before = crowd.taken();
    let (began, mut blows, mut most) = (Instant::now(), blows.into_iter().peekable(), 0);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        crowd.hear(&platform.telegram);
        let running = workers(bot);
        most = most.max(running.len());
        while let Some(wrote) = people.try_join_next() {
            wrote.context("somebody who writes panicked")??;
        }
        hits.by_themselves.extend(broker.mend().await?);
        hits.by_themselves.extend(platform.mend().await?);
        let done = people.is_empty() && crowd.totals().owed() == 0;
        // A worker can only be hit when one runs.
        if let Some((_, blow)) =
            blows.next_if(|(when, blow)| crowd.taken() - before >= *when && (*blow != Blow::Worker || !running.is_empty()))
        {
            strike(blow, &running, broker, platform, dice, hits).await?;
        } else if done && blows.peek().is_none() {
            break;
        }
        if began.elapsed() >= LONG {
            bail!("wave {wave} did not end within {} s: {:?}; owed: {:?}", LONG.as_secs(), crowd.totals(), crowd.owed());
        }
    }
    platform.wait(bot, "asleep", LONG, platform::Shown::asleep).await?;
    crowd.hear(&platform.telegram);
    Ok(most)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Blow {
    Worker,
    Broker,
    Gateway,
}

async fn strike(
    blow: Blow,
    running: &[u32],
    broker: &mut Broker,
    platform: &mut Platform,
    dice: &mut Random,
    hits: &mut Hits,
) -> Result<()> {
    // Told to end, tansu 0.6 answers the writes under way with an error, after which idempotent producers raise their epoch, and that it does
    // not take: it ends at every further write of theirs. So the broker is only killed.
    let kill = dice.below(2) == 0 || blow == Blow::Broker;
    let how = if kill { Signal::KILL } else { Signal::TERM };
    let counted = match (blow, kill) {
        (Blow::Worker, true) => &mut hits.workers_killed,
        (Blow::Worker, false) => &mut hits.workers_ended,
        (Blow::Broker, true | false) => &mut hits.broker_killed,
        (Blow::Gateway, true) => &mut hits.gateway_killed,
        (Blow::Gateway, false) => &mut hits.gateway_ended,
    };
    *counted += 1;
    match blow {
        Blow::Worker => signal(running[dice.below(running.len() as u64) as usize], how),
        Blow::Broker => {
            broker.down(how).await?;
            tokio::time::sleep(Duration::from_millis(dice.below(AWAY_MAX_MS))).await;
            broker.up().await?;
        }
        Blow::Gateway => platform.change_gateway(how).await?,
    }
    Ok(())
}

/// What became of all updates, and where answers were doubled.
async fn judge(
    section: &mut Section,
    brokers: &str,
    platform: &Platform,
    bot: &BotId,
    crowd: &Crowd,
    hits: &Hits,
    took: Duration,
) -> Result<()> {
    let Totals { written, answered, again, early, stray } = crowd.totals();
    let (incoming, outgoing) = (broker::count(brokers, &bot.incoming()).await?, broker::count(brokers, &bot.outgoing()).await?);
    let parked = broker::count(brokers, &bot.parked()).await?;
    let sent = answered + again;
    // Fewer at a later place would be a loss, which is seen elsewhere; here it must not look like many.
    let more = |than: u64, count: u64| count as i64 - than as i64;
    let (twice_in, twice_answered, twice_sent) = (more(written, incoming), more(incoming, outgoing), more(outgoing, sent));
    let Hits { workers_killed, workers_ended, broker_killed, gateway_killed, gateway_ended, by_themselves } = hits;
    let mut row = |what: &str, measured: String| section.row(vec![what.to_owned(), measured]);
    row("updates, calls of the webhook", format!("{written}, {}", crowd.calls()));
    row("time for all waves", format!("{:.0} s", took.as_secs_f64()));
    row("SIGKILL, SIGTERM to workers", format!("{workers_killed}, {workers_ended}"));
    row("SIGKILL, SIGTERM to the gateway", format!("{gateway_killed}, {gateway_ended}"));
    row("SIGKILL to the broker", broker_killed.to_string());
    row("broker or gateway ended by themselves, and started again", by_themselves.len().to_string());
    row("answers that Telegram took", sent.to_string());
    row("twice into Kafka, because the webhook's answer was lost", twice_in.to_string());
    row("twice answered by workers", twice_answered.to_string());
    row("twice sent by the gateway", twice_sent.to_string());
    if let Some(first) = by_themselves.first() {
        let words: String = first.chars().take(WORDS_SHOWN).collect();
        section.notes.push(format!("What ended by itself counts like a kill. The first was: {words}"));
    }
    let owed: Vec<String> = crowd.owed().into_iter().map(|(chat, nth)| format!("chat {chat} from update {nth} on")).collect();
    section.none(&owed, &format!("updates without an answer, of {written}: {}", written - answered));
    section.aim(early == 0, &format!("each chat answered in its order: {early} answers before an earlier one"));
    section.aim(stray == 0 && parked == 0, &format!("answers to nobody: {stray}, parked: {parked}"));
    section.aim(
        (0..=more(written, crowd.calls())).contains(&twice_in) && twice_answered >= 0 && twice_sent >= 0,
        "every answer that came again accounted for: no update twice in Kafka without a repeated call, nothing fewer at a later place",
    );
    section.none(&platform.telegram.faults(), "calls that Telegram would not have understood while all this happened");
    Ok(())
}

/// How long the first update of a sleeping bot waits for its answer.
async fn wake(section: &mut Section, platform: &Platform, bot: &BotId, crowd: &Crowd, times: u64) -> Result<()> {
    let (hook, mut waits) = (platform.hook()?, Vec::new());
    for _ in 0..times {
        platform.wait(bot, "asleep", LONG, platform::Shown::asleep).await?;
        // Those that were told to go may still be ending.
        let began = Instant::now();
        while !workers(bot).is_empty() {
            anyhow::ensure!(began.elapsed() < LONG, "a worker runs while the bot is asleep");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let began = Instant::now();
        crowd.write(&platform.telegram, &hook, 1).await?;
        let answer = loop {
            let mut heard = crowd.hear(&platform.telegram);
            if let Some((heard, answer)) = heard.pop() {
                anyhow::ensure!(heard == Heard::First, "an answer that nobody waited for: {answer:?}");
                break answer;
            }
            anyhow::ensure!(began.elapsed() < LONG, "a sleeping bot did not answer within {} s", LONG.as_secs());
            tokio::time::sleep(LOOK_EVERY).await;
        };
        waits.push((answer.at - began).as_secs_f64());
    }
    let [half, most, max] = [50.0, 99.0, 100.0].map(|percent| percentile(&waits, percent));
    section.row(vec![
        format!("first answer of a sleeping bot, {times} times: p50, p99, max"),
        format!("{half:.2} s, {most:.2} s, {max:.2} s"),
    ]);
    section.aim(
        max <= ANSWERED_WITHIN.as_secs_f64(),
        &format!("first answer of a sleeping bot after {max:.2} s at most, aim {} s", ANSWERED_WITHIN.as_secs()),
    );
    Ok(())
}
