use opus::ErrorCode;

/// Why a payload was not decoded, or audio not encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The payload holds no audio of this codec: it is empty, cut short, or longer than a packet of it may be.
    #[error("{bytes} bytes are not a packet of {codec}")]
    Malformed {
        /// The codec's encoding name.
        codec: &'static str,
        /// The length of the payload.
        bytes: usize,
    },
    /// The codec has no packets of this many samples.
    #[error("{codec} has no packets of {samples} samples")]
    PacketTime {
        /// The codec's encoding name.
        codec: &'static str,
        /// Samples that were to be encoded.
        samples: usize,
    },
    /// libopus refused.
    #[error("libopus: {}", .0.description())]
    Opus(ErrorCode),
}

impl From<opus::Error> for CodecError {
    fn from(error: opus::Error) -> Self {
        Self::Opus(error.code())
    }
}
