//! The SDP in a message's body, alone or beside other parts.

use crate::{
    headers::Headers,
    sdp::{SdpError, SessionDescription},
};

/// The most parts of a multipart body.
const MAX_PARTS: usize = 16;

/// Why a body is no offer and no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// Nothing in it we understand: 415.
    Unsupported,
    /// SDP that cannot be read: 400.
    Malformed(SdpError),
}

/// The session description in a body; none when there is no body. Of `multipart/mixed` the SDP part counts: trunks
/// send ISUP, PIDF or location beside it (RFC 5621).
pub(crate) fn session_description(
    headers: &Headers,
    body: &[u8],
) -> Result<Option<SessionDescription>, BodyError> {
    if body.is_empty() {
        return Ok(None);
    }
    let encoded =
        headers.list("Content-Encoding").any(|encoding| !encoding.eq_ignore_ascii_case("identity"));
    if encoded {
        return Err(BodyError::Unsupported);
    }
    let content_type = headers.get("Content-Type").unwrap_or("application/sdp");
    let media_type = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let sdp = match media_type.as_str() {
        "application/sdp" => body,
        kind if kind.starts_with("multipart/") => {
            let boundary = boundary(content_type).ok_or(BodyError::Unsupported)?;
            sdp_part(body, boundary).ok_or(BodyError::Unsupported)?
        }
        _ => {
            let optional = headers.get("Content-Disposition").is_some_and(|disposition| {
                disposition.to_ascii_lowercase().contains("handling=optional")
            });
            return if optional { Ok(None) } else { Err(BodyError::Unsupported) };
        }
    };
    SessionDescription::parse(sdp).map(Some).map_err(BodyError::Malformed)
}

fn boundary(content_type: &str) -> Option<&str> {
    content_type.split(';').skip(1).find_map(|param| {
        let (name, value) = param.split_once('=')?;
        let value = value.trim().trim_matches('"');
        (name.trim().eq_ignore_ascii_case("boundary") && !value.is_empty() && value.len() <= 70)
            .then_some(value)
    })
}

/// The content of the first part of type `application/sdp`.
fn sdp_part<'a>(body: &'a [u8], boundary: &str) -> Option<&'a [u8]> {
    let delimiter = format!("--{boundary}").into_bytes();
    let starts = body
        .windows(delimiter.len())
        .enumerate()
        .filter(|(at, window)| *window == delimiter && (*at == 0 || body[at - 1] == b'\n'))
        .map(|(at, _)| at)
        .take(MAX_PARTS + 1)
        .collect::<Vec<_>>();
    starts.windows(2).find_map(|pair| {
        let part = &body[pair[0] + delimiter.len()..pair[1]];
        // The line end of the delimiter counts as an empty start line here.
        let (head, content) = crate::message::split_head(part)?;
        let head = String::from_utf8_lossy(head).to_ascii_lowercase();
        let is_sdp = head.lines().any(|line| {
            line.split_once(':').is_some_and(|(name, value)| {
                matches!(name.trim(), "content-type" | "c")
                    && value.trim().starts_with("application/sdp")
            })
        });
        is_sdp.then_some(content)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\ns=-\r\nc=IN IP4 1.2.3.4\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";

    fn parse(
        content_type: Option<&str>,
        body: &str,
    ) -> Result<Option<SessionDescription>, BodyError> {
        let mut headers = Headers::default();
        if let Some(content_type) = content_type {
            headers.push("c", content_type);
        }
        session_description(&headers, body.as_bytes())
    }

    #[test]
    fn sdp_alone_or_among_other_parts() {
        let multipart = format!(
            "preamble\r\n--b1\r\nContent-Type: application/isup\r\n\r\n\x01\x02\r\n--b1\r\nContent-Type: Application/SDP\r\nContent-Disposition: session\r\n\r\n{SDP}\r\n--b1--\r\n"
        );
        for (content_type, body) in [
            (Some("application/sdp"), SDP),
            (Some("APPLICATION/SDP; charset=utf-8"), SDP),
            (None, SDP),
            (Some("multipart/mixed; boundary=\"b1\""), &multipart),
        ] {
            let sdp = parse(content_type, body).unwrap().unwrap();
            assert_eq!(sdp.media[0].port, 9, "{content_type:?}");
        }
        assert_eq!(parse(Some("application/sdp"), ""), Ok(None));
    }

    #[test]
    fn other_bodies_are_refused() {
        for (content_type, body, error) in [
            ("text/plain", "hello", BodyError::Unsupported),
            ("multipart/mixed", "x", BodyError::Unsupported),
            (
                "multipart/mixed;boundary=b",
                "--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--",
                BodyError::Unsupported,
            ),
            (
                "multipart/mixed;boundary=b",
                "--b\r\nContent-Type: application/sdp",
                BodyError::Unsupported,
            ),
            ("application/sdp", "hello", BodyError::Malformed(SdpError::Version)),
        ] {
            assert_eq!(parse(Some(content_type), body), Err(error), "{content_type}");
        }
    }
}
