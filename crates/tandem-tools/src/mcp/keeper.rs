//! Keeps a session with one server: opens it, reads its tools, notices its end, and begins again.

use std::{sync::Arc, time::Duration};

use rmcp::model::Tool;
use tandem_net::Backoff;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use super::{
    McpSettings, McpTransport,
    fault::Fault,
    offer::{self, Offer},
    session::{Handshake, Line, Session},
};

/// For the handshake; a program that is downloaded at its first start has time for that.
const OPEN_TIME: Duration = Duration::from_secs(60);
/// The wait after the first failure.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Between two tries that a waiting call asks for.
const HASTE: Duration = Duration::from_millis(250);
/// A session that was up for so long was a good one.
const GOOD: Duration = Duration::from_secs(10);
/// How often the tools are asked for although nobody said that they changed: it shows that the server is alive.
const LIST_EVERY: Duration = Duration::from_secs(60);
/// The second time: word of a change is lost while the way for it is being opened.
const LIST_AGAIN: Duration = Duration::from_secs(2);
/// After word of a change: more of it comes along.
const SETTLE: Duration = Duration::from_millis(200);

/// What a call may want of the keeper.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask {
    /// The session of this number did not do: look whether it is still one.
    Doubt(u64),
    /// A call waits for a session.
    Needed,
}

/// Whether there is a session.
#[derive(Clone)]
pub(super) enum Link {
    /// Not now; with the last failure.
    Away(Option<Arc<str>>),
    /// Calls go here.
    Up(Line),
}

/// What one server's session is kept with.
pub(super) struct Keeper {
    settings: Arc<McpSettings>,
    http: Option<reqwest::Client>,
    link: watch::Sender<Link>,
    offers: watch::Sender<Arc<[Arc<Offer>]>>,
    asks: mpsc::Receiver<Ask>,
    listed: Option<Vec<Tool>>,
    /// The one that is tried next: what did last, and after a failure the other.
    handshake: Handshake,
}

/// Why a session is over.
enum End {
    /// Nobody holds the server any more.
    Unwanted,
    /// It broke.
    Broken(String),
}

impl Keeper {
    pub(super) fn new(
        settings: Arc<McpSettings>,
        http: Option<reqwest::Client>,
        link: watch::Sender<Link>,
        offers: watch::Sender<Arc<[Arc<Offer>]>>,
        asks: mpsc::Receiver<Ask>,
    ) -> Self {
        let handshake = match settings.transport {
            McpTransport::Http { .. } => Handshake::Newest,
            // The SDK gives up on the newest after 10 s, and a program may take longer to start.
            McpTransport::Command { .. } => Handshake::Initialize,
        };
        Self { settings, http, link, offers, asks, listed: None, handshake }
    }

    /// Keeps the session until nobody holds the server any more.
    pub(super) async fn run(mut self) {
        let seed = self.settings.name.bytes().fold(0, |seed, byte| seed * 31 + u64::from(byte));
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT, seed);
        let mut number = 0;
        let mut both = false;
        loop {
            number += 1;
            let began = Instant::now();
            let why = match self.open(number).await {
                None => return,
                Some(Err(fault)) => {
                    self.handshake = self.handshake.other();
                    if matches!(fault, Fault::Refused(_)) && !both {
                        both = true;
                        continue; // It may understand the other one.
                    }
                    fault.text()
                }
                Some(Ok(mut session)) => {
                    self.link.send_replace(Link::Up(session.line().clone()));
                    let end = self.serve(&mut session).await;
                    let why = match &end {
                        End::Unwanted => None,
                        End::Broken(why) => Some(Arc::from(why.as_str())),
                    };
                    self.link.send_replace(Link::Away(why));
                    session.end().await;
                    match end {
                        End::Unwanted => {
                            return debug!(mcp = self.settings.name, "the MCP session is ended");
                        }
                        End::Broken(why) => {
                            if began.elapsed() >= GOOD {
                                backoff.succeeded();
                            }
                            why
                        }
                    }
                }
            };
            both = false;
            let wait = backoff.failed();
            warn!(mcp = self.settings.name, error = why, next_try = ?wait, "no MCP session");
            self.link.send_replace(Link::Away(Some(why.into())));
            if !self.wait(wait).await {
                return;
            }
        }
    }

    /// Opens a session and reads its tools. `None`: nobody wants it any more.
    async fn open(&mut self, number: u64) -> Option<Result<Session, Fault>> {
        let Self { settings, http, asks, handshake, .. } = self;
        let opening = timeout(
            OPEN_TIME,
            Session::open(&settings.name, &settings.transport, http.as_ref(), number, *handshake),
        );
        let session = tokio::select! {
            () = unwanted(asks) => return None,
            opened = opening => match opened {
                Ok(Ok(session)) => session,
                Ok(Err(fault)) => return Some(Err(fault)),
                Err(_) => return Some(Err(Fault::Lost("no handshake within 60 s".to_owned()))),
            },
        };
        let listed = tokio::select! {
            () = unwanted(asks) => None,
            listed = session.list() => Some(listed),
        };
        match listed {
            Some(Ok(tools)) => {
                self.publish(tools);
                Some(Ok(session))
            }
            Some(Err(fault)) => {
                session.end().await;
                Some(Err(fault))
            }
            None => {
                session.end().await;
                None
            }
        }
    }

    /// Looks after a session until its end.
    async fn serve(&mut self, session: &mut Session) -> End {
        let changed = session.changed();
        let mut next_list = Instant::now() + LIST_AGAIN;
        loop {
            tokio::select! {
                ask = self.asks.recv() => match ask {
                    None => return End::Unwanted,
                    Some(Ask::Doubt(number)) if number == session.line().number => {}
                    Some(_) => continue,
                },
                end = session.ended() => return End::Broken(end),
                () = changed.notified() => sleep(SETTLE).await,
                () = sleep_until(next_list) => {}
            }
            let listed = tokio::select! {
                () = unwanted(&mut self.asks) => return End::Unwanted,
                listed = session.list() => listed,
            };
            match listed {
                Ok(tools) => self.publish(tools),
                Err(fault) if fault.doubtful() => return End::Broken(fault.text()),
                Err(fault) => {
                    warn!(
                        mcp = self.settings.name,
                        error = fault.text(),
                        "the tools could not be read again"
                    );
                }
            }
            next_list = Instant::now() + LIST_EVERY;
        }
    }

    /// Makes what was listed the server's tools.
    fn publish(&mut self, tools: Vec<Tool>) {
        if self.listed.as_ref() == Some(&tools) {
            return;
        }
        let (offers, left_out) = offer::offers(&self.settings, &tools);
        for reason in left_out {
            warn!(mcp = self.settings.name, "a tool is not offered: {reason}");
        }
        info!(mcp = self.settings.name, tools = offers.len(), "tools of an MCP server");
        self.offers.send_replace(offers);
        self.listed = Some(tools);
    }

    /// Waits for the next try, less where a call asks for it. False: nobody wants it any more.
    async fn wait(&mut self, wait: Duration) -> bool {
        let now = Instant::now();
        let mut until = now + wait;
        loop {
            tokio::select! {
                () = sleep_until(until) => return true,
                ask = self.asks.recv() => match ask {
                    None => return false,
                    Some(Ask::Needed) => until = until.min(now + HASTE),
                    Some(Ask::Doubt(_)) => {}
                },
            }
        }
    }
}

/// Waits until nobody holds the server any more; what is asked meanwhile is under way already.
async fn unwanted(asks: &mut mpsc::Receiver<Ask>) {
    while asks.recv().await.is_some() {}
}
