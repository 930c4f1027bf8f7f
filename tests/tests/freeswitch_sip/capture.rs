//! Reads a recording: pcap, Ethernet, IPv4, UDP.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use tandem_sip::message::Message;

use crate::{folder, replay::Seat};

/// Ports on which the recordings have SIP.
const SIP_PORTS: [u16; 5] = [5060, 5080, 5090, 5091, 5099];
/// The longest packet we read; the interface's own limit is 64 KiB.
const MAX_PACKET: usize = 70_000;

/// A UDP datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Datagram {
    /// Since the first packet of the recording.
    pub(crate) at: Duration,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

impl Datagram {
    pub(crate) fn is_sip(&self) -> bool {
        [self.from, self.to].iter().any(|end| SIP_PORTS.contains(&end.port()))
    }

    pub(crate) fn message(&self) -> Message {
        Message::parse(&self.bytes).expect("the recordings hold whole messages")
    }

    pub(crate) fn call_id(&self) -> String {
        match self.message() {
            Message::Request(request) => request.call_id().unwrap().to_owned(),
            Message::Response(response) => response.call_id().unwrap().to_owned(),
        }
    }
}

/// One recording.
#[derive(Debug)]
pub(crate) struct Capture {
    pub(crate) datagrams: Vec<Datagram>,
}

impl Capture {
    pub(crate) fn read(name: &str) -> Self {
        let file = folder().join(format!("{name}.pcap"));
        let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        let datagrams = parse(&bytes).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        assert!(!datagrams.is_empty(), "{file:?} has no UDP");
        Self { datagrams }
    }

    pub(crate) fn sip(&self) -> impl Iterator<Item = &Datagram> {
        self.datagrams.iter().filter(|datagram| datagram.is_sip())
    }

    /// Both ends of every call.
    pub(crate) fn seats(&self) -> Vec<Seat> {
        let mut ends: BTreeMap<u16, Vec<String>> = BTreeMap::new();
        let mut seats = Vec::new();
        for datagram in self.sip() {
            if let Message::Response(_) = datagram.message() {
                continue;
            }
            let id = datagram.call_id();
            for port in [datagram.from.port(), datagram.to.port()] {
                let calls = ends.entry(port).or_default();
                if !calls.contains(&id) {
                    seats.push(Seat { port, call: calls.len() });
                    calls.push(id.clone());
                }
            }
        }
        seats
    }

    /// The messages of one call at one of its ends, and nothing when there is no such call.
    pub(crate) fn call(&self, seat: Seat) -> Vec<&Datagram> {
        let touches =
            |datagram: &&Datagram| [datagram.from.port(), datagram.to.port()].contains(&seat.port);
        let mut ids: Vec<String> = Vec::new();
        for datagram in self.sip().filter(touches) {
            let id = datagram.call_id();
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        let Some(wanted) = ids.get(seat.call) else { return Vec::new() };
        self.sip().filter(touches).filter(|datagram| datagram.call_id() == *wanted).collect()
    }
}

/// The UDP datagrams of a pcap file with microsecond stamps over Ethernet; what else is in it is left out.
fn parse(file: &[u8]) -> Result<Vec<Datagram>, String> {
    let header = file.first_chunk::<24>().ok_or("no pcap header")?;
    if header[..4] != [0xD4, 0xC3, 0xB2, 0xA1] {
        return Err(format!("not little-endian pcap with microseconds: {:02x?}", &header[..4]));
    }
    let link = little(header, 20).ok_or("no link type")?;
    if link != 1 {
        return Err(format!("link type {link} is not Ethernet"));
    }
    let mut rest = &file[24..];
    let mut first = None;
    let mut datagrams = Vec::new();
    while !rest.is_empty() {
        let (record, after) = rest.split_at_checked(16).ok_or("a record ends in its header")?;
        let field = |at| little(record, at).ok_or("a record ends in its header");
        let stamp = Duration::from_secs(field(0)?.into()) + Duration::from_micros(field(4)?.into());
        let (captured, length) = (field(8)? as usize, field(12)? as usize);
        if captured != length || length > MAX_PACKET {
            return Err(format!("{captured} of {length} bytes of a packet"));
        }
        let (packet, after) = after.split_at_checked(captured).ok_or("a packet is cut off")?;
        rest = after;
        let at = stamp.checked_sub(*first.get_or_insert(stamp)).ok_or("time goes backwards")?;
        datagrams.extend(udp(at, packet)?);
    }
    Ok(datagrams)
}

/// The datagram in an Ethernet frame, if it holds one over IPv4.
fn udp(at: Duration, frame: &[u8]) -> Result<Option<Datagram>, &'static str> {
    const CUT: &str = "a frame is cut off";
    if big(frame, 12).ok_or(CUT)? != 0x0800 {
        return Ok(None);
    }
    let ip = &frame[14..];
    let header_length = usize::from(ip.first().ok_or(CUT)? & 0x0F) * 4;
    let total = usize::from(big(ip, 2).ok_or(CUT)?);
    if *ip.get(9).ok_or(CUT)? != 17 {
        return Ok(None);
    }
    // Fragments, but for the flag that forbids them.
    if big(ip, 6).ok_or(CUT)? & 0x3FFF != 0 {
        return Err("a fragment");
    }
    let address = |at: usize| {
        let octets: [u8; 4] = ip.get(at..at + 4)?.try_into().ok()?;
        Some(octets)
    };
    let datagram = ip.get(header_length..total).ok_or(CUT)?;
    let length = usize::from(big(datagram, 4).ok_or(CUT)?);
    let bytes = datagram.get(8..length).ok_or(CUT)?.to_vec();
    let end = |ip_at, port_at| Some(SocketAddr::from((address(ip_at)?, big(datagram, port_at)?)));
    let (from, to) = (end(12, 0).ok_or(CUT)?, end(16, 2).ok_or(CUT)?);
    Ok(Some(Datagram { at, from, to, bytes }))
}

fn little(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn big(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[test]
fn a_file_cut_anywhere_is_refused_or_shorter_and_garbage_is_no_recording() {
    let file = std::fs::read(folder().join("sip/out_busy486.pcap")).unwrap();
    let whole = parse(&file).unwrap();
    assert_eq!(whole.len(), 4);
    for cut in 0..file.len() {
        if let Ok(part) = parse(&file[..cut]) {
            assert!(part.len() < whole.len() && part == whole[..part.len()], "cut at {cut}");
        }
    }
    for at in 24..file.len() {
        let mut garbage = file.clone();
        garbage[at] ^= 0xFF;
        parse(&garbage).ok();
    }
}
