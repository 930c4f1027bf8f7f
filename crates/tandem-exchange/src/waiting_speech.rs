//! What is said while the caller hears an announcement waits here, so that it can be cut and the announcement can't.

use std::time::{Duration, Instant};

use tandem_call::{Cut, ItemId, MediaLeg};
use tandem_media::AudioFormat;

/// Bytes that wait at most: nearly three minutes of a model that speaks at 24 kHz. More is refused.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// Pieces of different items or formats that wait at most.
const MOST_PIECES: usize = 1_024;

/// Speech in the order in which it is to be heard.
#[derive(Debug, Default)]
pub(crate) struct WaitingSpeech {
    pieces: Vec<Piece>,
    bytes: usize,
}

#[derive(Debug)]
struct Piece {
    item: ItemId,
    format: AudioFormat,
    audio: Vec<u8>,
    /// What came of it, audio refused for want of room included.
    received: Duration,
    /// No more of the item will come.
    is_last: bool,
}

impl WaitingSpeech {
    /// Adds audio of `item`.
    pub(crate) fn push(&mut self, item: ItemId, format: AudioFormat, audio: &[u8]) {
        let room =
            (MOST_BYTES - self.bytes) / format.bytes_per_sample() * format.bytes_per_sample();
        let accepted = &audio[..audio.len().min(room)];
        if let Some(piece) = self.piece(item, format) {
            piece.received += format.duration_of(audio.len());
            piece.audio.extend_from_slice(accepted);
            self.bytes += accepted.len();
        }
    }

    /// No more audio of `item` will come.
    pub(crate) fn end_item(&mut self, item: ItemId) {
        if let Some(piece) = self.pieces.iter_mut().rfind(|piece| piece.item == item) {
            piece.is_last = true;
        }
    }

    /// Throws all away; what was cut, nothing of which was heard.
    pub(crate) fn clear(&mut self) -> Vec<Cut> {
        let mut cuts: Vec<Cut> = Vec::new();
        for Piece { item, received, .. } in std::mem::take(self).pieces {
            match cuts.iter_mut().find(|cut| cut.item == item) {
                Some(cut) => cut.received += received,
                None => cuts.push(Cut { item, heard: Duration::ZERO, received }),
            }
        }
        cuts.retain(|cut| !cut.received.is_zero());
        cuts
    }

    /// Gives all to `leg`.
    pub(crate) fn play(self, now: Instant, leg: &mut impl MediaLeg) {
        for Piece { item, format, audio, is_last, .. } in self.pieces {
            if !audio.is_empty() {
                leg.play(now, item, format, &audio);
            }
            if is_last {
                leg.end_item(now, item);
            }
        }
    }

    /// The piece at the end, if it is of `item` and `format`, or a new one; none when there is no room for one.
    fn piece(&mut self, item: ItemId, format: AudioFormat) -> Option<&mut Piece> {
        let continues =
            self.pieces.last().is_some_and(|last| last.item == item && last.format == format);
        if !continues {
            if self.pieces.len() == MOST_PIECES {
                return None;
            }
            let (audio, received) = (Vec::new(), Duration::ZERO);
            self.pieces.push(Piece { item, format, audio, received, is_last: false });
        }
        self.pieces.last_mut()
    }
}

#[cfg(test)]
mod tests {
    use tandem_media::{Law, SampleRate};

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const MU: AudioFormat = AudioFormat::G711(Law::Mu);
    const PCM: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz24000);

    #[test]
    fn what_is_cut_was_received_and_not_heard() {
        let mut waiting = WaitingSpeech::default();
        waiting.push(ItemId(1), MU, &[0; 800]);
        waiting.push(ItemId(1), PCM, &[0; 4_800]);
        waiting.end_item(ItemId(1));
        waiting.push(ItemId(2), MU, &[0; 80]);
        let cut = |item, received| Cut { item: ItemId(item), heard: Duration::ZERO, received };
        assert_eq!(waiting.clear(), [cut(1, 200 * MS), cut(2, 10 * MS)]);
        assert_eq!(waiting.clear(), []);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut waiting = WaitingSpeech::default();
        let second = vec![0; 48_000];
        (0..1_000).for_each(|_| waiting.push(ItemId(1), PCM, &second));
        assert!(waiting.bytes <= MOST_BYTES && waiting.pieces[0].audio.len() == waiting.bytes);
        assert_eq!(waiting.clear()[0].received, 1_000_000 * MS);
        (0..5_000).for_each(|item| waiting.push(ItemId(item), MU, &[0]));
        assert_eq!(waiting.pieces.len(), MOST_PIECES);
    }
}
