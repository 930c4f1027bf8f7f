//! What can go wrong with a model must not be heard for longer than two seconds, and never ends a call.

use std::time::{Duration, Instant};

use serde_json::json;
use tandem_call::{EndReason, Greeting};
use tandem_sim::{Action, Answer, AnswerEnd, FakeConfig, Profile, Provider, Script, Trigger};
use tandem_tests::{Finished, Sound, World, WorldConfig, agent};

/// The longest a caller who waits may hear nothing.
const DEAD_AIR: Duration = Duration::from_secs(2);

const PROVIDERS: [Provider; 2] = [Provider::Gemini, Provider::OpenAi];

/// Greets, answers every utterance with four seconds of speech as it would be spoken, and can be interrupted.
fn conversation() -> Script {
    conversation_after(Script::new())
}

fn conversation_after(script: Script) -> Script {
    script.interruptible().on(Trigger::Text, [Answer::of_ms(1_500).saying(["Hello."]).into()]).on(
        Trigger::SpeechEnd,
        [Answer::of_ms(4_000).profile(Profile::Paced).saying(["Yes."]).into()],
    )
}

fn open_answer(ms: u64) -> Action {
    let answer = Answer { usage: None, ..Answer::of_ms(ms) };
    answer.profile(Profile::Paced).saying(["It is"]).end(AnswerEnd::Open).into()
}

/// Who stands behind the model that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    Attendant,
    AnotherModel,
}

/// A call that greets, with a first model that plays `script`.
fn call(provider: Provider, script: Script, behind: Behind) -> World {
    call_with(Some(FakeConfig::new(provider, vec![script])), provider, behind)
}

fn call_with(first: Option<FakeConfig>, provider: Provider, behind: Behind) -> World {
    let mut servers = vec![first];
    let mut names = vec!["first"];
    if behind == Behind::AnotherModel {
        servers.push(Some(FakeConfig::new(provider, vec![conversation()])));
        names.push("second");
    }
    let mut agent = agent(&names);
    agent.greeting = Greeting::OwnWords;
    World::new(WorldConfig::new(agent, servers))
}

/// What follows from a fault at `since`, or from the caller's last word before it if that was later.
struct Aftermath {
    since: Instant,
    /// What the record says of the first model.
    reason: &'static str,
    /// Whether the first model is left for good.
    left: bool,
}

/// Lets the caller listen and ask once more, hangs up, and holds the call to what must come of every fault.
#[track_caller]
fn survives(name: &str, mut world: World, behind: Behind, aftermath: &Aftermath) -> Finished {
    world.silence(12_000);
    assert!(!world.is_over(), "{name}: the call was dropped\n{}", world.story());
    let asked = world.now;
    world.speech(1_000);
    let fell_silent = world.now;
    world.silence(8_000);
    assert!(!world.is_over(), "{name}: the call was dropped\n{}", world.story());
    world.hang_up();
    let call = world.finish();
    let Aftermath { since, reason, left } = *aftermath;
    for (what, from) in [("the fault", since), ("the next question", fell_silent)] {
        let silence = call.dead_air_after(from);
        call.assert(
            silence.is_some_and(|silence| silence <= DEAD_AIR),
            &format!("{name}: {silence:?} of dead air after {what}, {} ms", call.ms(from)),
        );
    }
    call.assert(asked > since, "the fault came first");
    call.assert(call.outcome.end_reason == EndReason::CallerHangup, name);
    let failures = &call.outcome.model_failures;
    call.assert(
        failures.iter().any(|failure| failure.starts_with("first: ") && failure.contains(reason)),
        &format!("{name}: the record says {failures:?}, not {reason:?}"),
    );
    let last = match (left, behind) {
        (false, _) => "first",
        (true, Behind::AnotherModel) => "second",
        (true, Behind::Attendant) => "attendant",
    };
    let models = &call.outcome.models;
    call.assert(models.last().is_some_and(|model| model == last), &format!("{name}: {models:?}"));
    call.assert_rules();
    call
}

fn each(mut test: impl FnMut(&str, Provider, Behind)) {
    for provider in PROVIDERS {
        for behind in [Behind::Attendant, Behind::AnotherModel] {
            test(&format!("{provider:?}, {behind:?}"), provider, behind);
        }
    }
}

#[test]
fn a_model_that_dies_in_the_middle_of_its_answer() {
    each(|name, provider, behind| {
        let mut world = call(provider, conversation(), behind);
        world.ring();
        world.silence(3_000);
        world.utterance(2_000);
        world.kill_model(0);
        let since = world.now;
        survives(name, world, behind, &Aftermath { since, reason: "connection", left: true });
    });
}

#[test]
fn a_model_that_dies_before_it_answers() {
    each(|name, provider, behind| {
        let mut world = call(provider, conversation(), behind);
        world.ring();
        world.silence(3_000);
        world.speech(1_000);
        world.silence(100);
        world.kill_model(0);
        let since = world.now;
        survives(name, world, behind, &Aftermath { since, reason: "connection", left: true });
    });
}

#[test]
fn a_model_that_dies_while_the_caller_speaks() {
    each(|name, provider, behind| {
        let mut world = call(provider, conversation(), behind);
        world.ring();
        world.silence(3_000);
        world.speech(500);
        world.kill_model(0);
        world.speech(1_500);
        let since = world.now;
        survives(name, world, behind, &Aftermath { since, reason: "connection", left: true });
    });
}

#[test]
fn a_model_that_refuses_the_handshake() {
    for (status, reason) in
        [(401, "401"), (403, "403"), (404, "404"), (429, "429"), (500, "500"), (503, "503")]
    {
        each(|name, provider, behind| {
            let refuses = Script::new().on(Trigger::Connect, [Action::HttpStatus(status)]);
            let mut world = call(provider, refuses, behind);
            world.ring();
            let since = world.answered.expect("it was answered");
            assert!(
                since - world.began <= Duration::from_millis(1_520),
                "{name}: it rang for long"
            );
            let name = format!("{status}, {name}");
            survives(&name, world, behind, &Aftermath { since, reason, left: true });
        });
    }
}

#[test]
fn a_model_where_nothing_listens() {
    for behind in [Behind::Attendant, Behind::AnotherModel] {
        let mut world = call_with(None, Provider::Gemini, behind);
        world.ring();
        let since = world.answered.expect("it was answered");
        let aftermath = Aftermath { since, reason: "cannot connect", left: true };
        survives(&format!("{behind:?}"), world, behind, &aftermath);
    }
}

#[test]
fn a_model_that_never_answers_the_handshake() {
    each(|name, provider, behind| {
        let silent = Script::new().on(Trigger::Connect, [Action::NeverUpgrade]);
        let mut world = call(provider, silent, behind);
        world.ring();
        let since = world.answered.expect("it was answered");
        survives(name, world, behind, &Aftermath { since, reason: "in time", left: true });
    });
}

#[test]
fn a_model_that_never_configures_the_session() {
    // OpenAI's session is taken for configured when the server has greeted us and does not object.
    for behind in [Behind::Attendant, Behind::AnotherModel] {
        let silent = Script::new().on(Trigger::Setup, []);
        let mut world = call(Provider::Gemini, silent, behind);
        world.ring();
        let since = world.answered.expect("it was answered");
        let aftermath = Aftermath { since, reason: "in time", left: true };
        survives(&format!("{behind:?}"), world, behind, &aftermath);
    }
}

#[test]
fn a_model_that_says_nothing_for_thirty_seconds() {
    each(|name, provider, behind| {
        let stalls = Script::new()
            .on_nth(1, Trigger::Text, [Answer::of_ms(1_500).saying(["Hello."]).into()])
            .on_nth(
                1,
                Trigger::SpeechEnd,
                [Action::Delay(30_000), Answer::of_ms(1_000).saying(["Too late."]).into()],
            );
        let mut world = call(provider, stalls, behind);
        world.ring();
        world.silence(3_000);
        world.speech(1_000);
        let since = world.now;
        survives(name, world, behind, &Aftermath { since, reason: "said nothing", left: true });
    });
}

#[test]
fn a_model_that_stops_in_the_middle_of_its_answer_for_thirty_seconds() {
    each(|name, provider, behind| {
        let stalls = Script::new()
            .on_nth(1, Trigger::Text, [Answer::of_ms(1_500).saying(["Hello."]).into()])
            .on_nth(
                1,
                Trigger::SpeechEnd,
                [open_answer(1_000), Action::Delay(30_000), Action::StaleAudio(1_000)],
            );
        let mut world = call(provider, stalls, behind);
        world.ring();
        world.silence(3_000);
        world.speech(1_000);
        let since = world.now;
        survives(name, world, behind, &Aftermath { since, reason: "said nothing", left: true });
    });
}

#[test]
fn a_model_that_reads_nothing_any_more() {
    each(|name, provider, behind| {
        // Longer than any test: it reads nothing until the end.
        let deaf = conversation_after(
            Script::new().on(Trigger::AudioMs { at: 3_000 }, [Action::StallReading(600_000)]),
        );
        let mut world = call(provider, deaf, behind);
        world.ring();
        world.silence(2_900);
        world.ignore_model(0);
        world.silence(200);
        world.speech(1_000);
        let since = world.now;
        survives(name, world, behind, &Aftermath { since, reason: "said nothing", left: true });
    });
}

#[test]
fn garbage_in_the_middle_of_an_answer() {
    for garbage in ["{\"serverContent\": ", "\u{0}\u{1}nonsense", "[]", "17"] {
        each(|name, provider, behind| {
            let script = conversation_after(Script::new().on_nth(
                1,
                Trigger::SpeechEnd,
                [open_answer(2_000), Action::Delay(600), Action::Raw(garbage.into())],
            ));
            let mut world = call(provider, script, behind);
            world.ring();
            world.silence(3_000);
            world.speech(1_000);
            let since = world.now;
            let name = format!("{garbage:?}, {name}");
            survives(&name, world, behind, &Aftermath { since, reason: "JSON", left: false });
        });
    }
}

#[test]
fn a_message_of_ten_megabytes_changes_nothing() {
    each(|name, provider, behind| {
        let big = json!({ "somethingNew": "x".repeat(10 << 20), "type": "something.new" });
        let script = Script::new()
            .on_nth(
                1,
                Trigger::SpeechEnd,
                [Action::Send(big), Answer::of_ms(2_000).saying(["Yes."]).into()],
            )
            .on_nth(2, Trigger::SpeechEnd, [Answer::of_ms(1_000).saying(["No."]).into()])
            .on(Trigger::Text, [Answer::of_ms(1_500).saying(["Hello."]).into()]);
        let mut world = call(provider, script, behind);
        world.ring();
        world.silence(3_000);
        world.utterance(4_000);
        world.utterance(3_000);
        world.hang_up();
        let call = world.finish();
        call.assert(call.outcome.model_failures.is_empty(), name);
        call.assert(call.model(0).connections() == 1, name);
        let sounds: u128 =
            call.ear.stretches().iter().map(|it| (it.end - it.start).as_millis()).sum();
        call.assert(sounds.abs_diff(4_500) < 20, &format!("{name}: {sounds} ms were heard"));
        call.assert_rules();
        call.assert(call.uplink_was_whole().is_ok(), name);
    });
}

#[test]
fn ten_megabytes_of_audio_are_spoken_without_a_gap() {
    // 160 s of 24 kHz PCM in base64 are 10.2 MB.
    let script = Script::new().on(
        Trigger::Text,
        [Answer::of_ms(160_000).profile(Profile::Whole).saying(["A long story."]).into()],
    );
    let mut world = call(Provider::Gemini, script, Behind::Attendant);
    world.ring();
    world.silence(165_000);
    world.hang_up();
    let call = world.finish();
    let stretches = call.ear.stretches();
    call.assert(stretches.len() == 1, &format!("{} stretches", stretches.len()));
    let spoken = stretches[0].end - stretches[0].start;
    call.assert(spoken.as_millis().abs_diff(160_000) < 5, &format!("{spoken:?}"));
    call.assert_rules();
}

#[test]
fn a_message_of_seventeen_megabytes_ends_the_connection_and_not_the_call() {
    each(|name, provider, behind| {
        let script = conversation_after(Script::new().on_nth(
            1,
            Trigger::SpeechEnd,
            [open_answer(2_000), Action::Delay(600), Action::Raw("x".repeat(17 << 20))],
        ));
        let mut world = call(provider, script, behind);
        world.ring();
        world.silence(3_000);
        world.speech(1_000);
        let since = world.now;
        survives(name, world, behind, &Aftermath { since, reason: "too long", left: false });
    });
}

#[test]
fn a_model_that_breaks_off_again_and_again_is_left() {
    each(|name, provider, behind| {
        let breaks =
            Script::new().on(Trigger::Text, [open_answer(1_000), Action::Delay(400), Action::Drop]);
        let mut world = call(provider, breaks, behind);
        world.ring();
        let since = world.answered.expect("it was answered");
        let call =
            survives(name, world, behind, &Aftermath { since, reason: "connection", left: true });
        let dials = call.model(0).connections();
        call.assert((2..=6).contains(&dials), &format!("{name}: dialled {dials} times"));
    });
}

#[test]
fn when_everything_fails_the_attendant_is_there_at_once() {
    for provider in PROVIDERS {
        let refuses = Script::new().on(Trigger::Connect, [Action::HttpStatus(401)]);
        let first = FakeConfig::new(provider, vec![refuses]);
        let second = first.clone();
        let mut agent = agent(&["first", "second"]);
        agent.greeting = Greeting::OwnWords;
        let mut world = World::new(WorldConfig::new(agent, vec![Some(first), Some(second)]));
        world.ring();
        world.run(3_000, Sound::Silence);
        world.hang_up();
        let call = world.finish();
        let answered = call.answered.expect("it was answered");
        call.assert(
            answered - call.began < Duration::from_millis(100),
            "the phone does not ring long",
        );
        let silence = call.dead_air_after(answered);
        call.assert(silence.is_some_and(|it| it <= Duration::from_millis(100)), "the apology");
        call.assert(call.outcome.models == ["attendant"], "the attendant answers");
        let failures: Vec<&str> =
            call.outcome.model_failures.iter().filter_map(|text| text.split(':').next()).collect();
        call.assert(failures == ["first", "second"], "both are on record");
        call.assert_rules();
    }
}

#[test]
fn a_key_that_the_vendor_prints_is_not_on_record() {
    for provider in PROVIDERS {
        let reason = format!("API key {} is not valid.", FakeConfig::KEY);
        let refuses = Script::new()
            .on(Trigger::Setup, [Action::Close { code: 1008, reason: reason.clone() }]);
        let mut world = call(provider, refuses, Behind::Attendant);
        world.ring();
        world.silence(2_000);
        world.hang_up();
        let call = world.finish();
        let failures = call.outcome.model_failures.join(" ");
        call.assert(failures.contains("API key [key] is not valid."), &failures);
        call.assert_rules();
    }
}
