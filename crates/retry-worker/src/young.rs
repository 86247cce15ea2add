//! How many calls are begun at a time: few where answers come at once, any number where they take their time.
//!
//! With hundreds of calls under way each takes a third more processor time than with some dozens, since the memory of so many
//! connections no longer fits the caches; and where answers come at once none of them ends sooner. So a call that was begun
//! of late holds one of a few places until it is answered. One that waits for its destination gives its place up soon: it must keep
//! no other from beginning.
//!
//! The gateway does not know of it: to it each lease is a call in flight, of which a fast destination sees fewer than its gate allows. Where
//! such a destination stands still for a moment, it is called by up to as many as the gate allows.

use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Places for each of the machine's cores: enough to keep it busy with answers that come at once.
const PLACES_PER_CORE: usize = 32;
/// How long a call holds its place without an answer: about twice what it takes where all places are in use and every answer comes
/// at once. However slow all calls are, 6,400 of them a second and core can be begun.
const LONGEST: Duration = Duration::from_millis(5);

/// The places of the calls that were begun of late.
pub(crate) struct Young {
    places: Semaphore,
    longest: Duration,
}

impl Young {
    /// For this machine.
    pub(crate) fn new() -> Self {
        // Where the system does not say, as if it had one core.
        Young::of(PLACES_PER_CORE * available_parallelism().map_or(1, NonZero::get), LONGEST)
    }

    fn of(places: usize, longest: Duration) -> Self {
        Young { places: Semaphore::new(places), longest }
    }

    /// Waits for a place. Who came first gets it first.
    pub(crate) async fn begin(&self) -> Place<'_> {
        Place { permit: self.places.acquire().await.expect("never closed"), longest: self.longest }
    }
}

/// A call's place among those begun of late.
pub(crate) struct Place<'a> {
    permit: SemaphorePermit<'a>,
    longest: Duration,
}

impl Place<'_> {
    /// Waits for the answer, and holds the place meanwhile, but not for long.
    pub(crate) async fn until<T>(self, answered: impl Future<Output = T>) -> T {
        let mut answered = std::pin::pin!(answered);
        match timeout(self.longest, &mut answered).await {
            Ok(answer) => answer,
            Err(_not_young) => {
                drop(self.permit);
                answered.await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    /// Longer than it ever takes.
    const FOREVER: Duration = Duration::from_secs(20);

    async fn is_full(young: &Young) -> bool {
        timeout(Duration::ZERO, young.begin()).await.is_err()
    }

    #[tokio::test]
    async fn a_call_waits_for_a_place_until_another_is_answered() {
        let young = Young::of(2, FOREVER);
        let (first, _second) = (young.begin().await, young.begin().await);
        assert!(is_full(&young).await);
        first.until(ready(())).await;
        let _third = young.begin().await;
        assert!(is_full(&young).await);
    }

    #[tokio::test]
    async fn calls_without_an_answer_keep_none_from_beginning() {
        let young = Young::of(1, Duration::from_millis(1));
        let unanswered = async || young.begin().await.until(pending::<()>()).await;
        tokio::select! {
            biased;
            _never = async { tokio::join!(unanswered(), unanswered(), unanswered()) } => unreachable!("nothing answers"),
            () = async { young.begin().await.until(ready(())).await } => {}
            () = tokio::time::sleep(FOREVER) => panic!("the unanswered calls hold the place"),
        }
    }
}
