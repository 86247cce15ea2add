//! Watches an outage while it is played: shows how it goes, and keeps what a picture of it needs.

use std::pin::pin;
use std::time::Duration;

use jobs_core::process::clock;
use jobs_core::time::Timestamp;

use super::Stage;
use crate::report::{Progress, Watched};
use crate::trio::API2;

/// How often: the person who waits is shown something new, and a curve has four points a second.
const INTERVAL: Duration = Duration::from_millis(250);

/// How it was at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) at: Timestamp,
    pub(super) waiting: u64,
    pub(super) limit: u32,
    /// Calls a second; `None`: as many as the limit lets through.
    pub(super) rate: Option<f64>,
    /// Since when the gate was open, if it was.
    pub(super) held_since: Option<Timestamp>,
}

pub(super) struct Watch<'a> {
    stage: &'a Stage,
    progress: &'a mut Progress,
    pub(super) samples: Vec<Sample>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(stage: &'a Stage, progress: &'a mut Progress) -> Self {
        progress.restart();
        Watch { stage, progress, samples: Vec::new() }
    }

    /// Runs `work` and watches meanwhile.
    pub(super) async fn during<T>(&mut self, phase: &'static str, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(INTERVAL) => self.look(phase).await,
            }
        }
    }

    async fn look(&mut self, phase: &'static str) {
        let Stage { gateway, api2, .. } = self.stage;
        // A program that a person has just killed answers nothing; there is simply nothing new to show.
        if let (Ok(stats), Ok(ledger)) = (gateway.stats().await, api2.ledger().await) {
            self.progress.show(&Watched { phase, stats, ledger });
        }
        if let Ok(view) = gateway.destination(API2).await {
            self.samples.push(Sample {
                at: clock::wall(),
                waiting: view.waiting(),
                limit: view.limit,
                rate: view.rate,
                held_since: view.since.filter(|_| view.state == "open"),
            });
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.progress.end();
    }
}
