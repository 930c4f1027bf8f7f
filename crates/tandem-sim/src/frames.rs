//! Websocket frames as a server reads and writes them (RFC 6455 §5), with the freedom to write them badly.

use std::io::Cursor;

use bytes::{Buf, BufMut, BytesMut};
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

/// Largest message taken from a client.
const MAX_MESSAGE: usize = 16 << 20;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Message(BytesMut),
    Ping(BytesMut),
    Pong,
    /// With code and reason, if there were any.
    Close(Option<(u16, String)>),
}

/// Why a client's bytes are no websocket frames.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame without a mask")]
    Unmasked,
    #[error("a message larger than 16 MiB")]
    TooLarge,
    #[error("a frame out of order")]
    OutOfOrder,
    #[error("malformed frame: {0}")]
    Malformed(#[from] Box<tokio_tungstenite::tungstenite::Error>),
}

/// Cuts a client's byte stream into messages.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    pub(crate) buffer: BytesMut,
    fragments: Option<BytesMut>,
}

impl FrameReader {
    /// The next complete message, none when more bytes are needed.
    pub(crate) fn next_message(&mut self) -> Result<Option<Incoming>, FrameError> {
        loop {
            let mut cursor = Cursor::new(&self.buffer[..]);
            let header = FrameHeader::parse(&mut cursor).map_err(Box::new)?;
            let Some((header, length)) = header else { return Ok(None) };
            let header_length = cursor.position() as usize;
            let length = usize::try_from(length).map_err(|_| FrameError::TooLarge)?;
            if length + self.fragments.as_ref().map_or(0, BytesMut::len) > MAX_MESSAGE {
                return Err(FrameError::TooLarge);
            }
            let mask = header.mask.ok_or(FrameError::Unmasked)?;
            if self.buffer.len() < header_length + length {
                self.buffer.reserve(header_length + length - self.buffer.len());
                return Ok(None);
            }
            self.buffer.advance(header_length);
            let mut payload = self.buffer.split_to(length);
            for (index, byte) in payload.iter_mut().enumerate() {
                *byte ^= mask[index % 4];
            }
            match header.opcode {
                OpCode::Control(Control::Ping) => return Ok(Some(Incoming::Ping(payload))),
                OpCode::Control(Control::Pong) => return Ok(Some(Incoming::Pong)),
                OpCode::Control(_) => return Ok(Some(Incoming::Close(close_of(&payload)))),
                OpCode::Data(Data::Continue) => {
                    let mut message = self.fragments.take().ok_or(FrameError::OutOfOrder)?;
                    message.extend_from_slice(&payload);
                    if header.is_final {
                        return Ok(Some(Incoming::Message(message)));
                    }
                    self.fragments = Some(message);
                }
                OpCode::Data(_) if self.fragments.is_some() => return Err(FrameError::OutOfOrder),
                OpCode::Data(_) if header.is_final => return Ok(Some(Incoming::Message(payload))),
                OpCode::Data(_) => self.fragments = Some(payload),
            }
        }
    }
}

fn close_of(payload: &[u8]) -> Option<(u16, String)> {
    let (code, reason) = payload.split_first_chunk()?;
    Some((u16::from_be_bytes(*code), String::from_utf8_lossy(reason).into_owned()))
}

/// How messages are put into frames.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Framing {
    pub(crate) binary: bool,
    /// Most payload bytes in a frame; 0 puts every message into one.
    pub(crate) fragment: usize,
    pub(crate) ping_between: bool,
}

impl Framing {
    /// Appends `message` to `out`.
    pub(crate) fn message(self, message: &[u8], out: &mut BytesMut) {
        let kind = OpCode::Data(if self.binary { Data::Binary } else { Data::Text });
        let size = if self.fragment == 0 { message.len().max(1) } else { self.fragment };
        let mut pieces = message.chunks(size).peekable();
        if pieces.peek().is_none() {
            frame(kind, true, &[], out);
        }
        let mut opcode = kind;
        while let Some(piece) = pieces.next() {
            let last = pieces.peek().is_none();
            frame(opcode, last, piece, out);
            if self.ping_between && !last {
                control(Control::Ping, b"between", out);
            }
            opcode = OpCode::Data(Data::Continue);
        }
    }
}

/// Appends a control frame to `out`; a payload longer than 125 bytes is cut.
pub(crate) fn control(kind: Control, payload: &[u8], out: &mut BytesMut) {
    frame(OpCode::Control(kind), true, &payload[..payload.len().min(125)], out);
}

/// Appends a close frame to `out`; the reason is cut at 123 bytes.
pub(crate) fn close(code: u16, reason: &str, out: &mut BytesMut) {
    let mut payload = code.to_be_bytes().to_vec();
    let end = (0..=reason.len().min(123)).rfind(|end| reason.is_char_boundary(*end)).unwrap_or(0);
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    control(Control::Close, &payload, out);
}

fn frame(opcode: OpCode, is_final: bool, payload: &[u8], out: &mut BytesMut) {
    let header = FrameHeader { is_final, opcode, ..FrameHeader::default() };
    header
        .format(payload.len() as u64, &mut out.writer())
        .expect("writing to memory does not fail");
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut frame = vec![first, 0x80 | payload.len() as u8];
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]));
        frame
    }

    #[test]
    fn messages_come_out_however_the_bytes_arrive() {
        let stream = [
            masked(0x81, b"whole"),
            masked(0x01, b"in "),
            masked(0x89, b"ping"),
            masked(0x80, b"two"),
            masked(0x88, &[0x03, 0xE8, b'o', b'k']),
        ]
        .concat();
        for piece in [1, 3, stream.len()] {
            let mut reader = FrameReader::default();
            let mut messages = Vec::new();
            for bytes in stream.chunks(piece) {
                reader.buffer.extend_from_slice(bytes);
                while let Some(message) = reader.next_message().unwrap() {
                    messages.push(message);
                }
            }
            assert_eq!(
                messages,
                [
                    Incoming::Message(BytesMut::from("whole")),
                    Incoming::Ping(BytesMut::from("ping")),
                    Incoming::Message(BytesMut::from("in two")),
                    Incoming::Close(Some((1000, "ok".into()))),
                ]
            );
        }
    }

    #[test]
    fn bytes_that_are_no_client_frames_are_errors() {
        for (name, bytes) in [
            ("no mask", vec![0x81, 0x01, b'x']),
            ("continuation of nothing", masked(0x80, b"x")),
            ("new message inside another", [masked(0x01, b"x"), masked(0x81, b"y")].concat()),
            ("unknown opcode", masked(0x83, b"x")),
            ("endless", vec![0x81, 0xFF, 0x7F, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]),
        ] {
            let mut reader = FrameReader::default();
            reader.buffer.extend_from_slice(&bytes);
            let result = loop {
                match reader.next_message() {
                    Ok(Some(_)) => {}
                    other => break other,
                }
            };
            assert!(result.is_err(), "{name}");
        }
    }
}
