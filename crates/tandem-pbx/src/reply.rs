//! What the switch answers to a command.

use serde::Deserialize;

use crate::{ChannelUuid, EventHeaders};

/// The good answer to a command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    text: String,
}

/// Why a command has no good answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SwitchError {
    /// The switch said no; nothing was done.
    #[error("refused: {reason}")]
    Refused { reason: String },
    /// There is no connection to the switch; nothing was done.
    #[error("the event socket is down")]
    Down,
    /// Too many commands wait; nothing was done.
    #[error("too many commands are waiting for the event socket")]
    Busy,
    /// The switch did not answer in time; it may have done it or may do it yet.
    #[error("the switch did not answer in time")]
    TimedOut,
    /// The connection was lost after the command was sent; it may have been done.
    #[error("the event socket was lost before the answer came")]
    Unknown,
    /// The command can't be carried; nothing was done.
    #[error("{0}")]
    Command(#[from] crate::CommandError),
    /// The link was stopped; nothing was done.
    #[error("the link to the switch was stopped")]
    Stopped,
}

impl SwitchError {
    /// The cause's name in a refused `originate`: `USER_BUSY`.
    pub fn cause(&self) -> Option<crate::Cause> {
        match self {
            Self::Refused { reason } => crate::Cause::from_failure(reason),
            _ => None,
        }
    }

    /// Whether the switch no longer knows the channel.
    pub fn is_no_such_channel(&self) -> bool {
        matches!(self, Self::Refused { reason } if {
            let reason = reason.to_ascii_lowercase();
            ["no such channel", "cannot locate session", "invalid uuid", "invalid session id"]
                .iter()
                .any(|said| reason.starts_with(said))
        })
    }
}

/// One row of `show channels`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ChannelRow {
    /// The channel.
    pub uuid: String,
    /// `inbound` or `outbound`, seen from the switch.
    #[serde(default)]
    pub direction: String,
    /// `CS_EXECUTE`, `CS_PARK`, …
    #[serde(default)]
    pub state: String,
    /// `RINGING`, `ACTIVE`, `HELD`, …
    #[serde(default)]
    pub callstate: String,
    /// What was dialled.
    #[serde(default)]
    pub dest: String,
    /// What it runs.
    #[serde(default)]
    pub application: String,
    /// Shared by the legs of one call.
    #[serde(default)]
    pub call_uuid: String,
}

#[derive(Deserialize)]
struct Rows {
    #[serde(default)]
    rows: Vec<ChannelRow>,
}

impl Reply {
    /// A reply of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// The text as it came.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What stands behind `+OK`, or the whole text where that is missing; without line end.
    pub fn value(&self) -> Option<&str> {
        let text = self.text.strip_suffix('\n').unwrap_or(&self.text);
        (text != "_undef_").then(|| text.strip_prefix("+OK").map_or(text, str::trim_start))
    }

    /// Whether it says `true`.
    pub fn flag(&self) -> bool {
        self.text.trim() == "true"
    }

    /// The channel it names: of the leg called by `originate`, of the channel that was bridged to.
    pub fn uuid(&self) -> Option<ChannelUuid> {
        ChannelUuid::new(self.value()?.trim()).ok()
    }

    /// The headers of a `uuid_dump`.
    pub fn dump(&self) -> Option<EventHeaders> {
        EventHeaders::from_json(self.text.as_bytes())
    }

    /// The rows of `show channels`.
    pub fn channels(&self) -> Option<Vec<ChannelRow>> {
        let rows: Rows = serde_json::from_str(&self.text).ok()?;
        Some(rows.rows)
    }

    /// Good or bad, by how the text begins.
    pub(crate) fn judge(
        text: String,
        form: crate::command::ReplyForm,
    ) -> Result<Self, SwitchError> {
        let refused = |reason: &str| Err(SwitchError::Refused { reason: reason.trim().to_owned() });
        if let Some(reason) = text.strip_prefix("-ERR") {
            return refused(reason);
        }
        if text.starts_with("-USAGE") {
            return refused(&text);
        }
        match form {
            crate::command::ReplyForm::Status if !text.starts_with("+OK") => refused(&text),
            _ => Ok(Self { text }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::ReplyForm;

    #[test]
    fn replies_are_judged_by_how_they_begin() {
        for (text, form, good) in [
            ("+OK\n", ReplyForm::Status, true),
            ("+OK Success\n", ReplyForm::Status, true),
            ("+OK:SIP/2.0 202 Accepted\n", ReplyForm::Status, true),
            ("-ERR No such channel!\n", ReplyForm::Status, false),
            ("-USAGE: <uuid> [cause]\n", ReplyForm::Status, false),
            ("-ERR no reply", ReplyForm::Value, false),
            ("", ReplyForm::Status, false),
            ("caller", ReplyForm::Value, true),
            ("true", ReplyForm::Value, true),
        ] {
            assert_eq!(Reply::judge(text.into(), form).is_ok(), good, "{text:?}");
        }
        let error = Reply::judge("-ERR USER_BUSY\n".into(), ReplyForm::Status).unwrap_err();
        assert_eq!(error.cause().unwrap().name(), "USER_BUSY");
        assert!(!error.is_no_such_channel());
        let error =
            Reply::judge("-ERR Cannot locate session!\n".into(), ReplyForm::Status).unwrap_err();
        assert!(error.is_no_such_channel());
    }

    #[test]
    fn values_of_replies() {
        assert_eq!(Reply::new("_undef_").value(), None);
        assert_eq!(Reply::new("hello world").value(), Some("hello world"));
        assert!(Reply::new("true").flag() && !Reply::new("false\n").flag());
        let reply = Reply::new("+OK 5e551000-0000-4000-8000-000000000021\n");
        assert_eq!(reply.uuid().unwrap().as_str(), "5e551000-0000-4000-8000-000000000021");
        assert_eq!(Reply::new("{\"row_count\": 0}\n").channels(), Some(vec![]));
        let rows = Reply::new(
            "{\"row_count\":1,\"rows\":[{\"uuid\":\"a\",\"callstate\":\"ACTIVE\",\"x\":\"y\"}]}",
        );
        assert_eq!(rows.channels().unwrap()[0].callstate, "ACTIVE");
        assert_eq!(Reply::new("-ERR").channels(), None);
    }
}
