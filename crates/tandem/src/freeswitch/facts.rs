//! What is known of a channel before its call begins.

use std::{collections::BTreeMap, sync::Arc};

use tandem_call::Party;
use tandem_exchange::{ForkCall, ForkReport, Signalling};
use tandem_media::SampleRate;
use tandem_pbx::{CallerIdentity, EventHeaders};
use tandem_streams::{Arrival, Metadata as ForkMetadata};
use tokio::sync::mpsc;

use super::fork_settings::ForkSettings;

/// What is known of a channel before its call begins.
pub(super) struct Facts {
    pub(super) called: String,
    pub(super) from: Party,
    pub(super) variables: BTreeMap<String, String>,
    /// Of the variables, what goes with the caller to a target: SIP headers that the switch itself vouches for.
    pub(super) carried: Vec<(String, String)>,
    pub(super) sip_call_id: Option<String>,
    pub(super) codec: SampleRate,
    pub(super) answered: bool,
}

impl Facts {
    /// What a switch's headers of a channel say.
    pub(super) fn of_channel(headers: &EventHeaders, settings: &ForkSettings) -> Self {
        let get = |name: &str, else_name: &str| {
            let value = headers.get(name).or_else(|| headers.get(else_name))?;
            (!value.is_empty()).then(|| value.to_owned())
        };
        Self {
            called: get("Caller-Destination-Number", "Channel-Destination-Number")
                .unwrap_or_default(),
            from: Party {
                number: get("Caller-Caller-ID-Number", "Channel-Caller-ID-Number"),
                name: get("Caller-Caller-ID-Name", "Channel-Caller-ID-Name"),
            },
            carried: carried(headers),
            variables: settings.chosen(headers),
            sip_call_id: headers.variable("sip_call_id").map(str::to_owned),
            codec: codec_rate(headers),
            answered: headers.get("Answer-State") == Some("answered"),
        }
    }

    /// What a fork's URL and first text say.
    pub(super) fn of_fork(arrival: &Arrival, metadata: ForkMetadata) -> Self {
        let query = |wanted: &str| {
            let found = arrival.query.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
        };
        Self {
            called: query("did").or(metadata.did).unwrap_or_default(),
            from: Party {
                number: query("caller").or(metadata.caller),
                name: query("caller_name").or(metadata.caller_name),
            },
            carried: Vec::new(),
            sip_call_id: metadata.variables.get("sip_call_id").cloned(),
            variables: metadata.variables,
            codec: SampleRate::Hz8000,
            answered: true,
        }
    }

    /// Adds what the switch says: of who called whom it knows best only what the dialplan did not say.
    pub(super) fn complete(&mut self, switch: Self) {
        if self.called.is_empty() {
            self.called = switch.called;
        }
        let from = std::mem::take(&mut self.from);
        self.from = Party {
            number: from.number.or(switch.from.number),
            name: from.name.or(switch.from.name),
        };
        for (name, value) in switch.variables {
            self.variables.entry(name).or_insert(value);
        }
        self.carried = switch.carried;
        self.sip_call_id = switch.sip_call_id.or(self.sip_call_id.take());
    }

    /// Who calls, as the channel shows it to others.
    pub(super) fn caller(&self) -> CallerIdentity {
        CallerIdentity { number: self.from.number.clone(), name: self.from.name.clone() }
    }

    pub(super) fn into_call(
        self,
        channel: String,
        rate: SampleRate,
        signalling: Arc<dyn Signalling>,
        reports: mpsc::Receiver<ForkReport>,
    ) -> ForkCall {
        ForkCall {
            called: self.called,
            from: self.from,
            variables: self.variables,
            channel,
            sip_call_id: self.sip_call_id,
            rate,
            stream_clear: None,
            signalling,
            reports,
        }
    }
}

/// The rate of the channel's codec; before the answer that of the codec offered first.
fn codec_rate(headers: &EventHeaders) -> SampleRate {
    let offered = headers.variable("ep_codec_string").and_then(offered_rate);
    known_rate(headers).or_else(|| SampleRate::from_hz(offered?)).unwrap_or(SampleRate::Hz8000)
}

/// The rate of the channel's codec, if it is known and one of ours.
pub(super) fn known_rate(headers: &EventHeaders) -> Option<SampleRate> {
    SampleRate::from_hz(headers.get("Channel-Read-Codec-Rate")?.parse().ok()?)
}

/// The rate of the audio of the first of some codecs, such as
/// `CORE_PCM_MODULE.PCMU@8000h@20i@64000b,mod_opus.opus@48000h@20i@0b@1c`.
fn offered_rate(codecs: &str) -> Option<usize> {
    let mut parts = codecs.split(',').next()?.split('@');
    let codec = parts.next()?;
    let name = codec.rsplit('.').next().unwrap_or(codec);
    if name.eq_ignore_ascii_case("G722") {
        return Some(16_000); // Its clock runs at 8000 (RFC 3551 section 4.5.2), and so it is listed.
    }
    parts.find_map(|part| part.strip_suffix('h')?.parse().ok())
}

/// Headers that are carried, and the bytes of each.
const MOST_CARRIED: usize = 16;
const LONGEST_CARRIED: usize = 1_024;

/// The X- headers of the caller's INVITE, as the variables that put them on another.
fn carried(headers: &EventHeaders) -> Vec<(String, String)> {
    headers
        .variables()
        .filter(|(name, value)| name.starts_with("sip_h_X-") && value.len() <= LONGEST_CARRIED)
        .take(MOST_CARRIED)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_audio() {
        use SampleRate::{Hz8000, Hz16000, Hz48000};
        let rate = |headers: &[(&str, &str)]| {
            codec_rate(&EventHeaders::from_pairs(headers.iter().copied()))
        };
        let offers = "variable_ep_codec_string";
        for (codecs, expected) in [
            ("CORE_PCM_MODULE.PCMU@8000h@20i@64000b,mod_opus.opus@48000h@20i@0b@1c", Hz8000),
            ("mod_opus.opus@48000h@20i@2c", Hz48000),
            ("mod_spandsp.G722@8000h@20i@64000b,CORE_PCM_MODULE.PCMU@8000h@20i@64000b", Hz16000),
            ("G722@8000h@20i@64000b", Hz16000),
            ("mod_speex.speex@32000h@20i", Hz8000),
            ("", Hz8000),
        ] {
            assert_eq!(rate(&[(offers, codecs)]), expected, "{codecs}");
        }
        let taken = ("Channel-Read-Codec-Rate", "8000");
        assert_eq!(rate(&[taken, (offers, "G722@8000h@20i@64000b")]), Hz8000);
    }
}
