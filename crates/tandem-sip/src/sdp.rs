//! Session descriptions (RFC 8866): what of them a telephone call needs, read leniently and written strictly.

use std::{fmt, net::IpAddr};

use tandem_rtp::Direction;

/// The longest description we read.
pub const MAX_SDP: usize = 64 * 1024;
/// The longest line.
pub const MAX_LINE: usize = 4 * 1024;
/// The most `m=` lines.
pub const MAX_MEDIA: usize = 32;
/// The most `a=` lines of one section.
pub const MAX_ATTRIBUTES: usize = 256;
/// The most formats of one `m=` line.
pub const MAX_FORMATS: usize = 64;

/// Why text is no session description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// Above [`MAX_SDP`], [`MAX_LINE`], [`MAX_MEDIA`], [`MAX_ATTRIBUTES`] or [`MAX_FORMATS`].
    #[error("too long")]
    TooLong,
    /// No UTF-8.
    #[error("no UTF-8")]
    Encoding,
    /// The first line is not `v=0`.
    #[error("no v=0")]
    Version,
    /// No `o=` line.
    #[error("no o=")]
    NoOrigin,
    /// A line that cannot be read.
    #[error("bad line {number}")]
    Line {
        /// Counts from 1.
        number: usize,
    },
}

/// A description of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionDescription {
    /// Who made it, and which version it is.
    pub origin: Origin,
    /// `c=` for media without their own.
    pub connection: Option<Connection>,
    /// `a=` of the session.
    pub attributes: Vec<Attribute>,
    /// The media, in order.
    pub media: Vec<Media>,
}

/// `o=`: username, session id, version and address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// User name, `-` for none.
    pub username: String,
    /// Stays the same for a whole dialog.
    pub session_id: String,
    /// Rises by one when the description changes.
    pub version: String,
    /// The address of its maker.
    pub address: Connection,
}

/// `c=`: an address or a host name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Without TTL. May be a name.
    pub host: String,
    /// `IP6` rather than `IP4`.
    pub ip6: bool,
}

impl Connection {
    /// The connection of an address.
    pub fn from_ip(ip: IpAddr) -> Self {
        Self { host: ip.to_string(), ip6: ip.is_ipv6() }
    }

    /// The address, unless it is a host name.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (Some("IN"), Some(kind), Some(host), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return None;
        };
        let ip6 = match kind {
            "IP4" => false,
            "IP6" => true,
            _ => return None,
        };
        let host = host.split('/').next().filter(|host| !host.is_empty())?;
        Some(Self { host: host.to_owned(), ip6 })
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IN {} {}", if self.ip6 { "IP6" } else { "IP4" }, self.host)
    }
}

/// `a=name` or `a=name:value`. `Debug` leaves out the keys of `a=crypto`.
#[derive(Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Before the colon.
    pub name: String,
    /// After it.
    pub value: Option<String>,
}

impl Attribute {
    /// `a=name`.
    pub fn flag(name: &str) -> Self {
        Self { name: name.into(), value: None }
    }

    /// `a=name:value`.
    pub fn new(name: &str, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: Some(value.into()) }
    }
}

impl fmt::Debug for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.as_deref();
        let shown = if self.name == "crypto" {
            value.map(|line| line.split_once(" inline:").map_or("...", |(head, _)| head))
        } else {
            value
        };
        f.debug_struct("Attribute").field("name", &self.name).field("value", &shown).finish()
    }
}

/// One `m=` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// `audio`, `video`, `image`, ...
    pub kind: String,
    /// 0 refuses or removes the medium.
    pub port: u16,
    /// `RTP/AVP`, `udptl`, ...
    pub protocol: String,
    /// Payload types or other formats.
    pub formats: Vec<String>,
    /// Its own `c=`.
    pub connection: Option<Connection>,
    /// Its `a=` lines.
    pub attributes: Vec<Attribute>,
}

/// What a payload type stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoding {
    /// `PCMU`, `telephone-event`, ...
    pub name: String,
    /// RTP clock.
    pub clock_hz: u32,
    /// 1 unless said otherwise.
    pub channels: u8,
}

impl Media {
    /// The value of the first attribute `name`; `Some("")` when it has none.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        attribute(&self.attributes, name)
    }

    /// What `format` stands for: its `a=rtpmap`, else the static assignment (RFC 3551 §6).
    pub fn encoding(&self, format: &str) -> Option<Encoding> {
        let mapped = self
            .attributes
            .iter()
            .filter(|attribute| attribute.name == "rtpmap")
            .filter_map(|attribute| attribute.value.as_deref()?.split_once(' '))
            .find(|(payload_type, _)| payload_type.trim() == format);
        if let Some((_, encoding)) = mapped {
            let mut parts = encoding.trim().split('/');
            return Some(Encoding {
                name: parts.next()?.to_owned(),
                clock_hz: parts.next()?.parse().ok()?,
                channels: parts.next().map_or(Some(1), |channels| channels.parse().ok())?,
            });
        }
        let (name, clock_hz) = match format {
            "0" => ("PCMU", 8000),
            "3" => ("GSM", 8000),
            "4" => ("G723", 8000),
            "8" => ("PCMA", 8000),
            "9" => ("G722", 8000),
            "10" | "11" => ("L16", 44_100),
            "13" => ("CN", 8000),
            "15" => ("G728", 8000),
            "18" => ("G729", 8000),
            _ => return None,
        };
        Some(Encoding { name: name.into(), clock_hz, channels: if format == "10" { 2 } else { 1 } })
    }

    /// The value of parameter `name` in the `a=fmtp` lines of `format`, compared without case; the first one counts.
    pub fn format_parameter(&self, format: &str, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .filter(|attribute| attribute.name == "fmtp")
            .filter_map(|attribute| attribute.value.as_deref()?.trim().split_once([' ', '\t']))
            .filter(|(payload_type, _)| *payload_type == format)
            .flat_map(|(_, parameters)| parameters.split(';'))
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(other, _)| other.trim().eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    /// The direction as its maker sees it, if the section says one.
    pub fn direction(&self) -> Option<Direction> {
        direction(&self.attributes)
    }
}

impl SessionDescription {
    /// Reads a description. Lines may end in CRLF or LF; kinds of lines that do not matter here are skipped.
    pub fn parse(bytes: &[u8]) -> Result<Self, SdpError> {
        if bytes.len() > MAX_SDP {
            return Err(SdpError::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| SdpError::Encoding)?;
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
        if lines.next().map(|(_, line)| line.trim_end()) != Some("v=0") {
            return Err(SdpError::Version);
        }
        let mut origin = None;
        let mut session = Section { connection: None, attributes: Vec::new() };
        let mut media: Vec<Media> = Vec::new();
        for (number, line) in lines {
            if line.len() > MAX_LINE {
                return Err(SdpError::TooLong);
            }
            let line = line.trim_end();
            if line.is_empty() {
                continue;
            }
            let bad = || SdpError::Line { number };
            let (kind, value) = line.split_once('=').ok_or_else(bad)?;
            if value.chars().any(|c| c.is_control() && c != '\t') {
                return Err(bad());
            }
            match kind {
                "o" => origin = Some(Origin::parse(value).ok_or_else(bad)?),
                "m" => {
                    if media.len() >= MAX_MEDIA {
                        return Err(SdpError::TooLong);
                    }
                    media.push(parse_media(value, number)?);
                }
                "c" => {
                    let connection = Connection::parse(value).ok_or_else(bad)?;
                    match media.last_mut() {
                        // More than one is for layered multicast; the first counts.
                        Some(media) => media.connection.get_or_insert(connection),
                        None => session.connection.get_or_insert(connection),
                    };
                }
                "a" => {
                    let attributes = media
                        .last_mut()
                        .map_or(&mut session.attributes, |media| &mut media.attributes);
                    if attributes.len() >= MAX_ATTRIBUTES {
                        return Err(SdpError::TooLong);
                    }
                    let (name, value) = match value.split_once(':') {
                        Some((name, value)) => (name, Some(value.to_owned())),
                        None => (value, None),
                    };
                    attributes.push(Attribute { name: name.to_owned(), value });
                }
                _ => {}
            }
        }
        Ok(Self {
            origin: origin.ok_or(SdpError::NoOrigin)?,
            connection: session.connection,
            attributes: session.attributes,
            media,
        })
    }

    /// The direction of `media` as its maker sees it: its own, else the session's, else both ways.
    pub fn direction_of(&self, media: &Media) -> Direction {
        media.direction().or_else(|| direction(&self.attributes)).unwrap_or_default()
    }

    /// The connection of `media`: its own, else the session's.
    pub fn connection_of<'a>(&'a self, media: &'a Media) -> Option<&'a Connection> {
        media.connection.as_ref().or(self.connection.as_ref())
    }
}

impl fmt::Display for SessionDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin { username, session_id, version, address } = &self.origin;
        write!(f, "v=0\r\no={username} {session_id} {version} {address}\r\ns=-\r\n")?;
        if let Some(connection) = &self.connection {
            write!(f, "c={connection}\r\n")?;
        }
        f.write_str("t=0 0\r\n")?;
        write_attributes(f, &self.attributes)?;
        for media in &self.media {
            let Media { kind, port, protocol, formats, connection, attributes } = media;
            write!(f, "m={kind} {port} {protocol} {}\r\n", formats.join(" "))?;
            if let Some(connection) = connection {
                write!(f, "c={connection}\r\n")?;
            }
            write_attributes(f, attributes)?;
        }
        Ok(())
    }
}

struct Section {
    connection: Option<Connection>,
    attributes: Vec<Attribute>,
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (username, session_id, version) = (words.next()?, words.next()?, words.next()?);
        let address: Vec<_> = words.collect();
        Some(Self {
            username: username.to_owned(),
            session_id: session_id.to_owned(),
            version: version.to_owned(),
            address: Connection::parse(&address.join(" "))?,
        })
    }
}

fn parse_media(text: &str, number: usize) -> Result<Media, SdpError> {
    let mut words = text.split_whitespace();
    let (Some(kind), Some(port), Some(protocol)) = (words.next(), words.next(), words.next())
    else {
        return Err(SdpError::Line { number });
    };
    let port = port
        .split('/')
        .next()
        .and_then(|port| port.parse().ok())
        .ok_or(SdpError::Line { number })?;
    let formats: Vec<_> = words.take(MAX_FORMATS + 1).map(str::to_owned).collect();
    if formats.len() > MAX_FORMATS {
        return Err(SdpError::TooLong);
    }
    if formats.is_empty() {
        return Err(SdpError::Line { number });
    }
    Ok(Media {
        kind: kind.to_owned(),
        port,
        protocol: protocol.to_owned(),
        formats,
        connection: None,
        attributes: Vec::new(),
    })
}

fn attribute<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.name == name)?;
    Some(found.value.as_deref().unwrap_or("").trim())
}

fn direction(attributes: &[Attribute]) -> Option<Direction> {
    attributes.iter().find_map(|attribute| match attribute.name.as_str() {
        "sendrecv" => Some(Direction::SendRecv),
        "sendonly" => Some(Direction::SendOnly),
        "recvonly" => Some(Direction::RecvOnly),
        "inactive" => Some(Direction::Inactive),
        _ => None,
    })
}

fn write_attributes(f: &mut fmt::Formatter<'_>, attributes: &[Attribute]) -> fmt::Result {
    for Attribute { name, value } in attributes {
        match value {
            Some(value) => write!(f, "a={name}:{value}\r\n")?,
            None => write!(f, "a={name}\r\n")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FREESWITCH: &str = "v=0
o=FreeSWITCH 1767200001 1767200002 IN IP4 198.51.100.7
s=FreeSWITCH
c=IN IP4 198.51.100.7
t=0 0
m=audio 24680 RTP/AVP 102 9 8 0 103 101
a=rtpmap:102 opus/48000/2
a=fmtp:102 useinbandfec=1; maxaveragebitrate=30000
a=rtpmap:9 G722/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:103 telephone-event/48000
a=rtpmap:101 telephone-event/8000
a=rtcp:24681 IN IP4 198.51.100.7
a=ptime:20
m=video 0 RTP/AVP 96
";

    #[test]
    fn a_freeswitch_offer() {
        let sdp = SessionDescription::parse(FREESWITCH.as_bytes()).unwrap();
        assert_eq!(sdp.origin.session_id, "1767200001");
        let audio = &sdp.media[0];
        assert_eq!((audio.port, audio.formats.len()), (24680, 6));
        for (format, name, clock_hz, channels) in
            [("102", "opus", 48000, 2), ("0", "PCMU", 8000, 1), ("101", "telephone-event", 8000, 1)]
        {
            assert_eq!(
                audio.encoding(format),
                Some(Encoding { name: name.into(), clock_hz, channels })
            );
        }
        assert_eq!(audio.encoding("97"), None);
        for (format, name, value) in [
            ("102", "useinbandfec", Some("1")),
            ("102", "MaxAverageBitrate", Some("30000")),
            ("102", "usedtx", None),
            ("9", "useinbandfec", None),
        ] {
            assert_eq!(audio.format_parameter(format, name), value, "{format} {name}");
        }
        assert_eq!(audio.attribute("ptime"), Some("20"));
        assert_eq!(sdp.connection_of(audio).unwrap().ip(), "198.51.100.7".parse().ok());
        assert_eq!(sdp.direction_of(audio), Direction::SendRecv);
        assert_eq!(sdp.media[1].port, 0);
    }

    #[test]
    fn session_level_values_hold_for_media_without_their_own() {
        let text = "v=0\r\no=- 1 1 IN IP6 ::1\r\ns=-\r\nc=IN IP6 2001:db8::7\r\na=sendonly\r\nt=0 0\r\nm=audio 1 RTP/AVP 0\r\nm=audio 2 RTP/AVP 0\r\nc=IN IP4 gw.example.net\r\na=inactive\r\n";
        let sdp = SessionDescription::parse(text.as_bytes()).unwrap();
        assert_eq!(sdp.direction_of(&sdp.media[0]), Direction::SendOnly);
        assert_eq!(sdp.direction_of(&sdp.media[1]), Direction::Inactive);
        assert_eq!(sdp.connection_of(&sdp.media[0]).unwrap().ip(), "2001:db8::7".parse().ok());
        assert_eq!(sdp.connection_of(&sdp.media[1]).unwrap().ip(), None);
    }

    #[test]
    fn bad_descriptions_are_refused() {
        let head = "v=0\no=- 1 1 IN IP4 1.1.1.1\n";
        let many_media = format!("{head}{}", "m=audio 1 RTP/AVP 0\n".repeat(MAX_MEDIA + 1));
        let many_lines = format!("{head}{}", "a=x\n".repeat(MAX_ATTRIBUTES + 1));
        let long_line = format!("{head}a={}\n", "x".repeat(MAX_LINE));
        let formats = format!("{head}m=audio 1 RTP/AVP{}\n", " 0".repeat(MAX_FORMATS + 1));
        for (name, text, error) in [
            ("empty", "", SdpError::Version),
            ("no version", "o=- 1 1 IN IP4 1.1.1.1\n", SdpError::Version),
            ("no origin", "v=0\ns=-\n", SdpError::NoOrigin),
            ("no equals sign", "v=0\nhello\n", SdpError::Line { number: 2 }),
            ("bad port", "v=0\nm=audio 70000 RTP/AVP 0\n", SdpError::Line { number: 2 }),
            ("no format", "v=0\nm=audio 1 RTP/AVP\n", SdpError::Line { number: 2 }),
            ("bad address kind", "v=0\nc=IN IPX 1.1.1.1\n", SdpError::Line { number: 2 }),
            ("media bomb", &many_media, SdpError::TooLong),
            ("attribute bomb", &many_lines, SdpError::TooLong),
            ("long line", &long_line, SdpError::TooLong),
            ("format bomb", &formats, SdpError::TooLong),
        ] {
            assert_eq!(SessionDescription::parse(text.as_bytes()), Err(error), "{name}");
        }
        assert_eq!(SessionDescription::parse(&[b'v'; MAX_SDP + 1]), Err(SdpError::TooLong));
        assert_eq!(SessionDescription::parse(b"v=0\na=\xff"), Err(SdpError::Encoding));
    }

    proptest! {
        #[test]
        fn what_parses_is_written_and_parses_again(
            at in 0_usize..500, byte in any::<u8>(), cut in 0_usize..600,
        ) {
            let mut bytes = FREESWITCH.as_bytes().to_vec();
            if let Some(target) = bytes.get_mut(at) { *target = byte; }
            bytes.truncate(cut);
            if let Ok(sdp) = SessionDescription::parse(&bytes) {
                prop_assert_eq!(SessionDescription::parse(sdp.to_string().as_bytes()), Ok(sdp));
            }
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = SessionDescription::parse(&bytes);
        }
    }
}
