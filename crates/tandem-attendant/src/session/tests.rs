use std::collections::HashMap;

use tandem_call::{Greet, HistoryTurn, ToolCallId, ToolDeclaration, ToolOutcome};
use tandem_media::{Law, g711};

use super::*;
use crate::{DigitAction, ScriptTurn, voice::wave};

mod any_order;

const FRAME: Duration = Duration::from_millis(20);
/// A character takes this long to say.
const PER_CHAR: Duration = Duration::from_millis(60);

/// A session, the leg that plays what it says, and the part of the call machine that stops the leg.
struct World {
    session: AttendantSession,
    now: Instant,
    /// What the session did, as text.
    log: Vec<String>,
    leg: Leg,
}

/// Plays items one after the other and knows what was heard.
#[derive(Default)]
struct Leg {
    queue: VecDeque<(ItemId, Duration)>,
    heard: HashMap<ItemId, Duration>,
}

#[derive(Default)]
struct Sink {
    events: Vec<ModelEvent>,
    audio: Vec<(ItemId, Duration)>,
}

impl ModelSink for Sink {
    fn audio(&mut self, item: ItemId, format: AudioFormat, bytes: &[u8]) {
        assert_eq!(format, FORMAT);
        self.audio.push((item, format.duration_of(bytes.len())));
    }

    fn event(&mut self, event: ModelEvent) {
        self.events.push(event);
    }
}

impl World {
    fn new(script: Script) -> Self {
        Self::open(script, |_, _| ())
    }

    fn open(script: Script, change: impl FnOnce(&mut SessionSpec, &mut AttendantSpec)) -> Self {
        let mut spec = SessionSpec {
            instructions: String::new(),
            voice: None,
            language: "en-US".into(),
            temperature: None,
            tools: vec![ToolDeclaration {
                name: "look_up".into(),
                description: String::new(),
                parameters: serde_json::json!({"type": "object"}),
            }],
            input: FORMAT,
            output: FORMAT,
            transcription: true,
            history: Vec::new(),
            first_item: ItemId(100),
        };
        let mut attendant = AttendantSpec {
            script: Arc::new(script),
            voice: Voice::tone(PER_CHAR),
            variables: BTreeMap::new(),
            apologise: false,
            endpointing: Endpointing::default(),
        };
        change(&mut spec, &mut attendant);
        let session = AttendantSession::open(spec, attendant);
        let mut world = Self { session, now: Instant::now(), log: Vec::new(), leg: Leg::default() };
        world.drain();
        world
    }

    fn send(&mut self, command: ModelCommand) {
        self.session.send(self.now, command);
        self.drain();
    }

    fn hear(&mut self, pcm: &[i16]) {
        for frame in pcm.chunks(320) {
            let bytes: Vec<u8> = frame.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            self.session.send_audio(self.now, &bytes);
            self.drain();
            self.leg.play(FRAME);
            self.now += FRAME;
        }
    }

    fn wait(&mut self, ms: usize) {
        self.hear(&vec![0; ms * 16]);
    }

    /// The caller says a sentence of 4.3 s and waits for an answer.
    fn speak(&mut self) {
        self.hear(&caller());
        self.wait(700);
    }

    fn drain(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            let mut sink = Sink::default();
            let polled = self.session.poll(&mut cx, self.now, &mut sink);
            let stops = sink.events.contains(&ModelEvent::SpeechStarted);
            assert!(!stops || sink.audio.is_empty(), "audio in one breath with an interruption");
            sink.events.into_iter().for_each(|event| self.log(event));
            self.leg.queue.extend(sink.audio);
            if stops {
                self.clear_playout();
            }
            if polled.is_pending() {
                return;
            }
        }
    }

    fn clear_playout(&mut self) {
        let mut cut: Vec<ItemId> = self.leg.queue.drain(..).map(|(item, _)| item).collect();
        cut.dedup();
        for item in cut {
            let heard = self.leg.heard.get(&item).copied().unwrap_or_default();
            self.session.send(
                self.now,
                match heard.is_zero() {
                    true => ModelCommand::Forget { item },
                    false => ModelCommand::Truncate { item, heard },
                },
            );
        }
    }

    fn log(&mut self, event: ModelEvent) {
        let line = match event {
            ModelEvent::AgentText { item: ItemId(item), text } => format!("{item}: {text}"),
            ModelEvent::CallerText { text, last: true } => {
                let length = text
                    .strip_prefix("[speech ")
                    .and_then(|text| text.strip_suffix(" s]"))
                    .unwrap();
                format!("caller: {:.0} s", length.parse::<f32>().unwrap())
            }
            ModelEvent::ToolCall(ToolCall { id: ToolCallId(id), name, arguments }) => {
                format!("{id} {name} {}", arguments.unwrap())
            }
            ModelEvent::ResponseEnded(end) => format!("{end:?}"),
            other => format!("{other:?}"),
        };
        self.log.push(line);
    }

    /// What was logged since the last call.
    #[track_caller]
    fn expect(&mut self, lines: &[&str]) {
        assert_eq!(std::mem::take(&mut self.log), lines);
    }

    /// Takes audio without a poll in between.
    fn listen(&mut self, pcm: &[i16]) {
        for frame in pcm.chunks(320) {
            let bytes: Vec<u8> = frame.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            self.session.send_audio(self.now, &bytes);
        }
    }

    fn tool_result_unseen(&mut self, id: ToolCallId) {
        let outcome = ToolOutcome::Answered(serde_json::json!({"message": "Done."}));
        self.session.send(self.now, ModelCommand::ToolResult { id, outcome });
    }

    fn tool_result(&mut self, id: &str, result: serde_json::Value) {
        self.send(ModelCommand::ToolResult {
            id: ToolCallId(id.into()),
            outcome: ToolOutcome::Answered(result),
        });
    }
}

impl Leg {
    fn play(&mut self, mut time: Duration) {
        while let Some((item, left)) = self.queue.front_mut() {
            let played = time.min(*left);
            *self.heard.entry(*item).or_default() += played;
            *left -= played;
            time -= played;
            if !left.is_zero() {
                return;
            }
            self.queue.pop_front();
        }
    }
}

fn caller() -> Vec<i16> {
    let ulaw = include_bytes!("../../testdata/caller.ulaw");
    let mut pcm = vec![0; ulaw.len()];
    g711::decode(Law::Mu, ulaw, &mut pcm);
    wave::resample(&pcm, 8_000, 16_000)
}

/// The beginning of a word, cut off: enough to interrupt, too little to be speech.
fn blip() -> Vec<i16> {
    let mut pcm = caller();
    pcm.drain(..16 * 200);
    pcm.truncate(16 * 60);
    pcm
}

fn script() -> Script {
    Script {
        greeting: "Hello. How can I help you today?".into(), // 0.36 s and 1.56 s
        turns: vec![
            ScriptTurn { say: Some("What is your name?".into()), ..ScriptTurn::default() },
            ScriptTurn {
                say: Some("Let me look that up.".into()),
                tool: Some(crate::ToolAction {
                    name: "look_up".into(),
                    arguments: serde_json::Map::new(),
                }),
                turn: None,
            },
        ],
        fallback: vec!["Pardon?".into()],
        digits: BTreeMap::from([(
            Digit::new('1').unwrap(),
            DigitAction { say: Some("We open at nine.".into()), tool: None },
        )]),
        goodbye: "Goodbye.".into(),
        transfer: "Connecting.".into(),
        transfer_failed: "Nobody is there.".into(),
        silence_prompt: "Still there?".into(),
        apology: "Sorry.".into(),
        message_taken: "Noted.".into(),
        go_on: "Go on.".into(),
        ..Script::default()
    }
}

fn greet() -> ModelCommand {
    ModelCommand::Greet(Greet::Instruction("Greet the caller.".into()))
}

const SPOKE: &str = "caller: 4 s";
const STARTED: &str = "ResponseStarted";
const COMPLETED: &str = "Completed";

#[test]
fn a_conversation_of_three_turns() {
    let mut world = World::new(script());
    world.send(greet());
    world.expect(&["Ready", STARTED, "100: Hello.", "100:  How can I help you today?", COMPLETED]);
    world.wait(3_000);
    world.expect(&[]);
    world.speak();
    world.expect(&[
        "SpeechStarted",
        "SpeechStopped",
        SPOKE,
        STARTED,
        "101: What is your name?",
        COMPLETED,
    ]);
    world.wait(2_000);
    world.speak();
    world.expect(&[
        "SpeechStarted",
        "SpeechStopped",
        SPOKE,
        STARTED,
        "102: Let me look that up.",
        "attendant-100-1 look_up {}",
        COMPLETED,
    ]);
    world.tool_result("attendant-100-1", serde_json::json!({"message": "It is ready."}));
    world.expect(&[STARTED, "103: It is ready.", COMPLETED]);
    world.wait(4_000);
    world.send(ModelCommand::Digits("#".into()));
    world.expect(&[
        STARTED,
        "104: Goodbye.",
        "attendant-100-2 end_call {\"reason\":\"caller_goodbye\"}",
        COMPLETED,
    ]);
    assert!(!world.session.is_closed());
    world.send(ModelCommand::Close);
    world.wait(1_000);
    world.send(greet());
    world.expect(&[]);
    assert!(world.session.is_closed());
}

#[test]
fn sentences_are_handed_over_whole_and_played_once() {
    let mut world = World::new(script());
    world.send(greet());
    let handed: Duration = world.leg.queue.iter().map(|&(_, duration)| duration).sum();
    assert_eq!(handed, PER_CHAR * ("Hello.".len() + "How can I help you today?".len()) as u32);
    world.wait(2_000);
    assert_eq!(world.leg.heard[&ItemId(100)], handed);
}

#[test]
fn the_caller_interrupts_the_greeting() {
    let mut world = World::new(script());
    world.send(greet());
    world.wait(700);
    world.log.clear();
    world.hear(&caller()[..16 * 400]);
    world.expect(&["SpeechStarted"]);
    assert!(world.leg.queue.is_empty());
    world.hear(&caller()[16 * 400..]);
    world.wait(700);
    world.expect(&["SpeechStopped", SPOKE, STARTED, "101: What is your name?", COMPLETED]);
}

#[test]
fn a_noise_makes_the_attendant_say_the_rest_again() {
    let mut world = World::new(script());
    world.send(greet());
    world.wait(700); // The first sentence and 0.34 s of the second one are heard.
    world.log.clear();
    world.hear(&blip());
    world.wait(800);
    world.expect(&[
        "SpeechStarted",
        "SpeechStopped",
        STARTED,
        "101: How can I help you today?",
        COMPLETED,
    ]);
    world.wait(3_000);
    world.hear(&blip());
    world.wait(1_000);
    world.expect(&[]);
}

#[test]
fn an_answer_nobody_heard_comes_again() {
    let mut world = World::new(script());
    world.speak(); // The answer has begun when the caller goes on.
    world.log.clear();
    world.hear(&caller());
    world.wait(700);
    world.expect(&[
        "SpeechStarted",
        "SpeechStopped",
        SPOKE,
        STARTED,
        "101: What is your name?",
        COMPLETED,
    ]);
}

#[test]
fn a_digit_stops_the_menu_and_is_answered() {
    let mut world = World::new(script());
    world.send(greet());
    world.wait(200);
    world.log.clear();
    world.send(ModelCommand::Digits("1".into()));
    world.expect(&["SpeechStarted", "SpeechStopped", STARTED, "101: We open at nine.", COMPLETED]);
    assert_eq!(world.leg.queue.len(), 1, "the greeting is gone");
    world.wait(2_000);
    world.send(ModelCommand::Digits("x1".into()));
    world.expect(&[STARTED, "102: We open at nine.", COMPLETED]);
}

#[test]
fn a_transfer_that_fails_comes_back() {
    let mut world = World::new(script());
    world.send(ModelCommand::Digits("0".into()));
    world.expect(&[
        "Ready",
        STARTED,
        "100: Connecting.",
        "attendant-100-1 transfer_to_human {\"reason\":\"The caller pressed 0.\"}",
        COMPLETED,
    ]);
    world.tool_result("attendant-100-1", serde_json::json!({"status": "transferring"}));
    world.wait(30_000);
    world.expect(&[]);
    world.send(ModelCommand::Say("The transfer failed: busy.".into()));
    world.expect(&[STARTED, "101: Nobody is there.", COMPLETED]);
    world.wait(2_000);
    world.speak();
    world.expect(&["SpeechStarted", "SpeechStopped", SPOKE, STARTED, "102: Noted.", COMPLETED]);
}

#[test]
fn a_silent_caller_is_asked_once() {
    let mut world = World::new(script());
    world.send(greet()); // 1.86 s
    world.log.clear();
    world.wait(9_800);
    world.expect(&[]);
    world.wait(200);
    world.expect(&[STARTED, "101: Still there?", COMPLETED]); // 0.72 s
    world.wait(8_400);
    world.expect(&[]);
    world.wait(400);
    world.expect(&[
        STARTED,
        "102: Goodbye.",
        "attendant-100-1 end_call {\"reason\":\"no_response\"}",
        COMPLETED,
    ]);
    world.tool_result("attendant-100-1", serde_json::json!({"status": "ending"}));
    world.wait(10_000);
    world.expect(&[]);
    world.wait(12_000); // Nobody hung up: the call goes on.
    world.expect(&[
        STARTED,
        "103: Goodbye.",
        "attendant-100-2 end_call {\"reason\":\"no_response\"}",
        COMPLETED,
    ]);
}

#[test]
fn silence_may_last_when_the_script_says_so() {
    let mut world = World::new(Script { silence_seconds: 0, ..script() });
    world.wait(60_000);
    world.expect(&["Ready"]);
}

#[test]
fn nobody_talks_over_the_goodbye() {
    let mut world = World::new(script());
    world.send(ModelCommand::Digits("#".into()));
    world.log.clear();
    world.wait(1_000);
    world.speak();
    world.expect(&["SpeechStarted", "SpeechStopped", SPOKE]);
    world.send(ModelCommand::Say("The caller speaks: go on.".into()));
    world.expect(&[STARTED, "101: Go on.", COMPLETED]);
}

#[test]
fn taking_over_from_a_failed_model() {
    let said = |speaker| HistoryTurn { speaker, text: "Something.".into() };
    let mut world = World::open(script(), |spec, attendant| {
        spec.history = vec![said(Speaker::Agent), said(Speaker::Caller)];
        attendant.apologise = true;
    });
    world.expect(&["Ready", STARTED, "100: Sorry.", COMPLETED]);
    world.send(ModelCommand::Say("The caller waits: go on.".into()));
    world.expect(&[]);
    world.wait(1_000);
    world.speak();
    world.expect(&["SpeechStarted", "SpeechStopped", SPOKE, STARTED, "101: Noted.", COMPLETED]);
}

#[test]
fn taking_over_before_a_word_was_said() {
    let mut world = World::open(script(), |_, attendant| attendant.apologise = true);
    world.expect(&["Ready"]);
    world.send(greet());
    world.expect(&[STARTED, "100: Sorry.", COMPLETED]);
}

#[test]
fn a_parrot_repeats_the_caller() {
    let mut world = World::new(Script { parrot: true, ..script() });
    world.wait(2_000);
    world.speak();
    world.expect(&[
        "Ready",
        "SpeechStarted",
        "SpeechStopped",
        SPOKE,
        STARTED,
        "100: [the caller's own words, 4.5 s]",
        COMPLETED,
    ]);
    assert_eq!(world.leg.queue.len(), 1);
}

#[test]
fn a_cancelled_answer_ends() {
    let mut world = World::new(script());
    world.session.send(world.now, greet());
    let mut sink = Sink::default();
    assert!(
        world
            .session
            .poll(&mut Context::from_waker(Waker::noop()), world.now, &mut sink)
            .is_ready()
    );
    assert_eq!(sink.events, [ModelEvent::ResponseStarted]);
    world.send(ModelCommand::Cancel);
    world.expect(&["Ready", "Cancelled"]);
    world.send(ModelCommand::Cancel);
    world.expect(&[]);
}

#[test]
fn a_renewed_session_is_ready_again() {
    let mut world = World::new(script());
    world.send(ModelCommand::Renew { history: Vec::new() });
    world.expect(&["Ready", "Ready"]);
}

#[test]
fn nothing_is_written_down_without_transcription() {
    let mut world = World::open(script(), |spec, _| spec.transcription = false);
    world.send(greet());
    world.wait(3_000);
    world.speak();
    world.expect(&[
        "Ready",
        STARTED,
        COMPLETED,
        "SpeechStarted",
        "SpeechStopped",
        STARTED,
        COMPLETED,
    ]);
}

#[test]
fn a_format_it_does_not_speak_loses_the_session() {
    let mut world = World::open(script(), |spec, _| spec.output = AudioFormat::G711(Law::Mu));
    let log = std::mem::take(&mut world.log).concat();
    assert!(log.contains("Lost") && log.contains("GiveUp"), "{log}");
    assert!(world.session.is_closed());
}

#[test]
fn audio_before_it_is_ready_is_dropped_and_counted() {
    let mut world = World::new(script());
    world.wait(100);
    assert_eq!(
        world.session.uplink_stats(),
        UplinkStats { frames_sent: 5, ..UplinkStats::default() }
    );
    let mut closed = World::new(script());
    closed.send(ModelCommand::Close);
    closed.wait(100);
    assert_eq!(
        closed.session.uplink_stats(),
        UplinkStats { frames_dropped: 5, ..UplinkStats::default() }
    );
}

#[test]
fn who_waits_is_woken() {
    struct Flag(std::sync::atomic::AtomicBool);
    impl std::task::Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let mut world = World::new(script());
    let flag = Arc::new(Flag(false.into()));
    let waker = Waker::from(Arc::clone(&flag));
    assert!(
        world
            .session
            .poll(&mut Context::from_waker(&waker), world.now, &mut Sink::default())
            .is_pending()
    );
    world.session.send_audio(world.now, &[0; 640]);
    assert!(!flag.0.load(std::sync::atomic::Ordering::Relaxed));
    world.session.send(world.now, greet());
    assert!(flag.0.load(std::sync::atomic::Ordering::Relaxed));
}

#[test]
fn floods_are_bounded() {
    let mut world = World::new(script());
    for _ in 0..1_000 {
        world.session.send(world.now, ModelCommand::Say("Go on.".into()));
    }
    assert_eq!(world.session.waiting.len(), MAX_WAITING);
    world.drain();
    world.send(ModelCommand::Digits("1".repeat(10_000)));
    assert!(world.session.handed.len() <= MAX_REMEMBERED);
    world.log.clear();
    world.session.send_audio(world.now, &[1]);
    world.session.send_audio(world.now, &vec![1; 1_000_001]);
    world.drain();
}
