//! The websocket of a fork: dialled, and driven for the module behind it.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    time::timeout,
};

use super::{
    fake::Shared,
    fork_module::{Edition, SocketEnd},
    websocket::{self, Answered, ForkUrl, FromServer, ServerFrames},
};

/// Most redirections that are followed.
const MOST_REDIRECTIONS: usize = 4;

/// How long a closed websocket waits for the server's side.
const CLOSING: Duration = Duration::from_secs(2);

/// Why no websocket came about, with the number and words of the module's library.
struct Failure(u16, String);

/// Opens the websocket of fork `id` and serves it until it ends.
pub(crate) async fn serve(shared: Arc<Shared>, id: u64) {
    let Some(plan) = plan(&shared, id) else { return };
    let limit = plan.edition.handshake_limit();
    let opened = match timeout(limit, open(&plan)).await {
        Ok(opened) => opened,
        Err(_) if plan.edition.is_fork() => {
            Err(Failure(10, "Timed out waiting server reply".to_owned()))
        }
        Err(_) => Err(Failure(10, "Timeout".to_owned())),
    };
    match opened {
        Err(Failure(code, reason)) => {
            shared.with(|model, now| {
                if let Some(fork) = model.forks.get_mut(&id) {
                    fork.module.handle_connect_failed(code, &reason);
                    let uuid = fork.uuid.clone();
                    model.drain_forks(now, &uuid);
                }
            });
        }
        Ok((stream, frames)) => {
            let wanted = shared.with(|model, now| {
                let Some(fork) = model.forks.get_mut(&id) else { return false };
                fork.module.handle_connected(now);
                let (uuid, alive) = (fork.uuid.clone(), fork.module.is_alive());
                model.drain_forks(now, &uuid);
                alive
            });
            if wanted {
                let connection =
                    Connection { shared: Arc::clone(&shared), id, mask: plan.mask, frames };
                connection.run(stream, &plan.wake).await;
            } else {
                // Stopped before the 101: the real module leaves the connection open and silent.
                be_silent(stream).await;
            }
        }
    }
    shared.with(|model, _| {
        // A fork that is still on its channel stays until `stop`.
        let attached = model.forks.get(&id).is_some_and(|fork| {
            model.channels.get(&fork.uuid).is_some_and(|channel| channel.forks.contains(&id))
        });
        if attached {
            if let Some(fork) = model.forks.get_mut(&id) {
                fork.socket_gone = true;
            }
        } else {
            model.forks.remove(&id);
        }
    });
}

/// All that dialling needs to know.
struct Plan {
    edition: Edition,
    url: String,
    basic: Option<(String, String)>,
    headers: Vec<(String, String)>,
    key: String,
    mask: [u8; 4],
    wake: Arc<Notify>,
}

fn plan(shared: &Shared, id: u64) -> Option<Plan> {
    shared.with(|model, _| {
        let (key, mask) = (model.rng.u128(..).to_be_bytes(), model.rng.u32(..).to_be_bytes());
        let fork = model.forks.get(&id)?;
        Some(Plan {
            edition: fork.module.spec().edition,
            url: fork.url.clone(),
            basic: fork.basic.clone(),
            headers: fork.headers.clone(),
            key: base64_simd::STANDARD.encode_to_string(key),
            mask,
            wake: Arc::clone(&fork.wake),
        })
    })
}

async fn open(plan: &Plan) -> Result<(TcpStream, ServerFrames), Failure> {
    let mut target = plan.url.clone();
    for _ in 0..=MOST_REDIRECTIONS {
        let url = ForkUrl::parse(&target)
            .ok_or_else(|| Failure(6, "conn fail: no such URL".to_owned()))?;
        if url.tls {
            return Err(Failure(7, "TLS is not spoken here".to_owned()));
        }
        let stream = TcpStream::connect((url.host.as_str(), url.port)).await;
        let mut stream = stream.map_err(|error| connect_failure(plan.edition, &error))?;
        let _kept = stream.set_nodelay(true);
        let head = websocket::request_head(
            plan.edition,
            &url,
            &plan.key,
            plan.basic.as_ref(),
            &plan.headers,
        );
        let written = stream.write_all(head.as_bytes()).await;
        let read = match written {
            Ok(()) => read_head(&mut stream).await,
            Err(_) => None,
        };
        let Some((head, rest)) = read else {
            let words = if plan.edition.is_fork() {
                "read failed"
            } else {
                "Connection closed during handshake (EOF)"
            };
            return Err(Failure(6, words.to_owned()));
        };
        match websocket::judge(plan.edition, &plan.key, &head) {
            Answered::Accepted => {
                let mut frames = ServerFrames::default();
                frames.buffer.extend_from_slice(&rest);
                return Ok((stream, frames));
            }
            Answered::Redirected(location) => target = location,
            Answered::Refused(words) => return Err(Failure(6, words.to_owned())),
        }
    }
    Err(Failure(6, "HS: Redirect fail".to_owned()))
}

fn connect_failure(edition: Edition, error: &io::Error) -> Failure {
    let number = error.raw_os_error().unwrap_or(111);
    if edition.is_fork() {
        return Failure(6, format!("conn fail: {number}"));
    }
    let words = if number == 111 { "Connection refused" } else { "Connection failed" };
    Failure(6, format!("{words} (system error {number})"))
}

/// Reads the head of the response, and what came behind it; none when the server ended before.
async fn read_head(stream: &mut TcpStream) -> Option<(String, BytesMut)> {
    const MOST: usize = 64 << 10;
    let mut bytes = BytesMut::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = bytes.split_to(end + 4);
            return Some((String::from_utf8_lossy(&head).into_owned(), bytes));
        }
        if bytes.len() > MOST || stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

async fn be_silent(mut stream: TcpStream) {
    let mut ignored = [0; 4_096];
    while stream.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
}

struct Connection {
    shared: Arc<Shared>,
    id: u64,
    mask: [u8; 4],
    frames: ServerFrames,
}

impl Connection {
    async fn run(mut self, stream: TcpStream, wake: &Notify) {
        let (mut read_half, mut write_half) = stream.into_split();
        let mut out = BytesMut::new();
        let mut closing = false;
        loop {
            match self.take_frames(&mut out) {
                Ok(None) => {}
                Ok(Some(end)) => {
                    // The answer to the server's close frame.
                    let _sent = write_half.write_all_buf(&mut out).await;
                    self.end(&end);
                    return;
                }
                Err(error) => {
                    self.end(&SocketEnd::Broken(error.to_string()));
                    return;
                }
            }
            // The next messages are made when those before are with the kernel: what waits is one message then.
            if out.is_empty() && !closing {
                closing = self.make_messages(&mut out);
            }
            if closing && out.is_empty() {
                let mut rest = [0; 4_096];
                let until_closed =
                    async { while read_half.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
                let _answered = timeout(CLOSING, until_closed).await;
                return;
            }
            tokio::select! {
                read = read_half.read_buf(&mut self.frames.buffer), if !closing => match read {
                    Ok(0) => {
                        self.end(&SocketEnd::Broken("Connection closed (EOF)".to_owned()));
                        return;
                    }
                    Ok(_) => {}
                    Err(error) => {
                        let number = error.raw_os_error().unwrap_or(104);
                        self.end(&SocketEnd::Broken(format!("Connection reset by peer (system error {number})")));
                        return;
                    }
                },
                written = write_half.write_buf(&mut out), if !out.is_empty() => {
                    if let Err(error) = written {
                        let number = error.raw_os_error().unwrap_or(32);
                        self.end(&SocketEnd::Broken(format!("Connection reset by peer (system error {number})")));
                        return;
                    }
                }
                () = wake.notified(), if out.is_empty() => {}
            }
        }
    }

    /// Hands the server's messages to the module; the end, if the server closed.
    fn take_frames(
        &mut self,
        out: &mut BytesMut,
    ) -> Result<Option<SocketEnd>, websocket::BadFrame> {
        while let Some(message) = self.frames.next_message()? {
            match message {
                FromServer::Ping(payload) => websocket::put_pong(&payload, self.mask, out),
                FromServer::Pong => {}
                FromServer::Close(code, reason) => {
                    websocket::put_close(code, &reason, self.mask, out);
                    return Ok(Some(SocketEnd::Closed { code, reason }));
                }
                message => self.shared.with(|model, now| {
                    let Some(fork) = model.forks.get_mut(&self.id) else { return };
                    match &message {
                        FromServer::Text(text) => fork.module.handle_text(text),
                        FromServer::Binary(bytes) => fork.module.handle_binary(bytes),
                        _ => {}
                    }
                    let uuid = fork.uuid.clone();
                    model.drain_forks(now, &uuid);
                }),
            }
        }
        Ok(None)
    }

    /// Appends what the module has to say; true when that ends with its close frame, or the module is gone.
    fn make_messages(&mut self, out: &mut BytesMut) -> bool {
        self.shared.with(|model, _| {
            let Some(fork) = model.forks.get_mut(&self.id) else { return true };
            while let Some(message) = fork.module.poll_message() {
                websocket::put_message(&message, self.mask, out);
                if matches!(message, super::fork_module::ForkMessage::Close { .. }) {
                    return true;
                }
            }
            false
        })
    }

    fn end(&self, end: &SocketEnd) {
        self.shared.with(|model, now| {
            if let Some(fork) = model.forks.get_mut(&self.id) {
                fork.module.handle_ended(end);
                let uuid = fork.uuid.clone();
                model.drain_forks(now, &uuid);
            }
        });
    }
}
