//! How callers end calls, and leave them for a while.

use std::time::Duration;

use crate::{
    Theatre,
    common::wait_until,
    house::{LOUD, Setup},
    stage::Way,
};

/// The caller hangs up while the phone rings. Of the fake only: a phone that rings needs a dialplan.
pub(crate) fn while_it_rings(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    let way = Way::RingingSocket(house.outbound);
    let line = house.call_by("100", way);
    house.daemon.wait_for_log("call comes in");
    line.phone.hang_up("ORIGINATOR_CANCEL");
    house.ended(&line.uuid);
    let record = house.record(&line.uuid);
    if record["answered_at"].is_null() {
        assert_eq!(record["end_reason"], "cancelled", "{record:#}");
    } else {
        assert_eq!(record["end_reason"], "caller_hangup", "{record:#}");
    }
    house.finish(1);
}

/// The phone rings, and the agent answers it.
pub(crate) fn answered_by_us(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    let way = Way::RingingSocket(house.outbound);
    let line = house.call_by("100", way);
    line.hear();
    line.hear_the_end();
    line.phone.hang_up("NORMAL_CLEARING");
    house.ended(&line.uuid);
    let record = house.record(&line.uuid);
    assert!(record["answered_at"].is_string());
    assert_eq!(record["end_reason"], "caller_hangup", "{record:#}");
    house.finish(1);
}

/// The caller hangs up in the greeting: with the usual cause, and with another.
pub(crate) fn in_the_greeting(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    for (number, cause) in ["NORMAL_CLEARING", "NORMAL_TEMPORARY_FAILURE"].into_iter().enumerate() {
        let line = house.call("100");
        line.hear();
        line.phone.hang_up(cause);
        assert_eq!(house.ended(&line.uuid), cause);
        let record = house.record(&line.uuid);
        assert_eq!(record["end_reason"], "caller_hangup", "{record:#}");
        assert_eq!(record["ended_by"], "caller");
        assert_eq!(record["hangup_cause"], cause);
        let outcome = house.stage.variable(&line.uuid, "tandem_outcome");
        assert_eq!(outcome.as_deref(), Some("caller_hangup"));
        let greeting = &record["transcript"][0];
        assert_eq!(greeting["interrupted"], true, "call {number}: {record:#}");
    }
    assert_eq!(
        house.daemon.log().iter().filter(|line| line.contains("the fork")).count(),
        0,
        "an ordinary hang-up is no fault of the fork"
    );
    house.finish(2);
}

/// The caller puts us on hold and comes back to the same conversation.
pub(crate) fn hold(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    let line = house.greeted("100");
    line.phone.hold(true);
    let uuid = line.uuid.clone();
    wait_until("the hold", || house.stage.api(&format!("uuid_dump {uuid}")).contains("HELD"));
    let forks = house.forks.carried();
    line.phone.hold(false);
    wait_until("the end of the hold", || {
        !house.stage.api(&format!("uuid_dump {uuid}")).contains(": HELD")
    });
    line.say_and_hear(&theatre.words());
    assert_eq!(house.forks.carried().len(), forks.len(), "the fork is the same");
    line.phone.hang_up("NORMAL_CLEARING");
    house.ended(&line.uuid);
    assert_eq!(house.record(&line.uuid)["end_reason"], "caller_hangup");
    house.finish(1);
}

/// The greeting is heard as soon as the call is there.
pub(crate) fn greeted_soon(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    let line = house.call("100");
    let first = line.hear();
    let heard = line.phone.heard();
    let silence = first.saturating_duration_since(heard.started);
    eprintln!("the greeting is heard {silence:?} after the caller's first frame");
    // Half of it is the model's; the machine may be busy with other tests.
    assert!(silence < Duration::from_secs(5), "{silence:?}");
    assert!(heard.samples.iter().any(|sample| sample.unsigned_abs() > LOUD));
    line.phone.hang_up("NORMAL_CLEARING");
    house.ended(&line.uuid);
    house.finish(1);
}
