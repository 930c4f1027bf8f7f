//! Turns that we mark: `turn_detection` is null.

use super::*;

fn local() -> Session {
    let mut settings = ModelSettings::new(Provider::OpenAiRealtime, "k".to_owned().into());
    settings.options.turn_detection = "local".parse().unwrap();
    let mut session = Session::new(settings, spec());
    let update = session.sent().remove(0);
    assert_eq!(update.pointer("/session/audio/input/turn_detection"), Some(&Value::Null));
    session.say(updated("audio/pcmu", "audio/pcmu"));
    assert_eq!(session.out.take_verdict(), Some(Verdict::Ready));
    session
}

impl Session {
    /// Frames of 20 ms go up, each of its own number.
    fn caller_audio(&mut self, frames: std::ops::Range<u8>) {
        let mut message = BytesMut::new();
        for frame in frames {
            self.dialect.encode_audio(&[frame; 160], &mut message);
            message.clear();
        }
    }

    fn turn_started(&mut self, ago: u64) {
        self.order(ModelCommand::TurnStarted { ago: Duration::from_millis(ago) });
    }

    fn turn_ended(&mut self) {
        self.order(ModelCommand::TurnEnded);
    }
}

const TURN: [&str; 2] = ["input_audio_buffer.clear", "input_audio_buffer.append"];
const ANSWER: [&str; 2] = ["input_audio_buffer.commit", "response.create"];

#[test]
fn a_turn_is_committed_from_just_before_its_first_sound() {
    let mut session = local();
    session.caller_audio(0..100);
    session.turn_started(100);
    let messages = session.sent();
    let audio = messages[1]["audio"].as_str().unwrap();
    let audio = base64_simd::STANDARD.decode_to_vec(audio).unwrap();
    assert_eq!(messages[0]["type"], TURN[0]);
    assert_eq!((messages.len(), audio.len(), audio[0]), (2, 400 * 8, 80));
    session.caller_audio(100..150);
    session.turn_started(0); // Told twice.
    assert_eq!(session.sent(), [Value::Null; 0]);
    session.turn_ended();
    assert_eq!(session.sent_types(), ANSWER);
    session.turn_ended();
    assert_eq!(session.sent(), [Value::Null; 0]);
}

#[test]
fn too_little_audio_is_not_committed() {
    let mut session = local();
    session.turn_started(0); // Nothing went up before.
    assert_eq!(session.sent_types(), TURN[..1]);
    session.caller_audio(0..4);
    session.turn_ended();
    assert_eq!(session.sent(), [Value::Null; 0]);
    session.turn_started(0);
    session.caller_audio(0..5);
    session.turn_ended();
    assert_eq!(session.sent_types(), [TURN[0], ANSWER[0], ANSWER[1]]);
}

#[test]
fn what_wants_an_answer_in_a_turn_gets_it_with_the_turn() {
    let mut session = local();
    session.caller_audio(0..50);
    session.turn_started(0);
    session.sent();
    session.order(ModelCommand::Digits("1".into()));
    session.wait(60_000); // However long he speaks, and no timer stays due.
    assert_eq!(session.sent_types(), ["conversation.item.create"]);
    session.turn_ended();
    assert_eq!(session.sent_types(), ANSWER, "one answer for both");
    session.created("r1");
    session.done("r1", "completed");
    session.wait(5_000);
    assert_eq!(session.sent(), [Value::Null; 0]);
}

#[test]
fn a_turn_stops_the_answer_to_the_one_before() {
    let mut session = local();
    session.caller_audio(0..50);
    session.turn_started(0);
    session.turn_ended();
    session.sent();
    session.caller_audio(0..50);
    session.turn_started(0); // Before the answer has a name.
    assert_eq!(session.sent_types(), TURN);
    session.turn_ended();
    assert_eq!(session.sent_types(), ANSWER[..1], "only one answer at a time");
    session.created("r1");
    assert_eq!(session.sent_types(), ["response.cancel"]);
    session.audio("r1", "i1", &[1, 2, 3]);
    session.done("r1", "cancelled");
    assert_eq!(session.sent_types(), ANSWER[1..]);
    session.created("r2");
    session.caller_audio(0..50);
    session.heard.take();
    session.turn_started(0); // While it runs.
    assert_eq!(session.sent_types(), ["response.cancel", TURN[0], TURN[1]]);
    session.audio("r2", "i2", &[1, 2, 3]);
    assert_eq!(session.heard.take(), [], "it is not heard");
    session.order(ModelCommand::Cancel);
    assert_eq!(session.sent(), [Value::Null; 0], "it is stopped once");
}

#[test]
fn a_server_that_finds_turns_is_told_of_none() {
    let mut session = Session::ready();
    session.caller_audio(0..50);
    session.turn_started(0);
    session.turn_ended();
    assert_eq!(session.sent(), [Value::Null; 0]);
}
