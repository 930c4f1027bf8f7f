//! From an event's headers to what happened, and to whom.

use std::{sync::Arc, time::Duration};

use tandem_call::Digit;

use super::{ChannelEvent, ChannelEventKind as Kind, DigitSource, fork};
use crate::{Cause, ChannelUuid, EventHeaders};

impl ChannelEvent {
    /// What the event of these headers tells: nothing where it is about no channel, two where it is about two.
    pub fn read(headers: EventHeaders) -> Vec<Self> {
        let name = headers.get("Event-Name").unwrap_or_default();
        let uuid = headers.get("Unique-ID").and_then(|uuid| ChannelUuid::new(uuid).ok());
        if matches!(name, "CHANNEL_BRIDGE" | "CHANNEL_UNBRIDGE") {
            return Self::of_both(headers);
        }
        let Some(uuid) = uuid else { return Vec::new() };
        let Some(kind) = kind(name, &headers) else { return Vec::new() };
        vec![Self { uuid, kind, headers: Arc::new(headers) }]
    }

    /// A bridge is told once, by the leg that made it; here it is told to both.
    fn of_both(headers: EventHeaders) -> Vec<Self> {
        let bridged = headers.get("Event-Name") == Some("CHANNEL_BRIDGE");
        let leg = |name: &str| headers.get(name).and_then(|uuid| ChannelUuid::new(uuid).ok());
        let own = leg("Unique-ID");
        let (Some(a), Some(b)) = (
            leg("Bridge-A-Unique-ID").or_else(|| own.clone()),
            leg("Bridge-B-Unique-ID").or_else(|| leg("Other-Leg-Unique-ID")),
        ) else {
            return Vec::new();
        };
        let headers = Arc::new(headers);
        let told = |uuid: ChannelUuid, peer: ChannelUuid| {
            // The headers are of one leg only; to the other they would tell somebody else's variables.
            let headers =
                if own.as_ref() == Some(&uuid) { Arc::clone(&headers) } else { Arc::default() };
            let kind = if bridged { Kind::Bridged { peer } } else { Kind::Unbridged { peer } };
            Self { uuid, kind, headers }
        };
        vec![told(a.clone(), b.clone()), told(b, a)]
    }
}

fn kind(name: &str, headers: &EventHeaders) -> Option<Kind> {
    let get = |name: &str| headers.get(name).unwrap_or_default().to_owned();
    let some = |name: &str| headers.get(name).filter(|value| !value.is_empty()).map(str::to_owned);
    let cause = || Cause::from_name(headers.get("Hangup-Cause").unwrap_or("NORMAL_UNSPECIFIED"));
    Some(match name {
        "CHANNEL_CREATE" => Kind::Created,
        "CHANNEL_PROGRESS" => Kind::Progress { early: false },
        "CHANNEL_PROGRESS_MEDIA" => Kind::Progress { early: true },
        "CHANNEL_ANSWER" => Kind::Answered,
        "CHANNEL_HOLD" => Kind::Held,
        "CHANNEL_UNHOLD" => Kind::Unheld,
        "CHANNEL_PARK" => Kind::Parked,
        "CHANNEL_UNPARK" => Kind::Unparked,
        "CHANNEL_EXECUTE" => Kind::Executed {
            app: get("Application"),
            args: get("Application-Data"),
            tag: some("Application-UUID"),
        },
        "CHANNEL_EXECUTE_COMPLETE" => Kind::ExecuteComplete {
            app: get("Application"),
            args: get("Application-Data"),
            response: some("Application-Response")
                .filter(|said| said != "_none_")
                .unwrap_or_default(),
            tag: some("Application-UUID"),
        },
        "DTMF" => Kind::Digit {
            digit: headers.get("DTMF-Digit")?.chars().next().and_then(Digit::new)?,
            // Samples at 8 kHz, whatever the codec.
            duration: Duration::from_micros(
                125 * u64::from(
                    headers.get("DTMF-Duration").and_then(|n| n.parse::<u16>().ok()).unwrap_or(0),
                ),
            ),
            source: match headers.get("DTMF-Source") {
                Some("RTP") => DigitSource::Rtp,
                Some("ENDPOINT") => DigitSource::Endpoint,
                Some("INBAND_AUDIO") => DigitSource::Inband,
                Some("APP") => DigitSource::App,
                _ => DigitSource::Unknown,
            },
        },
        "PLAYBACK_START" => Kind::PlaybackStarted { file: get("Playback-File-Path") },
        "PLAYBACK_STOP" => Kind::PlaybackStopped {
            file: get("Playback-File-Path"),
            broken: headers.get("Playback-Status") == Some("break"),
        },
        "RECORD_START" => Kind::RecordStarted { path: get("Record-File-Path") },
        "RECORD_STOP" => Kind::RecordStopped { path: get("Record-File-Path") },
        "MEDIA_BUG_START" => Kind::BugStarted { function: get("Media-Bug-Function") },
        "MEDIA_BUG_STOP" => Kind::BugStopped { function: get("Media-Bug-Function") },
        "CHANNEL_HANGUP" => Kind::HungUp { cause: cause() },
        "CHANNEL_HANGUP_COMPLETE" => Kind::HungUpComplete { cause: cause() },
        "CHANNEL_DESTROY" => Kind::Destroyed,
        "CUSTOM" => custom(headers)?,
        other => Kind::Other { name: other.to_owned() },
    })
}

fn custom(headers: &EventHeaders) -> Option<Kind> {
    let get = |name: &str| headers.get(name).unwrap_or_default().to_owned();
    let subclass = headers.get("Event-Subclass")?;
    let body = headers.get("_body").unwrap_or_default();
    if let Some((module, event)) = fork::read(subclass, body) {
        let bug = headers.get("media-bugname").map(str::to_owned);
        return Some(Kind::Fork { module, bug, event });
    }
    Some(match subclass {
        "valet_parking::info" => Kind::Valet {
            lot: get("Valet-Lot-Name"),
            slot: get("Valet-Extension"),
            action: get("Action"),
        },
        "conference::maintenance" => Kind::Conference {
            name: get("Conference-Name"),
            action: get("Action"),
            member: headers.get("Member-ID").and_then(|id| id.parse().ok()),
        },
        other => Kind::Other { name: other.to_owned() },
    })
}
