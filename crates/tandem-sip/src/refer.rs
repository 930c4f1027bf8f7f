//! A transfer by REFER as its sender sees it (RFC 3515, RFC 5589, RFC 7647), blind or with Replaces (RFC 3891).

use std::time::{Duration, Instant};

use tandem_call::{TransferKind, TransferOutcome, TransferTarget};

use crate::{
    message::{Request, reason_phrase},
    uri::{NameAddr, Uri, escape, host_text},
};

/// After success the peer has this long to send its BYE before we send ours.
const WAIT_FOR_BYE: Duration = Duration::from_secs(2);
/// The most headers handed to the target, and their longest value.
const MAX_HEADERS: usize = 32;
const MAX_HEADER_VALUE: usize = 1024;
/// What the call was about: the first to go where there is no room.
const SUMMARY: &str = "X-Tandem-Summary";

/// One transfer under way.
#[derive(Debug)]
pub(crate) struct Transfer {
    /// CSeq of the REFER: the `id` of its NOTIFYs.
    cseq: u32,
    phase: Phase,
    deadline: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No final response to the REFER yet.
    Asked,
    /// 2xx: the peer will try.
    Accepted,
    /// The subscription ended without saying how the transfer went: a BYE now means success.
    Unclear,
    /// The target answered. We hang up at the deadline.
    Completed,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// The transfer failed; the call is ours again.
    Failed(TransferOutcome),
    /// The target has the caller: BYE.
    HangUp,
}

impl Transfer {
    pub(crate) fn new(now: Instant, cseq: u32, timeout: Duration) -> Self {
        Self { cseq, phase: Phase::Asked, deadline: now + timeout }
    }

    /// A REFER was sent again with another CSeq (credentials).
    pub(crate) fn resent(&mut self, cseq: u32) {
        self.cseq = cseq;
    }

    /// Takes a final response to the REFER.
    pub(crate) fn handle_response(&mut self, status: u16, reason: &str) -> Option<TransferOutcome> {
        match status {
            200..300 => {
                if self.phase == Phase::Asked {
                    self.phase = Phase::Accepted;
                }
                None
            }
            _ => Some(failed(Some(status), reason)),
        }
    }

    /// Whether a NOTIFY with this Event header is about this transfer. `id` may be missing.
    pub(crate) fn is_about(&self, event: &str) -> bool {
        is_about(self.cseq, event)
    }

    /// Takes a NOTIFY. It may overtake the response to the REFER.
    pub(crate) fn handle_notify(
        &mut self,
        now: Instant,
        notify: &Request,
    ) -> Option<TransferOutcome> {
        if self.phase == Phase::Completed {
            return None;
        }
        self.phase = if self.phase == Phase::Asked { Phase::Accepted } else { self.phase };
        let over = notify
            .headers
            .get("Subscription-State")
            .is_some_and(|state| state.trim_start().to_ascii_lowercase().starts_with("terminated"));
        match sipfrag(&notify.body) {
            Some((200..300, _)) => {
                self.complete(now);
                Some(TransferOutcome::Completed)
            }
            Some((status @ 300.., reason)) => Some(failed(Some(status), &reason)),
            _ if over => {
                self.phase = Phase::Unclear;
                self.deadline = self.deadline.min(now + WAIT_FOR_BYE);
                None
            }
            _ => None,
        }
    }

    /// The peer hung up. Once it accepted the REFER that is how it says the caller is elsewhere (RFC 3515 §2.4.5).
    pub(crate) fn handle_bye(&mut self, now: Instant) -> Option<TransferOutcome> {
        match self.phase {
            Phase::Asked | Phase::Completed => None,
            Phase::Accepted | Phase::Unclear => {
                self.complete(now);
                Some(TransferOutcome::Completed)
            }
        }
    }

    /// Whether the outcome is not known yet.
    pub(crate) fn is_open(&self) -> bool {
        self.phase != Phase::Completed
    }

    /// When something is due at the latest.
    pub(crate) const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What is due at `now`.
    pub(crate) fn handle_timeout(&self, now: Instant) -> Option<Due> {
        if now < self.deadline {
            return None;
        }
        Some(match self.phase {
            Phase::Completed => Due::HangUp,
            Phase::Unclear => {
                Due::Failed(failed(None, "the peer ended the transfer without an outcome"))
            }
            Phase::Asked | Phase::Accepted => Due::Failed(failed(None, "no outcome in time")),
        })
    }

    fn complete(&mut self, now: Instant) {
        self.phase = Phase::Completed;
        self.deadline = now + WAIT_FOR_BYE;
    }
}

/// Whether a NOTIFY with this Event header belongs to the REFER with `cseq`.
pub(crate) fn is_about(cseq: u32, event: &str) -> bool {
    let params = crate::uri::parse_params(event);
    match crate::uri::find_param(&params, "id") {
        Some(id) => id.parse() == Ok(cseq),
        None => true,
    }
}

/// Whether the Event header names the `refer` package.
pub(crate) fn is_refer_event(event: &str) -> bool {
    event.split(';').next().is_some_and(|package| package.trim().eq_ignore_ascii_case("refer"))
}

pub(crate) fn failed(status: Option<u16>, reason: &str) -> TransferOutcome {
    TransferOutcome::Failed { status, reason: reason.to_owned() }
}

/// Status and reason of a `message/sipfrag` body (RFC 3420).
fn sipfrag(body: &[u8]) -> Option<(u16, String)> {
    let text = String::from_utf8_lossy(body);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let mut words = line.strip_prefix("SIP/2.0 ")?.splitn(2, ' ');
    let status = words.next()?.parse().ok().filter(|status| (100..700).contains(status))?;
    // FreeSWITCH writes the status a second time: "SIP/2.0 486 486".
    let told = words.next().unwrap_or("").trim();
    let reason =
        if told.chars().all(|c| c.is_ascii_digit()) { reason_phrase(status) } else { told };
    Some((status, reason.to_owned()))
}

/// The Refer-To value for `target`, with `headers` for the new call escaped into it (RFC 3515 §2.1, RFC 3261
/// §19.1.1). `host` is the peer's. The error says in words what is wrong with the target.
pub(crate) fn refer_to(
    templates: &[(TransferKind, String)],
    target: &TransferTarget,
    host: &str,
    headers: &[(String, String)],
) -> Result<String, String> {
    Ok(with_headers(target_uri(templates, target, host)?, headers))
}

/// The Refer-To value that has the peer take the place of a dialog of ours with `target`, that dialog's Contact
/// (RFC 5589 §7, RFC 3891 §3). `replaces` names the dialog as `target` sees it.
pub(crate) fn refer_to_replacing(
    target: &Uri,
    replaces: &str,
    headers: &[(String, String)],
) -> String {
    let mut uri = target.clone();
    // First of all headers: there are peers that look for it no further.
    uri.headers = vec![("Replaces".into(), escape(replaces, ""))];
    with_headers(uri, headers)
}

fn with_headers(mut uri: Uri, headers: &[(String, String)]) -> String {
    uri.headers
        .extend(passed_on(headers).map(|(name, value)| (escape(name, ""), escape(value, ""))));
    format!("<{uri}>")
}

/// The URI of `target`. `host` is the peer's. The error says in words what is wrong with the target.
pub(crate) fn target_uri(
    templates: &[(TransferKind, String)],
    target: &TransferTarget,
    host: &str,
) -> Result<Uri, String> {
    let text = target.target.trim();
    if text.is_empty() || text.len() > 512 {
        return Err("the transfer target is empty or too long".into());
    }
    let uri = if target.kind == TransferKind::Sip {
        if text.contains("sip:") || text.contains("sips:") {
            text.to_owned()
        } else {
            format!("sip:{text}")
        }
    } else {
        let template = templates.iter().find(|(kind, _)| *kind == target.kind);
        template
            .map_or("sip:{target}@{host}", |(_, template)| template)
            .replace("{target}", &escape(text, "+&=$,/"))
            .replace("{host}", &host_text(host, None))
    };
    let uri =
        Uri::parse(&uri).map_err(|error| format!("{uri:?} is no URI to transfer to: {error}"))?;
    if uri.is_sip() { Ok(uri) } else { Err(format!("{uri} is no SIP URI")) }
}

/// The headers that may go along: `X-`, `P-` and User-to-User, bounded.
pub(crate) fn passed_on(headers: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    let allowed = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && (name.starts_with("x-") || name.starts_with("p-") || name == "user-to-user")
    };
    headers
        .iter()
        .filter(move |(name, value)| allowed(name) && value.len() <= MAX_HEADER_VALUE)
        .take(MAX_HEADERS)
        .map(|(name, value)| (name.as_str(), value.as_str()))
}

/// Drops optional headers of a REFER or INVITE until it takes no more than `most` bytes: the summary first, then the longest.
pub(crate) fn shorten(request: &mut Request, most: usize) {
    while request.encode().len() > most {
        let optional = request.headers.iter().filter(|(name, _)| {
            name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("X-"))
        });
        let dropped = optional
            .max_by_key(|(name, value)| (name.eq_ignore_ascii_case(SUMMARY), value.len()))
            .map(|(name, _)| name.to_owned());
        let Some(name) = dropped else { return };
        let method = &request.method;
        tracing::warn!(header = %name, %method, "a request over UDP has no room for a header");
        request.headers.remove(&name);
        if let Some(value) = request.headers.first_mut("Refer-To")
            && let Ok(mut target) = NameAddr::parse(value)
        {
            target.uri.headers.retain(|(escaped, _)| !escaped.eq_ignore_ascii_case(&name));
            *value = format!("<{}>", target.uri);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Method;

    fn target(kind: TransferKind, target: &str) -> TransferTarget {
        TransferTarget::new(kind, target)
    }

    #[test]
    fn refer_to_by_template_with_escaped_headers() {
        let templates = [(TransferKind::Queue, "sip:q-{target}@pbx.example;queue".to_owned())];
        let headers = [
            ("X-Summary".to_owned(), "billing question?".to_owned()),
            ("User-to-User".to_owned(), "56a3;encoding=hex".to_owned()),
            ("Contact".to_owned(), "<sip:evil@h>".to_owned()),
            ("X-Bad Name".to_owned(), "x".to_owned()),
        ];
        for (target, headers, refer_to_value) in [
            (target(TransferKind::Extension, "2001"), &headers[..0], "<sip:2001@198.51.100.7>"),
            (
                target(TransferKind::External, "+13055551234"),
                &headers[..0],
                "<sip:+13055551234@198.51.100.7>",
            ),
            (
                target(TransferKind::Extension, "#1@evil?x"),
                &headers[..0],
                "<sip:%231%40evil%3Fx@198.51.100.7>",
            ),
            (target(TransferKind::Queue, "7"), &headers[..0], "<sip:q-7@pbx.example;queue>"),
            (
                target(TransferKind::Sip, "sip:bob@h:5090;transport=tcp"),
                &headers[..0],
                "<sip:bob@h:5090;transport=tcp>",
            ),
            (target(TransferKind::Sip, "bob@h"), &headers[..0], "<sip:bob@h>"),
            (
                target(TransferKind::Extension, "2001"),
                &headers[..],
                "<sip:2001@198.51.100.7?X-Summary=billing%20question%3F&User-to-User=56a3%3Bencoding%3Dhex>",
            ),
        ] {
            assert_eq!(
                refer_to(&templates, &target, "198.51.100.7", headers).as_deref(),
                Ok(refer_to_value)
            );
        }
        for bad in ["", " ", "sip:", "sip:a b@h", "https://sip:x"] {
            assert!(refer_to(&[], &target(TransferKind::Sip, bad), "h", &[]).is_err(), "{bad:?}");
        }
    }

    fn notify(state: &str, body: &str) -> Request {
        let mut notify = Request::new(Method::Notify, Uri::parse("sip:a@b").unwrap());
        notify.headers.push("Event", "refer");
        notify.headers.push("Subscription-State", state);
        notify.body = body.into();
        notify
    }

    #[test]
    fn outcomes_by_what_the_peer_says() {
        let now = Instant::now();
        let active = "active;expires=60";
        let done = "terminated;reason=noresource";
        for (name, notifies, outcome) in [
            (
                "answered",
                vec![(active, "SIP/2.0 100 Trying\r\n"), (done, "SIP/2.0 200 OK\r\n")],
                Some(TransferOutcome::Completed),
            ),
            (
                "busy",
                vec![(active, "SIP/2.0 100 Trying"), (done, "SIP/2.0 486 Busy Here")],
                Some(failed(Some(486), "Busy Here")),
            ),
            (
                "freeswitch refuses",
                vec![(done, "SIP/2.0 403 Forbidden\r\n")],
                Some(failed(Some(403), "Forbidden")),
            ),
            (
                "busy, as freeswitch confirms a blind transfer",
                vec![(done, "SIP/2.0 486 486\r\n")],
                Some(failed(Some(486), "Busy Here")),
            ),
            (
                "no words for it",
                vec![(done, "SIP/2.0 480\r\n")],
                Some(failed(Some(480), "Temporarily Unavailable")),
            ),
            ("ringing", vec![(active, "SIP/2.0 180 Ringing")], None),
            ("no body", vec![(done, "")], None),
            ("garbage", vec![(active, "HTTP/1.1 200 OK")], None),
            ("status out of range", vec![(active, "SIP/2.0 999 x")], None),
        ] {
            let mut transfer = Transfer::new(now, 1, Duration::from_secs(60));
            assert_eq!(transfer.handle_response(202, "Accepted"), None);
            let got = notifies
                .into_iter()
                .filter_map(|(state, body)| transfer.handle_notify(now, &notify(state, body)))
                .next();
            assert_eq!(got, outcome, "{name}");
        }
    }

    #[test]
    fn silence_is_a_failure_after_the_timeout_and_success_waits_for_the_bye() {
        let now = Instant::now();
        let secs = Duration::from_secs;
        let mut silent = Transfer::new(now, 1, secs(60));
        silent.handle_response(202, "");
        assert_eq!(silent.handle_timeout(now + secs(59)), None);
        assert!(matches!(silent.handle_timeout(now + secs(60)), Some(Due::Failed(_))));
        let mut done = Transfer::new(now, 1, secs(60));
        done.handle_notify(now + secs(5), &notify("active", "SIP/2.0 200 OK"));
        assert_eq!(done.deadline(), now + secs(7));
        assert_eq!(done.handle_timeout(now + secs(7)), Some(Due::HangUp));
        let mut unclear = Transfer::new(now, 1, secs(60));
        unclear.handle_notify(now, &notify("terminated", "SIP/2.0 100 Trying"));
        assert!(matches!(unclear.handle_timeout(now + secs(2)), Some(Due::Failed(_))));
        assert_eq!(unclear.handle_bye(now + secs(1)), Some(TransferOutcome::Completed));
    }

    #[test]
    fn a_bye_means_success_only_once_the_refer_was_accepted() {
        let now = Instant::now();
        let mut asked = Transfer::new(now, 1, Duration::from_secs(60));
        assert_eq!(asked.handle_bye(now), None);
        asked.handle_response(200, "OK");
        assert_eq!(asked.handle_bye(now), Some(TransferOutcome::Completed));
        assert_eq!(asked.handle_bye(now), None, "once");
        let mut refused = Transfer::new(now, 1, Duration::from_secs(60));
        assert_eq!(refused.handle_response(603, "Decline"), Some(failed(Some(603), "Decline")));
    }

    #[test]
    fn notify_is_matched_by_id_or_without() {
        let transfer = Transfer::new(Instant::now(), 7, Duration::from_secs(60));
        for (event, about) in
            [("refer", true), ("refer;id=7", true), ("refer;id=8", false), ("refer; id = 7", true)]
        {
            assert_eq!(transfer.is_about(event), about, "{event}");
        }
        assert!(is_refer_event("Refer;id=1") && !is_refer_event("presence"));
    }
}
