//! The wire side of a SIP call: its dialog, its RTP and RTCP sockets.

use std::{
    io,
    net::SocketAddr,
    task::{Context, Poll},
    time::Instant,
};

use tandem_call::{
    CallId, HangupCause, SignalCommand, SignalEvent, TransferMode, TransferOutcome, TransferTarget,
};
use tandem_media::AmbienceSettings;
use tandem_rtp::{Channel, RtpLeg};
use tandem_sip::{DialogEvent, DialogHandle, LocalMedia, Rejection};
use tokio::{io::ReadBuf, net::UdpSocket, sync::mpsc};

use crate::{
    CallCore, SecureMedia,
    consult_line::{Answer, Asking, Transferor},
    ports::PortPair,
    task::Line,
};

/// Largest datagram taken; RTP of 60 ms of G.711 is 492 bytes.
const DATAGRAM: usize = 2048;

/// What a SIP call needs from outside.
pub(crate) struct SipPorts {
    /// RTP and RTCP.
    pub(crate) media: PortPair,
    /// Our end of the media, for SDP.
    pub(crate) local: LocalMedia,
    /// Orders to signalling.
    pub(crate) dialog: DialogHandle,
    /// Reports of signalling.
    pub(crate) events: mpsc::Receiver<DialogEvent>,
    /// The call, as headers name it.
    pub(crate) call_id: CallId,
    /// The agent, for the headers of a transfer.
    pub(crate) agent_id: String,
    /// Asks somebody whether they take the caller.
    pub(crate) transferor: Transferor,
    /// What is heard behind the agent's voice.
    pub(crate) ambience: Option<AmbienceSettings>,
}

/// A SIP call's dialog and sockets.
pub(crate) struct SipLine {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    local: LocalMedia,
    dialog: DialogHandle,
    events: mpsc::Receiver<DialogEvent>,
    call_id: CallId,
    agent_id: String,
    transferor: Transferor,
    asking: Option<Asking>,
    ambience: Option<AmbienceSettings>,
    datagram: Box<[u8; DATAGRAM]>,
    security: SecureMedia,
    signalling_gone: bool,
    malformed: u64,
    unsent: u64,
}

impl SipLine {
    /// Takes the sockets over to this worker. Fails, with 503 to the caller, when it can't have them.
    pub(crate) fn new(ports: SipPorts) -> io::Result<Self> {
        let SipPorts { media, local, dialog, events, call_id, agent_id, transferor, ambience } =
            ports;
        let sockets = UdpSocket::from_std(media.rtp)
            .and_then(|rtp| Ok((rtp, UdpSocket::from_std(media.rtcp)?)));
        let (rtp, rtcp) = sockets.inspect_err(|_| dialog.reject(Rejection::status(503)))?;
        Ok(Self {
            rtp,
            rtcp,
            security: SecureMedia::new(local.security.identity.clone()),
            local,
            dialog,
            events,
            call_id,
            agent_id,
            transferor,
            asking: None,
            ambience,
            datagram: Box::new([0; DATAGRAM]),
            signalling_gone: false,
            malformed: 0,
            unsent: 0,
        })
    }

    fn poll_rtp(&mut self, cx: &mut Context<'_>, core: &mut CallCore, now: Instant) -> bool {
        let Some((length, source)) = receive(&self.rtp, cx, &mut self.datagram[..]) else {
            return false;
        };
        let datagram = &mut self.datagram[..length];
        if let Some(length) = self.security.unprotect(now, Channel::Rtp, source, datagram)
            && core.handle_rtp(now, source, &datagram[..length]).is_err()
        {
            self.malformed += 1;
        }
        true
    }

    fn poll_rtcp(&mut self, cx: &mut Context<'_>, core: &mut CallCore, now: Instant) -> bool {
        let Some((length, source)) = receive(&self.rtcp, cx, &mut self.datagram[..]) else {
            return false;
        };
        let datagram = &mut self.datagram[..length];
        if let Some(length) = self.security.unprotect(now, Channel::Rtcp, source, datagram)
            && core.handle_rtcp(now, source, &datagram[..length]).is_err()
        {
            self.malformed += 1;
        }
        true
    }

    fn poll_signalling(&mut self, cx: &mut Context<'_>, core: &mut CallCore, now: Instant) -> bool {
        if self.signalling_gone {
            return false;
        }
        match self.events.poll_recv(cx) {
            Poll::Ready(Some(DialogEvent::Security(security))) => {
                if security.is_sdes() {
                    tracing::info!(
                        "the keys of the call's SRTP came in SIP without TLS: whoever reads that can listen"
                    );
                }
                self.security.agree(now, security);
            }
            Poll::Ready(Some(DialogEvent::Media(params))) => {
                if let Some(params) = self.security.negotiate(now, params) {
                    core.handle_media(now, params);
                }
            }
            Poll::Ready(Some(DialogEvent::Signal(SignalEvent::Transfer(outcome)))) => {
                if let Some(asking) = self.asking.take() {
                    asking.end(&outcome);
                }
                self.end_transfer(core, now, outcome);
            }
            Poll::Ready(Some(DialogEvent::Signal(event))) => core.handle_signal(now, event),
            Poll::Ready(Some(DialogEvent::Ringing | DialogEvent::Failed { .. })) => {} // Of outgoing calls only.
            Poll::Ready(None) => {
                self.signalling_gone = true;
                let cause = HangupCause::NormalTemporaryFailure; // Ignored when the call is over already.
                core.handle_signal(now, SignalEvent::HungUp { cause });
            }
            Poll::Pending => return false,
        }
        true
    }
}

impl SipLine {
    /// Calls somebody who is asked whether they take the caller.
    fn ask(
        &mut self,
        core: &mut CallCore,
        now: Instant,
        target: TransferTarget,
        headers: Vec<(String, String)>,
    ) {
        match self.transferor.ask(&self.dialog, &self.local, target, headers) {
            Ok(asking) => self.asking = Some(asking), // Whoever was asked before is let go of.
            Err(error) => {
                tracing::error!(%error, "nobody can be asked");
                let reason = "no line is free to call anybody".to_owned();
                self.end_transfer(core, now, TransferOutcome::Failed { status: None, reason });
            }
        }
    }

    fn poll_asking(&mut self, cx: &mut Context<'_>, core: &mut CallCore, now: Instant) -> bool {
        let Some(asking) = &mut self.asking else { return false };
        match asking.poll_answer(cx) {
            Poll::Ready(Answer::Accepted) => asking.connect(&self.dialog),
            Poll::Ready(Answer::Failed(outcome)) => {
                self.asking = None;
                self.end_transfer(core, now, outcome);
            }
            Poll::Pending => return false,
        }
        true
    }

    /// Nobody is called for the caller any more.
    fn end_transfer(&self, core: &mut CallCore, now: Instant, outcome: TransferOutcome) {
        core.leg().set_ambience(self.ambience.as_ref());
        core.handle_signal(now, SignalEvent::Transfer(outcome));
    }

    /// Carries a handshake on; without one there is nothing to do.
    fn shake_hands(&mut self, core: &mut CallCore, now: Instant) {
        while let Some((channel, handshake)) = self.security.poll_handshake() {
            let socket = match channel {
                Channel::Rtp => &self.rtp,
                Channel::Rtcp => &self.rtcp,
            };
            if socket.try_send_to(&handshake.bytes, handshake.destination).is_err() {
                self.unsent += 1; // It is sent again when its time comes.
            }
        }
        if let Some(params) = self.security.poll_media() {
            core.handle_media(now, params);
        }
        if let Some(error) = self.security.take_failure() {
            tracing::warn!(%error, "no protected media: the call ends");
            self.dialog.hang_up(HangupCause::IncompatibleDestination);
        }
    }
}

impl Line for SipLine {
    type Leg = RtpLeg;

    fn poll(&mut self, cx: &mut Context<'_>, core: &mut CallCore, now: Instant) -> bool {
        let mut progress = self.poll_rtp(cx, core, now);
        progress |= self.poll_rtcp(cx, core, now);
        progress |= self.poll_asking(cx, core, now);
        progress | self.poll_signalling(cx, core, now)
    }

    fn transmit(&mut self, core: &mut CallCore, now: Instant) {
        self.shake_hands(core, now);
        let mut sent = false;
        while let Some(transmit) = core.poll_transmit(now) {
            let socket = match transmit.channel {
                Channel::Rtp => &self.rtp,
                Channel::Rtcp => &self.rtcp,
            };
            sent = true;
            let Some(bytes) = self.security.protect(transmit.channel, transmit.bytes) else {
                continue;
            };
            if socket.try_send_to(bytes, transmit.destination).is_err() {
                self.unsent += 1; // A full socket buffer or an unreachable peer: late audio is worth nothing.
            }
        }
        if sent {
            core.after_transmit(now);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.security.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.security.handle_timeout(now);
    }

    fn srtp(&self) -> Option<&'static str> {
        self.security.profile()
    }

    fn set_complexity(&mut self, core: &mut CallCore, complexity: u8) {
        core.leg().set_complexity(complexity);
    }

    fn signal(&mut self, core: &mut CallCore, now: Instant, command: SignalCommand) {
        let dialog = &self.dialog;
        match command {
            SignalCommand::Answer => dialog.accept(self.local.clone()),
            SignalCommand::Reject { cause } => dialog.reject(rejection(cause)),
            SignalCommand::HangUp { cause } => dialog.hang_up(cause),
            SignalCommand::Transfer { target, mut headers } => {
                headers.push(("X-Tandem-Call-ID".into(), self.call_id.to_string()));
                headers.push(("X-Tandem-Agent".into(), self.agent_id.clone()));
                core.leg().set_ambience(Some(self.transferor.tone()));
                match target.mode {
                    TransferMode::Blind => dialog.transfer(target, headers),
                    TransferMode::Attended => self.ask(core, now, target, headers),
                }
            }
            SignalCommand::Annotate { .. } | SignalCommand::BreakPlayback => {} // SIP has no place for them.
        }
    }
}

impl Drop for SipLine {
    fn drop(&mut self) {
        let counters = self.security.counters();
        if counters != tandem_srtp::SecurityCounters::default() {
            tracing::debug!(call_id = %self.call_id, ?counters, "datagrams not believed or not sent");
        }
        if self.malformed + self.unsent > 0 {
            let (malformed, unsent) = (self.malformed, self.unsent);
            tracing::debug!(call_id = %self.call_id, malformed, unsent, "datagrams ignored or not sent");
        }
    }
}

fn receive(
    socket: &UdpSocket,
    cx: &mut Context<'_>,
    buffer: &mut [u8],
) -> Option<(usize, SocketAddr)> {
    loop {
        let mut buffer = ReadBuf::new(buffer);
        match socket.poll_recv_from(cx, &mut buffer) {
            Poll::Ready(Ok(source)) => {
                let source = SocketAddr::new(source.ip().to_canonical(), source.port()); // Off a dual-stack socket.
                return Some((buffer.filled().len(), source));
            }
            Poll::Ready(Err(_)) => {} // An ICMP error of an earlier packet, reported here and cleared by it.
            Poll::Pending => return None,
        }
    }
}

/// The final response for a call that is refused before the answer (RFC 3261 §21, Q.850 as PBXs map it).
fn rejection(cause: HangupCause) -> Rejection {
    Rejection::status(match cause {
        HangupCause::UnallocatedNumber => 404,
        HangupCause::UserBusy => 486,
        HangupCause::CallRejected => 403,
        HangupCause::IncompatibleDestination => 488,
        HangupCause::NormalClearing
        | HangupCause::NoUserResponse
        | HangupCause::NoAnswer
        | HangupCause::NormalUnspecified => 480,
        HangupCause::OriginatorCancel => 487,
        HangupCause::NormalCircuitCongestion
        | HangupCause::NormalTemporaryFailure
        | HangupCause::RecoveryOnTimerExpire => 503,
    })
}
