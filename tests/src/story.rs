//! Plays a scenario of `tandem-sim` as a whole call and compares what came of it.

use std::time::Duration;

use tandem_call::{Greeting, HistoryTurn, Speaker};
use tandem_media::{AudioFormat, Law, SampleRate};
use tandem_models::TurnDetection;
use tandem_sim::{CallerStep, Ending, FakeConfig, FakeHandle, Need, Outcome, Provider, Scenario};

use crate::{Finished, Sound, World, WorldConfig, agent, verdict::squeezed};

/// An OpenAI session is renewed this long before it expires.
const RENEWED_AHEAD: u64 = 8 * 60;

/// A scenario's session is to be renewed this long before its own end.
const QUIET_BEFORE_EXPIRY: u64 = 10;

/// Plays `scenario` from the INVITE to the hang-up and fails with everything that is not as it says.
pub fn play(scenario: &Scenario) -> Finished {
    let finished = run(scenario);
    let differences = differences(scenario, &finished);
    assert!(
        differences.is_empty(),
        "{}: {}\n- {}\n{:#?}\n{}",
        scenario.id,
        scenario.title,
        differences.join("\n- "),
        finished.outcome,
        finished.story
    );
    finished
}

fn run(scenario: &Scenario) -> Finished {
    let needs = |need| scenario.needs.contains(&need);
    let mut agent = agent(&["fake"]);
    if needs(Need::Greet) {
        agent.greeting = Greeting::OwnWords;
    }
    let server = FakeConfig::for_scenario(scenario);
    let expires_at = server.expires_at;
    let server = (!needs(Need::NothingListens)).then_some(server);
    let mut config = WorldConfig::new(agent, vec![server]);
    config.tools.clone_from(&scenario.tools);
    config.pcm = needs(Need::Pcm);
    config.options.server_interrupts = !needs(Need::ClientInterrupts);
    if needs(Need::ManualTurns) {
        config.options.turn_detection = TurnDetection::Local;
    }
    if needs(Need::History) {
        let turn = |speaker, text: &str| HistoryTurn { speaker, text: text.into() };
        config.history =
            vec![turn(Speaker::Caller, "Hello"), turn(Speaker::Agent, "How can I help?")];
    }
    for need in &scenario.needs {
        match need {
            Need::Model(model) => config.model = Some(model),
            // The client renews long before the end; its clock is set so that the story's moment is right.
            Need::ExpiresInSecs(secs) => {
                let ahead = RENEWED_AHEAD + secs - QUIET_BEFORE_EXPIRY;
                config.unix_now = Duration::from_secs(expires_at - ahead);
            }
            _ => {}
        }
    }
    let mut world = World::new(config);
    world.ring();
    for step in &scenario.caller {
        match step {
            CallerStep::Silence(ms) => world.silence(*ms),
            CallerStep::Speech(ms) => world.speech(*ms),
            CallerStep::Nothing(ms) => world.run(*ms, Sound::Nothing),
            CallerStep::Digits(digits) => world.press(digits),
            CallerStep::HangUp => world.hang_up(),
        }
    }
    world.finish()
}

fn format(scenario: &Scenario) -> AudioFormat {
    match scenario.provider {
        Provider::OpenAi if !scenario.needs.contains(&Need::Pcm) => AudioFormat::G711(Law::Mu),
        Provider::OpenAi | Provider::Gemini => AudioFormat::Pcm16(SampleRate::Hz24000),
    }
}

/// What of `call` is not as `scenario` says.
fn differences(scenario: &Scenario, call: &Finished) -> Vec<String> {
    let expect = &scenario.expect;
    let mut found = call.broken_rules();
    let mut check = |right: bool, text: String| {
        if !right {
            found.push(text);
        }
    };
    let handle = call.models[0].as_ref();
    let connections = handle.map_or(0, FakeHandle::connections);
    check(expect.connections.contains(&connections), format!("{connections} connections"));
    check(
        call.outcome.end_reason == tandem_call::EndReason::CallerHangup,
        format!("it ended with {:?}", call.outcome.end_reason),
    );

    let failures = call.outcome.model_failures.join("; ");
    let attended = call.outcome.models.last().is_some_and(|model| model == "attendant");
    match expect.outcome {
        Outcome::Lasts => check(!attended, "the attendant took over".into()),
        Outcome::Recovers(reason) => {
            check(
                failures.contains(reason),
                format!("lost because of {failures:?}, not {reason:?}"),
            );
            check(!attended, "the attendant took over".into());
        }
        Outcome::GivenUp(reason) => {
            check(
                failures.contains(reason),
                format!("given up because of {failures:?}, not {reason:?}"),
            );
            check(attended, "the attendant did not take over".into());
        }
        Outcome::Retried(reason) => {
            check(
                failures.contains(reason),
                format!("failed because of {failures:?}, not {reason:?}"),
            );
        }
    }

    let format = format(scenario);
    if matches!(expect.outcome, Outcome::Recovers(_)) && expect.heard.is_empty() {
        check(call.ear.ends_with(1..6, 1_000, format), "the new session is not heard".into());
    } else if let Err(text) = call.ear.check(&expect.heard, format) {
        check(false, text);
    }
    let (agent, caller) = (call.said(Speaker::Agent), call.said(Speaker::Caller));
    if !expect.agent_text.is_empty() {
        let wanted = squeezed(&expect.agent_text.concat());
        check(agent == wanted, format!("the agent said {agent:?}, not {wanted:?}"));
    }
    if !expect.caller_text.is_empty() {
        let wanted = squeezed(&expect.caller_text.concat());
        check(caller == wanted, format!("the caller said {caller:?}, not {wanted:?}"));
    }
    if let Some(usage) = expect.usage.filter(|_| !scenario.dialect.minimal) {
        check(
            call.outcome.usage == usage,
            format!("usage {:?}, not {usage:?}", call.outcome.usage),
        );
    }
    let results = call.tool_results();
    for expected in &expect.tool_calls {
        let count = results.get(expected.id).copied().unwrap_or(0);
        check(count == expected.results, format!("{count} results for {}", expected.id));
    }
    if scenario.provider == Provider::OpenAi {
        let truncates = call.sent("conversation.item.truncate");
        check(truncates == expect.truncates, format!("{truncates} truncates"));
        if let Some(wanted) = expect.response_creates {
            let creates = call.sent("response.create");
            check(creates == wanted, format!("{creates} times response.create, not {wanted}"));
        }
    }
    if matches!(expect.outcome, Outcome::Lasts) {
        // A renewal that is put off by the server costs what is said meanwhile.
        if let Err(text) = call.uplink_was_whole()
            && failures.is_empty()
        {
            check(false, text);
        }
        let last = call.endings(0).pop();
        check(
            matches!(&last, Some(Ending::ByClient(Some((1000, _))))),
            format!("the model's socket ended with {last:?}"),
        );
    }
    found
}
