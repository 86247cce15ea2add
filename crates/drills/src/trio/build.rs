//! Builds the programs a drill needs, and finds them: siblings of the running binary in cargo's target folder.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::TrioError;

/// The three programs; each is the only binary of a package of the same name.
const PROGRAMS: [&str; 3] = [API1_GATEWAY, RETRY_WORKER, API2_FLAKY];

pub const API1_GATEWAY: &str = "api1-gateway";
pub const RETRY_WORKER: &str = "retry-worker";
pub const API2_FLAKY: &str = "api2-flaky";

/// Our own binary, which holds the others' leash.
const DRILL: &str = "drill";

/// What becomes of cargo's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// To stderr as it comes, for a person who waits.
    Shown,
    /// Only into the error, if there is one.
    Kept,
}

/// The folder with all programs.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Builds the three in the profile of the running binary, if cargo runs it; an installed one uses its siblings as they are.
    ///
    /// # Errors
    /// [`TrioError::Build`] with cargo's output, [`TrioError::Missing`] when a program is not where it should be.
    pub fn build(output: Output) -> Result<Self, TrioError> {
        let folder = own_folder()?;
        if let Some(cargo) = std::env::var_os("CARGO") {
            build(&cargo, &folder, profile_of(&folder), &PROGRAMS, output)?;
        }
        Self::find(folder)
    }

    /// Builds the three and the drills themselves for speed; the answer's [`Programs::drill`] is the one to measure with.
    ///
    /// # Errors
    /// As [`Programs::build`].
    pub fn build_release(output: Output) -> Result<Self, TrioError> {
        let folder = own_folder()?;
        if profile_of(&folder) == "release" {
            return Self::build(output);
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let programs = [PROGRAMS.as_slice(), &[DRILL]].concat();
        build(&cargo, &folder, "release", &programs, output)?;
        Self::find(folder.with_file_name("release"))
    }

    fn find(folder: PathBuf) -> Result<Self, TrioError> {
        let mut names = PROGRAMS.iter().copied().chain([DRILL]);
        match names.find(|name| !folder.join(name).is_file()) {
            Some(missing) => Err(TrioError::Missing { program: missing, folder }),
            None => Ok(Programs { folder }),
        }
    }

    /// Where a program is.
    pub fn path(&self, package: &str) -> PathBuf {
        self.folder.join(package)
    }

    pub fn drill(&self) -> PathBuf {
        self.folder.join(DRILL)
    }

    /// Whether the running binary is one of these.
    pub fn are_ours(&self) -> bool {
        own_folder().is_ok_and(|folder| folder == self.folder)
    }

    /// Cargo's target folder, for what a drill leaves behind.
    pub fn target(&self) -> &Path {
        self.folder.parent().unwrap_or(&self.folder)
    }
}

/// The folder of the running binary; a test's is one below.
fn own_folder() -> Result<PathBuf, TrioError> {
    let own = std::env::current_exe().map_err(|source| TrioError::io("find the running program", source))?;
    let folder = own.parent().unwrap_or(Path::new("/"));
    let is_test = folder.file_name() == Some(OsStr::new("deps"));
    Ok(if is_test { folder.parent().unwrap_or(folder) } else { folder }.to_path_buf())
}

/// The profile whose binaries cargo puts into `folder`.
fn profile_of(folder: &Path) -> &str {
    match folder.file_name().and_then(OsStr::to_str) {
        None | Some("debug") => "dev",
        Some(name) => name,
    }
}

/// Builds into the target folder that `folder` is in, wherever the caller's cargo was told to put it.
fn build(cargo: &OsStr, folder: &Path, profile: &str, programs: &[&str], output: Output) -> Result<(), TrioError> {
    let mut command = Command::new(cargo);
    // Of the whole workspace, so that libraries are compiled with the features of all of it, as in a build of everything.
    command.args(["build", "--workspace", "--profile", profile]);
    command.arg("--target-dir").arg(folder.parent().unwrap_or(folder));
    for program in programs {
        command.args(["--bin", program]);
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).stdout(Stdio::null());
    if output == Output::Shown {
        command.stderr(Stdio::inherit());
    }
    let run = match output {
        Output::Shown => command.status().map(|status| (status, Vec::new())),
        Output::Kept => command.output().map(|output| (output.status, output.stderr)),
    };
    let (status, stderr) = run.map_err(|source| TrioError::io("run cargo", source))?;
    if status.success() {
        return Ok(());
    }
    Err(TrioError::Build { status, output: String::from_utf8_lossy(&stderr).into_owned() })
}
