//! What the server says.

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use serde_json::json;
use tandem_call::{ModelEvent, ModelSink, ResponseEnd, ToolCall, ToolCallId, Usage};

use super::{
    MAX_SEEN_CALLS, OpenAiRealtime,
    errors::{Class, ServerError, classify, describe, reset_in, wait_in},
    responses::Created,
    session_config::{CONFIGURE, check_formats},
};
use crate::{
    DialectError, Outbox,
    calls::arguments,
    envelope::{Scanner, leading_text},
    failure,
    json::{Json, MAX_LARGE_MESSAGE},
};

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
}

/// The members of an event that mean something for a call, whichever event it is.
#[derive(Debug)]
pub(super) struct Event<'a> {
    kind: Cow<'a, str>,
    response_id: Cow<'a, str>,
    item_id: Cow<'a, str>,
    content_index: u32,
    delta: Cow<'a, str>,
    transcript: Cow<'a, str>,
    response: Json<'a>,
    item: Json<'a>,
    session: Json<'a>,
    error: Json<'a>,
    rate_limits: Json<'a>,
}

impl<'a> Event<'a> {
    pub(super) fn read(payload: &'a [u8]) -> Result<Self, DialectError> {
        let names = [
            "type",
            "response_id",
            "item_id",
            "content_index",
            "delta",
            "transcript",
            "response",
            "item",
            "session",
            "error",
            "rate_limits",
        ];
        let [
            kind,
            response_id,
            item_id,
            content_index,
            delta,
            transcript,
            response,
            item,
            session,
            error,
            rate_limits,
        ] = Json::read(payload, names)?;
        Ok(Self {
            kind: kind.text(),
            response_id: response_id.text(),
            item_id: item_id.text(),
            content_index: content_index.u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            delta: delta.text(),
            transcript: transcript.text(),
            response,
            item,
            session,
            error,
            rate_limits,
        })
    }

    fn audio(&self) -> Option<AudioDelta<'_>> {
        (is_audio_delta(self.kind.as_bytes()) && !self.item_id.is_empty()).then(|| AudioDelta {
            response_id: self.response_id.as_bytes(),
            item_id: self.item_id.as_bytes(),
            content_index: self.content_index,
            delta: self.delta.as_bytes(),
        })
    }
}

fn is_audio_delta(kind: &[u8]) -> bool {
    kind == b"response.output_audio.delta" || kind == b"response.audio.delta"
}

/// Whether a message beyond [`MAX_MESSAGE`] is read all the same. One that is neither read nor left out is an error.
pub(super) fn is_read(payload: &[u8]) -> Result<bool, DialectError> {
    let bytes = payload.len();
    let (may_be_large, is_needed) = match leading_text(payload, b"type") {
        // Its type is not where servers put it: it may be any.
        None | Some(b"session.updated" | b"response.done") => (true, true),
        Some(b"error") => (false, true),
        Some(kind) => (is_audio_delta(kind) || kind.starts_with(b"conversation.item."), false),
    };
    if may_be_large && bytes <= MAX_LARGE_MESSAGE {
        Ok(true)
    } else if is_needed {
        Err(DialectError::TooLarge { bytes })
    } else {
        Ok(false)
    }
}

/// One item of the conversation.
struct Item<'a> {
    kind: Cow<'a, str>,
    id: Cow<'a, str>,
    status: Cow<'a, str>,
    call_id: Cow<'a, str>,
    name: Cow<'a, str>,
    arguments: Json<'a>,
}

impl<'a> Item<'a> {
    fn read(item: Json<'a>) -> Self {
        let [kind, id, status, call_id, name, arguments] =
            item.members(["type", "id", "status", "call_id", "name", "arguments"]);
        Self {
            kind: kind.text(),
            id: id.text(),
            status: status.text(),
            call_id: call_id.text(),
            name: name.text(),
            arguments,
        }
    }
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
        event: &Event<'_>,
        out: &mut Outbox,
        sink: &mut dyn ModelSink,
    ) {
        match &*event.kind {
            kind if is_audio_delta(kind.as_bytes()) => {
                if let Some(delta) = event.audio() {
                    self.handle_audio(&delta, sink);
                }
            }
            "session.created" => self.note_expiry(event.session),
            "session.updated" => self.session_updated(now, event.session, out),
            "input_audio_buffer.speech_started" => {
                self.responses.speech_started(now, self.settings.options.server_interrupts);
                sink.event(ModelEvent::SpeechStarted);
            }
            "input_audio_buffer.speech_stopped" => {
                self.responses.speech_stopped(now);
                sink.event(ModelEvent::SpeechStopped);
            }
            "conversation.item.added" | "conversation.item.created" | "conversation.item.done" => {
                let item = Item::read(event.item);
                if item.kind == "function_call_output" {
                    self.unconfirmed.retain(|waiting| *waiting != item.call_id);
                }
            }
            "conversation.item.input_audio_transcription.completed" => {
                if !event.transcript.trim().is_empty() {
                    let text = event.transcript.clone().into_owned();
                    sink.event(ModelEvent::CallerText { text, last: true });
                }
            }
            "response.created" => self.response_created(event.response, out, sink),
            "response.output_item.added" => {
                // Ids rise in the order of output, whichever item's audio comes first.
                let item = Item::read(event.item);
                if item.kind == "message"
                    && !self.responses.is_withheld(event.response_id.as_bytes())
                {
                    self.items.of(item.id.as_bytes());
                }
            }
            "response.output_item.done" => {
                let stopped = self.responses.is_withheld(event.response_id.as_bytes());
                self.item_done(stopped, &Item::read(event.item), out, sink);
            }
            "response.output_audio_transcript.delta" | "response.audio_transcript.delta" => {
                self.agent_text(event, &event.delta, sink);
            }
            "response.output_audio_transcript.done" | "response.audio_transcript.done" => {
                let key = event.item_id.as_bytes();
                let heard = !self.responses.is_withheld(event.response_id.as_bytes());
                if heard && !key.is_empty() && !self.items.of(key).written {
                    self.agent_text(event, &event.transcript, sink);
                }
            }
            "response.done" => self.response_done(now, event.response, out, sink),
            "rate_limits.updated" => self.limit_reset = reset_in(event.rate_limits),
            "error" => self.handle_error(now, &ServerError::read(event.error), out, sink),
            other => tracing::trace!(event = other, "event without meaning for a call"),
        }
    }

    fn note_expiry(&mut self, session: Json<'_>) {
        if let Some(at) = session.get("expires_at").u64()
            && at > 0
        {
            self.expires = self.clock.instant(at);
        }
    }

    fn session_updated(&mut self, now: Instant, session: Json<'_>, out: &mut Outbox) {
        self.note_expiry(session);
        self.configured = true;
        let Some((input, output)) = self.formats() else { return };
        match check_formats(session, input, output) {
            Ok(()) => self.become_ready(now, out),
            Err(reason) => out.fail(failure::give_up(reason)),
        }
    }

    fn response_created(&mut self, response: Json<'_>, out: &mut Outbox, sink: &mut dyn ModelSink) {
        let answers_all = self.unconfirmed.is_empty() && !self.calls.is_waiting();
        match self.responses.created(response, answers_all) {
            Created::Heard => sink.event(ModelEvent::ResponseStarted),
            Created::Stopped => {
                self.stop(&response.get("id").text(), out);
                sink.event(ModelEvent::ResponseStarted);
            }
            Created::OutOfBand => {}
        }
    }

    fn agent_text(&mut self, event: &Event<'_>, piece: &str, sink: &mut dyn ModelSink) {
        let key = event.item_id.as_bytes();
        if piece.is_empty() || key.is_empty() || !self.is_heard(event.response_id.as_bytes(), sink)
        {
            return;
        }
        let item = self.items.of(key);
        item.written = true;
        sink.event(ModelEvent::AgentText { item: item.id, text: piece.to_owned() });
    }

    /// An item of an answer is complete: a tool call may be carried out now, and not before. One of an answer that was
    /// `stopped` is not.
    fn item_done(
        &mut self,
        stopped: bool,
        item: &Item<'_>,
        out: &mut Outbox,
        sink: &mut dyn ModelSink,
    ) {
        match &*item.kind {
            "message" => self.items.finish(&item.id),
            "function_call" if item.status != "incomplete" => {
                self.function_call(stopped, item, out, sink);
            }
            _ => {}
        }
    }

    fn function_call(
        &mut self,
        stopped: bool,
        item: &Item<'_>,
        out: &mut Outbox,
        sink: &mut dyn ModelSink,
    ) {
        let call_id = &*item.call_id;
        if call_id.is_empty() || self.seen_calls.iter().any(|seen| seen == call_id) {
            return;
        }
        if self.seen_calls.len() == MAX_SEEN_CALLS {
            self.seen_calls.pop_front();
        }
        self.seen_calls.push_back(call_id.to_owned());

        let id = ToolCallId(call_id.to_owned());
        let name = &*item.name;
        if stopped {
            // The caller spoke before the call was complete; it still wants an output in the conversation.
            let error = json!({ "error": "the caller interrupted, this was not carried out" });
            self.send_result(call_id, &error, out);
        } else if !self.calls.open(&id, name) {
            let error = json!({ "error": "too many calls at once" });
            self.send_result(call_id, &error, out);
        } else {
            let arguments = arguments(&item.arguments.text());
            sink.event(ModelEvent::ToolCall(ToolCall { id, name: name.to_owned(), arguments }));
        }
    }

    fn response_done(
        &mut self,
        now: Instant,
        response: Json<'_>,
        out: &mut Outbox,
        sink: &mut dyn ModelSink,
    ) {
        let [id, tokens, output, status, details] =
            response.members(["id", "usage", "output", "status", "status_details"]);
        let status = status.text();
        if let Some(usage) = usage(tokens) {
            sink.event(ModelEvent::Usage(usage));
        }
        let (ours, stopped) = self.responses.done(&id.text());
        if !ours {
            return;
        }
        // A server that does not announce items one by one still lists them here.
        for item in output.elements().into_iter().map(Item::read) {
            // An item of an answer that broke off counts only when it says itself that it is complete.
            if status == "completed" || item.status == "completed" {
                self.item_done(stopped, &item, out, sink);
            }
        }
        let end = match &*status {
            "failed" => {
                let error = ServerError::read(details.get("error"));
                sink.event(ModelEvent::ResponseEnded(ResponseEnd::Failed(describe(&error))));
                self.recover(now, &error, out);
                return;
            }
            "cancelled" => ResponseEnd::Cancelled,
            _ if stopped => ResponseEnd::Cancelled,
            "incomplete" => ResponseEnd::Incomplete(details.get("reason").text().into_owned()),
            _ => ResponseEnd::Completed,
        };
        if end == ResponseEnd::Completed {
            self.responses.succeeded();
        }
        sink.event(ModelEvent::ResponseEnded(end));
    }

    /// An answer failed: asks once more for it where that can help, and else gives the connection up.
    fn recover(&mut self, now: Instant, error: &ServerError<'_>, out: &mut Outbox) {
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
        error: &ServerError<'_>,
        out: &mut Outbox,
        sink: &mut dyn ModelSink,
    ) {
        let about = error.about.as_deref();
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
fn usage(usage: Json<'_>) -> Option<Usage> {
    let [input, output, input_details, output_details] = usage.members([
        "input_tokens",
        "output_tokens",
        "input_token_details",
        "output_token_details",
    ]);
    if input.is_absent() && output.is_absent() {
        return None;
    }
    let number = |json: Json<'_>| json.u64().unwrap_or(0);
    Some(Usage {
        input_tokens: number(input),
        output_tokens: number(output),
        input_audio_tokens: number(input_details.get("audio_tokens")),
        output_audio_tokens: number(output_details.get("audio_tokens")),
        cached_tokens: number(input_details.get("cached_tokens")),
    })
}
