//! SIP URIs and the name-addr form around them (RFC 3261 §19.1, §20.10).

use std::fmt::{self, Write as _};

/// Why text is no URI or no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// No scheme before a colon.
    #[error("no scheme")]
    NoScheme,
    /// A `sip:` URI without a host.
    #[error("no host")]
    NoHost,
    /// A port that is no number from 1 to 65535.
    #[error("bad port")]
    BadPort,
    /// An IPv6 address or a quote that is never closed, or a character that must be escaped.
    #[error("malformed")]
    Malformed,
}

/// How a URI is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:`; the number is in [`Uri::user`].
    Tel,
    /// Anything else; all of it is in [`Uri::host`].
    Other(String),
}

/// A URI. Parts stand as on the wire, percent-escapes included; [`Uri::user_text`] has them decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uri {
    /// `sip`, `sips`, `tel` or another.
    pub scheme: Scheme,
    /// User part, with a password if there is one.
    pub user: Option<String>,
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// Port, where one is given.
    pub port: Option<u16>,
    /// `;name=value` parameters.
    pub params: Vec<(String, Option<String>)>,
    /// `?name=value` headers.
    pub headers: Vec<(String, String)>,
}

impl Uri {
    /// Reads a URI.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let text = text.trim();
        if text.chars().any(|c| c.is_control() || c == ' ' || c == '<' || c == '>') {
            return Err(UriError::Malformed);
        }
        let (scheme, rest) = text.split_once(':').ok_or(UriError::NoScheme)?;
        let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        if !scheme_ok {
            return Err(UriError::NoScheme);
        }
        match scheme.to_ascii_lowercase().as_str() {
            "sip" => Self::parse_sip(Scheme::Sip, rest),
            "sips" => Self::parse_sip(Scheme::Sips, rest),
            "tel" => {
                let (number, params) = rest.split_once(';').unwrap_or((rest, ""));
                if number.is_empty() {
                    return Err(UriError::NoHost);
                }
                Ok(Self {
                    user: Some(number.into()),
                    params: parse_params(params),
                    ..Self::empty(Scheme::Tel)
                })
            }
            other => Ok(Self { host: rest.into(), ..Self::empty(Scheme::Other(other.into())) }),
        }
    }

    /// `sip:user@host:port`.
    pub fn sip(user: Option<&str>, host: &str, port: Option<u16>) -> Self {
        Self { user: user.map(Into::into), host: host.into(), port, ..Self::empty(Scheme::Sip) }
    }

    fn empty(scheme: Scheme) -> Self {
        Self {
            scheme,
            user: None,
            host: String::new(),
            port: None,
            params: Vec::new(),
            headers: Vec::new(),
        }
    }

    fn parse_sip(scheme: Scheme, rest: &str) -> Result<Self, UriError> {
        let (user, rest) = match rest.split_once('@') {
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, rest),
        };
        let (rest, headers) = rest.split_once('?').unwrap_or((rest, ""));
        let (host_port, params) = rest.split_once(';').unwrap_or((rest, ""));
        let (host, port) = parse_host_port(host_port)?;
        let headers = headers
            .split('&')
            .filter(|header| !header.is_empty())
            .map(|header| header.split_once('=').unwrap_or((header, "")))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Ok(Self { scheme, user, host, port, params: parse_params(params), headers })
    }

    /// The user part, unescaped, without a password.
    pub fn user_text(&self) -> Option<String> {
        let user = self.user.as_deref()?;
        Some(unescape(user.split_once(':').map_or(user, |(user, _)| user)))
    }

    /// The value of parameter `name`, compared without case; `Some("")` when it has none.
    pub fn param(&self, name: &str) -> Option<&str> {
        find_param(&self.params, name)
    }

    /// Whether it is `sip:` or `sips:`.
    pub const fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scheme {
            Scheme::Sip => f.write_str("sip:")?,
            Scheme::Sips => f.write_str("sips:")?,
            Scheme::Tel => f.write_str("tel:")?,
            Scheme::Other(scheme) => write!(f, "{scheme}:")?,
        }
        if let Some(user) = &self.user {
            f.write_str(user)?;
            if self.scheme != Scheme::Tel {
                f.write_char('@')?;
            }
        }
        if self.is_sip() {
            f.write_str(&host_text(&self.host, self.port))?;
        } else {
            f.write_str(&self.host)?;
        }
        write_params(f, &self.params)?;
        for (index, (name, value)) in self.headers.iter().enumerate() {
            write!(f, "{}{name}={value}", if index == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

/// An address header's value: a URI, a display name, and the header's own parameters such as `tag`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameAddr {
    /// Display name, unquoted.
    pub display: Option<String>,
    /// The address.
    pub uri: Uri,
    /// Parameters of the header, not of the URI.
    pub params: Vec<(String, Option<String>)>,
}

impl NameAddr {
    /// Reads the value of a From, To, Contact, Route or similar header.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let text = text.trim();
        let (display, rest) = if let Some(quoted) = text.strip_prefix('"') {
            let (name, rest) = unquote(quoted).ok_or(UriError::Malformed)?;
            (Some(name), rest.trim_start())
        } else {
            match text.find('<') {
                Some(at) => {
                    let name = text[..at].trim();
                    ((!name.is_empty()).then(|| name.to_owned()), &text[at..])
                }
                None => (None, text),
            }
        };
        if let Some(inside) = rest.strip_prefix('<') {
            let (uri, params) = inside.split_once('>').ok_or(UriError::Malformed)?;
            let params = params.trim_start().strip_prefix(';').unwrap_or("");
            return Ok(Self { display, uri: Uri::parse(uri)?, params: parse_params(params) });
        }
        if display.is_some() {
            return Err(UriError::Malformed);
        }
        // Without angle brackets parameters belong to the header (RFC 3261 §20.10).
        let (uri, params) = rest.split_once(';').unwrap_or((rest, ""));
        Ok(Self { display: None, uri: Uri::parse(uri)?, params: parse_params(params) })
    }

    /// The `tag` parameter.
    pub fn tag(&self) -> Option<&str> {
        self.param("tag").filter(|tag| !tag.is_empty())
    }

    /// The value of header parameter `name`, compared without case; `Some("")` when it has none.
    pub fn param(&self, name: &str) -> Option<&str> {
        find_param(&self.params, name)
    }

    /// The same address with `tag` as its only parameter.
    pub fn with_tag(&self, tag: &str) -> Self {
        Self { params: vec![("tag".into(), Some(tag.into()))], ..self.clone() }
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(display) = &self.display {
            f.write_char('"')?;
            for c in display.chars().filter(|c| !c.is_control()) {
                if matches!(c, '"' | '\\') {
                    f.write_char('\\')?;
                }
                f.write_char(c)?;
            }
            f.write_str("\" ")?;
        }
        write!(f, "<{}>", self.uri)?;
        write_params(f, &self.params)
    }
}

/// `host:port` with IPv6 in brackets.
pub(crate) fn host_text(host: &str, port: Option<u16>) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    match port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

pub(crate) fn parse_host_port(text: &str) -> Result<(String, Option<u16>), UriError> {
    let (host, port) = if let Some(inside) = text.strip_prefix('[') {
        let (host, rest) = inside.split_once(']').ok_or(UriError::Malformed)?;
        let address: std::net::Ipv6Addr = host.parse().map_err(|_| UriError::Malformed)?;
        let port = match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':').ok_or(UriError::Malformed)?),
        };
        (address.to_string(), port)
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (text.to_owned(), None),
        }
    };
    if host.is_empty() {
        return Err(UriError::NoHost);
    }
    if !host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':')) {
        return Err(UriError::Malformed);
    }
    match port {
        None => Ok((host, None)),
        Some(port) => match port.parse() {
            Ok(port) if port != 0 => Ok((host, Some(port))),
            _ => Err(UriError::BadPort),
        },
    }
}

/// `name=value;flag;name="quoted; value"` as pairs; quotes are kept.
pub(crate) fn parse_params(text: &str) -> Vec<(String, Option<String>)> {
    split_outside_quotes(text, ';')
        .filter_map(|param| {
            let (name, value) = match param.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim().to_owned())),
                None => (param.trim(), None),
            };
            (!name.is_empty()).then(|| (name.to_owned(), value))
        })
        .collect()
}

fn write_params(f: &mut fmt::Formatter<'_>, params: &[(String, Option<String>)]) -> fmt::Result {
    for (name, value) in params {
        match value {
            Some(value) => write!(f, ";{name}={value}")?,
            None => write!(f, ";{name}")?,
        }
    }
    Ok(())
}

pub(crate) fn find_param<'a>(
    params: &'a [(String, Option<String>)],
    name: &str,
) -> Option<&'a str> {
    params
        .iter()
        .find(|(candidate, _)| candidate.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_deref().unwrap_or(""))
}

/// Splits at `separator` where it stands neither in quotes nor in angle brackets.
pub(crate) fn split_outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut quoted, mut escaped, mut angle) = (false, false, false);
        for (index, c) in text.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                '<' if !quoted => angle = true,
                '>' if !quoted => angle = false,
                c if c == separator && !quoted && !angle => {
                    rest = Some(&text[index + c.len_utf8()..]);
                    return Some(&text[..index]);
                }
                _ => {}
            }
        }
        rest = None;
        Some(text)
    })
}

/// The text of a quoted string whose opening quote is already gone, and what follows its closing quote.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        match c {
            c if escaped => {
                out.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((out, &text[index + 1..])),
            c => out.push(c),
        }
    }
    None
}

/// Decodes percent-escapes; what is no escape or no UTF-8 stays readable.
pub(crate) fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let escape = (bytes[index] == b'%')
            .then(|| bytes.get(index + 1..index + 3))
            .flatten()
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escape {
            Some(byte) => {
                out.push(byte);
                index += 3;
            }
            None => {
                out.push(bytes[index]);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Percent-escapes everything but letters, digits and the marks of RFC 3261 §25.1 (`-_.!~*'()`), plus `also`.
pub(crate) fn escape(text: &str, also: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let c = byte as char;
        if c.is_ascii_alphanumeric()
            || "-_.!~*'()".contains(c)
            || (c.is_ascii() && also.contains(c))
        {
            out.push(c);
        } else {
            write!(out, "%{byte:02X}").expect("a String takes everything");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn uris_are_taken_apart_and_put_together_again() {
        for (text, user, host, port, transport) in [
            (
                "sip:4930555001@203.0.113.20:5060",
                Some("4930555001"),
                "203.0.113.20",
                Some(5060),
                None,
            ),
            (
                "sip:mod_sofia@[2001:db8::7]:5080;transport=tcp",
                Some("mod_sofia"),
                "2001:db8::7",
                Some(5080),
                Some("tcp"),
            ),
            ("sips:example.net", None, "example.net", None, None),
            (
                "sip:+49301;npdi=yes;rn=5@host;user=phone",
                Some("+49301;npdi=yes;rn=5"),
                "host",
                None,
                None,
            ),
            (
                "sip:2001@h?X-Summary=billing%20question&User-to-User=56%3Bencoding%3Dhex",
                Some("2001"),
                "h",
                None,
                None,
            ),
            ("sip:a%20b:secret@h", Some("a%20b:secret"), "h", None, None),
            ("tel:+13055551234;phone-context=x", Some("+13055551234"), "", None, None),
            ("urn:service:sos", None, "service:sos", None, None),
        ] {
            let uri = Uri::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(uri.user.as_deref(), user, "{text}");
            assert_eq!(uri.host, host, "{text}");
            assert_eq!(uri.port, port, "{text}");
            assert_eq!(uri.param("TRANSPORT"), transport, "{text}");
            assert_eq!(uri.to_string(), text);
        }
        assert_eq!(Uri::parse("sip:a%20b:secret@h").unwrap().user_text().as_deref(), Some("a b"));
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        for text in [
            "",
            "sip",
            "sip:",
            "sip:@",
            "sip:a@",
            "sip:a@h:0",
            "sip:a@h:99999",
            "sip:a@[::1",
            "sip:a@h o",
            "s p:x",
            "tel:",
            "sip:a@h\r\nX: y",
            "1sip:a@b",
        ] {
            assert!(Uri::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn name_addr_in_every_form() {
        for (text, display, uri, tag) in [
            (
                r#""Erika \"E\" Beispiel" <sip:49170@198.51.100.7>;tag=r4Z9"#,
                Some(r#"Erika "E" Beispiel"#),
                "sip:49170@198.51.100.7",
                Some("r4Z9"),
            ),
            (
                "Erika Beispiel <sip:a@b;transport=tcp>",
                Some("Erika Beispiel"),
                "sip:a@b;transport=tcp",
                None,
            ),
            ("<sip:a@b>;tag=1;other", None, "sip:a@b", Some("1")),
            ("sip:a@b;tag=7", None, "sip:a@b", Some("7")),
            (r#""<sip:evil@x>" <sip:a@b>"#, Some("<sip:evil@x>"), "sip:a@b", None),
        ] {
            let address = NameAddr::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(address.display.as_deref(), display, "{text}");
            assert_eq!(address.uri.to_string(), uri, "{text}");
            assert_eq!(address.tag(), tag, "{text}");
            assert_eq!(NameAddr::parse(&address.to_string()).unwrap(), address);
        }
        for text in ["\"open <sip:a@b>", "<sip:a@b", "name sip:a@b", ""] {
            assert!(NameAddr::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn lists_split_outside_quotes_and_brackets() {
        let parts: Vec<_> =
            split_outside_quotes(r#""a,b" <sip:x@y,z>, c, "d\",e""#, ',').map(str::trim).collect();
        assert_eq!(parts, [r#""a,b" <sip:x@y,z>"#, "c", r#""d\",e""#]);
    }

    #[test]
    fn escapes_go_both_ways() {
        assert_eq!(escape("56a3;encoding=hex", ""), "56a3%3Bencoding%3Dhex");
        assert_eq!(escape("a&b ü", "&"), "a&b%20%C3%BC");
        assert_eq!(unescape("a%20b%3B%zz%4"), "a b;%zz%4");
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_its_result_parses_again(text in ".{0,80}") {
            if let Ok(uri) = Uri::parse(&text) {
                prop_assert_eq!(Uri::parse(&uri.to_string()), Ok(uri));
            }
            if let Ok(address) = NameAddr::parse(&text) {
                prop_assert_eq!(NameAddr::parse(&address.to_string()).map(|a| a.uri), Ok(address.uri));
            }
        }

        #[test]
        fn sip_shaped_text_survives(text in r#"("?[a-z <>"\\]{0,6}"? ?)?<?sips?:([a-z0-9;=%+]{0,8}@)?[a-z0-9.\[\]:]{1,12}(;[a-z=]{0,6}){0,2}(\?[a-z=&%]{0,8})?>?(;tag=[a-z0-9]{0,4})?"#) {
            if let Ok(uri) = Uri::parse(&text) {
                prop_assert_eq!(Uri::parse(&uri.to_string()), Ok(uri));
            }
            if let Ok(address) = NameAddr::parse(&text) {
                prop_assert_eq!(NameAddr::parse(&address.to_string()).map(|a| a.uri), Ok(address.uri));
            }
        }

        #[test]
        fn any_text_survives_escaping(text in ".{0,40}") {
            prop_assert_eq!(unescape(&escape(&text, "")), text);
        }
    }
}
