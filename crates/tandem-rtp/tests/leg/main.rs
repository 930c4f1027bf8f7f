//! Whole legs on virtual time.

mod addresses;
mod anything;
mod codecs;
mod downlink;
mod hold;
mod joints;
mod rtcp;
mod tones;
mod uplink;
mod world;
