//! Talk-off: speech in which a digit is heard. There is none in the shipped prompts, nor in minutes of synthetic speech
//! where `espeak-ng` and `flite` are installed.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tandem_media::{DtmfDetector, Law, g711};

const RATE: f64 = 8_000.0;

/// Words with many open vowels, whose formants lie where the tones do, and some of the others.
const TEXT: &str = "Father Bob caught the hot car at the harbour, and the market opened at half past four. \
    A narrow path goes on past the barn to the old water tower. All the dogs bark after dark. \
    Could you ask my mother about the apartment on Park Avenue? I would like to talk to Doctor Marlow. \
    No, not tomorrow, the day after. My number is five five five, oh one four two. Hello? Hello, are you there? \
    She sells sea shells, six thick thistle sticks, and a proper copper coffee pot. Ah. Oh. Aha. Mm-hm. \
    What about the order I called about? It was a large orange armchair, and it arrived without an arm.";

/// Digits heard in `pcm`, at the seconds they were recognised at.
fn digits(pcm: &[i16]) -> Vec<(f64, u8)> {
    let mut detector = DtmfDetector::new();
    let mut found = Vec::new();
    for (n, frame) in pcm.chunks(160).enumerate() {
        detector.process(frame, |code| found.push((n as f64 / 50.0, code)));
    }
    found
}

/// Hears `pcm` of `rate` as it is, and from a slower and a faster speaker with another voice. Returns the samples heard.
fn assert_no_digit(pcm: &[i16], rate: f64, name: &str) -> usize {
    let speeds = [0.87, 1.0, 1.15];
    let heard = speeds.map(|speed| {
        let pcm = resampled(pcm, rate * speed);
        assert_eq!(digits(&pcm), [], "{name} at a speed of {speed}");
        pcm.len()
    });
    heard.iter().sum()
}

/// `pcm` of `rate` at 8 kHz, by a windowed sinc.
fn resampled(pcm: &[i16], rate: f64) -> Vec<i16> {
    const REACH: f64 = 5.0;
    let step = rate / RATE;
    let cutoff = (1.0 / step).min(1.0) * 0.92;
    let samples = (pcm.len() as f64 / step) as usize;
    (0..samples)
        .map(|n| {
            let centre = n as f64 * step;
            let reach = REACH / cutoff;
            let first = (centre - reach).ceil().max(0.0) as usize;
            let last = ((centre + reach) as usize).min(pcm.len() - 1);
            let sum: f64 = (first..=last)
                .map(|k| {
                    let distance = k as f64 - centre;
                    let x = std::f64::consts::PI * distance * cutoff;
                    let sinc = if x.abs() < 1e-9 { 1.0 } else { x.sin() / x };
                    let window = (std::f64::consts::FRAC_PI_2 * distance / reach).cos();
                    f64::from(pcm[k]) * sinc * window * window * cutoff
                })
                .sum();
            sum as i16
        })
        .collect()
}

#[test]
fn the_shipped_prompts_hold_no_digit() {
    let prompts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tandem-attendant/prompts");
    let files = std::fs::read_dir(prompts).expect("the prompts are there");
    let files: Vec<PathBuf> = files.map(|file| file.expect("readable").path()).collect();
    let mut samples = 0;
    for file in files.iter().filter(|file| file.extension().is_some_and(|it| it == "ulaw")) {
        let payload = std::fs::read(file).expect("readable");
        let mut pcm = vec![0; payload.len()];
        g711::decode(Law::Mu, &payload, &mut pcm);
        samples += assert_no_digit(&pcm, RATE, &file.display().to_string());
    }
    assert!(samples > 8_000 * 60 * 3, "minutes of speech: {samples} samples");
}

#[test]
fn minutes_of_synthetic_speech_hold_no_digit() {
    let mut samples = 0;
    for voice in ["en-us", "en-gb+f3"] {
        for pitch in ["25", "60"] {
            let speech = Command::new("espeak-ng")
                .args(["-v", voice, "-p", pitch, "--stdout", TEXT])
                .output();
            let Some((rate, pcm)) = wav(speech) else { continue };
            samples += assert_no_digit(&pcm, rate, voice);
        }
    }
    for voice in ["slt", "rms"] {
        let speech =
            Command::new("flite").args(["-voice", voice, "-t", TEXT, "-o", "/dev/stdout"]).output();
        let Some((rate, pcm)) = wav(speech) else { continue };
        samples += assert_no_digit(&pcm, rate, voice);
    }
    println!("{} minutes of synthetic speech", samples / 8_000 / 60);
}

/// Rate and samples of what a program wrote; none where it is not installed.
fn wav(output: io::Result<Output>) -> Option<(f64, Vec<i16>)> {
    let wav = output.ok().filter(|output| output.status.success())?.stdout;
    let rate = u32::from_le_bytes(*wav.get(24..)?.first_chunk()?);
    let data = wav.windows(4).position(|tag| tag == b"data")? + 8;
    let (samples, _) = wav.get(data..)?.as_chunks::<2>();
    Some((f64::from(rate), samples.iter().map(|bytes| i16::from_le_bytes(*bytes)).collect()))
}
