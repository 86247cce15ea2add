use std::io::ErrorKind;

use api2_flaky::drill::Weather;

use crate::client::call;
use crate::harness::{Api2, eventually};

fn statuses(api2: &Api2, count: usize) -> Vec<u16> {
    (0..count).map(|_| api2.simulate("a").unwrap().status).collect()
}

#[test]
fn it_starts_down_and_the_toggle_speaks_as_the_original() {
    let api2 = Api2::start(Weather::DOWN);
    let answer = api2.simulate("a").unwrap();
    assert_eq!((answer.status, answer.text()), (503, "API 2 is down"));
    assert_eq!(api2.get("/api2/health").status, 503);

    let toggled = call(api2.service, "POST", "/api2/toggle", &[], b"").unwrap();
    assert_eq!((toggled.status, toggled.text()), (200, "API 2 failure mode = false"));
    let answer = api2.simulate("a").unwrap();
    assert_eq!((answer.status, answer.text()), (200, "API 2 processed payload"));
    assert_eq!(api2.get("/api2/health").status, 200);
    assert_eq!(api2.get("/api2/drill").json(), serde_json::json!({"mode": "up"}));

    let toggled = call(api2.control, "POST", "/api2/toggle", &[], b"").unwrap();
    assert_eq!(toggled.text(), "API 2 failure mode = true");
    assert_eq!(api2.simulate("a").unwrap().status, 503);
    assert_eq!(api2.get("/api2/drill").json(), serde_json::json!({"mode": "down", "status": 503}));
}

#[test]
fn down_answers_the_status_and_retry_after_it_was_given() {
    let api2 = Api2::up();
    let answer = api2.set(r#"{"mode":"down","status":429,"retry_after":"1500ms"}"#);
    assert_eq!(answer.json(), serde_json::json!({"mode": "down", "status": 429, "retry_after": "1s 500ms"}));
    let answer = api2.simulate("a").unwrap();
    assert_eq!((answer.status, answer.header("Retry-After")), (429, Some("2")), "never earlier than asked");
}

#[test]
fn an_error_rate_hits_the_same_requests_for_the_same_seed() {
    let api2 = Api2::up();
    let run = |seed: u32| {
        api2.set(&format!(r#"{{"mode":"error_rate","rate":0.5,"status":500,"seed":{seed}}}"#));
        statuses(&api2, 40)
    };
    let first = run(3);
    assert_eq!(first, run(3));
    assert_ne!(first, run(4));
    assert!(first.contains(&200) && first.contains(&500), "{first:?}");
}

#[test]
fn capacity_serves_its_burst_and_refuses_beyond() {
    let api2 = Api2::up();
    api2.set(r#"{"mode":"capacity","per_second":1,"burst":3}"#);
    let statuses = statuses(&api2, 10);
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert!(statuses.starts_with(&[200, 200, 200]) && served < 10, "{statuses:?}");
}

#[test]
fn capacity_serves_only_so_many_at_once() {
    let api2 = Api2::up();
    // The second step keeps the first one's requests in flight: latency is not capacity, but both count as being served.
    api2.set(r#"{"mode":"latency","ms":600000}"#);
    let waiting = api2.send_simulate("slow");
    eventually("the slow request is in flight", || (api2.ledger()["in_flight"] == 1).then_some(()));
    api2.set(r#"{"mode":"capacity","per_second":1000,"max_in_flight":1}"#);
    assert_eq!(api2.simulate("a").unwrap().status, 503);
    drop(waiting);
    eventually("the slow request was abandoned", || (api2.ledger()["by_status"]["abandoned"] == 1).then_some(()));
    assert_eq!(api2.simulate("a").unwrap().status, 200);
}

#[test]
fn a_reset_is_a_real_one_and_nothing_is_answered() {
    let api2 = Api2::up();
    api2.set(r#"{"mode":"reset"}"#);
    assert_eq!(api2.simulate("a").unwrap_err().kind(), ErrorKind::ConnectionReset);
    let health = call(api2.service, "GET", "/api2/health", &[], b"").unwrap_err();
    assert_eq!(health.kind(), ErrorKind::ConnectionReset);
    assert_eq!(api2.get("/api2/health").status, 503, "the control port always answers");
    assert_eq!(api2.ledger()["by_status"]["reset"], 1);
}

#[test]
fn requests_that_hang_are_closed_without_an_answer_when_the_weather_changes() {
    let api2 = Api2::up();
    api2.set(r#"{"mode":"hang"}"#);
    let hanging = api2.send_simulate("a");
    let health = crate::client::send(api2.service, "GET", "/api2/health", &["Connection: close"], b"").unwrap();
    eventually("the request hangs", || (api2.ledger()["in_flight"] == 1).then_some(()));
    api2.set(r#"{"mode":"up"}"#);
    assert_eq!(hanging.answer().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(api2.simulate("b").unwrap().status, 200);
    let ledger = api2.ledger();
    assert_eq!((&ledger["by_status"]["closed"], &ledger["in_flight"]), (&1.into(), &0.into()));
    // The health check may have come after the change: then it was answered.
    assert!(
        health.answer().map_or_else(|error| error.kind() == ErrorKind::UnexpectedEof, |answer| answer.status == 200)
    );
}

#[test]
fn a_script_moves_on_by_itself_and_lets_go_of_what_hung() {
    let api2 = Api2::up();
    api2.set(r#"{"mode":"script","steps":[{"for_ms":500,"mode":"hang"},{"for_ms":300,"mode":"down","status":500},{"mode":"up"}]}"#);
    let hung = api2.send_simulate("a").answer();
    assert_eq!(hung.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    let answer = eventually("the last step", || api2.simulate("b").ok().filter(|answer| answer.status == 200));
    assert_eq!(answer.text(), "API 2 processed payload");
}

#[test]
fn bad_weather_is_refused_naming_the_field_and_the_old_one_stays() {
    let api2 = Api2::up();
    let before = api2.get("/api2/drill").json();
    let answer = call(api2.control, "PUT", "/api2/drill", &[], br#"{"mode":"down","status":"x"}"#).unwrap();
    assert_eq!((answer.status, answer.header("Content-Type")), (400, Some("application/problem+json")));
    let problem = answer.json();
    assert_eq!(problem["code"], "bad_weather");
    assert!(problem["detail"].as_str().unwrap().starts_with("status is \"x\""), "{problem}");
    assert_eq!(api2.get("/api2/drill").json(), before);
}
