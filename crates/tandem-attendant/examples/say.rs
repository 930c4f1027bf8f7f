//! Says a text as callers would hear it: `cargo run --example say -- "Hello, who is there?" hello.wav [language]`.

use std::{env, error::Error, time::Instant};

use tandem_attendant::{Occasion, Sentence, Speech, Voice, VoiceSettings, split_sentences};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(text), Some(path)) = (arguments.next(), arguments.next()) else {
        return Err("say what, and into which file?".into());
    };
    let language = arguments.next().unwrap_or_else(|| "en".into());
    let runtime = tokio::runtime::Runtime::new()?;
    let voice = Voice::open(VoiceSettings::default(), runtime.handle().clone());
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: u32::try_from(Speech::RATE.hz())?,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wave = hound::WavWriter::create(path, spec)?;
    for text in split_sentences(&text) {
        let begin = Instant::now();
        let spoken =
            runtime.block_on(voice.speak(&language, Sentence { text, occasion: Occasion::Answer }));
        let stands_in = if spoken.stands_in { ", standing in" } else { "" };
        println!(
            "{} ({:?} in {:?}{stands_in})",
            spoken.text,
            spoken.speech.duration(),
            begin.elapsed()
        );
        for &sample in &spoken.speech.pcm {
            wave.write_sample(sample)?;
        }
    }
    Ok(wave.finalize()?)
}
