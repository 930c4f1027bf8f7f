//! Reads which calls are recorded, and how.

use std::collections::BTreeMap;

use secrecy::ExposeSecret;
use tandem_media::SampleRate;
use tandem_recording::{Channels, RecordingFormat, RecordingKey, RecordingSettings};

use super::{
    agent::Agent,
    reader::{Section, Value},
    secret::{Surroundings, secret_source},
};

/// The longest announcement, in bytes: half a minute of speech.
const LONGEST_CONSENT: usize = 400;

/// `[recording]`: what holds for calls whose agent or number says nothing else.
#[derive(Debug, Clone)]
pub struct RecordingConfig {
    /// Calls are recorded.
    pub on: bool,
    /// Where and how.
    pub settings: RecordingSettings,
    /// What callers are told first, with `{{name}}` placeholders.
    pub consent: Option<String>,
    /// The recording begins with the answer, not behind the announcement.
    pub from_answer: bool,
}

impl RecordingConfig {
    /// The defaults: nothing is recorded. Relative paths start from `directory`.
    pub(crate) fn off(surroundings: &Surroundings<'_>) -> Self {
        let defaults = RecordingSettings::default();
        let folder = surroundings.directory.join(&defaults.folder);
        Self {
            on: false,
            settings: RecordingSettings { folder, ..defaults },
            consent: None,
            from_answer: false,
        }
    }

    /// What callers of `agent` are told first, filled in; none = nothing.
    pub fn consent_of(&self, agent: &Agent) -> Option<String> {
        let text = agent.recording.consent.as_ref().or(self.consent.as_ref())?;
        let text = agent.fill(text, &BTreeMap::new());
        (!text.trim().is_empty()).then_some(text)
    }

    /// Whether calls of an agent are recorded to a number that says `number`; zero days of retention store nothing.
    pub fn records(&self, agent: &AgentRecording, number: Option<bool>) -> bool {
        number.or(agent.on).unwrap_or(self.on) && self.settings.retention_days != Some(0)
    }
}

/// What an agent says of the recording of its calls; what it does not say is inherited from `[recording]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentRecording {
    /// Calls are recorded.
    pub on: Option<bool>,
    /// What callers are told first; empty = nothing.
    pub consent: Option<String>,
    /// The recording begins with the answer, not behind the announcement.
    pub from_answer: Option<bool>,
}

/// Reads `[recording]`.
pub(crate) fn read_recording(
    mut section: Section<'_, '_>,
    surroundings: &Surroundings<'_>,
) -> RecordingConfig {
    let defaults = RecordingConfig::off(surroundings);
    let mode = section.value("mode");
    let on = mode.as_ref().and_then(|mode| mode.parsed(on_or_off));
    let folder = section.parsed("path", |path| {
        if path.trim().is_empty() {
            return Err("must name a folder, as in \"recordings\"".into());
        }
        Ok(surroundings.directory.join(path))
    });
    let retention = section.value("retention_days");
    let retention_days = match &retention {
        Some(value) if value.is_string() => value.parsed(|word| match word {
            "forever" => Ok(None),
            _ => Err(format!("{word:?} must be a number of days or \"forever\"")),
        }),
        Some(value) => value.integer(0..=36_500).map(|days| u32::try_from(days).ok()),
        None => None,
    };
    let settings = RecordingSettings {
        folder: folder.unwrap_or(defaults.settings.folder),
        format: section.parsed("format", read_format).unwrap_or(defaults.settings.format),
        rate: section
            .value("sample_rate_hz")
            .and_then(|value| read_rate(&value))
            .unwrap_or(defaults.settings.rate),
        channels: match section.count("channels", 1..=2) {
            Some(1) => Channels::Mono,
            _ => Channels::Stereo,
        },
        key: read_key(&mut section, surroundings),
        retention_days: retention_days.unwrap_or(defaults.settings.retention_days),
        keep_free: section
            .count("min_free_mb", 0..=1_000_000)
            .map_or(defaults.settings.keep_free, |mb| u64::from(mb) * 1_000_000),
    };
    if let (Some(true), Some(0), Some(value)) = (on, settings.retention_days, &retention) {
        value.mistakes().warning(
            value.key_span(),
            "`recording.retention_days` is 0, so that nothing is recorded",
            "give it a number of days, or set `mode` to \"off\"",
        );
    }
    let consent = section.value("consent").and_then(|value| read_consent(&value));
    let config = RecordingConfig {
        on: on.unwrap_or(defaults.on),
        settings,
        consent: consent.filter(|text| !text.is_empty()),
        from_answer: section.parsed("begin", read_begin).unwrap_or(defaults.from_answer),
    };
    section.finish(&[]);
    config
}

/// Reads `recording` of an agent: `"on"`, or a table.
pub(crate) fn read_agent_recording(value: &Value<'_, '_>) -> AgentRecording {
    if !value.is_table() {
        let on = read_mode(value).flatten();
        return AgentRecording { on, ..AgentRecording::default() };
    }
    let Some(mut section) = value.section() else { return AgentRecording::default() };
    let recording = AgentRecording {
        on: section.value("mode").and_then(|mode| read_mode(&mode)).flatten(),
        consent: section.value("consent").and_then(|value| read_consent(&value)),
        from_answer: section.parsed("begin", read_begin),
    };
    section.finish(&[]);
    recording
}

/// `"on"`, `"off"`, or `"inherit"`, which is none.
pub(crate) fn read_mode(value: &Value<'_, '_>) -> Option<Option<bool>> {
    value.parsed(|word| match word {
        "on" => Ok(Some(true)),
        "off" => Ok(Some(false)),
        "inherit" => Ok(None),
        _ => Err(format!("{word:?} must be \"inherit\", \"on\" or \"off\"")),
    })
}

fn on_or_off(word: &str) -> Result<bool, String> {
    match word {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("{word:?} must be \"on\" or \"off\"")),
    }
}

fn read_format(word: &str) -> Result<RecordingFormat, String> {
    RecordingFormat::from_name(word).ok_or_else(|| format!("{word:?} must be \"wav\" or \"ogg\""))
}

fn read_begin(word: &str) -> Result<bool, String> {
    match word {
        "after_consent" => Ok(false),
        "answer" => Ok(true),
        _ => Err(format!("{word:?} must be \"after_consent\" or \"answer\"")),
    }
}

fn read_rate(value: &Value<'_, '_>) -> Option<SampleRate> {
    let hz = value.integer(1..=1_000_000)?;
    let rate = usize::try_from(hz).ok().and_then(SampleRate::from_hz);
    if rate.is_none() {
        value.mistakes().error_with_fix(
            &value.span(),
            format!("`{}`: files have no rate of {hz} Hz", value.path()),
            "8000, 16000, 24000 or 48000",
        );
    }
    rate
}

/// The announcement; empty for `"off"`.
fn read_consent(value: &Value<'_, '_>) -> Option<String> {
    value.parsed(|text| match text.trim() {
        "off" => Ok(String::new()),
        text if text.len() > LONGEST_CONSENT => {
            Err(format!("is {} bytes long, at most {LONGEST_CONSENT} are said", text.len()))
        }
        text if text.chars().any(char::is_alphanumeric) => Ok(text.to_owned()),
        _ => Err("must be a sentence, or \"off\"".into()),
    })
}

fn read_key(
    section: &mut Section<'_, '_>,
    surroundings: &Surroundings<'_>,
) -> Option<RecordingKey> {
    let span = section.span().clone();
    let source = secret_source(section, ["key", "key_env", "key_file"])?;
    let key = source.read(surroundings).and_then(|secret| {
        RecordingKey::parse(secret.expose_secret()).map_err(|error| error.to_string())
    });
    match key {
        Ok(key) => Some(key),
        Err(why) => {
            section.mistakes().error_with_fix(
                &span,
                format!("[recording]: there is no key to seal recordings with: {why}"),
                "`openssl rand -hex 32 > recording.key` makes one; keep a copy where the recordings are not",
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Findings};

    fn read(text: &str) -> (Option<Config>, Findings) {
        Config::read(Path::new("/etc/t/t.toml"), text, &|name| {
            (name == "KEY").then(|| "ab".repeat(32))
        })
    }

    fn good(text: &str) -> Config {
        let (config, findings) = read(text);
        config.unwrap_or_else(|| panic!("{findings}"))
    }

    #[test]
    fn nothing_is_recorded_unless_somebody_says_so() {
        let config = good("[agents.a]\n[numbers]\n\"1\" = \"a\"\n");
        let recording = &config.recording;
        assert!(!recording.records(&config.agents["a"].recording, None));
        assert!(recording.records(&config.agents["a"].recording, Some(true)));
        let settings = &recording.settings;
        assert_eq!(settings.folder, Path::new("/etc/t/recordings"));
        assert_eq!((settings.rate, settings.channels), (SampleRate::Hz16000, Channels::Stereo));
        assert_eq!((settings.format, settings.retention_days), (RecordingFormat::Wav, Some(30)));
    }

    #[test]
    fn every_key_is_read() {
        let config = good(
            r#"
[recording]
mode = "on"
path = "/srv/calls"
format = "ogg"
sample_rate_hz = 8000
channels = 1
retention_days = "forever"
consent = "{{company}} records this call."
begin = "answer"
key_env = "KEY"
min_free_mb = 1000
[agents.a]
recording = "off"
[agents.b.recording]
consent = "off"
begin = "after_consent"
[agents.c]
[numbers]
"1" = "a"
"2" = { agent = "a", recording = "on" }
"3" = { agent = "c", recording = "off" }
"4" = { agent = "c", recording = "inherit" }
"#,
        );
        let RecordingConfig { on, settings, consent, from_answer } = &config.recording;
        assert!(*on && *from_answer);
        assert_eq!(consent.as_deref(), Some("{{company}} records this call."));
        assert_eq!((settings.rate, settings.channels), (SampleRate::Hz8000, Channels::Mono));
        assert_eq!((settings.format, settings.retention_days), (RecordingFormat::Ogg, None));
        assert_eq!(
            (settings.folder.as_path(), settings.keep_free),
            (Path::new("/srv/calls"), 1_000_000_000)
        );
        assert!(settings.key.is_some());
        let b = &config.agents["b"].recording;
        assert_eq!((b.on, b.consent.as_deref(), b.from_answer), (None, Some(""), Some(false)));
        let lines = config.numbers.lines().iter();
        let recorded: Vec<bool> = lines
            .map(|line| {
                let agent = line.destination.agent().unwrap();
                config.recording.records(&config.agents[agent].recording, line.recording)
            })
            .collect();
        assert_eq!(recorded, [false, true, false, true]);
    }

    #[test]
    fn mistakes_say_what_to_do() {
        let text = r#"[recording]
mode = "yes"
format = "mp3"
sample_rate_hz = 44100
channels = 3
retention_days = "never"
consent = "..."
begin = "later"
kept = 3
[agents.a]
recording = "maybe"
[agents.b.recording]
mode = "yes"
[numbers]
"1" = { agent = "a", recording = "x" }
"2" = "b"
"#;
        let (config, findings) = read(text);
        assert!(config.is_none());
        let lines: Vec<usize> = findings.mistakes.iter().map(|mistake| mistake.line).collect();
        assert_eq!(lines, [2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 15], "{findings}");
        for (text, says) in [
            ("[recording]\nkey = \"ab\"\n", "a secret must not stand in this file"),
            ("[recording]\nkey_env = \"NONE\"\n", "openssl rand -hex 32"),
            ("[recording]\nkey_file = \"/nowhere/key\"\n", "can't be read"),
            ("[recording]\nmode = \"on\"\nretention_days = 0\n", "nothing is recorded"),
        ] {
            let (_, findings) = read(text);
            assert!(findings.to_string().contains(says), "{findings}");
        }
    }
}
