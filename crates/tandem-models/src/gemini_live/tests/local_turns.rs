//! Turns that we mark: automatic activity detection is off.

use super::*;

fn local() -> Session {
    let mut settings = settings("gemini-3.8-live");
    settings.options.turn_detection = "local".parse().unwrap();
    settings.options.prefix_padding_ms = Some(200);
    let mut session = Session::opened(GeminiLive::new(Arc::new(settings), spec()));
    let setup = session.sent().remove(0);
    let detection = setup.pointer("/setup/realtimeInputConfig/automaticActivityDetection");
    assert_eq!(detection, Some(&json!({ "disabled": true })));
    session.become_ready();
    session
}

fn turn(session: &mut Session, ago: u64) -> Vec<Value> {
    session.order(ModelCommand::TurnStarted { ago: Duration::from_millis(ago) });
    session.order(ModelCommand::TurnEnded);
    session.sent()
}

#[test]
fn a_turn_is_marked_and_begins_just_before_its_first_sound() {
    let mut session = local();
    let mut message = BytesMut::new();
    for frame in 0..100 {
        session.dialect.encode_audio(&[frame; 640], &mut message);
    }
    let start = json!({ "realtimeInput": { "activityStart": {} } });
    let end = json!({ "realtimeInput": { "activityEnd": {} } });
    let messages = turn(&mut session, 400);
    let audio = &messages[1]["realtimeInput"]["audio"];
    assert_eq!(audio["mimeType"], "audio/pcm;rate=16000");
    let audio = base64_simd::STANDARD.decode_to_vec(audio["data"].as_str().unwrap()).unwrap();
    assert_eq!((messages.len(), audio.len(), audio[0]), (3, 600 * 32, 70));
    assert_eq!([&messages[0], &messages[2]], [&start, &end]);
    assert_eq!(turn(&mut session, 0), [start, end], "nothing went up since");
}

#[test]
fn marks_come_in_pairs() {
    let mut session = local();
    session.order(ModelCommand::TurnEnded);
    assert_eq!(session.sent(), [Value::Null; 0]);
    session.order(ModelCommand::TurnStarted { ago: Duration::ZERO });
    session.order(ModelCommand::TurnStarted { ago: Duration::ZERO });
    assert_eq!(session.sent().len(), 1);
}

#[test]
fn an_interrupted_answer_ends_and_the_next_is_heard() {
    let mut session = local();
    session.audio(&[1, 2]);
    assert_eq!(session.heard.take(), [STARTED, audio(1, &[1, 2])]);
    session.order(ModelCommand::Cancel);
    session.order(ModelCommand::TurnStarted { ago: Duration::ZERO });
    session.audio(&[3, 4]); // It was on its way.
    session.content(json!({ "interrupted": true }));
    session.content(json!({ "turnComplete": true }));
    assert_eq!(session.heard.take(), [CANCELLED, SPEECH]);
    session.order(ModelCommand::TurnEnded);
    session.audio(&[5, 6]);
    assert_eq!(session.heard.take(), [STARTED, audio(2, &[5, 6])]);
}

#[test]
fn a_server_that_finds_turns_is_told_of_none() {
    // It would close the connection.
    assert_eq!(turn(&mut Session::ready(), 0), [Value::Null; 0]);
}
