//! Addresses: read from what a program logs when it listens, and told from taken ones before it starts.
//!
//! A drill lets each program bind port 0 and reads the port it got. Choosing a free port beforehand would be a race.

use std::io;
use std::net::{SocketAddr, TcpListener};

/// Any free port of this machine, reachable from it alone.
pub const ANY_PORT: &str = "127.0.0.1:0";

/// The keys under which the programs log their address once they listen.
const ADDRESS: [&str; 3] = ["listen", "address", "api"];

/// The key under which api2-flaky logs its second address.
const CONTROL: &str = "control";

/// Where a program listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    pub address: SocketAddr,
    /// A second port from which it is steered, if it has one.
    pub control: Option<SocketAddr>,
}

impl Listening {
    /// Reads the first line of a text log that says where the program listens.
    pub fn in_log(log: &str) -> Option<Self> {
        // The last line may be half written.
        let complete = &log[..log.rfind('\n')?];
        complete.lines().find_map(Self::in_line)
    }

    fn in_line(line: &str) -> Option<Self> {
        let fields = line.split_whitespace().filter_map(|field| field.split_once('='));
        let addresses = fields.filter_map(|(key, value)| Some((key, value.parse::<SocketAddr>().ok()?)));
        // Port 0 is a setting, not yet an address.
        let mut bound = addresses.filter(|(_, address)| address.port() != 0);
        let control = bound.clone().find(|(key, _)| *key == CONTROL).map(|(_, address)| address);
        let (_, address) = bound.find(|(key, _)| ADDRESS.contains(key))?;
        Some(Listening { address, control })
    }
}

/// Whether `address` can be listened on now.
///
/// # Errors
/// The operating system's reason, most often that another program listens there.
pub fn try_listen(address: &str) -> io::Result<()> {
    TcpListener::bind(address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_line_that_has_one() {
        let log = "2026-11-22T12:03:04.123Z INFO  api1-gateway starting listen=127.0.0.1:0\n\
                   2026-11-22T12:03:04.124Z INFO  api1-gateway listening address=127.0.0.1:34567 store=sqlite\n";
        let expected = Listening { address: "127.0.0.1:34567".parse().unwrap(), control: None };
        assert_eq!(Listening::in_log(log), Some(expected));
    }

    #[test]
    fn a_control_port_is_told_from_the_service_port() {
        let log = "INFO  api2-flaky listening control=127.0.0.1:2 api=127.0.0.1:1\n";
        let expected = Listening { address: "127.0.0.1:1".parse().unwrap(), control: "127.0.0.1:2".parse().ok() };
        assert_eq!(Listening::in_log(log), Some(expected));
    }

    #[test]
    fn a_half_written_line_is_not_read_yet() {
        assert_eq!(Listening::in_log("INFO  api1-gateway listening address=127.0.0.1:34"), None);
        assert_eq!(Listening::in_log(""), None);
    }

    #[test]
    fn a_taken_port_is_noticed() {
        let taken = TcpListener::bind(ANY_PORT).unwrap();
        assert!(try_listen(&taken.local_addr().unwrap().to_string()).is_err());
        assert!(try_listen(ANY_PORT).is_ok());
    }
}
