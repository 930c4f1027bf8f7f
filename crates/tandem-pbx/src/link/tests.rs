use std::collections::BTreeMap;

use proptest::prelude::*;
use tandem_call::HangupCause;

use super::*;
use crate::{
    ChannelEventKind, DialString, Originate, SwitchCommand, VariableName, VariableValue,
    captures::{self, Block},
};

const A: &str = "971a0687-092d-4726-849f-b20b7177229c";
const B: &str = "5e551000-0000-4000-8000-000000000021";

fn uuid(text: &str) -> ChannelUuid {
    ChannelUuid::new(text).unwrap()
}

fn hang_up(text: &str) -> SwitchCommand {
    SwitchCommand::HangUp { uuid: uuid(text), cause: HangupCause::NormalClearing.into() }
}

fn set(text: &str, value: &str) -> SwitchCommand {
    let variables =
        vec![(VariableName::new("tandem_x").unwrap(), VariableValue::new(value).unwrap())];
    SwitchCommand::SetVariables { uuid: uuid(text), variables }
}

fn originate(seconds: u64) -> SwitchCommand {
    let dial = DialString::new("sofia/gateway/t/49").unwrap();
    SwitchCommand::Originate(Box::new(Originate::parked(uuid(B), dial, secs(seconds))))
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn said(text: &str) -> String {
    format!("Content-Type: command/reply\nReply-Text: {text}\n\n")
}

fn result(text: &str) -> String {
    format!("Content-Type: api/response\nContent-Length: {}\n\n{text}", text.len())
}

fn event(pairs: &[(&str, &str)]) -> String {
    let map: serde_json::Map<_, _> =
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).into())).collect();
    let json = serde_json::to_string(&map).unwrap();
    format!("Content-Length: {}\nContent-Type: text/event-json\n\n{json}", json.len())
}

fn job(name: &str, body: &str) -> String {
    event(&[("Event-Name", "BACKGROUND_JOB"), ("Job-UUID", name), ("_body", body)])
}

fn channels(uuids: &[&str]) -> String {
    let rows: Vec<_> =
        uuids.iter().map(|uuid| serde_json::json!({"uuid": uuid, "callstate": "ACTIVE"})).collect();
    if rows.is_empty() {
        return result("{\"row_count\": 0}\n");
    }
    result(&serde_json::json!({"row_count": rows.len(), "rows": rows}).to_string())
}

/// A link on the virtual clock.
struct World {
    now: Instant,
    link: Link,
    ticket: Ticket,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let settings = SwitchSettings::new("pbx", "127.0.0.1", "ClueCon".into());
        Self { now, link: Link::inbound(now, settings, 7), ticket: 0 }
    }

    /// Up, with `alive` channels on the switch.
    fn up(alive: &[&str]) -> Self {
        let mut world = Self::new();
        world.come_up(alive);
        world.events();
        world
    }

    fn come_up(&mut self, alive: &[&str]) {
        self.connect();
        assert_eq!(self.feed("Content-Type: auth/request\n\n"), ["auth ClueCon"]);
        let asked = self.feed(&said("+OK accepted"));
        assert_eq!(
            asked.iter().map(|line| line.split(" CHANNEL").next().unwrap()).collect::<Vec<_>>(),
            [
                "api version",
                "api module_exists mod_audio_fork",
                "api module_exists mod_audio_stream",
                "event json",
                "api show channels as json"
            ]
        );
        for answer in [
            result("FreeSWITCH Version 1.10.12-release\n"),
            result("true"),
            result("false"),
            said("+OK event listener enabled json"),
        ] {
            assert_eq!(self.feed(&answer), [""; 0]);
        }
        self.feed(&channels(alive));
    }

    fn connect(&mut self) {
        assert_eq!(self.link.poll_timeout().map(|due| due <= self.now), Some(true));
        self.link.handle_timeout(self.now);
        assert_eq!(self.link.poll_action(), Some(LinkAction::Dial));
        self.link.handle_connected(self.now);
    }

    /// Takes what was written, one command a line each.
    fn written(&mut self) -> Vec<String> {
        let mut text = String::new();
        while !self.link.output().is_empty() {
            text.push_str(std::str::from_utf8(self.link.output()).unwrap());
            self.link.sent(self.now, self.link.output().len());
        }
        text.split_terminator("\n\n").map(str::to_owned).collect()
    }

    fn feed(&mut self, text: &str) -> Vec<String> {
        self.link.handle_bytes(self.now, text.as_bytes());
        self.written()
    }

    fn events(&mut self) -> Vec<LinkEvent> {
        std::iter::from_fn(|| self.link.poll_event()).collect()
    }

    fn order(&mut self, command: &SwitchCommand) -> Vec<String> {
        self.ticket += 1;
        self.link.submit(self.now, self.ticket, command);
        self.written()
    }

    /// Lets time pass, doing what is due.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.link.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.link.handle_timeout(self.now);
        }
        self.now = end;
    }

    /// The outcomes so far: ticket and the reply's text or the error.
    fn outcomes(&mut self) -> Vec<(Ticket, String)> {
        let outcome = |event| match event {
            LinkEvent::Reply { ticket, result: Ok(reply) } => {
                Some((ticket, reply.text().trim().to_owned()))
            }
            LinkEvent::Reply { ticket, result: Err(error) } => Some((ticket, format!("{error:?}"))),
            _ => None,
        };
        self.events().into_iter().filter_map(outcome).collect()
    }

    fn lose(&mut self) {
        self.link.handle_closed(self.now, "reset");
    }
}

fn outcome(ticket: Ticket, text: &str) -> (Ticket, String) {
    (ticket, text.to_owned())
}

fn refused(reason: &str) -> String {
    format!("{:?}", SwitchError::Refused { reason: reason.into() })
}

#[test]
fn a_link_comes_up() {
    let mut world = World::new();
    world.link.watch(world.now, uuid(A));
    world.come_up(&[A, B]);
    assert_eq!(world.events(), [], "the list alone is not to be trusted");
    world.feed(&result("true"));
    let facts = SwitchFacts {
        version: "FreeSWITCH Version 1.10.12-release".into(),
        audio_fork: true,
        audio_stream: false,
    };
    assert_eq!(
        world.events(),
        [
            LinkEvent::Reconciled { alive: [uuid(A), uuid(B)].into() },
            LinkEvent::State(LinkState::Up(facts.into())),
        ]
    );
    assert!(world.link.is_up());
}

#[test]
fn a_wrong_password_is_said_and_not_tried_again_at_once() {
    let capture = captures::named("esl/auth_and_exit");
    let refusal = capture.blocks.iter().filter_map(|block| match block {
        Block::Received(bytes) if bytes.windows(7).any(|w| w == b"invalid" || w == b"goodbye") => {
            Some(bytes.clone())
        }
        _ => None,
    });
    let refusal = refusal.take(2).collect::<Vec<_>>().concat();
    let mut world = World::new();
    world.connect();
    world.feed("Content-Type: auth/request\n\n");
    world.feed(&String::from_utf8(refusal).unwrap());
    let reason = "wrong user or password for the event socket".into();
    assert_eq!(world.events(), [LinkEvent::State(LinkState::Down { reason })]);
    assert_eq!(world.link.poll_action(), Some(LinkAction::Close));
    world.run(secs(29));
    assert_eq!(world.link.poll_action(), None);
    world.run(secs(2));
    assert_eq!(world.link.poll_action(), Some(LinkAction::Dial));
}

#[test]
fn a_refused_address_and_a_stranger_are_said() {
    for (sent, why) in [
        (
            "Content-Type: text/rude-rejection\nContent-Length: 24\n\nAccess Denied, go away.\n",
            "the switch's access list refuses this address",
        ),
        ("Content-Length: x\n\n", "the switch sent a body of \"x\" bytes"),
        (
            "Content-Type: text/disconnect-notice\nContent-Length: 67\n\nDisconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n",
            "the switch closed the connection: Disconnected, goodbye.",
        ),
    ] {
        let mut world = World::new();
        world.connect();
        world.feed(sent);
        assert_eq!(world.events(), [LinkEvent::State(LinkState::Down { reason: why.into() })]);
        assert_eq!(world.link.poll_action(), Some(LinkAction::Close));
    }
    let mut world = World::new();
    world.connect();
    world.run(secs(6));
    let LinkEvent::State(LinkState::Down { reason }) = &world.events()[0] else { panic!() };
    assert_eq!(&**reason, "the switch says nothing; is this its event socket?");
}

#[test]
fn a_user_of_the_directory_logs_in() {
    let mut world = World::new();
    let user = SwitchUser { name: "tandem".into(), domain: "example.net".into() };
    let settings =
        SwitchSettings { user: Some(user), ..SwitchSettings::new("pbx", "h", "p w".into()) };
    world.link = Link::inbound(world.now, settings, 1);
    world.connect();
    assert_eq!(world.feed("Content-Type: auth/request\n\n"), ["userauth tandem@example.net:p w"]);
}

#[test]
fn a_switch_that_is_away_is_dialled_ever_more_slowly() {
    let mut world = World::new();
    let (mut waits, mut last) = (Vec::new(), world.now);
    for _ in 0..12 {
        while world.link.poll_action() != Some(LinkAction::Dial) {
            let due = world.link.poll_timeout().unwrap();
            world.now = due;
            world.link.handle_timeout(due);
        }
        waits.push(world.now - last);
        last = world.now;
        world.link.handle_closed(world.now, "connection refused");
    }
    assert!(
        waits[1..].iter().all(|wait| *wait >= FIRST_RETRY / 2 && *wait <= LONGEST_RETRY),
        "{waits:?}"
    );
    assert!(waits[8..].iter().all(|wait| *wait >= LONGEST_RETRY / 2), "{waits:?}");
}

#[test]
fn a_connection_that_comes_up_and_dies_at_once_is_no_success() {
    let mut world = World::new();
    let mut waits = Vec::new();
    for _ in 0..8 {
        world.come_up(&[]);
        let lost = world.now;
        world.lose();
        world.now = world.link.poll_timeout().unwrap();
        waits.push(world.now - lost);
    }
    assert!(waits[7] >= LONGEST_RETRY / 2, "{waits:?}");
    world.come_up(&[]);
    world.run(secs(1));
    for _ in 0..3 {
        world.run(IDLE_PROBE);
        world.feed(&result("version"));
    }
    let lost = world.now;
    world.lose();
    assert!(world.link.poll_timeout().unwrap() - lost <= FIRST_RETRY);
}

#[test]
fn replies_come_in_order_and_jobs_when_they_are_done() {
    let mut world = World::up(&[]);
    assert_eq!(
        world.order(&SwitchCommand::Answer { uuid: uuid(A) }),
        [format!("api uuid_answer {A}")]
    );
    let call = world.order(&originate(20));
    let name = call[0].split("Job-UUID: ").nth(1).unwrap().to_owned();
    assert!(call[0].starts_with("bgapi originate {origination_uuid="), "{call:?}");
    world.order(&SwitchCommand::GetVariable {
        uuid: uuid(A),
        name: VariableName::new("x").unwrap(),
    });
    world.order(&hang_up(B));
    world.feed(
        &[result("+OK\n"), said(&format!("+OK Job-UUID: {name}")), result("-ERR is what it holds")]
            .concat(),
    );
    assert_eq!(world.outcomes(), [outcome(1, "+OK"), outcome(3, &refused("is what it holds"))]);
    world.feed(&(result("-ERR No such channel!\n") + &job(&name, "-ERR USER_BUSY\n")));
    assert_eq!(
        world.outcomes(),
        [outcome(4, &refused("No such channel!")), outcome(2, &refused("USER_BUSY"))]
    );
    world.feed(&(job(&name, "+OK again\n") + &result("to nothing")));
    assert_eq!(world.outcomes(), []);
    assert_eq!(world.link.unreadable, 1);

    let call = world.order(&originate(20));
    let name = call[0].split("Job-UUID: ").nth(1).unwrap().to_owned();
    world.feed(&said("-ERR permission denied"));
    assert_eq!(world.outcomes(), [outcome(5, &refused("permission denied"))]);
    world.feed(&job(&name, "+OK\n"));
    assert_eq!(world.outcomes(), []);
}

#[test]
fn recorded_dialogues_are_led_again() {
    let mut answered = 0;
    for capture in captures::all() {
        let mut world = World::up(&[]);
        let mut ordered = false;
        for block in capture.blocks {
            match block {
                Block::Sent(bytes) => {
                    let text = String::from_utf8(bytes).unwrap();
                    let command = crate::command::tests::typed(text.trim_end_matches('\n'));
                    ordered = command.is_some();
                    if let Some(command) = command
                        .filter(|command| !text.starts_with("bgapi") || command.channel().is_none())
                    {
                        assert_eq!(world.order(&command).len(), 1, "{}", capture.name);
                    } else {
                        ordered = false;
                    }
                }
                Block::Received(bytes) => {
                    let text = String::from_utf8(bytes).unwrap();
                    let (head, body) = text.split_once("\n\n").unwrap();
                    let reply = head.contains("command/reply") || head.contains("api/response");
                    if head.contains("text/disconnect-notice")
                        || head.contains("auth/request")
                        || reply && !ordered
                    {
                        continue;
                    }
                    world.feed(&text);
                    let outcomes = world.outcomes();
                    assert_eq!(outcomes.len(), usize::from(reply), "{}: {head}", capture.name);
                    if let [(ticket, said)] = &outcomes[..] {
                        assert_eq!(*ticket, world.ticket);
                        let text = if head.contains("api/response") {
                            body
                        } else {
                            head.split("Reply-Text: ").nth(1).unwrap()
                        };
                        let reason = text.trim().trim_start_matches("-ERR").trim();
                        assert!(
                            *said == text.trim() || *said == refused(reason),
                            "{}: {said} of {text}",
                            capture.name
                        );
                        ordered = false;
                        answered += 1;
                    }
                }
                Block::Note(_) => {}
            }
        }
    }
    assert!(answered > 150, "{answered} commands");
}

#[test]
fn a_late_reply_is_swallowed_and_never_given_to_the_next_command() {
    let mut world = World::up(&[]);
    world.order(&SwitchCommand::Answer { uuid: uuid(A) });
    world.run(secs(4));
    assert_eq!(world.outcomes(), []);
    world.order(&SwitchCommand::Park { uuid: uuid(B) });
    world.run(Duration::from_millis(1_001));
    assert_eq!(world.outcomes(), [outcome(1, "TimedOut")]);
    world.feed(&(result("+OK late\n") + &result("+OK in time\n")));
    assert_eq!(world.outcomes(), [outcome(2, "+OK in time")]);
    assert_eq!(world.link.poll_action(), None);
}

#[test]
fn a_connection_on_which_nothing_is_answered_is_given_up() {
    let mut world = World::up(&[]);
    world.order(&SwitchCommand::Answer { uuid: uuid(A) });
    world.order(&hang_up(A));
    world.run(secs(6));
    world.order(&SwitchCommand::Park { uuid: uuid(B) });
    world.order(&hang_up(B));
    assert_eq!(world.outcomes(), [outcome(1, "TimedOut"), outcome(2, "TimedOut")]);
    world.run(Duration::from_millis(4_100));
    let events = world.events();
    assert_eq!(world.link.poll_action(), Some(LinkAction::Close));
    // Who was told that it timed out is told nothing more; the last hang-up is kept.
    assert_eq!(events[0], LinkEvent::Reply { ticket: 3, result: Err(SwitchError::Unknown) });
    assert_eq!(
        events[1..],
        [LinkEvent::State(LinkState::Down { reason: "the switch does not answer".into() })]
    );
    world.now = world.link.poll_timeout().unwrap();
    world.connect();
    world.feed("Content-Type: auth/request\n\n");
    world.feed(&said("+OK accepted"));
    world.feed(&[result("v"), result("true"), result("true"), said("+OK")].concat());
    assert_eq!(world.feed(&channels(&[])), [format!("api uuid_kill {B} NORMAL_CLEARING")]);
}

#[test]
fn a_quiet_connection_is_asked_whether_it_lives() {
    let mut world = World::up(&[]);
    world.run(IDLE_PROBE);
    assert_eq!(world.written(), ["api version"]);
    world.feed(&result("v"));
    world.run(IDLE_PROBE);
    assert_eq!(world.written(), ["api version"]);
    world.run(secs(11));
    assert_eq!(world.link.poll_action(), Some(LinkAction::Close));
}

#[test]
fn while_it_is_down_only_what_a_live_call_needs_is_kept() {
    let mut world = World::new();
    world.order(&SwitchCommand::Answer { uuid: uuid(A) });
    world.order(&originate(5));
    world.order(&set(A, "summary"));
    world.order(&hang_up(A));
    assert_eq!(world.outcomes(), [outcome(1, "Down"), outcome(2, "Down")]);
    world.come_up(&[A]);
    let events = world.events();
    assert!(matches!(
        events[..],
        [LinkEvent::Reconciled { .. }, LinkEvent::State(LinkState::Up(_))]
    ));
    world.feed("");
    world.lose();
    world.now = world.link.poll_timeout().unwrap();
    world.come_up(&[]);
    world.run(secs(31));
    assert_eq!(world.outcomes(), [outcome(3, "TimedOut"), outcome(4, "TimedOut")]);

    let mut world = World::new();
    world.order(&hang_up(A));
    for _ in 0..7 {
        world.run(secs(4));
        while world.link.poll_action().is_some() {}
        world.lose();
    }
    assert_eq!(world.outcomes(), []);
    world.run(secs(3));
    assert_eq!(world.outcomes(), [outcome(1, "Down")]);
}

#[test]
fn commands_in_flight_when_the_link_is_lost_are_in_doubt_or_repeated() {
    let mut world = World::up(&[A]);
    assert_eq!(world.order(&SwitchCommand::Park { uuid: uuid(A) }).len(), 1);
    assert_eq!(world.order(&originate(5)).len(), 1);
    assert_eq!(world.order(&set(A, "x")).len(), 1);
    assert_eq!(world.order(&hang_up(A)).len(), 1);
    let call = world.order(&originate(5));
    assert_eq!(call.len(), 1);
    world.feed(&[result("+OK\n"), said("+OK")].concat());
    world.feed(&result("+OK\n"));
    world.lose();
    assert_eq!(
        world.outcomes(),
        [outcome(1, "+OK"), outcome(3, "+OK"), outcome(2, "Unknown"), outcome(5, "Unknown")]
    );
    world.now = world.link.poll_timeout().unwrap();
    world.connect();
    world.feed("Content-Type: auth/request\n\n");
    world.feed(&said("+OK accepted"));
    world.feed(&[result("v"), result("true"), result("true"), said("+OK")].concat());
    assert_eq!(world.outcomes(), []);
    assert_eq!(world.feed(&channels(&[A])), [format!("api uuid_kill {A} NORMAL_CLEARING")]);
    world.feed(&result("+OK\n"));
    assert_eq!(world.outcomes(), [outcome(4, "+OK")]);
}

#[test]
fn who_is_watched_is_asked_for_by_name_whatever_the_list_says() {
    for list in [
        channels(&[A, B]),
        channels(&[]),
        result("-ERR SQL disabled, no data available!\n"),
        format!(
            "Content-Type: api/response\nContent-Length: {}\n\n{}",
            5 << 20,
            "x".repeat(5 << 20)
        ),
    ] {
        let mut world = World::up(&[]);
        world.link.watch(world.now, uuid(A));
        world.link.watch(world.now, uuid(B));
        world.lose();
        world.now = world.link.poll_timeout().unwrap();
        world.connect();
        world.feed("Content-Type: auth/request\n\n");
        world.feed(&said("+OK accepted"));
        world.feed(&[result("v"), result("true"), result("true"), said("+OK")].concat());
        world.events();
        let mut questions = world.feed(&list);
        questions.sort();
        assert_eq!(questions, [B, A].map(|uuid| format!("api uuid_exists {uuid}")));
        assert!(!world.link.is_up());
        let c = uuid("11111111-0000-4000-8000-000000000001");
        world.link.watch(world.now, c.clone()); // Watched while it is asked.
        let answers = result("true") + &result("true");
        assert_eq!(world.feed(&answers), [format!("api uuid_exists {c}")]);
        world.feed(&result("false"));
        let events = world.events();
        assert_eq!(events[0], LinkEvent::Reconciled { alive: [uuid(A), uuid(B)].into() });
        assert!(world.link.is_up());
    }
}

#[test]
fn what_waits_is_bounded() {
    let mut world = World::up(&[]);
    let mut written = 0;
    for _ in 0..300 {
        written += world.order(&SwitchCommand::Park { uuid: uuid(A) }).len();
    }
    assert_eq!(written, 32);
    let outcomes = world.outcomes();
    assert_eq!(outcomes.len(), 300 - 32 - 256);
    assert!(outcomes.iter().all(|(_, said)| said == "Busy"));
    let mut next = Vec::new();
    for _ in 0..10 {
        next.extend(world.feed(&result("+OK\n")));
    }
    assert_eq!(next.len(), 10);
    // What could not be written in 5 s was not done.
    world.run(Duration::from_millis(5_001));
    let mut counts = BTreeMap::<_, usize>::new();
    for (_, said) in world.outcomes() {
        *counts.entry(said).or_default() += 1;
    }
    let expected = [("+OK", 10), ("Busy", 246), ("TimedOut", 32)];
    assert_eq!(
        counts,
        expected.into_iter().map(|(said, count)| (said.to_owned(), count)).collect()
    );

    let mut world = World::new();
    for _ in 0..3_000 {
        world.order(&hang_up(A));
    }
    assert_eq!(world.outcomes().len(), 3_000 - 2_048);
}

#[test]
fn an_orders_time_includes_its_waiting() {
    let mut world = World::up(&[]);
    for _ in 0..33 {
        world.order(&SwitchCommand::Park { uuid: uuid(A) });
    }
    world.run(secs(4));
    let written = world.feed(&result("+OK\n").repeat(32));
    assert_eq!((written.len(), world.outcomes().len()), (1, 32));
    world.run(Duration::from_millis(1_001));
    assert_eq!(world.outcomes(), [outcome(33, "TimedOut")]);
    // The switch has had one second of its ten.
    world.run(Duration::from_millis(8_900));
    assert_eq!(world.link.poll_action(), None);
    world.run(Duration::from_millis(100));
    assert_eq!(world.link.poll_action(), Some(LinkAction::Close));

    // What was kept during an outage stands in front, and holds nobody up.
    let mut world = World::new();
    for _ in 0..40 {
        world.order(&hang_up(A));
    }
    world.come_up(&[A]);
    world.order(&SwitchCommand::Park { uuid: uuid(A) });
    world.run(Duration::from_millis(5_001));
    let park = world.outcomes().into_iter().find(|(ticket, _)| *ticket == 41);
    assert_eq!(park, Some(outcome(41, "Busy")));
}

#[test]
fn a_call_may_ring_as_long_as_it_was_told_to() {
    let mut world = World::up(&[]);
    let call = world.order(&originate(30));
    world.feed(&said("+OK Job-UUID: x"));
    for _ in 0..3 {
        world.run(IDLE_PROBE);
        world.written();
        world.feed(&result("v"));
    }
    world.run(Duration::from_millis(4_900));
    assert_eq!(world.outcomes(), []);
    world.run(Duration::from_millis(200));
    assert_eq!(world.outcomes(), [outcome(1, "TimedOut")]);
    let name = call[0].split("Job-UUID: ").nth(1).unwrap();
    world.feed(&job(name, "+OK late\n"));
    assert_eq!(world.outcomes(), []);
}

#[test]
fn events_of_watched_channels_only() {
    let mut world = World::up(&[]);
    world.link.watch(world.now, uuid(A));
    let of = |name: &str, uuid: &str| event(&[("Event-Name", name), ("Unique-ID", uuid)]);
    world.feed(
        &[of("CHANNEL_ANSWER", B), of("CHANNEL_ANSWER", A), of("CHANNEL_DESTROY", "x")].concat(),
    );
    let channel = |event: LinkEvent| match event {
        LinkEvent::Channel(event) => Some((event.uuid.to_string(), event.kind)),
        _ => None,
    };
    let told: Vec<_> = world.events().into_iter().filter_map(channel).collect();
    assert_eq!(told, [(A.to_owned(), ChannelEventKind::Answered)]);
    // A bridge is told by its other leg.
    let bridge = [
        ("Event-Name", "CHANNEL_BRIDGE"),
        ("Unique-ID", B),
        ("Bridge-A-Unique-ID", B),
        ("Bridge-B-Unique-ID", A),
    ];
    world.feed(&event(&bridge));
    let told: Vec<_> = world.events().into_iter().filter_map(channel).collect();
    assert_eq!(told, [(A.to_owned(), ChannelEventKind::Bridged { peer: uuid(B) })]);
    // A caller's name that looks like a header is none.
    let trick = format!("x\",\"Unique-ID\":\"{A}");
    world.feed(&event(&[
        ("Caller-Name", &trick),
        ("Event-Name", "CHANNEL_ANSWER"),
        ("Unique-ID", B),
    ]));
    assert_eq!(world.events(), []);
    world.link.unwatch(world.now, &uuid(A));
    world.feed(&of("CHANNEL_ANSWER", A));
    assert_eq!(world.events(), []);
    world.feed("Content-Length: 3\nContent-Type: text/event-json\n\n{x}");
    assert_eq!(world.link.unreadable, 1);
}

#[test]
fn a_stopped_link_answers_all_and_dials_no_more() {
    let mut world = World::up(&[]);
    world.order(&SwitchCommand::Park { uuid: uuid(A) });
    world.order(&originate(5));
    world.link.stop();
    assert_eq!(world.outcomes(), [outcome(1, "Unknown"), outcome(2, "Unknown")]);
    assert_eq!(world.link.poll_action(), Some(LinkAction::Close));
    world.order(&hang_up(A));
    assert_eq!(world.outcomes(), [outcome(3, "Stopped")]);
    assert_eq!(world.link.poll_timeout(), None);
}

#[test]
fn a_command_that_can_not_be_carried_is_never_written() {
    let mut world = World::up(&[]);
    let empty = SwitchCommand::SetVariables { uuid: uuid(A), variables: Vec::new() };
    assert_eq!(world.order(&empty), [""; 0]);
    let [(1, said)] = &world.outcomes()[..] else { panic!() };
    assert!(said.starts_with("Command("), "{said}");
}

/// An outbound socket as the switch opens it, with what it says of its channel.
fn outbound(capture: &str) -> (World, Vec<Vec<u8>>) {
    let capture = captures::named(capture);
    let received = capture.blocks.into_iter().filter_map(|block| match block {
        Block::Received(bytes) => Some(bytes),
        _ => None,
    });
    let now = Instant::now();
    let mut world = World { now, link: Link::outbound(now, 7), ticket: 0 };
    assert_eq!(world.written(), ["connect"]);
    (world, received.collect())
}

#[test]
fn a_switch_connects_for_a_channel() {
    const CHANNEL: &str = "30813fbe-82bb-4adf-afd7-c2fab4e6c17d";
    let (mut world, received) = outbound("esl/outbound_socket_async_full");
    world.link.handle_bytes(world.now, &received[0]);
    assert_eq!(world.written(), ["linger 10".to_owned(), format!("filter Unique-ID {CHANNEL}")]);
    let [LinkEvent::Accepted(headers)] = &world.events()[..] else { panic!() };
    assert_eq!(headers.get("Unique-ID"), Some(CHANNEL));
    assert_eq!(headers.get("Reply-Text"), Some("+OK\n"));
    assert_eq!(headers.variable("sip_from_uri"), Some("caller@127.0.0.1"));
    let next = world
        .feed(&(said("+OK will linger 10 seconds") + &said("+OK filter added. [Unique-ID]=[x]")));
    assert_eq!(next[0], format!("filter Job-Owner-UUID {CHANNEL}"));
    assert!(next[1].starts_with("event json CHANNEL_CREATE"), "{next:?}");
    world.feed(
        &(said("+OK filter added. [Job-Owner-UUID]=[x]")
            + &said("+OK event listener enabled json")),
    );
    assert!(matches!(world.events()[..], [LinkEvent::State(LinkState::Up(_))]));

    // Another leg is heard too.
    world.link.watch(world.now, uuid(B));
    assert_eq!(world.written(), [format!("filter Unique-ID {B}")]);
    world.link.unwatch(world.now, &uuid(B));
    assert_eq!(world.written(), [format!("filter delete Unique-ID {B}")]);
    world.feed(&(said("+OK filter added.") + &said("+OK filter deleted.")));

    // What the switch sent after that: replies to nothing of ours, plain events, the end.
    let told: usize = received[3..]
        .iter()
        .map(|bytes| {
            world.link.handle_bytes(world.now, bytes);
            world.events().iter().filter(|event| matches!(event, LinkEvent::Channel(_))).count()
        })
        .sum();
    assert!(told > 5, "{told}");
    assert_eq!(world.link.poll_action(), Some(LinkAction::Close));
    assert!(world.link.is_ended());
}

#[test]
fn the_last_events_come_while_it_lingers() {
    let (mut world, received) = outbound("esl/outbound_socket_async_full");
    world.link.handle_bytes(world.now, &received[0]);
    for _ in 0..2 {
        world.feed(&(said("+OK") + &said("+OK")));
    }
    assert!(world.link.is_up());
    world.events();
    let channel = "30813fbe-82bb-4adf-afd7-c2fab4e6c17d";
    let of = |name: &str| {
        event(&[("Event-Name", name), ("Unique-ID", channel), ("Hangup-Cause", "USER_BUSY")])
    };
    world.feed(&of("CHANNEL_HANGUP"));
    world.feed("Content-Type: text/disconnect-notice\nContent-Disposition: linger\nLinger-Time: 10\nContent-Length: 0\n\n");
    world.feed(&of("CHANNEL_HANGUP_COMPLETE"));
    assert_eq!(world.events().len(), 2);
    assert!(!world.link.is_ended());
    world.feed("Content-Type: text/disconnect-notice\nContent-Disposition: disconnect\nContent-Length: 5\n\nbye.\n");
    assert!(world.link.is_ended());
    assert!(matches!(&world.events()[..], [LinkEvent::State(LinkState::Down { .. })]));
}

#[test]
fn a_switch_without_filters_is_heard_by_myevents() {
    let (mut world, received) = outbound("esl/outbound_socket_async_full");
    world.link.handle_bytes(world.now, &received[0]);
    world.written();
    let next = world.feed(&(said("+OK will linger") + &said("-ERR command not found")));
    assert_eq!(next[0], "myevents json");
    assert!(next[1].starts_with("event json "));
    world.feed(&(said("+OK Events Enabled") + &said("+OK event listener enabled json")));
    assert!(world.link.is_up());
    world.link.watch(world.now, uuid(B));
    assert_eq!(world.written(), [""; 0]);
}

#[test]
fn a_socket_action_without_async_full_and_a_stranger_are_refused() {
    let (mut world, received) = outbound("esl/outbound_socket_sync");
    world.link.handle_bytes(world.now, &received[0]);
    let LinkEvent::State(LinkState::Down { reason }) = &world.events()[0] else { panic!() };
    assert_eq!(&**reason, "the dialplan's socket action lacks \"async full\"");
    assert!(world.link.is_ended());

    let (mut world, _) = outbound("esl/outbound_socket_sync");
    world.feed(&said("+OK"));
    let LinkEvent::State(LinkState::Down { reason }) = &world.events()[0] else { panic!() };
    assert_eq!(&**reason, "what connected is no channel of a switch");

    let (mut world, _) = outbound("esl/outbound_socket_sync");
    world.run(secs(6));
    assert!(world.link.is_ended());
}

#[test]
fn a_channel_is_given_back_after_what_was_ordered() {
    let (mut world, received) = outbound("esl/outbound_socket_async_full");
    world.link.handle_bytes(world.now, &received[0]);
    for _ in 0..2 {
        world.feed(&(said("+OK") + &said("+OK")));
    }
    assert!(world.link.is_up());
    world.events();
    assert_eq!(world.order(&set(A, "outcome")).len(), 1);
    world.link.release(world.now);
    assert_eq!(world.written(), ["exit"]);
    world.order(&SwitchCommand::Park { uuid: uuid(A) });
    assert_eq!(world.outcomes(), [outcome(2, "Down")]);
    world.feed(&(result("+OK\n") + &said("+OK bye")));
    assert_eq!(world.outcomes(), [outcome(1, "+OK")]);
    assert_eq!(world.link.poll_action(), Some(LinkAction::Close));
    assert!(world.link.is_ended());
}

#[derive(Debug, Clone)]
enum Deed {
    Order(u8),
    Answer(u8),
    Lose,
    Pass(u16),
    Watch(bool),
    Noise(Vec<u8>),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => (0_u8..5).prop_map(Deed::Order),
        8 => (0_u8..6).prop_map(Deed::Answer),
        1 => Just(Deed::Lose),
        4 => (0_u16..12_000).prop_map(Deed::Pass),
        1 => any::<bool>().prop_map(Deed::Watch),
        1 => proptest::collection::vec(any::<u8>(), 0..12).prop_map(Deed::Noise),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the switch does, each command is answered once, and what is written is whole commands.
    #[test]
    fn every_command_is_answered_once(deeds in proptest::collection::vec(deed(), 0..120)) {
        let mut world = World::new();
        let mut answers = BTreeMap::<Ticket, usize>::new();
        let (mut dials, began) = (0, world.now);
        let mut stream = String::new();
        for deed in deeds {
            match deed {
                Deed::Order(n) => {
                    let command = match n {
                        0 => hang_up(A),
                        1 => set(A, "v"),
                        2 => originate(8),
                        3 => SwitchCommand::Park { uuid: uuid(A) },
                        _ => SwitchCommand::Dump { uuid: uuid(B) },
                    };
                    world.ticket += 1;
                    world.link.submit(world.now, world.ticket, &command);
                }
                Deed::Answer(n) => {
                    let text = match n {
                        0 => "Content-Type: auth/request\n\n".to_owned(),
                        1 => said("+OK accepted"),
                        2 => channels(&[A]),
                        3 => result("+OK\n"),
                        4 => result("-ERR No such channel!\n"),
                        _ => result("true"),
                    };
                    world.link.handle_bytes(world.now, text.as_bytes());
                }
                Deed::Lose => world.lose(),
                Deed::Pass(millis) => world.run(Duration::from_millis(millis.into())),
                Deed::Watch(on) if on => world.link.watch(world.now, uuid(A)),
                Deed::Watch(_) => world.link.unwatch(world.now, &uuid(A)),
                Deed::Noise(bytes) => world.link.handle_bytes(world.now, &bytes),
            }
            while let Some(action) = world.link.poll_action() {
                match action {
                    LinkAction::Dial => {
                        dials += 1;
                        world.link.handle_connected(world.now);
                    }
                    LinkAction::Close => stream.clear(),
                }
            }
            stream.push_str(std::str::from_utf8(world.link.output()).unwrap());
            world.link.sent(world.now, world.link.output().len());
            prop_assert!(stream.is_empty() || stream.ends_with("\n\n"), "{:?}", stream);
            for (ticket, _) in world.outcomes() {
                *answers.entry(ticket).or_default() += 1;
            }
        }
        world.link.stop();
        for (ticket, _) in world.outcomes() {
            *answers.entry(ticket).or_default() += 1;
        }
        prop_assert_eq!(answers.len() as u64, world.ticket);
        prop_assert!(answers.values().all(|count| *count == 1), "{:?}", answers);
        let limit = 2 + (world.now - began).as_millis() / (FIRST_RETRY / 2).as_millis();
        prop_assert!(dials <= limit, "{dials} dials");
    }
}
