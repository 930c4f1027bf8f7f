//! `[agents.x.audio]`.

use std::sync::Arc;

use tandem_media::{AmbientSound, GainControl, Room, VoiceSettings};

use super::*;

fn audio(table: &str) -> VoiceSettings {
    let text = format!("[agents.a.audio]\n{table}\n[numbers]\n\"*\" = \"a\"\n");
    good(&text).agents["a"].audio.clone()
}

fn mistakes(table: &str) -> String {
    findings(&format!("[agents.a.audio]\n{table}\n[numbers]\n\"*\" = \"a\"\n"))
}

#[test]
fn nothing_is_changed_unless_it_is_asked_for() {
    for table in ["", "denoising_mode = \"off\"\nambient_sound = \"none\"\ngain_control = false"] {
        let audio = audio(table);
        assert_eq!(audio, VoiceSettings::default());
        assert!(audio.echo_guard && !audio.denoise);
    }
    let config = good("[agents.a]\n[numbers]\n\"*\" = \"a\"\n");
    assert_eq!(config.agents["a"].audio, VoiceSettings::default());
}

#[test]
fn every_setting_reaches_the_agent() {
    let audio = audio(
        "denoising_mode = \"noise-cancellation\"\necho_guard = false\ngain_control = true\n\
         target_level_db = -20\nmax_gain_db = 6.5\nambient_sound = \"coffee-shop\"\nambient_level_db = -45",
    );
    assert!(audio.denoise && !audio.echo_guard);
    assert_eq!(audio.gain_control, Some(GainControl { target_db: -20.0, max_gain_db: 6.5 }));
    let ambience = audio.ambience.expect("a sound was asked for");
    assert_eq!(ambience.level_db, -45.0);
    assert!(Arc::ptr_eq(&ambience.sound, &AmbientSound::shared(Room::CoffeeShop)));
}

#[test]
fn mistakes_are_found_where_they_stand() {
    for (table, message) in [
        ("denoising_mode = \"on\"", "\"on\" must be \"off\" or \"noise-cancellation\""),
        ("denoising_mode = \"noise-and-background-speech-cancellation\"", "is not built"),
        (
            "ambient_sound = \"beach\"",
            "\"office\", \"coffee-shop\", \"outdoor\" or the path of a .wav file",
        ),
        ("ambient_sound = \"no/such.wav\"", "no/such.wav: "),
        ("ambient_level_db = -20", "ambient_level_db"),
        ("gain_control = true\nmax_gain_db = 40", "max_gain_db"),
        ("echo_gard = true", "did you mean `echo_guard`?"),
    ] {
        let found = mistakes(table);
        assert!(found.contains(message), "{table}: {found}");
        assert!(found.contains("t.toml:"), "{table}: {found}");
    }
}

#[test]
fn a_sound_of_ones_own_lies_beside_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, rate: u32, channels: u16, samples: usize| {
        let spec = hound::WavSpec {
            channels,
            sample_rate: rate,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(directory.path().join(name), spec).unwrap();
        (0..samples).for_each(|n| writer.write_sample((n % 200) as i16 * 20 - 2_000).unwrap());
        writer.finalize().unwrap();
    };
    write("good.wav", 16_000, 1, 48_000);
    write("stereo.wav", 16_000, 2, 96_000);
    write("odd.wav", 22_050, 1, 66_150);
    write("short.wav", 8_000, 1, 8_000);
    for (name, mistake) in [
        ("good.wav", None),
        ("stereo.wav", Some("mono PCM of 16 bits")),
        ("odd.wav", Some("8000, 16000, 24000 or 48000 samples per second")),
        ("short.wav", Some("2 to 60 s long")),
    ] {
        let text =
            format!("[agents.a.audio]\nambient_sound = \"{name}\"\n[numbers]\n\"*\" = \"a\"\n");
        let (config, findings) = Config::read(&directory.path().join("t.toml"), &text, &|_| None);
        match mistake {
            None => {
                let config = config.unwrap_or_else(|| panic!("{findings}"));
                assert!(config.agents["a"].audio.ambience.is_some());
            }
            Some(mistake) => {
                assert!(config.is_none() && findings.to_string().contains(mistake), "{findings}");
            }
        }
    }
}
