//! The fork's leg on virtual time, against models of the modules that play what it sends.

mod anything;
mod downlink;
mod files;
mod module;
mod recording;
mod uplink;
mod world;
