//! Replays one recorded call with Tandem in the place of one of its ends, on the virtual clock.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tandem_call::{SignalEvent, TransferOutcome};
use tandem_rtp::{DigitReceiver, Direction, MediaParams, RtpPacket, TelephoneEvent, is_rtcp};
use tandem_sip::{
    DialogEvent, DialogId, LocalMedia, LocalSecurity, OutgoingCall, SipSettings,
    message::{Message, Method, Request},
    offline::{OfflineAgent, Outcome},
    sdp::SessionDescription,
};

use crate::{
    capture::{Capture, Datagram},
    leg::Leg,
    script::{self, Order},
};

/// How long time goes on after the last packet: longer than anything may wait for an ACK.
const AFTERMATH: Duration = Duration::from_secs(40);
/// The RTP port of a user agent that never had one.
const UNUSED_PORT: u16 = 40_000;

/// One end of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    /// SIP port of the user agent whose place we take.
    pub(crate) port: u16,
    /// Which of its calls.
    pub(crate) call: usize,
}

/// Names in the recording, and ours in their place.
#[derive(Debug, Default)]
struct Names {
    recorded_tag: Option<String>,
    tag: Option<String>,
    recorded_call_id: String,
    call_id: Option<String>,
    contact: Option<String>,
}

/// A replayed call.
pub(crate) struct Replay {
    start: Instant,
    now: Instant,
    agent: OfflineAgent,
    pub(crate) leg: Leg,
    local: SocketAddr,
    peer: SocketAddr,
    rtp: SocketAddr,
    dialog: Option<DialogId>,
    names: Names,
    /// Requests we sent.
    sent: Vec<Request>,
    recorded_digits: DigitReceiver,
    /// Digits the recorded user agent sent.
    recorded_said: String,
    ended: bool,
    over_in_recording: bool,
    pub(crate) story: Vec<String>,
}

impl Replay {
    /// Replays the call of `seat` to its end and beyond.
    pub(crate) fn run(capture: &Capture, seat: Seat) -> Self {
        let messages = capture.call(seat);
        let first = *messages.first().expect("a seat has a call");
        let mut ends = [first.from, first.to];
        ends.sort_by_key(|end| end.port() != seat.port);
        let mut replay = Self::new(ends, &messages);
        let begin = first.at;
        let ports = capture.datagrams.iter().filter(|datagram| {
            messages.contains(datagram) || [datagram.from, datagram.to].contains(&replay.rtp)
        });
        let datagrams: Vec<&Datagram> = ports.collect();
        for datagram in datagrams {
            replay.pass(replay.start + datagram.at.saturating_sub(begin));
            if datagram.is_sip() {
                replay.take_sip(datagram);
            } else if datagram.to == replay.rtp {
                replay.leg.receive(replay.now, datagram.from, &datagram.bytes);
            } else {
                replay.take_our_rtp(&datagram.bytes);
            }
        }
        replay.pass(replay.now + AFTERMATH);
        if !replay.ended {
            replay.leg.close(replay.now);
        }
        replay
    }

    /// Lets more time pass.
    pub(crate) fn wait(&mut self, time: Duration) {
        self.pass(self.now + time);
    }

    fn new([local, peer]: [SocketAddr; 2], messages: &[&Datagram]) -> Self {
        let now = Instant::now();
        let ours = || messages.iter().filter(|it| it.from == local).map(|it| it.message());
        let mut settings = SipSettings::default();
        settings.session_expires =
            ours().find_map(|it| script::answered_interval(&it)).or(settings.session_expires);
        let port = ours().find_map(|it| media_port(&it)).unwrap_or(UNUSED_PORT);
        let mut names = Names { recorded_call_id: messages[0].call_id(), ..Names::default() };
        names.recorded_tag = ours().find_map(|message| {
            let end = match &message {
                Message::Request(request) => request.from(),
                Message::Response(response) => response.to(),
            };
            end.unwrap().tag().map(str::to_owned)
        });
        let over_in_recording = messages.iter().any(|datagram| match datagram.message() {
            Message::Request(request) => request.method == Method::Bye,
            Message::Response(response) => {
                response.status >= 300 && response.cseq().unwrap().1 == Method::Invite
            }
        });
        Self {
            start: now,
            now,
            agent: OfflineAgent::new(now, local, settings, 7),
            leg: Leg::new(now),
            local,
            peer,
            rtp: SocketAddr::new(local.ip(), port),
            dialog: None,
            names,
            sent: Vec::new(),
            recorded_digits: DigitReceiver::default(),
            recorded_said: String::new(),
            ended: false,
            over_in_recording,
            story: Vec::new(),
        }
    }

    /// Lets time pass until `end`, timer by timer.
    fn pass(&mut self, end: Instant) {
        for round in 0.. {
            assert!(round < 100_000, "a timer does not move on");
            let due = [self.agent.poll_timeout(), self.leg.poll_timeout()];
            let Some(at) = due.into_iter().flatten().min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            if self.agent.poll_timeout().is_some_and(|at| at <= self.now) {
                self.agent.handle_timeout(self.now);
                self.take_outcomes();
            }
            self.leg.handle_timeout(self.now);
        }
        self.now = end;
    }

    fn take_sip(&mut self, datagram: &Datagram) {
        let message = datagram.message();
        if datagram.from == self.local {
            if let Some(order) = Order::of(&message) {
                self.carry_out(order, &message);
            }
            return;
        }
        let Some(text) = self.rewritten(&message, &datagram.bytes) else { return };
        self.story.push(format!("< {}", script::line(&message)));
        self.agent.handle_datagram(self.now, datagram.from, text.as_bytes());
        self.take_outcomes();
    }

    /// A packet the recorded user agent sent: only its digits are an order.
    fn take_our_rtp(&mut self, bytes: &[u8]) {
        let Some(packet) = Some(bytes).filter(|it| !is_rtcp(it)).map(RtpPacket::parse) else {
            return;
        };
        let Ok(packet) = packet else { return };
        if packet.payload_type != 101 {
            return;
        }
        let event = TelephoneEvent::parse(packet.payload).unwrap();
        let digit = self.recorded_digits.receive(self.now, packet.ssrc, packet.timestamp, event);
        if let Some(digit) = digit.filter(|_| !self.ended && self.leg.leg.params().is_some()) {
            self.recorded_said.push(digit.as_char());
            self.leg.send_like(self.now, digit);
        }
    }

    fn carry_out(&mut self, order: Order, recorded: &Message) {
        let name = order.to_string();
        if let Order::Call = order {
            if self.dialog.is_some() {
                return; // The INVITE again.
            }
            self.story.push(format!("* {name}"));
            let Message::Request(invite) = recorded else { unreachable!("only an INVITE calls") };
            self.call(invite);
            return self.take_outcomes();
        }
        let Some(dialog) = self.dialog.filter(|_| !self.ended) else { return };
        let answers = matches!(order, Order::Progress | Order::Accept | Order::Reject(_));
        if answers && self.leg.leg.params().is_some() {
            return; // To a re-INVITE, which Tandem answers by itself.
        }
        self.story.push(format!("* {name}"));
        let now = self.now;
        match order {
            Order::Call => unreachable!("handled above"),
            Order::Progress => self.agent.progress(now, dialog),
            Order::Accept => self.agent.accept(now, dialog, self.local_media()),
            Order::Reject(rejection) => self.agent.reject(now, dialog, rejection),
            Order::HangUp(cause) => self.agent.hang_up(now, dialog, cause),
            Order::Hold(hold) => self.agent.hold(now, dialog, hold),
            Order::Transfer(target) => self.agent.transfer(now, dialog, target, Vec::new()),
        }
        self.take_outcomes();
    }

    fn call(&mut self, invite: &Request) {
        let from = invite.headers.get("From").unwrap().split(";tag=").next().unwrap().to_owned();
        let call = OutgoingCall {
            uri: invite.uri.to_string(),
            from,
            local: self.local_media(),
            headers: Vec::new(),
            credentials: None,
        };
        self.dialog = Some(self.agent.call(self.now, self.peer, call));
    }

    fn local_media(&self) -> LocalMedia {
        LocalMedia {
            address: self.rtp.ip(),
            rtp_port: self.rtp.port(),
            rtcp_port: self.rtp.port() + 1,
            codecs: SipSettings::default().codecs,
            security: LocalSecurity::default(),
        }
    }

    fn take_outcomes(&mut self) {
        while let Some(outcome) = self.agent.poll_outcome() {
            match outcome {
                Outcome::Sent { to, message } => {
                    assert_eq!(to, self.peer);
                    self.story.push(format!("> {}", script::line(&message)));
                    self.note_names(&message);
                    if let Message::Request(request) = message {
                        self.sent.push(request);
                    }
                }
                Outcome::Invited(call) => {
                    self.dialog = Some(call.id);
                    let offered: Vec<_> =
                        call.offered.iter().flatten().map(|codec| codec.name()).collect();
                    self.story.push(format!(
                        "! called {} by {} offering {}",
                        call.called,
                        call.from.number.as_deref().unwrap_or("nobody"),
                        offered.join(", "),
                    ));
                }
                Outcome::Event { dialog, event } => {
                    assert_eq!(Some(dialog), self.dialog.or(Some(dialog)));
                    self.take_event(event);
                }
            }
        }
    }

    fn note_names(&mut self, message: &Message) {
        let (end, call_id, contact) = match message {
            Message::Request(request) => (request.from(), request.call_id(), request.contact()),
            Message::Response(response) => (response.to(), response.call_id(), response.contact()),
        };
        self.names.tag = self.names.tag.take().or(end.unwrap().tag().map(str::to_owned));
        self.names.call_id.get_or_insert(call_id.unwrap().to_owned());
        if let Some(contact) = contact {
            self.names.contact = Some(contact.uri.to_string());
        }
    }

    fn take_event(&mut self, event: DialogEvent) {
        assert!(!self.ended, "{event:?} after the end");
        self.ended = event.is_last();
        self.story.push(match event {
            DialogEvent::Media(params) => {
                self.leg.apply(self.now, params);
                media_line(&params)
            }
            DialogEvent::Security(_) => "! security".into(),
            DialogEvent::Ringing => "! ringing".into(),
            DialogEvent::Failed { status, .. } => format!("! failed {status}"),
            DialogEvent::Signal(signal) => match signal {
                SignalEvent::Answered => "! answered".into(),
                SignalEvent::Cancelled => "! cancelled".into(),
                SignalEvent::HungUp { cause } => format!("! hung up {}", cause.name()),
                SignalEvent::Held(true) => "! held".into(),
                SignalEvent::Held(false) => "! taken back".into(),
                SignalEvent::Digit(digit) => format!("! digit {}", digit.as_char()),
                SignalEvent::Transfer(TransferOutcome::Completed) => "! transferred".into(),
                SignalEvent::Transfer(TransferOutcome::Failed { status, reason }) => {
                    format!("! transfer failed {} {reason}", status.unwrap_or_default())
                }
                other => panic!("SIP does not say {other:?}"),
            },
        });
        if self.ended {
            self.leg.close(self.now);
        }
    }

    /// The peer's message with our names for what was ours in the recording. None for the answer to something that
    /// Tandem did not ask.
    fn rewritten(&self, message: &Message, bytes: &[u8]) -> Option<String> {
        let mut text = String::from_utf8(bytes.to_vec()).unwrap();
        if let (Some(recorded), Some(tag)) = (&self.names.recorded_tag, &self.names.tag) {
            text = text.replace(&format!(";tag={recorded}"), &format!(";tag={tag}"));
        }
        if let Some(call_id) = &self.names.call_id {
            text = text.replace(&self.names.recorded_call_id, call_id);
        }
        match message {
            Message::Request(request) => {
                if let (Ok(true), Some(contact)) =
                    (request.to().map(|to| to.tag().is_some()), &self.names.contact)
                {
                    let uri = text.split(' ').nth(1).unwrap().to_owned();
                    text = text.replacen(&uri, contact, 1);
                }
                if request.method == Method::Notify {
                    let refer = self.sent.iter().rfind(|it| it.method == Method::Refer)?;
                    let event = format!("Event: refer;id={}", refer.cseq().unwrap());
                    text = with_line(&text, "Event: refer;id=", &event);
                }
            }
            Message::Response(response) => {
                let (_, method) = response.cseq().unwrap();
                let asked = self.sent.iter().rfind(|it| it.method == method)?;
                let via = format!("Via: {}", asked.headers.get("Via").unwrap());
                text = with_line(&text, "Via: ", &via);
                let cseq = format!("CSeq: {} {method}", asked.cseq().unwrap());
                text = with_line(&text, "CSeq: ", &cseq);
            }
        }
        Some(text)
    }

    /// What holds in every replay.
    pub(crate) fn check(&self, name: &str) {
        self.leg.check(name);
        assert_eq!(self.leg.said_digits, self.recorded_said, "{name}");
        assert_eq!(self.agent.stats().malformed, 0, "{name}");
        assert_eq!(self.agent.stats().dropped, 0, "{name}");
        if self.over_in_recording {
            assert!(self.ended || self.dialog.is_none(), "{name} does not end: {:#?}", self.story);
            assert_eq!(self.agent.dialogs(), 0, "{name} leaves a dialog behind");
        }
    }
}

/// `text` with its first line that begins with `start` replaced by `line`.
fn with_line(text: &str, start: &str, line: &str) -> String {
    let found = text.split("\r\n").find(|it| it.starts_with(start));
    text.replacen(found.unwrap_or_else(|| panic!("no {start:?} in {text}")), line, 1)
}

fn media_port(message: &Message) -> Option<u16> {
    let body = match message {
        Message::Request(request) => &request.body,
        Message::Response(response) => &response.body,
    };
    Some(SessionDescription::parse(body).ok()?.media.first()?.port)
}

fn media_line(params: &MediaParams) -> String {
    let direction = match params.direction {
        Direction::SendRecv => "sendrecv",
        Direction::SendOnly => "sendonly",
        Direction::RecvOnly => "recvonly",
        Direction::Inactive => "inactive",
    };
    let events = params.telephone_event.map_or("none".to_owned(), |it| it.to_string());
    format!(
        "! media {} to {}, events {events}, {} ms, {direction}",
        params.codec.name(),
        params.remote_rtp.port(),
        params.ptime.millis()
    )
}
