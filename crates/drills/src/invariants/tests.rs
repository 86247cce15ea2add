use super::*;

const DELIVERED: SeenJob = SeenJob { end: End::Succeeded, recorded: 1, in_doubt: 0 };
const ONCE: Received = Received { requests: 1, ok: 1 };

fn id(number: u128) -> JobId {
    JobId(uuid::Uuid::from_u128(number))
}

/// Three jobs, accepted and delivered.
fn all_is_well() -> Observed {
    let ids = [1, 2, 3];
    Observed {
        acknowledged: ids.map(|n| (format!("key-{n}"), id(n))).into(),
        contradictions: Vec::new(),
        jobs: ids.map(|n| (id(n), DELIVERED)).into(),
        received: ids.map(|n| (id(n), ONCE)).into(),
        counted: Some(Counted { accepted: 3, succeeded: 3, ..Counted::default() }),
        drained: true,
    }
}

/// What is found when job 2 is `job` and the destination received `received` for it.
fn with(job: SeenJob, received: Received) -> Findings {
    let mut observed = all_is_well();
    observed.jobs.insert(id(2), job);
    observed.received.insert(id(2), received);
    compare(&observed)
}

#[test]
fn nothing_is_found_where_all_is_well() {
    let expected = Findings { accepted: 3, delivered: 3, ..Findings::default() };
    assert_eq!(compare(&all_is_well()), expected);
}

#[test]
fn an_acknowledged_job_the_gateway_does_not_know_is_lost() {
    let mut observed = all_is_well();
    observed.jobs.remove(&id(2));
    let findings = compare(&observed);
    assert_eq!(findings.violations, [Violation::Lost(id(2))]);
    assert_eq!((findings.accepted, findings.delivered, findings.lost), (3, 2, 1));
    assert!(findings.violations[0].is_loss());
}

#[test]
fn a_success_the_destination_never_saw_is_lost() {
    let findings = with(DELIVERED, Received { requests: 1, ok: 0 });
    assert_eq!(findings.violations, [Violation::NeverArrived(id(2))]);
    assert_eq!((findings.delivered, findings.lost), (2, 1));
}

#[test]
fn a_key_with_two_jobs_and_a_job_with_two_keys_are_found() {
    let mut observed = all_is_well();
    observed.contradictions.push("key-2".to_owned());
    assert_eq!(compare(&observed).violations, [Violation::KeyNamesTwoJobs("key-2".to_owned())]);

    let mut observed = all_is_well();
    observed.acknowledged.insert("key-4".to_owned(), id(3));
    assert_eq!(compare(&observed).violations, [Violation::JobHasTwoKeys(id(3))]);
}

#[test]
fn a_second_delivery_is_counted_and_must_be_explained_by_an_attempt_in_doubt() {
    let twice = Received { requests: 2, ok: 2 };
    let explained = with(SeenJob { recorded: 2, in_doubt: 1, ..DELIVERED }, twice);
    assert_eq!((explained.duplicates, explained.violations), (1, vec![]));

    let unexplained = with(SeenJob { recorded: 2, ..DELIVERED }, twice);
    assert_eq!(unexplained.violations, [Violation::UnexplainedDuplicate(id(2))]);
}

#[test]
fn a_request_without_a_recorded_attempt_is_found_once_the_job_has_ended() {
    let received = Received { requests: 2, ok: 1 };
    assert_eq!(with(DELIVERED, received).violations, [Violation::UnrecordedAttempt(id(2))]);

    let mut observed = all_is_well();
    observed.drained = false;
    observed.jobs.insert(id(2), SeenJob { end: End::Waiting, recorded: 1, in_doubt: 0 });
    observed.received.insert(id(2), received);
    assert_eq!(compare(&observed).violations, []);
}

#[test]
fn a_job_called_dead_that_was_delivered_is_found() {
    let dead = SeenJob { end: End::Dead, recorded: 1, in_doubt: 0 };
    assert_eq!(with(dead, ONCE).violations, [Violation::UnnoticedDelivery(id(2))]);
    // A timeout after which the destination did the work: nobody could know.
    assert_eq!(with(SeenJob { in_doubt: 1, ..dead }, ONCE).violations, []);
    assert_eq!(with(dead, Received { requests: 1, ok: 0 }).dead, 1);
}

#[test]
fn a_job_that_still_waits_is_a_violation_only_after_the_drain() {
    let waiting = SeenJob { end: End::Waiting, recorded: 1, in_doubt: 0 };
    let mut observed = all_is_well();
    observed.jobs.insert(id(2), waiting);
    observed.received.insert(id(2), Received { requests: 1, ok: 0 });
    let findings = compare(&observed);
    assert_eq!((findings.waiting, findings.violations), (1, vec![Violation::StillWaiting(id(2))]));
    observed.drained = false;
    assert_eq!(compare(&observed).violations, []);
}

#[test]
fn counters_that_do_not_add_up_are_found() {
    let mut observed = all_is_well();
    let wrong = Counted { accepted: 4, succeeded: 3, ..Counted::default() };
    observed.counted = Some(wrong);
    assert_eq!(compare(&observed).violations, [Violation::CountersDisagree(wrong)]);

    observed.counted = Some(Counted { accepted: 2, succeeded: 2, ..Counted::default() });
    assert_eq!(compare(&observed).violations, [Violation::AcceptedUncounted { counted: 2, acknowledged: 3 }]);

    observed.counted = Some(Counted { accepted: 5, succeeded: 2, purged: 3, ..Counted::default() });
    assert_eq!(compare(&observed).violations, []);
    observed.counted = None;
    assert_eq!(compare(&observed).violations, []);
}

#[test]
fn accepted_is_the_sum_of_all_ends() {
    let ends = [End::Succeeded, End::Dead, End::Cancelled, End::Waiting];
    let mut observed = Observed::default();
    for (number, end) in (1..).zip(ends) {
        observed.acknowledged.insert(format!("key-{number}"), id(number));
        observed.jobs.insert(id(number), SeenJob { end, recorded: 1, in_doubt: 0 });
    }
    observed.received.insert(id(1), ONCE);
    observed.acknowledged.insert("key-5".to_owned(), id(5));
    let f = compare(&observed);
    assert_eq!(f.accepted, f.delivered + f.dead + f.cancelled + f.waiting + f.lost);
    assert_eq!((f.delivered, f.dead, f.cancelled, f.waiting, f.lost), (1, 1, 1, 1, 1));
}
