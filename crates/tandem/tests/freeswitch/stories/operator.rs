//! Orders that no agent gives, but an operator of the switch may, while a call is ours: by the same typed commands.

use secrecy::SecretString;
use tandem_pbx::{
    BroadcastLeg, ChannelUuid, DialString, Playable, Reply, Switch, SwitchCommand, SwitchError,
    SwitchSettings, Text, Word,
};

use super::transfer::hear_each_other;
use crate::{
    Theatre,
    common::wait_until,
    house::{House, Setup},
    stage::{Behaviour, people},
};

/// Somebody with a link to the switch.
struct Operator<'a> {
    theatre: &'a Theatre,
    switch: Switch,
}

impl<'a> Operator<'a> {
    fn of(theatre: &'a Theatre, house: &House) -> Self {
        let address = house.stage.event_socket().to_string();
        let password = SecretString::from(house.stage.password());
        let switch = theatre.runtime.block_on(async {
            let switch = Switch::start(SwitchSettings::new("operator", address, password))?;
            switch.up().await.expect("nobody stops it");
            Ok::<_, tandem_pbx::SettingsError>(switch)
        });
        Self { theatre, switch: switch.expect("the settings are right") }
    }

    fn orders(&self, command: SwitchCommand) -> Result<Reply, SwitchError> {
        self.theatre.runtime.block_on(self.switch.execute(command))
    }
}

fn uuid(text: &str) -> ChannelUuid {
    ChannelUuid::new(text).expect("a uuid")
}

fn word(text: &str) -> Word {
    Word::new(text).expect("a word")
}

/// The caller's phone is told of the hold and of its end, and the conversation goes on.
pub(crate) fn holds(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    let operator = Operator::of(theatre, &house);
    let line = house.greeted("100");
    operator.orders(SwitchCommand::Hold { uuid: uuid(&line.uuid) }).expect("it is held");
    wait_until("the phone to be held", || line.phone.is_held());
    operator.orders(SwitchCommand::Unhold { uuid: uuid(&line.uuid) }).expect("it is back");
    wait_until("the phone to be back", || !line.phone.is_held());
    line.say_and_hear(&theatre.words());
    line.phone.hang_up("NORMAL_CLEARING");
    house.ended(&line.uuid);
    assert_eq!(house.record(&line.uuid)["end_reason"], "caller_hangup");
    drop(operator);
    house.finish(1);
}

/// The caller's phone is sent elsewhere by a REFER, and leaves.
pub(crate) fn deflects(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    let operator = Operator::of(theatre, &house);
    let line = house.greeted("100");
    let uri = word("sip:8001@127.0.0.1:5999");
    let deflect = SwitchCommand::Deflect { uuid: uuid(&line.uuid), uri };
    operator.orders(deflect).expect("the phone agrees");
    if !house.stage.is_fake() {
        let referred = line.phone.referred().expect("a REFER came");
        assert!(referred.contains("sip:8001@127.0.0.1:5999"), "{referred}");
        line.phone.hang_up("NORMAL_CLEARING");
    }
    assert_eq!(house.ended(&line.uuid), "BLIND_TRANSFER");
    assert_eq!(house.record(&line.uuid)["ended_by"], "caller");
    drop(operator);
    house.finish(1);
}

/// Whoever has taken the caller over asks somebody else first, by the keys of their phone, and hangs up: the caller is
/// with the third. Our part was over before.
pub(crate) fn transfers_by_keys(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    if house.stage.is_fake() {
        return house.finish(0); // It has no `att_xfer`.
    }
    house.stage.expect(people::ANNA, Behaviour::Answers);
    house.stage.expect(people::TOLD, Behaviour::Answers);
    let operator = Operator::of(theatre, &house);
    let line = house.greeted("100");
    line.phone.press("1");
    let anna = house.target(people::ANNA);
    super::transfer::left(&mut house, &line);
    hear_each_other(theatre, &line, &anna);
    let third = DialString::new(&house.stage.dial_string().replace("{target}", people::TOLD));
    let by_keys = SwitchCommand::AttendedTransferByKeys {
        uuid: uuid(&anna.uuid),
        target: third.expect("a dial string"),
    };
    operator.orders(by_keys.clone()).expect("it is begun");
    let told = house.target(people::TOLD);
    hear_each_other(theatre, &anna, &told);
    anna.phone.press("#");
    house.ended(&told.uuid);
    hear_each_other(theatre, &line, &anna);
    operator.orders(by_keys).expect("it is begun again");
    let told = house.target(people::TOLD);
    hear_each_other(theatre, &anna, &told);
    anna.phone.hang_up("NORMAL_CLEARING");
    hear_each_other(theatre, &line, &told);
    line.phone.hang_up("NORMAL_CLEARING");
    house.ended(&line.uuid);
    house.ended(&anna.uuid); // The switch keeps her channel until those two have done.
    drop(operator);
    house.finish(1);
}

/// An engine of the switch reads something to the caller, beside the agent.
pub(crate) fn speaks(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    if !house.stage.is_fake() && !house.stage.has_module("mod_flite") {
        eprintln!("skipped: the switch has no mod_flite");
        return house.finish(0);
    }
    let operator = Operator::of(theatre, &house);
    let line = house.greeted("100");
    let since = line.now();
    let what = Playable::Speak {
        engine: word("flite"),
        voice: word("slt"),
        text: Text::new("This call may be recorded.").expect("a text"),
    };
    let leg = BroadcastLeg::Own;
    let speak = SwitchCommand::Broadcast { uuid: uuid(&line.uuid), what, leg };
    operator.orders(speak).expect("it is read");
    line.hear_since(Some(since));
    line.hear_the_end();
    line.press_and_hear("6");
    line.phone.hang_up("NORMAL_CLEARING");
    house.ended(&line.uuid);
    drop(operator);
    house.finish(1);
}
