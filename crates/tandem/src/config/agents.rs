//! Reads the agents that answer calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tandem_call::{Greeting, LateResults, TransferTarget};

use super::{
    agent::Agent,
    agent_tools::{Known, read_mcp_names, read_tool_names, warn_of_receivers},
    attendant::read_script,
    audio::read_audio,
    interruption::read_interruption,
    listeners::{parse_srtp, printable},
    mistake::closest,
    models::{ATTENDANT, ModelConfig},
    numbers::read_target,
    offer::Offer,
    reader::{Section, Value},
    receiver::read_receiver,
    recording::read_agent_recording,
    tool::read_spoken,
};

/// The longest that an agent may let a transfer take.
pub(crate) const LONGEST_TRANSFER: Duration = Duration::from_secs(300);

/// Settings that agents of the control API have and this version has no use for.
const PLANNED: [&str; 18] = [
    "description",
    "voice_mode",
    "model_tier",
    "voice_speed",
    "thinking_level",
    "custom_tools",
    "tool_fallbacks",
    "machine_detection",
    "call_screening",
    "backchannel",
    "stt_mode",
    "messaging_enabled",
    "context_turns",
    "metadata",
    "numbers",
    "tenant_id",
    "id",
    "agent_id",
];

/// Reads `[agents]`, which may name what is `known`.
pub(crate) fn read_agents(section: Section<'_, '_>, known: &Known<'_>) -> BTreeMap<String, Agent> {
    let mut agents = BTreeMap::new();
    for (agent_id, value) in section.entries(10_000) {
        if !is_slug(&agent_id) {
            value.mistakes().error(
                value.key_span(),
                format!("[agents]: {agent_id:?} is no agent name: small letters, digits and inner dashes, at most 63"),
            );
        }
        if let Some(agent) = value
            .section()
            .map(|section| read_agent(section, Agent::named(&agent_id, known.script), known))
        {
            agents.insert(agent_id, agent);
        }
    }
    agents
}

fn read_agent(mut section: Section<'_, '_>, defaults: Agent, known: &Known<'_>) -> Agent {
    let directory = known.surroundings.directory;
    let display_name = section
        .parsed("display_name", |name| printable(name, 100).map(str::to_owned))
        .unwrap_or(defaults.display_name);
    let (models, models_without_key) = read_model_names(&mut section, known.models);
    let receiver_keys = [
        "tools_webhook_url",
        "tools_webhook_key",
        "tools_webhook_key_env",
        "tools_webhook_key_file",
    ];
    let receiver =
        read_receiver(&mut section, receiver_keys, &known.tools.rule(), known.surroundings);
    let tools = section.value("tools");
    let script_value = section.value("script");
    let mut agent = Agent {
        agent_id: defaults.agent_id,
        company: section.string("company", 200).unwrap_or_else(|| display_name.clone()),
        role: section.string("role", 100).unwrap_or(defaults.role),
        language: section.parsed("language", parse_language).unwrap_or(defaults.language),
        voice: section.parsed("voice", |voice| printable(voice, 100).map(str::to_owned)),
        system_prompt: section.string("system_prompt", 65_536).unwrap_or_default(),
        greeting: read_greeting(&mut section),
        temperature: section
            .number("temperature", 0.0..=1.0)
            .map_or(defaults.temperature, |temperature| temperature as f32),
        tools: tools
            .as_ref()
            .and_then(|tools| read_tool_names(tools, known))
            .unwrap_or(defaults.tools),
        mcp: section.value("mcp").map(|names| read_mcp_names(&names, known)).unwrap_or_default(),
        receiver: receiver.within(&known.tools.receiver),
        noted_text: section.value("noted_text").and_then(|value| read_fallback(&value)),
        trouble_text: section.value("trouble_text").and_then(|value| read_fallback(&value)),
        voicemail_message: section
            .value("voicemail_message")
            .and_then(|value| read_spoken(&value, 1_000)),
        offer: Offer::default(),
        tool_timeout: section
            .millis("tool_timeout_ms", 1000..=120_000)
            .unwrap_or(defaults.tool_timeout),
        late_results: section
            .parsed("late_results", |word| match word {
                "discard" => Ok(LateResults::Discard),
                "inject" => Ok(LateResults::Inject),
                _ => Err(format!("{word:?} must be \"discard\" or \"inject\"")),
            })
            .unwrap_or(defaults.late_results),
        transfer: section.value("transfer").and_then(|target| read_target(&target)),
        default_transfer: known.tools.default_transfer.clone(),
        departments: section.section("departments").map(read_departments).unwrap_or_default(),
        transfer_timeout: section
            .seconds("transfer_timeout_s", 5..=LONGEST_TRANSFER.as_secs())
            .unwrap_or(defaults.transfer_timeout),
        end_call_drain: section
            .millis("end_call_drain_ms", 0..=10_000)
            .unwrap_or(defaults.end_call_drain),
        end_call_cancel_on_speech: section.boolean("end_call_cancel_on_speech").unwrap_or(false),
        interruption: read_interruption(&mut section),
        audio: section
            .section("audio")
            .map_or(defaults.audio, |section| read_audio(section, directory)),
        recording: section
            .value("recording")
            .map_or(defaults.recording, |value| read_agent_recording(&value)),
        max_silence: section
            .millis("max_silence_ms", 10_000..=3_600_000)
            .unwrap_or(defaults.max_silence),
        max_duration: section
            .seconds("max_duration_s", 30..=14_400)
            .unwrap_or(defaults.max_duration),
        max_concurrent_calls: section.count("max_concurrent_calls", 1..=10_000),
        srtp: section.parsed("srtp", parse_srtp),
        transcription: section.parsed("transcription", on_or_off).unwrap_or(true),
        variables: section.section("variables").map(read_variables).unwrap_or_default(),
        script: script_value.as_ref().and_then(read_script).unwrap_or(defaults.script),
        enabled: section
            .parsed("status", |status| match status {
                "active" => Ok(true),
                "disabled" => Ok(false),
                _ => Err(format!("{status:?} must be \"active\" or \"disabled\"")),
            })
            .unwrap_or(true),
        display_name,
        models,
        models_without_key,
    };
    if let Some(tools) = &tools {
        warn_of_receivers(tools, &agent, known);
    }
    agent.offer = Offer::new(&agent, known.tools, known.servers, known.switch);
    agent.script = agent.fill_script();
    for mistake in agent.script.validate() {
        let span = script_value
            .as_ref()
            .map_or_else(|| section.span().clone(), |value| value.key_span().clone());
        let message = format!("`{}.script`, filled in: {mistake}", section.path());
        section.mistakes().error(&span, message);
    }
    section.finish(&PLANNED);
    agent
}

/// A sentence that the model is given to say.
fn read_fallback(value: &Value<'_, '_>) -> Option<String> {
    read_spoken(value, 300)
}

fn read_greeting(section: &mut Section<'_, '_>) -> Greeting {
    let speak_first = section.boolean("speak_first").unwrap_or(true);
    match section.string("greeting", 1000) {
        Some(words) if words.trim().is_empty() => Greeting::Silent,
        Some(words) if speak_first => Greeting::Exactly(words),
        None if speak_first => Greeting::OwnWords,
        _ => Greeting::Silent,
    }
}

/// The models that can be used and those that have no key.
fn read_model_names(
    section: &mut Section<'_, '_>,
    models: &BTreeMap<String, ModelConfig>,
) -> (Vec<String>, Vec<String>) {
    let one = section.value("model");
    let many = section.value("models");
    if let (Some(_), Some(many)) = (&one, &many) {
        many.mistakes().error_with_fix(
            many.key_span(),
            format!("`{}` stands beside `model`", many.path()),
            "keep `models`, first choice first",
        );
    }
    let names = match (many, one) {
        (Some(many), _) => many.list(8).unwrap_or_default(),
        (None, Some(one)) => vec![one],
        (None, None) => Vec::new(),
    };
    let (mut usable, mut without_key) = (Vec::new(), Vec::new());
    for value in &names {
        let Some(name) = value.string(100) else { continue };
        if name == ATTENDANT {
            continue; // It stands behind every list.
        }
        let Some(model) = models.get(name) else {
            let known = models.keys().map(String::as_str).chain([ATTENDANT]);
            let fix = closest(name, known.clone()).map_or_else(
                || format!("known models: {}", known.collect::<Vec<_>>().join(", ")),
                |meant| format!("did you mean {meant:?}?"),
            );
            let message = format!("`{}`: there is no model {name:?}", value.path());
            value.mistakes().error_with_fix(&value.span(), message, fix);
            continue;
        };
        let Some(why) = &model.missing_key else {
            usable.push(name.to_owned());
            continue;
        };
        without_key.push(name.to_owned());
        if !model.written {
            let message = format!("`{}`: {name:?} has no key: {why}", value.path());
            let fix = "set it, or the offline attendant answers in its place";
            value.mistakes().warning(&value.span(), message, fix);
        }
    }
    (usable, without_key)
}

fn read_departments(section: Section<'_, '_>) -> BTreeMap<String, TransferTarget> {
    let mut departments = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (name, value) in section.entries(50) {
        if !seen.insert(name.to_ascii_lowercase()) {
            value.mistakes().error(
                value.key_span(),
                format!(
                    "`{}`: another department has the same name but for capital letters",
                    value.path()
                ),
            );
        }
        if let Some(target) = read_target(&value) {
            departments.insert(name, target);
        }
    }
    departments
}

fn read_variables(section: Section<'_, '_>) -> BTreeMap<String, String> {
    let read = |(name, value): (String, Value<'_, '_>)| {
        value.string(1000).map(|text| (name, text.to_owned()))
    };
    section.entries(50).into_iter().filter_map(read).collect()
}

fn on_or_off(word: &str) -> Result<bool, String> {
    match word {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("{word:?} must be \"on\" or \"off\"")),
    }
}

/// Whether `text` has the shape of an agent's slug.
fn is_slug(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len())
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The shape of a BCP-47 tag: a language of two or three letters, then subtags of two to eight letters or digits.
fn parse_language(tag: &str) -> Result<String, String> {
    let mut parts = tag.split('-');
    let language = parts.next().unwrap_or_default();
    let good = (2..=3).contains(&language.len())
        && language.chars().all(|c| c.is_ascii_alphabetic())
        && tag.len() <= 35
        && parts.all(|part| {
            (1..=8).contains(&part.len()) && part.chars().all(|c| c.is_ascii_alphanumeric())
        });
    if good {
        Ok(tag.to_owned())
    } else {
        Err(format!("{tag:?} is no language tag, as in \"en\" or \"es-MX\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_and_languages_have_a_shape() {
        for (text, good) in [
            ("reception", true),
            ("a", true),
            ("a-1", true),
            ("-a", false),
            ("A", false),
            ("", false),
            ("a_b", false),
        ] {
            assert_eq!(is_slug(text), good, "{text}");
        }
        for (text, good) in [
            ("en", true),
            ("es-MX", true),
            ("zh-Hans-CN", true),
            ("english", false),
            ("e", false),
            ("en_US", false),
            ("", false),
        ] {
            assert_eq!(parse_language(text).is_ok(), good, "{text}");
        }
    }
}
