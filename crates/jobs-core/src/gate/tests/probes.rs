//! What an open gate lets through, and how it closes again: one rule a test.

use uuid::Uuid;

use super::super::*;
use super::rig::Bench;

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
fn calls_that_a_claim_ended_before_do_not_raise_the_limit() {
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
fn calls_that_a_claim_did_not_come_to_say_nothing_of_the_limit_unless_none_were_due() {
    for exhausted in [false, true] {
        let mut bench = Bench::new();
        let (before, epoch) = (bench.gate.limit(), bench.gate.epoch());
        for round in 0..100_u128 {
            let admission = bench.gate.admit(1_000, bench.now.mono).unwrap();
            let mut send = |n: u32| {
                let job = round * 10_000 + u128::from(n);
                let id = JobId(Uuid::from_u128(job));
                (job, bench.gate.granted(id, admission, Tick(1), epoch, bench.now.mono))
            };
            let sent: Vec<_> = (0..admission.count).map(&mut send).collect();
            for (job, sent) in sent {
                bench.answer(job, sent, Class::Ok);
            }
            let another = bench.gate.admit(1_000, bench.now.mono).unwrap();
            bench.gate.give_back(another, epoch, another.count);
            if exhausted {
                bench.gate.nothing_is_due(another.kind);
            }
            bench.wait(20);
        }
        assert_eq!(bench.gate.limit() > before, !exhausted, "exhausted: {exhausted}");
    }
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
