//! What the rules cost that are asked once a job or once an answer: each is some fraction of a microsecond, or it would show.
//!
//! Behind the feature `bench`, so that nobody else compiles criterion: `cargo bench -p jobs-core --features bench`.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use jobs_core::charging::Evidence;
use jobs_core::conformance::rig::{BEGIN, Rig, WORKER, api2, plain_job};
use jobs_core::destination::{Destination, Policy};
use jobs_core::dispatch::Dispatcher;
use jobs_core::job::{Epoch, Job, Request, Tick};
use jobs_core::lease::LeaseKey;
use jobs_core::lifecycle::{self, Claiming, SettleContext, SettleResult};
use jobs_core::outcome::{Class, Outcome, classify};
use jobs_core::retry::RetryPolicy;
use jobs_core::store::{Claimed, Grant, Judge, Lease, SettleAnswer};

/// Jobs of one claim of a busy worker.
const CLAIMED: u32 = 64;

fn new_job(id: u128) -> (Job, Request) {
    lifecycle::enqueue(plain_job(id, Bytes::from(vec![b'x'; 200])), 1, Epoch::NONE, BEGIN.wall)
}

fn claiming(epoch: u32, grant: &Grant) -> Claiming {
    Claiming {
        epoch: Epoch::new(1, epoch),
        worker: WORKER,
        destination_epoch: grant.destination_epoch,
        released_below: grant.released_below,
        begun: grant.begun,
        ok_begun: grant.ok_begun,
    }
}

fn leased(id: u32, grant: &Grant) -> Lease {
    let (mut job, request) = new_job(u128::from(id));
    lifecycle::claim(&mut job, &claiming(id, grant), BEGIN.wall).expect("a new job is due");
    Lease { job, epoch: Epoch::new(1, id), request }
}

fn life(c: &mut Criterion) {
    let grant = Rig::grant(1, 0);
    c.bench_function("enqueue", |b| {
        let new = plain_job(7, Bytes::from(vec![b'x'; 200]));
        b.iter_batched(
            || new.clone(),
            |new| lifecycle::enqueue(new, 1, Epoch::NONE, BEGIN.wall),
            BatchSize::SmallInput,
        );
    });
    c.bench_function("claim", |b| {
        let claim = |mut job: Job| (lifecycle::claim(&mut job, &claiming(7, &grant), BEGIN.wall), job);
        b.iter_batched(|| new_job(7).0, claim, BatchSize::SmallInput);
    });
    let (policy, evidence) = (Policy::default(), Evidence { now: Tick(9), ..Evidence::default() });
    let context = SettleContext { worker: WORKER, start: 1, policy: &policy, evidence: &evidence };
    for class in [Class::Ok, Class::Overload] {
        let outcome = Outcome::of(class);
        c.bench_function(&format!("settle {}", class.as_str()), |b| {
            let settle = |lease: Lease| {
                let Lease { mut job, epoch, .. } = lease;
                (lifecycle::settle(&mut job, epoch, &outcome, &context, BEGIN.wall), job)
            };
            b.iter_batched(|| leased(7, &grant), settle, BatchSize::SmallInput);
        });
    }
}

fn answers(c: &mut Criterion) {
    let (job, request) = new_job(7);
    c.bench_function("checksum of 200 bytes", |b| b.iter(|| black_box(&job).is_intact(black_box(&request))));
    c.bench_function("classify", |b| b.iter(|| classify(&[], black_box(503), |_| None, b"")));
    let retry = RetryPolicy::default();
    c.bench_function("retry delay", |b| b.iter(|| retry.delay(black_box(7), job.id, 7, None)));
}

/// Everything the dispatcher and the gate do for a claim of 64 jobs and their successes.
fn dispatch(c: &mut Criterion) {
    let settings = Destination::new(api2(), "http://127.0.0.1/".to_owned());
    let dispatcher = Mutex::new(Dispatcher::new(1));
    let destinations = BTreeMap::from([(api2(), Arc::new(settings))]);
    dispatcher.lock().expect("nobody panics").configure(destinations, BEGIN);
    let (mut epoch, ok) = (0, Outcome::of(Class::Ok));
    let mut now = BEGIN;
    c.bench_function("dispatch and judge 64 jobs", |b| {
        b.iter(|| {
            now = now.plus(std::time::Duration::from_millis(3));
            let grants = dispatcher.lock().expect("nobody panics").plan(WORKER, CLAIMED, CLAIMED, now);
            let jobs: u32 = grants.iter().map(|grant| grant.max).sum();
            let leases: Vec<Lease> = (0..jobs).map(|n| leased(epoch + n, &grants[0])).collect();
            epoch += jobs;
            let claimed = Claimed { leases, ..Claimed::default() };
            dispatcher.lock().expect("nobody panics").claimed(&grants, &claimed, now);
            let answers = claimed.leases.into_iter().map(|Lease { job, epoch, .. }| {
                dispatcher.weigh(&job, epoch, &ok, WORKER, now);
                let ended = Some((LeaseKey { job_id: job.id, epoch }, WORKER));
                SettleAnswer::Known { result: SettleResult::Applied, job, attempt: None, ended }
            });
            let answers: Vec<SettleAnswer> = answers.collect();
            dispatcher.lock().expect("nobody panics").settled(&answers, now);
        });
    });
}

criterion_group!(benches, life, answers, dispatch);
criterion_main!(benches);
