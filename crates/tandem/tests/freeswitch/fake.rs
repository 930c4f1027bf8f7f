//! The stage on which the fake switch of `tandem-sim` plays.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tandem_sim::freeswitch::{
    CallMode, ChannelHandle, FakeCall, FakeSwitch, Heard, SwitchConfig, Target,
};
use tokio::runtime::Handle;

use super::stage::{Behaviour, NewCall, Phone, Place, Stage, Way, user_of};

/// A fake switch.
pub(crate) struct FakeStage {
    switch: FakeSwitch,
    runtime: Handle,
}

impl FakeStage {
    /// Starts a switch with `config`.
    pub(crate) fn start(runtime: &Handle, config: SwitchConfig) -> Self {
        let switch = runtime.block_on(FakeSwitch::start_with(config)).expect("loopback has a port");
        Self { switch, runtime: runtime.clone() }
    }
}

impl Stage for FakeStage {
    fn event_socket(&self) -> SocketAddr {
        self.switch.address
    }

    fn password(&self) -> String {
        "ClueCon".into()
    }

    fn is_fake(&self) -> bool {
        true
    }

    fn has_module(&mut self, module: &str) -> bool {
        self.switch.api(&format!("module_exists {module}")).trim() == "true"
    }

    fn usual_module(&mut self) -> String {
        "jambonz".into()
    }

    fn dial_string(&self) -> String {
        "sofia/internal/{target}@127.0.0.1:5999".into()
    }

    fn expect(&mut self, name: &str, target: Behaviour) {
        let target = match target {
            Behaviour::Answers => Target::answers(Duration::from_millis(300)),
            Behaviour::Busy => Target::busy(),
            Behaviour::Unknown => Target::unknown(),
            Behaviour::Rings => Target::rings_for_ever(),
        };
        self.switch.script(&format!("/{name}@"), target.clone());
        self.switch.script(&format!("gateway/trunk1/{name}"), target);
    }

    fn place(&mut self, kind: Place) -> Option<String> {
        let name = match kind {
            Place::Queue => "support@default",
            Place::Menu => "main",
            Place::Mailbox => "1001",
            Place::Fifo | Place::Room => "tandem-test",
            Place::Gateway => "trunk1",
            Place::Group => "default",
        };
        Some(name.to_owned())
    }

    fn members(&mut self, group: &str) -> Vec<String> {
        let mut members = Vec::new();
        self.switch.configure(|config| members.clone_from(&config.groups[group]));
        members
    }

    fn register(&mut self, users: &[String]) -> bool {
        self.switch.configure(|config| {
            for user in users {
                let contact = format!("sofia/internal/{user}@127.0.0.1:5999");
                config.users.insert(user.clone(), Some(contact));
            }
        });
        true
    }

    fn open_gateway(&mut self) {}

    fn told(&mut self, name: &str, header: &str) -> Option<String> {
        let events = self.switch.events();
        let called = events.iter().rfind(|event| {
            event.name() == "CHANNEL_ORIGINATE"
                && event.header("Channel-Name").is_some_and(|channel| user_of(channel) == name)
        })?;
        called.header(&format!("variable_sip_h_{header}")).map(str::to_owned)
    }

    fn person<'a>(&self, _number: &'a str) -> (&'a str, &'static str) {
        (NewCall::CALLER, NewCall::CALLER_NAME)
    }

    fn call(&mut self, call: &NewCall) -> Box<dyn Phone> {
        let action = |app: &str, data: &str| (app.to_owned(), data.to_owned());
        let socket = |address: &SocketAddr| action("socket", &format!("{address} async full"));
        let actions = match &call.way {
            Way::Socket(address) => {
                let silence = action("set", "send_silence_when_idle=-1");
                let before = if call.writes_silence { vec![silence] } else { Vec::new() };
                let rest = [action("answer", ""), socket(address), action("park", "")];
                before.into_iter().chain(rest).collect()
            }
            Way::RingingSocket(address) => {
                vec![socket(address), action("answer", ""), action("park", "")]
            }
            Way::Park => vec![
                action("answer", ""),
                action("set", "send_silence_when_idle=-1"),
                action("park", ""),
            ],
        };
        let (header, value) = NewCall::TENANT;
        let mut fake = FakeCall::new(&call.number, CallMode::Actions(actions))
            .from(NewCall::CALLER, NewCall::CALLER_NAME)
            .variable(&format!("sip_h_{header}"), value);
        fake.uuid = Some(call.uuid.clone());
        let _inside = self.runtime.enter();
        Box::new(FakePhone(self.switch.call(fake)))
    }

    fn target(&mut self, name: &str) -> Option<Box<dyn Phone>> {
        let channels = self.switch.channels();
        let found = channels.iter().rfind(|channel| user_of(&channel.name) == name)?;
        Some(Box::new(FakePhone(self.switch.channel(&found.uuid)?)))
    }

    fn api(&mut self, line: &str) -> String {
        let _inside = self.runtime.enter();
        self.switch.api(line)
    }

    fn variable(&mut self, uuid: &str, name: &str) -> Option<String> {
        self.switch.channel(uuid)?.view().variable(name).map(str::to_owned)
    }

    fn cause(&mut self, uuid: &str) -> Option<String> {
        let view = self.switch.channel(uuid)?.view();
        view.cause.filter(|_| view.gone)
    }

    fn channels(&mut self) -> Vec<String> {
        self.switch.channels().into_iter().map(|channel| channel.uuid).collect()
    }
}

/// The far end of a channel.
struct FakePhone(ChannelHandle);

impl Phone for FakePhone {
    fn uuid(&self) -> String {
        self.0.uuid().to_owned()
    }

    fn press(&self, keys: &str) {
        self.0.press(keys);
    }

    fn say(&self, samples: &[i16]) -> Instant {
        self.0.say(samples);
        Instant::now()
    }

    fn hold(&self, hold: bool) {
        self.0.hold(hold);
    }

    fn is_held(&self) -> bool {
        self.0.view().held
    }

    fn referred(&self) -> Option<String> {
        None
    }

    fn hang_up(&self, cause: &str) {
        self.0.hang_up(cause);
    }

    fn heard(&self) -> Heard {
        self.0.heard()
    }
}
