//! Finds the digits that somebody presses as tones in 8 kHz audio (ITU-T Q.23), as Q.24 wants them told from speech.

use std::{f32::consts::PI, f64::consts::TAU, ops::Range};

/// A digit is one of the first four frequencies with one of the last four, in Hz.
const FREQUENCIES: [f64; LINES] = [697.0, 770.0, 852.0, 941.0, 1_209.0, 1_336.0, 1_477.0, 1_633.0];
const LINES: usize = 8;
const GROUP: usize = 4;
/// Digits by their two frequencies, as telephone-event codes.
const CODES: [[u8; GROUP]; GROUP] = [[1, 2, 3, 12], [4, 5, 6, 13], [7, 8, 9, 14], [10, 0, 11, 15]];

/// Samples that one run of the Goertzel filters takes: 4 ms.
const BLOCK: usize = 32;
/// Blocks that a digit fills from end to end: 32 ms. A tone of 23 ms is in seven at most, one of 40 ms fills nine.
const BLOCKS: usize = 8;
/// Two blocks are faded in and out as one bell of 8 ms, and so many bells, a block apart, added up in phase: a window of 20 ms in
/// which the lines of the other group are at least 35 dB weaker.
const BELLS: usize = 4;
/// The second window begins this many blocks after the first; between them a line turns by its distance from the nominal one.
const STEP: usize = BLOCKS - 1 - BELLS;

/// How far a line may be off: by Q.24 up to 1.5 % (1.8 % in Japan) is taken and 3.5 % (3 %) is not.
const MOST_OFF: f64 = 0.024;
/// The least mean square of a digit: -36 dBm0.
const QUIETEST: f32 = 65_000.0;
/// Of the energy of all blocks a block has at least this part of its share. Two tones beat by 20 %.
const EVEN: f32 = 0.5;
/// Of the energy so much is in the two lines. With noise of -15 dB it is 97 %; voices have harmonics, and consonants noise.
const PURE: f32 = 0.88;
/// The same before it is known how far the lines are off: what is less is not worth a closer look.
const WORTH_A_LOOK: f32 = 0.25;
/// How much stronger or weaker than the lower line the higher may be: -9 dB to 5 dB, for Q.24 takes -8 dB to 4 dB.
const TWIST: Range<f32> = 0.126..3.162;

/// A tone goes on in a block with this part of its energy ..
const GOES_ON: f32 = 0.1;
/// .. of which so much is near its two lines. In 4 ms they are hardly told from their neighbours.
const ALIKE: f32 = 0.5;
/// Blocks without the tone after which it is over: 20 ms. Q.24 wants 10 ms bridged and a pause of 40 ms noticed.
const PAUSE: u32 = 5;
/// Audio that is lost out of a tone does not end it up to here: 60 ms.
const MOST_LOST: usize = 480;

/// A detector of DTMF digits in a stream of mono `i16` PCM at 8 kHz, in frames of any length.
///
/// A digit is reported once, 32 to 36 ms after its tone began. Found are tones of 36 ms and more with -30 dBm0 and more in the
/// stronger of their two lines, that are up to 1.8 % off, with a twist of -8 to 4 dB and 15 dB above noise. Refused are tones of up
/// to 24 ms, lines 3 % off, and whatever has more than 12 % of its energy elsewhere, as voices have in their harmonics. A break of
/// 10 ms belongs to the tone, one of 28 ms ends it.
#[derive(Debug)]
pub struct DtmfDetector {
    filters: Filters,
    /// The block not yet complete.
    block: Running,
    filled: usize,
    /// The last blocks, the newest at the end, of which `known` belong together.
    blocks: [Block; BLOCKS],
    known: usize,
    tone: Option<Tone>,
}

/// What the filters are made of, by line.
#[derive(Debug)]
struct Filters {
    /// Twice the cosine of the turn in one sample.
    feedback: [f32; LINES],
    /// The turn in one sample.
    last: Lines,
    /// What turns a line back by no block, one, two and so on.
    back: [Lines; BELLS],
    /// How far a line may turn between the windows, beside what is its nominal turn.
    most_turn: [f32; LINES],
    /// The first half of a bell.
    rise: [f32; BLOCK],
}

/// Complex values, by line.
#[derive(Debug, Clone, Copy, Default)]
struct Lines {
    re: [f32; LINES],
    im: [f32; LINES],
}

/// The filters within a block.
#[derive(Debug, Clone, Copy, Default)]
struct Running {
    whole: Goertzel,
    rising: Goertzel,
    energy: f32,
    sum: f32,
}

/// The last two values of each filter.
#[derive(Debug, Clone, Copy, Default)]
struct Goertzel {
    one: [f32; LINES],
    two: [f32; LINES],
}

/// 4 ms of sound: amplitude and phase of each line, and what there is in all.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    whole: Lines,
    /// As the first half of a bell.
    rising: Lines,
    /// The bell of which this is the second half, in phase with the block before.
    bell: Lines,
    energy: f32,
    sum: f32,
}

/// The tone that is heard, or was until a moment ago.
#[derive(Debug, Clone, Copy)]
struct Tone {
    low: usize,
    high: usize,
    /// Its energy in a block.
    energy: f32,
    /// Blocks heard since it was heard last.
    absent: u32,
    /// Samples lost since then.
    lost: usize,
}

impl Default for DtmfDetector {
    fn default() -> Self {
        Self::new()
    }
}

impl DtmfDetector {
    /// A detector that has heard nothing yet.
    pub fn new() -> Self {
        Self {
            filters: Filters::new(),
            block: Running::default(),
            filled: 0,
            blocks: [Block::default(); BLOCKS],
            known: 0,
            tone: None,
        }
    }

    /// Takes the next samples, calls `found` for each digit that is recognised in them, and returns which of the samples are tone.
    ///
    /// Digits are telephone-event codes (RFC 4733 §3.2): 0 to 9, 10 for `*`, 11 for `#`, 12 to 15 for A to D. The range holds the tone
    /// from where it began, as far as that is within `pcm`, up to 8 ms after its end. Frames of up to 40 ms hold one tone at most;
    /// in longer ones the range also spans a pause between two.
    pub fn process(&mut self, pcm: &[i16], mut found: impl FnMut(u8)) -> Range<usize> {
        let (mut begin, mut end) = (pcm.len(), 0);
        let mut at = 0;
        while at < pcm.len() {
            let next = pcm.len().min(at + BLOCK - self.filled);
            self.block.add(&self.filters, self.filled, &pcm[at..next]);
            self.filled += next - at;
            let tone = if self.filled == BLOCK {
                self.filled = 0;
                self.complete_block(&mut found)
            } else if self.is_tone() {
                next - at
            } else {
                0
            };
            if tone > 0 {
                begin = begin.min(next.saturating_sub(tone));
                end = next;
            }
            at = next;
        }
        begin.min(end)..end
    }

    /// Takes note that `samples` were lost: of up to 60 ms nobody knows that a tone did not go on in them.
    pub fn lose(&mut self, samples: usize) {
        self.begin_anew();
        if let Some(tone) = &mut self.tone {
            tone.lost = tone.lost.saturating_add(samples);
        }
        self.tone.take_if(|tone| tone.lost > MOST_LOST);
    }

    /// Takes note of silence, or of sound that has nothing to do with the last: a tone is over.
    pub fn reset(&mut self) {
        self.begin_anew();
        self.tone = None;
    }

    /// Whether the last complete block was tone.
    fn is_tone(&self) -> bool {
        self.tone.is_some_and(|tone| tone.absent == 0)
    }

    fn begin_anew(&mut self) {
        self.block = Running::default();
        self.filled = 0;
        self.known = 0;
    }

    /// Judges the block that is complete. Returns how many of the last samples are tone.
    fn complete_block(&mut self, found: &mut impl FnMut(u8)) -> usize {
        let before = &self.blocks[BLOCKS - 1].rising;
        let block = std::mem::take(&mut self.block).conclude(&self.filters, before);
        self.blocks.rotate_left(1);
        self.blocks[BLOCKS - 1] = block;
        self.known = (self.known + 1).min(BLOCKS);
        let was_tone = self.is_tone();
        if let Some(tone) = self.find() {
            self.tone = Some(tone);
            found(CODES[tone.low][tone.high - GROUP]);
            // A tone begins within a block, which is not one of those it fills.
            return (BLOCKS + 1) * BLOCK;
        }
        if let Some(tone) = &mut self.tone {
            if tone.goes_on_in(&block) {
                (tone.absent, tone.lost) = (0, 0);
            } else {
                tone.absent += 1;
            }
            self.tone.take_if(|tone| tone.absent == PAUSE);
        }
        // What follows a block of tone may begin with the last of it.
        if was_tone || self.is_tone() { BLOCK } else { 0 }
    }

    /// The tone that fills all blocks, unless it is the one that is known.
    fn find(&self) -> Option<Tone> {
        const SAMPLES: f32 = (BLOCKS * BLOCK) as f32;
        if self.known < BLOCKS {
            return None;
        }
        let sum: f32 = self.blocks.iter().map(|block| block.sum).sum();
        let energy: f32 = self.blocks.iter().map(|block| block.energy).sum();
        let energy = energy - sum * sum / SAMPLES;
        let least = self.blocks.iter().map(|block| block.energy).fold(f32::INFINITY, f32::min);
        if energy < QUIETEST * SAMPLES || least < EVEN / BLOCKS as f32 * energy {
            return None;
        }
        // The first block is not the second half of a bell within the eight.
        let windows = [self.window(1), self.window(1 + STEP)];
        let power: [f32; LINES] =
            std::array::from_fn(|line| windows.iter().map(|window| window.power(line)).sum());
        let low = strongest(&power, 0..GROUP);
        let high = strongest(&power, GROUP..LINES);
        // A line of amplitude 2 has an energy of 2 in each sample; in a window it is as large as the bells are together.
        const WINDOW: f32 = (BELLS * BLOCK) as f32;
        let [low_energy, high_energy] =
            [low, high].map(|line| power[line] * SAMPLES / (WINDOW * WINDOW));
        let is_known = self.tone.is_some_and(|tone| (tone.low, tone.high) == (low, high));
        if is_known || low_energy + high_energy < WORTH_A_LOOK * energy {
            return None;
        }
        let low_energy = low_energy / self.filters.response(low, &windows)?;
        let high_energy = high_energy / self.filters.response(high, &windows)?;
        let pure = low_energy + high_energy > PURE * energy;
        let energy = energy / BLOCKS as f32;
        (pure && TWIST.contains(&(high_energy / low_energy))).then_some(Tone {
            low,
            high,
            energy,
            absent: 0,
            lost: 0,
        })
    }

    /// The lines in the 20 ms that end with the bells of block `first` and the next three.
    fn window(&self, first: usize) -> Lines {
        let mut window = Lines::default();
        for (block, back) in self.blocks[first..].iter().zip(&self.filters.back) {
            window.add_turned(&block.bell, back);
        }
        window
    }
}

impl Filters {
    fn new() -> Self {
        let turn = FREQUENCIES.map(|hz| TAU * hz / 8_000.0);
        let block = turn.map(|turn| turn * BLOCK as f64);
        Self {
            feedback: turn.map(|turn| (2.0 * turn.cos()) as f32),
            last: Lines::turned_by(turn),
            back: std::array::from_fn(|n| Lines::turned_by(block.map(|turn| -turn * n as f64))),
            most_turn: block.map(|turn| (turn * STEP as f64 * MOST_OFF) as f32),
            rise: std::array::from_fn(|n| {
                let angle = TAU / 4.0 * (n as f64 + 0.5) / BLOCK as f64;
                angle.sin().powi(2) as f32
            }),
        }
    }

    /// The part of a line's power that the windows hear, as it is off; none when it is too far off.
    fn response(&self, line: usize, [first, second]: &[Lines; 2]) -> Option<f32> {
        // Turned back by its nominal turn between the windows the second would be the first.
        let mut again = Lines::default();
        again.add_turned(second, &self.back[STEP]);
        let along = again.re[line] * first.re[line] + again.im[line] * first.im[line];
        let across = again.im[line] * first.re[line] - again.re[line] * first.im[line];
        let off = across.atan2(along).abs();
        if off > self.most_turn[line] {
            return None;
        }
        // The spectrum of a Hann window, and of four of them in a row.
        let half_block = (off / (2 * STEP) as f32).max(1e-3);
        let cycles = half_block * 2.0 / PI;
        let bell = (PI * cycles).sin() / (PI * cycles * (1.0 - cycles * cycles));
        let row = (BELLS as f32 * half_block).sin() / (BELLS as f32 * half_block.sin());
        Some((bell * row).powi(2))
    }
}

impl Lines {
    fn turned_by(angles: [f64; LINES]) -> Self {
        Self {
            re: angles.map(|angle| angle.cos() as f32),
            im: angles.map(|angle| angle.sin() as f32),
        }
    }

    fn add_turned(&mut self, other: &Self, turn: &Self) {
        for line in 0..LINES {
            self.re[line] += other.re[line] * turn.re[line] - other.im[line] * turn.im[line];
            self.im[line] += other.re[line] * turn.im[line] + other.im[line] * turn.re[line];
        }
    }

    fn power(&self, line: usize) -> f32 {
        self.re[line] * self.re[line] + self.im[line] * self.im[line]
    }
}

impl Goertzel {
    #[inline(always)]
    fn add(&mut self, feedback: &[f32; LINES], sample: f32) {
        let Self { one, two } = self;
        for ((one, two), feedback) in one.iter_mut().zip(two).zip(feedback) {
            let next = (sample - *two) + feedback * *one;
            (*one, *two) = (next, *one);
        }
    }

    /// The lines, in phase with the end of the block.
    fn lines(&self, last: &Lines) -> Lines {
        let mut lines = Lines::default();
        for line in 0..LINES {
            lines.re[line] = self.one[line] - self.two[line] * last.re[line];
            lines.im[line] = self.two[line] * last.im[line];
        }
        lines
    }
}

impl Running {
    /// Adds samples of one block, the first of which is its sample `from`.
    fn add(&mut self, filters: &Filters, from: usize, pcm: &[i16]) {
        let mut running = *self;
        for (&sample, rise) in pcm.iter().zip(&filters.rise[from..]) {
            let sample = f32::from(sample);
            running.whole.add(&filters.feedback, sample);
            running.rising.add(&filters.feedback, sample * rise);
            running.energy += sample * sample;
            running.sum += sample;
        }
        *self = running;
    }

    /// The block that is complete, after one with `before` as the first half of a bell.
    fn conclude(self, filters: &Filters, before: &Lines) -> Block {
        let whole = self.whole.lines(&filters.last);
        let rising = self.rising.lines(&filters.last);
        let mut falling = whole;
        for line in 0..LINES {
            falling.re[line] -= rising.re[line];
            falling.im[line] -= rising.im[line];
        }
        let mut bell = *before;
        bell.add_turned(&falling, &filters.back[1]);
        Block { whole, rising, bell, energy: self.energy, sum: self.sum }
    }
}

impl Tone {
    fn goes_on_in(&self, block: &Block) -> bool {
        let alike =
            (block.whole.power(self.low) + block.whole.power(self.high)) * 2.0 / BLOCK as f32;
        block.energy > GOES_ON * self.energy && alike > ALIKE * block.energy
    }
}

fn strongest(power: &[f32; LINES], group: Range<usize>) -> usize {
    let mut strongest = group.start;
    for line in group {
        if power[line] > power[strongest] {
            strongest = line;
        }
    }
    strongest
}

#[cfg(test)]
mod tests;
