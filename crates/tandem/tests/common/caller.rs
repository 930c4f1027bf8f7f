//! A telephone of bare sockets: it sends exactly what a test writes, and shows exactly what came back.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use tandem_media::{Law, g711};

use super::PATIENCE;

/// How long a request over UDP waits for an answer until it is sent again (RFC 3261 §17.1.1.1, T1).
const T1: Duration = Duration::from_millis(500);

/// Numbers for Call-IDs, tags and branches.
static SERIAL: AtomicU32 = AtomicU32::new(1);

fn serial() -> u32 {
    SERIAL.fetch_add(1, Ordering::Relaxed)
}

/// One SIP message as it stood on the wire.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    head: String,
    /// What follows the empty line.
    pub(crate) body: String,
}

impl Message {
    /// The status of a response; 0 for a request.
    pub(crate) fn status(&self) -> u16 {
        let words = self.head.strip_prefix("SIP/2.0 ");
        words.map_or(0, |words| words[..3].parse().expect("a status is a number"))
    }

    /// The method of a request; the version for a response.
    pub(crate) fn method(&self) -> &str {
        self.head.split(' ').next().unwrap_or_default()
    }

    /// The value of the header `name`; panics when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut values = self.headers(name);
        values.next().unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }

    /// The values of all header lines called `name`.
    pub(crate) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let named = lines.filter(move |(key, _)| key.trim().eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim())
    }

    /// Whether the SDP has the attribute line `a=name`.
    pub(crate) fn has_attribute(&self, name: &str) -> bool {
        self.body.lines().any(|line| line.strip_prefix("a=") == Some(name))
    }

    /// The formats of the audio line of the SDP.
    pub(crate) fn formats(&self) -> Vec<&str> {
        let line = self.body.lines().find_map(|line| line.strip_prefix("m=audio "));
        line.expect("the SDP has audio").split(' ').skip(2).collect()
    }

    /// Where the SDP wants RTP.
    pub(crate) fn media(&self) -> SocketAddr {
        let after = |prefix| {
            let line = self.body.lines().find_map(|line| line.strip_prefix(prefix));
            line.and_then(|line| line.split(' ').next()).expect("the SDP has address and port")
        };
        let ip: IpAddr = after("c=IN IP4 ").parse().expect("an address");
        SocketAddr::new(ip, after("m=audio ").parse().expect("a port"))
    }

    fn answers(&self, request: &Sent) -> bool {
        self.status() > 0
            && self.header("Via").contains(&request.branch)
            && self.header("CSeq") == request.cseq
    }
}

/// A request that was sent, as its response has to name it.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    text: String,
    branch: String,
    cseq: String,
}

/// A dialog, or what is to become one.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    id: String,
    from: String,
    to: String,
    target: String,
    cseq: u32,
    invite: Option<Sent>,
    /// Where the daemon wants RTP.
    pub(crate) media: Option<SocketAddr>,
}

impl Call {
    /// The number of the last request.
    pub(crate) fn cseq(&self) -> u32 {
        self.cseq
    }

    /// The Request-URI of the next request.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// Its Call-ID.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

/// One RTP packet that was heard.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    /// Its payload type.
    pub(crate) payload_type: u8,
    /// Its sequence number.
    pub(crate) sequence: u16,
    /// The loudest sample, taken as mu-law.
    pub(crate) peak: u16,
}

enum Wire {
    Udp(UdpSocket, SocketAddr),
    Tcp(TcpStream, Vec<u8>),
}

/// The telephone.
pub(crate) struct Caller {
    wire: Wire,
    local: SocketAddr,
    rtp: UdpSocket,
    sent_rtp: u16,
    inbox: VecDeque<Message>,
}

impl Caller {
    /// A telephone at 127.0.0.1 that speaks SIP over UDP to `daemon`.
    pub(crate) fn udp(daemon: SocketAddr) -> Self {
        Self::udp_from("127.0.0.1", daemon)
    }

    /// The same at another address of this machine.
    pub(crate) fn udp_from(address: &str, daemon: SocketAddr) -> Self {
        let socket = UdpSocket::bind((address, 0)).expect("a port is free");
        let local = socket.local_addr().expect("a bound socket has an address");
        Self::new(Wire::Udp(socket, daemon), local)
    }

    /// A telephone at 127.0.0.1 that speaks SIP over TCP to `daemon`.
    pub(crate) fn tcp(daemon: SocketAddr) -> Self {
        let stream = TcpStream::connect(daemon).expect("the daemon listens");
        let local = stream.local_addr().expect("a connected socket has an address");
        Self::new(Wire::Tcp(stream, Vec::new()), local)
    }

    fn new(wire: Wire, local: SocketAddr) -> Self {
        let rtp = UdpSocket::bind((local.ip(), 0)).expect("a port is free");
        Self { wire, local, rtp, sent_rtp: 0, inbox: VecDeque::new() }
    }

    /// A call to `number` that was not sent yet.
    pub(crate) fn dial(&self, number: &str) -> Call {
        let host = match &self.wire {
            Wire::Udp(_, daemon) => *daemon,
            Wire::Tcp(stream, _) => stream.peer_addr().expect("it is connected"),
        };
        let uri = format!("sip:{number}@{host}");
        Call {
            id: format!("{}-{}@test", serial(), self.local.port()),
            from: format!("\"Test\" <sip:+13055550100@{}>;tag=t{}", self.local, serial()),
            to: format!("<{uri}>"),
            target: uri,
            cseq: 0,
            invite: None,
            media: None,
        }
    }

    /// A description of our end: its payload types, such as `0 8 101`, and its direction.
    pub(crate) fn sdp(&self, formats: &str, direction: &str) -> String {
        let (ip, port) = (self.local.ip(), self.rtp.local_addr().expect("it is bound").port());
        let names = [("0", "PCMU/8000"), ("8", "PCMA/8000"), ("18", "G729/8000"), ("96", "opus/48000/2"), ("101", "telephone-event/8000")];
        let maps: String = formats
            .split(' ')
            .filter_map(|format| names.iter().find(|(number, _)| *number == format))
            .map(|(number, name)| format!("a=rtpmap:{number} {name}\r\n"))
            .collect();
        format!(
            "v=0\r\no=- 1 {} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP {formats}\r\n{maps}a=ptime:20\r\na={direction}\r\n",
            serial()
        )
    }

    /// Sends a new request of `call`; its `headers` stand beside the usual ones.
    pub(crate) fn start(&mut self, call: &mut Call, method: &str, headers: &[(&str, &str)], body: &str) -> Sent {
        call.cseq += 1;
        let branch = format!("z9hG4bKt{}x{}", self.local.port(), serial());
        let sent = self.request(call, method, &branch, call.cseq, headers, body);
        if method == "INVITE" {
            call.invite = Some(sent.clone());
        }
        self.send(&sent.text);
        sent
    }

    /// Waits for the final response to `sent`. What belongs to the transaction is done: a refused INVITE is
    /// acknowledged, and the dialog takes the tag and the Contact of a 2xx.
    pub(crate) fn finish(&mut self, call: &mut Call, sent: &Sent) -> Message {
        let response = self.receive(Some(sent), |message| message.answers(sent) && message.status() >= 200);
        if sent.cseq.ends_with(" INVITE") {
            if response.status() >= 300 {
                let number = sent.cseq.split(' ').next().and_then(|number| number.parse().ok());
                let mut refused = call.clone();
                response.header("To").clone_into(&mut refused.to);
                let number = number.expect("it is ours");
                let ack = self.request(&refused, "ACK", &sent.branch, number, &[], "");
                self.send(&ack.text);
            } else {
                response.header("To").clone_into(&mut call.to);
                let contact = response.header("Contact");
                let target = contact.trim_start_matches('<').split('>').next();
                target.expect("a Contact has a URI").clone_into(&mut call.target);
                call.media = Some(response.media());
            }
        }
        response
    }

    /// Sends a request of `call` and waits for its final response.
    pub(crate) fn ask(&mut self, call: &mut Call, method: &str, headers: &[(&str, &str)], body: &str) -> Message {
        let sent = self.start(call, method, headers, body);
        self.finish(call, &sent)
    }

    /// Waits for a provisional response of `status` to `sent`.
    pub(crate) fn wait_for(&mut self, sent: &Sent, status: u16) -> Message {
        self.receive(Some(sent), |message| message.answers(sent) && message.status() == status)
    }

    /// Cancels the INVITE of `call`; the response to the CANCEL.
    pub(crate) fn cancel(&mut self, call: &mut Call) -> Message {
        let invite = call.invite.clone().expect("an INVITE was sent");
        let cancel = self.request(call, "CANCEL", &invite.branch, call.cseq, &[], "");
        self.send(&cancel.text);
        self.finish(call, &cancel)
    }

    /// Acknowledges the 2xx to the INVITE of `call`; `body` is the answer to a delayed offer.
    pub(crate) fn acknowledge(&mut self, call: &Call, body: &str) {
        let ack = self.request(call, "ACK", &format!("z9hG4bKa{}", serial()), call.cseq, &[], body);
        self.send(&ack.text);
    }

    /// Calls `number` with a usual offer and waits for its response; a 200 is acknowledged.
    pub(crate) fn call(&mut self, number: &str) -> (Call, Message) {
        let mut call = self.dial(number);
        let offer = self.sdp("0 8 101", "sendrecv");
        let response = self.ask(&mut call, "INVITE", &[], &offer);
        if response.status() == 200 {
            self.acknowledge(&call, "");
        }
        (call, response)
    }

    /// Calls `number` and is answered.
    pub(crate) fn connect(&mut self, number: &str) -> Call {
        let (call, response) = self.call(number);
        assert_eq!(response.status(), 200, "{response:?}");
        call
    }

    /// Changes the session: a re-INVITE whose 200 is acknowledged.
    pub(crate) fn reinvite(&mut self, call: &mut Call, direction: &str) -> Message {
        let offer = self.sdp("0 8 101", direction);
        let response = self.ask(call, "INVITE", &[], &offer);
        assert_eq!(response.status(), 200, "{response:?}");
        self.acknowledge(call, "");
        response
    }

    /// Presses a digit by INFO.
    pub(crate) fn press(&mut self, call: &mut Call, digit: char) {
        let body = format!("Signal={digit}\r\nDuration=160\r\n");
        let response = self.ask(call, "INFO", &[("Content-Type", "application/dtmf-relay")], &body);
        assert_eq!(response.status(), 200, "{response:?}");
    }

    /// Hangs up.
    pub(crate) fn hang_up(&mut self, call: &mut Call) {
        let response = self.ask(call, "BYE", &[], "");
        assert_eq!(response.status(), 200, "{response:?}");
    }

    /// Waits until the daemon hangs up, and answers that.
    pub(crate) fn wait_for_bye(&mut self, call: &Call) -> Message {
        let bye = self.receive(None, |message| message.method() == "BYE" && message.header("Call-ID") == call.id);
        let mut response = String::from("SIP/2.0 200 OK\r\n");
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            for value in bye.headers(name) {
                response += &format!("{name}: {value}\r\n");
            }
        }
        self.send(&format!("{response}Content-Length: 0\r\n\r\n"));
        bye
    }

    /// Sends what no test could have written with the methods above.
    pub(crate) fn send(&mut self, text: &str) {
        match &mut self.wire {
            Wire::Udp(socket, daemon) => {
                socket.send_to(text.as_bytes(), *daemon).expect("loopback takes datagrams");
            }
            Wire::Tcp(stream, _) => stream.write_all(text.as_bytes()).expect("the daemon reads"),
        }
    }

    /// Waits for the next `count` RTP packets and answers each with 20 ms of silence, as a caller who listens does.
    pub(crate) fn listen(&mut self, call: &Call, count: usize) -> Vec<Heard> {
        let media = call.media.expect("the call is answered");
        (0..count)
            .map(|_| {
                let heard = self.hear(PATIENCE).expect("RTP comes while a call is up");
                self.sent_rtp += 1;
                let mut packet = vec![0x80, 0x00];
                packet.extend(self.sent_rtp.to_be_bytes());
                packet.extend((u32::from(self.sent_rtp) * 160).to_be_bytes());
                packet.extend(0x7E57_0001_u32.to_be_bytes());
                packet.extend([Law::Mu.silence(); 160]);
                self.rtp.send_to(&packet, media).expect("loopback takes datagrams");
                heard
            })
            .collect()
    }

    /// The next RTP packet, if one comes within `patience`.
    pub(crate) fn hear(&mut self, patience: Duration) -> Option<Heard> {
        let mut packet = [0; 2048];
        self.rtp.set_read_timeout(Some(patience)).expect("a time-out can be set");
        let length = match self.rtp.recv(&mut packet) {
            Ok(length) => length,
            Err(error) if is_timeout(error.kind()) => return None,
            Err(error) => panic!("RTP socket: {error}"),
        };
        assert!(length > 12 && packet[0] >> 6 == 2, "no RTP: {:?}", &packet[..length]);
        let mut pcm = [0; 2048];
        let samples = g711::decode(Law::Mu, &packet[12..length], &mut pcm);
        Some(Heard {
            payload_type: packet[1] & 0x7F,
            sequence: u16::from_be_bytes([packet[2], packet[3]]),
            peak: pcm[..samples].iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0),
        })
    }

    /// Takes all RTP that has come already.
    pub(crate) fn forget_rtp(&mut self) {
        while self.hear(Duration::from_millis(1)).is_some() {}
    }

    fn request(&self, call: &Call, method: &str, branch: &str, cseq: u32, headers: &[(&str, &str)], body: &str) -> Sent {
        let transport = if matches!(self.wire, Wire::Udp(..)) { "UDP" } else { "TCP" };
        let local = self.local;
        let mut text = format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/{transport} {local};rport;branch={branch}\r\n\
             Max-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:test@{local};transport={}>\r\n",
            call.target,
            call.from,
            call.to,
            call.id,
            transport.to_ascii_lowercase()
        );
        let typed = headers.iter().any(|(name, _)| *name == "Content-Type");
        if !body.is_empty() && !typed {
            text += "Content-Type: application/sdp\r\n";
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        Sent { text, branch: branch.to_owned(), cseq: format!("{cseq} {method}") }
    }

    /// Waits for a message that is `wanted`; others are kept for later. `sent` is repeated until anything answers it.
    fn receive(&mut self, sent: Option<&Sent>, wanted: impl Fn(&Message) -> bool) -> Message {
        let give_up = Instant::now() + PATIENCE;
        let mut resend = sent.filter(|_| matches!(self.wire, Wire::Udp(..)));
        loop {
            if let Some(index) = self.inbox.iter().position(&wanted) {
                return self.inbox.remove(index).expect("it was found");
            }
            assert!(Instant::now() < give_up, "nothing came, but: {:#?}; to {sent:#?}", self.inbox);
            match self.read() {
                Some(message) => {
                    resend = resend.filter(|sent| !message.answers(sent));
                    self.inbox.push_back(message);
                }
                None => {
                    if let Some(sent) = resend {
                        self.send(&sent.text);
                    }
                }
            }
        }
    }

    /// The next message, if one comes within T1.
    fn read(&mut self) -> Option<Message> {
        match &mut self.wire {
            Wire::Udp(socket, _) => {
                let mut datagram = vec![0; 65_536];
                socket.set_read_timeout(Some(T1)).expect("a time-out can be set");
                match socket.recv(&mut datagram) {
                    Ok(length) => take_message(&mut datagram[..length].to_vec()),
                    Err(error) if is_timeout(error.kind()) => None,
                    Err(error) => panic!("SIP socket: {error}"),
                }
            }
            Wire::Tcp(stream, unread) => {
                if let Some(message) = take_message(unread) {
                    return Some(message);
                }
                let mut bytes = [0; 4096];
                stream.set_read_timeout(Some(T1)).expect("a time-out can be set");
                match stream.read(&mut bytes) {
                    Ok(0) => panic!("the daemon closed the connection"),
                    Ok(length) => unread.extend_from_slice(&bytes[..length]),
                    Err(error) if is_timeout(error.kind()) => return None,
                    Err(error) => panic!("SIP connection: {error}"),
                }
                take_message(unread)
            }
        }
    }
}

/// Takes the first whole message off `bytes`.
fn take_message(bytes: &mut Vec<u8>) -> Option<Message> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..end].to_vec()).expect("the daemon writes UTF-8");
    let message = Message { head, body: String::new() };
    let length: usize = message.header("Content-Length").parse().expect("a length is a number");
    let body = bytes.get(end + 4..end + 4 + length)?.to_vec();
    bytes.drain(..end + 4 + length);
    Some(Message { body: String::from_utf8(body).expect("the daemon writes UTF-8"), ..message })
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
