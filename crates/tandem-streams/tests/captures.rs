//! Every recorded websocket of a real FreeSWITCH, played to the leg at its own times: the model hears what the caller said,
//! sample by sample, and what Tandem says back is what the modules understand.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use base64_simd::STANDARD;
use serde_json::Value;
use tandem_call::{Digit, FilePlayback, ItemId, LegEvent, MediaLeg, Origin};
use tandem_media::{AudioFormat, SampleRate};
use tandem_streams::{
    BinaryNote, Channels, Dialect, ForkLeg, ForkLegConfig, Message, Metadata, StreamShape,
};

const FOLDERS: [&str; 4] = ["fork", "fork-drachtio", "stream", "e2e"];

/// Recordings in which no websocket came up, or none over which anything came.
const WITHOUT_MEDIA: [&str; 14] = [
    "fork/connect_refused",
    "fork/handshake_http_401",
    "fork/handshake_http_403",
    "fork/handshake_http_404",
    "fork/handshake_http_503",
    "fork/handshake_other_subprotocol",
    "fork/handshake_slow_101_12s",
    "fork/handshake_tcp_drop",
    "fork/stop_before_connected",
    "fork/wss_selfsigned_refused",
    "stream/connect_refused_and_errors",
    "stream/handshake_http_403",
    "stream/handshake_slow_101_1s",
    "stream/handshake_tcp_drop",
];

/// Recordings at a rate that Tandem refuses.
const REFUSED: [&str; 2] = ["fork/mono_11025_invalid", "fork/mono_32000_pcmu"];

/// Recordings with a backlog: blocks of 20 ms that are more than a model should be given at once.
const BACKLOGS: [(&str, u64); 2] =
    [("fork/handshake_slow_101_1s", 46), ("fork/server_stops_reading", 14)];

/// Recordings in which the same call opens another websocket.
const REOPENED: [&str; 4] = [
    "fork/server_close_1000",
    "fork/server_close_1011",
    "fork/server_close_4001",
    "fork/server_tcp_reset",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/freeswitch")
}

/// The names of all recordings, `fork/uuid_kill`.
fn recordings() -> Vec<String> {
    let mut names = Vec::new();
    for sub in FOLDERS {
        for entry in fs::read_dir(folder().join(sub)).expect("the folder is there") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "jsonl") {
                let stem = path.file_stem().expect("a name").to_string_lossy();
                names.push(format!("{sub}/{stem}"));
            }
        }
    }
    names.sort();
    names
}

/// What a websocket's command asked for, by the path of its URL.
fn shapes(name: &str) -> Vec<(String, Result<StreamShape, String>)> {
    let dialect = match name.split('/').next() {
        Some("fork-drachtio") => Dialect::AudioFork,
        Some("stream") => Dialect::AudioStream,
        _ if name.contains("stream") => Dialect::AudioStream,
        _ => Dialect::AudioForkBidirectional,
    };
    let codec = match name {
        _ if name.ends_with("g722") => "16000",
        _ if name.ends_with("opus") => "48000",
        _ => "8000",
    };
    let shape = |mix: &str, rate: &str, back: &str| {
        let pairs = [("mix", mix), ("rate", rate), ("back", back), ("codec_rate", codec)];
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        StreamShape::from_query(dialect, &pairs).map_err(|error| error.to_string())
    };
    match name {
        "e2e/9000_fork_mono16k" | "e2e/stream_mono16k" => {
            return vec![(String::new(), shape("mono", "16000", "16000"))];
        }
        "e2e/bidir_16k_up_24k_down" => {
            return vec![(String::new(), shape("mono", "16000", "24000"))];
        }
        _ => {}
    }
    let esl = fs::read(folder().join(format!("{name}.esl.txt"))).expect("the event socket's side");
    let esl = String::from_utf8_lossy(&esl);
    let mut shapes = Vec::new();
    for line in esl.lines().filter(|line| line.starts_with("api uuid_audio_")) {
        let words: Vec<&str> = line.split(' ').collect();
        if let [_, _, _, "start", url, mix, rate, rest @ ..] = words.as_slice()
            && Channels::from_name(mix).is_some()
        {
            let back = match rest {
                [.., "true", "true", back] => back,
                _ => rate,
            };
            let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
            let path = path.map_or(String::from("/"), |(_, path)| format!("/{path}"));
            shapes.push((path, shape(mix, rate, back)));
        }
    }
    shapes
}

/// A line of a recording.
struct Line {
    at: Duration,
    conn: u64,
    inwards: bool,
    kind: String,
    len: usize,
    value: Value,
}

impl Line {
    fn payload(&self) -> &str {
        self.value["payload"].as_str().unwrap_or_default()
    }
}

fn lines(name: &str) -> Vec<Line> {
    let text = fs::read_to_string(folder().join(format!("{name}.jsonl"))).expect("a recording");
    let line = |line| {
        let value: Value = serde_json::from_str(line).expect("JSON");
        Line {
            at: Duration::from_secs_f64(value["t_ms"].as_f64().expect("a time") / 1e3),
            conn: value["conn"].as_u64().unwrap_or(0),
            inwards: value["dir"] == "in",
            kind: value["kind"].as_str().expect("a kind").to_owned(),
            len: value["len"].as_u64().unwrap_or(0) as usize,
            value,
        }
    };
    text.lines().map(line).collect()
}

/// One call: its leg, and what went through it.
struct Call {
    leg: ForkLeg,
    now: Instant,
    shape: StreamShape,
    attached_at: Instant,
    messages: u64,
    /// What the caller said in blocks of 20 ms, filler left out.
    said: Vec<Vec<i16>>,
    fillers: usize,
    /// What the model heard of it.
    heard: Vec<i16>,
    /// All that went up.
    up: Duration,
    marks: usize,
    events: Vec<LegEvent>,
    closes: usize,
    sent: Sent,
}

/// What was said back.
#[derive(Default)]
struct Sent {
    binary: usize,
    texts: BTreeMap<String, usize>,
}

impl Call {
    fn new(now: Instant, shape: StreamShape) -> Self {
        let config = ForkLegConfig {
            rate: shape.rate,
            uplink: AudioFormat::Pcm16(shape.rate),
            media_timeout: Duration::from_secs(60),
            stream_clear: None,
        };
        let mut leg = ForkLeg::new(now, config);
        leg.attach(now, shape);
        Self {
            leg,
            now,
            shape,
            attached_at: now,
            messages: 0,
            said: Vec::new(),
            fillers: 0,
            heard: Vec::new(),
            up: Duration::ZERO,
            marks: 0,
            events: Vec::new(),
            closes: 0,
            sent: Sent::default(),
        }
    }

    /// Does what is due until `now`.
    fn run(&mut self, now: Instant) {
        loop {
            let due = [self.leg.next_send(), self.leg.poll_timeout()].into_iter().flatten().min();
            let Some(due) = due.filter(|due| *due <= now) else { break };
            self.now = self.now.max(due);
            self.leg.handle_timeout(self.now);
            self.drain();
        }
        self.now = now;
    }

    fn drain(&mut self) {
        while let Some(message) = self.leg.poll_message(self.now) {
            match message {
                Message::Binary(bytes) => {
                    let factor = (self.shape.back.hz() / self.shape.codec.hz()).max(1);
                    assert!(bytes.len() >= 2 * 640 * factor, "nothing gets stuck in the module");
                    self.sent.binary += 1;
                }
                Message::Text(text) => {
                    let kind = understood(self.shape.dialect, text);
                    if matches!(kind.as_str(), "playAudio" | "streamAudio") {
                        let id = self.sent.texts.get(&kind).map_or(1, |sent| *sent as u64 + 1);
                        *self.sent.texts.entry(kind).or_default() += 1;
                        self.leg.playback(self.now, &FilePlayback::Started { id });
                        continue;
                    }
                    *self.sent.texts.entry(kind).or_default() += 1;
                }
                Message::Close => self.closes += 1,
            }
        }
        while let Some(frame) = self.leg.poll_uplink() {
            self.up += frame.format.duration_of(frame.audio.len());
            match frame.origin {
                Origin::Caller => {
                    assert_eq!(frame.arrival, self.now, "what came goes up at once");
                    self.heard.extend(samples(frame.audio));
                }
                Origin::Silence => assert!(frame.audio.iter().all(|byte| *byte == 0)),
                Origin::Concealed => panic!("nothing is lost over TCP"),
            }
        }
        while let Some(event) = self.leg.poll_event() {
            self.events.push(event);
        }
    }

    fn hear(&mut self, message: &[u8]) {
        let stride = self.shape.channels.count();
        let left: Vec<i16> = samples(message).step_by(stride).collect();
        for block in left.chunks(self.shape.rate.hz() / 50) {
            if block.iter().all(|sample| *sample == -1) {
                self.fillers += 1;
            } else {
                self.said.push(block.to_vec());
            }
        }
        let note = self.leg.handle_binary(self.now, message).expect("it is attached");
        assert_eq!(note == BinaryNote::Shutdown, message.is_empty());
        self.drain();
        // The caller is spoken to, and barges in.
        self.messages += 1;
        match self.messages {
            8 => {
                let tone: Vec<u8> =
                    (0..24_000_i16).flat_map(|n| (n % 400 * 20).to_le_bytes()).collect();
                let format = AudioFormat::Pcm16(SampleRate::Hz24000);
                self.leg.play(self.now, ItemId(1), format, &tone);
            }
            20 => self.leg.clear(self.now),
            _ => {}
        }
        self.drain();
    }
}

fn samples(bytes: &[u8]) -> impl Iterator<Item = i16> {
    bytes.chunks_exact(2).map(|it| i16::from_le_bytes([it[0], it[1]]))
}

/// The type of a message, which is one that the module understands.
fn understood(dialect: Dialect, text: &[u8]) -> String {
    let value: Value = serde_json::from_slice(text).expect("one JSON object");
    let kind = value["type"].as_str().expect("a type").to_owned();
    let data = &value["data"];
    match (dialect, kind.as_str()) {
        (Dialect::AudioForkBidirectional, "killAudio") => {}
        (Dialect::AudioForkBidirectional, "mark") => {
            assert!(data["name"].as_str().is_some_and(|name| !name.is_empty()));
        }
        (Dialect::AudioFork, "playAudio") => {
            assert_eq!(data["audioContentType"], "raw");
            carries_audio(&data["audioContent"], &data["sampleRate"]);
        }
        (Dialect::AudioStream, "streamAudio") => {
            assert_eq!(data["audioDataType"], "raw");
            carries_audio(&data["audioData"], &data["sampleRate"]);
        }
        other => panic!("{other:?} is not understood"),
    }
    kind
}

fn carries_audio(audio: &Value, rate: &Value) {
    assert!([8_000, 16_000, 24_000, 48_000].contains(&rate.as_u64().expect("a rate")));
    let audio = STANDARD.decode_to_vec(audio.as_str().expect("base64")).expect("base64");
    assert!(!audio.is_empty() && audio.len().is_multiple_of(2));
}

/// The bytes of a binary message: of the dump as far as it goes, else its first 64 over and over.
fn bytes_of(line: &Line, dump: &mut &[u8]) -> Vec<u8> {
    let beginning = STANDARD.decode_to_vec(line.payload()).expect("base64");
    if line.len <= dump.len() && !dump.is_empty() {
        let (bytes, rest) = dump.split_at(line.len);
        *dump = rest;
        assert!(bytes.starts_with(&beginning), "the dump is of this recording");
        return bytes.to_vec();
    }
    *dump = &[];
    beginning.iter().copied().cycle().take(line.len).collect()
}

/// A recording, played; how many websockets with audio it had, and how many were refused.
fn replay(name: &str) -> (usize, usize) {
    let shapes = shapes(name);
    let start = Instant::now();
    let dump = fs::read(folder().join(format!("{name}.raw"))).unwrap_or_default();
    let mut dumps: BTreeMap<u64, &[u8]> = BTreeMap::from([(0, &dump[..])]);
    let mut paths: BTreeMap<u64, String> = BTreeMap::new();
    let mut calls: BTreeMap<u64, Call> = BTreeMap::new();
    let (mut with_audio, mut refused) = (BTreeSet::new(), 0);
    for line in lines(name) {
        let now = start + line.at;
        let key = if REOPENED.contains(&name) { 0 } else { line.conn };
        if let Some(call) = calls.get_mut(&key) {
            call.run(now);
        }
        match (line.inwards, line.kind.as_str()) {
            (true, "open") => {
                let request = line.value["request_line"].as_str().expect("a request");
                let path = request.split(' ').nth(1).expect("a path");
                paths.insert(line.conn, path.to_owned());
            }
            (false, "open") if line.payload().starts_with("HTTP/1.1 101") => {
                let path = &paths[&line.conn];
                let found = shapes.iter().find(|(of, _)| of == path).or(shapes.first());
                match &found.expect("a command").1 {
                    Err(error) => {
                        assert!(error.contains("no sample rate"), "{error}");
                        refused += 1;
                    }
                    Ok(shape) => match calls.get_mut(&key) {
                        Some(call) => {
                            assert!(!call.leg.is_attached(), "the one before is gone");
                            call.leg.attach(now, *shape);
                        }
                        None => {
                            calls.insert(key, Call::new(now, *shape));
                        }
                    },
                }
            }
            (true, "text") => {
                let Some(call) = calls.get_mut(&key) else { continue };
                let payload = line.payload();
                let note = call.leg.handle_text(now, payload.as_bytes()).expect(payload);
                call.marks += note.marks;
                call.drain();
                assert_eq!(note.marks, usize::from(payload.contains(r#""mark""#)), "{payload}");
                if payload.contains("callId") {
                    let metadata = Metadata::parse(payload.as_bytes()).expect("metadata");
                    assert_eq!(metadata.variables["callId"], "7f1e");
                    if payload.contains("from") {
                        assert_eq!(metadata.caller.as_deref(), Some("+15550100"));
                        assert!(metadata.did.is_some_and(|did| did.starts_with('9')));
                    }
                }
            }
            (true, "binary") => {
                let Some(call) = calls.get_mut(&key) else { continue };
                with_audio.insert(line.conn);
                let bytes = bytes_of(&line, dumps.entry(line.conn).or_default());
                call.hear(&bytes);
            }
            (true, "close" | "tcp_closed") => {
                if let Some(call) = calls.get_mut(&key) {
                    call.leg.detach(now);
                    call.drain();
                }
            }
            _ => {}
        }
    }
    for call in calls.values() {
        check(name, call);
    }
    (with_audio.len(), refused)
}

fn check(name: &str, call: &Call) {
    let surplus = call.leg.counters().uplink_surplus;
    let backlog = BACKLOGS.iter().find(|(of, _)| *of == name).map(|(_, blocks)| *blocks);
    match backlog {
        None => {
            assert_eq!(surplus, 0, "{name}");
            assert!(call.heard == call.said.concat(), "{name}: the model hears the caller");
        }
        Some(blocks) => {
            assert!(surplus >= blocks, "{name}: {surplus}");
            // What is heard was said, in this order, and all but the surplus.
            let mut said = call.said.iter();
            let mut kept = 0;
            for block in call.heard.chunks(call.shape.rate.hz() / 50) {
                assert!(said.any(|said| said == block), "{name}: block {kept}");
                kept += 1;
            }
            assert!(kept + surplus as usize >= call.said.len(), "{name}");
        }
    }
    // The model's time is the call's.
    if call.messages > 0 {
        let passed = call.now - call.attached_at;
        assert!(call.up <= passed + Duration::from_millis(140), "{name}: {:?}", call.up);
        assert!(
            call.up + Duration::from_millis(200) >= passed,
            "{name}: {:?}, {passed:?}",
            call.up
        );
    }
    // It was spoken to, and was heard to barge in.
    if call.messages >= 20 {
        let cleared = |event: &&LegEvent| matches!(event, LegEvent::PlayoutCleared { .. });
        assert_eq!(call.events.iter().filter(cleared).count(), 1, "{name}");
        let spoke = call.sent.binary + call.sent.texts.values().sum::<usize>();
        assert!(spoke > 0, "{name}");
    }
}

#[test]
fn every_recording_is_heard_as_it_was_said() {
    let mut media = Vec::new();
    let mut others = Vec::new();
    let mut refusals = Vec::new();
    for name in recordings() {
        let (with_audio, refused) = replay(&name);
        if refused > 0 {
            refusals.push(name);
        } else if with_audio > 0 {
            media.push(name);
        } else {
            others.push(name);
        }
    }
    assert_eq!(others, WITHOUT_MEDIA, "a recording without audio says why");
    assert_eq!(refusals, REFUSED);
    assert!(media.len() >= 80, "{}", media.len());
}

/// Plays one recording and gives its only call.
fn only_call(name: &str) -> Call {
    let shapes = shapes(name);
    let start = Instant::now();
    let mut call: Option<Call> = None;
    for line in lines(name) {
        let now = start + line.at;
        if let Some(call) = &mut call {
            call.run(now);
        }
        match (line.inwards, line.kind.as_str(), &mut call) {
            (false, "open", None) => {
                let shape = shapes[0].1.as_ref().expect("a shape");
                call = Some(Call::new(now, *shape));
            }
            (true, "text", Some(call)) => {
                let note = call.leg.handle_text(now, line.payload().as_bytes()).expect("a text");
                call.marks += note.marks;
            }
            (true, "binary", Some(call)) => call.hear(&bytes_of(&line, &mut &[][..])),
            _ => {}
        }
        if let Some(call) = &mut call {
            call.drain();
        }
    }
    call.expect("a call")
}

#[test]
fn texts_that_came_later_are_understood() {
    for (name, marks, digits) in [
        ("fork/bidir_8000_marks_clean", 6, ""),
        ("fork/bidir_8000_killaudio_marks", 3, ""),
        ("fork/bidir_8000_paced20ms", 3, ""),
        ("fork/text_pause_resume_stop", 0, ""),
        ("stream/text_pause_resume_stop", 0, "5"),
        ("e2e/bidir_16k_up_24k_down", 1, "5"),
    ] {
        let call = only_call(name);
        assert_eq!(call.marks, marks, "{name}");
        let dialled: String = call
            .events
            .iter()
            .filter_map(|event| match event {
                LegEvent::Digit(digit) => Some(Digit::as_char(*digit)),
                _ => None,
            })
            .collect();
        assert_eq!(dialled, digits, "{name}");
    }
}

#[test]
fn the_time_of_a_digit_and_of_missing_rtp_is_silence() {
    for (name, at_least) in [
        ("fork/dtmf_rfc4733", 20),
        ("fork/rtp_gap_1200ms_parked", 50),
        ("fork/rtp_gap_1200ms_silence_ext", 50),
        ("fork/parked_no_rtp_first_second", 40),
    ] {
        let call = only_call(name);
        assert!(call.fillers >= at_least, "{name}: {}", call.fillers);
    }
}

#[test]
fn a_graceful_shutdown_is_answered_with_a_close() {
    for name in ["fork/graceful_shutdown", "fork-drachtio/messages_auth"] {
        let call = only_call(name);
        assert!(call.closes >= 1, "{name}");
    }
}
