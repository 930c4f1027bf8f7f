//! Speech handed over in files, which the switch plays.
//!
//! Each file costs a gap of some 10 ms when it begins, so they are as long as the first sound can bear: the first one is sent
//! when 600 ms are at hand, the next one shortly before the former ends, with all that has come meanwhile, and each is cut
//! where the voice pauses if it pauses. Two at most are with the switch: the one it plays and the one that follows.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tandem_call::LegEvent;
use tandem_media::SampleRate;

use crate::{
    ledger::Ledger,
    message::AudioMessage,
    speech_queue::{Part, SpeechQueue},
    timeline::{Timeline, finish_part, start_item},
};

/// Speech at hand with which the first file is worth its gap.
const FIRST: Duration = Duration::from_millis(600);
/// The least speech of a file that others follow.
const SHORTEST: Duration = Duration::from_millis(200);
/// The longest file.
const LONGEST: Duration = Duration::from_secs(5);
/// The largest file: as base64 it stays below 600 kB.
const LARGEST: usize = 440_000;
/// The next file is sent so long before the end of the one that plays: the way by the event socket takes some 50 ms.
const AHEAD: Duration = Duration::from_millis(300);
/// Speech of a model that has stopped in mid-sentence is played when it has waited for so long.
const PATIENCE: Duration = Duration::from_secs(1);
/// A file that has not begun by then will not.
const START_LIMIT: Duration = Duration::from_secs(6);
/// A file whose end is not reported by then has ended.
const END_GRACE: Duration = Duration::from_secs(1);

/// Speech on its way to a switch that plays files.
#[derive(Debug)]
pub(crate) struct Files {
    rate: SampleRate,
    message: AudioMessage,
    /// Converted speech that is in no file yet.
    pcm: Vec<i16>,
    parts: Vec<Part>,
    sent: VecDeque<File>,
    next_id: u64,
    /// Files before this one are not to be heard any more.
    oldest: u64,
    waiting_since: Option<Instant>,
    ready_since: Option<Instant>,
    failed: u64,
    text: Vec<u8>,
}

/// A file that the switch has.
#[derive(Debug)]
struct File {
    id: u64,
    pcm: Vec<i16>,
    parts: Vec<Part>,
    sent_at: Instant,
    /// When it began, and when it will end.
    playing: Option<(Instant, Instant)>,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Started,
    Ended,
    Broken,
    Failed,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            rate: SampleRate::Hz8000,
            message: AudioMessage::PlayAudio,
            pcm: Vec::new(),
            parts: Vec::new(),
            sent: VecDeque::new(),
            next_id: 1,
            oldest: 1,
            waiting_since: None,
            ready_since: None,
            failed: 0,
            text: Vec::new(),
        }
    }
}

impl Files {
    /// A websocket is there whose module takes `message`s. The rate of what is converted already stays.
    pub(crate) fn attach(&mut self, message: AudioMessage, rate: SampleRate) {
        self.message = message;
        if self.pcm.is_empty() && self.sent.is_empty() {
            self.rate = rate;
        }
    }

    /// Speech was queued, or its end became known, or it may be sent again.
    pub(crate) fn note_queued(&mut self, now: Instant, queue: &SpeechQueue) {
        if self.has_speech(queue) {
            self.waiting_since.get_or_insert(now);
            if self.ready_since.is_none() && self.is_ready(queue) {
                self.ready_since = Some(now);
            }
        }
    }

    /// Whether the switch has files.
    pub(crate) fn is_playing(&self) -> bool {
        !self.sent.is_empty()
    }

    /// Speech that was converted and is in no file yet.
    pub(crate) fn staged(&self) -> Duration {
        self.rate.duration_of(self.pcm.len())
    }

    /// Files that the switch did not play.
    pub(crate) const fn failed(&self) -> u64 {
        self.failed
    }

    /// When the next file is to be sent.
    pub(crate) fn next_send(&self, queue: &SpeechQueue) -> Option<Instant> {
        if !self.has_speech(queue) {
            return None;
        }
        let at_last = self.waiting_since? + PATIENCE;
        let ready = self.ready_since.unwrap_or(at_last);
        match (self.sent.front(), self.sent.len()) {
            (None, _) => Some(ready),
            (Some(File { playing: Some((_, end)), .. }), 1) => {
                let at = end.checked_sub(AHEAD).unwrap_or(*end);
                Some(if self.ready_since.is_some() { ready.max(at) } else { ready.max(*end) })
            }
            _ => None,
        }
    }

    /// The next file as a message, if it is to be sent at `now`.
    pub(crate) fn poll(
        &mut self,
        now: Instant,
        queue: &mut SpeechQueue,
        ledger: &mut Ledger,
    ) -> Option<&[u8]> {
        if self.next_send(queue).is_none_or(|due| due > now) {
            return None;
        }
        let limit = self.samples(LONGEST).min(LARGEST / 2);
        let room = limit.saturating_sub(self.pcm.len());
        queue.pull(ledger, self.rate, room, &mut self.pcm, &mut self.parts);
        if self.pcm.is_empty() {
            self.pcm.resize(self.rate.hz() / 100, 0); // An item of less than a sample is a file too.
        }
        let goes_on = !queue.is_empty() || queue.open_item().is_some();
        let length = if goes_on && self.ready_since.is_some() {
            quietest(&self.pcm, self.pcm.len().min(limit) / 2, limit, self.rate)
        } else {
            self.pcm.len().min(limit)
        };
        let rest = self.pcm.split_off(length);
        let pcm = std::mem::replace(&mut self.pcm, rest);
        let parts = split_parts(&mut self.parts, length, ledger);
        let bytes: Vec<u8> = pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let id = self.next_id;
        self.next_id += 1;
        self.message.write(self.rate, Some(id), &bytes, &mut self.text);
        self.sent.push_back(File { id, pcm, parts, sent_at: now, playing: None });
        (self.waiting_since, self.ready_since) = (None, None);
        self.note_queued(now, queue);
        Some(&self.text)
    }

    /// The switch tells what became of the file `id`; false if it plays one that nobody is to hear.
    pub(crate) fn report(
        &mut self,
        now: Instant,
        id: u64,
        fate: Fate,
        timeline: &mut Timeline,
        ledger: &mut Ledger,
        events: &mut VecDeque<LegEvent>,
    ) -> bool {
        if id < self.oldest {
            return fate != Fate::Started;
        }
        if !self.sent.iter().any(|file| file.id == id) {
            return true;
        }
        while self.sent.front().is_some_and(|file| file.id < id) {
            self.finish(now, Fate::Ended, timeline, ledger, events); // Files follow each other.
        }
        if fate == Fate::Started {
            self.start(now, timeline, ledger);
        } else {
            self.finish(now, fate, timeline, ledger, events);
        }
        true
    }

    /// When a file is given up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let file = self.sent.front()?;
        Some(match file.playing {
            Some((_, end)) => end + END_GRACE,
            None => file.sent_at + START_LIMIT,
        })
    }

    /// Gives up files of which nothing is heard any more.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        timeline: &mut Timeline,
        ledger: &mut Ledger,
        events: &mut VecDeque<LegEvent>,
    ) {
        while let Some(file) = self.sent.front()
            && self.deadline().is_some_and(|deadline| deadline <= now)
        {
            let fate = if file.playing.is_some() { Fate::Ended } else { Fate::Failed };
            self.finish(now, fate, timeline, ledger, events);
        }
    }

    /// Throws everything away; the ledger's parts are cut with it. Files with the switch are to be broken.
    pub(crate) fn clear(&mut self) {
        self.pcm.clear();
        self.parts.clear();
        self.sent.clear();
        self.oldest = self.next_id;
        (self.waiting_since, self.ready_since) = (None, None);
    }

    /// The module of another websocket plays by itself: what is in files, or on its way into one, is not heard any more. What was
    /// playing is the timeline's to end.
    pub(crate) fn abandon(&mut self, ledger: &mut Ledger, events: &mut VecDeque<LegEvent>) {
        let sent = self.sent.drain(..).filter(|file| file.playing.is_none());
        let parts = sent.flat_map(|file| file.parts).chain(self.parts.drain(..));
        for part in parts {
            start_item(part.item, ledger, events);
            finish_part(part.item, ledger, events);
        }
        self.clear();
    }

    /// Takes back what was not heard yet, of a [`settle`](Timeline::settle)d timeline, of the files that are with the switch, which
    /// are to be broken.
    pub(crate) fn take_back(&mut self, now: Instant, timeline: &mut Timeline, ledger: &mut Ledger) {
        let (mut pcm, mut parts) = (Vec::new(), Vec::new());
        for mut file in std::mem::take(&mut self.sent) {
            if let Some((start, _)) = file.playing {
                let rests = timeline.take_rest(now, ledger);
                let heard = if rests.is_empty() {
                    file.pcm.len()
                } else {
                    self.samples(now.saturating_duration_since(start)).min(file.pcm.len())
                };
                file.pcm.drain(..heard);
                file.parts.clear();
                let mut left = file.pcm.len();
                for (item, length) in rests {
                    let samples = self.samples(length).min(left);
                    left -= samples;
                    file.parts.push(Part { item, samples });
                }
                if let Some(last) = file.parts.last_mut() {
                    last.samples += left;
                }
            }
            pcm.append(&mut file.pcm);
            parts.append(&mut file.parts);
        }
        pcm.append(&mut self.pcm);
        parts.append(&mut self.parts);
        (self.pcm, self.parts) = (pcm, parts);
        self.oldest = self.next_id;
        (self.waiting_since, self.ready_since) = (None, None);
    }

    fn start(&mut self, now: Instant, timeline: &mut Timeline, ledger: &mut Ledger) {
        let rate = self.rate;
        let Some(file) = self.sent.front_mut().filter(|file| file.playing.is_none()) else {
            return;
        };
        let start = timeline.begin(now);
        if timeline.is_tapped() {
            timeline.keep(start, rate, &file.pcm);
        }
        for part in &file.parts {
            timeline.add(ledger, part.item, rate.duration_of(part.samples));
        }
        file.playing = Some((start, timeline.until().unwrap_or(start)));
    }

    /// The file at the front is over.
    fn finish(
        &mut self,
        now: Instant,
        fate: Fate,
        timeline: &mut Timeline,
        ledger: &mut Ledger,
        events: &mut VecDeque<LegEvent>,
    ) {
        let Some(file) = self.sent.pop_front() else { return };
        if file.playing.is_some() {
            timeline.end(now, fate != Fate::Ended, ledger, events);
            return;
        }
        self.failed += u64::from(fate == Fate::Failed);
        for part in file.parts {
            start_item(part.item, ledger, events);
            if fate == Fate::Ended {
                ledger.hear(part.item, self.rate.duration_of(part.samples));
            }
            finish_part(part.item, ledger, events);
        }
    }

    fn has_speech(&self, queue: &SpeechQueue) -> bool {
        !self.pcm.is_empty() || !self.parts.is_empty() || !queue.is_empty()
    }

    fn is_ready(&self, queue: &SpeechQueue) -> bool {
        let least = if self.sent.is_empty() { FIRST } else { SHORTEST };
        queue.open_item().is_none()
            || self.rate.duration_of(self.pcm.len()) + queue.length() >= least
    }

    fn samples(&self, length: Duration) -> usize {
        (length.as_micros() * self.rate.hz() as u128 / 1_000_000) as usize
    }
}

/// Takes the parts of the first `samples` samples out of `parts`.
fn split_parts(parts: &mut Vec<Part>, samples: usize, ledger: &mut Ledger) -> Vec<Part> {
    let (mut taken, mut left) = (Vec::new(), samples);
    let mut whole = 0;
    for part in parts.iter_mut() {
        if part.samples > left {
            if left > 0 {
                ledger.add_part(part.item);
                taken.push(Part { item: part.item, samples: left });
                part.samples -= left;
            }
            break;
        }
        left -= part.samples;
        taken.push(*part);
        whole += 1;
    }
    parts.drain(..whole);
    taken
}

/// The middle of the quietest 30 ms of `pcm` between `from` and `to`.
fn quietest(pcm: &[i16], from: usize, to: usize, rate: SampleRate) -> usize {
    let step = rate.hz() / 100;
    let energy =
        |frame: &[i16]| -> f64 { frame.iter().map(|&s| f64::from(s) * f64::from(s)).sum() };
    let end = to.min(pcm.len());
    let mut best = (f64::INFINITY, end);
    let mut at = from;
    while at + 3 * step <= end {
        let here = energy(&pcm[at..at + 3 * step]);
        if here <= best.0 {
            best = (here, at + 3 * step / 2);
        }
        at += step;
    }
    best.1
}
