//! Webhooks against a receiver that is a process of its own.

mod answers;
mod requests;
mod runner;
mod trial;
mod world;
