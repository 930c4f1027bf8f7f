//! `uuid_audio_fork` and `uuid_audio_stream`: forks on channels.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{
    arguments,
    fork_module::{Edition, ForkModule, ForkSpec, Mix},
    model::{Dial, SwitchModel},
};

const OK: &str = "+OK Success\n";
const FAILED: &str = "-ERR Operation Failed\n";
const FORK_USAGE: &str = "-USAGE: <uuid> [start | stop | send_text | pause | resume | graceful-shutdown | stop_play ] [wss-url | path] [mono | mixed | stereo] [8000 | 16000 | 24000 | 32000 | 64000] [bugname] [metadata] [bidirectionalAudio_enabled] [bidirectionalAudio_stream_enabled] [bidirectionalAudio_stream_samplerate]\n";
const DRACHTIO_USAGE: &str = "-USAGE: <uuid> [start | stop | send_text | pause | resume | graceful-shutdown ] [wss-url | path] [mono | mixed | stereo] [8000 | 16000 | 24000 | 32000 | 64000] [bugname] [metadata]\n";
const STREAM_USAGE: &str = "-USAGE: <uuid> [start | stop | send_text | pause | resume | graceful-shutdown ] [wss-url | path] [mono | mixed | stereo] [8000 | 16000] [metadata]\n";

/// One fork: its module, and what its websocket needs.
#[derive(Debug)]
pub(crate) struct Fork {
    pub(crate) uuid: String,
    pub(crate) bug: String,
    pub(crate) module: ForkModule,
    pub(crate) url: String,
    pub(crate) basic: Option<(String, String)>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) wake: Arc<Notify>,
    /// Nothing serves its websocket any more.
    pub(crate) socket_gone: bool,
}

impl SwitchModel {
    /// `uuid_audio_fork`.
    pub(crate) fn api_audio_fork(&mut self, now: Instant, line: &str) -> String {
        let Some(edition) = self.config.audio_fork else {
            return "-ERR uuid_audio_fork Command not found!\n".to_owned();
        };
        let most = if edition == Edition::Jambonz { 10 } else { 7 };
        let words = arguments::split(line, most);
        let word = |index: usize| words.get(index).map(String::as_str);
        let usage = if edition == Edition::Jambonz { FORK_USAGE } else { DRACHTIO_USAGE };
        let (Some(uuid), Some(verb)) = (word(0), word(1)) else { return usage.to_owned() };
        let is_json = |text: &str| text.starts_with(['{', '[']);
        // `stop` and `send_text`: a bug name, a text, or both.
        let (bug, text) = match (word(2), word(3)) {
            (Some(bug), Some(text)) => (bug, Some(text)),
            (Some(text), None) if is_json(text) || verb == "send_text" => {
                ("audio_fork", Some(text))
            }
            (Some(bug), None) => (bug, None),
            (None, _) => ("audio_fork", None),
        };
        match verb {
            "start" if words.len() < 4 => usage.to_owned(),
            "start" => {
                let Some(mix) = word(3).and_then(Mix::from_word) else { return String::new() };
                let Some(rate) = word(4).map(rate_of) else { return FAILED.to_owned() };
                let (bug, metadata) = match (word(5), word(6)) {
                    (Some(bug), Some(metadata)) => (bug, Some(metadata)),
                    (Some(metadata), None) if is_json(metadata) => ("audio_fork", Some(metadata)),
                    (Some(bug), None) => (bug, None),
                    (None, _) => ("audio_fork", None),
                };
                let mut spec = ForkSpec::new(edition, rate, 8_000);
                spec.mix = mix;
                spec.metadata = metadata.map(cut_metadata);
                spec.bidirectional = word(7).is_none_or(|flag| flag == "true");
                spec.streaming = word(8) == Some("true");
                spec.back_rate = word(9).map_or(0, rate_of);
                let url = word(2).unwrap_or_default();
                self.start_fork(now, uuid, bug, url, spec)
            }
            "send_text" if text.is_none() => String::new(),
            "stop_play" if edition == Edition::Jambonz => {
                self.on_fork(uuid, "audio_fork", ForkModule::stop_play)
            }
            "stop" => self.stop_fork(now, uuid, bug, text),
            "send_text" => {
                self.on_fork(uuid, bug, |module| module.send_text(text.unwrap_or_default()))
            }
            "pause" => self.on_fork(uuid, bug, |module| module.set_paused(true)),
            "resume" => self.on_fork(uuid, bug, |module| module.set_paused(false)),
            "graceful-shutdown" => self.on_fork(uuid, bug, ForkModule::finish),
            _ => FAILED.to_owned(),
        }
    }

    /// `uuid_audio_stream`.
    pub(crate) fn api_audio_stream(&mut self, now: Instant, line: &str) -> String {
        const BUG: &str = "audio_stream";
        let Some(edition) = self.config.audio_stream else {
            return "-ERR uuid_audio_stream Command not found!\n".to_owned();
        };
        let words = arguments::split(line, 6);
        let word = |index: usize| words.get(index).map(String::as_str);
        let (Some(uuid), Some(verb)) = (word(0), word(1)) else { return STREAM_USAGE.to_owned() };
        match verb {
            "start" if words.len() < 4 => STREAM_USAGE.to_owned(),
            "start" => {
                let url = word(2).unwrap_or_default();
                let Some(mix) = word(3).and_then(Mix::from_word) else { return String::new() };
                let rate = word(4).map_or(8_000, rate_of);
                let host =
                    url.strip_prefix("ws://").or(url.strip_prefix("wss://")).unwrap_or_default();
                let host = host.split(['/', ':', '?']).next().unwrap_or_default();
                let good_host = !host.is_empty()
                    && host
                        .chars()
                        .all(|symbol| symbol.is_ascii_alphanumeric() || ".-".contains(symbol));
                if !good_host || rate == 0 || !rate.is_multiple_of(8_000) {
                    return FAILED.to_owned();
                }
                let mut spec = ForkSpec::new(edition, rate, 8_000);
                spec.mix = mix;
                spec.metadata = word(5).map(cut_metadata);
                let variable = |name: &str| {
                    let channel = self.channels.get(uuid);
                    channel.and_then(|channel| channel.variable(name)).unwrap_or_default()
                };
                let buffer = variable("STREAM_BUFFER_SIZE").parse::<u32>().unwrap_or(20);
                spec.buffer_ms =
                    if buffer.is_multiple_of(20) { buffer.clamp(20, 10_000) } else { 20 };
                spec.heart_beat =
                    variable("STREAM_HEART_BEAT").parse().ok().map(Duration::from_secs);
                spec.bidirectional = variable("STREAM_PLAYBACK") == "true";
                spec.back_rate = rate_of(variable("STREAM_SAMPLE_RATE"));
                spec.streaming = spec.bidirectional && spec.back_rate > 0;
                self.start_fork(now, uuid, BUG, url, spec)
            }
            "stop" => self.stop_fork(now, uuid, BUG, word(2)),
            "send_text" => match word(2) {
                Some(text) => self.on_fork(uuid, BUG, |module| module.send_text(text)),
                None => String::new(),
            },
            "pause" => self.on_fork(uuid, BUG, |module| module.set_paused(true)),
            "resume" => self.on_fork(uuid, BUG, |module| module.set_paused(false)),
            _ => FAILED.to_owned(),
        }
    }

    fn start_fork(
        &mut self,
        now: Instant,
        uuid: &str,
        bug: &str,
        url: &str,
        mut spec: ForkSpec,
    ) -> String {
        if self.fork_on(uuid, bug).is_some()
            || !self.channels.get(uuid).is_some_and(|channel| channel.is_up())
        {
            return FAILED.to_owned();
        }
        self.pre_answer(now, uuid);
        let id = self.new_id();
        let seed = self.rng.u64(..);
        let Some(channel) = self.channels.get_mut(uuid) else { return FAILED.to_owned() };
        spec.codec_rate = channel.codec.1;
        spec.uuid = uuid.to_owned();
        spec.joined_percent = self.config.joined_percent;
        spec.seed = seed;
        let variable = |name: &str| channel.variable(name).map(str::to_owned);
        let basic = variable("MOD_AUDIO_BASIC_AUTH_USERNAME")
            .zip(variable("MOD_AUDIO_BASIC_AUTH_PASSWORD"));
        let extra = variable("STREAM_EXTRA_HEADERS").filter(|_| !spec.edition.is_fork());
        let headers = extra
            .as_deref()
            .and_then(super::json::minify)
            .and_then(|extra| {
                let members = super::json::members(&extra)?.into_iter();
                Some(
                    members
                        .filter_map(|(name, value)| Some((name, super::json::string(value)?)))
                        .collect(),
                )
            })
            .unwrap_or_default();
        channel.forks.push(id);
        let fork = Fork {
            uuid: uuid.to_owned(),
            bug: bug.to_owned(),
            basic: basic.filter(|_| spec.edition.is_fork()),
            headers,
            module: ForkModule::new(spec),
            url: url.to_owned(),
            wake: Arc::default(),
            socket_gone: false,
        };
        self.forks.insert(id, fork);
        self.raise(
            now,
            uuid,
            "MEDIA_BUG_START",
            &[("Media-Bug-Function", bug), ("Media-Bug-Target", "N/A")],
            &[],
        );
        self.dials.push_back(Dial::Fork(id));
        self.wake.notify_one();
        OK.to_owned()
    }

    fn stop_fork(&mut self, now: Instant, uuid: &str, bug: &str, text: Option<&str>) -> String {
        let Some(id) = self.fork_on(uuid, bug) else { return FAILED.to_owned() };
        if let Some(fork) = self.forks.get_mut(&id) {
            fork.module.stop(text);
            fork.wake.notify_one();
        }
        self.detach_fork(now, id);
        OK.to_owned()
    }

    /// Takes a fork's media bug off its channel. Its websocket says what is left to say by itself.
    pub(crate) fn detach_fork(&mut self, now: Instant, id: u64) {
        let Some(fork) = self.forks.get(&id) else { return };
        let (uuid, bug) = (fork.uuid.clone(), fork.bug.clone());
        let Some(channel) = self.channels.get_mut(&uuid) else { return };
        let before = channel.forks.len();
        channel.forks.retain(|fork| *fork != id);
        if channel.forks.len() < before {
            let extra = [("Media-Bug-Function", bug.as_str()), ("Media-Bug-Target", "N/A")];
            self.raise(now, &uuid, "MEDIA_BUG_STOP", &extra, &[]);
            self.drop_files_of(&uuid);
        }
        if self.forks.get(&id).is_some_and(|fork| fork.socket_gone) {
            self.forks.remove(&id);
        }
    }

    fn on_fork(&mut self, uuid: &str, bug: &str, act: impl FnOnce(&mut ForkModule)) -> String {
        let Some(fork) = self.fork_on(uuid, bug).and_then(|id| self.forks.get_mut(&id)) else {
            return FAILED.to_owned();
        };
        act(&mut fork.module);
        fork.wake.notify_one();
        OK.to_owned()
    }

    fn fork_on(&self, uuid: &str, bug: &str) -> Option<u64> {
        let forks = &self.channels.get(uuid)?.forks;
        forks.iter().copied().find(|id| self.forks.get(id).is_some_and(|fork| fork.bug == bug))
    }
}

/// `16k`, `8k` or a number; 0 for anything else.
fn rate_of(word: &str) -> u32 {
    match word {
        "8k" => 8_000,
        "16k" => 16_000,
        number => number.parse().unwrap_or(0).min(192_000),
    }
}

/// The modules keep 8191 bytes.
fn cut_metadata(text: &str) -> String {
    let end = (0..=text.len().min(8_191)).rfind(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}
