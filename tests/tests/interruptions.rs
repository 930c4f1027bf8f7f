//! The caller speaks over the agent: sounds of a listener cost a pause and nothing else, and words stop it at once.

use std::time::{Duration, Instant};

use serde_json::json;
use tandem_call::{BargeIns, Speaker};
use tandem_media::Law;
use tandem_models::{ModelOptions, TurnDetection};
use tandem_sim::{
    Action, Answer, FakeConfig, InputTranscript, Profile, Provider, Script, ToolReply, ToolRequest,
    ToolScript, Trigger, answer_code,
};
use tandem_tests::{Finished, Sound, World, WorldConfig, agent};

/// The answer that is spoken over lasts so long; it begins with the end of the caller's turn.
const ANSWER: u64 = 4_000;

/// Longest fade of the agent's voice.
const FADE: usize = 5;

/// How the caller's turns are found.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Turns {
    /// By the server, which only reports them.
    Reported,
    /// By the server, which stops by itself.
    Server,
    /// By us.
    Local,
}

fn options(turns: Turns) -> ModelOptions {
    ModelOptions {
        turn_detection: match turns {
            Turns::Local => TurnDetection::Local,
            Turns::Reported | Turns::Server => TurnDetection::Silence,
        },
        server_interrupts: turns == Turns::Server,
        ..ModelOptions::default()
    }
}

/// What the fake model takes for the end of the caller's turn.
fn turn_end(turns: Turns) -> Trigger {
    if turns == Turns::Local { Trigger::Text } else { Trigger::SpeechEnd }
}

/// An answer of 4 s, and another one, to whatever the model takes for a turn after it.
fn script(turns: Turns) -> Script {
    let second = match turns {
        Turns::Local => None,
        _ => Some(Action::InputTranscript(InputTranscript::Text("Uh-huh.".into()))),
    };
    let answer: Action = Answer::of_ms(700).profile(Profile::Paced).saying(["Yes?"]).into();
    Script::new()
        .interruptible()
        .on_nth(1, turn_end(turns), [Answer::of_ms(ANSWER).saying(["All I know."]).into()])
        .on_nth(2, turn_end(turns), second.into_iter().chain([answer]).collect::<Vec<_>>())
}

fn config(turns: Turns, script: Script) -> WorldConfig {
    let agent = agent(&["fake"]);
    let mut config =
        WorldConfig::new(agent, vec![Some(FakeConfig::new(Provider::OpenAi, vec![script]))]);
    config.options = options(turns);
    config
}

/// The call when the agent has answered and been heard for 1 s or a little more.
fn answering(config: WorldConfig) -> World {
    let mut world = World::new(config);
    world.ring();
    world.silence(200);
    world.utterance(1_500);
    world
}

fn call(turns: Turns, over_the_agent: impl FnOnce(&mut World)) -> Finished {
    let mut world = answering(config(turns, script(turns)));
    over_the_agent(&mut world);
    world.hang_up();
    world.finish()
}

/// What was heard of the answer.
struct Heard {
    /// Milliseconds before the first pause and the fade into it.
    before: usize,
    /// How long the pauses lasted.
    pauses: Vec<Duration>,
    /// Its last millisecond.
    last: usize,
}

/// Walks through what was heard: each millisecond of the answer once and in order, but for the fades at a pause.
fn heard(call: &Finished) -> Heard {
    let code = |ms: usize| [answer_code(Law::Mu, 1, ms as u64); 8];
    let sounds: Vec<(Instant, [u8; 8])> = call.ear.milliseconds().collect();
    let mut heard = Heard { before: 0, pauses: Vec::new(), last: 0 };
    let mut next = 0;
    let mut at = 0;
    while at < sounds.len() && next < ANSWER as usize {
        if sounds[at].1 == code(next) {
            (next, at) = (next + 1, at + 1);
            continue;
        }
        // A fade out of what follows, silence, and the same again with a fade in.
        let pause = (at..sounds.len().min(at + FADE + 1))
            .find(|&n| n > 0 && sounds[n].0 > sounds[n - 1].0 + Duration::from_millis(2));
        let Some(begins) = pause else { break };
        if heard.pauses.is_empty() {
            heard.before = next;
        }
        heard.pauses.push(sounds[begins].0 - sounds[begins - 1].0);
        let goes_on = (0..=FADE)
            .find(|&fade| sounds.get(begins + fade).is_some_and(|it| it.1 == code(next + fade)));
        let Some(fade) = goes_on else { break };
        (next, at) = (next + fade, begins + fade);
    }
    heard.last = next;
    heard
}

fn truncated(call: &Finished) -> Vec<u64> {
    let messages = call.messages();
    let truncations =
        messages.iter().filter(|message| message["type"] == "conversation.item.truncate");
    truncations.filter_map(|message| message["audio_end_ms"].as_u64()).collect()
}

#[test]
fn a_listener_costs_the_agent_a_pause_and_nothing_else() {
    for turns in [Turns::Reported, Turns::Local] {
        for (name, sound) in [("uh-huh", 240), ("a cough", 100)] {
            let call = call(turns, |world| {
                world.run(sound, Sound::Speech);
                world.silence(5_000);
            });
            let name = format!("{name}, {turns:?}");
            let heard = heard(&call);
            call.assert(heard.last == ANSWER as usize, &format!("{name}: {} ms", heard.last));
            let [pause] = heard.pauses[..] else { panic!("{name}: {:?}", heard.pauses) };
            call.assert(pause <= Duration::from_millis(360), &format!("{name}: {pause:?}"));
            let tally = BargeIns { hushed: 1, went_on: 1, stopped: 0 };
            call.assert(call.outcome.barge_ins == tally, &name);
            call.assert(truncated(&call).is_empty(), &name);
            let agent = call.said(Speaker::Agent);
            call.assert(!agent.contains("Yes"), &format!("{name}: nobody asked: {agent}"));
            call.assert(!call.outcome.transcript.iter().any(|turn| turn.interrupted), &name);
            call.assert_rules();
        }
    }
}

#[test]
fn the_transcript_keeps_what_a_listener_said() {
    let call = call(Turns::Reported, |world| {
        world.run(240, Sound::Speech);
        world.silence(5_000);
    });
    call.assert(call.said(Speaker::Caller).contains("Uh-huh"), "as the model wrote it down");
    call.assert(call.sent("response.cancel") == 1, "its own answer to it is not wanted");
}

#[test]
fn words_stop_the_agent_within_a_packet_and_the_model_learns_where() {
    for (turns, decided) in [(Turns::Reported, 300), (Turns::Local, 300), (Turns::Server, 0)] {
        let mut spoke = None;
        let call = call(turns, |world| {
            spoke = Some(world.now);
            world.speech(1_500);
            world.silence(3_000);
        });
        let heard = heard(&call);
        let old = call.ear.stretches()[0].clone();
        let silent = old.end - spoke.expect("he spoke");
        // The detector believes in speech after 50 ms; the fade is in the packet after that.
        call.assert(silent <= Duration::from_millis(125), &format!("{turns:?}: {silent:?}"));
        let exact = truncated(&call);
        let played = (old.end - old.start).as_millis() as u64;
        let near = matches!(exact[..], [at] if at <= played && at + FADE as u64 >= played);
        call.assert(near, &format!("{turns:?}: {played} ms were played, {exact:?} truncated"));
        call.assert(heard.last as u64 == exact[0], &format!("{turns:?}: {} ms", heard.last));
        let tally = call.outcome.barge_ins;
        call.assert((tally.stopped, tally.went_on) == (1, 0), &format!("{turns:?}: {tally:?}"));
        call.assert(tally.hushed == u32::from(decided > 0), &format!("{turns:?}: {tally:?}"));
        call.assert(call.said(Speaker::Agent).contains("Yes"), "he is answered");
        call.assert_rules();
    }
}

#[test]
fn several_sounds_of_a_listener_are_a_pause_each() {
    let call = call(Turns::Local, |world| {
        for _ in 0..2 {
            world.run(160, Sound::Speech);
            world.silence(1_340);
        }
        world.silence(4_000);
    });
    let heard = heard(&call);
    call.assert((heard.last, heard.pauses.len()) == (ANSWER as usize, 2), &call.story.clone());
    call.assert(heard.before >= 1_000, &format!("{} ms before the first", heard.before));
}

#[test]
fn an_agent_that_is_never_interrupted_says_all_of_it() {
    for turns in [Turns::Reported, Turns::Local] {
        let mut config = config(turns, script(turns));
        config.agent.interruption.sensitivity = 0.0;
        let mut world = answering(config);
        world.speech(1_500);
        world.silence(4_000);
        world.hang_up();
        let call = world.finish();
        let heard = heard(&call);
        let whole = heard.last == ANSWER as usize && heard.pauses.is_empty();
        call.assert(whole, &format!("{turns:?}: {} ms, {:?}", heard.last, heard.pauses));
    }
}

#[test]
fn a_listener_does_not_stop_what_waits_for_a_tool() {
    let tool = ToolRequest::new("t-1", "find_repair", json!({ "order": "B-17" }));
    let script = Script::new()
        .on_nth(
            1,
            Trigger::SpeechEnd,
            [Answer::of_ms(ANSWER).saying(["I look it up."]).into(), Action::Tool(tool)],
        )
        .on_nth(1, Trigger::Text, [Answer::of_ms(700).saying(["Found."]).into()]);
    let mut config = config(Turns::Reported, script);
    config.tools = vec![ToolScript {
        name: "find_repair",
        takes_ms: 2_000,
        reply: ToolReply::Output(json!({ "status": "ready" })),
    }];
    let mut world = answering(config);
    world.run(240, Sound::Speech);
    world.silence(6_000);
    world.hang_up();
    let call = world.finish();
    call.assert(heard(&call).last == ANSWER as usize, "all of it");
    call.assert(call.tool_results() == [("t-1".to_owned(), 1)].into(), "the tool answered once");
    call.assert(call.outcome.barge_ins.went_on == 1, "he listened");
    call.assert_rules();
}
