//! Opens sessions to fake models, listened to by a [`Tap`](crate::Tap), and the real attendant behind them.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use tandem_call::{AgentSpec, HistoryTurn, ModelSession, SessionSpec};
use tandem_exchange::{ModelOpener, OpenSession, Opened, VendorModels};
use tandem_media::{AudioFormat, SampleRate};
use tandem_models::{GeminiLive, ModelSettings, OpenAiRealtime, Provider, WsSession, capabilities};

use crate::{SharedTap, Tapped};

/// One model of the agent.
#[derive(Debug, Clone)]
pub struct FakeModel {
    /// How it is reached.
    pub settings: Arc<ModelSettings>,
    /// 24 kHz PCM instead of G.711.
    pub pcm: bool,
    /// The client's unix time when the session is opened.
    pub unix_now: Duration,
    /// What was said before the call, for the first session.
    pub history: Vec<HistoryTurn>,
}

/// The models of one call.
pub struct FakeModels {
    /// In order of preference.
    pub chain: Vec<FakeModel>,
    /// The agent.
    pub agent: AgentSpec,
    /// Opens the attendant: it has no models of its own.
    pub attendant: VendorModels,
    /// Listens.
    pub tap: SharedTap,
}

impl FakeModels {
    fn session(&self, now: Instant, index: usize, spec: SessionSpec) -> Box<dyn ModelSession> {
        let FakeModel { settings, unix_now, .. } = &self.chain[index];
        let (settings, tap) = (Arc::clone(settings), Rc::clone(&self.tap));
        let input = spec.input;
        // As `tandem_models::open` does, with the tap between.
        match settings.provider {
            Provider::OpenAiRealtime => {
                let dialect = OpenAiRealtime::new(Arc::clone(&settings), spec, now, *unix_now);
                let tapped = Tapped::new(dialect, index, tap);
                Box::new(WsSession::new(&settings, tapped, input, now))
            }
            Provider::GeminiLive => {
                let dialect = GeminiLive::new(Arc::clone(&settings), spec);
                let tapped = Tapped::new(dialect, index, tap);
                Box::new(WsSession::new(&settings, tapped, input, now))
            }
        }
    }
}

impl ModelOpener for FakeModels {
    fn open(&mut self, now: Instant, wanted: OpenSession) -> Opened {
        let Some(model) = self.chain.get(wanted.index) else {
            return self.attendant.open(now, wanted);
        };
        let able = capabilities(&model.settings);
        let format = |formats: &[AudioFormat], native: AudioFormat| {
            let pcm = AudioFormat::Pcm16(SampleRate::Hz24000);
            if model.pcm && formats.contains(&pcm) {
                pcm
            } else if formats.contains(&native) {
                native
            } else {
                formats[0]
            }
        };
        let input = format(able.input, wanted.leg);
        let spec = SessionSpec {
            instructions: self.agent.system_prompt.clone(),
            voice: self.agent.voice.clone(),
            language: self.agent.language.clone(),
            temperature: self.agent.temperature,
            tools: self.agent.declarations(),
            input,
            output: format(able.output, wanted.leg),
            transcription: self.agent.transcription,
            history: [model.history.clone(), wanted.history].concat(),
            first_item: wanted.first_item,
        };
        Opened { session: self.session(now, wanted.index, spec), input }
    }
}
