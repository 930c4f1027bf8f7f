//! The agent's voice comes back from a loudspeaker: does it count as the caller's, and is the caller still heard?

use std::time::Duration;

use tandem_media::{Activity, Law, SampleRate, VoiceActivity};

use crate::{
    loss::Random,
    maker::{Maker, SAMPLES},
    manifest::Figure,
    telephone,
};

const RATE: SampleRate = SampleRate::Hz8000;
/// Network, jitter buffers and room, one way and back, in milliseconds.
const DELAYS_MS: [usize; 5] = [20, 60, 150, 300, 400];
/// How much quieter the echo is than what was sent, dB; none: a handset.
const LEVELS: [Option<i32>; 5] = [None, Some(-30), Some(-20), Some(-12), Some(-6)];
/// Noise of the line, dB of overload.
const LINE_DB: f64 = -65.0;
/// The caller begins so many samples after the agent: 3 s.
const INTERRUPTS_AT: usize = 24_000;
/// .. and says so much: 2 s.
const SAYS: usize = 16_000;
/// Later than this the caller was not heard.
const PATIENCE_MS: f64 = 800.0;

/// Runs of one level and with or without the guard.
#[derive(Debug, Default, Clone)]
struct Runs {
    runs: usize,
    /// Runs in which the agent interrupted itself.
    false_ones: usize,
    callers: usize,
    /// Milliseconds until a caller was heard, of those who were.
    onsets: Vec<f64>,
}

/// What was found out with all clips.
#[derive(Debug, Default)]
pub(crate) struct EchoRuns {
    guarded: [Runs; LEVELS.len()],
    unguarded: [Runs; LEVELS.len()],
}

impl EchoRuns {
    /// Lets `agent` speak, and `caller` interrupt; both at 8 kHz.
    pub(crate) fn measure(&mut self, agent: &[i16], caller: &[i16]) {
        let caller = &caller[first_speech(caller)..];
        let caller = &caller[..caller.len().min(SAYS)];
        for (n, level) in LEVELS.into_iter().enumerate() {
            for delay in DELAYS_MS {
                for reverberant in [false, true] {
                    let path = Path { level, delay_ms: delay, reverberant };
                    let alone = path.hear(agent, &[]);
                    let both = path.hear(agent, caller);
                    for (guard, runs) in
                        [(true, &mut self.guarded[n]), (false, &mut self.unguarded[n])]
                    {
                        runs.runs += 1;
                        runs.false_ones += usize::from(!starts(guard, agent, &alone).is_empty());
                        let Some(said) =
                            both.len().checked_sub(INTERRUPTS_AT).filter(|it| *it > SAYS)
                        else {
                            continue; // Too short a clip to interrupt.
                        };
                        runs.callers += usize::from(said > 0);
                        let onset = starts(guard, agent, &both).into_iter().find_map(|at| {
                            let ms = (at as f64 - INTERRUPTS_AT as f64) / 8.0;
                            (0.0..PATIENCE_MS).contains(&ms).then_some(ms)
                        });
                        runs.onsets.extend(onset);
                    }
                    if level.is_none() {
                        break; // A handset has no reverberation.
                    }
                }
            }
        }
    }

    /// Shares and times of all levels.
    pub(crate) fn report(&self, maker: &mut Maker) {
        for (n, level) in LEVELS.into_iter().enumerate() {
            let row = level.map_or("none: a handset".to_owned(), |level| format!("{level} dB"));
            for (runs, columns) in [
                (&self.unguarded[n], ["false, no guard", "found, no guard", "onset, no guard"]),
                (&self.guarded[n], ["false", "found", "onset"]),
            ] {
                let share = |part: usize, of: usize| 100.0 * part as f64 / of.max(1) as f64;
                let mut onsets = runs.onsets.clone();
                onsets.sort_by(f64::total_cmp);
                let values = [
                    (share(runs.false_ones, runs.runs), "%", 3.0),
                    (share(runs.onsets.len(), runs.callers), "%", -3.0),
                    (onsets.get(onsets.len() / 2).copied().unwrap_or(PATIENCE_MS), "ms", 20.0),
                ];
                for (column, (value, unit, tolerance)) in columns.into_iter().zip(values) {
                    let tolerance = if column.ends_with("no guard") { 0.0 } else { tolerance };
                    let (table, row) = ("echo", row.clone());
                    maker.figure(Figure { table, row, column, value, unit, tolerance });
                }
            }
        }
    }
}

/// From the leg's downlink to its uplink.
struct Path {
    level: Option<i32>,
    delay_ms: usize,
    reverberant: bool,
}

impl Path {
    /// What comes back of `agent`, and the `caller` from 3 s on, over a line with some noise.
    fn hear(&self, agent: &[i16], caller: &[i16]) -> Vec<i16> {
        let mut random = Random::new(self.delay_ms as u64);
        let line = 32_768.0 * 10f64.powf(LINE_DB / 20.0) * 3.0_f64.sqrt();
        let mut heard: Vec<f64> = (0..agent.len())
            .map(|_| line * (random.below(1 << 20) as f64 / f64::from(1 << 19) - 1.0))
            .collect();
        if let Some(level) = self.level {
            let gain = 10f64.powf(f64::from(level) / 20.0);
            for (delay, tap) in self.taps(&mut random) {
                for (slot, &sample) in heard.iter_mut().skip(delay).zip(agent) {
                    *slot += gain * tap * f64::from(sample);
                }
            }
        }
        for (slot, &sample) in heard.iter_mut().skip(INTERRUPTS_AT).zip(caller) {
            *slot += f64::from(sample);
        }
        let pcm: Vec<i16> =
            heard.iter().map(|sample| sample.round().clamp(-32_768.0, 32_767.0) as i16).collect();
        telephone::decode(Law::Mu, &telephone::encode(Law::Mu, &pcm))
    }

    /// Delays in samples and amplitudes, of a mean square of 1 together; a room's fall by 60 dB within 300 ms.
    fn taps(&self, random: &mut Random) -> Vec<(usize, f64)> {
        let first = self.delay_ms * 8;
        let mut taps = vec![(first, 1.0)];
        if self.reverberant {
            taps.extend((0..48).map(|_| {
                let later = 16 + random.below(2_384) as usize;
                let sign = if random.below(2) == 0 { 1.0 } else { -1.0 };
                (first + later, 0.35 * sign * 10f64.powf(-3.0 * later as f64 / 2_400.0))
            }));
        }
        let power: f64 = taps.iter().map(|(_, tap)| tap * tap).sum();
        taps.iter_mut().for_each(|(_, tap)| *tap /= power.sqrt());
        taps
    }
}

/// The ends of the packets, in samples, with which speech was found to begin.
fn starts(guard: bool, agent: &[i16], heard: &[i16]) -> Vec<usize> {
    let start = telephone::start();
    let mut activity = VoiceActivity::new(RATE);
    activity.guard_against_echo(guard);
    let mut found = Vec::new();
    for (n, (played, heard)) in agent.chunks(SAMPLES).zip(heard.chunks(SAMPLES)).enumerate() {
        let begin = start + Duration::from_millis(20) * n as u32;
        activity.played(begin, RATE, played);
        if activity.process_at(begin + Duration::from_millis(20), heard) == Some(Activity::Started)
        {
            found.push((n + 1) * SAMPLES);
        }
    }
    found
}

/// The first sample of speech: the begin of the first 10 ms less than 30 dB below the loudest.
fn first_speech(pcm: &[i16]) -> usize {
    let power = |block: &[i16]| block.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>();
    let loudest = pcm.chunks(80).map(power).fold(1.0, f64::max);
    pcm.chunks(80).position(|block| power(block) > loudest * 1e-3).unwrap_or(0) * 80
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A buzz in syllables.
    fn voice(hz: f64, seconds: usize) -> Vec<i16> {
        (0..seconds * 8_000)
            .map(|n| {
                let time = n as f64 / 8_000.0;
                let syllable = (time * 13.0).sin().max(0.0);
                (((time * hz).fract() - 0.5) * 12_000.0 * syllable) as i16
            })
            .collect()
    }

    #[test]
    fn an_echo_starts_speech_without_a_guard_and_a_handset_does_not() {
        let agent = voice(110.0, 6);
        let loud = Path { level: Some(-6), delay_ms: 150, reverberant: true }.hear(&agent, &[]);
        assert!(!starts(false, &agent, &loud).is_empty());
        let handset = Path { level: None, delay_ms: 150, reverberant: false };
        assert!(starts(true, &agent, &handset.hear(&agent, &[])).is_empty());
        let interrupted = handset.hear(&agent, &voice(190.0, 2));
        let found = starts(true, &agent, &interrupted);
        assert!(found.iter().any(|at| (24_000..30_400).contains(at)), "{found:?}");
    }
}
