//! Forks that break, and files played for legs that cannot be played back.

use tandem_call::{FilePlayback, HangupCause, SignalCommand, SignalEvent, TransferKind};
use tandem_pbx::{
    ChannelEventKind, ChannelNote, ChannelOrder, ChannelSettings, Extension, ForkEvent, ForkModule,
    ForkPlan, ForkSource, MediaPath, SwitchError,
};

use crate::world::{World, fork_plan, hung_up, millis, ok, refused, secs, settings};

const STOP: &str = "uuid_audio_fork OWN stop";

fn failed() -> ForkEvent {
    ForkEvent::Failed { reason: "conn fail: 111".into(), detached: false }
}

fn closed() -> ForkEvent {
    ForkEvent::Disconnected { code: None, reason: String::new() }
}

#[test]
fn a_broken_fork_is_stopped_and_started_again() {
    let mut world = World::talking();
    world.fork(closed());
    assert_eq!(world.take_short_lines(), [STOP]);
    world.run(millis(100));
    let lines = world.take_short_lines();
    assert!(lines[0].starts_with("uuid_audio_fork ^^|OWN|start|ws://"), "{lines:?}");
    assert_eq!(lines.len(), 1);
    world.fork(ForkEvent::Connected);
    world.run(secs(60));
    assert!(world.take_lines().is_empty());
    assert!(world.take_events().is_empty());
}

#[test]
fn a_fork_that_never_connects_is_given_up_and_the_call_with_it() {
    let mut world = World::talking();
    world.fork(closed());
    for attempt in 1..=5 {
        world.run(secs(4));
        assert!(world.take_events().is_empty(), "attempt {attempt}");
        world.fork(failed());
    }
    assert_eq!(world.take_events(), [hung_up(HangupCause::NormalTemporaryFailure)]);
    let lines = world.take_short_lines();
    assert_eq!(lines.iter().filter(|line| line.contains("|start|")).count(), 5);
    assert_eq!(lines.last().unwrap(), "uuid_kill OWN NORMAL_TEMPORARY_FAILURE");
    assert!(world.notes.contains(&ChannelNote::ForkGivenUp { why: "conn fail: 111".into() }));
    assert!(world.channel.is_done());
}

#[test]
fn a_fork_that_was_sound_has_all_its_attempts_again() {
    let mut world = World::talking();
    for _ in 0..20 {
        world.run(secs(11));
        world.fork(closed());
        world.run(secs(1));
        world.fork(ForkEvent::Connected);
    }
    assert!(world.take_events().is_empty());
}

#[test]
fn a_start_that_is_refused_or_never_heard_of_is_tried_again() {
    let mut world = World::new(settings());
    world.next_answer("uuid_audio_fork", refused("Operation Failed"));
    world.command(SignalCommand::Answer);
    world.run(secs(4)); // Accepted, but nothing is heard of it.
    let starts = |world: &mut World| {
        world.take_lines().iter().filter(|line| line.contains("|start|")).count()
    };
    assert_eq!(starts(&mut world), 2);
    world.run(secs(3));
    assert_eq!(starts(&mut world), 1);
    world.fork(ForkEvent::Connected);
    world.run(secs(20));
    assert_eq!(starts(&mut world), 0);
}

#[test]
fn a_fork_refused_because_the_caller_has_gone_ends_the_call_at_once() {
    for why in ["Operation Failed", "No such channel!"] {
        let mut world = World::new(settings());
        world.next_answer("uuid_audio_fork", refused(why));
        world.next_answer("uuid_exists", ok("false"));
        world.command(SignalCommand::Answer);
        let events = [SignalEvent::Answered, hung_up(HangupCause::NormalClearing)];
        assert_eq!(world.take_events(), events, "{why}");
        assert!(world.channel.is_done(), "{why}");
        let lines = world.take_short_lines();
        let asked = lines.iter().any(|line| line == "uuid_exists OWN");
        assert_eq!(asked, why == "Operation Failed", "only where it is not said");
        world.run(secs(20));
        assert!(world.take_lines().is_empty(), "{why}");
    }
}

#[test]
fn a_caller_who_goes_between_two_refused_starts_is_missed_at_the_second() {
    let mut world = World::new(settings());
    world.next_answer("uuid_audio_fork", refused("Operation Failed"));
    world.next_answer("uuid_exists", ok("true"));
    world.command(SignalCommand::Answer);
    assert_eq!(world.take_events(), [SignalEvent::Answered]);
    world.take_lines();
    world.next_answer("uuid_audio_fork", refused("Operation Failed"));
    world.next_answer("uuid_exists", ok("false"));
    world.run(millis(100));
    assert_eq!(world.take_events(), [hung_up(HangupCause::NormalClearing)]);
    assert!(world.channel.is_done());
}

#[test]
fn a_question_for_the_channel_that_is_not_answered_changes_nothing() {
    for answer in [Err(SwitchError::TimedOut), ok("true"), ok("")] {
        let mut world = World::new(settings());
        world.next_answer("uuid_audio_fork", refused("Operation Failed"));
        world.next_answer("uuid_exists", answer.clone());
        world.command(SignalCommand::Answer);
        world.run(millis(100));
        world.fork(ForkEvent::Connected);
        world.run(secs(20));
        assert_eq!(world.take_events(), [SignalEvent::Answered], "{answer:?}");
    }
}

#[test]
fn a_caller_whose_audio_cannot_be_had_goes_to_the_fallback() {
    let fork = ForkSource::Dialplan { module: ForkModule::AudioForkBidirectional, bug: None };
    let fallback = Some(Extension::new("reception", "default").unwrap());
    let settings = || ChannelSettings {
        answered: true,
        fork: fork.clone(),
        fallback: fallback.clone(),
        ..settings()
    };
    let mut world = World::new(settings());
    world.command(SignalCommand::Answer);
    world.take_lines();
    world.take_events();
    world.fork(closed());
    assert_eq!(world.take_short_lines(), [STOP, "uuid_transfer OWN reception XML default"]);
    assert_eq!(world.take_events(), [SignalEvent::TakenOver, hung_up(HangupCause::NormalClearing)]);
    world.run(secs(10));
    assert!(world.channel.is_done());

    let mut world = World::new(settings());
    world.command(SignalCommand::Answer);
    world.take_events();
    world.next_answer("uuid_transfer", refused("Operation Failed"));
    world.fork(closed());
    assert_eq!(world.take_events(), [hung_up(HangupCause::NormalTemporaryFailure)]);
}

#[test]
fn our_end_of_the_websocket_knows_first() {
    let mut world = World::talking();
    world.channel.handle_media(world.now, true);
    world.channel.handle_media(world.now, false);
    world.run(millis(50));
    world.fork(closed()); // The same loss, told by the switch.
    world.run(millis(100));
    let lines = world.take_short_lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0], STOP);
    world.channel.handle_media(world.now, true);
    world.run(secs(30));
    assert!(world.take_lines().is_empty());
}

#[test]
fn nothing_is_started_after_a_hang_up() {
    let mut world = World::talking();
    world.hold_back("uuid_kill");
    world.fork(closed());
    world.hang_up();
    world.take_lines();
    world.fork(closed());
    world.run(secs(5));
    assert!(world.take_lines().is_empty());
}

#[test]
fn a_fork_of_another_name_is_not_ours() {
    let mut world = World::talking();
    let bug = Some("recorder".to_owned());
    let module = ForkModule::AudioFork;
    world.own(ChannelEventKind::Fork { module, bug, event: closed() });
    world.run(secs(1));
    assert!(world.take_lines().is_empty());
    world.fork(ForkEvent::Overrun);
    assert_eq!(world.notes, [ChannelNote::ForkOverrun]);
}

#[test]
fn a_nameless_loss_is_of_another_fork_while_our_audio_comes() {
    for lost in [closed(), failed()] {
        let mut world = World::talking();
        world.media(true);
        world.fork(lost);
        assert_eq!(world.orders, [ChannelOrder::ProbeMedia]);
        world.run(millis(400));
        world.media(true); // More audio has come.
        world.run(secs(60));
        assert!(world.take_lines().is_empty());
        assert!(world.notes.is_empty(), "{:?}", world.notes);
        // Ours is still watched over.
        world.media(false);
        world.run(millis(400));
        assert_eq!(world.take_short_lines()[0], STOP);
    }
}

#[test]
fn a_nameless_loss_is_ours_where_no_more_audio_comes() {
    let mut world = World::talking();
    world.media(true);
    world.fork(closed());
    world.run(millis(650));
    assert!(world.take_lines().is_empty());
    world.run(millis(50));
    assert_eq!(world.take_short_lines(), [STOP], "our end has not noticed");
    world.run(millis(100));
    world.media(true);
    world.take_lines();

    world.fork(closed());
    world.media(false);
    assert_eq!(world.take_short_lines(), [STOP], "both ends say so");
}

#[test]
fn a_nameless_loss_during_a_hold_proves_nothing() {
    let mut world = World::talking();
    world.media(true);
    world.own(ChannelEventKind::Held);
    world.fork(closed());
    world.run(secs(60));
    assert!(world.take_lines().is_empty());
}

#[test]
fn a_fork_of_another_module_is_not_ours() {
    let mut world = World::talking();
    let module = ForkModule::AudioStream;
    world.own(ChannelEventKind::Fork { module, bug: None, event: closed() });
    world.run(secs(1));
    assert!(world.take_lines().is_empty());
}

#[test]
fn a_websocket_that_closes_before_the_hang_up_is_told_is_no_fault() {
    let mut world = World::talking();
    world.fork(ForkEvent::Connected);
    world.take_lines();
    world.take_events();
    world.channel.handle_media(world.now, false);
    world.run(millis(100));
    world.own_hangs_up("NORMAL_CLEARING");
    world.run(secs(5));
    assert_eq!(world.take_lines(), [""; 0]);
    assert_eq!(world.take_events(), [hung_up(HangupCause::NormalClearing)]);
    assert!(world.notes.is_empty(), "{:?}", world.notes);
}

/// A call whose module plays nothing by itself.
fn talking_by_files() -> World {
    let plan = ForkPlan { back: None, ..fork_plan() };
    World::talking_with(ChannelSettings { fork: ForkSource::Ours(Box::new(plan)), ..settings() })
}

fn file(id: &str, path: &str) -> ForkEvent {
    ForkEvent::PlayFile {
        file: MediaPath::new(path).ok(),
        id: Some(id.into()),
        body: String::new(),
    }
}

fn started(path: &str) -> ChannelEventKind {
    ChannelEventKind::PlaybackStarted { file: path.into() }
}

fn stopped(path: &str, broken: bool) -> ChannelEventKind {
    ChannelEventKind::PlaybackStopped { file: path.into(), broken }
}

fn playback(of: &[FilePlayback]) -> Vec<SignalEvent> {
    of.iter().cloned().map(SignalEvent::Playback).collect()
}

#[test]
fn files_are_played_in_order_and_told_of() {
    let mut world = talking_by_files();
    world.fork(file("1", "/tmp/x_0.tmp.r8"));
    world.fork(file("2", "/tmp/x_1.tmp.r8"));
    assert_eq!(
        world.take_short_lines(),
        ["uuid_broadcast OWN /tmp/x_0.tmp.r8 aleg", "uuid_broadcast OWN /tmp/x_1.tmp.r8 aleg"]
    );
    world.own(started("/tmp/x_0.tmp.r8"));
    world.run(secs(5)); // The second waits for the first, not for its own two seconds.
    world.own(stopped("/tmp/x_0.tmp.r8", false));
    world.run(millis(120));
    world.own(started("/tmp/x_1.tmp.r8"));
    world.own(stopped("/tmp/x_1.tmp.r8", false));
    world.own(started("/var/sounds/of_somebody.wav"));
    world.own(stopped("/var/sounds/of_somebody.wav", false));
    assert_eq!(
        world.take_events(),
        playback(&[
            FilePlayback::Started { id: 1 },
            FilePlayback::Stopped { id: 1, broken: false },
            FilePlayback::Started { id: 2 },
            FilePlayback::Stopped { id: 2, broken: false },
        ])
    );
}

#[test]
fn a_file_that_does_not_begin_has_failed() {
    let mut world = talking_by_files();
    world.fork(file("1", "/tmp/x_0.tmp.r8"));
    world.next_answer("uuid_broadcast", refused("invalid uuid"));
    world.fork(file("2", "/tmp/x_1.tmp.r8"));
    world.fork(ForkEvent::PlayFile { file: None, id: Some("3".into()), body: "{}".into() });
    world.fork(ForkEvent::PlayFile { file: None, id: None, body: "{}".into() });
    world.run(millis(900));
    world.take_lines();
    world.run(millis(100));
    // The switch may have been moving the channel: once more.
    assert_eq!(world.take_short_lines(), ["uuid_broadcast OWN /tmp/x_0.tmp.r8 aleg"]);
    world.run(secs(1));
    let failed = |id, reason: &str| FilePlayback::Failed { id, reason: reason.into() };
    assert_eq!(
        world.take_events(),
        playback(&[
            failed(2, "refused: invalid uuid"),
            failed(3, "the module wrote no file"),
            failed(1, "it did not begin within 2 s"),
        ])
    );
    let not_played = |reason: &str| ChannelNote::NotPlayed { reason: reason.into() };
    assert_eq!(
        world.notes,
        [
            not_played("refused: invalid uuid"),
            not_played("the module wrote no file"),
            ChannelNote::StrangeFile,
            not_played("it did not begin within 2 s"),
        ]
    );
}

#[test]
fn breaking_off_ends_all_files() {
    let mut world = talking_by_files();
    for id in ["1", "2", "3"] {
        world.fork(file(id, &format!("/tmp/x_{id}.tmp.r8")));
    }
    world.own(started("/tmp/x_1.tmp.r8"));
    world.take_events();
    world.take_lines();
    world.command(SignalCommand::BreakPlayback);
    assert_eq!(world.take_short_lines(), ["uuid_break OWN all"]);
    world.own(stopped("/tmp/x_1.tmp.r8", true));
    world.run(secs(5));
    assert_eq!(
        world.take_events(),
        playback(&[
            FilePlayback::Stopped { id: 2, broken: true },
            FilePlayback::Stopped { id: 3, broken: true },
            FilePlayback::Stopped { id: 1, broken: true },
        ])
    );
    world.fork(file("4", "/tmp/x_4.tmp.r8"));
    world.command(SignalCommand::BreakPlayback);
    world.own(started("/tmp/x_4.tmp.r8")); // Of a time before the break.
    assert_eq!(world.take_events(), playback(&[FilePlayback::Stopped { id: 4, broken: true }]));
}

#[test]
fn files_that_wait_are_bounded_and_none_plays_into_a_transfer() {
    let mut world = talking_by_files();
    for id in 0..40 {
        world.fork(file(&id.to_string(), &format!("/tmp/x_{id}.tmp.r8")));
    }
    assert_eq!(world.take_events().len(), 8);
    world.take_lines();
    world.transfer(TransferKind::Extension, "1001");
    assert_eq!(world.take_short_lines()[0], "uuid_break OWN all");
    assert_eq!(world.take_events().len(), 32);
    world.fork(file("41", "/tmp/x_41.tmp.r8"));
    assert!(matches!(
        &world.take_events()[..],
        [SignalEvent::Playback(FilePlayback::Failed { id: 41, .. })]
    ));
}

#[test]
fn files_of_another_fork_are_not_played() {
    let mut world = World::talking();
    world.fork(file("1", "/tmp/x_0.tmp.r8"));
    assert!(world.take_lines().is_empty(), "our module plays what it is sent");
    let mut world = talking_by_files();
    let event = file("1", "/tmp/x_0.tmp.r8");
    world.own(ChannelEventKind::Fork { module: ForkModule::AudioStream, bug: None, event });
    assert!(world.take_lines().is_empty(), "it is of another module");
    assert!(world.take_events().is_empty() && world.notes.is_empty());
}
