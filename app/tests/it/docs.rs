//! The documentation cannot drift from the program: every command in it is understood, every link leads somewhere, and
//! every monitor in it loads.

use clap::CommandFactory as _;
use std::path::{Path, PathBuf};
use watchkeeper::cli::Cli;
use watchkeeper::config;

/// Every page for people: name and text.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut paths: Vec<PathBuf> = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].iter().map(|name| root.join(name)).collect();
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    paths.extend(docs.filter(|path| path.extension().is_some_and(|e| e == "md")));
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (path, text)
        })
        .collect()
}

/// The fenced blocks of a language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// The words of a command line, those in double quotes as one; a comment, a pipe and a redirection end it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quoted) = (Vec::new(), None::<String>);
    for word in line.split_whitespace() {
        if quoted.is_none() && word.starts_with(['#', '>', '|']) {
            break;
        }
        let whole = quoted.take().map_or_else(|| word.to_owned(), |before| format!("{before} {word}"));
        if whole.matches('"').count() % 2 == 0 {
            words.push(whole.replace('"', ""));
        } else {
            quoted = Some(whole);
        }
    }
    words.extend(quoted);
    words
}

#[test]
fn every_command_is_understood() {
    let mut seen = 0;
    for (path, text) in pages() {
        for line in blocks(&text, "sh").into_iter().flat_map(str::lines) {
            let words = words(line);
            if words.first().map(String::as_str) != Some("watchkeeper") {
                continue;
            }
            seen += 1;
            let result = Cli::command().try_get_matches_from(&words);
            assert!(result.is_ok(), "{}: {line}: {}", path.display(), result.err().map(|e| e.to_string()).unwrap_or_default());
        }
    }
    assert!(seen >= 8, "only {seen} commands were found");
}

#[test]
fn every_link_leads_somewhere() {
    for (path, text) in pages() {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            assert!(path.parent().unwrap().join(file).exists(), "{}: {target} does not exist", path.display());
        }
    }
}

#[test]
fn every_example_loads() {
    let mut seen = 0;
    for (path, text) in pages() {
        for block in blocks(&text, "yaml").into_iter().filter(|b| b.contains("monitors:\n")) {
            seen += 1;
            let name = path.display().to_string();
            let env = |variable: &str| Some(if variable == "CHAT_ID" || variable == "GROUP_CHAT_ID" { "-100" } else { "1:x" }.to_owned());
            let loaded = config::load_texts(&[(name, block.as_bytes().to_vec())], &env);
            assert!(loaded.is_ok(), "{}", loaded.err().map(|bad| bad.to_string()).unwrap_or_default());
        }
    }
    assert!(seen >= 4, "only {seen} examples were found");
}
