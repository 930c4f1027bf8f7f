//! The wire of OpenAI Realtime, server side: the GA shape, and the older one with the `beta` switch.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};
use tandem_media::AudioFormat;

use crate::{
    answer::bytes_of,
    engine::error_event,
    script::{ErrorSpec, InputTranscript, Response, ResponseOutput, ToolRequest},
    server::Dialect,
    speech::SpeechChange,
    wire::{CallState, Dial, Inbound, Link, Op, Output, Target, Wire},
};

mod fields;
mod requests;
mod response;
mod session;

use session::Session;

/// Why a client event is refused; the session goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    code: &'static str,
    message: String,
    param: Option<String>,
}

impl Refusal {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), param: None }
    }

    fn about(code: &'static str, param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), param: Some(param.into()) }
    }
}

/// A conversation item, as far as it matters to later events.
#[derive(Debug, Clone, Copy, Default)]
struct Item {
    is_assistant_message: bool,
    audio: Duration,
}

/// The response that is being made.
#[derive(Debug, Clone, Default)]
struct Active {
    id: String,
    outputs: Vec<Value>,
    open_item: Option<Value>,
    transcript: String,
}

/// OpenAI Realtime as a client sees it.
pub(crate) struct OpenAi {
    key: String,
    dialect: Dialect,
    session: Session,
    sent_beta_header: bool,
    configured: bool,
    appended: bool,
    events: u64,
    item_ids: u64,
    response_ids: u64,
    items: BTreeMap<String, Item>,
    last_item: Option<String>,
    user_item: Option<String>,
    newest: Target,
    active: Option<Active>,
    cut: Option<&'static str>,
    spoke: bool,
    uncommitted: Duration,
}

impl OpenAi {
    pub(crate) fn new(key: &str, dialect: Dialect, connection: usize, expires_at: u64) -> Self {
        Self {
            key: key.to_owned(),
            dialect,
            session: Session::new(dialect.beta, connection, expires_at),
            sent_beta_header: false,
            configured: false,
            appended: false,
            events: 0,
            item_ids: 0,
            response_ids: 0,
            items: BTreeMap::new(),
            last_item: None,
            user_item: None,
            newest: Target::default(),
            active: None,
            cut: None,
            spoke: false,
            uncommitted: Duration::ZERO,
        }
    }

    fn new_item(&mut self) -> String {
        self.item_ids += 1;
        format!("item_{}", self.item_ids)
    }

    /// Sends `item` as a new member of the conversation.
    fn add_item(&mut self, item: &Value, previous: Option<&Value>, link: &mut Link) {
        let id = item["id"].as_str().unwrap_or_default().to_owned();
        let previous = previous.cloned().unwrap_or_else(|| json!(self.last_item));
        for kind in ["conversation.item.added", "conversation.item.done"] {
            let added = json!({ "type": kind, "previous_item_id": previous, "item": item });
            self.send(added, link);
        }
        self.items.entry(id.clone()).or_default();
        self.last_item = Some(id);
    }

    fn commit(&mut self, id: &str, link: &mut Link) {
        let committed = json!({
            "type": "input_audio_buffer.committed",
            "previous_item_id": self.last_item,
            "item_id": id,
        });
        self.send(committed, link);
        let item = json!({
            "id": id, "object": "realtime.item", "type": "message", "status": "completed",
            "role": "user", "content": [{ "type": "input_audio", "transcript": null }],
        });
        self.add_item(&item, None, link);
        self.uncommitted = Duration::ZERO;
    }

    fn updated(&mut self, link: &mut Link) {
        if !self.dialect.minimal {
            let session = self.session.value().clone();
            self.send(json!({ "type": "session.updated", "session": session }), link);
        }
    }

    /// Keeps the books that follow from a message to the client.
    fn observe(&mut self, kind: &str, message: &Map<String, Value>, link: &mut Link) {
        let text = |name: &str| message.get(name).and_then(Value::as_str);
        let item = message.get("item");
        let item_text = |name: &str| item.and_then(|item| item.get(name)).and_then(Value::as_str);
        let is_active =
            self.active.as_ref().is_some_and(|active| text("response_id") == Some(&active.id));
        match kind {
            "response.created" => {
                let response = message.get("response");
                let field = |name: &str| response.and_then(|response| response.get(name));
                let id = field("id").and_then(Value::as_str).unwrap_or_default();
                if field("conversation_id").is_some_and(Value::is_string) {
                    self.newest.response = id.to_owned();
                    self.active = Some(Active { id: id.to_owned(), ..Active::default() });
                    self.cut = None;
                }
            }
            "response.output_item.added" => {
                if let Some(id) = item_text("id") {
                    let is_assistant_message = item_text("type") == Some("message");
                    self.items.insert(
                        id.to_owned(),
                        Item { is_assistant_message, audio: Duration::ZERO },
                    );
                    if is_active {
                        self.last_item = Some(id.to_owned());
                        self.newest.item = id.to_owned();
                    }
                }
                if let Some(active) = self.active.as_mut().filter(|_| is_active) {
                    active.open_item = item.cloned();
                    active.transcript.clear();
                }
            }
            "response.output_audio_transcript.delta" => {
                if let (Some(active), Some(delta)) =
                    (self.active.as_mut().filter(|_| is_active), text("delta"))
                {
                    active.transcript.push_str(delta);
                }
            }
            "response.output_item.done" => {
                if let Some(call) = item_text("call_id") {
                    link.calls.insert(call.to_owned(), CallState::Open);
                }
                if let Some(active) = self.active.as_mut().filter(|_| is_active) {
                    active.open_item = None;
                    active.outputs.extend(item.cloned());
                }
            }
            "response.done" => {
                let id = message.get("response").and_then(|response| response.get("id"));
                if self.active.as_ref().is_some_and(|active| id == Some(&json!(active.id))) {
                    self.active = None;
                }
            }
            _ => {}
        }
    }
}

impl Wire for OpenAi {
    fn authorize(&mut self, dial: &Dial) -> Result<(), u16> {
        if !dial.path.ends_with("/v1/realtime") {
            return Err(404);
        }
        let bearer = dial.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        if bearer != Some(self.key.as_str()) {
            return Err(401);
        }
        match dial.query("model").or(dial.query("call_id")) {
            Some(model) => self.session.set_model(model),
            None => return Err(400),
        }
        self.sent_beta_header = dial.header("openai-beta").is_some();
        Ok(())
    }

    fn binary(&self) -> bool {
        false
    }

    fn live_when_opened(&self) -> bool {
        true
    }

    fn opened(&mut self, link: &mut Link) {
        if self.sent_beta_header {
            link.violation("the OpenAI-Beta header was sent");
        }
        if self.sent_beta_header && link.strict && !self.dialect.beta {
            let message = "The Realtime Beta API is no longer supported.";
            let error = ErrorSpec::new("invalid_request_error", "beta_api_shape_disabled", message);
            self.send(error_event(&error, None, None), link);
            link.push(Output::Close { code: 4000, reason: message.into() });
            return;
        }
        let session = self.session.value().clone();
        self.send(json!({ "type": "session.created", "session": session }), link);
    }

    fn ready(&mut self, link: &mut Link) {
        self.updated(link);
    }

    fn plain_audio<'a>(&mut self, text: &'a [u8]) -> Option<(&'a [u8], AudioFormat)> {
        const KIND: &str = r#""input_audio_buffer.append""#;
        const OTHER_TEXT: usize = 700;
        if !self.appended {
            return None; // The first one is looked at closely, the others are made like it.
        }
        let text = std::str::from_utf8(text).ok()?;
        let (before, rest) = text.split_once(r#""audio":""#)?;
        let (audio, after) = rest.split_once('"')?;
        let plain = before.len() + after.len() < OTHER_TEXT
            && (before.contains(KIND) || after.contains(KIND))
            && audio.len().is_multiple_of(4)
            && !audio.contains('\\');
        if !plain {
            return None;
        }
        let format = self.session.input_format();
        self.uncommitted += length_of(format, audio.len() / 4 * 3);
        Some((audio.as_bytes(), format))
    }

    fn handle(&mut self, message: &Value, link: &mut Link) -> Vec<Inbound> {
        self.request(message, link).unwrap_or_else(|Refusal { code, message: text, param }| {
            link.violation(format!("{code}: {text}"));
            if link.strict {
                let error = ErrorSpec::new("invalid_request_error", code, &text);
                let event_id = message.get("event_id");
                self.send(error_event(&error, param.as_deref(), event_id), link);
            }
            Vec::new()
        })
    }

    fn handle_garbage(&mut self, link: &mut Link) {
        let text = "The message is not valid JSON.";
        link.violation(format!("invalid_json: {text}"));
        if link.strict {
            let error = ErrorSpec::new("invalid_request_error", "invalid_json", text);
            self.send(error_event(&error, None, None), link);
        }
    }

    fn speech(&mut self, change: SpeechChange, link: &mut Link) {
        match change {
            SpeechChange::Started { at_ms } => {
                let id = self.new_item();
                let start = at_ms.saturating_sub(self.session.prefix_padding_ms());
                let started = json!({
                    "type": "input_audio_buffer.speech_started",
                    "audio_start_ms": start,
                    "item_id": id,
                });
                self.user_item = Some(id);
                self.send(started, link);
            }
            SpeechChange::Ended { at_ms } => {
                let Some(id) = self.user_item.clone() else { return };
                let stopped = json!({
                    "type": "input_audio_buffer.speech_stopped",
                    "audio_end_ms": at_ms,
                    "item_id": id,
                });
                self.send(stopped, link);
                self.commit(&id, link);
            }
        }
    }

    fn plan_response(&mut self, response: &Response, link: &mut Link) -> Vec<Op> {
        if self.active.is_some() && !response.out_of_band {
            return Vec::new();
        }
        self.planned_response(response, link)
    }

    fn plan_tools(&mut self, tools: &[ToolRequest], link: &mut Link) -> Vec<Op> {
        let outputs: Vec<_> = tools.iter().cloned().map(ResponseOutput::FunctionCall).collect();
        self.plan_response(&Response::of(outputs), link)
    }

    fn plan_transcript(&mut self, transcript: &InputTranscript) -> Vec<Op> {
        self.planned_transcript(transcript)
    }

    fn plan_unscripted(&mut self, link: &mut Link) -> Vec<Op> {
        let silent = Response { usage: None, ..Response::of([]) };
        self.plan_response(&silent, link)
    }

    fn interruptible(&self) -> bool {
        self.session.interrupts()
    }

    fn interrupted(&mut self, _link: &mut Link) {
        self.cut.get_or_insert("turn_detected");
    }

    fn turn_complete(&mut self, link: &mut Link) {
        let Some(active) = self.active.clone() else { return };
        let cut = self.cut.take();
        let done = self.ended_response(active, cut);
        self.send(done, link);
    }

    fn generation_complete(&mut self, _link: &mut Link) {}

    fn send(&mut self, message: Value, link: &mut Link) {
        let Value::Object(mut fields) = message else {
            link.push(Output::Message(message.to_string()));
            return;
        };
        let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.observe(&kind, &fields, link);
        let Some(kind) = self.spelling(&kind) else { return };
        fields.remove("type");
        self.events += 1;
        let event_id = fields
            .remove("event_id")
            .unwrap_or_else(|| Value::String(format!("event_{}", self.events)));
        let rest = Value::Object(fields).to_string();
        let comma = if rest == "{}" { "" } else { "," };
        link.push(Output::Message(format!(
            r#"{{"type":"{kind}","event_id":{event_id}{comma}{}"#,
            &rest[1..]
        )));
    }

    fn send_audio(
        &mut self,
        base64: &str,
        format: AudioFormat,
        bytes: usize,
        target: &Target,
        link: &mut Link,
    ) {
        self.spoke = true;
        if let Some(item) = self.items.get_mut(&target.item) {
            item.audio += length_of(format, bytes);
        }
        self.events += 1;
        let kind =
            if self.dialect.beta { "response.audio.delta" } else { "response.output_audio.delta" };
        let Target { response, item, output_index } = target;
        let event = self.events;
        link.push(Output::Message(format!(
            r#"{{"type":"{kind}","event_id":"event_{event}","response_id":"{response}","item_id":"{item}","output_index":{output_index},"content_index":0,"delta":"{base64}"}}"#
        )));
    }

    fn placeholder(&self, name: &str) -> Option<String> {
        match name {
            "response" => Some(self.newest.response.clone()),
            "item" => Some(self.newest.item.clone()),
            "user_item" => self.user_item.clone(),
            _ => None,
        }
    }

    fn output_format(&self) -> AudioFormat {
        self.session.output_format()
    }

    fn listening(&self) -> (AudioFormat, u64) {
        (self.session.input_format(), self.session.silence_ms())
    }

    fn detects_turns(&self) -> bool {
        self.session.detects_turns()
    }

    fn turn_open(&self) -> bool {
        self.active.is_some()
    }

    fn resumed_handle(&self, _text: &[u8]) -> Option<String> {
        None
    }
}

fn length_of(format: AudioFormat, bytes: usize) -> Duration {
    Duration::from_nanos(bytes as u64 * 1_000_000_000 / bytes_of(format, 1_000) as u64)
}
