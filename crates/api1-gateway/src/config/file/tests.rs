use super::*;
use std::time::Duration;

use jobs_core::outcome::Class;
use jobs_core::retry::{Backoff, Jitter};

/// Reads `text` as the file `f`, in a folder without secret files, beside the flag `--destination flagged=…`.
fn read_file(text: &str) -> (Contents, Vec<String>) {
    let environment = |name: &str| match name {
        "TOKEN" => Some("Bearer s3cret".into()),
        "BROKEN" => Some("s3cret\r\nX: y".into()),
        "EMPTY" => Some("".into()),
        _ => None,
    };
    let flags = BTreeSet::from(["flagged".parse().unwrap()]);
    let outside = Outside { folder: Path::new("/nowhere"), environment: &environment, flags: &flags };
    let mut findings = Findings::default();
    let contents = read(text, &outside, &mut findings);
    let mistakes = findings.into_mistakes(Path::new("f"), text);
    (contents, mistakes.iter().map(ToString::to_string).collect())
}

/// The mistakes of a destination that has `lines` from line 3 on.
fn mistakes_of(lines: &str) -> Vec<String> {
    read_file(&format!("[destinations.a]\nurl = 'http://h'\n{lines}")).1
}

/// Asserts that each line, as the third of its file, has exactly one mistake: the one beside it, as `COLUMN KEY: …`.
fn assert_mistakes(cases: &[(&str, &str)]) {
    for (line, mistake) in cases {
        let (column, mistake) = mistake.split_once(' ').unwrap();
        assert_eq!(mistakes_of(line), [format!("f:3:{column}: destinations.a.{mistake}")], "{line}");
    }
}

fn destination(lines: &str) -> Destination {
    let (mut contents, mistakes) = read_file(&format!("[destinations.a]\nurl = 'http://h'\n{lines}"));
    assert_eq!(mistakes, [""; 0], "{lines}");
    contents.destinations.remove(0).destination
}

#[test]
fn a_key_that_does_not_exist_is_told_with_the_one_that_was_meant() {
    assert_mistakes(&[
        ("maxattempts = 3", "1 maxattempts: unknown key; did you mean max_attempts?"),
        (" on-unknown = 'retry'", "2 on-unknown: unknown key; did you mean on_unknown?"),
        ("retry = { bas = '1s' }", "11 retry.bas: unknown key; did you mean base?"),
        ("headers = { A = { enw = 'TOKEN', env = 'TOKEN' } }", "19 headers.A.enw: unknown key; did you mean env?"),
        ("rate_limit = { per_second = 1, bursts = 2 }", "32 rate_limit.bursts: unknown key; did you mean burst?"),
        (
            "health_check = { url = 'http://h', expected = 200 }",
            "36 health_check.expected: unknown key; did you mean expect?",
        ),
    ]);
    assert_eq!(
        mistakes_of("[[destinations.a.rules]]\nstatus = 404\nclass = 'ok'\nreason = 'x'"),
        ["f:6:1: destinations.a.rules[0].reason: unknown key; known here: status, header, pointer, equals, class"]
    );
    let endless = mistakes_of(&format!("{} = 1", "k".repeat(65)));
    let cut = format!("f:3:1: destinations.a.\"{}\"…: unknown key; known here: url, ", "k".repeat(40));
    assert!(endless[0].starts_with(&cut), "{endless:?}");
    let singular = "[destination.b]\nurl = 'http://h'";
    assert_eq!(mistakes_of(singular), ["f:3:2: destination: unknown key; did you mean destinations?"]);
}

#[test]
fn a_value_of_the_wrong_type_is_told_with_the_wanted_one() {
    assert_mistakes(&[
        ("title = 5", "9 title: expected a string, found an integer"),
        ("max_attempts = '5'", "16 max_attempts: expected a whole number, found a string"),
        ("max_attempts = 2.5", "16 max_attempts: expected a whole number, found a float"),
        ("attempt_timeout = 30", "19 attempt_timeout: expected a duration such as \"30s\", found an integer"),
        ("forward_credentials = 'yes'", "23 forward_credentials: expected true or false, found a string"),
        ("retry = '5s'", "1 retry: expected a table, found a string"),
        ("retry = { factor = true }", "20 retry.factor: expected a number, found a boolean"),
        ("retry = { schedule = '5s' }", "22 retry.schedule: expected an array of durations, found a string"),
        ("headers = ['A']", "1 headers: expected a table, found an array"),
        (
            "headers = { A = 1 }",
            r#"17 headers.A: expected a string, { env = "NAME" } or { file = "PATH" }, found an integer"#,
        ),
        ("rules = 'busy'", "9 rules: expected an array of tables, found a string"),
        ("rules = [1]", "10 rules[0]: expected a table, found an integer"),
        ("expires_after = 2026-11-22", "17 expires_after: expected a duration such as \"30s\", found a datetime"),
    ]);
    assert_eq!(read_file("destinations = 1").1, ["f:1:1: destinations: expected a table, found an integer"]);
    assert_eq!(
        read_file("[destinations]\na = 'http://h'").1,
        ["f:2:1: destinations.a: expected a table, found a string"]
    );
}

#[test]
fn a_duration_needs_a_unit_and_keeps_within_its_bound() {
    assert_mistakes(&[
        ("attempt_timeout = '30'", r#"19 attempt_timeout: "30": not a duration such as 250ms, 30s, 1h 30m or 7d"#),
        ("attempt_timeout = '-5s'", r#"19 attempt_timeout: "-5s": not a duration such as 250ms, 30s, 1h 30m or 7d"#),
        ("attempt_timeout = '0s'", "19 attempt_timeout: must be longer than zero"),
        ("attempt_timeout = '2h'", "19 attempt_timeout: must be at most 1h"),
        ("expires_after = '4000d'", "17 expires_after: must be at most 3650d"),
        (
            "idempotency_window = 'soon'",
            r#"22 idempotency_window: "soon": not a duration such as 250ms, 30s, 1h 30m or 7d"#,
        ),
    ]);
}

#[test]
fn a_number_keeps_within_its_bounds() {
    assert_mistakes(&[
        ("max_attempts = 0", "16 max_attempts: must be 1 to 1000000"),
        ("max_attempts = -1", "16 max_attempts: must be 1 to 1000000"),
        ("max_in_flight = 99999999999999999999", "17 max_in_flight: must be 1 to 1000000"),
        ("max_lost = 0", "12 max_lost: must be 1 to 1000000"),
        ("rate_limit = { per_second = 0 }", "29 rate_limit.per_second: must be 0.0001 to 1000000"),
        ("rate_limit = { per_second = -0.5 }", "29 rate_limit.per_second: must be 0.0001 to 1000000"),
        ("rate_limit = { per_second = nan }", "29 rate_limit.per_second: must be 0.0001 to 1000000"),
        ("rate_limit = { per_second = inf }", "29 rate_limit.per_second: must be 0.0001 to 1000000"),
        ("rate_limit = { per_second = 1, burst = 0 }", "40 rate_limit.burst: must be 1 to 1000000"),
        ("rate_limit = { burst = 1 }", "1 rate_limit.per_second: missing"),
        (
            "health_check = { url = 'http://h', expect = 99 }",
            "45 health_check.expect: must be an HTTP status, 100 to 599",
        ),
    ]);
}

#[test]
fn without_a_word_about_bursts_a_second_s_worth_may_come_at_once() {
    let limit = destination("rate_limit = { per_second = 2.5 }").rate_limit;
    assert_eq!(limit, Some(jobs_core::destination::RateLimit { per_second: 2.5, burst: 3 }));
}

#[test]
fn a_word_must_be_one_of_those_that_are_known() {
    assert_mistakes(&[
        ("on_unknown = 'drop'", r#"14 on_unknown: must be "retry" or "dead_letter", not "drop""#),
        ("ordering_on_dead = ''", r#"20 ordering_on_dead: must be "free" or "block", not """#),
        ("retry = { jitter = 'Full' }", r#"20 retry.jitter: must be "none" or "full" or "equal", not "Full""#),
        ("method = 'post'", r#"10 method: "post" is not an HTTP method in capitals, such as POST"#),
        ("method = 'TRACE'", "10 method: TRACE carries no job: use POST, PUT, PATCH, GET or DELETE"),
        ("title = \"two\\nlines\"", "9 title: must be one line of 1 to 100 characters"),
    ]);
}

#[test]
fn a_url_is_required_and_checked_without_repeating_it() {
    let url = |url: &str| read_file(&format!("[destinations.a]\nurl = {url}")).1;
    assert_eq!(read_file("[destinations.a]\ntitle = 'A'").1, ["f:1:15: destinations.a.url: missing"]);
    assert_eq!(
        url("'http://u:s3cret@h/'"),
        ["f:2:7: destinations.a.url: the URL has a user or password in it: send an Authorization header instead"]
    );
    assert_eq!(
        url("'ftp://h/'"),
        ["f:2:7: destinations.a.url: the URL must be absolute and begin with http:// or https://"]
    );
    assert_eq!(
        url("'http://h/#x'"),
        ["f:2:7: destinations.a.url: the URL has a fragment (#…), which is never sent: remove it"]
    );
    assert_eq!(url("'http:///x'"), ["f:2:7: destinations.a.url: the URL has no host: write http://HOST/PATH"]);
    assert_mistakes(&[
        (
            "health_check = { url = '/health' }",
            "24 health_check.url: the URL must be absolute and begin with http:// or https://",
        ),
        ("health_check = { method = 'GET' }", "1 health_check.url: missing"),
    ]);
}

#[test]
fn a_header_must_be_one_that_can_be_sent_and_is_not_ours() {
    assert_mistakes(&[
        ("headers = { 'a b' = '1' }", r#"13 headers."a b": "a b" cannot name a header: use letters, digits and '-'"#),
        ("headers = { '' = '1' }", r#"13 headers."": "" cannot name a header: use letters, digits and '-'"#),
        ("headers = { HOST = 'h' }", "13 headers.HOST: this header cannot be set: it comes from the URL"),
        (
            "headers = { Content-Length = '1' }",
            "13 headers.Content-Length: this header cannot be set: it comes from the payload",
        ),
        (
            "headers = { idempotency-key = '1' }",
            "13 headers.idempotency-key: this header cannot be set: it is the job's id",
        ),
        (
            "headers = { Transfer-Encoding = 'chunked' }",
            "13 headers.Transfer-Encoding: this header cannot be set: it is the connection's business",
        ),
        (
            "headers = { Job-Epoch = '1' }",
            "13 headers.Job-Epoch: headers that begin with job- are set for each attempt",
        ),
        ("headers = { X-A = '1', x-a = '2' }", "24 headers.x-a: this header is set twice, in different capitals"),
        (r#"headers = { A = "x\r\nB: y" }"#, "17 headers.A: a header value must not have a line break in it"),
        (
            "headers = { A = 'ä' }",
            "17 headers.A: a header value may have only visible ASCII characters, blanks and tabs",
        ),
    ]);
}

#[test]
fn a_header_that_servers_refuse_for_its_length_is_told() {
    let mistakes = mistakes_of(&format!("headers = {{ A = '{}' }}", "a".repeat(8_001)));
    assert_eq!(mistakes, ["f:3:17: destinations.a.headers.A: a header value must have at most 8000 bytes"]);
}

#[test]
fn a_secret_header_needs_a_source_that_is_there_and_is_never_repeated() {
    assert_mistakes(&[
        ("headers = { A = { env = 'UNSET' } }", "17 headers.A: environment variable UNSET is not set or empty"),
        ("headers = { A = { env = 'EMPTY' } }", "17 headers.A: environment variable EMPTY is not set or empty"),
        (
            "headers = { A = { env = 'BROKEN' } }",
            "17 headers.A: environment variable BROKEN: a header value must not have a line break in it",
        ),
        (
            "headers = { A = { env = 'API1_CLIENT_KEYS' } }",
            "25 headers.A.env: variables that begin with API1_ are settings of the gateway: use another name",
        ),
        ("headers = { A = { env = 'A=B' } }", r#"25 headers.A.env: "A=B" cannot name an environment variable"#),
        (
            "headers = { A = { file = 'key' } }",
            r#"17 headers.A: file "key" cannot be read: No such file or directory (os error 2)"#,
        ),
        ("headers = { A = { env = 'TOKEN', file = 'key' } }", "17 headers.A: must have either env or file"),
        ("headers = { A = {} }", "17 headers.A: must have either env or file"),
    ]);
    assert_eq!(
        destination("headers = { A = { env = 'TOKEN' } }").headers,
        [("A".to_owned(), "Bearer s3cret".to_owned())]
    );
}

#[test]
fn retry_settings_are_a_formula_or_a_schedule() {
    assert_mistakes(&[
        ("retry = { factor = 0.5 }", "20 retry.factor: must be 1 to 1000"),
        ("retry = { base = '31d', max_delay = '1s' }", "18 retry.base: must be at most 30d"),
        ("retry = { base = '10m' }", "11 retry.base: base (10m) is longer than max_delay (5m)"),
        ("retry = { max_delay = '1s' }", "11 retry.max_delay: base (2s) is longer than max_delay (1s)"),
        ("retry = { schedule = [] }", "22 retry.schedule: must have 1 to 100 delays"),
        (
            "retry = { schedule = ['5s', '5'] }",
            r#"22 retry.schedule: "5": not a duration such as 250ms, 30s, 1h 30m or 7d"#,
        ),
        (
            "retry = { schedule = ['5s'], factor = 2 }",
            "30 retry.factor: cannot be set together with schedule: remove one of them",
        ),
    ]);
    let schedule = destination("retry = { schedule = ['5s', '1m'], jitter = 'equal' }").policy.retry;
    assert_eq!(schedule.backoff, Backoff::Schedule(vec![Duration::from_secs(5), Duration::from_secs(60)]));
    assert_eq!(schedule.jitter, Jitter::Equal);
}

#[test]
fn a_rule_needs_a_condition_and_a_class() {
    let rule = |lines: &str| mistakes_of(&format!("[[destinations.a.rules]]\n{lines}"));
    assert_eq!(
        rule("class = 'ok'"),
        ["f:3:1: destinations.a.rules[0]: has no condition: add status, header or pointer"]
    );
    assert_eq!(rule("status = '404'"), ["f:3:1: destinations.a.rules[0].class: missing"]);
    assert_eq!(
        rule("status = '404'\nclass = 'fine'"),
        [r#"f:5:9: destinations.a.rules[0].class: "fine" is not one of ok, job_fail, suspect, overload, down, error"#]
    );
    assert_eq!(
        rule("status = '4x'\nclass = 'ok'"),
        [r#"f:4:10: destinations.a.rules[0].status: "4x" is not a status: write 404, 4xx or 500-599"#]
    );
    assert_eq!(
        rule("header = 'a b'\nclass = 'ok'"),
        [r#"f:4:10: destinations.a.rules[0].header: "a b" cannot name a header: use letters, digits and '-'"#]
    );
    for pointer in ["error", "/a~2b", "/~"] {
        let expected = format!(
            "f:4:11: destinations.a.rules[0].pointer: {pointer:?} is not a JSON pointer such as \"/error/code\""
        );
        assert_eq!(rule(&format!("pointer = '{pointer}'\nclass = 'ok'")), [expected]);
    }
    assert_eq!(
        rule("status = '404'\nequals = 'x'\nclass = 'ok'"),
        [
            "f:5:1: destinations.a.rules[0].equals: says what a header or the value at a pointer must be: add header or pointer"
        ]
    );
    let rules = destination("rules = [{ status = 404, class = 'ok' }, { pointer = '', class = 'error' }]").rules;
    assert_eq!(rules.iter().map(|rule| rule.class).collect::<Vec<_>>(), [Class::Ok, Class::Error]);
}

#[test]
fn names_are_checked_against_each_other_and_against_the_flags() {
    let destination = "url = 'http://h'";
    let cases = [
        (
            format!("[destinations.'a b']\n{destination}"),
            r#"f:1:15: destinations."a b": "a b" cannot name a destination: use 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit"#,
        ),
        (
            format!("[destinations.flagged]\n{destination}"),
            "f:1:15: destinations.flagged: also named by --destination / API1_DESTINATIONS: keep one of them",
        ),
        (format!("[destinations.a]\n{destination}\n[destinations.a]\ntitle = 'b'"), "f:3:15: a: duplicate key"),
        (format!("[destinations.a]\n{destination}\nurl = 'http://i'"), "f:3:1: url: duplicate key"),
        (
            format!("default = 'b'\n[destinations.a]\n{destination}"),
            "f:1:11: default: b is not one of the destinations",
        ),
        (
            format!("default = ''\n[destinations.a]\n{destination}"),
            r#"f:1:11: default: "" cannot name a destination: use 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit"#,
        ),
    ];
    for (text, mistake) in cases {
        assert_eq!(read_file(&text).1, [mistake], "{text}");
    }
    let (contents, mistakes) = read_file(&format!("default = 'flagged'\n[destinations.a]\n{destination}"));
    assert_eq!((contents.default.unwrap().as_str(), mistakes), ("flagged", Vec::new()));
}

#[test]
fn limits_on_amounts_are_told_once() {
    let many = |count: usize, item: fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(", ");
    let headers = many(headers::MAX_HEADERS + 1, |n| format!("X-{n} = ''"));
    let rules = many(rules::MAX_RULES + 1, |_| "{ status = '404', class = 'ok' }".to_owned());
    let delays = many(retry::MAX_SCHEDULE + 1, |_| "'1s'".to_owned());
    let beyond = mistakes_of(&format!("headers = {{ {headers} }}\nrules = [ {rules} ]\nretry.schedule = [{delays}]"));
    assert_eq!(beyond.len(), 3, "{beyond:#?}");
    assert_eq!(beyond[0], "f:3:1: destinations.a.headers: a destination can have at most 64 headers");
    assert!(beyond[1].ends_with("destinations.a.rules[64]: a destination can have at most 64 rules"), "{beyond:#?}");
    assert_eq!(beyond[2], "f:5:18: destinations.a.retry.schedule: must have 1 to 100 delays");
    let destinations: String =
        (0..=MAX_DESTINATIONS).map(|n| format!("[destinations.d{n}]\nurl = 'http://h'\n")).collect();
    assert_eq!(read_file(&destinations).1, ["f:1:2: destinations: more than 1000 destinations"]);
}

#[test]
fn a_file_that_is_not_toml_is_told_with_what_else_is_surely_wrong() {
    let (_, mistakes) =
        read_file("[destinations.a]\nurl = http://h\ntitle = \nmax_attempts = 0\n[destinations.b\nurl = 'ftp://h'\n");
    let places: Vec<&str> = mistakes.iter().map(|mistake| mistake.split(": ").next().unwrap()).collect();
    assert!(mistakes.iter().all(|mistake| !mistake.contains("missing")), "{mistakes:#?}");
    assert!(
        mistakes.iter().any(|mistake| mistake.starts_with("f:4:16: destinations.a.max_attempts: must be")),
        "{mistakes:#?}"
    );
    for line in ["f:2:", "f:3:", "f:5:"] {
        assert!(places.iter().any(|place| place.starts_with(line)), "{line} in {mistakes:#?}");
    }
}

#[test]
fn what_a_broken_file_seems_to_lack_is_no_mistake() {
    let hidden = "default = 'b'\n[destinations.a]\nurl = 'http://h'\nx = '''\n[destinations.b]\nurl = \"http://h\"";
    let (_, mistakes) = read_file(hidden);
    let keys: Vec<_> = mistakes.iter().map(|mistake| mistake.split(": ").nth(1).unwrap()).collect();
    assert_eq!(keys, ["destinations.a.x", "not TOML"], "{mistakes:#?}");
    let (_, mistakes) = read_file("[destinations.a]\nurl = 'http://h'\n[destinations b]\nurl = 'http://h'\nulr = 1");
    assert!(mistakes.len() == 1 && mistakes[0].starts_with("f:3:14: not TOML: "), "{mistakes:#?}");
}
