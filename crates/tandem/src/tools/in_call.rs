//! Carries out the tools of one call.

use std::sync::Arc;

use tandem_exchange::{CallTools, Invocation, ToolContext, ToolReply, Tools};
use tandem_tools::{CallFacts, CallRunner, Offer};

use crate::freeswitch::{controls::CONTROLS, tools::ChannelTools};

/// The tools of one call, as its model was told of them.
pub(crate) struct ToolsOfCall {
    offer: Offer,
    channel: ChannelTools,
}

impl ToolsOfCall {
    /// The tools that are `offer`ed, and the controls of the `channel`.
    pub(crate) fn new(offer: Offer, channel: ChannelTools) -> Arc<Self> {
        Arc::new(Self { offer, channel })
    }
}

impl Tools for ToolsOfCall {
    fn open(&self, call: ToolContext) -> Box<dyn CallTools> {
        let ToolContext { call_id, agent_id, language, from, to, variables } = call;
        let channel = self.channel.clone();
        let facts = CallFacts { call_id: call_id.clone(), agent_id, language, from, to, variables };
        Box::new(Running { runner: self.offer.begin(facts), call_id, channel })
    }
}

struct Running {
    runner: CallRunner,
    call_id: tandem_call::CallId,
    channel: ChannelTools,
}

impl CallTools for Running {
    fn start(&mut self, invocation: Invocation, reply: ToolReply) {
        if CONTROLS.contains(&invocation.call.name.as_str()) {
            return self.channel.start(&self.call_id, invocation.call, reply);
        }
        let Invocation { number, call, deadline, .. } = invocation;
        let invocation = tandem_tools::Invocation {
            number,
            name: call.name,
            arguments: call.arguments,
            deadline,
        };
        self.runner.start(invocation, move |report| reply.send(report));
    }

    fn cancel(&mut self, number: u32) {
        self.runner.cancel(number); // A control is done at once: there is nothing to take back.
    }
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        time::{Duration, Instant},
    };

    use serde_json::{Value, json};
    use tandem_attendant::Voice;
    use tandem_call::{CallId, Party, ToolCall, ToolCallId, ToolOutcome, ToolReport, Verdict};
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        config::{Config, SwitchTools},
        tools::Receivers,
    };

    async fn open(config: &str) -> Box<dyn CallTools> {
        let config = Config::read(Path::new("t.toml"), config, &|_| None).0.expect("no mistakes");
        let channel = ChannelTools::new(SwitchTools::default());
        let voice = Voice::tone(Duration::ZERO);
        let receivers = Receivers::new(config.tools.in_all);
        let equipment = receivers.equip(&config, channel, &voice).await.expect("no mistakes");
        let offer = equipment.agents["a"].set.offer();
        ToolsOfCall::new(offer, equipment.channel).open(ToolContext {
            call_id: CallId::new(1, 2),
            agent_id: "a".into(),
            language: "de".into(),
            from: Party::default(),
            to: Party::default(),
            variables: [].into(),
        })
    }

    async fn report(tools: &mut dyn CallTools, name: &str, arguments: Value) -> ToolReport {
        let (inbox, mut reports) = mpsc::channel(4);
        let timeout = Duration::from_secs(9);
        let call =
            ToolCall { id: ToolCallId("1".into()), name: name.into(), arguments: Ok(arguments) };
        let invocation =
            Invocation { number: 1, call, deadline: Instant::now() + timeout, timeout };
        tools.start(invocation, ToolReply::new(1, inbox));
        let (number, report) = reports.recv().await.expect("a report");
        assert_eq!(number, 1);
        report
    }

    #[tokio::test]
    async fn each_tool_goes_to_who_carries_it_out() {
        let mut tools =
            open("[freeswitch]\n[agents.a]\ntools = [\"pbx_hold\", \"create_lead\"]\nlanguage = \"de\"\n")
                .await;
        let lead = json!({ "first_name": "Ann", "phone": "1" });
        let noted = report(&mut *tools, "create_lead", lead).await;
        assert_eq!(noted.verdict, Verdict::FallbackNoted);
        let ToolOutcome::Answered(result) = noted.outcome else { panic!("{noted:?}") };
        assert_eq!(result["status"], "noted");
        assert!(result["message"].as_str().is_some_and(|it| it.contains("notiert")), "{result}");
        let lacking = report(&mut *tools, "create_lead", json!({ "phone": "1" })).await;
        assert_eq!(lacking.verdict, Verdict::InvalidArguments);
        let refused = report(&mut *tools, "pbx_hold", json!({})).await;
        let ToolOutcome::Failed(why) = refused.outcome else { panic!("{refused:?}") };
        assert!(why.contains("no event socket"), "{why}");
        let unknown = report(&mut *tools, "teleport", json!({})).await;
        assert_eq!(unknown.verdict, Verdict::Rejected);
    }
}
