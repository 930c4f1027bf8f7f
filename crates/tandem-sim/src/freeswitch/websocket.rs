//! Websocket frames as a client reads and writes them (RFC 6455 §5), and the handshakes of the modules.

use std::io::Cursor;

use bytes::{Buf, BufMut, BytesMut};
use tokio_tungstenite::tungstenite::{
    handshake::derive_accept_key,
    protocol::frame::{
        FrameHeader,
        coding::{Control, Data, OpCode},
    },
};

use super::fork_module::{Edition, ForkMessage};

/// Largest message taken from a server.
const MOST_MESSAGE: usize = 64 << 20;

/// What a server sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FromServer {
    Text(String),
    Binary(BytesMut),
    Ping(BytesMut),
    Pong,
    /// Code and reason; 1005 without a code (RFC 6455 §7.1.5).
    Close(u16, String),
}

/// The server's bytes are no websocket frames.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadFrame(&'static str);

/// Cuts a server's byte stream into messages.
#[derive(Debug, Default)]
pub(crate) struct ServerFrames {
    pub(crate) buffer: BytesMut,
    fragments: Option<(bool, BytesMut)>,
}

impl ServerFrames {
    /// The next complete message, none when more bytes are needed.
    pub(crate) fn next_message(&mut self) -> Result<Option<FromServer>, BadFrame> {
        loop {
            let mut cursor = Cursor::new(&self.buffer[..]);
            let header =
                FrameHeader::parse(&mut cursor).map_err(|_| BadFrame("malformed frame"))?;
            let Some((header, length)) = header else { return Ok(None) };
            let header_length = cursor.position() as usize;
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > MOST_MESSAGE {
                return Err(BadFrame("frame too large"));
            }
            if header.mask.is_some() {
                return Err(BadFrame("masked frame"));
            }
            if self.buffer.len() < header_length + length {
                return Ok(None);
            }
            self.buffer.advance(header_length);
            let payload = self.buffer.split_to(length);
            match header.opcode {
                OpCode::Control(Control::Ping) => return Ok(Some(FromServer::Ping(payload))),
                OpCode::Control(Control::Pong) => return Ok(Some(FromServer::Pong)),
                OpCode::Control(_) => {
                    let (code, reason) = match payload.split_first_chunk() {
                        Some((code, reason)) => (u16::from_be_bytes(*code), reason),
                        None => (1005, &[][..]),
                    };
                    return Ok(Some(FromServer::Close(
                        code,
                        String::from_utf8_lossy(reason).into_owned(),
                    )));
                }
                OpCode::Data(Data::Continue) => {
                    let (text, mut message) =
                        self.fragments.take().ok_or(BadFrame("continuation of nothing"))?;
                    message.extend_from_slice(&payload);
                    if message.len() > MOST_MESSAGE {
                        return Err(BadFrame("message too large"));
                    }
                    if header.is_final {
                        return Ok(Some(message_of(text, message)));
                    }
                    self.fragments = Some((text, message));
                }
                OpCode::Data(kind) => {
                    let text = kind == Data::Text;
                    if header.is_final {
                        return Ok(Some(message_of(text, payload)));
                    }
                    self.fragments = Some((text, payload));
                }
            }
        }
    }
}

fn message_of(text: bool, payload: BytesMut) -> FromServer {
    if text {
        FromServer::Text(String::from_utf8_lossy(&payload).into_owned())
    } else {
        FromServer::Binary(payload)
    }
}

/// Appends a message to `out`, masked as a client's frames are.
pub(crate) fn put_message(message: &ForkMessage, mask: [u8; 4], out: &mut BytesMut) {
    match message {
        ForkMessage::Text(text) => put(OpCode::Data(Data::Text), text.as_bytes(), mask, out),
        ForkMessage::Binary(bytes) => put(OpCode::Data(Data::Binary), bytes, mask, out),
        ForkMessage::Ping => put(OpCode::Control(Control::Ping), b"ping", mask, out),
        ForkMessage::Close { code, reason } => put_close(*code, reason, mask, out),
    }
}

/// Appends a pong to `out`.
pub(crate) fn put_pong(payload: &[u8], mask: [u8; 4], out: &mut BytesMut) {
    put(OpCode::Control(Control::Pong), &payload[..payload.len().min(125)], mask, out);
}

/// Appends a close frame to `out`; 1005 stands for one without a code.
pub(crate) fn put_close(code: u16, reason: &str, mask: [u8; 4], out: &mut BytesMut) {
    let mut payload = if code == 1005 { Vec::new() } else { code.to_be_bytes().to_vec() };
    if code != 1005 {
        payload.extend(reason.bytes().take(123));
    }
    put(OpCode::Control(Control::Close), &payload, mask, out);
}

fn put(opcode: OpCode, payload: &[u8], mask: [u8; 4], out: &mut BytesMut) {
    let header = FrameHeader { is_final: true, opcode, mask: Some(mask), ..FrameHeader::default() };
    header
        .format(payload.len() as u64, &mut out.writer())
        .expect("writing to memory does not fail");
    out.reserve(payload.len());
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Where a fork's URL leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForkUrl {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// From the first slash on, query included.
    pub(crate) path: String,
    pub(crate) tls: bool,
}

impl ForkUrl {
    /// Reads a URL as the modules do: everything from the first slash on is the path.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let tls = match scheme {
            "ws" | "WS" | "http" | "HTTP" => false,
            "wss" | "WSS" | "https" | "HTTPS" => true,
            _ => return None,
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let usual = if tls { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (authority, usual),
        };
        if host.is_empty() {
            return None;
        }
        Some(Self { host: host.to_owned(), port, path: path.to_owned(), tls })
    }
}

/// The request of a module, byte for byte as it writes it.
pub(crate) fn request_head(
    edition: Edition,
    url: &ForkUrl,
    key: &str,
    basic: Option<&(String, String)>,
    headers: &[(String, String)],
) -> String {
    let ForkUrl { host, port, path, .. } = url;
    if edition.is_fork() {
        let mut head = format!(
            "GET {path} HTTP/1.1\r\nPragma: no-cache\r\nCache-Control: no-cache\r\nHost: {host}\r\nOrigin: http://{host}\r\n\
             Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n\
             Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\nSec-WebSocket-Version: 13\r\n"
        );
        if let Some((user, password)) = basic {
            let secret = base64_simd::STANDARD.encode_to_string(format!("{user}:{password}"));
            // The module has room for 128 bytes, and connects without credentials when that is too little.
            if secret.len() + 6 < 128 {
                head.push_str(&format!("authorization: Basic {secret}\r\n"));
            }
        }
        return head + "\r\n";
    }
    let mut head = format!(
        "GET {path} HTTP/1.1\r\nHost:{host}:{port}\r\nUpgrade:websocket\r\nConnection:upgrade\r\nSec-WebSocket-Key:{key}\r\n\
         Sec-WebSocket-Version:13\r\nOrigin:http://{host}:{port}\r\n"
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}:{value}\r\n"));
    }
    head + "\r\n"
}

/// What mod_audio_fork offers unless its environment says otherwise.
const SUBPROTOCOL: &str = "audio.drachtio.org";

/// What came of a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answered {
    Accepted,
    /// The same request is to be made there.
    Redirected(String),
    /// With the words of the module's library.
    Refused(&'static str),
}

/// Judges a server's response head as the module does.
pub(crate) fn judge(edition: Edition, key: &str, head: &str) -> Answered {
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_owned();
    let header = |wanted: &str| {
        let found = lines.clone().filter_map(|line| line.split_once(':'));
        found
            .filter(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.trim())
            .next()
    };
    if !edition.is_fork() {
        // The community edition does not look at the accept key.
        return if status == "101" {
            Answered::Accepted
        } else {
            Answered::Refused("WebSocket upgrade failed")
        };
    }
    match (status.as_str(), header("location")) {
        ("101", _) => {}
        ("301" | "302" | "303" | "307" | "308", Some(location)) => {
            return Answered::Redirected(location.to_owned());
        }
        ("401", _) => return Answered::Refused("HS: ws upgrade unauthorized"),
        _ => return Answered::Refused("HS: ws upgrade response not 101"),
    }
    if header("sec-websocket-protocol").is_some_and(|protocol| protocol != SUBPROTOCOL) {
        return Answered::Refused("HS: PROTOCOL malformed");
    }
    if header("sec-websocket-accept") != Some(&derive_accept_key(key.as_bytes())) {
        return Answered::Refused("HS: Accept hash wrong");
    }
    Answered::Accepted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_those_of_the_captures() {
        let url = ForkUrl::parse("ws://127.0.0.1:9900/fork").unwrap();
        let login = ("alice".to_owned(), "s3cret".to_owned());
        assert_eq!(
            request_head(Edition::Jambonz, &url, "N9Hhz5axcQD3JjvKNWdRYA==", Some(&login), &[]),
            "GET /fork HTTP/1.1\r\nPragma: no-cache\r\nCache-Control: no-cache\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\n\
             Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: N9Hhz5axcQD3JjvKNWdRYA==\r\n\
             Sec-WebSocket-Protocol: audio.drachtio.org\r\nSec-WebSocket-Version: 13\r\nauthorization: Basic YWxpY2U6czNjcmV0\r\n\r\n"
        );
        let url = ForkUrl::parse("ws://127.0.0.1:9900/stream?a=1").unwrap();
        let headers = [("Authorization", "Bearer tok123"), ("X-Call", "abc")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(
            request_head(Edition::Stream, &url, "jjdYt5yPN1BnSRAabQDbvg==", None, &headers),
            "GET /stream?a=1 HTTP/1.1\r\nHost:127.0.0.1:9900\r\nUpgrade:websocket\r\nConnection:upgrade\r\n\
             Sec-WebSocket-Key:jjdYt5yPN1BnSRAabQDbvg==\r\nSec-WebSocket-Version:13\r\nOrigin:http://127.0.0.1:9900\r\n\
             Authorization:Bearer tok123\r\nX-Call:abc\r\n\r\n"
        );
    }

    #[test]
    fn urls_are_cut_at_the_first_slash() {
        let parsed = |url| ForkUrl::parse(url).map(|url| (url.host, url.port, url.path, url.tls));
        let some =
            |host: &str, port, path: &str, tls| Some((host.to_owned(), port, path.to_owned(), tls));
        assert_eq!(
            parsed("ws://h:9900/a/b?tok=abc&x=%20y"),
            some("h", 9900, "/a/b?tok=abc&x=%20y", false)
        );
        assert_eq!(parsed("http://127.0.0.1:9900"), some("127.0.0.1", 9900, "/", false));
        assert_eq!(parsed("wss://voice.example.net/x"), some("voice.example.net", 443, "/x", true));
        assert_eq!(parsed("ftp://h/x"), None);
    }

    #[test]
    fn answers_are_judged_as_the_modules_judge_them() {
        let key = "6NVtZGnOqhy2LsHZQZ1wvQ==";
        let good = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: EL6NCb2Nzqk+Gp2/Mxe4BCeGqDs=\r\n";
        let with = |line: &str| format!("{good}{line}\r\n");
        for (edition, head, answer) in [
            (Edition::Jambonz, good.to_owned(), Answered::Accepted),
            (
                Edition::Jambonz,
                with("Sec-WebSocket-Protocol: audio.drachtio.org"),
                Answered::Accepted,
            ),
            (
                Edition::Jambonz,
                with("Sec-WebSocket-Protocol: other"),
                Answered::Refused("HS: PROTOCOL malformed"),
            ),
            (
                Edition::Jambonz,
                "HTTP/1.1 101 x\r\n".into(),
                Answered::Refused("HS: Accept hash wrong"),
            ),
            (Edition::Stream, "HTTP/1.1 101 x\r\n".into(), Answered::Accepted),
            (
                Edition::Jambonz,
                "HTTP/1.1 401 x\r\n".into(),
                Answered::Refused("HS: ws upgrade unauthorized"),
            ),
            (
                Edition::Drachtio,
                "HTTP/1.1 503 x\r\n".into(),
                Answered::Refused("HS: ws upgrade response not 101"),
            ),
            (
                Edition::Stream,
                "HTTP/1.1 403 x\r\n".into(),
                Answered::Refused("WebSocket upgrade failed"),
            ),
            (
                Edition::Jambonz,
                "HTTP/1.1 302 x\r\nLocation: ws://h/2\r\n".into(),
                Answered::Redirected("ws://h/2".into()),
            ),
        ] {
            assert_eq!(judge(edition, key, &head), answer, "{head}");
        }
    }

    #[test]
    fn messages_come_out_however_the_bytes_arrive() {
        let stream = b"\x01\x03{\"a\x89\x02hi\x80\x04\":1}\x82\x02\x01\x02\x88\x05\x03\xe8bye";
        for piece in [1, 5, stream.len()] {
            let mut frames = ServerFrames::default();
            let mut messages = Vec::new();
            for bytes in stream.chunks(piece) {
                frames.buffer.extend_from_slice(bytes);
                while let Some(message) = frames.next_message().unwrap() {
                    messages.push(message);
                }
            }
            assert_eq!(
                messages,
                [
                    FromServer::Ping(BytesMut::from("hi")),
                    FromServer::Text("{\"a\":1}".into()),
                    FromServer::Binary(BytesMut::from(&[1, 2][..])),
                    FromServer::Close(1000, "bye".into()),
                ]
            );
        }
    }
}
