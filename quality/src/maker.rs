//! Writes the sound of cells, and keeps the cells and figures of all tables.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use tandem_media::{Law, SampleRate};

use crate::{
    clip::Clip,
    error::QualityError,
    loss::{Shape, pattern},
    manifest::{Cell, Figure, Measure, Pair},
    telephone, wave,
};

/// Samples of a packet at 8 kHz.
pub(crate) const SAMPLES: usize = 160;

/// A clip at the rates that are needed, and over the telephone.
pub(crate) struct Voice {
    pub(crate) name: String,
    pub(crate) narrow: Vec<i16>,
    pub(crate) wide: Vec<i16>,
    pub(crate) mu: Vec<u8>,
    narrow_file: String,
    wide_file: String,
    pub(crate) clip: Clip,
}

impl Voice {
    pub(crate) fn new(clip: &Clip, maker: &Maker) -> Result<Self, QualityError> {
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
    pub(crate) fn lost(&self, shape: Shape, percent: usize, seed: u64) -> Vec<bool> {
        let of_clip =
            self.name.bytes().fold(seed, |sum, byte| sum * 131 % 1_000_003 + u64::from(byte));
        pattern(shape, percent, self.packets(), of_clip)
    }

    pub(crate) fn model_voice(&self, rate: SampleRate) -> Vec<u8> {
        telephone::bytes(&self.clip.at(rate))
    }
}

/// Where the sound of the report goes.
pub(crate) struct Maker {
    directory: PathBuf,
    /// By table, row and column; with the order they came up in.
    cells: BTreeMap<(&'static str, String, String), (usize, Cell)>,
    next_cell: usize,
    figures: Vec<Figure>,
}

impl Maker {
    /// A maker that writes below `directory`.
    pub(crate) fn new(directory: &Path) -> Result<Self, QualityError> {
        for folder in ["reference", "degraded"] {
            let path = directory.join(folder);
            fs::create_dir_all(&path).map_err(|source| QualityError::Io { path, source })?;
        }
        let directory = directory.into();
        Ok(Self { directory, cells: BTreeMap::new(), next_cell: 0, figures: Vec::new() })
    }

    /// All cells, in the order they came up in, and all figures.
    pub(crate) fn finish(self) -> (Vec<Cell>, Vec<Figure>) {
        let mut cells: Vec<_> = self.cells.into_values().collect();
        cells.sort_by_key(|(order, _)| *order);
        (cells.into_iter().map(|(_, cell)| cell).collect(), self.figures)
    }

    /// Takes note of what was measured without PESQ.
    pub(crate) fn figure(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Takes `pcm` at 8 kHz into a cell of PESQ narrowband.
    pub(crate) fn narrow(
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

    /// Takes `pcm` at 16 kHz into a cell of PESQ wideband.
    pub(crate) fn wide(
        &mut self,
        table: &'static str,
        row: &str,
        column: &str,
        voice: &Voice,
        seed: Option<u64>,
        pcm: &[i16],
    ) -> Result<(), QualityError> {
        self.cell(table, row, column, Measure::Wb, voice, seed, pcm)
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

    /// Writes a file and returns its path below the directory.
    pub(crate) fn write(
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
