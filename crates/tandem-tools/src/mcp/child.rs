//! A server that runs as our child.

use std::{collections::BTreeMap, env, io, process::Stdio, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use tokio::{
    process::{ChildStdin, ChildStdout, Command},
    time::timeout,
};
use tracing::debug;

use super::stderr;

/// What a child gets of our environment.
const INHERITED: [&str; 3] = ["PATH", "HOME", "LANG"];
/// For ending by itself once its input is closed.
const AFTER_CLOSE: Duration = Duration::from_millis(500);
/// From SIGTERM to SIGKILL.
const AFTER_TERM: Duration = Duration::from_secs(2);

/// A running child, in a process group of its own. Dropped, the whole group is killed at once.
pub(super) struct Child {
    process: tokio::process::Child,
    /// The group's id, until it was ended.
    group: Option<libc::pid_t>,
}

impl Child {
    /// Starts `program`. Its standard error goes to the log under the name `server`.
    pub(super) fn spawn(
        server: &str,
        program: &str,
        arguments: &[String],
        environment: &BTreeMap<String, SecretString>,
    ) -> io::Result<(Self, ChildStdout, ChildStdin)> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(INHERITED.iter().filter_map(|name| Some((name, env::var_os(name)?))))
            .envs(environment.iter().map(|(name, value)| (name, value.expose_secret())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut process = command.spawn()?;
        let group = process.id().map(u32::cast_signed);
        let stdin = process.stdin.take().expect("its input was asked for");
        let stdout = process.stdout.take().expect("its output was asked for");
        let errors = process.stderr.take().expect("its standard error was asked for");
        tokio::spawn(stderr::log_lines(server.to_owned(), errors));
        Ok((Self { process, group }, stdout, stdin))
    }

    /// Waits until the program has ended, and says how.
    pub(super) async fn ended(&mut self) -> String {
        match self.process.wait().await {
            Ok(status) => format!("the program ended: {status}"),
            Err(error) => format!("the program is lost: {error}"),
        }
    }

    /// Ends the program, whose input is closed already, and what it started: waits a moment, asks (SIGTERM), kills.
    pub(super) async fn stop(mut self) {
        if timeout(AFTER_CLOSE, self.process.wait()).await.is_err() {
            self.signal(libc::SIGTERM);
            if timeout(AFTER_TERM, self.process.wait()).await.is_err() {
                debug!("an MCP server that did not end by itself is killed");
                self.signal(libc::SIGKILL);
                let _ = self.process.wait().await;
            }
        }
        // What it left behind in its group.
        self.signal(libc::SIGKILL);
        self.group = None;
    }

    fn signal(&self, signal: libc::c_int) {
        if let Some(group) = self.group {
            // SAFETY: plain system call. The group was made for this child; a group that is gone is an error we ignore.
            unsafe { libc::killpg(group, signal) };
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
    }
}
