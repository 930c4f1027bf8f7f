//! The real daemon as a child process, and what its peers need.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod baresip;
pub(crate) mod caller;
pub(crate) mod desk;
pub(crate) mod message;
pub(crate) mod singer;

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything outside may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether a program can be run; a test that needs a peer from Debian says so and passes when it is not there, unless
/// `TANDEM_PEERS=required` is set, as `make test` does.
pub(crate) fn installed(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let required = std::env::var("TANDEM_PEERS").is_ok_and(|value| value == "required");
    assert!(
        found || !required,
        "{program} is not installed; scripts/install-test-tools.sh installs it"
    );
    if !found {
        eprintln!("{program} is not installed: skipped. Run `make test` to have it installed.");
    }
    found
}

/// A daemon that runs until it is dropped.
pub(crate) struct Daemon {
    child: Child,
    /// Its working folder: configuration and records.
    pub(crate) folder: TempDir,
    /// Where it listens for SIP over UDP.
    pub(crate) sip: SocketAddr,
    /// Where it listens for SIP over TCP.
    pub(crate) tcp: SocketAddr,
    records: PathBuf,
    log: mpsc::Receiver<String>,
}

impl Daemon {
    /// Starts the daemon with `config`, to which a SIP listener on a free loopback port and the records' path are
    /// added.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_with_records(config, Path::new("calls.jsonl"))
    }

    /// The same, with its records in another file; a relative path starts from the daemon's folder.
    pub(crate) fn start_with_records(config: &str, records: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("tandem.toml");
        fs::write(&file, completed(config, records)).expect("the configuration can be written");
        let mut child = Command::new(env!("CARGO_BIN_EXE_tandem"))
            .arg("serve")
            .arg("-c")
            .arg(&file)
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "info".into()))
            .env("TEST_MODEL_KEY", tandem_sim::FakeConfig::KEY)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon starts");
        let log = lines(child.stderr.take().expect("stderr is piped"));
        let listens = |transport| loop {
            let line = log.recv_timeout(PATIENCE).expect("the daemon says where it listens");
            if let Some(address) = listening(transport, &line) {
                break address;
            }
        };
        let (sip, tcp) = (listens("udp:"), listens("tcp:"));
        let records = folder.path().join(records);
        Self { child, folder, sip, tcp, records, log }
    }

    /// Replaces the configuration on disk; SIGHUP makes the daemon read it.
    pub(crate) fn write_config(&self, config: &str) {
        let file = self.folder.path().join("tandem.toml");
        fs::write(file, completed(config, &self.records))
            .expect("the configuration can be written");
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the daemon runs").count()
    }

    /// The records on disk.
    pub(crate) fn records(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.records).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]); // One may be just being written.
        whole.lines().map(|line| serde_json::from_str(line).expect("a record is JSON")).collect()
    }

    /// Waits until `count` records are on disk and returns all there are.
    pub(crate) fn wait_for_records(&self, count: usize) -> Vec<Value> {
        wait_until(&format!("{count} call records"), || self.records().len() >= count);
        self.records()
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.expect("kill exists").success());
    }

    /// Waits until the process has ended by itself; its exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let mut code = None;
        wait_until("the daemon to end", || {
            code = self.child.try_wait().expect("the daemon can be waited for");
            code.is_some()
        });
        code.and_then(|status| status.code())
    }

    /// What it logged so far, since it began to listen.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.try_iter().collect()
    }

    /// Waits until it logs a line with `text` in it; that line.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        let give_up = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let left = give_up.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("{text:?} was not logged, but: {seen:#?}"),
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            for line in self.log.try_iter() {
                eprintln!("daemon: {line}");
            }
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// `config` with listeners and the records' path where it names none.
fn completed(config: &str, records: &Path) -> String {
    const LISTEN: &str = "[sip]\nlisten = [\"udp:127.0.0.1:0\", \"tcp:127.0.0.1:0\"]\n";
    let config = if config.contains("[sip]\n") {
        config.replacen("[sip]\n", LISTEN, 1)
    } else {
        format!("{config}\n{LISTEN}")
    };
    format!("{config}\n[records]\npath = {:?}\n", records.display().to_string())
}

/// The address in a line that says what is listened on over `transport`.
fn listening(transport: &str, line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening for SIP")?;
    let (_, address) = rest.split_once(transport)?;
    let end = address
        .find(|c: char| !(c.is_ascii_digit() || ".:[]".contains(c)))
        .unwrap_or(address.len());
    address[..end].parse().ok()
}

fn lines(pipe: impl std::io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if std::env::var_os("TANDEM_TEST_LOG").is_some() {
                eprintln!("daemon: {line}");
            }
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Waits for something outside this process.
pub(crate) fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < give_up, "waited {PATIENCE:?} for {what}");
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// A file of the test's own data.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// Frequencies of [`two_tones`]: what a telephone carries, and what only wideband does.
pub(crate) const TONES: [f64; 2] = [1_000.0, 6_000.0];

/// Sample `n` of a tone within the telephone band and, where the rate has room for it, one above it.
pub(crate) fn two_tones(n: u32, rate: u32) -> i16 {
    let time = f64::from(n) / f64::from(rate);
    let tones = TONES.iter().filter(|hz| **hz < f64::from(rate) / 2.0);
    (tones.map(|hz| (hz * time * std::f64::consts::TAU).sin()).sum::<f64>() * 6_000.0) as i16
}

/// Amplitudes of both tones in the half second of `pcm` that has most of the lower one; other things are said, too.
pub(crate) fn tones_in(pcm: &[i16], rate: usize) -> [f64; 2] {
    pcm.windows(rate / 2)
        .step_by(rate / 4)
        .map(|part| TONES.map(|hz| tone(part, hz / rate as f64)))
        .max_by(|one, other| one[0].total_cmp(&other[0]))
        .unwrap_or_default()
}

/// The amplitude in `pcm` of a tone with so many cycles a sample (Goertzel).
fn tone(pcm: &[i16], frequency: f64) -> f64 {
    let turn = 2.0 * (frequency * std::f64::consts::TAU).cos();
    let (one, two) = pcm
        .iter()
        .fold((0.0, 0.0), |(one, two), &sample| (f64::from(sample) + turn * one - two, one));
    2.0 * (one * one + two * two - turn * one * two).max(0.0).sqrt() / pcm.len() as f64
}
