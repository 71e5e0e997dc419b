//! Configuration files: every file (or directory) in `config/good` loads; every one in `config/bad` is refused with exactly
//! the problems in the `.txt` beside it (`UPDATE_FIXTURES=1` writes them anew, to be read before they are committed).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use watchkeeper::config::{self, Config};
use watchkeeper::{channel, probe};

/// The variables of DESIGN's example, and one that is set but empty.
fn env(name: &str) -> Option<String> {
    let value = match name {
        "BOT_TOKEN" => "123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr",
        "GROUP_CHAT_ID" => "-1001234567890",
        "DISCORD_WEBHOOK" => "https://discord.com/api/webhooks/123/abc-DEF",
        "EMPTY" => "",
        _ => return None,
    };
    Some(value.to_owned())
}

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/config").join(kind)
}

/// Fixtures of a folder: YAML files, and folders of them.
fn fixtures(kind: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder(kind))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() || path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no fixtures in {kind}");
    found
}

/// Problems without the path of this checkout.
fn told(path: &Path) -> Result<Config, String> {
    let here = format!("{}/", path.parent().unwrap().display());
    config::load(Some(path), &env).map_err(|bad| bad.to_string().replace(&here, ""))
}

#[test]
fn good_files_load() {
    let mut wrong = String::new();
    for path in fixtures("good") {
        if let Err(problems) = told(&path) {
            let _ = writeln!(wrong, "{} should load:\n{problems}", path.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn bad_files_tell_exactly_their_problems() {
    let mut wrong = String::new();
    for path in fixtures("bad") {
        let expected = path.with_extension("txt");
        let Err(mut got) = told(&path) else {
            let _ = writeln!(wrong, "{} should be refused", path.display());
            continue;
        };
        got.push('\n');
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            std::fs::write(&expected, &got).unwrap();
        }
        let want = std::fs::read_to_string(&expected).unwrap_or_default();
        if got != want {
            let _ = writeln!(wrong, "{}: got\n{got}\nwant\n{want}", path.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A file of the repository that the program writes; `UPDATE_FIXTURES=1` writes it anew.
fn kept(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "{} is not what the program writes; UPDATE_FIXTURES=1 writes it anew", path.display());
}

fn load_text(text: &str) -> Result<Config, String> {
    config::load_texts(&[("default.yaml".to_owned(), text.as_bytes().to_vec())], &env).map_err(|bad| bad.to_string())
}

#[test]
fn the_committed_example_is_what_config_default_prints_and_changes_nothing() {
    let text = config::default_text();
    kept("examples/watchkeeper.yaml", &text);
    let (loaded, none) = (load_text(&text).unwrap(), config::load(None, &env).unwrap());
    assert_eq!(format!("{:?}", loaded.server), format!("{:?}", none.server));
    assert_eq!(format!("{:?}", loaded.store), format!("{:?}", none.store));
    assert_eq!(format!("{:?}", loaded.agent), format!("{:?}", none.agent));
    // A monitor that says nothing gets from the printed defaults what it gets without them.
    let monitor = "\nmonitors: [ { name: m, probe: { push: { expect_every: 1h } } } ]\n";
    let (with, without) = (load_text(&format!("{text}{monitor}")).unwrap(), load_text(monitor).unwrap());
    let shape = |c: &Config| {
        let m = &c.tenants[0].monitors[0];
        let alerts: Vec<_> = m.alerts.iter().map(|a| (a.key(), a.severity, a.hold)).collect();
        format!("{:?} {:?} {} {} {alerts:?} {:?}", m.cadence, m.timeout, m.down_after, m.up_after, m.quorum)
    };
    assert_eq!(shape(&with), shape(&without));
}

#[test]
fn every_option_of_the_example_loads_when_its_hash_sign_is_taken_away() {
    // Once: options, and blocks with the options that have a default.
    let text = uncommented(&config::default_text());
    let loaded = load_text(&text).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    assert_eq!(loaded.tenants.len(), 2);
    assert_eq!(loaded.tenants[0].monitors.len(), probe::FAMILY.kinds.len(), "one monitor per kind");
    assert_eq!(loaded.tenants[0].channels.len(), channel::FAMILY.kinds.len(), "one channel per kind");
}

/// Takes one `#` from every line on which it does not begin a comment.
fn uncommented(text: &str) -> String {
    let line = |line: &str| match line.split_once('#') {
        Some((indent, rest)) if indent.trim().is_empty() => {
            let comment = rest.strip_prefix(' ').is_some_and(|r| !r.starts_with(' ')) || rest.is_empty();
            if comment { String::new() } else { format!("{indent}{rest}") }
        }
        Some(_) | None => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_reference_is_what_the_decoders_check() {
    kept("docs/configuration.md", &config::reference_text());
}

#[test]
fn the_whole_example_of_the_documentation_lacks_only_what_is_not_built() {
    let problems = told(&folder("bad").join("not-built-yet.yaml")).unwrap_err();
    for line in problems.lines() {
        assert!(line.contains("` is not built yet"), "{line}");
    }
}

/// Runs `watchkeeper config …` and gives its exit code, output and errors.
fn program(args: &[&str], file: &Path) -> (Option<i32>, String, String) {
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_watchkeeper"))
        .arg("config")
        .args(args)
        .env("WATCHKEEPER_CONFIG", file)
        .env("BOT_TOKEN", env("BOT_TOKEN").unwrap())
        .env("GROUP_CHAT_ID", env("GROUP_CHAT_ID").unwrap())
        .output()
        .unwrap();
    (done.status.code(), String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap())
}

#[test]
fn the_program_checks_and_prints() {
    let (good, bad) = (folder("good").join("design.yaml"), folder("bad").join("keys.yaml"));
    let (code, out, err) = program(&["check"], &good);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    // The argument wins over the variable; every problem stands on a line of its own, without the line it points at.
    let (code, out, err) = program(&["check", bad.to_str().unwrap()], &good);
    assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
    let expected = std::fs::read_to_string(bad.with_extension("txt")).unwrap();
    let told = err.replace(&format!("{}/", bad.parent().unwrap().display()), "");
    assert!(told.ends_with(&expected), "{told}");
    assert!(!err.contains("secret-password"), "{err}");
    let (code, out, _) = program(&["check", "--json", bad.to_str().unwrap()], &good);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, json["problems"].as_array().map(Vec::len)), (Some(2), Some(expected.lines().count())));
    assert_eq!(json["problems"][0]["nearest"], "server");
    let (code, out, err) = program(&["check", "/no/such/file.yaml"], &good);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("/no/such/file.yaml: it cannot be read"), "{err}");
    let (code, out, _) = program(&["default"], &good);
    assert!(code == Some(0) && out == config::default_text());
}
