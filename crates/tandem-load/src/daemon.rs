//! The process under test: started with a configuration of its own, watched through /proc, stopped by SIGTERM.

use std::{
    env, fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    BenchError, DaemonUse,
    clock::{Priority, set_fifo},
};

/// Until it listens.
const START_WITHIN: Duration = Duration::from_secs(10);

/// From SIGTERM to its end.
const STOP_WITHIN: Duration = Duration::from_secs(10);

const POLL: Duration = Duration::from_millis(20);

/// The file of call records: a line each, written when a call has ended.
const RECORDS: &str = "calls.jsonl";

/// The environment variable with the model's key; the model does not look at it.
const KEY: &str = "TANDEM_BENCH_KEY";

/// The environment variable with the token that opens forks.
const TOKEN_KEY: &str = "TANDEM_BENCH_TOKEN";

/// What opens forks.
pub(crate) const TOKEN: &str = "tandem-bench-opens-forks";

/// How calls come to the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ingress {
    /// SIP and RTP; the model is OpenAI's.
    Sip,
    /// Forks of FreeSWITCH; the model is Gemini.
    Forks,
}

/// What the agent may call, as the configuration has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AgentTools<'a> {
    /// The agent's list: `["one", "other"]`.
    pub(crate) names: &'a str,
    /// What is said of them elsewhere in the file.
    pub(crate) sections: &'a str,
}

impl AgentTools<'_> {
    const NONE: Self = Self { names: "[]", sections: "" };
}

/// A running daemon, whose one agent is connected to the model at `url`. Dropping it kills it.
pub(crate) struct Daemon {
    child: Child,
    /// Where it takes SIP calls.
    pub(crate) sip: SocketAddr,
    /// Where it takes forks, if it does.
    pub(crate) forks: SocketAddr,
    ingress: Ingress,
    directory: Scratch,
}

/// What has been used so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// User and system time of all the daemon's threads.
    pub(crate) cpu: Duration,
    /// The same of everybody but the daemon and this process, and what the host took from this machine.
    pub(crate) others: Duration,
    /// Resident memory.
    pub(crate) resident_kib: u64,
}

impl DaemonUse {
    /// Of what was used before the first call, and at the beginning and the end of `elapsed` under load.
    pub(crate) fn between(idle: Usage, before: Usage, after: Usage, elapsed: Duration) -> Self {
        let percent = |before: Duration, after: Duration| {
            100.0 * after.saturating_sub(before).as_secs_f64() / elapsed.as_secs_f64()
        };
        Self {
            cpu_percent: percent(before.cpu, after.cpu),
            others_percent: percent(before.others, after.others),
            idle_kib: idle.resident_kib,
            loaded_kib: after.resident_kib,
        }
    }
}

impl Daemon {
    /// Starts `executable` for `calls` calls and waits until it listens.
    pub(crate) fn start(
        executable: &Path,
        ingress: Ingress,
        url: &str,
        calls: u16,
        fifo: bool,
    ) -> Result<Self, BenchError> {
        Self::start_with_tools(executable, ingress, url, calls, fifo, &AgentTools::NONE)
    }

    /// The same, and its agent has tools.
    pub(crate) fn start_with_tools(
        executable: &Path,
        ingress: Ingress,
        url: &str,
        calls: u16,
        fifo: bool,
        tools: &AgentTools<'_>,
    ) -> Result<Self, BenchError> {
        let directory = Scratch::new()?;
        let [sip, forks] = free_ports()?;
        let config = directory.0.join("tandem.toml");
        let log = directory.0.join("log");
        let mut text = configuration(sip, url, calls, &directory.0, ingress, tools.names);
        text += tools.sections;
        if ingress == Ingress::Forks {
            text += &fork_section(forks);
        }
        fs::write(&config, text)?;
        let child = Command::new(executable)
            .args(["serve", "--color", "never", "--log", "warn", "--config"])
            .arg(&config)
            .env(KEY, "bench")
            .env(TOKEN_KEY, TOKEN)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(fs::File::create(&log)?)
            .stderr(fs::OpenOptions::new().append(true).open(&log)?)
            .spawn()
            .map_err(|error| BenchError::Daemon(format!("{}: {error}", executable.display())))?;
        let mut daemon = Self { child, sip, forks, ingress, directory };
        if fifo {
            // It has one thread yet; the others inherit.
            set_fifo(daemon.child.id().cast_signed(), Priority::Measured)?;
        }
        daemon.wait_until_it_listens()?;
        Ok(daemon)
    }

    fn wait_until_it_listens(&mut self) -> Result<(), BenchError> {
        let until = Instant::now() + START_WITHIN;
        let listens = match self.ingress {
            Ingress::Sip => self.sip,
            Ingress::Forks => self.forks,
        };
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(BenchError::Daemon(format!(
                    "it ended with {status}: {}",
                    self.last_words()
                )));
            }
            if TcpStream::connect(listens).is_ok() {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(BenchError::Daemon(format!(
                    "it does not listen: {}",
                    self.last_words()
                )));
            }
            thread::sleep(POLL);
        }
    }

    /// The end of what it wrote.
    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.directory.0.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }

    /// `error` with what the daemon may have to say about a call that it did not answer.
    pub(crate) fn explain(&self, error: BenchError) -> BenchError {
        match (error, self.last_words()) {
            (BenchError::NotAnswered { call, why }, words) if !words.is_empty() => {
                BenchError::NotAnswered { call, why: format!("{why}; the daemon says:\n{words}") }
            }
            (error, _) => error,
        }
    }

    /// How many calls it has recorded as ended: waits until it is `wanted`, but not longer than `within`.
    pub(crate) fn ended_calls(&self, wanted: u64, within: Duration) -> u64 {
        let until = Instant::now() + within;
        loop {
            let records = fs::read(self.directory.0.join(RECORDS)).unwrap_or_default();
            let ended = memchr::memchr_iter(b'\n', &records).count() as u64;
            if ended >= wanted || Instant::now() > until {
                return ended;
            }
            thread::sleep(POLL);
        }
    }

    /// The records of the calls that have ended, a line of JSON each.
    pub(crate) fn records(&self) -> io::Result<String> {
        match fs::read_to_string(self.directory.0.join(RECORDS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            records => records,
        }
    }

    /// What it has used so far.
    pub(crate) fn usage(&self) -> io::Result<Usage> {
        let invalid = io::ErrorKind::InvalidData;
        let ticks_of = |path: &str| cpu_ticks(&fs::read_to_string(path)?).ok_or(invalid.into());
        let id = self.child.id();
        let everybody = machine_ticks(&fs::read_to_string("/proc/stat")?).ok_or(invalid)?;
        let own: io::Result<u64> = ticks_of("/proc/self/stat");
        let (own, daemon) = (own?, ticks_of(&format!("/proc/{id}/stat"))?);
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        // SAFETY: plain library call.
        let ticks_per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
        let time =
            |ticks: u64| Duration::from_secs_f64(ticks as f64 / ticks_per_second.max(1) as f64);
        Ok(Usage {
            cpu: time(daemon),
            others: time(everybody.saturating_sub(own + daemon)),
            resident_kib: resident_kib(&status).ok_or(invalid)?,
        })
    }

    /// Ends it, by force if it does not go.
    pub(crate) fn stop(mut self) -> io::Result<()> {
        // SAFETY: plain system call; the child is not reaped yet, so the id is still its own.
        unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGTERM) };
        let until = Instant::now() + STOP_WITHIN;
        while self.child.try_wait()?.is_none() && Instant::now() < until {
            thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory that goes when its owner goes.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let path = env::temp_dir().join(format!("tandem-bench-{:016x}", fastrand::u64(..)));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Ports that are free for UDP and TCP now.
fn free_ports() -> io::Result<[SocketAddr; 2]> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    // Held until all are found, so that no two are the same.
    let mut held = Vec::new();
    for _ in 0..16 {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = tcp.local_addr()?;
        match UdpSocket::bind(address) {
            Ok(_) => held.push((address, tcp)),
            Err(error) => last = error,
        }
        if let [(one, _), (other, _)] = held[..] {
            return Ok([one, other]);
        }
    }
    Err(last)
}

fn configuration(
    sip: SocketAddr,
    url: &str,
    calls: u16,
    directory: &Path,
    ingress: Ingress,
    tools: &str,
) -> String {
    let provider = match ingress {
        Ingress::Sip => "openai-realtime",
        Ingress::Forks => "gemini-live",
    };
    let records = directory.join(RECORDS);
    format!(
        r#"[sip]
listen = ["udp:{sip}", "tcp:{sip}"]

[limits]
max_calls = {most}
drain_s = 5

[records]
path = {records:?}

[models.bench]
provider = "{provider}"
base_url = "{url}"
api_key_env = "{KEY}"

[agents.bench]
models = ["bench"]
system_prompt = "You are measured."
speak_first = false
tools = {tools}
max_concurrent_calls = {most}
"#,
        most = calls + 10,
    )
}

/// No event socket: the forks alone start the calls.
fn fork_section(listen: SocketAddr) -> String {
    format!(
        r#"
[freeswitch]
listen = ["{listen}"]
outbound = []
token_env = "{TOKEN_KEY}"
"#
    )
}

/// utime + stime of /proc/<pid>/stat: fields 14 and 15, counted behind the name in parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// All cores' busy ticks of /proc/stat: user, nice, system, irq, softirq, steal; without idle and iowait.
fn machine_ticks(stat: &str) -> Option<u64> {
    let fields = stat.strip_prefix("cpu ")?.lines().next()?.split_whitespace().take(8);
    let fields: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
    let [user, nice, system, _idle, _iowait, irq, softirq, steal] = fields[..] else { return None };
    Some(user + nice + system + irq + softirq + steal)
}

/// VmRSS of /proc/<pid>/status.
fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_past_a_name_with_spaces_and_parentheses() {
        let stat = "4711 (a) b (c) S 1 2 3 0 -1 4194560 100 0 0 0 250 17 0 0 20 0 4 0 9 1 1";
        assert_eq!(cpu_ticks(stat), Some(267));
        assert_eq!(cpu_ticks("4711 (x) S 1"), None);
        assert_eq!(resident_kib("VmPeak:\t  9 kB\nVmRSS:\t   12345 kB\n"), Some(12_345));
        assert_eq!(resident_kib(""), None);
        let stat = "cpu  100 20 30 4000 500 6 7 8 9 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(machine_ticks(stat), Some(171));
        assert_eq!(machine_ticks("cpu  1 2 3\n"), None);
    }

    #[test]
    fn a_scratch_directory_goes_with_its_owner() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.0.clone();
        assert!(path.is_dir());
        drop(scratch);
        assert!(!path.exists());
    }
}
