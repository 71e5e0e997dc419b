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

/// The number at the beginning of a cell, with spaces between thousands: `1 200 rows/s` is 1200.
fn number(cell: &str) -> f64 {
    let digits: String =
        cell.chars().take_while(|char| char.is_ascii_digit() || [' ', '.'].contains(char)).filter(|char| *char != ' ').collect();
    digits.parse().unwrap_or_else(|_| panic!("{cell:?} begins with no number"))
}

/// The cells of the table under a heading, line by line, without its head.
fn table<'a>(page: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let part = page.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no part {heading}"));
    let lines = part.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|')).skip(2);
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn the_arithmetic_of_scale_follows_from_its_inputs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let page = std::fs::read_to_string(root.join("SCALE.md")).unwrap();
    let proofs = std::fs::read_to_string(root.join("PROOFS.md")).unwrap();
    let inputs = table(&page, "Inputs");
    for input in &inputs {
        assert!(input[2].contains("](") || input[2].contains("a choice"), "{} names no source", input[0]);
        for proof in input[2].split("PROOFS.md#").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(proofs.contains(&format!("\n## {proof}\n")), "{}: PROOFS.md has no part {proof}", input[0]);
        }
    }
    let input = |name: &str| number(inputs.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("no input {name}"))[1]);
    let rows = table(&page, "What it takes");
    assert_eq!(rows.len(), 5);
    for row in rows {
        let monitors = number(row[0]);
        let checks = monitors / input("interval");
        let day = checks * 86_400.0 * input("heartbeat on disk") / 1e9;
        let wanted = [
            checks,
            checks * input("CPU of a check") / 1_000.0 / (input("load that is wanted") / 100.0),
            monitors * input("memory of a monitor") / 1_048_576.0,
            checks,
            day,
            day * input("kept raw"),
            monitors / 3_600.0,
        ];
        for (wanted, cell) in wanted.into_iter().zip(&row[1..]) {
            let said = number(cell);
            assert!((said - wanted).abs() <= wanted * 0.06, "{} monitors: {cell} where {wanted:.3} follows", row[0]);
        }
    }
}
