//! Every state and every verb: what each makes of a job, legal or not, written out.
//!
//! A cell is the answer, and the state it leads to if the job changed at all. The sample jobs have been claimed one time
//! before under [`FORMER`], and lost; those that got further were claimed again under [`NEWEST`].

use std::fmt::Debug;
use std::time::Duration;

use jobs_core::charging::Evidence;
use jobs_core::destination::{OrderingOnDead, Policy};
use jobs_core::job::{Epoch, Job, JobId, NewJob, Priority, Request, State, Tick, WorkerId};
use jobs_core::lifecycle::{self, Cancel, Claiming, SettleContext, SettleResult};
use jobs_core::outcome::{Class, Outcome};
use jobs_core::time::Timestamp;
use uuid::Uuid;

const FORMER: Epoch = Epoch::new(1, 1);
const NEWEST: Epoch = Epoch::new(1, 2);
const INVENTED: Epoch = Epoch::new(1, 9);
/// The last epoch issued to any job before those of the table were accepted.
const BEFORE: Epoch = Epoch::new(1, 0);
const WORKER: WorkerId = WorkerId(Uuid::from_u128(1));

fn now() -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000)
}

fn expiry() -> Timestamp {
    now().plus(Duration::from_secs(60))
}

fn claim(job: &mut Job, epoch: Epoch, at: Timestamp) -> Result<(), lifecycle::Unclaimable> {
    let claiming = Claiming {
        epoch,
        worker: WORKER,
        destination_epoch: 0,
        released_below: 0,
        begun: Tick(1),
        ok_begun: Tick::NEVER,
    };
    lifecycle::claim(job, &claiming, at)
}

fn settle(job: &mut Job, epoch: Epoch, class: Class) -> lifecycle::Settled {
    settle_at_start(1, job, epoch, class)
}

fn settle_at_start(start: u32, job: &mut Job, epoch: Epoch, class: Class) -> lifecycle::Settled {
    let evidence = Evidence { now: Tick(5), others_fail: true, ..Evidence::default() };
    let context = SettleContext { worker: WORKER, start, policy: &Policy::default(), evidence: &evidence };
    lifecycle::settle(job, epoch, &Outcome::of(class), &context, now())
}

fn accepted(last_issued: Epoch) -> Job {
    let new = NewJob {
        id: JobId(Uuid::from_u128(7)),
        id_is_new: false,
        destination: "api2".parse().unwrap(),
        request: Request::default(),
        idempotency: None,
        run_at: now(),
        expires_after: Some(Duration::from_secs(60)),
        priority: Priority::default(),
        ordering_key: Some("k".to_owned()),
        max_attempts: None,
        traceparent: None,
        redriven_from: None,
        callback: None,
    };
    lifecycle::enqueue(new, 1, last_issued, now()).0
}

/// A waiting job whose first lease lapsed.
fn pending() -> Job {
    let mut job = accepted(BEFORE);
    claim(&mut job, FORMER, now()).unwrap();
    lifecycle::lapse(&mut job, FORMER, &Policy::default(), now()).unwrap();
    job
}

fn leased() -> Job {
    let mut job = pending();
    claim(&mut job, NEWEST, now()).unwrap();
    job
}

fn unwanted() -> Job {
    let mut job = leased();
    assert_eq!(lifecycle::cancel(&mut job, OrderingOnDead::Free, now()), Cancel::Requested);
    job
}

fn ended(class: Class) -> Job {
    let mut job = leased();
    settle(&mut job, NEWEST, class);
    job
}

fn cancelled() -> Job {
    let mut job = pending();
    lifecycle::cancel(&mut job, OrderingOnDead::Free, now());
    job
}

/// Waiting in its second generation: both leases are of the first.
fn redriven() -> Job {
    let mut job = ended(Class::JobFail);
    lifecycle::redrive(&mut job, false, NEWEST, now());
    job
}

type Sample = fn() -> Job;

const COLUMNS: [(&str, Sample); 7] = [
    ("pending", pending),
    ("leased", leased),
    ("unwanted", unwanted),
    ("succeeded", || ended(Class::Ok)),
    ("dead", || ended(Class::JobFail)),
    ("cancelled", cancelled),
    ("redriven", redriven),
];

type Verb = fn(&mut Job) -> String;

/// Runs `verb` on a job of every column and compares with `cells`.
fn check(row: &str, verb: impl Fn(&mut Job) -> String, cells: [&str; COLUMNS.len()]) {
    for ((column, sample), expected) in COLUMNS.iter().zip(cells) {
        let before = sample();
        let mut job = before.clone();
        let answer = verb(&mut job);
        let found = if job == before { answer } else { format!("{answer} > {}", show(&job)) };
        assert_eq!(found, expected, "{row} of a job that is {column}");
    }
}

/// A state with what distinguishes it.
fn show(job: &Job) -> String {
    match &job.state {
        State::Dead { reason, .. } => format!("dead {reason:?}"),
        State::Leased(lease) if lease.cancel_requested => "unwanted".to_owned(),
        State::Pending(_) | State::Leased(_) | State::Succeeded { .. } | State::Cancelled { .. } => {
            job.state.name().as_str().to_owned()
        }
    }
}

fn text(answer: impl Debug) -> String {
    format!("{answer:?}")
}

#[test]
fn claim_takes_a_job_that_waits_and_no_other() {
    let third = Epoch::new(1, 3);
    let no = "NotPending";
    let of = |at: Timestamp| move |job: &mut Job| claim(job, third, at).map_or_else(text, |()| "ok".to_owned());
    check("claim", of(now()), ["ok > leased", no, no, no, no, no, "ok > leased"]);
    let just_before = Timestamp::from_millis(now().as_millis() - 1);
    check("claim, too early", of(just_before), ["NotDue", no, no, no, no, no, "NotDue"]);
    check("claim, too late", of(expiry()), ["Expired", no, no, no, no, no, "Expired"]);
}

#[test]
fn settle_under_the_newest_epoch_decides_the_job() {
    let of = |class| move |job: &mut Job| text(settle(job, NEWEST, class).result);
    // Never issued to "pending" and "cancelled"; of an earlier generation to "redriven".
    let lost = "LeaseLost";
    let (ok, dead) = ("Applied > succeeded", "Applied > dead Permanent");
    let (waits, done) = ("Applied > pending", "Applied > cancelled");
    let again = "Repeated";
    check("settle ok", of(Class::Ok), [lost, ok, ok, again, ok, lost, lost]);
    check("settle job_fail", of(Class::JobFail), [lost, dead, dead, again, again, lost, lost]);
    for class in [Class::Suspect, Class::Overload, Class::Down, Class::Error] {
        check(&format!("settle {class:?}"), of(class), [lost, waits, done, again, again, lost, lost]);
    }
}

#[test]
fn settle_under_a_former_epoch_counts_only_if_it_is_an_ok_of_this_generation() {
    let of = |class| move |job: &mut Job| text(settle(job, FORMER, class).result);
    let (lost, over, ok) = ("LeaseLost", "AlreadyFinished", "Applied > succeeded");
    check("late ok", of(Class::Ok), [ok, ok, ok, over, ok, ok, lost]);
    for class in [Class::JobFail, Class::Suspect, Class::Overload, Class::Down, Class::Error] {
        check(&format!("late {class:?}"), of(class), [lost, lost, lost, over, over, over, lost]);
    }
}

#[test]
fn settle_under_an_invented_epoch_changes_nothing() {
    for class in Class::ALL {
        for epoch in [INVENTED, Epoch::NONE, Epoch::new(2, 1)] {
            let verb = |job: &mut Job| text(settle(job, epoch, class).result);
            check(&format!("settle {class:?} under {epoch:?}"), verb, ["LeaseLost"; 7]);
        }
    }
}

#[test]
fn an_epoch_of_an_earlier_start_counts_only_if_it_can_have_been_issued_to_this_generation() {
    let last_issued = Epoch::new(2, 3);
    let forgotten = [Epoch::new(2, 4), Epoch::new(2, u32::MAX)];
    let never = [Epoch::new(1, 5), Epoch::new(1, u32::MAX), Epoch::new(2, 0), last_issued, Epoch::new(3, 1)];
    let mut redriven = cancelled();
    lifecycle::redrive(&mut redriven, false, last_issued, now());
    for (name, sample) in [("accepted", accepted(last_issued)), ("redriven", redriven)] {
        for epoch in never {
            let mut job = sample.clone();
            for class in Class::ALL {
                let result = settle_at_start(3, &mut job, epoch, class).result;
                assert_eq!(result, SettleResult::LeaseLost, "{name}: {class:?} under {epoch:?}");
            }
            assert_eq!(job, sample);
        }
        for epoch in forgotten {
            let mut job = sample.clone();
            assert_eq!(settle_at_start(3, &mut job, epoch, Class::Down).result, SettleResult::LeaseLost);
            assert_eq!(
                settle_at_start(3, &mut job, epoch, Class::Ok).result,
                SettleResult::Applied,
                "{name} {epoch:?}"
            );
        }
    }
}

#[test]
fn release_lets_a_held_job_wait_again() {
    let of = |epoch| move |job: &mut Job| text(lifecycle::release(job, epoch, now()).result);
    let (lost, over, again) = ("LeaseLost", "AlreadyFinished", "Repeated");
    let (waits, done) = ("Applied > pending", "Applied > cancelled");
    check("release", of(NEWEST), [lost, waits, done, again, again, over, lost]);
    for epoch in [FORMER, INVENTED, Epoch::NONE] {
        check(&format!("release under {epoch:?}"), of(epoch), [lost, lost, lost, over, over, over, lost]);
    }
}

#[test]
fn lapse_ends_the_live_lease_and_no_other() {
    let of = |epoch| {
        move |job: &mut Job| match lifecycle::lapse(job, epoch, &Policy::default(), now()) {
            Some(_) => "lapsed".to_owned(),
            None => "none".to_owned(),
        }
    };
    let (live, unwanted) = ("lapsed > pending", "lapsed > cancelled");
    check("lapse", of(NEWEST), ["none", live, unwanted, "none", "none", "none", "none"]);
    for epoch in [FORMER, INVENTED, Epoch::NONE] {
        check(&format!("lapse of {epoch:?}"), of(epoch), ["none"; 7]);
    }
}

#[test]
fn cancel_ends_what_waits_and_asks_who_holds() {
    let later = now().plus(Duration::from_secs(1));
    let of = |on_dead| move |job: &mut Job| text(lifecycle::cancel(job, on_dead, later));
    let (done, asked) = ("Cancelled > cancelled", "Requested > unwanted");
    let (over, again) = ("Finished", "AlreadyCancelled");
    check("cancel", of(OrderingOnDead::Free), [done, asked, asked, over, over, again, done]);
    check("cancel where the dead block", of(OrderingOnDead::Block), [done, asked, asked, over, done, again, done]);
    let unordered = |job: &mut Job| {
        job.ordering_key = None;
        lifecycle::cancel(job, OrderingOnDead::Block, later);
        job.ordering_key = Some("k".to_owned());
        String::new()
    };
    let (done, asked) = (" > cancelled", " > unwanted");
    check("cancel without a key", unordered, [done, asked, asked, "", "", "", done]);
}

#[test]
fn redrive_brings_back_what_ended_undone() {
    let later = now().plus(Duration::from_secs(1));
    let (same, another): (Verb, Verb) = (
        |job| text(lifecycle::redrive(job, false, NEWEST, now().plus(Duration::from_secs(1)))),
        |job| text(lifecycle::redrive(job, true, NEWEST, now().plus(Duration::from_secs(1)))),
    );
    let (run, back) = ("RunNow > pending", "Redriven > pending");
    for (row, verb) in [("redrive", same), ("redrive with another key", another)] {
        check(row, verb, [run, "Leased", "Leased", "Succeeded", back, back, run]);
    }
    let mut job = ended(Class::JobFail);
    lifecycle::redrive(&mut job, true, NEWEST, later);
    assert_eq!((job.progress.generation, job.progress.generation_floor), (1, NEWEST));
    assert_eq!((job.progress.attempts, job.progress.lost, job.progress.key_generation), (0, 0, 1));
}

#[test]
fn expire_ends_what_waits_past_its_time() {
    let before = expiry().as_millis() - 1;
    let in_time = |job: &mut Job| text(lifecycle::expire(job, Timestamp::from_millis(before)));
    check("expire, in time", in_time, ["None"; 7]);
    let late = |job: &mut Job| text(lifecycle::expire(job, expiry()));
    let dead = "Some(Expired) > dead Expired";
    check("expire", late, [dead, "None", "None", "None", "None", "None", dead]);
}

#[test]
fn corrupt_ends_what_waits() {
    let verb = |job: &mut Job| {
        lifecycle::corrupt(job, now());
        String::new()
    };
    let dead = " > dead Corrupt";
    check("corrupt", verb, [dead, "", "", "", "", "", dead]);
}

#[test]
fn only_a_waiting_job_has_a_deadline_to_be_ended_by() {
    let mut job = pending();
    assert_eq!(lifecycle::deadline(&job), Some(expiry()));
    let window = now().plus(Duration::from_secs(9));
    job.progress.resend_until = Some(window);
    assert_eq!(lifecycle::deadline(&job), Some(window));
    job.expires_at = None;
    assert_eq!(lifecycle::deadline(&job), Some(window));
    job.progress.resend_until = None;
    assert_eq!(lifecycle::deadline(&job), None);
}
