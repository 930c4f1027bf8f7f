//! Tries a model for real: opens a session, waits until it stands, closes it.

use std::{
    future::poll_fn,
    task::Poll,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tandem_call::{ItemId, ModelCommand, ModelEvent, ModelSink, SessionSpec};
use tandem_media::AudioFormat;

use crate::{ModelSettings, capabilities, open};

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeReport {
    /// From dialling to a configured session.
    pub ready_after: Duration,
}

/// The two things a probe wants to hear of.
#[derive(Default)]
struct Verdict(Option<Result<(), String>>);

impl ModelSink for Verdict {
    fn audio(&mut self, _item: ItemId, _format: AudioFormat, _bytes: &[u8]) {}

    fn event(&mut self, event: ModelEvent) {
        match event {
            ModelEvent::Ready => self.0 = Some(Ok(())),
            ModelEvent::Lost(failure) => self.0 = Some(Err(failure.reason)),
            _ => {}
        }
    }
}

/// Opens a session with the model and closes it again. No audio and no text is sent, so it costs nothing.
///
/// The error is the peer's own words or what the network said, without the key. It takes no longer than the
/// handshake may, and half a second for the goodbye.
pub async fn probe(settings: &ModelSettings) -> Result<ProbeReport, String> {
    let started = Instant::now();
    let unix_now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let able = capabilities(settings);
    let (Some(&input), Some(&output)) = (able.input.first(), able.output.first()) else {
        return Err("the model takes or speaks no audio".into());
    };
    let spec = SessionSpec {
        instructions: "You are being tested. Say nothing.".into(),
        voice: None,
        language: String::new(),
        temperature: None,
        tools: Vec::new(),
        input,
        output,
        transcription: false,
        history: Vec::new(),
        first_item: ItemId(0),
    };
    let mut session = open(settings, spec, started, unix_now);
    let mut verdict = Verdict::default();
    poll_fn(|cx| {
        loop {
            let progress = session.poll(cx, Instant::now(), &mut verdict);
            if verdict.0.is_some() {
                return Poll::Ready(());
            }
            if progress.is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
    let ready_after = started.elapsed();
    session.send(Instant::now(), ModelCommand::Close);
    poll_fn(|cx| {
        while !session.is_closed() {
            if session.poll(cx, Instant::now(), &mut Verdict::default()).is_pending() {
                return if session.is_closed() { Poll::Ready(()) } else { Poll::Pending };
            }
        }
        Poll::Ready(())
    })
    .await;
    verdict.0.unwrap_or(Ok(())).map(|()| ProbeReport { ready_after })
}
