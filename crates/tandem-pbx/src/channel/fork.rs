//! Keeps the channel's audio flowing to us: starts the fork, and starts it again when it breaks.

use std::time::{Duration, Instant};

use tandem_call::{HangupCause, SignalEvent};
use tandem_media::SampleRate;

use super::{Channel, ChannelNote, ChannelOrder, Purpose, after};
use crate::{
    ForkEvent, ForkModule, ForkName, ForkStart, ForkUrl, Metadata, Mix, Reply, SwitchCommand,
    SwitchError, TransferLeg, VariableName, VariableValue, Word,
};

/// A fork that was accepted is connected within this; the handshake takes a few ms, and a module may fail silently.
const CONNECTS_WITHIN: Duration = Duration::from_secs(5);

/// How long to wait before each attempt in a row.
const WAITS: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// Our end of the websocket closes some ms before the switch says that the channel was hung up; only a channel that is
/// still there after this has lost its fork.
const HANG_UP_FOLLOWS: Duration = Duration::from_millis(250);

/// Audio that comes yet proves within this that the fork of which a loss was told is not ours.
const DOUBT: Duration = Duration::from_millis(700);

/// A fork that lived so long was sound: its failure is the first in a row.
const SOUND_AFTER: Duration = Duration::from_secs(10);

/// Stopping a fork that must not go on is tried again after this.
const STOPS_AGAIN: Duration = Duration::from_secs(1);

/// The fork to start when the call is answered.
#[derive(Debug, Clone, PartialEq)]
pub struct ForkPlan {
    /// The module that forks.
    pub module: ForkModule,
    /// The fork's name, where several may be on a channel.
    pub bug: Option<Word>,
    /// Where the audio goes.
    pub url: ForkUrl,
    /// Which audio.
    pub mix: Mix,
    /// Rate of the audio sent.
    pub rate: SampleRate,
    /// The first text on the websocket.
    pub metadata: Option<Metadata>,
    /// Rate of the raw audio played back, where the module can.
    pub back: Option<SampleRate>,
    /// Channel variables the module reads when it starts: credentials, `STREAM_PLAYBACK` and the like.
    pub variables: Vec<(VariableName, VariableValue)>,
}

/// Who starts the fork.
#[derive(Debug, Clone, PartialEq)]
pub enum ForkSource {
    /// We do, as soon as the call is answered, and again whenever it breaks.
    Ours(Box<ForkPlan>),
    /// The dialplan did. We know how to stop it, not how to start it.
    Dialplan {
        /// The module that forks.
        module: ForkModule,
        /// The fork's name.
        bug: Option<Word>,
    },
}

impl ForkSource {
    fn module(&self) -> ForkModule {
        match self {
            Self::Ours(plan) => plan.module,
            Self::Dialplan { module, .. } => *module,
        }
    }

    /// Whether the module is known to play by itself what we send.
    fn plays(&self) -> bool {
        matches!(self, Self::Ours(plan) if plan.back.is_some())
    }

    fn bug(&self) -> Option<&Word> {
        match self {
            Self::Ours(plan) => plan.bug.as_ref(),
            Self::Dialplan { bug, .. } => bug.as_ref(),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Not wanted yet.
    #[default]
    Off,
    /// Started; it is heard of by then.
    Starting { until: Option<Instant> },
    /// Audio flows.
    On { since: Instant },
    /// Our end of the websocket was lost; by then it is known whether that was the end of the call.
    Lost { since: Instant, until: Instant },
    /// Some fork of the channel was lost, though our end of the websocket stands; by then it is known whether it was
    /// ours.
    Doubted { since: Instant, until: Instant },
    /// Broken; started again then.
    Waiting { until: Instant },
    /// Nobody knows; started again when the event socket is up and the caller is ours.
    Unsure,
    /// Not wanted any more.
    Stopped,
    /// Not wanted any more, but not known to be stopped.
    Stopping { again: Option<Instant> },
}

/// Whether a caller whose audio cannot be had was sent elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Fallback {
    #[default]
    Untried,
    Ordered,
    /// The order came to nothing, or nobody knows.
    Wanted,
}

/// What we know of the fork.
#[derive(Debug, Default)]
pub(super) struct Fork {
    state: State,
    /// Our end of the websocket is known to be open.
    attached: bool,
    failures: u32,
    fallback: Fallback,
}

impl Fork {
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Starting { until } => until,
            State::Waiting { until } | State::Lost { until, .. } | State::Doubted { until, .. } => {
                Some(until)
            }
            State::Stopping { again } => again,
            State::Off | State::On { .. } | State::Unsure | State::Stopped => None,
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        matches!(self.state, State::Stopping { .. })
    }

    pub(super) fn forget(&mut self) {
        self.state = State::Stopped;
    }
}

impl Channel {
    /// What the module and the channel need before a fork starts.
    pub(super) fn prepare_fork(&mut self) {
        // Return audio is heard only while the channel writes.
        let mut variables = vec![variable("send_silence_when_idle", "-1")];
        if let ForkSource::Ours(plan) = &self.settings.fork {
            if plan.module == ForkModule::AudioStream {
                // Unset, the module reads memory nobody wrote: compression and pings by chance.
                for (name, value) in
                    [("STREAM_MESSAGE_DEFLATE", "true"), ("STREAM_HEART_BEAT", "20")]
                {
                    if plan.variables.iter().all(|(own, _)| own.as_str() != name) {
                        variables.push(variable(name, value));
                    }
                }
            }
            let room = SwitchCommand::MAX_VARIABLES - variables.len();
            variables.extend(plan.variables.iter().take(room).cloned());
        }
        let uuid = self.settings.uuid.clone();
        let command = SwitchCommand::SetVariables { uuid, variables };
        self.out.order(command, Purpose::Nothing("uuid_setvar_multi"));
    }

    /// Starts the fork, or takes note of the one the dialplan started.
    pub(super) fn start_fork(&mut self, now: Instant) {
        let ForkSource::Ours(plan) = &self.settings.fork else {
            self.fork.state = State::On { since: now };
            return;
        };
        if !self.link_up {
            self.fork.state = State::Unsure;
            return;
        }
        let start = ForkStart {
            fork: self.fork_name(),
            url: plan.url.clone(),
            mix: plan.mix,
            rate: plan.rate,
            metadata: plan.metadata.clone(),
            back: plan.back,
        };
        self.fork.state = State::Starting { until: None };
        self.out.order(SwitchCommand::ForkStart(Box::new(start)), Purpose::ForkStart);
    }

    /// The switch took the order to start, or not.
    pub(super) fn fork_started(&mut self, now: Instant, result: Result<(), SwitchError>) {
        if !matches!(self.fork.state, State::Starting { .. }) {
            return; // It is connected already, or not wanted any more.
        }
        match result {
            Ok(()) => {
                self.fork.state = State::Starting { until: Some(after(now, CONNECTS_WITHIN)) };
            }
            Err(error) if error.is_no_such_channel() => self.found_gone(now),
            Err(SwitchError::Refused { reason }) => {
                self.ask_whether_it_exists();
                self.fork_failed(now, &reason);
            }
            Err(error @ (SwitchError::Busy | SwitchError::Command(_))) => {
                self.fork_failed(now, &error.to_string());
            }
            Err(
                SwitchError::Down
                | SwitchError::TimedOut
                | SwitchError::Unknown
                | SwitchError::Stopped,
            ) => self.fork.state = State::Unsure,
        }
    }

    /// A module reports.
    pub(super) fn handle_fork(
        &mut self,
        now: Instant,
        module: ForkModule,
        bug: Option<&str>,
        event: &ForkEvent,
    ) {
        let stream = |module| module == ForkModule::AudioStream;
        if stream(module) != stream(self.settings.fork.module()) {
            return;
        }
        let ours = self.settings.fork.bug().map(Word::as_str);
        if let Some(bug) = bug
            && bug != ours.unwrap_or(self.settings.fork.module().default_bug())
        {
            return;
        }
        match event {
            ForkEvent::Connected => self.fork_connected(now),
            ForkEvent::Failed { reason, .. } => self.fork_broken(now, bug, reason),
            ForkEvent::Disconnected { code, reason } => {
                let why = match code {
                    Some(code) => format!("the websocket was closed: {code} {reason}"),
                    None => "the websocket was closed".to_owned(),
                };
                self.fork_broken(now, bug, why.trim_end());
            }
            ForkEvent::Overrun => self.out.note(ChannelNote::ForkOverrun),
            // Our module plays by itself: another's files are none of our business.
            ForkEvent::PlayFile { .. } if self.settings.fork.plays() => {}
            ForkEvent::PlayFile { file, id, .. } => {
                self.play_file(now, id.as_deref(), file.as_ref());
            }
            ForkEvent::KillAudio | ForkEvent::Text { .. } => {}
        }
    }

    /// Our end of the websocket opened or was lost: known before the module says so, and also while nobody hears it.
    pub(super) fn media_changed(&mut self, now: Instant, attached: bool) {
        self.fork.attached = attached;
        match self.fork.state {
            State::Doubted { since, .. } if attached => self.fork.state = State::On { since },
            State::Doubted { .. } => self.fork_failed(now, "the websocket was closed"),
            State::On { since } if !attached => {
                self.fork.state = State::Lost { since, until: after(now, HANG_UP_FOLLOWS) };
            }
            _ if attached => self.fork_connected(now),
            _ => {}
        }
    }

    fn fork_connected(&mut self, now: Instant) {
        if matches!(self.fork.state, State::Starting { .. } | State::Lost { .. } | State::Unsure) {
            self.fork.state = State::On { since: now };
        }
    }

    fn fork_broken(&mut self, now: Instant, bug: Option<&str>, why: &str) {
        // Without a name it may be anybody's fork; ours may also be lost before we notice.
        if let State::On { since } = self.fork.state
            && self.fork.attached
            && bug.is_none()
        {
            self.fork.state = State::Doubted { since, until: after(now, DOUBT) };
            self.out.push(ChannelOrder::ProbeMedia);
            return;
        }
        if matches!(self.fork.state, State::Starting { .. } | State::On { .. } | State::Lost { .. })
        {
            self.fork_failed(now, why);
        }
    }

    fn fork_failed(&mut self, now: Instant, why: &str) {
        if !self.is_talking() || self.is_handing_over() {
            self.fork.state = State::Unsure; // Started again if the caller comes back.
            return;
        }
        if !self.link_up {
            self.fork.state = State::Unsure;
            return;
        }
        self.fork.attached = false;
        if let State::On { since } | State::Lost { since, .. } | State::Doubted { since, .. } =
            self.fork.state
            && now.saturating_duration_since(since) >= SOUND_AFTER
        {
            self.fork.failures = 0;
        }
        let wait = WAITS.get(self.fork.failures as usize);
        let (ForkSource::Ours(_), Some(wait)) = (&self.settings.fork, wait) else {
            return self.give_fork_up(now, why);
        };
        self.fork.failures += 1;
        self.out.note(ChannelNote::ForkFailed {
            why: why.to_owned(),
            attempt: self.fork.failures,
            wait: *wait,
        });
        // The broken one stays attached under its name; where it does not, the refusal is of no account.
        self.order_fork_stop(Purpose::ForkStop);
        self.fork.state = State::Waiting { until: after(now, *wait) };
    }

    /// A caller who can hear nothing is better with somebody else, or told so by a hang-up.
    fn give_fork_up(&mut self, now: Instant, why: &str) {
        self.out.note(ChannelNote::ForkGivenUp { why: why.to_owned() });
        self.stop_fork();
        match &self.settings.fallback {
            Some(_) if self.fork.fallback == Fallback::Untried => {
                self.abort_transfer(now, "the call's audio is gone");
                self.order_fallback();
            }
            Some(_) | None => self.hang_up(now, HangupCause::NormalTemporaryFailure),
        }
    }

    fn order_fallback(&mut self) {
        if let Some(to) = self.settings.fallback.clone() {
            self.fork.fallback = Fallback::Ordered;
            let uuid = self.settings.uuid.clone();
            let command = SwitchCommand::Transfer { uuid, leg: TransferLeg::Own, to };
            self.out.order(command, Purpose::Fallback);
        }
    }

    /// The caller is on its way to the fallback extension.
    pub(super) fn is_falling_back(&self) -> bool {
        self.fork.fallback != Fallback::Untried
    }

    /// The fallback extension has the caller, or not.
    pub(super) fn fallen_back(&mut self, now: Instant, result: &Result<Reply, SwitchError>) {
        if !self.is_talking() {
            return;
        }
        match result {
            Ok(_) => {
                self.tell(SignalEvent::TakenOver);
                self.leave(now);
            }
            // Once more when the event socket is up again; to be sent there twice does no harm.
            Err(SwitchError::Down | SwitchError::TimedOut | SwitchError::Unknown) => {
                self.fork.fallback = Fallback::Wanted;
            }
            Err(_) => self.hang_up(now, HangupCause::NormalTemporaryFailure),
        }
    }

    /// The fork must not go on: the caller is somebody else's.
    pub(super) fn stop_fork(&mut self) {
        if matches!(self.fork.state, State::Off | State::Stopped | State::Stopping { .. }) {
            return;
        }
        self.order_fork_stop(Purpose::ForkStop);
        self.fork.state = State::Stopping { again: None };
    }

    /// Whether it is stopped.
    pub(super) fn fork_stopped(&mut self, now: Instant, result: &Result<Reply, SwitchError>) {
        if let State::Stopping { .. } = self.fork.state {
            self.fork.state = match result {
                // Refused: there is none, or no channel.
                Ok(_) | Err(SwitchError::Refused { .. } | SwitchError::Command(_)) => {
                    State::Stopped
                }
                Err(_) => State::Stopping { again: Some(after(now, STOPS_AGAIN)) },
            };
        }
    }

    /// The event socket is up again, or the caller came back: a fork of which nothing is known is made anew.
    pub(super) fn renew_fork(&mut self, now: Instant) {
        if self.fork.fallback == Fallback::Wanted && self.is_talking() && self.link_up {
            self.order_fallback();
        }
        match self.fork.state {
            State::Unsure if self.is_talking() && !self.is_handing_over() => {
                if matches!(self.settings.fork, ForkSource::Ours(_)) {
                    self.order_fork_stop(Purpose::ForkStop);
                    self.start_fork(now);
                } else {
                    self.give_fork_up(now, "the websocket was closed");
                }
            }
            State::Stopping { again: Some(_) } if self.link_up => {
                self.fork.state = State::Stopping { again: None };
                self.order_fork_stop(Purpose::ForkStop);
            }
            _ => {}
        }
    }

    /// Does what the fork waits for.
    pub(super) fn check_fork(&mut self, now: Instant) {
        if self.fork.due().is_none_or(|due| due > now) {
            return;
        }
        match self.fork.state {
            State::Starting { .. } => {
                self.fork_failed(now, "the module did not say that it connected");
            }
            State::Lost { .. } => self.fork_failed(now, "our end of the websocket was lost"),
            // Nobody hears a caller who is on hold: the switch sends nothing meanwhile.
            State::Doubted { since, .. } if self.held => self.fork.state = State::On { since },
            State::Doubted { .. } => self.fork_failed(now, "the websocket was closed"),
            State::Waiting { .. } if self.is_handing_over() => self.fork.state = State::Unsure,
            State::Waiting { .. } => self.start_fork(now),
            State::Stopping { .. } => {
                self.fork.state = State::Stopping { again: None };
                self.order_fork_stop(Purpose::ForkStop);
            }
            State::Off | State::On { .. } | State::Unsure | State::Stopped => {}
        }
    }

    fn order_fork_stop(&mut self, purpose: Purpose) {
        let command = SwitchCommand::ForkStop { fork: self.fork_name(), text: None };
        self.out.order(command, purpose);
    }

    fn fork_name(&self) -> ForkName {
        ForkName {
            uuid: self.settings.uuid.clone(),
            module: self.settings.fork.module(),
            bug: self.settings.fork.bug().cloned(),
        }
    }
}

fn variable(name: &str, value: &str) -> (VariableName, VariableValue) {
    (
        VariableName::new(name).expect("a plain name"),
        VariableValue::new(value).expect("a plain value"),
    )
}
