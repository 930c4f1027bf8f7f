//! Orders to a conference.

use super::{
    line,
    words::{CommandError, DialString, Digits, MediaPath, Word},
};

/// Which member of a conference is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member {
    /// The member of this number.
    Id(u32),
    /// Everybody.
    All,
    /// Who came last.
    Last,
    /// Everybody but the moderators.
    NonModerator,
}

impl std::fmt::Display for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::All => f.write_str("all"),
            Self::Last => f.write_str("last"),
            Self::NonModerator => f.write_str("non_moderator"),
        }
    }
}

/// What a conference is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConferenceCommand {
    /// Its members as a JSON array, the reply's text.
    List,
    /// Call somebody in, in the background; makes the conference where there is none. The reply is a job's name; how
    /// it went is told by the event `bgdial-result`.
    Dial {
        dial: DialString,
        number: Word,
        name: CallerName,
    },
    Mute(Member),
    Unmute(Member),
    Deaf(Member),
    Undeaf(Member),
    Hold(Member),
    Unhold(Member),
    /// Out of it, on in the dialplan.
    Kick(Member),
    /// Out of it, and hung up.
    HangUp(Member),
    /// Digits for a member to hear.
    Digits(Member, Digits),
    /// Play to everybody or to one member.
    Play(MediaPath, Option<Member>),
    /// Stop what is played.
    Stop,
    /// Move a member to another conference.
    Transfer {
        to: Word,
        member: Member,
    },
    Record(MediaPath),
    StopRecord(MediaPath),
    /// Nobody else may come in, or (`false`) may again.
    Lock(bool),
}

/// A caller's name as shown to the called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerName(Box<str>);

impl CallerName {
    /// The name, up to 128 bytes; control characters are refused.
    pub fn new(name: &str) -> Result<Self, CommandError> {
        super::words::check("the caller's name", name, 128, |c| !c.is_control())?;
        Ok(Self(name.replace("${", "$ {").into()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ConferenceCommand {
    pub(super) fn arguments(&self, out: &mut String) {
        let member = |verb: &str, member: &Member, out: &mut String| {
            out.push_str(&format!("{verb} {member}"));
        };
        match self {
            Self::List => out.push_str("json_list"),
            Self::Dial { dial, number, name } => {
                out.push_str(&format!("bgdial {dial} {number} "));
                line::quote(name.as_str(), out);
            }
            Self::Mute(who) => member("mute", who, out),
            Self::Unmute(who) => member("unmute", who, out),
            Self::Deaf(who) => member("deaf", who, out),
            Self::Undeaf(who) => member("undeaf", who, out),
            Self::Hold(who) => member("hold", who, out),
            Self::Unhold(who) => member("unhold", who, out),
            Self::Kick(who) => member("kick", who, out),
            Self::HangUp(who) => member("hup", who, out),
            Self::Digits(who, digits) => out.push_str(&format!("dtmf {who} {digits}")),
            Self::Play(path, None) => out.push_str(&format!("play {path}")),
            Self::Play(path, Some(who)) => out.push_str(&format!("play {path} {who}")),
            Self::Stop => out.push_str("stop all"),
            Self::Transfer { to, member } => out.push_str(&format!("transfer {to} {member}")),
            Self::Record(path) => out.push_str(&format!("record {path}")),
            Self::StopRecord(path) => out.push_str(&format!("norecord {path}")),
            Self::Lock(true) => out.push_str("lock"),
            Self::Lock(false) => out.push_str("unlock"),
        }
    }
}
