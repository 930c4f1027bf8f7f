//! The detectors, each behind the same few words.

use earshot::Detector;
use nnnoiseless::DenoiseState;
use tandem_media::{Resampler, SampleRate, VoiceActivity};
use tandem_quality::scene::BLOCK;
use webrtc_vad::{SampleRate as WebRtcRate, Vad, VadMode};

/// A detector that is given 10 ms at 8 kHz at a time.
pub(crate) trait Candidate {
    /// How likely the block is speech, on a scale of its own.
    fn score(&mut self, block: &[i16]) -> f32;

    /// Whether that score is speech.
    fn is_speech(&self, score: f32) -> bool;

    /// Whether what it calls speech has been smoothed already.
    fn is_smooth(&self) -> bool {
        false
    }
}

/// Name and maker of each.
pub(crate) fn all() -> Vec<(&'static str, fn() -> Box<dyn Candidate>)> {
    vec![
        ("Tandem", || Box::new(Own(VoiceActivity::new(SampleRate::Hz8000)))),
        ("energy over its floor", || Box::new(Energy::new())),
        ("webrtc-vad 0.4, mode 3", || Box::new(WebRtc::new())),
        ("earshot 1.2, 0.5", || Box::new(Earshot::new(0.5))),
        ("earshot 1.2, 0.7", || Box::new(Earshot::new(0.7))),
        ("nnnoiseless 0.5, 0.5", || Box::new(NnNoiseless::new())),
    ]
}

struct Own(VoiceActivity);

impl Candidate for Own {
    fn score(&mut self, block: &[i16]) -> f32 {
        self.0.process(block);
        if self.0.is_speech() { 1.0 } else { 0.0 }
    }

    fn is_speech(&self, score: f32) -> bool {
        score > 0.5
    }

    fn is_smooth(&self) -> bool {
        true
    }
}

/// The energy of a block against the lowest of the last two seconds: the least that a detector can be.
struct Energy {
    last: [f32; 2],
    minima: [f32; 8],
    blocks: usize,
}

impl Energy {
    fn new() -> Self {
        Self { last: [0.0; 2], minima: [33_874.0; 8], blocks: 0 }
    }
}

impl Candidate for Energy {
    fn score(&mut self, block: &[i16]) -> f32 {
        let mut sum = 0.0;
        for &sample in block {
            let output = f32::from(sample) - self.last[0] + 0.9 * self.last[1];
            self.last = [f32::from(sample), output];
            sum += output * output;
        }
        let energy = sum / BLOCK as f32;
        let floor = self.minima.iter().copied().fold(f32::INFINITY, f32::min);
        let window = self.blocks / 25 % 8;
        if self.blocks % 25 == 0 && self.blocks > 0 {
            self.minima[window] = f32::INFINITY;
        }
        self.minima[window] = self.minima[window].min(energy);
        self.blocks += 1;
        if energy > 16_978.0 { energy / floor.max(1.0) } else { 0.0 }
    }

    fn is_speech(&self, score: f32) -> bool {
        score > 7.94
    }
}

struct WebRtc(Vad);

impl WebRtc {
    fn new() -> Self {
        Self(Vad::new_with_rate_and_mode(WebRtcRate::Rate8kHz, VadMode::VeryAggressive))
    }
}

impl Candidate for WebRtc {
    fn score(&mut self, block: &[i16]) -> f32 {
        if self.0.is_voice_segment(block).expect("10 ms at 8 kHz") { 1.0 } else { 0.0 }
    }

    fn is_speech(&self, score: f32) -> bool {
        score > 0.5
    }
}

/// Something that takes frames of its own length at a higher rate.
struct Framed {
    resampler: Resampler,
    waiting: Vec<i16>,
    frame: usize,
    last: f32,
}

impl Framed {
    fn new(rate: SampleRate, frame: usize) -> Self {
        let resampler = Resampler::new(SampleRate::Hz8000, rate);
        Self { resampler, waiting: Vec::new(), frame, last: 0.0 }
    }

    fn take(&mut self, block: &[i16], mut judge: impl FnMut(&[i16]) -> f32) -> f32 {
        self.resampler.process(block, &mut self.waiting);
        while self.waiting.len() >= self.frame {
            self.last = judge(&self.waiting[..self.frame]);
            self.waiting.drain(..self.frame);
        }
        self.last
    }
}

struct Earshot {
    detector: Box<Detector>,
    framed: Framed,
    threshold: f32,
}

impl Earshot {
    fn new(threshold: f32) -> Self {
        let framed = Framed::new(SampleRate::Hz16000, 256);
        Self { detector: Detector::default_boxed(), framed, threshold }
    }
}

impl Candidate for Earshot {
    fn score(&mut self, block: &[i16]) -> f32 {
        let Self { detector, framed, .. } = self;
        framed.take(block, |frame| detector.predict_i16(frame))
    }

    fn is_speech(&self, score: f32) -> bool {
        score > self.threshold
    }
}

struct NnNoiseless {
    state: Box<DenoiseState<'static>>,
    framed: Framed,
}

impl NnNoiseless {
    fn new() -> Self {
        let framed = Framed::new(SampleRate::Hz48000, DenoiseState::FRAME_SIZE);
        Self { state: DenoiseState::new(), framed }
    }
}

impl Candidate for NnNoiseless {
    fn score(&mut self, block: &[i16]) -> f32 {
        let Self { state, framed } = self;
        framed.take(block, |frame| {
            let mut input = [0.0; DenoiseState::FRAME_SIZE];
            input.iter_mut().zip(frame).for_each(|(slot, &sample)| *slot = f32::from(sample));
            state.process_frame(&mut [0.0; DenoiseState::FRAME_SIZE], &input)
        })
    }

    fn is_speech(&self, score: f32) -> bool {
        score > 0.5
    }
}
