//! What the same outage would do without a gate: each job sleeps on its own timer. Computed, not measured.
//!
//! Pure. The jobs arrive as the drill posted them; each is tried at once and after every failure again by
//! [`RetryPolicy`]'s default, the original design's `min(2^n, 300)` seconds. The destination answers 503 at once while it is down;
//! then it serves so many a second after a burst, and answers 503 beyond. Nothing else takes time: it is the policy's own best case.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use jobs_core::job::JobId;
use jobs_core::retry::RetryPolicy;

/// By default a burst of capacity is a twentieth of the rate, as api2-flaky's is.
const BURST_DIVISOR: f64 = 20.0;

/// What to compute.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outage {
    pub(super) jobs: u64,
    /// They are posted evenly over this.
    pub(super) posting: Duration,
    /// So many more, evenly over this from the recovery on.
    pub(super) fresh: u64,
    pub(super) freshly: Duration,
    pub(super) down: Duration,
    /// `None`: anything.
    pub(super) per_second: Option<u32>,
}

/// What came of it, by second.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Course {
    /// Calls in each second.
    pub(super) calls: Vec<u64>,
    /// Jobs that were accepted and not delivered at the end of each second.
    pub(super) waiting: Vec<u64>,
    /// From the recovery to the first and the last delivery.
    pub(super) first_ok: Duration,
    pub(super) drained: Duration,
}

impl Outage {
    /// Computes it to the last delivery.
    pub(super) fn course(self) -> Course {
        let policy = RetryPolicy::default();
        let backlog = evenly(self.jobs, self.posting, Duration::ZERO);
        let posts: Vec<Duration> = backlog.chain(evenly(self.fresh, self.freshly, self.down)).collect();
        let mut due: BinaryHeap<Reverse<(Duration, usize, u32)>> =
            posts.iter().enumerate().map(|(job, at)| Reverse((*at, job, 1))).collect();
        let mut bucket = Bucket::full(self.per_second, self.down);
        let mut course = Course::default();
        let mut delivered: Vec<u64> = Vec::new();
        let mut first_ok = None;
        while let Some(Reverse((now, job, attempt))) = due.pop() {
            count(&mut course.calls, now);
            if now >= self.down && bucket.take(now) {
                count(&mut delivered, now);
                first_ok.get_or_insert(now);
                course.drained = now.saturating_sub(self.down);
            } else {
                // Without jitter the job's id plays no part.
                let delay = policy.delay(attempt, JobId(uuid::Uuid::nil()), attempt, None);
                due.push(Reverse((now + delay, job, attempt + 1)));
            }
        }
        course.first_ok = first_ok.unwrap_or_default().saturating_sub(self.down);
        let mut posted = Vec::new();
        posts.iter().for_each(|at| count(&mut posted, *at));
        let seconds = course.calls.len();
        delivered.resize(seconds, 0);
        posted.resize(seconds, 0);
        let mut waiting = 0;
        for (posted, delivered) in posted.iter().zip(&delivered) {
            waiting = waiting + posted - delivered;
            course.waiting.push(waiting);
        }
        course
    }
}

/// So many moments within `span`, from `from` on.
fn evenly(count: u64, span: Duration, from: Duration) -> impl Iterator<Item = Duration> {
    let pace = span.div_f64(count.max(1) as f64);
    (0..count).map(move |number| from + pace.mul_f64(number as f64))
}

fn count(seconds: &mut Vec<u64>, at: Duration) {
    let second = usize::try_from(at.as_secs()).unwrap_or(usize::MAX);
    if seconds.len() <= second {
        seconds.resize(second + 1, 0);
    }
    seconds[second] += 1;
}

/// The destination's capacity, from the moment it is back.
struct Bucket {
    per_second: f64,
    tokens: f64,
    filled: Duration,
}

impl Bucket {
    fn full(per_second: Option<u32>, from: Duration) -> Self {
        let per_second = per_second.map_or(f64::INFINITY, f64::from);
        Bucket { per_second, tokens: (per_second / BURST_DIVISOR).max(1.0), filled: from }
    }

    fn take(&mut self, now: Duration) -> bool {
        let since = now.saturating_sub(self.filled).as_secs_f64();
        if self.per_second.is_finite() {
            self.tokens = (self.tokens + since * self.per_second).min((self.per_second / BURST_DIVISOR).max(1.0));
        }
        self.filled = now;
        let has_one = self.tokens >= 1.0;
        self.tokens -= if has_one { 1.0 } else { 0.0 };
        has_one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn nothing() -> Outage {
        Outage { jobs: 0, posting: seconds(0), fresh: 0, freshly: seconds(0), down: seconds(0), per_second: None }
    }

    #[test]
    fn fresh_jobs_come_when_it_is_back_and_share_what_it_can_do() {
        let course = Outage { fresh: 20, freshly: seconds(2), down: seconds(5), ..nothing() }.course();
        assert_eq!(course.calls, [0, 0, 0, 0, 0, 10, 10]);
        assert_eq!(course.waiting, [0; 7]);
    }

    #[test]
    fn one_job_is_tried_at_0_2_6_14_and_30_seconds() {
        let course = Outage { jobs: 1, posting: seconds(1), down: seconds(20), ..nothing() }.course();
        let tried: Vec<usize> = (0..course.calls.len()).filter(|second| course.calls[*second] > 0).collect();
        assert_eq!(tried, [0, 2, 6, 14, 30]);
        assert_eq!((course.first_ok, course.drained), (seconds(10), seconds(10)));
        assert_eq!((course.waiting[29], course.waiting[30]), (1, 0));
    }

    #[test]
    fn what_the_destination_refuses_sleeps_again() {
        // All 100 are tried at about 6 s, when ten a second are served: the others sleep 8 s.
        let posting = Duration::from_millis(100);
        let course = Outage { jobs: 100, posting, down: seconds(5), per_second: Some(10), ..nothing() }.course();
        assert_eq!(course.first_ok.as_secs(), 1);
        assert_eq!(course.calls[6], 100);
        assert!(course.drained > seconds(60), "{:?}", course.drained);
        assert_eq!(course.waiting.last(), Some(&0));
    }
}
