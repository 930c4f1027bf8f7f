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
