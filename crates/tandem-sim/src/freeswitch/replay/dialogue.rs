//! Recorded dialogues of the event socket, with the switch's side played.

use std::{fs, io, net::SocketAddr, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep_until, timeout},
};

use crate::freeswitch::command::{Command, CommandReader};

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The switch.
    Switch,
    /// Nobody: the switch closed the connection.
    Closed,
}

/// What was said at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Since the start of the recording.
    pub at: Duration,
    /// By whom.
    pub side: Side,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A recorded dialogue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dialogue {
    /// In order.
    pub said: Vec<Said>,
}

/// How a client did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DialogueOutcome {
    /// Commands of the client, in order.
    pub commands: Vec<String>,
    /// Those that were not in the dialogue where they came.
    pub unexpected: Vec<String>,
    /// Recorded commands that never came.
    pub missing: Vec<String>,
}

impl Dialogue {
    /// Reads a recorded dialogue.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no dialogue.
    pub fn load(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::parse(&fs::read(path)?)
    }

    /// Reads the blocks of a dialogue: `#### <t> ms C>S`, or `S>C`, and then the bytes.
    ///
    /// # Errors
    /// When there is no block.
    pub fn parse(bytes: &[u8]) -> io::Result<Self> {
        let mut said = Vec::new();
        let mut blocks: Vec<(&[u8], Vec<u8>)> = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match (line.strip_prefix(b"#### "), blocks.last_mut()) {
                (Some(title), _) => blocks.push((title, Vec::new())),
                (None, Some((_, block))) => block.extend_from_slice(line),
                (None, None) => {}
            }
        }
        for (title, block) in blocks {
            let title = String::from_utf8_lossy(title);
            let mut words = title.split_ascii_whitespace();
            let at = words.next().and_then(|ms| ms.parse::<f64>().ok());
            let side = match words.nth(1) {
                Some("C>S") => Side::Client,
                Some("S>C") if block.starts_with(b"[connection closed") => Side::Closed,
                Some("S>C") => Side::Switch,
                _ => continue,
            };
            let at = Duration::from_secs_f64(at.unwrap_or_default().max(0.0) / 1_000.0);
            said.push(Said { at, side, bytes: trimmed(block) });
        }
        if said.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no blocks of a dialogue"));
        }
        Ok(Self { said })
    }

    /// Plays the switch: takes the clients that connect, one after another, until the dialogue is over. `real_time`
    /// says events at their recorded times; `patience` is how long each command may take to come.
    ///
    /// # Errors
    /// When a socket fails.
    pub async fn serve(
        &self,
        listener: &TcpListener,
        real_time: bool,
        patience: Duration,
    ) -> io::Result<DialogueOutcome> {
        let mut outcome = DialogueOutcome::default();
        let mut at = 0;
        while at < self.said.len() {
            let Ok(accepted) = timeout(patience, listener.accept()).await else {
                self.note_missing(at, &mut outcome);
                break;
            };
            at = self.play(accepted?.0, at, real_time, patience, &mut outcome).await?;
        }
        Ok(outcome)
    }

    /// Plays the switch of an outbound dialogue: calls the client.
    ///
    /// # Errors
    /// When a socket fails.
    pub async fn call(
        &self,
        address: SocketAddr,
        real_time: bool,
        patience: Duration,
    ) -> io::Result<DialogueOutcome> {
        let mut outcome = DialogueOutcome::default();
        let stream = TcpStream::connect(address).await?;
        self.play(stream, 0, real_time, patience, &mut outcome).await?;
        Ok(outcome)
    }

    /// Plays on one connection from block `at`; gives where it ended.
    async fn play(
        &self,
        mut stream: TcpStream,
        mut at: usize,
        real_time: bool,
        patience: Duration,
        outcome: &mut DialogueOutcome,
    ) -> io::Result<usize> {
        stream.set_nodelay(true)?;
        let mut reader = CommandReader::default();
        let mut clock = (Instant::now(), self.said.get(at).map_or(Duration::ZERO, |said| said.at));
        while let Some(said) = self.said.get(at) {
            match said.side {
                Side::Client => {
                    let expected = line_of(&said.bytes);
                    loop {
                        let next = timeout(patience, next_command(&mut stream, &mut reader)).await;
                        let Ok(Some(command)) = next.unwrap_or(Ok(None)) else {
                            self.note_missing(at, outcome);
                            return Ok(self.said.len());
                        };
                        outcome.commands.push(command.line.clone());
                        if key_of(&command.line) == key_of(&expected) {
                            break;
                        }
                        outcome.unexpected.push(command.line.clone());
                        stream.write_all(refusal(&command).as_bytes()).await?;
                    }
                    clock = (Instant::now(), said.at);
                }
                Side::Switch => {
                    if real_time {
                        sleep_until(clock.0 + said.at.saturating_sub(clock.1)).await;
                    }
                    stream.write_all(&said.bytes).await?;
                }
                Side::Closed => {
                    stream.shutdown().await?;
                    return Ok(at + 1);
                }
            }
            at += 1;
        }
        // All is said: the client may go.
        let _gone = timeout(patience, async {
            let mut rest = [0; 1_024];
            while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
        })
        .await;
        Ok(at)
    }

    fn note_missing(&self, from: usize, outcome: &mut DialogueOutcome) {
        let rest = self.said[from..].iter().filter(|said| said.side == Side::Client);
        outcome.missing.extend(rest.map(|said| line_of(&said.bytes)));
    }
}

async fn next_command(
    stream: &mut TcpStream,
    reader: &mut CommandReader,
) -> io::Result<Option<Command>> {
    let mut bytes = [0; 16_384];
    loop {
        if let Some(command) = reader.next_command().map_err(io::Error::other)? {
            return Ok(Some(command));
        }
        match stream.read(&mut bytes).await? {
            0 => return Ok(None),
            read => reader.push(&bytes[..read]),
        }
    }
}

fn line_of(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| *byte == b'\n').find(|line| !line.is_empty()).unwrap_or_default();
    String::from_utf8_lossy(line).into_owned()
}

/// What makes a command the one that is waited for: its verb, and with `api` and `bgapi` what it calls.
fn key_of(line: &str) -> Vec<&str> {
    let mut words = line.split_ascii_whitespace();
    let verb = words.next().unwrap_or_default();
    let more = if matches!(verb, "api" | "bgapi") { 1 } else { 0 };
    std::iter::once(verb).chain(words.take(more)).collect()
}

fn refusal(command: &Command) -> String {
    match command.verb().0 {
        "api" => "Content-Type: api/response\nContent-Length: 5\n\n-ERR\n".to_owned(),
        _ => "Content-Type: command/reply\nReply-Text: -ERR command not found\n\n".to_owned(),
    }
}

/// Takes away the line feed that the recorder put behind a body without one.
fn trimmed(mut block: Vec<u8>) -> Vec<u8> {
    let Some(end) = block.windows(2).position(|window| window == b"\n\n") else { return block };
    let head = String::from_utf8_lossy(&block[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    if let Some(length) = length.and_then(|length| length.trim().parse::<usize>().ok())
        && block.len() == end + 2 + length + 1
    {
        block.pop();
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_the_bytes_that_were_sent() {
        let text = b"#### 1.5 ms S>C\nContent-Type: auth/request\n\n#### 2 ms C>S\napi uuid_exists x\n\n\
                     #### 3 ms S>C\nContent-Type: api/response\nContent-Length: 4\n\ntrue\n\
                     #### 4 ms ---\n[a second connection]\n#### 5 ms S>C\n[connection closed by FreeSWITCH]\n";
        let dialogue = Dialogue::parse(text).unwrap();
        let sides: Vec<Side> = dialogue.said.iter().map(|said| said.side).collect();
        assert_eq!(sides, [Side::Switch, Side::Client, Side::Switch, Side::Closed]);
        assert_eq!(
            dialogue.said[2].bytes,
            b"Content-Type: api/response\nContent-Length: 4\n\ntrue"
        );
        assert_eq!(key_of("api uuid_exists x"), ["api", "uuid_exists"]);
        assert!(Dialogue::parse(b"nothing").is_err());
    }
}
