//! Calls of which nothing but their fork is known, until a switch says that it has their channel.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tandem_call::{HangupCause, SignalCommand, SignalEvent, TransferOutcome};
use tandem_exchange::{ForkReport, Signalling};
use tandem_pbx::{ChannelInput, ChannelUuid, LinkState, Switch, SwitchCommand};
use tokio::{sync::mpsc, task::JoinSet};

use super::{side::ChannelSignalling, whereabouts::is_up};

/// The signalling of a call of which nothing but its fork is known: it is up, and over when the fork is. Until its channel
/// is found after all.
pub(crate) struct LoneFork {
    reports: mpsc::WeakSender<ForkReport>,
    channel: Mutex<Known>,
}

/// What is known of a lone fork's channel.
enum Known {
    /// Nothing: what it would have been told.
    Nothing(BTreeMap<String, String>),
    /// It is followed.
    Followed(ChannelSignalling),
}

/// Variables kept for a channel that may be found.
const MOST_KEPT: usize = 64;

impl LoneFork {
    pub(crate) fn new(reports: mpsc::WeakSender<ForkReport>) -> Self {
        Self { reports, channel: Mutex::new(Known::Nothing(BTreeMap::new())) }
    }

    /// From now on the channel that takes `inputs` has the orders, after what was kept for it.
    pub(super) fn follow(&self, inputs: mpsc::Sender<ChannelInput>) {
        let mut channel = self.channel();
        let known = ChannelSignalling::new(inputs);
        if let Known::Nothing(kept) = &mut *channel {
            known.order(SignalCommand::Answer);
            known.send(ChannelInput::Media { attached: true });
            let variables = std::mem::take(kept).into_iter().collect();
            known.order(SignalCommand::Annotate { variables });
        }
        *channel = Known::Followed(known);
    }

    fn channel(&self) -> MutexGuard<'_, Known> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: SignalEvent) {
        if let Some(reports) = self.reports.upgrade() {
            reports.try_send(ForkReport::Signal(event)).ok(); // Full: the call is told by the end of its fork.
        }
    }
}

impl Signalling for LoneFork {
    fn order(&self, command: SignalCommand) {
        let mut channel = self.channel();
        let kept = match &mut *channel {
            Known::Nothing(kept) => kept,
            Known::Followed(known) => return known.order(command),
        };
        match command {
            SignalCommand::Answer => self.tell(SignalEvent::Answered),
            SignalCommand::Reject { cause } | SignalCommand::HangUp { cause } => {
                self.tell(SignalEvent::HungUp { cause });
            }
            SignalCommand::Transfer { .. } => {
                let reason = "the switch's event socket is not connected".to_owned();
                let failed = TransferOutcome::Failed { status: None, reason };
                self.tell(SignalEvent::Transfer(failed));
            }
            SignalCommand::Annotate { variables } => {
                for (name, value) in variables {
                    if kept.len() < MOST_KEPT || kept.contains_key(&name) {
                        kept.insert(name, value);
                    }
                }
            }
            SignalCommand::BreakPlayback => {}
        }
    }

    fn media_flows(&self) {
        if let Known::Followed(known) = &*self.channel() {
            known.media_flows();
        }
    }

    fn media_lost(&self, why: &str) {
        if let Known::Followed(known) = &*self.channel() {
            return known.media_lost(why);
        }
        self.tell(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    }
}

/// The switch that knows `uuid`, once it is connected; waits for ever where none does.
pub(super) async fn switch_to_come(switches: &[Switch], uuid: &ChannelUuid) -> Switch {
    let mut asking = JoinSet::new();
    for switch in switches {
        let (mut switch, uuid) = (switch.clone(), uuid.clone());
        asking.spawn(async move {
            loop {
                let exists = SwitchCommand::Exists { uuid: uuid.clone() };
                if is_up(&switch)
                    && let Ok(reply) = switch.execute(exists).await
                    && reply.flag()
                {
                    return Some(switch);
                }
                if switch.changed().await == LinkState::Stopped {
                    return None;
                }
            }
        });
    }
    while let Some(asked) = asking.join_next().await {
        if let Ok(Some(switch)) = asked {
            return switch;
        }
    }
    std::future::pending().await
}
