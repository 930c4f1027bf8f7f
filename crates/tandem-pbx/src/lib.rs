//! PBX control: the FreeSWITCH event socket.

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
    CallerIdentity, Channel, ChannelLink, ChannelNote, ChannelOrder, ChannelOutput, ChannelSettings, ControlError,
    ForkPlan, ForkSource, InlineTemplate, ListenerCall, TargetError, Template, TemplateError, Ticket, TransferPlan,
    TransferPlanError, TransferRoute, TransferSettings,
};
pub use command::{
    AppArgs, Application, BroadcastLeg, CallerName, ChannelUuid, CommandError, ConferenceCommand, Connect,
    DialString, Digits, Direction, Eavesdrop, EavesdropMode, Extension, ForkModule, ForkName, ForkStart,
    ForkUrl, MediaPath, Member, Metadata, Mix, Originate, Playable, RawCommand, RecordAction,
    SwitchCommand, Text, TransferLeg, ValetSlot, VariableName, VariableValue, Word,
};
pub use esl::EventHeaders;
pub use event::{ChannelEvent, ChannelEventKind, DigitSource, ForkEvent};
pub use follow::{CallSide, ChannelInput, follow};
pub use link::{LinkState, SettingsError, SwitchFacts, SwitchSettings, SwitchUser};
pub use outbound::{OutboundChannel, OutboundCounts, OutboundListener, OutboundSettings};
pub use reply::{ChannelRow, Reply, SwitchError};
pub use switch::{Answer, Switch};
pub use watch::{ChannelNotice, ChannelWatch};
