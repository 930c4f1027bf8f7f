//! Load and latency against a running daemon, seen from outside it.
//!
//! [`run`] starts a daemon as a process of its own, calls it N times over SIP, sends it RTP on an absolute grid and is
//! the model it talks to. Every sample of audio carries where it comes from, and everybody here reads one monotonic clock:
//!
//! - `generator` sends the callers' packets; their latency counts from the instant they were *meant* to leave.
//! - `fake_model` stamps what comes up and speaks at random moments; `listener` stamps what comes down.
//! - `null_relay` does the least a bridge can do, under the same load: the floor of this machine on this day.
//! - `callers` and `daemon` are the calls and the process under test.
//! - `fork`: [`run_forks`] does the same with N forked calls of FreeSWITCH, websockets instead of SIP and RTP.
//! - `tools`: [`run_tools`] makes many short calls in which the model calls tools, beside the same calls without.
//! - `marker`, `samples`, `clock`: what is in a payload, percentiles, absolute sleep and priority.
//! - [`BenchReport`] and [`ForkReport`] hold what came of it, and which targets were met.

mod bench;
mod callers;
mod clock;
mod daemon;
mod fake_model;
mod fork;
mod generator;
mod listener;
mod marker;
mod null_relay;
mod report;
mod samples;
mod tools;

pub use bench::{BenchError, BenchPlan, run};
pub use clock::Scheduling;
pub use fork::{ForkReport, run_forks};
pub use generator::Phases;
pub use report::{BenchReport, DaemonUse, Target};
pub use samples::Summary;
pub use tools::{CallsReport, Findings, ToolsPlan, ToolsReport, receive_webhooks, run_tools};
