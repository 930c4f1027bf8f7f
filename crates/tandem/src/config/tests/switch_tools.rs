use tandem_pbx::EavesdropMode;

use super::*;
use crate::freeswitch::controls::CONTROLS;

const PASSWORD: [(&str, &str); 1] = [("P", "secret")];

/// A switch, `[freeswitch.tools]` and an agent that has `tools`.
fn file(section: &str, tools: &str) -> String {
    format!(
        "[freeswitch.switches.a]\naddress = \"127.0.0.1\"\npassword_env = \"P\"\n[freeswitch.tools]\n{section}\n[agents.a]\ntools = [{tools}]\n"
    )
}

fn errors(text: &str) -> String {
    let (config, findings) = read_with(text, &PASSWORD);
    assert!(config.is_none(), "{text}");
    findings.to_string()
}

#[test]
fn the_keys_of_the_controls_are_read() {
    let text = file(
        "sounds = { music = \"local_stream://moh\" }\nlots = { main = \"5001-5099\" }\nrooms = [\"support\"]\nconference_profile = \"quiet\"\nrecordings = \"/var/rec/\"\nrecording_limit_s = 60\nvariables = \"crm_\"\nspeech = \"flite slt\"\nsupervisor = \"user/1000\"\nsupervisor_mode = \"whisper\"\ngateways = [\"trunk1\"]",
        "",
    );
    let (config, findings) = read_with(&text, &PASSWORD);
    assert_eq!(findings.to_string(), "");
    let tools = config.unwrap().freeswitch.unwrap().tools;
    assert_eq!(tools.sounds["music"].as_str(), "local_stream://moh");
    assert_eq!(tools.lots["main"], (5001, 5099));
    assert_eq!(tools.rooms[0].as_str(), "support");
    assert_eq!(tools.conference_profile.as_str(), "quiet");
    assert_eq!(tools.recordings.unwrap().as_str(), "/var/rec");
    assert_eq!(tools.recording_limit, Duration::from_secs(60));
    assert_eq!(tools.variables, "crm_");
    let speech = tools.speech.unwrap();
    assert_eq!((speech.0.as_str(), speech.1.as_str()), ("flite", "slt"));
    assert_eq!(tools.supervisor.unwrap().as_str(), "user/1000");
    assert_eq!(tools.supervisor_mode, EavesdropMode::WhisperToPartner);
    assert_eq!(tools.gateways[0].as_str(), "trunk1");

    let bare = good("[freeswitch]\n").freeswitch.unwrap().tools;
    assert_eq!(bare, SwitchTools::default());
    assert_eq!((bare.variables.as_str(), bare.conference_profile.as_str()), ("agent_", "default"));
}

#[test]
fn an_agent_is_given_the_controls_it_lists_and_no_others() {
    let section = "sounds = { music = \"a\", bell = \"b\" }";
    let text = file(section, "\"end_call\", \"pbx_play\", \"pbx_three_way\"")
        + "departments = { billing = { type = \"extension\", target = \"1001\" } }\n";
    let (config, findings) = read_with(&text, &PASSWORD);
    assert_eq!(findings.to_string(), "");
    let agent = config.unwrap().agents.remove("a").unwrap();
    let tools = agent.spec(None, &BTreeMap::new()).tools;
    let names: Vec<&str> = tools.iter().map(|tool| tool.declaration.name.as_str()).collect();
    assert_eq!(names, ["end_call", "pbx_play", "pbx_three_way"]);
    let properties = |index: usize| &tools[index].declaration.parameters["properties"];
    assert_eq!(properties(1)["sound"]["enum"], serde_json::json!(["bell", "music"]));
    assert_eq!(properties(2)["department"]["enum"], serde_json::json!(["billing"]));

    let (config, _) = read_with(&file("", ""), &PASSWORD);
    assert_eq!(config.unwrap().agents["a"].offer.tools, [], "none unless it is asked for");
}

#[test]
fn controls_need_a_switch_and_what_they_name() {
    for (text, expected) in [
        (
            "[agents.a]\ntools = [\"pbx_hold\"]\n".to_owned(),
            "t.toml:2:10: error: `agents.a.tools`: \"pbx_hold\" controls a channel of FreeSWITCH, and there is no [freeswitch]\n    fix: add [freeswitch], or remove the tool",
        ),
        (
            file("", "\"pbx_hold\", \"pbx_play\""),
            "t.toml:7:22: error: `agents.a.tools`: \"pbx_play\" needs `freeswitch.tools.sounds`\n    fix: for example sounds = { music = \"local_stream://moh\" }",
        ),
        (
            file("", "\"pbx_valet_park\""),
            "t.toml:7:10: error: `agents.a.tools`: \"pbx_valet_park\" needs `freeswitch.tools.lots`\n    fix: for example lots = { main = \"5001-5099\" }",
        ),
        (
            file("", "\"pbx_holt\""),
            "t.toml:7:10: error: `agents.a.tools`: there is no tool \"pbx_holt\"\n    fix: did you mean \"pbx_hold\"?",
        ),
        (
            file("", "\"pbx_hold\", \"pbx_hold\""),
            "t.toml:7:22: error: `agents.a.tools`: \"pbx_hold\" is listed twice",
        ),
    ] {
        assert_eq!(errors(&text), expected, "{text}");
    }
    // What an example says can be written.
    for name in CONTROLS {
        let needed = crate::freeswitch::controls::missing_setting(name, &SwitchTools::default());
        let section = needed.map(|it| format!("{} = {}", it.key, it.example)).unwrap_or_default();
        let (config, findings) = read_with(&file(&section, &format!("{name:?}")), &PASSWORD);
        assert!(config.is_some(), "{name}: {findings}");
    }
}

#[test]
fn each_mistake_about_the_controls_has_its_words() {
    for (line, expected) in [
        (
            "sounds = { music = \"a b\" }",
            "5:20: error: `freeswitch.tools.sounds.music`: the file holds ' ' at byte 1",
        ),
        (
            "sounds = { \"a b\" = \"a\" }",
            "5:12: error: `freeswitch.tools.sounds.a b`: \"a b\" must have 1 to 64 letters, digits and - _ .",
        ),
        (
            "lots = { main = \"5099-5001\" }",
            "5:17: error: `freeswitch.tools.lots.main`: \"5099-5001\" must be a first and a last slot, as in \"5001-5099\"",
        ),
        (
            "rooms = [\"a b\"]",
            "5:10: error: `freeswitch.tools.rooms`: \"a b\" must have 1 to 64 letters, digits and - _ .",
        ),
        (
            "conference_profile = \"a@b\"",
            "5:22: error: `freeswitch.tools.conference_profile`: \"a@b\" must have 1 to 64 letters, digits and - _ .",
        ),
        (
            "recordings = \"rec\"",
            "5:14: error: `freeswitch.tools.recordings`: \"rec\" must be a folder of the switch, as in \"/var/lib/freeswitch/recordings\"",
        ),
        (
            "recordings = \"$${recordings_dir}\"",
            "5:14: error: `freeswitch.tools.recordings`: the file holds '$' at byte 0",
        ),
        (
            "recording_limit_s = 0",
            "5:21: error: `freeswitch.tools.recording_limit_s` is 0, it must lie between 1 and 14400",
        ),
        (
            "variables = \"\"",
            "5:13: error: `freeswitch.tools.variables`: \"\" is no beginning of a variable's name, as in \"agent_\"",
        ),
        (
            "speech = \"flite\"",
            "5:10: error: `freeswitch.tools.speech`: \"flite\" must be an engine and a voice, as in \"flite slt\"",
        ),
        (
            "supervisor = \"1000\"",
            "5:14: error: `freeswitch.tools.supervisor`: the dial string names no endpoint such as \"user/1000\"",
        ),
        (
            "supervisor_mode = \"spy\"",
            "5:19: error: `freeswitch.tools.supervisor_mode`: \"spy\" must be \"listen\", \"whisper\" or \"barge\"",
        ),
        (
            "gateways = [\"-x y\"]",
            "5:13: error: `freeswitch.tools.gateways`: \"-x y\" must have 1 to 64 letters, digits and - _ .",
        ),
        (
            "sound = { a = \"b\" }",
            "5:1: error: unknown key `sound` in [freeswitch.tools]\n    fix: did you mean `sounds`?",
        ),
    ] {
        assert_eq!(errors(&file(line, "")), format!("t.toml:{expected}"), "{line}");
    }
}
