//! How well a peer's stream arrives: RFC 3550 appendix A.3 and A.8.

use std::time::{Duration, Instant};

use crate::{Inserted, ReportBlock, RtpPacket};

/// A transit time that changes by more than this is a new clock and not jitter, in seconds.
const MAX_TRANSIT_STEP: f64 = 1.0;

/// Counts of one leg's reception over all its sources.
#[derive(Debug, Clone, Default)]
pub struct ReceptionStats {
    source: Option<Source>,
    /// Packets of all sources, whatever became of them.
    received: u64,
    duplicates: u64,
    late: u64,
    /// Expected and different packets of the sources before this one.
    earlier_expected: u64,
    earlier_different: u64,
}

#[derive(Debug, Clone)]
struct Source {
    ssrc: u32,
    base: u32,
    highest: u32,
    received: u32,
    different: u32,
    expected_at_report: u32,
    received_at_report: u32,
    /// Arrival and timestamp of the last packet of audio.
    last: Option<(Instant, u32)>,
    /// Ticks per second of the timestamps of its audio.
    clock_hz: u32,
    /// Seconds.
    jitter: f64,
}

impl ReceptionStats {
    /// Counts a packet that arrived at `now` and what the reordering made of it. Only audio counts for jitter, with the ticks
    /// per second of its timestamps: the packets of one telephone-event share a timestamp.
    pub fn record(
        &mut self,
        now: Instant,
        packet: &RtpPacket<'_>,
        inserted: Inserted,
        audio_clock_hz: Option<u32>,
    ) {
        self.received += 1;
        match inserted {
            Inserted::NewSource => self.start_source(packet),
            Inserted::Duplicate => self.duplicates += 1,
            Inserted::Late => self.late += 1,
            Inserted::InOrder | Inserted::Held => {}
        }
        let Some(source) = &mut self.source else { return };
        source.received = source.received.wrapping_add(1);
        if inserted != Inserted::Duplicate {
            source.different = source.different.wrapping_add(1);
        }
        let ahead = packet.sequence.wrapping_sub(source.highest as u16).cast_signed();
        if ahead > 0 {
            source.highest = source.highest.wrapping_add(ahead.cast_unsigned().into());
        }
        let before_base = (source.base as u16).wrapping_sub(packet.sequence).cast_signed();
        if before_base > 0 && inserted == Inserted::Late {
            source.base = source.base.wrapping_sub(before_base.cast_unsigned().into());
        }
        if let Some(clock_hz) = audio_clock_hz {
            source.record_transit(now, packet.timestamp, clock_hz);
        }
    }

    /// The SSRC of the current source.
    pub fn ssrc(&self) -> Option<u32> {
        self.source.as_ref().map(|source| source.ssrc)
    }

    /// The highest sequence number of the current source.
    pub fn highest_sequence(&self) -> Option<u16> {
        self.source.as_ref().map(|source| source.highest as u16)
    }

    /// Packets received, duplicates and late ones included.
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Packets that came twice.
    pub const fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Packets that came after they had been given up.
    pub const fn late(&self) -> u64 {
        self.late
    }

    /// Packets that never came, so far.
    pub fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.different())
    }

    /// Interarrival jitter of the current source (RFC 3550 §6.4.1).
    pub fn jitter(&self) -> Duration {
        self.source.as_ref().map_or(Duration::ZERO, |source| Duration::from_secs_f64(source.jitter))
    }

    /// A report on the current source; begins the next reporting interval. LSR and DLSR are left to the caller.
    pub fn report(&mut self) -> Option<ReportBlock> {
        let source = self.source.as_mut()?;
        let expected = source.expected();
        let expected_now = expected.wrapping_sub(source.expected_at_report);
        let received_now = source.received.wrapping_sub(source.received_at_report);
        (source.expected_at_report, source.received_at_report) = (expected, source.received);
        let lost_now = expected_now.saturating_sub(received_now);
        let fraction = (u64::from(lost_now) * 256).checked_div(expected_now.into()).unwrap_or(0);
        Some(ReportBlock {
            ssrc: source.ssrc,
            fraction_lost: fraction.min(255) as u8,
            cumulative_lost: expected.wrapping_sub(source.received).cast_signed(),
            highest_sequence: source.highest,
            jitter: (source.jitter * f64::from(source.clock_hz)) as u32,
            last_sr: 0,
            delay_since_last_sr: 0,
        })
    }

    fn start_source(&mut self, packet: &RtpPacket<'_>) {
        if let Some(source) = &self.source {
            self.earlier_expected += u64::from(source.expected());
            self.earlier_different += u64::from(source.different);
        }
        let highest = u32::from(packet.sequence);
        self.source = Some(Source {
            ssrc: packet.ssrc,
            base: highest,
            highest,
            received: 0,
            different: 0,
            expected_at_report: 0,
            received_at_report: 0,
            last: None,
            clock_hz: 8_000,
            jitter: 0.0,
        });
    }

    fn expected(&self) -> u64 {
        self.earlier_expected + self.source.as_ref().map_or(0, |source| source.expected().into())
    }

    fn different(&self) -> u64 {
        self.earlier_different + self.source.as_ref().map_or(0, |source| source.different.into())
    }
}

impl Source {
    fn expected(&self) -> u32 {
        self.highest.wrapping_sub(self.base).wrapping_add(1)
    }

    fn record_transit(&mut self, now: Instant, timestamp: u32, clock_hz: u32) {
        if clock_hz != self.clock_hz {
            (self.clock_hz, self.last) = (clock_hz, None); // Another codec: nothing to measure against.
        }
        if let Some((arrival, last)) = self.last {
            let elapsed = now.saturating_duration_since(arrival).as_secs_f64();
            let media = f64::from(timestamp.wrapping_sub(last).cast_signed()) / f64::from(clock_hz);
            let step = (elapsed - media).abs();
            if step < MAX_TRANSIT_STEP {
                self.jitter += (step - self.jitter) / 16.0;
            }
        }
        self.last = Some((now, timestamp));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reorder;

    struct Peer {
        stats: ReceptionStats,
        reorder: Reorder,
        start: Instant,
        clock_hz: u32,
    }

    impl Peer {
        fn new() -> Self {
            let (stats, reorder) = Default::default();
            Self { stats, reorder, start: crate::testing::start(), clock_hz: 8_000 }
        }

        fn arrive(&mut self, at_ms: u64, ssrc: u32, sequence: u16, timestamp: u32) {
            let packet = RtpPacket {
                marker: false,
                payload_type: 0,
                sequence,
                timestamp,
                ssrc,
                csrc: &[],
                extension: None,
                payload: &[],
                padding: 0,
            };
            let now = self.start + Duration::from_millis(at_ms);
            while self.reorder.pop(now).is_some() {}
            let inserted = self.reorder.insert(now, &packet);
            self.stats.record(now, &packet, inserted, Some(self.clock_hz));
            while self.reorder.pop(now).is_some() {}
        }
    }

    #[test]
    fn loss_duplicates_and_late_packets_are_told_apart() {
        let mut peer = Peer::new();
        // 65,534 .. 4 with 0 lost for good, 2 late, 3 doubled.
        for (at, sequence) in
            [(0, 65_534), (20, 65_535), (60, 1), (100, 3), (105, 3), (160, 4), (170, 2)]
        {
            peer.arrive(at, 1, sequence, 0);
        }
        assert_eq!((peer.stats.lost(), peer.stats.late(), peer.stats.duplicates()), (1, 1, 1));
        assert_eq!(peer.stats.received(), 7);
        let report = peer.stats.report().unwrap();
        assert_eq!(report.highest_sequence, 0x1_0004);
        // RFC 3550 counts the duplicate as received.
        assert_eq!((report.cumulative_lost, report.fraction_lost), (0, 0));
        peer.arrive(200, 1, 6, 0);
        peer.arrive(200, 1, 8, 0);
        let report = peer.stats.report().unwrap();
        assert_eq!((report.cumulative_lost, report.fraction_lost), (2, 128));
    }

    #[test]
    fn losses_of_earlier_sources_stay_counted() {
        let mut peer = Peer::new();
        for (ssrc, sequence) in [(1, 1), (1, 3), (2, 900), (2, 901), (1, 50), (1, 49)] {
            peer.arrive(0, ssrc, sequence, 0);
        }
        assert_eq!((peer.stats.lost(), peer.stats.late()), (1, 1));
        assert_eq!(peer.stats.ssrc(), Some(1));
    }

    #[test]
    fn jitter_follows_rfc_3550() {
        let mut peer = Peer::new();
        for n in 0..500u16 {
            // Alternately on time and 10 ms late: |D| is 80 units for each packet.
            let late = u64::from(n % 2) * 10;
            peer.arrive(u64::from(n) * 20 + late, 1, n, u32::from(n) * 160);
        }
        assert!((peer.stats.jitter().as_secs_f64() - 0.010).abs() < 1e-4);
        peer.arrive(20_000, 1, 500, 5); // Its clock jumped.
        assert!(peer.stats.jitter() < Duration::from_millis(11));
    }

    #[test]
    fn jitter_is_reported_in_ticks_of_the_audio_s_clock() {
        for clock_hz in [8_000, 16_000, 48_000] {
            let mut peer = Peer::new();
            peer.arrive(0, 1, 0, 0); // Of a codec with another clock: it counts for nothing.
            peer.clock_hz = clock_hz;
            for n in 1..500u16 {
                let late = u64::from(n % 2) * 10;
                peer.arrive(u64::from(n) * 20 + late, 1, n, u32::from(n) * (clock_hz / 50));
            }
            assert!((peer.stats.jitter().as_secs_f64() - 0.010).abs() < 1e-4, "{clock_hz}");
            let jitter = peer.stats.report().unwrap().jitter;
            assert!(jitter.abs_diff(clock_hz / 100) <= clock_hz / 8_000, "{clock_hz}: {jitter}");
        }
    }
}
