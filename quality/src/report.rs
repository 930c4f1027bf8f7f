//! Makes every file of the report.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tandem_media::{AudioFormat, Law, Resampler, SampleRate};

use crate::{
    clip::Clip,
    conformance,
    error::QualityError,
    ideal,
    loss::{Shape, pattern},
    manifest::{Cell, Fact, Manifest, Measure, Pair, Source},
    stopgap::Stopgap,
    sweep::Sweep,
    telephone::{self, Network},
    wave,
};

const SAMPLES: usize = 160;

/// How much is made.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Loss patterns of each kind and clip.
    pub seeds: u64,
    /// Percentages of loss, without 0.
    pub losses: Vec<usize>,
}

impl Plan {
    /// The report.
    pub fn full() -> Self {
        Self { seeds: 10, losses: vec![1, 3, 5, 10] }
    }

    /// Just so much that each kind of cell is there once.
    pub fn tiny() -> Self {
        Self { seeds: 1, losses: vec![5] }
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
    let mut maker = Maker { directory: directory.into(), cells: BTreeMap::new(), next_cell: 0 };
    for folder in ["reference", "degraded"] {
        maker.create(folder)?;
    }
    let mut facts = Facts::default();
    let mut sources = Vec::new();
    for clip in clips {
        let voice = Voice::new(clip, &maker)?;
        maker.loss(&voice, plan)?;
        maker.model_formats(&voice, plan)?;
        maker.model_voice(&voice)?;
        maker.wideband(&voice)?;
        facts.check(&voice, plan);
        let whole = clip.at(SampleRate::Hz48000);
        sources.push(Source {
            name: clip.name.clone(),
            sha256: conformance::sha256(&telephone::bytes(&whole)),
            seconds: whole.len() as f64 / 48_000.0,
        });
    }
    let mut cells: Vec<_> = maker.cells.into_values().collect();
    cells.sort_by_key(|(order, _)| *order);
    let cells = cells.into_iter().map(|(_, cell)| cell).collect();
    Ok(Manifest { speech, clips: sources, cells, facts: facts.list(), sweeps })
}

/// A clip at the rates that are needed, and over the telephone.
struct Voice {
    name: String,
    narrow: Vec<i16>,
    wide: Vec<i16>,
    mu: Vec<u8>,
    narrow_file: String,
    wide_file: String,
    clip: Clip,
}

impl Voice {
    fn new(clip: &Clip, maker: &Maker) -> Result<Self, QualityError> {
        let (narrow, wide) = (clip.at(SampleRate::Hz8000), clip.at(SampleRate::Hz16000));
        let name = clip.name.clone();
        let narrow_file =
            maker.write("reference", &format!("{name}-8k"), SampleRate::Hz8000, &narrow)?;
        let wide_file =
            maker.write("reference", &format!("{name}-16k"), SampleRate::Hz16000, &wide)?;
        let mu = telephone::encode(Law::Mu, &narrow);
        Ok(Self { name, narrow, wide, mu, narrow_file, wide_file, clip: clip.clone() })
    }

    fn packets(&self) -> usize {
        self.narrow.len() / SAMPLES
    }

    /// The packets of the loss pattern `seed`, which is another one for each clip.
    fn lost(&self, shape: Shape, percent: usize, seed: u64) -> Vec<bool> {
        let of_clip =
            self.name.bytes().fold(seed, |sum, byte| sum * 131 % 1_000_003 + u64::from(byte));
        pattern(shape, percent, self.packets(), of_clip)
    }

    fn model_voice(&self, rate: SampleRate) -> Vec<u8> {
        telephone::bytes(&self.clip.at(rate))
    }
}

struct Maker {
    directory: PathBuf,
    /// By table, row and column; with the order they came up in.
    cells: BTreeMap<(&'static str, String, String), (usize, Cell)>,
    next_cell: usize,
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
                        let filled = stopgap.fill(&clean, &lost);
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
            self.wide("wideband", &row, "tandem", voice, &ours)?;
            self.wide("wideband", &row, "ideal", voice, &ideal)?;
        }
        Ok(())
    }

    fn narrow(
        &mut self,
        table: &'static str,
        row: &str,
        column: &str,
        voice: &Voice,
        seed: Option<u64>,
        pcm: &[i16],
    ) -> Result<(), QualityError> {
        self.cell(table, row, column, Measure::Nb, voice, seed, pcm)
    }

    fn wide(
        &mut self,
        table: &'static str,
        row: &str,
        column: &str,
        voice: &Voice,
        pcm: &[i16],
    ) -> Result<(), QualityError> {
        self.cell(table, row, column, Measure::Wb, voice, None, pcm)
    }

    #[expect(clippy::too_many_arguments, reason = "a cell has so many coordinates")]
    fn cell(
        &mut self,
        table: &'static str,
        row: &str,
        column: &str,
        measure: Measure,
        voice: &Voice,
        seed: Option<u64>,
        pcm: &[i16],
    ) -> Result<(), QualityError> {
        let words = [table, row, column, &voice.name].join("-");
        let plain: String = words
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
            .collect();
        let name = match seed {
            Some(seed) => format!("{plain}-{seed}"),
            None => plain,
        };
        let (rate, reference) = match measure {
            Measure::Nb => (SampleRate::Hz8000, &voice.narrow_file),
            Measure::Wb => (SampleRate::Hz16000, &voice.wide_file),
        };
        let degraded = self.write("degraded", &name, rate, pcm)?;
        let pair = Pair { clip: voice.name.clone(), seed, reference: reference.clone(), degraded };
        let key = (table, row.to_owned(), column.to_owned());
        let order = self.next_cell;
        self.next_cell += 1;
        let (_, cell) = self.cells.entry(key).or_insert_with(|| {
            let (row, column) = (row.into(), column.into());
            (order, Cell { table, row, column, measure, pairs: Vec::new() })
        });
        cell.pairs.push(pair);
        Ok(())
    }

    fn create(&self, folder: &str) -> Result<(), QualityError> {
        let path = self.directory.join(folder);
        fs::create_dir_all(&path).map_err(|source| QualityError::Io { path, source })
    }

    /// Writes a file and returns its path below the directory.
    fn write(
        &self,
        folder: &str,
        name: &str,
        rate: SampleRate,
        pcm: &[i16],
    ) -> Result<String, QualityError> {
        let file = format!("{folder}/{name}.wav");
        wave::write(&self.directory.join(&file), rate.hz(), pcm)?;
        Ok(file)
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
}

impl Default for Facts {
    fn default() -> Self {
        Self { up: true, down: true, jitter: true, length: true, untouched: true }
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
