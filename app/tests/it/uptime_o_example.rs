//! `examples/uptime-o` as far as it runs without a container engine: its commands, its variables, and the SQL behind them.

use crate::support::servers::Server;
use crate::support::uptime_o::Installation;
use clap::CommandFactory as _;
use secrecy::ExposeSecret as _;
use std::path::Path;
use watchkeeper::cli::Cli;
use watchkeeper::config::decode::{Node, Problems, Value};
use watchkeeper::config::tree;
use watchkeeper::uptime_o::Variables;

/// The entries of a mapping.
fn entries(node: &Node) -> Vec<(&str, &Node)> {
    let Value::Map(entries) = &node.value else { panic!("{}: no mapping", node.at) };
    entries.iter().map(|(key, _, value)| (key.as_str(), value)).collect()
}

fn child<'n>(node: &'n Node, key: &str) -> &'n Node {
    entries(node).into_iter().find(|(known, _)| *known == key).unwrap_or_else(|| panic!("{}: no {key}", node.at)).1
}

fn text(node: &Node) -> &str {
    let Value::Scalar { text, .. } = &node.value else { panic!("{}: no text", node.at) };
    text
}

fn texts(node: &Node) -> Vec<&str> {
    let Value::Seq(items) = &node.value else { panic!("{}: no list", node.at) };
    items.iter().map(text).collect()
}

/// A service of the example: its command and its variables.
type Service = (Vec<String>, Vec<(String, String)>);

/// `schema`, and the nine agents in their order.
fn services() -> (Service, Vec<Service>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/uptime-o/docker-compose.yml");
    let mut problems = Problems::default();
    let root = tree::parse("docker-compose.yml", &std::fs::read(path).unwrap(), &|_| None, &mut problems).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    let service = |node: &Node| {
        assert_eq!(text(child(node, "image")), "watchkeeper:latest");
        let variables = entries(child(node, "environment")).into_iter().map(|(key, value)| (key.to_owned(), text(value).to_owned()));
        (texts(child(node, "command")).into_iter().map(str::to_owned).collect(), variables.collect())
    };
    let all = entries(child(&root, "services"));
    let schema = all.iter().find(|(name, _)| *name == "schema").map(|(_, node)| service(node)).unwrap();
    (schema, all.iter().filter(|(name, _)| name.starts_with("agent-")).map(|(_, node)| service(node)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn its_schema_and_its_first_agent_work() {
    let ((command, variables), agents) = services();
    let Some(seed) = Installation::empty().await else { return };
    assert_eq!(command[..2], ["seed-schema", "uptime-o"]);
    assert_eq!(variables.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["DB_CONN_STRING"]);
    let rest: Vec<&str> = command[2..].iter().map(String::as_str).collect();
    // A second `up` runs it again.
    for _ in 0..2 {
        let made = seed.seed_schema(&rest);
        assert!(made.status.success(), "{made:?}");
    }
    // Nothing here asks the internet: the sample rows get a target of this machine.
    let target = Server::http("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    seed.execute(&format!("UPDATE api_monitors SET url = '{}'; UPDATE schedules SET interval = 1", target.url("/"))).await;
    let (command, variables) = &agents[0];
    assert_eq!(command[..], ["serve"]);
    let set: Vec<(&str, &str)> =
        variables.iter().filter(|(name, _)| name != "DB_CONN_STRING").map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let agent = seed.agent("va", &set);
    for monitor in 1..=4 {
        let beats = seed.heartbeats(monitor, 1).await;
        assert_eq!((&beats[0]["agent_id"], &beats[0]["success"]), (&1.into(), &true.into()), "{beats:?}");
    }
    assert!(agent.program.stop().await.success());
    seed.database.drop_it().await;
}

#[test]
fn its_commands_and_variables_are_understood() {
    let (schema, agents) = services();
    assert_eq!(agents.len(), 9);
    for ((command, variables), nth) in agents.iter().zip(1..) {
        assert!(Cli::command().try_get_matches_from(std::iter::once("watchkeeper").chain(command.iter().map(String::as_str))).is_ok());
        let env = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let read = Variables::read(&env, false).unwrap().unwrap();
        assert_eq!(read.datacenter, nth);
        assert_eq!(read.url.expose_secret(), &schema.1[0].1);
        let options: sqlx::postgres::PgConnectOptions = read.url.expose_secret().parse().unwrap();
        assert_eq!((options.get_host(), options.get_database()), ("postgres", Some("inframirror")));
    }
}
