//! The fork's websocket breaks in the middle of a call.

use crate::{
    Theatre,
    common::wait_until,
    house::{Setup, TOKEN, said},
    proxy::CutSide,
    stage::Way,
};

/// Whichever end notices first: another fork comes, and the conversation goes on.
pub(crate) fn comes_again(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    let line = house.greeted("100");
    for side in [CutSide::Listener, CutSide::Dialler] {
        let forks = house.forks.taken();
        house.forks.cut(side);
        wait_until("another fork", || house.forks.taken() > forks);
        wait_until("the old one to be gone", || house.forks.connections() == 1);
        line.say_and_hear(&theatre.words());
    }
    line.phone.press("#");
    assert_eq!(house.ended(&line.uuid), "NORMAL_CLEARING");
    let record = house.record(&line.uuid);
    assert_eq!(record["end_reason"], "caller_goodbye", "{record:#}");
    assert_eq!(
        said(&record),
        [
            "Hello, and thank you for calling.",
            "Thank you.",
            "Please tell me your message now.",
            "Goodbye."
        ]
    );
    house.finish(1);
}

/// No fork comes any more: the caller is hung up on, for nothing could be heard.
pub(crate) fn given_up(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    let line = house.greeted("100");
    house.forks.close();
    assert_eq!(house.ended(&line.uuid), "NORMAL_TEMPORARY_FAILURE");
    let record = house.record(&line.uuid);
    assert_eq!(record["hangup_cause"], "NORMAL_TEMPORARY_FAILURE", "{record:#}");
    house.finish(1);
}

/// No fork comes any more, and somebody else is there for the caller.
pub(crate) fn fallen_back(theatre: &Theatre) {
    let setup = Setup { fallback: Some("1000 XML default"), ..Setup::default() };
    let mut house = theatre.house(&setup);
    let line = house.greeted("100");
    house.forks.close();
    let record = house.record(&line.uuid);
    assert_eq!(record["end_reason"], "transferred", "{record:#}");
    let uuid = line.uuid.clone();
    let there = house.stage.api(&format!("uuid_exists {uuid}"));
    assert_eq!(there.trim(), "true", "the call goes on");
    wait_until("the fallback", || {
        house.stage.variable(&uuid, "current_application").as_deref() == Some("echo")
    });
    line.phone.hang_up("NORMAL_CLEARING");
    house.ended(&uuid);
    house.finish(1);
}

/// A fork comes while the event socket is away: once that is back, the call has a channel like any other.
pub(crate) fn linked_late(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    if !house.module_plays() {
        return house.finish(0);
    }
    house.link.close();
    house.daemon.wait_for_log("event socket is down");
    let line = house.call_by("100", Way::Park);
    super::handing_over::fork(&mut house, &line, TOKEN);
    line.hear();
    line.hear_the_end();
    house.link.open();
    house.daemon.wait_for_log("the channel of a fork is found");
    house.variable(&line.uuid, "tandem_agent", |agent| agent == "reception");
    line.phone.press("#");
    assert_eq!(house.ended(&line.uuid), "NORMAL_CLEARING");
    assert_eq!(house.record(&line.uuid)["end_reason"], "caller_goodbye");
    house.finish(1);
}

/// The dialplan's own fork cannot be started again: the call ends.
pub(crate) fn of_the_dialplan(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    let line = house.call_by("100", Way::Park);
    super::handing_over::fork(&mut house, &line, TOKEN);
    line.hear();
    line.hear_the_end();
    house.forks.cut(CutSide::Dialler);
    assert_eq!(house.ended(&line.uuid), "NORMAL_TEMPORARY_FAILURE");
    house.finish(1);
}
