//! What a child writes to its standard error, in our log.

use std::time::Duration;

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    time::Instant,
};
use tracing::{info, warn};

/// Bytes of a line that are kept.
const LONGEST_LINE: usize = 500;
/// Lines of one window.
const LINES: u32 = 20;
/// After it, as many lines again.
const WINDOW: Duration = Duration::from_secs(10);

/// Logs the lines of `source` until it ends: the beginning of each, and no more than 20 in 10 s. The rest is read and
/// counted, so that a chatty child is never stopped by a full pipe.
pub(super) async fn log_lines(server: String, source: impl AsyncRead + Unpin) {
    let mut source = BufReader::new(source);
    let mut line = Vec::with_capacity(LONGEST_LINE);
    let mut window = Window { since: Instant::now(), lines: 0, dropped: 0 };
    while read_line(&mut source, &mut line).await {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if text.is_empty() {
            continue;
        }
        let (print, dropped) = window.count(Instant::now());
        if dropped > 0 {
            warn!(mcp = server, dropped, "lines of the server's standard error were left out");
        }
        if print {
            info!(mcp = server, line = text, "the server's standard error");
        }
    }
}

/// Reads one line and keeps its beginning. False at the end of `source`.
async fn read_line(source: &mut BufReader<impl AsyncRead + Unpin>, line: &mut Vec<u8>) -> bool {
    line.clear();
    let mut any = false;
    loop {
        let Ok(read) = source.fill_buf().await else { return any };
        if read.is_empty() {
            return any;
        }
        any = true;
        let end = read.iter().position(|byte| *byte == b'\n');
        let part = &read[..end.unwrap_or(read.len())];
        line.extend_from_slice(&part[..part.len().min(LONGEST_LINE - line.len())]);
        let consumed = end.map_or(read.len(), |end| end + 1);
        source.consume(consumed);
        if end.is_some() {
            return true;
        }
    }
}

struct Window {
    since: Instant,
    lines: u32,
    dropped: u64,
}

impl Window {
    /// Whether a line at `now` is printed, and how many were not before it that nobody has been told of.
    fn count(&mut self, now: Instant) -> (bool, u64) {
        let mut untold = 0;
        if now.duration_since(self.since) >= WINDOW {
            untold = std::mem::take(&mut self.dropped);
            self.since = now;
            self.lines = 0;
        }
        if self.lines == LINES {
            self.dropped += 1;
            return (false, untold);
        }
        self.lines += 1;
        (true, untold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn long_lines_are_cut_and_all_are_read() {
        let text = format!("{}\nshort\r\n\nlast", "x".repeat(20_000));
        let mut source = BufReader::new(text.as_bytes());
        let mut line = Vec::new();
        let mut lines = Vec::new();
        while read_line(&mut source, &mut line).await {
            lines.push(String::from_utf8_lossy(&line).into_owned());
        }
        assert_eq!(lines[0], "x".repeat(LONGEST_LINE));
        assert_eq!(lines[1..], ["short\r", "", "last"]);
    }

    #[test]
    fn a_chatty_child_is_counted_not_printed() {
        let start = Instant::now();
        let mut window = Window { since: start, lines: 0, dropped: 0 };
        let printed = (0..100).filter(|_| window.count(start).0).count();
        assert_eq!(printed, 20);
        assert_eq!(window.count(start + WINDOW), (true, 80));
        assert_eq!(window.count(start + WINDOW), (true, 0));
    }
}
