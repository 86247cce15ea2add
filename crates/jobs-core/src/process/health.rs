//! The `healthcheck` subcommand: asks a running service whether it can serve, for containers that have no curl.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

/// How long connecting, writing and reading may each take: an answer that needs longer is no health.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The status line of the answer fits in this many bytes.
const STATUS_LINE_LIMIT: u64 = 256;

/// Asks `GET /readyz` at the address a service listens on. 0 if it answers 200, else 1 with the reason on stderr.
/// An unspecified address (0.0.0.0, [::]) stands for loopback. Blocks for a few seconds at most.
pub fn healthcheck(listen: SocketAddr) -> ExitCode {
    match status_line(reachable(listen)) {
        Ok(line) if line.split(' ').nth(1) == Some("200") => ExitCode::SUCCESS,
        Ok(line) => {
            eprintln!("not ready: {listen} answered {line:?}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("not ready: {listen}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        specified @ (IpAddr::V4(_) | IpAddr::V6(_)) => specified,
    };
    SocketAddr::new(ip, listen.port())
}

fn status_line(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut line = Vec::new();
    let mut answer = stream.take(STATUS_LINE_LIMIT);
    let mut byte = [0];
    while answer.read(&mut byte)? == 1 && byte != *b"\n" {
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let mut read = 0;
            while !request[..read].ends_with(b"\r\n\r\n") {
                read += stream.read(&mut request[read..]).unwrap();
            }
            assert!(request.starts_with(b"GET /readyz HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn only_a_200_is_healthy() {
        assert_eq!(healthcheck(answering("HTTP/1.1 200 OK\r\n\r\n")), ExitCode::SUCCESS);
        assert_eq!(healthcheck(answering("HTTP/1.1 503 Service Unavailable\r\n\r\n")), ExitCode::FAILURE);
        assert_eq!(healthcheck(answering("")), ExitCode::FAILURE);
    }

    #[test]
    fn a_port_nobody_listens_on_is_unhealthy() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(healthcheck(free), ExitCode::FAILURE);
    }

    #[test]
    fn an_unspecified_address_stands_for_loopback() {
        let mut address = answering("HTTP/1.1 200 OK\r\n\r\n");
        address.set_ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        assert_eq!(healthcheck(address), ExitCode::SUCCESS);
        assert_eq!(reachable("[::]:80".parse().unwrap()), "[::1]:80".parse().unwrap());
    }
}
