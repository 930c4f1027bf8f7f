//! The command line: what can be asked of `tandem`, and what each answer is worth as an exit code.

mod recording;
pub(crate) mod report;
mod run;
mod tools;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use secrecy::SecretString;
use tandem_media::Codec;

use crate::{
    bench::BenchArgs,
    config::parse_codec,
    freeswitch::dialplan::Mode,
    logging::LogFormat,
    softphone::{Cue, DigitCue, HeaderArg, WavCue},
    terminal::ColorChoice,
};

pub use recording::{DecryptArgs, InfoArgs, RecordingArgs, RecordingCommand, SweepArgs};
pub use run::main;
pub use tools::{ListArgs, SchemaArgs, TestArgs, ToolsArgs, ToolsCommand};

const AFTER_HELP: &str = "\
Start here:
  tandem demo                         hear it: a call to the offline attendant, no key needed
  tandem check                        every mistake in tandem.toml, then ports, voice and models for real
  tandem serve                        answer calls
  tandem route +13055551234           which agent answers, and why
  tandem call sip:200@127.0.0.1       call it from this terminal
  tandem tools --help                 what agents may do, and a webhook that does it
  tandem freeswitch --help            an agent beside a FreeSWITCH

Exit codes: 0 all is well, 1 it is not (nobody answers, a check failed), 2 the command line or the
configuration is wrong.";

/// Where the options of all commands stand in the help.
const FOR_ALL: &str = "For all commands";

/// Answers telephone numbers with realtime voice models.
#[derive(Debug, Parser)]
#[command(name = "tandem", version, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// For all commands.
    #[command(flatten)]
    pub global: Global,
}

/// Options of all commands.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The configuration [default: tandem.toml if there is one, else the built-in attendant on 127.0.0.1:5060]
    #[arg(short, long, global = true, env = "TANDEM_CONFIG", value_name = "FILE", help_heading = FOR_ALL)]
    pub config: Option<PathBuf>,
    /// Colour in the output: auto, always or never
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", hide_possible_values = true, help_heading = FOR_ALL)]
    pub color: ColorChoice,
    /// What to log, as in RUST_LOG: "info", "debug", "info,tandem_sip=debug"
    #[arg(long, global = true, value_name = "FILTER", help_heading = FOR_ALL)]
    pub log: Option<String>,
    /// Form of the log lines: text or json
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM", hide_possible_values = true, help_heading = FOR_ALL)]
    pub log_format: LogFormat,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer calls until told to stop
    Serve(ServeArgs),
    /// Report every mistake in the configuration, then try ports, records, voice, tools and models for real
    Check(CheckArgs),
    /// Tell which agent answers a number, and why
    Route(RouteArgs),
    /// Call somebody: a softphone for scripts
    Call(Box<CallArgs>),
    /// Start a daemon with the offline attendant, call it, and show the conversation and its latency
    Demo(DemoArgs),
    /// Measure latency with many calls: RTP to the model and back, as a table
    Bench(BenchArgs),
    /// Receive webhooks, for `bench --tools`
    #[command(hide = true)]
    WebhookReceiver(WebhookReceiverArgs),
    /// Put Tandem beside a FreeSWITCH: the dialplan for it
    Freeswitch(FreeswitchArgs),
    /// Look at recordings, unseal them, delete old ones
    Recording(RecordingArgs),
    /// List the tools of agents, try one out
    Tools(ToolsArgs),
}

/// `tandem webhook-receiver`
#[derive(Debug, Clone, Args)]
pub struct WebhookReceiverArgs {
    /// Where it listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    pub listen: std::net::SocketAddr,
}

/// `tandem serve`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Signals:
  SIGHUP   read agents and numbers again; running calls keep what they started with
  SIGTERM  take no more calls, wait for the running ones (limits.drain_s), stop

Example:
  tandem serve -c /etc/tandem/tandem.toml --log-format json")]
pub struct ServeArgs {}

/// `tandem check`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  tandem check                  all of it; models are dialled with their keys
  tandem check --offline        without models, webhooks and MCP servers
  tandem check --json | jq .ok  for scripts

A listener that is in use fails the check: run it before `tandem serve`, not beside it.")]
pub struct CheckArgs {
    /// Don't reach out to models, webhooks and MCP servers
    #[arg(long)]
    pub offline: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `tandem route`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  tandem route +13055551234
  tandem route '(305) 555-1234' -c tandem.toml
  tandem route sip:200@pbx.example --json

The exit code is 1 when nothing answers.")]
pub struct RouteArgs {
    /// The number as it is dialled, or a SIP URI
    pub number: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `tandem call`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  tandem call sip:200@127.0.0.1
      listen until the far side hangs up, Ctrl-C hangs up
  tandem call sip:200@127.0.0.1 --wav hello.wav --record out.wav
      play hello.wav once the call is answered; out.wav has us left and them right
  tandem call sip:200@127.0.0.1 --wav after1+500ms:question.wav --wav during2+1s:wait.wav --digits after3:0
      speak when their first turn is over, interrupt their second, press 0 after the third
  tandem call sip:200@127.0.0.1 --digits '2s:1,5.5s:#' --json
      press 1 two seconds after the answer and # after five and a half
  tandem call sip:200@127.0.0.1 --codec g722,pcmu --wav hello.wav --record wide.wav
      in G.722 if they have it; the recording has the codec's rate, up to 48 kHz

When a thing is to happen is written before a colon: 2s, 500ms, 1.5s after the answer; after2 or after2+500ms, when
their second turn is over; during2+1s, one second into their second turn.")]
pub struct CallArgs {
    /// Whom to call: sip:200@pbx.example, sip:200@127.0.0.1:5080;transport=tcp
    pub uri: String,
    /// Play a WAV file (any rate, mono or stereo), at a given time if one is named [may be repeated]
    #[arg(long, value_name = "[WHEN:]FILE")]
    pub wav: Vec<WavCue>,
    /// Press digits: "2s:1,5.5s:#"
    #[arg(long, value_name = "WHEN:DIGITS,...", value_delimiter = ',')]
    pub digits: Vec<DigitCue>,
    /// Record both sides: left what we sent, right what we heard
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Hang up after so many seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub duration: u32,
    /// Hang up at this time: "10s", "after3+1s"
    #[arg(long, value_name = "WHEN")]
    pub hang_up: Option<Cue>,
    /// Who is calling: a number or a SIP URI
    #[arg(long, default_value = "tandem", value_name = "WHO")]
    pub from: String,
    /// User name, when the far side asks for a password
    #[arg(long, value_name = "NAME", requires = "password")]
    pub user: Option<String>,
    /// Its password; better by environment than on the command line
    #[arg(long, env = "TANDEM_CALL_PASSWORD", hide_env_values = true, value_name = "PASSWORD")]
    pub password: Option<SecretString>,
    /// A header for the INVITE: "X-Tenant: acme" [may be repeated]
    #[arg(long, value_name = "NAME: VALUE")]
    pub header: Vec<HeaderArg>,
    /// Codecs to offer, best first: pcmu, pcma, g722, opus, l16/16000 (or 8000, 24000, 48000)
    #[arg(long, value_parser = parse_codec, value_delimiter = ',', default_values = ["pcmu", "pcma"], value_name = "CODEC")]
    pub codec: Vec<Codec>,
    /// Offer protected media (SRTP) only, with keys in SDP (sdes) or by a handshake (dtls)
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "sdes", value_name = "KEYS")]
    pub srtp: Option<SrtpKeys>,
    /// Local address to call from [default: the one that reaches the far side]
    #[arg(long, value_name = "IP")]
    pub local: Option<std::net::IpAddr>,
    /// Print the latency ledger of the call from this file of call records (the far side is a Tandem on this machine)
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Print one JSON object at the end
    #[arg(long)]
    pub json: bool,
}

/// Where the keys of protected media come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SrtpKeys {
    /// In SDP, where whoever reads it has them.
    Sdes,
    /// Of a DTLS handshake on the media's path.
    Dtls,
}

/// `tandem demo`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  tandem demo --dir demo        leaves demo/call.wav: the caller on the left, the agent on the right")]
pub struct DemoArgs {
    /// Where recording, call record and log are left
    #[arg(long, default_value = "demo", value_name = "DIRECTORY")]
    pub dir: PathBuf,
}

/// `tandem freeswitch`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
From a running FreeSWITCH to a talking agent:
  1. Build mod_audio_fork (jambonz/freeswitch-modules) or mod_audio_stream (amigniter/mod_audio_stream) and load it:
     fs_cli -x 'load mod_audio_fork'
  2. In tandem.toml:
     [freeswitch]
     module = \"jambonz\"                        # or drachtio, stream, stream-raw, stream-base64
     [freeswitch.switches.main]
     address = \"127.0.0.1:8021\"
     password_env = \"FREESWITCH_PASSWORD\"      # that of FreeSWITCH's event_socket.conf.xml
  3. tandem check && tandem serve
  4. tandem freeswitch dialplan > /etc/freeswitch/dialplan/public/00_tandem.xml
     fs_cli -x reloadxml

docs/freeswitch.md has the rest: the three ways to hand a call over, transfers, call variables, sizing, known faults.")]
pub struct FreeswitchArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: FreeswitchCommand,
}

/// What `tandem freeswitch` does.
#[derive(Debug, Clone, Subcommand)]
pub enum FreeswitchCommand {
    /// Print the dialplan that hands calls to Tandem, made from the configuration
    Dialplan(DialplanArgs),
}

/// `tandem freeswitch dialplan`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  tandem freeswitch dialplan > /etc/freeswitch/dialplan/public/00_tandem.xml && fs_cli -x reloadxml
      every number of [numbers]; those with a `route` are given back to the dialplan
  tandem freeswitch dialplan --number +13055551234
      this one only, whichever line of [numbers] it falls under
  tandem freeswitch dialplan --mode bridge --profile internal
      by SIP, without fork module and event socket

The comments in what it prints say where to save it. It holds no secret.")]
pub struct DialplanArgs {
    /// How calls are handed over
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    pub mode: Mode,
    /// The dialplan context that calls come in at
    #[arg(long, default_value = "public", value_name = "NAME", value_parser = dialplan_name)]
    pub context: String,
    /// The SIP profile that calls Tandem, for --mode bridge
    #[arg(long, default_value = "external", value_name = "NAME", value_parser = dialplan_name)]
    pub profile: String,
    /// Only this number [may be repeated]
    #[arg(long, value_name = "NUMBER")]
    pub number: Vec<String>,
}

/// The name of a context or a profile.
fn dialplan_name(text: &str) -> Result<String, String> {
    let shape = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if (1..=64).contains(&text.len()) && text.chars().all(shape) {
        return Ok(text.to_owned());
    }
    Err("letters, digits and - _ . only, at most 64".into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_are_read() {
        for (line, good) in [
            ("tandem serve", true),
            ("tandem serve -c x.toml --log info --log-format json --color never", true),
            ("tandem -c x.toml check --offline --json", true),
            ("tandem route +13055551234", true),
            ("tandem route", false),
            ("tandem call sip:200@127.0.0.1 --wav 2s:a.wav --wav b.wav --digits 2s:1,5.5s:#", true),
            ("tandem call sip:200@127.0.0.1 --digits x:1", false),
            ("tandem call sip:200@127.0.0.1 --codec opus,g722,l16/16000", true),
            ("tandem call sip:200@127.0.0.1 --srtp", true),
            ("tandem call sip:200@127.0.0.1 --srtp=dtls --json", true),
            ("tandem call sip:200@127.0.0.1 --srtp=zrtp", false),
            ("tandem call sip:200@127.0.0.1 --codec g729", false),
            ("tandem call sip:200@127.0.0.1 --codec l16", false),
            ("tandem call sip:200@127.0.0.1 --duration 0", false),
            ("tandem bench --calls 300 --seconds 60 --seed 2 --fifo --json bench.json", true),
            ("tandem bench --calls 0", false),
            ("tandem freeswitch dialplan", true),
            (
                "tandem freeswitch dialplan --mode fork --context default --number 200 --number +1305",
                true,
            ),
            ("tandem freeswitch dialplan --mode bridge --profile internal -c x.toml", true),
            ("tandem freeswitch dialplan --mode carrier-pigeon", false),
            ("tandem freeswitch dialplan --context ../../etc", false),
            ("tandem freeswitch dialplan --profile a/b", false),
            ("tandem freeswitch", false),
            ("tandem recording info a.wav --json", true),
            ("tandem recording decrypt a.wav.sealed --key-file k -o b.wav", true),
            ("tandem recording decrypt a.wav.sealed", false),
            ("tandem recording sweep recordings --keep-days 30", true),
            ("tandem recording sweep recordings", false),
            ("tandem tools list", true),
            ("tandem tools list reception --offline --json", true),
            (
                "tandem tools test reception create_lead --args {} --from +1305 --to 200 --json",
                true,
            ),
            ("tandem tools test reception", false),
            ("tandem tools schema end_call --agent a -c x.toml", true),
            ("tandem tools schema", false),
            ("tandem tools", false),
            ("tandem dance", false),
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert_eq!(
                parsed.is_ok(),
                good,
                "{line}: {:?}",
                parsed.err().map(|error| error.to_string())
            );
        }
    }
}
