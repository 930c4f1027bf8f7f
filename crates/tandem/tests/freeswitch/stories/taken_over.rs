//! An operator takes the caller.

use crate::{
    Theatre,
    common::wait_until,
    house::{House, Line, Setup},
    stage::{Behaviour, people},
};

/// Somebody moves the caller elsewhere: Tandem lets go, and the call lives on.
pub(crate) fn moved(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    let line = house.greeted("100");
    let uuid = line.uuid.clone();
    let answer = house.stage.api(&format!("uuid_transfer {uuid} echo: inline"));
    assert!(answer.starts_with("+OK"), "{answer}");
    let_go(&mut house, &line);
    house.finish(1);
}

/// Somebody joins the caller with another channel.
pub(crate) fn bridged(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    house.stage.expect(people::ANNA, Behaviour::Answers);
    let line = house.greeted("100");
    let dial = house.stage.dial_string().replace("{target}", people::ANNA);
    house.stage.api(&format!("originate {dial} &park()"));
    let anna = house.target(people::ANNA);
    let (caller, operator) = (line.uuid.clone(), anna.uuid);
    wait_until("the operator to answer", || {
        house.stage.api(&format!("uuid_dump {operator}")).contains("Answer-State: answered")
    });
    let answer = house.stage.api(&format!("uuid_bridge {caller} {operator}"));
    assert!(answer.starts_with("+OK"), "{answer}");
    let_go(&mut house, &line);
    house.finish(1);
}

/// The call is recorded as somebody else's, its fork is gone, and the caller is still there.
fn let_go(house: &mut House, line: &Line) {
    let record = house.record(&line.uuid);
    assert_eq!(record["end_reason"], "transferred", "{record:#}");
    house.variable(&line.uuid, "tandem_outcome", |outcome| outcome == "transferred");
    wait_until("the fork to be gone", || house.forks.connections() == 0);
    let uuid = line.uuid.clone();
    let there = house.stage.api(&format!("uuid_exists {uuid}"));
    assert_eq!(there.trim(), "true", "the call lives on");
    line.phone.hang_up("NORMAL_CLEARING");
    house.ended(&uuid);
}
