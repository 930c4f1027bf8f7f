//! Where a tool's calls are sent, and how.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::{AddressError, HttpClient};

/// The longest URL, in bytes (control API 10.3).
const MAX_URL: usize = 2_048;

/// The most headers of one's own.
const MAX_HEADERS: usize = 20;

/// The longest value of such a header, in bytes.
const MAX_VALUE: usize = 4_096;

/// Headers that are ours or the connection's to set.
const OURS: [&str; 15] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "idempotency-key",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// What names of ours begin with.
const OUR_PREFIXES: [&str; 2] = ["x-webhook-", "proxy-"];

/// How arguments travel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Method {
    /// In the body.
    #[default]
    Post,
    /// In the query.
    Get,
}

/// What the body of a request holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BodyFormat {
    /// The arguments and what is known of the call (control API 11.1).
    #[default]
    Envelope,
    /// The arguments alone.
    Args,
}

/// Where a tool's calls are sent, and how. Secrets print as nothing.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// `https`, or `http` to an allowed address.
    pub url: Url,
    /// How the arguments travel.
    pub method: Method,
    /// Headers of one's own.
    pub headers: Vec<(String, SecretString)>,
    /// What the body holds.
    pub body: BodyFormat,
    /// Sent as the bearer, and what the signature is made with.
    pub key: Option<SecretString>,
    /// `X-Webhook-Source`.
    pub source: String,
}

/// Why a webhook's settings are of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// The URL must not be called.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The URL is too long.
    #[error("the URL has {0} bytes, at most {MAX_URL} are allowed")]
    LongUrl(usize),
    /// Too many headers.
    #[error("{0} headers, at most {MAX_HEADERS} are allowed")]
    ManyHeaders(usize),
    /// The header is ours to set.
    #[error("the header {0:?} is set by Tandem itself")]
    OurHeader(String),
    /// The name or the value of a header cannot be sent.
    #[error("the header {0:?} has a name or a value that cannot be sent")]
    BadHeader(String),
    /// The key cannot be sent as a bearer.
    #[error("the key has characters that cannot be sent in a header")]
    BadKey,
    /// The source cannot be sent.
    #[error("the source {0:?} has characters that cannot be sent in a header")]
    BadSource(String),
}

impl Webhook {
    /// The envelope by POST to `url`, without a key.
    pub fn new(url: Url) -> Self {
        Self {
            url,
            method: Method::Post,
            headers: Vec::new(),
            body: BodyFormat::Envelope,
            key: None,
            source: "tandem".into(),
        }
    }

    /// Checks everything that can be known without asking anybody.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong; no secret is repeated.
    pub fn check(&self, client: &HttpClient) -> Result<(), WebhookError> {
        client.for_url(&self.url)?;
        let length = self.url.as_str().len();
        if length > MAX_URL {
            return Err(WebhookError::LongUrl(length));
        }
        self.fixed_headers().map(drop)
    }

    /// The headers that are the same for every request: one's own, the bearer, the source.
    pub(crate) fn fixed_headers(&self) -> Result<HeaderMap, WebhookError> {
        if self.headers.len() > MAX_HEADERS {
            return Err(WebhookError::ManyHeaders(self.headers.len()));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let bad = || WebhookError::BadHeader(name.chars().take(64).collect());
            let lower = name.to_ascii_lowercase();
            let ours = OUR_PREFIXES.iter().any(|prefix| lower.starts_with(prefix));
            if ours || OURS.contains(&lower.as_str()) {
                return Err(WebhookError::OurHeader(lower));
            }
            let value = value.expose_secret();
            if value.len() > MAX_VALUE {
                return Err(bad());
            }
            let header = HeaderName::from_bytes(lower.as_bytes()).map_err(|_| bad())?;
            headers.append(header, secret_value(value).ok_or_else(bad)?);
        }
        if let Some(key) = &self.key {
            let bearer = SecretString::from(format!("Bearer {}", key.expose_secret()));
            let value = secret_value(bearer.expose_secret()).ok_or(WebhookError::BadKey)?;
            headers.insert(reqwest::header::AUTHORIZATION, value);
        }
        let source = HeaderValue::from_str(&self.source)
            .map_err(|_| WebhookError::BadSource(self.source.clone()))?;
        headers.insert("x-webhook-source", source);
        Ok(headers)
    }
}

fn secret_value(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(headers: &[(&str, &str)]) -> Webhook {
        Webhook {
            headers: headers.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
            ..Webhook::new("https://crm.example.com/tandem".parse().expect("a URL"))
        }
    }

    #[tokio::test]
    async fn settings_of_no_use_are_refused() {
        let client = HttpClient::new(Vec::new(), None).await.expect("a client");
        webhook(&[("X-Team", "sales"), ("X-Team", "more")]).check(&client).expect("good settings");
        for (headers, error) in [
            (&[("Authorization", "Basic x")][..], WebhookError::OurHeader("authorization".into())),
            (&[("content-length", "5")], WebhookError::OurHeader("content-length".into())),
            (&[("X-Webhook-ID", "5")], WebhookError::OurHeader("x-webhook-id".into())),
            (&[("Idempotency-Key", "5")], WebhookError::OurHeader("idempotency-key".into())),
            (&[("X Team", "5")], WebhookError::BadHeader("X Team".into())),
            (&[("X-Team", "a\r\nb: c")], WebhookError::BadHeader("X-Team".into())),
            (&[("x", "5"); 21], WebhookError::ManyHeaders(21)),
        ] {
            assert_eq!(webhook(headers).check(&client), Err(error), "{headers:?}");
        }
        let local = Webhook::new("https://127.0.0.1/".parse().expect("a URL"));
        assert!(matches!(local.check(&client), Err(WebhookError::Address(_))));
        let long = format!("https://crm.example.com/{}", "x".repeat(2_048));
        let long = Webhook::new(long.parse().expect("a URL"));
        assert!(matches!(long.check(&client), Err(WebhookError::LongUrl(_))));
        let key = Webhook { key: Some("a\nb".into()), ..webhook(&[]) };
        assert_eq!(key.check(&client), Err(WebhookError::BadKey));
        let source = Webhook { source: "ta\0m".into(), ..webhook(&[]) };
        assert!(matches!(source.check(&client), Err(WebhookError::BadSource(_))));
    }

    #[test]
    fn secrets_do_not_print() {
        let webhook =
            Webhook { key: Some("s3cret-key".into()), ..webhook(&[("X-Team", "s3cret-value")]) };
        let headers = webhook.fixed_headers().expect("good headers");
        assert_eq!(headers["authorization"], "Bearer s3cret-key");
        for text in [format!("{webhook:?}"), format!("{headers:?}")] {
            assert!(!text.contains("s3cret"), "{text}");
        }
    }
}
