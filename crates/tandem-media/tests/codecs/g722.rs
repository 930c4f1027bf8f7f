//! G.722 as ITU-T G.191 has it: the quality report compares more of it, by hashes.

use tandem_media::{Codec, Decoder};

use crate::sound::{encoder, voice};

/// The reference's codes of a square wave of full scale, 8 samples long each way, that begins from rest.
const SQUARE: [u8; 32] = [
    0x87, 0x20, 0x84, 0x20, 0x84, 0x20, 0xA0, 0xA0, 0x20, 0xBD, 0x04, 0x44, 0x84, 0x3A, 0xA0, 0xE0,
    0x20, 0x9E, 0x04, 0x44, 0x84, 0x37, 0xA0, 0xE1, 0x20, 0x99, 0x04, 0x45, 0x84, 0x32, 0xA0, 0xE2,
];

/// What the reference decodes them to.
const SQUARE_HEARD: [i16; 64] = [
    -1, 0, 0, -1, -1, 3, 1, -16, -4, 52, -2, -186, 9, 434, -41, -883, 76, 1_619, 174, -2_838,
    -1_906, 4_032, 11_624, 17_690, 20_824, 22_299, 24_683, 25_853, 20_420, 7_779, -7_177, -18_846,
    -23_482, -23_694, -25_383, -27_375, -22_059, -8_127, 8_067, 20_038, 24_921, 25_506, 26_982,
    28_245, 22_688, 8_625, -8_183, -21_043, -26_356, -27_475, -29_082, -30_068, -24_218, -9_487,
    8_986, 22_885, 27_067, 26_747, 28_572, 31_076, 26_206, 10_321, -9_803, -23_956,
];

#[test]
fn a_stream_begins_with_the_step_sizes_of_the_recommendation() {
    let square: Vec<i16> = (0..64).map(|n| if n / 8 % 2 == 0 { 32_767 } else { -32_768 }).collect();
    let mut codes = Vec::new();
    encoder(Codec::G722).encode(&square, &mut codes).unwrap();
    assert_eq!(codes, SQUARE);
    let mut pcm = Vec::new();
    Decoder::new(Codec::G722).unwrap().decode(&codes, &mut pcm).unwrap();
    assert_eq!(pcm, SQUARE_HEARD);
}

#[test]
fn where_a_stream_is_cut_into_packets_changes_nothing() {
    let sound = voice(Codec::G722.rate(), 500);
    let mut whole = Vec::new();
    encoder(Codec::G722).encode(&sound, &mut whole).unwrap();
    let (mut whole_pcm, mut pcm) = (Vec::new(), Vec::new());
    Decoder::new(Codec::G722).unwrap().decode(&whole, &mut whole_pcm).unwrap();
    for bytes in [1, 2, 7, 79, 80, 81, 160, 333] {
        let (mut encoder, mut codes) = (encoder(Codec::G722), Vec::new());
        for part in sound.chunks(2 * bytes) {
            encoder.encode(part, &mut codes).unwrap();
        }
        assert_eq!(codes, whole, "{bytes}");
        let (mut decoder, mut heard) = (Decoder::new(Codec::G722).unwrap(), Vec::<i16>::new());
        for part in codes.chunks(bytes) {
            decoder.decode(part, &mut pcm).unwrap();
            heard.extend(&pcm);
        }
        assert_eq!(heard, whole_pcm, "{bytes}");
    }
}
