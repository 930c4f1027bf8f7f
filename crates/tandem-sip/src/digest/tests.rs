use super::*;

const URI: &str = "sip:4930555001@ai.example.net";

fn user() -> Credential {
    Credential { username: "pbx1".into(), password: "s3cret".into() }
}

fn proof(algorithm: Algorithm, counted: bool) -> Proof<'static> {
    Proof {
        algorithm,
        username: "pbx1",
        realm: "ai.example.net",
        password: "s3cret",
        method: "INVITE",
        uri: URI,
        nonce: "9f1c77a2e05b4d31",
        counted: counted.then_some(("00000001", "7b2e41d0")),
    }
}

#[test]
fn known_responses() {
    for (algorithm, counted, response) in [
        (Algorithm::Md5, true, "820f768ce36cc83c39a8923ab7862377"),
        (Algorithm::Md5, false, "9ab3ae78b02d07614f9430b37ba73fe3"),
        (
            Algorithm::Sha256,
            true,
            "304570a74b0a176796333f60f1cc3704f266f2a16fd3462bf5bcdd31fe228f94",
        ),
        (
            Algorithm::Sha256,
            false,
            "891ecc2324f85a2085ce2919f9021f1909838dc9f7ab6c5a4f1995993b52badc",
        ),
    ] {
        assert_eq!(proof(algorithm, counted).response(), response);
    }
    assert_eq!(
        Algorithm::Md5.hash(&["pbx1", "ai.example.net", "s3cret"]),
        "5c42c5061551759636f3993302eca2d5"
    );
}

fn source() -> IpAddr {
    "198.51.100.7".parse().unwrap()
}

fn authenticator(now: Instant) -> Authenticator {
    Authenticator::new(now, "ai.example.net", vec![user()], Secret::fixed(1))
}

/// The Authorization that answers the challenge given at `now`.
fn credentials(
    side: &mut Authenticator,
    now: Instant,
    algorithm: usize,
    password: &str,
) -> Headers {
    let mut challenge = Headers::default();
    challenge.push("WWW-Authenticate", side.challenges(now, source(), false)[algorithm].clone());
    let credential = Credential { username: "pbx1".into(), password: password.into() };
    let (name, value) = authorize(401, &challenge, "INVITE", URI, &credential, "7b2e41d0").unwrap();
    let mut headers = Headers::default();
    headers.push(name, value);
    headers
}

#[test]
fn a_challenge_is_answered_and_verified_with_both_algorithms() {
    let now = Instant::now();
    let mut side = authenticator(now);
    assert!(side.challenges(now, source(), false)[0].contains("algorithm=SHA-256"));
    for algorithm in [0, 1] {
        let headers = credentials(&mut side, now, algorithm, "s3cret");
        assert_eq!(side.verify(now, source(), "INVITE", &headers), Verdict::Valid("pbx1".into()));
    }
}

#[test]
fn calls_that_come_at_once_are_all_let_in() {
    let now = Instant::now();
    let mut side = authenticator(now);
    let answers: Vec<_> = (0..20).map(|n| credentials(&mut side, now, n % 2, "s3cret")).collect();
    for answer in &answers {
        assert_eq!(side.verify(now, source(), "INVITE", answer), Verdict::Valid("pbx1".into()));
    }
}

#[test]
fn what_is_not_right_is_not_let_in() {
    let now = Instant::now();
    let mut side = authenticator(now);
    let good = credentials(&mut side, now, 0, "s3cret");
    let value = good.get("Authorization").unwrap().to_owned();
    let no = Verdict::Challenge { stale: false };
    let stale = Verdict::Challenge { stale: true };
    for (name, method, headers, address, at, verdict) in [
        ("nothing", "INVITE", String::new(), "198.51.100.7", 0, no.clone()),
        (
            "another realm",
            "INVITE",
            value.replace("ai.example.net\", nonce", "other\", nonce"),
            "198.51.100.7",
            0,
            no.clone(),
        ),
        ("another method", "BYE", value.clone(), "198.51.100.6", 0, no.clone()),
        ("without qop", "INVITE", value.replace("qop=auth, ", ""), "198.51.100.5", 0, no.clone()),
        (
            "bad count",
            "INVITE",
            value.replace("nc=00000001", "nc=1"),
            "198.51.100.4",
            0,
            no.clone(),
        ),
        ("another user", "INVITE", value.replace("pbx1", "pbx2"), "198.51.100.3", 0, no),
        ("another address", "INVITE", value.clone(), "198.51.100.8", 0, stale.clone()),
        ("too old", "INVITE", value.clone(), "198.51.100.7", 62, stale.clone()),
    ] {
        let mut all = Headers::default();
        if !headers.is_empty() {
            all.push("Authorization", headers);
        }
        let verdict_now =
            side.verify(now + Duration::from_secs(at), address.parse().unwrap(), method, &all);
        assert_eq!(verdict_now, verdict, "{name}");
    }
    assert_eq!(side.verify(now, source(), "INVITE", &good), Verdict::Valid("pbx1".into()));
    assert_eq!(
        side.verify(now, source(), "INVITE", &good),
        stale,
        "the same count twice is a replay"
    );
}

#[test]
fn three_wrong_passwords_are_enough_for_a_minute() {
    let now = Instant::now();
    let mut side = authenticator(now);
    let wrong = credentials(&mut side, now, 1, "guess");
    let mut verdicts = Vec::new();
    for _ in 0..3 {
        verdicts.push(side.verify(now, source(), "INVITE", &wrong));
    }
    let no = Verdict::Challenge { stale: false };
    assert_eq!(verdicts, [no.clone(), no, Verdict::Refuse]);
    let right = credentials(&mut side, now, 1, "s3cret");
    assert_eq!(side.verify(now, source(), "INVITE", &right), Verdict::Refuse);
    let later = now + Duration::from_secs(61);
    let right = credentials(&mut side, later, 1, "s3cret");
    assert_eq!(side.verify(later, source(), "INVITE", &right), Verdict::Valid("pbx1".into()));
}

#[test]
fn more_nonces_than_are_remembered_shut_nobody_out_and_replay_nothing() {
    let now = Instant::now();
    let mut side = authenticator(now);
    let answers: Vec<_> =
        (0..=MAX_NONCES).map(|_| credentials(&mut side, now, 1, "s3cret")).collect();
    for answer in &answers {
        assert_eq!(side.verify(now, source(), "INVITE", answer), Verdict::Valid("pbx1".into()));
    }
    assert_eq!(side.used.len(), MAX_NONCES);
    for again in [&answers[0], &answers[1], &answers[MAX_NONCES]] {
        let verdict = side.verify(now, source(), "INVITE", again);
        assert_eq!(verdict, Verdict::Challenge { stale: true });
    }
    let later = now + Duration::from_secs(61);
    let answer = credentials(&mut side, later, 0, "s3cret");
    assert_eq!(side.verify(later, source(), "INVITE", &answer), Verdict::Valid("pbx1".into()));
    assert_eq!(side.used.len(), 1, "what is too old is forgotten");
}

#[test]
fn one_ipv6_customer_is_one_guesser() {
    let now = Instant::now();
    let mut side = authenticator(now);
    let wrong = credentials(&mut side, now, 1, "guess");
    let host = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, n]);
    for n in 0..3 {
        side.verify(now, host(n), "INVITE", &wrong);
    }
    assert_eq!(side.verify(now, host(9), "INVITE", &wrong), Verdict::Refuse);
    assert_eq!(side.turn_away(now, host(9), &wrong), Some(Verdict::Refuse));
    let elsewhere = "2001:db8:0:2::1".parse().unwrap();
    assert_ne!(side.verify(now, elsewhere, "INVITE", &wrong), Verdict::Refuse);
}

#[test]
fn challenges_of_others() {
    for (name, status, challenges, answer) in [
        (
            "MD5 without qop",
            401,
            vec![r#"Digest realm="r", nonce="n""#],
            Some(("Authorization", "algorithm=MD5")),
        ),
        (
            "a proxy",
            407,
            vec![r#"Digest realm="r", nonce="n", qop="auth,auth-int", opaque="o""#],
            Some(("Proxy-Authorization", "opaque=\"o\"")),
        ),
        (
            "unknown first",
            401,
            vec![
                r#"Digest realm="r", nonce="n", algorithm=SHA-512-256"#,
                r#"Digest realm="r", nonce="n", algorithm=SHA-256"#,
            ],
            Some(("Authorization", "algorithm=SHA-256")),
        ),
        ("only integrity", 401, vec![r#"Digest realm="r", nonce="n", qop="auth-int""#], None),
        ("basic", 401, vec![r#"Basic realm="r""#], None),
        ("no challenge", 401, vec![], None),
        ("no nonce", 401, vec![r#"Digest realm="r""#], None),
    ] {
        let mut headers = Headers::default();
        for challenge in challenges {
            headers.push(
                if status == 401 { "WWW-Authenticate" } else { "Proxy-Authenticate" },
                challenge,
            );
        }
        let got = authorize(status, &headers, "INVITE", URI, &user(), "c");
        match answer {
            None => assert_eq!(got, None, "{name}"),
            Some((header, part)) => {
                let (got, value) = got.unwrap_or_else(|| panic!("{name}"));
                assert_eq!(got, header, "{name}");
                assert!(value.contains(part), "{name}: {value}");
            }
        }
    }
}
