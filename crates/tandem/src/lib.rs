//! The daemon's own parts: configuration, routing, command line, checks and the softphone.
//!
//! - [`config`]: one TOML file, all mistakes reported together.
//! - [`number`]: dialled numbers and patterns; [`routing`]: which agent answers, and why.
//! - [`cli`]: the commands; [`check`] and [`softphone`] are what two of them do; [`terminal`] and [`logging`] serve all.
//! - [`mod@bench`]: latency with many calls, measured from outside the daemon.
//! - [`freeswitch`]: FreeSWITCH beside it, and the dialplan that hands calls over.
//! - [`tools`]: what carries out the tools of agents; `metrics`: figures for a monitoring system.
//! - [`serve`]: the daemon; [`wiring`] joins the configuration to its parts; [`descriptors`]: what the system allows it.
//! - [`demo`]: a daemon and a caller in one process.

pub mod bench;
pub mod check;
pub mod cli;
pub mod config;
pub mod demo;
pub mod descriptors;
pub mod freeswitch;
pub mod logging;
mod metrics;
pub mod number;
mod retention;
pub mod routing;
pub mod serve;
pub mod softphone;
pub mod terminal;
pub mod tools;
pub mod wiring;
