//! Prints the turns found in a recording, and what finding them costs: `cargo run --example turns -- call.wav`.
//!
//! The recording is a 16-bit WAV file; its first channel is taken as the caller.

use std::{env, error::Error, time::Instant};

use tandem_attendant::{Endpointer, Endpointing, Turn};
use tandem_media::{Resampler, SampleRate};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args_os().nth(1).ok_or("which recording? Give the path of a WAV file.")?;
    let reader = hound::WavReader::open(path)?;
    let spec = reader.spec();
    let rate = SampleRate::from_hz(spec.sample_rate as usize)
        .ok_or("its rate is none of 8, 16, 24 and 48 kHz")?;
    let samples = reader
        .into_samples::<i16>()
        .step_by(spec.channels.into())
        .collect::<Result<Vec<_>, _>>()?;
    let mut pcm = Vec::new();
    Resampler::new(rate, SampleRate::Hz16000).process(&samples, &mut pcm);

    let mut endpointer = Endpointer::new(Endpointing::default());
    let begin = Instant::now();
    endpointer.process(pcm.iter().copied(), |turn| match turn {
        Turn::Started { at } => print!("{:8.2} s to ", at.as_secs_f64()),
        Turn::Stopped { at, length, .. } => {
            println!("{:.2} s: {:.2} s", at.as_secs_f64(), length.as_secs_f64());
        }
    });
    let cost = begin.elapsed().as_secs_f64() / endpointer.position().as_secs_f64();
    println!("\n{:.1} us for 20 ms of audio, {:.2} % of a core", cost * 20_000.0, cost * 100.0);
    Ok(())
}
