//! What tests see of a channel.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use super::{
    channel::{Answer, Channel},
    heard::{Heard, Recorder},
    model::SwitchModel,
};

/// Channels that are remembered after their end.
const MOST_ENDED: usize = 100_000;

/// Samples heard on them that are remembered; those of the oldest channels go first.
const MOST_ENDED_SAMPLES: usize = 64 << 20;

/// A channel as it is at a moment, or as it was at its end.
#[derive(Debug, Clone)]
pub struct ChannelView {
    /// Its uuid.
    pub uuid: String,
    /// `sofia/internal/…`.
    pub name: String,
    /// A caller called us; otherwise the switch called somebody.
    pub inbound: bool,
    /// The number dialled, as it is after transfers.
    pub destination: String,
    /// Has it been answered.
    pub answer: Answer,
    /// `CS_EXECUTE`…
    pub state: &'static str,
    /// `ACTIVE`, `HELD`…
    pub call_state: &'static str,
    /// The application that runs, and its argument.
    pub application: (String, String),
    /// The channel it is joined to.
    pub peer: Option<String>,
    /// The switch or the caller holds it.
    pub held: bool,
    /// The bugs of its forks.
    pub forks: Vec<String>,
    /// Its other media bugs.
    pub bugs: Vec<&'static str>,
    /// Digits that were sent to the far end.
    pub sent_digits: String,
    /// Its variables.
    pub variables: BTreeMap<String, String>,
    /// Why it was hung up, if it was.
    pub cause: Option<String>,
    /// It does not exist any more.
    pub gone: bool,
}

impl ChannelView {
    /// A variable's value.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// Does it run this application.
    pub fn runs(&self, app: &str) -> bool {
        self.application.0 == app
    }
}

/// A channel that is over.
#[derive(Debug)]
pub(crate) struct Ended {
    view: ChannelView,
    recorder: Recorder,
}

/// The channels that are over, the newest last.
#[derive(Debug, Default)]
pub(crate) struct EndedChannels {
    order: VecDeque<String>,
    channels: BTreeMap<String, Ended>,
    samples: usize,
    /// Of the oldest, so many have no sound any more.
    silent: usize,
}

impl EndedChannels {
    fn add(&mut self, view: ChannelView, recorder: Recorder) {
        self.samples += recorder.len();
        self.order.push_back(view.uuid.clone());
        self.channels.insert(view.uuid.clone(), Ended { view, recorder });
        while self.samples > MOST_ENDED_SAMPLES
            && let Some(oldest) = self.order.get(self.silent)
        {
            if let Some(ended) = self.channels.get_mut(oldest) {
                self.samples -= ended.recorder.len();
                ended.recorder.forget();
            }
            self.silent += 1;
        }
        if self.order.len() > MOST_ENDED
            && let Some(oldest) = self.order.pop_front()
        {
            self.silent = self.silent.saturating_sub(1);
            if let Some(ended) = self.channels.remove(&oldest) {
                self.samples -= ended.recorder.len();
            }
        }
    }
}

impl SwitchModel {
    /// A channel that is or was.
    pub(crate) fn view(&self, uuid: &str) -> Option<ChannelView> {
        match self.channels.get(uuid) {
            Some(channel) => Some(self.view_of(channel)),
            None => self.ended.channels.get(uuid).map(|ended| ended.view.clone()),
        }
    }

    /// What was heard on a channel that is or was, from the beginning or from a time on.
    pub(crate) fn heard(&self, now: Instant, uuid: &str, from: Option<Instant>) -> Option<Heard> {
        let living = self.channels.get(uuid).map(|channel| &channel.media.recorder);
        let recorder = living.or(self.ended.channels.get(uuid).map(|ended| &ended.recorder))?;
        Some(recorder.heard(now, from))
    }

    /// Takes a channel out of the living.
    pub(crate) fn bury(&mut self, uuid: &str) {
        let Some(channel) = self.channels.remove(uuid) else { return };
        let view = ChannelView { gone: true, ..self.view_of(&channel) };
        self.ended.add(view, channel.media.recorder);
    }

    pub(crate) fn view_of(&self, channel: &Channel) -> ChannelView {
        let (app, data) = channel.application();
        let forks = channel.forks.iter().filter_map(|id| self.forks.get(id));
        ChannelView {
            uuid: channel.uuid.clone(),
            name: channel.name.clone(),
            inbound: channel.inbound,
            destination: channel.destination.clone(),
            answer: channel.answer,
            state: channel.state.word_and_number().0,
            call_state: channel.call_state,
            application: (app.to_owned(), data.to_owned()),
            peer: channel.peer.clone(),
            held: channel.held || channel.held_by_caller,
            forks: forks.map(|fork| fork.bug.clone()).collect(),
            bugs: channel.bugs.iter().map(|bug| bug.function).collect(),
            sent_digits: channel.media.sent_digits.clone(),
            variables: channel.variables.iter().cloned().collect(),
            cause: channel.cause.clone(),
            gone: false,
        }
    }
}
