//! Opus by way of libopus (RFC 6716): mono at the rate asked for, whatever the peer sends.

mod decoder;
mod encoder;

pub(crate) use decoder::{OpusDecoder, is_dtx, samples_in};
pub(crate) use encoder::OpusEncoder;
