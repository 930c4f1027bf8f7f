//! How channels are forked: by which module, to which address, with what said of them.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use secrecy::SecretString;
use serde_json::{Map, Value};
use tandem_media::SampleRate;
use tandem_pbx::{
    ChannelUuid, CommandError, EventHeaders, Extension, ForkModule, ForkPlan, ForkUrl, Metadata,
    Mix, VariableName, VariableValue, Word,
};
use tandem_streams::{Dialect, StreamShape, sign_token};

use super::sidecar::TOKEN_LIFE;
use crate::config::FreeswitchConfig;

/// The name of a fork of ours on its channel, so that others may have theirs beside it.
pub(crate) const FORK_NAME: &str = "tandem";

/// How forks are started.
pub(crate) struct ForkSettings {
    dialect: Dialect,
    /// `ws://host:port/prefix`.
    pub(super) base: String,
    signing: SecretString,
    rate: Option<SampleRate>,
    variables: Vec<String>,
    pub(super) fallback: Option<Extension>,
    pub(super) stream_clear: Option<String>,
}

impl ForkSettings {
    /// Those of `config`; `port` is the one the listener got where the configuration left it open.
    pub(crate) fn new(config: &FreeswitchConfig, port: Option<u16>, signing: SecretString) -> Self {
        let url = match (config.url.strip_suffix(":0"), port) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            _ => config.url.clone(),
        };
        Self {
            dialect: config.module,
            base: format!("{url}{}", config.prefix),
            signing,
            rate: config.rate,
            variables: config.variables.clone(),
            fallback: config.fallback.as_deref().and_then(extension),
            stream_clear: config.stream_clear.clone(),
        }
    }

    /// The shape of a fork of a channel whose codec runs at `codec`.
    pub(super) fn shape(&self, codec: SampleRate) -> StreamShape {
        let rate = self.rate.unwrap_or(match codec {
            SampleRate::Hz8000 => SampleRate::Hz8000,
            _ => SampleRate::Hz16000,
        });
        StreamShape {
            dialect: self.dialect,
            rate,
            channels: tandem_streams::Channels::Mono,
            back: rate,
            codec,
        }
    }

    pub(super) fn module(&self) -> ForkModule {
        module_of(self.dialect)
    }

    /// The address to which the channel `uuid` is forked, good for that channel only.
    fn url(&self, uuid: &ChannelUuid, shape: &StreamShape) -> Result<ForkUrl, CommandError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let token = sign_token(&self.signing, uuid.as_str(), (now + TOKEN_LIFE).as_secs());
        ForkUrl::new(&format!(
            "{}{}?call={uuid}&rate={}&back={}&codec_rate={}&token={token}",
            self.base,
            self.dialect.path(),
            shape.rate.hz(),
            shape.back.hz(),
            shape.codec.hz(),
        ))
    }

    /// The plan by which the channel `uuid` is forked.
    pub(crate) fn plan(
        &self,
        uuid: &ChannelUuid,
        shape: &StreamShape,
    ) -> Result<ForkPlan, CommandError> {
        let metadata = Map::from_iter([("uuid".to_owned(), Value::from(uuid.as_str()))]);
        let bidirectional = self.dialect == Dialect::AudioForkBidirectional;
        Ok(ForkPlan {
            module: self.module(),
            bug: Some(Word::new(FORK_NAME)?),
            url: self.url(uuid, shape)?,
            mix: Mix::Mono,
            rate: shape.rate,
            metadata: Some(Metadata::new(&metadata)?),
            back: bidirectional.then_some(shape.back),
            variables: self.module_variables(shape)?,
        })
    }

    /// What the module reads from the channel when it starts.
    fn module_variables(
        &self,
        shape: &StreamShape,
    ) -> Result<Vec<(VariableName, VariableValue)>, CommandError> {
        let rate = shape.back.hz().to_string();
        let named: &[(&str, &str)] = match self.dialect {
            Dialect::AudioFork | Dialect::AudioForkBidirectional => &[],
            // Without these two the module reads numbers that nobody set.
            Dialect::AudioStream => {
                &[("STREAM_MESSAGE_DEFLATE", "true"), ("STREAM_HEART_BEAT", "0")]
            }
            Dialect::AudioStreamRaw => &[
                ("STREAM_MESSAGE_DEFLATE", "true"),
                ("STREAM_HEART_BEAT", "0"),
                ("STREAM_PLAYBACK", "true"),
                ("STREAM_SAMPLE_RATE", &rate),
            ],
            Dialect::AudioStreamBase64 => &[
                ("STREAM_MESSAGE_DEFLATE", "true"),
                ("STREAM_HEART_BEAT", "0"),
                ("STREAM_PLAYBACK", "true"),
            ],
        };
        named
            .iter()
            .map(|(name, value)| Ok((VariableName::new(name)?, VariableValue::new(value)?)))
            .collect()
    }

    /// What of a channel's variables becomes the call's: SIP headers under their own names.
    pub(super) fn chosen(&self, headers: &EventHeaders) -> BTreeMap<String, String> {
        let wanted = |name: &str| {
            self.variables.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(stem) => name.starts_with(stem),
                None => name == pattern,
            })
        };
        headers
            .variables()
            .filter(|(name, _)| wanted(name))
            .take(MOST_VARIABLES)
            .map(|(name, value)| {
                let name = name.strip_prefix("sip_h_").unwrap_or(name);
                let end = value.floor_char_boundary(LONGEST_VALUE);
                (name.to_owned(), value[..end].to_owned())
            })
            .collect()
    }
}

/// `2000 XML default`, of which the last two may be missing.
fn extension(text: &str) -> Option<Extension> {
    let mut words = text.split_whitespace().map(Word::new);
    Some(Extension {
        number: words.next()?.ok()?,
        dialplan: words.next().transpose().ok()?,
        context: words.next().transpose().ok()?,
    })
}

/// Variables of a channel that a call takes, and the bytes of each.
const MOST_VARIABLES: usize = 64;
const LONGEST_VALUE: usize = 1_024;

/// The module behind `dialect`.
pub(crate) const fn module_of(dialect: Dialect) -> ForkModule {
    match dialect {
        Dialect::AudioFork => ForkModule::AudioFork,
        Dialect::AudioForkBidirectional => ForkModule::AudioForkBidirectional,
        Dialect::AudioStream | Dialect::AudioStreamRaw | Dialect::AudioStreamBase64 => {
            ForkModule::AudioStream
        }
    }
}
