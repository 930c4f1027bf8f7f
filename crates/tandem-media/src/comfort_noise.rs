use crate::{SampleRate, lanes::to_pcm};

/// Reflection coefficients that are made use of; what comes after them is not heard.
const MAX_ORDER: usize = 32;

/// Nearer to one than this a coefficient would be a tone rather than noise.
const MAX_REFLECTION: f32 = 0.995;

/// Level and spectrum go this share of the way to what was last asked for, every 5 ms.
const APPROACH: f32 = 0.25;

/// The sound of a peer that is silent: noise of the level and the spectrum that it sends (RFC 3389).
#[derive(Debug)]
pub struct ComfortNoise {
    /// Samples of 5 ms.
    block: usize,
    /// Samples until the noise moves on towards what was asked for.
    until_block: usize,
    random: u32,
    /// Root mean square in samples, now and as asked for.
    level: [f32; 2],
    stages: [Stage; MAX_ORDER],
    /// Stages that are heard.
    order: usize,
    /// Nothing was asked for before.
    fresh: bool,
}

/// A stage of the all-pole lattice in its normalised form: a rotation, so that whatever it turns into keeps the power.
#[derive(Debug, Clone, Copy)]
struct Stage {
    reflection: f32,
    wanted: f32,
    /// The cosine to the reflection's sine.
    passed: f32,
    backward: f32,
}

impl ComfortNoise {
    /// Silence at `rate`, until it is told what to sound like; the same `seed` gives the same noise.
    pub fn new(rate: SampleRate, seed: u32) -> Self {
        let block = rate.hz() / 200;
        Self {
            block,
            until_block: block,
            random: seed | 1,
            level: [0.0; 2],
            stages: [Stage { reflection: 0.0, wanted: 0.0, passed: 1.0, backward: 0.0 }; MAX_ORDER],
            order: 0,
            fresh: true,
        }
    }

    /// Takes the payload of a comfort noise packet: a level in -dBov, and the reflection coefficients of the spectrum.
    ///
    /// The noise glides there within some 50 ms. An empty payload changes nothing; coefficients beyond the 32nd are ignored.
    pub fn set(&mut self, payload: &[u8]) {
        let Some((&level, reflections)) = payload.split_first() else { return };
        self.level[1] = 32_768.0 * 10_f32.powf(f32::from(level & 0x7F) / -20.0);
        // RFC 3389 §3.2: in units of 258/32768, and 127 is zero; 255 is reserved and as good as 254.
        let value = |&code: &u8| (f32::from(code.min(254)) - 127.0) * (258.0 / 32_768.0);
        let reflections = reflections.iter().map(value).chain(std::iter::repeat(0.0));
        for (stage, reflection) in self.stages.iter_mut().zip(reflections) {
            stage.wanted = reflection.clamp(-MAX_REFLECTION, MAX_REFLECTION);
        }
        // A stage on its way out still counts.
        let heard = |stage: &Stage| stage.wanted != 0.0 || stage.reflection != 0.0;
        self.order = self.stages.iter().rposition(heard).map_or(0, |last| last + 1);
        if self.fresh {
            self.fresh = false;
            self.approach(1.0);
        }
    }

    /// Fills `pcm` with the noise, which goes on where it ended the last time.
    pub fn fill(&mut self, mut pcm: &mut [i16]) {
        while !pcm.is_empty() {
            let (part, later) = pcm.split_at_mut(pcm.len().min(self.until_block));
            for sample in part.iter_mut() {
                *sample = to_pcm(self.next_sample());
            }
            self.until_block -= part.len();
            if self.until_block == 0 {
                self.until_block = self.block;
                self.approach(APPROACH);
            }
            pcm = later;
        }
    }

    fn next_sample(&mut self) -> f32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        // Uniform, with a power of one.
        let mut forward = self.random.cast_signed() as f32 * (3_f32.sqrt() / 2_147_483_648.0);
        let mut above: Option<&mut Stage> = None;
        for stage in self.stages[..self.order].iter_mut().rev() {
            let backward = stage.reflection * forward + stage.passed * stage.backward;
            forward = stage.passed * forward - stage.reflection * stage.backward;
            if let Some(above) = above {
                above.backward = backward;
            }
            above = Some(stage);
        }
        if let Some(first) = above {
            first.backward = forward;
        }
        forward * self.level[0]
    }

    /// Goes a share of the way to what was asked for.
    fn approach(&mut self, share: f32) {
        self.level[0] = nearer(self.level[0], self.level[1], share);
        for stage in &mut self.stages[..self.order] {
            stage.reflection = nearer(stage.reflection, stage.wanted, share);
            stage.passed = (1.0 - stage.reflection * stage.reflection).sqrt();
        }
    }
}

/// A share of the way from `now` to `wanted`, and all of it where hardly any is left.
fn nearer(now: f32, wanted: f32, share: f32) -> f32 {
    let left = wanted - now;
    if left.abs() < 1e-4 { wanted } else { now + left * share }
}
