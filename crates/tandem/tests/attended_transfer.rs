//! Attended transfers of SIP calls: somebody is called beside the caller, is asked, and takes the caller by REFER with Replaces.

mod common;

use common::{
    Daemon,
    caller::{Call, Caller},
    desk::Desk,
    message::Message,
    wait_until,
};
use serde_json::Value;

/// What is said can be said without a speech program: it is made of shipped sentences.
fn config(desk: &Desk, more: &str) -> String {
    format!(
        r#"
[sip]
[sip.transfer]
announcement = "One moment, please."
{more}
[attendant]
engines = []
[agents.reception]
greeting = ""
transfer = {{ type = "sip", target = "{}", mode = "attended" }}
transfer_timeout_s = 5
[numbers]
"*" = "reception"
"#,
        desk.uri()
    )
}

/// A caller who asked for a human, and the INVITE to the desk.
struct World {
    daemon: Daemon,
    desk: Desk,
    caller: Caller,
    call: Call,
    invite: Message,
    idle: usize,
}

impl World {
    fn new(more: &str) -> Self {
        let mut desk = Desk::start();
        let daemon = Daemon::start(&config(&desk, more));
        let idle = daemon.descriptors();
        let mut caller = Caller::udp(daemon.sip);
        let mut call = caller.connect("200");
        caller.press(&mut call, '0');
        let invite = desk.wait_for("INVITE");
        Self { daemon, desk, caller, call, invite, idle }
    }

    /// The same, and the desk has answered and heard what it is about.
    fn asked(more: &str) -> Self {
        let mut world = Self::new(more);
        world.desk.answer(&world.invite);
        world.desk.hear_speech(20);
        world
    }

    /// The PBX tells how the transfer came out.
    fn notify(&mut self, line: &str) {
        let headers = [
            ("Event", "refer"),
            ("Subscription-State", "terminated;reason=noresource"),
            ("Content-Type", "message/sipfrag;version=2.0"),
        ];
        let response = self.caller.ask(&mut self.call, "NOTIFY", &headers, line);
        assert_eq!(response.status(), 200, "{response:?}");
    }

    fn desk_is_hung_up_on(&mut self) {
        let bye = self.desk.wait_for("BYE");
        self.desk.reply(&bye, "200 OK", "");
    }

    /// The caller is back in the conversation, and hangs up; the record of the call.
    fn goes_on(mut self) -> Value {
        self.caller.forget_rtp();
        let heard = (0..1_500).any(|_| self.caller.listen(&self.call, 1)[0].peak > 4_000);
        assert!(heard, "the agent speaks again");
        self.caller.hang_up(&mut self.call);
        let record = self.record();
        assert_eq!(record["end_reason"], "caller_hangup", "{record}");
        assert_eq!(record["transfer"]["status"], "failed", "{record}");
        record
    }

    fn record(&self) -> Value {
        let record = self.daemon.wait_for_records(1).remove(0);
        wait_until("both legs to be let go of", || self.daemon.descriptors() <= self.idle);
        record
    }
}

#[test]
fn a_key_hands_the_caller_over_by_a_refer_that_replaces_the_call_to_the_desk() {
    for by_rtp in [false, true] {
        let mut world = World::asked("");
        let invite = world.invite.clone();
        assert!(invite.header("From").contains("sip:+13055550100@127.0.0.1"), "{invite:?}");
        assert_eq!(invite.header("X-Tandem-Agent"), "reception");
        assert!(invite.headers("X-Tandem-Call-ID").next().is_some());
        if by_rtp {
            world.desk.press_by_rtp(&invite, 1);
        } else {
            world.desk.press(&invite, '1');
        }
        let refer = world.caller.wait_for_request(&world.call, "REFER", "202 Accepted");
        let tag = invite.header("From").split(";tag=").nth(1).expect("a tag").to_owned();
        let call_id = invite.header("Call-ID").replace('@', "%40");
        let expected = format!(
            "<{};ob?Replaces={call_id}%3Bto-tag%3Ddesk%3Bfrom-tag%3D{tag}>",
            world.desk.uri()
        );
        assert_eq!(refer.header("Refer-To"), expected);
        assert_eq!(refer.header("X-Tandem-Agent"), "reception");
        // The PBX has the desk in place of us: it ends the desk's call, then tells.
        world.desk.request(&invite, "BYE", "", "");
        world.notify("SIP/2.0 200 OK\r\n");
        world.caller.wait_for_bye(&world.call);
        let record = world.record();
        assert_eq!(record["end_reason"], "transferred", "{record}");
        assert_eq!(record["transfer"]["status"], "completed", "{record}");
    }
}

#[test]
fn a_desk_that_the_pbx_leaves_to_us_is_hung_up_on_after_the_transfer() {
    let mut world = World::asked("");
    world.desk.press(&world.invite, '#');
    world.caller.wait_for_request(&world.call, "REFER", "202 Accepted");
    world.notify("SIP/2.0 200 OK\r\n");
    world.caller.wait_for_bye(&world.call);
    world.desk_is_hung_up_on();
    assert_eq!(world.record()["transfer"]["status"], "completed");
}

#[test]
fn who_listens_to_the_end_takes_the_call_where_no_key_is_asked_for() {
    let mut world = World::new("accept = \"answer\"");
    world.desk.answer(&world.invite);
    world.caller.wait_for_request(&world.call, "REFER", "202 Accepted");
    world.notify("SIP/2.0 200 OK\r\n");
    world.caller.wait_for_bye(&world.call);
    world.desk_is_hung_up_on();
    assert_eq!(world.record()["transfer"]["status"], "completed");
}

#[test]
fn a_desk_that_is_busy_or_does_not_answer_brings_the_caller_back() {
    let world = World::new("");
    world.desk.reply(&world.invite, "486 Busy Here", "");
    let record = world.goes_on();
    assert_eq!(record["transfer"]["error"], "Busy Here (486)", "{record}");

    let mut world = World::new("ring_timeout_s = 1");
    world.desk.reply(&world.invite, "180 Ringing", "");
    let cancel = world.desk.wait_for("CANCEL");
    world.desk.reply(&cancel, "200 OK", "");
    world.desk.reply(&world.invite, "487 Request Terminated", "");
    let record = world.goes_on();
    assert_eq!(record["transfer"]["error"], "nobody answered in time", "{record}");
}

#[test]
fn a_desk_that_declines_or_hangs_up_brings_the_caller_back() {
    for by_key in [true, false] {
        let mut world = World::asked("");
        let invite = world.invite.clone();
        if by_key {
            world.desk.press(&invite, '*');
            world.desk_is_hung_up_on();
        } else {
            world.desk.request(&invite, "BYE", "", "");
        }
        let record = world.goes_on();
        let error = record["transfer"]["error"].as_str().expect("it says why");
        assert!(error.starts_with("declined") && error.ends_with("(603)"), "{record}");
    }
}

#[test]
fn a_refer_that_is_refused_or_fails_brings_the_caller_back_and_lets_the_desk_go() {
    for (answer, outcome, error) in [
        ("603 Decline", None, "Decline (603)"),
        ("405 Method Not Allowed", None, "Method Not Allowed (405)"),
        ("202 Accepted", Some("SIP/2.0 481 Call Leg Does Not Exist\r\n"), "(481)"),
    ] {
        let mut world = World::asked("");
        world.desk.press(&world.invite, '1');
        world.caller.wait_for_request(&world.call, "REFER", answer);
        if let Some(outcome) = outcome {
            world.notify(outcome);
        }
        world.desk_is_hung_up_on();
        let record = world.goes_on();
        let told = record["transfer"]["error"].as_str().expect("it says why");
        assert!(told.ends_with(error), "{record}");
    }
}

#[test]
fn a_caller_who_hangs_up_meanwhile_frees_the_desk() {
    // While it rings.
    let mut world = World::new("");
    world.desk.reply(&world.invite, "180 Ringing", "");
    world.caller.hang_up(&mut world.call);
    let cancel = world.desk.wait_for("CANCEL");
    world.desk.reply(&cancel, "200 OK", "");
    world.desk.reply(&world.invite, "487 Request Terminated", "");
    let record = world.record();
    assert_eq!(record["end_reason"], "caller_hangup", "{record}");
    // While it is asked.
    let mut world = World::asked("");
    world.caller.hang_up(&mut world.call);
    world.desk_is_hung_up_on();
    assert_eq!(world.record()["transfer"]["status"], "failed");
}

#[test]
fn a_daemon_that_stops_lets_the_desk_go() {
    let mut world = World::asked("\n[limits]\ndrain_s = 1\n");
    world.daemon.signal("TERM");
    world.desk_is_hung_up_on();
    world.caller.wait_for_bye(&world.call);
    assert_eq!(world.daemon.wait(), Some(0));
    let record = world.daemon.wait_for_records(1).remove(0);
    assert_eq!(record["end_reason"], "draining", "{record}");
}

#[test]
fn the_caller_hears_a_telephone_ring_meanwhile() {
    let mut world = World::asked("");
    // Softly: neither speech nor silence.
    let rings = |peak: u16| (300..4_000).contains(&peak);
    let heard = (0..600).filter(|_| rings(world.caller.listen(&world.call, 1)[0].peak)).count();
    assert!((100..350).contains(&heard), "two seconds in six: {heard} packets of twelve seconds");
    world.desk.press(&world.invite, '*');
    world.desk_is_hung_up_on();
    world.goes_on();
}
