//! Payloads of every codec as anybody may send them, and gaps anywhere between them.

use tandem_media::{Codec, ComfortNoise, Concealer, Decoder, Encoder, OpusParams, SampleRate};

const RATES: [SampleRate; 4] =
    [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz24000, SampleRate::Hz48000];

/// Any bytes are G.722, in packets of any length.
pub fn g722(bytes: &[u8]) {
    decode(Codec::G722, bytes);
}

/// Any packets of Opus are decoded or refused, at the rate that the first byte chooses, and the decoder goes on.
pub fn opus(bytes: &[u8]) {
    let Some((&choice, packets)) = bytes.split_first() else { return };
    decode(Codec::Opus(rate(choice)), packets);
}

/// Any packets of L16 are decoded or refused.
pub fn l16(bytes: &[u8]) {
    let Some((&choice, packets)) = bytes.split_first() else { return };
    decode(Codec::L16(rate(choice)), packets);
}

/// Any sound is encoded at the rate that the first byte chooses, as any peer wants it, and decodes to as many samples.
pub fn opus_encoder(bytes: &[u8]) {
    let [choice, bitrate, loss, complexity, sound @ ..] = bytes else { return };
    let codec = Codec::Opus(rate(*choice));
    let params = OpusParams {
        max_bitrate: (*bitrate > 0).then_some(u32::from(*bitrate) * 500),
        fec: choice & 4 != 0,
        dtx: choice & 8 != 0,
        cbr: choice & 16 != 0,
    };
    let mut encoder = Encoder::new(codec, &params).expect("there is memory");
    let mut decoder = Decoder::new(codec).expect("there is memory");
    encoder.set_loss(f32::from(*loss) / 255.0);
    encoder.set_complexity(*complexity);
    let mut sound: Vec<i16> = sound.iter().map(|&byte| (i16::from(byte) - 128) * 256).collect();
    let packet = codec.rate().hz() / 100 * [1, 2, 4, 6][usize::from(choice >> 5 & 3)];
    sound.resize(sound.len().next_multiple_of(packet), 0);
    let (mut payload, mut pcm) = (Vec::new(), Vec::new());
    for sound in sound.chunks_exact(packet) {
        payload.clear();
        encoder.encode(sound, &mut payload).expect("a packet time of Opus");
        assert!(payload.len() <= 1_200);
        if payload.is_empty() {
            assert!(params.dtx);
        } else {
            decoder.decode(&payload, &mut pcm).expect("what we sent can be heard");
            assert_eq!(pcm.len(), packet);
        }
    }
}

/// Comfort noise of any payload fills any number of samples.
pub fn comfort_noise(bytes: &[u8]) {
    let Some((&choice, mut rest)) = bytes.split_first() else { return };
    let mut noise = ComfortNoise::new(rate(choice), u32::from(choice));
    let mut pcm = [0; 512];
    while let Some((&length, after)) = rest.split_first() {
        let (payload, later) = after.split_at(after.len().min(usize::from(length % 64)));
        rest = later;
        noise.set(payload);
        noise.fill(&mut pcm[..usize::from(length) * 2]);
    }
}

/// Gaps of any length, with anything or nothing known behind them, are filled.
pub fn concealer(bytes: &[u8]) {
    let Some((&choice, mut rest)) = bytes.split_first() else { return };
    let mut concealer = Concealer::new(rate(choice));
    let mut gap = [0; 4 * 1_024];
    while let Some((&what, after)) = rest.split_first() {
        let (part, later) = after.split_at(after.len().min(usize::from(what)));
        rest = later;
        let pcm: Vec<i16> = part.iter().map(|&byte| (i16::from(byte) - 128) * 256).collect();
        let gap = &mut gap[..usize::from(what) * 16];
        match what % 4 {
            0 => concealer.conceal_between(&pcm, gap),
            1 => concealer.conceal_forward(gap),
            _ => concealer.good(&pcm),
        }
    }
}

const fn rate(choice: u8) -> SampleRate {
    RATES[choice as usize % RATES.len()]
}

/// Each packet comes after a byte that says what becomes of it and one for its length.
fn decode(codec: Codec, mut packets: &[u8]) {
    let mut decoder = Decoder::new(codec).expect("there is memory");
    let mut pcm = Vec::new();
    while let [what, length, after @ ..] = packets {
        let (payload, later) = after.split_at(after.len().min(usize::from(*length)));
        packets = later;
        let samples = decoder.samples_in(payload);
        match what % 8 {
            0 => {
                let lost = usize::from(*length) * 40 + usize::from(*what);
                if decoder.conceal(Some(payload), lost, &mut pcm) {
                    assert_eq!(pcm.len(), lost);
                }
            }
            1 => decoder.reset(),
            _ => match decoder.decode(payload, &mut pcm) {
                Ok(()) => assert_eq!(Some(pcm.len()), samples),
                Err(_) => assert!(pcm.is_empty()),
            },
        }
    }
}
