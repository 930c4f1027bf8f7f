//! Websocket frames as a server reads and writes them (RFC 6455 §5): bytes in, messages out, and no socket.

use bytes::{Buf, Bytes, BytesMut};

use crate::websocket::{Closure, MessageKind};

/// The least room kept for the next read: two frames of 20 ms of 48 kHz stereo.
const READ_ROOM: usize = 8 << 10;

/// A buffer that grew beyond this for one message is given back when the message is done.
const KEPT_BUFFER: usize = 64 << 10;

/// Longest payload of a control frame (RFC 6455 §5.5).
const MAX_CONTROL: usize = 125;

/// Longest header of a frame without a mask.
pub(crate) const MAX_HEADER: usize = 10;

/// Why a client's bytes are no websocket frames; `close_code` is what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A client has to mask (RFC 6455 §5.1).
    #[error("a frame without a mask")]
    Unmasked,
    /// Nothing was negotiated that could give a reserved bit or opcode a meaning.
    #[error("a frame of an extension that nobody agreed on")]
    Reserved,
    /// A ping, pong or close frame in pieces or with more than 125 bytes.
    #[error("a control frame that is fragmented or too long")]
    BadControl,
    /// A continuation of nothing, or a new message within another.
    #[error("a frame out of order")]
    OutOfOrder,
    /// The message would be longer than is allowed.
    #[error("a message of more than {limit} bytes")]
    TooLarge { limit: usize },
}

impl FrameError {
    /// The code of the close frame that says so (RFC 6455 §7.4.1).
    pub fn close_code(self) -> u16 {
        match self {
            Self::Unmasked | Self::Reserved | Self::BadControl | Self::OutOfOrder => 1002,
            Self::TooLarge { .. } => 1009,
        }
    }
}

/// One thing the client said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Framed {
    /// A whole message. Text is not checked to be UTF-8.
    Message { kind: MessageKind, bytes: Bytes },
    /// To be answered by a pong with the same bytes, at most 125.
    Ping(Bytes),
    /// The answer to a ping.
    Pong,
    /// The client closes; nothing after this counts.
    Close(Closure),
}

/// Cuts a client's byte stream into messages.
///
/// It allocates nothing once its buffer has grown, if each message is dropped before the next one is asked for.
/// Text that is no UTF-8 is passed on: `mod_audio_fork` cuts metadata at 8,192 bytes, within a character too, and caller
/// names are Latin-1 here and there. A call is worth more than RFC 6455 §8.1.
#[derive(Debug)]
pub struct FrameReader {
    buffer: BytesMut,
    limit: usize,
    /// The fragments of a message that is not whole yet.
    fragments: Option<(MessageKind, BytesMut)>,
    /// The buffer grew for a long message.
    grown: bool,
}

/// The header of a client's frame.
struct Header {
    is_final: bool,
    opcode: u8,
    mask: [u8; 4],
    /// Bytes of the header itself.
    header: usize,
    payload: usize,
}

impl FrameReader {
    /// A reader that refuses messages of more than `limit` bytes and begins with the bytes of `buffered`.
    pub fn new(limit: usize, buffered: &[u8]) -> Self {
        let mut buffer = BytesMut::with_capacity(buffered.len().max(READ_ROOM));
        buffer.extend_from_slice(buffered);
        Self { buffer, limit, fragments: None, grown: buffered.len() > KEPT_BUFFER }
    }

    /// Takes bytes of the stream.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.grown |= self.buffer.len() > KEPT_BUFFER;
    }

    /// The place to read more of the stream to, with some room at its end.
    pub(crate) fn space(&mut self) -> &mut BytesMut {
        if self.buffer.capacity() == self.buffer.len() {
            self.make_room(READ_ROOM);
        }
        &mut self.buffer
    }

    /// The kind of the message whose first frame has begun, also when it is not whole.
    pub fn begun(&self) -> Option<MessageKind> {
        if let Some((kind, _)) = &self.fragments {
            return Some(*kind);
        }
        self.buffer.first().and_then(|first| kind_of(first & 0x0F))
    }

    /// The next message that is whole; none when more bytes are needed. After an error nothing more is to be read.
    pub fn next_frame(&mut self) -> Result<Option<Framed>, FrameError> {
        loop {
            let Some(header) = self.header()? else {
                self.make_room_for_header();
                return Ok(None);
            };
            let whole = header.header + header.payload;
            if self.buffer.len() < whole {
                self.make_room(whole - self.buffer.len());
                return Ok(None);
            }
            self.buffer.advance(header.header);
            let mut payload = self.buffer.split_to(header.payload);
            unmask(&mut payload, header.mask);
            if header.opcode & 0x8 != 0 {
                return Ok(Some(control(header.opcode, payload)));
            }
            let message = match (self.fragments.take(), kind_of(header.opcode)) {
                (None, Some(kind)) if header.is_final => Some((kind, payload)),
                (None, Some(kind)) => {
                    // A copy, so that the fragments do not keep the read buffer from being used again.
                    self.fragments = Some((kind, BytesMut::from(&payload[..])));
                    None
                }
                (Some((kind, mut message)), None) => {
                    message.extend_from_slice(&payload);
                    if header.is_final {
                        Some((kind, message))
                    } else {
                        self.fragments = Some((kind, message));
                        None
                    }
                }
                (None, None) | (Some(_), Some(_)) => return Err(FrameError::OutOfOrder),
            };
            if let Some((kind, bytes)) = message {
                return Ok(Some(Framed::Message { kind, bytes: bytes.freeze() }));
            }
        }
    }

    /// Reads a frame's header (RFC 6455 §5.2) and checks it; none when it is not whole.
    fn header(&self) -> Result<Option<Header>, FrameError> {
        let &[first, second, ref rest @ ..] = &self.buffer[..] else { return Ok(None) };
        let opcode = first & 0x0F;
        let is_final = first & 0x80 != 0;
        if first & 0x70 != 0 || !matches!(opcode, 0x0..=0x2 | 0x8..=0xA) {
            return Err(FrameError::Reserved);
        }
        if second & 0x80 == 0 {
            return Err(FrameError::Unmasked);
        }
        let short = second & 0x7F;
        if opcode & 0x8 != 0 && (!is_final || usize::from(short) > MAX_CONTROL) {
            return Err(FrameError::BadControl);
        }
        let (payload, rest) = match short {
            126 => {
                let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
                (u64::from(u16::from_be_bytes(*length)), rest)
            }
            127 => {
                let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
                (u64::from_be_bytes(*length), rest)
            }
            _ => (u64::from(short), rest),
        };
        let so_far = if opcode & 0x8 == 0 {
            self.fragments.as_ref().map_or(0, |(_, message)| message.len())
        } else {
            0
        };
        let payload = usize::try_from(payload)
            .ok()
            .filter(|payload| payload.saturating_add(so_far) <= self.limit.max(MAX_CONTROL))
            .ok_or(FrameError::TooLarge { limit: self.limit })?;
        let Some((mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let header = self.buffer.len() - rest.len();
        Ok(Some(Header { is_final, opcode, mask: *mask, header, payload }))
    }

    fn make_room_for_header(&mut self) {
        if self.buffer.is_empty() && self.grown {
            self.grown = false;
            self.buffer = BytesMut::new();
        }
        self.make_room(READ_ROOM);
    }

    fn make_room(&mut self, bytes: usize) {
        self.grown |= self.buffer.len() + bytes > KEPT_BUFFER;
        self.buffer.reserve(bytes);
    }
}

fn kind_of(opcode: u8) -> Option<MessageKind> {
    match opcode {
        0x1 => Some(MessageKind::Text),
        0x2 => Some(MessageKind::Binary),
        _ => None,
    }
}

fn control(opcode: u8, payload: BytesMut) -> Framed {
    match opcode {
        0x9 => Framed::Ping(payload.freeze()),
        0xA => Framed::Pong,
        _ => Framed::Close(match payload.split_first_chunk() {
            Some((code, reason)) => Closure {
                code: Some(u16::from_be_bytes(*code)),
                reason: String::from_utf8_lossy(reason).into_owned(),
            },
            // No code in the frame (RFC 6455 §7.1.5).
            None => Closure { code: Some(1005), reason: String::new() },
        }),
    }
}

/// RFC 6455 §5.3, a word at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let word = u32::from_ne_bytes(mask);
    let (words, rest) = payload.as_chunks_mut::<4>();
    for bytes in words {
        *bytes = (u32::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// What an unfragmented, unmasked frame says.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Opcode {
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xA,
}

impl From<MessageKind> for Opcode {
    fn from(kind: MessageKind) -> Self {
        match kind {
            MessageKind::Text => Self::Text,
            MessageKind::Binary => Self::Binary,
        }
    }
}

/// The header of a whole frame with `payload` bytes, as a server writes it; `MAX_HEADER` bytes at most.
pub(crate) fn header(opcode: Opcode, payload: usize, header: &mut [u8; MAX_HEADER]) -> &[u8] {
    header[0] = 0x80 | opcode as u8;
    let length = match payload {
        0..126 => {
            header[1] = payload as u8;
            2
        }
        126..65_536 => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(payload as u16).to_be_bytes());
            4
        }
        _ => {
            header[1] = 127;
            header[2..10].copy_from_slice(&(payload as u64).to_be_bytes());
            10
        }
    };
    &header[..length]
}

/// A close frame as a server writes it; a reason of more than 123 bytes is cut.
pub fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    let end = reason.len().min(MAX_CONTROL - 2);
    let end = (0..=end).rfind(|end| reason.is_char_boundary(*end)).unwrap_or(0);
    let mut frame = Vec::with_capacity(4 + end);
    frame.extend_from_slice(header(Opcode::Close, 2 + end, &mut [0; MAX_HEADER]));
    frame.extend_from_slice(&code.to_be_bytes());
    frame.extend_from_slice(&reason.as_bytes()[..end]);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..126 => frame.push(0x80 | length as u8),
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn message(kind: MessageKind, bytes: &[u8]) -> Framed {
        Framed::Message { kind, bytes: Bytes::copy_from_slice(bytes) }
    }

    #[test]
    fn messages_come_out_however_the_bytes_arrive() {
        let long: Vec<_> = (0..70_000).map(|at| at as u8).collect();
        let stream = [
            masked(0x81, b"whole"),
            masked(0x02, b"in "),
            masked(0x89, b"ping"),
            masked(0x80, b"two"),
            masked(0x82, &long),
            masked(0x82, b""),
            masked(0x8A, b"ping"),
            masked(0x88, &[0x03, 0xE8, b'o', b'k']),
            masked(0x88, &[]),
        ]
        .concat();
        let closed = |code, reason: &str| {
            Framed::Close(Closure { code: Some(code), reason: reason.to_owned() })
        };
        for piece in [1, 3, 1_000, stream.len()] {
            let mut reader = FrameReader::new(LIMIT, &[]);
            let mut frames = Vec::new();
            for bytes in stream.chunks(piece) {
                reader.extend(bytes);
                while let Some(frame) = reader.next_frame().unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(
                frames,
                [
                    message(MessageKind::Text, b"whole"),
                    Framed::Ping(Bytes::from_static(b"ping")),
                    message(MessageKind::Binary, b"in two"),
                    message(MessageKind::Binary, &long),
                    message(MessageKind::Binary, b""),
                    Framed::Pong,
                    closed(1000, "ok"),
                    closed(1005, ""),
                ],
                "{piece} bytes at a time"
            );
        }
    }

    #[test]
    fn a_message_is_known_by_its_first_byte() {
        for (bytes, kind) in [
            (vec![], None),
            (masked(0x81, b"x")[..1].to_vec(), Some(MessageKind::Text)),
            (masked(0x82, b"x")[..1].to_vec(), Some(MessageKind::Binary)),
            (masked(0x89, b"x")[..1].to_vec(), None),
            ([masked(0x02, b"x"), vec![0x89]].concat(), Some(MessageKind::Binary)),
        ] {
            let mut reader = FrameReader::new(LIMIT, &bytes);
            assert_eq!(reader.next_frame(), Ok(None));
            assert_eq!(reader.begun(), kind, "{bytes:?}");
        }
    }

    #[test]
    fn a_long_messages_room_is_given_back() {
        let mut reader = FrameReader::new(LIMIT, &[]);
        reader.extend(&masked(0x82, &[7; 400_000]));
        assert!(matches!(reader.next_frame(), Ok(Some(Framed::Message { .. }))));
        assert_eq!(reader.next_frame(), Ok(None));
        assert!(reader.buffer.capacity() <= KEPT_BUFFER, "{}", reader.buffer.capacity());
        reader.extend(&masked(0x81, b"after"));
        assert_eq!(reader.next_frame(), Ok(Some(message(MessageKind::Text, b"after"))));
    }

    #[test]
    fn a_length_alone_takes_no_room_beyond_the_limit() {
        let mut reader = FrameReader::new(1_000, &[]);
        reader.extend(&masked(0x82, &[0; 1_001])[..14]);
        assert_eq!(reader.next_frame(), Err(FrameError::TooLarge { limit: 1_000 }));
        assert!(reader.buffer.capacity() <= READ_ROOM, "{}", reader.buffer.capacity());
    }

    #[test]
    fn arbitrary_bytes_end_in_an_error_or_a_wait() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut reader = FrameReader::new(300, &[]);
            for _ in 0..random.usize(..6) {
                let mut bytes = vec![0; random.usize(..40)];
                random.fill(&mut bytes);
                if random.bool() {
                    bytes = masked(random.u8(..), &bytes);
                }
                reader.extend(&bytes);
                while let Ok(Some(frame)) = reader.next_frame() {
                    if let Framed::Message { bytes, .. } = frame {
                        assert!(bytes.len() <= 300);
                    }
                }
            }
            assert!(reader.buffer.capacity() <= 2 * READ_ROOM);
        }
    }

    #[test]
    fn headers_and_goodbyes_are_written_as_a_server_does() {
        for (payload, expected) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 0xFF, 0xFF]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            assert_eq!(header(Opcode::Binary, payload, &mut [0; MAX_HEADER]), expected);
        }
        assert_eq!(close_frame(1000, ""), [0x88, 2, 0x03, 0xE8]);
        let long = close_frame(1008, &"ü".repeat(100));
        assert_eq!(long[..4], [0x88, 2 + 122, 0x03, 0xF0]);
        assert_eq!(str::from_utf8(&long[4..]), Ok(&"ü".repeat(61)[..]));
    }
}
