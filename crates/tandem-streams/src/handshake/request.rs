//! The head of an upgrade request (RFC 6455 §4.2.1), as the fork modules write it.

use std::net::IpAddr;

use base64_simd::STANDARD;

use super::{
    access::{Claim, ForkCredentials},
    refusal::Refusal,
};
use crate::{AuthenticatedAs, Dialect};

/// Longest head that is read. `mod_audio_fork` allows a path of 4,096 bytes.
pub(crate) const MAX_HEAD: usize = 8 << 10;

/// Most headers of a request; the modules send nine, and what the user adds.
const MAX_HEADERS: usize = 64;

/// Most pairs of a query.
const MAX_PAIRS: usize = 64;

/// An upgrade that is to be answered by 101.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Upgrade {
    pub(crate) dialect: Dialect,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) authenticated_as: AuthenticatedAs,
    pub(crate) key: String,
    /// The subprotocol, if exactly one was offered.
    pub(crate) protocol: Option<String>,
}

/// Where the head ends in `bytes`, of which the first `seen` were looked at before.
pub(crate) fn end_of_head(bytes: &[u8], seen: usize) -> Option<usize> {
    let from = seen.saturating_sub(3);
    let ends = bytes[from..].iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    ends.map(|(at, _)| from + at).find_map(|at| match &bytes[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

impl Upgrade {
    /// Reads a whole head and decides on it: first whether it is an upgrade, then who sends it, then what it asks for.
    pub(crate) fn read(
        head: &[u8],
        peer: IpAddr,
        prefix: &str,
        credentials: &ForkCredentials,
        now_unix: u64,
    ) -> Result<Self, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(head) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => {
                return Err(Refusal::BadRequest("the request has no end"));
            }
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooLarge),
            Err(_) => return Err(Refusal::BadRequest("this is no HTTP request")),
        }
        if request.version != Some(1) {
            return Err(Refusal::BadRequest("a websocket needs HTTP/1.1"));
        }
        if request.method != Some("GET") {
            return Err(Refusal::Method);
        }
        let headers = Headers(request.headers);
        let (key, protocol) = headers.upgrade()?;

        let target = request.path.unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut query = pairs(query)?;
        let token = query.iter().find(|(name, _)| name == "token").map(|(_, token)| token.clone());
        query.retain(|(name, _)| name != "token"); // It goes no further, into no log either.
        let claim = Claim {
            peer,
            authorization: headers.one("authorization")?,
            token: token.as_deref(),
            call: query.iter().find(|(name, _)| name == "call").map(|(_, call)| call.as_str()),
        };
        let authenticated_as = credentials.admit(claim, now_unix).map_err(Refusal::Unauthorized)?;
        let dialect = path
            .strip_prefix(prefix)
            .map(|path| path.strip_suffix('/').unwrap_or(path))
            .and_then(Dialect::of_path)
            .ok_or(Refusal::NotFound)?;
        Ok(Self { dialect, query, authenticated_as, key, protocol })
    }
}

/// The headers of a request, by lower-case name.
struct Headers<'a>(&'a [httparse::Header<'a>]);

impl<'a> Headers<'a> {
    fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    }

    /// The value of a header that may be there once.
    fn one(&self, name: &'static str) -> Result<Option<&'a [u8]>, Refusal> {
        let mut values = self.all(name);
        let value = values.next();
        if values.next().is_some() {
            return Err(Refusal::BadRequest("a header that may be there once is there twice"));
        }
        Ok(value.map(<[u8]>::trim_ascii))
    }

    /// The elements of a list, however many headers it is spread over.
    fn list(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|element| !element.is_empty())
    }

    fn lists(&self, name: &str, wanted: &str) -> bool {
        self.list(name).any(|element| element.eq_ignore_ascii_case(wanted.as_bytes()))
    }

    /// The key, and the subprotocol if exactly one was offered.
    fn upgrade(&self) -> Result<(String, Option<String>), Refusal> {
        if !self.lists("upgrade", "websocket") || !self.lists("connection", "upgrade") {
            return Err(Refusal::BadRequest("this is a websocket, and the request is no upgrade"));
        }
        if self.one("sec-websocket-version")? != Some(b"13") {
            return Err(Refusal::Version);
        }
        let body = self.one("content-length")?.is_some_and(|length| length != b"0")
            || self.all("transfer-encoding").next().is_some();
        if body {
            return Err(Refusal::BadRequest("an upgrade has no body"));
        }
        let bad_key = Refusal::BadRequest("Sec-WebSocket-Key is not 16 bytes in base64");
        let key = self.one("sec-websocket-key")?.ok_or(bad_key)?;
        let key = STANDARD
            .decode_to_vec(key)
            .ok()
            .filter(|bytes| bytes.len() == 16)
            .and_then(|_| str::from_utf8(key).ok())
            .ok_or(bad_key)?;

        let mut offered = self.list("sec-websocket-protocol");
        let protocol = match (offered.next(), offered.next()) {
            (Some(only), None) if only.iter().all(u8::is_ascii_graphic) => {
                Some(String::from_utf8_lossy(only).into_owned())
            }
            (Some(_), None) => return Err(Refusal::BadRequest("the subprotocol is no token")),
            _ => None,
        };
        Ok((key.to_owned(), protocol))
    }
}

/// The pairs of a query, percent-decoded. A `+` stays one: it begins telephone numbers.
fn pairs(query: &str) -> Result<Vec<(String, String)>, Refusal> {
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        if pairs.len() == MAX_PAIRS {
            return Err(Refusal::BadRequest("the query has too many parts"));
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((decoded(name), decoded(value)));
    }
    Ok(pairs)
}

/// Percent-decodes (RFC 3986 §2.1); a percent sign that begins nothing stands for itself.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escape = tail.get(..2).filter(|_| first == b'%').and_then(|hex| {
            let digit = |at: usize| char::from(hex[at]).to_digit(16);
            Some((digit(0)? * 16 + digit(1)?) as u8)
        });
        bytes.push(escape.unwrap_or(first));
        rest = if escape.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into())
}
