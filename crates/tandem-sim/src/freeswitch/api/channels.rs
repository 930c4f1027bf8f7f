//! `uuid_…`: commands about one channel.

use std::{fmt::Write as _, time::Instant};

use super::{NO_CHANNEL, unknown};
use crate::freeswitch::{
    arguments,
    channel::{Bug, Channel, Queued, Reroute, cause},
    event::SwitchEvent,
    lifecycle::HoldOrder,
    model::SwitchModel,
};

const OK: &str = "+OK\n";
const SUCCESS: &str = "+OK Success\n";

impl SwitchModel {
    pub(super) fn api_channel(&mut self, now: Instant, command: &str, line: &str) -> String {
        let words = arguments::split(line, 16);
        let word = |index: usize| words.get(index).map(String::as_str);
        let uuid = word(0).unwrap_or_default();
        if command == "uuid_exists" {
            return self.channels.contains_key(uuid).to_string();
        }
        if let Some(usage) = usage(command).filter(|_| words.len() < least_words(command)) {
            return format!("-USAGE: {usage}\n");
        }
        match command {
            "uuid_hold" => return self.api_hold(now, &words),
            "uuid_bridge" => return self.api_bridge(&words),
            "uuid_broadcast" => return self.api_broadcast(uuid, line, &words),
            "uuid_send_dtmf" | "uuid_recv_dtmf" => return self.api_dtmf(command, uuid, word(1)),
            "uuid_record" => return self.api_record(now, uuid, &words),
            _ => {}
        }
        if usage(command).is_none() {
            return unknown(command);
        }
        let Some(channel) = self.channels.get_mut(uuid) else { return NO_CHANNEL.to_owned() };
        match command {
            "uuid_getvar" => {
                let name = word(1).unwrap_or_default();
                return channel.variable(name).unwrap_or("_undef_").to_owned();
            }
            "uuid_setvar" => {
                let words = arguments::split(line, 3);
                let name = words.get(1).map_or("", String::as_str);
                channel.set_variable(name, words.get(2).map_or("", String::as_str));
            }
            "uuid_setvar_multi" => {
                let list = line.split_once(' ').map_or("", |(_, list)| list.trim_start());
                for (name, value) in arguments::pairs(list, ';').into_iter().take(64) {
                    channel.set_variable(&name, &value);
                }
            }
            "uuid_dump" => return self.api_dump(now, uuid, word(1)),
            "uuid_answer" => self.answer(now, uuid),
            "uuid_pre_answer" => self.pre_answer(now, uuid),
            "uuid_ring_ready" => self.ring(now, uuid),
            "uuid_kill" => self.hang_up(now, uuid, &cause(word(1).unwrap_or("NORMAL_CLEARING"))),
            "uuid_park" => channel.reroute = Some(Reroute::Park),
            "uuid_transfer" => self.api_transfer(&words),
            "uuid_dual_transfer" => {
                let peer = channel.peer.clone();
                let ends = [Some(uuid.to_owned()), peer].into_iter().zip([word(1), word(2)]);
                for (end, to) in ends {
                    let (Some(end), Some(to)) = (end, to) else { continue };
                    let (to, dialplan, context) = match to.strip_suffix("/inline") {
                        Some(actions) => (actions, "inline", "default"),
                        None => {
                            let mut parts = to.split('/');
                            let number = parts.next().unwrap_or_default();
                            (
                                number,
                                parts.next().unwrap_or("XML"),
                                parts.next().unwrap_or("default"),
                            )
                        }
                    };
                    self.reroute(&end, to, dialplan, context);
                }
            }
            "uuid_break" => self.break_playback(now, uuid, words.iter().any(|word| word == "all")),
            "uuid_audio" => return self.api_audio(now, uuid, &words),
            "uuid_displace" => {
                let starts = word(1) == Some("start");
                self.set_bug(now, uuid, "displace", word(2).unwrap_or_default(), starts);
                return SUCCESS.to_owned();
            }
            "uuid_buglist" => {
                let mut text = String::from("<media-bugs>\n");
                let forks = channel.forks.iter().filter_map(|id| self.forks.get(id));
                let bugs = forks.map(|fork| (fork.bug.as_str(), "N/A"));
                let others = channel.bugs.iter().map(|bug| (bug.function, bug.target.as_str()));
                for (function, target) in bugs.chain(others) {
                    let _written = write!(
                        text,
                        " <media-bug>\n  <function>{function}</function>\n  <target>{target}</target>\n  \
                         <thread-locked>0</thread-locked>\n </media-bug>\n"
                    );
                }
                text.push_str("</media-bugs>\n");
                return text;
            }
            "uuid_deflect" => {
                self.hang_up(now, uuid, "BLIND_TRANSFER");
                return "+OK:SIP/2.0 202 Accepted\n".to_owned();
            }
            // uuid_media, uuid_display, uuid_phone_event, uuid_simplify, ...
            _ => {}
        }
        OK.to_owned()
    }

    fn api_dump(&mut self, now: Instant, uuid: &str, format: Option<&str>) -> String {
        let mut event =
            self.begin_event(now, "CHANNEL_DATA", ("mod_commands.c", "uuid_dump_function"));
        let described = |channel: &Channel, event: &mut SwitchEvent| {
            channel.describe(event);
            channel.describe_variables(event);
        };
        if let Some(channel) = self.channels.get(uuid) {
            described(channel, &mut event);
        }
        match format {
            Some("json") => event.json(),
            Some("xml") => event.xml(),
            Some("plain") => event.plain(false),
            _ => event.plain(true),
        }
    }

    fn api_transfer(&mut self, words: &[String]) {
        let mut words = words.iter().map(String::as_str);
        let uuid = words.next().unwrap_or_default().to_owned();
        let mut next = words.next();
        let peer = self.channels.get(&uuid).and_then(|channel| channel.peer.clone());
        let moved = match next {
            Some("-bleg") => peer.into_iter().collect(),
            Some("-both") => [Some(uuid), peer].into_iter().flatten().collect(),
            _ => vec![uuid],
        };
        if matches!(next, Some("-bleg" | "-both")) {
            next = words.next();
        }
        let destination = next.unwrap_or_default();
        let (dialplan, context) = (words.next(), words.next());
        for uuid in moved {
            let Some(channel) = self.channels.get(&uuid) else { continue };
            let or = |given: Option<&str>, own: &str, usual: &str| {
                let own = if own.is_empty() { usual } else { own };
                given.unwrap_or(own).to_owned()
            };
            let own_dialplan = if channel.dialplan == "inline" { "XML" } else { &channel.dialplan };
            let dialplan = or(dialplan, own_dialplan, "XML");
            let context = or(context, &channel.context, "default");
            self.reroute(&uuid, destination, &dialplan, &context);
        }
    }

    fn api_bridge(&mut self, words: &[String]) -> String {
        let [one, other, ..] = words else { return "-ERR Invalid uuid\n".to_owned() };
        let has_media = |uuid: &String| {
            self.channels.get(uuid).is_some_and(|channel| channel.is_up() && channel.has_media())
        };
        let known =
            self.channels.contains_key(one) && self.channels.contains_key(other) && one != other;
        let (lead, second) = match (has_media(one), has_media(other)) {
            _ if !known => return "-ERR Invalid uuid\n".to_owned(),
            (true, _) => (one, other),
            (false, true) => (other, one),
            (false, false) => return "-ERR Invalid uuid\n".to_owned(),
        };
        if let Some(channel) = self.channels.get_mut(lead) {
            channel.reroute = Some(Reroute::Bridge { peer: second.clone(), leads: true });
        }
        format!("+OK {second}\n")
    }

    fn api_hold(&mut self, now: Instant, words: &[String]) -> String {
        let (how, uuid) = match words {
            [how, uuid, ..] if how == "off" => (HoldOrder::Off, uuid),
            [how, uuid, ..] if how == "toggle" => (HoldOrder::Toggle, uuid),
            [uuid, ..] => (HoldOrder::On, uuid),
            [] => return "-USAGE: [off|toggle] <uuid> [<display>]\n".to_owned(),
        };
        // A channel that is not there is held with success.
        if self.channels.contains_key(uuid) && !self.hold(now, uuid, how) {
            return "-ERR Operation failed\n".to_owned();
        }
        SUCCESS.to_owned()
    }

    /// The path may hold blanks where it is not the last word but one of legs.
    fn api_broadcast(&mut self, uuid: &str, line: &str, words: &[String]) -> String {
        if !self.channels.contains_key(uuid) {
            return "-ERR invalid uuid\n".to_owned();
        }
        let leg = words
            .last()
            .map(String::as_str)
            .filter(|word| words.len() > 2 && matches!(*word, "aleg" | "bleg" | "both" | "holdb"));
        let rest = line.split_once(' ').map_or("", |(_, rest)| rest.trim());
        let rest = leg.map_or(rest, |leg| rest.trim_end_matches(leg).trim_end());
        let path = arguments::split(rest, 1).pop().unwrap_or_default();
        let (app, data) = match path.split_once("::") {
            Some((app, data)) if !app.contains('/') => (app, data),
            _ => ("playback", path.as_str()),
        };
        let (app, hangup) =
            app.split_once('!').map_or((app, None), |(app, cause)| (app, Some(cause)));
        let peer = self.channels.get(uuid).and_then(|channel| channel.peer.clone());
        let ends = match leg {
            Some("bleg") => peer.into_iter().collect(),
            Some("both") => [Some(uuid.to_owned()), peer].into_iter().flatten().collect(),
            _ => vec![uuid.to_owned()],
        };
        for end in ends {
            let queued = |app: &str, data: &str| Queued {
                app: app.to_owned(),
                data: data.to_owned(),
                uuid: None,
                not_before: None,
                locked: true,
                broadcast: true,
            };
            self.queue_app(&end, queued(app, data));
            if let Some(cause) = hangup {
                self.queue_app(&end, queued("hangup", cause));
            }
        }
        "+OK Message sent\n".to_owned()
    }

    fn api_dtmf(&mut self, command: &str, uuid: &str, digits: Option<&str>) -> String {
        let (Some(channel), Some(digits)) = (self.channels.get_mut(uuid), digits) else {
            return "-ERR Cannot locate session!\n".to_owned();
        };
        if digits.len() > 99 {
            return "-ERR Operation failed\n".to_owned();
        }
        let (bare, duration) = digits.split_once('@').unwrap_or((digits, ""));
        let samples = duration.parse::<u32>().map_or(2_000, |ms| ms.min(10_000) * 8);
        if command == "uuid_send_dtmf" {
            channel.media.sent_digits.push_str(bare);
            return format!("+OK {uuid} sent DTMF {digits}.\n");
        }
        let keys = bare.chars().filter(|key| key.is_ascii_digit() || "*#ABCD".contains(*key));
        channel.media.digits.extend(keys.map(|key| (key, "APP", samples)));
        format!("+OK {uuid} received DTMF {digits}.\n")
    }

    fn api_record(&mut self, now: Instant, uuid: &str, words: &[String]) -> String {
        let Some(channel) = self.channels.get(uuid) else {
            return "-ERR Cannot locate session!\n".to_owned();
        };
        let (Some(order), Some(path)) = (words.get(1), words.get(2)) else {
            return "-USAGE: <uuid> [start|stop|mask|unmask] <path> [<limit>]\n".to_owned();
        };
        let runs =
            channel.bugs.iter().any(|bug| bug.function == "session_record" && bug.target == *path);
        match order.as_str() {
            "start" if !runs => {
                self.raise(now, uuid, "RECORD_START", &[], &[("Record-File-Path", path)]);
                self.set_bug(now, uuid, "session_record", path, true);
            }
            "stop" if runs || path == "all" => {
                self.raise(now, uuid, "RECORD_STOP", &[], &[("Record-File-Path", path)]);
                self.set_bug(now, uuid, "session_record", path, false);
            }
            "mask" | "unmask" | "pause" | "resume" if runs => {}
            _ => return "-ERR Operation failed\n".to_owned(),
        }
        SUCCESS.to_owned()
    }

    /// `uuid_audio <uuid> start read mute <level>` and `stop`.
    fn api_audio(&mut self, now: Instant, uuid: &str, words: &[String]) -> String {
        let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
        let muted = match words[..] {
            ["start", way, "mute", level] => {
                self.set_bug(now, uuid, "audio", "mute", true);
                way == "read" && level.parse::<i32>().is_ok_and(|level| level != 0)
            }
            ["start", ..] => {
                self.set_bug(now, uuid, "audio", "mute", true);
                false
            }
            ["stop", ..] => {
                self.set_bug(now, uuid, "audio", "mute", false);
                false
            }
            _ => {
                return "-USAGE: <uuid> [start [read|write] [mute|level <level>]|stop]\n"
                    .to_owned();
            }
        };
        if let Some(channel) = self.channels.get_mut(uuid) {
            channel.media.muted = muted;
        }
        OK.to_owned()
    }

    fn set_bug(
        &mut self,
        now: Instant,
        uuid: &str,
        function: &'static str,
        target: &str,
        on: bool,
    ) {
        let Some(channel) = self.channels.get_mut(uuid) else { return };
        let had = channel.bugs.iter().any(|bug| bug.function == function);
        if on == had {
            return;
        }
        if on {
            channel.bugs.push(Bug { function, target: target.to_owned() });
        } else {
            channel.bugs.retain(|bug| bug.function != function);
        }
        let extra = [("Media-Bug-Function", function), ("Media-Bug-Target", target)];
        self.raise(now, uuid, if on { "MEDIA_BUG_START" } else { "MEDIA_BUG_STOP" }, &extra, &[]);
    }
}

/// What a command wants; none for one that is not known.
fn usage(command: &str) -> Option<&'static str> {
    Some(match command {
        "uuid_getvar" => "<uuid> <var>",
        "uuid_setvar" => "<uuid> <var> [value]",
        "uuid_setvar_multi" => "<uuid> <var>=<value>;<var>=<value>...",
        "uuid_dump" => "<uuid> [format]",
        "uuid_kill" => "<uuid> [cause]",
        "uuid_transfer" => "<uuid> [-bleg|-both] <dest-exten> [<dialplan>] [<context>]",
        "uuid_dual_transfer" => {
            "<uuid> <A-dest-exten>[/<A-dialplan>][/<A-context>] <B-dest-exten>[/<B-dialplan>][/<B-context>]"
        }
        "uuid_bridge" => "<uuid> <other_uuid>",
        "uuid_broadcast" => "<uuid> <path> [aleg|bleg|holdb|both]",
        "uuid_hold" => "[off|toggle] <uuid> [<display>]",
        "uuid_break" => "<uuid> [all]",
        "uuid_record" => "<uuid> [start|stop|mask|unmask] <path> [<limit>]",
        "uuid_send_dtmf" | "uuid_recv_dtmf" => "<uuid> <dtmf_data>",
        "uuid_audio" => "<uuid> [start [read|write] [mute|level <level>]|stop]",
        "uuid_displace" => "<uuid> [start|stop] <path> [<limit>] [mux]",
        "uuid_deflect" => "<uuid> <uri>",
        "uuid_answer" | "uuid_pre_answer" | "uuid_ring_ready" | "uuid_park" | "uuid_buglist"
        | "uuid_media" | "uuid_display" | "uuid_phone_event" | "uuid_simplify" => "<uuid>",
        _ => return None,
    })
}

fn least_words(command: &str) -> usize {
    match command {
        "uuid_getvar" | "uuid_setvar" | "uuid_setvar_multi" | "uuid_transfer"
        | "uuid_broadcast" | "uuid_bridge" | "uuid_record" | "uuid_send_dtmf"
        | "uuid_recv_dtmf" | "uuid_audio" | "uuid_displace" | "uuid_deflect" => 2,
        "uuid_dual_transfer" => 3,
        _ => 1,
    }
}
