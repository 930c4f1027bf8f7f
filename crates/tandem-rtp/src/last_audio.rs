//! How far a source's audio has come, by its own media clock.

use std::time::{Duration, Instant};

use crate::ArrivedPacket;

/// Packets are this long, unless the last one was not: what a plausible loss is measured by.
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(60);

/// The last packet of audio of the current source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastAudio {
    pub(crate) arrival: Instant,
    /// How long its audio lasts.
    pub(crate) length: Duration,
    /// Ticks per second of the timestamps.
    pub(crate) clock_hz: u32,
    /// RTP timestamp after it.
    end: u32,
}

impl LastAudio {
    /// `packet` with audio of `length`, whose timestamps tick `clock_hz` times a second.
    pub(crate) fn new(packet: &ArrivedPacket<'_>, length: Duration, clock_hz: u32) -> Self {
        // A length is rounded down to nanoseconds.
        let ticks = (length.as_nanos() + 1) * u128::from(clock_hz) / 1_000_000_000;
        let end = packet.timestamp.wrapping_add(ticks as u32);
        Self { arrival: packet.arrival, length, clock_hz, end }
    }

    /// Time between it and `packet` by the media clock.
    pub(crate) fn ahead(&self, packet: &ArrivedPacket<'_>) -> Duration {
        self.time(packet.timestamp.wrapping_sub(self.end))
    }

    /// How long the `missing` packets between it and `packet` were.
    pub(crate) fn lost_before(&self, packet: &ArrivedPacket<'_>, missing: u16) -> Duration {
        // The media clock knows how much was lost, unless the peer was silent in between or began anew.
        let packets = u32::from(missing);
        let (shortest, longest) = (SHORTEST.min(self.length), LONGEST.max(self.length));
        let ahead = self.ahead(packet);
        if (shortest * packets..=longest * packets).contains(&ahead) {
            ahead
        } else {
            self.length * packets
        }
    }

    /// Media between the end of `before` and its own.
    pub(crate) fn since(&self, before: &Self) -> Duration {
        self.time(self.end.wrapping_sub(before.end))
    }

    /// How long so many ticks are; none where they lie in the past.
    fn time(&self, ticks: u32) -> Duration {
        let ticks = u64::try_from(ticks.cast_signed()).unwrap_or(0);
        Duration::from_nanos(ticks * 1_000_000_000 / u64::from(self.clock_hz))
    }
}
