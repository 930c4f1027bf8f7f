//! The sound of the quality report: speech, what the real leg makes of it under loss, and sweeps of the resampler.
//!
//! [`report::make`] writes every WAV file of the report and [`manifest::Manifest`], which says which of them are to be compared with
//! which; `scripts/quality.py` compares them by PESQ. The same clips and seeds give the same files, byte by byte.

pub mod clip;
mod comfort;
mod conditioning;
pub mod conformance;
mod echo;
pub mod error;
pub mod g722;
pub mod ideal;
pub mod loss;
mod maker;
pub mod manifest;
pub mod noise;
pub mod report;
pub mod scene;
mod seams;
pub mod stopgap;
pub mod sweep;
pub mod telephone;
pub mod wave;
mod wideband;
