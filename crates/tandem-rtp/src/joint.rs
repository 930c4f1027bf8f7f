//! Where the caller's audio breaks off and goes on: nothing clicks, and nothing waits.

use tandem_media::{AudioFormat, Concealer};

/// Milliseconds of a fade.
const FADE: usize = 5;

/// Milliseconds of what was sent that are remembered: as far as a [`Concealer`] looks back.
const MEMORY: usize = 40;

/// Milliseconds after which what is made up is silent.
const STOPGAP: usize = 60;

/// A sound with peaks below this breaks off without a click: -48 dBFS.
const AUDIBLE: u16 = 128;

/// The seams of one leg's downlink.
///
/// Where the model runs dry in the middle of an item its last sound goes on for 60 ms, ever softer. Where audio is cut it fades
/// out over 5 ms; where it goes on after any of that it fades in. What is made up or faded out is not taken from the queue.
#[derive(Debug)]
pub(crate) struct Joint {
    format: AudioFormat,
    /// Samples of one.
    millisecond: usize,
    concealer: Concealer,
    /// The end of what was sent, in `format`.
    recent: Vec<u8>,
    /// `recent` is silence.
    blank: bool,
    state: State,
    /// The item of which the next audio fades in.
    broken: Option<u64>,
    /// What the sound that was cut would go on with.
    tail: Vec<i16>,
    pcm: Vec<i16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Silence is sent.
    Silent,
    /// Queued audio is sent.
    Flowing,
    /// The queue ran dry in the middle of an item with the last packet, of which so many samples were made up.
    Dry { item: u64, samples: usize },
    /// `tail` is to be faded out.
    Cut,
}

/// What a packet holds before the joint has seen it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filling {
    /// Bytes of queued audio; the rest is silence.
    pub(crate) audio: usize,
    /// The item of the first of them.
    pub(crate) first: Option<u64>,
    /// The item in whose middle the queue ran dry with them.
    pub(crate) dry: Option<u64>,
}

impl Joint {
    /// A joint after silence.
    pub(crate) fn new(format: AudioFormat) -> Self {
        let millisecond = format.rate().hz() / 1_000;
        Self {
            format,
            millisecond,
            concealer: Concealer::new(format.rate()),
            recent: vec![format.silence(); MEMORY * millisecond * format.bytes_per_sample()],
            blank: true,
            state: State::Silent,
            broken: None,
            tail: Vec::with_capacity(FADE * millisecond),
            pcm: Vec::with_capacity(STOPGAP * millisecond),
        }
    }

    /// Whether the next packet has sound even if the queue gives none.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.state, State::Dry { .. } | State::Cut)
    }

    /// Bytes of a fade.
    pub(crate) fn fade_bytes(&self) -> usize {
        FADE * self.millisecond * self.format.bytes_per_sample()
    }

    /// What is sent breaks off after the last packet; `next` would have followed. `item` may go on later.
    pub(crate) fn cut(&mut self, next: &[u8], item: Option<u64>) {
        match self.state {
            State::Silent => {
                self.broken = self.broken.filter(|_| item.is_some());
                return;
            }
            State::Cut => {}
            State::Dry { samples, .. } => self.make_tail(samples),
            State::Flowing => {
                self.format.read(next, &mut self.tail);
                self.tail.resize(FADE * self.millisecond, 0);
            }
        }
        self.broken = item;
        self.state = if is_audible(&self.tail) { State::Cut } else { State::Silent };
    }

    /// Something else than audio is sent in its place; `item` may go on later.
    pub(crate) fn interrupt(&mut self, item: Option<u64>) {
        if self.state != State::Silent {
            self.broken = item;
        }
        self.silence();
    }

    /// No more of `item` comes: where it has run dry was its end.
    pub(crate) fn end_item(&mut self, item: u64) {
        self.broken.take_if(|broken| *broken == item);
        match self.state {
            State::Dry { item: dry, samples: 0 } if dry == item => self.state = State::Silent,
            State::Dry { item: dry, samples } if dry == item => {
                self.make_tail(samples);
                self.state = State::Cut;
            }
            _ => {}
        }
    }

    /// Silence is sent.
    pub(crate) fn silence(&mut self) {
        self.state = State::Silent;
        if !self.blank {
            self.recent.fill(self.format.silence());
            self.blank = true;
        }
    }

    /// Finishes a packet of audio before it is sent.
    pub(crate) fn finish(&mut self, frame: &mut [u8], filling: Filling) {
        let Filling { audio, first, dry } = filling;
        match self.state {
            State::Dry { item, .. } if audio == 0 => return self.go_on(frame, item),
            State::Dry { samples: 0, .. } => {} // More of it came in time.
            State::Dry { samples, .. } => {
                self.make_tail(samples);
                self.cross_fade(frame);
            }
            State::Cut => self.cross_fade(frame),
            State::Silent | State::Flowing => {
                if first.is_some() && self.broken == first {
                    self.tail.clear();
                    self.tail.resize(FADE * self.millisecond, 0);
                    self.cross_fade(frame);
                }
            }
        }
        if first.is_some() {
            self.broken = None;
        }
        self.remember(&frame[..audio]);
        if let Some(item) = dry
            && self.end_is_audible()
        {
            self.broken = Some(item);
            self.state = State::Dry { item, samples: 0 };
            if audio < frame.len() {
                self.go_on(&mut frame[audio..], item);
            }
        } else {
            self.remember(&frame[audio..]);
            self.state = if audio == frame.len() { State::Flowing } else { State::Silent };
        }
    }

    /// Makes up a packet, or the rest of one, after `item` ran dry.
    fn go_on(&mut self, frame: &mut [u8], item: u64) {
        let State::Dry { samples, .. } = self.state else { return };
        self.learn(samples);
        self.pcm.clear();
        self.pcm.resize(frame.len() / self.format.bytes_per_sample(), 0);
        self.concealer.conceal_forward(&mut self.pcm);
        overwrite(self.format, &self.pcm, frame);
        self.remember(frame);
        let samples = samples + self.pcm.len();
        if samples >= STOPGAP * self.millisecond {
            self.silence();
        } else {
            self.state = State::Dry { item, samples };
        }
    }

    /// Takes as `tail` what would be made up after the `samples` that were.
    fn make_tail(&mut self, samples: usize) {
        self.learn(samples);
        self.tail.clear();
        self.tail.resize(FADE * self.millisecond, 0);
        self.concealer.conceal_forward(&mut self.tail);
    }

    /// Has the concealer know the past, unless it made up `samples` of it.
    fn learn(&mut self, samples: usize) {
        if samples == 0 {
            self.format.read(&self.recent, &mut self.pcm);
            self.concealer.good(&self.pcm);
        }
    }

    /// Leads from `tail` into the begin of `frame`.
    fn cross_fade(&mut self, frame: &mut [u8]) {
        let bytes = frame.len().min(self.fade_bytes());
        let frame = &mut frame[..bytes];
        self.format.read(frame, &mut self.pcm);
        let length = self.pcm.len();
        for (n, (sample, tail)) in self.pcm.iter_mut().zip(&self.tail).enumerate() {
            let (new, old) = (f32::from(*sample), f32::from(*tail));
            *sample = (old + (new - old) * fade_in(n, length)).round() as i16;
        }
        overwrite(self.format, &self.pcm, frame);
    }

    fn remember(&mut self, sent: &[u8]) {
        let sent = &sent[sent.len().saturating_sub(self.recent.len())..];
        let kept = self.recent.len() - sent.len();
        self.recent.copy_within(sent.len().., 0);
        self.recent[kept..].copy_from_slice(sent);
        self.blank &= sent.is_empty();
    }

    /// Whether the last 5 ms that were sent can be heard.
    fn end_is_audible(&mut self) -> bool {
        let begin = self.recent.len() - self.fade_bytes();
        self.format.read(&self.recent[begin..], &mut self.pcm);
        is_audible(&self.pcm)
    }
}

fn is_audible(pcm: &[i16]) -> bool {
    pcm.iter().any(|sample| sample.unsigned_abs() >= AUDIBLE)
}

/// Writes `pcm` over `bytes`, which are as long.
fn overwrite(format: AudioFormat, pcm: &[i16], bytes: &mut [u8]) {
    match format {
        AudioFormat::G711(law) => {
            tandem_media::g711::encode(law, pcm, bytes);
        }
        AudioFormat::Pcm16(_) => {
            for (bytes, sample) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(pcm) {
                *bytes = sample.to_le_bytes();
            }
        }
    }
}

/// A weight that rises smoothly from above 0 to below 1 over `length` samples.
fn fade_in(n: usize, length: usize) -> f32 {
    let x = (n + 1) as f32 / (length + 1) as f32;
    x * x * (3.0 - 2.0 * x)
}
