//! The sound of the quality report: speech, what the real leg makes of it under loss, and sweeps of the resampler.
//!
//! [`report::make`] writes every WAV file of the report and [`manifest::Manifest`], which says which of them are to be compared with
//! which; `scripts/quality.py` compares them by PESQ. The same clips and seeds give the same files, byte by byte.

pub mod clip;
pub mod conformance;
pub mod error;
pub mod ideal;
pub mod loss;
pub mod manifest;
pub mod report;
pub mod stopgap;
pub mod sweep;
pub mod telephone;
pub mod wave;
