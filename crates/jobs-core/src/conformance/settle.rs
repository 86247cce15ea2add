//! Settling: what each class of outcome makes of a job, and what the attempt log says of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use super::StoreUnderTest;
use super::rig::{OTHER_WORKER, Rig, TestJudge, WORKER, api2, dead, outage, pending, seconds};
use crate::charging::Evidence;
use crate::destination::{OnUnknown, Policy};
use crate::job::{
    Attempt, AttemptOutcome, Cause, DeadReason, DestinationName, Epoch, Job, JobId, NewJob, State, StateName, Tick,
    WorkerId,
};
use crate::lifecycle::{Cancel, DuplicateCause, SettleResult};
use crate::outcome::{Class, Outcome, Response};
use crate::store::{Grant, Judge, Report, SettleAnswer, Settlement};
use crate::time::Now;

pub async fn an_ok_ends_the_job(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.accept_one().await;
    let lease = rig.claim_one().await;
    rig.pass(seconds(1));
    let settled = rig.settle(lease, Class::Ok).await;
    assert_eq!(settled.result, SettleResult::Applied);
    assert_eq!(settled.job.state, State::Succeeded { at: rig.now.wall });
    assert_eq!(settled.job.progress.attempts, 1);
    assert_eq!(settled.ended, Some((lease, WORKER)));
    assert_eq!(rig.stored(id).await, settled.job, "what is stored is what was answered");
    assert_eq!(rig.store.leases().await, Ok(Vec::new()));
}

pub async fn a_refusal_for_good_ends_the_job_and_keeps_the_answer(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.accept_one().await;
    let answer = Response { body: Bytes::from_static(b"no such account"), ..Response::default() };
    let outcome = Outcome {
        status: Some(422),
        error: Some("unprocessable".to_owned()),
        response: Some(answer.clone()),
        ..Outcome::of(Class::JobFail)
    };
    let settled = rig.settle_outcome(rig.claim_one().await, outcome).await;
    assert_eq!(dead(&settled.job), DeadReason::Permanent);
    assert_eq!(settled.job.progress.last_error.as_deref(), Some("422: unprocessable"));
    assert_eq!(rig.store.response(id).await, Ok(Some((Some(422), answer))));
}

pub async fn a_failure_of_the_destination_makes_the_job_wait_uncharged(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    rig.accept_one().await;
    for (class, delay) in [(Class::Down, 2), (Class::Overload, 4), (Class::Error, 8)] {
        let settled = rig.settle(rig.claim_one().await, class).await;
        let waits = pending(&settled.job);
        assert_eq!((waits.cause, waits.run_at), (Cause::Destination, rig.now.wall.plus(seconds(delay))), "{class:?}");
        assert_eq!(settled.job.progress.charged, 0);
        rig.pass(seconds(delay));
    }
}

pub async fn charged_failures_are_bounded_by_the_job_or_else_its_destination(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    rig.judge.evidence.insert(api2(), Evidence { others_fail: false, ..outage() });
    rig.policy(|policy| policy.max_attempts = 2);
    for (own_bound, bound) in [(Some(1), 1), (None, 2), (Some(3), 3)] {
        let job = NewJob { max_attempts: own_bound, ..rig.job() };
        let id = rig.accept(job).await.id;
        for n in 1..bound {
            let settled = rig.settle(rig.claim_one().await, Class::Error).await;
            assert_eq!((pending(&settled.job).cause, settled.job.progress.charged), (Cause::Job, n));
            rig.pass(seconds(300));
        }
        rig.settle(rig.claim_one().await, Class::Error).await;
        assert_eq!(dead(&rig.stored(id).await), DeadReason::Exhausted);
    }
}

pub async fn the_evidence_at_the_settle_decides_the_charge(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    rig.accept_one().await;
    let lease = rig.claim_one().await;
    rig.judge.evidence.insert(
        api2(),
        Evidence { other_ok: Tick(3), ok_begun: Tick(3), now: Tick(9), destination_epoch: 4, ..outage() },
    );
    let settled = rig.settle(lease, Class::Error).await;
    assert_eq!(settled.job.progress.charged, 1, "another job's ok began and came after this attempt began");
    assert_eq!((settled.job.progress.last_settled, settled.job.progress.failures_epoch), (Tick(9), 4));
    assert!(settled.attempt.expect("it was an attempt").charged);
}

pub async fn a_second_suspect_answer_with_a_verdict_is_for_good(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.accept_one().await;
    rig.settle(rig.claim_one().await, Class::Suspect).await;
    assert_eq!(rig.stored(id).await.progress.first_suspect, Tick(5));
    rig.pass(seconds(2));
    let grant = Grant { begun: Tick(8), ok_begun: Tick(7), ..Rig::grant(1, 0) };
    let leases = rig.claim_granted(WORKER, vec![grant]).await.leases;
    rig.settle(super::rig::keys(&leases)[0], Class::Suspect).await;
    assert_eq!(dead(&rig.stored(id).await), DeadReason::Permanent);
}

pub async fn a_released_job_waits_as_it_did_and_nothing_is_counted(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.accept_one().await;
    rig.settle(rig.claim_one().await, Class::Down).await;
    rig.pass(seconds(2));
    let before = rig.stored(id).await;
    let lease = rig.claim_one().await;
    rig.pass(seconds(1));
    let released = rig.release(lease).await;
    assert_eq!((released.result, released.attempt), (SettleResult::Applied, None));
    assert_eq!(released.ended, Some((lease, WORKER)));
    assert_eq!(released.job.state, before.state);
    assert_eq!(released.job.progress.attempts, before.progress.attempts);
    assert_eq!(rig.attempts(id).await.len(), 1);
    assert_eq!(rig.store.stats().await.expect("stats are read").attempts, 1);
    assert!(rig.claim_one().await.epoch > lease.epoch);
}

pub async fn each_attempt_is_a_line_of_the_log(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.accept_one().await;
    let lease = rig.claim_one().await;
    let started_at = rig.now.wall;
    rig.pass(seconds(1));
    let body = Bytes::from_static(b"\xff\xfe try later");
    let outcome = Outcome {
        class: Class::Overload,
        status: Some(503),
        latency: Duration::from_micros(1_234_567),
        retry_after: Some(seconds(90)),
        error: Some("API 2 is down".to_owned()),
        unknown: false,
        response: Some(Response { content_type: Some("text/plain".to_owned()), body, truncated: true }),
    };
    let first = rig.settle_outcome(lease, outcome).await.attempt.expect("it was an attempt");
    let next_run_at = rig.now.wall.plus(seconds(90));
    let expected = Attempt {
        number: 1,
        epoch: lease.epoch,
        worker: WORKER,
        started_at,
        duration: Duration::from_micros(1_234_567),
        outcome: AttemptOutcome::Settled(Class::Overload),
        charged: false,
        status: Some(503),
        error: Some("API 2 is down".to_owned()),
        response_excerpt: Some("\u{fffd}\u{fffd} try later".to_owned()),
        next_run_at: Some(next_run_at),
        retry_delay: Some(seconds(90)),
    };
    assert_eq!(first, expected);
    rig.pass(seconds(90));
    rig.claim_one().await;
    rig.lapse().await;
    let last = rig.settle(rig.claim_one().await, Class::Ok).await.attempt.expect("it was an attempt");
    let log = rig.attempts(id).await;
    assert_eq!((log.len(), &log[0], &log[2]), (3, &expected, &last), "oldest first");
    assert_eq!((log[1].outcome, log[2].number), (AttemptOutcome::Lost, 3));
    assert_eq!(rig.store.stats().await.expect("stats are read").attempts, 2);
}

pub async fn the_last_answer_that_there_was_is_kept(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let id = rig.accept_one().await;
    assert_eq!(rig.store.response(id).await, Ok(None));
    let answer =
        |body: &'static [u8], truncated| Response { body: Bytes::from_static(body), truncated, content_type: None };
    let kind = Some("application/octet-stream".to_owned());
    let first = Response { content_type: kind, ..answer(b"\0\xff first", true) };
    let text = Response { content_type: Some("text/plain".to_owned()), ..answer(b"try\0later", false) };
    let long = answer(&[b'x'; Response::MAX_EXCERPT + 1], false);
    let answers = [
        (Some(503), Some(first.clone())),
        (None, None),
        (Some(429), Some(text.clone())),
        (None, None),
        (Some(502), Some(long.clone())),
        (Some(500), Some(answer(b"again", false))),
        (Some(500), Some(answer(b"again", true))),
        (Some(500), Some(answer(b"", false))),
        (Some(503), Some(text.clone())),
    ];
    let kept = [
        (Some(503), first.clone()),
        (Some(503), first),
        (Some(429), text.clone()),
        (Some(429), text.clone()),
        (Some(502), long.clone()),
        (Some(500), answer(b"again", false)),
        (Some(500), answer(b"again", true)),
        (Some(500), answer(b"", false)),
        (Some(503), text.clone()),
    ];
    for ((status, response), kept) in answers.into_iter().zip(kept) {
        let outcome = Outcome { status, response, ..Outcome::of(Class::Down) };
        rig.settle_outcome(rig.claim_one().await, outcome).await;
        assert_eq!(rig.store.response(id).await, Ok(Some(kept)));
        rig.pass(seconds(300));
    }
    rig.cancel(id).await;
    let short = answer(b"in short", false);
    let odd = Response { content_type: Some(String::new()), ..short.clone() };
    for (before, after) in [(&long, &short), (&short, &long), (&odd, &text)] {
        let id = rig.accept_one().await;
        let ends = |class, response: &Response| Outcome { response: Some(response.clone()), ..Outcome::of(class) };
        rig.settle_outcome(rig.claim_one().await, ends(Class::JobFail, before)).await;
        rig.redrive(id).await;
        assert_eq!(rig.store.response(id).await, Ok(Some((None, before.clone()))));
        rig.settle_outcome(rig.claim_one().await, ends(Class::Ok, after)).await;
        assert_eq!(rig.store.response(id).await, Ok(Some((None, after.clone()))), "of the latest generation");
    }
}

pub async fn an_unknown_outcome_is_counted_where_it_is_repeated(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let unknown = Outcome { unknown: true, ..Outcome::of(Class::Down) };
    let first = rig.accept_one().await;
    rig.settle_outcome(rig.claim_one().await, unknown.clone()).await;
    rig.cancel(first).await;
    rig.policy(|policy| policy.on_unknown = OnUnknown::DeadLetter);
    let second = rig.accept_one().await;
    rig.settle_outcome(rig.claim_one().await, unknown).await;
    assert_eq!(dead(&rig.stored(second).await), DeadReason::Unknown);
    let stats = rig.store.stats().await.expect("stats are read");
    assert_eq!(stats.duplicates.get(&DuplicateCause::UnknownOutcome), Some(&1));
}

pub async fn after_an_unknown_outcome_a_job_is_not_sent_when_its_key_is_forgotten(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    rig.policy(|policy| policy.idempotency_window = Some(seconds(60)));
    let id = rig.accept_one().await;
    let lease = rig.claim_one().await;
    let resend_until = rig.now.wall.plus(seconds(60));
    rig.settle_outcome(lease, Outcome { unknown: true, ..Outcome::of(Class::Down) }).await;
    assert_eq!(rig.stored(id).await.progress.resend_until, Some(resend_until));
    rig.pass(seconds(59));
    assert_eq!(rig.sweep().await.expired, []);
    assert_eq!(rig.claimable().await, [id]);
    rig.pass(seconds(1));
    assert_eq!(rig.claim(1).await, []);
    assert_eq!(rig.sweep().await.expired, [rig.stored(id).await]);
    assert_eq!(dead(&rig.stored(id).await), DeadReason::Unknown);
}

pub async fn a_failure_after_the_expiry_ends_the_job(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let job = NewJob { expires_after: Some(seconds(3)), ..rig.job() };
    let id = rig.accept(job).await.id;
    let lease = rig.claim_one().await;
    rig.pass(seconds(3));
    assert_eq!(rig.sweep().await.expired, [], "never while it is leased");
    rig.settle(lease, Class::Down).await;
    assert_eq!(dead(&rig.stored(id).await), DeadReason::Expired);
}

pub async fn an_unwanted_job_ends_as_its_outcome_says(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let classes = [
        (Some(Class::Ok), StateName::Succeeded),
        (Some(Class::JobFail), StateName::Dead),
        (Some(Class::Down), StateName::Cancelled),
        (Some(Class::Error), StateName::Cancelled),
        (None, StateName::Cancelled),
    ];
    for (class, end) in classes {
        let id = rig.accept_one().await;
        let lease = rig.claim_one().await;
        assert_eq!(rig.cancel(id).await.0, Cancel::Requested);
        let report = class.map_or(Report::Released, |class| Report::Attempted(Outcome::of(class)));
        assert_eq!(rig.settle_by(WORKER, lease, report).await.job.state.name(), end, "{class:?}");
        assert_eq!(rig.stored(id).await.state.name(), end);
    }
}

pub async fn a_batch_is_settled_in_its_order(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    for _ in 0..3 {
        rig.accept_one().await;
    }
    let leases = rig.claim(3).await;
    let nobody = crate::lease::LeaseKey { job_id: JobId(uuid::Uuid::from_u128(1)), epoch: leases[0].epoch };
    let of = |class| Report::Attempted(Outcome::of(class));
    let reports = [of(Class::Down), of(Class::Ok), Report::Released, of(Class::JobFail), of(Class::Ok)];
    let about = [leases[0], leases[0], leases[1], nobody, leases[2]];
    let settlements = about.into_iter().zip(reports).map(|(key, report)| Settlement { key, report }).collect();
    let answers = rig.settle_all(WORKER, settlements).await;
    let told: Vec<_> = answers
        .iter()
        .map(|answer| match answer {
            SettleAnswer::Known { result, job, .. } => Some((*result, job.id, job.state.name())),
            SettleAnswer::UnknownJob => None,
        })
        .collect();
    let applied = |n: usize, state| Some((SettleResult::Applied, leases[n].job_id, state));
    let (waits, done) = (StateName::Pending, StateName::Succeeded);
    assert_eq!(told, [applied(0, waits), applied(0, done), applied(1, waits), None, applied(2, done)]);
    assert_eq!(rig.attempts(leases[0].job_id).await.len(), 2, "the ok came late, but it came");
}

/// Takes down what it is asked.
#[derive(Default)]
struct Recorder(Mutex<Vec<(StateName, Epoch, Class)>>);

impl Judge for Recorder {
    fn weigh(&self, job: &Job, epoch: Epoch, outcome: &Outcome, worker: WorkerId, _: Now) -> (Arc<Policy>, Evidence) {
        assert_eq!(worker, OTHER_WORKER, "it is told who reports");
        self.0.lock().expect("nobody panics").push((job.state.name(), epoch, outcome.class));
        (self.policy(&job.destination), outage())
    }

    fn policy(&self, destination: &DestinationName) -> Arc<Policy> {
        TestJudge::default().policy(destination)
    }
}

pub async fn the_judge_weighs_each_attempt_of_a_known_job_one_time(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    rig.accept_one().await;
    rig.accept_one().await;
    let leases = rig.claim(2).await;
    let nobody = crate::lease::LeaseKey { job_id: JobId(uuid::Uuid::from_u128(1)), epoch: leases[0].epoch };
    let attempted = |key, class| Settlement { key, report: Report::Attempted(Outcome::of(class)) };
    let settlements = vec![
        attempted(leases[0], Class::Down),
        attempted(nobody, Class::Ok),
        Settlement { key: leases[1], report: Report::Released },
        attempted(leases[0], Class::Down),
        attempted(leases[0], Class::Ok),
    ];
    let recorder = Arc::new(Recorder::default());
    let judge: Arc<dyn Judge> = Arc::<Recorder>::clone(&recorder);
    rig.store.settle(OTHER_WORKER, settlements, judge, rig.now).await.expect("a settle is answered");
    let epoch = leases[0].epoch;
    let asked = [
        (StateName::Leased, epoch, Class::Down),
        (StateName::Pending, epoch, Class::Down),
        (StateName::Pending, epoch, Class::Ok),
    ];
    assert_eq!(*recorder.0.lock().expect("nobody panics"), asked);
}
