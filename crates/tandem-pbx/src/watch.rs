//! Watching one channel of a switch.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::mpsc;

use crate::{ChannelEvent, ChannelUuid};

/// What is told of a watched channel.
#[derive(Debug, Clone, PartialEq)]
pub enum ChannelNotice {
    /// Something happened to it.
    Event(ChannelEvent),
    /// The link to the switch is down: what happens now is not told.
    Down { reason: Arc<str> },
    /// The link is up again and the channel still there. What happened meanwhile is to be asked for: `uuid_dump`.
    Alive,
    /// The link is up again and the channel gone.
    Gone,
    /// Events were dropped since nobody took them. What happened is to be asked for: `uuid_dump`.
    Lagged,
}

/// Most notices that wait to be taken; a call has about fifty from end to end.
const MAX_NOTICES: usize = 256;

/// The events of one channel, as they come. Dropped, it is no longer watched.
#[derive(Debug)]
pub struct ChannelWatch {
    uuid: ChannelUuid,
    notices: mpsc::Receiver<ChannelNotice>,
    lagged: Arc<AtomicBool>,
}

/// The other end of a [`ChannelWatch`].
#[derive(Debug)]
pub(crate) struct Watcher {
    notices: mpsc::Sender<ChannelNotice>,
    lagged: Arc<AtomicBool>,
}

impl ChannelWatch {
    pub(crate) fn new(uuid: ChannelUuid) -> (Watcher, Self) {
        let (sender, notices) = mpsc::channel(MAX_NOTICES);
        let lagged = Arc::new(AtomicBool::new(false));
        (Watcher { notices: sender, lagged: Arc::clone(&lagged) }, Self { uuid, notices, lagged })
    }

    /// The channel.
    pub fn uuid(&self) -> &ChannelUuid {
        &self.uuid
    }

    /// The next notice; `None` when the link was stopped. May be dropped half-way without losing one.
    pub async fn recv(&mut self) -> Option<ChannelNotice> {
        match self.try_recv() {
            Some(notice) => Some(notice),
            None => self.notices.recv().await,
        }
    }

    /// The next notice, if there is one.
    pub fn try_recv(&mut self) -> Option<ChannelNotice> {
        match self.notices.try_recv() {
            Ok(notice) => Some(notice),
            // Set only when the queue was full, so whoever is told has just emptied it.
            Err(_) => self.lagged.swap(false, Ordering::AcqRel).then_some(ChannelNotice::Lagged),
        }
    }
}

impl Watcher {
    /// Tells it, or, when too many wait, that some were dropped. After a gap nothing is told until that was taken.
    pub(crate) fn tell(&self, notice: ChannelNotice) {
        if self.lagged.load(Ordering::Acquire) {
            return;
        }
        if let Err(mpsc::error::TrySendError::Full(_)) = self.notices.try_send(notice) {
            self.lagged.store(true, Ordering::Release);
        }
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.notices.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChannelEventKind;

    #[test]
    fn a_watch_that_nobody_empties_is_told_that_it_lagged() {
        let uuid = ChannelUuid::new("5e551000-0000-4000-8000-000000000001").unwrap();
        let (watcher, mut watch) = ChannelWatch::new(uuid.clone());
        let event = ChannelNotice::Event(ChannelEvent::new(uuid, ChannelEventKind::Held));
        for _ in 0..MAX_NOTICES + 10 {
            watcher.tell(event.clone());
        }
        for _ in 0..MAX_NOTICES {
            assert_eq!(watch.try_recv(), Some(event.clone()));
            watcher.tell(ChannelNotice::Alive); // Not before the gap is known.
        }
        assert_eq!(watch.try_recv(), Some(ChannelNotice::Lagged));
        assert_eq!(watch.try_recv(), None);
        watcher.tell(ChannelNotice::Gone);
        assert_eq!(watch.try_recv(), Some(ChannelNotice::Gone));
        drop(watch);
        assert!(watcher.is_dropped());
    }
}
