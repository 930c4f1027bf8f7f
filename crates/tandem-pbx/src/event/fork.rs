//! What the fork modules report, and the JSON in it.

use serde_json::Value;

use crate::{ForkModule, MediaPath};

/// What happened to a fork.
#[derive(Debug, Clone, PartialEq)]
pub enum ForkEvent {
    /// The websocket is open.
    Connected,
    /// It could not be opened, or (`mod_audio_stream`) it broke. The fork stays attached and needs a stop before the next
    /// start; where it is `detached` the module takes it off by itself, about now, and the stop may find it gone.
    Failed { reason: String, detached: bool },
    /// The far end closed it, or it was lost (`code` is not known then). The fork stays attached and needs a stop
    /// before the next start.
    Disconnected { code: Option<u16>, reason: String },
    /// The far end does not read: audio was thrown away. Told once.
    Overrun,
    /// The far end sent audio to be played, now a file of the switch. `file` is missing where its name can't be carried
    /// or the module could not write it; `id` is what the far end called it.
    PlayFile { file: Option<MediaPath>, id: Option<String>, body: String },
    /// The far end asked for silence.
    KillAudio,
    /// The far end sent a text of another kind: `transcription`, `transfer`, `json`, `error`, `disconnect`.
    Text { kind: &'static str, body: String },
}

/// Longest reason kept.
const MAX_REASON: usize = 256;

/// Reads the event `subclass` with its body; `None` when it is of no fork module.
pub(super) fn read(subclass: &str, body: &str) -> Option<(ForkModule, ForkEvent)> {
    if let Some(name) = subclass.strip_prefix("mod_audio_fork::") {
        return Some((ForkModule::AudioFork, audio_fork(name, body)?));
    }
    let name = subclass.strip_prefix("mod_audio_stream::")?;
    Some((ForkModule::AudioStream, audio_stream(name, body)?))
}

fn audio_fork(name: &str, body: &str) -> Option<ForkEvent> {
    Some(match name {
        "connect" => ForkEvent::Connected,
        "connect_failed" => ForkEvent::Failed { reason: failure(body), detached: false },
        // A lost socket has no body; the far end's own message of that name has one.
        "disconnect" if body.trim().is_empty() => {
            ForkEvent::Disconnected { code: None, reason: String::new() }
        }
        "disconnect" => text("disconnect", body),
        "buffer_overrun" => ForkEvent::Overrun,
        "play_audio" => play_file(body),
        "kill_audio" => ForkEvent::KillAudio,
        "transcription" => text("transcription", body),
        "transfer" => text("transfer", body),
        "error" => text("error", body),
        "json" => text("json", body),
        _ => return None,
    })
}

fn audio_stream(name: &str, body: &str) -> Option<ForkEvent> {
    Some(match name {
        "connect" => ForkEvent::Connected,
        "disconnect" => {
            let json: Value = serde_json::from_str(body).unwrap_or_default();
            let message = &json["message"];
            let code = message["code"].as_u64().and_then(|code| u16::try_from(code).ok());
            let reason = message["reason"].as_str().unwrap_or_default();
            ForkEvent::Disconnected { code, reason: shorten(reason) }
        }
        "error" => {
            let json: Value = serde_json::from_str(body).unwrap_or_default();
            // Releases before the present client report retries and go on by themselves.
            let detached = json["message"].is_object();
            let said = json["message"]["error"].as_str().or(json["error"].as_str());
            ForkEvent::Failed { reason: said.map_or_else(|| shorten(body), shorten), detached }
        }
        "play" => play_file(body),
        "json" => text("json", body),
        _ => return None,
    })
}

fn text(kind: &'static str, body: &str) -> ForkEvent {
    ForkEvent::Text { kind, body: body.to_owned() }
}

/// `{"reason":"…"}`, of which the text is not escaped by the module.
fn failure(body: &str) -> String {
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    match json["reason"].as_str() {
        Some(reason) => shorten(reason),
        None => {
            let bare = body.trim().trim_start_matches("{\"reason\":\"").trim_end_matches("\"}");
            shorten(bare.trim())
        }
    }
}

fn play_file(body: &str) -> ForkEvent {
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    let file = json["file"].as_str().and_then(|file| MediaPath::new(file).ok());
    let id = match &json["id"] {
        Value::String(id) => Some(shorten(id)),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    };
    ForkEvent::PlayFile { file, id, body: body.to_owned() }
}

fn shorten(text: &str) -> String {
    let end = text.char_indices().nth(MAX_REASON).map_or(text.len(), |(at, _)| at);
    text[..end].to_owned()
}
