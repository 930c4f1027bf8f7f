//! Counters and durations per tool, and their text for Prometheus.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tandem_call::Verdict;

/// Tools that have counters of their own; further ones, of MCP servers that change their tools for ever, share one.
const MAX_TOOLS: usize = 1_024;

/// The name that they share.
const OTHER: &str = "other";

/// Upper bounds of the duration's buckets, in milliseconds.
const BUCKETS_MS: [u64; 12] =
    [25, 50, 100, 250, 500, 1_000, 2_000, 3_000, 5_000, 9_000, 30_000, 120_000];

/// What is measured of each tool; the label `tool` has its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolMetric {
    /// `tandem_tool_invocations_total{tool,outcome}`, counter: invocations by what became of them. One whose deadline
    /// passed is counted when its answer came late, or cannot come any more.
    Invocations,
    /// `tandem_tool_http_responses_total{tool,class}`, counter: answers by the class of their HTTP status.
    HttpResponses,
    /// `tandem_tool_retries_total{tool}`, counter: second attempts, after a connection that never was.
    Retries,
    /// `tandem_tool_in_flight{tool}`, gauge: invocations that are being carried out and whose deadline is ahead.
    InFlight,
    /// `tandem_tool_duration_seconds{tool}`, histogram: from the model's call to the answer, of invocations that have
    /// one.
    Duration,
}

impl ToolMetric {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 5] =
        [Self::Invocations, Self::HttpResponses, Self::Retries, Self::InFlight, Self::Duration];

    /// The name that Prometheus knows it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invocations => "tandem_tool_invocations_total",
            Self::HttpResponses => "tandem_tool_http_responses_total",
            Self::Retries => "tandem_tool_retries_total",
            Self::InFlight => "tandem_tool_in_flight",
            Self::Duration => "tandem_tool_duration_seconds",
        }
    }

    const fn kind(self) -> &'static str {
        match self {
            Self::Invocations | Self::HttpResponses | Self::Retries => "counter",
            Self::InFlight => "gauge",
            Self::Duration => "histogram",
        }
    }

    const fn help(self) -> &'static str {
        match self {
            Self::Invocations => "Tool invocations by outcome.",
            Self::HttpResponses => "Answers of tool webhooks by class of HTTP status.",
            Self::Retries => "Second attempts at tool webhooks.",
            Self::InFlight => "Tool invocations that are being carried out.",
            Self::Duration => "From the model's call to the tool's answer.",
        }
    }
}

/// The outcomes as they are written, each at its [`place`].
const OUTCOMES: [&str; 7] = [
    "ok",
    "fallback_noted",
    "fallback_trouble",
    "invalid_arguments",
    "rejected",
    "cancelled",
    "late",
];

const fn place(verdict: Verdict) -> usize {
    match verdict {
        Verdict::Ok => 0,
        Verdict::FallbackNoted => 1,
        Verdict::FallbackTrouble => 2,
        Verdict::InvalidArguments => 3,
        Verdict::Rejected => 4,
        Verdict::Cancelled => 5,
        Verdict::Late => 6,
    }
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Counters of all tools of the daemon. Tools of one name share theirs, whichever agent they belong to.
#[derive(Debug, Default)]
pub struct ToolMetrics {
    tools: Mutex<BTreeMap<Arc<str>, Arc<ToolStats>>>,
}

impl ToolMetrics {
    /// The counters of the tool `name`, kept by who counts.
    pub(crate) fn tool(&self, name: &str) -> Arc<ToolStats> {
        let mut tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
        let name = if tools.len() < MAX_TOOLS || tools.contains_key(name) { name } else { OTHER };
        match tools.get(name) {
            Some(stats) => Arc::clone(stats),
            None => Arc::clone(tools.entry(name.into()).or_default()),
        }
    }

    /// Everything in the text format of Prometheus (version 0.0.4). Series that were never counted are not written.
    pub fn render(&self) -> String {
        let tools: Vec<(Arc<str>, Arc<ToolStats>)> = {
            let tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
            tools.iter().map(|(name, stats)| (Arc::clone(name), Arc::clone(stats))).collect()
        };
        let mut text = String::new();
        for metric in ToolMetric::ALL {
            let (name, kind, help) = (metric.name(), metric.kind(), metric.help());
            writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")
                .expect("a string takes it");
            for (tool, stats) in &tools {
                stats.write(metric, &escaped(tool), &mut text);
            }
        }
        text
    }
}

/// The value of a label (Prometheus text format): backslash, quote and line break are escaped.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The counters of one tool.
#[derive(Debug, Default)]
pub(crate) struct ToolStats {
    verdicts: [AtomicU64; OUTCOMES.len()],
    classes: [AtomicU64; CLASSES.len()],
    retries: AtomicU64,
    in_flight: AtomicI64,
    /// One more than there are bounds: the last one has none.
    buckets: [AtomicU64; BUCKETS_MS.len() + 1],
    total_ms: AtomicU64,
}

impl ToolStats {
    pub(crate) fn count_verdict(&self, verdict: Verdict) {
        self.verdicts[place(verdict)].fetch_add(1, Relaxed);
    }

    pub(crate) fn count_response(&self, status: u16) {
        if let Some(class) =
            usize::from(status / 100).checked_sub(1).and_then(|n| self.classes.get(n))
        {
            class.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn count_retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub(crate) fn observe(&self, took: Duration) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_MS.iter().position(|bound| ms <= *bound).unwrap_or(BUCKETS_MS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.total_ms.fetch_add(ms, Relaxed);
    }

    /// Counts an invocation as being carried out until the guard is dropped.
    pub(crate) fn fly(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(Arc::clone(self))
    }

    fn write(&self, metric: ToolMetric, tool: &str, text: &mut String) {
        let name = metric.name();
        let mut line =
            |suffix: &str, label: Option<(&str, &str)>, value: &dyn std::fmt::Display| {
                let more =
                    label.map(|(label, value)| format!(",{label}=\"{value}\"")).unwrap_or_default();
                writeln!(text, "{name}{suffix}{{tool=\"{tool}\"{more}}} {value}")
                    .expect("a string takes it");
            };
        match metric {
            ToolMetric::Invocations => {
                for (outcome, count) in OUTCOMES.iter().zip(&self.verdicts) {
                    let count = count.load(Relaxed);
                    if count > 0 {
                        line("", Some(("outcome", outcome)), &count);
                    }
                }
            }
            ToolMetric::HttpResponses => {
                for (class, count) in CLASSES.iter().zip(&self.classes) {
                    let count = count.load(Relaxed);
                    if count > 0 {
                        line("", Some(("class", class)), &count);
                    }
                }
            }
            ToolMetric::Retries => line("", None, &self.retries.load(Relaxed)),
            ToolMetric::InFlight => line("", None, &self.in_flight.load(Relaxed)),
            ToolMetric::Duration => {
                let mut below = 0;
                for (index, bucket) in self.buckets.iter().enumerate() {
                    below += bucket.load(Relaxed);
                    let bound = BUCKETS_MS.get(index).map(|ms| (*ms as f64 / 1_000.0).to_string());
                    line("_bucket", Some(("le", bound.as_deref().unwrap_or("+Inf"))), &below);
                }
                line("_sum", None, &(self.total_ms.load(Relaxed) as f64 / 1_000.0));
                line("_count", None, &below);
            }
        }
    }
}

/// An invocation that is being carried out.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<ToolStats>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_written_for_prometheus() {
        let metrics = ToolMetrics::default();
        let stats = metrics.tool("create_lead");
        stats.count_verdict(Verdict::Ok);
        stats.count_verdict(Verdict::Ok);
        stats.count_verdict(Verdict::Late);
        stats.count_response(204);
        stats.count_response(503);
        stats.count_response(7);
        stats.count_retry();
        stats.observe(Duration::from_millis(80));
        stats.observe(Duration::from_millis(250));
        stats.observe(Duration::from_secs(500));
        let flying = metrics.tool("create_lead").fly();
        let text = metrics.render();
        for line in [
            "# TYPE tandem_tool_invocations_total counter",
            "tandem_tool_invocations_total{tool=\"create_lead\",outcome=\"ok\"} 2",
            "tandem_tool_invocations_total{tool=\"create_lead\",outcome=\"late\"} 1",
            "tandem_tool_http_responses_total{tool=\"create_lead\",class=\"2xx\"} 1",
            "tandem_tool_http_responses_total{tool=\"create_lead\",class=\"5xx\"} 1",
            "tandem_tool_retries_total{tool=\"create_lead\"} 1",
            "tandem_tool_in_flight{tool=\"create_lead\"} 1",
            "# TYPE tandem_tool_duration_seconds histogram",
            "tandem_tool_duration_seconds_bucket{tool=\"create_lead\",le=\"0.05\"} 0",
            "tandem_tool_duration_seconds_bucket{tool=\"create_lead\",le=\"0.1\"} 1",
            "tandem_tool_duration_seconds_bucket{tool=\"create_lead\",le=\"0.25\"} 2",
            "tandem_tool_duration_seconds_bucket{tool=\"create_lead\",le=\"120\"} 2",
            "tandem_tool_duration_seconds_bucket{tool=\"create_lead\",le=\"+Inf\"} 3",
            "tandem_tool_duration_seconds_sum{tool=\"create_lead\"} 500.33",
            "tandem_tool_duration_seconds_count{tool=\"create_lead\"} 3",
        ] {
            assert!(text.lines().any(|written| written == line), "{line}\n{text}");
        }
        assert!(!text.contains("cancelled") && !text.contains("1xx"), "never counted\n{text}");
        drop(flying);
        assert!(metrics.render().contains("tandem_tool_in_flight{tool=\"create_lead\"} 0"));
    }

    #[test]
    fn names_cannot_break_the_text_nor_be_without_end() {
        let metrics = ToolMetrics::default();
        metrics.tool("a\"b\\c\nd").count_retry();
        assert!(
            metrics.render().contains("tandem_tool_retries_total{tool=\"a\\\"b\\\\c\\nd\"} 1\n")
        );
        for n in 0..2 * MAX_TOOLS {
            metrics.tool(&format!("tool_{n}")).count_retry();
        }
        let text = metrics.render();
        assert_eq!(
            text.lines().filter(|line| line.starts_with("tandem_tool_retries_total{")).count(),
            MAX_TOOLS + 1
        );
        assert!(text.contains("tandem_tool_retries_total{tool=\"other\"} 1025"), "{text}");
    }
}
