//! What is kept of a call at the PBX, as variables of its channel: so that its own call records carry it.

use tandem_call::{EndReason, HistoryTurn, SignalCommand, Speaker};

/// Bytes of the transcript that are kept: its end, whole turns.
const TRANSCRIPT: usize = 4_096;

/// `call_id`, `agent` and, until something else ends it, the outcome: it is then the caller who hung up.
pub(crate) fn opening(call_id: &str, agent: &str) -> SignalCommand {
    SignalCommand::Annotate {
        variables: vec![
            ("call_id".into(), call_id.into()),
            ("agent".into(), agent.into()),
            ("outcome".into(), word(EndReason::CallerHangup)),
        ],
    }
}

/// What was said so far.
pub(crate) fn transcript(turns: &[HistoryTurn]) -> SignalCommand {
    SignalCommand::Annotate { variables: vec![("transcript".into(), written(turns))] }
}

/// How the call ends or, before that, what its end would be called.
pub(crate) fn outcome(
    reason: EndReason,
    summary: Option<&str>,
    turns: &[HistoryTurn],
) -> SignalCommand {
    let mut variables = vec![("outcome".to_owned(), word(reason))];
    variables.extend(summary.map(|summary| ("summary".to_owned(), one_line(summary))));
    if !turns.is_empty() {
        variables.push(("transcript".into(), written(turns)));
    }
    SignalCommand::Annotate { variables }
}

/// One line: `Agent: … | Caller: …`.
fn written(turns: &[HistoryTurn]) -> String {
    let mut kept = Vec::new();
    let mut bytes = 0;
    for turn in turns.iter().rev() {
        let speaker = match turn.speaker {
            Speaker::Caller => "Caller",
            Speaker::Agent => "Agent",
        };
        let text = one_line(&turn.text);
        bytes += speaker.len() + 5 + text.len();
        if bytes > TRANSCRIPT {
            break;
        }
        kept.push(format!("{speaker}: {text}"));
    }
    kept.reverse();
    kept.join(" | ")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The word of the call record.
fn word(reason: EndReason) -> String {
    match serde_json::to_value(reason) {
        Ok(serde_json::Value::String(word)) => word,
        _ => unreachable!("a reason is written as one word"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(speaker: Speaker, text: &str) -> HistoryTurn {
        HistoryTurn { speaker, text: text.into() }
    }

    #[test]
    fn a_transcript_is_one_line_and_its_end_is_kept() {
        let turns =
            [turn(Speaker::Agent, "Hello.\nHow can I help?"), turn(Speaker::Caller, "Where is it")];
        assert_eq!(written(&turns), "Agent: Hello. How can I help? | Caller: Where is it");
        let many: Vec<_> =
            (0..1_000).map(|n| turn(Speaker::Caller, &format!("word {n}"))).collect();
        let kept = written(&many);
        assert!(kept.len() <= TRANSCRIPT && kept.ends_with("Caller: word 999"), "{}", kept.len());
    }

    #[test]
    fn the_outcome_is_the_word_of_the_record() {
        let command = outcome(EndReason::ConversationComplete, Some(" Sold\r\na bike.\n"), &[]);
        let SignalCommand::Annotate { variables } = command else { panic!("{command:?}") };
        assert_eq!(
            variables,
            [
                ("outcome".to_owned(), "conversation_complete".to_owned()),
                ("summary".to_owned(), "Sold a bike.".to_owned())
            ]
        );
    }
}
