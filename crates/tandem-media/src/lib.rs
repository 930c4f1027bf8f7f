//! Telephone audio without IO: units, G.711, resampling, concealment, playout, voice activity, DTMF.

mod codec;
mod concealer;
mod cushion;
mod dtmf;
mod frame_queue;
pub mod g711;
mod lanes;
mod playout;
mod resampler;
mod units;
mod voice_activity;

pub use codec::{Codec, OpusParams};
pub use concealer::Concealer;
pub use cushion::Cushion;
pub use dtmf::DtmfDetector;
pub use frame_queue::FrameQueue;
pub use playout::{CutBytes, Playout, Pulled};
pub use resampler::Resampler;
pub use units::{AudioFormat, Law, Ptime, SampleRate};
pub use voice_activity::{Activity, VoiceActivity};
