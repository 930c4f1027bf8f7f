//! What the user agent whose place we take did, as orders to Tandem.

use std::time::Duration;

use tandem_call::{HangupCause, TransferKind, TransferTarget};
use tandem_sip::{
    Rejection,
    message::{Message, Method, Request, Response},
    sdp::SessionDescription,
};

/// An order that makes Tandem do what the recorded user agent did.
#[derive(Debug)]
pub(crate) enum Order {
    Call,
    Progress,
    Accept,
    Reject(Rejection),
    HangUp(HangupCause),
    Hold(bool),
    Transfer(TransferTarget),
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Call => f.write_str("call"),
            Self::Progress => f.write_str("progress"),
            Self::Accept => f.write_str("accept"),
            Self::Reject(rejection) => write!(f, "reject {}", rejection.status),
            Self::HangUp(cause) => write!(f, "hang up {}", cause.name()),
            Self::Hold(true) => f.write_str("hold"),
            Self::Hold(false) => f.write_str("resume"),
            Self::Transfer(target) => write!(f, "transfer to {}", target.target),
        }
    }
}

impl Order {
    /// None where Tandem does the same by itself, or never does such a thing (INFO, UPDATE at will).
    pub(crate) fn of(message: &Message) -> Option<Self> {
        match message {
            Message::Request(request) => Self::of_request(request),
            Message::Response(response) => Self::of_response(response),
        }
    }

    fn of_request(request: &Request) -> Option<Self> {
        let in_dialog = request.to().is_ok_and(|to| to.tag().is_some());
        match request.method {
            Method::Invite if !in_dialog => Some(Self::Call),
            Method::Invite => match direction(&request.body)? {
                "sendonly" | "inactive" => Some(Self::Hold(true)),
                _ => Some(Self::Hold(false)),
            },
            Method::Bye => Some(Self::HangUp(HangupCause::NormalClearing)),
            Method::Cancel => Some(Self::HangUp(HangupCause::NoAnswer)),
            Method::Refer => {
                let target = request.headers.get("Refer-To")?.trim_matches(['<', '>']).to_owned();
                Some(Self::Transfer(TransferTarget::new(TransferKind::Sip, target)))
            }
            _ => None,
        }
    }

    fn of_response(response: &Response) -> Option<Self> {
        let (_, method) = response.cseq().ok()?;
        match response.status {
            _ if method != Method::Invite => None,
            100 | 487 => None,
            101..200 => Some(Self::Progress),
            200..300 => Some(Self::Accept),
            status => Some(Self::Reject(Rejection::status(status))),
        }
    }
}

/// The direction of a description; it is both ways where nothing is said.
pub(crate) fn direction(body: &[u8]) -> Option<&'static str> {
    let text = std::str::from_utf8(body).ok().filter(|text| !text.is_empty())?;
    let said = |word: &&str| text.lines().any(|line| line.strip_prefix("a=") == Some(word));
    Some(["sendonly", "recvonly", "inactive"].into_iter().find(said).unwrap_or("sendrecv"))
}

/// A message in a line: status or method, payload types and direction of its description, session interval.
pub(crate) fn line(message: &Message) -> String {
    let (mut line, headers, body) = match message {
        Message::Request(request) => (request.method.to_string(), &request.headers, &request.body),
        Message::Response(response) => {
            let (_, method) = response.cseq().unwrap();
            (format!("{} {method}", response.status), &response.headers, &response.body)
        }
    };
    if let Some(direction) = direction(body).filter(|_| body.starts_with(b"v=0")) {
        let sdp = SessionDescription::parse(body).unwrap();
        line += &format!(" [{} {direction}]", sdp.media[0].formats.join(" "));
    } else if body.starts_with(b"SIP/2.0") {
        line += &format!(" ({})", String::from_utf8_lossy(body).trim());
    }
    if let Some(timer) = headers.get("Session-Expires") {
        line += &format!(" {}", timer.replace(";refresher=", "/"));
    }
    line
}

/// The session interval the recorded user agent answered with, if it did.
pub(crate) fn answered_interval(message: &Message) -> Option<Duration> {
    let Message::Response(response) = message else { return None };
    let seconds = response.headers.get("Session-Expires")?.split(';').next()?;
    Some(Duration::from_secs(seconds.parse().ok()?))
}
