//! Every scenario runs through with a small client of our own, comes out as it says it must, and does so again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::time::Duration;

use tandem_sim::{CallerStep, Mode, Need, Outcome, Scenario, check_heard, scenarios};

mod client;

use client::Report;

/// For a story that hangs; none takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(20);

async fn play_all(scenarios: impl Iterator<Item = Scenario>, mode: Mode) {
    let mut failures = Vec::new();
    for scenario in scenarios {
        let played = tokio::time::timeout(PATIENCE, client::play(&scenario, mode)).await;
        let Ok(report) = played else {
            failures.push(format!("{}: hangs", scenario.id));
            continue;
        };
        failures.extend(
            differences(&scenario, &report)
                .into_iter()
                .map(|text| format!("{}: {text}", scenario.id)),
        );
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// What of `report` is not as `scenario` says.
fn differences(scenario: &Scenario, report: &Report) -> Vec<String> {
    let expect = &scenario.expect;
    let mut found = Vec::new();
    let mut check = |right: bool, text: String| {
        if !right {
            found.push(text);
        }
    };
    check(report.violations.is_empty(), format!("violations {:?}", report.violations));
    check(
        expect.connections.contains(&report.connections),
        format!("{} connections", report.connections),
    );
    match expect.outcome {
        Outcome::Lasts => {}
        Outcome::Recovers(reason) | Outcome::GivenUp(reason) | Outcome::Retried(reason) => check(
            report.losses.iter().any(|loss| loss.contains(reason)),
            format!("lost because of {:?}, not {reason:?}", report.losses),
        ),
    }
    if matches!(expect.outcome, Outcome::Lasts) {
        let silence = Vec::new();
        for connection in 0..report.connections {
            let heard = report.heard.get(&connection).unwrap_or(&silence);
            let format = report.format.expect("the client sets it");
            if let Err(text) = check_heard(&expect.heard, connection, format, heard) {
                check(false, text);
            }
        }
        if let Some(usage) = expect.usage {
            let expected = [usage.input_tokens, usage.output_tokens];
            let counted = report.usage == expected || scenario.dialect.minimal;
            check(counted, format!("used {:?}, not {expected:?}", report.usage));
        }
        check(expect.truncates == report.truncates, format!("{} truncates", report.truncates));
    }
    if !expect.agent_text.is_empty() {
        check(
            report.agent_text == expect.agent_text.concat(),
            format!("agent said {:?}", report.agent_text),
        );
    }
    if !expect.caller_text.is_empty() {
        check(
            report.caller_text == expect.caller_text.concat(),
            format!("caller said {:?}", report.caller_text),
        );
    }
    for call in &expect.tool_calls {
        let results = report.results.get(call.id).copied().unwrap_or(0);
        check(results == call.results, format!("{results} results for {}", call.id));
    }
    if let Some(creates) = expect.response_creates {
        check(report.creates == creates, format!("{} times response.create", report.creates));
    }
    found
}

#[tokio::test]
async fn gemini_stories_come_out_as_they_must() {
    play_all(scenarios::gemini().into_iter(), Mode::AudioClock).await;
}

#[tokio::test]
async fn openai_stories_come_out_as_they_must() {
    play_all(scenarios::openai().into_iter(), Mode::AudioClock).await;
}

#[tokio::test]
async fn stories_without_waits_come_out_the_same_when_delays_are_nothing() {
    // Where a story depends on when something is said, it is another story without the delays.
    let timed = |scenario: &Scenario| {
        ["G04a", "G06b", "G12", "G21", "G26b", "O02b", "O06", "O12a", "O20", "O22a", "G11", "O10"]
            .iter()
            .any(|prefix| scenario.id.starts_with(prefix))
    };
    let all = scenarios::gemini().into_iter().chain(scenarios::openai());
    let long = |scenario: &Scenario| {
        let most = |step: &CallerStep| matches!(step, CallerStep::Silence(ms) if *ms > 20_000);
        scenario.caller.iter().any(most)
    };
    let others = all.filter(|scenario| !timed(scenario) && !long(scenario));
    play_all(others, Mode::Collapsed).await;
}

#[tokio::test]
async fn the_same_run_gives_the_same_messages() {
    for id in
        ["G02", "G03", "G06b", "G10", "G24", "G25c", "O02b", "O03", "O03d", "O05a", "O17c", "O20"]
    {
        let scenario = scenarios::by_id(id).expect(id);
        let first = client::play(&scenario, Mode::AudioClock).await;
        let second = client::play(&scenario, Mode::AudioClock).await;
        assert!(!first.messages.is_empty(), "{id}");
        assert_eq!(first, second, "{id}");
    }
}

#[test]
fn needs_are_stated_where_the_story_depends_on_them() {
    for scenario in scenarios::gemini().into_iter().chain(scenarios::openai()) {
        let greets = scenario.needs.contains(&Need::Greet);
        let speaks = scenario.caller.iter().any(|step| matches!(step, CallerStep::Speech(_)));
        let hears = !scenario.expect.heard.is_empty();
        let prompted = ["O13a", "O03c"].contains(&scenario.id.as_str());
        assert!(
            greets || speaks || prompted || !hears,
            "{}: who makes the model speak?",
            scenario.id
        );
    }
}
