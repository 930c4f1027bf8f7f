//! Channels whose daemon died: they wait on the switch, and nobody speaks to their callers.

use tandem_call::HangupCause;
use tandem_pbx::{Cause, ChannelUuid, Switch, SwitchCommand, TransferLeg, VariableName};

use super::calls::Calls;

/// Lets go of channels that calls of this daemon's former life left waiting on `switch`.
pub(super) async fn release(switch: &Switch, calls: &Calls) {
    let rows = match switch.execute(SwitchCommand::ShowChannels).await {
        Ok(reply) => reply.channels().unwrap_or_default(),
        Err(error) => {
            tracing::debug!(%error, switch = switch.name(), "channels can't be listed");
            return;
        }
    };
    for row in &rows {
        let Ok(uuid) = ChannelUuid::new(&row.uuid) else { continue };
        if !is_orphan(switch, calls, &uuid).await {
            continue;
        }
        let command = match calls.fallback() {
            Some(to) => SwitchCommand::Transfer { uuid, leg: TransferLeg::Own, to: to.clone() },
            None => {
                let cause = Cause::from(HangupCause::NormalTemporaryFailure);
                SwitchCommand::HangUp { uuid, cause }
            }
        };
        tracing::warn!(channel = row.uuid, "a call of an earlier run is let go of");
        if let Err(error) = switch.execute(command).await {
            tracing::warn!(%error, channel = row.uuid, "it could not be");
        }
    }
}

/// Whether the channel was ours, waits for nothing else, and is followed by no call.
async fn is_orphan(switch: &Switch, calls: &Calls, uuid: &ChannelUuid) -> bool {
    if calls.is_expected(uuid.as_str()) {
        return false;
    }
    let says = async |name: &str, value: &str| {
        let Ok(name) = VariableName::new(name) else { return false };
        let asked = switch.execute(SwitchCommand::GetVariable { uuid: uuid.clone(), name }).await;
        asked.is_ok_and(|reply| reply.value() == Some(value))
    };
    // A call that ended, or was handed on, says so; asked again at last, for calls begin meanwhile.
    says("tandem_at", calls.address()).await
        && says("tandem_outcome", "caller_hangup").await
        && !calls.is_expected(uuid.as_str())
}
