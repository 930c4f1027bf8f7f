//! The offline voice model: prompts, turns by voice activity, digits, the same tools.
//!
//! It needs no network and no key: it greets, finds the caller's turns by voice activity, answers from a script, takes
//! digits, can be interrupted and calls tools like any other model. It understands no words, and never says it does.
//!
//! `endpointing`, `script`, `sentence` and `dialogue` are pure; `session` drives them as a
//! [`tandem_call::ModelSession`]; `voice` turns sentences into speech, `phrases` are the sentences shipped with the binary.

mod dialogue;
mod echo;
mod endpointing;
mod phrases;
mod script;
mod sentence;
mod session;
mod voice;

pub use dialogue::{Answer, Dialogue, DialogueSpec, Happening};
pub use endpointing::{Endpointer, Endpointing, Turn};
pub use script::{DigitAction, Script, ScriptMistake, ScriptTurn, ToolAction};
pub use sentence::{Occasion, Sentence, split_sentences};
pub use session::{AttendantSession, AttendantSpec};
pub use voice::{Engine, Speech, Spoken, Voice, VoiceError, VoiceSettings, Warmed};
