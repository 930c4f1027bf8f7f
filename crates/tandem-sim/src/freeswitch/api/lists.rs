//! Commands about the switch as a whole, and about conferences and queues.

use std::{fmt::Write as _, time::Instant};

use super::unknown;
use crate::freeswitch::{
    apps::DOMAIN,
    channel::{Channel, cause},
    json,
    model::{SwitchModel, Waiting},
    originate::Order,
};

const VERSION: &str = "FreeSWITCH Version 1.10.12-release+git~20240802T210227Z~a88d069d6f~64bit (git a88d069 2024-08-02 21:02:27Z 64bit)\n";

impl SwitchModel {
    pub(super) fn api_list(&mut self, now: Instant, command: &str, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
        match (command, &words[..]) {
            ("version", ["short"]) => "1.10.12\n".to_owned(),
            ("version", _) => VERSION.to_owned(),
            ("status", _) => self.status(now),
            ("show", ["channels", rest @ ..]) => self.show_channels(now, rest),
            ("show", ["calls", rest @ ..]) => self.show_calls(rest),
            ("show", ["registrations", ..]) => "{\"row_count\": 0}\n".to_owned(),
            ("module_exists", [module]) => self.has_module(module).to_string(),
            ("create_uuid", _) => self.new_uuid(),
            ("hostname", _) => "fs.example".to_owned(),
            ("strftime", _) => self.stamp(now).local,
            ("global_getvar", ["domain"]) => DOMAIN.to_owned(),
            ("global_getvar" | "eval", _) => "-ERR no reply\n".to_owned(),
            ("xml_locate", [.., "ivr.conf"]) => self.menus(),
            ("user_exists", [_, user, ..]) => self.config.users.contains_key(*user).to_string(),
            ("fsctl", ["pause", ..]) => {
                self.paused = true;
                "+OK\n".to_owned()
            }
            ("fsctl", ["resume", ..]) => {
                self.paused = false;
                "+OK\n".to_owned()
            }
            ("fsctl", ["max_sessions", ..]) => "+OK max sessions: 1000\n".to_owned(),
            ("reloadxml", _) => "+OK [Success]\n".to_owned(),
            ("hupall", rest) => {
                let cause = cause(rest.first().copied().unwrap_or("MANAGER_REQUEST"));
                let chosen = self.channels.values().filter(|channel| match rest {
                    [_, name, value, ..] => channel.variable(name) == Some(*value),
                    _ => true,
                });
                for uuid in chosen.map(|channel| channel.uuid.clone()).collect::<Vec<_>>() {
                    self.hang_up(now, &uuid, &cause);
                }
                format!("+OK hangup all channels with cause {cause}\n")
            }
            ("sched_hangup", [at, uuid, rest @ ..]) => {
                let Some(seconds) = at.strip_prefix('+').and_then(|at| at.parse::<u64>().ok())
                else {
                    return "-ERR Only relative times\n".to_owned();
                };
                let due = now + std::time::Duration::from_secs(seconds.min(86_400));
                let cause = cause(rest.first().copied().unwrap_or("ALLOTTED_TIMEOUT"));
                self.scheduled.push((due, (*uuid).to_owned(), cause));
                self.wake.notify_one();
                format!("+OK Added: {}\n", self.scheduled.len())
            }
            ("sofia", ["status", "gateway", name]) => self.gateway(name),
            ("sofia", ["status", "profile", name, ..]) => {
                if self.config.profiles.iter().any(|known| known == name) {
                    format!(
                        "Name             \t{name}\nDialplan         \tXML\nContext          \tdefault\n"
                    )
                } else {
                    "Invalid Profile!\n".to_owned()
                }
            }
            ("sofia", ["status", ..]) => self.sofia_status(),
            ("callcenter_config", rest) => self.callcenter(rest),
            ("fifo", ["list", ..]) => self.fifo_list(),
            ("fifo", ["count", ..]) => "manual_calls:0:0:0:0:0:0\n".to_owned(),
            ("conference", rest) => self.conference(now, rest),
            ("valet_info", _) => self.valet_info(),
            _ => unknown(command),
        }
    }

    /// The configuration of the application `ivr`.
    fn menus(&self) -> String {
        let menus = self.config.menus.iter().fold(String::new(), |mut xml, menu| {
            let _ = writeln!(xml, "    <menu name=\"{menu}\" timeout=\"20000\"></menu>");
            xml
        });
        format!(
            "<configuration name=\"ivr.conf\">\n  <menus>\n{menus}  </menus>\n</configuration>\n"
        )
    }

    fn status(&self, now: Instant) -> String {
        let up = now.saturating_duration_since(self.started);
        let seconds = up.as_secs();
        format!(
            "UP 0 years, {} days, {} hours, {} minutes, {} seconds, {} milliseconds, {} microseconds\n\
             FreeSWITCH (Version 1.10.12-release git a88d069 2024-08-02 21:02:27Z 64bit) is ready\n\
             {} session(s) since startup\n{} session(s) - peak 0, last 5min 0 \n\
             0 session(s) per Sec out of max 200, peak 0, last 5min 0 \n1000 session(s) max\n\
             min idle cpu 0.00/97.97\nCurrent Stack Size/Max 240K/8192K\n",
            seconds / 86_400,
            seconds / 3_600 % 24,
            seconds / 60 % 60,
            seconds % 60,
            up.subsec_millis(),
            up.subsec_micros() % 1_000,
            self.sessions_since_start,
            self.channels.len(),
        )
    }

    fn has_module(&self, module: &str) -> bool {
        match module {
            "mod_audio_fork" => self.config.audio_fork.is_some(),
            "mod_audio_stream" => self.config.audio_stream.is_some(),
            "mod_callcenter" => !self.config.queues.is_empty(),
            _ => matches!(
                module,
                "mod_sofia"
                    | "mod_event_socket"
                    | "mod_commands"
                    | "mod_dptools"
                    | "mod_dialplan_xml"
                    | "mod_loopback"
                    | "mod_tone_stream"
                    | "mod_sndfile"
                    | "mod_native_file"
                    | "mod_local_stream"
                    | "mod_valet_parking"
                    | "mod_conference"
                    | "mod_fifo"
                    | "mod_voicemail"
                    | "mod_opus"
                    | "mod_spandsp"
                    | "mod_say_en"
            ),
        }
    }

    fn by_age(&self) -> Vec<&Channel> {
        let mut channels: Vec<&Channel> = self.channels.values().collect();
        channels.sort_unstable_by_key(|channel| channel.serial);
        channels
    }

    fn show_channels(&self, now: Instant, rest: &[&str]) -> String {
        let as_json = matches!(rest, [.., "as", "json"]);
        let channels = self.by_age();
        if rest.first() == Some(&"count") {
            return if as_json {
                format!("{{\"row_count\":{}}}\n", channels.len())
            } else {
                format!("\n{} total.\n", channels.len())
            };
        }
        if !as_json {
            let mut text = String::new();
            for channel in &channels {
                let _written = writeln!(
                    text,
                    "{},{},{}",
                    channel.uuid,
                    channel.name,
                    channel.state.word_and_number().0
                );
            }
            let _written = write!(text, "\n{} total.\n", channels.len());
            return text;
        }
        if channels.is_empty() {
            return "{\"row_count\": 0}\n".to_owned();
        }
        let created = self.stamp(now);
        let rows: Vec<String> =
            channels.iter().map(|channel| row(channel, &created.local)).collect();
        format!("{{\"row_count\":{},\"rows\":[{}]}}\n", rows.len(), rows.join(","))
    }

    fn show_calls(&self, rest: &[&str]) -> String {
        let leads: Vec<&Channel> = self
            .by_age()
            .into_iter()
            .filter(|channel| {
                let peer = channel.peer.as_ref().and_then(|peer| self.channels.get(peer));
                peer.is_none_or(|peer| channel.serial < peer.serial)
            })
            .collect();
        match rest {
            [.., "as", "json"] if leads.is_empty() => "{\"row_count\": 0}\n".to_owned(),
            [.., "as", "json"] => {
                let rows = leads.iter().map(|channel| {
                    let peer = channel.peer.as_deref().unwrap_or_default();
                    json::object([
                        ("uuid", json::quoted(&channel.uuid).as_str()),
                        ("name", &json::quoted(&channel.name)),
                        ("b_uuid", &json::quoted(peer)),
                    ])
                });
                let rows: Vec<String> = rows.collect();
                format!("{{\"row_count\":{},\"rows\":[{}]}}\n", rows.len(), rows.join(","))
            }
            _ => format!("\n{} total.\n", leads.len()),
        }
    }

    fn gateway(&self, name: &str) -> String {
        const LINE: &str = "=================================================================================================\n";
        let Some(up) = self.config.gateways.get(name) else {
            return "Invalid Gateway!\n".to_owned();
        };
        let (state, status) = if *up { ("NOREG", "UP") } else { ("NOREG", "DOWN") };
        format!(
            "{LINE}Name    \t{name}\nProfile \tpeer\nScheme  \tDigest\nRealm   \t127.0.0.1:5090\nState   \t{state}\n\
             Status  \t{status}\nCallsIN \t0\nCallsOUT\t0\n{LINE}"
        )
    }

    fn sofia_status(&self) -> String {
        let mut text = String::from(
            "                     Name\t   Type\t                                      Data\tState\n\
             =================================================================================================\n",
        );
        for profile in &self.config.profiles {
            let _written = writeln!(
                text,
                "{profile:>25}\tprofile\t{:>42}\tRUNNING (0)",
                "sip:mod_sofia@127.0.0.1:5060"
            );
        }
        for (gateway, up) in &self.config.gateways {
            let state = if *up { "NOREG" } else { "DOWN" };
            let _written = writeln!(
                text,
                "{:>25}\tgateway\t{:>42}\t{state}",
                format!("peer::{gateway}"),
                "sip:127.0.0.1:5090"
            );
        }
        let _written = write!(
            text,
            "=================================================================================================\n{} profiles 0 aliases\n",
            self.config.profiles.len()
        );
        text
    }

    fn callcenter(&self, words: &[&str]) -> String {
        match words {
            _ if self.config.queues.is_empty() => unknown("callcenter_config"),
            ["queue", "list"] => {
                let mut text = String::from("name|strategy|moh_sound|time_base_score\n");
                for queue in &self.config.queues {
                    let _written =
                        writeln!(text, "{queue}|longest-idle-agent|local_stream://moh|queue");
                }
                text + "+OK\n"
            }
            ["queue", "count", "members" | "agents", queue]
            | ["queue", "list", "members" | "agents", queue]
                if !self.config.queues.iter().any(|known| known == queue) =>
            {
                "-ERR Queue not found!\n".to_owned()
            }
            ["queue", "count", "members", queue] => {
                let wanted = |channel: &&Channel| channel.application() == ("callcenter", *queue);
                format!("{}\n", self.channels.values().filter(wanted).count())
            }
            ["queue", "list", "members", queue] => {
                let wanted = |channel: &&Channel| channel.application() == ("callcenter", *queue);
                let mut text = String::new();
                for channel in self.channels.values().filter(wanted) {
                    if text.is_empty() {
                        text.push_str(
                            "queue|instance_id|uuid|session_uuid|cid_number|cid_name|state\n",
                        );
                    }
                    let _written = writeln!(
                        text,
                        "{queue}|single_box|{}|{}|{}|{}|Waiting",
                        channel.uuid, channel.uuid, channel.caller_number, channel.caller_name
                    );
                }
                text + "+OK\n"
            }
            ["queue", "count", ..] => "0\n".to_owned(),
            ["queue", "list", ..] => "name|uuid\n+OK\n".to_owned(),
            _ => "-ERR Invalid!\n".to_owned(),
        }
    }

    fn fifo_list(&self) -> String {
        let mut waiting: Vec<(&str, &str)> = Vec::new();
        for channel in self.channels.values() {
            if let ("fifo", data) = channel.application() {
                waiting.push((data.split(' ').next().unwrap_or_default(), &channel.uuid));
            }
        }
        let mut text = String::from("<fifo_report>\n");
        for (name, uuid) in waiting {
            let _written = writeln!(
                text,
                "  <fifo name=\"{name}\" consumer_count=\"0\" caller_count=\"1\" waiting_count=\"1\"><callers><caller uuid=\"{uuid}\"/></callers></fifo>"
            );
        }
        text + "</fifo_report>\n"
    }

    fn valet_info(&self) -> String {
        let mut text = String::from("<lots>\n");
        for ((lot, slot), uuid) in &self.valet {
            let _written = writeln!(
                text,
                "  <lot name=\"{lot}\"><extension uuid=\"{uuid}\">{slot}</extension></lot>"
            );
        }
        text + "</lots>\n"
    }

    fn conference(&mut self, now: Instant, words: &[&str]) -> String {
        match words {
            ["list", ..] if self.conferences.is_empty() => {
                "+OK No active conferences.\n".to_owned()
            }
            ["list", ..] => {
                let mut text = String::new();
                for (name, conference) in &self.conferences {
                    let _written = writeln!(
                        text,
                        "+OK Conference {name} ({} members rate: 8000 flags: running|answered|enforce_min|dynamic|exit_sound|enter_sound|json_status)",
                        conference.members.len()
                    );
                    text.push_str(&self.member_list(name));
                }
                text
            }
            [name, "dial", dial, rest @ ..] => {
                let line =
                    format!("{dial} &conference({name}@default) XML default {}", rest.join(" "));
                let Some(order) = Order::parse(&line) else {
                    return "-ERR Bad Args\n".to_owned();
                };
                // Blocks in the real switch; here the leg joins when it answers.
                match self.originate(now, order, &Waiting::Nobody) {
                    Ok(_) => "+OK Call Requested: result: [SUCCESS]\n".to_owned(),
                    Err(reply) => {
                        let cause = reply.trim_start_matches("-ERR ").trim().to_owned();
                        format!("+OK Call Requested: result: [{cause}]\n")
                    }
                }
            }
            [name, ..] if !self.conferences.contains_key(*name) => {
                format!("-ERR Conference {name} not found\n")
            }
            [name, "list", ..] => self.member_list(name),
            [name, "json_list", ..] => self.member_json(name),
            [name, verb, member, ..] => self.on_members(now, name, verb, member),
            _ => "-ERR Bad Args\n".to_owned(),
        }
    }

    fn member_list(&self, name: &str) -> String {
        let mut text = String::new();
        let Some(conference) = self.conferences.get(name) else { return text };
        for (member, uuid) in conference.members.iter().rev() {
            let Some(channel) = self.channels.get(uuid) else { continue };
            let flags =
                if conference.muted.contains(member) { "hear" } else { "hear|speak|talking" };
            let _written = writeln!(
                text,
                "{member};{};{uuid};{};{};{flags};0;0;0",
                channel.name, channel.caller_name, channel.caller_number
            );
        }
        text
    }

    fn member_json(&self, name: &str) -> String {
        let Some(conference) = self.conferences.get(name) else { return String::new() };
        let members = conference.members.iter().rev().map(|(member, uuid)| {
            let speaks = !conference.muted.contains(member);
            let flags = format!(
                "{{\"can_hear\":true,\"can_speak\":{speaks},\"hold\":false,\"talking\":{speaks}}}"
            );
            format!(
                "{{\"type\":\"caller\",\"id\":{member},\"flags\":{flags},\"uuid\":{}}}",
                json::quoted(uuid)
            )
        });
        let members: Vec<String> = members.collect();
        format!(
            "[{{\"conference_name\":{},\"member_count\":{},\"rate\":8000,\"conference_uuid\":{},\"members\":[{}]}}]\n",
            json::quoted(name),
            members.len(),
            json::quoted(&conference.uuid),
            members.join(",")
        )
    }

    fn on_members(&mut self, now: Instant, name: &str, verb: &str, selector: &str) -> String {
        let (action, said) = match verb {
            "mute" => ("mute-member", "mute"),
            "unmute" => ("unmute-member", "unmute"),
            "deaf" => ("deaf-member", "deaf"),
            "undeaf" => ("undeaf-member", "undeaf"),
            "hold" => ("hold-member", "hold"),
            "unhold" => ("unhold-member", "unhold"),
            "kick" => ("kick-member", "kicked"),
            "hup" => ("hup-member", "hup"),
            _ => return format!("-ERR Conference command '{verb}' not found.\n"),
        };
        let members = self.conferences.get(name).map(|conference| conference.members.clone());
        let mut members = members.unwrap_or_default();
        members.reverse();
        match selector {
            "all" | "non_moderator" => {}
            "last" => members.truncate(1),
            id => members.retain(|(member, _)| member.to_string() == id),
        }
        if members.is_empty() {
            return format!("-ERR Member: {selector} not found.\n");
        }
        let mut text = String::new();
        for (member, uuid) in members {
            if let Some(conference) = self.conferences.get_mut(name) {
                match verb {
                    "mute" => {
                        conference.muted.insert(member);
                    }
                    "unmute" => {
                        conference.muted.remove(&member);
                    }
                    _ => {}
                }
            }
            self.raise_conference(now, Some(&uuid), name, member, action);
            if matches!(verb, "kick" | "hup")
                && let Some(running) =
                    self.channels.get_mut(&uuid).and_then(|channel| channel.stack.pop())
            {
                self.end_running(now, &uuid, &running, true);
            }
            let _written = writeln!(text, "+OK {said} {member}");
        }
        text
    }
}

/// One row of `show channels as json`: all values are strings.
fn row(channel: &Channel, created: &str) -> String {
    let (app, data) = channel.application();
    let direction = if channel.inbound { "inbound" } else { "outbound" };
    let rate = channel.codec.1.to_string();
    let epoch = (channel.times.created / 1_000_000).to_string();
    let has_codec = channel.times.progress_media > 0;
    let codec = if has_codec { (channel.codec.0, rate.as_str(), "64000") } else { ("", "", "") };
    let address = if channel.inbound { "127.0.0.1" } else { "" };
    let fields: [(&str, &str); 34] = [
        ("uuid", &channel.uuid),
        ("direction", direction),
        ("created", created),
        ("created_epoch", &epoch),
        ("name", &channel.name),
        ("state", channel.state.word_and_number().0),
        ("cid_name", &channel.caller_name),
        ("cid_num", &channel.caller_number),
        ("ip_addr", address),
        ("dest", &channel.destination),
        ("application", app),
        ("application_data", data),
        ("dialplan", &channel.dialplan),
        ("context", &channel.context),
        ("read_codec", codec.0),
        ("read_rate", codec.1),
        ("read_bit_rate", codec.2),
        ("write_codec", codec.0),
        ("write_rate", codec.1),
        ("write_bit_rate", codec.2),
        ("secure", ""),
        ("hostname", "fs.example"),
        ("presence_id", ""),
        ("presence_data", ""),
        ("accountcode", ""),
        ("callstate", channel.call_state),
        ("callee_name", ""),
        ("callee_num", &channel.callee_number),
        ("callee_direction", ""),
        ("call_uuid", &channel.call_uuid),
        ("sent_callee_name", ""),
        ("sent_callee_num", ""),
        ("initial_cid_num", &channel.caller_number),
        ("initial_dest", &channel.destination),
    ];
    let printed: Vec<(&str, String)> =
        fields.iter().map(|(name, value)| (*name, json::quoted(value))).collect();
    json::object(printed.iter().map(|(name, value)| (*name, value.as_str())))
}
