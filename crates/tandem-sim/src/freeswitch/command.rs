//! Commands as clients of the event socket write them.

/// Largest header block.
const MOST_HEADERS: usize = 1 << 20;

/// Largest body.
const MOST_BODY: usize = 16 << 20;

/// One command: its line, its headers, its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Command {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The first word, and what follows it.
    pub(crate) fn verb(&self) -> (&str, &str) {
        match self.line.split_once(' ') {
            Some((verb, rest)) => (verb, rest.trim_start_matches(' ')),
            None => (&self.line, ""),
        }
    }
}

/// The client's bytes are beyond what is taken.
#[derive(Debug, thiserror::Error)]
#[error("a command larger than the switch takes")]
pub(crate) struct TooLarge;

/// Cuts a client's byte stream into commands.
#[derive(Debug, Default)]
pub(crate) struct CommandReader {
    buffer: Vec<u8>,
}

impl CommandReader {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete command, none when more bytes are needed.
    pub(crate) fn next_command(&mut self) -> Result<Option<Command>, TooLarge> {
        let blank = self.buffer.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        self.buffer.drain(..blank);
        let Some(end) = end_of_headers(&self.buffer) else {
            return if self.buffer.len() > MOST_HEADERS { Err(TooLarge) } else { Ok(None) };
        };
        let block = String::from_utf8_lossy(&self.buffer[..end]).replace('\r', "");
        let mut lines = block.lines().filter(|line| !line.is_empty());
        let line = lines.next().unwrap_or_default().to_owned();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect();
        let mut command = Command { line, headers, body: String::new() };
        let length =
            command.header("content-length").and_then(|length| length.parse::<usize>().ok());
        let length = length.unwrap_or(0);
        if length > MOST_BODY {
            return Err(TooLarge);
        }
        if self.buffer.len() < end + length {
            return Ok(None);
        }
        let body = &self.buffer[end..end + length];
        let body = body.split(|byte| *byte == 0).next().unwrap_or_default(); // It is handed on as a C string.
        command.body = String::from_utf8_lossy(body).into_owned();
        self.buffer.drain(..end + length);
        Ok(Some(command))
    }
}

/// Where the block of headers ends: behind two line feeds with nothing but carriage returns between them.
fn end_of_headers(bytes: &[u8]) -> Option<usize> {
    let mut after_feed = false;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' if after_feed => return Some(at + 1),
            b'\n' => after_feed = true,
            b'\r' => {}
            _ => after_feed = false,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_come_out_however_the_bytes_arrive() {
        let stream = b"\n\nauth ClueCon\n\nsendmsg u\r\ncall-command: execute\r\nContent-Length: 5\r\n\r\nhellobgapi status\nJob-UUID: 1\n\n";
        for piece in [1, 7, stream.len()] {
            let mut reader = CommandReader::default();
            let mut commands = Vec::new();
            for bytes in stream.chunks(piece) {
                reader.push(bytes);
                while let Some(command) = reader.next_command().unwrap() {
                    commands.push(command);
                }
            }
            let lines: Vec<_> = commands.iter().map(|command| command.line.as_str()).collect();
            assert_eq!(lines, ["auth ClueCon", "sendmsg u", "bgapi status"]);
            assert_eq!(commands[1].body, "hello");
            assert_eq!(commands[1].header("Call-Command"), Some("execute"));
            assert_eq!(commands[2].header("job-uuid"), Some("1"));
            assert_eq!(commands[2].verb(), ("bgapi", "status"));
        }
    }

    #[test]
    fn what_is_too_large_is_an_error() {
        let mut reader = CommandReader::default();
        reader.push(b"sendmsg\ncontent-length: 99999999\n\n");
        assert!(reader.next_command().is_err());
        let mut reader = CommandReader::default();
        reader.push(&vec![b'x'; MOST_HEADERS + 1]);
        assert!(reader.next_command().is_err());
    }
}
