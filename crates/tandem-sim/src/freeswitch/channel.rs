//! One channel: where it is in its life, what it runs, who it is.

use std::{borrow::Cow, collections::VecDeque, time::Instant};

use super::{
    audio::{Sound, Voice},
    event::SwitchEvent,
    heard::Recorder,
    settings::LegAct,
};

/// Most sound of another channel that waits to be written, in frames.
const MOST_INBOX_FRAMES: usize = 10;

/// Has a channel been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Not yet.
    Ringing,
    /// Not yet, but media flows.
    Early,
    /// Yes.
    Answered,
    /// It is over.
    HungUp,
}

impl Answer {
    /// The word of `Answer-State`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ringing => "ringing",
            Self::Early => "early",
            Self::Answered => "answered",
            Self::HungUp => "hangup",
        }
    }
}

/// `Channel-State`, of those that are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Init,
    Routing,
    SoftExecute,
    Execute,
    ExchangeMedia,
    Park,
    ConsumeMedia,
    Hangup,
    Reporting,
}

impl State {
    pub(crate) fn word_and_number(self) -> (&'static str, u8) {
        match self {
            Self::Init => ("CS_INIT", 2),
            Self::Routing => ("CS_ROUTING", 2),
            Self::SoftExecute => ("CS_SOFT_EXECUTE", 3),
            Self::Execute => ("CS_EXECUTE", 4),
            Self::ExchangeMedia => ("CS_EXCHANGE_MEDIA", 5),
            Self::Park => ("CS_PARK", 6),
            Self::ConsumeMedia => ("CS_CONSUME_MEDIA", 7),
            Self::Hangup => ("CS_HANGUP", 10),
            Self::Reporting => ("CS_REPORTING", 11),
        }
    }
}

/// An application that runs on a channel.
#[derive(Debug)]
pub(crate) struct Running {
    /// Empty where the state of the channel runs it, not the dialplan: then nobody is told that it ran.
    pub(crate) app: String,
    pub(crate) data: String,
    pub(crate) uuid: String,
    pub(crate) kind: Kind,
    /// Silence is written where nothing plays: decided once, when media flows for the first time in this application.
    pub(crate) writes_silence: Option<bool>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// With the time it ends at and the cause then.
    Park(Option<(Instant, String)>),
    /// A socket to a client, and its session.
    Socket(u64),
    Play {
        path: String,
        sound: Sound,
        position: usize,
    },
    Sleep(Instant),
    /// Joined to the peer; `leads` is the one whose events tell of it.
    Bridge {
        leads: bool,
    },
    /// Calls the leg of that originate and waits for it.
    Dial(u64),
    Conference {
        name: String,
        member: u32,
    },
    Valet {
        lot: String,
        slot: String,
    },
    Echo,
    /// Listens to that channel.
    Eavesdrop(String),
    /// Runs until it is taken out: a queue, a menu, a mailbox.
    Forever,
}

/// An application that waits until the channel polls for it.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) app: String,
    pub(crate) data: String,
    pub(crate) uuid: Option<String>,
    /// Not before then: frames that are read first.
    pub(crate) not_before: Option<Instant>,
    /// Waits for the end of what plays.
    pub(crate) locked: bool,
    /// Made by `uuid_broadcast`: a break of all throws it away.
    pub(crate) broadcast: bool,
}

/// Where a channel goes at its next tick, out of all that it runs.
#[derive(Debug)]
pub(crate) enum Reroute {
    Plan {
        destination: String,
        dialplan: String,
        context: String,
        actions: Option<Vec<(String, String)>>,
    },
    Park,
    Bridge {
        peer: String,
        leads: bool,
    },
}

/// A step of a leg that is called.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Ring,
    Early,
    Answer,
    Fail(String),
    Act(LegAct),
}

#[derive(Debug)]
pub(crate) struct Bug {
    pub(crate) function: &'static str,
    pub(crate) target: String,
}

/// Moments of a channel in microseconds since the epoch, 0 = never.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    pub(crate) created: u64,
    pub(crate) answered: u64,
    pub(crate) progress: u64,
    pub(crate) progress_media: u64,
    pub(crate) hung_up: u64,
    pub(crate) transferred: u64,
    pub(crate) bridged: u64,
    pub(crate) last_hold: u64,
}

#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) inbound: bool,
    pub(crate) caller_number: String,
    pub(crate) caller_name: String,
    pub(crate) callee_number: String,
    pub(crate) destination: String,
    pub(crate) dialplan: String,
    pub(crate) context: String,
    pub(crate) call_uuid: String,
    pub(crate) codec: (&'static str, u32),
    pub(crate) state: State,
    pub(crate) call_state: &'static str,
    pub(crate) answer: Answer,
    pub(crate) hit_dialplan: bool,
    pub(crate) cause: Option<String>,
    pub(crate) times: Times,
    pub(crate) serial: u64,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) plan: VecDeque<(String, String)>,
    pub(crate) stack: Vec<Running>,
    pub(crate) queue: VecDeque<Queued>,
    pub(crate) reroute: Option<Reroute>,
    pub(crate) peer: Option<String>,
    /// The peer went away; the end of the bridge is told with the next tick.
    pub(crate) parted: bool,
    /// The other half of a loopback pair: what is written to one is read from the other.
    pub(crate) loopback: Option<String>,
    pub(crate) held: bool,
    /// The caller put us on hold: no packets come.
    pub(crate) held_by_caller: bool,
    pub(crate) bugs: Vec<Bug>,
    pub(crate) forks: Vec<u64>,
    pub(crate) originate: Option<u64>,
    pub(crate) schedule: Vec<(Instant, Step)>,
    pub(crate) next_tick: Instant,
    pub(crate) media: Media,
}

/// The sound of a channel.
#[derive(Debug)]
pub(crate) struct Media {
    pub(crate) voice: Voice,
    /// Packets come from the caller.
    pub(crate) packets: bool,
    /// Keys that are pressed, one after another; each is held for so many frames yet.
    pub(crate) keys: VecDeque<(char, u32)>,
    /// Digits that wait to be taken by an application.
    pub(crate) digits: VecDeque<(char, &'static str, u32)>,
    pub(crate) muted: bool,
    pub(crate) inbox: Vec<(String, VecDeque<i16>)>,
    /// What the other half of a loopback pair wrote.
    pub(crate) looped: VecDeque<i16>,
    pub(crate) recorder: Recorder,
    /// Digits that were sent to the far end.
    pub(crate) sent_digits: String,
}

impl Media {
    /// Sound of another channel, to be written to this one.
    pub(crate) fn hear(&mut self, from: &str, samples: &[i16]) {
        let index = self.inbox.iter().position(|(known, _)| known == from).unwrap_or_else(|| {
            self.inbox.push((from.to_owned(), VecDeque::new()));
            self.inbox.len() - 1
        });
        let inbox = &mut self.inbox[index].1;
        inbox.extend(samples);
        let beyond = inbox.len().saturating_sub(MOST_INBOX_FRAMES * samples.len());
        inbox.drain(..beyond);
    }
}

impl Channel {
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        let found = self.variables.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_true(&self, name: &str) -> bool {
        matches!(self.variable(name), Some("true" | "yes" | "on" | "1" | "t"))
    }

    /// Sets a variable; an empty value takes it away.
    pub(crate) fn set_variable(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name || !value.is_empty());
        if value.is_empty() {
            return;
        }
        match self.variables.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None => self.variables.push((name.to_owned(), value.to_owned())),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.cause.is_none()
    }

    pub(crate) fn has_media(&self) -> bool {
        matches!(self.answer, Answer::Early | Answer::Answered)
    }

    pub(crate) fn frame_samples(&self) -> usize {
        self.codec.1 as usize / 50
    }

    /// The application that the switch would name, with its argument.
    pub(crate) fn application(&self) -> (&str, &str) {
        self.stack.last().map_or(("", ""), |running| (&running.app, &running.data))
    }

    /// Appends what every event of a channel says.
    pub(crate) fn describe(&self, event: &mut SwitchEvent) {
        let (state, number) = self.state.word_and_number();
        // A channel that was told to end shows the number of the state it is going to.
        let number = if self.cause.is_some() { number.max(10) } else { number };
        event.push("Channel-State", state);
        event.push("Channel-Call-State", self.call_state);
        event.push("Channel-State-Number", number.to_string());
        event.push("Channel-Name", self.name.as_str());
        event.push("Unique-ID", self.uuid.as_str());
        let direction = if self.inbound { "inbound" } else { "outbound" };
        event.push("Call-Direction", direction);
        event.push("Presence-Call-Direction", direction);
        event.push("Channel-HIT-Dialplan", self.hit_dialplan.to_string());
        event.push("Channel-Call-UUID", self.call_uuid.as_str());
        event.push("Answer-State", self.answer.word());
        if let Some(cause) = &self.cause {
            event.push("Hangup-Cause", cause.as_str());
        }
        if self.times.progress_media > 0 {
            for way in ["Read", "Write"] {
                event.push(format!("Channel-{way}-Codec-Name"), self.codec.0);
                event.push(format!("Channel-{way}-Codec-Rate"), self.codec.1.to_string());
                event.push(format!("Channel-{way}-Codec-Bit-Rate"), "64000");
            }
        }
        self.describe_profile("Caller", event);
    }

    /// Appends who calls whom, each name beginning with `prefix`.
    pub(crate) fn describe_profile(&self, prefix: &str, event: &mut SwitchEvent) {
        let direction = if self.inbound { "inbound" } else { "outbound" };
        let mut push = |name: &str, value: &str| {
            if !value.is_empty() {
                event.push(format!("{prefix}-{name}"), value);
            }
        };
        push("Direction", direction);
        push("Logical-Direction", direction);
        if self.inbound {
            push("Username", &self.caller_number);
        }
        push("Dialplan", &self.dialplan);
        push("Caller-ID-Name", &self.caller_name);
        push("Caller-ID-Number", &self.caller_number);
        push("Orig-Caller-ID-Name", &self.caller_name);
        push("Orig-Caller-ID-Number", &self.caller_number);
        if !self.inbound {
            push("Callee-ID-Number", &self.callee_number);
        }
        push("Network-Addr", if self.inbound { "127.0.0.1" } else { "" });
        push("ANI", &self.caller_number);
        push("Destination-Number", &self.destination);
        push("Unique-ID", &self.uuid);
        push("Source", if self.inbound { "mod_sofia" } else { "src/switch_ivr_originate.c" });
        push("Context", &self.context);
        push("Channel-Name", &self.name);
        push("Profile-Index", "1");
        push("Profile-Created-Time", &self.times.created.to_string());
        for (name, time) in [
            ("Created", self.times.created),
            ("Answered", self.times.answered),
            ("Progress", self.times.progress),
            ("Progress-Media", self.times.progress_media),
            ("Hangup", self.times.hung_up),
            ("Transfer", self.times.transferred),
            ("Resurrect", 0),
            ("Bridged", self.times.bridged),
        ] {
            push(&format!("Channel-{name}-Time"), &time.to_string());
        }
        push("Channel-Last-Hold", &self.times.last_hold.to_string());
        push("Channel-Hold-Accum", "0");
        push("Screen-Bit", "true");
        push("Privacy-Hide-Name", "false");
        push("Privacy-Hide-Number", "false");
    }

    /// Appends the variables.
    pub(crate) fn describe_variables(&self, event: &mut SwitchEvent) {
        for (name, value) in &self.variables {
            event.push(Cow::Owned(format!("variable_{name}")), value.as_str());
        }
    }
}

/// Does an event of this name carry the channel's variables.
pub(crate) fn carries_variables(name: &str) -> bool {
    matches!(
        name,
        "CHANNEL_CREATE"
            | "CHANNEL_ORIGINATE"
            | "CHANNEL_UUID"
            | "CHANNEL_ANSWER"
            | "CHANNEL_PARK"
            | "CHANNEL_UNPARK"
            | "CHANNEL_BRIDGE"
            | "CHANNEL_UNBRIDGE"
            | "CHANNEL_PROGRESS"
            | "CHANNEL_PROGRESS_MEDIA"
            | "CHANNEL_HANGUP"
            | "CHANNEL_HANGUP_COMPLETE"
            | "CHANNEL_DATA"
            | "CHANNEL_EXECUTE"
            | "CHANNEL_EXECUTE_COMPLETE"
            | "CHANNEL_DESTROY"
            | "CHANNEL_HOLD"
            | "CHANNEL_UNHOLD"
            | "CALL_UPDATE"
            | "PLAYBACK_START"
            | "PLAYBACK_STOP"
            | "RECORD_START"
            | "RECORD_STOP"
            | "MEDIA_BUG_START"
            | "MEDIA_BUG_STOP"
            | "CUSTOM"
    )
}

/// The Q.850 number of a cause, or FreeSWITCH's own; none for a name that is no cause.
pub(crate) fn cause_number(name: &str) -> Option<u16> {
    const CAUSES: &[(&str, u16)] = &[
        ("UNALLOCATED_NUMBER", 1),
        ("NO_ROUTE_DESTINATION", 3),
        ("NORMAL_CLEARING", 16),
        ("USER_BUSY", 17),
        ("NO_USER_RESPONSE", 18),
        ("NO_ANSWER", 19),
        ("SUBSCRIBER_ABSENT", 20),
        ("CALL_REJECTED", 21),
        ("NUMBER_CHANGED", 22),
        ("EXCHANGE_ROUTING_ERROR", 25),
        ("DESTINATION_OUT_OF_ORDER", 27),
        ("INVALID_NUMBER_FORMAT", 28),
        ("FACILITY_REJECTED", 29),
        ("NORMAL_UNSPECIFIED", 31),
        ("NORMAL_CIRCUIT_CONGESTION", 34),
        ("NETWORK_OUT_OF_ORDER", 38),
        ("NORMAL_TEMPORARY_FAILURE", 41),
        ("SWITCH_CONGESTION", 42),
        ("REQUESTED_CHAN_UNAVAIL", 44),
        ("BEARERCAPABILITY_NOTAVAIL", 58),
        ("SERVICE_UNAVAILABLE", 63),
        ("CHAN_NOT_IMPLEMENTED", 66),
        ("INCOMPATIBLE_DESTINATION", 88),
        ("RECOVERY_ON_TIMER_EXPIRE", 102),
        ("PROTOCOL_ERROR", 111),
        ("INTERWORKING", 127),
        ("ORIGINATOR_CANCEL", 487),
        ("LOSE_RACE", 702),
        ("MANAGER_REQUEST", 703),
        ("BLIND_TRANSFER", 800),
        ("ATTENDED_TRANSFER", 801),
        ("ALLOTTED_TIMEOUT", 802),
        ("MEDIA_TIMEOUT", 804),
        ("PICKED_OFF", 805),
        ("USER_NOT_REGISTERED", 806),
        ("PROGRESS_TIMEOUT", 807),
        ("INVALID_GATEWAY", 808),
        ("GATEWAY_DOWN", 809),
        ("INVALID_URL", 810),
        ("INVALID_PROFILE", 811),
        ("DECLINE", 816),
    ];
    CAUSES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// A cause as the switch takes it, by name or number; one it does not know becomes NORMAL_CLEARING.
pub(crate) fn cause(text: &str) -> String {
    let name = text.trim().to_ascii_uppercase();
    let name = match name.parse::<u16>() {
        Ok(17) => "USER_BUSY".to_owned(),
        Ok(21) => "CALL_REJECTED".to_owned(),
        _ => name,
    };
    if cause_number(&name).is_some() { name } else { "NORMAL_CLEARING".to_owned() }
}
