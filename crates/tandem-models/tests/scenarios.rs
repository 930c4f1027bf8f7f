//! The stories of the fake servers, played by real sessions over real sockets: every scenario must come out as it says.
//!
//! A small stand-in for the call drives the session on the audio clock: one 20 ms frame of the caller, then everything
//! the server has to say to it, then 20 ms of playout.

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use tandem_call::{
    Greet, HistoryTurn, ItemId, ModelCommand, ModelEvent, ModelFailure, ModelSession, ModelSink,
    Reaction, SessionSpec, Speaker, ToolCall, ToolOutcome, Usage,
};
use tandem_media::{AudioFormat, Law, SampleRate};
use tandem_models::{ModelSettings, Provider, TurnDetection, open};
use tandem_sim::{
    CallerStep, FakeConfig, FakeHandle, FakeServer, Need, Outcome, Provider as FakeProvider,
    ReceivedMessage, Scenario, ToolReply, caller_silence, caller_speech, check_heard, refused_url,
    scenarios,
};

const FRAME: Duration = Duration::from_millis(20);

/// Sockets on loopback have done what they will do in this time.
const MOMENT: Duration = Duration::from_millis(5);

/// For a story that hangs; none takes a tenth of it.
const HUNG: Duration = Duration::from_secs(60);

/// What we do not do: other instructions in mid-call, and answers of our own asking.
const NOT_OURS: [Need; 2] = [Need::ContextUpdate, Need::OutOfBandResponse];

/// What a turn that we mark has of the time before it.
const LEAD_IN_MS: u64 = 300;

#[derive(Default)]
struct Ear {
    said: VecDeque<Said>,
}

enum Said {
    Audio(ItemId, AudioFormat, Vec<u8>),
    Event(ModelEvent),
}

impl ModelSink for Ear {
    fn audio(&mut self, item: ItemId, format: AudioFormat, bytes: &[u8]) {
        self.said.push_back(Said::Audio(item, format, bytes.to_vec()));
    }

    fn event(&mut self, event: ModelEvent) {
        self.said.push_back(Said::Event(event));
    }
}

/// A stretch of audio in the playout queue.
struct Queued {
    item: ItemId,
    format: AudioFormat,
    connection: usize,
    bytes: Vec<u8>,
}

struct Call<'a> {
    scenario: &'a Scenario,
    handle: FakeHandle,
    session: Box<dyn ModelSession>,
    ear: Ear,
    now: Instant,
    input: AudioFormat,
    ready: bool,
    over: bool,
    connection: usize,
    audio_ms: u64,
    queue: VecDeque<Queued>,
    played: BTreeMap<ItemId, Duration>,
    heard: BTreeMap<usize, (Option<AudioFormat>, Vec<u8>)>,
    answering: bool,
    tools_due: Vec<(Instant, ToolCall)>,
    renew_by: Option<Instant>,
    renew_at: Option<Instant>,
    usage: Usage,
    caller_text: String,
    agent_text: String,
    losses: Vec<ModelFailure>,
}

impl<'a> Call<'a> {
    async fn place(scenario: &'a Scenario) -> (Self, FakeServer) {
        let config = FakeConfig::for_scenario(scenario);
        let expires_in = scenario.needs.iter().find_map(|need| match need {
            Need::ExpiresInSecs(secs) => Some(*secs),
            _ => None,
        });
        let unix_now = Duration::from_secs(config.expires_at - expires_in.unwrap_or(3_600));
        let server = FakeServer::start(config).await.expect("a free port");

        let provider = match scenario.provider {
            FakeProvider::OpenAi => Provider::OpenAiRealtime,
            FakeProvider::Gemini => Provider::GeminiLive,
        };
        let mut settings = ModelSettings::new(provider, FakeConfig::KEY.to_owned().into());
        settings.base_url = Some(if scenario.needs.contains(&Need::NothingListens) {
            refused_url().await.expect("a port")
        } else {
            server.base_url()
        });
        settings.options.server_interrupts = !scenario.needs.contains(&Need::ClientInterrupts);
        for need in &scenario.needs {
            match need {
                Need::Model(model) => settings.model = (*model).to_owned(),
                Need::ManualTurns => settings.options.turn_detection = TurnDetection::Local,
                _ => {}
            }
        }
        let (input, output) = match provider {
            Provider::GeminiLive => {
                (AudioFormat::Pcm16(SampleRate::Hz16000), AudioFormat::Pcm16(SampleRate::Hz24000))
            }
            Provider::OpenAiRealtime if scenario.needs.contains(&Need::Pcm) => {
                let pcm = AudioFormat::Pcm16(SampleRate::Hz24000);
                (pcm, pcm)
            }
            Provider::OpenAiRealtime => (AudioFormat::G711(Law::Mu), AudioFormat::G711(Law::Mu)),
        };
        let history = if scenario.needs.contains(&Need::History) {
            vec![HistoryTurn { speaker: Speaker::Caller, text: "Hello".into() }]
        } else {
            Vec::new()
        };
        let spec = SessionSpec {
            instructions: "You answer the phone.".into(),
            voice: None,
            language: "en".into(),
            temperature: None,
            tools: Vec::new(),
            input,
            output,
            transcription: true,
            history,
            first_item: ItemId(1),
        };
        let now = Instant::now();
        let call = Self {
            scenario,
            handle: server.handle(),
            session: open(&settings, spec, now, unix_now),
            ear: Ear::default(),
            now,
            input,
            ready: false,
            over: false,
            connection: 0,
            audio_ms: 0,
            queue: VecDeque::new(),
            played: BTreeMap::new(),
            heard: BTreeMap::new(),
            answering: false,
            tools_due: Vec::new(),
            renew_by: None,
            renew_at: None,
            usage: Usage::default(),
            caller_text: String::new(),
            agent_text: String::new(),
            losses: Vec::new(),
        };
        (call, server)
    }

    async fn play(&mut self) {
        self.settle_link().await;
        if self.scenario.needs.contains(&Need::Greet)
            || self.scenario.needs.contains(&Need::History)
        {
            let order = "Greet the caller.".to_owned();
            self.order(ModelCommand::Greet(Greet::Instruction(order)));
        }
        for step in &self.scenario.caller {
            match step {
                CallerStep::Silence(ms) | CallerStep::Nothing(ms) => self.frames(*ms, false).await,
                CallerStep::Speech(ms) if self.session.capabilities().detects_turns => {
                    self.frames(*ms, true).await;
                }
                CallerStep::Speech(ms) => {
                    if self.answering {
                        self.order(ModelCommand::Cancel);
                    }
                    self.barge_in();
                    self.order(ModelCommand::TurnStarted { ago: Duration::ZERO });
                    self.audio_ms += LEAD_IN_MS.min(self.audio_ms); // It went up once more.
                    self.frames(*ms, true).await;
                    self.order(ModelCommand::TurnEnded);
                }
                CallerStep::Digits(digits) => self.order(ModelCommand::Digits(digits.clone())),
                CallerStep::HangUp => self.hang_up().await,
            }
            if self.over {
                return;
            }
        }
    }

    async fn frames(&mut self, ms: u64, speech: bool) {
        let frame =
            if speech { caller_speech(self.input, 20) } else { caller_silence(self.input, 20) };
        for tick in 0..ms / 20 {
            self.settle_link().await;
            if self.over {
                return;
            }
            if tick == 300 && self.scenario.id == "G17" {
                self.order(ModelCommand::Say("The caller waits.".into()));
            }
            let before = self.session.uplink_stats().frames_sent;
            self.session.send_audio(self.now, &frame);
            self.now += FRAME;
            if self.session.uplink_stats().frames_sent > before {
                self.audio_ms += 20;
            }
            let (handle, connection, audio_ms) =
                (self.handle.clone(), self.connection, self.audio_ms);
            self.during(async move { handle.settled(connection, audio_ms).await }).await;
            self.listen().await;
            self.due();
            self.playout();
        }
    }

    /// Waits, with time passing, until the session stands, and renews it when it is lost.
    async fn settle_link(&mut self) {
        while !self.ready && !self.over {
            let moment = tokio::time::sleep(MOMENT);
            self.during(moment).await;
            self.listen().await;
            self.now += Duration::from_millis(100);
            self.due();
        }
    }

    /// Drives the session while `other` runs.
    async fn during<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = pin!(other);
        let (session, ear, now) = (&mut self.session, &mut self.ear, self.now);
        poll_fn(move |cx| {
            if let Poll::Ready(result) = other.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            while session.poll(cx, now, ear).is_ready() {}
            Poll::Pending
        })
        .await
    }

    /// Takes in all that has arrived, and what our reaction to it brings.
    async fn listen(&mut self) {
        for _ in 0..8 {
            self.during(tokio::task::yield_now()).await;
            while let Some(said) = self.ear.said.pop_front() {
                match said {
                    Said::Audio(item, format, bytes) => {
                        let connection = self.connection;
                        self.queue.push_back(Queued { item, format, connection, bytes });
                    }
                    Said::Event(event) => self.handle(event),
                }
            }
        }
    }

    fn order(&mut self, command: ModelCommand) {
        self.session.send(self.now, command);
    }

    fn handle(&mut self, event: ModelEvent) {
        match event {
            ModelEvent::Ready => {
                self.ready = true;
                self.connection = self.handle.connections().saturating_sub(1);
                self.audio_ms = 0;
            }
            ModelEvent::SpeechStarted => {
                if self.answering && !self.session.capabilities().interrupts {
                    self.order(ModelCommand::Cancel);
                }
                self.barge_in();
            }
            ModelEvent::ResponseStarted => self.answering = true,
            ModelEvent::ResponseEnded(_) => self.answering = false,
            ModelEvent::CallerText { text, .. } => self.caller_text += &text,
            ModelEvent::AgentText { text, .. } => self.agent_text += &text,
            ModelEvent::ToolCall(call) => {
                let script = self.scenario.tools.iter().find(|tool| tool.name == call.name);
                let takes = match script.map(|tool| (&tool.reply, tool.takes_ms)) {
                    Some((ToolReply::Never, _)) => Duration::from_secs(10),
                    Some((_, takes_ms)) => Duration::from_millis(takes_ms),
                    None => Duration::ZERO,
                };
                self.tools_due.push((self.now + takes, call));
            }
            ModelEvent::ToolCancelled(id) => self.tools_due.retain(|(_, call)| call.id != id),
            ModelEvent::Usage(usage) => self.usage.add(&usage),
            ModelEvent::ExpiresIn(within) => self.renew_by = Some(self.now + within),
            ModelEvent::SpeechStopped => {}
            ModelEvent::Lost(failure) => {
                self.ready = false;
                self.answering = false;
                self.renew_by = None;
                let goes_on =
                    matches!(self.scenario.expect.outcome, Outcome::Lasts | Outcome::Recovers(_));
                match failure.reaction {
                    Reaction::Retry { after } if goes_on && self.losses.len() < 10 => {
                        self.renew_at = Some(self.now + after);
                    }
                    Reaction::Retry { .. } | Reaction::GiveUp => self.over = true,
                }
                self.losses.push(failure);
            }
        }
    }

    fn barge_in(&mut self) {
        if !self.session.capabilities().truncates {
            self.queue.clear();
            return;
        }
        let mut items: Vec<ItemId> = self.queue.drain(..).map(|queued| queued.item).collect();
        items.dedup();
        for item in items {
            match self.played.get(&item).copied() {
                Some(heard) => self.order(ModelCommand::Truncate { item, heard }),
                None => self.order(ModelCommand::Forget { item }),
            }
        }
    }

    /// Tools that answer now, and renewals whose moment has come.
    fn due(&mut self) {
        while let Some(at) = self.tools_due.iter().position(|(due, _)| *due <= self.now) {
            let (_, call) = self.tools_due.remove(at);
            let script = self.scenario.tools.iter().find(|tool| tool.name == call.name);
            let outcome = match (&call.arguments, script.map(|tool| &tool.reply)) {
                (Err(raw), _) => ToolOutcome::Failed(format!("no JSON: {raw}")),
                (Ok(_), Some(ToolReply::Output(output))) => ToolOutcome::Answered(output.clone()),
                (Ok(_), Some(ToolReply::Error(error))) => ToolOutcome::Failed((*error).to_owned()),
                (Ok(_), Some(ToolReply::Never)) => ToolOutcome::TimedOut,
                (Ok(_), None) => ToolOutcome::Failed("no such tool".to_owned()),
            };
            self.order(ModelCommand::ToolResult { id: call.id, outcome });
        }
        let quiet = self.queue.is_empty() && self.tools_due.is_empty() && !self.answering;
        let last = self.renew_by.is_some_and(|by| by <= self.now + Duration::from_secs(1));
        let renews = (self.renew_by.is_some() && quiet) || last;
        if renews || self.renew_at.is_some_and(|at| at <= self.now) {
            self.renew_by = None;
            self.renew_at = None;
            self.ready = false;
            let history = vec![HistoryTurn { speaker: Speaker::Caller, text: "Hello".into() }];
            self.order(ModelCommand::Renew { history });
        }
    }

    fn playout(&mut self) {
        let mut left = FRAME;
        while let Some(queued) = self.queue.front_mut().filter(|_| !left.is_zero()) {
            let most = queued.format.bytes_per(left).min(queued.bytes.len());
            let now: Vec<u8> = queued.bytes.drain(..most).collect();
            let length = queued.format.duration_of(now.len());
            left = left.saturating_sub(length);
            *self.played.entry(queued.item).or_default() += length;
            let (format, heard) = self.heard.entry(queued.connection).or_default();
            *format = Some(queued.format);
            heard.extend(now);
            if queued.bytes.is_empty() {
                self.queue.pop_front();
            } else if most == 0 {
                break;
            }
        }
    }

    async fn hang_up(&mut self) {
        self.order(ModelCommand::Close);
        let closed = poll_fn(|cx| {
            let mut ear = Ear::default();
            while self.session.poll(cx, self.now, &mut ear).is_ready() {}
            assert!(ear.said.is_empty(), "something was said after the end");
            if self.session.is_closed() { Poll::Ready(()) } else { Poll::Pending }
        });
        closed.await;
    }
}

/// What is not as the scenario says.
fn differences(call: &Call<'_>) -> Vec<String> {
    let (scenario, expect) = (call.scenario, &call.scenario.expect);
    let mut found = Vec::new();
    let mut check = |right: bool, text: String| {
        if !right {
            found.push(text);
        }
    };
    let violations = call.handle.all_violations();
    check(violations.is_empty(), format!("violations {violations:?}"));
    let connections = call.handle.connections();
    check(expect.connections.contains(&connections), format!("{connections} connections"));
    match expect.outcome {
        Outcome::Lasts => {}
        Outcome::Recovers(reason) | Outcome::GivenUp(reason) | Outcome::Retried(reason) => check(
            call.losses.first().is_some_and(|loss| loss.reason.contains(reason)),
            format!("lost because of {:?}, not {reason:?}", call.losses),
        ),
    }
    if matches!(expect.outcome, Outcome::GivenUp(_)) {
        let given_up = call.losses.last().map(|loss| loss.reaction) == Some(Reaction::GiveUp);
        check(given_up, format!("not given up: {:?}", call.losses));
    }
    if matches!(expect.outcome, Outcome::Lasts) {
        for connection in 0..connections {
            let (format, heard) = call.heard.get(&connection).cloned().unwrap_or_default();
            let format = format.unwrap_or(AudioFormat::G711(Law::Mu));
            if let Err(text) = check_heard(&expect.heard, connection, format, &heard) {
                check(false, text);
            }
        }
        if let Some(usage) = expect.usage {
            let same = usage.input_tokens == call.usage.input_tokens
                && usage.output_tokens == call.usage.output_tokens;
            check(
                same || scenario.dialect.minimal,
                format!("used {:?}, not {usage:?}", call.usage),
            );
        }
    }
    if !expect.agent_text.is_empty() {
        let same = call.agent_text == expect.agent_text.concat();
        check(same, format!("agent said {:?}", call.agent_text));
    }
    if !expect.caller_text.is_empty() {
        let same = call.caller_text == expect.caller_text.concat();
        check(same, format!("caller said {:?}", call.caller_text));
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut results: BTreeMap<String, usize> = BTreeMap::new();
    for received in (0..connections).flat_map(|connection| call.handle.received(connection)) {
        let ReceivedMessage::Json(message) = received.message else { continue };
        if let Some(kind) = message["type"].as_str() {
            *counts.entry(kind.to_owned()).or_default() += 1;
        }
        let given = message["toolResponse"]["functionResponses"].as_array();
        let ids = given.into_iter().flatten().map(|response| &response["id"]);
        for id in ids.chain([&message["item"]["call_id"]]).filter_map(|id| id.as_str()) {
            *results.entry(id.to_owned()).or_default() += 1;
        }
    }
    for wanted in &expect.tool_calls {
        let given = results.get(wanted.id).copied().unwrap_or(0);
        check(given == wanted.results, format!("{given} results for {}", wanted.id));
    }
    let truncates = counts.get("conversation.item.truncate").copied().unwrap_or(0);
    check(truncates == expect.truncates, format!("{truncates} truncates"));
    if let Some(wanted) = expect.response_creates {
        let creates = counts.get("response.create").copied().unwrap_or(0);
        check(creates == wanted, format!("{creates} times response.create"));
    }
    found
}

async fn play_all(scenarios: Vec<Scenario>) {
    let mut failures = Vec::new();
    for scenario in scenarios {
        if scenario.needs.iter().any(|need| NOT_OURS.contains(need)) {
            continue;
        }
        let (mut call, server) = Call::place(&scenario).await;
        if tokio::time::timeout(HUNG, call.play()).await.is_err() {
            let (audio_ms, ready) = (call.audio_ms, call.ready);
            failures.push(format!(
                "{}: hangs, {audio_ms} ms on {}, ready: {ready}, {:?}",
                scenario.id, call.connection, call.losses
            ));
            continue;
        }
        failures
            .extend(differences(&call).into_iter().map(|text| format!("{}: {text}", scenario.id)));
        drop(server);
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[tokio::test]
async fn gemini_stories_come_out_as_they_must() {
    play_all(scenarios::gemini()).await;
}

#[tokio::test]
async fn openai_stories_come_out_as_they_must() {
    play_all(scenarios::openai()).await;
}
