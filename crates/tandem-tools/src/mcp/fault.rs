//! What went wrong between us and a server, in our words.

use std::error::Error;

use rmcp::{
    ServiceError,
    service::ClientInitializeError,
    transport::{DynamicTransportError, streamable_http_client::StreamableHttpError},
};

/// Characters of somebody else's words in an error of ours.
const LONGEST: usize = 300;

/// Why a request got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// No connection: nothing was written.
    NotConnected(String),
    /// The server no longer knows our session, and so did not look at the request.
    Expired,
    /// The connection broke; whether the request was carried out is not known.
    Lost(String),
    /// An HTTP status that is no answer.
    Status(u16),
    /// The server answered what is no answer: a JSON-RPC error, or against the protocol.
    Refused(String),
}

impl Fault {
    /// Sure that the server did not begin with it.
    pub(super) fn untouched(&self) -> bool {
        matches!(self, Self::NotConnected(_) | Self::Expired)
    }

    /// The session it happened in may be over.
    pub(super) fn doubtful(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }

    /// For log and record.
    pub(super) fn text(&self) -> String {
        match self {
            Self::NotConnected(why) => format!("no connection: {why}"),
            Self::Expired => "the server has forgotten the session".to_owned(),
            Self::Lost(why) => format!("the connection was lost: {why}"),
            Self::Status(status) => format!("HTTP status {status}"),
            Self::Refused(why) => why.clone(),
        }
    }
}

impl From<ServiceError> for Fault {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::McpError(error) => {
                Self::Refused(short(&format!("error {}: {}", error.code.0, error.message)))
            }
            ServiceError::TransportSend(error) => of_transport(&error),
            ServiceError::TransportClosed => Self::Lost("closed by the server".to_owned()),
            other => Self::Refused(short(&other.to_string())),
        }
    }
}

impl From<ClientInitializeError> for Fault {
    fn from(error: ClientInitializeError) -> Self {
        match error {
            ClientInitializeError::TransportError { error, .. } => of_transport(&error),
            ClientInitializeError::LegacyFallbackFailed { fallback, .. } => Self::from(*fallback),
            ClientInitializeError::ConnectionClosed(_) => {
                Self::Lost("closed before the server introduced itself".to_owned())
            }
            ClientInitializeError::JsonRpcError(error) => {
                Self::Refused(short(&format!("error {}: {}", error.code.0, error.message)))
            }
            ClientInitializeError::NoCompatibleProtocolVersion { server_supported, .. } => {
                let versions: Vec<_> = server_supported.iter().map(|one| one.as_str()).collect();
                Self::Refused(short(&format!("it speaks only MCP {}", versions.join(", "))))
            }
            other => Self::Refused(short(&format!("no MCP server: {other}"))),
        }
    }
}

fn of_transport(error: &DynamicTransportError) -> Fault {
    let mut source: Option<&(dyn Error + 'static)> = Some(error.error.as_ref());
    while let Some(error) = source {
        if let Some(http) = error.downcast_ref::<StreamableHttpError<reqwest::Error>>() {
            return of_http(http);
        }
        source = error.source();
    }
    Fault::Lost(short(&innermost(error.error.as_ref())))
}

fn of_http(error: &StreamableHttpError<reqwest::Error>) -> Fault {
    match error {
        StreamableHttpError::SessionExpired => Fault::Expired,
        StreamableHttpError::HttpStatus(status) => Fault::Status(status.status),
        StreamableHttpError::AuthRequired(_) => Fault::Status(401),
        StreamableHttpError::InsufficientScope(_) => Fault::Status(403),
        // Without its own first words, which hold the whole address.
        StreamableHttpError::Client(error) => match error.status() {
            Some(status) => Fault::Status(status.as_u16()),
            None if error.is_connect() => Fault::NotConnected(short(&innermost(error))),
            None => Fault::Lost(short(&innermost(error))),
        },
        StreamableHttpError::TransportChannelClosed => {
            Fault::Lost("closed by the server".to_owned())
        }
        StreamableHttpError::UnexpectedServerResponse(text) => match status_in(text) {
            Some(status) => Fault::Status(status),
            None => {
                // What comes after is the answer itself, which is nobody's business.
                let kind = text.split(':').next().unwrap_or_default();
                Fault::Refused(short(&format!("not an answer of MCP: {kind}")))
            }
        },
        other => Fault::Refused(short(&other.to_string())),
    }
}

/// The status of `HTTP 307 Temporary Redirect: ..`, as the SDK tells of those that it does not name itself.
fn status_in(text: &str) -> Option<u16> {
    text.strip_prefix("HTTP ")?.split_whitespace().next()?.parse().ok()
}

/// The cause at the bottom, where the sentence is that says something.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// At most 300 characters, in one line.
pub(super) fn short(text: &str) -> String {
    text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
