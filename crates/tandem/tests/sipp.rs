//! sipp, the SIP load generator, against the real daemon and a fake model.

mod common;

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use common::{Daemon, caller::Caller, data, installed, wait_until};
use tandem_sim::{FakeConfig, FakeServer, Provider, caller_speech};

const CALLS: usize = 500;
const CALLS_PER_SECOND: usize = 20;

/// A second and a half of silence, a second of speech-like sound, silence: PCMU as sipp streams it.
fn caller_audio() -> Vec<u8> {
    let law = tandem_media::Law::Mu;
    let mut audio = vec![law.silence(); 12_000];
    audio.extend(caller_speech(tandem_media::AudioFormat::G711(law), 1_000));
    audio.extend(vec![law.silence(); 28_000]);
    audio
}

#[test]
fn five_hundred_calls_at_twenty_a_second_leave_nothing_behind() {
    if !installed("sipp") {
        return;
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let model =
        runtime.block_on(FakeServer::start(FakeConfig::conversational(Provider::OpenAi))).unwrap();
    let daemon = Daemon::start(&format!(
        r#"
[models.fake]
provider = "openai-realtime"
base_url = "{}"
api_key_env = "TEST_MODEL_KEY"
[agents.reception]
model = "fake"
[numbers]
"*" = "reception"
"#,
        model.url()
    ));
    let idle_descriptors = daemon.descriptors();
    let folder = daemon.folder.path();
    fs::write(folder.join("caller.ulaw"), caller_audio()).unwrap();
    fs::copy(data("sipp/uac.xml"), folder.join("uac.xml")).unwrap();
    let sipp = Command::new("sipp")
        .current_dir(folder)
        .arg(daemon.sip.to_string())
        .args(["-sf", "uac.xml", "-i", "127.0.0.1", "-mi", "127.0.0.1", "-s", "13055551234"])
        .args(["-m", &CALLS.to_string(), "-r", &CALLS_PER_SECOND.to_string(), "-l", "400"])
        .args(["-mp", "40000"])
        .args([
            "-timeout",
            "120",
            "-timeout_error",
            "-nostdin",
            "-trace_err",
            "-error_file",
            "errors.log",
        ])
        .output()
        .unwrap();
    let errors = fs::read_to_string(folder.join("errors.log")).unwrap_or_default();
    assert!(sipp.status.success(), "{}\n{errors}", String::from_utf8_lossy(&sipp.stdout));

    let records = daemon.wait_for_records(CALLS);
    assert_eq!(records.len(), CALLS);
    for record in &records {
        let quality = &record["quality"];
        assert_eq!(record["end_reason"], "caller_hangup", "{record}");
        assert_eq!(record["models"], serde_json::json!(["fake"]), "{record}");
        assert!(record["variables"]["X-Call-Number"].is_string(), "{record}");
        assert!(quality["packets_received"].as_u64() > Some(100), "{record}");
        assert!(quality["packets_sent"].as_u64() > Some(100), "{record}");
        assert!(record["first_audio_ms"].is_number(), "the greeting was not heard: {record}");
        assert!(
            record["turns"].as_array().is_some_and(|turns| turns.len() >= 2),
            "no answer: {record}"
        );
    }
    wait_until("every descriptor to be closed", || daemon.descriptors() <= idle_descriptors);
    wait_until("every model session to be closed", || model.handle().live_connections() == 0);
    assert_eq!(model.handle().connections(), CALLS);
    assert!(model.handle().all_violations().is_empty());
}

#[test]
fn ten_desks_are_asked_and_take_their_callers() {
    const CALLERS: usize = 10;
    if !installed("sipp") {
        return;
    }
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let daemon = Daemon::start(&format!(
        r#"
[sip]
[sip.transfer]
announcement = "One moment, please."
[attendant]
engines = []
[agents.reception]
greeting = ""
transfer = {{ type = "sip", target = "sip:desk@127.0.0.1:{port}", mode = "attended" }}
[numbers]
"*" = "reception"
"#
    ));
    let idle_descriptors = daemon.descriptors();
    let folder = daemon.folder.path();
    fs::copy(data("sipp/desk.xml"), folder.join("desk.xml")).unwrap();
    let sipp = Command::new("sipp")
        .current_dir(folder)
        .args(["-sf", "desk.xml", "-i", "127.0.0.1", "-mi", "127.0.0.1", "-mp", "41000"])
        .args(["-p", &port.to_string(), "-m", &CALLERS.to_string(), "-nostdin"])
        .args(["-timeout", "100", "-timeout_error", "-trace_err", "-error_file", "errors.log"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut sipp = Killed(sipp);
    let mut callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let mut caller = Caller::udp(daemon.sip);
            let mut call = caller.connect("200");
            caller.press(&mut call, '0');
            (caller, call)
        })
        .collect();
    for (caller, call) in &mut callers {
        let refer = caller.wait_for_request(call, "REFER", "202 Accepted");
        let refer_to = refer.header("Refer-To");
        assert!(
            refer_to.starts_with(&format!("<sip:desk@127.0.0.1:{port}?Replaces=")),
            "{refer_to}"
        );
        assert!(refer_to.contains("%3Bto-tag%3D") && refer_to.contains("SIPpTag01"), "{refer_to}");
        let headers = [
            ("Event", "refer"),
            ("Subscription-State", "terminated;reason=noresource"),
            ("Content-Type", "message/sipfrag;version=2.0"),
        ];
        caller.ask(call, "NOTIFY", &headers, "SIP/2.0 200 OK\r\n");
    }
    for (caller, call) in &mut callers {
        caller.wait_for_bye(call);
    }
    let mut status = None;
    wait_until("every desk to be hung up on", || {
        status = sipp.0.try_wait().unwrap();
        status.is_some()
    });
    let errors = fs::read_to_string(folder.join("errors.log")).unwrap_or_default();
    assert!(status.is_some_and(|status| status.success()), "{errors}");
    for record in daemon.wait_for_records(CALLERS) {
        assert_eq!(record["transfer"]["status"], "completed", "{record}");
    }
    wait_until("every descriptor to be closed", || daemon.descriptors() <= idle_descriptors);
}

/// A program that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
