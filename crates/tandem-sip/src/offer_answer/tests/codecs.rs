//! Codecs beyond G.711 in offers and answers.

use proptest::prelude::*;
use tandem_media::{OpusParams, SampleRate};

use super::*;

const OPUS: Codec = Codec::Opus(SampleRate::Hz16000);
const L16: Codec = Codec::L16(SampleRate::Hz16000);
const ALL: &[Codec] = &[Codec::PCMU, Codec::PCMA, Codec::G722, OPUS, L16];

fn side(codecs: &[Codec], preference: CodecPreference) -> Negotiator {
    Negotiator::new(local(codecs), preference, 42, "198.51.100.7".parse().unwrap())
}

fn ours(codecs: &[Codec]) -> Negotiator {
    side(codecs, CodecPreference::Ours)
}

fn offer(formats: &str, attributes: &str) -> SessionDescription {
    sdp(&format!("c=IN IP4 198.51.100.7\nm=audio 24680 RTP/AVP {formats}\n{attributes}"))
}

/// As FreeSWITCH writes it.
const FREESWITCH: &str = "a=rtpmap:102 opus/48000/2
a=fmtp:102 useinbandfec=1; maxaveragebitrate=30000; maxplaybackrate=48000; ptime=20; minptime=10; maxptime=40
a=rtpmap:9 G722/8000
a=rtpmap:103 telephone-event/48000
a=fmtp:103 0-16
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-16
a=rtpmap:13 CN/8000
a=ptime:20
";

#[test]
fn each_codec_is_answered_with_what_belongs_to_it() {
    for (codec, formats, lines) in [
        (Codec::PCMA, "8 101 13", "a=rtpmap:8 PCMA/8000\r\n"),
        (
            Codec::G722,
            "9 101 13",
            "a=rtpmap:9 G722/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=rtpmap:13 CN/8000\r\na=ptime:20\r\n",
        ),
        (
            OPUS,
            "102 103",
            "a=rtpmap:102 opus/48000/2\r\na=fmtp:102 useinbandfec=1;minptime=10\r\na=rtpmap:103 telephone-event/48000\r\na=fmtp:103 0-16\r\na=ptime:20\r\n",
        ),
    ] {
        let (answer, params) =
            ours(&[codec]).answer(&offer("102 9 8 0 103 101 13", FREESWITCH)).unwrap();
        assert!(answer.contains(&format!("m=audio 40000 RTP/AVP {formats}\r\n")), "{answer}");
        assert!(answer.contains(lines), "{answer}");
        assert_eq!(params.codec, codec);
        assert_eq!(params.telephone_event, Some(if codec == OPUS { 103 } else { 101 }));
        assert_eq!(params.comfort_noise, (codec != OPUS).then_some(13));
        let opus = OpusParams { max_bitrate: Some(30_000), fec: true, dtx: false, cbr: false };
        assert_eq!(params.opus, if codec == OPUS { opus } else { OpusParams::DEFAULT });
    }
    let (answer, _) = ours(&[Codec::Opus(SampleRate::Hz48000)])
        .answer(&offer("102", "a=rtpmap:102 OPUS/48000\n"))
        .unwrap();
    assert!(
        answer.contains("a=rtpmap:102 opus/48000/2\r\na=fmtp:102 useinbandfec=1;minptime=10\r\n"),
        "{answer}"
    );
}

#[test]
fn linear_audio_at_its_rates_and_no_other() {
    for (hz, ptime, most) in
        [(8_000, 20, None), (16_000, 20, Some(40)), (24_000, 20, Some(20)), (48_000, 10, Some(10))]
    {
        let codec = Codec::L16(SampleRate::from_hz(hz).unwrap());
        let lines = format!(
            "a=rtpmap:97 L16/{hz}/1\na=rtpmap:98 CN/{hz}\na=rtpmap:99 telephone-event/{hz}\na=ptime:20\n"
        );
        let (answer, params) = ours(&[codec]).answer(&offer("97 99 98 13", &lines)).unwrap();
        assert!(
            answer.contains(&format!("RTP/AVP 97 99 98\r\na=rtpmap:97 L16/{hz}\r\n"))
                || hz == 8_000,
            "{answer}"
        );
        assert_eq!((params.codec, params.payload_type, params.ptime.millis()), (codec, 97, ptime));
        assert_eq!((params.telephone_event, params.comfort_noise), (Some(99), Some(98)));
        assert_eq!(answer.contains("maxptime"), most.is_some());
        assert!(
            most.is_none_or(|most| answer.contains(&format!("a=maxptime:{most}\r\n"))),
            "{answer}"
        );
    }
    let every: Vec<_> = [8_000, 16_000, 24_000, 48_000]
        .into_iter()
        .filter_map(SampleRate::from_hz)
        .map(Codec::L16)
        .collect();
    // 10 and 11 have 44.1 kHz, unless the peer says otherwise.
    for (formats, lines, taken) in [
        ("10 11", "", None),
        ("97", "a=rtpmap:97 L16/44100\n", None),
        ("97", "a=rtpmap:97 L16/16000/2\n", None),
        ("97", "a=rtpmap:97 L16/11025\n", None),
        ("11", "a=rtpmap:11 L16/8000\n", Some(11)),
    ] {
        let answered = ours(&every).answer(&offer(formats, lines));
        assert_eq!(
            answered.ok().map(|(_, params)| params.payload_type),
            taken,
            "{formats} {lines}"
        );
    }
}

#[test]
fn the_order_decides_and_the_session_stays() {
    let formats = "102 9 8 0 103 101 13";
    for (codecs, preference, codec) in [
        (&[Codec::G722, OPUS, Codec::PCMU][..], CodecPreference::Ours, Codec::G722),
        (&[Codec::PCMU, OPUS], CodecPreference::Ours, Codec::PCMU),
        (&[Codec::PCMU, Codec::G722, OPUS], CodecPreference::Theirs, OPUS),
        (&[L16, Codec::PCMA], CodecPreference::Ours, Codec::PCMA),
    ] {
        let mut side = side(codecs, preference);
        assert_eq!(side.answer(&offer(formats, FREESWITCH)).unwrap().1.codec, codec);
        for again in ["0 8 9 102 103 101", "9 102 0 8 101 103", formats] {
            assert_eq!(side.answer(&offer(again, FREESWITCH)).unwrap().1.codec, codec, "{again}");
        }
    }
    let mut side = ours(ALL);
    for (formats, codec) in [("102 103", OPUS), ("9 101", Codec::G722), ("102 103 0", OPUS)] {
        let expected = if formats.ends_with('0') { Codec::PCMU } else { codec };
        let (_, params) = side.answer(&offer(formats, FREESWITCH)).unwrap();
        assert_eq!(params.codec, expected, "a codec that is gone is not come back to");
    }
}

#[test]
fn of_two_numbers_for_a_codec_the_one_in_use_stays() {
    let lines = "a=rtpmap:111 opus/48000/2\na=rtpmap:112 opus/48000/2\na=fmtp:112 usedtx=1\na=fmtp:111 cbr=1\n";
    let mut side = ours(ALL);
    for (formats, number) in [("111 112", 111), ("112 111", 111), ("112", 112)] {
        let (answer, params) = side.answer(&offer(formats, lines)).unwrap();
        assert_eq!(params.payload_type, number, "{formats}");
        assert!(
            answer.contains(&format!("RTP/AVP {number}\r\n")),
            "one number is answered: {answer}"
        );
        assert_eq!((params.opus.dtx, params.opus.cbr), (number == 112, number == 111));
    }
}

#[test]
fn our_offer_has_every_codec_and_a_clock_of_digits_for_each() {
    let offer = ours(ALL).offer();
    assert!(offer.contains("m=audio 40000 RTP/AVP 0 8 9 111 96 101 110 97 13 98\r\n"), "{offer}");
    for line in [
        "a=rtpmap:9 G722/8000",
        "a=rtpmap:111 opus/48000/2",
        "a=rtpmap:96 L16/16000",
        "a=rtpmap:101 telephone-event/8000",
        "a=rtpmap:110 telephone-event/48000",
        "a=rtpmap:97 telephone-event/16000",
        "a=rtpmap:13 CN/8000",
        "a=rtpmap:98 CN/16000",
        "a=ptime:20",
    ] {
        assert!(offer.contains(&format!("{line}\r\n")), "{line}: {offer}");
    }
    assert!(!offer.contains("maxptime"), "it would hold for the other codecs too");
    let wide = ours(&[Codec::L16(SampleRate::Hz48000)]).offer();
    assert!(wide.contains("a=ptime:10\r\na=maxptime:10\r\n"), "{wide}");
}

#[test]
fn numbers_keep_their_meaning_over_the_dialog() {
    // The peer's 111 is no Opus, its Opus is 96.
    let lines = "a=rtpmap:111 telephone-event/48000\na=rtpmap:96 opus/48000/2\n";
    let mut side = ours(ALL);
    side.answer(&offer("96 111 13", lines)).unwrap();
    let text = side.offer();
    assert!(text.contains("RTP/AVP 96 0 8 9 97 111 101 98 13 99\r\n"), "{text}");
    assert_eq!(side.offer(), text);
    // What was not agreed on changes nothing.
    assert!(side.answer(&offer("110", "a=rtpmap:110 speex/8000\n")).is_err());
    assert_eq!(side.offer(), text);
    // It answers with numbers of our offer without a word about them.
    for (formats, codec) in [("97", L16), ("9", Codec::G722)] {
        let params = side.accept_answer(&offer(formats, "")).unwrap();
        assert_eq!(params.codec, codec);
    }
    assert!(side.accept_answer(&offer("127 126", "")).is_err());
    assert!(side.accept_answer(&offer("97", "a=rtpmap:97 iLBC/8000\n")).is_err(), "said otherwise");
}

#[test]
fn packet_times_that_a_codec_has() {
    for (codec, lines, millis) in [
        (OPUS, "a=ptime:30", 20),
        (OPUS, "a=ptime:50", 40),
        (OPUS, "a=ptime:60", 60),
        (OPUS, "a=ptime:120", 60),
        (OPUS, "a=fmtp:96 minptime=40", 40),
        (OPUS, "a=fmtp:96 ptime=40; maxptime=40", 40),
        (OPUS, "a=fmtp:96 minptime=60\na=maxptime:20", 20),
        (Codec::G722, "a=ptime:30", 30),
        (L16, "a=ptime:60", 40),
        (Codec::PCMU, "a=ptime:0", 20),
        (Codec::PCMU, "a=ptime:-1", 20),
        (Codec::PCMU, "a=ptime:99999999999", 20),
    ] {
        let lines = format!("a=rtpmap:96 {}\n{lines}\n", Format::Audio(codec).encoding());
        let (_, params) = ours(&[codec]).answer(&offer("96", &lines)).unwrap();
        assert_eq!(params.ptime.millis(), millis, "{lines}");
    }
}

#[test]
fn digits_have_the_clock_of_the_codec_or_the_usual_one() {
    for (formats, codec, number) in [
        ("96 101 103", OPUS, Some((103, 48_000))),
        ("96 101", OPUS, Some((101, 8_000))),
        ("9 103 101", Codec::G722, Some((101, 8_000))),
        ("9 103", Codec::G722, None),
        ("97 101 103", L16, Some((101, 8_000))),
    ] {
        let lines = "a=rtpmap:96 opus/48000/2\na=rtpmap:97 L16/16000\na=rtpmap:101 telephone-event/8000\na=rtpmap:103 telephone-event/48000\n";
        let (answer, params) = ours(&[codec]).answer(&offer(formats, lines)).unwrap();
        let events = params.telephone_event.map(|number| (number, params.telephone_event_hz));
        assert_eq!(events, number, "{formats}");
        assert_eq!(answer.contains("telephone-event"), number.is_some());
    }
}

#[test]
fn bitrates_and_switches_of_opus_are_read_within_reason() {
    let none = OpusParams::DEFAULT;
    for (lines, params) in [
        (
            "a=fmtp:96 maxaveragebitrate=16000;stereo=1;sprop-stereo=1",
            OpusParams { max_bitrate: Some(16_000), ..none },
        ),
        ("a=fmtp:96 maxaveragebitrate=1", none),
        ("a=fmtp:96 maxaveragebitrate=18446744073709551615", none),
        ("a=fmtp:96 maxaveragebitrate=99999999999999999999999", none),
        ("a=fmtp:96 maxaveragebitrate=fast", none),
        (
            "a=fmtp:96 UseInBandFEC = 1 ;; usedtx=1; =; cbr",
            OpusParams { fec: true, dtx: true, ..none },
        ),
        ("a=fmtp:96 usedtx=0\na=fmtp:96 usedtx=1;cbr=1", OpusParams { cbr: true, ..none }),
        ("a=fmtp:96\na=fmtp\na=fmtp:97 cbr=1", none),
    ] {
        let lines = format!("a=rtpmap:96 opus/48000/2\n{lines}\n");
        assert_eq!(ours(&[OPUS]).answer(&offer("96", &lines)).unwrap().1.opus, params, "{lines}");
    }
}

#[test]
fn odd_payload_types_are_passed_over() {
    for (formats, lines) in [
        ("72", "a=rtpmap:72 opus/48000/2\n"),
        ("128", "a=rtpmap:128 opus/48000/2\n"),
        ("+9 09 256 -1 x", ""),
        ("96", "a=rtpmap:96 G722/16000\n"),
        ("96", "a=rtpmap:96 opus/44100/2\n"),
        ("96", "a=rtpmap:96 opus/48000/255\n"),
        ("96", "a=rtpmap:96 opus\n"),
        ("96", "a=rtpmap:96 \n"),
        ("96", "a=rtpmap:97 opus/48000/2\n"),
    ] {
        let error = ours(ALL).answer(&offer(formats, lines)).unwrap_err();
        assert!(matches!(error, OfferError::NoCommonCodec { .. }), "{formats}: {error}");
    }
    // One number with two meanings has the first; a number listed twice counts once.
    let twice = "a=rtpmap:96 opus/48000/2\na=rtpmap:96 telephone-event/48000\n";
    let (answer, params) = ours(ALL).answer(&offer("96 96", twice)).unwrap();
    assert!(answer.contains("RTP/AVP 96\r\n"), "{answer}");
    assert_eq!((params.codec, params.telephone_event), (OPUS, None));
}

proptest! {
    #[test]
    fn whatever_is_offered_the_answer_can_be_read(
        formats in proptest::collection::vec(0_u8..130, 1..20),
        maps in proptest::collection::vec((0_usize..20, "(opus|L16|CN|PCMA|telephone-event|x)/(8000|16000|48000|0|99999999999)(/[0-9]{1,3})?"), 0..20),
        parameters in "[ -~]{0,60}",
        rounds in 1_usize..4,
    ) {
        let list: Vec<_> = formats.iter().map(u8::to_string).collect();
        let mut lines = String::new();
        for (at, map) in maps {
            let number = formats[at % formats.len()];
            lines += &format!("a=rtpmap:{number} {map}\na=fmtp:{number} {parameters}\n");
        }
        let mut side = ours(ALL);
        for round in 0..rounds {
            if let Ok((answer, params)) = side.answer(&offer(&list[round % list.len()..].join(" "), &lines)) {
                let answer = SessionDescription::parse(answer.as_bytes()).unwrap();
                let number = params.payload_type.to_string();
                prop_assert_eq!(&answer.media[0].formats[0], &number);
                prop_assert!(list.contains(&number));
            }
            let offer = SessionDescription::parse(side.offer().as_bytes()).unwrap();
            let mut numbers = offer.media[0].formats.clone();
            numbers.sort();
            numbers.dedup();
            prop_assert_eq!(numbers.len(), offer.media[0].formats.len(), "each number once");
            let peer = ours(ALL).answer(&offer);
            prop_assert!(peer.is_ok(), "{:?}", peer);
        }
    }
}
