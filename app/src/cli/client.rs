//! Asks a running server through its API, for the commands that work on one.
//!
//! The token is `WATCHKEEPER_TOKEN` if that is set, else the one that the first start left beside the database. Where that is, a
//! relative path in the configuration does not say: it is looked for in every place where it may be, and all of them are named.

use crate::clock::Clock;
use crate::net::{Net, Request};
use crate::web::auth::PERSON_HEADER;
use crate::web::error::ErrorBody;
use crate::web::types::{Page, ReadyBody};
use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use url::Url;

/// A server on the same machine that has not answered by then is hung; it ends its own requests after 15 s.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An answer may be so long: a page of 500 monitors has under 2 MiB.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// So many pages are turned at most: with 500 items each, far beyond what one server watches. A server that always says
/// `next` must not keep us for ever.
const PAGES_MAX: usize = 400;

/// The variable that holds a token to use instead of the file's.
const TOKEN_VARIABLE: &str = "WATCHKEEPER_TOKEN";

/// A server to ask.
pub struct Client {
    net: Net,
    base: Url,
    token: Option<SecretString>,
    /// Where the token came from.
    source: String,
    /// Who acts.
    person: Option<String>,
}

impl Client {
    /// The server that listens on this address, asked without a token.
    pub fn open(listen: SocketAddr, clock: Clock) -> anyhow::Result<Self> {
        let base = Url::parse(&format!("http://{}", reachable(listen))).context("the listen address makes no URL")?;
        Ok(Self { net: Net::system(clock), base, token: None, source: String::new(), person: None })
    }

    /// The same with the token of the environment, or of the first of those files that is there.
    pub fn with_token(listen: SocketAddr, files: &[PathBuf], clock: Clock) -> anyhow::Result<Self> {
        let (text, source) = match std::env::var(TOKEN_VARIABLE) {
            Ok(text) => (text, TOKEN_VARIABLE.to_owned()),
            Err(_) => read_token(files)?,
        };
        Ok(Self { token: Some(SecretString::from(text.trim())), source, ..Self::open(listen, clock)? })
    }

    /// The same in the name of a person; without one, in that of the token.
    #[must_use]
    pub fn acting_as(self, person: Option<String>) -> Self {
        Self { person, ..self }
    }

    /// The status and body of one request; `None` sends no body.
    async fn call(&self, method: Method, path: &str, query: &[(&str, &str)], body: Option<Bytes>) -> anyhow::Result<(StatusCode, Bytes)> {
        let mut url = self.base.join(path).context("the path makes no URL")?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut headers = HeaderMap::new();
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).context("the token is not one")?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        if let Some(person) = &self.person {
            headers
                .insert(PERSON_HEADER, HeaderValue::from_bytes(person.as_bytes()).context("the name of who acts has control characters")?);
        }
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let request = Request { method, url, headers, body: body.unwrap_or_default() };
        let answer = self.net.send(&request, Instant::now() + TIMEOUT, ANSWER_MAX).await;
        let answer = answer.map_err(|fault| {
            let at = self.base.authority();
            anyhow!("no server answers on {at}: {}; is `watchkeeper serve` running?", fault.text)
        })?;
        Ok((answer.status, answer.body))
    }

    /// The value of an answer; any status but a good one is an error with the server's own words.
    fn value<T: DeserializeOwned>(&self, path: &str, (status, body): (StatusCode, Bytes)) -> anyhow::Result<T> {
        if !status.is_success() {
            let said = serde_json::from_slice::<ErrorBody>(&body).map_or_else(|_| "nothing more".to_owned(), |error| error.message);
            let whose = if status == StatusCode::UNAUTHORIZED { format!(" (the token is that of {})", self.source) } else { String::new() };
            bail!("the server on {} answered {path} with {status}: {said}{whose}", self.base.authority());
        }
        serde_json::from_slice(&body)
            .with_context(|| format!("the server on {} answered {path} with something else than this version knows", self.base.authority()))
    }

    /// The value of a GET.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<T> {
        self.value(path, self.call(Method::GET, path, query, None).await?)
    }

    /// The value of a GET, or `None` if there is no such thing.
    pub async fn find<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Option<T>> {
        let answer = self.call(Method::GET, path, &[], None).await?;
        if answer.0 == StatusCode::NOT_FOUND { Ok(None) } else { self.value(path, answer).map(Some) }
    }

    /// Whether the server does its work, and what it says of itself.
    pub async fn ready(&self) -> anyhow::Result<ReadyBody> {
        let (status, body) = self.call(Method::GET, "/ready", &[], None).await?;
        // Not being ready is an answer.
        let status = if status == StatusCode::SERVICE_UNAVAILABLE { StatusCode::OK } else { status };
        self.value("/ready", (status, body))
    }

    /// A path of the API with names in it, which may hold any character.
    pub fn path(&self, segments: &[&str]) -> String {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("the base is http").clear().extend(segments);
        url.path().to_owned()
    }

    /// The value of a POST of that body as JSON.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        let body = serde_json::to_vec(body).context("the request makes no JSON")?;
        self.value(path, self.call(Method::POST, path, &[], Some(body.into())).await?)
    }

    /// The value of a DELETE.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.value(path, self.call(Method::DELETE, path, &[], None).await?)
    }

    /// One page of a list.
    pub async fn page<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Page<T>> {
        self.get(path, query).await
    }

    /// Every item of a list; `cursor` is the key that takes `next`.
    pub async fn all<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)], cursor: &str) -> anyhow::Result<Vec<T>> {
        let (mut items, mut next) = (Vec::new(), None::<String>);
        for _ in 0..PAGES_MAX {
            let mut query = query.to_vec();
            query.extend(next.as_deref().map(|place| (cursor, place)));
            let page: Page<T> = self.get(path, &query).await?;
            items.extend(page.items);
            next = page.next;
            if next.is_none() {
                return Ok(items);
            }
        }
        bail!("the server on {} has more than {PAGES_MAX} pages at {path}", self.base.authority())
    }
}

/// The token of the first file that is there, and which that is; without any, what to do.
fn read_token(files: &[PathBuf]) -> anyhow::Result<(String, String)> {
    for file in files {
        let name = file.display();
        match std::fs::read_to_string(file) {
            Ok(text) => return Ok((text, name.to_string())),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                bail!("{name} may only be read by the user that runs the server; be that user, or set {TOKEN_VARIABLE}")
            }
            Err(error) => bail!("{name} cannot be read: {error}"),
        }
    }
    let looked: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    bail!(
        "there is no token: {TOKEN_VARIABLE} is not set, and there is no {}. Name the server's configuration with --config, or set \
         {TOKEN_VARIABLE} to a token made by `watchkeeper token create`",
        looked.join(" nor ")
    )
}

/// An address that listens on all interfaces is asked on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_all_interfaces_is_asked_on_loopback() {
        for (listen, want) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("192.0.2.7:3", "192.0.2.7:3")] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), want);
        }
    }

    #[test]
    fn a_missing_token_file_says_what_to_do() {
        let listen = "127.0.0.1:1".parse().unwrap();
        let files = ["/nowhere/wk.db.token", "/either/wk.db.token"].map(PathBuf::from);
        let error = Client::with_token(listen, &files, Clock::system()).err().expect("there are no such files");
        assert_eq!(
            error.to_string(),
            "there is no token: WATCHKEEPER_TOKEN is not set, and there is no /nowhere/wk.db.token nor /either/wk.db.token. \
             Name the server's configuration with --config, or set WATCHKEEPER_TOKEN to a token made by `watchkeeper token create`"
        );
    }
}
