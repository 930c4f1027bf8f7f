//! Makes every file of the report.

use std::{path::Path, time::Duration};

use tandem_media::{AudioFormat, Law, Resampler, SampleRate};

use crate::{
    clip::Clip,
    comfort, conditioning, conformance,
    echo::EchoRuns,
    error::QualityError,
    g722, ideal,
    loss::Shape,
    maker::{Maker, SAMPLES, Voice},
    manifest::{Fact, Manifest, Source},
    seams::Seams,
    stopgap::Stopgap,
    sweep::Sweep,
    telephone::{self, Network},
    wideband,
};

/// How much is made.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Loss patterns of each kind and clip.
    pub seeds: u64,
    /// Percentages of loss, without 0.
    pub losses: Vec<usize>,
    /// Loss patterns of each kind and clip on a wideband line.
    pub wide_seeds: u64,
    /// .. and their percentages.
    pub wide_losses: Vec<(Shape, usize)>,
}

impl Plan {
    /// The report.
    pub fn full() -> Self {
        let (random, burst) = ([1, 3, 5, 10, 20], [5, 10]);
        let random = random.map(|percent| (Shape::Random, percent)).into_iter();
        let wide_losses = random.chain(burst.map(|percent| (Shape::Burst, percent))).collect();
        Self { seeds: 10, losses: vec![1, 3, 5, 10], wide_seeds: 5, wide_losses }
    }

    /// Just so much that each kind of cell is there once.
    pub fn tiny() -> Self {
        let wide_losses = vec![(Shape::Random, 5)];
        Self { seeds: 1, losses: vec![5], wide_seeds: 1, wide_losses }
    }
}

/// Writes the files of `clips` below `directory` and says what they are. `sweeps` and `speech` are passed on.
pub fn make(
    clips: &[Clip],
    speech: String,
    sweeps: Vec<Sweep>,
    plan: &Plan,
    directory: &Path,
) -> Result<Manifest, QualityError> {
    let mut maker = Maker::new(directory)?;
    let voices: Vec<Voice> =
        clips.iter().map(|clip| Voice::new(clip, &maker)).collect::<Result<_, _>>()?;
    let (mut facts, mut seams, mut echo) =
        (Facts::default(), Seams::default(), EchoRuns::default());
    for (n, voice) in voices.iter().enumerate() {
        maker.loss(voice, plan)?;
        maker.model_formats(voice, plan)?;
        maker.model_voice(voice)?;
        maker.wideband(voice)?;
        facts.check(voice, plan);
        facts.fec &= wideband::opus(&mut maker, voice, plan)?;
        wideband::g722(&mut maker, voice, plan)?;
        wideband::codecs(&mut maker, voice, plan)?;
        conditioning::noise(&mut maker, &voices, n)?;
        seams.measure(voice);
        echo.measure(&voice.narrow, &voices[(n + 1) % voices.len()].narrow);
    }
    conditioning::level(&mut maker, &voices)?;
    conditioning::offset(&mut maker, &voices);
    comfort::measure(&mut maker, &voices);
    seams.report(&mut maker);
    echo.report(&mut maker);
    let sources = voices.iter().map(|voice| {
        let whole = voice.clip.at(SampleRate::Hz48000);
        Source {
            name: voice.name.clone(),
            sha256: conformance::sha256(&telephone::bytes(&whole)),
            seconds: whole.len() as f64 / 48_000.0,
        }
    });
    let clips = sources.collect();
    let (cells, figures) = maker.finish();
    Ok(Manifest { speech, clips, cells, figures, facts: facts.list(), sweeps })
}

impl Maker {
    /// The model's side under loss: the real leg, and what simpler gateways do.
    fn loss(&mut self, voice: &Voice, plan: &Plan) -> Result<(), QualityError> {
        let format = AudioFormat::G711(Law::Mu);
        let clean = telephone::decode(Law::Mu, &voice.mu);
        let heard = telephone::uplink(Law::Mu, format, &voice.mu, Network::PERFECT);
        let heard = telephone::samples(format, &heard.audio);
        self.narrow("loss", "0 %", "tandem", voice, None, &heard)?;
        for shape in [Shape::Random, Shape::Burst] {
            for &percent in &plan.losses {
                let row = format!("{percent} % {}", shape.name());
                for seed in 1..=plan.seeds {
                    let lost = voice.lost(shape, percent, seed);
                    let network = Network { lost: &lost, ..Network::PERFECT };
                    let heard = telephone::uplink(Law::Mu, format, &voice.mu, network);
                    let heard = telephone::samples(format, &heard.audio);
                    self.narrow("loss", &row, "tandem", voice, Some(seed), &heard)?;
                    for stopgap in Stopgap::ALL {
                        let filled = stopgap.fill(SampleRate::Hz8000, &clean, &lost);
                        self.narrow("loss", &row, stopgap.name(), voice, Some(seed), &filled)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The model's side by what it takes: A-law, and PCM through the resampler, at 8 kHz again by an ideal one.
    fn model_formats(&mut self, voice: &Voice, plan: &Plan) -> Result<(), QualityError> {
        let a = telephone::encode(Law::A, &voice.narrow);
        let formats = [
            ("A-law", Law::A, &a, AudioFormat::G711(Law::A)),
            ("PCM 8 kHz", Law::Mu, &voice.mu, AudioFormat::Pcm16(SampleRate::Hz8000)),
            ("PCM 16 kHz", Law::Mu, &voice.mu, AudioFormat::Pcm16(SampleRate::Hz16000)),
            ("PCM 24 kHz", Law::Mu, &voice.mu, AudioFormat::Pcm16(SampleRate::Hz24000)),
            ("PCM 48 kHz", Law::Mu, &voice.mu, AudioFormat::Pcm16(SampleRate::Hz48000)),
        ];
        for (column, law, g711, format) in formats {
            for (row, shape, percent) in [
                ("0 %", Shape::Random, 0),
                ("5 % random", Shape::Random, 5),
                ("5 % burst", Shape::Burst, 5),
            ] {
                for seed in 1..=plan.seeds.min(if percent == 0 { 1 } else { 2 }) {
                    let lost = voice.lost(shape, percent, seed);
                    let network = Network { lost: &lost, ..Network::PERFECT };
                    let heard = telephone::uplink(law, format, g711, network);
                    let pcm = telephone::samples(format, &heard.audio);
                    let narrow = ideal::convert_pcm(format.rate().hz(), 8_000, &pcm);
                    let seed = (percent > 0).then_some(seed);
                    self.narrow("formats", row, column, voice, seed, &narrow)?;
                }
            }
        }
        Ok(())
    }

    /// The caller's side: the model's voice at its rate, over the leg; beside it the same by an ideal resampler.
    fn model_voice(&mut self, voice: &Voice) -> Result<(), QualityError> {
        for rate in [SampleRate::Hz16000, SampleRate::Hz24000, SampleRate::Hz48000] {
            let row = format!("{} kHz", rate.hz() / 1_000);
            let pcm = voice.clip.at(rate);
            let said =
                telephone::downlink(Law::Mu, AudioFormat::Pcm16(rate), &telephone::bytes(&pcm));
            let said = telephone::decode(Law::Mu, &said);
            self.narrow("model voice", &row, "tandem", voice, None, &said)?;
            let narrow = ideal::convert_pcm(rate.hz(), 8_000, &pcm);
            let said = telephone::decode(Law::Mu, &telephone::encode(Law::Mu, &narrow));
            self.narrow("model voice", &row, "ideal", voice, None, &said)?;
            // The mean of three (two, six) samples.
            let group = rate.hz() / 8_000;
            let means: Vec<i16> = pcm
                .chunks(group)
                .map(|group| {
                    let sum: i32 = group.iter().map(|&sample| i32::from(sample)).sum();
                    (sum / group.len() as i32) as i16
                })
                .collect();
            let said = telephone::decode(Law::Mu, &telephone::encode(Law::Mu, &means));
            self.narrow("model voice", &row, "mean of samples", voice, None, &said)?;
            // Every third (second, sixth) sample, as the floor.
            let picked: Vec<i16> = pcm.iter().step_by(rate.hz() / 8_000).copied().collect();
            let said = telephone::decode(Law::Mu, &telephone::encode(Law::Mu, &picked));
            self.narrow("model voice", &row, "samples picked", voice, None, &said)?;
            // For the program that has other resamplers to compare with.
            self.write("reference", &format!("{}-{}k", voice.name, rate.hz() / 1_000), rate, &pcm)?;
        }
        Ok(())
    }

    /// Wideband speech through the resampler, at 16 kHz in the end; beside it the same by an ideal one.
    fn wideband(&mut self, voice: &Voice) -> Result<(), QualityError> {
        use SampleRate::{Hz16000, Hz24000, Hz48000};
        for path in [
            &[Hz24000, Hz16000][..],
            &[Hz48000, Hz16000],
            &[Hz16000, Hz24000, Hz16000],
            &[Hz16000, Hz48000, Hz16000],
        ] {
            let row: Vec<String> =
                path.iter().map(|rate| (rate.hz() / 1_000).to_string()).collect();
            let row = format!("{} kHz", row.join(" to "));
            let source = voice.clip.at(path[0]);
            let (mut ours, mut ideal) = (source.clone(), source);
            for pair in path.windows(2) {
                let (from, to) = (pair[0], pair[1]);
                let (mut resampler, mut output) = (Resampler::new(from, to), Vec::new());
                resampler.process(&ours, &mut output);
                ours = output;
                ideal = ideal::convert_pcm(from.hz(), to.hz(), &ideal);
            }
            self.wide("wideband", &row, "tandem", voice, None, &ours)?;
            self.wide("wideband", &row, "ideal", voice, None, &ideal)?;
        }
        Ok(())
    }
}

/// What must hold for every clip.
#[derive(Debug)]
struct Facts {
    up: bool,
    down: bool,
    jitter: bool,
    length: bool,
    untouched: bool,
    fec: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Self { up: true, down: true, jitter: true, length: true, untouched: true, fec: true }
    }
}

impl Facts {
    fn check(&mut self, voice: &Voice, plan: &Plan) {
        for law in [Law::Mu, Law::A] {
            let (g711, format) = (telephone::encode(law, &voice.narrow), AudioFormat::G711(law));
            self.up &= telephone::uplink(law, format, &g711, Network::PERFECT).audio == g711;
            self.down &= telephone::downlink(law, format, &g711) == g711;
            for seed in 1..=plan.seeds {
                let network =
                    Network { jitter: Duration::from_millis(40), seed, ..Network::PERFECT };
                self.jitter &= telephone::uplink(law, format, &g711, network).audio == g711;
                for shape in [Shape::Random, Shape::Burst] {
                    let lost = voice.lost(shape, 10, seed);
                    let network = Network { lost: &lost, ..Network::PERFECT };
                    let heard = telephone::uplink(law, format, &g711, network).audio;
                    self.length &= heard.len() == g711.len();
                    let mut packets = heard.chunks(SAMPLES).zip(g711.chunks(SAMPLES)).zip(&lost);
                    self.untouched &= packets.all(|((heard, sent), lost)| *lost || heard == sent);
                }
            }
        }
        for rate in [SampleRate::Hz16000, SampleRate::Hz24000, SampleRate::Hz48000] {
            let audio = voice.model_voice(rate);
            let said = telephone::downlink(Law::Mu, AudioFormat::Pcm16(rate), &audio);
            self.length &= said.len() == voice.narrow.len();
            self.length &=
                resampled_length(rate, &voice.wide) == voice.wide.len() * rate.hz() / 16_000;
        }
    }

    fn list(&self) -> Vec<Fact> {
        [
            ("G.711 passes up to the model bit for bit", self.up),
            ("G.711 passes down to the caller bit for bit", self.down),
            ("jitter of 40 ms with reordering changes no bit", self.jitter),
            ("loss and resampling keep the length to the sample", self.length),
            ("concealment changes no sample that arrived", self.untouched),
            ("G.711 decodes all codes as ITU-T G.191", conformance::decodes_as_the_reference()),
            ("G.711 encodes all samples as ITU-T G.191", conformance::encodes_as_the_reference()),
            ("G.722 decodes as ITU-T G.191", g722::decodes_as_the_reference()),
            ("G.722 encodes as ITU-T G.191", g722::encodes_as_the_reference()),
            ("Opus sends error correction from 2 % reported loss on, and not below", self.fec),
        ]
        .map(|(name, holds)| Fact { name, holds })
        .into()
    }
}

fn resampled_length(to: SampleRate, wide: &[i16]) -> usize {
    let mut output = Vec::new();
    Resampler::new(SampleRate::Hz16000, to).process(wide, &mut output);
    output.len()
}
