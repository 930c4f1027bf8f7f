//! Every story of `tandem-sim` as a whole call.

use tandem_sim::{Scenario, scenarios};
use tandem_tests::play;

fn stories(id: &str) -> Vec<Scenario> {
    let all = scenarios::gemini().into_iter().chain(scenarios::openai());
    all.filter(|scenario| scenario.id.starts_with(id)).collect()
}

#[test]
fn all() {
    let wanted = std::env::var("STORY").unwrap_or_default();
    let mut bad = Vec::new();
    for scenario in stories(&wanted) {
        let began = std::time::Instant::now();
        let played = std::panic::catch_unwind(|| {
            play(&scenario);
        });
        if played.is_err() {
            bad.push(scenario.id.clone());
        }
        println!("{} {} {:?}", scenario.id, if played.is_ok() { "ok" } else { "BAD" }, began.elapsed());
    }
    assert!(bad.is_empty(), "{bad:?}");
}
