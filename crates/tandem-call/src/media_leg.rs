//! The port to a leg's media: what every leg, whatever it speaks on the wire, gives the core of a call.

use std::{fmt, time::Instant};

use tandem_media::{AudioFormat, SampleRate};

use crate::{ItemId, LegEvent, LegQuality};

/// Where a frame's audio comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A packet of the caller.
    Caller,
    /// Lost or late packets, concealed.
    Concealed,
    /// Nothing came, or it is not for the model to hear.
    Silence,
}

/// Audio for the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UplinkFrame<'a> {
    /// Samples in `format`; of the same length as the packet they came in.
    pub audio: &'a [u8],
    /// How to read them: the uplink format at the time the packet came.
    pub format: AudioFormat,
    /// Somebody speaks, pauses of up to 200 ms included.
    pub speech: bool,
    /// When the packet arrived, or the silence was made.
    pub arrival: Instant,
    /// Where it comes from.
    pub origin: Origin,
}

/// Gets a copy of one side of a leg's audio: a recording's ear.
///
/// Pieces come in the order of the call's time line; what lies between two of them is silence. It is called on the frame path:
/// it neither blocks nor allocates.
pub trait Tap: fmt::Debug + Send {
    /// Samples at `rate`, the first of which belongs at `at`.
    fn take_pcm(&mut self, at: Instant, rate: SampleRate, pcm: &[i16]);

    /// Whole samples of `format`, the first of which belongs at `at`.
    fn take_bytes(&mut self, at: Instant, format: AudioFormat, audio: &[u8]);
}

/// The media of one call leg as a machine without socket or clock.
///
/// It exists before its peer can be heard; audio played before waits. After each call that may complete something,
/// `poll_uplink` and `poll_event` are to be called until they give nothing. What it sends, and how it takes what its
/// peer sends, is its own: the shell that owns its sockets knows it by its type.
pub trait MediaLeg {
    /// What the leg speaks: a model that takes it too gets the audio untouched.
    fn format(&self) -> AudioFormat;

    /// Uplink frames are of `format` from the next audio on.
    fn set_uplink(&mut self, format: AudioFormat);

    /// The next frame for the model.
    fn poll_uplink(&mut self) -> Option<UplinkFrame<'_>>;

    /// Queues audio of `item`: any length of `format`, as fast as the model makes it. Items are named by rising numbers.
    fn play(&mut self, now: Instant, item: ItemId, format: AudioFormat, audio: &[u8]);

    /// No more audio of `item` will come.
    fn end_item(&mut self, now: Instant, item: ItemId);

    /// Throws away all audio that was not heard yet; answered by [`LegEvent::PlayoutCleared`], also when there was none.
    fn clear(&mut self, now: Instant);

    /// Pauses playout, keeping the queue, or goes on with it.
    fn pause(&mut self, now: Instant, paused: bool);

    /// Falls silent at once and keeps all that was not heard, or goes on at the sample where it fell silent. It knows
    /// nothing of `pause`, and `clear` ends it.
    fn duck(&mut self, now: Instant, ducked: bool) {
        let _ = (now, ducked);
    }

    /// From now on `heard` gets what the leg hears of the caller and `sent` what it really sends to him, each on the call's time
    /// line: concealment and silence included, without what a barge-in cut off.
    fn tap(&mut self, heard: Box<dyn Tap>, sent: Box<dyn Tap>) {
        let _ = (heard, sent);
    }

    /// The next event.
    fn poll_event(&mut self) -> Option<LegEvent>;

    /// When the next audio is to be sent: what the pacing timer is set to. `play` may bring it forward to now.
    fn next_send(&self) -> Option<Instant>;

    /// When `handle_timeout` is due; what is to be sent is to be taken after it.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Does what is due at `now`.
    fn handle_timeout(&mut self, now: Instant);

    /// What the network does to the leg, so far.
    fn quality(&self) -> LegQuality;

    /// The mean opinion score (1 to 5) of the last seconds, where the leg can tell.
    fn live_mos(&self) -> Option<f64>;

    /// Says goodbye to the peer's media; nothing is heard or played any more.
    fn close(&mut self, now: Instant);
}
