//! What a story needs of a switch, be it real or not.

use std::{net::SocketAddr, time::Instant};

use tandem_sim::freeswitch::Heard;

/// A switch with telephones around it.
pub(crate) trait Stage {
    /// Where its event socket listens.
    fn event_socket(&self) -> SocketAddr;

    /// The password of the event socket.
    fn password(&self) -> String;

    /// Whether it is a fake, whose time and scale are ours.
    fn is_fake(&self) -> bool;

    /// Whether this module is loaded, as `mod_audio_fork`.
    fn has_module(&mut self, module: &str) -> bool;

    /// The module that most stories use, as the configuration calls it.
    fn usual_module(&mut self) -> String;

    /// How a target is called: a dial string with `{target}` in it.
    fn dial_string(&self) -> String;

    /// Says what becomes of calls to the target `name`, before anybody calls it.
    fn expect(&mut self, name: &str, target: Behaviour);

    /// Number and name of the person at the phone, as the switch tells them of a call to `number`.
    fn person<'a>(&self, number: &'a str) -> (&'a str, &'static str);

    /// The name of a place of this kind, where the switch has one that the tests can use; says what is missing where not.
    fn place(&mut self, kind: Place) -> Option<String>;

    /// The users in a group.
    fn members(&mut self, group: &str) -> Vec<String>;

    /// Phones are registered for these users until the story ends; false where the switch wants more than their word.
    fn register(&mut self, users: &[String]) -> bool;

    /// From now on there are phones behind the gateway.
    fn open_gateway(&mut self);

    /// What the target `name` was told by this header of the INVITE.
    fn told(&mut self, name: &str, header: &str) -> Option<String>;

    /// Somebody calls.
    fn call(&mut self, call: &NewCall) -> Box<dyn Phone>;

    /// The phone of the target `name`, once its channel is there.
    fn target(&mut self, name: &str) -> Option<Box<dyn Phone>>;

    /// Carries out a command as an operator would; its answer.
    fn api(&mut self, line: &str) -> String;

    /// A variable of a channel, also after its end.
    fn variable(&mut self, uuid: &str, name: &str) -> Option<String>;

    /// Why a channel has ended, if it has.
    fn cause(&mut self, uuid: &str) -> Option<String>;

    /// The uuids of the channels of this story.
    fn channels(&mut self) -> Vec<String>;
}

/// A telephone in a call.
pub(crate) trait Phone {
    /// The uuid of its channel.
    fn uuid(&self) -> String;

    /// Presses keys.
    fn press(&self, keys: &str);

    /// Says samples at 8 kHz; when it begins to.
    fn say(&self, samples: &[i16]) -> Instant;

    /// Puts the other side on hold, or takes it back.
    fn hold(&self, hold: bool);

    /// Whether the other side holds it.
    fn is_held(&self) -> bool;

    /// Where the other side wants it to call instead, if it does. It has agreed.
    fn referred(&self) -> Option<String>;

    /// Hangs up with a cause, as `NORMAL_CLEARING`.
    fn hang_up(&self, cause: &str);

    /// What was heard so far.
    fn heard(&self) -> Heard;
}

/// Somebody who can be reached by a transfer, and the number for it.
pub(crate) mod people {
    /// Takes a call.
    pub(crate) const ANNA: &str = "8001";
    /// Is in a call already.
    pub(crate) const BUSY: &str = "8002";
    /// Lets it ring.
    pub(crate) const SILENT: &str = "8003";
    /// Has no phone.
    pub(crate) const NOBODY: &str = "8004";
    /// Is told what a call is about.
    pub(crate) const TOLD: &str = "8005";
}

/// A place callers can be sent to, of a kind that a switch may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A queue of mod_callcenter.
    Queue,
    /// A queue of mod_fifo.
    Fifo,
    /// A menu of the application `ivr`.
    Menu,
    /// The mailbox of a user.
    Mailbox,
    /// A conference.
    Room,
    /// A gateway whose far end is ours to play.
    Gateway,
    /// A group of users, a few of them.
    Group,
}

/// The user part in the name of a channel: `+13055550100` of `sofia/peer/+13055550100`, 1001 of
/// `sofia/internal/sip:1001@192.0.2.7:5060`.
pub(crate) fn user_of(channel: &str) -> &str {
    let address = channel.rsplit('/').next().unwrap_or_default();
    address.trim_start_matches("sip:").split('@').next().unwrap_or_default()
}

/// What becomes of a call to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// It is answered.
    Answers,
    /// 486.
    Busy,
    /// 404.
    Unknown,
    /// It rings for ever.
    Rings,
}

/// Where a caller's channel goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// To this outbound event socket, already answered.
    Socket(SocketAddr),
    /// The same while it still rings; then, given back, to these actions. Of a fake only: a call to the switch by SIP would need
    /// its dialplan.
    RingingSocket(SocketAddr),
    /// It is answered and waits.
    Park,
}

/// Somebody who calls.
#[derive(Debug, Clone)]
pub(crate) struct NewCall {
    /// The uuid of the channel.
    pub(crate) uuid: String,
    /// Who is called.
    pub(crate) number: String,
    /// Where the call goes.
    pub(crate) way: Way,
    /// The dialplan has the channel write silence, as it must where it answers and our link can't park the channel again.
    pub(crate) writes_silence: bool,
}

impl NewCall {
    /// The caller's number in every story.
    pub(crate) const CALLER: &str = "+13055550142";
    /// The caller's name in every story.
    pub(crate) const CALLER_NAME: &str = "Ann Example";
    /// A header of the caller's INVITE in every story.
    pub(crate) const TENANT: (&str, &str) = ("X-Tenant", "acme");

    /// A call to `number`.
    pub(crate) fn new(number: &str, way: Way) -> Self {
        let random = fastrand::u128(..);
        let hex = format!("{random:032x}");
        let uuid = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        Self { uuid, number: number.to_owned(), way, writes_silence: false }
    }
}
