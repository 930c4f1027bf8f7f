//! Sends digits as telephone-events (RFC 4733 §2.5.1).

use std::collections::VecDeque;

use tandem_call::Digit;

use crate::TelephoneEvent;

/// Digits that may wait.
pub const MAX_QUEUED_DIGITS: usize = 64;

/// Tones in a second: one lasts at least 100 ms, in whole packets.
const TONES_PER_SECOND: u32 = 10;

/// Pauses in a second: there are at least 50 ms between two tones.
const PAUSES_PER_SECOND: u32 = 20;

/// The last packet is sent three times (RFC 4733 §2.5.1.4).
const END_PACKETS: u8 = 3;

/// Level in -dBm0.
const VOLUME: u8 = 10;

/// Why digits were not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendDigitsError {
    /// The peer's SDP has no telephone-event.
    #[error("telephone-event is not negotiated")]
    NotNegotiated,
    /// Too many wait already; none was taken.
    #[error("more than {MAX_QUEUED_DIGITS} digits would wait")]
    TooMany,
}

/// One packet to send in place of audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPacket {
    /// The beginning of the event.
    pub timestamp: u32,
    /// Set on the first packet.
    pub marker: bool,
    /// The payload.
    pub event: TelephoneEvent,
}

/// A queue of digits that takes over packets of the audio's grid.
#[derive(Debug)]
pub struct DigitSender {
    /// Of timestamps.
    clock_hz: u32,
    duration_hz: u32,
    waiting: VecDeque<Digit>,
    sending: Option<Sending>,
    /// Timestamp before which no tone may begin.
    pause_until: Option<u32>,
}

#[derive(Debug)]
struct Sending {
    event: u8,
    timestamp: u32,
    ends_sent: u8,
}

impl Default for DigitSender {
    /// One with a clock of 8 kHz.
    fn default() -> Self {
        Self {
            clock_hz: 8_000,
            duration_hz: 8_000,
            waiting: VecDeque::new(),
            sending: None,
            pause_until: None,
        }
    }
}

impl DigitSender {
    /// Timestamps count `clock_hz` ticks per second from now on and durations `duration_hz`; a digit that is being sent
    /// breaks off when this is new.
    pub fn set_clocks(&mut self, clock_hz: u32, duration_hz: u32) {
        if (clock_hz, duration_hz) != (self.clock_hz, self.duration_hz) {
            (self.clock_hz, self.duration_hz) = (clock_hz, duration_hz);
            (self.sending, self.pause_until) = (None, None);
        }
    }

    /// Queues `digits`, all or none.
    pub fn push(&mut self, digits: &[Digit]) -> Result<(), SendDigitsError> {
        if self.waiting.len() + digits.len() > MAX_QUEUED_DIGITS {
            return Err(SendDigitsError::TooMany);
        }
        self.waiting.extend(digits);
        Ok(())
    }

    /// Whether a digit is being sent or waits.
    pub fn is_busy(&self) -> bool {
        self.sending.is_some() || !self.waiting.is_empty()
    }

    /// Whether a digit is being sent.
    pub const fn is_sending(&self) -> bool {
        self.sending.is_some()
    }

    /// The packet for the slot that begins at `timestamp` and lasts `step`; none when the slot is free for audio.
    pub fn next_packet(&mut self, timestamp: u32, step: u32) -> Option<EventPacket> {
        if let Some(until) = self.pause_until {
            if until.wrapping_sub(timestamp).cast_signed() > 0 {
                return None;
            }
            self.pause_until = None;
        }
        let marker = self.sending.is_none();
        if marker {
            let event = self.waiting.pop_front()?.event();
            self.sending = Some(Sending { event, timestamp, ends_sent: 0 });
        }
        let sending = self.sending.as_mut()?;
        let tone = (self.clock_hz / TONES_PER_SECOND).next_multiple_of(step.max(1));
        let duration = timestamp.wrapping_sub(sending.timestamp).saturating_add(step);
        let end = duration > tone;
        let event = TelephoneEvent {
            event: sending.event,
            end,
            volume: VOLUME,
            duration: duration_in(self.duration_hz, duration.min(tone), self.clock_hz),
        };
        let packet = EventPacket { timestamp: sending.timestamp, marker, event };
        sending.ends_sent += u8::from(end);
        if sending.ends_sent == END_PACKETS {
            let pause = self.clock_hz / PAUSES_PER_SECOND;
            self.pause_until = Some(sending.timestamp.wrapping_add(tone + pause));
            self.sending = None;
        }
        Some(packet)
    }

    /// Drops everything: telephone-event is no longer negotiated.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.sending = None;
    }
}

/// `ticks` of a clock of `clock_hz`, in those of `duration_hz`.
fn duration_in(duration_hz: u32, ticks: u32, clock_hz: u32) -> u16 {
    let ticks = u64::from(ticks) * u64::from(duration_hz) / u64::from(clock_hz.max(1));
    u16::try_from(ticks).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(text: &str) -> Vec<Digit> {
        text.chars().map(|c| Digit::new(c).unwrap()).collect()
    }

    #[test]
    fn one_digit_at_20_ms() {
        let mut sender = DigitSender::default();
        sender.push(&digits("5")).unwrap();
        let packets: Vec<_> =
            (0..20).map_while(|n| sender.next_packet(1000 + n * 160, 160)).collect();
        let durations: Vec<_> =
            packets.iter().map(|packet| (packet.event.duration, packet.event.end)).collect();
        assert_eq!(
            durations,
            [
                (160, false),
                (320, false),
                (480, false),
                (640, false),
                (800, false),
                (800, true),
                (800, true),
                (800, true)
            ]
        );
        assert!(packets.iter().all(|packet| packet.timestamp == 1000));
        assert_eq!(packets.iter().filter(|packet| packet.marker).count(), 1);
        assert_eq!(packets[0].event.to_bytes(), [0x05, 0x0A, 0x00, 0xA0]);
        assert_eq!(packets[7].event.to_bytes(), [0x05, 0x8A, 0x03, 0x20]);
        assert!(!sender.is_busy());
    }

    #[test]
    fn digits_are_50_ms_apart_at_every_packet_time() {
        for step in [80, 160, 240, 320, 480] {
            let mut sender = DigitSender::default();
            sender.push(&digits("12")).unwrap();
            let mut starts = Vec::new();
            let mut ends = 0;
            for n in 0u32..100 {
                let timestamp = (n * step).wrapping_sub(800); // Runs over the wrap.
                if let Some(packet) = sender.next_packet(timestamp, step) {
                    if packet.marker {
                        starts.push(n * step);
                    }
                    ends += u32::from(packet.event.end);
                }
            }
            assert_eq!((starts.len(), ends), (2, 6), "{step}");
            let tone = 800u32.next_multiple_of(step);
            assert!(starts[1] - starts[0] >= tone + 400, "{step}: {starts:?}");
            assert!(starts[1] - starts[0] <= tone + 3 * step + 400, "{step}: {starts:?}");
            assert!(!sender.is_busy());
        }
    }

    #[test]
    fn a_faster_clock_counts_more_ticks() {
        let mut sender = DigitSender::default();
        sender.set_clocks(48_000, 48_000);
        sender.push(&digits("12")).unwrap();
        let packets: Vec<_> = (0..30).filter_map(|n| sender.next_packet(n * 960, 960)).collect();
        let durations: Vec<_> = packets[..8].iter().map(|it| it.event.duration).collect();
        assert_eq!(durations, [960, 1920, 2880, 3840, 4800, 4800, 4800, 4800]);
        let second = packets.iter().rfind(|packet| packet.marker).unwrap().timestamp;
        assert!((4_800 + 2_400..=4_800 + 2_400 + 3 * 960).contains(&second), "{second}");
        assert_eq!(packets.len(), 16);
    }

    #[test]
    fn durations_may_have_a_slower_clock_than_timestamps() {
        let mut sender = DigitSender::default();
        sender.set_clocks(48_000, 8_000);
        sender.push(&digits("12")).unwrap();
        let packets: Vec<_> = (0..30).filter_map(|n| sender.next_packet(n * 960, 960)).collect();
        let durations: Vec<_> = packets[..8].iter().map(|it| it.event.duration).collect();
        assert_eq!(durations, [160, 320, 480, 640, 800, 800, 800, 800]);
        let second = packets.iter().rfind(|packet| packet.marker).unwrap().timestamp;
        assert!((4_800 + 2_400..=4_800 + 2_400 + 3 * 960).contains(&second), "{second}");
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut sender = DigitSender::default();
        sender.push(&digits("1").repeat(MAX_QUEUED_DIGITS)).unwrap();
        assert_eq!(sender.push(&digits("2")), Err(SendDigitsError::TooMany));
        sender.clear();
        assert!(!sender.is_busy());
    }
}
