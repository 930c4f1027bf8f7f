//! Transfers that take the caller for good: to a queue, a menu, a mailbox, a room, or into the dialplan.
//!
//! Nobody answers there, so nothing fails after the fact; whether the place exists is asked before, where the switch
//! can say.

use std::time::Instant;

use tandem_call::TransferOutcome;

use super::{
    Channel, Purpose, after,
    transfer::{HAND_OVER_PATIENCE, Left, Step, TAKEN_WITHIN, Transfer},
    transfer_plan::Reach,
};
use crate::{
    AppArgs, Application, ChannelUuid, RawCommand, Reply, SwitchCommand, SwitchError, TransferLeg,
    VariableName, VariableValue, Word,
};

/// Modules of the applications that callers are handed to: an application the switch does not know ends the call.
const MODULES: [(&str, &str); 8] = [
    ("callcenter", "mod_callcenter"),
    ("fifo", "mod_fifo"),
    ("conference", "mod_conference"),
    ("voicemail", "mod_voicemail"),
    ("valet_park", "mod_valet_parking"),
    ("directory", "mod_directory"),
    ("httapi", "mod_httapi"),
    ("lua", "mod_lua"),
];

impl Channel {
    /// Asks what is still to be known of the place, or hands the caller over.
    pub(super) fn check_place(&mut self, now: Instant) {
        let Some(Transfer {
            step: Step::Checking { reach: Reach::Inline(actions), asked }, ..
        }) = &self.transfer
        else {
            return;
        };
        let question = questions(actions).nth(*asked);
        match question {
            Some(question) => {
                let command = question.command(&self.settings.uuid);
                self.out.order(command, Purpose::Check);
            }
            None => self.hand_over(now),
        }
    }

    /// The place exists, or not.
    pub(super) fn place_checked(&mut self, now: Instant, result: &Result<Reply, SwitchError>) {
        let Some(Transfer {
            step: Step::Checking { reach: Reach::Inline(actions), asked }, ..
        }) = &mut self.transfer
        else {
            return;
        };
        let Some(question) = questions(actions).nth(*asked) else { return };
        let (status, reason) = match result {
            Ok(reply) => match question.missing(reply) {
                None => {
                    *asked += 1;
                    return self.check_place(now);
                }
                Some(reason) => (Some(404), reason),
            },
            Err(error) => (None, error.to_string()),
        };
        self.end_transfer(now, Left::Nobody, TransferOutcome::Failed { status, reason });
    }

    pub(super) fn hand_over(&mut self, now: Instant) {
        let Some(transfer) = &mut self.transfer else { return };
        let Step::Checking { reach, .. } = &transfer.step else { return };
        let uuid = self.settings.uuid.clone();
        let leg = TransferLeg::Own;
        let (command, applications) = match reach.clone() {
            Reach::Inline(actions) => {
                let names = actions.iter().map(|action| action.name.to_string()).collect();
                (SwitchCommand::TransferInline { uuid, leg, actions }, names)
            }
            Reach::Dialplan(to) => (SwitchCommand::Transfer { uuid, leg, to }, Vec::new()),
            Reach::Bridge(_) => return,
        };
        // They are copied to whatever the switch calls for the caller next.
        let headers = transfer.headers.iter().filter_map(|(name, value)| {
            let name = VariableName::new(&format!("sip_h_{name}")).ok()?;
            Some((name, VariableValue::new(value).ok()?))
        });
        let variables: Vec<_> = headers.take(16).collect();
        transfer.step = Step::HandingOver { applications, accepted: false, moved: false };
        transfer.until = after(now, HAND_OVER_PATIENCE);
        if !variables.is_empty() {
            let uuid = self.settings.uuid.clone();
            let command = SwitchCommand::SetVariables { uuid, variables };
            self.out.order(command, Purpose::Nothing("uuid_setvar_multi"));
        }
        self.order_all_annotations();
        self.out.order(command, Purpose::HandOver);
    }

    /// The order to hand the caller over was carried out, or not.
    pub(super) fn handed_over(&mut self, now: Instant, result: Result<(), SwitchError>) {
        let Some(transfer) = &mut self.transfer else { return };
        let Step::HandingOver { accepted, .. } = &mut transfer.step else { return };
        match result {
            Ok(()) => {
                *accepted = true;
                transfer.until = after(now, TAKEN_WITHIN);
                self.settle_hand_over(now);
            }
            // It may have been: the events tell.
            Err(SwitchError::Unknown | SwitchError::TimedOut) => {}
            Err(error) => {
                let reason = error.to_string();
                let outcome = TransferOutcome::Failed { status: None, reason };
                self.end_transfer(now, Left::Nobody, outcome);
            }
        }
    }

    /// An application begins on the caller's channel. Gives back whether that was our doing.
    pub(super) fn hand_over_executes(&mut self, now: Instant, app: &str) -> bool {
        let Some(Transfer { step: Step::HandingOver { applications, moved, .. }, .. }) =
            &mut self.transfer
        else {
            return false;
        };
        if applications.is_empty() || applications.iter().any(|it| it == app) {
            *moved = true;
            self.settle_hand_over(now);
        }
        true
    }

    fn settle_hand_over(&mut self, now: Instant) {
        if let Some(Transfer {
            step: Step::HandingOver { accepted: true, moved: true, .. }, ..
        }) = self.transfer
        {
            self.complete_transfer(now);
        }
    }

    /// The caller waits again instead of being where it was sent.
    pub(super) fn hand_over_parked(&mut self, now: Instant) {
        let Some(Transfer { step: Step::HandingOver { applications, accepted, .. }, .. }) =
            &self.transfer
        else {
            return;
        };
        if *accepted
            && !applications.is_empty()
            && !applications.iter().any(|it| it.contains("park"))
        {
            let reason = "the caller was not taken there".to_owned();
            let outcome = TransferOutcome::Failed { status: None, reason };
            self.end_transfer(now, Left::Nobody, outcome);
        }
    }

    /// What the caller's channel does, after the event socket was down while the caller was handed over.
    pub(super) fn hand_over_recovered(
        &mut self,
        now: Instant,
        result: &Result<Reply, SwitchError>,
    ) {
        let applications = match self.transfer.as_ref().map(|transfer| &transfer.step) {
            Some(Step::Bridging { .. }) => return self.bridge_checked(now, result),
            Some(Step::HandingOver { applications, .. }) => applications,
            _ => return,
        };
        let dump = result.as_ref().ok().and_then(Reply::dump);
        let application = dump.as_ref().and_then(|dump| dump.variable("current_application"));
        let there = match application {
            Some("park" | "socket") | None => false,
            Some(app) => applications.is_empty() || applications.iter().any(|it| it == app),
        };
        if there {
            return self.complete_transfer(now);
        }
        let reason = "the event socket was lost meanwhile".to_owned();
        let outcome = TransferOutcome::Failed { status: None, reason };
        self.end_transfer(now, Left::Nobody, outcome);
    }
}

/// What the switch is asked before it is given the caller.
enum Question {
    /// Whether mod_callcenter has this queue.
    Queue(String),
    /// Whether a module is there.
    Module(Word),
    /// Whether somebody has this mailbox.
    Mailbox { mailbox: Word, domain: AppArgs },
    /// Whether there is this menu.
    Menu(String),
}

/// All there is to ask about `actions`.
fn questions(actions: &[Application]) -> impl Iterator<Item = Question> {
    actions.iter().flat_map(|action| {
        let (name, arguments) = (action.name.as_str(), action.args.as_str());
        let place = match name {
            "callcenter" => Some(Question::Queue(arguments.to_owned())),
            "ivr" => Some(Question::Menu(arguments.to_owned())),
            "voicemail" => mailbox(arguments),
            _ => None,
        };
        let module = MODULES.iter().find(|(application, _)| *application == name);
        let module = module.and_then(|(_, module)| Word::new(module).ok()).map(Question::Module);
        module.into_iter().chain(place)
    })
}

/// The mailbox that `voicemail` takes a message for: `<profile> <domain> <mailbox>`; its other uses are not asked about.
fn mailbox(arguments: &str) -> Option<Question> {
    let words: Vec<_> = arguments.split(' ').collect();
    let [_profile, domain, mailbox] = words[..] else { return None };
    let (mailbox, domain) = (Word::new(mailbox).ok()?, AppArgs::with_variables(domain).ok()?);
    Some(Question::Mailbox { mailbox, domain })
}

impl Question {
    fn command(self, uuid: &ChannelUuid) -> SwitchCommand {
        match self {
            Self::Queue(_) => SwitchCommand::Raw(
                RawCommand::new("callcenter_config queue list").expect("it is among those allowed"),
            ),
            Self::Module(module) => SwitchCommand::ModuleExists { module },
            Self::Mailbox { mailbox, domain } => {
                SwitchCommand::MailboxExists { uuid: uuid.clone(), mailbox, domain }
            }
            Self::Menu(_) => SwitchCommand::Menus,
        }
    }

    /// What is missing, by the switch's answer.
    fn missing(&self, reply: &Reply) -> Option<String> {
        match self {
            Self::Queue(queue) => {
                let mut queues = reply.text().lines().filter_map(|line| line.split('|').next());
                let known = queues.any(|known| known == queue);
                (!known).then(|| format!("the switch has no queue {queue:?}"))
            }
            Self::Module(module) => {
                (!reply.flag()).then(|| format!("the switch does not have {module} loaded"))
            }
            Self::Mailbox { mailbox, .. } => {
                (!reply.flag()).then(|| format!("the switch has no mailbox {:?}", mailbox.as_str()))
            }
            Self::Menu(menu) => {
                // Where it lists none they are made on demand, and nobody knows beforehand.
                let mut menus = reply.text().split("<menu ").skip(1).peekable();
                menus.peek()?;
                let name = format!("name=\"{menu}\"");
                let named = |it: &str| it.split('>').next().is_some_and(|it| it.contains(&name));
                (!menus.any(named)).then(|| format!("the switch has no menu {menu:?}"))
            }
        }
    }
}
