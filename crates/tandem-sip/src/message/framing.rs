//! Where messages begin and end, and what can be read of one that is broken.

use super::{MAX_HEADERS, MAX_MESSAGE, MessageError, Method, Request, content_length, parse_cseq};
use crate::{
    headers::{Headers, long_name},
    uri::Uri,
};

/// Headers up to the empty line, and what follows it.
pub(crate) fn split_head(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut line_start = 0;
    while let Some(length) = bytes[line_start..].iter().position(|&byte| byte == b'\n') {
        let line = &bytes[line_start..line_start + length];
        if line_start > 0 && (line.is_empty() || line == b"\r") {
            return Some((&bytes[..line_start - 1], &bytes[line_start + length + 1..]));
        }
        line_start += length + 1;
    }
    None
}

/// One message at the start of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Bytes it takes.
    pub(crate) length: usize,
    /// It says so itself: what follows it can be trusted to begin there.
    pub(crate) is_sure: bool,
}

/// The message at the start of a stream, once its headers are complete. Streams need a Content-Length (RFC 3261
/// §18.3); without one there is no body. Other headers may be unreadable.
pub(crate) fn stream_frame(bytes: &[u8]) -> Result<Option<Frame>, MessageError> {
    let Some((head, body)) = split_head(bytes) else {
        return if bytes.len() > MAX_MESSAGE { Err(MessageError::TooLong) } else { Ok(None) };
    };
    let text = String::from_utf8_lossy(head);
    let said = content_length(&readable_headers(&text))?;
    let length = (bytes.len() - body.len()).saturating_add(said.unwrap_or(0));
    if length > MAX_MESSAGE {
        return Err(MessageError::TooLong);
    }
    Ok(Some(Frame { length, is_sure: said.is_some() }))
}

/// The headers of `head` that framing and an answer need, as far as they can be read.
fn readable_headers(head: &str) -> Headers {
    const NEEDED: [&str; 6] = ["Via", "From", "To", "Call-ID", "CSeq", "Content-Length"];
    let mut headers = Headers::default();
    let mut is_needed = false;
    for line in head.split('\n').skip(1).map(|line| line.strip_suffix('\r').unwrap_or(line)) {
        if line.chars().any(|c| c.is_control() && c != '\t') {
            is_needed = false;
            continue;
        }
        if line.starts_with([' ', '\t']) {
            // Never false: what is needed stands last.
            is_needed = is_needed && headers.fold(line.trim());
            continue;
        }
        let Some((name, value)) = line.split_once(':') else {
            is_needed = false;
            continue;
        };
        let name = long_name(name.trim_end());
        is_needed = NEEDED.iter().any(|needed| name.eq_ignore_ascii_case(needed));
        if is_needed && headers.len() < MAX_HEADERS {
            headers.push(name, value.trim());
        }
    }
    headers
}

impl Request {
    /// What can be read of a request that cannot be read as a whole: enough of it to answer with 400 (RFC 3261
    /// §18.3, RFC 4475 §3). None of responses, of ACK, and where a header is missing that the answer copies.
    pub(crate) fn salvage(bytes: &[u8]) -> Option<Self> {
        let (head, _) = split_head(&bytes[..bytes.len().min(MAX_MESSAGE)])?;
        let head = String::from_utf8_lossy(head);
        let start_line = head.split('\n').next()?.trim_end_matches('\r');
        let (method, rest) = start_line.split_once(' ')?;
        if !rest.ends_with("SIP/2.0") {
            return None;
        }
        let method = Method::parse(method).filter(|method| *method != Method::Ack)?;
        let mut request = Self::new(method, Uri::parse("sip:unreadable.invalid").ok()?);
        request.headers = readable_headers(&head);
        let is_answerable = request.via().is_ok()
            && request.from().is_ok()
            && request.to().is_ok()
            && request.call_id().is_ok()
            && parse_cseq(&request.headers).is_ok();
        is_answerable.then_some(request)
    }
}
