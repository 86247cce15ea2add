use super::*;
use std::net::SocketAddr;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

fn with(environment: &[(&str, &str)]) -> Settings {
    Settings::new("API1_", environment.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))))
}

fn given(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// A file that goes when the test ends.
struct TempFile(String);

impl TempFile {
    fn new(name: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("holdfast-settings-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        TempFile(path.to_str().unwrap().to_owned())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // Left behind if it cannot be removed: the system clears its temporary folder.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_flag_wins_over_the_variable_and_the_variable_over_the_default() {
    let mut settings = with(&[("API1_LISTEN", "127.0.0.1:2")]);
    assert_eq!(settings.parsed("--listen", "API1_LISTEN", given("127.0.0.1:1"), LOOPBACK).port(), 1);
    assert_eq!(settings.parsed("--listen", "API1_LISTEN", None, LOOPBACK).port(), 2);
    assert_eq!(settings.parsed("--other", "API1_OTHER", None, LOOPBACK).port(), 8080);
    assert_eq!(settings.optional::<u16>("--max", "API1_MAX", None), None);
    assert!(settings.finish().is_ok());
}

#[test]
fn every_bad_setting_is_reported_at_once() {
    let mut settings = with(&[("API1_LISTEN", "xyz"), ("API1_GRACE", "30")]);
    settings.parsed("--listen", "API1_LISTEN", None, LOOPBACK);
    settings.duration("--grace", "API1_GRACE", None, Duration::from_secs(1));
    settings.problem("--store", "API1_STORE", "no such folder");
    let report = settings.finish().unwrap_err().to_string();
    let lines: Vec<&str> = report.lines().map(str::trim).collect();
    assert_eq!(lines.len(), 4, "{report}");
    assert_eq!(lines[1], r#"--listen / API1_LISTEN: "xyz": invalid socket address syntax"#);
    assert_eq!(lines[2], r#"--grace / API1_GRACE: "30": not a duration such as 250ms, 30s, 1h 30m or 7d"#);
    assert_eq!(lines[3], "--store / API1_STORE: no such folder");
}

#[test]
fn a_variable_of_ours_that_nobody_asked_for_is_a_mistake() {
    let mut settings = with(&[
        ("API1_LISTNE", "127.0.0.1:1"),
        ("API1_GATEWAY_SERVICE_HOST", "10.0.0.1"),
        ("API1_GATEWAY_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("PATH", "/bin"),
    ]);
    settings.text("--store", "API1_STORE", None, "memory:");
    settings.parsed("--listen", "API1_LISTEN", None, LOOPBACK);
    let report = settings.finish().unwrap_err();
    assert_eq!(report, BadSettings(vec!["API1_LISTNE: no such setting; did you mean API1_LISTEN".to_owned()]));
}

#[test]
fn a_secret_may_come_from_a_file_and_is_never_shown() {
    let file = TempFile::new("secret", "s3cret\n");
    let mut settings = with(&[("API1_TOKEN_FILE", &file.0), ("API1_CLIENT_KEYS", "one, two,")]);
    assert_eq!(settings.secret("API1_TOKEN"), Some(Secret::new("s3cret".to_owned())));
    let keys = settings.secret_list("API1_CLIENT_KEYS");
    assert_eq!(keys.iter().map(Secret::expose).collect::<Vec<_>>(), ["one", "two"]);
    assert!(settings.secret_list("API1_OPERATOR_KEYS").is_empty());
    let shown = settings.finish().unwrap().to_string();
    assert_eq!(shown, "API1_TOKEN = ***\nAPI1_CLIENT_KEYS = ***,***\nAPI1_OPERATOR_KEYS =\n");
}

#[test]
fn a_variable_and_its_file_twin_together_or_an_unreadable_or_empty_file_are_mistakes() {
    let empty = TempFile::new("empty", "\n");
    let mut settings = with(&[
        ("API1_A", "x"),
        ("API1_A_FILE", &empty.0),
        ("API1_B_FILE", "/nowhere/at/all"),
        ("API1_C_FILE", &empty.0),
    ]);
    assert_eq!(settings.secret("API1_A"), None);
    assert_eq!(settings.secret("API1_B"), None);
    assert_eq!(settings.secret("API1_C"), None);
    let report = settings.finish().unwrap_err().to_string();
    for part in ["API1_A: set API1_A or API1_A_FILE, not both", "API1_B_FILE: cannot read", "API1_C_FILE: ", "is empty"]
    {
        assert!(report.contains(part), "{part} in {report}");
    }
}

#[test]
fn a_list_is_the_flag_repeated_or_the_variable_split_at_commas() {
    let mut settings = with(&[("API1_DESTINATIONS", "a=http://x, b=http://y,")]);
    let read = |settings: &mut Settings, given: &[&str]| {
        settings.list("--destination", "API1_DESTINATIONS", given.iter().map(ToString::to_string).collect(), &["d"])
    };
    assert_eq!(read(&mut settings, &[]), ["a=http://x", "b=http://y"]);
    assert_eq!(read(&mut settings, &["c=http://z,w"]), ["c=http://z,w"]);
    assert_eq!(read(&mut with(&[]), &[]), ["d"]);
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let mut settings = with(&[("API1_LISTEN", "")]);
    assert_eq!(settings.parsed("--listen", "API1_LISTEN", None, LOOPBACK), LOOPBACK);
    assert!(settings.finish().is_ok());
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf_8_is_a_mistake() {
    use std::os::unix::ffi::OsStringExt;
    let mut settings = Settings::new("API1_", [("API1_STORE".to_owned(), OsString::from_vec(vec![0xff]))]);
    assert_eq!(settings.text("--store", "API1_STORE", None, "memory:"), "memory:");
    assert_eq!(settings.finish().unwrap_err(), BadSettings(vec!["API1_STORE: is not UTF-8".to_owned()]));
}
