//! Signed tokens: a URL that opens a fork for one call and until a set time.

use base64_simd::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// Longest token that is looked at; a call's id has far less than half of it.
const MAX_TOKEN: usize = 1_024;

/// Why a signed token opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token of ours, or was signed with another secret.
    #[error("the token was not signed here")]
    Forged,
    /// It was good until its time ran out.
    #[error("the token has expired")]
    Expired,
}

/// A token for the fork of `call`, good until the unix time `expires_unix`; it needs no escaping in a URL.
///
/// `base64url(call|expiry).base64url(HMAC-SHA256(secret, call|expiry))`, without padding.
pub fn sign_token(secret: &SecretString, call: &str, expires_unix: u64) -> String {
    let claim = format!("{call}|{expires_unix}");
    let mac = keyed(secret).chain_update(&claim).finalize().into_bytes();
    let mut token = URL_SAFE_NO_PAD.encode_to_string(claim);
    token.push('.');
    URL_SAFE_NO_PAD.encode_append(mac, &mut token);
    token
}

/// The call that `token` was signed for. The signature is compared in constant time and before anything else is read.
pub fn verify_token(
    secret: &SecretString,
    token: &str,
    now_unix: u64,
) -> Result<String, TokenError> {
    if token.len() > MAX_TOKEN {
        return Err(TokenError::Forged);
    }
    let (claim, mac) = token.split_once('.').ok_or(TokenError::Forged)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode_to_vec(part).map_err(|_| TokenError::Forged);
    let (claim, mac) = (decode(claim)?, decode(mac)?);
    keyed(secret).chain_update(&claim).verify_slice(&mac).map_err(|_| TokenError::Forged)?;
    let claim = String::from_utf8(claim).map_err(|_| TokenError::Forged)?;
    let (call, expiry) = claim.rsplit_once('|').ok_or(TokenError::Forged)?;
    let expiry: u64 = expiry.parse().map_err(|_| TokenError::Forged)?;
    if expiry <= now_unix { Err(TokenError::Expired) } else { Ok(call.to_owned()) }
}

fn keyed(secret: &SecretString) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret.expose_secret().as_bytes()).expect("HMAC takes a key of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = "9d1e6a52-7f4c-4f0a-8a1b-0c5f7b1f2e11";

    fn secret(text: &str) -> SecretString {
        SecretString::from(text)
    }

    #[test]
    fn a_token_opens_its_call_until_its_time() {
        let secret = secret("0123456789abcdef");
        for call in [CALL, "", "with|a bar and a ü"] {
            let token = sign_token(&secret, call, 1_000);
            assert!(
                token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)),
                "{token}"
            );
            assert_eq!(verify_token(&secret, &token, 999).as_deref(), Ok(call));
            assert_eq!(verify_token(&secret, &token, 1_000), Err(TokenError::Expired));
        }
    }

    #[test]
    fn the_signature_is_hmac_sha256() {
        // Computed with another program: HMAC-SHA256("0123456789abcdef", "7f1e|1000").
        assert_eq!(
            sign_token(&secret("0123456789abcdef"), "7f1e", 1_000),
            "N2YxZXwxMDAw.t2C7nc-PJQeQwi4XJH43saX3J6cKcaRmSlbxRtZ-5gY"
        );
    }

    #[test]
    fn whatever_is_changed_is_found_out() {
        let key = secret("0123456789abcdef");
        let token = sign_token(&key, CALL, 1_000);
        let other = sign_token(&key, "another call", 2_000);
        let (claim, mac) = token.split_once('.').unwrap();
        let (other_claim, _) = other.split_once('.').unwrap();
        for (name, forged) in [
            ("nothing", String::new()),
            ("no signature", claim.to_owned()),
            ("an empty one", format!("{claim}.")),
            ("half of it", format!("{claim}.{}", &mac[..20])),
            ("another's claim", format!("{other_claim}.{mac}")),
            ("no base64", format!("{claim}.{}", "!".repeat(43))),
            ("a second dot", format!("{token}.")),
            ("too long", format!("{}.{mac}", "a".repeat(MAX_TOKEN))),
        ] {
            assert_eq!(verify_token(&key, &forged, 0), Err(TokenError::Forged), "{name}");
        }
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(verify_token(&key, &changed, 0), Err(TokenError::Forged), "{at}");
        }
        let other_key = secret("0123456789abcdeg");
        assert_eq!(verify_token(&other_key, &token, 0), Err(TokenError::Forged));
    }
}
