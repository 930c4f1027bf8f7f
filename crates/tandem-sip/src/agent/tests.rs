//! Whole calls in message texts, on a clock that only moves when told to.

mod callee_side;
mod caller_side;
mod consultations;
mod session_timers;
mod torture;

use tandem_call::{HangupCause, SignalEvent, TransferKind, TransferTarget};

use super::*;
use crate::{
    Credential, LocalMedia, LocalSecurity, Rejection, Transport, action::Target, message::Message,
};

const PBX: &str = "198.51.100.7:5080";

const OFFER: &str = "v=0
o=FreeSWITCH 1 1 IN IP4 198.51.100.7
s=FreeSWITCH
c=IN IP4 198.51.100.7
t=0 0
m=audio 24680 RTP/AVP 8 0 101
a=rtpmap:101 telephone-event/8000
";

struct World {
    agent: UserAgent,
    now: Instant,
    source: SocketAddr,
    transport: Transport,
    transactions: HashMap<String, ServerId>,
}

fn settings() -> SipSettings {
    let mut settings = SipSettings::default();
    settings.trusted.push("198.51.100.0/24".parse().unwrap());
    settings
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn local() -> LocalMedia {
    LocalMedia {
        address: "203.0.113.20".parse().unwrap(),
        rtp_port: 40000,
        rtcp_port: 40001,
        codecs: vec![Codec::PCMU, Codec::PCMA],
        security: LocalSecurity::default(),
    }
}

fn crlf(text: &str) -> String {
    text.replace('\n', "\r\n")
}

/// A message with its Content-Length.
fn with_body(head: &str, body: &str) -> String {
    let body = crlf(body);
    format!("{}Content-Length: {}\r\n\r\n{body}", crlf(head), body.len())
}

fn invite(extra: &str, body: &str) -> String {
    let content = if body.is_empty() { "" } else { "Content-Type: application/sdp\n" };
    with_body(
        &format!(
            "INVITE sip:4930555001@203.0.113.20:5060 SIP/2.0
Via: SIP/2.0/UDP 198.51.100.7:5080;rport;branch=z9hG4bKinv1
Max-Forwards: 69
From: \"Erika Beispiel\" <sip:491701234567@198.51.100.7>;tag=caller
To: <sip:4930555001@203.0.113.20:5060>
Call-ID: call-1
CSeq: 100 INVITE
Contact: <sip:mod_sofia@198.51.100.7:5080>
Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, NOTIFY
{extra}{content}"
        ),
        body,
    )
}

impl World {
    fn new(settings: SipSettings) -> Self {
        let now = Instant::now();
        Self {
            agent: UserAgent::new(now, settings, Secret::fixed(7)),
            now,
            source: PBX.parse().unwrap(),
            transport: Transport::Udp,
            transactions: HashMap::new(),
        }
    }

    fn arrival(&self) -> Arrival {
        let local = "203.0.113.20:5060".parse().unwrap();
        Arrival { transport: self.transport, source: self.source, local }
    }

    /// A message comes off the wire; what it makes the agent do is returned.
    fn receive(&mut self, text: &str) -> Vec<Action> {
        let arrival = self.arrival();
        match Message::parse(text.as_bytes()) {
            Ok(Message::Request(mut request)) => {
                request.mark_source(arrival.source);
                self.receive_request(arrival, request);
            }
            Ok(Message::Response(response)) => {
                self.agent.handle_invite_success(self.now, &response);
            }
            Err(_) => match Request::salvage(text.as_bytes()) {
                Some(request) => {
                    self.agent.handle_malformed(self.now, &arrival, &request, "Bad Request".into());
                }
                None => self.agent.count_malformed(),
            },
        }
        self.drain()
    }

    fn receive_request(&mut self, arrival: Arrival, request: Request) {
        if request.method == Method::Ack {
            self.agent.handle_ack(self.now, &request);
        }
        let Screening::Pass(examined) = self.agent.screen(self.now, &arrival, &request) else {
            return;
        };
        let branch = request.via().unwrap().branch().to_owned();
        match request.method {
            Method::Ack => {}
            Method::Cancel => {
                if let Some(&transaction) = self.transactions.get(&format!("INVITE {branch}")) {
                    self.agent.handle_cancel(self.now, transaction);
                }
            }
            _ => {
                let key = format!("{} {branch}", request.method);
                if !self.transactions.contains_key(&key) {
                    let transaction = ServerId(1000 + self.transactions.len() as u64);
                    self.transactions.insert(key, transaction);
                    self.agent.handle_request(self.now, transaction, arrival, request, examined);
                }
            }
        }
    }

    /// A response to a request of ours, made from the request with `to_tag`.
    fn respond(
        &mut self,
        sent: &Sent,
        status: u16,
        to_tag: &str,
        extra: &[(&str, &str)],
        body: &str,
    ) -> Vec<Action> {
        let mut response = sent.request.response(status, Some(to_tag));
        for (name, value) in extra {
            response.headers.push(name, *value);
        }
        if !body.is_empty() {
            response.set_body("application/sdp", crlf(body));
        }
        if (200..300).contains(&status) && sent.request.method == Method::Invite {
            self.agent.handle_invite_success(self.now, &response);
        } else {
            self.agent.handle_response(self.now, sent.transaction, &response);
        }
        if status >= 200 {
            self.agent.handle_client_over(sent.transaction);
        }
        self.drain()
    }

    fn order(&mut self, order: Order) -> Vec<Action> {
        let id = *self.agent.dialogs.keys().next().expect("a dialog");
        self.agent.handle_order(self.now, id, order);
        self.drain()
    }

    fn order_to(&mut self, id: DialogId, order: Order) -> Vec<Action> {
        self.agent.handle_order(self.now, id, order);
        self.drain()
    }

    /// Lets time pass, timer by timer.
    fn pass(&mut self, time: Duration) -> Vec<(Duration, Action)> {
        let (start, end) = (self.now, self.now + time);
        let mut done = Vec::new();
        let mut rounds = 0;
        while let Some(at) = self.agent.poll_timeout().filter(|at| *at <= end) {
            rounds += 1;
            assert!(rounds < 10_000, "a timer does not move on");
            self.now = self.now.max(at);
            self.agent.handle_timeout(self.now);
            let at = self.now - start;
            done.extend(self.drain().into_iter().map(|action| (at, action)));
        }
        self.now = end;
        done
    }

    fn drain(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.agent.poll_action()).collect()
    }

    /// A call that is answered and acknowledged; its dialog tags are `caller` and the one returned.
    fn answered(extra: &str, settings: SipSettings) -> (Self, String) {
        let mut world = Self::new(settings);
        world.receive(&invite(extra, OFFER));
        let done = world.order(Order::Accept(local()));
        let tag = responses(&done)[0].to().unwrap().tag().unwrap().to_owned();
        world.receive(&world.within(&tag, "ACK", 100, "", ""));
        (world, tag)
    }

    /// A request of the caller inside the dialog.
    fn within(&self, tag: &str, method: &str, cseq: u32, extra: &str, body: &str) -> String {
        with_body(
            &format!(
                "{method} sip:tandem@203.0.113.20:5060 SIP/2.0
Via: SIP/2.0/UDP 198.51.100.7:5080;rport;branch=z9hG4bK{method}{cseq}
Max-Forwards: 70
From: \"Erika Beispiel\" <sip:491701234567@198.51.100.7>;tag=caller
To: <sip:4930555001@203.0.113.20:5060>;tag={tag}
Call-ID: call-1
CSeq: {cseq} {method}
{extra}"
            ),
            body,
        )
    }
}

/// A request of ours.
#[derive(Debug, Clone)]
struct Sent {
    transaction: ClientId,
    request: Request,
    to: Target,
}

fn responses(done: &[Action]) -> Vec<&Response> {
    done.iter()
        .filter_map(|action| match action {
            Action::Respond { response, .. } | Action::Reply { response, .. } => Some(response),
            _ => None,
        })
        .collect()
}

fn statuses(done: &[Action]) -> Vec<u16> {
    responses(done).iter().map(|response| response.status).collect()
}

fn sent(done: &[Action]) -> Vec<Sent> {
    done.iter()
        .filter_map(|action| match action {
            Action::Send { transaction, request, to } => {
                Some(Sent { transaction: *transaction, request: request.clone(), to: to.clone() })
            }
            _ => None,
        })
        .collect()
}

fn acks(done: &[Action]) -> Vec<&Request> {
    done.iter()
        .filter_map(|action| match action {
            Action::Acknowledge { request, .. } => Some(request),
            _ => None,
        })
        .collect()
}

fn events(done: &[Action]) -> Vec<&DialogEvent> {
    done.iter()
        .filter_map(|action| match action {
            Action::Event { event, .. } => Some(event),
            _ => None,
        })
        .collect()
}

fn invitations(done: &[Action]) -> Vec<&Invitation> {
    done.iter()
        .filter_map(|action| match action {
            Action::Invited(invitation) => Some(invitation.as_ref()),
            _ => None,
        })
        .collect()
}

fn hung_up(cause: HangupCause) -> DialogEvent {
    DialogEvent::Signal(SignalEvent::HungUp { cause })
}

fn timed(done: Vec<(Duration, Action)>) -> (Vec<Duration>, Vec<Action>) {
    done.into_iter().unzip()
}
