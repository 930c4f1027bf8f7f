//! What the server says.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tandem_call::{ModelEvent, ModelSink, ResponseEnd, ToolCall, ToolCallId, Usage};

use super::{
    MAX_SEEN_CALLS, OpenAiRealtime,
    errors::{Class, classify, describe, reset_in, wait_in},
    responses::Created,
    session_config::{CONFIGURE, check_formats},
};
use crate::{Outbox, envelope::Scanner, failure};

/// How long to wait before an answer is asked for again when the server does not say.
const RETRY: Duration = Duration::from_millis(250);
const RATE_LIMIT_RETRY: Duration = Duration::from_secs(1);

/// One piece of audio, borrowed from its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AudioDelta<'a> {
    response_id: &'a [u8],
    item_id: &'a [u8],
    content_index: u32,
    delta: &'a [u8],
}

impl<'a> AudioDelta<'a> {
    /// Reads an audio delta that is a flat object without escapes, in any order of keys.
    pub(super) fn scan(payload: &'a [u8]) -> Option<Self> {
        let mut scanner = Scanner::new(payload);
        let mut found = Self { response_id: b"", item_id: b"", content_index: 0, delta: b"" };
        let (mut is_audio, mut has_delta) = (false, false);
        scanner.expect(b'{')?;
        loop {
            match scanner.key()? {
                b"type" => is_audio = is_audio_delta(scanner.string()?),
                b"response_id" => found.response_id = scanner.string()?,
                b"item_id" => found.item_id = scanner.string()?,
                b"delta" => {
                    found.delta = scanner.string()?;
                    has_delta = true;
                }
                b"content_index" => {
                    found.content_index =
                        std::str::from_utf8(scanner.literal()?).ok()?.parse().ok()?;
                }
                _ if scanner.peek()? == b'"' => drop(scanner.string()?),
                _ => drop(scanner.literal()?),
            }
            if !scanner.more(b'}')? {
                break;
            }
        }
        scanner.end()?;
        (is_audio && has_delta && !found.item_id.is_empty()).then_some(found)
    }

    fn of(event: &'a Value) -> Option<Self> {
        let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
        let item_id = text("item_id").as_bytes();
        (!item_id.is_empty()).then(|| Self {
            response_id: text("response_id").as_bytes(),
            item_id,
            content_index: content_index(event),
            delta: text("delta").as_bytes(),
        })
    }
}

fn is_audio_delta(kind: &[u8]) -> bool {
    kind == b"response.output_audio.delta" || kind == b"response.audio.delta"
}

fn content_index(event: &Value) -> u32 {
    event
        .get("content_index")
        .and_then(Value::as_u64)
        .and_then(|n| u32::try_from(n).ok())
        .unwrap_or(0)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

impl OpenAiRealtime {
    pub(super) fn handle_audio(&mut self, delta: &AudioDelta<'_>, sink: &mut dyn ModelSink) {
        if !self.is_heard(delta.response_id, sink) {
            return;
        }
        let item = self.items.of(delta.item_id);
        match self.audio.decode(item.id, self.spec.output, delta.delta) {
            Ok([]) => {}
            Ok(bytes) => {
                item.content_index = delta.content_index;
                item.received += bytes.len();
                sink.audio(item.id, self.spec.output, bytes);
            }
            Err(_) => tracing::warn!("audio of the model is no base64, left out"),
        }
    }

    /// Whether content of this answer is for the caller's ears.
    fn is_heard(&mut self, response_id: &[u8], sink: &mut dyn ModelSink) -> bool {
        if self.responses.is_withheld(response_id) {
            return false;
        }
        if self.responses.note_content(response_id) {
            sink.event(ModelEvent::ResponseStarted);
        }
        true
    }

    pub(super) fn handle_event(
        &mut self,
        now: Instant,
        event: &Value,
        out: &mut Outbox,
        sink: &mut dyn ModelSink,
    ) {
        match text(event, "type") {
            kind if is_audio_delta(kind.as_bytes()) => {
                if let Some(delta) = AudioDelta::of(event) {
                    self.handle_audio(&delta, sink);
                }
            }
            "session.created" => self.note_expiry(event),
            "session.updated" => self.session_updated(now, event, out),
            "input_audio_buffer.speech_started" => {
                let cut = self.responses.speech_started(now);
                if let Some(id) = cut
                    && !self.settings.options.server_interrupts
                {
                    self.stop(&id, out);
                }
                sink.event(ModelEvent::SpeechStarted);
            }
            "input_audio_buffer.speech_stopped" => {
                self.responses.speech_stopped(now);
                sink.event(ModelEvent::SpeechStopped);
            }
            "conversation.item.added" | "conversation.item.created" | "conversation.item.done" => {
                if let Some(call_id) = event.pointer("/item/call_id").and_then(Value::as_str)
                    && event.pointer("/item/type").and_then(Value::as_str)
                        == Some("function_call_output")
                {
                    self.unconfirmed.retain(|waiting| waiting != call_id);
                }
            }
            "conversation.item.input_audio_transcription.completed" => {
                let said = text(event, "transcript");
                if !said.trim().is_empty() {
                    sink.event(ModelEvent::CallerText { text: said.to_owned(), last: true });
                }
            }
            "response.created" => self.response_created(event, out, sink),
            "response.output_item.added" => {
                // Ids rise in the order of output, whichever item's audio comes first.
                let item = event.get("item").unwrap_or(&Value::Null);
                if text(item, "type") == "message"
                    && !self.responses.is_withheld(text(event, "response_id").as_bytes())
                {
                    self.items.of(text(item, "id").as_bytes());
                }
            }
            "response.output_item.done" => {
                let item = event.get("item").unwrap_or(&Value::Null);
                let stopped = self.responses.is_withheld(text(event, "response_id").as_bytes());
                self.item_done(stopped, item, out, sink);
            }
            "response.output_audio_transcript.delta" | "response.audio_transcript.delta" => {
                self.agent_text(event, "delta", sink);
            }
            "response.output_audio_transcript.done" | "response.audio_transcript.done" => {
                let key = text(event, "item_id");
                let heard = !self.responses.is_withheld(text(event, "response_id").as_bytes());
                if heard && !key.is_empty() && !self.items.of(key.as_bytes()).written {
                    self.agent_text(event, "transcript", sink);
                }
            }
            "response.done" => self.response_done(now, event, out, sink),
            "rate_limits.updated" => self.limit_reset = reset_in(event),
            "error" => self.handle_error(now, event, out, sink),
            other => tracing::trace!(event = other, "event without meaning for a call"),
        }
    }

    fn note_expiry(&mut self, event: &Value) {
        if let Some(at) = event.pointer("/session/expires_at").and_then(Value::as_u64)
            && at > 0
        {
            self.expires = self.clock.instant(at);
        }
    }

    fn session_updated(&mut self, now: Instant, event: &Value, out: &mut Outbox) {
        self.note_expiry(event);
        self.configured = true;
        let session = event.get("session").unwrap_or(&Value::Null);
        let Some((input, output)) = self.formats() else { return };
        match check_formats(session, input, output) {
            Ok(()) => self.become_ready(now, out),
            Err(reason) => out.fail(failure::give_up(reason)),
        }
    }

    fn response_created(&mut self, event: &Value, out: &mut Outbox, sink: &mut dyn ModelSink) {
        let response = event.get("response").unwrap_or(&Value::Null);
        let answers_all = self.unconfirmed.is_empty() && !self.calls.is_waiting();
        match self.responses.created(response, answers_all) {
            Created::Heard => sink.event(ModelEvent::ResponseStarted),
            Created::Stopped => {
                self.stop(text(response, "id"), out);
                sink.event(ModelEvent::ResponseStarted);
            }
            Created::OutOfBand => {}
        }
    }

    fn agent_text(&mut self, event: &Value, field: &str, sink: &mut dyn ModelSink) {
        let (piece, key) = (text(event, field), text(event, "item_id"));
        if piece.is_empty()
            || key.is_empty()
            || !self.is_heard(text(event, "response_id").as_bytes(), sink)
        {
            return;
        }
        let item = self.items.of(key.as_bytes());
        item.written = true;
        sink.event(ModelEvent::AgentText { item: item.id, text: piece.to_owned() });
    }

    /// An item of an answer is complete: a tool call may be carried out now, and not before. One of an answer that was
    /// `stopped` is not.
    fn item_done(
        &mut self,
        stopped: bool,
        item: &Value,
        out: &mut Outbox,
        sink: &mut dyn ModelSink,
    ) {
        match text(item, "type") {
            "message" => self.items.finish(text(item, "id")),
            "function_call" if text(item, "status") != "incomplete" => {
                self.function_call(stopped, item, out, sink);
            }
            _ => {}
        }
    }

    fn function_call(
        &mut self,
        stopped: bool,
        item: &Value,
        out: &mut Outbox,
        sink: &mut dyn ModelSink,
    ) {
        let call_id = text(item, "call_id");
        if call_id.is_empty() || self.seen_calls.iter().any(|seen| seen == call_id) {
            return;
        }
        if self.seen_calls.len() == MAX_SEEN_CALLS {
            self.seen_calls.pop_front();
        }
        self.seen_calls.push_back(call_id.to_owned());

        let id = ToolCallId(call_id.to_owned());
        let name = text(item, "name");
        if stopped {
            // The caller spoke before the call was complete; it still wants an output in the conversation.
            let error = json!({ "error": "the caller interrupted, this was not carried out" });
            self.send_result(call_id, &error, out);
        } else if !self.calls.open(&id, name) {
            let error = json!({ "error": "too many calls at once" });
            self.send_result(call_id, &error, out);
        } else {
            let raw = text(item, "arguments");
            let arguments = match serde_json::from_str::<Value>(raw) {
                Ok(Value::Object(arguments)) => Ok(Value::Object(arguments)),
                _ if raw.trim().is_empty() => Ok(json!({})),
                _ => Err(raw.to_owned()),
            };
            sink.event(ModelEvent::ToolCall(ToolCall { id, name: name.to_owned(), arguments }));
        }
    }

    fn response_done(
        &mut self,
        now: Instant,
        event: &Value,
        out: &mut Outbox,
        sink: &mut dyn ModelSink,
    ) {
        let response = event.get("response").unwrap_or(&Value::Null);
        let id = text(response, "id");
        if let Some(usage) = usage(response) {
            sink.event(ModelEvent::Usage(usage));
        }
        // A server that does not announce items one by one still lists them here.
        let items = response.get("output").and_then(Value::as_array);
        let status = text(response, "status");
        let (ours, stopped) = self.responses.done(id);
        if !ours {
            return;
        }
        for item in items.into_iter().flatten() {
            // An item of an answer that broke off counts only when it says itself that it is complete.
            if status == "completed" || text(item, "status") == "completed" {
                self.item_done(stopped, item, out, sink);
            }
        }
        let details = response.get("status_details").unwrap_or(&Value::Null);
        let reason = text(details, "reason");
        let end = match status {
            "failed" => {
                let error = details.get("error").unwrap_or(&Value::Null);
                sink.event(ModelEvent::ResponseEnded(ResponseEnd::Failed(describe(error))));
                self.recover(now, error, out);
                return;
            }
            "cancelled" => ResponseEnd::Cancelled,
            _ if stopped => ResponseEnd::Cancelled,
            "incomplete" => ResponseEnd::Incomplete(reason.to_owned()),
            _ => ResponseEnd::Completed,
        };
        if end == ResponseEnd::Completed {
            self.responses.succeeded();
        }
        sink.event(ModelEvent::ResponseEnded(end));
    }

    /// An answer failed: asks once more for it where that can help, and else gives the connection up.
    fn recover(&mut self, now: Instant, error: &Value, out: &mut Outbox) {
        let class = classify(error);
        let delay = match class {
            Class::Fatal => return out.fail(failure::give_up(describe(error))),
            Class::Expired => return out.fail(failure::retry(Duration::ZERO, describe(error))),
            Class::RateLimited => wait_in(error).or(self.limit_reset).unwrap_or(RATE_LIMIT_RETRY),
            Class::Server => RETRY,
            Class::Harmless | Class::Conflict | Class::Rejected => return,
        };
        if delay > failure::LONGEST_WAIT || !self.responses.retry(now, delay) {
            out.fail(failure::retry(delay, describe(error)));
        }
    }

    fn handle_error(
        &mut self,
        now: Instant,
        event: &Value,
        out: &mut Outbox,
        sink: &mut dyn ModelSink,
    ) {
        let error = event.get("error").unwrap_or(&Value::Null);
        let about = error.get("event_id").and_then(Value::as_str);
        let class = classify(error);
        let reason = describe(error);
        if class == Class::Harmless {
            return;
        }
        let about_setup = !self.configured && (!self.ready || about == Some(CONFIGURE));
        if about_setup && class == Class::Rejected {
            return out.fail(failure::give_up(reason));
        }
        match class {
            Class::Harmless => {}
            Class::Conflict => self.responses.conflict(about, now),
            Class::Fatal => out.fail(failure::give_up(reason)),
            Class::Expired => out.fail(failure::retry(Duration::ZERO, reason)),
            Class::RateLimited | Class::Server => {
                tracing::warn!(reason, "the model reports an error");
                if !self.ready {
                    out.fail(failure::retry(wait_in(error).unwrap_or_default(), reason));
                } else if self.responses.refused(about) {
                    sink.event(ModelEvent::ResponseEnded(ResponseEnd::Failed(reason)));
                    self.recover(now, error, out);
                } else if !self.responses.is_busy() {
                    // Nothing runs that a response.done could end.
                    self.recover(now, error, out);
                }
            }
            Class::Rejected => {
                tracing::warn!(reason, "the model refused a message");
                if self.responses.refused(about) {
                    sink.event(ModelEvent::ResponseEnded(ResponseEnd::Failed(reason)));
                }
            }
        }
    }
}

/// The tokens of one answer, cancelled and failed ones included.
fn usage(response: &Value) -> Option<Usage> {
    let usage = response.get("usage")?.as_object()?;
    let number = |path: &str| {
        response
            .get("usage")
            .and_then(|usage| usage.pointer(path))
            .and_then(Value::as_u64)
            .unwrap_or(0)
    };
    if usage.is_empty() {
        return None;
    }
    Some(Usage {
        input_tokens: number("/input_tokens"),
        output_tokens: number("/output_tokens"),
        input_audio_tokens: number("/input_token_details/audio_tokens"),
        output_audio_tokens: number("/output_token_details/audio_tokens"),
        cached_tokens: number("/input_token_details/cached_tokens"),
    })
}
