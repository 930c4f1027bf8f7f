//! The offline attendant: its voice and what it says.

use std::ops::Range;

use serde::Deserialize;
use tandem_attendant::{Engine, Script, VoiceSettings};
use toml::de::{DeValue, ValueDeserializer};

use super::{
    mistake::closest,
    reader::{Section, Value},
    secret::Surroundings,
};

/// What `[attendant]` says for all agents.
#[derive(Debug, Default)]
pub(crate) struct AttendantConfig {
    /// How it speaks.
    pub(crate) voice: VoiceSettings,
    /// What it says where an agent has no script of its own.
    pub(crate) script: Script,
}

/// Reads `[attendant]`.
pub(crate) fn read_attendant(
    mut section: Section<'_, '_>,
    surroundings: &Surroundings<'_>,
) -> AttendantConfig {
    let mut voice = VoiceSettings::default();
    if let Some(engines) = section.list("engines", 8) {
        voice.engines = engines.iter().filter_map(|engine| engine.parsed(parse_engine)).collect();
    }
    if let Some(value) = section.value("flite_voice") {
        let name = value.string(64).unwrap_or_default();
        voice.flite_voice = name.to_owned();
        if let Some(mistake) = voice.mistake() {
            value.mistakes().error(&value.span(), format!("[{}] {mistake}", section.path()));
        }
    }
    voice.cache_dir =
        section.string("cache_dir", 4096).map(|path| surroundings.directory.join(path));
    if let Some(bytes) = section.integer("cache_bytes", 0..=4 << 30) {
        voice.cache_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    }
    let script = section.value("script").and_then(|script| read_script(&script));
    section.finish(&[]);
    AttendantConfig { voice, script: script.unwrap_or_default() }
}

fn parse_engine(name: &str) -> Result<Engine, String> {
    match name {
        "flite" => Ok(Engine::Flite),
        "espeak-ng" => Ok(Engine::EspeakNg),
        _ => Err(format!("{name:?} is no speech program we use: flite, espeak-ng")),
    }
}

/// Reads a script; each of its mistakes is reported where it stands.
pub(crate) fn read_script(value: &Value<'_, '_>) -> Option<Script> {
    value.section()?;
    let script = match Script::deserialize(ValueDeserializer::from(value.raw().clone())) {
        Ok(script) => script,
        Err(error) => {
            let span = error.span().unwrap_or_else(|| value.key_span().clone());
            report(value, &span, error.message().trim());
            return None;
        }
    };
    let mistakes = script.validate();
    for mistake in &mistakes {
        let span = locate(value.raw(), &mistake.key).unwrap_or_else(|| value.key_span().clone());
        value.mistakes().error(&span, format!("`{}`: {mistake}", value.path()));
    }
    mistakes.is_empty().then_some(script)
}

/// Reports what serde says of a script; an unknown key gets the fix that unknown keys get everywhere.
fn report(value: &Value<'_, '_>, span: &Range<usize>, message: &str) {
    let mut words = message.split('`').skip(1).step_by(2);
    match (message.starts_with("unknown field"), words.next()) {
        (true, Some(key)) => {
            let known: Vec<&str> = words.collect();
            let fix = closest(key, known.iter().copied()).map_or_else(
                || format!("known keys: {}", known.join(", ")),
                |meant| format!("did you mean `{meant}`?"),
            );
            let message = format!("unknown key `{key}` in [{}]", value.path());
            value.mistakes().error_with_fix(span, message, fix);
        }
        _ => value
            .mistakes()
            .error(span, format!("`{}`: {}", value.path(), message.replace('\n', ", "))),
    }
}

/// Where the value under `key` stands, or the nearest one around it: `turns[2].say`.
fn locate(value: &toml::Spanned<DeValue<'_>>, key: &str) -> Option<Range<usize>> {
    let (mut here, mut found) = (value, None);
    for step in key.split(['.', '[']) {
        let next = match (here.get_ref(), step.strip_suffix(']')) {
            (DeValue::Array(items), Some(index)) => {
                index.parse::<usize>().ok().and_then(|index| items.get(index))
            }
            (DeValue::Table(entries), None) => entries.get(step),
            _ => None,
        };
        let Some(next) = next else { break };
        found = Some(next.span());
        here = next;
    }
    found
}
