//! FreeSWITCH beside Tandem: where its forks and its event sockets come in, and the switches we connect to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use tandem_call::TransferKind;
use tandem_media::SampleRate;
use tandem_pbx::{TransferPlan, TransferSettings, Word};
use tandem_streams::Dialect;

use super::{
    listeners::{parse_network, printable, set},
    reader::{Section, Value},
    secret::{Surroundings, secret_source},
    switch_tools::{SwitchTools, read_switch_tools},
};

/// Where FreeSWITCH's own event socket listens unless told otherwise.
const EVENT_SOCKET_PORT: u16 = 8021;

/// Channel variables that become call variables unless told otherwise; `*` stands at the end only.
const VARIABLES: [&str; 4] = ["sip_h_X-*", "sip_h_User-to-User", "sip_h_P-*", "sip_call_id"];

/// A token shorter than this could be guessed.
const SHORTEST_TOKEN: usize = 16;

/// User name and password that `mod_audio_fork` carries: it has 128 bytes for the whole `Authorization` header, and
/// connects without any credentials when they do not fit.
const LONGEST_BASIC: usize = 89;

/// `[freeswitch]`.
#[derive(Debug, Clone)]
pub struct FreeswitchConfig {
    /// Where fork websockets come in; never empty.
    pub listen: Vec<SocketAddr>,
    /// That place as FreeSWITCH reaches it: `ws://host:port`, without a slash at the end.
    pub url: String,
    /// What stands before the dialects' paths.
    pub prefix: String,
    /// HTTP Basic user name and password of forks that a dialplan starts.
    pub user: Option<(String, SecretString)>,
    /// A token that such forks may have in their URL instead.
    pub token: Option<SecretString>,
    /// Forks from this machine need neither.
    pub open_to_loopback: bool,
    /// Where the dialplan's `socket` application comes in; empty = it can't.
    pub outbound: Vec<SocketAddr>,
    /// Who may connect there.
    pub outbound_allowed: Vec<IpNet>,
    /// The fork module of the switches, by the way it is spoken to.
    pub module: Dialect,
    /// Sample rate of forks that Tandem starts; none = the call's codec at 8 kHz, else 16 kHz.
    pub rate: Option<SampleRate>,
    /// Channel variables that become call variables: names, or beginnings before a `*`.
    pub variables: Vec<String>,
    /// Where a call goes when it can't go on with Tandem: `2000 XML default`. None: it is hung up.
    pub fallback: Option<String>,
    /// What throws away the audio that a two-way `mod_audio_stream` holds; none where nothing is known to do it.
    pub stream_clear: Option<String>,
    /// How each kind of transfer target is reached; a plan can be made of it.
    pub transfer: TransferSettings,
    /// What agents may do with the channels.
    pub tools: SwitchTools,
    /// Event sockets we connect to.
    pub switches: Vec<SwitchConfig>,
}

/// `[freeswitch.switches.<name>]`.
#[derive(Debug, Clone)]
pub struct SwitchConfig {
    /// Its name here.
    pub name: String,
    /// Host and port of its event socket.
    pub address: String,
    /// The user to log in as, `name@domain`; none = the socket's own password.
    pub user: Option<String>,
    /// The password.
    pub password: SecretString,
}

/// Reads `[freeswitch]`.
pub(crate) fn read_freeswitch(
    mut section: Section<'_, '_>,
    surroundings: &Surroundings<'_>,
) -> FreeswitchConfig {
    let mut config = FreeswitchConfig {
        listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 8090))],
        url: String::new(),
        prefix: "/freeswitch".into(),
        user: None,
        token: None,
        open_to_loopback: false,
        outbound: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 8084))],
        outbound_allowed: Vec::new(),
        module: Dialect::AudioForkBidirectional,
        rate: None,
        variables: VARIABLES.map(str::to_owned).into(),
        fallback: None,
        stream_clear: None,
        transfer: TransferSettings::default(),
        tools: SwitchTools::default(),
        switches: Vec::new(),
    };
    set(&mut config.listen, read_listen(&mut section));
    set(&mut config.outbound, read_outbound(&mut section, &config.listen));
    let allowed = section.list("outbound_allowed", 256).map(|values| {
        values.iter().filter_map(|value| value.parsed(parse_network)).collect::<Vec<_>>()
    });
    config.outbound_allowed = allowed.unwrap_or_else(loopback);
    set(&mut config.prefix, section.parsed("prefix", parse_prefix));
    set(&mut config.module, section.parsed("module", parse_module));
    config.user =
        section.value("user").and_then(|value| read_user(&value, config.module, surroundings));
    config.token = read_token(&mut section, surroundings);
    set(&mut config.open_to_loopback, section.boolean("open_to_loopback"));
    config.rate = section.value("rate").and_then(|value| read_rate(&value)).flatten();
    if let Some(names) = section.list("variables", 64) {
        config.variables = names.iter().filter_map(|name| name.parsed(parse_variable)).collect();
    }
    config.fallback = section.parsed("fallback", parse_fallback);
    config.stream_clear = section.string("stream_clear", 1_000);
    set(&mut config.transfer, section.section("transfer").map(read_transfer));
    set(&mut config.tools, section.section("tools").map(read_switch_tools));
    if let Some(switches) = section.section("switches") {
        config.switches = read_switches(switches, surroundings);
    }
    match section.value("url") {
        Some(url) => set(&mut config.url, url.parsed(parse_url)),
        None => config.url = own_url(&config, &section),
    }
    warn(&config, &section);
    section.finish(&["tls"]);
    config
}

/// The first of these listeners that a fork module can reach, as it reaches it; the modules read no IPv6 address.
pub(crate) fn default_url(listen: &[SocketAddr]) -> Option<String> {
    let readable = |address: &&SocketAddr| address.is_ipv4() || address.ip().is_unspecified();
    let address = listen.iter().find(readable)?;
    if address.ip().is_unspecified() {
        return Some(format!("ws://127.0.0.1:{}", address.port()));
    }
    Some(format!("ws://{address}"))
}

/// The URL that nobody wrote.
fn own_url(config: &FreeswitchConfig, section: &Section<'_, '_>) -> String {
    let Some(url) = default_url(&config.listen) else {
        if let Some(first) = config.listen.first() {
            section.mistakes().error_with_fix(
                section.span(),
                format!("`freeswitch.listen`: the fork modules can't read ws://{first}"),
                "listen on an IPv4 address, or name the host in `freeswitch.url`",
            );
        }
        return String::new();
    };
    let elsewhere = config.outbound_allowed.iter().any(|net| !net.addr().is_loopback())
        || config.switches.iter().any(|switch| !is_here(&switch.address));
    if elsewhere && url.starts_with("ws://127.") {
        section.mistakes().warning(
            section.span(),
            format!("FreeSWITCH on another machine can't send its forks to {url}"),
            "set `freeswitch.url` to this machine as FreeSWITCH reaches it, as in \"ws://10.0.0.9:8090\"",
        );
    }
    url
}

/// Whether `host:port` is this machine.
fn is_here(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn warn(config: &FreeswitchConfig, section: &Section<'_, '_>) {
    let mistakes = section.mistakes();
    if config.outbound_allowed.iter().any(|net| net.prefix_len() == 0) {
        mistakes.warning(
            section.span(),
            "`freeswitch.outbound_allowed` lets everybody hand calls over",
            "list the addresses of your switches instead",
        );
    }
    if config.switches.is_empty() {
        mistakes.warning(
            section.span(),
            "[freeswitch] names no switch: calls that a dialplan forks by itself can't be transferred or hung up with a cause",
            "add [freeswitch.switches.main] with `address` and `password_env`",
        );
    }
}

fn loopback() -> Vec<IpNet> {
    ["127.0.0.0/8", "::1/128"].map(|net| net.parse().expect("loopback is a network")).into()
}

fn read_listen(section: &mut Section<'_, '_>) -> Option<Vec<SocketAddr>> {
    let value = section.value("listen")?;
    let listen = read_addresses(&value, &[])?;
    if value.list(32)?.is_empty() {
        value.mistakes().error_with_fix(
            &value.span(),
            "`freeswitch.listen` is empty, no fork could come in",
            "name an address such as \"127.0.0.1:8090\", or remove the key",
        );
    }
    Some(listen)
}

fn read_outbound(section: &mut Section<'_, '_>, listen: &[SocketAddr]) -> Option<Vec<SocketAddr>> {
    read_addresses(&section.value("outbound")?, listen)
}

/// The addresses in a list, none of them twice and none among `taken`.
fn read_addresses(value: &Value<'_, '_>, taken: &[SocketAddr]) -> Option<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for item in value.list(32)? {
        let address = item.parsed(|text| {
            let address = text.parse::<SocketAddr>().map_err(|_| {
                format!("{text:?} is no IP address with a port, as in 127.0.0.1:8090 or [::]:8090")
            })?;
            if addresses.contains(&address) {
                return Err(format!("{address} is listed twice"));
            }
            if taken.contains(&address) && address.port() != 0 {
                return Err(format!("{address} is in `freeswitch.listen` already"));
            }
            Ok(address)
        });
        addresses.extend(address);
    }
    Some(addresses)
}

/// Whether a secret is named under `keys`, and the secret if it can be had.
fn read_secret(
    section: &mut Section<'_, '_>,
    keys: [&'static str; 3],
    surroundings: &Surroundings<'_>,
) -> (bool, Option<SecretString>) {
    let path = section.path().to_owned();
    let Some(source) = secret_source(section, keys) else { return (false, None) };
    match source.read(surroundings) {
        Ok(secret) => (true, Some(secret)),
        Err(why) => {
            section.mistakes().error_with_fix(
                section.span(),
                format!("`{path}`: no {}: {why}", keys[0]),
                "set it, or remove the key",
            );
            (true, None)
        }
    }
}

fn read_token(
    section: &mut Section<'_, '_>,
    surroundings: &Surroundings<'_>,
) -> Option<SecretString> {
    let token = read_secret(section, ["token", "token_env", "token_file"], surroundings).1?;
    let text = token.expose_secret();
    let shape = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    if text.len() < SHORTEST_TOKEN || text.len() > 256 || !text.chars().all(shape) {
        section.mistakes().error_with_fix(
            section.span(),
            format!("`freeswitch`: the token must have {SHORTEST_TOKEN} to 256 letters, digits and - . _ ~"),
            "make one with `openssl rand -hex 24`",
        );
        return None;
    }
    Some(token)
}

fn read_user(
    value: &Value<'_, '_>,
    module: Dialect,
    surroundings: &Surroundings<'_>,
) -> Option<(String, SecretString)> {
    let mut section = value.section()?;
    let username = section.value("username");
    let has_username = username.is_some();
    let username = username.and_then(|name| name.parsed(parse_username));
    let (has_password, password) =
        read_secret(&mut section, ["password", "password_env", "password_file"], surroundings);
    let (span, mistakes) = (value.span(), value.mistakes());
    section.finish(&[]);
    if !has_username || !has_password {
        mistakes.error_with_fix(
            &span,
            "`freeswitch.user` needs `username` and `password_env`",
            "for example { username = \"freeswitch\", password_env = \"TANDEM_FORK_PASSWORD\" }",
        );
    }
    let (username, password) = (username?, password?);
    let fork = matches!(module, Dialect::AudioFork | Dialect::AudioForkBidirectional);
    if fork && username.len() + password.expose_secret().len() > LONGEST_BASIC {
        mistakes.error_with_fix(
            &span,
            format!("`freeswitch.user`: name and password have more than {LONGEST_BASIC} bytes together, mod_audio_fork would connect without them"),
            "choose a shorter password",
        );
        return None;
    }
    Some((username, password))
}

fn read_switches(section: Section<'_, '_>, surroundings: &Surroundings<'_>) -> Vec<SwitchConfig> {
    let mut switches: Vec<SwitchConfig> = Vec::new();
    for (name, value) in section.entries(64) {
        if let Err(why) = parse_name(&name) {
            value.mistakes().error(value.key_span(), format!("[freeswitch.switches]: {why}"));
        }
        let Some(switch) = read_switch(name, &value, surroundings) else { continue };
        if let Some(other) = switches.iter().find(|other| other.address == switch.address) {
            value.mistakes().error_with_fix(
                value.key_span(),
                format!(
                    "[freeswitch.switches]: {:?} and {:?} are both at {}",
                    other.name, switch.name, switch.address
                ),
                "keep one of the two",
            );
        }
        switches.push(switch);
    }
    switches
}

fn read_switch(
    name: String,
    value: &Value<'_, '_>,
    surroundings: &Surroundings<'_>,
) -> Option<SwitchConfig> {
    let mut section = value.section()?;
    let address = section.value("address");
    let has_address = address.is_some();
    let address = address.and_then(|address| address.parsed(parse_address));
    let user = section.parsed("user", |user| {
        let user = printable(user, 128)?;
        let good = |part: &str| !part.is_empty() && !part.contains([':', ' ', '@']);
        match user.split_once('@') {
            Some((name, domain)) if good(name) && good(domain) => Ok(user.to_owned()),
            _ => Err(format!("{user:?} must look like \"tandem@pbx.example\"")),
        }
    });
    let (has_password, password) =
        read_secret(&mut section, ["password", "password_env", "password_file"], surroundings);
    let (span, mistakes) = (section.span().clone(), section.mistakes());
    section.finish(&["tls"]);
    if !has_address || !has_password {
        mistakes.error_with_fix(
            &span,
            format!("[freeswitch.switches.{name}] needs `address` and `password_env`"),
            "for example address = \"127.0.0.1:8021\", password_env = \"FREESWITCH_PASSWORD\"",
        );
    }
    Some(SwitchConfig { name, address: address?, user, password: password? })
}

fn read_transfer(mut section: Section<'_, '_>) -> TransferSettings {
    let mut settings = TransferSettings::default();
    set(&mut settings.ring_timeout, section.seconds("ring_timeout_s", 1..=300));
    type Field = fn(&mut TransferSettings, String);
    let fields: [(&'static str, Field); 7] = [
        ("domain", |settings, text| settings.domain = Some(text)),
        ("context", |settings, text| settings.context = text),
        ("gateway", |settings, text| settings.gateway = Some(text)),
        ("profile", |settings, text| settings.profile = text),
        ("ringback", |settings, text| settings.ringback = text),
        ("hold_music", |settings, text| settings.hold_music = text),
        ("announcement", |settings, text| settings.announcement = text),
    ];
    for (key, field) in fields {
        let read = section
            .parsed(key, |text| planned(&settings, |settings| field(settings, text.to_owned())));
        set(&mut settings, read);
    }
    for kind in TransferKind::ALL {
        let read = section.parsed(kind.name(), |action| {
            planned(&settings, |settings| settings.actions.push((kind, action.to_owned())))
        });
        set(&mut settings, read);
    }
    section.finish(&["operator", "ai_agent"]);
    settings
}

/// `settings` after `change`, if a plan can be made of them then.
fn planned(
    settings: &TransferSettings,
    change: impl FnOnce(&mut TransferSettings),
) -> Result<TransferSettings, String> {
    let mut settings = settings.clone();
    change(&mut settings);
    TransferPlan::new(&settings).map_err(|why| why.to_string())?;
    Ok(settings)
}

/// A name that can stand in a command or a header: of a switch, a user, a context, a domain.
pub(super) fn parse_name(name: &str) -> Result<String, String> {
    let shape = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(shape) {
        return Err(format!("{name:?} must have 1 to 64 letters, digits and - _ ."));
    }
    Ok(name.to_owned())
}

fn parse_username(name: &str) -> Result<String, String> {
    let shape = |c: char| c.is_ascii_alphanumeric() || "-_.@+".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(shape) {
        return Err(format!("{name:?} must have 1 to 64 letters, digits and - _ . @ +"));
    }
    Ok(name.to_owned())
}

fn parse_fallback(text: &str) -> Result<String, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if !(1..=3).contains(&words.len()) || words.iter().any(|word| Word::new(word).is_err()) {
        return Err(format!(
            "{text:?} must be an extension, its dialplan and its context, as in \"2000 XML default\""
        ));
    }
    Ok(words.join(" "))
}

fn parse_address(text: &str) -> Result<String, String> {
    if text.parse::<SocketAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().ok().filter(|port| *port > 0)),
        None => (text, Some(EVENT_SOCKET_PORT)),
    };
    let shape = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match port {
        Some(port) if (1..=255).contains(&host.len()) && host.chars().all(shape) => {
            Ok(format!("{host}:{port}"))
        }
        _ => Err(format!("{text:?} is no host with a port, as in \"127.0.0.1:8021\"")),
    }
}

fn parse_prefix(text: &str) -> Result<String, String> {
    let shape = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
    if text.len() > 128 || !text.starts_with('/') || text.ends_with('/') || !text.chars().all(shape)
    {
        return Err(format!("{text:?} must look like \"/freeswitch\""));
    }
    Ok(text.to_owned())
}

fn parse_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("ws://").or_else(|| text.strip_prefix("wss://"));
    let good = |authority: &str| {
        let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
        let shape = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
        !host.is_empty()
            && host.chars().all(shape)
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    match rest {
        Some(authority) if text.len() <= 256 && good(authority) => Ok(text.to_owned()),
        _ => {
            // A URL may hold a password.
            let shown = if text.contains('@') { "it".into() } else { format!("{text:?}") };
            Err(format!(
                "{shown} must look like \"ws://10.0.0.9:8090\": a name or an IPv4 address, and no path"
            ))
        }
    }
}

/// The dialect that the configuration calls `name`.
fn parse_module(name: &str) -> Result<Dialect, String> {
    Dialect::ALL.into_iter().find(|dialect| module_name(*dialect) == name).ok_or_else(|| {
        let names = Dialect::ALL.map(module_name).join(", ");
        format!("{name:?} is no module we know: {names}")
    })
}

/// What the configuration calls `dialect`.
pub(crate) const fn module_name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::AudioFork => "drachtio",
        Dialect::AudioForkBidirectional => "jambonz",
        Dialect::AudioStream => "stream",
        Dialect::AudioStreamRaw => "stream-raw",
        Dialect::AudioStreamBase64 => "stream-base64",
    }
}

/// `"codec"` is `Some(None)`.
fn read_rate(value: &Value<'_, '_>) -> Option<Option<SampleRate>> {
    if value.is_string() {
        return value.parsed(parse_rate);
    }
    let hz = value.integer(8_000..=48_000)?;
    let rate = usize::try_from(hz).ok().and_then(SampleRate::from_hz);
    if rate.is_none() {
        let message = format!("`{}`: {}", value.path(), not_a_rate(&hz.to_string()));
        value.mistakes().error(&value.span(), message);
    }
    rate.map(Some)
}

fn parse_rate(text: &str) -> Result<Option<SampleRate>, String> {
    if text == "codec" {
        return Ok(None);
    }
    let rate = text.parse().ok().and_then(SampleRate::from_hz);
    rate.map(Some).ok_or_else(|| not_a_rate(text))
}

fn not_a_rate(text: &str) -> String {
    format!("{text:?} must be \"codec\", 8000, 16000, 24000 or 48000")
}

fn parse_variable(name: &str) -> Result<String, String> {
    let shape = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let stem = name.strip_suffix('*').unwrap_or(name);
    if name.is_empty() || name.len() > 128 || !stem.chars().all(shape) {
        return Err(format!(
            "{name:?} is no channel variable, as in \"sip_h_X-Tenant\" or \"sip_h_X-*\""
        ));
    }
    Ok(name.to_owned())
}
