use std::sync::Arc;

use tandem_media::Codec;
use tandem_srtp::{DtlsIdentity, Mki};

use super::*;
use crate::{CodecPreference, LocalMedia, offer_answer::Negotiator};

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd";
const OTHER_KEY: &str = "ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+f4CB";
const HEAD: &str = "v=0\no=- 7 7 IN IP4 198.51.100.7\ns=-\nc=IN IP4 198.51.100.7\nt=0 0\n";

fn sdp(media: &str) -> SessionDescription {
    SessionDescription::parse(format!("{HEAD}{media}").as_bytes()).unwrap()
}

fn savp(lines: &str) -> String {
    format!("m=audio 24680 RTP/SAVP 0 101\na=rtpmap:101 telephone-event/8000\n{lines}")
}

fn dtls(lines: &str) -> String {
    format!("m=audio 24680 UDP/TLS/RTP/SAVP 0\n{lines}")
}

fn crypto(tag: u32, suite: &str, key: &str) -> String {
    format!("a=crypto:{tag} {suite} inline:{key}\n")
}

const SHA1_80: &str = "AES_CM_128_HMAC_SHA1_80";

fn negotiator(security: LocalSecurity) -> Negotiator {
    let local = LocalMedia {
        address: "203.0.113.20".parse().unwrap(),
        rtp_port: 40000,
        rtcp_port: 40001,
        codecs: vec![Codec::PCMU, Codec::PCMA],
        security,
    };
    let signalling = "198.51.100.7".parse().unwrap();
    Negotiator::new(local, CodecPreference::Ours, 42, signalling)
}

fn with(policy: SrtpPolicy) -> LocalSecurity {
    LocalSecurity { policy, ..LocalSecurity::default() }
}

fn with_identity(policy: SrtpPolicy) -> LocalSecurity {
    let identity = Some(Arc::new(DtlsIdentity::generate().unwrap()));
    LocalSecurity { identity, key_exchange: KeyExchange::Dtls, ..with(policy) }
}

fn value<'a>(sdp: &'a str, name: &str) -> Option<&'a str> {
    let prefix = format!("a={name}:");
    sdp.lines().find_map(|line| line.strip_prefix(prefix.as_str()))
}

fn our_key(sdp: &str) -> CryptoAttribute {
    CryptoAttribute::parse(value(sdp, "crypto").expect("a crypto line")).unwrap()
}

#[test]
fn the_first_usable_line_is_answered_with_a_key_of_our_own() {
    let f8 = crypto(1, "F8_128_HMAC_SHA1_80", KEY);
    let good = crypto(2, SHA1_80, KEY);
    let short = crypto(3, "AES_CM_128_HMAC_SHA1_32", OTHER_KEY);
    let weak = good.replace("\n", " UNENCRYPTED_SRTCP\n");
    for (lines, tag, suite) in [
        (format!("{good}{short}"), 2, SHA1_80),
        (format!("{f8}{short}{good}"), 3, "AES_CM_128_HMAC_SHA1_32"),
        (format!("{weak}{short}"), 3, "AES_CM_128_HMAC_SHA1_32"),
        (format!("a=crypto:x\n{good}"), 2, SHA1_80),
    ] {
        let mut side = negotiator(with(SrtpPolicy::Allow));
        let (answer, _) = side.answer(&sdp(&savp(&lines))).unwrap();
        assert!(answer.contains("m=audio 40000 RTP/SAVP 0 101\r\n"), "{answer}");
        assert_eq!(answer.matches("a=crypto:").count(), 1, "{answer}");
        let ours = our_key(&answer);
        assert_eq!((ours.tag, ours.key.profile().name()), (tag, suite));
        let MediaSecurity::Sdes { ours: sent, theirs, mki } = side.security() else { panic!() };
        assert_eq!((sent, *mki), (&ours.key, None));
        assert_ne!(theirs, sent);
    }
    // The name of a draft is repeated; who writes it may know no other.
    let long = format!("{KEY}{}", &KEY[..20]) + "AA==";
    let draft = savp(&crypto(4, "AES_CM_256_HMAC_SHA1_80", &long));
    let (answer, _) = negotiator(with(SrtpPolicy::Allow)).answer(&sdp(&draft)).unwrap();
    assert!(answer.contains("a=crypto:4 AES_CM_256_HMAC_SHA1_80 inline:"), "{answer}");
    let mut side = negotiator(with(SrtpPolicy::Allow));
    let identified = good.replace("\n", "|2^31|1:4\n");
    side.answer(&sdp(&savp(&identified))).unwrap();
    let MediaSecurity::Sdes { mki, .. } = side.security() else { panic!() };
    assert_eq!(*mki, Mki::new(1, 4));
}

#[test]
fn what_cannot_be_protected_as_wanted_is_refused_with_its_reason() {
    let plain = "m=audio 24680 RTP/AVP 0\n".to_owned();
    let good = savp(&crypto(1, SHA1_80, KEY));
    let bad_key = savp(&crypto(1, SHA1_80, "AAEC"));
    let sha1 = dtls(
        "a=setup:actpass\na=fingerprint:sha-1 A9:99:3E:36:47:06:81:6A:BA:3E:25:71:78:50:C2:6C:9C:D0:D8:9D\n",
    );
    let fingerprint = DtlsIdentity::generate().unwrap().fingerprint().to_string();
    let fingerprinted = dtls(&format!("a=setup:actpass\na=fingerprint:{fingerprint}\n"));
    let held = fingerprinted.replace("actpass", "holdconn");
    let zrtp = "m=audio 24680 RTP/SECRET 0\n".to_owned();
    for (security, offer, error) in [
        (with(SrtpPolicy::Require), &plain, "media must be protected here: SRTP"),
        (with(SrtpPolicy::Off), &good, "SRTP is switched off here"),
        (with_identity(SrtpPolicy::Off), &fingerprinted, "SRTP is switched off here"),
        (with(SrtpPolicy::Allow), &savp(""), "neither a usable key nor a fingerprint"),
        (with(SrtpPolicy::Allow), &bad_key, "no usable key: no key of this suite"),
        (with(SrtpPolicy::Allow), &fingerprinted, "no DTLS here"),
        (with_identity(SrtpPolicy::Allow), &sha1, "no fingerprint by sha-256 or stronger"),
        (
            with_identity(SrtpPolicy::Allow),
            &held,
            "a=setup:holdconn leaves nobody to begin the handshake",
        ),
        (with(SrtpPolicy::Allow), &zrtp, "no audio stream"),
    ] {
        let mut side = negotiator(security);
        let refused = side.answer(&sdp(offer)).unwrap_err();
        assert_eq!((refused.to_string().as_str(), refused.status()), (error, 488), "{offer}");
        assert_eq!(*side.security(), MediaSecurity::Plain);
        assert!(matches!(refused.warning(), 304 | 399));
    }
}

#[test]
fn of_two_audio_lines_the_protected_one_is_taken() {
    let plain = "m=audio 9000 RTP/AVP 0\n";
    let secure = savp(&crypto(1, SHA1_80, KEY));
    for (policy, offer, secured) in [
        (SrtpPolicy::Allow, format!("{plain}{secure}"), true),
        (SrtpPolicy::Allow, format!("{secure}{plain}"), true),
        (SrtpPolicy::Off, format!("{secure}{plain}"), false),
        (SrtpPolicy::Require, format!("{plain}{secure}"), true),
        (SrtpPolicy::Allow, format!("{}{plain}", savp("")), false),
    ] {
        let mut side = negotiator(with(policy));
        let (answer, params) = side.answer(&sdp(&offer)).unwrap();
        let port = if secured { 24680 } else { 9000 };
        assert_eq!(params.remote_rtp.port(), port, "{policy:?} {offer}");
        assert_eq!(side.security().is_secure(), secured);
        assert_eq!(answer.matches("m=audio 0 ").count(), 1, "{answer}");
        assert_eq!(answer.contains("a=crypto:"), secured);
    }
}

#[test]
fn keys_beside_plain_rtp_are_taken_where_that_is_wanted() {
    let offer = savp(&crypto(1, SHA1_80, KEY)).replace("SAVP", "AVP");
    for (policy, best_effort, secured) in [
        (SrtpPolicy::Allow, true, Some(true)),
        (SrtpPolicy::Allow, false, Some(false)),
        (SrtpPolicy::Off, true, Some(false)),
        (SrtpPolicy::Require, true, Some(true)),
        (SrtpPolicy::Require, false, None),
    ] {
        let mut side = negotiator(LocalSecurity { best_effort, ..with(policy) });
        let answer = side.answer(&sdp(&offer)).ok();
        let was = answer.as_ref().map(|(answer, _)| answer.contains("a=crypto:1 "));
        assert_eq!(was, secured, "{policy:?} {best_effort}");
        assert!(answer.is_none_or(|(answer, _)| answer.contains("RTP/AVP 0 101")));
        if secured == Some(true) {
            // And our own offers go on in the same way.
            let again = side.offer();
            assert!(again.contains("m=audio 40000 RTP/AVP ") && again.contains("a=crypto:1 "));
            assert!(side.accept_answer(&sdp(&offer.replace(KEY, OTHER_KEY))).is_ok());
            assert!(side.security().is_sdes());
        }
    }
}

#[test]
fn our_key_stays_while_theirs_does() {
    let mut side = negotiator(with(SrtpPolicy::Allow));
    let offer = savp(&crypto(1, SHA1_80, KEY));
    let (first, _) = side.answer(&sdp(&offer)).unwrap();
    let agreed = side.security().clone();
    let (again, _) = side.answer(&sdp(&offer)).unwrap();
    assert_eq!(our_key(&first), our_key(&again));
    assert!(again.contains("o=- 42 1 IN"), "nothing changed: {again}");
    let (held, _) = side.answer(&sdp(&format!("{offer}a=sendonly\n"))).unwrap();
    assert_eq!((our_key(&held), side.security()), (our_key(&first), &agreed));
    // A refused offer leaves the keys alone.
    assert!(side.answer(&sdp(&savp(""))).is_err());
    assert_eq!(*side.security(), agreed);
    let ours = side.offer();
    assert!(ours.contains("RTP/SAVP") && our_key(&ours) == our_key(&first), "{ours}");
    let (changed, _) = side.answer(&sdp(&offer.replace(KEY, OTHER_KEY))).unwrap();
    assert_ne!(our_key(&changed), our_key(&first));
    assert_ne!(*side.security(), agreed);
    side.answer(&sdp("m=audio 9000 RTP/AVP 0\n")).unwrap();
    assert_eq!(*side.security(), MediaSecurity::Plain);
}

#[test]
fn our_own_offers_carry_keys_when_protection_is_a_must() {
    let mut side = negotiator(with(SrtpPolicy::Allow));
    assert!(side.offer().contains("RTP/AVP ") && !side.offer().contains("a=crypto"));
    assert!(side.accept_answer(&sdp("m=audio 9 RTP/AVP 0\n")).is_ok());
    let mut side = negotiator(with(SrtpPolicy::Require));
    let offer = side.offer();
    assert!(offer.contains("m=audio 40000 RTP/SAVP ") && offer.matches("a=crypto:").count() == 4);
    assert_eq!(side.offer(), offer, "the same until it is answered");
    for (answer, taken) in [
        ("m=audio 9 RTP/AVP 0\n".to_owned(), false),
        (savp(""), false),
        (savp(&crypto(9, SHA1_80, KEY)), false),
        (savp(&crypto(2, SHA1_80, KEY)), false),
        (dtls("a=setup:active\n"), false),
        (savp(&crypto(2, "AES_CM_128_HMAC_SHA1_32", KEY)), true),
    ] {
        let result = side.accept_answer(&sdp(&answer));
        assert_eq!(result.is_ok(), taken, "{answer}: {result:?}");
    }
    let MediaSecurity::Sdes { ours, theirs, .. } = side.security().clone() else { panic!() };
    let line = |tag: &str| {
        let start = format!("a=crypto:{tag} ");
        let line = offer.lines().find(|line| line.starts_with(&start)).unwrap();
        CryptoAttribute::parse(&line[9..]).unwrap().key
    };
    assert_eq!(ours, line("2"));
    assert_eq!(theirs.profile(), Profile::AesCm128HmacSha1_32);
    let hold = side.offer();
    assert_eq!(hold.matches("a=crypto:").count(), 1);
    assert_eq!(our_key(&hold).key, ours);
}

#[test]
fn a_handshake_has_one_beginner_and_goes_on_while_nothing_changes() {
    let theirs = DtlsIdentity::generate().unwrap().fingerprint().to_string();
    let mut side = negotiator(with_identity(SrtpPolicy::Allow));
    for (setup, ours) in [("actpass", "active"), ("active", "passive"), ("passive", "active")] {
        let mut side = negotiator(with_identity(SrtpPolicy::Allow));
        let offer = dtls(&format!("a=setup:{setup}\na=fingerprint:{theirs}\n"));
        let (answer, _) = side.answer(&sdp(&offer)).unwrap();
        assert_eq!(value(&answer, "setup"), Some(ours));
        assert!(answer.contains("m=audio 40000 UDP/TLS/RTP/SAVP 0"), "{answer}");
        assert!(value(&answer, "fingerprint").unwrap().starts_with("sha-256 "));
    }
    let generation = |side: &Negotiator| match side.security() {
        MediaSecurity::Dtls { generation, role, .. } => (*generation, *role),
        other => panic!("{other:?}"),
    };
    // The fingerprint may stand at the session, and older peers write RTP/SAVPF.
    let offer = format!(
        "a=fingerprint:{theirs}\na=setup:passive\na=tls-id:abcdefghijklmnopqrst\nm=audio 24680 RTP/SAVPF 0\n"
    );
    let (first, _) = side.answer(&sdp(&offer)).unwrap();
    assert_eq!(generation(&side), (1, DtlsRole::Active));
    let id = value(&first, "tls-id").unwrap().to_owned();
    assert!(id.len() >= 20 && id != "abcdefghijklmnopqrst");
    let actpass = offer.replace("passive", "actpass");
    let (again, _) = side.answer(&sdp(&actpass)).unwrap();
    assert_eq!((generation(&side), value(&again, "tls-id")), ((1, DtlsRole::Active), Some(&*id)));
    let ours = side.offer();
    assert_eq!(value(&ours, "setup"), Some("actpass"));
    assert_eq!(value(&ours, "tls-id"), Some(&*id));
    let kept = offer.replace("actpass", "passive");
    assert!(side.accept_answer(&sdp(&kept)).is_ok());
    assert_eq!(generation(&side).0, 1);
    let other_id = actpass.replace("abcdefghij", "0123456789");
    let (changed, _) = side.answer(&sdp(&other_id)).unwrap();
    assert_eq!(generation(&side).0, 2);
    assert_ne!(value(&changed, "tls-id"), Some(&*id));
    let stranger = DtlsIdentity::generate().unwrap().fingerprint().to_string();
    side.answer(&sdp(&other_id.replace(&theirs, &stranger))).unwrap();
    assert_eq!(generation(&side).0, 3);
    side.answer(&sdp(&other_id.replace(&theirs, &stranger).replace("actpass", "active"))).unwrap();
    assert_eq!(generation(&side), (4, DtlsRole::Passive));
}

#[test]
fn our_own_offer_of_a_handshake() {
    let mut side = negotiator(with_identity(SrtpPolicy::Require));
    let offer = side.offer();
    assert!(offer.contains("m=audio 40000 UDP/TLS/RTP/SAVP "), "{offer}");
    assert_eq!(value(&offer, "setup"), Some("actpass"));
    assert_eq!(side.offer(), offer);
    let theirs = DtlsIdentity::generate().unwrap().fingerprint().to_string();
    for (lines, taken) in [
        (String::new(), false),
        ("a=setup:active\n".to_owned(), false),
        (format!("a=setup:actpass\na=fingerprint:{theirs}\n"), false),
        (format!("a=setup:active\na=fingerprint:{theirs}\n"), true),
    ] {
        assert_eq!(side.accept_answer(&sdp(&dtls(&lines))).is_ok(), taken, "{lines}");
    }
    assert!(matches!(side.security(), MediaSecurity::Dtls { role: DtlsRole::Passive, .. }));
}

#[test]
fn nothing_that_is_printed_has_a_key_in_it() {
    let offer = sdp(&savp(&crypto(1, SHA1_80, KEY)));
    let mut side = negotiator(with(SrtpPolicy::Allow));
    let (answer, _) = side.answer(&offer).unwrap();
    let ours = value(&answer, "crypto").unwrap().split("inline:").nth(1).unwrap().to_owned();
    let event = crate::DialogEvent::Security(side.security().clone());
    for printed in [format!("{offer:?}"), format!("{side:?}"), format!("{event:?}")] {
        assert!(!printed.contains(KEY) && !printed.contains(&ours), "{printed}");
        assert!(printed.contains("crypto") || printed.contains("MasterKey"), "{printed}");
    }
}

proptest::proptest! {
    #[test]
    fn garbled_offers_never_panic(
        lines in proptest::collection::vec("(a=crypto:[0-9]{0,3} [A-Z_0-9]{0,30} inline:[A-Za-z0-9+/=|:^;]{0,60}|a=setup:[a-z]{0,8}|a=fingerprint:[a-z0-9-]{0,8} [0-9A-F:]{0,100}|a=tls-id:[a-z]{0,30})", 0..6),
        protocol in "(RTP/S?AVPF?|UDP/TLS/RTP/SAVPF?)",
    ) {
        let offer = format!("m=audio 24680 {protocol} 0\n{}\n", lines.join("\n"));
        let mut side = negotiator(with_identity(SrtpPolicy::Allow));
        let offer = sdp(&offer);
        if side.answer(&offer).is_ok() {
            let again = side.offer();
            proptest::prop_assert!(SessionDescription::parse(again.as_bytes()).is_ok());
            let _ = side.accept_answer(&offer);
        }
    }
}
