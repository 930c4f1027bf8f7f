//! The shell over loopback: what is about sockets and tasks; all else is tested on the machine.

use tandem_call::HangupCause;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{ChannelEventKind, ChannelNotice};

const A: &str = "971a0687-092d-4726-849f-b20b7177229c";

fn uuid() -> ChannelUuid {
    ChannelUuid::new(A).unwrap()
}

/// The switch's end of one connection.
pub(crate) struct Peer {
    pub(crate) socket: TcpStream,
    read: String,
}

impl Peer {
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self { socket, read: String::new() }
    }

    /// The next command.
    pub(crate) async fn command(&mut self) -> String {
        loop {
            if let Some((command, rest)) = self.read.split_once("\n\n") {
                let (command, rest) = (command.to_owned(), rest.to_owned());
                self.read = rest;
                return command;
            }
            let mut buffer = [0; 4096];
            let count = self.socket.read(&mut buffer).await.unwrap();
            assert!(count > 0, "closed by us");
            self.read.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).await.unwrap();
    }

    pub(crate) async fn reply(&mut self, text: &str) {
        self.say(&format!("Content-Type: command/reply\nReply-Text: {text}\n\n")).await;
    }

    pub(crate) async fn result(&mut self, text: &str) {
        self.say(&format!("Content-Type: api/response\nContent-Length: {}\n\n{text}", text.len()))
            .await;
    }

    pub(crate) async fn event(&mut self, name: &str, uuid: &str) {
        let json = format!("{{\"Event-Name\":\"{name}\",\"Unique-ID\":\"{uuid}\"}}");
        self.say(&format!(
            "Content-Length: {}\nContent-Type: text/event-json\n\n{json}",
            json.len()
        ))
        .await;
    }

    /// Greets and answers what is asked first.
    pub(crate) async fn come_up(&mut self, alive: &str) {
        self.say("Content-Type: auth/request\n\n").await;
        assert_eq!(self.command().await, "auth ClueCon");
        self.reply("+OK accepted").await;
        for _ in 0..3 {
            self.command().await;
            self.result("true").await;
        }
        assert!(self.command().await.starts_with("event json"));
        self.reply("+OK event listener enabled json").await;
        assert_eq!(self.command().await, "api show channels as json");
        self.result(&format!("{{\"row_count\":1,\"rows\":[{{\"uuid\":\"{alive}\"}}]}}")).await;
    }

    /// Answers whether a watched channel is there.
    async fn exists(&mut self, uuid: &str, exists: bool) {
        assert_eq!(self.command().await, format!("api uuid_exists {uuid}"));
        self.result(if exists { "true" } else { "false" }).await;
    }
}

pub(crate) async fn start() -> (TcpListener, Switch) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let switch = Switch::start(SwitchSettings::new("pbx", address, "ClueCon".into())).unwrap();
    (listener, switch)
}

#[tokio::test]
async fn commands_events_and_an_outage_over_a_real_socket() {
    let (listener, switch) = start().await;
    let mut own = switch.watch(uuid()).unwrap();
    let mut peer = Peer::new(listener.accept().await.unwrap().0);
    assert!(matches!(own.recv().await, Some(ChannelNotice::Down { .. })));
    peer.come_up(A).await;
    peer.exists(A, true).await;
    switch.up().await.unwrap();
    assert_eq!(own.recv().await, Some(ChannelNotice::Alive));

    let answer = switch.submit(SwitchCommand::Answer { uuid: uuid() });
    assert_eq!(peer.command().await, format!("api uuid_answer {A}"));
    peer.result("+OK\n").await;
    assert_eq!(answer.await.unwrap().text(), "+OK\n");
    peer.event("CHANNEL_ANSWER", A).await;
    let Some(ChannelNotice::Event(event)) = own.recv().await else { panic!() };
    assert_eq!(event.kind, ChannelEventKind::Answered);

    // The connection is lost with a command on its way, another is ordered meanwhile, and one is kept.
    let doubtful = switch.submit(SwitchCommand::Park { uuid: uuid() });
    peer.command().await;
    drop(peer);
    assert_eq!(doubtful.await, Err(SwitchError::Unknown));
    assert!(matches!(own.recv().await, Some(ChannelNotice::Down { .. })));
    assert!(matches!(switch.state(), LinkState::Down { .. }));
    assert_eq!(switch.execute(SwitchCommand::Park { uuid: uuid() }).await, Err(SwitchError::Down));
    let kept =
        switch.submit(SwitchCommand::HangUp { uuid: uuid(), cause: HangupCause::UserBusy.into() });
    let mut peer = Peer::new(listener.accept().await.unwrap().0);
    peer.come_up("11111111-0000-4000-8000-000000000001").await;
    peer.exists(A, false).await;
    assert_eq!(own.recv().await, Some(ChannelNotice::Gone));
    assert_eq!(peer.command().await, format!("api uuid_kill {A} USER_BUSY"));
    peer.result("-ERR No such channel!\n").await;
    assert!(kept.await.unwrap_err().is_no_such_channel());

    switch.stop();
    assert_eq!(own.recv().await, None);
    assert_eq!(switch.state(), LinkState::Stopped);
    assert_eq!(switch.execute(SwitchCommand::Version).await, Err(SwitchError::Stopped));
    assert_eq!(switch.up().await, Err(SwitchError::Stopped));
}

#[tokio::test]
async fn the_link_ends_with_its_last_handle() {
    let (listener, switch) = start().await;
    let mut peer = Peer::new(listener.accept().await.unwrap().0);
    peer.come_up(A).await;
    switch.up().await.unwrap();
    let other = switch.clone();
    drop(switch);
    let version = other.submit(SwitchCommand::Version);
    assert_eq!(peer.command().await, "api version");
    peer.result("1.10").await;
    assert_eq!(version.await.unwrap().text(), "1.10");
    drop(other);
    assert_eq!(peer.socket.read(&mut [0; 16]).await.unwrap(), 0);
}

#[tokio::test]
async fn settings_that_can_not_be_used_are_refused() {
    let settings = SwitchSettings::new("pbx", "127.0.0.1", "a\nb".into());
    assert_eq!(Switch::start(settings).unwrap_err(), SettingsError::Password);
}
