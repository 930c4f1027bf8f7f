//! Whole legs on virtual time.

mod addresses;
mod anything;
mod downlink;
mod hold;
mod rtcp;
mod tones;
mod uplink;
mod world;
