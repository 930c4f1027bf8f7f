//! The commands of the event socket other than `api`'s own.

use std::time::Instant;

use super::{
    channel::Queued,
    command::Command,
    event::Format,
    model::{SwitchModel, Waiting},
    session::Session,
};

impl SwitchModel {
    /// A client connected to the event socket; none when the access list refused it, with what it is told.
    pub(crate) fn accept_session(&mut self) -> Result<u64, &'static str> {
        if self.faults.rude {
            return Err(
                "Content-Type: text/rude-rejection\nContent-Length: 24\n\nAccess Denied, go away.\n",
            );
        }
        let id = self.new_id();
        self.sessions.insert(id, Session::inbound());
        Ok(id)
    }

    /// Bytes of a client.
    pub(crate) fn handle_bytes(&mut self, now: Instant, id: u64, bytes: &[u8]) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.push(bytes);
        }
        self.serve_session(now, id);
        self.wake.notify_one();
    }

    /// The connection is gone.
    pub(crate) fn handle_session_closed(&mut self, now: Instant, id: u64) {
        if let Some(session) = self.sessions.remove(&id)
            && let Some(control) = session.control
        {
            self.end_socket_app(now, &control.uuid, id);
        }
        self.changed.notify_waiters();
    }

    /// Carries out what the client asked for, as far as it may be now.
    pub(crate) fn serve_session(&mut self, now: Instant, id: u64) {
        if self.faults.frozen {
            return;
        }
        let delay = self.faults.reply_delay;
        if let Some(session) = self.sessions.get_mut(&id)
            && session.lingers_until.is_some_and(|until| until <= now)
            && !session.closing
        {
            let uuid = session.control.as_ref().map(|control| control.uuid.clone());
            session.lingers_until = None;
            session.say_goodbye(uuid.as_deref());
        }
        while let Some(session) = self.sessions.get_mut(&id)
            && let Some(command) = session.next_command(now, delay)
        {
            self.carry_out(now, id, &command);
        }
    }

    fn carry_out(&mut self, now: Instant, id: u64, command: &Command) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let controlled = session.control.as_ref().map(|control| control.uuid.clone());
        let mut seen = command.line.clone();
        for (name, value) in &command.headers {
            seen.push_str(&format!("\n{name}: {value}"));
        }
        let hangs =
            self.faults.hang_on.iter().any(|prefix| command.line.starts_with(prefix.as_str()));
        session.hangs = hangs;
        self.saw_command(now, seen, controlled.clone());
        if hangs {
            return;
        }
        let (verb, rest) = command.verb();
        let verb = verb.to_ascii_lowercase();
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if !session.authed {
            self.authenticate(id, &verb, rest);
            return;
        }
        if let Some(control) = &session.control {
            let allowed = match verb.as_str() {
                "connect" => true,
                _ if !control.connected => false,
                "myevents" | "getvar" | "sendmsg" | "filter" | "divert_events" | "resume"
                | "exit" | "..." => true,
                _ => control.full,
            };
            if !allowed {
                session.reply("-ERR command not found");
                return;
            }
        }
        match verb.as_str() {
            "api" | "bgapi" if rest.is_empty() => session.reply("-ERR command not found"),
            "api" => {
                session.waits = true;
                if let Some(result) = self.api(now, rest, &Waiting::Session(id)) {
                    self.deliver(now, &Waiting::Session(id), &result);
                }
            }
            "bgapi" => self.background(now, id, command, rest, controlled),
            "sendmsg" => self.send_message(now, id, command, rest, controlled),
            "connect" => self.connect_channel(now, id),
            "sendevent" => {
                let uuid = self.new_uuid();
                let mut event =
                    self.begin_event(now, rest, ("mod_event_socket.c", "parse_command"));
                for (name, value) in &command.headers {
                    event.push(name.clone(), value.as_str());
                }
                if !command.body.is_empty() {
                    event.set_body(command.body.as_str());
                }
                self.reply(id, &format!("+OK {uuid}"));
                self.publish(event);
            }
            "getvar" => {
                let channel = controlled.as_ref().and_then(|uuid| self.channels.get(uuid));
                let value = match (channel, controlled.is_some()) {
                    (Some(channel), _) => channel.variable(rest).unwrap_or_default().to_owned(),
                    (None, true) => String::new(),
                    (None, false) => "-ERR command not found".to_owned(),
                };
                self.reply(id, &value);
            }
            _ => self.serve_subscription(id, &verb, rest),
        }
    }

    fn authenticate(&mut self, id: u64, verb: &str, rest: &str) {
        let accepted = match verb {
            "auth" => rest == self.config.password,
            // user@domain:password, or user:password@domain
            "userauth" => {
                let secret = rest.split_once(':').map(|(_, secret)| secret).unwrap_or_default();
                secret == self.config.password
                    || secret
                        .rsplit_once('@')
                        .is_some_and(|(secret, _)| secret == self.config.password)
            }
            _ => {
                self.reply(id, "-ERR command not found");
                return;
            }
        };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if accepted {
            session.authed = true;
            session.reply("+OK accepted");
        } else {
            session.reply("-ERR invalid");
            session.say_goodbye(None);
        }
        self.changed.notify_waiters();
    }

    fn serve_subscription(&mut self, id: u64, verb: &str, rest: &str) {
        let known_channel = self.channels.contains_key(rest.split(' ').next().unwrap_or_default());
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let words: Vec<&str> = rest.split(' ').filter(|word| !word.is_empty()).collect();
        let controlled = session.control.as_ref().map(|control| control.uuid.clone());
        match (verb, &words[..]) {
            ("event", words) => {
                let format = words.first().and_then(|word| Format::from_word(word));
                let names = if format.is_some() { &words[1..] } else { words };
                if session.subscribe(names) {
                    session.format = format.unwrap_or_default();
                    let format = session.format.word();
                    session.reply(&format!("+OK event listener enabled {format}"));
                } else {
                    session.reply("-ERR no keywords supplied");
                }
            }
            ("nixevent", [_, ..]) => {
                session.unsubscribe(&words);
                session.reply("+OK events nixed");
            }
            ("noevents", _) => {
                session.unsubscribe_all();
                session.reply("+OK no longer listening for events");
            }
            ("filter", ["delete", header, value @ ..]) => {
                let value = value.join(" ");
                session.delete_filter(header, &value);
                session.reply(&format!("+OK filter deleted. [{header}][{value}]"));
            }
            ("filter", [header, value, rest @ ..]) => {
                let value = [&[*value][..], rest].concat().join(" ");
                session.add_filter(header, &value);
                session.reply(&format!("+OK filter added. [{header}]=[{value}]"));
            }
            ("myevents", _) if session.only.is_some() => session.reply("-ERR aready enabled."),
            ("myevents", words) => {
                let format = words.iter().find_map(|word| Format::from_word(word));
                session.format = format.unwrap_or(session.format);
                // A uuid that is not known is accepted, and no filter comes of it.
                let named = words.first().filter(|_| known_channel).map(|uuid| (*uuid).to_owned());
                session.only = controlled.or(named);
                session.reply("+OK Events Enabled");
            }
            ("linger" | "nolinger", _) if controlled.is_none() => {
                session.reply("-ERR not controlling a session");
            }
            ("linger", words) => {
                let seconds = words.first().and_then(|word| word.parse().ok());
                session.linger = Some(seconds);
                match seconds {
                    Some(seconds) => session.reply(&format!("+OK will linger {seconds} seconds")),
                    None => session.reply("+OK will linger"),
                }
            }
            ("nolinger", _) => {
                session.linger = None;
                session.reply("+OK will not linger");
            }
            ("divert_events", _) if controlled.is_none() => {
                session.reply("-ERR not controlling a session.");
            }
            ("divert_events", ["on"]) => session.reply("+OK events diverted"),
            ("divert_events", ["off"]) => session.reply("+OK events not diverted"),
            ("resume", _) if controlled.is_some() => session.reply("+OK"),
            ("log", words) => {
                let level = words.first().copied().unwrap_or("7");
                session.reply(&format!("+OK log level {level} [{level}]"));
            }
            ("nolog", _) => session.reply("+OK no longer logging"),
            ("exit" | "...", _) => {
                session.reply("+OK bye");
                session.say_goodbye(controlled.as_deref());
            }
            _ => session.reply("-ERR command not found"),
        }
    }

    fn background(
        &mut self,
        now: Instant,
        id: u64,
        command: &Command,
        rest: &str,
        controlled: Option<String>,
    ) {
        let uuid = match command.header("Job-UUID") {
            Some(uuid) => uuid.to_owned(),
            None => self.new_uuid(),
        };
        if let Some(session) = self.sessions.get_mut(&id) {
            session.send(&format!(
                "Content-Type: command/reply\nReply-Text: +OK Job-UUID: {uuid}\nJob-UUID: {uuid}\n\n"
            ));
        }
        let (name, argument) = rest.split_once(' ').unwrap_or((rest, ""));
        let waiting = Waiting::Job {
            uuid,
            command: name.to_owned(),
            argument: argument.to_owned(),
            owner: controlled,
        };
        if let Some(result) = self.api(now, rest, &waiting) {
            self.deliver(now, &waiting, &result);
        }
    }

    fn send_message(
        &mut self,
        now: Instant,
        id: u64,
        command: &Command,
        rest: &str,
        controlled: Option<String>,
    ) {
        let uuid =
            if rest.is_empty() { controlled.unwrap_or_default() } else { rest.trim().to_owned() };
        if !self.channels.contains_key(&uuid) {
            self.reply(id, &format!("-ERR invalid session id [{uuid}]"));
            return;
        }
        self.reply(id, "+OK");
        match command.header("call-command") {
            Some("execute") => {
                let Some(app) = command.header("execute-app-name") else { return };
                let data = match command.header("execute-app-arg") {
                    Some(data) => data,
                    None => &command.body,
                };
                let queued = Queued {
                    app: app.to_owned(),
                    data: data.to_owned(),
                    uuid: command.header("event-uuid").map(str::to_owned),
                    not_before: None,
                    locked: command.header("event-lock") == Some("true"),
                    broadcast: false,
                };
                self.queue_app(&uuid, queued);
            }
            Some("hangup") => {
                let cause = command.header("hangup-cause").unwrap_or("NORMAL_CLEARING");
                self.hang_up(now, &uuid, &super::channel::cause(cause));
            }
            _ => {}
        }
    }

    /// `connect` on an outbound socket: everything about the channel.
    fn connect_channel(&mut self, now: Instant, id: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(control) = &mut session.control else {
            session.reply("-ERR command not found");
            return;
        };
        control.connected = true;
        let control = control.clone();
        let mut event =
            self.begin_event(now, "CHANNEL_DATA", ("mod_event_socket.c", "parse_command"));
        if let Some(channel) = self.channels.get(&control.uuid) {
            channel.describe_profile("Channel", &mut event);
            channel.describe(&mut event);
            channel.describe_variables(&mut event);
        }
        event.push("Content-Type", "command/reply");
        event.push("Reply-Text", "+OK\n");
        event.push("Socket-Mode", if control.is_async { "async" } else { "static" });
        event.push("Control", if control.full { "full" } else { "single-channel" });
        if let Some(session) = self.sessions.get_mut(&id) {
            session.send(&event.plain(true));
        }
    }

    fn reply(&mut self, id: u64, text: &str) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.reply(text);
        }
    }

    /// Tells the connections of a channel that it is over.
    pub(crate) fn end_sessions_of(&mut self, now: Instant, uuid: &str, name: &str) {
        for session in self.sessions.values_mut() {
            let controls = session.control.as_ref().is_some_and(|control| control.uuid == uuid);
            if controls || session.only.as_deref() == Some(uuid) {
                session.channel_ended(now, uuid, name);
            }
        }
        self.wake.notify_one();
    }
}
