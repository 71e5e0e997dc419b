//! Builds the page (`ui/`) with npm and writes `embedded.rs`: the list of its files and of what else is in the program whole, in gzip's form,
//! for `src/web/embedded.rs`.
//!
//! Without npm, or where it fails, the program is built all the same; the list is then without the page and says why. `WATCHKEEPER_PAGE=require`
//! makes that an error (releases), `WATCHKEEPER_PAGE=without` leaves the page out (fast builds).

use flate2::Compression;
use flate2::write::GzEncoder;
use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the page is made of, in `ui/`. A change in one of them builds it anew.
const SOURCES: [&str; 6] = ["src", "index.html", "package.json", "package-lock.json", ".npmrc", "vite.config.ts"];

/// The page may have so many bytes as it is sent. More is a slow first sight over a bad line, and a larger program.
const SENT_MAX: u64 = 300_000;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let ui = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../ui");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", ui.join(source).display());
    }
    println!("cargo::rerun-if-env-changed=WATCHKEEPER_PAGE");
    let wanted = std::env::var("WATCHKEEPER_PAGE").unwrap_or_default();
    let built = match wanted.as_str() {
        "without" => Err("it was built with WATCHKEEPER_PAGE=without".to_owned()),
        "" | "require" => build(&ui, &out.join("page")),
        other => return Err(format!("WATCHKEEPER_PAGE is `{other}`; accepted are require, without, and nothing").into()),
    };
    let (page, without) = match built {
        Ok(folder) => (page(&folder)?, String::new()),
        Err(why) if wanted == "require" => return Err(format!("the page could not be built: {why}").into()),
        Err(why) => {
            println!("cargo::warning=the program is built without its page: {why}");
            (vec![], why)
        }
    };
    let packed = out.join("packed");
    fs::create_dir_all(&packed)?;
    let mut list = String::from("pub(super) const FILES: &[File] = &[\n");
    let mut sent = 0;
    for (name, content) in &page {
        sent += embed(&mut list, &packed, name, content)?;
    }
    if sent > SENT_MAX {
        return Err(format!("the page has {sent} bytes as it is sent; the limit is {SENT_MAX}").into());
    }
    embed(&mut list, &packed, "openapi.json", &document()?)?;
    embed(&mut list, &packed, "status.css", &read_source("src/web/status_page/page.css")?)?;
    writeln!(list, "];\npub(super) const WITHOUT: &str = {without:?};")?;
    fs::write(out.join("embedded.rs"), list)?;
    Ok(())
}

/// A file of the sources; a change in it makes everything anew.
fn read_source(path: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let file = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join(path);
    println!("cargo::rerun-if-changed={}", file.display());
    Ok(fs::read(&file)?)
}

/// The OpenAPI document as it is served: without the blanks that people read it with.
fn document() -> Result<Vec<u8>, Box<dyn Error>> {
    let document: serde_json::Value = serde_json::from_slice(&read_source("../docs/openapi.json")?)?;
    Ok(document.to_string().into_bytes())
}

/// Packs one file and adds it to the list; how many bytes it has then.
fn embed(list: &mut String, folder: &Path, name: &str, content: &[u8]) -> Result<u64, Box<dyn Error>> {
    let kind = match Path::new(name).extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        Some(_) | None => return Err(format!("{name} is of a kind that is not known").into()),
    };
    let mut hash = DefaultHasher::new();
    hash.write(content);
    let mut encoder = GzEncoder::new(vec![], Compression::best());
    encoder.write_all(content)?;
    let (packed, file) = (encoder.finish()?, folder.join(name.replace('/', "-")));
    fs::write(&file, &packed)?;
    writeln!(
        list,
        "    File {{ name: {name:?}, kind: {kind:?}, tag: \"\\\"{:016x}\\\"\", packed: include_bytes!({:?}) }},",
        hash.finish(),
        file.display().to_string(),
    )?;
    Ok(packed.len() as u64)
}

/// Runs npm; the folder with what the page consists of, or why there is none.
fn build(ui: &Path, folder: &Path) -> Result<PathBuf, String> {
    if Command::new("npm").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        return Err("npm was not found when it was built; install Node.js 20.19 or newer with npm, then touch ui/package.json".to_owned());
    }
    // Two builds at once (debug and release) share `ui/node_modules`.
    let lock = File::create(ui.join(".lock")).and_then(|file| file.lock().map(|()| file));
    let _lock = lock.map_err(|error| format!("{} cannot be locked: {error}", ui.join(".lock").display()))?;
    if !installed(ui) {
        npm(ui, &["ci", "--omit=dev", "--fetch-retries=1", "--fetch-timeout=30000"], &[])?;
    }
    npm(ui, &["run", "build"], &[("WATCHKEEPER_PAGE_FOLDER", folder)])?;
    Ok(folder.to_owned())
}

/// Whether `npm ci` has run since the lock file was written.
fn installed(ui: &Path) -> bool {
    let written = |name: &str| fs::metadata(ui.join(name)).and_then(|file| file.modified()).ok();
    matches!((written("node_modules/.package-lock.json"), written("package-lock.json")), (Some(there), Some(wanted)) if there >= wanted)
}

fn npm(ui: &Path, arguments: &[&str], variables: &[(&str, &Path)]) -> Result<(), String> {
    let what = format!("npm {}", arguments[..arguments.len().min(2)].join(" "));
    let output = Command::new("npm").args(arguments).envs(variables.iter().copied()).current_dir(ui).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("`{what}` did not start: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    eprintln!("{said}");
    let first = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it said nothing");
    Err(format!("`{what}` failed: {first}"))
}

/// A file of the page: its path in the page's folder, and what is in it.
type PageFile = (String, Vec<u8>);

/// The files of the page, by their paths.
fn page(folder: &Path) -> Result<Vec<PageFile>, Box<dyn Error>> {
    let mut files = vec![];
    for part in ["", "assets"] {
        for entry in fs::read_dir(folder.join(part))? {
            let path = entry?.path();
            if path.is_file() {
                files.push((path.strip_prefix(folder)?.display().to_string(), fs::read(&path)?));
            }
        }
    }
    files.sort();
    Ok(files)
}
