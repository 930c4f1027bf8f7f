//! Calls over SIP, all with one media socket.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use tandem_call::{HangupCause, SignalEvent};
use tandem_media::Codec;
use tandem_sip::{
    DialogEvent, DialogHandle, Listener, LocalMedia, LocalSecurity, OutgoingCall, SipEndpoint,
    SipHandle, SipSettings, Transport,
};
use tokio::{
    sync::mpsc,
    time::{timeout, timeout_at},
};

use crate::BenchError;

/// A call that is not answered after this fails the run.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// All calls together may take this long to hang up.
const HANG_UP_WITHIN: Duration = Duration::from_secs(5);

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// One answered call.
pub(crate) struct Call {
    dialog: DialogHandle,
    events: mpsc::Receiver<DialogEvent>,
    /// Where its RTP goes.
    pub(crate) remote: SocketAddr,
}

impl Call {
    /// Hangs up; waits, but not for ever, until the call is over. True when it had ended before.
    pub(crate) async fn hang_up(mut self) -> bool {
        let lost = self.begin_to_hang_up();
        self.over(tokio::time::Instant::now() + HANG_UP_WITHIN).await;
        lost
    }

    /// Sends the BYE. True when the call had ended before.
    fn begin_to_hang_up(&mut self) -> bool {
        let mut lost = false;
        while let Ok(event) = self.events.try_recv() {
            lost |= event.is_last();
        }
        self.dialog.hang_up(HangupCause::NormalClearing);
        lost
    }

    async fn over(&mut self, until: tokio::time::Instant) {
        while let Ok(Some(event)) = timeout_at(until, self.events.recv()).await
            && !event.is_last()
        {}
    }
}

/// Calls a daemon, with one media socket for all its calls.
pub(crate) struct Phone {
    endpoint: SipHandle,
    daemon: SocketAddr,
    local: LocalMedia,
    /// Where nobody looks for RTCP.
    _rtcp: UdpSocket,
}

impl Phone {
    /// A phone that calls `daemon`; the media of its calls is `rtp`.
    pub(crate) async fn open(daemon: SocketAddr, rtp: &UdpSocket) -> Result<Self, BenchError> {
        let addr = SocketAddr::new(LOOPBACK, 0);
        let listen = [Transport::Udp, Transport::Tcp].map(|transport| Listener { transport, addr });
        let settings = SipSettings {
            listen: listen.into(),
            contact_user: "tandem-bench".into(),
            ..SipSettings::default()
        };
        let (endpoint, _) = SipEndpoint::bind(settings)
            .await
            .map_err(|error| BenchError::Sip(error.to_string()))?;
        let rtcp = UdpSocket::bind(addr)?;
        let local = LocalMedia {
            address: LOOPBACK,
            rtp_port: rtp.local_addr()?.port(),
            rtcp_port: rtcp.local_addr()?.port(),
            codecs: vec![Codec::PCMU],
            security: LocalSecurity::default(),
        };
        Ok(Self { endpoint, daemon, local, _rtcp: rtcp })
    }

    /// Calls as caller `number` and waits for the answer.
    pub(crate) async fn call(&self, number: u16) -> Result<Call, BenchError> {
        let outgoing = OutgoingCall {
            uri: format!("sip:bench@{}", self.daemon),
            from: format!("sip:caller-{number}@{LOOPBACK}"),
            local: self.local.clone(),
            headers: Vec::new(),
            credentials: None,
        };
        let (dialog, events) = self.endpoint.call(outgoing);
        timeout(ANSWER_WITHIN, answered(dialog, events))
            .await
            .unwrap_or_else(|_| Err(format!("no answer in {} s", ANSWER_WITHIN.as_secs())))
            .map_err(|why| BenchError::NotAnswered { call: number, why })
    }

    /// Ends its SIP endpoint.
    pub(crate) async fn close(&self) {
        let _ = timeout(HANG_UP_WITHIN, self.endpoint.shutdown()).await;
    }
}

/// All calls, answered.
pub(crate) struct Callers {
    phone: Phone,
    calls: Vec<Call>,
    /// From INVITE to answer, per call.
    pub(crate) set_up: Vec<Duration>,
}

impl Callers {
    /// Calls `daemon` `count` times; the media of all calls is `rtp`.
    pub(crate) async fn call(
        daemon: SocketAddr,
        rtp: &UdpSocket,
        count: u16,
    ) -> Result<Self, BenchError> {
        let phone = Phone::open(daemon, rtp).await?;
        let mut callers = Self { phone, calls: Vec::new(), set_up: Vec::new() };
        for number in 0..count {
            let invited = Instant::now();
            callers.calls.push(callers.phone.call(number).await?);
            callers.set_up.push(invited.elapsed());
        }
        Ok(callers)
    }

    /// Where each call's RTP goes.
    pub(crate) fn remotes(&self) -> Vec<SocketAddr> {
        self.calls.iter().map(|call| call.remote).collect()
    }

    /// Hangs up, and returns how many calls had ended before.
    pub(crate) async fn hang_up(mut self) -> u64 {
        let lost = self.calls.iter_mut().map(|call| u64::from(call.begin_to_hang_up())).sum();
        let until = tokio::time::Instant::now() + HANG_UP_WITHIN;
        for call in &mut self.calls {
            call.over(until).await;
        }
        self.phone.close().await;
        lost
    }
}

async fn answered(
    dialog: DialogHandle,
    mut events: mpsc::Receiver<DialogEvent>,
) -> Result<Call, String> {
    let (mut remote, mut answered) = (None, false);
    while let Some(event) = events.recv().await {
        match event {
            DialogEvent::Media(params) => remote = Some(params.remote_rtp),
            DialogEvent::Signal(SignalEvent::Answered) => answered = true,
            DialogEvent::Failed { status, reason } => return Err(format!("{status} {reason}")),
            last if last.is_last() => return Err("hung up at once".into()),
            DialogEvent::Ringing | DialogEvent::Security(_) | DialogEvent::Signal(_) => {}
        }
        if let (Some(remote), true) = (remote, answered) {
            return Ok(Call { dialog, events, remote });
        }
    }
    Err("the dialog was lost".into())
}
