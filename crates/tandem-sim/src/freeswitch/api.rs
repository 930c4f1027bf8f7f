//! The commands of `api` and `bgapi`.

mod channels;
mod lists;

use std::time::Instant;

use super::{
    apps::DOMAIN,
    model::{SwitchModel, Waiting},
};

pub(crate) const NO_CHANNEL: &str = "-ERR No such channel!\n";

impl SwitchModel {
    /// Carries out one API line; none when the result comes later.
    pub(crate) fn api(&mut self, now: Instant, line: &str, waiting: &Waiting) -> Option<String> {
        let (command, arguments) = line.split_once(' ').unwrap_or((line, ""));
        let arguments = arguments.trim_start_matches(' ').trim_end();
        let result = self.api_command(now, command, arguments, waiting)?;
        let mut event =
            self.begin_event(now, "API", ("switch_loadable_module.c", "switch_api_execute"));
        event.push("API-Command", command);
        event.push("API-Command-Argument", arguments);
        self.publish(event);
        Some(result)
    }

    fn api_command(
        &mut self,
        now: Instant,
        command: &str,
        arguments: &str,
        waiting: &Waiting,
    ) -> Option<String> {
        let text = match command {
            "originate" => match super::originate::Order::parse(arguments) {
                None => "-USAGE: <call url> <exten>|&<application_name>(<app_args>) [<dialplan>] [<context>] [<cid_name>] [<cid_num>] [<timeout_sec>]\n".to_owned(),
                Some(order) => match self.originate(now, order, waiting) {
                    Ok(_) => return None,
                    Err(reply) => reply,
                },
            },
            "expand" => return self.expand(now, arguments, waiting),
            "uuid_audio_fork" => self.api_audio_fork(now, arguments),
            "uuid_audio_stream" => self.api_audio_stream(now, arguments),
            _ if command.starts_with("uuid_") => self.api_channel(now, command, arguments),
            _ => self.api_list(now, command, arguments),
        };
        Some(text)
    }

    /// A command with the variables in it, those of a channel where `uuid:` names one.
    fn expand(&mut self, now: Instant, line: &str, waiting: &Waiting) -> Option<String> {
        let named = line.strip_prefix("uuid:").and_then(|rest| rest.split_once(' '));
        let (channel, line) = named.map_or((None, line), |(uuid, rest)| (Some(uuid), rest));
        let mut expanded = String::new();
        let mut rest = line;
        while let Some((before, (name, after))) =
            rest.split_once("${").and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
        {
            let channel = channel.and_then(|uuid| self.channels.get(uuid));
            let value = channel.and_then(|channel| channel.variable(name));
            expanded.push_str(before);
            expanded.push_str(value.unwrap_or(if name == "domain" { DOMAIN } else { "" }));
            rest = after;
        }
        expanded.push_str(rest);
        let (command, arguments) = expanded.split_once(' ').unwrap_or((&expanded, ""));
        self.api_command(now, command, arguments, waiting)
    }
}

/// What the switch says of a command it does not know.
fn unknown(command: &str) -> String {
    format!("-ERR {command} Command not found!\n")
}
