//! The calls: set up one after the other over SIP, all with one media socket.

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
struct Call {
    dialog: DialogHandle,
    events: mpsc::Receiver<DialogEvent>,
    remote: SocketAddr,
}

/// All calls, answered.
pub(crate) struct Callers {
    endpoint: SipHandle,
    calls: Vec<Call>,
    /// From INVITE to answer, per call.
    pub(crate) set_up: Vec<Duration>,
    /// Where nobody looks for RTCP.
    _rtcp: UdpSocket,
}

impl Callers {
    /// Calls `daemon` `count` times; the media of all calls is `rtp`.
    pub(crate) async fn call(
        daemon: SocketAddr,
        rtp: &UdpSocket,
        count: u16,
    ) -> Result<Self, BenchError> {
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
        let mut callers = Self { endpoint, calls: Vec::new(), set_up: Vec::new(), _rtcp: rtcp };
        for number in 0..count {
            let outgoing = OutgoingCall {
                uri: format!("sip:bench@{daemon}"),
                from: format!("sip:caller-{number}@{LOOPBACK}"),
                local: local.clone(),
                headers: Vec::new(),
                credentials: None,
            };
            let invited = Instant::now();
            let (dialog, events) = callers.endpoint.call(outgoing);
            let call = timeout(ANSWER_WITHIN, answered(dialog, events))
                .await
                .unwrap_or_else(|_| Err(format!("no answer in {} s", ANSWER_WITHIN.as_secs())))
                .map_err(|why| BenchError::NotAnswered { call: number, why })?;
            callers.calls.push(call);
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
        let mut lost = 0;
        for call in &mut self.calls {
            while let Ok(event) = call.events.try_recv() {
                lost += u64::from(event.is_last());
            }
            call.dialog.hang_up(HangupCause::NormalClearing);
        }
        let until = tokio::time::Instant::now() + HANG_UP_WITHIN;
        for call in &mut self.calls {
            while let Ok(Some(event)) = timeout_at(until, call.events.recv()).await
                && !event.is_last()
            {}
        }
        let _ = timeout(HANG_UP_WITHIN, self.endpoint.shutdown()).await;
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
