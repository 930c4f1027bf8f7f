//! A fake model of the call, and what a step waits for on its connections.

use tandem_models::{ModelSettings, Provider as ModelProvider};
use tandem_sim::{
    Action, Ending, FakeConfig, FakeHandle, FakeServer, Provider, Script, Trigger, refused_url,
};

use crate::{
    WorldConfig,
    tap::{Dial, DialState},
};

/// A fake model of the call.
pub(crate) struct Server {
    /// None: nothing listens, or it was killed.
    pub(crate) running: Option<FakeServer>,
    pub(crate) handle: Option<FakeHandle>,
    /// Connections whose handshake the script never answers.
    pub(crate) never_upgrades: Vec<usize>,
    /// Scripts, for [`Self::never_upgrades`] of connections beyond the last.
    pub(crate) scripts: usize,
    /// It reads nothing: not waited for.
    pub(crate) deaf: bool,
}

/// Who has something to do.
pub(crate) enum Awaited {
    Nothing,
    /// The session: something is on its way to it.
    Client,
    /// The fake model: a connection.
    Connection {
        model: usize,
        count: usize,
    },
    /// The fake model: messages, and its answers to them.
    Server {
        model: usize,
        connection: usize,
        received: u64,
    },
}

impl Server {
    /// Starts a fake model and tells how it is reached.
    pub(crate) async fn start(
        config: Option<&FakeConfig>,
        world: &WorldConfig,
    ) -> (Server, ModelSettings) {
        let settings = |provider, base_url| {
            let mut settings = ModelSettings::new(provider, FakeConfig::KEY.to_owned().into());
            settings.base_url = Some(base_url);
            settings.options = world.options.clone();
            if let Some(model) = world.model {
                settings.model = model.into();
            }
            settings
        };
        let Some(config) = config else {
            let nobody = refused_url().await.expect("a free port");
            let server = Self {
                running: None,
                handle: None,
                never_upgrades: Vec::new(),
                scripts: 1,
                deaf: false,
            };
            return (server, settings(ModelProvider::GeminiLive, nobody));
        };
        let provider = match config.provider {
            Provider::OpenAi => ModelProvider::OpenAiRealtime,
            Provider::Gemini => ModelProvider::GeminiLive,
        };
        let never = |script: &Script| {
            script.steps.iter().any(|step| {
                step.on == Trigger::Connect && step.actions.contains(&Action::NeverUpgrade)
            })
        };
        let never_upgrades =
            config.scripts.iter().enumerate().filter(|(_, script)| never(script)).map(|(at, _)| at);
        let running = FakeServer::start(config.clone()).await.expect("a free port");
        let server = Self {
            handle: Some(running.handle()),
            never_upgrades: never_upgrades.collect(),
            scripts: config.scripts.len().max(1),
            deaf: false,
            running: Some(running),
        };
        let url = server.running.as_ref().map(FakeServer::base_url).unwrap_or_default();
        (server, settings(provider, url))
    }

    /// Who still has something to do on `connection`, which the client sees as `dial`.
    pub(crate) fn awaited(&self, dial: &Dial, connection: usize) -> Awaited {
        if dial.state == DialState::Over {
            return Awaited::Nothing;
        }
        let (Some(_), Some(handle)) = (&self.running, &self.handle) else { return Awaited::Client };
        let model = dial.model;
        if handle.connections() <= connection {
            return Awaited::Connection { model, count: connection + 1 };
        }
        let progress = handle.progress(connection);
        let ended_by_us = matches!(progress.ended, Some(Ending::ByClient(_) | Ending::Abandoned));
        if ended_by_us {
            return Awaited::Nothing;
        }
        let over = progress.ending || progress.ended.is_some();
        if dial.state == DialState::Dialling {
            let never = self.never_upgrades.contains(&connection.min(self.scripts - 1));
            return match progress.open || over {
                true => Awaited::Client,
                false if never => Awaited::Nothing,
                false => Awaited::Server { model, connection, received: 0 },
            };
        }
        if over {
            Awaited::Client
        } else if self.deaf {
            Awaited::Nothing
        } else if progress.received < dial.sent || !progress.idle {
            Awaited::Server { model, connection, received: dial.sent }
        } else if dial.received < progress.sent {
            Awaited::Client
        } else {
            Awaited::Nothing
        }
    }
}
