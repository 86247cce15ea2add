//! Idempotency keys. They live apart from their jobs, because they outlive them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::job::{IdempotencyKey, JobId, StateName};
use crate::time::Timestamp;

/// Scope and key.
pub(super) type KeyName = (String, String);

/// What a key is bound to.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    pub(super) fingerprint: [u8; 32],
    pub(super) job: JobId,
    /// How often the same request came again. A durable store commits this before it acknowledges a replay.
    pub(super) replays: u64,
    /// Once the job is purged: the state it ended in.
    pub(super) ended: Option<StateName>,
}

/// All keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    bound: BTreeMap<KeyName, Bound>,
    /// Keys whose job is gone, by when it was purged.
    orphans: BTreeSet<(Timestamp, KeyName)>,
}

impl Keys {
    pub(super) fn bind(&mut self, key: IdempotencyKey, job: JobId) {
        let bound = Bound { fingerprint: key.fingerprint, job, replays: 0, ended: None };
        self.bound.insert((key.scope, key.key), bound);
    }

    pub(super) fn get_mut(&mut self, key: &IdempotencyKey) -> Option<&mut Bound> {
        self.bound.get_mut(&(key.scope.clone(), key.key.clone()))
    }

    pub(super) fn get(&self, name: &KeyName) -> Option<&Bound> {
        self.bound.get(name)
    }

    /// The job of `name` is purged; from `now` on the key lives alone.
    pub(super) fn orphan(&mut self, name: KeyName, ended: StateName, now: Timestamp) {
        if let Some(bound) = self.bound.get_mut(&name) {
            bound.ended = Some(ended);
            self.orphans.insert((now, name));
        }
    }

    /// Forgets keys that have lived alone for `keep`, the oldest first, `limit` at most. Answers how many.
    pub(super) fn forget(&mut self, keep: Duration, now: Timestamp, limit: usize) -> usize {
        for forgotten in 0..limit {
            match self.orphans.first() {
                Some((purged_at, _)) if purged_at.plus(keep) <= now => {}
                Some(_) | None => return forgotten,
            }
            if let Some((_, name)) = self.orphans.pop_first() {
                self.bound.remove(&name);
            }
        }
        limit
    }
}
