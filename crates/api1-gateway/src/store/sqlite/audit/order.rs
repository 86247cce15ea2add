//! Ordering keys: who may be claimed, worked out anew for each key, beside what the rows say.

use rusqlite::{Connection, Result};
use uuid::Uuid;

use super::super::row::Place;
use super::{Audit, note_rows};

/// Places that their states do not allow. 0 to 4: pending, leased, succeeded, dead, cancelled.
const MISPLACED: &str = "SELECT seq FROM job WHERE place IS NOT (CASE
    WHEN ordering_key IS NULL THEN NULL WHEN state = 0 THEN 0 WHEN state = 1 THEN 1 WHEN state = 3 AND place = 2 THEN 2 END)";
const UNKEYED: &str = "SELECT seq FROM job WHERE state = 0 AND ordering_key IS NULL AND head <> 1";
const KEYED: &str = "SELECT destination, ordering_key, seq, id, place, head FROM job
    WHERE place IS NOT NULL ORDER BY destination, ordering_key, seq";

/// A job that has a part in its key.
struct Member {
    seq: i64,
    id: Uuid,
    place: i64,
    head: bool,
}

pub(super) fn all(conn: &Connection, audit: &mut Audit) -> Result<()> {
    note_rows(conn, audit, MISPLACED, |seq| {
        format!("row {seq} of the jobs: its place in its ordering key is not that of its state")
    })?;
    note_rows(conn, audit, UNKEYED, |seq| {
        format!("row {seq} of the jobs: it waits without an ordering key and cannot be claimed")
    })?;
    let mut statement = conn.prepare(KEYED)?;
    let mut rows = statement.query([])?;
    let mut key: Option<(i64, String)> = None;
    let mut members = Vec::new();
    while let Some(row) = rows.next()? {
        let of = (row.get(0)?, row.get(1)?);
        if key.as_ref() != Some(&of) {
            examine(&members, audit);
            members.clear();
            key = Some(of);
        }
        let id = Uuid::from_bytes(row.get(3)?);
        members.push(Member { seq: row.get(2)?, id, place: row.get(4)?, head: row.get(5)? });
    }
    examine(&members, audit);
    Ok(())
}

/// `members`: those of one key, in the order of acceptance.
fn examine(members: &[Member], audit: &mut Audit) {
    let mut leased = members.iter().filter(|member| member.place == Place::Leased as i64);
    let blocked_from = members.iter().find(|member| member.place == Place::Blocking as i64).map(|member| member.seq);
    let waiting = || members.iter().filter(|member| member.place == Place::Waiting as i64);
    let first = waiting().next().filter(|first| blocked_from.is_none_or(|from| first.seq < from));
    let claimable = if leased.next().is_some() { None } else { first.map(|first| first.seq) };
    if let Some(second) = leased.next() {
        audit.note(format!("job {}: leased beside another of its ordering key", second.id));
    }
    for member in waiting().filter(|member| member.head != (Some(member.seq) == claimable)) {
        let says =
            if member.head { "can be claimed before its turn" } else { "cannot be claimed although it is its turn" };
        audit.note(format!("job {}: {says} in its ordering key", member.id));
    }
}
