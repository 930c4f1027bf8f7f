//! A recording of a call, without the disk.

use std::time::Instant;

use tandem_call::MediaLeg;
use tandem_recording::{Ear, EarDrain};

/// Takes what the ears of a recording hear, in the place of its writer.
pub(crate) struct Listener([EarDrain; 2]);

impl Listener {
    /// Has both sides of `leg` recorded from now on.
    pub(crate) fn begin(now: Instant, leg: &mut impl MediaLeg) -> Self {
        let rate = leg.format().rate();
        let (heard, caller) = Ear::unrecorded(now, rate);
        let (sent, agent) = Ear::unrecorded(now, rate);
        leg.tap(Box::new(heard), Box::new(sent));
        Self([caller, agent])
    }

    /// What a writer does ten times a second.
    pub(crate) fn listen(&mut self) {
        for drain in &mut self.0 {
            drain.empty();
        }
    }
}
