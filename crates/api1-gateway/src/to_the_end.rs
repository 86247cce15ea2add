//! What was begun is brought to its end, even if the client hangs up meanwhile.
//!
//! An HTTP handler's future is dropped when its client goes away. A store verb may by then have been carried out, and the
//! dispatcher must hear of it: a job it was never told of would wait for the next restart, a lease nobody counts for its
//! lapse. So each verb and what follows from it is one future that outlives its caller. As long as nobody hangs up this costs
//! one allocation and no task of its own.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// A future that goes on in the background if it is dropped between its first poll and its end.
pub(crate) struct ToTheEnd<T: Send + 'static> {
    rest: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    begun: bool,
}

/// See [`ToTheEnd`]. What `future` answers to nobody is dropped.
pub(crate) fn to_the_end<F>(future: F) -> ToTheEnd<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    ToTheEnd { rest: Some(Box::pin(future)), begun: false }
}

impl<T: Send + 'static> Future for ToTheEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.begun = true;
        // Taken out while it runs: if it panics it must not be polled again.
        let mut rest = self.rest.take().expect("polled after its end");
        let answer = rest.as_mut().poll(context);
        if answer.is_pending() {
            self.rest = Some(rest);
        }
        answer
    }
}

impl<T: Send + 'static> Drop for ToTheEnd<T> {
    fn drop(&mut self) {
        // Outside a runtime the process is ending, and its memory with it.
        if let (true, Some(rest), Ok(runtime)) = (self.begun, self.rest.take(), Handle::try_current()) {
            runtime.spawn(async move { drop(rest.await) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    /// A future that waits for `go`, then says so on `done`.
    fn two_steps(go: oneshot::Receiver<()>, done: oneshot::Sender<()>) -> ToTheEnd<()> {
        to_the_end(async move {
            if go.await.is_ok() {
                done.send(()).expect("the test listens");
            }
        })
    }

    #[tokio::test]
    async fn what_is_dropped_half_way_is_finished_all_the_same() {
        let (go, going) = oneshot::channel();
        let (done, finished) = oneshot::channel();
        let mut begun = two_steps(going, done);
        assert_eq!((&mut begun).now_or_never(), None);
        drop(begun);
        go.send(()).unwrap();
        finished.await.expect("the rest ran in the background");
    }

    #[tokio::test]
    async fn what_was_never_begun_is_not_begun_by_dropping_it() {
        let (go, going) = oneshot::channel();
        let (done, finished) = oneshot::channel();
        drop(two_steps(going, done));
        assert!(go.send(()).is_err(), "nobody waits for it any more");
        assert!(finished.await.is_err());
    }

    #[tokio::test]
    async fn awaited_it_answers_like_the_future_itself() {
        assert_eq!(to_the_end(async { 7 }).await, 7);
    }
}
