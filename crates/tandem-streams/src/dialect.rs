//! Which module, in which edition, is at the other end of a fork's websocket.

/// The edition of a FreeSWITCH module, which decides what may be said to it and how speech gets to the caller.
///
/// Nothing in the websocket handshake tells the editions apart, so each has a path of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// drachtio's `mod_audio_fork`: audio comes up only; speech is `playAudio` files, played by the event socket.
    AudioFork,
    /// jambonz' `mod_audio_fork`: raw binary audio back, marks and `killAudio`.
    AudioForkBidirectional,
    /// The community `mod_audio_stream`: speech is `streamAudio` files, played by the event socket.
    AudioStream,
    /// The two-way `mod_audio_stream`, with raw binary audio back.
    AudioStreamRaw,
    /// The two-way `mod_audio_stream`, with `streamAudio` messages that the module plays itself.
    AudioStreamBase64,
}

impl Dialect {
    /// Every dialect, in the order of the documentation.
    pub const ALL: [Self; 5] = [
        Self::AudioFork,
        Self::AudioForkBidirectional,
        Self::AudioStream,
        Self::AudioStreamRaw,
        Self::AudioStreamBase64,
    ];

    /// The path at which the listener takes this dialect, below its prefix: `/fork/jambonz`.
    pub const fn path(self) -> &'static str {
        match self {
            Self::AudioFork => "/fork/drachtio",
            Self::AudioForkBidirectional => "/fork/jambonz",
            Self::AudioStream => "/stream/file",
            Self::AudioStreamRaw => "/stream/raw",
            Self::AudioStreamBase64 => "/stream/base64",
        }
    }

    /// The dialect of a path below the listener's prefix; none of any other path.
    pub fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.path() == path)
    }

    /// How speech gets to the caller.
    pub const fn playback(self) -> Playback {
        match self {
            Self::AudioForkBidirectional | Self::AudioStreamRaw => Playback::Binary,
            Self::AudioStreamBase64 => Playback::Messages,
            Self::AudioFork | Self::AudioStream => Playback::Files,
        }
    }

    /// Whether it is an edition of `mod_audio_fork`, rather than of `mod_audio_stream`.
    pub const fn is_fork(self) -> bool {
        matches!(self, Self::AudioFork | Self::AudioForkBidirectional)
    }
}

/// How speech gets from Tandem to the caller's ear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Playback {
    /// As binary messages that the module plays.
    Binary,
    /// As base64 in text messages that the module plays.
    Messages,
    /// In files that the module writes and the switch plays, by order of the event socket: without that link nothing is heard.
    Files,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_has_a_path_of_its_own() {
        for dialect in Dialect::ALL {
            assert_eq!(Dialect::of_path(dialect.path()), Some(dialect));
        }
        for other in ["", "/", "/fork", "/fork/jambonz/", "/FORK/JAMBONZ", "fork/jambonz"] {
            assert_eq!(Dialect::of_path(other), None, "{other}");
        }
    }
}
