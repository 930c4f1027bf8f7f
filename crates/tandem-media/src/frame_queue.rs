//! Frames on their way to somebody who polls, in one buffer that is reused.

use std::collections::VecDeque;

/// Frames that may wait. A caller that polls after each packet never sees more than a handful.
const MAX_FRAMES: usize = 64;

/// Bytes already read that may lie before the frames still waiting.
const MAX_SLACK: usize = 16 * 1024;

/// A bounded queue of frames, each with something known about it; the oldest makes room when 64 wait.
#[derive(Debug)]
pub struct FrameQueue<T> {
    bytes: Vec<u8>,
    /// Bytes before this are read.
    read: usize,
    frames: VecDeque<(usize, T)>,
    dropped: u64,
}

impl<T> Default for FrameQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> FrameQueue<T> {
    /// An empty queue with room for 100 ms at 24 kHz; it grows to what is ever needed.
    pub fn new() -> Self {
        let bytes = Vec::with_capacity(5 * 1024);
        Self { bytes, read: 0, frames: VecDeque::with_capacity(8), dropped: 0 }
    }

    /// Appends a frame whose bytes `write` adds to the buffer; without any it is no frame.
    pub fn push(&mut self, tag: T, write: impl FnOnce(&mut Vec<u8>)) {
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
        self.frames.push_back((length, tag));
    }

    /// The oldest frame and what is known about it.
    pub fn pop(&mut self) -> Option<(&[u8], T)> {
        let (length, tag) = self.frames.pop_front()?;
        let start = self.read;
        self.read += length;
        Some((&self.bytes[start..self.read], tag))
    }

    /// Frames thrown away because nobody polled.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_and_the_oldest_makes_room() {
        let mut queue = FrameQueue::new();
        for n in 0..100u8 {
            queue.push(n, |bytes| bytes.extend([n; 160]));
        }
        queue.push(255, |_| {});
        let left: Vec<_> =
            std::iter::from_fn(|| queue.pop().map(|(frame, n)| (frame[0], frame.len(), n)))
                .collect();
        assert_eq!(left, (36..100).map(|n| (n, 160, n)).collect::<Vec<_>>());
        assert_eq!(queue.dropped(), 36);
    }

    #[test]
    fn a_queue_that_is_never_empty_does_not_grow() {
        let mut queue = FrameQueue::new();
        for n in 0..100_000u32 {
            queue.push((), |bytes| bytes.extend(n.to_be_bytes()));
            queue.push((), |bytes| bytes.extend(n.to_be_bytes()));
            queue.pop();
        }
        assert!(queue.bytes.capacity() <= 4 * MAX_SLACK);
    }
}
