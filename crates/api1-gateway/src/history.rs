//! What the dashboard's charts show: the recent past of each destination, in memory, sampled once a second.
//!
//! Counted where outcomes come in, never read from the jobs; bounded in time by [`ring`] and in number by [`MAX_TRACKED`].
//! It begins with the process and ends with it: what must survive is in the store.

pub(crate) mod errors;
pub(crate) mod latency;
pub(crate) mod ring;
pub(crate) mod track;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jobs_core::dispatch::DestinationView;
use jobs_core::job::{DestinationName, StateName};
use jobs_core::store::{SettleAnswer, Stats};
use jobs_core::time::Timestamp;

use self::track::{GateMark, Track};

/// Destinations that have a history: some 50 KiB each when all its rings are full. Those beyond have none.
const MAX_TRACKED: usize = 256;

/// The recent past of all destinations.
#[derive(Debug, Default)]
pub(crate) struct History {
    tracks: Mutex<BTreeMap<DestinationName, Track>>,
}

impl History {
    /// Takes note of what attempts found.
    pub(crate) fn settled(&self, answers: &[SettleAnswer], at: Timestamp) {
        let mut tracks = self.lock();
        for answer in answers {
            if let SettleAnswer::Known { job, attempt: Some(attempt), .. } = answer
                && let Some(track) = track(&mut tracks, &job.destination)
            {
                track.attempted(job.id, attempt, at);
            }
        }
    }

    /// To be called once a second. Answers the gates that have changed since the last call.
    pub(crate) fn sample(
        &self,
        views: &[DestinationView],
        stats: &Stats,
        at: Timestamp,
    ) -> Vec<(DestinationName, GateMark)> {
        let mut tracks = self.lock();
        let mut changed = Vec::new();
        for view in views {
            let Some(track) = track(&mut tracks, &view.name) else { continue };
            let waiting = stats
                .destinations
                .get(&view.name)
                .map_or(0, |states| states.get(&StateName::Pending).copied().unwrap_or(0));
            track.sample(view, waiting, at);
            changed.extend(track.gate_is(view, at).map(|mark| (view.name.clone(), mark)));
        }
        changed
    }

    /// Takes note of a gate as it is now, between two samples. Answers the change if there is one.
    pub(crate) fn gate_is(&self, view: &DestinationView, at: Timestamp) -> Option<GateMark> {
        track(&mut self.lock(), &view.name)?.gate_is(view, at)
    }

    /// What is remembered of one destination.
    pub(crate) fn of<T>(&self, name: &DestinationName, read: impl FnOnce(&Track) -> T) -> Option<T> {
        self.lock().get(name).map(read)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DestinationName, Track>> {
        // Nothing in here can be left half done in a way that matters.
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn track<'a>(tracks: &'a mut BTreeMap<DestinationName, Track>, name: &DestinationName) -> Option<&'a mut Track> {
    if !tracks.contains_key(name) {
        if tracks.len() >= MAX_TRACKED {
            return None;
        }
        tracks.insert(name.clone(), Track::default());
    }
    tracks.get_mut(name)
}
