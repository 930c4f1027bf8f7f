//! The model's speech waits here, as it came, until it is sent.

use std::{collections::VecDeque, time::Duration};

use tandem_call::ItemId;
use tandem_media::{AudioFormat, Resampler, SampleRate};

use crate::{converter::Converter, ledger::Ledger};

/// Audio a queue holds.
const BOUND: Duration = Duration::from_secs(600);
/// Stretches of different items or formats that may wait at once.
const MAX_STRETCHES: usize = 1024;
/// An empty queue that has grown beyond this many bytes gives the memory back.
const KEPT_CAPACITY: usize = 64 * 1024;
/// Audio converted in one go.
const BLOCK: Duration = Duration::from_millis(20);

/// A bounded queue of audio in the model's formats, converted when it is pulled: what goes back may change with the websocket.
#[derive(Debug, Default)]
pub(crate) struct SpeechQueue {
    returned: Returned,
    bytes: VecDeque<u8>,
    stretches: VecDeque<Stretch>,
    /// The last item of which audio came, and whether more may come.
    newest: Option<(ItemId, bool)>,
    /// The first half of a sample that was split between two chunks.
    half: Option<Half>,
    converter: Converter,
    block: Vec<u8>,
    refused: u64,
}

/// Audio that was pulled, sent and taken back; it goes first. Each part of it is still one in the ledger.
#[derive(Debug, Default)]
struct Returned {
    rate: Option<SampleRate>,
    pcm: VecDeque<i16>,
    parts: VecDeque<Part>,
}

/// Adjacent queued bytes of one item and format.
#[derive(Debug)]
struct Stretch {
    item: ItemId,
    format: AudioFormat,
    bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct Half {
    item: ItemId,
    format: AudioFormat,
    byte: u8,
}

/// Adjacent samples of one item that have left the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) item: ItemId,
    pub(crate) samples: usize,
}

impl SpeechQueue {
    /// Queues audio of `item`; what would exceed ten minutes is refused and counted.
    pub(crate) fn push(
        &mut self,
        ledger: &mut Ledger,
        item: ItemId,
        format: AudioFormat,
        audio: &[u8],
    ) {
        if audio.is_empty() {
            return;
        }
        let half = self.half.take().filter(|half| (half.item, half.format) == (item, format));
        let unit = format.bytes_per_sample();
        let whole = (audio.len() + usize::from(half.is_some())) / unit * unit;
        if whole < audio.len() + usize::from(half.is_some())
            && let Some(&byte) = audio.last()
        {
            self.half = Some(Half { item, format, byte });
        }
        if whole == 0 {
            return;
        }
        self.newest = Some((item, true));
        let continues =
            self.stretches.back().is_some_and(|last| last.item == item && last.format == format);
        let room = if continues || self.stretches.len() < MAX_STRETCHES {
            format.bytes_per(BOUND.saturating_sub(self.length()))
        } else {
            0
        };
        let accepted = whole.min(room);
        self.refused += (whole - accepted) as u64;
        ledger.receive(item, format, whole, accepted);
        if accepted == 0 {
            return;
        }
        self.bytes.extend(half.map(|half| half.byte));
        self.bytes.extend(&audio[..accepted - usize::from(half.is_some())]);
        match self.stretches.back_mut() {
            Some(last) if continues => last.bytes += accepted,
            _ => self.stretches.push_back(Stretch { item, format, bytes: accepted }),
        }
    }

    /// No more audio of `item` will come.
    pub(crate) fn end(&mut self, item: ItemId) {
        if let Some((newest, open)) = &mut self.newest
            && *newest == item
        {
            *open = false;
            if self.stretches.is_empty() {
                self.converter.reset(); // What the resampler still holds is a click by now, not the item's end.
            }
        }
    }

    /// The item of which more audio may come.
    pub(crate) fn open_item(&self) -> Option<ItemId> {
        self.newest.and_then(|(item, open)| open.then_some(item))
    }

    /// How long the queued audio lasts.
    pub(crate) fn length(&self) -> Duration {
        let stretches = self.stretches.iter();
        let queued: Duration =
            stretches.map(|stretch| stretch.format.duration_of(stretch.bytes)).sum();
        queued + self.returned.length()
    }

    /// Whether nothing is queued.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.returned.parts.is_empty()
    }

    /// Takes back what was pulled last, in front of all else.
    pub(crate) fn give_back(&mut self, rate: Option<SampleRate>, pcm: &[i16], parts: &[Part]) {
        let returned = &mut self.returned;
        returned.rate = rate.or(returned.rate);
        pcm.iter().rev().for_each(|sample| returned.pcm.push_front(*sample));
        parts.iter().rev().for_each(|part| returned.parts.push_front(*part));
    }

    /// Bytes that the full queue did not take.
    pub(crate) const fn refused(&self) -> u64 {
        self.refused
    }

    /// Appends at least `samples` at the rate `to`, or all there are, to `pcm`, and whose they are to `parts`.
    pub(crate) fn pull(
        &mut self,
        ledger: &mut Ledger,
        to: SampleRate,
        samples: usize,
        pcm: &mut Vec<i16>,
        parts: &mut Vec<Part>,
    ) {
        let end = pcm.len() + samples;
        self.returned.pull(ledger, to, end, pcm, parts);
        while pcm.len() < end
            && let Some(front) = self.stretches.front_mut()
        {
            let Stretch { item, format, .. } = *front;
            let unit = format.bytes_per_sample();
            let rate = format.rate().hz();
            let wanted = ((end - pcm.len()) * rate).div_ceil(to.hz());
            let bytes = (wanted * unit).min(format.bytes_per(BLOCK)).min(front.bytes);
            front.bytes -= bytes;
            let is_over = front.bytes == 0;
            self.block.clear();
            take_front(&mut self.bytes, bytes, &mut self.block);
            ledger.take(item, bytes);
            let before = pcm.len();
            self.converter.convert(format, to, &self.block, pcm);
            if is_over {
                self.stretches.pop_front();
                let next = self.stretches.front().map(|next| next.item);
                if next.map_or_else(|| self.open_item() != Some(item), |next| next != item) {
                    self.converter.finish(pcm);
                }
            }
            add_part(ledger, parts, item, pcm.len() - before);
        }
        self.give_memory_back();
    }

    /// Throws everything away.
    pub(crate) fn clear(&mut self) {
        self.returned = Returned::default();
        self.bytes.clear();
        self.stretches.clear();
        (self.newest, self.half) = (None, None);
        self.converter.reset();
        self.give_memory_back();
    }

    fn give_memory_back(&mut self) {
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT_CAPACITY {
            self.bytes.shrink_to(KEPT_CAPACITY);
        }
    }
}

impl Returned {
    fn length(&self) -> Duration {
        self.rate.map_or(Duration::ZERO, |rate| rate.duration_of(self.pcm.len()))
    }

    /// Appends what there is, until `pcm` holds `end` samples.
    fn pull(
        &mut self,
        ledger: &mut Ledger,
        to: SampleRate,
        end: usize,
        pcm: &mut Vec<i16>,
        parts: &mut Vec<Part>,
    ) {
        self.convert(to);
        while pcm.len() < end
            && let Some(front) = self.parts.front_mut()
        {
            let samples = front.samples.min(end - pcm.len());
            pcm.extend(self.pcm.drain(..samples));
            front.samples -= samples;
            let item = front.item;
            let is_over = front.samples == 0;
            if is_over {
                self.parts.pop_front();
            }
            match parts.last_mut() {
                Some(last) if last.item == item => {
                    last.samples += samples;
                    if is_over {
                        ledger.join_parts(item);
                    }
                }
                _ => {
                    if !is_over {
                        ledger.add_part(item);
                    }
                    parts.push(Part { item, samples });
                }
            }
        }
    }

    /// Another websocket may take another rate. Rare: it may allocate.
    fn convert(&mut self, to: SampleRate) {
        let Some(rate) = self.rate.replace(to).filter(|rate| *rate != to) else { return };
        let mut converted = Vec::new();
        for part in &mut self.parts {
            let before = converted.len();
            let samples: Vec<i16> = self.pcm.drain(..part.samples).collect();
            let mut resampler = Resampler::new(rate, to);
            resampler.process(&samples, &mut converted);
            part.samples = converted.len() - before;
        }
        self.pcm = converted.into();
    }
}

/// Appends samples of `item` to `parts`. An item without a whole sample is a part too, so that it begins and ends.
fn add_part(ledger: &mut Ledger, parts: &mut Vec<Part>, item: ItemId, samples: usize) {
    match parts.last_mut() {
        Some(last) if last.item == item => last.samples += samples,
        _ => {
            ledger.add_part(item);
            parts.push(Part { item, samples });
        }
    }
}

fn take_front(from: &mut VecDeque<u8>, count: usize, into: &mut Vec<u8>) {
    let (front, back) = from.as_slices();
    let of_front = count.min(front.len());
    into.extend_from_slice(&front[..of_front]);
    into.extend_from_slice(&back[..count - of_front]);
    from.drain(..count);
}

#[cfg(test)]
mod tests {
    use tandem_media::Law;

    use super::*;

    const MU: AudioFormat = AudioFormat::G711(Law::Mu);
    const PCM8: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz8000);
    const PCM24: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz24000);

    fn pull(queue: &mut SpeechQueue, ledger: &mut Ledger, samples: usize) -> Vec<(u64, usize)> {
        let (mut pcm, mut parts) = (Vec::new(), Vec::new());
        queue.pull(ledger, SampleRate::Hz8000, samples, &mut pcm, &mut parts);
        assert_eq!(parts.iter().map(|part| part.samples).sum::<usize>(), pcm.len());
        parts.iter().map(|part| (part.item.0, part.samples)).collect()
    }

    #[test]
    fn items_of_any_format_come_out_as_long_as_they_went_in() {
        let (mut queue, mut ledger) = (SpeechQueue::default(), Ledger::default());
        queue.push(&mut ledger, ItemId(1), PCM24, &[0; 2 * 2_400]);
        queue.push(&mut ledger, ItemId(2), MU, &[0xFF; 100]);
        queue.push(&mut ledger, ItemId(3), PCM8, &[0; 401]);
        assert_eq!(queue.length(), Duration::from_micros(100_000 + 12_500 + 25_000));
        assert_eq!(pull(&mut queue, &mut ledger, 160), [(1, 160)]);
        assert_eq!(pull(&mut queue, &mut ledger, 10_000), [(1, 640), (2, 100), (3, 200)]);
        assert_eq!(pull(&mut queue, &mut ledger, 1), [], "half a sample waits for its other half");
        queue.push(&mut ledger, ItemId(3), PCM8, &[0; 1]);
        assert_eq!(pull(&mut queue, &mut ledger, 9), [(3, 1)]);
        queue.push(&mut ledger, ItemId(3), PCM8, &[0; 5]);
        queue.end(ItemId(3));
        assert_eq!(pull(&mut queue, &mut ledger, 9), [(3, 2)]);
        assert!(queue.is_empty());
    }

    #[test]
    fn audio_beyond_ten_minutes_or_a_flood_of_items_is_refused() {
        let (mut queue, mut ledger) = (SpeechQueue::default(), Ledger::default());
        queue.push(&mut ledger, ItemId(1), MU, &vec![0; 4_800_100]);
        assert_eq!(queue.refused(), 100);
        queue.push(&mut ledger, ItemId(2), MU, &[0; 50]);
        assert_eq!((queue.refused(), queue.length()), (150, BOUND));
        queue.clear();
        let cut = ledger.cut();
        assert_eq!(cut.len(), 1, "the second item never had audio queued");
        assert_eq!(cut[0].received, Duration::from_micros(4_800_100 * 125));
        for item in 10..3_000 {
            queue.push(&mut ledger, ItemId(item), MU, &[0]);
        }
        assert_eq!(queue.refused(), 150 + 2_990 - MAX_STRETCHES as u64);
        assert!(queue.bytes.capacity() <= 2 * KEPT_CAPACITY);
    }
}
