//! `./prove schema`: schemathesis asks every operation of the OpenAPI document for what it says it takes, and for what it does not, as a
//! stranger and as an administrator. Nothing is answered that the document does not say, and nothing fails.

use crate::Setup;
use crate::child::{Serve, free_port, pause};
use crate::killing::Target;
use crate::report::Section;
use crate::standin::StandIn;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use watchkeeper::clock::Clock;

/// The tool, as PyPI has it.
const TOOL: &str = "schemathesis==4.32.5";
/// So many examples of each operation, beside those that cover its document.
const EXAMPLES: u32 = 40;
/// What is looked at in every answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
                      response_headers_conformance,missing_required_header,unsupported_method,ignored_auth";
/// What would end the asking: a stream has no end, and an ended token asks nothing any more.
const LEFT_OUT: [&str; 2] = ["/api/v1/stream/events", "/api/v1/tokens/{id}"];

/// Runs it once.
pub fn prove(setup: &Setup) -> Result<Section> {
    let examples = setup.rounds.unwrap_or(EXAMPLES).max(1);
    let what = format!(
        "{TOOL} against `watchkeeper serve` on SQLite, with the OpenAPI document that it serves: monitors that are up, down and pushed, an \
         incident, a channel that takes everything, a status page. Each operation with the cases that cover its document and {examples} \
         drawn ones; left out are {}. Checked are {CHECKS}.",
        LEFT_OUT.join(" and ")
    );
    let mut section = Section::new("schema", what, examples, &["operations", "cases"]);
    let tool = installed()?;
    let dir = tempfile::tempdir()?;
    let (told, up, down) = (StandIn::start(Clock::system())?, Target::start()?, Target::start()?);
    down.down.store(true, std::sync::atomic::Ordering::Relaxed);
    let port = free_port()?;
    let file = dir.path().join("watchkeeper.yaml");
    std::fs::write(
        &file,
        format!(
            "server: {{ listen: 127.0.0.1:{port}, api_targets: private }}\nstore: {{ url: sqlite://watchkeeper.db }}\n\
             defaults: {{ every: 2s, timeout: 1s, recheck: 1s, down_after: 1 }}\nchannels:\n{}monitors:\n\
             \x20 - {{ name: shop, probe: {{ http: {{ url: \"{}\" }} }} }}\n\x20 - {{ name: broken, probe: {{ http: {{ url: \"{}\" }} }} }}\n\
             \x20 - {{ name: job, probe: {{ push: {{ expect_every: 24h, grace: 1h }} }} }}\n\
             status_pages:\n  - {{ name: public, groups: [ {{ name: All, monitors: [shop, broken] }} ] }}\n",
            told.hook("ops"),
            up.url(),
            down.url()
        ),
    )?;
    let serve = Serve::start(&setup.binary, &file, port, None, Duration::from_secs(60))?;
    let token = std::fs::read_to_string(dir.path().join("watchkeeper.db.token")).context("reading the token")?;
    // There is an incident to ask about.
    pause(Duration::from_secs(4));
    println!("schema: asking; this takes some minutes");
    let mut ask = Command::new(tool);
    ask.args(["run", &format!("http://127.0.0.1:{port}/api/v1/openapi.json")])
        .args(["--header", &format!("Authorization: Bearer {}", token.trim())])
        .args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--continue-on-failure", "--warnings", "off"])
        .args(["--max-examples", &examples.to_string(), "--seed", &(setup.seed % 1_000_000_007).to_string()])
        .args(LEFT_OUT.iter().flat_map(|path| ["--exclude-path", path]))
        .current_dir(dir.path());
    let done = ask.output().context("running schemathesis")?;
    let said = String::from_utf8_lossy(&done.stdout);
    let after = |heading: &str| said.lines().skip_while(|line| line.trim() != heading).nth(1).map(|line| line.trim().to_owned());
    let cases =
        after("Test cases:").with_context(|| format!("schemathesis tested nothing: {said}{}", String::from_utf8_lossy(&done.stderr)))?;
    let operations = said.lines().filter_map(|line| line.trim().strip_prefix("Tested: ")).next_back().unwrap_or("0").to_owned();
    section.row(vec![operations, cases]);
    section.none(&failures(&said), "answers that the document does not say, and failures");
    section.aim(done.status.success(), "schemathesis ends with exit code 0");
    ensure!(serve.guard.stop(Duration::from_secs(30))?, "watchkeeper did not end well");
    section.aim(true, "watchkeeper was there to the end, and ended well");
    Ok(section)
}

/// What was found, each with the operation at which it was.
fn failures(said: &str) -> Vec<String> {
    let mut at = String::new();
    let mut found = Vec::new();
    for line in said.lines() {
        let heading = line.trim_matches('_').trim();
        if line.starts_with("__") && !heading.is_empty() {
            heading.clone_into(&mut at);
        } else if let Some(fault) = line.strip_prefix("- ST") {
            found.push(format!("{at}: ST{fault}"));
        }
    }
    found
}

/// The tool in a folder of its own beside what cargo builds; installed the first time.
fn installed() -> Result<PathBuf> {
    let folder = Path::new("target").join(TOOL.replace("==", "-"));
    let tool = std::path::absolute(folder.join("bin/schemathesis"))?;
    if tool.is_file() {
        return Ok(tool);
    }
    println!("schema: installing {TOOL} into {}", folder.display());
    let run = |program: &Path, arguments: &[&str]| {
        let done = Command::new(program).args(arguments).output().with_context(|| format!("starting {}", program.display()))?;
        ensure!(done.status.success(), "{} {}: {}", program.display(), arguments.join(" "), String::from_utf8_lossy(&done.stderr));
        Ok(())
    };
    run(Path::new("python3"), &["-m", "venv", &folder.to_string_lossy()])?;
    run(&folder.join("bin/pip"), &["install", "--quiet", TOOL])?;
    Ok(tool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_read_with_its_place() {
        let said = "=== FAILURES ===\n____________ GET /api/v1/export ____________\n1. Test Case ID: F25vbQ\n\n- ST108 Response violates schema\n\n___ POST /x ___\n- ST101 Server error\n";
        assert_eq!(failures(said), ["GET /api/v1/export: ST108 Response violates schema", "POST /x: ST101 Server error"]);
        assert_eq!(failures("all good"), Vec::<String>::new());
    }
}
