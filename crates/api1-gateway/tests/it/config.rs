//! The gateway's settings as an operator meets them: real files, flags and variables; what is answered, printed and refused.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use api1_gateway::config::destinations::{Destinations, Sources, load, load_with};
use api1_gateway::config::flags::Flags;
use api1_gateway::config::mistakes::{Mistakes, Place};
use api1_gateway::config::store_url::StoreUrl;
use api1_gateway::config::{Config, PREFIX};
use jobs_core::destination::{Destination, HealthCheck, OnUnknown, OrderingOnDead, RateLimit};
use jobs_core::gate::GateSettings;
use jobs_core::outcome::{Class, Rule, StatusRange};
use jobs_core::process::secret::Secret;
use jobs_core::process::settings::Settings;
use jobs_core::retry::{Backoff, Jitter, RetryPolicy};
use tempfile::TempDir;

/// A folder with a destinations file in it.
struct Folder(TempDir);

impl Folder {
    fn with(text: impl AsRef<[u8]>) -> Self {
        let folder = Folder(TempDir::new().expect("a folder can be made"));
        folder.write("destinations.toml", text);
        folder
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.0.path().join(name), text).expect("a file can be written");
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("destinations.toml")
    }

    fn sources(&self) -> Sources {
        Sources { file: Some(self.file()), ..Sources::default() }
    }

    fn load(&self) -> Result<Destinations, Mistakes> {
        load(&self.sources())
    }
}

fn config(flags: Flags, environment: &[(&str, &str)]) -> Result<Config, String> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value)));
    Config::read(flags, Settings::new(PREFIX, environment)).map_err(|bad| bad.to_string())
}

/// Each mistake as `LINE:COLUMN key`, those of flags as `- key`.
fn places(mistakes: &Mistakes) -> Vec<String> {
    let place = |place: &Place| match place {
        Place::Line { line, column, .. } => format!("{line}:{column}"),
        Place::File(_) | Place::Setting { .. } => "-".to_owned(),
    };
    mistakes.0.iter().map(|mistake| format!("{} {}", place(&mistake.place), mistake.key)).collect()
}

fn given(destinations: &[&str]) -> Sources {
    Sources { destinations: destinations.iter().map(ToString::to_string).collect(), ..Sources::default() }
}

const EVERY_SETTING: &str = r#"
default = "payments"

[destinations.erp]
url = "https://erp.example/import"

[destinations.payments]
title = "Payments API"
url = "https://payments.example/v1"
method = "PUT"
headers = { "X-Env" = "prod", "Authorization" = { env = "PAYMENTS_TOKEN" }, "X-Key" = { file = "key" } }
attempt_timeout = "10s"
max_attempts = 7
expires_after = "24h"
on_unknown = "dead_letter"
idempotency_window = "12h"
max_lost = 5
ordering_on_dead = "block"
max_in_flight = 64
rate_limit = { per_second = 0.5, burst = 20 }
gate = { start_limit = 3, max_limit = 40 }
forward_credentials = true
retry = { base = "1s", factor = 1.5, max_delay = "1m", jitter = "full" }
health_check = { url = "https://payments.example/health", method = "HEAD", expect = 204 }

[[destinations.payments.rules]]
status = "4xx"
class = "error"
[[destinations.payments.rules]]
header = "X-Busy"
pointer = "/error/code"
equals = "busy"
class = "overload"
"#;

fn payments() -> Destination {
    let mut it = Destination::new("payments".parse().expect("a good name"), "https://payments.example/v1".to_owned());
    it.title = "Payments API".to_owned();
    it.method = "PUT".to_owned();
    let headers = [("Authorization", "Bearer s3cret"), ("X-Env", "prod"), ("X-Key", "k3y")];
    it.headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    it.attempt_timeout = Duration::from_secs(10);
    it.policy.max_attempts = 7;
    it.policy.expires_after = Some(Duration::from_secs(24 * 3600));
    it.policy.on_unknown = OnUnknown::DeadLetter;
    it.policy.idempotency_window = Some(Duration::from_secs(12 * 3600));
    it.policy.max_lost = Some(5);
    it.policy.ordering_on_dead = OrderingOnDead::Block;
    it.max_in_flight = Some(64);
    it.rate_limit = Some(RateLimit { per_second: 0.5, burst: 20 });
    it.gate = GateSettings { start_limit: 3, max_limit: 40 };
    it.forward_credentials = true;
    let backoff =
        Backoff::Exponential { base: Duration::from_secs(1), factor: 1.5, max_delay: Duration::from_secs(60) };
    it.policy.retry = RetryPolicy { backoff, jitter: Jitter::Full };
    it.health_check =
        Some(HealthCheck { url: "https://payments.example/health".to_owned(), method: "HEAD".to_owned(), expect: 204 });
    let text = |text: &str| Some(text.to_owned());
    let status = StatusRange::try_from("4xx".to_owned()).ok();
    it.rules = vec![
        Rule { status, header: None, pointer: None, equals: None, class: Class::Error },
        Rule {
            status: None,
            header: text("X-Busy"),
            pointer: text("/error/code"),
            equals: text("busy"),
            class: Class::Overload,
        },
    ];
    it
}

#[test]
fn every_setting_of_the_file_becomes_what_it_says() {
    let folder = Folder::with(EVERY_SETTING);
    folder.write("key", "k3y\n");
    let environment = |name: &str| (name == "PAYMENTS_TOKEN").then(|| OsString::from("Bearer s3cret"));
    let destinations = load_with(&folder.sources(), &environment).unwrap();
    assert_eq!(*destinations.by_name["payments"], payments());
    assert_eq!(
        *destinations.by_name["erp"],
        Destination::new("erp".parse().unwrap(), "https://erp.example/import".to_owned())
    );
    assert_eq!(destinations.default.as_ref().map(|name| name.as_str()), Some("payments"));
    for shown in [destinations.to_string(), format!("{destinations:?}"), format!("{destinations:#?}")] {
        assert!(shown.contains(r#""X-Env" = "prod""#) && shown.contains(r#""X-Key" = "***""#), "{shown}");
        assert!(!shown.contains("s3cret") && !shown.contains("k3y"), "{shown}");
    }
}

#[test]
fn every_mistake_of_a_file_is_told_at_once_with_its_line() {
    let folder = Folder::with(
        r#"default = "paymnets"
colour = "red"
[destinations.payments]
ulr = "https://payments.example"
max_attempts = 0
retry = { factor = 0.5, schedule = [] }
[destinations.erp]
url = "https://user:s3cret@erp.example"
attempt_timeout = "30"
headers = { Host = "x", A = { file = "nowhere" }, "X-B" = "a\nb" }
gate = { start_limit = 20, max_limit = 10, burst = 1 }
[[destinations.erp.rules]]
class = "busy"
"#,
    );
    let mistakes = folder.load().unwrap_err();
    let expected = [
        "1:11 default",
        "2:1 colour",
        "3:15 destinations.payments.url",
        "4:1 destinations.payments.ulr",
        "5:16 destinations.payments.max_attempts",
        "6:11 destinations.payments.retry.factor",
        "6:36 destinations.payments.retry.schedule",
        "8:7 destinations.erp.url",
        "9:19 destinations.erp.attempt_timeout",
        "10:13 destinations.erp.headers.Host",
        "10:29 destinations.erp.headers.A",
        "10:59 destinations.erp.headers.X-B",
        "11:10 destinations.erp.gate.start_limit",
        "11:44 destinations.erp.gate.burst",
        "12:1 destinations.erp.rules[0]",
        "13:9 destinations.erp.rules[0].class",
    ];
    assert_eq!(places(&mistakes), expected, "{mistakes}");
    let shown = mistakes.to_string();
    assert!(
        shown.contains(&format!(
            "{}:4:1: destinations.payments.ulr: unknown key; did you mean url?",
            folder.file().display()
        )),
        "{shown}"
    );
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn a_file_that_cannot_be_read_is_told_as_such() {
    let folder = Folder::with("");
    let one = |mistakes: Mistakes| {
        assert_eq!(mistakes.0.len(), 1, "{mistakes}");
        mistakes.0[0].to_string().replace(&folder.file().display().to_string(), "FILE")
    };
    assert_eq!(
        one(folder.load().unwrap_err()),
        "FILE: destinations: no destination is configured: add [destinations.NAME] with a url"
    );
    folder.write("destinations.toml", b"# two\n# \xc3\xa4 \xff");
    assert_eq!(one(folder.load().unwrap_err()), "FILE:2:5: is not UTF-8");
    folder.write("destinations.toml", "#".repeat(1 << 21));
    assert_eq!(one(folder.load().unwrap_err()), "FILE: is larger than 1MiB");
    folder.write("destinations.toml", "# all of it is x\nx = '''\n[destinations.a]\nurl = \"http://h\"");
    let wanting_a = Sources { default: Some("a".to_owned()), ..folder.sources() };
    assert_eq!(places(&load(&wanting_a).unwrap_err()), ["2:1 x", "4:17 "]);
    folder.write("empty", "\n");
    folder.write("destinations.toml", "[destinations.a]\nurl = 'http://h'\nheaders = { A = { file = 'empty' } }");
    assert_eq!(one(folder.load().unwrap_err()), "FILE:3:17: destinations.a.headers.A: file \"empty\" is empty");
    std::fs::remove_file(folder.file()).unwrap();
    assert!(one(folder.load().unwrap_err()).starts_with("FILE: cannot be read: "));
    std::fs::create_dir(folder.file()).unwrap();
    assert!(one(folder.load().unwrap_err()).starts_with("FILE: cannot be read: "));
}

#[test]
fn flags_and_file_add_up_and_the_default_is_the_nearest_said() {
    let default_of = |sources: &Sources| load(sources).unwrap().default.map(|name| name.to_string());
    let told_nothing = load(&Sources::default()).unwrap();
    assert_eq!(told_nothing.by_name["api2"].url, "http://127.0.0.1:8082/api2/simulate");
    assert_eq!(told_nothing.by_name["api2"].title, "API 2");
    assert_eq!(told_nothing.default.unwrap().as_str(), "api2");
    assert_eq!(default_of(&given(&["only=http://h"])).as_deref(), Some("only"));
    assert_eq!(default_of(&given(&["a=http://h", "b=http://h"])), None);
    assert_eq!(default_of(&given(&["a=http://h", "api2=http://h"])).as_deref(), Some("api2"));

    let folder = Folder::with("default = 'a'\n[destinations.a]\nurl = 'http://h'");
    let mut both = Sources { destinations: vec!["b=http://h/?x=y".to_owned()], ..folder.sources() };
    let destinations = load(&both).unwrap();
    assert_eq!(destinations.by_name.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(destinations.by_name["b"].url, "http://h/?x=y");
    assert_eq!(default_of(&both).as_deref(), Some("a"));
    both.default = Some("b".to_owned());
    assert_eq!(default_of(&both).as_deref(), Some("b"));
}

#[test]
fn a_bad_destination_flag_is_told_without_repeating_it() {
    let sources = Sources {
        default: Some("c".to_owned()),
        ..given(&[
            "a=http://h",
            "a=http://i",
            "http://u:s3cret@h/",
            "http://u:s3cret@h/?x=1",
            "b=http://u:s3cret@h/",
            "e=h",
        ])
    };
    let mistakes = load(&sources).unwrap_err();
    assert_eq!(places(&mistakes), ["- a", "- item 3", "- item 4", "- item 5", "- item 6", "- "], "{mistakes}");
    let shown: Vec<String> = mistakes.0.iter().map(ToString::to_string).collect();
    assert_eq!(shown[0], "--destination / API1_DESTINATIONS: a: named twice");
    assert!(shown[1].contains("item 3: write NAME=URL, with a name of 1 to 64"), "{}", shown[1]);
    assert!(
        shown[4].ends_with("item 6: e: the URL must be absolute and begin with http:// or https://"),
        "{}",
        shown[4]
    );
    assert_eq!(shown[5], r#"--default-destination / API1_DEFAULT_DESTINATION: "c" is not one of the destinations"#);
    assert!(!mistakes.to_string().contains("s3cret"), "{mistakes}");
}

#[test]
fn a_health_check_by_flag_is_of_a_destination_that_has_none() {
    let file = "[destinations.a]\nurl = 'http://h'\n[destinations.b]\nurl = 'http://h'\nhealth_check.url = 'http://h'";
    let folder = Folder::with(file);
    let checks = |items: &[&str]| Sources {
        destinations: vec!["c=http://h".to_owned()],
        health_checks: items.iter().map(ToString::to_string).collect(),
        ..folder.sources()
    };
    let destinations = load(&checks(&["a=http://h/health", " c = http://i "])).unwrap();
    let check = |url: &str| Some(HealthCheck { url: url.to_owned(), method: "GET".to_owned(), expect: 200 });
    assert_eq!(destinations.by_name["a"].health_check, check("http://h/health"));
    assert_eq!(destinations.by_name["c"].health_check, check("http://i/"));
    let wrong = ["a=http://h", "a=http://h", "b=http://h", "d=http://h", "a=u:s3cret@h", "http://h"];
    let mistakes = load(&checks(&wrong)).unwrap_err();
    let told: Vec<String> = mistakes.0.iter().map(ToString::to_string).collect();
    let ends = ["named twice", "keep one of them", "not one of the destinations", "http:// or https://", "or '-'"];
    for ((told, end), item) in told.iter().zip(ends).zip(2..) {
        let start = format!("--health-check / API1_HEALTH_CHECKS: item {item}: ");
        assert!(told.starts_with(&start) && told.ends_with(end), "{told}");
    }
    assert!(told.len() == ends.len() && !mistakes.to_string().contains("s3cret"), "{mistakes}");
}

#[test]
fn a_reload_reads_the_file_anew_and_a_bad_one_leaves_nothing_behind() {
    let folder = Folder::with("[destinations.a]\nurl = 'http://h'");
    let before = folder.load().unwrap();
    folder.write("destinations.toml", "[destinations.a]\nurl = 'http://h/new'\n[destinations.b]\nurl = 'h'");
    assert_eq!(places(&folder.load().unwrap_err()), ["4:7 destinations.b.url"]);
    folder.write("destinations.toml", "[destinations.b]\nurl = 'http://b'");
    let after = folder.load().unwrap();
    assert_eq!(before.by_name["a"].url, "http://h/");
    assert_eq!(after.by_name.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn a_gateway_that_is_told_nothing_has_the_settings_of_the_handbook() {
    let config = config(Flags::default(), &[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.store, StoreUrl::Sqlite("data/jobs.db".into()));
    assert_eq!((config.max_body, config.min_free, config.grace), (1 << 20, 256 << 20, Duration::from_secs(25)));
    assert_eq!(config.retention.succeeded, Duration::from_secs(24 * 3600));
    assert_eq!((config.max_accept_rate, config.backup_dir), (None, None));
    assert_eq!(config.retention.dead, Duration::from_secs(30 * 24 * 3600));
    assert!(config.client_keys.is_empty() && config.worker_tokens.is_empty() && config.operator_keys.is_empty());
    assert_eq!(config.destinations.default.as_ref().map(|name| name.as_str()), Some("api2"));
}

#[test]
fn each_setting_can_be_given_by_flag_by_variable_and_by_file() {
    let folder = Folder::with("[destinations.a]\nurl = 'http://h'");
    folder.write("keys", "two\nthree\n");
    folder.write("grace", "3s\n");
    let in_folder = |name: &str| folder.0.path().join(name).to_str().unwrap().to_owned();
    let flags = Flags {
        listen: Some("127.0.0.1:0".to_owned()),
        destinations: vec!["b=http://i".to_owned()],
        ..Flags::default()
    };
    let config = config(
        flags,
        &[
            ("API1_LISTEN", "127.0.0.1:1"),
            ("API1_STORE", "memory:"),
            ("API1_CONFIG", &in_folder("destinations.toml")),
            ("API1_DEFAULT_DESTINATION", "b"),
            ("API1_CLIENT_KEYS", "one"),
            ("API1_WORKER_TOKENS_FILE", &in_folder("keys")),
            ("API1_MIN_FREE", "2MiB"),
            ("API1_MAX_ACCEPT_RATE", "500"),
            ("API1_BACKUP_DIR", &in_folder("")),
            ("API1_MAX_BODY", "4096"),
            ("API1_GRACE_FILE", &in_folder("grace")),
            ("API1_RETAIN_DEAD", "7d"),
        ],
    )
    .unwrap();
    assert_eq!((config.listen.port(), &config.store), (0, &StoreUrl::Memory));
    assert_eq!(config.client_keys, [Secret::new("one".to_owned())]);
    assert_eq!(config.worker_tokens.iter().map(Secret::expose).collect::<Vec<_>>(), ["two", "three"]);
    assert_eq!((config.min_free, config.max_body, config.grace), (2 << 20, 4096, Duration::from_secs(3)));
    assert_eq!(config.max_accept_rate.map(|rate| rate.get()), Some(500));
    assert!(config.backup_dir.is_some_and(|it| it.is_dir()));
    assert_eq!(config.retention.dead, Duration::from_secs(7 * 24 * 3600));
    assert_eq!(config.destinations, load(&config.sources).unwrap());
    assert_eq!(config.destinations.by_name.len(), 2);
}

#[test]
fn every_bad_setting_is_told_at_once_those_of_the_file_with_their_lines() {
    let folder = Folder::with("[destinations.a]\nurl = 'h'\nmethod = 'get'");
    let flags = Flags {
        config: folder.file().to_str().map(ToOwned::to_owned),
        grace: Some("2h".to_owned()),
        ..Flags::default()
    };
    let environment = [
        ("API1_LISTEN", "here"),
        ("API1_STORE", "postgress://u:s3cret@h/db"),
        ("API1_DESTINATIONS", "b=ftp://h"),
        ("API1_OPERATOR_KEYS", "fine,s3 cret"),
        ("API1_MIN_FREE", "1MB"),
        ("API1_MAX_BODY", "0"),
        ("API1_RETAIN_SUCCEEDED", "4000d"),
        ("API1_RETAIN_DAED", "1d"),
        ("LOG_FORMAT", "xml"),
    ];
    let report = config(flags, &environment).unwrap_err().replace(&folder.file().display().to_string(), "FILE");
    let told: Vec<&str> = report.lines().skip(1).map(str::trim).collect();
    let expected = [
        r#"--listen / API1_LISTEN: "here": invalid socket address syntax"#,
        "--store / API1_STORE: not a store: write sqlite:PATH or memory:",
        "--destination / API1_DESTINATIONS: item 1: b: the URL must be absolute and begin with http:// or https://",
        "--config / API1_CONFIG: FILE:2:7: destinations.a.url: the URL must be absolute and begin with http:// or https://",
        r#"--config / API1_CONFIG: FILE:3:10: destinations.a.method: "get" is not an HTTP method in capitals, such as POST"#,
        "API1_OPERATOR_KEYS: key 2 has a character that cannot travel in an Authorization header",
        r#"--min-free / API1_MIN_FREE: "1MB": not an amount of bytes such as 1048576, 512KiB, 1MiB or 2GiB"#,
        "--max-body / API1_MAX_BODY: must be 1 to 10MiB",
        "--grace / API1_GRACE: must be at most 1h",
        "--retain-succeeded / API1_RETAIN_SUCCEEDED: must be at most 3650d",
        r#"LOG_FORMAT: "xml" is neither text nor json"#,
        "API1_RETAIN_DAED: no such setting; did you mean API1_RETAIN_DEAD",
    ];
    assert_eq!(told, expected, "{report}");
}

#[test]
fn what_is_printed_shows_the_effective_settings_and_no_secret() {
    let folder = Folder::with(
        "[destinations.a]\nurl = 'http://h'\nheaders = { A = { file = 'token' }, B = 'plain', X-Api-Key = 's3cret' }",
    );
    folder.write("token", "s3cret-token\r\n");
    let flags = Flags { config: folder.file().to_str().map(ToOwned::to_owned), ..Flags::default() };
    let config = config(flags, &[("API1_CLIENT_KEYS", "s3cret-key"), ("API1_STORE", "memory:")]).unwrap();
    assert_eq!(config.destinations.by_name["a"].headers[0].1, "s3cret-token");
    let printed = config.to_string();
    for line in [
        "API1_LISTEN = 127.0.0.1:8080",
        "API1_STORE = memory:",
        "API1_CLIENT_KEYS = ***",
        "API1_MAX_BODY = 1MiB",
        "default = \"a\"",
        r#"headers = { "A" = "***", "B" = "plain", "X-Api-Key" = "***" }"#,
        r#"retry = { base = "2s", factor = 2.0, max_delay = "5m", jitter = "none" }"#,
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line} in\n{printed}");
    }
    assert!(!printed.contains("s3cret") && !format!("{config:?}").contains("s3cret"), "{printed}");
}
