//! A receiver of tool webhooks, as a process of its own: it does what the path says and writes down every request.
//!
//! `webhook-receiver --listen 127.0.0.1:0 [--log FILE] [--tls CERT.pem KEY.pem] [--drop-first N]` says
//! `listening on 127.0.0.1:PORT` on its standard output when it is ready. Each request that was read to its end becomes
//! one line of JSON, in the file if there is one and else on the standard output:
//! `{"at_ms", "connection", "protocol", "method", "path", "query", "does", "headers", "body", "invocation_id", "nth"}`;
//! `headers` have small letters, `body` is JSON or text, `nth` says how often this `X-Webhook-ID` has come. Without TLS
//! it speaks HTTP/1.1, with it HTTP/2 as well; the first `N` connections are dropped as they come.
//!
//! | Path | What it does |
//! |---|---|
//! | `/ok` | 200 with a status, a message and a reference |
//! | `/no-message` | 200 without a message |
//! | `/echo` | 200; `received` is the body that came |
//! | `/count` | 200; `count` says how often this invocation has come |
//! | `/message/404` | that status, with a message |
//! | `/status/500`, `/500` | that status, with a text that is no JSON |
//! | `/answer?status=200&body=…&type=application/json&after_ms=0`, `/reply` | what is asked for |
//! | `/redirect` | 302 to `/ok` |
//! | `/not-json`, `/not-object`, `/empty` | 200 with HTML, 200 with a list, 204 |
//! | `/too-large` | 200 with a good answer of 100 KiB |
//! | `/endless` | 200 with a body that does not end |
//! | `/drip?ms=6000` | a good answer whose bytes are spread over that time |
//! | `/drip-head?ms=6000` | the same of its head |
//! | `/late?ms=3000` | a good answer after that time |
//! | `/hang` | reads the request and says nothing |
//! | `/close`, `/close-head`, `/close-body` | closes before the head, within it, within the body |
//! | `/wrong` | answers with something that is not HTTP |
//! | `/as-asked` | does what `args.receiver` says, a path with its query; `/ok` without |
//!
//! `HEAD` is answered with 200 and nothing else wherever it goes.

mod http1;
mod http2;
mod log;
mod plan;
mod process;

use std::{
    convert::Infallible,
    fs::File,
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use log::Log;
pub use process::{LoggedRequest, ReceiverProcess};

/// The longest head and the longest body of a request, in bytes.
const MAX_REQUEST: usize = 1 << 20;

/// A TLS handshake may take this long.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How a receiver is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where it listens; port 0 = a free one.
    pub listen: SocketAddr,
    /// Where requests are written down; none = on the standard output.
    pub log: Option<PathBuf>,
    /// Certificate and key, as PEM files.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Connections that are dropped as they come.
    pub drop_first: u64,
}

impl Options {
    /// HTTP on a free port of loopback, requests written to the standard output.
    pub fn local() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { listen, log: None, tls: None, drop_first: 0 }
    }

    /// Reads a command line, without the program's name.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for people.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::local();
        let mut arguments = arguments.into_iter();
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value"));
            match &*flag {
                "--listen" => {
                    options.listen =
                        value()?.parse().map_err(|error| format!("--listen: {error}"))?;
                }
                "--log" => options.log = Some(value()?.into()),
                "--tls" => options.tls = Some((value()?.into(), value()?.into())),
                "--drop-first" => {
                    options.drop_first =
                        value()?.parse().map_err(|error| format!("--drop-first: {error}"))?;
                }
                _ => {
                    return Err(format!(
                        "{flag:?} is not known; see --listen, --log, --tls, --drop-first"
                    ));
                }
            }
        }
        Ok(options)
    }
}

/// The program: reads its command line and receives until it is killed.
pub fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("webhook-receiver: {why}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let Err(error) = runtime.and_then(|runtime| runtime.block_on(run(options)));
    eprintln!("webhook-receiver: {error}");
    ExitCode::FAILURE
}

/// Receives until something is wrong with the socket or the log.
///
/// # Errors
///
/// When the address, the log or the TLS files cannot be used.
pub async fn run(options: Options) -> io::Result<Infallible> {
    let tls =
        options.tls.as_ref().map(|(certificate, key)| acceptor(certificate, key)).transpose()?;
    let listener = TcpListener::bind(options.listen).await?;
    let to_file = options.log.is_some();
    let sink: Box<dyn Write + Send> = match &options.log {
        Some(path) => Box::new(File::create(path)?),
        None => Box::new(io::stdout()),
    };
    let log = Arc::new(Log::new(sink));
    let ready = format!("listening on {}\n", listener.local_addr()?);
    if to_file {
        io::stdout().write_all(ready.as_bytes())?;
        io::stdout().flush()?;
    } else {
        log.write(&ready);
    }
    for connection in 1.. {
        let (stream, _) = listener.accept().await?;
        if connection <= options.drop_first {
            continue;
        }
        tokio::spawn(serve(stream, tls.clone(), connection, Arc::clone(&log)));
    }
    unreachable!("nobody makes so many connections")
}

fn acceptor(certificate: &std::path::Path, key: &std::path::Path) -> io::Result<TlsAcceptor> {
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(certificate).map_err(io::Error::other)?.collect();
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain.map_err(io::Error::other)?, key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A connection that fails is the caller's to notice.
async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, connection: u64, log: Arc<Log>) {
    stream.set_nodelay(true).ok();
    match tls {
        None => drop(http1::serve(stream, connection, &log).await),
        Some(tls) => {
            let Ok(Ok(stream)) = timeout(HANDSHAKE, tls.accept(stream)).await else { return };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                drop(http2::serve(stream, connection, log).await);
            } else {
                drop(http1::serve(stream, connection, &log).await);
            }
        }
    }
}

/// What a request may come over.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A request that was read to its end.
#[derive(Debug, Default)]
struct Request {
    protocol: &'static str,
    method: String,
    path: String,
    query: String,
    /// Names in small letters.
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn set_target(&mut self, target: &str) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        self.path = path.to_owned();
        self.query = query.to_owned();
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
