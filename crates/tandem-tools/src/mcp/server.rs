//! A server, as the rest of the daemon holds it.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::{
    McpSettings, McpTool, McpTransport,
    keeper::{Ask, Keeper, Link},
    offer::Offer,
};
use crate::{AddressError, HttpClient};

/// Words to the keeper that may wait; more say nothing new.
const ASKS: usize = 8;

/// An MCP server whose session is kept while this, a clone of it or one of its tools is held. When the last is dropped
/// the session ends, and with it the child of a server that is a program.
#[derive(Clone)]
pub struct McpServer {
    settings: Arc<McpSettings>,
    asks: mpsc::Sender<Ask>,
    link: watch::Receiver<Link>,
    offers: watch::Receiver<Arc<[Arc<Offer>]>>,
}

impl fmt::Debug for McpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("McpServer").field(&self.name()).finish()
    }
}

/// There is no session with an MCP server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("MCP server {name:?}: {why}")]
pub struct McpAway {
    /// As it is configured.
    pub name: String,
    /// The last failure.
    pub why: String,
}

impl McpServer {
    /// Begins to keep a session with the server of `settings`, for ever, on the runtime that this is called in.
    ///
    /// `http` says which addresses may be used, as it does for webhooks; fails where the server's may not be.
    pub fn start(settings: McpSettings, http: &HttpClient) -> Result<Self, AddressError> {
        let http = match &settings.transport {
            McpTransport::Http { url, .. } => Some(http.for_url(url)?.clone()),
            McpTransport::Command { .. } => None,
        };
        let settings = Arc::new(settings);
        let (link_sender, link) = watch::channel(Link::Away(None));
        let (offer_sender, offers) = watch::channel(Arc::default());
        let (asks, asked) = mpsc::channel(ASKS);
        let keeper = Keeper::new(settings.clone(), http, link_sender, offer_sender, asked);
        tokio::spawn(keeper.run());
        Ok(Self { settings, asks, link, offers })
    }

    /// As it is configured.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// What it offers now: nothing until it was reached once, and while it is away what it offered last.
    pub fn tools(&self) -> Vec<McpTool> {
        let offers = self.offers.borrow().clone();
        offers.iter().map(|offer| McpTool::new(offer.clone(), self.clone())).collect()
    }

    /// Tells the keeper, unless it has enough to do already.
    pub(super) fn ask(&self, ask: Ask) {
        let _ = self.asks.try_send(ask);
    }

    /// Whether there is a session now, and word of the next one.
    pub(super) fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// Its tools, once there is a session; fails when the first try does, and after `within`.
    pub async fn ready(&self, within: Duration) -> Result<Vec<McpTool>, McpAway> {
        let mut link = self.link();
        let away = |why: &str| McpAway { name: self.name().to_owned(), why: why.to_owned() };
        let known = link.wait_for(|link| !matches!(link, Link::Away(None)));
        match timeout(within, known).await {
            Ok(Ok(link)) => match &*link {
                Link::Up(_) => {}
                Link::Away(why) => return Err(away(why.as_deref().unwrap_or_default())),
            },
            Ok(Err(_)) => return Err(away("its task has ended")),
            Err(_) => return Err(away(&format!("no answer within {within:?}"))),
        }
        Ok(self.tools())
    }

    /// Lets go of it and waits until its session has ended, which it does when nobody else holds it either.
    pub async fn ended(self) {
        let mut link = self.link();
        drop(self);
        while link.changed().await.is_ok() {}
    }
}
