use super::*;
use crate::captures::{self, Block};

/// All frames of a stream, fed in pieces of sizes taken from `random`.
fn frames(stream: &[u8], random: &mut fastrand::Rng) -> Vec<Frame> {
    let (mut reader, mut frames, mut rest) = (FrameReader::default(), Vec::new(), stream);
    while !rest.is_empty() {
        let most = if random.bool() { 7 } else { 9_000 };
        let (piece, later) = rest.split_at(random.usize(1..=most).min(rest.len()));
        rest = later;
        reader.push(piece);
        while let Some(frame) = reader.next().unwrap() {
            frames.push(frame);
        }
    }
    frames
}

#[test]
fn every_recorded_dialogue_is_cut_into_the_frames_it_was_made_of() {
    let captures = captures::all();
    assert!(captures.len() >= 120, "{} recordings", captures.len());
    let mut random = fastrand::Rng::with_seed(7);
    for capture in captures {
        let mut connections = vec![Vec::new()];
        for block in &capture.blocks {
            match block {
                Block::Received(bytes) => connections.last_mut().unwrap().push(bytes.clone()),
                Block::Note(_) => connections.push(Vec::new()),
                Block::Sent(_) => {}
            }
        }
        for blocks in connections {
            let read = frames(&blocks.concat(), &mut random);
            assert_eq!(read.len(), blocks.len(), "{}", capture.name);
            for (frame, block) in read.iter().zip(blocks) {
                assert_eq!(
                    [&frame.head[..], b"\n", &frame.body].concat(),
                    block,
                    "{}",
                    capture.name
                );
                assert!(
                    frame.kind() != FrameKind::Other && !frame.skipped,
                    "{}: {frame:?}",
                    capture.name
                );
                match frame.kind() {
                    FrameKind::CommandReply => assert!(!frame.reply_text().is_empty()),
                    FrameKind::EventJson | FrameKind::EventPlain => {
                        let event = frame.event().expect("an event");
                        assert!(event.get("Event-Name").is_some(), "{}", capture.name);
                    }
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn headers_in_either_order_and_empty_lines_before() {
    let stream = b"\n\r\n\nContent-Type: api/response\r\nContent-Length: 4\r\n\r\ntrueContent-Length: 2\ncontent-type: text/event-json\n\n{}";
    let read = frames(stream, &mut fastrand::Rng::with_seed(1));
    assert_eq!(read.len(), 2);
    assert_eq!((read[0].kind(), &read[0].body[..]), (FrameKind::ApiResponse, &b"true"[..]));
    assert_eq!((read[1].kind(), &read[1].body[..]), (FrameKind::EventJson, &b"{}"[..]));
}

#[test]
fn a_body_over_the_limit_is_skipped_and_what_follows_is_read() {
    let mut stream =
        format!("Content-Type: api/response\nContent-Length: {}\n\n", MAX_BODY + 1).into_bytes();
    stream.resize(stream.len() + MAX_BODY + 1, b'x');
    stream.extend_from_slice(b"Content-Type: auth/request\n\n");
    let mut reader = FrameReader::default();
    let mut read = Vec::new();
    for piece in stream.chunks(60_000) {
        reader.push(piece);
        assert!(reader.buffer.len() < 200_000);
        while let Some(frame) = reader.next().unwrap() {
            read.push((frame.kind(), frame.skipped, frame.body.len()));
        }
    }
    assert_eq!(read, [(FrameKind::ApiResponse, true, 0), (FrameKind::AuthRequest, false, 0)]);
}

#[test]
fn what_can_not_be_followed_is_an_error() {
    for length in ["-1", "abc", "99999999999", "18446744073709551616", ""] {
        let mut reader = FrameReader::default();
        reader.push(format!("Content-Length: {length}\n\n").as_bytes());
        assert!(matches!(reader.next(), Err(FrameError::BadLength { .. })), "{length:?}");
    }
    let mut reader = FrameReader::default();
    let mut outcome = Ok(None);
    for _ in 0..40 {
        reader.push(&[b'a'; 32 << 10]);
        outcome = reader.next();
        if outcome.is_err() {
            break;
        }
    }
    assert_eq!(outcome, Err(FrameError::HeadTooLong));
    let mut reader = FrameReader::default();
    for n in 0.. {
        reader.push(format!("h{n}: {}\n", "x".repeat(1000)).as_bytes());
        match reader.next() {
            Ok(None) => assert!(n < 1100),
            other => {
                assert_eq!(other, Err(FrameError::HeadTooLong));
                break;
            }
        }
    }
}

proptest::proptest! {
    #[test]
    fn anything_is_read_or_refused(pieces in proptest::collection::vec(proptest::collection::vec(0_u8.., 0..60), 0..20)) {
        let mut reader = FrameReader::default();
        'all: for piece in pieces {
            reader.push(&piece);
            loop {
                match reader.next() {
                    Ok(Some(frame)) => drop((frame.kind(), frame.event(), frame.reply_text(), frame.channel_headers())),
                    Ok(None) => break,
                    Err(_) => break 'all,
                }
            }
        }
    }
}
