use std::net::SocketAddr;

use secrecy::ExposeSecret;
use tandem_media::SampleRate;
use tandem_streams::Dialect;

use super::*;

#[test]
fn a_bare_freeswitch_section_listens_on_loopback_only() {
    let config = good("[freeswitch]\n");
    assert!(good("").freeswitch.is_none());
    let freeswitch = config.freeswitch.unwrap();
    assert_eq!(freeswitch.listen, ["127.0.0.1:8090".parse::<SocketAddr>().unwrap()]);
    assert_eq!(freeswitch.url, "ws://127.0.0.1:8090");
    assert_eq!(freeswitch.prefix, "/freeswitch");
    assert_eq!(freeswitch.outbound, ["127.0.0.1:8084".parse::<SocketAddr>().unwrap()]);
    assert!(freeswitch.outbound_allowed.iter().all(|net| net.addr().is_loopback()));
    assert!(freeswitch.user.is_none() && freeswitch.token.is_none());
    assert!(!freeswitch.open_to_loopback);
    assert_eq!(freeswitch.module, Dialect::AudioForkBidirectional);
    assert_eq!(freeswitch.rate, None);
    assert_eq!(
        freeswitch.variables,
        ["sip_h_X-*", "sip_h_User-to-User", "sip_h_P-*", "sip_call_id"]
    );
    assert_eq!((freeswitch.fallback, freeswitch.stream_clear), (None, None));
    assert!(freeswitch.transfer.actions.is_empty() && freeswitch.transfer.gateway.is_none());
    assert!(freeswitch.switches.is_empty());
}

#[test]
fn the_freeswitch_keys_are_read() {
    let text = r#"[freeswitch]
listen = ["0.0.0.0:8091"]
url = "wss://voice.example.net"
prefix = "/fs/a"
module = "stream-raw"
user = { username = "fs", password_env = "P" }
token_env = "T"
open_to_loopback = true
outbound = []
outbound_allowed = ["10.0.0.0/8"]
rate = 24000
variables = ["*", "sip_h_X-Tenant"]
fallback = " 2000  XML "
stream_clear = '{"type":"clear"}'
[freeswitch.transfer]
queue = "inline fifo:{target} in"
ringgroup = "bridge user/1001,user/1002"
external = "bridge sofia/gateway/{gateway}/{target}"
gateway = "trunk1"
ring_timeout_s = 12
hold_music = "local_stream://other"
[freeswitch.switches.main]
address = "10.0.0.5"
user = "tandem@pbx.example"
password_env = "P"
[freeswitch.switches.b-2]
address = "pbx:8022"
password_env = "T"
"#;
    let (config, findings) = read_with(text, &[("P", "secret"), ("T", "0123456789abcdef")]);
    assert_eq!(findings.to_string(), "");
    let freeswitch = config.unwrap().freeswitch.unwrap();
    assert_eq!(freeswitch.url, "wss://voice.example.net");
    assert_eq!(freeswitch.module, Dialect::AudioStreamRaw);
    let (user, password) = freeswitch.user.as_ref().unwrap();
    assert_eq!((&**user, password.expose_secret()), ("fs", "secret"));
    assert_eq!(freeswitch.token.as_ref().unwrap().expose_secret(), "0123456789abcdef");
    assert!(freeswitch.open_to_loopback && freeswitch.outbound.is_empty());
    assert_eq!(freeswitch.rate, Some(SampleRate::Hz24000));
    assert_eq!(freeswitch.variables, ["*", "sip_h_X-Tenant"]);
    assert_eq!(freeswitch.fallback.as_deref(), Some("2000 XML"));
    assert_eq!(freeswitch.stream_clear.as_deref(), Some(r#"{"type":"clear"}"#));
    let actions = [
        (TransferKind::Queue, "inline fifo:{target} in"),
        (TransferKind::Ringgroup, "bridge user/1001,user/1002"),
        (TransferKind::External, "bridge sofia/gateway/{gateway}/{target}"),
    ];
    let transfer = &freeswitch.transfer;
    assert_eq!(transfer.actions, actions.map(|(kind, action)| (kind, action.to_owned())));
    assert_eq!(transfer.ring_timeout, Duration::from_secs(12));
    assert_eq!(transfer.hold_music, "local_stream://other");
    let switches = &freeswitch.switches;
    assert_eq!((&*switches[0].name, &*switches[0].address), ("b-2", "pbx:8022"));
    assert_eq!((&*switches[1].name, &*switches[1].address), ("main", "10.0.0.5:8021"));
    assert_eq!(switches[1].user.as_deref(), Some("tandem@pbx.example"));
    let printed = format!("{freeswitch:?}");
    assert!(!printed.contains("secret\"") && !printed.contains("0123456789abcdef"), "{printed}");

    for (rate, read) in [
        ("\"codec\"", None),
        ("\"16000\"", Some(SampleRate::Hz16000)),
        ("8000", Some(SampleRate::Hz8000)),
        ("48000", Some(SampleRate::Hz48000)),
    ] {
        let config = good(&format!("[freeswitch]\nrate = {rate}\n"));
        assert_eq!(config.freeswitch.unwrap().rate, read, "{rate}");
    }
}

#[test]
fn each_mistake_about_freeswitch_has_its_words() {
    let long = "x".repeat(80);
    let variables =
        [("P", "secret"), ("SHORT", "0123456789"), ("ODD", "0123456789abcdef&"), ("LONG", &long)];
    for (line, expected) in [
        (
            "listen = []",
            "2:10: error: `freeswitch.listen` is empty, no fork could come in\n    fix: name an address such as \"127.0.0.1:8090\", or remove the key",
        ),
        (
            "listen = [\"127.0.0.1\"]",
            "2:11: error: `freeswitch.listen`: \"127.0.0.1\" is no IP address with a port, as in 127.0.0.1:8090 or [::]:8090",
        ),
        (
            "listen = [\"127.0.0.1:1\", \"127.0.0.1:1\"]",
            "2:26: error: `freeswitch.listen`: 127.0.0.1:1 is listed twice",
        ),
        (
            "outbound = [\"127.0.0.1:8090\"]",
            "2:13: error: `freeswitch.outbound`: 127.0.0.1:8090 is in `freeswitch.listen` already",
        ),
        (
            "listen = [\"[::1]:8090\"]",
            "1:2: error: `freeswitch.listen`: the fork modules can't read ws://[::1]:8090\n    fix: listen on an IPv4 address, or name the host in `freeswitch.url`",
        ),
        (
            "url = \"http://a\"",
            "2:7: error: `freeswitch.url`: \"http://a\" must look like \"ws://10.0.0.9:8090\": a name or an IPv4 address, and no path",
        ),
        (
            "url = \"ws://a:8090/x\"",
            "2:7: error: `freeswitch.url`: \"ws://a:8090/x\" must look like \"ws://10.0.0.9:8090\": a name or an IPv4 address, and no path",
        ),
        (
            "url = \"ws://[::1]:8090\"",
            "2:7: error: `freeswitch.url`: \"ws://[::1]:8090\" must look like \"ws://10.0.0.9:8090\": a name or an IPv4 address, and no path",
        ),
        (
            "prefix = \"fs/\"",
            "2:10: error: `freeswitch.prefix`: \"fs/\" must look like \"/freeswitch\"",
        ),
        (
            "module = \"audio_fork\"",
            "2:10: error: `freeswitch.module`: \"audio_fork\" is no module we know: drachtio, jambonz, stream, stream-raw, stream-base64",
        ),
        (
            "rate = \"16k\"",
            "2:8: error: `freeswitch.rate`: \"16k\" must be \"codec\", 8000, 16000, 24000 or 48000",
        ),
        (
            "rate = 11025",
            "2:8: error: `freeswitch.rate`: \"11025\" must be \"codec\", 8000, 16000, 24000 or 48000",
        ),
        (
            "user = { username = \"fs\" }",
            "2:8: error: `freeswitch.user` needs `username` and `password_env`\n    fix: for example { username = \"freeswitch\", password_env = \"TANDEM_FORK_PASSWORD\" }",
        ),
        (
            "user = { username = \"f:s\", password_env = \"P\" }",
            "2:21: error: `freeswitch.user.username`: \"f:s\" must have 1 to 64 letters, digits and - _ . @ +",
        ),
        (
            "user = { username = \"fs\", password_env = \"NOT_SET\" }",
            "2:1: error: `freeswitch.user`: no password: the environment variable NOT_SET is not set\n    fix: set it, or remove the key",
        ),
        (
            "user = { username = \"freeswitch\", password_env = \"LONG\" }",
            "2:8: error: `freeswitch.user`: name and password have more than 89 bytes together, mod_audio_fork would connect without them\n    fix: choose a shorter password",
        ),
        (
            "token_env = \"NOT_SET\"",
            "1:2: error: `freeswitch`: no token: the environment variable NOT_SET is not set\n    fix: set it, or remove the key",
        ),
        (
            "token_env = \"SHORT\"",
            "1:2: error: `freeswitch`: the token must have 16 to 256 letters, digits and - . _ ~\n    fix: make one with `openssl rand -hex 24`",
        ),
        (
            "token_env = \"ODD\"",
            "1:2: error: `freeswitch`: the token must have 16 to 256 letters, digits and - . _ ~\n    fix: make one with `openssl rand -hex 24`",
        ),
        (
            "variables = [\"sip_h_*X\"]",
            "2:14: error: `freeswitch.variables`: \"sip_h_*X\" is no channel variable, as in \"sip_h_X-Tenant\" or \"sip_h_X-*\"",
        ),
        (
            "fallback = \"2000 XML default x\"",
            "2:12: error: `freeswitch.fallback`: \"2000 XML default x\" must be an extension, its dialplan and its context, as in \"2000 XML default\"",
        ),
        (
            "fallback = \"'hangup' inline\"",
            "2:12: error: `freeswitch.fallback`: \"'hangup' inline\" must be an extension, its dialplan and its context, as in \"2000 XML default\"",
        ),
        (
            "fallback = \" \"",
            "2:12: error: `freeswitch.fallback`: \" \" must be an extension, its dialplan and its context, as in \"2000 XML default\"",
        ),
        (
            "transfer = { queue = \"enqueue {target}\" }",
            "2:22: error: `freeswitch.transfer.queue`: the action for queue begins with \"enqueue\"; it must be bridge, inline or transfer",
        ),
        (
            "transfer = { operator = \"bridge user/{target}\" }",
            "2:14: error: `operator` in [freeswitch.transfer] is not supported by this version of Tandem\n    fix: remove it",
        ),
        (
            "transfer = { quee = \"bridge user/{target}\" }",
            "2:14: error: unknown key `quee` in [freeswitch.transfer]\n    fix: did you mean `queue`?",
        ),
        (
            "transfer = { domain = \"a b\" }",
            "2:23: error: `freeswitch.transfer.domain`: domain cannot be \"a b\"",
        ),
        (
            "transfer = { external = \"bridge sofia/gateway/{gateway}/{target}\" }",
            "2:25: error: `freeswitch.transfer.external`: the action for external: {gateway} is used, but no gateway is configured",
        ),
        (
            "switches = { main = { address = \"127.0.0.1\" } }",
            "2:14: error: [freeswitch.switches.main] needs `address` and `password_env`\n    fix: for example address = \"127.0.0.1:8021\", password_env = \"FREESWITCH_PASSWORD\"",
        ),
        (
            "switches = { main = { address = \"a b:1\", password_env = \"P\" } }",
            "2:33: error: `freeswitch.switches.main.address`: \"a b:1\" is no host with a port, as in \"127.0.0.1:8021\"",
        ),
        (
            "switches = { main = { address = \"a\", password_env = \"P\", user = \"x\" } }",
            "2:65: error: `freeswitch.switches.main.user`: \"x\" must look like \"tandem@pbx.example\"",
        ),
        (
            "switches = { \"a b\" = { address = \"127.0.0.1\", password_env = \"P\" } }",
            "2:14: error: [freeswitch.switches]: \"a b\" must have 1 to 64 letters, digits and - _ .",
        ),
        (
            "switches = { a = { address = \"127.0.0.1\", password_env = \"P\" }, b = { address = \"127.0.0.1:8021\", password_env = \"P\" } }",
            "2:65: error: [freeswitch.switches]: \"a\" and \"b\" are both at 127.0.0.1:8021\n    fix: keep one of the two",
        ),
        (
            "tls = true",
            "2:1: error: `tls` in [freeswitch] is not supported by this version of Tandem\n    fix: remove it",
        ),
    ] {
        let text = format!("[freeswitch]\n{line}\n");
        let (config, mut findings) = read_with(&text, &variables);
        findings.mistakes.retain(|mistake| mistake.severity == Severity::Error);
        assert_eq!(findings.to_string(), format!("t.toml:{expected}"), "{line}");
        assert!(config.is_none());
    }
}

#[test]
fn a_freeswitch_that_could_not_reach_us_is_warned_of() {
    let elsewhere = "FreeSWITCH on another machine can't send its forks to";
    for (text, warned) in [
        ("[freeswitch]\n", vec!["names no switch"]),
        ("[freeswitch.switches.a]\naddress = \"127.0.0.1\"\npassword_env = \"P\"\n", vec![]),
        ("[freeswitch.switches.a]\naddress = \"[::1]:8021\"\npassword_env = \"P\"\n", vec![]),
        (
            "[freeswitch.switches.a]\naddress = \"10.0.0.5\"\npassword_env = \"P\"\n",
            vec![elsewhere],
        ),
        (
            "[freeswitch]\nlisten = [\"0.0.0.0:8090\"]\noutbound_allowed = [\"0.0.0.0/0\"]\n",
            vec![elsewhere, "lets everybody hand calls over", "names no switch"],
        ),
        (
            "[freeswitch]\nlisten = [\"10.0.0.9:8090\"]\n[freeswitch.switches.a]\naddress = \"10.0.0.5\"\npassword_env = \"P\"\n",
            vec![],
        ),
        (
            "[freeswitch]\nurl = \"ws://voice:8090\"\n[freeswitch.switches.a]\naddress = \"10.0.0.5\"\npassword_env = \"P\"\n",
            vec![],
        ),
    ] {
        let (config, findings) = read_with(text, &[("P", "secret")]);
        assert!(config.is_some(), "{findings}");
        assert_eq!(findings.mistakes.len(), warned.len(), "{text}: {findings}");
        let printed = findings.to_string();
        assert!(warned.iter().all(|words| printed.contains(words)), "{text}: {printed}");
    }
}

#[test]
fn a_number_is_given_back_to_places_with_a_way_only() {
    let gateway = "[freeswitch]\n[freeswitch.transfer]\ngateway = \"trunk1\"\n";
    let no_way = "error: [numbers]: \"200\" is given back to external \"+13055550100\": no way to reach targets of type external is configured\n    fix: name a gateway of your FreeSWITCH in `freeswitch.transfer.gateway`";
    for (freeswitch, kind, target, wrong) in [
        ("[freeswitch]\n", "voicemail", "1001", None),
        ("[freeswitch]\n", "queue", "support@default", None),
        ("[freeswitch]\n", "ringgroup", "sales", None),
        ("[freeswitch]\n", "external", "+13055550100", Some(no_way)),
        (gateway, "external", "+13055550100", None),
        // Nothing is handed over there, and without FreeSWITCH a caller by SIP gets 404.
        ("[freeswitch]\noutbound = []\n", "external", "+13055550100", None),
        ("", "external", "+13055550100", None),
    ] {
        let text = format!(
            "[numbers]\n\"200\" = {{ route = {{ type = \"{kind}\", target = \"{target}\" }} }}\n{freeswitch}"
        );
        let (config, mut findings) = read_with(&text, &[]);
        findings.mistakes.retain(|mistake| mistake.severity == Severity::Error);
        assert_eq!(config.is_none(), wrong.is_some(), "{text}: {findings}");
        let printed = findings.to_string();
        assert_eq!(printed.strip_prefix("t.toml:2:19: "), wrong, "{text}: {printed}");
    }
}
