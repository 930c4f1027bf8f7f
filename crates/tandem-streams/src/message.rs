//! What a fork's leg sends over its websocket.

use tandem_media::SampleRate;

/// One websocket message to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Audio.
    Binary(&'a [u8]),
    /// One JSON object; UTF-8.
    Text(&'a [u8]),
    /// A close frame, code 1000. Nothing comes after it.
    Close,
}

/// Empties the module's playout buffer and breaks what the channel plays.
pub(crate) const KILL_AUDIO: &str = r#"{"type":"killAudio"}"#;

/// Writes a mark with the name `number`.
pub(crate) fn write_mark(number: u64, text: &mut Vec<u8>) {
    text.clear();
    text.extend_from_slice(br#"{"type":"mark","data":{"name":""#);
    write_number(number, text);
    text.extend_from_slice(br#""}}"#);
}

/// How the two modules spell a message that carries audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AudioMessage {
    /// `playAudio` of `mod_audio_fork`.
    PlayAudio,
    /// `streamAudio` of `mod_audio_stream`.
    StreamAudio,
}

impl AudioMessage {
    /// Writes `pcm`, little-endian bytes at `rate`, as one message, named `id` if it has one.
    pub(crate) fn write(self, rate: SampleRate, id: Option<u64>, pcm: &[u8], text: &mut Vec<u8>) {
        let (head, audio) = match self {
            Self::PlayAudio => (
                r#"{"type":"playAudio","data":{"audioContentType":"raw","sampleRate":"#,
                r#","audioContent":""#,
            ),
            Self::StreamAudio => (
                r#"{"type":"streamAudio","data":{"audioDataType":"raw","sampleRate":"#,
                r#","audioData":""#,
            ),
        };
        text.clear();
        text.extend_from_slice(head.as_bytes());
        write_number(rate.hz() as u64, text);
        if let Some(id) = id {
            text.extend_from_slice(br#","id":""#);
            write_number(id, text);
            text.push(b'"');
        }
        text.extend_from_slice(audio.as_bytes());
        let start = text.len();
        text.resize(start + base64_simd::STANDARD.encoded_length(pcm.len()), 0);
        let _ = base64_simd::STANDARD.encode(pcm, base64_simd::Out::from_slice(&mut text[start..]));
        text.extend_from_slice(br#""}}"#);
    }
}

/// Appends `number` in decimal digits.
fn write_number(number: u64, text: &mut Vec<u8>) {
    let start = text.len();
    let mut rest = number;
    loop {
        text.push(b'0' + (rest % 10) as u8);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    text[start..].reverse();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_the_modules_own() {
        let mut text = Vec::new();
        write_mark(1_070, &mut text);
        assert_eq!(text, br#"{"type":"mark","data":{"name":"1070"}}"#);
        write_mark(0, &mut text);
        assert_eq!(text, br#"{"type":"mark","data":{"name":"0"}}"#);
        AudioMessage::PlayAudio.write(SampleRate::Hz16000, Some(7), &[0, 0, 1, 0], &mut text);
        assert_eq!(
            String::from_utf8_lossy(&text),
            r#"{"type":"playAudio","data":{"audioContentType":"raw","sampleRate":16000,"id":"7","audioContent":"AAABAA=="}}"#
        );
        AudioMessage::StreamAudio.write(SampleRate::Hz8000, None, &[0, 0, 1, 0], &mut text);
        assert_eq!(
            String::from_utf8_lossy(&text),
            r#"{"type":"streamAudio","data":{"audioDataType":"raw","sampleRate":8000,"audioData":"AAABAA=="}}"#
        );
    }
}
