//! Says something to somebody over a fork of their own: to the person who takes a transfer, for instance.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tandem_attendant::{Sentence, Speech};
use tandem_call::{FilePlayback, ItemId, LegEvent, MediaLeg};
use tandem_media::AudioFormat;
use tandem_net::{Incoming, MessageKind, PacingTimer, ServerWebSocket};
use tandem_streams::{ForkLeg, ForkLegConfig, ForkStream, LegOrder, Message, StreamShape};
use tokio::sync::{mpsc, oneshot};

use crate::{Exchange, fork_line::LIMITS};

/// How long the module may take to connect.
const CONNECTS_WITHIN: Duration = Duration::from_secs(10);

/// Bytes of an announcement that are said.
const LONGEST: usize = 2_000;

/// Something that is to be said.
pub struct Announcement {
    /// BCP-47.
    pub language: String,
    /// The words.
    pub text: String,
    /// The websocket of the leg that is to hear it, once it has come.
    pub stream: oneshot::Receiver<(ForkStream, StreamShape)>,
    /// What the switch says of files that it plays for it, where the module can't play itself.
    pub playback: mpsc::Receiver<FilePlayback>,
}

/// Why something was not said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnnounced {
    /// No voice could say it.
    #[error("it could not be spoken: {0}")]
    Voice(String),
    /// The fork did not come.
    #[error("the module did not connect")]
    NoFork,
    /// The fork went before all was said.
    #[error("the fork ended: {0}")]
    Lost(String),
    /// There is no room on the workers.
    #[error("the workers are busy")]
    Busy,
}

impl Exchange {
    /// Says it, and returns when the last word was heard.
    pub async fn announce(&self, announcement: Announcement) -> Result<(), NotAnnounced> {
        let Announcement { language, text, stream, playback } = announcement;
        let mut speech = Vec::new();
        for part in parts(&text) {
            let rendered = self.voice().render(&language, &part).await;
            speech.push(rendered.map_err(|error| NotAnnounced::Voice(error.to_string()))?);
        }
        let (stream, shape) = tokio::time::timeout(CONNECTS_WITHIN, stream)
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or(NotAnnounced::NoFork)?;
        let (said, outcome) = oneshot::channel();
        let job = move || async move {
            let outcome = match stream.open(LIMITS).and_then(|it| Ok((it, PacingTimer::new()?))) {
                Ok((socket, timer)) => {
                    Speaker::new(socket, timer, shape, playback, &speech).run().await
                }
                Err(error) => Err(NotAnnounced::Lost(error.to_string())),
            };
            said.send(outcome).ok();
        };
        self.workers().spawn(job).map_err(|_| NotAnnounced::Busy)?;
        outcome.await.unwrap_or(Err(NotAnnounced::Busy))
    }
}

/// `text` in pieces that the voice takes, cut between words.
pub(crate) fn parts(text: &str) -> Vec<String> {
    let text = &text[..text.floor_char_boundary(LONGEST)];
    let mut parts = Vec::new();
    let mut part = String::new();
    for word in text.split_whitespace() {
        if part.chars().count() + 1 + word.chars().count() > Sentence::MAX_CHARS {
            parts.push(std::mem::take(&mut part));
        }
        if !part.is_empty() {
            part.push(' ');
        }
        part.extend(word.chars().take(Sentence::MAX_CHARS));
    }
    parts.push(part);
    parts.retain(|part| !part.is_empty());
    parts
}

/// One fork that is spoken to.
struct Speaker {
    socket: ServerWebSocket,
    timer: PacingTimer,
    leg: ForkLeg,
    playback: mpsc::Receiver<FilePlayback>,
    playback_gone: bool,
    last: ItemId,
}

impl Speaker {
    fn new(
        socket: ServerWebSocket,
        timer: PacingTimer,
        shape: StreamShape,
        playback: mpsc::Receiver<FilePlayback>,
        speech: &[Arc<Speech>],
    ) -> Self {
        let now = Instant::now();
        let format = AudioFormat::Pcm16(Speech::RATE);
        let config = ForkLegConfig {
            rate: shape.rate,
            uplink: AudioFormat::Pcm16(shape.rate),
            media_timeout: CONNECTS_WITHIN,
            stream_clear: None,
        };
        let mut leg = ForkLeg::new(now, config);
        leg.attach(now, shape);
        let last = ItemId(1);
        for speech in speech {
            let bytes: Vec<u8> = speech.pcm.iter().flat_map(|s| s.to_le_bytes()).collect();
            leg.play(now, last, format, &bytes);
        }
        leg.end_item(now, last);
        Self { socket, timer, leg, playback, playback_gone: false, last }
    }

    async fn run(mut self) -> Result<(), NotAnnounced> {
        let outcome = poll_fn(|cx| self.poll(cx)).await;
        self.leg.close(Instant::now());
        let _ = self.send(Instant::now()); // The close frame; a socket that takes nothing more is closed by the drop.
        outcome
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NotAnnounced>> {
        loop {
            let now = Instant::now();
            let mut progress = self.poll_timer(cx, now);
            progress |= self.poll_playback(cx, now);
            match self.socket.poll_incoming(cx) {
                Poll::Ready(Incoming::Message { kind, bytes }) => {
                    progress = true;
                    // What the listener says is not for us; a message that is not understood is the module's affair.
                    let _ = match kind {
                        MessageKind::Binary => self.leg.handle_binary(now, &bytes).map(drop),
                        MessageKind::Text => self.leg.handle_text(now, &bytes).map(drop),
                    };
                }
                Poll::Ready(Incoming::Closed(closure)) => {
                    return Poll::Ready(Err(NotAnnounced::Lost(closure.reason)));
                }
                Poll::Pending => {}
            }
            while self.leg.poll_uplink().is_some() {}
            while let Some(LegOrder::BreakPlayback) = self.leg.poll_order() {}
            while let Some(event) = self.leg.poll_event() {
                if event == (LegEvent::PlayoutDrained { item: self.last }) {
                    return Poll::Ready(Ok(()));
                }
            }
            if let Err(error) = self.send(now) {
                return Poll::Ready(Err(error));
            }
            let due = [self.leg.next_send(), self.leg.poll_timeout()].into_iter().flatten().min();
            if let Some(due) = due
                && let Err(error) = self.timer.set(due)
            {
                return Poll::Ready(Err(NotAnnounced::Lost(error.to_string())));
            }
            if !progress {
                return Poll::Pending;
            }
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut progress = false;
        while let Poll::Ready(Ok(_)) = self.timer.poll_expired(cx) {
            progress = true;
        }
        if progress {
            self.leg.handle_timeout(now);
        }
        progress
    }

    fn poll_playback(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.playback_gone {
            return false;
        }
        match self.playback.poll_recv(cx) {
            Poll::Ready(Some(playback)) => self.leg.playback(now, &playback),
            Poll::Ready(None) => self.playback_gone = true,
            Poll::Pending => return false,
        }
        true
    }

    fn send(&mut self, now: Instant) -> Result<(), NotAnnounced> {
        while let Some(message) = self.leg.poll_message(now) {
            let sent = match message {
                Message::Binary(bytes) => self.socket.send_binary(bytes),
                Message::Text(text) => self.socket.send_text(text),
                Message::Close => {
                    self.socket.close(1000, "");
                    Ok(())
                }
            };
            sent.map_err(|error| NotAnnounced::Lost(error.to_string()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_words() {
        assert_eq!(parts("  A caller\nwaits. "), ["A caller waits."]);
        assert_eq!(parts(" "), [""; 0]);
        let long = "word ".repeat(1_000);
        let parts = parts(&long);
        assert!(parts.iter().all(|part| part.chars().count() <= Sentence::MAX_CHARS));
        assert_eq!(parts.join(" ").len(), long[..LONGEST].trim_end().len());
    }
}
