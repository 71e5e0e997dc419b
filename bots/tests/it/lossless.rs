//! No update is lost and no chat is reordered, whatever happens to the workers and to the gateway.

use crate::support::broker::Broker;
use crate::support::process::{Process, echo, gateway};
use crate::support::telegram::{Call, Telegram, message};
use crate::support::{Dice, bot, until};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const UPDATES: i64 = 2_000;
const CHATS: i64 = 25;
const PER_CHAT: i64 = UPDATES / CHATS;

/// For each chat, the answers in the order in which Telegram took them.
fn by_chat(calls: &[Call]) -> BTreeMap<i64, Vec<i64>> {
    let mut chats: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for call in calls {
        let nth = call.text().strip_prefix("Echo: ").and_then(|nth| nth.parse().ok()).expect("one of ours");
        chats.entry(call.chat()).or_default().push(nth);
    }
    chats
}

#[tokio::test(flavor = "multi_thread")]
async fn every_update_is_answered_while_workers_and_gateway_are_stopped_and_killed() {
    let (broker, telegram, folder, bot) = (Broker::start(), Telegram::start().await, tempfile::tempdir().expect("a folder"), bot("a1"));
    broker.create_for(&bot);
    let mut gate = gateway(&broker, &telegram, folder.path(), 0, &[]).await;
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(echo(&broker, &bot, folder.path(), &[]).await);
    }

    // People write: each chat one after the other, chats beside each other. Telegram repeats what the gateway did not take.
    let (telegram, url, taken, attempts) =
        (Arc::new(telegram), gate.url.clone(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let people: Vec<_> = (1..=CHATS)
        .map(|chat| {
            let (telegram, url, bot, taken, attempts) = (telegram.clone(), url.clone(), bot.clone(), taken.clone(), attempts.clone());
            tokio::spawn(async move {
                for nth in 0..PER_CHAT {
                    let tried = telegram.deliver(&url, &bot, &message(chat * 1_000 + nth, chat, &nth.to_string())).await;
                    attempts.fetch_add(tried, Ordering::Relaxed);
                    taken.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();

    // Meanwhile, at random moments of the stream, somebody ends somebody; another one takes the place.
    let seed = 20_251_130;
    let (mut dice, mut killed, mut stopped, mut gates) = (Dice(seed), 0, 0, 0);
    for round in 1..=8 {
        let when = UPDATES as usize * round / 10 + dice.below(60) as usize;
        until("so many are taken", async || (taken.load(Ordering::Relaxed) >= when).then_some(())).await;
        let who = dice.below(workers.len() as u64) as usize;
        let kill = dice.below(2) == 0;
        workers[who].signal(if kill { "KILL" } else { "TERM" });
        let status = workers[who].ended().await;
        assert_eq!(status.code(), if kill { None } else { Some(0) }, "{}", workers[who].log());
        if kill {
            killed += 1;
        } else {
            stopped += 1;
        }
        workers[who] = echo(&broker, &bot, folder.path(), &[]).await;
        if round % 4 == 0 {
            gate.process.signal(if round == 4 { "KILL" } else { "TERM" });
            gate.process.ended().await;
            gates += 1;
            gate = gateway(&broker, &telegram, folder.path(), gate.port, &[]).await;
        }
    }
    for person in people {
        person.await.expect("everybody is heard");
    }
    let all: BTreeMap<i64, BTreeSet<i64>> = (1..=CHATS).map(|chat| (chat, (0..PER_CHAT).collect())).collect();
    until("every update is answered", async || {
        let chats = by_chat(&telegram.taken("sendMessage"));
        let answered: BTreeMap<i64, BTreeSet<i64>> = chats.into_iter().map(|(chat, nths)| (chat, nths.into_iter().collect())).collect();
        (answered == all).then_some(())
    })
    .await;
    broker.idle(&bot.group(), &bot.incoming()).await;
    broker.idle("tg-gateway-outgoing", &bot.outgoing()).await;

    let answers = telegram.taken("sendMessage");
    for (chat, nths) in by_chat(&answers) {
        let mut newest = -1;
        for nth in nths {
            // Either the next that was not answered yet, or one again.
            assert!(nth <= newest + 1, "chat {chat}: {nth} was answered before {}", newest + 1);
            newest = newest.max(nth);
        }
    }
    assert!(broker.read(&bot.parked()).is_empty());
    let (incoming, outgoing) = (broker.read(&bot.incoming()).len(), broker.read(&bot.outgoing()).len());
    let (webhook, worker, sender) = (incoming - UPDATES as usize, outgoing - incoming, answers.len() - outgoing);
    println!(
        "seed {seed}: {UPDATES} updates in {} calls of the webhook; workers: {killed} killed, {stopped} stopped; gateways: {gates} ended; \
         {} answers; twice into Kafka {webhook}, twice answered by workers {worker}, twice sent {sender}",
        attempts.load(Ordering::Relaxed),
        answers.len(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_doubled_while_workers_come_and_go_in_good_order() {
    let (broker, telegram, folder, bot) = (Broker::start(), Telegram::start().await, tempfile::tempdir().expect("a folder"), bot("a1"));
    broker.create_for(&bot);
    let gate = gateway(&broker, &telegram, folder.path(), 0, &[]).await;
    let mut first = echo(&broker, &bot, folder.path(), &[]).await;
    for nth in 0..60 {
        telegram.deliver(&gate.url, &bot, &message(nth + 1, nth % 5 + 1, &(nth / 5).to_string())).await;
        if nth == 20 {
            workers_join_and_leave(&mut first, &broker, &bot, folder.path()).await;
        }
    }
    telegram.wait_for("sendMessage", 60).await;
    broker.idle(&bot.group(), &bot.incoming()).await;
    broker.idle("tg-gateway-outgoing", &bot.outgoing()).await;
    let chats = by_chat(&telegram.taken("sendMessage"));
    assert_eq!(chats, (1..=5).map(|chat| (chat, (0..12).collect())).collect());
    drop(gate);
}

/// Another worker takes some of the partitions, and the first one leaves.
async fn workers_join_and_leave(first: &mut Process, broker: &Broker, bot: &watchkeeper_bots::names::BotId, folder: &std::path::Path) {
    let second = echo(broker, bot, folder, &[]).await;
    until("the second has partitions", async || second.log().contains("assigned: [Part").then_some(())).await;
    let gone = std::mem::replace(first, second);
    let mut gone = gone;
    gone.signal("TERM");
    assert_eq!(gone.ended().await.code(), Some(0), "{}", gone.log());
}
