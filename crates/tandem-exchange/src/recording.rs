//! The recording of a call: said to the caller first, begun, paused by the agent, ended with the call.

use std::{
    fmt,
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime},
};

use serde_json::json;
use tandem_attendant::{Speech, Voice, VoiceError};
use tandem_call::{ItemId, LegEvent, MediaLeg, RecordingRecord, ToolDeclaration, ToolOutcome};
use tandem_media::AudioFormat;
use tandem_recording::{Recorder, Recording, RecordingOrder, RecordingReport, RecordingSettings};
use tokio::sync::oneshot;

use crate::{record::rfc3339, waiting_speech::WaitingSpeech};

/// The tool that pauses a recording.
pub(crate) const PAUSE_RECORDING: &str = "pause_recording";

/// Tools by which an agent keeps what is said out of the recording, and out of the call's record.
pub const RECORDING_TOOLS: [&str; 2] = [PAUSE_RECORDING, "resume_recording"];

/// Names the announcement among the items of a leg, below the machine's own prompts.
const ANNOUNCEMENT: ItemId = ItemId((1 << 62) - 1);

/// A leg that does not tell of the announcement's end is believed so much longer than it takes to say it.
const GRACE: Duration = Duration::from_secs(10);

/// How long the record of a call waits for its recording to be on disk.
const LAST_WRITE: Duration = Duration::from_secs(15);

/// How the calls of an agent are recorded.
#[derive(Debug, Clone)]
pub struct RecordingPlan {
    /// Who writes.
    pub recorder: Recorder,
    /// Where and how.
    pub settings: RecordingSettings,
    /// What callers are told first; without it nothing is said.
    pub consent: Option<Consent>,
    /// The recording begins with the answer, not behind the announcement.
    pub from_answer: bool,
}

/// What callers are told before they are recorded. Clones share what was rendered.
#[derive(Clone)]
pub struct Consent {
    language: String,
    text: String,
    speech: Arc<OnceLock<Arc<[u8]>>>,
}

impl Consent {
    /// Samples of an announcement.
    const FORMAT: AudioFormat = AudioFormat::Pcm16(Speech::RATE);

    /// The announcement of `text` in `language` (BCP-47), which nobody can hear before it is rendered.
    pub fn new(language: impl Into<String>, text: impl Into<String>) -> Self {
        Self { language: language.into(), text: text.into(), speech: Arc::default() }
    }

    /// What is said.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Has `voice` say it, once.
    pub async fn render(&self, voice: &Voice) -> Result<(), VoiceError> {
        if self.speech.get().is_none() {
            let speech = voice.render(&self.language, &self.text).await?;
            let bytes = speech.pcm.iter().flat_map(|sample| sample.to_le_bytes());
            self.speech.set(bytes.collect()).ok(); // Somebody else may have been faster.
        }
        Ok(())
    }
}

impl fmt::Debug for Consent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consent").field("text", &self.text).finish_non_exhaustive()
    }
}

/// The declaration of a tool of [`RECORDING_TOOLS`].
pub fn recording_tool(name: &str) -> Option<ToolDeclaration> {
    let description = match name {
        PAUSE_RECORDING => {
            "Pauses the recording and the transcript of this call. Call it before the caller says something that must not be \
             kept: card numbers, passwords, health data."
        }
        "resume_recording" => {
            "Goes on with recording and transcript of this call after pause_recording."
        }
        _ => return None,
    };
    Some(ToolDeclaration {
        name: name.into(),
        description: description.into(),
        parameters: json!({ "type": "object", "properties": {}, "additionalProperties": false }),
    })
}

/// The recording of one call.
pub struct CallRecording {
    plan: RecordingPlan,
    call_id: String,
    /// The beginning of the call, also on the wall.
    started: (Instant, SystemTime),
    done: Option<oneshot::Sender<RecordingReport>>,
    recording: Option<Recording>,
    announcement: Option<Announced>,
}

/// The announcement, while it is heard.
struct Announced {
    /// It is given up on then.
    until: Instant,
    /// The peer has put us on hold meanwhile.
    held: bool,
    /// The recording is to begin paused.
    paused: bool,
    /// What is to be heard behind it.
    speech: WaitingSpeech,
}

impl CallRecording {
    /// A recording of `call_id`, which began at `started`; what becomes of it is for the receiver, which gets nothing when none was
    /// begun.
    pub fn new(
        plan: RecordingPlan,
        call_id: &str,
        started: (Instant, SystemTime),
    ) -> (Self, oneshot::Receiver<RecordingReport>) {
        let (done, report) = oneshot::channel();
        let recording = Self {
            plan,
            call_id: call_id.to_owned(),
            started,
            done: Some(done),
            recording: None,
            announcement: None,
        };
        (recording, report)
    }

    /// The call was answered. True: the caller hears the announcement first, and for the conversation he is on hold until
    /// [`handle_leg`](Self::handle_leg) or [`handle_timeout`](Self::handle_timeout) says that it is over.
    pub(crate) fn answered(&mut self, now: Instant, leg: &mut impl MediaLeg) -> bool {
        let Some(consent) = &self.plan.consent else {
            self.begin(now, false, leg);
            return false;
        };
        let Some(speech) = consent.speech.get().map(Arc::clone) else {
            tracing::error!(
                call_id = self.call_id,
                "not recorded: nobody could say the announcement"
            );
            return false;
        };
        if self.plan.from_answer {
            self.begin(now, false, leg);
        }
        leg.play(now, ANNOUNCEMENT, Consent::FORMAT, &speech);
        leg.end_item(now, ANNOUNCEMENT);
        let until = now + Consent::FORMAT.duration_of(speech.len()) + GRACE;
        let speech = WaitingSpeech::default();
        self.announcement = Some(Announced { until, held: false, paused: false, speech });
        true
    }

    /// Whether the caller hears the announcement.
    pub(crate) const fn is_announcing(&self) -> bool {
        self.announcement.is_some()
    }

    /// What waits until the caller has heard the announcement, while he hears it: what the leg has then can't be cut.
    pub(crate) fn speech_behind(&mut self) -> Option<&mut WaitingSpeech> {
        self.announcement.as_mut().map(|announcement| &mut announcement.speech)
    }

    /// The peer holds us, or does not any more, while the announcement is heard.
    pub(crate) fn hold(&mut self, now: Instant, held: bool, leg: &mut impl MediaLeg) {
        if let Some(announcement) = &mut self.announcement {
            announcement.held = held;
            leg.pause(now, held); // He is to hear all of it.
        }
    }

    /// What of `event` is for the machine. While the announcement is heard nothing that the caller says is: he can't interrupt it, and
    /// nobody listens to him. Keys that he presses are.
    pub(crate) fn handle_leg(
        &mut self,
        now: Instant,
        event: LegEvent,
        leg: &mut impl MediaLeg,
    ) -> (Option<LegEvent>, Option<Announcement>) {
        if self.announcement.is_none() {
            return (Some(event), None);
        }
        match event {
            LegEvent::PlayoutStarted { item: ANNOUNCEMENT }
            | LegEvent::SpeechStarted
            | LegEvent::SpeechPaused { .. }
            | LegEvent::SpeechResumed
            | LegEvent::SpeechStopped { .. } => (None, None),
            LegEvent::PlayoutDrained { item: ANNOUNCEMENT } => {
                (None, self.announced(now, true, leg))
            }
            other => (Some(other), None),
        }
    }

    /// Gives up on an announcement of whose end the leg told nothing.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        leg: &mut impl MediaLeg,
    ) -> Option<Announcement> {
        let waiting = self.announcement.as_ref()?;
        (!waiting.held && now >= waiting.until).then(|| self.announced(now, false, leg))?
    }

    /// What comes of a tool of [`RECORDING_TOOLS`], which `pauses` or resumes. While the announcement is heard the recording that
    /// follows is meant.
    pub(crate) fn pause(&mut self, now: Instant, pauses: bool) -> ToolOutcome {
        let changed = match (&mut self.recording, &mut self.announcement) {
            (Some(recording), _) if pauses => recording.pause(now),
            (Some(recording), _) => recording.resume(now),
            (None, Some(announcement)) => {
                std::mem::replace(&mut announcement.paused, pauses) != pauses
            }
            (None, None) => return not_recorded(pauses),
        };
        if changed {
            let message = if pauses { "recording paused" } else { "recording goes on" };
            tracing::info!(call_id = self.call_id, "{message}");
        }
        let (status, message) = if pauses {
            ("paused", "Nothing is kept now. Call resume_recording when that part is over.")
        } else {
            ("recording", "The call is recorded again.")
        };
        ToolOutcome::Answered(json!({ "status": status, "message": message }))
    }

    /// The call is over.
    pub(crate) fn end(&mut self, now: Instant) {
        if let Some(recording) = &mut self.recording {
            recording.end(now);
        }
        self.done = None;
    }

    fn announced(
        &mut self,
        now: Instant,
        whole: bool,
        leg: &mut impl MediaLeg,
    ) -> Option<Announcement> {
        let Announced { held, paused, speech, .. } = self.announcement.take()?;
        if whole {
            self.begin(now, paused, leg);
        } else if self.recording.is_none() {
            tracing::warn!(
                call_id = self.call_id,
                "not recorded: the announcement was not heard to its end"
            );
        }
        speech.play(now, leg);
        Some(Announcement { held })
    }

    fn begin(&mut self, now: Instant, paused: bool, leg: &mut impl MediaLeg) {
        let Some(done) = self.done.take() else { return };
        let (started, wall) = self.started;
        let order = RecordingOrder {
            call_id: self.call_id.clone(),
            settings: self.plan.settings.clone(),
            begin: now,
            started_at: wall + now.saturating_duration_since(started),
            leg_rate: leg.format().rate(),
        };
        let (mut recording, [heard, sent]) = self.plan.recorder.begin(order, move |report| {
            done.send(report).ok(); // Nobody keeps a record of this call any more.
        });
        if paused {
            recording.pause(now); // Before anything can be heard.
        }
        leg.tap(heard, sent);
        self.recording = Some(recording);
    }
}

/// An announcement that is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Announcement {
    /// The peer has put us on hold.
    pub(crate) held: bool,
}

/// What a tool of [`RECORDING_TOOLS`] comes to in a call that is not recorded.
pub(crate) fn not_recorded(pauses: bool) -> ToolOutcome {
    let message = if pauses {
        "This call is not recorded. What is said now is not written down either, until resume_recording is called."
    } else {
        "This call is not recorded. What is said is written down again."
    };
    ToolOutcome::Answered(json!({ "status": "not_recorded", "message": message }))
}

/// What the record of a call keeps of its recording, once that is on disk; none when none was begun.
pub(crate) async fn record_of(
    report: oneshot::Receiver<RecordingReport>,
) -> Option<RecordingRecord> {
    match tokio::time::timeout(LAST_WRITE, report).await {
        Ok(report) => report.ok().map(|report| recording_record(&report)),
        Err(_) => {
            tracing::error!(
                "the recording is not on disk yet; the record of the call does not wait for it"
            );
            None
        }
    }
}

fn recording_record(report: &RecordingReport) -> RecordingRecord {
    let millis = |duration: Duration| duration.as_millis() as u64;
    RecordingRecord {
        id: report.id.clone(),
        status: if report.path.is_some() { "available" } else { "failed" },
        path: report.path.as_deref().map(Path::display).map(|path| path.to_string()),
        format: report.format.name(),
        channels: report.channels.count(),
        sample_rate_hz: report.rate.hz(),
        duration_ms: millis(report.duration),
        size_bytes: report.size_bytes,
        started_at: rfc3339(report.started_at),
        paused_ms: millis(report.paused),
        dropped_ms: millis(report.dropped),
        sealed: report.sealed,
        ended: report.end.name(),
        error: report.error.clone(),
        expires_at: report.expires_at.map(rfc3339),
    }
}

#[cfg(test)]
mod tests {
    use tandem_media::{Codec, Law};
    use tandem_rtp::{LegConfig, RtpLeg};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ask(recording: &mut CallRecording, now: Instant, tool: &str) -> serde_json::Value {
        match recording.pause(now, tool == PAUSE_RECORDING) {
            ToolOutcome::Answered(answer) => answer["status"].clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_pause_asked_for_during_the_announcement_holds_from_the_first_sample() {
        let directory = tempfile::tempdir().unwrap();
        let consent = Consent::new("en", "This call is recorded.");
        consent.speech.set(vec![0; 64_000].into()).unwrap();
        let settings = RecordingSettings {
            folder: directory.path().to_owned(),
            keep_free: 0,
            ..RecordingSettings::default()
        };
        let recorder = Recorder::start(1).unwrap();
        let plan = RecordingPlan { recorder, settings, consent: Some(consent), from_answer: false };
        for asked in [&["pause_recording"][..], &["pause_recording", "resume_recording"]] {
            let now = Instant::now();
            let config = LegConfig {
                ssrc: 7,
                first_sequence: 1,
                first_timestamp: 0,
                cname: "test".into(),
                codec: Codec::PCMU,
                uplink: AudioFormat::G711(Law::Mu),
                media_timeout: 60 * SECOND,
                seed: 1,
            };
            let mut leg = RtpLeg::new(now, 1_790_000_000 * SECOND, config);
            let id = format!("call_{:032x}", asked.len());
            let (mut recording, report) =
                CallRecording::new(plan.clone(), &id, (now, SystemTime::now()));
            assert_eq!(ask(&mut recording, now, "pause_recording"), "not_recorded");
            assert!(recording.answered(now, &mut leg));
            let is_paused = asked.len() == 1;
            for tool in asked {
                let status = if *tool == "pause_recording" { "paused" } else { "recording" };
                assert_eq!(ask(&mut recording, now, tool), status);
            }
            let drained = LegEvent::PlayoutDrained { item: ANNOUNCEMENT };
            let (_, over) = recording.handle_leg(now + 2 * SECOND, drained, &mut leg);
            assert!(over.is_some() && !recording.is_announcing());
            let begun = recording.recording.as_ref().expect("it has begun");
            assert_eq!(begun.is_paused(), is_paused);
            recording.end(now + 5 * SECOND);
            let report = report.blocking_recv().unwrap();
            let paused = if is_paused { 3 * SECOND } else { Duration::ZERO };
            assert_eq!((report.duration, report.paused), (3 * SECOND, paused));
        }
    }
}
