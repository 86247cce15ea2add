//! Which leases count, which are given back, and for whom places are kept.

use super::*;

#[test]
fn what_is_out_since_before_the_outage_takes_no_place_after_it() {
    let mut gateway = Gateway::new(|_| {});
    gateway.enqueue(40);
    let old = gateway.claim(16);
    assert_eq!(old.len(), 16);
    for lease in &old[..5] {
        gateway.settle(lease, Class::Down);
    }
    let probe = gateway.claim_in(500).expect("a probe");
    gateway.settle(&probe, Class::Ok);
    let mut granted = 0;
    while gateway.claim_in(1_000).is_some() {
        granted += 1;
    }
    assert_eq!(granted, gateway.view().limit, "a whole limit, beside the eleven of before");
    let (lost, others) = (&old[5], &old[6..]);
    let job = gateway.settle(lost, Class::Down);
    assert!(pending(&job).fail_epoch < gateway.view().epoch, "due at once");
    for lease in others {
        gateway.settle(lease, Class::Down);
    }
    assert_eq!(gateway.view().state, GateStateName::Ramp, "they say nothing about now");
}

#[test]
fn a_fifth_of_what_a_drain_is_granted_is_for_the_fresh_in_small_grants_and_large_ones() {
    let mut gateway = Gateway::opened(|_| {});
    gateway.enqueue(60);
    gateway.pass(desk::FRESH.as_millis() as u64);
    let probe = gateway.claim(9).remove(0);
    gateway.settle(&probe, Class::Ok);
    let mut fresh = 0;
    for _ in 0..50 {
        gateway.enqueue(1);
        let lease = gateway.claim_in(1_000).expect("there is a backlog");
        fresh += u32::from(lease.job.accepted_at.plus(desk::FRESH) > gateway.now.wall);
        gateway.settle(&lease, Class::Ok);
    }
    assert_eq!(fresh, 10);
    let mut gateway = Gateway::new(|_| {});
    gateway.restart(|_| {});
    gateway.enqueue(9);
    let grants = gateway.dispatcher().plan(worker(1), 100, 9, gateway.now);
    assert_eq!(grants[0].fresh, 0, "of a single one nothing, yet");
    gateway.pass(1_000);
    assert!(gateway.dispatcher().plan(worker(1), 100, 9, gateway.now).iter().all(|grant| grant.fresh <= grant.max));
}

#[test]
fn a_fifth_is_for_the_fresh_also_where_payloads_end_each_claim_early() {
    let mut gateway = Gateway::new(|_| {});
    gateway.restart(|_| {});
    gateway.enqueue(400);
    gateway.pass(desk::FRESH.as_millis() as u64 + 1_000);
    let old_until = gateway.now.wall;
    let (mut old, mut fresh) = (0, 0);
    for _ in 0..100 {
        gateway.pass(100);
        gateway.enqueue(4);
        let grants = gateway.dispatcher().plan(worker(1), 1_000, 4, gateway.now);
        // As if two payloads were all that one claim can carry.
        let within: Vec<Grant> = grants
            .iter()
            .map(|grant| Grant { max: grant.max.min(2), fresh: grant.fresh.min(2), ..grant.clone() })
            .collect();
        let claimed = gateway.store.claim(worker(1), &within, gateway.now);
        gateway.dispatcher().claimed(&grants, &Claimed { exhausted: vec![], ..claimed.clone() }, gateway.now);
        for lease in &claimed.leases {
            old += u32::from(lease.job.accepted_at < old_until);
            fresh += u32::from(lease.job.accepted_at >= old_until);
            gateway.settle(lease, Class::Ok);
        }
    }
    assert!(old + fresh >= 190 && fresh.abs_diff((old + fresh) / 5) <= 1, "{fresh} of {} were fresh", old + fresh);
}

#[test]
fn once_the_backlog_is_gone_nothing_is_reserved() {
    let mut gateway = Gateway::new(|_| {});
    gateway.restart(|_| {});
    gateway.enqueue(2);
    while let Some(lease) = gateway.claim_in(500) {
        gateway.settle(&lease, Class::Ok);
    }
    let mut reserved = 0;
    for _ in 0..20 {
        gateway.enqueue(1);
        gateway.pass(100);
        let grants = gateway.dispatcher().plan(worker(1), 100, 1, gateway.now);
        reserved += grants.iter().map(|grant| grant.fresh).sum::<u32>();
        gateway.dispatcher().claim_failed(&grants, gateway.now);
    }
    assert_eq!(reserved, 0);
}

#[test]
fn a_worker_is_told_to_release_what_it_holds_unsent_of_a_held_destination_but_not_its_probe() {
    let mut gateway = Gateway::new(|_| {});
    gateway.enqueue(9);
    let leases = gateway.claim(8);
    let told = |gateway: &Gateway, n, new: &[LeaseKey]| {
        gateway.dispatcher().releases(worker(n), &new.iter().copied().collect()).len()
    };
    assert_eq!(told(&gateway, 1, &[]), 0);
    for lease in &leases[..5] {
        gateway.settle(lease, Class::Down);
    }
    assert_eq!((told(&gateway, 1, &[]), told(&gateway, 2, &[])), (1, 0), "who holds something");
    let probe = gateway.claim_in(500).expect("a probe");
    let key = LeaseKey { job_id: probe.job.id, epoch: probe.epoch };
    assert_eq!(told(&gateway, 1, &[key]), 1, "the answer that brings the probe tells of the others");
    assert_eq!(told(&gateway, 1, &[]), 0, "later it would mean the probe, too");
    for lease in &leases[5..] {
        let key = LeaseKey { job_id: lease.job.id, epoch: lease.epoch };
        gateway.report(worker(1), Settlement { key, report: Report::Released });
    }
    gateway.settle(&probe, Class::Down);
    assert_eq!((told(&gateway, 1, &[]), gateway.view().in_flight), (0, 0));
}

#[test]
fn a_lease_that_ended_before_its_claim_was_heard_of_takes_no_place() {
    let mut gateway = Gateway::new(|settings| settings.max_in_flight = Some(1));
    gateway.enqueue(2);
    let grants = gateway.dispatcher().plan(worker(1), 10, 1, gateway.now);
    let claimed = gateway.store.claim(worker(1), &grants, gateway.now);
    gateway.settle(&claimed.leases[0], Class::Ok);
    gateway.dispatcher().claimed(&grants, &claimed, gateway.now);
    assert_eq!(gateway.view().in_flight, 0);
    assert_eq!(gateway.claim(1).len(), 1);
}
