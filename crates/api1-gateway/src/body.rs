//! A request's body: read whole, up to a limit and a deadline, and checked where it says it is JSON.
//!
//! The bytes are kept as they came. Whether they are JSON is found out without building anything from them, so numbers
//! beyond 2^53, duplicate keys and white space stay what they were.

use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::{HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use jobs_core::process::duration;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::problem::{Code, Problem};

/// Reserved before the first byte has come, whatever a `Content-Length` claims.
const RESERVE: usize = 64 * 1024;

/// How much of a body is taken, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub max_bytes: usize,
    /// From the end of the head to the last byte.
    pub deadline: Duration,
}

/// The whole body.
///
/// It is copied out of the connection's buffer: a slice of that would keep all of it alive for as long as the job.
pub(crate) async fn read(request: &HttpRequest, payload: web::Payload, bounds: Bounds) -> Result<Bytes, Problem> {
    let limit = bounds.max_bytes;
    let declared = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let read = collect(payload, declared.unwrap_or(0).min(RESERVE), limit);
    match tokio::time::timeout(bounds.deadline, read).await {
        Ok(body) => body,
        Err(_) => Err(Problem::new(Code::BodyTimeout, format!("send it within {}", duration::show(bounds.deadline)))),
    }
}

async fn collect(mut payload: web::Payload, expected: usize, limit: usize) -> Result<Bytes, Problem> {
    let mut body = BytesMut::with_capacity(expected);
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(unreadable)?;
        if body.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Whether the connection ended or a chunk was malformed, the HTTP library says the same.
fn unreadable(_: PayloadError) -> Problem {
    Problem::new(
        Code::IncompleteBody,
        "send as much as Content-Length says, or well-formed chunks and the last, empty one",
    )
}

pub(crate) fn too_large(limit: usize) -> Problem {
    Problem::new(Code::BodyTooLarge, format!("at most {limit} bytes"))
}

/// The `Content-Type` as given; one that is not text is refused.
pub(crate) fn content_type(request: &HttpRequest) -> Result<Option<&str>, Problem> {
    let refuse = |_| Problem::with(Code::BadHeader, "Content-Type", "not readable text");
    request.headers().get(CONTENT_TYPE).map(|value| value.to_str().map_err(refuse)).transpose()
}

/// Refuses a body in a content encoding: it would reach the destination without the header that says so.
pub(crate) fn refuse_encoded(request: &HttpRequest) -> Result<(), Problem> {
    match request.headers().get(CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            let detail = "send the body unencoded, or use /forward, which keeps the header";
            Err(Problem::with(Code::UnsupportedMediaType, "Content-Encoding", detail))
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether a content type promises JSON: `application/json` or anything `+json`, parameters apart.
pub(crate) fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let (kind, subtype) = essence.split_once('/').unwrap_or_default();
    let suffix = subtype.len().checked_sub(5).and_then(|at| subtype.get(at..));
    (kind.eq_ignore_ascii_case("application") && subtype.eq_ignore_ascii_case("json"))
        || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"))
}

/// Refuses what is not one JSON value in UTF-8.
pub(crate) fn check_json(body: &[u8]) -> Result<(), Problem> {
    let text = json_text(body)?;
    serde_json::from_str::<IgnoredAny>(text).map(|_| ()).map_err(|error| Problem::new(Code::BadJson, error.to_string()))
}

/// The text of a body that must be JSON, so far only known not to be empty and to be UTF-8.
pub(crate) fn json_text(body: &[u8]) -> Result<&str, Problem> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem::new(Code::EmptyBody, "send a JSON value, or no JSON content type"));
    }
    let not_utf8 = |error: std::str::Utf8Error| format!("not UTF-8 from byte {} on", error.valid_up_to());
    std::str::from_utf8(body).map_err(|error| Problem::new(Code::BadJson, not_utf8(error)))
}

/// A message of ours from its JSON. What is no JSON, and what is but says something else, are different problems.
pub(crate) fn message<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let text = json_text(body)?;
    serde_json::from_str(text).map_err(|error| problem_of(&error))
}

pub(crate) fn problem_of(error: &serde_json::Error) -> Problem {
    let code = if error.is_data() { Code::BadMessage } else { Code::BadJson };
    Problem::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_recognised_by_its_type_or_suffix() {
        for yes in ["application/json", "Application/JSON; charset=utf-8", "application/problem+json", "x/y+JSON ;a=b"]
        {
            assert!(is_json(yes), "{yes}");
        }
        for no in ["", "json", "text/json", "application/jsonl", "application/x-ndjson", "application/json+xml", "ä"] {
            assert!(!is_json(no), "{no}");
        }
    }

    #[test]
    fn whatever_the_grammar_allows_is_json_and_nothing_else() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let wide = "9".repeat(400);
        for good in
            ["1", " {\"a\":1,\"a\":2}\r\n", "1.0", "9007199254740993", "\"\\ud800\"", "[1e999]", "null", &deep, &wide]
        {
            assert!(check_json(good.as_bytes()).is_ok(), "{:.40}", good);
        }
        let code = |body: &[u8]| check_json(body).map_err(|problem| problem.code());
        for bad in [&b"{"[..], b"{} {}", b"nul", b"{'a':1}", b"\xef\xbb\xbf{}", b"\"\xff\"", b"[1,]", b"\"\n\""] {
            assert_eq!(code(bad), Err(Code::BadJson), "{bad:?}");
        }
        for empty in [&b""[..], b" \n"] {
            assert_eq!(code(empty), Err(Code::EmptyBody));
        }
    }
}
