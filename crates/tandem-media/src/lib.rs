//! Telephone audio without IO: units, codecs, resampling, concealment, playout, voice activity, DTMF.

mod ambience;
mod codec;
mod comfort_noise;
mod concealer;
mod conditioner;
mod converter;
mod cushion;
mod dtmf;
mod fourier;
mod frame_queue;
pub mod g711;
mod g722;
mod l16;
mod lanes;
mod opus;
mod playout;
mod resampler;
mod speech_pauses;
mod units;
mod voice_activity;
mod voice_settings;

pub use ambience::{Ambience, AmbienceSettings, AmbientSound, AmbientSoundError, Room};
pub use codec::{Codec, CodecError, Decoder, Encoder, OpusParams};
pub use comfort_noise::ComfortNoise;
pub use concealer::Concealer;
pub use conditioner::Conditioner;
pub use converter::Converter;
pub use cushion::Cushion;
pub use dtmf::DtmfDetector;
pub use frame_queue::FrameQueue;
pub use playout::{CutAudio, Playout, Pulled};
pub use resampler::Resampler;
pub use speech_pauses::{SpeechPause, SpeechPauses};
pub use units::{AudioFormat, Law, Ptime, SampleRate};
pub use voice_activity::{Activity, VoiceActivity};
pub use voice_settings::{GainControl, VoiceSettings};
