//! What is to be sent, as a row that is written once.

use jobs_core::job::Request;
use rusqlite::{Connection, OptionalExtension, Result, Statement};

use super::columns::{Binder, Reader};
use super::statements::Statements;

pub(super) fn insert(statements: &mut Statements<'_>, seq: i64, request: &Request) -> Result<()> {
    let sql = "INSERT INTO request (seq, method, path, content_type, headers, body) VALUES (?, ?, ?, ?, ?, ?)";
    let statement = statements.get(sql)?;
    let headers = (!request.headers.is_empty()).then(|| serde_json::json!(request.headers).to_string());
    let mut columns = Binder::new(statement);
    columns.put(seq)?.put(request.method.as_deref())?.put(request.path.as_deref())?;
    columns.put(request.content_type.as_deref())?.put(headers)?.put(request.body.as_ref())?.execute()?;
    Ok(())
}

const READ: &str = "SELECT method, path, content_type, headers, body FROM request WHERE seq = ?";

/// See [`read_by`].
pub(super) fn read(conn: &Connection, seq: i64) -> Result<Option<Request>> {
    read_by(&mut *conn.prepare_cached(READ)?, seq)
}

/// As [`read`], in a batch.
pub(super) fn read_in(statements: &mut Statements<'_>, seq: i64) -> Result<Option<Request>> {
    read_by(statements.get(READ)?, seq)
}

/// `None` if there is none. What the disk has spoilt is read as well as it can be: the job's checksum finds it.
fn read_by(statement: &mut Statement<'_>, seq: i64) -> Result<Option<Request>> {
    let request = statement.query_row([seq], |row| {
        let mut columns = Reader::new(row);
        Ok(Request {
            method: columns.text_or_null()?,
            path: columns.text_or_null()?,
            content_type: columns.text_or_null()?,
            headers: columns
                .text_or_null()?
                .map(|json| serde_json::from_str(&json).unwrap_or_default())
                .unwrap_or_default(),
            body: columns.bytes()?,
        })
    });
    request.optional()
}
