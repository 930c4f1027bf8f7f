//! What is asked when a connection was made: who we are, what the switch is, what we want to hear, who is alive.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Link, LinkEvent, Phase, REFUSED_RETRY, Role, START_TIMEOUT};
use crate::{ChannelUuid, ForkModule, Reply, SwitchCommand, command::Word, esl::Frame};

/// Events heard. CUSTOM comes last: every word behind it is a subclass.
const EVENTS: &str = "CHANNEL_CREATE CHANNEL_PROGRESS CHANNEL_PROGRESS_MEDIA CHANNEL_ANSWER CHANNEL_BRIDGE \
     CHANNEL_UNBRIDGE CHANNEL_HOLD CHANNEL_UNHOLD CHANNEL_PARK CHANNEL_UNPARK CHANNEL_EXECUTE \
     CHANNEL_EXECUTE_COMPLETE CHANNEL_HANGUP CHANNEL_HANGUP_COMPLETE CHANNEL_DESTROY DTMF PLAYBACK_START \
     PLAYBACK_STOP RECORD_START RECORD_STOP BACKGROUND_JOB CUSTOM mod_audio_fork::connect \
     mod_audio_fork::connect_failed mod_audio_fork::disconnect mod_audio_fork::buffer_overrun \
     mod_audio_fork::play_audio mod_audio_fork::kill_audio mod_audio_fork::transcription \
     mod_audio_fork::transfer mod_audio_fork::error mod_audio_fork::json mod_audio_stream::connect \
     mod_audio_stream::disconnect mod_audio_stream::error mod_audio_stream::play mod_audio_stream::json \
     valet_parking::info conference::maintenance";

/// How long an outbound socket lives on after its channel, for the last events.
const LINGER: Duration = Duration::from_secs(10);

/// A question or an order of the link's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Login,
    Version,
    Module(ForkModule),
    Subscribe,
    Channels,
    Exists(ChannelUuid),
    /// Asked of a connection that is too quiet.
    Probe,
    /// Of an outbound socket: whose channel is it?
    Connect,
    Linger,
    /// Hear this channel; the first one of an outbound socket decides whether filters can be had.
    Filter {
        uuid: ChannelUuid,
        first: bool,
    },
    FilterDelete(ChannelUuid),
    FilterJobs(ChannelUuid),
    MyEvents,
    Exit,
}

impl Step {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let line = match self {
            Self::Login => String::new(),
            Self::Version | Self::Probe => format!("api {}", SwitchCommand::Version.line()),
            Self::Module(module) => {
                let module = Word::new(module.module()).expect("a module's name is a plain word");
                format!("api {}", SwitchCommand::ModuleExists { module }.line())
            }
            Self::Subscribe => format!("event json {EVENTS}"),
            Self::Channels => format!("api {}", SwitchCommand::ShowChannels.line()),
            Self::Exists(uuid) => {
                format!("api {}", SwitchCommand::Exists { uuid: uuid.clone() }.line())
            }
            Self::Connect => "connect".to_owned(),
            Self::Linger => format!("linger {}", LINGER.as_secs()),
            Self::Filter { uuid, .. } => format!("filter Unique-ID {uuid}"),
            Self::FilterDelete(uuid) => format!("filter delete Unique-ID {uuid}"),
            Self::FilterJobs(uuid) => format!("filter Job-Owner-UUID {uuid}"),
            Self::MyEvents => "myevents json".to_owned(),
            Self::Exit => "exit".to_owned(),
        };
        format!("{line}\n\n").into_bytes()
    }
}

/// The channels there are, as far as known while they are asked for.
#[derive(Debug, Default)]
pub(super) struct Listing {
    alive: HashSet<ChannelUuid>,
    /// Watched ones, asked for by name.
    asked: HashSet<ChannelUuid>,
    open: usize,
}

impl Link {
    pub(super) fn is_outbound(&self) -> bool {
        matches!(self.role, Role::Outbound)
    }

    /// The switch wants to know who we are.
    pub(super) fn handle_greeting(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Greeting { .. }) && !self.is_outbound() {
            self.phase = Phase::Starting { until: now + START_TIMEOUT };
            self.ask(now, Step::Login);
        }
    }

    /// The switch has connected to us and waits to be asked.
    pub(super) fn ask_whom(&mut self, now: Instant) {
        self.ask(now, Step::Connect);
        self.pump(now);
    }

    pub(super) fn handle_step(&mut self, now: Instant, step: Step, frame: &Frame, text: String) {
        let good = text.starts_with("+OK");
        match step {
            Step::Login if good => {
                self.ask(now, Step::Version);
                self.ask(now, Step::Module(ForkModule::AudioFork));
                self.ask(now, Step::Module(ForkModule::AudioStream));
                self.ask(now, Step::Subscribe);
                self.ask(now, Step::Channels);
            }
            Step::Login => {
                self.close(now, "wrong user or password for the event socket", Some(REFUSED_RETRY));
            }
            Step::Version => {
                self.facts.version =
                    text.lines().next().unwrap_or_default().chars().take(128).collect();
            }
            Step::Module(ForkModule::AudioStream) => {
                self.facts.audio_stream = Reply::new(text).flag();
            }
            Step::Module(_) => self.facts.audio_fork = Reply::new(text).flag(),
            Step::Subscribe if good => {
                if self.is_outbound() {
                    self.came_up(now);
                }
            }
            Step::Subscribe => {
                let reason = format!("the switch refuses its events: {}", text.trim());
                self.close(now, &reason, Some(REFUSED_RETRY));
            }
            Step::Channels => self.handle_channels(now, frame, &Reply::new(text)),
            Step::Exists(uuid) => {
                if Reply::new(text).flag() {
                    self.listing.alive.insert(uuid);
                }
                self.listing.open -= 1;
                self.ask_by_name(now);
            }
            Step::Connect => self.handle_channel_data(now, frame),
            Step::Filter { uuid, first: true } => {
                self.filters = good;
                self.ask(now, if good { Step::FilterJobs(uuid) } else { Step::MyEvents });
                self.ask(now, Step::Subscribe);
            }
            Step::Exit => {
                self.actions.push_back(super::LinkAction::Close);
                self.lost(now, "released", None);
            }
            Step::Probe
            | Step::Linger
            | Step::MyEvents
            | Step::Filter { .. }
            | Step::FilterDelete(_)
            | Step::FilterJobs(_) => {}
        }
    }

    /// The list is written with a delay: a channel may be missing that is there, and one be in it that is gone. It
    /// may be switched off, or too long to be read. It does for channels that nobody watches; the others are asked
    /// for by name.
    fn handle_channels(&mut self, now: Instant, frame: &Frame, reply: &Reply) {
        let rows = if frame.skipped { Vec::new() } else { reply.channels().unwrap_or_default() };
        let listed = rows.iter().filter_map(|row| ChannelUuid::new(&row.uuid).ok());
        self.listing.alive = listed.filter(|uuid| !self.watched.contains(uuid)).collect();
        self.ask_by_name(now);
    }

    fn ask_by_name(&mut self, now: Instant) {
        let asked = &self.listing.asked;
        let open: Vec<ChannelUuid> = self.watched.difference(asked).cloned().collect();
        for uuid in open {
            // Watched since the list came: the answer counts, not the list.
            self.listing.alive.remove(&uuid);
            self.listing.asked.insert(uuid.clone());
            self.listing.open += 1;
            self.ask(now, Step::Exists(uuid));
        }
        if self.listing.open == 0 {
            let Listing { alive, .. } = std::mem::take(&mut self.listing);
            self.events.push_back(LinkEvent::Reconciled { alive });
            self.came_up(now);
        } else if let Phase::Starting { until } = &mut self.phase {
            // Each of many has its own limit on the wire.
            *until = (*until).max(now + START_TIMEOUT);
        }
    }

    /// The answer to `connect`: the channel.
    fn handle_channel_data(&mut self, now: Instant, frame: &Frame) {
        let headers = frame.channel_headers();
        let uuid = headers.get("Unique-ID").or(headers.get("Channel-Unique-ID"));
        let Some(uuid) = uuid.and_then(|uuid| ChannelUuid::new(uuid).ok()) else {
            self.close(now, "what connected is no channel of a switch", None);
            return;
        };
        if headers.get("Control") != Some("full") || headers.get("Socket-Mode") != Some("async") {
            self.close(now, "the dialplan's socket action lacks \"async full\"", None);
            return;
        }
        self.phase = Phase::Starting { until: now + START_TIMEOUT };
        self.watched.insert(uuid.clone());
        self.ask(now, Step::Linger);
        self.ask(now, Step::Filter { uuid, first: true });
        self.events.push_back(LinkEvent::Accepted(Arc::new(headers)));
    }

    /// Gives the channel back to the dialplan and closes, after all that waits. A link that we made is stopped.
    pub(crate) fn release(&mut self, now: Instant) {
        if self.phase == Phase::Up && self.is_outbound() && !self.releasing {
            self.say_last(now, Step::Exit);
            self.releasing = true;
            self.pump(now);
        } else if !self.releasing {
            self.stop();
        }
    }
}
