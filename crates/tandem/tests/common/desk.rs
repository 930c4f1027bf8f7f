//! A telephone on somebody's desk, of bare sockets: it is called, and does what a test says.

use std::{
    collections::VecDeque,
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use tandem_media::{Law, g711};

use super::{
    PATIENCE,
    message::{Message, take_message},
};

/// Our tag.
const TAG: &str = "desk";

/// A telephone that waits to be called.
pub(crate) struct Desk {
    sip: UdpSocket,
    rtp: UdpSocket,
    inbox: VecDeque<Message>,
    cseq: u32,
}

impl Desk {
    /// A telephone at 127.0.0.1.
    pub(crate) fn start() -> Self {
        let bind = || UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        Self { sip: bind(), rtp: bind(), inbox: VecDeque::new(), cseq: 0 }
    }

    /// Where it is called.
    pub(crate) fn uri(&self) -> String {
        format!("sip:desk@{}", self.local())
    }

    fn local(&self) -> SocketAddr {
        self.sip.local_addr().expect("it is bound")
    }

    /// Waits for a request, one that came before and was not waited for included. Repetitions of others are passed over.
    pub(crate) fn wait_for(&mut self, method: &str) -> Message {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(index) = self.inbox.iter().position(|it| it.method() == method) {
                return self.inbox.remove(index).expect("it was found");
            }
            assert!(Instant::now() < give_up, "no {method}, but {:#?}", self.inbox);
            self.read();
        }
    }

    fn read(&mut self) {
        let mut datagram = vec![0; 65_536];
        self.sip.set_read_timeout(Some(Duration::from_millis(200))).expect("a time-out can be set");
        match self.sip.recv(&mut datagram) {
            Ok(length) => {
                self.inbox.extend(take_message(&mut datagram[..length].to_vec()));
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => panic!("SIP socket: {error}"),
        }
    }

    /// Answers a request.
    pub(crate) fn reply(&self, request: &Message, status: &str, body: &str) {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for name in ["Via", "From", "Call-ID", "CSeq"] {
            for value in request.headers(name) {
                text += &format!("{name}: {value}\r\n");
            }
        }
        let to = request.header("To");
        let tag = if to.contains(";tag=") { String::new() } else { format!(";tag={TAG}") };
        text += &format!("To: {to}{tag}\r\nContact: <{};ob>\r\n", self.uri());
        if !body.is_empty() {
            text += "Content-Type: application/sdp\r\n";
        }
        self.send(request, &format!("{text}Content-Length: {}\r\n\r\n{body}", body.len()));
    }

    /// Rings, and is answered after that.
    pub(crate) fn answer(&mut self, invite: &Message) {
        self.reply(invite, "180 Ringing", "");
        let rtp = self.rtp.local_addr().expect("it is bound").port();
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {rtp} RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\n\
             a=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n"
        );
        self.reply(invite, "200 OK", &sdp);
        self.wait_for("ACK");
    }

    /// Sends a request in the dialog of `invite`.
    pub(crate) fn request(&mut self, invite: &Message, method: &str, headers: &str, body: &str) {
        self.cseq += 1;
        let contact = invite.header("Contact");
        let target = contact.trim_start_matches('<').split('>').next().expect("a URI");
        let text = format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKdesk{method}{}\r\nMax-Forwards: 70\r\n\
             From: {};tag={TAG}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {} {method}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            self.local(),
            self.cseq,
            invite.header("To"),
            invite.header("From"),
            invite.header("Call-ID"),
            self.cseq,
            body.len(),
        );
        self.send(invite, &text);
    }

    /// Presses a key by INFO.
    pub(crate) fn press(&mut self, invite: &Message, key: char) {
        let body = format!("Signal={key}\r\nDuration=160\r\n");
        self.request(invite, "INFO", "Content-Type: application/dtmf-relay\r\n", &body);
    }

    /// Presses a key by RTP (RFC 4733).
    pub(crate) fn press_by_rtp(&self, invite: &Message, event: u8) {
        for (n, end) in [(0_u16, false), (1, false), (2, true), (3, true), (4, true)] {
            let mut packet = vec![0x80, 101 | if n == 0 { 0x80 } else { 0 }];
            packet.extend((100 + n).to_be_bytes());
            packet.extend(8_000_u32.to_be_bytes());
            packet.extend(0xDE5C_u32.to_be_bytes());
            packet.extend([event, 10 | if end { 0x80 } else { 0 }]);
            packet.extend((160 * (n.min(2) + 1)).to_be_bytes());
            self.rtp.send_to(&packet, invite.media()).expect("loopback takes datagrams");
        }
    }

    /// Listens until it has heard `packets` packets of speech.
    pub(crate) fn hear_speech(&self, packets: usize) {
        let give_up = Instant::now() + PATIENCE;
        let mut loud = 0;
        let mut packet = [0; 2048];
        self.rtp.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        while loud < packets {
            let length = self.rtp.recv(&mut packet).expect("RTP comes while a call is up");
            let mut pcm = [0; 2048];
            let samples = g711::decode(Law::Mu, &packet[12..length], &mut pcm);
            loud += usize::from(pcm[..samples].iter().any(|sample| sample.unsigned_abs() > 1_000));
            assert!(Instant::now() < give_up, "{loud} packets of speech");
        }
    }

    fn send(&self, towards: &Message, text: &str) {
        let via = towards.header("Via");
        let peer = via.split(' ').nth(1).and_then(|rest| rest.split(';').next());
        let peer: SocketAddr = peer.and_then(|peer| peer.parse().ok()).expect("Via has an address");
        self.sip.send_to(text.as_bytes(), peer).expect("loopback takes datagrams");
    }
}
