//! L16: 16-bit samples, most significant byte first (RFC 3551 §4.5.11).

/// Samples in `payload`; none where it ends amid one.
pub(crate) fn samples_in(payload: &[u8]) -> Option<usize> {
    payload.len().is_multiple_of(2).then_some(payload.len() / 2)
}

/// Fills `pcm` from as many pairs of bytes.
pub(crate) fn decode(payload: &[u8], pcm: &mut [i16]) {
    for (sample, bytes) in pcm.iter_mut().zip(payload.as_chunks().0) {
        *sample = i16::from_be_bytes(*bytes);
    }
}

/// Appends two bytes for each sample.
pub(crate) fn encode(pcm: &[i16], payload: &mut Vec<u8>) {
    let start = payload.len();
    payload.resize(start + 2 * pcm.len(), 0);
    for (bytes, sample) in payload[start..].as_chunks_mut().0.iter_mut().zip(pcm) {
        *bytes = sample.to_be_bytes();
    }
}
