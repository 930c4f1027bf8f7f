//! SIP messages as small types of our own (RFC 3261 §7), read from and written to the wire.

mod framing;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

pub(crate) use framing::{Frame, split_head, stream_frame};

use crate::{
    headers::Headers,
    uri::{NameAddr, Uri, UriError, find_param, host_text, parse_host_port, parse_params},
};

/// The largest message we read: what a UDP datagram can hold.
pub const MAX_MESSAGE: usize = 65_535;
/// The most header lines in one message.
pub const MAX_HEADERS: usize = 256;
/// The longest header line, folded lines together.
pub const MAX_HEADER_LINE: usize = 16 * 1024;

/// Why bytes are no SIP message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Above [`MAX_MESSAGE`].
    #[error("longer than {MAX_MESSAGE} bytes")]
    TooLong,
    /// No empty line after the headers, or fewer bytes of body than Content-Length says.
    #[error("truncated")]
    Truncated,
    /// The first line is neither a request nor a status line.
    #[error("bad start line")]
    StartLine,
    /// The Request-URI cannot be read.
    #[error("bad Request-URI: {0}")]
    RequestUri(#[from] UriError),
    /// A header line without a name, or with a control character in it.
    #[error("bad header line")]
    HeaderLine,
    /// Above [`MAX_HEADERS`] or [`MAX_HEADER_LINE`].
    #[error("too many or too long headers")]
    TooManyHeaders,
    /// Content-Length is no number, or there are two that differ.
    #[error("bad Content-Length")]
    ContentLength,
    /// A header every message needs is missing or unreadable.
    #[error("missing or bad {0}")]
    Header(&'static str),
}

/// A request method.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Method {
    /// Starts or changes a session.
    Invite,
    /// Confirms the final response of an INVITE.
    Ack,
    /// Ends a session.
    Bye,
    /// Gives up an unanswered INVITE.
    Cancel,
    /// Asks what we can do.
    Options,
    /// Carries a DTMF digit here (RFC 6086).
    Info,
    /// Changes or refreshes a session (RFC 3311).
    Update,
    /// Asks the peer to call somebody (RFC 3515).
    Refer,
    /// Reports on a REFER (RFC 6665).
    Notify,
    /// Acknowledges a reliable provisional response (RFC 3262).
    Prack,
    /// Anything else.
    Other(String),
}

impl Method {
    /// As on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Options => "OPTIONS",
            Self::Info => "INFO",
            Self::Update => "UPDATE",
            Self::Refer => "REFER",
            Self::Notify => "NOTIFY",
            Self::Prack => "PRACK",
            Self::Other(name) => name,
        }
    }

    /// The method of this name; methods are case-sensitive (RFC 3261 §7.1). None when it is no token.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "INVITE" => Self::Invite,
            "ACK" => Self::Ack,
            "BYE" => Self::Bye,
            "CANCEL" => Self::Cancel,
            "OPTIONS" => Self::Options,
            "INFO" => Self::Info,
            "UPDATE" => Self::Update,
            "REFER" => Self::Refer,
            "NOTIFY" => Self::Notify,
            "PRACK" => Self::Prack,
            other => {
                let token = !other.is_empty()
                    && other.len() <= 64
                    && other.chars().all(|c| c.is_ascii_alphanumeric() || "-.!%*_+`'~".contains(c));
                return token.then(|| Self::Other(other.to_owned()));
            }
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request. `Debug` leaves out the body, which may hold keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub method: Method,
    /// Of whom.
    pub uri: Uri,
    /// All headers but Content-Length.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

/// A response. `Debug` leaves out the body, which may hold keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// 100 to 699.
    pub status: u16,
    /// Reason phrase.
    pub reason: String,
    /// All headers but Content-Length.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("uri", &self.uri)
            .field("headers", &self.headers)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("reason", &self.reason)
            .field("headers", &self.headers)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish()
    }
}

/// A message as it came off the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A request.
    Request(Request),
    /// A response.
    Response(Response),
}

impl Message {
    /// Reads one whole message. Without Content-Length the body is what follows the headers; bytes after the body
    /// are ignored. Text that is no UTF-8 is kept readable with replacement characters.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.len() > MAX_MESSAGE {
            return Err(MessageError::TooLong);
        }
        let (head, body) = split_head(bytes).ok_or(MessageError::Truncated)?;
        let head = String::from_utf8_lossy(head);
        let mut lines = head.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        let start_line = lines.next().ok_or(MessageError::StartLine)?;
        let mut headers = parse_headers(lines)?;
        let body = match content_length(&headers)? {
            None => body,
            Some(length) => body.get(..length).ok_or(MessageError::Truncated)?,
        }
        .to_vec();
        headers.remove("Content-Length");
        if let Some(status_line) = start_line.strip_prefix("SIP/2.0 ") {
            let (status, reason) = status_line.split_once(' ').unwrap_or((status_line, ""));
            let status = status.parse().ok().filter(|status| (100..700).contains(status));
            let status = status.ok_or(MessageError::StartLine)?;
            if reason.chars().any(char::is_control) {
                return Err(MessageError::StartLine);
            }
            return Ok(Self::Response(Response {
                status,
                reason: reason.to_owned(),
                headers,
                body,
            }));
        }
        let mut words = start_line.split(' ');
        let (Some(method), Some(uri), Some("SIP/2.0"), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(MessageError::StartLine);
        };
        let method = Method::parse(method).ok_or(MessageError::StartLine)?;
        Ok(Self::Request(Request { method, uri: Uri::parse(uri)?, headers, body }))
    }
}

impl Request {
    /// A request with no headers yet.
    pub fn new(method: Method, uri: Uri) -> Self {
        Self { method, uri, headers: Headers::default(), body: Vec::new() }
    }

    /// As on the wire, with Content-Length.
    pub fn encode(&self) -> Vec<u8> {
        encode(&format!("{} {} SIP/2.0", self.method, self.uri), &self.headers, &self.body)
    }

    /// The number of CSeq.
    pub fn cseq(&self) -> Result<u32, MessageError> {
        let (number, method) = parse_cseq(&self.headers)?;
        if method == self.method { Ok(number) } else { Err(MessageError::Header("CSeq")) }
    }

    /// Checks what every request needs to be answered (RFC 3261 §8.1.1).
    pub fn check(&self) -> Result<(), MessageError> {
        self.via()?;
        self.call_id()?;
        self.to()?;
        let from = self.from()?;
        from.tag().ok_or(MessageError::Header("From tag"))?;
        self.cseq()?;
        Ok(())
    }

    /// Writes into the topmost Via where the request came from (RFC 3261 §18.2.1, RFC 3581 §4).
    pub fn mark_source(&mut self, source: SocketAddr) {
        let Some(line) = self.headers.first_mut("Via") else { return };
        let (first, rest) = match crate::uri::split_outside_quotes(line, ',').next() {
            Some(first) => (first.to_owned(), line[first.len()..].to_owned()),
            None => return,
        };
        let Ok(mut via) = Via::parse(&first) else { return };
        let asked = via.param("rport").is_some();
        via.params.retain(|(name, _)| {
            !name.eq_ignore_ascii_case("received") && !name.eq_ignore_ascii_case("rport")
        });
        if asked || via.host.parse() != Ok(source.ip()) {
            via.params.push(("received".into(), Some(source.ip().to_string())));
        }
        if asked {
            via.params.push(("rport".into(), Some(source.port().to_string())));
        }
        *line = format!("{via}{rest}");
    }

    /// A response to this request: Via, From, To, Call-ID and CSeq copied, `to_tag` added where To has none
    /// (RFC 3261 §8.2.6.2).
    pub fn response(&self, status: u16, to_tag: Option<&str>) -> Response {
        let mut headers = Headers::default();
        for (name, value) in self.headers.iter() {
            if ["Via", "From", "Call-ID", "CSeq"]
                .iter()
                .any(|copied| name.eq_ignore_ascii_case(copied))
                || (status == 100 && name.eq_ignore_ascii_case("Timestamp"))
            {
                headers.push(name, value);
            } else if name.eq_ignore_ascii_case("To") {
                match to_tag.filter(|_| NameAddr::parse(value).is_ok_and(|to| to.tag().is_none())) {
                    Some(tag) => headers.push(name, format!("{value};tag={tag}")),
                    None => headers.push(name, value),
                }
            }
        }
        Response { status, reason: reason_phrase(status).to_owned(), headers, body: Vec::new() }
    }
}

impl Response {
    /// As on the wire, with Content-Length.
    pub fn encode(&self) -> Vec<u8> {
        encode(&format!("SIP/2.0 {} {}", self.status, self.reason), &self.headers, &self.body)
    }

    /// The same response with one header more.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push(name, value);
        self
    }

    /// Number and method of CSeq.
    pub fn cseq(&self) -> Result<(u32, Method), MessageError> {
        parse_cseq(&self.headers)
    }
}

/// What requests and responses have in common.
macro_rules! common {
    ($message:ty) => {
        impl $message {
            /// Sets the body and its type.
            pub fn set_body(&mut self, content_type: &str, body: impl Into<Vec<u8>>) {
                self.headers.set("Content-Type", content_type);
                self.body = body.into();
            }

            /// The topmost Via.
            pub fn via(&self) -> Result<Via, MessageError> {
                top_via(&self.headers)
            }

            /// From.
            pub fn from(&self) -> Result<NameAddr, MessageError> {
                address(&self.headers, "From")
            }

            /// To.
            pub fn to(&self) -> Result<NameAddr, MessageError> {
                address(&self.headers, "To")
            }

            /// Call-ID.
            pub fn call_id(&self) -> Result<&str, MessageError> {
                call_id(&self.headers)
            }

            /// The first Contact.
            pub fn contact(&self) -> Option<NameAddr> {
                self.headers
                    .list("Contact")
                    .next()
                    .and_then(|contact| NameAddr::parse(contact).ok())
            }
        }
    };
}

common!(Request);
common!(Response);

/// One hop of Via: who sent, and where the answer goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    /// `UDP`, `TCP`, ...
    pub transport: String,
    /// The sender's own idea of its host.
    pub host: String,
    /// And port.
    pub port: Option<u16>,
    /// `branch`, `received`, `rport`, ...
    pub params: Vec<(String, Option<String>)>,
}

impl Via {
    /// Reads one hop.
    pub fn parse(text: &str) -> Result<Self, MessageError> {
        const BAD: MessageError = MessageError::Header("Via");
        let (sent, params) = text.split_once(';').unwrap_or((text, ""));
        let mut words = sent.split_whitespace();
        let (Some(protocol), Some(sent_by), None) = (words.next(), words.next(), words.next())
        else {
            return Err(BAD);
        };
        let transport = protocol.strip_prefix("SIP/2.0/").ok_or(BAD)?;
        let (host, port) = parse_host_port(sent_by).map_err(|_| BAD)?;
        Ok(Self { transport: transport.to_owned(), host, port, params: parse_params(params) })
    }

    /// The value of parameter `name`; `Some("")` when it has none.
    pub fn param(&self, name: &str) -> Option<&str> {
        find_param(&self.params, name)
    }

    /// The transaction's branch.
    pub fn branch(&self) -> &str {
        self.param("branch").unwrap_or("")
    }

    /// Where a response goes over UDP: back to the source port when `rport` was asked for, else to the port in
    /// sent-by (RFC 3581 §4, RFC 3261 §18.2.2).
    pub fn reply_address(&self, source: SocketAddr) -> SocketAddr {
        match self.param("rport") {
            Some(_) => source,
            None => SocketAddr::new(source.ip(), self.port.unwrap_or(5060)),
        }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIP/2.0/{} {}", self.transport, host_text(&self.host, self.port))?;
        for (name, value) in &self.params {
            match value {
                Some(value) => write!(f, ";{name}={value}")?,
                None => write!(f, ";{name}")?,
            }
        }
        Ok(())
    }
}

fn parse_headers<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Headers, MessageError> {
    let mut headers = Headers::default();
    let mut line_length = 0;
    for line in lines {
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(MessageError::HeaderLine);
        }
        if line.starts_with([' ', '\t']) {
            line_length += line.len();
            if line_length > MAX_HEADER_LINE {
                return Err(MessageError::TooManyHeaders);
            }
            if !headers.fold(line.trim()) {
                return Err(MessageError::HeaderLine);
            }
            continue;
        }
        line_length = line.len();
        if line_length > MAX_HEADER_LINE || headers.len() >= MAX_HEADERS {
            return Err(MessageError::TooManyHeaders);
        }
        let (name, value) = line.split_once(':').ok_or(MessageError::HeaderLine)?;
        let name = name.trim_end();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_graphic()) {
            return Err(MessageError::HeaderLine);
        }
        headers.push(name, value.trim());
    }
    Ok(headers)
}

fn content_length(headers: &Headers) -> Result<Option<usize>, MessageError> {
    let mut length = None;
    for value in headers.all("Content-Length") {
        if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
            return Err(MessageError::ContentLength);
        }
        let value = value.parse().map_err(|_| MessageError::ContentLength)?;
        if length.is_some_and(|length| length != value) {
            return Err(MessageError::ContentLength);
        }
        length = Some(value);
    }
    Ok(length)
}

fn encode(start_line: &str, headers: &Headers, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(512 + body.len());
    out.extend_from_slice(start_line.as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in headers.iter() {
        for part in [name, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    out.extend_from_slice(body);
    out
}

fn parse_cseq(headers: &Headers) -> Result<(u32, Method), MessageError> {
    const BAD: MessageError = MessageError::Header("CSeq");
    let mut words = headers.get("CSeq").ok_or(BAD)?.split_whitespace();
    let (Some(number), Some(method), None) = (words.next(), words.next(), words.next()) else {
        return Err(BAD);
    };
    // CSeq is below 2^31 (RFC 3261 §8.1.1.5).
    let number = number.parse().ok().filter(|number| *number < 1 << 31).ok_or(BAD)?;
    Ok((number, Method::parse(method).ok_or(BAD)?))
}

fn address(headers: &Headers, name: &'static str) -> Result<NameAddr, MessageError> {
    let value = headers.get(name).ok_or(MessageError::Header(name))?;
    NameAddr::parse(value).map_err(|_| MessageError::Header(name))
}

fn call_id(headers: &Headers) -> Result<&str, MessageError> {
    let id = headers.get("Call-ID").filter(|id| !id.is_empty() && id.len() <= 256);
    id.ok_or(MessageError::Header("Call-ID"))
}

fn top_via(headers: &Headers) -> Result<Via, MessageError> {
    Via::parse(headers.list("Via").next().ok_or(MessageError::Header("Via"))?)
}

/// How and from where a message came to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// UDP or TCP.
    pub transport: crate::Transport,
    /// The peer's address.
    pub source: SocketAddr,
    /// Our port, at the address the peer can reach us.
    pub local: SocketAddr,
}

impl Arrival {
    /// The peer's IP address.
    pub const fn ip(&self) -> IpAddr {
        self.source.ip()
    }
}

/// The standard reason phrase (RFC 3261 §21 and later).
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        484 => "Address Incomplete",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        _ => match status / 100 {
            1 => "Progress",
            2 => "Success",
            3 => "Redirection",
            4 => "Request Failure",
            5 => "Server Failure",
            _ => "Global Failure",
        },
    }
}

#[cfg(test)]
mod tests;
