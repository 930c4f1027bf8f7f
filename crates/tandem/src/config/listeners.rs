//! Where calls come in: SIP listeners, who may call, and the ports that carry the audio.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::{Range, RangeInclusive},
    time::Duration,
};

use ipnet::IpNet;
use tandem_call::TransferKind;
use tandem_exchange::ConsultSettings;
use tandem_media::{Codec, SampleRate};
use tandem_sip::{CodecPreference, Credential, Listener, SipSettings, SrtpPolicy, Transport};

use super::{
    mistake::Mistakes,
    numbers::parse_kind,
    reader::{Section, Value},
    secret::{Surroundings, secret_source},
    sip_transfer::read_transfer,
};

/// `listener` as the configuration writes it: `udp:127.0.0.1:5060`.
pub fn listener_name(listener: &Listener) -> String {
    format!("{}:{}", listener.transport.name().to_ascii_lowercase(), listener.addr)
}

fn parse_listener(text: &str) -> Result<Listener, String> {
    let named = text
        .split_once(':')
        .and_then(|(name, address)| Some((Transport::from_name(name)?, address)));
    let Some((transport, address)) = named else {
        return Err(format!(
            "{text:?} does not begin with udp: or tcp:, as in \"udp:0.0.0.0:5060\""
        ));
    };
    let with_port = address.parse::<SocketAddr>();
    let addr = with_port.or_else(|_| address.parse().map(|ip| SocketAddr::new(ip, 5060)));
    let addr = addr.map_err(|_| {
        format!("{address:?} is no IP address with a port, as in 0.0.0.0:5060 or [::]:5060")
    })?;
    Ok(Listener { transport, addr })
}

/// The SIP endpoint when nothing is configured: this machine calls itself on port 5060.
pub(crate) fn default_sip() -> SipSettings {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 5060));
    let listen = [Transport::Udp, Transport::Tcp].map(|transport| Listener { transport, addr });
    SipSettings { listen: listen.into(), ..SipSettings::default() }
}

/// The audio of calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaConfig {
    /// Local address of the RTP sockets. By default loopback when all listeners are, else every address.
    pub bind: IpAddr,
    /// The address in SDP, where it is not the one that SIP is reached at.
    pub address: Option<IpAddr>,
    /// Ports for RTP (even) and RTCP (the odd one after).
    pub ports: RangeInclusive<u16>,
    /// A call without any RTP for so long is over.
    pub timeout: Duration,
    /// Media threads; none = one per core.
    pub workers: Option<u32>,
    /// Whether calls may, must or must not have protected media.
    pub srtp: SrtpPolicy,
    /// Keys beside plain RTP in an offer are taken, too.
    pub srtp_best_effort: bool,
}

impl MediaConfig {
    /// How many calls the port range has room for.
    pub fn capacity(&self) -> u32 {
        let first = u32::from(*self.ports.start()).next_multiple_of(2);
        (u32::from(*self.ports.end()) + 1).saturating_sub(first) / 2
    }
}

impl Default for MediaConfig {
    fn default() -> Self {
        Self {
            bind: Ipv4Addr::UNSPECIFIED.into(),
            address: None,
            ports: 20_000..=29_999,
            timeout: Duration::from_secs(60),
            workers: None,
            srtp: SrtpPolicy::Allow,
            srtp_best_effort: true,
        }
    }
}

/// Reads `[sip]`, and in it how attended transfers go.
pub(crate) fn read_sip(
    mut section: Section<'_, '_>,
    surroundings: &Surroundings<'_>,
) -> (SipSettings, ConsultSettings) {
    let mut sip = default_sip();
    if let Some(listen) = read_listen(&mut section) {
        sip.listen = listen;
    }
    sip.advertised = section.parsed("advertised", parse_own_ip);
    let trusted = section.list("trusted", 256);
    if let Some(trusted) = &trusted {
        sip.trusted = trusted.iter().filter_map(|value| value.parsed(parse_network)).collect();
    }
    if let Some(users) = section.list("users", 1000) {
        sip.users = users.iter().filter_map(|value| read_user(value, surroundings)).collect();
    }
    set(&mut sip.realm, section.parsed("realm", |realm| printable(realm, 100).map(str::to_owned)));
    set(&mut sip.codecs, read_codecs(&mut section));
    let preference = section.parsed("codec_preference", |word| match word {
        "ours" => Ok(CodecPreference::Ours),
        "theirs" => Ok(CodecPreference::Theirs),
        _ => Err(format!("{word:?} must be \"ours\" or \"theirs\"")),
    });
    set(&mut sip.codec_preference, preference);
    if let Some(expires) = section.seconds("session_expires_s", 90..=86_400) {
        sip.session_expires = Some(expires);
    }
    set(&mut sip.min_se, section.seconds("min_session_expires_s", 90..=86_400));
    if let Some(refer) = section.section("refer") {
        sip.refer_templates = read_refer(refer);
    }
    let transfer = section.section("transfer");
    let consult = transfer.map(|transfer| read_transfer(transfer, surroundings));
    set(&mut sip.refer_to_headers, section.boolean("refer_to_headers"));
    set(&mut sip.ring_timeout, section.seconds("ring_timeout_s", 1..=600));
    set(&mut sip.retry_after, section.count("retry_after_s", 1..=3600));
    let mut bound = |key, bound: &mut usize| {
        set(bound, section.count(key, 1..=100_000).map(|count| count as usize));
    };
    bound("max_unacked", &mut sip.limits.unacked);
    bound("max_unacked_per_source", &mut sip.limits.unacked_per_source);
    bound("max_connections", &mut sip.limits.connections);
    set(
        &mut sip.limits.requests_per_second_per_source,
        section.count("requests_per_second", 1..=100_000),
    );
    set(&mut sip.limits.burst, section.count("request_burst", 1..=100_000));

    let span = trusted
        .as_ref()
        .and_then(|values| values.first())
        .map_or_else(|| section.span().clone(), Value::span);
    warn_about_access(&sip, section.mistakes(), &span);
    if sip.session_expires.is_some_and(|expires| expires < sip.min_se) {
        section.mistakes().error_with_fix(
            section.span(),
            "`sip.min_session_expires_s` is longer than `sip.session_expires_s`",
            "make it the same or less",
        );
    }
    section.finish(&["tls", "register", "trunks"]);
    (sip, consult.unwrap_or_default())
}

/// Replaces `default` by what was read, if anything was.
pub(crate) fn set<T>(default: &mut T, read: Option<T>) {
    if let Some(read) = read {
        *default = read;
    }
}

fn read_listen(section: &mut Section<'_, '_>) -> Option<Vec<Listener>> {
    let value = section.value("listen")?;
    let values = value.list(32)?;
    let mut listeners = Vec::new();
    for item in &values {
        let Some(listener) = item.parsed(parse_listener) else { continue };
        if listeners.contains(&listener) {
            item.mistakes().error(
                &item.span(),
                format!("`sip.listen`: {} is listed twice", listener_name(&listener)),
            );
        } else {
            listeners.push(listener);
        }
    }
    if values.is_empty() {
        value.mistakes().error_with_fix(
            &value.span(),
            "`sip.listen` is empty, nobody could call",
            "name an address such as \"udp:0.0.0.0:5060\", or remove the key for 127.0.0.1",
        );
    }
    Some(listeners)
}

fn read_user(value: &Value<'_, '_>, surroundings: &Surroundings<'_>) -> Option<Credential> {
    let mut section = value.section()?;
    let username = section.parsed("username", |name| printable(name, 64).map(str::to_owned));
    let source = secret_source(&mut section, ["password", "password_env", "password_file"]);
    let (span, mistakes) = (value.span(), value.mistakes());
    section.finish(&[]);
    let Some(source) = source else {
        mistakes.error_with_fix(
            &span,
            "`sip.users`: a user without a password",
            "name the environment variable that holds it as `password_env`",
        );
        return None;
    };
    let Some(username) = username else {
        mistakes.error(&span, "`sip.users`: a user without a `username`");
        return None;
    };
    match source.read(surroundings) {
        Ok(password) => Some(Credential { username, password }),
        Err(why) => {
            mistakes.error_with_fix(
                &span,
                format!("`sip.users`: no password for {username:?}: {why}"),
                "set it, or remove the user",
            );
            None
        }
    }
}

fn read_codecs(section: &mut Section<'_, '_>) -> Option<Vec<Codec>> {
    let value = section.value("codecs")?;
    let mut codecs = Vec::new();
    for item in value.list(16)? {
        let Some(codec) = item.parsed(parse_codec) else { continue };
        if !codecs.contains(&codec) {
            codecs.push(codec);
        }
    }
    if codecs.is_empty() {
        value.mistakes().error_with_fix(
            &value.span(),
            "`sip.codecs` names no codec",
            "remove the key, or use [\"pcmu\", \"pcma\", \"g722\", \"opus\"]",
        );
    }
    Some(codecs)
}

/// The codec called `name`; Opus at its full rate.
pub(crate) fn parse_codec(name: &str) -> Result<Codec, String> {
    const NAMES: &str = "pcmu, pcma, g722, opus, l16/8000, l16/16000, l16/24000, l16/48000";
    let lower = name.to_ascii_lowercase();
    match lower.as_str() {
        "pcmu" | "ulaw" => return Ok(Codec::PCMU),
        "pcma" | "alaw" => return Ok(Codec::PCMA),
        "g722" => return Ok(Codec::G722),
        "opus" => return Ok(Codec::Opus(SampleRate::Hz48000)),
        "l16" => return Err("\"l16\" needs its rate, as in \"l16/16000\"".into()),
        _ => {}
    }
    lower
        .strip_prefix("l16/")
        .and_then(|hz| SampleRate::from_hz(hz.parse().ok()?))
        .map(Codec::L16)
        .ok_or_else(|| format!("{name:?} is no codec we have: {NAMES}"))
}

fn read_refer(section: Section<'_, '_>) -> Vec<(TransferKind, String)> {
    let mut templates = Vec::new();
    for (name, value) in section.entries(16) {
        let kind = match parse_kind(&name) {
            Ok(kind) => kind,
            Err(why) => {
                value.mistakes().error(value.key_span(), format!("`sip.refer`: {why}"));
                continue;
            }
        };
        let template = value.parsed(|template| {
            let template = printable(template, 256)?;
            let scheme = template.starts_with("sip:") || template.starts_with("tel:");
            if !scheme || !template.contains("{target}") {
                return Err(format!("{template:?} must look like \"sip:{{target}}@{{host}}\""));
            }
            Ok(template.to_owned())
        });
        if let Some(template) = template {
            templates.push((kind, template));
        }
    }
    templates
}

fn warn_about_access(config: &SipSettings, mistakes: &Mistakes<'_>, span: &Range<usize>) {
    if config.trusted.iter().any(|net| net.prefix_len() == 0) {
        mistakes.warning(
            span,
            "`sip.trusted` lets everybody call without a password",
            "list the networks of your PBX and trunks instead",
        );
    }
    let reachable = config.listen.iter().any(|listener| !listener.addr.ip().is_loopback());
    let only_loopback =
        config.trusted.iter().all(|net| net.network().is_loopback() && net.prefix_len() >= 8);
    if reachable && only_loopback && config.users.is_empty() {
        mistakes.warning(
            span,
            "other machines can reach the listener but none of them may call",
            "add your PBX's network to `sip.trusted`, or a user to `sip.users`",
        );
    }
}

/// Reads `[media]`; also tells whether it has a `bind`.
pub(crate) fn read_media(mut section: Section<'_, '_>) -> (MediaConfig, bool) {
    let defaults = MediaConfig::default();
    let bind = section.parsed("bind", |text| {
        text.parse::<IpAddr>().map_err(|_| format!("{text:?} is no IP address"))
    });
    let config = MediaConfig {
        bind: bind.unwrap_or(defaults.bind),
        address: section.parsed("address", parse_own_ip),
        ports: section.parsed("ports", parse_ports).unwrap_or(defaults.ports),
        timeout: section.seconds("timeout_s", 5..=3600).unwrap_or(defaults.timeout),
        workers: section.count("workers", 1..=256),
        srtp: section.parsed("srtp", parse_srtp).unwrap_or(defaults.srtp),
        srtp_best_effort: section.boolean("srtp_best_effort").unwrap_or(defaults.srtp_best_effort),
    };
    section.finish(&[]);
    (config, bind.is_some())
}

/// Whether media may, must or must not be protected.
pub(crate) fn parse_srtp(word: &str) -> Result<SrtpPolicy, String> {
    SrtpPolicy::from_name(word)
        .ok_or_else(|| format!("{word:?} must be \"off\", \"allow\" or \"require\""))
}

/// Where RTP sockets are bound when nothing is said: where the listeners are.
pub(crate) fn default_bind(listen: &[Listener]) -> IpAddr {
    let addresses = || listen.iter().map(|listener| listener.addr.ip());
    match listen.first() {
        Some(first) if addresses().all(|ip| ip == first.addr.ip()) => first.addr.ip(),
        Some(_) if addresses().all(|ip| ip.is_ipv4()) => Ipv4Addr::UNSPECIFIED.into(),
        _ => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = || format!("{text:?} is no port range, as in \"20000-29999\"");
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let first: u16 = first.trim().parse().map_err(|_| wrong())?;
    let last: u16 = last.trim().parse().map_err(|_| wrong())?;
    if first < 1024 || u32::from(last) < u32::from(first).next_multiple_of(2) + 1 {
        return Err(format!(
            "{text:?} must begin at 1024 or above and hold an even port and the odd one after it"
        ));
    }
    Ok(first..=last)
}

/// An address that can stand in SDP.
fn parse_own_ip(text: &str) -> Result<IpAddr, String> {
    let ip: IpAddr = text.parse().map_err(|_| format!("{text:?} is no IP address"))?;
    if ip.is_unspecified() || ip.is_multicast() {
        return Err(format!("{text:?} is no address that a peer could send to"));
    }
    Ok(ip)
}

pub(crate) fn parse_network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| format!("{text:?} is no network, as in \"10.0.0.0/8\" or \"192.0.2.7\""))
}

/// `text` if it has 1 to `max` characters that are safe in a SIP message.
pub(crate) fn printable(text: &str, max: usize) -> Result<&str, String> {
    if text.is_empty() || text.len() > max {
        return Err(format!("must have 1 to {max} characters"));
    }
    if text.chars().any(|c| c.is_control() || matches!(c, '"' | '<' | '>' | '\\')) {
        return Err("must hold no control character, quote, bracket or backslash".into());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_names_transport_and_address() {
        for (text, shown) in [
            ("udp:127.0.0.1:5060", "udp:127.0.0.1:5060"),
            ("tcp:0.0.0.0", "tcp:0.0.0.0:5060"),
            ("udp:[::1]:5080", "udp:[::1]:5080"),
            ("udp:::1", "udp:[::1]:5060"),
        ] {
            assert_eq!(listener_name(&parse_listener(text).unwrap()), shown);
        }
        for text in ["127.0.0.1:5060", "tls:127.0.0.1:5061", "udp:pbx.example:5060", "udp:", ""] {
            assert!(parse_listener(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_codec_has_a_name_and_linear_audio_a_rate() {
        for (name, codec) in [
            ("PCMU", Codec::PCMU),
            ("alaw", Codec::PCMA),
            ("G722", Codec::G722),
            ("opus", Codec::Opus(SampleRate::Hz48000)),
            ("L16/16000", Codec::L16(SampleRate::Hz16000)),
        ] {
            assert_eq!(parse_codec(name), Ok(codec), "{name}");
        }
        for name in ["g729", "l16", "l16/44100", "l16/", "l16/+8000x", "opus/48000", ""] {
            let why = parse_codec(name).unwrap_err();
            assert!(why.contains("l16/16000"), "{name}: {why}");
        }
    }

    #[test]
    fn a_port_range_holds_pairs_that_begin_even() {
        for (text, calls) in
            [("20000-20001", 1), ("20001-20003", 1), ("20000-29999", 5000), ("1024-65535", 32_256)]
        {
            let config =
                MediaConfig { ports: parse_ports(text).unwrap(), ..MediaConfig::default() };
            assert_eq!(config.capacity(), calls, "{text}");
        }
        for text in
            ["", "20000", "20000-20000", "20001-20002", "30000-20000", "80-90", "20000-70000"]
        {
            assert!(parse_ports(text).is_err(), "{text}");
        }
    }
}
