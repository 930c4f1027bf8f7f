//! The downlink queue of one leg: model audio waits here, in the leg's format, until its packet leaves.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Duration};

use crate::{AudioFormat, Converter, SampleRate, g711};

/// Audio a queue holds unless told otherwise: ten minutes.
const DEFAULT_BOUND: Duration = Duration::from_secs(600);
/// Stretches of different items that may wait at once.
const MAX_STRETCHES: usize = 1024;
/// Items whose account is kept after their audio has gone.
const KEPT_ACCOUNTS: usize = 64;
/// An empty queue that has grown beyond this many bytes gives the memory back.
const KEPT_CAPACITY: usize = 64 * 1024;
/// Accounts are kept in samples of this rate, a multiple of every other.
const ACCOUNTING: SampleRate = SampleRate::Hz48000;

/// A bounded queue of audio of one format in which every sample belongs to an item, one stretch of model speech.
///
/// Items are named by rising numbers and play in the order they are pushed. An item that ran empty may get more audio.
#[derive(Debug)]
pub struct Playout {
    format: AudioFormat,
    bound: Duration,
    bytes: VecDeque<u8>,
    stretches: VecDeque<Stretch>,
    accounts: VecDeque<Account>,
    started: Vec<u64>,
    emptied: Vec<u64>,
}

/// Adjacent queued samples of one item.
#[derive(Debug)]
struct Stretch {
    item: u64,
    queued: usize,
}

/// What became of one item's audio.
#[derive(Debug)]
struct Account {
    item: u64,
    /// Samples at 48 kHz.
    received: u64,
    /// Samples at 48 kHz.
    heard: u64,
    /// Samples as they are queued.
    queued: usize,
}

/// What one packet took from the queue.
#[derive(Debug, PartialEq, Eq)]
pub struct Pulled<'a> {
    /// Bytes of audio in the packet; silence pads the rest.
    pub bytes: usize,
    /// Items of which this packet brings the first audio.
    pub started: &'a [u64],
    /// Items of which nothing is queued any more after this packet.
    pub emptied: &'a [u64],
}

/// An item that lost queued audio when the queue was cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutAudio {
    /// The item.
    pub item: u64,
    /// What had been pulled of it.
    pub heard: Duration,
    /// What had been pushed of it, audio refused for want of room included.
    pub received: Duration,
}

impl Playout {
    /// An empty queue for audio of `format` that holds ten minutes.
    pub fn new(format: AudioFormat) -> Self {
        Self::with_bound(format, DEFAULT_BOUND)
    }

    /// An empty queue for audio of `format` that holds `bound` of it.
    pub fn with_bound(format: AudioFormat, bound: Duration) -> Self {
        Self {
            format,
            bound,
            bytes: VecDeque::new(),
            stretches: VecDeque::new(),
            accounts: VecDeque::new(),
            started: Vec::new(),
            emptied: Vec::new(),
        }
    }

    /// The format of the audio that is pushed and pulled.
    pub fn format(&self) -> AudioFormat {
        self.format
    }

    /// Changes the format of the audio that is pushed and pulled from now on; what is queued is converted, and what was heard and
    /// received of each item stays as long as it was.
    ///
    /// Takes memory for the converted queue, unless both are G.711.
    pub fn set_format(&mut self, format: AudioFormat) {
        match (self.format, format) {
            (from, to) if from == to => return,
            (AudioFormat::G711(from), AudioFormat::G711(to)) => {
                let (front, back) = self.bytes.as_mut_slices();
                g711::transcode(from, to, front);
                g711::transcode(from, to, back);
            }
            (from, to) if !self.bytes.is_empty() => self.convert(from, to),
            _ => {}
        }
        self.format = format;
    }

    /// Queues audio of `item`, whole samples, after what is queued already and returns how many bytes of it were refused.
    ///
    /// The end of `bytes` that would exceed the bound is refused; so is everything when 1,024 stretches of different items wait.
    pub fn push(&mut self, item: u64, bytes: &[u8]) -> usize {
        if bytes.is_empty() {
            return 0;
        }
        let continues = self.stretches.back().is_some_and(|last| last.item == item);
        if !continues && self.stretches.len() == MAX_STRETCHES {
            return bytes.len();
        }
        let room = self.format.bytes_per(self.bound).saturating_sub(self.bytes.len());
        let size = self.format.bytes_per_sample();
        let accepted = bytes.len().min(room) / size * size;
        let (samples, received) = (accepted / size, self.accounted(bytes.len() / size));
        let account = self.account_mut(item);
        account.received += received;
        account.queued += samples;
        self.bytes.extend(&bytes[..accepted]);
        match self.stretches.back_mut() {
            Some(last) if continues => last.queued += samples,
            _ if samples > 0 => self.stretches.push_back(Stretch { item, queued: samples }),
            _ => {}
        }
        bytes.len() - accepted
    }

    /// Fills one packet of whole samples from the queue; what the queue cannot fill becomes silence.
    pub fn pull(&mut self, frame: &mut [u8]) -> Pulled<'_> {
        self.started.clear();
        self.emptied.clear();
        let bytes = self.peek(frame);
        self.bytes.drain(..bytes);
        self.settle(bytes / self.format.bytes_per_sample());
        Pulled { bytes, started: &self.started, emptied: &self.emptied }
    }

    /// Fills `frame`, whole samples, as [`pull`](Self::pull) would, but leaves all in the queue. Returns the bytes of audio in it.
    pub fn peek(&self, frame: &mut [u8]) -> usize {
        let bytes = frame.len().min(self.bytes.len());
        let (audio, padding) = frame.split_at_mut(bytes);
        let (front, back) = self.bytes.as_slices();
        let from_front = bytes.min(front.len());
        audio[..from_front].copy_from_slice(&front[..from_front]);
        audio[from_front..].copy_from_slice(&back[..bytes - from_front]);
        padding.fill(self.format.silence());
        bytes
    }

    /// The item whose audio is next.
    pub fn next_item(&self) -> Option<u64> {
        self.stretches.front().map(|stretch| stretch.item)
    }

    /// Throws away all queued audio and appends the items that lost some to `cut`, the one being played first.
    pub fn clear(&mut self, cut: &mut Vec<CutAudio>) {
        for stretch in &self.stretches {
            let account = self
                .accounts
                .iter_mut()
                .find(|account| account.item == stretch.item)
                .expect("an item with queued audio has an account");
            if account.queued > 0 {
                account.queued = 0;
                cut.push(CutAudio {
                    item: account.item,
                    heard: account.heard(),
                    received: duration(account.received),
                });
            }
        }
        self.stretches.clear();
        self.bytes.clear();
        self.give_memory_back();
    }

    /// How much of `item` has been pulled, if it is queued or among the 64 last played.
    pub fn heard(&self, item: u64) -> Option<Duration> {
        let account = self.accounts.iter().rev().find(|account| account.item == item)?;
        Some(account.heard())
    }

    /// How long the queued audio lasts.
    pub fn queued(&self) -> Duration {
        self.format.duration_of(self.bytes.len())
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Books `samples` that were pulled to the items they belong to.
    fn settle(&mut self, mut samples: usize) {
        while samples > 0 {
            let stretch =
                self.stretches.front_mut().expect("every queued sample belongs to a stretch");
            let taken = samples.min(stretch.queued);
            stretch.queued -= taken;
            samples -= taken;
            let item = stretch.item;
            if stretch.queued == 0 {
                self.stretches.pop_front();
            }
            let heard = self.accounted(taken);
            let account = self
                .accounts
                .iter_mut()
                .find(|account| account.item == item)
                .expect("an item with queued audio has an account");
            if account.heard == 0 {
                self.started.push(item);
            }
            account.heard += heard;
            account.queued -= taken;
            if account.queued == 0 {
                self.emptied.push(item);
            }
        }
        self.give_memory_back();
    }

    /// Samples of the queue as an account counts them.
    fn accounted(&self, samples: usize) -> u64 {
        (samples * (ACCOUNTING.hz() / self.format.rate().hz())) as u64
    }

    /// Converts what is queued, each stretch to the length that its place asks for and no less than a sample.
    fn convert(&mut self, from: AudioFormat, to: AudioFormat) {
        let mut converted = Vec::new();
        let mut converter = Converter::new(from, to);
        let (front, back) = self.bytes.as_slices();
        for part in [front, back] {
            converter.convert(part, &mut |bytes| converted.extend_from_slice(bytes));
        }
        converter.finish(&mut |bytes| converted.extend_from_slice(bytes));
        self.accounts.iter_mut().for_each(|account| account.queued = 0);
        let (mut end, mut converted_end) = (0, 0);
        for stretch in &mut self.stretches {
            end += stretch.queued;
            let scaled = (end * to.rate().hz()).div_ceil(from.rate().hz()).max(converted_end + 1);
            stretch.queued = scaled - converted_end;
            converted_end = scaled;
            if let Some(account) =
                self.accounts.iter_mut().find(|account| account.item == stretch.item)
            {
                account.queued += stretch.queued;
            }
        }
        converted.resize(converted_end * to.bytes_per_sample(), to.silence());
        self.bytes = converted.into();
    }

    fn account_mut(&mut self, item: u64) -> &mut Account {
        let position = match self.accounts.iter().rposition(|account| account.item == item) {
            Some(position) => position,
            None => {
                while self.accounts.len() >= KEPT_ACCOUNTS
                    && let Some(oldest) =
                        self.accounts.iter().position(|account| account.queued == 0)
                {
                    self.accounts.remove(oldest);
                }
                self.accounts.push_back(Account { item, received: 0, heard: 0, queued: 0 });
                self.accounts.len() - 1
            }
        };
        &mut self.accounts[position]
    }

    fn give_memory_back(&mut self) {
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT_CAPACITY {
            self.bytes.shrink_to(KEPT_CAPACITY);
        }
    }
}

impl Account {
    /// A queue that was converted may be a sample longer than what was received.
    fn heard(&self) -> Duration {
        duration(self.heard.min(self.received))
    }
}

fn duration(samples: u64) -> Duration {
    ACCOUNTING.duration_of(samples as usize)
}
