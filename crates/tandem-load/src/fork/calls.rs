//! The calls: forks opened one after the other, each as FreeSWITCH's module opens it.

use std::{
    io::{self, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    BenchError,
    daemon::TOKEN,
    fake_model::FakeModel,
    fork::websocket::{Connection, Frames, Opcode, masked_frame},
};

/// A call whose model session is not open after this fails the run.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// All calls, with an open model session each.
pub(super) struct Calls {
    /// Their sockets, which do not block.
    pub(super) streams: Vec<Arc<TcpStream>>,
    /// What was read of each beyond the answer to its upgrade.
    pub(super) frames: Vec<Frames>,
    /// From connecting to the open model session, per call.
    pub(super) set_up: Vec<Duration>,
}

impl Calls {
    /// Opens `count` forks at `address`; each is to open one session of `model`.
    pub(super) fn open(
        address: SocketAddr,
        count: u16,
        model: &FakeModel,
    ) -> Result<Self, BenchError> {
        let mut calls = Self { streams: Vec::new(), frames: Vec::new(), set_up: Vec::new() };
        for call in 0..count {
            let since = Instant::now();
            let not_answered = |why: String| BenchError::NotAnswered { call, why };
            let Connection { stream, frames } =
                connect(address, call).map_err(|error| not_answered(error.to_string()))?;
            let opened = model.next_session(OPEN_WITHIN).ok_or_else(|| {
                not_answered(format!("no model session in {} s", OPEN_WITHIN.as_secs()))
            })?;
            calls.set_up.push(opened.saturating_duration_since(since));
            calls.streams.push(Arc::new(stream));
            calls.frames.push(frames);
        }
        Ok(calls)
    }
}

/// Closes the forks, as the module does when its channel ends.
pub(super) fn hang_up(streams: &[Arc<TcpStream>]) {
    let close = masked_frame(Opcode::Close, &1000_u16.to_be_bytes());
    for stream in streams {
        // Whether it is heard or not, the call is over.
        let _ = (&**stream).write(&close);
        let _ = stream.shutdown(Shutdown::Write);
    }
}

fn connect(address: SocketAddr, call: u16) -> io::Result<Connection> {
    let uuid = format!("7a0e5d2c-0000-4000-8000-{call:012x}");
    let mut connection = Connection::open(
        address,
        &format!(
            "/freeswitch/fork/jambonz?token={TOKEN}&call={uuid}&did=bench&rate=16000&back=16000&codec_rate=16000"
        ),
    )?;
    let metadata = format!(r#"{{"uuid":"{uuid}","did":"bench","caller":"+1555{call:07}"}}"#);
    connection.stream.write_all(&masked_frame(Opcode::Text, metadata.as_bytes()))?;
    connection.stream.set_nonblocking(true)?;
    Ok(connection)
}
