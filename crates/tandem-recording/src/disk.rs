//! The file of a recording, as far as its writer needs one.

use std::{
    fs::File,
    io,
    mem::MaybeUninit,
    os::{fd::AsRawFd, unix::ffi::OsStrExt, unix::fs::FileExt},
    path::Path,
};

/// Where bytes go.
pub(crate) trait Disk: Send {
    /// Writes `bytes` at `at`, all or an error.
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Cuts it off at `length`.
    fn cut(&mut self, length: u64) -> io::Result<()>;

    /// Everything is on the medium when it returns.
    fn sync(&mut self) -> io::Result<()>;

    /// Bytes that are left for us, where that is known.
    fn free(&self) -> Option<u64>;
}

impl Disk for File {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn free(&self) -> Option<u64> {
        let mut stats = MaybeUninit::uninit();
        // SAFETY: the descriptor is open, and the kernel fills the struct when it says so.
        let stats = unsafe {
            (libc::fstatvfs(self.as_raw_fd(), stats.as_mut_ptr()) == 0).then(|| stats.assume_init())
        };
        stats.as_ref().map(available)
    }
}

/// Bytes that are left on the file system of `path` for whoever may write there.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let mut stats = MaybeUninit::uninit();
    // SAFETY: the path ends with a zero byte, and the kernel fills the struct when it says so.
    let stats = unsafe {
        (libc::statvfs(path.as_ptr(), stats.as_mut_ptr()) == 0).then(|| stats.assume_init())
    };
    stats.as_ref().map(available).ok_or_else(io::Error::last_os_error)
}

#[allow(clippy::unnecessary_cast, reason = "the fields are of 32 bits on some platforms")]
fn available(stats: &libc::statvfs) -> u64 {
    (stats.f_bavail as u64).saturating_mul(stats.f_frsize as u64)
}
