//! RIFF files of PCM (WAVE_FORMAT_PCM, 16 bits).

use tandem_media::SampleRate;

use crate::Channels;

/// Bytes before the samples.
pub(crate) const HEADER: usize = 44;

/// The most bytes of samples: the sizes in the header have 32 bits.
pub(crate) const MOST: u64 = u32::MAX as u64 - HEADER as u64 - 64;

/// What a header says of a file whose length is not known.
const UNKNOWN: u32 = u32::MAX;

/// The header of a file with `bytes` of samples; none = nobody knows how many.
pub(crate) fn header(rate: SampleRate, channels: Channels, bytes: Option<u64>) -> [u8; HEADER] {
    let channels = channels.count() as u32;
    let rate = rate.hz() as u32;
    let bytes = bytes.map_or(UNKNOWN, |bytes| u32::try_from(bytes).unwrap_or(UNKNOWN));
    let fields: [&[u8]; 13] = [
        b"RIFF",
        &bytes.saturating_add(HEADER as u32 - 8).to_le_bytes(),
        b"WAVE",
        b"fmt ",
        &16_u32.to_le_bytes(),
        &1_u16.to_le_bytes(),
        &(channels as u16).to_le_bytes(),
        &rate.to_le_bytes(),
        &(rate * channels * 2).to_le_bytes(),
        &(channels as u16 * 2).to_le_bytes(),
        &16_u16.to_le_bytes(),
        b"data",
        &bytes.to_le_bytes(),
    ];
    let mut header = [0; HEADER];
    let mut rest = header.as_mut_slice();
    for field in fields {
        let (to, later) = rest.split_at_mut(field.len());
        to.copy_from_slice(field);
        rest = later;
    }
    header
}

/// What a header of ours says: rate, channels, bytes of samples if they are known.
pub(crate) fn read_header(header: &[u8]) -> Option<(SampleRate, Channels, Option<u64>)> {
    let number = |at: usize| {
        let bytes = header.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes))
    };
    let is_ours = header.starts_with(b"RIFF")
        && header.get(8..16) == Some(b"WAVEfmt ")
        && header.get(36..40) == Some(b"data");
    let rate = SampleRate::from_hz(number(24)? as usize)?;
    let channels = match header.get(22..24)? {
        [1, 0] => Channels::Mono,
        [2, 0] => Channels::Stereo,
        _ => return None,
    };
    let bytes = Some(number(40)?).filter(|bytes| *bytes != UNKNOWN).map(u64::from);
    is_ours.then_some((rate, channels, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_back() {
        for (rate, channels, bytes) in [
            (SampleRate::Hz16000, Channels::Stereo, Some(64_000)),
            (SampleRate::Hz8000, Channels::Mono, Some(0)),
            (SampleRate::Hz48000, Channels::Stereo, None),
        ] {
            let header = header(rate, channels, bytes);
            assert_eq!(read_header(&header), Some((rate, channels, bytes)));
        }
        assert_eq!(&header(SampleRate::Hz8000, Channels::Mono, Some(2))[4..8], &[38, 0, 0, 0]);
        assert_eq!(read_header(b"RIFF"), None);
        assert_eq!(read_header(&[0; 100]), None);
    }
}
