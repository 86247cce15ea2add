//! Requests that are not what they seem: forms of request smuggling, malformed and oversized ones, each with what must come of it.
//!
//! A smuggler hides a second request where one reader sees the body of the first and another does not. So each such form carries
//! one, which would be stored if it were ever read as a request; a form that is refused must be answered once and hung up on,
//! because nobody can know where the next request begins.

use std::fmt::Write as _;

/// What must come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// One 4xx, and the connection is closed; or it is closed without a word.
    Refused,
    /// One 4xx; the connection may stay.
    Answered,
    /// One 202, for the one request it is.
    Accepted,
    /// No answer at all, or one that is no 5xx: it is unusual, and legal.
    Anything,
}

/// One of them.
#[derive(Debug, Clone)]
pub(super) struct Form {
    pub(super) name: &'static str,
    pub(super) bytes: Vec<u8>,
    pub(super) due: Due,
}

/// Where what is smuggled would arrive.
const HIDDEN: &str = "POST /api1/process/fuzzed HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{\"evil\":1}";

/// Longer than any head the gateway reads.
const HUGE: usize = 300 * 1024;

/// Deeper than any reader should follow.
const DEEP: usize = 100_000;

fn form(name: &'static str, due: Due, bytes: impl Into<Vec<u8>>) -> Form {
    Form { name, bytes: bytes.into(), due }
}

/// A post with these header lines (each with its end) and what follows the head.
fn post(headers: &str, rest: &str) -> String {
    format!("POST /api1/process/fuzzed HTTP/1.1\r\nHost: x\r\n{headers}\r\n{rest}")
}

/// A chunked post of this body, as it is on the wire.
fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

/// All of them.
pub(super) fn all() -> Vec<Form> {
    [smuggling(), framing(), malformed(), oversized(), unusual()].concat()
}

/// Two readers could disagree on where the body ends.
fn smuggling() -> Vec<Form> {
    let as_chunks = format!("0\r\n\r\n{HIDDEN}");
    let both = |first: &str, second: &str| post(&format!("{first}\r\n{second}\r\n"), &as_chunks);
    let (length, coding) = (format!("Content-Length: {}", as_chunks.len()), "Transfer-Encoding: chunked");
    let encoded = |line: &str| post(&format!("{length}\r\n{line}\r\n"), &as_chunks);
    let lengths = |lines: &str| post(lines, &format!("hello{HIDDEN}"));
    vec![
        form("length, then coding", Due::Refused, both(&length, coding)),
        form("coding, then length", Due::Refused, both(coding, &length)),
        form("two lengths that differ", Due::Refused, lengths("Content-Length: 5\r\nContent-Length: 105\r\n")),
        form("two lengths that agree", Due::Refused, lengths("Content-Length: 5\r\nContent-Length: 5\r\n")),
        form("a list of lengths", Due::Refused, lengths("Content-Length: 5, 5\r\n")),
        form("a length with a sign", Due::Refused, lengths("Content-Length: +5\r\n")),
        form("a negative length", Due::Refused, lengths("Content-Length: -5\r\n")),
        form("a hexadecimal length", Due::Refused, lengths("Content-Length: 0x5\r\n")),
        form("a length with more behind it", Due::Refused, lengths("Content-Length: 5 5\r\n")),
        form("an empty length", Due::Refused, lengths("Content-Length: \r\n")),
        form("a length beyond 64 bits", Due::Refused, lengths("Content-Length: 18446744073709551621\r\n")),
        form("an unknown coding", Due::Refused, encoded("Transfer-Encoding: xchunked")),
        form("chunked is not last", Due::Refused, encoded("Transfer-Encoding: chunked, identity")),
        form("chunked after another", Due::Refused, encoded("Transfer-Encoding: identity, chunked")),
        form("chunked twice", Due::Refused, encoded("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")),
        form("coding after a vertical tab", Due::Refused, encoded("Transfer-Encoding: \x0bchunked")),
        form("coding in quotes", Due::Refused, encoded("Transfer-Encoding: \"chunked\"")),
        form("a blank before the colon", Due::Refused, encoded("Transfer-Encoding : chunked")),
        form("a line that is folded", Due::Refused, encoded("Transfer-Encoding:\r\n chunked")),
        form("a first line that is folded", Due::Refused, post(" Transfer-Encoding: chunked\r\n", &as_chunks)),
        form("a header ended by a line feed hides another", Due::Refused, encoded("X: a\nTransfer-Encoding: chunked")),
        form("a header with a carriage return in it", Due::Refused, encoded("X: a\rTransfer-Encoding: chunked")),
        form("a header with a nul in it", Due::Refused, encoded("X: a\0Transfer-Encoding: chunked")),
        form(
            "chunks in HTTP/1.0",
            Due::Refused,
            format!("POST /api1/process/fuzzed HTTP/1.0\r\n{coding}\r\n\r\n{as_chunks}"),
        ),
    ]
}

/// Chunks that are none.
fn framing() -> Vec<Form> {
    let hidden = |before: &str| chunked(&format!("{before}{HIDDEN}"));
    vec![
        form("a chunk of no number", Due::Refused, hidden("x\r\nhello\r\n0\r\n\r\n")),
        form("a chunk of a negative size", Due::Refused, hidden("-5\r\nhello\r\n0\r\n\r\n")),
        form("a chunk size in C's way", Due::Refused, hidden("0x5\r\nhello\r\n0\r\n\r\n")),
        form("a chunk size beyond 64 bits", Due::Refused, hidden("10000000000000005\r\nhello\r\n0\r\n\r\n")),
        form("a chunk size ended by a line feed", Due::Refused, hidden("5\nhello\r\n0\r\n\r\n")),
        form("a chunk longer than its size", Due::Refused, hidden("4\r\nhello\r\n0\r\n\r\n")),
        form("a chunk's extension with a line feed", Due::Refused, hidden("5;a\nb\r\nhello\r\n0\r\n\r\n")),
        form("a chunk's extension", Due::Accepted, chunked("5;a=b\r\nhello\r\n0\r\n\r\n")),
        form("a length in the trailer", Due::Accepted, chunked("5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n")),
    ]
}

/// No HTTP, or nearly none.
fn malformed() -> Vec<Form> {
    let get = |line: &str| format!("{line}\r\nHost: x\r\n\r\n");
    let json = "Content-Type: application/json\r\n";
    let typed = |kind: &str, body: &[u8]| {
        let head = post(&format!("{kind}Content-Length: {}\r\n", body.len()), "");
        [head.as_bytes(), body].concat()
    };
    vec![
        form("no HTTP at all", Due::Refused, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n".to_vec()),
        form("the preface of HTTP/2", Due::Refused, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        form("HTTP/0.9", Due::Refused, "GET /livez\r\n\r\n"),
        form("HTTP/3.7", Due::Refused, get("GET /livez HTTP/3.7")),
        form("a method with a blank", Due::Refused, get("GET ME /livez HTTP/1.1")),
        form("a method of odd letters", Due::Refused, get("G(T /livez HTTP/1.1")),
        form("no address", Due::Refused, get("GET  HTTP/1.1")),
        form("an address with a nul", Due::Refused, get("GET /\0livez HTTP/1.1")),
        form("no host", Due::Refused, "GET /livez HTTP/1.1\r\n\r\n"),
        form("two hosts", Due::Refused, "GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"),
        form("a header without a name", Due::Refused, "GET /livez HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n"),
        form("a header without a colon", Due::Refused, "GET /livez HTTP/1.1\r\nHost: x\r\nhello\r\n\r\n"),
        form("an address that is not UTF-8", Due::Refused, b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        form("an escape that is none", Due::Answered, get("GET /api1/jobs/%zz HTTP/1.1")),
        form("an escaped nul", Due::Answered, get("GET /api1/jobs/%00 HTTP/1.1")),
        form("a way out of the folder", Due::Answered, get("GET /api1/../../etc/passwd HTTP/1.1")),
        form("a job's id that is none", Due::Answered, get("GET /api1/jobs/0000 HTTP/1.1")),
        form("a query that is none", Due::Answered, get("GET /api1/jobs?limit=-1&state=%ff&&&==&cursor=%00 HTTP/1.1")),
        form("JSON that is none", Due::Answered, typed(json, b"{\"a\":")),
        form("JSON that is not UTF-8", Due::Answered, typed(json, b"{\"a\":\"\xff\"}")),
        form("JSON with a nul", Due::Answered, typed(json, b"{\"a\":\"\0\"}")),
        form("JSON with half a surrogate", Due::Anything, typed(json, br#"{"a":"\ud800"}"#)),
        form("JSON without a bottom", Due::Answered, typed(json, "[".repeat(DEEP).as_bytes())),
        form("options that are none", Due::Answered, typed("Job-Delay: -1s\r\nJob-Priority: 10\r\n", b"{}")),
        form("a key of other than text", Due::Answered, typed("Idempotency-Key: \u{e9}\x7f\r\n", b"{}")),
        form(
            "a batch that is none",
            Due::Answered,
            "POST /api1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n[1,]",
        ),
        form(
            "a claim that is none",
            Due::Answered,
            "POST /jobstore/v1/claim HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n{\"worker\":1}",
        ),
    ]
}

/// More than anybody has a use for.
fn oversized() -> Vec<Form> {
    let mut many = String::new();
    for number in 0..200 {
        // A string takes whatever is written to it.
        let _never_fails = write!(many, "X-{number}: y\r\n");
    }
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    vec![
        form("a header without an end", Due::Refused, format!("GET /livez HTTP/1.1\r\nX: {}", "y".repeat(HUGE))),
        form("an address without an end", Due::Refused, format!("GET /{}", "y".repeat(HUGE))),
        form("a method without an end", Due::Refused, "G".repeat(HUGE)),
        form("200 headers", Due::Refused, post(&many, "")),
        form("empty lines without an end", Due::Refused, "\r\n".repeat(HUGE)),
        form("a length beyond the limit", Due::Answered, post("Content-Length: 1099511627776\r\n", "")),
        form("chunks beyond the limit", Due::Answered, chunked(&chunk.repeat(40))),
        form(
            "a batch beyond the limit",
            Due::Answered,
            format!(
                "POST /api1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{}",
                9 << 20,
                " ".repeat(9 << 20)
            ),
        ),
        // It is read, thrown away, and ended by the deadline of a body.
        form("a chunk's extension without an end", Due::Anything, chunked(&format!("5;{}", "a".repeat(8 * HUGE)))),
    ]
}

/// Rare, and nobody's fault.
fn unusual() -> Vec<Form> {
    let hello = "Content-Length: 5\r\n\r\nhello";
    vec![
        form(
            "lines ended by line feeds",
            Due::Accepted,
            format!("POST /api1/process/fuzzed HTTP/1.1\nHost: x\n{}", hello.replace('\r', "")),
        ),
        form(
            "empty lines before it",
            Due::Accepted,
            format!("\r\n\r\nPOST /api1/process/fuzzed HTTP/1.1\r\nHost: x\r\n{hello}"),
        ),
        form(
            "a whole address",
            Due::Accepted,
            format!("POST http://x/api1/process/fuzzed HTTP/1.1\r\nHost: x\r\n{hello}"),
        ),
        form(
            "an upgrade nobody offers",
            Due::Anything,
            post("Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 5\r\n", "hello"),
        ),
        form("a tunnel", Due::Answered, "CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n"),
        form("an asterisk", Due::Anything, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"),
        form("a trace", Due::Answered, "TRACE /api1/jobs HTTP/1.1\r\nHost: x\r\n\r\n"),
    ]
}
