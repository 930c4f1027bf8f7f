use opus::{Application, Bandwidth, Bitrate, Channels, Encoder, Signal};

use crate::{CodecError, OpusParams, SampleRate};

/// How hard Opus tries unless told otherwise.
const COMPLEXITY: u8 = 5;

/// The largest payload we send, so that a packet fits where IPv6 promises that it does.
const MAX_PAYLOAD: usize = 1_200;

/// The least that `maxaveragebitrate` may ask for (RFC 7587 §6.1).
const MIN_BITRATE: u32 = 6_000;

/// Forward error correction is worth its bitrate from this loss on..
const FEC_FROM: f32 = 0.02;

/// ..and until it is as low as this.
const FEC_UNTIL: f32 = 0.01;

/// An Opus stream that is spoken at one rate in mono.
#[derive(Debug)]
pub(crate) struct OpusEncoder {
    libopus: Encoder,
    rate: SampleRate,
    params: OpusParams,
    fec: bool,
    loss_percent: u8,
    complexity: u8,
}

impl OpusEncoder {
    pub(crate) fn new(rate: SampleRate, params: &OpusParams) -> Result<Self, CodecError> {
        let mut libopus = Encoder::new(rate.hz() as u32, Channels::Mono, Application::Voip)?;
        libopus.set_bitrate(bitrate(rate, params))?;
        libopus.set_vbr(!params.cbr)?;
        libopus.set_dtx(params.dtx)?;
        libopus.set_signal(Signal::Voice)?;
        libopus.set_max_bandwidth(bandwidth(rate))?;
        libopus.set_complexity(i32::from(COMPLEXITY))?;
        Ok(Self {
            libopus,
            rate,
            params: *params,
            fec: false,
            loss_percent: 0,
            complexity: COMPLEXITY,
        })
    }

    pub(crate) const fn rate(&self) -> SampleRate {
        self.rate
    }

    pub(crate) fn encode(&mut self, pcm: &[i16], payload: &mut Vec<u8>) -> Result<(), CodecError> {
        let unit = self.rate.hz() / 100;
        if !matches!((pcm.len() / unit, pcm.len() % unit), (1 | 2 | 4 | 6, 0)) {
            return Err(CodecError::PacketTime { codec: "opus", samples: pcm.len() });
        }
        let start = payload.len();
        payload.resize(start + MAX_PAYLOAD, 0);
        let written = self.libopus.encode(pcm, &mut payload[start..]);
        let length = *written.as_ref().unwrap_or(&0);
        // So short a packet says that there is nothing to send.
        let sent = if self.params.dtx && length <= 2 { 0 } else { length };
        payload.truncate(start + sent);
        written.map(drop).map_err(CodecError::from)
    }

    pub(crate) fn set_loss(&mut self, reported: f32) {
        let fec = self.params.fec && reported >= if self.fec { FEC_UNTIL } else { FEC_FROM };
        let percent = (reported * 100.0).round().clamp(0.0, 100.0) as u8;
        if fec != self.fec {
            self.fec = fec;
            self.libopus.set_inband_fec(fec).expect("libopus knows forward error correction");
            self.apply_complexity();
        }
        if percent != self.loss_percent {
            self.loss_percent = percent;
            self.libopus
                .set_packet_loss_perc(i32::from(percent))
                .expect("libopus takes losses of 0 to 100 %");
        }
    }

    pub(crate) fn set_complexity(&mut self, complexity: u8) {
        let complexity = complexity.min(10);
        if complexity != self.complexity {
            self.complexity = complexity;
            self.apply_complexity();
        }
    }

    fn apply_complexity(&mut self) {
        // Below 2 libopus thinks too little of its own speech to spare bits for error correction.
        let complexity = if self.fec { self.complexity.max(2) } else { self.complexity };
        self.libopus
            .set_complexity(i32::from(complexity))
            .expect("libopus takes complexities of 0 to 10");
    }

    pub(crate) fn reset(&mut self) {
        self.libopus.reset_state().expect("libopus resets any encoder");
    }
}

/// What speech at `rate` is sent at; no more than the peer takes.
///
/// By PESQ of six voices at complexity 5, 8 kHz: 4.19 at 16 kbit/s, 4.35 at 20, 4.42 at 24; 16 kHz: 3.92 at 24, 4.24 at 32, 4.35 at 36.
/// It is also what libopus asks for before it spares bits for forward error correction at a loss of 2 %.
fn bitrate(rate: SampleRate, params: &OpusParams) -> Bitrate {
    let wanted = match rate {
        SampleRate::Hz8000 => 20_000,
        SampleRate::Hz16000 => 36_000,
        SampleRate::Hz24000 | SampleRate::Hz48000 => 40_000,
    };
    Bitrate::Bits(params.max_bitrate.unwrap_or(wanted).clamp(MIN_BITRATE, wanted) as i32)
}

/// All that audio at `rate` can hold.
const fn bandwidth(rate: SampleRate) -> Bandwidth {
    match rate {
        SampleRate::Hz8000 => Bandwidth::Narrowband,
        SampleRate::Hz16000 => Bandwidth::Wideband,
        SampleRate::Hz24000 => Bandwidth::Superwideband,
        SampleRate::Hz48000 => Bandwidth::Fullband,
    }
}
