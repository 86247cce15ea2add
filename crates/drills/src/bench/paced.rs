//! A load of so many requests a second, whatever becomes of them: what a request waits for the ones before it counts as its own
//! time, as it does for whoever sent it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jobs_core::process::clock;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::MissedTickBehavior;

use super::load::{CONNECTIONS, Connection};

/// How often those are let go whose time has come. Timers are no finer.
const STEP: Duration = Duration::from_millis(1);

/// Requests let go and not yet sent.
struct Due {
    since: RefCell<VecDeque<Instant>>,
    permits: Semaphore,
}

/// Posts `request` `per_second` times a second for `span`. Answers with the milliseconds each took from when it was due, in the
/// order in which they ended, each with the seconds from the beginning.
///
/// # Errors
/// When a connection breaks, or an answer is not a 2xx.
pub(super) async fn load(
    address: SocketAddr,
    request: &Arc<[u8]>,
    per_second: f64,
    span: Duration,
) -> io::Result<Vec<(f64, f64)>> {
    let due = std::rc::Rc::new(Due { since: RefCell::default(), permits: Semaphore::new(0) });
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(address).await?);
    }
    let began = clock::instant();
    let mut running = JoinSet::new();
    let local = LocalSet::new();
    for mut connection in connections {
        let (request, due) = (Arc::clone(request), std::rc::Rc::clone(&due));
        running.spawn_local_on(
            async move {
                let mut took = Vec::new();
                // Closed when the span is over and all were let go.
                while let Ok(permit) = due.permits.acquire().await {
                    permit.forget();
                    let since = due.since.borrow_mut().pop_front().expect("one for each permit");
                    connection.exchange(&request).await?;
                    took.push(((since - began).as_secs_f64(), since.elapsed().as_secs_f64() * 1_000.0));
                }
                Ok::<_, io::Error>(took)
            },
            &local,
        );
    }
    let letting_go = async {
        let mut ticks = tokio::time::interval(STEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut let_go = 0;
        while began.elapsed() < span {
            ticks.tick().await;
            // A cast of a float saturates.
            let wanted = (began.elapsed().as_secs_f64() * per_second) as usize;
            let new = wanted.saturating_sub(let_go);
            due.since.borrow_mut().extend(std::iter::repeat_n(clock::instant(), new));
            due.permits.add_permits(new);
            let_go = let_go.max(wanted);
        }
        while due.permits.available_permits() > 0 {
            ticks.tick().await;
        }
        due.permits.close();
    };
    let ended = local.run_until(async { tokio::join!(running.join_all(), letting_go).0 }).await;
    let all: io::Result<Vec<_>> = ended.into_iter().collect();
    Ok(all?.into_iter().flatten().collect())
}
