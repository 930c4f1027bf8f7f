//! Protected media: the softphone and baresip call the real daemon, and each other, with SDES and DTLS.

mod common;

use std::{cell::RefCell, path::Path, time::Duration};

use hound::{SampleFormat, WavSpec, WavWriter};
use tandem::{
    cli::SrtpKeys,
    config::Config,
    serve::Daemon,
    softphone::{self, Action, CallPlan, CallReport, Cue, wav::Clip},
};
use tandem_call::Digit;
use tandem_media::{Codec, SampleRate};

use common::{baresip::Baresip, installed, wait_until};

const RATE: usize = 8_000;

/// A daemon without a speech program, whose agent hangs up at `#`.
async fn daemon(directory: &Path, srtp: &str) -> Daemon {
    let text = format!(
        r#"
[sip]
listen = ["udp:127.0.0.1:0"]
[media]
ports = "34000-34399"
srtp = "{srtp}"
[limits]
max_calls = 100
[attendant]
engines = []
[agents.reception]
end_call_drain_ms = 100
[agents.bank]
srtp = "require"
[numbers]
"200" = "reception"
"300" = "bank"
"#
    );
    let (config, findings) = Config::read(&directory.join("tandem.toml"), &text, &|_| None);
    let config = config.unwrap_or_else(|| panic!("{findings}"));
    Daemon::start(config).await.expect("the daemon starts")
}

fn plan(target: &str, srtp: Option<SrtpKeys>, cues: Vec<(Cue, Action)>) -> CallPlan {
    CallPlan {
        target: target.parse().expect("a URI"),
        from: "+13055550100".into(),
        cues,
        record: None,
        duration: Duration::from_secs(20),
        media_timeout: Duration::from_secs(5),
        credentials: None,
        headers: Vec::new(),
        codecs: vec![Codec::PCMU],
        srtp,
        local: None,
        ledger: None,
    }
}

async fn call(plan: CallPlan) -> CallReport {
    let shown = RefCell::new(Vec::new());
    let report = softphone::call(plan, &|line| shown.borrow_mut().push(line.to_owned())).await;
    report.unwrap_or_else(|error| panic!("{error}: {:?}", shown.borrow()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_softphone_is_greeted_and_heard_with_every_kind_of_keys() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = daemon(directory.path(), "allow").await;
    let target = format!("sip:200@{}", daemon.sip().listeners()[0].addr);
    for (keys, profile) in [
        (None, None),
        (Some(SrtpKeys::Sdes), Some("AES_CM_128_HMAC_SHA1_80")),
        (Some(SrtpKeys::Dtls), Some("AEAD_AES_128_GCM")),
    ] {
        let pound = Action::Press(vec![Digit::new('#').unwrap()]);
        let plan = CallPlan {
            ledger: Some(directory.path().join("calls.jsonl")),
            ..plan(&target, keys, vec![("during1+1s".parse().unwrap(), pound)])
        };
        let report = call(plan).await;
        assert_eq!(report.ended, "they hung up (NORMAL_CLEARING)", "{keys:?}: {report:?}");
        assert_eq!((report.srtp, report.turns.is_empty()), (profile, false), "{keys:?}");
        assert_eq!(report.quality.packets_lost, 0, "{keys:?}");
        let record = report.record.expect("the record of the call was found");
        assert_eq!(record["end_reason"], "caller_goodbye", "{record}");
        assert_eq!(record.get("srtp").and_then(|name| name.as_str()), profile, "{record}");
        assert!(record["quality"]["packets_received"].as_u64() > Some(40), "{record}");
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_policy_forbids_is_refused_with_a_reason() {
    for (policy, keys, refused) in [
        ("require", None, true),
        ("require", Some(SrtpKeys::Sdes), false),
        ("off", Some(SrtpKeys::Sdes), true),
        ("off", Some(SrtpKeys::Dtls), true),
        ("off", None, false),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let daemon = daemon(directory.path(), policy).await;
        let target = format!("sip:200@{}", daemon.sip().listeners()[0].addr);
        let report = call(plan(&target, keys, vec![("1s".parse().unwrap(), Action::HangUp)])).await;
        let expected = if refused { "refused: 488 Not Acceptable Here" } else { "we hung up" };
        assert_eq!(report.ended, expected, "{policy} {keys:?}");
        daemon.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_may_insist_on_protection_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = daemon(directory.path(), "allow").await;
    let target = format!("sip:300@{}", daemon.sip().listeners()[0].addr);
    for (keys, ended) in
        [(None, "refused: 488 Not Acceptable Here"), (Some(SrtpKeys::Sdes), "we hung up")]
    {
        let report = call(plan(&target, keys, vec![("1s".parse().unwrap(), Action::HangUp)])).await;
        assert_eq!(report.ended, ended, "{keys:?}");
    }
    daemon.stop().await;
}

fn tone(n: usize, hz: f64) -> i16 {
    (((n as f64) * hz / RATE as f64 * std::f64::consts::TAU).sin() * 8_000.0) as i16
}

/// A WAV of ten seconds of one tone; silence at 0 Hz.
fn write_wav(path: &Path, hz: f64) {
    let spec = WavSpec {
        channels: 1,
        sample_rate: RATE as u32,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let mut wav = WavWriter::create(path, spec).expect("the folder can be written to");
    for n in 0..10 * RATE {
        wav.write_sample(tone(n, hz)).expect("there is room for ten seconds of sound");
    }
    wav.finalize().expect("there is room for ten seconds of sound");
}

/// The share of the energy of `pcm` that the tone `hz` has, in its loudest half second.
fn purity(pcm: &[i16], hz: f64) -> f64 {
    let energy = |block: &[i16]| block.iter().map(|&it| f64::from(it).powi(2)).sum::<f64>();
    let Some(block) = pcm
        .chunks_exact(RATE / 2)
        .max_by(|one, other| energy(one).total_cmp(&energy(other)))
        .filter(|block| energy(block) > 1e9)
    else {
        return 0.0;
    };
    let (mut real, mut imaginary) = (0.0, 0.0);
    for (n, &sample) in block.iter().enumerate() {
        let phase = n as f64 * hz / RATE as f64 * std::f64::consts::TAU;
        real += f64::from(sample) * phase.cos();
        imaginary += f64::from(sample) * phase.sin();
    }
    (real * real + imaginary * imaginary) * 2.0 / block.len() as f64 / energy(block)
}

#[test]
fn baresip_calls_the_daemon() {
    if !installed("baresip") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let quiet = folder.path().join("quiet.wav");
    write_wav(&quiet, 0.0);
    let daemon = common::Daemon::start("[numbers]\n\"*\" = \"attendant\"\n");
    for (number, (kind, profile)) in [
        ("srtp-mand", "AES_CM_128_HMAC_SHA1_"),
        ("srtp", "AES_CM_128_HMAC_SHA1_"),
        ("dtls_srtp", "A"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut caller = Baresip::with_encryption("caller", false, &quiet, kind);
        caller.command("dial", &format!("sip:13055551234@{}", daemon.sip));
        caller.wait_for_event("CALL_ESTABLISHED", "13055551234");
        wait_until("the caller to hear the attendant", || {
            let loud = |pcm: &Vec<i16>| pcm.iter().filter(|it| it.unsigned_abs() > 330).count();
            caller.heard().first().is_some_and(|pcm| loud(pcm) > 4_000)
        });
        // What the daemon hears of it: a key that ends the call.
        caller.command("sndcode", "#");
        let record = daemon.wait_for_records(number + 1).remove(number);
        assert_eq!(record["end_reason"], "caller_goodbye", "{kind}: {record}");
        let used = record["srtp"].as_str().unwrap_or_default();
        assert!(used.starts_with(profile), "{kind}: {record}");
        assert_eq!(record["quality"]["packets_lost"], 0, "{kind}: {record}");
    }
}

#[test]
fn the_softphone_calls_baresip_and_both_hear_each_other() {
    if !installed("baresip") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let song = folder.path().join("song.wav");
    write_wav(&song, 700.0);
    for (keys, kind) in [(SrtpKeys::Sdes, "srtp-mand"), (SrtpKeys::Dtls, "dtls_srtp")] {
        let called = Baresip::with_encryption("called", true, &song, kind);
        let pcm = (0..3 * RATE).map(|n| tone(n, 1_200.0)).collect();
        let clip = Clip { rate: SampleRate::Hz8000, pcm };
        let recording = folder.path().join(format!("{kind}.wav"));
        let plan = CallPlan {
            record: Some(recording.clone()),
            duration: Duration::from_secs(5),
            ..plan(
                &format!("sip:called@127.0.0.1:{}", called.port),
                Some(keys),
                vec![(Cue::At(Duration::from_millis(500)), Action::Play(clip))],
            )
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let report = runtime.block_on(call(plan));
        assert_eq!(report.ended, "we hung up: the time was over", "{kind}: {report:?}");
        assert!(report.srtp.is_some(), "{kind}");
        let mut wav = hound::WavReader::open(&recording).unwrap();
        let heard: Vec<i16> = wav.samples::<i16>().skip(1).step_by(2).map(Result::unwrap).collect();
        assert!(purity(&heard, 700.0) > 0.9, "{kind}: we heard {}", purity(&heard, 700.0));
        let theirs = called.heard().remove(0);
        assert!(purity(&theirs, 1_200.0) > 0.9, "{kind}: they heard {}", purity(&theirs, 1_200.0));
    }
}
