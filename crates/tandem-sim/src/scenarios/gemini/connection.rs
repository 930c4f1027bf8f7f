//! Getting in, staying in and getting back in: G10 to G15.

use super::*;

pub(super) fn stories() -> Vec<Scenario> {
    let mut all = renewals();
    all.extend(abrupt_ends());
    all.extend(handshakes());
    all.extend(silences());
    all
}

const DEADLINE: &str = "Deadline expired before operation could complete.";

/// A conversation of one turn with handles given out, which is over at 2,700 ms of caller audio.
fn first_part() -> Script {
    Script::new().on_nth(
        1,
        Trigger::SpeechEnd,
        [answer(1_000, ["Yes."]), Action::Handle("h-1".into()), Action::Handle("h-2".into())],
    )
}

/// The connection that resumes.
fn second_part() -> Script {
    Script::new()
        .on(Trigger::Setup, [Action::Ready, Action::Handle("h-3".into())])
        .on(Trigger::Text, [answer(1_000, ["Where were we?"])])
        .on_nth(1, Trigger::SpeechEnd, [answer(1_000, ["I am still here."])])
}

/// Two turns with a renewal between them.
fn renewal(id: &str, title: &str) -> Scenario {
    tale(id, title).utterance(6_000).utterance(4_000).hang_up().connects(2..=2).bills(2)
}

fn renewals() -> Vec<Scenario> {
    let go_away = || (Trigger::AudioMs { at: 4_000 }, [Action::GoAway("10s".into())]);
    let deadline = || (Trigger::AudioMs { at: 14_000 }, [close(1011, DEADLINE)]);
    let announced = || {
        let (at, leave) = go_away();
        let (then, closed) = deadline();
        first_part().on(at, leave).on(then, closed)
    };
    let (at, leave) = go_away();
    let mid_answer = Script::new()
        .on_nth(
            1,
            Trigger::SpeechEnd,
            [Action::Handle("h-2".into()), answer(3_000, ["This is a long answer."])],
        )
        .on(Trigger::AudioMs { at: 2_500 }, [Action::GoAway("10s".into())])
        .on(Trigger::AudioMs { at: 12_500 }, [close(1011, DEADLINE)]);
    let refused =
        Script::new().on(Trigger::Setup, [close(1008, "Requested entity was not found.")]);
    let again = second_part().on(Trigger::AudioMs { at: 300 }, [Action::GoAway("10s".into())]);
    let busy = Script::new().on(Trigger::Connect, [Action::HttpStatus(409)]);
    let both_heard = |story: Scenario| story.hears(0, 1, 1_000).hears(1, 1, 1_000);
    vec![
        both_heard(renewal("G10", "goAway, then resumption in a quiet moment"))
            .plays(announced())
            .plays(second_part()),
        renewal("G10a", "goAway in the middle of an answer")
            .plays(mid_answer)
            .plays(second_part())
            .hears(0, 1, 3_000)
            .hears(1, 1, 1_000),
        both_heard(renewal("G10b", "the deadline comes two seconds after goAway"))
            .plays(
                first_part()
                    .on(Trigger::AudioMs { at: 4_000 }, [Action::GoAway("2s".into())])
                    .on(Trigger::AudioMs { at: 6_000 }, [close(1011, DEADLINE)]),
            )
            .plays(second_part()),
        both_heard(renewal("G10c", "the server is silent after goAway and never closes"))
            .plays(first_part().on(at, leave))
            .plays(second_part()),
        both_heard(renewal("G10d", "no goAway, the connection breaks"))
            .plays(first_part().on(Trigger::AudioMs { at: 4_000 }, [Action::Drop]))
            .plays(second_part())
            .ends(Outcome::Recovers("")),
        both_heard(renewal("G10e", "resumption is not possible just before goAway"))
            .plays(announced().on(Trigger::AudioMs { at: 3_900 }, [Action::Handle(String::new())]))
            .plays(second_part()),
        both_heard(renewal("G10f", "the old socket is closed before the new one is opened"))
            .plays(announced())
            .plays(second_part()),
        renewal("G10g", "the handle is refused")
            .plays(announced())
            .plays(refused)
            .plays(goes_on())
            .connects(3..=3)
            .hears(0, 1, 1_000)
            .hears(2, 1, 1_000),
        renewal("G10h", "a second goAway right after the resumption")
            .plays(announced())
            .plays(again)
            .plays(goes_on())
            .connects(2..=3)
            .hears(0, 1, 1_000)
            .hears_part(1, 1, 0..=1_000)
            .hears_part(2, 1, 0..=1_000),
        renewal("G10i", "the server is not ready for the client yet")
            .plays(announced())
            .plays(busy)
            .plays(second_part())
            .connects(3..=3)
            .hears(0, 1, 1_000)
            .hears(2, 1, 1_000),
    ]
}

fn abrupt_ends() -> Vec<Scenario> {
    const INTERNAL: &str = "Internal error encountered.";
    const POLICY: &str = "Operation is not implemented, or supported, or enabled";
    const ARGUMENT: &str = "Request contains an invalid argument.";
    let ends = [
        ('a', "the connection breaks", Action::Drop, ""),
        ('b', "1011", close(1011, INTERNAL), INTERNAL),
        ('c', "1008", close(1008, POLICY), POLICY),
        ('d', "1007", close(1007, ARGUMENT), ARGUMENT),
    ];
    let mut all = Vec::new();
    for (letter, name, end, reason) in ends {
        let id = |when: &str| format!("G11{letter}-{when}");
        let title = |when: &str| format!("{name} {when}");
        let told = |when: &str, title: String| {
            let story = tale(id(when), title).utterance(5_000).utterance(5_000).hang_up();
            match letter {
                'd' => story.ends(Outcome::GivenUp(reason)),
                'c' if when == "setup" => story.ends(Outcome::GivenUp(reason)),
                _ => story.plays(goes_on()).connects(2..=2).ends(Outcome::Recovers(reason)),
            }
        };
        let first = |mut story: Scenario, script: Script| {
            story.connections.insert(0, script);
            story
        };
        let handle = || Action::Handle("h-1".into());
        all.push(first(
            told("setup", title("during setup")),
            Script::new().on(Trigger::Setup, [end.clone()]),
        ));
        all.push(first(
            told("idle", title("while nothing happens")),
            Script::new()
                .on(Trigger::Setup, [Action::Ready, handle()])
                .on(Trigger::AudioMs { at: 160 }, [end.clone()]),
        ));
        all.push(first(
            told("answer", title("in the middle of an answer")),
            Script::new().on(Trigger::Setup, [Action::Ready, handle()]).on(
                Trigger::SpeechEnd,
                [open_answer(2_000, ["This is"]), Action::Delay(600), end.clone()],
            ),
        ));
        all.push(first(
            told("tool", title("with an open tool call")).tool(
                "find_repair",
                2_000,
                ready_result(),
            ),
            Script::new().on(Trigger::Setup, [Action::Ready, handle()]).on(
                Trigger::SpeechEnd,
                [Action::Tool(find_repair("fc-1")), Action::Delay(600), end],
            ),
        ));
    }
    all
}

fn handshakes() -> Vec<Scenario> {
    const QUOTA: &str =
        "You exceeded your current quota, please check your plan and billing details.";
    let refused = |status| Script::new().on(Trigger::Connect, [Action::HttpStatus(status)]);
    let told = |id: &str, title: &str, script: Script, outcome: Outcome| {
        let most = if matches!(outcome, Outcome::GivenUp(_)) { 1 } else { 5 };
        tale(id, title).plays(script).listens(5_000).hang_up().connects(1..=most).ends(outcome)
    };
    let never = Script::new().on(Trigger::Connect, [Action::NeverUpgrade]);
    let silent = Script::new().on(Trigger::Setup, []);
    vec![
        told("G12-401", "the key is wrong", refused(401), Outcome::GivenUp("401")),
        told("G12-403", "the key is not allowed", refused(403), Outcome::GivenUp("403")),
        told("G12-404", "there is no such model", refused(404), Outcome::GivenUp("404")),
        told("G12-429", "too many sessions", refused(429), Outcome::Retried("429")),
        told("G12-503", "the service is down", refused(503), Outcome::Retried("503")),
        told("G12-refused", "nothing listens", Script::new(), Outcome::Retried(""))
            .needs(Need::NothingListens)
            .connects(0..=0),
        told("G12-upgrade", "the handshake is never answered", never, Outcome::Retried("")),
        told("G12-setup", "setupComplete never comes", silent, Outcome::Retried("")),
        told("G13a", "the quota is used up at the start", refused(429), Outcome::Retried("429")),
        told(
            "G13b",
            "the quota is used up during the call",
            Script::new().on(Trigger::AudioMs { at: 1_000 }, [close(1011, QUOTA)]),
            Outcome::Retried("quota"),
        ),
    ]
}

fn silences() -> Vec<Scenario> {
    let mut handles = Script::new();
    for (index, at) in [15_000, 30_000, 45_000].into_iter().enumerate() {
        let handle = format!("h-{}", index + 1);
        handles = handles.on(Trigger::AudioMs { at }, [Action::Handle(handle)]);
    }
    let mut stops = tale("G15", "nothing comes from the caller's side after speech")
        .plays(Script::new().on(Trigger::SpeechEnd, [answer(1_000, ["I heard you."])]))
        .hears(0, 1, 1_000)
        .agent_says(["I heard you."])
        .bills(1);
    stops.caller = vec![
        CallerStep::Silence(200),
        CallerStep::Speech(1_000),
        CallerStep::Nothing(3_000),
        CallerStep::HangUp,
    ];
    vec![
        tale("G14a", "a minute of silence").plays(handles).listens(60_000).hang_up(),
        tale("G14b", "a minute of silence without a message")
            .plays(Script::new())
            .listens(60_000)
            .hang_up(),
        stops,
    ]
}
