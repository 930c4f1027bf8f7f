//! How each kind of transfer target is reached on the switch, parsed when the configuration is read.

use std::{fmt, time::Duration};

use tandem_call::{TRANSFER_ANNOUNCEMENT, TransferKind, TransferTarget};

use super::template::{Places, Template, TemplateError};
use crate::{
    Application, ChannelUuid, CommandError, DialString, Extension, MediaPath, SwitchCommand,
    TransferLeg, Word,
};

/// Longest target: a SIP URI of a real peer is far shorter.
const LONGEST_TARGET: usize = 256;

/// What the owner of a switch says about its transfers; everything has a default that fits a stock installation.
#[derive(Debug, Clone)]
pub struct TransferSettings {
    /// The domain of the switch's users; without one the switch takes its own default.
    pub domain: Option<String>,
    /// The dialplan context of internal extensions.
    pub context: String,
    /// The gateway calls to the outside go through; without one `external` targets cannot be reached.
    pub gateway: Option<String>,
    /// The SIP profile that calls full SIP URIs.
    pub profile: String,
    /// Actions that replace the default of their kind; see [`TransferRoute`].
    pub actions: Vec<(TransferKind, String)>,
    /// A target that rings is given up after this long. Keep it below the time the agent gives a transfer.
    pub ring_timeout: Duration,
    /// What the caller hears while a target rings: a file or stream of the switch.
    pub ringback: String,
    /// What the caller hears while somebody is told what the call is about.
    pub hold_music: String,
    /// What the person who takes an attended transfer hears first; `{reason}` and `{summary}` are put in.
    pub announcement: String,
}

impl Default for TransferSettings {
    fn default() -> Self {
        Self {
            domain: None,
            context: "default".into(),
            gateway: None,
            profile: "external".into(),
            actions: Vec::new(),
            ring_timeout: Duration::from_secs(25),
            ringback: "tone_stream://%(2000,4000,440,480);loops=60".into(),
            hold_music: "local_stream://moh".into(),
            announcement: TRANSFER_ANNOUNCEMENT.into(),
        }
    }
}

/// How one kind of target is reached.
///
/// In a configuration it is a verb and its words:
/// - `bridge <dial string>`: the target is called while the caller waits, and both are bridged when it answers. The
///   only way that brings the caller back when nobody does.
/// - `inline <app>[:<arguments>][,<app>…]`: the caller is handed to an application for good.
/// - `transfer <extension> [<dialplan>] [<context>]`: the caller goes to the dialplan for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferRoute {
    /// Call the target by this dial string.
    Bridge(Template),
    /// Run these applications on the caller's channel.
    Inline(Vec<InlineTemplate>),
    /// Send the caller's channel through the dialplan.
    Dialplan {
        /// The number to look up.
        extension: Template,
        /// Which dialplan, mostly `XML`.
        dialplan: String,
        /// In which context.
        context: String,
    },
}

/// One application of [`TransferRoute::Inline`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineTemplate {
    /// Its name.
    pub application: String,
    /// Its arguments, if it has any.
    pub arguments: Option<Template>,
}

/// A route with its target in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reach {
    /// Call this dial string, then bridge.
    Bridge(DialString),
    /// Hand the caller to these applications.
    Inline(Vec<Application>),
    /// Hand the caller to the dialplan.
    Dialplan(Extension),
}

/// Why transfer settings are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransferPlanError {
    /// The action begins with no known verb.
    #[error("the action for {kind} begins with {verb:?}; it must be bridge, inline or transfer")]
    Verb { kind: &'static str, verb: String },
    /// The words after the verb do not fit it.
    #[error("the action for {kind}: {error}")]
    Template { kind: &'static str, error: TemplateError },
    /// A name in the action is none.
    #[error("the action for {kind}: {name:?} is no name of {of}")]
    Name { kind: &'static str, of: &'static str, name: String },
    /// The switch could not be told so.
    #[error("the action for {kind}: {error}")]
    Command { kind: &'static str, error: CommandError },
    /// Words are left over.
    #[error("the action for {kind}: nothing may follow the context")]
    TooMany { kind: &'static str },
    /// A setting that goes into commands holds something that would break them.
    #[error("{setting} cannot be {value:?}")]
    Setting { setting: &'static str, value: String },
    /// The ring time-out is no use.
    #[error("the ring time-out must be 1 to 300 seconds")]
    RingTimeout,
}

/// Why a target cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No action is configured for its kind.
    #[error("no way to reach targets of type {0} is configured")]
    NoRoute(&'static str),
    /// Its kind hands the caller over; nobody is called who could join the call.
    #[error("a target of type {0} takes the caller over, it can't be called in")]
    NotCalled(&'static str),
    /// Nothing to call.
    #[error("the target is empty")]
    Empty,
    /// More than 256 bytes.
    #[error("the target is longer than {LONGEST_TARGET} bytes")]
    TooLong,
    /// It would mean something else to the switch than a target.
    #[error("{0:?} cannot be part of a target")]
    Character(char),
    /// The switch cannot be told so.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// How transfers of each kind are done. Made once, shared by all calls of a switch.
#[derive(Debug, Clone)]
pub struct TransferPlan {
    routes: [Option<TransferRoute>; TransferKind::ALL.len()],
    pub(super) ring_timeout: Duration,
    pub(super) ringback: MediaPath,
    pub(super) hold_music: MediaPath,
    pub(super) announcement: String,
}

impl Default for TransferPlan {
    fn default() -> Self {
        Self::new(&TransferSettings::default()).expect("the default settings are right")
    }
}

impl TransferPlan {
    /// Reads and checks all settings.
    ///
    /// The defaults call extensions by `user/{target}`, not through the dialplan: a stock dialplan sends an extension
    /// that is busy or silent to its voicemail, which answers, and the caller would never come back. Where call
    /// forwarding or hunting of the dialplan is wanted, `bridge loopback/{target}/{context}` gives it.
    pub fn new(settings: &TransferSettings) -> Result<Self, TransferPlanError> {
        let names = [
            ("domain", settings.domain.as_deref()),
            ("context", Some(settings.context.as_str())),
            ("gateway", settings.gateway.as_deref()),
            ("profile", Some(settings.profile.as_str())),
        ];
        for (setting, value) in names {
            if let Some(value) = value.filter(|value| !is_name(value)) {
                return Err(TransferPlanError::Setting { setting, value: value.to_owned() });
            }
        }
        let media = |setting, value: &str| {
            MediaPath::new(value)
                .map_err(|_| TransferPlanError::Setting { setting, value: value.to_owned() })
        };
        let ringback = media("ringback", &settings.ringback)?;
        let hold_music = media("hold_music", &settings.hold_music)?;
        if settings.announcement.len() > 1_000 {
            let value = settings.announcement.chars().take(40).collect();
            return Err(TransferPlanError::Setting { setting: "announcement", value });
        }
        if !(1..=300).contains(&settings.ring_timeout.as_secs()) {
            return Err(TransferPlanError::RingTimeout);
        }
        let places = Places {
            domain: settings.domain.as_deref(),
            context: &settings.context,
            gateway: settings.gateway.as_deref(),
            profile: &settings.profile,
        };
        let mut routes = [const { None }; TransferKind::ALL.len()];
        for kind in TransferKind::ALL {
            if let Some(action) = default_action(kind, settings) {
                routes[index(kind)] = Some(parse_route(kind, &action, places)?);
            }
        }
        for (kind, action) in &settings.actions {
            routes[index(*kind)] = Some(parse_route(*kind, action, places)?);
        }
        Ok(Self {
            routes,
            ring_timeout: settings.ring_timeout,
            ringback,
            hold_music,
            announcement: settings.announcement.clone(),
        })
    }

    /// How targets of `kind` are reached, if at all.
    pub fn route(&self, kind: TransferKind) -> Option<&TransferRoute> {
        self.routes[index(kind)].as_ref()
    }

    /// The way to `target` as the argument of the dialplan application `transfer`: `2001 XML default`, or
    /// `'voicemail:default pbx 2001' inline`.
    pub fn dialplan_argument(&self, target: &TransferTarget) -> Result<String, TargetError> {
        let uuid = ChannelUuid::from_random(0);
        let leg = TransferLeg::default();
        let command = match self.reach(target)? {
            Reach::Dialplan(to) => SwitchCommand::Transfer { uuid: uuid.clone(), leg, to },
            Reach::Inline(actions) => {
                SwitchCommand::TransferInline { uuid: uuid.clone(), leg, actions }
            }
            Reach::Bridge(dial) => {
                let bridge = Application::new("bridge", dial.as_str())?;
                SwitchCommand::TransferInline { uuid: uuid.clone(), leg, actions: vec![bridge] }
            }
        };
        let line = command.line();
        let (_, argument) = line.split_once(uuid.as_str()).expect("a transfer names its channel");
        Ok(argument.trim().to_owned())
    }

    /// Whom to call so that `target` joins a call.
    pub fn dial_string(&self, target: &TransferTarget) -> Result<DialString, TargetError> {
        match self.reach(target)? {
            Reach::Bridge(dial) => Ok(dial),
            Reach::Inline(_) | Reach::Dialplan(_) => {
                Err(TargetError::NotCalled(target.kind.name()))
            }
        }
    }

    /// How long a target may ring.
    pub fn ring_timeout(&self) -> Duration {
        self.ring_timeout
    }

    /// The way to `target`, once it has been checked.
    pub(super) fn reach(&self, target: &TransferTarget) -> Result<Reach, TargetError> {
        let route = self.route(target.kind).ok_or(TargetError::NoRoute(target.kind.name()))?;
        Ok(route.reach(checked(target)?)?)
    }
}

impl TransferRoute {
    fn reach(&self, target: &str) -> Result<Reach, CommandError> {
        Ok(match self {
            Self::Bridge(template) => Reach::Bridge(DialString::new(&template.fill(target))?),
            Self::Inline(actions) => {
                let actions = actions.iter().map(|action| {
                    let arguments = action.arguments.as_ref().map(|it| it.fill(target));
                    // A variable can only stand in the operator's part: targets hold no `$`.
                    Application::with_variables(&action.application, &arguments.unwrap_or_default())
                });
                Reach::Inline(actions.collect::<Result<_, _>>()?)
            }
            Self::Dialplan { extension, dialplan, context } => Reach::Dialplan(Extension {
                number: Word::new(&extension.fill(target))?,
                dialplan: Some(Word::new(dialplan)?),
                context: Some(Word::new(context)?),
            }),
        })
    }
}

/// Checks that `target` names one place and nothing else.
fn checked(target: &TransferTarget) -> Result<&str, TargetError> {
    let text = target.target.trim();
    let text = match target.kind {
        TransferKind::Sip => text.strip_prefix("sip:").unwrap_or(text),
        _ => text,
    };
    if text.is_empty() {
        return Err(TargetError::Empty);
    }
    if text.len() > LONGEST_TARGET {
        return Err(TargetError::TooLong);
    }
    let allowed = |c: char| {
        c.is_ascii_alphanumeric()
            || match target.kind {
                TransferKind::Extension | TransferKind::Ringgroup => {
                    matches!(c, '-' | '_' | '.' | '+' | '*' | '#')
                }
                TransferKind::External => matches!(c, '-' | '.' | '+' | '*' | '#'),
                TransferKind::Queue
                | TransferKind::Ivr
                | TransferKind::Voicemail
                | TransferKind::Conference => {
                    matches!(c, '-' | '_' | '.' | '+' | '*' | '#' | '@')
                }
                TransferKind::Sip => matches!(
                    c,
                    '-' | '_' | '.' | '+' | '*' | '#' | '@' | '!' | '~' | '=' | ';' | ':' | '%'
                ),
            }
    };
    match text.chars().find(|c| !allowed(*c)) {
        Some(c) => Err(TargetError::Character(c)),
        None => Ok(text),
    }
}

/// The action of a kind nobody configured.
fn default_action(kind: TransferKind, settings: &TransferSettings) -> Option<String> {
    let at_domain = if settings.domain.is_some() { "@{domain}" } else { "" };
    Some(match kind {
        TransferKind::Extension => format!("bridge user/{{target}}{at_domain}"),
        TransferKind::Queue => "inline callcenter:{target}".into(),
        TransferKind::Ringgroup => format!("bridge group/{{target}}{at_domain}"),
        TransferKind::Ivr => "inline ivr:{target}".into(),
        TransferKind::Voicemail => match &settings.domain {
            Some(_) => "inline voicemail:default {domain} {target}".into(),
            None => "inline voicemail:default ${domain} {target}".into(),
        },
        TransferKind::Conference => "inline conference:{target}@default".into(),
        TransferKind::External => {
            settings.gateway.as_ref()?;
            "bridge sofia/gateway/{gateway}/{target}".into()
        }
        TransferKind::Sip => "bridge sofia/{profile}/{target}".into(),
    })
}

/// Reads an action and tries it with a target as plain as can be.
fn parse_route(
    kind: TransferKind,
    action: &str,
    places: Places<'_>,
) -> Result<TransferRoute, TransferPlanError> {
    let route = parse_action(kind, action, places)?;
    match route.reach("1000") {
        Ok(_) => Ok(route),
        Err(error) => Err(TransferPlanError::Command { kind: kind.name(), error }),
    }
}

fn parse_action(
    kind: TransferKind,
    action: &str,
    places: Places<'_>,
) -> Result<TransferRoute, TransferPlanError> {
    let of = kind.name();
    let template = |text: &str| {
        Template::parse(text, places)
            .map_err(|error| TransferPlanError::Template { kind: of, error })
    };
    let checked_name = |what: &'static str, name: &str| match is_name(name) {
        true => Ok(name.to_owned()),
        false => Err(TransferPlanError::Name {
            kind: of,
            of: what,
            name: name.chars().take(40).collect(),
        }),
    };
    let action = action.trim();
    let (verb, rest) = action.split_once(' ').unwrap_or((action, ""));
    let rest = rest.trim();
    match verb {
        "bridge" => Ok(TransferRoute::Bridge(template(rest)?)),
        "inline" => {
            let mut actions = Vec::new();
            for action in rest.split(',').map(str::trim) {
                let (application, arguments) = match action.split_once(':') {
                    Some((application, arguments)) => (application, Some(template(arguments)?)),
                    None => (action, None),
                };
                let application = checked_name("an application", application)?;
                actions.push(InlineTemplate { application, arguments });
            }
            Ok(TransferRoute::Inline(actions))
        }
        "transfer" => {
            let mut words = rest.split_ascii_whitespace();
            let extension = template(words.next().unwrap_or_default())?;
            let dialplan = checked_name("a dialplan", words.next().unwrap_or("XML"))?;
            let context = match words.next() {
                None | Some("{context}") => places.context.to_owned(),
                Some(context) => checked_name("a context", context)?,
            };
            match words.next() {
                None => Ok(TransferRoute::Dialplan { extension, dialplan, context }),
                Some(_) => Err(TransferPlanError::TooMany { kind: of }),
            }
        }
        verb => {
            let verb = verb.chars().take(40).collect();
            Err(TransferPlanError::Verb { kind: of, verb })
        }
    }
}

fn is_name(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

const fn index(kind: TransferKind) -> usize {
    match kind {
        TransferKind::Extension => 0,
        TransferKind::Queue => 1,
        TransferKind::Ringgroup => 2,
        TransferKind::Ivr => 3,
        TransferKind::Voicemail => 4,
        TransferKind::Conference => 5,
        TransferKind::External => 6,
        TransferKind::Sip => 7,
    }
}

impl fmt::Display for TransferRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge(template) => write!(f, "bridge {template}"),
            Self::Inline(actions) => {
                for (index, action) in actions.iter().enumerate() {
                    f.write_str(if index == 0 { "inline " } else { "," })?;
                    f.write_str(&action.application)?;
                    if let Some(arguments) = &action.arguments {
                        write!(f, ":{arguments}")?;
                    }
                }
                Ok(())
            }
            Self::Dialplan { extension, dialplan, context } => {
                write!(f, "transfer {extension} {dialplan} {context}")
            }
        }
    }
}

#[cfg(test)]
mod tests;
