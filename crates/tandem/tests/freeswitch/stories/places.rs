//! `transfer_to_human` to everything else that a switch has: queues, menus, mailboxes, conferences, which take the caller for
//! good, gateways and groups, where people are called.
//!
//! A real switch need not have all of it: what is missing is named and left out.

use super::transfer::{connected, left, refused};
use crate::{
    Theatre,
    common::wait_until,
    house::{House, REASON, Setup},
    stage::{Behaviour, Place},
};

/// A kind of place that takes a caller for good.
struct Taker {
    place: Place,
    /// The type of the target.
    kind: &'static str,
    application: &'static str,
    /// Its arguments as they are ordered, with `{target}` for the target.
    arguments: &'static str,
    /// What the switch is asked for who is there, with `{target}` too; empty: it can't say, but it plays something.
    list: &'static str,
}

const TAKERS: [Taker; 4] = [
    Taker {
        place: Place::Queue,
        kind: "queue",
        application: "callcenter",
        arguments: "{target}",
        list: "callcenter_config queue list members {target}",
    },
    Taker { place: Place::Menu, kind: "ivr", application: "ivr", arguments: "{target}", list: "" },
    Taker {
        place: Place::Mailbox,
        kind: "voicemail",
        application: "voicemail",
        arguments: "default ${domain} {target}",
        list: "",
    },
    Taker {
        place: Place::Room,
        kind: "conference",
        application: "conference",
        arguments: "{target}@default",
        list: "conference {target} list",
    },
];

const FIFO: Taker = Taker {
    place: Place::Fifo,
    kind: "queue",
    application: "fifo",
    arguments: "{target} in",
    list: "fifo list {target}",
};

/// By the routes nobody configured.
pub(crate) fn handed_over(theatre: &Theatre) {
    taken(theatre, &TAKERS, "");
}

/// With mod_fifo in the place of mod_callcenter.
pub(crate) fn handed_to_a_fifo(theatre: &Theatre) {
    taken(theatre, &[FIFO], "queue = \"inline fifo:{target} in\"\n");
}

/// No queue, no menu and no mailbox of that name: the caller stays in the conversation.
pub(crate) fn that_do_not_exist(theatre: &Theatre) {
    let mut stage = theatre.stage();
    let nowhere = [
        (Place::Queue, "queue", "tandem-none@default"),
        (Place::Menu, "ivr", "tandem-none"),
        (Place::Mailbox, "voicemail", "98765"),
    ];
    let asked = nowhere.into_iter().filter(|(place, ..)| stage.place(*place).is_some());
    let asked: Vec<_> = asked.collect();
    let targets = asked.iter().map(|(_, kind, name)| target(kind, name)).collect();
    let mut house = theatre.house_at(stage, &Setup { targets, ..Setup::default() });
    let keys: Vec<_> = (1..=asked.len()).map(|key| key.to_string()).collect();
    let causes: Vec<_> =
        keys.iter().zip(&asked).map(|(key, (.., name))| (key.as_str(), *name)).collect();
    refused(&mut house, "105", &causes);
    house.finish(asked.len());
}

/// Each place takes a caller: the application is ordered once, runs, and has them.
fn taken(theatre: &Theatre, takers: &[Taker], routes: &str) {
    let mut stage = theatre.stage();
    let found = takers.iter().filter_map(|taker| Some((taker, stage.place(taker.place)?)));
    let found: Vec<_> = found.collect();
    let targets = found.iter().map(|(taker, name)| target(taker.kind, name));
    let setup =
        Setup { targets: targets.collect(), transfer: routes.to_owned(), ..Setup::default() };
    let mut house = theatre.house_at(stage, &setup);
    for (index, (taker, name)) in found.iter().enumerate() {
        takes(&mut house, &(index + 1).to_string(), taker, name);
    }
    house.finish(found.len());
}

fn takes(house: &mut House, key: &str, taker: &Taker, name: &str) {
    let line = house.greeted("105");
    let uuid = line.uuid.clone();
    let before = line.now();
    line.phone.press(key);
    let record = left(house, &line);
    assert_eq!(record["transfer"]["type"], taker.kind, "{record:#}");
    assert_eq!(record["transfer"]["target"], name, "{record:#}");
    assert_eq!(record["transfer"]["reason"], REASON, "{record:#}");

    let arguments = taker.arguments.replace("{target}", name);
    let mut action = format!("{}:{arguments}", taker.application);
    if action.contains(' ') {
        action = format!("'{action}'");
    }
    let order = format!("uuid_transfer {uuid} {action} inline");
    assert_eq!(house.link.said(&order), 1, "{order}");
    let domain = house.stage.api("global_getvar domain");
    let arguments = arguments.replace("${domain}", domain.trim());
    house.variable(&uuid, "current_application", |it| it == taker.application);
    house.variable(&uuid, "current_application_data", |it| it == arguments);
    house.variable(&uuid, "sip_h_X-Tandem-Reason", |reason| reason == REASON);
    house.variable(&uuid, "tandem_transcript", |text| text.ends_with("Agent: One moment, please."));
    if !taker.list.is_empty() {
        let list = taker.list.replace("{target}", name);
        wait_until("the caller to be there", || house.stage.api(&list).contains(&uuid));
    } else if !house.stage.is_fake() {
        line.hear_since(Some(before));
    }
    line.phone.hang_up("NORMAL_CLEARING");
    house.ended(&uuid);
}

/// An external number: called by the gateway, whose far end is busy, silent, not there; no such gateway.
pub(crate) fn through_a_gateway(theatre: &Theatre) {
    let mut stage = theatre.stage();
    let Some(gateway) = stage.place(Place::Gateway) else { return };
    let numbers = [1, 2, 3, 4].map(|it| format!("+1305555{it}{:03}", fastrand::u32(..1_000)));
    let outside = numbers.iter().map(|number| target("external", number));
    // What is called `sip` here goes by a gateway that does not exist.
    let targets = outside.chain([target("sip", "sip:desk@192.0.2.7")]);
    let mut house = theatre.house_at(
        stage,
        &Setup {
            targets: targets.collect(),
            transfer: format!(
                "gateway = {gateway:?}\nsip = \"bridge sofia/gateway/tandem-none/100\"\n"
            ),
            ..Setup::default()
        },
    );
    refused(&mut house, "105", &[("1", "NORMAL_TEMPORARY_FAILURE"), ("5", "INVALID_GATEWAY")]);
    house.stage.open_gateway();
    let [anna, busy, nobody, silent] = &numbers;
    house.stage.expect(busy, Behaviour::Busy);
    house.stage.expect(nobody, Behaviour::Unknown);
    house.stage.expect(silent, Behaviour::Rings);
    let causes = [("2", "USER_BUSY"), ("3", "UNALLOCATED_NUMBER"), ("4", "NO_ANSWER")];
    refused(&mut house, "105", &causes);
    let record = connected(theatre, &mut house, ("105", "1"), anna);
    assert_eq!(record["transfer"]["target"], anna.as_str(), "{record:#}");
    assert_eq!(house.stage.told(anna, "X-Tandem-Reason").as_deref(), Some(REASON));
    house.finish(6);
}

/// A group of users: nobody's phone is registered, everybody is busy, all let it ring, one answers.
pub(crate) fn to_a_ring_group(theatre: &Theatre) {
    let mut stage = theatre.stage();
    let Some(group) = stage.place(Place::Group) else { return };
    let members = stage.members(&group);
    let targets = vec![target("ringgroup", &group), target("ringgroup", "tandem-none")];
    let mut house = theatre.house_at(stage, &Setup { targets, ..Setup::default() });
    refused(&mut house, "105", &[("1", "USER_NOT_REGISTERED"), ("2", "NO_ROUTE_DESTINATION")]);
    if !house.stage.register(&members) {
        return house.finish(2);
    }
    for (behaviour, cause) in [(Behaviour::Busy, "USER_BUSY"), (Behaviour::Rings, "NO_ANSWER")] {
        for member in &members {
            house.stage.expect(member, behaviour);
        }
        refused(&mut house, "105", &[("1", cause)]);
    }
    // All others still ring.
    let record = connected(theatre, &mut house, ("105", "1"), &members[1]);
    assert_eq!(record["transfer"]["type"], "ringgroup", "{record:#}");
    house.finish(5);
}

/// A target as the configuration has it.
fn target(kind: &str, name: &str) -> String {
    format!("{{ type = {kind:?}, target = {name:?} }}")
}
