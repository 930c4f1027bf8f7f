//! Digits as telephone-events (RFC 4733): the payload, and the receiver.

use std::time::{Duration, Instant};

use tandem_call::Digit;

/// An event of which nothing was heard for this long is over, though its end packets were lost.
const CLOSED_AFTER: Duration = Duration::from_millis(150);

/// A packet with an older timestamp belongs to a digit already reported, unless this much time has passed: then the
/// peer's clock began anew.
const OVERTAKEN_WITHIN: Duration = Duration::from_secs(1);

/// The longest duration the field holds; a longer event goes on in another segment (RFC 4733 §2.5.1.3).
const MAX_DURATION: u32 = 0xFFFF;

/// How much shorter than [`MAX_DURATION`] a peer may cut its segments: a multiple of its packet time, up to 120 ms.
const SEGMENT_SLACK_MS: u32 = 120;

/// The payload of one telephone-event packet (RFC 4733 §2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TelephoneEvent {
    /// 0-9 digits, 10 `*`, 11 `#`, 12-15 A-D, 16 flash, above: tones.
    pub event: u8,
    /// The event is over.
    pub end: bool,
    /// Level in -dBm0, 0 to 63.
    pub volume: u8,
    /// In timestamp units from the beginning of the event.
    pub duration: u16,
}

impl TelephoneEvent {
    /// Reads a payload; further events in the same packet are ignored.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let bytes = payload.first_chunk::<4>()?;
        Some(Self {
            event: bytes[0],
            end: bytes[1] & 0x80 != 0,
            volume: bytes[1] & 0x3F,
            duration: u16::from_be_bytes([bytes[2], bytes[3]]),
        })
    }

    /// The payload.
    pub fn to_bytes(self) -> [u8; 4] {
        let [high, low] = self.duration.to_be_bytes();
        [self.event, u8::from(self.end) << 7 | self.volume & 0x3F, high, low]
    }
}

/// Finds each digit once among the packets that repeat it.
#[derive(Debug)]
pub struct DigitReceiver {
    /// Of timestamps.
    clock_hz: u32,
    duration_hz: u32,
    event: Option<Event>,
}

impl Default for DigitReceiver {
    /// One with a clock of 8 kHz.
    fn default() -> Self {
        Self { clock_hz: 8_000, duration_hz: 8_000, event: None }
    }
}

/// The last event heard, also after its end: its packets may still come.
#[derive(Debug)]
struct Event {
    ssrc: u32,
    code: u8,
    /// Of its current segment.
    timestamp: u32,
    updated: Instant,
    open: bool,
}

impl DigitReceiver {
    /// Timestamps count `clock_hz` ticks per second from now on and durations `duration_hz`. Where these differ, some
    /// peers count timestamps by the clock of durations; they are understood, too.
    pub fn set_clocks(&mut self, clock_hz: u32, duration_hz: u32) {
        (self.clock_hz, self.duration_hz) = (clock_hz, duration_hz);
    }

    /// Takes one packet in whatever order it came and returns the digit it is the first of.
    ///
    /// A digit has a timestamp of its own; marker, beginning and end may be missing.
    pub fn receive(
        &mut self,
        now: Instant,
        ssrc: u32,
        timestamp: u32,
        event: TelephoneEvent,
    ) -> Option<Digit> {
        if let Some(known) = self.event.as_mut().filter(|known| known.ssrc == ssrc) {
            let idle = now.saturating_duration_since(known.updated);
            known.open &= idle < CLOSED_AFTER;
            let ahead = timestamp.wrapping_sub(known.timestamp);
            if ahead == 0 {
                known.updated = now;
                known.open &= !event.end;
                return None;
            }
            let next_segment = follows(ahead, self.duration_hz, self.duration_hz)
                || follows(ahead, self.clock_hz, self.duration_hz);
            if known.open && known.code == event.event && next_segment {
                *known = Event { timestamp, updated: now, open: !event.end, ..*known };
                return None;
            }
            if ahead.cast_signed() < 0 && idle < OVERTAKEN_WITHIN {
                return None;
            }
        }
        self.event =
            Some(Event { ssrc, code: event.event, timestamp, updated: now, open: !event.end });
        Digit::from_event(event.event)
    }
}

/// Whether a segment that begins `ahead` ticks of `clock_hz` after another one goes on where that had to end.
fn follows(ahead: u32, clock_hz: u32, duration_hz: u32) -> bool {
    let slack = duration_hz / 1_000 * SEGMENT_SLACK_MS;
    let ahead = u64::from(ahead) * u64::from(duration_hz) / u64::from(clock_hz.max(1));
    let longest = MAX_DURATION.saturating_sub(slack)..=MAX_DURATION + 1;
    u32::try_from(ahead).is_ok_and(|ahead| longest.contains(&ahead))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Milliseconds since the first packet, timestamp, digit, end, duration.
    type Row = (u64, u32, char, bool, u16);

    fn receive(rows: &[Row]) -> String {
        let start = crate::testing::start();
        let mut receiver = DigitReceiver::default();
        let mut digits = String::new();
        for (at, timestamp, digit, end, duration) in rows {
            let event = Digit::new(*digit).unwrap().event();
            let event = TelephoneEvent { event, end: *end, volume: 10, duration: *duration };
            let now = start + Duration::from_millis(*at);
            digits.extend(receiver.receive(now, 1, *timestamp, event).map(Digit::as_char));
        }
        digits
    }

    #[test]
    fn a_digit_is_found_once() {
        let table: [(&str, &[Row], &str); 12] = [
            (
                "three end packets",
                &[
                    (0, 0, '5', false, 160),
                    (20, 0, '5', false, 320),
                    (40, 0, '5', true, 480),
                    (60, 0, '5', true, 480),
                    (80, 0, '5', true, 480),
                ],
                "5",
            ),
            ("start lost", &[(0, 0, '9', true, 800), (20, 0, '9', true, 800)], "9"),
            (
                "ends lost, the next one comes later",
                &[(0, 0, '1', false, 160), (500, 4000, '1', false, 160)],
                "11",
            ),
            (
                "end comes after it was closed",
                &[(0, 0, '1', false, 160), (300, 0, '1', true, 800)],
                "1",
            ),
            (
                "same digit twice, quickly",
                &[
                    (0, 0, '7', false, 160),
                    (20, 0, '7', true, 320),
                    (100, 800, '7', false, 160),
                    (120, 800, '7', true, 320),
                ],
                "77",
            ),
            (
                "end of the first after the start of the second",
                &[
                    (0, 0, '1', false, 160),
                    (100, 800, '2', false, 160),
                    (110, 0, '1', true, 320),
                    (120, 800, '2', true, 320),
                ],
                "12",
            ),
            (
                "a long digit in segments",
                &[
                    (8080, 100, '3', false, 64_000),
                    (8180, 100, '3', false, 0xFFFF),
                    (8200, 100 + 0xFFFF, '3', false, 160),
                    (8300, 100 + 0xFFFF, '3', true, 960),
                ],
                "3",
            ),
            (
                "a long digit cut at whole packets",
                &[
                    (8180, 0, '3', false, 65_440),
                    (8200, 65_440, '3', false, 160),
                    (8300, 65_440, '3', true, 960),
                ],
                "3",
            ),
            (
                "what would be a segment comes 150 ms after the last packet",
                &[(8180, 0, '3', false, 65_440), (8330, 65_440, '3', true, 160)],
                "33",
            ),
            (
                "the clock began anew",
                &[(0, 9000, '3', true, 800), (1500, 100, '4', true, 800)],
                "34",
            ),
            (
                "another digit where a segment would be",
                &[(0, 0, '3', false, 160), (100, 0xFFFF, '4', true, 160)],
                "34",
            ),
            (
                "over the wrap of the timestamp",
                &[(0, u32::MAX - 80, '#', true, 160), (200, 1500, '*', true, 160)],
                "#*",
            ),
        ];
        for (name, rows, expected) in table {
            assert_eq!(receive(rows), expected, "{name}");
        }
    }

    #[test]
    fn segments_at_48_khz_are_cut_at_whole_packets_too() {
        let start = crate::testing::start();
        let mut receiver = DigitReceiver::default();
        receiver.set_clocks(48_000, 48_000);
        let mut found = 0;
        // 68 packets of 20 ms fill a segment.
        for n in 0..150u32 {
            let (segment, into) = (n / 68, n % 68 + 1);
            let event =
                TelephoneEvent { event: 3, end: false, volume: 0, duration: (into * 960) as u16 };
            let now = start + Duration::from_millis(20) * n;
            found += u32::from(receiver.receive(now, 1, segment * 68 * 960, event).is_some());
        }
        assert_eq!(found, 1);
    }

    #[test]
    fn segments_of_8_khz_beside_a_faster_clock_are_found_by_either() {
        for clock_hz in [48_000, 8_000] {
            let start = crate::testing::start();
            let mut receiver = DigitReceiver::default();
            receiver.set_clocks(48_000, 8_000);
            let mut found = 0;
            // 409 packets of 20 ms fill a segment.
            for n in 0..600u32 {
                let (segment, into) = (n / 409, n % 409 + 1);
                let event = TelephoneEvent {
                    event: 3,
                    end: false,
                    volume: 0,
                    duration: (into * 160) as u16,
                };
                let now = start + Duration::from_millis(20) * n;
                let timestamp = segment * 409 * (clock_hz / 50);
                found += u32::from(receiver.receive(now, 1, timestamp, event).is_some());
            }
            assert_eq!(found, 1, "{clock_hz}");
        }
    }

    #[test]
    fn digits_of_another_source_have_a_clock_of_their_own() {
        let now = crate::testing::start();
        let mut receiver = DigitReceiver::default();
        let event = TelephoneEvent { event: 1, end: false, volume: 10, duration: 160 };
        for (ssrc, timestamp, found) in
            [(1, 9000, true), (2, 100, true), (2, 100, false), (2, 50, false)]
        {
            assert_eq!(receiver.receive(now, ssrc, timestamp, event).is_some(), found);
        }
    }

    #[test]
    fn flash_and_tones_are_no_digits() {
        let mut receiver = DigitReceiver::default();
        for (timestamp, event) in [(0, 16), (4000, 36), (8000, 255)] {
            let event = TelephoneEvent { event, end: true, volume: 0, duration: 800 };
            assert_eq!(receiver.receive(crate::testing::start(), 1, timestamp, event), None);
        }
    }

    #[test]
    fn payload_of_a_digit() {
        let event = TelephoneEvent { event: 5, end: true, volume: 10, duration: 800 };
        assert_eq!(event.to_bytes(), [0x05, 0x8A, 0x03, 0x20]);
        assert_eq!(TelephoneEvent::parse(&[5, 0x8A, 3]), None);
    }

    proptest! {
        #[test]
        fn payloads_read_back(event: u8, end: bool, volume in 0u8..64, duration: u16) {
            let event = TelephoneEvent { event, end, volume, duration };
            prop_assert_eq!(TelephoneEvent::parse(&event.to_bytes()), Some(event));
        }
    }
}
