//! Both sides on one time line, at the rate of the file.

use std::collections::VecDeque;

use tandem_media::{AudioFormat, Converter, Resampler, SampleRate};

use crate::Channels;

/// How far one side may be behind the other, in milliseconds; what comes later than that comes too late.
const WINDOW_MS: usize = 2_000;

/// Samples by which a piece may lie beside the end of the one before and still go on from it.
const SLACK: u64 = 2;

/// Frames handed on in one go.
const BLOCK: usize = 960;

/// The most of the time line that is handed on in a turn, in milliseconds: a long silence leaves the other recordings their turns.
const TURN_MS: usize = 1_000;

/// Which side of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Caller,
    Agent,
}

/// Lays pieces of both sides on one time line by the time they belong to, not by when they come.
///
/// A piece's place is the sample nearest to its time. Pieces that follow each other are resampled as one stretch, so that there is
/// no seam between them; the resampler's delay is taken out. What nobody sent is silence.
#[derive(Debug)]
pub(crate) struct Mixer {
    rate: SampleRate,
    channels: Channels,
    caller: Track,
    agent: Track,
    /// Frames handed on so far: the position from which on both tracks hold samples.
    handed_on: u64,
    /// Where this turn is over.
    turn_ends: u64,
    frames: Vec<i16>,
}

impl Mixer {
    pub(crate) fn new(rate: SampleRate, channels: Channels) -> Self {
        Self {
            rate,
            channels,
            caller: Track::new(rate),
            agent: Track::new(rate),
            handed_on: 0,
            turn_ends: 0,
            frames: Vec::with_capacity(2 * BLOCK),
        }
    }

    /// Samples that came too late to be kept, of both sides.
    pub(crate) const fn late(&self) -> u64 {
        self.caller.line.late + self.agent.line.late
    }

    /// Begins a turn, in which at most a second is handed on.
    pub(crate) fn begin_turn(&mut self) {
        self.turn_ends = self.handed_on + self.samples_in(TURN_MS);
    }

    /// Makes room for a piece at `at`, far ahead though it may be, after silence of both: nothing before it is still to come. False:
    /// not in this turn. Frames go to `take`, interleaved.
    pub(crate) fn reach(&mut self, at: u64, take: &mut impl FnMut(&[i16])) -> bool {
        let place = position_of(at, self.rate);
        self.hand_on(place.saturating_sub(self.samples_in(WINDOW_MS)), take)
    }

    /// Lays down a piece whose first sample belongs `at` nanoseconds after the beginning, which was [reached](Self::reach).
    pub(crate) fn put(&mut self, side: Side, at: u64, format: AudioFormat, audio: &[u8]) {
        let place = position_of(at, self.rate);
        let track = match side {
            Side::Caller => &mut self.caller,
            Side::Agent => &mut self.agent,
        };
        track.put(place, format, audio);
    }

    /// Hands on what is complete: what both sides have, what one side did not send in time, and, as nothing that belongs before
    /// `quiet` nanoseconds is still to come, the silence until then. False: not all of it in this turn.
    pub(crate) fn settle(&mut self, quiet: u64, take: &mut impl FnMut(&[i16])) -> bool {
        let (caller, agent) = (self.caller.end(), self.agent.end());
        let late = caller.max(agent).saturating_sub(self.samples_in(WINDOW_MS));
        let quiet = position_of(quiet, self.rate);
        self.hand_on(caller.min(agent).max(late).max(quiet), take)
    }

    /// The recording ends `at` nanoseconds after the beginning, or where its audio ends: hands on what is left. False: not all of it
    /// in this turn.
    pub(crate) fn finish(&mut self, at: Option<u64>, take: &mut impl FnMut(&[i16])) -> bool {
        self.caller.finish_stretch();
        self.agent.finish_stretch();
        let end = at.map(|at| position_of(at, self.rate));
        let end = end.unwrap_or_else(|| self.caller.end().max(self.agent.end()));
        self.hand_on(end, take)
    }

    fn samples_in(&self, millis: usize) -> u64 {
        (self.rate.hz() / 1_000 * millis) as u64
    }

    /// Hands on the time line until there, or until the turn is over: false.
    fn hand_on(&mut self, until: u64, take: &mut impl FnMut(&[i16])) -> bool {
        let reached = until <= self.turn_ends;
        let until = until.min(self.turn_ends);
        for track in [&mut self.caller, &mut self.agent] {
            if track.end() < until {
                track.finish_stretch(); // Its end belongs before the silence.
            }
        }
        while self.handed_on < until {
            let left = usize::try_from(until - self.handed_on).unwrap_or(usize::MAX);
            self.frames.clear();
            for _ in 0..left.min(BLOCK) {
                let (caller, agent) = (self.caller.next(), self.agent.next());
                match self.channels {
                    Channels::Stereo => self.frames.extend([caller, agent]),
                    Channels::Mono => self.frames.push(caller.saturating_add(agent)),
                }
            }
            self.handed_on += left.min(BLOCK) as u64;
            self.caller.follow(self.handed_on);
            self.agent.follow(self.handed_on);
            take(&self.frames);
        }
        reached
    }
}

/// One side.
#[derive(Debug)]
struct Track {
    to: AudioFormat,
    converter: Converter,
    lead: Option<Lead>,
    stretch: Option<Stretch>,
    line: Line,
}

/// The samples of one side that were not handed on, from `first` on.
#[derive(Debug, Default)]
struct Line {
    samples: VecDeque<i16>,
    first: u64,
    /// Samples that came when their place was taken.
    late: u64,
}

/// Pieces that follow each other.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    format: AudioFormat,
    begin: u64,
    /// Samples it has, before resampling.
    taken: u64,
    /// Samples it has given, after resampling; negative while those come that are not its own.
    given: i64,
}

/// What makes a resampler's delay a whole number of samples of the file: zeros put before a stretch, and what comes out for them
/// beyond the delay that is cut off anyway.
#[derive(Debug, Clone, Copy)]
struct Lead {
    from: SampleRate,
    zeros: usize,
    surplus: i64,
}

impl Lead {
    fn between(from: SampleRate, to: SampleRate) -> Self {
        let delay = Resampler::new(from, to).delay().as_secs_f64();
        let cut = (delay * to.hz() as f64).round();
        // The delay of some zeros more, in samples of the file.
        let total = |zeros: usize| (delay + zeros as f64 / from.hz() as f64) * to.hz() as f64;
        let is_whole = |zeros: &usize| (total(*zeros) - total(*zeros).round()).abs() < 0.01;
        let zeros = (0..8).find(is_whole).unwrap_or(0);
        Self { from, zeros, surplus: (total(zeros).round() - cut) as i64 }
    }
}

impl Stretch {
    /// Where its next sample belongs.
    fn next(&self, rate: SampleRate) -> u64 {
        self.begin + self.taken * rate.hz() as u64 / self.format.rate().hz() as u64
    }
}

impl Track {
    fn new(rate: SampleRate) -> Self {
        Self {
            to: AudioFormat::Pcm16(rate),
            converter: Converter::default(),
            lead: None,
            stretch: None,
            line: Line::default(),
        }
    }

    /// Behind its last sample.
    fn end(&self) -> u64 {
        self.line.end()
    }

    /// The next sample to be handed on; silence when there is none.
    fn next(&mut self) -> i16 {
        self.line.samples.pop_front().unwrap_or(0)
    }

    /// Everything before `position` was handed on.
    fn follow(&mut self, position: u64) {
        self.line.first = position;
    }

    fn put(&mut self, place: u64, format: AudioFormat, audio: &[u8]) {
        let rate = self.to.rate();
        let goes_on = self.stretch.is_some_and(|stretch| {
            stretch.format == format && stretch.next(rate).abs_diff(place) <= SLACK
        });
        if !goes_on {
            self.finish_stretch();
            self.pad(place.saturating_sub(self.end()));
            self.begin_stretch(place, format);
        }
        let Self { converter, stretch, line, .. } = self;
        let Some(stretch) = stretch else { return };
        stretch.taken += (audio.len() / format.bytes_per_sample()) as u64;
        converter.convert(audio, &mut |bytes| line.append(stretch, bytes));
    }

    fn begin_stretch(&mut self, place: u64, format: AudioFormat) {
        let (from, to) = (format.rate(), self.to.rate());
        let lead = match self.lead {
            Some(lead) if lead.from == from => lead,
            _ => *self.lead.insert(Lead::between(from, to)),
        };
        self.converter.restart(format, self.to);
        let mut stretch = Stretch { format, begin: place, taken: 0, given: -lead.surplus };
        let zeros = [format.silence(); 16];
        let zeros = &zeros[..lead.zeros * format.bytes_per_sample()];
        let Self { converter, line, .. } = self;
        converter.convert(zeros, &mut |bytes| line.append(&mut stretch, bytes));
        self.stretch = Some(stretch);
    }

    /// The stretch is over: what the resampler still holds is its end.
    fn finish_stretch(&mut self) {
        let Self { converter, stretch, line, .. } = self;
        if let Some(mut stretch) = stretch.take() {
            converter.finish(&mut |bytes| line.append(&mut stretch, bytes));
        }
    }

    fn pad(&mut self, silence: u64) {
        let silence = usize::try_from(silence).expect("a piece lies within the window");
        self.line.samples.extend(std::iter::repeat_n(0, silence));
    }
}

impl Line {
    fn end(&self) -> u64 {
        self.first + self.samples.len() as u64
    }

    /// Takes the next samples of a stretch, but for those in whose place there is something already.
    fn append(&mut self, stretch: &mut Stretch, bytes: &[u8]) {
        let pcm = bytes.as_chunks::<2>().0;
        let place = stretch.begin.saturating_add_signed(stretch.given.max(0));
        let foreign = usize::try_from(-stretch.given).unwrap_or(0);
        let late = usize::try_from(self.end().saturating_sub(place)).unwrap_or(usize::MAX);
        let late = (late + foreign).min(pcm.len());
        stretch.given += pcm.len() as i64;
        self.late += late.saturating_sub(foreign) as u64;
        self.samples.extend(pcm[late..].iter().map(|bytes| i16::from_le_bytes(*bytes)));
    }
}

/// The sample at `rate` that is nearest to `nanos` after the beginning.
fn position_of(nanos: u64, rate: SampleRate) -> u64 {
    const SECOND: u128 = 1_000_000_000;
    let position = (u128::from(nanos) * rate.hz() as u128 + SECOND / 2) / SECOND;
    u64::try_from(position).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tandem_media::Law;

    use super::*;

    const MU: AudioFormat = AudioFormat::G711(Law::Mu);
    const MS: u64 = 1_000_000;

    fn pcm(samples: &[i16]) -> Vec<u8> {
        samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
    }

    impl Mixer {
        /// Puts a piece in as many turns as it takes.
        fn lay(
            &mut self,
            side: Side,
            at: u64,
            format: AudioFormat,
            audio: &[u8],
            take: &mut impl FnMut(&[i16]),
        ) {
            self.begin_turn();
            while !self.reach(at, take) {
                self.begin_turn();
            }
            self.put(side, at, format, audio);
            while !self.settle(0, take) {
                self.begin_turn();
            }
        }

        fn end(&mut self, at: Option<u64>, take: &mut impl FnMut(&[i16])) {
            self.begin_turn();
            while !self.finish(at, take) {
                self.begin_turn();
            }
        }
    }

    /// Frames of a mixer at 8 kHz to which `pieces` of PCM at 8 kHz were given and which ended after `ms`.
    fn mix(channels: Channels, pieces: &[(Side, u64, Vec<i16>)], ms: u64) -> (Vec<i16>, u64) {
        let mut mixer = Mixer::new(SampleRate::Hz8000, channels);
        let mut frames = Vec::new();
        for (side, at, samples) in pieces {
            let format = AudioFormat::Pcm16(SampleRate::Hz8000);
            mixer.lay(*side, at * MS, format, &pcm(samples), &mut |it| frames.extend(it));
        }
        mixer.end(Some(ms * MS), &mut |it| frames.extend(it));
        (frames, mixer.late())
    }

    #[test]
    fn each_side_lies_where_it_belongs_and_silence_everywhere_else() {
        let pieces = [
            (Side::Agent, 1, vec![5; 8]),
            (Side::Caller, 2, vec![1; 8]),
            (Side::Caller, 3, vec![2; 8]),
            (Side::Agent, 4, vec![6; 16]),
        ];
        let (frames, late) = mix(Channels::Stereo, &pieces, 5);
        let (frames, rest) = frames.as_chunks::<2>();
        assert!(rest.is_empty() && late == 0);
        let side = |side: usize| frames.iter().map(|it| it[side]).collect::<Vec<_>>();
        assert_eq!(side(0), [[0; 8], [0; 8], [1; 8], [2; 8], [0; 8]].concat());
        assert_eq!(side(1), [[0; 8], [5; 8], [0; 8], [0; 8], [6; 8]].concat());
        let (mono, _) = mix(
            Channels::Mono,
            &[(Side::Agent, 0, vec![30_000; 8]), (Side::Caller, 0, vec![9_000; 8])],
            1,
        );
        assert_eq!(mono, [i16::MAX; 8]);
    }

    #[test]
    fn what_comes_more_than_a_window_late_is_silence_and_counted() {
        let pieces = [
            (Side::Caller, 0, vec![1; 8]),
            (Side::Caller, 2_100, vec![2; 8]),
            (Side::Agent, 50, vec![3; 8]), // Its place was handed on as silence.
            (Side::Agent, 2_050, vec![4; 8]),
        ];
        let (frames, late) = mix(Channels::Stereo, &pieces, 2_110);
        assert_eq!(late, 8);
        let frames = frames.as_chunks::<2>().0;
        assert_eq!(frames.len(), 2_110 * 8);
        assert_eq!((frames[7], frames[400], frames[2_100 * 8]), ([1, 0], [0, 0], [2, 0]));
        assert_eq!((frames[2_050 * 8 - 1], frames[2_050 * 8]), ([0, 0], [0, 4]));
    }

    #[test]
    fn silence_of_both_sides_takes_no_memory() {
        let mut mixer = Mixer::new(SampleRate::Hz16000, Channels::Stereo);
        let (mut frames, mut longest) = (0, 0);
        let mut count = |it: &[i16]| {
            frames += it.len() / 2;
            longest = longest.max(it.len());
        };
        mixer.lay(Side::Caller, 0, MU, &[0; 160], &mut count);
        mixer.lay(Side::Caller, 3_600_000 * MS, MU, &[0; 160], &mut count);
        assert!(mixer.caller.line.samples.len() < 40_000);
        mixer.end(None, &mut count);
        assert_eq!((frames, longest), (3_600 * 16_000 + 320, 2 * BLOCK));
    }

    #[test]
    fn a_click_keeps_its_place_at_every_rate_and_pieces_join_without_a_seam() {
        const RATES: [SampleRate; 4] =
            [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz24000, SampleRate::Hz48000];
        for (from, to) in RATES.into_iter().flat_map(|from| RATES.map(|to| (from, to))) {
            let mut mixer = Mixer::new(to, Channels::Stereo);
            let mut frames = Vec::new();
            // Clicks at 10 ms of every second piece; the second stretch begins at 500 ms, after silence.
            for packet in (0..10).chain(25..35) {
                let mut samples = vec![0; from.hz() / 50];
                if packet % 2 == 0 {
                    samples[from.hz() / 100] = 20_000;
                }
                let format = AudioFormat::Pcm16(from);
                let at = packet * 20 * MS;
                mixer.lay(Side::Caller, at, format, &pcm(&samples), &mut |it| frames.extend(it));
            }
            mixer.end(Some(800 * MS), &mut |it| frames.extend(it));
            let left: Vec<i16> = frames.iter().step_by(2).copied().collect();
            assert_eq!(left.len(), to.hz() * 4 / 5);
            let packet = to.hz() / 50;
            for (n, sound) in left.chunks(packet).enumerate() {
                let has_click = (n < 10 || (25..35).contains(&n)) && n % 2 == 0;
                let (peak, level) = peak(sound);
                assert_eq!(level > 2_000, has_click, "{from:?} to {to:?}, packet {n}: {level}");
                if has_click {
                    assert_eq!(peak, packet / 2, "{from:?} to {to:?}, packet {n}");
                }
            }
        }
    }

    fn peak(sound: &[i16]) -> (usize, u16) {
        let levels = sound.iter().map(|sample| sample.unsigned_abs()).enumerate();
        levels.max_by_key(|(at, level)| (*level, std::cmp::Reverse(*at))).unwrap_or((0, 0))
    }
}
