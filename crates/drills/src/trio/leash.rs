//! The leash: a started program dies with the drill that started it, however that ends.
//!
//! `drill leash <parent> <program> …` asks the kernel to be killed when its parent dies, then becomes the program: same process
//! id, no process more. A drill that is killed with SIGKILL, or a test that is aborted, runs no destructor, so nothing else
//! would do. Linux only; elsewhere programs are killed by [`super::process::Process`]'s drop alone.
//!
//! The kernel means the *thread* that started the program. Start programs from a thread that lasts as long as they should: that
//! of a test or of `main`, never one of a runtime's pool for blocking calls.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The name of the hidden subcommand.
pub const SUBCOMMAND: &str = "leash";

/// Set for a program that is to stand still just before it begins, until it is told to go on.
pub(super) const STOPPED: &str = "HOLDFAST_DRILL_STOPPED";

/// A command for `program` that `drill`, the binary, puts on a leash held by this process.
pub fn command(drill: &Path, program: &Path) -> Command {
    let mut command = Command::new(drill);
    command.arg(SUBCOMMAND).arg(std::process::id().to_string()).arg(program);
    // Ctrl-C in the terminal is for the drill; it tells the programs itself, in its own order.
    command.process_group(0);
    command
}

/// Becomes `program`, on a leash held by the process `parent`. Returns only the reason why it could not.
pub fn run(parent: u32, program: &OsStr, arguments: &[OsString]) -> io::Error {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
        if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
            return error.into();
        }
        // It may have died before the kernel was asked.
        let holder = getppid().map(Pid::as_raw_nonzero).and_then(|pid| u32::try_from(pid.get()).ok());
        if holder != Some(parent) {
            return io::Error::other("the drill that started this program is gone");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _unused = parent;
    if std::env::var_os(STOPPED).is_some()
        && let Err(error) = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP)
    {
        return error.into();
    }
    Command::new(program).args(arguments).exec()
}
