//! How a fake switch is set up.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::fork_module::Edition;

/// How a fake switch behaves.
#[derive(Debug, Clone)]
pub struct SwitchConfig {
    /// The password of the event socket.
    pub password: String,
    /// Where the event socket listens; port 0 takes a free one.
    pub bind: SocketAddr,
    /// The mod_audio_fork that is loaded: [`Edition::Jambonz`], [`Edition::Drachtio`] or none.
    pub audio_fork: Option<Edition>,
    /// The mod_audio_stream that is loaded: [`Edition::Stream`], [`Edition::StreamTwoWay`] or none.
    pub audio_stream: Option<Edition>,
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Of a hundred fork messages so many are two frames in one, as when the module's thread is late.
    pub joined_percent: u8,
    /// Each channel has its own phase within 20 ms; otherwise all share one timer, as in the real switch.
    pub spread_ticks: bool,
    /// How much of what a caller hears is kept; older sound is forgotten.
    pub heard_limit: Duration,
    /// How long `uuid_broadcast` reads before it plays: five frames.
    pub broadcast_lead: Duration,
    /// SIP profiles.
    pub profiles: Vec<String>,
    /// SIP gateways, and whether each is up.
    pub gateways: BTreeMap<String, bool>,
    /// Queues of mod_callcenter.
    pub queues: Vec<String>,
    /// Menus of the application `ivr`.
    pub menus: Vec<String>,
    /// Users, who have a mailbox each, and where they are registered, as `sofia/internal/1001@192.0.2.7:5060`.
    pub users: BTreeMap<String, Option<String>>,
    /// Groups of users.
    pub groups: BTreeMap<String, Vec<String>>,
    /// Extensions: what the dialplan does with a number, as pairs of application and argument.
    pub extensions: BTreeMap<String, Vec<(String, String)>>,
    /// Most channels at once.
    pub most_channels: usize,
}

impl Default for SwitchConfig {
    fn default() -> Self {
        let mut config = Self {
            password: "ClueCon".to_owned(),
            bind: (Ipv4Addr::LOCALHOST, 0).into(),
            audio_fork: Some(Edition::Jambonz),
            audio_stream: Some(Edition::Stream),
            seed: 1,
            joined_percent: 1,
            spread_ticks: false,
            heard_limit: Duration::from_secs(600),
            broadcast_lead: Duration::from_millis(100),
            profiles: vec!["internal".to_owned(), "peer".to_owned()],
            gateways: BTreeMap::from([("trunk1".to_owned(), true)]),
            queues: vec!["support@default".to_owned()],
            menus: vec!["main".to_owned()],
            users: ["1001", "1002"].map(|user| (user.to_owned(), None)).into(),
            groups: BTreeMap::from([(
                "default".to_owned(),
                vec!["1001".to_owned(), "1002".to_owned()],
            )]),
            extensions: BTreeMap::new(),
            most_channels: 10_000,
        };
        const SILENCE: (&str, &str) = ("set", "send_silence_when_idle=-1");
        const ANSWER: (&str, &str) = ("answer", "");
        const PARK: (&str, &str) = ("park", "");
        for (number, actions) in [
            ("9001", &[ANSWER, ("playback", "tone_stream://%(500,500,440);loops=-1")][..]),
            ("9003", &[ANSWER, SILENCE, PARK]),
            ("9004", &[ANSWER, ("echo", "")]),
            ("9005", &[ANSWER, PARK]),
            ("9006", &[ANSWER, ("conference", "lab@default")]),
            ("9011", &[("respond", "486")]),
            ("9012", &[("respond", "603")]),
            ("9013", &[("ring_ready", ""), ("sleep", "600000")]),
            ("9017", &[ANSWER, ("playback", "silence_stream://-1")]),
            ("5901", &[ANSWER, ("valet_park", "lab 5901")]),
            ("1000", &[ANSWER, ("echo", "")]),
        ] {
            config = config.extension(number, actions);
        }
        config
    }
}

impl SwitchConfig {
    /// Whether there is the queue, menu or mailbox that an application is started for: without it that is over at once.
    pub(crate) fn takes(&self, app: &str, data: &str) -> bool {
        match app {
            "callcenter" => self.queues.iter().any(|queue| queue == data),
            "ivr" => self.menus.iter().any(|menu| menu == data),
            "voicemail" => self.users.contains_key(data.rsplit(' ').next().unwrap_or(data)),
            _ => true,
        }
    }

    /// The same with an extension more, or another one of that number.
    #[must_use]
    pub fn extension(mut self, number: &str, actions: &[(&str, &str)]) -> Self {
        let actions = actions.iter().map(|(app, data)| ((*app).to_owned(), (*data).to_owned()));
        self.extensions.insert(number.to_owned(), actions.collect());
        self
    }
}

/// What becomes of a leg that is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// It rings after this, none: never.
    pub rings: Option<Duration>,
    /// It sends early media after this.
    pub early: Option<Duration>,
    /// It answers after this, none: never.
    pub answers: Option<Duration>,
    /// It refuses with this cause after that.
    pub fails: Option<(String, Duration)>,
    /// What it does after its answer.
    pub then: Vec<(Duration, LegAct)>,
}

/// What somebody at a called leg does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LegAct {
    /// Presses a key.
    Press(char),
    /// Hangs up with this cause.
    HangUp(String),
    /// Says these samples at the leg's rate.
    Say(Vec<i16>),
}

impl Target {
    /// Rings at once and answers so late.
    pub fn answers(after: Duration) -> Self {
        Self {
            rings: Some(Duration::ZERO),
            early: None,
            answers: Some(after),
            fails: None,
            then: Vec::new(),
        }
    }

    /// Refuses with a cause, as `USER_BUSY`, after so long.
    pub fn fails(cause: &str, after: Duration) -> Self {
        Self {
            rings: None,
            early: None,
            answers: None,
            fails: Some((cause.to_owned(), after)),
            then: Vec::new(),
        }
    }

    /// Busy.
    pub fn busy() -> Self {
        Self::fails("USER_BUSY", Duration::from_millis(20))
    }

    /// A number that does not exist.
    pub fn unknown() -> Self {
        Self::fails("UNALLOCATED_NUMBER", Duration::from_millis(20))
    }

    /// Rings for ever.
    pub fn rings_for_ever() -> Self {
        Self { answers: None, ..Self::answers(Duration::ZERO) }
    }

    /// The far end never says a word, not even that it rings.
    pub fn silent() -> Self {
        Self { rings: None, ..Self::rings_for_ever() }
    }

    /// The same with early media after so long.
    #[must_use]
    pub fn early_media(mut self, after: Duration) -> Self {
        self.early = Some(after);
        self
    }

    /// The same with something done so long after the answer.
    #[must_use]
    pub fn then(mut self, after_answer: Duration, act: LegAct) -> Self {
        self.then.push((after_answer, act));
        self
    }
}
