//! The demo on a broker that is there, and what it says when it cannot have one of its own. That it builds and runs its own is seen by
//! whoever runs it, and by `./prove bots`, which uses the same.

use crate::support::broker::Broker;
use crate::support::{KEY, bot, until};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use watchkeeper_bots::stage::role::{Signal, signal, workers};

/// The demo, with nothing set but a place for what it builds and one for what it throws away.
fn demo(folder: &Path, path: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watchkeeper-bots"));
    command.arg("demo").args(arguments).env_clear().env("XDG_CACHE_HOME", folder.join("cache")).env("TMPDIR", folder.join("tmp"));
    std::fs::create_dir_all(folder.join("tmp")).expect("a folder");
    command.env("PATH", path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn ended(child: Child) -> Output {
    tokio::task::spawn_blocking(|| child.wait_with_output().expect("it ends")).await.expect("no panic")
}

fn texts(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Nothing lies in its temporary folder any more.
fn tidy(folder: &Path) -> bool {
    std::fs::read_dir(folder.join("tmp")).expect("the folder").count() == 0
}

/// A `cargo` that does this.
fn cargo(folder: &Path, script: &str) {
    std::fs::write(folder.join("cargo"), format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(folder.join("cargo"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("may be run");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_plays_to_its_end_loses_nothing_and_leaves_nothing_behind() {
    let (folder, broker) = (tempfile::tempdir().expect("a folder"), Broker::start());
    let mut command = demo(folder.path(), folder.path(), &["--broker", &broker.brokers.list, "--quick"]);
    let said = folder.path().join("said");
    let mut child = command.stdout(std::fs::File::create(&said).expect("a file")).spawn().expect("it starts");
    let read = || std::fs::read_to_string(&said).expect("what it said");
    // This broker makes no topics when it is asked over the wire; the manager asks until they are there.
    let id = until("the bot has an id", async || {
        assert!(child.try_wait().expect("its state").is_none(), "{}", read());
        read().split_once("Bot ")?.1.split_once(" is made").map(|(id, _)| bot(id))
    })
    .await;
    for (topic, partitions) in [(id.incoming(), 6), (id.outgoing(), 6), (id.parked(), 1)] {
        broker.create(topic, partitions);
    }
    let output = ended(child).await;
    let (said, complained) = (read(), texts(&output).1);
    assert_eq!(output.status.code(), Some(0), "{said}\n{complained}");
    for words in ["✔ answered after ", "✔ 5 workers run", "401 updates, 401 answered, none lost.", "Every chat was answered in its order."]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains('\x1b') && said.lines().all(|line| line.chars().count() <= 80), "{said}");
    assert!(complained.is_empty(), "{complained}");
    assert!(workers(&id).is_empty() && tidy(folder.path()));

    // A broker with bots of its own is none for a demo: its gateway would take their messages.
    let refused = ended(demo(folder.path(), folder.path(), &["--broker", &broker.brokers.list]).spawn().expect("it starts")).await;
    let complained = texts(&refused).1;
    assert_eq!(refused.status.code(), Some(1), "{complained}");
    assert!(complained.contains("has 1 bots already"), "{complained}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_cannot_be_built_is_told_with_what_can_be_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = async || ended(demo(folder.path(), folder.path(), &[]).spawn().expect("it starts")).await;
    let missing = run().await;
    let (said, complained) = texts(&missing);
    assert_eq!(missing.status.code(), Some(1), "{said}");
    for words in ["cargo is missing", "https://rustup.rs", "watchkeeper-bots demo --broker HOST:PORT"] {
        assert!(complained.contains(words), "{words}: {complained}");
    }
    assert!(said.contains("is built") && tidy(folder.path()), "{said}");

    // What cargo said last is told, and not what it said before.
    cargo(
        folder.path(),
        "for n in 1 2 3 4 5 6 7 8 9; do echo \"$n: first\" >&2; echo \"$n: second\" >&2; echo \"$n: third\" >&2; done; exit 101",
    );
    let failed = run().await;
    let complained = texts(&failed).1;
    assert_eq!(failed.status.code(), Some(1));
    assert!(complained.contains("  9: third") && complained.contains("101") && !complained.contains("1: first"), "{complained}");

    // One that is built, but is no broker.
    let made = "{\"reason\":\"compiler-artifact\",\"package_id\":\"x\",\"target\":{\"kind\":[\"bin\"]},\"executable\":\"/bin/false\"}";
    cargo(folder.path(), &format!("case $1 in tree) echo 'x v1.0.0'; echo 'x v1.0.0 (*)';; build) echo '{made}';; esac"));
    let no_broker = run().await;
    let (said, complained) = texts(&no_broker);
    assert!(said.contains("fetching") && complained.contains("the broker has ended by itself"), "{said}\n{complained}");
    assert!(tidy(folder.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_started_ends_with_it() {
    // Somebody loses patience while it builds.
    let folder = tempfile::tempdir().expect("a folder");
    let pid = folder.path().join("pid");
    cargo(folder.path(), &format!("echo $$ >{}; exec /bin/sleep 600", pid.display()));
    let child = demo(folder.path(), folder.path(), &[]).spawn().expect("it starts");
    let cargo: u32 = until("cargo runs", async || std::fs::read_to_string(&pid).ok()?.trim().parse().ok()).await;
    signal(child.id(), Signal::INT);
    let output = ended(child).await;
    let (said, complained) = texts(&output);
    assert!(output.status.success() && said.contains("Ended before it began."), "{said}\n{complained}");
    let runs = || std::fs::read(format!("/proc/{cargo}/cmdline")).is_ok_and(|line| !line.is_empty());
    until("cargo has ended", async || (!runs()).then_some(())).await;
    assert!(tidy(folder.path()));

    // A role does not outlive the one that started it; this one is not the child of that process.
    let mut gateway = Command::new(env!("CARGO_BIN_EXE_watchkeeper-bots"));
    gateway.arg("gateway").env_clear().envs([("PORT", "0"), ("METRICS_PORT", "0"), ("LISTEN_ADDRESS", "127.0.0.1"), ("WEBHOOK_KEY", KEY)]);
    let gateway = gateway.env("END_WITH_PARENT", "1").stderr(Stdio::piped()).spawn().expect("it starts");
    let output = ended(gateway).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(texts(&output).1.contains("process 1, which started this one, has ended"));
}
