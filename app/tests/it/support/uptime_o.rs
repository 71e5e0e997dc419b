//! An installation of UptimeOAgent's: its tables in a database of their own, targets to watch, and agents that are started by the
//! variables its users know.

use super::app::until;
use super::postgres::{self, Database};
use super::process::Program;
use super::servers::{Server, read_head};
use serde_json::Value as Json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// The tables, made and empty.
pub struct Installation {
    pub database: Database,
    pub folder: tempfile::TempDir,
}

/// A node of it.
pub struct Agent {
    pub program: Program,
    log: Log,
}

/// What a node writes; shown when its test fails.
struct Log(PathBuf);

impl Log {
    fn text(&self) -> String {
        std::fs::read_to_string(&self.0).unwrap()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("── {}\n{}", self.0.display(), self.text());
        }
    }
}

impl Installation {
    /// The tables without a row, in a database of their own.
    pub async fn empty() -> Option<Self> {
        let this = Self { database: postgres::empty_database().await?, folder: tempfile::tempdir().unwrap() };
        let made = this.seed_schema(&[]);
        assert!(made.status.success(), "{made:?}");
        Some(this)
    }

    /// The tables and the sample rows, loaded as SQL.
    pub async fn as_printed() -> Option<Self> {
        let this = Self { database: postgres::empty_database().await?, folder: tempfile::tempdir().unwrap() };
        let printed = this.seed_schema(&["--print", "--data"]);
        assert!(printed.status.success(), "{printed:?}");
        this.execute(&String::from_utf8(printed.stdout).unwrap()).await;
        Some(this)
    }

    /// One datacenter (1, `va`) whose agent has the number 11, another (2, `ny`), and a schedule (1) of one second.
    pub async fn new() -> Option<Self> {
        let this = Self::empty().await?;
        this.execute(
            "INSERT INTO schedules (id, name, interval, include_response_body, thresholds_warning, thresholds_critical)
                 VALUES (1, 'every second', 1, TRUE, 250, NULL), (2, 'bare', 1, NULL, NULL, NULL);
             INSERT INTO regions (id, name) VALUES (1, 'US East');
             INSERT INTO datacenters (id, code, name, region_id) VALUES (1, 'va', 'Virginia', 1), (2, 'ny', 'New York', NULL);
             INSERT INTO agents (id, name, datacenter_id) VALUES (11, 'VA Agent', 1), (12, 'second of VA', 1), (13, 'NY Agent', 2);
             SELECT setval('schedules_id_seq', 10), setval('agents_id_seq', 20)",
        )
        .await;
        Some(this)
    }

    /// What users set.
    pub fn connection(&self) -> String {
        format!("{}?sslmode=disable", self.database.url)
    }

    /// Adds a monitor and assigns it to datacenter 1.
    pub async fn watch(&self, id: i64, name: &str, kind: &str, url: &str, schedule: i64) {
        self.execute(&format!(
            "INSERT INTO api_monitors (id, name, method, type, url, schedule_id) VALUES ({id}, '{name}', 'GET', '{kind}', '{url}', {schedule});
             INSERT INTO datacenter_monitors VALUES (1, {id})"
        ))
        .await;
    }

    /// Runs statements.
    pub async fn execute(&self, sql: &str) {
        let mut connection = PgConnection::connect(&self.database.url).await.unwrap();
        connection.execute(AssertSqlSafe(sql)).await.unwrap();
        connection.close().await.unwrap();
    }

    /// The rows of a query, each as one JSON object.
    pub async fn rows(&self, sql: &str) -> Vec<Json> {
        let mut connection = PgConnection::connect(&self.database.url).await.unwrap();
        let sql = AssertSqlSafe(format!("SELECT to_json(q)::text FROM ({}) q", sql.trim().trim_end_matches(';')));
        let rows = connection.fetch_all(sql).await.unwrap();
        connection.close().await.unwrap();
        rows.iter().map(|row| serde_json::from_str(&row.get::<String, _>(0)).unwrap()).collect()
    }

    /// One number.
    pub async fn number(&self, sql: &str) -> i64 {
        let rows = self.rows(&format!("SELECT ({sql})::int8 AS n")).await;
        rows[0]["n"].as_i64().unwrap()
    }

    /// Waits until so many heartbeats of a monitor are there, and returns them, oldest first.
    pub async fn heartbeats(&self, monitor: i64, at_least: usize) -> Vec<Json> {
        let sql = format!("SELECT * FROM api_heartbeats WHERE monitor_id = {monitor} ORDER BY executed_at");
        until(&format!("{at_least} heartbeats of {monitor}"), async || {
            let rows = self.rows(&sql).await;
            (rows.len() >= at_least).then_some(rows)
        })
        .await
    }

    /// Once its agents have ended: every heartbeat of ours that says something has a row. What an agent could not add before it
    /// ended, and said so, is added by whoever runs next in its datacenter: that is waited for.
    pub async fn all_is_saved(&self) {
        let before = self.number("SELECT coalesce(max(at), 0) FROM wk_beat").await;
        for place in self.lost(before).await {
            let datacenter = place["datacenter"].as_i64().unwrap().to_string();
            let logs = std::fs::read_dir(self.folder.path()).unwrap().map(|file| std::fs::read_to_string(file.unwrap().path()));
            let logs: Vec<String> = logs.filter_map(Result::ok).collect();
            assert!(logs.iter().any(|log| log.contains("whoever runs next adds them")), "lost: {place}\n{}", logs.join("\n"));
            let next = self.agent(&format!("next-{datacenter}"), &[("DATACENTER_ID", &datacenter)]);
            until("what waited is saved", async || self.lost(before).await.iter().all(|lost| lost["id"] != place["id"]).then_some(()))
                .await;
            next.program.stop().await;
        }
    }

    /// No row is there twice.
    pub async fn nothing_is_doubled(&self) {
        assert_eq!(self.number("SELECT count(*) - count(DISTINCT (monitor_id, agent_id, executed_at)) FROM api_heartbeats").await, 0);
    }

    /// The datacenters, by our id and by theirs, of which a heartbeat up to a time says something and has no row.
    async fn lost(&self, before: i64) -> Vec<Json> {
        self.rows(&format!(
            "SELECT DISTINCT p.id, q.id AS datacenter FROM wk_beat b JOIN wk_monitor w ON w.id = b.monitor_id
             JOIN wk_datacenter p ON p.id = b.datacenter_id LEFT JOIN datacenters q ON q.code = p.code
             WHERE b.at <= {before} AND b.outcome <> 2 AND NOT EXISTS (SELECT 1 FROM api_heartbeats h
                 JOIN agents a ON a.id = h.agent_id JOIN datacenters d ON d.id = a.datacenter_id
                 WHERE d.code = p.code AND w.uid = '7570746d-6f00-8000-8000-' || lpad(to_hex(h.monitor_id), 12, '0')
                   AND (extract(epoch FROM h.executed_at) * 1000000)::int8 = b.at)"
        ))
        .await
    }

    /// Starts an agent of datacenter 1 by its two variables, and these.
    pub fn agent(&self, name: &str, more: &[(&str, &str)]) -> Agent {
        let log = Log(self.folder.path().join(format!("{name}.log")));
        let connection = self.connection();
        let mut variables = vec![("DB_CONN_STRING", connection.as_str()), ("DATACENTER_ID", "1")];
        variables.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
        variables.extend(more);
        let out = OpenOptions::new().create(true).append(true).open(&log.0).unwrap();
        Agent { program: Program::serve_by_variables(self.folder.path(), &variables, out), log }
    }

    /// `watchkeeper seed-schema uptime-o` in this database.
    pub fn seed_schema(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_watchkeeper"))
            .args(["seed-schema", "uptime-o"])
            .args(args)
            .env("DB_CONN_STRING", self.connection())
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }
}

impl Agent {
    /// Every whole line of its log; all of them are JSON objects with level, msg and time.
    pub fn lines(&self) -> Vec<Json> {
        let text = self.log.text();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let line = |line: &str| {
            let json: Json = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            for key in ["level", "msg", "time"] {
                assert!(json[key].is_string(), "{key} is missing: {line}");
            }
            json
        };
        whole.lines().map(line).collect()
    }

    /// Waits for a line whose message contains a text.
    pub async fn says(&self, text: &str) -> Json {
        let find = || self.lines().into_iter().find(|line| line["msg"].as_str().unwrap_or_default().contains(text));
        until(&format!("the log says {text:?}: {:#?}", self.lines().len()), async || find()).await
    }

    /// Whether a message contains a text.
    pub fn said(&self, text: &str) -> bool {
        self.lines().iter().any(|line| line["msg"].as_str().unwrap_or_default().contains(text))
    }

    /// What is answered on the port of health: the status, and the body.
    pub async fn health(&self, path: &str) -> (u16, String) {
        let line = self.says("health on port").await;
        let port: u16 = line["msg"].as_str().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
        let ask = async {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = ask.await.unwrap_or_else(|error| panic!("{error}: {:#?}", self.lines()));
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.rsplit("\r\n\r\n").next().unwrap().to_owned())
    }
}

/// A target that answers every request with the same bytes, and remembers what it was asked.
pub struct Target {
    pub server: Server,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Target {
    /// Answers 200 with that type and body.
    pub async fn answering(content_type: &str, body: &[u8]) -> Self {
        let head = format!(
            "HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let answer: Arc<[u8]> = [head.as_bytes(), body].concat().into();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = asked.clone();
        let server = Server::tcp(move |mut stream| {
            let (answer, notes) = (answer.clone(), notes.clone());
            async move {
                let mut whole = read_head(&mut stream).await;
                let length = whole.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                let _ = stream.read_exact(&mut body).await;
                whole.push_str(&String::from_utf8_lossy(&body));
                notes.lock().unwrap_or_else(PoisonError::into_inner).push(whole);
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            }
        })
        .await;
        Self { server, asked }
    }

    /// What it was asked, whole.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A way to the database that can be closed: what is on it then is cut off.
pub struct Way {
    server: Server,
    /// Whether it is open.
    pub open: watch::Sender<bool>,
}

impl Way {
    /// Opens one.
    pub async fn to(url: &str) -> Self {
        let to: SocketAddr = url.split(['@', '/']).nth(3).unwrap().parse().unwrap();
        let (open, is_open) = watch::channel(true);
        let server = Server::tcp(move |mut near| {
            let mut is_open = is_open.clone();
            async move {
                let Ok(mut far) = TcpStream::connect(to).await else { return };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    _ = is_open.wait_for(|open| !open) => {}
                }
            }
        })
        .await;
        Self { server, open }
    }

    /// The same database by this way.
    pub fn connection(&self, direct: &str) -> String {
        let (user, rest) = direct.split_once('@').unwrap();
        format!("{user}@{}/{}", self.server.address, rest.split_once('/').unwrap().1)
    }
}
