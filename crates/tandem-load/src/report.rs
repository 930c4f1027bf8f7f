//! What a run came to, and which targets it met.

use std::{fmt::Write as _, time::Duration};

use serde::{Serialize, Serializer};

use crate::{Scheduling, Summary};

/// Added latency from a caller's RTP to the model's websocket, p99.
const UPLINK: Duration = Duration::from_millis(1);

/// From the first byte of a model's answer to its first RTP packet, p99.
const FIRST_PACKET: Duration = Duration::from_millis(5);

/// The two blocks of the control may differ by this factor at p99 on a machine that is quiet.
const QUIET: f64 = 1.2;

/// Other processes may use this much of one core, in percent.
const OTHERS: f64 = 10.0;

/// What a run came to.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    /// Calls at the same time.
    pub calls: u16,
    /// How long the daemon was measured.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub length: Duration,
    /// How our own threads were scheduled: generator, listener, model, the control's sink.
    pub generator: Scheduling,
    /// How the daemon was, and the control's relay.
    pub daemon_scheduling: Scheduling,
    /// How late the generator sent, from the intended instant. It is part of every latency below.
    pub lateness: Summary,
    /// Packets the generator could not send.
    pub packets_refused: u64,
    /// The control before: bare UDP in to TCP out, from the intended instant.
    pub null_before: Summary,
    /// RTP in to model websocket out, from the intended instant.
    pub uplink: Summary,
    /// Caller packets the model never saw.
    pub uplink_lost: u64,
    /// The control after.
    pub null_after: Summary,
    /// First byte of the model's answer to its first RTP packet.
    pub first_packet: Summary,
    /// Answers of which the first packet never came.
    pub turns_unheard: u64,
    /// How far from 20 ms apart the packets of an answer came.
    pub spacing: Summary,
    /// INVITE to answer, calls one after the other, the model's handshake included.
    pub set_up: Summary,
    /// Calls that ended before we hung up.
    pub calls_lost: u64,
    /// What it cost.
    pub daemon: DaemonUse,
}

/// What the daemon used, and what was left to it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct DaemonUse {
    /// User and system time under load, in percent of one core.
    pub cpu_percent: f64,
    /// What everybody else on this machine used meanwhile (and the host took from it), in percent of one core; without
    /// the measuring process.
    pub others_percent: f64,
    /// Resident memory before the first call.
    pub idle_kib: u64,
    /// Resident memory at the end, all calls up.
    pub loaded_kib: u64,
}

/// One target and whether it was met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// What is aimed at.
    pub name: &'static str,
    /// The bound, for people.
    pub bound: String,
    /// What was seen, for people.
    pub seen: String,
    /// Whether it is within the bound.
    pub met: bool,
}

impl Target {
    /// At most `bound` at p99, and something was seen.
    pub(crate) fn at_most(name: &'static str, summary: &Summary, bound: Duration) -> Self {
        Self {
            name,
            bound: format!("<= {} ms", millis(bound)),
            seen: format!("{} ms", millis(summary.p99)),
            met: summary.n > 0 && summary.p99 <= bound,
        }
    }

    /// At most `per_mille` of `of`.
    pub(crate) fn few(name: &'static str, seen: u64, of: u64, per_mille: u64) -> Self {
        Self {
            name,
            bound: match per_mille {
                0 => "0".into(),
                _ => format!("<= {} %", per_mille as f64 / 10.0),
            },
            seen: format!("{seen} of {of}"),
            met: seen * 1000 <= of * per_mille,
        }
    }
}

impl BenchReport {
    /// The targets of this run.
    pub fn targets(&self) -> Vec<Target> {
        let expected = self.uplink.n as u64 + self.uplink_lost;
        let turns = self.first_packet.n as u64 + self.turns_unheard;
        vec![
            Target::at_most("RTP in -> websocket out, p99", &self.uplink, UPLINK),
            Target::at_most(
                "first model byte -> first RTP packet, p99",
                &self.first_packet,
                FIRST_PACKET,
            ),
            // Percentiles of survivors mean nothing when many did not survive.
            Target::few("packets lost on the way up", self.uplink_lost, expected, 1),
            Target::few("answers never heard", self.turns_unheard, turns, 0),
            Target::few("calls lost", self.calls_lost, self.calls.into(), 0),
        ]
    }

    /// Whether all targets were met.
    pub fn passed(&self) -> bool {
        self.targets().iter().all(|target| target.met)
    }

    /// Why the figures say more about this machine than about the daemon, if so: something else was running.
    pub fn disturbance(&self) -> Option<String> {
        self.daemon.disturbance(&self.null_before, &self.null_after)
    }

    /// The figures as a table.
    pub fn table(&self) -> String {
        let rows = [
            ("RTP in -> model websocket out", &self.uplink),
            ("  null relay before (UDP in -> TCP out)", &self.null_before),
            ("  null relay after", &self.null_after),
            ("first model byte -> first RTP packet", &self.first_packet),
            ("spacing of RTP packets, off 20 ms", &self.spacing),
            ("INVITE -> 200 with model handshake", &self.set_up),
            ("lateness of the generator, included", &self.lateness),
        ];
        let schedulings = [self.generator, self.daemon_scheduling];
        table(&rows) + &self.daemon.text(self.calls, schedulings)
    }
}

impl DaemonUse {
    /// Why the figures say more about this machine than about the daemon, if so: others used it, or the control was not the
    /// same before and after.
    pub(crate) fn disturbance(&self, before: &Summary, after: &Summary) -> Option<String> {
        let (one, other) = (before.p99.as_secs_f64(), after.p99.as_secs_f64());
        let others = self.others_percent;
        if others > OTHERS {
            return Some(format!(
                "other processes used {others:.0} % of a core while the daemon was measured"
            ));
        }
        (one.max(other) > one.min(other) * QUIET)
            .then(|| "the null relay was not the same before and after".into())
    }

    /// The end of a report: what it cost, per call, and how the measuring threads and the daemon were scheduled.
    pub(crate) fn text(&self, calls: u16, [generator, daemon]: [Scheduling; 2]) -> String {
        let Self { cpu_percent, idle_kib, loaded_kib, .. } = self;
        let calls = f64::from(calls.max(1));
        format!(
            "\ndaemon      {cpu_percent:.1} % of one core, {:.3} % per call; {:.1} MiB resident, {:.0} kiB per call\n\
             scheduling  measuring threads {}, daemon and null relay {}",
            cpu_percent / calls,
            *loaded_kib as f64 / 1024.0,
            loaded_kib.saturating_sub(*idle_kib) as f64 / calls,
            generator.name(),
            daemon.name(),
        )
    }
}

/// Percentiles in milliseconds, a line each.
pub(crate) fn table(rows: &[(&str, &Summary)]) -> String {
    let mut table = format!(
        "{:<40} {:>8} {:>9} {:>9} {:>9} {:>9}\n",
        "milliseconds", "n", "p50", "p99", "p99.9", "max"
    );
    for (name, summary) in rows {
        let [p50, p99, p999, max] =
            [summary.p50, summary.p99, summary.p999, summary.max].map(millis);
        let _ = writeln!(table, "{name:<40} {:>8} {p50:>9} {p99:>9} {p999:>9} {max:>9}", summary.n);
    }
    table
}

fn millis(duration: Duration) -> String {
    format!("{:.3}", duration.as_secs_f64() * 1e3)
}

/// Writes seconds.
pub(crate) fn seconds<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(p99_us: u64) -> Summary {
        let p99 = Duration::from_micros(p99_us);
        Summary { n: 1000, p50: p99 / 2, p99, p999: p99 * 2, max: p99 * 3 }
    }

    fn good() -> BenchReport {
        BenchReport {
            calls: 100,
            length: Duration::from_secs(30),
            generator: Scheduling::Fifo,
            daemon_scheduling: Scheduling::Ordinary,
            lateness: summary(40),
            packets_refused: 0,
            null_before: summary(200),
            uplink: summary(1000),
            uplink_lost: 1,
            null_after: summary(240),
            first_packet: summary(5000),
            turns_unheard: 0,
            spacing: summary(300),
            set_up: summary(3000),
            calls_lost: 0,
            daemon: DaemonUse {
                cpu_percent: 12.5,
                others_percent: 9.0,
                idle_kib: 10_240,
                loaded_kib: 20_480,
            },
        }
    }

    #[test]
    fn a_target_is_met_at_its_bound_and_missed_above() {
        type Spoil = fn(&mut BenchReport);
        assert!(good().passed());
        let cases: [(&str, Spoil); 6] = [
            ("uplink late", |report| report.uplink = summary(1001)),
            ("answers late", |report| report.first_packet = summary(5001)),
            ("nothing came up", |report| report.uplink = Summary::default()),
            ("packets lost", |report| report.uplink_lost = 2),
            ("an answer unheard", |report| report.turns_unheard = 1),
            ("a call lost", |report| report.calls_lost = 1),
        ];
        for (name, spoil) in cases {
            let mut report = good();
            spoil(&mut report);
            assert!(!report.passed(), "{name}");
        }
    }

    #[test]
    fn a_disturbed_run_says_so() {
        assert_eq!(good().disturbance(), None);
        let control = "the null relay was not the same before and after";
        let mut busy = good();
        busy.daemon.others_percent = 103.7;
        for (report, expected) in [
            (BenchReport { null_after: summary(241), ..good() }, control),
            (BenchReport { null_before: summary(100), ..good() }, control),
            (busy, "other processes used 104 % of a core while the daemon was measured"),
        ] {
            assert_eq!(report.disturbance().as_deref(), Some(expected));
        }
    }

    #[test]
    fn the_table_and_the_json_have_every_figure() {
        let table = good().table();
        assert!(table.contains("RTP in -> model websocket out                1000     0.500     1.000     2.000     3.000"), "{table}");
        assert!(table.contains("0.125 % per call; 20.0 MiB resident, 102 kiB per call"), "{table}");
        let json = serde_json::to_value(good()).unwrap();
        assert_eq!(json["uplink"]["p99_us"], 1000.0);
        assert_eq!(json["seconds"], 30.0);
        assert_eq!(json["generator"], "fifo");
    }
}
