//! Where the caller's audio breaks off and goes on: how much of a click is heard there?
//!
//! A click is what is loud above 2 kHz for a moment: the power there in 8 ms around the seam, beside that of the same speech where
//! it was not cut. The same audio cut hard at the same places is measured with it.

use std::{
    f64::consts::PI,
    time::{Duration, Instant},
};

use tandem_call::{ItemId, MediaLeg};
use tandem_media::{AudioFormat, Codec, Law};
use tandem_rtp::{RtpLeg, RtpPacket};

use crate::{
    maker::{Maker, SAMPLES, Voice},
    manifest::Figure,
    telephone::{self, PEER},
};

const FORMAT: AudioFormat = AudioFormat::G711(Law::Mu);
/// The model's audio comes in pieces of this many samples, 310 ms: no whole number of packets.
const PIECE: usize = 2_480;
/// How long nothing is played between two pieces.
const PAUSE: Duration = Duration::from_millis(120);
/// Samples around a seam in which a click would be.
const WINDOW: usize = 64;
/// Speech quieter than this, root mean square, has no seams to hear.
const AUDIBLE: f64 = 300.0;

/// What happens between two pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The model did not keep up.
    Dry,
    /// Playout was held.
    Held,
    /// The caller interrupted: what was queued is gone.
    BargeIn,
}

/// Which side of a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    End,
    Begin,
}

/// The seams of all clips.
#[derive(Debug, Default)]
pub(crate) struct Seams {
    /// Of what, on which side; dB above the speech: ours, and a hard cut.
    found: Vec<(Cause, Side, f64, f64)>,
}

impl Seams {
    /// Plays `voice` over a leg, with pauses of every kind.
    pub(crate) fn measure(&mut self, voice: &Voice) {
        for cause in [Cause::Dry, Cause::Held, Cause::BargeIn] {
            let played = Played::new(&voice.mu, cause);
            let last = played.runs.len().saturating_sub(1);
            let whole = telephone::decode(Law::Mu, &voice.mu);
            for (n, &Run { begin, end, source }) in played.runs.iter().enumerate() {
                // The clip's own begin and end are none.
                let begins = (n > 0).then_some((Side::Begin, begin, source));
                let ends = (n < last).then_some((Side::End, end, source + end - begin));
                for (side, seam, speech) in begins.into_iter().chain(ends) {
                    if let Some(speech) = power(&whole, speech, true)
                        && let Some(ours) = power(&played.sent, seam, false)
                        && let Some(hard) = power(&played.hard, seam, false)
                    {
                        let decibels = |power: f64| 10.0 * (power / speech).log10();
                        self.found.push((cause, side, decibels(ours), decibels(hard)));
                    }
                }
            }
        }
    }

    /// Mean and worst twentieth of each kind.
    pub(crate) fn report(&self, maker: &mut Maker) {
        for (row, cause, side) in [
            ("the model runs dry", Cause::Dry, Side::End),
            ("the model goes on", Cause::Dry, Side::Begin),
            ("playout is held", Cause::Held, Side::End),
            ("playout goes on", Cause::Held, Side::Begin),
            ("the caller interrupts", Cause::BargeIn, Side::End),
        ] {
            let of = |ours: bool| -> Vec<f64> {
                let of_kind = self.found.iter().filter(|it| (it.0, it.1) == (cause, side));
                let mut all: Vec<f64> =
                    of_kind.map(|&(_, _, tandem, hard)| if ours { tandem } else { hard }).collect();
                all.sort_by(f64::total_cmp);
                all
            };
            let row = row.to_owned();
            for (ours, mean, worst) in [
                (true, "tandem, mean", "tandem, worst 5 %"),
                (false, "hard, mean", "hard, worst 5 %"),
            ] {
                let all = of(ours);
                if all.is_empty() {
                    continue; // No clip is loud where its pieces end.
                }
                let values = [
                    (mean, all.iter().sum::<f64>() / all.len() as f64),
                    (worst, all[(all.len() - 1) * 19 / 20]),
                ];
                for (column, value) in values {
                    let (table, row, unit) = ("seams", row.clone(), "dB");
                    let tolerance = if ours { 1.0 } else { 0.0 };
                    maker.figure(Figure { table, row, column, value, unit, tolerance });
                }
            }
        }
    }
}

/// What a leg sent of speech with pauses in it.
struct Played {
    /// Samples as the caller gets them.
    sent: Vec<i16>,
    /// .. with nothing but what was queued, and silence.
    hard: Vec<i16>,
    runs: Vec<Run>,
}

/// Where queued audio begins and ends in what was sent, and where it comes from in the clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    begin: usize,
    end: usize,
    source: usize,
}

impl Played {
    fn new(mu: &[u8], cause: Cause) -> Self {
        let mut now = telephone::start();
        let mut leg = telephone::leg(now, Codec::PCMU, FORMAT);
        let mut played = Self { sent: Vec::new(), hard: Vec::new(), runs: Vec::new() };
        let whole = telephone::decode(Law::Mu, mu);
        if cause == Cause::Held {
            leg.play(now, ItemId(1), FORMAT, mu);
        }
        for (n, piece) in mu.chunks(PIECE).enumerate() {
            let item = ItemId(if cause == Cause::BargeIn { n as u64 + 1 } else { 1 });
            let begin = if cause == Cause::BargeIn { n * PIECE } else { 0 };
            match cause {
                Cause::Dry => leg.play(now, item, FORMAT, piece),
                Cause::Held => leg.pause(now, false),
                // More than will be heard: the rest is cut off.
                Cause::BargeIn => leg.play(now, item, FORMAT, &mu[begin..]),
            }
            let length = FORMAT.duration_of(piece.len());
            now = played.run(&mut leg, now + length, item, (&whole, begin));
            match cause {
                Cause::Dry => {
                    while !leg.queued().is_zero() {
                        now = played.run(&mut leg, now + telephone::PTIME, item, (&whole, begin));
                    }
                }
                Cause::Held => leg.pause(now, true),
                Cause::BargeIn => leg.clear(now),
            }
            now = played.run(&mut leg, now + PAUSE, item, (&whole, begin));
        }
        played
    }

    /// Sends what is due up to `until`, which it returns. The clip, and where in it `item` begins, are the `source`.
    fn run(
        &mut self,
        leg: &mut RtpLeg,
        until: Instant,
        item: ItemId,
        (clip, begin): (&[i16], usize),
    ) -> Instant {
        let heard = |leg: &RtpLeg| {
            let nanos = leg.heard(item).unwrap_or_default().as_nanos();
            (nanos * 8_000 / 1_000_000_000) as usize
        };
        while let Some(due) = leg.next_send().filter(|due| *due <= until) {
            let before = heard(leg);
            let mut packet = None;
            if let Some(transmit) = leg.poll_transmit(due)
                && let Ok(rtp) = RtpPacket::parse(transmit.bytes)
                && rtp.payload_type == 0
                && transmit.destination == PEER.into()
            {
                packet = Some((rtp.timestamp as usize, telephone::decode(Law::Mu, rtp.payload)));
            }
            let after = heard(leg).max(before);
            if let Some((at, pcm)) = packet {
                let queued = clip.get(begin + before..begin + after).unwrap_or_default();
                self.take(at, &pcm, queued, begin + before);
            }
            leg.handle_timeout(due);
            while leg.poll_uplink().is_some() {}
            while leg.poll_event().is_some() {}
        }
        leg.handle_timeout(until);
        while leg.poll_uplink().is_some() {}
        while leg.poll_event().is_some() {}
        until
    }

    /// Puts a packet in its place, and `queued`, which it begins with and which is at `source` in the clip.
    fn take(&mut self, at: usize, pcm: &[i16], queued: &[i16], source: usize) {
        let length = self.sent.len().max(at + pcm.len());
        self.sent.resize(length, 0);
        self.hard.resize(length, 0);
        self.sent[at..at + pcm.len()].copy_from_slice(pcm);
        let queued = &queued[..queued.len().min(SAMPLES)];
        self.hard[at..at + queued.len()].copy_from_slice(queued);
        if !queued.is_empty() {
            match self.runs.last_mut() {
                Some(run) if run.end == at => run.end += queued.len(),
                _ => self.runs.push(Run { begin: at, end: at + queued.len(), source }),
            }
        }
    }
}

/// Power above 2 kHz in the window around `middle`; none where that is not there, or is to be `audible` and is not.
fn power(pcm: &[i16], middle: usize, audible: bool) -> Option<f64> {
    let begin = middle.checked_sub(WINDOW / 2)?;
    let window = pcm.get(begin..begin + WINDOW)?;
    let mean_square =
        window.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / WINDOW as f64;
    if audible && mean_square < AUDIBLE * AUDIBLE {
        return None;
    }
    // 2 to 3.75 kHz, every 125 Hz.
    let sum: f64 = (16..=30)
        .map(|bin| {
            let (mut re, mut im) = (0.0, 0.0);
            for (n, &sample) in window.iter().enumerate() {
                let turn = 2.0 * PI * n as f64 / WINDOW as f64;
                let weighted = f64::from(sample) * (0.5 - 0.5 * turn.cos());
                re += weighted * (turn * f64::from(bin)).cos();
                im += weighted * (turn * f64::from(bin)).sin();
            }
            re * re + im * im
        })
        .sum();
    // What mu-law makes of silence is no click.
    Some(sum + 1e4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_click_and_a_fade_is_none() {
        let sine = |n: usize| 8_000.0 * (2.0 * PI * n as f64 / 40.0).cos();
        let cut: Vec<i16> = (0..400).map(|n| if n < 200 { sine(n) as i16 } else { 0 }).collect();
        let faded: Vec<i16> = (0..400)
            .map(|n| (sine(n) * (1.0 - (n as f64 - 200.0) / 40.0).clamp(0.0, 1.0)) as i16)
            .collect();
        let (click, none) = (power(&cut, 200, false), power(&faded, 220, false));
        assert!(click.unwrap() > 100.0 * none.unwrap(), "{click:?} {none:?}");
        assert_eq!(power(&cut, 300, true), None, "silence");
        assert_eq!(power(&cut, 390, false), None, "the end");
    }

    #[test]
    fn pauses_are_where_they_were_made() {
        let tone: Vec<i16> =
            (0..9_000_i32).map(|n| if n % 40 < 20 { 6_000 } else { -6_000 }).collect();
        let mu = telephone::encode(Law::Mu, &tone);
        for cause in [Cause::Dry, Cause::Held, Cause::BargeIn] {
            let played = Played::new(&mu, cause);
            assert!(played.runs.len() >= 3, "{cause:?}: {:?}", played.runs);
            let Run { begin, end, source } = played.runs[0];
            assert_eq!(source, 0, "{cause:?}");
            assert_eq!(played.sent[begin..end], played.hard[begin..end], "{cause:?}");
            assert!(played.hard[end..end + 160].iter().all(|sample| *sample == 0), "{cause:?}");
        }
    }
}
