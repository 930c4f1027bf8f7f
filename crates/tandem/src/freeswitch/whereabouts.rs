//! Which switch has a channel.

use tandem_pbx::{ChannelUuid, LinkState, Switch, SwitchCommand};
use tokio::task::JoinSet;

/// The first that says it knows `uuid`, of those whose event socket is up. All are asked at once: one that does not
/// answer holds nobody up.
pub(super) async fn switch_of(switches: &[Switch], uuid: &ChannelUuid) -> Option<Switch> {
    let mut asked = JoinSet::new();
    for switch in switches.iter().filter(|switch| is_up(switch)) {
        let answer = switch.submit(SwitchCommand::Exists { uuid: uuid.clone() });
        let switch = switch.clone();
        asked.spawn(async move { answer.await.is_ok_and(|reply| reply.flag()).then_some(switch) });
    }
    while let Some(answer) = asked.join_next().await {
        if let Ok(Some(switch)) = answer {
            return Some(switch);
        }
    }
    None
}

/// Whether its event socket is up.
pub(super) fn is_up(switch: &Switch) -> bool {
    matches!(switch.state(), LinkState::Up(_))
}

#[cfg(test)]
mod tests {
    use tandem_pbx::SwitchSettings;
    use tandem_sim::freeswitch::{FakeCall, FakeSwitch, SwitchConfig};

    use super::*;

    async fn linked(name: &str) -> (FakeSwitch, Switch) {
        let fake = FakeSwitch::start().await.unwrap();
        let password = SwitchConfig::default().password;
        let settings = SwitchSettings::new(name, fake.address.to_string(), password.into());
        let switch = Switch::start(settings).unwrap();
        switch.up().await.unwrap();
        (fake, switch)
    }

    #[tokio::test]
    async fn a_switch_that_does_not_answer_holds_nobody_up() {
        let (first, hangs) = linked("first").await;
        let (second, answers) = linked("second").await;
        let switches = [hangs, answers];
        let nobody = "127.0.0.1:9".parse().unwrap();
        let uuid = second.call(FakeCall::to_socket("100", nobody)).uuid().to_owned();
        let uuid = ChannelUuid::new(&uuid).unwrap();
        first.freeze(true);
        let unanswered = switches[0].execute(SwitchCommand::Exists { uuid: uuid.clone() });
        tokio::select! {
            biased;
            _ = unanswered => panic!("the one that hangs was waited for"),
            known = switch_of(&switches, &uuid) => assert_eq!(known.unwrap().name(), "second"),
        }
        let stranger = ChannelUuid::from_random(7);
        first.freeze(false);
        assert!(switch_of(&switches, &stranger).await.is_none());
    }
}
