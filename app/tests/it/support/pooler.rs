//! One real PgBouncer in front of the tests' PostgreSQL, for the whole run of the test binary.
//!
//! It pools transactions, and gives each one to the server connection that has rested longest: two transactions of one client hardly
//! ever meet the same one, so whatever relies on a session fails. It ignores no parameter at a client's start. It ends like the
//! server: a shell that waits on a pipe of this process stops it. Without it the tests go without that part and say so, one line
//! each; with `WATCHKEEPER_REQUIRE_ALL=1` they fail.

use super::postgres::{free_port, unprivileged};
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

/// A start takes some milliseconds; beyond this it is broken.
const START_LIMIT: Duration = Duration::from_secs(30);

static POOLER: OnceCell<Result<Pooler, String>> = OnceCell::const_new();
static SKIPPED: AtomicUsize = AtomicUsize::new(0);

struct Pooler {
    port: u16,
    /// Holds the pipe; never used again.
    _shell: Child,
}

/// The port of the pooler in front of the server at that port; `None`, after saying so, when none can be had.
pub async fn in_front_of(server: u16) -> Option<u16> {
    match POOLER.get_or_init(|| start(server)).await {
        Ok(pooler) => Some(pooler.port),
        Err(why) => {
            let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
            let test = std::thread::current().name().unwrap_or("?").to_owned();
            assert!(
                std::env::var_os("WATCHKEEPER_REQUIRE_ALL").is_none_or(|v| v != "1"),
                "WATCHKEEPER_REQUIRE_ALL=1, but no PgBouncer ({why})"
            );
            // Not eprintln!: the harness would swallow it, and a skipped test must be seen.
            let _ = writeln!(std::io::stderr(), "SKIPPED: no PgBouncer ({why}): the pooled part of {test} ({count} so far)");
            None
        }
    }
}

async fn start(server: u16) -> Result<Pooler, String> {
    let binary = binary()?;
    let dir = tempfile::Builder::new().prefix("watchkeeper-pool-").tempdir().map_err(|e| format!("no temporary directory: {e}"))?;
    let user = unprivileged(dir.path())?;
    // From here on the shell removes it.
    let dir = dir.keep();
    let port = free_port()?;
    let config = format!(
        "[databases]\n* = host=127.0.0.1 port={server} user=watchkeeper\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\nauth_type = any\npool_mode = transaction\nserver_round_robin = 1\ndefault_pool_size = 20\n\
         max_client_conn = 1000\nserver_idle_timeout = 5\nlogfile = {at}/log\npidfile = {at}/pid\n",
        at = dir.display()
    );
    std::fs::write(dir.join("pgbouncer.ini"), config).map_err(|e| e.to_string())?;
    let script = r#"
        { "$1" "$2/pgbouncer.ini" >/dev/null 2>&1; touch "$2/ended"; } &
        read -r _
        # Again and again: one that is still starting does not listen to the first signal.
        while [ ! -e "$2/ended" ]; do
            kill -TERM "$(cat "$2/pid")"
            sleep 0.1
        done
        wait
        cd / && rm -rf "$2"
    "#;
    let mut command = Command::new(if user.is_some() { "setpriv" } else { "sh" });
    if let Some(user) = &user {
        command.args(["--reuid", user, "--regid", user, "--clear-groups", "sh"]);
    }
    // As with the server: what interrupts the tests must not end the shell first.
    let shell = command
        .args(["-c", script, "sh"])
        .arg(&binary)
        .arg(&dir)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|e| format!("it could not be started: {e}"))?;
    let pooler = Pooler { port, _shell: shell };
    let begun = Instant::now();
    while begun.elapsed() < START_LIMIT {
        if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return Ok(pooler);
        }
        if dir.join("ended").exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
    Err(format!("it does not start: {}", log.lines().last().unwrap_or("it said nothing")))
}

/// Of PATH, else where Debian puts it.
fn binary() -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).map(|folder| folder.join("pgbouncer"));
    places.find(|place| place.is_file()).ok_or_else(|| "Debian package pgbouncer".into())
}
