//! Virtual clock, lossy network, scripted caller and model, fake model servers on loopback.
//!
//! A [`FakeServer`] speaks the wire of OpenAI Realtime or Gemini Live and plays a [`Script`]. On the
//! [`Mode::AudioClock`] its only time is the caller audio it receives, so a test that sends the same audio sees the same
//! messages. [`scenarios`] holds a collection of stories with what must come of them.

mod answer;
mod clock;
mod connection;
mod conversation;
mod engine;
mod events;
mod frames;
pub mod freeswitch;
mod gemini;
mod network;
mod openai;
pub mod receiver;
mod record;
mod reference;
mod scenario;
pub mod scenarios;
mod script;
mod server;
mod speech;
mod wire;

pub use answer::{
    BLOCK_MS, Profile, audio as answer_audio, code as answer_code, level as answer_level,
};
pub use clock::VirtualClock;
pub use conversation::Conversation;
pub use engine::{Mode, Received, ReceivedMessage};
pub use events::{Life, live, live_seeded, run_events};
pub use network::{LinkConditions, LinkStats, LossyLink};
pub use record::{Ending, FakeHandle, Progress};
pub use reference::{Reference, Step as ReferenceStep, Stimulus, Violation};
pub use scenario::{
    CallerStep, Expect, ExpectedCall, Heard, Need, Outcome, Scenario, ToolReply, ToolScript,
    check_heard,
};
pub use script::{
    Action, Answer, AnswerEnd, ErrorSpec, InputTranscript, Phase, Response, ResponseOutput,
    ResponseStatus, Script, SpokenMessage, Step, ToolRequest, Trigger, UsageSpec,
};
pub use server::{
    Dialect, FakeConfig, FakeServer, Keep, Provider, Strictness, UnknownProvider, refused_url,
};
pub use speech::{Block, SpeechChange, SpeechDetector, caller_silence, caller_speech};
