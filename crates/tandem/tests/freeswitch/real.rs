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
    stage::{Behaviour, NewCall, Phone, Stage, Way},
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
        Some(Self { address, password, profile, socket, ended, desk: Desk::open() })
    }

    /// The channels of this story: name and uuid, the oldest first.
    fn rows(&mut self) -> Vec<(String, String)> {
        let text = self.socket.api("show channels as json");
        let list: Value = serde_json::from_str(&text).expect("the switch writes JSON");
        let ours = format!("@{}", self.desk.address());
        let rows = list["rows"].as_array().into_iter().flatten();
        rows.filter_map(|row| Some((row["name"].as_str()?, row["uuid"].as_str()?)))
            .filter(|(name, _)| name.ends_with(&ours))
            .map(|(name, uuid)| (name.to_owned(), uuid.to_owned()))
            .collect()
    }
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
        self.desk.expect(name, target);
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
        let part = format!("/{name}@");
        let uuid = self.rows().into_iter().rfind(|(channel, _)| channel.contains(&part))?.1;
        self.desk.called(name, &uuid)
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
    /// A story that failed leaves nothing behind on a switch that others may use too.
    fn drop(&mut self) {
        if thread::panicking() {
            for (_, uuid) in self.rows() {
                self.socket.api(&format!("uuid_kill {uuid}"));
            }
        }
    }
}
