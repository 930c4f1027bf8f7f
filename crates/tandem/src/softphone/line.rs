//! The telephone's line: SIP dialog, RTP sockets and the real clock around [`Phone`].

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tandem_call::{HangupCause, SignalEvent};
use tandem_exchange::SecureMedia;
use tandem_net::PacingTimer;
use tandem_rtp::Channel;
use tandem_sip::{
    DialogEvent, DialogHandle, KeyExchange, Listener, LocalMedia, LocalSecurity, OutgoingCall,
    Rejection, SipEndpoint, SipSettings, SrtpPolicy, Transport,
};
use tandem_srtp::{DtlsIdentity, NoIdentity};
use tokio::{
    net::{UdpSocket, lookup_host},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{sleep_until, timeout},
};

use super::{
    CallPlan, CallReport, Phone, Target, ledger,
    plan::seed,
    recording,
    report::turn_reports,
    target::{from_uri, local_address},
};
use crate::cli::SrtpKeys;

/// A call that nobody answers is given up after this.
const RING_LIMIT: Duration = Duration::from_secs(60);

/// How long a hang-up may take until it is not waited for any more.
const HANGUP_LIMIT: Duration = Duration::from_secs(3);

/// How long the record of a call is awaited after its end.
const RECORD_PATIENCE: Duration = Duration::from_secs(5);

/// Pairs of ports tried before giving up.
const PORT_TRIES: usize = 64;

/// Header by which the call record is found again; records keep X- headers.
const MARK: &str = "X-Tandem-Softphone";

/// Why a call could not be made at all.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The host has no address.
    #[error("{host}: {source}")]
    Unresolved {
        /// The host of the URI.
        host: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// The host has no address of the right family.
    #[error("{host} has no address that can be reached from {local}")]
    NoAddress {
        /// The host of the URI.
        host: String,
        /// Where we call from.
        local: String,
    },
    /// A socket or timer could not be had.
    #[error("no socket: {0}")]
    Socket(#[from] io::Error),
    /// There is no certificate for DTLS.
    #[error(transparent)]
    Identity(#[from] NoIdentity),
    /// SIP could not start.
    #[error("SIP: {0}")]
    Sip(String),
    /// The recording could not be written.
    #[error("{0}")]
    Recording(String),
}

/// The dialog as far as it has come.
struct Progress {
    invited: Instant,
    ringing: Option<Instant>,
    answered: Option<Instant>,
    /// How it ended, in words.
    ended: Option<String>,
    /// When it did.
    over: Option<Instant>,
    /// Since when we want it to be over.
    hanging_up: Option<(Instant, &'static str)>,
}

/// Makes the call of `plan` and stays in it until it is over. What happens is told to `show` line by line; Ctrl-C hangs up.
pub async fn call(plan: CallPlan, show: &dyn Fn(&str)) -> Result<CallReport, CallError> {
    let peer = resolve(&plan.target, plan.local).await?;
    let local = plan.local.map_or_else(|| local_address(peer), Ok)?;
    let (rtp, rtcp) = bind_pair(local).await?;
    let (endpoint, mut incoming) = SipEndpoint::bind(settings(local))
        .await
        .map_err(|error| CallError::Sip(error.to_string()))?;
    // A telephone that is in a call is busy.
    let busy = tokio::spawn(async move {
        while let Some(call) = incoming.recv().await {
            call.dialog.reject(Rejection::status(486));
        }
    });

    let now = Instant::now();
    let unix_now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = seed(now);
    let mark = format!("{seed:016x}");
    let records_end = plan.ledger.as_deref().map(ledger::end_of).unwrap_or_default();
    let mut headers = plan.headers.clone();
    headers.extend(plan.ledger.is_some().then(|| (MARK.to_owned(), mark.clone())));
    let phone = Phone::new(now, unix_now, seed, plan.media_timeout, plan.cues);
    let media = LocalMedia {
        address: local,
        rtp_port: rtp.local_addr()?.port(),
        rtcp_port: rtcp.local_addr()?.port(),
        codecs: plan.codecs,
        security: security(plan.srtp)?,
    };
    show(&format!("calling {}", plan.target.uri));
    let identity = media.security.identity.clone();
    let outgoing = OutgoingCall {
        uri: plan.target.uri.clone(),
        from: from_uri(&plan.from, local),
        local: media,
        headers,
        credentials: plan.credentials,
    };
    let (dialog, events) = endpoint.call(outgoing);
    let security = SecureMedia::new(identity);
    let duration = plan.duration;
    let mut line = Line { phone, security, rtp, rtcp, dialog, events, duration, show };
    let progress = line.run().await?;
    // The BYE or the answer to theirs is still on its way.
    let _ = timeout(HANGUP_LIMIT, endpoint.shutdown()).await;
    busy.abort();

    let mut report = line.report(plan.target.uri, &progress);
    if let (Some(path), Some(_)) = (plan.record, progress.answered) {
        let (sent, received) = line.phone.tracks();
        recording::write(&path, sent, received).map_err(CallError::Recording)?;
        report.recording = Some(path);
    }
    if let (Some(records), Some(_)) = (plan.ledger, progress.answered) {
        report.record = ledger::find(&records, records_end, &mark, RECORD_PATIENCE).await?;
        if report.record.is_none() {
            show(&format!("no record of this call has come to {}", records.display()));
        }
    }
    Ok(report)
}

async fn resolve(target: &Target, local: Option<IpAddr>) -> Result<SocketAddr, CallError> {
    let unresolved = |source| CallError::Unresolved { host: target.host.clone(), source };
    let mut addresses =
        lookup_host((target.host.as_str(), target.port)).await.map_err(unresolved)?;
    addresses
        .find(|address| local.is_none_or(|local| local.is_ipv4() == address.is_ipv4()))
        .ok_or_else(|| CallError::NoAddress {
            host: target.host.clone(),
            local: local.map_or_else(|| "this machine".into(), |local| local.to_string()),
        })
}

fn settings(local: IpAddr) -> SipSettings {
    let addr = SocketAddr::new(local, 0);
    let everybody = ["0.0.0.0/0", "::/0"].map(|net| net.parse().expect("a literal network parses"));
    SipSettings {
        listen: [Transport::Udp, Transport::Tcp]
            .map(|transport| Listener { transport, addr })
            .into(),
        // Only the far side of the call knows the port; whoever else comes hears that we are busy.
        trusted: everybody.into(),
        contact_user: "tandem-call".into(),
        ..SipSettings::default()
    }
}

/// What our offer says of protection.
fn security(keys: Option<SrtpKeys>) -> Result<LocalSecurity, CallError> {
    let Some(keys) = keys else { return Ok(LocalSecurity::default()) };
    let (key_exchange, identity) = match keys {
        SrtpKeys::Sdes => (KeyExchange::Sdes, None),
        SrtpKeys::Dtls => (KeyExchange::Dtls, Some(Arc::new(DtlsIdentity::generate()?))),
    };
    let policy = SrtpPolicy::Require;
    Ok(LocalSecurity { policy, key_exchange, identity, ..LocalSecurity::default() })
}

/// An even port for RTP and the next one for RTCP.
async fn bind_pair(local: IpAddr) -> io::Result<(UdpSocket, UdpSocket)> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..PORT_TRIES {
        let rtp = UdpSocket::bind((local, 0)).await?;
        let port = rtp.local_addr()?.port();
        if port % 2 == 1 {
            continue;
        }
        match UdpSocket::bind((local, port + 1)).await {
            Ok(rtcp) => return Ok((rtp, rtcp)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// One call on the wire.
struct Line<'a> {
    phone: Phone,
    security: SecureMedia,
    rtp: UdpSocket,
    rtcp: UdpSocket,
    dialog: DialogHandle,
    events: mpsc::Receiver<DialogEvent>,
    duration: Duration,
    show: &'a dyn Fn(&str),
}

impl Line<'_> {
    /// Runs the call to its end.
    async fn run(&mut self) -> io::Result<Progress> {
        let mut timer = PacingTimer::new()?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (mut rtp_datagram, mut rtcp_datagram) = ([0; 2048], [0; 2048]);
        let mut progress = Progress {
            invited: Instant::now(),
            ringing: None,
            answered: None,
            ended: None,
            over: None,
            hanging_up: None,
        };
        while progress.ended.is_none() {
            self.do_what_is_due(&mut progress);
            if let Some(at) = self.phone.next_send() {
                timer.set(at)?;
            }
            let wake = self.wake(&progress);
            tokio::select! {
                read = self.rtp.recv_from(&mut rtp_datagram) => {
                    if let Ok((length, source)) = read { // An ICMP error of an earlier packet is no reason to stop.
                        self.take(Channel::Rtp, source, &mut rtp_datagram[..length]);
                    }
                }
                read = self.rtcp.recv_from(&mut rtcp_datagram) => {
                    if let Ok((length, source)) = read {
                        self.take(Channel::Rtcp, source, &mut rtcp_datagram[..length]);
                    }
                }
                event = self.events.recv() => self.handle_event(event, &mut progress),
                expired = poll_fn(|cx| timer.poll_expired(cx)), if self.phone.next_send().is_some() => expired?,
                () = sleep_until(wake.into()) => {}
                _ = interrupt.recv() => {
                    if progress.hanging_up.is_some() {
                        progress.ended = Some("stopped without waiting for the far side".into());
                    }
                    self.hang_up(&mut progress, "we hung up (Ctrl-C)");
                }
                _ = terminate.recv() => self.hang_up(&mut progress, "we hung up (SIGTERM)"),
            }
        }
        let now = Instant::now();
        progress.over = Some(now);
        self.phone.close(now);
        self.send(now);
        self.tell(now);
        Ok(progress)
    }

    fn take(&mut self, channel: Channel, source: SocketAddr, datagram: &mut [u8]) {
        let now = Instant::now();
        let Some(length) = self.security.unprotect(now, channel, source, datagram) else { return };
        match channel {
            Channel::Rtp => self.phone.handle_rtp(now, source, &datagram[..length]),
            Channel::Rtcp => self.phone.handle_rtcp(now, source, &datagram[..length]),
        }
    }

    fn do_what_is_due(&mut self, progress: &mut Progress) {
        let now = Instant::now();
        self.security.handle_timeout(now);
        self.phone.handle_timeout(now);
        self.send(now);
        self.tell(now);
        if let Some(error) = self.security.take_failure() {
            (self.show)(&format!("   no protected media: {error}"));
            self.hang_up(progress, "we hung up: no protected media");
        }
        if self.phone.wants_to_hang_up() {
            self.hang_up(progress, "we hung up");
        }
        match (progress.hanging_up, self.limit(progress)) {
            (Some((since, how)), _) if now >= since + HANGUP_LIMIT => {
                progress.ended = Some(format!("{how}, and the far side did not answer to that"));
            }
            (None, limit) if now >= limit => {
                let how = if progress.answered.is_some() {
                    "we hung up: the time was over"
                } else {
                    "nobody answered"
                };
                self.hang_up(progress, how);
            }
            _ => {}
        }
    }

    fn handle_event(&mut self, event: Option<DialogEvent>, progress: &mut Progress) {
        let now = Instant::now();
        let Some(event) = event else {
            progress.ended.get_or_insert_with(|| "the dialog was lost".into());
            return;
        };
        match event {
            DialogEvent::Ringing => {
                if progress.ringing.is_none() {
                    progress.ringing = Some(now);
                    (self.show)("   ringing");
                }
            }
            DialogEvent::Security(security) => self.security.agree(now, security),
            DialogEvent::Media(params) => {
                if let Some(params) = self.security.negotiate(now, params) {
                    self.phone.apply(now, params);
                }
            }
            DialogEvent::Signal(SignalEvent::Answered) => {
                progress.answered = Some(now);
                self.phone.answered(now);
                (self.show)(&format!("   answered after {:.0} ms", millis(now - progress.invited)));
            }
            DialogEvent::Signal(SignalEvent::HungUp { cause }) => {
                progress.ended = Some(match progress.hanging_up {
                    Some((_, how)) => how.into(),
                    None => format!("they hung up ({})", cause.name()),
                });
            }
            DialogEvent::Signal(SignalEvent::Cancelled) => {
                progress.ended = Some(match progress.hanging_up {
                    Some((_, how)) => how.into(),
                    None => "cancelled before the answer".into(),
                });
            }
            DialogEvent::Failed { status, reason } => {
                progress.ended = Some(match progress.hanging_up {
                    Some((_, how)) if status == 487 => how.into(),
                    _ => failure_text(status, &reason),
                });
            }
            DialogEvent::Signal(SignalEvent::Held(held)) => {
                let what = if held { "they put us on hold" } else { "they took us back" };
                self.phone.note(now, what);
            }
            DialogEvent::Signal(SignalEvent::Digit(digit)) => {
                self.phone.note(now, &format!("they press {digit} (SIP INFO)"));
            }
            DialogEvent::Signal(
                SignalEvent::Transfer(_) | SignalEvent::TakenOver | SignalEvent::Playback(_),
            ) => {} // We never ask for one.
        }
    }

    fn hang_up(&self, progress: &mut Progress, how: &'static str) {
        if progress.hanging_up.is_none() {
            progress.hanging_up = Some((Instant::now(), how));
            self.dialog.hang_up(HangupCause::NormalClearing);
        }
    }

    /// When the call is given up if nothing else ends it.
    fn limit(&self, progress: &Progress) -> Instant {
        match progress.answered {
            Some(answered) => answered + self.duration,
            None => progress.invited + RING_LIMIT,
        }
    }

    fn wake(&self, progress: &Progress) -> Instant {
        let limit = match progress.hanging_up {
            Some((since, _)) => since + HANGUP_LIMIT,
            None => self.limit(progress),
        };
        let due = [self.phone.poll_timeout(), self.phone.next_note(), self.security.poll_timeout()];
        due.into_iter().flatten().fold(limit, Instant::min)
    }

    fn send(&mut self, now: Instant) {
        while let Some((channel, handshake)) = self.security.poll_handshake() {
            let socket = match channel {
                Channel::Rtp => &self.rtp,
                Channel::Rtcp => &self.rtcp,
            };
            let _ = socket.try_send_to(&handshake.bytes, handshake.destination); // It is sent again.
        }
        if let Some(params) = self.security.poll_media() {
            self.phone.apply(now, params);
        }
        while let Some(transmit) = self.phone.poll_transmit(now) {
            let socket = match transmit.channel {
                Channel::Rtp => &self.rtp,
                Channel::Rtcp => &self.rtcp,
            };
            let Some(bytes) = self.security.protect(transmit.channel, transmit.bytes) else {
                continue;
            };
            // A packet that does not leave now is worth nothing later.
            let _ = socket.try_send_to(bytes, transmit.destination);
        }
    }

    fn tell(&mut self, now: Instant) {
        while let Some(note) = self.phone.poll_note(now) {
            (self.show)(&note);
        }
    }

    fn report(&self, uri: String, progress: &Progress) -> CallReport {
        let after = |instant: Instant| millis(instant.saturating_duration_since(progress.invited));
        let heard = self.phone.heard_turns();
        let first_audio =
            progress.answered.zip(heard.first()).map(|(answered, turn)| answered + turn.start);
        CallReport {
            uri,
            ringing_after: progress.ringing.map(after),
            answered_after: progress.answered.map(after),
            first_rtp_after: self.phone.first_rtp().map(after),
            first_audio_after: first_audio.map(after),
            duration_s: progress.answered.map_or(0.0, |answered| {
                millis(progress.over.unwrap_or_else(Instant::now) - answered) / 1000.0
            }),
            ended: progress.ended.clone().unwrap_or_default(),
            turns: turn_reports(heard, self.phone.said_turns()),
            digits_heard: self.phone.digits_heard().to_owned(),
            quality: self.phone.quality(),
            srtp: self.security.profile(),
            recording: None,
            record: None,
        }
    }
}

/// Why a call came to nothing, in words.
fn failure_text(status: u16, reason: &str) -> String {
    match status {
        // Ours as well, when nothing at all comes back (RFC 3261 §17.1.1.2).
        408 => "nobody answered (timed out)".into(),
        _ => format!("refused: {status} {reason}"),
    }
}

/// Milliseconds to a microsecond.
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_no_refusal() {
        for (status, reason, text) in [
            (408, "Request Timeout", "nobody answered (timed out)"),
            (404, "Not Found", "refused: 404 Not Found"),
            (486, "Busy Here", "refused: 486 Busy Here"),
        ] {
            assert_eq!(failure_text(status, reason), text);
        }
    }
}
