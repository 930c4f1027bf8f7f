//! The switch itself: channels, connections, forks, jobs, and the events between them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use fastrand::Rng;
use tokio::sync::Notify;

use super::{
    channel::{Channel, carries_variables},
    event::{Stamp, SwitchEvent},
    fork::Fork,
    originate::Originate,
    session::Session,
    settings::{SwitchConfig, Target},
    view::EndedChannels,
};

/// The packet time, and the beat of every channel.
pub(crate) const FRAME: Duration = Duration::from_millis(20);

/// Events that are kept for tests to look at; the oldest go first.
const MOST_EVENTS: usize = 20_000;

/// Commands that are kept likewise.
const MOST_COMMANDS: usize = 20_000;

/// Bytes of files that are kept.
const MOST_FILE_SAMPLES: usize = 64 << 20;

/// A command as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenCommand {
    /// When.
    pub at: Instant,
    /// The whole line, as `api uuid_kill …`; of `sendmsg` the headers too, after line feeds.
    pub line: String,
    /// It came on an outbound socket, that of this channel.
    pub channel: Option<String>,
}

/// What is wrong with the switch on purpose.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Connections stay open, nothing is read and nothing said on them.
    pub frozen: bool,
    /// The next events are lost.
    pub lose_events: usize,
    /// Events of these names, or subclasses, are lost.
    pub lose_named: BTreeSet<String>,
    /// Each command waits so long before it is carried out.
    pub reply_delay: Duration,
    /// A command that begins so hangs for ever, and with it its connection.
    pub hang_on: Vec<String>,
    /// New connections are refused by the access list.
    pub rude: bool,
}

/// A websocket or socket that is to be opened for the switch.
#[derive(Debug)]
pub(crate) enum Dial {
    Fork(u64),
    Socket { session: u64, address: String },
}

/// A file that can be played.
#[derive(Debug, Clone)]
pub(crate) struct StoredFile {
    pub(crate) rate: u32,
    pub(crate) samples: Vec<i16>,
    /// The channel whose fork made it: it goes with the fork.
    pub(crate) owner: Option<String>,
}

/// A conference: its members by number.
#[derive(Debug, Default)]
pub(crate) struct Conference {
    pub(crate) uuid: String,
    pub(crate) next_member: u32,
    pub(crate) members: Vec<(u32, String)>,
    pub(crate) muted: BTreeSet<u32>,
    /// It ends when one of the last two leaves.
    pub(crate) min_two: bool,
}

/// Where the result of a command goes that takes its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// `api`: the connection waits for it.
    Session(u64),
    /// `bgapi`: an event.
    Job { uuid: String, command: String, argument: String, owner: Option<String> },
    /// Nobody asked for it.
    Nobody,
}

/// A FreeSWITCH as a machine without socket and clock. Sockets are driven by [`FakeSwitch`](super::FakeSwitch).
#[derive(Debug)]
pub(crate) struct SwitchModel {
    pub(crate) config: SwitchConfig,
    pub(crate) started: Instant,
    epoch: Duration,
    pub(crate) core_uuid: String,
    pub(crate) rng: Rng,
    sequence: u64,
    serial: u64,
    next_id: u64,
    pub(crate) channels: BTreeMap<String, Channel>,
    pub(crate) sessions: BTreeMap<u64, Session>,
    pub(crate) forks: BTreeMap<u64, Fork>,
    pub(crate) originates: BTreeMap<u64, Originate>,
    pub(crate) conferences: BTreeMap<String, Conference>,
    pub(crate) valet: BTreeMap<(String, String), String>,
    pub(crate) files: BTreeMap<String, StoredFile>,
    file_samples: usize,
    /// By what a dial string contains; the longest match counts.
    pub(crate) targets: Vec<(String, Target)>,
    pub(crate) scheduled: Vec<(Instant, String, String)>,
    pub(crate) paused: bool,
    pub(crate) faults: Faults,
    pub(crate) dials: VecDeque<Dial>,
    pub(crate) events: VecDeque<SwitchEvent>,
    pub(crate) commands: VecDeque<SeenCommand>,
    pub(crate) sessions_since_start: u64,
    pub(crate) ended: EndedChannels,
    /// Told whenever something happened that a test may wait for.
    pub(crate) changed: Arc<Notify>,
    /// Told whenever a timer may be due earlier, or there is something to dial.
    pub(crate) wake: Arc<Notify>,
}

impl SwitchModel {
    /// A switch that starts `now`, which is `epoch` after 1970.
    pub(crate) fn new(config: SwitchConfig, now: Instant, epoch: Duration) -> Self {
        let mut rng = Rng::with_seed(config.seed);
        let core_uuid = uuid(&mut rng);
        Self {
            config,
            started: now,
            epoch,
            core_uuid,
            rng,
            sequence: 500,
            serial: 0,
            next_id: 1,
            channels: BTreeMap::new(),
            sessions: BTreeMap::new(),
            forks: BTreeMap::new(),
            originates: BTreeMap::new(),
            conferences: BTreeMap::new(),
            valet: BTreeMap::new(),
            files: BTreeMap::new(),
            file_samples: 0,
            targets: Vec::new(),
            scheduled: Vec::new(),
            paused: false,
            faults: Faults::default(),
            dials: VecDeque::new(),
            events: VecDeque::new(),
            commands: VecDeque::new(),
            sessions_since_start: 0,
            ended: EndedChannels::default(),
            changed: Arc::default(),
            wake: Arc::default(),
        }
    }

    /// A new number for a session, fork or originate.
    pub(crate) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn new_uuid(&mut self) -> String {
        uuid(&mut self.rng)
    }

    /// A new number for a channel, rising by age.
    pub(crate) fn new_serial(&mut self) -> u64 {
        self.serial += 1;
        self.sessions_since_start += 1;
        self.serial
    }

    /// Microseconds since 1970.
    pub(crate) fn micros(&self, now: Instant) -> u64 {
        (self.epoch + now.saturating_duration_since(self.started)).as_micros() as u64
    }

    pub(crate) fn stamp(&self, now: Instant) -> Stamp {
        Stamp::at(self.epoch + now.saturating_duration_since(self.started))
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let ticks = self.channels.values().map(|channel| channel.next_tick);
        let sessions = self.sessions.values().filter_map(|session| session.due(self.faults.frozen));
        let scheduled = self.scheduled.iter().map(|(due, ..)| *due);
        let originates = self.originates.values().map(|originate| originate.deadline);
        ticks.chain(sessions).chain(scheduled).chain(originates).min()
    }

    /// Does everything that is due by `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        loop {
            let due = self.channels.values().filter(|channel| channel.next_tick <= now);
            let mut due: Vec<_> = due
                .map(|channel| (channel.next_tick, channel.serial, channel.uuid.clone()))
                .collect();
            if due.is_empty() {
                break;
            }
            due.sort_unstable();
            for (at, _, uuid) in due {
                self.tick(&uuid, at);
            }
        }
        self.check_originates(now);
        while let Some(index) = self.scheduled.iter().position(|(due, ..)| *due <= now) {
            let (_, uuid, cause) = self.scheduled.swap_remove(index);
            self.hang_up(now, &uuid, &cause);
        }
        let ids: Vec<u64> = self.sessions.keys().copied().collect();
        for id in ids {
            self.serve_session(now, id);
        }
    }

    /// The headers every event begins with; CUSTOM ones are given as their subclass.
    pub(crate) fn begin_event(
        &mut self,
        now: Instant,
        name: &str,
        origin: (&str, &str),
    ) -> SwitchEvent {
        let stamp = self.stamp(now);
        self.sequence += 1;
        let mut event = SwitchEvent::new();
        if name.contains("::") {
            event.push("Event-Subclass", name);
            event.push("Event-Name", "CUSTOM");
        } else {
            event.push("Event-Name", name);
        }
        event.push("Core-UUID", self.core_uuid.as_str());
        event.push("FreeSWITCH-Hostname", "fs.example");
        event.push("FreeSWITCH-Switchname", "fslab");
        event.push("FreeSWITCH-IPv4", "192.0.2.2");
        event.push("FreeSWITCH-IPv6", "fd00::2");
        event.push("Event-Date-Local", stamp.local);
        event.push("Event-Date-GMT", stamp.gmt);
        event.push("Event-Date-Timestamp", stamp.micros.to_string());
        event.push("Event-Calling-File", origin.0);
        event.push("Event-Calling-Function", origin.1);
        event.push("Event-Calling-Line-Number", "1");
        event.push("Event-Sequence", self.sequence.to_string());
        event
    }

    /// Raises an event about a channel: `before` goes ahead of what describes the channel, `after` behind it.
    pub(crate) fn raise(
        &mut self,
        now: Instant,
        uuid: &str,
        name: &str,
        before: &[(&'static str, &str)],
        after: &[(&'static str, &str)],
    ) {
        self.raise_with_body(now, uuid, name, before, after, None);
    }

    pub(crate) fn raise_with_body(
        &mut self,
        now: Instant,
        uuid: &str,
        name: &str,
        before: &[(&'static str, &str)],
        after: &[(&'static str, &str)],
        body: Option<&str>,
    ) {
        let mut event = self.begin_event(now, name, origin_of(name));
        for (name, value) in before {
            event.push(*name, *value);
        }
        if let Some(channel) = self.channels.get(uuid) {
            channel.describe(&mut event);
            if let Some(peer) = channel.peer.as_ref().and_then(|peer| self.channels.get(peer)) {
                event.push("Other-Type", if channel.inbound { "originatee" } else { "originator" });
                peer.describe_profile("Other-Leg", &mut event);
            }
            if carries_variables(event.name()) || channel.is_true("verbose_events") {
                channel.describe_variables(&mut event);
            }
        }
        for (name, value) in after {
            event.push(*name, *value);
        }
        if let Some(body) = body {
            event.set_body(body);
        }
        self.publish(event);
    }

    /// Hands an event to every connection that wants it.
    pub(crate) fn publish(&mut self, event: SwitchEvent) {
        let named = self.faults.lose_named.contains(event.name())
            || event.subclass().is_some_and(|class| self.faults.lose_named.contains(class));
        let lost = named || self.faults.lose_events > 0;
        if !named && lost {
            self.faults.lose_events -= 1;
        }
        if !lost {
            let mut frames = [const { None::<String> }; 3];
            for session in self.sessions.values_mut().filter(|session| session.wants(&event)) {
                let frame = frames[session.format as usize]
                    .get_or_insert_with(|| event.frame(session.format));
                session.send(frame);
            }
        }
        if self.events.len() >= MOST_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
        self.changed.notify_waiters();
    }

    /// Gives the result of a command that took its time to whoever waits for it.
    pub(crate) fn deliver(&mut self, now: Instant, waiting: &Waiting, result: &str) {
        match waiting {
            Waiting::Session(id) => {
                if let Some(session) = self.sessions.get_mut(id) {
                    session.waits = false;
                    session.api_response(result);
                }
                self.wake.notify_one();
            }
            Waiting::Job { uuid, command, argument, owner } => {
                let mut event =
                    self.begin_event(now, "BACKGROUND_JOB", origin_of("BACKGROUND_JOB"));
                event.push("Job-UUID", uuid.as_str());
                if let Some(owner) = owner {
                    event.push("Job-Owner-UUID", owner.as_str());
                }
                event.push("Job-Command", command.as_str());
                if !argument.is_empty() {
                    event.push("Job-Command-Arg", argument.as_str());
                }
                event.set_body(result);
                self.publish(event);
            }
            Waiting::Nobody => {}
        }
    }

    pub(crate) fn saw_command(&mut self, at: Instant, line: String, channel: Option<String>) {
        if self.commands.len() >= MOST_COMMANDS {
            self.commands.pop_front();
        }
        self.commands.push_back(SeenCommand { at, line, channel });
        self.changed.notify_waiters();
    }

    pub(crate) fn store_file(&mut self, path: String, file: StoredFile) {
        self.file_samples += file.samples.len();
        while self.file_samples > MOST_FILE_SAMPLES
            && let Some((_, old)) = self.files.pop_first()
        {
            self.file_samples -= old.samples.len();
        }
        if let Some(old) = self.files.insert(path, file) {
            self.file_samples -= old.samples.len();
        }
    }

    /// Forgets the files of a channel's forks.
    pub(crate) fn drop_files_of(&mut self, uuid: &str) {
        let mut freed = 0;
        self.files.retain(|_, file| {
            let keep = file.owner.as_deref() != Some(uuid);
            if !keep {
                freed += file.samples.len();
            }
            keep
        });
        self.file_samples -= freed;
    }
}

/// A random uuid of version 4.
pub(crate) fn uuid(rng: &mut Rng) -> String {
    let bits = rng.u128(..) & !(0xF000_u128 << 64) & !(0xC000_u128 << 48)
        | (0x4000_u128 << 64)
        | (0x8000_u128 << 48);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The file and function of the real switch that raise an event.
fn origin_of(name: &str) -> (&'static str, &'static str) {
    match name {
        "CHANNEL_CREATE" | "CHANNEL_ORIGINATE" => {
            ("switch_core_state_machine.c", "switch_core_session_run")
        }
        "CHANNEL_HANGUP_COMPLETE" => {
            ("switch_core_state_machine.c", "switch_core_session_reporting_state")
        }
        "CHANNEL_ANSWER" => ("switch_channel.c", "switch_channel_perform_mark_answered"),
        "CHANNEL_PROGRESS" => ("switch_channel.c", "switch_channel_perform_mark_ring_ready_value"),
        "CHANNEL_PROGRESS_MEDIA" => {
            ("switch_channel.c", "switch_channel_perform_mark_pre_answered")
        }
        "CHANNEL_STATE" => ("switch_channel.c", "switch_channel_perform_set_running_state"),
        "CHANNEL_CALLSTATE" => ("switch_channel.c", "switch_channel_perform_set_callstate"),
        "CHANNEL_HANGUP" => ("switch_channel.c", "switch_channel_perform_hangup"),
        "DTMF" => ("switch_channel.c", "switch_channel_dequeue_dtmf"),
        "CHANNEL_EXECUTE" | "CHANNEL_EXECUTE_COMPLETE" => {
            ("switch_core_session.c", "switch_core_session_exec")
        }
        "CHANNEL_DESTROY" => ("switch_core_session.c", "switch_core_session_perform_destroy"),
        "CHANNEL_OUTGOING" => ("switch_core_session.c", "switch_core_session_outgoing_channel"),
        "CHANNEL_PARK" | "CHANNEL_UNPARK" => ("switch_ivr.c", "switch_ivr_park"),
        "CHANNEL_HOLD" => ("switch_ivr.c", "switch_ivr_hold"),
        "CHANNEL_UNHOLD" => ("switch_ivr.c", "switch_ivr_unhold"),
        "CHANNEL_BRIDGE" | "CHANNEL_UNBRIDGE" => {
            ("switch_ivr_bridge.c", "switch_ivr_multi_threaded_bridge")
        }
        "CALL_UPDATE" => ("mod_sofia.c", "sofia_receive_message"),
        "PLAYBACK_START" | "PLAYBACK_STOP" => ("switch_ivr_play_say.c", "switch_ivr_play_file"),
        "RECORD_START" => ("switch_ivr_async.c", "record_callback"),
        "RECORD_STOP" => ("switch_ivr_async.c", "send_record_stop_event"),
        "MEDIA_BUG_START" => ("switch_core_media_bug.c", "switch_core_media_bug_add"),
        "MEDIA_BUG_STOP" => ("switch_core_media_bug.c", "switch_core_media_bug_destroy"),
        "BACKGROUND_JOB" => ("mod_event_socket.c", "api_exec"),
        "API" => ("switch_loadable_module.c", "switch_api_execute"),
        "valet_parking::info" => ("mod_valet_parking.c", "valet_parking_function"),
        "conference::maintenance" => ("conference_event.c", "conference_member_add"),
        _ if name.starts_with("mod_audio_fork::") => ("mod_audio_fork.c", "responseHandler"),
        _ if name.starts_with("mod_audio_stream::") => ("mod_audio_stream.c", "responseHandler"),
        _ => ("switch_core.c", "switch_core"),
    }
}
