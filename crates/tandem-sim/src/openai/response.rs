//! Planning a response as the events it consists of.

use super::*;
use crate::{
    engine::rate_limits,
    script::{AnswerEnd, ResponseStatus, SpokenMessage, UsageSpec},
    wire::interleave,
};

impl OpenAi {
    pub(super) fn planned_response(&mut self, response: &Response, link: &mut Link) -> Vec<Op> {
        self.response_ids += 1;
        let id = format!("resp_{}", self.response_ids);
        let conversation = if response.out_of_band { Value::Null } else { "conv_1".into() };
        let created = json!({
            "type": "response.created",
            "response": {
                "object": "realtime.response", "id": id, "status": "in_progress", "status_details": null,
                "conversation_id": conversation, "output": [], "metadata": null, "usage": null,
            },
        });
        let mut ops = vec![Op::EnterAnswer, Op::Send(created), Op::Send(rate_limits(39_000, 1.5))];
        let mut outputs = Vec::new();
        for (index, output) in response.outputs.iter().enumerate() {
            let complete = response.end != AnswerEnd::Open
                && (response.status == ResponseStatus::Completed
                    || index + 1 < response.outputs.len());
            let item = self.new_item();
            let target = Target { response: id.clone(), item, output_index: index };
            let item = match output {
                ResponseOutput::Message(message) => {
                    let in_conversation = !response.out_of_band;
                    self.plan_message(message, &target, complete, in_conversation, link, &mut ops)
                }
                ResponseOutput::FunctionCall(tool) => {
                    self.plan_call(tool, &target, complete, &mut ops)
                }
            };
            outputs.push(item);
        }
        if response.end != AnswerEnd::Open {
            let (status, details) = status_of(&response.status);
            let mut done = json!({
                "object": "realtime.response", "id": id, "status": status, "status_details": details,
                "conversation_id": conversation, "output": outputs, "metadata": null,
            });
            if !self.dialect.minimal {
                done["usage"] = response.usage.as_ref().map_or(Value::Null, usage);
            }
            ops.push(Op::Send(json!({ "type": "response.done", "response": done })));
        }
        ops.push(Op::EndAnswer);
        ops
    }

    /// Plans one message item and returns it as it is in the end.
    fn plan_message(
        &self,
        message: &SpokenMessage,
        target: &Target,
        complete: bool,
        in_conversation: bool,
        link: &mut Link,
        ops: &mut Vec<Op>,
    ) -> Value {
        let marker = link.next_marker(message.marker);
        let format = self.session.output_format();
        let whole: String = message.transcript.concat();
        let part = if self.dialect.beta { "audio" } else { "output_audio" };
        let mut item = json!({
            "id": target.item, "object": "realtime.item", "type": "message", "status": "in_progress",
            "role": "assistant", "content": [],
        });
        if let Some(phase) = &message.phase {
            item["phase"] = phase.as_str().into();
        }
        ops.push(Op::Send(of_target(
            target,
            "response.output_item.added",
            json!({ "item": item }),
        )));
        if in_conversation {
            let added = json!({
                "type": "conversation.item.added", "previous_item_id": self.last_item, "item": item,
            });
            ops.push(Op::Send(added));
        }
        let begun = json!({ "content_index": 0, "part": { "type": "audio", "transcript": "" } });
        ops.push(Op::Send(of_target(target, "response.content_part.added", begun)));
        ops.push(Op::BeginAnswer);
        ops.extend(interleave(
            message.profile.cut(format, message.ms),
            &message.transcript,
            |text| {
                let delta = json!({ "content_index": 0, "delta": text });
                Op::Send(of_target(target, "response.output_audio_transcript.delta", delta))
            },
            |chunk, ops| {
                ops.push(Op::Delay(chunk.after_ms));
                ops.push(Op::Audio { marker, format, bytes: chunk.bytes, target: target.clone() });
            },
        ));
        item["content"] = json!([{ "type": part, "transcript": whole }]);
        item["status"] = if complete { "completed".into() } else { "incomplete".into() };
        if complete {
            let at = json!({ "content_index": 0 });
            ops.push(Op::Send(of_target(target, "response.output_audio.done", at)));
            let said = json!({ "content_index": 0, "transcript": whole });
            ops.push(Op::Send(of_target(target, "response.output_audio_transcript.done", said)));
            let part =
                json!({ "content_index": 0, "part": { "type": "audio", "transcript": whole } });
            ops.push(Op::Send(of_target(target, "response.content_part.done", part)));
            if in_conversation {
                let done = json!({
                    "type": "conversation.item.done", "previous_item_id": self.last_item, "item": item,
                });
                ops.push(Op::Send(done));
            }
            ops.push(Op::Send(of_target(
                target,
                "response.output_item.done",
                json!({ "item": item }),
            )));
        }
        item
    }

    /// Plans one function call and returns it as it is in the end.
    fn plan_call(
        &self,
        tool: &ToolRequest,
        target: &Target,
        complete: bool,
        ops: &mut Vec<Op>,
    ) -> Value {
        let arguments = tool.arguments_text();
        let mut item = json!({
            "id": target.item, "object": "realtime.item", "type": "function_call", "status": "in_progress",
            "call_id": tool.id, "name": tool.name, "arguments": "",
        });
        ops.push(Op::Send(of_target(
            target,
            "response.output_item.added",
            json!({ "item": item }),
        )));
        let middle =
            arguments.char_indices().nth(arguments.chars().count() / 2).map_or(0, |(at, _)| at);
        let (first, second) = arguments.split_at(middle);
        for delta in [first, second].into_iter().take(if complete { 2 } else { 1 }) {
            let delta = json!({ "call_id": tool.id, "delta": delta });
            ops.push(Op::Send(of_target(target, "response.function_call_arguments.delta", delta)));
        }
        if complete {
            let done = json!({ "call_id": tool.id, "name": tool.name, "arguments": arguments });
            ops.push(Op::Send(of_target(target, "response.function_call_arguments.done", done)));
            item["status"] = "completed".into();
            item["arguments"] = arguments.into();
            ops.push(Op::Send(of_target(
                target,
                "response.output_item.done",
                json!({ "item": item }),
            )));
        } else {
            item["status"] = "incomplete".into();
            item["arguments"] = first.into();
        }
        item
    }

    /// The `response.done` of a response that ends before its plan does.
    pub(super) fn ended_response(&self, active: Active, cut: Option<&'static str>) -> Value {
        let Active { id, mut outputs, open_item, transcript } = active;
        if let Some(mut item) = open_item {
            item["status"] = if cut.is_some() { "incomplete".into() } else { "completed".into() };
            if item["type"] == "message" {
                item["content"] = json!([{ "type": "output_audio", "transcript": transcript }]);
            }
            outputs.push(item);
        }
        let (status, details) = match cut {
            Some(reason) => status_of(&ResponseStatus::Cancelled(reason.into())),
            None => status_of(&ResponseStatus::Completed),
        };
        let mut response = json!({
            "object": "realtime.response", "id": id, "status": status, "status_details": details,
            "conversation_id": "conv_1", "output": outputs, "metadata": null,
        });
        if !self.dialect.minimal {
            response["usage"] = usage(&UsageSpec::ANSWER);
        }
        json!({ "type": "response.done", "response": response })
    }

    pub(super) fn planned_transcript(&self, transcript: &InputTranscript) -> Vec<Op> {
        const KIND: &str = "conversation.item.input_audio_transcription";
        let Some(item) = self.user_item.as_ref().filter(|_| self.session.transcribes()) else {
            return Vec::new();
        };
        let (fragments, usage) = match transcript {
            InputTranscript::Text(text) => (std::slice::from_ref(text), None),
            InputTranscript::Fragments(fragments) => (fragments.as_slice(), None),
            InputTranscript::Timed { fragments, seconds } => (fragments.as_slice(), Some(*seconds)),
            InputTranscript::Failed { failed } => {
                return vec![Op::Send(json!({
                    "type": format!("{KIND}.failed"), "item_id": item, "content_index": 0,
                    "error": {
                        "type": "transcription_error", "code": "audio_unintelligible",
                        "message": failed, "param": null,
                    },
                }))];
            }
        };
        let usage = match usage {
            Some(seconds) => json!({ "type": "duration", "seconds": seconds }),
            None => json!({
                "type": "tokens", "total_tokens": 14, "input_tokens": 10, "output_tokens": 4,
                "input_token_details": { "text_tokens": 0, "audio_tokens": 10 },
            }),
        };
        let deltas = fragments.iter().map(|delta| {
            Op::Send(json!({
                "type": format!("{KIND}.delta"), "item_id": item, "content_index": 0, "delta": delta,
            }))
        });
        let completed = Op::Send(json!({
            "type": format!("{KIND}.completed"), "item_id": item, "content_index": 0,
            "transcript": fragments.concat(), "usage": usage,
        }));
        deltas.chain([completed]).collect()
    }

    /// How this dialect spells an event, none when it does not have it.
    pub(super) fn spelling(&self, kind: &str) -> Option<String> {
        if !self.dialect.beta {
            return Some(kind.to_owned());
        }
        match kind {
            "conversation.item.added" => Some("conversation.item.created".to_owned()),
            "conversation.item.done" => None,
            _ => Some(
                kind.replace("response.output_audio", "response.audio")
                    .replace("response.output_text", "response.text"),
            ),
        }
    }
}

/// `fields` as an event of type `kind` about `target`.
fn of_target(target: &Target, kind: &str, mut fields: Value) -> Value {
    fields["type"] = kind.into();
    fields["response_id"] = target.response.as_str().into();
    fields["output_index"] = target.output_index.into();
    if !kind.starts_with("response.output_item.") {
        fields["item_id"] = target.item.as_str().into();
    }
    fields
}

fn status_of(status: &ResponseStatus) -> (&'static str, Value) {
    match status {
        ResponseStatus::Completed => ("completed", Value::Null),
        ResponseStatus::Incomplete(reason) => {
            ("incomplete", json!({ "type": "incomplete", "reason": reason }))
        }
        ResponseStatus::Cancelled(reason) => {
            ("cancelled", json!({ "type": "cancelled", "reason": reason }))
        }
        ResponseStatus::Failed(error) => ("failed", json!({ "type": "failed", "error": error })),
    }
}

fn usage(usage: &UsageSpec) -> Value {
    let UsageSpec { input_text, input_audio, cached, output_text, output_audio } = *usage;
    json!({
        "total_tokens": input_text + input_audio + output_text + output_audio,
        "input_tokens": input_text + input_audio,
        "output_tokens": output_text + output_audio,
        "input_token_details": {
            "text_tokens": input_text, "audio_tokens": input_audio, "image_tokens": 0, "cached_tokens": cached,
            "cached_tokens_details": { "text_tokens": cached, "audio_tokens": 0, "image_tokens": 0 },
        },
        "output_token_details": { "text_tokens": output_text, "audio_tokens": output_audio },
    })
}
