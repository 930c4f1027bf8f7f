//! A caller over the websocket of a FreeSWITCH fork.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use tandem_call::SignalEvent;
use tandem_exchange::CallCore;
use tandem_media::{Ptime, SampleRate};
use tandem_streams::{Channels, Dialect, ForkLeg, ForkLegConfig, Message, StreamShape};

use crate::{
    Surroundings,
    path::{buzz, core},
    wire::Wire,
};

const RATE: SampleRate = SampleRate::Hz16000;

/// A call of jambonz' module, 16 kHz both ways, that is answered.
pub(crate) struct ForkCall {
    pub(crate) core: CallCore<ForkLeg>,
    messages: Rc<[Vec<u8>]>,
    next: usize,
}

impl ForkCall {
    pub(crate) fn new(now: Instant, around: &Surroundings, wire: &Rc<Wire>) -> Self {
        let config = ForkLegConfig {
            rate: RATE,
            uplink: around.variant.formats().0,
            media_timeout: Duration::from_secs(60),
            stream_clear: None,
        };
        let mut leg = ForkLeg::new(now, config);
        leg.set_voice(&around.extras.voice());
        Self { core: core(now, leg, around, wire), messages: Rc::clone(&around.messages), next: 0 }
    }

    pub(crate) fn answer(&mut self, now: Instant) {
        let shape = StreamShape {
            dialect: Dialect::AudioForkBidirectional,
            rate: RATE,
            channels: Channels::Mono,
            back: RATE,
            codec: RATE,
        };
        self.core.feed(now, |leg| leg.attach(now, shape));
        self.core.handle_signal(now, SignalEvent::Answered);
    }

    /// The caller's next message arrives.
    pub(crate) fn receive(&mut self, now: Instant) {
        let message = &self.messages[self.next % self.messages.len()];
        self.next += 1;
        self.core.feed(now, |leg| leg.handle_binary(now, message)).expect("the fork is attached");
    }

    /// Sends the messages that are due. Returns the bytes of those with audio.
    pub(crate) fn transmit(&mut self, now: Instant) -> usize {
        let mut sent = 0;
        while let Some(message) = self.core.leg().poll_message(now) {
            if let Message::Binary(bytes) = message {
                sent += bytes.len();
            }
        }
        sent
    }
}

/// Messages of 20 ms of something like speech.
pub(crate) fn messages() -> Rc<[Vec<u8>]> {
    let length = RATE.samples_per(Ptime::MS20);
    let mut pcm = vec![0; length];
    (0..256)
        .map(|message| {
            buzz(message * length, RATE, &mut pcm);
            pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect()
        })
        .collect()
}
