use super::parse::MODES;
use super::*;
use proptest::prelude::*;

fn at(ms: u64) -> Mono {
    Mono::from_millis(ms)
}

fn drill(json: &str) -> Drill {
    Drill::start(parse(json.as_bytes()).unwrap(), Mono::default())
}

fn decisions(json: &str, times: impl IntoIterator<Item = u64>) -> Vec<Decision> {
    let mut drill = drill(json);
    times.into_iter().map(|ms| drill.decide(at(ms), 0)).collect()
}

fn statuses(json: &str, times: impl IntoIterator<Item = u64>) -> Vec<u16> {
    let status = |decision| match decision {
        Decision::Answer { status, .. } => status,
        Decision::Reset | Decision::Hang | Decision::Refuse => 0,
    };
    decisions(json, times).into_iter().map(status).collect()
}

fn refused(json: &str) -> String {
    parse(json.as_bytes()).unwrap_err().to_string()
}

#[test]
fn the_same_seed_decides_the_same_and_another_seed_does_not() {
    let with_seed =
        |seed: u64| statuses(&format!(r#"{{"mode":"error_rate","rate":0.5,"status":500,"seed":{seed}}}"#), 0..200);
    assert_eq!(with_seed(7), with_seed(7));
    assert_ne!(with_seed(7), with_seed(8));
    let failed = with_seed(7).iter().filter(|status| **status == 500).count();
    assert!((70..130).contains(&failed), "{failed}");
}

#[test]
fn an_error_rate_of_none_or_all_means_it() {
    assert!(statuses(r#"{"mode":"error_rate","rate":0}"#, 0..500).iter().all(|status| *status == 200));
    assert!(statuses(r#"{"mode":"error_rate","rate":1}"#, 0..500).iter().all(|status| *status == 500));
}

#[test]
fn capacity_serves_its_burst_and_its_rate_and_answers_503_beyond() {
    // 4,000 requests a second for 2 s, one every 250 us: 100 a second and the burst of 5 are served.
    let mut drill = drill(r#"{"mode":"capacity","per_second":100}"#);
    let mut served = 0;
    for number in 0..8_000_u64 {
        let now = Mono::from_duration(Duration::from_micros(number * 250));
        served += u32::from(drill.decide(now, 0).serves());
    }
    assert_eq!(served, 5 + 199);
}

#[test]
fn capacity_serves_no_more_at_once_than_allowed() {
    let mut drill = drill(r#"{"mode":"capacity","per_second":1000,"max_in_flight":2}"#);
    assert!(drill.decide(at(0), 0).serves());
    assert!(drill.decide(at(0), 1).serves());
    assert_eq!(drill.decide(at(0), 2), answer(503, Duration::ZERO));
}

#[test]
fn latency_rises_with_load_from_two_milliseconds_to_eight() {
    let delay = |load| latency_under_load(load).as_micros();
    assert_eq!((delay(0.0), delay(0.5), delay(1.0), delay(9.0)), (2_000, 3_500, 8_000, 8_000));
}

#[test]
fn latency_stays_within_its_jitter() {
    for decision in decisions(r#"{"mode":"latency","ms":200,"jitter_ms":50}"#, 0..300) {
        let Decision::Answer { status: 200, delay, .. } = decision else { panic!("{decision:?}") };
        assert!((200..=250).contains(&delay.as_millis()), "{delay:?}");
    }
}

#[test]
fn down_answers_its_status_and_when_to_come_back() {
    let decided = decisions(r#"{"mode":"down","status":429,"retry_after":"1m 30s"}"#, [0]);
    let retry_after = Some(Duration::from_secs(90));
    assert_eq!(decided, [Decision::Answer { status: 429, retry_after, delay: Duration::ZERO }]);
}

#[test]
fn flapping_is_up_and_down_by_time() {
    let json = r#"{"mode":"flapping","up_ms":5000,"down_ms":1000}"#;
    assert_eq!(statuses(json, [0, 4_999, 5_000, 5_999, 6_000, 10_999, 11_000]), [200, 200, 503, 503, 200, 200, 503]);
    let present = drill(json).present(at(5_200));
    assert_eq!(present.changes_in, Some(Duration::from_millis(800)));
}

#[test]
fn a_script_runs_by_time_and_its_last_step_stays() {
    let json = r#"{"mode":"script","steps":[{"for_ms":100,"mode":"down"},{"for_ms":100,"mode":"refuse"},
        {"for_ms":300,"mode":"flapping","up_ms":100,"down_ms":100},{"for_ms":10,"mode":"hang"}]}"#;
    let drill = drill(json);
    let seen: Vec<_> = [0, 99, 100, 200, 300, 450, 500, 999_999].map(|ms| drill.present(at(ms))).into();
    assert_eq!(seen.iter().map(|present| present.step).collect::<Vec<_>>(), [0, 0, 1, 2, 2, 2, 3, 3]);
    assert_eq!(seen[2].condition, Condition::Refuse);
    assert_eq!(seen[3].condition, Condition::Up);
    assert_eq!(seen[4].condition, Condition::Down { status: 503, retry_after: None });
    assert_eq!(seen[5].changes_in, Some(Duration::from_millis(50)), "the step ends before the flap");
    assert_eq!((seen[7].condition, seen[7].changes_in), (Condition::Hang, None));
}

#[test]
fn each_step_of_a_script_starts_with_a_full_bucket() {
    let json = r#"{"mode":"script","steps":[{"for_ms":100,"mode":"capacity","per_second":1,"burst":1},
        {"mode":"capacity","per_second":1,"burst":1}]}"#;
    assert_eq!(statuses(json, [0, 1, 100, 101]), [200, 503, 200, 503]);
}

#[test]
fn bad_weather_is_refused_naming_the_field() {
    assert_eq!(refused(r#"{"status":503}"#), format!("mode is missing: it takes {MODES}"));
    assert!(refused(r#"{"mode":"sunny"}"#).starts_with("mode is \"sunny\": it takes up, down"));
    assert_eq!(refused(r#"{"mode":"up","status":503}"#), "status is not a field of mode \"up\"");
    assert!(
        refused(r#"{"mode":"down","status":"503"}"#).starts_with("status is \"503\": it takes a whole number from 300")
    );
    assert!(refused(r#"{"mode":"down","status":200}"#).starts_with("status is 200"));
    assert!(refused(r#"{"mode":"down","retry_after":"soon"}"#).starts_with("retry_after is \"soon\""));
    assert!(refused(r#"{"mode":"capacity"}"#).starts_with("per_second is missing"));
    assert!(refused(r#"{"mode":"capacity","per_second":0}"#).starts_with("per_second is 0"));
    assert!(refused(r#"{"mode":"error_rate","rate":1.5}"#).starts_with("rate is 1.5: it takes a number from 0 to 1"));
    assert!(refused(r#"{"mode":"flapping","up_ms":5000}"#).starts_with("down_ms is missing"));
    assert!(refused(r#"{"mode":"up","seed":-1}"#).starts_with("seed is -1"));
    assert!(refused(r#"{"mode":"script","steps":[]}"#).starts_with("steps is []"));
    assert!(refused(r#"{"mode":"script","steps":[{"for_ms":10,"mode":"up"},7]}"#).starts_with("steps[1] is 7"));
    let nested = r#"{"mode":"script","steps":[{"for_ms":10,"mode":"script","steps":[]}]}"#;
    assert_eq!(refused(nested), "steps[0].mode is \"script\": it takes any mode but script");
    let timeless = r#"{"mode":"script","steps":[{"mode":"up"},{"mode":"down"}]}"#;
    assert!(refused(timeless).starts_with("steps[0].for_ms is missing"));
    assert_eq!(refused("[]"), BadWeather::NotAnObject.to_string());
    assert!(refused("{").starts_with("the weather must be JSON"));
}

#[test]
fn a_weather_is_written_as_it_is_read() {
    for json in [
        r#"{"mode":"up"}"#,
        r#"{"mode":"down","status":503}"#,
        r#"{"mode":"down","status":429,"retry_after":"30s","seed":5}"#,
        r#"{"mode":"capacity","per_second":1000,"burst":50}"#,
        r#"{"mode":"capacity","per_second":1000,"burst":7,"max_in_flight":64}"#,
        r#"{"mode":"latency","ms":200,"jitter_ms":50}"#,
        r#"{"mode":"error_rate","rate":0.5,"status":500}"#,
        r#"{"mode":"flapping","up_ms":5000,"down_ms":5000}"#,
        r#"{"mode":"script","steps":[{"for_ms":10,"mode":"reset"},{"for_ms":10,"mode":"flapping","up_ms":10,"down_ms":10},{"mode":"hang"}]}"#,
    ] {
        let written = serde_json::to_value(parse(json.as_bytes()).unwrap()).unwrap();
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(json).unwrap());
    }
    let defaults = serde_json::to_value(parse(br#"{"mode":"capacity","per_second":10}"#).unwrap()).unwrap();
    assert_eq!(defaults["burst"], 1);
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,200}") {
        // Whether it is a weather does not matter here; that this returns does.
        prop_assert!(parse(text.as_bytes()).is_err() || text.contains("mode"));
    }

    #[test]
    fn whatever_is_accepted_can_be_decided_and_is_written_back_the_same(
        mode in "up|down|capacity|latency|error_rate|flapping|reset|hang|refuse|script", number in 0_u64..2_000, ms in any::<u64>(),
    ) {
        let json = format!(r#"{{"mode":"{mode}","status":{number}}}"#);
        let full = format!(
            r#"{{"mode":"script","steps":[{{"for_ms":{number},"mode":"{mode}"}},{{"mode":"latency","ms":{number}}}]}}"#
        );
        for text in [json, full] {
            if let Ok(order) = parse(text.as_bytes()) {
                let written = serde_json::to_vec(&order).unwrap();
                prop_assert_eq!(parse(&written).unwrap(), order.clone());
                Drill::start(order, Mono::default()).decide(at(ms), 0);
            }
        }
    }
}
