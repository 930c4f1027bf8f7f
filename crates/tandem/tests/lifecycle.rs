//! The running daemon's own life: it reads its file again, stops, and meets a disk that is full; and the commands
//! that tell what a file means.

mod common;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use common::{
    Daemon,
    caller::{Call, Caller},
    wait_until,
};
use serde_json::Value;

/// A daemon whose agent waits for the caller's keys and says `word` for a 1.
fn reception(word: &str, more: &str) -> String {
    format!(
        r##"
[attendant]
engines = []
[agents.reception]
greeting = ""
end_call_drain_ms = 0
[agents.reception.script.digits]
1 = {{ say = "{word}" }}
[numbers]
"200" = "reception"
{more}"##
    )
}

/// Whether a packet is speech rather than the silence of a line.
const LOUD: u16 = 1_000;

/// Presses 1 and listens until the agent has begun to answer and is quiet again.
fn ask(caller: &mut Caller, call: &mut Call) {
    caller.press(call, '1');
    listen_until(caller, call, |peak| peak > LOUD);
    // Half a second without a sound: more than between two words.
    let mut quiet = 0;
    listen_until(caller, call, |peak| {
        quiet = if peak > LOUD { 0 } else { quiet + 1 };
        quiet == 25
    });
}

fn listen_until(caller: &mut Caller, call: &Call, mut reached: impl FnMut(u16) -> bool) {
    const MOST: usize = 1_000;
    let heard = (0..MOST).any(|_| reached(caller.listen(call, 1)[0].peak));
    assert!(heard, "not heard within {MOST} packets");
}

/// What the agent said in the call with this record.
fn said(record: &Value) -> Vec<&str> {
    let turns = record["transcript"].as_array().expect("a transcript");
    turns
        .iter()
        .filter(|turn| turn["role"] == "agent")
        .map(|turn| turn["text"].as_str().expect("text"))
        .collect()
}

fn record_of<'a>(records: &'a [Value], call: &Call) -> &'a Value {
    let record = records.iter().find(|record| record["sip_call_id"] == call.id());
    record.unwrap_or_else(|| panic!("no record of {} in {records:#?}", call.id()))
}

#[test]
fn sighup_changes_new_calls_and_leaves_live_ones_alone() {
    let daemon = Daemon::start(&reception("Zero.", ""));
    let mut caller = Caller::udp(daemon.sip);
    let mut old = caller.connect("200");
    assert_eq!(caller.call("300").1.status(), 404);

    daemon.write_config(&reception("One.", "\"300\" = \"reception\"\n"));
    daemon.signal("HUP");
    daemon.wait_for_log("agents and numbers reloaded");
    ask(&mut caller, &mut old);
    let mut second = Caller::udp(daemon.sip);
    let mut new = second.connect("300");
    ask(&mut second, &mut new);
    caller.hang_up(&mut old);
    second.hang_up(&mut new);

    let records = daemon.wait_for_records(2);
    assert_eq!(said(record_of(&records, &old)), ["Zero."]);
    assert_eq!(said(record_of(&records, &new)), ["One."]);
}

#[test]
fn a_broken_file_at_sighup_changes_nothing_and_is_named_with_its_lines() {
    let daemon = Daemon::start(&reception("Zero.", ""));
    let mut caller = Caller::udp(daemon.sip);
    let mut live = caller.connect("200");
    let broken = reception("One.", "\"300\" = \"nobody\"\n").replace("greeting", "greting");
    daemon.write_config(&broken);
    let line_of =
        |text: &str| broken.lines().position(|line| line.contains(text)).map(|n| n + 1).unwrap();
    daemon.signal("HUP");
    daemon.wait_for_log("not reloaded");
    for (line, what) in [(line_of("greting"), "greting"), (line_of("nobody"), "nobody")] {
        let logged = daemon.wait_for_log(&format!("tandem.toml:{line}:"));
        assert!(logged.contains("error") && logged.contains(what), "{logged}");
    }
    assert_eq!(caller.call("300").1.status(), 404, "the old numbers hold");
    ask(&mut caller, &mut live);
    caller.hang_up(&mut live);
    let mut second = Caller::udp(daemon.sip);
    let mut new = second.connect("200");
    ask(&mut second, &mut new);
    second.hang_up(&mut new);
    let records = daemon.wait_for_records(2);
    for call in [&live, &new] {
        assert_eq!(said(record_of(&records, call)), ["Zero."], "the old agent answers");
    }

    fs::remove_file(daemon.folder.path().join("tandem.toml")).unwrap();
    daemon.signal("HUP");
    daemon.wait_for_log("there is no such file");
    daemon.write_config(&reception("One.", "\"300\" = \"reception\"\n"));
    daemon.signal("HUP");
    daemon.wait_for_log("agents and numbers reloaded");
    caller.connect("300");
}

#[test]
fn sigterm_waits_for_calls_and_ends_with_all_records_on_disk() {
    let mut daemon = Daemon::start(&reception("Zero.", "[limits]\ndrain_s = 60\n"));
    let mut caller = Caller::udp(daemon.sip);
    let mut calls: Vec<Call> = (0..5).map(|_| caller.connect("200")).collect();
    daemon.signal("TERM");
    daemon.wait_for_log("draining");
    // It hangs up on one of them by its own script, and the callers on the others.
    caller.press(&mut calls[0], '#');
    caller.wait_for_bye(&calls[0]);
    for call in &mut calls[1..] {
        caller.hang_up(call);
    }
    assert_eq!(daemon.wait(), Some(0));
    let records = daemon.records();
    assert_eq!(records.len(), 5);
    assert_eq!(record_of(&records, &calls[0])["end_reason"], "caller_goodbye");
    for call in &calls[1..] {
        assert_eq!(record_of(&records, call)["end_reason"], "caller_hangup");
    }
}

#[test]
fn a_call_that_outlasts_the_drain_is_told_goodbye_and_hung_up() {
    let mut daemon = Daemon::start(&reception("Zero.", "[limits]\ndrain_s = 1\n"));
    let mut caller = Caller::udp(daemon.sip);
    let call = caller.connect("200");
    assert!(caller.listen(&call, 10).iter().all(|heard| heard.peak <= LOUD), "nobody speaks yet");
    daemon.signal("TERM");
    listen_until(&mut caller, &call, |peak| peak > LOUD);
    let bye = caller.wait_for_bye(&call);
    assert!(bye.header("Reason").contains("cause=16"), "{bye:?}");
    assert_eq!(daemon.wait(), Some(0));
    let records = daemon.records();
    let record = record_of(&records, &call);
    assert_eq!(
        (&record["end_reason"], &record["ended_by"]),
        (&"draining".into(), &"system".into())
    );
    assert!(daemon.log().iter().any(|line| line.contains("stopped")));
}

#[test]
fn a_second_sigterm_ends_the_process_at_once() {
    let mut daemon = Daemon::start(&reception("Zero.", "[limits]\ndrain_s = 3600\n"));
    Caller::udp(daemon.sip).connect("200");
    daemon.signal("TERM");
    daemon.wait_for_log("draining");
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
}

/// Ends a call while records can't be written, and shows that neither this call nor others notice. The place of the
/// record is mended by `mend`.
fn record_waits_for_the_disk(daemon: &Daemon, mend: impl FnOnce()) {
    let [mut first, mut second, mut third] = [(); 3].map(|()| Caller::udp(daemon.sip));
    let (mut ended, mut live) = (first.connect("200"), second.connect("200"));
    first.press(&mut ended, '#');
    first.wait_for_bye(&ended);
    let logged = daemon.wait_for_log("call records can't be written");
    assert!(logged.contains("waiting=1"), "{logged}");
    ask(&mut second, &mut live);
    let mut new = third.connect("200");
    third.listen(&new, 10);
    third.hang_up(&mut new);
    assert!(daemon.records().iter().all(|record| record["sip_call_id"] != ended.id()));
    mend();
    let records = daemon.wait_for_records(2);
    assert_eq!(record_of(&records, &ended)["end_reason"], "caller_goodbye");
    record_of(&records, &new);
    second.hang_up(&mut live);
    assert_eq!(said(record_of(&daemon.wait_for_records(3), &live)), ["Zero."]);
}

#[test]
fn a_folder_that_goes_away_delays_the_record_and_not_the_call() {
    let records = Path::new("disk/calls.jsonl");
    let daemon = Daemon::start_with_records(&reception("Zero.", ""), records);
    let folder = daemon.folder.path().join("disk");
    fs::remove_dir_all(&folder).unwrap();
    record_waits_for_the_disk(&daemon, || fs::create_dir(&folder).unwrap());
}

/// A file system of 64 KiB, if this process may mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(folder.path())
            .output();
        mount.is_ok_and(|output| output.status.success()).then(|| Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().ok();
    }
}

#[test]
fn a_full_disk_delays_the_record_and_not_the_call() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("no file system can be mounted here: skipped");
        return;
    };
    let daemon =
        Daemon::start_with_records(&reception("Zero.", ""), &disk.0.path().join("calls.jsonl"));
    let filler = disk.0.path().join("filler");
    let error = fs::write(&filler, vec![0; 128 * 1024]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    record_waits_for_the_disk(&daemon, || fs::remove_file(&filler).unwrap());
}

/// Runs `tandem` in `folder`, which holds the configuration.
fn tandem(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tandem"))
        .current_dir(folder)
        .args(arguments)
        .env_remove("RUST_LOG")
        .env_remove("TANDEM_CONFIG")
        .env_remove("OPENAI_API_KEY")
        .output()
        .expect("tandem runs")
}

fn with_config(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder can be made");
    fs::write(folder.path().join("tandem.toml"), text).expect("the configuration can be written");
    folder
}

const GOOD: &str = r#"
[sip]
listen = ["udp:127.0.0.1:0", "tcp:127.0.0.1:0"]
[media]
ports = "19000-19019"
[limits]
max_calls = 10
[agents.reception]
display_name = "Reception"
models = ["openai"]
[agents.closed]
status = "disabled"
[numbers]
"+1305*" = "reception"
"200" = { agent = "reception", label = "Front desk", ai_transfer = { type = "queue", target = "front" } }
"300" = "closed"
"#;

#[test]
fn check_tries_a_good_file_and_leaves_nothing_behind() {
    let folder = with_config(GOOD);
    let output = tandem(folder.path(), &["check", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], true);
    let steps = report["steps"].as_array().unwrap();
    for name in [
        "listener udp:127.0.0.1:0",
        "listener tcp:127.0.0.1:0",
        "RTP ports",
        "records",
        "model openai",
    ] {
        assert!(steps.iter().any(|step| step["name"] == name), "{name}: {report}");
    }
    let output = tandem(folder.path(), &["check"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("all is well"), "{text}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only the configuration is there");
}

#[test]
fn check_fails_when_a_listener_is_in_use() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let listener = format!("udp:{}", taken.local_addr().unwrap());
    let folder = with_config(&GOOD.replace("udp:127.0.0.1:0", &listener));
    let output = tandem(folder.path(), &["check", "--json", "--offline"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], false);
    let steps = report["steps"].as_array().unwrap();
    let failed: Vec<_> = steps.iter().filter(|step| step["outcome"] == "failed").collect();
    assert_eq!(failed.len(), 1, "{report}");
    assert_eq!(failed[0]["name"], format!("listener {listener}"));
    assert!(failed[0]["fix"].is_string());
}

/// Seven mistakes; each line that has one says so.
const BAD: &str = r#"
[sip]
listen = ["udp:nowhere"]         # mistake
retry_after = 5                  # mistake
[media]
ports = "30000-20000"            # mistake
[agents.Reception]               # mistake
temperature = 7                  # mistake
[agents.sales]
greeting = 5                     # mistake
[numbers]
"200" = "sale"                   # mistake
"#;

#[test]
fn a_bad_file_is_refused_with_every_mistake_at_its_line() {
    let expected: Vec<u64> = BAD
        .lines()
        .zip(1..)
        .filter(|(line, _)| line.ends_with("# mistake"))
        .map(|(_, n)| n)
        .collect();
    let folder = with_config(BAD);
    let output = tandem(folder.path(), &["check", "--json"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["ok"], &report["steps"]), (&Value::Bool(false), &Value::Array(Vec::new())));
    let errors = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["severity"] == "error");
    let mut lines: Vec<u64> = errors.map(|finding| finding["line"].as_u64().unwrap()).collect();
    lines.dedup();
    assert_eq!(lines, expected, "{report:#}");

    for command in ["check", "serve"] {
        let output = tandem(folder.path(), &[command]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}: {text}");
        for line in &expected {
            assert!(
                text.contains(&format!("tandem.toml:{line}:")),
                "{command} does not name line {line}: {text}"
            );
        }
    }
    let output = tandem(folder.path(), &["check", "-c", "missing.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("missing.toml"), "{output:?}");
}

#[test]
fn route_tells_who_answers_and_says_by_its_exit_code_whether_anybody_does() {
    let folder = with_config(GOOD);
    for (number, code, agent, reason) in [
        ("+13055551234", 0, "reception", "prefix"),
        ("(305) 555-1234", 1, "", ""),
        ("sip:200@pbx.example", 0, "reception", "exact"),
        ("300", 1, "", ""),
        ("999", 1, "", ""),
    ] {
        let output = tandem(folder.path(), &["route", number, "--json"]);
        assert_eq!(output.status.code(), Some(code), "{number}: {output:?}");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&told["number"], &told["answered"]), (&number.into(), &Value::Bool(code == 0)));
        if code == 0 {
            assert_eq!(
                (&told["agent_id"], &told["reason"]),
                (&agent.into(), &reason.into()),
                "{told}"
            );
            assert_eq!(told["models_without_key"], serde_json::json!(["openai"]));
        } else {
            assert!(told["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{told}");
        }
    }
    let output = tandem(folder.path(), &["route", "200"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("reception answers (Reception)") && text.contains("queue front"),
        "{text}"
    );
    assert_eq!(tandem(folder.path(), &["route"]).status.code(), Some(2));
    assert_eq!(tandem(with_config(BAD).path(), &["route", "200"]).status.code(), Some(2));
    wait_until("the folder to be left alone", || {
        fs::read_dir(folder.path()).is_ok_and(|files| files.count() == 1)
    });
}
