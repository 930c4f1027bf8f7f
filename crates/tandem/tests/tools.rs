//! `tandem tools`, the receivers of docs/tools, and the figures at `/metrics`.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use common::{Daemon, installed};
use serde_json::{Value, json};
use tempfile::TempDir;

const KEY: &str = "a-key-of-the-tests-0123456789";

const MESSAGE: &str =
    r#"{"caller_name": "Ann", "caller_phone": "+1 305 555 1234", "message": "Call me"}"#;

/// A file of the documentation.
fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)
}

/// A receiver of the documentation, until it is dropped.
struct Receiver {
    child: Child,
    address: String,
}

impl Receiver {
    fn start(program: &str, file: &str) -> Self {
        let mut child = Command::new(program)
            .arg(docs(file))
            .args(["--port", "0"])
            .env("TANDEM_TOOLS_KEY", KEY)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the receiver starts");
        let mut line = String::new();
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped"));
        lines.read_line(&mut line).expect("it says where it listens");
        let address = line.trim().strip_prefix("listening on ").expect("an address").to_owned();
        std::thread::spawn(move || lines.lines().map_while(Result::ok).for_each(drop));
        Self { child, address }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A configuration in a folder of its own.
struct House(TempDir);

impl House {
    fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        fs::write(folder.path().join("tandem.toml"), config).expect("it can be written");
        Self(folder)
    }

    /// With an agent whose tools go to `address`.
    fn with_receiver(address: &str) -> Self {
        Self::new(&format!(
            "[attendant]\nengines = []\n[tools]\nwebhook_url = \"http://{address}/tandem\"\nwebhook_key_env = \"TEST_TOOLS_KEY\"\nallow = [\"127.0.0.0/8\"]\n[agents.reception]\ntools = [\"end_call\", \"leave_message\", \"check_policy_status\", \"schedule_appointment\", \"create_lead\"]\n"
        ))
    }

    fn tandem(&self, key: &str, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_tandem"))
            .args(arguments)
            .arg("-c")
            .arg(self.0.path().join("tandem.toml"))
            .env("TEST_TOOLS_KEY", key)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .output()
            .expect("tandem runs")
    }

    /// `tandem tools test` as JSON, and its exit code.
    fn test(&self, key: &str, tool: &str, arguments: &str) -> (Value, Option<i32>) {
        let output = self.tandem(
            key,
            &[
                "tools",
                "test",
                "reception",
                tool,
                "--args",
                arguments,
                "--from",
                "+13055550000",
                "--json",
            ],
        );
        let trial = serde_json::from_slice(&output.stdout);
        (trial.unwrap_or_else(|_| panic!("{output:?}")), output.status.code())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// What every receiver of the documentation does.
fn receives(program: &str, file: &str) {
    if !installed(program) {
        return;
    }
    let receiver = Receiver::start(program, file);
    let house = House::with_receiver(&receiver.address);

    let (trial, code) = house.test(KEY, "leave_message", MESSAGE);
    assert_eq!((code, &trial["outcome"]), (Some(0), &json!("ok")), "{trial}");
    assert_eq!(trial["message"], "Thank you, Ann. I have passed that on.");
    assert_eq!((&trial["status"], &trial["attempts"]), (&json!("saved"), &json!(1)));
    assert_eq!(trial["response"]["http_status"], 200);
    let sent = &trial["request"]["body"];
    assert_eq!((&sent["test"], &sent["function"]), (&json!(true), &json!("leave_message")));
    assert_eq!(
        (&sent["from_number"], &sent["agent_id"]),
        (&json!("+13055550000"), &json!("reception"))
    );
    assert_eq!(sent["args"]["caller_phone_e164"], "+13055551234");
    assert!(!trial.to_string().contains(KEY), "{trial}");

    let (trial, code) = house.test(KEY, "check_policy_status", r#"{"policy_number": "P-100"}"#);
    assert_eq!((code, &trial["result"]["renewal"]), (Some(0), &json!("2027-06-30")), "{trial}");
    let appointment = r#"{"caller_name": "Ann", "phone": "+13055551234", "date": "Thursday", "time": "2pm", "purpose": "x"}"#;
    let (trial, code) = house.test(KEY, "schedule_appointment", appointment);
    assert_eq!(code, Some(0));
    assert_eq!(trial["message"], "You are booked for Thursday at 2pm.");
    let lead = r#"{"first_name": "Ann", "phone": "+13055551234"}"#;
    let (trial, code) = house.test(KEY, "create_lead", lead);
    assert_eq!((code, &trial["response"]["http_status"]), (Some(0), &json!(404)), "{trial}");
    assert_eq!(trial["status"], "unavailable");

    let (trial, code) = house.test("another-key-0123456789", "leave_message", MESSAGE);
    assert_eq!((code, &trial["outcome"]), (Some(1), &json!("fallback_trouble")), "{trial}");
    assert_eq!(trial["response"]["http_status"], 401);

    // What was not signed by us, or is a repetition of something old, is refused.
    for headers in [
        "",
        &format!("Authorization: Bearer {KEY}\r\n"),
        &format!(
            "Authorization: Bearer {KEY}\r\nX-Webhook-Timestamp: 1\r\nX-Webhook-Signature: sha256=00\r\n"
        ),
    ] {
        let mut stream = TcpStream::connect(&receiver.address).expect("it listens");
        write!(stream, "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n{headers}\r\n{{}}")
            .expect("it can be written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
}

#[test]
fn the_receiver_in_python_receives() {
    receives("python3", "tools/receiver.py");
}

#[test]
fn the_receiver_in_node_receives() {
    receives("node", "tools/receiver.mjs");
}

#[test]
fn the_documentation_has_the_receivers_as_they_are() {
    let page = fs::read_to_string(docs("tools.md")).expect("the page");
    for (file, language) in [("receiver.py", "python"), ("receiver.mjs", "js")] {
        let code = fs::read_to_string(docs("tools").join(file)).expect("the receiver");
        assert!(
            page.contains(&format!("```{language}\n{code}```\n")),
            "{file} differs from the page"
        );
    }
}

#[test]
fn a_trial_for_people_shows_everything_but_secrets() {
    let house = House::with_receiver("127.0.0.1:9"); // The discard port: nobody listens there.
    let arguments = ["tools", "test", "reception", "leave_message", "--args", MESSAGE];
    let output = house.tandem(KEY, &arguments);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    for part in [
        "-> POST http://127.0.0.1:9/tandem",
        "x-webhook-id: inv_",
        "\"test\": true",
        "\"status\": \"unreachable\"",
        "why: ",
    ] {
        assert!(shown.contains(part), "{part}:\n{shown}");
    }
    assert!(!shown.contains(KEY), "{shown}");
}

#[test]
fn what_is_wrong_with_a_trial_is_said() {
    let house = House::with_receiver("127.0.0.1:9");
    for (arguments, says) in [
        (
            &["tools", "test", "recepton", "end_call"][..],
            "there is no agent \"recepton\"; did you mean \"reception\"?",
        ),
        (
            &["tools", "test", "reception", "leave_mesage"],
            "does not have a tool \"leave_mesage\"; did you mean \"leave_message\"?",
        ),
        (&["tools", "test", "reception", "end_call"], "end_call runs inside Tandem"),
        (&["tools", "test", "reception", "leave_message", "--args", "x"], "--args is no JSON"),
        (&["tools", "schema", "teleport"], "no agent has a tool \"teleport\"; known tools: "),
        (&["tools", "list", "nobody"], "there is no agent \"nobody\"; known agents: reception"),
    ] {
        let output = house.tandem(KEY, arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    let (trial, code) =
        house.test(KEY, "leave_message", r#"{"caller_name": "Ann", "message": "x"}"#);
    assert_eq!((code, &trial["outcome"]), (Some(1), &json!("invalid_arguments")), "{trial}");
    assert_eq!(trial["result"]["missing"], json!(["caller_phone"]));
    assert_eq!(trial["request"], Value::Null, "nothing was sent");
}

#[test]
fn the_tools_of_agents_are_listed_and_described() {
    let house = House::new(
        "[tools]\nwebhook_url = \"https://crm.example.com/t?token=secret\"\n[tools.stock]\ndescription = \"Looks.\"\nfiller = \"Let me look.\"\nmode = \"blocking\"\n[tools.stock.parameters]\ntype = \"object\"\nproperties = { pin = { type = \"string\", x-redact = true } }\n[agents.reception]\ntools = [\"end_call\", \"stock\"]\n",
    );
    let output = house.tandem(KEY, &["tools", "list"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(
        text(&output.stdout),
        "reception:\n  end_call  inside Tandem\n  stock     POST https://crm.example.com/t?…, without a key, 9 s, after 0.8 s: \"Let me look.\"\n"
    );
    let output = house.tandem(KEY, &["tools", "list", "reception", "--json"]);
    let listed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let stock = &listed["agents"][0]["tools"][1];
    assert_eq!((&stock["runs"], &stock["redacted"]), (&json!("webhook"), &json!(["/pin"])));
    assert_eq!(stock["filler"], json!({ "words": "Let me look.", "after_ms": 800 }));
    let output = house.tandem(KEY, &["tools", "schema", "stock"]);
    let declaration: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(declaration["parameters"]["properties"], json!({ "pin": { "type": "string" } }));
    let output = house.tandem(KEY, &["tools", "schema", "create_lead"]);
    assert_eq!(
        output.status.code(),
        Some(0),
        "a standard tool, though no agent has it: {output:?}"
    );
}

#[test]
fn check_tries_webhooks_and_sends_nothing() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let seen = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let (mut stream, _) = listener.accept().expect("somebody connects");
        stream.read_to_end(&mut bytes).map(|_| bytes)
    });
    let steps = |house: &House, name: &str| {
        let output = house.tandem(KEY, &["check", "--json"]);
        let checked: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let steps = checked["steps"].as_array().expect("steps").iter();
        let named = |step: &&Value| step["name"].as_str().is_some_and(|it| it.starts_with(name));
        steps.filter(named).cloned().collect::<Vec<_>>()
    };
    let found = steps(&House::with_receiver(&address.to_string()), "webhook");
    assert_eq!(found.len(), 1, "one host: {found:?}");
    assert_eq!(found[0]["outcome"], "passed", "{found:?}");
    assert_eq!(seen.join().expect("it ran").expect("it read"), b"");
    let found = steps(&House::with_receiver("127.0.0.1:9"), "webhook");
    assert_eq!(found[0]["outcome"], "failed", "{found:?}");
    let phrases = House::new(
        "[attendant]\nengines = []\n[tools.create_lead]\nfiller = \"Quizzaciously.\"\n[agents.a]\ntools = [\"create_lead\"]\n",
    );
    let found = steps(&phrases, "phrase");
    assert_eq!(found[0]["outcome"], "warning", "{found:?}");
}

/// A server that has a tool, and one that is not there.
fn house_with_servers() -> House {
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stock_mcp.py");
    House::new(&format!(
        "[attendant]\nengines = []\n[tools.stock_find]\nfiller = \"Let me look.\"\ntimeout_ms = 20000\n[mcp.stock]\ncommand = [\"python3\", {:?}]\nenv = {{ PLACE = {{ env = \"TEST_TOOLS_KEY\" }} }}\n[mcp.gone]\ncommand = [\"/no/such/program\"]\n[agents.reception]\ntools = []\nmcp = [\"stock\", \"gone\"]\n",
        server.display().to_string()
    ))
}

#[test]
fn the_tools_of_mcp_servers_are_listed_tried_and_checked() {
    if !installed("python3") {
        return;
    }
    let house = house_with_servers();
    let output = house.tandem("Bonn", &["tools", "list"]);
    let shown = text(&output.stdout);
    assert!(
        shown.contains("  stock_find  MCP server, 20 s, after 0.8 s: \"Let me look.\"\n"),
        "{shown}"
    );
    assert!(shown.contains("! MCP server gone: "), "{shown}");
    assert_eq!(text(&output.stderr), "", "it is said once");
    let output = house.tandem("Bonn", &["tools", "list", "--offline"]);
    assert_eq!(text(&output.stdout), "reception:\n  no tools\n");
    let output = house.tandem("Bonn", &["tools", "schema", "stock_find"]);
    let declaration: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(declaration["description"], "Finds an article.");

    let (trial, code) = house.test("Bonn", "stock_find", r#"{"article": "bell"}"#);
    assert_eq!((code, &trial["outcome"]), (Some(0), &json!("ok")), "{trial}");
    assert!(trial["result"].to_string().contains("bell: 3 in Bonn"), "{trial}");
    let (trial, code) = house.test("Bonn", "stock_find", "{}");
    assert_eq!((code, &trial["outcome"]), (Some(1), &json!("invalid_arguments")), "{trial}");

    let output = house.tandem("Bonn", &["check"]);
    let shown = text(&output.stdout);
    assert!(shown.contains("MCP server stock: has stock_find\n"), "{shown}");
    assert!(shown.contains("FAILED   MCP server gone: no connection: /no/such/program"), "{shown}");
}

#[test]
fn a_server_that_is_a_program_lives_through_a_reload_and_ends_with_the_daemon() {
    if !installed("python3") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let farewell = folder.path().join("farewell");
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stock_mcp.py");
    let config = format!(
        "[attendant]\nengines = []\n[mcp.stock]\ncommand = [\"python3\", {:?}]\nenv = {{ FAREWELL = {:?} }}\n[agents.reception]\nmcp = [\"stock\"]\n",
        server.display().to_string(),
        farewell.display().to_string()
    );
    let mut daemon = Daemon::start(&config);
    daemon.write_config(&format!("{config}company = \"Acme\"\n"));
    daemon.signal("HUP");
    daemon.wait_for_log("agents and numbers reloaded");
    assert!(!farewell.exists(), "its session is kept");
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
    assert!(farewell.exists(), "it had time to end by itself");
}

#[test]
fn a_daemon_gives_its_figures_and_takes_new_tools_at_a_reload() {
    let config =
        "[attendant]\nengines = []\n[metrics]\nlisten = \"127.0.0.1:0\"\n[agents.reception]\n";
    let daemon = Daemon::start(config);
    let line = daemon.wait_for_log("/metrics");
    let (_, address) = line.split_once("http://").expect("an address");
    let address = address.split('/').next().expect("an address");
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").expect("it can be written");
    let mut figures = String::new();
    stream.read_to_string(&mut figures).expect("it answers");
    assert!(figures.starts_with("HTTP/1.1 200 OK\r\n"), "{figures}");
    assert!(figures.contains("\ntandem_calls_live 0\n"), "{figures}");

    daemon.write_config(&format!(
        "{config}tools = [\"ask\"]\n[tools.ask]\ndescription = \"Asks.\"\nurl = \"https://crm.example.com/\"\nfiller = \"Quizzaciously.\"\n"
    ));
    daemon.signal("HUP");
    let warned = daemon.wait_for_log("nobody can say this phrase");
    assert!(warned.contains("Quizzaciously"), "{warned}");
    daemon.wait_for_log("agents and numbers reloaded");
    daemon.write_config(&format!("{config}[tools]\nca_file = \"none.pem\"\n"));
    daemon.signal("HUP");
    daemon.wait_for_log("not reloaded, the old configuration stays");
}
