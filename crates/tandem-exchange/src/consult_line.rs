//! The leg of somebody who is asked whether they take a caller: its dialog, its sockets, its clock.
//!
//! It is a task of its own on the worker of the caller's call, so that nothing of it is on the caller's frame path.

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tandem_attendant::{Speech, Voice, VoiceError};
use tandem_call::{
    Digit, HangupCause, LegEvent, MediaLeg, Party, SignalEvent, TransferOutcome, TransferTarget,
    transfer_announcement,
};
use tandem_media::{AmbienceSettings, AmbientSound, SampleRate};
use tandem_net::PacingTimer;
use tandem_rtp::{Channel, RtpLeg};
use tandem_sip::{Consultation, DialogEvent, DialogHandle, LocalMedia};
use tokio::{net::UdpSocket, sync::mpsc};
use tracing::Instrument;

use crate::{
    ConsultSettings, MediaPorts, PortsExhausted, SecureMedia,
    consult::{CONNECTS_WITHIN, Consult, ConsultEvent, ConsultOrder, ConsultOutput},
    consult_speech::{ConsultSpeech, render},
    exchange::unix_now,
    ports::PortPair,
    sip_call::leg_config,
};

/// Orders and answers that may wait: of each there are only a few kinds.
const QUEUE: usize = 4;

/// What consultations of all calls need.
pub(crate) struct Consults {
    settings: ConsultSettings,
    voice: Voice,
    ports: Arc<MediaPorts>,
    media_timeout: Duration,
    tone: AmbienceSettings,
}

impl Consults {
    pub(crate) fn new(
        settings: ConsultSettings,
        voice: Voice,
        ports: Arc<MediaPorts>,
        media_timeout: Duration,
    ) -> Self {
        let sound = Arc::new(ringing());
        let tone = AmbienceSettings { sound, level_db: AmbienceSettings::LOUDEST_DB };
        Self { settings, voice, ports, media_timeout, tone }
    }
}

/// Hands the caller of one call over.
pub(crate) struct Transferor {
    pub(crate) consults: Arc<Consults>,
    /// Who waits.
    pub(crate) caller: Party,
    /// BCP-47, of the agent.
    pub(crate) language: String,
    /// What the agent gives a blind transfer.
    pub(crate) transfer_timeout: Duration,
}

impl Transferor {
    /// What the caller hears while somebody is called.
    pub(crate) fn tone(&self) -> &AmbienceSettings {
        &self.consults.tone
    }

    /// Calls `target` beside the call of `dialog`, whose media is `local`. To be called on a worker, which carries the leg.
    pub(crate) fn ask(
        &self,
        dialog: &DialogHandle,
        local: &LocalMedia,
        target: TransferTarget,
        headers: Vec<(String, String)>,
    ) -> Result<Asking, NotAsked> {
        let Consults { settings, voice, ports, media_timeout, .. } = &*self.consults;
        let PortPair { rtp, rtcp, port } = ports.bind()?;
        let (rtp, rtcp) = (UdpSocket::from_std(rtp)?, UdpSocket::from_std(rtcp)?);
        let timer = PacingTimer::new()?;
        let now = Instant::now();
        let local = LocalMedia { rtp_port: port, rtcp_port: port + 1, ..local.clone() };
        let codec = *local.codecs.first().ok_or(NotAsked::NoCodec)?;
        let texts = [&*headers, &[]]; // Without what changes, it may be a sentence that needs no program.
        let texts = texts.map(|headers| transfer_announcement(&settings.announcement, headers));
        let rendering = render(voice.clone(), self.language.clone(), texts);
        let (orders, order_queue) = mpsc::channel(QUEUE);
        let (answer, answers) = mpsc::channel(QUEUE);
        let security = SecureMedia::new(local.security.identity.clone());
        let (consulted, events) = dialog.consult(Consultation {
            target,
            caller: self.caller.clone(),
            local,
            headers: headers.clone(),
            credentials: settings.credentials.clone(),
        });
        let line = ConsultLine {
            consult: Consult::new(now, settings, self.transfer_timeout),
            leg: RtpLeg::new(now, unix_now(), leg_config(*media_timeout, codec)),
            security,
            rtp,
            rtcp,
            dialog: consulted.clone(),
            answer,
            speech: ConsultSpeech::default(),
        };
        let job = line.run(timer, events, order_queue, rendering);
        tokio::task::spawn_local(job.instrument(tracing::Span::current()));
        Ok(Asking { consulted, headers, answers, orders })
    }
}

/// Why nobody is asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAsked {
    #[error(transparent)]
    Ports(#[from] PortsExhausted),
    #[error("no socket: {0}")]
    Socket(#[from] io::Error),
    #[error("no codec is configured")]
    NoCodec,
}

/// What somebody who was asked has answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// They take the caller, who is to be connected.
    Accepted,
    /// They do not, or they were not reached.
    Failed(TransferOutcome),
}

/// Somebody is being asked. When this is dropped nobody waits for them any more.
pub(crate) struct Asking {
    consulted: DialogHandle,
    headers: Vec<(String, String)>,
    answers: mpsc::Receiver<Answer>,
    orders: mpsc::Sender<ConsultOrder>,
}

impl Asking {
    /// Their answer, once it is there.
    pub(crate) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        self.answers.poll_recv(cx).map(|answer| {
            answer.unwrap_or_else(|| {
                let reason = "asking somebody broke down".to_owned();
                Answer::Failed(TransferOutcome::Failed { status: None, reason })
            })
        })
    }

    /// Has the peer of `dialog` connect the caller with them.
    pub(crate) fn connect(&self, dialog: &DialogHandle) {
        dialog.transfer_to(&self.consulted, self.headers.clone(), CONNECTS_WITHIN);
    }

    /// The caller was connected, or was not.
    pub(crate) fn end(self, outcome: &TransferOutcome) {
        let order = match outcome {
            TransferOutcome::Completed => ConsultOrder::Connected,
            TransferOutcome::Failed { .. } => ConsultOrder::NotConnected,
        };
        self.orders.try_send(order).ok(); // A leg that is gone needs no order.
    }
}

/// One leg.
struct ConsultLine {
    consult: Consult,
    leg: RtpLeg,
    security: SecureMedia,
    rtp: UdpSocket,
    rtcp: UdpSocket,
    dialog: DialogHandle,
    answer: mpsc::Sender<Answer>,
    speech: ConsultSpeech,
}

impl ConsultLine {
    async fn run(
        mut self,
        mut timer: PacingTimer,
        mut events: mpsc::Receiver<DialogEvent>,
        mut orders: mpsc::Receiver<ConsultOrder>,
        rendering: impl Future<Output = Result<Vec<Arc<Speech>>, VoiceError>>,
    ) {
        let mut rendering = pin!(rendering);
        let (mut is_rendered, mut is_hung_up, mut is_abandoned) = (false, false, false);
        let (mut rtp_datagram, mut rtcp_datagram) = ([0; 2048], [0; 2048]);
        loop {
            self.settle(Instant::now());
            if self.consult.is_over() {
                break;
            }
            if let Some(at) = self.poll_timeout()
                && let Err(error) = timer.set(at)
            {
                tracing::error!(%error, "the pacing timer failed");
            }
            tokio::select! {
                // An ICMP error of an earlier packet is no reason to stop.
                read = self.rtp.recv_from(&mut rtp_datagram) => if let Ok((length, source)) = read {
                    self.take(Channel::Rtp, source, &mut rtp_datagram[..length]);
                },
                read = self.rtcp.recv_from(&mut rtcp_datagram) => if let Ok((length, source)) = read {
                    self.take(Channel::Rtcp, source, &mut rtcp_datagram[..length]);
                },
                event = events.recv(), if !is_hung_up => {
                    is_hung_up = event.as_ref().is_none_or(DialogEvent::is_last);
                    self.handle_dialog(event);
                }
                order = orders.recv(), if !is_abandoned => {
                    is_abandoned = order.is_none();
                    self.consult.handle_order(Instant::now(), order.unwrap_or(ConsultOrder::Abandon));
                }
                speech = &mut rendering, if !is_rendered => {
                    is_rendered = true;
                    self.take_speech(speech);
                }
                _ = poll_fn(|cx| timer.poll_expired(cx)) => {}
            }
        }
        let now = Instant::now();
        self.leg.close(now);
        self.send(now);
    }

    /// When the leg or the consultation has something to do.
    fn poll_timeout(&self) -> Option<Instant> {
        let Self { consult, leg, security, .. } = self;
        [consult.poll_timeout(), leg.next_send(), leg.poll_timeout(), security.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    fn take(&mut self, channel: Channel, source: SocketAddr, datagram: &mut [u8]) {
        let now = Instant::now();
        let Some(length) = self.security.unprotect(now, channel, source, datagram) else { return };
        // What can't be read is counted by the leg, and the leg goes on.
        let _ = match channel {
            Channel::Rtp => self.leg.handle_rtp(now, source, &datagram[..length]),
            Channel::Rtcp => self.leg.handle_rtcp(now, source, &datagram[..length]),
        };
    }

    fn handle_dialog(&mut self, event: Option<DialogEvent>) {
        let now = Instant::now();
        let event = match event {
            Some(DialogEvent::Security(security)) => return self.security.agree(now, security),
            Some(DialogEvent::Media(params)) => {
                if let Some(params) = self.security.negotiate(now, params) {
                    self.leg.apply(now, params);
                }
                return;
            }
            Some(DialogEvent::Ringing) => return tracing::info!("the person who is asked rings"),
            Some(DialogEvent::Failed { status, reason }) => {
                tracing::info!(status, reason, "the person who is asked is not reached");
                ConsultEvent::Failed { status: Some(status), reason }
            }
            Some(DialogEvent::Signal(event)) => match event {
                SignalEvent::Answered => {
                    tracing::info!("the person who is asked answers");
                    ConsultEvent::Answered
                }
                SignalEvent::Digit(digit) => ConsultEvent::Digit(digit),
                SignalEvent::HungUp { .. } | SignalEvent::Cancelled => ConsultEvent::HungUp,
                SignalEvent::Held(_)
                | SignalEvent::Transfer(_)
                | SignalEvent::TakenOver
                | SignalEvent::Playback(_) => return,
            },
            None => ConsultEvent::HungUp, // The endpoint is gone, and the dialog with it.
        };
        self.consult.handle_event(now, event);
    }

    fn take_speech(&mut self, speech: Result<Vec<Arc<Speech>>, VoiceError>) {
        match speech {
            Ok(speech) => self.speech.set(speech),
            Err(error) => {
                tracing::warn!(%error, "nobody can say the announcement: whoever answers is connected without");
                self.consult.handle_event(Instant::now(), ConsultEvent::Unspeakable);
            }
        }
    }

    /// Does everything that is due at `now`.
    fn settle(&mut self, now: Instant) {
        self.security.handle_timeout(now);
        self.leg.handle_timeout(now);
        if let Some(params) = self.security.poll_media() {
            self.leg.apply(now, params);
        }
        if let Some(error) = self.security.take_failure() {
            self.dialog.hang_up(HangupCause::IncompatibleDestination);
            let reason = format!("no protected media: {error}");
            self.consult.handle_event(now, ConsultEvent::Failed { status: None, reason });
        }
        while self.leg.poll_uplink().is_some() {} // What they say is not for us.
        while let Some(event) = self.leg.poll_event() {
            match event {
                LegEvent::Digit(digit) => self.press(now, digit),
                LegEvent::PlayoutDrained { item } if self.speech.end(item) => {
                    self.consult.handle_event(now, ConsultEvent::Heard);
                }
                _ => {}
            }
        }
        self.consult.handle_timeout(now);
        self.carry_out(now);
        self.speech.play(now, &mut self.leg);
        self.send(now);
    }

    fn press(&mut self, now: Instant, digit: Digit) {
        self.consult.handle_event(now, ConsultEvent::Digit(digit));
    }

    fn carry_out(&mut self, now: Instant) {
        while let Some(output) = self.consult.poll_output() {
            match output {
                ConsultOutput::Say => self.speech.begin(),
                ConsultOutput::Hush => {
                    self.speech.stop();
                    self.leg.clear(now);
                }
                ConsultOutput::HangUp(cause) => self.dialog.hang_up(cause),
                ConsultOutput::Accepted => {
                    tracing::info!("the person takes the caller");
                    self.tell(Answer::Accepted);
                }
                ConsultOutput::Failed(outcome) => {
                    if let TransferOutcome::Failed { status, reason } = &outcome {
                        tracing::info!(status, reason, "nobody takes the caller");
                    }
                    self.tell(Answer::Failed(outcome));
                }
            }
        }
    }

    fn tell(&self, answer: Answer) {
        self.answer.try_send(answer).ok(); // At most one of each kind; and a call that is gone asks no more.
    }

    fn send(&mut self, now: Instant) {
        while let Some((channel, handshake)) = self.security.poll_handshake() {
            let socket = if channel == Channel::Rtp { &self.rtp } else { &self.rtcp };
            socket.try_send_to(&handshake.bytes, handshake.destination).ok(); // It is sent again when its time comes.
        }
        while let Some(transmit) = self.leg.poll_transmit(now) {
            let socket = if transmit.channel == Channel::Rtp { &self.rtp } else { &self.rtcp };
            if let Some(bytes) = self.security.protect(transmit.channel, transmit.bytes) {
                socket.try_send_to(bytes, transmit.destination).ok(); // Late audio is worth nothing.
            }
        }
    }
}

/// A telephone that rings, as its caller hears it: two seconds in six.
fn ringing() -> AmbientSound {
    const RATE: SampleRate = SampleRate::Hz8000;
    let tone = |n: usize, hz: f64| (n as f64 * hz / 8_000.0 * std::f64::consts::TAU).sin();
    let sample =
        |n: usize| if n < 16_000 { (tone(n, 440.0) + tone(n, 480.0)) * 8_000.0 } else { 0.0 };
    let pcm: Vec<i16> = (0..48_000).map(|n| sample(n) as i16).collect();
    AmbientSound::from_pcm(RATE, &pcm).expect("six seconds are long enough, and not silent")
}
