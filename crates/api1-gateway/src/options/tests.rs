use actix_web::http::header::HeaderName;
use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn read(headers: &[(&str, &str)]) -> Result<Options, Problem> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    Options::from_headers(&map, NOW, &["job-client-key"])
}

#[test]
fn without_options_a_job_runs_now_with_the_defaults() {
    assert_eq!(read(&[("content-type", "application/json"), ("x-own", "1")]).unwrap(), Options::default());
    assert_eq!(Start::Now.run_at(NOW), NOW);
}

#[test]
fn every_option_is_read_from_its_header() {
    let options = read(&[
        ("Idempotency-Key", "order 42"),
        ("Job-Delay", "1m 30s"),
        ("Job-Expires-After", "24h"),
        ("Job-Priority", "9"),
        ("Job-Ordering-Key", "customer-7"),
        ("Job-Max-Attempts", "3"),
        ("Job-Callback", "billing"),
        ("Prefer", "respond-async, wait=10"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ])
    .unwrap();
    assert_eq!(options.idempotency_key.as_deref(), Some("order 42"));
    assert_eq!(options.start.run_at(NOW), NOW.plus(Duration::from_secs(90)));
    assert_eq!(options.expires_after, Some(Duration::from_secs(86_400)));
    assert_eq!(options.priority, Some(Priority::MAX));
    assert_eq!(options.ordering_key.as_deref(), Some("customer-7"));
    assert_eq!(options.max_attempts, Some(3));
    assert_eq!(options.wait, Some(Duration::from_secs(10)));
    assert!(options.traceparent.is_some());
    assert_eq!(options.callback.as_ref().map(|name| name.as_str()), Some("billing"));
}

#[test]
fn a_run_at_in_the_past_means_now() {
    let start = |text| read(&[("Job-Run-At", text)]).unwrap().start.run_at(NOW);
    assert_eq!(start("2001-01-01T00:00:00Z"), NOW);
    assert_eq!(start("2023-11-14T22:13:21Z"), NOW.plus(Duration::from_secs(1)));
}

#[test]
fn every_mistake_names_its_header() {
    let long = "x".repeat(300);
    let wrong: [(&str, &str); 28] = [
        ("Job-Delay", "soon"),
        ("Job-Delay", "-5s"),
        ("Job-Delay", "30"),
        ("Job-Delay", ""),
        ("Job-Delay", "367d"),
        ("Job-Delay", "99999999999999999999s"),
        ("Job-Run-At", "tomorrow"),
        ("Job-Run-At", "2026-11-22"),
        ("Job-Run-At", "2999-01-01T00:00:00Z"),
        ("Job-Expires-After", "0s"),
        ("Job-Expires-After", "1000000d"),
        ("Job-Priority", "10"),
        ("Job-Priority", "-1"),
        ("Job-Priority", "+1"),
        ("Job-Priority", "high"),
        ("Job-Ordering-Key", ""),
        ("Job-Ordering-Key", &long),
        ("Job-Max-Attempts", "0"),
        ("Job-Max-Attempts", "1001"),
        ("Job-Max-Attempts", "4294967297"),
        ("Job-Callback", "no name"),
        ("Job-Dealy", "30s"),
        ("Job-", "x"),
        ("Idempotency-Key", ""),
        ("Idempotency-Key", &long),
        ("Idempotency-Key", "schlüssel"),
        ("Prefer", "wait=soon"),
        ("Prefer", "wait=-1"),
    ];
    for (name, value) in wrong {
        let problem = read(&[(name, value)]).expect_err(&format!("{name}: {value}"));
        assert_eq!(problem.code(), Code::BadOption, "{name}: {value}");
        assert_eq!(serde_json::to_value(&problem).unwrap()["parameter"], name, "{value}");
    }
}

#[test]
fn an_option_given_twice_or_two_ways_is_refused() {
    for twice in [
        [("Job-Delay", "1s"), ("Job-Run-At", "2030-01-01T00:00:00Z")],
        [("Job-Delay", "1s"), ("Job-Delay", "1s")],
        [("Idempotency-Key", "a"), ("Idempotency-Key", "b")],
        [("Job-Max-Attempts", "1"), ("Job-Max-Attempts", "2")],
        [("Job-Priority", "1"), ("Job-Priority", "1")],
    ] {
        assert!(read(&twice).is_err(), "{twice:?}");
    }
}

#[test]
fn what_our_own_workers_send_is_ignored() {
    let sent = [("Job-Attempt", "3"), ("Job-Epoch", "4294967297"), ("Job-Id", "x"), ("Job-Client-Key", "secret")];
    assert_eq!(read(&sent).unwrap(), Options::default());
}

#[test]
fn a_malformed_trace_context_is_dropped_and_a_long_wait_is_cut() {
    for malformed in ["", "00", "00-xyz-b7ad6b7169203331-01", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]
    {
        assert_eq!(read(&[("traceparent", malformed)]).unwrap().traceparent, None);
    }
    assert_eq!(read(&[("Prefer", "wait=99999")]).unwrap().wait, Some(MAX_WAIT));
    assert_eq!(read(&[("Prefer", "return=minimal; wait=1")]).unwrap().wait, None);
}

proptest! {
    #[test]
    fn no_header_makes_the_parser_panic(name in "job-[a-z-]{0,14}|idempotency-key|prefer|traceparent", value in "[ -~\u{80}-\u{ff}]{0,40}") {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes())) {
            let mut map = HeaderMap::new();
            map.append(name, value);
            // Either answer is fine; a panic would fail the property.
            let read = Options::from_headers(&map, NOW, &[]);
            prop_assert!(read.is_ok() || read.is_err_and(|problem| problem.code() == Code::BadOption));
        }
    }

    #[test]
    fn a_delay_that_is_shown_is_read_back(millis in 0u64..=366 * 86_400_000) {
        let delay = Duration::from_millis(millis);
        let options = read(&[("Job-Delay", &duration::show(delay))]).unwrap();
        prop_assert_eq!(options.start, Start::After(delay));
    }

    #[test]
    fn a_priority_is_taken_exactly_from_0_to_9(level in 0u64..1_000) {
        prop_assert_eq!(read(&[("Job-Priority", &level.to_string())]).is_ok(), level <= 9);
    }
}
