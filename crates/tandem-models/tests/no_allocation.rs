//! The audio path of a dialect allocates nothing once its buffers are warm, and no other message makes it build much.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tandem_call::{ItemId, ModelEvent, ModelSink, SessionSpec};
use tandem_media::{AudioFormat, Law, SampleRate};
use tandem_models::{
    GeminiLive, ModelDialect, ModelSettings, OpenAiRealtime, Outbox, Provider, TurnDetection,
};

/// Counts what this thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    // A thread that is going away has no counter any more and none is needed.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
    let _ = BYTES.try_with(|sum| sum.set(sum.get() + bytes));
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_in(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

#[derive(Default)]
struct Ear {
    bytes: usize,
    events: usize,
}

impl ModelSink for Ear {
    fn audio(&mut self, _item: ItemId, _format: AudioFormat, bytes: &[u8]) {
        self.bytes += bytes.len();
    }

    fn event(&mut self, _event: ModelEvent) {
        self.events += 1;
    }
}

fn spec(input: AudioFormat, output: AudioFormat) -> SessionSpec {
    SessionSpec {
        instructions: String::new(),
        voice: None,
        language: String::new(),
        temperature: None,
        tools: Vec::new(),
        input,
        output,
        transcription: true,
        history: Vec::new(),
        first_item: ItemId(1),
    }
}

/// Encodes and decodes 20 ms frames as the session does; `message` is the server's audio message around base64.
fn check(mut dialect: impl ModelDialect, frame: usize, message: impl Fn(&str) -> String) {
    let now = Instant::now();
    let audio: Vec<u8> = (0..frame).map(|n| n as u8).collect();
    let mut out = Outbox::default();
    dialect.open(now, &mut out);

    let mut buffer = BytesMut::new();
    let mut sent = 0;
    let mut encode = |rounds: usize| {
        for _ in 0..rounds {
            dialect.encode_audio(&audio, &mut buffer);
            sent += buffer.split().freeze().len();
        }
    };
    encode(100);
    assert_eq!(allocations_in(|| encode(1_000)), 0, "uplink");
    assert!(sent > 1_100 * frame * 4 / 3);

    let message = message(&base64_simd::STANDARD.encode_to_string(&audio));
    let mut ear = Ear::default();
    let mut decode = |rounds: usize| {
        for _ in 0..rounds {
            dialect
                .handle_message(now, message.as_bytes(), &mut out, &mut ear)
                .expect("a valid message");
        }
    };
    decode(100);
    assert_eq!(allocations_in(|| decode(1_000)), 0, "downlink");
    assert_eq!(ear.bytes, 1_100 * frame);
}

#[test]
fn openai_audio_allocates_nothing() {
    for (format, frame) in
        [(AudioFormat::G711(Law::Mu), 160), (AudioFormat::Pcm16(SampleRate::Hz24000), 960)]
    {
        check(openai(format), frame, |base64| {
            format!(
                r#"{{"type":"response.output_audio.delta","event_id":"event_9","response_id":"resp_1","item_id":"item_1","output_index":0,"content_index":0,"delta":"{base64}"}}"#
            )
        });
    }
}

#[test]
fn gemini_audio_allocates_nothing() {
    check(gemini(), 640, |base64| {
        format!(
            r#"{{"serverContent":{{"modelTurn":{{"parts":[{{"inlineData":{{"mimeType":"audio/pcm;rate=24000","data":"{base64}"}}}}]}}}}}}"#
        )
    });
}

#[test]
fn turns_of_our_own_marking_allocate_nothing_between_them() {
    let settings = |provider| {
        let mut settings = ModelSettings::new(provider, String::new().into());
        settings.options.turn_detection = TurnDetection::Local;
        Arc::new(settings)
    };
    let (mu, wide) = (AudioFormat::G711(Law::Mu), AudioFormat::Pcm16(SampleRate::Hz16000));
    let openai = OpenAiRealtime::new(
        settings(Provider::OpenAiRealtime),
        spec(mu, mu),
        Instant::now(),
        Duration::ZERO,
    );
    let gemini = GeminiLive::new(settings(Provider::GeminiLive), spec(wide, wide));
    fn allocations(mut dialect: impl ModelDialect, frame: usize) -> usize {
        let (audio, mut buffer) = (vec![1; frame], BytesMut::new());
        let mut encode = |rounds: usize| {
            for _ in 0..rounds {
                dialect.encode_audio(&audio, &mut buffer);
                drop(buffer.split().freeze());
            }
        };
        encode(100);
        allocations_in(|| encode(1_000))
    }
    assert_eq!((allocations(openai, 160), allocations(gemini, 640)), (0, 0));
}

/// What `dialect` allocates for `message`, in bytes, whether it takes it or not.
fn bytes_for(mut dialect: impl ModelDialect, message: &str) -> usize {
    let now = Instant::now();
    let (mut out, mut ear) = (Outbox::default(), Ear::default());
    dialect.open(now, &mut out);
    let before = BYTES.with(Cell::get);
    let _ = dialect.handle_message(now, message.as_bytes(), &mut out, &mut ear);
    BYTES.with(Cell::get) - before
}

fn openai(format: AudioFormat) -> OpenAiRealtime {
    let settings = ModelSettings::new(Provider::OpenAiRealtime, String::new().into());
    OpenAiRealtime::new(Arc::new(settings), spec(format, format), Instant::now(), Duration::ZERO)
}

fn gemini() -> GeminiLive {
    let settings = ModelSettings::new(Provider::GeminiLive, String::new().into());
    GeminiLive::new(
        Arc::new(settings),
        spec(AudioFormat::Pcm16(SampleRate::Hz16000), AudioFormat::Pcm16(SampleRate::Hz24000)),
    )
}

/// As trees these messages take 45 times their length.
#[test]
fn no_message_builds_a_tree() {
    const LIMIT: usize = 1 << 20;
    for length in [200 << 10, 900 << 10, 10 << 20] {
        let arrays = format!("[{}[1]]", "[1],".repeat(length / 4));
        for start in [
            r#"{"type":"unknown","x":"#,
            r#"{"type":"response.done","x":"#,
            r#"{"type":"response.done","response":{"id":"r","status":"completed","output":"#,
            r#"{"type":"session.updated","session":{"audio":"#,
            r#"{"type":"conversation.item.done","item":{"content":"#,
            r#"{"type":"rate_limits.updated","rate_limits":"#,
            r#"{"x":"#,
        ] {
            let message = format!("{start}{arrays}{}", "}".repeat(start.matches('{').count()));
            let bytes = bytes_for(openai(AudioFormat::G711(Law::Mu)), &message);
            assert!(bytes < LIMIT, "{bytes} for {length} of {start}");
        }
        for start in [
            r#"{"x":"#,
            r#"{"serverContent":{"x":"#,
            r#"{"serverContent":{"modelTurn":{"parts":"#,
            r#"{"toolCall":{"functionCalls":"#,
            r#"{"usageMetadata":{"promptTokensDetails":"#,
        ] {
            let message = format!("{start}{arrays}{}", "}".repeat(start.matches('{').count()));
            let bytes = bytes_for(gemini(), &message);
            assert!(bytes < LIMIT, "{bytes} for {length} of {start}");
        }
        let call =
            format!(r#"{{"toolCall":{{"functionCalls":[{{"id":"c","args":{{"x":{arrays}}}}}]}}}}"#);
        let bytes = bytes_for(gemini(), &call);
        assert!(bytes < LIMIT, "{bytes} for arguments of {length}");
    }
}

/// A server on a thread of its own: configures the session, then sends a piece of audio for each that it gets.
fn echo_server() -> std::net::SocketAddr {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;

    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    listener.set_nonblocking(true).expect("a socket");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            let (stream, _) = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("a socket");
            let mut server = tokio_tungstenite::accept_async(stream).await.expect("an upgrade");
            let audio = base64_simd::STANDARD.encode_to_string([7; 160]);
            let delta = format!(
                r#"{{"type":"response.output_audio.delta","response_id":"r","item_id":"i","delta":"{audio}"}}"#
            );
            while let Some(Ok(Message::Text(text))) = server.next().await {
                let reply = if text.contains("input_audio_buffer.append") {
                    delta.clone()
                } else {
                    r#"{"type":"session.updated","session":{}}"#.to_owned()
                };
                if server.send(Message::text(reply)).await.is_err() {
                    break;
                }
            }
        });
    });
    address
}

#[test]
fn a_session_allocates_nothing_for_audio() {
    use tandem_models::open;

    let mu = AudioFormat::G711(Law::Mu);
    let mut settings = ModelSettings::new(Provider::OpenAiRealtime, String::new().into());
    settings.base_url = Some(format!("ws://{}", echo_server()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut session = open(&settings, spec(mu, mu), Instant::now(), Duration::ZERO);
        let mut ear = Ear::default();
        let frame = [0xFF; 160];
        let mut frames = 0;
        let mut counted = 0;
        // The session, the socket and the library between them: 300 frames up and down are the warm-up.
        while frames < 1_300 {
            let before = ALLOCATIONS.with(Cell::get);
            let heard = ear.bytes;
            session.send_audio(Instant::now(), &frame);
            let answered = std::future::poll_fn(|cx| {
                while session.poll(cx, Instant::now(), &mut ear).is_ready() {}
                if ear.bytes > heard || (frames == 0 && ear.events > 0) {
                    std::task::Poll::Ready(())
                } else {
                    std::task::Poll::Pending
                }
            });
            answered.await;
            frames += 1;
            if frames > 300 {
                counted += ALLOCATIONS.with(Cell::get) - before;
            }
        }
        assert!(ear.bytes >= 1_298 * 160, "{} bytes came back", ear.bytes);
        assert_eq!(counted, 0, "allocations in 1,000 frames each way");
    });
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations_in(|| drop(Box::new([0_u8; 64]))), 1);
}
