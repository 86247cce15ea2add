//! Which of a caller's headers a job keeps, to be sent with every attempt.
//!
//! Those that describe one connection (RFC 9110, 7.6.1), the body's length, or the delivery itself are never a job's: they are
//! made anew for each attempt. Everything else is kept as it came.

use actix_web::http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};

use crate::problem::{Code, Problem};

/// Most headers of one job; a browser sends about 20.
pub(crate) const MAX_COUNT: usize = 64;
/// Most bytes of names and values together; many servers refuse more.
pub(crate) const MAX_BYTES: usize = 16 * 1024;

/// Of one connection, or set anew for each attempt.
const NEVER_KEPT: [&str; 12] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
    "content-length",
    "expect",
];
/// The client's own credentials, which travel only where the destination says so.
const CREDENTIALS: [&str; 2] = ["authorization", "cookie"];
/// Kept elsewhere in a job.
const KEPT_ELSEWHERE: [&str; 2] = ["content-type", "traceparent"];

/// The end-to-end headers of a request to be forwarded. `credentials`: whether the client's own travel.
pub(crate) fn forwarded(headers: &HeaderMap, credentials: bool) -> Result<Vec<(String, String)>, Problem> {
    let named_by_connection: Vec<String> = headers
        .get_all(CONNECTION)
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|name| String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase())
        .collect();
    let dropped = |name: &str| {
        NEVER_KEPT.contains(&name)
            || KEPT_ELSEWHERE.contains(&name)
            || name.starts_with("job-")
            || (!credentials && CREDENTIALS.contains(&name))
            || named_by_connection.iter().any(|named| named == name)
    };
    let mut kept = Vec::new();
    for (name, value) in headers.iter().filter(|(name, _)| !dropped(name.as_str())) {
        let text = std::str::from_utf8(value.as_bytes())
            .map_err(|_| Problem::with(Code::BadHeader, name.to_string(), "its value is not text"))?;
        kept.push((name.to_string(), text.to_owned()));
    }
    check_size(kept)
}

/// The headers of an envelope, which may not touch what we set ourselves.
pub(crate) fn enveloped(headers: Vec<(String, String)>) -> Result<Vec<(String, String)>, Problem> {
    for (name, value) in &headers {
        let bad = |detail: &str| Problem::with(Code::BadHeader, format!("headers.{name}"), detail);
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("not a header's name"))?;
        let lower = parsed.as_str();
        let reserved = NEVER_KEPT.contains(&lower) || KEPT_ELSEWHERE.contains(&lower) || lower.starts_with("job-");
        if reserved || lower == "idempotency-key" {
            return Err(bad("set by the gateway, or by a field of the envelope"));
        }
        check_value(value).map_err(bad)?;
    }
    check_size(headers)
}

/// Refuses a value that cannot be one header: with a line break it would be two.
pub(crate) fn check_value(value: &str) -> Result<(), &'static str> {
    let refused = "control characters, such as line breaks, cannot be sent in a header";
    HeaderValue::from_bytes(value.as_bytes()).map(|_| ()).map_err(|_| refused)
}

fn check_size(headers: Vec<(String, String)>) -> Result<Vec<(String, String)>, Problem> {
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if headers.len() > MAX_COUNT || bytes > MAX_BYTES {
        let detail = format!("at most {MAX_COUNT} headers of {MAX_BYTES} bytes together");
        return Err(Problem::new(Code::HeadersTooLarge, detail));
    }
    Ok(headers)
}

/// RFC 9110, 5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Whether a content type names a type at all: `type/subtype`, parameters apart (RFC 9110, 8.3.1).
pub(crate) fn is_media_type(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(headers: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        map
    }

    fn names(headers: &[(String, String)]) -> Vec<&str> {
        let mut names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn only_end_to_end_headers_are_forwarded() {
        let mut sent: Vec<(&str, &str)> = NEVER_KEPT.iter().map(|name| (*name, "x")).collect();
        sent.extend([("connection", "close, X-Hop"), ("x-hop", "1"), ("job-delay", "1s"), ("content-type", "a/b")]);
        sent.extend([("x-own", "1"), ("idempotency-key", "k"), ("accept", "*/*"), ("x-own", "2")]);
        sent.extend([("authorization", "secret"), ("cookie", "c")]);
        let kept = forwarded(&map(&sent), false).unwrap();
        assert_eq!(names(&kept), ["accept", "idempotency-key", "x-own", "x-own"]);
        let kept = forwarded(&map(&sent), true).unwrap();
        assert_eq!(names(&kept), ["accept", "authorization", "cookie", "idempotency-key", "x-own", "x-own"]);
    }

    #[test]
    fn an_envelope_may_not_set_what_is_ours_nor_smuggle_a_line() {
        let own = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        assert!(enveloped(own("X-Own", "grüße\t1")).is_ok());
        for (name, value) in [
            ("Host", "x"),
            ("content-length", "1"),
            ("Transfer-Encoding", "chunked"),
            ("Connection", "close"),
            ("Idempotency-Key", "k"),
            ("Job-Attempt", "1"),
            ("Content-Type", "a/b"),
            ("", "x"),
            ("a b", "x"),
            ("x\r\ny", "x"),
            ("X-Own", "a\r\nHost: evil"),
            ("X-Own", "\0"),
        ] {
            let problem = enveloped(own(name, value)).expect_err(&format!("{name:?}: {value:?}"));
            assert_eq!(problem.code(), Code::BadHeader, "{name:?}");
        }
    }

    #[test]
    fn too_many_or_too_long_headers_are_refused() {
        let many = |count: usize| (0..count).map(|n| (format!("x-{n}"), String::new())).collect::<Vec<_>>();
        assert!(enveloped(many(MAX_COUNT)).is_ok());
        assert_eq!(enveloped(many(MAX_COUNT + 1)).unwrap_err().code(), Code::HeadersTooLarge);
        let long = vec![("x".to_owned(), "y".repeat(MAX_BYTES))];
        assert_eq!(enveloped(long).unwrap_err().code(), Code::HeadersTooLarge);
    }

    /// A name that is often one of the connection's, or ours.
    fn a_name() -> impl Strategy<Value = String> {
        let known: Vec<&str> =
            [&NEVER_KEPT[..], &CREDENTIALS, &KEPT_ELSEWHERE, &["job-id", "X-Hop", "idempotency-key"]].concat();
        prop_oneof![prop::sample::select(known).prop_map(str::to_owned), "[a-zA-Z][a-zA-Z0-9-]{0,7}"]
    }

    proptest! {
        #[test]
        fn what_is_forwarded_is_no_header_of_the_connection_and_no_second_line(
            sent in prop::collection::vec((a_name(), "[ -~\\tä]{0,9}"), 0..8),
            named in prop::collection::vec(a_name(), 0..4),
            odd in prop::option::of(prop::collection::vec(prop_oneof![b' '..=b'~', Just(b'\t'), 0x80..=0xff_u8], 0..6)),
        ) {
            let mut map = HeaderMap::new();
            for (name, value) in &sent {
                map.append(name.parse().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            // What else is in the header, text or not, must hide no name.
            let connection = [named.join(" , ").into_bytes(), odd.map(|odd| [&b","[..], &odd].concat()).unwrap_or_default()].concat();
            map.append(CONNECTION, HeaderValue::from_bytes(&connection).unwrap());
            for (name, value) in forwarded(&map, true).unwrap_or_default() {
                prop_assert!(!NEVER_KEPT.contains(&name.as_str()) && !name.starts_with("job-"), "{name}");
                prop_assert!(!named.iter().any(|named| named.eq_ignore_ascii_case(&name)), "{name} is named by {connection:?}");
                prop_assert!(!value.contains(['\r', '\n', '\0']), "{value:?}");
            }
        }

        #[test]
        fn what_an_envelope_gives_is_refused_or_one_harmless_header(
            name in prop_oneof![a_name(), "\\PC{0,6}", "[a-z]{0,3}[\r\n:\0 ]{0,2}[a-z]{0,3}"],
            value in prop_oneof!["[ -~]{0,9}", "\\PC{0,9}", "[a-z]{0,3}[\r\n\0\t]{0,2}[a-z:]{0,3}"],
        ) {
            for (name, value) in enveloped(vec![(name, value)]).unwrap_or_default() {
                let lower = name.to_ascii_lowercase();
                prop_assert!(!NEVER_KEPT.contains(&lower.as_str()) && !lower.starts_with("job-"), "{name}");
                prop_assert!(!name.is_empty() && !name.contains(['\r', '\n', ':', ' ', '\0']), "{name:?}");
                prop_assert!(!value.contains(['\r', '\n', '\0']), "{value:?}");
            }
        }
    }

    #[test]
    fn a_media_type_has_a_type_and_a_subtype() {
        for yes in ["text/plain", "application/json; charset=utf-8", "a/b"] {
            assert!(is_media_type(yes), "{yes}");
        }
        for no in ["", "text", "/plain", "text/", "te xt/plain", "text/pla/in", "; a=b"] {
            assert!(!is_media_type(no), "{no}");
        }
    }
}
