//! A channel in the hands of a test.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    audio::Speech, channel::Answer, event::SwitchEvent, fake::Shared, fork_module::Edition,
    heard::Heard, view::ChannelView,
};

/// A channel to be driven: its far end is in the hands of the test.
#[derive(Debug, Clone)]
pub struct ChannelHandle {
    shared: Arc<Shared>,
    uuid: String,
}

impl ChannelHandle {
    pub(crate) fn new(shared: &Arc<Shared>, uuid: String) -> Self {
        Self { shared: Arc::clone(shared), uuid }
    }

    /// Its uuid.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// How it is now, or was at its end.
    pub fn view(&self) -> ChannelView {
        self.shared
            .with(|model, _| model.view(&self.uuid))
            .expect("a handle is made for a channel that was seen")
    }

    /// Presses keys, one after another, 160 ms each.
    pub fn press(&self, keys: &str) {
        self.shared.with(|model, _| keys.chars().for_each(|key| model.press(&self.uuid, key)));
    }

    /// Hangs up at the far end.
    pub fn hang_up(&self, cause: &str) {
        self.shared
            .with(|model, now| model.hang_up(now, &self.uuid, &super::channel::cause(cause)));
    }

    /// Puts the switch on hold, or takes it off, as a phone does by a re-INVITE.
    pub fn hold(&self, hold: bool) {
        self.shared.with(|model, now| model.hold_by_caller(now, &self.uuid, hold));
    }

    /// Says these samples at the codec's rate, after those it was told before; they go before its own speech.
    pub fn say(&self, samples: &[i16]) {
        self.shared.with(|model, _| {
            if let Some(channel) = model.channels.get_mut(&self.uuid) {
                channel.media.voice.say(samples);
            }
        });
    }

    /// Changes what it says of its own.
    pub fn set_speech(&self, speech: Speech) {
        self.shared.with(|model, _| {
            if let Some(channel) = model.channels.get_mut(&self.uuid) {
                channel.media.voice.set_own(speech);
            }
        });
    }

    /// Its packets come, or do not: then FreeSWITCH hands on bytes of 0xFF.
    pub fn set_packets(&self, come: bool) {
        self.shared.with(|model, _| {
            if let Some(channel) = model.channels.get_mut(&self.uuid) {
                channel.media.packets = come;
            }
        });
    }

    /// What was heard at the far end up to now.
    pub fn heard(&self) -> Heard {
        self.heard_from(None)
    }

    /// What was heard at the far end from a time on.
    pub fn heard_since(&self, from: Instant) -> Heard {
        self.heard_from(Some(from))
    }

    fn heard_from(&self, from: Option<Instant>) -> Heard {
        self.shared
            .with(|model, now| model.heard(now, &self.uuid, from))
            .expect("a handle is made for a channel that was seen")
    }

    /// Waits until the channel is as wanted, at most for `limit`.
    pub async fn wait_for(
        &self,
        limit: Duration,
        fits: impl Fn(&ChannelView) -> bool,
    ) -> Option<ChannelView> {
        self.shared.wait(limit, |model, _| model.view(&self.uuid).filter(|view| fits(view))).await
    }

    /// Waits until it is answered.
    pub async fn answered(&self, limit: Duration) -> bool {
        self.wait_for(limit, |view| view.answer == Answer::Answered).await.is_some()
    }

    /// Waits until it is over; gives the cause.
    pub async fn ended(&self, limit: Duration) -> Option<String> {
        self.wait_for(limit, |view| view.gone).await.and_then(|view| view.cause)
    }

    /// Waits until something louder than `level` was heard at `from` or later; gives when.
    pub async fn wait_for_sound(
        &self,
        from: Instant,
        level: u16,
        limit: Duration,
    ) -> Option<Instant> {
        let found = self.shared.wait(limit, |model, now| {
            let heard = model.heard(now, &self.uuid, Some(from))?;
            heard.first_sound(from, level)
        });
        found.await
    }

    /// The events about it that were raised, in their order.
    pub fn events(&self) -> Vec<SwitchEvent> {
        self.shared.with(|model, _| {
            let own = model.events.iter().filter(|event| event.uuid() == Some(&self.uuid));
            own.cloned().collect()
        })
    }

    /// The editions of the forks that are on it.
    pub fn forks(&self) -> Vec<Edition> {
        self.shared.with(|model, _| {
            let channel = model.channels.get(&self.uuid);
            let ids = channel.map(|channel| channel.forks.clone()).unwrap_or_default();
            ids.iter()
                .filter_map(|id| model.forks.get(id))
                .map(|fork| fork.module.spec().edition)
                .collect()
        })
    }
}
