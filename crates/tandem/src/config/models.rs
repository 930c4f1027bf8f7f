//! The voice models that agents may name.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;
use tandem_models::{ModelOptions, ModelSettings, Provider, Thinking, TurnDetection};

use super::{
    listeners::printable,
    mistake::closest,
    reader::{Section, Value},
    secret::{SecretSource, Surroundings, secret_source},
};

/// The name under which agents ask for the offline attendant.
pub const ATTENDANT: &str = "attendant";

/// One model that agents may name.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// What it is. Its key is empty when none was found.
    pub settings: ModelSettings,
    /// Why it has no key: agents pass it over.
    pub missing_key: Option<String>,
    /// Whether the file has a section for it; `openai` and `gemini` exist without one.
    pub written: bool,
}

impl ModelConfig {
    /// Its settings, if it has a key.
    pub fn usable(&self) -> Option<&ModelSettings> {
        self.missing_key.is_none().then_some(&self.settings)
    }

    fn new(provider: Provider, key: Result<SecretString, String>, written: bool) -> Self {
        let (key, missing_key) = match key {
            Ok(key) => (key, None),
            Err(why) => (SecretString::default(), Some(why)),
        };
        Self { settings: ModelSettings::new(provider, key), missing_key, written }
    }
}

/// The model names that exist without configuration.
const BUILTIN: [(&str, Provider); 2] =
    [("openai", Provider::OpenAiRealtime), ("gemini", Provider::GeminiLive)];

/// Where the key of `provider` is expected when nothing else is said.
fn default_key(provider: Provider) -> SecretSource {
    SecretSource::Variable(
        match provider {
            Provider::OpenAiRealtime => "OPENAI_API_KEY",
            Provider::GeminiLive => "GEMINI_API_KEY",
        }
        .into(),
    )
}

/// Reads `[models]` and adds `openai` and `gemini`, which need no section of their own.
pub(crate) fn read_models(
    section: Option<Section<'_, '_>>,
    surroundings: &Surroundings<'_>,
) -> BTreeMap<String, ModelConfig> {
    let mut models: BTreeMap<String, ModelConfig> = BUILTIN
        .into_iter()
        .map(|(name, provider)| {
            let key = default_key(provider).read(surroundings);
            (name.to_owned(), ModelConfig::new(provider, key, false))
        })
        .collect();
    for (name, value) in section.map(|section| section.entries(100)).unwrap_or_default() {
        if name == ATTENDANT {
            value.mistakes().error_with_fix(
                value.key_span(),
                "[models.attendant]: this name belongs to the offline attendant",
                "choose another name; the attendant is set up in [attendant]",
            );
        } else if let Some(model) = read_model(&name, &value, surroundings) {
            models.insert(name, model);
        }
    }
    models
}

fn read_model(
    name: &str,
    value: &Value<'_, '_>,
    surroundings: &Surroundings<'_>,
) -> Option<ModelConfig> {
    let mut section = value.section()?;
    let provider_value = section.value("provider");
    let implied =
        BUILTIN.into_iter().find(|(builtin, _)| *builtin == name).map(|(_, provider)| provider);
    if provider_value.is_none() && implied.is_none() {
        value.mistakes().error_with_fix(
            value.key_span(),
            format!("[models.{name}] has no `provider`"),
            format!("add one of {}", Provider::ALL.map(Provider::name).join(", ")),
        );
    }
    let provider = match provider_value {
        Some(value) => value.parsed(parse_provider),
        None => implied,
    };
    let source = secret_source(&mut section, ["api_key", "api_key_env", "api_key_file"]);
    let model = section.parsed("model", |model| printable(model, 200).map(str::to_owned));
    let url_value = section.value("base_url");
    let base_url = url_value.as_ref().and_then(|value| value.parsed(parse_base_url));
    if let (Some(value), Some(true)) = (&url_value, base_url.as_deref().map(is_in_the_clear)) {
        value.mistakes().warning(
            &value.span(),
            format!("`{}`: the key and the call's audio go there unencrypted", value.path()),
            "use wss://",
        );
    }
    let handshake_timeout =
        section.millis("handshake_timeout_ms", 500..=60_000).unwrap_or(Duration::from_secs(5));
    let options = section.section("options").map(|options| read_options(options, surroundings));
    section.finish(&[]);

    let provider = provider?;
    let key = source.unwrap_or_else(|| default_key(provider)).read(surroundings);
    if let Err(why) = &key {
        value.mistakes().warning(
            value.key_span(),
            format!("[models.{name}] has no key: {why}"),
            "until it has one, agents pass it over and the offline attendant answers",
        );
    }
    let mut config = ModelConfig::new(provider, key, true);
    config.settings.model = model.unwrap_or_else(|| provider.default_model().into());
    config.settings.base_url = base_url;
    config.settings.handshake_timeout = handshake_timeout;
    config.settings.options = options.unwrap_or_default();
    Some(config)
}

fn parse_provider(name: &str) -> Result<Provider, String> {
    let known = Provider::ALL.map(Provider::name);
    name.parse().map_err(|_| {
        let builtin = BUILTIN.iter().find(|(builtin, _)| *builtin == name);
        let meant = builtin.map(|(_, provider)| provider.name()).or_else(|| closest(name, known));
        let meant = meant.map(|meant| format!("; did you mean {meant:?}?"));
        format!("{name:?} is no provider: {}{}", known.join(", "), meant.unwrap_or_default())
    })
}

fn read_options(mut section: Section<'_, '_>, surroundings: &Surroundings<'_>) -> ModelOptions {
    let defaults = ModelOptions::default();
    let word = |text: &str| printable(text, 100).map(str::to_owned);
    let options = ModelOptions {
        thinking: section.parsed("thinking_level", str::parse::<Thinking>),
        turn_detection: section
            .parsed("turn_detection", str::parse::<TurnDetection>)
            .unwrap_or(defaults.turn_detection),
        silence_duration_ms: section
            .count("silence_duration_ms", 100..=10_000)
            .unwrap_or(defaults.silence_duration_ms),
        prefix_padding_ms: section.count("prefix_padding_ms", 0..=5000),
        vad_threshold: section.number("vad_threshold", 0.0..=1.0).map(|threshold| threshold as f32),
        server_interrupts: section
            .boolean("server_interrupts")
            .unwrap_or(defaults.server_interrupts),
        transcription_model: section
            .parsed("transcription_model", word)
            .unwrap_or(defaults.transcription_model),
        api_version: section
            .parsed("api_version", |version| {
                let good =
                    version.starts_with('v') && version.chars().all(|c| c.is_ascii_alphanumeric());
                if good {
                    word(version)
                } else {
                    Err(format!("{version:?} is no version, as in \"v1beta\""))
                }
            })
            .unwrap_or(defaults.api_version),
        extra_ca: section
            .parsed("ca_file", |path| readable_file(surroundings.directory.join(path))),
    };
    section.finish(&[]);
    options
}

/// `path` if it is a file that is there.
pub(crate) fn readable_file(path: PathBuf) -> Result<PathBuf, String> {
    match std::fs::metadata(&path) {
        Ok(file) if file.is_file() => Ok(path),
        Ok(_) => Err(format!("{} is no file", path.display())),
        Err(error) => Err(format!("{} can't be read: {error}", path.display())),
    }
}

fn parse_base_url(url: &str) -> Result<String, String> {
    let url = printable(url, 500)?;
    let rest = ["wss://", "ws://", "https://", "http://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme));
    let host = rest.map(|rest| rest.split('/').next().unwrap_or(rest));
    match host {
        // Not repeated: a user part may hold a password.
        Some(host) if host.contains('@') => Err("must hold no user name or password".into()),
        Some(host) if !host.is_empty() && !url.contains(char::is_whitespace) => {
            Ok(url.trim_end_matches('/').to_owned())
        }
        _ => Err("must look like \"wss://models.example.org\" or \"ws://127.0.0.1:8080\"".into()),
    }
}

/// Whether a key sent to `url` crosses a network in the clear.
fn is_in_the_clear(url: &str) -> bool {
    let rest = url.strip_prefix("ws://").or_else(|| url.strip_prefix("http://"));
    let Some(host) = rest.and_then(|rest| rest.split('/').next()) else { return false };
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6),
        None => host.split(':').next().unwrap_or(host),
    };
    host != "localhost" && !host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_the_clear_where_no_tls_protects_it_on_a_network() {
        for (url, clear) in [
            ("wss://models.example.org", false),
            ("ws://models.example.org/v1", true),
            ("ws://127.0.0.1:8080", false),
            ("ws://localhost:8080", false),
            ("ws://[::1]:8080/x", false),
            ("http://10.0.0.7", true),
        ] {
            assert_eq!(parse_base_url(url).as_deref(), Ok(url));
            assert_eq!(is_in_the_clear(url), clear, "{url}");
        }
    }
}
