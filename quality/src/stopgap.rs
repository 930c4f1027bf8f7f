//! What simpler gateways do about a lost packet, to compare with.

use tandem_media::{Concealer, SampleRate};

/// A way to fill gaps without knowing what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopgap {
    /// Nothing is done.
    Silence,
    /// The last packet is played again.
    Repeat,
    /// .. at half the level each time.
    RepeatAndFade,
    /// Our own concealment without the packet after the gap.
    OneSided,
}

impl Stopgap {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Silence, Self::Repeat, Self::RepeatAndFade, Self::OneSided];

    /// What a table calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::Repeat => "repeat",
            Self::RepeatAndFade => "repeat + fade",
            Self::OneSided => "one-sided",
        }
    }

    /// Fills the lost ones among packets of 20 ms in `pcm` of `rate`.
    pub fn fill(self, rate: SampleRate, pcm: &[i16], lost: &[bool]) -> Vec<i16> {
        let length = rate.hz() / 50;
        let (mut output, mut concealer, mut fade) = (pcm.to_vec(), Concealer::new(rate), 1);
        for (n, &lost) in lost.iter().enumerate() {
            let Some((past, rest)) = output.split_at_mut_checked(n * length) else { break };
            let Some(frame) = rest.get_mut(..length) else { break };
            let last = past.len().checked_sub(length).map(|at| &past[at..]);
            if !lost {
                concealer.good(frame);
                fade = 1;
                continue;
            }
            match (self, last) {
                (Self::OneSided, _) => concealer.conceal_forward(frame),
                (Self::Silence, _) | (_, None) => frame.fill(0),
                (Self::Repeat, Some(last)) => frame.copy_from_slice(last),
                (Self::RepeatAndFade, Some(last)) => {
                    frame.copy_from_slice(last);
                    frame.iter_mut().for_each(|sample| *sample /= fade);
                    fade = 2; // What is repeated next has faded already.
                }
            }
        }
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: usize = 160;

    #[test]
    fn gaps_are_filled_as_the_name_says() {
        let pcm = [[800; FRAME], [1; FRAME], [2; FRAME], [3; FRAME], [400; FRAME]].concat();
        let lost = [false, true, true, true, false];
        for (stopgap, levels) in [
            (Stopgap::Silence, [800, 0, 0, 0, 400]),
            (Stopgap::Repeat, [800, 800, 800, 800, 400]),
            (Stopgap::RepeatAndFade, [800, 800, 400, 200, 400]),
        ] {
            let filled = stopgap.fill(SampleRate::Hz8000, &pcm, &lost);
            for (frame, level) in filled.chunks(FRAME).zip(levels) {
                assert!(frame.iter().all(|sample| *sample == level), "{stopgap:?}");
            }
        }
        for stopgap in Stopgap::ALL {
            let filled = stopgap.fill(SampleRate::Hz8000, &pcm, &[false; 5]);
            assert_eq!(filled, pcm, "{stopgap:?} touches nothing else");
        }
    }
}
