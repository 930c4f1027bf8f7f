//! A daemon with a receiver of webhooks, a switch and a model for every scene; calls by SIP and by forks.

use std::{
    net::SocketAddr,
    process::Command,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use serde_json::Value;
use tandem_sim::{
    FakeConfig, FakeServer, Mode, Provider, ReceivedMessage, Script,
    freeswitch::{CallMode, ChannelHandle, FakeCall, FakeSwitch, SwitchConfig, Target},
    receiver::{LoggedRequest, ReceiverProcess},
};
use tokio::runtime::Runtime;

use super::{listener::Listener, proxy::Proxy};
use crate::common::{
    Daemon,
    caller::{Call, Caller},
    wait_until,
};

/// A sample louder than this is heard on a channel.
const LOUD: u16 = 100;

/// A switch plays what its module was sent so much later; a transfer rings first, so nothing of it is lost.
const SWITCH_BEHIND_MS: u64 = 160;

const PASSWORD: &str = "ClueCon";
const TOKEN: &str = "a-token-of-the-tests";

/// How a call comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ingress {
    Sip,
    Fork,
}

/// All ways a scene is played: by both legs, with both vendors.
pub(crate) const WAYS: [(Ingress, Provider); 4] = [
    (Ingress::Sip, Provider::OpenAi),
    (Ingress::Sip, Provider::Gemini),
    (Ingress::Fork, Provider::OpenAi),
    (Ingress::Fork, Provider::Gemini),
];

/// How a call is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// The caller hangs up when so many milliseconds of speech were heard, and the model knows so many results.
    Heard { ms: u64, results: usize },
    /// The agent ends it, and by then so many milliseconds were heard.
    Ended { after_ms: u64 },
    /// The caller is handed over, and by then so many milliseconds were heard; the PBX hangs up.
    Transferred { after_ms: u64 },
    /// The caller is to be handed over, which fails; the caller hangs up when so many milliseconds were heard.
    NotTransferred { after_ms: u64, heard_ms: u64 },
}

/// One call: who answers it, and what happens.
pub(crate) struct Scene {
    /// For failures.
    pub(crate) name: String,
    /// By which leg, with whose model.
    pub(crate) way: (Ingress, Provider),
    /// What the model does.
    pub(crate) script: Script,
    /// Lines of the agent in the configuration; `{taken}` and `{busy}` are extensions, one that takes calls and one that does not.
    pub(crate) agent: String,
    /// How it ends.
    pub(crate) until: Until,
}

/// What came of a scene.
pub(crate) struct Played {
    /// For failures.
    pub(crate) name: String,
    /// Its number among the scenes.
    pub(crate) index: usize,
    /// The record.
    pub(crate) record: Value,
    /// Results the model was told: the call's id, and what.
    pub(crate) told: Vec<(String, Value)>,
    /// All else that the model was told.
    pub(crate) messages: Vec<Value>,
    /// What the receiver was sent.
    pub(crate) requests: Vec<LoggedRequest>,
    /// Where the PBX was asked to bring the caller: the Refer-To, or the name of the channel that was called.
    pub(crate) transferred_to: Option<String>,
}

/// Plays all scenes at the same time. `sections` is what the configuration has beside the agents, made of the receiver's
/// address.
pub(crate) fn play(scenes: &[Scene], sections: impl FnOnce(&str) -> String) -> Vec<Played> {
    let stage = Stage::start(scenes, sections);
    let played: Vec<Played> = thread::scope(|scope| {
        let calls: Vec<_> = scenes
            .iter()
            .enumerate()
            .map(|(index, scene)| {
                let stage = &stage;
                scope.spawn(move || stage.play(index, scene))
            })
            .collect();
        calls.into_iter().map(|call| call.join().expect("a scene failed, see above")).collect()
    });
    for (scene, model) in scenes.iter().zip(&stage.models) {
        let violations = model.handle().all_violations();
        assert!(violations.is_empty(), "{}: {violations:?}", scene.name);
    }
    played
}

struct Stage {
    daemon: Mutex<Daemon>,
    sip: SocketAddr,
    receiver: ReceiverProcess,
    switch: FakeSwitch,
    models: Vec<FakeServer>,
    outbound: SocketAddr,
    runtime: Runtime,
    /// From the daemon to the event socket, and from the fork modules to the daemon.
    _wires: [Proxy; 2],
}

impl Stage {
    fn start(scenes: &[Scene], sections: impl FnOnce(&str) -> String) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("threads can be had");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
        command.args(["webhook-receiver", "--listen", "127.0.0.1:0"]);
        let receiver = ReceiverProcess::spawn(command).expect("the receiver starts");
        let switch = runtime
            .block_on(FakeSwitch::start_with(SwitchConfig::default()))
            .expect("loopback has a port");
        switch.script("internal/8", Target::answers(Duration::from_millis(200)));
        switch.script("internal/9", Target::busy());
        let (link, forks) =
            (Proxy::start(runtime.handle(), false), Proxy::start(runtime.handle(), false));
        let secrets = tempfile::tempdir().expect("a folder can be made");
        let secret = |name: &str, text: &str| {
            let file = secrets.path().join(name);
            std::fs::write(&file, text).expect("the folder can be written");
            file.display().to_string()
        };
        let mut config = format!(
            r#"
{sections}
[attendant]
engines = []
[limits]
max_calls = 300
[freeswitch]
listen = ["127.0.0.1:0"]
outbound = ["127.0.0.1:0"]
url = "ws://{forks}"
token_file = {token:?}
module = "jambonz"
[freeswitch.transfer]
extension = "bridge sofia/internal/{{target}}@127.0.0.1:5999"
ring_timeout_s = 5
[freeswitch.switches.main]
address = "{switch}"
password_file = {password:?}
"#,
            sections = sections(&format!("http://{}", receiver.address)),
            forks = forks.address,
            token = secret("token", TOKEN),
            switch = link.address,
            password = secret("password", PASSWORD),
        );
        let mut models = Vec::new();
        let mut numbers = String::from("[numbers]\n");
        for (index, scene) in scenes.iter().enumerate() {
            let fake = FakeConfig::new(scene.way.1, vec![scene.script.clone()]);
            let model = runtime
                .block_on(FakeServer::start(fake.mode(Mode::RealTime)))
                .expect("loopback has a port");
            let provider = match scene.way.1 {
                Provider::OpenAi => "openai-realtime",
                Provider::Gemini => "gemini-live",
            };
            config += &format!(
                "[models.m{index}]\nprovider = \"{provider}\"\nbase_url = \"{}\"\n\
                 api_key_env = \"TEST_MODEL_KEY\"\n\
                 [agents.a{index}]\nmodels = [\"m{index}\"]\nspeak_first = false\nend_call_drain_ms = 400\n{}\n",
                model.base_url(),
                scene.agent.replace("{taken}", &taken(index)).replace("{busy}", &busy(index)),
            );
            numbers += &format!("\"{}\" = \"a{index}\"\n", number(index));
            models.push(model);
        }
        let daemon = Daemon::start(&(config + &numbers));
        let address = |line: &str| {
            let text = line.rsplit(' ').next().expect("a line has words");
            text.parse().unwrap_or_else(|_| panic!("no address: {line}"))
        };
        forks.lead_to(address(&daemon.wait_for_log("listening for FreeSWITCH forks on")));
        let outbound =
            address(&daemon.wait_for_log("listening for FreeSWITCH outbound event sockets on"));
        // Not before, or what it logs then would be missed.
        link.lead_to(switch.address);
        daemon.wait_for_log("event socket is up");
        let (sip, daemon) = (daemon.sip, Mutex::new(daemon));
        Self { daemon, sip, receiver, switch, models, outbound, runtime, _wires: [link, forks] }
    }

    fn play(&self, index: usize, scene: &Scene) -> Played {
        let line = self.call(index, scene.way.0);
        let (record, transferred_to) = self.follow(index, scene, line);
        let id = record["id"].as_str().expect("a record has an id").to_owned();
        Played {
            name: scene.name.clone(),
            index,
            record,
            told: told(&self.messages(index)),
            messages: self.messages(index),
            requests: self
                .receiver
                .requests()
                .into_iter()
                .filter(|it| it.body["call_id"] == id)
                .collect(),
            transferred_to,
        }
    }

    fn call(&self, index: usize, ingress: Ingress) -> Line {
        match ingress {
            Ingress::Sip => {
                let mut caller = Caller::udp(self.sip);
                let call = caller.connect(&number(index));
                let ear = Listener::start(caller.rtp());
                Line::Sip { caller: Box::new(caller), call: Box::new(call), ear }
            }
            Ingress::Fork => {
                let socket = format!("{} async full", self.outbound);
                let actions = [("answer", ""), ("socket", socket.as_str()), ("park", "")]
                    .map(|(app, data)| (app.to_owned(), data.to_owned()));
                let call = FakeCall::new(&number(index), CallMode::Actions(actions.into()))
                    .from("+13055550142", "Ann Example");
                let _inside = self.runtime.enter();
                Line::Fork(self.switch.call(call))
            }
        }
    }

    /// Goes through with the call; its record, and where it was transferred.
    fn follow(&self, index: usize, scene: &Scene, mut line: Line) -> (Value, Option<String>) {
        let name = &scene.name;
        let mut transferred_to = None;
        let behind = match scene.way.0 {
            Ingress::Sip => 60,
            Ingress::Fork => SWITCH_BEHIND_MS,
        };
        let acts = |heard: u64, after_ms: u64| {
            assert!(heard + behind >= after_ms, "{name}: {heard} ms were heard, not {after_ms}");
        };
        match scene.until {
            Until::Heard { ms, results } => {
                wait_until(&format!("{name}: {results} results"), || {
                    told(&self.messages(index)).len() >= results
                });
                wait_until(&format!("{name}: {ms} ms of speech"), || line.heard_ms() >= ms);
                line.hang_up();
            }
            Until::Ended { after_ms } => {
                let heard = line.wait_for_the_end(name);
                acts(heard, after_ms);
            }
            Until::Transferred { after_ms } => {
                let (to, heard) = self.transferred(name, &mut line, &taken(index));
                acts(heard, after_ms);
                transferred_to = Some(to);
                line.transfer_completes(name);
            }
            Until::NotTransferred { after_ms, heard_ms } => {
                let (to, heard) = self.transferred(name, &mut line, &busy(index));
                acts(heard, after_ms);
                transferred_to = Some(to);
                line.transfer_fails();
                wait_until(&format!("{name}: {heard_ms} ms of speech"), || {
                    line.heard_ms() >= heard_ms
                });
                line.hang_up();
            }
        }
        (self.record(name, &line), transferred_to)
    }

    /// Waits until the caller is to be brought to the extension `target`; where to, and what was heard by then.
    fn transferred(&self, name: &str, line: &mut Line, target: &str) -> (String, u64) {
        match line {
            Line::Sip { caller, call, ear } => {
                let refer = caller.wait_for_request(call, "REFER", "202 Accepted");
                let heard = ear.heard_ms();
                (refer.header("Refer-To").to_owned(), heard)
            }
            Line::Fork(_) => {
                let mut to = None;
                wait_until(&format!("{name}: a call to {target}"), || {
                    let events = self.switch.events();
                    let begun = events.iter().filter(|it| it.name() == "CHANNEL_ORIGINATE");
                    let mut channels = begun.filter_map(|it| it.header("Channel-Name"));
                    to = channels.find(|it| it.contains(target)).map(str::to_owned);
                    to.is_some()
                });
                (to.expect("it was waited for"), line.heard_ms())
            }
        }
    }

    fn record(&self, name: &str, line: &Line) -> Value {
        let mut found = None;
        wait_until(&format!("{name}: the record"), || {
            let daemon = self.daemon.lock().unwrap_or_else(PoisonError::into_inner);
            found = daemon.records().into_iter().find(|record| match line {
                Line::Sip { call, .. } => record["sip_call_id"] == call.id(),
                Line::Fork(channel) => record["channel"] == channel.uuid(),
            });
            found.is_some()
        });
        found.expect("it was waited for")
    }

    /// What the model of a scene was told, audio left out.
    fn messages(&self, index: usize) -> Vec<Value> {
        let handle = self.models[index].handle();
        let received = (0..handle.connections()).flat_map(|it| handle.received(it));
        received
            .filter_map(|received| match received.message {
                ReceivedMessage::Json(message) => Some(message),
                ReceivedMessage::Audio(_) | ReceivedMessage::Garbage(_) => None,
            })
            .collect()
    }
}

/// The caller's end.
enum Line {
    Sip { caller: Box<Caller>, call: Box<Call>, ear: Listener },
    Fork(ChannelHandle),
}

impl Line {
    fn heard_ms(&self) -> u64 {
        match self {
            Self::Sip { ear, .. } => ear.heard_ms(),
            Self::Fork(channel) => {
                let heard = channel.heard();
                let frame = (heard.rate / 50) as usize;
                let frames = heard.samples.chunks(frame.max(1));
                let loud = |it: &[i16]| it.iter().any(|sample| sample.unsigned_abs() > LOUD);
                20 * frames.filter(|it| loud(it)).count() as u64
            }
        }
    }

    fn hang_up(&mut self) {
        match self {
            Self::Sip { caller, call, .. } => caller.hang_up(call),
            Self::Fork(channel) => channel.hang_up("NORMAL_CLEARING"),
        }
    }

    /// Waits until the other side hangs up; what was heard by then.
    fn wait_for_the_end(&mut self, name: &str) -> u64 {
        match self {
            Self::Sip { caller, call, ear } => {
                caller.wait_for_bye(call);
                ear.heard_ms()
            }
            Self::Fork(channel) => {
                wait_until(&format!("{name}: the end"), || channel.view().gone);
                self.heard_ms()
            }
        }
    }

    /// The PBX has brought the caller where it was to.
    fn transfer_completes(&mut self, name: &str) {
        match self {
            Self::Sip { caller, call, .. } => {
                notify(caller, call, "SIP/2.0 200 OK");
                caller.wait_for_bye(call);
            }
            Self::Fork(channel) => {
                wait_until(&format!("{name}: the bridge"), || channel.view().peer.is_some());
                channel.hang_up("NORMAL_CLEARING");
            }
        }
    }

    /// The PBX could not; a switch knows by itself.
    fn transfer_fails(&mut self) {
        if let Self::Sip { caller, call, .. } = self {
            notify(caller, call, "SIP/2.0 486 Busy Here");
        }
    }
}

/// The PBX tells how the transfer came out.
fn notify(caller: &mut Caller, call: &mut Call, line: &str) {
    let headers = [
        ("Event", "refer"),
        ("Subscription-State", "terminated;reason=noresource"),
        ("Content-Type", "message/sipfrag;version=2.0"),
    ];
    let response = caller.ask(call, "NOTIFY", &headers, line);
    assert_eq!(response.status(), 200, "{response:?}");
}

/// The extension of a scene that takes calls.
fn taken(index: usize) -> String {
    format!("8{index:03}")
}

/// The extension of a scene that is busy.
fn busy(index: usize) -> String {
    format!("9{index:03}")
}

fn number(index: usize) -> String {
    (1_000 + index).to_string()
}

/// The results among what a model was told, in order.
fn told(messages: &[Value]) -> Vec<(String, Value)> {
    let mut told = Vec::new();
    for message in messages {
        let item = &message["item"];
        if item["type"] == "function_call_output" {
            let id = item["call_id"].as_str().unwrap_or_default();
            let output = item["output"].as_str().unwrap_or_default();
            let output = serde_json::from_str(output).unwrap_or_else(|_| Value::from(output));
            told.push((id.to_owned(), output));
        }
        let responses = message["toolResponse"]["functionResponses"].as_array();
        for response in responses.into_iter().flatten() {
            let id = response["id"].as_str().unwrap_or_default();
            let response = &response["response"];
            told.push((id.to_owned(), response.get("output").unwrap_or(response).clone()));
        }
    }
    told
}
