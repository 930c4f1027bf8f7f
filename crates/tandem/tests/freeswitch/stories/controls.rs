//! What an agent does with its channel.

use serde_json::Value;

use super::handing_over::fork_to;
use crate::{
    Theatre,
    common::wait_until,
    house::{House, LOUD, Line, Setup, TOKEN},
    stage::{Behaviour, Way, people},
};

/// Variables, a hold that ends by itself, a sound, a conference and the way back; the conversation goes on all the while.
pub(crate) fn carried_out(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    let line = house.greeted("104");
    let uuid = line.uuid.clone();
    line.press_and_hear("1");
    house.variable(&uuid, "agent_ticket", |value| value == "it's; T-1");
    line.press_and_hear("8");
    assert_eq!(house.stage.variable(&uuid, "sip_h_X-Evil"), None);

    line.phone.press("2");
    let held = |house: &mut House| {
        let dump = house.stage.api(&format!("uuid_dump {}", line.uuid));
        dump.lines().any(|it| it.starts_with("Channel-Call-State: HELD"))
    };
    wait_until("the hold", || held(&mut house));
    wait_until("the hold to end by itself", || !held(&mut house));

    line.phone.press("3");
    sounds_for_a_second(&line);
    line.phone.press("4");
    line.hear_the_end_after(line.now());

    line.phone.press("5");
    running(&mut house, &line, "conference");
    line.hear_the_end_after(line.now());
    line.press_and_hear("6");
    wait_until("the conference to be empty", || {
        house.stage.api("conference tandem-test json_list").contains("not found")
    });
    line.press_and_hear("1");

    line.phone.hang_up("NORMAL_CLEARING");
    house.ended(&uuid);
    let record = house.record(&uuid);
    assert_eq!(record["end_reason"], "caller_hangup", "{record:#}");
    let expected = [
        ("pbx_set_variable", "ok"),
        ("pbx_set_variable", "rejected"),
        ("pbx_hold", "ok"),
        ("pbx_play", "ok"),
        ("pbx_stop_playing", "ok"),
        ("pbx_conference", "ok"),
        ("pbx_park", "ok"),
        ("pbx_set_variable", "ok"),
    ];
    assert_eq!(tools(&record), expected, "{record:#}");
    house.finish(1);
}

/// A third person joins, and when they leave the caller is back. One who still rings when the caller hangs up is called
/// off.
pub(crate) fn three_way(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    house.stage.expect(people::ANNA, Behaviour::Answers);
    let line = house.greeted("104");
    line.phone.press("7");
    let anna = house.target(people::ANNA);
    running(&mut house, &line, "conference");
    line.hear_the_end_after(line.now());
    let since = anna.now();
    line.phone.say(&theatre.words());
    anna.hear_since(Some(since));
    anna.phone.hang_up("NORMAL_CLEARING");
    running(&mut house, &line, "park");
    line.press_and_hear("1");
    assert_eq!(house.stage.channels().len(), 1, "the third leg is gone");

    house.stage.expect(people::ANNA, Behaviour::Rings);
    line.phone.press("7");
    wait_until("the phone to ring", || house.stage.channels().len() > 1);
    line.phone.hang_up("NORMAL_CLEARING");
    house.ended(&line.uuid);
    let record = house.record(&line.uuid);
    assert_eq!(record["end_reason"], "caller_hangup", "{record:#}");
    house.finish(1);
}

/// Without an event socket the model is told that it can't be done.
pub(crate) fn of_a_fork_alone(theatre: &Theatre) {
    let mut house = theatre.house(&Setup { linked: false, ..Setup::default() });
    if !house.module_plays() {
        return house.finish(0);
    }
    let line = house.call_by("104", Way::Park);
    fork_to("104", &mut house, &line, TOKEN);
    line.hear();
    line.hear_the_end();
    line.say_and_hear(&theatre.words());
    line.phone.hang_up("NORMAL_CLEARING");
    house.ended(&line.uuid);
    let record = house.record(&line.uuid);
    assert_eq!(tools(&record), [("pbx_hold", "rejected")], "{record:#}");
    house.finish(1);
}

/// Waits until the channel of `line` runs `application`.
fn running(house: &mut House, line: &Line, application: &str) {
    house.variable(&line.uuid, "current_application", |value| value == application);
}

/// Waits until sound was heard without a pause for a second.
fn sounds_for_a_second(line: &Line) {
    wait_until("a tone", || {
        let heard = line.phone.heard();
        let second = heard.samples.rchunks(160).take(50);
        second.len() == 50 && second.clone().all(|it| it.iter().any(|it| it.unsigned_abs() > LOUD))
    });
}

/// Names and outcomes of the tools in a record.
fn tools(record: &Value) -> Vec<(&str, &str)> {
    let tools = record["tools"].as_array().expect("a list of tools");
    tools
        .iter()
        .map(|tool| {
            (tool["name"].as_str().expect("a name"), tool["outcome"].as_str().expect("an outcome"))
        })
        .collect()
}
