//! What an API or a tool does with a channel besides talking: orders that need to know how the channel stands.
//!
//! Each gives the order to carry out through the same switch, or says why it makes no sense now. Those that move the
//! channel tell the machine, so that it does not take its own doing for somebody else's.

use std::time::Duration;

use super::Channel;
use crate::{
    Application, CallerName, ChannelUuid, CommandError, ConferenceCommand, DialString, Digits,
    Direction, Eavesdrop, EavesdropMode, MediaPath, Originate, RecordAction, SwitchCommand,
    TransferLeg, ValetSlot, Word,
};

/// Applications a control sends the channel to, at most at a time.
const MOST_EXPECTED: usize = 4;

/// Why a control is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The call is not up.
    #[error("the call is not up")]
    NotUp,
    /// The caller is on its way to somebody else.
    #[error("the caller is being transferred")]
    Transferring,
    /// Holding twice.
    #[error("the call is on hold already")]
    AlreadyHeld,
    /// Taking back what is not held.
    #[error("the call is not on hold")]
    NotHeld,
    /// One recording at a time.
    #[error("the call is being recorded already, to {0}")]
    AlreadyRecording(MediaPath),
    /// Nothing to stop.
    #[error("the call is not being recorded")]
    NotRecording,
    /// The switch cannot be told so.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// Whom to call so that they listen in.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerCall {
    /// The phone to ring.
    pub dial: DialString,
    /// How long it may ring.
    pub timeout: Duration,
    /// What they may do.
    pub mode: EavesdropMode,
}

/// What was done to the channel.
#[derive(Debug, Default)]
pub(super) struct Controls {
    recording: Option<MediaPath>,
    /// Applications we sent the channel to.
    expected: Vec<&'static str>,
}

impl Controls {
    /// Whether `app` begins because we said so.
    pub(super) fn expects(&mut self, app: &str) -> bool {
        let found = self.expected.iter().position(|expected| *expected == app);
        found.map(|index| self.expected.remove(index)).is_some()
    }

    pub(super) fn record_started(&mut self, path: &str) {
        if self.recording.is_none() {
            self.recording = MediaPath::new(path).ok();
        }
    }

    pub(super) fn record_stopped(&mut self, path: &str) {
        self.recording = self.recording.take().filter(|recording| recording.as_str() != path);
    }

    fn expect(&mut self, app: &'static str) {
        if self.expected.len() == MOST_EXPECTED {
            self.expected.remove(0);
        }
        self.expected.push(app);
    }
}

impl Channel {
    /// Puts the far end on hold.
    pub fn hold(&self) -> Result<SwitchCommand, ControlError> {
        let uuid = self.controllable()?;
        if self.held { Err(ControlError::AlreadyHeld) } else { Ok(SwitchCommand::Hold { uuid }) }
    }

    /// Takes the far end back from hold.
    pub fn resume(&self) -> Result<SwitchCommand, ControlError> {
        let uuid = self.controllable()?;
        if self.held { Ok(SwitchCommand::Unhold { uuid }) } else { Err(ControlError::NotHeld) }
    }

    /// Puts the far end on hold, or takes it back.
    pub fn toggle_hold(&self) -> Result<SwitchCommand, ControlError> {
        if self.held { self.resume() } else { self.hold() }
    }

    /// Takes the channel out of whatever it runs, to wait; the fork goes on.
    pub fn park(&mut self) -> Result<SwitchCommand, ControlError> {
        let uuid = self.controllable()?;
        self.controls.expect("park");
        Ok(SwitchCommand::Park { uuid })
    }

    /// Parks the caller where somebody picks it up; the call is over for us when they do.
    pub fn valet_park(&mut self, lot: Word, slot: ValetSlot) -> Result<SwitchCommand, ControlError> {
        let uuid = self.controllable()?;
        self.controls.expect("valet_park");
        Ok(SwitchCommand::ValetPark { uuid, lot, slot })
    }

    /// Sends digits to the far end.
    pub fn send_digits(
        &self,
        digits: Digits,
        duration: Option<Duration>,
    ) -> Result<SwitchCommand, ControlError> {
        Ok(SwitchCommand::SendDigits { uuid: self.controllable()?, digits, duration })
    }

    /// Silences the caller for us, or us for the caller.
    pub fn mute(&self, direction: Direction) -> Result<SwitchCommand, ControlError> {
        Ok(SwitchCommand::Mute { uuid: self.controllable()?, direction, on: true })
    }

    /// Takes every silencing back.
    pub fn unmute(&self) -> Result<SwitchCommand, ControlError> {
        let uuid = self.controllable()?;
        Ok(SwitchCommand::Mute { uuid, direction: Direction::Read, on: false })
    }

    /// Records the channel to `path` on the switch, at most for `limit`.
    pub fn record(
        &mut self,
        path: MediaPath,
        limit: Option<Duration>,
    ) -> Result<SwitchCommand, ControlError> {
        let uuid = self.controllable()?;
        if let Some(path) = &self.controls.recording {
            return Err(ControlError::AlreadyRecording(path.clone()));
        }
        self.controls.recording = Some(path.clone());
        Ok(SwitchCommand::Record { uuid, action: RecordAction::Start { limit }, path })
    }

    /// Does `action` to the running recording; to begin one, see [`Channel::record`].
    pub fn change_recording(&mut self, action: RecordAction) -> Result<SwitchCommand, ControlError> {
        let uuid = self.controllable()?;
        let path = self.controls.recording.clone().ok_or(ControlError::NotRecording)?;
        match action {
            RecordAction::Start { .. } => return Err(ControlError::AlreadyRecording(path)),
            RecordAction::Stop => self.controls.recording = None,
            RecordAction::Pause
            | RecordAction::Resume
            | RecordAction::Mask
            | RecordAction::Unmask => {}
        }
        Ok(SwitchCommand::Record { uuid, action, path })
    }

    /// Rings somebody who then listens in on the call, whispers or joins. The agent's words are added to what the
    /// caller hears after the place where listeners hear it: they hear the caller only, unless the fork plays files.
    pub fn eavesdrop(&mut self, listener: ListenerCall) -> Result<SwitchCommand, ControlError> {
        let uuid = self.controllable()?;
        let called = ChannelUuid::from_random(self.random.u128(..));
        let ListenerCall { dial, timeout, mode } = listener;
        let mut call = Originate::parked(called, dial, timeout);
        if let Some(number) = &self.settings.caller.number
            && let Ok(named) = call.clone().variable("origination_caller_id_number", number)
        {
            call = named;
        }
        Ok(SwitchCommand::Eavesdrop(Box::new(Eavesdrop { uuid, listener: call, mode })))
    }

    /// Takes the caller into a conference. The fork goes on and carries the caller alone (mono) or the whole room
    /// (mixed); the room does not hear the agent.
    pub fn join_conference(
        &mut self,
        conference: &Word,
        profile: &Word,
    ) -> Result<SwitchCommand, ControlError> {
        let uuid = self.controllable()?;
        let room = Application::new("conference", &format!("{conference}@{profile}"))?;
        self.controls.expect("conference");
        Ok(SwitchCommand::TransferInline { uuid, leg: TransferLeg::Own, actions: vec![room] })
    }

    /// Takes the caller into a conference and calls a third party into it: two orders, one after the other.
    pub fn three_way(
        &mut self,
        conference: &Word,
        profile: &Word,
        third: DialString,
    ) -> Result<[SwitchCommand; 2], ControlError> {
        let caller = &self.settings.caller;
        let number = caller.number.as_deref().unwrap_or("anonymous");
        let number = Word::new(number).or_else(|_| Word::new("anonymous"))?;
        let name = caller.name.as_deref().unwrap_or("Caller");
        let name = CallerName::new(name).or_else(|_| CallerName::new("Caller"))?;
        let room = Word::new(&format!("{conference}@{profile}"))?;
        let join = self.join_conference(conference, profile)?;
        let command = ConferenceCommand::Dial { dial: third, number, name };
        Ok([join, SwitchCommand::Conference { name: room, command }])
    }

    /// The channel's name, if the call is up and stays ours.
    fn controllable(&self) -> Result<ChannelUuid, ControlError> {
        if !self.is_talking() {
            Err(ControlError::NotUp)
        } else if self.transfer.is_some() {
            Err(ControlError::Transferring)
        } else {
            Ok(self.settings.uuid.clone())
        }
    }
}
