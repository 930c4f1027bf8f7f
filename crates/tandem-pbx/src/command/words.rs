//! The checked words of which commands are made.
//!
//! What a word holds was looked at when it was made, so that a command made of words is always one command and does
//! what it says: no CR or LF, no NUL, nothing that the switch's own splitting, quoting or variable expansion
//! would take for something else.

use std::{fmt, sync::Arc};

/// Why an argument can't be carried to the switch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("{what} is empty")]
    Empty { what: &'static str },
    #[error("{what} is {length} bytes long; {limit} are the limit")]
    TooLong { what: &'static str, length: usize, limit: usize },
    #[error("{what} holds {character:?} at byte {position}")]
    Character { what: &'static str, character: char, position: usize },
    #[error("{what} {problem}")]
    Form { what: &'static str, problem: &'static str },
    #[error("{count} {what}; {limit} are the limit")]
    TooMany { what: &'static str, count: usize, limit: usize },
}

/// Looks at the length of `text` and at each of its characters.
pub(crate) fn check(
    what: &'static str,
    text: &str,
    limit: usize,
    allowed: impl Fn(char) -> bool,
) -> Result<(), CommandError> {
    if text.is_empty() {
        return Err(CommandError::Empty { what });
    }
    if text.len() > limit {
        return Err(CommandError::TooLong { what, length: text.len(), limit });
    }
    match text.char_indices().find(|(_, c)| !allowed(*c)) {
        Some((position, character)) => Err(CommandError::Character { what, character, position }),
        None => Ok(()),
    }
}

/// Refuses what the switch would replace by a variable or by the result of an API command.
pub(crate) fn check_expansion(what: &'static str, text: &str) -> Result<(), CommandError> {
    if text.contains("${") {
        return Err(CommandError::Form {
            what,
            problem: "holds \"${\", which the switch would expand",
        });
    }
    Ok(())
}

macro_rules! word {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = CommandError;
            fn from_str(text: &str) -> Result<Self, CommandError> {
                Self::new(text)
            }
        }
    };
}

word! {
    /// The name of a channel; also of a background job.
    ChannelUuid
}

impl ChannelUuid {
    /// The channel called `uuid`: 8 to 64 letters, digits, `-`, `_` or `.`, the first a letter or a digit.
    pub fn new(uuid: &str) -> Result<Self, CommandError> {
        const WHAT: &str = "the channel's uuid";
        check(WHAT, uuid, 64, |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))?;
        if uuid.len() < 8 || !uuid.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(CommandError::Form { what: WHAT, problem: "is none" });
        }
        Ok(Self(uuid.into()))
    }

    /// A new name, a UUIDv4 (RFC 9562 §5.4) of 122 bits of `random`.
    pub fn from_random(random: u128) -> Self {
        let bits = random & !(0xF << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62;
        let hex = format!("{bits:032x}");
        let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
        Self(format!("{a}-{b}-{c}-{d}-{e}").into())
    }
}

word! {
    /// One plain argument: an extension, a context, a gateway, a queue, a lot, a conference.
    Word
}

impl Word {
    /// The argument `text`: up to 255 printable ASCII characters without blanks, quotes, backslashes and
    /// ``^ | , ( ) { } [ ] < > $ & ` ``; it does not begin with `-` and is not `undef`.
    pub fn new(text: &str) -> Result<Self, CommandError> {
        const WHAT: &str = "the argument";
        check(WHAT, text, 255, is_plain)?;
        if text.starts_with('-') {
            return Err(CommandError::Form {
                what: WHAT,
                problem: "begins with \"-\" like an option",
            });
        }
        if text.eq_ignore_ascii_case("undef") {
            return Err(CommandError::Form {
                what: WHAT,
                problem: "is \"undef\", which means none",
            });
        }
        Ok(Self(text.into()))
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_graphic()
        && !matches!(
            c,
            '\'' | '"'
                | '\\'
                | '^'
                | '|'
                | ','
                | '('
                | ')'
                | '{'
                | '}'
                | '['
                | ']'
                | '<'
                | '>'
                | '$'
                | '&'
                | '`'
        )
}

word! {
    /// A file, or a stream as `tone_stream://…`, `local_stream://moh`, `silence_stream://1000`.
    MediaPath
}

impl MediaPath {
    /// The file or stream `path`: up to 1024 characters without blanks, control characters, quotes, backslashes and
    /// `^ | $ { } [ ] < > &`; it does not begin with `-` and does not read as an application.
    pub fn new(path: &str) -> Result<Self, CommandError> {
        const WHAT: &str = "the file";
        check(WHAT, path, 1024, |c| {
            !c.is_control()
                && !c.is_whitespace()
                && !matches!(
                    c,
                    '\'' | '"'
                        | '\\'
                        | '^'
                        | '|'
                        | '$'
                        | '{'
                        | '}'
                        | '['
                        | ']'
                        | '<'
                        | '>'
                        | '&'
                        | '`'
                )
        })?;
        if path.starts_with('-') {
            return Err(CommandError::Form {
                what: WHAT,
                problem: "begins with \"-\" like an option",
            });
        }
        if path.contains("::") {
            return Err(CommandError::Form {
                what: WHAT,
                problem: "holds \"::\", which would name an application",
            });
        }
        Ok(Self(path.into()))
    }
}

word! {
    /// Whom to call: `user/1000@example.net`, `sofia/gateway/trunk1/4930999`, `loopback/9000/default`; several with
    /// `,` (all at once) or `|` (one after another).
    DialString
}

impl DialString {
    /// The dial string `text`: up to 2048 printable ASCII characters without blanks, quotes, backslashes and
    /// ``^ ( ) { } [ ] < > $ & ` ``. Variables go into [`crate::Originate`] instead.
    pub fn new(text: &str) -> Result<Self, CommandError> {
        const WHAT: &str = "the dial string";
        check(WHAT, text, 2048, |c| is_plain(c) || matches!(c, ',' | '|'))?;
        if text.contains(":_:") {
            return Err(CommandError::Form { what: WHAT, problem: "holds \":_:\"" });
        }
        if !text.contains('/') || text.starts_with('-') {
            return Err(CommandError::Form {
                what: WHAT,
                problem: "names no endpoint such as \"user/1000\"",
            });
        }
        Ok(Self(text.into()))
    }
}

word! {
    /// The name of a channel variable.
    VariableName
}

impl VariableName {
    /// The variable `name`: up to 128 letters, digits, `_`, `-` and `.`.
    pub fn new(name: &str) -> Result<Self, CommandError> {
        check("the variable's name", name, 128, |c| {
            c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
        })?;
        Ok(Self(name.into()))
    }
}

word! {
    /// The value of a channel variable, one line; quotes and separators are carried as they are.
    VariableValue
}

impl VariableValue {
    /// Longest value.
    pub const LIMIT: usize = 16 << 10;

    /// The value `text`, up to 16 KiB, empty to unset the variable. NUL is refused. Other control characters become
    /// blanks, for some variables end in SIP headers, where a line end begins another one. `${` is carried as `$ {`,
    /// for a dialplan that uses the variable would run what stands there.
    pub fn new(text: &str) -> Result<Self, CommandError> {
        if text.is_empty() {
            return Ok(Self("".into()));
        }
        check("the variable's value", text, Self::LIMIT, |c| c != '\0')?;
        Ok(Self(text.replace(char::is_control, " ").replace("${", "$ {").into()))
    }
}

word! {
    /// What an application is given to do: `callcenter:support`, the part after the colon.
    AppArgs
}

impl AppArgs {
    const LIMIT: usize = 4096;

    /// The arguments `text`, up to 4096 bytes without control characters and without `${`.
    pub fn new(text: &str) -> Result<Self, CommandError> {
        check_expansion("the application's arguments", text)?;
        Self::with_variables(text)
    }

    /// The same with `${variable}` allowed, which the switch expands. For the operator's own configuration only: a
    /// caller or a model that reaches this runs commands on the switch.
    pub fn with_variables(text: &str) -> Result<Self, CommandError> {
        if text.is_empty() {
            return Ok(Self("".into()));
        }
        check("the application's arguments", text, Self::LIMIT, |c| !c.is_control())?;
        Ok(Self(text.into()))
    }
}

word! {
    /// Free text, to be spoken or to be sent over a fork's websocket.
    Text
}

impl Text {
    /// Longest text.
    pub const LIMIT: usize = 8 << 10;

    /// The text, up to 8 KiB, without NUL. `${` is carried as `$ {`, which is spoken alike.
    pub fn new(text: &str) -> Result<Self, CommandError> {
        check("the text", text, Self::LIMIT, |c| c != '\0')?;
        Ok(Self(text.replace("${", "$ {").into()))
    }
}

word! {
    /// Digits to send, with pauses.
    Digits
}

impl Digits {
    /// `digits`: 1 to 90 of `0`-`9`, `*`, `#`, `A`-`D`, and `w` (half a second) or `W` (a second).
    pub fn new(digits: &str) -> Result<Self, CommandError> {
        check(
            "the digits",
            digits,
            90,
            |c| matches!(c, '0'..='9' | '*' | '#' | 'A'..='D' | 'a'..='d' | 'w' | 'W'),
        )?;
        Ok(Self(digits.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_refused_say_why() {
        for (made, why) in [
            (Word::new("").map(drop), "the argument is empty"),
            (Word::new("10 00").map(drop), "the argument holds ' ' at byte 2"),
            (Word::new("1000\r\napi x").map(drop), "the argument holds '\\r' at byte 4"),
            (Word::new("-bleg").map(drop), "the argument begins with \"-\" like an option"),
            (Word::new("undef").map(drop), "the argument is \"undef\", which means none"),
            (Word::new("^^|a|b").map(drop), "the argument holds '^' at byte 0"),
            (
                Word::new(&"9".repeat(256)).map(drop),
                "the argument is 256 bytes long; 255 are the limit",
            ),
            (ChannelUuid::new("off").map(drop), "the channel's uuid is none"),
            (ChannelUuid::new("a b-c-d-e-f").map(drop), "the channel's uuid holds ' ' at byte 1"),
            (
                MediaPath::new("system::rm").map(drop),
                "the file holds \"::\", which would name an application",
            ),
            (MediaPath::new("/a/b c").map(drop), "the file holds ' ' at byte 4"),
            (DialString::new("{a=1}user/1").map(drop), "the dial string holds '{' at byte 0"),
            (
                DialString::new("1000").map(drop),
                "the dial string names no endpoint such as \"user/1000\"",
            ),
            (VariableName::new("a=b").map(drop), "the variable's name holds '=' at byte 1"),
            (VariableValue::new("a\0b").map(drop), "the variable's value holds '\\0' at byte 1"),
            (
                AppArgs::new("${system(reboot)}").map(drop),
                "the application's arguments holds \"${\", which the switch would expand",
            ),
            (Digits::new("12+3").map(drop), "the digits holds '+' at byte 2"),
        ] {
            assert_eq!(made.unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn words_that_are_carried() {
        Word::new("sip:1000@10.0.0.5;transport=tcp").unwrap();
        Word::new("*97").unwrap();
        MediaPath::new("tone_stream://%(200,100,440);loops=2").unwrap();
        MediaPath::new("/var/lib/freeswitch/tmp/13bc6df5-dbf8_0.tmp.r8").unwrap();
        DialString::new("user/1000@example.net,user/1001@example.net|sofia/gateway/t/49").unwrap();
        assert_eq!(VariableValue::new("${x}").unwrap().as_str(), "$ {x}");
        let header = VariableValue::new("a\r\nX-Evil: 1\tb").unwrap();
        assert_eq!(header.as_str(), "a  X-Evil: 1 b");
        assert_eq!(
            AppArgs::with_variables("default ${domain} 1").unwrap().as_str(),
            "default ${domain} 1"
        );
    }

    #[test]
    fn random_names_are_uuids_of_version_4() {
        assert_eq!(ChannelUuid::from_random(0).as_str(), "00000000-0000-4000-8000-000000000000");
        assert_eq!(
            ChannelUuid::from_random(u128::MAX).as_str(),
            "ffffffff-ffff-4fff-bfff-ffffffffffff"
        );
    }
}
