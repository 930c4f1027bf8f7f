//! Takes a channel over from the connection by which its dialplan handed it over.
//!
//! When that connection ends the channel stops waiting (`park`), whatever it was sent to meanwhile, and goes on with what
//! comes next. Where a link of ours reaches the switch the channel is therefore sent to wait three times in a row before the connection is
//! let go of: the end of it costs one of them. What breaks our link then breaks no call.

use std::time::Duration;

use tandem_call::HangupCause;
use tandem_pbx::{
    Application, ChannelEventKind, ChannelNotice, ChannelUuid, ChannelWatch, CommandError,
    OutboundChannel, Switch, SwitchCommand, SwitchError, TransferLeg, VariableName, VariableValue,
};

/// How a call's channel is controlled.
pub(super) struct Control {
    pub(super) switch: Switch,
    pub(super) watch: ChannelWatch,
    /// The connection that handed it over, where nothing else controls it: when this goes, the channel goes back.
    pub(super) held: Option<OutboundChannel>,
}

/// One to be ended by the connection's end, one to stay in, one to spare.
const WAITS: usize = 3;

/// Within this it waits, once it was told to.
const WAITS_WITHIN: Duration = Duration::from_millis(500);

/// What a call's ending takes at most.
const AFTER_LONGEST: Duration = Duration::from_secs(120);

/// Takes `channel` over, by `link` where there is one; no call of its agent takes longer than `longest`. None: it is gone.
pub(super) async fn take_over(
    mut channel: OutboundChannel,
    link: Option<Switch>,
    longest: Duration,
) -> Option<Control> {
    let uuid = channel.uuid().clone();
    if let Some(switch) = link {
        let Ok(mut watch) = switch.watch(uuid.clone()) else { return None };
        match send_to_wait(&switch, &uuid, longest).await {
            Ok(()) => {
                if !waits(&mut watch).await {
                    return None;
                }
                channel.release();
                let control = Control { switch: switch.clone(), watch, held: None };
                return exists(&switch, &uuid).await.then_some(control);
            }
            Err(error) if error.is_no_such_channel() => return None,
            Err(error) => {
                tracing::warn!(%error, "the call depends on the event socket its dialplan opened");
            }
        }
    }
    let watch = channel.take_events()?;
    // The channel reads it when it begins to wait, and that was before we could say anything.
    let silence = channel.headers().variable("send_silence_when_idle");
    if channel.is_answered() && silence.is_none_or(|value| value == "0") {
        tracing::warn!(
            %uuid,
            "nothing a two-way module plays is heard on this channel: let the dialplan set send_silence_when_idle=-1 before `socket`, not answer, or configure its switch"
        );
    }
    let switch = channel.switch().clone();
    Some(Control { switch, watch, held: Some(channel) })
}

async fn send_to_wait(
    switch: &Switch,
    uuid: &ChannelUuid,
    longest: Duration,
) -> Result<(), SwitchError> {
    // A caller whose daemon died must not wait for ever. A channel that writes nothing can't be spoken to.
    let silence = (VariableName::new("send_silence_when_idle")?, VariableValue::new("-1")?);
    // Who is connected with somebody and then left must not fall into the next wait.
    let left = (VariableName::new("hangup_after_bridge")?, VariableValue::new("true")?);
    let variables = vec![park_timeout(longest)?, silence, left];
    switch.execute(SwitchCommand::SetVariables { uuid: uuid.clone(), variables }).await?;
    let actions = vec![Application::new("park", "")?; WAITS];
    let leg = TransferLeg::Own;
    switch.execute(SwitchCommand::TransferInline { uuid: uuid.clone(), leg, actions }).await?;
    Ok(())
}

/// Passes over what the channel did on its way to waiting; false when it ended. What it does from then on is told.
async fn waits(watch: &mut ChannelWatch) -> bool {
    let waiting = async {
        while let Some(notice) = watch.recv().await {
            let ChannelNotice::Event(event) = notice else { continue };
            match &event.kind {
                ChannelEventKind::Executed { app, .. } if app == "park" => return true,
                ChannelEventKind::HungUp { .. } | ChannelEventKind::Destroyed => return false,
                _ => {}
            }
        }
        false
    };
    // Late or missed: it is followed all the same.
    tokio::time::timeout(WAITS_WITHIN, waiting).await.unwrap_or(true)
}

fn park_timeout(longest: Duration) -> Result<(VariableName, VariableValue), CommandError> {
    let seconds = (longest + AFTER_LONGEST).as_secs();
    let value = format!("{seconds}:{}", HangupCause::NormalTemporaryFailure.name());
    Ok((VariableName::new("park_timeout")?, VariableValue::new(&value)?))
}

async fn exists(switch: &Switch, uuid: &ChannelUuid) -> bool {
    let exists = SwitchCommand::Exists { uuid: uuid.clone() };
    // Not told: it is followed, and its end is heard of.
    switch.execute(exists).await.map_or(true, |reply| reply.flag())
}
