//! The free space of the disk that holds the store.

use std::io;
use std::path::{Path, PathBuf};

/// The disk under a folder.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    folder: PathBuf,
    /// Bytes that are to stay free.
    min_free: u64,
}

impl Disk {
    pub(super) fn under(folder: &Path, min_free: u64) -> Self {
        Disk { folder: folder.to_owned(), min_free }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bytes that an ordinary user's files may still take. A system call of about a microsecond.
    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.folder)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Whether `bytes` more would take of what is to stay free. Where the disk does not tell, it is taken to have enough.
    pub(super) fn is_too_full_for(&self, bytes: u64) -> bool {
        self.min_free > 0 && self.free_bytes().is_ok_and(|free| free < self.min_free.saturating_add(bytes))
    }
}
