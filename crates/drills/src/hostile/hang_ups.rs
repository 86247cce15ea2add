//! Clients that hang up: in the middle of a request, before its answer, or while it comes. Each then does what the contract asks of a
//! client that does not know: it sends the same again under the same key, and there must be one job of it, delivered.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use jobs_core::process::clock;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::client::Gateway;
use crate::ledger::{self, ClientLedger, Intent, mixed};

/// The destination of their jobs.
pub(super) const DESTINATION: &str = "hung-up";

/// Clients at a time.
const AT_ONCE: u64 = 8;

/// The longest that a client waits before it hangs up: a commit takes a few milliseconds.
const LONGEST_WAIT_US: u64 = 8_000;

/// How long a request is repeated.
const POST_LIMIT: Duration = Duration::from_secs(60);

/// Plays `count` of them; what they know in the end is in the ledger.
///
/// # Errors
/// When the gateway takes no connections any more.
pub(super) async fn play(gateway: &Gateway, address: SocketAddr, count: u64, seed: u64) -> io::Result<ClientLedger> {
    let run = clock::new_uuid().simple().to_string();
    let mut clients = JoinSet::new();
    for first in 0..AT_ONCE {
        let (gateway, run) = (gateway.clone(), run.clone());
        clients.spawn(async move {
            let mut client = ClientLedger::default();
            for number in (first..count).step_by(AT_ONCE as usize) {
                let intent = Intent::numbered(&run, number, seed);
                hang_up(address, &intent, mixed(seed, number)).await?;
                client.note(ledger::post(&gateway, DESTINATION, &intent, POST_LIMIT).await);
            }
            Ok::<_, io::Error>(client)
        });
    }
    let mut all = ClientLedger::default();
    for client in clients.join_all().await {
        all.merge(client?);
    }
    Ok(all)
}

/// Begins to post `intent` and hangs up, where and how `chance` says.
async fn hang_up(address: SocketAddr, intent: &Intent, chance: u64) -> io::Result<()> {
    let Intent { key, body } = intent;
    let bytes = format!(
        "POST /api1/process/{DESTINATION} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nIdempotency-Key: {key}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    // Half of them send all, the others break off anywhere.
    let whole = chance.is_multiple_of(2);
    let length = if whole { bytes.len() } else { usize::try_from(chance / 8).unwrap_or_default() % bytes.len() };
    stream.write_all(&bytes.as_bytes()[..length]).await?;
    tokio::time::sleep(Duration::from_micros(chance / 64 % LONGEST_WAIT_US)).await;
    match chance / 2 % 4 {
        // A reset instead of a farewell.
        0 => SockRef::from(&stream).set_linger(Some(Duration::ZERO))?,
        // Half of it closed first, and what comes is still heard for a moment.
        1 => {
            stream.shutdown().await?;
            let mut answer = [0; 16];
            drop(tokio::time::timeout(Duration::from_millis(5), stream.read(&mut answer)).await);
        }
        // In the middle of the answer, if it comes so soon.
        2 => drop(tokio::time::timeout(Duration::from_millis(5), stream.read_u8()).await),
        _ => {}
    }
    Ok(())
}
