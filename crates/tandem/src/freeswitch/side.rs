//! Between a call on its worker and its channel on the control runtime.

use std::collections::HashMap;

use tandem_call::{
    FilePlayback, HangupCause, SignalCommand, SignalEvent, TransferOutcome,
};
use tandem_exchange::{Announcement, ForkReport, Signalling};
use tandem_pbx::{
    Application, CallSide, ChannelInput, ChannelUuid, Switch, SwitchCommand, TransferLeg,
};
use tokio::sync::{mpsc, oneshot};

use super::calls::{Calls, Held};

/// Words about files of one announcement that may wait.
const FILES: usize = 16;

/// A call's orders to the channel that a [`tandem_pbx::Channel`] follows.
pub(crate) struct ChannelSignalling {
    inputs: mpsc::Sender<ChannelInput>,
}

impl ChannelSignalling {
    pub(crate) fn new(inputs: mpsc::Sender<ChannelInput>) -> Self {
        Self { inputs }
    }

    fn send(&self, input: ChannelInput) {
        if let Err(mpsc::error::TrySendError::Full(input)) = self.inputs.try_send(input) {
            tracing::error!(?input, "a channel does not keep up with its call's orders");
        }
    }
}

impl Signalling for ChannelSignalling {
    fn order(&self, command: SignalCommand) {
        self.send(ChannelInput::Command(command));
    }

    fn media_lost(&self, why: &str) {
        tracing::debug!(why, "the fork is gone");
        self.send(ChannelInput::Media { attached: false });
    }
}

/// The signalling of a call of which nothing but its fork is known: it is up, and over when the fork is.
pub(crate) struct LoneFork {
    reports: mpsc::WeakSender<ForkReport>,
}

impl LoneFork {
    pub(crate) fn new(reports: mpsc::WeakSender<ForkReport>) -> Self {
        Self { reports }
    }

    fn tell(&self, event: SignalEvent) {
        if let Some(reports) = self.reports.upgrade() {
            reports.try_send(ForkReport::Signal(event)).ok(); // Full: the call is told by the end of its fork.
        }
    }
}

impl Signalling for LoneFork {
    fn order(&self, command: SignalCommand) {
        match command {
            SignalCommand::Answer => self.tell(SignalEvent::Answered),
            SignalCommand::Reject { cause } | SignalCommand::HangUp { cause } => {
                self.tell(SignalEvent::HungUp { cause });
            }
            SignalCommand::Transfer { .. } => {
                let reason = "the switch's event socket is not connected".to_owned();
                let failed = TransferOutcome::Failed { status: None, reason };
                self.tell(SignalEvent::Transfer(failed));
            }
            SignalCommand::Annotate { .. } | SignalCommand::BreakPlayback => {}
        }
    }

    fn media_lost(&self, _why: &str) {
        self.tell(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    }
}

/// What a channel tells its call.
pub(super) struct ChannelSide {
    pub(super) calls: Calls,
    pub(super) uuid: ChannelUuid,
    pub(super) switch: Switch,
    /// Of the agent, for announcements.
    pub(super) language: String,
    pub(super) reports: mpsc::Sender<ForkReport>,
    pub(super) inputs: mpsc::Sender<ChannelInput>,
    /// The connection by which the channel was handed over, if it was.
    pub(super) held: Option<oneshot::Receiver<Held>>,
    pub(super) announcements: HashMap<ChannelUuid, mpsc::Sender<FilePlayback>>,
}

impl ChannelSide {
    /// Has the channel wait by itself where a link of ours controls it: the connection that handed it over may then end
    /// without the channel going back to its dialplan.
    fn stand_alone(&mut self) {
        let Some(held) = self.held.take() else { return };
        let (switch, uuid, reports) =
            (self.switch.clone(), self.uuid.clone(), self.reports.clone());
        tokio::spawn(async move {
            let Ok(Held { channel, until_parked }) = held.await else { return };
            if until_parked {
                let actions = vec![Application::new("park", "").expect("a plain name")];
                let leg = TransferLeg::Own;
                let park = SwitchCommand::TransferInline { uuid, leg, actions };
                if let Err(error) = switch.execute(park).await {
                    tracing::warn!(%error, "the channel depends on its own event socket");
                }
            }
            // The order above is carried out later than it is confirmed: letting go now would race with it. Once the
            // channel waits by itself the switch ends the connection, or it ends with the call.
            reports.closed().await;
            drop(channel);
        });
    }
}

impl CallSide for ChannelSide {
    fn event(&mut self, event: SignalEvent) {
        if event == SignalEvent::Answered {
            self.stand_alone();
        }
        if let Err(error) = self.reports.try_send(ForkReport::Signal(event)) {
            tracing::error!(%error, "a call does not keep up with its channel");
        }
    }

    fn announce(&mut self, leg: &ChannelUuid, text: String) {
        let (files, playback) = mpsc::channel(FILES);
        self.announcements.insert(leg.clone(), files);
        let stream = match self.calls.expect_announcement(&self.switch, leg) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::error!(%error, "nothing can be announced");
                self.inputs.try_send(ChannelInput::Announced(leg.clone())).ok();
                return;
            }
        };
        let announcement =
            Announcement { language: self.language.clone(), text, stream, playback };
        let (exchange, inputs, leg) =
            (self.calls.exchange().clone(), self.inputs.clone(), leg.clone());
        tokio::spawn(async move {
            if let Err(error) = exchange.announce(announcement).await {
                tracing::warn!(%error, "an announcement was not heard whole");
            }
            inputs.send(ChannelInput::Announced(leg)).await.ok();
        });
    }

    fn announcement_played(&mut self, leg: &ChannelUuid, playback: FilePlayback) {
        if let Some(files) = self.announcements.get(leg) {
            files.try_send(playback).ok();
        }
    }

    fn stop_announcing(&mut self, leg: &ChannelUuid) {
        self.announcements.remove(leg);
        self.calls.forget_announcement(&self.switch, leg);
    }
}
