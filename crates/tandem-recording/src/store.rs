//! The bytes of a recording on their way to the disk, sealed or as they are.

use std::io;

use crate::{RecordingKey, disk::Disk, sealing::Sealer};

/// A file that only grows, but for its first bytes where it is not sealed.
pub(crate) struct Store {
    disk: Box<dyn Disk>,
    sealer: Option<Sealer>,
    /// Bytes that are there for good.
    length: u64,
    sealed: Vec<u8>,
}

impl Store {
    /// An empty file on `disk`, sealed if there is a key.
    pub(crate) fn new(disk: Box<dyn Disk>, key: Option<&RecordingKey>) -> io::Result<Self> {
        let mut store = Self { disk, sealer: None, length: 0, sealed: Vec::new() };
        if let Some(key) = key {
            let mut head = Vec::new();
            store.sealer = Some(Sealer::new(key, &mut head)?);
            store.write(&head)?;
        }
        Ok(store)
    }

    /// Bytes of the file.
    pub(crate) const fn length(&self) -> u64 {
        self.length
    }

    /// Whether it is sealed.
    pub(crate) const fn is_sealed(&self) -> bool {
        self.sealer.is_some()
    }

    /// Bytes that are left on the disk, where that is known.
    pub(crate) fn free(&self) -> Option<u64> {
        self.disk.free()
    }

    /// Appends `bytes`, all or nothing. After an error nothing more may be appended.
    pub(crate) fn append(&mut self, bytes: &[u8], is_last: bool) -> io::Result<()> {
        let Some(sealer) = &mut self.sealer else { return self.write(bytes) };
        if bytes.is_empty() && !is_last {
            return Ok(());
        }
        let mut sealed = std::mem::take(&mut self.sealed);
        sealed.clear();
        let written = sealer.seal(bytes, is_last, &mut sealed).and_then(|()| self.write(&sealed));
        self.sealed = sealed;
        written
    }

    /// Writes the file's first bytes anew, unless it is sealed.
    pub(crate) fn set_head(&mut self, head: &[u8]) -> io::Result<()> {
        if self.is_sealed() { Ok(()) } else { self.disk.write_at(head, 0) }
    }

    /// Everything is on the medium when it returns.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.disk.sync()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.disk.write_at(bytes, self.length);
        match written {
            Ok(()) => self.length += bytes.len() as u64,
            Err(_) => {
                self.disk.cut(self.length).ok(); // What is there of it is no use to anybody.
            }
        }
        written
    }
}
