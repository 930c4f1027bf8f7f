//! Queries for which there is no word.

use std::fmt;

use super::words::{CommandError, check, check_expansion};

/// A query of the switch that has no word of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct RawCommand {
    text: Box<str>,
    name: &'static str,
}

/// What a raw command may begin with: queries, and what belongs to queues, mailboxes and schedules. Nothing that
/// loads, runs or evaluates.
const ALLOWED: &[&str] = &[
    "callcenter_config",
    "create_uuid",
    "fifo",
    "fifo_member",
    "global_getvar",
    "group_call",
    "hostname",
    "in_group",
    "limit_usage",
    "list_users",
    "module_exists",
    "sched_del",
    "sched_hangup",
    "show",
    "sofia",
    "sofia_contact",
    "status",
    "strftime",
    "user_data",
    "user_exists",
    "uuid_buglist",
    "uuid_display",
    "uuid_dump",
    "uuid_exists",
    "uuid_getvar",
    "uuid_media_stats",
    "uuid_session_heartbeat",
    "valet_info",
    "version",
    "vm_boxcount",
];

impl RawCommand {
    /// The command `text`, up to 4096 characters: one line, no `${`, and one of the names that only ask or that
    /// manage queues.
    pub fn new(text: &str) -> Result<Self, CommandError> {
        const WHAT: &str = "the command";
        check(WHAT, text, 4096, |c| !c.is_control())?;
        check_expansion(WHAT, text)?;
        let first = text.split(' ').next().unwrap_or_default();
        let Some(name) = ALLOWED.iter().copied().find(|name| *name == first) else {
            return Err(CommandError::Form {
                what: WHAT,
                problem: "is not among those that may be given as text",
            });
        };
        if name == "sofia"
            && !["sofia status", "sofia xmlstatus"].iter().any(|ask| text.starts_with(ask))
        {
            return Err(CommandError::Form { what: WHAT, problem: "does more than ask" });
        }
        Ok(Self { text: text.into(), name })
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// What stands behind the name.
    pub(super) fn as_str(&self) -> &str {
        &self.text[self.name.len()..]
    }
}

impl fmt::Debug for RawCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}
