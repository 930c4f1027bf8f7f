//! Where the calls of tools are sent, and the secrets that go there with them.

use std::ops::Range;

use secrecy::{ExposeSecret, SecretString};
use tandem_tools::AddressRule;
use url::Url;

use super::{
    reader::{Section, Value},
    secret::{Surroundings, secret_source},
};

/// The longest URL, in bytes.
const LONGEST_URL: usize = 2_048;

/// The longest value of a header, in bytes.
const LONGEST_HEADER: usize = 2_048;

/// Headers that a request has anyway, or that belong to the connection.
const OWN_HEADERS: [&str; 17] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "idempotency-key",
    "keep-alive",
    "last-event-id",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// What the names of further ones begin with.
const OWN_PREFIXES: [&str; 3] = ["mcp-", "proxy-", "x-webhook-"];

/// A URL and the key that goes there, as they stand in one table. What one table lacks the next wider one may have.
#[derive(Debug, Clone, Default)]
pub struct Receiver {
    /// Where requests go.
    pub url: Option<Url>,
    /// Says who we are, and signs.
    pub key: Option<SecretString>,
}

impl Receiver {
    /// What holds where `self` stands inside `wider`.
    ///
    /// A key goes to the server it was written for only: where the URL is one's own, the wider key is taken when it
    /// leads to the same server.
    pub fn within(&self, wider: &Self) -> Self {
        let url = self.url.clone().or_else(|| wider.url.clone());
        let same_server = match (&self.url, &wider.url) {
            (Some(own), Some(wide)) => own.origin() == wide.origin(),
            (Some(_), None) => false,
            (None, _) => true,
        };
        let wider_key = wider.key.clone().filter(|_| same_server);
        Self { url, key: self.key.clone().or(wider_key) }
    }
}

/// The keys under which a [`Receiver`] stands: its URL, then the secret in three ways.
pub(crate) type ReceiverKeys = [&'static str; 4];

/// Reads a [`Receiver`].
pub(crate) fn read_receiver(
    section: &mut Section<'_, '_>,
    [url, key, key_env, key_file]: ReceiverKeys,
    rule: &AddressRule,
    surroundings: &Surroundings<'_>,
) -> Receiver {
    let url = section.value(url).and_then(|value| read_url(&value, rule));
    Receiver { url, key: read_secret(section, [key, key_env, key_file], surroundings) }
}

/// Reads the URL of a web server that may be called.
pub(crate) fn read_url(value: &Value<'_, '_>, rule: &AddressRule) -> Option<Url> {
    let url = value.parsed(parse_url)?;
    if let Err(why) = rule.check_url(&url) {
        value.mistakes().error_with_fix(
            &value.span(),
            format!("`{}`: {why}", value.path()),
            "write its network into `allow` of [tools], such as allow = [\"127.0.0.0/8\"]",
        );
    }
    Some(url)
}

/// Reads a secret that must be there when it is named.
pub(crate) fn read_secret(
    section: &mut Section<'_, '_>,
    keys: [&'static str; 3],
    surroundings: &Surroundings<'_>,
) -> Option<SecretString> {
    let named = secret_source(section, keys)?;
    let span = keys[1..].iter().find_map(|key| Some(section.value(key)?.span()));
    let span = span.unwrap_or_else(|| section.span().clone());
    secret_of(&named, section, &span, surroundings)
}

fn secret_of(
    source: &super::SecretSource,
    section: &Section<'_, '_>,
    span: &Range<usize>,
    surroundings: &Surroundings<'_>,
) -> Option<SecretString> {
    match source.read(surroundings) {
        Ok(secret) => Some(secret),
        Err(why) => {
            section.mistakes().error_with_fix(
                span,
                format!("[{}] has no key: {why}", section.path()),
                "set it, or remove the line",
            );
            None
        }
    }
}

/// Reads the headers that go with each request: a text, or `{ env = "…" }` or `{ file = "…" }` for what is secret.
pub(crate) fn read_headers(
    section: Section<'_, '_>,
    surroundings: &Surroundings<'_>,
) -> Vec<(String, SecretString)> {
    let mut headers: Vec<(String, SecretString)> = Vec::new();
    for (name, value) in section.entries(20) {
        let name = name.to_ascii_lowercase();
        if let Err((why, fix)) = check_header(&name) {
            let message = format!("`{}`: {why}", value.path());
            value.mistakes().error_with_fix(value.key_span(), message, fix);
            continue;
        }
        if headers.iter().any(|(known, _)| *known == name) {
            let message = format!("`{}`: this header is here twice", value.path());
            value.mistakes().error(value.key_span(), message);
            continue;
        }
        headers.extend(read_header(&value, surroundings).map(|text| (name, text)));
    }
    headers
}

fn check_header(name: &str) -> Result<(), (&'static str, &'static str)> {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || name.len() > 100 || !name.chars().all(token) {
        return Err(("this is no name of a header", "as in \"X-Team\""));
    }
    if name == "authorization" {
        return Err((
            "Tandem makes this header itself, from the key",
            "use `key_env` or `key_file`",
        ));
    }
    if OWN_HEADERS.contains(&name) || OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return Err(("Tandem makes this header itself", "remove it"));
    }
    Ok(())
}

fn read_header(value: &Value<'_, '_>, surroundings: &Surroundings<'_>) -> Option<SecretString> {
    let good = |text: &str| text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    read_secret_text(value, surroundings, LONGEST_HEADER, &good)
}

/// A text of at most `max` bytes that may be secret: as it stands, or `{ env = "…" }` or `{ file = "…" }`.
pub(crate) fn read_secret_text(
    value: &Value<'_, '_>,
    surroundings: &Surroundings<'_>,
    max: usize,
    good: &dyn Fn(&str) -> bool,
) -> Option<SecretString> {
    let text = if value.is_string() {
        SecretString::from(value.string(max)?.to_owned())
    } else if value.is_table() {
        let mut section = value.section()?;
        let Some(source) = secret_source(&mut section, ["value", "env", "file"]) else {
            let message = format!("`{}` must have `env` or `file`", value.path());
            section.mistakes().error(section.span(), message);
            return None;
        };
        let text = secret_of(&source, &section, value.key_span(), surroundings);
        section.finish(&[]);
        text?
    } else {
        return value.expected("a string, { env = \"…\" } or { file = \"…\" }");
    };
    let open = text.expose_secret();
    if open.len() > max || !good(open) {
        // Not repeated: it may be a secret.
        let message = format!("`{}` holds signs that can't be sent, or is too long", value.path());
        value.mistakes().error(value.key_span(), message);
        return None;
    }
    Some(text)
}

/// A URL of a web server, without a user part.
fn parse_url(text: &str) -> Result<Url, String> {
    const LIKE: &str = "must look like \"https://crm.example.com/tandem\"";
    if text.len() > LONGEST_URL {
        return Err(format!("is longer than {LONGEST_URL} characters"));
    }
    let Ok(url) = Url::parse(text) else { return Err(LIKE.into()) };
    // Not repeated: it may be a password.
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must hold no user name or password: use the key, or a header".into());
    }
    if url.fragment().is_some() {
        return Err("must not have a part behind \"#\": it would never be sent".into());
    }
    match url.scheme() {
        "https" | "http" if url.host_str().is_some_and(|host| !host.is_empty()) => Ok(url),
        _ => Err(LIKE.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver(url: Option<&str>, key: Option<&str>) -> Receiver {
        Receiver {
            url: url.map(|url| Url::parse(url).unwrap()),
            key: key.map(|key| SecretString::from(key.to_owned())),
        }
    }

    #[test]
    fn a_key_goes_to_the_server_it_was_written_for_only() {
        const A: Option<&str> = Some("https://a.example/x");
        const A_TOO: Option<&str> = Some("https://a.example:443/y");
        const B: Option<&str> = Some("https://b.example/x");
        for (own, wider, url, key) in [
            ((None, None), (A, Some("w")), A, Some("w")),
            ((A_TOO, None), (A, Some("w")), A_TOO, Some("w")),
            ((B, None), (A, Some("w")), B, None),
            ((B, Some("o")), (A, Some("w")), B, Some("o")),
            ((None, Some("o")), (A, Some("w")), A, Some("o")),
            ((B, None), (None, Some("w")), B, None),
            ((None, None), (None, None), None, None),
        ] {
            let both = receiver(own.0, own.1).within(&receiver(wider.0, wider.1));
            assert_eq!(both.url, url.map(|url| Url::parse(url).unwrap()));
            let open = both.key.as_ref().map(|key| key.expose_secret());
            assert_eq!(open, key, "{own:?} within {wider:?}");
        }
    }

    #[test]
    fn urls_and_headers_have_a_shape() {
        for (text, good) in [
            ("https://crm.example.com/tandem?x=1", true),
            ("http://127.0.0.1:8080", true),
            ("ftp://crm.example.com", false),
            ("crm.example.com", false),
            ("https://me:secret@crm.example.com", false),
            ("https://crm.example.com/#x", false),
            ("https://", false),
        ] {
            assert_eq!(parse_url(text).is_ok(), good, "{text}");
        }
        assert!(!parse_url("https://me:secret@crm.example.com").unwrap_err().contains("secret"));
        for (name, good) in [
            ("x-team", true),
            ("authorization", false),
            ("content-length", false),
            ("x-webhook-source", false),
            ("mcp-session-id", false),
            ("x team", false),
            ("", false),
        ] {
            assert_eq!(check_header(name).is_ok(), good, "{name}");
        }
    }
}
