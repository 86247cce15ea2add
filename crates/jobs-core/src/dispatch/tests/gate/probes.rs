//! Who tries out a destination that is held, and when.

use super::*;

#[test]
fn a_lone_job_is_tried_on_its_own_schedule_and_charged_nothing() {
    let mut gateway = Gateway::new(|_| {});
    gateway.enqueue(1);
    let (mut delays, mut due) = (Vec::new(), gateway.now.wall);
    for _ in 0..8 {
        let mut looks = 0;
        let lease = loop {
            match gateway.claim(1).pop() {
                Some(lease) => break lease,
                None => gateway.now = gateway.now.plus(gateway.wake_in().expect("it is due some time")),
            }
            looks += 1;
            assert!(looks < 5, "a parked claim need not look often");
        };
        assert_eq!(gateway.now.wall, due, "as soon as it is due");
        let job = gateway.settle(&lease, Class::Overload);
        assert_eq!((job.progress.charged, pending(&job).cause), (0, Cause::Destination));
        due = pending(&job).run_at;
        delays.push(due.since(gateway.now.wall).as_secs());
    }
    assert_eq!(delays, [2, 4, 8, 16, 32, 64, 128, 256]);
    assert_eq!(gateway.view().state, GateStateName::Open);
}

#[test]
fn a_probe_that_fails_on_its_own_account_as_well_is_charged_nothing() {
    let mut gateway = Gateway::new(|_| {});
    gateway.enqueue(1);
    for class in [Class::Overload, Class::Overload, Class::Error, Class::Error] {
        let lease = gateway.claim_in(400_000).expect("it is due some time");
        let job = gateway.settle(&lease, class);
        assert_eq!((job.progress.charged, pending(&job).cause), (0, Cause::Destination), "{class:?}");
    }
    assert_eq!(gateway.view().state, GateStateName::Open);
}

#[test]
fn a_healthy_check_has_a_waiting_job_tried_at_once() {
    let mut gateway = Gateway::opened(with_health_check);
    assert!(gateway.claim_in(600).is_none(), "all wait for their own time");
    gateway.dispatcher().health_checked(&name("a"), true);
    let (one, other) = (gateway.claim(9), gateway.claim_by(worker(2), 9));
    assert_eq!((one.len(), other.len()), (1, 0), "one job decides");
    gateway.settle(&one[0], Class::Ok);
    assert_eq!(gateway.view().epoch, 1);
}

#[test]
fn a_health_check_that_was_wrong_is_not_believed_for_a_while() {
    let mut gateway = Gateway::opened(with_health_check);
    let mut tried = Vec::new();
    for ms in 0..1_500 {
        gateway.pass(1);
        gateway.dispatcher().health_checked(&name("a"), true);
        for lease in gateway.claim(9) {
            tried.push(ms);
            gateway.settle(&lease, Class::Down);
        }
    }
    assert_eq!(tried.len(), 2, "{tried:?}");
    assert!((1_000..1_010).contains(&(tried[1] - tried[0])), "{tried:?}");
}

#[test]
fn a_healthy_check_without_a_job_that_waits_for_it_asks_the_store_one_time() {
    let mut gateway = Gateway::opened(with_health_check);
    for id in gateway.rows().iter().map(|job| job.id).collect::<Vec<_>>() {
        gateway.store.cancel(id, crate::destination::OrderingOnDead::Free, gateway.now);
    }
    let later = gateway.now.wall.plus(Duration::from_secs(3_600));
    gateway.store.enqueue(vec![NewJob { run_at: later, ..new_job(99, "a") }], gateway.now).unwrap();
    gateway.dispatcher().work_arrived(&name("a"), later);
    gateway.dispatcher().health_checked(&name("a"), true);
    let mut asked = 0;
    for _ in 0..400 {
        gateway.pass(1);
        let grants = gateway.dispatcher().plan(worker(1), 10, 9, gateway.now);
        asked += grants.len();
        let claimed = gateway.store.claim(worker(1), &grants, gateway.now);
        gateway.dispatcher().claimed(&grants, &claimed, gateway.now);
    }
    assert_eq!(asked, 1);
}

#[test]
fn a_healthy_check_outlasts_a_claim_that_ended_before_its_probe() {
    let gateway = Gateway::opened(with_health_check);
    gateway.dispatcher().health_checked(&name("a"), true);
    let grants = gateway.dispatcher().plan(worker(1), 1, 1, gateway.now);
    assert_eq!(grants[0].kind, Kind::Probe { on_health: true });
    let of_another = Claimed { leases: vec![lease(900, "b", None)], ..Claimed::default() };
    gateway.dispatcher().claimed(&grants, &of_another, gateway.now);
    let again = gateway.dispatcher().plan(worker(1), 1, 1, gateway.now);
    assert_eq!(again[0].kind, Kind::Probe { on_health: true }, "a job waits for it still");
    gateway.dispatcher().claimed(&again, &Claimed::default(), gateway.now);
    assert_eq!(gateway.dispatcher().plan(worker(1), 1, 1, gateway.now), [], "not until the next check");
}

#[test]
fn health_checks_are_made_twice_a_second_while_the_gate_is_open_and_each_by_one_worker() {
    let mut gateway = Gateway::new(with_health_check);
    assert_eq!(gateway.dispatcher().health_checks(gateway.now), []);
    gateway = Gateway::opened(with_health_check);
    let mut made = Vec::new();
    for ms in 0..2_001 {
        made.extend(gateway.dispatcher().health_checks(gateway.now).iter().map(|_| ms));
        gateway.pass(1);
    }
    assert_eq!(made, [0, 500, 1_000, 1_500, 2_000]);
    let wait = gateway.wake_in();
    assert!(wait.is_some_and(|wait| wait < Duration::from_millis(500)), "{wait:?}");
    gateway.pass(500);
    gateway.dispatcher().pause(&name("a"), gateway.now);
    assert_eq!(gateway.dispatcher().health_checks(gateway.now), [], "nothing is asked of what is held by hand");
}

#[test]
fn one_probe_is_on_its_way_however_many_workers_ask() {
    let mut gateway = Gateway::opened(|_| {});
    gateway.enqueue(9);
    gateway.pass(400);
    let first = gateway.dispatcher().plan(worker(1), 10, 10, gateway.now);
    assert_eq!((first.len(), first[0].max, first[0].kind), (1, 1, Kind::Probe { on_health: false }));
    assert!(gateway.dispatcher().plan(worker(2), 10, 10, gateway.now).is_empty());
    gateway.dispatcher().claim_failed(&first, gateway.now);
    assert_eq!(gateway.dispatcher().plan(worker(2), 10, 10, gateway.now).len(), 1);
}

#[test]
fn a_server_that_hangs_is_probed_although_its_calls_hold_the_whole_share() {
    let mut gateway = Gateway::new(|_| {});
    let other = Arc::new(Destination::new(name("b"), "http://127.0.0.1/".to_owned()));
    let settings = gateway.dispatcher().destination("a").unwrap();
    gateway.dispatcher().configure(BTreeMap::from([(name("a"), settings), (name("b"), other)]), gateway.now);
    gateway.enqueue(30);
    let grants = gateway.dispatcher().plan(worker(1), 16, 16, gateway.now);
    let claimed = gateway.store.claim(worker(1), &grants, gateway.now);
    gateway.dispatcher().claimed(&grants, &claimed, gateway.now);
    for lease in &claimed.leases[..5] {
        gateway.settle(lease, Class::Down);
    }
    let held = gateway.claim_by(worker(1), 0).len() + gateway.view().in_flight as usize;
    assert!(held >= 3, "{held}");
    gateway.pass(400);
    let probe = gateway.dispatcher().plan(worker(1), 1, 10, gateway.now);
    assert_eq!(probe.iter().map(|grant| grant.max).sum::<u32>(), 1);
}

#[test]
fn the_operators_own_bound_holds_for_probes_too() {
    let mut gateway = Gateway::new(|settings| settings.max_in_flight = Some(6));
    gateway.enqueue(30);
    let leases = gateway.claim(6);
    for lease in &leases[..5] {
        gateway.settle(lease, Class::Down);
        gateway.enqueue(1);
    }
    let mut out = gateway.view().in_flight;
    while gateway.claim_in(2_000).is_some() {
        out += 1;
    }
    assert_eq!((out, gateway.view().in_flight, gateway.view().limit), (6, 6, 6));
}

#[test]
fn a_parked_claim_looks_again_when_the_next_probe_may_go() {
    let mut gateway = Gateway::opened(|_| {});
    gateway.enqueue(40);
    let mut probes = 0;
    for _ in 0..200 {
        match gateway.claim(9).pop() {
            Some(_hangs) => probes += 1,
            None => {
                let Some(wait) = gateway.wake_in() else { break };
                gateway.now = gateway.now.plus(wait);
            }
        }
    }
    assert_eq!(probes, 32, "then only an answer lets another go");
}
