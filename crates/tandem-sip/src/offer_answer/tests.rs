use super::*;

mod codecs;

fn sdp(body: &str) -> SessionDescription {
    SessionDescription::parse(format!("v=0\no=pbx 7 1 IN IP4 198.51.100.7\ns=-\n{body}").as_bytes())
        .unwrap()
}

fn local(codecs: &[Codec]) -> LocalMedia {
    LocalMedia {
        address: "203.0.113.20".parse().unwrap(),
        rtp_port: 40000,
        rtcp_port: 40001,
        codecs: codecs.to_vec(),
        security: LocalSecurity::default(),
    }
}

fn negotiator() -> Negotiator {
    Negotiator::new(
        local(&[Codec::PCMU, Codec::PCMA]),
        CodecPreference::Ours,
        42,
        "198.51.100.7".parse().unwrap(),
    )
}

const OFFER: &str = "c=IN IP4 198.51.100.7
t=0 0
m=audio 24680 RTP/AVP 102 9 8 0 103 101
a=rtpmap:102 opus/48000/2
a=rtpmap:103 telephone-event/48000
a=rtpmap:101 telephone-event/8000
a=rtcp:24690
a=ptime:30
";

#[test]
fn a_freeswitch_offer_is_answered_with_one_codec_and_the_matching_events() {
    let (answer, params) = negotiator().answer(&sdp(OFFER)).unwrap();
    assert_eq!(
        answer,
        "v=0\r\no=- 42 1 IN IP4 203.0.113.20\r\ns=-\r\nc=IN IP4 203.0.113.20\r\nt=0 0\r\n\
         m=audio 40000 RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
         a=fmtp:101 0-16\r\na=ptime:30\r\na=sendrecv\r\n"
    );
    assert_eq!(params.remote_rtp, "198.51.100.7:24680".parse::<SocketAddr>().unwrap());
    assert_eq!(params.remote_rtcp, "198.51.100.7:24690".parse::<SocketAddr>().unwrap());
    assert_eq!(
        (params.codec, params.payload_type, params.telephone_event),
        (Codec::PCMU, 0, Some(101))
    );
    assert_eq!((params.ptime.millis(), params.direction), (30, Direction::SendRecv));
    assert_eq!(params.latching, Latching::Off);
}

#[test]
fn the_codec_follows_the_preference_and_then_stays() {
    for (ours, preference, law) in [
        (&[Codec::PCMU, Codec::PCMA][..], CodecPreference::Ours, Codec::PCMU),
        (&[Codec::PCMA, Codec::PCMU][..], CodecPreference::Ours, Codec::PCMA),
        (&[Codec::PCMU, Codec::PCMA][..], CodecPreference::Theirs, Codec::PCMA),
        (&[Codec::PCMU][..], CodecPreference::Theirs, Codec::PCMU),
    ] {
        let signalling = "198.51.100.7".parse().unwrap();
        let mut side = Negotiator::new(local(ours), preference, 1, signalling);
        assert_eq!(side.answer(&sdp(OFFER)).unwrap().1.codec, law);
        let reversed = OFFER.replace("102 9 8 0", "0 8 9 102");
        assert_eq!(side.answer(&sdp(&reversed)).unwrap().1.codec, law, "no change without need");
    }
    let mut side = negotiator();
    side.answer(&sdp(OFFER)).unwrap();
    let narrowed = side.answer(&sdp(&OFFER.replace("102 9 8 0", "8"))).unwrap();
    assert_eq!((narrowed.1.codec, narrowed.1.payload_type), (Codec::PCMA, 8));
    assert!(narrowed.0.contains("o=- 42 2 IN"));
}

#[test]
fn dynamic_payload_types_of_the_offer_are_used() {
    let offer = "c=IN IP4 198.51.100.7\nm=audio 9000 RTP/AVP 96 97\na=rtpmap:96 pcmu/8000/1\na=rtpmap:97 telephone-event/8000\n";
    let (answer, params) = negotiator().answer(&sdp(offer)).unwrap();
    assert!(
        answer.contains("m=audio 40000 RTP/AVP 96 97\r\na=rtpmap:96 PCMU/8000\r\n"),
        "{answer}"
    );
    assert_eq!((params.payload_type, params.telephone_event), (96, Some(97)));
    assert_eq!(params.remote_rtcp.port(), 9001);
}

#[test]
fn hold_in_every_form_and_back() {
    for (line, address, answer, direction) in [
        ("a=sendonly", "198.51.100.7", "a=recvonly", Direction::RecvOnly),
        ("a=inactive", "198.51.100.7", "a=inactive", Direction::Inactive),
        ("a=recvonly", "198.51.100.7", "a=sendonly", Direction::SendOnly),
        ("a=sendrecv", "0.0.0.0", "a=recvonly", Direction::RecvOnly),
        ("a=sendonly", "0.0.0.0", "a=recvonly", Direction::RecvOnly),
        ("a=inactive", "0.0.0.0", "a=inactive", Direction::Inactive),
    ] {
        let mut side = negotiator();
        side.answer(&sdp(OFFER)).unwrap();
        let hold = OFFER.replace("IN IP4 198.51.100.7", &format!("IN IP4 {address}"));
        let (text, params) = side.answer(&sdp(&format!("{hold}{line}\n"))).unwrap();
        assert!(text.contains(answer), "{line} {address}: {text}");
        assert!(text.contains("o=- 42 2 IN"), "a change raises the version by one");
        assert_eq!(params.direction, direction);
        assert!(params.is_held() && (address != "0.0.0.0" || !params.sends()));
        let session_level = side.answer(&sdp(&format!("{line}\n{hold}"))).unwrap();
        assert_eq!(session_level.1.direction, direction);
        assert!(session_level.0.contains("o=- 42 2 IN"), "the same again keeps its version");
        let (text, params) = side.answer(&sdp(OFFER)).unwrap();
        assert!(text.contains("a=sendrecv") && text.contains("o=- 42 3 IN"));
        assert!(!params.is_held());
    }
}

#[test]
fn every_medium_is_answered_in_order() {
    let offer = "c=IN IP4 198.51.100.7\nm=video 5000 RTP/AVP 96 97\nm=audio 6000 RTP/SAVP 0\nm=audio 7000 RTP/AVP 0\nm=image 8000 udptl t38\n";
    let (answer, params) = negotiator().answer(&sdp(offer)).unwrap();
    let media: Vec<_> = answer.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(
        media,
        [
            "m=video 0 RTP/AVP 96",
            "m=audio 0 RTP/SAVP 0",
            "m=audio 40000 RTP/AVP 0",
            "m=image 0 udptl t38"
        ]
    );
    assert_eq!(params.remote_rtp.port(), 7000);
    assert_eq!(params.telephone_event, None);
    assert!(!answer.contains("telephone-event"));
}

#[test]
fn what_cannot_be_agreed_leaves_the_session_alone() {
    let t38 = "c=IN IP4 1.2.3.4\nm=image 5000 udptl t38\n";
    let video = "c=IN IP4 1.2.3.4\nm=audio 0 RTP/AVP 0\nm=video 5000 RTP/AVP 96\n";
    let wide = "c=IN IP4 1.2.3.4\nm=audio 5000 RTP/AVP 9 96\na=rtpmap:96 opus/48000/2\n";
    let named = "c=IN IP4 media.example.net\nm=audio 5000 RTP/AVP 0\n";
    let nowhere = "m=audio 5000 RTP/AVP 0\n";
    for (offer, error, status) in [
        (t38, OfferError::NoAudio, 488),
        (video, OfferError::NoAudio, 488),
        (wide, OfferError::NoCommonCodec { offered: vec!["G722".into(), "opus".into()] }, 488),
        (named, OfferError::NoAddress("media.example.net".into()), 488),
        (nowhere, OfferError::NoAddress(String::new()), 488),
        (
            "c=IN IP6 2001:db8::7\nm=audio 5000 RTP/AVP 0\n",
            OfferError::UnfitAddress("2001:db8::7".parse().unwrap()),
            488,
        ),
        (
            "c=IN IP4 233.252.0.1/127\nm=audio 5000 RTP/AVP 0\n",
            OfferError::UnfitAddress("233.252.0.1".parse().unwrap()),
            488,
        ),
        (
            "c=IN IP4 255.255.255.255\nm=audio 5000 RTP/AVP 0\n",
            OfferError::UnfitAddress("255.255.255.255".parse().unwrap()),
            488,
        ),
    ] {
        let mut side = negotiator();
        let (_, before) = side.answer(&sdp(OFFER)).unwrap();
        assert_eq!(side.answer(&sdp(offer)), Err(error.clone()));
        assert_eq!(error.status(), status);
        assert_eq!(side.params, Some(before));
    }
    assert_eq!(OfferError::Malformed(SdpError::Version).status(), 400);
    assert_eq!(OfferError::UnfitAddress("::1".parse().unwrap()).warning(), 301);
    let mut rtcp_elsewhere = negotiator();
    for elsewhere in ["IN IP4 233.252.0.1", "IN IP6 2001:db8::7"] {
        let offer = OFFER.replace("a=rtcp:24690", &format!("a=rtcp:24690 {elsewhere}"));
        let (_, params) = rtcp_elsewhere.answer(&sdp(&offer)).unwrap();
        assert_eq!(params.remote_rtcp, "198.51.100.7:24690".parse::<SocketAddr>().unwrap());
    }
}

#[test]
fn our_offer_and_the_answer_to_it() {
    let mut side = negotiator();
    let offer = side.offer();
    assert!(offer.contains("m=audio 40000 RTP/AVP 0 8 101 13\r\n"), "{offer}");
    assert!(offer.contains("a=sendrecv"));
    let answer =
        "c=IN IP4 198.51.100.7\nm=audio 9000 RTP/AVP 8 101\na=rtpmap:101 telephone-event/8000\n";
    let params = side.accept_answer(&sdp(answer)).unwrap();
    assert_eq!(
        (params.codec, params.payload_type, params.telephone_event),
        (Codec::PCMA, 8, Some(101))
    );
    let refresh = side.offer();
    assert!(refresh.contains("RTP/AVP 8 0 101 13") && refresh.contains("o=- 42 2"), "{refresh}");
    assert_eq!(side.offer(), refresh, "unchanged, so the same version");
    side.set_holding(true);
    assert!(side.offer().contains("a=sendonly"));
    let held = side.accept_answer(&sdp(&format!("{answer}a=recvonly\n"))).unwrap();
    assert_eq!(held.direction, Direction::SendOnly);
    assert_eq!(
        side.accept_answer(&sdp("c=IN IP4 1.2.3.4\nm=audio 0 RTP/AVP 8\n")),
        Err(OfferError::NoAudio)
    );
}

#[test]
fn a_private_media_address_behind_a_public_signalling_address_may_latch() {
    for (media, latches) in [
        ("192.168.1.5", true),
        ("10.0.0.9", true),
        ("100.64.1.1", true),
        ("198.51.100.7", false),
        ("203.0.113.99", false),
        ("0.0.0.0", false),
    ] {
        let (_, params) = negotiator().answer(&sdp(&OFFER.replace("198.51.100.7", media))).unwrap();
        assert_eq!(matches!(params.latching, Latching::Natted { .. }), latches, "{media}");
    }
}

#[test]
fn rtcp_mux_and_odd_ports() {
    let mut side = negotiator();
    let (answer, params) = side.answer(&sdp(&format!("{OFFER}a=rtcp-mux\n"))).unwrap();
    assert!(params.rtcp_mux && answer.contains("a=rtcp-mux"));
    assert_eq!(params.remote_rtcp, params.remote_rtp);
    let mut odd = local(&[Codec::PCMU]);
    odd.rtcp_port = 50001;
    let mut side = Negotiator::new(odd, CodecPreference::Ours, 1, "198.51.100.7".parse().unwrap());
    assert!(side.answer(&sdp(OFFER)).unwrap().0.contains("a=rtcp:50001\r\n"));
    for (ptime, granted) in
        [("ptime:20.0", 20), ("ptime:0", 20), ("ptime:60\na=maxptime:40", 40), ("maxptime:10", 10)]
    {
        let offer = OFFER.replace("ptime:30", ptime);
        assert_eq!(side.answer(&sdp(&offer)).unwrap().1.ptime.millis(), granted, "{ptime}");
    }
}
