//! What a run of calls with tools came to, beside the same calls without, and which targets it met.

use std::{fmt::Write as _, time::Duration};

use serde::Serialize;

use super::Findings;
use crate::{DaemonUse, Scheduling, Summary, Target, report::table};

/// Silence that a caller may hear while a tool runs.
const SILENCE: Duration = Duration::from_millis(2_500);

/// What is still the same, beside the calls without tools: a tenth more, or this much.
const SAME: Duration = Duration::from_micros(100);

/// Audio of calls, one block of them.
#[derive(Debug, Clone, Serialize)]
pub struct CallsReport {
    /// Calls, one after the other in each lane.
    pub calls: u16,
    /// How long they took in all.
    pub seconds: f64,
    /// How late the generator sent. It is part of `uplink`.
    pub lateness: Summary,
    /// RTP in to model websocket out, from the intended instant.
    pub uplink: Summary,
    /// Caller packets the model never saw.
    pub uplink_lost: u64,
    /// First byte of the model's words to their first RTP packet, where nothing else was being heard.
    pub first_packet: Summary,
    /// Turns of the model that began while something else was heard.
    pub turns_queued: u64,
    /// Turns of which the first packet never came.
    pub turns_unheard: u64,
    /// How far from 20 ms apart the packets of a turn came.
    pub spacing: Summary,
    /// INVITE to answer, with the model's handshake, while other calls are up.
    pub set_up: Summary,
    /// Calls that ended before we hung up, or in which the model was left waiting.
    pub calls_lost: u64,
    /// What it cost.
    pub daemon: DaemonUse,
}

/// What a run of calls with tools came to.
#[derive(Debug, Clone, Serialize)]
pub struct ToolsReport {
    /// Calls at the same time.
    pub at_once: u16,
    /// Decides what happens in each call.
    pub seed: u64,
    /// How our own threads were scheduled: generator, listener, model.
    pub generator: Scheduling,
    /// How the daemon was.
    pub daemon_scheduling: Scheduling,
    /// The same calls without tools, before.
    pub without_before: CallsReport,
    /// The calls with tools.
    pub with_tools: CallsReport,
    /// The same calls without tools, after.
    pub without_after: CallsReport,
    /// What became of the invocations.
    pub findings: Findings,
    /// The longest silence of each time a caller waited for tools, at the caller's ear.
    pub silence: Summary,
    /// Waits at whose end no answer was heard.
    pub unanswered: u64,
}

impl ToolsReport {
    /// The targets of this run.
    pub fn targets(&self) -> Vec<Target> {
        let Findings { invocations, .. } = self.findings;
        let none = |name, seen| Target::few(name, seen, invocations, 0);
        let with = &self.with_tools;
        let packets = with.uplink.n as u64 + with.uplink_lost;
        let turns = with.first_packet.n as u64 + with.turns_queued;
        vec![
            none("invocations without exactly one outcome", self.findings.not_one_outcome),
            none("outcomes that are not what the receiver did", self.findings.wrong_outcome),
            none("invocations the receiver knows otherwise", self.findings.not_matched),
            none("requests sent twice", self.findings.sent_twice),
            none("results not told to the model exactly once", self.findings.not_one_result),
            Target::few(
                "calls in which late results were not told in words",
                self.findings.not_in_words,
                with.calls.into(),
                0,
            ),
            Target::few(
                "calls without their record",
                self.findings.records_missing,
                with.calls.into(),
                0,
            ),
            Target {
                name: "longest silence while a tool runs",
                bound: format!("<= {:.1} s", SILENCE.as_secs_f64()),
                seen: format!("{:.2} s", self.silence.max.as_secs_f64()),
                met: self.silence.n > 0 && self.silence.max <= SILENCE,
            },
            Target::few(
                "waits that no answer ended",
                self.unanswered,
                self.silence.n as u64 + self.unanswered,
                0,
            ),
            self.same("RTP in -> websocket out, p99, as without tools", |it| &it.uplink),
            self.same("first model byte -> first RTP packet, p99, as without tools", |it| {
                &it.first_packet
            }),
            self.same("spacing of RTP packets, p99, as without tools", |it| &it.spacing),
            Target::few("packets lost on the way up", with.uplink_lost, packets, 1),
            Target::few("words never heard", with.turns_unheard, turns, 0),
            Target::few("calls lost", with.calls_lost, with.calls.into(), 0),
        ]
    }

    /// Whether all targets were met.
    pub fn passed(&self) -> bool {
        self.targets().iter().all(|target| target.met)
    }

    /// Why the figures say more about this machine than about the daemon, if so: others used it, or the calls without tools
    /// were not the same before and after.
    pub fn disturbance(&self) -> Option<String> {
        let (before, after) = (&self.without_before, &self.without_after);
        let busiest = [before, &self.with_tools, after]
            .into_iter()
            .map(|block| &block.daemon)
            .max_by(|one, other| one.others_percent.total_cmp(&other.others_percent))?;
        busiest.disturbance(&before.uplink, &after.uplink)
    }

    /// The figures as a table.
    pub fn table(&self) -> String {
        let Self { without_before: before, with_tools: with, without_after: after, .. } = self;
        let rows = [
            ("RTP in -> model websocket out, with tools", &with.uplink),
            ("  without tools, before", &before.uplink),
            ("  without tools, after", &after.uplink),
            ("first model byte -> RTP, with tools", &with.first_packet),
            ("  without tools, before", &before.first_packet),
            ("  without tools, after", &after.first_packet),
            ("spacing of RTP, off 20 ms, with tools", &with.spacing),
            ("  without tools, before", &before.spacing),
            ("  without tools, after", &after.spacing),
            ("INVITE -> 200 among other calls", &with.set_up),
            ("longest silence in a wait for tools", &self.silence),
            ("lateness of the generator, included", &with.lateness),
        ];
        let mut text = table(&rows);
        let list = |counts: &mut dyn Iterator<Item = (&str, u64)>| {
            counts.map(|(name, n)| format!("{n} {name}")).collect::<Vec<_>>().join(", ")
        };
        let Findings { fates, outcomes, invocations, .. } = &self.findings;
        let _ = write!(
            text,
            "\nwebhooks    {invocations}: {}\nrecords     {}\n",
            list(&mut fates.iter().map(|(name, n)| (*name, *n))),
            list(&mut outcomes.iter().map(|(name, n)| (name.as_str(), *n))),
        );
        for (name, block) in [("with tools", with), ("without", before)] {
            let _ = writeln!(
                text,
                "{name:<11} {} calls in {:.0} s, {:.1} % of one core",
                block.calls, block.seconds, block.daemon.cpu_percent
            );
        }
        let _ = write!(
            text,
            "scheduling  measuring threads {}, daemon {}",
            self.generator.name(),
            self.daemon_scheduling.name()
        );
        for example in &self.findings.examples {
            let _ = write!(text, "\n  {example}");
        }
        text
    }

    /// p99 with tools is that without, as far as that is the same before and after.
    fn same(&self, name: &'static str, of: fn(&CallsReport) -> &Summary) -> Target {
        let [before, with, after] =
            [&self.without_before, &self.with_tools, &self.without_after].map(of);
        let without = before.p99.max(after.p99);
        let bound = without + (without / 10).max(SAME);
        let millis = |it: Duration| format!("{:.3}", it.as_secs_f64() * 1e3);
        Target {
            name,
            bound: format!(
                "<= {} ms (without: {} before, {} after)",
                millis(bound),
                millis(before.p99),
                millis(after.p99)
            ),
            seen: format!("{} ms", millis(with.p99)),
            met: with.n > 0 && with.p99 <= bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(p99_us: u64) -> Summary {
        let p99 = Duration::from_micros(p99_us);
        Summary { n: 1000, p50: p99 / 2, p99, p999: p99 * 2, max: p99 * 3 }
    }

    fn block(calls: u16) -> CallsReport {
        CallsReport {
            calls,
            seconds: 30.0,
            lateness: summary(40),
            uplink: summary(2_000),
            uplink_lost: 0,
            first_packet: summary(500),
            turns_queued: 3,
            turns_unheard: 0,
            spacing: summary(300),
            set_up: summary(3_000),
            calls_lost: 0,
            daemon: DaemonUse {
                cpu_percent: 12.5,
                others_percent: 9.0,
                idle_kib: 10_240,
                loaded_kib: 20_480,
            },
        }
    }

    fn good() -> ToolsReport {
        ToolsReport {
            at_once: 100,
            seed: 1,
            generator: Scheduling::Fifo,
            daemon_scheduling: Scheduling::Ordinary,
            without_before: block(200),
            with_tools: block(1_000),
            without_after: block(200),
            findings: Findings {
                invocations: 3_000,
                outcomes: [("ok".to_owned(), 2_850), ("late".to_owned(), 150)].into(),
                fates: [("answered", 2_850), ("late", 150)].into(),
                ..Findings::default()
            },
            silence: Summary { max: SILENCE, ..summary(2_400_000) },
            unanswered: 0,
        }
    }

    #[test]
    fn a_target_is_met_at_its_bound_and_missed_above() {
        type Spoil = fn(&mut ToolsReport);
        assert!(good().passed(), "{:?}", good().targets());
        // A tenth of two milliseconds more, and a tenth of a millisecond where a tenth would be less.
        let mut still = good();
        still.with_tools.uplink = summary(2_200);
        still.with_tools.spacing = summary(400);
        assert!(still.passed(), "{:?}", still.targets());
        let cases: [(&str, Spoil); 11] = [
            ("uplink later than without", |it| it.with_tools.uplink = summary(2_201)),
            ("words later than without", |it| it.with_tools.first_packet = summary(601)),
            ("spacing wider than without", |it| it.with_tools.spacing = summary(401)),
            ("silence", |it| it.silence.max = SILENCE + Duration::from_millis(1)),
            ("nobody waited", |it| it.silence = Summary::default()),
            ("no answer", |it| it.unanswered = 1),
            ("two outcomes", |it| it.findings.not_one_outcome = 1),
            ("sent twice", |it| it.findings.sent_twice = 1),
            ("a record is missing", |it| it.findings.records_missing = 1),
            ("late and not told", |it| it.findings.not_in_words = 1),
            ("a call lost", |it| it.with_tools.calls_lost = 1),
        ];
        for (name, spoil) in cases {
            let mut report = good();
            spoil(&mut report);
            assert!(!report.passed(), "{name}");
        }
    }

    #[test]
    fn the_table_and_the_json_have_every_figure() {
        let table = good().table();
        assert!(table.contains("webhooks    3000: 2850 answered, 150 late"), "{table}");
        assert!(table.contains("records     150 late, 2850 ok"), "{table}");
        assert!(table.contains("with tools  1000 calls in 30 s, 12.5 % of one core"), "{table}");
        let json = serde_json::to_value(good()).unwrap();
        assert_eq!(json["with_tools"]["uplink"]["p99_us"], 2000.0);
        assert_eq!(json["findings"]["invocations"], 3000);
        assert_eq!(good().disturbance(), None);
        let mut busy = good();
        busy.with_tools.daemon.others_percent = 60.0;
        assert!(busy.disturbance().is_some_and(|it| it.contains("60 %")));
    }
}
