//! Who calls whom, and what the INVITE says beside it.

use tandem_call::Party;

use crate::{
    headers::Headers,
    message::Request,
    uri::{NameAddr, Scheme, Uri, unescape},
};

/// Header lines kept of an INVITE, and the longest of them.
const MAX_KEPT: usize = 64;
const MAX_KEPT_VALUE: usize = 1024;

/// The caller: a trusted peer's P-Asserted-Identity or Remote-Party-ID, else From.
pub(crate) fn caller(request: &Request, trusted: bool) -> Party {
    let from = request.from().ok();
    let asserted = trusted
        .then(|| {
            let identities = request
                .headers
                .list("P-Asserted-Identity")
                .chain(request.headers.list("Remote-Party-ID"));
            identities
                .filter_map(|value| NameAddr::parse(value).ok())
                .find(|identity| number(&identity.uri).is_some())
        })
        .flatten();
    let name = asserted.iter().chain(&from).find_map(|address| address.display.clone());
    let number = asserted.as_ref().or(from.as_ref()).and_then(|address| number(&address.uri));
    Party {
        number,
        name: name.filter(|name| !is_anonymous(name)).map(|name| bounded(&name).to_owned()),
    }
}

/// The dialled number, without separators, parameters and `+`: the user part of the Request-URI; where that is
/// missing or our own Contact's, of P-Called-Party-ID or To.
pub(crate) fn called(request: &Request, own_user: &str) -> String {
    let to = request.to().ok().map(|to| to.uri);
    let called_party = request
        .headers
        .list("P-Called-Party-ID")
        .find_map(|value| NameAddr::parse(value).ok())
        .map(|it| it.uri);
    [Some(&request.uri), called_party.as_ref(), to.as_ref()]
        .into_iter()
        .flatten()
        .find_map(|uri| {
            uri.user_text()
                .map(|user| normalise(&user))
                .filter(|user| !user.is_empty() && user != own_user)
        })
        .unwrap_or_default()
}

/// Headers worth keeping with the call.
pub(crate) fn kept_headers(headers: &Headers, trusted: bool) -> Vec<(String, String)> {
    let kept = |name: &str| {
        let name = name.to_ascii_lowercase();
        let identity = name.starts_with("p-")
            || matches!(
                name.as_str(),
                "diversion" | "history-info" | "remote-party-id" | "call-info" | "identity"
            );
        name.starts_with("x-") || name == "user-to-user" || (identity && trusted)
    };
    headers
        .iter()
        .filter(|(name, _)| kept(name))
        .take(MAX_KEPT)
        .map(|(name, value)| {
            // Some products escape the parameters once more on a transfer.
            let twice_escaped = name.eq_ignore_ascii_case("User-to-User") && value.contains("%3B");
            let value = if twice_escaped { unescape(value) } else { value.to_owned() };
            (name.to_owned(), bounded(&value).to_owned())
        })
        .collect()
}

fn number(uri: &Uri) -> Option<String> {
    let user = uri.user_text()?;
    if uri.host.ends_with(".invalid") || is_anonymous(&user) {
        return None;
    }
    let user = user.split(';').next().unwrap_or("").trim();
    let dialable = user.chars().all(|c| c.is_ascii_digit() || "+-.()* #".contains(c));
    let number = if dialable || uri.scheme == Scheme::Tel {
        // A caller's + is kept: it says that the number is international.
        user.chars().filter(|c| !"-.() ".contains(*c)).collect()
    } else {
        user.to_owned()
    };
    (!number.is_empty()).then(|| bounded(&number).to_owned())
}

fn normalise(user: &str) -> String {
    let user = user.split(';').next().unwrap_or("").trim();
    let user = user.strip_prefix("tel:").unwrap_or(user);
    let dialable = user.chars().all(|c| c.is_ascii_digit() || "+-.()*# ".contains(c));
    let number: String = if dialable {
        user.chars().filter(|c| !"+-.() ".contains(*c)).collect()
    } else {
        user.to_owned()
    };
    bounded(&number).to_owned()
}

fn is_anonymous(name: &str) -> bool {
    ["anonymous", "restricted", "unavailable", "unknown"]
        .iter()
        .any(|word| name.eq_ignore_ascii_case(word))
}

fn bounded(text: &str) -> &str {
    let mut end = text.len().min(MAX_KEPT_VALUE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Method;

    fn invite(uri: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = Request::new(Method::Invite, Uri::parse(uri).unwrap());
        for (name, value) in headers {
            request.headers.push(name, *value);
        }
        request
    }

    #[test]
    fn the_dialled_number_is_normalised() {
        for (uri, headers, called_number) in [
            ("sip:4930555001@203.0.113.20:5060", vec![], "4930555001"),
            ("sip:+49-30-555.001;npdi=yes@h;user=phone", vec![], "4930555001"),
            ("tel:+1(305)555-1234", vec![], "13055551234"),
            ("sip:ai.agent@h", vec![], "ai.agent"),
            ("sip:%2B4930@h", vec![], "4930"),
            ("sip:h", vec![("P-Called-Party-ID", "<sip:+4930@x>"), ("To", "<sip:9@x>")], "4930"),
            ("sip:h", vec![("To", "<sip:9@x>")], "9"),
            ("sip:h", vec![], ""),
            ("sip:tandem@h", vec![("To", "<sip:9@x>")], "9"),
            ("sip:*97@h", vec![], "*97"),
        ] {
            assert_eq!(called(&invite(uri, &headers), "tandem"), called_number, "{uri}");
        }
    }

    #[test]
    fn the_caller_is_who_a_trusted_peer_says() {
        let headers = [
            ("From", "\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=1"),
            ("P-Asserted-Identity", "\"Erika\" <sip:+491701234567@h>, <tel:+491701234567>"),
        ];
        let request = invite("sip:1@h", &headers);
        assert_eq!(
            caller(&request, true),
            Party { number: Some("+491701234567".into()), name: Some("Erika".into()) }
        );
        assert_eq!(caller(&request, false), Party::default());
        let plain = invite("sip:1@h", &[("From", "Erika Beispiel <sip:0170-123@h>;tag=1")]);
        assert_eq!(
            caller(&plain, false),
            Party { number: Some("0170123".into()), name: Some("Erika Beispiel".into()) }
        );
    }

    #[test]
    fn headers_are_kept_by_name_trust_and_size() {
        let mut headers = Headers::default();
        headers.push("X-Tenant", "acme");
        headers.push("User-to-User", "56a390%3Bencoding%3Dhex");
        headers.push("Diversion", "<sip:1@h>;reason=no-answer");
        headers.push("Contact", "<sip:a@b>");
        headers.push("x-long", "é".repeat(1000));
        let names = |kept: &[(String, String)]| {
            kept.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
        };
        let trusted = kept_headers(&headers, true);
        assert_eq!(names(&trusted), ["X-Tenant", "User-to-User", "Diversion", "x-long"]);
        assert_eq!(trusted[1].1, "56a390;encoding=hex");
        assert_eq!(trusted[3].1.len(), 1024);
        assert_eq!(names(&kept_headers(&headers, false)), ["X-Tenant", "User-to-User", "x-long"]);
        for _ in 0..100 {
            headers.push("X-More", "1");
        }
        assert_eq!(kept_headers(&headers, false).len(), 64);
    }
}
