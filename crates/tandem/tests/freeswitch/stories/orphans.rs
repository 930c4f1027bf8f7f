//! Calls of a daemon that died wait on the switch until one is there again.

use crate::{
    Theatre,
    common::wait_until,
    house::{House, Line, Setup},
    stage::Way,
};

/// Who waits in vain is let go of; whom somebody took meanwhile is left where they are.
pub(crate) fn let_go(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    let live = house.greeted("100");
    let address = house.stage.variable(&live.uuid, "tandem_at").expect("it was set");
    let [waiting, moved, joined, other] =
        std::array::from_fn(|_| left_behind(&mut house, &address));
    for (command, app) in [
        (format!("uuid_transfer {} echo: inline", moved.uuid), "echo"),
        (format!("uuid_bridge {} {}", joined.uuid, other.uuid), "park"),
    ] {
        let answer = house.stage.api(&command);
        assert!(answer.starts_with("+OK"), "{answer}");
        let of = if app == "echo" { &moved } else { &joined };
        house.variable(&of.uuid, "current_application", |it| it == app);
    }
    house.variable(&other.uuid, "signal_bond", |peer| peer == joined.uuid);

    house.link.close();
    house.daemon.wait_for_log("event socket is down");
    house.link.open();
    house.daemon.wait_for_log("event socket is up");
    assert_eq!(house.ended(&waiting.uuid), "NORMAL_TEMPORARY_FAILURE");
    for kept in [&moved, &joined, &other] {
        wait_until("it to be looked at", || {
            house.link.said(&format!("uuid_dump {}", kept.uuid)) > 0
        });
    }
    live.say_and_hear(&theatre.words());
    for kept in [&moved, &joined, &other] {
        let there = house.stage.api(&format!("uuid_exists {}", kept.uuid));
        assert_eq!(there.trim(), "true");
        assert_eq!(house.link.said(&format!("uuid_kill {}", kept.uuid)), 0);
    }
    for line in [&moved, &joined, &other, &live] {
        line.phone.hang_up("NORMAL_CLEARING");
    }
    house.finish(1);
}

/// A caller who waits as a daemon at `address` left it.
fn left_behind(house: &mut House, address: &str) -> Line {
    let line = house.call_by("100", Way::Park);
    house.variable(&line.uuid, "current_application", |it| it == "park");
    for (name, value) in [("tandem_at", address), ("tandem_outcome", "caller_hangup")] {
        let answer = house.stage.api(&format!("uuid_setvar {} {name} {value}", line.uuid));
        assert!(answer.starts_with("+OK"), "{answer}");
    }
    line
}
