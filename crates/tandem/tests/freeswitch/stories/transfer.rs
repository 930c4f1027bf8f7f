//! `transfer_to_human`: to people who take the call, and to those who do not.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{
    Theatre,
    common::wait_until,
    house::{House, LOUD, Line, Setup},
    stage::{Behaviour, people},
};

/// The target answers: caller and target hear each other, and the fork is gone.
pub(crate) fn answered(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    connected(theatre, &mut house, ("100", "1"), people::ANNA);
    house.finish(1);
}

/// The target is busy, lets it ring, or does not exist: the caller comes back, and the reason is told.
pub(crate) fn not_answered(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    house.stage.expect(people::BUSY, Behaviour::Busy);
    house.stage.expect(people::SILENT, Behaviour::Rings);
    house.stage.expect(people::NOBODY, Behaviour::Unknown);
    let causes = [("2", "USER_BUSY"), ("3", "NO_ANSWER"), ("4", "UNALLOCATED_NUMBER")];
    refused(&mut house, "100", &causes);
    house.finish(causes.len());
}

/// The target is told what it is about, takes the call by a key, and both hear each other.
pub(crate) fn announced(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    house.stage.expect(people::TOLD, Behaviour::Answers);
    let line = house.greeted("100");
    line.phone.press("5");
    let told = house.target(people::TOLD);
    told.hear();
    told.phone.press("1");
    let record = house.record(&line.uuid);
    transferred(&record, "completed");
    wait_until("the forks to be gone", || house.forks.connections() == 0);
    hear_each_other(theatre, &line, &told);
    told.phone.hang_up("NORMAL_CLEARING");
    house.ended(&told.uuid);
    line.phone.hang_up("NORMAL_CLEARING");
    house.ended(&line.uuid);
    house.finish(1);
}

/// The target hears all of the announcement, presses nothing, and is connected.
pub(crate) fn announced_to_the_end(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    house.stage.expect(people::TOLD, Behaviour::Answers);
    let line = house.greeted("100");
    line.phone.press("5");
    let told = house.target(people::TOLD);
    told.hear();
    transferred(&house.record(&line.uuid), "completed");
    let heard = told.phone.heard();
    let loud = heard.samples.iter().filter(|sample| sample.unsigned_abs() > LOUD).count();
    assert!(loud > 2_000, "the announcement was hardly heard: {loud} loud samples");
    line.phone.hang_up("NORMAL_CLEARING");
    house.ended(&line.uuid);
    house.finish(1);
}

/// The target declines by star, or hangs up: the caller comes back.
pub(crate) fn declined(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    house.stage.expect(people::TOLD, Behaviour::Answers);
    for by_key in [true, false] {
        let line = house.greeted("100");
        line.phone.press("5");
        let told = house.target(people::TOLD);
        told.hear();
        if by_key {
            told.phone.press("*");
        } else {
            told.phone.hang_up("NORMAL_CLEARING");
        }
        house.ended(&told.uuid);
        comes_back(&mut house, &line);
        assert_eq!(house.forks.connections(), 1);
        given_up(&mut house, &line, "declined");
    }
    house.finish(2);
}

/// The caller hangs up while somebody is called or told: no leg is left.
pub(crate) fn caller_hangs_up(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    house.stage.expect(people::SILENT, Behaviour::Rings);
    house.stage.expect(people::TOLD, Behaviour::Answers);
    for (key, person) in [("3", people::SILENT), ("5", people::TOLD)] {
        let line = house.greeted("100");
        line.phone.press(key);
        let target = house.target(person);
        if person == people::TOLD {
            target.hear();
        }
        line.phone.hang_up("NORMAL_CLEARING");
        house.ended(&line.uuid);
        house.ended(&target.uuid);
        house.wait_for_silence();
        let record = house.record(&line.uuid);
        assert_eq!(record["end_reason"], "caller_hangup", "{record:#}");
    }
    house.finish(2);
}

/// Calls a number and presses a key by which its agent has `person` called, who answers: caller and target hear each
/// other, and our part is over. Gives the record back after the caller has hung up.
pub(super) fn connected(
    theatre: &Theatre,
    house: &mut House,
    (number, key): (&str, &str),
    person: &str,
) -> Value {
    house.stage.expect(person, Behaviour::Answers);
    let line = house.greeted(number);
    line.phone.press(key);
    let target = house.target(person);
    let record = left(house, &line);
    hear_each_other(theatre, &line, &target);
    line.phone.hang_up("NORMAL_CLEARING");
    house.ended(&line.uuid);
    record
}

/// The caller is with somebody else: the record of our part, which is over.
pub(super) fn left(house: &mut House, line: &Line) -> Value {
    let record = house.record(&line.uuid);
    transferred(&record, "completed");
    assert_eq!(record["end_reason"], "transferred", "{record:#}");
    wait_until("the fork to be gone", || house.forks.connections() == 0);
    house.variable(&line.uuid, "tandem_outcome", |outcome| outcome == "transferred");
    record
}

/// Several call a number and press keys by which its agent has people called whom nobody reaches: each caller comes back,
/// the conversation goes on, and the record says why.
pub(super) fn refused(house: &mut House, number: &str, causes: &[(&str, &str)]) {
    let lines: Vec<Line> = causes.iter().map(|_| house.call(number)).collect();
    for (line, (key, _)) in lines.iter().zip(causes) {
        line.hear();
        line.hear_the_end();
        line.phone.press(key);
    }
    for line in &lines {
        comes_back(house, line);
    }
    assert_eq!(house.forks.connections(), lines.len());
    for (line, (_, cause)) in lines.iter().zip(causes) {
        given_up(house, line, cause);
    }
}

/// The caller hangs up after a transfer that failed because of this.
fn given_up(house: &mut House, line: &Line, why: &str) {
    line.phone.hang_up("NORMAL_CLEARING");
    house.ended(&line.uuid);
    let record = house.record(&line.uuid);
    transferred(&record, "failed");
    let error = record["transfer"]["error"].as_str().expect("it says why");
    assert!(error.contains(why), "{error}");
    assert_eq!(record["end_reason"], "caller_hangup", "{record:#}");
}

fn transferred(record: &Value, status: &str) {
    assert_eq!(record["transfer"]["status"], status, "{record:#}");
}

/// The transfer has failed, and the caller is back in the same conversation.
fn comes_back(house: &mut House, line: &Line) {
    house.variable(&line.uuid, "tandem_transcript", |text| {
        text.ends_with("Agent: I am sorry, nobody can take your call right now.")
    });
    line.hear_the_end();
    line.press_and_hear("6");
}

/// Each says something that the other hears.
pub(super) fn hear_each_other(theatre: &Theatre, one: &Line, other: &Line) {
    let words = theatre.words();
    for (speaker, hearer) in [(one, other), (other, one)] {
        hearer.hear_the_end();
        let since: Instant = hearer.now() + Duration::from_millis(1);
        speaker.phone.say(&words);
        hearer.hear_since(Some(since));
    }
}
