//! Turns a model's audio into what the leg's playout queue holds.

use tandem_call::ItemId;
use tandem_media::{AudioFormat, Converter};

/// Converter of one item after the other, each as long afterwards as it was.
#[derive(Debug, Default)]
pub(crate) struct ModelAudio {
    item: Option<ItemId>,
    converter: Converter,
}

impl ModelAudio {
    /// Converts `audio` of `item` and hands it on to `play` in the format `to`.
    pub(crate) fn convert(
        &mut self,
        item: ItemId,
        from: AudioFormat,
        to: AudioFormat,
        audio: &[u8],
        play: &mut impl FnMut(ItemId, &[u8]),
    ) {
        let formats = (self.converter.from(), self.converter.to());
        if self.item != Some(item) || formats != (from, to) {
            self.finish(play);
            self.converter.restart(from, to);
            self.item = Some(item);
        }
        self.converter.convert(audio, &mut |bytes| play(item, bytes));
    }

    /// No more audio of the current item comes: hands on what the converter still holds.
    pub(crate) fn finish(&mut self, play: &mut impl FnMut(ItemId, &[u8])) {
        if let Some(item) = self.item.take() {
            self.converter.finish(&mut |bytes| play(item, bytes));
        }
    }

    /// Forgets the current item, without a trace of it in the next one.
    pub(crate) fn reset(&mut self) {
        self.item = None;
    }

    /// The item whose audio comes.
    pub(crate) fn item(&self) -> Option<ItemId> {
        self.item
    }
}

#[cfg(test)]
mod tests {
    use tandem_media::{Law, SampleRate};

    use super::*;

    const PCM24: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz24000);

    fn tone(samples: usize) -> Vec<u8> {
        (0..samples)
            .map(|n| (8000.0 * (std::f64::consts::TAU * 300.0 * n as f64 / 24e3).sin()) as i16)
            .flat_map(i16::to_le_bytes)
            .collect()
    }

    #[test]
    fn the_next_item_takes_the_end_of_the_last_one_along() {
        for (to, size) in
            [(AudioFormat::G711(Law::A), 1), (AudioFormat::Pcm16(SampleRate::Hz8000), 2)]
        {
            let mut converter = ModelAudio::default();
            let mut lengths = [0; 3];
            let mut play = |item: ItemId, bytes: &[u8]| lengths[item.0 as usize] += bytes.len();
            converter.convert(ItemId(1), PCM24, to, &tone(480), &mut play);
            converter.convert(ItemId(2), PCM24, to, &tone(480), &mut play);
            converter.reset();
            converter.finish(&mut play);
            assert_eq!(lengths[1], 160 * size);
            assert!((140 * size..160 * size).contains(&lengths[2]));
        }
    }

    #[test]
    fn an_item_goes_on_in_another_format_and_nothing_of_it_is_lost() {
        let mut converter = ModelAudio::default();
        let mut length = 0;
        let mut play = |_: ItemId, bytes: &[u8]| length += bytes.len();
        converter.convert(ItemId(1), PCM24, AudioFormat::G711(Law::A), &tone(480), &mut play);
        converter.convert(ItemId(1), PCM24, PCM24, &tone(480), &mut play);
        assert_eq!(length, 160 + 960);
    }
}
