//! The caller's phone: RTP packets of speech, silence, digits and tones.

use tandem_call::Digit;
use tandem_media::{AudioFormat, Law, g711};
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
    /// A packet of a digit's tone.
    Tone { digit: Digit },
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
        let mut tone = [0; 160];
        let (payload_type, timestamp, payload) = match sound {
            Sound::Nothing => return None,
            Sound::Silence => (0, time, self.silence.as_slice()),
            Sound::Speech => (0, time, self.speech.as_slice()),
            Sound::Tone { digit } => {
                write_tone(digit, time, &mut tone);
                (0, time, tone.as_slice())
            }
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

/// 20 ms of a digit's tone from the sample `start` on (ITU-T Q.23), at -10 dBm0 a line.
fn write_tone(digit: Digit, start: u32, payload: &mut [u8; 160]) {
    const KEYS: &str = "123A456B789C*0#D";
    let key = KEYS.find(digit.as_char()).expect("every digit has a key");
    let low = [697.0, 770.0, 852.0, 941.0][key / 4];
    let high = [1_209.0, 1_336.0, 1_477.0, 1_633.0][key % 4];
    let pcm: [i16; 160] = std::array::from_fn(|n| {
        let time = (f64::from(start) + n as f64) / 8_000.0;
        let line = |hz: f64| (std::f64::consts::TAU * hz * time).sin();
        (7_200.0 * (line(low) + line(high))) as i16
    });
    g711::encode(Law::Mu, &pcm, payload);
}
