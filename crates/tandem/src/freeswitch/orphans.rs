//! Channels whose daemon died: they wait on the switch, and nobody speaks to their callers.

use tandem_call::HangupCause;
use tandem_pbx::{
    Cause, ChannelUuid, EventHeaders, Switch, SwitchCommand, TransferLeg, VariableName,
};

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

/// Whether the channel was ours, still waits where we left it, and is followed by no call.
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
        && waits_still(switch, uuid).await
        && !calls.is_expected(uuid.as_str())
}

/// Whoever took the caller while we were away keeps it. What can't be told is left alone too.
async fn waits_still(switch: &Switch, uuid: &ChannelUuid) -> bool {
    let asked = switch.execute(SwitchCommand::Dump { uuid: uuid.clone() }).await;
    asked.is_ok_and(|reply| reply.dump().is_some_and(|dump| waits(&dump)))
}

/// Whether a channel that says so of itself waits, connected with nobody.
fn waits(dump: &EventHeaders) -> bool {
    // Of a former connection other headers go on telling.
    if dump.variable("signal_bond").is_some() {
        return false;
    }
    match dump.get("Channel-State") {
        // The switch parked it by itself; the application is its last one.
        Some("CS_PARK") => true,
        Some("CS_EXECUTE") => match dump.variable("current_application") {
            Some("park") => true,
            // What was played to it while it waited is named on after its end, with how it ended.
            Some("playback") => dump.variable("current_application_response").is_some(),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> EventHeaders {
        EventHeaders::from_pairs(pairs.iter().copied())
    }

    #[test]
    fn only_a_channel_that_waits_is_an_orphan() {
        let channel = |state, application| {
            of(&[("Channel-State", state), ("variable_current_application", application)])
        };
        assert!(waits(&channel("CS_EXECUTE", "park")));
        assert!(waits(&channel("CS_PARK", "echo")));
        for application in ["ivr", "echo", "bridge", "conference", "socket", "playback"] {
            assert!(!waits(&channel("CS_EXECUTE", application)), "{application}");
        }
        for state in ["CS_SOFT_EXECUTE", "CS_EXCHANGE_MEDIA", "CS_ROUTING", "CS_HANGUP"] {
            assert!(!waits(&channel(state, "park")), "{state}");
        }
        assert!(!waits(&of(&[("variable_current_application", "park")])));
        assert!(waits(&of(&[
            ("Channel-State", "CS_EXECUTE"),
            ("variable_current_application", "playback"),
            ("variable_current_application_response", "FILE PLAYED"),
        ])));
    }

    #[test]
    fn a_channel_that_is_connected_is_none_and_one_that_was_is() {
        let park = ("variable_current_application", "park");
        let state = ("Channel-State", "CS_EXECUTE");
        let was = ("variable_bridge_uuid", "5e551000-0000-4000-8000-000000000021");
        assert!(waits(&of(&[state, park, was])));
        assert!(!waits(&of(&[state, park, was, ("variable_signal_bond", was.1)])));
    }

    /// Every state in which a real switch showed a channel that waited, was connected, and was left again.
    #[test]
    fn a_real_channel_is_one_only_while_it_waits() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/data/freeswitch/esl/bridge_hold_unbridge.txt"
        );
        let text = std::fs::read_to_string(path).expect("the recording is there");
        let mut seen = Vec::new();
        for block in text.split("\n#### ") {
            let headers =
                of(&block.lines().filter_map(|line| line.split_once(": ")).collect::<Vec<_>>());
            if let Some(event) = headers.get("Event-Name")
                && ["CHANNEL_PARK", "CHANNEL_BRIDGE", "CHANNEL_HOLD"].contains(&event)
            {
                assert_eq!(headers.variable("current_application"), Some("park"), "{event}");
                assert_eq!(waits(&headers), event == "CHANNEL_PARK", "{event}");
                seen.push(event.to_owned());
            }
        }
        assert!(seen.contains(&"CHANNEL_PARK".to_owned()), "{seen:?}");
        assert!(seen.contains(&"CHANNEL_BRIDGE".to_owned()), "{seen:?}");
    }
}
