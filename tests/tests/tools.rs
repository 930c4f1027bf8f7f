//! Tools in whole calls, with both vendors: what the model is told, what the caller hears, what the record keeps.
//!
//! What a webhook's answer makes of an invocation is decided elsewhere and tested there; here the executor is a script.

#[path = "tools/closings.rs"]
mod closings;

use std::{
    f64::consts::TAU,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tandem_call::{
    Filler, Greeting, HangupCause, LateResults, PhraseId, SignalCommand, ToolMode, ToolOutcome,
    ToolReport, Verdict,
};
use tandem_sim::{
    Action, Answer, AnswerEnd, FakeConfig, Provider, Response, ResponseOutput, Script,
    SpokenMessage, ToolRequest, Trigger,
};
use tandem_tests::{
    Finished, Sound, Stretch, ToolPlay, Voiced, World, WorldConfig, agent, custom_tool,
};

const PROVIDERS: [Provider; 2] = [Provider::Gemini, Provider::OpenAi];

/// The bound for silence while a tool runs.
const LONGEST_SILENCE: Duration = Duration::from_millis(2_500);

/// From an event to the first packet that shows it.
const PACKETS: Duration = Duration::from_millis(60);

fn answer(ms: u64, text: &str) -> Action {
    Answer::of_ms(ms).saying([text]).into()
}

fn call(id: &str, name: &str) -> ToolRequest {
    ToolRequest::new(id, name, json!({ "order": id }))
}

/// The model's answer to the results of its `n`th batch of calls.
fn after_results(provider: Provider, script: Script, n: u32, actions: &[Action]) -> Script {
    match provider {
        Provider::Gemini => script.on_nth(n, Trigger::all_results(), actions),
        Provider::OpenAi => script.on_nth(n, Trigger::Text, actions),
    }
}

/// Speaks, and calls a tool in the same answer.
fn says_and_calls(provider: Provider, ms: u64, tool: ToolRequest) -> Vec<Action> {
    match provider {
        Provider::Gemini => {
            let spoken = Answer { usage: None, ..Answer::of_ms(ms).saying(["Well."]) };
            vec![spoken.end(AnswerEnd::Open).into(), Action::Tool(tool)]
        }
        Provider::OpenAi => vec![
            Response::of([
                ResponseOutput::Message(SpokenMessage::of_ms(ms, ["Well."])),
                ResponseOutput::FunctionCall(tool),
            ])
            .into(),
        ],
    }
}

/// The model has nothing to add to what it said before its tool call.
fn adds_nothing(provider: Provider, script: Script) -> Script {
    match provider {
        Provider::Gemini => {
            script.on(Trigger::all_results(), [Action::GenerationComplete, Action::TurnComplete])
        }
        Provider::OpenAi => script, // It answers an unscripted `response.create` with an empty response.
    }
}

/// A call whose agent waits to be spoken to and has the tools `find`, `check` and `send`.
fn config(provider: Provider, script: Script) -> WorldConfig {
    let mut agent = agent(&["fake"]);
    agent.greeting = Greeting::Silent;
    agent.tools.extend(["find", "check", "send"].map(custom_tool));
    WorldConfig::new(agent, vec![Some(FakeConfig::new(provider, vec![script]))])
}

/// The model calls `find` when the caller has spoken, and says so much when it has the result.
fn finds(provider: Provider, answer_ms: u64) -> WorldConfig {
    let script = Script::new().on_nth(1, Trigger::SpeechEnd, [Action::Tool(call("t-1", "find"))]);
    let script = after_results(provider, script, 1, &[answer(answer_ms, "There it is.")]);
    config(provider, script)
}

fn report(outcome: Value, verdict: Verdict) -> ToolReport {
    ToolReport {
        verdict,
        http_status: Some(200),
        attempts: 1,
        ..ToolReport::from(ToolOutcome::Answered(outcome))
    }
}

fn found() -> Value {
    json!({ "status": "found", "message": "It is ready." })
}

/// Plays a call in which the caller speaks for a second and listens for `ms`.
fn play(config: WorldConfig, ms: u64) -> Finished {
    let mut world = World::new(config);
    world.ring();
    world.utterance(ms);
    if !world.is_over() {
        world.hang_up();
    }
    let call = world.finish();
    call.assert_rules();
    call
}

/// What the model was told of each call, in order.
#[track_caller]
fn assert_told(call: &Finished, expected: &[(&str, Value)]) {
    let told = call.told_results();
    let expected: Vec<(String, Value)> =
        expected.iter().map(|(id, result)| ((*id).to_owned(), result.clone())).collect();
    call.assert(told == expected, &format!("the model was told {told:#?}"));
}

/// The verdicts of the record, by tool.
fn verdicts(call: &Finished) -> Vec<(&str, Verdict)> {
    call.outcome.tools.iter().map(|tool| (tool.name.as_str(), tool.outcome)).collect()
}

/// The instant of the first tool call.
fn called(call: &Finished) -> Instant {
    call.tool_calls.first().expect("a tool was called").0
}

fn length(stretch: &Stretch) -> u64 {
    (stretch.end - stretch.start).as_millis() as u64
}

/// How long the stretches of the model's voice are.
fn said(call: &Finished) -> Vec<u64> {
    let stretches = call.ear.stretches();
    stretches.iter().filter(|it| it.voiced == Voiced::Model).map(length).collect()
}

/// Whether lengths are those, but for what a resampler smears.
fn about(lengths: &[u64], expected: &[u64]) -> bool {
    lengths.len() == expected.len()
        && lengths.iter().zip(expected).all(|(one, other)| one.abs_diff(*other) <= 4)
}

#[test]
fn the_model_gets_what_was_answered_and_the_record_keeps_how_it_came_out() {
    let trouble = json!({ "status": "error", "message": "Not now." });
    for provider in PROVIDERS {
        for (name, result, verdict) in [
            ("answered", found(), Verdict::Ok),
            ("noted", json!({ "status": "noted", "message": "Noted." }), Verdict::FallbackNoted),
            ("trouble", trouble.clone(), Verdict::FallbackTrouble),
            (
                "wrong",
                json!({ "status": "invalid_arguments", "missing": ["order"] }),
                Verdict::InvalidArguments,
            ),
            ("not allowed", json!({ "status": "error" }), Verdict::Rejected),
        ] {
            let mut config = finds(provider, 900);
            config.plays = vec![ToolPlay::new("find", 400, report(result.clone(), verdict))];
            let call = play(config, 4_000);
            let name = format!("{provider:?}, {name}");
            assert_told(&call, &[("t-1", result)]);
            let [record] = &call.outcome.tools[..] else { panic!("{name}: one record") };
            call.assert(record.outcome == verdict && record.number == 1, &name);
            call.assert(record.arguments == json!({ "order": "t-1" }), &name);
            call.assert((record.http_status, record.attempts) == (Some(200), Some(1)), &name);
            call.assert((400..=440).contains(&record.duration_ms), &name);
            call.assert(record.spoken_after_ms.is_some_and(|ms| (400..=520).contains(&ms)), &name);
            call.assert(about(&said(&call), &[900]), &name);
        }
    }
}

#[test]
fn what_nobody_can_carry_out_is_told_at_once() {
    for provider in PROVIDERS {
        let unknown = ToolRequest::new("t-1", "find_nothing", json!({}));
        let script = Script::new().on_nth(1, Trigger::SpeechEnd, [Action::Tool(unknown)]);
        let script = after_results(provider, script, 1, &[answer(900, "Sorry.")]);
        let call = play(config(provider, script), 3_000);
        let noted = &call.told_results()[0].1;
        call.assert(noted["status"] == "unknown_tool", "it is not known");
        call.assert(noted["message"].as_str().is_some_and(|it| it.contains("noted")), "noted");
        call.assert(verdicts(&call) == [("find_nothing", Verdict::Rejected)], "it is on record");
        call.assert(call.tool_calls.is_empty(), "and nobody carries it out");
        call.assert(about(&said(&call), &[900]), "the model answers to it");
    }
    let broken = ToolRequest { raw_arguments: Some(r#"{"order":"#.into()), ..call("t-1", "find") };
    let script = Script::new().on_nth(1, Trigger::SpeechEnd, [Action::Tool(broken)]);
    let script = after_results(Provider::OpenAi, script, 1, &[answer(900, "Sorry.")]);
    let call = play(config(Provider::OpenAi, script), 3_000);
    let told = &call.told_results()[0].1;
    call.assert(told["status"] == "invalid_arguments", "the arguments are no JSON");
    call.assert(told["problems"][0].as_str().is_some_and(|it| it.contains("JSON")), "it says so");
    call.assert(verdicts(&call) == [("find", Verdict::InvalidArguments)], "it is on record");
}

#[test]
fn at_its_deadline_the_model_is_told_of_trouble_and_what_comes_later_is_late() {
    let late = |verdict| ToolReport { verdict, ..report(found(), Verdict::Ok) };
    for provider in PROVIDERS {
        for (name, wanted, comes, verdict, in_words) in [
            ("never", LateResults::Inject, None, Verdict::FallbackTrouble, 0),
            ("late, dropped", LateResults::Discard, Some(Verdict::Late), Verdict::Late, 0),
            ("late, told", LateResults::Inject, Some(Verdict::Late), Verdict::Late, 1),
            (
                "known to be trouble",
                LateResults::Inject,
                Some(Verdict::FallbackTrouble),
                Verdict::FallbackTrouble,
                0,
            ),
        ] {
            let mut config = finds(provider, 1_200);
            config.agent.late_results = wanted;
            for tool in &mut config.agent.tools {
                tool.timeout = Duration::from_secs(4);
            }
            config.plays = vec![match comes {
                Some(verdict) => ToolPlay::new("find", 7_000, late(verdict)),
                None => ToolPlay { name: "find".into(), reports: Vec::new() },
            }];
            let call = play(config, 14_000);
            let name = format!("{provider:?}, {name}");
            let told = call.told_results();
            call.assert(told.len() == 1 && told[0].1["status"] == "timeout", &name);
            let message = told[0].1["message"].as_str().unwrap_or_default();
            call.assert(message.contains("right now"), &name);
            call.assert(call.told_in_words("It is ready.") == in_words, &name);
            let record = &call.outcome.tools[0];
            call.assert(record.outcome == verdict, &name);
            call.assert(record.status.as_deref() == Some("timeout"), &name);
            let http = comes.map(|_| 200);
            call.assert(record.http_status == http, &name);
            let until = called(&call) + Duration::from_secs(4);
            let silence = call.longest_silence(called(&call), until);
            call.assert(silence <= LONGEST_SILENCE, &format!("{name}: {silence:?} of silence"));
        }
    }
}

#[test]
fn results_of_parallel_calls_come_in_the_order_of_the_calls() {
    for provider in PROVIDERS {
        for (name, first, second, verdict) in [
            ("the first is slower", 1_500, 300, Verdict::Ok),
            ("the first is quicker", 300, 1_500, Verdict::Ok),
            ("the first never comes", u64::MAX, 300, Verdict::FallbackTrouble),
        ] {
            let both = Action::Tools(vec![call("t-1", "find"), call("t-2", "check")]);
            let script = Script::new().on_nth(1, Trigger::SpeechEnd, [both]);
            let script = after_results(provider, script, 1, &[answer(1_000, "Both.")]);
            let mut config = config(provider, script);
            for tool in &mut config.agent.tools {
                tool.timeout = Duration::from_secs(3);
            }
            let checked = json!({ "status": "checked" });
            config.plays = vec![ToolPlay::new("check", second, report(checked, Verdict::Ok))];
            if first < u64::MAX {
                config.plays.push(ToolPlay::new("find", first, report(found(), Verdict::Ok)));
            }
            let call = play(config, 7_000);
            let name = format!("{provider:?}, {name}");
            let told: Vec<String> = call.told_results().into_iter().map(|(id, _)| id).collect();
            call.assert(told == ["t-1", "t-2"], &format!("{name}: {told:?}"));
            let expected = [("find", verdict), ("check", Verdict::Ok)];
            call.assert(verdicts(&call) == expected, &name);
            call.assert(about(&said(&call), &[1_000]), &format!("{name}: one answer to both"));
            // Each has its own time, however long its result waited for the one before it.
            let took = call.outcome.tools[1].duration_ms;
            call.assert(took.abs_diff(second) <= 40, &format!("{name}: took {took} ms"));
        }
    }
}

#[test]
fn a_tool_in_the_background_is_told_of_twice() {
    for provider in PROVIDERS {
        for (name, takes, verdict, words) in [
            ("it answers", Some(5_000), Verdict::Ok, "It is ready."),
            ("it never answers", None, Verdict::FallbackTrouble, "The tool find"),
        ] {
            let mut config = finds(provider, 1_000);
            let Some(server) = &mut config.servers[0] else { unreachable!("it is there") };
            let spoken = answer(1_400, "Here is what came of it.");
            let n = if provider == Provider::Gemini { 1 } else { 2 };
            server.scripts[0] = server.scripts[0].clone().on_nth(n, Trigger::Text, [spoken]);
            for tool in &mut config.agent.tools {
                tool.mode = ToolMode::Background;
                tool.timeout = Duration::from_secs(6);
            }
            config.plays = takes
                .map(|ms| ToolPlay::new("find", ms, report(found(), Verdict::Ok)))
                .into_iter()
                .collect();
            let call = play(config, 12_000);
            let name = format!("{provider:?}, {name}");
            let told = call.told_results();
            call.assert(told.len() == 1 && told[0].1["status"] == "running", &name);
            call.assert(call.told_in_words(words) == 1, &name);
            call.assert(verdicts(&call) == [("find", verdict)], &name);
            call.assert(
                about(&said(&call), &[1_000, 1_400]),
                &format!("{name}: {:?}", said(&call)),
            );
            let record = &call.outcome.tools[0];
            call.assert(record.mode == ToolMode::Background, &name);
            call.assert(record.duration_ms.abs_diff(takes.unwrap_or(6_000)) <= 40, &name);
        }
    }
}

#[test]
fn of_a_tool_that_is_fired_and_forgotten_nothing_more_is_told() {
    for provider in PROVIDERS {
        let mut config = finds(provider, 1_000);
        for tool in &mut config.agent.tools {
            tool.mode = ToolMode::FireAndForget;
        }
        config.plays = vec![ToolPlay::new("find", 3_000, report(found(), Verdict::Ok))];
        let call = play(config, 8_000);
        let name = format!("{provider:?}");
        assert_told(&call, &[("t-1", json!({ "status": "accepted" }))]);
        call.assert(call.told_in_words("It is ready.") == 0, &name);
        call.assert(verdicts(&call) == [("find", Verdict::Ok)], &name);
        call.assert(call.outcome.tools[0].duration_ms.abs_diff(3_000) <= 40, &name);
        call.assert(about(&said(&call), &[1_000]), &name);
    }
}

#[test]
fn a_call_that_the_model_takes_back_has_no_result() {
    let script = Script::new()
        .on_nth(
            1,
            Trigger::SpeechEnd,
            [Action::Tools(vec![call("t-1", "find"), call("t-2", "check")])],
        )
        .on(Trigger::AudioMs { at: 2_600 }, [Action::CancelTool(vec!["t-1".into()])])
        .on_nth(1, Trigger::all_results(), [answer(1_000, "Never mind.")]);
    let mut config = config(Provider::Gemini, script);
    config.agent.late_results = LateResults::Inject;
    config.plays = vec![
        // Who carries it out does not know yet that nobody waits any more.
        ToolPlay::new("find", 2_000, report(found(), Verdict::Ok)),
        ToolPlay::new("check", 3_000, report(json!({ "status": "checked" }), Verdict::Ok)),
    ];
    let call = play(config, 8_000);
    assert_told(&call, &[("t-2", json!({ "status": "checked" }))]);
    call.assert(call.cancelled_tools == [1], "it is stopped");
    call.assert(call.told_in_words("It is ready.") == 0, "and never told of");
    let expected = [("find", Verdict::Cancelled), ("check", Verdict::Ok)];
    call.assert(verdicts(&call) == expected, "it is on record as cancelled");
}

/// A phrase as an agent's voice renders it: `ms` of a tone.
fn phrase(ms: u64) -> Option<Arc<[u8]>> {
    let samples = 0..ms * 16;
    let tone = samples.map(|n| (8_000.0 * (TAU * 440.0 * n as f64 / 16_000.0).sin()) as i16);
    Some(tone.flat_map(i16::to_le_bytes).collect())
}

/// The same, and `find` has words of 1.3 s for the meantime after `after` ms.
fn finds_with_filler(provider: Provider, after: u64, interruptible: bool) -> WorldConfig {
    let mut config = finds(provider, 1_000);
    config.agent.phrases = vec!["Let me look that up.".into()];
    config.phrases = vec![phrase(1_300)];
    for tool in &mut config.agent.tools {
        tool.filler = Some(Filler { after: Duration::from_millis(after), phrase: PhraseId(0) });
        tool.interruptible = interruptible;
    }
    config
}

/// Stretches that are no model's, with their distance from `zero`.
fn words(call: &Finished, zero: Instant) -> Vec<(u64, u64)> {
    let stretches = call.ear.stretches();
    let words = stretches.iter().filter(|it| it.voiced == Voiced::Words);
    words.map(|it| ((it.start - zero).as_millis() as u64, length(it))).collect()
}

#[test]
fn who_waits_for_a_tool_hears_its_filler_once() {
    for provider in PROVIDERS {
        for (after, takes) in [(0, 1_600), (800, 2_600), (1_500, 3_200)] {
            let mut config = finds_with_filler(provider, after, true);
            config.plays = vec![ToolPlay::new("find", takes, report(found(), Verdict::Ok))];
            let call = play(config, 6_000);
            let name = format!("{provider:?}, after {after} ms");
            let words = words(&call, called(&call));
            let [(begins, lasts)] = words[..] else { panic!("{name}: {words:?}\n{}", call.story) };
            call.assert((after..=after + 60).contains(&begins), &format!("{name}: at {begins} ms"));
            call.assert(lasts.abs_diff(1_300) <= 20, &format!("{name}: for {lasts} ms"));
            call.assert(about(&said(&call), &[1_000]), &name);
        }
        // A result that is there before is not waited for.
        let mut config = finds_with_filler(provider, 800, true);
        config.plays = vec![ToolPlay::new("find", 500, report(found(), Verdict::Ok))];
        let call = play(config, 4_000);
        call.assert(
            words(&call, called(&call)).is_empty(),
            &format!("{provider:?}: nothing to fill"),
        );
    }
}

#[test]
fn a_caller_speaks_over_a_filler() {
    for provider in PROVIDERS {
        for (interruptible, least, most) in [(true, 100, 1_000), (false, 1_280, 1_320)] {
            let mut config = finds_with_filler(provider, 300, interruptible);
            config.plays = vec![ToolPlay::new("find", 5_000, report(found(), Verdict::Ok))];
            let mut world = World::new(config);
            world.ring();
            world.utterance(1_000);
            world.speech(900);
            world.silence(7_000);
            world.hang_up();
            let call = world.finish();
            let heard = words(&call, called(&call));
            let name = format!("{provider:?}, interruptible: {interruptible}, {heard:?}");
            let lasts = heard.first().map_or(0, |(_, lasts)| *lasts);
            call.assert((least..=most).contains(&lasts), &name);
            call.assert(call.cancelled_tools.is_empty(), &format!("{name}: what was sent goes on"));
            call.assert(verdicts(&call) == [("find", Verdict::Ok)], &name);
        }
    }
}

#[test]
fn nobody_waits_in_silence_however_long_a_tool_takes() {
    for provider in PROVIDERS {
        for (name, filler, spoken_ms) in
            [("no filler", false, 0), ("a filler", true, 0), ("words before it", false, 700)]
        {
            let mut config = if filler {
                finds_with_filler(provider, 700, true)
            } else {
                finds(provider, 1_000)
            };
            if spoken_ms > 0 {
                let Some(server) = &mut config.servers[0] else { unreachable!("it is there") };
                let asks = says_and_calls(provider, spoken_ms, call("t-1", "find"));
                let script = Script::new().on_nth(1, Trigger::SpeechEnd, asks);
                server.scripts[0] =
                    after_results(provider, script, 1, &[answer(1_000, "There it is.")]);
            }
            config.plays = vec![ToolPlay::new("find", 8_500, report(found(), Verdict::Ok))];
            let call = play(config, 13_000);
            let name = format!("{provider:?}, {name}");
            let from = called(&call);
            let until = from + Duration::from_millis(8_500) + PACKETS;
            let silence = call.longest_silence(from, until);
            call.assert(silence <= LONGEST_SILENCE, &format!("{name}: {silence:?} of silence"));
            call.assert(said(&call).last().is_some_and(|ms| ms.abs_diff(1_000) <= 4), &name);
        }
    }
}

#[test]
fn secrets_among_the_arguments_are_not_kept() {
    for provider in PROVIDERS {
        let asks = ToolRequest::new("t-1", "find", json!({ "order": "B-17", "pin": "4711" }));
        let script = Script::new().on_nth(1, Trigger::SpeechEnd, [Action::Tool(asks)]);
        let script = after_results(provider, script, 1, &[answer(600, "Yes.")]);
        let mut config = config(provider, script);
        for tool in &mut config.agent.tools {
            tool.redacted = ["/pin".to_owned()].into();
        }
        config.plays = vec![ToolPlay::new("find", 100, report(found(), Verdict::Ok))];
        let call = play(config, 3_000);
        let sent = call.tool_calls[0].1.call.arguments.clone();
        call.assert(
            sent == Ok(json!({ "order": "B-17", "pin": "4711" })),
            "it is carried out whole",
        );
        let kept = json!({ "order": "B-17", "pin": "[redacted]" });
        call.assert(call.outcome.tools[0].arguments == kept, "the record does not have it");
    }
}

#[test]
fn what_runs_when_the_caller_hangs_up_is_on_record_as_cancelled() {
    for provider in PROVIDERS {
        for mode in [ToolMode::Blocking, ToolMode::Background, ToolMode::FireAndForget] {
            let mut config = finds(provider, 1_000);
            for tool in &mut config.agent.tools {
                tool.mode = mode;
            }
            config.plays = vec![ToolPlay::new("find", 20_000, report(found(), Verdict::Ok))];
            let mut world = World::new(config);
            world.ring();
            world.utterance(2_000);
            world.run_until(1_000, Sound::Silence, |world| !world.tool_calls.is_empty());
            world.hang_up();
            let call = world.finish();
            call.assert_rules();
            let name = format!("{provider:?}, {mode:?}");
            call.assert(verdicts(&call) == [("find", Verdict::Cancelled)], &name);
            call.assert(call.cancelled_tools.is_empty(), &format!("{name}: what was sent goes on"));
            let results = usize::from(mode != ToolMode::Blocking);
            call.assert(call.told_results().len() == results, &name);
            let cause = HangupCause::NormalClearing;
            let hung_up = call.signals.iter().any(|(_, it)| *it == SignalCommand::HangUp { cause });
            call.assert(!hung_up, &name);
        }
    }
}
