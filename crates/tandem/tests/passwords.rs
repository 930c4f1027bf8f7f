//! Passwords at the door of the running daemon: digest with MD5 and SHA-256, from bare sockets and from the softphone.

mod common;

use std::process::{Command, Output};

use common::{Daemon, caller::Caller, message::Message};
use md5::{Digest, Md5};
use serde_json::Value;
use sha2::Sha256;

/// Everybody needs a password, that of the fake models.
const USERS: &str = r#"
[sip]
trusted = []
realm = "example"
users = [{ username = "pbx", password_env = "TEST_MODEL_KEY" }]
[attendant]
engines = []
[agents.reception]
greeting = ""
[numbers]
"200" = "reception"
"#;
const PASSWORD: &str = tandem_sim::FakeConfig::KEY;

fn hash<D: Digest>(text: &str) -> String {
    D::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The Authorization that answers the challenge of `algorithm` (RFC 7616 §3.4).
fn authorization<D: Digest>(
    challenged: &Message,
    algorithm: &str,
    uri: &str,
    password: &str,
) -> String {
    let marked = format!("algorithm={algorithm}");
    let challenge = challenged
        .headers("WWW-Authenticate")
        .find(|challenge| challenge.split(", ").any(|part| part.trim() == marked))
        .unwrap_or_else(|| panic!("no challenge with {algorithm} in {challenged:?}"));
    assert!(
        challenge.contains("realm=\"example\"") && challenge.contains("qop=\"auth\""),
        "{challenge}"
    );
    let (_, rest) = challenge.split_once("nonce=\"").expect("a challenge has a nonce");
    let nonce = rest.split('"').next().expect("it ends");
    let secret = hash::<D>(&format!("pbx:example:{password}"));
    let request = hash::<D>(&format!("INVITE:{uri}"));
    let response = hash::<D>(&format!("{secret}:{nonce}:00000001:0a4f113b:auth:{request}"));
    format!(
        "Digest username=\"pbx\", realm=\"example\", nonce=\"{nonce}\", uri=\"{uri}\", response=\"{response}\", \
         algorithm={algorithm}, cnonce=\"0a4f113b\", qop=auth, nc=00000001"
    )
}

#[test]
fn a_stranger_is_challenged_and_let_in_by_either_digest() {
    let daemon = Daemon::start(USERS);
    for (algorithm, authorize) in [
        ("MD5", authorization::<Md5> as fn(&Message, &str, &str, &str) -> String),
        ("SHA-256", authorization::<Sha256>),
    ] {
        let mut caller = Caller::udp(daemon.sip);
        let mut call = caller.dial("200");
        let offer = caller.sdp("0 101", "sendrecv");
        let challenged = caller.ask(&mut call, "INVITE", &[], &offer);
        assert_eq!(challenged.status(), 401, "{algorithm}");
        let first = challenged.header("WWW-Authenticate");
        assert!(first.contains("algorithm=SHA-256"), "the stronger one comes first: {first}");

        let wrong = authorize(&challenged, algorithm, call.target(), "guess");
        let refused = caller.ask(&mut call, "INVITE", &[("Authorization", &wrong)], &offer);
        assert_eq!(refused.status(), 401, "{algorithm}");
        let right = authorize(&refused, algorithm, call.target(), PASSWORD);
        let answered = caller.ask(&mut call, "INVITE", &[("Authorization", &right)], &offer);
        assert_eq!(answered.status(), 200, "{algorithm}");
        caller.acknowledge(&call, "");
        caller.listen(&call, 3);
        caller.hang_up(&mut call);

        let mut replay = caller.dial("200");
        let replayed = caller.ask(&mut replay, "INVITE", &[("Authorization", &right)], &offer);
        assert_eq!(replayed.status(), 401, "{algorithm}: an answer is good for one call");
    }
}

#[test]
fn calls_that_are_challenged_at_once_are_all_let_in() {
    let daemon = Daemon::start(USERS);
    let mut caller = Caller::udp(daemon.sip);
    let offer = caller.sdp("0 101", "sendrecv");
    let mut challenged = Vec::new();
    for _ in 0..10 {
        let mut call = caller.dial("200");
        let challenge = caller.ask(&mut call, "INVITE", &[], &offer);
        challenged.push((call, challenge));
    }
    for (call, challenge) in &mut challenged {
        let right = authorization::<Md5>(challenge, "MD5", call.target(), PASSWORD);
        let answered = caller.ask(call, "INVITE", &[("Authorization", &right)], &offer);
        assert_eq!(answered.status(), 200);
        caller.acknowledge(call, "");
    }
}

/// `tandem call`, which hangs up half a second after the answer.
fn softphone(daemon: &Daemon, more: &[&str]) -> (Output, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_tandem"))
        .args(["call", &format!("sip:200@{}", daemon.sip), "--json", "--hang-up", "500ms"])
        .args(more)
        .output()
        .expect("the softphone runs");
    let report = serde_json::from_slice(&output.stdout);
    let report = report.unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output, report)
}

#[test]
fn the_softphone_is_let_in_with_its_password_and_not_with_another() {
    let daemon = Daemon::start(USERS);
    let (output, report) = softphone(&daemon, &["--user", "pbx", "--password", PASSWORD]);
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert_eq!(report["ended"], "we hung up");
    for (user, password, refusal) in [
        ("pbx", "guess", "401 Unauthorized"),
        ("nobody", PASSWORD, "401 Unauthorized"),
        ("pbx", "guess again", "403 Forbidden"), // Enough of guessing.
    ] {
        let (output, report) = softphone(&daemon, &["--user", user, "--password", password]);
        assert_eq!(output.status.code(), Some(1), "{report}");
        assert_eq!(report["ended"], format!("refused: {refusal}"), "{user}");
    }
    let (output, report) = softphone(&daemon, &[]);
    assert_eq!(
        (output.status.code(), &report["ended"]),
        (Some(1), &Value::from("refused: 401 Unauthorized"))
    );
    assert_eq!(daemon.wait_for_records(1).len(), 1);
}
