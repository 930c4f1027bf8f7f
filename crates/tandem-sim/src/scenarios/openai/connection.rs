//! Staying in and getting back in, errors: O09 to O12, O16, O22.

use super::*;

pub(super) fn stories() -> Vec<Scenario> {
    let mut all = expiry();
    all.extend(abrupt_ends());
    all.extend(errors());
    all.extend(configuration());
    all
}

const EXPIRED: &str = "Your session hit the maximum duration of 60 minutes.";

fn expiry() -> Vec<Scenario> {
    let first = |dies_at| {
        Script::new().on_nth(1, Trigger::SpeechEnd, [answer(1_000, ["Yes."])]).on(
            Trigger::AudioMs { at: dies_at },
            [
                Action::Error(ErrorSpec::new("invalid_request_error", "session_expired", EXPIRED)),
                close(1001, EXPIRED),
            ],
        )
    };
    let told = |id: &str, title: &str, dies_at: u64, listens: u64| {
        tale(id, title)
            .plays(first(dies_at))
            .plays(goes_on())
            .utterance(listens)
            .utterance(3_000)
            .hang_up()
            .hears(0, 1, 1_000)
            .connects(2..=2)
            .bills(2)
    };
    vec![
        told("O09a", "the session is replaced before it expires", 60_000, 65_000)
            .needs(Need::ExpiresInSecs(60))
            .hears(1, 1, 1_000),
        told("O09b", "the session expires without a warning", 5_000, 7_000)
            .hears(1, 1, 1_000)
            .ends(Outcome::Recovers("maximum duration")),
    ]
}

fn abrupt_ends() -> Vec<Scenario> {
    let ends = [
        ('a', "the connection breaks", Action::Drop),
        ('b', "1011", close(1011, "Internal server error")),
        ('c', "1000", close(1000, "")),
    ];
    let mut all = Vec::new();
    for (letter, name, end) in ends {
        let told = |when: &str, title: &str, script: Script| {
            let recovers = if letter == 'b' { "Internal server error" } else { "" };
            tale(format!("O10{letter}-{when}"), format!("{name} {title}"))
                .tool("find_repair", 2_000, ready_result())
                .plays(script)
                .plays(goes_on())
                .utterance(5_000)
                .utterance(5_000)
                .hang_up()
                .connects(2..=2)
                .ends(Outcome::Recovers(recovers))
        };
        all.push(told(
            "idle",
            "while nothing happens",
            Script::new().on(Trigger::AudioMs { at: 160 }, [end.clone()]),
        ));
        all.push(told(
            "answer",
            "in the middle of an answer",
            Script::new().on(
                Trigger::SpeechEnd,
                [open_answer(2_000, ["This is"]), Action::Delay(600), end.clone()],
            ),
        ));
        all.push(told(
            "tool",
            "with an open tool call",
            Script::new().on(
                Trigger::SpeechEnd,
                [Action::Tool(find_repair("call_1")), Action::Delay(600), end],
            ),
        ));
    }
    all
}

fn errors() -> Vec<Scenario> {
    let error =
        |kind: &str, code: &str, message: &str| Action::Error(ErrorSpec::new(kind, code, message));
    let harmless = |id: &str, title: &str, first: Action| {
        tale(id, title)
            .plays(Script::new().on(Trigger::AudioMs { at: 100 }, [first]).on_nth(
                1,
                Trigger::SpeechEnd,
                [answer(1_000, ["Yes."])],
            ))
            .utterance(3_000)
            .hang_up()
            .hears(0, 1, 1_000)
            .bills(1)
    };
    let fatal = |id: &str, title: &str, code: &'static str| {
        let message = "This account cannot be used.";
        tale(id, title)
            .plays(Script::new().on(
                Trigger::Setup,
                [error("invalid_request_error", code, message), close(1008, message)],
            ))
            .listens(3_000)
            .hang_up()
            .ends(Outcome::GivenUp(code))
    };
    let limited = ErrorSpec::new(
        "tokens",
        "rate_limit_exceeded",
        "Rate limit reached for gpt-realtime on tokens per min. Please try again in 1.2s.",
    );
    let failed =
        Response { usage: None, ..Response::of([]) }.status(ResponseStatus::Failed(limited));
    vec![
        harmless(
            "O11a",
            "an error about one event",
            error("invalid_request_error", "invalid_value", "Invalid value: 'x'."),
        ),
        harmless(
            "O11b",
            "an error of the server",
            error("server_error", "server_error", "The server had an error."),
        ),
        fatal("O11c", "the account has no quota", "insufficient_quota"),
        fatal("O11d", "the key is not valid", "invalid_api_key"),
        tale("O12a", "an answer fails at the rate limit, the next one does not")
            .plays(
                Script::new()
                    .on_nth(
                        1,
                        Trigger::SpeechEnd,
                        [Action::RateLimit { remaining: 12, reset_seconds: 20.0 }, failed.into()],
                    )
                    .on(Trigger::Text, [answer(1_000, ["Here I am."])]),
            )
            .utterance(6_000)
            .hang_up()
            .hears(0, 1, 1_000)
            .creates(1)
            .bills(1),
        tale("O12b", "too many sessions")
            .plays(Script::new().on(Trigger::Connect, [Action::HttpStatus(429)]))
            .listens(5_000)
            .hang_up()
            .connects(1..=5)
            .ends(Outcome::Retried("429")),
    ]
}

fn configuration() -> Vec<Scenario> {
    let pcm = json!({ "type": "audio/pcm", "rate": 24_000 });
    let unchanged = json!({
        "type": "session.updated",
        "session": {
            "type": "realtime", "object": "realtime.session", "id": "sess_1",
            "output_modalities": ["audio"],
            "audio": {
                "input": { "format": pcm, "turn_detection": { "type": "server_vad" } },
                "output": { "format": pcm, "voice": "marin" },
            },
        },
    });
    let late = |story: Scenario, script: Script| {
        story
            .plays(script.on_nth(1, Trigger::SpeechEnd, [answer(1_000, ["Yes."])]))
            .listens(6_000)
            .utterance(3_000)
            .hang_up()
            .hears(0, 1, 1_000)
    };
    vec![
        tale("O16", "the format that was asked for is not applied")
            .plays(Script::new().on(Trigger::Setup, [send(unchanged)]))
            .listens(3_000)
            .hang_up()
            .ends(Outcome::GivenUp("format")),
        late(
            tale("O22a", "session.updated comes five seconds late"),
            Script::new().on(Trigger::Setup, [Action::Delay(5_000), Action::Ready]),
        )
        .bills(1),
        late(tale("O22b", "a server without session.updated and usage"), Script::new())
            .dialect(Dialect { minimal: true, ..Dialect::default() }),
    ]
}
