//! The life of channels: made, answered, joined, moved, hung up.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::{
    audio::{Speech, Voice},
    channel::{Answer, Channel, Kind, Media, Reroute, Running, State, Times, cause_number},
    heard::Recorder,
    model::{FRAME, SwitchModel},
};

/// What a channel is made of.
#[derive(Debug)]
pub(crate) struct NewChannel {
    pub(crate) uuid: Option<String>,
    pub(crate) inbound: bool,
    pub(crate) name: String,
    pub(crate) caller_number: String,
    pub(crate) caller_name: String,
    pub(crate) destination: String,
    pub(crate) context: String,
    pub(crate) codec: (&'static str, u32),
    pub(crate) speech: Speech,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) call_uuid: Option<String>,
}

impl SwitchModel {
    /// Makes a channel and tells of it.
    pub(crate) fn create_channel(&mut self, now: Instant, new: NewChannel) -> String {
        let uuid = match new.uuid {
            Some(uuid) if !self.channels.contains_key(&uuid) => uuid,
            _ => self.new_uuid(),
        };
        let serial = self.new_serial();
        let created = self.micros(now);
        let mut channel = Channel {
            uuid: uuid.clone(),
            name: new.name.clone(),
            inbound: new.inbound,
            caller_number: new.caller_number,
            caller_name: new.caller_name,
            callee_number: if new.inbound { String::new() } else { new.destination.clone() },
            destination: new.destination,
            dialplan: if new.inbound { "XML".to_owned() } else { String::new() },
            context: new.context,
            call_uuid: new.call_uuid.unwrap_or_else(|| uuid.clone()),
            codec: new.codec,
            state: State::Init,
            call_state: "DOWN",
            answer: Answer::Ringing,
            hit_dialplan: new.inbound,
            cause: None,
            times: Times { created, ..Times::default() },
            serial,
            variables: Vec::new(),
            plan: VecDeque::new(),
            stack: Vec::new(),
            queue: VecDeque::new(),
            reroute: None,
            peer: None,
            parted: false,
            loopback: None,
            held: false,
            held_by_caller: false,
            bugs: Vec::new(),
            forks: Vec::new(),
            originate: None,
            schedule: Vec::new(),
            next_tick: self.first_tick(now),
            media: Media {
                voice: Voice::new(new.speech),
                packets: true,
                keys: VecDeque::new(),
                digits: VecDeque::new(),
                muted: false,
                inbox: Vec::new(),
                looped: VecDeque::new(),
                recorder: Recorder::new(new.codec.1, self.config.heard_limit),
                sent_digits: String::new(),
            },
        };
        let direction = if new.inbound { "inbound" } else { "outbound" };
        for (name, value) in
            [("direction", direction), ("uuid", &uuid), ("channel_name", &new.name)]
        {
            channel.set_variable(name, value);
        }
        channel.set_variable("session_id", &serial.to_string());
        for (name, value) in &new.variables {
            channel.set_variable(name, value);
        }
        let call_uuid = channel.call_uuid.clone();
        channel.set_variable("call_uuid", &call_uuid);
        self.channels.insert(uuid.clone(), channel);
        self.raise(now, &uuid, "CHANNEL_STATE", &[], &[]);
        self.raise(now, &uuid, "CHANNEL_CREATE", &[], &[]);
        self.wake.notify_one();
        uuid
    }

    /// The next beat: of the timer all channels share, or of the channel's own phase.
    fn first_tick(&mut self, now: Instant) -> Instant {
        let beat = FRAME.as_micros() as u64;
        let phase = if self.config.spread_ticks { self.rng.u64(..20) * 1_000 } else { 0 };
        let since = now.saturating_duration_since(self.started).as_micros() as u64;
        let next = (since.saturating_sub(phase) / beat + 1) * beat + phase;
        self.started + Duration::from_micros(next)
    }

    pub(crate) fn set_state(&mut self, now: Instant, uuid: &str, state: State) {
        if let Some(channel) = self.channels.get_mut(uuid)
            && channel.state != state
        {
            channel.state = state;
            self.raise(now, uuid, "CHANNEL_STATE", &[], &[]);
        }
    }

    pub(crate) fn set_call_state(&mut self, now: Instant, uuid: &str, state: &'static str) {
        if let Some(channel) = self.channels.get_mut(uuid)
            && channel.call_state != state
        {
            let before = std::mem::replace(&mut channel.call_state, state);
            let number = match state {
                "DIALING" => "1",
                "RINGING" => "2",
                "EARLY" => "3",
                "ACTIVE" => "4",
                "HELD" => "5",
                "HANGUP" => "7",
                "UNHELD" => "8",
                _ => "0",
            };
            let extra =
                [("Original-Channel-Call-State", before), ("Channel-Call-State-Number", number)];
            self.raise(now, uuid, "CHANNEL_CALLSTATE", &extra, &[]);
        }
    }

    /// The far end rings.
    pub(crate) fn ring(&mut self, now: Instant, uuid: &str) {
        let micros = self.micros(now);
        if let Some(channel) = self.channels.get_mut(uuid)
            && channel.answer == Answer::Ringing
            && channel.times.progress == 0
        {
            channel.times.progress = micros;
            self.raise(now, uuid, "CHANNEL_PROGRESS", &[], &[]);
            self.set_call_state(now, uuid, "RINGING");
            if let Some(called) = self.called_half(uuid) {
                self.ring(now, &called);
            }
        }
    }

    /// Media flows before the answer.
    pub(crate) fn pre_answer(&mut self, now: Instant, uuid: &str) {
        let micros = self.micros(now);
        let Some(channel) = self.channels.get_mut(uuid) else { return };
        if channel.answer != Answer::Ringing {
            return;
        }
        channel.answer = Answer::Early;
        channel.times.progress_media = micros;
        describe_codec(channel);
        self.raise(now, uuid, "CHANNEL_PROGRESS_MEDIA", &[], &[]);
        self.set_call_state(now, uuid, "EARLY");
    }

    pub(crate) fn answer(&mut self, now: Instant, uuid: &str) {
        let Some(channel) = self.channels.get(uuid) else { return };
        if channel.loopback.is_none() {
            if channel.inbound {
                self.pre_answer(now, uuid);
            }
        } else if let Some(called) = self.called_half(uuid) {
            // The half that was called is answered first.
            self.answer(now, &called);
            self.leg_answered(now, &called);
        }
        let micros = self.micros(now);
        let Some(channel) = self.channels.get_mut(uuid) else { return };
        if !matches!(channel.answer, Answer::Ringing | Answer::Early) {
            return;
        }
        channel.answer = Answer::Answered;
        channel.times.answered = micros;
        if channel.times.progress_media == 0 {
            channel.times.progress_media = micros;
            describe_codec(channel);
        }
        channel.set_variable("endpoint_disposition", "ANSWER");
        self.raise(now, uuid, "CHANNEL_ANSWER", &[], &[]);
        self.set_call_state(now, uuid, "ACTIVE");
    }

    /// The half of a loopback pair that somebody called, while it is not answered.
    fn called_half(&self, uuid: &str) -> Option<String> {
        let other = self.channels.get(uuid)?.loopback.clone()?;
        self.channels.get(&other)?.originate.map(|_| other)
    }

    /// Ends a channel; what follows comes with its next tick.
    pub(crate) fn hang_up(&mut self, now: Instant, uuid: &str, cause: &str) {
        let micros = self.micros(now);
        let Some(channel) = self.channels.get_mut(uuid).filter(|channel| channel.is_up()) else {
            return;
        };
        channel.cause = Some(cause.to_owned());
        channel.answer = Answer::HungUp;
        channel.times.hung_up = micros;
        let other = channel.loopback.take();
        self.raise(now, uuid, "CHANNEL_HANGUP", &[], &[]);
        if let Some(other) = other {
            self.hang_up(now, &other, cause);
        }
        self.wake.notify_one();
    }

    /// The rest of a channel's end.
    pub(crate) fn finish(&mut self, now: Instant, uuid: &str) {
        let Some(cause) = self.channels.get(uuid).and_then(|channel| channel.cause.clone()) else {
            return;
        };
        self.abort_stack(now, uuid);
        self.set_state(now, uuid, State::Hangup);
        self.detach_all(now, uuid);
        self.set_call_state(now, uuid, "HANGUP");
        self.set_state(now, uuid, State::Reporting);
        let micros = self.micros(now);
        let Some(channel) = self.channels.get_mut(uuid) else { return };
        let seconds =
            |from: u64| if from == 0 { 0 } else { micros.saturating_sub(from) / 1_000_000 };
        let (duration, billed) = (seconds(channel.times.created), seconds(channel.times.answered));
        let number = cause_number(&cause).unwrap_or(16).to_string();
        channel.set_variable("hangup_cause", &cause);
        channel.set_variable("hangup_cause_q850", &number);
        channel.set_variable("duration", &duration.to_string());
        channel.set_variable("billsec", &billed.to_string());
        let name = channel.name.clone();
        let leg_of = channel.originate;
        self.raise(now, uuid, "CHANNEL_HANGUP_COMPLETE", &[("Hangup-Cause", &cause)], &[]);
        self.end_sessions_of(now, uuid, &name);
        self.raise(now, uuid, "CHANNEL_DESTROY", &[], &[]);
        self.bury(uuid);
        self.drop_files_of(uuid);
        if let Some(id) = leg_of {
            self.leg_failed(now, id, uuid, &cause);
        }
        self.changed.notify_waiters();
    }

    /// Takes a channel out of all that it runs.
    pub(crate) fn abort_stack(&mut self, now: Instant, uuid: &str) {
        while let Some(running) =
            self.channels.get_mut(uuid).and_then(|channel| channel.stack.pop())
        {
            self.end_running(now, uuid, &running, false);
        }
    }

    /// Tells of the end of an application that was taken off the stack; `done` when it came to its end by itself.
    pub(crate) fn end_running(&mut self, now: Instant, uuid: &str, running: &Running, done: bool) {
        let mut response = "_none_";
        match &running.kind {
            Kind::Play { path, .. } => {
                response = if done { "FILE PLAYED" } else { "PLAYBACK ERROR" };
                self.raise_playback(now, uuid, "PLAYBACK_STOP", path, Some("done"));
            }
            // The connection of a socket that a channel was moved out of stays, and goes on to tell of the channel.
            Kind::Park(_) | Kind::Socket(_) => self.raise(now, uuid, "CHANNEL_UNPARK", &[], &[]),
            Kind::Bridge { leads } => self.unjoin(now, uuid, *leads),
            Kind::Dial(originate) => self.cancel_originate(now, *originate),
            Kind::Conference { name, member } => self.leave_conference(now, uuid, name, *member),
            Kind::Valet { lot, slot } => {
                self.valet.remove(&(lot.clone(), slot.clone()));
                let extra = [
                    ("Valet-Lot-Name", lot.as_str()),
                    ("Valet-Extension", slot),
                    ("Action", "exit"),
                ];
                self.raise(now, uuid, "valet_parking::info", &extra, &[]);
            }
            Kind::Sleep(_) | Kind::Echo | Kind::Eavesdrop(_) | Kind::Forever => {}
        }
        self.raise_complete(now, uuid, &running.app, &running.data, &running.uuid, response);
    }

    pub(crate) fn raise_complete(
        &mut self,
        now: Instant,
        uuid: &str,
        app: &str,
        data: &str,
        app_uuid: &str,
        response: &str,
    ) {
        if app.is_empty() {
            return;
        }
        let mut extra = vec![("Application", app)];
        if !data.is_empty() {
            extra.push(("Application-Data", data));
        }
        extra.extend([("Application-Response", response), ("Application-UUID", app_uuid)]);
        self.raise(now, uuid, "CHANNEL_EXECUTE_COMPLETE", &[], &extra);
    }

    pub(crate) fn raise_playback(
        &mut self,
        now: Instant,
        uuid: &str,
        name: &str,
        path: &str,
        status: Option<&str>,
    ) {
        let kind = if path.starts_with("tone_stream:") { "tone_stream" } else { "file" };
        let mut extra = vec![("Playback-File-Type", kind), ("Playback-File-Path", path)];
        extra.extend(status.map(|status| ("Playback-Status", status)));
        self.raise(now, uuid, name, &[], &extra);
    }

    /// Joins two channels; both are taken out of what they run. `leads` is the one whose events tell of it.
    pub(crate) fn join(&mut self, now: Instant, leads: &str, other: &str, app: Option<Running>) {
        self.abort_stack(now, other);
        let micros = self.micros(now);
        let states = if app.is_some() { State::Execute } else { State::SoftExecute };
        for (uuid, peer, is_lead) in [(leads, other, true), (other, leads, false)] {
            let Some(channel) = self.channels.get_mut(uuid) else { return };
            channel.peer = Some(peer.to_owned());
            channel.parted = false;
            channel.times.bridged = micros;
            channel.media.inbox.clear();
            channel.queue.clear();
            channel.set_variable("bridge_uuid", peer);
            channel.set_variable("signal_bond", peer);
            channel.set_variable("last_bridge_to", peer);
            if !is_lead {
                channel.stack.push(running("", "", Kind::Bridge { leads: false }));
            }
        }
        let app = app.unwrap_or_else(|| running("", "", Kind::Bridge { leads: true }));
        if let Some(channel) = self.channels.get_mut(leads) {
            channel.stack.push(app);
        }
        self.set_state(now, leads, states);
        self.set_state(now, other, State::ExchangeMedia);
        let ends = [("Bridge-A-Unique-ID", leads), ("Bridge-B-Unique-ID", other)];
        self.raise(now, leads, "CHANNEL_BRIDGE", &ends, &[]);
        for (uuid, peer) in [(other, leads), (leads, other)] {
            self.raise(
                now,
                uuid,
                "CALL_UPDATE",
                &[("Direction", "SEND"), ("Bridged-To", peer)],
                &[],
            );
        }
    }

    /// Parts a channel from its peer. The one that leads tells of it, at its next tick if it was left.
    fn unjoin(&mut self, now: Instant, uuid: &str, leads: bool) {
        let Some(channel) = self.channels.get_mut(uuid) else { return };
        let Some(peer) = channel.peer.clone() else { return };
        channel.media.inbox.clear();
        if !leads {
            channel.peer = None;
            if let Some(lead) = self.channels.get_mut(&peer) {
                lead.parted = true;
            }
            return;
        }
        let cause = channel.cause.clone();
        self.leave_bridge(now, &peer, cause.as_deref());
        self.raise_unbridge(now, uuid, &peer);
    }

    /// The peer of a channel that leads a bridge went away.
    pub(crate) fn end_bridge(&mut self, now: Instant, uuid: &str) {
        let Some(channel) = self.channels.get_mut(uuid).filter(|channel| channel.parted) else {
            return;
        };
        channel.parted = false;
        if let Some(peer) = channel.peer.clone() {
            self.raise_unbridge(now, uuid, &peer);
            self.leave_bridge(now, uuid, None);
        }
    }

    fn raise_unbridge(&mut self, now: Instant, lead: &str, other: &str) {
        let ends = [("Bridge-A-Unique-ID", lead), ("Bridge-B-Unique-ID", other)];
        self.raise(now, lead, "CHANNEL_UNBRIDGE", &ends, &[]);
        if let Some(channel) = self.channels.get_mut(lead) {
            channel.peer = None;
        }
    }

    /// A channel whose bridge is over goes where its variables say, on with its plan, or hangs up.
    fn leave_bridge(&mut self, now: Instant, uuid: &str, cause: Option<&str>) {
        let Some(channel) = self.channels.get_mut(uuid) else { return };
        channel.peer = None;
        channel.media.inbox.clear();
        let at =
            channel.stack.iter().position(|running| matches!(running.kind, Kind::Bridge { .. }));
        let Some(bridge) = at.map(|at| channel.stack.remove(at)) else { return };
        if channel.reroute.is_none() && channel.is_up() {
            if channel.is_true("park_after_bridge") {
                channel.reroute = Some(Reroute::Park);
            } else if bridge.app.is_empty() || channel.is_true("hangup_after_bridge") {
                self.hang_up(now, uuid, cause.unwrap_or("NORMAL_CLEARING"));
            }
        }
        self.raise_complete(now, uuid, &bridge.app, &bridge.data, &bridge.uuid, "_none_");
    }

    /// Moves a channel to where it was told to go.
    pub(crate) fn take_reroute(&mut self, now: Instant, uuid: &str) {
        let Some(reroute) = self.channels.get_mut(uuid).and_then(|channel| channel.reroute.take())
        else {
            return;
        };
        if let Reroute::Bridge { peer, leads } = reroute {
            let both_up =
                [uuid, &peer].iter().all(|end| self.channels.get(*end).is_some_and(Channel::is_up));
            if both_up {
                self.abort_stack(now, uuid);
                let (lead, other) =
                    if leads { (uuid, peer.as_str()) } else { (peer.as_str(), uuid) };
                self.join(now, lead, other, None);
            }
            return;
        }
        self.abort_stack(now, uuid);
        if !self.channels.get(uuid).is_some_and(Channel::is_up) {
            return;
        }
        let micros = self.micros(now);
        match reroute {
            Reroute::Park => {
                self.set_state(now, uuid, State::Park);
                if let Some(channel) = self.channels.get_mut(uuid) {
                    channel.plan.clear();
                    channel.stack.push(running("", "", Kind::Park(None)));
                }
                self.raise(now, uuid, "CHANNEL_PARK", &[], &[]);
            }
            Reroute::Plan { destination, dialplan, context, actions } => {
                self.set_state(now, uuid, State::Routing);
                let known = self.config.extensions.get(&destination).cloned();
                let Some(channel) = self.channels.get_mut(uuid) else { return };
                channel.times.transferred = micros;
                channel.destination = destination;
                channel.dialplan = dialplan;
                channel.context = context;
                channel.plan.clear();
                match actions.or(known) {
                    Some(actions) => {
                        channel.plan.extend(actions);
                        self.set_state(now, uuid, State::Execute);
                    }
                    None => {
                        self.set_call_state(now, uuid, "RINGING");
                        self.hang_up(now, uuid, "NO_ROUTE_DESTINATION");
                    }
                }
            }
            Reroute::Bridge { .. } => {}
        }
    }

    /// `uuid_hold`: an error is the reply.
    pub(crate) fn hold(&mut self, now: Instant, uuid: &str, how: HoldOrder) -> bool {
        let Some(channel) = self.channels.get_mut(uuid).filter(|channel| channel.is_up()) else {
            return false;
        };
        let hold = match how {
            HoldOrder::On => true,
            HoldOrder::Off => false,
            HoldOrder::Toggle => !channel.held,
        };
        if channel.held == hold {
            return false;
        }
        channel.held = hold;
        self.mark_hold(now, uuid, hold);
        true
    }

    /// The caller's phone put us on hold, or took us off it.
    pub(crate) fn hold_by_caller(&mut self, now: Instant, uuid: &str, hold: bool) {
        if let Some(channel) = self.channels.get_mut(uuid)
            && channel.held_by_caller != hold
        {
            channel.held_by_caller = hold;
            self.mark_hold(now, uuid, hold);
        }
    }

    fn mark_hold(&mut self, now: Instant, uuid: &str, hold: bool) {
        let micros = self.micros(now);
        if hold && let Some(channel) = self.channels.get_mut(uuid) {
            channel.times.last_hold = micros;
        }
        self.set_call_state(now, uuid, if hold { "HELD" } else { "UNHELD" });
        self.raise(now, uuid, if hold { "CHANNEL_HOLD" } else { "CHANNEL_UNHOLD" }, &[], &[]);
        if !hold {
            self.set_call_state(now, uuid, "ACTIVE");
        }
    }

    /// Takes all media bugs off a channel that ends.
    fn detach_all(&mut self, now: Instant, uuid: &str) {
        let forks =
            self.channels.get(uuid).map(|channel| channel.forks.clone()).unwrap_or_default();
        for id in forks {
            if let Some(fork) = self.forks.get_mut(&id) {
                fork.module.stop(None);
                fork.wake.notify_one();
            }
            self.detach_fork(now, id);
        }
        let bugs = self.channels.get_mut(uuid).map(|channel| std::mem::take(&mut channel.bugs));
        for bug in bugs.unwrap_or_default() {
            if bug.function == "session_record" {
                let path = bug.target.as_str();
                self.raise(now, uuid, "RECORD_STOP", &[], &[("Record-File-Path", path)]);
            }
            let extra =
                [("Media-Bug-Function", bug.function), ("Media-Bug-Target", bug.target.as_str())];
            self.raise(now, uuid, "MEDIA_BUG_STOP", &extra, &[]);
        }
    }

    /// Who hears what comes from this channel.
    pub(crate) fn hearers_of(&self, uuid: &str) -> Vec<String> {
        let Some(channel) = self.channels.get(uuid) else { return Vec::new() };
        let mut hearers = BTreeSet::new();
        match channel.stack.last().map(|running| &running.kind) {
            Some(Kind::Bridge { .. }) => hearers.extend(channel.peer.clone()),
            Some(Kind::Conference { name, member }) => {
                if let Some(conference) = self.conferences.get(name)
                    && !conference.muted.contains(member)
                {
                    let others = conference.members.iter().filter(|(id, _)| id != member);
                    hearers.extend(others.map(|(_, uuid)| uuid.clone()));
                }
            }
            _ => {}
        }
        for (spy, other) in &self.channels {
            if let Some(Kind::Eavesdrop(target)) = other.stack.last().map(|running| &running.kind)
                && target == uuid
            {
                hearers.insert(spy.clone());
            }
        }
        hearers.into_iter().collect()
    }
}

/// What `uuid_hold` is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HoldOrder {
    On,
    Off,
    Toggle,
}

pub(crate) fn running(app: &str, data: &str, kind: Kind) -> Running {
    Running {
        app: app.to_owned(),
        data: data.to_owned(),
        uuid: String::new(),
        kind,
        writes_silence: None,
    }
}

fn describe_codec(channel: &mut Channel) {
    let (name, rate) = (channel.codec.0, channel.codec.1.to_string());
    for (variable, value) in
        [("read_codec", name), ("read_rate", &rate), ("write_codec", name), ("write_rate", &rate)]
    {
        channel.set_variable(variable, value);
    }
}
