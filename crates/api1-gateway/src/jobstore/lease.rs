//! A lease as it travels: everything the worker needs to make the call.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jobs_core::destination::Destination;
use jobs_core::protocol::{WireLease, WireRequest};
use jobs_core::store::Lease;
use jobs_core::trace;

/// `left`: of the lease's term.
pub(super) fn wire(lease: Lease, destination: &Destination, left: Duration) -> WireLease {
    let headers = headers(&lease, destination);
    let Lease { job, epoch, request } = lease;
    // Where nobody else has them the bytes are not copied.
    let (payload, payload_base64) = match String::from_utf8(request.body.into()) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
    };
    WireLease {
        job_id: job.id,
        epoch,
        lease_ms: millis(left),
        attempt: job.next_attempt_number(),
        request: WireRequest {
            method: request.method.unwrap_or_else(|| destination.method.clone()),
            url: url(&destination.url, request.path.as_deref().unwrap_or_default()),
            headers,
            timeout_ms: millis(destination.attempt_timeout),
            rules: destination.rules.clone(),
        },
        destination: job.destination,
        payload,
        payload_base64,
        traceparent: Some(trace::of_attempt(job.traceparent.as_deref(), job.id, epoch)),
        parent_span: trace::parent_id(job.traceparent.as_deref()).map(str::to_owned),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The job's own headers, ours, and the destination's configured ones, which replace the job's own of the same name. A forwarded
/// client's own `Idempotency-Key` travels unchanged in place of ours.
fn headers(lease: &Lease, destination: &Destination) -> Vec<(String, String)> {
    let configured = |name: &str| destination.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    let own = lease.request.headers.iter().filter(|(name, _)| !configured(name));
    let mut headers: Vec<(String, String)> = own.cloned().collect();
    if let Some(content_type) = &lease.request.content_type {
        headers.push(("Content-Type".to_owned(), content_type.clone()));
    }
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("idempotency-key")) {
        headers.push(("Idempotency-Key".to_owned(), lease.job.delivery_key()));
    }
    headers.push(("Job-Id".to_owned(), lease.job.id.to_string()));
    headers.extend(destination.headers.iter().cloned());
    headers
}

/// `base` with `path` (empty, or beginning with `/` or `?`) added to its path and both queries kept, an empty one of `path`
/// alone, too. Whatever `path` is, the result begins with the path of `base`; that it has no dot segments is checked where it comes in.
fn url(base: &str, path: &str) -> String {
    if path.is_empty() {
        return base.to_owned();
    }
    let (base, base_query) = base.split_once('?').map_or((base, None), |(base, query)| (base, Some(query)));
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let base = if path.is_empty() { base } else { base.trim_end_matches('/') };
    match (base_query.filter(|query| !query.is_empty()), query) {
        (None, None) => format!("{base}{path}"),
        (None, Some(query)) => format!("{base}{path}?{query}"),
        (Some(base_query), None | Some("")) => format!("{base}{path}?{base_query}"),
        (Some(base_query), Some(query)) => format!("{base}{path}?{base_query}&{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jobs_core::job::{Epoch, JobId, NewJob, Priority, Request};
    use jobs_core::lifecycle;
    use jobs_core::time::Timestamp;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn lease(request: Request) -> Lease {
        let new = NewJob {
            id: JobId(Uuid::from_u128(7)),
            id_is_new: false,
            destination: "api2".parse().unwrap(),
            request,
            idempotency: None,
            run_at: Timestamp::default(),
            expires_after: None,
            priority: Priority::default(),
            ordering_key: None,
            max_attempts: None,
            traceparent: None,
            redriven_from: None,
            callback: None,
        };
        let (job, request) = lifecycle::enqueue(new, 1, Epoch::NONE, Timestamp::default());
        Lease { job, epoch: Epoch::new(1, 1), request }
    }

    fn destination() -> Destination {
        Destination::new("api2".parse().unwrap(), "http://127.0.0.1:1/api2/simulate".to_owned())
    }

    fn value<'a>(headers: &'a [(String, String)], name: &str) -> Vec<&'a str> {
        headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    }

    #[test]
    fn the_destination_receives_the_job_id_as_its_idempotency_key() {
        let request = Request { content_type: Some("text/plain".to_owned()), ..Request::default() };
        let wire = wire(lease(request), &destination(), Duration::from_secs(5));
        let id = wire.job_id.to_string();
        assert_eq!(value(&wire.request.headers, "Idempotency-Key"), [id.as_str()]);
        assert_eq!(value(&wire.request.headers, "Job-Id"), [id.as_str()]);
        assert_eq!(value(&wire.request.headers, "Content-Type"), ["text/plain"]);
        assert_eq!((wire.attempt, wire.lease_ms, wire.request.method.as_str()), (1, 5_000, "POST"));
    }

    #[test]
    fn a_forwarded_clients_own_key_travels_and_a_configured_header_wins() {
        let own = [("idempotency-key", "theirs"), ("authorization", "theirs"), ("x-own", "1")];
        let headers = own.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let destination =
            Destination { headers: vec![("Authorization".to_owned(), "ours".to_owned())], ..destination() };
        let wire = wire(lease(Request { headers, ..Request::default() }), &destination, Duration::ZERO);
        assert_eq!(value(&wire.request.headers, "Idempotency-Key"), ["theirs"]);
        assert_eq!(value(&wire.request.headers, "Authorization"), ["ours"]);
        assert_eq!(value(&wire.request.headers, "X-Own"), ["1"]);
    }

    #[test]
    fn a_payload_travels_as_text_or_where_it_is_none_as_base64() {
        let sent = |body: &'static [u8]| {
            let request = Request { body: bytes::Bytes::from_static(body), ..Request::default() };
            let wire = wire(lease(request), &destination(), Duration::ZERO);
            (wire.payload, wire.payload_base64)
        };
        assert_eq!(sent(b"{\"a\":1.0}\n"), (Some("{\"a\":1.0}\n".to_owned()), None));
        assert_eq!(sent(b"\xff\x00"), (None, Some("/wA=".to_owned())));
        assert_eq!(sent(b""), (Some(String::new()), None));
    }

    #[test]
    fn a_forwarded_path_is_added_to_the_base_and_both_queries_are_kept() {
        for (base, path, joined) in [
            ("http://h/b", "", "http://h/b"),
            ("http://h/b/", "", "http://h/b/"),
            ("http://h/b", "/c/d", "http://h/b/c/d"),
            ("http://h/b/", "/c", "http://h/b/c"),
            ("http://h", "/", "http://h/"),
            ("http://h/b", "?x=1", "http://h/b?x=1"),
            ("http://h/b?k=v", "/c?x=1&y=%20", "http://h/b/c?k=v&x=1&y=%20"),
            ("http://h/b?k=v", "", "http://h/b?k=v"),
            ("http://h/b", "/c?", "http://h/b/c?"),
            ("http://h/b", "?", "http://h/b?"),
            ("http://h/b?k=v", "/c?", "http://h/b/c?k=v"),
            ("http://h/b?", "/c", "http://h/b/c"),
        ] {
            assert_eq!(url(base, path), joined, "{base} + {path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_changes_where_a_request_goes(path in "[/?][ -~]{0,40}") {
            prop_assert!(url("http://host:1/base", &path).starts_with("http://host:1/base"));
        }
    }
}
