//! Offer and answer (RFC 3264) for one leg: codec, telephone-event and comfort noise, hold, resume, change of address.

mod formats;
mod payload_types;
mod security;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tandem_media::{Codec, Ptime};
use tandem_rtp::{Direction, Latching, MediaParams};
use tandem_srtp::MediaSecurity;

use crate::{
    CodecPreference, LocalMedia, LocalSecurity, SecurityError,
    sdp::{Attribute, Connection, Media, Origin, SdpError, SessionDescription},
};

use formats::{Format, codecs_of};
use payload_types::PayloadTypes;
use security::SecuritySide;

/// Why a description cannot be agreed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// No audio over RTP, or it is switched off: video only, T.38.
    #[error("no audio stream")]
    NoAudio,
    /// Nothing we could decode.
    #[error("no common codec, peer has {offered:?}")]
    NoCommonCodec {
        /// Names or payload types.
        offered: Vec<String>,
    },
    /// The media address is a host name, or missing.
    #[error("no media address: {0:?}")]
    NoAddress(String),
    /// Media cannot be sent there: another address family than ours, multicast, broadcast.
    #[error("cannot send media to {0}")]
    UnfitAddress(IpAddr),
    /// The two sides do not agree on its protection.
    #[error("{0}")]
    Security(#[from] SecurityError),
    /// Not a description.
    #[error("malformed SDP: {0}")]
    Malformed(#[from] SdpError),
}

impl OfferError {
    /// The final response to the request that carried the offer (RFC 3261 §21.4).
    pub const fn status(&self) -> u16 {
        match self {
            Self::NoAudio
            | Self::NoCommonCodec { .. }
            | Self::NoAddress(_)
            | Self::UnfitAddress(_)
            | Self::Security(_) => 488,
            Self::Malformed(_) => 400,
        }
    }

    /// The code for a Warning header (RFC 3261 §20.43).
    pub const fn warning(&self) -> u16 {
        match self {
            Self::NoAudio => 304,
            Self::NoCommonCodec { .. } => 305,
            Self::NoAddress(_) | Self::UnfitAddress(_) => 301,
            Self::Security(_) | Self::Malformed(_) => 399,
        }
    }
}

/// The codecs of an offer that are in `ours`, in the offer's order. Media must be able to reach its sender from
/// `local`.
pub(crate) fn offered_codecs(
    offer: &SessionDescription,
    ours: &[Codec],
    security: &LocalSecurity,
    local: IpAddr,
) -> Result<Vec<Codec>, OfferError> {
    let (index, _) = SecuritySide::new(security.clone()).choose(offer)?;
    let audio = &offer.media[index];
    remote_address(offer, audio, local)?;
    let mut codecs: Vec<Codec> = Vec::new();
    for (_, codec) in codecs_of(audio, ours) {
        if !codecs.contains(&codec) {
            codecs.push(codec);
        }
    }
    if codecs.is_empty() { Err(no_common_codec(audio)) } else { Ok(codecs) }
}

/// One side of the offer/answer exchange over the life of a dialog.
#[derive(Debug)]
pub(crate) struct Negotiator {
    local: LocalMedia,
    preference: CodecPreference,
    session_id: u64,
    version: u64,
    /// The last description sent, its version aside.
    sent: Option<SessionDescription>,
    /// What holds now.
    params: Option<MediaParams>,
    /// Which numbers stand for what.
    payload_types: PayloadTypes,
    security: SecuritySide,
    /// We have put the peer on hold.
    holding: bool,
    signalling: IpAddr,
}

impl Negotiator {
    pub(crate) fn new(
        local: LocalMedia,
        preference: CodecPreference,
        session_id: u64,
        signalling: IpAddr,
    ) -> Self {
        Self {
            security: SecuritySide::new(local.security.clone()),
            local,
            preference,
            session_id,
            version: 1,
            sent: None,
            params: None,
            payload_types: PayloadTypes::default(),
            holding: false,
            signalling,
        }
    }

    /// What was negotiated last.
    pub(crate) fn negotiated(&self) -> Option<&MediaParams> {
        self.params.as_ref()
    }

    /// How media is protected by what was negotiated last.
    pub(crate) fn security(&self) -> &MediaSecurity {
        self.security.agreed()
    }

    /// Whether we have put the peer on hold.
    pub(crate) const fn is_holding(&self) -> bool {
        self.holding
    }

    /// Puts the peer on hold in what is offered and answered from now on.
    pub(crate) fn set_holding(&mut self, holding: bool) {
        self.holding = holding;
    }

    /// Answers `offer`. After an error everything is as before (RFC 6337 §3.1).
    pub(crate) fn answer(
        &mut self,
        offer: &SessionDescription,
    ) -> Result<(String, MediaParams), OfferError> {
        let (index, protection) = self.security.choose(offer)?;
        let audio = &offer.media[index];
        let (payload_type, codec) = self.choose(audio)?;
        let offered = offer.direction_of(audio);
        let (remote, unspecified) = remote_address(offer, audio, self.local.address)?;
        let direction = self.direction(answering(offered, unspecified));
        let mut params = self.params(offer, audio, remote, payload_type, codec);
        params.direction = direction;
        let events = params.telephone_event.and_then(|number| meaning(audio, number));
        let noise =
            formats::comfort_noise_of(audio, codec).and_then(|number| meaning(audio, number));
        let formats: Vec<(u8, Format)> =
            [Some((payload_type, Format::Audio(codec))), events, noise]
                .into_iter()
                .flatten()
                .collect();
        let rtcp_mux = audio.attribute("rtcp-mux").is_some();
        let mut media: Vec<Media> = offer.media.iter().map(refused).collect();
        media[index] = self.media(&audio.protocol, &formats, params.ptime, direction, rtcp_mux);
        media[index].attributes.extend_from_slice(&protection.attributes);
        self.security.commit(protection);
        self.payload_types.learn(audio);
        let sdp = self.describe(media);
        self.params = Some(params);
        Ok((sdp, params))
    }

    /// Offers every codec we have; while a session holds, what it uses comes first.
    pub(crate) fn offer(&mut self) -> String {
        let mut codecs = self.local.codecs.clone();
        let mut ptime = Ptime::MS20;
        if let Some(current) = &self.params {
            codecs.sort_by_key(|codec| !codec.is_same_as(current.codec));
            ptime = current.ptime;
        }
        if let [only] = codecs[..] {
            ptime = formats::fitting(only, ptime);
        }
        let mut clocks: Vec<u32> = Vec::new();
        let mut noisy_clocks: Vec<u32> = Vec::new();
        for codec in &codecs {
            let clock_hz = codec.clock_hz();
            if !clocks.contains(&clock_hz) {
                clocks.push(clock_hz);
            }
            if !matches!(codec, Codec::Opus(_)) && !noisy_clocks.contains(&clock_hz) {
                noisy_clocks.push(clock_hz);
            }
        }
        let formats: Vec<(u8, Format)> = codecs
            .into_iter()
            .map(Format::Audio)
            .chain(clocks.into_iter().map(|clock_hz| Format::TelephoneEvent { clock_hz }))
            .chain(noisy_clocks.into_iter().map(|clock_hz| Format::ComfortNoise { clock_hz }))
            .filter_map(|format| Some((self.payload_types.assign(format)?, format)))
            .collect();
        let direction = self.direction(Direction::SendRecv);
        let (protocol, protection) = self.security.offer();
        let mut media = self.media(&protocol, &formats, ptime, direction, false);
        media.attributes.extend(protection);
        self.describe(vec![media])
    }

    /// Takes the peer's answer to our offer.
    pub(crate) fn accept_answer(
        &mut self,
        answer: &SessionDescription,
    ) -> Result<MediaParams, OfferError> {
        let (index, protection) = self.security.take_answer(answer)?;
        let audio = &answer.media[index];
        // The answer's own order is the peer's choice.
        let (payload_type, codec) = codecs_of(audio, &self.local.codecs)
            .next()
            .or_else(|| self.unexplained(audio))
            .ok_or_else(|| no_common_codec(audio))?;
        let (remote, unspecified) = remote_address(answer, audio, self.local.address)?;
        let mut params = self.params(answer, audio, remote, payload_type, codec);
        params.rtcp_mux = false;
        params.direction = self.direction(answering(answer.direction_of(audio), unspecified));
        self.payload_types.learn(audio);
        self.security.commit(protection);
        self.params = Some(params);
        Ok(params)
    }

    /// The codec of an answer that repeats a number of our offer without saying what it stands for.
    fn unexplained(&self, audio: &Media) -> Option<(u8, Codec)> {
        let numbers = audio.formats.iter().filter(|format| audio.encoding(format).is_none());
        numbers.filter_map(|format| formats::payload_type(format)).find_map(|number| {
            let Format::Audio(codec) = self.payload_types.meaning(number)? else { return None };
            let ours = self.local.codecs.iter().find(|ours| ours.is_same_as(codec))?;
            Some((number, *ours))
        })
    }

    fn choose(&self, audio: &Media) -> Result<(u8, Codec), OfferError> {
        let offered: Vec<(u8, Codec)> = codecs_of(audio, &self.local.codecs).collect();
        let number_of = |codec: Codec| offered.iter().find(|(_, other)| *other == codec).copied();
        // A session stays with its codec as long as the peer has it, and with its number where there are two.
        let current = self.params.and_then(|params| {
            let codec = number_of(params.codec)?;
            let same = (params.payload_type, params.codec);
            Some(if offered.contains(&same) { same } else { codec })
        });
        let wanted = || match self.preference {
            CodecPreference::Theirs => offered.first().copied(),
            CodecPreference::Ours => self.local.codecs.iter().copied().find_map(number_of),
        };
        current.or_else(wanted).ok_or_else(|| no_common_codec(audio))
    }

    /// Our direction where the peer allows `allowed`.
    fn direction(&self, allowed: Direction) -> Direction {
        match (self.holding, allowed) {
            (false, allowed) => allowed,
            (true, Direction::SendRecv | Direction::SendOnly) => Direction::SendOnly,
            (true, Direction::RecvOnly | Direction::Inactive) => Direction::Inactive,
        }
    }

    fn params(
        &self,
        sdp: &SessionDescription,
        audio: &Media,
        remote_rtp: SocketAddr,
        payload_type: u8,
        codec: Codec,
    ) -> MediaParams {
        let rtcp_mux = audio.attribute("rtcp-mux").is_some();
        let events = formats::telephone_event_of(audio, codec);
        MediaParams {
            remote_rtp,
            remote_rtcp: if rtcp_mux { remote_rtp } else { remote_rtcp(audio, remote_rtp) },
            rtcp_mux,
            codec,
            payload_type,
            opus: formats::opus_of(audio, payload_type),
            comfort_noise: formats::comfort_noise_of(audio, codec).or_else(|| {
                // Some peers send it unasked; then it has its static number.
                let usual = codec.clock_hz() == 8_000 && meaning(audio, 13).is_none();
                usual.then_some(13)
            }),
            telephone_event: events.map(|(payload_type, _)| payload_type),
            telephone_event_hz: events.map_or(codec.clock_hz(), |(_, clock_hz)| clock_hz),
            ptime: formats::ptime_of(sdp, audio, payload_type, codec),
            direction: Direction::SendRecv,
            latching: self.latching(remote_rtp.ip()),
        }
    }

    /// A peer whose media address is private or is not where its SIP comes from may sit behind a NAT; one that is
    /// reached where its SDP says needs no latching (RFC 7362 §4).
    fn latching(&self, media: IpAddr) -> Latching {
        if !media.is_unspecified() && is_private(media) && media != self.signalling {
            Latching::Natted { signalling: Some(self.signalling) }
        } else {
            Latching::Off
        }
    }

    fn media(
        &self,
        protocol: &str,
        formats: &[(u8, Format)],
        ptime: Ptime,
        direction: Direction,
        rtcp_mux: bool,
    ) -> Media {
        let mut attributes: Vec<Attribute> = Vec::new();
        for (number, format) in formats {
            let encoding = format.encoding();
            attributes.push(Attribute::new("rtpmap", format!("{number} {encoding}")));
            if let Some(parameters) = format.parameters() {
                attributes.push(Attribute::new("fmtp", format!("{number} {parameters}")));
            }
        }
        attributes.push(Attribute::new("ptime", ptime.millis().to_string()));
        if let [
            (_, Format::Audio(only)),
            (_, Format::TelephoneEvent { .. } | Format::ComfortNoise { .. }),
            ..,
        ]
        | [(_, Format::Audio(only))] = formats
            && let Some(longest) = formats::longest(*only)
        {
            attributes.push(Attribute::new("maxptime", longest.to_string()));
        }
        attributes.push(Attribute::flag(match direction {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }));
        if rtcp_mux {
            attributes.push(Attribute::flag("rtcp-mux"));
        } else if Some(self.local.rtcp_port) != self.local.rtp_port.checked_add(1) {
            attributes.push(Attribute::new("rtcp", self.local.rtcp_port.to_string()));
        }
        Media {
            kind: "audio".into(),
            port: self.local.rtp_port,
            protocol: protocol.to_owned(),
            formats: formats.iter().map(|(number, _)| number.to_string()).collect(),
            connection: None,
            attributes,
        }
    }

    /// Writes a description; its version rises only when something changed (RFC 3264 §8).
    fn describe(&mut self, media: Vec<Media>) -> String {
        let connection = Connection::from_ip(self.local.address);
        let mut sdp = SessionDescription {
            origin: Origin {
                username: "-".into(),
                session_id: self.session_id.to_string(),
                version: String::new(),
                address: connection.clone(),
            },
            connection: Some(connection),
            attributes: Vec::new(),
            media,
        };
        if self.sent.as_ref().is_some_and(|sent| *sent != sdp) {
            self.version += 1;
        }
        self.sent = Some(sdp.clone());
        sdp.origin.version = self.version.to_string();
        sdp.to_string()
    }
}

/// What `number` stands for in `audio`, with the number.
fn meaning(audio: &Media, number: u8) -> Option<(u8, Format)> {
    formats::formats_of(audio).find(|(other, _)| *other == number)
}

fn no_common_codec(audio: &Media) -> OfferError {
    let name = |format: &String| {
        audio.encoding(format).map_or_else(|| format.clone(), |encoding| encoding.name)
    };
    OfferError::NoCommonCodec { offered: audio.formats.iter().map(name).collect() }
}

/// Our direction for what the peer says of its own (RFC 3264 §6.1). `0.0.0.0` is the old form of hold (§8.4).
const fn answering(peer: Direction, unspecified: bool) -> Direction {
    match (peer, unspecified) {
        (Direction::SendRecv, false) => Direction::SendRecv,
        (Direction::SendOnly, _) | (Direction::SendRecv, true) => Direction::RecvOnly,
        (Direction::RecvOnly, false) => Direction::SendOnly,
        (Direction::RecvOnly, true) | (Direction::Inactive, _) => Direction::Inactive,
    }
}

/// Where the media of the peer is, and whether that is no address at all (an old form of hold).
fn remote_address(
    sdp: &SessionDescription,
    audio: &Media,
    local: IpAddr,
) -> Result<(SocketAddr, bool), OfferError> {
    let connection =
        sdp.connection_of(audio).ok_or_else(|| OfferError::NoAddress(String::new()))?;
    let ip = connection.ip().ok_or_else(|| OfferError::NoAddress(connection.host.clone()))?;
    let ip = ip.to_canonical();
    if !is_reachable(ip, local) {
        return Err(OfferError::UnfitAddress(ip));
    }
    Ok((SocketAddr::new(ip, audio.port), ip.is_unspecified()))
}

/// Whether one host at `ip` can be sent to from `local`.
fn is_reachable(ip: IpAddr, local: IpAddr) -> bool {
    ip.is_ipv4() == local.to_canonical().is_ipv4()
        && !ip.is_multicast()
        && ip != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// `a=rtcp:port [IN IP4 address]` (RFC 3605), else the port after RTP.
fn remote_rtcp(audio: &Media, remote_rtp: SocketAddr) -> SocketAddr {
    let mut words = audio.attribute("rtcp").unwrap_or("").split_whitespace();
    match words.next().and_then(|port| port.parse().ok()) {
        Some(port) => {
            let address = words
                .last()
                .and_then(|address| address.parse().ok())
                .map(|address: IpAddr| address.to_canonical())
                .filter(|address| is_reachable(*address, remote_rtp.ip()));
            SocketAddr::new(address.unwrap_or(remote_rtp.ip()), port)
        }
        None => SocketAddr::new(remote_rtp.ip(), remote_rtp.port().saturating_add(1)),
    }
}

/// A refused medium keeps one format and has port 0 (RFC 3264 §6).
fn refused(media: &Media) -> Media {
    Media {
        kind: media.kind.clone(),
        port: 0,
        protocol: media.protocol.clone(),
        formats: media.formats[..1].to_vec(),
        connection: None,
        attributes: Vec::new(),
    }
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        // 100.64.0.0/10 is carrier-grade NAT (RFC 6598).
        IpAddr::V4(ip) => {
            ip.is_private()
                || ip.is_link_local()
                || (ip.octets()[0] == 100 && ip.octets()[1] & 0xC0 == 64)
        }
        IpAddr::V6(ip) => {
            ip.segments()[0] & 0xFE00 == 0xFC00 || ip.segments()[0] & 0xFFC0 == 0xFE80
        }
    }
}

#[cfg(test)]
mod tests;
