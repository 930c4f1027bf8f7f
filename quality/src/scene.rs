//! Callers who interrupt from noisy places: short sentences in noise, and where in them speech is.

use std::path::Path;

use tandem_media::{Law, SampleRate, g711};

use crate::{clip, error::QualityError, ideal, noise::Noise, wave};

/// Samples of a block that is speech or is not: 10 ms at 8 kHz.
pub const BLOCK: usize = 80;
/// Level of the speech, dB of overload.
const LEVEL_DB: f64 = -26.0;
/// Noise alone before the first sentence, between two, and after the last, in blocks.
const BEFORE: usize = 300;
const BETWEEN: usize = 200;
/// Below the loudest block of a sentence by this much, a block is none of its speech.
const SPEECH_DB: f64 = 35.0;
/// A pause in a sentence of up to so many blocks belongs to its speech.
const PAUSE: usize = 15;

/// Name, espeak-ng voice, words a minute, what is said.
const CALLERS: [(&str, &str, u32, [&str; 3]); 10] = [
    ("us-man", "en-us+m1", 160, ["Wait a moment.", "No, I said Tuesday.", "Stop, please."]),
    ("us-woman", "en-us+f1", 170, ["Actually, never mind.", "Sorry, what?", "Hold on a second."]),
    ("gb-man", "en-gb+m2", 155, ["Excuse me.", "That is not what I asked.", "Yes, but when?"]),
    ("gb-woman", "en-gb+f5", 165, ["Hello?", "Can I speak to somebody?", "One more thing."]),
    ("de-man", "de+m4", 160, ["Moment bitte.", "Nein, am Freitag.", "Halt, das stimmt nicht."]),
    ("fr-woman", "fr+f2", 160, ["Attendez.", "Non, pas demain.", "Excusez-moi, madame."]),
    ("es-woman", "es+f3", 165, ["Espere un momento.", "No, gracias.", "¿Qué ha dicho?"]),
    ("it-man", "it+m6", 160, ["Scusi, un attimo.", "Come?", "No, va bene cosi."]),
    (
        "us-man-at-length",
        "en-us+m7",
        150,
        [
            "I have been waiting for that parcel since Monday, and nobody in your shop could tell me where on earth it has gone.",
            "Well, the number on my receipt is eight, one, five, five, and the name is Miller, as in the man who grinds the corn.",
            "All right.",
        ],
    ),
    (
        "de-woman-at-length",
        "de+f2",
        155,
        [
            "Ich wollte eigentlich nur wissen, ob Sie am kommenden Samstag geöffnet haben, weil ich unter der Woche arbeiten muss.",
            "Das wäre sehr schön, denn mein Mann kann uns mit dem Auto fahren, und wir bringen die alte Lampe gleich mit.",
            "Ja, genau.",
        ],
    ),
];

/// A caller's sentences, in noise, as the telephone brings them.
#[derive(Debug, Clone)]
pub struct Scene {
    /// 8 kHz, after mu-law.
    pub pcm: Vec<i16>,
    /// Whether each block of 10 ms is speech.
    pub speech: Vec<bool>,
}

/// A caller without noise: three sentences with pauses, at 8 kHz.
#[derive(Debug, Clone)]
pub struct Caller {
    /// A name for tables.
    pub name: &'static str,
    samples: Vec<f64>,
    speech: Vec<bool>,
}

impl Caller {
    /// The ten callers, said by espeak-ng into `directory`.
    pub fn all(directory: &Path) -> Result<Vec<Self>, QualityError> {
        CALLERS
            .iter()
            .map(|&(name, voice, speed, sentences)| {
                let mut samples = vec![0.0; BEFORE * BLOCK];
                let mut speech = vec![false; BEFORE];
                for (n, sentence) in sentences.into_iter().enumerate() {
                    let path = directory.join(format!("{name}-{n}.espeak.wav"));
                    clip::say(name, voice, speed, sentence, &path)?;
                    let (pcm, rate) = wave::read(&path)?;
                    let (sentence, labels) = level_and_label(rate, &pcm);
                    samples.extend(sentence);
                    speech.extend(labels);
                    samples.extend([0.0; BETWEEN * BLOCK]);
                    speech.extend([false; BETWEEN]);
                }
                Ok(Self { name, samples, speech })
            })
            .collect()
    }

    /// What is said, at 8 kHz and without noise.
    pub fn raw(&self) -> &[f64] {
        &self.samples
    }

    /// First and last block of each sentence.
    pub fn sentences(&self) -> Vec<(usize, usize)> {
        sentences(&self.speech)
    }

    /// The caller in `noise`, this many dB above it; without noise, over a line of -65 dB.
    pub fn in_noise(&self, noise: Option<(Noise, f64)>, voices: &[Vec<f64>], seed: u64) -> Scene {
        let rate = SampleRate::Hz8000.hz();
        let (kind, level) =
            noise.map_or((Noise::White, -65.0), |(kind, snr)| (kind, LEVEL_DB - snr));
        let gain = 32_768.0 * 10f64.powf(level / 20.0);
        let noise = kind.make(rate, self.samples.len(), voices, seed);
        let sum: Vec<f64> = self.samples.iter().zip(noise).map(|(a, b)| a + gain * b).collect();
        let mut pcm = ideal::to_pcm(&sum);
        let mut payload = vec![0; pcm.len()];
        g711::encode(Law::Mu, &pcm, &mut payload);
        g711::decode(Law::Mu, &payload, &mut pcm);
        Scene { pcm, speech: self.speech.clone() }
    }
}

impl Scene {
    /// First and last block of each sentence.
    pub fn sentences(&self) -> Vec<(usize, usize)> {
        sentences(&self.speech)
    }
}

/// First and last block of each sentence; a pause between two words does not end it.
fn sentences(speech: &[bool]) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (block, _) in speech.iter().enumerate().filter(|(_, speech)| **speech) {
        match found.last_mut() {
            Some((_, last)) if block - *last < BETWEEN / 2 => *last = block,
            _ => found.push((block, block)),
        }
    }
    found
}

/// A sentence at 8 kHz and the usual level, whole blocks, and whether each is speech.
fn level_and_label(rate: usize, pcm: &[i16]) -> (Vec<f64>, Vec<bool>) {
    let gain = 10f64.powf((LEVEL_DB - clip::active_level(rate, pcm)) / 20.0);
    let scaled: Vec<f64> = pcm.iter().map(|&sample| f64::from(sample) * gain).collect();
    let mut samples = ideal::convert(rate, SampleRate::Hz8000.hz(), &scaled);
    samples.resize(samples.len().next_multiple_of(BLOCK), 0.0);
    let powers: Vec<f64> = samples
        .chunks(BLOCK)
        .map(|block| block.iter().map(|sample| sample * sample).sum::<f64>())
        .collect();
    let loudest = powers.iter().copied().fold(1.0, f64::max);
    let mut speech: Vec<bool> =
        powers.iter().map(|power| *power > loudest * 10f64.powf(-SPEECH_DB / 10.0)).collect();
    let mut last = None;
    for block in 0..speech.len() {
        if speech[block] {
            if let Some(last) = last.filter(|last| block - last <= PAUSE) {
                speech[last..block].fill(true);
            }
            last = Some(block);
        }
    }
    (samples, speech)
}
