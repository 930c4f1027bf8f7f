//! What waits to be heard, as the machine knows it from the leg.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{Cut, ItemId, Prompt};

/// Prompts have item ids of their own from here up.
const FIRST_PROMPT: u64 = 1 << 62;

/// Finished items that are remembered for late text.
const REMEMBERED: usize = 128;

/// One stretch of speech.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) id: ItemId,
    /// What Tandem says by itself in it.
    pub(super) prompt: Option<Prompt>,
    /// The caller's speech does not stop it, as long as it is all there is.
    uninterruptible: bool,
    /// The session it came from, counted by the machine.
    pub(super) session: u32,
    /// Audio that came so far.
    pub(super) received: Duration,
    /// Its first packet.
    pub(super) started: Option<Instant>,
    /// How long it stood still since.
    still: Duration,
    /// Audio of it waits or is being played.
    pub(super) queued: bool,
    /// How much of how much was heard when it was cut.
    pub(super) cut: Option<(Duration, Duration)>,
    /// Its row in the ledger.
    pub(super) row: Option<usize>,
}

impl Item {
    /// Whether Tandem says it by itself.
    pub(super) fn is_prompt(&self) -> bool {
        is_prompt(self.id)
    }
}

/// Whether `id` names a prompt.
pub(super) fn is_prompt(id: ItemId) -> bool {
    id.0 >= FIRST_PROMPT
}

/// The machine's view of the leg's playout queue.
#[derive(Debug, Default)]
pub(super) struct Playout {
    items: VecDeque<Item>,
    prompts: u64,
    /// The highest item that was forgotten.
    forgotten: Option<ItemId>,
}

impl Playout {
    /// Nothing waits and nothing is being played.
    pub(super) fn is_silent(&self) -> bool {
        !self.items.iter().any(|item| item.queued)
    }

    /// Nothing of the model waits or is being played.
    pub(super) fn agent_is_silent(&self) -> bool {
        !self.items.iter().any(|item| item.queued && !item.is_prompt())
    }

    /// Something waits or is being played that the caller's speech may stop.
    pub(super) fn may_be_stopped(&self) -> bool {
        self.items.iter().any(|item| item.queued && !item.uninterruptible)
    }

    /// Has the prompt `id` played to its end although the caller speaks.
    pub(super) fn protect(&mut self, id: ItemId) {
        if let Some(item) = self.get_mut(id) {
            item.uninterruptible = true;
        }
    }

    /// The item `id`, if it is remembered.
    pub(super) fn get(&self, id: ItemId) -> Option<&Item> {
        self.items.iter().rev().find(|item| item.id == id)
    }

    fn get_mut(&mut self, id: ItemId) -> Option<&mut Item> {
        self.items.iter_mut().rev().find(|item| item.id == id)
    }

    /// Audio of `id` was handed to the leg; true when it is the first of it.
    pub(super) fn receive(&mut self, id: ItemId, duration: Duration, session: u32) -> bool {
        if let Some(item) = self.get_mut(id) {
            item.received = item.received.saturating_add(duration);
            item.queued = true;
            return false;
        }
        self.remember(Item {
            id,
            prompt: None,
            uninterruptible: false,
            session,
            received: duration,
            started: None,
            still: Duration::ZERO,
            queued: true,
            cut: None,
            row: None,
        });
        true
    }

    /// A new prompt's id; it counts as queued from now on.
    pub(super) fn add_prompt(&mut self, prompt: Prompt) -> ItemId {
        let id = ItemId(FIRST_PROMPT + self.prompts);
        self.prompts += 1;
        self.receive(id, Duration::ZERO, 0);
        if let Some(item) = self.get_mut(id) {
            item.prompt = Some(prompt);
        }
        id
    }

    /// Keeps where `id` is entered in the ledger.
    pub(super) fn set_row(&mut self, id: ItemId, row: usize) {
        if let Some(item) = self.get_mut(id) {
            item.row = Some(row);
        }
    }

    /// The first packet of `id` left; true when it is the first time.
    pub(super) fn start(&mut self, now: Instant, id: ItemId) -> bool {
        let Some(item) = self.get_mut(id) else { return false };
        let first = item.started.is_none();
        item.started.get_or_insert(now);
        first
    }

    /// The last of `id` was played; true when something had been queued.
    pub(super) fn drain(&mut self, id: ItemId) -> bool {
        self.get_mut(id).is_some_and(|item| std::mem::take(&mut item.queued))
    }

    /// The leg was told to throw everything away.
    pub(super) fn clear(&mut self) {
        self.items.iter_mut().for_each(|item| item.queued = false);
    }

    /// Nothing of what is queued was heard for `span`.
    pub(super) fn stood_still(&mut self, span: Duration) {
        for item in self.items.iter_mut().filter(|item| item.queued && item.started.is_some()) {
            item.still += span;
        }
    }

    /// Gives up on prompts whose end was never reported.
    pub(super) fn forget_prompts(&mut self) {
        self.items.iter_mut().filter(|item| item.is_prompt()).for_each(|item| item.queued = false);
    }

    /// Enters a cut; gives the item unless it is unknown or was cut before.
    pub(super) fn cut(&mut self, cut: Cut) -> Option<&Item> {
        let item = self.get_mut(cut.item)?;
        if item.cut.is_some() {
            return None;
        }
        item.cut = Some((cut.heard.min(cut.received), cut.received));
        Some(item)
    }

    /// The call is over: what is still queued counts as cut at what must have been heard by `now`.
    pub(super) fn cut_all(&mut self, now: Instant) {
        for item in self.items.iter_mut().filter(|item| item.queued && item.cut.is_none()) {
            let played =
                item.started.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
            let heard = played.saturating_sub(item.still);
            item.cut = Some((heard.min(item.received), item.received));
            item.queued = false;
        }
    }

    /// Whether `id` never had any audio. A prompt has it from the beginning.
    pub(super) fn never_had(&self, id: ItemId) -> bool {
        !is_prompt(id)
            && self.forgotten.is_none_or(|forgotten| forgotten < id)
            && self.get(id).is_none()
    }

    /// All that are remembered.
    pub(super) fn items(&self) -> impl Iterator<Item = &Item> {
        self.items.iter()
    }

    fn remember(&mut self, item: Item) {
        if self.items.len() >= REMEMBERED {
            let oldest = self.items.iter().position(|item| !item.queued).unwrap_or(0);
            let oldest = self.items.remove(oldest).filter(|item| !item.is_prompt());
            self.forgotten = self.forgotten.max(oldest.map(|item| item.id));
        }
        self.items.push_back(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_item_is_queued_until_it_drains_and_again_with_more_audio() {
        let mut playout = Playout::default();
        assert!(playout.receive(ItemId(1), 100 * MS, 0));
        assert!(!playout.receive(ItemId(1), 100 * MS, 0));
        assert!(!playout.is_silent());
        assert!(playout.drain(ItemId(1)));
        assert!(!playout.drain(ItemId(1)));
        assert!(playout.is_silent());
        playout.receive(ItemId(1), 50 * MS, 0);
        assert!(!playout.agent_is_silent());
    }

    #[test]
    fn a_cut_counts_once_and_never_more_than_was_received() {
        let mut playout = Playout::default();
        playout.receive(ItemId(1), 100 * MS, 0);
        let cut = Cut { item: ItemId(1), heard: 500 * MS, received: 100 * MS };
        assert_eq!(playout.cut(cut).unwrap().cut, Some((100 * MS, 100 * MS)));
        assert!(playout.cut(cut).is_none());
        assert!(playout.cut(Cut { item: ItemId(9), ..cut }).is_none());
    }

    #[test]
    fn memory_is_bounded_and_keeps_what_is_queued() {
        let mut playout = Playout::default();
        playout.receive(ItemId(0), MS, 0);
        for id in 1..1_000 {
            playout.receive(ItemId(id), MS, 0);
            playout.drain(ItemId(id));
        }
        assert_eq!(playout.items().count(), REMEMBERED);
        assert!(playout.get(ItemId(0)).is_some());
    }
}
