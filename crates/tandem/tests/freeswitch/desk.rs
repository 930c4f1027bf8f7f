//! Telephones for a real switch: a SIP user agent of bare sockets that is only ever called.

use std::{
    collections::HashMap,
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tandem_call::HangupCause;
use tandem_sim::freeswitch::Heard;

use super::{
    line_audio::LineAudio,
    stage::{Behaviour, Phone},
};
use crate::common::{
    message::{Message, take_message},
    wait_until,
};

/// The header by which a call of ours is told from others.
pub(crate) const CALL_HEADER: &str = "X-Test-Call";

/// Telephones that share one SIP port. Dropped, they say nothing any more.
pub(crate) struct Desk {
    shared: Arc<Shared>,
}

struct Shared {
    sip: UdpSocket,
    local: SocketAddr,
    behaviours: Mutex<HashMap<String, Behaviour>>,
    dialogs: Mutex<Vec<Arc<Dialog>>>,
    /// What was answered to each registration, by its Call-ID.
    registered: Mutex<HashMap<String, u16>>,
    stop: AtomicBool,
}

/// A call to one of the telephones.
struct Dialog {
    call_id: String,
    user: String,
    /// The value of [`CALL_HEADER`], if there is one.
    name: Option<String>,
    audio: LineAudio,
    state: Mutex<State>,
}

struct State {
    invite: Message,
    /// Its last response, for an INVITE that comes again.
    response: String,
    tag: String,
    peer: SocketAddr,
    /// The number of our last request, and of the last that was answered.
    cseq: u32,
    done: u32,
    answered: bool,
    /// The other side holds it.
    held: bool,
    /// Where the other side wants it to call.
    referred: Option<String>,
}

impl Desk {
    /// Telephones at a port of 127.0.0.1; 0 is any that is free.
    pub(crate) fn open(port: u16) -> Self {
        let sip = UdpSocket::bind(("127.0.0.1", port))
            .unwrap_or_else(|error| panic!("port {port} of 127.0.0.1: {error}"));
        sip.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out can be set");
        let local = sip.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            sip,
            local,
            behaviours: Mutex::default(),
            dialogs: Mutex::default(),
            registered: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || serving.serve());
        Self { shared }
    }

    /// Where they are called.
    pub(crate) fn address(&self) -> SocketAddr {
        self.shared.local
    }

    /// Says what becomes of calls to `user`.
    pub(crate) fn expect(&self, user: &str, behaviour: Behaviour) {
        locked(&self.shared.behaviours).insert(user.to_owned(), behaviour);
    }

    /// The call with this value of [`CALL_HEADER`], once it is answered.
    pub(crate) fn named(&self, name: &str) -> Option<Box<dyn Phone>> {
        let dialogs = locked(&self.shared.dialogs);
        let found = dialogs.iter().find(|dialog| dialog.name.as_deref() == Some(name))?;
        let answered = locked(&found.state).answered;
        answered.then(|| self.phone(found, name))
    }

    /// The latest call to `user`, of the channel `uuid`.
    pub(crate) fn called(&self, user: &str, uuid: &str) -> Option<Box<dyn Phone>> {
        let dialogs = locked(&self.shared.dialogs);
        let found = dialogs.iter().rfind(|dialog| dialog.user == user)?;
        Some(self.phone(found, uuid))
    }

    /// A header of the INVITE of the latest call to `user`.
    pub(crate) fn told(&self, user: &str, header: &str) -> Option<String> {
        let dialogs = locked(&self.shared.dialogs);
        let found = dialogs.iter().rfind(|dialog| dialog.user == user)?;
        let state = locked(&found.state);
        state.invite.headers(header).next().map(str::to_owned)
    }

    /// Registers the telephone of `user@domain` at `registrar` for so many seconds; the status of the answer.
    pub(crate) fn register(
        &self,
        registrar: SocketAddr,
        user: &str,
        domain: &str,
        seconds: u32,
    ) -> u16 {
        let local = self.shared.local;
        let call_id = format!("{:032x}", fastrand::u128(..));
        let text = format!(
            "REGISTER sip:{domain} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{call_id}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@{domain}>;tag={call_id}\r\nTo: <sip:{user}@{domain}>\r\n\
             Call-ID: {call_id}\r\nCSeq: 1 REGISTER\r\nContact: <sip:{user}@{local}>\r\n\
             Expires: {seconds}\r\nContent-Length: 0\r\n\r\n"
        );
        self.shared.send(&text, registrar);
        let mut status = None;
        wait_until("an answer to a REGISTER", || {
            status = locked(&self.shared.registered).get(&call_id).copied();
            status.is_some()
        });
        status.expect("it was waited for")
    }

    fn phone(&self, dialog: &Arc<Dialog>, uuid: &str) -> Box<dyn Phone> {
        Box::new(DeskPhone {
            shared: Arc::clone(&self.shared),
            dialog: Arc::clone(dialog),
            uuid: uuid.to_owned(),
        })
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn serve(&self) {
        let mut datagram = vec![0; 65_536];
        while !self.stop.load(Ordering::Relaxed) {
            let (length, peer) = match self.sip.recv_from(&mut datagram) {
                Ok(received) => received,
                Err(error) if is_timeout(error.kind()) => continue,
                Err(error) => panic!("SIP socket: {error}"),
            };
            let mut bytes = datagram[..length].to_vec();
            if let Some(message) = take_message(&mut bytes) {
                self.take(&message, peer);
            }
        }
    }

    fn take(&self, message: &Message, peer: SocketAddr) {
        let dialog = self.dialog(message.header("Call-ID"));
        match (message.method(), &dialog) {
            ("INVITE", None) => self.ring(message, peer),
            ("INVITE", Some(dialog)) => self.reinvited(dialog, message, peer),
            ("ACK", _) => {}
            ("BYE", Some(dialog)) => {
                dialog.audio.stop();
                self.respond(message, peer, "200 OK", None, "");
            }
            ("CANCEL", Some(dialog)) => {
                self.respond(message, peer, "200 OK", None, "");
                let state = locked(&dialog.state);
                if !state.answered {
                    let (invite, tag) = (state.invite.clone(), state.tag.clone());
                    self.respond(&invite, peer, "487 Request Terminated", Some(&tag), "");
                }
            }
            ("REFER", Some(dialog)) => {
                self.respond(message, peer, "202 Accepted", None, "");
                let mut state = locked(&dialog.state);
                state.referred = message.headers("Refer-To").next().map(str::to_owned);
                state.cseq += 1;
                let headers = "Event: refer\r\nSubscription-State: terminated;reason=noresource\r\n\
                               Content-Type: message/sipfrag;version=2.0\r\n";
                let cseq = state.cseq.to_string();
                let notify = self.request(&state, "NOTIFY", &cseq, headers, "SIP/2.0 200 OK\r\n");
                self.send(&notify, peer);
            }
            ("SIP/2.0", Some(dialog)) => self.answered(dialog, message, peer),
            ("SIP/2.0", None) => {
                if message.status() >= 200 {
                    let call_id = message.header("Call-ID").to_owned();
                    locked(&self.registered).insert(call_id, message.status());
                }
            }
            (_, Some(_)) => {
                self.respond(message, peer, "200 OK", None, "");
            }
            (_, None) => {
                self.respond(message, peer, "481 Call/Transaction Does Not Exist", None, "");
            }
        }
    }

    fn dialog(&self, call_id: &str) -> Option<Arc<Dialog>> {
        let dialogs = locked(&self.dialogs);
        dialogs.iter().find(|dialog| dialog.call_id == call_id).cloned()
    }

    /// Somebody calls one of the telephones.
    fn ring(&self, invite: &Message, peer: SocketAddr) {
        let user = invite.uri_user().to_owned();
        let behaviour = locked(&self.behaviours).get(&user).copied().unwrap_or(Behaviour::Answers);
        let tag = format!("{:08x}", fastrand::u32(..));
        let audio = LineAudio::new(invite.media());
        let (status, body) = match behaviour {
            Behaviour::Answers => ("200 OK", audio.description("sendrecv")),
            Behaviour::Busy => ("486 Busy Here", String::new()),
            Behaviour::Unknown => ("404 Not Found", String::new()),
            Behaviour::Rings => ("180 Ringing", String::new()),
        };
        let answered = behaviour == Behaviour::Answers;
        let response = self.respond(invite, peer, status, Some(&tag), &body);
        if answered {
            audio.start();
        }
        let state = State {
            invite: invite.clone(),
            response,
            tag,
            peer,
            cseq: 0,
            done: 0,
            answered,
            held: false,
            referred: None,
        };
        let name = invite.headers(CALL_HEADER).next().map(str::to_owned);
        let call_id = invite.header("Call-ID").to_owned();
        let dialog = Dialog { call_id, user, name, audio, state: Mutex::new(state) };
        locked(&self.dialogs).push(Arc::new(dialog));
    }

    fn reinvited(&self, dialog: &Dialog, invite: &Message, peer: SocketAddr) {
        let mut state = locked(&dialog.state);
        if invite.header("CSeq") == state.invite.header("CSeq") {
            let response = state.response.clone();
            drop(state);
            self.send(&response, peer);
            return;
        }
        if !invite.body.is_empty() {
            dialog.audio.lead_to(invite.media());
        }
        state.held = invite.has_attribute("sendonly");
        let body = dialog.audio.description(if state.held { "recvonly" } else { "sendrecv" });
        state.response = self.respond(invite, peer, "200 OK", None, &body);
        state.invite = invite.clone();
    }

    /// A request of ours was answered.
    fn answered(&self, dialog: &Dialog, response: &Message, peer: SocketAddr) {
        if response.status() < 200 {
            return;
        }
        let number = response.header("CSeq").split(' ').next().expect("a number stands there");
        let mut state = locked(&dialog.state);
        state.done = number.parse().expect("it is ours");
        if response.header("CSeq").ends_with(" INVITE") {
            let ack = self.request(&state, "ACK", number, "", "");
            self.send(&ack, peer);
        }
    }

    fn respond(
        &self,
        request: &Message,
        peer: SocketAddr,
        status: &str,
        tag: Option<&str>,
        body: &str,
    ) -> String {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
            for value in request.headers(name) {
                let tag = tag.filter(|_| name == "To").map(|tag| format!(";tag={tag}"));
                text += &format!("{name}: {value}{}\r\n", tag.unwrap_or_default());
            }
        }
        text += &format!("Contact: <sip:phone@{}>\r\n", self.local);
        if !body.is_empty() {
            text += "Content-Type: application/sdp\r\n";
        }
        text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        self.send(&text, peer);
        text
    }

    /// A request of ours in the dialog with this state.
    fn request(
        &self,
        state: &State,
        method: &str,
        cseq: &str,
        headers: &str,
        body: &str,
    ) -> String {
        let invite = &state.invite;
        let contact = invite.header("Contact").trim_start_matches(|c| c != '<');
        let target = contact.trim_start_matches('<').split('>').next().expect("a URI");
        let to = invite.header("To");
        let from =
            if to.contains(";tag=") { to.to_owned() } else { format!("{to};tag={}", state.tag) };
        format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK{:016x}\r\n\
             Max-Forwards: 70\r\nFrom: {from}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:phone@{}>\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            self.local,
            fastrand::u64(..),
            invite.header("From"),
            invite.header("Call-ID"),
            self.local,
            body.len()
        )
    }

    fn send(&self, text: &str, peer: SocketAddr) {
        self.sip.send_to(text.as_bytes(), peer).expect("loopback takes datagrams");
    }
}

/// A telephone in a call.
struct DeskPhone {
    shared: Arc<Shared>,
    dialog: Arc<Dialog>,
    uuid: String,
}

impl DeskPhone {
    fn order(&self, method: &str, headers: &str, body: &str) {
        let mut state = locked(&self.dialog.state);
        state.cseq += 1;
        let cseq = state.cseq.to_string();
        let text = self.shared.request(&state, method, &cseq, headers, body);
        self.shared.send(&text, state.peer);
    }
}

impl Phone for DeskPhone {
    fn uuid(&self) -> String {
        self.uuid.clone()
    }

    fn press(&self, keys: &str) {
        self.dialog.audio.press(keys);
    }

    fn say(&self, samples: &[i16]) -> Instant {
        self.dialog.audio.say(samples)
    }

    fn hold(&self, hold: bool) {
        let direction = if hold { "sendonly" } else { "sendrecv" };
        let body = self.dialog.audio.description(direction);
        self.order("INVITE", "Content-Type: application/sdp\r\n", &body);
        wait_until("an answer to a re-INVITE", || {
            let state = locked(&self.dialog.state);
            state.done == state.cseq
        });
    }

    fn is_held(&self) -> bool {
        locked(&self.dialog.state).held
    }

    fn referred(&self) -> Option<String> {
        locked(&self.dialog.state).referred.clone()
    }

    fn hang_up(&self, cause: &str) {
        let value = HangupCause::from_name(cause).expect("a cause of ours").q850();
        let reason = format!("Reason: Q.850;cause={value};text=\"{cause}\"\r\n");
        self.order("BYE", &reason, "");
        self.dialog.audio.stop();
    }

    fn heard(&self) -> Heard {
        self.dialog.audio.heard()
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
