//! Applications of the dialplan.

use std::time::{Duration, Instant};

use super::{
    arguments,
    audio::{self, Sound},
    channel::{Channel, Kind, Queued, Reroute, Running, cause},
    model::{Conference, Dial, SwitchModel, Waiting},
    originate::Order,
    session::{Control, Session},
};

/// The switch's global variable `domain`.
pub(crate) const DOMAIN: &str = "127.0.0.1";

/// Most applications that wait on one channel.
const MOST_QUEUED: usize = 1_000;

/// Dialplan actions done in one go, so that no plan runs in circles for ever.
const MOST_ACTIONS: usize = 200;

impl SwitchModel {
    /// Has an application run as soon as the channel polls for it.
    pub(crate) fn queue_app(&mut self, uuid: &str, queued: Queued) {
        if let Some(channel) = self.channels.get_mut(uuid)
            && channel.queue.len() < MOST_QUEUED
        {
            channel.queue.push_back(queued);
        }
    }

    /// Runs what waits on a channel, as far as it can run now.
    pub(crate) fn run_queue(&mut self, now: Instant, uuid: &str) {
        let lead = self.config.broadcast_lead;
        for _ in 0..MOST_ACTIONS {
            let Some(channel) = self.channels.get_mut(uuid).filter(|channel| channel.is_up())
            else {
                return;
            };
            let plays = matches!(
                channel.stack.last().map(|running| &running.kind),
                Some(Kind::Play { .. })
            );
            let Some(first) = channel.queue.front_mut() else { return };
            if plays && (first.locked || first.broadcast) {
                return;
            }
            // Frames are read first, from the moment the channel polls for it.
            if first.broadcast && *first.not_before.get_or_insert(now + lead) > now {
                return;
            }
            let Some(next) = channel.queue.pop_front() else { return };
            self.run_app(now, uuid, &next.app, &next.data, next.uuid);
        }
    }

    /// Goes on with the dialplan where nothing runs.
    pub(crate) fn advance_plan(&mut self, now: Instant, uuid: &str) {
        for _ in 0..MOST_ACTIONS {
            let Some(channel) = self.channels.get_mut(uuid) else { return };
            let waits =
                channel.originate.is_some() || channel.reroute.is_some() || !channel.is_up();
            if waits || !channel.stack.is_empty() {
                return;
            }
            match channel.plan.pop_front() {
                Some((app, data)) => self.run_app(now, uuid, &app, &data, None),
                None => {
                    self.hang_up(now, uuid, "NORMAL_CLEARING");
                    return;
                }
            }
        }
    }

    /// Runs an application: one that takes no time is over when this returns.
    pub(crate) fn run_app(
        &mut self,
        now: Instant,
        uuid: &str,
        app: &str,
        data: &str,
        app_uuid: Option<String>,
    ) {
        let data = self.expanded(uuid, data);
        if !known_app(app) {
            self.hang_up(now, uuid, "DESTINATION_OUT_OF_ORDER");
            return;
        }
        let app_uuid = match app_uuid {
            Some(app_uuid) => app_uuid,
            None => self.new_uuid(),
        };
        if let Some(channel) = self.channels.get_mut(uuid) {
            channel.set_variable("current_application_data", &data);
            channel.set_variable("current_application", app);
        }
        let mut extra = vec![("Application", app)];
        if !data.is_empty() {
            extra.push(("Application-Data", &data));
        }
        extra.push(("Application-UUID", &app_uuid));
        self.raise(now, uuid, "CHANNEL_EXECUTE", &[], &extra);
        match self.start_app(now, uuid, app, &data) {
            Ok(response) => self.raise_complete(now, uuid, app, &data, &app_uuid, &response),
            Err(kind) => {
                let running = Running {
                    app: app.to_owned(),
                    data: data.clone(),
                    uuid: app_uuid,
                    kind,
                    writes_silence: None,
                };
                if let Some(channel) = self.channels.get_mut(uuid) {
                    channel.stack.push(running);
                }
                self.begin_app(now, uuid);
            }
        }
    }

    /// What an application does at once, with its response; or what it does from now on.
    fn start_app(
        &mut self,
        now: Instant,
        uuid: &str,
        app: &str,
        data: &str,
    ) -> Result<String, Kind> {
        let none = Ok("_none_".to_owned());
        let takes = self.config.takes(app, data);
        let Some(channel) = self.channels.get_mut(uuid) else { return none };
        match app {
            "answer" => self.answer(now, uuid),
            "pre_answer" => self.pre_answer(now, uuid),
            "ring_ready" => self.ring(now, uuid),
            "set" | "export" | "set_profile_var" => {
                let pair = data.strip_prefix("nolocal:").unwrap_or(data);
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                channel.set_variable(name.trim(), if value == "_undef_" { "" } else { value });
            }
            "multiset" => {
                for (name, value) in arguments::pairs(data, ' ') {
                    channel.set_variable(&name, &value);
                }
            }
            "unset" => channel.set_variable(data, ""),
            "hangup" => self.hang_up(now, uuid, &cause(data)),
            "respond" => {
                let cause = match data.split(' ').next() {
                    Some("486" | "600") => "USER_BUSY",
                    Some("603" | "403") => "CALL_REJECTED",
                    Some("404") => "UNALLOCATED_NUMBER",
                    Some("480") => "NO_USER_RESPONSE",
                    Some("503" | "500") => "NORMAL_TEMPORARY_FAILURE",
                    _ => "NORMAL_CLEARING",
                };
                self.hang_up(now, uuid, cause);
            }
            "transfer" => {
                let mut words = data.split(' ');
                let destination = words.next().unwrap_or_default().to_owned();
                let dialplan = words.next().unwrap_or("XML").to_owned();
                let context = words.next().unwrap_or("default").to_owned();
                self.reroute(uuid, &destination, &dialplan, &context);
            }
            "park" => {
                let limit = channel.variable("park_timeout").map(str::to_owned);
                channel.set_variable("park_timeout", "");
                let until = limit.and_then(|limit| {
                    let (seconds, after) =
                        limit.split_once(':').unwrap_or((&limit, "NORMAL_CLEARING"));
                    Some((now + Duration::from_secs(seconds.parse().ok()?), cause(after)))
                });
                return Err(Kind::Park(until));
            }
            "socket" => return self.start_socket(uuid, data),
            "playback" | "endless_playback" | "play_and_get_digits" | "speak" | "say" => {
                return self.start_playback(uuid, app, data);
            }
            "sleep" => {
                let ms = data.trim().parse().unwrap_or(0).min(86_400_000);
                return Err(Kind::Sleep(now + Duration::from_millis(ms)));
            }
            "echo" => return Err(Kind::Echo),
            "eavesdrop" => return Err(Kind::Eavesdrop(data.trim().to_owned())),
            "bridge" => {
                return match self.originate(now, Order::bridge(data, uuid), &Waiting::Nobody) {
                    Ok(id) => Err(Kind::Dial(id)),
                    Err(reply) => {
                        let cause = reply.trim_start_matches("-ERR ").trim().to_owned();
                        self.bridge_failed(now, uuid, &cause);
                        none
                    }
                };
            }
            "conference" => return Err(self.join_conference(now, uuid, data)),
            "valet_park" => return self.valet_park(now, uuid, data),
            "fifo" | "callcenter" | "ivr" | "voicemail" if takes => return Err(Kind::Forever),
            "uuid_audio_fork" | "uuid_audio_stream" => {
                let _reply = self.api(now, &format!("{app} {data}"), &Waiting::Nobody);
            }
            "send_dtmf" => channel.media.sent_digits.push_str(data),
            // log, verbose_events, info, start_dtmf, ...
            _ => {}
        }
        none
    }

    /// What is told when an application has begun that lasts.
    fn begin_app(&mut self, now: Instant, uuid: &str) {
        let Some(running) = self.channels.get(uuid).and_then(|channel| channel.stack.last()) else {
            return;
        };
        match &running.kind {
            Kind::Park(_) => self.raise(now, uuid, "CHANNEL_PARK", &[], &[]),
            Kind::Play { path, .. } => {
                let path = path.clone();
                self.raise_playback(now, uuid, "PLAYBACK_START", &path, None);
            }
            _ => {}
        }
    }

    fn start_playback(&mut self, uuid: &str, app: &str, data: &str) -> Result<String, Kind> {
        let Some(channel) = self.channels.get(uuid) else { return Ok(String::new()) };
        let rate = channel.codec.1;
        let path = match app {
            "play_and_get_digits" => data.split(' ').nth(5).unwrap_or_default(),
            _ => data,
        };
        let path = path.rsplit_once('}').map_or(path, |(_, path)| path);
        let spoken = matches!(app, "speak" | "say") || path.starts_with("say:");
        let sound = match Sound::of_stream(path, rate) {
            Some(sound) => sound,
            // A voice: a tone of 60 ms a letter stands for it.
            None if spoken => {
                let ms = path.chars().count().min(2_000) * 60;
                let on = ms * rate as usize / 1_000;
                Sound::Tone { hz: 200, on, off: 0, times: Some(1), rate }
            }
            None => match self.files.get(path) {
                Some(file) => Sound::Samples(audio::converted(&file.samples, file.rate, rate)),
                None => return Ok("FILE NOT FOUND".to_owned()),
            },
        };
        Err(Kind::Play { path: path.to_owned(), sound, position: 0 })
    }

    fn start_socket(&mut self, uuid: &str, data: &str) -> Result<String, Kind> {
        let mut words = data.split(' ').filter(|word| !word.is_empty());
        let address = words.next().unwrap_or_default().split('|').next().unwrap_or_default();
        let (address, path) = address.split_once('/').unwrap_or((address, ""));
        let options: Vec<&str> = words.collect();
        let address =
            if address.contains(':') { address.to_owned() } else { format!("{address}:8084") };
        let Some(channel) = self.channels.get_mut(uuid) else { return Ok(String::new()) };
        channel.set_variable("socket_host", address.split(':').next().unwrap_or_default());
        channel.set_variable("socket_path", path);
        let control = Control {
            uuid: uuid.to_owned(),
            is_async: options.contains(&"async"),
            full: options.contains(&"full"),
            connected: false,
        };
        let session = self.new_id();
        self.sessions.insert(session, Session::outbound(Some(control)));
        self.dials.push_back(Dial::Socket { session, address });
        self.wake.notify_one();
        Err(Kind::Socket(session))
    }

    /// The client was reached: the channel is parked under it.
    pub(crate) fn handle_socket_connected(&mut self, now: Instant, session: u64) {
        let control = self.sessions.get(&session).and_then(|session| session.control.clone());
        if let Some(control) = control {
            self.raise(now, &control.uuid, "CHANNEL_PARK", &[], &[]);
        }
    }

    /// The connection of a `socket` application ended: the dialplan goes on.
    pub(crate) fn end_socket_app(&mut self, now: Instant, uuid: &str, session: u64) {
        let Some(channel) = self.channels.get_mut(uuid).filter(|channel| channel.is_up()) else {
            return;
        };
        let at = channel
            .stack
            .iter()
            .position(|running| matches!(running.kind, Kind::Socket(id) if id == session));
        let Some(at) = at else { return };
        // What the client had it run ends with it.
        let mut ended: Vec<Running> = channel.stack.drain(at..).collect();
        channel.queue.clear();
        while let Some(running) = ended.pop() {
            self.end_running(now, uuid, &running, false);
        }
    }

    /// Breaks off what plays; `all` also forgets the broadcasts that wait.
    pub(crate) fn break_playback(&mut self, now: Instant, uuid: &str, all: bool) {
        let Some(channel) = self.channels.get_mut(uuid) else { return };
        if all {
            channel.queue.retain(|queued| !queued.broadcast);
        }
        if let Some(Kind::Play { .. }) = channel.stack.last().map(|running| &running.kind)
            && let Some(running) = channel.stack.pop()
        {
            if let Kind::Play { path, .. } = &running.kind {
                self.raise_playback(now, uuid, "PLAYBACK_STOP", path, Some("break"));
            }
            self.raise_complete(
                now,
                uuid,
                &running.app,
                &running.data,
                &running.uuid,
                "FILE PLAYED",
            );
        }
    }

    /// Sends a channel elsewhere with its next tick. `inline` takes a list of applications.
    pub(crate) fn reroute(&mut self, uuid: &str, destination: &str, dialplan: &str, context: &str) {
        let actions = dialplan.eq_ignore_ascii_case("inline").then(|| {
            let actions = arguments::split_outside_brackets(destination, ',').into_iter();
            actions
                .map(|action| {
                    let (app, data) = action.trim().split_once(':').unwrap_or((action.trim(), ""));
                    (app.to_owned(), data.trim_matches('\'').to_owned())
                })
                .collect()
        });
        if let Some(channel) = self.channels.get_mut(uuid) {
            channel.queue.clear();
            channel.reroute = Some(Reroute::Plan {
                destination: destination.to_owned(),
                dialplan: dialplan.to_owned(),
                context: context.to_owned(),
                actions,
            });
        }
    }

    fn join_conference(&mut self, now: Instant, uuid: &str, data: &str) -> Kind {
        let name = data.split(['@', '+']).next().unwrap_or_default().to_owned();
        let conference_uuid = self.new_uuid();
        if !self.conferences.contains_key(&name) {
            let conference =
                Conference { uuid: conference_uuid, next_member: 1, ..Conference::default() };
            self.conferences.insert(name.clone(), conference);
            self.raise_conference(now, None, &name, 0, "conference-create");
        }
        let conference = self.conferences.entry(name.clone()).or_default();
        conference.min_two |= data.contains("mintwo");
        let member = conference.next_member;
        conference.next_member += 1;
        conference.members.push((member, uuid.to_owned()));
        self.raise_conference(now, Some(uuid), &name, member, "add-member");
        Kind::Conference { name, member }
    }

    pub(crate) fn leave_conference(&mut self, now: Instant, uuid: &str, name: &str, member: u32) {
        let Some(conference) = self.conferences.get_mut(name) else { return };
        conference.members.retain(|(id, _)| *id != member);
        conference.muted.remove(&member);
        let alone = match &conference.members[..] {
            [(_, last)] if conference.min_two => Some(last.clone()),
            _ => None,
        };
        self.raise_conference(now, Some(uuid), name, member, "del-member");
        if let Some(last) = alone {
            let stays = self
                .channels
                .get(&last)
                .is_some_and(|it| it.variable("hangup_after_conference") == Some("false"));
            self.abort_stack(now, &last);
            if !stays {
                self.hang_up(now, &last, "NORMAL_CLEARING");
            }
        }
        if self.conferences.get(name).is_some_and(|conference| conference.members.is_empty()) {
            self.raise_conference(now, None, name, 0, "conference-destroy");
            self.conferences.remove(name);
        }
    }

    pub(crate) fn raise_conference(
        &mut self,
        now: Instant,
        uuid: Option<&str>,
        name: &str,
        member: u32,
        action: &str,
    ) {
        let (size, id) = self.conferences.get(name).map_or((0, String::new()), |conference| {
            (conference.members.len(), conference.uuid.clone())
        });
        let (size, member) = (size.to_string(), member.to_string());
        let mut extra = vec![
            ("Conference-Name", name),
            ("Conference-Size", size.as_str()),
            ("Conference-Profile-Name", "default"),
            ("Conference-Unique-ID", id.as_str()),
        ];
        if uuid.is_some() {
            extra.push(("Member-ID", &member));
        }
        extra.push(("Action", action));
        self.raise(now, uuid.unwrap_or_default(), "conference::maintenance", &extra, &[]);
    }

    /// `valet_park <lot> <slot>` and `valet_park <lot> auto in <min> <max>`; a slot that is taken is picked up.
    fn valet_park(&mut self, now: Instant, uuid: &str, data: &str) -> Result<String, Kind> {
        let words: Vec<&str> = data.split(' ').filter(|word| !word.is_empty()).collect();
        let none = Ok("_none_".to_owned());
        let (lot, slot) = match words[..] {
            [lot, "auto", "in", from, to] => {
                let (Ok(from), Ok(to)) = (from.parse::<u32>(), to.parse::<u32>()) else {
                    return none;
                };
                let free = (from..=to.min(from.saturating_add(10_000)))
                    .map(|slot| slot.to_string())
                    .find(|slot| !self.valet.contains_key(&(lot.to_owned(), slot.clone())));
                let Some(slot) = free else { return none };
                (lot.to_owned(), slot)
            }
            [lot, slot] => (lot.to_owned(), slot.to_owned()),
            _ => return none,
        };
        if let Some(parked) = self.valet.remove(&(lot.clone(), slot.clone())) {
            if let Some(channel) = self.channels.get_mut(uuid) {
                channel.reroute = Some(Reroute::Bridge { peer: parked.clone(), leads: true });
            }
            let extra = [
                ("Valet-Lot-Name", lot.as_str()),
                ("Valet-Extension", &slot),
                ("Action", "bridge"),
                ("Bridge-To-UUID", &parked),
            ];
            self.raise(now, uuid, "valet_parking::info", &extra, &[]);
            return none;
        }
        self.valet.insert((lot.clone(), slot.clone()), uuid.to_owned());
        if let Some(channel) = self.channels.get_mut(uuid) {
            channel.set_variable("valet_lot_extension", &slot);
        }
        let extra =
            [("Valet-Lot-Name", lot.as_str()), ("Valet-Extension", &slot), ("Action", "hold")];
        self.raise(now, uuid, "valet_parking::info", &extra, &[]);
        Err(Kind::Valet { lot, slot })
    }

    /// Puts the values of `${variables}` in their places.
    fn expanded(&self, uuid: &str, data: &str) -> String {
        let channel = self.channels.get(uuid);
        let mut expanded = String::with_capacity(data.len());
        let mut rest = data;
        while let Some((before, after)) = rest.split_once("${") {
            expanded.push_str(before);
            let Some((name, after)) = after.split_once('}') else {
                expanded.push_str("${");
                rest = after;
                continue;
            };
            let value = match name {
                "destination_number" => channel.map(|channel| channel.destination.clone()),
                "caller_id_number" => channel.map(|channel| channel.caller_number.clone()),
                "caller_id_name" => channel.map(|channel| channel.caller_name.clone()),
                _ => channel.and_then(|channel| channel.variable(name)).map(str::to_owned),
            };
            let global = || (name == "domain").then(|| DOMAIN.to_owned());
            expanded.push_str(&value.or_else(global).unwrap_or_default());
            rest = after;
        }
        expanded.push_str(rest);
        expanded
    }

    /// `bridge` did not reach anybody: the plan goes on if the variables say so, else the caller hears the cause.
    pub(crate) fn bridge_failed(&mut self, now: Instant, uuid: &str, cause: &str) {
        let Some(channel) = self.channels.get_mut(uuid).filter(|channel| channel.is_up()) else {
            return;
        };
        channel.set_variable("originate_disposition", cause);
        let goes_on = channel.is_true("continue_on_fail")
            || channel.variable("continue_on_fail").is_some_and(|causes| causes.contains(cause));
        if !goes_on {
            self.hang_up(now, uuid, cause);
        }
    }
}

fn known_app(app: &str) -> bool {
    const APPS: &[&str] = &[
        "answer",
        "bridge",
        "callcenter",
        "conference",
        "eavesdrop",
        "echo",
        "endless_playback",
        "export",
        "fifo",
        "hangup",
        "info",
        "ivr",
        "log",
        "multiset",
        "park",
        "play_and_get_digits",
        "playback",
        "pre_answer",
        "respond",
        "ring_ready",
        "say",
        "send_dtmf",
        "set",
        "set_profile_var",
        "sleep",
        "socket",
        "speak",
        "start_dtmf",
        "stop_dtmf",
        "transfer",
        "unset",
        "uuid_audio_fork",
        "uuid_audio_stream",
        "valet_park",
        "verbose_events",
        "voicemail",
    ];
    APPS.contains(&app)
}

impl Channel {
    /// The switch writes something to the channel even where nothing plays.
    pub(crate) fn writes_silence(&self) -> bool {
        self.variable("send_silence_when_idle").is_some_and(|value| value.trim() != "0")
    }
}
