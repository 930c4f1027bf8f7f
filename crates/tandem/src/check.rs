//! Tries for real what the configuration promises: listeners, ports, records, voice, tools, models.

mod freeswitch;
mod recording;
mod tools;

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    net::{SocketAddr, TcpListener, UdpSocket},
    path::Path,
    process,
};

use serde::Serialize;
use tandem_attendant::Voice;
use tandem_sip::{Listener, Transport};

use crate::{
    config::{Config, MediaConfig, listener_name},
    descriptors,
};

/// How one step came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As promised.
    Passed,
    /// Works, but not as one would like.
    Warning,
    /// Does not work.
    Failed,
    /// Not tried.
    Skipped,
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What: `listener udp:127.0.0.1:5060`.
    pub name: String,
    /// How it came out.
    pub outcome: Outcome,
    /// What was seen.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Step {
    fn new(name: impl Into<String>, outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { name: name.into(), outcome, detail: detail.into(), fix: None }
    }

    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// Tries everything that `config` names, models, webhooks and MCP servers only unless `offline`; each step goes to `report` when it is done.
///
/// Everything that was taken is given back: ports, the test file, model sessions.
pub async fn run(config: &Config, offline: bool, mut report: impl FnMut(Step)) {
    for listener in &config.sip.listen {
        report(try_listener(listener));
    }
    report(try_ports(&config.media));
    report(try_descriptors(config.limits.max_calls));
    report(try_records(&config.records.path));
    recording::run(config, &mut report).await;
    if let Some(beside) = &config.freeswitch {
        freeswitch::run(beside, &mut report).await;
    }
    let voice = Voice::open(config.voice.clone(), tokio::runtime::Handle::current());
    try_voice(&voice, &mut report).await;
    tools::try_phrases(config, &voice, &mut report).await;
    tools::run(config, offline, &mut report).await;
    try_models(config, offline, &mut report).await;
}

fn try_listener(listener: &Listener) -> Step {
    let name = format!("listener {}", listener_name(listener));
    let bound = match listener.transport {
        Transport::Udp => UdpSocket::bind(listener.addr).map(drop),
        Transport::Tcp => TcpListener::bind(listener.addr).map(drop),
    };
    let Err(error) = bound else { return Step::new(name, Outcome::Passed, "can be bound") };
    Step::new(name, Outcome::Failed, error.to_string()).fix(bind_failure(&error, "sip.listen"))
}

/// What to do about an address of `key` that can't be bound.
fn bind_failure(error: &io::Error, key: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "something listens there already, perhaps Tandem itself: stop it, or choose another port"
                .into()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address: see `ip address`".into()
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE".into(),
        _ => format!("choose another address in {key}"),
    }
}

fn try_ports(media: &MediaConfig) -> Step {
    let name = "RTP ports";
    let range = format!("{}-{} on {}", media.ports.start(), media.ports.end(), media.bind);
    let first = media.ports.start().next_multiple_of(2);
    let (mut free, mut last_error) = (0, None);
    for pair in 0..media.capacity() {
        let port = first + (pair * 2) as u16;
        let bind = |port| UdpSocket::bind(SocketAddr::new(media.bind, port));
        match bind(port).and_then(|rtp| bind(port + 1).map(|rtcp| (rtp, rtcp))) {
            Ok(_) => free += 1,
            Err(error) => last_error = Some(error),
        }
    }
    match last_error {
        None => Step::new(name, Outcome::Passed, format!("{range}, room for {free} calls")),
        Some(error) if free == 0 => Step::new(name, Outcome::Failed, format!("{range}: {error}"))
            .fix("choose another range in media.ports, or another address in media.bind"),
        Some(_) => Step::new(
            name,
            Outcome::Warning,
            format!("{range}: {} of {} pairs are in use", media.capacity() - free, media.capacity()),
        )
        .fix("they are passed over; choose a range that nothing else uses, outside of net.ipv4.ip_local_port_range"),
    }
}

fn try_descriptors(max_calls: u32) -> Step {
    let name = "file descriptors";
    let needed = descriptors::needed_for(max_calls);
    match descriptors::most() {
        Ok(most) if most >= needed => {
            Step::new(name, Outcome::Passed, format!("{most} are allowed, {max_calls} calls take {needed}"))
        }
        Ok(most) => Step::new(
            name,
            Outcome::Warning,
            format!("{most} are allowed, {max_calls} calls take {needed}"),
        )
        .fix(format!("LimitNOFILE={needed} in the unit file, `ulimit -Hn {needed}`, or a lower limits.max_calls")),
        Err(error) => Step::new(name, Outcome::Warning, format!("the limit can't be read: {error}")),
    }
}

fn try_records(path: &Path) -> Step {
    let name = "records";
    match write_for_real(path) {
        Ok(detail) => Step::new(name, Outcome::Passed, format!("{}: {detail}", path.display())),
        Err(error) => Step::new(name, Outcome::Failed, format!("{}: {error}", path.display()))
            .fix("name a file in records.path that this user may write, on a disk with room"),
    }
}

/// Writes and syncs a file beside `path`, and opens `path` itself if it exists.
fn write_for_real(path: &Path) -> io::Result<&'static str> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let existing = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    let probe = existing.join(format!(".tandem-check-{}", process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&probe)?;
    let written = write_and_sync(&mut file);
    drop(file);
    fs::remove_file(&probe)?;
    written?;
    if path.exists() {
        OpenOptions::new().append(true).open(path)?.sync_all()?;
    }
    Ok(if existing == folder { "can be written and synced" } else { "its folder will be made" })
}

fn write_and_sync(file: &mut File) -> io::Result<()> {
    file.write_all(&[b' '; 4096])?;
    file.sync_all()
}

async fn try_voice(voice: &Voice, report: &mut impl FnMut(Step)) {
    let tried = voice.try_engines().await;
    let speaks = tried.iter().any(|(_, spoken)| spoken.is_ok());
    for (engine, spoken) in &tried {
        let name = format!("voice {engine:?}");
        report(match spoken {
            Ok(length) => Step::new(
                name,
                Outcome::Passed,
                format!("said a word of {} ms", length.as_millis()),
            ),
            Err(error) if speaks => Step::new(name, Outcome::Skipped, error.to_string()),
            Err(error) => Step::new(name, Outcome::Warning, error.to_string())
                .fix("apt install flite; until then the attendant speaks in recorded phrases"),
        });
    }
    if tried.is_empty() {
        report(Step::new("voice", Outcome::Warning, "no speech program is configured").fix(
            "name one in attendant.engines; until then the attendant speaks in recorded phrases",
        ));
    }
}

async fn try_models(config: &Config, offline: bool, report: &mut impl FnMut(Step)) {
    let named: BTreeSet<&str> = config
        .agents
        .values()
        .flat_map(|agent| agent.models.iter().chain(&agent.models_without_key))
        .map(String::as_str)
        .collect();
    for (name, model) in &config.models {
        if !model.written && !named.contains(name.as_str()) {
            continue;
        }
        let title = format!("model {name}");
        let what = &model.settings.model;
        if let Some(why) = &model.missing_key {
            report(
                Step::new(title, Outcome::Warning, format!("{what}: {why}")).fix(
                    "until it has a key, agents pass it over and the offline attendant answers",
                ),
            );
        } else if offline {
            report(Step::new(title, Outcome::Skipped, format!("{what}: not dialled (--offline)")));
        } else {
            report(match tandem_models::probe(&model.settings).await {
                Ok(probe) => Step::new(
                    title,
                    Outcome::Passed,
                    format!("{what}: session ready after {} ms", probe.ready_after.as_millis()),
                ),
                Err(why) => Step::new(title, Outcome::Failed, format!("{what}: {why}"))
                    .fix("check key, model name and network; --offline passes over this step"),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_listener_in_use_fails_and_a_free_one_is_given_back() {
        let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = taken.local_addr().unwrap();
        let listener = Listener { transport: Transport::Udp, addr };
        let step = try_listener(&listener);
        assert_eq!(step.outcome, Outcome::Failed);
        assert!(step.fix.unwrap().contains("perhaps Tandem itself"));
        drop(taken);
        for _ in 0..2 {
            assert_eq!(try_listener(&listener).outcome, Outcome::Passed);
        }
    }

    #[test]
    fn ports_in_use_are_counted() {
        let held = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = held.local_addr().unwrap().port() & !1;
        let media = MediaConfig {
            bind: Ipv4Addr::LOCALHOST.into(),
            ports: port..=port + 1,
            ..MediaConfig::default()
        };
        assert_eq!(try_ports(&media).outcome, Outcome::Failed);
    }

    #[test]
    fn records_need_a_folder_that_can_be_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("calls.jsonl");
        let step = try_records(&path);
        assert_eq!(step.outcome, Outcome::Passed, "{step:?}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
        let step = try_records(&directory.path().join("deep/er/calls.jsonl"));
        assert!(step.detail.ends_with("its folder will be made"), "{step:?}");
        let step = try_records(Path::new("/proc/tandem/calls.jsonl"));
        assert_eq!(step.outcome, Outcome::Failed);
    }
}
