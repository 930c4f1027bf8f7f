//! Whether every invocation had exactly one outcome, and the right one: what was to happen, compared with the daemon's
//! records, the receiver's log and what the model was told.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{
    story::{Errand, errands},
    talk::Told,
};

/// Findings of each kind that are told in words.
const MOST_TOLD: usize = 8;

/// A record of the daemon, as far as it is of interest.
#[derive(Debug, Clone, Deserialize)]
struct Record {
    #[serde(default)]
    tools: Vec<Invocation>,
}

#[derive(Debug, Clone, Deserialize)]
struct Invocation {
    id: String,
    name: String,
    #[serde(default)]
    arguments: Arguments,
    outcome: String,
    #[serde(default)]
    attempts: u32,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Arguments {
    #[serde(default)]
    ticket: String,
}

/// A request that the receiver read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// The invocation it says it is of.
    pub(super) id: String,
    /// What names the errand in its arguments.
    pub(super) ticket: String,
    /// The tool.
    pub(super) name: String,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Invocations that were to happen.
    pub invocations: u64,
    /// How they came out, by the word in the record.
    pub outcomes: BTreeMap<String, u64>,
    /// What the receiver did with their webhooks.
    pub fates: BTreeMap<&'static str, u64>,
    /// Invocations without exactly one outcome in the records.
    pub not_one_outcome: u64,
    /// Outcomes that are not what the receiver did.
    pub wrong_outcome: u64,
    /// Invocations of which the receiver knows other ids or arguments than the record, or nothing.
    pub not_matched: u64,
    /// Requests that were sent more than once.
    pub sent_twice: u64,
    /// Blocking calls of which the model was not told exactly one result.
    pub not_one_result: u64,
    /// Calls in which the model was told more or fewer results in words than came late or in the background.
    pub not_in_words: u64,
    /// Calls without exactly one record.
    pub records_missing: u64,
    /// The first of each, in words.
    pub examples: Vec<String>,
}

impl Findings {
    /// Compares. `records` are the daemon's, a line each; calls are 0 to `calls`.
    pub(super) fn new(
        seed: u64,
        calls: u16,
        records: &str,
        requests: &[Request],
        told: &[(u16, Told)],
    ) -> Self {
        let mut findings = Self::default();
        let records: Vec<Record> =
            records.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        findings.records_missing = u64::from(calls).abs_diff(records.len() as u64);
        let mut recorded: HashMap<&str, Vec<&Invocation>> = HashMap::new();
        for invocation in records.iter().flat_map(|record| &record.tools) {
            *findings.outcomes.entry(invocation.outcome.clone()).or_default() += 1;
            recorded.entry(&invocation.arguments.ticket).or_default().push(invocation);
        }
        let mut received: HashMap<&str, Vec<&Request>> = HashMap::new();
        for request in requests {
            received.entry(&request.ticket).or_default().push(request);
        }
        for (call, told) in told {
            let expected: u64 = errands(seed, *call).iter().map(Errand::in_words).sum();
            if told.words != expected {
                findings.not_in_words += 1;
                findings.tell(findings.not_in_words, || {
                    format!("call {call}: told {} results in words, not {expected}", told.words)
                });
            }
        }
        let told: HashMap<u16, &Told> = told.iter().map(|(call, told)| (*call, told)).collect();
        let mut tickets = 0;
        for errand in (0..calls).flat_map(|call| errands(seed, call)) {
            findings.invocations += 1;
            *findings.fates.entry(errand.fate.name()).or_default() += 1;
            let ticket = errand.ticket();
            let of_record = recorded.get(ticket.as_str()).map_or(&[][..], Vec::as_slice);
            let of_receiver = received.get(ticket.as_str()).map_or(&[][..], Vec::as_slice);
            tickets += of_record.len();
            findings.judge(&errand, of_record, of_receiver);
            let results = told
                .get(&errand.call)
                .map_or(0, |told| told.results.get(&errand.number).copied().unwrap_or(0));
            if results != 1 {
                findings.not_one_result += 1;
                findings.tell(findings.not_one_result, || {
                    format!("{ticket}: the model was told {results} results")
                });
            }
        }
        // Invocations in the records that nobody asked for.
        let strange = records.iter().map(|record| record.tools.len()).sum::<usize>() - tickets;
        findings.not_one_outcome += strange as u64;
        findings.not_one_result += told.values().map(|told| u64::from(told.strange)).sum::<u64>();
        findings
    }

    fn judge(&mut self, errand: &Errand, recorded: &[&Invocation], received: &[&Request]) {
        let ticket = errand.ticket();
        let [invocation] = recorded else {
            self.not_one_outcome += 1;
            return self.tell(self.not_one_outcome, || {
                format!("{ticket}: {} outcomes in the records", recorded.len())
            });
        };
        let right = errand.fate.allows(&invocation.outcome) && invocation.name == errand.tool.name;
        if !right {
            self.wrong_outcome += 1;
            self.tell(self.wrong_outcome, || {
                format!(
                    "{ticket}: {} is {:?} of {}, which was {}",
                    invocation.id,
                    invocation.outcome,
                    errand.tool.name,
                    errand.fate.name()
                )
            });
        }
        if received.len() > 1 {
            self.sent_twice += 1;
            self.tell(self.sent_twice, || format!("{ticket}: sent {} times", received.len()));
        }
        let matched =
            received.iter().any(|it| it.id == invocation.id && it.name == invocation.name);
        if !matched || (invocation.outcome == "ok" && invocation.attempts != 1) {
            self.not_matched += 1;
            self.tell(self.not_matched, || {
                format!(
                    "{ticket}: the record has {} with {} attempts, the receiver {received:?}",
                    invocation.id, invocation.attempts
                )
            });
        }
    }

    fn tell(&mut self, so_many: u64, words: impl FnOnce() -> String) {
        if so_many <= MOST_TOLD as u64 {
            self.examples.push(words());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SEED: u64 = 1;
    const CALLS: u16 = 60;

    /// What is known when all is well.
    struct Known {
        records: Vec<Value>,
        requests: Vec<Request>,
        told: Vec<(u16, Told)>,
    }

    fn all_well() -> Known {
        let mut known = Known { records: Vec::new(), requests: Vec::new(), told: Vec::new() };
        for call in 0..CALLS {
            let mut tools = Vec::new();
            let mut results = BTreeMap::new();
            for errand in errands(SEED, call) {
                let id = format!("inv_{call}_{}", errand.number);
                let outcome = ["ok", "fallback_trouble", "late"]
                    .into_iter()
                    .find(|outcome| errand.fate.allows(outcome))
                    .unwrap();
                tools.push(json!({
                    "id": id, "name": errand.tool.name, "arguments": { "ticket": errand.ticket() },
                    "outcome": outcome, "attempts": 1,
                }));
                let name = errand.tool.name.to_owned();
                known.requests.push(Request { id, ticket: errand.ticket(), name });
                results.insert(errand.number, 1);
            }
            known.records.push(json!({ "id": format!("call_{call}"), "tools": tools }));
            let words = errands(SEED, call).iter().map(Errand::in_words).sum();
            known.told.push((call, Told { results, words, ..Told::default() }));
        }
        known
    }

    fn judge(known: &Known) -> Findings {
        let lines: Vec<String> = known.records.iter().map(Value::to_string).collect();
        Findings::new(SEED, CALLS, &lines.join("\n"), &known.requests, &known.told)
    }

    /// What is counted of troubles.
    fn counts(findings: &Findings) -> [u64; 7] {
        [
            findings.not_one_outcome,
            findings.wrong_outcome,
            findings.not_matched,
            findings.sent_twice,
            findings.not_one_result,
            findings.records_missing,
            findings.not_in_words,
        ]
    }

    #[test]
    fn nothing_is_found_when_all_is_well() {
        let findings = judge(&all_well());
        assert_eq!(counts(&findings), [0; 7], "{:?}", findings.examples);
        assert_eq!(findings.invocations, 3 * u64::from(CALLS));
        assert_eq!(findings.outcomes.values().sum::<u64>(), findings.invocations);
    }

    #[test]
    fn each_trouble_is_found() {
        type Spoil = fn(&mut Known);
        // Call 1's first webhook is answered, with this seed.
        assert_eq!(errands(SEED, 1)[0].fate.name(), "answered");
        let cases: [(&str, Spoil, [u64; 7]); 10] = [
            (
                "no outcome",
                |known| known.records[1]["tools"].as_array_mut().unwrap().truncate(2),
                [1, 0, 0, 0, 0, 0, 0],
            ),
            (
                "two outcomes",
                |known| {
                    let tools = known.records[1]["tools"].as_array_mut().unwrap();
                    tools.push(tools[0].clone());
                },
                [1, 0, 0, 0, 0, 0, 0],
            ),
            (
                "an invocation nobody asked for",
                |known| {
                    let strange = json!({ "id": "x", "name": "y", "outcome": "ok" });
                    known.records[1]["tools"].as_array_mut().unwrap().push(strange);
                },
                [1, 0, 0, 0, 0, 0, 0],
            ),
            (
                "a wrong outcome",
                |known| known.records[1]["tools"][0]["outcome"] = "late".into(),
                [0, 1, 0, 0, 0, 0, 0],
            ),
            (
                "another id",
                |known| known.requests[3].id = "inv_other".into(),
                [0, 0, 1, 0, 0, 0, 0],
            ),
            ("never sent", |known| drop(known.requests.remove(3)), [0, 0, 1, 0, 0, 0, 0]),
            (
                "sent twice",
                |known| known.requests.push(known.requests[3].clone()),
                [0, 0, 0, 1, 0, 0, 0],
            ),
            (
                "two results",
                |known| known.told[1].1.results.extend([(0, 2)]),
                [0, 0, 0, 0, 1, 0, 0],
            ),
            ("nothing in words", |known| known.told[2].1.words = 0, [0, 0, 0, 0, 0, 0, 1]),
            ("a result of nothing", |known| known.told[1].1.strange = 1, [0, 0, 0, 0, 1, 0, 0]),
        ];
        for (name, spoil, expected) in cases {
            let mut known = all_well();
            spoil(&mut known);
            assert_eq!(counts(&judge(&known)), expected, "{name}");
        }
        let mut known = all_well();
        known.records.remove(1);
        assert_eq!(counts(&judge(&known)), [3, 0, 0, 0, 0, 1, 0], "a record is missing");
    }
}
