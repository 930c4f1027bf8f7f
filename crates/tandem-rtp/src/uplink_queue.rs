//! Frames on their way to the model, in one buffer that is reused.

use std::{collections::VecDeque, time::Instant};

use tandem_call::{Origin, UplinkFrame};
use tandem_media::AudioFormat;

/// Frames that may wait. A caller that polls after each packet never sees more than a handful.
const MAX_FRAMES: usize = 64;

/// Bytes already read that may lie before the frames still waiting.
const MAX_SLACK: usize = 16 * 1024;

/// A frame without its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) format: AudioFormat,
    pub(crate) speech: bool,
    pub(crate) arrival: Instant,
    pub(crate) origin: Origin,
}

#[derive(Debug)]
pub(crate) struct UplinkQueue {
    bytes: Vec<u8>,
    /// Bytes before this are read.
    read: usize,
    frames: VecDeque<(usize, Frame)>,
    dropped: u64,
}

impl UplinkQueue {
    /// An empty queue with room for 100 ms of any format.
    pub(crate) fn new() -> Self {
        let bytes = Vec::with_capacity(8 * 1024);
        Self { bytes, read: 0, frames: VecDeque::with_capacity(16), dropped: 0 }
    }

    /// Appends a frame whose bytes `write` adds to the buffer; the oldest makes room when too many wait.
    pub(crate) fn push(&mut self, frame: Frame, write: impl FnOnce(&mut Vec<u8>)) {
        if self.frames.is_empty() {
            self.bytes.clear();
            self.read = 0;
        } else if self.read > MAX_SLACK {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
        let before = self.bytes.len();
        write(&mut self.bytes);
        let length = self.bytes.len() - before;
        if length == 0 {
            return;
        }
        if self.frames.len() == MAX_FRAMES {
            self.dropped += 1;
            self.pop();
        }
        self.frames.push_back((length, frame));
    }

    pub(crate) fn pop(&mut self) -> Option<UplinkFrame<'_>> {
        let (length, frame) = self.frames.pop_front()?;
        let start = self.read;
        self.read += length;
        let Frame { format, speech, arrival, origin } = frame;
        Some(UplinkFrame { audio: &self.bytes[start..self.read], format, speech, arrival, origin })
    }

    /// Frames thrown away because nobody polled.
    pub(crate) const fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_media::Law;

    #[test]
    fn frames_come_out_as_they_went_in_and_the_oldest_makes_room() {
        let frame = Frame {
            format: AudioFormat::G711(Law::Mu),
            speech: false,
            arrival: crate::testing::start(),
            origin: Origin::Caller,
        };
        let mut queue = UplinkQueue::new();
        for n in 0..100u8 {
            queue.push(frame, |bytes| bytes.extend([n; 160]));
        }
        queue.push(frame, |_| {});
        let left: Vec<_> =
            std::iter::from_fn(|| queue.pop().map(|frame| (frame.audio[0], frame.audio.len())))
                .collect();
        assert_eq!(left, (36..100).map(|n| (n, 160)).collect::<Vec<_>>());
        assert_eq!(queue.dropped(), 36);
    }

    #[test]
    fn a_queue_that_is_never_empty_does_not_grow() {
        let frame = Frame {
            format: AudioFormat::G711(Law::Mu),
            speech: false,
            arrival: crate::testing::start(),
            origin: Origin::Caller,
        };
        let mut queue = UplinkQueue::new();
        for n in 0..100_000u32 {
            queue.push(frame, |bytes| bytes.extend(n.to_be_bytes()));
            queue.push(frame, |bytes| bytes.extend(n.to_be_bytes()));
            queue.pop();
        }
        assert!(queue.bytes.capacity() <= 4 * MAX_SLACK);
    }
}
