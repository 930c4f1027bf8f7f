//! The softphone calls the daemon over loopback: real SIP, real RTP, the shipped phrases.

use std::{cell::RefCell, path::Path, time::Duration};

use tandem::{
    config::Config,
    serve::Daemon,
    softphone::{self, Action, CallPlan, CallReport},
};
use tandem_call::Digit;
use tandem_media::Codec;

/// A daemon on a free port that has no speech program, so that a machine without flite says the same.
async fn daemon(directory: &Path) -> Daemon {
    let text = r#"
[sip]
listen = ["udp:127.0.0.1:0"]
[media]
ports = "33000-33399"
[limits]
max_calls = 100
[attendant]
engines = []
[agents.reception]
end_call_drain_ms = 100
[numbers]
"200" = "reception"
"#;
    let (config, findings) = Config::read(&directory.join("tandem.toml"), text, &|_| None);
    let config = config.unwrap_or_else(|| panic!("{findings}"));
    Daemon::start(config).await.expect("the daemon starts")
}

async fn call(
    daemon: &Daemon,
    directory: &Path,
    number: &str,
    cues: &[(&str, Action)],
) -> CallReport {
    let address = daemon.sip().listeners()[0].addr;
    let plan = CallPlan {
        target: format!("sip:{number}@{address}").parse().expect("a URI"),
        from: "+13055550100".into(),
        cues: cues
            .iter()
            .map(|(when, action)| (when.parse().expect("a cue"), action.clone()))
            .collect(),
        record: Some(directory.join("call.wav")),
        duration: Duration::from_secs(30),
        media_timeout: Duration::from_secs(5),
        credentials: None,
        headers: vec![("X-Tenant".into(), "acme".into())],
        codecs: vec![Codec::PCMA],
        srtp: None,
        local: None,
        ledger: Some(directory.join("calls.jsonl")),
    };
    let shown = RefCell::new(Vec::new());
    let report = softphone::call(plan, &|line| shown.borrow_mut().push(line.to_owned())).await;
    report.unwrap_or_else(|error| panic!("{error}: {:?}", shown.borrow()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_softphone_is_greeted_presses_pound_and_is_hung_up() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = daemon(directory.path()).await;
    let pound = Action::Press(vec![Digit::new('#').unwrap()]);
    let report = call(&daemon, directory.path(), "200", &[("during1+1s", pound)]).await;
    assert_eq!(report.ended, "they hung up (NORMAL_CLEARING)");
    assert!(report.answered_after.is_some() && report.first_rtp_after.is_some());
    assert!(!report.turns.is_empty());
    assert_eq!((report.quality.codec.as_str(), report.quality.packets_lost), ("PCMA", 0));
    let record = report.record.expect("the record of the call was found");
    assert_eq!(record["end_reason"], "caller_goodbye");
    assert_eq!(record["from"]["number"], "+13055550100");
    assert_eq!(record["variables"]["X-Tenant"], "acme");
    let recording = hound::WavReader::open(directory.path().join("call.wav")).unwrap();
    assert_eq!(recording.spec().channels, 2);
    let seconds = f64::from(recording.duration()) / 8000.0;
    assert!((seconds - report.duration_s).abs() < 0.3, "{seconds} s of {}", report.duration_s);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_nobody_answers_is_refused_and_a_caller_may_hang_up() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = daemon(directory.path()).await;
    let report = call(&daemon, directory.path(), "999", &[]).await;
    assert_eq!(report.ended, "refused: 404 Not Found");
    assert_eq!((report.answered_after, report.recording), (None, None));
    let report = call(&daemon, directory.path(), "200", &[("1s", Action::HangUp)]).await;
    assert_eq!(report.ended, "we hung up");
    assert_eq!(report.record.expect("the record was found")["end_reason"], "caller_hangup");
    daemon.stop().await;
}
