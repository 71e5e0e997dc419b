//! The variables that UptimeOAgent is started with. Reading them is pure: the environment comes in as a function.

use crate::config::decode::{parse_duration, show_duration};
use crate::config::tree::Env;
use secrecy::SecretString;
use std::time::Duration;
use url::Url;
use watchkeeper_core::Dur;

/// The connection: a URL as libpq takes it, or its `key=value` form. It is a secret.
pub const DB_CONN_STRING: &str = "DB_CONN_STRING";
/// The number of the datacenter that this node watches from.
pub const DATACENTER_ID: &str = "DATACENTER_ID";
/// Where `/healthz` and `/readyz` are answered.
pub const HEALTH_PORT: &str = "HEALTH_PORT";
/// How often it is looked whether the tables changed.
pub const CONFIG_RELOAD_INTERVAL: &str = "CONFIG_RELOAD_INTERVAL";

/// The port of `/healthz` and `/readyz` if nobody says another.
const HEALTH_PORT_USUAL: u16 = 8080;
/// How often the tables are looked at if nobody says it: a change should be seen to work by whoever makes it.
const LOOK_USUAL: Dur = Dur::secs(2);
/// It is never looked more often: that would ask the database for nothing.
const LOOK_LEAST: Dur = Dur::secs(1);
/// It is never looked less often, whatever is asked for: where restarts were the way to put a change into force, a day between two
/// looks did no harm; here the nodes that have looked would wait for those that have not.
pub(super) const LOOK_MOST: Dur = Dur::secs(30);

/// What the environment says.
#[derive(Clone, Debug)]
pub struct Variables {
    /// As a URL.
    pub url: SecretString,
    /// The datacenter's number.
    pub datacenter: i64,
    /// Where health is answered.
    pub health_port: u16,
    /// Whether the port was given: then it must be had.
    pub health_port_given: bool,
    /// How often the tables are looked at.
    pub look_every: Duration,
}

impl Variables {
    /// What is set; `None` if this is another installation, and a text if what is set cannot be used. No text holds the connection.
    /// Beside a configuration file (`has_file`) one of the two variables alone is somebody else's.
    pub fn read(env: Env<'_>, has_file: bool) -> Result<Option<Self>, String> {
        let set = |name| env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let (connection, datacenter) = match (set(DB_CONN_STRING), set(DATACENTER_ID)) {
            (None, None) => return Ok(None),
            (Some(_), None) | (None, Some(_)) if has_file => return Ok(None),
            (Some(connection), Some(datacenter)) => (connection, datacenter),
            (Some(_), None) => return Err(format!("{DB_CONN_STRING} is set, but {DATACENTER_ID} not set")),
            (None, Some(_)) => return Err(format!("{DATACENTER_ID} is set, but {DB_CONN_STRING} not set")),
        };
        let number = |n: &i64| (1..=i64::from(i32::MAX)).contains(n);
        let datacenter = datacenter
            .parse()
            .ok()
            .filter(number)
            .ok_or_else(|| format!("Invalid {DATACENTER_ID}: {datacenter}; the number of a row of datacenters is accepted"))?;
        let port = set(HEALTH_PORT);
        let health_port = match &port {
            None => HEALTH_PORT_USUAL,
            Some(text) => text.parse().map_err(|_| format!("Invalid {HEALTH_PORT}: {text}; a port from 0 to 65535 is accepted"))?,
        };
        let look = match set(CONFIG_RELOAD_INTERVAL) {
            None => LOOK_USUAL,
            Some(text) => parse_duration(&text).filter(|every| *every >= LOOK_LEAST).ok_or_else(|| {
                format!(
                    "Invalid {CONFIG_RELOAD_INTERVAL}: {text}; a duration from {} on is accepted, such as 30s",
                    show_duration(LOOK_LEAST)
                )
            })?,
        };
        Ok(Some(Self {
            url: connection_url(&connection)?,
            datacenter,
            health_port,
            health_port_given: port.is_some(),
            look_every: look.min(LOOK_MOST).to_std(),
        }))
    }
}

/// The connection as a URL; its `key=value` form is made into one.
pub fn connection_url(text: &str) -> Result<SecretString, String> {
    const FORM: &str = "postgres://USER:PASSWORD@HOST:PORT/DATABASE or host=… port=… user=… password=… dbname=…";
    let bad = || format!("Invalid {DB_CONN_STRING}; accepted is {FORM}");
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        return Ok(SecretString::from(text));
    }
    let pairs = pairs(text).ok_or_else(bad)?;
    let mut url = Url::parse("postgres://localhost").map_err(|_| bad())?;
    let mut database = None;
    for (key, value) in &pairs {
        let done = match key.as_str() {
            // A directory is that of a socket, which a URL can only name beside.
            "host" if value.starts_with('/') => url.query_pairs_mut().append_pair("host", value).finish().host().map(drop).ok_or(()),
            "host" | "hostaddr" => url.set_host(Some(value)).map_err(drop),
            "port" => value.parse().map_err(drop).and_then(|port| url.set_port(Some(port))),
            "user" => {
                database.get_or_insert_with(|| value.clone());
                url.set_username(value)
            }
            "password" => url.set_password(Some(value)),
            "dbname" => Ok(()),
            other => url.query_pairs_mut().append_pair(other, value).finish().host().map(drop).ok_or(()),
        };
        done.map_err(|()| bad())?;
    }
    let named = pairs.iter().find(|(key, _)| key == "dbname").map(|(_, name)| name.clone());
    url.path_segments_mut().map_err(|()| bad())?.push(&named.or(database).ok_or_else(bad)?);
    Ok(SecretString::from(String::from(url)))
}

/// The pairs of `key = 'value with spaces'`, as libpq reads them: a backslash keeps the character behind it as it is.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let key = key.trim();
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return None;
        }
        let mut chars = after.trim_start().chars();
        let mut value = String::new();
        let quoted = chars.clone().next() == Some('\'');
        if quoted {
            chars.next();
        }
        loop {
            match chars.next() {
                Some('\\') => value.push(chars.next()?),
                Some('\'') if quoted => break,
                Some(c) if !quoted && c.is_whitespace() => break,
                Some(c) => value.push(c),
                None if quoted => return None,
                None => break,
            }
        }
        pairs.push((key.to_owned(), value));
        rest = chars.as_str().trim_start();
    }
    (!pairs.is_empty()).then_some(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    fn read(set: &[(&str, &str)]) -> Result<Option<Variables>, String> {
        Variables::read(&|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()), false)
    }

    #[test]
    fn two_variables_are_enough() {
        const URL: &str = "postgres://inframirror:inframirror@localhost:5432/inframirror?sslmode=disable";
        let found = read(&[(DB_CONN_STRING, URL), (DATACENTER_ID, "1")]).unwrap().unwrap();
        assert_eq!((found.url.expose_secret(), found.datacenter, found.health_port, found.health_port_given), (URL, 1, 8080, false));
        assert_eq!(found.look_every, Duration::from_secs(2));
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&[(DB_CONN_STRING, "")]).unwrap().is_none());
        let all = [(DB_CONN_STRING, URL), (DATACENTER_ID, "9"), (HEALTH_PORT, "8071"), (CONFIG_RELOAD_INTERVAL, "24h")];
        let found = read(&all).unwrap().unwrap();
        assert_eq!((found.health_port, found.health_port_given, found.look_every), (8071, true, LOOK_MOST.to_std()));
    }

    #[test]
    fn what_cannot_be_used_is_told_without_the_connection() {
        let url = (DB_CONN_STRING, "postgres://u:hunter2@h/d");
        let cases: [(&[(&str, &str)], &str); 7] = [
            (&[url], "DATACENTER_ID not set"),
            (&[(DATACENTER_ID, "1")], "DB_CONN_STRING not set"),
            (&[url, (DATACENTER_ID, "va")], "Invalid DATACENTER_ID: va"),
            (&[url, (DATACENTER_ID, "0")], "Invalid DATACENTER_ID: 0"),
            (&[url, (DATACENTER_ID, "1"), (HEALTH_PORT, "http")], "Invalid HEALTH_PORT"),
            (&[url, (DATACENTER_ID, "1"), (CONFIG_RELOAD_INTERVAL, "1ms")], "Invalid CONFIG_RELOAD_INTERVAL"),
            (&[(DB_CONN_STRING, "mysql://hunter2@h/d"), (DATACENTER_ID, "1")], "Invalid DB_CONN_STRING"),
        ];
        assert!(Variables::read(&|name| (name == DB_CONN_STRING).then(|| url.1.to_owned()), true).unwrap().is_none());
        for (set, named) in cases {
            let said = read(set).unwrap_err();
            assert!(said.contains(named) && !said.contains("hunter2"), "{set:?}: {said}");
        }
    }

    #[test]
    fn the_form_of_keys_and_values_is_a_url_too() {
        let cases = [
            ("host=db port=5433 user=u password=p dbname=d sslmode=disable", "postgres://u:p@db:5433/d?sslmode=disable"),
            ("user=u  host = db", "postgres://u@db/u"),
            (r"host=db user=u password='a b\'c@/' dbname=d", "postgres://u:a%20b'c%40%2F@db/d"),
            ("host=/var/run/postgresql user=u dbname=d", "postgres://u@localhost/d?host=%2Fvar%2Frun%2Fpostgresql"),
        ];
        for (text, want) in cases {
            let url = connection_url(text).unwrap();
            let (got, want) = (Url::parse(url.expose_secret()).unwrap(), Url::parse(want).unwrap());
            assert_eq!(
                (got.host(), got.port(), got.username(), got.path()),
                (want.host(), want.port(), want.username(), want.path()),
                "{text}"
            );
            assert_eq!(got.query(), want.query(), "{text}");
            let options: sqlx::postgres::PgConnectOptions = url.expose_secret().parse().unwrap();
            assert_eq!(options.get_database(), want.path().strip_prefix('/'), "{text}");
        }
        for bad in ["nonsense", "host=db", "host='db", "=x"] {
            assert!(connection_url(bad).is_err(), "{bad}");
        }
    }
}
