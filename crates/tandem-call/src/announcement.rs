//! What the person who takes an attended transfer hears first.

use std::time::Duration;

/// What is said when the configuration has no words of its own; `{reason}` and `{summary}` are put in.
pub const TRANSFER_ANNOUNCEMENT: &str = "A caller is waiting for you. {reason} {summary} \
                                         Press 1 to take the call, or star to decline.";

/// What somebody may take to hear what an attended transfer is about, to decide, and to be connected, once they have
/// answered: the call waits so much longer than for a blind transfer.
pub const ATTENDED_PATIENCE: Duration = Duration::from_secs(60);

/// Longest announcement in bytes: some forty seconds.
const LONGEST: usize = 600;

/// The words of an announcement: `template` with the reason and the summary in it that come in the headers of a
/// transfer, percent-encoded. On one line, at most 1,200 bytes; a summary that is too long loses its beginning.
pub fn transfer_announcement(template: &str, headers: &[(String, String)]) -> String {
    let header = |name: &str| {
        let found = headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| decoded(value)).unwrap_or_default()
    };
    let sentence = |text: String| {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match text.chars().next_back() {
            None | Some('.' | '!' | '?') => text,
            Some(_) => text + ".",
        }
    };
    let reason = sentence(header("X-Tandem-Reason"));
    let mut summary = sentence(header("X-Tandem-Summary"));
    let room = LONGEST.saturating_sub(template.len() + reason.len());
    if summary.len() > room {
        // The end of a conversation says more about it than its beginning.
        let from = summary.ceil_char_boundary(summary.len() - room);
        let from = summary[from..].find(' ').map_or(summary.len(), |space| from + space);
        summary = summary[from..].trim_start().to_owned();
    }
    let whole = template.replace("{reason}", &reason).replace("{summary}", &summary);
    let whole = whole.split_whitespace().collect::<Vec<_>>().join(" ");
    whole[..whole.floor_char_boundary(2 * LONGEST)].to_owned()
}

/// Undoes the percent-encoding of a header value (RFC 3986 §2.1).
fn decoded(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) if digit(high).is_some() && digit(low).is_some() => {
                let byte = digit(high).zip(digit(low)).map_or(0, |(high, low)| high * 16 + low);
                bytes.push(u8::try_from(byte).unwrap_or_default());
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(reason: &str, summary: &str) -> Vec<(String, String)> {
        vec![("X-Tandem-Reason".into(), reason.into()), ("X-Tandem-Summary".into(), summary.into())]
    }

    #[test]
    fn an_announcement_tells_reason_and_summary() {
        let template = "A caller waits. {reason} {summary} Press 1.";
        assert_eq!(
            transfer_announcement(
                template,
                &headers("billing%20question", "Caller%3A%20hi%0AAgent%3A%20hello%21")
            ),
            "A caller waits. billing question. Caller: hi Agent: hello! Press 1."
        );
        assert_eq!(transfer_announcement(template, &[]), "A caller waits. Press 1.");
    }

    #[test]
    fn an_announcement_is_bounded() {
        let told =
            transfer_announcement("{reason} {summary}", &headers("x", &"%C3%A4b%20".repeat(1_000)));
        assert!(told.len() <= LONGEST, "{}", told.len());
        assert!(told.ends_with("äb."));
    }

    #[test]
    fn what_is_not_encoded_stays() {
        assert_eq!(decoded("50% off %zz %4"), "50% off %zz %4");
        assert_eq!(decoded("%e2%82%AC"), "€");
    }
}
