//! A model of jambonz' `mod_audio_fork`, the side that plays: its two buffers, its marks, its `killAudio`.

use std::collections::VecDeque;

use serde_json::Value;

/// The sample that the module takes for a mark.
const MARK: i16 = -1;

pub(crate) struct Module {
    codec_hz: usize,
    back_hz: usize,
    factor: usize,
    threshold: usize,
    odd: Option<u8>,
    first: Vec<i16>,
    second: VecDeque<i16>,
    inventory: VecDeque<String>,
    in_use: VecDeque<String>,
    /// Marks that `killAudio` threw away; the module takes the next ones in the stream for them.
    cleared: VecDeque<String>,
    kill: bool,
    /// So many messages find the module's lock taken.
    pub(crate) busy: usize,
    /// Whether the channel writes.
    pub(crate) writes: bool,
    /// What the caller heard, at the rate of the call, from the first tick on.
    pub(crate) heard: Vec<i16>,
    /// Times `killAudio` came.
    pub(crate) kills: usize,
    /// Samples taken for marks that were none.
    pub(crate) false_marks: usize,
}

impl Module {
    pub(crate) fn new(back_hz: usize, codec_hz: usize) -> Self {
        let factor = (back_hz / codec_hz).max(1);
        Self {
            codec_hz,
            back_hz,
            factor,
            threshold: 1280 * factor,
            odd: None,
            first: Vec::new(),
            second: VecDeque::new(),
            inventory: VecDeque::new(),
            in_use: VecDeque::new(),
            cleared: VecDeque::new(),
            kill: false,
            busy: 0,
            writes: true,
            heard: Vec::new(),
            kills: 0,
            false_marks: 0,
        }
    }

    /// Samples that wait in both buffers.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.first.len(), self.second.len())
    }

    pub(crate) fn binary(&mut self, message: &[u8]) {
        let mut bytes: Vec<u8> = self.odd.take().into_iter().collect();
        bytes.extend_from_slice(message);
        if bytes.len() % 2 == 1 {
            self.odd = bytes.pop();
        }
        self.in_use.extend(self.inventory.iter().cloned());
        self.first.extend(std::iter::repeat_n(MARK, self.inventory.len()));
        self.inventory.clear();
        self.first.extend(bytes.chunks_exact(2).map(|it| i16::from_le_bytes([it[0], it[1]])));
        if self.first.len() < self.threshold {
            return;
        }
        self.threshold = 640 * self.factor;
        if self.busy > 0 {
            self.busy -= 1;
            return;
        }
        let whole = self.first.len() / self.factor * self.factor;
        let taken: Vec<i16> = self.first.drain(..whole).collect();
        if self.back_hz == self.codec_hz {
            self.second.extend(taken);
        } else {
            let count = taken.len() * self.codec_hz / self.back_hz;
            self.second.extend((0..count).map(|n| taken[n * self.back_hz / self.codec_hz]));
        }
    }

    pub(crate) fn text(&mut self, text: &[u8]) {
        let value: Value = serde_json::from_slice(text).expect("JSON");
        match value["type"].as_str() {
            Some("killAudio") => {
                self.kills += 1;
                self.kill = true;
            }
            Some("mark") => {
                let name = value["data"]["name"].as_str().expect("a name");
                assert!(self.inventory.len() + self.in_use.len() < 30, "too many marks");
                self.inventory.push_back(name.to_owned());
            }
            other => panic!("the module does not know {other:?}"),
        }
    }

    /// 20 ms of the call; what the module tells.
    pub(crate) fn tick(&mut self) -> Vec<String> {
        let mut notices = Vec::new();
        let mut notice = |name: String, event: &str| {
            notices.push(format!(
                r#"{{"type": "mark", "data": {{"name":"{name}", "event": "{event}"}}}}"#
            ));
        };
        let length = self.codec_hz / 50;
        let end = self.heard.len() + length;
        if !self.writes {
            self.heard.resize(end, 0);
            return notices;
        }
        if self.kill {
            self.kill = false;
            self.second.clear();
            for name in self.in_use.iter().chain(&self.inventory) {
                notice(name.clone(), "cleared");
            }
            self.cleared.append(&mut self.in_use);
            self.inventory.clear();
        } else if self.second.is_empty() {
            if let Some(name) = self.inventory.pop_front() {
                notice(name, "playout");
            }
        } else {
            for _ in 0..length.min(self.second.len()) {
                let sample = self.second.pop_front().expect("it is not empty");
                if sample == MARK && self.back_hz == self.codec_hz {
                    match (self.cleared.pop_front(), self.in_use.front()) {
                        (Some(_), _) => {}
                        (None, Some(_)) => {
                            notice(self.in_use.pop_front().expect("a mark"), "playout");
                        }
                        (None, None) => self.false_marks += 1,
                    }
                } else {
                    self.heard.push(sample);
                }
            }
        }
        self.heard.resize(end, 0);
        notices
    }
}
