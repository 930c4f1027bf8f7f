//! Token counts: the server repeats them, and the last of a turn is what counts.

use tandem_call::Usage;

use crate::json::Json;

/// Turns repeated counts into what is to be added.
#[derive(Debug, Default)]
pub(super) struct UsageMeter {
    turn: Usage,
    turn_over: bool,
}

impl UsageMeter {
    /// What `counts` adds to the sum; `new_turn` says that a turn is open or ends with the same message.
    pub(super) fn count(&mut self, counts: Usage, new_turn: bool) -> Option<Usage> {
        if self.turn_over && new_turn {
            self.turn = Usage::default();
            self.turn_over = false;
        }
        let more = Usage {
            input_tokens: counts.input_tokens.saturating_sub(self.turn.input_tokens),
            output_tokens: counts.output_tokens.saturating_sub(self.turn.output_tokens),
            input_audio_tokens: counts
                .input_audio_tokens
                .saturating_sub(self.turn.input_audio_tokens),
            output_audio_tokens: counts
                .output_audio_tokens
                .saturating_sub(self.turn.output_audio_tokens),
            cached_tokens: counts.cached_tokens.saturating_sub(self.turn.cached_tokens),
        };
        self.turn.add(&more);
        (more != Usage::default()).then_some(more)
    }

    /// The turn is over: counts that come with the next one start anew.
    pub(super) fn turn_complete(&mut self) {
        self.turn_over = true;
    }
}

/// Reads `usageMetadata`.
pub(super) fn read(metadata: Json<'_>) -> Usage {
    let [prompt, tool_use, response, thoughts, cached] = metadata
        .members([
            "promptTokenCount",
            "toolUsePromptTokenCount",
            "responseTokenCount",
            "thoughtsTokenCount",
            "cachedContentTokenCount",
        ])
        .map(|number| number.u64().unwrap_or(0));
    let [input_audio, output_audio] =
        metadata.members(["promptTokensDetails", "responseTokensDetails"]).map(|details| {
            details
                .elements()
                .into_iter()
                .map(|detail| detail.members(["modality", "tokenCount"]))
                .filter(|[modality, _]| modality.text() == "AUDIO")
                .filter_map(|[_, count]| count.u64())
                .fold(0, u64::saturating_add)
        });
    Usage {
        input_tokens: prompt.saturating_add(tool_use),
        // Observed: thoughts are outside of the response's count and are billed as output.
        output_tokens: response.saturating_add(thoughts),
        input_audio_tokens: input_audio,
        output_audio_tokens: output_audio,
        cached_tokens: cached,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn counts(input: u64, output: u64) -> Usage {
        Usage { input_tokens: input, output_tokens: output, ..Usage::default() }
    }

    #[test]
    fn the_last_count_of_each_turn_is_summed() {
        let mut meter = UsageMeter::default();
        let mut sum = Usage::default();
        let mut count = |meter: &mut UsageMeter, counts, new_turn| {
            if let Some(more) = meter.count(counts, new_turn) {
                sum.add(&more);
            }
        };
        count(&mut meter, counts(100, 5), true);
        count(&mut meter, counts(100, 20), true); // A later snapshot of the same turn.
        meter.turn_complete();
        count(&mut meter, counts(100, 22), false); // Late, still of that turn.
        count(&mut meter, counts(143, 10), true); // The next turn, with the whole context again.
        meter.turn_complete();
        assert_eq!(sum, counts(243, 32));
    }

    #[test]
    fn thoughts_and_audio_are_read() {
        let metadata = json!({
            "promptTokenCount": 522, "responseTokenCount": 42, "thoughtsTokenCount": 136,
            "promptTokensDetails": [
                { "modality": "TEXT", "tokenCount": 332 }, { "modality": "AUDIO", "tokenCount": 165 },
            ],
            "responseTokensDetails": [{ "modality": "AUDIO", "tokenCount": 42 }],
        })
        .to_string();
        let usage = read(Json::of(&metadata));
        assert_eq!(
            usage,
            Usage {
                input_tokens: 522,
                output_tokens: 178,
                input_audio_tokens: 165,
                output_audio_tokens: 42,
                cached_tokens: 0,
            }
        );
        assert_eq!(read(Json::of("null")), Usage::default());
    }
}
