//! A small, well-behaved client of both providers. It plays a scenario on the audio clock: one 20 ms frame of the
//! caller, then everything the server has to say to it, then 20 ms of playout.

mod messages;

use std::collections::{BTreeMap, VecDeque};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tandem_media::{AudioFormat, Law, SampleRate};
use tandem_sim::{
    CallerStep, FakeConfig, FakeHandle, FakeServer, Mode, Need, Outcome, Progress, Provider,
    Scenario, ToolReply, caller_silence, caller_speech, refused_url,
};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What came of a scenario.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Report {
    /// Audio that was played, per connection that got through the handshake, by the number of the connection.
    pub(crate) heard: BTreeMap<usize, Vec<u8>>,
    pub(crate) format: Option<AudioFormat>,
    /// Every message of the server, as text, audio and all.
    pub(crate) messages: Vec<String>,
    pub(crate) connections: usize,
    pub(crate) violations: Vec<String>,
    pub(crate) caller_text: String,
    pub(crate) agent_text: String,
    pub(crate) results: BTreeMap<String, usize>,
    pub(crate) truncates: usize,
    pub(crate) creates: usize,
    pub(crate) usage: [u64; 2],
    /// Reasons of lost connections, in order.
    pub(crate) losses: Vec<String>,
    pub(crate) caller_audio_ms: u64,
}

struct Client<'a> {
    scenario: &'a Scenario,
    handle: FakeHandle,
    url: String,
    socket: Option<Socket>,
    connection: usize,
    audio_ms: u64,
    sent: u64,
    read: u64,
    tick: u64,
    handle_name: Option<String>,
    renew_at: Option<u64>,
    playing: VecDeque<(String, VecDeque<u8>)>,
    played: BTreeMap<String, usize>,
    received: BTreeMap<String, usize>,
    active: Option<String>,
    muted: Vec<String>,
    withhold: bool,
    turn_open: bool,
    rate: usize,
    half: BTreeMap<String, u8>,
    due: Vec<(u64, Due)>,
    open_calls: Vec<String>,
    wants_response: bool,
    given_up: bool,
    report: Report,
}

enum Due {
    Result { id: String, name: String },
    Create,
}

/// Plays `scenario` from the handshake to the hang-up.
pub(crate) async fn play(scenario: &Scenario, mode: Mode) -> Report {
    let server = FakeServer::start(FakeConfig::for_scenario(scenario).mode(mode)).await.unwrap();
    let url = if scenario.needs.contains(&Need::NothingListens) {
        refused_url().await.unwrap()
    } else {
        server.url()
    };
    let mut client = Client::new(scenario, server.handle(), url);
    client.play().await;
    let format = client.downlink();
    let mut report = client.report;
    report.format = Some(format);
    report.connections = server.handle().connections();
    report.violations = server.handle().all_violations();
    report
}

impl<'a> Client<'a> {
    fn new(scenario: &'a Scenario, handle: FakeHandle, url: String) -> Self {
        Self {
            scenario,
            handle,
            url,
            socket: None,
            connection: 0,
            audio_ms: 0,
            sent: 0,
            read: 0,
            tick: 0,
            handle_name: None,
            renew_at: None,
            playing: VecDeque::new(),
            played: BTreeMap::new(),
            received: BTreeMap::new(),
            active: None,
            muted: Vec::new(),
            withhold: false,
            turn_open: false,
            rate: 24_000,
            half: BTreeMap::new(),
            due: Vec::new(),
            open_calls: Vec::new(),
            wants_response: false,
            given_up: false,
            report: Report::default(),
        }
    }

    fn openai(&self) -> bool {
        self.scenario.provider == Provider::OpenAi
    }

    fn needs(&self, need: Need) -> bool {
        self.scenario.needs.contains(&need)
    }

    fn uplink(&self) -> AudioFormat {
        match self.scenario.provider {
            Provider::Gemini => AudioFormat::Pcm16(SampleRate::Hz16000),
            Provider::OpenAi if self.needs(Need::Pcm) => AudioFormat::Pcm16(SampleRate::Hz24000),
            Provider::OpenAi => AudioFormat::G711(Law::Mu),
        }
    }

    fn downlink(&self) -> AudioFormat {
        match self.uplink() {
            AudioFormat::Pcm16(_) => {
                AudioFormat::Pcm16(SampleRate::from_hz(self.rate).expect("a known rate"))
            }
            g711 => g711,
        }
    }

    async fn play(&mut self) {
        if !self.connect().await {
            return;
        }
        if self.needs(Need::Greet) {
            self.ask("Greet the caller.").await;
        }
        for step in self.scenario.caller.clone() {
            let manual = self.needs(Need::ManualTurns) && matches!(step, CallerStep::Speech(_));
            if manual && !self.openai() {
                self.send(&json!({ "realtimeInput": { "activityStart": {} } })).await;
            }
            match step {
                CallerStep::Silence(ms) | CallerStep::Nothing(ms) => self.frames(ms, false).await,
                CallerStep::Speech(ms) => self.frames(ms, true).await,
                CallerStep::Digits(digits) => {
                    self.ask(&format!("The caller pressed {digits}.")).await;
                }
                CallerStep::HangUp => self.close().await,
            }
            if manual && self.openai() {
                self.send(&json!({ "type": "input_audio_buffer.commit" })).await;
                self.create().await;
            } else if manual {
                self.send(&json!({ "realtimeInput": { "activityEnd": {} } })).await;
            }
            if self.given_up {
                return;
            }
        }
    }

    async fn frames(&mut self, ms: u64, speech: bool) {
        let format = self.uplink();
        let audio = if speech { caller_speech(format, 20) } else { caller_silence(format, 20) };
        let data = base64_simd::STANDARD.encode_to_string(&audio);
        let message = if self.openai() {
            json!({ "type": "input_audio_buffer.append", "audio": data })
        } else {
            json!({ "realtimeInput": { "audio": { "data": data, "mimeType": "audio/pcm;rate=16000" } } })
        };
        let text = message.to_string();
        for _ in 0..ms / 20 {
            if self.given_up || self.socket.is_none() {
                return;
            }
            self.tick += 1;
            self.sent += 1;
            self.audio_ms += 20;
            self.report.caller_audio_ms += 20;
            let socket = self.socket.as_mut().expect("looked at above");
            let _ = socket.send(Message::text(text.clone())).await;
            let audio_ms = self.audio_ms;
            let heard = |progress: &Progress| progress.audio_ms >= audio_ms;
            let progress = self.handle.reached(self.connection, heard).await;
            self.take(progress).await;
            self.timers().await;
            self.playout();
        }
    }

    async fn timers(&mut self) {
        if self.socket.is_none() {
            return;
        }
        if self.tick == 10 && self.needs(Need::Pings) {
            let socket = self.socket.as_mut().expect("looked at above");
            socket.send(Message::Ping("hello".into())).await.unwrap();
        }
        if self.tick == 170 && self.needs(Need::ContextUpdate) {
            let update =
                json!({ "systemInstruction": { "parts": [{ "text": "Speak Spanish." }] } });
            self.send(&json!({ "contextUpdate": update })).await;
        }
        if self.tick == 400 && self.needs(Need::Greet) {
            self.ask("The caller waits.").await;
        }
        let expires = self.scenario.needs.iter().find_map(|need| match need {
            Need::ExpiresInSecs(secs) => Some(*secs),
            _ => None,
        });
        if expires.is_some_and(|secs| self.tick == (secs - 10) * 50) {
            self.renew_at = Some(self.tick + 1);
        }
        while let Some(index) = self.due.iter().position(|(due, _)| *due <= self.tick) {
            match self.due.remove(index).1 {
                Due::Result { id, name } => self.result(&id, &name).await,
                Due::Create => self.wants_response = true,
            }
        }
        if self.wants_response && self.active.is_none() && self.open_calls.is_empty() {
            self.create().await;
        }
        let quiet = self.playing.is_empty() && self.open_calls.is_empty() && !self.turn_open;
        if self.renew_at.is_some_and(|last| quiet || self.tick >= last) {
            self.close().await;
            self.connect().await;
        }
    }

    fn playout(&mut self) {
        let bytes_per_ms = self.downlink().rate().hz() / 1_000 * self.downlink().bytes_per_sample();
        let mut wanted = 20 * bytes_per_ms;
        while let Some((item, audio)) = self.playing.front_mut().filter(|_| wanted > 0) {
            let now: Vec<u8> = audio.drain(..wanted.min(audio.len())).collect();
            wanted -= now.len();
            *self.played.entry(item.clone()).or_default() += now.len();
            if audio.is_empty() {
                self.playing.pop_front();
            }
            self.report.heard.entry(self.connection).or_default().extend(now);
        }
    }

    /// Dials until a session is ready, as long as the scenario allows it.
    async fn connect(&mut self) -> bool {
        loop {
            self.renew_at = None;
            (self.audio_ms, self.sent, self.read) = (0, 0, 0);
            self.active = None;
            (self.withhold, self.turn_open) = (false, false);
            self.open_calls.clear();
            let mut request = self.url.as_str().into_client_request().unwrap();
            let (name, value) = if self.openai() {
                ("authorization", "Bearer test-key")
            } else {
                ("x-goog-api-key", "test-key")
            };
            request.headers_mut().insert(name, value.parse().unwrap());
            self.connection = self.handle.connections();
            let dialled = tokio::time::timeout(
                std::time::Duration::from_millis(300),
                connect_async_with_config(request, None, true),
            )
            .await;
            let reason = match dialled {
                Ok(Ok((socket, _))) => {
                    self.socket = Some(socket);
                    if self.configure().await {
                        return true;
                    }
                    self.handle_name = None;
                    "setup".to_owned()
                }
                Ok(Err(Error::Http(response))) => response.status().as_u16().to_string(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "timeout".to_owned(),
            };
            self.report.losses.push(reason);
            let most = *self.scenario.expect.connections.end();
            let goes_on =
                matches!(self.scenario.expect.outcome, Outcome::Lasts | Outcome::Recovers(_));
            if self.given_up || !goes_on || self.handle.connections() >= most {
                self.given_up = true;
                return false;
            }
        }
    }

    async fn configure(&mut self) -> bool {
        if self.openai() {
            let format = match self.uplink() {
                AudioFormat::Pcm16(_) => json!({ "type": "audio/pcm", "rate": 24_000 }),
                AudioFormat::G711(_) => json!({ "type": "audio/pcmu" }),
            };
            let detection = if self.needs(Need::ManualTurns) {
                Value::Null
            } else {
                let interrupts = !self.needs(Need::ClientInterrupts);
                json!({ "type": "server_vad", "silence_duration_ms": 500, "interrupt_response": interrupts })
            };
            self.send(&json!({ "type": "session.update", "session": {
                "type": "realtime",
                "audio": {
                    "input": {
                        "format": format, "turn_detection": detection,
                        "transcription": { "model": "gpt-transcribe" },
                    },
                    "output": { "format": format, "voice": "marin" },
                },
            } }))
            .await;
            return self.socket.is_some();
        }
        let model = self.scenario.needs.iter().find_map(|need| match need {
            Need::Model(model) => Some(*model),
            _ => None,
        });
        let model = model.unwrap_or("gemini-3.8-live");
        let resumption =
            self.handle_name.as_ref().map_or(json!({}), |handle| json!({ "handle": handle }));
        let mut setup = json!({
            "model": format!("models/{model}"),
            "generationConfig": { "responseModalities": ["AUDIO"] },
            "realtimeInputConfig": { "automaticActivityDetection": {
                "disabled": self.needs(Need::ManualTurns), "silenceDurationMs": 500,
            } },
            "inputAudioTranscription": {}, "outputAudioTranscription": {},
            "sessionResumption": resumption,
        });
        if model.contains("extended-thinking") {
            setup["generationConfig"]["thinkingConfig"]["thinkingLevel"] = "LOW".into();
        }
        if self.needs(Need::History) {
            setup["historyConfig"]["initialHistoryInClientContent"] = true.into();
        }
        let before = self.report.messages.len();
        self.send(&json!({ "setup": setup })).await;
        let ready =
            self.report.messages[before..].iter().any(|message| message.contains("setupComplete"));
        if ready && self.needs(Need::History) {
            let turns = json!([{ "role": "user", "parts": [{ "text": "Hello" }] }]);
            self.send(&json!({ "clientContent": { "turns": turns, "turnComplete": true } })).await;
        }
        ready && self.socket.is_some()
    }

    /// Asks for an answer by text.
    async fn ask(&mut self, text: &str) {
        if self.openai() {
            self.create().await;
        } else if self
            .scenario
            .needs
            .iter()
            .any(|need| matches!(need, Need::Model(model) if model.contains("2.5")))
        {
            let turns = json!([{ "role": "user", "parts": [{ "text": text }] }]);
            self.send(&json!({ "clientContent": { "turns": turns, "turnComplete": true } })).await;
        } else {
            self.send(&json!({ "realtimeInput": { "text": text } })).await;
        }
    }

    async fn create(&mut self) {
        self.wants_response = false;
        self.report.creates += 1;
        self.send(&json!({ "type": "response.create" })).await;
    }

    /// Sends a message and takes in what it brings.
    async fn send(&mut self, message: &Value) {
        let Some(socket) = self.socket.as_mut() else { return };
        self.sent += 1;
        let _ = socket.send(Message::text(message.to_string())).await;
        let sent = self.sent;
        let taken = |progress: &Progress| progress.received >= sent;
        let progress = self.handle.reached(self.connection, taken).await;
        Box::pin(self.take(progress)).await;
    }

    async fn close(&mut self) {
        if let Some(mut socket) = self.socket.take() {
            let _ = socket.close(None).await;
            while let Some(Ok(_)) = socket.next().await {}
        }
    }

    /// Reads what the server has sent so far.
    async fn take(&mut self, progress: Progress) {
        let mut lost = None;
        while self.read < progress.queued || progress.ending || progress.ended.is_some() {
            let Some(socket) = self.socket.as_mut() else { return };
            match socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    assert!(self.openai(), "Gemini sends binary frames");
                    self.read += 1;
                    self.handle_message(text.as_bytes().to_vec()).await;
                }
                Some(Ok(Message::Binary(bytes))) => {
                    self.read += 1;
                    self.handle_message(bytes.to_vec()).await;
                }
                Some(Ok(Message::Close(frame))) => {
                    let frame =
                        frame.map(|frame| format!("{} {}", u16::from(frame.code), frame.reason));
                    lost = Some(frame.unwrap_or_default());
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    lost.get_or_insert(error.to_string());
                    break;
                }
                None => {
                    lost.get_or_insert(String::new());
                    break;
                }
            }
        }
        if let Some(reason) = lost {
            self.socket = None;
            self.report.losses.push(reason);
            match self.scenario.expect.outcome {
                Outcome::GivenUp(_) | Outcome::Retried(_) => self.given_up = true,
                _ if self.audio_ms == 0 && !self.openai() => {} // `connect` sees that there is no session.
                _ => {
                    Box::pin(self.connect()).await;
                }
            }
        }
    }
}
