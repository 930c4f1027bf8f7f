//! A stereo recording: left what we sent, right what we heard, on one clock.

use std::{path::Path, time::Duration};

use hound::{SampleFormat, WavSpec, WavWriter};
use tandem_media::SampleRate;

/// A piece this much later than the end of its track leaves a hole, in milliseconds; anything less is jitter and is joined
/// on.
const HOLE: usize = 60;

/// A piece this much earlier than the end of its track is dropped, so that the track does not run ahead.
const AHEAD: usize = 200;

/// The longest recording, in seconds.
const MAX_SECONDS: usize = 3700;

/// One side of a call, from the answer on.
#[derive(Debug)]
pub struct Track {
    rate: SampleRate,
    samples: Vec<i16>,
}

impl Track {
    /// An empty track of this rate.
    pub const fn new(rate: SampleRate) -> Self {
        Self { rate, samples: Vec::new() }
    }

    /// Puts `pcm`, which belongs at `at`, into its place, and tells where that is; none when it came too early.
    pub fn put(&mut self, at: Duration, pcm: &[i16]) -> Option<Duration> {
        let hz = self.rate.hz();
        let at = (at.as_secs_f64() * hz as f64).round() as usize;
        let end = self.samples.len();
        if end > at + AHEAD * hz / 1000 || at.max(end) + pcm.len() > MAX_SECONDS * hz {
            return None;
        }
        if at > end + HOLE * hz / 1000 {
            self.samples.resize(at, 0);
        }
        let place = self.length();
        self.samples.extend_from_slice(pcm);
        Some(place)
    }

    /// Where the next piece is put if it comes on time.
    pub fn length(&self) -> Duration {
        self.rate.duration_of(self.samples.len())
    }
}

/// Writes `left` and `right`, which are of one rate, to `path` as 16-bit stereo, the shorter one filled up with silence.
pub fn write(path: &Path, left: &Track, right: &Track) -> Result<(), String> {
    let failed = |error: hound::Error| format!("{} can't be written: {error}", path.display());
    let spec = WavSpec {
        channels: 2,
        sample_rate: left.rate.hz() as u32,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory).map_err(|error| failed(error.into()))?;
    }
    let mut writer = WavWriter::create(path, spec).map_err(failed)?;
    for n in 0..left.samples.len().max(right.samples.len()) {
        for track in [left, right] {
            writer.write_sample(track.samples.get(n).copied().unwrap_or(0)).map_err(failed)?;
        }
    }
    writer.finalize().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_track_joins_jitter_fills_holes_and_never_runs_ahead() {
        let mut track = Track::new(SampleRate::Hz8000);
        let ms = Duration::from_millis;
        track.put(ms(0), &[1; 160]);
        track.put(ms(25), &[2; 160]); // 5 ms late.
        track.put(ms(38), &[3; 160]); // 2 ms early.
        assert_eq!(track.samples.len(), 480);
        track.put(ms(1000), &[4; 160]); // Nothing came for long.
        assert_eq!(track.samples.len(), 8160);
        assert_eq!(track.samples[480..8000], [0; 7520]);
        assert_eq!(track.samples[8000], 4);
        assert_eq!(track.put(ms(500), &[5; 160]), None, "it belongs into the past");
        assert_eq!(track.length(), ms(1020));
    }

    #[test]
    fn the_file_has_us_on_the_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/call.wav");
        let (mut left, mut right) =
            (Track::new(SampleRate::Hz16000), Track::new(SampleRate::Hz16000));
        left.put(Duration::ZERO, &[100, 200]);
        right.put(Duration::ZERO, &[-1, -2, -3]);
        write(&path, &left, &right).unwrap();
        let mut reader = hound::WavReader::open(&path).unwrap();
        assert_eq!((reader.spec().channels, reader.spec().sample_rate), (2, 16_000));
        let samples: Vec<i16> = reader.samples().collect::<Result<_, _>>().unwrap();
        assert_eq!(samples, [100, -1, 200, -2, 0, -3]);
    }
}
