//! Nothing from outside breaks a decoder.

use proptest::prelude::*;
use tandem_media::{Codec, Decoder};

use crate::sound::{codecs, encoder, packets, voice};

fn codec() -> impl Strategy<Value = Codec> {
    proptest::sample::select(codecs())
}

proptest! {
    #[test]
    fn any_payload_decodes_or_is_refused(
        codec in codec(),
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..20),
        lost in 0_usize..2_000,
    ) {
        let mut decoder = Decoder::new(codec).unwrap();
        let mut pcm = Vec::new();
        for payload in &payloads {
            let samples = decoder.samples_in(payload);
            match decoder.decode(payload, &mut pcm) {
                Ok(()) => prop_assert_eq!(Some(pcm.len()), samples),
                Err(_) => prop_assert!(pcm.is_empty()),
            }
            if decoder.conceal(Some(payload), lost, &mut pcm) {
                prop_assert_eq!(pcm.len(), lost);
            }
        }
        // And it goes on.
        let frame = packets(&mut encoder(codec), &voice(codec.rate(), 40));
        decoder.decode(&frame[0], &mut pcm).unwrap();
        prop_assert!(!pcm.is_empty());
    }

    #[test]
    fn any_sound_is_encoded_or_refused(
        codec in codec(),
        frames in 0_usize..7,
        more in 0_usize..3,
        samples in proptest::collection::vec(any::<i16>(), 1..500),
    ) {
        let length = frames * codec.rate().hz() / 100 + more;
        let pcm: Vec<i16> = samples.iter().copied().cycle().take(length).collect();
        let (mut encoder, mut payload) = (encoder(codec), vec![5]);
        let encoded = encoder.encode(&pcm, &mut payload);
        let fits = match codec {
            Codec::Opus(_) => matches!((frames, more), (1 | 2 | 4 | 6, 0)),
            Codec::G722 => length % 2 == 0,
            Codec::G711(_) | Codec::L16(_) => true,
        };
        prop_assert_eq!(encoded.is_ok(), fits);
        prop_assert_eq!(payload[0], 5);
        if fits && length > 0 {
            prop_assert_eq!(Decoder::new(codec).unwrap().samples_in(&payload[1..]), Some(length));
        } else {
            prop_assert_eq!(payload.len(), 1);
        }
    }
}
