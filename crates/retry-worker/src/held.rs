//! The leases this worker holds: from the claim's answer until a gateway has taken their outcome.
//!
//! It decides one thing, and at one moment: whether a request may be *written*. That moment is when the connection takes
//! the request ([`Lease::begin_send`]), not when the call was begun, because connecting can take seconds in which the lease is
//! lost. After it nothing is aborted: an abort cannot unsend, and loses the answer.
//!
//! All of it may be lost at any time: the leases then lapse, and their jobs are granted again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jobs_core::job::DestinationName;
use jobs_core::lease::LeaseKey;
use jobs_core::protocol::{ExtendResponse, WireLease};
use jobs_core::time::Mono;
use jobs_core::trace;
use tokio::sync::Notify;

/// No request is written with less than this left of its lease: time enough for the destination to see it before the
/// job can be granted to another worker.
pub(crate) const MIN_LEFT: Duration = Duration::from_millis(500);

/// How often the leases held may outnumber the calls that may be in flight: the others have ended and wait to be reported.
/// It bounds the memory that answers take while no gateway takes them.
const HELD_PER_CALL: u32 = 2;

const UNSENT: u8 = 0;
const SENT: u8 = 1;
const WITHDRAWN: u8 = 2;

/// One lease in hand.
pub struct Lease {
    pub key: LeaseKey,
    pub destination: DestinationName,
    /// Its number among the job's attempts.
    pub attempt: u32,
    /// Of W3C Trace Context.
    pub trace_id: String,
    /// [`UNSENT`], then once and for all [`SENT`] or [`WITHDRAWN`].
    state: AtomicU8,
    /// The gateway has said that it is another's by now.
    lost: AtomicBool,
    /// Both in microseconds of the worker's monotonic clock.
    deadline_us: AtomicU64,
    sent_at_us: AtomicU64,
}

impl Lease {
    fn new(granted: &WireLease, answered: Mono) -> Self {
        Lease {
            key: LeaseKey { job_id: granted.job_id, epoch: granted.epoch },
            destination: granted.destination.clone(),
            attempt: granted.attempt,
            trace_id: trace::trace_id(granted.traceparent.as_deref(), granted.job_id),
            state: AtomicU8::new(UNSENT),
            lost: AtomicBool::new(false),
            deadline_us: AtomicU64::new(micros(answered.plus(Duration::from_millis(granted.lease_ms)))),
            sent_at_us: AtomicU64::new(0),
        }
    }

    /// Asked when the request is about to be written: whether it may be. The answer stands for good; a lease that is about to
    /// end is withdrawn.
    pub fn begin_send(&self, now: Mono) -> bool {
        if self.state.load(Ordering::Acquire) == UNSENT {
            let in_time = micros(now.plus(MIN_LEFT)) <= self.deadline_us.load(Ordering::Acquire);
            self.sent_at_us.store(micros(now), Ordering::Release);
            self.decide(if in_time { SENT } else { WITHDRAWN });
        }
        self.state.load(Ordering::Acquire) == SENT
    }

    /// It is not to be sent, unless it has been.
    fn withdraw(&self) {
        self.decide(WITHDRAWN);
    }

    /// Nobody waits for an answer any more. Answers whether the request may have been written; if not, it never will be.
    pub fn give_up(&self) -> bool {
        self.withdraw();
        self.sent_at().is_some()
    }

    fn decide(&self, state: u8) {
        // Failing means that it has been decided before, which is final.
        self.state.compare_exchange(UNSENT, state, Ordering::AcqRel, Ordering::Acquire).ok();
    }

    pub fn is_withdrawn(&self) -> bool {
        self.state.load(Ordering::Acquire) == WITHDRAWN
    }

    /// When the request was written, as far as it may have been; `None` if certainly not.
    pub fn sent_at(&self) -> Option<Mono> {
        let sent = self.state.load(Ordering::Acquire) == SENT;
        sent.then(|| Mono::from_duration(Duration::from_micros(self.sent_at_us.load(Ordering::Acquire))))
    }

    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }
}

/// All leases in hand.
pub struct Held {
    concurrency: u32,
    table: Mutex<Table>,
    in_flight: AtomicU32,
    /// Slots that claims under way may fill.
    asked: AtomicU32,
    /// Claims under way.
    claims: AtomicU32,
    freed: Notify,
    emptied: Notify,
}

#[derive(Default)]
struct Table {
    leases: HashMap<LeaseKey, Arc<Lease>>,
    /// The worker is draining: what comes in now is not sent.
    draining: bool,
}

impl Held {
    /// For at most `concurrency` calls in flight.
    pub fn new(concurrency: u32) -> Self {
        Held {
            concurrency,
            table: Mutex::default(),
            in_flight: AtomicU32::new(0),
            asked: AtomicU32::new(0),
            claims: AtomicU32::new(0),
            freed: Notify::new(),
            emptied: Notify::new(),
        }
    }

    /// Takes in what a claim granted; `answered` is when its answer began to come. Each lease is in flight until [`Held::ended`].
    pub fn begin(&self, granted: &[WireLease], answered: Mono) -> Vec<Arc<Lease>> {
        let leases: Vec<Arc<Lease>> = granted.iter().map(|granted| Arc::new(Lease::new(granted, answered))).collect();
        let mut table = self.table();
        if table.draining {
            leases.iter().for_each(|lease| lease.withdraw());
        }
        table.leases.extend(leases.iter().map(|lease| (lease.key, lease.clone())));
        self.in_flight.fetch_add(u32::try_from(leases.len()).unwrap_or(u32::MAX), Ordering::AcqRel);
        leases
    }

    /// A call is over, its outcome handed on to be reported: its slot is free again.
    pub fn ended(&self) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.freed.notify_one();
    }

    /// A gateway has taken the outcomes of these leases, or there is nothing to report: they are no longer ours.
    pub fn settled<'a>(&self, keys: impl IntoIterator<Item = &'a LeaseKey>) {
        let mut table = self.table();
        for key in keys {
            table.leases.remove(key);
        }
        let empty = table.leases.is_empty();
        drop(table);
        self.freed.notify_one();
        if empty {
            self.emptied.notify_one();
        }
    }

    /// The leases to renew: all but those known to be lost.
    pub fn keys(&self) -> Vec<LeaseKey> {
        self.table().leases.values().filter(|lease| !lease.is_lost()).map(|lease| lease.key).collect()
    }

    /// The answer to a heartbeat that was sent at `sent` and listed `keys`. Answers how many leases it found lost.
    pub fn extended(&self, keys: &[LeaseKey], answer: &ExtendResponse, sent: Mono) -> usize {
        let table = self.table();
        let find =
            |keys: &[LeaseKey]| -> Vec<&Arc<Lease>> { keys.iter().filter_map(|key| table.leases.get(key)).collect() };
        let lost = find(&answer.lost);
        for lease in &lost {
            lease.lost.store(true, Ordering::Release);
            lease.withdraw();
        }
        let deadline = micros(sent.plus(Duration::from_millis(answer.lease_ms)));
        for lease in find(keys).iter().filter(|lease| !lease.is_lost()) {
            lease.deadline_us.fetch_max(deadline, Ordering::AcqRel);
        }
        find(&answer.cancel).iter().for_each(|lease| lease.withdraw());
        lost.len()
    }

    /// These destinations are held: what has not been sent to them of `leases` is not to be. What has come since is meant to
    /// be sent: it is a probe.
    pub fn withdraw_from(&self, destinations: &[DestinationName], leases: &[LeaseKey]) {
        if !destinations.is_empty() {
            let table = self.table();
            let held = leases.iter().filter_map(|key| table.leases.get(key));
            held.filter(|lease| destinations.contains(&lease.destination)).for_each(|lease| lease.withdraw());
        }
    }

    /// Nothing is sent from now on.
    pub fn drain(&self) {
        let mut table = self.table();
        table.draining = true;
        table.leases.values().for_each(|lease| lease.withdraw());
    }

    /// Resolves when no lease is held any more.
    pub(crate) async fn drained(&self) {
        while !self.table().leases.is_empty() {
            self.emptied.notified().await;
        }
    }

    /// Resolves when [`Held::room`] may have grown, for one of those who wait.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// How many more leases may be claimed.
    pub fn room(&self) -> u32 {
        self.room_beside(&self.table())
    }

    fn room_beside(&self, table: &Table) -> u32 {
        let held = u32::try_from(table.leases.len()).unwrap_or(u32::MAX);
        let slots = self.concurrency.saturating_sub(self.in_flight());
        let room = slots.min((self.concurrency * HELD_PER_CALL).saturating_sub(held));
        room.saturating_sub(self.asked.load(Ordering::Acquire))
    }

    /// Keeps all the room there is, at most `most`, for a claim, until the answer is dropped; `None` if that is less than `least`.
    pub fn ask(&self, least: u32, most: u32) -> Option<Asked<'_>> {
        // Two claims at once must not ask for the same slots.
        let table = self.table();
        let count = Some(self.room_beside(&table).min(most)).filter(|count| *count >= least)?;
        self.asked.fetch_add(count, Ordering::AcqRel);
        self.claims.fetch_add(1, Ordering::AcqRel);
        Some(Asked { held: self, count })
    }

    /// Whether a claim is under way.
    pub(crate) fn is_asking(&self) -> bool {
        self.claims.load(Ordering::Acquire) > 0
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Acquire)
    }

    pub(crate) fn len(&self) -> usize {
        self.table().leases.len()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nothing panics while it holds this lock")
    }
}

/// Room that the rest of a claim under way may fill. To be dropped when its answer has been taken in.
pub struct Asked<'a> {
    held: &'a Held,
    pub count: u32,
}

impl Asked<'_> {
    /// So many leases of its answer are in flight by now, and have their slots.
    pub fn filled(&mut self, leases: usize) {
        let filled = u32::try_from(leases).unwrap_or(u32::MAX).min(self.count);
        self.count -= filled;
        self.held.asked.fetch_sub(filled, Ordering::AcqRel);
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.held.asked.fetch_sub(self.count, Ordering::AcqRel);
        self.held.claims.fetch_sub(1, Ordering::AcqRel);
        self.held.freed.notify_one();
    }
}

fn micros(moment: Mono) -> u64 {
    u64::try_from(moment.as_duration().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(job: u128, destination: &str) -> WireLease {
        let text = format!(
            r#"{{"job_id":"{}","epoch":1,"lease_ms":5000,"destination":"{destination}","attempt":1,
                "request":{{"method":"POST","url":"http://127.0.0.1","timeout_ms":1}}}}"#,
            uuid::Uuid::from_u128(job)
        );
        serde_json::from_str(&text).unwrap()
    }

    fn at(ms: u64) -> Mono {
        Mono::from_millis(ms)
    }

    #[test]
    fn nothing_is_sent_with_less_than_half_a_second_left() {
        let held = Held::new(8);
        let leases = held.begin(&[granted(1, "a"), granted(2, "a")], at(0));
        assert!(leases[0].begin_send(at(4_500)));
        assert!(leases[0].begin_send(at(9_000)), "what is sent stays sent");
        assert!(!leases[1].begin_send(at(4_501)));
        assert!(!leases[1].begin_send(at(0)), "what is withdrawn stays withdrawn");
        assert_eq!(leases[0].sent_at(), Some(at(4_500)));
        assert_eq!(leases[1].sent_at(), None);
    }

    #[test]
    fn what_is_given_up_unsent_is_never_written() {
        let held = Held::new(8);
        let leases = held.begin(&[granted(1, "a"), granted(2, "a")], at(0));
        assert!(leases[0].begin_send(at(1)));
        assert!(leases[0].give_up());
        assert!(!leases[1].give_up());
        assert!(!leases[1].begin_send(at(2)), "a connection that comes late");
        assert_eq!(leases[1].sent_at(), None);
    }

    #[test]
    fn a_heartbeat_renews_what_it_listed_from_when_it_was_sent() {
        let held = Held::new(8);
        let leases = held.begin(&[granted(1, "a"), granted(2, "a")], at(0));
        let answer = ExtendResponse { lease_ms: 5_000, ..ExtendResponse::default() };
        held.extended(&[leases[0].key], &answer, at(1_000));
        assert!(leases[0].begin_send(at(5_500)));
        assert!(!leases[1].begin_send(at(5_500)));
    }

    #[test]
    fn what_is_lost_or_cancelled_is_not_sent_and_what_is_lost_is_not_listed_again() {
        let held = Held::new(8);
        let leases = held.begin(&[granted(1, "a"), granted(2, "a"), granted(3, "a")], at(0));
        assert!(leases[2].begin_send(at(1)));
        let (lost, cancel) = (vec![leases[0].key, leases[2].key], vec![leases[1].key]);
        let answer = ExtendResponse { lease_ms: 5_000, lost, cancel, release: Vec::new() };
        assert_eq!(held.extended(&held.keys(), &answer, at(1)), 2);
        assert!(!leases[0].begin_send(at(2)) && !leases[1].begin_send(at(2)));
        assert!(!leases[2].is_withdrawn(), "a call under way is not stopped");
        assert_eq!(held.keys(), [leases[1].key]);
    }

    #[test]
    fn a_held_destination_takes_nothing_more_and_others_do() {
        let held = Held::new(8);
        let leases = held.begin(&[granted(1, "a"), granted(2, "b")], at(0));
        let asked = held.keys();
        let probe = held.begin(&[granted(3, "a")], at(0));
        held.withdraw_from(&["a".parse().unwrap()], &asked);
        assert!(!leases[0].begin_send(at(1)) && leases[1].begin_send(at(1)));
        assert!(probe[0].begin_send(at(1)), "it came after the gateway was asked");
    }

    #[test]
    fn there_is_room_while_slots_are_free_and_not_too_many_outcomes_wait() {
        let held = Held::new(2);
        let leases = held.begin(&[granted(1, "a"), granted(2, "a")], at(0));
        assert_eq!(held.room(), 0);
        held.ended();
        assert_eq!(held.room(), 1);
        held.ended();
        let asked = held.ask(1, 9).expect("there is room");
        assert_eq!((asked.count, held.room()), (2, 0), "a claim under way has its slots already");
        assert!(held.ask(1, 9).is_none());
        drop(asked);
        assert!(held.ask(3, 9).is_none(), "not worth it");
        held.begin(&[granted(3, "a"), granted(4, "a")], at(0));
        held.ended();
        held.ended();
        assert_eq!((held.len(), held.room()), (4, 0), "four outcomes wait to be reported");
        held.settled([&leases[0].key]);
        assert_eq!(held.room(), 1);
    }

    #[test]
    fn a_lease_that_a_claim_under_way_has_brought_takes_one_slot_and_not_two() {
        let held = Held::new(8);
        let mut asked = held.ask(1, 6).expect("there is room");
        held.begin(&[granted(1, "a"), granted(2, "a")], at(0));
        asked.filled(2);
        assert_eq!((asked.count, held.room()), (4, 2));
        held.begin(&(3..9).map(|job| granted(job, "a")).collect::<Vec<_>>(), at(0));
        asked.filled(6);
        assert_eq!((asked.count, held.room()), (0, 0), "a gateway that grants more than was asked for");
        drop(asked);
        (0..8).for_each(|_| held.ended());
        assert_eq!(held.room(), 8);
    }

    #[test]
    fn what_is_granted_in_a_drain_is_not_sent() {
        let held = Held::new(2);
        held.drain();
        assert!(!held.begin(&[granted(1, "a")], at(0))[0].begin_send(at(0)));
    }
}
