//! What a configured model is: vendor, model name, key, options.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use secrecy::SecretString;
use tandem_call::Capabilities;

use crate::{gemini_live, openai_realtime};

/// The protocols spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// OpenAI Realtime, GA shape, and servers compatible with it.
    OpenAiRealtime,
    /// Gemini Live (BidiGenerateContent) of the Gemini Developer API.
    GeminiLive,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::OpenAiRealtime, Self::GeminiLive];

    /// The name used in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAiRealtime => "openai-realtime",
            Self::GeminiLive => "gemini-live",
        }
    }

    /// The model taken when none is named.
    pub const fn default_model(self) -> &'static str {
        match self {
            Self::OpenAiRealtime => "gpt-realtime-2.1",
            Self::GeminiLive => "gemini-3.8-live",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No provider of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown provider {0:?}: it is openai-realtime or gemini-live")]
pub struct UnknownProvider(pub String);

impl FromStr for Provider {
    type Err = UnknownProvider;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|provider| provider.name() == name)
            .ok_or_else(|| UnknownProvider(name.into()))
    }
}

/// How long a reasoning model may think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thinking {
    Minimal,
    Low,
    Medium,
    High,
}

impl FromStr for Thinking {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "minimal" => Ok(Self::Minimal),
            "low" => Ok(Self::Low),
            "medium" => Ok(Self::Medium),
            "high" => Ok(Self::High),
            other => {
                Err(format!("unknown thinking level {other:?}: it is minimal, low, medium or high"))
            }
        }
    }
}

/// How the caller's turns are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TurnDetection {
    /// By the vendor, by silence.
    #[default]
    Silence,
    /// By the vendor, by what was said (OpenAI's `semantic_vad`); a vendor without it uses silence.
    Semantic,
    /// By us: the call's own voice activity detector, which marks them for the vendor.
    Local,
}

impl FromStr for TurnDetection {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "silence" => Ok(Self::Silence),
            "semantic" => Ok(Self::Semantic),
            "local" => Ok(Self::Local),
            other => {
                Err(format!("unknown turn detection {other:?}: it is silence, semantic or local"))
            }
        }
    }
}

/// Options of a model; a vendor ignores what it has no word for.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelOptions {
    /// None: the vendor's default, or the least where the vendor demands one.
    pub thinking: Option<Thinking>,
    /// How turns are found.
    pub turn_detection: TurnDetection,
    /// Silence that ends the caller's turn.
    pub silence_duration_ms: u32,
    /// Speech before the start of a turn is believed; none = the vendor's default. With local turns, what the vendor
    /// gets of the time before one, about a second at most; none = 300.
    pub prefix_padding_ms: Option<u32>,
    /// 0.0 to 1.0, OpenAI only; none = the vendor's default.
    pub vad_threshold: Option<f32>,
    /// The server cuts its own answer when the caller speaks, whatever he says. When off, the call decides and tells it to
    /// (OpenAI only; with local turns the call always does).
    pub server_interrupts: bool,
    /// The model that writes down the caller's words (OpenAI only).
    pub transcription_model: String,
    /// Gemini's API version: `v1beta` or `v1alpha`.
    pub api_version: String,
    /// PEM file with certificates trusted beside the Mozilla roots.
    pub extra_ca: Option<PathBuf>,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self {
            thinking: None,
            turn_detection: TurnDetection::Silence,
            silence_duration_ms: 500,
            prefix_padding_ms: None,
            vad_threshold: None,
            server_interrupts: false,
            transcription_model: "gpt-transcribe".into(),
            api_version: "v1beta".into(),
            extra_ca: None,
        }
    }
}

/// One model as configured. The key is never printed.
#[derive(Debug, Clone)]
pub struct ModelSettings {
    /// Who speaks.
    pub provider: Provider,
    /// The vendor's model name.
    pub model: String,
    /// Another server than the vendor's: `ws://`, `wss://`, `http://` or `https://`, with or without the path.
    pub base_url: Option<String>,
    /// The vendor's key.
    pub api_key: SecretString,
    /// The rest.
    pub options: ModelOptions,
    /// From dialling to a configured session.
    pub handshake_timeout: Duration,
}

impl ModelSettings {
    /// The provider's default model at the vendor's own address, 5 s for the handshake.
    pub fn new(provider: Provider, api_key: SecretString) -> Self {
        Self {
            provider,
            model: provider.default_model().into(),
            base_url: None,
            api_key,
            options: ModelOptions::default(),
            handshake_timeout: Duration::from_secs(5),
        }
    }

    /// The vendor is told of the caller's turns.
    pub(crate) fn marks_turns(&self) -> bool {
        self.options.turn_detection == TurnDetection::Local
    }

    /// Where to connect: the configured server, or else the vendor's `endpoint`.
    pub(crate) fn base(&self, endpoint: &str) -> String {
        websocket_base(self.base_url.as_deref().unwrap_or(endpoint))
    }
}

/// What the configured model can do.
pub fn capabilities(settings: &ModelSettings) -> Capabilities {
    let vendors = match settings.provider {
        Provider::OpenAiRealtime => openai_realtime::CAPABILITIES,
        Provider::GeminiLive => gemini_live::CAPABILITIES,
    };
    Capabilities {
        detects_turns: !settings.marks_turns(),
        interrupts: match settings.provider {
            Provider::OpenAiRealtime => settings.options.server_interrupts,
            Provider::GeminiLive => true,
        },
        turn_pause: Duration::from_millis(settings.options.silence_duration_ms.into()),
        ..vendors
    }
}

/// `base` with a websocket scheme and without a trailing slash.
fn websocket_base(base: &str) -> String {
    let base = base.trim().trim_end_matches('/');
    match base.split_once("://") {
        Some(("http", rest)) => format!("ws://{rest}"),
        Some(("https", rest)) => format!("wss://{rest}"),
        Some(_) => base.to_owned(),
        None => format!("wss://{base}"),
    }
}

/// `text` as one value of a URL's query (RFC 3986 §2.3 unreserved characters stay).
pub(crate) fn query_value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_are_refused() {
        for provider in Provider::ALL {
            assert_eq!(provider.name().parse(), Ok(provider));
        }
        assert!("openai".parse::<Provider>().unwrap_err().to_string().contains("openai-realtime"));
        assert!("xhigh".parse::<Thinking>().is_err());
        assert_eq!("semantic".parse(), Ok(TurnDetection::Semantic));
        assert!("server".parse::<TurnDetection>().unwrap_err().contains("local"));
    }

    #[test]
    fn a_model_that_is_told_of_turns_says_so() {
        for provider in Provider::ALL {
            let mut settings = ModelSettings::new(provider, String::new().into());
            assert!(capabilities(&settings).detects_turns);
            settings.options.turn_detection = "local".parse().unwrap();
            settings.options.silence_duration_ms = 700;
            let able = capabilities(&settings);
            let pause = Duration::from_millis(700);
            assert_eq!((able.detects_turns, able.turn_pause), (false, pause), "{provider}");
        }
    }

    #[test]
    fn the_key_is_not_printed() {
        let settings = ModelSettings::new(Provider::GeminiLive, "very-secret".to_owned().into());
        assert!(!format!("{settings:?}").contains("very-secret"));
    }

    #[test]
    fn urls_are_made_of_what_people_write() {
        for (written, base) in [
            ("http://127.0.0.1:8080/", "ws://127.0.0.1:8080"),
            ("https://example.org/v1", "wss://example.org/v1"),
            ("ws://[::1]:9", "ws://[::1]:9"),
            ("example.org", "wss://example.org"),
        ] {
            assert_eq!(websocket_base(written), base, "{written}");
        }
        assert_eq!(query_value("gpt-realtime 2/ü"), "gpt-realtime%202%2F%C3%BC");
    }
}
