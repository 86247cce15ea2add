//! A small disk of its own for a drill: an ext4 file system in a file, mounted through a loop device.
//!
//! Linux and root only. The mount lives in a mount namespace that the drill enters before anything else ([`enter_namespace`]), so
//! that nothing stays mounted however the drill ends. Power is cut with the ioctl that file systems have for such tests: from that
//! moment on nothing more reaches the disk, neither data nor the journal, and what was only in memory is gone with the unmount.
//! What the disk itself has cached and not yet written cannot be cut this way; a disk that lies about its syncs is not tested.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Set for the process that is in a mount namespace of its own.
const ENTERED: &str = "HOLDFAST_DRILL_NAMESPACE";

/// The programs that make, mount and part.
const TOOLS: [(&str, &str); 4] =
    [("mkfs.ext4", "e2fsprogs"), ("mount", "mount"), ("umount", "mount"), ("unshare", "util-linux")];

/// Why there is no such disk.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("this drill mounts a file system of its own: it needs Linux and root")]
    NotRoot,
    #[error("this drill needs {program}, of the package {package}")]
    NoTool { program: &'static str, package: &'static str },
    #[error("cannot {doing}: {source}")]
    Io { doing: &'static str, source: io::Error },
    #[error("{program} failed: {output}")]
    Failed { program: &'static str, output: String },
}

impl ImageError {
    fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| ImageError::Io { doing, source }
    }
}

/// Whether such a disk can be had here.
///
/// # Errors
/// [`ImageError::NotRoot`], [`ImageError::NoTool`].
pub fn check() -> Result<(), ImageError> {
    if !cfg!(target_os = "linux") || !rustix::process::geteuid().is_root() {
        return Err(ImageError::NotRoot);
    }
    match TOOLS.iter().find(|(program, _)| !is_there(program)) {
        Some((program, package)) => Err(ImageError::NoTool { program, package }),
        None => Ok(()),
    }
}

/// Whether a program is on the path.
pub fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Begins this process anew in a mount namespace of its own, unless it is in one already. To be called before anything else.
///
/// # Errors
/// [`ImageError`] where it cannot.
pub fn enter_namespace() -> Result<(), ImageError> {
    check()?;
    if std::env::var_os(ENTERED).is_some() {
        return Ok(());
    }
    let own = std::env::current_exe().map_err(ImageError::io("find the running program"))?;
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]).arg(own).args(arguments).env(ENTERED, "1");
    Err(ImageError::Io { doing: "enter a mount namespace", source: command.exec() })
}

/// The disk.
#[derive(Debug)]
pub struct Image {
    /// Holds the file of the image and the folder it is mounted on.
    folder: TempDir,
    mounted: bool,
}

impl Image {
    /// Makes one of `mib` MiB and mounts it.
    ///
    /// # Errors
    /// [`ImageError`]
    pub fn make(mib: u64) -> Result<Self, ImageError> {
        let folder = tempfile::Builder::new().prefix("holdfast-disk-").tempdir();
        let folder = folder.map_err(ImageError::io("make a folder for the disk"))?;
        let mut image = Image { folder, mounted: false };
        let file = File::create(image.file()).map_err(ImageError::io("make the disk's file"))?;
        file.set_len(mib * 1024 * 1024).map_err(ImageError::io("make the disk's file"))?;
        std::fs::create_dir(image.path()).map_err(ImageError::io("make the mount point"))?;
        // No blocks kept back for root, which the gateway here is.
        let mut make = Command::new("mkfs.ext4");
        make.args(["-q", "-m", "0"]).arg(image.file());
        run("mkfs.ext4", make)?;
        image.mount()?;
        Ok(image)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("disk.ext4")
    }

    /// From now on nothing more reaches it; see the module.
    ///
    /// # Errors
    /// [`ImageError::Io`]
    pub fn cut_power(&self) -> Result<(), ImageError> {
        let top = File::open(self.path()).map_err(ImageError::io("open the disk"))?;
        cut(&top).map_err(ImageError::io("cut the disk's power"))
    }

    /// Mounts it, which replays its journal.
    ///
    /// # Errors
    /// [`ImageError::Failed`]
    pub fn mount(&mut self) -> Result<(), ImageError> {
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).arg(self.file()).arg(self.path());
        run("mount", mount)?;
        self.mounted = true;
        Ok(())
    }

    /// Unmounts it; nobody may have a file on it open.
    ///
    /// # Errors
    /// [`ImageError::Failed`]
    pub fn unmount(&mut self) -> Result<(), ImageError> {
        let mut unmount = Command::new("umount");
        unmount.arg(self.path());
        run("umount", unmount)?;
        self.mounted = false;
        Ok(())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.mounted {
            // Whatever still has files open on it: nothing on this disk is wanted any more. It may fail only where it is gone.
            drop(Command::new("umount").arg("--lazy").arg(self.path()).status());
        }
    }
}

/// Bytes that can still be written to the disk under `folder`.
///
/// # Errors
/// The system's.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "an ioctl has no safe form; this one reads a number from a pointer that lives long enough"
)]
fn cut(top: &File) -> io::Result<()> {
    /// `FS_IOC_SHUTDOWN`, first of XFS and now of ext4 and others.
    const FS_IOC_SHUTDOWN: rustix::ioctl::Opcode = 0x8004_587d;
    /// `FS_SHUTDOWN_FLAGS_NOLOGFLUSH`: not even the journal is written out.
    const NO_LOG_FLUSH: u32 = 2;
    // SAFETY: the kernel reads one u32 behind the pointer that `Setter` makes of its value, and writes nothing.
    unsafe {
        let shutdown = rustix::ioctl::Setter::<FS_IOC_SHUTDOWN, u32>::new(NO_LOG_FLUSH);
        Ok(rustix::ioctl::ioctl(top, shutdown)?)
    }
}

#[cfg(not(target_os = "linux"))]
fn cut(_: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn run(program: &'static str, mut command: Command) -> Result<(), ImageError> {
    let output = command.stdin(Stdio::null()).output().map_err(ImageError::io("run a program of the system"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(ImageError::Failed { program, output: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}
