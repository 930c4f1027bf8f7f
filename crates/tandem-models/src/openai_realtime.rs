//! OpenAI Realtime over a websocket: the GA shape, and the beta's event names from servers that still use them.

mod errors;
mod events;
mod items;
mod responses;
mod session_config;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tandem_call::{
    Capabilities, Greet, HistoryTurn, ModelCommand, ModelEvent, ModelFailure, ModelSink,
    SessionSpec,
};
use tandem_media::{AudioFormat, Law, SampleRate};
use tandem_net::WebSocketRequest;

use self::{
    items::Items,
    responses::{Responses, Wanted},
    session_config::{format_name, history_items, instructions, message_item, session_update},
};
use crate::{
    DialectError, ModelDialect, ModelSettings, Outbox, Renewal,
    calls::{Answered, Calls, digits_text, exact_words, result_object, result_text},
    envelope::{AudioDecoder, append_audio},
    failure,
    json::{LeftOut, MAX_MESSAGE},
    lead_in::LeadIn,
    settings::{capabilities, query_value},
};

const FORMATS: &[AudioFormat] = &[
    AudioFormat::G711(Law::Mu),
    AudioFormat::G711(Law::A),
    AudioFormat::Pcm16(SampleRate::Hz24000),
];

/// What OpenAI Realtime can do.
pub(crate) const CAPABILITIES: Capabilities = Capabilities {
    input: FORMATS,
    output: FORMATS,
    truncates: true,
    detects_turns: true,
    interrupts: true,
    turn_pause: Duration::ZERO,
    takes_digits: false,
    resumes: false,
    answers_results: true,
    session_limit: Some(SESSION_LIMIT),
};

const ENDPOINT: &str = "wss://api.openai.com/v1";

/// A session is closed by the server at this age.
const SESSION_LIMIT: Duration = Duration::from_secs(60 * 60);

/// A renewal is asked for this long before the end, so that a quiet moment can be found; at most a quarter of the
/// session's life.
const RENEW_AHEAD: Duration = Duration::from_secs(8 * 60);

/// A session that is said to end sooner than this is one of a server whose clock is not ours.
const SHORTEST_LIFE: Duration = Duration::from_secs(30);

/// The renewal itself may need this much of the remaining time.
const RENEW_MARGIN: Duration = Duration::from_secs(30);

/// A server that has greeted us and does not acknowledge the configuration in this time never will.
const ACKNOWLEDGE: Duration = Duration::from_secs(1);

/// The server refuses to take less audio for a turn.
const SHORTEST_TURN: Duration = Duration::from_millis(100);

/// Call ids that are remembered, so that no call is carried out twice.
const MAX_SEEN_CALLS: usize = 64;

/// The dialect.
#[derive(Debug)]
pub struct OpenAiRealtime {
    settings: Arc<ModelSettings>,
    capabilities: Capabilities,
    spec: Arc<SessionSpec>,
    history: Vec<HistoryTurn>,
    clock: WallClock,
    audio: AudioDecoder,
    /// Where the server is told of the caller's turns.
    lead_in: Option<LeadIn>,
    items: Items,
    responses: Responses,
    calls: Calls,
    seen_calls: VecDeque<String>,
    /// Results the server has not confirmed yet.
    unconfirmed: Vec<String>,
    opened: Option<Instant>,
    acknowledge_until: Option<Instant>,
    configured: bool,
    ready: bool,
    expires: Option<Instant>,
    expiry_told: bool,
    limit_reset: Option<Duration>,
    left_out: LeftOut,
}

/// Ties the session's clock to the server's, which counts unix time.
#[derive(Debug, Clone, Copy)]
struct WallClock {
    at: Instant,
    unix: Duration,
}

impl WallClock {
    /// The instant of a unix time; one in the past is `at` at the earliest.
    fn instant(self, unix_seconds: u64) -> Option<Instant> {
        let ahead = Duration::from_secs(unix_seconds).saturating_sub(self.unix);
        self.at.checked_add(ahead)
    }
}

impl OpenAiRealtime {
    /// A session of `settings.model` for `spec`; `unix_now` is the unix time at `now`.
    pub fn new(
        settings: Arc<ModelSettings>,
        mut spec: SessionSpec,
        now: Instant,
        unix_now: Duration,
    ) -> Self {
        let history = std::mem::take(&mut spec.history);
        let first = spec.first_item;
        let lead_in = settings
            .marks_turns()
            .then(|| LeadIn::new(spec.input, settings.options.prefix_padding_ms));
        Self {
            capabilities: capabilities(&settings),
            settings,
            spec: Arc::new(spec),
            history,
            clock: WallClock { at: now, unix: unix_now },
            audio: AudioDecoder::default(),
            lead_in,
            items: Items::new(first),
            responses: Responses::default(),
            calls: Calls::default(),
            seen_calls: VecDeque::new(),
            unconfirmed: Vec::new(),
            opened: None,
            acknowledge_until: None,
            configured: false,
            ready: false,
            expires: None,
            expiry_told: false,
            limit_reset: None,
            left_out: LeftOut::default(),
        }
    }

    fn formats(&self) -> Option<(&'static str, &'static str)> {
        Some((format_name(self.spec.input)?, format_name(self.spec.output)?))
    }

    /// Asks for the wanted answer if its moment has come.
    fn ask(&mut self, now: Instant, out: &mut Outbox) {
        if self.ready
            && let Some(message) = self.responses.next_create(now, self.calls.is_waiting())
        {
            out.send(message);
        }
    }

    fn want(&mut self, now: Instant, what: Wanted, out: &mut Outbox) {
        self.responses.want(what, now);
        self.ask(now, out);
    }

    fn stop(&self, id: &str, out: &mut Outbox) {
        out.send(json!({ "type": "response.cancel", "response_id": id }).to_string());
    }

    /// The caller's turn began `ago`: what the server holds from before it is no part of it.
    fn start_turn(&mut self, ago: Duration, out: &mut Outbox) {
        let Some(audio) = self.lead_in.as_mut().and_then(|lead_in| lead_in.begin(ago)) else {
            return;
        };
        if let Some(id) = self.responses.turn_started() {
            self.stop(&id, out);
        }
        out.send(json!({ "type": "input_audio_buffer.clear" }).to_string());
        if !audio.is_empty() {
            let audio = base64_simd::STANDARD.encode_to_string(&audio);
            let append = json!({ "type": "input_audio_buffer.append", "audio": audio });
            out.send(append.to_string());
        }
    }

    fn end_turn(&mut self, now: Instant, out: &mut Outbox) {
        let Some(length) = self.lead_in.as_mut().and_then(LeadIn::end) else { return };
        self.responses.turn_ended();
        if length >= SHORTEST_TURN {
            out.send(json!({ "type": "input_audio_buffer.commit" }).to_string());
            self.want(now, Wanted::Answer, out);
        } else {
            self.ask(now, out); // Whatever waited for the turn to be over.
        }
    }

    fn send_result(&mut self, call_id: &str, result: &Value, out: &mut Outbox) {
        let item = json!({
            "type": "conversation.item.create",
            "item": {
                "type": "function_call_output",
                "call_id": call_id,
                "output": result.to_string(),
            },
        });
        out.send(item.to_string());
    }

    fn become_ready(&mut self, now: Instant, out: &mut Outbox) {
        if self.ready {
            return;
        }
        self.ready = true;
        self.acknowledge_until = None;
        out.ready();
        self.ask(now, out);
    }

    /// When the session ends, and when its renewal is to be announced.
    fn expiry(&self) -> Option<(Instant, Instant)> {
        if self.expiry_told {
            return None;
        }
        let opened = self.opened?;
        let life = self
            .expires
            .map(|at| at.saturating_duration_since(opened))
            .filter(|life| *life >= SHORTEST_LIFE)
            .unwrap_or(SESSION_LIMIT);
        let end = opened.checked_add(life)?;
        Some((end, end.checked_sub(RENEW_AHEAD.min(life / 4))?))
    }

    fn tell_expiry(&mut self, now: Instant, sink: &mut dyn ModelSink) {
        let Some((end, _)) = self.expiry().filter(|(_, due)| self.ready && *due <= now) else {
            return;
        };
        self.expiry_told = true;
        let left = end.saturating_duration_since(now);
        sink.event(ModelEvent::ExpiresIn(left - RENEW_MARGIN.min(left / 4)));
    }
}

impl ModelDialect for OpenAiRealtime {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn request(&self) -> WebSocketRequest {
        let base = self.settings.base(ENDPOINT);
        let (base, query) = match base.split_once('?') {
            Some((base, query)) => (base.trim_end_matches('/').to_owned(), format!("{query}&")),
            None => (base, String::new()),
        };
        let host_end = base.find("://").map_or(0, |at| at + 3);
        let path = if base.ends_with("/realtime") {
            ""
        } else if base[host_end..].contains('/') {
            "/realtime"
        } else {
            "/v1/realtime"
        };
        WebSocketRequest {
            url: format!("{base}{path}?{query}model={}", query_value(&self.settings.model)),
            headers: vec![(
                "authorization",
                format!("Bearer {}", self.settings.api_key.expose_secret()),
            )],
            extra_ca: self.settings.options.extra_ca.clone(),
        }
    }

    fn open(&mut self, now: Instant, out: &mut Outbox) {
        self.opened = Some(now);
        let Some((input, output)) = self.formats() else {
            out.fail(failure::give_up(format!(
                "OpenAI Realtime does not take {:?} or does not speak {:?}",
                self.spec.input, self.spec.output
            )));
            return;
        };
        // Messages are worked off in order, so nothing has to wait for session.created.
        out.send(session_update(&self.settings, &self.spec, input, output).to_string());
        for item in history_items(&self.history) {
            out.send(item.to_string());
        }
    }

    fn handle_message(
        &mut self,
        now: Instant,
        payload: &[u8],
        out: &mut Outbox,
        sink: &mut dyn ModelSink,
    ) -> Result<(), DialectError> {
        if let Some(delta) = events::AudioDelta::scan(payload) {
            self.handle_audio(&delta, sink);
            return Ok(());
        }
        if payload.len() > MAX_MESSAGE && !events::is_read(payload)? {
            self.left_out.note(payload);
            return Ok(());
        }
        let event = events::Event::read(payload)?;
        if !self.ready && self.acknowledge_until.is_none() {
            self.acknowledge_until = Some(now + ACKNOWLEDGE);
        }
        self.handle_event(now, &event, out, sink);
        self.ask(now, out);
        Ok(())
    }

    fn command(&mut self, now: Instant, command: ModelCommand, out: &mut Outbox) {
        match command {
            ModelCommand::Greet(Greet::Exactly(words)) => {
                let instructions = exact_words(&words);
                self.want(now, Wanted::Greeting { instructions, exact: true }, out);
            }
            ModelCommand::Greet(Greet::Instruction(order)) => {
                // A response's instructions replace the session's, so those come along.
                let instructions = format!("{}\n\n{order}", instructions(&self.spec));
                self.want(now, Wanted::Greeting { instructions, exact: false }, out);
            }
            ModelCommand::Digits(digits) => {
                out.send(message_item("user", &digits_text(&digits)).to_string());
                self.want(now, Wanted::Answer, out);
            }
            ModelCommand::Say(text) => {
                out.send(message_item("system", &text).to_string());
                self.want(now, Wanted::Answer, out);
            }
            ModelCommand::ToolResult { id, outcome } => {
                let call = self.calls.answer(&id);
                let Some(result) = result_object(outcome) else { return };
                match call {
                    Answered::Here(_) => {
                        self.send_result(&id.0, &result, out);
                        self.unconfirmed.push(id.0);
                        self.want(now, Wanted::Answer, out);
                    }
                    Answered::Earlier(name) => {
                        let text = result_text(&name, &result);
                        out.send(message_item("system", &text).to_string());
                        self.want(now, Wanted::Answer, out);
                    }
                    Answered::Unknown => {}
                }
            }
            ModelCommand::Truncate { item, heard } => {
                if let Some((key, content_index, millis)) =
                    self.items.truncate(item, heard, self.spec.output)
                {
                    let message = json!({
                        "type": "conversation.item.truncate",
                        "item_id": key,
                        "content_index": content_index,
                        "audio_end_ms": millis,
                    });
                    out.send(message.to_string());
                }
            }
            ModelCommand::Forget { item } => {
                if let Some(key) = self.items.forget(item) {
                    let message = json!({ "type": "conversation.item.delete", "item_id": key });
                    out.send(message.to_string());
                }
            }
            ModelCommand::Cancel => {
                if let Some(id) = self.responses.cancel() {
                    self.stop(&id, out);
                }
            }
            ModelCommand::TurnStarted { ago } => self.start_turn(ago, out),
            ModelCommand::TurnEnded => self.end_turn(now, out),
            ModelCommand::Renew { .. } | ModelCommand::Close => {}
        }
    }

    fn encode_audio(&mut self, audio: &[u8], message: &mut BytesMut) {
        append_audio(message, r#"{"type":"input_audio_buffer.append","audio":""#, audio, r#""}"#);
        if let Some(lead_in) = &mut self.lead_in {
            lead_in.push(audio);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let expiry = self.expiry().filter(|_| self.ready).map(|(_, due)| due);
        let answers =
            if self.ready { self.responses.poll_timeout(self.calls.is_waiting()) } else { None };
        [self.acknowledge_until, expiry, answers].into_iter().flatten().min()
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox, sink: &mut dyn ModelSink) {
        if self.acknowledge_until.is_some_and(|until| until <= now) {
            self.become_ready(now, out);
        }
        self.tell_expiry(now, sink);
        self.responses.handle_timeout(now);
        self.ask(now, out);
    }

    fn handle_close(&mut self, code: Option<u16>, reason: &str) -> ModelFailure {
        let text = failure::closed(code, reason);
        match code {
            // Before the session stood, the server's objection is to what we asked for.
            Some(1003 | 1007 | 1008 | 3000..=4999) if !self.ready => failure::give_up(text),
            Some(1008) => failure::give_up(text),
            _ => failure::retry(Duration::ZERO, text),
        }
    }

    fn renewal(&self) -> Renewal {
        Renewal::ConnectFirst
    }

    fn successor(&self, history: Vec<HistoryTurn>) -> Self {
        let spec = SessionSpec {
            history,
            first_item: self.items.next_id(),
            ..SessionSpec::clone(&self.spec)
        };
        Self::new(Arc::clone(&self.settings), spec, self.clock.at, self.clock.unix)
    }

    fn fallback(&mut self) -> Option<Self> {
        None
    }

    fn take_over(&mut self, old: &mut Self) {
        self.items.start_at(old.items.next_id());
        self.calls.inherit(&mut old.calls);
        if let (Some(what), Some(opened)) = (old.responses.take_wanted(), self.opened) {
            self.responses.want(what, opened);
        }
    }
}

#[cfg(test)]
mod tests;
