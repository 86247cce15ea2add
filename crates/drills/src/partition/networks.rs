//! Networks of the drill's own: each program a machine with a cable to one router, which passes on what it is told to.
//!
//! The router is the network namespace of the drill itself, a fresh one that it enters by starting again under `unshare`; each
//! machine is another, held open by a process on the drill's leash. Nothing of it has a name or a file: however the drill ends,
//! the kernel removes all of it with the last process. A cut is a rule of the router to drop what goes from one machine to another
//! without a word, as a broken network does; nothing more than `iproute2` and `util-linux` is needed.

use std::ffi::OsStr;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::DrillError;
use crate::trio::build::Programs;
use crate::trio::process::Process;
use crate::wait;

/// A process that is to hold a network has made it within this.
const MADE: Duration = Duration::from_secs(10);

/// Set for the process that is in a network of its own.
const ENTERED: &str = "HOLDFAST_DRILL_NETWORK";

/// Why this machine cannot play it.
#[derive(Debug, thiserror::Error)]
pub enum Unable {
    #[error("this drill makes networks of its own: it needs Linux and root")]
    NotRoot,
    #[error("this drill needs {program}, of the package {package}, to work: {source}")]
    NoTool { program: &'static str, package: &'static str, source: io::Error },
    #[error("cannot enter a network of its own: {0}")]
    Enter(#[source] io::Error),
}

/// Becomes this program once more in a network of its own, unless it is in one already.
///
/// # Errors
/// [`Unable`] where it cannot.
pub fn enter_network() -> Result<(), Unable> {
    if !rustix::process::geteuid().is_root() {
        return Err(Unable::NotRoot);
    }
    let tools: [(_, _, &[&str]); 3] = [
        ("unshare", "util-linux", &["--net", "true"]),
        ("nsenter", "util-linux", &["--version"]),
        ("ip", "iproute2", &["-V"]),
    ];
    for (program, package, arguments) in tools {
        run(program, arguments).map_err(|source| Unable::NoTool { program, package, source })?;
    }
    if std::env::var_os(ENTERED).is_some() {
        return Ok(());
    }
    let own = std::env::current_exe().map_err(Unable::Enter)?;
    let mut command = Command::new("unshare");
    command.args(["--net", "--"]).arg(own).args(std::env::args_os().skip(1)).env(ENTERED, "1");
    Err(Unable::Enter(command.exec()))
}

/// Makes a router of the network this process is in.
///
/// # Errors
/// [`DrillError::Io`]
pub(super) fn route() -> Result<(), DrillError> {
    let set = |name: &str, value: &str| std::fs::write(Path::new("/proc/sys/net/ipv4").join(name), value);
    let set = [("ip_forward", "1"), ("conf/all/rp_filter", "0"), ("conf/default/rp_filter", "0")]
        .into_iter()
        .try_for_each(|(name, value)| set(name, value));
    set.map_err(DrillError::io("make a router"))?;
    ip(&["link", "set", "lo", "up"])
}

/// A machine with a cable to the router.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) address: Ipv4Addr,
    /// Its network, as a file that can be entered.
    pub(super) network: PathBuf,
    _holder: Process,
}

impl Machine {
    /// Makes the machine number `number`, from 1 to 250, of this router.
    ///
    /// # Errors
    /// [`DrillError`]
    pub(super) async fn make(programs: &Programs, number: u8, folder: &Path) -> Result<Self, DrillError> {
        let holder = Process::hold_network(programs, &format!("network-{number}"), folder)?;
        let network = PathBuf::from(format!("/proc/{}/ns/net", holder.id()));
        let ours = std::fs::read_link("/proc/self/ns/net").map_err(DrillError::io("read our network"))?;
        let made = async || std::fs::read_link(&network).ok().filter(|its| *its != ours);
        wait::until(MADE, made).await.ok_or_else(|| DrillError::never("a network", MADE))?;
        let (router, address) = (Ipv4Addr::new(10, 66, number, 1), Ipv4Addr::new(10, 66, number, 2));
        let (cable, process) = (format!("cable{number}"), holder.id().to_string());
        let inside = format!("--net={}", network.display());
        ip(&["link", "add", &cable, "type", "veth", "peer", "name", "cable", "netns", &process])?;
        ip(&["address", "add", &format!("{router}/30"), "dev", &cable])?;
        ip(&["link", "set", &cable, "up"])?;
        for words in [
            ["address", "add", &format!("{address}/30"), "dev", "cable"].as_slice(),
            &["link", "set", "cable", "up"],
            &["link", "set", "lo", "up"],
            &["route", "add", "default", "via", &router.to_string()],
        ] {
            run("nsenter", &[&[inside.as_str(), "ip"], words].concat()).map_err(DrillError::io("set up a network"))?;
        }
        Ok(Machine { address, network, _holder: holder })
    }

    /// Drops what goes from this one to `other`, from now on, or no more.
    ///
    /// # Errors
    /// [`DrillError::Io`]
    pub(super) fn set_cut(&self, other: &Machine, cut: bool) -> Result<(), DrillError> {
        let verb = if cut { "add" } else { "del" };
        ip(&["rule", verb, "from", &self.address.to_string(), "to", &other.address.to_string(), "blackhole"])
    }
}

fn ip(words: &[&str]) -> Result<(), DrillError> {
    run("ip", words).map_err(DrillError::io("set up a network"))
}

/// Runs a program to its end.
fn run<A: AsRef<OsStr>>(program: &str, arguments: &[A]) -> io::Result<()> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program} ended with {}: {}", output.status, said.trim())))
}
