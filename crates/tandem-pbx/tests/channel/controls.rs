//! What an API does with the channel.

use tandem_call::TransferKind;
use tandem_pbx::{
    ChannelEventKind, ControlError, DialString, Digits, Direction, EavesdropMode, ListenerCall,
    MediaPath, RecordAction, SwitchCommand, ValetSlot, Word,
};

use crate::world::{OWN, World, secs, settings};

fn word(text: &str) -> Word {
    Word::new(text).unwrap()
}

fn line(command: &SwitchCommand) -> String {
    command.line().replace(OWN, "OWN")
}

#[test]
fn hold_goes_back_and_forth() {
    let mut world = World::talking();
    assert_eq!(line(&world.channel.toggle_hold().unwrap()), "uuid_hold OWN");
    assert_eq!(world.channel.resume(), Err(ControlError::NotHeld));
    world.own(ChannelEventKind::Held);
    assert_eq!(world.channel.hold(), Err(ControlError::AlreadyHeld));
    assert_eq!(line(&world.channel.toggle_hold().unwrap()), "uuid_hold off OWN");
}

#[test]
fn a_recording_knows_its_path() {
    let mut world = World::talking();
    let path = || MediaPath::new("/var/rec/a.wav").unwrap();
    assert_eq!(world.channel.change_recording(RecordAction::Mask), Err(ControlError::NotRecording));
    let start = world.channel.record(path(), Some(secs(60))).unwrap();
    assert_eq!(line(&start), "uuid_record OWN start /var/rec/a.wav 60");
    assert_eq!(world.channel.record(path(), None), Err(ControlError::AlreadyRecording(path())));
    let mask = world.channel.change_recording(RecordAction::Mask).unwrap();
    assert_eq!(line(&mask), "uuid_record OWN mask /var/rec/a.wav");
    world.own(ChannelEventKind::RecordStopped { path: "/var/rec/a.wav".into() });
    assert_eq!(world.channel.change_recording(RecordAction::Stop), Err(ControlError::NotRecording));
    world.own(ChannelEventKind::RecordStarted { path: "/var/rec/b.wav".into() });
    let stop = world.channel.change_recording(RecordAction::Stop).unwrap();
    assert_eq!(line(&stop), "uuid_record OWN stop /var/rec/b.wav");
}

#[test]
fn where_we_send_the_channel_nobody_took_it() {
    let mut world = World::talking();
    let lot = world.channel.valet_park(word("lot1"), ValetSlot::Range { first: 5001, last: 5099 });
    assert_eq!(line(&lot.unwrap()), "uuid_transfer OWN 'valet_park:lot1 auto in 5001 5099' inline");
    world.own(ChannelEventKind::Unparked);
    world.executed("valet_park");
    let join = world.channel.join_conference(&word("room1"), &word("default")).unwrap();
    assert_eq!(line(&join), "uuid_transfer OWN conference:room1@default inline");
    world.own(ChannelEventKind::Unparked);
    world.executed("conference");
    assert_eq!(line(&world.channel.park().unwrap()), "uuid_park OWN");
    assert!(world.take_events().is_empty());
    world.own(ChannelEventKind::Unparked);
    world.executed("conference");
    assert_eq!(world.take_events().len(), 2, "a second time it was not us");
}

#[test]
fn people_listen_in_or_join() {
    let mut world = World::talking();
    let listener = ListenerCall {
        dial: DialString::new("sofia/internal/boss@10.0.0.5").unwrap(),
        timeout: secs(20),
        mode: EavesdropMode::Listen,
    };
    let call = line(&world.channel.eavesdrop(listener).unwrap());
    assert!(call.starts_with("originate {origination_uuid="), "{call}");
    assert!(call.ends_with("}sofia/internal/boss@10.0.0.5 &eavesdrop(OWN)"), "{call}");
    let third = DialString::new("user/1001").unwrap();
    let [join, dial] = world.channel.three_way(&word("room1"), &word("default"), third).unwrap();
    assert_eq!(line(&join), "uuid_transfer OWN conference:room1@default inline");
    assert_eq!(line(&dial), "conference room1@default bgdial user/1001 +13055550100 Ann");
}

#[test]
fn the_rest_needs_a_call_that_is_up() {
    let mut world = World::talking();
    let digits = || Digits::new("12#").unwrap();
    let send = world.channel.send_digits(digits(), None).unwrap();
    assert_eq!(line(&send), "uuid_send_dtmf OWN 12#");
    assert_eq!(
        line(&world.channel.mute(Direction::Read).unwrap()),
        "uuid_audio OWN start read mute 1"
    );
    assert_eq!(line(&world.channel.unmute().unwrap()), "uuid_audio OWN stop");
    world.transfer(TransferKind::External, "+491");
    assert_eq!(world.channel.send_digits(digits(), None), Err(ControlError::Transferring));
    let ringing = World::new(settings());
    assert_eq!(ringing.channel.hold(), Err(ControlError::NotUp));
}
