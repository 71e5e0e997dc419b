//! `watchkeeper user …` on a store, as whoever is at the machine runs it; and the code that a start prints while there is no user.

use crate::support::process::{Program, configured};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use watchkeeper::store;

fn run(config: &Path, words: &[&str], typed: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watchkeeper"));
    command.args(words).arg("--config").arg(config).env("USER", "root").env_remove("SUDO_USER");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that asks for nothing may have ended already.
    let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Serves until the text is on its standard output, and what is there then.
async fn served_until(config: &Path, text: &str) -> String {
    let out = config.with_extension("out");
    let program = Program::serve_saying_to(config, std::fs::File::create(&out).unwrap());
    let found = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let said = std::fs::read_to_string(&out).unwrap();
            if said.contains(text) {
                return said;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let found = found.await.unwrap_or_else(|_| panic!("{text} did not come"));
    assert!(program.stop().await.success());
    found
}

#[tokio::test]
async fn users_are_made_without_a_word_of_their_password() {
    let folder = tempfile::tempdir().unwrap();
    let config = configured(folder.path(), "");
    let none = refused(&run(&config, &["user", "create", "ann"], "four plain words\n"));
    assert!(none.contains("start the server once"), "{none}");
    let first = served_until(&config, "become the first administrator").await;
    let code = first.lines().map(str::trim).find(|line| line.len() == 19 && line.matches('-').count() == 3);
    assert!(code.is_some(), "{first}");

    assert_eq!(said(&run(&config, &["user", "list"], "")), "there is no user\n");
    assert!(refused(&run(&config, &["user", "create", "ann"], "short\n")).contains("10 characters"));
    assert!(refused(&run(&config, &["user", "create", "ann", "--role", "emperor"], "")).contains("viewer, operator, admin"));
    assert_eq!(said(&run(&config, &["user", "create", "ann"], "four plain words\n")), "ann may sign in, as admin of default\n");
    assert!(refused(&run(&config, &["user", "create", "ANN"], "four plain words\n")).contains("already"));
    let file = folder.path().join("password");
    std::fs::write(&file, "four other words\nand a second line\n").unwrap();
    let from_file = ["user", "create", "Bob", "--role", "viewer", "--password-file", file.to_str().unwrap()];
    said(&run(&config, &from_file, ""));
    let list = said(&run(&config, &["user", "list"], ""));
    assert_eq!(list, "admin     ann  (not signed in)\nviewer    Bob  (not signed in)\n");
    assert_eq!(said(&run(&config, &["user", "role", "bob", "operator"], "")), "bob is operator of default\n");
    said(&run(&config, &["user", "password", "bob", "--password-file", "-"], "four newer words\n"));
    assert!(refused(&run(&config, &["user", "remove", "carl"], "")).contains("no user named carl"));

    let url = format!("sqlite://{}", folder.path().join("wk.db").display());
    let store = store::open(&url).await.unwrap();
    let stored = store.accounts().account("bob").await.unwrap().unwrap().password.unwrap();
    assert!(stored.starts_with("$argon2id$") && !stored.contains("newer"), "{stored}");
    let tenant = store::TenantScope(store.tenants().await.unwrap()[0].0);
    let log = store.accounts().audit_log(tenant, None, 10).await.unwrap();
    let log: Vec<_> = log.iter().map(|row| (row.deed.action.as_str(), row.deed.detail.as_str(), row.deed.actor.as_str())).collect();
    assert_eq!(log[..2], [("user password", "Bob", "root"), ("user role", "bob, operator", "root")]);
    assert_eq!(log.len(), 4, "{log:?}");
    store.close().await;

    assert_eq!(said(&run(&config, &["user", "remove", "bob"], "")), "Bob has no account any more\n");
    // With a user there, no code is printed: whoever reads the output of a start is nobody special any more.
    let log = config.with_extension("later");
    let later = Program::serve_logging_to(&config, std::fs::File::create(&log).unwrap());
    tokio::time::timeout(Duration::from_secs(30), async {
        while !std::fs::read_to_string(&log).unwrap().contains("is up on") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("it starts");
    assert!(later.stop().await.success());
    let store = store::open(&url).await.unwrap();
    assert!(!store.accounts().setup_offered(watchkeeper::clock::Clock::system().now()).await.unwrap());
    store.close().await;
}
