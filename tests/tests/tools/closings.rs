//! How calls end and change hands by tools, and what a receiver asks for beside its answer.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tandem_call::{
    EndReason, EndedBy, FollowUp, PhraseId, SignalCommand, ToolReport, TransferKind,
    TransferOutcome, TransferTarget, Verdict,
};
use tandem_sim::{Action, Script, ToolRequest, Trigger};
use tandem_tests::{Finished, ToolPlay, TransferScript, Voiced};

use super::{
    PACKETS, PROVIDERS, about, adds_nothing, after_results, answer, assert_told, config, finds,
    found, length, phrase, play, report, said, says_and_calls, verdicts, words,
};

/// The report of a receiver that wants something beside its answer.
fn wanting(follow_up: FollowUp) -> ToolReport {
    ToolReport { follow_up, ..report(found(), Verdict::Ok) }
}

#[test]
fn a_receiver_ends_the_call_after_the_answer_to_its_result() {
    for (provider, farewell_ms) in PROVIDERS.into_iter().flat_map(|it| [(it, 1_600), (it, 6_500)]) {
        let mut config = finds(provider, farewell_ms);
        let ends = FollowUp { end_call: true, ..FollowUp::default() };
        config.plays = vec![ToolPlay::new("find", 400, wanting(ends))];
        let call = play(config, 14_000);
        let name = format!("{provider:?}, {farewell_ms} ms");
        call.assert(call.outcome.ended_by == EndedBy::Agent, &name);
        call.assert(about(&said(&call), &[farewell_ms]), &format!("{name}: it is heard whole"));
        let farewell = call.ear.stretches().pop().expect("the farewell");
        let drain = call.ended.saturating_duration_since(farewell.end).as_millis() as u64;
        call.assert(drain.abs_diff(2_000) <= 60, &format!("{name}: hung up {drain} ms after it"));
        assert_told(&call, &[("t-1", found())]);
    }
}

#[test]
fn a_receiver_sends_the_caller_elsewhere_after_the_answer_to_its_result() {
    for provider in PROVIDERS {
        let mut config = finds(provider, 1_600);
        let target = TransferTarget::new(TransferKind::Queue, "support");
        let leads = FollowUp { transfer: Some(target.clone()), ..FollowUp::default() };
        config.plays = vec![ToolPlay::new("find", 400, wanting(leads))];
        config.transfers = vec![TransferScript {
            after: Duration::from_secs(1),
            outcome: TransferOutcome::Completed,
        }];
        let call = play(config, 12_000);
        let name = format!("{provider:?}");
        call.assert(call.outcome.end_reason == EndReason::Transferred, &name);
        let (at, to) = transfer_order(&call);
        call.assert(to == target, &name);
        let spoken = call.ear.stretches().pop().expect("the answer");
        call.assert(length(&spoken).abs_diff(1_600) <= 4, &name);
        let wait = at.saturating_duration_since(spoken.end);
        call.assert(at >= spoken.end && wait <= PACKETS, &format!("{name}: {wait:?} after it"));
    }
}

/// When a transfer was ordered, and where to.
fn transfer_order(call: &Finished) -> (Instant, TransferTarget) {
    let mut orders = call.signals.iter().filter_map(|(at, signal)| match signal {
        SignalCommand::Transfer { target, .. } => Some((*at, target.clone())),
        _ => None,
    });
    let order = orders.next().unwrap_or_else(|| panic!("no transfer\n{}", call.story));
    assert!(orders.next().is_none(), "one transfer\n{}", call.story);
    order
}

#[test]
fn a_receivers_words_and_metadata_are_passed_on() {
    for provider in PROVIDERS {
        let mut config = finds(provider, 1_000);
        let exactly = FollowUp {
            verbatim: Some("Your order is on its way.".into()),
            metadata: Map::from_iter([("ticket".to_owned(), json!("T-7"))]),
            ..FollowUp::default()
        };
        config.plays = vec![ToolPlay::new("find", 400, wanting(exactly))];
        let call = play(config, 4_000);
        let name = format!("{provider:?}");
        let told = &call.told_results()[0].1;
        call.assert(told["say_exactly"] == "Your order is on its way.", &name);
        call.assert(told["status"] == "found", &name);
        call.assert(
            Value::from(call.outcome.metadata.clone()) == json!({ "ticket": "T-7" }),
            &name,
        );
    }
}

fn ends(reason: &str) -> ToolRequest {
    ToolRequest::new("t-9", "end_call", json!({ "reason": reason }))
}

#[test]
fn the_end_of_a_call_has_the_reason_that_the_model_gave() {
    let reasons = [
        ("conversation_complete", EndReason::ConversationComplete),
        ("caller_goodbye", EndReason::CallerGoodbye),
        ("no_response", EndReason::NoResponse),
        ("voicemail_detected", EndReason::VoicemailDetected),
    ];
    for provider in PROVIDERS {
        for (reason, expected) in reasons {
            let asks = says_and_calls(provider, 700, ends(reason));
            let script = Script::new().on_nth(1, Trigger::SpeechEnd, asks);
            let call = play(config(provider, adds_nothing(provider, script)), 12_000);
            let name = format!("{provider:?}, {reason}");
            call.assert(call.outcome.end_reason == expected, &name);
            call.assert(call.outcome.ended_by == EndedBy::Agent, &name);
            assert_told(&call, &[("t-9", json!({ "status": "ending" }))]);
            call.assert(verdicts(&call) == [("end_call", Verdict::Ok)], &name);
        }
    }
}

#[test]
fn a_reason_that_there_is_not_is_put_right_and_the_call_goes_on() {
    for provider in PROVIDERS {
        let asks = says_and_calls(provider, 700, ends("bored"));
        let script = Script::new().on_nth(1, Trigger::SpeechEnd, asks);
        let script = after_results(provider, script, 1, &[answer(900, "Anything else?")]);
        let call = play(config(provider, script), 14_000);
        let name = format!("{provider:?}");
        let told = &call.told_results()[0].1;
        call.assert(told["status"] == "invalid_arguments", &name);
        let problem = told["problems"][0].as_str().unwrap_or_default();
        call.assert(problem.contains("caller_goodbye"), &format!("{name}: {problem}"));
        call.assert(call.outcome.end_reason == EndReason::CallerHangup, &name);
        call.assert(verdicts(&call) == [("end_call", Verdict::InvalidArguments)], &name);
    }
}

#[test]
fn an_answering_machine_hears_its_message_before_the_end() {
    for provider in PROVIDERS {
        let asks = Action::Tool(ends("voicemail_detected"));
        let script = Script::new().on_nth(1, Trigger::SpeechEnd, [asks]);
        let mut config = config(provider, script);
        config.agent.phrases = vec!["Please call us back.".into()];
        config.agent.voicemail_message = Some(PhraseId(0));
        config.phrases = vec![phrase(2_200)];
        let call = play(config, 20_000);
        let name = format!("{provider:?}");
        call.assert(call.outcome.end_reason == EndReason::VoicemailDetected, &name);
        let words = words(&call, call.answered.expect("it was answered"));
        let [(_, lasts)] = words[..] else { panic!("{name}: {words:?}\n{}", call.story) };
        call.assert(lasts.abs_diff(2_200) <= 20, &format!("{name}: {lasts} ms"));
        let last = call.ear.stretches().pop().expect("the message");
        call.assert(last.voiced == Voiced::Words && call.ended >= last.end, &name);
    }
}

fn transfers(department: Option<&str>) -> ToolRequest {
    let mut arguments = json!({ "reason": "wants a person" });
    if let Some(department) = department {
        arguments["department"] = department.into();
    }
    ToolRequest::new("t-3", "transfer_to_human", arguments)
}

#[test]
fn a_transfer_takes_the_first_target_there_is() {
    let place = |target: &str| Some(TransferTarget::new(TransferKind::Extension, target));
    for provider in PROVIDERS {
        for (name, department, number, agent, default, expected) in [
            ("the department", Some("sales"), place("2"), place("3"), place("4"), "1"),
            ("the number", None, place("2"), place("3"), place("4"), "2"),
            ("an unknown department", Some("moon"), place("2"), place("3"), place("4"), "2"),
            ("the agent", None, None, place("3"), place("4"), "3"),
            ("anybody", None, None, None, place("4"), "4"),
        ] {
            let asks = says_and_calls(provider, 900, transfers(department));
            let script = Script::new().on_nth(1, Trigger::SpeechEnd, asks);
            let mut config = config(provider, adds_nothing(provider, script));
            let routes = &mut config.agent.transfer;
            routes.departments = [("Sales".to_owned(), place("1").expect("it is one"))].into();
            (routes.number, routes.agent, routes.default) = (number, agent, default);
            config.transfers = vec![TransferScript {
                after: Duration::from_secs(1),
                outcome: TransferOutcome::Completed,
            }];
            let call = play(config, 8_000);
            let name = format!("{provider:?}, {name}");
            let (at, target) = transfer_order(&call);
            call.assert(target.target == expected, &name);
            let spoken = call.ear.stretches().pop().expect("the sentence");
            call.assert(at >= spoken.end, &format!("{name}: the sentence is heard first"));
            let told = &call.told_results()[0].1;
            call.assert(told["status"] == "transferring", &name);
        }
    }
}

#[test]
fn without_anybody_to_transfer_to_the_model_is_told_and_the_call_goes_on() {
    for provider in PROVIDERS {
        let script = Script::new().on_nth(1, Trigger::SpeechEnd, [Action::Tool(transfers(None))]);
        let script = after_results(provider, script, 1, &[answer(1_000, "Nobody is there.")]);
        let mut config = config(provider, script);
        config.agent.transfer.agent = None;
        let call = play(config, 6_000);
        let name = format!("{provider:?}");
        let told = &call.told_results()[0].1;
        call.assert(told["status"] == "unavailable", &name);
        call.assert(told["message"].is_string(), &name);
        call.assert(about(&said(&call), &[1_000]), &name);
        call.assert(call.outcome.end_reason == EndReason::CallerHangup, &name);
        let none = call.signals.iter().all(|(_, it)| !matches!(it, SignalCommand::Transfer { .. }));
        call.assert(none, &name);
    }
}
