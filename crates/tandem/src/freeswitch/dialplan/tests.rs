use std::{fs, path::Path};

use tandem_call::EndReason;
use tandem_pbx::TransferPlan;

use super::*;
use crate::config::parse_kind;

/// A plan with everything in it.
const PLAN: &str = r#"
[sip]
listen = ["udp:10.0.0.9:5060"]
trusted = ["10.0.0.5"]
[agents.reception]
[agents.night]
max_duration_s = 7200
[agents.closed]
status = "disabled"
[numbers]
"*" = "reception"
"+1305*" = "night"
"+130555*" = "reception"
"+1 305 555 1234" = { agent = "reception", label = "Front desk" }
"support-desk" = "reception"
"*98" = "night"
"300" = { route = { type = "queue", target = "support" } }
"+1305999" = { route = { type = "hangup", cause = "CALL_REJECTED" } }
"+1305777*" = "closed"
"400" = { agent = "reception", status = "disabled" }
"#;

const SWITCH: &str =
    "[freeswitch.switches.main]\naddress = \"127.0.0.1:8021\"\npassword_env = \"SECRET\"\n";

fn read(text: &str) -> Config {
    let variable = |name: &str| (name == "SECRET").then(|| "never-to-be-printed".to_owned());
    let (config, findings) = Config::read(Path::new("t.toml"), text, &variable);
    config.unwrap_or_else(|| panic!("{findings}"))
}

fn order(mode: Mode) -> DialplanOrder {
    let (context, profile) = ("public".into(), "external".into());
    DialplanOrder { mode, context, profile, numbers: Vec::new() }
}

fn user() -> &'static str {
    "user = { username = \"freeswitch\", password_env = \"SECRET\" }\n"
}

/// The data of the actions of `application`.
fn actions<'a>(xml: &'a str, application: &str) -> Vec<&'a str> {
    let begin = format!("<action application=\"{application}\"");
    let actions = xml.lines().filter_map(|line| line.trim().strip_prefix(&*begin));
    actions.map(|rest| rest.trim_start_matches(" data=\"").trim_end_matches("\"/>")).collect()
}

/// Fails on text that is no well-formed sequence of comments and one element, each on whole lines.
fn assert_well_formed(xml: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut roots = 0;
    let mut rest = xml;
    while let Some(at) = rest.find('<') {
        let (text, tag) = rest.split_at(at);
        assert!(text.trim().is_empty(), "text between elements: {text:?}");
        if let Some(comment) = tag.strip_prefix("<!--") {
            let end = comment.find("--").unwrap_or_else(|| panic!("open comment: {comment:?}"));
            assert!(comment[end..].starts_with("-->"), "two dashes in a comment: {comment:?}");
            rest = &comment[end + 3..];
            continue;
        }
        let mut quoted = false;
        let end = tag.find(|c: char| {
            quoted ^= c == '"';
            c == '>' && !quoted
        });
        let end = end.unwrap_or_else(|| panic!("open tag: {tag:?}"));
        let (inner, after) = (&tag[1..end], &tag[end + 1..]);
        rest = after;
        if let Some(name) = inner.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        let (inner, empty) = match inner.strip_suffix('/') {
            Some(inner) => (inner, true),
            None => (inner, false),
        };
        let (name, attributes) = inner.split_once(' ').unwrap_or((inner, ""));
        assert!(name.chars().all(|c| c.is_ascii_lowercase()), "{name:?}");
        assert_attributes(attributes);
        roots += usize::from(open.is_empty());
        if !empty {
            open.push(name);
        }
    }
    assert!(rest.trim().is_empty() && open.is_empty(), "left open: {open:?} {rest:?}");
    assert_eq!(roots, 1, "elements at the top");
}

fn assert_attributes(mut attributes: &str) {
    while !attributes.is_empty() {
        let (name, rest) = attributes.split_once("=\"").expect("an attribute has a quoted value");
        assert!(name.chars().all(|c| c.is_ascii_lowercase()), "{name:?}");
        let (value, rest) = rest.split_once('"').expect("its value ends");
        assert!(!value.contains('<') && !value.chars().any(char::is_control), "{value:?}");
        for entity in value.split('&').skip(1) {
            let name = entity.split(';').next().unwrap_or_default();
            assert!(["amp", "lt", "gt", "quot", "#45"].contains(&name), "{value:?}");
        }
        attributes = rest.strip_prefix(' ').unwrap_or(rest);
    }
}

/// What the preprocessor of FreeSWITCH would drop, or take for a directive.
fn assert_left_alone_by_the_preprocessor(xml: &str) {
    for line in xml.lines() {
        assert!(!line.to_ascii_lowercase().contains("x-pre-process"), "{line}");
        assert!(!line.contains("<!--#") && !line.contains("<?"), "{line}");
        let include = line.contains("<include>") || line.contains("</include>");
        assert!(!include || line.trim_end() == line.trim_start(), "{line}");
        assert_eq!(include, line == "<include>" || line == "</include>", "{line}");
    }
}

/// Compares with `testdata/dialplan/<name>.xml`.
fn assert_golden(name: &str, xml: &str) {
    assert_well_formed(xml);
    assert_left_alone_by_the_preprocessor(xml);
    assert!(!xml.contains("never-to-be-printed"), "{xml}");
    let path = format!("{}/testdata/dialplan/{name}.xml", env!("CARGO_MANIFEST_DIR"));
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(xml, golden, "{path}");
}

#[test]
fn every_mode_and_module_has_its_dialplan() {
    let fallback = "fallback = \"2000 XML default\"\n";
    for (name, mode, section) in [
        ("socket", Mode::Socket, fallback.to_owned()),
        ("socket_bare", Mode::Socket, "listen = [\"0.0.0.0:8090\"]\noutbound = [\"0.0.0.0:8084\"]\nurl = \"ws://voice.example.net:8090\"\n".into()),
        ("fork_jambonz", Mode::Fork, user().into()),
        ("fork_jambonz_token", Mode::Fork, "token_env = \"SECRET\"\nrate = 16000\n".into()),
        ("fork_drachtio", Mode::Fork, format!("{}module = \"drachtio\"\n", user())),
        ("fork_stream", Mode::Fork, format!("{}module = \"stream\"\n", user())),
        ("fork_stream_raw", Mode::Fork, "token_env = \"SECRET\"\nmodule = \"stream-raw\"\n".into()),
        ("fork_stream_base64", Mode::Fork, "open_to_loopback = true\nmodule = \"stream-base64\"\n".into()),
        ("bridge", Mode::Bridge, fallback.to_owned()),
    ] {
        let config = read(&format!("{PLAN}[freeswitch]\n{section}{SWITCH}"));
        let xml = dialplan(&config, &order(mode)).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_golden(name, &xml);
    }
}

#[test]
fn a_number_that_was_asked_for_stands_alone() {
    let config = read(&format!("{PLAN}[freeswitch]\n"));
    let numbers = |numbers: &[&str], mode| {
        let numbers = numbers.iter().map(|number| (*number).to_owned()).collect();
        dialplan(&config, &DialplanOrder { numbers, ..order(mode) })
    };
    let xml = numbers(&["+1 305 555 0000", "sip:Sales@pbx.example"], Mode::Socket).unwrap();
    let expressions: Vec<&str> =
        xml.lines().filter(|line| line.contains("<regex")).map(str::trim).collect();
    assert_eq!(
        expressions,
        [
            r#"<regex field="destination_number" expression="^\+?13055550000$"/> <!-- reception -->"#,
            r#"<regex field="destination_number" expression="^(?i:sales)$"/> <!-- reception -->"#,
        ]
    );
    let error = |asked: &str, mode| numbers(&[asked], mode).unwrap_err().to_string();
    assert_eq!(error("+13057771", Mode::Socket), "+13057771: the agent \"closed\" is disabled");
    assert_eq!(error("400", Mode::Socket), "400: the number \"400\" is disabled");
    assert_eq!(error("", Mode::Socket), "\"\" is no number: use one such as +13055551234 or 200");
    assert_eq!(
        error("1*", Mode::Socket),
        "\"1*\" is no number: use one such as +13055551234 or 200"
    );
    assert_eq!(
        error("300", Mode::Bridge),
        "300: the PBX takes its calls to queue \"support\", which only --mode socket can do"
    );
    assert!(numbers(&["300"], Mode::Socket).is_ok());
}

#[test]
fn what_cannot_work_is_not_printed() {
    let nobody = "[agents.a]\nstatus = \"disabled\"\n";
    for (text, mode, words) in [
        (
            "",
            Mode::Socket,
            "the configuration has no [freeswitch], so nobody would listen\n  fix: add it",
        ),
        ("", Mode::Fork, "the configuration has no [freeswitch]"),
        ("[freeswitch]\noutbound = []\n", Mode::Socket, "`freeswitch.outbound` is empty"),
        (
            "[freeswitch]\n",
            Mode::Fork,
            "a fork that the dialplan starts needs credentials\n  fix: add `user = { username = \"freeswitch\",",
        ),
        (
            "[freeswitch]\nopen_to_loopback = true\nmodule = \"drachtio\"\n",
            Mode::Fork,
            "module \"drachtio\" plays only files",
        ),
        (
            "[freeswitch]\nopen_to_loopback = true\nmodule = \"stream\"\n",
            Mode::Fork,
            "module \"stream\" plays only files",
        ),
        (nobody, Mode::Bridge, "no number of the plan is answered by an agent"),
    ] {
        let error = dialplan(&read(text), &order(mode)).unwrap_err().to_string();
        assert!(error.starts_with(words), "{text}: {error}");
    }
    assert!(dialplan(&read(""), &order(Mode::Bridge)).is_ok());
}

/// Whatever a configuration may hold, the file stays one of ours.
#[test]
fn no_word_of_the_user_breaks_the_file() {
    for evil in [
        "--> <action application='system' data='reboot'/> <!--",
        "<!--#exec reboot-->",
        "<X-PRE-PROCESS cmd='exec' data='reboot'/>",
        "x-pre-process",
        "</include>",
        "<?xml version='1.0'?>",
        "a -",
        "--",
        "]]>&'\u{1}\u{b}\u{fffe}\u{2028}\n<include>\r\n",
        "$${tandem_fork_password}",
    ] {
        let label = toml::Value::from(evil).to_string();
        let text = format!(
            "[agents.a]\n[numbers]\n\"200\" = {{ agent = \"a\", label = {label} }}\n[freeswitch]\nopen_to_loopback = true\n"
        );
        let config = read(&text);
        for mode in [Mode::Socket, Mode::Fork, Mode::Bridge] {
            let xml = dialplan(&config, &order(mode)).unwrap_or_else(|why| panic!("{why}"));
            assert_well_formed(&xml);
            assert_left_alone_by_the_preprocessor(&xml);
            assert!(!xml.contains("$${"), "{xml}");
            assert_eq!(actions(&xml, "system"), [""; 0], "{xml}");
            assert!(xml.contains(r#"expression="^\+?200$"/> <!-- a: "#), "{xml}");
        }
    }
}

#[test]
fn addresses_are_those_that_the_switch_can_reach() {
    for (text, socket, bridged) in [
        ("", "127.0.0.1:8084", "127.0.0.1:5060"),
        ("outbound = [\"0.0.0.0:8085\"]\n", "127.0.0.1:8085", "127.0.0.1:5060"),
        (
            "outbound = [\"[::]:8085\"]\nurl = \"wss://voice.example.net\"\n",
            "voice.example.net:8085",
            "127.0.0.1:5060",
        ),
        ("outbound = [\"[::1]:8085\"]\n", "::1:8085", "127.0.0.1:5060"),
        (
            "outbound = [\"[2001:db8::5]:8084\"]\n[sip]\nlisten = [\"udp:[2001:db8::5]:5066\"]\ntrusted = [\"2001:db8::1\"]\n",
            "2001:db8::5:8084",
            "[2001:db8::5]:5066",
        ),
        (
            "[sip]\nlisten = [\"tcp:10.0.0.9:5070\"]\ntrusted = [\"10.0.0.5\"]\n",
            "127.0.0.1:8084",
            "10.0.0.9:5070;transport=tcp",
        ),
        (
            "[sip]\nlisten = [\"tcp:0.0.0.0:5070\", \"udp:0.0.0.0:5070\"]\nadvertised = \"192.0.2.7\"\ntrusted = [\"10.0.0.5\"]\n",
            "127.0.0.1:8084",
            "192.0.2.7:5070",
        ),
        (
            "url = \"ws://10.0.0.9:8090\"\n[sip]\nlisten = [\"udp:0.0.0.0:5070\"]\ntrusted = [\"10.0.0.5\"]\n",
            "127.0.0.1:8084",
            "10.0.0.9:5070",
        ),
    ] {
        let config = read(&format!("[freeswitch]\n{text}"));
        let xml = dialplan(&config, &order(Mode::Socket)).unwrap();
        assert_eq!(actions(&xml, "socket"), [format!("{socket} async full")], "{text}");
        let xml = dialplan(&config, &order(Mode::Bridge)).unwrap();
        assert_eq!(actions(&xml, "bridge"), [format!("sofia/external/$1@{bridged}")], "{text}");
    }
}

const DOC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/freeswitch.md");

/// The text of the fenced block that begins with `fence` in `text`, and what follows it.
fn block<'a>(text: &'a str, fence: &str) -> (&'a str, &'a str) {
    let (_, rest) = text.split_once(fence).unwrap_or_else(|| panic!("no {fence} in {text}"));
    rest.split_once("```").expect("a block ends")
}

/// `<!-- printed by: mode fork, module stream -->` in the documentation stands before what its configuration gives.
#[test]
fn the_documentation_shows_what_is_printed() {
    let doc = fs::read_to_string(DOC).unwrap();
    let (toml, _) = block(&doc, "```toml\n");
    let variable = |name: &str| (!name.is_empty()).then(|| "never-to-be-printed".to_owned());
    let mut modes = Vec::new();
    for place in doc.split("<!-- printed by: ").skip(1) {
        let (what, rest) = place.split_once(" -->\n").expect("a marker ends");
        let (mode, module) = what.split_once(", module ").expect("a marker names mode and module");
        let mode = Mode::from_str(mode.trim_start_matches("mode "), false).unwrap();
        let text = toml.replace("module = \"jambonz\"", &format!("module = {module:?}"));
        let (config, findings) = Config::read(Path::new("t.toml"), &text, &variable);
        assert_eq!(findings.to_string(), "", "the example has no mistake");
        let xml = dialplan(&config.unwrap(), &order(mode)).unwrap();
        let (shown, _) = block(rest, "```xml\n");
        assert!(rest.starts_with("```xml\n"), "{what}");
        assert_well_formed(&xml);
        assert_eq!(shown, xml, "{what}");
        modes.push(mode);
    }
    for mode in [Mode::Socket, Mode::Fork, Mode::Bridge] {
        assert!(modes.contains(&mode), "{mode}");
    }
}

/// What the documentation says of the configuration holds.
#[test]
fn the_documentation_names_the_defaults() {
    let doc = fs::read_to_string(DOC).unwrap();
    let plan = TransferPlan::default();
    for kind in ["extension", "ringgroup", "sip", "queue", "ivr", "voicemail", "conference"] {
        let line = doc.lines().find(|line| line.starts_with(&format!("| `{kind}` |")));
        let action = plan.route(parse_kind(kind).unwrap()).unwrap().to_string();
        let action = action.replace("sofia/external/", "sofia/{profile}/");
        assert!(line.is_some_and(|line| line.contains(&format!("`{action}`"))), "{kind} {action}");
    }
    for name in Dialect::ALL.map(module_name) {
        assert!(doc.contains(&format!("\"{name}\"")), "{name}");
    }
    for reason in ["caller_hangup", "model_error", "no_response", "voicemail_detected", "failed"] {
        assert!(serde_json::from_value::<EndReason>(reason.into()).is_ok(), "{reason}");
        assert!(doc.contains(&format!("`{reason}`")), "{reason}");
    }
}
