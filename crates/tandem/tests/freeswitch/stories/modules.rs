//! Each edition of the fork modules.

use crate::{
    Theatre,
    house::{Setup, said},
};

/// Greeting, digits, goodbye with this module.
fn with(theatre: &Theatre, module: &'static str, name: &str) {
    let mut house = theatre.house(&Setup { module: Some(module), ..Setup::default() });
    let another = module == "jambonz" && house.stage.usual_module() != module;
    if another || !house.stage.has_module(name) {
        eprintln!("skipped: the switch has no {name} of that edition");
        return house.finish(0);
    }
    let line = house.greeted("100");
    line.press_and_hear("6");
    line.say_and_hear(&theatre.words());
    line.phone.press("#");
    assert_eq!(house.ended(&line.uuid), "NORMAL_CLEARING");
    let record = house.record(&line.uuid);
    assert_eq!(record["end_reason"], "caller_goodbye", "{record:#}");
    assert_eq!(
        said(&record),
        ["Hello, and thank you for calling.", "Thank you.", "Thank you.", "Goodbye."]
    );
    house.finish(1);
}

/// mod_audio_fork, raw audio back.
pub(crate) fn jambonz(theatre: &Theatre) {
    with(theatre, "jambonz", "mod_audio_fork");
}

/// mod_audio_fork, files back.
pub(crate) fn drachtio(theatre: &Theatre) {
    with(theatre, "drachtio", "mod_audio_fork");
}

/// mod_audio_stream, files back.
pub(crate) fn stream(theatre: &Theatre) {
    with(theatre, "stream", "mod_audio_stream");
}
