//! One real PostgreSQL for the whole run of the test binary, and a fresh database for each test that asks.
//!
//! It starts with the first test that needs it, in a temporary directory, as an unprivileged user (PostgreSQL refuses
//! root), on a free port of 127.0.0.1. A shell is its parent and waits on a pipe that only this process holds: however
//! this process ends, the pipe closes, and the shell stops the server and removes the directory. Nothing vacuums by itself: databases live for
//! seconds, and a worker that looks at the template holds up every copy of it. Without PostgreSQL the
//! tests that need it say so, one line each; with `WATCHKEEPER_REQUIRE_ALL=1` they fail.

use sqlx::{Connection, Executor, PgConnection};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

/// A start takes about two seconds; on a busy machine many more. Beyond this it is broken.
const START_LIMIT: Duration = Duration::from_mins(2);
/// Between finding a free port and the server's taking it somebody else may be quicker.
const START_TRIES: u32 = 3;

static SERVER: OnceCell<Result<Server, String>> = OnceCell::const_new();
/// What [`fresh_database`] copies.
static OPENED: OnceCell<Option<String>> = OnceCell::const_new();
static DATABASES: AtomicUsize = AtomicUsize::new(0);
static SKIPPED: AtomicUsize = AtomicUsize::new(0);

struct Server {
    port: u16,
    /// Holds the pipe; never used again.
    _shell: Child,
}

/// A server of one test's own, which the test may stop, kill and start again; its data are synced as an installation's are.
pub struct OwnServer {
    folder: tempfile::TempDir,
    bin: PathBuf,
    user: Option<String>,
    port: u16,
    child: Option<Child>,
}

impl OwnServer {
    /// A running one, with a database; `None`, after saying so, when no PostgreSQL can be had.
    pub async fn start() -> Option<(Self, String)> {
        let made = || -> Result<Self, String> {
            let bin = binaries()?;
            let folder = tempfile::Builder::new().prefix("watchkeeper-own-pg-").tempdir().map_err(|e| e.to_string())?;
            let user = unprivileged(folder.path())?;
            let server = Self { folder, bin, user, port: free_port()?, child: None };
            let mut initdb = server.command("initdb");
            initdb.args(["-U", "watchkeeper", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"]).arg(server.data());
            let done = initdb.stdout(Stdio::null()).stderr(Stdio::null()).status().map_err(|e| e.to_string())?;
            if done.success() { Ok(server) } else { Err("initdb failed".into()) }
        };
        match made() {
            Ok(mut server) => {
                server.up().await;
                let url = url(server.port, "postgres");
                Some((server, url))
            }
            Err(why) => {
                skip(&why);
                None
            }
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// One of its programs. It ends with the thread that started it, however that ends.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        if let Some(user) = &self.user {
            command.args(["--reuid", user, "--regid", user, "--clear-groups"]);
        }
        command.args(["--pdeathsig", "QUIT"]).arg(self.bin.join(program)).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Starts it, and waits until it takes connections.
    pub async fn up(&mut self) {
        let begun = Instant::now();
        while begun.elapsed() < START_LIMIT {
            let ended = self.child.as_mut().is_none_or(|child| child.try_wait().is_ok_and(|status| status.is_some()));
            if ended {
                let mut server = self.command("postgres");
                server.arg("-D").arg(self.data()).arg("-k").arg(self.folder.path()).args(["-p", &self.port.to_string()]);
                server.args(["-c", "listen_addresses=127.0.0.1", "-c", "shared_buffers=32MB"]);
                self.child = Some(server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("setpriv runs"));
            }
            if let Ok(connection) = PgConnection::connect(&url(self.port, "postgres")).await {
                let _ = connection.close().await;
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server did not start within {START_LIMIT:?}");
    }

    /// Sends it a signal, by its name without `SIG`, and waits for its end.
    pub async fn down(&mut self, signal: &str) {
        let Some(mut child) = self.child.take() else { return };
        assert!(Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap().success());
        while child.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = Command::new("kill").args(["-QUIT", &child.id().to_string()]).status();
            let _ = child.wait();
        }
    }
}

/// A database of one test's own; dropped with [`Database::drop_it`], or with the server.
pub struct Database {
    pub url: String,
    /// Where its nodes keep journals.
    pub journal: tempfile::TempDir,
    name: String,
}

/// A database with nothing in it; `None`, after saying so, when no PostgreSQL can be had.
pub async fn empty_database() -> Option<Database> {
    database_like("template0").await
}

/// A database in which nothing happened yet, but whose schema stands: a copy of one that was opened once, which costs a fraction of
/// opening an empty one. `None`, after saying so, when no PostgreSQL can be had.
pub async fn fresh_database() -> Option<Database> {
    let opened = OPENED.get_or_init(async || {
        let database = empty_database().await?;
        watchkeeper::store::open(&database.url).await.expect("an empty database becomes a store").close().await;
        Some(database.name)
    });
    database_like(opened.await.as_ref()?).await
}

async fn database_like(template: &str) -> Option<Database> {
    match SERVER.get_or_init(start).await {
        Ok(server) => {
            let name = format!("wk_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
            admin(server, &format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
            Some(Database { url: url(server.port, &name), journal: tempfile::tempdir().unwrap(), name })
        }
        Err(why) => {
            skip(why);
            None
        }
    }
}

impl Database {
    /// The same database through a transaction pooler; `None`, after saying so, when none can be had.
    pub async fn pooled(&self) -> Option<String> {
        let Some(Ok(server)) = SERVER.get() else { return None };
        let port = super::pooler::in_front_of(server.port).await?;
        Some(url(port, &self.name))
    }

    /// Gives its disk space back. After a failure it is left for a look, until the process ends.
    pub async fn drop_it(self) {
        if let Some(Ok(server)) = SERVER.get() {
            admin(server, &format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
        }
    }
}

async fn admin(server: &Server, sql: &str) {
    let mut connection = PgConnection::connect(&url(server.port, "postgres")).await.expect("the test server takes connections");
    connection.execute(sqlx::AssertSqlSafe(sql)).await.expect("the test server obeys its superuser");
    let _ = connection.close().await;
}

fn url(port: u16, database: &str) -> String {
    format!("postgres://watchkeeper@127.0.0.1:{port}/{database}")
}

fn skip(why: &str) {
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    assert!(std::env::var_os("WATCHKEEPER_REQUIRE_ALL").is_none_or(|v| v != "1"), "WATCHKEEPER_REQUIRE_ALL=1, but no PostgreSQL ({why})");
    // Not eprintln!: the harness would swallow it, and a skipped test must be seen.
    let _ = writeln!(std::io::stderr(), "SKIPPED: no PostgreSQL ({why}): {test} ({count} so far)");
}

async fn start() -> Result<Server, String> {
    let bin = binaries()?;
    let mut why = String::new();
    for _ in 0..START_TRIES {
        match start_once(&bin).await {
            Ok(server) => return Ok(server),
            Err(error) => why = error,
        }
    }
    Err(why)
}

async fn start_once(bin: &Path) -> Result<Server, String> {
    let dir = tempfile::Builder::new().prefix("watchkeeper-pg-").tempdir().map_err(|e| format!("no temporary directory: {e}"))?;
    let user = unprivileged(dir.path())?;
    // From here on the shell removes it.
    let dir = dir.keep();
    let port = free_port()?;
    let script = r#"
        if "$1/initdb" -D "$2/data" -U watchkeeper -A trust -E UTF8 --locale=C --no-sync >"$2/log" 2>&1; then
            touch "$2/started"
            {
                "$1/postgres" -D "$2/data" -k "$2" -p "$3" -c listen_addresses=127.0.0.1 -c max_connections=300 \
                    -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c jit=off -c shared_buffers=64MB \
                    -c autovacuum=off >>"$2/log" 2>&1
                touch "$2/failed"
            } &
            read -r _
            # Again and again: a server that is still starting does not listen to the first signal.
            while [ ! -e "$2/failed" ]; do
                kill -QUIT "$(head -n 1 "$2/data/postmaster.pid")"
                sleep 0.1
            done
            wait
        else
            touch "$2/failed"
            read -r _
        fi
        cd / && rm -rf "$2"
    "#;
    let mut command = Command::new(if user.is_some() { "setpriv" } else { "sh" });
    if let Some(user) = &user {
        command.args(["--reuid", user, "--regid", user, "--clear-groups", "sh"]);
    }
    // A process group of its own: what interrupts the tests must not end the shell before it has stopped the server.
    let shell = command
        .args(["-c", script, "sh"])
        .arg(bin)
        .arg(&dir)
        .arg(port.to_string())
        .current_dir(&dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|e| format!("it could not be started: {e}"))?;
    let server = Server { port, _shell: shell };
    match ready(&dir).await {
        Ok(()) => Ok(server),
        Err(why) => {
            let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
            Err(format!("{why}: {}", log.lines().last().unwrap_or("it said nothing")))
        }
    }
}

/// The server writes `ready` into the eighth line of its pid file; so does the one that `initdb` runs before.
async fn ready(dir: &Path) -> Result<(), String> {
    let begun = Instant::now();
    while begun.elapsed() < START_LIMIT {
        if dir.join("failed").exists() {
            return Err("it ended while starting".into());
        }
        let state = std::fs::read_to_string(dir.join("data/postmaster.pid")).unwrap_or_default();
        if dir.join("started").exists() && state.lines().nth(7).is_some_and(|status| status.trim() == "ready") {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(format!("it was not ready within {} s", START_LIMIT.as_secs()))
}

/// The directory with `initdb` and `postgres`: of PATH, else the newest that Debian's packages have put aside.
fn binaries() -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut debian: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    debian.sort();
    std::env::split_paths(&path)
        .chain(debian.into_iter().rev().map(|(_, bin)| bin))
        .find(|bin| bin.join("initdb").is_file() && bin.join("postgres").is_file())
        .ok_or_else(|| "neither PATH nor /usr/lib/postgresql/*/bin has initdb and postgres".into())
}

/// The account to run as, which is given the directory; `None` when we are unprivileged ourselves.
pub fn unprivileged(dir: &Path) -> Result<Option<String>, String> {
    let mine = std::fs::metadata(dir).map_err(|e| e.to_string())?.uid();
    if mine != 0 {
        return Ok(None);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").map_err(|e| format!("/etc/passwd: {e}"))?;
    let (uid, gid) = ["postgres", "nobody"]
        .iter()
        .find_map(|name| {
            let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut fields = line.split(':').skip(2);
            Some((fields.next()?.parse::<u32>().ok()?, fields.next()?.parse::<u32>().ok()?))
        })
        .ok_or("we are root, and there is no account postgres or nobody to run it as")?;
    chown(dir, Some(uid), Some(gid)).map_err(|e| format!("chown: {e}"))?;
    Ok(Some(uid.to_string()))
}

/// A port that was free a moment ago.
pub fn free_port() -> Result<u16, String> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(|e| format!("no free port: {e}"))?;
    listener.local_addr().map(|address| address.port()).map_err(|e| e.to_string())
}

#[tokio::test]
async fn each_database_is_fresh() {
    let (Some(one), Some(two)) = (empty_database().await, empty_database().await) else { return };
    let mut connection = PgConnection::connect(&one.url).await.unwrap();
    connection.execute("CREATE TABLE here (n bigint)").await.unwrap();
    let mut other = PgConnection::connect(&two.url).await.unwrap();
    assert!(other.execute("SELECT n FROM here").await.is_err());
    drop((connection, other));
    one.drop_it().await;
    two.drop_it().await;
}
