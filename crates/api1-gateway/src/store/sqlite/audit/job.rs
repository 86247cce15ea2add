//! Job by job: its row, what is to be sent, and its attempt log must tell the same story.

use jobs_core::job::{AttemptOutcome, DeadReason, Epoch, Job, State};
use jobs_core::lifecycle;
use jobs_core::outcome::Class;
use rusqlite::{Connection, Result};

use super::super::codes::OUTCOMES;
use super::super::columns::Reader;
use super::super::row::{self, Row};
use super::super::{query, request};
use super::{Audit, note_rows};

/// A line of an attempt log, as far as it is held against its job.
struct Line {
    generation: u32,
    number: u32,
    epoch: Epoch,
    outcome: AttemptOutcome,
    charged: bool,
}

/// `start`: the latest start of a gateway on this file.
pub(super) fn all(conn: &Connection, start: i64, audit: &mut Audit) -> Result<()> {
    let mut statement = conn.prepare(&row::select("FROM job ORDER BY seq"))?;
    let mut rows = statement.query([])?;
    while let Some(found) = rows.next()? {
        audit.jobs += 1;
        let seq: i64 = found.get("seq")?;
        match query::decode(conn, found) {
            Ok(row) => {
                let deadline: Option<i64> = found.get("deadline")?;
                one(conn, &row, deadline, start, audit)?;
            }
            Err(error) => audit.note(format!("row {seq} of the jobs is not a job: {error}")),
        }
    }
    for table in ["request", "attempt", "response"] {
        let orphans = format!("SELECT DISTINCT seq FROM {table} WHERE seq NOT IN (SELECT seq FROM job)");
        note_rows(conn, audit, &orphans, |seq| format!("{table} {seq} belongs to no job"))?;
    }
    Ok(())
}

fn one(conn: &Connection, row: &Row, deadline: Option<i64>, start: i64, audit: &mut Audit) -> Result<()> {
    let job = &row.job;
    let mut wrong = |what: &str| audit.note(format!("job {}: {what}", job.id));
    // What rotted and was found out is dead, and stays as it is.
    let known_rotten = matches!(job.state, State::Dead { reason: DeadReason::Corrupt, .. });
    match request::read(conn, row.seq())? {
        None if !known_rotten => wrong("what is to be sent is missing"),
        Some(request) if !known_rotten && !job.is_intact(&request) => {
            wrong("its checksum does not match: what is to be sent is not what was accepted");
        }
        Some(_) | None => {}
    }
    if query::seq_of(conn, job.id)? != Some(row.seq()) {
        wrong("it is not found by its id");
    }
    let due = lifecycle::deadline(job).map(jobs_core::time::Timestamp::as_millis);
    if matches!(job.state, State::Pending(_)) && deadline != due {
        wrong("its deadline is not what its expiry and its idempotency window make it");
    }
    epochs(job, start, &mut wrong);
    let log = log(conn, row.seq())?;
    audit.attempts += log.len() as u64;
    let mut wrong = |what: &str| audit.note(format!("job {}: {what}", job.id));
    counted(job, &log, &mut wrong);
    fenced(job, &log, start, &mut wrong);
    Ok(())
}

fn log(conn: &Connection, seq: i64) -> Result<Vec<Line>> {
    let sql =
        "SELECT generation, number, epoch, outcome, charged FROM attempt WHERE seq = ? ORDER BY generation, number";
    let mut statement = conn.prepare_cached(sql)?;
    let lines = statement.query_map([seq], |found| {
        let mut columns = Reader::new(found);
        Ok(Line {
            generation: columns.small()?,
            number: columns.small()?,
            epoch: columns.epoch()?,
            outcome: columns.word(&OUTCOMES)?,
            charged: columns.flag()?,
        })
    })?;
    lines.collect()
}

/// The epochs of the row: issued by a start that was, and the lease's own the last of them.
fn epochs(job: &Job, start: i64, wrong: &mut impl FnMut(&str)) {
    let progress = &job.progress;
    if progress.last_epoch.start().cast_signed() > start {
        wrong("its last epoch is of a gateway start that never was");
    }
    if progress.generation_floor.start().cast_signed() > start {
        wrong("its generation begins in a gateway start that never was");
    }
    if let State::Leased(lease) = &job.state {
        if lease.epoch != progress.last_epoch {
            wrong("it is leased under an epoch that is not its last");
        }
        if lease.epoch <= progress.generation_floor {
            wrong("it is leased under an epoch of an earlier generation");
        }
    }
}

/// The counts of the row beside the lines of the present generation.
fn counted(job: &Job, log: &[Line], wrong: &mut impl FnMut(&str)) {
    let progress = &job.progress;
    let present = || log.iter().filter(|line| line.generation == progress.generation);
    let count = |test: &dyn Fn(&Line) -> bool| present().filter(|line| test(line)).count() as u64;
    let counts = [
        ("attempts", progress.attempts, count(&|line| line.outcome != AttemptOutcome::Lost)),
        ("lost leases", progress.lost, count(&|line| line.outcome == AttemptOutcome::Lost)),
        ("charged attempts", progress.charged, count(&|line| line.charged)),
    ];
    for (what, kept, logged) in counts {
        if u64::from(kept) != logged {
            wrong(&format!("{kept} {what} are counted and {logged} are in its log"));
        }
    }
    if !present().zip(1..).all(|(line, number)| line.number == number) {
        wrong("its log has gaps");
    }
    if log.iter().any(|line| line.generation > progress.generation) {
        wrong("its log has a generation that has yet to come");
    }
    let oks = count(&|line| line.outcome == AttemptOutcome::Settled(Class::Ok));
    if oks > 1 {
        wrong("its log has an ok after which it went on");
    }
    let delivered = present().next_back().is_some_and(|line| line.outcome == AttemptOutcome::Settled(Class::Ok));
    if delivered != matches!(job.state, State::Succeeded { .. }) {
        wrong(if delivered {
            "its log ends with an ok and it has not succeeded"
        } else {
            "it has succeeded without an ok in its log"
        });
    }
}

/// Epochs that rise from line to line; only an ok may come late, and under an epoch that has a line already.
fn fenced(job: &Job, log: &[Line], start: i64, wrong: &mut impl FnMut(&str)) {
    if log.iter().any(|line| line.epoch.start() == 0 || line.epoch.start().cast_signed() > start) {
        wrong("its log has an epoch of a gateway start that never was");
    }
    let ok = AttemptOutcome::Settled(Class::Ok);
    let epochs: Vec<Epoch> = log.iter().filter(|line| line.outcome != ok).map(|line| line.epoch).collect();
    if !epochs.windows(2).all(|pair| pair[0] < pair[1]) {
        wrong("the epochs of its log do not rise");
    }
    if log.iter().any(|line| line.generation == job.progress.generation && line.epoch <= job.progress.generation_floor)
    {
        wrong("its log has an epoch of an earlier generation");
    }
}
