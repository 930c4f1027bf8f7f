//! Joins the configuration to the parts it configures.

use std::{collections::HashMap, sync::Arc};

use tandem_attendant::Script;
use tandem_exchange::{AgentProfile, CallFacts, ModelChoice, Route, Routes};
use tandem_models::ModelSettings;

use crate::{
    config::Config,
    routing::{self, NoRoute},
};

/// The number plan and the agents of one configuration, ready to route calls.
pub struct Plan {
    config: Config,
    models: HashMap<String, Arc<ModelSettings>>,
    scripts: HashMap<String, Arc<Script>>,
}

impl Plan {
    /// The plan of `config`.
    pub fn new(config: Config) -> Self {
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
        Self { config, models, scripts }
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
        let spec = agent.spec(route.number.ai_transfer.as_ref(), facts.variables);
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
        }))
    }
}
