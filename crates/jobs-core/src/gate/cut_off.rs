//! Workers that have lost their way to a destination which others reach: their trouble, not its, and shown as theirs.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::job::WorkerId;
use crate::time::Mono;

/// How long a worker is shown after the latest call by which it was cut off, as long as others are answered.
const SHOWN: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct CutOff {
    latest: BTreeMap<WorkerId, Mono>,
}

impl CutOff {
    /// A call of `worker` got nowhere, and others' did.
    pub(super) fn failed(&mut self, worker: WorkerId, now: Mono) {
        self.latest.retain(|_, latest| now.since(*latest) < SHOWN);
        self.latest.insert(worker, now);
    }

    /// A call of `worker` was answered, whatever the answer.
    pub(super) fn got_through(&mut self, worker: WorkerId, now: Mono) {
        self.latest.retain(|other, latest| *other != worker && now.since(*latest) < SHOWN);
    }

    pub(super) fn workers(&self) -> Vec<WorkerId> {
        self.latest.keys().copied().collect()
    }
}
