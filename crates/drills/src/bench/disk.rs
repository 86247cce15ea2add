//! The disk under the store: its file system, and what one sync costs.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use jobs_core::process::clock;

use super::{BenchError, percentile};

/// Enough syncs for a stable median; well under a second on any disk one would use.
const SYNCS: usize = 200;

/// What one commit of a small job writes, at least.
const APPENDED: [u8; 4096] = [0; 4096];

/// The disk.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub(super) file_system: String,
    /// Milliseconds for an append of 4 KiB and `fdatasync`.
    pub(super) sync_p50_ms: f64,
    pub(super) sync_p99_ms: f64,
}

/// Measures the disk that holds `folder`.
///
/// # Errors
/// [`BenchError::Void`] on tmpfs, [`BenchError::Io`] when it cannot be written to.
pub(super) fn measure(folder: &Path) -> Result<Disk, BenchError> {
    std::fs::create_dir_all(folder).map_err(BenchError::io("make a folder for the benchmark"))?;
    let folder = folder.canonicalize().map_err(BenchError::io("find the folder for the benchmark"))?;
    let file_system = file_system(&folder);
    if file_system == "tmpfs" {
        return Err(BenchError::Void { folder: folder.display().to_string() });
    }
    let mut costs = sync_costs(&folder.join("sync-probe")).map_err(BenchError::io("write to the benchmark's disk"))?;
    Ok(Disk { file_system, sync_p50_ms: percentile(&mut costs, 0.5), sync_p99_ms: percentile(&mut costs, 0.99) })
}

fn sync_costs(path: &Path) -> std::io::Result<Vec<f64>> {
    let mut file = File::create(path)?;
    let mut costs = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = clock::instant();
        file.write_all(&APPENDED)?;
        file.sync_data()?;
        costs.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    std::fs::remove_file(path)?;
    Ok(costs)
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
