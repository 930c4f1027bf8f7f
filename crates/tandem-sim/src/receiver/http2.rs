//! The receiver over HTTP/2.

use std::{future::poll_fn, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Response, request::Parts};

use super::{
    MAX_REQUEST, Request, Stream,
    log::Log,
    plan::{Step, asked, pace, plan},
};

/// A reset overtakes what was not sent yet; after this long it was.
const SENT: Duration = Duration::from_millis(100);

/// Answers the requests of one connection, many at a time, until it is closed.
pub(super) async fn serve(
    stream: impl Stream,
    connection: u64,
    log: Arc<Log>,
) -> Result<(), h2::Error> {
    let mut requests = h2::server::handshake(stream).await?;
    while let Some(accepted) = requests.accept().await {
        let (request, respond) = accepted?;
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            let (parts, body) = request.into_parts();
            answer(parts, body, respond, connection, &log).await.ok();
        });
    }
    Ok(())
}

async fn answer(
    parts: Parts,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
    connection: u64,
    log: &Log,
) -> Result<(), h2::Error> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut request = Request {
        protocol: "HTTP/2",
        method: parts.method.to_string(),
        headers: parts
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        ..Request::default()
    };
    request.set_target(parts.uri.path_and_query().map_or("/", |target| target.as_str()));
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
        if request.body.len() + part.len() > MAX_REQUEST {
            respond.send_reset(Reason::REFUSED_STREAM);
            return Ok(());
        }
        request.body.extend_from_slice(&part);
    }
    let (path, query) = asked(&request);
    let nth = log.request(&request, &path, connection);
    let mut sending: Option<SendStream<Bytes>> = None;
    for step in plan(&request, &path, &query, nth) {
        if !carry_out(&mut respond, &mut sending, step).await? {
            return Ok(());
        }
    }
    if let Some(mut sending) = sending {
        sending.send_data(Bytes::new(), true)?;
    }
    Ok(())
}

/// Whether the stream goes on.
async fn carry_out(
    respond: &mut SendResponse<Bytes>,
    sending: &mut Option<SendStream<Bytes>>,
    step: Step,
) -> Result<bool, h2::Error> {
    let mut head = |status: u16, kind: &str, location: Option<&str>| {
        let mut response = Response::builder().status(status).header("content-type", kind);
        if let Some(location) = location {
            response = response.header("location", location);
        }
        let response = response.body(()).expect("these headers are valid");
        respond.send_response(response, false)
    };
    match (step, &mut *sending) {
        (Step::Wait(time), _) => sleep(time).await,
        (Step::Head { status, kind, location, .. }, _) => {
            *sending = Some(head(status, &kind, location)?);
        }
        (Step::DripHead { over, .. }, _) => {
            sleep(over).await;
            *sending = Some(head(200, "application/json", None)?);
        }
        (Step::Body(body), Some(stream)) => send(stream, body.into()).await?,
        (Step::Drip { body, over }, Some(stream)) => {
            let (at_once, pause) = pace(body.len(), over);
            for part in body.chunks(at_once) {
                send(stream, part.to_vec().into()).await?;
                sleep(pause).await;
            }
        }
        (Step::Endless, Some(stream)) => loop {
            send(stream, Bytes::from_static(&[b' '; 4_096])).await?;
        },
        (Step::Hang, _) => {
            poll_fn(|cx| respond.poll_reset(cx)).await?; // Until the caller gives up.
            return Ok(false);
        }
        (Step::Close | Step::Raw(_), Some(stream)) => {
            sleep(SENT).await;
            stream.send_reset(Reason::INTERNAL_ERROR);
            return Ok(false);
        }
        (Step::Close | Step::Raw(_), None) => {
            respond.send_reset(Reason::INTERNAL_ERROR);
            return Ok(false);
        }
        (Step::Body(_) | Step::Drip { .. } | Step::Endless, None) => {
            unreachable!("a head comes before its body")
        }
    }
    Ok(true)
}

/// Sends `body` as the receiver takes it.
async fn send(stream: &mut SendStream<Bytes>, mut body: Bytes) -> Result<(), h2::Error> {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let room = match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(room) => room?,
            None => return Err(Reason::CANCEL.into()),
        };
        let part = body.split_to(room.min(body.len()));
        stream.send_data(part, false)?;
    }
    Ok(())
}
