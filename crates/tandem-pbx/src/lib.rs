//! PBX control: the FreeSWITCH event socket.
//!
//! - [`SwitchCommand`] is all that can be ordered, made of checked words: no argument can become another command.
//! - [`ChannelEvent`] is what happens to a channel, of whichever fork module.
//! - [`Switch`] is a switch we connect to, [`OutboundListener`] takes the channels that a switch connects to us for; both
//!   give orders and watch channels alike. The machine behind them, without socket or clock, is in `link`.
//! - [`Channel`] is the signalling of one call whose audio is forked.

#[cfg(test)]
mod captures;
mod cause;
mod channel;
mod command;
mod driver;
mod esl;
mod event;
mod follow;
mod link;
mod outbound;
mod reply;
mod switch;
mod watch;

pub use cause::Cause;
pub use channel::{
    CallerIdentity, Channel, ChannelLink, ChannelNote, ChannelOrder, ChannelOutput,
    ChannelSettings, Control, ControlError, ControlFailure, ForkPlan, ForkSource, InlineTemplate,
    ListenerCall, TargetError, Template, TemplateError, Ticket, TransferPlan, TransferPlanError,
    TransferRoute, TransferSettings,
};
pub use command::{
    AppArgs, Application, BroadcastLeg, CallerName, ChannelUuid, CommandError, ConferenceCommand,
    Connect, DialString, Digits, Direction, Eavesdrop, EavesdropMode, Extension, ForkModule,
    ForkName, ForkStart, ForkUrl, MediaPath, Member, Metadata, Mix, Originate, Playable,
    RawCommand, RecordAction, SwitchCommand, Text, TransferLeg, ValetSlot, VariableName,
    VariableValue, Word,
};
pub use esl::EventHeaders;
pub use event::{ChannelEvent, ChannelEventKind, DigitSource, ForkEvent};
pub use follow::{CallSide, ChannelInput, ControlOutcome, follow};
pub use link::{LinkState, SettingsError, SwitchFacts, SwitchSettings, SwitchUser};
pub use outbound::{OutboundChannel, OutboundCounts, OutboundListener, OutboundSettings};
pub use reply::{ChannelRow, Reply, SwitchError};
pub use switch::{Answer, Switch};
pub use watch::{ChannelNotice, ChannelWatch};
