//! What the calls of these tests are made of: an agent, a leg of G.711, the packets of a caller.

#![allow(dead_code, reason = "not every test needs all of it")]

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration, time::Instant};

use tandem_attendant::{Script, Voice};
use tandem_call::{
    AgentSpec, AgentTool, Greeting, Interruption, LateResults, Patience, ToolDeclaration,
    ToolTexts, TransferRoutes,
};
use tandem_exchange::{CallCore, CoreConfig, ModelOpener, Prompts, VendorModels};
use tandem_media::{AudioFormat, Codec, Law, OpusParams, Ptime};
use tandem_rtp::{Direction, Latching, LegConfig, MediaParams, RtpLeg, RtpPacket};

/// Packet time.
pub(crate) const FRAME: Duration = Duration::from_millis(20);

/// Where the caller's packets come from.
pub(crate) fn peer() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4_000))
}

/// An agent without models, which leaves the call to the attendant.
pub(crate) fn agent(tools: Vec<ToolDeclaration>) -> AgentSpec {
    AgentSpec {
        agent_id: "reception".into(),
        system_prompt: String::new(),
        language: "en".into(),
        voice: None,
        temperature: None,
        greeting: Greeting::OwnWords,
        tools: tools.into_iter().map(|tool| AgentTool::new(tool, Duration::from_secs(9))).collect(),
        tool_texts: ToolTexts::default(),
        phrases: Vec::new(),
        voicemail_message: None,
        late_results: LateResults::Discard,
        transfer: TransferRoutes::default(),
        transfer_timeout: Duration::from_secs(30),
        end_call_drain: Duration::from_secs(2),
        end_call_cancel_on_speech: false,
        interruption: Interruption::default(),
        max_silence: Duration::from_secs(600),
        max_duration: Duration::from_secs(3_600),
        transcription: true,
        models: Vec::new(),
    }
}

/// The attendant alone.
pub(crate) fn attendant(agent: &AgentSpec, script: Script, voice: &Voice) -> Box<VendorModels> {
    Box::new(VendorModels {
        chain: Vec::new(),
        agent: agent.clone(),
        script: Arc::new(script),
        voice: voice.clone(),
        variables: BTreeMap::new(),
    })
}

/// A leg before its first packet.
pub(crate) fn leg(now: Instant) -> RtpLeg {
    let config = LegConfig {
        ssrc: 7,
        first_sequence: 1,
        first_timestamp: 0,
        cname: "test".into(),
        codec: Codec::PCMU,
        uplink: AudioFormat::G711(Law::Mu),
        media_timeout: Duration::from_secs(60),
        seed: 1,
    };
    RtpLeg::new(now, Duration::from_secs(1_790_000_000), config)
}

/// What the answer settles.
pub(crate) fn media() -> MediaParams {
    MediaParams {
        remote_rtp: peer(),
        remote_rtcp: peer(),
        rtcp_mux: true,
        codec: Codec::PCMU,
        payload_type: 0,
        opus: OpusParams::DEFAULT,
        telephone_event: Some(101),
        telephone_event_hz: 8_000,
        comfort_noise: Some(13),
        ptime: Ptime::MS20,
        direction: Direction::SendRecv,
        latching: Latching::Off,
    }
}

/// A call that has just come in.
pub(crate) fn core(
    now: Instant,
    agent: AgentSpec,
    leg: RtpLeg,
    models: Box<dyn ModelOpener>,
    voice: &Voice,
) -> CallCore {
    let prompts = Arc::new(Prompts::new(voice));
    let patience = Patience::default();
    CallCore::new(now, CoreConfig { agent, patience, leg, models, prompts, annotates: false })
}

/// The caller's packet of that number.
pub(crate) fn packet(number: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    let packet = RtpPacket {
        marker: false,
        payload_type: 0,
        sequence: number,
        timestamp: u32::from(number) * 160,
        ssrc: 1,
        csrc: &[],
        extension: None,
        payload,
        padding: 0,
    };
    packet.write(&mut datagram);
    datagram
}

/// The audio in a datagram of the leg, if there is any.
pub(crate) fn audio(datagram: &[u8]) -> Option<&[u8]> {
    let packet = RtpPacket::parse(datagram).ok()?;
    (packet.payload_type == 0).then_some(packet.payload)
}
