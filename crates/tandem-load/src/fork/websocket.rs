//! Websockets with nothing between frame and socket: the upgrade, frames out of prebuilt bytes, frames in where they lie.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// One upgrade may take this long.
const UPGRADE_WITHIN: Duration = Duration::from_secs(10);

/// What one read may bring.
const READ: usize = 32 << 10;

/// Nobody here looks at a key twice.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODw==";

/// What masks the frames of a client. The peer has to unmask them, whatever it is.
const MASK: [u8; 4] = [0xA5, 0x3C, 0x96, 0x5B];

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    const fn of(byte: u8) -> Option<Self> {
        Some(match byte & 0x0F {
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }
}

/// A websocket after its upgrade.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    /// What was read of it.
    pub(crate) frames: Frames,
}

impl Connection {
    /// Connects to `address` and asks for `target`, with the head that FreeSWITCH's module sends.
    pub(crate) fn open(address: SocketAddr, target: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        prepare(&stream)?;
        let host = address.ip();
        let head = format!(
            "GET {target} HTTP/1.1\r\nPragma: no-cache\r\nCache-Control: no-cache\r\nHost: {host}\r\n\
             Origin: http://{host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n\
             Sec-WebSocket-Protocol: audio.drachtio.org\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        let mut frames = Frames::default();
        let head = frames.take_head(&mut stream)?;
        if !head.starts_with("HTTP/1.1 101 ") {
            return Err(io::Error::other(head.lines().next().unwrap_or_default().to_owned()));
        }
        Ok(Self { stream, frames })
    }

    /// Answers whatever upgrade `stream` asks for.
    pub(crate) fn accept(mut stream: TcpStream) -> io::Result<Self> {
        prepare(&stream)?;
        let mut frames = Frames::default();
        frames.take_head(&mut stream)?;
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            derive_accept_key(KEY.as_bytes())
        );
        stream.write_all(head.as_bytes())?;
        Ok(Self { stream, frames })
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(UPGRADE_WITHIN))?;
    stream.set_write_timeout(Some(UPGRADE_WITHIN))
}

/// The frames that have come. None of the peers here splits a message into several.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Frames {
    /// Reads once; 0 is the end of the stream.
    pub(crate) fn read(&mut self, stream: &mut impl Read) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.bytes.len() < self.end + READ {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            self.bytes.resize(self.bytes.len().max(self.end + READ), 0);
        }
        let read = stream.read(&mut self.bytes[self.end..])?;
        self.end += read;
        Ok(read)
    }

    /// The next whole frame, unmasked in its place. A frame of a kind that nobody sends is an error.
    pub(crate) fn next_frame(&mut self) -> io::Result<Option<(Opcode, &[u8])>> {
        let waiting = &mut self.bytes[self.start..self.end];
        let Some(header) = Header::read(waiting) else { return Ok(None) };
        let Some(frame) = waiting.get_mut(header.length..header.length + header.payload) else {
            return Ok(None);
        };
        self.start += header.length + header.payload;
        let opcode = Opcode::of(header.first)
            .filter(|_| header.first & 0xF0 == 0x80)
            .ok_or(io::ErrorKind::InvalidData)?;
        if let Some(mask) = header.mask {
            apply(mask, frame);
        }
        Ok(Some((opcode, frame)))
    }

    /// Reads up to the end of an HTTP head and returns it.
    fn take_head(&mut self, stream: &mut TcpStream) -> io::Result<String> {
        loop {
            let waiting = &self.bytes[self.start..self.end];
            if let Some(at) = memchr::memmem::find(waiting, b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&waiting[..at]).into_owned();
                self.start += at + 4;
                return Ok(head);
            }
            if self.read(stream)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

struct Header {
    first: u8,
    mask: Option<[u8; 4]>,
    length: usize,
    payload: usize,
}

impl Header {
    /// RFC 6455 §5.2.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (&[first, second], rest) = bytes.split_first_chunk::<2>()?;
        let (payload, rest) = match second & 0x7F {
            126 => {
                let (length, rest) = rest.split_first_chunk::<2>()?;
                (usize::from(u16::from_be_bytes(*length)), rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk::<8>()?;
                (usize::try_from(u64::from_be_bytes(*length)).ok()?, rest)
            }
            length => (usize::from(length), rest),
        };
        let (mask, rest) = if second & 0x80 == 0 {
            (None, rest)
        } else {
            let (mask, rest) = rest.split_first_chunk::<4>()?;
            (Some(*mask), rest)
        };
        Some(Self { first, mask, length: bytes.len() - rest.len(), payload })
    }
}

/// A client's frame.
pub(crate) fn masked_frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    append_masked(opcode, payload.len(), &mut frame);
    frame.extend_from_slice(payload);
    mask_payload(&mut frame, payload.len());
    frame
}

/// Appends the head of a client's frame; its payload follows, and [`mask_payload`] when that is written.
pub(crate) fn append_masked(opcode: Opcode, length: usize, frame: &mut Vec<u8>) {
    frame.push(0x80 | opcode as u8);
    match length {
        ..=125 => frame.push(0x80 | length as u8),
        126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
}

/// Masks the last `length` bytes of `frame`, which are its payload.
pub(crate) fn mask_payload(frame: &mut [u8], length: usize) {
    let start = frame.len() - length;
    apply(MASK, &mut frame[start..]);
}

/// Writes `bytes` to the front of the payload of a client's frame whose head is `head` bytes long.
pub(crate) fn rewrite_masked(frame: &mut [u8], head: usize, bytes: &[u8]) {
    let place = &mut frame[head..head + bytes.len()];
    place.copy_from_slice(bytes);
    apply(MASK, place);
}

fn apply(mask: [u8; 4], bytes: &mut [u8]) {
    let mask = u32::from_ne_bytes(mask);
    let (words, rest) = bytes.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ mask).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.to_ne_bytes()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn frames_are_read_back_however_they_are_cut() {
        let long = vec![7; 70_000];
        let sent = [
            (Opcode::Text, &b"{}"[..]),
            (Opcode::Binary, &[5; 640]),
            (Opcode::Ping, &[]),
            (Opcode::Binary, &long),
            (Opcode::Close, &[3, 232]),
        ];
        let stream: Vec<u8> =
            sent.iter().flat_map(|(opcode, payload)| masked_frame(*opcode, payload)).collect();
        for piece in [1, 3, 641, 100_000] {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for mut bytes in stream.chunks(piece) {
                while !bytes.is_empty() {
                    frames.read(&mut bytes).unwrap();
                }
                while let Some((opcode, payload)) = frames.next_frame().unwrap() {
                    found.push((opcode, payload.to_vec()));
                }
            }
            let expected: Vec<_> =
                sent.iter().map(|(opcode, payload)| (*opcode, payload.to_vec())).collect();
            assert_eq!(found, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_servers_frame_and_a_rewritten_one_are_read() {
        let mut frames = Frames::default();
        frames.read(&mut &[0x82, 2, 8, 9][..]).unwrap();
        assert_eq!(frames.next_frame().unwrap(), Some((Opcode::Binary, &[8, 9][..])));
        let mut frame = masked_frame(Opcode::Binary, &[0; 640]);
        rewrite_masked(&mut frame, 8, &[1, 2, 3, 4, 5, 6]);
        frames.read(&mut frame.as_slice()).unwrap();
        let (_, payload) = frames.next_frame().unwrap().unwrap();
        assert_eq!(payload[..8], [1, 2, 3, 4, 5, 6, 0, 0]);
        frames.read(&mut &[0x03, 0][..]).unwrap();
        assert!(frames.next_frame().is_err());
    }

    #[test]
    fn an_upgrade_is_taken_or_told_why_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            Connection::accept(stream).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(b"HTTP/1.1 401 Unauthorized\r\n\r\n").unwrap();
        });
        assert!(Connection::open(address, "/fork").is_ok());
        let refused = Connection::open(address, "/fork").err().unwrap();
        assert_eq!(refused.to_string(), "HTTP/1.1 401 Unauthorized");
        server.join().unwrap();
    }
}
