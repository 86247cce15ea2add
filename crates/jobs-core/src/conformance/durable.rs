//! Closing and opening again. A store that keeps nothing has only its own end to be tested on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::StoreUnderTest;
use super::reading::{list_all, without_zeros};
use super::rig::{BEGIN, OTHER_WORKER, Rig, WORKER, api2, key, seconds};
use crate::destination::OrderingOnDead;
use crate::job::{DestinationName, Epoch, JobId, NewJob, Priority, Request, StateName, WorkerId};
use crate::lease::{LEASE_TERM, LeaseKey};
use crate::lifecycle::SettleResult;
use crate::outcome::{Class, Outcome, Response};
use crate::redrive::MassRedrive;
use crate::store::{
    Enqueued, Filter, GateRecord, JobDetail, JobStore, Report, Retention, Settlement, Stats, StoreError,
};
use crate::time::Timestamp;

/// The kept answer of a job, with its status.
type Answer = Option<(Option<u16>, Response)>;

/// Everything that can be read of a store.
#[derive(Debug, PartialEq)]
pub struct Snapshot {
    jobs: Vec<(JobDetail, Request, Answer)>,
    stats: Stats,
    leases: BTreeSet<(LeaseKey, WorkerId, DestinationName)>,
    gates: BTreeMap<DestinationName, GateRecord>,
    oldest_due: Vec<Option<Timestamp>>,
    redrives: Vec<MassRedrive>,
}

impl Snapshot {
    pub async fn of(store: &dyn JobStore) -> Result<Snapshot, StoreError> {
        let mut jobs = Vec::new();
        for job in list_all(store, &Filter::default(), 100).await {
            let detail = store.job(job.id).await?.expect("a listed job is known");
            assert_eq!(detail.job, job, "a list shows a job as it is");
            let request = store.request(job.id).await?.expect("a listed job has a request");
            jobs.push((detail, request, store.response(job.id).await?));
        }
        let stats = without_zeros(store.stats().await?);
        let mut oldest_due = Vec::new();
        for destination in stats.destinations.keys() {
            oldest_due.push(store.oldest_due(destination).await?);
        }
        let leases = store.leases().await?.into_iter().collect();
        let redrives = store.mass_redrives(1_000).await?;
        Ok(Snapshot { jobs, stats, leases, gates: store.gates().await?, oldest_due, redrives })
    }
}

async fn snapshot(rig: &Rig) -> Snapshot {
    Snapshot::of(rig.store.as_ref()).await.expect("the store is read")
}

pub async fn a_closed_store_answers_so_to_everything(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let job = rig.job();
    let id = rig.accept_one().await;
    let lease = rig.claim_one().await;
    assert_eq!(rig.store.close().await, Ok(()));
    let (store, now, judge) = (&rig.store, rig.now, Arc::new(rig.judge.clone()));
    let settlement = Settlement { key: lease, report: Report::Released };
    fn closed<T: std::fmt::Debug>(verb: &str, answer: Result<T, StoreError>) {
        assert_eq!(answer.err(), Some(StoreError::Closed), "{verb}");
    }
    closed("enqueue", store.enqueue(vec![job], now).await);
    closed("claim", store.claim(WORKER, vec![Rig::grant(1, 0)], now).await);
    closed("extend", store.extend(WORKER, vec![lease], now).await);
    closed("settle", store.settle(WORKER, vec![settlement], judge.clone(), now).await);
    closed("cancel", store.cancel(id, OrderingOnDead::Free, now).await);
    closed("redrive", store.redrive(id, false, now).await);
    closed("sweep", store.sweep(judge, now).await);
    closed("purge", store.purge(Retention::default(), now).await);
    closed("job", store.job(id).await);
    closed("request", store.request(id).await);
    closed("response", store.response(id).await);
    closed("list", store.list(Filter::default(), None, 1).await);
    closed("stats", store.stats().await);
    closed("oldest_due", store.oldest_due(&api2()).await);
    closed("gates", store.gates().await);
    closed("put_gate", store.put_gate(api2(), GateRecord::default()).await);
    closed("leases", store.leases().await);
}

pub async fn a_store_that_works_is_not_broken(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let store = Arc::clone(&rig.store);
    let broken = tokio::spawn(async move { store.broken().await });
    rig.ended(StateName::Succeeded).await;
    assert!(rig.store.free_bytes().await.is_ok());
    assert!(!broken.is_finished());
    broken.abort();
}

pub async fn starts_and_epochs_rise_over_every_open<S: StoreUnderTest>(under_test: &S) {
    if !S::DURABLE {
        return;
    }
    let mut rig = Rig::open(under_test).await;
    rig.accept_one().await;
    let mut last = (0, Epoch::NONE);
    for _ in 0..4 {
        let lease = rig.claim_one().await;
        let start = rig.store.start();
        assert!(start > last.0 && lease.epoch > last.1, "{start} {:?} after {last:?}", lease.epoch);
        assert_eq!(lease.epoch.start(), u64::from(start));
        last = (start, lease.epoch);
        rig.release(lease).await;
        rig.reopen(under_test).await;
    }
}

/// One of everything.
async fn fill(rig: &mut Rig) {
    let request = Request {
        method: Some("PUT".to_owned()),
        path: Some("/x?y".to_owned()),
        content_type: Some("a/b".to_owned()),
        headers: vec![("X-A".to_owned(), "1".to_owned())],
        body: Bytes::from_static(b"\0\xff"),
    };
    let full = NewJob {
        request,
        idempotency: Some(key("client", "k", 1)),
        expires_after: Some(seconds(1_000)),
        priority: Priority::MAX,
        max_attempts: Some(7),
        traceparent: Some("00-1-2-01".to_owned()),
        ..rig.job_of("full")
    };
    let full = rig.accept(full).await.id;
    let answer = Response { content_type: Some("c/d".to_owned()), body: Bytes::from_static(b"\xfe"), truncated: true };
    let outcome = Outcome {
        status: Some(500),
        latency: seconds(1),
        error: Some("failed".to_owned()),
        unknown: true,
        response: Some(answer),
        ..Outcome::of(Class::Suspect)
    };
    rig.policy(|policy| policy.idempotency_window = Some(seconds(500)));
    rig.settle_outcome(rig.claim_this(full).await, outcome).await;
    for end in [StateName::Succeeded, StateName::Dead, StateName::Cancelled] {
        rig.ended(end).await;
    }
    let lost = rig.accept_one().await;
    rig.claim_this(lost).await;
    rig.lapse().await;
    let redriven = rig.ended(StateName::Dead).await;
    rig.redrive_with(redriven, true).await;
    let later = NewJob { run_at: rig.now.wall.plus(seconds(50)), ..rig.job() };
    rig.accept(later).await;
    rig.claim(2).await;
    rig.store.put_gate(api2(), GateRecord { epoch: 3, paused: true, ..GateRecord::default() }).await.expect("written");
}

pub async fn everything_is_there_again_after_a_reopen<S: StoreUnderTest>(under_test: &S) {
    if !S::DURABLE {
        return;
    }
    let mut rig = Rig::open(under_test).await;
    fill(&mut rig).await;
    let before = snapshot(&rig).await;
    assert_eq!(before.leases.len(), 2);
    for _ in 0..2 {
        rig.reopen(under_test).await;
        assert_eq!(snapshot(&rig).await, before);
    }
    let last = before.jobs.iter().map(|(detail, ..)| detail.job.seq).max();
    let job = rig.job();
    assert!(Some(rig.accept(job).await.seq) > last, "seq goes on rising");
}

pub async fn keys_are_bound_over_a_reopen<S: StoreUnderTest>(under_test: &S) {
    if !S::DURABLE {
        return;
    }
    let mut rig = Rig::open(under_test).await;
    let keyed = |rig: &mut Rig, name| NewJob { idempotency: Some(key("client", name, 1)), ..rig.job() };
    let (waiting, ended) = (keyed(&mut rig, "waiting"), keyed(&mut rig, "ended"));
    let waiting = rig.accept(waiting).await.id;
    let ended = rig.accept(ended).await.id;
    rig.end(ended, StateName::Dead).await;
    rig.pass(seconds(10));
    assert_eq!(rig.purge(Retention { dead: seconds(1), ..Retention::default() }).await, 1);
    rig.reopen(under_test).await;
    let again = vec![keyed(&mut rig, "waiting"), keyed(&mut rig, "ended")];
    let replayed = |id, state| Enqueued::Replayed { id, state };
    assert_eq!(rig.enqueue(again).await, [replayed(waiting, StateName::Pending), replayed(ended, StateName::Dead)]);
}

pub async fn ordering_keys_hold_over_a_reopen<S: StoreUnderTest>(under_test: &S) {
    if !S::DURABLE {
        return;
    }
    let mut rig = Rig::open(under_test).await;
    let mut heads = Vec::new();
    let mut seconds_of_key = Vec::new();
    for name in ["waits", "leased", "blocks", "freed"] {
        heads.push(rig.accept_keyed(name).await);
        seconds_of_key.push(rig.accept_keyed(name).await);
    }
    let lease = rig.claim_this(heads[1]).await;
    rig.end(heads[3], StateName::Dead).await;
    rig.policy(|policy| policy.ordering_on_dead = OrderingOnDead::Block);
    rig.end(heads[2], StateName::Dead).await;
    rig.reopen(under_test).await;
    assert_eq!(rig.claimable().await, [heads[0], seconds_of_key[3]]);
    rig.settle(lease, Class::Ok).await;
    rig.cancel(heads[2]).await;
    assert_eq!(rig.claimable().await, [heads[0], seconds_of_key[1], seconds_of_key[2], seconds_of_key[3]]);
}

pub async fn leases_get_a_full_term_after_a_reopen<S: StoreUnderTest>(under_test: &S) {
    if !S::DURABLE {
        return;
    }
    let mut rig = Rig::open(under_test).await;
    for _ in 0..2 {
        rig.accept_one().await;
    }
    let leases = rig.claim(2).await;
    rig.cancel(leases[1].job_id).await;
    // The monotonic clock of another process may stand anywhere.
    for origin in [BEGIN.mono.plus(seconds(1_000_000)), crate::time::Mono::default()] {
        rig.now.mono = origin;
        rig.reopen(under_test).await;
        assert_eq!(rig.sweep_for(LEASE_TERM - seconds(1)).await.lapsed, []);
    }
    assert_eq!(rig.extend(OTHER_WORKER, &leases).await.lost, leases, "they are whose they were");
    let told = rig.extend(WORKER, &leases).await;
    assert_eq!((told.lost, told.cancel), (vec![], vec![leases[1]]), "a cancel is not forgotten");
    assert_eq!(rig.sweep_for(LEASE_TERM - seconds(1)).await.lapsed, []);
    assert_eq!(rig.sweep_for(seconds(1)).await.lapsed.len(), 2);
}

pub async fn a_holder_may_settle_after_a_reopen<S: StoreUnderTest>(under_test: &S) {
    if !S::DURABLE {
        return;
    }
    let mut rig = Rig::open(under_test).await;
    let id = rig.accept_one().await;
    let lease = rig.claim_one().await;
    rig.reopen(under_test).await;
    assert_eq!(rig.settle(lease, Class::Down).await.result, SettleResult::Applied);
    rig.reopen(under_test).await;
    assert_eq!(rig.settle(lease, Class::Down).await.result, SettleResult::Repeated);
    assert_eq!(rig.attempts(id).await.len(), 1);
}

pub async fn an_ok_counts_whose_claim_a_crash_made_forgotten<S: StoreUnderTest>(under_test: &S) {
    if !S::DURABLE {
        return;
    }
    let mut rig = Rig::open(under_test).await;
    let id: JobId = rig.accept_one().await;
    let forgotten = LeaseKey { job_id: id, epoch: Epoch::new(rig.store.start(), 1_000) };
    rig.reopen(under_test).await;
    assert_eq!(rig.settle(forgotten, Class::Down).await.result, SettleResult::LeaseLost);
    let late = rig.settle(forgotten, Class::Ok).await;
    assert_eq!((late.result, late.job.state.name()), (SettleResult::Applied, StateName::Succeeded));
}

pub async fn an_epoch_from_before_a_job_or_its_redrive_is_refused<S: StoreUnderTest>(under_test: &S) {
    if !S::DURABLE {
        return;
    }
    let mut rig = Rig::open(under_test).await;
    let redriven = rig.ended(StateName::Dead).await;
    let earlier = Epoch::new(rig.store.start(), 1_000);
    rig.reopen(under_test).await;
    rig.redrive(redriven).await;
    let accepted = rig.accept_one().await;
    for id in [redriven, accepted] {
        let before = rig.stored(id).await;
        for class in Class::ALL {
            let settled = rig.settle(LeaseKey { job_id: id, epoch: earlier }, class).await;
            assert_eq!((settled.result, settled.job), (SettleResult::LeaseLost, before.clone()), "{class:?}");
        }
    }
}
