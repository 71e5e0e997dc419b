//! Configuration files: every file (or directory) in `config/good` loads; every one in `config/bad` is refused with exactly
//! the problems in the `.txt` beside it (`UPDATE_FIXTURES=1` writes them anew, to be read before they are committed).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use watchkeeper::config::{self, Config};

/// The variables of DESIGN's example, and one that is set but empty.
fn env(name: &str) -> Option<String> {
    let value = match name {
        "BOT_TOKEN" => "123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr",
        "GROUP_CHAT_ID" => "-1001234567890",
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
