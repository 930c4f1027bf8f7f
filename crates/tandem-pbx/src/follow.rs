//! The task that drives one [`Channel`] on its switch.

use std::{
    collections::HashMap,
    future::pending,
    time::{Duration, Instant},
};

use tandem_call::{FilePlayback, SignalCommand, SignalEvent};
use tokio::{
    sync::{mpsc, oneshot},
    task::{AbortHandle, JoinSet},
};

use crate::{
    BroadcastLeg, Channel, ChannelEvent, ChannelEventKind, ChannelLink, ChannelNotice,
    ChannelOrder, ChannelOutput, ChannelUuid, ChannelWatch, Control, ControlFailure, EventHeaders,
    ForkEvent, Playable, Reply, Switch, SwitchCommand, SwitchError, Ticket,
};

/// Notices of all watched channels of one call that wait to be taken.
const MAX_NOTICES: usize = 256;

/// Orders of one call whose results are not there yet, beyond which controls are refused.
const MAX_RESULTS: usize = 64;

/// The switch tells the slot of a parked call once it has told the caller, or not at all.
const SLOT_TOLD: Duration = Duration::from_secs(5);

/// How a [`Control`] came out: what the switch answered to its last order.
pub type ControlOutcome = Result<Reply, ControlFailure>;

/// What a call tells its channel.
#[derive(Debug)]
pub enum ChannelInput {
    /// An order.
    Command(SignalCommand),
    /// The fork's websocket came, or went.
    Media {
        /// It came.
        attached: bool,
    },
    /// The leg heard what was to be announced to it, or could not.
    Announced(ChannelUuid),
    /// Something a tool or an API wants done.
    Control {
        /// What.
        control: Control,
        /// Takes how it came out; dropped without a word when the channel is over.
        outcome: oneshot::Sender<ControlOutcome>,
    },
    /// Nobody follows the call any more.
    Release,
}

/// What a channel tells its call. Nothing here may block.
pub trait CallSide: Send + 'static {
    /// Something happened to the call.
    fn event(&mut self, event: SignalEvent);

    /// Say this to the leg, then answer [`ChannelInput::Announced`].
    fn announce(&mut self, leg: &ChannelUuid, text: String);

    /// What the switch says of a file that was played to the leg for an announcement.
    fn announcement_played(&mut self, leg: &ChannelUuid, playback: FilePlayback);

    /// The leg need not hear more.
    fn stop_announcing(&mut self, leg: &ChannelUuid);

    /// Tell [`ChannelInput::Media`] when more audio comes by the fork: untold, the fork may be taken for broken.
    fn probe_media(&mut self) {}

    /// The call was answered; `headers` say with which codec.
    fn answered(&mut self, _headers: &EventHeaders) {}
}

/// Drives `channel` with what its `switch` and its call say until nothing is left to be done.
pub async fn follow(
    channel: Channel,
    switch: Switch,
    own: ChannelWatch,
    inputs: mpsc::Receiver<ChannelInput>,
    side: impl CallSide,
) {
    let (sender, notices) = mpsc::channel(MAX_NOTICES);
    let mut follower = Follower {
        own: channel.uuid().clone(),
        channel,
        switch,
        side,
        results: JoinSet::new(),
        slot: None,
        watches: JoinSet::new(),
        watched: HashMap::new(),
        announced: HashMap::new(),
        sender,
    };
    follower.watch(own);
    follower.run(inputs, notices).await;
}

type Notice = (ChannelUuid, ChannelNotice);

/// What came of an order.
enum Done {
    /// The machine's.
    Order(Ticket, Result<Reply, SwitchError>),
    /// A control's.
    Control(Box<Controlling>, Result<Reply, SwitchError>),
}

/// A control that is being carried out.
struct Controlling {
    order: SwitchCommand,
    /// What is ordered next.
    others: std::vec::IntoIter<SwitchCommand>,
    outcome: oneshot::Sender<ControlOutcome>,
    /// Tells where the switch has parked the caller.
    slot: Option<oneshot::Receiver<String>>,
}

struct Follower<S> {
    own: ChannelUuid,
    channel: Channel,
    switch: Switch,
    side: S,
    results: JoinSet<Done>,
    /// Who waits for the slot in which the switch parks the caller.
    slot: Option<oneshot::Sender<String>>,
    watches: JoinSet<()>,
    watched: HashMap<ChannelUuid, AbortHandle>,
    /// Files that are played to legs for an announcement: their names, and the numbers of the pieces.
    announced: HashMap<ChannelUuid, HashMap<String, u64>>,
    sender: mpsc::Sender<Notice>,
}

impl<S: CallSide> Follower<S> {
    async fn run(
        mut self,
        mut inputs: mpsc::Receiver<ChannelInput>,
        mut notices: mpsc::Receiver<Notice>,
    ) {
        let mut inputs_gone = false;
        loop {
            self.channel.settle_controls(Instant::now());
            self.carry_out();
            if self.channel.is_done() {
                return;
            }
            let due = self.channel.poll_timeout();
            tokio::select! {
                input = inputs.recv(), if !inputs_gone => {
                    inputs_gone = input.is_none();
                    self.take(Instant::now(), input.unwrap_or(ChannelInput::Release));
                }
                Some((uuid, notice)) = notices.recv() => self.note(Instant::now(), &uuid, notice),
                Some(result) = self.results.join_next() => {
                    if let Ok(done) = result {
                        self.done(Instant::now(), done);
                    }
                }
                Some(_) = self.watches.join_next() => {}
                () = until(due) => self.channel.handle_timeout(Instant::now()),
            }
        }
    }

    fn take(&mut self, now: Instant, input: ChannelInput) {
        match input {
            ChannelInput::Command(command) => self.channel.handle_command(now, command),
            ChannelInput::Media { attached } => self.channel.handle_media(now, attached),
            ChannelInput::Announced(leg) => {
                self.announced.remove(&leg);
                self.channel.handle_announced(now, &leg);
            }
            ChannelInput::Control { control, outcome } => self.control(control, outcome),
            ChannelInput::Release => self.channel.release(now),
        }
    }

    fn done(&mut self, now: Instant, done: Done) {
        match done {
            Done::Order(ticket, result) => self.channel.handle_result(now, ticket, result),
            Done::Control(controlling, result) => self.controlled(now, controlling, result),
        }
    }

    fn control(&mut self, control: Control, outcome: oneshot::Sender<ControlOutcome>) {
        if self.results.len() >= MAX_RESULTS {
            outcome.send(Err(SwitchError::Busy.into())).ok();
            return;
        }
        let parks = matches!(control, Control::ValetPark { .. });
        let mut orders = match self.channel.control(control) {
            Ok(orders) => orders.into_iter(),
            Err(error) => {
                outcome.send(Err(error.into())).ok();
                return;
            }
        };
        let slot = parks.then(|| {
            let (told, slot) = oneshot::channel();
            self.slot = Some(told);
            slot
        });
        let order = orders.next().expect("a control orders something");
        self.carry_on(Box::new(Controlling { order, others: orders, outcome, slot }));
    }

    fn carry_on(&mut self, mut controlling: Box<Controlling>) {
        let answer = self.switch.submit(controlling.order.clone());
        self.results.spawn(async move {
            let mut result = answer.await;
            if let (Ok(reply), Some(slot)) = (&mut result, controlling.slot.take()) {
                let told = tokio::time::timeout(SLOT_TOLD, slot).await;
                *reply = Reply::new(told.ok().and_then(Result::ok).unwrap_or_default());
            }
            Done::Control(controlling, result)
        });
    }

    fn controlled(
        &mut self,
        now: Instant,
        mut controlling: Box<Controlling>,
        result: Result<Reply, SwitchError>,
    ) {
        let goes_on = self.channel.control_came_out(now, &controlling.order, &result);
        let outcome = match (controlling.others.next(), goes_on, result) {
            (Some(next), Ok(()), _) => {
                controlling.order = next;
                return self.carry_on(controlling);
            }
            (Some(_), Err(failure), _) => Err(failure),
            (None, _, result) => result.map_err(ControlFailure::from),
        };
        controlling.outcome.send(outcome).ok(); // Who asked may have stopped waiting.
    }

    fn note(&mut self, now: Instant, uuid: &ChannelUuid, notice: ChannelNotice) {
        let own = *uuid == self.own;
        match notice {
            ChannelNotice::Event(event) => {
                if !own {
                    self.follow_announcement(&event);
                } else if let ChannelEventKind::Valet { slot, action, .. } = &event.kind
                    && action == "hold"
                    && let Some(told) = self.slot.take()
                {
                    told.send(slot.clone()).ok();
                } else if event.kind == ChannelEventKind::Answered {
                    self.side.answered(&event.headers);
                }
                self.channel.handle_event(now, &event);
            }
            ChannelNotice::Down { reason } if own => {
                tracing::debug!(switch = self.switch.name(), %reason, "the event socket is down");
                self.channel.handle_link(now, ChannelLink::Down);
            }
            // What was missed is asked for the same way after either.
            ChannelNotice::Alive | ChannelNotice::Lagged if own => {
                self.channel.handle_link(now, ChannelLink::Alive);
            }
            ChannelNotice::Gone if own => self.channel.handle_link(now, ChannelLink::Gone),
            ChannelNotice::Gone => {
                let gone = ChannelEvent::new(uuid.clone(), ChannelEventKind::Destroyed);
                self.channel.handle_event(now, &gone);
            }
            ChannelNotice::Down { .. } | ChannelNotice::Alive | ChannelNotice::Lagged => {}
        }
    }

    /// A leg that hears an announcement by files has them played by us, for the machine knows only its own channel's.
    fn follow_announcement(&mut self, event: &ChannelEvent) {
        let Some(files) = self.announced.get_mut(&event.uuid) else { return };
        match &event.kind {
            ChannelEventKind::Fork { event: ForkEvent::PlayFile { file, id, .. }, .. } => {
                let number = id.as_ref().and_then(|id| id.parse().ok());
                if let (Some(file), Some(number)) = (file, number) {
                    files.insert(file.as_str().to_owned(), number);
                    let play = SwitchCommand::Broadcast {
                        uuid: event.uuid.clone(),
                        what: Playable::File(file.clone()),
                        leg: BroadcastLeg::Own,
                    };
                    drop(self.switch.submit(play));
                }
            }
            ChannelEventKind::PlaybackStarted { file } => {
                if let Some(id) = files.get(file) {
                    let started = FilePlayback::Started { id: *id };
                    self.side.announcement_played(&event.uuid, started);
                }
            }
            ChannelEventKind::PlaybackStopped { file, broken } => {
                if let Some(id) = files.remove(file) {
                    let stopped = FilePlayback::Stopped { id, broken: *broken };
                    self.side.announcement_played(&event.uuid, stopped);
                }
            }
            _ => {}
        }
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.channel.poll_output() {
            match output {
                ChannelOutput::Event(event) => self.side.event(event),
                ChannelOutput::Note(note) => tracing::info!("{note}"),
                ChannelOutput::Order(order) => self.order(order),
            }
        }
    }

    fn order(&mut self, order: ChannelOrder) {
        match order {
            ChannelOrder::Switch { ticket, command } => {
                let answer = self.switch.submit(*command);
                self.results.spawn(async move { Done::Order(ticket, answer.await) });
            }
            ChannelOrder::Watch(uuid) => match self.switch.watch(uuid) {
                Ok(watch) => self.watch(watch),
                Err(error) => tracing::warn!(%error, "a leg can't be watched"),
            },
            ChannelOrder::Unwatch(uuid) => {
                if let Some(watch) = self.watched.remove(&uuid) {
                    watch.abort();
                }
            }
            ChannelOrder::Announce { uuid, text } => {
                self.announced.insert(uuid.clone(), HashMap::new());
                self.side.announce(&uuid, text);
            }
            ChannelOrder::StopAnnouncing(uuid) => {
                self.announced.remove(&uuid);
                self.side.stop_announcing(&uuid);
            }
            ChannelOrder::ProbeMedia => self.side.probe_media(),
        }
    }

    fn watch(&mut self, mut watch: ChannelWatch) {
        let (uuid, sender) = (watch.uuid().clone(), self.sender.clone());
        let own = uuid == self.own;
        let watching = self.watches.spawn(async move {
            let uuid = watch.uuid().clone();
            while let Some(notice) = watch.recv().await {
                if sender.send((uuid.clone(), notice)).await.is_err() {
                    return;
                }
            }
            if own {
                // The link was stopped, or was the channel's own and has ended with it.
                sender.send((uuid, ChannelNotice::Gone)).await.ok();
            }
        });
        self.watched.insert(uuid, watching);
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests;
