//! Every recording of SIP and RTP between a real FreeSWITCH and another user agent, replayed with Tandem in the place
//! of one of the two: what it says, what it tells the call, and what the model hears.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod capture;
mod case;
mod digits;
mod holds;
mod leg;
mod other_codecs;
mod outside_calls;
mod plain_calls;
mod refusals;
mod replay;
mod script;
mod transfers;

use std::{collections::BTreeSet, path::PathBuf};

use capture::Capture;
use replay::Replay;

fn folder() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/data/freeswitch").into()
}

/// Every recording there is: folder and name, without `.pcap`.
fn recordings() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for kind in ["sip", "e2e"] {
        for entry in std::fs::read_dir(folder().join(kind)).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            if let Some(name) = file.strip_suffix(".pcap") {
                names.insert(format!("{kind}/{name}"));
            }
        }
    }
    names
}

#[test]
fn every_recording_has_its_story() {
    let cases = [
        digits::cases(),
        holds::cases(),
        other_codecs::cases(),
        plain_calls::cases(),
        refusals::cases(),
        transfers::cases(),
    ];
    let told: BTreeSet<String> = cases
        .iter()
        .flatten()
        .map(|case| case.file)
        .chain([outside_calls::FILE])
        .map(str::to_owned)
        .collect();
    let recorded = recordings();
    assert_eq!(recorded.len(), 44);
    assert_eq!(recorded, told);
}

#[test]
fn every_call_can_be_replayed_from_both_ends() {
    for name in recordings() {
        let capture = Capture::read(&name);
        for seat in capture.seats() {
            let place = format!("{name}, call {} at {}", seat.call, seat.port);
            Replay::run(&capture, seat).check(&place);
        }
    }
}
