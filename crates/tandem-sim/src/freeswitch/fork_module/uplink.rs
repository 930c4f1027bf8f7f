//! The way up: what is read and written becomes binary messages.

use fastrand::Rng;

use super::{ForkSpec, Mix};
use crate::freeswitch::audio::Converter;

/// Length of the module's own buffer.
const BUFFER_SECS: usize = 2;

#[derive(Debug)]
pub(super) struct Uplink {
    mix: Mix,
    read: Converter,
    written: Converter,
    resamples: bool,
    /// Bytes of a message where they are cut to a length: mod_audio_stream.
    message: Option<usize>,
    buffer: Vec<u8>,
    limit: usize,
    overrun: bool,
    joined_percent: u8,
    held_back: bool,
    rng: Rng,
    scratch: (Vec<i16>, Vec<i16>),
}

impl Uplink {
    pub(super) fn new(spec: &ForkSpec) -> Self {
        let per_ms = spec.rate as usize * 2 * spec.mix.channels() / 1_000;
        Self {
            mix: spec.mix,
            read: Converter::new(spec.codec_rate, spec.rate),
            written: Converter::new(spec.codec_rate, spec.rate),
            resamples: spec.codec_rate != spec.rate,
            message: (!spec.edition.is_fork()).then(|| per_ms * spec.buffer_ms.max(20) as usize),
            buffer: Vec::new(),
            limit: per_ms * 1_000 * BUFFER_SECS,
            overrun: false,
            joined_percent: spec.joined_percent,
            held_back: false,
            rng: Rng::with_seed(spec.seed),
            scratch: Default::default(),
        }
    }

    /// Takes 20 ms; true when this is the first time that the buffer did not hold it.
    pub(super) fn capture(&mut self, read: Option<&[i16]>, written: Option<&[i16]>) -> bool {
        let (left, right) = &mut self.scratch;
        left.clear();
        right.clear();
        match (self.mix, read, written) {
            (Mix::Mono, Some(read), _) => self.read.process(read, left),
            (Mix::Mixed, Some(read), Some(written)) => {
                let sum: Vec<i16> = read
                    .iter()
                    .zip(written)
                    .map(|(one, other)| one.saturating_add(*other))
                    .collect();
                self.read.process(&sum, left);
            }
            (Mix::Stereo, Some(read), Some(written)) => {
                self.read.process(read, left);
                self.written.process(written, right);
            }
            // Both directions are needed for both.
            _ => return false,
        }
        let bytes = (left.len() + right.len()) * 2;
        let mut first_overrun = false;
        if self.buffer.len() + bytes > self.limit {
            first_overrun = !std::mem::replace(&mut self.overrun, true);
            if self.resamples {
                return first_overrun;
            }
            self.buffer.clear();
        }
        if self.mix == Mix::Stereo {
            for (left, right) in left.iter().zip(right.iter()) {
                self.buffer.extend(left.to_le_bytes());
                self.buffer.extend(right.to_le_bytes());
            }
        } else {
            self.buffer.extend(left.iter().flat_map(|sample| sample.to_le_bytes()));
        }
        // A frame that was held back goes out with the next one.
        self.held_back =
            !self.held_back && self.joined_percent > 0 && self.rng.u8(..100) < self.joined_percent;
        first_overrun
    }

    /// The next message, none while there is not enough for one.
    pub(super) fn poll(&mut self) -> Option<Vec<u8>> {
        if self.held_back || self.buffer.is_empty() {
            return None;
        }
        match self.message {
            Some(length) if self.buffer.len() < length => None,
            Some(length) => {
                let rest = self.buffer.split_off(length);
                Some(std::mem::replace(&mut self.buffer, rest))
            }
            None => Some(std::mem::take(&mut self.buffer)),
        }
    }

    pub(super) fn forget(&mut self) {
        self.buffer.clear();
        self.held_back = false;
    }
}
