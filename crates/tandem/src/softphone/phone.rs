//! The telephone as a machine: RTP leg, cues, recording and turns, without socket or clock.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tandem_call::{Digit, ItemId, LegEvent, LegQuality, MediaLeg};
use tandem_media::{AudioFormat, Codec, SampleRate};
use tandem_rtp::{Channel, LegConfig, MediaParams, RtpLeg, RtpPacket, Transmit, is_rtcp};

use super::{
    cue::Cue,
    monitor::Monitor,
    notes::Notes,
    recording::Track,
    turns::{HeardTurn, Turns},
    wav::Clip,
};

/// The rate of a telephone that has agreed on nothing yet.
const NARROW: SampleRate = SampleRate::Hz8000;

/// What the caller does at a cue.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Plays this.
    Play(Clip),
    /// Presses these digits.
    Press(Vec<Digit>),
    /// Hangs up.
    HangUp,
}

/// One end of a call, with a script.
#[derive(Debug)]
pub struct Phone {
    leg: RtpLeg,
    /// The rate of what is recorded: that of the codec that was agreed on first.
    rate: Option<SampleRate>,
    monitor: Monitor,
    cues: Vec<(Cue, Action)>,
    answered: Option<Instant>,
    first_rtp: Option<Instant>,
    next_item: u64,
    hang_up: bool,
    said: Turns,
    heard: Turns,
    sent: Track,
    received: Track,
    digits_heard: String,
    notes: Notes,
    /// The far side's turns whose beginning was noted.
    turns_begun: usize,
    /// Those whose end was noted.
    turns_ended: usize,
    pcm: Vec<i16>,
}

impl Phone {
    /// A telephone that will do `cues` once the call is answered. `unix_now` is the wall clock at `now`.
    pub fn new(
        now: Instant,
        unix_now: Duration,
        seed: u64,
        media_timeout: Duration,
        cues: Vec<(Cue, Action)>,
    ) -> Self {
        let config = LegConfig {
            ssrc: (seed >> 32) as u32,
            first_sequence: (seed >> 16) as u16 & 0x7FFF,
            first_timestamp: seed as u32,
            cname: "tandem-call".into(),
            codec: Codec::PCMU,
            uplink: AudioFormat::Pcm16(NARROW),
            media_timeout,
            seed,
        };
        Self {
            leg: RtpLeg::new(now, unix_now, config),
            rate: None,
            monitor: Monitor::new(NARROW),
            cues,
            answered: None,
            first_rtp: None,
            next_item: 0,
            hang_up: false,
            said: Turns::new(NARROW),
            heard: Turns::new(NARROW),
            sent: Track::new(NARROW),
            received: Track::new(NARROW),
            digits_heard: String::new(),
            notes: Notes::default(),
            turns_begun: 0,
            turns_ended: 0,
            pcm: Vec::new(),
        }
    }

    /// Takes what offer and answer settled.
    pub fn apply(&mut self, now: Instant, params: MediaParams) {
        if self.rate.is_none() {
            let rate = params.codec.rate();
            self.rate = Some(rate);
            self.leg.set_uplink(AudioFormat::Pcm16(rate));
            self.monitor = Monitor::new(rate);
            (self.said, self.heard) = (Turns::new(rate), Turns::new(rate));
            (self.sent, self.received) = (Track::new(rate), Track::new(rate));
        }
        self.monitor.tune(&params);
        self.leg.apply(now, params);
    }

    /// The call was answered: its clock starts.
    pub fn answered(&mut self, now: Instant) {
        self.answered.get_or_insert(now);
    }

    /// Takes a datagram from the RTP port; what is no packet of the call is passed over.
    pub fn handle_rtp(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) {
        if self.leg.handle_rtp(now, source, datagram).is_ok() && !is_rtcp(datagram) {
            self.first_rtp.get_or_insert(now);
        }
        self.listen();
    }

    /// Takes a datagram from the RTCP port; what is no report of the call is passed over.
    pub fn handle_rtcp(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) {
        // The leg counts what it can't use.
        let _ = self.leg.handle_rtcp(now, source, datagram);
    }

    /// Does what is due at `now`: the leg's timers and the cues.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.leg.poll_timeout().is_some_and(|due| due <= now) {
            self.leg.handle_timeout(now);
        }
        self.listen();
        self.follow_cues(now);
        while let Some(event) = self.leg.poll_event() {
            match event {
                LegEvent::Digit(digit) => {
                    self.digits_heard.push(digit.as_char());
                    self.note(now, &format!("they press {digit}"));
                }
                LegEvent::MediaTimeout => {
                    self.note(now, "no RTP for too long");
                    self.hang_up = true;
                }
                LegEvent::PlayoutStarted { .. }
                | LegEvent::PlayoutDrained { .. }
                | LegEvent::PlayoutCleared { .. }
                | LegEvent::SpeechStarted
                | LegEvent::SpeechPaused { .. }
                | LegEvent::SpeechResumed
                | LegEvent::SpeechStopped { .. } => {}
            }
        }
    }

    /// The next datagram due at `now`.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit<'_>> {
        let Self { leg, answered, sent, said, monitor, .. } = self;
        let transmit = leg.poll_transmit(now)?;
        let audio = (transmit.channel == Channel::Rtp && !is_rtcp(transmit.bytes))
            .then(|| RtpPacket::parse(transmit.bytes).ok())
            .flatten();
        if let (Some(packet), Some(answered)) = (audio, *answered)
            && let Some(pcm) = monitor.hear(&packet)
        {
            let at = now.saturating_duration_since(answered);
            if let Some(place) = sent.put(at, pcm) {
                said.hear(place, pcm);
            }
        }
        Some(transmit)
    }

    /// When `poll_transmit` has something again.
    pub fn next_send(&self) -> Option<Instant> {
        self.leg.next_send()
    }

    /// When `handle_timeout` is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let cue = self.answered.and_then(|answered| {
            let due = |(cue, _): &(Cue, Action)| cue.due(self.heard.heard());
            self.cues.iter().filter_map(due).min().map(|due| answered + due)
        });
        [self.leg.poll_timeout(), cue].into_iter().flatten().min()
    }

    /// Something to tell the person who watches: time since the answer and what happened, in the order in which it
    /// happened. A note waits a second for earlier ones, after `close` no longer.
    pub fn poll_note(&mut self, now: Instant) -> Option<String> {
        self.notes.poll(self.elapsed(now))
    }

    /// When `poll_note` has something again.
    pub fn next_note(&self) -> Option<Instant> {
        self.answered.zip(self.notes.due()).map(|(answered, due)| answered + due)
    }

    /// Adds what others saw of the call to the notes.
    pub fn note(&mut self, now: Instant, text: &str) {
        self.notes.add(self.elapsed(now), text);
    }

    /// Whether a cue or a lost stream asks for the end of the call.
    pub fn wants_to_hang_up(&self) -> bool {
        self.hang_up
    }

    /// Ends the media; the turns are final afterwards, and RTCP's BYE waits in `poll_transmit`.
    pub fn close(&mut self, now: Instant) {
        self.leg.close(now);
        self.said.finish();
        self.heard.finish();
        self.note_turns();
        self.notes.finish();
    }

    /// When the first RTP packet came.
    pub fn first_rtp(&self) -> Option<Instant> {
        self.first_rtp
    }

    /// The far side's turns so far.
    pub fn heard_turns(&self) -> &[HeardTurn] {
        self.heard.heard()
    }

    /// Our own turns so far.
    pub fn said_turns(&self) -> &[HeardTurn] {
        self.said.heard()
    }

    /// Digits the far side pressed.
    pub fn digits_heard(&self) -> &str {
        &self.digits_heard
    }

    /// What the network did.
    pub fn quality(&self) -> LegQuality {
        self.leg.quality()
    }

    /// What we sent and what we heard.
    pub fn tracks(&self) -> (&Track, &Track) {
        (&self.sent, &self.received)
    }

    /// Takes what the leg has heard into recording and turns.
    fn listen(&mut self) {
        let Self { leg, answered, received, heard, pcm, .. } = self;
        while let Some(frame) = leg.poll_uplink() {
            let Some(answered) = *answered else { continue };
            pcm.clear();
            pcm.extend(frame.audio.as_chunks().0.iter().map(|&bytes| i16::from_le_bytes(bytes)));
            let at = frame.arrival.saturating_duration_since(answered);
            if let Some(place) = received.put(at, pcm) {
                heard.hear(place, pcm);
            }
        }
        self.note_turns();
    }

    fn note_turns(&mut self) {
        for (n, turn) in self.heard.heard().iter().enumerate().skip(self.turns_ended) {
            let number = n + 1;
            if self.turns_begun < number {
                self.turns_begun = number;
                self.notes.add(turn.start, format!("they speak (turn {number})"));
            }
            let Some(end) = turn.end else { break };
            self.turns_ended = number;
            let length = end.saturating_sub(turn.start).as_secs_f64();
            self.notes.add(end, format!("they spoke for {length:.2} s (turn {number})"));
        }
    }

    fn follow_cues(&mut self, now: Instant) {
        let Some(answered) = self.answered else { return };
        let elapsed = now.saturating_duration_since(answered);
        let turns = self.heard.heard();
        let (mut due, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.cues)
            .into_iter()
            .partition(|(cue, _)| cue.due(turns).is_some_and(|due| due <= elapsed));
        due.sort_by_key(|(cue, _)| cue.due(turns));
        self.cues = waiting;
        for (_, action) in due {
            self.act(now, action);
        }
    }

    fn act(&mut self, now: Instant, action: Action) {
        match action {
            Action::Play(Clip { rate, pcm }) => {
                let length = rate.duration_of(pcm.len());
                self.note(now, &format!("we play {:.2} s", length.as_secs_f64()));
                let bytes: Vec<u8> = pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect();
                let item = ItemId(self.next_item);
                self.next_item += 1;
                self.leg.play(now, item, AudioFormat::Pcm16(rate), &bytes);
                self.leg.end_item(now, item);
            }
            Action::Press(digits) => {
                let text: String = digits.iter().map(|digit| digit.as_char()).collect();
                match self.leg.send_digits(now, &digits) {
                    Ok(()) => self.note(now, &format!("we press {text}")),
                    Err(error) => self.note(now, &format!("{text} could not be pressed: {error}")),
                }
            }
            Action::HangUp => self.hang_up = true,
        }
    }

    /// Time since the answer.
    fn elapsed(&self, now: Instant) -> Duration {
        self.answered.map_or(Duration::ZERO, |answered| now.saturating_duration_since(answered))
    }
}

#[cfg(test)]
mod tests {
    use tandem_media::Ptime;
    use tandem_rtp::{Direction, Latching};

    use super::*;

    const TICK: Duration = Duration::from_millis(1);

    fn params(port: u16) -> MediaParams {
        MediaParams {
            remote_rtp: SocketAddr::from(([127, 0, 0, 1], port)),
            remote_rtcp: SocketAddr::from(([127, 0, 0, 1], port + 1)),
            rtcp_mux: false,
            codec: Codec::PCMU,
            payload_type: 0,
            opus: tandem_media::OpusParams::DEFAULT,
            telephone_event: Some(101),
            telephone_event_hz: 8_000,
            comfort_noise: Some(13),
            ptime: Ptime::MS20,
            direction: Direction::SendRecv,
            latching: Latching::Off,
        }
    }

    fn phone(now: Instant, seed: u64, port: u16, cues: Vec<(Cue, Action)>) -> Phone {
        let mut phone = Phone::new(now, Duration::from_secs(1), seed, Duration::from_secs(2), cues);
        phone.apply(now, params(port));
        phone.answered(now);
        phone
    }

    fn speech(millis: usize) -> Clip {
        let pcm = (0..millis * 8)
            .map(|n| {
                let seconds = n as f64 / 8000.0;
                let loudness = 0.55 - 0.45 * (seconds * 4.0 * std::f64::consts::TAU).cos();
                let buzz =
                    (1..8).map(|k| (seconds * 130.0 * f64::from(k) * std::f64::consts::TAU).sin());
                (buzz.sum::<f64>() * loudness * 2000.0) as i16
            })
            .collect();
        Clip { rate: SampleRate::Hz8000, pcm }
    }

    fn quiet(samples: usize) -> Clip {
        Clip { rate: SampleRate::Hz8000, pcm: vec![0; samples] }
    }

    /// Carries everything `from` sends to `to`, whose packets come from `source`.
    fn carry(now: Instant, from: &mut Phone, to: &mut Phone, source_port: u16) {
        from.handle_timeout(now);
        while let Some(transmit) = from.poll_transmit(now) {
            let (channel, bytes) = (transmit.channel, transmit.bytes.to_vec());
            match channel {
                Channel::Rtp => {
                    to.handle_rtp(now, SocketAddr::from(([127, 0, 0, 1], source_port)), &bytes);
                }
                Channel::Rtcp => {
                    to.handle_rtcp(
                        now,
                        SocketAddr::from(([127, 0, 0, 1], source_port + 1)),
                        &bytes,
                    );
                }
            }
        }
    }

    #[test]
    fn two_phones_talk_take_turns_and_press_digits() {
        let start = Instant::now();
        let at = |millis| Cue::At(Duration::from_millis(millis));
        let five = Digit::new('5').unwrap();
        // `a` sends to port 2000, where `b` is, and the other way round.
        let mut a = phone(
            start,
            1 << 40 | 7,
            2000,
            vec![
                (
                    Cue::After { turn: 1, plus: Duration::from_millis(800) },
                    Action::Play(speech(600)),
                ),
                (at(4100), Action::Press(vec![five])),
            ],
        );
        let mut b = phone(
            start,
            2 << 40 | 9,
            1000,
            vec![
                (at(200), Action::Play(speech(1000))),
                // Just before the answer to it can be heard, and while it is.
                (at(1960), Action::Play(quiet(1600))),
                (at(2300), Action::Play(quiet(2400))),
                (at(5000), Action::HangUp),
            ],
        );
        let mut now = start;
        let mut notes = Vec::new();
        while !b.wants_to_hang_up() && now < start + Duration::from_secs(9) {
            carry(now, &mut a, &mut b, 1000);
            carry(now, &mut b, &mut a, 2000);
            notes.extend(std::iter::from_fn(|| b.poll_note(now)));
            now += TICK;
        }
        assert!((now - start).abs_diff(Duration::from_secs(5)) < Duration::from_millis(30));
        a.close(now);
        b.close(now);
        let near = |time: Duration, millis: u64| {
            time.abs_diff(Duration::from_millis(millis)) < Duration::from_millis(160)
        };
        let [turn] = a.heard_turns() else { panic!("{:?}", a.heard_turns()) };
        assert!(near(turn.start, 200) && near(turn.end.unwrap(), 1200), "{turn:?}");
        let &[answer] = b.heard_turns() else { panic!("{:?}", b.heard_turns()) };
        assert!(near(answer.start, 2000) && near(answer.end.unwrap(), 2600), "{answer:?}");
        assert!(near(a.said_turns()[0].start, 2000), "{:?}", a.said_turns());
        assert_eq!(b.digits_heard(), "5");
        let (sent, received) = a.tracks();
        assert!(sent.length().abs_diff(received.length()) < Duration::from_millis(100));
        let live = notes.len();
        notes.extend(std::iter::from_fn(|| b.poll_note(now)));
        let (times, texts): (Vec<f64>, Vec<&str>) = notes
            .iter()
            .map(|note| note.split_once(" s  ").expect("a note has a time"))
            .map(|(time, text)| (time.trim().parse::<f64>().expect("seconds"), text))
            .unzip();
        assert!(times.is_sorted(), "{notes:?}");
        let length = (answer.end.unwrap() - answer.start).as_secs_f64();
        assert_eq!(
            texts,
            [
                "we play 1.00 s",
                "we play 0.20 s",
                "they speak (turn 1)",
                "we play 0.30 s",
                &format!("they spoke for {length:.2} s (turn 1)"),
                "they press 5",
            ]
        );
        assert_eq!(times[2], (answer.start.as_secs_f64() * 1000.0).round() / 1000.0);
        assert_eq!(live, 5, "told while the call goes on: {notes:?}");
    }

    #[test]
    fn a_dead_line_ends_the_call() {
        let start = Instant::now();
        let mut phone = phone(start, 3, 2000, Vec::new());
        let mut now = start;
        while !phone.wants_to_hang_up() && now < start + Duration::from_secs(5) {
            phone.handle_timeout(now);
            while phone.poll_transmit(now).is_some() {}
            now += TICK;
        }
        assert!((now - start).abs_diff(Duration::from_secs(2)) < Duration::from_millis(30));
    }
}
