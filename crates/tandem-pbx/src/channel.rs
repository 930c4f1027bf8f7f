//! The signalling side of one call whose audio is forked to us: a pure machine on the channel of the switch.
//!
//! [`Channel`] takes the call's [`SignalCommand`]s, the channel's events, the results of its own orders and the state of
//! the event socket, each with `now`, and gives [`ChannelOutput`]s: orders for the switch, [`SignalEvent`]s for the
//! call, notes for the log. After each `handle_*` call `poll_output` is asked until it is empty; `poll_timeout` says when
//! `handle_timeout` is next due. It is to be driven until [`Channel::is_done`]: legs it called may outlive the call's last
//! event by a moment.
//!
//! The call hears of its end once, by `Cancelled` or `HungUp`, and of nothing after it. That end need not be the
//! channel's: a caller who was transferred, or taken by somebody else at the switch, goes on without us.

mod annotations;
mod causes;
mod controls;
mod digits;
mod files;
mod fork;
mod guests;
mod hand_over;
mod legs;
mod life;
mod outbox;
mod recovery;
mod template;
mod transfer;
mod transfer_plan;
mod whereabouts;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tandem_call::{HangupCause, SignalCommand, SignalEvent};

use self::{
    annotations::Annotations,
    controls::Controls,
    digits::Twins,
    files::Files,
    fork::Fork,
    legs::Ending,
    life::ended,
    outbox::{Outbox, Purpose},
    recovery::Recovery,
    transfer::Transfer,
    whereabouts::Whereabouts,
};
pub use self::{
    controls::{Control, ControlError, ControlFailure, ListenerCall},
    fork::{ForkPlan, ForkSource},
    outbox::{ChannelNote, ChannelOrder, ChannelOutput, Ticket},
    template::{Template, TemplateError},
    transfer_plan::{
        InlineTemplate, TargetError, TransferPlan, TransferPlanError, TransferRoute,
        TransferSettings,
    },
};
use crate::{
    Cause, ChannelEvent, ChannelEventKind, ChannelNotice, ChannelUuid, Extension, Reply,
    SwitchError,
};

/// An order that the event socket had no room for, or did not answer, is given again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A hang-up that nobody confirms is believed after this: longer than an event socket is usually away.
const HANG_UP_PATIENCE: Duration = Duration::from_secs(40);

/// After our part is over, the channel takes last variables for so long.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// And a fork that cannot be stopped is given up after this; the end of our websocket silences it anyway.
const LONGEST_LEAVE: Duration = Duration::from_secs(60);

/// Who calls, shown to whom the caller is transferred.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallerIdentity {
    /// The number.
    pub number: Option<String>,
    /// The name.
    pub name: Option<String>,
}

/// What a channel machine needs to know of its channel.
#[derive(Debug, Clone)]
pub struct ChannelSettings {
    /// The channel.
    pub uuid: ChannelUuid,
    /// Whether it is answered already.
    pub answered: bool,
    /// Who calls.
    pub caller: CallerIdentity,
    /// Who starts the fork, and how.
    pub fork: ForkSource,
    /// How transfers are done.
    pub transfers: Arc<TransferPlan>,
    /// Variables that go with the caller to a target, such as a tenant or a ticket; names and values as they are.
    pub carried: Vec<(String, String)>,
    /// Where a caller goes whose audio cannot be had; without one the call is hung up.
    pub fallback: Option<Extension>,
    /// What the names of new legs are made from: random, different for each call.
    pub seed: u64,
}

/// What the event socket says about the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelLink {
    /// Nothing more is heard, nothing can be ordered.
    Down,
    /// It is up again, and the channel is still there.
    Alive,
    /// It is up again, and the channel is not there any more.
    Gone,
    /// It is up, but what happened to the channel in the last moments was not told.
    Lagged,
}

/// Where the call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It rings.
    Ringing,
    /// The answer was ordered.
    Answering { again: Option<Instant> },
    /// The call is up.
    Talking,
    /// It was ordered to end.
    HangingUp { cause: HangupCause, answered: bool, again: Option<Instant>, latest: Instant },
    /// The call is over for us; the channel lives on with somebody else.
    Left { until: Instant, latest: Instant },
    /// Nothing more happens.
    Over,
}

/// The signalling of one forked call.
#[derive(Debug)]
pub struct Channel {
    settings: ChannelSettings,
    out: Outbox,
    phase: Phase,
    /// Nobody listens any more.
    released: bool,
    link_up: bool,
    /// The switch says so.
    answered: bool,
    held: bool,
    whereabouts: Whereabouts,
    recovery: Recovery,
    fork: Fork,
    files: Files,
    annotations: Annotations,
    transfer: Option<Transfer>,
    /// The caller may still hear ringing that could not be stopped.
    rings_on: bool,
    endings: Vec<Ending>,
    twins: Twins,
    controls: Controls,
    random: fastrand::Rng,
}

impl Channel {
    /// A channel whose call has just come in; the event socket is up.
    pub fn new(settings: ChannelSettings) -> Self {
        Self {
            out: Outbox::default(),
            phase: Phase::Ringing,
            released: false,
            link_up: true,
            answered: settings.answered,
            held: false,
            whereabouts: Whereabouts::default(),
            recovery: Recovery::default(),
            fork: Fork::default(),
            files: Files::default(),
            annotations: Annotations::default(),
            transfer: None,
            rings_on: false,
            endings: Vec::new(),
            twins: Twins::default(),
            controls: Controls::default(),
            random: fastrand::Rng::with_seed(settings.seed),
            settings,
        }
    }

    /// The channel's name.
    pub fn uuid(&self) -> &ChannelUuid {
        &self.settings.uuid
    }

    /// Whether nothing more will be ordered or told.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Over && self.endings.is_empty()
    }

    /// The next output.
    pub fn poll_output(&mut self) -> Option<ChannelOutput> {
        self.out.poll()
    }

    /// When `handle_timeout` is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let endings = self.endings.iter().map(|ending| ending.due(self.link_up)).min();
        let phase = match self.phase {
            Phase::Ringing | Phase::Talking | Phase::Over => None,
            Phase::Answering { again } => again,
            Phase::HangingUp { again, latest, .. } => {
                Some(again.map_or(latest, |at| at.min(latest)))
            }
            Phase::Left { until, latest } => {
                Some(if self.fork.is_stopping() { latest } else { until })
            }
        };
        let transfer = self.transfer.as_ref().map(Transfer::due);
        let others = [
            self.fork.due(),
            self.files.due(),
            self.annotations.due(),
            self.recovery.due().filter(|_| self.is_live()),
        ];
        [endings, phase, transfer].into_iter().chain(others).flatten().min()
    }

    /// An order of the call.
    pub fn handle_command(&mut self, now: Instant, command: SignalCommand) {
        match command {
            SignalCommand::Answer => self.answer(now),
            SignalCommand::Reject { cause } | SignalCommand::HangUp { cause } => {
                self.hang_up(now, cause);
            }
            SignalCommand::Transfer { target, headers } if self.is_live() => {
                self.start_transfer(now, &target, headers);
            }
            SignalCommand::Transfer { .. } => {
                if let Phase::HangingUp { .. } = self.phase {
                    self.transfer_failed("the call is being ended");
                }
            }
            SignalCommand::Annotate { variables } => match self.phase {
                Phase::Ringing | Phase::Answering { .. } | Phase::Talking | Phase::Left { .. } => {
                    self.annotate(variables);
                    if !self.is_live() {
                        self.order_all_annotations();
                    }
                }
                Phase::HangingUp { .. } | Phase::Over => {}
            },
            SignalCommand::BreakPlayback => self.break_playback(),
        }
    }

    /// Something happened to the channel, or to a leg it called.
    pub fn handle_event(&mut self, now: Instant, event: &ChannelEvent) {
        if event.uuid == self.settings.uuid {
            self.handle_own(now, &event.kind);
            return;
        }
        if self.is_target(&event.uuid) {
            self.handle_target(now, &event.uuid, &event.kind);
        }
        if let ChannelEventKind::HungUp { .. }
        | ChannelEventKind::HungUpComplete { .. }
        | ChannelEventKind::Destroyed = event.kind
        {
            self.leg_gone(&event.uuid);
        }
    }

    /// What a watch of `uuid`, the channel or a leg it called, tells.
    pub fn handle_notice(&mut self, now: Instant, uuid: &ChannelUuid, notice: &ChannelNotice) {
        let own = *uuid == self.settings.uuid;
        match notice {
            ChannelNotice::Event(event) => self.handle_event(now, event),
            ChannelNotice::Down { .. } if own => self.handle_link(now, ChannelLink::Down),
            ChannelNotice::Alive if own => self.handle_link(now, ChannelLink::Alive),
            ChannelNotice::Lagged if own => self.handle_link(now, ChannelLink::Lagged),
            ChannelNotice::Gone if own => self.handle_link(now, ChannelLink::Gone),
            ChannelNotice::Gone => {
                let event = ChannelEvent::new(uuid.clone(), ChannelEventKind::Destroyed);
                self.handle_event(now, &event);
            }
            ChannelNotice::Down { .. } | ChannelNotice::Alive | ChannelNotice::Lagged => {}
        }
    }

    /// The result of an order.
    pub fn handle_result(
        &mut self,
        now: Instant,
        ticket: Ticket,
        result: Result<Reply, SwitchError>,
    ) {
        let Some(purpose) = self.out.take(ticket) else { return };
        match purpose {
            Purpose::Originate(called) => {
                let result = result.map(|reply| reply.uuid());
                self.target_called(now, &called, result);
            }
            Purpose::KillLeg(called) => self.leg_killed(now, &called, &result),
            Purpose::ForkStop => self.fork_stopped(now, &result),
            _ if self.phase == Phase::Over => {}
            Purpose::Nothing(command) => {
                if let Err(error) = result {
                    let why = error.to_string();
                    self.out.note(ChannelNote::Refused { command, why });
                }
            }
            Purpose::Answer => self.answer_ordered(now, result),
            Purpose::HangUp => self.hang_up_ordered(now, &result),
            Purpose::ForkStart => self.fork_started(now, result.map(drop)),
            Purpose::Fallback => self.fallen_back(now, &result),
            Purpose::Annotate(variables) => match result {
                Ok(_) => self.annotated(),
                Err(error) if error.is_no_such_channel() => {}
                Err(error) => self.not_annotated(now, variables, &error.to_string()),
            },
            Purpose::Play(id) => {
                if let Err(error) = result {
                    self.file_refused(now, id, error.to_string());
                }
            }
            Purpose::Break => self.playback_broken(now),
            Purpose::Recover => self.recovered(now, &result),
            Purpose::Exists => self.existence_told(now, &result),
            Purpose::RecoverPeer(peer) => self.peer_recovered(now, &peer, &result),
            Purpose::Silence => {
                // Nothing to break off is as good; anything else leaves the caller with the ringing.
                self.rings_on = matches!(&result, Err(error) if !is_refusal(error));
            }
            Purpose::Check => self.place_checked(now, &result),
            Purpose::Bridge => self.bridge_ordered(now, result.map(drop)),
            Purpose::BridgeCheck => self.bridge_checked(now, &result),
            Purpose::HandOver => self.handed_over(now, result.map(drop)),
        }
        self.settle_left(now);
    }

    /// The event socket went down, or came up again.
    pub fn handle_link(&mut self, now: Instant, link: ChannelLink) {
        match link {
            ChannelLink::Down => {
                self.link_up = false;
                self.recovery.stop();
                if self.is_live() {
                    self.files_lost(now);
                }
            }
            ChannelLink::Gone => {
                self.link_up = true;
                self.renew_endings(now);
                self.found_gone(now);
            }
            ChannelLink::Alive => self.link_restored(now),
            ChannelLink::Lagged if self.is_live() => self.recover(),
            ChannelLink::Lagged => {}
        }
    }

    /// Our end of the fork's websocket: `attached`, or lost. Telling it is optional; it is known here before the
    /// switch says so, and also when the switch cannot say anything. Told again that it is attached, it is sound:
    /// audio has come.
    pub fn handle_media(&mut self, now: Instant, attached: bool) {
        if self.is_live() {
            self.media_changed(now, attached);
        }
    }

    /// The leg `uuid` has heard what [`ChannelOrder::Announce`] said, or could not be told.
    pub fn handle_announced(&mut self, now: Instant, uuid: &ChannelUuid) {
        self.target_announced(now, uuid);
    }

    /// The call is over without a hang-up: nobody listens to the channel any more, which goes on by itself. Legs of
    /// ours are ended, the fork is stopped; a hang-up that was ordered is still seen through. The call is told nothing
    /// more.
    pub fn release(&mut self, now: Instant) {
        self.released = true;
        if !self.is_live() {
            return;
        }
        self.drop_transfer(now);
        self.order_all_annotations();
        self.stop_fork();
        self.files.clear();
        self.phase = Phase::Left { until: now, latest: after(now, LONGEST_LEAVE) };
        self.settle_left(now);
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.check_endings(now);
        if self.phase == Phase::Over {
            return;
        }
        self.check_fork(now);
        self.check_annotations(now);
        if self.is_live() {
            self.check_files(now);
            self.check_transfer(now);
            self.check_recovery(now);
        }
        match self.phase {
            Phase::Answering { again: Some(at) } if at <= now => self.order_answer(),
            Phase::HangingUp { cause, answered, latest, .. } if latest <= now => {
                self.out.note(ChannelNote::HangUpUnconfirmed);
                self.end(ended(cause, answered));
            }
            Phase::HangingUp { again: Some(at), .. } if at <= now => self.order_hang_up(),
            _ => self.settle_left(now),
        }
    }

    /// The call is up and ours.
    fn is_talking(&self) -> bool {
        self.phase == Phase::Talking
    }

    /// The call was not told of its end.
    fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Ringing | Phase::Answering { .. } | Phase::Talking)
    }

    fn tell(&mut self, event: SignalEvent) {
        if !self.released {
            self.out.tell(event);
        }
    }

    fn handle_own(&mut self, now: Instant, kind: &ChannelEventKind) {
        match kind {
            ChannelEventKind::HungUp { cause } | ChannelEventKind::HungUpComplete { cause } => {
                self.gone(now, cause);
            }
            ChannelEventKind::Destroyed => {
                self.gone(now, &Cause::from(HangupCause::NormalClearing));
            }
            _ if !self.is_live() => {}
            ChannelEventKind::Answered => self.confirm_answer(now),
            ChannelEventKind::Held => self.tell_held(true),
            ChannelEventKind::Unheld => self.tell_held(false),
            ChannelEventKind::Digit { digit, source, .. } => {
                if self.is_talking() && self.twins.is_new(now, *digit, *source) {
                    self.tell(SignalEvent::Digit(*digit));
                }
            }
            ChannelEventKind::Bridged { peer } => {
                if self.is_target(peer) {
                    self.complete_transfer(now);
                } else {
                    self.taken_over(now, format!("bridged with {peer}"));
                }
            }
            ChannelEventKind::Unparked => self.whereabouts.unparked(self.is_handing_over()),
            ChannelEventKind::Parked => {
                self.whereabouts.parked();
                self.hand_over_parked(now);
            }
            ChannelEventKind::Executed { app, .. } => self.executes(now, app),
            ChannelEventKind::PlaybackStarted { file } => self.playback_started(now, file),
            ChannelEventKind::PlaybackStopped { file, broken } => {
                self.playback_stopped(now, file, *broken);
            }
            ChannelEventKind::RecordStarted { path } => self.controls.record_started(path),
            ChannelEventKind::RecordStopped { path } => self.controls.record_stopped(path),
            ChannelEventKind::Fork { module, bug, event } => {
                self.handle_fork(now, *module, bug.as_deref(), event);
            }
            ChannelEventKind::Created
            | ChannelEventKind::Progress { .. }
            | ChannelEventKind::Unbridged { .. }
            | ChannelEventKind::ExecuteComplete { .. }
            | ChannelEventKind::BugStarted { .. }
            | ChannelEventKind::BugStopped { .. }
            | ChannelEventKind::Valet { .. }
            | ChannelEventKind::Conference { .. }
            | ChannelEventKind::Other { .. } => {}
        }
    }

    fn tell_held(&mut self, held: bool) {
        if self.held != held {
            self.held = held;
            if self.is_talking() {
                self.tell(SignalEvent::Held(held));
            }
        }
    }
}

fn is_refusal(error: &SwitchError) -> bool {
    matches!(error, SwitchError::Refused { .. } | SwitchError::Command(_))
}

/// `span` after `now`.
fn after(now: Instant, span: Duration) -> Instant {
    now + span
}
