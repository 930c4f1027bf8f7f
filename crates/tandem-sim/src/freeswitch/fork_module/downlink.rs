//! The way back: pre-buffer, playout buffer, marks.

use std::collections::VecDeque;

use super::{Edition, ForkSpec};
use crate::freeswitch::{audio::Converter, json};

/// The sample that stands for a mark in the stream. Real audio of this value is taken for one too.
const MARK: i16 = -1;

/// Most marks that may be outstanding; more are forgotten.
const MOST_MARKS: usize = 30;

/// The playout buffer of the real module grows without a limit; here ten minutes at 48 kHz are one.
const MOST_QUEUED: usize = 600 * 48_000;

/// Samples that the pre-buffer must hold before the first sound, times the factor.
const FIRST_THRESHOLD: usize = 1_280;

/// The same for the rest of the session.
const THRESHOLD: usize = 640;

#[derive(Debug)]
pub(super) struct Downlink {
    /// What becomes of binary messages.
    binary: Binary,
    /// Down-sampling factor: the integer part of back rate / codec rate, at least 1.
    factor: usize,
    threshold: usize,
    odd_byte: Option<u8>,
    pre_buffer: Vec<i16>,
    converter: Converter,
    playout: VecDeque<i16>,
    scratch: Vec<i16>,
    takes_marks: bool,
    /// Marks that wait for the next binary message.
    pending: VecDeque<String>,
    /// Marks that went into the stream.
    in_stream: VecDeque<String>,
    codec_rate: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Binary {
    Dropped,
    /// Kept for ever and never played: binary that nobody asked for.
    Hoarded,
    /// Through pre-buffer and thresholds.
    Buffered,
    /// Played as it comes.
    Direct,
}

impl Downlink {
    pub(super) fn new(spec: &ForkSpec) -> Self {
        let back = if spec.back_rate == 0 { spec.codec_rate } else { spec.back_rate };
        let factor = ((back / spec.codec_rate.max(1)) as usize).max(1);
        let plays = spec.bidirectional && spec.streaming && spec.back_rate > 0;
        let binary = match spec.edition {
            Edition::Drachtio | Edition::Stream => Binary::Dropped,
            Edition::Jambonz if plays => Binary::Buffered,
            Edition::Jambonz if spec.bidirectional => Binary::Hoarded,
            Edition::StreamTwoWay if plays => Binary::Direct,
            Edition::Jambonz | Edition::StreamTwoWay => Binary::Dropped,
        };
        Self {
            binary,
            factor,
            threshold: FIRST_THRESHOLD * factor,
            odd_byte: None,
            pre_buffer: Vec::new(),
            converter: Converter::new(back, spec.codec_rate),
            playout: VecDeque::new(),
            scratch: Vec::new(),
            takes_marks: spec.edition == Edition::Jambonz && plays,
            pending: VecDeque::new(),
            in_stream: VecDeque::new(),
            codec_rate: spec.codec_rate,
        }
    }

    pub(super) fn handle_binary(&mut self, bytes: &[u8]) {
        if self.binary == Binary::Dropped {
            return;
        }
        for name in self.pending.drain(..) {
            self.in_stream.push_back(name);
            self.pre_buffer.push(MARK);
        }
        let mut bytes = bytes;
        if let Some(low) = self.odd_byte
            && let Some((high, rest)) = bytes.split_first()
        {
            self.pre_buffer.push(i16::from_le_bytes([low, *high]));
            self.odd_byte = None;
            bytes = rest;
        }
        let (pairs, odd) = bytes.as_chunks();
        self.pre_buffer.extend(pairs.iter().map(|pair| i16::from_le_bytes(*pair)));
        self.odd_byte = odd.first().copied().or(self.odd_byte);
        match self.binary {
            Binary::Buffered if self.pre_buffer.len() >= self.threshold => {
                self.threshold = THRESHOLD * self.factor;
                self.hand_on();
            }
            Binary::Direct => self.hand_on(),
            Binary::Hoarded => self.pre_buffer.truncate(MOST_QUEUED),
            Binary::Buffered | Binary::Dropped => {}
        }
    }

    /// Queues sound the module itself decoded from a text.
    pub(super) fn play_decoded(&mut self, rate: u32, samples: &[i16]) {
        let converted = crate::freeswitch::audio::converted(samples, rate, self.codec_rate);
        self.queue(&converted);
    }

    fn hand_on(&mut self) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        self.converter.process(&self.pre_buffer, &mut scratch);
        self.pre_buffer.clear();
        self.queue(&scratch);
        self.scratch = scratch;
    }

    fn queue(&mut self, samples: &[i16]) {
        let room = MOST_QUEUED.saturating_sub(self.playout.len());
        self.playout.extend(&samples[..samples.len().min(room)]);
    }

    /// Adds what is due to `frame`; `notice` gets the texts about marks.
    pub(super) fn play(&mut self, frame: &mut [i16], mut notice: impl FnMut(String)) {
        if self.playout.is_empty() {
            if let Some(name) = self.pending.pop_front() {
                notice(mark_notice(&name, "playout"));
            }
            return;
        }
        let mut samples = frame.iter_mut();
        while let Some(next) = self.playout.pop_front() {
            if next == MARK
                && let Some(name) = self.in_stream.pop_front()
            {
                notice(mark_notice(&name, "playout"));
                continue;
            }
            let Some(sample) = samples.next() else {
                self.playout.push_front(next);
                return;
            };
            *sample = sample.wrapping_add(next);
        }
    }

    pub(super) fn mark(&mut self, name: String) {
        if self.takes_marks && self.pending.len() + self.in_stream.len() < MOST_MARKS {
            self.pending.push_back(name);
        }
    }

    pub(super) fn clear_marks(&mut self) {
        self.pending.clear();
        self.in_stream.clear();
    }

    /// `killAudio`: the playout buffer is emptied, the pre-buffer is not. Gives the notices of marks not reached.
    pub(super) fn kill(&mut self) -> Vec<String> {
        self.playout.clear();
        let marks = self.in_stream.drain(..).chain(self.pending.drain(..));
        marks.map(|name| mark_notice(&name, "cleared")).collect()
    }

    pub(super) fn stop_play(&mut self) {
        self.playout.clear();
    }

    pub(super) fn queued(&self) -> usize {
        self.playout.len()
    }
}

fn mark_notice(name: &str, event: &str) -> String {
    format!(
        "{{\"type\": \"mark\", \"data\": {{\"name\":{}, \"event\": \"{event}\"}}}}",
        json::quoted(name)
    )
}
