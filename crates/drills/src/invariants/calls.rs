//! Call by call: the destination's ledger beside the attempt log, and the order of what arrived.
//!
//! Pure. It looks closer than [`super::compare`]: under which epoch a request was made, what the gateway wrote down of that
//! epoch, when a job with an ordering key was sent, and when one that was to wait.

use std::collections::BTreeMap;

use jobs_core::job::JobId;
use jobs_core::time::Timestamp;

use super::Violation;

/// A request that the destination received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    pub at: Timestamp,
    /// `Job-Epoch`, where it had one.
    pub epoch: Option<u64>,
    /// It was answered 2xx.
    pub ok: bool,
}

/// A line of a job's attempt log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub epoch: u64,
    /// By its name in the API.
    pub outcome: String,
}

/// All calls of a drill, once no job waits any more.
#[derive(Debug, Clone, Default)]
pub struct Calls {
    /// The jobs of each ordering key, in the order in which they were accepted.
    pub in_order: Vec<Vec<JobId>>,
    /// Jobs that were not to be sent before a moment.
    pub not_before: BTreeMap<JobId, Timestamp>,
    pub arrivals: BTreeMap<JobId, Vec<Arrival>>,
    pub log: BTreeMap<JobId, Vec<Line>>,
}

/// Deliveries beyond the first of a job, by why there was another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Duplicates {
    /// The lease lapsed: the worker was lost after it had sent.
    pub lost_workers: u64,
    /// The destination's answer never reached the worker.
    pub lost_answers: u64,
    /// Nothing in the attempt log explains it.
    pub unexplained: u64,
}

impl Duplicates {
    pub fn total(self) -> u64 {
        self.lost_workers + self.lost_answers + self.unexplained
    }

    pub fn add(&mut self, other: Duplicates) {
        self.lost_workers += other.lost_workers;
        self.lost_answers += other.lost_answers;
        self.unexplained += other.unexplained;
    }
}

/// What must not be of `calls`, and the deliveries that were made twice.
pub fn examine(calls: &Calls) -> (Vec<Violation>, Duplicates) {
    let mut violations = Vec::new();
    let mut duplicates = Duplicates::default();
    for (id, arrivals) in &calls.arrivals {
        let log = calls.log.get(id).map(Vec::as_slice).unwrap_or_default();
        let late = late_ok(log);
        let recorded = |arrival: &Arrival| {
            log.iter().any(|line| Some(line.epoch) == arrival.epoch)
                || late.is_some_and(|late| arrival.epoch > Some(late))
        };
        if !arrivals.iter().all(recorded) {
            violations.push(Violation::UnclaimedEpoch(*id));
        }
        if calls.not_before.get(id).is_some_and(|moment| arrivals.iter().any(|arrival| arrival.at < *moment)) {
            violations.push(Violation::SentTooEarly(*id));
        }
        duplicates.add(explain(arrivals, log));
    }
    for jobs in &calls.in_order {
        for pair in jobs.windows(2) {
            if overtakes(calls.arrivals.get(&pair[0]), calls.arrivals.get(&pair[1])) {
                violations.push(Violation::OutOfKeyOrder { earlier: pair[0], later: pair[1] });
            }
        }
    }
    (violations, duplicates)
}

/// The epoch of an ok that was reported after its lease had lapsed. It ends whatever lease there is by then, which gets no line.
fn late_ok(log: &[Line]) -> Option<u64> {
    let lapsed = |epoch| log.iter().any(|line| line.epoch == epoch && line.outcome == "lost");
    log.iter().find(|line| line.outcome == "ok" && lapsed(line.epoch)).map(|line| line.epoch)
}

/// Whether any request of the later job came before the last one of the earlier.
fn overtakes(earlier: Option<&Vec<Arrival>>, later: Option<&Vec<Arrival>>) -> bool {
    let last = earlier.and_then(|arrivals| arrivals.iter().map(|arrival| arrival.at).max());
    let first = later.and_then(|arrivals| arrivals.iter().map(|arrival| arrival.at).min());
    last.zip(first).is_some_and(|(last, first)| first < last)
}

/// Of all oks of a job the one under the epoch that the gateway calls ok is the delivery; the others are explained by what it
/// wrote down of theirs.
fn explain(arrivals: &[Arrival], log: &[Line]) -> Duplicates {
    let mut duplicates = Duplicates::default();
    let mut delivered = false;
    for arrival in arrivals.iter().filter(|arrival| arrival.ok) {
        let outcomes: Vec<&str> =
            log.iter().filter(|line| Some(line.epoch) == arrival.epoch).map(|line| line.outcome.as_str()).collect();
        if outcomes.contains(&"ok") && !delivered {
            delivered = true;
        } else if outcomes.contains(&"lost") || late_ok(log).is_some_and(|late| arrival.epoch > Some(late)) {
            duplicates.lost_workers += 1;
        } else if outcomes.contains(&"down") {
            duplicates.lost_answers += 1;
        } else {
            duplicates.unexplained += 1;
        }
    }
    duplicates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> JobId {
        JobId(uuid::Uuid::from_u128(number))
    }

    fn arrival(ms: i64, epoch: u64, ok: bool) -> Arrival {
        Arrival { at: Timestamp::from_millis(ms), epoch: Some(epoch), ok }
    }

    fn line(epoch: u64, outcome: &str) -> Line {
        Line { epoch, outcome: outcome.to_owned() }
    }

    /// Jobs 1 and 2 of one ordering key, each sent twice and then delivered; 2 was not to be sent before 400.
    fn all_is_well() -> Calls {
        Calls {
            in_order: vec![vec![id(1), id(2)]],
            not_before: [(id(2), Timestamp::from_millis(400))].into(),
            arrivals: [
                (id(1), vec![arrival(100, 1, false), arrival(300, 2, true)]),
                (id(2), vec![arrival(400, 3, false), arrival(600, 4, true)]),
            ]
            .into(),
            log: [(id(1), vec![line(1, "error"), line(2, "ok")]), (id(2), vec![line(3, "lost"), line(4, "ok")])].into(),
        }
    }

    #[test]
    fn nothing_is_found_where_all_is_well() {
        assert_eq!(examine(&all_is_well()), (Vec::new(), Duplicates::default()));
    }

    #[test]
    fn a_job_that_is_sent_before_the_one_it_has_to_follow_was_last_sent_is_out_of_order() {
        let mut calls = all_is_well();
        calls.arrivals.insert(id(1), vec![arrival(100, 1, false), arrival(401, 2, true)]);
        assert_eq!(examine(&calls).0, [Violation::OutOfKeyOrder { earlier: id(1), later: id(2) }]);
    }

    #[test]
    fn a_request_under_an_epoch_that_was_never_written_down_is_found() {
        let mut calls = all_is_well();
        calls.arrivals.get_mut(&id(2)).unwrap().push(arrival(700, 9, false));
        assert_eq!(examine(&calls).0, [Violation::UnclaimedEpoch(id(2))]);
    }

    #[test]
    fn a_job_that_is_sent_before_its_time_is_found() {
        let mut calls = all_is_well();
        calls.not_before.insert(id(2), Timestamp::from_millis(401));
        assert_eq!(examine(&calls).0, [Violation::SentTooEarly(id(2))]);
    }

    #[test]
    fn a_second_delivery_is_explained_by_what_was_written_down_of_its_epoch() {
        let mut calls = all_is_well();
        calls.arrivals.insert(id(2), vec![arrival(400, 3, true), arrival(600, 4, true)]);
        let lost_worker = Duplicates { lost_workers: 1, ..Duplicates::default() };
        assert_eq!(examine(&calls), (Vec::new(), lost_worker));

        calls.log.insert(id(2), vec![line(3, "down"), line(4, "ok")]);
        let lost_answer = Duplicates { lost_answers: 1, ..Duplicates::default() };
        assert_eq!(examine(&calls), (Vec::new(), lost_answer));

        calls.log.insert(id(2), vec![line(3, "error"), line(4, "ok")]);
        assert_eq!(examine(&calls).1.unexplained, 1);
    }

    #[test]
    fn a_late_ok_ends_a_newer_lease_which_then_has_no_line() {
        let mut calls = all_is_well();
        calls.arrivals.insert(id(2), vec![arrival(400, 3, true), arrival(600, 4, true)]);
        calls.log.insert(id(2), vec![line(3, "lost"), line(3, "ok")]);
        assert_eq!(examine(&calls), (Vec::new(), Duplicates { lost_workers: 1, ..Duplicates::default() }));
    }
}
