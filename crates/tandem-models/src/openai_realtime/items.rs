//! The stretches of speech of a session, by the server's names and ours.

use std::{collections::VecDeque, time::Duration};

use tandem_call::ItemId;
use tandem_media::AudioFormat;

/// Items that are remembered: a truncate is about the latest few.
const MAX_ITEMS: usize = 64;

/// One assistant message with what came of it.
#[derive(Debug)]
pub(super) struct Item {
    key: String,
    pub(super) id: ItemId,
    pub(super) content_index: u32,
    /// Bytes of audio handed over.
    pub(super) received: usize,
    /// Some of its transcript was handed over.
    pub(super) written: bool,
    done: bool,
    truncated: bool,
}

/// Hands out ids in the order of speech and remembers the latest items.
#[derive(Debug)]
pub(super) struct Items {
    next: ItemId,
    items: VecDeque<Item>,
}

impl Items {
    pub(super) fn new(first: ItemId) -> Self {
        Self { next: first, items: VecDeque::new() }
    }

    /// The id the next new item gets.
    pub(super) fn next_id(&self) -> ItemId {
        self.next
    }

    /// Uses no id below `first`.
    pub(super) fn start_at(&mut self, first: ItemId) {
        self.next = self.next.max(first);
    }

    /// The item the server calls `key`, new if it was not heard of.
    pub(super) fn of(&mut self, key: &[u8]) -> &mut Item {
        let at = match self.items.iter().rposition(|item| item.key.as_bytes() == key) {
            Some(at) => at,
            None => {
                if self.items.len() == MAX_ITEMS {
                    self.items.pop_front();
                }
                self.items.push_back(Item {
                    key: String::from_utf8_lossy(key).into_owned(),
                    id: self.next,
                    content_index: 0,
                    received: 0,
                    written: false,
                    done: false,
                    truncated: false,
                });
                self.next.0 += 1;
                self.items.len() - 1
            }
        };
        &mut self.items[at]
    }

    /// The server says that all of `key` was sent.
    pub(super) fn finish(&mut self, key: &str) {
        if let Some(item) = self.items.iter_mut().rfind(|item| item.key == key) {
            item.done = true;
        }
    }

    /// What to tell the server when `heard` of `id` was heard: its name, the content index and whole milliseconds,
    /// never more than was received. None when there is nothing to tell.
    pub(super) fn truncate(
        &mut self,
        id: ItemId,
        heard: Duration,
        format: AudioFormat,
    ) -> Option<(&str, u32, u64)> {
        let item = self.items.iter_mut().rfind(|item| item.id == id)?;
        let received = format.duration_of(item.received);
        if item.truncated || (item.done && heard >= received) {
            return None;
        }
        let millis = heard.min(received).as_millis() as u64;
        if millis == 0 {
            return None;
        }
        item.truncated = true;
        Some((&item.key, item.content_index, millis))
    }

    /// The server's name of an item to be forgotten, and the item is.
    pub(super) fn forget(&mut self, id: ItemId) -> Option<String> {
        let at = self.items.iter().rposition(|item| item.id == id)?;
        self.items.remove(at).map(|item| item.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_media::Law;

    const MU: AudioFormat = AudioFormat::G711(Law::Mu);

    #[test]
    fn truncation_is_clamped_and_told_once() {
        for (received, done, heard_us, told) in [
            (8_000, false, 600_900, Some(600)),
            (8_000, true, 600_900, Some(600)),
            (8_000, false, 1_500_000, Some(1_000)), // Never beyond what there is.
            (8_000, true, 1_000_000, None),         // All of it was heard.
            (8_000, false, 900, None),              // Less than a millisecond.
            (0, false, 500_000, None),              // No audio to cut.
        ] {
            let mut items = Items::new(ItemId(5));
            items.of(b"item_1").received = received;
            if done {
                items.finish("item_1");
            }
            let heard = Duration::from_micros(heard_us);
            let first = items.truncate(ItemId(5), heard, MU).map(|(_, _, millis)| millis);
            assert_eq!(first, told, "{received} bytes, {heard:?} heard");
            assert_eq!(items.truncate(ItemId(5), heard, MU), None, "told twice");
        }
        assert_eq!(Items::new(ItemId(0)).truncate(ItemId(1), Duration::MAX, MU), None);
    }

    #[test]
    fn ids_rise_and_the_oldest_items_are_forgotten() {
        let mut items = Items::new(ItemId(10));
        for n in 0..200_u64 {
            assert_eq!(items.of(format!("item_{n}").as_bytes()).id, ItemId(10 + n));
        }
        assert_eq!(items.items.len(), MAX_ITEMS);
        assert_eq!(items.of(b"item_199").id, ItemId(209));
        assert_eq!(items.next_id(), ItemId(210));
        assert_eq!(items.forget(ItemId(209)).as_deref(), Some("item_199"));
        assert_eq!(items.forget(ItemId(209)), None);
    }
}
