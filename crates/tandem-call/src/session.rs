//! The port to a live model session, which the call's own task drives.

use std::{
    task::{Context, Poll},
    time::Instant,
};

use tandem_media::AudioFormat;

use crate::{Capabilities, HistoryTurn, ItemId, ModelCommand, ModelEvent, ToolDeclaration};

/// What a session is opened with.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionSpec {
    /// The system prompt, placeholders filled in.
    pub instructions: String,
    /// Voice name as the vendor spells it; none = the vendor's default.
    pub voice: Option<String>,
    /// BCP-47.
    pub language: String,
    /// 0.0 to 1.0 where the vendor takes it.
    pub temperature: Option<f32>,
    /// Tools on offer.
    pub tools: Vec<ToolDeclaration>,
    /// What goes up: one of the capabilities' `input`.
    pub input: AudioFormat,
    /// What comes down: one of the capabilities' `output`.
    pub output: AudioFormat,
    /// Transcribe both sides.
    pub transcription: bool,
    /// The conversation so far, when this session takes over from another.
    pub history: Vec<HistoryTurn>,
    /// The first [`ItemId`] this session may use, so that ids stay unique in the call.
    pub first_item: ItemId,
}

/// Takes what a session says, in the order it was said.
pub trait ModelSink {
    /// Audio of `item`: `bytes` in `format`, any length of whole samples.
    fn audio(&mut self, item: ItemId, format: AudioFormat, bytes: &[u8]);

    /// Anything else.
    fn event(&mut self, event: ModelEvent);
}

/// Counters of the way up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UplinkStats {
    /// Frames handed to the socket.
    pub frames_sent: u64,
    /// Frames thrown away because the socket was not there or did not take them.
    pub frames_dropped: u64,
    /// Bytes handed to the socket that it has not taken yet.
    pub waiting: usize,
}

/// A conversation with a voice model, from dialling on. Dropping it closes it.
///
/// Everything is driven from one task: `poll` makes progress (dialling, reading, writing, timers) and the two `send`s
/// never block. `now` is the task's clock.
pub trait ModelSession {
    /// What this model can do.
    fn capabilities(&self) -> &Capabilities;

    /// Sends caller audio in the format of the spec, any length of whole samples. Before `Ready`, and when the peer
    /// reads too slowly, audio is dropped and counted: late audio is worth nothing.
    fn send_audio(&mut self, now: Instant, audio: &[u8]);

    /// Carries out `command`. Before `Ready` commands wait and are carried out in order.
    fn send(&mut self, now: Instant, command: ModelCommand);

    /// Makes progress. `Ready(())` means that something was done and it should be polled again; `Pending` that the
    /// waker is registered.
    fn poll(&mut self, cx: &mut Context<'_>, now: Instant, sink: &mut dyn ModelSink) -> Poll<()>;

    /// Whether nothing is left to be done after [`ModelCommand::Close`]: the socket is closed, or there is none.
    fn is_closed(&self) -> bool;

    /// What went up so far.
    fn uplink_stats(&self) -> UplinkStats;
}
