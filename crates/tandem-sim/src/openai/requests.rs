//! Judging and carrying out client events.

use super::*;

impl OpenAi {
    pub(super) fn request(
        &mut self,
        message: &Value,
        link: &mut Link,
    ) -> Result<Vec<Inbound>, Refusal> {
        let Some(event) = message.as_object() else {
            return Err(Refusal::new("invalid_event", "The event is not an object."));
        };
        let Some(kind) = event.get("type").and_then(Value::as_str) else {
            return Err(Refusal::about(
                "invalid_event",
                "type",
                "Missing required parameter: 'type'.",
            ));
        };
        let Some(known) = fields::of_event(kind) else {
            return Err(Refusal::about(
                "invalid_value",
                "type",
                format!("Invalid value: '{kind}'."),
            ));
        };
        let known = [known, &["type", "event_id"]].concat();
        fields::check(event, &known, "")?;
        match kind {
            "session.update" => self.update_session(event, link),
            "input_audio_buffer.append" => self.append(event),
            "input_audio_buffer.commit" => self.commit_buffer(link),
            "input_audio_buffer.clear" => {
                self.uncommitted = Duration::ZERO;
                self.send(json!({ "type": "input_audio_buffer.cleared" }), link);
                Ok(Vec::new())
            }
            "conversation.item.create" => self.create_item(event, link),
            "conversation.item.truncate" => self.truncate(event, link),
            "conversation.item.delete" | "conversation.item.retrieve" => {
                self.fetch(kind, event, link)
            }
            "response.create" => self.create_response(event),
            "response.cancel" => self.cancel_response(event),
            // There is such an event, but only for WebRTC and SIP.
            _ => Err(Refusal::about("invalid_value", "type", format!("Invalid value: '{kind}'."))),
        }
    }

    fn update_session(
        &mut self,
        event: &Map<String, Value>,
        link: &mut Link,
    ) -> Result<Vec<Inbound>, Refusal> {
        self.session.update(event.get("session").unwrap_or(&Value::Null), self.spoke)?;
        if self.configured {
            self.updated(link);
            return Ok(vec![Inbound::Reconfigured]);
        }
        self.configured = true;
        Ok(vec![Inbound::Setup])
    }

    fn append(&mut self, event: &Map<String, Value>) -> Result<Vec<Inbound>, Refusal> {
        let audio = event.get("audio").and_then(Value::as_str).ok_or_else(|| {
            Refusal::about(
                "missing_required_parameter",
                "audio",
                "Missing required parameter: 'audio'.",
            )
        })?;
        let audio = base64_simd::STANDARD.decode_to_vec(audio).map_err(|_| {
            Refusal::about("invalid_value", "audio", "Invalid 'audio': not valid base64.")
        })?;
        self.appended = true;
        let format = self.session.input_format();
        self.uncommitted += length_of(format, audio.len());
        Ok(vec![Inbound::Audio(audio, format)])
    }

    fn commit_buffer(&mut self, link: &mut Link) -> Result<Vec<Inbound>, Refusal> {
        if self.uncommitted < Duration::from_millis(100) {
            let have = self.uncommitted.as_millis();
            return Err(Refusal::new(
                "input_audio_buffer_commit_empty",
                format!(
                    "Error committing input audio buffer: expected at least 100ms of audio, but buffer only has {have}ms."
                ),
            ));
        }
        let id = self.new_item();
        self.commit(&id, link);
        self.user_item = Some(id);
        Ok(Vec::new())
    }

    fn create_item(
        &mut self,
        event: &Map<String, Value>,
        link: &mut Link,
    ) -> Result<Vec<Inbound>, Refusal> {
        let Some(item) = event.get("item").and_then(Value::as_object) else {
            return Err(Refusal::about(
                "missing_required_parameter",
                "item",
                "Missing required parameter: 'item'.",
            ));
        };
        fields::check(item, fields::ITEM, "item")?;
        let text = |name: &str| item.get(name).and_then(Value::as_str);
        let invalid = |param: &str| {
            Refusal::about("invalid_value", param, format!("Invalid value: '{param}'."))
        };
        let id = match text("id") {
            Some(id) if self.items.contains_key(id) => {
                let message = format!("Error adding item: the id '{id}' already exists.");
                return Err(Refusal::about("item_create_duplicate_item_id", "item.id", message));
            }
            Some(id) => id.to_owned(),
            None => self.new_item(),
        };
        let mut inbound = Vec::new();
        match text("type") {
            Some("message") => {
                if !matches!(text("role"), Some("system" | "user" | "assistant")) {
                    return Err(invalid("item.role"));
                }
                let parts = item
                    .get("content")
                    .and_then(Value::as_array)
                    .ok_or_else(|| invalid("item.content"))?;
                let right = |part: &Value| {
                    matches!(
                        (text("role"), part.get("type").and_then(Value::as_str)),
                        (Some("assistant"), Some("output_text"))
                            | (Some("user"), Some("input_text" | "input_audio" | "input_image"))
                            | (Some("system"), Some("input_text"))
                    ) || self.dialect.beta
                };
                if !parts.iter().all(right) {
                    return Err(invalid("item.content"));
                }
            }
            Some("function_call") => {}
            Some("function_call_output") => {
                let call = text("call_id").unwrap_or_default();
                if text("output").is_none() {
                    return Err(invalid("item.output"));
                }
                match link.calls.get(call).copied() {
                    None | Some(CallState::Cancelled) => return Err(invalid("item.call_id")),
                    Some(CallState::Answered) => {
                        link.violation(format!("tool call {call} answered twice"));
                    }
                    Some(CallState::Open) => {
                        link.calls.insert(call.to_owned(), CallState::Answered);
                        inbound.push(Inbound::ToolResult(call.to_owned()));
                    }
                }
            }
            _ => return Err(invalid("item.type")),
        }
        let mut shown = item.clone();
        shown.insert("id".into(), id.into());
        shown.insert("object".into(), "realtime.item".into());
        shown.entry("status").or_insert_with(|| "completed".into());
        let previous = event.get("previous_item_id").filter(|id| !id.is_null());
        self.add_item(&Value::Object(shown), previous, link);
        Ok(inbound)
    }

    fn truncate(
        &mut self,
        event: &Map<String, Value>,
        link: &mut Link,
    ) -> Result<Vec<Inbound>, Refusal> {
        let id = event.get("item_id").and_then(Value::as_str).unwrap_or_default();
        let Some(end_ms) = event.get("audio_end_ms").and_then(Value::as_u64) else {
            return Err(Refusal::about(
                "invalid_value",
                "audio_end_ms",
                "Invalid value: 'audio_end_ms' must be an integer.",
            ));
        };
        if !event.get("content_index").is_some_and(Value::is_u64) {
            return Err(Refusal::about(
                "missing_required_parameter",
                "content_index",
                "Missing required parameter: 'content_index'.",
            ));
        }
        let Some(item) = self.items.get(id) else {
            let message = format!("Item with item_id '{id}' not found.");
            return Err(Refusal::about("item_truncate_invalid_item_id", "item_id", message));
        };
        if !item.is_assistant_message || item.audio.is_zero() {
            let message = "Only model output audio messages can be truncated.";
            return Err(Refusal::about("unsupported_content_type", "item_id", message));
        }
        let length_ms = item.audio.as_millis() as u64;
        if end_ms > length_ms {
            let message =
                format!("Audio content of {length_ms}ms is already shorter than {end_ms}ms.");
            return Err(Refusal::about("invalid_value", "audio_end_ms", message));
        }
        if !self.dialect.minimal {
            let truncated = json!({
                "type": "conversation.item.truncated",
                "item_id": id, "content_index": 0, "audio_end_ms": end_ms,
            });
            self.send(truncated, link);
        }
        Ok(Vec::new())
    }

    fn fetch(
        &mut self,
        kind: &str,
        event: &Map<String, Value>,
        link: &mut Link,
    ) -> Result<Vec<Inbound>, Refusal> {
        let id = event.get("item_id").and_then(Value::as_str).unwrap_or_default();
        if !self.items.contains_key(id) {
            let message = format!("Item with item_id '{id}' not found.");
            return Err(Refusal::about("item_retrieve_invalid_item_id", "item_id", message));
        }
        let answer = if kind == "conversation.item.delete" {
            self.items.remove(id);
            json!({ "type": "conversation.item.deleted", "item_id": id })
        } else {
            json!({ "type": "conversation.item.retrieved", "item": { "id": id, "object": "realtime.item" } })
        };
        self.send(answer, link);
        Ok(Vec::new())
    }

    fn create_response(&mut self, event: &Map<String, Value>) -> Result<Vec<Inbound>, Refusal> {
        let options = event.get("response").and_then(Value::as_object);
        if let Some(options) = options {
            fields::check(options, fields::RESPONSE, "response")?;
        }
        let in_conversation = options
            .and_then(|options| options.get("conversation"))
            .is_none_or(|value| value != "none");
        if let Some(active) = self.active.as_ref().filter(|_| in_conversation) {
            let message =
                format!("Conversation already has an active response in progress: {}.", active.id);
            return Err(Refusal::new("conversation_already_has_active_response", message));
        }
        Ok(vec![Inbound::Text])
    }

    fn cancel_response(&mut self, event: &Map<String, Value>) -> Result<Vec<Inbound>, Refusal> {
        let wanted = event.get("response_id").and_then(Value::as_str);
        let active = self.active.as_ref().filter(|active| wanted.is_none_or(|id| id == active.id));
        if active.is_none() {
            let message = "Cancellation failed: no active response found.";
            return Err(Refusal::new("response_cancel_not_active", message));
        }
        self.cut = Some("client_cancelled");
        Ok(vec![Inbound::Cut])
    }
}
