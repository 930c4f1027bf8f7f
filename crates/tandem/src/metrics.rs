//! Figures for a monitoring system: `GET /metrics` in Prometheus' text format, and nothing else.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};

use crate::config::MetricsConfig;

/// The longest head of a request, in bytes, and the most headers in it.
const LONGEST_HEAD: usize = 8 * 1024;
const MOST_HEADERS: usize = 64;

/// Connections at a time; more wait.
const CONNECTIONS: usize = 8;

/// A request has arrived by then and its answer is gone, or the connection is closed.
const PATIENCE: Duration = Duration::from_secs(5);

/// After a failed accept: so long, for it may be that no descriptor is free.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// What makes the text.
pub(crate) type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// Answers until it is dropped.
pub(crate) struct MetricsServer {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl MetricsServer {
    /// Listens where `config` says and answers with what `render` makes. Fails when the address can't be bound.
    pub(crate) async fn start(config: &MetricsConfig, render: Render) -> io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        let token = config.token.clone().map(Arc::new);
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let serving = tokio::spawn(async move {
            loop {
                let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
                let stream = match listener.accept().await {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::debug!(%error, "a connection for metrics was not taken");
                        tokio::time::sleep(AFTER_FAILURE).await;
                        continue;
                    }
                };
                let (render, token) = (Arc::clone(&render), token.clone());
                tokio::spawn(async move {
                    let answered = answer(stream, &render, token.as_deref());
                    if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, answered).await {
                        tracing::debug!(%error, "a connection for metrics was lost");
                    }
                    drop(place);
                });
            }
        });
        Ok(Self { address, serving })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Figures { head_only: bool },
    BadRequest,
    Unauthorized,
    NotFound,
    NotAllowed,
    TooLarge,
}

async fn answer(
    mut stream: TcpStream,
    render: &Render,
    token: Option<&SecretString>,
) -> io::Result<()> {
    let mut head = Vec::with_capacity(1024);
    let answer = loop {
        if let Some(answer) = judge(&head, token) {
            break answer;
        }
        if head.len() >= LONGEST_HEAD {
            break Answer::TooLarge;
        }
        let most = (LONGEST_HEAD - head.len()) as u64;
        if (&mut stream).take(most).read_buf(&mut head).await? == 0 {
            return Ok(()); // Gone before it asked.
        }
    };
    stream.write_all(response(answer, render).as_bytes()).await?;
    stream.shutdown().await
}

/// What the request whose first bytes are `head` gets; none while its head is not complete.
fn judge(head: &[u8], token: Option<&SecretString>) -> Option<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Some(Answer::TooLarge),
        Err(_) => return Some(Answer::BadRequest),
    }
    let path = request.path.unwrap_or_default();
    if path.split('?').next() != Some("/metrics") {
        return Some(Answer::NotFound);
    }
    let head_only = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Some(Answer::NotAllowed),
    };
    let given = request.headers.iter().find(|it| it.name.eq_ignore_ascii_case("authorization"));
    Some(match token {
        Some(token) if !is_token(given.map(|it| it.value), token) => Answer::Unauthorized,
        _ => Answer::Figures { head_only },
    })
}

fn is_token(given: Option<&[u8]>, token: &SecretString) -> bool {
    let bearer = given.and_then(|value| value.split_at_checked(7));
    bearer.is_some_and(|(scheme, given)| {
        scheme.eq_ignore_ascii_case(b"bearer ")
            && bool::from(given.trim_ascii().ct_eq(token.expose_secret().as_bytes()))
    })
}

fn response(answer: Answer, render: &Render) -> String {
    let (status, extra, body) = match answer {
        Answer::Figures { .. } => ("200 OK", "", render()),
        Answer::BadRequest => ("400 Bad Request", "", "not HTTP\n".into()),
        Answer::Unauthorized => (
            "401 Unauthorized",
            "WWW-Authenticate: Bearer realm=\"tandem\"\r\n",
            "a bearer token is needed\n".into(),
        ),
        Answer::NotFound => ("404 Not Found", "", "there is /metrics only\n".into()),
        Answer::NotAllowed => {
            ("405 Method Not Allowed", "Allow: GET, HEAD\r\n", "GET only\n".into())
        }
        Answer::TooLarge => ("431 Request Header Fields Too Large", "", "too large\n".into()),
    };
    let length = body.len();
    let body = if answer == (Answer::Figures { head_only: true }) { "" } else { &body };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {length}\r\n{extra}Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn serve(token: Option<&str>) -> MetricsServer {
        let config = MetricsConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            token: token.map(|token| SecretString::from(token.to_owned())),
        };
        MetricsServer::start(&config, Arc::new(|| "tandem_calls_live 3\n".into())).await.unwrap()
    }

    async fn ask(server: &MetricsServer, request: &str) -> String {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn figures_are_given_to_get_metrics_and_nothing_to_anything_else() {
        let server = serve(None).await;
        for (request, status) in [
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", "200"),
            ("GET /metrics?x=1 HTTP/1.0\r\n\r\n", "200"),
            ("POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "405"),
            ("GET / HTTP/1.1\r\n\r\n", "404"),
            ("GET /metrics/../x HTTP/1.1\r\n\r\n", "404"),
            ("hello\r\n\r\n", "400"),
        ] {
            let answer = ask(&server, request).await;
            assert_eq!(&answer[9..12], status, "{request}");
            assert_eq!(answer.ends_with("tandem_calls_live 3\n"), status == "200", "{answer}");
        }
        let head = ask(&server, "HEAD /metrics HTTP/1.1\r\n\r\n").await;
        assert!(head.contains("Content-Length: 20\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        let large = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(LONGEST_HEAD));
        assert_eq!(judge(large.as_bytes(), None), None);
        let many = "A: b\r\n".repeat(MOST_HEADERS + 1);
        let many = format!("GET /metrics HTTP/1.1\r\n{many}\r\n");
        assert_eq!(judge(many.as_bytes(), None), Some(Answer::TooLarge));
    }

    #[tokio::test]
    async fn a_token_is_asked_for_where_there_is_one() {
        let server = serve(Some("0123456789abcdef")).await;
        for (header, status) in [
            ("", "401"),
            ("Authorization: Bearer 0123456789abcdef\r\n", "200"),
            ("authorization: bearer 0123456789abcdef\r\n", "200"),
            ("Authorization: Bearer 0123456789abcdeX\r\n", "401"),
            ("Authorization: Bearer \r\n", "401"),
            ("Authorization: 0123456789abcdef\r\n", "401"),
        ] {
            let answer = ask(&server, &format!("GET /metrics HTTP/1.1\r\n{header}\r\n")).await;
            assert_eq!(&answer[9..12], status, "{header}");
        }
    }

    #[tokio::test]
    async fn a_head_without_an_end_is_refused() {
        let server = serve(None).await;
        let answer =
            ask(&server, &format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(LONGEST_HEAD - 26)))
                .await;
        assert_eq!(&answer[9..12], "431", "{answer}");
    }
}
