mod audio;
mod freeswitch;
mod switch_tools;
mod tools;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use secrecy::ExposeSecret;
use tandem_call::{Greeting, LateResults, TransferKind, TransferTarget};
use tandem_media::Codec;
use tandem_models::{TurnDetection, capabilities};

use super::*;
use crate::routing::{Reason, route};

fn read_with(text: &str, variables: &[(&str, &str)]) -> (Option<Config>, Findings) {
    let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
    Config::read(Path::new("t.toml"), text, &|name| {
        variables.get(name).map(|value| (*value).to_owned())
    })
}

fn findings(text: &str) -> String {
    read_with(text, &[]).1.to_string()
}

fn good(text: &str) -> Config {
    let (config, findings) = read_with(text, &[("OPENAI_API_KEY", "sk-1")]);
    config.unwrap_or_else(|| panic!("{findings}"))
}

#[test]
fn without_a_file_the_attendant_answers_everything_on_loopback() {
    let (config, findings) = read_with("", &[]);
    let config = config.unwrap();
    assert_eq!(findings.mistakes, []);
    let listeners: Vec<String> = config.sip.listen.iter().map(listener_name).collect();
    assert_eq!(listeners, ["udp:127.0.0.1:5060", "tcp:127.0.0.1:5060"]);
    assert!(config.sip.trusted.iter().all(|net| net.addr().is_loopback()));
    assert_eq!(config.agents.keys().collect::<Vec<_>>(), ["attendant"]);
    assert!(config.agents["attendant"].models.is_empty());
    assert_eq!(config.numbers.lines().len(), 1);
    assert_eq!(config.records.path, Path::new("calls.jsonl"));
    assert!(config.media.bind.is_loopback());
}

#[test]
fn a_script_is_checked_and_its_mistakes_are_located() {
    let text = r#"[agents.a.script]
goodbye = "Bye."
silence_seconds = 1
turns = [{ say = "Yes." }, { say = "..." }]
[agents.b.script]
greating = "Hello."
[attendant.script]
greeting = "Hello."
[numbers]
"*" = "a"
"#;
    assert_eq!(
        findings(text),
        "t.toml:3:19: error: `agents.a.script`: silence_seconds: 1 is neither 0 nor within 2 to 600\n\
         t.toml:4:36: error: `agents.a.script`: turns[1].say: there is nothing to say\n\
         t.toml:6:1: error: unknown key `greating` in [agents.b.script]\n    fix: did you mean `greeting`?"
    );
    let config = good(
        "[attendant.script]\ngreeting = \"Hi.\"\n[agents.a]\n[agents.b.script]\ngreeting = \"Yo.\"\n[numbers]\n\"*\" = \"a\"\n",
    );
    assert_eq!(config.agents["a"].script.greeting, "Hi.");
    assert_eq!(config.agents["b"].script.greeting, "Yo.");
    let long = "x".repeat(999);
    let text = format!(
        "[agents.a]\nvariables = {{ long = \"{long}\" }}\n[agents.a.script]\ngoodbye = \"{{{{long}}}} bye.\"\n"
    );
    assert_eq!(
        findings(&text),
        "t.toml:3:11: error: `agents.a.script`, filled in: goodbye: 1004 characters are more than 1000"
    );
}

#[test]
fn rtp_is_bound_where_the_listeners_are() {
    for (listen, bind) in [
        (r#"["udp:127.0.0.1:5060"]"#, "127.0.0.1"),
        (r#"["udp:10.0.0.7:5060", "tcp:10.0.0.7:5060"]"#, "10.0.0.7"),
        (r#"["udp:10.0.0.7:5060", "udp:127.0.0.1:5060"]"#, "0.0.0.0"),
        (r#"["udp:0.0.0.0:5060", "udp:[::]:5060"]"#, "::"),
    ] {
        let config = good(&format!("[sip]\nlisten = {listen}\n"));
        assert_eq!(config.media.bind.to_string(), bind, "{listen}");
    }
    let config = good("[media]\nbind = \"0.0.0.0\"\n");
    assert!(config.media.bind.is_unspecified());
}

#[test]
fn three_lines_are_a_configuration() {
    let config = good(
        "[agents.reception]\nsystem_prompt = \"You answer for Acme.\"\nmodels = [\"openai\"]\n",
    );
    let agent = &config.agents["reception"];
    assert_eq!(agent.models, ["openai"]);
    assert_eq!(agent.display_name, "reception");
    assert_eq!(agent.company, "reception");
    assert_eq!(agent.greeting, Greeting::OwnWords);
    assert_eq!(agent.tools, ["transfer_to_human", "end_call"]);
    assert_eq!(agent.tool_timeout, Duration::from_secs(9));
    assert_eq!(agent.late_results, LateResults::Discard);
    assert_eq!(agent.end_call_drain, Duration::from_secs(2));
    assert_eq!(agent.max_silence, Duration::from_secs(600));
    assert_eq!(agent.max_duration, Duration::from_secs(3600));
    assert_eq!(config.numbers.lines()[0].destination.agent(), Some("reception"));
}

#[test]
fn every_mistake_is_reported_in_the_order_of_the_file() {
    let text = r#"[sip]
listen = ["udp:0.0.0.0:5060", "tls:0.0.0.0:5061"]
trsted = ["10.0.0.0/8"]

[agents.reception]
greting = "Hello"
temperature = 3
tools = ["end_cal", "create_lead", "end_call", "end_call"]
call_screening = "on"
transfer = { type = "extension", target = "2" }
models = ["gemnii"]

[numbers]
"+13055551234" = "recepton"
"1 305 555 1234" = "reception"
"#;
    let expected = r#"t.toml:1:2: warning: other machines can reach the listener but none of them may call
    fix: add your PBX's network to `sip.trusted`, or a user to `sip.users`
t.toml:2:31: error: `sip.listen`: "tls:0.0.0.0:5061" does not begin with udp: or tcp:, as in "udp:0.0.0.0:5060"
t.toml:3:1: error: unknown key `trsted` in [sip]
    fix: did you mean `trusted`?
t.toml:6:1: error: unknown key `greting` in [agents.reception]
    fix: did you mean `greeting`?
t.toml:7:15: error: `agents.reception.temperature` is 3, it must lie between 0.0 and 1.0
t.toml:8:10: error: `agents.reception.tools`: there is no tool "end_cal"
    fix: did you mean "end_call"?
t.toml:8:21: warning: `agents.reception.tools`: "create_lead" has no receiver: its calls are only noted in the call record
    fix: set `tools_webhook_url` here, `webhook_url` in [tools] or `url` in [tools.create_lead]
t.toml:8:48: error: `agents.reception.tools`: "end_call" is listed twice
t.toml:9:1: error: `call_screening` in [agents.reception] is not supported by this version of Tandem
    fix: remove it
t.toml:10:43: error: `agents.reception.transfer.target`: "2" is no extension: 2 to 10 digits
t.toml:11:11: error: `agents.reception.models`: there is no model "gemnii"
    fix: did you mean "gemini"?
t.toml:14:18: error: [numbers]: "+13055551234" leads to "recepton", and there is no such agent
    fix: did you mean "reception"?
t.toml:15:1: error: [numbers]: "1 305 555 1234" and "+13055551234" are the same number
    fix: keep one of the two"#;
    assert_eq!(findings(text), expected);
}

#[test]
fn each_kind_of_mistake_has_its_words() {
    for (text, expected) in [
        (
            "[limits]\nmax_calls = 5 5\n",
            "t.toml:2:13: error: not TOML: string values must be quoted, expected literal string",
        ),
        ("[limits]\n[limits]\n", "t.toml:2:2: error: not TOML: duplicate key"),
        (
            "[agent.a]\n",
            "t.toml:1:2: error: unknown key `agent` in the file\n    fix: did you mean `agents`?",
        ),
        (
            "zzz = 1\n",
            "t.toml:1:1: error: unknown key `zzz` in the file\n    fix: known keys: sip, media, limits, records, recording, freeswitch, models, attendant, tools, mcp, metrics, agents, numbers",
        ),
        (
            "[limits]\nmax_calls = 0\n",
            "t.toml:2:13: error: `limits.max_calls` is 0, it must lie between 1 and 100000",
        ),
        (
            "[limits]\nmax_calls = -1\n",
            "t.toml:2:13: error: `limits.max_calls` is -1, it must lie between 1 and 100000",
        ),
        (
            "[limits]\nmax_calls = \"9\"\n",
            "t.toml:2:13: error: `limits.max_calls` must be a whole number, found a string",
        ),
        ("limits = 3\n", "t.toml:1:10: error: `limits` must be a table, found a whole number"),
        (
            "[media]\nports = \"20000-20009\"\n",
            "t.toml:1:2: error: `media.ports` has room for 5 calls, `limits.max_calls` is 1000\n    fix: give it two ports per call, or lower `limits.max_calls`",
        ),
        (
            "[media]\nports = \"29999-20000\"\n",
            "t.toml:2:9: error: `media.ports`: \"29999-20000\" must begin at 1024 or above and hold an even port and the odd one after it",
        ),
        (
            "[sip]\nlisten = []\n",
            "t.toml:2:10: error: `sip.listen` is empty, nobody could call\n    fix: name an address such as \"udp:0.0.0.0:5060\", or remove the key for 127.0.0.1",
        ),
        (
            "[sip]\nlisten = [\"udp:127.0.0.1\", \"udp:127.0.0.1:5060\"]\n",
            "t.toml:2:28: error: `sip.listen`: udp:127.0.0.1:5060 is listed twice",
        ),
        (
            "[sip]\ntrusted = [\"10.0.0.0/33\"]\n",
            "t.toml:2:12: error: `sip.trusted`: \"10.0.0.0/33\" is no network, as in \"10.0.0.0/8\" or \"192.0.2.7\"",
        ),
        (
            "[sip]\ntrusted = [\"0.0.0.0/0\"]\n",
            "t.toml:2:12: warning: `sip.trusted` lets everybody call without a password\n    fix: list the networks of your PBX and trunks instead",
        ),
        (
            "[sip]\nusers = [{ username = \"pbx\", password = \"hunter2\" }]\n",
            "t.toml:2:10: error: `sip.users`: a user without a password\n    fix: name the environment variable that holds it as `password_env`\nt.toml:2:30: error: `sip.users.password`: a secret must not stand in this file\n    fix: put it into the environment and its variable's name here as `password_env`, or use `password_file`",
        ),
        (
            "[sip]\nusers = [{ username = \"pbx\", password_env = \"NOT_SET\" }]\n",
            "t.toml:2:10: error: `sip.users`: no password for \"pbx\": the environment variable NOT_SET is not set\n    fix: set it, or remove the user",
        ),
        (
            "[sip]\nmin_session_expires_s = 1800\nsession_expires_s = 90\n",
            "t.toml:1:2: error: `sip.min_session_expires_s` is longer than `sip.session_expires_s`\n    fix: make it the same or less",
        ),
        (
            "[sip.refer]\nqueue = \"support@pbx\"\n",
            "t.toml:2:9: error: `sip.refer.queue`: \"support@pbx\" must look like \"sip:{target}@{host}\"",
        ),
        (
            "[models.gemini]\napi_key = \"AIza-very-secret\"\n",
            "t.toml:1:9: warning: [models.gemini] has no key: the environment variable GEMINI_API_KEY is not set\n    fix: until it has one, agents pass it over and the offline attendant answers\nt.toml:2:1: error: `models.gemini.api_key`: a secret must not stand in this file\n    fix: put it into the environment and its variable's name here as `api_key_env`, or use `api_key_file`",
        ),
        (
            "[models.mine]\nmodel = \"x\"\n",
            "t.toml:1:9: error: [models.mine] has no `provider`\n    fix: add one of openai-realtime, gemini-live",
        ),
        (
            "[models.mine]\nprovider = \"gemini\"\napi_key_env = \"AIza-very-secret\"\n",
            "t.toml:2:12: error: `models.mine.provider`: \"gemini\" is no provider: openai-realtime, gemini-live; did you mean \"gemini-live\"?\nt.toml:3:15: error: `models.mine.api_key_env`: names no environment variable (letters, digits and _)",
        ),
        (
            "[models.attendant]\n",
            "t.toml:1:9: error: [models.attendant]: this name belongs to the offline attendant\n    fix: choose another name; the attendant is set up in [attendant]",
        ),
        (
            "[agents.A_1]\n",
            "t.toml:1:9: error: [agents]: \"A_1\" is no agent name: small letters, digits and inner dashes, at most 63",
        ),
        (
            "[agents.a]\n[agents.b]\n",
            "t.toml:1:1: error: there are 2 agents and no [numbers], so no call finds one\n    fix: add [numbers] with lines such as \"+13055551234\" = \"…\" and \"*\" = \"…\"",
        ),
        (
            "[agents.a]\nmax_silence_ms = 500\n",
            "t.toml:2:18: error: `agents.a.max_silence_ms` is 500, it must lie between 10000 and 3600000",
        ),
        (
            "[agents.a]\ntransfer = { type = \"operator\", target = \"any\" }\n",
            "t.toml:2:21: error: `agents.a.transfer.type`: transfers to \"operator\" are not supported by this version of Tandem",
        ),
        (
            "[agents.a]\ntransfer = { target = \"200\" }\n",
            "t.toml:2:1: error: `agents.a.transfer` needs `type` and `target`\n    fix: for example { type = \"extension\", target = \"200\" }",
        ),
        (
            "[numbers]\n",
            "t.toml:1:2: warning: [numbers] is empty, no call is answered\n    fix: add `\"*\" = \"…\"` with the name of an agent",
        ),
        (
            "[numbers]\n\"12?\" = \"attendant\"\n",
            "t.toml:2:1: error: [numbers]: \"12?\" is no number: use one such as \"+13055551234\" or \"200\", a prefix such as \"+1305*\", or \"*\" for all",
        ),
        (
            "[numbers]\n\"*\" = { label = \"x\" }\n",
            "t.toml:2:1: error: [numbers]: \"*\" has no `agent`\n    fix: add `agent = \"…\"` with the name of an agent, or a `route` for the PBX",
        ),
        (
            "[numbers]\n\"*\" = 7\n",
            "t.toml:2:7: error: `numbers.*` must be an agent's name or a table, found a whole number",
        ),
        (
            "[agents.a]\nmodels = [\"openai\"]\n",
            "t.toml:2:11: warning: `agents.a.models`: \"openai\" has no key: the environment variable OPENAI_API_KEY is not set\n    fix: set it, or the offline attendant answers in its place",
        ),
    ] {
        assert_eq!(findings(text), expected, "{text}");
    }
}

/// As many lines as a plan may have; reading or routing in a time that grows with their square would take minutes.
#[test]
fn a_hundred_thousand_numbers_load_and_route() {
    let number = |n: usize| format!("1305{n:07}");
    let mut text = String::from("[agents.a]\n[agents.b]\n[numbers]\n\"*\" = \"b\"\n");
    for n in 0..50_000 {
        text += &format!("\"+{}\" = \"a\"\n\"{}*\" = \"b\"\n", number(2 * n), number(2 * n + 1));
    }
    let last = text.rfind("\"13").unwrap();
    text.truncate(last); // Makes room for "*".
    let config = good(&text);
    assert_eq!(config.numbers.lines().len(), 100_000);
    for n in (0..99_999).step_by(7) {
        let (called, agent, reason) = if n % 2 == 0 {
            (number(n), "a", Reason::Exact)
        } else {
            (format!("{}99", number(n)), "b", Reason::Prefix)
        };
        let route = route(&config, &called).unwrap();
        assert_eq!((&*route.agent.agent_id, route.reason), (agent, reason), "{called}");
    }
    assert_eq!(route(&config, "4930").unwrap().reason, Reason::CatchAll);
    let line = route(&config, &number(3)).unwrap().number.line;
    assert_eq!(text.lines().nth(line - 1), Some("\"13050000003*\" = \"b\""));
}

#[test]
fn as_many_mistakes_as_there_are_numbers_are_all_located() {
    let mut text = String::from("[agents.reception]\n[numbers]\n");
    for n in 0..20_000 {
        text += &format!("\"{n}\" = \"recepton\"\n");
    }
    let (config, findings) = read_with(&text, &[]);
    assert!(config.is_none());
    let places: Vec<(usize, usize)> =
        findings.mistakes.iter().map(|mistake| (mistake.line, mistake.column)).collect();
    let expected: Vec<(usize, usize)> =
        (0..20_000).map(|n| (n + 3, n.to_string().len() + 6)).collect();
    assert_eq!(places, expected);
}

#[test]
fn a_transfer_outlasts_every_agent_a_reload_may_bring() {
    for seconds in [5, 30, 300] {
        let config = good(&format!("[agents.a]\ntransfer_timeout_s = {seconds}\n"));
        assert_eq!(config.sip.transfer_timeout, Duration::from_secs(300));
        assert!(config.agents["a"].transfer_timeout <= config.sip.transfer_timeout);
    }
}

#[test]
fn no_finding_repeats_a_secret() {
    for text in [
        "[models.gemini]\napi_key = \"s3cret\"\n",
        "[models.gemini]\napi_key_env = \"s3cret-key\"\n",
        "[models.gemini]\napi_key = { value = \"s3cret\" }\n",
        "[models.gemini]\nbase_url = \"wss://me:s3cret@host\"\n",
        "[sip]\nusers = [{ username = \"a\", password = \"s3cret\" }]\n",
        "[sip]\nusers = [\"a:s3cret\"]\n",
        "[models.gemini]\napi_key = s3cret\n",
        "[freeswitch]\ntoken = \"s3cret-and-long-enough\"\n",
        "[freeswitch]\ntoken_env = \"s3cret-and-long-enough\"\n",
        "[freeswitch]\nuser = { username = \"a\", password = \"s3cret\" }\n",
        "[freeswitch]\nuser = \"a:s3cret\"\n",
        "[freeswitch]\nuser = { username = \"a:s3 cret\", password_env = \"s3cret!\" }\n",
        "[freeswitch.switches.a]\naddress = \"b\"\npassword = \"s3cret\"\n",
        "[freeswitch]\nurl = \"ws://me:s3cret@host:8090\"\n",
    ] {
        let findings = findings(text);
        assert!(findings.contains("error"), "{text}");
        assert!(!findings.contains("s3cret"), "{findings}");
    }
}

#[test]
fn keys_come_from_the_environment_or_a_file_and_print_redacted() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("key"), "from-file\n").unwrap();
    let text =
        "[models.openai]\n[models.other]\nprovider = \"gemini-live\"\napi_key_file = \"key\"\n";
    let (config, findings) = Config::read(&directory.path().join("t.toml"), text, &|name| {
        (name == "OPENAI_API_KEY").then(|| " from-env ".into())
    });
    let config = config.unwrap();
    assert_eq!(findings.mistakes, []);
    for (name, key) in [("openai", "from-env"), ("other", "from-file")] {
        let found = config.models[name].usable().unwrap();
        assert_eq!(found.api_key.expose_secret(), key, "{name}");
    }
    assert!(config.models["gemini"].usable().is_none());
    let printed = format!("{config:?}");
    assert!(!printed.contains("from-env") && !printed.contains("from-file"));
}

#[test]
fn turns_are_found_by_the_vendor_or_by_us() {
    for (provider, found, known) in [
        ("openai-realtime", "silence", TurnDetection::Silence),
        ("openai-realtime", "semantic", TurnDetection::Semantic),
        ("openai-realtime", "local", TurnDetection::Local),
        ("gemini-live", "local", TurnDetection::Local),
    ] {
        let text = format!(
            "[models.m]\nprovider = {provider:?}\n[models.m.options]\nturn_detection = {found:?}\nsilence_duration_ms = 700\n"
        );
        let settings = &good(&text).models["m"].settings;
        assert_eq!(settings.options.turn_detection, known, "{text}");
        let able = capabilities(settings);
        let local = known == TurnDetection::Local;
        assert_eq!((able.detects_turns, able.turn_pause.as_millis()), (!local, 700), "{text}");
    }
    let wrong = findings("[models.openai.options]\nturn_detection = \"client\"\n");
    assert!(wrong.contains("it is silence, semantic or local"), "{wrong}");
}

#[test]
fn an_agent_says_how_it_takes_being_spoken_over() {
    let agent = |text: &str| good(&format!("[agents.a]\n{text}")).agents["a"].clone();
    let plain = agent("").interruption;
    assert_eq!(plain, tandem_call::Interruption::default());
    assert_eq!(plain.patience().map(|patience| patience.as_millis()), Some(300));
    let set = agent(
        "interruption_sensitivity = 0\nreversible_barge_in = false\nlistening_words = [\"Aha\"]",
    );
    assert_eq!(set.interruption.patience(), None);
    assert!(!set.interruption.reversible);
    assert_eq!(set.interruption.listening_words, ["aha"]);
    let spec = set.spec(None, &BTreeMap::new());
    assert_eq!(spec.interruption, set.interruption);
    for (text, mistake) in [
        ("interruption_sensitivity = 1.5", "interruption_sensitivity"),
        ("listening_words = [\"two words\"]", "must be one word"),
        ("listening_words = [\"\"]", "must be a word"),
        ("reversible_barge_in = 1", "reversible_barge_in"),
    ] {
        let found = findings(&format!("[agents.a]\n{text}"));
        assert!(found.contains(mistake), "{text}: {found}");
    }
}

#[test]
fn a_model_without_a_key_is_passed_over() {
    let text =
        "[models.mine]\nprovider = \"gemini-live\"\n[agents.a]\nmodels = [\"mine\", \"openai\"]\n";
    let agent = good(text).agents.remove("a").unwrap();
    assert_eq!(agent.models, ["openai"]);
    assert_eq!(agent.models_without_key, ["mine"]);
}

#[test]
fn a_file_that_is_not_there_is_a_clear_error() {
    let error = Config::load(Some(Path::new("/nowhere/t.toml"))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/nowhere/t.toml: there is no such file; name another with -c, or start from tandem.example.toml"
    );
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("t.toml");
    fs::write(&file, b"a = \"\xFF\"").unwrap();
    let error = Config::load(Some(&file)).unwrap_err().to_string();
    assert!(error.ends_with("t.toml: not UTF-8 text at byte 5"), "{error}");
}

#[test]
fn the_speak_first_and_greeting_keys_together() {
    for (keys, greeting) in [
        ("", Greeting::OwnWords),
        ("speak_first = false", Greeting::Silent),
        ("greeting = \"Hi\"", Greeting::Exactly("Hi".into())),
        ("greeting = \"\"", Greeting::Silent),
        ("greeting = \"Hi\"\nspeak_first = false", Greeting::Silent),
    ] {
        let config = good(&format!("[agents.a]\n{keys}\n"));
        assert_eq!(config.agents["a"].greeting, greeting, "{keys}");
    }
}

#[test]
fn relative_paths_start_from_the_files_directory() {
    let (config, _) = Config::read(
        Path::new("/etc/tandem/t.toml"),
        "[records]\npath = \"records/calls.jsonl\"\n",
        &|_| None,
    );
    assert_eq!(config.unwrap().records.path, Path::new("/etc/tandem/records/calls.jsonl"));
}

/// The example names every key with the value it has by default or one that differs from it on purpose.
#[test]
fn the_example_file_is_understood_and_names_every_key() {
    let text = include_str!("../../../../tandem.example.toml");
    let set = [
        ("OPENAI_API_KEY", "a"),
        ("GEMINI_API_KEY", "b"),
        ("TANDEM_PBX_PASSWORD", "c"),
        ("TANDEM_FORK_PASSWORD", "d"),
        ("FREESWITCH_PASSWORD", "e"),
        ("TANDEM_TOOLS_KEY", "f"),
        ("STOCK_KEY", "g"),
        ("CRM_MCP_KEY", "h"),
        ("FILES_TOKEN", "i"),
    ];
    let (config, findings) = read_with(text, &set);
    assert_eq!(findings.to_string(), "");
    let config = config.unwrap();

    assert_eq!(config.sip.listen.len(), 2);
    assert_eq!(config.sip.advertised, Some("203.0.113.20".parse().unwrap()));
    assert_eq!(config.sip.users[0].username, "pbx");
    let opus = Codec::Opus(tandem_media::SampleRate::Hz48000);
    assert_eq!(config.sip.codecs, [Codec::PCMU, Codec::PCMA, Codec::G722, opus]);
    assert_eq!(
        config.sip.refer_templates,
        [(TransferKind::Queue, "sip:queue-{target}@{host}".to_owned())]
    );
    assert_eq!(config.sip.listen[0].addr, SocketAddr::from(([0, 0, 0, 0], 5060)));
    let agent = &config.agents["reception"];
    assert_eq!(agent.models, ["gemini", "openai"]);
    assert_eq!(agent.departments["sales"], TransferTarget::new(TransferKind::Queue, "sales"));
    assert_eq!(agent.max_concurrent_calls, Some(50));
    assert!(!config.agents["after-hours"].enabled);
    assert_eq!(config.numbers.lines().len(), 6);
    let freeswitch = config.freeswitch.unwrap();
    assert_eq!(freeswitch.user.unwrap().0, "freeswitch");
    assert_eq!(freeswitch.fallback.as_deref(), Some("2000 XML default"));
    assert_eq!(freeswitch.transfer.gateway.as_deref(), Some("trunk1"));
    assert_eq!(freeswitch.switches[0].password.expose_secret(), "e");

    let tools = agent.spec(None, &BTreeMap::new()).tools;
    assert_eq!(tools[3].declaration.name, "check_stock");
    assert_eq!(*tools[3].redacted, ["/customer"]);
    assert_eq!(config.mcp.keys().collect::<Vec<_>>(), ["crm", "files"]);
    assert_eq!(config.metrics.unwrap().listen, SocketAddr::from(([127, 0, 0, 1], 9464)));

    for (section, keys) in KEYS {
        for key in *keys {
            let found = text.contains(&format!("{key} = ")) || text.contains(&format!(".{key}]"));
            assert!(found, "[{section}] {key}");
        }
    }
}

#[test]
fn a_broken_file_is_an_error_and_never_a_panic() {
    let text = include_str!("../../../../tandem.example.toml");
    let lines: Vec<&str> = text.lines().collect();
    for missing in 0..lines.len() {
        let mut rest = lines.clone();
        rest.remove(missing);
        let _ = findings(&rest.join("\n"));
    }
    for end in (0..text.len()).step_by(23).filter(|end| text.is_char_boundary(*end)) {
        let _ = findings(&text[..end]);
    }
    for (from, to) in [
        ("= ", "= = "),
        ("\"", "'"),
        ("[", "[["),
        ("]", ""),
        ("{", "["),
        ("= \"", "= 7 #"),
        ("e", "\u{0}"),
    ] {
        assert!(findings(&text.replace(from, to)).contains("error"), "{from} {to}");
    }
}

/// Every key there is, by section.
const KEYS: &[(&str, &[&str])] = &[
    (
        "tools",
        &[
            "webhook_url",
            "webhook_key_env",
            "webhook_key_file",
            "allow",
            "ca_file",
            "source",
            "max_in_flight",
            "max_requests",
            "normalize_dates",
            "time_zone",
            "default_transfer",
            "description",
            "url",
            "method",
            "headers",
            "key_env",
            "body_format",
            "timeout_ms",
            "mode",
            "filler",
            "filler_after_ms",
            "interruptible",
            "redact",
            "result_schema",
            "parameters",
            "parameters_file",
        ],
    ),
    ("mcp", &["url", "command", "env", "key_env", "headers", "timeout_ms", "tools", "prefix"]),
    ("metrics", &["listen", "token_env"]),
    (
        "sip",
        &[
            "listen",
            "advertised",
            "trusted",
            "users",
            "username",
            "password_env",
            "password_file",
            "realm",
            "codecs",
            "session_expires_s",
            "min_session_expires_s",
            "refer",
            "transfer",
            "announcement",
            "accept",
            "max_unacked",
            "max_unacked_per_source",
            "max_connections",
            "requests_per_second",
            "request_burst",
            "codec_preference",
            "ring_timeout_s",
            "retry_after_s",
        ],
    ),
    ("media", &["bind", "address", "ports", "timeout_s", "workers", "srtp", "srtp_best_effort"]),
    (
        "freeswitch",
        &[
            "listen",
            "url",
            "prefix",
            "module",
            "user",
            "username",
            "password_env",
            "password_file",
            "token_env",
            "open_to_loopback",
            "outbound",
            "outbound_allowed",
            "rate",
            "variables",
            "fallback",
            "stream_clear",
            "transfer",
            "extension",
            "queue",
            "ringgroup",
            "ivr",
            "voicemail",
            "conference",
            "external",
            "sip",
            "domain",
            "context",
            "gateway",
            "profile",
            "ring_timeout_s",
            "ringback",
            "hold_music",
            "announcement",
            "tools",
            "sounds",
            "lots",
            "rooms",
            "conference_profile",
            "recordings",
            "recording_limit_s",
            "speech",
            "supervisor",
            "supervisor_mode",
            "gateways",
            "main",
            "address",
            "user",
        ],
    ),
    ("limits", &["max_calls", "answer_after_ms", "drain_s"]),
    ("records", &["path"]),
    (
        "recording",
        &[
            "mode",
            "path",
            "format",
            "sample_rate_hz",
            "channels",
            "retention_days",
            "consent",
            "begin",
            "key_env",
            "key_file",
            "min_free_mb",
        ],
    ),
    ("attendant", &["engines", "flite_voice", "cache_dir", "cache_bytes", "script"]),
    (
        "models",
        &[
            "provider",
            "model",
            "base_url",
            "api_key_env",
            "api_key_file",
            "handshake_timeout_ms",
            "options",
            "thinking_level",
            "silence_duration_ms",
            "turn_detection",
            "transcription_model",
            "api_version",
            "ca_file",
            "prefix_padding_ms",
            "vad_threshold",
            "server_interrupts",
        ],
    ),
    (
        "agents",
        &[
            "display_name",
            "company",
            "role",
            "language",
            "models",
            "voice",
            "system_prompt",
            "speak_first",
            "greeting",
            "temperature",
            "tools",
            "mcp",
            "tools_webhook_url",
            "tools_webhook_key_env",
            "tool_timeout_ms",
            "noted_text",
            "trouble_text",
            "voicemail_message",
            "late_results",
            "transfer",
            "departments",
            "transfer_timeout_s",
            "end_call_drain_ms",
            "end_call_cancel_on_speech",
            "interruption_sensitivity",
            "reversible_barge_in",
            "listening_words",
            "max_silence_ms",
            "max_duration_s",
            "max_concurrent_calls",
            "srtp",
            "recording",
            "transcription",
            "variables",
            "script",
            "status",
        ],
    ),
    ("numbers", &["agent", "route", "label", "ai_transfer", "status"]),
];
