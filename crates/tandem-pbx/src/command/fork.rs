//! Words for the modules that fork a channel's audio to a websocket.

use tandem_media::SampleRate;

use super::words::{ChannelUuid, CommandError, Text, check};

/// Which module forks the audio, and with it which commands and events it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ForkModule {
    /// `mod_audio_fork`, drachtio's edition: audio goes up only.
    AudioFork,
    /// `mod_audio_fork`, jambonz's edition: audio both ways.
    AudioForkBidirectional,
    /// `mod_audio_stream`.
    AudioStream,
}

impl ForkModule {
    /// Name of its API command.
    pub const fn api(self) -> &'static str {
        match self {
            Self::AudioFork | Self::AudioForkBidirectional => "uuid_audio_fork",
            Self::AudioStream => "uuid_audio_stream",
        }
    }

    /// Name of the module in the switch.
    pub const fn module(self) -> &'static str {
        match self {
            Self::AudioFork | Self::AudioForkBidirectional => "mod_audio_fork",
            Self::AudioStream => "mod_audio_stream",
        }
    }

    /// The name a fork has when none is given.
    pub const fn default_bug(self) -> &'static str {
        match self {
            Self::AudioFork | Self::AudioForkBidirectional => "audio_fork",
            Self::AudioStream => "audio_stream",
        }
    }
}

/// What of the channel is forked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Mix {
    /// The far end of this channel only.
    #[default]
    Mono,
    /// Both directions added up.
    Mixed,
    /// The far end on the left, what it hears on the right.
    Stereo,
}

impl Mix {
    /// As the modules write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mono => "mono",
            Self::Mixed => "mixed",
            Self::Stereo => "stereo",
        }
    }
}

macro_rules! checked {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name(Box<str>);

        impl $name {
            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

checked! {
    /// Where a fork connects to. It may hold a token, so it does not print.
    ForkUrl
}

impl ForkUrl {
    /// The address `url`: `ws://host[:port]/path?query` or `wss://…`, up to 2048 printable ASCII characters without
    /// blanks, quotes, backslashes and `|`; a query needs a path in front of it and there is no IPv6 host, for the
    /// modules read neither.
    pub fn new(url: &str) -> Result<Self, CommandError> {
        const WHAT: &str = "the fork's URL";
        check(WHAT, url, 2048, |c| {
            c.is_ascii_graphic() && !matches!(c, '\'' | '"' | '\\' | '|' | '^' | '#')
        })?;
        let rest = url.strip_prefix("ws://").or_else(|| url.strip_prefix("wss://"));
        let rest = rest.ok_or(CommandError::Form {
            what: WHAT,
            problem: "begins neither with ws:// nor with wss://",
        })?;
        let host = rest.split('/').next().unwrap_or_default();
        if host.is_empty() || host.contains(['@', '[', ']']) {
            return Err(CommandError::Form {
                what: WHAT,
                problem: "has a host the modules can't read",
            });
        }
        if host.contains('?') {
            return Err(CommandError::Form {
                what: WHAT,
                problem: "has a query without a \"/\" before it",
            });
        }
        Ok(Self(url.into()))
    }
}

impl std::fmt::Debug for ForkUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.0.split('?').next().unwrap_or_default();
        write!(f, "{shown:?}")
    }
}

checked! {
    /// The first text of a fork: a JSON object.
    Metadata
}

impl Metadata {
    /// Longest metadata the modules keep.
    pub const LIMIT: usize = 8191;

    /// The JSON object `json`, written compactly and so that the switch's splitting leaves it alone: quotes within
    /// strings, backslashes, `|`, `'` and control characters become `\u00XX`.
    pub fn new(json: &serde_json::Map<String, serde_json::Value>) -> Result<Self, CommandError> {
        const WHAT: &str = "the fork's metadata";
        let compact = serde_json::to_string(json)
            .map_err(|_| CommandError::Form { what: WHAT, problem: "is no JSON" })?;
        let mut safe = String::with_capacity(compact.len());
        let mut chars = compact.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some('n') => safe.push_str("\\u000a"),
                    Some('r') => safe.push_str("\\u000d"),
                    Some('t') => safe.push_str("\\u0009"),
                    Some('b') => safe.push_str("\\u0008"),
                    Some('f') => safe.push_str("\\u000c"),
                    Some('u') => safe.push_str("\\u"),
                    Some(c) => safe.push_str(&format!("\\u{:04x}", u32::from(c))),
                    None => {}
                },
                '\'' | '|' | '\u{7f}' => safe.push_str(&format!("\\u{:04x}", u32::from(c))),
                c => safe.push(c),
            }
        }
        if safe.len() > Self::LIMIT {
            return Err(CommandError::TooLong {
                what: WHAT,
                length: safe.len(),
                limit: Self::LIMIT,
            });
        }
        Ok(Self(safe.into()))
    }
}

impl std::fmt::Debug for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Metadata({} bytes)", self.0.len())
    }
}

/// One fork of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkName {
    /// The channel.
    pub uuid: ChannelUuid,
    /// The module that forks it.
    pub module: ForkModule,
    /// The fork's name; `mod_audio_stream` has one fork per channel and no names, and ignores it.
    pub bug: Option<super::words::Word>,
}

/// Order to fork a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct ForkStart {
    /// The channel and the fork's name.
    pub fork: ForkName,
    /// Where to.
    pub url: ForkUrl,
    /// What of it.
    pub mix: Mix,
    /// Rate of the audio sent.
    pub rate: SampleRate,
    /// The first text.
    pub metadata: Option<Metadata>,
    /// Rate of raw audio played back to the channel; for [`ForkModule::AudioForkBidirectional`] only, where `None`
    /// means that nothing but files is played back.
    pub back: Option<SampleRate>,
}

impl ForkStart {
    /// The arguments in the `^^|` form, which takes every argument as it is.
    pub(super) fn arguments(&self, out: &mut String) {
        let Self { fork, url, mix, rate, metadata, back } = self;
        let metadata = metadata.as_ref().map(|m| format!("'{}'", m.as_str())).unwrap_or_default();
        let (uuid, url, mix, rate) = (&fork.uuid, url.as_str(), mix.name(), rate.hz());
        let start = format!("^^|{uuid}|start|{url}|{mix}|{rate}");
        out.push_str(&start);
        let bug = fork.bug.as_ref().map_or(fork.module.default_bug(), |bug| bug.as_str());
        match fork.module {
            ForkModule::AudioFork => {
                out.push_str(&format!("|{bug}"));
                if !metadata.is_empty() {
                    out.push_str(&format!("|{metadata}"));
                }
            }
            ForkModule::AudioForkBidirectional => match back {
                Some(back) => out.push_str(&format!("|{bug}|{metadata}|true|true|{}", back.hz())),
                // Playing back files is what `true false` stands for.
                None => out.push_str(&format!("|{bug}|{metadata}|true|false|{rate}")),
            },
            ForkModule::AudioStream => {
                if !metadata.is_empty() {
                    out.push_str(&format!("|{metadata}"));
                }
            }
        }
    }
}

/// The arguments of the other fork commands: `<uuid> <verb> [bug] [text]`.
///
/// A text goes in the `^^|` form too; one that is JSON passes untouched when it was written without backslashes.
pub(super) fn verb(fork: &ForkName, verb: &str, text: Option<&Text>, out: &mut String) {
    let named = fork.bug.as_ref().filter(|_| fork.module != ForkModule::AudioStream);
    match text {
        None => {
            out.push_str(&format!("{} {verb}", fork.uuid));
            if let Some(bug) = named {
                out.push_str(&format!(" {bug}"));
            }
        }
        Some(text) => {
            out.push_str(&format!("^^|{}|{verb}|", fork.uuid));
            if let Some(bug) = named {
                out.push_str(&format!("{bug}|"));
            }
            super::line::escape(text.as_str(), '|', out);
        }
    }
}
