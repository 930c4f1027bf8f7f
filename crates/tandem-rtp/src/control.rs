//! The leg's RTCP: its reports, what the peer reports, and where they go.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    Latch, MediaParams, NtpTime, ReceptionStats, ReportBlock, ReportTiming, RtcpCompound,
    RtcpPacket, RtpError, SenderInfo,
    ntp::{from_short, to_short},
    write_bye, write_cname, write_report,
};

/// A round trip longer than this is a mistake of the peer's.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Control {
    started: Instant,
    unix_start: Duration,
    cname: String,
    seed: u64,
    timing: Option<ReportTiming>,
    /// Where the SDP last wanted RTCP; kept over a hold by `0.0.0.0`.
    offered: Option<SocketAddr>,
    /// Where RTCP of a latched peer comes from.
    learned: Option<SocketAddr>,
    /// The peer's last sender report: its NTP time, shortened, and when it came.
    last_sr: Option<(u32, Instant)>,
    round_trip: Option<Duration>,
    remote: Option<ReportBlock>,
    /// RTP packets sent until the last report and the one before it.
    sent_at_reports: [u64; 2],
    bye: bool,
    packet: Vec<u8>,
}

impl Control {
    pub(crate) fn new(now: Instant, unix_now: Duration, cname: String, seed: u64) -> Self {
        Self {
            started: now,
            unix_start: unix_now,
            cname,
            seed,
            timing: None,
            offered: None,
            learned: None,
            last_sr: None,
            round_trip: None,
            remote: None,
            sent_at_reports: [0; 2],
            bye: false,
            packet: Vec::with_capacity(400),
        }
    }

    /// Reports begin.
    pub(crate) fn start(&mut self, now: Instant) {
        self.timing = Some(ReportTiming::new(now, self.seed));
    }

    pub(crate) fn renegotiate(&mut self, params: &MediaParams) {
        if !params.remote_rtcp.ip().is_unspecified() && self.offered != Some(params.remote_rtcp) {
            self.offered = Some(params.remote_rtcp);
            self.learned = None;
        }
    }

    /// Where reports go; none when no address is known.
    pub(crate) fn destination(&self, params: &MediaParams, latch: &Latch) -> Option<SocketAddr> {
        let destination = if params.rtcp_mux && latch.is_latched() {
            latch.destination()
        } else {
            self.learned.or(self.offered)?
        };
        (destination.port() != 0).then_some(destination)
    }

    /// Whether RTCP from `source` is the peer's: it comes from where ours goes, or from an IP that is proven for RTP.
    pub(crate) fn accepts(&self, source: SocketAddr, params: &MediaParams, latch: &Latch) -> bool {
        self.destination(params, latch) == Some(source)
            || source.ip() == latch.destination().ip()
            || source.ip() == params.remote_rtcp.ip()
    }

    /// When the next report is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timing.as_ref().map(ReportTiming::due)
    }

    /// Takes a compound; `theirs` is the SSRC of the peer's RTP, `ours` that of ours.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        source: SocketAddr,
        datagram: &[u8],
        latch: &Latch,
        theirs: Option<u32>,
        ours: u32,
    ) -> Result<(), RtpError> {
        if RtcpCompound::new(datagram).any(|packet| packet.is_err()) || datagram.is_empty() {
            return Err(RtpError::Rtcp);
        }
        if let Some(timing) = &mut self.timing {
            timing.record_size(datagram.len());
        }
        for packet in RtcpCompound::new(datagram).flatten() {
            let (ssrc, info, mut blocks) = match packet {
                RtcpPacket::SenderReport { ssrc, info, blocks } => (ssrc, Some(info), blocks),
                RtcpPacket::ReceiverReport { ssrc, blocks } => (ssrc, None, blocks),
                RtcpPacket::SourceDescription { .. }
                | RtcpPacket::Bye { .. }
                | RtcpPacket::Other { .. } => continue,
            };
            if theirs == Some(ssrc) {
                if let Some(info) = info {
                    self.last_sr = Some((info.ntp.middle(), now));
                }
                if latch.is_latched() && source.ip() == latch.destination().ip() {
                    self.learned = Some(source);
                }
            }
            if let Some(block) = blocks.find(|block| block.ssrc == ours) {
                self.learn_round_trip(now, &block);
                self.remote = Some(block);
            }
        }
        Ok(())
    }

    /// The report due at `now`. `sent` counts packets and payload bytes of our RTP, `timestamp` is its clock at `now`.
    pub(crate) fn poll(
        &mut self,
        now: Instant,
        ssrc: u32,
        sent: (u64, u64),
        timestamp: u32,
        stats: &mut ReceptionStats,
    ) -> Option<&[u8]> {
        let timing = self.timing.as_mut().filter(|timing| timing.due() <= now)?;
        let block = stats.report().map(|block| {
            let last_sr = self.last_sr.filter(|_| stats.ssrc() == Some(block.ssrc));
            let (last_sr, delay) = last_sr
                .map_or((0, 0), |(sr, at)| (sr, to_short(now.saturating_duration_since(at))));
            ReportBlock { last_sr, delay_since_last_sr: delay, ..block }
        });
        let elapsed = now.saturating_duration_since(self.started);
        let info = SenderInfo {
            ntp: NtpTime::from_unix(self.unix_start + elapsed),
            rtp_timestamp: timestamp,
            packets: sent.0 as u32,
            octets: sent.1 as u32,
        };
        // A sender is who has sent since the report before the last one (RFC 3550 §6.4).
        let sender = sent.0 > self.sent_at_reports[1];
        self.sent_at_reports = [sent.0, self.sent_at_reports[0]];
        self.packet.clear();
        write_report(&mut self.packet, ssrc, sender.then_some(&info), block.as_ref());
        write_cname(&mut self.packet, ssrc, &self.cname);
        if self.bye {
            write_bye(&mut self.packet, ssrc);
            self.timing = None;
        } else {
            timing.record_size(self.packet.len());
            timing.sent(now);
        }
        Some(&self.packet)
    }

    /// The next report is the last one, due at once. Who never sent anything says no goodbye (RFC 3550 §6.3.7).
    pub(crate) fn close(&mut self, now: Instant, has_sent: bool) {
        self.bye = true;
        match &mut self.timing {
            Some(timing) if has_sent => timing.hurry(now),
            _ => self.timing = None,
        }
    }

    pub(crate) const fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Jitter of our stream, whose clock ticks `clock_hz` times a second, as the peer measures it.
    pub(crate) fn remote_jitter(&self, clock_hz: u32) -> Option<Duration> {
        let ticks = self.remote?.jitter;
        Some(Duration::from_nanos(u64::from(ticks) * 1_000_000_000 / u64::from(clock_hz)))
    }

    /// The share of our packets that the peer missed between its last two reports, 0.0 to 1.0.
    pub(crate) fn recent_loss(&self) -> Option<f32> {
        self.remote.map(|block| f32::from(block.fraction_lost) / 256.0)
    }

    /// Loss of our stream over the whole call, as the peer counts it: 0.0 to 1.0 of the packets `sent`.
    pub(crate) fn remote_loss(&self, sent: u64) -> Option<f64> {
        self.remote
            .map(|block| (f64::from(block.cumulative_lost.max(0)) / sent.max(1) as f64).min(1.0))
    }

    fn learn_round_trip(&mut self, now: Instant, block: &ReportBlock) {
        if block.last_sr == 0 {
            return;
        }
        let elapsed = now.saturating_duration_since(self.started);
        let arrival = NtpTime::from_unix(self.unix_start + elapsed).middle();
        let trip = arrival.wrapping_sub(block.last_sr).wrapping_sub(block.delay_since_last_sr);
        // A clock's rounding may make it a little less than nothing.
        let trip = if trip.cast_signed() < 0 && trip > u32::MAX - 64 { 0 } else { trip };
        let trip = from_short(trip);
        if trip <= MAX_ROUND_TRIP {
            self.round_trip = Some(trip);
        }
    }
}
