//! The receiver over HTTP/1.1.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::sleep,
};

use super::{
    MAX_REQUEST, Request, Stream,
    log::Log,
    plan::{Step, asked, pace, plan},
};

/// Answers the requests of one connection until it is closed.
pub(super) async fn serve(mut stream: impl Stream, connection: u64, log: &Log) -> io::Result<()> {
    let mut read = Vec::new();
    while let Some(request) = next_request(&mut stream, &mut read).await? {
        let (path, query) = asked(&request);
        let nth = log.request(&request, &path, connection);
        for step in plan(&request, &path, &query, nth) {
            if !carry_out(&mut stream, step).await? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The next request; none at the end of the connection. What came behind it stays in `read`.
async fn next_request(stream: &mut impl Stream, read: &mut Vec<u8>) -> io::Result<Option<Request>> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut part = [0; 16 * 1024];
    loop {
        if let Some((mut request, head)) =
            parse_head(read).map_err(|error| invalid(&error.to_string()))?
        {
            let length = request.header("content-length").and_then(|length| length.parse().ok());
            let length = length.unwrap_or(0).min(MAX_REQUEST);
            while read.len() < head + length {
                match stream.read(&mut part).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    n => read.extend_from_slice(&part[..n]),
                }
            }
            request.body = read[head..head + length].to_vec();
            read.drain(..head + length);
            return Ok(Some(request));
        }
        if read.len() > MAX_REQUEST {
            return Err(invalid("a head without an end"));
        }
        match stream.read(&mut part).await? {
            0 => return Ok(None),
            n => read.extend_from_slice(&part[..n]),
        }
    }
}

/// The request without its body, and where the body begins; none while the head is not complete.
fn parse_head(read: &[u8]) -> Result<Option<(Request, usize)>, httparse::Error> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = parsed.parse(read)? else { return Ok(None) };
    let headers = parsed.headers.iter().map(|header| {
        let value = String::from_utf8_lossy(header.value).into_owned();
        (header.name.to_ascii_lowercase(), value)
    });
    let mut request = Request {
        protocol: "HTTP/1.1",
        method: parsed.method.unwrap_or_default().to_owned(),
        headers: headers.collect(),
        ..Request::default()
    };
    request.set_target(parsed.path.unwrap_or_default());
    Ok(Some((request, head)))
}

/// Whether the connection goes on.
async fn carry_out(stream: &mut impl Stream, step: Step) -> io::Result<bool> {
    match step {
        Step::Wait(time) => sleep(time).await,
        Step::Head { status, kind, location, length } => {
            let location = location.map(|to| format!("location: {to}\r\n")).unwrap_or_default();
            let head = head(status, &format!("content-type: {kind}\r\n{location}"), length);
            stream.write_all(head.as_bytes()).await?;
        }
        Step::DripHead { length, over } => {
            let head = head(200, "content-type: application/json\r\n", length);
            drip(stream, head.as_bytes(), over).await?;
        }
        Step::Body(body) => stream.write_all(&body).await?,
        Step::Drip { body, over } => drip(stream, &body, over).await?,
        Step::Endless => loop {
            stream.write_all(&[b' '; 4_096]).await?;
        },
        Step::Raw(text) => stream.write_all(text.as_bytes()).await?,
        Step::Hang => {
            // Until the caller gives up.
            while stream.read(&mut [0; 1_024]).await? > 0 {}
            return Ok(false);
        }
        Step::Close => {
            stream.shutdown().await.ok();
            return Ok(false);
        }
    }
    stream.flush().await?;
    Ok(true)
}

fn head(status: u16, headers: &str, length: usize) -> String {
    let length = match (status, length) {
        (204 | 304, _) => String::new(),
        (_, usize::MAX) => "connection: close\r\n".into(),
        (_, length) => format!("content-length: {length}\r\n"),
    };
    format!("HTTP/1.1 {status} Answer\r\n{headers}{length}\r\n")
}

async fn drip(stream: &mut impl Stream, bytes: &[u8], over: Duration) -> io::Result<()> {
    let (at_once, pause) = pace(bytes.len(), over);
    for part in bytes.chunks(at_once) {
        stream.write_all(part).await?;
        stream.flush().await?;
        sleep(pause).await;
    }
    Ok(())
}
