//! Records of DTLS from the outside: which parts of a handshake were there before.

/// Parts of a handshake that are remembered; one has about ten.
const MAX_PARTS: usize = 64;

/// Content type of handshake messages (RFC 5246 §6.2.1).
const HANDSHAKE: u8 = 22;
/// Bytes of a record's header (RFC 6347 §4.1).
const RECORD_HEADER: usize = 13;

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
    let header: &[u8; RECORD_HEADER] = bytes.first_chunk()?;
    let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
    let body = bytes.get(RECORD_HEADER..RECORD_HEADER + length)?;
    let behind = &bytes[RECORD_HEADER + length..];
    let in_clear = header[0] == HANDSHAKE && header[3..5] == [0, 0];
    let part = body.first_chunk::<12>().filter(|_| in_clear).map(|head| Part {
        message: u16::from_be_bytes([head[4], head[5]]),
        offset: u32::from_be_bytes([0, head[6], head[7], head[8]]),
        length: u32::from_be_bytes([0, head[9], head[10], head[11]]),
    });
    Some((part, behind))
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
}
