//! Who said what, and what of it was heard.

use std::time::{Duration, Instant};

use super::playout::Playout;
use crate::{HistoryTurn, ItemId, Speaker, TranscriptTurn};

/// Entries and bytes that are kept of one call.
const MOST_ENTRIES: usize = 4_096;
const MOST_BYTES: usize = 512 * 1_024;

/// Turns and bytes that are carried into a new session.
const HISTORY_TURNS: usize = 100;
const HISTORY_BYTES: usize = 16 * 1_024;

#[derive(Debug)]
struct Entry {
    speaker: Speaker,
    text: String,
    start: Instant,
    /// The agent's item; the caller has none.
    item: Option<ItemId>,
    /// How much of how much was heard, once that is no longer all.
    cut: Option<(Duration, Duration)>,
}

/// Both sides of the conversation, piece by piece.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    entries: Vec<Entry>,
    bytes: usize,
    /// The caller's entry that further pieces belong to.
    open: Option<usize>,
}

impl Transcript {
    /// A piece of what the caller says in the turn that began at `start`.
    pub(super) fn caller(&mut self, start: Instant, text: &str, last: bool) {
        let index = match self.open {
            Some(index) => Some(index),
            None if text.trim().is_empty() => None,
            None => self.add(Speaker::Caller, start, None),
        };
        if let Some(index) = index {
            self.append(index, text);
        }
        self.open = if last { None } else { index };
    }

    /// When the caller's turn began whose text is not complete.
    pub(super) fn open_since(&self) -> Option<Instant> {
        self.open.map(|index| self.entries[index].start)
    }

    /// A piece of what the agent says in `item`.
    pub(super) fn agent(&mut self, now: Instant, item: ItemId, text: &str, playout: &Playout) {
        let known = self.entries.iter().rposition(|entry| entry.item == Some(item));
        let index = known.or_else(|| {
            let played = playout.get(item);
            let start = played.and_then(|item| item.started).unwrap_or(now);
            let index = self.add(Speaker::Agent, start, Some(item))?;
            self.entries[index].cut = played.and_then(|item| item.cut);
            Some(index)
        });
        if let Some(index) = index {
            self.append(index, text);
        }
    }

    /// The caller hears `item` from `now` on.
    pub(super) fn started(&mut self, now: Instant, item: ItemId) {
        if let Some(entry) = self.entry(item) {
            entry.start = now;
        }
    }

    /// The caller heard only this much of `item`.
    pub(super) fn cut(&mut self, item: ItemId, heard: Duration, received: Duration) {
        if let Some(entry) = self.entry(item) {
            entry.cut = Some((heard, received));
        }
    }

    /// Everything, in the order it was said.
    pub(super) fn turns(
        &self,
        answered: Option<Instant>,
        playout: &Playout,
    ) -> Vec<TranscriptTurn> {
        let start = |entry: &Entry| match answered {
            Some(answered) => entry.start.saturating_duration_since(answered).as_millis() as u64,
            None => 0,
        };
        self.in_order()
            .into_iter()
            .map(|entry| {
                let (heard, unheard) = entry.split(playout);
                TranscriptTurn {
                    role: entry.speaker,
                    text: heard.to_owned(),
                    start_ms: start(entry),
                    interrupted: entry.is_cut(playout),
                    text_unheard: (!unheard.is_empty()).then(|| unheard.to_owned()),
                }
            })
            .collect()
    }

    /// The conversation so far for a session that takes over: what was heard, the latest last.
    pub(super) fn history(&self, playout: &Playout) -> Vec<HistoryTurn> {
        let mut bytes = 0;
        let mut turns: Vec<_> = self
            .in_order()
            .into_iter()
            .rev()
            .map(|entry| HistoryTurn {
                speaker: entry.speaker,
                text: entry.split(playout).0.to_owned(),
            })
            .filter(|turn| !turn.text.is_empty())
            .take(HISTORY_TURNS)
            .take_while(|turn| {
                bytes += turn.text.len();
                bytes <= HISTORY_BYTES
            })
            .collect();
        turns.reverse();
        turns
    }

    fn in_order(&self) -> Vec<&Entry> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by_key(|entry| entry.start); // Stable: equal instants stay in order of arrival.
        entries
    }

    fn entry(&mut self, item: ItemId) -> Option<&mut Entry> {
        self.entries.iter_mut().rev().find(|entry| entry.item == Some(item))
    }

    fn add(&mut self, speaker: Speaker, start: Instant, item: Option<ItemId>) -> Option<usize> {
        if self.entries.len() == MOST_ENTRIES {
            return None;
        }
        self.entries.push(Entry { speaker, text: String::new(), start, item, cut: None });
        Some(self.entries.len() - 1)
    }

    fn append(&mut self, index: usize, text: &str) {
        let room = MOST_BYTES - self.bytes;
        let text = &text[..floor(text, room)];
        self.bytes += text.len();
        self.entries[index].text.push_str(text);
    }
}

impl Entry {
    /// What was heard of it and the rest.
    fn split(&self, playout: &Playout) -> (&str, &str) {
        let text = self.text.trim();
        match self.cut {
            Some((heard, received)) => split_heard(text, heard, received),
            None if self.has_no_audio(playout) => ("", text),
            None => (text, ""),
        }
    }

    fn is_cut(&self, playout: &Playout) -> bool {
        self.cut.is_some() || self.has_no_audio(playout)
    }

    /// The model wrote down what it never spoke: it was stopped before.
    fn has_no_audio(&self, playout: &Playout) -> bool {
        self.item.is_some_and(|item| playout.never_had(item))
    }
}

/// Cuts `text` where `heard` of `received` ends, back to the beginning of the word that was not finished.
///
/// Text without spaces is cut between characters.
fn split_heard(text: &str, heard: Duration, received: Duration) -> (&str, &str) {
    if heard >= received {
        return (text, "");
    }
    let share = heard.as_secs_f64() / received.as_secs_f64();
    let mut end = floor(text, (text.len() as f64 * share) as usize);
    let inside_a_word = text[end..].chars().next().is_some_and(|c| !c.is_whitespace());
    if inside_a_word && text.contains(char::is_whitespace) {
        end = text[..end].rfind(char::is_whitespace).unwrap_or(0);
    }
    (text[..end].trim_end(), text[end..].trim_start())
}

/// The last boundary between characters at or before byte `at`.
pub(super) fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::beginning;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn text_is_cut_where_the_caller_stopped_hearing() {
        for (name, text, heard, expected) in [
            ("nothing", "one two three", 0, ("", "one two three")),
            ("all", "one two three", 1_000, ("one two three", "")),
            ("in the middle of a word", "one two three", 400, ("one", "two three")),
            ("between words", "aaaa bbbb", 450, ("aaaa", "bbbb")),
            ("in the first word", "hello there", 200, ("", "hello there")),
            ("without spaces", "\u{4f60}\u{597d}\u{5417}", 700, ("\u{4f60}\u{597d}", "\u{5417}")),
            ("no text", "", 500, ("", "")),
        ] {
            assert_eq!(split_heard(text, heard * MS, 1_000 * MS), expected, "{name}");
        }
    }

    #[test]
    fn the_caller_comes_where_he_spoke_even_when_his_text_is_late() {
        let start = beginning();
        let mut playout = Playout::default();
        playout.receive(ItemId(1), 900 * MS, 0);
        let mut transcript = Transcript::default();
        transcript.agent(start + 500 * MS, ItemId(1), "Hello, ", &playout);
        transcript.agent(start + 500 * MS, ItemId(1), "Ann.", &playout);
        transcript.caller(start, " is my", false);
        transcript.caller(start + 700 * MS, " bike ready?", true);
        transcript.caller(start + 900 * MS, "Hm.", true);
        let turns = transcript.turns(Some(start), &playout);
        let texts: Vec<_> = turns.iter().map(|turn| (turn.text.as_str(), turn.start_ms)).collect();
        assert_eq!(texts, [("is my bike ready?", 0), ("Hello, Ann.", 500), ("Hm.", 900)]);
    }

    #[test]
    fn what_was_never_spoken_is_unheard() {
        let start = beginning();
        let playout = Playout::default();
        let mut transcript = Transcript::default();
        transcript.agent(start, ItemId(1), "Never said.", &playout);
        let turns = transcript.turns(Some(start), &playout);
        assert_eq!((turns[0].text.as_str(), turns[0].interrupted), ("", true));
        assert_eq!(turns[0].text_unheard.as_deref(), Some("Never said."));
        assert!(transcript.history(&playout).is_empty());
    }

    #[test]
    fn a_transcript_has_bounds() {
        let start = beginning();
        let playout = Playout::default();
        let mut transcript = Transcript::default();
        for turn in 0..10_000_u32 {
            transcript.caller(start + turn * MS, &"word ".repeat(100), true);
        }
        assert_eq!(transcript.bytes, MOST_BYTES);
        assert!(transcript.entries.len() <= MOST_ENTRIES);
        let history = transcript.history(&playout);
        assert!(history.len() <= HISTORY_TURNS && !history.is_empty());
        assert!(history.iter().map(|turn| turn.text.len()).sum::<usize>() <= HISTORY_BYTES);
    }
}
