//! What the server says.

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use memchr::memmem;
use serde_json::json;
use tandem_call::{ModelEvent, ModelSink, ToolCall, ToolCallId};
use tandem_media::{AudioFormat, SampleRate};

use super::{
    CALLER_PAUSE, GeminiLive, MAX_CANCELLED, OUR_CALL, RENEW_MARGIN, turn::TurnEnd, usage,
};
use crate::{
    DialectError, Outbox,
    calls::{Answered, arguments},
    envelope::{Scanner, first_key},
    json::{Json, MAX_LARGE_MESSAGE},
};

/// Parts of one message that are read without a JSON tree.
const MAX_PARTS: usize = 8;

/// The audio of a message that holds nothing else, borrowed from it.
#[derive(Debug)]
pub(super) struct AudioParts<'a> {
    parts: [(&'a [u8], &'a [u8]); MAX_PARTS],
    count: usize,
}

impl<'a> AudioParts<'a> {
    /// Reads `{"serverContent":{"modelTurn":{"parts":[{"inlineData":{"mimeType":…,"data":…}}]}}}`, keys in any order,
    /// `role` beside `parts` allowed.
    pub(super) fn scan(payload: &'a [u8]) -> Option<Self> {
        let mut found = Self { parts: [(b"", b""); MAX_PARTS], count: 0 };
        let mut scanner = Scanner::new(payload);
        scanner.expect(b'{')?;
        only(&mut scanner, b"serverContent")?;
        only(&mut scanner, b"modelTurn")?;
        loop {
            match scanner.key()? {
                b"role" => drop(scanner.string()?),
                b"parts" if found.count == 0 => found.scan_parts(&mut scanner)?,
                _ => return None,
            }
            if !scanner.more(b'}')? {
                break;
            }
        }
        scanner.expect(b'}')?;
        scanner.expect(b'}')?;
        scanner.end()?;
        (found.count > 0).then_some(found)
    }

    fn scan_parts(&mut self, scanner: &mut Scanner<'a>) -> Option<()> {
        scanner.expect(b'[')?;
        loop {
            scanner.expect(b'{')?;
            only(scanner, b"inlineData")?;
            let (mut mime, mut data) = (None, None);
            loop {
                match scanner.key()? {
                    b"mimeType" => mime = Some(scanner.string()?),
                    b"data" => data = Some(scanner.string()?),
                    _ => return None,
                }
                if !scanner.more(b'}')? {
                    break;
                }
            }
            scanner.expect(b'}')?;
            *self.parts.get_mut(self.count)? = (mime?, data?);
            self.count += 1;
            if !scanner.more(b']')? {
                return Some(());
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.parts[..self.count].iter().copied()
    }
}

/// Steps over `"name": {`.
fn only(scanner: &mut Scanner<'_>, name: &[u8]) -> Option<()> {
    if scanner.key()? != name {
        return None;
    }
    scanner.expect(b'{')
}

/// The format that a mime type such as `audio/pcm;rate=24000` names; 24 kHz when it names no rate.
fn format_of(mime: &[u8]) -> Option<AudioFormat> {
    let mime = std::str::from_utf8(mime).ok()?;
    if !mime.starts_with("audio/pcm") && !mime.starts_with("audio/l16") {
        return None;
    }
    let rate = match mime.split("rate=").nth(1) {
        None => 24_000,
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            rest[..end].parse().ok()?
        }
    };
    SampleRate::from_hz(rate).map(AudioFormat::Pcm16)
}

/// Seconds as the protocol writes them: `"50s"`, `"49.5s"`.
fn duration(value: Json<'_>) -> Option<Duration> {
    let seconds: f64 = value.text().strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// One message; several of its members may come at once.
#[derive(Debug)]
pub(super) struct Message<'a> {
    setup_complete: Json<'a>,
    content: Content<'a>,
    tool_call: Json<'a>,
    cancellation: Json<'a>,
    usage: Json<'a>,
    status: Json<'a>,
    resumption: Json<'a>,
    go_away: Json<'a>,
    voice_activity: Json<'a>,
}

impl<'a> Message<'a> {
    pub(super) fn read(payload: &'a [u8]) -> Result<Self, DialectError> {
        let names = [
            "setupComplete",
            "serverContent",
            "toolCall",
            "toolCallCancellation",
            "usageMetadata",
            "interactionStatus",
            "sessionResumptionUpdate",
            "goAway",
            "voiceActivity",
        ];
        let [
            setup_complete,
            content,
            tool_call,
            cancellation,
            usage,
            status,
            resumption,
            go_away,
            voice_activity,
        ] = Json::read(payload, names)?;
        let content = Content::read(content);
        Ok(Self {
            setup_complete,
            content,
            tool_call,
            cancellation,
            usage,
            status,
            resumption,
            go_away,
            voice_activity,
        })
    }
}

/// The `serverContent` of a message.
#[derive(Debug)]
struct Content<'a> {
    model_turn: Json<'a>,
    caller_text: Json<'a>,
    agent_text: Json<'a>,
    status: Json<'a>,
    reason: Cow<'a, str>,
    generation_complete: bool,
    interrupted: bool,
    turn_complete: bool,
    waits: bool,
}

impl<'a> Content<'a> {
    fn read(content: Json<'a>) -> Self {
        let [model_turn, caller_text, agent_text, status, reason] = content.members([
            "modelTurn",
            "inputTranscription",
            "outputTranscription",
            "interactionStatus",
            "turnCompleteReason",
        ]);
        let [generation_complete, interrupted, turn_complete, waits] = content
            .members(["generationComplete", "interrupted", "turnComplete", "waitingForInput"])
            .map(Json::is_true);
        let reason = reason.text();
        Self {
            model_turn,
            caller_text,
            agent_text,
            status,
            reason,
            generation_complete,
            interrupted,
            turn_complete,
            waits,
        }
    }
}

/// Whether a message beyond [`MAX_MESSAGE`] is read all the same. One that is neither read nor left out is an error.
pub(super) fn is_read(payload: &[u8]) -> Result<bool, DialectError> {
    let bytes = payload.len();
    if bytes <= MAX_LARGE_MESSAGE && memmem::find(payload, b"\"inlineData\"").is_some() {
        return Ok(true);
    }
    match first_key(payload) {
        Some(
            b"setupComplete" | b"serverContent" | b"toolCall" | b"toolCallCancellation" | b"goAway",
        )
        | None => Err(DialectError::TooLarge { bytes }),
        Some(_) => Ok(false),
    }
}

impl GeminiLive {
    pub(super) fn handle_audio(
        &mut self,
        now: Instant,
        mime: &[u8],
        data: &[u8],
        sink: &mut dyn ModelSink,
    ) {
        let Some(format) = format_of(mime) else {
            tracing::warn!(mime = %String::from_utf8_lossy(mime), "audio of an unknown kind, left out");
            return;
        };
        let Some(item) = self.turns.speech(now, sink) else { return };
        match self.audio.decode(item, format, data) {
            Ok([]) => {}
            Ok(bytes) => sink.audio(item, format, bytes),
            Err(_) => tracing::warn!("audio of the model is no base64, left out"),
        }
    }

    /// One message: content first, then the flags that come with it.
    pub(super) fn handle_object(
        &mut self,
        now: Instant,
        message: &Message<'_>,
        out: &mut Outbox,
        sink: &mut dyn ModelSink,
    ) {
        if !message.setup_complete.is_absent() {
            self.become_ready(now, out);
        }
        let content = &message.content;
        self.handle_content(now, content, sink);
        let calls = message.tool_call.get("functionCalls");
        if calls.is_array() {
            for call in calls.elements() {
                self.handle_tool_call(now, call, out, sink);
            }
            if self.family.blocks_on_tools {
                self.turns.wait_for_tools(sink);
            }
        }
        for id in message.cancellation.get("ids").elements() {
            self.cancel_tool_call(&id.text(), sink);
        }
        if !message.usage.is_absent() {
            let new_turn = self.turns.is_open() || content.turn_complete;
            if let Some(more) = self.usage.count(usage::read(message.usage), new_turn) {
                sink.event(ModelEvent::Usage(more));
            }
        }
        let status = if content.status.is_string() { content.status } else { message.status };
        self.handle_flags(now, content, &status.text(), sink);
        // While it speaks or calls tools, it sends an empty handle: the one before stays good.
        let [resumable, handle] = message.resumption.members(["resumable", "newHandle"]);
        let handle = handle.text();
        if resumable.is_true() && !handle.is_empty() {
            self.handle = Some(handle.into_owned());
        }
        if !message.go_away.is_absent() {
            let left = duration(message.go_away.get("timeLeft")).unwrap_or_default();
            self.renew_at = None;
            let margin = RENEW_MARGIN.min(left / 5);
            sink.event(ModelEvent::ExpiresIn(left - margin));
        }
        if message.voice_activity.get("voiceActivityType").text() == "ACTIVITY_END" {
            sink.event(ModelEvent::SpeechStopped);
        }
    }

    fn handle_content(&mut self, now: Instant, content: &Content<'_>, sink: &mut dyn ModelSink) {
        for part in content.model_turn.get("parts").elements() {
            // Text beside audio is thought or stray; only audio is speech.
            let [thought, audio] = part.members(["thought", "inlineData"]);
            if !thought.is_true() && !audio.is_absent() {
                let [mime, data] = audio.members(["mimeType", "data"]).map(Json::text);
                self.handle_audio(now, mime.as_bytes(), data.as_bytes(), sink);
            }
        }
        // `interimInputTranscription` is a guess which the fragments replace: the record waits for those.
        let [said, finished] = content.caller_text.members(["text", "finished"]);
        let said = said.text();
        if !said.is_empty() {
            self.caller_pause = Some(now + CALLER_PAUSE);
            sink.event(ModelEvent::CallerText { text: said.into_owned(), last: false });
        }
        if finished.is_true() {
            self.end_caller_text(sink);
        }
        let said = content.agent_text.get("text").text();
        if !said.is_empty() {
            self.turns.text(now, &said, sink);
        }
    }

    fn handle_flags(
        &mut self,
        now: Instant,
        content: &Content<'_>,
        status: &str,
        sink: &mut dyn ModelSink,
    ) {
        // With extended thinking a spoken filler is generated to its end long before the answer.
        if content.generation_complete && !self.family.extended_thinking {
            self.turns.generated(sink);
        }
        if content.interrupted {
            self.turns.interrupted(now, sink);
        }
        if content.turn_complete {
            let reason = &*content.reason;
            let end = TurnEnd {
                reason,
                waits: content.waits || reason == "NEED_MORE_INPUT",
                unfinished: status == "IN_PROGRESS",
            };
            self.turns.complete(now, end, sink);
            self.usage.turn_complete();
        }
        if matches!(status, "IDLE" | "REQUIRES_ACTION") {
            self.turns.idle(sink);
        }
    }

    /// The caller's words so far are a whole turn.
    pub(super) fn end_caller_text(&mut self, sink: &mut dyn ModelSink) {
        if self.caller_pause.take().is_some() {
            sink.event(ModelEvent::CallerText { text: String::new(), last: true });
        }
    }

    fn handle_tool_call(
        &mut self,
        now: Instant,
        call: Json<'_>,
        out: &mut Outbox,
        sink: &mut dyn ModelSink,
    ) {
        let [id, name, args] = call.members(["id", "name", "args"]);
        let (id, name) = (id.text(), name.text());
        let is_nothing = id.is_empty() && name.is_empty();
        if is_nothing || self.cancelled.iter().any(|cancelled| *cancelled == id) {
            return;
        }
        let call_id = ToolCallId(if id.is_empty() {
            self.unnamed_calls += 1;
            format!("{OUR_CALL}{}", self.unnamed_calls)
        } else {
            id.into_owned()
        });
        if !self.calls.open(&call_id, &name) {
            self.send_result(&call_id.0, &name, json!({ "error": "too many calls at once" }), out);
            return;
        }
        self.turns.tool_call(now, sink);
        let arguments = match args.as_written() {
            "null" => Ok(json!({})),
            written => arguments(written),
        };
        let tool = ToolCall { id: call_id, name: name.into_owned(), arguments };
        sink.event(ModelEvent::ToolCall(tool));
    }

    fn cancel_tool_call(&mut self, id: &str, sink: &mut dyn ModelSink) {
        if id.is_empty() {
            return;
        }
        if self.cancelled.len() == MAX_CANCELLED {
            self.cancelled.pop_front();
        }
        self.cancelled.push_back(id.to_owned());
        let call_id = ToolCallId(id.to_owned());
        if self.calls.answer(&call_id) != Answered::Unknown {
            sink.event(ModelEvent::ToolCancelled(call_id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(text: &str) -> Option<Vec<(String, String)>> {
        AudioParts::scan(text.as_bytes()).map(|parts| {
            parts
                .iter()
                .map(|(mime, data)| {
                    (
                        String::from_utf8_lossy(mime).into_owned(),
                        String::from_utf8_lossy(data).into_owned(),
                    )
                })
                .collect()
        })
    }

    #[test]
    fn plain_audio_is_scanned_and_the_rest_is_not() {
        let part = |data: &str| format!(r#"{{"inlineData":{{"mimeType":"m","data":"{data}"}}}}"#);
        let message = |inner: &str| format!(r#"{{"serverContent":{{"modelTurn":{{{inner}}}}}}}"#);
        let one = vec![("m".to_owned(), "AA".to_owned())];
        for (text, found) in [
            (message(&format!(r#""parts":[{}]"#, part("AA"))), Some(one.clone())),
            (message(&format!(r#""role":"model","parts":[{}]"#, part("AA"))), Some(one.clone())),
            (
                r#" { "serverContent" : { "modelTurn" : { "parts" : [ { "inlineData" : { "data" : "AA", "mimeType" : "m" } } ] } } } "#
                    .to_owned(),
                Some(one),
            ),
            (
                message(&format!(r#""parts":[{},{}]"#, part("AA"), part("BB"))),
                Some(vec![("m".into(), "AA".into()), ("m".into(), "BB".into())]),
            ),
            (message(&format!(r#""parts":[{}]"#, vec![part("A"); 9].join(","))), None),
            (message(r#""parts":[]"#), None),
            (message(r#""parts":[{"text":"hm"}]"#), None),
            (message(&format!(r#""parts":[{}]"#, part(r"A\u003d"))), None),
            (
                format!(
                    r#"{{"serverContent":{{"modelTurn":{{"parts":[{}]}},"turnComplete":true}}}}"#,
                    part("AA")
                ),
                None,
            ),
            ("{}".into(), None),
            (String::new(), None),
        ] {
            assert_eq!(scanned(&text), found, "{text}");
        }
    }

    #[test]
    fn the_rate_is_read_from_the_mime_type() {
        let pcm = |rate| Some(AudioFormat::Pcm16(rate));
        for (mime, format) in [
            ("audio/pcm;rate=24000", pcm(SampleRate::Hz24000)),
            ("audio/pcm;rate=16000", pcm(SampleRate::Hz16000)),
            ("audio/pcm; rate=8000; channels=1", pcm(SampleRate::Hz8000)),
            ("audio/pcm", pcm(SampleRate::Hz24000)),
            ("audio/pcm;rate=22050", None),
            ("audio/pcm;rate=", None),
            ("image/png", None),
        ] {
            assert_eq!(format_of(mime.as_bytes()), format, "{mime}");
        }
    }

    #[test]
    fn durations_are_read() {
        for (text, read) in [
            (json!("50s"), Some(Duration::from_secs(50))),
            (json!("49.5s"), Some(Duration::from_millis(49_500))),
            (json!("-1s"), None),
            (json!("NaNs"), None),
            (json!("soon"), None),
            (json!(50), None),
        ] {
            assert_eq!(duration(Json::of(&text.to_string())), read, "{text}");
        }
    }
}
