//! The way out: one HTTP client for the daemon, which connects only where it may.

use std::{error::Error, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use ipnet::IpNet;
use reqwest::{
    Client,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect, retry,
};
use tandem_net::{TlsError, tls_client};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};
use url::{Host, Url};

use crate::{AddressError, AddressRule};

/// A connection takes at most this long, name and TLS included (control API 11.4).
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// An unused connection is kept this long, so that most calls find one open.
const IDLE: Duration = Duration::from_secs(90);

/// Unused connections that are kept per host.
const MAX_IDLE: usize = 32;

/// The longest headers of an answer over HTTP/2, in bytes.
const MAX_HEADERS: u32 = 64 * 1024;

/// A silent connection is asked for a sign of life after this long, and given up after as long again.
const SIGN_OF_LIFE: Duration = Duration::from_secs(20);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum HttpClientError {
    /// The extra CA file cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The HTTP library refused its settings.
    #[error("HTTP client: {0}")]
    Library(#[from] reqwest::Error),
}

/// Connects to public hosts over TLS, and to hosts of allowed networks; follows no redirect and uses no proxy.
///
/// Connections are pooled per host, HTTP/2 is used where the host offers it, and no request has a time limit of its
/// own. Clones share the pool.
#[derive(Debug, Clone)]
pub struct HttpClient {
    rule: AddressRule,
    tls: Arc<ClientConfig>,
    https: Client,
    plain: Client,
}

impl HttpClient {
    /// A client that also reaches `allowed` networks, and trusts the certificates of `ca_file` beside the usual roots.
    ///
    /// # Errors
    ///
    /// When the CA file is of no use.
    pub async fn new(allowed: Vec<IpNet>, ca_file: Option<&Path>) -> Result<Self, HttpClientError> {
        let rule = AddressRule::new(allowed);
        let mut tls = (*tls_client(ca_file).await?).clone();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let client = |plain: bool| {
            Client::builder()
                .user_agent(concat!("Tandem/", env!("CARGO_PKG_VERSION")))
                .tls_backend_preconfigured(tls.clone())
                .https_only(!plain)
                .dns_resolver(CheckedNames { rule: rule.clone(), plain })
                .redirect(redirect::Policy::none())
                .retry(retry::never())
                .no_proxy()
                .referer(false)
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(MAX_IDLE)
                .tcp_keepalive(SIGN_OF_LIFE)
                .http2_keep_alive_interval(SIGN_OF_LIFE)
                .http2_keep_alive_timeout(SIGN_OF_LIFE)
                .http2_keep_alive_while_idle(true)
                .http2_max_header_list_size(MAX_HEADERS)
                .build()
        };
        let (https, plain) = (client(false)?, client(true)?);
        Ok(Self { rule, tls: Arc::new(tls), https, plain })
    }

    /// The client for `url`, when what can be known of the URL without asking anybody is right. A name is checked
    /// after it was resolved, for each connection, and the connection goes to the address that was checked.
    ///
    /// # Errors
    ///
    /// As [`AddressRule::check_url`].
    pub fn for_url(&self, url: &Url) -> Result<&Client, AddressError> {
        self.rule.check_url(url)?;
        Ok(if url.scheme() == "http" { &self.plain } else { &self.https })
    }

    /// Connects to the host of `url`, TLS included, and hangs up without having sent a request.
    ///
    /// # Errors
    ///
    /// Why it cannot be reached, in words.
    pub async fn probe(&self, url: &Url) -> Result<(), String> {
        let words = |error: &dyn Error| error.to_string();
        self.rule.check_url(url).map_err(|error| words(&error))?;
        match timeout(CONNECT_TIMEOUT, self.connect_once(url)).await {
            Ok(result) => result,
            Err(_) => Err(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs())),
        }
    }

    async fn connect_once(&self, url: &Url) -> Result<(), String> {
        let plain = url.scheme() == "http";
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let port = url.port_or_known_default().unwrap_or_default();
        let resolved = tokio::net::lookup_host((host, port)).await;
        let resolved = resolved.map_err(|error| format!("the name {host}: {error}"))?;
        let addresses = permitted(&self.rule, host, plain, resolved).map_err(|e| e.to_string())?;
        let stream = TcpStream::connect(&addresses[..]).await.map_err(|error| error.to_string())?;
        if plain {
            return Ok(());
        }
        let name = match url.host() {
            Some(Host::Ipv4(address)) => ServerName::from(std::net::IpAddr::from(address)),
            Some(Host::Ipv6(address)) => ServerName::from(std::net::IpAddr::from(address)),
            _ => ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?,
        };
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        connector.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
        Ok(())
    }

    /// Leaves an open connection to the host of `url` in the pool: asks for the headers of its root page, with nothing
    /// of ours in the request, and forgets the answer.
    pub(crate) async fn warm(&self, url: &Url) -> Result<(), String> {
        let client = self.for_url(url).map_err(|error| error.to_string())?;
        let root = url.join("/").map_err(|error| error.to_string())?;
        match timeout(2 * CONNECT_TIMEOUT, client.head(root).send()).await {
            Ok(answer) => answer.map(drop).map_err(in_words),
            Err(_) => Err("no answer".into()),
        }
    }
}

/// The address rule's refusal among the sources of `error`, if that is why it failed.
pub fn is_refused<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a AddressError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(refused) = error.downcast_ref() {
            return Some(refused);
        }
        next = error.source();
    }
    None
}

/// `error` with what lies behind it, in one line and without the URL, whose query may hold arguments.
pub(crate) fn in_words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !words.contains(&more) {
            words.push_str(": ");
            words.push_str(&more);
        }
        next = error.source();
    }
    words.chars().take(300).collect()
}

/// The system's resolver, with the addresses taken out that may not be called.
struct CheckedNames {
    rule: AddressRule,
    plain: bool,
}

impl Resolve for CheckedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let (rule, plain) = (self.rule.clone(), self.plain);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let good = permitted(&rule, name.as_str(), plain, found)?;
            Ok(Box::new(good.into_iter()) as Addrs)
        })
    }
}

/// The addresses of `found` that may be called; the refusal when there is none but refused ones.
fn permitted(
    rule: &AddressRule,
    host: &str,
    plain: bool,
    found: impl Iterator<Item = SocketAddr>,
) -> Result<Vec<SocketAddr>, AddressError> {
    let mut refused = None;
    let mut good = Vec::new();
    for address in found {
        match rule.check(host, address.ip(), plain) {
            Ok(()) => good.push(address),
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) if good.is_empty() => Err(error),
        _ => Ok(good),
    }
}
