//! What the modules make of a server's texts.

use tandem_media::{Law, g711};

use super::{Edition, ForkEvent, ForkModule};
use crate::freeswitch::{audio, json};

/// Where the modules put their files.
const FOLDER: &str = "/var/lib/freeswitch/tmp";

impl ForkModule {
    /// mod_audio_fork, both editions.
    pub(super) fn handle_fork_message(&mut self, text: &str) {
        let Some(text) = json::minify(text) else { return };
        let members = json::members(&text).unwrap_or_default();
        let value =
            |name: &str| members.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
        let data = value("data").map(str::to_owned);
        match value("type").and_then(json::string).as_deref() {
            None | Some("json") => self.raise("json", Some(text)),
            Some("playAudio") => self.play_file(data.as_deref()),
            Some("killAudio") => {
                self.raise("kill_audio", None);
                self.events.push_back(ForkEvent::Break);
                if self.spec.edition == Edition::Jambonz {
                    let notices = self.downlink.kill();
                    self.texts.extend(notices);
                }
            }
            Some("transcription") => self.raise("transcription", data),
            Some("transfer") => self.raise("transfer", data),
            Some("disconnect") => self.raise("disconnect", data),
            Some("error") => self.raise("error", data),
            Some("mark") if self.spec.edition == Edition::Jambonz => {
                let members = data.as_deref().and_then(json::members).unwrap_or_default();
                let name = members.iter().find(|(key, _)| key == "name");
                if let Some(name) = name.and_then(|(_, value)| json::string(value)) {
                    self.downlink.mark(name);
                }
            }
            Some("clearMarks") if self.spec.edition == Edition::Jambonz => {
                self.downlink.clear_marks();
            }
            Some(_) => {}
        }
    }

    /// `playAudio`: the audio goes into a file, the event names it; nothing is played.
    fn play_file(&mut self, data: Option<&str>) {
        let files = match self.spec.edition {
            Edition::Jambonz => self.spec.bidirectional && !self.spec.streaming,
            _ => true,
        };
        let Some(members) = data.and_then(json::members).filter(|_| files) else { return };
        let number = |name| member(&members, name).and_then(|value| value.parse::<u32>().ok());
        let kind = member(&members, "audioContentType").and_then(json::string).unwrap_or_default();
        let content = member(&members, "audioContent")
            .and_then(json::string)
            .and_then(|content| base64_simd::STANDARD.decode_to_vec(content).ok());
        let file = match (kind.as_str(), content) {
            ("raw", Some(bytes)) => {
                let rate = number("sampleRate").filter(|rate| known_rate(*rate)).unwrap_or(16_000);
                Some((format!("r{}", rate / 1_000), rate, audio::samples_of(&bytes)))
            }
            ("wave" | "wav", Some(bytes)) => {
                let (rate, samples) = audio::of_wave(&bytes).unwrap_or((8_000, Vec::new()));
                Some(("wav".to_owned(), rate, samples))
            }
            _ => None,
        };
        let path = file.map(|(ending, rate, samples)| self.store(&ending, rate, samples));
        let body = without(&members, "audioContent", path.as_deref());
        self.raise("play_audio", Some(body));
    }

    /// mod_audio_stream, both editions: any text is an event; only `streamAudio` is more.
    pub(super) fn handle_stream_message(&mut self, text: &str) {
        match self.stream_audio(text) {
            Some(body) => self.raise("play", Some(body)),
            None => self.raise("json", Some(text.to_owned())),
        }
    }

    /// Takes a `streamAudio` message; gives the body of its event, none when it is none or a bad one.
    fn stream_audio(&mut self, text: &str) -> Option<String> {
        let text = json::minify(text)?;
        let members = json::members(&text)?;
        if json::string(member(&members, "type")?)? != "streamAudio" {
            return None;
        }
        let data = json::members(member(&members, "data")?)?;
        let kind = json::string(member(&data, "audioDataType")?)?;
        let rate = member(&data, "sampleRate").and_then(|value| value.parse::<u32>().ok());
        let content = json::string(member(&data, "audioData")?)?;
        let bytes = base64_simd::STANDARD.decode_to_vec(content).ok()?;
        let (ending, rate, samples) = match kind.as_str() {
            "raw" => {
                let rate = rate.filter(|rate| known_rate(*rate))?;
                (format!("r{}", rate / 1_000), rate, audio::samples_of(&bytes))
            }
            "wav" => {
                let (rate, samples) = audio::of_wave(&bytes).unwrap_or((8_000, Vec::new()));
                ("wav".to_owned(), rate, samples)
            }
            "pcmu" | "pcma" => {
                let law = if kind == "pcmu" { Law::Mu } else { Law::A };
                let mut samples = vec![0; bytes.len()];
                g711::decode(law, &bytes, &mut samples);
                (kind, 8_000, samples)
            }
            // Nothing here decodes them: files without sound.
            "mp3" | "ogg" => (kind, 8_000, Vec::new()),
            _ => return None,
        };
        if self.spec.edition == Edition::StreamTwoWay {
            self.downlink.play_decoded(rate, &samples);
            return Some(without(&data, "audioData", None));
        }
        let path = self.store(&ending, rate, samples);
        Some(without(&data, "audioData", Some(&path)))
    }

    fn store(&mut self, ending: &str, rate: u32, samples: Vec<i16>) -> String {
        let path = format!("{FOLDER}/{}_{}.tmp.{ending}", self.spec.uuid, self.files);
        self.files += 1;
        self.events.push_back(ForkEvent::File { path: path.clone(), rate, samples });
        path
    }
}

fn known_rate(rate: u32) -> bool {
    matches!(rate, 8_000 | 16_000 | 24_000 | 32_000 | 48_000 | 64_000)
}

fn member<'a>(members: &[(String, &'a str)], name: &str) -> Option<&'a str> {
    members.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
}

/// The object without its audio, with the name of the file that holds it.
fn without(members: &[(String, &str)], audio: &str, path: Option<&str>) -> String {
    let path = path.map(json::quoted);
    let rest =
        members.iter().filter(|(key, _)| key != audio).map(|(key, value)| (key.as_str(), *value));
    json::object(rest.chain(path.as_deref().map(|path| ("file", path))))
}
