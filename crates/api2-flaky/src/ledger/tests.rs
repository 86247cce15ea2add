use super::*;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn arrival(key: &str) -> Arrival<'_> {
    Arrival { key: Some(key), method: "POST", target: "/api2/simulate", ..Arrival::default() }
}

fn answered(ledger: &mut Ledger, ms: i64, key: &str, status: u16) {
    let ticket = ledger.arrived(at(ms), arrival(key));
    ledger.ended(at(ms), &ticket, End::Answered(status));
}

#[test]
fn a_second_2xx_for_a_key_is_a_duplicate_and_a_failure_before_it_is_not() {
    let mut ledger = Ledger::default();
    answered(&mut ledger, 0, "a", 503);
    answered(&mut ledger, 1, "a", 200);
    answered(&mut ledger, 2, "a", 200);
    answered(&mut ledger, 3, "b", 204);
    answered(&mut ledger, 4, "a", 503);
    let summary = ledger.summary();
    assert_eq!((summary.requests, summary.distinct), (5, 2));
    assert_eq!((summary.accepted, summary.duplicates), (2, 1));
    let by_status: Vec<_> = summary.by_status.iter().map(|(status, count)| (status.as_str(), *count)).collect();
    assert_eq!(by_status, [("200", 2), ("204", 1), ("503", 2)]);
    assert_eq!((summary.first_ok_at, summary.last_ok_at), (Some(at(1)), Some(at(3))));
}

#[test]
fn a_request_without_a_key_or_with_a_huge_one_counts_but_is_not_distinct() {
    let mut ledger = Ledger::default();
    let ticket = ledger.arrived(at(0), Arrival::default());
    ledger.ended(at(0), &ticket, End::Answered(200));
    answered(&mut ledger, 0, &"k".repeat(MAX_KEY_BYTES + 1), 200);
    let summary = ledger.summary();
    assert_eq!((summary.requests, summary.distinct, summary.accepted, summary.duplicates), (2, 0, 0, 0));
    assert_eq!(summary.by_status["200"], 2);
}

#[test]
fn a_key_tells_each_of_its_requests() {
    let mut ledger = Ledger::default();
    let first = Arrival { attempt: Some(1), epoch: Some(7), bytes: 3, crc32: 0xabc, ..arrival("a") };
    let first = ledger.arrived(at(5), first);
    ledger.arrived(at(6), Arrival { attempt: Some(2), ..arrival("a") });
    ledger.ended(at(7), &first, End::Reset);
    let report = ledger.key("a").unwrap();
    assert_eq!((report.arrived, report.ok), (2, 0));
    let [reset, in_flight] = report.requests.as_slice() else { panic!("{report:?}") };
    assert_eq!((reset.time, reset.attempt, reset.epoch, reset.end), (at(5), Some(1), Some(7), "reset"));
    assert_eq!((reset.bytes, reset.body_crc32.as_str()), (3, "00000abc"));
    assert_eq!(
        (in_flight.attempt, in_flight.epoch, in_flight.status, in_flight.end),
        (Some(2), None, None, "in_flight")
    );
    assert!(ledger.key("b").is_none());
}

#[test]
fn requests_in_flight_are_counted_and_so_is_their_peak() {
    let mut ledger = Ledger::default();
    let tickets: Vec<_> = ["a", "b", "c"].map(|key| ledger.arrived(at(0), arrival(key))).into();
    ledger.ended(at(0), &tickets[1], End::Abandoned);
    let summary = ledger.summary();
    assert_eq!((summary.in_flight, summary.most_in_flight), (2, 3));
}

#[test]
fn what_arrived_before_the_ledger_was_cleared_does_not_count_after() {
    let mut ledger = Ledger::default();
    let old = ledger.arrived(at(0), arrival("a"));
    ledger.clear();
    ledger.ended(at(1), &old, End::Answered(200));
    assert_eq!(ledger.summary(), Ledger::default().summary());
    assert!(ledger.key("a").is_none());
}

#[test]
fn counters_stay_right_when_requests_and_keys_are_forgotten() {
    let mut ledger = Ledger::default();
    for _ in 0..MAX_REQUESTS_PER_KEY + 20 {
        answered(&mut ledger, 0, "first", 503);
    }
    let report = ledger.key("first").unwrap();
    assert_eq!((report.arrived as usize, report.requests.len()), (MAX_REQUESTS_PER_KEY + 20, MAX_REQUESTS_PER_KEY));
    for number in 0..MAX_KEYS_IN_DETAIL {
        answered(&mut ledger, 0, &number.to_string(), 200);
    }
    assert_eq!((ledger.details.len(), ledger.details_order.len()), (MAX_KEYS_IN_DETAIL, MAX_KEYS_IN_DETAIL));
    answered(&mut ledger, 0, "first", 200);
    answered(&mut ledger, 0, "0", 200);
    let summary = ledger.summary();
    assert_eq!((summary.distinct, summary.accepted), (MAX_KEYS_IN_DETAIL as u64 + 1, MAX_KEYS_IN_DETAIL as u64 + 1));
    assert_eq!((summary.duplicates, summary.forgotten_keys), (1, 0));
}

#[test]
fn seconds_count_arrivals_and_successes_and_only_the_latest_are_kept() {
    let mut ledger = Ledger::default();
    answered(&mut ledger, 1_000, "a", 503);
    let slow = ledger.arrived(at(1_999), arrival("a"));
    ledger.ended(at(2_001), &slow, End::Answered(200));
    let seconds = ledger.summary().per_second;
    assert_eq!(
        serde_json::to_value(&seconds).unwrap(),
        serde_json::json!([
            {"at": "1970-01-01T00:00:01.000Z", "requests": 2, "ok": 0},
            {"at": "1970-01-01T00:00:02.000Z", "requests": 0, "ok": 1},
        ])
    );
    for second in 3..2_000 {
        answered(&mut ledger, second * 1_000, "a", 503);
    }
    let seconds = ledger.summary().per_second;
    assert_eq!((seconds.len(), seconds[0].at), (900, at(1_100_000)));
}
