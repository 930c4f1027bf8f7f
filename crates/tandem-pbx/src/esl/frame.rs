//! Frames: header blocks with bodies, from a stream of bytes.

use super::EventHeaders;

/// Longest header block; a channel's own, in answer to `connect`, is 10 to 40 KiB.
const MAX_HEAD: usize = 1 << 20;
/// Longest body that is kept; a longer one is skipped, and its frame comes without.
const MAX_BODY: usize = 4 << 20;
/// Longest body that is skipped.
const MAX_SKIPPED: usize = 1 << 30;

/// What the switch sends that is no event socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a header block of more than {MAX_HEAD} bytes")]
    HeadTooLong,
    #[error("a body of {length:?} bytes")]
    BadLength { length: String },
}

/// What a frame is, by its Content-Type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    AuthRequest,
    CommandReply,
    ApiResponse,
    EventJson,
    EventPlain,
    EventXml,
    LogData,
    DisconnectNotice,
    RudeRejection,
    Other,
}

/// One message of the switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The header block as it came, without the empty line.
    head: Vec<u8>,
    /// The body; empty when it was too long.
    pub(crate) body: Vec<u8>,
    /// Whether the body was too long to be kept.
    pub(crate) skipped: bool,
}

impl Frame {
    /// What it is.
    pub(crate) fn kind(&self) -> FrameKind {
        match self.header("Content-Type") {
            Some(b"auth/request") => FrameKind::AuthRequest,
            Some(b"command/reply") => FrameKind::CommandReply,
            Some(b"api/response") => FrameKind::ApiResponse,
            Some(b"text/event-json") => FrameKind::EventJson,
            Some(b"text/event-plain") => FrameKind::EventPlain,
            Some(b"text/event-xml") => FrameKind::EventXml,
            Some(b"log/data") => FrameKind::LogData,
            Some(b"text/disconnect-notice") => FrameKind::DisconnectNotice,
            Some(b"text/rude-rejection") => FrameKind::RudeRejection,
            _ => FrameKind::Other,
        }
    }

    /// The value of a header as it came. Names are compared in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&[u8]> {
        header(&self.head, name)
    }

    /// The text of `Reply-Text`; it is URL-encoded in the answer to `connect`, where the channel's headers are the
    /// reply's.
    pub(crate) fn reply_text(&self) -> String {
        let text =
            String::from_utf8_lossy(self.header("Reply-Text").unwrap_or_default()).into_owned();
        match text.strip_prefix("%2B") {
            Some(rest) => format!("+{}", rest.replace("%0A", "")),
            None => text,
        }
    }

    /// The header block as headers with URL-encoded values: a channel's own.
    pub(crate) fn channel_headers(&self) -> EventHeaders {
        EventHeaders::from_lines(&self.head, true).0
    }

    /// The event in it; `None` when it is none, or can't be read.
    pub(crate) fn event(&self) -> Option<EventHeaders> {
        match self.kind() {
            FrameKind::EventJson => EventHeaders::from_json(&self.body),
            FrameKind::EventPlain => {
                let (headers, rest) = EventHeaders::from_lines(&self.body, true);
                let length =
                    headers.get("Content-Length").and_then(|length| length.parse::<usize>().ok());
                let body =
                    length.map(|length| String::from_utf8_lossy(&rest[..length.min(rest.len())]));
                let pairs = headers.iter().chain(body.as_deref().map(|body| ("_body", body)));
                Some(EventHeaders::from_pairs(pairs))
            }
            _ => None,
        }
    }
}

fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|b| *b == b'\n').find_map(|line| {
        let colon = line.iter().position(|b| *b == b':')?;
        let value = line[colon + 1..].trim_ascii();
        line[..colon].eq_ignore_ascii_case(name.as_bytes()).then_some(value)
    })
}

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    buffer: Vec<u8>,
    /// Where in the buffer the frame being read begins.
    start: usize,
    /// Where the line begins at which looking for the end of the header block goes on.
    looked: usize,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    /// The header block is read; the body begins at `body` of the buffer.
    Body {
        head: Vec<u8>,
        length: usize,
    },
    Skip {
        head: Vec<u8>,
        left: usize,
    },
}

impl FrameReader {
    /// Takes bytes; whole frames wait in `next`.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.looked -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame. After an error the stream can't be followed any more.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            let available = self.buffer.len() - self.start;
            match &mut self.state {
                State::Head => {
                    let Some(head) = self.head()? else { return Ok(None) };
                    let length = match header(&head, "Content-Length") {
                        None => 0,
                        Some(length) => parse_length(length)?,
                    };
                    self.state = if length > MAX_BODY {
                        State::Skip { head, left: length }
                    } else {
                        State::Body { head, length }
                    };
                }
                State::Body { length, .. } if available < *length => return Ok(None),
                State::Body { head, length } => {
                    let (head, length) = (std::mem::take(head), *length);
                    let body = self.buffer[self.start..self.start + length].to_vec();
                    self.consume(length);
                    self.state = State::Head;
                    return Ok(Some(Frame { head, body, skipped: false }));
                }
                State::Skip { head, left } => {
                    let skipped = available.min(*left);
                    *left -= skipped;
                    let done = (*left == 0).then(|| std::mem::take(head));
                    self.consume(skipped);
                    let Some(head) = done else { return Ok(None) };
                    self.state = State::Head;
                    return Ok(Some(Frame { head, body: Vec::new(), skipped: true }));
                }
            }
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        self.looked = self.start;
    }

    /// The header block up to an empty line; empty lines before it are nothing.
    fn head(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        while let Some(length) = self.buffer[self.looked..].iter().position(|b| *b == b'\n') {
            let (line_start, line_end) = (self.looked, self.looked + length);
            let line = &self.buffer[line_start..line_end];
            self.looked = line_end + 1;
            if !matches!(line, b"" | b"\r") {
                continue;
            }
            let head = self.start..line_start;
            self.start = self.looked;
            if head.len() > MAX_HEAD {
                return Err(FrameError::HeadTooLong);
            }
            if !head.is_empty() {
                return Ok(Some(self.buffer[head].to_vec()));
            }
        }
        if self.buffer.len() - self.start > MAX_HEAD {
            return Err(FrameError::HeadTooLong);
        }
        Ok(None)
    }
}

fn parse_length(length: &[u8]) -> Result<usize, FrameError> {
    let text = String::from_utf8_lossy(&length[..length.len().min(32)]).into_owned();
    match text.parse::<usize>() {
        Ok(length) if length <= MAX_SKIPPED => Ok(length),
        _ => Err(FrameError::BadLength { length: text }),
    }
}

#[cfg(test)]
mod tests;
