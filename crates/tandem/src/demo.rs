//! `tandem demo`: a daemon with the offline attendant, and a caller who calls it over real SIP and RTP.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tandem_media::{Codec, SampleRate};
use tandem_sip::Transport;

use crate::{
    config::Config,
    serve::{Daemon, ServeError},
    softphone::{self, Action, CallError, CallPlan, CallReport, Clip, Cue},
};

/// The workshop's attendant.
const CONFIG: &str = include_str!("../demo/demo.toml");

/// What the caller says, and when: a question; a second one over the answer; a message; a goodbye.
const LINES: [(&str, &[u8]); 4] = [
    ("after1+400ms", include_bytes!("../demo/caller-1.wav")),
    ("during2+3s", include_bytes!("../demo/caller-2.wav")),
    ("after3+400ms", include_bytes!("../demo/caller-3.wav")),
    ("after4+400ms", include_bytes!("../demo/caller-4.wav")),
];

/// The longest the conversation may take.
const LONGEST: Duration = Duration::from_secs(90);

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A file of the demo can't be written.
    #[error("{}: {source}; name another directory with --dir", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The daemon did not start.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The call could not be made.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The call was made, and something of what a demo is to show did not happen.
    #[error("the call did not go as it should: {0}")]
    Missing(String),
}

/// Calls the attendant and leaves `call.wav` and `calls.jsonl` in `folder`. What happens is told to `show`.
///
/// Fails, after the report was shown, when the conversation had fewer than three turns, no barge-in, no tool call, or no goodbye.
pub async fn run(
    folder: &Path,
    show: &dyn Fn(&str),
    report: &dyn Fn(&CallReport),
) -> Result<(), DemoError> {
    fs::create_dir_all(folder)
        .map_err(|source| DemoError::File { path: folder.to_owned(), source })?;
    let (config, findings) = Config::read(&folder.join("demo.toml"), CONFIG, &|_| None);
    let config =
        config.unwrap_or_else(|| panic!("the demo's own configuration is good: {findings}"));
    let ledger = config.records.path.clone();
    let mut daemon = Daemon::start(config).await?;
    daemon.warmed().await; // The caller must not wait for sentences that are still being rendered.
    let address = daemon
        .sip()
        .listeners()
        .iter()
        .find(|listener| listener.transport == Transport::Udp)
        .expect("the demo's configuration listens on UDP")
        .addr;
    let plan = CallPlan {
        target: format!("sip:13055551234@{address}").parse().expect("an address makes a URI"),
        from: "+13055550100".into(),
        cues: cues(),
        record: Some(folder.join("call.wav")),
        duration: LONGEST,
        media_timeout: Duration::from_secs(10),
        credentials: None,
        headers: Vec::new(),
        codecs: vec![Codec::PCMU, Codec::PCMA],
        srtp: None,
        local: None,
        ledger: Some(ledger),
    };
    let called = softphone::call(plan, show).await;
    daemon.stop().await;
    let called = called?;
    report(&called);
    complete(&called)
}

fn cues() -> Vec<(Cue, Action)> {
    let mut cues = Vec::new();
    for (when, wav) in LINES {
        let when = when.parse().expect("the demo's cues are good");
        cues.push((when, Action::Play(clip(wav))));
    }
    cues
}

/// The samples of one of the caller's lines: they are shipped as telephone audio, mono at 8 kHz.
fn clip(wav: &[u8]) -> Clip {
    let reader = hound::WavReader::new(wav).expect("the caller's lines are WAV files");
    let samples = reader.into_samples().map(|sample| sample.expect("the caller's lines are whole"));
    Clip { rate: SampleRate::Hz8000, pcm: samples.collect() }
}

/// Whether the record shows what a demo is to show.
fn complete(report: &CallReport) -> Result<(), DemoError> {
    let missing = |what: &str| Err(DemoError::Missing(what.into()));
    let Some(record) = &report.record else {
        return missing("there is no call record");
    };
    let count = |list: &str, good: &dyn Fn(&serde_json::Value) -> bool| {
        record[list].as_array().map_or(0, |list| list.iter().filter(|entry| good(entry)).count())
    };
    if count("turns", &|_| true) < 3 {
        return missing("fewer than three turns");
    }
    if count("turns", &|turn| turn["barge_in_ms"].is_number()) == 0 {
        return missing("no barge-in");
    }
    // The demo's message has no receiver: it is noted in the record.
    let done = ["ok", "fallback_noted"];
    if count("tools", &|tool| tool["outcome"].as_str().is_some_and(|it| done.contains(&it))) == 0 {
        return missing("no tool was carried out");
    }
    if record["end_reason"] != "caller_goodbye" {
        return missing("the attendant did not end it with a goodbye");
    }
    Ok(())
}
