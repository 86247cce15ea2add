use crate::client::call;
use crate::harness::Api2;

#[test]
fn every_wrong_request_is_answered_with_a_problem_and_its_code() {
    let api2 = Api2::up();
    for (method, path, status, code) in [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/api2/toggle", 405, "method_not_allowed"),
        ("DELETE", "/api2/drill", 405, "method_not_allowed"),
        ("PUT", "/api2/drill", 400, "bad_weather"),
        ("GET", "/api2/ledger/never-seen", 404, "unknown_key"),
    ] {
        let answer = call(api2.control, method, path, &[], b"").unwrap();
        assert_eq!(answer.header("Content-Type"), Some("application/problem+json"), "{method} {path}");
        let problem = answer.json();
        assert_eq!((answer.status, &problem["code"]), (status, &code.into()), "{method} {path}");
        assert_eq!(problem["status"], status);
        for field in ["type", "title", "detail"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field} of {problem}");
        }
    }
    let long = vec![b' '; 300 * 1024];
    let answer = call(api2.control, "PUT", "/api2/drill", &[], &long).unwrap();
    assert_eq!((answer.status, &answer.json()["code"]), (413, &"payload_too_large".into()));
}

#[test]
fn the_metrics_count_requests_by_status() {
    let api2 = Api2::up();
    api2.simulate("a").unwrap();
    api2.set(r#"{"mode":"down"}"#);
    api2.simulate("a").unwrap();
    let metrics = api2.get("/metrics");
    assert!(metrics.header("Content-Type").unwrap().starts_with("application/openmetrics-text"));
    for line in ["api2_requests_total{status=\"200\"} 1", "api2_requests_total{status=\"503\"} 1", "# EOF"] {
        assert!(metrics.text().lines().any(|found| found == line), "{line} in {}", metrics.text());
    }
}

#[test]
fn it_is_live_and_ready_in_any_weather() {
    let api2 = Api2::up();
    api2.set(r#"{"mode":"hang"}"#);
    for address in [api2.service, api2.control] {
        for path in ["/livez", "/readyz"] {
            assert_eq!(call(address, "GET", path, &[], b"").unwrap().status, 200, "{path}");
        }
    }
}
