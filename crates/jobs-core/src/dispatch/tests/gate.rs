//! The gate at work: the dispatcher with the reference store, and no network between them.

mod places;
mod probes;

use super::*;
use crate::destination::HealthCheck;
use crate::lifecycle::SettleResult;
use crate::memory::State as Store;
use crate::outcome::Class;
use crate::store::{Filter, Lease, Report, Settlement};

const EVENT: Duration = Duration::from_millis(1);

/// A gateway without sockets. Changes of the gate are persisted as soon as they come about, unless `disk_is_slow`.
struct Gateway {
    judge: Mutex<Dispatcher>,
    store: Store,
    now: Now,
    jobs: u128,
    disk_is_slow: bool,
}

impl Gateway {
    fn new(adjust: impl Fn(&mut Destination)) -> Self {
        let judge = Mutex::new(dispatcher(&["a"], adjust));
        Gateway { judge, store: Store::new(1), now: NOW, jobs: 0, disk_is_slow: false }
    }

    /// With an outage under way that five jobs have suffered from.
    fn opened(adjust: impl Fn(&mut Destination)) -> Self {
        let mut gateway = Gateway::new(adjust);
        gateway.enqueue(5);
        for lease in gateway.claim(5) {
            gateway.settle(&lease, Class::Down);
        }
        assert_eq!(gateway.view().state, GateStateName::Open);
        gateway
    }

    fn dispatcher(&self) -> MutexGuard<'_, Dispatcher> {
        lock(&self.judge)
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.plus(Duration::from_millis(ms));
    }

    fn enqueue(&mut self, count: u128) {
        for _ in 0..count {
            self.jobs += 1;
            let new = NewJob { run_at: self.now.wall, ..new_job(self.jobs, "a") };
            self.store.enqueue(vec![new], self.now).unwrap();
            self.dispatcher().work_arrived(&name("a"), self.now.wall);
        }
    }

    fn claim(&mut self, max: u32) -> Vec<Lease> {
        self.claim_by(worker(1), max)
    }

    fn claim_by(&mut self, worker: WorkerId, max: u32) -> Vec<Lease> {
        let grants = self.dispatcher().plan(worker, 1_000, max, self.now);
        let claimed = self.store.claim(worker, &grants, self.now);
        self.dispatcher().claimed(&grants, &claimed, self.now);
        claimed.leases
    }

    /// Claims until something is granted, a millisecond after the other, for `within_ms` at most.
    fn claim_in(&mut self, within_ms: u64) -> Option<Lease> {
        (0..within_ms).find_map(|_| {
            self.pass(1);
            self.claim(1).pop()
        })
    }

    fn settle(&mut self, lease: &Lease, class: Class) -> Job {
        self.settle_outcome(worker(1), lease, Outcome::of(class))
    }

    fn settle_outcome(&mut self, worker: WorkerId, lease: &Lease, outcome: Outcome) -> Job {
        let key = LeaseKey { job_id: lease.job.id, epoch: lease.epoch };
        self.report(worker, Settlement { key, report: Report::Attempted(outcome) })
    }

    fn report(&mut self, worker: WorkerId, settlement: Settlement) -> Job {
        self.now = self.now.plus(EVENT);
        let answers = self.store.settle(worker, vec![settlement], &self.judge, self.now);
        self.dispatcher().settled(&answers, self.now);
        if !self.disk_is_slow {
            self.persist();
        }
        match answers.into_iter().next() {
            Some(SettleAnswer::Known { result: SettleResult::Applied, job, .. }) => job,
            other => panic!("{other:?}"),
        }
    }

    fn persist(&mut self) {
        let changes = self.dispatcher().changes();
        for change in changes {
            self.store.put_gate(change.destination.clone(), change.record.clone());
            self.dispatcher().persisted(&change);
        }
    }

    fn wake_in(&self) -> Option<Duration> {
        self.dispatcher().wake_in(self.now)
    }

    fn view(&self) -> DestinationView {
        self.dispatcher().views().remove(0)
    }

    fn rows(&self) -> Vec<Job> {
        self.store.list(&Filter::default(), None, 1_000).jobs
    }

    /// The process ends and begins again.
    fn restart(&mut self, adjust: impl Fn(&mut Destination)) {
        self.store.restart(self.store.start() + 1, self.now.mono);
        let mut fresh = Dispatcher::new(self.store.start());
        let mut settings = Destination::new(name("a"), "http://127.0.0.1/".to_owned());
        adjust(&mut settings);
        fresh.configure(BTreeMap::from([(name("a"), Arc::new(settings))]), self.now);
        fresh.restore(&self.store.leases(), self.store.gates(), [name("a")], self.now);
        self.judge = Mutex::new(fresh);
    }
}

fn pending(job: &Job) -> Pending {
    let State::Pending(pending) = &job.state else { panic!("expected a waiting job, found {job:?}") };
    *pending
}

fn with_health_check(settings: &mut Destination) {
    let url = "http://127.0.0.1/health".to_owned();
    settings.health_check = Some(HealthCheck { url, method: "GET".to_owned(), expect: 200 });
}

#[test]
fn an_outage_holds_its_jobs_uncharged_and_lets_only_probes_through() {
    let mut gateway = Gateway::opened(|_| {});
    assert!(gateway.view().reason.unwrap().starts_with("down"));
    gateway.enqueue(100);
    assert_eq!(gateway.claim(100).len(), 0, "the first probe waits an interval");
    let mut probes = 0;
    for _ in 0..10_000 {
        gateway.pass(1);
        for lease in gateway.claim(100) {
            probes += 1;
            gateway.settle(&lease, Class::Down);
        }
    }
    assert!((11..=40).contains(&probes), "{probes} probes in ten seconds");
    assert_eq!(gateway.rows().iter().map(|job| job.progress.charged).sum::<u32>(), 0);
    assert!(gateway.rows().iter().all(|job| job.progress.attempts <= 2), "each has its turn before one has a third");
}

#[test]
fn a_recovery_releases_all_that_the_outage_held_and_rewrites_none_of_it() {
    let mut gateway = Gateway::opened(|_| {});
    gateway.pass(600);
    assert!(gateway.rows().iter().all(|job| pending(job).run_at > gateway.now.wall), "all wait for their own time");
    gateway.enqueue(1);
    let probe = gateway.claim(9).remove(0);
    let waiting = |rows: Vec<Job>| -> Vec<Job> { rows.into_iter().filter(|job| job.id != probe.job.id).collect() };
    let before = waiting(gateway.rows());
    gateway.settle(&probe, Class::Ok);
    assert_eq!(waiting(gateway.rows()), before);
    assert_eq!((gateway.view().state, gateway.view().epoch), (GateStateName::Ramp, 1));
    let mut released = Vec::new();
    while let Some(lease) = gateway.claim_in(200) {
        released.push(lease.job.id);
        gateway.settle(&lease, Class::Ok);
    }
    assert_eq!(released.len(), 5);
    assert!(gateway.now.wall < pending(&before[0]).run_at, "before their own time");
}

#[test]
fn a_released_job_that_a_worker_gives_back_can_be_claimed_at_once() {
    let mut gateway = Gateway::opened(|_| {});
    gateway.pass(3_000);
    let probe = gateway.claim_in(1_000).expect("a probe");
    gateway.settle(&probe, Class::Ok);
    let mut held = Vec::new();
    while let Some(lease) = gateway.claim_in(1_000) {
        held.push(lease);
    }
    assert_eq!(held.len(), 4, "all that the outage held, and nothing more is known to wait");
    // One waits long by its own time.
    let last = held.pop().expect("there are four");
    let key = LeaseKey { job_id: last.job.id, epoch: last.epoch };
    gateway.report(worker(1), Settlement { key, report: Report::Released });
    assert_eq!(gateway.claim(1).len(), 1, "it is due, whatever its own delay says");
}

#[test]
fn a_failure_that_outlasted_the_outage_is_due_at_once() {
    let mut gateway = Gateway::opened(|_| {});
    gateway.pass(3_000);
    let hanging = gateway.claim_in(1_000).expect("a probe");
    let other = gateway.claim_in(1_000).expect("another probe");
    gateway.settle(&other, Class::Ok);
    while let Some(lease) = gateway.claim_in(1_000) {
        gateway.settle(&lease, Class::Ok);
    }
    let job = gateway.settle(&hanging, Class::Down);
    assert!(pending(&job).run_at > gateway.now.wall, "by its own backoff it would wait");
    assert_eq!(gateway.claim_in(1_000).map(|lease| lease.job.id), Some(job.id));
}

#[test]
fn an_open_gate_is_open_after_a_restart_and_what_it_held_is_released_by_the_next_recovery() {
    let mut gateway = Gateway::opened(|_| {});
    let (since, reason) = (gateway.view().since, gateway.view().reason);
    gateway.restart(|_| {});
    let view = gateway.view();
    assert_eq!((view.state, view.since, view.reason), (GateStateName::Open, since, reason));
    assert!(gateway.claim(9).is_empty());
    gateway.enqueue(1);
    let probe = gateway.claim_in(500).expect("a probe");
    gateway.settle(&probe, Class::Ok);
    assert!(gateway.claim_in(500).is_some(), "one of those that failed before the restart");
    gateway.restart(|_| {});
    assert_eq!((gateway.view().state, gateway.view().epoch), (GateStateName::Ramp, 1));
}

#[test]
fn nothing_is_granted_under_a_change_that_is_not_durable() {
    let mut gateway = Gateway::opened(|_| {});
    gateway.disk_is_slow = true;
    gateway.enqueue(3);
    let (one, two) = (gateway.claim_in(500).expect("a probe"), gateway.claim_in(1_000).expect("another"));
    gateway.settle(&one, Class::Ok);
    assert_eq!(gateway.claim_in(2_000).map(|lease| lease.job.id), None, "the recovery is not on the disk");
    let change = gateway.dispatcher().changes().remove(0);
    assert_eq!((change.record.epoch, change.transition), (1, Some(Transition::Recovered)));
    gateway.dispatcher().pause(&name("a"), gateway.now);
    gateway.dispatcher().persisted(&change);
    let later = gateway.dispatcher().changes().remove(0);
    assert!(later.record.paused, "an older record is on the disk, and not this one");
    assert_eq!(later.transition, Some(Transition::Recovered), "of which nobody has been told yet");
    gateway.dispatcher().resume(&name("a"), gateway.now);
    let last = gateway.dispatcher().changes().remove(0);
    gateway.dispatcher().persisted(&later);
    assert_eq!(gateway.claim_in(2_000).map(|lease| lease.job.id), None);
    gateway.dispatcher().persisted(&last);
    assert!(gateway.dispatcher().changes().is_empty());
    assert!(gateway.claim_in(2_000).is_some());
    gateway.settle(&two, Class::Down);
}

#[test]
fn an_opening_that_is_not_durable_lets_no_probe_through() {
    let mut gateway = Gateway::new(|_| {});
    gateway.disk_is_slow = true;
    gateway.enqueue(6);
    for lease in gateway.claim(5) {
        gateway.settle(&lease, Class::Down);
    }
    assert!(gateway.claim_in(2_000).is_none());
    gateway.persist();
    assert!(gateway.claim_in(1).is_some());
}

#[test]
fn three_jobs_refused_alike_hold_the_destination_and_kill_nobody() {
    let mut gateway = Gateway::new(|_| {});
    gateway.enqueue(6);
    let unauthorized = Outcome { status: Some(401), ..Outcome::of(Class::Suspect) };
    let leases = gateway.claim(4);
    let jobs: Vec<Job> =
        leases.iter().map(|lease| gateway.settle_outcome(worker(1), lease, unauthorized.clone())).collect();
    let reason = gateway.view().reason.expect("a reason");
    assert!(reason.starts_with("misconfigured") && reason.contains("401"), "{reason}");
    assert_eq!(jobs.iter().map(|job| job.progress.charged).collect::<Vec<_>>(), [1, 1, 0, 0]);
    assert_eq!([pending(&jobs[2]).cause, pending(&jobs[3]).cause], [Cause::Destination; 2]);
    for outcome in [unauthorized, Outcome::of(Class::JobFail), Outcome::of(Class::Suspect)] {
        let probe = gateway.claim_in(4_000).expect("a probe");
        let before = probe.job.progress.charged;
        let job = gateway.settle_outcome(worker(1), &probe, outcome);
        assert_eq!((pending(&job).cause, job.progress.charged), (Cause::Destination, before));
        assert_eq!(gateway.view().state, GateStateName::Open);
    }
    gateway.restart(|_| {});
    let probe = gateway.claim_in(8_000).expect("a probe");
    gateway.settle(&probe, Class::JobFail);
    assert_eq!(gateway.view().state, GateStateName::Open, "why it is held is known after a restart");
    let probe = gateway.claim_in(8_000).expect("a probe");
    gateway.settle(&probe, Class::Ok);
    assert_eq!(gateway.view().state, GateStateName::Ramp);
}

#[test]
fn a_broken_deploy_kills_a_score_of_jobs_at_most() {
    let mut gateway = Gateway::new(|_| {});
    gateway.enqueue(100);
    let mut dead = 0;
    while let Some(lease) = gateway.claim_in(300) {
        let job = gateway.settle(&lease, Class::JobFail);
        dead += u32::from(matches!(job.state, State::Dead { .. }));
    }
    assert_eq!(dead, 19);
}

#[test]
fn a_poison_job_among_good_ones_opens_nothing_and_spends_its_own_attempts() {
    let mut gateway = Gateway::new(|settings| settings.policy.max_attempts = 5);
    gateway.enqueue(1);
    let poison = gateway.rows()[0].id;
    for _ in 0..100 {
        gateway.enqueue(3);
        for lease in gateway.claim(9) {
            let class = if lease.job.id == poison { Class::Error } else { Class::Ok };
            gateway.settle(&lease, class);
            assert_eq!(gateway.view().state, GateStateName::Closed);
        }
        gateway.pass(1_000);
    }
    assert!(matches!(gateway.store.job(poison).unwrap().job.state, State::Dead { .. }));
}

#[test]
fn a_worker_that_is_cut_off_gates_nothing() {
    let mut gateway = Gateway::new(|_| {});
    for _ in 0..50 {
        gateway.enqueue(8);
        for (place, lease) in gateway.claim(8).iter().enumerate() {
            let (by, class) = if place == 0 { (2, Class::Ok) } else { (1, Class::Down) };
            gateway.settle_outcome(worker(by), lease, Outcome::of(class));
        }
        gateway.pass(5);
        assert_ne!(gateway.view().state, GateStateName::Open);
    }
}

#[test]
fn a_pause_holds_probes_too_and_its_end_leaves_an_open_gate_open() {
    let mut gateway = Gateway::opened(|_| {});
    gateway.enqueue(1);
    gateway.dispatcher().pause(&name("a"), gateway.now);
    gateway.persist();
    assert!(gateway.claim_in(2_000).is_none());
    assert_eq!(gateway.view().reason.as_deref(), Some("paused by hand"));
    gateway.dispatcher().resume(&name("a"), gateway.now);
    gateway.persist();
    assert_eq!(gateway.view().state, GateStateName::Open);
    assert!(gateway.claim_in(2_000).is_some());
}

#[test]
fn what_was_paused_before_it_was_configured_is_paused_after_it() {
    let gateway = Gateway::new(|_| {});
    gateway.dispatcher().work_arrived(&name("b"), gateway.now.wall);
    assert!(gateway.dispatcher().pause(&name("b"), gateway.now));
    let settings = ["a", "b"].map(|text| (name(text), Arc::new(Destination::new(name(text), String::new()))));
    gateway.dispatcher().configure(settings.into(), gateway.now);
    assert_eq!(gateway.dispatcher().views()[1].reason.as_deref(), Some("paused by hand"));
}

#[test]
fn a_destination_that_was_removed_and_is_back_starts_carefully_and_a_new_one_does_not() {
    let gateway = Gateway::new(|settings| settings.gate.start_limit = 7);
    assert_eq!((gateway.view().state, gateway.view().limit), (GateStateName::Closed, 7));
    let settings = gateway.dispatcher().destination("a").unwrap();
    gateway.dispatcher().configure(BTreeMap::new(), gateway.now);
    assert_eq!(gateway.view().reason.as_deref(), Some("removed from the settings"));
    gateway.dispatcher().configure(BTreeMap::from([(name("a"), settings)]), gateway.now);
    assert_eq!(gateway.view().state, GateStateName::Ramp);
}
