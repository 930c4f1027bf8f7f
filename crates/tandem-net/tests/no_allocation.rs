//! The server's websocket allocates nothing per frame once its buffers have grown.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    future::poll_fn,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use tandem_net::{Incoming, MessageKind, ServerWebSocket, SocketLimits};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call goes on to the system's allocator unchanged; counting touches a constant-initialised thread local
// that needs no allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// 20 ms of 8 kHz mono to 48 kHz stereo, and two frames that were joined.
const SIZES: [usize; 7] = [320, 640, 960, 1_280, 1_920, 2_560, 3_840];

/// A client's binary frame.
fn masked(payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    let mut frame = vec![0x82, 0x80 | 126];
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Allocations in `frames` frames from the client and back, after a warm-up of a thousand.
async fn echo(mut server: ServerWebSocket, mut client: TcpStream, frames: usize) -> u64 {
    const WARM_UP: usize = 1_000;
    let payloads = SIZES.map(|size| (0..size).map(|at| at as u8).collect::<Vec<_>>());
    let sent = payloads.each_ref().map(|payload| masked(payload));
    let mut back = vec![0; 4 + 3_840];
    let mut before = 0;
    for index in 0..WARM_UP + frames {
        if index == WARM_UP {
            before = ALLOCATIONS.get();
        }
        let size = index % SIZES.len();
        // Now and then a frame comes in two pieces, or two come at once.
        let (first, second) = sent[size].split_at(if index % 5 == 0 { 100 } else { 0 });
        client.write_all(first).expect("an open connection");
        tokio::task::yield_now().await;
        let twice = index % 7 == 0;
        client.write_all(second).expect("an open connection");
        if twice {
            client.write_all(&sent[size]).expect("an open connection");
        }
        for _ in 0..1 + usize::from(twice) {
            match poll_fn(|cx| server.poll_incoming(cx)).await {
                Incoming::Message { kind: MessageKind::Binary, bytes } => {
                    assert_eq!(bytes, payloads[size]);
                    server.send_binary(&bytes).expect("an open connection");
                }
                other => panic!("{other:?}"),
            }
            poll_fn(|cx| server.poll_flush(cx)).await;
            client.read_exact(&mut back[..4 + SIZES[size]]).expect("an open connection");
            assert_eq!(back[4..4 + SIZES[size]], payloads[size]);
        }
    }
    ALLOCATIONS.get() - before
}

#[tokio::test]
async fn frames_there_and_back_allocate_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_nodelay(true).unwrap();
    let (stream, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    let stream = tokio::net::TcpStream::from_std(stream).unwrap();
    let limits = SocketLimits { message: 1 << 20, waiting: 256 << 10 };
    let server = ServerWebSocket::new(stream, &[], limits).unwrap();
    assert_eq!(echo(server, client, 5_000).await, 0);
}
