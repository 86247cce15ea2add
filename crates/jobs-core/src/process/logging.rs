//! Log lines for people (`LOG_FORMAT=text`) or machines (`json`): one line a record, with its key-values.
//!
//! Lines go to stderr through env_logger, filtered by `RUST_LOG`. Text shows the program where other formats show the module,
//! because several programs often share one terminal; JSON has both.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use log::Record;
use log::kv::{Error, Key, Value, VisitSource, VisitValue};

use super::clock;
use super::settings::Settings;
use crate::time::Timestamp;

/// What is logged unless `RUST_LOG` says otherwise: our own news, and only the troubles of libraries that greet on start.
/// actix_http only ever complains about one client's connection, and clients can cause that as often as they like.
const DEFAULT_FILTER: &str = "info,actix_server=warn,actix_web=warn,actix_http=off,mio=warn";

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// What to log and how: see [`LogSettings::read`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    format: LogFormat,
    filter: String,
}

impl LogSettings {
    /// Reads `LOG_FORMAT` (`text`, the default, or `json`) and `RUST_LOG`; mistakes become problems of `settings`.
    pub fn read(settings: &mut Settings) -> Self {
        let format = match settings.text("", "LOG_FORMAT", None, "text").as_str() {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            other => {
                settings.problem("", "LOG_FORMAT", &format!("{other:?} is neither text nor json"));
                LogFormat::Text
            }
        };
        let filter = settings.text("", "RUST_LOG", None, DEFAULT_FILTER);
        if let Some(level) = bad_level(&filter) {
            settings.problem("", "RUST_LOG", &format!("{level:?} is not off, error, warn, info, debug or trace"));
        }
        LogSettings { format, filter }
    }
}

/// Starts logging, and logs every panic as an error. `program` is the name in each line. Only the first call counts.
pub fn init(program: &'static str, settings: &LogSettings) {
    let format = settings.format;
    let started = env_logger::Builder::new()
        .parse_filters(&settings.filter)
        .format(move |out, record| writeln!(out, "{}", line(format, clock::wall(), program, record)))
        .try_init();
    if started.is_err() {
        return; // a test started logging before
    }
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        let thread = std::thread::current();
        let backtrace = std::backtrace::Backtrace::capture();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let reason = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let reason = reason.unwrap_or("no message");
        log::error!(location = location.as_str(), thread = thread.name().unwrap_or("unnamed"); "panic: {reason}");
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            eprintln!("{backtrace}");
        }
    }));
}

/// The first level in `filter` (`level,target=level,…/regex`) that does not exist. A bare word may also name a target.
fn bad_level(filter: &str) -> Option<&str> {
    let directives = filter.split('/').next().unwrap_or_default();
    let mut levels = directives.split(',').filter_map(|directive| Some(directive.split_once('=')?.1.trim()));
    levels.find(|level| level.parse::<log::LevelFilter>().is_err())
}

fn line(format: LogFormat, at: Timestamp, program: &str, record: &Record<'_>) -> String {
    let mut out = String::with_capacity(256);
    match format {
        LogFormat::Text => text_line(&mut out, at, program, record),
        LogFormat::Json => json_line(&mut out, at, program, record),
    }
    .expect("writing to a String never fails");
    out
}

fn text_line(out: &mut String, at: Timestamp, program: &str, record: &Record<'_>) -> fmt::Result {
    write!(out, "{at} {:<5} {program} ", record.level())?;
    for c in record.args().to_string().chars() {
        // One record is one line, whatever a remote party put into it.
        if c.is_control() { write!(out, "{}", c.escape_default())? } else { out.push(c) }
    }
    record.key_values().visit(&mut TextFields(out)).map_err(|_| fmt::Error)
}

fn json_line(out: &mut String, at: Timestamp, program: &str, record: &Record<'_>) -> fmt::Result {
    let message = serde_json::Value::from(record.args().to_string());
    let target = serde_json::Value::from(record.target());
    write!(
        out,
        r#"{{"ts":"{at}","level":"{}","program":"{program}","target":{target},"message":{message}"#,
        record.level()
    )?;
    record.key_values().visit(&mut JsonFields(out)).map_err(|_| fmt::Error)?;
    out.push('}');
    Ok(())
}

struct TextFields<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for TextFields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let mut absent = IsNull(false);
        value.visit(&mut absent)?;
        if absent.0 {
            return Ok(());
        }
        let text = value.to_string();
        let plain =
            !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"' || c == '=');
        if plain {
            write!(self.0, " {key}={text}")?
        } else {
            write!(self.0, " {key}={text:?}")?
        }
        Ok(())
    }
}

/// Whether a value is none: a person misses nothing where it is not written.
struct IsNull(bool);

impl<'v> VisitValue<'v> for &mut IsNull {
    fn visit_any(&mut self, _: Value<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), Error> {
        self.0 = true;
        Ok(())
    }
}

struct JsonFields<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for JsonFields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        // A field must not hide one of the line's own.
        let ours = ["ts", "level", "program", "target", "message"].contains(&key.as_str());
        let name = if ours { format!("field_{key}") } else { key.to_string() };
        let mut json = JsonValue(serde_json::Value::Null);
        value.visit(&mut json)?;
        write!(self.0, ",{}:{}", serde_json::Value::from(name), json.0)?;
        Ok(())
    }
}

/// Keeps numbers and booleans what they are; all else becomes text.
struct JsonValue(serde_json::Value);

impl<'v> VisitValue<'v> for &mut JsonValue {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), Error> {
        self.0 = value.to_string().into();
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), Error> {
        self.0 = serde_json::Value::Null;
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), Error> {
        self.0 = value.into();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::Level;
    use log::kv::ToValue;

    const AT: Timestamp = Timestamp::from_millis(1_700_000_000_007);

    fn logged(format: LogFormat, message: &str, fields: &[(&str, Value<'_>)]) -> String {
        let fields: Vec<_> = fields.iter().map(|(key, value)| (*key, value.clone())).collect();
        let mut record = Record::builder();
        record.level(Level::Info).target("retry_worker::claim").key_values(&fields);
        line(format, AT, "retry-worker", &record.args(format_args!("{message}")).build())
    }

    #[test]
    fn a_text_line_has_the_message_then_its_fields() {
        let line = logged(
            LogFormat::Text,
            "retry scheduled",
            &[("job", "j-1".into()), ("delay_ms", 2000.into()), ("error", "timed out".into())],
        );
        assert_eq!(
            line,
            r#"2023-11-14T22:13:20.007Z INFO  retry-worker retry scheduled job=j-1 delay_ms=2000 error="timed out""#
        );
    }

    #[test]
    fn a_text_line_leaves_out_what_is_not_there() {
        let error: Option<&str> = None;
        let line = logged(LogFormat::Text, "job dead", &[("error", error.to_value()), ("status", Some(7).to_value())]);
        assert!(line.ends_with("job dead status=7"), "{line}");
    }

    #[test]
    fn a_json_line_keeps_numbers_as_numbers_and_its_own_names() {
        let fields = [
            ("job", Value::from("j\"1")),
            ("delay_ms", 2000.into()),
            ("rate", 0.5.into()),
            ("charged", false.into()),
            ("level", 7.into()),
        ];
        let line = logged(LogFormat::Json, "retry \"scheduled\"", &fields);
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({
            "ts": "2023-11-14T22:13:20.007Z", "level": "INFO", "program": "retry-worker", "target": "retry_worker::claim",
            "message": "retry \"scheduled\"", "job": "j\"1", "delay_ms": 2000, "rate": 0.5, "charged": false, "field_level": 7,
        });
        assert_eq!(parsed, expected);
    }

    #[test]
    fn a_record_stays_one_line_whatever_is_in_it() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let line = logged(format, "two\nlines", &[("error", "more\r\nlines".into())]);
            assert!(!line.contains(['\n', '\r']), "{line}");
        }
    }

    #[test]
    fn a_misspelt_level_is_found() {
        assert_eq!(bad_level("info,actix_server=warn,retry_worker=DEBUG"), None);
        assert_eq!(bad_level(DEFAULT_FILTER), None);
        assert_eq!(bad_level("retry_worker=verbose"), Some("verbose"));
        assert_eq!(bad_level("info/a=b"), None);
    }
}
