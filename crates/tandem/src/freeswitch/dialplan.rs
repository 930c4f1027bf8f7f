//! The dialplan XML with which a FreeSWITCH hands its calls to Tandem, made from the configuration.
//!
//! Nothing in it lets a caller's own words (number, name, headers) into a command line of the switch: what goes into
//! one was matched by an expression that allows letters, digits and a few signs.

mod numbers;
#[cfg(test)]
mod tests;
mod xml;

use std::fmt;

use clap::ValueEnum;
use tandem_media::SampleRate;
use tandem_sip::Transport;
use tandem_streams::{Dialect, Playback};

use self::{
    numbers::{Numbers, numbers},
    xml::Xml,
};
use crate::{
    config::{Config, FreeswitchConfig, module_name},
    routing::NoRoute,
};

/// The caller's number and name as they may stand in a command: anything else is left out.
const CALLER: &str = "^([0-9A-Za-z*#_.+-]{1,64})$";
const CALLER_NAME: &str = "^([0-9A-Za-z ,*#_.+@-]{1,80})$";
/// The dialled number as it may stand in a command.
const DIALLED: &str = "^([0-9A-Za-z*#_.+-]{1,64})$";

/// Keeps where a call was given back to, so that it does not come in again there.
const GIVEN_BACK: &str = "tandem_given_back";
/// The dialled number and where the call was given back to: not one and the same.
const ELSEWHERE: (&str, &str) =
    ("${destination_number} ${tandem_given_back}", r"^(?!(\S+) \1(?: |$))");

/// A parked channel outlives the longest call of an agent by this, in case nobody ends it.
const PARKED_AFTER_S: u64 = 60;

/// How calls are handed over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// The `socket` application: Tandem answers, forks and takes over; what it does not take goes on in the dialplan
    #[default]
    Socket,
    /// The dialplan answers and starts the fork itself
    Fork,
    /// The dialplan bridges to Tandem's SIP port
    Bridge,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Socket => "socket",
            Self::Fork => "fork",
            Self::Bridge => "bridge",
        })
    }
}

/// Which dialplan is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialplanOrder {
    /// How calls are handed over.
    pub mode: Mode,
    /// The context that the calls come in at.
    pub context: String,
    /// The SIP profile that [`Mode::Bridge`] calls Tandem with.
    pub profile: String,
    /// Only these numbers, as they are dialled; empty = the whole number plan.
    pub numbers: Vec<String>,
}

/// Why there is no dialplan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialplanError {
    /// FreeSWITCH is not configured.
    #[error(
        "the configuration has no [freeswitch], so nobody would listen\n  fix: add it as docs/freeswitch.md shows, or use --mode bridge"
    )]
    NoSection,
    /// The outbound event socket is turned off.
    #[error(
        "`freeswitch.outbound` is empty, so nobody would listen\n  fix: remove the key, or use another --mode"
    )]
    NoOutbound,
    /// Nothing to authenticate a fork with.
    #[error(
        "a fork that the dialplan starts needs credentials\n  fix: add `user = {{ username = \"freeswitch\", password_env = \"TANDEM_FORK_PASSWORD\" }}` to [freeswitch]"
    )]
    NoCredentials,
    /// The module plays nothing by itself.
    #[error(
        "module {0:?} plays only files, by order of the event socket, and no switch is configured: the caller would hear nothing\n  fix: add [freeswitch.switches.main], or use --mode socket"
    )]
    NoEventSocket(&'static str),
    /// Nobody can be called by SIP.
    #[error("`sip.listen` is empty, so nobody would listen")]
    NoSip,
    /// The plan holds nothing for this mode.
    #[error("no number of the plan is answered by an agent")]
    NoNumbers,
    /// A number that was asked for is not answered.
    #[error("{number}: {why}")]
    NotAnswered {
        /// As it was asked for.
        number: String,
        /// Why not.
        why: NoRoute,
    },
    /// A number that was asked for goes back to the PBX, and only one mode can do that.
    #[error("{number}: {why}, which only --mode socket can do")]
    GivenBack {
        /// As it was asked for.
        number: String,
        /// Where it goes.
        why: NoRoute,
    },
    /// A number that was asked for is none.
    #[error("{0:?} is no number: use one such as +13055551234 or 200")]
    BadNumber(String),
}

/// The dialplan of `config`: a file for `conf/dialplan/<context>/`, with comments that say what to do with it.
pub fn dialplan(config: &Config, order: &DialplanOrder) -> Result<String, DialplanError> {
    let numbers = numbers(config, order)?;
    let mut xml = Xml::default();
    match order.mode {
        Mode::Socket => socket(config, order, &numbers, &mut xml)?,
        Mode::Fork => fork(config, order, &numbers, &mut xml)?,
        Mode::Bridge => bridge(config, order, &numbers, &mut xml)?,
    }
    xml.close("condition");
    xml.close("extension");
    xml.line("</include>");
    Ok(xml.into_text())
}

/// Comment and beginning of the file, up to the numbers.
fn begin(order: &DialplanOrder, what: &str, steps: &[String], numbers: &Numbers, xml: &mut Xml) {
    let mut lines = vec![
        format!("{what}"),
        format!(
            "Printed by: tandem freeswitch dialplan, mode {}. Print it again when [numbers] changes.",
            order.mode
        ),
    ];
    let save = format!(
        "Save this as conf/dialplan/{0}/00_tandem.xml, which a stock dialplan/{0}.xml includes, then: fs_cli -x reloadxml",
        order.context
    );
    let steps = steps.iter().chain([&save]).enumerate();
    lines.extend(steps.map(|(index, step)| format!("{}. {step}", index + 1)));
    if !numbers.left_out.is_empty() {
        lines.push(format!("Left out, no agent answers them: {}.", numbers.left_out.join(", ")));
    }
    xml.comment(&lines);
    xml.line("<include>");
    xml.open("extension", &[("name", "tandem")]);
    if order.mode != Mode::Fork {
        xml.comment(&["Not where it was given back to, if that is a number of this context."]);
        let attributes = [("field", ELSEWHERE.0), ("expression", ELSEWHERE.1)];
        xml.empty("condition", &attributes);
    }
    xml.open("condition", &[("regex", "any")]);
    for number in &numbers.wanted {
        let attributes = [("field", "destination_number"), ("expression", &*number.expression)];
        xml.noted("regex", &attributes, &number.note);
    }
}

fn socket(
    config: &Config,
    order: &DialplanOrder,
    numbers: &Numbers,
    xml: &mut Xml,
) -> Result<(), DialplanError> {
    let freeswitch = config.freeswitch.as_ref().ok_or(DialplanError::NoSection)?;
    let outbound = freeswitch.outbound.first().ok_or(DialplanError::NoOutbound)?;
    let host = if outbound.ip().is_unspecified() {
        url_host(&freeswitch.url).to_owned()
    } else {
        // Not in brackets: the application takes all in front of the last colon for the host, and looks it up.
        outbound.ip().to_string()
    };
    begin(
        order,
        "Hands calls to Tandem, which answers them and starts the fork.",
        &[],
        numbers,
        xml,
    );
    if let Some(fallback) = &freeswitch.fallback {
        xml.action("set", &format!("tandem_route={fallback}"));
    }
    xml.action("socket", &format!("{host}:{} async full", outbound.port()));
    xml.comment(&[
        "Calls get here that Tandem gives back (tandem_route says where to), and all calls while it is away.",
    ]);
    xml.action("set", &format!("{GIVEN_BACK}=${{tandem_route}}"));
    xml.action("transfer", "${tandem_route}");
    xml.action("hangup", "NORMAL_TEMPORARY_FAILURE");
    Ok(())
}

fn fork(
    config: &Config,
    order: &DialplanOrder,
    numbers: &Numbers,
    xml: &mut Xml,
) -> Result<(), DialplanError> {
    let freeswitch = config.freeswitch.as_ref().ok_or(DialplanError::NoSection)?;
    let module = freeswitch.module;
    if module.playback() == Playback::Files && freeswitch.switches.is_empty() {
        return Err(DialplanError::NoEventSocket(module_name(module)));
    }
    let credentials = Credentials::of(freeswitch).ok_or(DialplanError::NoCredentials)?;
    begin(
        order,
        &format!("Answers calls and forks their audio to Tandem, module {}.", module_name(module)),
        &credentials.steps(module),
        numbers,
        xml,
    );
    xml.close("condition");
    xml.comment(&["Who calls, if it can stand in a command line as it is."]);
    for (field, expression, variable) in [
        ("caller_id_number", CALLER, "tandem_caller"),
        ("caller_id_name", CALLER_NAME, "tandem_caller_name"),
    ] {
        let attributes = [("field", field), ("expression", expression), ("break", "never")];
        xml.open("condition", &attributes);
        xml.action("set", &format!("{variable}=$1"));
        xml.close("condition");
    }
    xml.open("condition", &[("field", "destination_number"), ("expression", DIALLED)]);
    xml.action("answer", "");
    xml.comment(&["A parked channel plays nothing unless it writes silence."]);
    xml.action("set", "send_silence_when_idle=-1");
    let parked = longest_call_s(config) + PARKED_AFTER_S;
    xml.action("set", &format!("park_timeout={parked}:RECOVERY_ON_TIMER_EXPIRE"));
    let start = start(freeswitch, credentials);
    if start.contains("${tandem_rate}") {
        xml.action("set", "tandem_rate=${cond(${read_rate} == 8000 ? 8000 : 16000)}");
    }
    let secret = credentials.set(module, xml);
    xml.action("set", &format!("api_result=${{{start}}}"));
    if let Some(secret) = secret {
        xml.comment(&["It was read. Call records show the variables that are left."]);
        xml.action("unset", secret);
    }
    xml.action("park", "");
    Ok(())
}

/// The command that starts the fork: `uuid_audio_fork(…)`.
fn start(freeswitch: &FreeswitchConfig, credentials: Credentials<'_>) -> String {
    let module = freeswitch.module;
    let rate = match freeswitch.rate {
        Some(rate) => rate_text(rate),
        None => "${tandem_rate}".into(),
    };
    let token = match credentials {
        Credentials::Token if module.is_fork() => "token=$${tandem_fork_token}&",
        _ => "",
    };
    let back = match module.playback() {
        Playback::Files => "",
        Playback::Binary | Playback::Messages => "&back=${tandem_rate}",
    };
    let url = format!(
        "{}{}{}?{token}call=${{uuid}}&rate={rate}{back}&codec_rate=${{read_rate}}",
        freeswitch.url,
        freeswitch.prefix,
        module.path()
    );
    let metadata = r#"'{"uuid":"${uuid}","did":"$1","caller":"${tandem_caller}","caller_name":"${tandem_caller_name}"}'"#;
    match module {
        Dialect::AudioFork => {
            format!("uuid_audio_fork(${{uuid}} start {url} mono {rate} tandem {metadata})")
        }
        Dialect::AudioForkBidirectional => format!(
            "uuid_audio_fork(${{uuid}} start {url} mono {rate} tandem {metadata} true true ${{tandem_rate}})"
        ),
        Dialect::AudioStream | Dialect::AudioStreamRaw | Dialect::AudioStreamBase64 => {
            format!("uuid_audio_stream(${{uuid}} start {url} mono {rate} {metadata})")
        }
    }
}

fn bridge(
    config: &Config,
    order: &DialplanOrder,
    numbers: &Numbers,
    xml: &mut Xml,
) -> Result<(), DialplanError> {
    let by_udp = |listener: &&tandem_sip::Listener| listener.transport == Transport::Udp;
    let listeners = &config.sip.listen;
    let listener = listeners.iter().find(by_udp).or_else(|| listeners.first());
    let listener = listener.ok_or(DialplanError::NoSip)?;
    let mut address = listener.addr;
    if let Some(advertised) = config.sip.advertised {
        address.set_ip(advertised);
    }
    let address = if address.ip().is_unspecified() {
        let url = config.freeswitch.as_ref().map(|freeswitch| url_host(&freeswitch.url));
        format!("{}:{}", url.unwrap_or("127.0.0.1"), address.port())
    } else {
        address.to_string()
    };
    let transport = if listener.transport == Transport::Udp { "" } else { ";transport=tcp" };
    begin(
        order,
        "Bridges calls to Tandem by SIP.",
        &["`sip.trusted` of tandem.toml must hold the address of this FreeSWITCH.".into()],
        numbers,
        xml,
    );
    xml.close("condition");
    xml.open("condition", &[("field", "destination_number"), ("expression", DIALLED)]);
    xml.action("set", "hangup_after_bridge=true");
    let fallback = config.freeswitch.as_ref().and_then(|freeswitch| freeswitch.fallback.as_ref());
    if fallback.is_some() {
        xml.action("set", "continue_on_fail=true");
    }
    xml.comment(&[
        "X- headers are variables of the call: {{X-FreeSWITCH-UUID}} in prompts. Those of the caller's INVITE go along.",
    ]);
    xml.action("export", "nolocal:sip_h_X-FreeSWITCH-UUID=${uuid}");
    xml.action("bridge", &format!("sofia/{}/$1@{address}{transport}", order.profile));
    if let Some(fallback) = fallback {
        xml.action("set", &format!("{GIVEN_BACK}={fallback}"));
        xml.action("transfer", fallback);
    }
    Ok(())
}

/// What a fork that the dialplan starts is let in with.
#[derive(Debug, Clone, Copy)]
enum Credentials<'a> {
    /// HTTP Basic with this user name.
    User(&'a str),
    Token,
    /// Nothing: everything on this machine is let in.
    Nothing,
}

impl<'a> Credentials<'a> {
    fn of(freeswitch: &'a FreeswitchConfig) -> Option<Self> {
        if let Some((username, _)) = &freeswitch.user {
            return Some(Self::User(username));
        }
        if freeswitch.token.is_some() {
            return Some(Self::Token);
        }
        freeswitch.open_to_loopback.then_some(Self::Nothing)
    }

    /// What is to be done before the dialplan can be used.
    fn steps(self, module: Dialect) -> Vec<String> {
        let vars = |name: &str, what: &str| {
            vec![format!(
                "Set the global variable {name} to {what} in conf/vars.xml, which only FreeSWITCH should be able to read."
            )]
        };
        match self {
            Self::User(_) if module.is_fork() => {
                vars("tandem_fork_password", "the password of `freeswitch.user`")
            }
            Self::User(user) => vars(
                "tandem_fork_basic",
                &format!("what this prints: printf %s '{user}:PASSWORD' | base64 -w0"),
            ),
            Self::Token => vars("tandem_fork_token", "the token of `freeswitch.token_env`"),
            Self::Nothing => Vec::new(),
        }
    }

    /// The actions that give the module its settings; tells the variable that holds a secret.
    fn set(self, module: Dialect, xml: &mut Xml) -> Option<&'static str> {
        if module.is_fork() {
            let Self::User(user) = self else { return None };
            xml.action("set", &format!("MOD_AUDIO_BASIC_AUTH_USERNAME={user}"));
            xml.action("set", "MOD_AUDIO_BASIC_AUTH_PASSWORD=$${tandem_fork_password}");
            return Some("MOD_AUDIO_BASIC_AUTH_PASSWORD");
        }
        xml.comment(&["Unset, these two are anything."]);
        xml.action("set", "STREAM_MESSAGE_DEFLATE=true");
        xml.action("set", "STREAM_HEART_BEAT=0");
        match module.playback() {
            Playback::Files => {}
            Playback::Messages => xml.action("set", "STREAM_PLAYBACK=true"),
            Playback::Binary => {
                xml.action("set", "STREAM_PLAYBACK=true");
                xml.action("set", "STREAM_SAMPLE_RATE=${tandem_rate}");
            }
        }
        let authorization = match self {
            Self::User(_) => "Basic $${tandem_fork_basic}",
            Self::Token => "Bearer $${tandem_fork_token}",
            Self::Nothing => return None,
        };
        let headers = format!(r#"STREAM_EXTRA_HEADERS={{"Authorization":"{authorization}"}}"#);
        xml.action("set", &headers);
        Some("STREAM_EXTRA_HEADERS")
    }
}

fn rate_text(rate: SampleRate) -> String {
    rate.hz().to_string()
}

/// The host of `ws://host:port`.
fn url_host(url: &str) -> &str {
    let authority = url.split_once("//").map_or(url, |(_, authority)| authority);
    authority.split_once(':').map_or(authority, |(host, _)| host)
}

fn longest_call_s(config: &Config) -> u64 {
    config.agents.values().map(|agent| agent.max_duration.as_secs()).max().unwrap_or(3600)
}
