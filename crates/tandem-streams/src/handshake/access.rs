//! Who may open a fork.

use std::{fmt, net::IpAddr};

use base64_simd::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::token::{TokenError, verify_token};

/// A token or signing secret shorter than this is refused: it could be guessed.
const SHORTEST_SECRET: usize = 16;

/// What opens a fork. Any one of them is enough.
#[derive(Debug, Clone, Default)]
pub struct ForkCredentials {
    /// User and password of HTTP Basic (RFC 7617).
    pub users: Vec<(String, SecretString)>,
    /// Tokens that open any call's fork, as `Authorization: Bearer` or as `token` in the query.
    pub tokens: Vec<SecretString>,
    /// The secret of the tokens that `sign_token` makes, which open one call's fork.
    pub signing: Option<SecretString>,
    /// Whoever connects from this host needs nothing. Not behind a proxy, which makes everybody come from this host.
    pub open_on_loopback: bool,
}

/// What is wrong with the credentials of a listener.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// No fork could ever come in.
    #[error(
        "no user, token or signing secret is set, and loopback is not open: no fork could come in"
    )]
    None,
    /// A name that HTTP Basic cannot carry.
    #[error("the user name {0:?} is empty or has a colon in it, which HTTP Basic cannot carry")]
    BadUser(String),
    /// A user without a password.
    #[error("user {0:?} has an empty password")]
    NoPassword(String),
    /// Could be guessed.
    #[error("a {0} has less than {SHORTEST_SECRET} characters")]
    TooShort(&'static str),
}

/// What a connection was let in for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthenticatedAs {
    /// A user with the right password.
    User(String),
    /// The bearer of a token for any call.
    Token,
    /// The bearer of a token for the call with this id.
    Call(String),
    /// Somebody on this host, without credentials.
    Loopback,
}

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It brought no credentials.
    Missing,
    /// It brought some that open nothing.
    Wrong,
    /// Its token's time is over.
    Expired,
    /// Its token is for another call than the one it names.
    OtherCall,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => {
                "credentials are missing: HTTP Basic, a bearer token, or token=... in the URL"
            }
            Self::Wrong => "the credentials are wrong",
            Self::Expired => "the token has expired",
            Self::OtherCall => "the token is for another call",
        })
    }
}

/// What a request says about who sends it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) peer: IpAddr,
    /// The `Authorization` header.
    pub(crate) authorization: Option<&'a [u8]>,
    /// The `token` of the query.
    pub(crate) token: Option<&'a str>,
    /// The call that the query names.
    pub(crate) call: Option<&'a str>,
}

impl ForkCredentials {
    /// Whether these are credentials that let somebody in and keep others out.
    pub fn check(&self) -> Result<(), CredentialsError> {
        let nothing = self.users.is_empty() && self.tokens.is_empty() && self.signing.is_none();
        if nothing && !self.open_on_loopback {
            return Err(CredentialsError::None);
        }
        for (user, password) in &self.users {
            if user.is_empty() || user.contains(':') {
                return Err(CredentialsError::BadUser(user.clone()));
            }
            if password.expose_secret().is_empty() {
                return Err(CredentialsError::NoPassword(user.clone()));
            }
        }
        let short = |secret: &SecretString| secret.expose_secret().len() < SHORTEST_SECRET;
        if self.tokens.iter().any(short) {
            return Err(CredentialsError::TooShort("token"));
        }
        if self.signing.as_ref().is_some_and(short) {
            return Err(CredentialsError::TooShort("signing secret"));
        }
        Ok(())
    }

    /// Whom to let in. A connection with wrong credentials is refused also where it would need none.
    pub(crate) fn admit(&self, claim: Claim<'_>, now_unix: u64) -> Result<AuthenticatedAs, Denied> {
        let by_header = claim.authorization.map(|header| self.header(header, claim.call, now_unix));
        let by_query = claim.token.map(|token| self.token(token, claim.call, now_unix));
        match (by_header, by_query) {
            (Some(Ok(who)), _) | (_, Some(Ok(who))) => Ok(who),
            (_, Some(Err(denied))) | (Some(Err(denied)), None) => Err(denied),
            (None, None) if self.open_on_loopback && claim.peer.to_canonical().is_loopback() => {
                Ok(AuthenticatedAs::Loopback)
            }
            (None, None) => Err(Denied::Missing),
        }
    }

    fn header(
        &self,
        header: &[u8],
        call: Option<&str>,
        now_unix: u64,
    ) -> Result<AuthenticatedAs, Denied> {
        let header = str::from_utf8(header).map_err(|_| Denied::Wrong)?;
        let (scheme, value) = header.trim().split_once(' ').ok_or(Denied::Wrong)?;
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.token(value, call, now_unix);
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(Denied::Wrong);
        }
        let pair = STANDARD.decode_to_vec(value).map_err(|_| Denied::Wrong)?;
        let colon = pair.iter().position(|byte| *byte == b':').ok_or(Denied::Wrong)?;
        let (user, password) = (&pair[..colon], &pair[colon + 1..]);
        let mut who = None;
        for (known, secret) in &self.users {
            // Every user is compared, whether or not one fitted already.
            if same(known.as_bytes(), user) & same(secret.expose_secret().as_bytes(), password) {
                who = Some(AuthenticatedAs::User(known.clone()));
            }
        }
        who.ok_or(Denied::Wrong)
    }

    fn token(
        &self,
        token: &str,
        call: Option<&str>,
        now_unix: u64,
    ) -> Result<AuthenticatedAs, Denied> {
        let mut known = false;
        for secret in &self.tokens {
            known |= same(secret.expose_secret().as_bytes(), token.as_bytes());
        }
        if known {
            return Ok(AuthenticatedAs::Token);
        }
        let secret = self.signing.as_ref().ok_or(Denied::Wrong)?;
        match verify_token(secret, token, now_unix) {
            Ok(signed) if call.is_none_or(|call| call == signed) => {
                Ok(AuthenticatedAs::Call(signed))
            }
            Ok(_) => Err(Denied::OtherCall),
            Err(TokenError::Expired) => Err(Denied::Expired),
            Err(TokenError::Forged) => Err(Denied::Wrong),
        }
    }
}

/// Compares in a time that tells neither where nor in length the two differ.
fn same(secret: &[u8], given: &[u8]) -> bool {
    Sha256::digest(secret).ct_eq(&Sha256::digest(given)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::sign_token;

    const NOW: u64 = 1_000;

    fn credentials() -> ForkCredentials {
        ForkCredentials {
            users: vec![("alice".into(), "s3cret".into()), ("bob".into(), "with:colon".into())],
            tokens: vec!["a-static-token-of-some-length".into()],
            signing: Some("0123456789abcdef".into()),
            open_on_loopback: true,
        }
    }

    fn basic(pair: &str) -> Vec<u8> {
        format!("Basic {}", STANDARD.encode_to_string(pair)).into_bytes()
    }

    #[test]
    fn who_is_let_in_and_who_is_not() {
        let good = sign_token(&"0123456789abcdef".into(), "7f1e", NOW + 60);
        let late = sign_token(&"0123456789abcdef".into(), "7f1e", NOW);
        let forged = sign_token(&"fedcba9876543210".into(), "7f1e", NOW + 60);
        let user = |name: &str| Ok(AuthenticatedAs::User(name.into()));
        let call = || Ok(AuthenticatedAs::Call("7f1e".into()));
        let bearer = |token: &str| format!("bearer {token}").into_bytes();
        let remote = "192.0.2.7";
        for (name, peer, header, token, named, expected) in [
            ("password", remote, Some(basic("alice:s3cret")), None, None, user("alice")),
            ("colon in it", remote, Some(basic("bob:with:colon")), None, None, user("bob")),
            ("other's", remote, Some(basic("alice:with:colon")), None, None, Err(Denied::Wrong)),
            ("start of it", remote, Some(basic("alice:s3cre")), None, None, Err(Denied::Wrong)),
            ("empty", remote, Some(basic(":")), None, None, Err(Denied::Wrong)),
            ("no colon", remote, Some(basic("alice")), None, None, Err(Denied::Wrong)),
            ("no base64", remote, Some(b"Basic %%%".to_vec()), None, None, Err(Denied::Wrong)),
            ("no scheme", remote, Some(b"YWxpY2U6".to_vec()), None, None, Err(Denied::Wrong)),
            ("digest", remote, Some(b"Digest a=b".to_vec()), None, None, Err(Denied::Wrong)),
            ("no text", remote, Some(b"Basic \xFF".to_vec()), None, None, Err(Denied::Wrong)),
            (
                "static bearer",
                remote,
                Some(bearer("a-static-token-of-some-length")),
                None,
                Some("x"),
                Ok(AuthenticatedAs::Token),
            ),
            (
                "static query",
                remote,
                None,
                Some("a-static-token-of-some-length"),
                None,
                Ok(AuthenticatedAs::Token),
            ),
            ("signed bearer", remote, Some(bearer(&good)), None, None, call()),
            ("signed query", remote, None, Some(good.as_str()), Some("7f1e"), call()),
            (
                "for another",
                remote,
                None,
                Some(good.as_str()),
                Some("7f1f"),
                Err(Denied::OtherCall),
            ),
            ("late", remote, None, Some(late.as_str()), None, Err(Denied::Expired)),
            ("forged", remote, None, Some(forged.as_str()), None, Err(Denied::Wrong)),
            ("empty token", remote, None, Some(""), None, Err(Denied::Wrong)),
            ("nothing", remote, None, None, None, Err(Denied::Missing)),
            ("nothing, here", "127.0.0.1", None, None, None, Ok(AuthenticatedAs::Loopback)),
            ("nothing, here", "::ffff:127.0.0.1", None, None, None, Ok(AuthenticatedAs::Loopback)),
            ("nothing, here", "::1", None, None, None, Ok(AuthenticatedAs::Loopback)),
            ("wrong, here", "127.0.0.1", None, Some("wrong"), None, Err(Denied::Wrong)),
            ("either", remote, Some(basic("x:y")), Some(good.as_str()), None, call()),
            ("either", remote, Some(basic("alice:s3cret")), Some("wrong"), None, user("alice")),
        ] {
            let claim = Claim {
                peer: peer.parse().unwrap(),
                authorization: header.as_deref(),
                token,
                call: named,
            };
            assert_eq!(credentials().admit(claim, NOW), expected, "{name}");
        }
    }

    #[test]
    fn loopback_is_closed_by_default() {
        let claim = Claim {
            peer: "127.0.0.1".parse().unwrap(),
            authorization: None,
            token: None,
            call: None,
        };
        assert_eq!(ForkCredentials::default().admit(claim, NOW), Err(Denied::Missing));
    }

    #[test]
    fn credentials_that_keep_nobody_out_or_everybody_are_refused() {
        let none = ForkCredentials::default();
        let user = |name: &str, password: &str| ForkCredentials {
            users: vec![(name.into(), password.into())],
            ..ForkCredentials::default()
        };
        for (credentials, expected) in [
            (credentials(), Ok(())),
            (none.clone(), Err(CredentialsError::None)),
            (ForkCredentials { open_on_loopback: true, ..none.clone() }, Ok(())),
            (user("a:b", "x"), Err(CredentialsError::BadUser("a:b".into()))),
            (user("", "x"), Err(CredentialsError::BadUser(String::new()))),
            (user("a", ""), Err(CredentialsError::NoPassword("a".into()))),
            (
                ForkCredentials { tokens: vec!["short".into()], ..none.clone() },
                Err(CredentialsError::TooShort("token")),
            ),
            (
                ForkCredentials { signing: Some("".into()), ..none },
                Err(CredentialsError::TooShort("signing secret")),
            ),
        ] {
            assert_eq!(credentials.check(), expected);
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let printed = format!("{:?}", credentials());
        for secret in ["s3cret", "with:colon", "a-static-token", "0123456789abcdef"] {
            assert!(!printed.contains(secret), "{printed}");
        }
    }
}
