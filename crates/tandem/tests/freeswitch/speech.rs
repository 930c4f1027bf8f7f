//! What callers say.

use tandem_attendant::{Speech, Voice, VoiceSettings};
use tandem_media::{Resampler, SampleRate};
use tokio::runtime::Handle;

/// Somebody says something, loud from the first sample: 8 kHz.
pub(crate) fn words(runtime: &Handle) -> Vec<i16> {
    let settings = VoiceSettings { engines: Vec::new(), ..VoiceSettings::default() };
    let voice = Voice::open(settings, runtime.clone());
    let speech = runtime.block_on(voice.render("en", "May I have your name, please?"));
    let mut samples = Vec::new();
    let pcm = &speech.expect("it is a shipped phrase").pcm;
    Resampler::new(Speech::RATE, SampleRate::Hz8000).process(pcm, &mut samples);
    let quiet = samples.iter().position(|sample| sample.unsigned_abs() > 2_000).unwrap_or(0);
    samples.split_off(quiet)
}
