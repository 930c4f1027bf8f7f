//! Gemini Live (BidiGenerateContent) of the Gemini Developer API.

mod messages;
mod schema;
mod setup;
mod turn;
mod usage;

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
use tandem_media::{AudioFormat, SampleRate};
use tandem_net::WebSocketRequest;

use self::{
    messages::AudioParts,
    setup::{Family, history_message, setup, text_message},
    turn::Turns,
    usage::UsageMeter,
};
use crate::{
    DialectError, ModelDialect, ModelSettings, Outbox, Renewal,
    calls::{Answered, Calls, digits_text, exact_words, result_object, result_text},
    envelope::{AudioDecoder, append_audio},
    failure,
    json::{LeftOut, MAX_MESSAGE},
    lead_in::LeadIn,
    settings::capabilities,
};

const INPUT: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz16000);

/// What Gemini Live can do.
pub(crate) const CAPABILITIES: Capabilities = Capabilities {
    input: &[INPUT],
    output: &[AudioFormat::Pcm16(SampleRate::Hz24000)],
    truncates: false,
    detects_turns: true,
    interrupts: true,
    turn_pause: Duration::ZERO,
    takes_digits: false,
    resumes: true,
    answers_results: true,
    session_limit: Some(Duration::from_secs(10 * 60)),
};

const ENDPOINT: &str = "wss://generativelanguage.googleapis.com";

/// Connections live about ten minutes and do not always say goodbye before: renewed between these two ages.
const RENEW_AFTER: Duration = Duration::from_secs(8 * 60 + 30);
const RENEW_WITHIN: Duration = Duration::from_secs(30);

/// The renewal itself may need this much of a `goAway`'s time.
const RENEW_MARGIN: Duration = Duration::from_secs(2);

/// A caller's words are complete when no more come for this long.
const CALLER_PAUSE: Duration = Duration::from_secs(2);

/// How the ids begin that calls without one get from us; the server does not know them.
const OUR_CALL: &str = "local-";

/// Cancelled call ids that are remembered.
const MAX_CANCELLED: usize = 64;

/// The dialect.
#[derive(Debug)]
pub struct GeminiLive {
    settings: Arc<ModelSettings>,
    capabilities: Capabilities,
    spec: Arc<SessionSpec>,
    family: Family,
    history: Vec<HistoryTurn>,
    /// What this connection was opened with.
    resumes: Option<String>,
    /// What the next one may be opened with.
    handle: Option<String>,
    audio: AudioDecoder,
    /// Where the server is told of the caller's turns.
    lead_in: Option<LeadIn>,
    turns: Turns,
    usage: UsageMeter,
    calls: Calls,
    /// Ids of calls that were taken back, lest they be carried out when the messages cross.
    cancelled: VecDeque<String>,
    caller_pause: Option<Instant>,
    renew_at: Option<Instant>,
    ready: bool,
    handle_refused: bool,
    /// A closure by policy (1008) in a healthy session is tried again once.
    policy_retried: bool,
    /// Calls that came without an id so far, also on the connections before.
    unnamed_calls: u64,
    left_out: LeftOut,
}

impl GeminiLive {
    /// A session of `settings.model` for `spec`.
    pub fn new(settings: Arc<ModelSettings>, mut spec: SessionSpec) -> Self {
        let history = std::mem::take(&mut spec.history);
        let family = Family::of(&settings.model);
        let lead_in = settings
            .marks_turns()
            .then(|| LeadIn::new(spec.input, settings.options.prefix_padding_ms));
        Self {
            capabilities: capabilities(&settings),
            lead_in,
            family,
            turns: Turns::new(spec.first_item),
            settings,
            spec: Arc::new(spec),
            history,
            resumes: None,
            handle: None,
            audio: AudioDecoder::default(),
            usage: UsageMeter::default(),
            calls: Calls::default(),
            cancelled: VecDeque::new(),
            caller_pause: None,
            renew_at: None,
            ready: false,
            handle_refused: false,
            policy_retried: false,
            unnamed_calls: 0,
            left_out: LeftOut::default(),
        }
    }

    fn say(&self, text: &str, out: &mut Outbox) {
        out.send(text_message(self.family, text).to_string());
    }

    /// The caller's turn began `ago`. The server leaves out what it heard outside of turns, so the beginning is sent again.
    fn start_turn(&mut self, ago: Duration, out: &mut Outbox) {
        let Some(audio) = self.lead_in.as_mut().and_then(|lead_in| lead_in.begin(ago)) else {
            return;
        };
        out.send(json!({ "realtimeInput": { "activityStart": {} } }).to_string());
        if !audio.is_empty() {
            let data = base64_simd::STANDARD.encode_to_string(&audio);
            let audio = json!({ "data": data, "mimeType": "audio/pcm;rate=16000" });
            out.send(json!({ "realtimeInput": { "audio": audio } }).to_string());
        }
    }

    fn become_ready(&mut self, now: Instant, out: &mut Outbox) {
        if self.ready {
            return;
        }
        self.ready = true;
        self.renew_at = Some(now + RENEW_AFTER);
        // A resumed session remembers.
        if self.resumes.is_none()
            && let Some(message) = history_message(self.family, &self.history)
        {
            out.send(message.to_string());
        }
        out.ready();
    }

    fn send_result(&self, id: &str, name: &str, result: Value, out: &mut Outbox) {
        // `error` is a failure; everything else is wrapped, so that no key of it is taken for a word of the protocol.
        let response = match result {
            Value::Object(map) if map.len() == 1 && map.contains_key("error") => Value::Object(map),
            result => json!({ "output": result }),
        };
        let mut answer = json!({ "name": name, "response": response });
        if !id.starts_with(OUR_CALL) {
            answer["id"] = id.into();
        }
        let message = json!({ "toolResponse": { "functionResponses": [answer] } });
        out.send(message.to_string());
    }
}

impl ModelDialect for GeminiLive {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn request(&self) -> WebSocketRequest {
        let base = self.settings.base(ENDPOINT);
        let url = if base.contains("BidiGenerateContent") {
            base
        } else {
            let version = &self.settings.options.api_version;
            format!(
                "{base}/ws/google.ai.generativelanguage.{version}.GenerativeService.BidiGenerateContent"
            )
        };
        WebSocketRequest {
            url,
            // In a header and not in the URL, which ends up in logs.
            headers: vec![("x-goog-api-key", self.settings.api_key.expose_secret().to_owned())],
            extra_ca: self.settings.options.extra_ca.clone(),
        }
    }

    fn open(&mut self, _now: Instant, out: &mut Outbox) {
        if self.spec.input != INPUT {
            out.fail(failure::give_up(format!(
                "Gemini Live takes 16 kHz PCM, not {:?}",
                self.spec.input
            )));
            return;
        }
        let seeds_history = self.resumes.is_none() && !self.history.is_empty();
        out.send(
            setup(&self.settings, &self.spec, self.resumes.as_deref(), seeds_history).to_string(),
        );
    }

    fn handle_message(
        &mut self,
        now: Instant,
        payload: &[u8],
        out: &mut Outbox,
        sink: &mut dyn ModelSink,
    ) -> Result<(), DialectError> {
        self.turns.alive(now);
        if let Some(parts) = AudioParts::scan(payload) {
            for (mime, data) in parts.iter() {
                self.handle_audio(now, mime, data, sink);
            }
            return Ok(());
        }
        if payload.len() > MAX_MESSAGE && !messages::is_read(payload)? {
            self.left_out.note(payload);
            return Ok(());
        }
        self.handle_object(now, &messages::Message::read(payload)?, out, sink);
        Ok(())
    }

    fn command(&mut self, now: Instant, command: ModelCommand, out: &mut Outbox) {
        match command {
            ModelCommand::Greet(Greet::Exactly(words)) => {
                self.say(&format!("(The call is connected.) {}", exact_words(&words)), out);
            }
            ModelCommand::Greet(Greet::Instruction(order)) => self.say(&format!("({order})"), out),
            ModelCommand::Digits(digits) => self.say(&digits_text(&digits), out),
            ModelCommand::Say(text) => self.say(&text, out),
            ModelCommand::ToolResult { id, outcome } => {
                let call = self.calls.answer(&id);
                let Some(result) = result_object(outcome) else { return };
                match call {
                    Answered::Here(name) => self.send_result(&id.0, &name, result, out),
                    Answered::Earlier(name) => self.say(&result_text(&name, &result), out),
                    Answered::Unknown => {}
                }
                if !self.calls.is_waiting() {
                    self.turns.tools_answered();
                }
            }
            ModelCommand::Cancel => {
                if let Some(event) = self.turns.cancel(now) {
                    out.event(event);
                }
            }
            ModelCommand::TurnStarted { ago } => self.start_turn(ago, out),
            ModelCommand::TurnEnded => {
                if self.lead_in.as_mut().and_then(LeadIn::end).is_some() {
                    out.send(json!({ "realtimeInput": { "activityEnd": {} } }).to_string());
                }
            }
            // The server keeps what it sent by its own estimate of the playback; there is nothing to tell it.
            ModelCommand::Truncate { .. }
            | ModelCommand::Forget { .. }
            | ModelCommand::Renew { .. }
            | ModelCommand::Close => {}
        }
    }

    fn encode_audio(&mut self, audio: &[u8], message: &mut BytesMut) {
        append_audio(
            message,
            r#"{"realtimeInput":{"audio":{"data":""#,
            audio,
            r#"","mimeType":"audio/pcm;rate=16000"}}}"#,
        );
        if let Some(lead_in) = &mut self.lead_in {
            lead_in.push(audio);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [self.turns.poll_timeout(), self.caller_pause, self.renew_at].into_iter().flatten().min()
    }

    fn handle_timeout(&mut self, now: Instant, _out: &mut Outbox, sink: &mut dyn ModelSink) {
        self.turns.handle_timeout(now, sink);
        if self.caller_pause.is_some_and(|at| at <= now) {
            self.end_caller_text(sink);
        }
        if self.renew_at.take_if(|at| *at <= now).is_some() {
            sink.event(ModelEvent::ExpiresIn(RENEW_WITHIN));
        }
    }

    fn handle_close(&mut self, code: Option<u16>, reason: &str) -> ModelFailure {
        let text = failure::closed(code, reason);
        if !self.ready && self.resumes.is_some() && matches!(code, Some(1007 | 1008 | 1011)) {
            self.handle_refused = true;
            return failure::retry(Duration::ZERO, text);
        }
        let quota = reason.to_ascii_lowercase().contains("quota");
        match code {
            Some(1008) if self.ready && !self.policy_retried => {
                // Seen now and then in healthy sessions.
                self.policy_retried = true;
                failure::retry(Duration::ZERO, text)
            }
            Some(1011) if quota => failure::retry(Duration::from_secs(30), text),
            Some(1000 | 1003 | 1007 | 1008) => failure::give_up(text),
            _ => failure::retry(Duration::ZERO, text),
        }
    }

    fn renewal(&self) -> Renewal {
        Renewal::CloseFirst
    }

    fn successor(&self, history: Vec<HistoryTurn>) -> Self {
        let spec = SessionSpec {
            history,
            first_item: self.turns.next_id(),
            ..SessionSpec::clone(&self.spec)
        };
        Self {
            resumes: self.handle.clone(),
            handle: self.handle.clone(),
            policy_retried: self.policy_retried,
            unnamed_calls: self.unnamed_calls,
            ..Self::new(Arc::clone(&self.settings), spec)
        }
    }

    fn fallback(&mut self) -> Option<Self> {
        if !self.handle_refused {
            return None;
        }
        self.handle = None;
        let history = std::mem::take(&mut self.history);
        let mut fresh = self.successor(history);
        fresh.take_over(self);
        Some(fresh)
    }

    fn take_over(&mut self, old: &mut Self) {
        self.unnamed_calls = self.unnamed_calls.max(old.unnamed_calls);
        self.turns.start_at(old.turns.next_id());
        self.calls.inherit(&mut old.calls);
    }
}

#[cfg(test)]
mod tests;
