//! A call as the exchange sees it: what comes in, what goes out, what happens to it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tandem_call::{HangupCause, Party, SignalEvent, TransferTarget};
use tandem_media::Codec;
use tandem_rtp::MediaParams;
use tandem_srtp::MediaSecurity;
use tokio::sync::mpsc;

use crate::{Credential, LocalSecurity, Transport};

/// Names one dialog of this user agent while it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialogId(pub(crate) u64);

/// Our end of a leg's media, as it goes into SDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalMedia {
    /// The address in `c=`.
    pub address: IpAddr,
    /// The port in `m=`.
    pub rtp_port: u16,
    /// Written as `a=rtcp` when it is not the port after `rtp_port`.
    pub rtcp_port: u16,
    /// Codecs in order of preference, Opus with the rate at which we run it.
    pub codecs: Vec<Codec>,
    /// How it is protected.
    pub security: LocalSecurity,
}

/// Why a call is refused before it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// 300 to 699.
    pub status: u16,
    /// Reason phrase; empty for the standard one.
    pub reason: String,
    /// Seconds until the peer may try again.
    pub retry_after: Option<u32>,
}

impl Rejection {
    /// A refusal with `status` and its standard reason phrase.
    pub const fn status(status: u16) -> Self {
        Self { status, reason: String::new(), retry_after: None }
    }
}

/// What happens to a dialog. The last event of every dialog is `HungUp`, `Cancelled` or `Failed`; then the channel
/// closes.
#[derive(Debug, Clone, PartialEq)]
pub enum DialogEvent {
    /// How media is protected from now on; before [`Self::Media`] of the same answer. Nothing is, until this comes.
    Security(MediaSecurity),
    /// What was negotiated: at the answer and whenever it changes.
    Media(MediaParams),
    /// Answered, cancelled, hung up, held, a digit, the outcome of a transfer.
    Signal(SignalEvent),
    /// An outgoing call rings.
    Ringing,
    /// An outgoing call was refused, or nobody answered the INVITE (408).
    Failed {
        /// The final status.
        status: u16,
        /// Its reason phrase.
        reason: String,
    },
}

impl DialogEvent {
    /// Whether nothing comes after this.
    pub const fn is_last(&self) -> bool {
        matches!(
            self,
            Self::Signal(SignalEvent::HungUp { .. } | SignalEvent::Cancelled) | Self::Failed { .. }
        )
    }
}

/// A call that came in. `100 Trying` is on its way already; the rest is up to [`DialogHandle`].
#[derive(Debug)]
pub struct IncomingCall {
    /// Its dialog.
    pub id: DialogId,
    /// The Call-ID of the INVITE.
    pub sip_call_id: String,
    /// Where the INVITE came from.
    pub source: SocketAddr,
    /// The address the caller reaches us at: what SDP should say, unless settings say otherwise.
    pub local: IpAddr,
    /// Whether the source is trusted by its address.
    pub trusted: bool,
    /// The user name that authenticated, if one had to.
    pub authenticated: Option<String>,
    /// The caller: of a trusted peer's P-Asserted-Identity, else of From.
    pub from: Party,
    /// The dialled number: user part without separators, parameters and `+`.
    pub called: String,
    /// The Request-URI as received.
    pub request_uri: String,
    /// X- headers, User-to-User and the like: at most 64, each at most 1 KiB. Identity headers (P-, Diversion,
    /// History-Info, Remote-Party-ID, Identity) only from trusted peers.
    pub headers: Vec<(String, String)>,
    /// Codecs of the offer that we have in common, in the offer's order; none when the INVITE has no offer and
    /// ours goes out with the answer.
    pub offered: Option<Vec<Codec>>,
    /// What happens to it.
    pub events: mpsc::Receiver<DialogEvent>,
    /// Orders to it.
    pub dialog: DialogHandle,
}

/// An outgoing call.
#[derive(Debug, Clone)]
pub struct OutgoingCall {
    /// Whom to call: `sip:user@host[:port][;transport=tcp]`.
    pub uri: String,
    /// The caller's URI for From; display name allowed.
    pub from: String,
    /// Our media.
    pub local: LocalMedia,
    /// Further headers of the INVITE.
    pub headers: Vec<(String, String)>,
    /// Answers a 401 or 407.
    pub credentials: Option<Credential>,
}

/// A call beside another one: to somebody who is asked whether they take its caller (RFC 5589 §7).
#[derive(Debug, Clone)]
pub struct Consultation {
    /// Whom to call. Its URI is made as for a transfer. Where it names the other call's peer without a port, the INVITE
    /// goes the way of that call's requests, else where the URI says.
    pub target: TransferTarget,
    /// Who waits: the caller in From. Without a number it is the dialled number of the other call.
    pub caller: Party,
    /// Our media. The address is ours towards the other call's peer; where the INVITE goes elsewhere it is replaced.
    pub local: LocalMedia,
    /// Further headers of the INVITE: those that a transfer may carry.
    pub headers: Vec<(String, String)>,
    /// Answers a 401 or 407.
    pub credentials: Option<Credential>,
}

/// What a handle asks of the endpoint.
#[derive(Debug)]
pub(crate) enum Errand {
    /// Something for the dialog of the handle.
    Order(Order),
    /// Place a call of this id beside it.
    Consult(DialogId, Box<Consultation>, mpsc::Sender<DialogEvent>),
    /// Place the call of the handle, whose peer is known now.
    Place(Box<OutgoingCall>, Resolved, mpsc::Sender<DialogEvent>),
}

/// The peer of an outgoing call, or why there is none.
pub(crate) type Resolved = Result<(Transport, SocketAddr), String>;

/// An order to a dialog.
#[derive(Debug, Clone)]
pub(crate) enum Order {
    Progress,
    Accept(LocalMedia),
    Reject(Rejection),
    HangUp(HangupCause),
    Transfer(TransferTarget, Vec<(String, String)>),
    TransferTo(DialogId, Vec<(String, String)>, Duration),
    Hold(bool),
}

/// Events of one dialog that its owner has not looked at yet.
pub(crate) const EVENTS: usize = 64;

/// Orders to one dialog. Cheap to clone; dropping it does nothing. An order to a dialog that is over does nothing.
#[derive(Clone)]
pub struct DialogHandle {
    id: DialogId,
    desk: Desk,
}

/// Where all handles of an endpoint leave their errands.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) errands: mpsc::Sender<(DialogId, Errand)>,
    /// Errands that were lost because the queue was full.
    pub(crate) lost: Arc<AtomicU64>,
    /// The id of the next call we place.
    pub(crate) next: Arc<AtomicU64>,
}

impl Desk {
    /// An id for a call we place.
    pub(crate) fn next_id(&self) -> DialogId {
        DialogId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn leave(&self, id: DialogId, errand: Errand) {
        // The queue holds thousands for a task that only does arithmetic: full means it is gone or stuck.
        if self.errands.try_send((id, errand)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for DialogHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DialogHandle").field(&self.id.0).finish()
    }
}

impl DialogHandle {
    pub(crate) const fn new(id: DialogId, desk: Desk) -> Self {
        Self { id, desk }
    }

    /// The dialog this handle is for.
    pub const fn id(&self) -> DialogId {
        self.id
    }

    /// Lets the caller hear ringing: 180.
    pub fn progress(&self) {
        self.order(Order::Progress);
    }

    /// Answers the call: 200 with the SDP answer, or with our offer when the INVITE had none.
    pub fn accept(&self, local: LocalMedia) {
        self.order(Order::Accept(local));
    }

    /// Refuses the call.
    pub fn reject(&self, rejection: Rejection) {
        self.order(Order::Reject(rejection));
    }

    /// Ends the call in whatever state it is: BYE with a Reason, CANCEL of a call of ours, or a refusal. `HungUp`
    /// comes back at once.
    pub fn hang_up(&self, cause: HangupCause) {
        self.order(Order::HangUp(cause));
    }

    /// Hands the caller over by REFER. The outcome comes as one [`SignalEvent::Transfer`].
    pub fn transfer(&self, target: TransferTarget, headers: Vec<(String, String)>) {
        self.order(Order::Transfer(target, headers));
    }

    /// Calls somebody who is to be asked whether they take this call's caller. Everything that happens to that call,
    /// failure too, comes by the channel. It is a call of its own and outlives this one until it is hung up.
    pub fn consult(&self, consultation: Consultation) -> (Self, mpsc::Receiver<DialogEvent>) {
        let consulted = Self::new(self.desk.next_id(), self.desk.clone());
        let (sender, events) = mpsc::channel(EVENTS);
        let errand = Errand::Consult(consulted.id, Box::new(consultation), sender);
        self.desk.leave(self.id, errand);
        (consulted, events)
    }

    /// Hands the caller over to the far end of `consulted`, a call of ours that is answered, by REFER with Replaces. The
    /// outcome comes as one [`SignalEvent::Transfer`], within `timeout`. `consulted` stays ours to hang up.
    pub fn transfer_to(&self, consulted: &Self, headers: Vec<(String, String)>, timeout: Duration) {
        self.order(Order::TransferTo(consulted.id, headers, timeout));
    }

    /// Puts the far side on hold by re-INVITE.
    pub fn hold(&self) {
        self.order(Order::Hold(true));
    }

    /// Takes the far side back from hold.
    pub fn resume(&self) {
        self.order(Order::Hold(false));
    }

    fn order(&self, order: Order) {
        self.desk.leave(self.id, Errand::Order(order));
    }
}
