//! What an API or a tool does with a channel besides talking: orders that need to know how the channel stands.
//!
//! Each gives the order to carry out through the same switch, or says why it makes no sense now. Those that move the
//! channel tell the machine, so that it does not take its own doing for somebody else's.

use std::time::{Duration, Instant};

use super::{Channel, guests::MOST_GUESTS, legs::Leg};
use crate::{
    Application, BroadcastLeg, ChannelUuid, CommandError, Connect, DialString, Digits, Direction,
    Eavesdrop, EavesdropMode, MediaPath, Playable, RecordAction, Reply, SwitchCommand, SwitchError,
    TransferLeg, ValetSlot, VariableName, VariableValue, Word,
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
    /// Enough people are on their way.
    #[error("{MOST_GUESTS} people are being called already")]
    Calling,
    /// The switch cannot be told so.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// What is to be done with a live channel; see [`crate::ChannelInput::Control`].
#[derive(Debug, Clone, PartialEq)]
pub enum Control {
    /// [`Channel::hold`].
    Hold,
    /// [`Channel::resume`].
    Resume,
    /// [`Channel::park`].
    Park,
    /// [`Channel::valet_park`]. The value of the reply is the slot, where the switch tells it.
    ValetPark {
        /// The parking lot.
        lot: Word,
        /// Where in it.
        slot: ValetSlot,
    },
    /// [`Channel::send_digits`].
    SendDigits {
        /// The digits.
        digits: Digits,
        /// The length of each.
        duration: Option<Duration>,
    },
    /// [`Channel::play`].
    Play(Playable),
    /// [`Channel::stop_playing`].
    StopPlaying,
    /// [`Channel::mute`].
    Mute(Direction),
    /// [`Channel::unmute`].
    Unmute,
    /// [`Channel::end_mute`].
    EndMute(Direction),
    /// [`Channel::record`].
    Record {
        /// Where to, on the switch.
        path: MediaPath,
        /// At most for so long.
        limit: Option<Duration>,
    },
    /// [`Channel::change_recording`].
    ChangeRecording(RecordAction),
    /// [`Channel::set_variable`].
    SetVariable {
        /// Its name.
        name: VariableName,
        /// Its value.
        value: VariableValue,
    },
    /// [`Channel::get_variable`]. The value of the reply is the variable's.
    GetVariable(VariableName),
    /// [`Channel::join_conference`].
    JoinConference {
        /// The conference.
        conference: Word,
        /// Its profile.
        profile: Word,
    },
    /// [`Channel::three_way`].
    ThreeWay {
        /// The conference that is made for it.
        conference: Word,
        /// Its profile.
        profile: Word,
        /// Who is called.
        third: DialString,
        /// How long they may ring.
        timeout: Duration,
    },
    /// [`Channel::eavesdrop`].
    Eavesdrop(ListenerCall),
    /// [`SwitchCommand::GatewayStatus`], which needs no live call. The value of the reply is the switch's text.
    GatewayStatus(Word),
}

/// Why a [`Control`] was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlFailure {
    /// It makes no sense now.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The switch did not do it.
    #[error(transparent)]
    Switch(#[from] SwitchError),
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
    /// People who are called, or have answered and wait for the caller.
    pub(super) guests: Vec<Leg>,
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

    /// We did not send the channel to `app` after all.
    fn unexpect(&mut self, app: &str) {
        if let Some(index) = self.expected.iter().rposition(|expected| *expected == app) {
            self.expected.remove(index);
        }
    }

    fn expect(&mut self, app: &'static str) {
        if self.expected.len() == MOST_EXPECTED {
            self.expected.remove(0);
        }
        self.expected.push(app);
    }
}

impl Channel {
    /// The orders that carry `control` out. They are given one after the other: what came of each goes into
    /// [`Channel::control_came_out`], which says whether the next one is given.
    pub fn control(&mut self, control: Control) -> Result<Vec<SwitchCommand>, ControlError> {
        let order = match control {
            Control::Hold => self.hold(),
            Control::Resume => self.resume(),
            Control::Park => self.park(),
            Control::ValetPark { lot, slot } => self.valet_park(lot, slot),
            Control::SendDigits { digits, duration } => self.send_digits(digits, duration),
            Control::Play(what) => self.play(what),
            Control::StopPlaying => self.stop_playing(),
            Control::Mute(direction) => self.mute(direction),
            Control::Unmute => self.unmute(),
            Control::EndMute(direction) => self.end_mute(direction),
            Control::Record { path, limit } => self.record(path, limit),
            Control::ChangeRecording(action) => self.change_recording(action),
            Control::SetVariable { name, value } => self.set_variable(name, value),
            Control::GetVariable(name) => self.get_variable(name),
            Control::JoinConference { conference, profile } => {
                return self.join_conference(&conference, &profile).map(Vec::from);
            }
            Control::ThreeWay { conference, profile, third, timeout } => {
                return self.three_way(&conference, &profile, third, timeout).map(Vec::from);
            }
            Control::Eavesdrop(listener) => self.eavesdrop(listener),
            Control::GatewayStatus(gateway) => Ok(SwitchCommand::GatewayStatus { gateway }),
        };
        Ok(vec![order?])
    }

    /// What came of `order`, which [`Channel::control`] or a method beside it gave. With an error nothing more is
    /// ordered.
    pub fn control_came_out(
        &mut self,
        now: Instant,
        order: &SwitchCommand,
        result: &Result<Reply, SwitchError>,
    ) -> Result<(), ControlFailure> {
        match order {
            SwitchCommand::Originate(call) => self.guest_called(now, &call.uuid, result, true),
            SwitchCommand::Eavesdrop(call) => {
                self.guest_called(now, &call.listener.uuid, result, false);
            }
            SwitchCommand::TransferInline { .. } if result.is_ok() => {
                // They are together in the conference, which ends for both when one leaves.
                self.controls.guests.retain(|guest| guest.answered.is_none());
            }
            // What may have been done yet is still expected.
            _ if matches!(result, Err(SwitchError::TimedOut | SwitchError::Unknown)) => {}
            _ if result.is_ok() => {}
            SwitchCommand::Record { action: RecordAction::Start { .. }, path, .. } => {
                self.controls.record_stopped(path.as_str());
            }
            SwitchCommand::Park { .. } => self.controls.unexpect("park"),
            SwitchCommand::ValetPark { .. } => self.controls.unexpect("valet_park"),
            SwitchCommand::TransferInline { .. } => self.controls.unexpect("conference"),
            _ => {}
        }
        let goes_on = match result {
            Ok(_) => self.controllable().map(drop).map_err(ControlFailure::from),
            Err(error) => Err(error.clone().into()),
        };
        if goes_on.is_err()
            && let SwitchCommand::Originate(_)
            | SwitchCommand::SetVariables { .. }
            | SwitchCommand::TransferInline { .. } = order
        {
            self.end_guests(now, |guest| guest.answered.is_some()); // The caller does not come.
        }
        goes_on
    }

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
    pub fn valet_park(
        &mut self,
        lot: Word,
        slot: ValetSlot,
    ) -> Result<SwitchCommand, ControlError> {
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

    /// Plays something to the caller, beside what the agent says.
    pub fn play(&self, what: Playable) -> Result<SwitchCommand, ControlError> {
        let uuid = self.controllable()?;
        Ok(SwitchCommand::Broadcast { uuid, what, leg: BroadcastLeg::Own })
    }

    /// Stops what is played and forgets what waits behind it, also the agent's words where the fork plays files.
    pub fn stop_playing(&self) -> Result<SwitchCommand, ControlError> {
        Ok(SwitchCommand::Break { uuid: self.controllable()?, all: true })
    }

    /// Sets a variable of the channel; an empty value unsets it.
    pub fn set_variable(
        &self,
        name: VariableName,
        value: VariableValue,
    ) -> Result<SwitchCommand, ControlError> {
        let uuid = self.controllable()?;
        Ok(SwitchCommand::SetVariables { uuid, variables: vec![(name, value)] })
    }

    /// Reads a variable of the channel.
    pub fn get_variable(&self, name: VariableName) -> Result<SwitchCommand, ControlError> {
        Ok(SwitchCommand::GetVariable { uuid: self.controllable()?, name })
    }

    /// Silences the caller for us, or us for the caller.
    pub fn mute(&self, direction: Direction) -> Result<SwitchCommand, ControlError> {
        Ok(SwitchCommand::Mute { uuid: self.controllable()?, direction, on: true })
    }

    /// Takes every silencing back.
    pub fn unmute(&self) -> Result<SwitchCommand, ControlError> {
        Ok(SwitchCommand::Unmute { uuid: self.controllable()? })
    }

    /// Takes one silencing back; the other direction stays as it is.
    pub fn end_mute(&self, direction: Direction) -> Result<SwitchCommand, ControlError> {
        Ok(SwitchCommand::Mute { uuid: self.controllable()?, direction, on: false })
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
    pub fn change_recording(
        &mut self,
        action: RecordAction,
    ) -> Result<SwitchCommand, ControlError> {
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

    /// Rings somebody who then listens in on the call, whispers or joins. They hear the caller, and what the caller
    /// hears: with jambonz' module the agent too.
    pub fn eavesdrop(&mut self, listener: ListenerCall) -> Result<SwitchCommand, ControlError> {
        let uuid = self.controllable()?;
        let ListenerCall { dial, timeout, mode } = listener;
        let listener = self.call_guest(dial, timeout)?;
        Ok(SwitchCommand::Eavesdrop(Box::new(Eavesdrop { uuid, listener, mode })))
    }

    /// Takes the caller into a conference, and back to us when it ends. The fork goes on and carries the caller alone
    /// (mono) or the whole room (mixed); the room does not hear the agent.
    pub fn join_conference(
        &mut self,
        conference: &Word,
        profile: &Word,
    ) -> Result<[SwitchCommand; 2], ControlError> {
        let uuid = self.controllable()?;
        let room = Application::new("conference", &format!("{conference}@{profile}"))?;
        let actions = vec![room, Application::new("park", "")?];
        let stays = (VariableName::new("hangup_after_conference")?, VariableValue::new("false")?);
        self.controls.expect("conference");
        Ok([
            SwitchCommand::SetVariables { uuid: uuid.clone(), variables: vec![stays] },
            SwitchCommand::TransferInline { uuid, leg: TransferLeg::Own, actions },
        ])
    }

    /// Rings a third party, then takes the caller into a conference with it. When one of the two leaves, the conference
    /// ends: the third party is hung up, the caller comes back to us.
    pub fn three_way(
        &mut self,
        conference: &Word,
        profile: &Word,
        third: DialString,
        timeout: Duration,
    ) -> Result<[SwitchCommand; 3], ControlError> {
        self.controllable()?;
        let room = format!("{conference}@{profile}+flags{{mintwo}}");
        let room = Application::new("conference", &room)?;
        let mut call = self.call_guest(third, timeout)?;
        call.connect = Connect::Application(room);
        let [stays, join] = self.join_conference(conference, profile)?;
        Ok([SwitchCommand::Originate(Box::new(call)), stays, join])
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
