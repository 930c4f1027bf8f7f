//! Audio inside JSON without a JSON tree: base64 in and out of reused buffers, and a scanner for the one shape in
//! which audio usually comes. What the scanner does not know it leaves to a real parser.

use base64_simd::{AsOut, STANDARD};
use bytes::BytesMut;
use memchr::memchr2;
use tandem_call::ItemId;
use tandem_media::AudioFormat;

/// A decode buffer larger than this is given back after the message that needed it.
const KEEP: usize = 1 << 20;

/// Bytes of a number that are looked at; a longer one is not what was expected.
const MAX_LITERAL: usize = 64;

/// Members and elements that are stepped over in all; a message of more is not what was expected.
const MAX_STEPS: usize = 64;

/// Appends `prefix`, `audio` in base64 and `suffix` to `message`.
pub(crate) fn append_audio(message: &mut BytesMut, prefix: &str, audio: &[u8], suffix: &str) {
    let encoded = STANDARD.encoded_length(audio.len());
    message.reserve(prefix.len() + encoded + suffix.len());
    message.extend_from_slice(prefix.as_bytes());
    let start = message.len();
    message.resize(start + encoded, 0);
    let _ = STANDARD.encode(audio, message[start..].as_out());
    message.extend_from_slice(suffix.as_bytes());
}

/// The base64 of a piece of audio is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadAudio;

/// Decodes pieces of audio into whole samples: a sample cut in two by the server is put together again.
#[derive(Debug, Default)]
pub(crate) struct AudioDecoder {
    bytes: Vec<u8>,
    half: Option<(ItemId, u8)>,
}

impl AudioDecoder {
    /// The whole samples that `base64` completes, as bytes of `format`.
    pub(crate) fn decode(
        &mut self,
        item: ItemId,
        format: AudioFormat,
        base64: &[u8],
    ) -> Result<&[u8], BadAudio> {
        let most = base64.len() / 4 * 3 + 4;
        if self.bytes.capacity() > KEEP && most < KEEP {
            self.bytes = Vec::new();
        }
        if self.bytes.len() < most {
            self.bytes.resize(most, 0);
        }
        let mut length = 0;
        if let Some((of, half)) = self.half.take()
            && of == item
            && format.bytes_per_sample() == 2
        {
            self.bytes[0] = half;
            length = 1;
        }
        length += match STANDARD.decode(base64, self.bytes[length..].as_out()) {
            Ok(decoded) => decoded.len(),
            Err(_) => {
                // Padding left out, or line breaks inside: rare enough to allocate.
                let loose = base64_simd::forgiving_decode_to_vec(base64).map_err(|_| BadAudio)?;
                self.bytes[length..length + loose.len()].copy_from_slice(&loose);
                loose.len()
            }
        };
        if !length.is_multiple_of(format.bytes_per_sample()) {
            length -= 1;
            self.half = Some((item, self.bytes[length]));
        }
        Ok(&self.bytes[..length])
    }
}

/// Walks over JSON of a known shape. Every method says `None` when the text is not what was expected.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    steps: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, steps: 0 }
    }

    /// The next byte that is no white space; it stays.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while matches!(self.bytes.get(self.at)?, b' ' | b'\t' | b'\r' | b'\n') {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    /// Steps over `byte`.
    pub(crate) fn expect(&mut self, byte: u8) -> Option<()> {
        if self.peek()? != byte {
            return None;
        }
        self.at += 1;
        Some(())
    }

    /// A string without escapes.
    pub(crate) fn string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let rest = &self.bytes[self.at..];
        let end = memchr2(b'"', b'\\', rest)?;
        if rest[end] == b'\\' {
            return None;
        }
        self.at += end + 1;
        Some(&rest[..end])
    }

    /// A key and its colon.
    pub(crate) fn key(&mut self) -> Option<&'a [u8]> {
        let key = self.string()?;
        self.expect(b':')?;
        Some(key)
    }

    /// A number, `true`, `false` or `null`, as it is written.
    pub(crate) fn literal(&mut self) -> Option<&'a [u8]> {
        self.peek()?;
        let rest = &self.bytes[self.at..];
        let length = rest
            .iter()
            .take(MAX_LITERAL)
            .take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
            .count();
        self.at += length;
        (length > 0).then(|| &rest[..length])
    }

    /// After a member or an element: `true` when another follows, `false` after `close`.
    pub(crate) fn more(&mut self, close: u8) -> Option<bool> {
        match self.peek()? {
            b',' if self.steps < MAX_STEPS => {
                self.steps += 1;
                self.at += 1;
                Some(true)
            }
            byte if byte == close => {
                self.at += 1;
                Some(false)
            }
            _ => None,
        }
    }

    /// Nothing but white space is left.
    pub(crate) fn end(&mut self) -> Option<()> {
        self.peek().is_none().then_some(())
    }
}

/// The text of the member `name` of an object, if nothing before it is nested or has escapes.
pub(crate) fn leading_text<'a>(payload: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut scanner = Scanner::new(payload);
    scanner.expect(b'{')?;
    loop {
        if scanner.key()? == name {
            return scanner.string();
        }
        if scanner.peek()? == b'"' {
            scanner.string()?;
        } else {
            scanner.literal()?;
        }
        if !scanner.more(b'}')? {
            return None;
        }
    }
}

/// The first key of an object.
pub(crate) fn first_key(payload: &[u8]) -> Option<&[u8]> {
    let mut scanner = Scanner::new(payload);
    scanner.expect(b'{')?;
    scanner.key()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_media::{Law, SampleRate};

    const PCM: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz24000);
    const MU: AudioFormat = AudioFormat::G711(Law::Mu);

    #[test]
    fn audio_goes_in_and_comes_out() {
        for length in [0, 1, 2, 3, 160, 161, 640, 12_000] {
            let audio: Vec<u8> = (0..length).map(|n| (n * 7) as u8).collect();
            let mut message = BytesMut::new();
            append_audio(&mut message, "<", &audio, ">");
            let base64 = &message[1..message.len() - 1];
            let mut decoder = AudioDecoder::default();
            assert_eq!(decoder.decode(ItemId(1), MU, base64), Ok(&audio[..]), "{length}");
        }
    }

    #[test]
    fn a_sample_cut_in_two_is_joined_within_its_item_only() {
        let mut decoder = AudioDecoder::default();
        let encode = |bytes: &[u8]| STANDARD.encode_to_string(bytes).into_bytes();
        assert_eq!(decoder.decode(ItemId(1), PCM, &encode(&[1, 2, 3])), Ok(&[1, 2][..]));
        assert_eq!(decoder.decode(ItemId(1), PCM, &encode(&[4, 5, 6])), Ok(&[3, 4, 5, 6][..]));
        assert_eq!(decoder.decode(ItemId(1), PCM, &encode(&[7])), Ok(&[][..]));
        assert_eq!(decoder.decode(ItemId(2), PCM, &encode(&[8, 9])), Ok(&[8, 9][..]));
    }

    #[test]
    fn unusual_base64_is_read_and_broken_base64_refused() {
        let mut decoder = AudioDecoder::default();
        assert_eq!(decoder.decode(ItemId(1), MU, b"AQI"), Ok(&[1, 2][..]));
        assert_eq!(decoder.decode(ItemId(1), MU, b"AQ\nID"), Ok(&[1, 2, 3][..]));
        assert_eq!(decoder.decode(ItemId(1), MU, b"A*ID"), Err(BadAudio));
    }

    #[test]
    fn a_huge_message_leaves_no_huge_buffer_behind() {
        let mut decoder = AudioDecoder::default();
        let huge = STANDARD.encode_to_string(vec![0; 3 << 20]);
        assert_eq!(decoder.decode(ItemId(1), MU, huge.as_bytes()).map(<[u8]>::len), Ok(3 << 20));
        decoder.decode(ItemId(1), MU, b"AQID").expect("valid base64");
        assert!(decoder.bytes.capacity() < KEEP);
    }

    #[test]
    fn the_scanner_stops_at_what_it_does_not_know() {
        let mut scanner = Scanner::new(br#" { "a" : "b\"" } "#);
        assert_eq!(scanner.expect(b'{'), Some(()));
        assert_eq!(scanner.key(), Some(&b"a"[..]));
        assert_eq!(scanner.string(), None);
        assert_eq!(Scanner::new(b"\"open").string(), None);
        assert_eq!(Scanner::new(b"-1.5e3,").literal(), Some(&b"-1.5e3"[..]));
        assert_eq!(Scanner::new(b"  ").end(), Some(()));
        assert_eq!(Scanner::new(&[b'1'; 100]).literal().map(<[u8]>::len), Some(MAX_LITERAL));
        let commas = [b','; 100];
        let mut scanner = Scanner::new(&commas);
        assert_eq!(std::iter::from_fn(|| scanner.more(b']')).count(), MAX_STEPS);
    }

    #[test]
    fn the_kind_of_a_message_is_seen_at_its_beginning() {
        for (text, kind) in [
            (r#" {"type":"error","x":[[["#, Some("error")),
            (r#"{"event_id":"e","n":1,"type" : "t""#, Some("t")),
            (r#"{"x":{},"type":"t"}"#, None),
            (r#"{"x":1}"#, None),
            (r#"{"type":1}"#, None),
            ("[", None),
        ] {
            assert_eq!(leading_text(text.as_bytes(), b"type"), kind.map(str::as_bytes), "{text}");
        }
        assert_eq!(first_key(br#"{ "goAway":{"#), Some(&b"goAway"[..]));
        assert_eq!(first_key(b"{}"), None);
    }
}
