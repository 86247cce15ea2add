//! The shutdown token: one cheap handle that tells every task of a process to drain.
//!
//! The first SIGTERM or SIGINT asks for a drain; a SIGINT after that ends the process at once, because the person at the
//! keyboard asked twice. Who drains what, and in which order, is each service's own business.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// What a shell reports for a process ended by SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Draining,
    /// Draining because something broke: the process must not exit with success.
    Failed,
}

/// Says whether the process should drain. Clones share the same answer, and it never goes back to "no".
#[derive(Debug, Clone)]
pub struct Shutdown {
    phase: Arc<watch::Sender<Phase>>,
}

impl Shutdown {
    /// A token that only [`trigger`](Self::trigger) and [`fail`](Self::fail) set off: for tests and embedded services.
    #[expect(clippy::new_without_default, reason = "a token nobody holds is of no use")]
    pub fn new() -> Self {
        Shutdown { phase: Arc::new(watch::Sender::new(Phase::Running)) }
    }

    /// A token that the first SIGTERM or SIGINT sets off; a SIGINT after that exits with code 130 at once.
    /// Must be called inside a tokio runtime. Signals that arrive after this call returned are never missed.
    ///
    /// # Errors
    /// When the operating system refuses the signal handlers.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Shutdown::new();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(shutdown.clone().follow(terminate, interrupt));
        Ok(shutdown)
    }

    /// Asks every task to drain. Repeating it changes nothing.
    pub fn trigger(&self) {
        self.enter(Phase::Draining);
    }

    /// Asks every task to drain because something broke; [`exit_code`](Self::exit_code) is then a failure.
    pub fn fail(&self) {
        self.enter(Phase::Failed);
    }

    pub fn is_triggered(&self) -> bool {
        *self.phase.borrow() != Phase::Running
    }

    /// Whether [`fail`](Self::fail) was called.
    pub fn has_failed(&self) -> bool {
        *self.phase.borrow() == Phase::Failed
    }

    /// Resolves once the token is set off; at once if it already is.
    pub async fn wait(&self) {
        let mut phase = self.phase.subscribe();
        phase.wait_for(|phase| *phase != Phase::Running).await.expect("self holds the sender");
    }

    /// What `main` returns after the drain: 0, or 1 if something broke.
    pub fn exit_code(&self) -> ExitCode {
        if self.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    fn enter(&self, next: Phase) {
        self.phase.send_if_modified(|phase| {
            let later = match (*phase, next) {
                (Phase::Running, Phase::Draining | Phase::Failed) | (Phase::Draining, Phase::Failed) => true,
                (Phase::Running | Phase::Draining, Phase::Running | Phase::Draining) | (Phase::Failed, _) => false,
            };
            if later {
                *phase = next;
            }
            later
        });
    }

    async fn follow(self, mut terminate: Signal, mut interrupt: Signal) {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        log::info!(signal = name; "draining; a SIGINT now stops at once");
        self.trigger();
        interrupt.recv().await;
        log::warn!("interrupted before the drain was over");
        std::process::exit(EXIT_INTERRUPTED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_sees_the_trigger_and_a_late_waiter_returns_at_once() {
        let shutdown = Shutdown::new();
        let waiter = tokio::spawn({
            let clone = shutdown.clone();
            async move { clone.wait().await }
        });
        assert!(!shutdown.is_triggered());
        shutdown.trigger();
        waiter.await.expect("the waiter ends");
        shutdown.wait().await;
        assert!(shutdown.is_triggered() && !shutdown.has_failed());
    }

    #[test]
    fn a_failure_outlasts_a_later_trigger() {
        let shutdown = Shutdown::new();
        shutdown.trigger();
        shutdown.fail();
        shutdown.trigger();
        assert!(shutdown.has_failed());
    }
}
