//! Digest authentication (RFC 3261 §22, RFC 7616, RFC 8760): our challenges, and our answers to those of others.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::{Duration, Instant},
};

use md5::{Digest, Md5};
use secrecy::ExposeSecret;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::{
    Credential, admission::bucket_key, headers::Headers, ids::Secret, uri::split_outside_quotes,
};

/// How long a nonce may be used.
const NONCE_LIFETIME: Duration = Duration::from_secs(60);
/// Nonces with a used count that are remembered. Above it the oldest is forgotten, and no nonce as old is good any more.
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
    /// The nonces that were used, by number.
    used: BTreeMap<u64, Used>,
    /// Of the nonces up to this number it is not known whether they were used, unless they stand in `used`.
    forgotten: u64,
    /// Wrong passwords of each source.
    failures: HashMap<IpAddr, (u32, Instant)>,
}

/// A nonce of ours.
#[derive(Debug, Clone, Copy)]
struct Nonce {
    /// Seconds since the epoch at which it was given.
    seconds: u64,
    number: u64,
}

/// What is known of a nonce that was used.
#[derive(Debug, Clone, Copy)]
struct Used {
    seconds: u64,
    /// The highest count seen.
    count: u32,
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
            used: BTreeMap::new(),
            forgotten: 0,
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
        let nonce = Nonce { seconds: self.seconds(now), number: self.issued };
        let nonce = self.nonce(nonce, source);
        Algorithm::ALL.map(|algorithm| {
            format!(
                "Digest realm=\"{}\", nonce=\"{nonce}\", algorithm={}, qop=\"auth\"{}",
                self.realm,
                algorithm.name(),
                if stale { ", stale=true" } else { "" }
            )
        })
    }

    /// Looks whether an Authorization header is worth a look at its password: keeps nothing and hashes once. None
    /// when it is; else what to answer.
    pub(crate) fn turn_away(
        &self,
        now: Instant,
        source: IpAddr,
        headers: &Headers,
    ) -> Option<Verdict> {
        let Some(params) = self.ours(headers) else {
            return Some(Verdict::Challenge { stale: false });
        };
        if self.has_failed(now, source) {
            return Some(Verdict::Refuse);
        }
        let nonce = params.get("nonce").and_then(|nonce| self.read_nonce(now, source, nonce));
        nonce.is_none().then_some(Verdict::Challenge { stale: true })
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
        let Some(params) = self.ours(headers) else { return Verdict::Challenge { stale: false } };
        if self.has_failed(now, source) {
            return Verdict::Refuse;
        }
        let key = bucket_key(source);
        match self.check(now, source, method, &params) {
            Ok(username) => {
                self.failures.remove(&key);
                Verdict::Valid(username)
            }
            Err(Refused::Stale) => Verdict::Challenge { stale: true },
            Err(Refused::Wrong) => {
                if self.failures.len() < MAX_FAILING || self.failures.contains_key(&key) {
                    let failures = self.failures.entry(key).or_insert((0, now));
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
        let nonce = self.read_nonce(now, source, nonce).ok_or(Refused::Stale)?;
        match self.used.get_mut(&nonce.number) {
            Some(used) if count <= used.count => return Err(Refused::Stale),
            Some(used) => used.count = count,
            None if nonce.number <= self.forgotten => return Err(Refused::Stale),
            None => {
                self.used.insert(nonce.number, Used { seconds: nonce.seconds, count });
                if self.used.len() > MAX_NONCES
                    && let Some((oldest, _)) = self.used.pop_first()
                {
                    self.forgotten = oldest;
                }
            }
        }
        Ok(username.to_owned())
    }

    /// The credentials for our realm.
    fn ours(&self, headers: &Headers) -> Option<Params> {
        headers
            .all("Authorization")
            .filter_map(Params::parse)
            .find(|params| params.get("realm") == Some(self.realm.as_str()))
    }

    /// Whether the source has sent too many wrong passwords.
    fn has_failed(&self, now: Instant, source: IpAddr) -> bool {
        self.failures.get(&bucket_key(source)).is_some_and(|(count, at)| {
            *count >= MAX_FAILURES && now.saturating_duration_since(*at) <= FAILURE_MEMORY
        })
    }

    /// `<seconds>-<number>-<keyed hash of both and source>`: bound to time and place without keeping anything.
    fn nonce(&self, nonce: Nonce, source: IpAddr) -> String {
        let Nonce { seconds, number } = nonce;
        let words = ["nonce", &seconds.to_string(), &number.to_string(), &source.to_string()];
        format!("{seconds:x}-{number:x}-{}", hex(&self.secret.hash(&words)[..16]))
    }

    /// The nonce if it is ours, for this source, and not too old.
    fn read_nonce(&self, now: Instant, source: IpAddr, text: &str) -> Option<Nonce> {
        let mut numbers = text.split('-').map_while(|part| u64::from_str_radix(part, 16).ok());
        let nonce = Nonce { seconds: numbers.next()?, number: numbers.next()? };
        let age = self.seconds(now).checked_sub(nonce.seconds)?;
        let is_ours = bool::from(self.nonce(nonce, source).as_bytes().ct_eq(text.as_bytes()));
        (age <= NONCE_LIFETIME.as_secs() && is_ours).then_some(nonce)
    }

    /// Whole seconds since the epoch.
    fn seconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_secs()
    }

    fn forget(&mut self, now: Instant) {
        let seconds = self.seconds(now);
        while let Some(oldest) = self.used.first_entry()
            && seconds.saturating_sub(oldest.get().seconds) > NONCE_LIFETIME.as_secs()
        {
            oldest.remove();
        }
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
mod tests;
