//! Every 20 ms of a channel: what it does, what it hears and says.

use std::time::Instant;

use super::{
    audio::FILLER,
    channel::{Channel, Kind},
    fork_module::ForkEvent,
    model::{FRAME, StoredFile, SwitchModel},
};

/// Frames a key is held: 160 ms as in the captures.
const KEY_FRAMES: u32 = 8;

/// Most frames that wait between the halves of a loopback pair.
const MOST_LOOPED_FRAMES: usize = 5;

/// The length of such a digit as events tell it, samples at 8 kHz.
const KEY_SAMPLES: u32 = 1_280;

impl SwitchModel {
    /// One beat of a channel.
    pub(crate) fn tick(&mut self, uuid: &str, now: Instant) {
        let Some(channel) = self.channels.get_mut(uuid) else { return };
        channel.next_tick = now + FRAME;
        if !channel.is_up() {
            self.finish(now, uuid);
            return;
        }
        self.step_schedule(now, uuid);
        self.end_bridge(now, uuid);
        self.take_reroute(now, uuid);
        self.run_queue(now, uuid);
        self.end_what_is_due(now, uuid);
        self.advance_plan(now, uuid);
        self.carry_frame(now, uuid);
        self.take_digits(now, uuid);
        self.drain_forks(now, uuid);
    }

    /// A key is pressed at the far end, after those pressed before.
    pub(crate) fn press(&mut self, uuid: &str, key: char) {
        if let Some(channel) = self.channels.get_mut(uuid)
            && channel.media.keys.len() < 1_000
        {
            channel.media.keys.push_back((key, KEY_FRAMES));
        }
    }

    fn end_what_is_due(&mut self, now: Instant, uuid: &str) {
        let Some(channel) = self.channels.get_mut(uuid) else { return };
        let due = match channel.stack.last().map(|running| &running.kind) {
            Some(Kind::Sleep(until)) => *until <= now,
            Some(Kind::Park(Some((until, cause)))) if *until <= now => {
                let cause = cause.clone();
                self.hang_up(now, uuid, &cause);
                return;
            }
            Some(Kind::Eavesdrop(target)) => {
                let target = target.clone();
                !self.channels.contains_key(&target)
            }
            _ => false,
        };
        if due
            && let Some(running) =
                self.channels.get_mut(uuid).and_then(|channel| channel.stack.pop())
        {
            self.end_running(now, uuid, &running, true);
        }
    }

    /// Reads a frame, writes a frame, and lets forks and others have their part.
    fn carry_frame(&mut self, now: Instant, uuid: &str) {
        let Some(channel) = self.channels.get_mut(uuid).filter(|channel| channel.is_up()) else {
            return;
        };
        if !channel.has_media() {
            return;
        }
        let read = read_frame(channel);
        let (written, ended) = write_frame(channel, read.as_deref());
        let forks = channel.forks.clone();
        let mut heard = written.clone();
        for id in forks {
            let Some(fork) = self.forks.get_mut(&id) else { continue };
            fork.module.capture(now, read.as_deref(), written.as_deref());
            if let Some(frame) = &mut heard {
                fork.module.play(frame);
            }
            fork.wake.notify_one();
        }
        if let Some(read) = &read {
            for hearer in self.hearers_of(uuid) {
                if let Some(other) = self.channels.get_mut(&hearer) {
                    let converted = super::audio::converted(read, self_rate(read), other.codec.1);
                    other.media.hear(uuid, &converted);
                }
            }
        }
        let half = self.channels.get(uuid).and_then(|channel| channel.loopback.clone());
        if let (Some(frame), Some(other)) =
            (&heard, half.and_then(|half| self.channels.get_mut(&half)))
        {
            let looped = &mut other.media.looped;
            looped.extend(frame);
            let beyond = looped.len().saturating_sub(MOST_LOOPED_FRAMES * frame.len());
            looped.drain(..beyond);
        }
        if let Some(channel) = self.channels.get_mut(uuid) {
            let silence = vec![0; channel.frame_samples()];
            let frame = heard.as_deref().unwrap_or(&silence);
            channel.media.recorder.push(now, frame, heard.is_some());
        }
        if ended
            && let Some(running) =
                self.channels.get_mut(uuid).and_then(|channel| channel.stack.pop())
        {
            self.end_running(now, uuid, &running, true);
            self.advance_plan(now, uuid);
        }
    }

    /// Gives a digit to the application that runs, one each frame.
    fn take_digits(&mut self, now: Instant, uuid: &str) {
        let Some(channel) = self.channels.get_mut(uuid).filter(|channel| channel.is_up()) else {
            return;
        };
        if let Some((key, frames)) = channel.media.keys.front_mut() {
            *frames = frames.saturating_sub(1);
            if *frames == 0 {
                let key = *key;
                channel.media.keys.pop_front();
                channel.media.digits.push_back((key, "RTP", KEY_SAMPLES));
            }
        }
        // Not all applications take digits, and none is taken in the frames that are read ahead of a broadcast.
        let leads = channel.queue.front().is_some_and(|queued| queued.not_before.is_some());
        if leads || channel.application().0 == "endless_playback" {
            return;
        }
        if let Some((digit, source, duration)) = channel.media.digits.pop_front() {
            let (digit, duration) = (digit.to_string(), duration.to_string());
            let extra = [
                ("DTMF-Digit", digit.as_str()),
                ("DTMF-Duration", &duration),
                ("DTMF-Source", source),
            ];
            self.raise(now, uuid, "DTMF", &[], &extra);
        }
    }

    /// Carries out what the forks of a channel did inside the switch.
    pub(crate) fn drain_forks(&mut self, now: Instant, uuid: &str) {
        let forks =
            self.channels.get(uuid).map(|channel| channel.forks.clone()).unwrap_or_default();
        for id in forks {
            self.drain_fork(now, uuid, id);
        }
    }

    fn drain_fork(&mut self, now: Instant, uuid: &str, id: u64) {
        loop {
            let Some(fork) = self.forks.get_mut(&id) else { return };
            let module = fork.module.spec().edition.module();
            match fork.module.poll_event() {
                None => return,
                Some(ForkEvent::Raised { name, body }) => {
                    let subclass = format!("{module}::{name}");
                    self.raise_with_body(now, uuid, &subclass, &[], &[], body.as_deref());
                }
                Some(ForkEvent::File { path, rate, samples }) => {
                    self.store_file(
                        path,
                        StoredFile { rate, samples, owner: Some(uuid.to_owned()) },
                    );
                }
                Some(ForkEvent::Break) => self.break_playback(now, uuid, true),
                Some(ForkEvent::Detached) => self.detach_fork(now, id),
            }
        }
    }
}

/// What came from the caller: speech, filler where no packet came, nothing while on hold.
fn read_frame(channel: &mut Channel) -> Option<Vec<i16>> {
    let mut frame = vec![0; channel.frame_samples()];
    if channel.held || channel.held_by_caller {
        return None;
    }
    if channel.loopback.is_some() {
        let ready = channel.media.looped.len().min(frame.len());
        for (sample, looped) in frame.iter_mut().zip(channel.media.looped.drain(..ready)) {
            *sample = looped;
        }
    } else {
        channel.media.voice.fill(&mut frame);
    }
    if !channel.media.packets || !channel.media.keys.is_empty() {
        frame.fill(FILLER);
    } else if channel.media.muted {
        frame.fill(0);
    }
    Some(frame)
}

/// What the switch writes to the caller before any fork adds to it, if it writes at all; and whether what played ended.
fn write_frame(channel: &mut Channel, read: Option<&[i16]>) -> (Option<Vec<i16>>, bool) {
    let mut frame = vec![0_i16; channel.frame_samples()];
    let writes_silence = channel.writes_silence();
    let Some(running) = channel.stack.last_mut() else {
        return (writes_silence.then_some(frame), false);
    };
    match &mut running.kind {
        Kind::Play { sound, position, .. } => {
            sound.fill(*position, &mut frame);
            *position += frame.len();
            let ended = sound.length().is_some_and(|length| *position >= length);
            (Some(frame), ended)
        }
        Kind::Bridge { .. } | Kind::Conference { .. } | Kind::Eavesdrop(_) => {
            let length = frame.len();
            for (_, inbox) in &mut channel.media.inbox {
                let ready = inbox.len().min(length);
                for (sample, other) in frame.iter_mut().zip(inbox.drain(..ready)) {
                    *sample = sample.saturating_add(other);
                }
            }
            (Some(frame), false)
        }
        Kind::Echo => (read.map(<[i16]>::to_vec), false),
        // Music while it waits: silence here.
        Kind::Forever | Kind::Valet { .. } => (Some(frame), false),
        Kind::Park(_) | Kind::Socket(_) | Kind::Sleep(_) | Kind::Dial(_) => {
            // A variable that is set later counts only from the next application on.
            let writes = *running.writes_silence.get_or_insert(writes_silence);
            (writes.then_some(frame), false)
        }
    }
}

/// The rate of a 20 ms frame.
fn self_rate(frame: &[i16]) -> u32 {
    frame.len() as u32 * 50
}
