use std::fs;

use secrecy::ExposeSecret;
use serde_json::json;
use tandem_call::{PhraseId, ToolMode};
use tandem_tools::{BodyFormat, Method};

use super::*;
use crate::tools::Carrier;

const KEYS: [(&str, &str); 3] =
    [("ALL", "key-of-all"), ("AGENT", "key-of-agent"), ("OWN", "own-key")];

fn read(text: &str) -> (Option<Config>, Findings) {
    read_with(text, &KEYS)
}

fn whole(text: &str) -> Config {
    let (config, findings) = read(text);
    config.unwrap_or_else(|| panic!("{findings}"))
}

#[test]
fn every_key_of_a_tool_is_read() {
    let config = whole(
        r#"
[tools]
webhook_url = "https://crm.example.com/tandem"
webhook_key_env = "ALL"
source = "acme"
allow = ["10.0.0.0/8", "127.0.0.1"]
max_in_flight = 2
max_requests = 100
normalize_dates = true
time_zone = "America/New_York"
default_transfer = { type = "extension", target = "900" }
[tools.check_stock]
description = "How many of an article are left."
url = "http://10.1.2.3:8080/stock"
method = "GET"
headers = { X-Team = "sales", X-Secret = { env = "OWN" } }
key_env = "OWN"
timeout_ms = 4000
mode = "blocking"
filler = "Let me look, {{company}} has much in store."
filler_after_ms = 500
interruptible = false
redact = ["customer"]
[tools.check_stock.parameters]
type = "object"
required = ["article"]
properties = { article = { type = "string" }, customer = { type = "string" }, pin = { type = "string", x-redact = true } }
[tools.check_stock.result_schema]
type = "object"
required = ["left"]
[tools.create_lead]
mode = "background"
description = "Records whoever asks for a price."
redact = ["email"]
[agents.a]
company = "Acme"
tools = ["end_call", "check_stock", "create_lead"]
tool_timeout_ms = 5000
noted_text = "Noted."
voicemail_message = "{{company}} called."
"#,
    );
    let tools = &config.tools;
    assert_eq!((tools.per_call, tools.in_all, tools.source.as_str()), (2, 100, "acme"));
    let zone = tools.normalize_dates.as_ref().and_then(|zone| zone.iana_name());
    assert_eq!(zone, Some("America/New_York"));
    let stock = &tools.tools["check_stock"];
    assert_eq!((stock.method, stock.body), (Method::Get, BodyFormat::Envelope));
    let headers: Vec<(&str, &str)> =
        stock.headers.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
    assert_eq!(headers, [("x-secret", "own-key"), ("x-team", "sales")]);

    let agent = &config.agents["a"];
    let spec = agent.spec(None, &BTreeMap::new());
    let names: Vec<&str> = spec.tools.iter().map(|tool| tool.declaration.name.as_str()).collect();
    assert_eq!(names, ["end_call", "check_stock", "create_lead"]);
    let [end, stock, lead] = &spec.tools[..] else { panic!("{names:?}") };
    assert_eq!(
        (end.mode, end.timeout, end.filler),
        (ToolMode::Blocking, Duration::from_secs(5), None)
    );
    assert_eq!(stock.timeout, Duration::from_secs(4));
    assert!(!stock.interruptible);
    let filler = stock.filler.unwrap();
    assert_eq!((filler.after, filler.phrase), (Duration::from_millis(500), PhraseId(0)));
    assert_eq!(spec.phrases, ["Let me look, Acme has much in store.", "Acme called."]);
    assert_eq!(spec.voicemail_message, Some(PhraseId(1)));
    assert_eq!(*stock.redacted, ["/pin", "/customer"]);
    assert_eq!(
        stock.declaration.parameters["properties"]["pin"],
        json!({ "type": "string" }),
        "a model sees no mark of ours"
    );
    assert_eq!((lead.mode, lead.timeout), (ToolMode::Background, Duration::from_secs(5)));
    assert_eq!(lead.declaration.description, "Records whoever asks for a price.");
    assert_eq!(*lead.redacted, ["/email"]);
    assert_eq!(spec.tool_texts.noted, "Noted.");
    assert!(!spec.tool_texts.trouble.is_empty());
    assert_eq!(spec.transfer.resolve(None).unwrap().target, "900");
    assert_eq!(
        Carrier::of("check_stock", agent, &config).to_string(),
        "GET http://10.1.2.3:8080/stock, signed"
    );
    assert_eq!(
        Carrier::of("create_lead", agent, &config).to_string(),
        "POST https://crm.example.com/tandem, signed"
    );
}

#[test]
fn the_narrowest_receiver_counts_and_a_key_stays_with_its_server() {
    let text = r#"
[tools]
webhook_url = "https://all.example.com/a"
webhook_key_env = "ALL"
[tools.same]
description = "x"
url = "https://agent.example.com/other"
[tools.foreign]
description = "x"
url = "https://elsewhere.example.com/"
[agents.a]
tools_webhook_url = "https://agent.example.com/b"
tools_webhook_key_env = "AGENT"
tools = ["same", "foreign", "create_lead"]
[agents.b]
tools = ["create_lead"]
[numbers]
"*" = "a"
"#;
    let (config, findings) = read(text);
    let config = config.unwrap();
    assert_eq!(
        findings.to_string(),
        "t.toml:14:18: warning: `agents.a.tools`: \"foreign\" goes to a server of its own, and the agent's key does not go there\n    fix: give [tools.foreign] a `key_env` or `key_file`"
    );
    for (agent, tool, url, key) in [
        ("a", "same", "https://agent.example.com/other", Some("key-of-agent")),
        ("a", "foreign", "https://elsewhere.example.com/", None),
        ("a", "create_lead", "https://agent.example.com/b", Some("key-of-agent")),
        ("b", "create_lead", "https://all.example.com/a", Some("key-of-all")),
    ] {
        let receiver = config.tools.receiver_of(tool, &config.agents[agent]);
        assert_eq!(receiver.url.unwrap().as_str(), url, "{agent} {tool}");
        let found = receiver.key.as_ref().map(|key| key.expose_secret());
        assert_eq!(found, key, "{agent} {tool}");
    }
}

#[test]
fn a_tool_without_a_receiver_is_warned_of() {
    let (config, findings) = read("[agents.a]\ntools = [\"end_call\", \"create_lead\"]\n");
    assert!(config.is_some());
    assert_eq!(
        findings.to_string(),
        "t.toml:2:22: warning: `agents.a.tools`: \"create_lead\" has no receiver: its calls are only noted in the call record\n    fix: set `tools_webhook_url` here, `webhook_url` in [tools] or `url` in [tools.create_lead]"
    );
}

#[test]
fn mcp_servers_are_read_and_their_tools_may_have_manners() {
    let config = whole(
        r#"
[tools]
allow = ["127.0.0.0/8"]
[tools.crm_find]
timeout_ms = 3000
filler = "One second."
[mcp.crm]
url = "http://127.0.0.1:9000/mcp"
key_env = "OWN"
tools = ["find", "store"]
timeout_ms = 7000
[mcp.files]
command = ["files-mcp", "--stdio"]
env = { ROOT = "/srv", TOKEN = { env = "OWN" } }
prefix = ""
[agents.a]
mcp = ["crm", "files"]
"#,
    );
    let crm = &config.mcp["crm"];
    assert_eq!(crm.prefix, "crm_");
    assert_eq!(crm.only.as_ref().unwrap().len(), 2);
    assert!(matches!(&crm.transport, McpTransportConfig::Http { key: Some(_), .. }));
    let McpTransportConfig::Command { command, environment } = &config.mcp["files"].transport
    else {
        panic!("a command")
    };
    assert_eq!(command, &["files-mcp", "--stdio"]);
    assert_eq!(environment["TOKEN"].expose_secret(), "own-key");
    assert!(same_server(crm, crm) && !same_server(crm, &config.mcp["files"]));

    let agent = &config.agents["a"];
    let brought = |name: &str| {
        let declaration = tandem_call::ToolDeclaration {
            name: name.into(),
            description: "x".into(),
            parameters: json!({ "type": "object" }),
        };
        agent.offer.from_server(declaration.into(), ["/pin".to_owned()].into())
    };
    let find = brought("crm_find");
    assert_eq!(find.timeout, Duration::from_secs(3));
    assert_eq!(agent.offer.phrases[usize::from(find.filler.unwrap().phrase.0)], "One second.");
    assert_eq!(*find.redacted, ["/pin"]);
    assert_eq!(brought("crm_store").timeout, Duration::from_secs(7));
    assert_eq!(brought("read_file").timeout, Duration::from_secs(9));
    assert!(config.agents["a"].spec(None, &BTreeMap::new()).tools.len() == 2, "before a call");
}

#[test]
fn a_schema_may_stand_in_a_file_beside() {
    let folder = tempfile::tempdir().unwrap();
    let schema = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
    fs::write(folder.path().join("a.json"), schema.to_string()).unwrap();
    fs::write(folder.path().join("bad.json"), "{").unwrap();
    let file = folder.path().join("t.toml");
    let read = |name: &str| {
        let text = format!(
            "[tools.x]\ndescription = \"x\"\nurl = \"https://a.example.com\"\nparameters_file = \"{name}\"\n"
        );
        Config::read(&file, &text, &|_| None)
    };
    assert_eq!(read("a.json").0.unwrap().tools.tools["x"].parameters, Some(schema));
    for (name, says) in [("bad.json", "not JSON"), ("none.json", "No such file")] {
        let findings = read(name).1.to_string();
        assert!(findings.contains(":4:19: error:") && findings.contains(says), "{findings}");
    }
}

#[test]
fn mistakes_of_tools_say_where_and_what_to_do() {
    const TOOL: &str = "[tools.x]\ndescription = \"x\"\n";
    for (text, expected) in [
        (
            "[tools]\nwebhok_url = \"https://a.example\"\n",
            "2:1: error: unknown key `webhok_url` in [tools]\n    fix: did you mean `webhook_url`?",
        ),
        (
            "[tools]\nwebhook_key = \"abc\"\n",
            "2:1: error: `tools.webhook_key`: a secret must not stand in this file",
        ),
        (
            "[tools]\nwebhook_key_env = \"NONE\"\n",
            "2:19: error: [tools] has no key: the environment variable NONE is not set",
        ),
        (
            "[tools]\nwebhook_url = \"crm.example.com\"\n",
            "2:15: error: `tools.webhook_url`: must look like \"https://crm.example.com/tandem\"",
        ),
        (
            "[tools]\nwebhook_url = \"http://127.0.0.1:8080\"\n",
            "2:15: error: `tools.webhook_url`: 127.0.0.1 is 127.0.0.1, which is no public address; allow its network to call it\n    fix: write its network into `allow` of [tools], such as allow = [\"127.0.0.0/8\"]",
        ),
        (
            "[tools]\nallow = [\"localhost\"]\n",
            "2:10: error: `tools.allow`: \"localhost\" is no network",
        ),
        (
            "[tools]\nnormalize_dates = true\ntime_zone = \"Mars/Olympus\"\n",
            "3:13: error: `tools.time_zone`: \"Mars/Olympus\" is no time zone",
        ),
        (
            "[tools.x]\nurl = \"https://a.example\"\n",
            "1:8: error: [tools.x] has no `description`\n    fix: tell the model when to use the tool",
        ),
        (
            "[tools.\"a b\"]\ndescription = \"x\"\n",
            "1:8: error: `tools.a b`: this is no name of a tool",
        ),
        (
            "[tools.pbx_dance]\ndescription = \"x\"\n",
            "1:8: error: `tools.pbx_dance`: names that begin so belong to Tandem",
        ),
        (
            "[tools.create_lead]\nparameters = { type = \"object\" }\n",
            "2:1: error: `parameters` in [tools.create_lead] is not supported by this version of Tandem",
        ),
        (
            "[tools.end_call]\nurl = \"https://a.example\"\n",
            "2:1: error: unknown key `url` in [tools.end_call]",
        ),
        (
            "[tools.create_lead]\nredact = [\"emial\"]\n",
            "2:11: error: `tools.create_lead.redact`: create_lead has no argument \"emial\"\n    fix: did you mean \"email\"?",
        ),
        (
            &format!("{TOOL}parameters = {{ type = \"array\" }}\n"),
            "3:14: error: `tools.x.parameters`: the schema: it must be an object with \"type\": \"object\"",
        ),
        (
            &format!("{TOOL}headers = {{ Authorization = \"x\" }}\n"),
            "3:13: error: `tools.x.headers.Authorization`: Tandem makes this header itself, from the key\n    fix: use `key_env` or `key_file`",
        ),
        (
            &format!("{TOOL}headers = {{ X-A = 1 }}\n"),
            "3:19: error: `tools.x.headers.X-A` must be a string, { env = \"…\" } or { file = \"…\" }, found a whole number",
        ),
        (
            &format!("{TOOL}method = \"PUT\"\n"),
            "3:10: error: `tools.x.method`: \"PUT\" must be \"POST\" or \"GET\"",
        ),
        (
            &format!("{TOOL}method = \"GET\"\nbody_format = \"args\"\n"),
            "4:1: error: `tools.x.body_format`: a GET has no body",
        ),
        (
            &format!("{TOOL}timeout_ms = 10\n"),
            "3:14: error: `tools.x.timeout_ms` is 10, it must lie between 1000 and 120000",
        ),
        (
            &format!("{TOOL}mode = \"async\"\n"),
            "3:8: error: `tools.x.mode`: \"async\" must be \"blocking\", \"background\" or \"fire_and_forget\"",
        ),
        (
            &format!("{TOOL}filler_after_ms = 5\n"),
            "3:1: error: `tools.x.filler_after_ms`: there is no `filler` to be said",
        ),
        (&format!("{TOOL}filler = \"...\"\n"), "3:10: error: `tools.x.filler`: must be a sentence"),
        ("[mcp.crm]\n", "1:6: error: [mcp.crm] has neither `url` nor `command`"),
        (
            "[mcp.crm]\nurl = \"https://a.example\"\ncommand = [\"x\"]\n",
            "3:1: error: [mcp.crm] has a `url` and a `command`",
        ),
        ("[mcp.crm]\ncommand = []\n", "2:11: error: `mcp.crm.command` names no program"),
        (
            "[mcp.crm]\nurl = \"https://10.0.0.1/\"\n",
            "2:7: error: `mcp.crm.url`: 10.0.0.1 is 10.0.0.1, which is no public address",
        ),
        (
            "[mcp.crm]\nurl = \"https://a.example\"\nprefix = \"1-\"\n",
            "3:10: error: `mcp.crm.prefix`: \"1-\" must be a letter",
        ),
        (
            "[mcp.crm]\nurl = \"https://a.example\"\n[tools.crm_x]\nparameters = { type = \"object\" }\n",
            "4:1: error: `tools.crm_x.parameters`: an MCP server says what its tools take",
        ),
        (
            "[mcp.crm]\nurl = \"https://a.example\"\nprefix = \"\"\n[tools.stock]\ntimeout_ms = 2000\n",
            "4:8: error: [tools.stock] has no `description`",
        ),
        (
            &format!("{TOOL}headers = {{ X-Webhook-Source = \"x\" }}\n"),
            "3:13: error: `tools.x.headers.X-Webhook-Source`: Tandem makes this header itself",
        ),
        (
            "[agents.a]\nmcp = [\"crm\"]\n",
            "2:8: error: `agents.a.mcp`: there is no MCP server \"crm\"\n    fix: describe it in [mcp.crm]",
        ),
        (
            "[mcp.crm]\nurl = \"https://a.example\"\n[agents.a]\ntools = [\"crm_find\"]\n",
            "4:10: error: `agents.a.tools`: there is no tool \"crm_find\"\n    fix: the tools of an MCP server come with mcp = [\"crm\"]",
        ),
        (
            "[agents.a]\ntools = [\"check_stok\"]\n[tools.check_stock]\ndescription = \"x\"\n",
            "2:10: error: `agents.a.tools`: there is no tool \"check_stok\"\n    fix: did you mean \"check_stock\"?",
        ),
        (
            "[agents.a]\ntools = [\"teleport\"]\n",
            "2:10: error: `agents.a.tools`: there is no tool \"teleport\"\n    fix: describe it in [tools.teleport]; known tools: ",
        ),
        (
            "[metrics]\nlisten = \"9464\"\n",
            "2:10: error: `metrics.listen`: \"9464\" must be an address and a port",
        ),
        (
            "[metrics]\nlisten = \"0.0.0.0:9464\"\n",
            "2:10: error: `metrics.listen`: anybody could read the figures at 0.0.0.0:9464",
        ),
        (
            "[metrics]\nlisten = \"127.0.0.1:1\"\ntoken_env = \"OWN\"\n",
            "1:2: error: [metrics]: the token is shorter than 16 characters",
        ),
    ] {
        let (config, findings) = read(text);
        let findings = findings.to_string();
        assert!(config.is_none(), "{text}");
        assert!(findings.starts_with(&format!("t.toml:{expected}")), "{text}\n{findings}");
        assert_eq!(findings.matches("t.toml:").count(), 1, "{text}\n{findings}");
    }
}
