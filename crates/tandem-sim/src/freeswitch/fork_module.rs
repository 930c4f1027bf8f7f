//! The rules of the audio fork modules, without socket and clock.

mod downlink;
mod messages;
mod uplink;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use downlink::Downlink;
use uplink::Uplink;

/// Which module, and which edition of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Edition {
    /// mod_audio_fork of drachtio: audio goes up, files come back.
    Drachtio,
    /// mod_audio_fork of jambonz: raw audio both ways, marks, killAudio.
    Jambonz,
    /// mod_audio_stream, community edition: audio goes up, files come back.
    Stream,
    /// mod_audio_stream, two-way edition: raw audio or `streamAudio` is played by the module.
    StreamTwoWay,
}

impl Edition {
    /// Is it an edition of mod_audio_fork.
    pub const fn is_fork(self) -> bool {
        matches!(self, Self::Drachtio | Self::Jambonz)
    }

    /// The module: what its events begin with.
    pub const fn module(self) -> &'static str {
        if self.is_fork() { "mod_audio_fork" } else { "mod_audio_stream" }
    }

    /// How long it waits for the answer to its handshake.
    pub const fn handshake_limit(self) -> Duration {
        if self.is_fork() { Duration::from_secs(10) } else { Duration::from_secs(1) }
    }
}

/// What of the call goes up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Mix {
    /// What the caller says.
    #[default]
    Mono,
    /// Both directions in one channel.
    Mixed,
    /// Left the caller, right what is written to the caller.
    Stereo,
}

impl Mix {
    /// The word of the command line.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "mono" => Some(Self::Mono),
            "mixed" => Some(Self::Mixed),
            "stereo" => Some(Self::Stereo),
            _ => None,
        }
    }

    /// Samples per moment.
    pub const fn channels(self) -> usize {
        if matches!(self, Self::Stereo) { 2 } else { 1 }
    }
}

/// What a fork was started with.
#[derive(Debug, Clone)]
pub struct ForkSpec {
    /// The module that runs it.
    pub edition: Edition,
    /// What goes up.
    pub mix: Mix,
    /// Hz of what goes up.
    pub rate: u32,
    /// Hz of the call's codec.
    pub codec_rate: u32,
    /// The first text frame.
    pub metadata: Option<String>,
    /// Audio comes back at all.
    pub bidirectional: bool,
    /// It comes back as raw binary.
    pub streaming: bool,
    /// Hz of the raw binary that comes back, 0 when none does.
    pub back_rate: u32,
    /// mod_audio_stream: milliseconds of audio in a message, a multiple of 20.
    pub buffer_ms: u32,
    /// mod_audio_stream: pings so often.
    pub heart_beat: Option<Duration>,
    /// The channel: names the files.
    pub uuid: String,
    /// Of a hundred messages so many wait for the next and go out joined with it.
    pub joined_percent: u8,
    /// Decides which those are.
    pub seed: u64,
}

impl ForkSpec {
    /// A mono fork of `edition` at `rate` Hz on a call at `codec_rate` Hz, with raw audio back at `rate` where the edition can.
    pub fn new(edition: Edition, rate: u32, codec_rate: u32) -> Self {
        Self {
            edition,
            mix: Mix::Mono,
            rate,
            codec_rate,
            metadata: None,
            bidirectional: true,
            streaming: edition == Edition::Jambonz || edition == Edition::StreamTwoWay,
            back_rate: rate,
            buffer_ms: 20,
            heart_beat: None,
            uuid: "00000000-0000-4000-8000-000000000000".to_owned(),
            joined_percent: 0,
            seed: 0,
        }
    }
}

/// A websocket message of the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForkMessage {
    /// A text frame.
    Text(String),
    /// A binary frame: audio, or nothing at all at the graceful end.
    Binary(Vec<u8>),
    /// A ping of `ping`.
    Ping,
    /// The closing handshake.
    Close {
        /// 1000.
        code: u16,
        /// Empty with mod_audio_fork.
        reason: String,
    },
}

/// What the module does inside the switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForkEvent {
    /// A CUSTOM event `<module>::<name>` on the channel.
    Raised {
        /// `connect`, `disconnect`, `json`...
        name: &'static str,
        /// The event's body.
        body: Option<String>,
    },
    /// Audio was put into a file; the event that names it follows.
    File {
        /// Where.
        path: String,
        /// Hz of the samples.
        rate: u32,
        /// What is in it.
        samples: Vec<i16>,
    },
    /// Playback on the channel is broken off, all that waits with it.
    Break,
    /// The media bug is taken off the channel.
    Detached,
}

/// How a websocket came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketEnd {
    /// The server sent a close frame.
    Closed {
        /// Its code, 1005 without one.
        code: u16,
        /// Its reason.
        reason: String,
    },
    /// The TCP connection ended or broke without a close frame.
    Broken(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Open,
    /// Told to finish: no audio goes up any more.
    Finishing,
    /// `stop` or the channel's end: what waits is sent, then a close frame.
    Stopping,
    /// The websocket is gone, or was never there.
    Dead,
}

/// One fork on a channel, by the rules measured with the real modules.
///
/// Each 20 ms the switch gives it what was read from the caller and what is about to be written
/// ([`capture`](Self::capture)), and lets it add its own sound to the latter ([`play`](Self::play)). Messages for the
/// websocket are polled whenever the socket can be written: all audio kept till then is one message.
#[derive(Debug)]
pub struct ForkModule {
    spec: ForkSpec,
    phase: Phase,
    paused: bool,
    uplink: Uplink,
    downlink: Downlink,
    texts: VecDeque<String>,
    empty_frames: u32,
    pings: u32,
    next_ping: Option<Instant>,
    close_sent: bool,
    files: u32,
    events: VecDeque<ForkEvent>,
}

impl ForkModule {
    /// A fork whose websocket is being opened.
    pub fn new(spec: ForkSpec) -> Self {
        Self {
            uplink: Uplink::new(&spec),
            downlink: Downlink::new(&spec),
            spec,
            phase: Phase::Connecting,
            paused: false,
            texts: VecDeque::new(),
            empty_frames: 0,
            pings: 0,
            next_ping: None,
            close_sent: false,
            files: 0,
            events: VecDeque::new(),
        }
    }

    /// What it was started with.
    pub fn spec(&self) -> &ForkSpec {
        &self.spec
    }

    /// The 101 came.
    pub fn handle_connected(&mut self, now: Instant) {
        if self.phase != Phase::Connecting {
            return;
        }
        self.phase = Phase::Open;
        self.next_ping = self.spec.heart_beat.map(|period| now + period);
        if let Some(metadata) = self.spec.metadata.clone().filter(|metadata| !metadata.is_empty()) {
            self.texts.push_back(metadata);
        }
        let body = (!self.spec.edition.is_fork()).then(|| "{\"status\":\"connected\"}".to_owned());
        self.raise("connect", body);
    }

    /// The websocket could not be opened: `reason` as the module's library words it.
    pub fn handle_connect_failed(&mut self, code: u16, reason: &str) {
        if self.phase != Phase::Connecting {
            self.phase = Phase::Dead;
            return;
        }
        self.phase = Phase::Dead;
        if self.spec.edition.is_fork() {
            self.raise("connect_failed", Some(format!("{{\"reason\":\"{reason}\"}}")));
        } else {
            self.raise_error(code, reason);
        }
    }

    /// The websocket ended, by no wish of ours.
    pub fn handle_ended(&mut self, end: &SocketEnd) {
        let alive = matches!(self.phase, Phase::Open | Phase::Finishing);
        self.phase = Phase::Dead;
        if !alive {
            return;
        }
        match (self.spec.edition.is_fork(), end) {
            (true, _) => self.raise("disconnect", None),
            (false, SocketEnd::Closed { code, reason }) => {
                let reason = super::json::quoted(reason);
                let message = format!("{{\"code\":{code},\"reason\":{reason}}}");
                self.raise(
                    "disconnect",
                    Some(format!("{{\"status\":\"disconnected\",\"message\":{message}}}")),
                );
            }
            (false, SocketEnd::Broken(error)) => self.raise_error(1, error),
        }
    }

    /// A binary message of the server.
    pub fn handle_binary(&mut self, bytes: &[u8]) {
        if matches!(self.phase, Phase::Open | Phase::Finishing) {
            self.downlink.handle_binary(bytes);
        }
    }

    /// A text message of the server.
    pub fn handle_text(&mut self, text: &str) {
        if !matches!(self.phase, Phase::Open | Phase::Finishing) {
            return;
        }
        if self.spec.edition.is_fork() {
            self.handle_fork_message(text);
        } else {
            self.handle_stream_message(text);
        }
    }

    /// Takes 20 ms of the call: what was read from the caller, and what is written to the caller, each if there was any.
    pub fn capture(&mut self, now: Instant, read: Option<&[i16]>, written: Option<&[i16]>) {
        let keeps_early_audio = self.spec.edition.is_fork();
        let wanted = match self.phase {
            Phase::Open => true,
            Phase::Connecting => keeps_early_audio,
            Phase::Finishing | Phase::Stopping | Phase::Dead => false,
        };
        if wanted && !self.paused && self.uplink.capture(read, written) {
            self.raise("buffer_overrun", None);
        }
        if self.phase == Phase::Open
            && let (Some(due), Some(period)) = (self.next_ping, self.spec.heart_beat)
            && due <= now
        {
            self.pings += 1;
            self.next_ping = Some(due + period);
        }
    }

    /// Adds 20 ms of its own sound to `frame`, which is about to be written to the caller.
    pub fn play(&mut self, frame: &mut [i16]) {
        let (texts, open) = (&mut self.texts, matches!(self.phase, Phase::Open | Phase::Finishing));
        self.downlink.play(frame, |notice| {
            if open {
                texts.push_back(notice);
            }
        });
    }

    /// `send_text`. It is accepted whatever became of the websocket.
    pub fn send_text(&mut self, text: &str) {
        if matches!(self.phase, Phase::Open | Phase::Connecting) && self.texts.len() < 1_000 {
            self.texts.push_back(text.to_owned());
        }
    }

    /// `pause` and `resume`; both forget the audio that waits.
    pub fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
        self.uplink.forget();
    }

    /// `graceful-shutdown`: one empty binary frame, and no audio after it.
    pub fn finish(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Finishing;
            self.uplink.forget();
            self.empty_frames += 1;
        }
    }

    /// `stop_play`: forgets the audio that came back; no mark is reported.
    pub fn stop_play(&mut self) {
        self.downlink.stop_play();
    }

    /// `stop`, or the end of the channel. The last text goes out before the close frame. Before the 101, and after a
    /// graceful shutdown, no close frame is sent.
    pub fn stop(&mut self, text: Option<&str>) {
        self.uplink.forget();
        match self.phase {
            Phase::Open => {
                self.texts.extend(text.map(str::to_owned));
                self.phase = Phase::Stopping;
            }
            Phase::Finishing => self.empty_frames += 1,
            Phase::Connecting => self.phase = Phase::Dead,
            Phase::Stopping | Phase::Dead => {}
        }
    }

    /// Is the websocket open, or being opened.
    pub fn is_alive(&self) -> bool {
        self.phase != Phase::Dead
    }

    /// The next message for the websocket: texts first, then all the audio that waits.
    pub fn poll_message(&mut self) -> Option<ForkMessage> {
        if matches!(self.phase, Phase::Connecting | Phase::Dead) {
            return None;
        }
        if self.empty_frames > 0 {
            self.empty_frames -= 1;
            return Some(ForkMessage::Binary(Vec::new()));
        }
        if let Some(mut text) = self.texts.pop_front() {
            if self.spec.edition == Edition::Drachtio {
                // This edition has one buffer for all texts that wait.
                text.extend(self.texts.drain(..));
            }
            return Some(ForkMessage::Text(text));
        }
        if self.pings > 0 {
            self.pings -= 1;
            return Some(ForkMessage::Ping);
        }
        if self.phase == Phase::Stopping {
            if self.close_sent {
                return None;
            }
            self.close_sent = true;
            let reason = if self.spec.edition.is_fork() { "" } else { "Normal closure" };
            return Some(ForkMessage::Close { code: 1000, reason: reason.to_owned() });
        }
        self.uplink.poll().map(ForkMessage::Binary)
    }

    /// The next thing it does inside the switch.
    pub fn poll_event(&mut self) -> Option<ForkEvent> {
        self.events.pop_front()
    }

    /// Samples at the codec's rate that wait to be heard, beyond those in the pre-buffer.
    pub fn queued(&self) -> usize {
        self.downlink.queued()
    }

    fn raise(&mut self, name: &'static str, body: Option<String>) {
        self.events.push_back(ForkEvent::Raised { name, body });
    }

    /// An error of mod_audio_stream, which also takes the bug off.
    fn raise_error(&mut self, code: u16, error: &str) {
        let error = super::json::quoted(error);
        let message = format!("{{\"code\":{code},\"error\":{error}}}");
        self.raise("error", Some(format!("{{\"status\":\"error\",\"message\":{message}}}")));
        self.events.push_back(ForkEvent::Detached);
    }
}

#[cfg(test)]
mod tests;
