//! Tools of MCP servers: one session per server for the whole daemon, kept alive, its tools offered beside the others.
//!
//! A server is spoken to over streamable HTTP or over the standard input and output of a child process. Whoever starts
//! it gets an [`McpServer`]; a call of an agent takes the [`McpTool`]s of the moment and keeps to them.

mod answer;
mod child;
mod fault;
mod keeper;
mod name;
mod offer;
mod server;
mod session;
mod stderr;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use reqwest::{Url, header::HeaderMap};
use secrecy::SecretString;

pub use offer::McpTool;
pub use server::{McpAway, McpServer};

/// An MCP server, as it is configured.
#[derive(Debug, Clone)]
pub struct McpSettings {
    /// Names it in the log.
    pub name: String,
    /// Where it is.
    pub transport: McpTransport,
    /// Which of its tools are offered, by the server's own names. `None`: all.
    pub only: Option<BTreeSet<String>>,
    /// Stands before the name of each of its tools.
    pub prefix: String,
}

/// How an MCP server is reached.
#[derive(Clone)]
pub enum McpTransport {
    /// Streamable HTTP, one endpoint.
    Http {
        /// The endpoint. Whether it may be used is decided as for webhooks.
        url: Url,
        /// Sent with every request.
        headers: HeaderMap,
        /// Sent as `Authorization: Bearer`.
        bearer: Option<SecretString>,
    },
    /// A program that speaks over its standard input and output.
    Command {
        /// The program: a path, or a name that is looked for in `PATH`.
        program: String,
        /// Its arguments.
        arguments: Vec<String>,
        /// Its environment beside `PATH`, `HOME` and `LANG`, the only variables of ours that it gets.
        environment: BTreeMap<String, SecretString>,
    },
}

impl fmt::Debug for McpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { url, headers, bearer } => f
                .debug_struct("Http")
                .field("host", &url.host_str())
                .field("headers", &headers.keys().collect::<Vec<_>>())
                .field("bearer", &bearer.is_some())
                .finish(),
            Self::Command { program, arguments, environment } => f
                .debug_struct("Command")
                .field("program", program)
                .field("arguments", &arguments.len())
                .field("environment", &environment.keys().collect::<Vec<_>>())
                .finish(),
        }
    }
}
