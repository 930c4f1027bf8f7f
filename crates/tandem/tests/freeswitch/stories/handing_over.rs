//! How calls come in: handed over by a dialplan, begun by a fork, given back, refused.

use crate::{
    Theatre,
    common::wait_until,
    house::{House, Line, Setup, TOKEN, said},
    stage::{NewCall, Way},
};

/// The dialplan hands a call over; greeting, a turn, the pound key, goodbye, and the agent hangs up.
pub(crate) fn by_socket(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    let line = house.greeted("100");
    converse(theatre, &mut house, &line);
    assert_eq!(house.ended(&line.uuid), "NORMAL_CLEARING");

    let record = house.record(&line.uuid);
    assert_eq!(record["end_reason"], "caller_goodbye", "{record:#}");
    assert_eq!(record["ended_by"], "agent");
    assert_eq!(record["hangup_cause"], "NORMAL_CLEARING");
    let (number, name) = house.stage.person("100");
    assert_eq!(record["from"]["number"], number);
    assert_eq!(record["from"]["name"], name);
    assert_eq!(record["to"]["number"], "100");
    let (header, value) = NewCall::TENANT;
    assert_eq!(record["variables"][header], value, "{record:#}");
    assert_eq!(said(&record), ["Hello, and thank you for calling.", "Thank you.", "Goodbye."]);
    let id = record["id"].as_str().expect("a call has a name");
    let written = [
        ("tandem_call_id", id),
        ("tandem_agent", "reception"),
        ("tandem_outcome", "caller_goodbye"),
    ];
    for (name, value) in written {
        assert_eq!(house.stage.variable(&line.uuid, name).as_deref(), Some(value), "{name}");
    }
    house.finish(1);
}

/// The same where the dialplan's own socket is all there is.
pub(crate) fn by_socket_alone(theatre: &Theatre) {
    let mut house = theatre.house(&Setup { linked: false, ..Setup::default() });
    let line = house.greeted("100");
    converse(theatre, &mut house, &line);
    assert_eq!(house.ended(&line.uuid), "NORMAL_CLEARING");
    assert_eq!(house.record(&line.uuid)["end_reason"], "caller_goodbye");
    house.finish(1);
}

/// The dialplan answers and forks by itself; everything else is done over the event socket.
pub(crate) fn by_fork(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    let line = house.call_by("100", Way::Park);
    fork(&mut house, &line, TOKEN);
    line.hear();
    line.hear_the_end();
    converse(theatre, &mut house, &line);
    assert_eq!(house.ended(&line.uuid), "NORMAL_CLEARING");
    let record = house.record(&line.uuid);
    assert_eq!(record["end_reason"], "caller_goodbye", "{record:#}");
    // The fork says the number, the switch the name.
    assert_eq!(record["from"]["number"], NewCall::CALLER);
    assert_eq!(record["from"]["name"], house.stage.person("100").1);
    assert_eq!(record["to"]["number"], "100");
    let (header, value) = NewCall::TENANT;
    assert_eq!(record["variables"][header], value, "{record:#}");
    house.finish(1);
}

/// A fork is all there is: what it says is known of the call, and its end is the call's.
pub(crate) fn by_fork_alone(theatre: &Theatre) {
    let mut house = theatre.house(&Setup { linked: false, ..Setup::default() });
    if !house.module_plays() {
        return house.finish(0);
    }
    let line = house.call_by("100", Way::Park);
    fork(&mut house, &line, TOKEN);
    line.hear();
    line.hear_the_end();
    line.say_and_hear(&theatre.words());
    line.phone.hang_up("NORMAL_CLEARING");
    house.ended(&line.uuid);
    let record = house.record(&line.uuid);
    assert_eq!(record["end_reason"], "caller_hangup", "{record:#}");
    assert_eq!(record["from"]["number"], NewCall::CALLER);
    assert_eq!(record["to"]["number"], "100");
    house.finish(1);
}

/// A fork without the right token starts no call, and the caller is left alone.
pub(crate) fn by_fork_of_a_stranger(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    let line = house.call_by("100", Way::Park);
    fork(&mut house, &line, "a-token-of-somebody-else");
    wait_until("the fork to be refused", || !house.forks.answers().is_empty());
    let answers = house.forks.answers();
    assert!(answers[0].starts_with("HTTP/1.1 401 "), "{answers:?}");
    wait_until("the fork to be closed", || house.forks.connections() == 0);
    let uuid = line.uuid.clone();
    let there = house.stage.api(&format!("uuid_exists {uuid}"));
    assert_eq!(there.trim(), "true", "the caller is somebody else's");
    // The right one is let in: nothing is left of the wrong one.
    if house.module == "stream" {
        house.stage.api(&format!("uuid_audio_stream {uuid} stop"));
    } else {
        house.stage.api(&format!("uuid_audio_fork {uuid} stop tandem"));
    }
    fork(&mut house, &line, TOKEN);
    line.hear();
    line.phone.hang_up("NORMAL_CLEARING");
    house.ended(&line.uuid);
    house.finish(1);
}

/// Forks that start no call: their channels were answered, and are not left to wait in silence.
pub(crate) fn by_fork_in_vain(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    let unknown = house.call_by("555", Way::Park);
    fork_to("555", &mut house, &unknown, TOKEN);
    assert_eq!(house.ended(&unknown.uuid), "UNALLOCATED_NUMBER");
    let rejected = house.call_by("201", Way::Park);
    fork_to("201", &mut house, &rejected, TOKEN);
    assert_eq!(house.ended(&rejected.uuid), "CALL_REJECTED");

    let first = house.call_by("103", Way::Park);
    fork_to("103", &mut house, &first, TOKEN);
    first.hear();
    let second = house.call_by("103", Way::Park);
    fork_to("103", &mut house, &second, TOKEN);
    assert_eq!(house.ended(&second.uuid), "USER_BUSY");
    first.phone.hang_up("NORMAL_CLEARING");
    house.ended(&first.uuid);
    house.finish(1);
}

/// The same where somebody else is there for the callers.
pub(crate) fn by_fork_in_vain_with_a_fallback(theatre: &Theatre) {
    let setup = Setup { fallback: Some("1000 XML default"), ..Setup::default() };
    let mut house = theatre.house(&setup);
    let line = house.call_by("555", Way::Park);
    fork_to("555", &mut house, &line, TOKEN);
    house.variable(&line.uuid, "current_application", |app| app == "echo");
    line.phone.hang_up("NORMAL_CLEARING");
    house.ended(&line.uuid);
    house.finish(0);
}

/// No switch that can be asked knows the channel, but another might: the fork is taken at its word.
pub(crate) fn by_fork_of_another_switch(theatre: &Theatre) {
    let setup = Setup { unreachable: true, ..Setup::default() };
    let mut house = theatre.house(&setup);
    if !house.module_plays() {
        return house.finish(0);
    }
    let line = house.call_by("100", Way::Park);
    let named = "00000000-0000-4000-8000-000000000000";
    fork_as(named, "100", &mut house, &line, TOKEN);
    line.hear();
    line.phone.hang_up("NORMAL_CLEARING");
    house.ended(&line.uuid);
    assert_eq!(house.record(named)["end_reason"], "caller_hangup");
    house.finish(1);
}

/// Numbers that are not ours go back to the dialplan, which is told why and where to.
pub(crate) fn given_back(theatre: &Theatre) {
    let mut house = theatre.house(&Setup { max_calls: 2, ..Setup::default() });
    let queue = house.call("200");
    back(&mut house, &queue, "elsewhere", Some("callcenter:support inline"));
    let domain = house.stage.api("global_getvar domain");
    let mailbox = house.call("202");
    let route = format!("'voicemail:default {} 1001' inline", domain.trim());
    back(&mut house, &mailbox, "elsewhere", Some(&route));
    let nobody = house.call("555");
    back(&mut house, &nobody, "no_route", None);
    let rejected = house.call("201");
    assert_eq!(house.ended(&rejected.uuid), "CALL_REJECTED");

    let first = house.greeted("103");
    let second = house.call("103");
    back(&mut house, &second, "busy", None);
    let other = house.greeted("100");
    let third = house.call("100");
    back(&mut house, &third, "full", None);
    for line in [first, other] {
        line.phone.hang_up("NORMAL_CLEARING");
        house.ended(&line.uuid);
    }
    house.finish(2);
}

/// Waits until a channel was given back with this status and route, and ends it.
fn back(house: &mut House, line: &Line, status: &str, route: Option<&str>) {
    house.variable(&line.uuid, "tandem_status", |is| is == status);
    if house.stage.is_fake() {
        // A real one was called with nothing behind the socket.
        wait_until("the dialplan to go on", || {
            house.stage.variable(&line.uuid, "current_application").as_deref() == Some("park")
        });
        line.phone.hang_up("NORMAL_CLEARING");
    }
    house.ended(&line.uuid);
    let found = house.stage.variable(&line.uuid, "tandem_route");
    assert_eq!(found.as_deref(), route, "of {status}");
}

/// One turn, then goodbye.
fn converse(theatre: &Theatre, house: &mut House, line: &Line) {
    line.say_and_hear(&theatre.words());
    house.variable(&line.uuid, "tandem_transcript", |text| {
        text.contains("Agent: Hello, and thank you for calling.")
            && text.contains("Agent: Thank you.")
    });
    line.phone.press("#");
}

/// Starts a fork as a dialplan does.
pub(crate) fn fork(house: &mut House, line: &Line, token: &str) {
    fork_to("100", house, line, token);
}

/// The same for the agent of another number.
pub(crate) fn fork_to(number: &str, house: &mut House, line: &Line, token: &str) {
    fork_as(&line.uuid, number, house, line, token);
}

/// The same in the name of the channel `named`.
fn fork_as(named: &str, number: &str, house: &mut House, line: &Line, token: &str) {
    let (uuid, wire) = (&line.uuid, house.forks.address);
    let caller = NewCall::CALLER;
    let (command, path, back) = match house.module.as_str() {
        "jambonz" => ("uuid_audio_fork", "fork/jambonz", " true true 16000"),
        "drachtio" => ("uuid_audio_fork", "fork/drachtio", ""),
        _ => ("uuid_audio_stream", "stream/file", ""),
    };
    let name = if command == "uuid_audio_fork" { "tandem " } else { "" };
    let url = format!(
        "ws://{wire}/freeswitch/{path}?call={named}&did={number}&rate=16000&back=16000&token={token}"
    );
    let metadata = format!("{{\"uuid\":\"{named}\",\"caller\":\"{caller}\"}}");
    let line = format!("{command} {uuid} start {url} mono 16000 {name}'{metadata}'{back}");
    let uuid = uuid.clone();
    wait_until("the channel to wait", || {
        house.stage.variable(&uuid, "current_application").as_deref() == Some("park")
    });
    let answer = house.stage.api(&line);
    assert!(answer.starts_with("+OK"), "{answer}");
}
