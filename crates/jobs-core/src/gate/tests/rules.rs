//! The rules of hold, probe and release, one test each.

use uuid::Uuid;

use super::super::*;
use crate::job::WorkerId;

/// A gate with a clock and a numbered worker; jobs are numbers.
struct Bench {
    gate: Gate,
    now: Now,
    tick: u64,
}

impl Bench {
    fn new() -> Self {
        let now = Now { wall: Timestamp::from_millis(1_000_000), mono: Mono::from_millis(1_000) };
        Bench { gate: Gate::new(GateSettings::default(), now.mono), now, tick: 1 }
    }

    fn wait(&mut self, ms: u64) {
        self.now = self.now.plus(Duration::from_millis(ms));
    }

    /// Grants one call with `job`, if the gate lets it.
    fn send(&mut self, job: u128) -> Option<Sent> {
        let admission = self.gate.admit(1, self.now.mono)?;
        self.tick += 1;
        Some(self.gate.granted(
            JobId(Uuid::from_u128(job)),
            admission,
            Tick(self.tick),
            self.gate.epoch(),
            self.now.mono,
        ))
    }

    fn answer_by(
        &mut self,
        worker: u128,
        job: u128,
        sent: Sent,
        outcome: &Outcome,
        charged: bool,
    ) -> Option<Transition> {
        self.tick += 1;
        let (job, worker) = (JobId(Uuid::from_u128(job)), WorkerId(Uuid::from_u128(worker)));
        let answer = Answer { job, worker, outcome, sent, at: Tick(self.tick), charged };
        let transition = self.gate.answered(&answer, self.now);
        self.gate.ended(job, sent, self.now.mono);
        transition
    }

    fn answer(&mut self, job: u128, sent: Sent, class: Class) -> Option<Transition> {
        self.answer_by(1, job, sent, &Outcome::of(class), false)
    }

    /// Sends `job` and answers it at once.
    fn call(&mut self, job: u128, class: Class) -> Option<Transition> {
        let sent = self.send(job).expect("the gate lets it through");
        self.answer(job, sent, class)
    }

    fn opened() -> Self {
        let mut bench = Bench::new();
        for job in 1..=5 {
            bench.call(job, Class::Down);
        }
        assert!(bench.gate.is_open());
        bench
    }

    /// How many probes of fresh jobs, none of which is ever answered, go out in the next `ms`.
    fn probes_in(&mut self, ms: u64) -> usize {
        let mut sent = 0;
        for _ in 0..ms {
            self.wait(1);
            sent += usize::from(self.send(1_000_000 + u128::from(self.tick)).is_some());
        }
        sent
    }
}

#[test]
fn five_failures_in_a_row_of_three_jobs_open_the_gate() {
    for class in [Class::Down, Class::Error] {
        let mut bench = Bench::new();
        let transitions: Vec<_> = (1..=5).map(|job| bench.call(job, class)).collect();
        assert_eq!(transitions[..4], [None; 4], "{class:?}");
        assert_eq!(transitions[4], Some(Transition::Opened), "{class:?}");
        assert!(bench.send(9).is_none());
    }
}

#[test]
fn an_ok_between_keeps_it_closed() {
    let mut bench = Bench::new();
    for round in 0..50 {
        for job in 0..4 {
            assert_eq!(bench.call(round * 10 + job, Class::Error), None);
        }
        bench.call(round * 10 + 9, Class::Ok);
    }
}

#[test]
fn one_poison_job_never_opens_it() {
    let mut bench = Bench::new();
    for _ in 0..100 {
        assert_eq!(bench.call(1, Class::Error), None);
    }
}

#[test]
fn a_charged_failure_says_nothing_about_the_destination() {
    let mut bench = Bench::new();
    for job in 1..100 {
        let sent = bench.send(job).unwrap();
        assert_eq!(bench.answer_by(1, job, sent, &Outcome::of(Class::Down), true), None);
    }
}

#[test]
fn a_lone_job_opens_it_at_its_second_failure_to_reach_it() {
    for class in [Class::Down, Class::Overload] {
        let mut bench = Bench::new();
        assert_eq!(bench.call(1, class), None);
        bench.wait(2_000);
        assert_eq!(bench.call(1, class), Some(Transition::Opened), "{class:?}");
    }
}

#[test]
fn the_refused_tail_of_a_burst_does_not_open_it() {
    let mut bench = Bench::new();
    let burst: Vec<_> = (1..=12).map(|job| (job, bench.send(job).unwrap())).collect();
    for (job, sent) in &burst[..4] {
        bench.answer(*job, *sent, Class::Ok);
    }
    for (job, sent) in &burst[4..] {
        assert_eq!(bench.answer(*job, *sent, Class::Overload), None);
    }
}

#[test]
fn a_burst_that_is_refused_before_its_oks_are_known_does_not_open_it_and_refusals_that_go_on_do() {
    let mut bench = Bench::new();
    let burst: Vec<_> = (1..=16).map(|job| (job, bench.send(job).unwrap())).collect();
    for (job, sent) in &burst[10..] {
        assert_eq!(bench.answer(*job, *sent, Class::Overload), None);
    }
    bench.wait(50);
    for (job, sent) in &burst[..10] {
        bench.answer(*job, *sent, Class::Ok);
    }
    let mut opened = None;
    for job in 100..200 {
        bench.wait(20);
        let Some(sent) = bench.send(job) else { continue };
        opened = bench.answer(job, sent, Class::Overload).map(|_| 20 * (job - 100)).or(opened);
        if opened.is_some() {
            break;
        }
    }
    assert!(opened.is_some_and(|ms| (300..1_000).contains(&ms)), "{opened:?}");
}

#[test]
fn where_every_second_call_fails_by_chance_a_row_of_failures_opens_nothing_and_an_outage_does() {
    let mut bench = Bench::new();
    let mut random = super::capacity::Random(3);
    for job in 0..2_000 {
        let class = if random.unit() < 0.5 { Class::Error } else { Class::Ok };
        assert_eq!(bench.call(job, class), None, "job {job}");
        bench.wait(10);
    }
    let opened = (2_000..2_100).find(|job| bench.call(*job, Class::Error).is_some());
    assert!(opened.is_some_and(|job| job < 2_030), "{opened:?}");
}

#[test]
fn a_worker_that_others_outdo_is_shown_as_cut_off_until_it_gets_through() {
    let mut bench = Bench::new();
    let (ok, down) = (Outcome::of(Class::Ok), Outcome::of(Class::Down));
    let cut_off = |bench: &Bench| bench.gate.cut_off();
    for (worker, job, outcome) in [(2, 1, &ok), (1, 2, &down)] {
        let sent = bench.send(job).unwrap();
        bench.answer_by(worker, job, sent, outcome, false);
    }
    assert_eq!(cut_off(&bench), [WorkerId(Uuid::from_u128(1))]);
    let sent = bench.send(3).unwrap();
    bench.answer_by(1, 3, sent, &ok, false);
    assert_eq!(cut_off(&bench), []);
}

#[test]
fn a_ramp_ends_when_nothing_more_is_due() {
    let mut bench = Bench::opened();
    bench.wait(400);
    bench.call(50, Class::Ok);
    assert_eq!(bench.gate.state(), GateStateName::Ramp);
    bench.gate.nothing_is_due();
    assert_eq!((bench.gate.state(), bench.gate.limit()), (GateStateName::Closed, GateSettings::default().start_limit));
}

#[test]
fn a_report_that_comes_twice_is_one_failure() {
    let mut bench = Bench::new();
    let sent = bench.send(1).expect("the gate lets it through");
    for _ in 0..3 {
        assert_eq!(bench.answer(1, sent, Class::Down), None);
    }
    assert_eq!(bench.call(1, Class::Down), Some(Transition::Opened), "a second failure of its own");
}

#[test]
fn a_worker_that_fails_alone_while_another_gets_through_gates_nothing() {
    let mut bench = Bench::new();
    let down = Outcome::of(Class::Down);
    for round in 0..100 {
        let sent: Vec<_> = (0..10).map(|n| (10 * round + n, bench.send(10 * round + n).unwrap())).collect();
        bench.answer_by(2, sent[0].0, sent[0].1, &Outcome::of(Class::Ok), false);
        for (job, sent) in &sent[1..] {
            assert_eq!(bench.answer_by(1, *job, *sent, &down, false), None, "job {job}");
        }
        bench.wait(5);
    }
}

#[test]
fn a_worker_that_is_cut_off_in_mid_flow_gates_nothing_and_a_second_ones_failure_does() {
    let mut bench = Bench::new();
    let (ok, down) = (Outcome::of(Class::Ok), Outcome::of(Class::Down));
    for round in 0..20 {
        let (one, other) = (bench.send(2 * round).unwrap(), bench.send(2 * round + 1).unwrap());
        bench.answer_by(1, 2 * round, one, &ok, false);
        bench.answer_by(2, 2 * round + 1, other, &ok, false);
        bench.wait(50);
    }
    for job in 100..130 {
        let sent = bench.send(job).unwrap();
        assert_eq!(bench.answer_by(1, job, sent, &down, false), None, "job {job}, and no ok of the other between");
    }
    let sent = bench.send(130).unwrap();
    assert_eq!(bench.answer_by(2, 130, sent, &down, false), Some(Transition::Opened));
}

#[test]
fn nearly_all_answers_failing_opens_it_although_an_ok_comes_between() {
    let mut bench = Bench::new();
    let mut opened = false;
    for round in 0..10 {
        let sent: Vec<_> = (0..12).map_while(|n| Some((100 * round + n, bench.send(100 * round + n)?))).collect();
        for (place, (job, sent)) in sent.iter().enumerate() {
            let class = if place == 0 { Class::Ok } else { Class::Down };
            opened |= bench.answer(*job, *sent, class) == Some(Transition::Opened);
        }
        bench.wait(5);
    }
    assert!(opened);
}

#[test]
fn three_jobs_with_the_same_refusal_are_a_configuration_fault_and_ok_clears_it() {
    let unauthorized = Outcome { status: Some(401), ..Outcome::of(Class::Suspect) };
    let mut bench = Bench::new();
    let refuse = |bench: &mut Bench, job| {
        let sent = bench.send(job).unwrap();
        bench.answer_by(1, job, sent, &unauthorized, false)
    };
    assert_eq!([refuse(&mut bench, 1), refuse(&mut bench, 2)], [None, None]);
    bench.call(3, Class::Ok);
    assert_eq!([refuse(&mut bench, 4), refuse(&mut bench, 5)], [None, None]);
    assert_eq!(refuse(&mut bench, 6), Some(Transition::Opened));
    assert!(bench.gate.is_misconfigured());
    assert!(bench.gate.reason().unwrap().1.contains("401"), "{:?}", bench.gate.reason());
    bench.wait(2_000);
    assert_eq!(bench.call(7, Class::Suspect), None);
    bench.wait(2_000);
    assert_eq!(bench.call(8, Class::Ok), Some(Transition::Recovered));
}

#[test]
fn twenty_jobs_refused_for_good_in_a_row_are_one_too() {
    let mut bench = Bench::new();
    for job in 1..20 {
        assert_eq!(bench.call(job, Class::JobFail), None);
    }
    assert_eq!(bench.call(20, Class::JobFail), Some(Transition::Opened));
    assert!(bench.gate.is_misconfigured());
}

#[test]
fn no_more_than_four_probes_go_out_in_any_second_and_more_than_one_in_each() {
    let mut bench = Bench::opened();
    let mut times = Vec::new();
    for ms in 0..60_000u64 {
        bench.wait(1);
        if let Some(sent) = bench.send(100 + u128::from(ms)) {
            times.push(ms);
            bench.answer(100 + u128::from(ms), sent, Class::Down);
        }
    }
    for from in (0..59_000).step_by(50) {
        let count = times.iter().filter(|ms| (from..from + 1_000).contains(*ms)).count();
        assert!((1..=4).contains(&count), "{count} probes in the second from {from} ms");
    }
}

#[test]
fn a_hanging_server_gets_thirty_two_probes_at_most() {
    let mut bench = Bench::opened();
    let first = bench.probes_in(60_000);
    assert_eq!(first, 32);
    assert_eq!(bench.probes_in(60_000), 0);
}

#[test]
fn one_ok_releases_what_the_outage_held_by_raising_the_epoch() {
    let mut bench = Bench::opened();
    bench.wait(400);
    assert_eq!(bench.call(50, Class::Ok), Some(Transition::Recovered));
    assert_eq!(bench.gate.epoch(), 1);
    assert_eq!(bench.gate.state(), GateStateName::Ramp);
    assert_eq!(bench.gate.admit(1, bench.now.mono).unwrap().released_below, 1);
}

#[test]
fn a_refused_job_shows_that_the_destination_is_alive() {
    let mut bench = Bench::opened();
    bench.wait(400);
    assert_eq!(bench.call(50, Class::JobFail), Some(Transition::Recovered));
}

#[test]
fn what_was_sent_before_the_outage_was_noticed_counts_neither_for_trips_nor_limits() {
    let mut bench = Bench::new();
    let old: Vec<_> = (1..=10).map(|job| (job, bench.send(job).unwrap())).collect();
    for job in 21..=25 {
        bench.call(job, Class::Down);
    }
    bench.wait(400);
    assert_eq!(bench.call(30, Class::Ok), Some(Transition::Recovered));
    assert_eq!(bench.gate.in_flight(), 0);
    for (job, sent) in old {
        assert_eq!(bench.answer(job, sent, Class::Down), None);
    }
    assert_eq!(bench.gate.state(), GateStateName::Ramp);
}

#[test]
fn two_downs_at_the_floors_of_a_ramp_open_it_again() {
    let mut bench = Bench::opened();
    bench.wait(400);
    bench.call(50, Class::Ok);
    bench.wait(60);
    assert_eq!(bench.call(51, Class::Down), None);
    bench.wait(60);
    assert_eq!(bench.call(52, Class::Down), Some(Transition::Opened));
}

#[test]
fn a_healthy_check_brings_a_probe_at_once_with_any_job_the_outage_holds() {
    let mut bench = Bench::opened();
    bench.gate.checked(true);
    let admission = bench.gate.admit(5, bench.now.mono).unwrap();
    assert_eq!((admission.count, admission.released_below), (1, 1));
}

#[test]
fn a_health_check_that_was_wrong_is_not_believed_for_a_while_and_ever_longer() {
    let mut bench = Bench::opened();
    let mut waits = Vec::new();
    for job in 100..108 {
        let mut waited = 0;
        loop {
            bench.gate.checked(true);
            let admission = bench.gate.admit(1, bench.now.mono);
            if admission.is_some_and(|admission| admission.kind == Kind::Probe { on_health: true }) {
                break;
            }
            bench.wait(10);
            waited += 10;
        }
        waits.push(waited);
        let sent = bench.send(job).unwrap();
        bench.answer(job, sent, Class::Down);
    }
    assert_eq!(waits, [0, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
}

#[test]
fn retry_after_holds_the_probes_and_a_health_check_overrides_it() {
    let asks = Outcome { retry_after: Some(Duration::from_secs(30)), ..Outcome::of(Class::Overload) };
    let mut bench = Bench::new();
    for job in 1..=5 {
        let sent = bench.send(job).unwrap();
        bench.answer_by(1, job, sent, &asks, false);
        bench.wait(100);
    }
    assert!(bench.gate.is_open());
    assert_eq!(bench.probes_in(29_000), 0);
    bench.gate.checked(true);
    assert!(bench.send(50).is_some());
    bench.gate.checked(false);
    assert!(bench.probes_in(2_000) > 0);
}

#[test]
fn a_pause_lets_nothing_through_and_ends_in_a_ramp_or_still_open() {
    let mut bench = Bench::new();
    bench.gate.pause(true, bench.now.mono);
    assert_eq!((bench.send(1), bench.gate.state()), (None, GateStateName::Paused));
    bench.gate.pause(false, bench.now.mono);
    assert_eq!(bench.gate.state(), GateStateName::Ramp);
    let mut open = Bench::opened();
    open.gate.pause(true, open.now.mono);
    assert_eq!(open.probes_in(2_000), 0);
    open.gate.pause(false, open.now.mono);
    assert_eq!(open.gate.state(), GateStateName::Open);
}

#[test]
fn after_a_restart_open_stays_open_and_anything_else_ramps() {
    let open = Bench::opened();
    let record = open.gate.record(open.now);
    let restored = Gate::restore(GateSettings::default(), &record, open.now);
    assert_eq!((restored.state(), restored.reason()), (GateStateName::Open, open.gate.reason()));
    let closed = Bench::new();
    let restored = Gate::restore(GateSettings::default(), &closed.gate.record(closed.now), closed.now);
    assert_eq!(restored.state(), GateStateName::Ramp);
}

#[test]
fn beside_ten_probes_without_an_answer_the_next_waits_until_the_first_hangs() {
    let mut bench = Bench::opened();
    for job in 100..110 {
        bench.gate.checked(true);
        assert!(bench.send(job).is_some(), "job {job}");
    }
    bench.gate.checked(true);
    assert!(bench.send(200).is_none());
    assert_eq!(bench.gate.wait(bench.now.mono), Some(Duration::from_secs(5)));
    bench.wait(5_000);
    assert!(bench.send(200).is_some());
}

#[test]
fn calls_that_nothing_was_there_for_do_not_raise_the_limit() {
    let mut bench = Bench::new();
    let before = bench.gate.limit();
    for job in 0..2_000 {
        let admission = bench.gate.admit(64, bench.now.mono).unwrap();
        let epoch = bench.gate.epoch();
        bench.gate.give_back(admission, epoch, admission.count - 1);
        let id = JobId(Uuid::from_u128(job));
        let sent = bench.gate.granted(id, admission, Tick(1), epoch, bench.now.mono);
        bench.answer(job, sent, Class::Ok);
        bench.wait(2);
    }
    assert_eq!((bench.gate.limit(), bench.gate.in_flight()), (before, 0));
}

#[test]
fn a_clock_that_was_set_back_holds_a_restored_gate_no_longer_than_retry_after_may() {
    let now = Now { wall: Timestamp::from_millis(1_000_000), mono: Mono::from_millis(0) };
    let a_day_on = now.wall.plus(Duration::from_secs(86_400));
    let record =
        GateRecord { open: Some((a_day_on, "down".to_owned())), hold_until: Some(a_day_on), ..GateRecord::default() };
    let gate = Gate::restore(GateSettings::default(), &record, now);
    let most = RetryPolicy::MAX_RETRY_AFTER;
    assert!(gate.probe(now.mono.plus(most - Duration::from_secs(1))).is_none());
    assert!(gate.probe(now.mono.plus(most + Duration::from_secs(1))).is_some());
}
