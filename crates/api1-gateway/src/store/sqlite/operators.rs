//! What is kept for operators: mass redrives, resolved jobs, the audit log.

use jobs_core::job::JobId;
use jobs_core::lifecycle;
use jobs_core::redrive::{Change, MassRedrive, Plan, Stop, Tally, Unfit, Verdict};
use jobs_core::steering::{AUDIT_LINES, Act, Action, AuditLine, MASS_REDRIVES, Redriven, Resolution, Resolve};
use jobs_core::store::Steered;
use jobs_core::time::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension, Result};

use super::batch::Batch;
use super::codes::{Counter, PHASES, number};
use super::columns::{Binder, Reader};

/// See [`jobs_core::steering::Steering::resolve`].
pub(super) fn resolve(batch: &mut Batch<'_>, id: JobId, resolution: &Resolution) -> Result<Steered<Resolve>> {
    let Some(row) = batch.row_of(id)? else { return Ok(None) };
    if !row.is_dead() {
        return Ok(Some((Resolve::NotDead, row.job)));
    }
    let is_new = unresolve(batch.conn, row.seq())? == 0;
    let sql = "INSERT INTO resolution (seq, resolved_by, reason, resolved_at) VALUES (?, ?, ?, ?)";
    let values = (row.seq(), &resolution.by, &resolution.reason, resolution.at.as_millis());
    batch.conn.prepare_cached(sql)?.execute(values)?;
    if is_new {
        batch.count_of(Counter::Resolved, row.destination, 1);
    }
    Ok(Some((Resolve::Resolved, row.job)))
}

/// Forgets that a job was resolved; answers how many that were.
pub(super) fn unresolve(conn: &Connection, seq: i64) -> Result<usize> {
    conn.prepare_cached("DELETE FROM resolution WHERE seq = ?")?.execute([seq])
}

pub(super) fn resolution(conn: &Connection, seq: i64) -> Result<Option<Resolution>> {
    let sql = "SELECT resolved_by, reason, resolved_at FROM resolution WHERE seq = ?";
    let found = conn.prepare_cached(sql)?.query_row([seq], |row| {
        let mut columns = Reader::new(row);
        Ok(Resolution { by: columns.text()?, reason: columns.text()?, at: columns.time()? })
    });
    found.optional()
}

/// See [`jobs_core::steering::Steering::start_redrive`].
pub(super) fn start(batch: &mut Batch<'_>, plan: Plan, by: String, now: Timestamp) -> Result<MassRedrive> {
    let last = "SELECT coalesce(max(number), 0) FROM mass_redrive";
    let last: u32 = batch.conn.query_row(last, [], |row| row.get(0))?;
    let redrive = MassRedrive::new(last + 1, plan, by, now);
    let plan = serde_json::to_string(&redrive.plan).map_err(|error| Error::ToSqlConversionFailure(error.into()))?;
    let sql =
        "INSERT INTO mass_redrive (phase, stop_reason, stopped_by_rule, counted_to, matched, redriven_to, redriven,
        skipped, forgiven_succeeded, forgiven_failed, forgiven_cancelled, updated_at, number, plan, asked_by, asked_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let mut statement = batch.conn.prepare_cached(sql)?;
    let mut columns = Binder::new(&mut statement);
    bind(&mut columns, &redrive)?;
    columns.put(plan)?.put(&redrive.by)?.time(redrive.asked_at)?.execute()?;
    let old = "DELETE FROM mass_redrive WHERE number <= ?";
    batch.conn.execute(old, [redrive.number.saturating_sub(MASS_REDRIVES)])?;
    Ok(redrive)
}

/// See [`jobs_core::steering::Steering::change_redrive`].
pub(super) fn change(
    batch: &mut Batch<'_>,
    number: u32,
    change: Change,
    now: Timestamp,
) -> Result<Option<(std::result::Result<(), Unfit>, MassRedrive)>> {
    let Some(mut redrive) = read(batch.conn, number)? else { return Ok(None) };
    let answer = redrive.apply(change, now);
    save(batch.conn, &redrive)?;
    Ok(Some((answer, redrive)))
}

/// See [`jobs_core::steering::Steering::redrive_step`].
pub(super) fn step(
    batch: &mut Batch<'_>,
    number: u32,
    ids: &[JobId],
    to: u64,
    end: bool,
    now: Timestamp,
) -> Result<Option<Redriven>> {
    let Some(mut redrive) = read(batch.conn, number)? else { return Ok(None) };
    let (last_issued, mut jobs) = (batch.known.epochs.last(), Vec::new());
    if !redrive.may_redrive() {
        return Ok(Some(Redriven { redrive, jobs }));
    }
    for id in ids {
        let Some(mut row) = batch.row_of(*id)? else { continue };
        let was = row.was();
        if redrive.still_wants(&row.job)
            && lifecycle::redrive_with_others(&mut row.job, number, redrive.plan.new_key, last_issued, now)
        {
            row.blocks = false;
            batch.save(&row, was)?;
            jobs.push(row.job);
        }
    }
    redrive.advance(to, jobs.len() as u64, (ids.len() - jobs.len()) as u64, end, now);
    save(batch.conn, &redrive)?;
    Ok(Some(Redriven { redrive, jobs }))
}

/// Adds to what is known of how the jobs of a mass redrive have fared.
pub(super) fn tell(conn: &Connection, number: u32, verdict: Verdict, jobs: i64) -> Result<()> {
    let sql = match verdict {
        Verdict::Succeeded => "UPDATE mass_redrive SET succeeded = succeeded + ? WHERE number = ?",
        Verdict::Failed => "UPDATE mass_redrive SET failed = failed + ? WHERE number = ?",
        Verdict::Cancelled => "UPDATE mass_redrive SET cancelled = cancelled + ? WHERE number = ?",
    };
    conn.prepare_cached(sql)?.execute((jobs, number)).map(drop)
}

const COLUMNS: &str = "number, plan, asked_by, asked_at, updated_at, phase, stop_reason, stopped_by_rule, counted_to,
    matched, redriven_to, redriven, skipped, succeeded, failed, cancelled, forgiven_succeeded, forgiven_failed,
    forgiven_cancelled";

pub(super) fn read(conn: &Connection, number: u32) -> Result<Option<MassRedrive>> {
    let sql = format!("SELECT {COLUMNS} FROM mass_redrive WHERE number = ?");
    conn.prepare_cached(&sql)?.query_row([number], decode).optional()
}

/// The latest first.
pub(super) fn read_all(conn: &Connection, limit: u32) -> Result<Vec<MassRedrive>> {
    let sql = format!("SELECT {COLUMNS} FROM mass_redrive ORDER BY number DESC LIMIT ?");
    conn.prepare_cached(&sql)?.query_map([limit], decode)?.collect()
}

fn decode(row: &rusqlite::Row<'_>) -> Result<MassRedrive> {
    let mut columns = Reader::new(row);
    let number = columns.small()?;
    let plan = serde_json::from_str(&columns.text()?);
    let plan = plan.map_err(|error| Error::FromSqlConversionFailure(1, Type::Text, error.into()))?;
    let (by, asked_at, updated_at) = (columns.text()?, columns.time()?, columns.time()?);
    let phase = columns.word(&PHASES)?;
    let stop = columns.text_or_null()?.zip(columns.get::<Option<bool>>()?);
    let (counted_to, matched, redriven_to) = (columns.u64()?, columns.u64()?, columns.u64()?);
    let (redriven, skipped) = (columns.u64()?, columns.u64()?);
    let mut tally =
        || Ok::<_, Error>(Tally { succeeded: columns.u64()?, failed: columns.u64()?, cancelled: columns.u64()? });
    let (tally, forgiven) = (tally()?, tally()?);
    let stop = stop.map(|(reason, by_rule)| Stop { reason, by_rule });
    Ok(MassRedrive {
        number,
        plan,
        by,
        asked_at,
        updated_at,
        phase,
        stop,
        counted_to,
        matched,
        redriven_to,
        redriven,
        skipped,
        tally,
        forgiven,
    })
}

/// All that changes but the tally, which is counted by [`tell`].
fn save(conn: &Connection, redrive: &MassRedrive) -> Result<()> {
    let sql = "UPDATE mass_redrive SET phase = ?, stop_reason = ?, stopped_by_rule = ?, counted_to = ?, matched = ?,
        redriven_to = ?, redriven = ?, skipped = ?, forgiven_succeeded = ?, forgiven_failed = ?, forgiven_cancelled = ?,
        updated_at = ? WHERE number = ?";
    let mut statement = conn.prepare_cached(sql)?;
    let mut columns = Binder::new(&mut statement);
    bind(&mut columns, redrive)?.execute()?;
    Ok(())
}

fn bind<'b, 'a, 'c>(columns: &'b mut Binder<'a, 'c>, redrive: &MassRedrive) -> Result<&'b mut Binder<'a, 'c>> {
    let (reason, by_rule) = redrive.stop.as_ref().map(|stop| (stop.reason.as_str(), stop.by_rule)).unzip();
    columns.put(number(&PHASES, redrive.phase))?.put(reason)?.put(by_rule)?.u64(redrive.counted_to)?;
    columns.u64(redrive.matched)?.u64(redrive.redriven_to)?.u64(redrive.redriven)?.u64(redrive.skipped)?;
    let forgiven = redrive.forgiven;
    columns.u64(forgiven.succeeded)?.u64(forgiven.failed)?.u64(forgiven.cancelled)?;
    columns.time(redrive.updated_at)?.put(redrive.number)
}

/// See [`jobs_core::steering::Steering::note`].
pub(super) fn note(conn: &Connection, act: &Act) -> Result<()> {
    let sql = "INSERT INTO audit (acted_at, principal, action, target, detail) VALUES (?, ?, ?, ?, ?)";
    let action = number(&Action::ALL, act.action);
    conn.prepare_cached(sql)?.execute((act.at.as_millis(), &act.by, action, &act.target, &act.detail))?;
    let last = conn.last_insert_rowid();
    let old = "DELETE FROM audit WHERE number <= ?";
    conn.prepare_cached(old)?.execute([last.saturating_sub_unsigned(AUDIT_LINES)])?;
    Ok(())
}

/// See [`jobs_core::steering::Steering::audit`].
pub(super) fn audit(conn: &Connection, below: Option<u64>, limit: u32) -> Result<Vec<AuditLine>> {
    let below = below.map_or(i64::MAX, |below| i64::try_from(below).unwrap_or(i64::MAX));
    let sql = "SELECT number, acted_at, principal, action, target, detail FROM audit WHERE number < ?
        ORDER BY number DESC LIMIT ?";
    let mut statement = conn.prepare_cached(sql)?;
    let lines = statement.query_map((below, limit), |row| {
        let mut columns = Reader::new(row);
        let number = columns.u64()?;
        let (at, by) = (columns.time()?, columns.text()?);
        let action = columns.word(&Action::ALL)?;
        Ok(AuditLine { number, act: Act { at, by, action, target: columns.text()?, detail: columns.text()? } })
    })?;
    lines.collect()
}
