//! The task that owns one link: reads, writes and dials for it, answers who gave commands and tells who watches.

use std::{
    collections::HashMap,
    future::{Future, pending},
    io,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::Interest,
    net::TcpStream,
    sync::{Notify, mpsc, oneshot, watch},
};
use tracing::{debug, warn};

use crate::{
    ChannelUuid, EventHeaders, LinkState, OutboundChannel, Reply, Switch, SwitchCommand,
    SwitchError,
    link::{Link, LinkAction, LinkEvent, Ticket},
    watch::{ChannelNotice, ChannelWatch, Watcher},
};

/// What the handles ask of the task.
#[derive(Debug)]
pub(crate) enum Request {
    Command { command: SwitchCommand, answer: oneshot::Sender<Result<Reply, SwitchError>> },
    Watch { uuid: ChannelUuid, watcher: Watcher },
    Release,
}

/// Most requests between handles and task.
pub(crate) const MAX_REQUESTS: usize = 1024;
/// How often watches that were dropped are looked for.
const SWEEP: Duration = Duration::from_secs(10);

type Dialling = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// See the module.
pub(crate) struct Driver {
    name: String,
    address: String,
    link: Link,
    requests: mpsc::Receiver<Request>,
    /// Some handle is left that may ask for something.
    is_held: bool,
    stop: Arc<Notify>,
    state: watch::Sender<LinkState>,
    socket: Option<TcpStream>,
    dialling: Option<Dialling>,
    answers: HashMap<Ticket, oneshot::Sender<Result<Reply, SwitchError>>>,
    next_ticket: Ticket,
    watchers: HashMap<ChannelUuid, Vec<Watcher>>,
    swept: Instant,
    was_up: bool,
    arrival: Option<Arrival>,
}

/// Where the channel of an outbound socket is handed over when it is ready.
pub(crate) struct Arrival {
    pub(crate) switch: Switch,
    pub(crate) place: mpsc::OwnedPermit<OutboundChannel>,
    pub(crate) channel: Option<(Arc<EventHeaders>, ChannelWatch)>,
}

/// The task's ends of what its handles hold.
pub(crate) struct Ends {
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) stop: Arc<Notify>,
    pub(crate) state: watch::Sender<LinkState>,
}

enum Happened {
    Request(Option<Request>),
    Dialled(io::Result<TcpStream>),
    Ready(io::Result<tokio::io::Ready>),
    Stop,
    Time,
}

impl Driver {
    pub(crate) fn new(name: String, address: String, link: Link, ends: Ends) -> Self {
        let Ends { requests, stop, state } = ends;
        Self {
            name,
            address,
            link,
            requests,
            is_held: true,
            stop,
            state,
            socket: None,
            dialling: None,
            answers: HashMap::new(),
            next_ticket: 0,
            watchers: HashMap::new(),
            swept: Instant::now(),
            was_up: false,
            arrival: None,
        }
    }

    /// Begins with a connection that is there already, of which the channel is handed over when it is ready.
    pub(crate) fn on_socket(mut self, socket: TcpStream, arrival: Arrival) -> Self {
        self.socket = Some(socket);
        self.arrival = Some(arrival);
        self
    }

    /// Works until the link is over.
    pub(crate) async fn run(mut self) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            self.obey();
            if self.link.is_ended() {
                return;
            }
            match self.next().await {
                Happened::Request(request) => self.handle_request(request),
                Happened::Dialled(Ok(socket)) => {
                    self.dialling = None;
                    if let Err(error) = socket.set_nodelay(true) {
                        debug!(switch = self.name, %error, "TCP_NODELAY");
                    }
                    self.socket = Some(socket);
                    self.link.handle_connected(Instant::now());
                }
                Happened::Dialled(Err(error)) => {
                    self.dialling = None;
                    self.link.handle_closed(Instant::now(), &error.to_string());
                }
                Happened::Ready(ready) => self.handle_ready(ready, &mut buffer),
                Happened::Stop => self.link.stop(),
                Happened::Time => {}
            }
            let now = Instant::now();
            if self.link.poll_timeout().is_some_and(|due| due <= now) {
                self.link.handle_timeout(now);
            }
            if self.swept + SWEEP <= now {
                self.sweep(now);
            }
        }
    }

    async fn next(&mut self) -> Happened {
        let due = self.link.poll_timeout().unwrap_or(self.swept + SWEEP).min(self.swept + SWEEP);
        let interest = if self.link.output().is_empty() {
            Interest::READABLE
        } else {
            Interest::READABLE | Interest::WRITABLE
        };
        let socket = self.socket.as_ref();
        let dialling = self.dialling.as_mut();
        tokio::select! {
            ready = async { match socket {
                Some(socket) => socket.ready(interest).await,
                None => pending().await,
            } } => Happened::Ready(ready),
            dialled = async { match dialling {
                Some(dialling) => dialling.await,
                None => pending().await,
            } } => Happened::Dialled(dialled),
            request = self.requests.recv(), if self.is_held => Happened::Request(request),
            () = self.stop.notified() => Happened::Stop,
            () = tokio::time::sleep_until(due.into()) => Happened::Time,
        }
    }

    fn handle_ready(&mut self, ready: io::Result<tokio::io::Ready>, buffer: &mut [u8]) {
        let now = Instant::now();
        let Some(socket) = &self.socket else { return };
        let done = ready.and_then(|ready| {
            if ready.is_writable() && !self.link.output().is_empty() {
                match socket.try_write(self.link.output()) {
                    Ok(count) => self.link.sent(now, count),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            if ready.is_readable() {
                match socket.try_read(buffer) {
                    Ok(0) => {
                        return Err(io::Error::new(
                            io::ErrorKind::UnexpectedEof,
                            "the switch closed the connection",
                        ));
                    }
                    Ok(count) => self.link.handle_bytes(now, &buffer[..count]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        });
        if let Err(error) = done {
            self.socket = None;
            self.link.handle_closed(now, &error.to_string());
        }
    }

    fn handle_request(&mut self, request: Option<Request>) {
        let now = Instant::now();
        match request {
            Some(Request::Command { command, answer }) => {
                debug!(switch = self.name, command = command.name(), "ordered");
                self.next_ticket += 1;
                self.answers.insert(self.next_ticket, answer);
                self.link.submit(now, self.next_ticket, &command);
            }
            Some(Request::Watch { uuid, watcher }) => self.watch(now, uuid, watcher),
            Some(Request::Release) => self.link.release(now),
            // Nobody is left to give commands.
            None => {
                self.is_held = false;
                self.link.release(now);
            }
        }
    }

    fn watch(&mut self, now: Instant, uuid: ChannelUuid, watcher: Watcher) {
        if !self.link.is_up()
            && let LinkState::Down { reason } = &*self.state.borrow()
        {
            watcher.tell(ChannelNotice::Down { reason: reason.clone() });
        }
        self.watchers.entry(uuid.clone()).or_default().push(watcher);
        self.link.watch(now, uuid);
    }

    /// Does what the link wants done.
    fn obey(&mut self) {
        loop {
            if let Some(action) = self.link.poll_action() {
                self.act(action);
            } else if let Some(event) = self.link.poll_event() {
                self.report(event);
            } else {
                return;
            }
        }
    }

    fn act(&mut self, action: LinkAction) {
        match action {
            LinkAction::Close => {
                self.socket = None;
                self.dialling = None;
            }
            LinkAction::Dial => {
                let address = self.address.clone();
                self.dialling = Some(Box::pin(async move { TcpStream::connect(address).await }));
            }
        }
    }

    fn report(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Reply { ticket, result } => {
                if let Some(answer) = self.answers.remove(&ticket) {
                    // Who asked may have gone; the command was carried out all the same.
                    let _ = answer.send(result);
                }
            }
            LinkEvent::Channel(event) => {
                if let Some(watchers) = self.watchers.get(&event.uuid) {
                    for watcher in watchers {
                        watcher.tell(ChannelNotice::Event(event.clone()));
                    }
                }
            }
            LinkEvent::Reconciled { alive } => {
                for (uuid, watchers) in &self.watchers {
                    for watcher in watchers {
                        watcher.tell(if alive.contains(uuid) {
                            ChannelNotice::Alive
                        } else {
                            ChannelNotice::Gone
                        });
                    }
                }
            }
            LinkEvent::Accepted(headers) => self.accept(headers),
            LinkEvent::State(state) => self.change(state),
        }
    }

    fn change(&mut self, state: LinkState) {
        match &state {
            LinkState::Up(facts) => {
                debug!(switch = self.name, version = facts.version, "the event socket is up");
                self.hand_over();
            }
            LinkState::Down { reason } => {
                debug!(switch = self.name, %reason, "the event socket is down");
                if std::mem::take(&mut self.was_up) {
                    // A channel's own connection goes with its channel, and its call says how.
                    let channels = self.watchers.len();
                    if channels > 0 && !self.link.is_ended() {
                        warn!(switch = self.name, %reason, channels, "the event socket is down; their audio goes on");
                    }
                    for watcher in self.watchers.values().flatten() {
                        watcher.tell(ChannelNotice::Down { reason: reason.clone() });
                    }
                }
            }
            LinkState::Stopped => debug!(switch = self.name, "the event socket is stopped"),
        }
        self.was_up = matches!(state, LinkState::Up(_));
        self.state.send_replace(state);
    }

    /// The channel of an outbound socket is known: it is watched from here on, so that no event is missed.
    fn accept(&mut self, headers: Arc<EventHeaders>) {
        let uuid = headers.get("Unique-ID").or(headers.get("Channel-Unique-ID"));
        let uuid = uuid.and_then(|uuid| ChannelUuid::new(uuid).ok());
        if let (Some(uuid), Some(arrival)) = (uuid, &mut self.arrival) {
            let (watcher, watch) = ChannelWatch::new(uuid.clone());
            self.watchers.entry(uuid).or_default().push(watcher);
            arrival.channel = Some((headers, watch));
        }
    }

    fn hand_over(&mut self) {
        if let Some(Arrival { switch, place, channel: Some((headers, events)) }) =
            self.arrival.take()
        {
            place.send(OutboundChannel::new(headers, events, switch));
        }
    }

    fn sweep(&mut self, now: Instant) {
        self.swept = now;
        let link = &mut self.link;
        self.watchers.retain(|uuid, watchers| {
            watchers.retain(|watcher| !watcher.is_dropped());
            if watchers.is_empty() {
                link.unwatch(now, uuid);
            }
            !watchers.is_empty()
        });
    }
}
