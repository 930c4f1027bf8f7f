//! The receiver of webhooks: a process of its own, and the log of what it was sent.

use std::{convert::Infallible, io, net::SocketAddr, process::Command, time::Duration};

use tandem_sim::receiver::{LoggedRequest, Options, ReceiverProcess, run};

use super::judge::Request;
use crate::BenchError;

/// What it has read is in its log soon.
const LOGGED_WITHIN: Duration = Duration::from_secs(5);

/// Receives webhooks at `listen` and does with each what its arguments say, until the socket fails: prints
/// `listening on <address>`, then a line of JSON for each request.
pub fn receive_webhooks(listen: SocketAddr) -> io::Result<Infallible> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(Options { listen, ..Options::local() }))
}

/// A running receiver. Dropping it kills it.
pub(super) struct Receiver(ReceiverProcess);

impl Receiver {
    /// Starts it by `command`, and waits until it listens.
    pub(super) fn start(command: Command) -> Result<Self, BenchError> {
        let started = ReceiverProcess::spawn(command);
        started.map(Self).map_err(|error| BenchError::Receiver(error.to_string()))
    }

    /// Where it listens.
    pub(super) const fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Ends it; every request that it read, of which there ought to be so many.
    pub(super) fn stop(self, expected: usize) -> Vec<Request> {
        let log = self.0.wait(LOGGED_WITHIN, |log| log.len() >= expected);
        log.into_iter().map(request).collect()
    }
}

fn request(logged: LoggedRequest) -> Request {
    let body = &logged.body;
    let text =
        |at: &str| body.pointer(at).and_then(|it| it.as_str()).unwrap_or_default().to_owned();
    Request {
        ticket: text("/args/ticket"),
        name: text("/function"),
        id: logged.invocation_id.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_from_its_line() {
        let line = r#"{"at_ms":7,"connection":1,"protocol":"HTTP/1.1","method":"POST","path":"/as-asked","query":"",
            "does":"/500","headers":{},"invocation_id":"inv_1_2","nth":1,
            "body":{"function":"find_order","args":{"ticket":"7-2","receiver":"/500"}}}"#;
        let logged: LoggedRequest = serde_json::from_str(line).unwrap();
        let expected =
            Request { id: "inv_1_2".into(), ticket: "7-2".into(), name: "find_order".into() };
        assert_eq!(request(logged), expected);
    }

    #[test]
    fn a_receiver_that_does_not_listen_is_none() {
        let mut command = Command::new("true");
        command.arg("--listen");
        assert!(matches!(Receiver::start(command), Err(BenchError::Receiver(_))));
    }
}
