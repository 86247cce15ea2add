//! The free space of the disk that holds the store.

use std::io;
use std::path::{Path, PathBuf};

/// The disk under a folder.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    folder: PathBuf,
}

impl Disk {
    pub(super) fn under(folder: &Path) -> Self {
        Disk { folder: folder.to_owned() }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bytes that an ordinary user's files may still take. A system call of about a microsecond.
    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.folder)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}
