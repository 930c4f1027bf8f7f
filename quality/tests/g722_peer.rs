//! G.722 against ffmpeg, where that is installed.

use std::{
    io::{ErrorKind, Write},
    process::{Command, Stdio},
    thread,
};

use tandem_quality::{g722, telephone};

/// What ffmpeg makes of `input`; none where there is no ffmpeg.
fn ffmpeg(arguments: &[&str], input: Vec<u8>) -> Option<Vec<u8>> {
    let child = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: no ffmpeg");
            return None;
        }
        Err(error) => panic!("ffmpeg does not start: {error}"),
    };
    let mut stdin = child.stdin.take().expect("its input is a pipe");
    let writer = thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("ffmpeg can be waited for");
    writer.join().expect("the writer does not panic").expect("ffmpeg reads all");
    assert!(output.status.success(), "ffmpeg {arguments:?}: {}", output.status);
    Some(output.stdout)
}

#[test]
fn both_ways_are_those_of_ffmpeg() {
    // Half as loud: where a sub-band overflows, ffmpeg leaves out the limiter of the recommendation.
    let pcm: Vec<i16> = g722::signal().into_iter().map(|sample| sample / 2).collect();
    let raw = ["-f", "s16le", "-ar", "16000", "-ac", "1", "-i", "-"];
    let encode = [&raw[..], &["-c:a", "g722", "-f", "g722", "-"]].concat();
    let Some(theirs) = ffmpeg(&encode, telephone::bytes(&pcm)) else { return };
    let ours = g722::encode(&pcm).unwrap();
    assert_eq!(ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs), None);
    assert_eq!(ours.len(), theirs.len());

    let decode = ["-f", "g722", "-i", "-", "-f", "s16le", "-"];
    let theirs = ffmpeg(&decode, ours.clone()).unwrap();
    let ours = telephone::bytes(&g722::decode(&ours).unwrap());
    assert_eq!(ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs), None);
    assert_eq!(ours.len(), theirs.len());
}
