//! Whether the caller's channel still waits for us, told by the applications it runs.

use std::time::Instant;

use super::Channel;
use crate::EventHeaders;

/// Applications that only say or set something and leave the channel where it is.
///
/// The last of them stays named as the channel's application after its end, while the channel waits again.
const PASSING: [&str; 33] = [
    "answer",
    "bind_digit_action",
    "bind_meta_app",
    "clear_digit_action",
    "displace_session",
    "endless_playback",
    "export",
    "gentones",
    "info",
    "jitterbuffer",
    "log",
    "loop_playback",
    "multiset",
    "phrase",
    "play_and_detect_speech",
    "play_and_get_digits",
    "playback",
    "pre_answer",
    "read",
    "record_session",
    "record_session_mask",
    "record_session_unmask",
    "ring_ready",
    "say",
    "sched_hangup",
    "send_display",
    "send_dtmf",
    "set",
    "sleep",
    "speak",
    "stop_displace_session",
    "stop_record_session",
    "unset",
];

/// Where the channel is.
#[derive(Debug, Default)]
pub(super) struct Whereabouts {
    /// Somebody took the channel out of its waiting.
    moved: bool,
    /// Somebody may have, while nothing was heard of it.
    doubtful: bool,
    /// The last application that began on it while it was ours.
    application: Option<String>,
}

impl Whereabouts {
    /// It was taken out of its waiting, `by_us` or by somebody else.
    pub(super) fn unparked(&mut self, by_us: bool) {
        self.moved = !by_us;
    }

    /// It waits.
    pub(super) fn parked(&mut self) {
        self.moved = false;
        self.doubtful = false;
    }
}

impl Channel {
    /// An application begins. While the channel waits it is one that plays or sets something, by us or by anybody; once
    /// it was taken out of its waiting, somebody moved the caller there.
    pub(super) fn executes(&mut self, now: Instant, app: &str) {
        if self.hand_over_executes(now, app) {
            return;
        }
        let Whereabouts { moved, doubtful, .. } = self.whereabouts;
        if app == "park" {
            self.whereabouts.parked();
        } else if moved || (doubtful && !is_passing(app)) {
            if !self.controls.expects(app) {
                return self.taken_over(now, format!("moved to {app}"));
            }
            self.whereabouts.parked();
        }
        self.whereabouts.application = Some(app.to_owned());
    }

    /// Where the channel is, after a time in which nothing was heard of it.
    pub(super) fn whereabouts_recovered(&mut self, now: Instant, dump: &EventHeaders) {
        let state = dump.get("Channel-State");
        // A channel that the switch parks by itself runs no application, and still names its last one.
        if state == Some("CS_PARK") {
            return self.whereabouts.parked();
        }
        let executes = state.is_none_or(|state| state == "CS_EXECUTE");
        match dump.variable("current_application") {
            Some("park") if executes => self.whereabouts.parked(),
            // What is to be run next is told by its event, or has begun unseen and left no trace yet.
            None | Some("park" | "socket") => self.whereabouts.doubtful = true,
            Some(app)
                if is_passing(app) || self.whereabouts.application.as_deref() == Some(app) =>
            {
                self.whereabouts.doubtful = true;
            }
            Some(app) if self.controls.expects(app) => {
                self.whereabouts.parked();
                self.whereabouts.application = Some(app.to_owned());
            }
            Some(app) => self.taken_over(now, format!("moved to {app}")),
        }
    }
}

fn is_passing(app: &str) -> bool {
    PASSING.binary_search(&app).is_ok()
}
