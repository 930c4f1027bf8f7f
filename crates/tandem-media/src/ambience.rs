//! A room behind the agent's voice, so that its pauses are not dead.

mod synthesis;

use std::sync::{Arc, OnceLock};

use crate::{Resampler, SampleRate};

/// Level of a sound as it is kept, dB of a full-scale square wave.
const KEPT_DB: f32 = -26.0;
/// Both ends of a loop are faded into each other over this time.
const SEAM_MS: usize = 250;
/// A loop is to be heard for a while before it comes again.
const SHORTEST_MS: usize = 2_000;
const LONGEST_MS: usize = 60_000;
const RATES: [SampleRate; 4] =
    [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz24000, SampleRate::Hz48000];

/// Sounds that are made by Tandem itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Room {
    /// Ventilation, keys, a murmur from next door.
    Office,
    /// Many voices, cups.
    CoffeeShop,
    /// Wind, a far road, a bird now and then.
    Outdoor,
}

impl Room {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Office, Self::CoffeeShop, Self::Outdoor];

    /// Its name in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Office => "office",
            Self::CoffeeShop => "coffee-shop",
            Self::Outdoor => "outdoor",
        }
    }
}

/// Why audio is no ambience.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmbientSoundError {
    #[error("a background sound has to be 2 to 60 s long")]
    Length,
    #[error("the background sound is silent")]
    Silent,
}

/// A loop of sound at every rate, made once and shared by all calls.
#[derive(Debug)]
pub struct AmbientSound {
    loops: [Vec<i16>; 4],
}

impl AmbientSound {
    /// The sound of `room`, 16 s. Takes some ten milliseconds: not for a media thread.
    pub fn of_room(room: Room) -> Self {
        let made = synthesis::make(room);
        Self::from_pcm(synthesis::RATE, &made).expect("what is made is long enough and not silent")
    }

    /// The sound of `room`, made when it is first asked for and kept.
    pub fn shared(room: Room) -> Arc<Self> {
        static ROOMS: [OnceLock<Arc<AmbientSound>>; 3] = [const { OnceLock::new() }; 3];
        Arc::clone(ROOMS[room as usize].get_or_init(|| Arc::new(Self::of_room(room))))
    }

    /// A sound of one's own: mono PCM of 2 to 60 s. Its level does not matter, it is brought to the usual one.
    pub fn from_pcm(rate: SampleRate, pcm: &[i16]) -> Result<Self, AmbientSoundError> {
        let millis = pcm.len() * 1_000 / rate.hz();
        if !(SHORTEST_MS..=LONGEST_MS).contains(&millis) {
            return Err(AmbientSoundError::Length);
        }
        let looped = seamless(pcm, rate.hz() * SEAM_MS / 1_000);
        let sum: f64 = looped.iter().map(|&sample| f64::from(sample).powi(2)).sum();
        let level = (sum / looped.len() as f64).sqrt();
        if level < 1.0 {
            return Err(AmbientSoundError::Silent);
        }
        // Peaks may clip a little where a sound is all peaks; it is 10 dB quieter yet when it is heard.
        let gain = 32_768.0 * 10f64.powf(f64::from(KEPT_DB) / 20.0) / level;
        let kept: Vec<i16> =
            looped.iter().map(|&sample| (f64::from(sample) * gain).round() as i16).collect();
        Ok(Self { loops: RATES.map(|to| convert(&kept, rate, to)) })
    }

    fn at(&self, rate: SampleRate) -> &[i16] {
        let index = RATES.iter().position(|known| *known == rate);
        &self.loops[index.expect("a loop for each rate")]
    }
}

/// Which sound, and how loud.
#[derive(Debug, Clone)]
pub struct AmbienceSettings {
    /// The sound.
    pub sound: Arc<AmbientSound>,
    /// Its mean level, dB of a full-scale square wave; -36 at most.
    pub level_db: f32,
}

impl AmbienceSettings {
    /// The loudest that may be mixed behind a voice.
    pub const LOUDEST_DB: f32 = -36.0;
    /// What is hardly worth mixing.
    pub const QUIETEST_DB: f32 = -70.0;
    /// A room that is heard and not listened to.
    pub const USUAL_DB: f32 = -42.0;
}

impl PartialEq for AmbienceSettings {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.sound, &other.sound) && self.level_db == other.level_db
    }
}

/// The sound behind one call.
#[derive(Debug)]
pub struct Ambience {
    sound: Arc<AmbientSound>,
    rate: SampleRate,
    /// Gain in parts of 32,768.
    gain: i32,
    at: usize,
}

impl Ambience {
    /// The sound that `settings` ask for, for audio of `rate`.
    pub fn new(rate: SampleRate, settings: &AmbienceSettings) -> Self {
        let level =
            settings.level_db.clamp(AmbienceSettings::QUIETEST_DB, AmbienceSettings::LOUDEST_DB);
        let gain = (32_768.0 * 10f32.powf((level - KEPT_DB) / 20.0)) as i32;
        Self { sound: Arc::clone(&settings.sound), rate, gain, at: 0 }
    }

    /// The rate of the audio it is mixed into.
    pub const fn rate(&self) -> SampleRate {
        self.rate
    }

    /// The audio is of `rate` from now on; the sound goes on where it was.
    pub fn set_rate(&mut self, rate: SampleRate) {
        self.at = self.at * rate.hz() / self.rate.hz();
        self.rate = rate;
    }

    /// Adds the next of the sound to `pcm`.
    pub fn mix(&mut self, pcm: &mut [i16]) {
        let sound = self.sound.at(self.rate);
        let mut rest = pcm;
        while !rest.is_empty() {
            self.at %= sound.len();
            let ahead = &sound[self.at..];
            let (now, later) = rest.split_at_mut(rest.len().min(ahead.len()));
            for (sample, &background) in now.iter_mut().zip(ahead) {
                *sample = sample.saturating_add(((i32::from(background) * self.gain) >> 15) as i16);
            }
            self.at += now.len();
            rest = later;
        }
    }
}

/// `pcm` shortened by `seam` samples, whose end leads into its beginning.
fn seamless(pcm: &[i16], seam: usize) -> Vec<i16> {
    let length = pcm.len() - seam;
    let mut looped = pcm[..length].to_vec();
    for (n, slot) in looped[..seam].iter_mut().enumerate() {
        // Sounds that have nothing in common keep their power.
        let angle = std::f64::consts::FRAC_PI_2 * (n as f64 + 0.5) / seam as f64;
        *slot = (f64::from(*slot) * angle.sin() + f64::from(pcm[length + n]) * angle.cos()) as i16;
    }
    looped
}

/// A loop at another rate, without a seam.
fn convert(pcm: &[i16], from: SampleRate, to: SampleRate) -> Vec<i16> {
    if from == to {
        return pcm.to_vec();
    }
    let mut resampler = Resampler::new(from, to);
    let mut out = Vec::new();
    // Its end first, so that the filter stands at the beginning as it does at the end.
    let lead = from.hz() / 50;
    resampler.process(&pcm[pcm.len() - lead..], &mut out);
    out.clear();
    resampler.process(pcm, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn db(pcm: &[i16]) -> f64 {
        let sum: f64 = pcm.iter().map(|&sample| f64::from(sample).powi(2)).sum();
        10.0 * (sum / pcm.len() as f64).log10() - 90.3
    }

    #[test]
    fn every_room_has_its_level_at_every_rate_and_no_seam() {
        for room in Room::ALL {
            let settings =
                AmbienceSettings { sound: Arc::new(AmbientSound::of_room(room)), level_db: -40.0 };
            for rate in RATES {
                let mut ambience = Ambience::new(rate, &settings);
                let mut pcm = vec![0; rate.hz() * 40];
                pcm.chunks_mut(rate.hz() / 50).for_each(|frame| ambience.mix(frame));
                assert!((db(&pcm) + 40.0).abs() < 2.0, "{room:?} {rate:?}: {:.1}", db(&pcm));
                let length = settings.sound.at(rate).len();
                assert_eq!(pcm[..rate.hz()], pcm[length..length + rate.hz()], "{room:?} loops");
                let step = |n: usize| (i32::from(pcm[n]) - i32::from(pcm[n - 1])).abs();
                let usual = (1..length).map(step).max().unwrap();
                assert!(step(length) <= usual, "{room:?} {rate:?} clicks");
                // No second is silent, none drowns the voice.
                for second in pcm.chunks_exact(rate.hz()) {
                    assert!((-55.0..-30.0).contains(&db(second)), "{room:?}: {:.1}", db(second));
                }
            }
        }
    }

    #[test]
    fn a_sound_is_made_the_same_way_every_time() {
        let made = AmbientSound::of_room(Room::Office);
        assert_eq!(
            made.at(SampleRate::Hz8000),
            AmbientSound::of_room(Room::Office).at(SampleRate::Hz8000)
        );
    }

    #[test]
    fn a_sound_of_ones_own_is_brought_to_the_level_or_refused() {
        let rate = SampleRate::Hz24000;
        for (length, peak, expected) in [
            (rate.hz(), 1_000, Some(AmbientSoundError::Length)),
            (rate.hz() * 61, 1_000, Some(AmbientSoundError::Length)),
            (rate.hz() * 3, 0, Some(AmbientSoundError::Silent)),
            (rate.hz() * 3, 30, None),
            (rate.hz() * 3, 30_000, None),
        ] {
            let pcm: Vec<i16> =
                (0..length).map(|n| if n / 40 % 2 == 0 { peak } else { -peak }).collect();
            let sound = AmbientSound::from_pcm(rate, &pcm);
            assert_eq!(sound.as_ref().err().copied(), expected, "{length} {peak}");
            if let Ok(sound) = sound {
                assert!((db(sound.at(SampleRate::Hz8000)) - f64::from(KEPT_DB)).abs() < 1.5);
            }
        }
    }

    #[test]
    fn mixing_into_a_loud_voice_saturates() {
        let settings = AmbienceSettings {
            sound: Arc::new(AmbientSound::of_room(Room::CoffeeShop)),
            level_db: 0.0,
        };
        let mut pcm = vec![i16::MAX; 8_000];
        Ambience::new(SampleRate::Hz8000, &settings).mix(&mut pcm);
        assert!(pcm.iter().all(|sample| *sample > 20_000));
    }
}
