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

/// What is kept of what is not to be kept.
pub(super) const PAUSED: &str = "[paused]";

/// Models write the caller's words down late, and do not say when they were said: those that come so soon behind a pause
/// may be of it.
const LATE_WORDS: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Entry {
    speaker: Speaker,
    text: String,
    start: Instant,
    /// The agent's item; the caller has none.
    item: Option<ItemId>,
    /// How much of how much was heard, once that is no longer all.
    cut: Option<(Duration, Duration)>,
    /// Its text is for the model alone.
    paused: bool,
}

/// Both sides of the conversation, piece by piece.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    entries: Vec<Entry>,
    bytes: usize,
    /// The caller's entry that further pieces belong to.
    open: Option<usize>,
    pause: Pause,
}

/// When words are not kept.
#[derive(Debug, Clone, Copy, Default)]
enum Pause {
    /// They are, and were from the beginning.
    #[default]
    Never,
    /// Not now.
    Now,
    /// They are again since this instant; the agent's words were not up to this item.
    Since(Instant, Option<ItemId>),
}

impl Transcript {
    /// What is said is for the model alone from now on: neither record nor anybody else gets the words.
    pub(super) fn pause(&mut self) {
        self.pause = Pause::Now;
    }

    /// What is said is kept again: of the agent, behind the item `latest`.
    pub(super) fn resume(&mut self, now: Instant, latest: Option<ItemId>) {
        if self.is_paused() {
            self.pause = Pause::Since(now, latest);
        }
    }

    /// Whether what is said is not kept.
    pub(super) const fn is_paused(&self) -> bool {
        matches!(self.pause, Pause::Now)
    }

    /// What is kept of words that the model hands over now.
    pub(super) const fn kept_of<'a>(&self, words: &'a str) -> &'a str {
        if self.is_paused() { PAUSED } else { words }
    }

    /// A piece, which comes at `now`, of what the caller says in the turn that began at `start`.
    pub(super) fn caller(&mut self, now: Instant, start: Instant, text: &str, last: bool) {
        let index = match self.open {
            Some(index) => Some(index),
            None if text.trim().is_empty() => None,
            None => self.add(Speaker::Caller, start, None),
        };
        if let Some(index) = index {
            self.entries[index].paused |= match self.pause {
                Pause::Never => false,
                Pause::Now => true,
                Pause::Since(at, _) => {
                    start <= at || now.saturating_duration_since(at) < LATE_WORDS
                }
            };
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
            self.entries[index].paused |= match self.pause {
                Pause::Never => false,
                Pause::Now => true,
                Pause::Since(_, latest) => latest.is_some_and(|latest| item <= latest),
            };
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
                let (heard, unheard) = entry.kept(playout);
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

    /// The conversation so far for a session that takes over: what was heard, the latest last, also what is not kept.
    pub(super) fn history(&self, playout: &Playout) -> Vec<HistoryTurn> {
        self.latest(|entry| entry.split(playout).0)
    }

    /// The conversation so far for anybody else.
    pub(super) fn kept(&self, playout: &Playout) -> Vec<HistoryTurn> {
        self.latest(|entry| entry.kept(playout).0)
    }

    fn latest<'a>(&'a self, text: impl Fn(&'a Entry) -> &'a str) -> Vec<HistoryTurn> {
        let mut bytes = 0;
        let mut turns: Vec<_> = self
            .in_order()
            .into_iter()
            .rev()
            .map(|entry| HistoryTurn { speaker: entry.speaker, text: text(entry).to_owned() })
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
        let text = String::new();
        self.entries.push(Entry { speaker, text, start, item, cut: None, paused: false });
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

    /// As [`split`](Self::split), without what is not kept.
    fn kept(&self, playout: &Playout) -> (&str, &str) {
        if self.paused { (PAUSED, "") } else { self.split(playout) }
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
        transcript.caller(start, start, " is my", false);
        transcript.caller(start, start + 700 * MS, " bike ready?", true);
        transcript.caller(start, start + 900 * MS, "Hm.", true);
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
    fn words_of_a_pause_are_kept_from_all_but_the_model() {
        const SECOND: Duration = Duration::from_secs(1);
        let start = beginning();
        let at = |seconds: u32| start + seconds * SECOND;
        let mut playout = Playout::default();
        for item in 1..=3 {
            playout.receive(ItemId(item), SECOND, 0);
        }
        let mut transcript = Transcript::default();
        transcript.caller(at(1), at(0), "I want to pay.", true);
        transcript.agent(at(2), ItemId(1), "The number, please.", &playout);
        transcript.caller(at(3), at(3), "It is", false);
        transcript.pause();
        transcript.caller(at(5), at(3), " 4111 1111", true);
        transcript.agent(at(6), ItemId(2), "4111 1111,", &playout);
        transcript.caller(at(8), at(7), "1111", true);
        transcript.resume(at(9), Some(ItemId(2)));
        transcript.agent(at(10), ItemId(2), " go on.", &playout);
        transcript.agent(at(11), ItemId(3), "Thank you.", &playout);
        transcript.caller(at(12), at(11), "1111", true); // Written down late.
        transcript.caller(at(30), at(8), "expires in May", true); // And very late.
        transcript.caller(at(31), at(29), "Goodbye.", true);
        transcript.resume(at(32), Some(ItemId(3)));
        transcript.caller(at(33), at(31), "Still there?", true); // It was no pause that ended.
        transcript.cut(ItemId(2), SECOND / 2, SECOND);
        let texts = |turns: Vec<HistoryTurn>| turns.into_iter().map(|it| it.text).collect();
        let kept: Vec<String> = texts(transcript.kept(&playout));
        let expected = [
            "I want to pay.",
            "The number, please.",
            PAUSED,
            PAUSED,
            PAUSED,
            PAUSED,
            "Thank you.",
            PAUSED,
            "Goodbye.",
            "Still there?",
        ];
        assert_eq!(kept, expected);
        let turns = transcript.turns(Some(start), &playout);
        assert!(turns.iter().map(|turn| &turn.text).eq(&kept));
        assert!(turns.iter().all(|turn| turn.text_unheard.is_none()));
        let told: Vec<String> = texts(transcript.history(&playout));
        assert_eq!(told[2..4], ["It is 4111 1111", "4111"]);
    }

    #[test]
    fn a_transcript_has_bounds() {
        let start = beginning();
        let playout = Playout::default();
        let mut transcript = Transcript::default();
        for turn in 0..10_000_u32 {
            transcript.caller(start, start + turn * MS, &"word ".repeat(100), true);
        }
        assert_eq!(transcript.bytes, MOST_BYTES);
        assert!(transcript.entries.len() <= MOST_ENTRIES);
        let history = transcript.history(&playout);
        assert!(history.len() <= HISTORY_TURNS && !history.is_empty());
        assert!(history.iter().map(|turn| turn.text.len()).sum::<usize>() <= HISTORY_BYTES);
    }
}
