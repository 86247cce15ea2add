use super::*;
use jobs_core::job::Priority;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn read(text: &str) -> Result<Envelope, Problem> {
    Envelope::read(text, 100, NOW)
}

#[test]
fn every_field_is_read() {
    let envelope = read(
        r#"{"destination":"api2","payload":{"a": 1.0, "a":9007199254740993},"content_type":"application/x+json","idempotency_key":"k",
            "delay_ms":1500,"expires_after_ms":60000,"priority":3,"ordering_key":"o","max_attempts":7,"headers":{"X-B":"2","X-A":"1"}}"#,
    )
    .unwrap();
    assert_eq!(envelope.destination.as_deref(), Some("api2"));
    assert_eq!(envelope.content.body, r#"{"a": 1.0, "a":9007199254740993}"#.as_bytes());
    assert_eq!(envelope.content.content_type.as_deref(), Some("application/x+json"));
    let headers: Vec<&str> = envelope.content.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(headers, ["X-B", "X-A"], "in their order");
    let options = envelope.options;
    assert_eq!(options.idempotency_key.as_deref(), Some("k"));
    assert_eq!(options.start, Start::After(Duration::from_millis(1_500)));
    assert_eq!(options.expires_after, Some(Duration::from_secs(60)));
    assert_eq!((options.priority, options.max_attempts), (Priority::new(3), Some(7)));
    assert_eq!(options.ordering_key.as_deref(), Some("o"));
}

#[test]
fn a_payload_is_json_unless_it_is_given_as_bytes() {
    let null = read(r#"{"payload":null,"priority":null}"#).unwrap();
    assert_eq!((&null.content.body[..], null.content.content_type.as_deref()), (&b"null"[..], Some(JSON)));
    let bytes = read(r#"{"payload_base64":"/wA="}"#).unwrap();
    assert_eq!((&bytes.content.body[..], bytes.content.content_type.as_deref()), (&b"\xff\x00"[..], None));
}

#[test]
fn the_fields_are_those_of_the_readme_and_each_may_be_null() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).unwrap();
    let (_, table) = readme.split_once("| field | meaning |\n|---|---|\n").expect("a table of the envelope's fields");
    let first_cells =
        table.lines().take_while(|line| line.starts_with('|')).map(|line| line.split('|').nth(1).unwrap());
    let mut explained: Vec<&str> = first_cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let mut fields = FIELDS.to_vec();
    explained.sort_unstable();
    fields.sort_unstable();
    assert_eq!(explained, fields);
    for field in FIELDS.iter().filter(|field| **field != "payload") {
        assert!(read(&format!(r#"{{"payload":1,"{field}":null}}"#)).is_ok(), "{field}");
        // What is wrong with this is never that there is no such field.
        let problem = read(&format!(r#"{{"payload":1,"{field}":[[]]}}"#)).expect_err(field);
        assert!(!problem.to_string().contains("no such field"), "{problem}");
    }
}

#[test]
fn of_a_flood_of_fields_the_first_unknown_one_is_named_and_the_rest_not_kept() {
    let flood = |value: &str| (0..100_000).map(|n| format!("\"f{n}\":{value},")).collect::<String>();
    let text = format!(r#"{{"priority":1,{}"payload":1}}"#, flood("null"));
    let Pairs::<&RawValue>(kept) = serde_json::from_str(&text).unwrap();
    assert_eq!(kept.len(), MAX_MEMBERS);
    let problem = read(&text).unwrap_err();
    assert_eq!(
        (problem.code(), serde_json::to_value(&problem).unwrap()["parameter"].as_str()),
        (Code::BadOption, Some("f0"))
    );
    let headers = format!(r#"{{"payload":1,"headers":{{{}"x":"1"}}}}"#, flood("\"1\""));
    assert_eq!(read(&headers).unwrap_err().code(), Code::HeadersTooLarge);
    let unfinished = format!(r#"{{"payload":1,{}"x":"#, flood("1"));
    assert_eq!(read(&unfinished).unwrap_err().code(), Code::BadJson, "what is not kept is read all the same");
}

#[test]
fn every_mistake_names_its_field() {
    let wrong = [
        ("payload", r#"{}"#),
        ("payload_base64", r#"{"payload":1,"payload_base64":"MQ=="}"#),
        ("payload_base64", r#"{"payload_base64":"*"}"#),
        ("payload_base64", r#"{"payload_base64":5}"#),
        ("payload_base64", r#"{"payload_base64":""}"#),
        ("payload", r#"{"payload":1,"payload":2}"#),
        ("destination", r#"{"payload":1,"destination":5}"#),
        ("delay_ms", r#"{"payload":1,"delay_ms":-5}"#),
        ("delay_ms", r#"{"payload":1,"delay_ms":"30s"}"#),
        ("delay_ms", r#"{"payload":1,"delay_ms":99999999999999}"#),
        ("delay_ms", r#"{"payload":1,"delay_ms":1e99}"#),
        ("run_at", r#"{"payload":1,"run_at":"tomorrow"}"#),
        ("run_at", r#"{"payload":1,"delay_ms":0,"run_at":"2030-01-01T00:00:00Z"}"#),
        ("expires_after_ms", r#"{"payload":1,"expires_after_ms":0}"#),
        ("priority", r#"{"payload":1,"priority":10}"#),
        ("ordering_key", r#"{"payload":1,"ordering_key":""}"#),
        ("ordering_key", r#"{"payload":1,"ordering_key":"a\nb"}"#),
        ("max_attempts", r#"{"payload":1,"max_attempts":0}"#),
        ("idempotency_key", r#"{"payload":1,"idempotency_key":""}"#),
        ("content_type", r#"{"payload":1,"content_type":"a\r\nb"}"#),
        ("headers", r#"{"payload":1,"headers":["a"]}"#),
        ("headers", r#"{"payload":1,"headers":{"a":1}}"#),
        ("headers.Host", r#"{"payload":1,"headers":{"Host":"x"}}"#),
        ("headers.X", r#"{"payload":1,"headers":{"X":"a\r\nb"}}"#),
        ("priorty", r#"{"payload":1,"priorty":1}"#),
        ("prioritty", r#"{"payload":1,"prioritty":null}"#),
    ];
    for (parameter, text) in wrong {
        let problem = read(text).expect_err(text);
        assert_eq!(serde_json::to_value(&problem).unwrap()["parameter"], parameter, "{text}");
    }
}

#[test]
fn what_is_no_object_or_too_large_or_false_json_is_refused() {
    let code = |text: &str| read(text).unwrap_err().code();
    assert_eq!(code("5"), Code::BadMessage);
    assert_eq!(code("{"), Code::BadJson);
    assert_eq!(code(&format!(r#"{{"payload":"{}"}}"#, "x".repeat(100))), Code::BodyTooLarge);
    assert_eq!(code(r#"{"payload_base64":"ew==","content_type":"application/json"}"#), Code::BadJson);
    assert_eq!(code(r#"{"payload_base64":"","content_type":"application/json"}"#), Code::EmptyBody);
    assert_eq!(code(r#"{"payload_base64":""}"#), Code::EmptyBody);
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,60}|\\{(\"[a-z_]{0,16}\":[ -~]{0,8},?){0,4}\\}") {
        // Either answer is fine; a panic would fail the property.
        prop_assert!(read(&text).map_or_else(|problem| problem.code() != Code::Internal, |_| true));
    }

    #[test]
    fn a_json_payload_is_kept_as_it_was_written(number in "-?[1-9][0-9]{0,30}(\\.[0-9]{1,20})?(e[+-]?[0-9]{1,3})?", text in "[ !#-\\[\\]-~]{0,20}") {
        let payload = format!(r#"{{"n" : {number},  "t":"{text}"}}"#);
        let envelope = read(&format!(r#"{{"payload": {payload} }}"#)).unwrap();
        prop_assert_eq!(&envelope.content.body[..], payload.as_bytes());
    }
}
