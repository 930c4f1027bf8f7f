//! Sentences into speech: programs of this machine, a cache, and the shipped phrases behind them.

mod disk;
mod memory;
mod program;
pub(crate) mod wave;

use std::{
    collections::HashMap,
    future::Future,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tandem_call::Prompt;
use tandem_media::SampleRate;
use tokio::{runtime::Handle, sync::watch};

use self::{disk::DiskCache, memory::MemoryCache, program::Programs};
use crate::{
    Script,
    phrases::{self, Phrase},
    sentence::Sentence,
};

/// Renders that wait or run at once; more are refused.
const MAX_PENDING: usize = 64;

/// A program that turns text into speech. Both run as subprocesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Engine {
    /// `flite`: English, 16 kHz.
    #[serde(rename = "flite")]
    Flite,
    /// `espeak-ng`: about a hundred languages, 22.05 kHz.
    #[serde(rename = "espeak-ng")]
    EspeakNg,
}

/// How the attendant speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VoiceSettings {
    /// Tried in this order; one that is not installed is passed over.
    pub engines: Vec<Engine>,
    /// Voice of flite: `slt`, `rms`, `awb`, `kal`.
    pub flite_voice: String,
    /// Where the fixed sentences of scripts are kept from one start to the next.
    pub cache_dir: Option<PathBuf>,
    /// Bytes of rendered speech kept in memory (32,000 a second).
    pub cache_bytes: usize,
}

impl Default for VoiceSettings {
    fn default() -> Self {
        Self {
            engines: vec![Engine::Flite, Engine::EspeakNg],
            flite_voice: "slt".into(),
            cache_dir: None,
            cache_bytes: 32 * 1024 * 1024,
        }
    }
}

impl VoiceSettings {
    /// What is wrong with them, if anything.
    pub fn mistake(&self) -> Option<String> {
        let voice = self.flite_voice.as_bytes();
        let is_name = (1..=64).contains(&voice.len())
            && voice.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        (!is_name).then(|| {
            format!("flite_voice: {:?} is no name of a voice, such as \"slt\"", self.flite_voice)
        })
    }
}

/// Rendered speech, mono at [`Speech::RATE`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speech {
    /// The samples.
    pub pcm: Vec<i16>,
}

impl Speech {
    /// Samples per second.
    pub const RATE: SampleRate = SampleRate::Hz16000;

    /// How long it takes to say.
    pub fn duration(&self) -> Duration {
        Self::RATE.duration_of(self.pcm.len())
    }
}

/// A sentence as it was rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoken {
    /// The words in `speech`, which are those of a shipped phrase when the sentence could not be rendered.
    pub text: String,
    /// The sound.
    pub speech: Arc<Speech>,
    /// The words are not those that were asked for.
    pub stands_in: bool,
}

/// What came of [`Voice::warm`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Warmed {
    /// Sentences that are ready.
    pub ready: usize,
    /// Sentences nobody could render, with the reason; shipped phrases will stand in for them.
    pub failed: Vec<(String, VoiceError)>,
}

/// Why a text was not rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VoiceError {
    #[error("there is nothing to say")]
    Empty,
    #[error("{chars} characters are more than {}", Sentence::MAX_CHARS)]
    TooLong { chars: usize },
    #[error("no speech program for this language is installed (flite or espeak-ng)")]
    NoEngine,
    #[error("{engine:?} took longer than {} s", limit.as_secs())]
    TimedOut { engine: Engine, limit: Duration },
    #[error("{engine:?}: {reason}")]
    Failed { engine: Engine, reason: String },
    #[error("too many sentences are being rendered")]
    Busy,
    #[error("the voice was shut down")]
    Stopped,
}

/// The voice of all attendants of a process. Clones share engines and cache.
#[derive(Debug, Clone)]
pub struct Voice(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    renderer: Renderer,
    prompts: [(Prompt, Arc<[i16]>); 3],
    state: Mutex<State>,
}

#[derive(Debug)]
enum Renderer {
    Programs { programs: Box<Programs>, disk: Option<DiskCache>, runtime: Handle },
    Tone { per_char: Duration },
}

#[derive(Debug)]
struct State {
    cache: MemoryCache,
    pending: HashMap<Utterance, watch::Receiver<Option<Rendered>>>,
}

type Rendered = Result<Arc<Speech>, VoiceError>;

/// What is rendered: a text in a language (primary subtag of BCP-47, lower case).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Utterance {
    language: String,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Memory,
    Disk,
}

enum Rendering {
    Done(Rendered),
    Pending(watch::Receiver<Option<Rendered>>),
}

impl Voice {
    /// A voice whose programs run on `runtime` (IO and time enabled), never on the caller's thread. Nothing is started
    /// before it is needed.
    pub fn open(settings: VoiceSettings, runtime: Handle) -> Self {
        let VoiceSettings { engines, flite_voice, cache_dir, cache_bytes } = settings;
        let disk = cache_dir.map(|directory| DiskCache::new(directory, &engines, &flite_voice));
        Self::new(
            Renderer::Programs {
                programs: Box::new(Programs::new(engines, flite_voice)),
                disk,
                runtime,
            },
            cache_bytes,
        )
    }

    /// A voice without words, for tests and load: a tone as long as saying the text takes, ready at once.
    pub fn tone(per_char: Duration) -> Self {
        Self::new(Renderer::Tone { per_char }, VoiceSettings::default().cache_bytes)
    }

    fn new(renderer: Renderer, cache_bytes: usize) -> Self {
        let prompts = Prompt::SHIPPED.map(|prompt| (prompt, phrases::prompt(prompt)));
        let state = State { cache: MemoryCache::new(cache_bytes), pending: HashMap::new() };
        Self(Arc::new(Inner { renderer, prompts, state: Mutex::new(state) }))
    }

    /// The shipped recording of `prompt`, mono at 8 kHz; for an agent's own phrase that of [`Prompt::OneMoment`].
    pub fn prompt(&self, prompt: Prompt) -> Arc<[i16]> {
        let [(_, one_moment), ..] = &self.0.prompts;
        let shipped = self.0.prompts.iter().find(|(name, _)| *name == prompt);
        Arc::clone(shipped.map_or(one_moment, |(_, pcm)| pcm))
    }

    /// Renders `text`, at most [`Sentence::MAX_CHARS`] long, in `language` (BCP-47).
    ///
    /// Work begins with the call, not with the first poll, and is shared by all who ask for the same. Where no program
    /// can speak, a text made of shipped phrases is put together from them.
    pub fn render(
        &self,
        language: &str,
        text: &str,
    ) -> impl Future<Output = Rendered> + Send + use<> {
        self.rendering(language, text, Keep::Memory).wait()
    }

    /// Renders `sentence` in `language`, or else the shipped phrase nearest to it.
    pub fn speak(
        &self,
        language: &str,
        sentence: Sentence,
    ) -> impl Future<Output = Spoken> + Send + use<> {
        let rendering = self.rendering(language, &sentence.text, Keep::Memory);
        let voice = self.clone();
        async move {
            match rendering.wait().await {
                Ok(speech) => Spoken { text: sentence.text, speech, stands_in: false },
                Err(error) => {
                    let phrase = phrases::nearest(&sentence);
                    tracing::warn!(%error, occasion = ?sentence.occasion, "a sentence is replaced by a shipped phrase");
                    Spoken {
                        text: phrases::text(&[phrase]),
                        speech: voice.0.phrase(phrase),
                        stands_in: true,
                    }
                }
            }
        }
    }

    /// Renders the sentences of `script` that never change, so that no caller waits for them, and keeps them in the
    /// cache directory if there is one.
    pub async fn warm(&self, language: &str, script: &Script) -> Warmed {
        let mut warmed = Warmed::default();
        for sentence in script.fixed_sentences() {
            match self.rendering(language, &sentence, Keep::Disk).wait().await {
                Ok(_) => warmed.ready += 1,
                Err(error) => warmed.failed.push((sentence, error)),
            }
        }
        if let Renderer::Programs { disk: Some(disk), .. } = &self.0.renderer {
            disk.prune().await;
        }
        warmed
    }

    /// Has each configured engine speak, past every cache: how long its speech is, or why there is none.
    pub async fn try_engines(&self) -> Vec<(Engine, Result<Duration, VoiceError>)> {
        let Renderer::Programs { programs, .. } = &self.0.renderer else { return Vec::new() };
        let mut tried = Vec::new();
        for &engine in programs.engines() {
            let spoken = programs.run(engine, "en", "Hello.").await;
            tried.push((
                engine,
                spoken
                    .map(|(pcm, rate)| Duration::from_secs_f64(pcm.len() as f64 / f64::from(rate))),
            ));
        }
        tried
    }

    fn rendering(&self, language: &str, text: &str, keep: Keep) -> Rendering {
        let text = text.trim();
        if !text.chars().any(char::is_alphanumeric) {
            return Rendering::Done(Err(VoiceError::Empty));
        }
        let chars = text.chars().count();
        if chars > Sentence::MAX_CHARS {
            return Rendering::Done(Err(VoiceError::TooLong { chars }));
        }
        let utterance = Utterance { language: primary_subtag(language), text: text.to_owned() };
        let mut state = self.0.state();
        if let Some(speech) = state.cache.get(&utterance) {
            return Rendering::Done(Ok(speech));
        }
        match &self.0.renderer {
            Renderer::Tone { per_char } => {
                let speech = Arc::new(tone(*per_char * chars as u32));
                state.cache.insert(utterance, Arc::clone(&speech));
                Rendering::Done(Ok(speech))
            }
            Renderer::Programs { runtime, .. } => {
                if let Some(pending) = state.pending.get(&utterance) {
                    return Rendering::Pending(pending.clone());
                }
                if state.pending.len() >= MAX_PENDING {
                    return Rendering::Done(Err(VoiceError::Busy));
                }
                let (sender, receiver) = watch::channel(None);
                state.pending.insert(utterance.clone(), receiver.clone());
                let inner = Arc::clone(&self.0);
                runtime.spawn(async move {
                    let guard = PendingGuard { inner: &inner, utterance: &utterance };
                    let rendered = inner.produce(&utterance, keep).await;
                    if let Ok(speech) = &rendered {
                        inner.state().cache.insert(utterance.clone(), Arc::clone(speech));
                    }
                    drop(guard);
                    sender.send_replace(Some(rendered));
                });
                Rendering::Pending(receiver)
            }
        }
    }
}

impl Rendering {
    async fn wait(self) -> Rendered {
        match self {
            Self::Done(rendered) => rendered,
            Self::Pending(mut receiver) => match receiver.wait_for(Option::is_some).await {
                Ok(rendered) => rendered.clone().unwrap_or(Err(VoiceError::Stopped)),
                Err(_) => Err(VoiceError::Stopped),
            },
        }
    }
}

/// Takes an utterance off the list when its task ends in whatever way.
struct PendingGuard<'a> {
    inner: &'a Inner,
    utterance: &'a Utterance,
}

impl Drop for PendingGuard<'_> {
    fn drop(&mut self) {
        self.inner.state().pending.remove(self.utterance);
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn produce(&self, utterance: &Utterance, keep: Keep) -> Rendered {
        let Renderer::Programs { programs, disk, .. } = &self.renderer else {
            return Err(VoiceError::NoEngine);
        };
        if let Some(disk) = disk
            && let Some(pcm) = disk.read(utterance).await
        {
            return Ok(Arc::new(Speech { pcm }));
        }
        match programs.render(utterance).await {
            Ok((pcm, rate)) => {
                let pcm = to_session_rate(pcm, rate).await?;
                if let (Keep::Disk, Some(disk)) = (keep, disk) {
                    disk.write(utterance, &pcm).await;
                }
                Ok(Arc::new(Speech { pcm }))
            }
            Err(error) => {
                let phrases = phrases::compose(&utterance.text).ok_or(error)?;
                let pcm = to_session_rate(phrases::join(&phrases), 8_000).await?;
                Ok(Arc::new(Speech { pcm }))
            }
        }
    }

    fn phrase(&self, phrase: &Phrase) -> Arc<Speech> {
        let utterance = Utterance { language: String::new(), text: phrases::text(&[phrase]) };
        let known = self.state().cache.get(&utterance);
        known.unwrap_or_else(|| {
            let pcm = wave::resample(&phrases::join(&[phrase]), 8_000, Speech::RATE.hz() as u32);
            let speech = Arc::new(Speech { pcm });
            self.state().cache.insert(utterance, Arc::clone(&speech));
            speech
        })
    }
}

async fn to_session_rate(pcm: Vec<i16>, rate: u32) -> Result<Vec<i16>, VoiceError> {
    let wanted = Speech::RATE.hz() as u32;
    if rate == wanted {
        return Ok(pcm);
    }
    let resampled = tokio::task::spawn_blocking(move || wave::resample(&pcm, rate, wanted)).await;
    resampled.map_err(|_| VoiceError::Stopped)
}

/// The primary subtag of a BCP-47 tag in lower case; English when there is none that could be one.
fn primary_subtag(language: &str) -> String {
    let subtag = language.split(['-', '_']).next().unwrap_or_default();
    let is_subtag =
        (2..=8).contains(&subtag.len()) && subtag.bytes().all(|byte| byte.is_ascii_alphabetic());
    if is_subtag { subtag.to_ascii_lowercase() } else { "en".into() }
}

fn tone(duration: Duration) -> Speech {
    const PERIOD: f32 = 80.0; // 200 Hz
    let samples = Speech::RATE.hz() * duration.as_millis() as usize / 1_000;
    let pcm = (0..samples)
        .map(|n| ((n as f32 / PERIOD * std::f32::consts::TAU).sin() * 6_000.0) as i16)
        .collect();
    Speech { pcm }
}

#[cfg(test)]
mod tests;
