//! What a line sounds like while nobody speaks on it, and how far something stands out of that.

use super::bands::{BANDS, Block, Levels};

// The figures below come from a search over half of the callers of `make quality-vad`, tried on the others; those for what is
// loud were set by hand after it, with all callers.

/// The background is learnt in a hurry for so many blocks, half a second, unless somebody speaks.
const FIRST: u32 = 50;
/// .. and its liveliness for a second.
const FIRST_LIVELY: u32 = 100;
/// How fast a band's level is followed up and down, dB per block: in the beginning, without speech, under speech.
const HURRY: (f32, f32) = (1.0, 1.0);
/// Level of each band before anything is known, dB: that of noise of -42 dBFS, so that a noisy line does not begin with speech,
/// and a caller who speaks at once is heard.
const UNKNOWN: f32 = 48.0;
const CALM: (f32, f32) = (0.18, 0.08);
const UNDER_SPEECH: (f32, f32) = (0.09, 0.28);
/// A sound that stands out for so many blocks on end, a second, has no syllables: it becomes the background.
const STEADY: u32 = 100;
const UNDER_STEADY: (f32, f32) = (0.60, 0.28);
/// The same for the liveliness, the mean distance that the noise itself has from its level.
const LIVELY_HURRY: (f32, f32) = (0.20, 0.05);
const LIVELY_CALM: (f32, f32) = (0.15, 0.033);
const LIVELY_UNDER_SPEECH: (f32, f32) = (0.065, 0.032);
/// A band counts for so many dB at most.
const MOST_OF_A_BAND: f32 = 20.0;
/// Speech stands out by so much in the mean of the bands, and by this part of the liveliness.
const MARGIN: f32 = 3.2;
const LIVELY_PART: f32 = 0.75;
/// What stands out by this much is speech however lively the background is.
const SURELY: f32 = 10.0;
/// So do this many bands that stand out by so much each: on a quiet line.
const LOUD: f32 = 30.0;
const LOUD_BANDS: usize = 3;
/// Speech that goes on needs only this part of it.
const GOING_ON: f32 = 0.8;

/// The background of a line, band by band.
#[derive(Debug)]
pub(super) struct Background {
    levels: Levels,
    /// By how much the sound stands out of `levels` now and then without being speech.
    liveliness: f32,
    blocks: u32,
    /// Blocks that stood out, one after the other.
    steady: u32,
}

impl Background {
    pub(super) fn new() -> Self {
        Self { levels: [UNKNOWN; BANDS], liveliness: 2.0, blocks: 0, steady: 0 }
    }

    /// Whether `block` stands out as speech does: of the background, and of `masked` where there is something else.
    pub(super) fn is_left(&self, block: &Block, masked: Option<&Levels>, speaking: bool) -> bool {
        let (mut sum, mut loud) = (0.0, 0);
        for band in 0..BANDS {
            let floor = masked.map_or(self.levels[band], |mask| mask[band].max(self.levels[band]));
            let above = block.levels[band] - floor;
            sum += above.clamp(0.0, MOST_OF_A_BAND);
            loud += usize::from(above > LOUD);
        }
        if loud >= LOUD_BANDS {
            return true;
        }
        let threshold = (self.liveliness * LIVELY_PART + MARGIN).min(SURELY);
        let threshold = if speaking { threshold * GOING_ON } else { threshold };
        sum / BANDS as f32 > threshold
    }

    /// Learns from a block; `speaking` while it may be speech.
    pub(super) fn learn(&mut self, block: &Block, above: bool, speaking: bool) {
        self.blocks = self.blocks.saturating_add(1);
        self.steady = if above { self.steady.saturating_add(1) } else { 0 };
        let (up, down) = match self.blocks {
            ..=FIRST if !speaking => HURRY,
            _ if self.steady > STEADY => UNDER_STEADY,
            _ if above || speaking => UNDER_SPEECH,
            _ => CALM,
        };
        let mut distance = 0.0;
        for (level, &now) in self.levels.iter_mut().zip(&block.levels) {
            distance += (now - *level).clamp(0.0, MOST_OF_A_BAND);
            *level += (now - *level).clamp(-down, up);
        }
        let (up, down) = match (self.blocks, speaking) {
            (..=FIRST_LIVELY, _) => LIVELY_HURRY,
            (_, false) => LIVELY_CALM,
            (_, true) => LIVELY_UNDER_SPEECH,
        };
        if self.blocks > 5 {
            self.liveliness += (distance / BANDS as f32 - self.liveliness).clamp(-down, up);
        }
    }

    /// The level of each band.
    pub(super) const fn levels(&self) -> &Levels {
        &self.levels
    }
}
