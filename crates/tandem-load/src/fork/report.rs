//! What a run of forked calls came to, and which targets it met.

use std::time::Duration;

use serde::Serialize;

use crate::{
    DaemonUse, Phases, Scheduling, Summary, Target,
    report::{seconds, table},
};

/// Added latency from a fork's message to the model's websocket, p99. Where all calls send at once it is what is added to
/// the null relay, which has the same burst to work off.
const UPLINK: Duration = Duration::from_millis(2);

/// From the first byte of a model's answer to the first message for the fork, p99.
const FIRST_MESSAGE: Duration = Duration::from_millis(5);

/// What a run of forked calls came to.
#[derive(Debug, Clone, Serialize)]
pub struct ForkReport {
    /// Calls at the same time.
    pub calls: u16,
    /// How long the daemon was measured.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub length: Duration,
    /// When the calls sent.
    pub phases: Phases,
    /// How our own threads were scheduled: generator, listener, model.
    pub generator: Scheduling,
    /// How the daemon was, and the control's relay.
    pub daemon_scheduling: Scheduling,
    /// How late the generator sent, from the intended instant; of calls that send at once, the first. It is part of every
    /// latency below.
    pub lateness: Summary,
    /// How long the calls that send at once took to hand their frames to the kernel, part of every latency below.
    pub bursts: Summary,
    /// Frames the generator could not send.
    pub frames_refused: u64,
    /// The control before: binary message in to text message out, from the intended instant.
    pub null_before: Summary,
    /// Fork's message in to model websocket out, from the intended instant.
    pub uplink: Summary,
    /// Caller frames the model never saw.
    pub uplink_lost: u64,
    /// The control after.
    pub null_after: Summary,
    /// Model's answers.
    pub answers: u64,
    /// First byte of the model's answer to the first message with speech at the fork.
    pub first_message: Summary,
    /// Answers that did not come whole.
    pub answers_incomplete: u64,
    /// From connecting to the open model session, calls one after the other.
    pub set_up: Summary,
    /// Forks that were closed before we closed them.
    pub calls_lost: u64,
    /// Calls that did not end when we closed their forks.
    pub calls_left: u64,
    /// What it cost.
    pub daemon: DaemonUse,
}

impl ForkReport {
    /// The targets of this run.
    pub fn targets(&self) -> Vec<Target> {
        let uplink = match self.phases {
            Phases::Spread => {
                Target::at_most("fork message in -> model websocket out, p99", &self.uplink, UPLINK)
            }
            Phases::Burst => {
                let floor = self.null_before.p99.min(self.null_after.p99);
                Target::at_most(
                    "burst of fork messages in -> model websocket out, p99 (null relay + 2 ms)",
                    &self.uplink,
                    floor + UPLINK,
                )
            }
        };
        let expected = self.uplink.n as u64 + self.uplink_lost;
        vec![
            uplink,
            Target::at_most(
                "first model byte -> first fork message, p99",
                &self.first_message,
                FIRST_MESSAGE,
            ),
            Target::few("frames lost on the way up", self.uplink_lost, expected, 0),
            Target::few("answers not heard whole", self.answers_incomplete, self.answers, 0),
            Target::few("calls dropped", self.calls_lost, self.calls.into(), 0),
            Target::few("calls that outlived their fork", self.calls_left, self.calls.into(), 0),
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
        let mut rows = vec![
            ("fork message in -> model websocket out", &self.uplink),
            ("  null relay before (ws in -> ws out)", &self.null_before),
            ("  null relay after", &self.null_after),
            ("first model byte -> first fork message", &self.first_message),
            ("fork connects -> model session is open", &self.set_up),
            ("lateness of the generator, included", &self.lateness),
        ];
        if self.phases == Phases::Burst {
            rows.push(("sending the burst, included", &self.bursts));
        }
        let schedulings = [self.generator, self.daemon_scheduling];
        table(&rows) + &self.daemon.text(self.calls, schedulings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(p99_us: u64) -> Summary {
        let p99 = Duration::from_micros(p99_us);
        Summary { n: 1000, p50: p99 / 2, p99, p999: p99 * 2, max: p99 * 3 }
    }

    fn good() -> ForkReport {
        ForkReport {
            calls: 200,
            length: Duration::from_secs(30),
            phases: Phases::Spread,
            generator: Scheduling::Fifo,
            daemon_scheduling: Scheduling::Ordinary,
            lateness: summary(40),
            bursts: Summary::default(),
            frames_refused: 0,
            null_before: summary(200),
            uplink: summary(2000),
            uplink_lost: 0,
            null_after: summary(240),
            answers: 1000,
            first_message: summary(5000),
            answers_incomplete: 0,
            set_up: summary(3000),
            calls_lost: 0,
            calls_left: 0,
            daemon: DaemonUse {
                cpu_percent: 40.0,
                others_percent: 9.0,
                idle_kib: 10_240,
                loaded_kib: 30_720,
            },
        }
    }

    #[test]
    fn a_target_is_met_at_its_bound_and_missed_above() {
        type Spoil = fn(&mut ForkReport);
        assert!(good().passed());
        let cases: [(&str, Spoil); 8] = [
            ("uplink late", |report| report.uplink = summary(2001)),
            ("answers late", |report| report.first_message = summary(5001)),
            ("nothing came up", |report| report.uplink = Summary::default()),
            ("nothing came down", |report| report.first_message = Summary::default()),
            ("a frame lost", |report| report.uplink_lost = 1),
            ("an answer cut", |report| report.answers_incomplete = 1),
            ("a call lost", |report| report.calls_lost = 1),
            ("a call left", |report| report.calls_left = 1),
        ];
        for (name, spoil) in cases {
            let mut report = good();
            spoil(&mut report);
            assert!(!report.passed(), "{name}");
        }
    }

    #[test]
    fn a_burst_is_compared_with_the_same_burst_through_the_null_relay() {
        let burst = ForkReport { phases: Phases::Burst, bursts: summary(1800), ..good() };
        assert!(burst.table().contains("sending the burst, included"));
        let mut report = burst;
        report.uplink = summary(2200);
        assert!(report.passed());
        report.uplink = summary(2201);
        assert!(!report.passed());
        assert!(!good().table().contains("burst"));
    }

    #[test]
    fn the_table_and_the_json_have_every_figure() {
        let table = good().table();
        assert!(table.contains("fork message in -> model websocket out       1000     1.000     2.000     4.000     6.000"), "{table}");
        assert!(table.contains("0.200 % per call; 30.0 MiB resident, 102 kiB per call"), "{table}");
        let json = serde_json::to_value(good()).unwrap();
        assert_eq!(json["uplink"]["p99_us"], 2000.0);
        assert_eq!(json["phases"], "spread");
    }
}
