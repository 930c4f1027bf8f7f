//! `tandem tools`: what agents can do, and what comes of it when it is tried.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read},
    time::{Duration, SystemTime},
};

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};
use tandem_call::{AgentSpec, AgentTool, CallId, Party, ToolMode, Verdict};
use tandem_tools::{CallFacts, Method, ToolSet, Trial, TrialRequest, TrialResponse};

use super::{
    report::{print_json, print_line},
    run::{NO, WRONG},
};
use crate::{
    config::{Agent, Config, closest},
    terminal::Paint,
    tools::{Carrier, Receivers},
};

/// The longest arguments that are read, in bytes.
const LONGEST_ARGUMENTS: u64 = 64 * 1024;

/// `tandem tools`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
A tool is something the model may ask for during a call: a standard one (create_lead, leave_message, …), one of
your own from [tools.<name>], one of an MCP server, or a control of the switch. docs/tools.md says what is sent, what
may be answered, and what the caller hears when nothing comes; docs/tools/ has a receiver in Python and one in Node.

From nothing to a tool that answers:
  1. In tandem.toml:
     [tools]
     webhook_url = \"http://127.0.0.1:8080/tandem\"
     webhook_key_env = \"TANDEM_TOOLS_KEY\"
     allow = [\"127.0.0.0/8\"]                  # private addresses are refused unless they are written here
     [agents.reception]
     tools = [\"transfer_to_human\", \"end_call\", \"leave_message\"]
  2. export TANDEM_TOOLS_KEY=$(openssl rand -hex 32); python3 docs/tools/receiver.py
  3. tandem tools test reception leave_message \\
       --args '{\"caller_name\": \"Ann\", \"caller_phone\": \"+13055551234\", \"message\": \"Call me\"}'")]
pub struct ToolsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ToolsCommand,
}

/// What `tandem tools` does.
#[derive(Debug, Clone, Subcommand)]
pub enum ToolsCommand {
    /// List the tools of agents: where each is carried out, how long it may take, what the caller hears meanwhile
    List(ListArgs),
    /// Send one real request, marked as a test, and show what came of it
    Test(TestArgs),
    /// Print what a model is told of a tool
    Schema(SchemaArgs),
}

/// `tandem tools list`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  tandem tools list                     of all agents
  tandem tools list reception           of this one
  tandem tools list --offline --json    without asking MCP servers, for scripts")]
pub struct ListArgs {
    /// The agent [default: all]
    pub agent: Option<String>,
    /// Don't ask MCP servers which tools they have
    #[arg(long)]
    pub offline: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `tandem tools test`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  tandem tools test reception check_stock --args '{\"article\": \"bell\"}'
  tandem tools test reception create_lead --args @lead.json --from +13055551234
  echo '{\"article\": \"bell\"}' | tandem tools test reception check_stock --args - --json | jq .outcome

The request is a real one: with the key, the signature and the time limit of a call, and with \"test\": true in its body
(or X-Webhook-Test: true where the body is the bare arguments). Keys and your own headers are not shown.

The exit code is 0 only when the tool answered and its answer is what a model would get.")]
pub struct TestArgs {
    /// The agent
    pub agent: String,
    /// The tool
    pub tool: String,
    /// The arguments, as a JSON object; @FILE reads a file, - standard input
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub args: String,
    /// Who is said to call
    #[arg(long, value_name = "NUMBER")]
    pub from: Option<String>,
    /// Which number is said to be called
    #[arg(long, value_name = "NUMBER")]
    pub to: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `tandem tools schema`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  tandem tools schema create_lead | jq .parameters
  tandem tools schema crm_find_customer --agent reception")]
pub struct SchemaArgs {
    /// The tool
    pub tool: String,
    /// As this agent has it [default: the first that has it]
    #[arg(long, value_name = "AGENT")]
    pub agent: Option<String>,
}

/// Why a command came to nothing, and its exit code.
type Failure = (u8, String);

/// Carries the command out; its exit code.
pub(crate) async fn run(command: &ToolsCommand, config: &Config, paint: Paint) -> u8 {
    let done = match command {
        ToolsCommand::List(args) => list(args, config, paint).await.map(|()| 0),
        ToolsCommand::Test(args) => test(args, config, paint).await,
        ToolsCommand::Schema(args) => schema(args, config).await.map(|()| 0),
    };
    done.unwrap_or_else(|(code, why)| {
        eprintln!("tandem tools: {why}");
        code
    })
}

/// The tools of some agents, with what carries them out.
struct Shop {
    config: Config,
    sets: BTreeMap<String, ToolSet>,
    /// MCP servers that did not answer, and why.
    away: Vec<(String, String)>,
}

impl Shop {
    /// The shop for `agent`, or for all; `offline` = nobody is asked for anything.
    async fn open(config: &Config, agent: Option<&str>, offline: bool) -> Result<Self, Failure> {
        let mut config = config.clone();
        if let Some(name) = agent {
            agent_named(name, &config)?;
            config.agents.retain(|agent_id, _| agent_id == name);
        }
        if offline {
            config.agents.values_mut().for_each(|agent| agent.mcp.clear());
        }
        let receivers = Receivers::new(config.tools.in_all);
        let sets =
            receivers.tool_sets(&config).await.map_err(|error| (WRONG, error.to_string()))?;
        let ready = receivers.servers_ready().await.into_iter();
        let away = ready.filter_map(|(name, ready)| Some((name, ready.err()?.why)));
        Ok(Self { away: away.collect(), config, sets })
    }

    /// `agent` as a call would have it now.
    fn spec(&self, agent: &Agent) -> AgentSpec {
        let mut spec = agent.spec(None, &BTreeMap::new());
        agent.add_server_tools(&mut spec, &self.sets[&agent.agent_id].offer());
        spec
    }

    /// What is to be said of servers of `agent` that did not answer.
    fn away(&self, agent: &Agent) -> Vec<String> {
        let of_agent = self.away.iter().filter(|(name, _)| agent.mcp.contains(name));
        of_agent.map(|(name, why)| format!("MCP server {name}: {why}")).collect()
    }
}

fn agent_named<'c>(name: &str, config: &'c Config) -> Result<&'c Agent, Failure> {
    config.agents.get(name).ok_or_else(|| {
        let known = || config.agents.keys().map(String::as_str);
        let help = closest(name, known()).map_or_else(
            || format!("known agents: {}", known().collect::<Vec<_>>().join(", ")),
            |meant| format!("did you mean {meant:?}?"),
        );
        (WRONG, format!("there is no agent {name:?}; {help}"))
    })
}

fn no_such_tool(name: &str, who_has_not: &str, known: &[String]) -> String {
    let known = || known.iter().map(String::as_str).collect::<BTreeSet<_>>();
    let help = match closest(name, known()) {
        Some(meant) => format!("did you mean {meant:?}?"),
        None if known().is_empty() => "it has none".into(),
        None => format!("known tools: {}", known().into_iter().collect::<Vec<_>>().join(", ")),
    };
    format!("{who_has_not} a tool {name:?}; {help}")
}

async fn list(args: &ListArgs, config: &Config, paint: Paint) -> Result<(), Failure> {
    let shop = Shop::open(config, args.agent.as_deref(), args.offline).await?;
    let mut listed = Vec::new();
    for agent in shop.config.agents.values() {
        let (spec, away) = (shop.spec(agent), shop.away(agent));
        if args.json {
            let tools = spec.tools.iter().map(|tool| tool_json(tool, &spec, agent, &shop.config));
            let tools: Vec<Value> = tools.collect();
            listed.push(json!({ "agent": agent.agent_id, "tools": tools, "away": away }));
            continue;
        }
        print_line(&format!("{}:", paint.strong(&agent.agent_id)));
        let longest = spec.tools.iter().map(|tool| tool.declaration.name.len()).max().unwrap_or(0);
        for tool in &spec.tools {
            let name = format!("{:longest$}", tool.declaration.name);
            let line = tool_line(tool, &spec, agent, &shop.config);
            print_line(&format!("  {}  {line}", paint.good(&name)));
        }
        if spec.tools.is_empty() {
            print_line("  no tools");
        }
        for server in away {
            print_line(&format!("  {} {server}", paint.warning("!")));
        }
    }
    if args.json {
        print_json(&json!({ "agents": listed }));
    }
    Ok(())
}

fn tool_line(tool: &AgentTool, spec: &AgentSpec, agent: &Agent, config: &Config) -> String {
    let carrier = Carrier::of(&tool.declaration.name, agent, config);
    let mut line = carrier.to_string();
    if matches!(carrier, Carrier::Webhook { .. } | Carrier::Server) {
        line += &format!(", {}", span(tool.timeout));
    }
    match tool.mode {
        ToolMode::Blocking => {}
        ToolMode::Background => line += ", in the background",
        ToolMode::FireAndForget => line += ", nobody waits for it",
    }
    if let Some((words, after)) = filler(tool, spec) {
        line += &format!(", after {}: {words:?}", span(after));
    }
    line
}

fn tool_json(tool: &AgentTool, spec: &AgentSpec, agent: &Agent, config: &Config) -> Value {
    let carrier = Carrier::of(&tool.declaration.name, agent, config);
    let (runs, webhook) = match &carrier {
        Carrier::Inside => ("inside", None),
        Carrier::Switch => ("switch", None),
        Carrier::Nobody => ("noted", None),
        Carrier::Server => ("mcp", None),
        Carrier::Webhook { method, url, signed } => {
            let method = if *method == Method::Get { "GET" } else { "POST" };
            ("webhook", Some(json!({ "method": method, "url": url, "signed": signed })))
        }
    };
    let filler = filler(tool, spec)
        .map(|(words, after)| json!({ "words": words, "after_ms": after.as_millis() as u64 }));
    json!({
        "name": tool.declaration.name,
        "description": tool.declaration.description,
        "parameters": tool.declaration.parameters,
        "runs": runs,
        "webhook": webhook,
        "mode": tool.mode,
        "timeout_ms": tool.timeout.as_millis() as u64,
        "filler": filler,
        "interruptible": tool.interruptible,
        "redacted": *tool.redacted,
    })
}

fn filler<'s>(tool: &AgentTool, spec: &'s AgentSpec) -> Option<(&'s str, Duration)> {
    let filler = tool.filler?;
    let words = spec.phrases.get(usize::from(filler.phrase.0))?;
    Some((words, filler.after))
}

/// `9 s`, `0.8 s`.
fn span(span: Duration) -> String {
    format!("{} s", span.as_millis() as f64 / 1_000.0)
}

async fn schema(args: &SchemaArgs, config: &Config) -> Result<(), Failure> {
    if let Some(name) = &args.agent {
        agent_named(name, config)?;
    }
    let of_agent = |agent: &&Agent| args.agent.as_ref().is_none_or(|name| *name == agent.agent_id);
    // MCP servers are asked only where the configuration does not know the tool itself.
    let says_it = |agent: &&Agent| agent.tools.contains(&args.tool);
    let offline = config.agents.values().filter(of_agent).any(|agent| says_it(&agent));
    let shop = Shop::open(config, args.agent.as_deref(), offline).await?;
    let mut known = Vec::new();
    for agent in shop.config.agents.values() {
        for tool in shop.spec(agent).tools {
            if tool.declaration.name == args.tool {
                print_line(&pretty(&*tool.declaration));
                return Ok(());
            }
            known.push(tool.declaration.name.clone());
        }
    }
    let standard = tandem_call::standard_tool(&args.tool).filter(|_| args.agent.is_none());
    match standard {
        Some(tool) => {
            print_line(&pretty(&tool));
            Ok(())
        }
        None => Err((WRONG, no_such_tool(&args.tool, "no agent has", &known))),
    }
}

async fn test(args: &TestArgs, config: &Config, paint: Paint) -> Result<u8, Failure> {
    let agent = agent_named(&args.agent, config)?;
    let arguments = read_arguments(&args.args).map_err(|why| (WRONG, why))?;
    let offline = agent.tools.contains(&args.tool);
    let shop = Shop::open(config, Some(&args.agent), offline).await?;
    let spec = shop.spec(agent);
    let Some(tool) = spec.tools.iter().find(|tool| tool.declaration.name == args.tool) else {
        let known: Vec<String> =
            spec.tools.iter().map(|tool| tool.declaration.name.clone()).collect();
        let has_not = format!("agent {:?} does not have", agent.agent_id);
        let mut why = no_such_tool(&args.tool, &has_not, &known);
        why.extend(shop.away(agent).iter().map(|server| format!("\n  {server}")));
        return Err((WRONG, why));
    };
    if let carrier @ (Carrier::Inside | Carrier::Switch) = Carrier::of(&args.tool, agent, config) {
        let tool = &args.tool;
        return Err((WRONG, format!("{tool} runs {carrier}: nothing is sent that could be tried")));
    }
    let party = |number: &Option<String>| Party { number: number.clone(), name: None };
    let facts = CallFacts {
        call_id: CallId::new(unix_millis(), fastrand::u128(..)),
        agent_id: agent.agent_id.clone(),
        language: agent.language.clone(),
        from: party(&args.from),
        to: party(&args.to),
        variables: agent.variables.clone(),
    };
    let set = &shop.sets[&agent.agent_id];
    let trial = set
        .try_out(&facts, &args.tool, arguments, tool.timeout)
        .await
        .map_err(|error| (WRONG, error.to_string()))?;
    if args.json {
        print_json(&trial);
    } else {
        print_line(&trial_text(&trial, tool.timeout, paint));
    }
    Ok(if trial.outcome == Verdict::Ok { 0 } else { NO })
}

/// What was sent, what came back, and what it means.
fn trial_text(trial: &Trial, timeout: Duration, paint: Paint) -> String {
    let indented = |text: &str| text.replace('\n', "\n  ");
    let mut lines = Vec::new();
    if let Some(TrialRequest { method, url, headers, body }) = &trial.request {
        lines.push(format!("{} {method} {url}", paint.strong("->")));
        lines.extend(headers.iter().map(|(name, value)| format!("  {name}: {value}")));
        lines.extend(body.iter().map(|body| format!("  {}", indented(&pretty(body)))));
    }
    if let Some(TrialResponse { http_status, body }) = &trial.response {
        lines.push(format!("{} HTTP {http_status}", paint.strong("<-")));
        lines.extend(body.iter().map(|body| match body {
            Value::String(text) => format!("  {}", indented(text)),
            json => format!("  {}", indented(&pretty(json))),
        }));
    }
    lines.push(format!("{} the model is given", paint.strong("=>")));
    lines.push(format!("  {}", indented(&pretty(&trial.result))));
    let took = format!("after {} ms of {}", trial.duration_ms, span(timeout));
    let attempts = match trial.attempts {
        0 => ", nothing was sent".to_owned(),
        1 => String::new(),
        attempts => format!(", {attempts} attempts"),
    };
    lines.push(match meaning(trial.outcome) {
        None => format!("{} {took}{attempts}", paint.good("ok")),
        Some(meaning) => {
            let word = json!(trial.outcome).as_str().unwrap_or_default().to_owned();
            let why = trial.error.as_deref().map(|why| format!("\n  why: {why}"));
            let why = why.unwrap_or_default();
            format!("{} {took}{attempts}: {meaning}{why}", paint.bad(&word))
        }
    });
    lines.join("\n")
}

/// What an outcome means for the caller, unless it is what one wants.
fn meaning(outcome: Verdict) -> Option<&'static str> {
    Some(match outcome {
        Verdict::Ok => return None,
        Verdict::FallbackNoted => "there is no `message`, so the caller is told that it is noted",
        Verdict::FallbackTrouble => {
            "it is not known to be done, so the caller is told that it can't be done now"
        }
        Verdict::InvalidArguments => {
            "the arguments do not match the schema: see `tandem tools schema`"
        }
        Verdict::Rejected => "it was not carried out",
        Verdict::Cancelled => "it was taken back",
        Verdict::Late => "the answer came after the deadline",
    })
}

fn unix_millis() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// The arguments in `text`, in the file `@name`, or on standard input.
fn read_arguments(text: &str) -> Result<Value, String> {
    let read = |reader: &mut dyn Read, from: &str| {
        let mut text = String::new();
        let read = reader.take(LONGEST_ARGUMENTS + 1).read_to_string(&mut text);
        match read {
            Ok(length) if length as u64 > LONGEST_ARGUMENTS => {
                Err(format!("--args: {from} has more than {LONGEST_ARGUMENTS} bytes"))
            }
            Ok(_) => Ok(text),
            Err(error) => Err(format!("--args: {from} can't be read: {error}")),
        }
    };
    let text = match (text, text.strip_prefix('@')) {
        ("-", _) => read(&mut io::stdin(), "standard input")?,
        (_, Some(name)) => {
            let mut file = File::open(name)
                .map_err(|error| format!("--args: {name} can't be read: {error}"))?;
            read(&mut file, name)?
        }
        _ => text.to_owned(),
    };
    let example = "as in --args '{\"caller_name\": \"Ann\"}'";
    match serde_json::from_str(&text) {
        Ok(arguments @ Value::Object(_)) => Ok(arguments),
        Ok(_) => Err(format!("--args must be a JSON object, {example}")),
        Err(error) => Err(format!("--args is no JSON ({error}), {example}")),
    }
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("plain data becomes JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_an_object_wherever_they_come_from() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.json");
        std::fs::write(&file, "{\"a\": 1}").unwrap();
        let named = format!("@{}", file.display());
        assert_eq!(read_arguments(&named), Ok(json!({ "a": 1 })));
        assert_eq!(read_arguments("{}"), Ok(json!({})));
        for (text, says) in [
            ("[1]", "must be a JSON object"),
            ("{", "is no JSON"),
            ("@/no/such/file", "can't be read"),
            ("a=1", "as in --args"),
        ] {
            let why = read_arguments(text).unwrap_err();
            assert!(why.contains(says), "{why}");
        }
        std::fs::write(&file, vec![b' '; LONGEST_ARGUMENTS as usize + 1]).unwrap();
        assert!(read_arguments(&named).unwrap_err().contains("more than 65536 bytes"));
    }

    #[test]
    fn what_is_not_there_is_named_with_what_may_be_meant() {
        let known = ["check_stock".to_owned(), "end_call".to_owned()];
        let why = no_such_tool("chek_stock", "agent \"a\" does not have", &known);
        assert_eq!(
            why,
            "agent \"a\" does not have a tool \"chek_stock\"; did you mean \"check_stock\"?"
        );
        let why = no_such_tool("x", "no agent has", &known);
        assert!(why.ends_with("known tools: check_stock, end_call"), "{why}");
    }
}
