//! One connection of the event socket: what it subscribed to, what waits to be written.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{
    command::{Command, CommandReader},
    event::{Format, SwitchEvent},
};

/// Bytes that may wait for a client that does not read; events beyond are lost.
const MOST_WAITING: usize = 64 << 20;

/// What the switch says before it closes a connection.
pub(crate) const GOODBYE: &str =
    "Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n";

/// Events that `myevents` brings.
const MY_EVENTS: &[&str] = &[
    "CHANNEL_ANSWER",
    "CHANNEL_APPLICATION",
    "CHANNEL_BRIDGE",
    "CHANNEL_CALLSTATE",
    "CHANNEL_CREATE",
    "CHANNEL_DATA",
    "CHANNEL_DESTROY",
    "CHANNEL_EXECUTE",
    "CHANNEL_EXECUTE_COMPLETE",
    "CHANNEL_HANGUP",
    "CHANNEL_HANGUP_COMPLETE",
    "CHANNEL_ORIGINATE",
    "CHANNEL_OUTGOING",
    "CHANNEL_PARK",
    "CHANNEL_PROGRESS",
    "CHANNEL_PROGRESS_MEDIA",
    "CHANNEL_STATE",
    "CHANNEL_UNBRIDGE",
    "CHANNEL_UNPARK",
    "CHANNEL_UUID",
    "DETECTED_SPEECH",
    "DTMF",
    "NOTALK",
    "TALK",
];

/// The channel an outbound connection controls.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    pub(crate) uuid: String,
    pub(crate) is_async: bool,
    pub(crate) full: bool,
    pub(crate) connected: bool,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) format: Format,
    pub(crate) authed: bool,
    pub(crate) control: Option<Control>,
    /// `myevents` of this channel.
    pub(crate) only: Option<String>,
    pub(crate) linger: Option<Option<u32>>,
    /// It is closed then.
    pub(crate) lingers_until: Option<Instant>,
    /// An `api` command takes its time: nothing else is done or said.
    pub(crate) waits: bool,
    /// It hangs for ever.
    pub(crate) hangs: bool,
    /// Closed once all is written.
    pub(crate) closing: bool,
    /// Dropped at once, whatever waits.
    pub(crate) dropped: bool,
    pub(crate) wake: Arc<Notify>,
    all: bool,
    names: BTreeSet<String>,
    classes: BTreeSet<String>,
    filters: Vec<(String, String)>,
    reader: CommandReader,
    delayed: Option<(Instant, Command)>,
    out: Vec<u8>,
    /// Said after the reply that is waited for.
    late: Vec<u8>,
}

impl Session {
    /// A connection of a client.
    pub(crate) fn inbound() -> Self {
        let mut session = Self::outbound(None);
        session.authed = false;
        session.send("Content-Type: auth/request\n\n");
        session
    }

    /// A connection to a client, about a channel.
    pub(crate) fn outbound(control: Option<Control>) -> Self {
        Self {
            format: Format::Plain,
            authed: true,
            control,
            only: None,
            linger: None,
            lingers_until: None,
            waits: false,
            hangs: false,
            closing: false,
            dropped: false,
            wake: Arc::default(),
            all: false,
            names: BTreeSet::new(),
            classes: BTreeSet::new(),
            filters: Vec::new(),
            reader: CommandReader::default(),
            delayed: None,
            out: Vec::new(),
            late: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.reader.push(bytes);
    }

    /// The next command that may be carried out.
    pub(crate) fn next_command(&mut self, now: Instant, delay: Duration) -> Option<Command> {
        if self.waits || self.hangs || self.closing || self.dropped {
            return None;
        }
        if let Some((due, _)) = &self.delayed {
            return if *due <= now {
                self.delayed.take().map(|(_, command)| command)
            } else {
                None
            };
        }
        match self.reader.next_command() {
            Ok(Some(command)) if delay > Duration::ZERO => {
                self.delayed = Some((now + delay, command));
                None
            }
            Ok(command) => command,
            Err(_) => {
                self.dropped = true;
                self.wake.notify_one();
                None
            }
        }
    }

    /// When something is next to be done on it.
    pub(crate) fn due(&self, frozen: bool) -> Option<Instant> {
        if frozen || self.hangs || self.closing || self.dropped {
            return None;
        }
        let delayed = self.delayed.as_ref().map(|(due, _)| *due).filter(|_| !self.waits);
        delayed.into_iter().chain(self.lingers_until).min()
    }

    /// What is to be written now.
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Says `text`, an event or a notice.
    pub(crate) fn send(&mut self, text: &str) {
        if self.hangs || self.closing || self.out.len() + self.late.len() > MOST_WAITING {
            return;
        }
        let target = if self.waits { &mut self.late } else { &mut self.out };
        target.extend_from_slice(text.as_bytes());
        self.wake.notify_one();
    }

    pub(crate) fn reply(&mut self, text: &str) {
        self.send(&format!("Content-Type: command/reply\nReply-Text: {text}\n\n"));
    }

    /// The result of `api`, and what was held back meanwhile.
    pub(crate) fn api_response(&mut self, result: &str) {
        let result = if result.is_empty() { "-ERR no reply\n" } else { result };
        self.send(&format!(
            "Content-Type: api/response\nContent-Length: {}\n\n{result}",
            result.len()
        ));
        let late = std::mem::take(&mut self.late);
        self.out.extend_from_slice(&late);
    }

    /// The last words; the connection is closed after them.
    pub(crate) fn say_goodbye(&mut self, controlled: Option<&str>) {
        let mut text = String::from("Content-Type: text/disconnect-notice\n");
        if let Some(uuid) = controlled {
            let _written =
                write!(text, "Controlled-Session-UUID: {uuid}\nContent-Disposition: disconnect\n");
        }
        let _written = write!(text, "Content-Length: {}\n\n{GOODBYE}", GOODBYE.len());
        self.send(&text);
        self.closing = true;
        self.wake.notify_one();
    }

    /// The channel it controls or watches is over.
    pub(crate) fn channel_ended(&mut self, now: Instant, uuid: &str, name: &str) {
        let Some(linger) = self.linger else {
            self.say_goodbye(Some(uuid));
            return;
        };
        let seconds = linger.map_or(-1, i64::from);
        self.send(&format!(
            "Content-Type: text/disconnect-notice\nControlled-Session-UUID: {uuid}\nContent-Disposition: linger\n\
             Channel-Name: {name}\nLinger-Time: {seconds}\nContent-Length: 0\n\n"
        ));
        self.lingers_until = linger.map(|seconds| now + Duration::from_secs(seconds.into()));
    }

    /// Subscribes; false when no word names an event.
    pub(crate) fn subscribe(&mut self, words: &[&str]) -> bool {
        let (mut any, mut custom) = (false, false);
        for word in words {
            let upper = word.to_ascii_uppercase();
            match upper.as_str() {
                _ if custom => {
                    self.classes.insert((*word).to_owned());
                    any = true;
                }
                "CUSTOM" => custom = true,
                "ALL" => {
                    self.all = true;
                    any = true;
                }
                _ if known_event(&upper) => {
                    self.names.insert(upper);
                    any = true;
                }
                _ => {}
            }
        }
        any || custom
    }

    pub(crate) fn unsubscribe(&mut self, words: &[&str]) {
        let mut custom = false;
        for word in words {
            if custom {
                self.classes.remove(*word);
            } else if word.eq_ignore_ascii_case("CUSTOM") {
                custom = true;
            } else if word.eq_ignore_ascii_case("ALL") {
                self.unsubscribe_all();
            } else {
                self.names.remove(&word.to_ascii_uppercase());
            }
        }
    }

    pub(crate) fn unsubscribe_all(&mut self) {
        self.all = false;
        self.names.clear();
        self.classes.clear();
    }

    pub(crate) fn add_filter(&mut self, header: &str, value: &str) {
        if self.filters.len() < 1_000 {
            self.filters.push((header.to_owned(), value.to_owned()));
        }
    }

    pub(crate) fn delete_filter(&mut self, header: &str, value: &str) {
        self.filters.retain(|(known, filter)| {
            header != "all" && (known != header || (!value.is_empty() && filter != value))
        });
    }

    /// Is an event for this connection.
    pub(crate) fn wants(&self, event: &SwitchEvent) -> bool {
        if !self.authed || self.closing || self.dropped || !self.subscribed_to(event) {
            return false;
        }
        if let Some(only) = &self.only {
            let owner = event.header("Job-Owner-UUID");
            if event.uuid() != Some(only) && owner != Some(only) {
                return false;
            }
        }
        // A channel's own socket is let go before the channel is destroyed.
        let controlled = self.control.as_ref().map(|control| control.uuid.as_str());
        if event.name() == "CHANNEL_DESTROY" && controlled.is_some() && event.uuid() == controlled {
            return false;
        }
        self.passes_filters(event)
    }

    fn subscribed_to(&self, event: &SwitchEvent) -> bool {
        match event.subclass() {
            Some(class) => self.all || self.classes.contains(class),
            None => {
                self.all
                    || self.names.contains(event.name())
                    || (self.only.is_some() && MY_EVENTS.contains(&event.name()))
            }
        }
    }

    fn passes_filters(&self, event: &SwitchEvent) -> bool {
        if self.filters.is_empty() {
            return true;
        }
        let (mut wanted, mut only_exclusions) = (false, true);
        for (header, filter) in &self.filters {
            let (excludes, filter) = match filter.strip_prefix('-') {
                Some(filter) => (true, filter),
                None => (false, filter.strip_prefix('+').unwrap_or(filter)),
            };
            only_exclusions &= excludes;
            let matches = event.header(header).is_some_and(|value| value == filter);
            if matches && excludes {
                return false;
            }
            wanted |= matches;
        }
        wanted || only_exclusions
    }
}

fn known_event(name: &str) -> bool {
    const OTHERS: &[&str] = &[
        "API",
        "BACKGROUND_JOB",
        "CALL_UPDATE",
        "CALL_SETUP_REQ",
        "CHANNEL_CALLSTATE",
        "CHANNEL_HOLD",
        "CHANNEL_UNHOLD",
        "CODEC",
        "COMMAND",
        "HEARTBEAT",
        "MEDIA_BUG_START",
        "MEDIA_BUG_STOP",
        "MESSAGE",
        "MODULE_LOAD",
        "MODULE_UNLOAD",
        "NOTIFY",
        "PLAYBACK_START",
        "PLAYBACK_STOP",
        "PRESENCE_IN",
        "RECORD_START",
        "RECORD_STOP",
        "RELOADXML",
        "SESSION_HEARTBEAT",
        "SHUTDOWN",
        "STARTUP",
    ];
    MY_EVENTS.contains(&name) || OTHERS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(headers: &[(&'static str, &str)]) -> SwitchEvent {
        let mut event = SwitchEvent::new();
        for (name, value) in headers {
            event.push(*name, *value);
        }
        event
    }

    #[test]
    fn subscriptions_add_up_and_custom_comes_last() {
        let mut session = Session::outbound(None);
        assert!(!session.subscribe(&["NO_SUCH_EVENT"]));
        assert!(session.subscribe(&[
            "DTMF",
            "CUSTOM",
            "mod_audio_fork::connect",
            "CHANNEL_ANSWER"
        ]));
        assert!(session.wants(&event(&[("Event-Name", "DTMF")])));
        assert!(
            !session.wants(&event(&[("Event-Name", "CHANNEL_ANSWER")])),
            "it was taken for a class"
        );
        let custom = |class| event(&[("Event-Subclass", class), ("Event-Name", "CUSTOM")]);
        assert!(session.wants(&custom("mod_audio_fork::connect")));
        assert!(!session.wants(&custom("mod_audio_fork::json")));
        session.unsubscribe(&["DTMF"]);
        assert!(!session.wants(&event(&[("Event-Name", "DTMF")])));
    }

    #[test]
    fn filters_are_alternatives() {
        let mut session = Session::outbound(None);
        session.subscribe(&["ALL"]);
        session.add_filter("Unique-ID", "a");
        session.add_filter("Unique-ID", "b");
        let of = |uuid| event(&[("Event-Name", "DTMF"), ("Unique-ID", uuid)]);
        assert!(session.wants(&of("a")) && session.wants(&of("b")) && !session.wants(&of("c")));
        session.delete_filter("Unique-ID", "b");
        assert!(!session.wants(&of("b")));
        session.delete_filter("all", "");
        session.add_filter("Event-Name", "-DTMF");
        assert!(!session.wants(&of("a")) && session.wants(&event(&[("Event-Name", "API")])));
    }

    #[test]
    fn events_wait_for_the_reply_of_a_slow_command() {
        let mut session = Session::outbound(None);
        session.waits = true;
        session.send("event");
        assert!(session.take_output().is_empty());
        session.waits = false;
        session.api_response("+OK\n");
        let said = String::from_utf8(session.take_output()).unwrap();
        assert_eq!(said, "Content-Type: api/response\nContent-Length: 4\n\n+OK\nevent");
    }
}
