//! Calls of the usual kind: hanging up in every state, transfers, goodbyes, tools, digits, hold, and an hour of it.

use std::time::Duration;

use serde_json::{Value, json};
use tandem_call::{
    Digit, EndReason, EndedBy, Greeting, HangupCause, Input, SignalCommand, SignalEvent,
    TransferOutcome, Verdict,
};
use tandem_media::{Law, g711};
use tandem_sim::{
    Action, Answer, AnswerEnd, Ending, FakeConfig, Profile, Provider, ReceivedMessage, Response,
    ResponseOutput, Script, SpokenMessage, ToolReply, ToolRequest, ToolScript, Trigger,
};
use tandem_tests::{Finished, Sound, TransferScript, World, WorldConfig, agent};

const PROVIDERS: [Provider; 2] = [Provider::Gemini, Provider::OpenAi];

fn hello() -> Action {
    Answer::of_ms(1_000).saying(["Hello."]).into()
}

fn answer(ms: u64, text: &str) -> Action {
    Answer::of_ms(ms).saying([text]).into()
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

/// The how-manieth request for an answer comes after the greeting's and that which OpenAI gets with a tool's result.
fn second_request(provider: Provider) -> u32 {
    match provider {
        Provider::Gemini => 2,
        Provider::OpenAi => 3,
    }
}

/// Speaks, and calls a tool in the same answer.
fn says_and_calls(provider: Provider, ms: u64, text: &str, tool: ToolRequest) -> Vec<Action> {
    match provider {
        Provider::Gemini => {
            let spoken = Answer { usage: None, ..Answer::of_ms(ms).saying([text]) };
            vec![spoken.end(AnswerEnd::Open).into(), Action::Tool(tool)]
        }
        Provider::OpenAi => vec![
            Response::of([
                ResponseOutput::Message(SpokenMessage::of_ms(ms, [text])),
                ResponseOutput::FunctionCall(tool),
            ])
            .into(),
        ],
    }
}

fn end_call() -> ToolRequest {
    ToolRequest::new(
        "t-2",
        "end_call",
        json!({ "reason": "caller_goodbye", "summary": "All said." }),
    )
}

fn transfer() -> ToolRequest {
    ToolRequest::new("t-3", "transfer_to_human", json!({ "reason": "wants a person" }))
}

fn find_repair() -> ToolRequest {
    ToolRequest::new("t-1", "find_repair", json!({ "order": "B-17" }))
}

/// A call whose agent greets and has one model that plays `script`.
fn config(provider: Provider, script: Script) -> WorldConfig {
    let mut agent = agent(&["fake"]);
    agent.greeting = Greeting::OwnWords;
    WorldConfig::new(agent, vec![Some(FakeConfig::new(provider, vec![script]))])
}

fn call(provider: Provider, script: Script) -> World {
    let mut world = World::new(config(provider, script));
    world.ring();
    world
}

fn tool(name: &'static str, takes_ms: u64, reply: ToolReply) -> ToolScript {
    ToolScript { name, takes_ms, reply }
}

fn assert_closed_properly(call: &Finished, name: &str) {
    call.assert_rules();
    let last = call.endings(0).pop();
    let properly = matches!(&last, Some(Ending::ByClient(Some((1000, _)))));
    call.assert(properly, &format!("{name}: the model's socket ended with {last:?}"));
}

/// Where a call is when the caller hangs up.
type State = (&'static str, fn(&mut World));

#[test]
fn the_caller_hangs_up_in_every_state() {
    let states: [State; 10] = [
        ("greeting", |world| world.silence(300)),
        ("listening", |world| world.silence(3_000)),
        ("caller speaks", |world| {
            world.silence(2_000);
            world.speech(500);
        }),
        ("turn just over", |world| {
            world.silence(2_000);
            world.speech(1_000);
            world.silence(300);
        }),
        ("tool runs", |world| {
            world.silence(2_000);
            world.utterance(1_500);
            assert_eq!(world.tool_calls.len(), 1, "{}", world.story());
        }),
        ("goodbye plays", |world| {
            world.silence(2_000);
            world.utterance(12_000);
            world.utterance(1_000);
        }),
        ("drain", |world| {
            world.silence(2_000);
            world.utterance(12_000);
            world.utterance(3_500);
        }),
        ("transfer under way", |world| {
            world.silence(2_000);
            world.utterance(12_000);
            world.utterance(3_500);
            let last = world.signals.last().map(|(_, signal)| signal);
            assert!(matches!(last, Some(SignalCommand::Transfer { .. })), "{}", world.story());
        }),
        ("on hold", |world| {
            world.silence(1_500);
            world.hold(true);
            world.run(500, Sound::Nothing);
        }),
        ("dead air", |world| {
            world.silence(2_000);
            world.utterance(11_500);
            world.speech(1_000);
            world.silence(100);
        }),
    ];
    for provider in PROVIDERS {
        for (name, reach) in states {
            let closing = if name == "transfer under way" { transfer() } else { end_call() };
            let script = Script::new()
                .on_nth(1, Trigger::Text, [hello()])
                .on_nth(1, Trigger::SpeechEnd, [Action::Tool(find_repair())])
                .on_nth(2, Trigger::SpeechEnd, says_and_calls(provider, 2_000, "Well.", closing));
            let mut config = config(provider, adds_nothing(provider, script));
            config.tools = vec![tool("find_repair", 0, ToolReply::Never)];
            let mut world = World::new(config);
            world.ring();
            reach(&mut world);
            assert!(!world.is_over(), "{provider:?}, {name}: it was over\n{}", world.story());
            world.hang_up();
            assert!(world.is_over(), "{provider:?}, {name}: it goes on\n{}", world.story());
            let call = world.finish();
            let name = format!("{provider:?}, {name}");
            let by_caller = matches!(call.outcome.ended_by, EndedBy::Caller);
            call.assert(by_caller, &name);
            let expected = if name.contains("goodbye") || name.contains("drain") {
                EndReason::CallerGoodbye
            } else {
                EndReason::CallerHangup
            };
            call.assert(call.outcome.end_reason == expected, &name);
            let hung_up =
                call.signals.iter().any(|(_, it)| matches!(it, SignalCommand::HangUp { .. }));
            call.assert(!hung_up, &format!("{name}: nobody is left to hang up on"));
            assert_closed_properly(&call, &name);
        }
    }
}

#[test]
fn nobody_is_told_what_comes_of_a_tool_after_the_hang_up() {
    for provider in PROVIDERS {
        let script = Script::new().on_nth(1, Trigger::SpeechEnd, [Action::Tool(find_repair())]);
        let mut config = config(provider, script);
        config.agent.greeting = Greeting::Silent;
        config.tools = vec![tool("find_repair", 5_000, ToolReply::Output(json!({})))];
        let mut world = World::new(config);
        world.ring();
        world.utterance(1_000);
        world.hang_up();
        let call = world.finish();
        call.assert(call.cancelled_tools.is_empty(), "what was sent is not taken back");
        call.assert(call.tool_results().is_empty(), "nobody is told");
        call.assert(call.outcome.tools[0].outcome == Verdict::Cancelled, "the record says so");
        assert_closed_properly(&call, "a tool");
    }
}

#[test]
fn a_caller_who_gives_up_while_it_rings_leaves_nothing_behind() {
    for provider in PROVIDERS {
        let silent = Script::new().on(Trigger::Connect, [Action::NeverUpgrade]);
        let mut world = World::new(config(provider, silent));
        world.run(400, Sound::Nothing);
        world.hang_up();
        let call = world.finish();
        call.assert(call.outcome.end_reason == EndReason::Cancelled, "cancelled");
        call.assert(call.answered.is_none() && call.ear.packets() == 0, "nothing was heard");
        call.assert_rules();
    }
}

#[test]
fn the_goodbye_is_heard_whole_and_the_call_ends_a_drain_time_after_it() {
    for provider in PROVIDERS {
        for goodbye_ms in [600, 1_900, 3_000, 6_500] {
            let script = Script::new().on_nth(1, Trigger::Text, [hello()]).on_nth(
                1,
                Trigger::SpeechEnd,
                says_and_calls(provider, goodbye_ms, "Goodbye.", end_call()),
            );
            let mut world = call(provider, adds_nothing(provider, script));
            world.silence(2_000);
            world.speech(1_000);
            world.run_until(20_000, Sound::Silence, World::is_over);
            let call = world.finish();
            let name = format!("{provider:?}, {goodbye_ms} ms of goodbye");
            call.assert(call.outcome.end_reason == EndReason::CallerGoodbye, &name);
            call.assert(call.outcome.ended_by == EndedBy::Agent, &name);
            call.assert(call.outcome.summary.as_deref() == Some("All said."), &name);
            let cause = HangupCause::NormalClearing;
            let last = call.signals.last().map(|(_, signal)| signal);
            call.assert(last == Some(&SignalCommand::HangUp { cause }), &name);
            let spoken = call.ear.stretches().pop().expect("the goodbye");
            let length = (spoken.end - spoken.start).as_millis() as u64;
            call.assert(
                length.abs_diff(goodbye_ms) <= 4,
                &format!("{name}: {length} ms were heard"),
            );
            let drain = (call.ended - spoken.end).as_millis() as u64;
            call.assert(
                drain.abs_diff(2_000) <= 60,
                &format!("{name}: hung up {drain} ms after it"),
            );
            let tail = call.outcome.end_call_tail_ms;
            call.assert(tail.is_some_and(|ms| (ms - drain as f64).abs() <= 40.0), &name);
            assert_closed_properly(&call, &name);
        }
    }
}

#[test]
fn a_transfer_waits_for_the_sentence_and_ends_the_call() {
    for provider in PROVIDERS {
        let script = Script::new().on_nth(1, Trigger::Text, [hello()]).on_nth(
            1,
            Trigger::SpeechEnd,
            says_and_calls(provider, 1_800, "I connect you.", transfer()),
        );
        let mut config = config(provider, adds_nothing(provider, script));
        config.transfers = vec![TransferScript {
            after: Duration::from_secs(4),
            outcome: TransferOutcome::Completed,
        }];
        let mut world = World::new(config);
        world.ring();
        world.silence(2_000);
        world.speech(1_000);
        world.run_until(20_000, Sound::Silence, World::is_over);
        let call = world.finish();
        let name = format!("{provider:?}");
        call.assert(call.outcome.end_reason == EndReason::Transferred, &name);
        let (at, order) = call
            .signals
            .iter()
            .find(|(_, signal)| matches!(signal, SignalCommand::Transfer { .. }))
            .expect("a transfer is ordered");
        let SignalCommand::Transfer { target, headers } = order else { unreachable!() };
        call.assert(target.target == "200", &name);
        call.assert(headers.iter().any(|(header, _)| header == "X-Tandem-Reason"), &name);
        let spoken = call.ear.stretches().pop().expect("the sentence");
        let length = (spoken.end - spoken.start).as_millis();
        call.assert(length.abs_diff(1_800) <= 4, &format!("{name}: {length} ms of the sentence"));
        let wait = at.saturating_duration_since(spoken.end);
        call.assert(
            *at >= spoken.end && wait <= Duration::from_millis(40),
            &format!("{name}: {wait:?}"),
        );
        let record = call.outcome.transfer.as_ref().expect("it is on record");
        call.assert(record.status == "completed", &name);
        assert_closed_properly(&call, &name);
    }
}

#[test]
fn a_transfer_that_fails_comes_back_to_the_same_conversation() {
    for provider in PROVIDERS {
        let script = Script::new()
            .interruptible()
            .on_nth(1, Trigger::Text, [hello()])
            .on_nth(
                1,
                Trigger::SpeechEnd,
                says_and_calls(provider, 800, "I connect you.", transfer()),
            )
            .on_nth(second_request(provider), Trigger::Text, [answer(1_200, "Nobody is there.")])
            .on_nth(2, Trigger::SpeechEnd, [answer(900, "I will.")]);
        let mut config = config(provider, adds_nothing(provider, script));
        config.transfers = vec![TransferScript {
            after: Duration::from_secs(3),
            outcome: TransferOutcome::Failed { status: Some(486), reason: "Busy Here".into() },
        }];
        let mut world = World::new(config);
        world.ring();
        world.silence(2_000);
        world.utterance(9_000);
        world.utterance(3_000);
        world.hang_up();
        let call = world.finish();
        let name = format!("{provider:?}");
        call.assert(call.outcome.end_reason == EndReason::CallerHangup, &name);
        call.assert(call.model(0).connections() == 1, &format!("{name}: the same session"));
        let record = call.outcome.transfer.as_ref().expect("it is on record");
        let error = record.error.as_deref().unwrap_or_default();
        call.assert(record.status == "failed" && error.contains("486"), &name);
        let lengths: Vec<u128> =
            call.ear.stretches().iter().map(|it| (it.end - it.start).as_millis()).collect();
        let as_said = lengths.len() == 4
            && lengths.iter().zip([1_000, 800, 1_200, 900]).all(|(it, ms)| it.abs_diff(ms) <= 4);
        call.assert(as_said, &format!("{name}: heard {lengths:?}"));
        let told = call.messages().iter().filter(|it| it.to_string().contains("Busy Here")).count();
        call.assert(told == 1, &format!("{name}: the model was told {told} times"));
        assert_closed_properly(&call, &name);
    }
}

#[test]
fn a_transfer_nobody_ever_hears_of_again_is_taken_back_in_time() {
    let script = Script::new()
        .on_nth(1, Trigger::Text, [hello()])
        .on_nth(
            1,
            Trigger::SpeechEnd,
            says_and_calls(Provider::OpenAi, 800, "I connect you.", transfer()),
        )
        .on_nth(3, Trigger::Text, [answer(1_200, "Nobody is there.")]);
    let mut world = call(Provider::OpenAi, script);
    world.silence(2_000);
    world.utterance(36_000);
    world.hang_up();
    let call = world.finish();
    let record = call.outcome.transfer.as_ref().expect("it is on record");
    call.assert(record.status == "failed", "the transfer failed");
    let back = call.ear.stretches().pop().expect("the last words");
    let at = call.ms(back.start);
    call.assert((33_000..36_500).contains(&at), &format!("the caller was taken back at {at} ms"));
    assert_closed_properly(&call, "a lost transfer");
}

#[test]
fn a_tool_that_never_answers_meets_its_deadline() {
    for provider in PROVIDERS {
        let script = Script::new()
            .on_nth(1, Trigger::SpeechEnd, [Action::Tool(find_repair())])
            .on_nth(
                1,
                Trigger::all_results(),
                match provider {
                    Provider::Gemini => vec![answer(1_000, "I cannot find it.")],
                    Provider::OpenAi => Vec::new(),
                },
            )
            .on_nth(1, Trigger::Text, [answer(1_000, "I cannot find it.")]);
        let mut config = config(provider, script);
        config.agent.greeting = Greeting::Silent;
        for tool in &mut config.agent.tools {
            tool.timeout = Duration::from_secs(4);
        }
        config.tools = vec![tool("find_repair", 0, ToolReply::Never)];
        let mut world = World::new(config);
        world.ring();
        world.utterance(8_000);
        world.hang_up();
        let call = world.finish();
        let name = format!("{provider:?}");
        call.assert(call.tool_results() == [("t-1".to_owned(), 1)].into(), &name);
        call.assert(call.outcome.tools[0].outcome == Verdict::FallbackTrouble, &name);
        let took = call.outcome.tools[0].duration_ms;
        call.assert((4_000..=4_040).contains(&took), &format!("{name}: {took} ms"));
        let fell_silent = call.answered.expect("answered") + Duration::from_secs(1);
        let waited = call.dead_air_after(fell_silent);
        call.assert(
            waited.is_some_and(|it| it <= Duration::from_secs(2)),
            &format!("{name}: {waited:?}"),
        );
        assert_closed_properly(&call, &name);
    }
}

#[test]
fn digits_reach_the_model_once() {
    for provider in PROVIDERS {
        let script = Script::new().on_nth(1, Trigger::Text, [hello()]).on_nth(
            2,
            Trigger::Text,
            [answer(1_000, "Thank you.")],
        );
        let mut world = call(provider, script);
        world.silence(2_000);
        world.press("4");
        // A gateway that sends this one by INFO as well.
        let seven = Digit::new('7').expect("a digit");
        world.signal(SignalEvent::Digit(seven));
        world.press("71#");
        world.silence(4_000);
        world.hang_up();
        let call = world.finish();
        let with_digits: Vec<Value> = call
            .messages()
            .into_iter()
            .filter(|message| message.to_string().contains("4 7 1 #"))
            .collect();
        call.assert(with_digits.len() == 1, &format!("{provider:?}: {with_digits:?}"));
        let lengths: Vec<u128> =
            call.ear.stretches().iter().map(|it| (it.end - it.start).as_millis()).collect();
        let answered = lengths.len() == 2 && lengths[1].abs_diff(1_000) <= 4;
        call.assert(answered, &format!("{provider:?}: heard {lengths:?}"));
        let uplink = call.uplink_was_whole();
        call.assert(uplink.is_ok(), &format!("{provider:?}: {uplink:?}"));
        assert_closed_properly(&call, "digits");
    }
}

/// The longest sound in audio that a model received, in milliseconds; pauses of up to 5 ms belong to it.
fn longest_sound_ms(provider: Provider, audio: &[u8]) -> usize {
    let (pcm, per_ms): (Vec<i16>, usize) = match provider {
        Provider::Gemini => {
            (audio.as_chunks::<2>().0.iter().map(|it| i16::from_le_bytes(*it)).collect(), 16)
        }
        Provider::OpenAi => {
            let mut pcm = vec![0; audio.len()];
            g711::decode(Law::Mu, audio, &mut pcm);
            (pcm, 8)
        }
    };
    let loud: Vec<usize> = (0..pcm.len()).filter(|n| pcm[*n].unsigned_abs() > 200).collect();
    let sounds = loud.chunk_by(|before, after| after - before <= 5 * per_ms);
    sounds.map(|sound| sound[sound.len() - 1] - sound[0] + 1).max().unwrap_or(0) / per_ms
}

#[test]
fn digits_that_are_tones_reach_the_model_once_and_as_no_beeps() {
    for provider in PROVIDERS {
        let script = Script::new().on_nth(1, Trigger::Text, [hello()]).on_nth(
            2,
            Trigger::Text,
            [answer(1_000, "Thank you.")],
        );
        let mut config = config(provider, script);
        config.telephone_event = false;
        let mut world = World::new(config);
        world.ring();
        world.silence(2_000);
        world.press("4771#");
        world.silence(4_000);
        world.hang_up();
        let call = world.finish();
        let with_digits: Vec<Value> = call
            .messages()
            .into_iter()
            .filter(|message| message.to_string().contains("4 7 7 1 #"))
            .collect();
        call.assert(with_digits.len() == 1, &format!("{provider:?}: {with_digits:?}"));
        let lengths: Vec<u128> =
            call.ear.stretches().iter().map(|it| (it.end - it.start).as_millis()).collect();
        let answered = lengths.len() == 2 && lengths[1].abs_diff(1_000) <= 4;
        call.assert(answered, &format!("{provider:?}: heard {lengths:?}"));
        let audio: Vec<u8> = call
            .model(0)
            .received(0)
            .into_iter()
            .filter_map(|received| match received.message {
                ReceivedMessage::Audio(audio) => Some(audio.to_vec()),
                ReceivedMessage::Json(_) | ReceivedMessage::Garbage(_) => None,
            })
            .flatten()
            .collect();
        // A tone goes up until it is recognised, 36 ms at most; a resampler adds 2 ms.
        let beep = longest_sound_ms(provider, &audio);
        call.assert((1..=38).contains(&beep), &format!("{provider:?}: a beep of {beep} ms"));
        let uplink = call.uplink_was_whole();
        call.assert(uplink.is_ok(), &format!("{provider:?}: {uplink:?}"));
        assert_closed_properly(&call, "tones");
    }
}

#[test]
fn on_hold_nothing_goes_either_way_and_what_was_said_goes_on_after_it() {
    for provider in PROVIDERS {
        let script = Script::new()
            .on_nth(1, Trigger::Text, [hello()])
            .on_nth(1, Trigger::SpeechEnd, [answer(4_000, "A long answer.")])
            .on_nth(2, Trigger::SpeechEnd, [answer(700, "Yes.")]);
        let mut world = call(provider, script);
        world.silence(2_000);
        world.utterance(1_500);
        let held = world.now;
        world.hold(true);
        let up = world.model(0).caller_audio_ms(0);
        let packets = world.ear.packets();
        world.run(40_000, Sound::Nothing);
        assert!(world.ear.packets() <= packets + 1, "{provider:?}: we send on hold");
        assert_eq!(world.model(0).caller_audio_ms(0), up, "{provider:?}: the model hears hold");
        world.hold(false);
        let back = world.now;
        world.silence(4_000);
        world.utterance(3_000);
        world.hang_up();
        let call = world.finish();
        let name = format!("{provider:?}");
        let stretches = call.ear.stretches();
        let lengths: Vec<u128> =
            stretches.iter().map(|it| (it.end - it.start).as_millis()).collect();
        call.assert(lengths.len() == 4, &format!("{name}: heard {lengths:?}"));
        let whole = lengths[1] + lengths[2];
        call.assert(whole.abs_diff(4_000) <= 4, &format!("{name}: {whole} ms of the answer"));
        let quiet = stretches[1].end <= held + Duration::from_millis(40)
            && stretches[2].start >= back
            && stretches[2].start <= back + Duration::from_millis(60);
        call.assert(quiet, &format!("{name}: heard {lengths:?}"));
        let uplink = call.uplink_was_whole();
        call.assert(uplink.is_ok(), &format!("{name}: {uplink:?}"));
        call.assert(call.model(0).connections() == 1, &name);
        assert_closed_properly(&call, &name);
    }
}

#[test]
fn a_drain_ends_the_call_with_a_goodbye() {
    for provider in PROVIDERS {
        let mut world = call(provider, Script::new().on(Trigger::Text, [answer(6_000, "Hello.")]));
        world.silence(1_000);
        world.input(Input::Drain);
        let over = world.run_until(12_000, Sound::Silence, World::is_over);
        assert!(over, "{provider:?}: it goes on\n{}", world.story());
        let call = world.finish();
        call.assert(call.outcome.end_reason == EndReason::Draining, "drained");
        let words = call.ear.stretches().iter().any(|it| it.voiced == tandem_tests::Voiced::Words);
        call.assert(words, "the caller hears a goodbye");
        assert_closed_properly(&call, "a drain");
    }
}

#[test]
fn the_ledger_and_the_truncation_tell_what_was_heard() {
    let script = Script::new()
        .interruptible()
        .on_nth(
            1,
            Trigger::SpeechEnd,
            [Answer::of_ms(8_000).profile(Profile::Fast).saying(["It is."]).into()],
        )
        .on_nth(2, Trigger::SpeechEnd, [answer(700, "Yes.")]);
    let mut config = config(Provider::OpenAi, script);
    config.agent.greeting = Greeting::Silent;
    let mut world = World::new(config);
    world.ring();
    world.utterance(2_500);
    world.utterance(3_000);
    world.hang_up();
    let call = world.finish();
    let heard = call.ear.stretches()[0].clone();
    let heard_ms = (heard.end - heard.start).as_millis() as u64;
    let truncated: Vec<u64> = call
        .messages()
        .iter()
        .filter(|message| message["type"] == "conversation.item.truncate")
        .filter_map(|message| message["audio_end_ms"].as_u64())
        .collect();
    // What was cut fades out over 5 ms.
    call.assert(
        truncated.len() == 1 && (truncated[0]..=truncated[0] + 5).contains(&heard_ms),
        &format!("{heard_ms} ms were heard, {truncated:?} truncated"),
    );
    let [first, second] = &call.outcome.turns[..] else { panic!("{:?}", call.outcome.turns) };
    call.assert(first.heard_ms == Some(truncated[0] as f64), "the ledger knows what was heard");
    call.assert(first.barge_in_ms.is_some_and(|ms| ms <= 40.0), "and when it stopped");
    for turn in [first, second] {
        let complete = turn.uplink_ms.is_some()
            && turn.model_ms.is_some()
            && turn.downlink_ms.is_some()
            && turn.response_ms.is_some_and(|ms| (480.0..=560.0).contains(&ms));
        call.assert(complete, &format!("{turn:?}"));
    }
    assert_closed_properly(&call, "the ledger");
}

#[test]
fn an_hour_with_the_attendant_takes_a_moment() {
    let mut agent = agent(&[]);
    agent.greeting = Greeting::OwnWords;
    let mut config = WorldConfig::new(agent, Vec::new());
    config.tools =
        vec![tool("leave_message", 200, ToolReply::Output(json!({ "status": "noted" })))];
    let mut world = World::new(config);
    world.keeps_no_audio = true;
    world.ring();
    for _ in 0..240 {
        world.speech(1_500);
        world.silence(13_500);
        assert!(!world.is_over(), "{}", world.story());
    }
    let stats = world.uplink_stats();
    world.hang_up();
    let call = world.finish();
    call.assert(call.outcome.end_reason == EndReason::CallerHangup, "an hour");
    call.assert(call.call_ms() == 3_600_000, "an hour");
    let frames = stats.frames_sent + stats.frames_dropped;
    call.assert(frames.abs_diff(180_000) <= 5 && stats.frames_dropped == 0, &format!("{stats:?}"));
    let packets = call.quality.packets_sent;
    call.assert(packets.abs_diff(180_000) <= 2_000, &format!("{packets} packets were sent"));
    call.assert(call.outcome.transcript.len() <= 1_000, "the transcript is bounded");
}
