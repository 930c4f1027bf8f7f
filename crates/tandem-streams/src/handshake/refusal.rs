//! Why a connection does not become a fork, and what it is told.

use std::fmt::Write;

use super::access::Denied;
use crate::Dialect;

/// Why an upgrade is answered by something else than 101.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    BadRequest(&'static str),
    Method,
    Version,
    TooLarge,
    /// The head was not there in time.
    Slow,
    Unauthorized(Denied),
    NotFound,
    /// Too many connections in their handshake, or from one source.
    Busy,
}

impl Refusal {
    /// The whole HTTP response. It repeats nothing of the request.
    pub(crate) fn response(self, prefix: &str) -> Vec<u8> {
        let (status, header, body) = match self {
            Self::BadRequest(why) => ("400 Bad Request", "", why.to_owned()),
            Self::Method => {
                ("405 Method Not Allowed", "Allow: GET\r\n", "only GET is understood".to_owned())
            }
            Self::Version => (
                "426 Upgrade Required",
                "Sec-WebSocket-Version: 13\r\n",
                "only version 13 of websockets is understood".to_owned(),
            ),
            Self::TooLarge => {
                ("431 Request Header Fields Too Large", "", "the head is too long".to_owned())
            }
            Self::Slow => ("408 Request Timeout", "", "the request took too long".to_owned()),
            Self::Unauthorized(denied) => (
                "401 Unauthorized",
                "WWW-Authenticate: Basic realm=\"tandem\", charset=\"UTF-8\"\r\nWWW-Authenticate: Bearer\r\n",
                denied.to_string(),
            ),
            Self::NotFound => ("404 Not Found", "", paths(prefix)),
            Self::Busy => (
                "503 Service Unavailable",
                "Retry-After: 1\r\n",
                "too many connections at once".to_owned(),
            ),
        };
        format!(
            "HTTP/1.1 {status}\r\n{header}Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}\n",
            body.len() + 1
        )
        .into_bytes()
    }
}

fn paths(prefix: &str) -> String {
    let mut text = "no fork is taken at this path, but at these:".to_owned();
    for dialect in Dialect::ALL {
        write!(text, "\n{prefix}{}", dialect.path()).expect("a String takes everything");
    }
    text
}

/// Why a connection did not become an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was answered with an HTTP status.
    Refused(Refusal),
    /// The peer left before it was answered.
    Left,
    /// The peer closed the websocket before it said anything of use.
    Closed,
    /// The websocket was opened and then nothing came.
    Silent,
    /// What came on the websocket were no frames, or metadata without end.
    BadFrames,
}
