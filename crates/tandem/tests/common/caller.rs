//! A telephone of bare sockets: it sends exactly what a test writes, and shows exactly what came back.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use tandem_media::{Law, g711};

use super::{
    PATIENCE,
    message::{Message, take_message},
    wait_until,
};

/// How long a request over UDP waits for an answer until it is sent again (RFC 3261 §17.1.1.1, T1).
const T1: Duration = Duration::from_millis(500);

/// Numbers for Call-IDs, tags and branches.
static SERIAL: AtomicU32 = AtomicU32::new(1);

fn serial() -> u32 {
    SERIAL.fetch_add(1, Ordering::Relaxed)
}

/// A request that was sent, as its response has to name it.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    text: String,
    branch: String,
    cseq: String,
}

impl Sent {
    fn is_answered_by(&self, message: &Message) -> bool {
        message.status() > 0
            && message.header("Via").contains(&self.branch)
            && message.header("CSeq") == self.cseq
    }

    /// The whole request.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The same request as it comes over another proxy: with another branch.
    pub(crate) fn over_another_branch(&self) -> Self {
        let branch = format!("z9hG4bKother{}", serial());
        let text = self.text.replace(&self.branch, &branch);
        Self { text, branch, cseq: self.cseq.clone() }
    }
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

/// The telephone. Its calls share one RTP port, so only one of them can be listened to.
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

    /// The same telephone after its TCP connection broke: it has another one.
    pub(crate) fn reconnect(&mut self) {
        let Wire::Tcp(stream, unread) = &mut self.wire else { panic!("there is no connection") };
        let daemon = stream.peer_addr().expect("it was connected");
        *stream = TcpStream::connect(daemon).expect("the daemon listens");
        unread.clear();
        self.local = stream.local_addr().expect("a connected socket has an address");
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
        let names = [
            ("0", "PCMU/8000"),
            ("8", "PCMA/8000"),
            ("18", "G729/8000"),
            ("96", "opus/48000/2"),
            ("97", "iLBC/8000"),
            ("101", "telephone-event/8000"),
        ];
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
    pub(crate) fn start(
        &mut self,
        call: &mut Call,
        method: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Sent {
        let request = self.prepare(call, method, headers, body);
        self.send(&request.text);
        request
    }

    /// Writes a new request of `call` and leaves it to the test to send it.
    pub(crate) fn prepare(
        &self,
        call: &mut Call,
        method: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Sent {
        call.cseq += 1;
        let branch = format!("z9hG4bKt{}x{}", self.local.port(), serial());
        let request = self.request(call, method, &branch, call.cseq, headers, body);
        if method == "INVITE" {
            call.invite = Some(request.clone());
        }
        request
    }

    /// Waits for the final response to `sent`. What belongs to the transaction is done: a refused INVITE is
    /// acknowledged, and the dialog takes the tag and the Contact of a 2xx.
    pub(crate) fn finish(&mut self, call: &mut Call, sent: &Sent) -> Message {
        let response = self
            .receive(Some(sent), |message| sent.is_answered_by(message) && message.status() >= 200);
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
    pub(crate) fn ask(
        &mut self,
        call: &mut Call,
        method: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Message {
        let sent = self.start(call, method, headers, body);
        self.finish(call, &sent)
    }

    /// Waits for a provisional response of `status` to `sent`.
    pub(crate) fn wait_for(&mut self, sent: &Sent, status: u16) -> Message {
        self.receive(Some(sent), |message| {
            sent.is_answered_by(message) && message.status() == status
        })
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

    /// Calls `number` until there is room: a call is forgotten a moment after its record is on disk.
    pub(crate) fn connect_when_free(&mut self, number: &str) -> Call {
        let mut connected = None;
        wait_until("room for a call", || {
            let (call, response) = self.call(number);
            assert!([200, 486, 503].contains(&response.status()), "{response:?}");
            connected = (response.status() == 200).then_some(call);
            connected.is_some()
        });
        connected.expect("it was waited for")
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
        self.wait_for_request(call, "BYE", "200 OK")
    }

    /// Waits for a request of the daemon in `call`, and answers it with this status line.
    pub(crate) fn wait_for_request(&mut self, call: &Call, method: &str, status: &str) -> Message {
        let request = self.receive(None, |message| {
            message.method() == method && message.header("Call-ID") == call.id
        });
        let mut response = format!("SIP/2.0 {status}\r\n");
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            for value in request.headers(name) {
                response += &format!("{name}: {value}\r\n");
            }
        }
        self.send(&format!("{response}Content-Length: 0\r\n\r\n"));
        request
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

    /// Its RTP socket, for somebody who listens in its place.
    pub(crate) fn rtp(&self) -> UdpSocket {
        self.rtp.try_clone().expect("a socket can be shared")
    }

    /// How many RTP packets it has sent.
    pub(crate) fn rtp_sent(&self) -> u16 {
        self.sent_rtp
    }

    /// How many messages have come that nobody has waited for.
    pub(crate) fn unclaimed(&mut self) -> usize {
        while let Some(message) = self.read() {
            self.inbox.push_back(message);
        }
        self.inbox.len()
    }

    /// Takes all RTP that has come already.
    pub(crate) fn forget_rtp(&mut self) {
        while self.hear(Duration::from_millis(1)).is_some() {}
    }

    fn request(
        &self,
        call: &Call,
        method: &str,
        branch: &str,
        cseq: u32,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Sent {
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
                    resend = resend.filter(|sent| !sent.is_answered_by(&message));
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

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
