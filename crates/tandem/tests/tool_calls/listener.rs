//! Who listens on a SIP call while its caller waits for something else.

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tandem_media::{Law, g711};

/// A packet with a sample louder than this is heard.
const LOUD: u16 = 100;

/// Hears an RTP stream and answers each packet with one of silence, until it is dropped.
pub(crate) struct Listener {
    heard: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Listens on `socket`.
    pub(crate) fn start(socket: UdpSocket) -> Self {
        let (heard, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out can be set");
        let thread = thread::spawn({
            let (heard, over) = (Arc::clone(&heard), Arc::clone(&over));
            move || {
                let (mut packet, mut sequence) = ([0; 2048], 0_u16);
                while !over.load(Ordering::Relaxed) {
                    let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
                    if length > 12 && is_loud(&packet[12..length]) {
                        heard.fetch_add(20, Ordering::Relaxed);
                    }
                    sequence = sequence.wrapping_add(1);
                    let mut answer = vec![0x80, 0x00];
                    answer.extend(sequence.to_be_bytes());
                    answer.extend((u32::from(sequence) * 160).to_be_bytes());
                    answer.extend(0x7E57_0002_u32.to_be_bytes());
                    answer.extend([Law::Mu.silence(); 160]);
                    socket.send_to(&answer, from).ok(); // The call may be over.
                }
            }
        });
        Self { heard, over, thread: Some(thread) }
    }

    /// Milliseconds that were heard so far, silence left out.
    pub(crate) fn heard_ms(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn is_loud(payload: &[u8]) -> bool {
    let mut pcm = [0; 160];
    let length = payload.len().min(160);
    let samples = g711::decode(Law::Mu, &payload[..length], &mut pcm);
    pcm[..samples].iter().any(|sample| sample.unsigned_abs() > LOUD)
}
