//! SIGHUP: the destinations are read again while the gateway serves.
//!
//! Either all of the new ones take effect or, with a mistake in them, none: the mistakes are logged and the old ones stay. Jobs of a
//! destination that is gone are held until it is back.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::App;
use crate::config::destinations::{self, Sources};
use crate::config::mistakes::Mistakes;

/// Ready to reload. A SIGHUP that arrives after this was made is never missed, and never ends the process.
#[derive(Debug)]
pub struct Reload {
    hangups: Signal,
}

impl Reload {
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the operating system refuses the signal handler.
    pub fn on_hangup() -> io::Result<Self> {
        Ok(Reload { hangups: signal(SignalKind::hangup())? })
    }

    /// Reloads from `sources` at every SIGHUP, until the shutdown.
    pub async fn follow(mut self, app: Arc<App>, sources: Sources) {
        loop {
            tokio::select! {
                hangup = self.hangups.recv() => if hangup.is_none() { return },
                () = app.shutdown.wait() => return,
            }
            let sources = sources.clone();
            match tokio::task::spawn_blocking(move || destinations::load(&sources)).await {
                Ok(Ok(loaded)) => {
                    log::info!(destinations = loaded.by_name.len(); "destinations reloaded");
                    app.reload(loaded.by_name, loaded.default);
                }
                Ok(Err(Mistakes(mistakes))) => {
                    for mistake in mistakes {
                        log::error!("destinations not reloaded, the old ones stay: {mistake}");
                    }
                }
                Err(error) => log::error!(error:% = error; "destinations not reloaded, the old ones stay"),
            }
        }
    }
}
