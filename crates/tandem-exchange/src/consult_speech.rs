//! What somebody who is asked hears: rendered by the attendant's voice, handed to the leg piece by piece.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tandem_attendant::{Speech, Voice, VoiceError};
use tandem_call::{ItemId, MediaLeg};
use tandem_media::AudioFormat;
use tandem_rtp::RtpLeg;

use crate::announce::parts;

/// So much is queued ahead, in pieces of so many samples: all of it at once would hold up the worker's calls.
const AHEAD: Duration = Duration::from_millis(600);
const PIECE: usize = 4_000;

/// What is said to the person, and how much of it the leg has.
#[derive(Default)]
pub(crate) struct ConsultSpeech {
    /// None: it is still being rendered.
    parts: Option<Vec<Arc<Speech>>>,
    /// It is being said as this item.
    item: Option<ItemId>,
    said: u64,
    /// The part that is next, and the sample in it.
    next: (usize, usize),
    bytes: Vec<u8>,
}

impl ConsultSpeech {
    const FORMAT: AudioFormat = AudioFormat::Pcm16(Speech::RATE);

    /// Takes what was rendered.
    pub(crate) fn set(&mut self, parts: Vec<Arc<Speech>>) {
        self.parts = Some(parts);
    }

    /// It is to be said, from the beginning.
    pub(crate) fn begin(&mut self) {
        self.said += 1;
        self.item = Some(ItemId(self.said));
        self.next = (0, 0);
    }

    /// It is not said any more.
    pub(crate) fn stop(&mut self) {
        self.item = None;
    }

    /// The leg has played `item` to its end. True, once: that was all of it.
    pub(crate) fn end(&mut self, item: ItemId) -> bool {
        let parts = self.parts.as_ref().map_or(0, Vec::len);
        self.next.0 > parts && self.item.take_if(|it| *it == item).is_some()
    }

    /// Has `leg` play the next of it.
    pub(crate) fn play(&mut self, now: Instant, leg: &mut RtpLeg) {
        let (Some(parts), Some(item)) = (&self.parts, self.item) else { return };
        while self.next.0 <= parts.len() && leg.queued() < AHEAD {
            let Some(part) = parts.get(self.next.0) else {
                leg.end_item(now, item);
                self.next.0 += 1;
                return;
            };
            let end = part.pcm.len().min(self.next.1 + PIECE);
            self.bytes.clear();
            self.bytes.extend(part.pcm[self.next.1..end].iter().flat_map(|s| s.to_le_bytes()));
            leg.play(now, item, Self::FORMAT, &self.bytes);
            self.next =
                if end == part.pcm.len() { (self.next.0 + 1, 0) } else { (self.next.0, end) };
        }
    }
}

/// Has `voice` say the first of `texts` that it can, part by part.
pub(crate) async fn render(
    voice: Voice,
    language: String,
    texts: [String; 2],
) -> Result<Vec<Arc<Speech>>, VoiceError> {
    let mut rendered = Err(VoiceError::Empty);
    for text in texts {
        rendered = render_one(&voice, &language, &text).await;
        if rendered.is_ok() {
            break;
        }
    }
    rendered
}

async fn render_one(
    voice: &Voice,
    language: &str,
    text: &str,
) -> Result<Vec<Arc<Speech>>, VoiceError> {
    let mut speech = Vec::new();
    for part in parts(text) {
        speech.push(voice.render(language, &part).await?);
    }
    if speech.is_empty() { Err(VoiceError::Empty) } else { Ok(speech) }
}

#[cfg(test)]
mod tests {
    use tandem_media::Codec;

    use super::*;
    use crate::sip_call::leg_config;

    #[test]
    fn an_announcement_is_queued_a_little_ahead_and_said_once_for_each_order() {
        let now = Instant::now();
        let config = leg_config(Duration::from_secs(60), Codec::PCMU);
        let mut leg = RtpLeg::new(now, Duration::from_secs(1), config);
        let part = || Arc::new(Speech { pcm: vec![1_000; 16_000] });
        let mut speech = ConsultSpeech::default();
        speech.begin();
        speech.play(now, &mut leg);
        assert_eq!(leg.queued(), Duration::ZERO, "it is not rendered");
        speech.set(vec![part(), part()]);
        speech.play(now, &mut leg);
        assert!(leg.queued() >= AHEAD && leg.queued() < 2 * AHEAD, "{:?}", leg.queued());
        let first = speech.item.unwrap();
        assert!(!speech.end(first));
        for _ in 0..5 {
            leg.clear(now); // As if it had been heard.
            speech.play(now, &mut leg);
        }
        assert!(speech.end(first));
        assert!(!speech.end(first), "once");
        speech.begin();
        assert_ne!(speech.item, Some(first));
        assert!(!speech.end(first));
    }

    #[tokio::test]
    async fn an_announcement_is_rendered_in_parts_and_silence_is_none() {
        let voice = Voice::tone(Duration::from_millis(1));
        let long = "A caller waits for you. ".repeat(80);
        let silence = || " ".to_owned();
        let parts = render(voice.clone(), "en".into(), [long, silence()]).await.unwrap();
        assert!(parts.len() > 1);
        let second = ["?!".into(), "A caller.".into()];
        assert_eq!(render(voice.clone(), "en".into(), second).await.unwrap().len(), 1);
        let none = render(voice, "en".into(), [silence(), silence()]).await;
        assert_eq!(none, Err(VoiceError::Empty));
    }
}
