//! Stories with Gemini Live.

use super::*;

mod connection;
mod oddities;
mod tools;
mod turns;

/// The scenarios G01 to G28 and their variants.
pub fn gemini() -> Vec<Scenario> {
    [turns::stories(), tools::stories(), connection::stories(), oddities::stories()].concat()
}

fn tale(id: impl Into<String>, title: impl Into<String>) -> Scenario {
    story(Provider::Gemini, id, title)
}

/// `turnComplete`, at once and without usage.
fn turn_complete() -> Action {
    send(json!({ "serverContent": { "turnComplete": true } }))
}

const EXTENDED: &str = "gemini-3.8-live-extended-thinking";
