//! The stage on which a real switch plays. It is told everything by its event socket, and calls our telephones.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    sync::PoisonError,
    thread,
};

use serde_json::Value;

use super::{
    desk::{CALL_HEADER, Desk},
    event_socket::{EndedChannels, EventSocket},
    stage::{Behaviour, NewCall, Phone, Place, Stage, Way, user_of},
};
use crate::common::wait_until;

/// A real switch.
pub(crate) struct RealStage {
    address: String,
    password: String,
    profile: String,
    socket: EventSocket,
    ended: EndedChannels,
    desk: Desk,
    /// Behind the gateway, and where that leads to.
    trunk: Option<Desk>,
    gateway: Option<SocketAddr>,
    /// Users whose phones are registered.
    registered: Vec<String>,
    /// Who was said to be called; behind a gateway a channel's name tells no more of whose it is.
    expected: Vec<String>,
}

impl RealStage {
    /// The switch that the environment names, if it names one.
    pub(crate) fn find() -> Option<Self> {
        let Ok(address) = std::env::var("TANDEM_FREESWITCH") else {
            eprintln!(
                "skipped: TANDEM_FREESWITCH names no switch, as in TANDEM_FREESWITCH=127.0.0.1:8021"
            );
            return None;
        };
        let or = |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
        let password = or("TANDEM_FREESWITCH_PASSWORD", "ClueCon");
        let profile = or("TANDEM_FREESWITCH_PROFILE", "internal");
        let socket = EventSocket::connect(&address, &password);
        let ended = EventSocket::connect(&address, &password).watch();
        Some(Self {
            address,
            password,
            profile,
            socket,
            ended,
            desk: Desk::open(0),
            trunk: None,
            gateway: None,
            registered: Vec::new(),
            expected: Vec::new(),
        })
    }

    /// The channels of this story: name and uuid, the oldest first.
    fn rows(&mut self) -> Vec<(String, String)> {
        let text = self.socket.api("show channels as json");
        let list: Value = serde_json::from_str(&text).expect("the switch writes JSON");
        let ours = format!("@{}", self.desk.address());
        let rows = list["rows"].as_array().into_iter().flatten();
        let outside =
            |name: &str| !name.contains('@') && self.expected.iter().any(|it| it == user_of(name));
        rows.filter_map(|row| Some((row["name"].as_str()?, row["uuid"].as_str()?)))
            .filter(|(name, _)| name.ends_with(&ours) || outside(name))
            .map(|(name, uuid)| (name.to_owned(), uuid.to_owned()))
            .collect()
    }

    /// The domain of the switch's users.
    fn domain(&mut self) -> String {
        self.socket.api("global_getvar domain").trim().to_owned()
    }

    /// Name and group of the users in the domain.
    fn users(&mut self) -> Vec<(String, String)> {
        let domain = self.domain();
        let list = self.socket.api("list_users");
        let rows = list.lines().map(|line| line.split('|').collect::<Vec<_>>());
        rows.filter_map(|row| match row[..] {
            [user, _, of, group, ..] if of == domain => Some((user.to_owned(), group.to_owned())),
            _ => None,
        })
        .collect()
    }

    /// Registers the phone of a user, or takes it back; whether the switch agreed.
    fn register_one(&mut self, user: &str, seconds: u32) -> bool {
        let status = self.socket.api(&format!("sofia xmlstatus profile {}", self.profile));
        let registrar = element(&status, "url").and_then(|url| url.split('@').nth(1)?.parse().ok());
        let Some(registrar) = registrar else { return false };
        let domain = self.domain();
        self.desk.register(registrar, user, &domain, seconds) == 200
    }
}

/// The text of the first element of this name in an XML text.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once("</")?.0)
}

impl Stage for RealStage {
    fn event_socket(&self) -> SocketAddr {
        let mut addresses = self.address.to_socket_addrs().expect("it was reached before");
        addresses.next().expect("it was reached before")
    }

    fn password(&self) -> String {
        self.password.clone()
    }

    fn is_fake(&self) -> bool {
        false
    }

    fn has_module(&mut self, module: &str) -> bool {
        self.socket.api(&format!("module_exists {module}")).trim() == "true"
    }

    fn usual_module(&mut self) -> String {
        std::env::var("TANDEM_FREESWITCH_MODULE").unwrap_or_else(|_| {
            let fork = self.has_module("mod_audio_fork");
            if fork { "jambonz" } else { "stream" }.into()
        })
    }

    fn dial_string(&self) -> String {
        format!("sofia/{}/{{target}}@{}", self.profile, self.desk.address())
    }

    fn expect(&mut self, name: &str, target: Behaviour) {
        self.expected.push(name.to_owned());
        for desk in [Some(&self.desk), self.trunk.as_ref()].into_iter().flatten() {
            desk.expect(name, target);
        }
    }

    fn place(&mut self, kind: Place) -> Option<String> {
        let found = match kind {
            Place::Queue => {
                let list = self.socket.api("callcenter_config queue list");
                let row = list.lines().nth(1).filter(|row| row.contains('|'));
                row.and_then(|row| row.split('|').next()).map(str::to_owned)
            }
            Place::Menu => {
                let xml = self.socket.api("xml_locate configuration configuration name ivr.conf");
                let menu =
                    xml.split_once("<menu name=\"").and_then(|(_, rest)| rest.split('"').next());
                menu.map(str::to_owned)
            }
            Place::Mailbox => {
                let user = self.users().into_iter().next().map(|(user, _)| user);
                user.filter(|_| self.has_module("mod_voicemail"))
            }
            Place::Fifo => self.has_module("mod_fifo").then(|| "tandem-test".to_owned()),
            Place::Room => self.has_module("mod_conference").then(|| "tandem-test-room".to_owned()),
            Place::Gateway => {
                let list = self.socket.api("sofia xmlstatus gateway");
                let mut gateways = list.split("<gateway>").skip(1).filter_map(|gateway| {
                    let proxy = element(gateway, "proxy")?.strip_prefix("sip:")?;
                    Some((element(gateway, "name")?.to_owned(), proxy.parse::<SocketAddr>().ok()?))
                });
                let (name, proxy) = gateways.find(|(_, proxy)| proxy.ip().is_loopback()).unzip();
                self.gateway = proxy;
                name
            }
            Place::Group => {
                let users = self.users();
                let size = |group: &str| users.iter().filter(|(_, of)| of == group).count();
                let small = users.iter().find(|(_, group)| (2..=6).contains(&size(group)));
                small.map(|(_, group)| group.clone())
            }
        };
        if found.is_none() {
            eprintln!("skipped: the switch has no {kind:?} that fits, see docs/freeswitch.md");
        }
        found
    }

    fn members(&mut self, group: &str) -> Vec<String> {
        let users = self.users();
        users.into_iter().filter(|(_, of)| of == group).map(|(user, _)| user).collect()
    }

    fn register(&mut self, users: &[String]) -> bool {
        let all = users.iter().all(|user| {
            let registered = self.register_one(user, 300);
            if registered {
                self.registered.push(user.clone());
            }
            registered
        });
        if !all {
            eprintln!("skipped: profile {} takes no registration without a password", self.profile);
        }
        all
    }

    fn open_gateway(&mut self) {
        let address = self.gateway.expect("the gateway was asked for");
        self.trunk = Some(Desk::open(address.port()));
    }

    fn told(&mut self, name: &str, header: &str) -> Option<String> {
        let trunk = self.trunk.as_ref().and_then(|trunk| trunk.told(name, header));
        trunk.or_else(|| self.desk.told(name, header))
    }

    fn person<'a>(&self, number: &'a str) -> (&'a str, &'static str) {
        // The switch has called the phone: whoever answered is at the number that was dialled.
        (number, "Outbound Call")
    }

    fn call(&mut self, call: &NewCall) -> Box<dyn Phone> {
        let application = match &call.way {
            Way::Socket(address) => format!("'&socket({address} async full)'"),
            Way::Park => "&park()".to_owned(),
            Way::RingingSocket(_) => panic!("a real phone can't ring without a dialplan"),
        };
        let (header, tenant) = NewCall::TENANT;
        let (uuid, profile, number) = (&call.uuid, &self.profile, &call.number);
        self.socket.background(&format!(
            "originate {{origination_uuid={uuid},origination_caller_id_number={},\
             origination_caller_id_name='{}',ignore_early_media=true,absolute_codec_string=PCMU,\
             send_silence_when_idle=-1,sip_h_{header}={tenant},sip_h_{CALL_HEADER}={uuid}}}\
             sofia/{profile}/{number}@{} {application}",
            NewCall::CALLER,
            NewCall::CALLER_NAME,
            self.desk.address()
        ));
        let mut phone = None;
        wait_until("the switch to call us", || {
            phone = self.desk.named(uuid);
            phone.is_some()
        });
        phone.expect("it was waited for")
    }

    fn target(&mut self, name: &str) -> Option<Box<dyn Phone>> {
        let uuid = self.rows().into_iter().rfind(|(channel, _)| user_of(channel) == name)?.1;
        let trunk = self.trunk.as_ref().and_then(|trunk| trunk.called(name, &uuid));
        trunk.or_else(|| self.desk.called(name, &uuid))
    }

    fn api(&mut self, line: &str) -> String {
        self.socket.api(line)
    }

    fn variable(&mut self, uuid: &str, name: &str) -> Option<String> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).get(uuid).cloned();
        if let Some(ended) = ended {
            return ended.variable(name).map(str::to_owned);
        }
        let value = self.socket.api(&format!("uuid_getvar {uuid} {name}"));
        (value != "_undef_" && !value.starts_with("-ERR")).then_some(value)
    }

    fn cause(&mut self, uuid: &str) -> Option<String> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.get(uuid)?.cause().map(str::to_owned)
    }

    fn channels(&mut self) -> Vec<String> {
        self.rows().into_iter().map(|(_, uuid)| uuid).collect()
    }
}

impl Drop for RealStage {
    /// A story leaves no phone registered, and one that failed leaves nothing behind on a switch that others may use too.
    fn drop(&mut self) {
        for user in std::mem::take(&mut self.registered) {
            self.register_one(&user, 0);
        }
        if thread::panicking() {
            for (_, uuid) in self.rows() {
                self.socket.api(&format!("uuid_kill {uuid}"));
            }
        }
    }
}
