//! Where the log goes and how it looks.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::terminal::ColorChoice;

/// The form of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging to standard error. `filter` is that of `--log`; without it RUST_LOG counts, and then `default`.
///
/// Fails with a text when a filter can't be read.
pub fn start(
    filter: Option<&str>,
    default: &str,
    format: LogFormat,
    color: ColorChoice,
) -> Result<(), String> {
    let from_environment =
        std::env::var("RUST_LOG").ok().filter(|filter| !filter.trim().is_empty());
    let (origin, text) = match (filter, from_environment) {
        (Some(filter), _) => ("--log", filter.to_owned()),
        (None, Some(filter)) => ("RUST_LOG", filter),
        (None, None) => ("the default log filter", default.to_owned()),
    };
    let filter = EnvFilter::try_new(with_quiet_stack(&text)).map_err(|error| {
        format!("{origin} {text:?}: {error}; try \"info\" or \"tandem_sip=debug\"")
    })?;
    let ansi = match color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => std::io::stderr().is_terminal() && color.paint().is_on(),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_ansi(ansi).with_target(false).try_init(),
        LogFormat::Json => builder.with_ansi(false).json().flatten_event(true).try_init(),
    };
    started.map_err(|error| format!("the log could not be started: {error}"))
}

/// The SIP stack and the MCP library log whole messages, numbers, names and arguments in them: only who names them gets
/// to see those.
fn with_quiet_stack(filter: &str) -> String {
    let mut filter = filter.to_owned();
    for (name, quiet) in [("rsipstack", "warn"), ("rmcp", "error")] {
        if !filter.contains(name) {
            filter += &format!(",{name}={quiet}");
        }
    }
    filter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_messages_are_logged_only_on_request() {
        for (filter, full) in [
            ("info", "info,rsipstack=warn,rmcp=error"),
            ("debug,tandem_rtp=trace", "debug,tandem_rtp=trace,rsipstack=warn,rmcp=error"),
            ("info,rsipstack=info", "info,rsipstack=info,rmcp=error"),
            ("info,rmcp=debug", "info,rmcp=debug,rsipstack=warn"),
        ] {
            assert_eq!(with_quiet_stack(filter), full);
            assert!(EnvFilter::try_new(full).is_ok());
        }
    }
}
