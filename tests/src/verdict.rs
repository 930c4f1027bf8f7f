//! A call that is over: everything that is known of it, and what must be true of every call.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::Value;
use tandem_call::{
    CallOutcome, Invocation, LegQuality, ModelEvent, Prompt, SignalCommand, Speaker, UplinkStats,
};
use tandem_sim::{Ending, FakeConfig, FakeHandle, ReceivedMessage};

use crate::{Ear, SharedTap, Voiced};

/// A signal to stop and the packet that is under way.
const LAST_OLD_PACKET: Duration = Duration::from_millis(40);

/// Of a turn that the model is told of, this much goes up a second time, at most: 300 ms before it, and the 400 ms after
/// which it is believed.
const MOST_REPEATED_MS: u64 = 700;

/// A call that is over.
pub struct Finished {
    /// The machine's part of the record.
    pub outcome: CallOutcome,
    /// What the caller heard.
    pub ear: Ear,
    /// What passed between sessions and models.
    pub tap: SharedTap,
    /// The models' views; none where nothing listened.
    pub models: Vec<Option<FakeHandle>>,
    /// Counters of the way up.
    pub uplink: UplinkStats,
    /// What the network did, as the leg saw it.
    pub quality: LegQuality,
    /// What happened, line by line.
    pub story: String,
    /// Orders to signalling.
    pub signals: Vec<(Instant, SignalCommand)>,
    /// Tool calls that came out of the machine.
    pub tool_calls: Vec<(Instant, Invocation)>,
    /// Tools nobody waited for any more, by number.
    pub cancelled_tools: Vec<u32>,
    /// The INVITE.
    pub began: Instant,
    /// The answer.
    pub answered: Option<Instant>,
    /// The end.
    pub ended: Instant,
    /// Time on hold.
    pub held: Duration,
    /// How long after the end the last session was closed; none when it never was.
    pub closed: Option<Duration>,
}

impl Finished {
    /// A view of the fake model at `index`.
    pub fn model(&self, index: usize) -> &FakeHandle {
        self.models[index].as_ref().expect("a server ran there")
    }

    /// Milliseconds from the answer to the end.
    pub fn call_ms(&self) -> u64 {
        self.answered.map_or(0, |answered| (self.ended - answered).as_millis() as u64)
    }

    /// All JSON the models received but caller audio, in order.
    pub fn messages(&self) -> Vec<Value> {
        let mut messages = Vec::new();
        for handle in self.models.iter().flatten() {
            for connection in 0..handle.connections() {
                messages.extend(handle.received(connection).into_iter().filter_map(|received| {
                    match received.message {
                        ReceivedMessage::Json(message) => Some(message),
                        ReceivedMessage::Audio(_) | ReceivedMessage::Garbage(_) => None,
                    }
                }));
            }
        }
        messages
    }

    /// Messages of OpenAI's `kind`.
    pub fn sent(&self, kind: &str) -> usize {
        self.messages().iter().filter(|message| message["type"] == kind).count()
    }

    /// Results the models received, by call id.
    pub fn tool_results(&self) -> BTreeMap<String, usize> {
        let mut results = BTreeMap::new();
        for message in self.messages() {
            let item = &message["item"];
            let gemini = message["toolResponse"]["functionResponses"].as_array();
            let ids = gemini.into_iter().flatten().map(|response| &response["id"]);
            let openai = (item["type"] == "function_call_output").then(|| &item["call_id"]);
            for id in ids.chain(openai).filter_map(Value::as_str) {
                *results.entry(id.to_owned()).or_default() += 1;
            }
        }
        results
    }

    /// Results the models received, in order: the call's id and what it was told.
    pub fn told_results(&self) -> Vec<(String, Value)> {
        let mut told = Vec::new();
        for message in self.messages() {
            let item = &message["item"];
            if item["type"] == "function_call_output" {
                let id = item["call_id"].as_str().unwrap_or_default();
                let output = item["output"].as_str().unwrap_or_default();
                let output = serde_json::from_str(output).unwrap_or_else(|_| Value::from(output));
                told.push((id.to_owned(), output));
            }
            let responses = message["toolResponse"]["functionResponses"].as_array();
            for response in responses.into_iter().flatten() {
                let id = response["id"].as_str().unwrap_or_default();
                let response = &response["response"];
                told.push((id.to_owned(), response.get("output").unwrap_or(response).clone()));
            }
        }
        told
    }

    /// What the models were told in words that has `text` in it, results of tools left out.
    pub fn told_in_words(&self, text: &str) -> usize {
        let is_result = |message: &Value| {
            message["item"]["type"] == "function_call_output" || message["toolResponse"].is_object()
        };
        let words = self.messages().into_iter().filter(|message| !is_result(message));
        words.filter(|message| message.to_string().contains(text)).count()
    }

    /// The longest time between two sounds from `from` until `until`.
    pub fn longest_silence(&self, from: Instant, until: Instant) -> Duration {
        let (mut last, mut longest) = (from, Duration::ZERO);
        for stretch in self.ear.stretches() {
            if stretch.end > from && stretch.start < until {
                longest = longest.max(stretch.start.saturating_duration_since(last));
                last = stretch.end;
            }
        }
        longest.max(until.saturating_duration_since(last))
    }

    /// What `speaker` said without the spaces, turns joined: of the agent also what was not heard, but not what Tandem
    /// said by itself.
    pub fn said(&self, speaker: Speaker) -> String {
        let prompts = Prompt::SHIPPED.map(|it| squeezed(it.text().unwrap_or_default()));
        let turns = self.outcome.transcript.iter().filter(|turn| turn.role == speaker);
        turns
            .map(|turn| {
                let unheard = turn.text_unheard.as_deref().unwrap_or_default();
                squeezed(&[turn.text.as_str(), unheard].concat())
            })
            .filter(|text| speaker == Speaker::Caller || !prompts.contains(text))
            .collect()
    }

    /// What is not as it must be in every call.
    pub fn broken_rules(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut rule = |kept: bool, text: String| {
            if !kept {
                broken.push(text);
            }
        };
        for handle in self.models.iter().flatten() {
            let violations = handle.all_violations();
            rule(violations.is_empty(), format!("violations: {violations:?}"));
        }
        for (id, results) in self.tool_results() {
            rule(results == 1, format!("{results} results for tool call {id}"));
        }
        for (signal, last) in self.late_audio() {
            let (signal, last) = (self.ms(signal), self.ms(last));
            rule(false, format!("stopped at {signal} ms, and old audio left until {last} ms"));
        }
        rule(
            self.closed.is_some_and(|closed| closed <= Duration::from_secs(1)),
            format!("the session was closed after {:?}", self.closed),
        );
        let printed = format!("{:?}", self.outcome);
        rule(!printed.contains(FakeConfig::KEY), format!("the key is in the record: {printed}"));
        broken
    }

    /// How the connections to the model at `index` ended that were open at the end and before.
    pub fn endings(&self, index: usize) -> Vec<Ending> {
        let handle = self.model(index);
        (0..handle.connections()).filter_map(|it| handle.progress(it).ended).collect()
    }

    /// How often the model was told that a turn of the caller began.
    fn told_turns(&self) -> u64 {
        let gemini = |message: &Value| message["realtimeInput"]["activityStart"].is_object();
        let told =
            |message: &&Value| gemini(message) || message["type"] == "input_audio_buffer.clear";
        self.messages().iter().filter(told).count() as u64
    }

    /// Whether the way up carried the whole call but holds, within 100 ms, and the beginning of each turn that was told
    /// once more.
    pub fn uplink_was_whole(&self) -> Result<(), String> {
        let up: u64 = self.models.iter().flatten().map(FakeHandle::total_caller_audio_ms).sum();
        let call = self.call_ms() - self.held.as_millis() as u64;
        let again = self.told_turns() * MOST_REPEATED_MS;
        if (call.saturating_sub(100)..=call + 100 + again).contains(&up) {
            Ok(())
        } else {
            Err(format!("{up} ms of caller audio went up in {call} ms of talk"))
        }
    }

    /// Milliseconds since the answer.
    pub fn ms(&self, at: Instant) -> u128 {
        at.saturating_duration_since(self.answered.unwrap_or(self.began)).as_millis()
    }

    /// Signals to stop after which old audio went on leaving, and until when.
    fn late_audio(&self) -> Vec<(Instant, Instant)> {
        let tap = self.tap.borrow();
        let signals = tap.events(|event| matches!(event, ModelEvent::SpeechStarted));
        let stretches = self.ear.stretches();
        let late = signals.filter_map(|signal| {
            let playing = stretches.iter().find(|it| it.start < signal && it.end > signal)?;
            (playing.end > signal + LAST_OLD_PACKET).then_some((signal, playing.end))
        });
        late.collect()
    }

    /// How long the caller heard nothing from `from` on, or from the end of what a model was saying before; none when
    /// nothing was heard any more.
    pub fn dead_air_after(&self, from: Instant) -> Option<Duration> {
        let stretches = self.ear.stretches();
        let rest = stretches
            .iter()
            .find(|it| it.voiced == Voiced::Model && it.start < from && it.end > from);
        let silent = rest.map_or(from, |it| it.end);
        self.ear.first_sound(silent).map(|sound| sound - silent)
    }

    /// Fails with the story unless `true_of_it`.
    #[track_caller]
    pub fn assert(&self, true_of_it: bool, claim: &str) {
        assert!(true_of_it, "{claim}\n{:#?}\n{}", self.outcome, self.story);
    }

    /// Fails with the story when a rule of every call is broken.
    #[track_caller]
    pub fn assert_rules(&self) {
        let broken = self.broken_rules();
        self.assert(broken.is_empty(), &broken.join("\n"));
    }
}

/// `text` without spaces: where one turn ends and the next begins is not compared.
pub(crate) fn squeezed(text: &str) -> String {
    text.split_whitespace().collect()
}
