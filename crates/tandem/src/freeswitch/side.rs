//! Between a call on its worker and its channel on the control runtime.

use std::{collections::HashMap, time::Duration};

use tandem_call::{FilePlayback, SignalCommand, SignalEvent};
use tandem_exchange::{Announcement, ForkReport, NotAnnounced, Signalling};
use tandem_pbx::{CallSide, ChannelInput, ChannelUuid, EventHeaders, Switch};
use tokio::sync::mpsc;

use super::{calls::Calls, facts::known_rate};

/// Words about files of one announcement that may wait.
const FILES: usize = 16;

/// A leg's fork ends before the switch says that the leg hung up, by less than this.
const HANG_UP_FOLLOWS: Duration = Duration::from_millis(250);

/// A call's orders to the channel that a [`tandem_pbx::Channel`] follows.
pub(crate) struct ChannelSignalling {
    inputs: mpsc::Sender<ChannelInput>,
}

impl ChannelSignalling {
    pub(crate) fn new(inputs: mpsc::Sender<ChannelInput>) -> Self {
        Self { inputs }
    }

    pub(super) fn send(&self, input: ChannelInput) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.inputs.try_send(input) {
            tracing::error!("a channel does not keep up with its call's orders: one is lost");
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

    fn media_flows(&self) {
        self.send(ChannelInput::Media { attached: true });
    }
}

/// What a channel tells its call.
pub(super) struct ChannelSide {
    pub(super) calls: Calls,
    pub(super) switch: Switch,
    pub(super) channel: ChannelUuid,
    /// Of the agent, for announcements.
    pub(super) language: String,
    pub(super) reports: mpsc::Sender<ForkReport>,
    pub(super) inputs: mpsc::Sender<ChannelInput>,
    pub(super) announcements: HashMap<ChannelUuid, mpsc::Sender<FilePlayback>>,
}

impl CallSide for ChannelSide {
    fn event(&mut self, event: SignalEvent) {
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
        let announcement = Announcement { language: self.language.clone(), text, stream, playback };
        let (exchange, inputs, leg) =
            (self.calls.exchange().clone(), self.inputs.clone(), leg.clone());
        tokio::spawn(async move {
            match exchange.announce(announcement).await {
                Ok(()) => {}
                // The leg declined, took the call at once or hung up: its channel says which, some ms later.
                Err(error @ NotAnnounced::Lost(_)) => {
                    tracing::debug!(%error, "an announcement was not heard whole");
                    tokio::time::sleep(HANG_UP_FOLLOWS).await;
                }
                Err(error) => tracing::warn!(%error, "an announcement was not heard whole"),
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

    fn probe_media(&mut self) {
        self.reports.try_send(ForkReport::Probe).ok(); // Full: it is taken for broken.
    }

    fn answered(&mut self, headers: &EventHeaders) {
        if let Some(rate) = known_rate(headers) {
            self.calls.correct_codec(&self.channel, rate);
        }
    }
}
