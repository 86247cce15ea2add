//! What opens a gate, and what does not: one rule a test.

use uuid::Uuid;

use super::super::*;
use super::rig::Bench;

#[test]
fn refusals_that_nothing_follows_open_it_once_they_have_lasted() {
    let mut bench = Bench::new();
    let sents: Vec<Sent> = (1..=5).map(|job| bench.send(job).unwrap()).collect();
    for (job, sent) in (1..).zip(sents) {
        assert_eq!(bench.answer(job, sent, Class::Overload), None, "a burst may be too much for a busy one");
    }
    assert_eq!(bench.gate.look(bench.now), None);
    bench.wait(300);
    assert_eq!(bench.gate.look(bench.now), Some(Transition::Opened));
    assert_eq!(bench.gate.reason().unwrap().1, "down: overload");
    assert_eq!(bench.gate.look(bench.now), None, "it is open by now");

    let mut alive = Bench::new();
    let mut sents: Vec<Sent> = (1..=6).map(|job| alive.send(job).unwrap()).collect();
    let slow = sents.remove(5);
    for (job, sent) in (1..).zip(sents) {
        alive.answer(job, sent, Class::Overload);
    }
    alive.answer(6, slow, Class::Ok);
    alive.wait(300);
    assert_eq!(alive.gate.look(alive.now), None);
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
    bench.gate.nothing_is_due(Kind::Regular);
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
