//! A channel machine, the switch that answers it, and the call that listens.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tandem_call::{
    HangupCause, SignalCommand, SignalEvent, TransferKind, TransferMode, TransferOutcome,
    TransferTarget,
};
use tandem_media::SampleRate;
use tandem_pbx::{
    CallerIdentity, Cause, Channel, ChannelEvent, ChannelEventKind, ChannelLink, ChannelNote,
    ChannelOrder, ChannelOutput, ChannelSettings, ChannelUuid, ForkEvent, ForkModule, ForkPlan,
    ForkSource, ForkUrl, Mix, Reply, SwitchCommand, SwitchError, Ticket, TransferPlan,
    TransferSettings,
};

pub(crate) const OWN: &str = "9d1e6a52-7f4c-4f0a-8a1b-0c5f7b1f2e11";
pub(crate) const TARGET: &str = "5e551000-0000-4000-8000-000000000021";
pub(crate) const STRANGER: &str = "11111111-2222-4333-8444-555555555555";

pub(crate) fn uuid(text: &str) -> ChannelUuid {
    ChannelUuid::new(text).unwrap()
}

pub(crate) fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(crate) const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) fn ok(text: &str) -> Result<Reply, SwitchError> {
    Ok(Reply::new(text))
}

pub(crate) fn refused(reason: &str) -> Result<Reply, SwitchError> {
    Err(SwitchError::Refused { reason: reason.to_owned() })
}

pub(crate) fn fork_plan() -> ForkPlan {
    ForkPlan {
        module: ForkModule::AudioForkBidirectional,
        bug: None,
        url: ForkUrl::new("ws://127.0.0.1:9900/fork/jambonz").unwrap(),
        mix: Mix::Mono,
        rate: SampleRate::from_hz(16_000).unwrap(),
        metadata: None,
        back: Some(SampleRate::from_hz(8_000).unwrap()),
        variables: Vec::new(),
    }
}

pub(crate) fn settings() -> ChannelSettings {
    ChannelSettings {
        uuid: uuid(OWN),
        answered: false,
        caller: CallerIdentity { number: Some("+13055550100".into()), name: Some("Ann".into()) },
        fork: ForkSource::Ours(Box::new(fork_plan())),
        transfers: Arc::new(
            TransferPlan::new(&TransferSettings {
                gateway: Some("trunk1".into()),
                ..TransferSettings::default()
            })
            .unwrap(),
        ),
        carried: vec![("tenant".into(), "acme".into())],
        fallback: None,
        seed: 7,
    }
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) channel: Channel,
    /// What the switch says to commands of this name, next; anything else is carried out.
    answers: VecDeque<(&'static str, Result<Reply, SwitchError>)>,
    /// Commands of these names get no answer until the test gives one.
    held_back: Vec<&'static str>,
    pub(crate) pending: Vec<(Ticket, SwitchCommand)>,
    /// Every command line, in order.
    pub(crate) lines: Vec<String>,
    pub(crate) events: Vec<SignalEvent>,
    pub(crate) orders: Vec<ChannelOrder>,
    pub(crate) notes: Vec<ChannelNote>,
}

impl World {
    pub(crate) fn new(settings: ChannelSettings) -> Self {
        Self {
            now: Instant::now(),
            channel: Channel::new(settings),
            answers: VecDeque::new(),
            held_back: vec!["originate"],
            pending: Vec::new(),
            lines: Vec::new(),
            events: Vec::new(),
            orders: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// A call that is answered, with its fork connected; what led there is forgotten.
    pub(crate) fn talking() -> Self {
        Self::talking_with(settings())
    }

    pub(crate) fn talking_with(settings: ChannelSettings) -> Self {
        let mut world = Self::new(settings);
        world.command(SignalCommand::Answer);
        world.own(ChannelEventKind::Answered);
        world.fork(ForkEvent::Connected);
        assert_eq!(world.take_events(), [SignalEvent::Answered]);
        world.lines.clear();
        world
    }

    pub(crate) fn next_answer(&mut self, name: &'static str, answer: Result<Reply, SwitchError>) {
        self.answers.push_back((name, answer));
    }

    pub(crate) fn hold_back(&mut self, name: &'static str) {
        self.held_back.push(name);
    }

    pub(crate) fn command(&mut self, command: SignalCommand) {
        self.channel.handle_command(self.now, command);
        self.settle();
    }

    pub(crate) fn hang_up(&mut self) {
        self.command(SignalCommand::HangUp { cause: HangupCause::NormalClearing });
    }

    pub(crate) fn transfer(&mut self, kind: TransferKind, target: &str) {
        self.command(SignalCommand::Transfer {
            target: TransferTarget::new(kind, target),
            headers: vec![("X-Tandem-Reason".into(), "billing".into())],
        });
    }

    pub(crate) fn transfer_attended(&mut self, kind: TransferKind, target: &str) {
        let target =
            TransferTarget { mode: TransferMode::Attended, ..TransferTarget::new(kind, target) };
        let headers = vec![("X-Tandem-Reason".into(), "billing".into())];
        self.command(SignalCommand::Transfer { target, headers });
    }

    pub(crate) fn own(&mut self, kind: ChannelEventKind) {
        self.event(OWN, kind);
    }

    pub(crate) fn event(&mut self, of: &str, kind: ChannelEventKind) {
        self.channel.handle_event(self.now, &ChannelEvent::new(uuid(of), kind));
        self.settle();
    }

    pub(crate) fn told(&mut self, event: &ChannelEvent) {
        self.channel.handle_event(self.now, event);
        self.settle();
    }

    pub(crate) fn own_hangs_up(&mut self, cause: &str) {
        self.own(ChannelEventKind::HungUp { cause: Cause::from_name(cause) });
    }

    pub(crate) fn executed(&mut self, app: &str) {
        let (app, args) = (app.to_owned(), String::new());
        self.own(ChannelEventKind::Executed { app, args, tag: None });
    }

    pub(crate) fn fork(&mut self, event: ForkEvent) {
        let module = ForkModule::AudioFork;
        self.own(ChannelEventKind::Fork { module, bug: None, event });
    }

    /// Our end of the websocket opened, or audio has come by it; or it was lost.
    pub(crate) fn media(&mut self, attached: bool) {
        self.channel.handle_media(self.now, attached);
        self.settle();
    }

    pub(crate) fn link(&mut self, link: ChannelLink) {
        self.channel.handle_link(self.now, link);
        self.settle();
    }

    /// The event socket is lost: what was sent has an unknown fate.
    pub(crate) fn link_lost(&mut self) {
        for (ticket, _) in std::mem::take(&mut self.pending) {
            self.channel.handle_result(self.now, ticket, Err(SwitchError::Unknown));
        }
        self.link(ChannelLink::Down);
    }

    /// Answers the oldest pending command of this name.
    pub(crate) fn answer(&mut self, name: &str, answer: Result<Reply, SwitchError>) {
        let index = self.pending.iter().position(|(_, command)| command.name() == name);
        let (ticket, _) = self.pending.remove(index.expect("the command was given"));
        self.channel.handle_result(self.now, ticket, answer);
        self.settle();
    }

    pub(crate) fn target_answers(&mut self) {
        self.answer("originate", ok(&format!("+OK {TARGET}\n")));
    }

    pub(crate) fn announced(&mut self) {
        self.channel.handle_announced(self.now, &uuid(TARGET));
        self.settle();
    }

    /// Lets time pass, doing what is due in it.
    pub(crate) fn run(&mut self, span: Duration) {
        self.settle();
        let until = self.now + span;
        let mut steps = 0;
        while let Some(due) = self.channel.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.channel.handle_timeout(self.now);
            self.settle();
            steps += 1;
            assert!(steps < 1_000, "the machine does not come to rest");
        }
        self.now = until;
    }

    fn settle(&mut self) {
        while let Some(output) = self.channel.poll_output() {
            match output {
                ChannelOutput::Order(ChannelOrder::Switch { ticket, command }) => {
                    self.lines.push(command.line());
                    let name = command.name();
                    let answer = self.answers.iter().position(|(of, _)| *of == name);
                    if let Some(index) = answer {
                        let (_, answer) = self.answers.remove(index).unwrap();
                        self.channel.handle_result(self.now, ticket, answer);
                    } else if self.held_back.contains(&name) {
                        self.pending.push((ticket, *command));
                    } else {
                        let asks = matches!(name, "module_exists" | "expand");
                        let answer = ok(if asks { "true" } else { "+OK\n" });
                        self.channel.handle_result(self.now, ticket, answer);
                    }
                }
                ChannelOutput::Order(order) => self.orders.push(order),
                ChannelOutput::Event(event) => self.events.push(event),
                ChannelOutput::Note(note) => self.notes.push(note),
            }
        }
    }

    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    pub(crate) fn take_events(&mut self) -> Vec<SignalEvent> {
        std::mem::take(&mut self.events)
    }

    /// The command lines without the channel's name, shorter to compare.
    pub(crate) fn take_short_lines(&mut self) -> Vec<String> {
        let lines = self.take_lines();
        lines.iter().map(|line| line.replace(OWN, "OWN").replace(TARGET, "TARGET")).collect()
    }

    pub(crate) fn failure(&mut self) -> (Option<u16>, String) {
        match self.take_events().as_slice() {
            [SignalEvent::Transfer(TransferOutcome::Failed { status, reason })] => {
                (*status, reason.clone())
            }
            other => panic!("no failed transfer, but {other:?}"),
        }
    }
}

pub(crate) fn hung_up(cause: HangupCause) -> SignalEvent {
    SignalEvent::HungUp { cause }
}

pub(crate) fn completed() -> [SignalEvent; 2] {
    [SignalEvent::Transfer(TransferOutcome::Completed), hung_up(HangupCause::NormalClearing)]
}
