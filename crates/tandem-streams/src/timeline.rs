//! What the caller hears when, by our clock: audio that was sent, and when it is played.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tandem_call::{ItemId, LegEvent, Tap};
use tandem_media::SampleRate;

use crate::{
    ledger::Ledger,
    reel::Reel,
    speech_queue::{Part, SpeechQueue},
};

/// Audio on its way to the caller's ear.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    segments: VecDeque<Segment>,
    /// The end of all that was sent, silence included.
    until: Option<Instant>,
    /// Its sound.
    reel: Reel,
}

/// One part of one item.
#[derive(Debug)]
struct Segment {
    item: ItemId,
    start: Instant,
    end: Instant,
}

impl Timeline {
    /// From now on `tap` hears what the caller hears.
    pub(crate) fn set_tap(&mut self, tap: Box<dyn Tap>) {
        self.reel.set_tap(tap);
    }

    /// When all that was sent has been played.
    pub(crate) const fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether nothing that was sent is still to be played at `now`.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// Whether speech that was sent is still to be played.
    pub(crate) fn has_speech(&self) -> bool {
        !self.segments.is_empty()
    }

    /// What is sent next is played at `at`, or behind what was sent before.
    pub(crate) fn begin(&mut self, at: Instant) -> Instant {
        let start = self.until.map_or(at, |until| until.max(at));
        self.until = Some(start);
        start
    }

    /// Part of `item` was sent, after [`begin`](Self::begin).
    pub(crate) fn add(&mut self, ledger: &mut Ledger, item: ItemId, length: Duration) {
        let start = self.until.expect("the timeline has begun");
        let end = start + length;
        self.until = Some(end);
        match self.segments.back_mut() {
            Some(last) if last.item == item && last.end == start => {
                last.end = end;
                ledger.join_parts(item);
            }
            _ => self.segments.push_back(Segment { item, start, end }),
        }
    }

    /// Whether somebody records what is played.
    pub(crate) const fn is_tapped(&self) -> bool {
        self.reel.is_tapped()
    }

    /// How what is sent sounds that is played from `start` on.
    pub(crate) fn keep(&mut self, start: Instant, rate: SampleRate, pcm: &[i16]) {
        self.reel.add(start, rate, pcm);
    }

    /// Silence was sent, after [`begin`](Self::begin).
    pub(crate) fn add_silence(&mut self, length: Duration) {
        self.until = self.until.map(|until| until + length);
    }

    /// When the next event is due.
    pub(crate) fn deadline(&self, ledger: &Ledger) -> Option<Instant> {
        let front = self.segments.front()?;
        Some(if ledger.is_started(front.item) { front.end } else { front.start })
    }

    /// Reports what has begun and ended by `now`.
    pub(crate) fn settle(
        &mut self,
        now: Instant,
        ledger: &mut Ledger,
        events: &mut VecDeque<LegEvent>,
    ) {
        self.reel.settle(now);
        while let Some(front) = self.segments.front()
            && front.start <= now
        {
            let Segment { item, start, end } = *front;
            start_item(item, ledger, events);
            if end > now {
                return;
            }
            self.segments.pop_front();
            ledger.hear(item, end - start);
            finish_part(item, ledger, events);
        }
    }

    /// What is still to be played comes later by `lateness`, or earlier.
    pub(crate) fn shift(&mut self, lateness: Lateness) {
        self.reel.shift(lateness);
        for segment in &mut self.segments {
            segment.start = lateness.apply(segment.start);
            segment.end = lateness.apply(segment.end);
        }
        self.until = self.until.map(|until| lateness.apply(until));
    }

    /// Nothing more of it is played: the caller heard what was played until `now`, of [`settle`](Self::settle)d audio. The parts
    /// are the ledger's to cut.
    pub(crate) fn silence(&mut self, now: Instant, ledger: &mut Ledger) {
        self.reel.cut(now);
        for Segment { item, start, .. } in self.segments.drain(..) {
            ledger.hear(item, now.saturating_duration_since(start));
        }
        self.until = None;
    }

    /// Nothing more of it is played: what was not heard by `now`, of [`settle`](Self::settle)d audio, goes back to the `queue`.
    pub(crate) fn take_back(&mut self, now: Instant, ledger: &mut Ledger, queue: &mut SpeechQueue) {
        let (mut pcm, mut parts, mut rate) = (Vec::new(), Vec::new(), None);
        for Segment { item, start, end } in self.segments.drain(..) {
            ledger.hear(item, now.saturating_duration_since(start));
            let before = pcm.len();
            rate = self.reel.take(now.max(start), end, &mut pcm).or(rate);
            parts.push(Part { item, samples: pcm.len() - before });
        }
        self.reel.cut(now);
        self.until = None;
        queue.give_back(rate, &pcm, &parts);
    }

    /// Nothing more of it is played now: what is left of each part, which goes another way.
    pub(crate) fn take_rest(
        &mut self,
        now: Instant,
        ledger: &mut Ledger,
    ) -> Vec<(ItemId, Duration)> {
        self.until = None;
        self.reel.cut(now);
        let rest = self.segments.drain(..).map(|Segment { item, start, end }| {
            ledger.hear(item, now.saturating_duration_since(start));
            (item, end.saturating_duration_since(now.max(start)))
        });
        rest.collect()
    }

    /// All that was sent will be played, whatever happens: it counts as heard, and is the ledger's to cut.
    pub(crate) fn let_go(&mut self, ledger: &mut Ledger) {
        for Segment { item, start, end } in self.segments.drain(..) {
            ledger.hear(item, end - start);
        }
    }

    /// It came to its end at `now`, played whole or (`broken`) only until then; reports it.
    pub(crate) fn end(
        &mut self,
        now: Instant,
        broken: bool,
        ledger: &mut Ledger,
        events: &mut VecDeque<LegEvent>,
    ) {
        if broken {
            self.reel.cut(now);
        } else {
            self.reel.finish();
        }
        for Segment { item, start, end } in self.segments.drain(..) {
            start_item(item, ledger, events);
            let end = if broken { end.min(now) } else { end };
            ledger.hear(item, end.saturating_duration_since(start));
            finish_part(item, ledger, events);
        }
        self.until = None;
    }
}

/// By how much something is later than it was thought to be, or earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lateness {
    Later(Duration),
    Earlier(Duration),
}

impl Lateness {
    pub(crate) fn apply(self, instant: Instant) -> Instant {
        match self {
            Self::Later(by) => instant + by,
            Self::Earlier(by) => instant.checked_sub(by).unwrap_or(instant),
        }
    }
}

/// Reports that `item` begins, once.
pub(crate) fn start_item(item: ItemId, ledger: &mut Ledger, events: &mut VecDeque<LegEvent>) {
    if ledger.start(item) {
        events.push_back(LegEvent::PlayoutStarted { item });
    }
}

/// A part of `item` is over: reports its end if nothing more of it waits.
pub(crate) fn finish_part(item: ItemId, ledger: &mut Ledger, events: &mut VecDeque<LegEvent>) {
    if ledger.finish_part(item) {
        events.push_back(LegEvent::PlayoutDrained { item });
    }
}
