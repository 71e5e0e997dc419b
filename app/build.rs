//! Builds the page (`ui/`) with npm and writes `page.rs`: the list of its files, ready to be sent, for `src/web/page.rs`.
//!
//! Without npm, or where it fails, the program is built all the same; the list is then empty and says why. `WATCHKEEPER_PAGE=require`
//! makes that an error (releases), `WATCHKEEPER_PAGE=without` leaves the page out (fast builds).

use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the page is made of, in `ui/`. A change in one of them builds it anew.
const SOURCES: [&str; 7] = ["src", "index.html", "package.json", "package-lock.json", ".npmrc", "vite.config.ts", "pack.ts"];

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
    let list = match built {
        Ok(folder) => list(&folder)?,
        Err(why) if wanted == "require" => return Err(format!("the page could not be built: {why}").into()),
        Err(why) => {
            println!("cargo::warning=the program is built without its page: {why}");
            format!("pub(super) const FILES: &[File] = &[];\npub(super) const WITHOUT: &str = {why:?};\n")
        }
    };
    fs::write(out.join("page.rs"), list)?;
    document(&out)
}

/// The OpenAPI document as it is served: without the blanks that people read it with.
fn document(out: &Path) -> Result<(), Box<dyn Error>> {
    let file = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../docs/openapi.json");
    println!("cargo::rerun-if-changed={}", file.display());
    let document: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
    fs::write(out.join("openapi.json"), document.to_string())?;
    Ok(())
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

/// The list of the folder's files as Rust.
fn list(folder: &Path) -> Result<String, Box<dyn Error>> {
    let mut files = vec![];
    for part in ["", "assets"] {
        for entry in fs::read_dir(folder.join(part))? {
            let path = entry?.path();
            if path.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    let (mut list, mut sent) = (String::from("pub(super) const FILES: &[File] = &[\n"), 0);
    for path in &files {
        let body = fs::read(path)?;
        sent += body.len() as u64;
        let packed = path.extension().is_some_and(|extension| extension == "gz");
        let name = path.strip_prefix(folder)?.with_extension(if packed { "" } else { "html" });
        let kind = match name.extension().and_then(|extension| extension.to_str()) {
            Some("html") => "text/html; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            Some(_) | None => return Err(format!("ui/ made {}, a kind of file that is not known", name.display()).into()),
        };
        let mut hash = DefaultHasher::new();
        hash.write(&body);
        writeln!(
            list,
            "    File {{ name: {:?}, kind: {kind:?}, packed: {packed}, tag: \"\\\"{:016x}\\\"\", body: include_bytes!({:?}) }},",
            name.display().to_string(),
            hash.finish(),
            path.display().to_string(),
        )?;
    }
    if sent > SENT_MAX {
        return Err(format!("the page has {sent} bytes as it is sent; the limit is {SENT_MAX}").into());
    }
    list.push_str("];\npub(super) const WITHOUT: &str = \"\";\n");
    Ok(list)
}
