//! What flows over a fork's websocket: rates, channels, and whose ears they are.

use tandem_media::SampleRate;

use crate::Dialect;

/// What the audio that comes up holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channels {
    /// The caller.
    Mono,
    /// The caller and what the caller hears, added up.
    Mixed,
    /// The caller left, what the caller hears right, sample by sample.
    Stereo,
}

impl Channels {
    /// Samples that lie beside each other for one instant.
    pub const fn count(self) -> usize {
        match self {
            Self::Mono | Self::Mixed => 1,
            Self::Stereo => 2,
        }
    }

    /// By the word the modules use.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "mono" => Some(Self::Mono),
            "mixed" => Some(Self::Mixed),
            "stereo" => Some(Self::Stereo),
            _ => None,
        }
    }
}

/// What one websocket speaks, as the URL that the module was given says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamShape {
    /// The module's edition.
    pub dialect: Dialect,
    /// Samples per second of what comes up.
    pub rate: SampleRate,
    /// What comes up.
    pub channels: Channels,
    /// Samples per second of what goes back.
    pub back: SampleRate,
    /// Samples per second of the call's codec at the switch: the module's buffers are counted in its samples.
    pub codec: SampleRate,
}

/// Why a URL does not say what flows over its websocket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// A rate that is none of ours.
    #[error("{key}={value:?} is no sample rate Tandem carries: 8000, 16000, 24000 or 48000 Hz")]
    Rate {
        /// The key of the query.
        key: &'static str,
        /// What it says, cut to 32 characters.
        value: String,
    },
    /// Another word than the modules have.
    #[error("mix={0:?} is none of mono, mixed and stereo")]
    Mix(String),
}

impl StreamShape {
    /// The shape that the query of a URL asks for.
    ///
    /// `rate` and `back` are in Hz or as `16k`, `mix` is `mono`, `mixed` or `stereo`, `codec_rate` is in Hz; absent they are
    /// 16000, as `rate`, `mono` and 8000. Other keys belong to others. Where a key comes twice the last one counts. A
    /// `codec_rate` that is none of ours counts as absent: it helps, and no audio has it.
    pub fn from_query(dialect: Dialect, pairs: &[(String, String)]) -> Result<Self, ShapeError> {
        let (mut rate, mut back, mut codec) = (SampleRate::Hz16000, None, SampleRate::Hz8000);
        let mut channels = Channels::Mono;
        for (key, value) in pairs {
            match key.as_str() {
                "rate" => rate = parse_rate("rate", value)?,
                "back" => back = Some(parse_rate("back", value)?),
                "codec_rate" => codec = parse_rate("codec_rate", value).unwrap_or(codec),
                "mix" => {
                    channels = Channels::from_name(value)
                        .ok_or_else(|| ShapeError::Mix(value.chars().take(32).collect()))?;
                }
                _ => {}
            }
        }
        Ok(Self { dialect, rate, channels, back: back.unwrap_or(rate), codec })
    }
}

fn parse_rate(key: &'static str, value: &str) -> Result<SampleRate, ShapeError> {
    let hz = match value.strip_suffix('k') {
        Some(thousands) => thousands.parse::<usize>().ok().and_then(|k| k.checked_mul(1000)),
        None => value.parse().ok(),
    };
    hz.and_then(SampleRate::from_hz)
        .ok_or_else(|| ShapeError::Rate { key, value: value.chars().take(32).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_flows() {
        let shape = |rate, channels, back, codec| StreamShape {
            dialect: Dialect::AudioForkBidirectional,
            rate,
            channels,
            back,
            codec,
        };
        use SampleRate::{Hz8000, Hz16000, Hz24000, Hz48000};
        for (query, expected) in [
            ("", shape(Hz16000, Channels::Mono, Hz16000, Hz8000)),
            ("rate=8000", shape(Hz8000, Channels::Mono, Hz8000, Hz8000)),
            (
                "rate=8k&back=24k&mix=stereo&codec_rate=16000",
                shape(Hz8000, Channels::Stereo, Hz24000, Hz16000),
            ),
            ("codec_rate=", shape(Hz16000, Channels::Mono, Hz16000, Hz8000)),
            ("rate=8k&codec_rate=12000", shape(Hz8000, Channels::Mono, Hz8000, Hz8000)),
            ("codec_rate=48000&codec_rate=32000", shape(Hz16000, Channels::Mono, Hz16000, Hz48000)),
            (
                "call=x&rate=8000&rate=48000&mix=mixed",
                shape(Hz48000, Channels::Mixed, Hz48000, Hz8000),
            ),
        ] {
            let read = StreamShape::from_query(Dialect::AudioForkBidirectional, &pairs(query));
            assert_eq!(read, Ok(expected), "{query}");
        }
        for query in
            ["rate=32000", "rate=64k", "rate=99999999999999999999k", "back=11025", "mix=left"]
        {
            let error = StreamShape::from_query(Dialect::AudioFork, &pairs(query))
                .expect_err(query)
                .to_string();
            let (key, value) = query.split_once('=').expect("a pair");
            assert!(error.contains(key) && error.contains(value), "{error}");
        }
    }

    fn pairs(query: &str) -> Vec<(String, String)> {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.into(), value.into())).collect()
    }
}
