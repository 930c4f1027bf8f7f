//! Offer and answer (RFC 3264) for one leg: G.711 and telephone-event, hold, resume, change of address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tandem_media::{Codec, Law, OpusParams, Ptime};
use tandem_rtp::{Direction, Latching, MediaParams};

use crate::{
    CodecPreference, LocalMedia,
    sdp::{Attribute, Connection, Media, Origin, SdpError, SessionDescription},
};

/// The payload type of telephone-event in our own offers.
const TELEPHONE_EVENT: u8 = 101;

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
            | Self::UnfitAddress(_) => 488,
            Self::Malformed(_) => 400,
        }
    }

    /// The code for a Warning header (RFC 3261 §20.43).
    pub const fn warning(&self) -> u16 {
        match self {
            Self::NoAudio => 304,
            Self::NoCommonCodec { .. } => 305,
            Self::NoAddress(_) | Self::UnfitAddress(_) => 301,
            Self::Malformed(_) => 399,
        }
    }
}

/// The G.711 codecs of an offer that are in `ours`, in the offer's order. Media must be able to reach its sender from
/// `local`.
pub(crate) fn offered_codecs(
    offer: &SessionDescription,
    ours: &[Codec],
    local: IpAddr,
) -> Result<Vec<Codec>, OfferError> {
    let (_, audio) = find_audio(offer)?;
    remote_address(offer, audio, local)?;
    let mut codecs: Vec<Codec> = Vec::new();
    for (_, codec) in codecs_of(audio) {
        if ours.contains(&codec) && !codecs.contains(&codec) {
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
            local,
            preference,
            session_id,
            version: 1,
            sent: None,
            params: None,
            holding: false,
            signalling,
        }
    }

    /// What was negotiated last.
    pub(crate) fn negotiated(&self) -> Option<&MediaParams> {
        self.params.as_ref()
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
        let (index, audio) = find_audio(offer)?;
        let (payload_type, codec) = self.choose(audio)?;
        let offered = offer.direction_of(audio);
        let (remote, unspecified) = remote_address(offer, audio, self.local.address)?;
        let direction = self.direction(answering(offered, unspecified));
        let mut params = self.params(offer, audio, remote, payload_type, codec);
        params.direction = direction;
        let mut media: Vec<Media> = offer.media.iter().map(refused).collect();
        media[index] = self.media(
            &audio.protocol,
            &params,
            &[(payload_type, codec)],
            audio.attribute("rtcp-mux").is_some(),
        );
        let sdp = self.describe(media);
        self.params = Some(params);
        Ok((sdp, params))
    }

    /// Offers every codec we have; while a session holds, what it uses comes first.
    pub(crate) fn offer(&mut self) -> String {
        let mut codecs: Vec<(u8, Codec)> = self
            .local
            .codecs
            .iter()
            .map(|&codec| (codec.static_payload_type().unwrap_or(0), codec))
            .collect();
        if let Some(current) = &self.params {
            codecs.sort_by_key(|(_, codec)| *codec != current.codec);
            // The same payload type for the same codec over the dialog (RFC 3264 §8.3.2).
            for (payload_type, codec) in &mut codecs {
                if *codec == current.codec {
                    *payload_type = current.payload_type;
                }
            }
        }
        let params = MediaParams {
            remote_rtp: SocketAddr::from(([0, 0, 0, 0], 0)),
            remote_rtcp: SocketAddr::from(([0, 0, 0, 0], 0)),
            rtcp_mux: false,
            codec: Codec::PCMU,
            opus: OpusParams::DEFAULT,
            comfort_noise: None,
            payload_type: 0,
            telephone_event: Some(
                self.params.and_then(|params| params.telephone_event).unwrap_or(TELEPHONE_EVENT),
            ),
            ptime: self.params.map_or(Ptime::MS20, |params| params.ptime),
            direction: self.direction(Direction::SendRecv),
            latching: Latching::Off,
        };
        let media = self.media("RTP/AVP", &params, &codecs, false);
        self.describe(vec![media])
    }

    /// Takes the peer's answer to our offer.
    pub(crate) fn accept_answer(
        &mut self,
        answer: &SessionDescription,
    ) -> Result<MediaParams, OfferError> {
        let (_, audio) = find_audio(answer)?;
        // The answer's own order is the peer's choice.
        let (payload_type, codec) = codecs_of(audio)
            .find(|(_, codec)| self.local.codecs.contains(codec))
            .ok_or_else(|| no_common_codec(audio))?;
        let (remote, unspecified) = remote_address(answer, audio, self.local.address)?;
        let mut params = self.params(answer, audio, remote, payload_type, codec);
        params.rtcp_mux = false;
        params.direction = self.direction(answering(answer.direction_of(audio), unspecified));
        self.params = Some(params);
        Ok(params)
    }

    fn choose(&self, audio: &Media) -> Result<(u8, Codec), OfferError> {
        let offered: Vec<(u8, Codec)> =
            codecs_of(audio).filter(|(_, codec)| self.local.codecs.contains(codec)).collect();
        // A session stays with its codec as long as the peer has it.
        let current = self.params.map(|params| params.codec);
        let wanted = match self.preference {
            CodecPreference::Theirs => offered.first().map(|(_, codec)| *codec),
            CodecPreference::Ours => self
                .local
                .codecs
                .iter()
                .copied()
                .find(|codec| offered.iter().any(|(_, other)| other == codec)),
        };
        let codec =
            current.filter(|codec| offered.iter().any(|(_, other)| other == codec)).or(wanted);
        let chosen = offered.iter().find(|(_, other)| Some(*other) == codec);
        chosen.copied().ok_or_else(|| no_common_codec(audio))
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
        MediaParams {
            remote_rtp,
            remote_rtcp: if rtcp_mux { remote_rtp } else { remote_rtcp(audio, remote_rtp) },
            rtcp_mux,
            codec,
            payload_type,
            opus: OpusParams::DEFAULT,
            comfort_noise: Some(13),
            telephone_event: audio.formats.iter().find_map(|format| {
                let encoding = audio.encoding(format)?;
                let matches = encoding.name.eq_ignore_ascii_case("telephone-event")
                    && encoding.clock_hz == 8000;
                payload_type_of(format).filter(|_| matches)
            }),
            ptime: ptime(sdp, audio),
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
        params: &MediaParams,
        codecs: &[(u8, Codec)],
        rtcp_mux: bool,
    ) -> Media {
        let mut formats: Vec<String> =
            codecs.iter().map(|(payload_type, _)| payload_type.to_string()).collect();
        let mut attributes: Vec<Attribute> = codecs
            .iter()
            .map(|(payload_type, codec)| {
                Attribute::new("rtpmap", format!("{payload_type} {}/8000", codec.name()))
            })
            .collect();
        if let Some(event) = params.telephone_event {
            formats.push(event.to_string());
            attributes.push(Attribute::new("rtpmap", format!("{event} telephone-event/8000")));
            attributes.push(Attribute::new("fmtp", format!("{event} 0-16")));
        }
        attributes.push(Attribute::new("ptime", params.ptime.millis().to_string()));
        attributes.push(Attribute::flag(match params.direction {
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
            formats,
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

/// The first audio over plain RTP that is not switched off.
fn find_audio(sdp: &SessionDescription) -> Result<(usize, &Media), OfferError> {
    sdp.media
        .iter()
        .enumerate()
        .find(|(_, media)| {
            media.kind == "audio"
                && media.port != 0
                && matches!(media.protocol.as_str(), "RTP/AVP" | "RTP/AVPF")
        })
        .ok_or(OfferError::NoAudio)
}

fn codecs_of(audio: &Media) -> impl Iterator<Item = (u8, Codec)> {
    audio.formats.iter().filter_map(|format| {
        let encoding = audio.encoding(format)?;
        let codec = [Law::Mu, Law::A]
            .into_iter()
            .map(Codec::from)
            .find(|codec| encoding.name.eq_ignore_ascii_case(codec.name()))?;
        (encoding.clock_hz == 8000 && encoding.channels == 1)
            .then_some((payload_type_of(format)?, codec))
    })
}

fn no_common_codec(audio: &Media) -> OfferError {
    let name = |format: &String| {
        audio.encoding(format).map_or_else(|| format.clone(), |encoding| encoding.name)
    };
    OfferError::NoCommonCodec { offered: audio.formats.iter().map(name).collect() }
}

fn payload_type_of(format: &str) -> Option<u8> {
    format.parse().ok().filter(|payload_type| *payload_type < 128)
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

fn ptime(sdp: &SessionDescription, audio: &Media) -> Ptime {
    let number = |name| {
        let session =
            || sdp.attributes.iter().find(|a| a.name == name).and_then(|a| a.value.as_deref());
        let text = audio.attribute(name).or_else(session)?;
        // Some senders write "20.0".
        text.trim()
            .split('.')
            .next()?
            .parse::<u32>()
            .ok()
            .filter(|millis| (1..1000).contains(millis))
    };
    let wanted = number("ptime").unwrap_or(20);
    Ptime::nearest(number("maxptime").map_or(wanted, |most| wanted.min(most.max(10))))
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
