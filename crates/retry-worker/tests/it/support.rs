//! What the tests share: an HTTP server small enough to misbehave on purpose, a gateway and destinations made of it, and a worker.

pub(crate) mod destination;
pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod lease;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use jobs_core::process::shutdown::Shutdown;
use retry_worker::config::Config;
use tokio::task::JoinHandle;

use gateway::Gateway;

/// Nothing here takes longer, on the slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Resolves once `effect` is there; panics with `what` if it does not come.
pub(crate) async fn until<T>(what: &str, mut effect: impl FnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(found) = effect() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never happened: {what}"))
}

/// A worker in this process.
pub(crate) struct Worker {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Worker {
    /// Works for `gateway` with the default settings.
    pub(crate) fn start(gateway: &Gateway) -> Worker {
        Worker::with(gateway, |_| {})
    }

    pub(crate) fn with(gateway: &Gateway, change: impl FnOnce(&mut Config)) -> Worker {
        let mut config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            gateways: vec![gateway.url().parse().unwrap()],
            token: None,
            concurrency: 16,
            grace: PATIENCE,
            #[cfg(feature = "otlp")]
            otlp_endpoint: None,
        };
        change(&mut config);
        let listener = TcpListener::bind(config.listen).unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let run = retry_worker::run(config, listener, shutdown.clone());
        let task = tokio::spawn(async { run.await.expect("the worker starts") });
        Worker { address, shutdown, task }
    }

    /// Asks it to drain, and waits until it has.
    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it drains").expect("it does not panic");
    }
}
