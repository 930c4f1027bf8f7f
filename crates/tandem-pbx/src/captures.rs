//! The recorded event-socket dialogues of a real switch, for tests.

use std::{fs, path::PathBuf};

/// One block of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Block {
    /// What the client sent.
    Sent(Vec<u8>),
    /// What the switch sent.
    Received(Vec<u8>),
    /// Closed, or another connection.
    Note(String),
}

/// A recording by name, `esl/auth_and_exit`, with its blocks.
pub(crate) struct Capture {
    pub(crate) name: String,
    pub(crate) blocks: Vec<Block>,
}

fn root() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/freeswitch").into()
}

/// All recorded dialogues: `esl/*.txt` and `*/*.esl.txt`.
pub(crate) fn all() -> Vec<Capture> {
    let mut paths = Vec::new();
    for folder in fs::read_dir(root()).unwrap() {
        let folder = folder.unwrap().path();
        let Ok(files) = fs::read_dir(&folder) else { continue };
        let is_esl = folder.ends_with("esl");
        paths.extend(files.map(|file| file.unwrap().path()).filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.ends_with(".esl.txt") || is_esl && name.ends_with(".txt")
        }));
    }
    paths.sort();
    paths.into_iter().map(|path| read(&path)).collect()
}

/// One of them.
pub(crate) fn named(name: &str) -> Capture {
    let plain = root().join(format!("{name}.txt"));
    read(&if plain.exists() { plain } else { root().join(format!("{name}.esl.txt")) })
}

fn read(path: &PathBuf) -> Capture {
    let name = path.strip_prefix(root()).unwrap().to_string_lossy();
    let name = name.trim_end_matches(".txt").trim_end_matches(".esl").to_owned();
    let bytes = fs::read(path).unwrap();
    let mut blocks: Vec<(String, Vec<u8>)> = Vec::new();
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        match line.strip_prefix(b"#### ") {
            Some(head) => {
                blocks.push((String::from_utf8_lossy(head).trim().to_owned(), Vec::new()));
            }
            None => blocks
                .last_mut()
                .expect("a recording begins with a block")
                .1
                .extend_from_slice(line),
        }
    }
    let blocks = blocks.into_iter().map(|(head, bytes)| block(&head, bytes)).collect();
    Capture { name, blocks }
}

fn block(head: &str, mut bytes: Vec<u8>) -> Block {
    if bytes.starts_with(b"[") {
        return Block::Note(String::from_utf8(bytes).unwrap());
    }
    if head.ends_with("C>S") {
        return Block::Sent(bytes);
    }
    assert!(head.ends_with("S>C"), "{head}");
    // A body that did not end in a line end was given one when it was written down.
    let text = std::str::from_utf8(&bytes).expect("recordings are UTF-8");
    let body = text.find("\n\n").expect("a header block ends in an empty line") + 2;
    let length =
        text[..body].lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap_or("0");
    let end = body + length.parse::<usize>().unwrap();
    assert!(matches!(&bytes[end..], b"" | b"\n"), "{head}: {text}");
    bytes.truncate(end);
    Block::Received(bytes)
}
