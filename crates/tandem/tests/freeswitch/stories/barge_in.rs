//! The caller speaks over the agent.

use std::time::Duration;

use crate::{
    Theatre,
    house::{Setup, said},
};

/// Speech that interrupts: three frames of 16 ms, and those that the caller's words need to be judged.
const NOTICED: Duration = Duration::from_millis(48);

/// What an agent who was interrupted may still be heard for: 100 ms, and the switch's own beat both ways and buffers.
const HEARD_ON: Duration = Duration::from_millis(100 + 80);

/// However busy the machine is.
const GENEROUS: Duration = Duration::from_secs(3);

/// The agent falls silent when the caller speaks, and the transcript ends where the caller heard it end.
pub(crate) fn falls_silent(theatre: &Theatre) {
    const LONG: &str = "Hello, and thank you for calling. I am the automatic attendant. Press zero to reach a \
                        person, or press pound to end the call. I am a simple attendant, and I may not have \
                        understood you.";
    let mut house = theatre.house(&Setup::default());
    let words = theatre.words();
    let mut best = Duration::MAX;
    let calls = 3;
    for _ in 0..calls {
        let line = house.greeted("100");
        let before = line.phone.heard().duration();
        line.phone.press("7");
        let start = line.phone.heard().started + before;
        let begun = line.hear_since(Some(start));
        line.hear_since(Some(begun + Duration::from_millis(1_500)));
        let spoken = line.phone.say(&words[..words.len().min(8_000)]);
        let silent = line.hear_the_end_after(spoken);
        let took = silent.saturating_duration_since(spoken);
        assert!(took < GENEROUS, "the agent went on for {took:?}");
        best = best.min(took);
        // Its turn has ended: it is answered.
        line.hear_since(Some(silent + Duration::from_millis(1)));
        line.hear_the_end();
        line.phone.hang_up("NORMAL_CLEARING");
        house.ended(&line.uuid);

        let record = house.record(&line.uuid);
        let turns = record["transcript"].as_array().expect("a transcript");
        let cut = turns.iter().find(|turn| turn["text_unheard"].is_string());
        let cut = cut.unwrap_or_else(|| panic!("nothing was cut: {record:#}"));
        let text = cut["text"].as_str().expect("text");
        assert!(LONG.starts_with(text.trim_end_matches(['.', '…', ' '])), "{text:?}");
        assert!(text.len() < LONG.len() / 2, "more was written than heard: {text:?}");
        assert!(said(&record).len() >= 3, "{record:#}");
        let ledger = record["turns"].as_array().expect("turns");
        let heard = ledger.iter().find_map(|turn| turn["heard_ms"].as_f64());
        let heard = Duration::from_secs_f64(heard.expect("a turn was cut") / 1_000.0);
        let really = silent.saturating_duration_since(begun);
        let apart = heard.abs_diff(really);
        eprintln!(
            "silent {took:?} after the caller's first word; heard {really:?}, by the record {heard:?}"
        );
        assert!(apart < Duration::from_millis(500), "heard {really:?}, by the record {heard:?}");
    }
    eprintln!("at best silent {best:?} after the caller's first word");
    let limit = if house.stage.is_fake() { NOTICED + HEARD_ON } else { GENEROUS };
    assert!(best <= limit, "at best {best:?}");
    house.finish(calls);
}
