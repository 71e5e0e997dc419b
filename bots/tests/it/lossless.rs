//! No update is lost and no chat is reordered, whatever happens to the workers and to the gateway.

use crate::support::broker::Broker;
use crate::support::process::{Process, echo, gateway};
use crate::support::telegram::{Telegram, hook};
use crate::support::{Dice, bot, until};
use std::sync::Arc;
use watchkeeper_bots::stage::crowd::Crowd;
use watchkeeper_bots::stage::ledger::Totals;

const UPDATES: i64 = 2_000;
const CHATS: i64 = 25;
const PER_CHAT: i64 = UPDATES / CHATS;

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
    let (telegram, hook, crowd) = (Arc::new(telegram), hook(&gate.url, &bot), Arc::new(Crowd::default()));
    let people: Vec<_> = (1..=CHATS)
        .map(|chat| {
            let (telegram, hook, crowd) = (telegram.clone(), hook.clone(), crowd.clone());
            tokio::spawn(async move {
                for _ in 0..PER_CHAT {
                    crowd.write(&telegram, &hook, chat).await.expect("taken");
                }
            })
        })
        .collect();

    // Meanwhile, at random moments of the stream, somebody ends somebody; another one takes the place.
    let seed = 20_251_130;
    let (mut dice, mut killed, mut stopped, mut gates) = (Dice(seed), 0, 0, 0);
    for round in 1..=8_u64 {
        let when = UPDATES as u64 * round / 10 + dice.below(60);
        until("so many are taken", async || (crowd.taken() >= when).then_some(())).await;
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
    until("every update is answered", async || {
        crowd.hear(&telegram);
        (crowd.totals().owed() == 0).then_some(())
    })
    .await;
    broker.idle(&bot.group(), &bot.incoming()).await;
    broker.idle("tg-gateway-outgoing", &bot.outgoing()).await;

    crowd.hear(&telegram);
    let Totals { written, answered, again, early, stray } = crowd.totals();
    // Each answer is the next that its chat was owed, or one again.
    assert_eq!((written, answered, early, stray), (UPDATES as u64, UPDATES as u64, 0, 0));
    let answers = (answered + again) as usize;
    assert!(broker.read(&bot.parked()).is_empty());
    let (incoming, outgoing) = (broker.read(&bot.incoming()).len(), broker.read(&bot.outgoing()).len());
    let (webhook, worker, sender) = (incoming - UPDATES as usize, outgoing - incoming, answers - outgoing);
    println!(
        "seed {seed}: {UPDATES} updates in {} calls of the webhook; workers: {killed} killed, {stopped} stopped; gateways: {gates} ended; \
         {answers} answers; twice into Kafka {webhook}, twice answered by workers {worker}, twice sent {sender}",
        crowd.calls(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_doubled_while_workers_come_and_go_in_good_order() {
    let (broker, telegram, folder, bot) = (Broker::start(), Telegram::start().await, tempfile::tempdir().expect("a folder"), bot("a1"));
    broker.create_for(&bot);
    let gate = gateway(&broker, &telegram, folder.path(), 0, &[]).await;
    let mut first = echo(&broker, &bot, folder.path(), &[]).await;
    let (hook, crowd) = (hook(&gate.url, &bot), Crowd::default());
    for nth in 0..60 {
        crowd.write(&telegram, &hook, nth % 5 + 1).await.expect("taken");
        if nth == 20 {
            workers_join_and_leave(&mut first, &broker, &bot, folder.path()).await;
        }
    }
    telegram.wait_for("sendMessage", 60).await;
    broker.idle(&bot.group(), &bot.incoming()).await;
    broker.idle("tg-gateway-outgoing", &bot.outgoing()).await;
    crowd.hear(&telegram);
    assert_eq!(crowd.totals(), Totals { written: 60, answered: 60, ..Totals::default() });
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
