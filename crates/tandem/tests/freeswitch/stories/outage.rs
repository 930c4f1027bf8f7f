//! The event socket goes away during many calls, and comes back.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    Theatre,
    common::wait_until,
    house::{Line, Setup},
    stage::{Behaviour, people},
};

/// Audio never stops, no call is lost or recorded twice, and what is ordered meanwhile fails clearly or is done once.
pub(crate) fn survived(theatre: &Theatre) {
    let mut house = theatre.house(&Setup::default());
    if !house.module_plays() {
        return house.finish(0);
    }
    let fake = house.stage.is_fake();
    let asked = std::env::var("TANDEM_FREESWITCH_CALLS").ok().and_then(|calls| calls.parse().ok());
    let calls: usize = if fake { 50 } else { asked.unwrap_or(10).max(4) };
    let outage = Duration::from_secs(10);
    house.stage.expect(people::ANNA, Behaviour::Answers);
    let words = theatre.words();

    let connecting = house.call("101");
    let closing = house.call("102");
    let leaving = house.call("100");
    let mut staying: Vec<Line> = (3..calls).map(|_| house.call("100")).collect();
    for line in staying.iter().chain([&connecting, &closing, &leaving]) {
        line.hear();
        line.hear_the_end();
    }
    assert_eq!(house.forks.connections(), calls);

    house.link.close();
    let down = Instant::now();
    house.daemon.wait_for_log("event socket is down");
    let before = house.forks.carried();
    leaving.phone.hang_up("NORMAL_CLEARING");
    // Everybody is answered: audio goes both ways with nobody to give orders.
    all_talk(staying.iter().chain([&connecting, &closing]), &words);
    wait_until("every caller's frames", || {
        let now = house.forks.carried();
        now.len() == calls - 1 && now.iter().all(|it| before.iter().all(|was| it.up > was.up))
    });
    let back = (down + outage).saturating_duration_since(Instant::now());
    thread::park_timeout(back);
    let before = house.forks.carried();
    house.link.open();
    house.daemon.wait_for_log("event socket is up");

    // Who hung up is noticed, who was to be hung up on is, and who was to be transferred was not.
    assert_eq!(house.ended(&closing.uuid), "NORMAL_CLEARING");
    let record = house.record(&closing.uuid);
    assert_eq!(record["end_reason"], "caller_goodbye", "{record:#}");
    assert_eq!(house.link.said(&format!("uuid_kill {}", closing.uuid)), 1, "hung up on once");
    let outcome = house.stage.variable(&closing.uuid, "tandem_outcome");
    assert_eq!(outcome.as_deref(), Some("caller_goodbye"), "annotated before");
    let record = house.record(&leaving.uuid);
    assert_eq!(record["end_reason"], "caller_hangup", "{record:#}");
    assert!(
        house.stage.target(people::ANNA).is_none(),
        "a transfer that failed is not tried later"
    );
    staying.push(connecting);
    all_talk(staying.iter(), &words);
    let now = house.forks.carried();
    assert_eq!(now.len(), staying.len());
    assert!(now.iter().zip(&before).all(|(now, was)| now.up > was.up), "frames flow on");
    assert_eq!(house.forks.taken(), calls, "no fork was started again");
    for line in &staying {
        line.phone.hang_up("NORMAL_CLEARING");
    }
    for line in &staying {
        house.ended(&line.uuid);
        let record = house.record(&line.uuid);
        assert_eq!(record["end_reason"], "caller_hangup", "{record:#}");
    }
    let connecting = staying.pop().expect("it was put there");
    let record = house.record(&connecting.uuid);
    assert_eq!(record["transfer"]["status"], "failed", "{record:#}");
    let error = record["transfer"]["error"].as_str().expect("it says why");
    assert!(error.contains("event socket is down"), "{error}");
    house.finish(calls);
}

/// All callers say something at once, and each hears an answer.
fn all_talk<'a>(lines: impl Iterator<Item = &'a Line>, words: &[i16]) {
    let spoken: Vec<(&Line, Instant)> = lines
        .map(|line| {
            let since = line.now();
            line.phone.say(words);
            (line, since)
        })
        .collect();
    for (line, since) in spoken {
        line.hear_since(Some(since));
        line.hear_the_end();
    }
}
