//! When a destination that is down may be tried again.
//!
//! Probes overlap, so that a server that hangs hides nothing: one that has not answered for a while no longer counts
//! against the few that may be out at a time. A healthy health check brings the next probe forward; if that one fails
//! nevertheless, the health check is not believed for a while.

use std::time::Duration;

use crate::job::JobId;
use crate::time::Mono;

/// Between two probes at first, growing by half each time to [`LONGEST_INTERVAL`].
const INTERVAL: Duration = Duration::from_millis(250);
/// With the jitter still more than one a second, so that a recovery is noticed within one.
const LONGEST_INTERVAL: Duration = Duration::from_millis(700);
/// An interval is up to so much shorter or longer.
const JITTER: f64 = 0.2;
/// A probe this old no longer counts among the [`IN_FLIGHT`].
const HANGING: Duration = Duration::from_secs(5);
const IN_FLIGHT: usize = 10;
/// Hanging ones included.
const MOST_IN_FLIGHT: usize = 32;
/// How long a health check that was wrong is not believed: doubled each time up to the longest.
const DISBELIEF: Duration = Duration::from_secs(1);
const LONGEST_DISBELIEF: Duration = Duration::from_secs(30);

/// The probes of one outage.
#[derive(Debug)]
pub(super) struct Probes {
    next: Mono,
    interval: Duration,
    /// Numbers the probes, to pick their jitter.
    count: u64,
    out: Vec<(JobId, Mono, bool)>,
    healthy: bool,
    disbelieved: Duration,
    believe_from: Mono,
}

/// A probe that may be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    /// With a job that is due by its own account.
    Due,
    /// With any job that waits because of the destination: a health check said that it is back.
    Healthy,
}

impl Probes {
    /// The gate has just opened; the first probe waits an interval.
    pub(super) fn new(now: Mono) -> Self {
        Probes {
            next: now.plus(INTERVAL),
            interval: INTERVAL,
            count: 0,
            out: Vec::new(),
            healthy: false,
            disbelieved: Duration::ZERO,
            believe_from: now,
        }
    }

    /// Which probe may be made now, `hold_until` aside, which a healthy answer overrides.
    pub(super) fn may(&self, hold_until: Option<Mono>, now: Mono) -> Option<Probe> {
        let fresh = self.out.iter().filter(|(_, since, _)| now.since(*since) < HANGING).count();
        if fresh >= IN_FLIGHT || self.out.len() >= MOST_IN_FLIGHT {
            return None;
        }
        if self.healthy && now >= self.believe_from {
            return Some(Probe::Healthy);
        }
        (now >= self.next && hold_until.is_none_or(|until| until <= now)).then_some(Probe::Due)
    }

    /// How long until [`Probes::may`] is worth asking again, health checks aside; `None`: not before an answer came.
    pub(super) fn wait(&self, hold_until: Option<Mono>, now: Mono) -> Option<Duration> {
        if self.out.len() >= MOST_IN_FLIGHT {
            return None;
        }
        let mut since: Vec<Mono> = self.out.iter().map(|(_, since, _)| *since).collect();
        since.sort_unstable();
        // The one that must no longer count for another to go.
        let in_the_way = since.len().checked_sub(IN_FLIGHT).map(|place| since[place].plus(HANGING));
        let next = [in_the_way, hold_until].into_iter().flatten().fold(self.next, Mono::max);
        Some(next.since(now))
    }

    /// A probe is on its way, with `job`.
    pub(super) fn sent(&mut self, job: JobId, probe: Probe, now: Mono) {
        self.out.push((job, now, probe == Probe::Healthy));
        if probe == Probe::Healthy {
            self.healthy = false;
        }
        self.count += 1;
        let spread = 1.0 - JITTER + 2.0 * JITTER * fraction(self.count);
        self.next = now.plus(self.interval.mul_f64(spread));
        self.interval = self.interval.mul_f64(1.5).min(LONGEST_INTERVAL);
    }

    /// The answer to a probe with `job`, which failed, or came to nothing. Whether it was a probe of this outage.
    pub(super) fn failed(&mut self, job: JobId, now: Mono) -> bool {
        let Some(place) = self.out.iter().position(|(out, _, _)| *out == job) else { return false };
        let (_, _, on_health) = self.out.swap_remove(place);
        if on_health {
            self.disbelieved = (self.disbelieved * 2).clamp(DISBELIEF, LONGEST_DISBELIEF);
            self.believe_from = now.plus(self.disbelieved);
        }
        true
    }

    /// What a health check found.
    pub(super) fn checked(&mut self, healthy: bool) {
        self.healthy = healthy;
    }
}

/// A number of [0, 1) that looks random: Weyl's sequence of the golden ratio.
fn fraction(count: u64) -> f64 {
    (count as f64 * 0.618_033_988_749_894_9).fract()
}
