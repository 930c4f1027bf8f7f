use proptest::prelude::*;
use tandem_call::HangupCause;
use tandem_media::SampleRate;

use super::{line::tests::split, *};
use crate::captures::{self, Block};

const UUID: &str = "5e551000-0000-4000-8000-000000000021";

fn uuid() -> ChannelUuid {
    ChannelUuid::new(UUID).unwrap()
}

fn word(text: &str) -> Word {
    Word::new(text).unwrap()
}

fn bytes(command: &SwitchCommand) -> String {
    command.check().unwrap();
    let mut out = Vec::new();
    command.write(&ChannelUuid::from_random(1), &mut out);
    String::from_utf8(out).unwrap()
}

fn fork(module: ForkModule, bug: Option<&str>) -> ForkName {
    ForkName { uuid: uuid(), module, bug: bug.map(word) }
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(VariableName, VariableValue)> {
    pairs
        .iter()
        .map(|(n, v)| (VariableName::new(n).unwrap(), VariableValue::new(v).unwrap()))
        .collect()
}

#[test]
fn commands_as_they_go_over_the_wire() {
    use SwitchCommand as C;
    let app = |name: &str, args: &str| Application::new(name, args).unwrap();
    let listener = || {
        let dial = DialString::new("sofia/gateway/t/1000").unwrap();
        Originate::parked(ChannelUuid::from_random(2), dial, Duration::from_secs(30))
    };
    let eavesdrop =
        |mode| C::Eavesdrop(Box::new(Eavesdrop { uuid: uuid(), listener: listener(), mode }));
    let text = |text: &str| Text::new(text).unwrap();
    for (command, line) in [
        (C::Answer { uuid: uuid() }, "api uuid_answer U"),
        (C::PreAnswer { uuid: uuid() }, "api uuid_pre_answer U"),
        (C::RingReady { uuid: uuid() }, "api uuid_ring_ready U"),
        (
            C::HangUp { uuid: uuid(), cause: HangupCause::UserBusy.into() },
            "api uuid_kill U USER_BUSY",
        ),
        (
            C::Transfer {
                uuid: uuid(),
                leg: TransferLeg::Partner,
                to: Extension::new("1000", "default").unwrap(),
            },
            "api uuid_transfer U -bleg 1000 XML default",
        ),
        (
            C::TransferInline {
                uuid: uuid(),
                leg: TransferLeg::Own,
                actions: vec![
                    app("set", "a=1,b='2' \\ x"),
                    app("callcenter", "support"),
                    app("park", ""),
                ],
            },
            r"api uuid_transfer U 'set:a=1\\,b=\\\'2\\\' \\\\ x,callcenter:support,park' inline",
        ),
        (
            C::ValetPark { uuid: uuid(), lot: word("lot"), slot: ValetSlot::Slot(word("5901")) },
            "api uuid_transfer U 'valet_park:lot 5901' inline",
        ),
        (
            C::ValetPark {
                uuid: uuid(),
                lot: word("lot"),
                slot: ValetSlot::Range { first: 5001, last: 5099 },
            },
            "api uuid_transfer U 'valet_park:lot auto in 5001 5099' inline",
        ),
        (C::Hold { uuid: uuid() }, "api uuid_hold U"),
        (C::Unhold { uuid: uuid() }, "api uuid_hold off U"),
        (
            C::SendDigits {
                uuid: uuid(),
                digits: Digits::new("12w#").unwrap(),
                duration: Some(Duration::from_millis(200)),
            },
            "api uuid_send_dtmf U 12w#@200",
        ),
        (C::Break { uuid: uuid(), all: true }, "api uuid_break U all"),
        (
            C::Broadcast {
                uuid: uuid(),
                what: Playable::Speak {
                    engine: word("flite"),
                    voice: word("slt"),
                    text: text("it's\n${x} ok"),
                },
                leg: BroadcastLeg::Own,
            },
            r"api uuid_broadcast U 'speak::flite|slt|it\'s $ {x} ok' aleg",
        ),
        (
            C::Broadcast {
                uuid: uuid(),
                what: Playable::Say {
                    language: word("en"),
                    kind: word("number"),
                    method: word("pronounced"),
                    text: text("42"),
                },
                leg: BroadcastLeg::Both,
            },
            "api uuid_broadcast U 'say::en number pronounced 42' both",
        ),
        (
            C::Broadcast {
                uuid: uuid(),
                what: Playable::File(
                    MediaPath::new("tone_stream://%(200,100,440);loops=2").unwrap(),
                ),
                leg: BroadcastLeg::Partner,
            },
            "api uuid_broadcast U tone_stream://%(200,100,440);loops=2 bleg",
        ),
        (
            C::Mute { uuid: uuid(), direction: Direction::Read, on: true },
            "api uuid_audio U start read mute 1",
        ),
        (
            C::Mute { uuid: uuid(), direction: Direction::Write, on: false },
            "api uuid_audio U start write mute 0",
        ),
        (C::Unmute { uuid: uuid() }, "api uuid_audio U stop"),
        (
            C::Record {
                uuid: uuid(),
                action: RecordAction::Mask,
                path: MediaPath::new("/rec/a.wav").unwrap(),
            },
            "api uuid_record U mask /rec/a.wav",
        ),
        (
            eavesdrop(EavesdropMode::Listen),
            "bgapi originate {origination_uuid=V,originate_timeout=30,ignore_early_media=true}sofia/gateway/t/1000 &eavesdrop(U)\nJob-UUID: J",
        ),
        (
            eavesdrop(EavesdropMode::Barge),
            "bgapi originate {origination_uuid=V,originate_timeout=30,eavesdrop_whisper_aleg=true,eavesdrop_whisper_bleg=true,ignore_early_media=true}sofia/gateway/t/1000 &eavesdrop(U)\nJob-UUID: J",
        ),
        (
            C::Conference {
                name: word("lab"),
                command: ConferenceCommand::Dial {
                    dial: DialString::new("user/1001").unwrap(),
                    number: word("4930"),
                    name: CallerName::new("Ann O'Hara").unwrap(),
                },
            },
            r"api conference lab bgdial user/1001 4930 'Ann O\'Hara'",
        ),
        (
            C::Conference { name: word("lab"), command: ConferenceCommand::Kick(Member::Id(3)) },
            "api conference lab kick 3",
        ),
        (
            C::ThreeWay { uuid: uuid(), conference: word("three"), profile: word("default") },
            "api uuid_transfer U -both conference:three@default inline",
        ),
        (
            C::Originate(Box::new(
                listener().variable("origination_caller_id_name", "Ann, \"O'Hara\" {x}").unwrap(),
            )),
            r#"bgapi originate '{origination_uuid=V,originate_timeout=30,ignore_early_media=true,origination_caller_id_name=Ann\\, "O\\\\\\\'Hara" (x)}sofia/gateway/t/1000' &park()
Job-UUID: J"#,
        ),
        (
            C::Originate(Box::new(Originate::parked(
                ChannelUuid::from_random(2),
                DialString::new("user/1000@example.net").unwrap(),
                Duration::from_secs(30),
            ))),
            "bgapi originate {tandem_called_by=V,originate_timeout=30,ignore_early_media=true}user/1000@example.net &park()\nJob-UUID: J",
        ),
        (
            C::HangUpCalled {
                leg: ChannelUuid::from_random(2),
                cause: HangupCause::OriginatorCancel.into(),
            },
            "api hupall ORIGINATOR_CANCEL tandem_called_by V",
        ),
        (
            C::AttendedTransferByKeys {
                uuid: uuid(),
                target: DialString::new("user/1001").unwrap(),
            },
            "api uuid_broadcast U att_xfer::user/1001 aleg",
        ),
        (
            C::SetVariables {
                uuid: uuid(),
                variables: variables(&[("tandem_note", " a; it's\r\n\\x ")]),
            },
            r"api uuid_setvar U tandem_note \sa; it\'s  \\x\s",
        ),
        (
            C::SetVariables {
                uuid: uuid(),
                variables: variables(&[("a", "1;2"), ("b", ""), ("c", "it's\none line")]),
            },
            r"api uuid_setvar_multi U a=1\;2;b=;c=it\'s one line",
        ),
        (C::GatewayStatus { gateway: word("trunk1") }, "api sofia status gateway trunk1"),
        (
            C::ForkStop { fork: fork(ForkModule::AudioFork, None), text: None },
            "api uuid_audio_fork U stop",
        ),
        (
            C::ForkStop {
                fork: fork(ForkModule::AudioFork, Some("ai")),
                text: Some(text("{\"bye\": \"a|b\"}")),
            },
            r#"api uuid_audio_fork ^^|U|stop|ai|{"bye": "a\|b"}"#,
        ),
        (
            C::ForkPause { fork: fork(ForkModule::AudioStream, Some("ai")) },
            "api uuid_audio_stream U pause",
        ),
        (
            C::ForkShutdown { fork: fork(ForkModule::AudioFork, Some("ai")) },
            "api uuid_audio_fork U graceful-shutdown ai",
        ),
        (C::StopPlay { uuid: uuid() }, "api uuid_audio_fork U stop_play"),
        (
            C::Deflect { uuid: uuid(), uri: word("sip:1000@10.0.0.5") },
            "bgapi uuid_deflect U sip:1000@10.0.0.5\nJob-UUID: J",
        ),
        (
            C::Execute {
                uuid: uuid(),
                application: app("playback", "a.wav"),
                tag: Some(ChannelUuid::from_random(2)),
                lock: true,
            },
            "sendmsg U\ncall-command: execute\nexecute-app-name: playback\nexecute-app-arg: a.wav\nevent-uuid: V\nevent-lock: true",
        ),
        (C::Version, "api version"),
        (
            C::MailboxExists {
                uuid: uuid(),
                mailbox: word("1001"),
                domain: AppArgs::with_variables("${domain}").unwrap(),
            },
            "api expand uuid:U user_exists id:number-alias 1001 ${domain}",
        ),
        (C::Menus, "api xml_locate configuration configuration name ivr.conf"),
        (
            C::Raw(RawCommand::new("callcenter_config queue list").unwrap()),
            "api callcenter_config queue list",
        ),
    ] {
        let line = line.replace('U', "\u{1}").replace('V', "\u{2}").replace('J', "\u{3}");
        // Letters that stand for names stand alone; those within words are given back.
        let line = line
            .replace("\u{1}SER_B\u{1}SY", "USER_BUSY")
            .replace("\u{3}ob-\u{1}\u{1}ID", "Job-UUID")
            .replace('\u{1}', UUID)
            .replace('\u{2}', ChannelUuid::from_random(2).as_str())
            .replace('\u{3}', ChannelUuid::from_random(1).as_str());
        assert_eq!(bytes(&command), format!("{line}\n\n"));
    }
}

#[test]
fn a_fork_is_started_by_the_recipe_that_survives_the_switch() {
    let metadata = serde_json::json!({"did": "4930123456", "note": "it's \"ok\" | a\\b\nc"});
    let start = |module, back| {
        SwitchCommand::ForkStart(Box::new(ForkStart {
            fork: fork(module, Some("ai")),
            url: ForkUrl::new("wss://voice.example.net/fs/J?token=a.b").unwrap(),
            mix: Mix::Mono,
            rate: SampleRate::Hz16000,
            metadata: Some(Metadata::new(metadata.as_object().unwrap()).unwrap()),
            back,
        }))
    };
    let json = r#"'{"did":"4930123456","note":"it\u0027s \u0022ok\u0022 \u007c a\u005cb\u000ac"}'"#;
    for (command, line) in [
        (
            start(ForkModule::AudioForkBidirectional, Some(SampleRate::Hz24000)),
            format!(
                "api uuid_audio_fork ^^|{UUID}|start|wss://voice.example.net/fs/J?token=a.b|mono|16000|ai|{json}|true|true|24000"
            ),
        ),
        (
            start(ForkModule::AudioForkBidirectional, None),
            format!(
                "api uuid_audio_fork ^^|{UUID}|start|wss://voice.example.net/fs/J?token=a.b|mono|16000|ai|{json}|true|false|16000"
            ),
        ),
        (
            start(ForkModule::AudioFork, None),
            format!(
                "api uuid_audio_fork ^^|{UUID}|start|wss://voice.example.net/fs/J?token=a.b|mono|16000|ai|{json}"
            ),
        ),
        (
            start(ForkModule::AudioStream, None),
            format!(
                "api uuid_audio_stream ^^|{UUID}|start|wss://voice.example.net/fs/J?token=a.b|mono|16000|{json}"
            ),
        ),
    ] {
        assert_eq!(bytes(&command), format!("{line}\n\n"));
        let arguments = line.split_once(" ^^").map(|(_, rest)| format!("^^{rest}")).unwrap();
        let parts = split(&arguments, ' ', 10);
        let text = parts.iter().find(|part| part.starts_with('{')).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(text).unwrap(), metadata);
        assert!(!format!("{command:?}").contains("token"), "a URL's query is a secret");
    }
    for (url, why) in [
        ("http://h/x", "the fork's URL begins neither with ws:// nor with wss://"),
        ("ws://h?x", "the fork's URL has a query without a \"/\" before it"),
        ("ws://[::1]/x", "the fork's URL has a host the modules can't read"),
        ("ws://u@h/x", "the fork's URL has a host the modules can't read"),
        ("ws://h/a|b", "the fork's URL holds '|' at byte 8"),
        ("ws://h/a\r\n", "the fork's URL holds '\\r' at byte 8"),
    ] {
        assert_eq!(ForkUrl::new(url).unwrap_err().to_string(), why);
    }
    let long = serde_json::json!({"x": "y".repeat(9000)});
    assert!(matches!(Metadata::new(long.as_object().unwrap()), Err(CommandError::TooLong { .. })));
}

#[test]
fn raw_commands_only_ask() {
    for good in [
        "status",
        "fifo list",
        "callcenter_config queue list agents q",
        "sofia status profile internal",
    ] {
        RawCommand::new(good).unwrap();
    }
    for bad in [
        "system reboot",
        "",
        "bgapi status",
        "sofia profile internal stop",
        "show ${system(x)}",
        "status\nx",
        "lua x",
        "statusx",
    ] {
        RawCommand::new(bad).unwrap_err();
    }
}

#[test]
fn lists_are_bounded() {
    let many = |count: usize| SwitchCommand::SetVariables {
        uuid: uuid(),
        variables: (0..count)
            .map(|n| {
                (VariableName::new(&format!("v{n}")).unwrap(), VariableValue::new("x").unwrap())
            })
            .collect(),
    };
    assert!(many(64).check().is_ok());
    assert_eq!(many(65).check().unwrap_err().to_string(), "65 variables; 64 are the limit");
    assert_eq!(many(0).check().unwrap_err().to_string(), "the list of variables is empty");
    let value = VariableValue::new(&"x".repeat(VariableValue::LIMIT)).unwrap();
    let heavy = vec![(VariableName::new("v").unwrap(), value); 9];
    assert!(SwitchCommand::SetVariables { uuid: uuid(), variables: heavy }.check().is_err());
}

/// The typed command of a recorded line, where there is one for it.
pub(crate) fn typed(line: &str) -> Option<SwitchCommand> {
    use SwitchCommand as C;
    if line.starts_with("sendmsg") {
        return executed(line);
    }
    let words: Vec<&str> = line.split(' ').collect();
    let uuid = |n: usize| words.get(n).and_then(|uuid| ChannelUuid::new(uuid).ok());
    let fork_of = |api: &str, n: usize| ForkName {
        uuid: uuid(2).unwrap(),
        module: if api == "uuid_audio_stream" {
            ForkModule::AudioStream
        } else {
            ForkModule::AudioFork
        },
        bug: words.get(n).map(|bug| word(bug)),
    };
    let to = |n: usize| Extension {
        number: word(words[n]),
        dialplan: words.get(n + 1).map(|w| word(w)),
        context: words.get(n + 2).map(|w| word(w)),
    };
    Some(match words[..] {
        ["api", "uuid_exists", _] => C::Exists { uuid: uuid(2)? },
        ["api", "uuid_getvar", _, name] => {
            C::GetVariable { uuid: uuid(2)?, name: VariableName::new(name).unwrap() }
        }
        ["api", "uuid_setvar", _, name, ..] => C::SetVariables {
            uuid: uuid(2)?,
            variables: variables(&[(name, &words[4..].join(" "))]),
        },
        ["api", "uuid_setvar_multi", _, "a=1;b=2"] => {
            C::SetVariables { uuid: uuid(2)?, variables: variables(&[("a", "1"), ("b", "2")]) }
        }
        ["api", "uuid_dump", _, "json"] => C::Dump { uuid: uuid(2)? },
        ["api", "uuid_buglist", _] => C::BugList { uuid: uuid(2)? },
        ["api", "uuid_send_dtmf", _, digits] => {
            C::SendDigits { uuid: uuid(2)?, digits: Digits::new(digits).unwrap(), duration: None }
        }
        ["api", "uuid_recv_dtmf", _, digits] => {
            C::ReceiveDigits { uuid: uuid(2)?, digits: Digits::new(digits).unwrap() }
        }
        ["api", "uuid_audio", _, "stop"] => C::Unmute { uuid: uuid(2)? },
        ["api", "uuid_broadcast", _, path, "aleg"] => C::Broadcast {
            uuid: uuid(2)?,
            what: Playable::File(MediaPath::new(path).unwrap()),
            leg: BroadcastLeg::Own,
        },
        ["api", "uuid_break", _] => C::Break { uuid: uuid(2)?, all: false },
        ["api", "uuid_break", _, "all"] => C::Break { uuid: uuid(2)?, all: true },
        ["api", "uuid_record", _, "start", path, limit] => C::Record {
            uuid: uuid(2)?,
            action: RecordAction::Start {
                limit: Some(Duration::from_secs(limit.parse().unwrap())),
            },
            path: MediaPath::new(path).unwrap(),
        },
        ["api", "uuid_record", _, "stop", path] => C::Record {
            uuid: uuid(2)?,
            action: RecordAction::Stop,
            path: MediaPath::new(path).unwrap(),
        },
        ["api", "uuid_kill", _, cause] => {
            C::HangUp { uuid: uuid(2)?, cause: Cause::from_name(cause) }
        }
        ["api", "uuid_transfer", _, app, "inline"] => C::TransferInline {
            uuid: uuid(2)?,
            leg: TransferLeg::Own,
            actions: vec![Application::new(app, "").unwrap()],
        },
        ["api", "uuid_transfer", _, "-both", ..] => {
            C::Transfer { uuid: uuid(2)?, leg: TransferLeg::Both, to: to(4) }
        }
        ["api", "uuid_transfer", _, ..] => {
            C::Transfer { uuid: uuid(2)?, leg: TransferLeg::Own, to: to(3) }
        }
        ["api", "uuid_park", _] => C::Park { uuid: uuid(2)? },
        ["api", "uuid_hold", "off", _] => C::Unhold { uuid: uuid(3)? },
        ["api", "uuid_hold", _] => C::Hold { uuid: uuid(2)? },
        ["api", "uuid_bridge", _, _] => C::Bridge { uuid: uuid(2)?, other: uuid(3)? },
        ["api", "uuid_audio_fork", _, "stop_play"] => C::StopPlay { uuid: uuid(2)? },
        ["api" | "bgapi", api @ ("uuid_audio_fork" | "uuid_audio_stream"), _, verb, ..] => {
            if words.get(4).is_some_and(|word| word.starts_with(['{', '\''])) || words.len() > 5 {
                return None; // With a text: another form of ours.
            }
            let fork = fork_of(api, 4);
            match verb {
                "stop" => C::ForkStop { fork, text: None },
                "pause" => C::ForkPause { fork },
                "resume" => C::ForkResume { fork },
                "graceful-shutdown" => C::ForkShutdown { fork },
                _ => return None,
            }
        }
        ["api", "module_exists", module] => C::ModuleExists { module: word(module) },
        ["api", "version"] => C::Version,
        ["api", "show", "channels", "as", "json"] => C::ShowChannels,
        ["api", "status"] | ["api", "show", ..] | ["api", "sofia", ..] => {
            C::Raw(RawCommand::new(line.strip_prefix("api ").unwrap()).unwrap())
        }
        ["api", "conference", name, "json_list"] => {
            C::Conference { name: word(name), command: ConferenceCommand::List }
        }
        ["api", "conference", name, "mute", "all"] => {
            C::Conference { name: word(name), command: ConferenceCommand::Mute(Member::All) }
        }
        _ => return None,
    })
}

/// An application run by `sendmsg`.
fn executed(line: &str) -> Option<SwitchCommand> {
    let mut lines = line.lines();
    let uuid = ChannelUuid::new(lines.next()?.strip_prefix("sendmsg ")?).ok()?;
    let headers: Vec<_> = lines.map(|line| line.split_once(": ")).collect::<Option<_>>()?;
    let get =
        |wanted: &str| headers.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    if get("call-command") != Some("execute") || get("content-length").is_some() {
        return None;
    }
    let application =
        Application::new(get("execute-app-name")?, get("execute-app-arg").unwrap_or("")).unwrap();
    Some(SwitchCommand::Execute { uuid, application, tag: None, lock: get("event-lock").is_some() })
}

/// What is recorded and is no typed command, by how it begins: the link's own, what needs no word of ours, and errors
/// made on purpose.
const NOT_TYPED: &[&str] = &[
    "auth ",
    "event ",
    "event\n",
    "nixevent ",
    "noevents",
    "filter",
    "log ",
    "nolog",
    "linger",
    "nolinger",
    "divert_events ",
    "getvar ",
    "myevents",
    "sendmsg",
    "sendevent ",
    "connect",
    "exit",
    "bgapi",
    "nosuchcommand",
    "api nosuchapi",
    "api originate",
    "api global_getvar ",
    "api eval ",
    "api expr ",
    "api create_uuid",
    "api strftime",
    "api hostname",
    "api fsctl ",
    "api reload ",
    "api uuid_displace ",
    "api conference ",
    // Without a cause, a leg or an encoding, which ours always name; to nobody; with a level.
    "api uuid_kill",
    "api uuid_broadcast ",
    "api uuid_dump ",
    "api uuid_setvar\n",
    "api uuid_hold 0",
    "api uuid_hold toggle ",
    "api uuid_park 0",
    "api uuid_bridge 0 1",
    "api uuid_audio ",
    // Starts are compared by their arguments; texts go in another form.
    "api uuid_audio_fork",
    "api uuid_audio_stream",
];

#[test]
fn recorded_commands_are_made_byte_by_byte_by_typed_ones() {
    let (mut made, mut names) = (0, std::collections::BTreeSet::new());
    for capture in captures::all() {
        for block in &capture.blocks {
            let Block::Sent(sent) = block else { continue };
            let sent = std::str::from_utf8(sent).unwrap();
            let Some(command) = typed(sent.trim_end_matches('\n')) else {
                let known = NOT_TYPED.iter().any(|start| sent.starts_with(start))
                    || sent.starts_with(|c: char| c.is_ascii_digit());
                assert!(known, "{}: {sent:?}", capture.name);
                continue;
            };
            // The recorded client ran two of them in the background.
            let sent = sent.replace("bgapi uuid_audio_fork", "api uuid_audio_fork");
            assert_eq!(bytes(&command), sent, "{}", capture.name);
            names.insert(command.name());
            made += 1;
        }
    }
    assert!(made > 150, "{made} commands");
    assert!(names.len() >= 24, "{names:?}");
}

#[test]
fn recorded_fork_starts_carry_the_same_arguments() {
    let mut seen = 0;
    for capture in captures::all() {
        for block in &capture.blocks {
            let Block::Sent(sent) = block else { continue };
            let sent = std::str::from_utf8(sent).unwrap().trim_end_matches('\n');
            let Some((api, arguments)) =
                sent.strip_prefix("api uuid_audio_").and_then(|rest| rest.split_once(' '))
            else {
                continue;
            };
            let parts = split(arguments, ' ', if api == "fork" { 10 } else { 6 });
            let [channel, start, url, mix, rate, rest @ ..] = &parts[..] else { continue };
            let (Ok(url), Some(rate)) = (
                ForkUrl::new(url),
                rate.replace('k', "000").parse().ok().and_then(SampleRate::from_hz),
            ) else {
                continue;
            };
            let mix = [Mix::Mono, Mix::Mixed, Mix::Stereo].into_iter().find(|m| m.name() == mix);
            let (Some(mix), "start") = (mix, start.as_str()) else { continue };
            let json = rest.iter().find(|part| part.starts_with('{'));
            let Ok(json) =
                json.map(|json| serde_json::from_str::<serde_json::Value>(json)).transpose()
            else {
                continue;
            };
            let back = (rest.len() == 5 && rest[3] == "true")
                .then(|| SampleRate::from_hz(rest[4].parse().unwrap()).unwrap());
            let bug = rest.first().filter(|part| !part.starts_with('{'));
            let module = match (api, back) {
                ("stream", _) => ForkModule::AudioStream,
                (_, Some(_)) => ForkModule::AudioForkBidirectional,
                _ => ForkModule::AudioFork,
            };
            let command = SwitchCommand::ForkStart(Box::new(ForkStart {
                fork: ForkName {
                    uuid: ChannelUuid::new(channel).unwrap(),
                    module,
                    bug: bug.map(|bug| word(bug)),
                },
                url,
                mix,
                rate,
                metadata: json
                    .as_ref()
                    .map(|json| Metadata::new(json.as_object().unwrap()).unwrap()),
                back,
            }));
            let ours = command.line();
            let ours = split(ours.split_once(' ').unwrap().1, ' ', 10);
            assert_eq!(ours[..4], parts[..4], "{}", capture.name);
            assert_eq!(ours[4], rate.hz().to_string());
            let ours_json = ours
                .iter()
                .find(|part| part.starts_with('{'))
                .map(|json| serde_json::from_str(json).unwrap());
            assert_eq!(ours_json, json, "{}", capture.name);
            if let Some(bug) = bug {
                assert_eq!(&ours[5], bug);
            }
            if back.is_some() {
                assert_eq!(ours[7..], rest[2..], "{}", capture.name);
            }
            seen += 1;
        }
    }
    assert!(seen > 80, "{seen} starts");
}

/// Any text at all, in particular what could end a line, a quote or a list.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,40}",
        "[\\r\\n\0a'\"\\\\^|,;={}()$ :!&]{0,12}",
        proptest::collection::vec(any::<char>(), 0..20).prop_map(String::from_iter),
    ]
}

proptest! {
    #[test]
    fn whatever_goes_in_one_command_goes_out(a in any_text(), b in any_text(), n in any::<u32>()) {
        use SwitchCommand as C;
        let mut commands: Vec<C> = Vec::new();
        if let Ok(to) = Word::new(&a) {
            commands.push(C::Transfer { uuid: uuid(), leg: TransferLeg::Own, to: Extension { number: to.clone(), dialplan: None, context: Some(to.clone()) } });
            commands.push(C::GatewayStatus { gateway: to.clone() });
            commands.push(C::Deflect { uuid: uuid(), uri: to.clone() });
            commands.push(C::ValetPark { uuid: uuid(), lot: to.clone(), slot: ValetSlot::Range { first: n, last: n } });
            commands.push(C::ThreeWay { uuid: uuid(), conference: to.clone(), profile: to });
        }
        if let Ok(uuid) = ChannelUuid::new(&a) {
            commands.push(C::Bridge { uuid: uuid.clone(), other: uuid });
        }
        commands.push(C::HangUp { uuid: uuid(), cause: Cause::from_name(&a) });
        if let (Ok(name), Ok(value)) = (VariableName::new(&b), VariableValue::new(&a)) {
            commands.push(C::SetVariables { uuid: uuid(), variables: vec![(name.clone(), value.clone()); 2] });
            commands.push(C::SetVariables { uuid: uuid(), variables: vec![(name, value)] });
        }
        if let Ok(value) = VariableValue::new(&a) {
            let name = VariableName::new("tandem_x").unwrap();
            commands.push(C::SetVariables { uuid: uuid(), variables: vec![(name.clone(), value.clone())] });
            let dial = DialString::new("user/1").unwrap();
            let mut call = Originate::parked(uuid(), dial, Duration::from_secs(u64::from(n)));
            call.variables.push((name, value));
            commands.push(C::Originate(Box::new(call)));
        }
        if let Ok(args) = AppArgs::with_variables(&a) {
            let application = Application { name: Word::new("set").unwrap(), args };
            commands.push(C::TransferInline { uuid: uuid(), leg: TransferLeg::Both, actions: vec![application.clone(), application.clone()] });
            commands.push(C::Broadcast { uuid: uuid(), what: Playable::Application(application.clone()), leg: BroadcastLeg::Own });
            commands.push(C::Execute { uuid: uuid(), application, tag: None, lock: false });
        }
        if let Ok(text) = Text::new(&a) {
            let word = Word::new("x").unwrap();
            commands.push(C::Broadcast { uuid: uuid(), what: Playable::Speak { engine: word.clone(), voice: word, text: text.clone() }, leg: BroadcastLeg::Own });
            commands.push(C::ForkSendText { fork: fork(ForkModule::AudioFork, None), text: text.clone() });
            commands.push(C::ForkStop { fork: fork(ForkModule::AudioStream, None), text: Some(text) });
        }
        if let Ok(path) = MediaPath::new(&a) {
            commands.push(C::Record { uuid: uuid(), action: RecordAction::Stop, path });
        }
        if let Ok(raw) = RawCommand::new(&format!("show {a}")) {
            commands.push(C::Raw(raw));
        }
        if let Ok(target) = DialString::new(&a) {
            commands.push(C::AttendedTransferByKeys { uuid: uuid(), target });
        }
        if let Ok(name) = CallerName::new(&a) {
            let dial = DialString::new("user/1").unwrap();
            commands.push(C::Conference { name: Word::new("c").unwrap(), command: ConferenceCommand::Dial { dial, number: Word::new("1").unwrap(), name } });
        }
        let mut map = serde_json::Map::new();
        map.insert(a.clone(), serde_json::Value::String(b));
        let url = ForkUrl::new(&format!("ws://h/{a}"));
        if let (Ok(metadata), Ok(url)) = (Metadata::new(&map), url.or_else(|_| ForkUrl::new("ws://h/"))) {
            commands.push(C::ForkStart(Box::new(ForkStart {
                fork: fork(ForkModule::AudioForkBidirectional, None), url, mix: Mix::Stereo, rate: SampleRate::Hz8000,
                metadata: Some(metadata), back: Some(SampleRate::Hz8000),
            })));
        }
        for command in commands {
            let bytes = bytes(&command);
            let Some(block) = bytes.strip_suffix("\n\n") else { panic!("no end: {bytes:?}") };
            prop_assert!(!block.contains(['\r', '\0']) && !block.contains("\n\n"), "{:?}", bytes);
            let mut lines = block.split('\n');
            prop_assert!(lines.next().unwrap().contains(' '));
            for line in lines {
                let header = line.split(": ").next().unwrap();
                prop_assert!(
                    ["Job-UUID", "call-command", "execute-app-name", "execute-app-arg", "event-uuid", "event-lock"].contains(&header),
                    "{:?}", bytes
                );
            }
        }
    }

    #[test]
    fn values_reach_the_channel_as_they_were(values in proptest::collection::vec("[^\0]{1,30}", 2..6)) {
        let one_line = |value: &str| value.replace(char::is_control, " ").replace("${", "$ {");
        let pairs: Vec<_> = values.iter().map(|value| ("v", value.as_str())).collect();
        let expected: Vec<String> = values.iter().map(|value| format!("v={}", one_line(value))).collect();
        let many = SwitchCommand::SetVariables { uuid: uuid(), variables: variables(&pairs) }.line();
        let list = many.strip_prefix(&format!("uuid_setvar_multi {UUID} ")).unwrap();
        prop_assert_eq!(split(list, ';', 64), expected.as_slice());
        let one = SwitchCommand::SetVariables { uuid: uuid(), variables: variables(&pairs[..1]) }.line();
        let parts = split(one.strip_prefix("uuid_setvar ").unwrap(), ' ', 3);
        prop_assert_eq!(format!("v={}", parts[2]), expected[0].as_str());
    }
}
