//! The identifier of a master key that some peers put into each packet.

/// The longest identifier (RFC 4568 §6.1).
const LONGEST: usize = 128;

/// An identifier of a master key: a number, written in a fixed count of bytes (RFC 4568 §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mki {
    value: u128,
    length: usize,
}

impl Mki {
    /// The identifier `value` in `length` bytes, 1 to 128; none when it does not fit.
    pub const fn new(value: u128, length: usize) -> Option<Self> {
        let fits = length >= 16 || (length > 0 && value >> (length * 8) == 0);
        if fits && length <= LONGEST { Some(Self { value, length }) } else { None }
    }

    /// Bytes in each packet.
    pub const fn length(self) -> usize {
        self.length
    }

    /// Whether `bytes` are this identifier.
    pub(crate) fn matches(self, bytes: &[u8]) -> bool {
        let value = self.value.to_be_bytes();
        let zeros = bytes.len().saturating_sub(value.len());
        let (head, tail) = bytes.split_at(zeros);
        head.iter().all(|byte| *byte == 0) && value.ends_with(tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_fits_its_length() {
        assert!(Mki::new(1, 1).unwrap().matches(&[1]));
        assert!(Mki::new(0x102, 4).unwrap().matches(&[0, 0, 1, 2]));
        assert!(!Mki::new(0x102, 4).unwrap().matches(&[0, 0, 1, 3]));
        let mut long = [0; 20];
        long[19] = 9;
        assert!(Mki::new(9, 20).unwrap().matches(&long));
        long[0] = 1;
        assert!(!Mki::new(9, 20).unwrap().matches(&long));
        for (value, length) in [(256, 1), (0, 0), (1, 129)] {
            assert_eq!(Mki::new(value, length), None, "{value} {length}");
        }
    }
}
