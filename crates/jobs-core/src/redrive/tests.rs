//! What a mass redrive does next, from its first look to its end.

use std::time::Duration;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_000);

fn plan(canary: u32, ratio: f64) -> Plan {
    Plan {
        filter: Filter { state: Some(StateName::Dead), ..Filter::default() },
        mode: Mode::Run,
        canary,
        per_second: None,
        stop_on_failure_ratio: ratio,
        new_key: false,
    }
}

/// One that has counted 100 jobs.
fn counted(canary: u32, ratio: f64) -> MassRedrive {
    let mut redrive = MassRedrive::new(1, plan(canary, ratio), "me".to_owned(), NOW);
    assert_eq!(redrive.next(), Step::Count);
    redrive.apply(Change::Counted { to: 60, found: 60, end: false }, NOW).unwrap();
    assert_eq!(redrive.next(), Step::Count);
    redrive.apply(Change::Counted { to: 100, found: 40, end: true }, NOW).unwrap();
    assert_eq!(redrive.matched, 100);
    redrive
}

fn tell(redrive: &mut MassRedrive, succeeded: u64, failed: u64) {
    redrive.tally.count(Verdict::Succeeded, succeeded);
    redrive.tally.count(Verdict::Failed, failed);
}

fn stops(redrive: &MassRedrive) -> bool {
    matches!(redrive.next(), Step::Change(Change::Stop(Stop { by_rule: true, .. })))
}

#[test]
fn a_preview_counts_and_redrives_nothing() {
    let plan = Plan { mode: Mode::Preview, ..plan(5, 0.5) };
    let mut preview = MassRedrive::new(1, plan, "me".to_owned(), NOW);
    preview.apply(Change::Counted { to: 9, found: 3, end: true }, NOW).unwrap();
    assert_eq!((preview.phase, preview.next(), preview.matched), (Phase::Previewed, Step::Nothing, 3));
    assert!(!preview.may_redrive() && !preview.is_active());
    assert_eq!(preview.apply(Change::Resume, NOW), Err(Unfit));
}

#[test]
fn the_canary_is_waited_for_before_the_others_go() {
    let mut redrive = counted(3, 0.5);
    assert_eq!(redrive.next(), Step::Redrive(3));
    redrive.advance(2, 2, 0, false, NOW);
    assert_eq!(redrive.next(), Step::Redrive(1));
    redrive.advance(3, 1, 0, false, NOW);
    tell(&mut redrive, 2, 0);
    assert_eq!(redrive.next(), Step::Wait);
    tell(&mut redrive, 0, 1);
    assert_eq!(redrive.next(), Step::Change(Change::CanaryPassed), "one of three is no more than half");
    redrive.apply(Change::CanaryPassed, NOW).unwrap();
    assert_eq!((redrive.phase, redrive.next()), (Phase::Running, Step::Redrive(u64::MAX)));
    redrive.advance(100, 97, 0, true, NOW);
    assert_eq!((redrive.phase, redrive.next()), (Phase::Done, Step::Nothing));
}

#[test]
fn a_canary_that_fails_stops_it_and_a_resume_goes_on_without_one() {
    let mut redrive = counted(2, 0.5);
    redrive.advance(2, 2, 0, false, NOW);
    tell(&mut redrive, 0, 2);
    let Step::Change(stop) = redrive.next() else { panic!("{:?}", redrive.next()) };
    redrive.apply(stop.clone(), NOW).unwrap();
    assert_eq!(redrive.stop.as_ref().unwrap().reason, "2 of 2 outcomes were failures");
    assert_eq!((redrive.next(), redrive.is_active(), redrive.may_redrive()), (Step::Nothing, false, false));
    assert_eq!(redrive.apply(stop, NOW), Err(Unfit), "it rests already");
    redrive.apply(Change::Resume, NOW).unwrap();
    assert_eq!((redrive.phase, redrive.next()), (Phase::Running, Step::Redrive(u64::MAX)), "what failed is forgiven");
    tell(&mut redrive, 4, 6);
    assert!(stops(&redrive), "and what fails from now on is not");
}

#[test]
fn a_stop_by_hand_is_resumed_where_it_was() {
    for phase in [Phase::Counting, Phase::Canary, Phase::Running] {
        let mut redrive = MassRedrive { phase, ..counted(5, 0.5) };
        let before = redrive.next();
        redrive.apply(Change::Stop(Stop { reason: "lunch".to_owned(), by_rule: false }), NOW).unwrap();
        assert_eq!(redrive.next(), Step::Nothing);
        assert_eq!(redrive.apply(Change::CanaryPassed, NOW), Err(Unfit), "a late step changes nothing");
        assert_eq!(redrive.apply(Change::Counted { to: 200, found: 1, end: true }, NOW), Err(Unfit));
        redrive.apply(Change::Resume, NOW).unwrap();
        assert_eq!((redrive.phase, redrive.next()), (phase, before));
    }
}

#[test]
fn a_share_of_failures_means_something_from_ten_outcomes_on() {
    let mut redrive = counted(0, 0.2);
    redrive.advance(50, 50, 0, false, NOW);
    tell(&mut redrive, 0, 9);
    assert_eq!(redrive.next(), Step::Redrive(u64::MAX));
    tell(&mut redrive, 36, 0);
    assert_eq!(redrive.next(), Step::Redrive(u64::MAX), "exactly the share that is allowed");
    tell(&mut redrive, 0, 1);
    assert!(stops(&redrive));
    redrive.plan.stop_on_failure_ratio = 1.0;
    assert!(!stops(&redrive), "1 never stops it");
}

#[test]
fn a_cancelled_canary_holds_nobody_up() {
    let mut redrive = counted(1, 0.0);
    redrive.advance(1, 1, 0, false, NOW);
    redrive.tally.count(Verdict::Cancelled, 1);
    assert_eq!(redrive.next(), Step::Change(Change::CanaryPassed));
}

#[test]
fn what_ends_after_it_was_asked_for_is_not_its_business() {
    for (asked, kept) in [(None, NOW), (Some(900), Timestamp::from_millis(900)), (Some(2_000), NOW)] {
        let mut plan = plan(0, 0.5);
        plan.filter.finished_until = asked.map(Timestamp::from_millis);
        assert_eq!(MassRedrive::new(1, plan, "me".to_owned(), NOW).plan.filter.finished_until, Some(kept));
    }
}

#[test]
fn a_pace_lets_through_what_its_rate_says_and_saves_up_a_second_at_most() {
    let at = |millis: u64| Mono::from_millis(5_000 + millis);
    let mut pace = Pace::default();
    assert_eq!(pace.allow(None, 500, at(0)), 500, "no rate, no pace");
    assert_eq!(pace.allow(Some(20.0), 500, at(0)), 0);
    let mut went = 0;
    for tick in 1..=100 {
        let allowed = pace.allow(Some(20.0), 500, at(tick * 100));
        pace.spend(allowed);
        went += allowed;
    }
    assert_eq!(went, 200, "in ten seconds");
    assert_eq!(pace.allow(Some(20.0), 500, at(60_000)), 20);
    assert_eq!(pace.allow(Some(20.0), 7, at(60_000)), 7);
    let mut slow = Pace::default();
    slow.allow(Some(0.1), 1, at(0));
    assert_eq!(slow.allow(Some(0.1), 1, at(9_000)), 0);
    assert_eq!(slow.allow(Some(0.1), 1, at(10_000)), 1, "less than one a second");
    assert_eq!(Duration::from_secs(10), at(10_000).since(at(0)));
}
