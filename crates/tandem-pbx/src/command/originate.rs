//! Calling somebody from the switch.

use std::time::Duration;

use super::{
    line,
    words::{AppArgs, ChannelUuid, CommandError, DialString, VariableName, VariableValue, Word},
};

/// An application of the switch with what it is given to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// Its name: `park`, `callcenter`, `conference`.
    pub name: Word,
    /// Its arguments; may be empty.
    pub args: AppArgs,
}

impl Application {
    /// The application `name` with the arguments `args`.
    pub fn new(name: &str, args: &str) -> Result<Self, CommandError> {
        Ok(Self { name: application_name(name)?, args: AppArgs::new(args)? })
    }

    /// The same with `${variable}` allowed in `args`; for the operator's own configuration only.
    pub fn with_variables(name: &str, args: &str) -> Result<Self, CommandError> {
        Ok(Self { name: application_name(name)?, args: AppArgs::with_variables(args)? })
    }
}

fn application_name(name: &str) -> Result<Word, CommandError> {
    super::words::check("the application's name", name, 64, |c| {
        c.is_ascii_alphanumeric() || c == '_'
    })?;
    Word::new(name)
}

/// What a leg that answered is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connect {
    /// An application, `&park()`.
    Application(Application),
    /// An extension of the dialplan.
    Extension(Extension),
}

impl Connect {
    /// The leg waits until it is told what to do.
    pub fn park() -> Self {
        Self::Application(Application {
            name: Word::new("park").expect("a plain word"),
            args: AppArgs::new("").expect("no arguments"),
        })
    }
}

/// A place in the dialplan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// The number or name.
    pub number: Word,
    /// The dialplan, `XML` where none is given.
    pub dialplan: Option<Word>,
    /// The context; for a transfer the channel's own where none is given, else `default`.
    pub context: Option<Word>,
}

impl Extension {
    /// `number` in `context` of the dialplan `XML`.
    pub fn new(number: &str, context: &str) -> Result<Self, CommandError> {
        let dialplan = Word::new("XML").expect("a plain word");
        Ok(Self {
            number: Word::new(number)?,
            dialplan: Some(dialplan),
            context: Some(Word::new(context)?),
        })
    }

    pub(super) fn arguments(&self, out: &mut String) {
        out.push_str(self.number.as_str());
        if self.dialplan.is_none() && self.context.is_none() {
            return;
        }
        out.push(' ');
        out.push_str(self.dialplan.as_ref().map_or("XML", Word::as_str));
        if let Some(context) = &self.context {
            out.push(' ');
            out.push_str(context.as_str());
        }
    }
}

/// The variable that tells whose legs they are, where they cannot all have the one name.
pub(super) const CALLED_BY: &str = "tandem_called_by";

/// A call to be made by the switch.
///
/// Its reply is the outcome: the leg's uuid once it answered, or `Refused` with the cause's name.
#[derive(Debug, Clone, PartialEq)]
pub struct Originate {
    /// The name the new leg gets, so that it can be watched and killed before the reply; see [`Originate::is_named`].
    pub uuid: ChannelUuid,
    /// Whom.
    pub dial: DialString,
    /// Variables of the new leg. Line ends in values become blanks, braces and brackets parentheses.
    pub variables: Vec<(VariableName, VariableValue)>,
    /// What it is connected to when it answers.
    pub connect: Connect,
    /// How long it may ring; whole seconds.
    pub timeout: Duration,
}

impl Originate {
    /// Most variables.
    pub const MAX_VARIABLES: usize = 128;
    /// Longest ringing.
    pub const MAX_TIMEOUT: Duration = Duration::from_secs(600);

    /// A call to `dial` that is parked when it answers, and waits for the answer, not for early media.
    pub fn parked(uuid: ChannelUuid, dial: DialString, timeout: Duration) -> Self {
        let early = VariableName::new("ignore_early_media").expect("a plain name");
        let yes = VariableValue::new("true").expect("a plain value");
        Self { uuid, dial, variables: vec![(early, yes)], connect: Connect::park(), timeout }
    }

    /// Adds a variable.
    pub fn variable(mut self, name: &str, value: &str) -> Result<Self, CommandError> {
        if self.variables.len() >= Self::MAX_VARIABLES {
            let count = self.variables.len() + 1;
            return Err(CommandError::TooMany {
                what: "variables",
                count,
                limit: Self::MAX_VARIABLES,
            });
        }
        self.variables.push((VariableName::new(name)?, VariableValue::new(value)?));
        Ok(self)
    }

    /// Whether the leg gets the name given to it. Where several phones may ring, the switch would give all of them the
    /// same name and so make the first one only: they are then named by the switch, the one that answered by the
    /// reply, and ended by [`super::SwitchCommand::HangUpCalled`].
    pub fn is_named(&self) -> bool {
        let dial = self.dial.as_str();
        let several = ["user/", "group/"].iter().any(|endpoint| dial.starts_with(endpoint));
        !several && !dial.contains([',', '|'])
    }

    /// How long it may ring, within what is sensible.
    pub fn ringing(&self) -> Duration {
        self.timeout.clamp(Duration::from_secs(1), Self::MAX_TIMEOUT)
    }

    pub(super) fn arguments(&self, out: &mut String) {
        let Self { uuid, dial, variables, connect, .. } = self;
        let name = if self.is_named() { "origination_uuid" } else { CALLED_BY };
        let mut called = format!("{{{name}={uuid},originate_timeout={}", self.ringing().as_secs());
        for (name, value) in variables.iter().take(Self::MAX_VARIABLES) {
            called.push(',');
            called.push_str(name.as_str());
            called.push('=');
            line::escape_in_braces(value.as_str(), &mut called);
        }
        called.push('}');
        called.push_str(dial.as_str());
        line::quote(&called, out);
        out.push(' ');
        match connect {
            Connect::Application(Application { name, args }) => {
                line::quote(&format!("&{name}({args})"), out);
            }
            Connect::Extension(extension) => extension.arguments(out),
        }
    }
}
