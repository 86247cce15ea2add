//! Waiting for an effect: look, and look again, until it shows or the time is over. No drill and no test sleeps instead.

use std::time::Duration;

use jobs_core::process::clock;

/// How long between two looks: short beside everything a drill waits for, and cheap beside the processes it watches.
const PAUSE: Duration = Duration::from_millis(10);

/// What `look` found, as soon as it found something; `None` if it did not within `within`. It looks once at least.
pub async fn until<T>(within: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let began = clock::instant();
    loop {
        if let Some(found) = look().await {
            return Some(found);
        }
        if began.elapsed() >= within {
            return None;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
