//! Traces that break the rules, one by one.

use std::sync::OnceLock;

use serde_json::{Map, json};
use tandem_call::{
    BargeIns, CallOutcome, Cut, EndReason, EndedBy, Greet, HangupCause, Invocation, ModelCommand,
    ToolCall, ToolCallId, ToolMode, ToolOutcome, ToolRecord, TransferKind, TransferTarget, Usage,
    Verdict,
};

use super::*;
use crate::events::test_agent;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn model(event: ModelEvent) -> Stimulus {
    Stimulus::Input(Input::Model(event))
}

/// Steps before those of a test.
const SETUP: u32 = 3;

/// When the first step of all traces is.
fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

fn call_of(id: &str) -> ToolCall {
    ToolCall { id: ToolCallId(id.into()), name: "find_repair".into(), arguments: Ok(json!({})) }
}

fn tool_call() -> ModelEvent {
    ModelEvent::ToolCall(call_of("t1"))
}

fn result_of(id: &str) -> Output {
    let (id, outcome) = (ToolCallId(id.into()), ToolOutcome::TimedOut);
    Output::Model(ModelCommand::ToolResult { id, outcome })
}

fn result() -> Output {
    result_of("t1")
}

/// The call `id` is carried out in that step of a test.
fn execute(step: u32, id: &str, number: u32) -> Output {
    let timeout = ms(9_000);
    let deadline = start() + ms(100) * (SETUP + step) + timeout;
    Output::Tool(Invocation { number, call: call_of(id), deadline, timeout })
}

/// The end of a call in which tools came out so.
fn ended(tools: &[(u32, Verdict)]) -> Output {
    let record = |&(number, outcome): &(u32, Verdict)| ToolRecord {
        number,
        name: "find_repair".into(),
        mode: ToolMode::Blocking,
        arguments: json!({}),
        at_ms: 0,
        duration_ms: 0,
        attempts: Some(0),
        outcome,
        http_status: None,
        status: None,
        message: None,
        spoken_after_ms: None,
        error: None,
    };
    Output::Ended(Box::new(CallOutcome {
        end_reason: EndReason::CallerHangup,
        ended_by: EndedBy::Caller,
        cause: HangupCause::NormalClearing,
        answered: None,
        summary: None,
        transcript: Vec::new(),
        tools: tools.iter().map(record).collect(),
        metadata: Map::new(),
        transfer: None,
        turns: Vec::new(),
        barge_ins: BargeIns::default(),
        usage: Usage::default(),
        model_connect_ms: None,
        first_audio_ms: None,
        end_call_tail_ms: None,
        models: Vec::new(),
        model_failures: Vec::new(),
    }))
}

fn audio() -> Stimulus {
    Stimulus::Input(Input::ModelAudio { item: ItemId(1), duration: ms(500) })
}

fn transfer() -> Output {
    let target = TransferTarget::new(TransferKind::Extension, "1");
    Output::Signal(SignalCommand::Transfer { target, headers: Vec::new() })
}

fn play(item: u64) -> Output {
    let item = ItemId(FIRST_PROMPT + item);
    Output::Leg(LegCommand::Play { item, prompt: Prompt::OneMoment })
}

type Steps = Vec<(Stimulus, Vec<Output>)>;

/// Truncates, finds turns or is told of them, in which case a pause of 500 ms ends one.
fn able(detects_turns: bool) -> Capabilities {
    Capabilities {
        input: &[],
        output: &[],
        truncates: true,
        detects_turns,
        interrupts: true,
        turn_pause: ms(500),
        takes_digits: false,
        answers_results: true,
        resumes: false,
        session_limit: None,
    }
}

/// Steps of 100 ms from a call that has just been answered by a model that is ready.
fn broken_by(able: &Capabilities, steps: &[(Stimulus, Vec<Output>)]) -> String {
    let mut reference = Reference::new(test_agent(), able);
    let open = Output::OpenModel { index: 0, history: Vec::new(), apologise: false };
    let setup = [
        (Stimulus::New, vec![open]),
        (model(ModelEvent::Ready), vec![Output::Signal(SignalCommand::Answer)]),
        (Stimulus::Input(Input::Signal(SignalEvent::Answered)), vec![]),
    ];
    for (index, (stimulus, outputs)) in setup.iter().chain(steps).enumerate() {
        let now = start() + ms(100) * index as u32;
        let ends = outputs.iter().any(|output| matches!(output, Output::Ended(_)));
        let timeout = (!ends).then(|| now + ms(1));
        let step = Step { now, stimulus, outputs, timeout };
        if let Err(Violation(text)) = reference.observe(&step) {
            assert_eq!(index, setup.len() + steps.len() - 1, "too early: {text}");
            return text;
        }
    }
    reference.finish().expect_err("nothing was broken").0
}

#[test]
fn each_broken_rule_is_seen() {
    let timeout = || Stimulus::Timeout;
    let greet = || Output::Model(ModelCommand::Greet(Greet::Exactly("Hello.".into())));
    let hang_up = || Output::Signal(SignalCommand::HangUp { cause: HangupCause::NormalClearing });
    let close = || Output::Model(ModelCommand::Close);
    let cleared = |heard| {
        let cut = vec![Cut { item: ItemId(1), heard, received: ms(500) }];
        Stimulus::Input(Input::Leg(LegEvent::PlayoutCleared { cut }))
    };
    let truncate = |heard| Output::Model(ModelCommand::Truncate { item: ItemId(1), heard });
    let quiet = || (timeout(), vec![]);
    let cases: Vec<(&str, Steps)> = vec![
        ("the call does not end", vec![quiet()]),
        ("greeted twice", vec![(timeout(), vec![greet(), greet()])]),
        ("a result nobody waits for", vec![(timeout(), vec![result()])]),
        (
            "a result nobody waits for",
            vec![(model(tool_call()), vec![result()]), (timeout(), vec![result()])],
        ),
        ("was not answered", {
            let mut steps = vec![(model(tool_call()), vec![])];
            steps.extend((0..90).map(|_| quiet()));
            steps
        }),
        (
            "the caller interrupted",
            vec![(audio(), vec![]), (model(ModelEvent::SpeechStarted), vec![])],
        ),
        ("was not cut", vec![(audio(), vec![]), (timeout(), vec![truncate(ms(100))])]),
        ("was not cut at", vec![(cleared(ms(100)), vec![truncate(ms(600))])]),
        ("cut twice", vec![(cleared(ms(100)), vec![truncate(ms(100)), truncate(ms(100))])]),
        ("after Close", vec![(timeout(), vec![hang_up(), close(), result()])]),
        ("a prompt after the end", vec![(timeout(), vec![hang_up(), close(), play(0)])]),
        ("during a transfer", vec![(timeout(), vec![transfer(), play(0)])]),
        ("nobody listens", {
            let say = Output::Model(ModelCommand::Say("Well?".into()));
            vec![(timeout(), vec![transfer(), say])]
        }),
        ("a prompt id came again", vec![(timeout(), vec![play(0), play(0)])]),
        ("while Over", vec![(timeout(), vec![hang_up(), hang_up()])]),
        ("of dead air", {
            let failure = tandem_call::ModelFailure {
                reaction: tandem_call::Reaction::Retry { after: ms(1) },
                reason: String::new(),
            };
            let mut steps = vec![(model(ModelEvent::Lost(failure)), vec![])];
            steps.extend((0..21).map(|_| quiet()));
            steps
        }),
        ("of dead air", {
            // A word breaks the silence, and it begins again.
            let mut steps = vec![(timeout(), vec![greet()]), (timeout(), vec![play(0)])];
            let drained = LegEvent::PlayoutDrained { item: ItemId(FIRST_PROMPT) };
            steps.push((Stimulus::Input(Input::Leg(drained)), vec![]));
            steps.extend((0..21).map(|_| quiet()));
            steps
        }),
        ("of dead air", {
            let speech = |event| (Stimulus::Input(Input::Leg(event)), vec![]);
            let mut steps = vec![speech(LegEvent::SpeechStarted)];
            steps.extend((0..30).map(|_| quiet()));
            steps.push(speech(LegEvent::SpeechStopped { ago: ms(200) }));
            steps.extend((0..21).map(|_| quiet()));
            steps
        }),
        ("the sentence before a transfer was cut", {
            let outcome = ToolOutcome::Answered(json!({ "status": "transferring" }));
            let id = ToolCallId("t1".into());
            let promise = Output::Model(ModelCommand::ToolResult { id, outcome });
            let mut steps = vec![(model(tool_call()), vec![promise]), (audio(), vec![])];
            steps.extend((0..100).map(|_| quiet()));
            steps.push((timeout(), vec![transfer()]));
            steps
        }),
        ("model 2, not 1", {
            let open = Output::OpenModel { index: 2, history: Vec::new(), apologise: true };
            vec![(timeout(), vec![open])]
        }),
        ("renewed too often", {
            let renew = Output::Model(ModelCommand::Renew { history: Vec::new() });
            vec![(timeout(), vec![renew; 4])]
        }),
    ];
    for (rule, steps) in cases {
        let text = broken_by(&able(true), &steps);
        assert!(text.contains(rule), "{rule}: {text}");
    }
}

#[test]
fn each_broken_rule_of_tools_is_seen() {
    let called = |id: &str, outputs| (model(ModelEvent::ToolCall(call_of(id))), outputs);
    let quiet = |outputs| (Stimulus::Timeout, outputs);
    let reports = |number, outputs| {
        let report = ToolOutcome::Answered(json!({})).into();
        (Stimulus::Input(Input::Tool { number, report }), outputs)
    };
    let both =
        || vec![called("t1", vec![execute(0, "t1", 1)]), called("t2", vec![execute(1, "t2", 2)])];
    let then = |mut steps: Steps, more: Steps| {
        steps.extend(more);
        steps
    };
    let end = |mut outputs: Vec<Output>, tools: &[(u32, Verdict)]| {
        outputs.extend([Output::Model(ModelCommand::Close), ended(tools)]);
        vec![quiet(outputs)]
    };
    let cancelled = || Output::CancelTool(1);
    let cases: Vec<(&str, Steps)> = vec![
        ("executed twice", {
            vec![
                called("t1", vec![execute(0, "t1", 1), result()]),
                called("t1", vec![execute(1, "t1", 2)]),
            ]
        }),
        ("not called", vec![quiet(vec![execute(0, "t1", 1)])]),
        ("is a wrong number", {
            vec![called("t1", vec![execute(0, "t1", 1)]), called("t2", vec![execute(1, "t2", 1)])]
        }),
        ("is not the deadline", vec![called("t1", vec![execute(1, "t1", 1)])]),
        ("came before that of", then(both(), vec![reports(2, vec![result_of("t2")])])),
        ("a result nobody waits for", {
            let taken_back = ModelEvent::ToolCancelled(ToolCallId("t1".into()));
            then(both(), vec![(model(taken_back), vec![cancelled(), result()])])
        }),
        ("does not run", then(both(), vec![reports(1, vec![cancelled()])])),
        ("of dead air", {
            let mut steps = vec![called("t1", vec![execute(0, "t1", 1)])];
            steps.extend((0..21).map(|_| quiet(vec![])));
            steps
        }),
        (
            "is not in the record",
            then(both(), end(vec![cancelled(), Output::CancelTool(2)], &[(1, Verdict::Cancelled)])),
        ),
        ("is Reported and Late", {
            let told = vec![called("t1", vec![execute(0, "t1", 1)]), reports(1, vec![result()])];
            then(told, end(vec![], &[(1, Verdict::Late)]))
        }),
        ("is Cancelled and Ok", {
            then(vec![called("t1", vec![execute(0, "t1", 1)])], end(vec![], &[(1, Verdict::Ok)]))
        }),
        ("out of order", { end(vec![], &[(1, Verdict::Rejected), (1, Verdict::Rejected)]) }),
    ];
    for (rule, steps) in cases {
        let text = broken_by(&able(true), &steps);
        assert!(text.contains(rule), "{rule}: {text}");
    }
}

#[test]
fn each_broken_rule_of_told_turns_is_seen() {
    let leg = |event| Stimulus::Input(Input::Leg(event));
    let begins = || (leg(LegEvent::SpeechStarted), vec![]);
    let stops = |outputs| (leg(LegEvent::SpeechStopped { ago: ms(200) }), outputs);
    let quiet = || (Stimulus::Timeout, vec![]);
    let started = |ago| Output::Model(ModelCommand::TurnStarted { ago: ms(ago) });
    let ended = || Output::Model(ModelCommand::TurnEnded);
    // Four steps of speech, the turn told in the last.
    let told =
        || vec![begins(), quiet(), quiet(), quiet(), (Stimulus::Timeout, vec![started(400)])];
    let then = |mut steps: Steps, more: Steps| {
        steps.extend(more);
        steps
    };
    let cases: Vec<(&str, Steps)> = vec![
        ("the call does not end", then(told(), vec![stops(vec![])])),
        ("a turn of silence", vec![(Stimulus::Timeout, vec![started(0)])]),
        ("a click", vec![begins(), (Stimulus::Timeout, vec![started(100)])]),
        ("not 90ms", vec![begins(), quiet(), (Stimulus::Timeout, vec![started(90)])]),
        ("at the wrong time", then(told(), vec![(Stimulus::Timeout, vec![started(500)])])),
        ("the end of no turn", vec![(Stimulus::Timeout, vec![ended()])]),
        ("not silent enough", then(told(), vec![(Stimulus::Timeout, vec![ended()])])),
        ("not silent enough", then(told(), vec![stops(vec![ended()])])),
        ("turn was not told", vec![begins(), quiet(), quiet(), quiet(), stops(vec![])]),
        ("the end of the caller's turn", {
            then(told(), vec![stops(vec![]), quiet(), quiet(), quiet()])
        }),
        ("the agent talks on", vec![(audio(), vec![]), begins()]),
        ("of dead air", {
            let over = (Stimulus::Timeout, vec![ended()]);
            let mut steps = then(told(), vec![stops(vec![]), quiet(), quiet(), over]);
            steps.extend((0..21).map(|_| quiet()));
            steps
        }),
    ];
    for (rule, steps) in cases {
        let text = broken_by(&able(false), &steps);
        assert!(text.contains(rule), "{rule}: {text}");
    }
    let turn = vec![begins(), quiet(), quiet(), (Stimulus::Timeout, vec![started(300)])];
    let text = broken_by(&able(true), &turn);
    assert!(text.contains("for a model that finds them"), "{text}");
}

#[test]
fn each_broken_rule_of_interruptions_is_seen() {
    let leg = |event, outputs| (Stimulus::Input(Input::Leg(event)), outputs);
    let begins = |outputs| leg(LegEvent::SpeechStarted, outputs);
    let pauses = |outputs| leg(LegEvent::SpeechPaused { ago: ms(50) }, outputs);
    let quiet = |outputs| (Stimulus::Timeout, outputs);
    let speaks = || (audio(), vec![]);
    let duck = |ducked| Output::Leg(LegCommand::Duck(ducked));
    let clear = || Output::Leg(LegCommand::ClearPlayout);
    let hushed = || vec![speaks(), begins(vec![duck(true)])];
    let then = |mut steps: Steps, more: Steps| {
        steps.extend(more);
        steps
    };
    let cases: Vec<(&str, Steps)> = vec![
        ("the call does not end", then(hushed(), vec![quiet(vec![]), pauses(vec![duck(false)])])),
        ("the call does not end", {
            then(hushed(), vec![quiet(vec![]), quiet(vec![]), quiet(vec![clear()])])
        }),
        ("the agent talks on", vec![speaks(), begins(vec![])]),
        ("the agent talks on", {
            let again = leg(LegEvent::SpeechResumed, vec![]);
            then(hushed(), vec![pauses(vec![duck(false)]), again])
        }),
        ("hushed twice", then(hushed(), vec![quiet(vec![duck(true)])])),
        ("or not at all", vec![speaks(), quiet(vec![duck(false)])]),
        ("hushed for nobody", vec![speaks(), quiet(vec![duck(true)])]),
        ("stopped for 200ms", then(hushed(), vec![quiet(vec![]), quiet(vec![clear()])])),
        (
            "nor gone on after 300ms",
            then(hushed(), vec![quiet(vec![]), quiet(vec![]), quiet(vec![])]),
        ),
        ("still hushed after 150ms", then(hushed(), vec![pauses(vec![]), quiet(vec![])])),
        ("still hushed", {
            then(hushed(), vec![leg(LegEvent::SpeechStopped { ago: ms(50) }, vec![])])
        }),
        (
            "hushed for a caller who is away",
            vec![begins(vec![]), { (Stimulus::Timeout, vec![duck(true), transfer()]) }],
        ),
    ];
    for (rule, steps) in cases {
        let text = broken_by(&able(true), &steps);
        assert!(text.contains(rule), "{rule}: {text}");
    }
}
