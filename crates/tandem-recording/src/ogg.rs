//! Pages of an Ogg stream (RFC 3533).

/// Segments of a page at most.
const SEGMENTS: usize = 255;

/// The page with which a stream begins, and the one with which it ends.
const BEGIN: u8 = 2;
const END: u8 = 4;

/// Puts packets of one stream into pages. A page never ends within a packet.
#[derive(Debug)]
pub(crate) struct Pages {
    serial: u32,
    sequence: u32,
    segments: Vec<u8>,
    body: Vec<u8>,
    granule: u64,
}

impl Pages {
    /// A stream of that serial number.
    pub(crate) fn new(serial: u32) -> Self {
        Self {
            serial,
            sequence: 0,
            segments: Vec::with_capacity(SEGMENTS),
            body: Vec::new(),
            granule: 0,
        }
    }

    /// Adds a packet of less than 64 kB, with which the stream has come to `granule`. A page that is full goes to `out` before.
    pub(crate) fn push(&mut self, packet: &[u8], granule: u64, out: &mut Vec<u8>) {
        if self.segments.len() + packet.len() / 255 + 1 > SEGMENTS {
            self.close(false, out);
        }
        self.segments.extend(std::iter::repeat_n(255, packet.len() / 255));
        self.segments.push((packet.len() % 255) as u8);
        self.body.extend_from_slice(packet);
        self.granule = granule;
    }

    /// Writes the page that is open, if it has packets, or if it is the last one.
    pub(crate) fn close(&mut self, is_last: bool, out: &mut Vec<u8>) {
        if self.segments.is_empty() && !is_last {
            return;
        }
        let start = out.len();
        let kind = if self.sequence == 0 { BEGIN } else { 0 } | if is_last { END } else { 0 };
        out.extend_from_slice(b"OggS\0");
        out.push(kind);
        out.extend_from_slice(&self.granule.to_le_bytes());
        out.extend_from_slice(&self.serial.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.push(self.segments.len() as u8);
        out.extend_from_slice(&self.segments);
        out.extend_from_slice(&self.body);
        let checksum = crc(&out[start..]);
        out[start + 22..start + 26].copy_from_slice(&checksum.to_le_bytes());
        self.sequence += 1;
        self.segments.clear();
        self.body.clear();
    }

    /// The stream ends at `granule`, maybe in the middle of its last packet.
    pub(crate) fn finish(&mut self, granule: u64, out: &mut Vec<u8>) {
        self.granule = granule;
        self.close(true, out);
    }
}

/// Bytes of a page at most.
pub(crate) const LONGEST_PAGE: usize = 27 + SEGMENTS + SEGMENTS * 255;

/// A page of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    /// How far the stream has come with it.
    pub(crate) granule: u64,
    /// It is the stream's last one.
    pub(crate) is_last: bool,
    /// Its bytes.
    pub(crate) length: usize,
}

/// The fixed part of the head of a page that `bytes` begins with.
pub(crate) fn read_page_head(bytes: &[u8]) -> Option<&[u8; 27]> {
    bytes.first_chunk().filter(|head| head.starts_with(b"OggS\0"))
}

/// The page that `bytes` begins with; none when it is no whole page.
pub(crate) fn read_page(bytes: &[u8]) -> Option<Page> {
    let head = read_page_head(bytes)?;
    let granule = u64::from_le_bytes(*head[6..].first_chunk()?);
    let segments = bytes.get(27..27 + usize::from(head[26]))?;
    let body: usize = segments.iter().map(|length| usize::from(*length)).sum();
    let length = 27 + segments.len() + body;
    let is_last = head[5] & END != 0;
    (bytes.len() >= length).then_some(Page { granule, is_last, length })
}

/// The checksum of a page: polynomial 0x04C11DB7, from zero, nothing reflected or inverted.
fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |crc, byte| crc << 8 ^ TABLE[usize::from((crc >> 24) as u8 ^ byte)])
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = crc << 1 ^ if crc >> 31 == 1 { 0x04C1_1DB7 } else { 0 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_ogg() {
        // CRC-32/MPEG-2's polynomial from zero: its check value, over "123456789".
        assert_eq!(crc(b"123456789"), 0x89A1_897F);
    }

    #[test]
    fn pages_hold_whole_packets_and_say_where_they_end() {
        let (mut pages, mut out) = (Pages::new(7), Vec::new());
        pages.push(&[1; 19], 0, &mut out);
        pages.close(false, &mut out);
        let first = Page { granule: 0, is_last: false, length: out.len() };
        assert_eq!(read_page(&out), Some(first));
        assert_eq!(out[5], BEGIN);
        let mut rest = out.len();
        for packet in 1..=300 {
            pages.push(&[2; 255], packet * 960, &mut out);
        }
        pages.finish(300 * 960 - 5, &mut out);
        let (mut granules, mut last) = (Vec::new(), rest);
        while let Some(page) = read_page(&out[rest..]) {
            granules.push((page.granule, page.is_last));
            last = rest;
            rest += page.length;
        }
        // 127 packets of two segments a page.
        let ends = [(127 * 960, false), (254 * 960, false), (300 * 960 - 5, true)];
        assert_eq!(granules, ends);
        assert_eq!(rest, out.len());
        assert_eq!(read_page(&out[last..out.len() - 1]), None);
    }
}
