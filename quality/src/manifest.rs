//! What was made: the files to compare, and what needs no comparing.

use serde::Serialize;

use crate::sweep::Sweep;

/// How a pair of files is to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// PESQ narrowband, ITU-T P.862 and P.862.1, at 8 kHz.
    Nb,
    /// PESQ wideband, ITU-T P.862.2, at 16 kHz.
    Wb,
}

/// A file and what it should sound like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// The clip that both come from.
    pub clip: String,
    /// Seed of its losses; none without any.
    pub seed: Option<u64>,
    /// As it should sound.
    pub reference: String,
    /// As it does.
    pub degraded: String,
}

/// One cell of a table: the mean over its pairs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// The table.
    pub table: &'static str,
    /// Its row.
    pub row: String,
    /// Its column.
    pub column: String,
    /// How its pairs are compared.
    pub measure: Measure,
    /// What is compared.
    pub pairs: Vec<Pair>,
}

/// Something that holds or does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// A name for the report.
    pub name: &'static str,
    /// Whether it holds.
    pub holds: bool,
}

/// One cell of a table that is not a score of PESQ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// The table.
    pub table: &'static str,
    /// Its row.
    pub row: String,
    /// Its column.
    pub column: &'static str,
    /// What was measured.
    pub value: f64,
    /// In what.
    pub unit: &'static str,
    /// More of it is worse by so much before the report fails: below 0 where less is worse, 0 where neither is.
    pub tolerance: f64,
}

/// A clip and what identifies it: another version of the speech program makes another one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// SHA-256 of its samples at 48 kHz.
    pub sha256: String,
    /// How long it is.
    pub seconds: f64,
}

/// All that was made.
#[derive(Debug, Clone, Serialize)]
pub struct Manifest {
    /// Who spoke.
    pub speech: String,
    /// What was said.
    pub clips: Vec<Source>,
    /// What is to be compared.
    pub cells: Vec<Cell>,
    /// What was measured otherwise.
    pub figures: Vec<Figure>,
    /// What was found out without comparing.
    pub facts: Vec<Fact>,
    /// What became of sines.
    pub sweeps: Vec<Sweep>,
}
