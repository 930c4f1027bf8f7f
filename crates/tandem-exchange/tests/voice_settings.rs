//! What an agent's audio settings do to a whole call, on virtual time: each of them, against the same call without it.

mod common;

use std::{
    cell::RefCell,
    collections::VecDeque,
    f32::consts::TAU,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use common::FRAME;
use tandem_attendant::Voice;
use tandem_call::{
    AgentSpec, Capabilities, Interruption, ItemId, ModelCommand, ModelEvent, ModelSession,
    ModelSink, ResponseEnd, SignalCommand, SignalEvent, UplinkStats,
};
use tandem_exchange::{CallCore, CoreOutput, ModelOpener, OpenSession, Opened};
use tandem_media::{
    AmbienceSettings, AmbientSound, AudioFormat, GainControl, Law, Room, VoiceSettings, g711,
};

const MU: AudioFormat = AudioFormat::G711(Law::Mu);
/// The agent says this much after the answer.
const SPEECH_MS: usize = 8_000;

/// Somebody who talks at 8 kHz: syllables of changing pitch and vowel, and pauses.
fn talk(seed: u32, ms: usize, level: f32) -> Vec<i16> {
    let mut state = seed;
    let mut random = move |least: f32, most: f32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        least + (most - least) * (state >> 8) as f32 / (1 << 24) as f32
    };
    let (mut phase, mut pitch, mut tune) = (0.0, 120.0, [500.0, 1_500.0, 2_500.0]);
    let (mut left, mut length, mut loudness) = (0, 1, 0.0);
    let mut states = [[0.0f32; 2]; 3];
    (0..ms * 8)
        .map(|n| {
            if left == 0 {
                length = random(900.0, 2_600.0) as usize;
                left = length;
                loudness = if n > 0 && random(0.0, 1.0) < 0.25 { 0.0 } else { random(0.5, 1.0) };
                pitch = (pitch * random(0.85, 1.18)).clamp(90.0, 220.0);
                tune = [random(300.0, 800.0), random(900.0, 2_100.0), random(2_200.0, 3_200.0)];
            }
            let into = 1.0 - left as f32 / length as f32;
            left -= 1;
            phase += pitch / 8_000.0;
            let pulse = if phase >= 1.0 { 20.0 } else { 0.0 };
            phase -= phase.floor();
            let excitation = pulse + random(-0.3, 0.3);
            let mut voice = 0.0;
            for (state, hz) in states.iter_mut().zip(tune) {
                let radius = (-TAU * 45.0 / 8_000.0f32).exp();
                let turn = (TAU * hz / 8_000.0).cos();
                let next = excitation + 2.0 * radius * turn * state[0] - radius * radius * state[1];
                *state = [next, state[0]];
                voice += next;
            }
            (voice * loudness * level * (TAU / 2.0 * into).sin().sqrt()) as i16
        })
        .collect()
}

/// White noise.
fn noise(samples: usize, peak: i32) -> Vec<i16> {
    let mut state = 7u32;
    (0..samples)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) as i32 % (2 * peak + 1) - peak) as i16
        })
        .collect()
}

fn encode(pcm: &[i16]) -> Vec<u8> {
    let mut bytes = vec![0; pcm.len()];
    g711::encode(Law::Mu, pcm, &mut bytes);
    bytes
}

fn decode(bytes: &[u8]) -> Vec<i16> {
    let mut pcm = vec![0; bytes.len()];
    g711::decode(Law::Mu, bytes, &mut pcm);
    pcm
}

fn db(pcm: &[i16]) -> f64 {
    let sum: f64 = pcm.iter().map(|&sample| f64::from(sample).powi(2)).sum();
    10.0 * (sum / pcm.len().max(1) as f64 + 1e-3).log10() - 90.3
}

/// A model that speaks once, when it is told to greet, and takes note of what it hears.
struct Talker {
    heard: Rc<RefCell<Vec<u8>>>,
    says: Vec<u8>,
    events: VecDeque<ModelEvent>,
    speak: bool,
    closed: bool,
}

const TALKER: Capabilities = Capabilities {
    input: &[MU],
    output: &[MU],
    truncates: true,
    detects_turns: false,
    interrupts: false,
    turn_pause: Duration::from_millis(500),
    takes_digits: false,
    answers_results: false,
    resumes: false,
    session_limit: None,
};

impl ModelSession for Talker {
    fn capabilities(&self) -> &Capabilities {
        &TALKER
    }

    fn send_audio(&mut self, _now: Instant, audio: &[u8]) {
        self.heard.borrow_mut().extend_from_slice(audio);
    }

    fn send(&mut self, _now: Instant, command: ModelCommand) {
        match command {
            ModelCommand::Greet(_) => self.speak = true,
            ModelCommand::Close => self.closed = true,
            _ => {}
        }
    }

    fn poll(&mut self, _cx: &mut Context<'_>, _now: Instant, sink: &mut dyn ModelSink) -> Poll<()> {
        if let Some(event) = self.events.pop_front() {
            sink.event(event);
            return Poll::Ready(());
        }
        if std::mem::take(&mut self.speak) {
            sink.event(ModelEvent::ResponseStarted);
            sink.audio(ItemId(1), MU, &self.says);
            sink.event(ModelEvent::ResponseEnded(ResponseEnd::Completed));
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn is_closed(&self) -> bool {
        self.closed
    }

    fn uplink_stats(&self) -> UplinkStats {
        UplinkStats {
            frames_sent: self.heard.borrow().len() as u64 / 160,
            ..UplinkStats::default()
        }
    }
}

struct Opener {
    heard: Rc<RefCell<Vec<u8>>>,
    says: Vec<u8>,
}

impl ModelOpener for Opener {
    fn open(&mut self, _now: Instant, _wanted: OpenSession) -> Opened {
        let session = Talker {
            heard: Rc::clone(&self.heard),
            says: self.says.clone(),
            events: VecDeque::from([ModelEvent::Ready]),
            speak: false,
            closed: false,
        };
        Opened { session: Box::new(session), input: MU }
    }
}

/// A caller and the core of a call, 20 ms a step.
struct Call {
    core: CallCore,
    now: Instant,
    sequence: u16,
    answered: bool,
    /// What the caller was sent since the answer.
    sent: Vec<u8>,
    /// What the model was sent.
    model_heard: Rc<RefCell<Vec<u8>>>,
}

impl Call {
    fn begin(voice: &VoiceSettings, says: &[i16]) -> Self {
        let now = Instant::now();
        let agent = AgentSpec {
            interruption: Interruption { sensitivity: 1.0, ..Interruption::default() },
            models: vec!["talker".into()],
            ..common::agent(Vec::new())
        };
        let mut leg = common::leg(now);
        leg.set_voice(voice);
        let model_heard = Rc::new(RefCell::new(Vec::new()));
        let opener = Opener { heard: Rc::clone(&model_heard), says: encode(says) };
        let prompts = Voice::tone(Duration::from_millis(30));
        let core = common::core(now, agent, leg, Box::new(opener), &prompts);
        let mut call =
            Self { core, now, sequence: 0, answered: false, sent: Vec::new(), model_heard };
        for _ in 0..50 {
            if call.answered {
                break;
            }
            call.step(None);
        }
        assert!(call.answered, "the call is answered");
        call
    }

    /// Lets 20 ms pass in which the caller sends these samples.
    fn step(&mut self, pcm: Option<&[i16]>) {
        let mut cx = Context::from_waker(Waker::noop());
        self.now += FRAME;
        self.core.handle_timeout(self.now);
        if let Some(pcm) = pcm {
            let datagram = common::packet(self.sequence, &encode(pcm));
            self.sequence += 1;
            let taken = self.core.handle_rtp(self.now, common::peer(), &datagram);
            taken.expect("the packet is a good one");
        }
        while self.core.poll_session(&mut cx, self.now) {}
        while let Some(transmit) = self.core.poll_transmit(self.now) {
            self.sent.extend(common::audio(transmit.bytes).unwrap_or_default());
        }
        self.core.after_transmit(self.now);
        while let Some(output) = self.core.poll_output() {
            if let CoreOutput::Signal(SignalCommand::Answer) = output {
                self.answered = true;
                self.core.handle_media(self.now, common::media());
                self.core.handle_signal(self.now, SignalEvent::Answered);
            }
        }
    }

    /// The caller sends all of `pcm`.
    fn say(&mut self, pcm: &[i16]) {
        pcm.chunks_exact(160).for_each(|frame| self.step(Some(frame)));
    }

    /// The caller listens by loudspeaker for `ms`: 12 dB below and 80 ms after it comes back what was sent, and `says` with it.
    fn listen(&mut self, ms: usize, says: &[i16]) {
        for n in 0..ms / 20 {
            let mut frame = [0; 160];
            if let Some(from) = self.sent.len().checked_sub(640 + 160) {
                frame.copy_from_slice(&decode(&self.sent[from..][..160]));
                frame.iter_mut().for_each(|sample| *sample /= 4);
            }
            if let Some(said) = says.get(n * 160..(n + 1) * 160) {
                frame.iter_mut().zip(said).for_each(|(slot, &sample)| *slot += sample);
            }
            self.step(Some(&frame));
        }
    }

    /// How much of `says` was sent without a change, in milliseconds.
    fn said(&self, says: &[i16]) -> usize {
        let says = encode(says);
        let silent = |byte: &u8| matches!(byte, 0xFF | 0x7F);
        let start = self.sent.iter().position(|byte| !silent(byte)).unwrap_or(0);
        let begin = says.iter().position(|byte| !silent(byte)).unwrap_or(0);
        let same = self.sent[start..].iter().zip(&says[begin..]).take_while(|(a, b)| a == b);
        (begin + same.count()) / 8
    }
}

#[test]
fn an_agent_does_not_interrupt_itself_by_a_loudspeaker() {
    let says = talk(3, SPEECH_MS, 160.0);
    let guarded = VoiceSettings::default();
    assert!(guarded.echo_guard);
    let mut call = Call::begin(&guarded, &says);
    call.listen(SPEECH_MS + 500, &[]);
    assert!(call.said(&says) > SPEECH_MS - 50, "{} ms were said", call.said(&says));

    let unguarded = VoiceSettings { echo_guard: false, ..VoiceSettings::default() };
    let mut call = Call::begin(&unguarded, &says);
    call.listen(SPEECH_MS + 500, &[]);
    assert!(call.said(&says) < 2_000, "{} ms were said", call.said(&says));
}

#[test]
fn a_caller_interrupts_over_the_loudspeaker() {
    let says = talk(3, SPEECH_MS, 160.0);
    let mut call = Call::begin(&VoiceSettings::default(), &says);
    call.listen(4_000, &[]);
    call.listen(1_500, &talk(90, 1_500, 260.0));
    let said = call.said(&says);
    assert!((3_900..4_400).contains(&said), "{said} ms were said");
}

#[test]
fn without_settings_every_byte_passes() {
    let mut call = Call::begin(&VoiceSettings::default(), &[]);
    let pcm = talk(5, 2_000, 100.0);
    call.say(&pcm);
    let heard = call.model_heard.borrow();
    let sent = encode(&pcm);
    assert!(heard.windows(sent.len()).any(|window| window == sent), "the bytes are the caller's");
}

#[test]
fn noise_is_suppressed_before_the_model_hears_it() {
    let mut pcm = noise(8 * 6_000, 500);
    for (slot, voice) in pcm[8 * 3_000..].iter_mut().zip(talk(5, 3_000, 120.0)) {
        *slot = slot.saturating_add(voice);
    }
    let heard = |denoise: bool| {
        let settings = VoiceSettings { denoise, ..VoiceSettings::default() };
        let mut call = Call::begin(&settings, &[]);
        call.say(&pcm);
        let heard = decode(&call.model_heard.borrow());
        let end = heard.len();
        (db(&heard[end - 8 * 5_000..end - 8 * 3_500]), db(&heard[end - 8 * 3_000..]), end)
    };
    let (noisy, clean) = (heard(false), heard(true));
    assert_eq!(noisy.2, clean.2, "the length stays");
    assert!(noisy.0 - clean.0 > 9.0, "noise fell from {:.1} to {:.1} dB", noisy.0, clean.0);
    assert!((noisy.1 - clean.1).abs() < 2.5, "speech went from {:.1} to {:.1}", noisy.1, clean.1);
}

#[test]
fn a_quiet_caller_is_made_louder() {
    let pcm = talk(5, 10_000, 14.0);
    let heard = |gain_control: Option<GainControl>| {
        let mut call =
            Call::begin(&VoiceSettings { gain_control, ..VoiceSettings::default() }, &[]);
        call.say(&pcm);
        let heard = decode(&call.model_heard.borrow());
        db(&heard[heard.len() - 8 * 3_000..])
    };
    let (quiet, louder) = (heard(None), heard(Some(GainControl::default())));
    assert!((8.0..12.5).contains(&(louder - quiet)), "{quiet:.1} became {louder:.1} dB");
}

#[test]
fn a_room_is_heard_in_the_agents_pauses_and_is_not_speech() {
    let says = talk(3, 2_000, 160.0);
    let ambience = AmbienceSettings { sound: AmbientSound::shared(Room::Office), level_db: -40.0 };
    let mut heard = Vec::new();
    for ambience in [None, Some(ambience)] {
        let mut call = Call::begin(&VoiceSettings { ambience, ..VoiceSettings::default() }, &says);
        call.say(&[0; 8 * 6_000]);
        let sent = decode(&call.sent);
        heard.push((sent.len(), db(&sent[8 * 800..8 * 1_800]), db(&sent[8 * 3_000..8 * 5_500])));
    }
    let [(length, voice, silence), (same_length, over_room, room)] = heard[..] else {
        unreachable!("two calls were made")
    };
    assert_eq!(length, same_length);
    assert!(silence < -80.0 && (-44.0..-36.0).contains(&room), "{silence:.1} and {room:.1} dB");
    assert!((voice - over_room).abs() < 0.5, "{voice:.1} and {over_room:.1} dB");
}
