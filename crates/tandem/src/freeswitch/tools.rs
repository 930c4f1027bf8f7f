//! Carries out the controls of a switch on the call's own channel.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tandem_call::{CallId, ToolCall, ToolOutcome, TransferRoutes};
use tandem_exchange::ToolReply;
use tandem_pbx::{
    ChannelInput, ChannelUuid, Control, ControlError, ControlFailure, ControlOutcome, Direction,
    Reply, SwitchError, TransferPlan,
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    task::AbortHandle,
};

use super::asked::{About, Planned, Spell};
use crate::config::SwitchTools;

/// Who has not answered by then is still being called, for all the model knows.
const PERSON_ANSWERS: Duration = Duration::from_secs(5);

/// A spell that could not be ended is tried again after this.
const END_AGAIN: Duration = Duration::from_secs(5);

/// What the switch says for its refusal, in bytes, and a value of its own that a model is given.
const LONGEST_WORDS: usize = 300;
const LONGEST_VALUE: usize = 4_096;

/// The tools of all calls. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ChannelTools(Arc<Inner>);

struct Inner {
    /// Where what takes time is waited for.
    runtime: Handle,
    tools: SwitchTools,
    live: Mutex<HashMap<CallId, Arc<LiveChannel>>>,
}

/// A call's channel as its tools see it.
pub(crate) struct LiveChannel {
    inputs: mpsc::Sender<ChannelInput>,
    transfers: Arc<TransferPlan>,
    routes: TransferRoutes,
    room: String,
    recordings: AtomicU32,
    spells: Mutex<Spells>,
}

/// What waits to end the hold of a channel, and the muting of either side.
#[derive(Default)]
struct Spells {
    hold: Option<AbortHandle>,
    caller_mute: Option<AbortHandle>,
    agent_mute: Option<AbortHandle>,
}

/// A call's channel can be controlled for as long as this is kept.
pub(crate) struct Controllable {
    tools: ChannelTools,
    call_id: CallId,
}

impl ChannelTools {
    /// The tools of a daemon, with what its operator allows. Called on the runtime that has its network.
    pub(crate) fn new(tools: SwitchTools) -> Self {
        let runtime = Handle::current();
        Self(Arc::new(Inner { runtime, tools, live: Mutex::default() }))
    }

    /// Lets the tools of `call_id` control `channel`.
    #[must_use]
    pub(crate) fn add(&self, call_id: CallId, channel: LiveChannel) -> Controllable {
        self.live().insert(call_id.clone(), Arc::new(channel));
        Controllable { tools: self.clone(), call_id }
    }

    /// Begins the control that `call_id` asks for.
    pub(crate) fn start(&self, call_id: &CallId, call: ToolCall, reply: ToolReply) {
        let tool = call.name.clone();
        match self.order(call_id, call) {
            Ok(ordered) => {
                tracing::info!(tool, "the agent controls its channel");
                self.0.runtime.spawn(ordered.finish(self.0.runtime.clone(), reply));
            }
            Err(why) => {
                tracing::info!(tool, why, "a control is refused");
                reply.send(ToolOutcome::Failed(why).into());
            }
        }
    }

    /// Orders what is asked for; how it comes out is still to be waited for.
    fn order(&self, call_id: &CallId, call: ToolCall) -> Result<Ordered, String> {
        let channel = self.live().get(call_id).cloned();
        let channel =
            channel.ok_or("this call has no event socket: its channel can't be controlled")?;
        let arguments =
            call.arguments.map_err(|text| format!("the arguments are no JSON object: {text}"))?;
        let number = channel.recordings.load(Ordering::Relaxed) + 1;
        let about = About {
            tools: &self.0.tools,
            transfers: &channel.transfers,
            target: &|department| channel.routes.resolve(department).cloned(),
            own_room: &channel.room,
            recording: &format!("{call_id}-{number}"),
        };
        let planned =
            Planned::read(&call.name, arguments, &about).map_err(|error| error.to_string())?;
        if matches!(planned.control, Control::Record { .. }) {
            channel.recordings.store(number, Ordering::Relaxed);
        }
        let outcome = channel.send(planned.control.clone()).map_err(str::to_owned)?;
        Ok(Ordered { planned, outcome, channel })
    }

    fn live(&self) -> MutexGuard<'_, HashMap<CallId, Arc<LiveChannel>>> {
        // Whoever panicked left a whole map behind: it is changed in single steps.
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Controllable {
    fn drop(&mut self) {
        self.tools.live().remove(&self.call_id);
    }
}

impl LiveChannel {
    /// The channel `uuid`, which takes `inputs`. Its agent hands callers to `routes`.
    pub(crate) fn new(
        uuid: &ChannelUuid,
        inputs: mpsc::Sender<ChannelInput>,
        transfers: Arc<TransferPlan>,
        routes: TransferRoutes,
    ) -> Self {
        Self {
            inputs,
            transfers,
            routes,
            room: format!("tandem-{uuid}"),
            recordings: AtomicU32::new(0),
            spells: Mutex::default(),
        }
    }

    fn send(&self, control: Control) -> Result<oneshot::Receiver<ControlOutcome>, &'static str> {
        let (outcome, coming) = oneshot::channel();
        match self.inputs.try_send(ChannelInput::Control { control, outcome }) {
            Ok(()) => Ok(coming),
            Err(mpsc::error::TrySendError::Full(_)) => Err("too much is ordered of the channel"),
            Err(mpsc::error::TrySendError::Closed(_)) => Err("the call is over"),
        }
    }

    /// The end of `spell` is no longer waited for, or is awaited by `end`.
    fn set_end(&self, spell: Spell, end: Option<AbortHandle>) {
        let mut spells = self.spells.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = match spell {
            Spell::Hold => &mut spells.hold,
            Spell::Mute(Direction::Read) => &mut spells.caller_mute,
            Spell::Mute(Direction::Write) => &mut spells.agent_mute,
        };
        if let Some(old) = std::mem::replace(slot, end) {
            old.abort();
        }
    }
}

impl Drop for LiveChannel {
    fn drop(&mut self) {
        for spell in [Spell::Hold, Spell::Mute(Direction::Read), Spell::Mute(Direction::Write)] {
            self.set_end(spell, None);
        }
    }
}

/// A control on its way.
struct Ordered {
    planned: Planned,
    outcome: oneshot::Receiver<ControlOutcome>,
    channel: Arc<LiveChannel>,
}

impl Ordered {
    async fn finish(self, runtime: Handle, reply: ToolReply) {
        let Self { planned: Planned { control, done, begins, ends }, outcome, channel } = self;
        let outcome = match control {
            Control::Eavesdrop(_) | Control::ThreeWay { .. } => {
                match tokio::time::timeout(PERSON_ANSWERS, outcome).await {
                    Ok(outcome) => outcome,
                    Err(_) => {
                        return reply
                            .send(ToolOutcome::Answered(json!({ "status": "calling" })).into());
                    }
                }
            }
            _ => outcome.await,
        };
        let Ok(outcome) = outcome else {
            return reply.send(ToolOutcome::Failed("the call is over".into()).into());
        };
        if let Some((spell, span)) = begins
            && may_be_done(&outcome)
        {
            let ending = end_later(Arc::downgrade(&channel), spell, span);
            channel.set_end(spell, Some(runtime.spawn(ending).abort_handle()));
        }
        if outcome.is_ok() {
            ends.iter().for_each(|spell| channel.set_end(*spell, None));
        }
        let outcome = match outcome {
            Ok(said) => told(&control, done, &said),
            Err(failure) => ToolOutcome::Failed(words(&failure)),
        };
        reply.send(outcome.into());
    }
}

/// Ends `spell` after `span`, and tries again for as long as the switch can't be reached and the call lives.
async fn end_later(channel: std::sync::Weak<LiveChannel>, spell: Spell, span: Duration) {
    tokio::time::sleep(span).await;
    loop {
        let Some(outcome) = channel.upgrade().map(|channel| channel.send(spell.end())) else {
            return;
        };
        let failure = match outcome {
            Ok(outcome) => match outcome.await {
                Ok(Err(failure)) => failure.to_string(),
                Ok(Ok(_)) | Err(_) => return,
            },
            Err(failure) => failure.to_owned(),
        };
        if failure == ControlError::NotHeld.to_string()
            || failure == ControlError::NotUp.to_string()
        {
            return;
        }
        tracing::warn!(?spell, failure, "could not be ended yet");
        tokio::time::sleep(END_AGAIN).await;
    }
}

/// Whether the switch did it, or may have.
fn may_be_done(outcome: &ControlOutcome) -> bool {
    matches!(
        outcome,
        Ok(_) | Err(ControlFailure::Switch(SwitchError::TimedOut | SwitchError::Unknown))
    )
}

/// `done`, and what the switch `said` beyond that it did it.
fn told(control: &Control, mut done: Value, said: &Reply) -> ToolOutcome {
    match control {
        Control::GetVariable(_) => {
            done["value"] = said.value().map(|value| clip(value, LONGEST_VALUE)).into();
        }
        Control::ValetPark { .. } => {
            done["slot"] = said.value().filter(|slot| !slot.is_empty()).into();
        }
        Control::GatewayStatus(_) => match gateway_field(said.text(), "Status") {
            Some(status) => {
                done["status"] = status.to_ascii_lowercase().into();
                done["registration"] = gateway_field(said.text(), "State").into();
            }
            None => return ToolOutcome::Failed(refused(said.text())),
        },
        _ => {}
    }
    ToolOutcome::Answered(done)
}

/// A line `Status   UP` of `sofia status gateway`.
fn gateway_field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name)).then(|| words.next()).flatten()
    })
}

/// Why it was not done, for the model; the switch's own words where it said something.
fn words(failure: &ControlFailure) -> String {
    match failure {
        ControlFailure::Switch(SwitchError::Refused { reason }) => refused(reason),
        ControlFailure::Control(ControlError::AlreadyRecording(_)) => {
            "the call is being recorded already".into() // The path is the operator's affair.
        }
        failure => failure.to_string(),
    }
}

fn refused(reason: &str) -> String {
    format!("the switch refused: {}", clip(reason.trim(), LONGEST_WORDS))
}

fn clip(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

#[cfg(test)]
mod tests;
