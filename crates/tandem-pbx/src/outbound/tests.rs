use tandem_call::HangupCause;
use tokio::io::AsyncReadExt;

use super::*;
use crate::{
    ChannelEventKind, ChannelNotice,
    captures::{self, Block},
    switch::tests::Peer,
};

const CHANNEL: &str = "30813fbe-82bb-4adf-afd7-c2fab4e6c17d";

/// What a real switch says of its channel.
fn channel_data() -> String {
    let blocks = captures::named("esl/outbound_socket_async_full").blocks;
    let data = blocks.into_iter().find_map(|block| match block {
        Block::Received(bytes) => Some(bytes),
        _ => None,
    });
    String::from_utf8(data.unwrap()).unwrap()
}

async fn listen(settings: OutboundSettings) -> (OutboundListener, SocketAddr) {
    let listener =
        OutboundListener::bind(&["127.0.0.1:0".parse().unwrap()], settings).await.unwrap();
    let address = listener.addresses()[0];
    (listener, address)
}

/// Connects as a switch does, up to where the channel is handed over.
async fn connect(address: SocketAddr) -> Peer {
    let mut peer = Peer::new(TcpStream::connect(address).await.unwrap());
    assert_eq!(peer.command().await, "connect");
    peer.say(&channel_data()).await;
    assert_eq!(peer.command().await, "linger 10");
    peer.reply("+OK will linger 10 seconds").await;
    assert_eq!(peer.command().await, format!("filter Unique-ID {CHANNEL}"));
    peer.reply("+OK filter added.").await;
    assert_eq!(peer.command().await, format!("filter Job-Owner-UUID {CHANNEL}"));
    peer.reply("+OK filter added.").await;
    assert!(peer.command().await.starts_with("event json "));
    // An event that comes with the last reply is not lost.
    peer.reply("+OK event listener enabled json").await;
    peer.event("CHANNEL_PROGRESS", CHANNEL).await;
    peer
}

#[tokio::test]
async fn a_channel_is_handed_over_ordered_and_given_back() {
    let (mut listener, address) = listen(OutboundSettings::default()).await;
    let mut peer = connect(address).await;
    let mut channel = listener.accept().await.unwrap();
    assert_eq!(channel.uuid().as_str(), CHANNEL);
    assert_eq!(
        (channel.destination(), channel.caller(), channel.caller_name()),
        ("9030", "caller", "caller")
    );
    assert!(!channel.is_answered());
    assert!(matches!(channel.state(), LinkState::Up(_)));
    let mut events = channel.take_events().unwrap();
    assert!(channel.take_events().is_none());
    let Some(ChannelNotice::Event(event)) = events.recv().await else { panic!() };
    assert_eq!(event.kind, ChannelEventKind::Progress { early: false });

    let answer = channel.submit(SwitchCommand::Answer { uuid: channel.uuid().clone() });
    assert_eq!(peer.command().await, format!("api uuid_answer {CHANNEL}"));
    peer.result("+OK\n").await;
    answer.await.unwrap();

    let last = channel.submit(SwitchCommand::HangUp {
        uuid: channel.uuid().clone(),
        cause: HangupCause::UserBusy.into(),
    });
    channel.release();
    assert_eq!(peer.command().await, format!("api uuid_kill {CHANNEL} USER_BUSY"));
    assert_eq!(peer.command().await, "exit");
    peer.result("+OK\n").await;
    peer.reply("+OK bye").await;
    last.await.unwrap();
    assert_eq!(peer.socket.read(&mut [0; 16]).await.unwrap(), 0);
    assert!(matches!(events.recv().await, Some(ChannelNotice::Down { .. })));
    assert_eq!(events.recv().await, None);
    assert_eq!(listener.counts(), OutboundCounts { accepted: 1, ..OutboundCounts::default() });
}

#[tokio::test]
async fn a_channel_whose_connection_is_lost_stays_lost() {
    let (mut listener, address) = listen(OutboundSettings::default()).await;
    let peer = connect(address).await;
    let mut channel = listener.accept().await.unwrap();
    let mut events = channel.take_events().unwrap();
    drop(peer);
    while !matches!(events.recv().await, Some(ChannelNotice::Down { .. })) {}
    assert_eq!(events.recv().await, None);
    assert!(matches!(channel.state(), LinkState::Down { .. }));
    assert_eq!(channel.execute(SwitchCommand::Version).await, Err(SwitchError::Down));
}

#[tokio::test]
async fn a_dropped_channel_goes_back_to_the_dialplan() {
    let (mut listener, address) = listen(OutboundSettings::default()).await;
    let mut peer = connect(address).await;
    drop(listener.accept().await.unwrap());
    assert_eq!(peer.command().await, "exit");
}

#[tokio::test]
async fn there_is_room_for_so_many_and_for_switches_only() {
    let (listener, address) =
        listen(OutboundSettings { max_channels: 1, ..OutboundSettings::default() }).await;
    let mut first = Peer::new(TcpStream::connect(address).await.unwrap());
    assert_eq!(first.command().await, "connect");
    let mut second = TcpStream::connect(address).await.unwrap();
    assert_eq!(second.read(&mut [0; 16]).await.unwrap(), 0);
    assert_eq!(
        listener.counts(),
        OutboundCounts { accepted: 1, refused_full: 1, refused_source: 0 }
    );

    let (arrivals, _taken) = mpsc::channel(1);
    let sources = vec!["10.1.0.0/16".parse().unwrap()];
    let door =
        Door { sources, room: Arc::new(Semaphore::new(1)), counters: Arc::default(), arrivals };
    assert!(door.is_source("10.1.2.3".parse().unwrap()));
    assert!(!door.is_source("10.2.2.3".parse().unwrap()));
    let (socket, _) = tokio::join!(TcpStream::connect(address), async {});
    door.take(socket.unwrap(), "192.0.2.7:5000".parse().unwrap());
    assert_eq!(door.counters.refused_source.load(Ordering::Relaxed), 1);
}
