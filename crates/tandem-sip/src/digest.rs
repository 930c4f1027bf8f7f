//! Digest authentication (RFC 3261 §22, RFC 7616, RFC 8760): our challenges, and our answers to those of others.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use md5::{Digest, Md5};
use secrecy::ExposeSecret;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::{Credential, headers::Headers, ids::Secret, uri::split_outside_quotes};

/// How long a nonce may be used.
const NONCE_LIFETIME: Duration = Duration::from_secs(60);
/// Nonces with a used count that are remembered.
const MAX_NONCES: usize = 4096;
/// Wrong passwords from one address until it gets 403, and for how long.
const MAX_FAILURES: u32 = 3;
const FAILURE_MEMORY: Duration = Duration::from_secs(60);
/// Addresses whose failures are remembered.
const MAX_FAILING: usize = 4096;

/// Hash algorithms, the stronger first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Sha256,
    Md5,
}

impl Algorithm {
    const ALL: [Self; 2] = [Self::Sha256, Self::Md5];

    const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Md5 => "MD5",
        }
    }

    fn named(name: Option<&str>) -> Option<Self> {
        let name = name.unwrap_or("MD5");
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// `H(parts joined by ':')` in lower-case hex.
    fn hash(self, parts: &[&str]) -> String {
        let text = parts.join(":");
        match self {
            Self::Sha256 => hex(&Sha256::digest(text.as_bytes())),
            Self::Md5 => hex(&Md5::digest(text.as_bytes())),
        }
    }
}

/// What a digest response is made of.
struct Proof<'a> {
    algorithm: Algorithm,
    username: &'a str,
    realm: &'a str,
    password: &'a str,
    method: &'a str,
    uri: &'a str,
    nonce: &'a str,
    /// `nc` and `cnonce` with `qop=auth`.
    counted: Option<(&'a str, &'a str)>,
}

impl Proof<'_> {
    fn response(&self) -> String {
        let hash = |parts: &[&str]| self.algorithm.hash(parts);
        let ha1 = hash(&[self.username, self.realm, self.password]);
        let ha2 = hash(&[self.method, self.uri]);
        match self.counted {
            Some((nc, cnonce)) => hash(&[&ha1, self.nonce, nc, cnonce, "auth", &ha2]),
            None => hash(&[&ha1, self.nonce, &ha2]),
        }
    }
}

/// What came of looking at credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This user.
    Valid(String),
    /// Credentials are missing, wrong, or of an old nonce (`stale`): challenge.
    Challenge { stale: bool },
    /// Wrong too often: 403.
    Refuse,
}

/// Our side as the one who asks for a password.
#[derive(Debug)]
pub(crate) struct Authenticator {
    realm: String,
    users: Vec<Credential>,
    secret: Secret,
    epoch: Instant,
    /// Challenges given so far.
    issued: u64,
    /// The highest count seen of each nonce that was used.
    counts: HashMap<String, (u32, Instant)>,
    failures: HashMap<IpAddr, (u32, Instant)>,
}

impl Authenticator {
    pub(crate) fn new(now: Instant, realm: &str, users: Vec<Credential>, secret: Secret) -> Self {
        // A quote would end the realm early.
        let realm = realm.replace(['"', '\\', '\r', '\n'], "");
        Self {
            realm,
            users,
            secret,
            epoch: now,
            issued: 0,
            counts: HashMap::new(),
            failures: HashMap::new(),
        }
    }

    /// Whether there is anybody who could authenticate.
    pub(crate) fn has_users(&self) -> bool {
        !self.users.is_empty()
    }

    /// The values of the WWW-Authenticate headers, SHA-256 first (RFC 8760 §2.4). Each challenge has a nonce of its own:
    /// calls that come at once all count theirs from 1.
    pub(crate) fn challenges(&mut self, now: Instant, source: IpAddr, stale: bool) -> [String; 2] {
        self.issued += 1;
        let seconds = now.saturating_duration_since(self.epoch).as_secs();
        let nonce = self.nonce(seconds, self.issued, source);
        Algorithm::ALL.map(|algorithm| {
            format!(
                "Digest realm=\"{}\", nonce=\"{nonce}\", algorithm={}, qop=\"auth\"{}",
                self.realm,
                algorithm.name(),
                if stale { ", stale=true" } else { "" }
            )
        })
    }

    /// Looks at the Authorization header of a request.
    pub(crate) fn verify(
        &mut self,
        now: Instant,
        source: IpAddr,
        method: &str,
        headers: &Headers,
    ) -> Verdict {
        self.forget(now);
        let ours = headers
            .all("Authorization")
            .filter_map(Params::parse)
            .find(|params| params.get("realm") == Some(self.realm.as_str()));
        let Some(params) = ours else { return Verdict::Challenge { stale: false } };
        if self.failures.get(&source).is_some_and(|(count, _)| *count >= MAX_FAILURES) {
            return Verdict::Refuse;
        }
        match self.check(now, source, method, &params) {
            Ok(username) => {
                self.failures.remove(&source);
                Verdict::Valid(username)
            }
            Err(Refused::Stale) => Verdict::Challenge { stale: true },
            Err(Refused::Wrong) => {
                if self.failures.len() < MAX_FAILING || self.failures.contains_key(&source) {
                    let failures = self.failures.entry(source).or_insert((0, now));
                    *failures = (failures.0 + 1, now);
                    if failures.0 >= MAX_FAILURES {
                        return Verdict::Refuse;
                    }
                }
                Verdict::Challenge { stale: false }
            }
        }
    }

    fn check(
        &mut self,
        now: Instant,
        source: IpAddr,
        method: &str,
        params: &Params,
    ) -> Result<String, Refused> {
        let get = |name| params.get(name).ok_or(Refused::Wrong);
        let algorithm = Algorithm::named(params.get("algorithm")).ok_or(Refused::Wrong)?;
        let (username, nonce, uri, response) =
            (get("username")?, get("nonce")?, get("uri")?, get("response")?);
        // The Request-URI may have been rewritten on the way, so `uri` need not equal it.
        if !uri.starts_with("sip:") && !uri.starts_with("sips:") && !uri.starts_with("tel:") {
            return Err(Refused::Wrong);
        }
        // We always offer qop, so leaving it out would only serve a replay.
        if params.get("qop") != Some("auth") {
            return Err(Refused::Wrong);
        }
        let (nc, cnonce) = (get("nc")?, get("cnonce")?);
        let count =
            u32::from_str_radix(nc, 16).ok().filter(|_| nc.len() == 8).ok_or(Refused::Wrong)?;
        let user = self.users.iter().find(|user| user.username == username);
        let proof = Proof {
            algorithm,
            username,
            realm: &self.realm,
            // A stranger costs the same hashing as a user.
            password: user.map_or("", |user| user.password.expose_secret()),
            method,
            uri,
            nonce,
            counted: Some((nc, cnonce)),
        };
        let right: bool =
            proof.response().as_bytes().ct_eq(response.to_ascii_lowercase().as_bytes()).into();
        if user.is_none() || !right {
            return Err(Refused::Wrong);
        }
        // The password is right; whether it is fresh is another question.
        if !self.is_fresh(now, source, nonce) {
            return Err(Refused::Stale);
        }
        let is_full = self.counts.len() >= MAX_NONCES;
        match self.counts.get_mut(nonce) {
            Some((seen, _)) if count <= *seen => return Err(Refused::Stale),
            Some((seen, _)) => *seen = count,
            None if is_full => return Err(Refused::Stale),
            None => {
                self.counts.insert(nonce.to_owned(), (count, now));
            }
        }
        Ok(username.to_owned())
    }

    /// `<seconds>-<number>-<keyed hash of both and source>`: bound to time and place without keeping anything.
    fn nonce(&self, seconds: u64, number: u64, source: IpAddr) -> String {
        let words = ["nonce", &seconds.to_string(), &number.to_string(), &source.to_string()];
        format!("{seconds:x}-{number:x}-{}", hex(&self.secret.hash(&words)[..16]))
    }

    fn is_fresh(&self, now: Instant, source: IpAddr, nonce: &str) -> bool {
        let mut numbers = nonce.split('-').map_while(|part| u64::from_str_radix(part, 16).ok());
        let (Some(seconds), Some(number)) = (numbers.next(), numbers.next()) else { return false };
        let elapsed = now.saturating_duration_since(self.epoch).as_secs();
        seconds <= elapsed
            && elapsed - seconds <= NONCE_LIFETIME.as_secs()
            && bool::from(self.nonce(seconds, number, source).as_bytes().ct_eq(nonce.as_bytes()))
    }

    fn forget(&mut self, now: Instant) {
        // A second more than a nonce lives: its age counts in whole seconds.
        let nonce_age = NONCE_LIFETIME + Duration::from_secs(1);
        self.counts.retain(|_, (_, at)| now.saturating_duration_since(*at) <= nonce_age);
        self.failures.retain(|_, (_, at)| now.saturating_duration_since(*at) <= FAILURE_MEMORY);
    }
}

enum Refused {
    Wrong,
    Stale,
}

/// Answers the challenges of a 401 or 407 to our request: name and value of the header to add. None when no
/// challenge uses an algorithm and protection we know.
pub(crate) fn authorize(
    status: u16,
    challenges: &Headers,
    method: &str,
    uri: &str,
    credential: &Credential,
    cnonce: &str,
) -> Option<(&'static str, String)> {
    let (asked, answered) = match status {
        401 => ("WWW-Authenticate", "Authorization"),
        407 => ("Proxy-Authenticate", "Proxy-Authorization"),
        _ => return None,
    };
    let (params, algorithm) =
        challenges.all(asked).filter_map(Params::parse).find_map(|params| {
            Algorithm::named(params.get("algorithm")).map(|algorithm| (params, algorithm))
        })?;
    let (realm, nonce) = (params.get("realm")?, params.get("nonce")?);
    let counted = match params.get("qop") {
        None => false,
        Some(qop) => {
            if !qop.split(',').any(|qop| qop.trim() == "auth") {
                return None;
            }
            true
        }
    };
    let proof = Proof {
        algorithm,
        username: &credential.username,
        realm,
        password: credential.password.expose_secret(),
        method,
        uri,
        nonce,
        counted: counted.then_some(("00000001", cnonce)),
    };
    let mut value = format!(
        "Digest username=\"{}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", response=\"{}\", algorithm={}",
        credential.username,
        proof.response(),
        algorithm.name()
    );
    if counted {
        value.push_str(&format!(", qop=auth, nc=00000001, cnonce=\"{cnonce}\""));
    }
    if let Some(opaque) = params.get("opaque") {
        value.push_str(&format!(", opaque=\"{opaque}\""));
    }
    Some((answered, value))
}

/// `Digest name=value, name="value"`.
struct Params(Vec<(String, String)>);

impl Params {
    fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(char::is_whitespace)?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        let params =
            split_outside_quotes(rest, ',').take(32).filter_map(|param| param.split_once('='));
        Some(Self(
            params
                .map(|(name, value)| {
                    (name.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_owned())
                })
                .collect(),
        ))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
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
        challenge
            .push("WWW-Authenticate", side.challenges(now, source(), false)[algorithm].clone());
        let credential = Credential { username: "pbx1".into(), password: password.into() };
        let (name, value) =
            authorize(401, &challenge, "INVITE", URI, &credential, "7b2e41d0").unwrap();
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
            assert_eq!(
                side.verify(now, source(), "INVITE", &headers),
                Verdict::Valid("pbx1".into())
            );
        }
    }

    #[test]
    fn calls_that_come_at_once_are_all_let_in() {
        let now = Instant::now();
        let mut side = authenticator(now);
        let answers: Vec<_> =
            (0..20).map(|n| credentials(&mut side, now, n % 2, "s3cret")).collect();
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
            (
                "without qop",
                "INVITE",
                value.replace("qop=auth, ", ""),
                "198.51.100.5",
                0,
                no.clone(),
            ),
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
}
