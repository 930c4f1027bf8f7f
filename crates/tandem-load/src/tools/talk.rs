//! The model's part in one call: plays a story and keeps what it was told. No socket, no clock.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::story::{Beat, Errand, Mode, errands, story};
use crate::{generator::PTIME, marker::Marker};

/// From the call's first audio to the model's first words.
const HELLO: Duration = Duration::from_millis(500);

/// The caller's part, whom nobody hears: from the end of the model's words to its next.
const CALLERS_PART: Duration = Duration::from_millis(2_500);

/// Audio of what the model says by itself, before a call and after a result, in frames.
const SENTENCE: u16 = 50;
const WORDS: u16 = 20;

/// Without tools what they would have told is known after this.
const THINKING: Duration = Duration::from_millis(600);

/// What came of a tool in the background is told in this time after all else was said.
const NEWS: Duration = Duration::from_secs(5);

/// A daemon that brings no result in this time brings none.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// What the model does next.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Act {
    /// It speaks so many frames.
    Say { turn: Marker, frames: u16 },
    /// It speaks and calls tools in the same response.
    Ask { turn: Marker, frames: u16, errands: Vec<Errand> },
    /// It has nothing more to say.
    Over,
}

/// A time in which the caller had to wait for tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    /// The call.
    pub(super) call: u16,
    /// The words before it and the calls were written.
    pub(super) from: Instant,
    /// The turn that tells what came of it; none was ever asked for.
    pub(super) until: Option<Marker>,
}

/// What the model was told in one call.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Results by errand.
    pub(super) results: BTreeMap<u16, u32>,
    /// Results of calls that the model never made.
    pub(super) strange: u32,
    /// Results in words.
    pub(super) words: u64,
    /// Waits for blocking tools.
    pub(super) waits: Vec<Wait>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The next beat comes.
    Until(Instant),
    /// Results are outstanding, and an answer to them that is to be asked for.
    Waiting { give_up: Instant },
    /// Nothing comes any more.
    Over,
}

/// The model's part in one call.
#[derive(Debug)]
pub(super) struct Talk {
    call: u16,
    calls_tools: bool,
    beats: std::slice::Iter<'static, Beat>,
    errands: std::vec::IntoIter<Errand>,
    state: State,
    /// An answer was asked for.
    asked: bool,
    /// What came of the tools is to be said, without tools.
    answers_itself: bool,
    turns: u32,
    quiet: Instant,
    /// Background errands of which nothing was told yet.
    in_background: u32,
    told: Told,
}

impl Talk {
    /// The part in `call`, whose audio begins at `now`.
    pub(super) fn new(now: Instant, call: u16, seed: u64, calls_tools: bool) -> Self {
        Self {
            call,
            calls_tools,
            beats: story(call).iter(),
            errands: errands(seed, call).into_iter(),
            state: State::Until(now + HELLO),
            asked: false,
            answers_itself: false,
            turns: 0,
            quiet: now,
            in_background: 0,
            told: Told::default(),
        }
    }

    /// The call's number.
    pub(super) const fn call(&self) -> u16 {
        self.call
    }

    /// What it was told so far.
    #[cfg(test)]
    pub(super) const fn told(&self) -> &Told {
        &self.told
    }

    /// What it was told.
    pub(super) fn into_told(self) -> Told {
        self.told
    }

    /// The result of the errand `number` came; none: of a call that was never made.
    pub(super) fn result(&mut self, number: Option<u16>) {
        match number {
            Some(number) => *self.told.results.entry(number).or_default() += 1,
            None => self.told.strange += 1,
        }
    }

    /// The daemon wants an answer to what it told.
    pub(super) fn asked(&mut self) {
        self.asked = true;
    }

    /// The daemon told so many results in words, as it does of a tool in the background.
    pub(super) fn heard_words(&mut self, results: u32) {
        self.told.words += u64::from(results);
        self.in_background = self.in_background.saturating_sub(results);
    }

    /// When [`Self::act`] has something to do.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        match self.state {
            _ if self.asked => Some(now),
            State::Until(at) | State::Waiting { give_up: at } => Some(at),
            State::Over => None,
        }
    }

    /// What is to be done at `now`, if anything is. To be asked again until nothing is due.
    pub(super) fn act(&mut self, now: Instant) -> Option<Act> {
        if std::mem::take(&mut self.asked) {
            return Some(self.answer(now));
        }
        match self.state {
            State::Until(at) if at <= now => self.next_beat(now),
            State::Waiting { give_up } if give_up <= now => Some(self.finish()),
            State::Until(_) | State::Waiting { .. } | State::Over => None,
        }
    }

    fn answer(&mut self, now: Instant) -> Act {
        let turn = self.turn(now, SENTENCE);
        match self.state {
            State::Waiting { .. } => {
                if let Some(wait) = self.told.waits.last_mut() {
                    wait.until.get_or_insert(turn);
                }
                self.pause();
            }
            // What is told between two beats puts the next one off.
            State::Until(_) => self.pause(),
            State::Over => {}
        }
        Act::Say { turn, frames: SENTENCE }
    }

    fn next_beat(&mut self, now: Instant) -> Option<Act> {
        if std::mem::take(&mut self.answers_itself) {
            return Some(self.sentence(now));
        }
        match self.beats.next() {
            Some(Beat::Say) => Some(self.sentence(now)),
            Some(Beat::Ask(tools)) => Some(self.ask(now, tools.len())),
            None if self.in_background > 0 => {
                self.in_background = 0;
                self.state = State::Until(now + NEWS);
                None
            }
            None => Some(self.finish()),
        }
    }

    fn sentence(&mut self, now: Instant) -> Act {
        let turn = self.turn(now, SENTENCE);
        self.pause();
        Act::Say { turn, frames: SENTENCE }
    }

    fn ask(&mut self, now: Instant, tools: usize) -> Act {
        let turn = self.turn(now, WORDS);
        let errands: Vec<Errand> = self.errands.by_ref().take(tools).collect();
        if !self.calls_tools {
            self.answers_itself = true;
            self.state = State::Until(now + THINKING);
            return Act::Say { turn, frames: WORDS };
        }
        let of = |mode| errands.iter().filter(|errand| errand.tool.mode == mode).count();
        self.in_background += of(Mode::Background) as u32;
        if of(Mode::Blocking) > 0 {
            self.told.waits.push(Wait { call: self.call, from: now, until: None });
        }
        self.state = State::Waiting { give_up: now + FORGOTTEN };
        Act::Ask { turn, frames: WORDS, errands }
    }

    fn finish(&mut self) -> Act {
        self.state = State::Over;
        Act::Over
    }

    fn pause(&mut self) {
        self.state = State::Until(self.quiet + CALLERS_PART);
    }

    /// A turn of so many frames.
    fn turn(&mut self, now: Instant, frames: u16) -> Marker {
        self.quiet = self.quiet.max(now) + PTIME * u32::from(frames);
        let turn = Marker { call: self.call, number: self.turns, frame: 0 };
        self.turns += 1;
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays `talk` until it is over; `react` does what a daemon does with each act. What was done, and after how long.
    fn play(
        talk: &mut Talk,
        start: Instant,
        mut react: impl FnMut(&mut Talk, &Act),
    ) -> (Vec<Act>, Duration) {
        let mut now = start;
        let mut acts = Vec::new();
        while let Some(at) = talk.due(now) {
            now = now.max(at);
            assert!(now < start + Duration::from_secs(120), "it never ends: {acts:?}");
            if let Some(act) = talk.act(now) {
                react(talk, &act);
                acts.push(act);
            }
        }
        (acts, now - start)
    }

    fn bring_results(talk: &mut Talk, act: &Act) {
        let Act::Ask { errands, .. } = act else { return };
        for errand in errands {
            talk.result(Some(errand.number));
            if errand.tool.mode == Mode::Background {
                talk.heard_words(1);
            }
        }
        talk.asked();
    }

    #[test]
    fn every_story_calls_its_three_tools_and_ends() {
        let start = Instant::now();
        for call in 0..4 {
            let mut talk = Talk::new(start, call, 1, true);
            let (acts, took) = play(&mut talk, start, bring_results);
            let called: Vec<u16> = acts
                .iter()
                .flat_map(|act| match act {
                    Act::Ask { errands, .. } => errands.iter().map(|it| it.number).collect(),
                    Act::Say { .. } | Act::Over => Vec::new(),
                })
                .collect();
            assert_eq!(called, [0, 1, 2], "call {call}");
            assert_eq!(acts.last(), Some(&Act::Over));
            assert!((10..25).contains(&took.as_secs()), "call {call} took {took:?}");
            let told = talk.told();
            assert_eq!(told.results, BTreeMap::from([(0, 1), (1, 1), (2, 1)]));
            assert!(told.waits.iter().all(|wait| wait.until.is_some()), "{:?}", told.waits);
        }
    }

    #[test]
    fn the_same_is_said_without_tools() {
        let start = Instant::now();
        for call in 0..4 {
            let said = |calls_tools| {
                let mut talk = Talk::new(start, call, 1, calls_tools);
                let (acts, _) = play(&mut talk, start, bring_results);
                let frames = acts.into_iter().map(|act| match act {
                    Act::Say { turn, frames } | Act::Ask { turn, frames, .. } => {
                        (turn.number, frames)
                    }
                    Act::Over => (u32::MAX, 0),
                });
                frames.collect::<Vec<_>>()
            };
            assert_eq!(said(true), said(false), "call {call}");
        }
    }

    #[test]
    fn a_daemon_that_brings_no_result_ends_the_talk() {
        let start = Instant::now();
        let mut talk = Talk::new(start, 0, 1, true);
        let (acts, _) = play(&mut talk, start, |_, _| {});
        assert_eq!(acts.last(), Some(&Act::Over));
        assert_eq!(talk.told().waits.len(), 1);
        assert_eq!(talk.told().waits[0].until, None);
    }

    #[test]
    fn an_answer_that_is_asked_for_is_given_even_at_the_end() {
        let start = Instant::now();
        let mut talk = Talk::new(start, 0, 1, true);
        play(&mut talk, start, |_, _| {});
        talk.asked();
        assert!(matches!(talk.act(start), Some(Act::Say { .. })));
        assert_eq!(talk.due(start), None);
    }
}
