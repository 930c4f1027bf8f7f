use tandem_call::TransferKind;
use tandem_pbx::{DialString, EavesdropMode, TransferSettings};

use super::*;

fn word(text: &str) -> Word {
    Word::new(text).unwrap()
}

fn path(text: &str) -> MediaPath {
    MediaPath::new(text).unwrap()
}

/// Everything configured.
pub(crate) fn tools() -> SwitchTools {
    SwitchTools {
        sounds: [("music".into(), path("local_stream://moh"))].into(),
        lots: [("lot1".into(), (5001, 5099))].into(),
        rooms: vec![word("support"), word("sales")],
        recordings: Some(path("/rec")),
        speech: Some((word("flite"), word("slt"))),
        supervisor: Some(DialString::new("user/1000").unwrap()),
        supervisor_mode: EavesdropMode::Barge,
        gateways: vec![word("trunk1")],
        ..SwitchTools::default()
    }
}

pub(crate) fn read(name: &str, arguments: Value) -> Result<Planned, AskedError> {
    read_with(&tools(), name, arguments)
}

fn read_with(tools: &SwitchTools, name: &str, arguments: Value) -> Result<Planned, AskedError> {
    let transfers = TransferPlan::new(&TransferSettings::default()).unwrap();
    let target = |department: Option<&str>| match department {
        Some("billing") => Some(TransferTarget::new(TransferKind::Extension, "1001")),
        Some("queue") => Some(TransferTarget::new(TransferKind::Queue, "support")),
        _ => None,
    };
    let about = About {
        tools,
        transfers: &transfers,
        target: &target,
        own_room: "tandem-x",
        recording: "call_1-1",
    };
    Planned::read(name, arguments, &about)
}

#[test]
fn arguments_become_controls() {
    let secs = Duration::from_secs;
    let record = |action| Control::ChangeRecording(action);
    let profile = || word("default");
    for (name, arguments, control) in [
        ("pbx_hold", json!({}), Control::Hold),
        ("pbx_hold", json!({ "seconds": null }), Control::Hold),
        ("pbx_resume", json!({}), Control::Resume),
        ("pbx_park", json!({}), Control::Park),
        (
            "pbx_valet_park",
            json!({ "lot": "lot1" }),
            Control::ValetPark {
                lot: word("lot1"),
                slot: ValetSlot::Range { first: 5001, last: 5099 },
            },
        ),
        (
            "pbx_send_digits",
            json!({ "digits": "1w#", "milliseconds": 80.0 }),
            Control::SendDigits {
                digits: Digits::new("1w#").unwrap(),
                duration: Some(Duration::from_millis(80)),
            },
        ),
        (
            "pbx_play",
            json!({ "sound": "music" }),
            Control::Play(Playable::File(path("local_stream://moh"))),
        ),
        ("pbx_stop_playing", json!({}), Control::StopPlaying),
        (
            "pbx_say",
            json!({ "text": "Hello ${x}" }),
            Control::Play(Playable::Speak {
                engine: word("flite"),
                voice: word("slt"),
                text: Text::new("Hello $ {x}").unwrap(),
            }),
        ),
        ("pbx_mute", json!({ "who": "caller" }), Control::Mute(Direction::Read)),
        ("pbx_mute", json!({ "who": "agent" }), Control::Mute(Direction::Write)),
        ("pbx_unmute", json!({}), Control::Unmute),
        (
            "pbx_record",
            json!({ "action": "start" }),
            Control::Record { path: path("/rec/call_1-1.wav"), limit: Some(secs(3600)) },
        ),
        ("pbx_record", json!({ "action": "stop" }), record(RecordAction::Stop)),
        ("pbx_record", json!({ "action": "pause" }), record(RecordAction::Pause)),
        ("pbx_record", json!({ "action": "resume" }), record(RecordAction::Resume)),
        ("pbx_record", json!({ "action": "mask" }), record(RecordAction::Mask)),
        ("pbx_record", json!({ "action": "unmask" }), record(RecordAction::Unmask)),
        (
            "pbx_set_variable",
            json!({ "name": "agent_x", "value": "a\n${b}" }),
            Control::SetVariable {
                name: VariableName::new("agent_x").unwrap(),
                value: VariableValue::new("a\n$ {b}").unwrap(),
            },
        ),
        (
            "pbx_get_variable",
            json!({ "name": "agent_x" }),
            Control::GetVariable(VariableName::new("agent_x").unwrap()),
        ),
        (
            "pbx_conference",
            json!({ "room": "sales" }),
            Control::JoinConference { conference: word("sales"), profile: profile() },
        ),
        (
            "pbx_three_way",
            json!({ "department": "billing" }),
            Control::ThreeWay {
                conference: word("tandem-x"),
                profile: profile(),
                third: DialString::new("user/1001").unwrap(),
                timeout: secs(25),
            },
        ),
        (
            "pbx_supervise",
            json!({}),
            Control::Eavesdrop(ListenerCall {
                dial: DialString::new("user/1000").unwrap(),
                timeout: SUPERVISOR_RINGS,
                mode: EavesdropMode::Barge,
            }),
        ),
        (
            "pbx_gateway_status",
            json!({ "gateway": "trunk1" }),
            Control::GatewayStatus(word("trunk1")),
        ),
    ] {
        let planned = read(name, arguments.clone()).map_err(|error| error.to_string());
        assert_eq!(planned.map(|planned| planned.control), Ok(control), "{name} {arguments}");
    }
}

#[test]
fn what_can_not_be_done_is_told_in_words() {
    for (name, arguments, expected) in [
        ("pbx_hold", json!({ "seconds": 0 }), "seconds must lie between 1 and 300"),
        ("pbx_hold", json!({ "seconds": 1e9 }), "seconds must lie between 1 and 300"),
        (
            "pbx_hold",
            json!({ "seconds": "long" }),
            "wrong arguments: invalid type: string \"long\", expected f64",
        ),
        (
            "pbx_resume",
            json!({ "now": true }),
            "wrong arguments: unknown field `now`, there are no fields",
        ),
        ("pbx_send_digits", json!({}), "wrong arguments: missing field `digits`"),
        ("pbx_send_digits", json!({ "digits": "12x" }), "the digits holds 'x' at byte 2"),
        (
            "pbx_send_digits",
            json!({ "digits": "1", "milliseconds": 9999 }),
            "milliseconds must lie between 40 and 2000",
        ),
        (
            "pbx_play",
            json!({ "sound": "/etc/passwd" }),
            "there is no sound \"/etc/passwd\"; there are: music",
        ),
        (
            "pbx_valet_park",
            json!({ "lot": "x", }),
            "there is no parking lot \"x\"; there are: lot1",
        ),
        (
            "pbx_conference",
            json!({ "room": "board" }),
            "there is no room \"board\"; there are: support, sales",
        ),
        (
            "pbx_gateway_status",
            json!({ "gateway": "t" }),
            "there is no gateway \"t\"; there are: trunk1",
        ),
        ("pbx_say", json!({ "text": "" }), "the text is empty"),
        (
            "pbx_say",
            json!({ "text": "x".repeat(1_001) }),
            "the text has 1001 bytes; 1000 are the limit",
        ),
        (
            "pbx_mute",
            json!({ "who": "all" }),
            "wrong arguments: unknown variant `all`, expected `caller` or `agent`",
        ),
        (
            "pbx_set_variable",
            json!({ "name": "sip_h_X-A", "value": "1" }),
            "this agent may only use variables that begin with \"agent_\"",
        ),
        (
            "pbx_get_variable",
            json!({ "name": "agent_" }),
            "this agent may only use variables that begin with \"agent_\"",
        ),
        (
            "pbx_set_variable",
            json!({ "name": "agent_a=b", "value": "1" }),
            "the variable's name holds '=' at byte 7",
        ),
        (
            "pbx_set_variable",
            json!({ "name": "agent_a", "value": "x".repeat(1_001) }),
            "the value has 1001 bytes; 1000 are the limit",
        ),
        ("pbx_three_way", json!({}), "nobody is configured who could be called"),
        (
            "pbx_three_way",
            json!({ "department": "queue" }),
            "a target of type queue takes the caller over, it can't be called in",
        ),
    ] {
        let error = read(name, arguments.clone()).map(|planned| planned.control).unwrap_err();
        assert_eq!(error.to_string(), expected, "{name} {arguments}");
    }
    for (name, arguments) in [
        ("pbx_say", json!({ "text": "a" })),
        ("pbx_record", json!({ "action": "start" })),
        ("pbx_supervise", json!({})),
    ] {
        let error = read_with(&SwitchTools::default(), name, arguments).unwrap_err();
        assert!(matches!(error, AskedError::NotConfigured(_)), "{name}: {error}");
    }
}

#[test]
fn hold_and_mute_end_by_themselves() {
    let begins = |name, arguments| read(name, arguments).unwrap().begins;
    assert_eq!(begins("pbx_hold", json!({})), Some((Spell::Hold, Duration::from_secs(60))));
    let mute = json!({ "who": "caller", "seconds": 5 });
    let caller = Spell::Mute(Direction::Read);
    assert_eq!(begins("pbx_mute", mute), Some((caller, Duration::from_secs(5))));
    assert_eq!(caller.end(), Control::EndMute(Direction::Read));
    assert_eq!(read("pbx_resume", json!({})).unwrap().ends, [Spell::Hold]);
    let agent = Spell::Mute(Direction::Write);
    assert_eq!(read("pbx_unmute", json!({})).unwrap().ends, [caller, agent]);
}
