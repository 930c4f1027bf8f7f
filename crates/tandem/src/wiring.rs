//! Joins the configuration to the parts it configures.

use std::{collections::HashMap, sync::Arc};

use tandem_attendant::Script;
use tandem_exchange::{
    AgentProfile, CallFacts, Consent, ModelChoice, RecordingPlan, Route, Routes,
};
use tandem_models::ModelSettings;
use tandem_recording::Recorder;

use crate::{
    config::{Agent, Config},
    routing::{self, NoRoute},
    tools::{AgentEquipment, Equipment, ToolsOfCall},
};

/// The number plan and the agents of one configuration, ready to route calls.
pub struct Plan {
    config: Config,
    models: HashMap<String, Arc<ModelSettings>>,
    scripts: HashMap<String, Arc<Script>>,
    consents: HashMap<String, Consent>,
    equipment: Equipment,
    recorder: Option<Recorder>,
}

impl Plan {
    /// The plan of `config`, whose agents carry their tools out with `equipment`.
    pub(crate) fn new(config: Config, equipment: Equipment) -> Self {
        let models = config
            .models
            .iter()
            .map(|(name, model)| (name.clone(), Arc::new(model.settings.clone())))
            .collect();
        let scripts = config
            .agents
            .iter()
            .map(|(name, agent)| (name.clone(), Arc::new(agent.script.clone())))
            .collect();
        let consents = config.agents.iter().filter_map(|(name, agent)| {
            let text = config.recording.consent_of(agent)?;
            Some((name.clone(), Consent::new(agent.language.as_str(), text)))
        });
        let consents = consents.collect();
        Self { config, models, scripts, consents, equipment, recorder: None }
    }

    /// The same, with somebody who records the calls that are to be recorded.
    pub fn with_recorder(self, recorder: Recorder) -> Self {
        Self { recorder: Some(recorder), ..self }
    }

    /// What callers are told before they are recorded, so that the voice can render it beforehand.
    pub fn consents(&self) -> impl Iterator<Item = &Consent> {
        let recorded = |name: &&String| {
            let recording = &self.config.recording;
            let of_number = self.config.numbers.lines().iter().any(|it| it.recording == Some(true));
            of_number || recording.records(&self.config.agents[*name].recording, None)
        };
        self.consents.iter().filter(move |(name, _)| recorded(name)).map(|(_, consent)| consent)
    }

    /// How the calls of `agent` to a number that says `number` are recorded, if they are.
    fn recording(&self, agent: &Agent, number: Option<bool>) -> Option<RecordingPlan> {
        let config = &self.config.recording;
        let recorder =
            self.recorder.as_ref().filter(|_| config.records(&agent.recording, number))?;
        Some(RecordingPlan {
            recorder: recorder.clone(),
            settings: config.settings.clone(),
            consent: self.consents.get(&agent.agent_id).cloned(),
            from_answer: agent.recording.from_answer.unwrap_or(config.from_answer),
        })
    }

    /// The language and the script of each agent, so that the voice can render them beforehand.
    pub fn scripts(&self) -> impl Iterator<Item = (&str, &Script)> {
        self.scripts
            .iter()
            .map(|(name, script)| (self.config.agents[name].language.as_str(), &**script))
    }
}

impl Routes for Plan {
    fn route(&self, facts: CallFacts<'_>) -> Route {
        let route = match routing::route(&self.config, facts.called) {
            Ok(route) => route,
            Err(NoRoute::Elsewhere(elsewhere)) => return Route::Elsewhere(elsewhere),
            Err(why) => return Route::Nobody(why.to_string()),
        };
        let agent = route.agent;
        let mut spec = agent.spec(route.number.ai_transfer.as_ref(), facts.variables);
        let AgentEquipment { set, prompts, voicemail } = &self.equipment.agents[&agent.agent_id];
        spec.voicemail_message = spec.voicemail_message.filter(|_| *voicemail);
        let offer = set.offer();
        agent.add_server_tools(&mut spec, &offer);
        let chain = spec
            .models
            .iter()
            .filter_map(|name| {
                Some(ModelChoice {
                    name: name.clone(),
                    settings: Arc::clone(self.models.get(name)?),
                })
            })
            .collect();
        Route::Agent(Box::new(AgentProfile {
            spec,
            chain,
            script: Arc::clone(&self.scripts[&agent.agent_id]),
            max_concurrent_calls: agent.max_concurrent_calls,
            srtp: agent.srtp,
            audio: agent.audio.clone(),
            recording: self.recording(agent, route.number.recording),
            tools: ToolsOfCall::new(offer, self.equipment.channel.clone()),
            prompts: Arc::clone(prompts),
        }))
    }
}

/// The routes of a daemon that has stopped: nobody answers, and nothing is held for anybody.
pub(crate) struct NoRoutes;

impl Routes for NoRoutes {
    fn route(&self, _: CallFacts<'_>) -> Route {
        Route::Nobody("the daemon has stopped".into())
    }
}
