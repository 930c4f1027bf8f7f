//! Where figures are given to a monitoring system.

use std::net::SocketAddr;

use secrecy::SecretString;

use super::{reader::Section, receiver::read_secret, secret::Surroundings};

/// The shortest token, in bytes.
const SHORTEST_TOKEN: usize = 16;

/// `[metrics]`.
#[derive(Debug, Clone)]
pub struct MetricsConfig {
    /// Where `GET /metrics` is answered.
    pub listen: SocketAddr,
    /// The bearer token that is asked for.
    pub token: Option<SecretString>,
}

/// Reads `[metrics]`; nothing without `listen`.
pub(crate) fn read_metrics(
    mut section: Section<'_, '_>,
    surroundings: &Surroundings<'_>,
) -> Option<MetricsConfig> {
    let listen_value = section.value("listen");
    let listen = listen_value.as_ref().and_then(|value| {
        value.parsed(|text| {
            text.parse::<SocketAddr>().map_err(|_| {
                format!("{text:?} must be an address and a port, as in \"127.0.0.1:9464\"")
            })
        })
    });
    let token = read_secret(&mut section, ["token", "token_env", "token_file"], surroundings);
    if let Some(token) = &token
        && secrecy::ExposeSecret::expose_secret(token).len() < SHORTEST_TOKEN
    {
        section.mistakes().error_with_fix(
            section.span(),
            format!("[metrics]: the token is shorter than {SHORTEST_TOKEN} characters"),
            "`openssl rand -hex 32` makes one",
        );
    }
    if let (Some(value), Some(listen)) = (&listen_value, listen)
        && !listen.ip().is_loopback()
        && token.is_none()
    {
        value.mistakes().error_with_fix(
            &value.span(),
            format!("`{}`: anybody could read the figures at {listen}", value.path()),
            "add `token_env` or `token_file`, or listen on 127.0.0.1",
        );
    }
    section.finish(&[]);
    Some(MetricsConfig { listen: listen?, token })
}
