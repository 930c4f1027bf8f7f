//! The sockets of the switch: clients that come in, clients that are called, and the beat.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};

use super::{fake::Shared, fork_socket, model::Dial};

/// How long a client of the outbound event socket may take to be reached.
const CONNECT: Duration = Duration::from_secs(5);

/// Most clients at once.
const MOST_CLIENTS: usize = 1_000;

/// How long a closed connection waits for the client's side.
const CLOSING: Duration = Duration::from_secs(1);

/// Does what is due, for ever, and opens the sockets the switch wants.
pub(crate) async fn drive(shared: Arc<Shared>) {
    const FAR: Duration = Duration::from_secs(3_600);
    let mut tasks = JoinSet::new();
    loop {
        let (due, dials) = shared.with(|model, now| {
            model.handle_timeout(now);
            (model.poll_timeout(), std::mem::take(&mut model.dials))
        });
        for dial in dials {
            match dial {
                Dial::Fork(id) => tasks.spawn(fork_socket::serve(Arc::clone(&shared), id)),
                Dial::Socket { session, address } => {
                    tasks.spawn(serve_outbound(Arc::clone(&shared), session, address))
                }
            };
        }
        let due = due.map_or_else(|| tokio::time::Instant::now() + FAR, Into::into);
        tokio::select! {
            () = sleep_until(due) => {}
            () = shared.wake.notified() => {}
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
        }
    }
}

/// Takes clients in, until it is aborted, and they with it.
pub(crate) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let mut clients = JoinSet::new();
    loop {
        while clients.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) if clients.len() < MOST_CLIENTS => {
                clients.spawn(serve_inbound(Arc::clone(&shared), stream));
            }
            Ok(_) => tracing::warn!("fake switch: too many clients"),
            Err(error) => {
                tracing::warn!(%error, "fake switch: accept failed");
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn serve_inbound(shared: Arc<Shared>, mut stream: TcpStream) {
    match shared.with(|model, _| model.accept_session()) {
        Ok(id) => pump(shared, id, stream).await,
        Err(refusal) => {
            let _told = stream.write_all(refusal.as_bytes()).await;
            let _closed = stream.shutdown().await;
        }
    }
}

async fn serve_outbound(shared: Arc<Shared>, id: u64, address: String) {
    match timeout(CONNECT, TcpStream::connect(&address)).await {
        Ok(Ok(stream)) => {
            shared.with(|model, now| model.handle_socket_connected(now, id));
            pump(shared, id, stream).await;
        }
        // Nobody there: the dialplan goes on.
        _ => shared.with(|model, now| model.handle_session_closed(now, id)),
    }
}

/// Carries bytes between a connection and its session until either is over.
async fn pump(shared: Arc<Shared>, id: u64, mut stream: TcpStream) {
    let _kept = stream.set_nodelay(true);
    let wake =
        shared.with(|model, _| model.sessions.get(&id).map(|session| Arc::clone(&session.wake)));
    let Some(wake) = wake else { return };
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    loop {
        let closing = shared.with(|model, _| {
            let frozen = model.faults.frozen;
            let session = model.sessions.get_mut(&id).filter(|session| !session.dropped)?;
            if !frozen {
                out.extend_from_slice(&session.take_output());
            }
            Some(session.closing && !frozen)
        });
        let Some(closing) = closing else { break };
        if closing && out.is_empty() {
            let _closed = stream.shutdown().await;
            let until_closed = async {
                while stream.read_buf(&mut input).await.is_ok_and(|read| read > 0) {
                    input.clear();
                }
            };
            let _answered = timeout(CLOSING, until_closed).await;
            break;
        }
        let (mut read_half, mut write_half) = stream.split();
        tokio::select! {
            read = read_half.read_buf(&mut input), if !closing => {
                if !read.is_ok_and(|read| read > 0) {
                    break;
                }
                shared.with(|model, now| model.handle_bytes(now, id, &input));
                input.clear();
            }
            written = write_half.write_buf(&mut out), if !out.is_empty() => {
                if written.is_err() {
                    break;
                }
            }
            () = wake.notified() => {}
        }
    }
    shared.with(|model, now| model.handle_session_closed(now, id));
}
