//! Telephone audio without IO: units, G.711, resampling, concealment, playout, voice activity.

mod units;

pub use units::{AudioFormat, Law, Ptime, SampleRate};
