//! What a bot asks for: the address, and the parameters in all the forms in which the Bot API takes them.
//! Source: <https://core.telegram.org/bots/api#making-requests>.

use crate::command::Chat;
use crate::names::BotId;
use crate::secret::{BotToken, Key};
use std::collections::BTreeMap;
use url::form_urlencoded;

/// The longest method of the Bot API has 35 letters; more is none.
const METHOD_MAX: usize = 64;

/// So many bytes of a body are looked at. Of a form with files it is the beginning, where every library puts what is no file; more would be
/// time, less would miss a long text.
const LOOKED_AT_MAX: usize = 256 * 1024;

/// Who asks, and for what.
#[derive(Debug)]
pub struct Address {
    /// The bot, here.
    pub bot: BotId,
    /// The bot, at Telegram.
    pub token: BotToken,
    /// As it was written.
    pub method: String,
}

/// Why an address is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAnAddress {
    /// There is nothing there.
    NotFound,
    /// Token, bot and seal do not belong together.
    Unauthorized,
}

impl Address {
    /// Reads `/ID/SEAL/botTOKEN/METHOD`.
    pub fn read(path: &str, key: &Key) -> Result<Self, NotAnAddress> {
        let parts: Vec<&str> = path.strip_prefix('/').unwrap_or_default().split('/').collect();
        let [bot, seal, token, method] = parts[..] else { return Err(NotAnAddress::NotFound) };
        let token = token.strip_prefix("bot").ok_or(NotAnAddress::NotFound)?;
        // Some libraries write the colon so.
        let token = BotToken::new(&token.replacen("%3A", ":", 1).replacen("%3a", ":", 1)).map_err(|_| NotAnAddress::Unauthorized)?;
        let bot = BotId::try_from(bot.to_owned()).map_err(|_| NotAnAddress::Unauthorized)?;
        if !key.is_seal(&bot, &token, seal.as_bytes()) {
            return Err(NotAnAddress::Unauthorized);
        }
        let letters = method.bytes().all(|byte| byte.is_ascii_alphabetic());
        if !letters || !(1..=METHOD_MAX).contains(&method.len()) {
            return Err(NotAnAddress::NotFound);
        }
        Ok(Self { bot, token, method: method.to_owned() })
    }
}

/// The parameters, each as text; what is not text is JSON.
#[derive(Debug, Default)]
pub struct Params(BTreeMap<String, String>);

/// The body is not what its type says.
#[derive(Debug, PartialEq, Eq)]
pub struct NotParams;

impl Params {
    /// Reads the query, then the body.
    pub fn read(query: Option<&str>, content_type: Option<&str>, body: &[u8]) -> Result<Self, NotParams> {
        let form = |text: &[u8]| form_urlencoded::parse(text).into_owned().collect::<Vec<_>>();
        let mut all: BTreeMap<String, String> = form(query.unwrap_or_default().as_bytes()).into_iter().collect();
        let content_type = content_type.unwrap_or_default();
        let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let begins = &body[..body.len().min(LOOKED_AT_MAX)];
        match kind.as_str() {
            _ if body.is_empty() => {}
            "multipart/form-data" => all.extend(fields(begins, boundary(content_type).ok_or(NotParams)?)),
            _ if body.len() > LOOKED_AT_MAX => return Err(NotParams),
            "application/json" => {
                let object: BTreeMap<String, serde_json::Value> = serde_json::from_slice(body).map_err(|_| NotParams)?;
                let said = object.into_iter().filter(|(_, value)| !value.is_null());
                all.extend(said.map(|(name, value)| (name, value.as_str().map_or_else(|| value.to_string(), str::to_owned))));
            }
            "application/x-www-form-urlencoded" => all.extend(form(body)),
            // What Telegram makes of another type is not known here.
            _ => return Err(NotParams),
        }
        Ok(Self(all))
    }

    /// One that is there and not empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// A whole number, if it is there; or the name of what is none.
    pub fn number<'a>(&self, name: &'a str) -> Result<Option<i64>, &'a str> {
        self.text(name).map(|text| text.trim().parse().map_err(|_| name)).transpose()
    }

    /// The chat that is written into.
    pub fn chat(&self) -> Option<Chat> {
        self.text("chat_id").map(|chat| Chat(chat.to_owned()))
    }
}

/// The boundary of a form with files (RFC 7578).
fn boundary(content_type: &str) -> Option<&str> {
    let named = content_type.split(';').find_map(|part| part.trim().strip_prefix("boundary="))?.trim_matches('"');
    (1..=70).contains(&named.len()).then_some(named)
}

/// The fields of a form that are no files, as far as they stand in these bytes whole.
fn fields(bytes: &[u8], boundary: &str) -> Vec<(String, String)> {
    let delimiter = format!("--{boundary}");
    let mut found = Vec::new();
    let mut rest = bytes;
    while let Some(at) = find(rest, delimiter.as_bytes()) {
        rest = &rest[at + delimiter.len()..];
        let Some(end) = find(rest, delimiter.as_bytes()) else { break };
        found.extend(field(&rest[..end]));
    }
    found
}

/// `\r\nContent-Disposition: form-data; name="chat_id"\r\n\r\n42\r\n`
fn field(part: &[u8]) -> Option<(String, String)> {
    let split = find(part, b"\r\n\r\n")?;
    let (head, value) = (std::str::from_utf8(&part[..split]).ok()?, part[split + 4..].strip_suffix(b"\r\n")?);
    let about = head.split("\r\n").find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
    let of = |name: &str| about.split(';').find_map(|word| word.trim().strip_prefix(name)?.strip_prefix('='));
    if of("filename").is_some() || of("filename*").is_some() {
        return None;
    }
    Some((of("name")?.trim_matches('"').to_owned(), String::from_utf8(value.to_vec()).ok()?))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn an_address_is_good_only_as_a_whole() {
        let (key, token) = (Key::new(KEY).expect("a key"), BotToken::new("1:x").expect("a token"));
        let bot: BotId = "a1".to_owned().try_into().expect("an id");
        let seal = key.seal(&bot, &token);
        let read = |path: &str| Address::read(path, &key).map(|address| address.method);
        assert_eq!(read(&format!("/a1/{seal}/bot1:x/getMe")), Ok("getMe".to_owned()));
        assert_eq!(read(&format!("/a1/{seal}/bot1%3Ax/GETME")), Ok("GETME".to_owned()));
        for path in ["a1/{}/bot1:y/getMe", "a2/{}/bot1:x/getMe", "a1/{}0/bot1:x/getMe", "a1/x{}/bot1:x/getMe", "A1/{}/bot1:x/getMe"] {
            assert_eq!(read(&format!("/{}", path.replace("{}", &seal))), Err(NotAnAddress::Unauthorized), "{path}");
        }
        for path in ["", "/", "/bot1:x/getMe", "/a1/s/1:x/getMe", "/a1/s/bot1:x/getMe/", "/file/a1/s/bot1:x/a.jpg"] {
            assert_eq!(read(path), Err(NotAnAddress::NotFound), "{path}");
        }
        assert_eq!(read(&format!("/a1/{seal}/bot1:x/get-me")), Err(NotAnAddress::NotFound));
    }

    #[test]
    fn parameters_are_the_same_in_every_form() {
        let files = "--B\r\nContent-Disposition: form-data; name=\"chat_id\"\r\n\r\n-7\r\n--B\r\nContent-Disposition: form-data; \
                     name=\"photo\"; filename=\"chat_id\"\r\nContent-Type: image/png\r\n\r\n\0\u{1}\r\n--B\r\ncontent-disposition: form-data; \
                     name=text\r\n\r\na&b\r\nc\r\n--B--\r\n";
        for (query, kind, body) in [
            (Some("chat_id=-7&text=a%26b%0D%0Ac"), None, ""),
            (None, Some("application/x-www-form-urlencoded"), "chat_id=-7&text=a%26b%0D%0Ac"),
            (Some("text=old&chat_id=-7"), Some("application/json; charset=utf-8"), r#"{"text":"a&b\r\nc","x":null}"#),
            (None, Some("application/json"), r#"{"chat_id":-7,"text":"a&b\r\nc"}"#),
            (None, Some("multipart/form-data; boundary=\"B\""), files),
        ] {
            let params = Params::read(query, kind, body.as_bytes()).expect("parameters");
            assert_eq!((params.number("chat_id"), params.text("text")), (Ok(Some(-7)), Some("a&b\r\nc")), "{kind:?}");
            assert_eq!((params.chat(), params.text("x")), (Some(Chat("-7".to_owned())), None));
        }
        let params = Params::read(Some("limit=x&offset="), None, b"").expect("parameters");
        assert_eq!((params.number("limit"), params.number("offset"), params.number("timeout")), (Err("limit"), Ok(None), Ok(None)));
        for (kind, body) in [("application/json", "[]"), ("application/json", "{"), ("text/plain", "x"), ("multipart/form-data", "x")] {
            assert!(Params::read(None, Some(kind), body.as_bytes()).is_err(), "{kind}");
        }
    }
}
