//! What is to be sent, as a row that is written once.

use jobs_core::job::Request;
use rusqlite::{Connection, OptionalExtension, Result};

use super::columns::{Binder, Reader};

pub(super) fn insert(conn: &Connection, seq: i64, request: &Request) -> Result<()> {
    let sql = "INSERT INTO request (seq, method, path, content_type, headers, body) VALUES (?, ?, ?, ?, ?, ?)";
    let mut statement = conn.prepare_cached(sql)?;
    let headers = (!request.headers.is_empty()).then(|| serde_json::json!(request.headers).to_string());
    let mut columns = Binder::new(&mut statement);
    columns.put(seq)?.put(request.method.as_deref())?.put(request.path.as_deref())?;
    columns.put(request.content_type.as_deref())?.put(headers)?.put(request.body.as_ref())?.execute()?;
    Ok(())
}

/// `None` if there is none. What the disk has spoilt is read as well as it can be: the job's checksum finds it.
pub(super) fn read(conn: &Connection, seq: i64) -> Result<Option<Request>> {
    let sql = "SELECT method, path, content_type, headers, body FROM request WHERE seq = ?";
    let request = conn.prepare_cached(sql)?.query_row([seq], |row| {
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
