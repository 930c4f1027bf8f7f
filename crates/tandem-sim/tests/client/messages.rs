//! What the client makes of the server's messages.

use super::*;

impl Client<'_> {
    pub(super) async fn handle_message(&mut self, bytes: Vec<u8>) {
        let text = String::from_utf8(bytes).unwrap();
        let message: Value = serde_json::from_str(&text).unwrap();
        self.report.messages.push(text);
        if self.openai() {
            self.handle_event(&message).await;
        } else {
            self.handle_gemini(&message).await;
        }
    }

    fn hear(&mut self, item: &str, data: &str) {
        let mut audio = base64_simd::STANDARD.decode_to_vec(data).unwrap();
        if matches!(self.downlink(), AudioFormat::Pcm16(_)) {
            if let Some(half) = self.half.remove(item) {
                audio.insert(0, half);
            }
            if audio.len() % 2 == 1 {
                self.half.insert(item.into(), audio.pop().expect("it is odd"));
            }
        }
        *self.received.entry(item.into()).or_default() += audio.len();
        self.playing.push_back((item.into(), audio.into()));
    }

    fn add_usage(&mut self, input: &Value, output: &Value) {
        self.report.usage[0] += input.as_u64().unwrap_or(0);
        self.report.usage[1] += output.as_u64().unwrap_or(0);
    }

    async fn handle_gemini(&mut self, message: &Value) {
        let content = &message["serverContent"];
        let is_true = |name: &str| content[name] == true;
        for part in content["modelTurn"]["parts"].as_array().into_iter().flatten() {
            self.turn_open = true;
            if let (Some(data), false) = (part["inlineData"]["data"].as_str(), self.withhold) {
                let mime = part["inlineData"]["mimeType"].as_str().unwrap();
                self.rate = mime.split_once("rate=").unwrap().1.parse().unwrap();
                self.hear("turn", data);
            }
        }
        self.report.caller_text +=
            content["inputTranscription"]["text"].as_str().unwrap_or_default();
        self.report.agent_text +=
            content["outputTranscription"]["text"].as_str().unwrap_or_default();
        if is_true("interrupted") {
            self.playing.clear();
            self.withhold = self.turn_open;
        }
        if is_true("turnComplete") {
            (self.withhold, self.turn_open) = (false, false);
        }
        let usage = &message["usageMetadata"];
        self.add_usage(&usage["promptTokenCount"], &usage["responseTokenCount"]);
        for call in message["toolCall"]["functionCalls"].as_array().into_iter().flatten() {
            self.start_tool(&call["id"], &call["name"]);
        }
        for id in message["toolCallCancellation"]["ids"].as_array().into_iter().flatten() {
            self.due
                .retain(|(_, due)| !matches!(due, Due::Result { id: open, .. } if *id == *open));
            self.open_calls.retain(|open| *id != *open);
        }
        let update = &message["sessionResumptionUpdate"];
        if let (Some(handle), true) = (update["newHandle"].as_str(), update["resumable"] == true) {
            self.handle_name = Some(handle.into());
        }
        if let Some(left) = message["goAway"]["timeLeft"].as_str() {
            let secs: u64 = left.strip_suffix('s').unwrap().parse().unwrap();
            self.renew_at = Some(self.tick + secs * 50 - 25);
        }
    }

    fn start_tool(&mut self, id: &Value, name: &Value) {
        let (id, name) = (id.as_str().unwrap().to_owned(), name.as_str().unwrap().to_owned());
        let script = self.scenario.tools.iter().find(|tool| tool.name == name);
        let takes_ms = match script.map(|tool| (&tool.reply, tool.takes_ms)) {
            Some((ToolReply::Never, _)) => 10_000,
            Some((_, takes_ms)) => takes_ms,
            None => 0,
        };
        self.open_calls.push(id.clone());
        self.due.push((self.tick + takes_ms / 20 + 1, Due::Result { id, name }));
    }

    pub(super) async fn result(&mut self, id: &str, name: &str) {
        if !self.open_calls.iter().any(|open| open == id) {
            return;
        }
        self.open_calls.retain(|open| open != id);
        *self.report.results.entry(id.into()).or_default() += 1;
        let script = self.scenario.tools.iter().find(|tool| tool.name == name);
        let response = match script.map(|tool| &tool.reply) {
            Some(ToolReply::Output(output)) => json!({ "output": output }),
            Some(ToolReply::Error(error)) => json!({ "error": error }),
            Some(ToolReply::Never) => json!({ "error": "timed out" }),
            None => json!({ "error": "no such tool" }),
        };
        if self.openai() {
            let output = response.to_string();
            let item = json!({ "type": "function_call_output", "call_id": id, "output": output });
            self.wants_response = true;
            self.send(&json!({ "type": "conversation.item.create", "item": item })).await;
        } else {
            let response = json!({ "id": id, "name": name, "response": response });
            self.send(&json!({ "toolResponse": { "functionResponses": [response] } })).await;
        }
    }

    async fn handle_event(&mut self, event: &Value) {
        let text = |name: &str| event[name].as_str().unwrap_or_default();
        let kind = text("type").replace("response.audio", "response.output_audio");
        let response = &event["response"];
        match kind.as_str() {
            "session.updated" => {
                let wanted = if self.needs(Need::Pcm) { "audio/pcm" } else { "audio/pcmu" };
                if event["session"]["audio"]["output"]["format"]["type"] != wanted {
                    self.report.losses.push("format".into());
                    self.given_up = true;
                }
            }
            "response.created" if response["conversation_id"].is_null() => {
                self.muted.push(response["id"].as_str().unwrap().into());
            }
            "response.created" => self.active = response["id"].as_str().map(str::to_owned),
            "response.output_audio.delta"
                if !self.muted.iter().any(|id| id == text("response_id")) =>
            {
                self.hear(text("item_id"), text("delta"));
            }
            "response.output_audio_transcript.delta"
                if !self.muted.iter().any(|id| id == text("response_id")) =>
            {
                self.report.agent_text += text("delta");
            }
            "conversation.item.input_audio_transcription.delta" => {
                self.report.caller_text += text("delta");
            }
            "input_audio_buffer.speech_started" => self.barge_in().await,
            "response.done" => self.response_done(response),
            "error" if event["error"]["type"] == "invalid_request_error" => {
                self.report.losses.push(event["error"]["code"].as_str().unwrap().into());
            }
            _ => {}
        }
    }

    fn response_done(&mut self, response: &Value) {
        let usage = &response["usage"];
        self.add_usage(&usage["input_tokens"], &usage["output_tokens"]);
        if self.active.as_deref() == response["id"].as_str() {
            self.active = None;
        }
        if response["status"] == "failed" {
            self.due.push((self.tick + 60, Due::Create));
        }
        for output in response["output"].as_array().into_iter().flatten() {
            if output["type"] == "function_call" && output["status"] == "completed" {
                self.start_tool(&output["call_id"], &output["name"]);
            }
        }
    }

    async fn barge_in(&mut self) {
        if self.needs(Need::ClientInterrupts) && self.active.is_some() {
            self.send(&json!({ "type": "response.cancel" })).await;
        }
        self.muted.extend(self.active.take());
        let cut = self.playing.front().map(|(item, _)| item.clone());
        self.playing.clear();
        let Some(item) = cut else { return };
        let bytes_per_ms = self.downlink().rate().hz() / 1_000 * self.downlink().bytes_per_sample();
        let played = self.played.get(&item).copied().unwrap_or(0) / bytes_per_ms;
        if played > 0 {
            self.report.truncates += 1;
            self.send(&json!({
                "type": "conversation.item.truncate",
                "item_id": item, "content_index": 0, "audio_end_ms": played,
            }))
            .await;
        }
    }
}
