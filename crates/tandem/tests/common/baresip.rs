//! baresip, a softphone, as a child process that is told what to do over its control port.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::wait_until;

/// Where Debian puts its modules.
const MODULES: &[&str] = &[
    "/usr/lib/baresip/modules",
    "/usr/lib/x86_64-linux-gnu/baresip/modules",
    "/usr/lib/aarch64-linux-gnu/baresip/modules",
];

/// A phone that says a WAV file over and over and writes down what it hears.
pub(crate) struct Baresip {
    child: Child,
    folder: TempDir,
    control: TcpStream,
    unread: Vec<u8>,
    events: Vec<Value>,
    /// Its SIP port on loopback.
    pub(crate) port: u16,
}

impl Baresip {
    /// Starts a phone with the user name `name` that speaks PCMU; it answers calls by itself if told so.
    pub(crate) fn start(name: &str, answers: bool, says: &Path) -> Self {
        Self::with_codec(name, answers, says, "PCMU/8000/1")
    }

    /// The same with a codec as baresip names it: name, its sample rate, channels.
    pub(crate) fn with_codec(name: &str, answers: bool, says: &Path, codec: &str) -> Self {
        Self::with_account(name, answers, says, &format!("audio_codecs={codec}"))
    }

    /// The same with media encrypted as baresip names it: `srtp`, `srtp-mand`, `dtls_srtp`.
    pub(crate) fn with_encryption(name: &str, answers: bool, says: &Path, kind: &str) -> Self {
        let account = format!("audio_codecs=PCMU/8000/1;mediaenc={kind}");
        Self::with_account(name, answers, says, &account)
    }

    fn with_account(name: &str, answers: bool, says: &Path, parameters: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let (port, control_port) = (free_udp_port(), free_tcp_port());
        let path = folder.path();
        let modules =
            MODULES.iter().find(|path| Path::new(path).exists()).expect("baresip has its modules");
        let rtp = 30_000 + u32::from(port) % 1_000 * 20;
        let config = format!(
            "sip_listen 127.0.0.1:{port}\nnet_interface 127.0.0.1\nrtp_ports {rtp}-{}\njitter_buffer_delay 1-5\n\
             audio_source aufile,{}\naudio_player aufile,{}\naudio_alert aufile,{}\nsnd_path {}\n\
             opus_stereo no\nopus_sprop_stereo no\n\
             module_path {modules}\nmodule g711.so\nmodule g722.so\nmodule opus.so\nmodule l16.so\n\
             module srtp.so\nmodule dtls_srtp.so\n\
             module aufile.so\nmodule sndfile.so\nmodule_tmp account.so\n\
             module_app menu.so\nmodule_app ctrl_tcp.so\nctrl_tcp_listen 127.0.0.1:{control_port}\n",
            rtp + 18,
            says.display(),
            path.join("player.wav").display(),
            path.join("alert.wav").display(),
            path.display(),
        );
        fs::write(path.join("config"), config).expect("the configuration can be written");
        let mode = if answers { "auto" } else { "manual" };
        let account = format!(
            "<sip:{name}@127.0.0.1:{port};transport=udp>;regint=0;answermode={mode};{parameters}\n"
        );
        fs::write(path.join("accounts"), account).expect("the account can be written");
        fs::write(path.join("contacts"), "").expect("the contacts can be written");
        let log = fs::File::create(path.join("log")).expect("the log can be written");
        let child = Command::new("baresip")
            .arg("-f")
            .arg(path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be cloned"))
            .stderr(log)
            .spawn()
            .expect("baresip starts");
        let mut control = None;
        wait_until("baresip's control port", || {
            control = TcpStream::connect(("127.0.0.1", control_port)).ok();
            control.is_some()
        });
        let control = control.expect("it was waited for");
        control.set_read_timeout(Some(Duration::from_millis(20))).expect("a time-out can be set");
        Self { child, folder, control, unread: Vec::new(), events: Vec::new(), port }
    }

    /// Gives a command of baresip's menu, such as `dial` or `sndcode`.
    pub(crate) fn command(&mut self, command: &str, params: &str) {
        let message = json!({ "command": command, "params": params }).to_string();
        write!(self.control, "{}:{message},", message.len()).expect("baresip takes commands");
    }

    /// Waits for an event of this type, and of this peer if one is named.
    pub(crate) fn wait_for_event(&mut self, kind: &str, peer: &str) {
        let what = format!("baresip's {kind}");
        wait_until(&what, || {
            self.read_events();
            self.events.iter().any(|event| {
                event["type"] == kind
                    && event["peeruri"].as_str().is_some_and(|uri| uri.contains(peer))
            })
        });
    }

    /// What was heard in all calls so far, oldest call first: samples at the codec's rate, of which the first channel.
    pub(crate) fn heard(&self) -> Vec<Vec<i16>> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.folder.path())
            .expect("the folder is there")
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.to_str().is_some_and(|path| path.ends_with("-dec.wav")))
            .collect();
        files.sort();
        files.iter().map(|file| pcm(&fs::read(file).expect("a recording can be read"))).collect()
    }

    fn read_events(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = self.control.read(&mut buffer) {
            self.unread.extend_from_slice(&buffer[..length]);
        }
        while let Some(colon) = self.unread.iter().position(|&byte| byte == b':') {
            let length: usize = std::str::from_utf8(&self.unread[..colon])
                .ok()
                .and_then(|digits| digits.parse().ok())
                .expect("baresip speaks netstrings");
            let end = colon + 1 + length;
            if self.unread.len() <= end {
                return;
            }
            if let Ok(event) = serde_json::from_slice(&self.unread[colon + 1..end]) {
                self.events.push(event);
            }
            self.unread.drain(..=end);
        }
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("baresip's events: {:#?}", self.events);
            eprintln!("{}", fs::read_to_string(self.folder.path().join("log")).unwrap_or_default());
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The first channel of a WAV file whose header may not be finished: baresip fills it in when a call ends.
fn pcm(wav: &[u8]) -> Vec<i16> {
    let channels = wav.get(22).copied().unwrap_or(1).clamp(1, 2);
    wav.get(44..)
        .unwrap_or_default()
        .chunks_exact(2 * usize::from(channels))
        .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
        .collect()
}

fn free_udp_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .expect("a port is free")
        .port()
}

fn free_tcp_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .expect("a port is free")
        .port()
}
