//! What a call of the softphone is to do, with every file read and every word understood.

use std::{
    net::IpAddr,
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tandem_media::{Codec, SampleRate};
use tandem_sip::Credential;

use super::{Action, Cue, Target, wav};
use crate::cli::{CallArgs, SrtpKeys};

/// A call to be made.
#[derive(Debug, Clone)]
pub struct CallPlan {
    /// Whom.
    pub target: Target,
    /// From, as the user wrote it: a number, a name or a SIP URI.
    pub from: String,
    /// What happens when.
    pub cues: Vec<(Cue, Action)>,
    /// Where the recording goes.
    pub record: Option<PathBuf>,
    /// Hang up so long after the answer.
    pub duration: Duration,
    /// No RTP for so long ends the call.
    pub media_timeout: Duration,
    /// Answers a challenge.
    pub credentials: Option<Credential>,
    /// Headers of the INVITE.
    pub headers: Vec<(String, String)>,
    /// Codecs to offer, best first.
    pub codecs: Vec<Codec>,
    /// Offer protected media only, with keys made so; none = plain.
    pub srtp: Option<SrtpKeys>,
    /// Local address; none = the one that reaches the target.
    pub local: Option<IpAddr>,
    /// Call records of a Tandem on this machine.
    pub ledger: Option<PathBuf>,
}

impl CallPlan {
    /// The plan that `args` describe. Fails with a text that says which argument is wrong.
    pub fn new(args: &CallArgs) -> Result<Self, String> {
        let mut codecs: Vec<Codec> = Vec::new();
        for codec in &args.codec {
            if !codecs.contains(codec) {
                codecs.push(*codec);
            }
        }
        // No codec that may be agreed on has more of the sound.
        let rate = codecs.iter().map(|codec| codec.rate()).max().unwrap_or(SampleRate::Hz8000);
        let mut cues = Vec::new();
        for cue in &args.wav {
            cues.push((cue.when, Action::Play(wav::load(&cue.file, rate)?)));
        }
        cues.extend(args.digits.iter().map(|cue| (cue.when, Action::Press(cue.digits.clone()))));
        cues.extend(args.hang_up.map(|when| (when, Action::HangUp)));
        let credentials = match (&args.user, &args.password) {
            (Some(username), Some(password)) => {
                Some(Credential { username: username.clone(), password: password.clone() })
            }
            _ => None,
        };
        let headers = args.header.iter().map(|header| (header.name.clone(), header.value.clone()));
        Ok(Self {
            target: args.uri.parse()?,
            from: args.from.clone(),
            cues,
            record: args.record.clone(),
            duration: Duration::from_secs(args.duration.into()),
            media_timeout: Duration::from_secs(15),
            credentials,
            headers: headers.collect(),
            codecs,
            srtp: args.srtp,
            local: args.local,
            ledger: args.ledger.clone(),
        })
    }

    /// How to see the latency of the call next time, if it was not asked for and the far side may be a Tandem on this
    /// machine.
    pub fn ledger_hint(&self) -> Option<&'static str> {
        (self.ledger.is_none() && self.target.is_loopback()).then_some(
            "if a Tandem answered, --ledger calls.jsonl (its records.path) adds what was said and the latency of each turn",
        )
    }
}

/// A number nobody else has: from the clocks of this machine and the process.
pub(crate) fn seed(now: Instant) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    RandomState::new().hash_one((now, wall, std::process::id()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn the_ledger_is_recommended_where_it_can_be_had_and_was_not_asked_for() {
        for (line, hint) in [
            ("tandem call sip:200@127.0.0.1", true),
            ("tandem call sip:200@[::1]:5070", true),
            ("tandem call sip:200@127.0.0.1 --ledger calls.jsonl", false),
            ("tandem call sip:200@pbx.example", false),
        ] {
            let Command::Call(args) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
                panic!("{line}");
            };
            let plan = CallPlan::new(&args).unwrap();
            assert_eq!(plan.ledger_hint().is_some(), hint, "{line}");
        }
    }
}
