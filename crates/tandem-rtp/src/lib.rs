//! RTP, RTCP, telephone-event and the RTP leg as pure machines.
//!
//! [`RtpLeg`] is the whole leg: it takes datagrams and model audio with the time they came at, and gives frames for the
//! model, packets to send and [`LegEvent`](tandem_call::LegEvent)s. It is made of the other modules, each of one noun.

mod backdrop;
mod control;
mod decoders;
mod digit_sender;
mod downlink;
mod feed;
mod joint;
mod last_audio;
mod latch;
mod leg;
mod media_clock;
mod media_params;
mod model_audio;
mod ntp;
mod opinion;
mod packet;
mod reorder;
mod report_timing;
mod rtcp;
mod sender;
mod stats;
mod telephone_event;
#[cfg(test)]
mod testing;
mod uplink;

pub use digit_sender::{DigitSender, EventPacket, MAX_QUEUED_DIGITS, SendDigitsError};
pub use latch::{KnownStream, Latch};
pub use leg::{Channel, LegConfig, LegCounters, RtpLeg, Transmit};
pub use media_params::{Direction, Latching, MediaParams};
pub use ntp::NtpTime;
pub use opinion::mos;
pub use packet::{HEADER_LEN, HeaderExtension, RtpError, RtpPacket, is_rtcp};
pub use reorder::{ArrivedPacket, Inserted, MAX_HOLD, Released, Reorder};
pub use report_timing::ReportTiming;
pub use rtcp::{
    ReportBlock, ReportBlocks, RtcpCompound, RtcpPacket, SenderInfo, write_bye, write_cname,
    write_report,
};
pub use stats::ReceptionStats;
pub use telephone_event::{DigitReceiver, TelephoneEvent};
