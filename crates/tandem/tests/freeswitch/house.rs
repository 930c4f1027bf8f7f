//! The daemon beside a switch: the wires between them, and what must be left of it all at the end.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::Value;
use tandem_sim::freeswitch::Heard;

use super::{
    proxy::Proxy,
    stage::{NewCall, Phone, Stage, Way},
};
use crate::common::{Daemon, wait_until};

/// A sample louder than this is heard.
pub(crate) const LOUD: u16 = 500;

/// The secret of forks that a dialplan starts by itself.
pub(crate) const TOKEN: &str = "a-token-of-the-tests";

/// The agents of all stories. They speak by the shipped phrases, whatever is installed.
const AGENTS: &str = r##"
[attendant]
engines = []
[attendant.script]
greeting = "Hello, and thank you for calling."
silence_seconds = 0
turns = [{ say = "Thank you." }, { say = "Please tell me your message now." }]
fallback = ["You can go on speaking."]
goodbye = "Goodbye."
transfer = "One moment, please."
transfer_failed = "I am sorry, nobody can take your call right now."
[attendant.script.digits]
1 = { tool = { name = "transfer_to_human", arguments = { reason = "asked", department = "anna" } } }
2 = { tool = { name = "transfer_to_human", arguments = { reason = "asked", department = "busy" } } }
3 = { tool = { name = "transfer_to_human", arguments = { reason = "asked", department = "silent" } } }
4 = { tool = { name = "transfer_to_human", arguments = { reason = "asked", department = "nobody" } } }
5 = { tool = { name = "transfer_to_human", arguments = { reason = "asked", department = "told" } } }
6 = { say = "Thank you." }
7 = { say = "Hello, and thank you for calling. I am the automatic attendant. Press zero to reach a person, or press pound to end the call. I am a simple attendant, and I may not have understood you." }

[agents.reception]
end_call_drain_ms = 0
max_silence_ms = 600000
transfer_timeout_s = 30
[agents.reception.departments]
anna = { type = "extension", target = "8001" }
busy = { type = "extension", target = "8002" }
silent = { type = "extension", target = "8003" }
nobody = { type = "extension", target = "8004" }
told = { type = "extension", target = "8005", mode = "attended" }

[agents.connecting]
end_call_drain_ms = 0
script.greeting = "Hello, and thank you for calling."
script.turns = [{ tool = { name = "transfer_to_human", arguments = { reason = "asked" } } }]
script.transfer = "One moment, please."
script.transfer_failed = "I am sorry, nobody can take your call right now."
script.silence_seconds = 0
transfer = { type = "extension", target = "8001" }

[agents.closing]
end_call_drain_ms = 0
script.greeting = "Hello, and thank you for calling."
script.goodbye = "Goodbye."
script.silence_seconds = 0
script.turns = [{ tool = { name = "end_call", arguments = { reason = "caller_goodbye" } } }]

[agents.engaged]
max_concurrent_calls = 1
script.greeting = "Hello, and thank you for calling."
script.silence_seconds = 0

[agents.controlling]
end_call_drain_ms = 0
tools = ["pbx_hold", "pbx_play", "pbx_stop_playing", "pbx_mute", "pbx_set_variable", "pbx_get_variable", "pbx_conference", "pbx_park", "pbx_three_way"]
transfer = { type = "extension", target = "8001" }
[agents.controlling.script]
greeting = "Hello, and thank you for calling."
trouble = "Thank you."
silence_seconds = 0
turns = [{ say = "Thank you.", tool = { name = "pbx_hold" } }]
[agents.controlling.script.digits]
1 = { say = "Thank you.", tool = { name = "pbx_set_variable", arguments = { name = "agent_ticket", value = "it's; T-1" } } }
2 = { say = "Thank you.", tool = { name = "pbx_hold", arguments = { seconds = 1 } } }
3 = { say = "Thank you.", tool = { name = "pbx_play", arguments = { sound = "tone" } } }
4 = { say = "Thank you.", tool = { name = "pbx_stop_playing" } }
5 = { say = "Thank you.", tool = { name = "pbx_conference", arguments = { room = "tandem-test" } } }
6 = { say = "Thank you.", tool = { name = "pbx_park" } }
7 = { say = "Thank you.", tool = { name = "pbx_three_way" } }
8 = { say = "Thank you.", tool = { name = "pbx_set_variable", arguments = { name = "sip_h_X-Evil", value = "1" } } }

[freeswitch.tools]
sounds = { tone = "tone_stream://%(20000,0,500)" }
rooms = ["tandem-test"]

[numbers]
"100" = "reception"
"101" = "connecting"
"102" = "closing"
"103" = "engaged"
"104" = "controlling"
"105" = "sending"
"200" = { route = { type = "queue", target = "support" } }
"201" = { route = { type = "hangup", cause = "CALL_REJECTED" } }
"202" = { route = { type = "voicemail", target = "1001" } }
"##;

/// Why the agent of 105 sends callers elsewhere.
pub(crate) const REASON: &str = "billing";

/// How the daemon is set up.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// The key `module` of the configuration; none: the one that most stories use.
    pub(crate) module: Option<&'static str>,
    /// With a link to the event socket.
    pub(crate) linked: bool,
    /// Where calls go that can't go on.
    pub(crate) fallback: Option<&'static str>,
    /// Most calls.
    pub(crate) max_calls: usize,
    /// Where the agent of 105 sends callers by the keys 1, 2 and so on: targets as the configuration has them.
    pub(crate) targets: Vec<String>,
    /// More lines of `[freeswitch.transfer]`.
    pub(crate) transfer: String,
    /// There is another switch, which is never reached.
    pub(crate) unreachable: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            module: None,
            linked: true,
            fallback: None,
            max_calls: 200,
            targets: Vec::new(),
            transfer: String::new(),
            unreachable: false,
        }
    }
}

/// A daemon beside a switch.
pub(crate) struct House {
    pub(crate) stage: Box<dyn Stage>,
    pub(crate) daemon: Daemon,
    /// From the daemon to the event socket.
    pub(crate) link: Proxy,
    /// From the fork modules to the daemon.
    pub(crate) forks: Proxy,
    /// Where a dialplan hands channels over.
    pub(crate) outbound: SocketAddr,
    /// The key `module` of the configuration.
    pub(crate) module: String,
    linked: bool,
    idle_descriptors: usize,
}

impl House {
    /// Starts a daemon set up for the switch of `stage`, and waits until it has reached it.
    pub(crate) fn start(
        mut stage: Box<dyn Stage>,
        runtime: &tokio::runtime::Handle,
        setup: &Setup,
    ) -> Self {
        let module = setup.module.map_or_else(|| stage.usual_module(), str::to_owned);
        let (link, forks) = (Proxy::start(runtime, true), Proxy::start(runtime, false));
        let secrets = tempfile::tempdir().expect("a folder can be made");
        let secret = |name: &str, text: &str| {
            let file = secrets.path().join(name);
            std::fs::write(&file, text).expect("the folder can be written");
            file.display().to_string()
        };
        let (token, password) = (secret("token", TOKEN), secret("password", &stage.password()));
        let mut config = format!(
            "{AGENTS}\n{}\n[limits]\nmax_calls = {}\n[freeswitch]\nlisten = [\"127.0.0.1:0\"]\n\
             outbound = [\"127.0.0.1:0\"]\nurl = \"ws://{}\"\ntoken_file = {token:?}\nmodule = {module:?}\n",
            sending(&setup.targets),
            setup.max_calls,
            forks.address
        );
        if let Some(fallback) = setup.fallback {
            config += &format!("fallback = {fallback:?}\n");
        }
        config += &format!(
            "[freeswitch.transfer]\nextension = \"bridge {}\"\nring_timeout_s = 2\n\
             announcement = \"Thank you for calling. I have noted that you left a message.\"\n{}",
            stage.dial_string(),
            setup.transfer
        );
        if setup.unreachable {
            config += &format!(
                "[freeswitch.switches.away]\naddress = \"127.0.0.1:9\"\npassword_file = {password:?}\n"
            );
        }
        if setup.linked {
            config += &format!(
                "[freeswitch.switches.main]\naddress = \"{}\"\npassword_file = {password:?}\n",
                link.address
            );
        }
        let daemon = Daemon::start(&config);
        let address = |line: &str| {
            let text = line.rsplit(' ').next().expect("a line has words");
            text.parse::<SocketAddr>().unwrap_or_else(|_| panic!("no address: {line}"))
        };
        forks.lead_to(address(&daemon.wait_for_log("listening for FreeSWITCH forks on")));
        let line = daemon.wait_for_log("listening for FreeSWITCH outbound event sockets on");
        let outbound = address(&line);
        link.lead_to(stage.event_socket());
        if setup.linked {
            daemon.wait_for_log("event socket is up");
        }
        let idle_descriptors = daemon.descriptors();
        let linked = setup.linked;
        Self { stage, daemon, link, forks, outbound, module, linked, idle_descriptors }
    }

    /// Whether the module plays by itself what it is sent; others leave it to the event socket. Says so where it does not.
    pub(crate) fn module_plays(&self) -> bool {
        let plays = !["drachtio", "stream"].contains(&self.module.as_str());
        if !plays {
            eprintln!("skipped: {} plays nothing without the event socket", self.module);
        }
        plays
    }

    /// Somebody calls `number`, and the dialplan hands the call over.
    pub(crate) fn call(&mut self, number: &str) -> Line {
        let way = Way::Socket(self.outbound);
        self.call_by(number, way)
    }

    /// Somebody calls `number`.
    pub(crate) fn call_by(&mut self, number: &str, way: Way) -> Line {
        let writes_silence = !self.linked;
        let call = NewCall { writes_silence, ..NewCall::new(number, way) };
        Line { phone: self.stage.call(&call), uuid: call.uuid }
    }

    /// Somebody calls `number`, and has heard the greeting whole.
    pub(crate) fn greeted(&mut self, number: &str) -> Line {
        let line = self.call(number);
        line.hear();
        line.hear_the_end();
        line
    }

    /// The phone of the target `name`, once it is called.
    pub(crate) fn target(&mut self, name: &str) -> Line {
        let mut found = None;
        wait_until(&format!("a call to {name}"), || {
            found = self.stage.target(name);
            found.is_some()
        });
        let phone = found.expect("it was waited for");
        Line { uuid: phone.uuid(), phone }
    }

    /// Waits until a channel is gone; why it ended.
    pub(crate) fn ended(&mut self, uuid: &str) -> String {
        let mut cause = None;
        wait_until("the channel to end", || {
            cause = self.stage.cause(uuid);
            cause.is_some()
        });
        cause.expect("it was waited for")
    }

    /// Waits until a variable of a channel is as wanted.
    pub(crate) fn variable(&mut self, uuid: &str, name: &str, wanted: impl Fn(&str) -> bool) {
        let mut last = None;
        let give_up = Instant::now() + Duration::from_secs(60);
        while !last.as_deref().is_some_and(&wanted) {
            assert!(Instant::now() < give_up, "{name} is {last:?}");
            std::thread::park_timeout(Duration::from_millis(20));
            last = self.stage.variable(uuid, name);
        }
    }

    /// The record of the call of a channel, once it is on disk; no other is of it.
    pub(crate) fn record(&self, uuid: &str) -> Value {
        let of_it = || {
            let records = self.daemon.records();
            let own = records.into_iter().filter(|record| record["channel"] == uuid);
            own.collect::<Vec<_>>()
        };
        wait_until("the record of the call", || !of_it().is_empty());
        let mut records = of_it();
        assert_eq!(records.len(), 1, "{records:#?}");
        records.remove(0)
    }

    /// Waits until no channel is left.
    pub(crate) fn wait_for_silence(&mut self) {
        wait_until("every channel to be gone", || self.stage.channels().is_empty());
    }

    /// Nothing is left after so many calls: no channel, no fork, no descriptor, no live call.
    pub(crate) fn finish(mut self, calls: usize) {
        self.wait_for_silence();
        let records = self.daemon.wait_for_records(calls);
        assert_eq!(records.len(), calls, "{records:#?}");
        wait_until("every fork to be closed", || self.forks.connections() == 0);
        let idle = self.idle_descriptors;
        wait_until("every descriptor to be closed", || self.daemon.descriptors() <= idle);
        self.daemon.signal("TERM");
        let draining = self.daemon.wait_for_log("draining: no new calls");
        assert!(draining.contains("live=0"), "{draining}");
        assert_eq!(self.daemon.wait(), Some(0));
        assert_eq!(self.daemon.records().len(), calls, "a call was recorded twice");
    }
}

/// The agent that sends callers to these targets.
fn sending(targets: &[String]) -> String {
    let mut departments = String::new();
    let mut digits = String::from("6 = { say = \"Thank you.\" }\n");
    for (index, target) in targets.iter().enumerate() {
        let key = index + 1;
        departments += &format!("place{key} = {target}\n");
        digits += &format!(
            "{key} = {{ tool = {{ name = \"transfer_to_human\", arguments = {{ reason = {REASON:?}, \
             department = \"place{key}\" }} }} }}\n"
        );
    }
    format!(
        "[agents.sending]\nend_call_drain_ms = 0\nmax_silence_ms = 600000\n\
         [agents.sending.departments]\n{departments}[agents.sending.script]\n\
         greeting = \"Thank you.\"\nsilence_seconds = 0\n\
         transfer = \"One moment, please.\"\n\
         transfer_failed = \"I am sorry, nobody can take your call right now.\"\n\
         [agents.sending.script.digits]\n{digits}"
    )
}

/// A call, from the caller's side or the target's.
pub(crate) struct Line {
    pub(crate) phone: Box<dyn Phone>,
    pub(crate) uuid: String,
}

impl Line {
    /// Waits until something is heard.
    pub(crate) fn hear(&self) -> Instant {
        self.hear_since(None)
    }

    /// Waits until something is heard at `since` or later.
    pub(crate) fn hear_since(&self, since: Option<Instant>) -> Instant {
        let mut found = None;
        wait_until("sound", || {
            let heard = self.phone.heard();
            found = heard.first_sound(since.unwrap_or(heard.started), LOUD);
            found.is_some()
        });
        found.expect("it was waited for")
    }

    /// Waits until nothing was heard for longer than a pause between two words; when the last sound was.
    pub(crate) fn hear_the_end(&self) -> Instant {
        let heard = self.phone.heard();
        self.hear_the_end_after(heard.last_sound(LOUD).unwrap_or(heard.started))
    }

    /// Waits until nothing was heard since a moment after `from` for longer than a pause between two words; when the last
    /// sound before that was.
    pub(crate) fn hear_the_end_after(&self, from: Instant) -> Instant {
        const PAUSE: Duration = Duration::from_millis(600);
        let (mut last, mut length, mut grown) = (from, Duration::ZERO, Instant::now());
        wait_until("the end of the sound", || {
            let heard = self.phone.heard();
            if heard.duration() > length {
                (length, grown) = (heard.duration(), Instant::now());
            }
            let sounds = &heard.samples[heard.index_at(last)..];
            let mut quiet = Duration::ZERO;
            for (offset, frame) in sounds.chunks(160).enumerate() {
                let at = heard.index_at(last) + offset * 160;
                if let Some(loud) = frame.iter().rposition(|it| it.unsigned_abs() > LOUD) {
                    last = heard.time_of(at + loud);
                    quiet = Duration::ZERO;
                } else {
                    quiet += Duration::from_millis(20);
                }
                if quiet > PAUSE {
                    return true;
                }
            }
            grown.elapsed() > PAUSE // The call is over.
        });
        last
    }

    /// The present, as far as it was heard.
    pub(crate) fn now(&self) -> Instant {
        now_at(&self.phone.heard())
    }

    /// Presses keys, and hears what is said then to its end.
    pub(crate) fn press_and_hear(&self, keys: &str) {
        let since = now_at(&self.phone.heard());
        self.phone.press(keys);
        self.hear_since(Some(since));
        self.hear_the_end();
    }

    /// Says something, and hears an answer to its end.
    pub(crate) fn say_and_hear(&self, samples: &[i16]) {
        let since = now_at(&self.phone.heard());
        self.phone.say(samples);
        self.hear_since(Some(since));
        self.hear_the_end();
    }
}

/// The present, as far as it was heard.
fn now_at(heard: &Heard) -> Instant {
    heard.started + heard.duration()
}

/// What the agent said in the call with this record.
pub(crate) fn said(record: &Value) -> Vec<&str> {
    let turns = record["transcript"].as_array().expect("a transcript");
    let agents = turns.iter().filter(|turn| turn["role"] == "agent");
    agents.map(|turn| turn["text"].as_str().expect("text")).collect()
}
