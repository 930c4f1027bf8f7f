//! Rendered speech kept in memory, bounded by its size.

use std::{collections::HashMap, sync::Arc};

use super::{Speech, Utterance};

/// The most recently used speech, up to a number of bytes.
#[derive(Debug)]
pub(super) struct MemoryCache {
    entries: HashMap<Utterance, Entry>,
    bytes: usize,
    limit: usize,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    speech: Arc<Speech>,
    used: u64,
}

impl MemoryCache {
    pub(super) fn new(limit: usize) -> Self {
        Self { entries: HashMap::new(), bytes: 0, limit, uses: 0 }
    }

    pub(super) fn get(&mut self, utterance: &Utterance) -> Option<Arc<Speech>> {
        let entry = self.entries.get_mut(utterance)?;
        self.uses += 1;
        entry.used = self.uses;
        Some(Arc::clone(&entry.speech))
    }

    /// Keeps `speech`, at the cost of what was not used for longest; nothing is kept that is larger than the limit.
    pub(super) fn insert(&mut self, utterance: Utterance, speech: Arc<Speech>) {
        let size = size(&speech);
        if size > self.limit {
            return;
        }
        self.uses += 1;
        self.bytes += size;
        if let Some(before) = self.entries.insert(utterance, Entry { speech, used: self.uses }) {
            self.bytes -= self::size(&before.speech);
        }
        while self.bytes > self.limit {
            let oldest = self
                .entries
                .iter()
                .min_by_key(|(_, entry)| entry.used)
                .map(|(utterance, _)| utterance.clone());
            let Some(removed) = oldest.and_then(|oldest| self.entries.remove(&oldest)) else {
                return;
            };
            self.bytes -= self::size(&removed.speech);
        }
    }
}

fn size(speech: &Speech) -> usize {
    speech.pcm.len() * size_of::<i16>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let utterance = |text: &str| Utterance { language: "en".into(), text: text.into() };
        let speech = |samples| Arc::new(Speech { pcm: vec![0; samples] });
        let mut cache = MemoryCache::new(1_000);
        cache.insert(utterance("a"), speech(200));
        cache.insert(utterance("b"), speech(200));
        assert!(cache.get(&utterance("a")).is_some());
        cache.insert(utterance("c"), speech(200));
        assert!(cache.get(&utterance("b")).is_none());
        assert!(cache.get(&utterance("a")).is_some() && cache.get(&utterance("c")).is_some());
        cache.insert(utterance("a"), speech(100));
        assert_eq!(cache.bytes, 600, "a replaced entry is counted once");
        cache.insert(utterance("huge"), speech(501));
        assert!(cache.get(&utterance("huge")).is_none());
        assert_eq!(cache.entries.len(), 2);
    }
}
