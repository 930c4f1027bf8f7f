//! Reads `[agents.x.audio]`: how an agent's calls sound.

use std::{path::Path, sync::Arc};

use hound::{SampleFormat, WavReader};
use tandem_media::{AmbienceSettings, AmbientSound, GainControl, Room, SampleRate, VoiceSettings};

use super::reader::{Section, Value};

/// Samples of the longest file that is read: a minute at 48 kHz.
const MAX_SAMPLES: u32 = 60 * 48_000;

/// Reads the table; a sound of one's own is looked for in `directory`.
pub(crate) fn read_audio(mut section: Section<'_, '_>, directory: &Path) -> VoiceSettings {
    let defaults = VoiceSettings::default();
    let level = section.number(
        "ambient_level_db",
        AmbienceSettings::QUIETEST_DB.into()..=AmbienceSettings::LOUDEST_DB.into(),
    );
    let sound = section.value("ambient_sound").and_then(|value| read_sound(&value, directory));
    let control = GainControl::default();
    let control = GainControl {
        target_db: section
            .number("target_level_db", -40.0..=-10.0)
            .map_or(control.target_db, |level| level as f32),
        max_gain_db: section
            .number("max_gain_db", 0.0..=24.0)
            .map_or(control.max_gain_db, |gain| gain as f32),
    };
    let settings = VoiceSettings {
        denoise: section.parsed("denoising_mode", read_denoising).unwrap_or(defaults.denoise),
        gain_control: section.boolean("gain_control").unwrap_or(false).then_some(control),
        echo_guard: section.boolean("echo_guard").unwrap_or(defaults.echo_guard),
        ambience: sound.map(|sound| AmbienceSettings {
            sound,
            level_db: level.map_or(AmbienceSettings::USUAL_DB, |level| level as f32),
        }),
    };
    section.finish(&[]);
    settings
}

fn read_denoising(mode: &str) -> Result<bool, String> {
    match mode {
        "off" => Ok(false),
        "noise-cancellation" => Ok(true),
        "noise-and-background-speech-cancellation" => Err(format!(
            "{mode:?} does not fit into the time of a frame, and is not built; \"noise-cancellation\" is"
        )),
        _ => Err(format!("{mode:?} must be \"off\" or \"noise-cancellation\"")),
    }
}

fn read_sound(value: &Value<'_, '_>, directory: &Path) -> Option<Arc<AmbientSound>> {
    value
        .parsed(|name| {
            if name == "none" {
                return Ok(None);
            }
            if let Some(room) = Room::ALL.into_iter().find(|room| room.name() == name) {
                return Ok(Some(AmbientSound::shared(room)));
            }
            let is_file =
                Path::new(name).extension().is_some_and(|it| it.eq_ignore_ascii_case("wav"));
            if !is_file {
                let rooms = Room::ALL.map(|room| format!("{:?}", room.name())).join(", ");
                return Err(format!(
                    "{name:?} must be \"none\", {rooms} or the path of a .wav file"
                ));
            }
            let path = directory.join(name);
            match read_wave(&path) {
                Ok(sound) => Ok(Some(Arc::new(sound))),
                Err(reason) => Err(format!("{}: {reason}", path.display())),
            }
        })
        .flatten()
}

fn read_wave(path: &Path) -> Result<AmbientSound, String> {
    let mut reader = WavReader::open(path).map_err(|error| error.to_string())?;
    let spec = reader.spec();
    if (spec.channels, spec.bits_per_sample, spec.sample_format) != (1, 16, SampleFormat::Int) {
        return Err("a background sound is mono PCM of 16 bits".into());
    }
    let rate = SampleRate::from_hz(spec.sample_rate as usize)
        .ok_or("a background sound has 8000, 16000, 24000 or 48000 samples per second")?;
    if reader.len() > MAX_SAMPLES {
        return Err("a background sound is a minute long at most".into());
    }
    let pcm =
        reader.samples().collect::<Result<Vec<i16>, _>>().map_err(|error| error.to_string())?;
    AmbientSound::from_pcm(rate, &pcm).map_err(|error| error.to_string())
}
