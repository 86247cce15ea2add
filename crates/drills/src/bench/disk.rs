//! The disk under the store: its file system, and what one sync costs.
//!
//! Two costs, because a journalling file system pays twice for an append: SQLite's log is appended to until it has its size, and
//! from then on overwritten from its start.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use jobs_core::process::clock;

use super::{BenchError, median};

/// Enough syncs for a stable median; about a second on a usual disk.
const SYNCS: usize = 100;

/// What one commit of a small job writes, at least.
const WRITTEN: [u8; 4096] = [0; 4096];

/// A disk, watched over a run: syncs drift like everything else.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    pub(super) file_system: String,
    appends_ms: Vec<f64>,
    overwrites_ms: Vec<f64>,
}

impl Disk {
    /// The disk that holds `folder`, which is made if need be.
    ///
    /// # Errors
    /// [`BenchError::Void`] on tmpfs, [`BenchError::Io`] when the folder cannot be made.
    pub(super) fn under(folder: &Path) -> Result<Self, BenchError> {
        std::fs::create_dir_all(folder).map_err(BenchError::io("make a folder for the benchmark"))?;
        let folder = folder.canonicalize().map_err(BenchError::io("find the folder for the benchmark"))?;
        let file_system = file_system(&folder);
        if file_system == "tmpfs" {
            return Err(BenchError::Void { folder: folder.display().to_string() });
        }
        Ok(Disk { folder, file_system, appends_ms: Vec::new(), overwrites_ms: Vec::new() })
    }

    /// Measures what a write of 4 KiB and its `fdatasync` cost now.
    ///
    /// # Errors
    /// [`BenchError::Io`] when the disk cannot be written to.
    pub(super) fn sync(&mut self) -> Result<(), BenchError> {
        self.try_sync().map_err(BenchError::io("write to the benchmark's disk"))
    }

    fn try_sync(&mut self) -> std::io::Result<()> {
        let path = self.folder.join("sync-probe");
        let mut file = File::create(&path)?;
        for costs in [&mut self.appends_ms, &mut self.overwrites_ms] {
            file.seek(SeekFrom::Start(0))?;
            for _ in 0..SYNCS {
                let began = clock::instant();
                file.write_all(&WRITTEN)?;
                file.sync_data()?;
                costs.push(began.elapsed().as_secs_f64() * 1_000.0);
            }
        }
        std::fs::remove_file(path)
    }

    /// Milliseconds for one write and sync in the middle: at a file's end, and over what it has.
    pub(super) fn sync_p50_ms(&self) -> (f64, f64) {
        (median(&mut self.appends_ms.clone()), median(&mut self.overwrites_ms.clone()))
    }
}

/// The type of the file system that holds `folder`; `unknown` where the system does not tell.
fn file_system(folder: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounted_at(&mounts, folder).unwrap_or("unknown").to_owned()
}

fn mounted_at<'a>(mounts: &'a str, folder: &Path) -> Option<&'a str> {
    let entries = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    // The deepest mount point counts; of two at the same place, the later one hides the earlier.
    entries.filter(|(at, _)| folder.starts_with(at)).max_by_key(|(at, _)| at.len()).map(|(_, kind)| kind)
}

#[cfg(test)]
impl Disk {
    /// A disk on which nothing was measured.
    pub(super) fn of_no_folder(file_system: &str) -> Self {
        let (appends_ms, overwrites_ms) = (Vec::new(), Vec::new());
        Disk { folder: PathBuf::new(), file_system: file_system.to_owned(), appends_ms, overwrites_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_and_latest_mount_counts() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/disk xfs rw 0 0\n";
        assert_eq!(mounted_at(mounts, Path::new("/home/me")), Some("ext4"));
        assert_eq!(mounted_at(mounts, Path::new("/tmp/x")), Some("tmpfs"));
        assert_eq!(mounted_at(mounts, Path::new("/tmp/disk/x")), Some("xfs"));
        assert_eq!(mounted_at(mounts, Path::new("/tmpfiles")), Some("ext4"));
    }
}
