//! baresip, a real softphone, calls the real daemon and is handed to a second baresip.

mod common;

use std::path::Path;

use hound::{WavSpec, WavWriter};

use common::{Daemon, baresip::Baresip, caller::Caller, installed, wait_until};

/// Writes what `sample` gives as a telephone WAV of ten seconds.
fn write_wav(path: &Path, sample: impl Fn(u32) -> i16) {
    let spec = WavSpec {
        channels: 1,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wav = WavWriter::create(path, spec).expect("the folder can be written to");
    for n in 0..80_000 {
        wav.write_sample(sample(n)).expect("there is room for a second of sound");
    }
    wav.finalize().expect("there is room for a second of sound");
}

fn tone(n: u32) -> i16 {
    let phase = f64::from(n) * 440.0 / 8_000.0 * std::f64::consts::TAU;
    (phase.sin() * 6_000.0) as i16
}

/// Seconds of sound above -40 dBFS.
fn seconds_of_sound(pcm: &[i16]) -> f64 {
    let loud = pcm
        .chunks(80)
        .filter(|block| block.iter().any(|sample| sample.unsigned_abs() > 330))
        .count();
    loud as f64 / 100.0
}

#[test]
fn a_human_is_told_what_it_is_about_and_takes_the_caller_by_a_key() {
    if !installed("baresip") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let human = folder.path().join("human.wav");
    write_wav(&human, tone);
    let mut human = Baresip::start("human", true, &human);
    let daemon = Daemon::start(&format!(
        r#"
[agents.reception]
greeting = ""
transfer = {{ type = "sip", target = "sip:human@127.0.0.1:{}", mode = "attended" }}
[numbers]
"*" = "reception"
"#,
        human.port
    ));
    let mut caller = Caller::udp(daemon.sip);
    let mut call = caller.connect("200");
    caller.press(&mut call, '0');
    human.wait_for_event("CALL_ESTABLISHED", "13055550100");
    wait_until("the human to hear what it is about", || {
        human.heard().first().is_some_and(|pcm| seconds_of_sound(pcm) > 2.0)
    });
    human.command("sndcode", "1"); // By RTP (RFC 4733).
    let refer = caller.wait_for_request(&call, "REFER", "202 Accepted");
    assert!(refer.header("Refer-To").contains("?Replaces="), "{refer:?}");
    let headers = [
        ("Event", "refer"),
        ("Subscription-State", "terminated;reason=noresource"),
        ("Content-Type", "message/sipfrag;version=2.0"),
    ];
    caller.ask(&mut call, "NOTIFY", &headers, "SIP/2.0 200 OK\r\n");
    caller.wait_for_bye(&call);
    human.wait_for_event("CALL_CLOSED", "13055550100");
    let record = &daemon.wait_for_records(1)[0];
    assert_eq!(record["transfer"]["status"], "completed", "{record}");
    assert_eq!(record["transfer"]["mode"], "attended", "{record}");
}

#[test]
fn a_caller_hears_the_attendant_presses_zero_and_is_transferred_by_refer() {
    if !installed("baresip") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (quiet, human) = (folder.path().join("quiet.wav"), folder.path().join("human.wav"));
    write_wav(&quiet, |_| 0);
    write_wav(&human, tone);
    let mut second = Baresip::start("human", true, &human);
    let mut caller = Baresip::start("caller", false, &quiet);
    let daemon = Daemon::start(&format!(
        r#"
[agents.reception]
transfer = {{ type = "sip", target = "sip:human@127.0.0.1:{}" }}
[numbers]
"*" = "reception"
"#,
        second.port
    ));

    caller.command("dial", &format!("sip:13055551234@{}", daemon.sip));
    caller.wait_for_event("CALL_ESTABLISHED", "13055551234");
    wait_until("the caller to hear the attendant", || {
        caller.heard().first().is_some_and(|pcm| seconds_of_sound(pcm) > 1.5)
    });
    caller.command("sndcode", "0");
    second.wait_for_event("CALL_ESTABLISHED", "caller");
    caller.wait_for_event("CALL_ESTABLISHED", "human");
    wait_until("the caller to hear the human", || {
        caller.heard().get(1).is_some_and(|pcm| seconds_of_sound(pcm) > 1.0)
    });

    let record = &daemon.wait_for_records(1)[0];
    assert_eq!(record["end_reason"], "transferred", "{record}");
    assert_eq!(record["transfer"]["status"], "completed", "{record}");
    assert_eq!(record["tools"][0]["name"], "transfer_to_human", "{record}");
    assert_eq!(record["quality"]["codec"], "PCMU", "{record}");
    assert!(record["first_audio_ms"].is_number(), "{record}");
}
