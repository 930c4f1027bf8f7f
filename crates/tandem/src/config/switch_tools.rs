//! What agents may do with the channel of a call, and with what.

use std::{collections::BTreeMap, time::Duration};

use tandem_pbx::{DialString, EavesdropMode, MediaPath, Word};

use super::{
    freeswitch::parse_name,
    listeners::set,
    reader::{Section, Value},
};

/// `[freeswitch.tools]`: everything that an agent's tool may name, for a model is talked into things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchTools {
    /// What `pbx_play` may play, by names of the operator's choice.
    pub sounds: BTreeMap<String, MediaPath>,
    /// Where `pbx_valet_park` may park: lots and the first and last of their slots.
    pub lots: BTreeMap<String, (u32, u32)>,
    /// Where `pbx_conference` may lead.
    pub rooms: Vec<Word>,
    /// The profile of those, and of the rooms that `pbx_three_way` makes.
    pub conference_profile: Word,
    /// The folder on the switch into which `pbx_record` records.
    pub recordings: Option<MediaPath>,
    /// A recording ends after this.
    pub recording_limit: Duration,
    /// How the variables begin that `pbx_set_variable` sets and `pbx_get_variable` reads.
    pub variables: String,
    /// Engine and voice of `pbx_say`.
    pub speech: Option<(Word, Word)>,
    /// Whom `pbx_supervise` calls.
    pub supervisor: Option<DialString>,
    /// What the supervisor may do.
    pub supervisor_mode: EavesdropMode,
    /// What `pbx_gateway_status` may ask for.
    pub gateways: Vec<Word>,
}

impl Default for SwitchTools {
    fn default() -> Self {
        Self {
            sounds: BTreeMap::new(),
            lots: BTreeMap::new(),
            rooms: Vec::new(),
            conference_profile: Word::new("default").expect("a plain word"),
            recordings: None,
            recording_limit: Duration::from_secs(3600),
            variables: "agent_".into(),
            speech: None,
            supervisor: None,
            supervisor_mode: EavesdropMode::Listen,
            gateways: Vec::new(),
        }
    }
}

/// Reads `[freeswitch.tools]`.
pub(super) fn read_switch_tools(mut section: Section<'_, '_>) -> SwitchTools {
    let mut tools = SwitchTools::default();
    if let Some(sounds) = section.section("sounds") {
        tools.sounds = read_named(sounds, |text| MediaPath::new(text).map_err(|e| e.to_string()));
    }
    if let Some(lots) = section.section("lots") {
        tools.lots = read_named(lots, parse_slots);
    }
    set(&mut tools.rooms, section.list("rooms", 64).map(|rooms| read_words(&rooms)));
    set(&mut tools.conference_profile, section.parsed("conference_profile", parse_word));
    tools.recordings = section.parsed("recordings", parse_folder);
    set(&mut tools.recording_limit, section.seconds("recording_limit_s", 1..=14_400));
    set(&mut tools.variables, section.parsed("variables", parse_beginning));
    tools.speech = section.parsed("speech", parse_speech);
    tools.supervisor = section
        .parsed("supervisor", |text| DialString::new(text).map_err(|error| error.to_string()));
    set(&mut tools.supervisor_mode, section.parsed("supervisor_mode", parse_mode));
    set(&mut tools.gateways, section.list("gateways", 64).map(|names| read_words(&names)));
    section.finish(&[]);
    tools
}

fn read_named<T>(
    section: Section<'_, '_>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> BTreeMap<String, T> {
    let mut named = BTreeMap::new();
    for (name, value) in section.entries(64) {
        if let Err(why) = parse_word(&name) {
            value.mistakes().error(value.key_span(), format!("`{}`: {why}", value.path()));
        }
        named.extend(value.parsed(&parse).map(|parsed| (name, parsed)));
    }
    named
}

fn read_words(values: &[Value<'_, '_>]) -> Vec<Word> {
    values.iter().filter_map(|value| value.parsed(parse_word)).collect()
}

/// A name that is one word of a command and holds none of the signs that give it another meaning there.
fn parse_word(text: &str) -> Result<Word, String> {
    let name = parse_name(text)?;
    Word::new(&name).map_err(|error| error.to_string())
}

fn parse_slots(text: &str) -> Result<(u32, u32), String> {
    let slot = |text: &str| text.trim().parse::<u32>().ok().filter(|slot| *slot < 1_000_000);
    match text.split_once('-').map(|(first, last)| (slot(first), slot(last))) {
        Some((Some(first), Some(last))) if first <= last => Ok((first, last)),
        _ => Err(format!("{text:?} must be a first and a last slot, as in \"5001-5099\"")),
    }
}

fn parse_folder(text: &str) -> Result<MediaPath, String> {
    let folder = text.trim_end_matches('/');
    match MediaPath::new(folder) {
        Ok(folder) if text.starts_with('/') && text.len() <= 512 => Ok(folder),
        Ok(_) => Err(format!(
            "{text:?} must be a folder of the switch, as in \"/var/lib/freeswitch/recordings\""
        )),
        Err(error) => Err(error.to_string()),
    }
}

fn parse_beginning(text: &str) -> Result<String, String> {
    let shape = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if text.is_empty() || text.len() > 64 || !text.chars().all(shape) {
        return Err(format!("{text:?} is no beginning of a variable's name, as in \"agent_\""));
    }
    Ok(text.to_owned())
}

fn parse_speech(text: &str) -> Result<(Word, Word), String> {
    let mut words = text.split_whitespace().map(Word::new);
    match (words.next(), words.next(), words.next()) {
        (Some(Ok(engine)), Some(Ok(voice)), None) => Ok((engine, voice)),
        _ => Err(format!("{text:?} must be an engine and a voice, as in \"flite slt\"")),
    }
}

fn parse_mode(text: &str) -> Result<EavesdropMode, String> {
    match text {
        "listen" => Ok(EavesdropMode::Listen),
        "whisper" => Ok(EavesdropMode::WhisperToPartner),
        "barge" => Ok(EavesdropMode::Barge),
        _ => Err(format!("{text:?} must be \"listen\", \"whisper\" or \"barge\"")),
    }
}
