//! A switch whose event socket we connect to.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::{
    ChannelUuid, ChannelWatch, LinkState, Reply, SettingsError, SwitchCommand, SwitchError,
    SwitchSettings,
    driver::{Driver, Ends, MAX_REQUESTS, Request},
    link::Link,
};

/// A handle of the link to a switch. The link ends when its last handle is dropped.
#[derive(Debug, Clone)]
pub struct Switch {
    name: Arc<str>,
    requests: mpsc::Sender<Request>,
    stop: Arc<Notify>,
    state: watch::Receiver<LinkState>,
}

impl Switch {
    /// Connects to a switch, now and whenever the connection is lost, in a task of the current tokio runtime.
    pub fn start(settings: SwitchSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        let (name, address) = (settings.name.clone(), settings.dialled());
        let link = Link::inbound(Instant::now(), settings, fastrand::u64(..));
        let (switch, ends) = Self::handle(&name);
        tokio::spawn(Driver::new(name, address, link, ends).run());
        Ok(switch)
    }

    pub(crate) fn handle(name: &str) -> (Self, Ends) {
        let (requests, taken) = mpsc::channel(MAX_REQUESTS);
        let (changed, state) =
            watch::channel(LinkState::Down { reason: "not connected yet".into() });
        let stop = Arc::new(Notify::new());
        let ends = Ends { requests: taken, stop: Arc::clone(&stop), state: changed };
        (Self { name: name.into(), requests, stop, state }, ends)
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Carries out a command and says what came of it.
    ///
    /// While the link is down, hang-ups, variables and the end of a fork wait up to 30 s for it; all else fails with
    /// `Down`.
    pub async fn execute(&self, command: SwitchCommand) -> Result<Reply, SwitchError> {
        self.submit(command).await
    }

    /// Orders a command at once; what comes of it is awaited later, or not at all. Commands are carried out in the
    /// order in which they are submitted, but for those that call somebody.
    pub fn submit(&self, command: SwitchCommand) -> Answer {
        let (answer, waiting) = oneshot::channel();
        match self.requests.try_send(Request::Command { command, answer }) {
            Ok(()) => Answer(State::Waiting(waiting)),
            Err(mpsc::error::TrySendError::Full(_)) => Answer(State::Refused(SwitchError::Busy)),
            Err(mpsc::error::TrySendError::Closed(_)) => Answer(State::Refused(self.over())),
        }
    }

    /// Watches a channel, also one that is not there yet. Its events begin with those after this call.
    pub fn watch(&self, uuid: ChannelUuid) -> Result<ChannelWatch, SwitchError> {
        let (watcher, watch) = ChannelWatch::new(uuid.clone());
        match self.requests.try_send(Request::Watch { uuid, watcher }) {
            Ok(()) => Ok(watch),
            Err(mpsc::error::TrySendError::Full(_)) => Err(SwitchError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(self.over()),
        }
    }

    /// Whether it can be reached, and what it is.
    pub fn state(&self) -> LinkState {
        self.state.borrow().clone()
    }

    /// Waits until the state is another than when it was last asked for on this handle, and gives it. `Stopped` once
    /// the link is over.
    pub async fn changed(&mut self) -> LinkState {
        match self.state.changed().await {
            Ok(()) => self.state.borrow_and_update().clone(),
            Err(_) => LinkState::Stopped,
        }
    }

    /// Waits until it is up; fails when the link was stopped.
    pub async fn up(&self) -> Result<(), SwitchError> {
        let mut state = self.state.clone();
        match state.wait_for(|state| !matches!(state, LinkState::Down { .. })).await {
            Ok(state) if matches!(*state, LinkState::Up(_)) => Ok(()),
            _ => Err(SwitchError::Stopped),
        }
    }

    /// Ends the link: what waits is answered `Stopped`.
    pub fn stop(&self) {
        self.stop.notify_one();
    }

    pub(crate) fn release(&self) -> bool {
        self.requests.try_send(Request::Release).is_ok()
    }

    /// Why nothing can be ordered any more: stopped by us, or the switch's own socket is gone.
    fn over(&self) -> SwitchError {
        match &*self.state.borrow() {
            LinkState::Stopped => SwitchError::Stopped,
            _ => SwitchError::Down,
        }
    }
}

/// What comes of a command, as a future.
#[derive(Debug)]
pub struct Answer(State);

#[derive(Debug)]
enum State {
    Waiting(oneshot::Receiver<Result<Reply, SwitchError>>),
    Refused(SwitchError),
}

impl Future for Answer {
    type Output = Result<Reply, SwitchError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Refused(error) => Poll::Ready(Err(error.clone())),
            State::Waiting(answer) => {
                Pin::new(answer).poll(cx).map(|answer| answer.unwrap_or(Err(SwitchError::Stopped)))
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
