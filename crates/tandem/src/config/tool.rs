//! One tool as it is configured: what the model is told of it, where it is carried out, and how its calls go.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value as Json;
use tandem_call::{STANDARD_TOOLS, ToolMode};
use tandem_exchange::RECORDING_TOOLS;
use tandem_tools::{AddressRule, BodyFormat, Method, ResultSchema, SchemaError, check_schema};
use toml::de::ValueDeserializer;

use super::{
    agent::INSIDE_TOOLS,
    reader::{Section, Value},
    receiver::{Receiver, read_headers, read_receiver},
    secret::Surroundings,
};
use crate::freeswitch::controls::CONTROLS;

/// The longest filler, in characters: what can be said in the time that a tool takes.
const LONGEST_FILLER: usize = 500;

/// The longest file with a schema, in bytes.
const LONGEST_FILE: u64 = 64 * 1024;

/// After so much silence a filler is said.
const FILLER_AFTER: Duration = Duration::from_millis(800);

/// `[tools.<name>]`: a tool of one's own, or how a known one is run.
#[derive(Debug, Clone, Default)]
pub struct ToolConfig {
    /// Tells the model when to use it.
    pub description: Option<String>,
    /// JSON Schema of the arguments, of a tool of one's own.
    pub parameters: Option<Json>,
    /// Where it is carried out, if it has a place of its own.
    pub receiver: Receiver,
    /// How the arguments travel.
    pub method: Method,
    /// Headers for each request, by their names in small letters.
    pub headers: Vec<(String, SecretString)>,
    /// What the body holds.
    pub body: BodyFormat,
    /// From the complete call to the last byte of the answer; none = as the agent says.
    pub timeout: Option<Duration>,
    /// Whether the model waits.
    pub mode: ToolMode,
    /// What the caller hears after so much silence.
    pub filler: Option<(String, Duration)>,
    /// Speech of the caller stops the filler; none = it does.
    pub interruptible: Option<bool>,
    /// JSON Schema that an answer must match.
    pub result_schema: Option<Json>,
    /// Arguments whose values are not kept.
    pub redacted: Vec<String>,
}

/// What kind of tool a name belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToolKind {
    /// `transfer_to_human`, `end_call`, the recording's tools: they run inside Tandem.
    Inside,
    /// Controls of a switch.
    Control,
    /// Standard tools with a receiver.
    Standard,
    /// A tool of one's own, or of an MCP server.
    Own,
}

impl ToolKind {
    /// The kind of the tool `name`.
    pub(crate) fn of(name: &str) -> Self {
        if INSIDE_TOOLS.contains(&name) || RECORDING_TOOLS.contains(&name) {
            Self::Inside
        } else if CONTROLS.contains(&name) {
            Self::Control
        } else if STANDARD_TOOLS.contains(&name) {
            Self::Standard
        } else {
            Self::Own
        }
    }
}

/// Reads `[tools.<name>]`; `from_mcp` = an MCP server may bring the tool, so that it needs no words of its own.
pub(crate) fn read_tool(
    name: &str,
    value: &Value<'_, '_>,
    from_mcp: bool,
    rule: &AddressRule,
    surroundings: &Surroundings<'_>,
) -> Option<ToolConfig> {
    let kind = ToolKind::of(name);
    if let Some((why, fix)) = wrong_name(name, kind) {
        let message = format!("`{}`: {why}", value.path());
        value.mistakes().error_with_fix(value.key_span(), message, fix);
        return None;
    }
    let mut section = value.section()?;
    let mut tool = ToolConfig {
        description: section.value("description").and_then(|value| read_description(&value)),
        ..ToolConfig::default()
    };
    let from_mcp = from_mcp && kind == ToolKind::Own && tool.description.is_none();
    let with_words = kind == ToolKind::Own && !from_mcp;
    if kind == ToolKind::Own {
        let inline = section.value("parameters");
        let file = section.value("parameters_file");
        tool.parameters =
            read_schema([inline.as_ref(), file.as_ref()], &check_schema, surroundings);
        if let Some(value) = inline.as_ref().or(file.as_ref()).filter(|_| from_mcp) {
            let message = format!("`{}`: an MCP server says what its tools take", value.path());
            let fix = "remove it, or add a `description` to make it a tool of your own";
            value.mistakes().error_with_fix(value.key_span(), message, fix);
        }
    }
    if with_words && tool.description.is_none() && section.value("description").is_none() {
        section.mistakes().error_with_fix(
            value.key_span(),
            format!("[{}] has no `description`", value.path()),
            "tell the model when to use the tool",
        );
    }
    let sent = !from_mcp && matches!(kind, ToolKind::Own | ToolKind::Standard);
    if sent {
        read_request(&mut section, &mut tool, rule, surroundings);
    }
    if kind != ToolKind::Inside {
        read_manners(&mut section, &mut tool);
    }
    if sent {
        let result = [section.value("result_schema"), section.value("result_schema_file")];
        let check = |schema: &Json| ResultSchema::compile(schema).map(drop);
        let result = result.each_ref().map(Option::as_ref);
        tool.result_schema = read_schema(result, &check, surroundings);
    }
    tool.redacted = read_redacted(&mut section, &tool, name);
    section.finish(unfit_keys(kind));
    Some(tool)
}

/// Keys of other kinds of tools, which have no meaning for this one.
fn unfit_keys(kind: ToolKind) -> &'static [&'static str] {
    match kind {
        ToolKind::Inside | ToolKind::Control | ToolKind::Standard => {
            &["parameters", "parameters_file"]
        }
        ToolKind::Own => &["kind", "speak_during_execution", "execution_message"],
    }
}

/// What is wrong with a name, and what to do.
fn wrong_name(name: &str, kind: ToolKind) -> Option<(&'static str, &'static str)> {
    let shape = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if !begins || name.len() > 64 || !name.chars().all(shape) {
        let fix = "a letter, then letters, digits, _ and -, at most 64, as in \"check_stock\"";
        return Some(("this is no name of a tool", fix));
    }
    let ours = name.starts_with("tandem_") || name.starts_with("pbx_");
    (kind == ToolKind::Own && ours)
        .then_some(("names that begin so belong to Tandem", "choose another name"))
}

fn read_description(value: &Value<'_, '_>) -> Option<String> {
    let text = value.string(1024)?;
    if text.trim().is_empty() {
        value.mistakes().error(&value.span(), format!("`{}` says nothing", value.path()));
        return None;
    }
    Some(text.to_owned())
}

/// Where and how requests are sent.
fn read_request(
    section: &mut Section<'_, '_>,
    tool: &mut ToolConfig,
    rule: &AddressRule,
    surroundings: &Surroundings<'_>,
) {
    let keys = ["url", "key", "key_env", "key_file"];
    tool.receiver = read_receiver(section, keys, rule, surroundings);
    tool.method = section
        .parsed("method", |method| match method {
            "POST" => Ok(Method::Post),
            "GET" => Ok(Method::Get),
            _ => Err(format!("{method:?} must be \"POST\" or \"GET\"")),
        })
        .unwrap_or_default();
    tool.headers = section
        .section("headers")
        .map(|section| read_headers(section, surroundings))
        .unwrap_or_default();
    let body = section.value("body_format");
    let format = body.as_ref().and_then(|body| {
        body.parsed(|format| match format {
            "envelope" => Ok(BodyFormat::Envelope),
            "args" => Ok(BodyFormat::Args),
            _ => Err(format!("{format:?} must be \"envelope\" or \"args\"")),
        })
    });
    tool.body = format.unwrap_or_default();
    if let (Some(body), Method::Get) = (&body, tool.method) {
        body.mistakes().error_with_fix(
            body.key_span(),
            format!("`{}`: a GET has no body, the arguments are in its query", body.path()),
            "remove it",
        );
    }
}

/// How the conversation and the tool go together.
fn read_manners(section: &mut Section<'_, '_>, tool: &mut ToolConfig) {
    tool.timeout = section.millis("timeout_ms", 1000..=120_000);
    tool.mode = section
        .parsed("mode", |mode| match mode {
            "blocking" => Ok(ToolMode::Blocking),
            "background" => Ok(ToolMode::Background),
            "fire_and_forget" => Ok(ToolMode::FireAndForget),
            _ => {
                Err(format!("{mode:?} must be \"blocking\", \"background\" or \"fire_and_forget\""))
            }
        })
        .unwrap_or_default();
    let filler = section.value("filler");
    let words = filler.as_ref().and_then(|value| read_spoken(value, LONGEST_FILLER));
    let after_value = section.value("filler_after_ms");
    let after = after_value
        .as_ref()
        .and_then(|value| value.integer(0..=10_000))
        .map_or(FILLER_AFTER, Duration::from_millis);
    if let (Some(value), None) = (&after_value, &filler) {
        value.mistakes().error_with_fix(
            value.key_span(),
            format!("`{}`: there is no `filler` to be said", value.path()),
            "add one, such as filler = \"Let me look.\"",
        );
    }
    if let (Some(value), true) = (&filler, tool.mode != ToolMode::Blocking) {
        value.mistakes().warning(
            value.key_span(),
            format!("`{}` is never said: nobody waits for this tool", value.path()),
            "remove it, or let `mode` be \"blocking\"",
        );
    }
    tool.filler = words.map(|words| (words, after));
    tool.interruptible = section.boolean("interruptible");
}

/// A sentence of at most `most` characters that somebody is to hear.
pub(crate) fn read_spoken(value: &Value<'_, '_>, most: usize) -> Option<String> {
    value.parsed(|text| {
        let chars = text.chars().count();
        if chars > most {
            return Err(format!("has {chars} characters, at most {most} are said"));
        }
        if !text.chars().any(char::is_alphanumeric) {
            return Err("must be a sentence".into());
        }
        Ok(text.trim().to_owned())
    })
}

/// A JSON Schema as a table, or out of a file of JSON.
fn read_schema(
    [inline, file]: [Option<&Value<'_, '_>>; 2],
    check: &dyn Fn(&Json) -> Result<(), SchemaError>,
    surroundings: &Surroundings<'_>,
) -> Option<Json> {
    if let (Some(_), Some(second)) = (inline, file) {
        let message = format!("`{}`: the schema stands in this file as well", second.path());
        second.mistakes().error_with_fix(second.key_span(), message, "keep one of the two");
    }
    let (value, schema) = match (inline, file) {
        (Some(value), _) => {
            value.section()?;
            let schema = Json::deserialize(ValueDeserializer::from(value.raw().clone()));
            (value, schema.map_err(|error| error.message().to_owned()))
        }
        (None, Some(value)) => {
            let path = surroundings.directory.join(value.string(4096)?);
            (value, json_file(&path))
        }
        (None, None) => return None,
    };
    let checked = schema.and_then(|schema| {
        check(&schema).map_err(|error| error.to_string())?;
        Ok(schema)
    });
    match checked {
        Ok(schema) => Some(schema),
        Err(why) => {
            value.mistakes().error(&value.span(), format!("`{}`: {why}", value.path()));
            None
        }
    }
}

fn json_file(path: &Path) -> Result<Json, String> {
    let failed = |why: String| format!("{}: {why}", path.display());
    let length = fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if length > LONGEST_FILE {
        return Err(failed(format!("{length} bytes are more than {LONGEST_FILE}")));
    }
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| failed(format!("not JSON: {error}")))
}

/// Reads `redact`: names of arguments.
fn read_redacted(section: &mut Section<'_, '_>, tool: &ToolConfig, name: &str) -> Vec<String> {
    let standard = tandem_call::standard_tool(name);
    let schema = tool.parameters.as_ref().or(standard.as_ref().map(|tool| &tool.parameters));
    let known: BTreeSet<&str> = schema
        .and_then(|schema| schema.get("properties")?.as_object())
        .map(|properties| properties.keys().map(String::as_str).collect())
        .unwrap_or_default();
    let mut redacted: Vec<String> = Vec::new();
    for value in section.list("redact", 64).unwrap_or_default() {
        let Some(argument) = value.string(200) else { continue };
        if !known.is_empty() && !known.contains(argument) {
            let meant = super::closest(argument, known.iter().copied());
            let fix = meant.map_or_else(
                || {
                    format!(
                        "its arguments: {}",
                        known.iter().copied().collect::<Vec<_>>().join(", ")
                    )
                },
                |meant| format!("did you mean {meant:?}?"),
            );
            let message = format!("`{}`: {name} has no argument {argument:?}", value.path());
            value.mistakes().error_with_fix(&value.span(), message, fix);
        } else if !redacted.iter().any(|known| known == argument) {
            redacted.push(argument.to_owned());
        }
    }
    redacted
}
