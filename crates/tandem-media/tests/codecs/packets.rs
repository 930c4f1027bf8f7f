//! What holds for packets of any codec.

use tandem_media::{Codec, CodecError, Decoder, Ptime, SampleRate};

use crate::sound::{codecs, encoder, heard, packets, power, signal_to_noise, voice};

#[test]
fn every_packet_time_comes_back_in_full() {
    for codec in codecs() {
        for millis in [10, 20, 30, 40, 50, 60] {
            let ptime = codec.nearest_ptime(Ptime::nearest(millis));
            let frame = codec.rate().samples_per(ptime);
            let sound = voice(codec.rate(), 1_200);
            let (mut encoder, mut decoder) = (encoder(codec), Decoder::new(codec).unwrap());
            let (mut pcm, mut all) = (vec![7; 3], Vec::new());
            for part in sound.chunks_exact(frame) {
                let mut payload = b"head".to_vec();
                encoder.encode(part, &mut payload).unwrap();
                let payload = payload.strip_prefix(b"head").unwrap();
                assert_eq!(decoder.samples_in(payload), Some(frame), "{codec:?} {millis} ms");
                decoder.decode(payload, &mut pcm).unwrap();
                assert_eq!(pcm.len(), frame, "{codec:?} {millis} ms");
                all.extend(&pcm);
            }
            let loudness = 10.0 * (power(&all) / power(&sound)).log10();
            assert!(loudness.abs() < 2.0, "{codec:?} {millis} ms: {loudness} dB");
        }
    }
}

#[test]
fn speech_is_close_to_what_was_said() {
    for (codec, delay, least) in [
        (Codec::PCMU, 0, 30.0),
        (Codec::PCMA, 0, 30.0),
        // Analysis and synthesis filter: 22 samples.
        (Codec::G722, 22, 20.0),
        (Codec::L16(SampleRate::Hz24000), 0, f64::INFINITY),
    ] {
        let sound = voice(codec.rate(), 4_000);
        let packets = packets(&mut encoder(codec), &sound);
        let heard = heard(&mut Decoder::new(codec).unwrap(), &packets);
        if least == f64::INFINITY {
            assert_eq!(heard, sound);
        } else {
            let ratio = signal_to_noise(&sound, &heard, delay);
            assert!(ratio >= least, "{codec:?}: {ratio:.1} dB");
        }
    }
}

#[test]
fn a_reset_stream_is_like_a_new_one() {
    for codec in codecs() {
        let sound = voice(codec.rate(), 300);
        let (mut encoder, mut decoder) = (encoder(codec), Decoder::new(codec).unwrap());
        let first = packets(&mut encoder, &sound);
        let first_heard = heard(&mut decoder, &first);
        encoder.reset();
        decoder.reset();
        let again = packets(&mut encoder, &sound);
        assert_eq!(again, first, "{codec:?}");
        assert_eq!(heard(&mut decoder, &again), first_heard, "{codec:?}");
        assert_eq!((encoder.codec(), decoder.codec()), (codec, codec));
    }
}

#[test]
fn what_no_packet_can_be_is_refused() {
    let silence = |samples| vec![0; samples];
    for (codec, samples) in [
        (Codec::G722, 161),
        (Codec::Opus(SampleRate::Hz8000), 0),
        (Codec::Opus(SampleRate::Hz8000), 159),
        (Codec::Opus(SampleRate::Hz16000), 480),
        (Codec::Opus(SampleRate::Hz48000), 2_400),
        (Codec::Opus(SampleRate::Hz48000), 48_000),
    ] {
        let mut payload = vec![1, 2];
        assert_eq!(
            encoder(codec).encode(&silence(samples), &mut payload),
            Err(CodecError::PacketTime { codec: codec.name(), samples })
        );
        assert_eq!(payload, [1, 2]);
    }
    for codec in codecs() {
        let (mut decoder, mut pcm) = (Decoder::new(codec).unwrap(), vec![1]);
        let malformed = Err(CodecError::Malformed { codec: codec.name(), bytes: 0 });
        assert_eq!((decoder.samples_in(&[]), decoder.decode(&[], &mut pcm)), (None, malformed));
        assert!(pcm.is_empty());
    }
    let mut decoder = Decoder::new(Codec::L16(SampleRate::Hz8000)).unwrap();
    let malformed = Err(CodecError::Malformed { codec: "L16", bytes: 3 });
    assert_eq!(decoder.decode(&[1, 2, 3], &mut Vec::new()), malformed);
}

#[test]
fn l16_is_big_endian() {
    let mut payload = Vec::new();
    encoder(Codec::L16(SampleRate::Hz8000)).encode(&[0x1234, -2], &mut payload).unwrap();
    assert_eq!(payload, [0x12, 0x34, 0xFF, 0xFE]);
}

#[test]
fn only_opus_conceals_by_itself() {
    for codec in codecs() {
        let mut decoder = Decoder::new(codec).unwrap();
        let mut pcm = vec![3; 5];
        let conceals = decoder.conceal(None, 240, &mut pcm);
        assert_eq!(conceals, matches!(codec, Codec::Opus(_)), "{codec:?}");
        assert_eq!(pcm.len(), if conceals { 240 } else { 0 }, "{codec:?}");
    }
}
