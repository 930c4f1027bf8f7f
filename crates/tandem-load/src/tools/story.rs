//! What happens in each call: who says what, which tools are called, and what becomes of their webhooks.
//!
//! Everything follows from the seed and the call's number, so that whoever checks afterwards knows what ought to have
//! happened.

use std::time::Duration;

/// Invocations in each call.
pub(super) const INVOCATIONS: usize = 3;

/// Of a thousand webhooks so many are answered late, never, wrongly or drop by drop.
const TROUBLED: u16 = 50;

/// A receiver that has work to do answers after 150 ms to this much more.
const WORK: (u64, u64) = (150, 900);

/// A tool of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tool {
    /// Its name.
    pub(super) name: &'static str,
    /// As the configuration has it.
    pub(super) mode: Mode,
    /// From the complete call to the last byte of the answer.
    pub(super) timeout: Duration,
}

/// How the conversation and a tool's call go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// The model waits.
    Blocking,
    /// The model goes on and is told later.
    Background,
    /// The model goes on and is told nothing.
    FireAndForget,
}

impl Mode {
    /// As the configuration has it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Blocking => "blocking",
            Self::Background => "background",
            Self::FireAndForget => "fire_and_forget",
        }
    }
}

const fn tool(name: &'static str, mode: Mode, seconds: u64) -> Tool {
    Tool { name, mode, timeout: Duration::from_secs(seconds) }
}

/// Looks something up, with all the time a webhook has by default.
const LOOKUP: Tool = tool("find_order", Mode::Blocking, 9);
/// Two that are asked at once, with little time.
const STOCK: Tool = tool("check_stock", Mode::Blocking, 2);
const PRICE: Tool = tool("check_price", Mode::Blocking, 2);
/// Takes its time while the conversation goes on.
const REPORT: Tool = tool("make_report", Mode::Background, 4);
/// Is only to be known.
const NOTE: Tool = tool("keep_note", Mode::FireAndForget, 2);

/// All tools of the agent.
pub(super) const TOOLS: [Tool; 5] = [LOOKUP, STOCK, PRICE, REPORT, NOTE];

/// Something the model does by itself; between two of them it is silent for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    /// It speaks.
    Say,
    /// It says a few words and calls these tools at once; it goes on when it has said what came of it.
    Ask(&'static [Tool]),
}

use Beat::{Ask, Say};

/// The kinds of call, one after the other.
const STORIES: [&[Beat]; 4] = [
    &[Say, Ask(&[LOOKUP]), Ask(&[STOCK, PRICE]), Say],
    &[Say, Ask(&[STOCK, PRICE]), Say, Ask(&[LOOKUP])],
    &[Say, Ask(&[LOOKUP]), Ask(&[REPORT]), Ask(&[STOCK])],
    &[Say, Ask(&[NOTE]), Ask(&[LOOKUP]), Ask(&[REPORT])],
];

/// What happens in the call of this number.
pub(super) fn story(call: u16) -> &'static [Beat] {
    STORIES[usize::from(call) % STORIES.len()]
}

/// What becomes of one webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// It is answered after this time.
    Answered(Duration),
    /// The answer comes after the deadline, but while somebody still listens.
    Late,
    /// No answer ever comes, or the connection is closed without one.
    Lost {
        /// The connection is closed.
        closed: bool,
    },
    /// The answer is none: of a kind that [`WRONG`] lists.
    Wrong(usize),
    /// The answer comes byte by byte, far beyond the deadline.
    Dripped,
}

/// Answers that are none, as the receiver knows them.
const WRONG: [&str; 6] = ["/500", "/not-json", "/too-large", "/redirect", "/close-body", "/wrong"];

impl Fate {
    /// In a word.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Answered(_) => "answered",
            Self::Late => "late",
            Self::Lost { .. } => "lost",
            Self::Wrong(_) => "wrong",
            Self::Dripped => "dripped",
        }
    }

    /// The path that makes the receiver do this to a tool of `timeout`.
    pub(super) fn path(self, timeout: Duration) -> String {
        let after = |more: u64| timeout.as_millis() as u64 + more;
        match self {
            Self::Answered(work) => format!("/late?ms={}", work.as_millis()),
            Self::Late => format!("/late?ms={}", after(700)),
            Self::Lost { closed: true } => "/close".into(),
            Self::Lost { closed: false } => "/hang".into(),
            Self::Wrong(kind) => WRONG[kind % WRONG.len()].into(),
            Self::Dripped => format!("/drip?ms={}", after(60_000)),
        }
    }

    /// Whether a record may say `outcome` of it (control API 10.4).
    pub(super) fn allows(self, outcome: &str) -> bool {
        match self {
            Self::Answered(_) => outcome == "ok",
            // The conversation goes on for longer than the answer takes.
            Self::Late => outcome == "late",
            Self::Lost { .. } | Self::Wrong(_) | Self::Dripped => outcome == "fallback_trouble",
        }
    }
}

/// One invocation that is to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Errand {
    /// The call.
    pub(super) call: u16,
    /// Which of the call's invocations, from 0.
    pub(super) number: u16,
    /// What is called.
    pub(super) tool: Tool,
    /// What becomes of it.
    pub(super) fate: Fate,
}

impl Errand {
    /// What names it in its arguments.
    pub(super) fn ticket(&self) -> String {
        format!("{}-{}", self.call, self.number)
    }

    /// Call and number of a ticket.
    pub(super) fn read_ticket(ticket: &str) -> Option<(u16, u16)> {
        let (call, number) = ticket.split_once('-')?;
        Some((call.parse().ok()?, number.parse().ok()?))
    }

    /// How often the model is told of it in words: how it came out in the background, and what came late.
    pub(super) fn in_words(&self) -> u64 {
        let late = u64::from(self.fate == Fate::Late);
        match self.tool.mode {
            Mode::Blocking => late,
            Mode::Background => 1 + late,
            Mode::FireAndForget => 0,
        }
    }

    /// The arguments of the call, as JSON.
    pub(super) fn arguments(&self) -> String {
        let receiver = self.fate.path(self.tool.timeout);
        serde_json::json!({ "ticket": self.ticket(), "receiver": receiver }).to_string()
    }
}

/// The errands of a call, in the order of its story.
pub(super) fn errands(seed: u64, call: u16) -> Vec<Errand> {
    let tools = story(call).iter().flat_map(|beat| match beat {
        Say => &[],
        Ask(tools) => *tools,
    });
    (0..)
        .zip(tools)
        .map(|(number, &tool)| Errand { call, number, tool, fate: fate(seed, call, number) })
        .collect()
}

fn fate(seed: u64, call: u16, number: u16) -> Fate {
    let mut random =
        fastrand::Rng::with_seed(seed ^ u64::from(call) << 32 ^ u64::from(number) << 16);
    if random.u16(0..1_000) < TROUBLED {
        match random.u8(0..4) {
            0 => Fate::Late,
            1 => Fate::Lost { closed: random.bool() },
            2 => Fate::Wrong(random.usize(0..WRONG.len())),
            _ => Fate::Dripped,
        }
    } else {
        Fate::Answered(Duration::from_millis(WORK.0 + random.u64(0..WORK.1)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_call_has_three_errands_that_are_told_apart() {
        for call in 0..8 {
            let errands = errands(1, call);
            assert_eq!(errands.len(), INVOCATIONS, "call {call}");
            for (number, errand) in (0..).zip(errands) {
                assert_eq!(Errand::read_ticket(&errand.ticket()), Some((call, number)));
            }
        }
        for not in ["", "1", "1-", "-1", "1-2-3", "1-70000"] {
            assert_eq!(Errand::read_ticket(not), None, "{not:?}");
        }
    }

    #[test]
    fn one_webhook_in_twenty_is_in_trouble_of_every_kind() {
        let mut fates: BTreeMap<&str, usize> = BTreeMap::new();
        for call in 0..1_000 {
            assert_eq!(errands(1, call), errands(1, call), "the same seed, the same fate");
            for errand in errands(1, call) {
                *fates.entry(errand.fate.name()).or_default() += 1;
            }
        }
        let troubled: usize =
            fates.iter().filter(|(name, _)| **name != "answered").map(|(_, n)| n).sum();
        assert!((120..180).contains(&troubled), "{fates:?}");
        assert_eq!(fates.len(), 5, "{fates:?}");
        assert!(fates.values().all(|n| *n > 15), "{fates:?}");
    }

    #[test]
    fn answers_in_time_are_in_time_and_late_ones_late() {
        for call in 0..200 {
            for errand in errands(3, call) {
                if let Fate::Answered(work) = errand.fate {
                    assert!(work + Duration::from_millis(800) < errand.tool.timeout, "{errand:?}");
                }
            }
        }
        let tool = Tool { timeout: Duration::from_secs(2), ..LOOKUP };
        assert_eq!(Fate::Late.path(tool.timeout), "/late?ms=2700");
        assert!(Fate::Late.allows("late") && !Fate::Late.allows("fallback_trouble"));
        assert!(Fate::Wrong(0).allows("fallback_trouble") && !Fate::Wrong(0).allows("late"));
    }
}
