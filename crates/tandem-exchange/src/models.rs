//! Opens the models of an agent's chain, the offline attendant behind the last.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tandem_attendant::{AttendantSession, AttendantSpec, Endpointing, Script, Voice};
use tandem_call::{AgentSpec, HistoryTurn, ItemId, ModelSession, SessionSpec};
use tandem_media::AudioFormat;
use tandem_models::ModelSettings;

/// What is to be opened.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenSession {
    /// Index into the agent's models; one past the last is the offline attendant.
    pub index: usize,
    /// What the leg speaks: a model that takes it too gets the audio untouched.
    pub leg: AudioFormat,
    /// The conversation so far.
    pub history: Vec<HistoryTurn>,
    /// It takes over from a model that failed, and nothing else is left.
    pub apologise: bool,
    /// First item id it may use.
    pub first_item: ItemId,
}

/// A session on its way up.
pub struct Opened {
    /// The session.
    pub session: Box<dyn ModelSession>,
    /// What it takes from the caller.
    pub input: AudioFormat,
}

/// Opens sessions for one call.
pub trait ModelOpener {
    /// Dials; never fails at once: a failure comes as an event of the session.
    fn open(&mut self, now: Instant, wanted: OpenSession) -> Opened;
}

/// One configured model of an agent.
#[derive(Debug, Clone)]
pub struct ModelChoice {
    /// Its name in the configuration.
    pub name: String,
    /// How it is reached.
    pub settings: Arc<ModelSettings>,
}

/// Opens the vendor models of an agent and, behind them, the offline attendant.
pub struct VendorModels {
    /// In order of preference.
    pub chain: Vec<ModelChoice>,
    /// The agent.
    pub agent: AgentSpec,
    /// What the attendant says.
    pub script: Arc<Script>,
    /// The attendant's voice.
    pub voice: Voice,
    /// The call's variables, for the script's placeholders.
    pub variables: BTreeMap<String, String>,
}

impl VendorModels {
    fn spec(&self, wanted: &OpenSession, input: AudioFormat, output: AudioFormat) -> SessionSpec {
        SessionSpec {
            instructions: self.agent.system_prompt.clone(),
            voice: self.agent.voice.clone(),
            language: self.agent.language.clone(),
            temperature: self.agent.temperature,
            tools: self.agent.declarations(),
            input,
            output,
            transcription: self.agent.transcription,
            history: wanted.history.clone(),
            first_item: wanted.first_item,
        }
    }
}

impl ModelOpener for VendorModels {
    fn open(&mut self, now: Instant, wanted: OpenSession) -> Opened {
        if let Some(choice) = self.chain.get(wanted.index) {
            let capabilities = tandem_models::capabilities(&choice.settings);
            let input = preferred(capabilities.input, wanted.leg);
            let output = preferred(capabilities.output, wanted.leg);
            let spec = self.spec(&wanted, input, output);
            return Opened {
                session: tandem_models::open(&choice.settings, spec, now, unix_now()),
                input,
            };
        }
        let capabilities = AttendantSession::CAPABILITIES;
        let (input, output) =
            (preferred(capabilities.input, wanted.leg), preferred(capabilities.output, wanted.leg));
        let spec = self.spec(&wanted, input, output);
        let attendant = AttendantSpec {
            script: Arc::clone(&self.script),
            voice: self.voice.clone(),
            variables: self.variables.clone(),
            apologise: wanted.apologise,
            endpointing: Endpointing {
                barge_in_speech: self.agent.interruption.patience().unwrap_or(Duration::MAX),
                ..Endpointing::default()
            },
        };
        let session = AttendantSession::open(spec, attendant);
        Opened { session: Box::new(session), input }
    }
}

/// The leg's own format where the model takes it, so that audio passes untouched; else what the model likes best, as far
/// as it holds the leg's band.
fn preferred(formats: &[AudioFormat], native: AudioFormat) -> AudioFormat {
    if formats.contains(&native) {
        return native;
    }
    let holds_the_band = |format: &&AudioFormat| format.rate() >= native.rate();
    let widest = || formats.iter().max_by_key(|format| format.rate());
    formats.iter().find(holds_the_band).or_else(widest).copied().unwrap_or(native)
}

fn unix_now() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tandem_media::{Law, SampleRate};

    use super::*;

    #[test]
    fn a_leg_meets_a_model_without_losing_its_band() {
        const MU: AudioFormat = AudioFormat::G711(Law::Mu);
        const NARROW: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz8000);
        const WIDE: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz16000);
        const VOICE: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz24000);
        const FULL: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz48000);
        for (formats, native, format) in [
            (&[MU, VOICE][..], MU, MU),
            (&[MU, VOICE], NARROW, MU),
            (&[MU, VOICE], WIDE, VOICE),
            (&[MU, VOICE], VOICE, VOICE),
            (&[MU, VOICE], FULL, VOICE),
            (&[WIDE], MU, WIDE),
            (&[WIDE], FULL, WIDE),
            (&[], FULL, FULL),
        ] {
            assert_eq!(preferred(formats, native), format, "{native:?} of {formats:?}");
        }
    }
}
