//! Opus in Ogg (RFC 7845), each channel a mono stream of its own: what one side says is never heard on the other's channel.

use std::io;

use opus::{Application, Bitrate, Encoder};
use tandem_media::SampleRate;

use crate::{Channels, ogg::Pages};

/// Bits per second of one channel: speech is clear, an hour of both takes 15 MB or less.
const BITRATE: i32 = 24_000;

/// Half a percent of a core per channel, where 10 takes three times as much for little more.
const COMPLEXITY: i32 = 5;

/// Packets a second.
const PACKETS: usize = 50;

/// Ticks of granule positions in a packet: 20 ms at 48 kHz.
const TICKS: u64 = 960;

/// No packet of 20 ms is longer (RFC 6716 §3.2.1).
const LONGEST: usize = 1_276;

/// A file that grows.
pub(crate) struct OpusFile {
    channels: Channels,
    rate: SampleRate,
    encoders: Vec<Encoder>,
    pages: Pages,
    pre_skip: u64,
    /// Samples of each channel that do not fill a packet yet.
    waiting: Vec<Vec<i16>>,
    /// Frames taken, and packets made.
    frames: u64,
    packets: u64,
    packet: Vec<u8>,
}

impl OpusFile {
    /// A file whose first pages go to `out`.
    pub(crate) fn new(
        rate: SampleRate,
        channels: Channels,
        serial: u32,
        out: &mut Vec<u8>,
    ) -> io::Result<Self> {
        let mut encoders = Vec::with_capacity(channels.count());
        for _ in 0..channels.count() {
            encoders.push(encoder(rate).map_err(io::Error::other)?);
        }
        let lookahead = encoders[0].get_lookahead().map_err(io::Error::other)?;
        let pre_skip = lookahead.max(0) as u64 * 48_000 / rate.hz() as u64;
        let mut file = Self {
            channels,
            rate,
            encoders,
            pages: Pages::new(serial),
            pre_skip,
            waiting: vec![Vec::new(); channels.count()],
            frames: 0,
            packets: 0,
            packet: Vec::with_capacity(2 * LONGEST),
        };
        file.pages.push(&file.head(), 0, out);
        file.pages.close(false, out);
        file.pages.push(&tags(), 0, out);
        file.pages.close(false, out);
        Ok(file)
    }

    pub(crate) const fn channels(&self) -> Channels {
        self.channels
    }

    /// Takes interleaved samples; what fills pages goes to `out`.
    pub(crate) fn push(&mut self, samples: &[i16], out: &mut Vec<u8>) -> io::Result<()> {
        let channels = self.channels.count();
        for (channel, waiting) in self.waiting.iter_mut().enumerate() {
            waiting.extend(samples.iter().skip(channel).step_by(channels));
        }
        self.frames += (samples.len() / channels) as u64;
        self.encode(out)
    }

    /// Ends the page.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) {
        self.pages.close(false, out);
    }

    /// Ends the file: whoever plays it hears every sample and no more.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let end = self.pre_skip + self.frames * 48_000 / self.rate.hz() as u64;
        // What the encoder looks ahead by is heard that much later.
        let packets = end.div_ceil(TICKS).saturating_sub(self.packets);
        let samples = usize::try_from(packets).map_err(io::Error::other)? * self.samples();
        for waiting in &mut self.waiting {
            waiting.resize(samples, 0);
        }
        self.encode(out)?;
        self.pages.finish(end, out);
        Ok(())
    }

    /// Samples of one channel in a packet.
    fn samples(&self) -> usize {
        self.rate.hz() / PACKETS
    }

    fn encode(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let samples = self.samples();
        let ready = self.waiting[0].len() / samples;
        let last = self.encoders.len() - 1;
        for packet in 0..ready {
            self.packet.clear();
            for (channel, encoder) in self.encoders.iter_mut().enumerate() {
                let pcm = &self.waiting[channel][packet * samples..][..samples];
                let mut coded = [0; LONGEST];
                let length = encoder.encode(pcm, &mut coded).map_err(io::Error::other)?;
                let coded = &coded[..length];
                if channel == last {
                    self.packet.extend_from_slice(coded);
                } else {
                    delimit(coded, &mut self.packet)?;
                }
            }
            self.packets += 1;
            self.pages.push(&self.packet, self.packets * TICKS, out);
        }
        for waiting in &mut self.waiting {
            waiting.drain(..ready * samples);
        }
        Ok(())
    }

    /// The identification header (RFC 7845 §5.1): mapping family 0 with one channel, 1 with two streams that are not coupled.
    fn head(&self) -> Vec<u8> {
        let mut head = b"OpusHead\x01".to_vec();
        head.push(self.channels.count() as u8);
        head.extend_from_slice(&(self.pre_skip as u16).to_le_bytes());
        head.extend_from_slice(&(self.rate.hz() as u32).to_le_bytes());
        head.extend_from_slice(&[0, 0]);
        match self.channels {
            Channels::Mono => head.push(0),
            Channels::Stereo => head.extend_from_slice(&[1, 2, 0, 0, 1]),
        }
        head
    }
}

fn encoder(rate: SampleRate) -> Result<Encoder, opus::Error> {
    let mut encoder = Encoder::new(rate.hz() as u32, opus::Channels::Mono, Application::Voip)?;
    encoder.set_bitrate(Bitrate::Bits(BITRATE))?;
    encoder.set_complexity(COMPLEXITY)?;
    Ok(encoder)
}

/// Appends a packet of one frame with its length in it (RFC 6716, appendix B).
fn delimit(packet: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let (&toc, frame) = packet.split_first().ok_or_else(|| io::Error::other("an empty packet"))?;
    if toc & 3 != 0 {
        return Err(io::Error::other("a packet of several frames"));
    }
    out.push(toc);
    if frame.len() < 252 {
        out.push(frame.len() as u8);
    } else {
        let first = 252 + (frame.len() & 3);
        out.push(first as u8);
        out.push(((frame.len() - first) / 4) as u8);
    }
    out.extend_from_slice(frame);
    Ok(())
}

/// The comment header (RFC 7845 §5.2).
fn tags() -> Vec<u8> {
    let vendor = concat!("tandem ", env!("CARGO_PKG_VERSION"));
    let mut tags = b"OpusTags".to_vec();
    tags.extend_from_slice(&(vendor.len() as u32).to_le_bytes());
    tags.extend_from_slice(vendor.as_bytes());
    tags.extend_from_slice(&0_u32.to_le_bytes());
    tags
}

/// What the identification header of a file says: rate, channels, samples at 48 kHz to be skipped.
pub(crate) fn read_head(packet: &[u8]) -> Option<(SampleRate, Channels, u64)> {
    let head = packet.strip_prefix(b"OpusHead\x01")?;
    let channels = match head.first()? {
        1 => Channels::Mono,
        2 => Channels::Stereo,
        _ => return None,
    };
    let pre_skip = u16::from_le_bytes(head.get(1..3)?.try_into().ok()?);
    let rate = u32::from_le_bytes(head.get(3..7)?.try_into().ok()?);
    Some((SampleRate::from_hz(rate as usize)?, channels, pre_skip.into()))
}
