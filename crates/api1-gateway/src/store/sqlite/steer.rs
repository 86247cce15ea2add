//! cancel, redrive, and the gates: what people do.

use jobs_core::destination::OrderingOnDead;
use jobs_core::job::{DestinationName, JobId};
use jobs_core::lifecycle::{self, Cancel, Redrive};
use jobs_core::store::{GateRecord, Steered};
use jobs_core::time::Timestamp;
use rusqlite::{Connection, Result};

use super::batch::Batch;
use super::columns::{Binder, Reader};
use super::known::Effect;
use super::names::parse_name;

/// See [`jobs_core::store::JobStore::cancel`]. A dead job that blocks its ordering key can always be cancelled, also if its
/// destination has come to say otherwise since it died: nothing else would ever free the key.
pub(super) fn cancel(
    batch: &mut Batch<'_>,
    id: JobId,
    ordering_on_dead: OrderingOnDead,
    now: Timestamp,
) -> Result<Steered<Cancel>> {
    let Some(mut row) = batch.row_of(id)? else { return Ok(None) };
    let was = row.was();
    let on_dead = if row.blocks { OrderingOnDead::Block } else { ordering_on_dead };
    let answer = lifecycle::cancel(&mut row.job, on_dead, now);
    match answer {
        Cancel::Cancelled => {
            row.blocks = false;
            batch.save(&row, was)?;
        }
        Cancel::Requested => {
            batch.save(&row, was)?;
            batch.then(Effect::CancelRequested(id));
        }
        Cancel::AlreadyCancelled | Cancel::Finished => {}
    }
    Ok(Some((answer, row.job)))
}

/// See [`jobs_core::store::JobStore::redrive`].
pub(super) fn redrive(batch: &mut Batch<'_>, id: JobId, new_key: bool, now: Timestamp) -> Result<Steered<Redrive>> {
    let Some(mut row) = batch.row_of(id)? else { return Ok(None) };
    let was = row.was();
    let answer = lifecycle::redrive(&mut row.job, new_key, batch.known.epochs.last(), now);
    match answer {
        Redrive::Redriven | Redrive::RunNow => {
            row.blocks = false;
            batch.save(&row, was)?;
        }
        Redrive::Leased | Redrive::Succeeded => {}
    }
    Ok(Some((answer, row.job)))
}

/// See [`jobs_core::store::JobStore::put_gate`].
pub(super) fn put_gate(batch: &mut Batch<'_>, name: &DestinationName, gate: &GateRecord) -> Result<()> {
    let destination = batch.destination(name)?;
    let mut statement = batch.conn.prepare_cached(
        "INSERT OR REPLACE INTO destination_gate
            (destination, epoch, open_since, open_reason, misconfigured, hold_until, goodput, paused)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    let (since, reason) = gate.open.as_ref().map(|(since, reason)| (*since, reason.as_str())).unzip();
    let mut columns = Binder::new(&mut statement);
    columns.put(destination)?.u64(gate.epoch)?.time_or_null(since)?.put(reason)?.put(gate.misconfigured)?;
    columns.time_or_null(gate.hold_until)?.put(gate.goodput)?.put(gate.paused)?.execute()?;
    Ok(())
}

/// The gates as last written.
pub(super) fn read_gates(conn: &Connection) -> Result<Vec<(DestinationName, GateRecord)>> {
    let mut statement = conn.prepare_cached(
        "SELECT name, epoch, open_since, open_reason, misconfigured, hold_until, goodput, paused
            FROM destination_gate JOIN destination ON id = destination",
    )?;
    let gates = statement.query_map([], |row| {
        let mut columns = Reader::new(row);
        let name = parse_name(&columns.text()?)?;
        let epoch = columns.u64()?;
        let open = columns.time_or_null()?.zip(columns.text_or_null()?);
        let misconfigured = columns.flag()?;
        let hold_until = columns.time_or_null()?;
        let goodput = columns.get()?;
        let paused = columns.flag()?;
        Ok((name, GateRecord { epoch, open, misconfigured, hold_until, goodput, paused }))
    })?;
    gates.collect()
}
