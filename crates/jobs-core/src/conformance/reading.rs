//! Reading: lists, counters, gates.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::StoreUnderTest;
use super::rig::{BEGIN, Rig, api2, destination, seconds};
use crate::job::{DestinationName, Job, JobId, NewJob, Request, StateName};
use crate::outcome::{Class, Outcome};
use crate::store::{Filter, GateRecord, JobStore, Stats};

/// All jobs that `filter` lets through, over pages of `limit`.
pub async fn list_all(store: &dyn JobStore, filter: &Filter, limit: u32) -> Vec<Job> {
    let (mut all, mut below) = (Vec::new(), None);
    loop {
        let page = store.list(filter.clone(), below, limit).await.expect("jobs are listed");
        assert!(page.jobs.len() <= limit as usize, "a page holds no more than was asked for");
        all.extend(page.jobs);
        match (below, page.next) {
            (_, None) => return all,
            (Some(before), Some(next)) => assert!(next < before, "each page leads further"),
            (None, Some(_)) => {}
        }
        below = page.next;
    }
}

async fn listed(rig: &Rig, filter: Filter) -> Vec<JobId> {
    list_all(rig.store.as_ref(), &filter, 2).await.iter().map(|job| job.id).collect()
}

pub async fn jobs_are_listed_latest_accepted_first(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(rig.accept_one().await);
    }
    ids.reverse();
    for limit in [1, 2, 3, 7, 8, 1_000] {
        let jobs = list_all(rig.store.as_ref(), &Filter::default(), limit).await;
        assert_eq!(jobs.iter().map(|job| job.id).collect::<Vec<_>>(), ids, "pages of {limit}");
        assert_eq!(jobs[0], rig.stored(ids[0]).await);
    }
}

pub async fn a_page_begins_below_its_cursor(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let jobs = vec![rig.job(), rig.job(), rig.job()];
    rig.enqueue(jobs).await;
    let all = list_all(rig.store.as_ref(), &Filter::default(), 10).await;
    let page = rig.store.list(Filter::default(), Some(all[1].seq), 10).await.expect("jobs are listed");
    assert_eq!(page.jobs, all[2..]);
    let page = rig.store.list(Filter::default(), Some(all[2].seq), 10).await.expect("jobs are listed");
    assert_eq!(page.jobs, []);
}

pub async fn a_job_accepted_between_two_pages_shifts_none(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let jobs = vec![rig.job(), rig.job(), rig.job()];
    rig.enqueue(jobs).await;
    let all = list_all(rig.store.as_ref(), &Filter::default(), 10).await;
    let first = rig.store.list(Filter::default(), None, 1).await.expect("jobs are listed");
    rig.accept_one().await;
    let second = rig.store.list(Filter::default(), first.next, 1).await.expect("jobs are listed");
    assert_eq!([first.jobs, second.jobs].concat(), all[..2]);
}

pub async fn a_list_can_be_filtered(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let succeeded = rig.ended(StateName::Succeeded).await;
    let dead = rig.ended(StateName::Dead).await;
    let elsewhere = NewJob { destination: destination("elsewhere"), ..rig.job() };
    let elsewhere = rig.accept(elsewhere).await.id;
    let waiting = rig.accept_one().await;
    let state = |state| Filter { state: Some(state), ..Filter::default() };
    assert_eq!(listed(&rig, state(StateName::Pending)).await, [waiting, elsewhere]);
    assert_eq!(listed(&rig, state(StateName::Succeeded)).await, [succeeded]);
    assert_eq!(listed(&rig, state(StateName::Dead)).await, [dead]);
    assert_eq!(listed(&rig, state(StateName::Leased)).await, []);
    let at = |name| Filter { destination: Some(destination(name)), ..Filter::default() };
    assert_eq!(listed(&rig, at("api2")).await, [waiting, dead, succeeded]);
    assert_eq!(listed(&rig, at("elsewhere")).await, [elsewhere]);
    assert_eq!(listed(&rig, at("nowhere")).await, []);
    let both = Filter { state: Some(StateName::Pending), ..at("api2") };
    assert_eq!(listed(&rig, both).await, [waiting], "all conditions hold");
}

pub async fn a_list_can_be_searched_for_text(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let mut accept = async |body: &'static [u8]| {
        let request = Request { body: Bytes::from_static(body), ..Request::default() };
        let job = NewJob { request, ..rig.job() };
        rig.accept(job).await.id
    };
    let plain = accept(b"{\"name\": \"100% M\xc3\xbcller_'s\"}").await;
    let binary = accept(b"\xff\xfe\0 needle \0\xff").await;
    let empty = accept(b"").await;
    let outcome = Outcome { error: Some("needle of an error".to_owned()), ..Outcome::of(Class::JobFail) };
    rig.settle_outcome(rig.claim_this(empty).await, outcome).await;
    let text = |text: &str| Filter { text: Some(text.to_owned()), ..Filter::default() };
    assert_eq!(listed(&rig, text("needle")).await, [empty, binary], "in the body or the last error");
    assert_eq!(listed(&rig, text("Müller_'s")).await, [plain]);
    assert_eq!(listed(&rig, text("müller")).await, [], "upper and lower case differ");
    for wildcard in ["100%n", "%", "M_ller", "ne.dle", "*"] {
        let expected: &[JobId] = if wildcard == "%" { &[plain] } else { &[] };
        assert_eq!(listed(&rig, text(wildcard)).await, expected, "{wildcard} is no pattern");
    }
    let dead = Filter { state: Some(StateName::Dead), ..text("needle") };
    assert_eq!(listed(&rig, dead).await, [empty]);
}

/// What the counters must say, by looking at every job.
pub async fn recount(store: &dyn JobStore) -> BTreeMap<DestinationName, BTreeMap<StateName, u64>> {
    let mut counts: BTreeMap<DestinationName, BTreeMap<StateName, u64>> = BTreeMap::new();
    for job in list_all(store, &Filter::default(), 1_000).await {
        *counts.entry(job.destination).or_default().entry(job.state.name()).or_default() += 1;
    }
    counts
}

/// Counters without those that count nothing, which a store need not keep.
pub fn without_zeros(mut stats: Stats) -> Stats {
    for states in stats.destinations.values_mut() {
        states.retain(|_, count| *count > 0);
    }
    stats.destinations.retain(|_, states| !states.is_empty());
    stats.duplicates.retain(|_, count| *count > 0);
    stats.resolved.retain(|_, count| *count > 0);
    stats
}

pub async fn counters_follow_each_job_from_state_to_state(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let assert_counted = async |rig: &Rig| {
        let stats = without_zeros(rig.store.stats().await.expect("stats are read"));
        assert_eq!(stats.destinations, recount(rig.store.as_ref()).await);
        stats
    };
    assert_eq!(assert_counted(&rig).await, Stats::default());
    for end in [StateName::Succeeded, StateName::Dead, StateName::Cancelled] {
        rig.ended(end).await;
        assert_counted(&rig).await;
    }
    let elsewhere = NewJob { destination: destination("elsewhere"), ..rig.job() };
    rig.accept(elsewhere).await;
    let id = rig.accept_one().await;
    rig.claim_one().await;
    assert_counted(&rig).await;
    rig.lapse().await;
    assert_counted(&rig).await;
    rig.end(id, StateName::Dead).await;
    rig.redrive(id).await;
    let stats = assert_counted(&rig).await;
    assert_eq!((stats.accepted, stats.purged, stats.attempts), (5, 0, 3));
    assert_eq!(stats.in_state(StateName::Pending), 2);
}

pub async fn the_oldest_due_is_the_earliest_of_all_that_wait(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    let oldest = async |rig: &Rig| rig.store.oldest_due(&api2()).await.expect("a moment is read");
    assert_eq!(oldest(&rig).await, None);
    let at = |after| BEGIN.wall.plus(seconds(after));
    for (after, name) in [(50, None), (30, Some("k")), (10, Some("k"))] {
        let job = NewJob { run_at: at(after), ordering_key: name.map(str::to_owned), ..rig.job() };
        rig.accept(job).await;
    }
    let elsewhere = NewJob { destination: destination("elsewhere"), ..rig.job() };
    rig.accept(elsewhere).await;
    assert_eq!(oldest(&rig).await, Some(at(10)), "also behind a head");
    rig.pass(seconds(40));
    let lease = rig.claim_one().await;
    rig.settle(lease, Class::Ok).await;
    rig.settle(rig.claim_one().await, Class::Ok).await;
    assert_eq!(oldest(&rig).await, Some(at(50)));
}

pub async fn gates_are_kept_as_last_written(under_test: &impl StoreUnderTest) {
    let mut rig = Rig::open(under_test).await;
    assert_eq!(rig.store.gates().await, Ok(BTreeMap::new()));
    let open = GateRecord {
        epoch: u64::from(u32::MAX) + 7,
        open: Some((rig.now.wall, "5 failures: 'down'".to_owned())),
        misconfigured: true,
        hold_until: Some(rig.now.wall.plus(seconds(9))),
        goodput: 0.1 + 0.2,
        paused: true,
    };
    let records = [GateRecord::default(), open.clone(), GateRecord { goodput: f64::INFINITY, ..open }];
    for gate in &records {
        rig.store.put_gate(api2(), gate.clone()).await.expect("a gate is written");
        assert_eq!(rig.store.gates().await, Ok([(api2(), gate.clone())].into()));
    }
    rig.store.put_gate(destination("b"), records[1].clone()).await.expect("a gate is written");
    assert_eq!(rig.store.gates().await.map(|gates| gates.len()), Ok(2), "of a destination without jobs, too");
    rig.reopen_if_durable(under_test).await;
    assert_eq!(
        rig.store.gates().await,
        Ok([(api2(), records[2].clone()), (destination("b"), records[1].clone())].into())
    );
}

pub async fn what_is_not_there_is_answered_so(under_test: &impl StoreUnderTest) {
    let rig = Rig::open(under_test).await;
    let id = JobId(uuid::Uuid::from_u128(1));
    assert_eq!(rig.store.job(id).await, Ok(None));
    assert_eq!(rig.store.request(id).await, Ok(None));
    assert_eq!(rig.store.response(id).await, Ok(None));
    assert_eq!(rig.store.leases().await, Ok(Vec::new()));
    assert!(rig.store.start() >= 1);
}
