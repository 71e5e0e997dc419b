//! UptimeOAgent's installations with all their datacenters: each has an agent, one that dies is replaced, and what changes in the tables
//! reaches all of them.

use crate::support::app::until;
use crate::support::servers::Server;
use crate::support::uptime_o::{Agent, Installation, Target};
use serde_json::{Value as Json, json};
use watchkeeper::uptime_o::UID_PREFIX;

/// The pace of every monitor here.
const EVERY_S: i64 = 2;
const EVERY_US: i64 = EVERY_S * 1_000_000;
/// A dead agent's place is free after six seconds; the rest is for a busy machine.
const FAIL_OVER_MAX_US: i64 = 30_000_000;

/// Windows between which none was used: each has the agent, the monitor, and when the attempts around it were due.
async fn holes(seed: &Installation) -> Vec<Json> {
    let sql = format!(
        "SELECT agent_id, monitor_id, due, next FROM (
             SELECT h.agent_id, h.monitor_id, b.at - b.lag_us AS due,
                 lead(b.at - b.lag_us) OVER (PARTITION BY h.agent_id, h.monitor_id ORDER BY b.at) AS next
             FROM api_heartbeats h JOIN agents a ON a.id = h.agent_id JOIN datacenters d ON d.id = a.datacenter_id
             JOIN wk_monitor w ON w.uid = '{UID_PREFIX}' || lpad(to_hex(h.monitor_id), 12, '0')
             JOIN wk_datacenter p ON p.code = d.code
             JOIN wk_beat b ON b.monitor_id = w.id AND b.datacenter_id = p.id
                 AND b.at = (extract(epoch FROM h.executed_at) * 1000000)::int8) q
         WHERE next - due > {EVERY_US} ORDER BY agent_id, monitor_id, due"
    );
    seed.rows(&sql).await
}

/// How many heartbeats that began after a time the pair has that has the fewest, of nine agents and four monitors.
async fn fewest_since(seed: &Installation, since: i64) -> i64 {
    seed.number(&format!(
        "SELECT min(n) FROM (SELECT count(h.id) AS n FROM agents a CROSS JOIN api_monitors m LEFT JOIN api_heartbeats h
             ON h.agent_id = a.id AND h.monitor_id = m.id AND extract(epoch FROM h.executed_at) * 1000000 > {since}
         GROUP BY a.id, m.id) q"
    ))
    .await
}

/// When a line was written, in microseconds.
fn written(line: &Json) -> i64 {
    line["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_microsecond()
}

#[tokio::test(flavor = "multi_thread")]
async fn nine_datacenters_are_watched_and_one_agent_that_is_killed_leaves_no_hole_beyond_its_fail_over() {
    let Some(seed) = Installation::as_printed().await else { return };
    let target = Server::http("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    // Nothing here asks the internet, and nobody waits a minute.
    seed.execute(&format!("UPDATE api_monitors SET url = '{}'; UPDATE schedules SET interval = {EVERY_S}", target.url("/"))).await;
    let start = |name: &str, datacenter: usize| seed.agent(name, &[("DATACENTER_ID", &datacenter.to_string())]);
    // All at once, as `docker compose up` does.
    let mut agents: Vec<Agent> = (1..=9).map(|datacenter| start(&format!("agent-{datacenter}"), datacenter)).collect();
    for (agent, datacenter) in agents.iter().zip(1..) {
        agent.says(&format!("Acquired lock for datacenter:{datacenter}")).await;
    }
    let stand_by = start("stand-by", 5);
    stand_by.says("Another instance is active. Waiting...").await;
    until("everything is watched from everywhere", async || (fewest_since(&seed, 0).await >= 3).then_some(())).await;

    let killed = seed.number("SELECT extract(epoch FROM clock_timestamp()) * 1000000").await;
    assert!(!stand_by.said("Acquired lock"));
    agents.remove(4).program.kill();
    let taken = written(&stand_by.says("Acquired lock for datacenter:5").await);
    assert!(taken - killed < FAIL_OVER_MAX_US, "{} ms", (taken - killed) / 1_000);
    until("everything is watched on", async || (fewest_since(&seed, taken + EVERY_US).await >= 2).then_some(())).await;

    for agent in agents.into_iter().chain([stand_by]) {
        assert!(!agent.said("stands by"), "{:#?}", agent.lines());
        assert!(agent.program.stop().await.success());
    }
    let holes = holes(&seed).await;
    for hole in &holes {
        let [agent, due, next] = ["agent_id", "due", "next"].map(|key| hole[key].as_i64().unwrap());
        assert_eq!(agent, 5, "the others have nothing to do with it: {hole}; killed at {killed}");
        // What was in flight or not committed when it was killed is lost with it; the next takes up the window after it has begun.
        assert!(killed - due < 2 * EVERY_US && next - taken < 2 * EVERY_US, "{hole}; killed at {killed}, taken over at {taken}");
    }
    let monitors: Vec<i64> = holes.iter().map(|hole| hole["monitor_id"].as_i64().unwrap()).collect();
    assert!(monitors.is_sorted_by(|a, b| a < b), "at most one of each monitor: {holes:?}");
    seed.all_is_saved().await;
    seed.nothing_is_doubled().await;
    seed.database.drop_it().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_follows_another_closely_stops_no_agent() {
    let Some(seed) = Installation::new().await else { return };
    let target = Target::answering("text/plain", b"ok").await;
    let everywhere = async |id: i64| {
        seed.watch(id, &format!("monitor-{id}"), "HTTP", &target.server.url("/"), 1).await;
        seed.execute(&format!("INSERT INTO datacenter_monitors VALUES (2, {id})")).await;
    };
    everywhere(1).await;
    // The first says what is in force, and looks seldom.
    let va = seed.agent("va", &[("CONFIG_RELOAD_INTERVAL", "6s")]);
    va.says("Acquired lock for datacenter:1").await;
    let ny = seed.agent("ny", &[("DATACENTER_ID", "2")]);
    ny.says("Acquired lock for datacenter:2").await;
    seed.heartbeats(1, 4).await;

    let in_force = async || seed.rows("SELECT hash FROM wk_source WHERE name = 'uptime-o'").await;
    let before = in_force().await;
    everywhere(2).await;
    until("the first change is in force", async || (in_force().await != before).then_some(())).await;
    // The other one has not taken it up yet, and reads this one instead.
    everywhere(3).await;
    let agents_of_third = "SELECT count(DISTINCT agent_id) FROM api_heartbeats WHERE monitor_id = 3";
    until("both are watched from both", async || (seed.number(agents_of_third).await == 2).then_some(())).await;
    for agent in [&va, &ny] {
        for text in ["stands by", "Released lock", "the configuration changes nothing"] {
            assert!(!agent.said(text), "{text}: {:#?}", agent.lines());
        }
    }
    assert!(va.program.stop().await.success() && ny.program.stop().await.success());
    seed.all_is_saved().await;
    seed.nothing_is_doubled().await;
    seed.database.drop_it().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_regions_and_datacenters_that_change_take_effect_without_a_restart() {
    let Some(seed) = Installation::new().await else { return };
    let target = Target::answering("text/plain", b"ok").await;
    seed.watch(1, "shop", "HTTP", &target.server.url("/"), 1).await;
    let mut agent = seed.agent("va", &[]);
    agent.says("application found the datacenterId: 1 (va, Virginia), region US East, agent 11 (VA Agent)").await;
    let of = async |id: i64, more: &str| {
        let sql = format!("SELECT count(*) FROM api_heartbeats WHERE agent_id = {id}{more}");
        until(&format!("heartbeats of agent {id}{more}"), async || (seed.number(&sql).await >= 2).then_some(())).await;
    };
    of(11, "").await;

    // The first agent of a datacenter is the one.
    seed.execute("INSERT INTO agents (id, name, datacenter_id) VALUES (5, 'new first', 1)").await;
    of(5, "").await;

    // Another code is another datacenter for everything that hangs on it, but for the tables.
    seed.execute("UPDATE regions SET name = 'US South'; UPDATE datacenters SET code = 'rich', name = 'Richmond' WHERE id = 1").await;
    agent.says("datacenters 1 (code): it is rich now and was va; starting anew").await;
    agent.says("application found the datacenterId: 1 (rich, Richmond), region US South, agent 5 (new first)").await;
    let newest = seed.number("SELECT max(id) FROM api_heartbeats").await;
    of(5, &format!(" AND id > {newest}")).await;
    assert_eq!(agent.lines().iter().filter(|line| line["msg"] == "application started").count(), 1);
    assert!(!agent.program.has_ended());

    // Without an agent nothing can be saved; what waits is saved when there is one again.
    seed.execute("UPDATE agents SET datacenter_id = NULL WHERE datacenter_id = 1").await;
    agent.says("No agents found for DATACENTER_ID:1; agents needs a row with that datacenter_id; nothing is saved").await;
    agent.says("Failed to save heartbeat: the store failed while looking for the agent: No agents found for DATACENTER_ID:1").await;
    let newest = seed.number("SELECT max(id) FROM api_heartbeats").await;
    let asked = target.server.accepted();
    until("it is checked all the same", async || (target.server.accepted() >= asked + 2).then_some(())).await;
    seed.execute("UPDATE agents SET datacenter_id = 1 WHERE id = 12").await;
    agent.says("datacenter 1 has its rows again").await;
    of(12, &format!(" AND id > {newest}")).await;
    assert!(agent.program.stop().await.success());
    let beats = seed.rows("SELECT agent_id FROM api_heartbeats ORDER BY executed_at").await;
    let mut order: Vec<&Json> = beats.iter().map(|beat| &beat["agent_id"]).collect();
    order.dedup();
    assert_eq!(order, [&json!(11), &json!(5), &json!(12)]);
    seed.database.drop_it().await;
}
