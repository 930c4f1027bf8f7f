//! The way down: the model's speech waits in the queue and goes to the caller the way the module can play it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tandem_call::{FilePlayback, ItemId, LegEvent, Tap};
use tandem_media::{AudioFormat, SampleRate};

use crate::{
    Playback, StreamShape,
    files::{Fate, Files},
    ledger::Ledger,
    message::AudioMessage,
    paced::{Paced, Piece},
    speech_queue::SpeechQueue,
    timeline::Timeline,
};

/// The downlink of one leg.
#[derive(Debug, Default)]
pub(crate) struct Downlink {
    /// How the attached module plays; none while no websocket is there.
    playback: Option<Playback>,
    /// What silences the two-way `mod_audio_stream`, if anything does.
    stream_clear: Option<String>,
    is_paused: bool,
    is_ducked: bool,
    queue: SpeechQueue,
    ledger: Ledger,
    timeline: Timeline,
    paced: Paced,
    files: Files,
    /// The switch is to break what it plays.
    break_playback: bool,
}

impl Downlink {
    pub(crate) fn new(stream_clear: Option<String>) -> Self {
        Self { stream_clear, ..Self::default() }
    }

    /// A websocket is there. What the one before still had to play is lost.
    pub(crate) fn attach(
        &mut self,
        now: Instant,
        shape: &StreamShape,
        events: &mut VecDeque<LegEvent>,
    ) {
        self.settle(now, events);
        let playback = shape.dialect.playback();
        if playback != Playback::Files || !self.files.is_playing() {
            self.timeline.end(now, true, &mut self.ledger, events);
        }
        self.playback = Some(playback);
        match playback {
            Playback::Binary | Playback::Messages => {
                self.break_playback |= self.files.is_playing();
                self.files.abandon(&mut self.ledger, events);
                self.paced.attach(now, shape, self.stream_clear.as_deref());
            }
            Playback::Files => {
                let message = match shape.dialect.is_fork() {
                    true => AudioMessage::PlayAudio,
                    false => AudioMessage::StreamAudio,
                };
                self.paced.detach();
                self.files.attach(message, shape.back);
            }
        }
        self.go_on(now);
    }

    /// The websocket is gone; what the module has is played on.
    pub(crate) fn detach(&mut self) {
        self.playback = None;
        self.paced.detach();
    }

    pub(crate) fn play(&mut self, now: Instant, item: ItemId, format: AudioFormat, audio: &[u8]) {
        self.queue.push(&mut self.ledger, item, format, audio);
        self.note_queued(now);
    }

    pub(crate) fn end_item(&mut self, now: Instant, item: ItemId) {
        self.queue.end(item);
        self.note_queued(now);
    }

    /// From now on `tap` hears what the caller hears, as far as our clock knows.
    pub(crate) fn set_tap(&mut self, tap: Box<dyn Tap>) {
        self.timeline.set_tap(tap);
    }

    /// Throws away all that was not heard yet and reports what was cut.
    pub(crate) fn clear(&mut self, now: Instant, events: &mut VecDeque<LegEvent>) {
        self.settle(now, events);
        if self.files.is_playing() {
            self.break_playback = true;
            self.timeline.silence(now, &mut self.ledger);
        } else if self.timeline.has_speech() {
            if self.paced.can_kill() {
                self.paced.kill(now);
                self.timeline.silence(now, &mut self.ledger);
            } else {
                // What the module has it plays to its end, unless it obeys the switch.
                self.break_playback = self.playback.is_some();
                self.timeline.let_go(&mut self.ledger);
            }
        }
        self.is_ducked = false;
        self.queue.clear();
        self.paced.forget();
        self.files.clear();
        events.push_back(LegEvent::PlayoutCleared { cut: self.ledger.cut() });
    }

    /// What a module has is played on, at most a quarter of a second; what is in files is broken and kept.
    pub(crate) fn pause(&mut self, now: Instant, paused: bool, events: &mut VecDeque<LegEvent>) {
        if paused && !self.is_paused && self.files.is_playing() {
            self.settle(now, events);
            self.break_playback = true;
            self.files.take_back(now, &mut self.timeline, &mut self.ledger);
        }
        let goes_on = self.is_paused && !paused;
        self.is_paused = paused;
        if goes_on {
            self.go_on(now);
        }
    }

    /// Falls silent at once where the module can be silenced: what it has not played yet, by our clock, comes back into the queue.
    /// Else no more is sent, and what it has is played on. Or it goes on, so that nothing is lost. Files are played to their end:
    /// to break one and begin it again takes longer than a duck lasts.
    pub(crate) fn duck(&mut self, now: Instant, ducked: bool, events: &mut VecDeque<LegEvent>) {
        let (begins, goes_on) = (!self.is_ducked && ducked, self.is_ducked && !ducked);
        self.is_ducked = ducked;
        if begins && self.paced.can_kill() && !self.files.is_playing() {
            self.settle(now, events);
            if self.timeline.has_speech() {
                self.paced.kill(now);
                self.paced.forget();
                self.timeline.take_back(now, &mut self.ledger, &mut self.queue);
            }
        }
        if goes_on {
            self.go_on(now);
        }
    }

    /// The switch tells of a file.
    pub(crate) fn handle_playback(
        &mut self,
        now: Instant,
        playback: &FilePlayback,
        events: &mut VecDeque<LegEvent>,
    ) {
        let (id, fate) = match playback {
            FilePlayback::Started { id } => (*id, Fate::Started),
            FilePlayback::Stopped { id, broken: false } => (*id, Fate::Ended),
            FilePlayback::Stopped { id, broken: true } => (*id, Fate::Broken),
            FilePlayback::Failed { id, .. } => (*id, Fate::Failed),
        };
        self.settle(now, events);
        let Self { files, timeline, ledger, .. } = self;
        if !files.report(now, id, fate, timeline, ledger, events) {
            self.break_playback = true;
        }
        self.settle(now, events);
        self.note_queued(now);
    }

    /// The module came to the mark `name`.
    pub(crate) fn reach_mark(&mut self, now: Instant, name: &str) {
        self.paced.reach_mark(now, name, &mut self.timeline);
    }

    /// Whether the switch is to break what it plays; once.
    pub(crate) fn take_break(&mut self) -> bool {
        std::mem::take(&mut self.break_playback)
    }

    /// When the next piece is due.
    pub(crate) fn next_send(&self) -> Option<Instant> {
        match self.playback? {
            Playback::Binary | Playback::Messages => {
                let is_still = self.is_paused || self.is_ducked;
                self.paced.next_send(&self.queue, &self.timeline, is_still)
            }
            Playback::Files if self.is_paused => None,
            Playback::Files => self.files.next_send(&self.queue),
        }
    }

    /// The next piece due at `now`.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Piece<'_>> {
        let Self { paced, files, queue, ledger, timeline, is_paused, is_ducked, .. } = self;
        match self.playback? {
            Playback::Binary | Playback::Messages => {
                paced.poll(now, queue, ledger, timeline, *is_paused || *is_ducked)
            }
            Playback::Files if *is_paused => None,
            Playback::Files => files.poll(now, queue, ledger).map(Piece::AudioText),
        }
    }

    /// The voice in the message made last, and when it is played; once, and never of files.
    pub(crate) fn take_spoken(&mut self) -> Option<(Instant, SampleRate, &[i16])> {
        self.paced.take_spoken()
    }

    /// When `settle` has something to report.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.timeline.deadline(&self.ledger), self.files.deadline()].into_iter().flatten().min()
    }

    /// Reports what the caller has come to hear by `now`.
    pub(crate) fn settle(&mut self, now: Instant, events: &mut VecDeque<LegEvent>) {
        self.timeline.settle(now, &mut self.ledger, events);
        self.files.handle_timeout(now, &mut self.timeline, &mut self.ledger, events);
    }

    pub(crate) fn heard(&self, item: ItemId) -> Option<Duration> {
        self.ledger.heard(item)
    }

    /// Audio that waits to be sent.
    pub(crate) fn queued(&self) -> Duration {
        self.queue.length() + self.files.staged()
    }

    /// Bytes that the full queue did not take.
    pub(crate) const fn refused(&self) -> u64 {
        self.queue.refused()
    }

    /// Times the model ran dry in mid-sentence.
    pub(crate) const fn underruns(&self) -> u64 {
        self.paced.underruns()
    }

    /// Files that the switch did not play.
    pub(crate) const fn failed_files(&self) -> u64 {
        self.files.failed()
    }

    fn note_queued(&mut self, now: Instant) {
        self.paced.note_queued(now, &self.queue, &self.timeline);
        self.files.note_queued(now, &self.queue);
    }

    fn go_on(&mut self, now: Instant) {
        self.paced.go_on(now, &self.queue, &self.timeline);
        self.files.note_queued(now, &self.queue);
    }
}
