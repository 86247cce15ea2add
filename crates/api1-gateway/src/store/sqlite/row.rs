//! A job as a row: all its columns, in one place and one order.

use std::sync::LazyLock;

use jobs_core::destination::OrderingOnDead;
use jobs_core::job::{
    Cause, DeadReason, DestinationName, Job, JobId, Leased, Pending, Priority, Progress, State, StateName, WorkerId,
};
use jobs_core::lifecycle;
use jobs_core::redrive;
use jobs_core::time::Timestamp;
use rusqlite::Result;

use super::codes::{CAUSES, DEAD_REASONS, STATES, number};
use super::columns::{Binder, Reader, nanos};
use super::names::parse_name;
use super::statements::Statements;

/// A job with what the store alone knows of it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) job: Job,
    /// The number of its destination.
    pub(super) destination: i64,
    /// Dead, and its destination said when it died that a dead head blocks its ordering key.
    pub(super) blocks: bool,
}

/// A job's part in its ordering key: `job.place`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Waiting = 0,
    Leased = 1,
    Blocking = 2,
}

/// What a row was before a change, as far as others depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Was {
    pub(super) state: StateName,
    pub(super) place: Option<Place>,
    /// Its mass redrive knows how it has fared.
    pub(super) told: bool,
}

impl Row {
    pub(super) fn was(&self) -> Was {
        Was { state: self.job.state.name(), place: self.place(), told: redrive::verdict(&self.job).is_some() }
    }

    /// The row's key.
    pub(super) fn seq(&self) -> i64 {
        self.job.seq.cast_signed()
    }

    /// To be called where the job may just have died: whether it blocks is decided now, by the policy of this moment.
    pub(super) fn decide_blocking(&mut self, on_dead: OrderingOnDead) {
        self.blocks = self.is_dead() && self.job.ordering_key.is_some() && on_dead == OrderingOnDead::Block;
    }

    pub(super) fn place(&self) -> Option<Place> {
        self.job.ordering_key.as_ref()?;
        match self.job.state.name() {
            StateName::Pending => Some(Place::Waiting),
            StateName::Leased => Some(Place::Leased),
            StateName::Dead if self.blocks => Some(Place::Blocking),
            StateName::Dead | StateName::Succeeded | StateName::Cancelled => None,
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.job.state.name() == StateName::Dead
    }
}

/// The columns that a change writes, all of them each time: SQLite rewrites the whole row anyway.
const CHANGING: [&str; 35] = [
    "state",
    "head",
    "place",
    "run_at",
    "cause",
    "fail_epoch",
    "deadline",
    "finished_at",
    "dead_reason",
    "epoch",
    "worker",
    "claimed_at",
    "destination_epoch",
    "begun",
    "ok_begun",
    "cancel_requested",
    "updated_at",
    "expires_at",
    "attempts",
    "charged",
    "failures",
    "failures_epoch",
    "lost",
    "overloads",
    "last_settled",
    "last_down",
    "first_suspect",
    "generation",
    "generation_floor",
    "last_epoch",
    "settled_epoch",
    "resend_until",
    "key_generation",
    "last_error",
    "redrive",
];

/// The columns of [`CHANGING`] that a lease fills.
const LEASE_COLUMNS: usize = 7;

const FIXED: [&str; 12] = [
    "seq",
    "id",
    "destination",
    "priority",
    "accepted_at",
    "ordering_key",
    "max_attempts",
    "expires_after",
    "traceparent",
    "redriven_from",
    "checksum",
    "callback",
];

/// What beside [`FIXED`] is not the same for all new jobs.
const NEW: [&str; 8] =
    ["id_ends_in_seq", "generation_floor", "head", "place", "run_at", "deadline", "updated_at", "expires_at"];

/// What is: it waits because it is new, and has made no progress. Written into the statement, it is bound for no job.
const NEW_ZEROS: [&str; 16] = [
    "state",
    "cause",
    "fail_epoch",
    "attempts",
    "charged",
    "failures",
    "failures_epoch",
    "lost",
    "overloads",
    "last_settled",
    "last_down",
    "first_suspect",
    "generation",
    "last_epoch",
    "settled_epoch",
    "key_generation",
];

/// What a new job has in the place of its worker, so that a page full of new jobs need not be split when they are claimed: zeros that
/// mean nothing and are never read, as many as a first lease adds to its row. A worker has 16 bytes; its epoch, which is kept twice, and
/// the time of the claim 6 each; two ticks up to 8 each; the destination's epoch 1.
const ROOM_FOR_A_LEASE: usize = 51;

static INSERT: LazyLock<String> = LazyLock::new(|| {
    let room = format!("x'{}'", "00".repeat(ROOM_FOR_A_LEASE));
    let columns = [FIXED.as_slice(), NEW.as_slice(), NEW_ZEROS.as_slice(), &["worker"]].concat();
    let values = [vec!["?"; FIXED.len() + NEW.len()], vec!["0"; NEW_ZEROS.len()], vec![room.as_str()]].concat();
    format!("INSERT INTO job ({}) VALUES ({})", columns.join(", "), values.join(", "))
});

static UPDATE: LazyLock<String> = LazyLock::new(|| {
    format!("UPDATE job SET {} WHERE seq = ?", CHANGING.map(|column| format!("{column} = ?")).join(", "))
});

/// `SELECT …` of what [`decode`] reads, then `rest`. The table is named `job`.
pub(super) fn select(rest: &str) -> String {
    let columns = [CHANGING.as_slice(), FIXED.as_slice()].concat();
    format!("SELECT job.{} {rest}", columns.join(", job."))
}

/// As [`select`], of the job whose id is bound by [`id_key`].
pub(super) static BY_ID: LazyLock<String> =
    LazyLock::new(|| format!("{} UNION ALL {}", select(BY_OWN_NUMBER), select(BY_OTHER_ID)));

/// The number of the job whose id is bound by [`id_key`].
pub(super) static SEQ_BY_ID: LazyLock<String> =
    LazyLock::new(|| format!("SELECT seq {BY_OWN_NUMBER} UNION ALL SELECT seq {BY_OTHER_ID}"));

const BY_OWN_NUMBER: &str = "FROM job WHERE seq = ?1 AND id = ?2 AND id_ends_in_seq = 1";
const BY_OTHER_ID: &str = "FROM job WHERE id = ?2 AND id_ends_in_seq = 0";

/// What [`BY_ID`] and [`SEQ_BY_ID`] ask for.
pub(super) fn id_key(id: JobId) -> (i64, [u8; 16]) {
    (id.number().cast_signed(), id.0.into_bytes())
}

/// Adds a new job's row. `head`: see `job.head`.
pub(super) fn insert(statements: &mut Statements<'_>, row: &Row, head: bool) -> Result<()> {
    let job = &row.job;
    let State::Pending(pending) = &job.state else { unreachable!("a new job waits") };
    let progress = Progress { generation_floor: job.progress.generation_floor, ..Progress::default() };
    assert!((pending.cause, pending.fail_epoch, &job.progress) == (Cause::New, 0, &progress), "see NEW_ZEROS");
    let mut columns = Binder::new(statements.get(&INSERT)?);
    columns.put(row.seq())?.uuid(job.id.0)?.put(row.destination)?.put(job.priority.level())?.time(job.accepted_at)?;
    columns.put(job.ordering_key.as_deref())?.put(job.max_attempts)?.put(job.expires_after.map(nanos))?;
    columns.put(job.traceparent.as_deref())?.put(job.redriven_from.map(|id| id.0.into_bytes().to_vec()))?;
    columns
        .put(job.checksum)?
        .put(job.callback.as_ref().map(DestinationName::as_str))?
        .put(job.id.number() == job.seq)?
        .u64(job.progress.generation_floor.as_u64())?
        .put(head)?
        .put(row.place().map(|place| place as i64))?
        .time(pending.run_at)?;
    columns.time_or_null(lifecycle::deadline(job))?.time(job.updated_at)?.time_or_null(job.expires_at)?.execute()?;
    Ok(())
}

/// Writes what has changed about a job.
pub(super) fn update(statements: &mut Statements<'_>, row: &Row, head: bool) -> Result<()> {
    let mut columns = Binder::new(statements.get(&UPDATE)?);
    bind_changing(&mut columns, row, head)?;
    columns.put(row.seq())?.execute()?;
    Ok(())
}

fn bind_changing(columns: &mut Binder<'_, '_>, row: &Row, head: bool) -> Result<()> {
    let job = &row.job;
    columns.put(number(&STATES, job.state.name()))?.put(head)?.put(row.place().map(|place| place as i64))?;
    match &job.state {
        State::Pending(pending) => bind_pending(columns, pending)?.time_or_null(lifecycle::deadline(job))?.nulls(2),
        State::Leased(lease) => bind_pending(columns, &lease.from)?.nulls(3),
        State::Succeeded { at } | State::Cancelled { at } => columns.nulls(4).time(*at)?.nulls(1),
        State::Dead { at, reason } => columns.nulls(4).time(*at)?.put(number(&DEAD_REASONS, *reason))?,
    };
    match &job.state {
        State::Leased(lease) => bind_lease(columns, lease)?,
        State::Pending(_) | State::Succeeded { .. } | State::Dead { .. } | State::Cancelled { .. } => {
            columns.nulls(LEASE_COLUMNS)
        }
    };
    columns.time(job.updated_at)?.time_or_null(job.expires_at)?;
    let progress = &job.progress;
    columns.put(progress.attempts)?.put(progress.charged)?.put(progress.failures)?.u64(progress.failures_epoch)?;
    columns.put(progress.lost)?.put(progress.overloads)?.u64(progress.last_settled.0)?.u64(progress.last_down.0)?;
    columns.u64(progress.first_suspect.0)?.put(progress.generation)?.u64(progress.generation_floor.as_u64())?;
    columns.u64(progress.last_epoch.as_u64())?.u64(progress.settled_epoch.as_u64())?;
    columns.time_or_null(progress.resend_until)?.put(progress.key_generation)?.put(progress.last_error.as_deref())?;
    columns.put(progress.redrive)?;
    Ok(())
}

fn bind_pending<'b, 'a, 'c>(columns: &'b mut Binder<'a, 'c>, pending: &Pending) -> Result<&'b mut Binder<'a, 'c>> {
    columns.time(pending.run_at)?.put(number(&CAUSES, pending.cause))?.u64(pending.fail_epoch)
}

fn bind_lease<'b, 'a, 'c>(columns: &'b mut Binder<'a, 'c>, lease: &Leased) -> Result<&'b mut Binder<'a, 'c>> {
    columns.u64(lease.epoch.as_u64())?.uuid(lease.worker.0)?.time(lease.claimed_at)?.u64(lease.destination_epoch)?;
    columns.u64(lease.begun.0)?.u64(lease.ok_begun.0)?.put(lease.cancel_requested)
}

/// A row of [`select`]. `name` answers with the name of a destination.
pub(super) fn decode(row: &rusqlite::Row<'_>, name: impl FnOnce(i64) -> Option<DestinationName>) -> Result<Row> {
    let mut columns = Reader::new(row);
    let (state, blocks) = read_state(&mut columns)?;
    let updated_at = columns.time()?;
    let expires_at = columns.time_or_null()?;
    let progress = read_progress(&mut columns)?;
    let seq = columns.u64()?;
    let id = JobId(columns.uuid()?);
    let mut destination = 0;
    let job = Job {
        id,
        seq,
        destination: columns.name(|number| {
            destination = number;
            name(number)
        })?,
        priority: columns.small().map(Priority::new)?.unwrap_or_default(),
        accepted_at: columns.time()?,
        ordering_key: columns.text_or_null()?,
        max_attempts: columns.small_or_null()?,
        expires_after: columns.duration_or_null()?,
        traceparent: columns.text_or_null()?,
        redriven_from: columns.uuid_or_null()?.map(JobId),
        checksum: columns.small()?,
        callback: columns.text_or_null()?.map(|name| parse_name(&name)).transpose()?,
        state,
        updated_at,
        expires_at,
        progress,
    };
    Ok(Row { job, destination, blocks })
}

/// The state, and whether it blocks its ordering key: the columns from `state` to `cancel_requested`.
fn read_state(columns: &mut Reader<'_, '_>) -> Result<(State, bool)> {
    let name = columns.word(&STATES)?;
    let place = columns.skip(1).get::<Option<i64>>()?;
    let state = match name {
        StateName::Pending => {
            let pending = read_pending(columns)?;
            columns.skip(3 + LEASE_COLUMNS);
            State::Pending(pending)
        }
        StateName::Leased => {
            let from = read_pending(columns)?;
            State::Leased(read_lease(columns.skip(3), from)?)
        }
        StateName::Succeeded => State::Succeeded { at: read_end(columns)?.0 },
        StateName::Cancelled => State::Cancelled { at: read_end(columns)?.0 },
        StateName::Dead => {
            let (at, reason) = read_end(columns)?;
            State::Dead { at, reason: reason.unwrap_or(DeadReason::Unknown) }
        }
    };
    Ok((state, place == Some(Place::Blocking as i64)))
}

fn read_pending(columns: &mut Reader<'_, '_>) -> Result<Pending> {
    Ok(Pending { run_at: columns.time()?, cause: columns.word(&CAUSES)?, fail_epoch: columns.u64()? })
}

fn read_lease(columns: &mut Reader<'_, '_>, from: Pending) -> Result<Leased> {
    Ok(Leased {
        epoch: columns.epoch()?,
        worker: WorkerId(columns.uuid()?),
        claimed_at: columns.time()?,
        destination_epoch: columns.u64()?,
        begun: columns.tick()?,
        ok_begun: columns.tick()?,
        from,
        cancel_requested: columns.flag()?,
    })
}

fn read_end(columns: &mut Reader<'_, '_>) -> Result<(Timestamp, Option<DeadReason>)> {
    let at = columns.skip(4).time()?;
    let reason = columns.word_or_null(&DEAD_REASONS)?;
    columns.skip(LEASE_COLUMNS);
    Ok((at, reason))
}

fn read_progress(columns: &mut Reader<'_, '_>) -> Result<Progress> {
    Ok(Progress {
        attempts: columns.small()?,
        charged: columns.small()?,
        failures: columns.small()?,
        failures_epoch: columns.u64()?,
        lost: columns.small()?,
        overloads: columns.small()?,
        last_settled: columns.tick()?,
        last_down: columns.tick()?,
        first_suspect: columns.tick()?,
        generation: columns.small()?,
        generation_floor: columns.epoch()?,
        last_epoch: columns.epoch()?,
        settled_epoch: columns.epoch()?,
        resend_until: columns.time_or_null()?,
        key_generation: columns.small()?,
        last_error: columns.text_or_null()?,
        redrive: columns.small_or_null()?,
    })
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn a_job_whose_number_does_not_fit_into_its_id_is_found_all_the_same() {
        use jobs_core::conformance::rig::{BEGIN, plain_job};
        use jobs_core::job::{Epoch, NewJob};
        let conn = Connection::open_in_memory().unwrap();
        super::super::schema::migrate(&conn, Timestamp::default()).unwrap();
        for seq in [(1 << 40) - 1, 1 << 40] {
            let new = NewJob { id_is_new: true, ..plain_job(u128::MAX - u128::from(seq), bytes::Bytes::new()) };
            let (job, _) = lifecycle::enqueue(new, seq, Epoch::NONE, BEGIN.wall);
            let row = Row { job, destination: 1, blocks: false };
            insert(&mut Statements::new(&conn), &row, true).unwrap();
            assert_eq!(super::super::query::seq_of(&conn, row.job.id).unwrap(), Some(row.seq()));
        }
    }

    #[test]
    fn a_job_is_found_by_its_id_without_looking_through_others() {
        let conn = Connection::open_in_memory().unwrap();
        super::super::schema::migrate(&conn, Timestamp::default()).unwrap();
        for sql in [&BY_ID, &SEQ_BY_ID] {
            let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {}", sql.as_str())).unwrap();
            let rows = explain.query_map(id_key(JobId(uuid::Uuid::nil())), |row| row.get("detail")).unwrap();
            let plan: Vec<String> = rows.collect::<Result<_>>().unwrap();
            let searches =
                |text: &str| plan.iter().filter(|line| line.starts_with("SEARCH") && line.contains(text)).count();
            let found = (searches("INTEGER PRIMARY KEY (rowid=?)"), searches("INDEX job_other_id (id=?)"));
            assert_eq!(found, (1, 1), "{plan:?}");
            assert!(!plan.iter().any(|line| line.starts_with("SCAN")), "{plan:?}");
        }
    }
}
