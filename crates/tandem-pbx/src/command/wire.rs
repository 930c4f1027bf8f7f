//! Commands as they go over the socket.

use super::{
    Application, ChannelUuid, Direction, RecordAction, SwitchCommand, Travel, ValetSlot,
    VariableName, VariableValue, fork, line, originate,
};

impl SwitchCommand {
    /// The API command with its arguments, as it stands behind `api `; for [`SwitchCommand::Execute`] the whole
    /// `sendmsg`.
    pub fn line(&self) -> String {
        let mut line = String::from(self.name());
        if !matches!(self, Self::Version | Self::Raw(_)) {
            line.push(' ');
        }
        self.arguments(&mut line);
        line
    }

    fn arguments(&self, out: &mut String) {
        let mut add = |text: &str| out.push_str(text);
        match self {
            Self::Answer { uuid }
            | Self::PreAnswer { uuid }
            | Self::RingReady { uuid }
            | Self::Park { uuid }
            | Self::Hold { uuid }
            | Self::Exists { uuid }
            | Self::BugList { uuid } => add(uuid.as_str()),
            Self::HangUp { uuid, cause } => add(&format!("{uuid} {cause}")),
            Self::HangUpCalled { leg, cause } => {
                add(&format!("{cause} {} {leg}", originate::CALLED_BY));
            }
            Self::Transfer { uuid, leg, to } => {
                add(uuid.as_str());
                add(leg.flag());
                add(" ");
                to.arguments(out);
            }
            Self::TransferInline { uuid, leg, actions } => {
                add(uuid.as_str());
                add(leg.flag());
                add(" ");
                inline(actions, out);
            }
            Self::Bridge { uuid, other } => add(&format!("{uuid} {other}")),
            Self::ValetPark { uuid, lot, slot } => add(&match slot {
                ValetSlot::Slot(slot) => format!("{uuid} 'valet_park:{lot} {slot}' inline"),
                ValetSlot::Range { first, last } => {
                    format!("{uuid} 'valet_park:{lot} auto in {first} {last}' inline")
                }
            }),
            Self::Unhold { uuid } => add(&format!("off {uuid}")),
            Self::SendDigits { uuid, digits, duration } => {
                add(&format!("{uuid} {digits}"));
                if let Some(duration) = duration {
                    add(&format!("@{}", duration.as_millis().clamp(40, 5_000)));
                }
            }
            Self::ReceiveDigits { uuid, digits } => add(&format!("{uuid} {digits}")),
            Self::Break { uuid, all } => add(&format!("{uuid}{}", if *all { " all" } else { "" })),
            Self::Broadcast { uuid, what, leg } => {
                add(&format!("{uuid} "));
                line::quote(&what.to_text(), out);
                out.push(' ');
                out.push_str(leg.name());
            }
            Self::Mute { uuid, direction, on } => {
                let direction = match direction {
                    Direction::Read => "read",
                    Direction::Write => "write",
                };
                add(&format!("{uuid} start {direction} mute {}", u8::from(*on)));
            }
            Self::Unmute { uuid } => add(&format!("{uuid} stop")),
            Self::Record { uuid, action, path } => {
                add(&format!("{uuid} {} {path}", action.verb()));
                if let RecordAction::Start { limit: Some(limit) } = action {
                    add(&format!(" {}", limit.as_secs().clamp(1, 86_400)));
                }
            }
            Self::Eavesdrop(eavesdrop) => eavesdrop.call().arguments(out),
            Self::Conference { name, command } => {
                add(&format!("{name} "));
                command.arguments(out);
            }
            Self::ThreeWay { uuid, conference, profile } => {
                add(&format!("{uuid} -both conference:{conference}@{profile} inline"));
            }
            Self::Originate(originate) => originate.arguments(out),
            Self::AttendedTransferByKeys { uuid, target } => {
                add(&format!("{uuid} att_xfer::{target} aleg"));
            }
            Self::SetVariables { uuid, variables } => set_variables(uuid, variables, out),
            Self::GetVariable { uuid, name } => add(&format!("{uuid} {name}")),
            Self::Dump { uuid } => add(&format!("{uuid} json")),
            Self::ShowChannels => add("channels as json"),
            Self::GatewayStatus { gateway } => add(&format!("status gateway {gateway}")),
            Self::ForkStart(start) => start.arguments(out),
            Self::ForkStop { fork, text } => fork::verb(fork, "stop", text.as_ref(), out),
            Self::ForkPause { fork } => fork::verb(fork, "pause", None, out),
            Self::ForkResume { fork } => fork::verb(fork, "resume", None, out),
            Self::ForkSendText { fork, text } => fork::verb(fork, "send_text", Some(text), out),
            Self::ForkShutdown { fork } => fork::verb(fork, "graceful-shutdown", None, out),
            Self::StopPlay { uuid } => add(&format!("{uuid} stop_play")),
            Self::Deflect { uuid, uri } => add(&format!("{uuid} {uri}")),
            Self::Execute { uuid, application, tag, lock } => {
                add(&format!(
                    "{uuid}\ncall-command: execute\nexecute-app-name: {}",
                    application.name
                ));
                if !application.args.as_str().is_empty() {
                    add(&format!("\nexecute-app-arg: {}", application.args));
                }
                if let Some(tag) = tag {
                    add(&format!("\nevent-uuid: {tag}"));
                }
                if *lock {
                    add("\nevent-lock: true");
                }
            }
            Self::ModuleExists { module } => add(module.as_str()),
            // As mod_voicemail itself looks for it.
            Self::MailboxExists { uuid, mailbox, domain } => {
                add(&format!("uuid:{uuid} user_exists id:number-alias {mailbox} {domain}"));
            }
            Self::Menus => add("configuration configuration name ivr.conf"),
            Self::Version => {}
            Self::Raw(raw) => add(raw.as_str()),
        }
    }

    /// Appends the whole command to `out` as it goes over the socket, with the blank line that ends it.
    pub(crate) fn write(&self, job: &ChannelUuid, out: &mut Vec<u8>) {
        let line = self.line();
        match self.travel() {
            Travel::Api => out.extend_from_slice(format!("api {line}\n\n").as_bytes()),
            Travel::Background => {
                out.extend_from_slice(format!("bgapi {line}\nJob-UUID: {job}\n\n").as_bytes());
            }
            Travel::Message => out.extend_from_slice(format!("{line}\n\n").as_bytes()),
        }
    }
}

/// `'app:args,app:args' inline`: split at "," within one argument.
fn inline(actions: &[Application], out: &mut String) {
    let mut list = String::new();
    for Application { name, args } in actions {
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(name.as_str());
        if !args.as_str().is_empty() {
            list.push(':');
            line::escape(args.as_str(), ',', &mut list);
        }
    }
    line::quote(&list, out);
    out.push_str(" inline");
}

fn set_variables(
    uuid: &ChannelUuid,
    variables: &[(VariableName, VariableValue)],
    out: &mut String,
) {
    out.push_str(uuid.as_str());
    if let [(name, value)] = variables {
        out.push_str(&format!(" {name}"));
        if !value.as_str().is_empty() {
            out.push(' ');
            line::escape(value.as_str(), ' ', out);
        }
        return;
    }
    for (n, (name, value)) in variables.iter().enumerate() {
        out.push_str(if n == 0 { " " } else { ";" });
        out.push_str(&format!("{name}="));
        line::escape(value.as_str(), ';', out);
    }
}
