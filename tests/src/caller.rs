//! The caller's phone: RTP packets of speech, silence and digits.

use tandem_call::Digit;
use tandem_media::{AudioFormat, Law};
use tandem_rtp::{RtpPacket, TelephoneEvent};
use tandem_sim::{caller_silence, caller_speech};

/// Payload type of telephone-event in every call.
pub(crate) const TELEPHONE_EVENT: u8 = 101;

const MU: AudioFormat = AudioFormat::G711(Law::Mu);

/// What the caller's side sends in one packet time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sound {
    /// A packet of silence.
    Silence,
    /// A packet of speech.
    Speech,
    /// No packet at all.
    Nothing,
    /// A packet of a digit's telephone-event: packets of it before this one, and whether it is the last but for
    /// repetitions.
    Digit { digit: Digit, packet: u16, end: bool },
}

/// Makes the caller's packets, one stream of PCMU.
#[derive(Debug)]
pub struct Caller {
    sequence: u16,
    timestamp: u32,
    digit_began: u32,
    speech: Vec<u8>,
    silence: Vec<u8>,
}

impl Default for Caller {
    fn default() -> Self {
        Self {
            sequence: 1,
            timestamp: 160,
            digit_began: 0,
            speech: caller_speech(MU, 20),
            silence: caller_silence(MU, 20),
        }
    }
}

impl Caller {
    /// The datagram for the next 20 ms, if there is one.
    pub fn packet(&mut self, sound: Sound) -> Option<Vec<u8>> {
        let time = self.timestamp;
        self.timestamp = self.timestamp.wrapping_add(160);
        let mut event = [0; 4];
        let (payload_type, timestamp, payload) = match sound {
            Sound::Nothing => return None,
            Sound::Silence => (0, time, self.silence.as_slice()),
            Sound::Speech => (0, time, self.speech.as_slice()),
            Sound::Digit { digit, packet, end } => {
                if packet == 0 {
                    self.digit_began = time;
                }
                let duration = (packet + 1) * 160;
                event.copy_from_slice(
                    &TelephoneEvent { event: digit.event(), end, volume: 10, duration }.to_bytes(),
                );
                (TELEPHONE_EVENT, self.digit_began, event.as_slice())
            }
        };
        let mut datagram = Vec::with_capacity(172);
        RtpPacket {
            marker: false,
            payload_type,
            sequence: self.sequence,
            timestamp,
            ssrc: 0xCA11,
            csrc: &[],
            extension: None,
            payload,
            padding: 0,
        }
        .write(&mut datagram);
        self.sequence = self.sequence.wrapping_add(1);
        Some(datagram)
    }
}
