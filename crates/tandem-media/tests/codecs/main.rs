//! Every codec both ways, as a call uses them.

mod any_bytes;
mod comfort_noise;
mod g722;
mod opus_stream;
mod packets;
mod sound;
