//! Background tasks that cannot die silently.
//!
//! A service whose sweeper or claim loop has ended still answers its health check while doing nothing. So a supervised task
//! that ends or panics before the shutdown is an error that takes the whole process down; whatever runs it starts it again.

use tokio::task::JoinHandle;

use super::shutdown::Shutdown;

/// Runs `task` in the background until the shutdown. If it ends before, or panics at any time, that is logged as an error and
/// [`Shutdown::fail`] is called, so that the process drains and exits with a failure.
///
/// Await the handle to know the task has drained. Must be called inside a tokio runtime.
pub fn supervise<F>(name: &'static str, shutdown: &Shutdown, task: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let end = End { name, shutdown: shutdown.clone() };
    tokio::spawn(async move {
        // Dropped when the task ends, panics or is aborted.
        let _end = end;
        task.await;
    })
}

struct End {
    name: &'static str,
    shutdown: Shutdown,
}

impl Drop for End {
    fn drop(&mut self) {
        if std::thread::panicking() {
            log::error!(task = self.name; "a background task panicked; shutting down");
            self.shutdown.fail();
        } else if !self.shutdown.is_triggered() {
            log::error!(task = self.name; "a background task ended too early; shutting down");
            self.shutdown.fail();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The process must go down soon; a test that waits this long has failed.
    async fn goes_down(shutdown: &Shutdown) -> bool {
        tokio::time::timeout(Duration::from_secs(10), shutdown.wait()).await.is_ok() && shutdown.has_failed()
    }

    #[tokio::test]
    async fn a_task_that_ends_early_takes_the_process_down() {
        let shutdown = Shutdown::new();
        supervise("sweeper", &shutdown, async {});
        assert!(goes_down(&shutdown).await);
    }

    #[tokio::test]
    async fn a_task_that_panics_takes_the_process_down() {
        let shutdown = Shutdown::new();
        supervise("sweeper", &shutdown, async { panic!("as the test asks") });
        assert!(goes_down(&shutdown).await);
    }

    #[tokio::test]
    async fn a_task_that_panics_while_draining_is_a_failure_too() {
        let shutdown = Shutdown::new();
        shutdown.trigger();
        let task = supervise("sweeper", &shutdown, async { panic!("as the test asks") });
        assert!(task.await.is_err());
        assert!(shutdown.has_failed());
    }

    #[tokio::test]
    async fn a_task_that_drains_after_the_trigger_is_no_failure() {
        let shutdown = Shutdown::new();
        let watched = shutdown.clone();
        let task = supervise("sweeper", &shutdown, async move { watched.wait().await });
        shutdown.trigger();
        task.await.expect("the task ends");
        assert!(!shutdown.has_failed());
    }
}
