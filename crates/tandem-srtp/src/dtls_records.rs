//! Records of DTLS from the outside: which of them are to be believed, and which were there before.

use crate::DtlsRole;

/// Parts of a handshake that are remembered; one has about ten.
const MAX_PARTS: usize = 64;

/// Content type of the change to a new cipher (RFC 5246 §6.2.1).
const CHANGE_CIPHER_SPEC: u8 = 20;
/// Content type of handshake messages.
const HANDSHAKE: u8 = 22;
/// The last content type: application data.
const APPLICATION_DATA: u8 = 23;
/// Bytes of a record's header (RFC 6347 §4.1).
const RECORD_HEADER: usize = 13;
/// Bytes of a handshake message's header (RFC 6347 §4.2.2).
const MESSAGE_HEADER: usize = 12;

/// Types of handshake messages (RFC 6347 §4.3.2).
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const HELLO_VERIFY_REQUEST: u8 = 3;
const CERTIFICATE: u8 = 11;

/// Bytes of a hello's random value.
pub(crate) const RANDOM: usize = 32;

/// The records of `datagram` that may be what they seem; none when it is not made of records, or nothing is left.
///
/// What comes in clear can be anybody's. Of that, only what a handshake is made of is taken: neither alerts, which
/// would let anybody end it (RFC 6347 §4.1.2.7), nor anything that the library answers with an alert of its own.
pub(crate) fn believable(datagram: &[u8]) -> Option<Vec<u8>> {
    let (mut rest, mut kept) = (datagram, Vec::with_capacity(datagram.len()));
    while !rest.is_empty() {
        let (header, body, behind) = split_raw(rest)?;
        let in_clear = header[3..5] == [0, 0];
        let known = (CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&header[0]);
        if !known || header[1] != 254 || !matches!(header[2], 253 | 255) || body.is_empty() {
            return None;
        }
        let believed = match header[0] {
            _ if !in_clear => true,
            CHANGE_CIPHER_SPEC => body == [1],
            HANDSHAKE => body.len() >= MESSAGE_HEADER,
            _ => false,
        };
        if believed {
            kept.extend_from_slice(&rest[..rest.len() - behind.len()]);
        }
        rest = behind;
    }
    (!kept.is_empty()).then_some(kept)
}

/// Whether `datagram` is the first that somebody sends to us in this role: a hello.
pub(crate) fn is_opening(datagram: &[u8], role: DtlsRole) -> bool {
    first_message(datagram).is_some_and(|(kind, number)| match role {
        DtlsRole::Passive => kind == CLIENT_HELLO && number == 0,
        DtlsRole::Active => matches!(kind, SERVER_HELLO | HELLO_VERIFY_REQUEST),
    })
}

/// Whether `datagram` holds no more than anybody is sent: a client's hello, or the question for its cookie.
pub(crate) fn is_hello(datagram: &[u8]) -> bool {
    first_message(datagram)
        .is_some_and(|(kind, _)| matches!(kind, CLIENT_HELLO | HELLO_VERIFY_REQUEST))
}

/// What tells one client's hello from another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientHello<'a> {
    pub(crate) random: &'a [u8; RANDOM],
    /// Empty in the first hello.
    pub(crate) cookie: &'a [u8],
}

/// The client's hello that `datagram` begins with, or its beginning (RFC 6347 §4.2.1).
pub(crate) fn client_hello(datagram: &[u8]) -> Option<ClientHello<'_>> {
    let (random, rest) = first_body(datagram, CLIENT_HELLO)?.get(2..)?.split_first_chunk()?;
    let (session, rest) = split_vector(rest)?;
    let (cookie, _) = split_vector(rest)?;
    (session.len() <= RANDOM).then_some(ClientHello { random, cookie })
}

/// Whether `datagram` begins with a client's hello or a later part of one.
pub(crate) fn is_of_client_hello(datagram: &[u8]) -> bool {
    first_message(datagram).is_some_and(|(kind, _)| kind == CLIENT_HELLO)
}

/// The cookie that `datagram`, of ours, asks for.
pub(crate) fn asked_cookie(datagram: &[u8]) -> Option<&[u8]> {
    let (cookie, _) = split_vector(first_body(datagram, HELLO_VERIFY_REQUEST)?.get(2..)?)?;
    Some(cookie)
}

/// Numbers the records in clear of `datagram`, which is made of records, from `next` on; returns the number after them.
///
/// Whoever guesses the peer's address may write any number into such a record, and one of a record far ahead would have the
/// library take all that the peer sends for repetitions. Nothing else depends on these numbers (RFC 6347 §4.1.2.6 has
/// the window move only for what is authentic).
pub(crate) fn renumber(datagram: &mut [u8], mut next: u64) -> u64 {
    let mut rest = datagram;
    while rest.len() >= RECORD_HEADER {
        let length = RECORD_HEADER + usize::from(u16::from_be_bytes([rest[11], rest[12]]));
        if rest[3..5] == [0, 0] {
            rest[5..11].copy_from_slice(&next.to_be_bytes()[2..]);
            next += 1;
        }
        let end = length.min(rest.len());
        rest = &mut rest[end..];
    }
    next
}

/// Whether `datagram` holds, in clear, a whole certificate of its sender's own that is not `expected`.
pub(crate) fn has_foreign_certificate(datagram: &[u8], expected: impl Fn(&[u8]) -> bool) -> bool {
    let mut rest = datagram;
    while let Some((header, body, behind)) = split_raw(rest) {
        let in_clear = header[0] == HANDSHAKE && header[3..5] == [0, 0];
        if in_clear && messages(body).filter_map(certificate).any(|leaf| !expected(leaf)) {
            return true;
        }
        rest = behind;
    }
    false
}

/// The handshake messages in a record's body, whole or in part: header and text.
fn messages(mut body: &[u8]) -> impl Iterator<Item = (&[u8; MESSAGE_HEADER], &[u8])> {
    std::iter::from_fn(move || {
        let (header, rest) = body.split_first_chunk::<MESSAGE_HEADER>()?;
        let length = number_of(&header[9..]).min(rest.len());
        let (text, behind) = rest.split_at(length);
        body = behind;
        Some((header, text))
    })
}

/// The sender's own certificate in a message that is a whole list of them (RFC 5246 §7.4.2); empty when the list is.
fn certificate<'a>((header, text): (&'a [u8; MESSAGE_HEADER], &'a [u8])) -> Option<&'a [u8]> {
    if header[0] != CERTIFICATE || number_of(&header[1..4]) != text.len() {
        return None;
    }
    let leaf = text.get(3..6).and_then(|length| text.get(6..6 + number_of(length)));
    Some(leaf.unwrap_or_default())
}

/// The number in the first three bytes.
fn number_of(bytes: &[u8]) -> usize {
    bytes[..3].iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// The text of the handshake message in clear that `datagram` begins with, if it is of that type and from its beginning.
fn first_body(datagram: &[u8], kind: u8) -> Option<&[u8]> {
    let (header, body, _) = split_raw(datagram)?;
    let (message, text) = messages(body).next()?;
    let in_clear = header[0] == HANDSHAKE && header[3..5] == [0, 0];
    (in_clear && message[0] == kind && message[6..9] == [0; 3]).then_some(text)
}

/// Bytes that come behind their length in one byte, and what comes behind them.
fn split_vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

/// Type and number of the handshake message in clear that `datagram` begins with.
fn first_message(datagram: &[u8]) -> Option<(u8, u16)> {
    let (header, body, _) = split_raw(datagram)?;
    let (part, _) = split_record(datagram)?;
    (header[0] == HANDSHAKE).then_some(())?;
    Some((*body.first()?, part?.message))
}

/// Tells repeated flights from new ones.
///
/// The library stops its own timer at every handshake message, also at one that it knows already, and then waits for
/// ever when its last flight was lost. So it does not get to see what is repeated; its timer brings the answer.
#[derive(Debug, Default)]
pub(crate) struct Repeated {
    seen: Vec<Part>,
}

/// A fragment of a handshake message in clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    message: u16,
    offset: u32,
    length: u32,
}

impl Repeated {
    /// Whether `datagram` holds nothing but parts of the handshake that came before, and remembers them.
    pub(crate) fn is_all_of(&mut self, datagram: &[u8]) -> bool {
        let (mut rest, mut new) = (datagram, datagram.is_empty());
        while let Some((part, behind)) = split_record(rest) {
            rest = behind;
            let Some(part) = part else {
                new = true;
                continue;
            };
            // A first hello without cookie is answered without a timer (RFC 6347 §4.2.1): it counts until the next.
            let is_first = part.message == 0 && self.seen.iter().all(|seen| seen.message == 0);
            if !self.seen.contains(&part) && self.seen.len() < MAX_PARTS {
                self.seen.push(part);
                new = true;
            } else if is_first || self.seen.len() >= MAX_PARTS {
                new = true;
            }
        }
        !new && rest.is_empty()
    }
}

/// The first record: the part of the handshake in it, if it is in clear, and what comes behind the record.
fn split_record(bytes: &[u8]) -> Option<(Option<Part>, &[u8])> {
    let (header, body, behind) = split_raw(bytes)?;
    let in_clear = header[0] == HANDSHAKE && header[3..5] == [0, 0];
    let part = body.first_chunk::<MESSAGE_HEADER>().filter(|_| in_clear).map(|head| Part {
        message: u16::from_be_bytes([head[4], head[5]]),
        offset: u32::from_be_bytes([0, head[6], head[7], head[8]]),
        length: u32::from_be_bytes([0, head[9], head[10], head[11]]),
    });
    Some((part, behind))
}

/// The first record's header and body, and what comes behind it.
fn split_raw(bytes: &[u8]) -> Option<(&[u8; RECORD_HEADER], &[u8], &[u8])> {
    let header: &[u8; RECORD_HEADER] = bytes.first_chunk()?;
    let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
    let body = bytes.get(RECORD_HEADER..RECORD_HEADER + length)?;
    Some((header, body, &bytes[RECORD_HEADER + length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(content: u8, epoch: u8, sequence: u8, message: u8, offset: u8) -> Vec<u8> {
        let mut bytes = vec![content, 254, 253, 0, epoch, 0, 0, 0, 0, 0, sequence, 0, 14];
        bytes.extend([1, 0, 0, 2, 0, message, 0, 0, offset, 0, 0, 2, 9, 9]);
        bytes
    }

    #[test]
    fn only_what_was_there_before_is_repeated() {
        let mut repeated = Repeated::default();
        let hello = record(22, 0, 0, 0, 0);
        for datagram in [&hello, &hello] {
            assert!(!repeated.is_all_of(datagram), "the first hello counts each time");
        }
        let (one, two) = (record(22, 0, 1, 1, 0), record(22, 0, 2, 1, 2));
        assert!(!repeated.is_all_of(&one));
        assert!(!repeated.is_all_of(&[one.as_slice(), &two].concat()));
        assert!(repeated.is_all_of(&[record(22, 0, 7, 1, 0), record(22, 0, 8, 1, 2)].concat()));
        assert!(repeated.is_all_of(&hello), "a late one");
        for fresh in [record(20, 0, 9, 1, 0), record(22, 1, 9, 1, 0), vec![22; 5]] {
            assert!(!repeated.is_all_of(&[one.as_slice(), &fresh].concat()), "{fresh:?}");
            assert!(!repeated.is_all_of(&fresh), "{fresh:?}");
        }
        assert!(!repeated.is_all_of(&[]));
    }

    #[test]
    fn only_records_of_a_handshake_are_believed_in_clear() {
        let hello = record(22, 0, 0, 0, 0);
        let sealed_alert = record(21, 1, 1, 0, 0);
        let (alert, data) = (record(21, 0, 1, 0, 0), record(23, 0, 2, 0, 0));
        let change = vec![20, 254, 253, 0, 0, 0, 0, 0, 0, 0, 3, 0, 1, 1];
        let all = [&hello, &alert, &change, &data, &sealed_alert].map(Vec::as_slice).concat();
        let kept = [&hello, &change, &sealed_alert].map(Vec::as_slice).concat();
        assert_eq!(believable(&all), Some(kept));
        let mut bad_change = change;
        bad_change[13] = 2;
        for nothing in [vec![], alert, data, bad_change, vec![22], hello[..20].to_vec()] {
            assert_eq!(believable(&nothing), None, "{nothing:?}");
        }
        for (at, value) in [(0, 24), (0, 19), (1, 3), (2, 1), (12, 15)] {
            let mut bad = hello.clone();
            bad[at] = value;
            assert_eq!(believable(&bad), None, "{at} {value}");
        }
    }

    #[test]
    fn a_hello_is_known_by_its_random_value_and_its_cookie() {
        let hello = |cookie: &[u8]| {
            let mut text = vec![254, 253];
            text.extend([7; RANDOM]);
            text.extend([2, 9, 9, cookie.len() as u8]);
            text.extend(cookie);
            text.extend([0; 8]);
            let mut body = vec![CLIENT_HELLO, 0, 0, text.len() as u8, 0, 0, 0, 0, 0, 0, 0];
            body.push(text.len() as u8);
            body.extend(text);
            let mut bytes = vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 1, 0, body.len() as u8];
            bytes.extend(body);
            bytes
        };
        for cookie in [&b""[..], b"cookie"] {
            let datagram = hello(cookie);
            assert_eq!(client_hello(&datagram), Some(ClientHello { random: &[7; RANDOM], cookie }));
            for end in 0..RECORD_HEADER + MESSAGE_HEADER + 38 {
                assert_eq!(client_hello(&datagram[..end]), None);
            }
            assert_eq!(asked_cookie(&datagram), None);
        }
        let mut later = hello(b"");
        later[RECORD_HEADER + 8] = 5;
        assert!(client_hello(&later).is_none() && is_of_client_hello(&later));
        let ask = [
            &[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 1, 0, 17][..],
            &[3, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 5, 254, 253, 2, 8, 9],
        ];
        assert_eq!(asked_cookie(&ask.concat()), Some(&[8, 9][..]));
    }

    #[test]
    fn records_in_clear_are_numbered_as_they_come() {
        let (clear, sealed) = (record(22, 0, 99, 0, 0), record(22, 1, 77, 0, 0));
        let mut datagram = [clear.as_slice(), &sealed, &clear].concat();
        assert_eq!(renumber(&mut datagram, 5), 7);
        let numbered = [record(22, 0, 5, 0, 0), sealed, record(22, 0, 6, 0, 0)].concat();
        assert_eq!(datagram, numbered);
        let mut broken = clear;
        broken[12] = 200;
        assert_eq!(renumber(&mut broken, 0), 1);
    }

    #[test]
    fn another_certificate_than_expected_is_seen() {
        let with = |leaf: &[u8], whole: bool| {
            let list = leaf.len() as u8 + 3;
            let length = list + 3;
            let named = if whole { length } else { length + 1 };
            let mut bytes = vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 1, 0, length + 12];
            bytes.extend([CERTIFICATE, 0, 0, named, 0, 2, 0, 0, 0, 0, 0, length]);
            bytes.extend([0, 0, list, 0, 0, leaf.len() as u8]);
            bytes.extend(leaf);
            bytes
        };
        let is_foreign =
            |datagram: &[u8]| has_foreign_certificate(datagram, |leaf| leaf == b"ours");
        let other = record(22, 0, 1, 3, 0);
        assert!(!is_foreign(&[with(b"ours", true), other.clone()].concat()));
        assert!(!is_foreign(&with(b"them", false)), "it is not all there");
        for foreign in [with(b"them", true), with(b"", true)] {
            assert!(is_foreign(&[other.clone(), foreign.clone()].concat()));
            assert!((0..foreign.len()).all(|end| !is_foreign(&foreign[..end])));
        }
    }

    #[test]
    fn hellos_open_a_handshake_and_prove_nothing() {
        for (kind, number, passive, active, hello) in [
            (1, 0, true, false, true),
            (1, 1, false, false, true),
            (2, 0, false, true, false),
            (3, 0, false, true, true),
            (11, 2, false, false, false),
        ] {
            let mut datagram = record(22, 0, 0, number, 0);
            datagram[RECORD_HEADER] = kind;
            assert_eq!(is_opening(&datagram, DtlsRole::Passive), passive, "{kind}");
            assert_eq!(is_opening(&datagram, DtlsRole::Active), active, "{kind}");
            assert_eq!(is_hello(&datagram), hello, "{kind}");
        }
        assert!(!is_opening(&record(22, 1, 0, 0, 0), DtlsRole::Passive));
        assert!(!is_hello(&[]));
    }
}
