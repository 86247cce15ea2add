//! How many files a process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than one machine's connections need; in the gateway each costs some 10 KiB while it is connected.
const OPEN_FILES: u64 = 65_536;

/// Each connection is an open file, and the usual limit is for programs of another time: 1,024, of which a gateway's silent clients or
/// a worker's destinations could take all. So it is raised, as far as the system lets us.
pub fn allow_many_connections() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
    if current.is_some_and(|current| current < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
    {
        log::warn!(limit:? = current, error:% = error; "cannot raise the limit of open files, and so of connections at a time");
    }
}
