//! Packet loss concealment: the voice goes on over a gap, period by period.

mod extrapolation;
#[cfg(test)]
mod tests;

use extrapolation::Extrapolation;

use crate::{SampleRate, lanes::to_pcm};

// Lengths are in samples at 8 kHz; at higher rates they are as much longer as the rate is higher.

/// Samples kept of the past: two of the longest periods and some.
const HISTORY: usize = 320;
/// Known samples of the future below which they are of no use.
const LEAST_FUTURE: usize = 40;

/// Fills gaps in a stream of mono `i16` PCM, after the idea of ITU-T G.711 Appendix I.
///
/// The last period of the voice is repeated over the gap. Where the audio after the gap is known, its first period is repeated
/// backwards too, and the two are cross-faded. Nothing is ever added to audio that arrived, and nothing is delayed.
#[derive(Debug)]
pub struct Concealer {
    /// Samples of the stream for one at 8 kHz.
    scale: usize,
    /// What was learnt or concealed last.
    history: Box<[i16]>,
    /// What a gap takes; made for the first one.
    gaps: Option<Box<Gaps>>,
    /// Samples concealed since the last good one.
    lost: usize,
}

#[derive(Debug)]
struct Gaps {
    /// How the audio before the current gap goes on; of use where `lost` > 0.
    forward: Extrapolation,
    /// How the audio after a gap would go on, backwards in time.
    backward: Extrapolation,
    /// The audio that is looked at.
    known: Box<[f32]>,
}

impl Concealer {
    /// A concealer for audio of `rate` whose past is silence.
    pub fn new(rate: SampleRate) -> Self {
        let scale = rate.hz() / 8_000;
        let history = vec![0; HISTORY * scale].into_boxed_slice();
        Self { scale, history, gaps: None, lost: 0 }
    }

    /// Learns audio that arrived. Every good frame is told, so that the next gap knows its past.
    pub fn good(&mut self, pcm: &[i16]) {
        if !pcm.is_empty() {
            self.lost = 0;
            self.remember(pcm);
        }
    }

    /// Fills a gap between the audio learnt last and `next`, the samples that follow it.
    ///
    /// A gap may be of any length and may come after one-sided concealment of its begin; of a gap longer than 60 ms the middle is
    /// silent. `next` is only looked at: it is still to be told by [`good`](Self::good). 20 ms of it are enough; with less than
    /// 5 ms the gap is filled as by [`conceal_forward`](Self::conceal_forward).
    pub fn conceal_between(&mut self, next: &[i16], gap: &mut [i16]) {
        if next.len() < LEAST_FUTURE * self.scale {
            return self.conceal_forward(gap);
        }
        let reach = extrapolation::SILENT_AFTER * self.scale;
        let (begin, end) = gap.split_at_mut(gap.len().saturating_sub(reach));
        self.conceal_forward(begin);
        let lost = self.lost;
        let Gaps { forward, backward, known } = self.find_forward();
        // Backwards in time the future is a past.
        let count = next.len().min(known.len());
        for (slot, &sample) in known[..count].iter_mut().rev().zip(next) {
            *slot = f32::from(sample);
        }
        backward.follow(&known[..count], forward.period());
        let length = end.len();
        for (n, slot) in end.iter_mut().enumerate() {
            let (before, after) = (forward.sample(lost + n), backward.sample(length - 1 - n));
            *slot = to_pcm(before + (after - before) * fade_in(n, length));
        }
        self.conclude(end);
    }

    /// Fills a gap after which nothing is known yet; several calls in a row fill one gap.
    ///
    /// The sound fades from 20 ms on and is silent after 60 ms.
    pub fn conceal_forward(&mut self, gap: &mut [i16]) {
        if gap.is_empty() {
            return;
        }
        let lost = self.lost;
        let Gaps { forward, .. } = self.find_forward();
        for (n, slot) in gap.iter_mut().enumerate() {
            *slot = to_pcm(forward.sample(lost + n));
        }
        self.conclude(gap);
    }

    /// Finds how the past goes on, unless this gap has begun before.
    fn find_forward(&mut self) -> &mut Gaps {
        let Self { scale, history, gaps, lost } = self;
        let begins = *lost == 0 || gaps.is_none();
        let gaps = gaps.get_or_insert_with(|| Box::new(Gaps::new(*scale)));
        if begins {
            for (slot, &sample) in gaps.known.iter_mut().zip(&*history) {
                *slot = f32::from(sample);
            }
            gaps.forward.follow_any(&gaps.known);
        }
        gaps
    }

    fn conclude(&mut self, concealed: &[i16]) {
        self.lost += concealed.len();
        self.remember(concealed);
    }

    fn remember(&mut self, pcm: &[i16]) {
        let kept = self.history.len();
        let pcm = &pcm[pcm.len().saturating_sub(kept)..];
        self.history.copy_within(pcm.len().., 0);
        self.history[kept - pcm.len()..].copy_from_slice(pcm);
    }
}

impl Gaps {
    fn new(scale: usize) -> Self {
        Self {
            forward: Extrapolation::new(scale),
            backward: Extrapolation::new(scale),
            known: vec![0.0; HISTORY * scale].into_boxed_slice(),
        }
    }
}

/// A weight that rises smoothly from above 0 to below 1 over `length` samples.
pub(crate) fn fade_in(n: usize, length: usize) -> f32 {
    let x = (n + 1) as f32 / (length + 1) as f32;
    x * x * (3.0 - 2.0 * x)
}
